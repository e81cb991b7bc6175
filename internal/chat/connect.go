package chat

import (
	"context"

	"github.com/jackc/pgx/v5"

	"howdah/internal/account"
)

// Seats lets bots into a room and out of it, in the transaction that connects the room with something.
type Seats struct {
	Enter func(bot account.Person) error // as a guest; who is in it already stays as they are
	Exit  func(bot int64) error          // who is not in it is no error
}

// CanConnect tells whether me may connect a room with programs: see May.
func (r *Rooms) CanConnect(ctx context.Context, me account.Person, room int64) error {
	return r.may(ctx, r.db, Connect, me, room)
}

// Connect runs work in a transaction that holds the room's lock, if me may connect it with programs.
func (r *Rooms) Connect(ctx context.Context, me account.Person, room int64, work func(tx pgx.Tx, seats Seats) error) error {
	return r.settle(ctx, me, room, nil, func(tx pgx.Tx, s Standing) error {
		if err := s.require(Connect); err != nil {
			return err
		}
		in := func(id int64) (role account.Role, err error) {
			them, err := stand(ctx, tx, account.Person{ID: id}, room, false)
			return them.Room, err
		}
		return work(tx, Seats{
			Enter: func(bot account.Person) error {
				if role, err := in(bot.ID); err != nil || role != account.None {
					return err
				}
				return enter(ctx, tx, room, author(me), author(bot), account.Guest)
			},
			Exit: func(bot int64) error {
				if role, err := in(bot); err != nil || role == account.None {
					return err
				}
				return exit(ctx, tx, room, author(me), bot)
			},
		})
	})
}

// IDOf is a client id that follows from words: the same words again are the same post again.
func IDOf(words ...string) string { return idOf(words...) }
