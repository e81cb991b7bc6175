package chat

import (
	"context"
	"slices"
	"time"

	"howdah/internal/account"
	"howdah/internal/fault"
	"howdah/internal/pg"
)

// Bell is what somebody wants to be told of in a room, or in a thread of it.
type Bell string

// The bells.
const (
	BellUnset    Bell = ""         // of a room: as they have it in general; of direct rooms and #ops all
	BellAll      Bell = "all"      // everything
	BellMentions Bell = "mentions" // what calls them
	BellNothing  Bell = "nothing"
)

// ThreadBell is the bell of a thread that differs from what its room says: somebody wants to be told of nothing in it, for a while or for good.
type ThreadBell struct {
	Thread    int64      `json:"thread"`
	Silent    bool       `json:"silent"`
	MuteUntil *time.Time `json:"mute_until,omitempty"` // nil: is not muted
}

// longestMute is how far ahead a room can be muted; for good it is a bell of nothing.
const longestMute = 366 * 24 * time.Hour

func checkMute(until *time.Time) (*time.Time, error) {
	switch {
	case until == nil || !until.After(time.Now()):
		return nil, nil
	case time.Until(*until) > longestMute:
		return nil, fault.New(fault.Invalid, "chat.mute_far")
	}
	return until, nil
}

// bellColumns are those of a room's bell, for chat.room r LEFT JOIN chat.member m and person $1.
const bellColumns = `
	coalesce(m.bell, ''), CASE WHEN m.mute_until > now() THEN m.mute_until END,
	CASE WHEN m.role IS NULL THEN NULL ELSE (
		SELECT jsonb_agg(jsonb_strip_nulls(jsonb_build_object('thread', f.thread, 'silent', f.silent, 'mute_until', CASE WHEN f.mute_until > now() THEN f.mute_until END)))
		FROM chat.follow f WHERE f.person_id = $1 AND f.room_id = r.id AND (f.silent OR f.mute_until > now())) END`

// SetBell says what I want to be told of in a room, and until when of nothing (nil: not muted), and gives the room as it then is.
func (r *Rooms) SetBell(ctx context.Context, me account.Person, room int64, bell Bell, until *time.Time) (Room, error) {
	if !slices.Contains([]Bell{BellUnset, BellAll, BellMentions, BellNothing}, bell) {
		return Room{}, fault.New(fault.Invalid, "chat.bell")
	}
	until, err := checkMute(until)
	if err != nil {
		return Room{}, err
	}
	if err := r.may(ctx, r.db, Read, me, room); err != nil {
		return Room{}, err
	}
	done, err := r.db.Exec(ctx, `UPDATE chat.member SET bell = nullif($3, ''), mute_until = $4 WHERE room_id = $1 AND person_id = $2`, room, me.ID, bell, until)
	if err != nil {
		return Room{}, pg.Fault(err)
	}
	if done.RowsAffected() == 0 { // who is not in it is told of nothing
		return Room{}, fault.New(fault.Forbidden, "chat.not_member")
	}
	r.live.tickPerson(me.ID)
	return r.Room(ctx, me, room)
}

// SetThreadBell says what I want to be told of in a thread: all of it is to follow it, and what calls me or nothing is not to. It gives the room as it then is.
func (r *Rooms) SetThreadBell(ctx context.Context, me account.Person, room, root int64, bell Bell, until *time.Time) (Room, error) {
	if !slices.Contains([]Bell{BellAll, BellMentions, BellNothing}, bell) {
		return Room{}, fault.New(fault.Invalid, "chat.bell")
	}
	until, err := checkMute(until)
	if err != nil {
		return Room{}, err
	}
	s, err := place(ctx, r.db, me, room, false)
	if err != nil {
		return Room{}, err
	}
	if err := s.require(Post); err != nil {
		return Room{}, err
	}
	done, err := r.db.Exec(ctx, `
		INSERT INTO chat.follow (room_id, thread, person_id, read_seq, following, silent, mute_until)
		SELECT x.room_id, x.seq, $3, r.seq, $4, $5, $6 FROM chat.message x JOIN chat.room r ON r.id = x.room_id WHERE x.room_id = $1 AND x.seq = $2 AND x.thread IS NULL
		ON CONFLICT (room_id, thread, person_id) DO UPDATE SET following = $4, silent = $5, mute_until = $6,
			read_seq = CASE WHEN chat.follow.following THEN chat.follow.read_seq ELSE greatest(chat.follow.read_seq, excluded.read_seq) END`,
		room, root, me.ID, bell == BellAll, bell == BellNothing, until)
	if err != nil {
		return Room{}, pg.Fault(err)
	}
	if done.RowsAffected() == 0 {
		return Room{}, fault.New(fault.NotFound, "chat.no_message")
	}
	r.live.tickPerson(me.ID)
	return r.Room(ctx, me, room)
}
