package chat

import (
	"context"
	"strings"
	"time"

	"howdah/internal/account"
	"howdah/internal/fault"
	"howdah/internal/pg"
)

// Unsent is what somebody has begun to write in a room, or in one of its threads. It is theirs alone, so it is no change of the room.
type Unsent struct {
	Room     int64
	Thread   int64  // its first message; 0: the room's own box
	ClientID string // a UUID, of the message that it will be
	Version  int64  // when it was written, in milliseconds since 1970 by the clock of the device; higher than any version that the device has seen
	Body     string // ""; it was sent or thrown away
}

// Limits of drafts: of one person, those written last stay; one may be longer than what can be sent.
const (
	mostDrafts = 500
	maxDraft   = 2 * MaxBody      // bytes
	ahead      = int64(60 * 1000) // milliseconds by which a device's clock may be fast
	longest    = int64(1) << 53   // a version that scripts can count to
)

// sentColumn holds where the message that the draft d would be is in its room: a device that sent it and died has left it behind.
const sentColumn = `EXISTS (SELECT FROM chat.message x WHERE x.room_id = d.room_id AND x.author_id = d.person_id AND x.client_id = d.client_id)`

// KeepDraft keeps a draft unless a newer one is there, and gives the one that stands: again, with the same version, is harmless. A version from a clock that is fast
// counts as one of now. changed: the other devices have something to learn.
func (r *Rooms) KeepDraft(ctx context.Context, me account.Person, d Unsent) (now Unsent, changed bool, err error) {
	client, err := clientID(d.ClientID)
	if err != nil {
		return Unsent{}, false, err
	}
	if d.Version <= 0 || d.Version > longest || d.Thread < 0 {
		return Unsent{}, false, fault.New(fault.Invalid, "chat.draft_version")
	}
	if err := checkText(d.Body, maxDraft); err != nil {
		return Unsent{}, false, err
	}
	if n := len(d.Body); n > maxDraft {
		return Unsent{}, false, fault.New(fault.TooLarge, "chat.too_long", fault.Args{"n": n, "limit": maxDraft})
	}
	if strings.TrimSpace(d.Body) == "" {
		d.Body = ""
	}
	s, err := place(ctx, r.db, me, d.Room, false)
	if err == nil {
		err = s.require(Post)
	}
	if err != nil {
		return Unsent{}, false, err
	}
	clock := time.Now().UnixMilli()
	type stood struct{ Fresh bool }
	kept, changed, err := pg.One[stood](ctx, r.db, `
		INSERT INTO chat.draft AS d (person_id, room_id, thread, client_id, version, body) VALUES ($1, $2, $3, $4, CASE WHEN $5::bigint > $7::bigint + $8::bigint THEN $7 ELSE $5 END, $6)
		ON CONFLICT (person_id, room_id, thread) DO UPDATE SET client_id = excluded.client_id, body = excluded.body, at = now(),
			version = CASE WHEN $5::bigint > $7::bigint + $8::bigint THEN greatest(d.version + 1, $7) ELSE $5 END
		WHERE d.version < $5 AND (d.client_id, d.body) IS DISTINCT FROM (excluded.client_id, excluded.body) RETURNING d.xmax = 0`,
		me.ID, d.Room, d.Thread, client, d.Version, d.Body, clock, ahead)
	if err != nil {
		return Unsent{}, false, err
	}
	if kept.Fresh {
		if _, err := r.db.Exec(ctx, `DELETE FROM chat.draft d USING (SELECT room_id, thread FROM chat.draft WHERE person_id = $1 ORDER BY at DESC OFFSET $2) old
			WHERE d.person_id = $1 AND d.room_id = old.room_id AND d.thread = old.thread`, me.ID, mostDrafts); err != nil {
			return Unsent{}, false, pg.Fault(err)
		}
	}
	now, _, err = pg.One[Unsent](ctx, r.db, draftOf+` WHERE d.person_id = $1 AND d.room_id = $2 AND d.thread = $3`, me.ID, d.Room, d.Thread)
	return now, changed, err
}

const draftOf = `SELECT d.room_id, d.thread, d.client_id::text, d.version, CASE WHEN ` + sentColumn + ` THEN '' ELSE d.body END FROM chat.draft d`

// Drafts lists mine in the rooms that I am in, or in one of them (room 0: all), those written last first; with those that are none any more, by which a device learns that.
func (r *Rooms) Drafts(ctx context.Context, me account.Person, room int64) ([]Unsent, error) {
	return pg.All[Unsent](ctx, r.db, draftOf+` JOIN chat.member m ON m.room_id = d.room_id AND m.person_id = d.person_id
		WHERE d.person_id = $1 AND ($2::bigint = 0 OR d.room_id = $2) ORDER BY d.at DESC LIMIT $3`, me.ID, room, mostDrafts)
}
