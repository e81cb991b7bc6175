package chat

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"howdah/internal/account"
	"howdah/internal/pg"
	"howdah/internal/search"
)

// What a room does not keep goes from the beginning of its log, a piece in each transaction: whoever is killed over it has done some pieces whole, and the next one goes on. A piece
// takes the messages of a stretch with all that hangs on them, moves the beginning of the log (first_seq), and is itself a change of the room, by which open pages follow. So a log has no
// gap from its beginning on, and who missed what is gone, misses nothing: what is there now is all behind that.

const (
	trimPiece = 1000 // messages go in one transaction: it holds the room
	trimLook  = 10 * time.Minute
	trimFirst = 2 * time.Minute
)

// trimLock is the advisory lock of the one node that trims.
const trimLock = 0x7472696d // "trim"

// trimAll has what is too old go, every now and then until ctx ends.
func (r *Rooms) trimAll(ctx context.Context) {
	wait := time.NewTimer(trimFirst)
	defer wait.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-wait.C:
		}
		_, _ = r.Trim(ctx, time.Now()) // the next look does what this could not
		wait.Reset(trimLook)
	}
}

// Trim has go what rooms do not keep as of now, and tells how many messages went. Between two pieces it rests as long as the last one took.
func (r *Rooms) Trim(ctx context.Context, now time.Time) (gone int, err error) {
	return r.trim(ctx, now, trimPiece)
}

func (r *Rooms) trim(ctx context.Context, now time.Time, piece int) (gone int, err error) {
	type row struct{ ID int64 }
	due, err := pg.All[row](ctx, r.db, `SELECT r.id FROM chat.room r, account.rule h WHERE r.kind <> 'ops' AND CASE WHEN r.keep_days IS NOT NULL THEN r.keep_days > 0 AND r.keep_from <= $1
		ELSE h.keep_days > 0 AND greatest(r.keep_from, h.keep_from) <= $1 END ORDER BY r.id`, now)
	for _, room := range due {
		for more := true; more && err == nil; {
			began := time.Now()
			var n int
			n, more, err = r.trimOnce(ctx, room.ID, now, piece)
			gone += n
			if more {
				select {
				case <-time.After(time.Since(began)):
				case <-ctx.Done():
					return gone, ctx.Err()
				}
			}
		}
		if err != nil {
			return gone, err
		}
	}
	if err == nil {
		err = r.trimIndex(ctx)
	}
	return gone, err
}

// husk holds for a message x that has nothing in it: see leaveHusks.
const husk = `(x.deleted_at IS NOT NULL AND x.body = '' AND x.files IS NULL)`

// stray are messages of room $1 before its beginning ($2) that should not be there: they came back from a backup and are older than $3, or answer what went while they were said.
const stray = `EXISTS (SELECT FROM chat.message x WHERE x.room_id = $1 AND x.seq < $2 AND x.at < $3 AND NOT ` + husk + `)
	OR EXISTS (SELECT FROM chat.message x WHERE x.room_id = $1 AND x.thread < $2 AND x.deleted_at IS NULL AND NOT EXISTS (SELECT FROM chat.message o WHERE o.room_id = $1 AND o.seq = x.thread))`

// trimOnce takes the oldest piece of a room's log that is too old.
func (r *Rooms) trimOnce(ctx context.Context, room int64, now time.Time, piece int) (gone int, more bool, err error) {
	worked := false
	err = r.db.InTx(ctx, func(tx pgx.Tx) error {
		gone, more, worked = 0, false, false
		var mine bool
		if err := tx.QueryRow(ctx, `SELECT pg_try_advisory_xact_lock($1)`, trimLock).Scan(&mine); err != nil || !mine {
			return err
		}
		if _, err := tx.Exec(ctx, `SELECT FROM chat.room WHERE id = $1 FOR NO KEY UPDATE`, room); err != nil {
			return err
		}
		held, err := retention(ctx, tx, room)
		if err != nil || held.Days == 0 || held.From.After(now) {
			return err
		}
		cutoff := now.AddDate(0, 0, -held.Days)
		type row struct {
			Seq   int64
			Young bool
		}
		oldest, err := pg.All[row](ctx, tx, `SELECT seq, at >= $3 FROM chat.message WHERE room_id = $1 AND seq >= $2 ORDER BY seq LIMIT $4`, room, held.First, cutoff, piece+1)
		if err != nil {
			return err
		}
		first := held.First // of the log, afterwards
		for i, one := range oldest {
			if one.Young {
				break
			}
			if i == piece {
				more = true
				break
			}
			first, gone = one.Seq+1, gone+1
		}
		if gone == 0 {
			var astray bool
			if err := tx.QueryRow(ctx, `SELECT `+stray, room, first, cutoff).Scan(&astray); err != nil || !astray {
				return err
			}
		}
		worked = true
		if err := cutLog(ctx, tx, room, held.First, first, cutoff); err != nil {
			return err
		}
		house, err := account.HouseIn(ctx, tx)
		if err != nil {
			return err
		}
		if err := leaveHusks(ctx, tx, room, first, house.ID); err != nil {
			return err
		}
		_, _, err = record(ctx, tx, room, change{kind: Trimmed, by: author(house), detail: map[string]any{"before": first}})
		return err
	})
	r.suspect(err)
	if err == nil && worked {
		r.live.tick(room)
	}
	return gone, more, err
}

// cutLog takes away what is before a seq of a room (first), and all that hangs on it. What is before the seq at which its log has begun so far came back from a backup: of that only what is older than cutoff goes.
// The caller holds the room's lock.
func cutLog(ctx context.Context, tx pgx.Tx, room, began, first int64, cutoff time.Time) error {
	young, err := pg.All[struct{ Seq int64 }](ctx, tx, `SELECT x.seq FROM chat.message x WHERE x.room_id = $1 AND x.seq < $2 AND x.at >= $3 AND NOT `+husk, room, began, cutoff)
	if err != nil {
		return err
	}
	stay := make([]int64, len(young))
	for i, one := range young {
		stay[i] = one.Seq
	}
	for _, sql := range []string{
		// Whoever sent a file may have its upload for a week, to post it again.
		`DELETE FROM chat.upload u USING chat.file f WHERE f.room_id = $1 AND f.seq < $2 AND f.seq <> ALL($3) AND u.content_id = f.content_id AND u.person_id = f.person_id AND u.done`,
		`DELETE FROM chat.file WHERE room_id = $1 AND seq < $2 AND seq <> ALL($3)`, // contents that nobody has any more go by themselves: see files.Sweep
		`DELETE FROM chat.mention WHERE room_id = $1 AND seq < $2 AND seq <> ALL($3)`,
		`DELETE FROM chat.reaction WHERE room_id = $1 AND message_seq < $2 AND message_seq <> ALL($3)`,
		`DELETE FROM chat.pin WHERE room_id = $1 AND message_seq < $2 AND message_seq <> ALL($3)`,
		`DELETE FROM chat.card WHERE room_id = $1 AND message_seq < $2 AND message_seq <> ALL($3)`,
		`DELETE FROM chat.card_wish WHERE room_id = $1 AND message_seq < $2 AND message_seq <> ALL($3)`,
		`DELETE FROM chat.saved WHERE room_id = $1 AND message_seq < $2 AND message_seq <> ALL($3)`,
		`DELETE FROM chat.push WHERE room_id = $1 AND seq < $2 AND seq <> ALL($3)`,
		`DELETE FROM chat.missed WHERE room_id = $1 AND seq < $2 AND seq <> ALL($3)`,
		`DELETE FROM chat.delivery d USING chat.outgoing o WHERE o.id = d.outgoing_id AND o.room_id = $1 AND d.seq BETWEEN 1 AND $2 - 1 AND d.seq <> ALL($3)`,
		`UPDATE chat.alerting a SET seq = 0, body = '' FROM chat.incoming i WHERE i.id = a.incoming_id AND i.room_id = $1 AND a.seq BETWEEN 1 AND $2 - 1 AND a.seq <> ALL($3)`,
		`UPDATE chat.change SET detail = NULL WHERE room_id = $1 AND kind = 'edit' AND message_seq < $2 AND message_seq <> ALL($3) AND seq >= $2 AND detail IS NOT NULL`, // earlier words
		`DELETE FROM chat.message WHERE room_id = $1 AND seq < $2 AND seq <> ALL($3)`,
	} {
		if _, err := tx.Exec(ctx, sql, room, first, stay); err != nil {
			return pg.Fault(err)
		}
	}
	if _, err := tx.Exec(ctx, `DELETE FROM chat.change WHERE room_id = $1 AND seq < $2 AND (seq >= $3 OR at < $4)`, room, first, began, cutoff); err != nil {
		return pg.Fault(err)
	}
	// What somebody began to write and never sent is kept no longer than what is said.
	if _, err := tx.Exec(ctx, `DELETE FROM chat.draft WHERE room_id = $1 AND at < $2`, room, cutoff); err != nil {
		return pg.Fault(err)
	}
	_, err = tx.Exec(ctx, `UPDATE chat.room SET first_seq = $2 WHERE id = $1`, room, first)
	return pg.Fault(err)
}

// leaveHusks leaves of a message that is gone, and still has replies, the place in which they stand: a message that was deleted, by nobody, without words. It goes with the last of them.
func leaveHusks(ctx context.Context, tx pgx.Tx, room, first, house int64) error {
	for _, sql := range []string{`
		INSERT INTO chat.message (room_id, seq, author_id, client_id, at, body, deleted_at, marked)
		SELECT room_id, thread, $3, gen_random_uuid(), min(at), '', clock_timestamp(), true FROM chat.message
		WHERE room_id = $1 AND thread < $2 AND deleted_at IS NULL GROUP BY room_id, thread ON CONFLICT DO NOTHING`,
		`DELETE FROM chat.follow f WHERE f.room_id = $1 AND f.thread < $2 AND $3::bigint > 0 AND NOT EXISTS (SELECT FROM chat.message x WHERE x.room_id = $1 AND x.seq = f.thread)`,
		`DELETE FROM chat.draft d WHERE d.room_id = $1 AND d.thread BETWEEN 1 AND $2 - 1 AND $3::bigint > 0 AND NOT EXISTS (SELECT FROM chat.message x WHERE x.room_id = $1 AND x.seq = d.thread)`,
	} {
		if _, err := tx.Exec(ctx, sql, room, first, house); err != nil {
			return pg.Fault(err)
		}
	}
	return nil
}

// trimIndex takes the words of what is gone out of the search index, a part in each transaction.
func (r *Rooms) trimIndex(ctx context.Context) error {
	type row struct{ Room, Seq int64 }
	due, err := pg.All[row](ctx, r.db, `SELECT r.id, r.first_seq FROM chat.room r JOIN chat.search_room s ON s.room_id = r.id WHERE r.first_seq > greatest(s.trimmed, 1)`)
	if err != nil || len(due) == 0 {
		return err
	}
	begins := make(map[int64]int64, len(due))
	var rooms, firsts []int64
	for _, one := range due {
		begins[one.Room] = one.Seq
		rooms, firsts = append(rooms, one.Room), append(firsts, one.Seq)
	}
	clean := map[int64]bool{}
	for {
		parts, err := pg.All[struct{ ID int64 }](ctx, r.db, `SELECT id FROM chat.search_part ORDER BY id`)
		if err != nil {
			return err
		}
		done := true
		for _, part := range parts { // others may have been put together meanwhile, which then have another number
			if clean[part.ID] {
				continue
			}
			done = false
			var instead int64
			if err := r.inIndex(ctx, func(tx pgx.Tx) error {
				back, err := pg.All[row](ctx, tx, `SELECT g.room_id, x.seq FROM unnest($1::bigint[], $2::bigint[]) AS g (room_id, first)
					JOIN chat.message x ON x.room_id = g.room_id AND x.seq < g.first WHERE x.deleted_at IS NULL`, rooms, firsts)
				if err != nil {
					return err
				}
				stays := make(map[row]bool, len(back)) // it came back from a backup, and is young enough
				for _, one := range back {
					stays[one] = true
				}
				instead, err = trimPart(ctx, tx, part.ID, func(p search.Post) bool { return p.Seq < begins[p.Room] && !stays[row{p.Room, p.Seq}] })
				return err
			}); err != nil {
				return err
			}
			if instead == 0 { // the index is being written: the next look goes on
				return nil
			}
			clean[instead] = true
		}
		if done {
			break
		}
	}
	_, err = r.db.Exec(ctx, `UPDATE chat.search_room s SET trimmed = g.first FROM unnest($1::bigint[], $2::bigint[]) AS g (room_id, first) WHERE s.room_id = g.room_id`, rooms, firsts)
	return pg.Fault(err)
}

// trimPart writes a part of the index anew without some messages, and gives the number of the one that is there now: -1 where there is none.
func trimPart(ctx context.Context, tx pgx.Tx, id int64, gone func(search.Post) bool) (int64, error) {
	p, torn, err := openWhole(ctx, tx, id)
	if err != nil {
		return 0, err
	}
	if torn {
		return 0, forgetIndex(ctx, tx)
	}
	if len(p.Posts) == 0 {
		return -1, nil
	}
	some := false
	for _, post := range p.Posts {
		some = some || gone(post)
	}
	if !some {
		return id, nil
	}
	rest, err := p.Without(gone)
	if err != nil { // somebody wrote there who should not
		return 0, forgetIndex(ctx, tx)
	}
	if err := dropParts(ctx, tx, []int64{id}); err != nil {
		return 0, err
	}
	if len(rest.Posts) == 0 {
		return -1, nil
	}
	return storePart(ctx, tx, rest)
}
