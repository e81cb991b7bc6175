package ui

import (
	"fmt"

	"howdah/internal/fault"
)

// wayForm is a way back as its message shows it; way.js fills in the same.
type wayForm struct {
	Way
	Action           string
	Said             said
	Replace, Changed []string // what would be lost
}

func (p RoomPage) way(m Message) *wayForm {
	f := &wayForm{Way: *m.Way, Action: fmt.Sprintf("/room/%d/messages/%d/back", p.Room.ID, m.Seq)}
	if f.By != "" {
		wish := f.Mode
		switch f.State {
		case "undo", "undoing", "undone":
			wish = "undo"
		}
		if wish == "" {
			wish = "plan"
		}
		f.Said = said{p.Locale.T("web.js.way.said."+wish, fault.Args{"name": f.By}), p.RFC(f.At), p.Moment(f.At)}
	}
	for _, t := range f.Tables {
		args := fault.Args{"table": t.Name, "newer": t.Newer, "altered": t.Altered}
		key := "web.js.way.back"
		if t.There {
			key = "web.js.way.loses"
		}
		f.Replace = append(f.Replace, p.Locale.T(key, args))
		if t.Altered > 0 {
			f.Changed = append(f.Changed, p.Locale.T("web.js.way.overwrites", args))
		}
	}
	return f
}
