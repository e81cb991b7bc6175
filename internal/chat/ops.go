package chat

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"fmt"

	"github.com/jackc/pgx/v5"

	"howdah/internal/account"
	"howdah/internal/pg"
)

// OpsIn makes the room in which the house speaks to those who run it, in somebody else's transaction, or finds it and brings its members to who should be
// there: the owners and admins of the house, whom nobody invites or removes. What the room is called is kept from the first time. moved are who came or went.
func OpsIn(ctx context.Context, tx pgx.Tx, topic string) (room int64, house account.Person, moved []int64, err error) {
	if house, err = account.HouseIn(ctx, tx); err != nil {
		return 0, house, nil, err
	}
	type row struct{ ID int64 }
	if _, err := tx.Exec(ctx, `INSERT INTO chat.room (kind, name, topic, created_by, client_id) VALUES ('ops', 'ops', $1, $2, gen_random_uuid())
		ON CONFLICT (kind) WHERE kind = 'ops' DO NOTHING`, topic, house.ID); err != nil {
		return 0, house, nil, pg.Fault(err)
	}
	found, _, err := pg.One[row](ctx, tx, `SELECT id FROM chat.room WHERE kind = 'ops' FOR NO KEY UPDATE`)
	if err != nil {
		return 0, house, nil, err
	}
	type seat struct {
		Author
		Due bool // in the room, or not in it
	}
	// Its own statement: it sees all that was committed before the lock was ours.
	seats, err := pg.All[seat](ctx, tx, `
		SELECT p.id, p.handle, p.name, p.house OR p.role IN ('owner', 'admin') AND p.disabled_at IS NULL
		FROM account.person p LEFT JOIN chat.member m ON m.room_id = $1 AND m.person_id = p.id
		WHERE (m.person_id IS NOT NULL) <> (p.house OR p.role IN ('owner', 'admin') AND p.disabled_at IS NULL)
		ORDER BY p.house DESC, p.id`, found.ID)
	for _, s := range seats {
		if err != nil {
			break
		}
		moved = append(moved, s.ID)
		if s.Due {
			err = enter(ctx, tx, found.ID, author(house), s.Author, account.Member)
		} else {
			err = exit(ctx, tx, found.ID, author(house), s.ID)
		}
	}
	return found.ID, house, moved, err
}

// SettleOps is OpsIn for a house that is set up; one that is not yet has no such room, and 0 is the answer.
func (r *Rooms) SettleOps(ctx context.Context, topic string) (room int64, house account.Person, err error) {
	var moved []int64
	err = r.db.InTx(ctx, func(tx pgx.Tx) error {
		var owned bool
		if err := tx.QueryRow(ctx, `SELECT EXISTS (SELECT FROM account.person WHERE role = 'owner')`).Scan(&owned); err != nil || !owned {
			return err
		}
		room, house, moved, err = OpsIn(ctx, tx, topic)
		return err
	})
	r.suspect(err)
	if err == nil && moved != nil {
		r.live.tick(room)
		for _, person := range moved {
			r.live.tickPerson(person)
		}
	}
	return room, house, err
}

// Announce says something to those who run the house. The same key again gives what was said under it these words instead, as something that grows is told in
// one place; the same words again are success. A house that is not set up has nobody to hear it: then heard is false.
func (r *Rooms) Announce(ctx context.Context, topic, key, text string) (heard bool, err error) {
	heard, _, err = r.announce(ctx, topic, key, text, nil)
	return heard, err
}

// NewID is a client id as clients make them, for what the house does itself and for those who speak to it from a terminal: a random UUID (RFC 9562, version 4).
func NewID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand documentation)
	return uuid(b, 4)
}

// IDFrom is a client id that follows from words, for who brings the same again and again.
func IDFrom(words ...string) string { return idOf(words...) }

// idOf is a client id that follows from words: who announces something again after a crash does not say it twice.
func idOf(words ...string) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%q", words))
	return uuid([16]byte(sum[:16]), 8) // its own way (RFC 9562, section 5.8)
}

func uuid(b [16]byte, version byte) string {
	b[6], b[8] = b[6]&0x0f|version<<4, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
