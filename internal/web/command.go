package web

import (
	"howdah/internal/chat"
	"howdah/internal/fault"
)

// speaker is who asks, as a command is given by them.
func speaker(v *visit) chat.Speaker {
	return chat.Speaker{Person: v.me(), Zone: zone(v.r), T: func(key string, args ...fault.Args) string { return v.lang.T(key, args...) }}
}

func (d *Door) apiCommand(v *visit) (any, error) {
	room, err := v.number("room")
	if err != nil {
		return nil, err
	}
	var in struct {
		ClientID string `json:"client_id"`
		Line     string
	}
	if err := v.body(&in); err != nil {
		return nil, err
	}
	told, err := d.rooms.Command(v.ctx(), speaker(v), room, in.Line, in.ClientID)
	return object{"message": told.Text, "left": told.Left}, err
}

func (d *Door) apiReminders(v *visit) (any, error) {
	list, err := d.rooms.Reminders(v.ctx(), v.me())
	out := make([]object, len(list))
	for i, one := range list {
		out[i] = object{"id": one.ID, "at": one.At.UTC(), "about": one.About}
	}
	return object{"reminders": out}, err
}
