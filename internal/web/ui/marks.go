package ui

import (
	"fmt"
	"strings"

	"howdah/internal/fault"
)

// marks are the reactions on a message as the template shows them; reactions.js shows the same.
type marks struct {
	Action string
	Chips  []chip
	Closed bool // I may only look
}

// chip is one emoji: a button that puts mine there or takes it away.
type chip struct {
	Emoji, Count string
	Mine         bool
	Who          string
}

func (p RoomPage) marks(m Message) *marks {
	out := &marks{Action: fmt.Sprintf("/room/%d/messages/%d/react", p.Room.ID, m.Seq), Closed: !p.May.Post}
	for _, r := range m.Reactions {
		c := chip{Emoji: r.Emoji, Count: fmt.Sprint(r.Count)}
		names := make([]string, len(r.People))
		for i, who := range r.People {
			names[i] = who.Name
			c.Mine = c.Mine || p.Me != nil && who.ID == p.Me.ID
		}
		list := strings.Join(names, p.Locale.T("web.js.comma"))
		if more := r.Count - len(names); more > 0 {
			list = p.Locale.T("web.js.react.more", fault.Args{"names": list, "n": more})
		}
		c.Who = p.Locale.T("web.js.react.who", fault.Args{"emoji": r.Emoji, "names": list})
		out.Chips = append(out.Chips, c)
	}
	return out
}
