package chat

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"howdah/internal/account"
	"howdah/internal/fault"
	"howdah/internal/pg"
)

// Pinning says who pinned a message, and when.
type Pinning struct {
	By Author    `json:"by"`
	At time.Time `json:"at"`
}

// mostPins is how many messages of a room can be pinned: a list of what matters, not another history.
const mostPins = 100

// pinColumn is the pin of the message x; NULL where there is none. A message on which nothing was ever put costs no look-up.
const pinColumn = `
	CASE WHEN x.marked AND x.deleted_at IS NULL THEN (
		SELECT jsonb_build_object('by', jsonb_build_object('ID', w.id, 'Handle', w.handle, 'Name', w.name), 'at', k.at)
		FROM chat.pin k JOIN account.person w ON w.id = k.person_id WHERE k.room_id = x.room_id AND k.message_seq = x.seq) END`

// Pin has a message at hand for everybody in its room, or no more. What is so already stays so: that is success, and no change. A pinned message that is deleted is
// in no list and does not count; when it comes back, so does its pin.
func (r *Rooms) Pin(ctx context.Context, me account.Person, room, seq int64, on bool, client string) (Receipt, error) {
	return r.alter(ctx, me, room, seq, client, PinChanged, func(ctx context.Context, tx pgx.Tx, s Standing, m stored) (map[string]any, error) {
		if err := s.require(Pin); err != nil {
			return nil, err
		}
		if m.DeletedAt != nil {
			return nil, fault.New(fault.Conflict, "chat.deleted")
		}
		if !on {
			gone, err := tx.Exec(ctx, `DELETE FROM chat.pin WHERE room_id = $1 AND message_seq = $2`, room, seq)
			if err != nil || gone.RowsAffected() == 0 {
				return nil, pg.Fault(err)
			}
			return map[string]any{"on": false}, nil
		}
		var others int
		if err := tx.QueryRow(ctx, `SELECT count(*)::int FROM chat.pin k JOIN chat.message x ON x.room_id = k.room_id AND x.seq = k.message_seq
			WHERE k.room_id = $1 AND k.message_seq <> $2 AND x.deleted_at IS NULL`, room, seq).Scan(&others); err != nil {
			return nil, pg.Fault(err)
		}
		if others >= mostPins {
			return nil, fault.New(fault.Conflict, "chat.pins_full", fault.Args{"limit": mostPins})
		}
		came, err := tx.Exec(ctx, `INSERT INTO chat.pin (room_id, message_seq, seq, person_id, at) SELECT $1, $2, seq + 1, $3, clock_timestamp() FROM chat.room WHERE id = $1
			ON CONFLICT DO NOTHING`, room, seq, me.ID)
		if err != nil || came.RowsAffected() == 0 {
			return nil, pg.Fault(err)
		}
		return map[string]any{"on": true}, mark(ctx, tx, room, seq)
	})
}

// Pins lists what is pinned in a room and stands, be it in its page or in a thread; what was pinned last comes first.
func (r *Rooms) Pins(ctx context.Context, me account.Person, room int64) ([]Message, error) {
	if err := r.may(ctx, r.db, Read, me, room); err != nil {
		return nil, err
	}
	return messages(ctx, r.db, `x.room_id = $1 AND x.deleted_at IS NULL AND x.seq = ANY(ARRAY(SELECT message_seq FROM chat.pin WHERE room_id = $1))
		ORDER BY (SELECT k.seq FROM chat.pin k WHERE k.room_id = x.room_id AND k.message_seq = x.seq) DESC LIMIT 2 * $2`, room, mostPins)
}
