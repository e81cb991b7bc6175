package chat

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"howdah/internal/account"
	"howdah/internal/fault"
	"howdah/internal/pg"
)

// Version is what a message said, from a moment until it was edited.
type Version struct {
	At   time.Time
	Body string
}

// What bounds one answer of Edits: the newest are given.
const (
	mostVersions     = 200
	mostVersionBytes = 1 << 20
)

// Edits gives all that a message has said, oldest first, the last being what it says now. Who may read the room may read that: an edit
// mends what was said, and hides nothing. What is deleted is out of sight in all its versions.
func (r *Rooms) Edits(ctx context.Context, me account.Person, room, seq int64) ([]Version, error) {
	if err := r.may(ctx, r.db, Read, me, room); err != nil {
		return nil, err
	}
	type row struct {
		At, Said time.Time
		Body     string  // what it says now: only in the last
		Was      *string // nil: left out
		Edited   bool
		Deleted  bool
	}
	// A change holds what was said before it: so each version was said at the change before, the first when the message was posted.
	rows, err := pg.All[row](ctx, r.db, `
		SELECT coalesce(c.at, x.at), x.at, CASE WHEN coalesce(c.n, 1) = 1 THEN x.body ELSE '' END,
		       CASE WHEN c.n <= $3 AND c.bytes <= $4 THEN c.was END, c.n IS NOT NULL, x.deleted_at IS NOT NULL
		FROM chat.message x LEFT JOIN (
			SELECT seq, at, was, row_number() OVER newer AS n, sum(octet_length(was)) OVER newer AS bytes FROM (
				SELECT seq, at, coalesce(detail->>'before', '') AS was FROM chat.change
				WHERE kind = 'edit' AND room_id = $1 AND message_seq = $2 ORDER BY seq DESC LIMIT $3 + 1) e
			WINDOW newer AS (ORDER BY seq DESC)) c ON true
		WHERE x.room_id = $1 AND x.seq = $2 ORDER BY c.seq`, room, seq, mostVersions, mostVersionBytes)
	switch {
	case err != nil:
		return nil, err
	case len(rows) == 0:
		return nil, fault.New(fault.NotFound, "chat.no_message")
	case rows[0].Deleted:
		return nil, fault.New(fault.Conflict, "chat.deleted")
	}
	out := []Version{{At: rows[0].Said}}
	for _, one := range rows {
		switch {
		case !one.Edited:
		case one.Was == nil: // what stands behind it is the oldest that is given
			out[0].At = one.At
		default:
			out[len(out)-1].Body = *one.Was
			out = append(out, Version{At: one.At})
		}
	}
	out[len(out)-1].Body = rows[len(rows)-1].Body
	return out, nil
}

// UndoFor is how long who deleted a message may bring it back without asking anybody.
const UndoFor = 15 * time.Minute

// Restore brings back a message that I deleted a short while ago. What stands already is success; what somebody else deleted is theirs to bring
// back, or that of who runs the room (see UndoDeletions).
func (r *Rooms) Restore(ctx context.Context, me account.Person, room, seq int64, client string) (Receipt, error) {
	return r.alter(ctx, me, room, seq, client, Undeleted, func(ctx context.Context, tx pgx.Tx, s Standing, m stored) (map[string]any, error) {
		if m.DeletedAt == nil {
			return nil, nil
		}
		if m.Body == "" && !m.Files { // its words are gone for good: see leaveHusks
			return nil, fault.New(fault.NotFound, "chat.no_message")
		}
		if err := s.require(Post); err != nil {
			return nil, err
		}
		type row struct {
			By   int64
			Soon bool
		}
		last, _, err := pg.One[row](ctx, tx, `SELECT actor_id AS by, at > clock_timestamp() - $3::interval AS soon FROM chat.change
			WHERE kind = 'delete' AND room_id = $1 AND message_seq = $2 ORDER BY seq DESC LIMIT 1`, room, seq, UndoFor)
		switch {
		case err != nil:
			return nil, err
		case last.By != me.ID:
			return nil, fault.New(fault.Forbidden, "chat.not_deleter")
		case !last.Soon:
			return nil, fault.New(fault.Conflict, "chat.undo_over", fault.Args{"n": int(UndoFor / time.Minute)})
		}
		_, err = tx.Exec(ctx, `UPDATE chat.message SET deleted_at = NULL WHERE room_id = $1 AND seq = $2`, room, seq)
		return map[string]any{}, pg.Fault(err)
	})
}
