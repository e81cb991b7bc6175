package chat

import (
	"context"

	"github.com/jackc/pgx/v5"

	"howdah/internal/account"
	"howdah/internal/pg"
)

// note writes on the house's trail what somebody did with a room, in the transaction that does it. What two people have between them is not on it, and of a private
// room no more than what it is called.
func note(ctx context.Context, tx pgx.Tx, by account.Person, what account.Action, room, person int64, before, after account.Facts) error {
	type row struct {
		Kind Kind
		Name string
		Who  string
	}
	found, ok, err := pg.One[row](ctx, tx, `SELECT r.kind, r.name, coalesce((SELECT handle FROM account.person WHERE id = $2), '') FROM chat.room r WHERE r.id = $1`, room, person)
	if err != nil || !ok || found.Kind == Direct {
		return err
	}
	if found.Kind == Private && before["topic"] != nil {
		delete(before, "topic")
		delete(after, "topic")
	}
	subject := "#" + found.Name
	if found.Who != "" {
		subject = "@" + found.Who
	}
	if person != 0 {
		if after == nil {
			after = account.Facts{}
		}
		after["room"] = "#" + found.Name
	}
	return account.Note(ctx, tx, by, account.Deed{Action: what, Person: person, Room: room, Subject: subject, Before: before, After: after})
}
