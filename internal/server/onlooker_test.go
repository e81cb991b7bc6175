package server

import (
	"testing"

	"howdah/internal/account"
	"howdah/internal/chat"
	"howdah/internal/pg"
)

// onlooker is the owner of a house, who sees in its room #ops what the watch says there.
type onlooker struct {
	account.Person
	rooms *chat.Rooms
	t     *testing.T
}

// newOnlooker gives s the rooms of a database, and an owner in it. It may be called again: s is with another database then.
func newOnlooker(t *testing.T, s *Server, app, steady *pg.Pool) *onlooker {
	t.Helper()
	o := &onlooker{account.Person{Handle: "olive", Name: "Olive", Role: account.Owner}, chat.Open(t.Context(), app, steady, nil), t}
	t.Cleanup(o.rooms.Close)
	if err := app.QueryRow(t.Context(), `INSERT INTO account.person (handle, name, role, password_hash) VALUES ('olive', 'Olive', 'owner', 'x') RETURNING id`).Scan(&o.ID); err != nil {
		t.Fatal(err)
	}
	s.pools = []*pg.Pool{app}
	s.rooms.Store(o.rooms)
	return o
}

// sees is all that stands in #ops; none and no room where nothing has been said yet.
func (o *onlooker) sees() (room int64, messages []chat.Message) {
	o.t.Helper()
	mine, err := o.rooms.Mine(o.t.Context(), o.Person)
	if err != nil || len(mine) > 1 {
		o.t.Fatal(mine, err)
	}
	if len(mine) == 0 {
		return 0, nil
	}
	page, err := o.rooms.History(o.t.Context(), o.Person, mine[0].ID, chat.Cursor{})
	if err != nil {
		o.t.Fatal(err)
	}
	return mine[0].ID, page.Messages
}

// alerts are those of them that tell of incidents.
func (o *onlooker) alerts() (room int64, found []chat.Message) {
	o.t.Helper()
	room, messages := o.sees()
	for _, m := range messages {
		if m.Alert != nil {
			found = append(found, m)
		}
	}
	return room, found
}
