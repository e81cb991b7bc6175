package web

import (
	"net/http"

	"howdah/internal/chat"
	"howdah/internal/fault"
)

// speaker is who asks, as a command is given by them.
func speaker(v *visit) chat.Speaker {
	return chat.Speaker{Person: v.me(), Zone: zone(v.r), T: func(key string, args ...fault.Args) string { return v.lang.T(key, args...) }}
}

// typed tells whether a person's page asks, and no program: those mean what they say.
func (v *visit) typed() bool { return v.session.TokenID == 0 }

// roomCommand does what a line says for who has no scripts, and shows in the room, beside the thread where they are in one, what came of it.
func (d *Door) roomCommand(v *visit, room, thread int64, line string) error {
	told, err := d.rooms.Command(v.ctx(), speaker(v), room, line, v.field("client_id"))
	if err == nil && told.Left {
		redirect(v, "/")
		return nil
	}
	p, fillErr := d.fillRoom(v, room, thread)
	if fillErr == nil && thread != 0 {
		fillErr = d.fillThread(v.ctx(), v.me(), &p, thread, 0)
	}
	if fillErr != nil {
		return fillErr
	}
	code := http.StatusOK
	p.Notice = told.Text
	if err != nil {
		p.Body, code = line, complaintStatus(err)
		if err := complain(&p.Chrome, err); err != nil {
			return err
		}
	}
	d.render(v.w, v.r, code, "room", p)
	return nil
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
