package chat

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"howdah/internal/account"
	"howdah/internal/fault"
	"howdah/internal/pg"
)

// change is a row of chat.change before it has a seq.
type change struct {
	kind    EventKind
	by      Author
	client  pgtype.UUID // invalid: the change is idempotent by nature
	message *int64
	person  *int64
	detail  map[string]any
}

// record gives a change the room's next seq. The caller holds the room's lock.
func record(ctx context.Context, tx pgx.Tx, room int64, c change) (seq int64, at time.Time, err error) {
	err = tx.QueryRow(ctx, `
		WITH room AS (UPDATE chat.room SET seq = seq + 1 WHERE id = $1 RETURNING seq)
		INSERT INTO chat.change (room_id, seq, at, actor_id, client_id, kind, message_seq, person_id, detail)
		SELECT $1, seq, clock_timestamp(), $2, $3, $4, $5, $6, $7 FROM room RETURNING seq, at`,
		room, c.by.ID, c.client, c.kind, c.message, c.person, c.detail).Scan(&seq, &at)
	return seq, at, pg.Fault(err)
}

func author(p account.Person) Author { return Author{p.ID, p.Handle, p.Name, p.Bot} }

// Edit gives a post of one's own new words. A retry with the same client id changes nothing more.
func (r *Rooms) Edit(ctx context.Context, me account.Person, d Draft, seq int64) (Receipt, error) {
	body, bad := cleanBody(d.Body)
	if bad != nil && !fault.HasKey(bad, "chat.empty") {
		return Receipt{}, bad
	}
	if d.Typed && IsCommand(body) {
		return Receipt{}, fault.New(fault.Invalid, "chat.is_command")
	}
	defer r.nudgeLinks()
	return r.alter(ctx, me, d.Room, seq, d.ClientID, Edited, func(ctx context.Context, tx pgx.Tx, s Standing, m stored) (map[string]any, error) {
		if bad != nil && !m.Files { // a message with files need not say anything
			return nil, bad
		}
		if m.AuthorID != me.ID {
			return nil, fault.New(fault.Forbidden, "chat.not_author")
		}
		if err := s.require(Post); err != nil {
			return nil, err
		}
		if m.DeletedAt != nil {
			return nil, fault.New(fault.Conflict, "chat.deleted")
		}
		p := &post{postKey: postKey{room: d.Room}, calls: candidates(body), callsAll: d.MayCallAll || me.Role.AtLeast(account.Member)}
		old := &post{postKey: p.postKey, calls: candidates(m.Body), callsAll: p.callsAll}
		if err := r.resolve(ctx, tx, []*post{p, old}); err != nil {
			return nil, err
		}
		if p.here && old.here { // those who were here then stay called, and nobody else is
			type row struct{ ID int64 }
			were, err := pg.All[row](ctx, tx, `SELECT person_id FROM chat.mention WHERE room_id = $1 AND seq = $2 AND person_id <> ALL($3)`, d.Room, seq, append([]int64{0}, old.called...))
			if err != nil {
				return nil, err
			}
			for _, one := range were {
				p.called = append(p.called, one.ID)
			}
		} else if err := r.callHere(ctx, tx, []*post{p}); err != nil {
			return nil, err
		}
		var handles []string
		people := append([]int64{}, p.called...)
		for _, n := range p.mentions {
			handles = append(handles, n.handle)
		}
		if _, err := tx.Exec(ctx, `UPDATE chat.message SET body = $3, mentions = $4, edited_at = clock_timestamp() WHERE room_id = $1 AND seq = $2`,
			d.Room, seq, body, handles); err != nil {
			return nil, err
		}
		if _, err := tx.Exec(ctx, `DELETE FROM chat.mention WHERE room_id = $1 AND seq = $2 AND person_id <> ALL($3)`, d.Room, seq, people); err != nil {
			return nil, err
		}
		if _, err := tx.Exec(ctx, `INSERT INTO chat.mention (room_id, person_id, seq) SELECT $1, c.id, $2 FROM unnest($3::bigint[]) AS c (id)
			WHERE c.id = 0 OR EXISTS (SELECT FROM chat.member WHERE room_id = $1 AND person_id = c.id) ON CONFLICT DO NOTHING`,
			d.Room, seq, people); err != nil {
			return nil, err
		}
		if _, err := tx.Exec(ctx, `INSERT INTO chat.follow (room_id, thread, person_id, read_seq) SELECT x.room_id, x.thread, n.person_id, x.seq - 1
			FROM chat.message x JOIN chat.mention n ON n.room_id = x.room_id AND n.seq = x.seq AND n.person_id <> 0
			WHERE x.room_id = $1 AND x.seq = $2 AND x.thread IS NOT NULL ON CONFLICT DO NOTHING`, d.Room, seq); err != nil {
			return nil, err
		}
		return map[string]any{"before": m.Body}, nil
	})
}

// Delete takes a post out of sight: one's own, or as a moderator. Deleting what is deleted is success.
func (r *Rooms) Delete(ctx context.Context, me account.Person, room, seq int64, client string) (Receipt, error) {
	return r.alter(ctx, me, room, seq, client, Deleted, func(ctx context.Context, tx pgx.Tx, s Standing, m stored) (map[string]any, error) {
		if m.AuthorID != me.ID || s.Room == account.None {
			if err := s.require(Moderate); err != nil {
				return nil, err
			}
		}
		if m.DeletedAt != nil {
			return nil, nil
		}
		_, err := tx.Exec(ctx, `UPDATE chat.message SET deleted_at = clock_timestamp() WHERE room_id = $1 AND seq = $2`, room, seq)
		return map[string]any{}, err
	})
}

type stored struct {
	AuthorID  int64
	Body      string
	DeletedAt *time.Time
	Files     bool
}

// alter is the frame of Edit and Delete: lock the room, answer a retry, judge, apply, record, commit, tell. apply
// returns the change's detail, or nil when there is nothing to change.
func (r *Rooms) alter(ctx context.Context, me account.Person, room, seq int64, client string, kind EventKind,
	apply func(context.Context, pgx.Tx, Standing, stored) (map[string]any, error)) (Receipt, error) {
	id, err := clientID(client)
	if err != nil {
		return Receipt{}, err
	}
	var out Receipt
	err = r.db.InTx(ctx, func(tx pgx.Tx) error {
		s, err := place(ctx, tx, me, room, true)
		if err != nil {
			return err
		}
		before, again, err := pg.One[Receipt](ctx, tx, `SELECT seq, at FROM chat.change WHERE room_id = $1 AND actor_id = $2 AND client_id = $3`, room, me.ID, id)
		if err != nil || again {
			out = before
			return err
		}
		m, found, err := pg.One[stored](ctx, tx, `SELECT author_id, body, deleted_at, files IS NOT NULL FROM chat.message WHERE room_id = $1 AND seq = $2`, room, seq)
		if err != nil {
			return err
		}
		if !found {
			return fault.New(fault.NotFound, "chat.no_message")
		}
		detail, err := apply(ctx, tx, s, m)
		if err != nil || detail == nil {
			return err
		}
		out.Seq, out.At, err = record(ctx, tx, room, change{kind: kind, by: author(me), client: id, message: &seq, detail: detail})
		return err
	})
	r.suspect(err)
	if err == nil {
		r.live.tick(room)
	}
	return out, err
}
