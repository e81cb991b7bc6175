package ui

import (
	"time"

	"howdah/internal/fault"
)

// RetentionPage ("retention"): for how long a room keeps what is said in it. GET /room/{room}/retention?rule=&days= shows what a rule would take, POST {rule, days} sets it: rule is house,
// ever or days. The same at /retention is for the house.
type RetentionPage struct {
	Chrome
	Room    Room // ID 0: the house
	Action  string
	May     bool // change it
	Days    int  // that hold; 0: for ever
	ByHouse bool // because the house has it so
	House   int
	From    time.Time // nothing goes before that
	Rule    string    // as asked for, or as it holds
	Typed   int
	Plan    *RetentionPlan
	Backups bool      // are made here
	Held    time.Time // what goes then is in none any more; zero: they are kept for ever
}

// RetentionPlan is what a rule would take.
type RetentionPlan struct {
	Days, Rooms, Messages, Files int
	Bytes                        int64
	From, Upto, Oldest           time.Time
}

// span is a number of days in words; 0: for ever.
func (p RetentionPage) span(days int) string {
	if days == 0 {
		return p.Locale.T("web.retention.ever")
	}
	return p.Locale.T("web.retention.days", fault.Args{"n": days})
}

// Holds says what holds.
func (p RetentionPage) Holds() string {
	text := p.Locale.T("web.retention.holds", fault.Args{"days": p.span(p.Days)})
	switch {
	case p.Days == 0:
	case p.From.After(p.now()):
		text = p.Locale.T("web.retention.begins", fault.Args{"holds": text, "from": p.Moment(p.From)})
	default:
		text = p.Locale.T("web.retention.began", fault.Args{"holds": text, "from": p.Moment(p.From)})
	}
	return text
}

// AsHouse is for how long rooms without a rule of their own keep what is said.
func (p RetentionPage) AsHouse() string { return p.span(p.House) }

// Goes says what the rule would take.
func (p RetentionPage) Goes() string {
	return p.Locale.T("web.retention.goes", fault.Args{"from": p.Moment(p.Plan.From), "upto": p.Moment(p.Plan.Upto), "size": weight(p.Plan.Bytes),
		"messages": p.Locale.T("web.retention.messages", fault.Args{"n": p.Plan.Messages, "count": count(p.Plan.Messages)}),
		"files":    p.Locale.T("web.retention.files", fault.Args{"n": p.Plan.Files, "count": count(p.Plan.Files)})})
}

// Copies says until when backups hold what goes first.
func (p RetentionPage) Copies() string {
	switch {
	case !p.Backups:
		return p.Locale.T("web.retention.backups.none")
	case p.Held.IsZero():
		return p.Locale.T("web.retention.backups.ever")
	}
	return p.Locale.T("web.retention.backups.until", fault.Args{"until": p.Moment(p.Held)})
}

// SetIt is what the button says.
func (p RetentionPage) SetIt() string {
	return p.Locale.T("web.retention.set", fault.Args{"days": p.span(p.Plan.Days)})
}

// Side is the sidebar.
func (p RetentionPage) Side() sidebar {
	if p.Room.ID == 0 {
		return p.sidebar("spaces", 0)
	}
	return p.sidebar("room", p.Room.ID)
}

func count(n int) string {
	text, _ := grouped(n) // it can be grouped
	return text
}
