package account

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"howdah/internal/pg"
)

// HouseIn finds, or makes, the person as whom the house itself speaks. It is nobody's account: it is disabled, has no password, and is in no list of people.
func HouseIn(ctx context.Context, tx pgx.Tx) (Person, error) {
	const find = `SELECT ` + personColumns + ` FROM account.person p WHERE p.house`
	house, found, err := pg.One[Person](ctx, tx, find)
	for n := 0; err == nil && !found; n++ {
		handle := "howdah"
		if n > 0 { // somebody was called that before the house was
			handle = fmt.Sprint("howdah.", n)
		}
		if house, found, err = pg.One[Person](ctx, tx, `
			INSERT INTO account.person AS p (handle, name, role, password_hash, disabled_at, house)
			VALUES ($1, 'Howdah', 'member', $2, now(), true) ON CONFLICT DO NOTHING RETURNING `+personColumns, handle, nobody); err == nil && !found {
			house, found, err = pg.One[Person](ctx, tx, find)
		}
	}
	return house, err
}
