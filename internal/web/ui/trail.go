package ui

import (
	"net/url"
	"strconv"
	"time"
)

// TrailPage ("deeds"): GET /trail?action=&by=&since=&until=&person=&room=&before=.
type TrailPage struct {
	Chrome
	Filter  TrailFilter
	Actions []string
	Entries []TrailRow // newest first
	Older   string     // where those before are; "": there are none
	Export  string     // the same for a spreadsheet
}

// TrailFilter is what is asked for, as it was typed.
type TrailFilter struct {
	Action, By, Since, Until string
	Person, Room             int64
}

// Query is the filter as an address has it; before is a cursor, 0: from the newest.
func (f TrailFilter) Query(before int64) url.Values {
	q := url.Values{}
	for name, value := range map[string]string{"action": f.Action, "by": f.By, "since": f.Since, "until": f.Until} {
		if value != "" {
			q.Set(name, value)
		}
	}
	for name, id := range map[string]int64{"person": f.Person, "room": f.Room, "before": before} {
		if id != 0 {
			q.Set(name, strconv.FormatInt(id, 10))
		}
	}
	return q
}

// TrailRow is what somebody did.
type TrailRow struct {
	ID      int64
	At      time.Time
	Actor   string // handle; "": somebody at the machine itself
	Name    string
	Via     string
	Address string
	Action  string
	Subject string
	Facts   []Fact
}

// Fact is something of what was changed.
type Fact struct{ Name, Before, After string }

// Side is the sidebar.
func (p TrailPage) Side() sidebar { return p.sidebar("trail", 0) }
