package ui

import "time"

// DeletedPage ("deleted"): GET /deleted?person=&since=&until=&room= counts; POST /deleted {client_id, person, since, until, room} brings back.
type DeletedPage struct {
	Chrome
	People       []Person
	Where        []Room // in which I may bring back
	Person, Room int64  // as asked for; Room 0: all
	Since, Until time.Time
	Counted      bool
	Found        []Found
	ClientID     string
}

// Found is how many messages can come back in a room.
type Found struct {
	Room     int64
	Name     string
	Messages int
}

// Sum is how many there are.
func (p DeletedPage) Sum() (n int) {
	for _, f := range p.Found {
		n += f.Messages
	}
	return n
}

// Local is a moment as an input of type datetime-local has it.
func (p DeletedPage) Local(at time.Time) string {
	if at.IsZero() {
		return ""
	}
	return at.In(p.zone()).Format("2006-01-02T15:04:05")
}

// RFCOf is a moment as forms send it on; "" for none.
func (p DeletedPage) RFCOf(at time.Time) string { return moment(at) }

// Who is the name of the person asked for.
func (p DeletedPage) Who() string {
	for _, one := range p.People {
		if one.ID == p.Person {
			return one.Name
		}
	}
	return ""
}

// Side is the sidebar of the page.
func (p DeletedPage) Side() sidebar { return p.sidebar("deleted", 0) }
