package chat

import (
	"context"
	"time"

	"howdah/internal/account"
	"howdah/internal/fault"
	"howdah/internal/pg"
)

// mostSaved is how many messages one person can put aside, and savedPage how many one look at them gives.
const (
	mostSaved = 2000
	savedPage = 100
)

// Saved is a message that I have put aside.
type Saved struct {
	Room    int64
	Message Message
	At      time.Time // when I did
}

// Save puts a message aside for me, or no more; nobody else learns of it. What is so already stays so.
func (r *Rooms) Save(ctx context.Context, me account.Person, room, seq int64, on bool) error {
	if !on { // also where I may not read any more
		_, err := r.db.Exec(ctx, `DELETE FROM chat.saved WHERE person_id = $1 AND room_id = $2 AND message_seq = $3`, me.ID, room, seq)
		return pg.Fault(err)
	}
	m, err := r.Message(ctx, me, room, seq)
	if err != nil {
		return err
	}
	if m.Deleted {
		return fault.New(fault.Conflict, "chat.deleted")
	}
	type row struct{ Full, There bool }
	now, _, err := pg.One[row](ctx, r.db, `SELECT count(*) >= $4, coalesce(bool_or(room_id = $2 AND message_seq = $3), false) FROM chat.saved WHERE person_id = $1`, me.ID, room, seq, mostSaved)
	switch {
	case err != nil || now.There:
		return err
	case now.Full:
		return fault.New(fault.Conflict, "chat.saved_full", fault.Args{"limit": mostSaved})
	}
	_, err = r.db.Exec(ctx, `INSERT INTO chat.saved (person_id, room_id, message_seq) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING`, me.ID, room, seq)
	return pg.Fault(err)
}

// SavedIn gives the seqs of what I have put aside in a room.
func (r *Rooms) SavedIn(ctx context.Context, me account.Person, room int64) ([]int64, error) {
	type row struct{ Seq int64 }
	rows, err := pg.All[row](ctx, r.db, `SELECT message_seq FROM chat.saved WHERE person_id = $1 AND room_id = $2 ORDER BY message_seq`, me.ID, room)
	seqs := make([]int64, len(rows))
	for i, one := range rows {
		seqs[i] = one.Seq
	}
	return seqs, err
}

// Saved lists what I have put aside, may still read, and stands: the last first, savedPage at a time, those put aside before a moment where that is not zero. more: there is more.
func (r *Rooms) Saved(ctx context.Context, me account.Person, before time.Time) (list []Saved, more bool, err error) {
	type row struct {
		Room, Seq int64
		At        time.Time
		Kind      Kind
		Role      account.Role
	}
	rows, err := pg.All[row](ctx, r.db, `
		SELECT s.room_id, s.message_seq, s.at, r.kind, coalesce(m.role, '') FROM chat.saved s
		JOIN chat.room r ON r.id = s.room_id LEFT JOIN chat.member m ON m.room_id = s.room_id AND m.person_id = s.person_id
		JOIN chat.message x ON x.room_id = s.room_id AND x.seq = s.message_seq AND x.deleted_at IS NULL
		WHERE s.person_id = $1 AND ($2::timestamptz IS NULL OR s.at < $2) AND (m.role IS NOT NULL OR r.kind = 'public' AND $3)
		ORDER BY s.at DESC LIMIT $4`, me.ID, sometime(before), me.Role.AtLeast(account.Member), savedPage+1)
	if err != nil {
		return nil, false, err
	}
	if more = len(rows) > savedPage; more {
		rows = rows[:savedPage]
	}
	type key struct{ room, seq int64 }
	found, byRoom := map[key]Message{}, map[int64][]int64{}
	for _, one := range rows {
		if May(Read, standing(me, one.Kind, one.Role)) {
			byRoom[one.Room] = append(byRoom[one.Room], one.Seq)
		}
	}
	for room, seqs := range byRoom {
		stand, err := messages(ctx, r.db, `x.room_id = $1 AND x.seq = ANY($2) AND x.deleted_at IS NULL`, room, seqs)
		if err != nil {
			return nil, false, err
		}
		for _, m := range stand {
			found[key{room, m.Seq}] = m
		}
	}
	for _, one := range rows {
		if m, ok := found[key{one.Room, one.Seq}]; ok {
			list = append(list, Saved{one.Room, m, one.At})
		}
	}
	return list, more, nil
}

// sometime is a moment for PostgreSQL; NULL for none.
func sometime(at time.Time) *time.Time {
	if at.IsZero() {
		return nil
	}
	return &at
}
