package bench

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"howdah/internal/pg"
)

// crowd are people who exist for the bench only: each with an access token and without a password that anybody knows.
type crowd struct {
	db     *pg.Pool
	run    string // in every name: runs do not meet
	people []int64
	tokens []string
	rooms  []int64
	others []int64 // people who came with a room that was filled
}

func newCrowd(_ context.Context, db *pg.Pool) (*crowd, error) {
	return &crowd{db: db, run: strings.ToLower(rand.Text()[:8])}, nil
}

// noPassword is a password's hash in its proper form whose password is known to nobody (see package account).
func noPassword() string {
	return "$argon2id$v=19$m=19456,t=2,p=1$" + rand.Text()[:22] + "$" + (rand.Text() + rand.Text())[:43]
}

// need lets the crowd grow to n people.
func (c *crowd) need(ctx context.Context, n int) error {
	have := len(c.people)
	if n <= have {
		return nil
	}
	var handles, tokens []string
	for i := have; i < n; i++ {
		handles = append(handles, fmt.Sprintf("bench-%s-%06d", c.run, i))
		tokens = append(tokens, "hwd_"+strings.ToLower(rand.Text()))
	}
	return c.db.InTx(ctx, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, `
			INSERT INTO account.person (handle, name, role, password_hash)
			SELECT h, 'Bench ' || h, 'member', $2 FROM unnest($1::text[]) h RETURNING id`, handles, noPassword())
		if err != nil {
			return err
		}
		people, err := pgx.CollectRows(rows, pgx.RowTo[int64])
		if err != nil {
			return err
		}
		_, err = tx.CopyFrom(ctx, pgx.Identifier{"account", "token"}, []string{"person_id", "name", "token_hash", "seen_at"},
			pgx.CopyFromSlice(len(people), func(i int) ([]any, error) {
				sum := sha256.Sum256([]byte(tokens[i]))
				return []any{people[i], "bench", sum[:], time.Now()}, nil
			}))
		if err == nil {
			c.people, c.tokens = append(c.people[:have:have], people...), append(c.tokens[:have:have], tokens...)
		}
		return err
	})
}

// room makes a private room of people[from:to], with a log as if each had come in.
func (c *crowd) room(ctx context.Context, from, to int) (id int64, err error) {
	members := c.people[from:to]
	err = c.db.InTx(ctx, func(tx pgx.Tx) error {
		err := tx.QueryRow(ctx, `
			INSERT INTO chat.room (kind, name, created_by, client_id, seq) VALUES ('private', $1, $2, gen_random_uuid(), $3) RETURNING id`,
			fmt.Sprintf("bench %s %d", c.run, len(c.rooms)), members[0], len(members)).Scan(&id)
		if err != nil {
			return err
		}
		if _, err = tx.Exec(ctx, `
			INSERT INTO chat.change (room_id, seq, at, actor_id, kind, person_id)
			SELECT $1, n, now(), p, 'join', p FROM unnest($2::bigint[]) WITH ORDINALITY AS m (p, n)`, id, members); err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `
			INSERT INTO chat.member (room_id, person_id, role, read_seq)
			SELECT $1, p, CASE n WHEN 1 THEN 'owner' ELSE 'member' END, $3 FROM unnest($2::bigint[]) WITH ORDINALITY AS m (p, n)`, id, members, len(members))
		return err
	})
	if err == nil {
		c.rooms = append(c.rooms, id)
	}
	return id, err
}

// join lets one of the people into a room of others.
func (c *crowd) join(ctx context.Context, room, person int64) error {
	_, err := c.db.Exec(ctx, `
		WITH room AS (UPDATE chat.room SET seq = seq + 1 WHERE id = $1 RETURNING id, seq),
		     member AS (INSERT INTO chat.member (room_id, person_id, role, read_seq) SELECT id, $2, 'member', seq FROM room)
		INSERT INTO chat.change (room_id, seq, at, actor_id, kind, person_id) SELECT id, seq, now(), $2, 'join', $2 FROM room`, room, person)
	return pg.Fault(err)
}

// leave takes the crowd and its rooms out of a house that is somebody's.
func (c *crowd) leave(ctx context.Context) error {
	return c.db.InTx(ctx, func(tx pgx.Tx) error {
		for _, table := range []string{"mention", "change", "message", "member"} {
			if _, err := tx.Exec(ctx, `DELETE FROM chat.`+table+` WHERE room_id = ANY($1)`, c.rooms); err != nil {
				return err
			}
		}
		if _, err := tx.Exec(ctx, `DELETE FROM chat.room WHERE id = ANY($1)`, c.rooms); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, `DELETE FROM account.person WHERE id = ANY($1)`, append(c.others, c.people...)) // takes their tokens too
		return err
	})
}
