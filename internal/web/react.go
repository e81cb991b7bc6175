package web

import (
	"howdah/internal/chat"
	"howdah/internal/web/ui"
)

// Reactions: what people put on a message.

type reactionJSON struct {
	Emoji  string       `json:"emoji"`
	Count  int          `json:"count"`
	People []personJSON `json:"people"`
}

// marksJSON is what was put on a message, without the message: an event about it goes to everybody in the room.
type marksJSON struct {
	Seq       int64          `json:"seq"` // of the message
	Reactions []reactionJSON `json:"reactions"`
}

func toReactions(list []chat.Reaction) []reactionJSON {
	out := make([]reactionJSON, len(list))
	for i, r := range list {
		out[i] = reactionJSON{r.Emoji, r.Count, make([]personJSON, len(r.People))}
		for j, p := range r.People {
			out[i].People[j] = toPerson(p)
		}
	}
	return out
}

func pageReactions(list []chat.Reaction) []ui.Reaction {
	var out []ui.Reaction
	for _, r := range list {
		one := ui.Reaction{Emoji: r.Emoji, Count: r.Count}
		for _, p := range r.People {
			one.People = append(one.People, pagePerson(p))
		}
		out = append(out, one)
	}
	return out
}

func (d *Door) apiReact(on bool) func(v *visit) (any, error) {
	return func(v *visit) (any, error) {
		room, seq, err := v.numbers("room", "seq")
		if err != nil {
			return nil, err
		}
		return receipt(d.rooms.React(v.ctx(), v.me(), room, seq, v.r.PathValue("emoji"), on, v.clientID()))
	}
}

// clientID is the one that the caller made, or a fresh one where it made none: for what is idempotent by nature.
func (v *visit) clientID() string {
	if id := v.r.URL.Query().Get("client_id"); id != "" {
		return id
	}
	return chat.NewID()
}

// roomReact is a reaction's button without scripts.
func (d *Door) roomReact(v *visit) error {
	seq, err := v.number("seq")
	if err != nil {
		return err
	}
	return d.inRoomAt("?at="+v.r.PathValue("seq")+"#m"+v.r.PathValue("seq"), func(v *visit, room int64) error {
		emoji, off := v.field("on"), v.field("off")
		_, err := d.rooms.React(v.ctx(), v.me(), room, seq, emoji+off, off == "", chat.NewID())
		return err
	})(v)
}
