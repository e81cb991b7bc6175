package chat

import (
	"context"
	"encoding/json"
	"slices"

	"github.com/jackc/pgx/v5"

	"howdah/internal/account"
	"howdah/internal/fault"
	"howdah/internal/pg"
)

// Cursor says which part of a room's posts is wanted: those before a seq, after it, or around it; none of them: the
// newest. Limit is capped at PageLimit.
type Cursor struct {
	Before, After, Around int64
	Limit                 int
}

// PageLimit bounds one page of history.
const PageLimit = 100

// Page is a stretch of a room's posts, oldest first.
type Page struct {
	Messages       []Message
	Events         []Event // who came, went, was ranked or what was renamed between and (at the end) after these posts
	Earlier, Later bool    // there is more on that side
	Seq            int64   // the room's newest change, read no later than the posts: Since(Seq) continues from here
}

const messageColumns = `
	x.seq, x.at, p.id, p.handle, p.name, x.client_id::text,
	CASE WHEN x.deleted_at IS NULL THEN x.body ELSE '' END,
	CASE WHEN x.deleted_at IS NULL THEN coalesce(x.mentions, '{}') ELSE '{}' END,
	x.edited_at IS NOT NULL, x.deleted_at IS NOT NULL, x.alert, x.way, coalesce(x.thread, 0), x.aloud IS true, p.bot_of IS NOT NULL,` + reactionColumn + `,` + repliesColumn + `,` + filesColumn + `,` + pinColumn + `,` + cardsColumn

func scanMessage(row pgx.CollectableRow) (m Message, err error) {
	err = row.Scan(&m.Seq, &m.At, &m.By.ID, &m.By.Handle, &m.By.Name, &m.ClientID, &m.Body, &m.Mentions, &m.Edited, &m.Deleted, &m.Alert, &m.Way, &m.Thread, &m.Aloud, &m.By.Bot, &m.Reactions, &m.Replies, &m.Files, &m.Pinned, &m.Cards)
	return m, err
}

func messages(ctx context.Context, q pg.Queryer, where string, args ...any) ([]Message, error) {
	rows, err := q.Query(ctx, `SELECT `+messageColumns+` FROM chat.message x JOIN account.person p ON p.id = x.author_id WHERE `+where, args...)
	if err != nil {
		return nil, pg.Fault(err)
	}
	out, err := pgx.CollectRows(rows, scanMessage)
	return out, pg.Fault(err)
}

// Message reads one message of a room, be it in its page or in a thread.
func (r *Rooms) Message(ctx context.Context, me account.Person, room, seq int64) (Message, error) {
	if err := r.may(ctx, r.db, Read, me, room); err != nil {
		return Message{}, err
	}
	found, err := messages(ctx, r.db, `x.room_id = $1 AND x.seq = $2`, room, seq)
	if err != nil {
		return Message{}, err
	}
	if len(found) == 0 {
		return Message{}, fault.New(fault.NotFound, "chat.no_message")
	}
	return found[0], nil
}

// kept holds for a message x unless it is what a room that begins at $4 has left of the beginning of a thread: see leaveHusks.
const kept = `(x.seq >= $4 OR x.deleted_at IS NULL)`

// History reads a page of a room. Its cost does not depend on how much the room holds.
func (r *Rooms) History(ctx context.Context, me account.Person, room int64, c Cursor) (Page, error) {
	if c.Before < 0 || c.After < 0 || c.Around < 0 {
		return Page{}, fault.New(fault.Invalid, "chat.cursor")
	}
	if c.Limit <= 0 || c.Limit > PageLimit {
		c.Limit = 50
	}
	s, err := place(ctx, r.db, me, room, false)
	if err != nil {
		return Page{}, err
	}
	if err := s.require(Read); err != nil {
		return Page{}, err
	}
	var page Page
	var begins int64
	if err := r.db.QueryRow(ctx, `SELECT seq, first_seq FROM chat.room WHERE id = $1`, room).Scan(&page.Seq, &begins); err != nil {
		return Page{}, pg.Fault(err)
	}
	up := func(after int64, limit int) ([]Message, bool, error) {
		found, err := messages(ctx, r.db, `x.room_id = $1 AND x.seq > $2 AND `+inRoom+` AND `+kept+` ORDER BY x.seq LIMIT $3`, room, after, limit+1, begins)
		if len(found) > limit {
			return found[:limit], true, err
		}
		return found, false, err
	}
	down := func(before int64, limit int) ([]Message, bool, error) {
		found, err := messages(ctx, r.db, `x.room_id = $1 AND x.seq < $2 AND `+inRoom+` AND `+kept+` ORDER BY x.seq DESC LIMIT $3`, room, before, limit+1, begins)
		more := len(found) > limit
		if more {
			found = found[:limit]
		}
		slices.Reverse(found)
		return found, more, err
	}
	switch {
	case c.After > 0:
		page.Messages, page.Later, err = up(c.After, c.Limit)
		page.Earlier = true
	case c.Before > 0:
		page.Messages, page.Earlier, err = down(c.Before, c.Limit)
		page.Later = true
	case c.Around > 0:
		half := c.Limit / 2
		if page.Messages, page.Earlier, err = down(c.Around, half); err != nil {
			return Page{}, err
		}
		var rest []Message
		rest, page.Later, err = up(c.Around-1, c.Limit-half)
		page.Messages = append(page.Messages, rest...)
	default:
		// No upper bound at page.Seq: a post that commits in between shows here and comes again by Since, which
		// readers take by seq, once.
		page.Messages, page.Earlier, err = down(1<<62, c.Limit)
	}
	if err != nil {
		return Page{}, err
	}
	page.Events, err = r.passing(ctx, room, c, page)
	return page, err
}

// passing are the changes other than posts, and of posts, in the stretch of the log that a page covers, the
// newest of them: a room where people come and go all day does not make its pages long.
func (r *Rooms) passing(ctx context.Context, room int64, c Cursor, page Page) ([]Event, error) {
	// Pages that follow each other leave no change out: what lies between two messages belongs to the page that was
	// asked for by a cursor on that side.
	first, last := int64(1), page.Seq
	switch n := len(page.Messages); {
	case c.After > 0:
		first = c.After + 1
	case n > 0 && page.Earlier:
		first = page.Messages[0].Seq
	}
	switch n := len(page.Messages); {
	case c.Before > 0:
		last = c.Before - 1
	case n > 0 && page.Later:
		last = page.Messages[n-1].Seq
	}
	events, err := r.changes(ctx, room, `c.seq >= $2 AND c.seq <= $3 AND c.kind NOT IN ('edit', 'delete', 'answer', 'way', 'restore', 'react', 'pin', 'card', 'trim') ORDER BY c.seq DESC LIMIT 50`, first, last)
	slices.Reverse(events)
	return events, err
}

// SinceLimit bounds one answer of Since.
const SinceLimit = 500

// Since reads the changes of a room after seq, in order, at most limit; with more left, ask again from the last.
// Posts, edits and deletions come with the message as it now is.
func (r *Rooms) Since(ctx context.Context, me account.Person, room, seq int64, limit int) ([]Event, error) {
	if err := r.may(ctx, r.db, Read, me, room); err != nil {
		return nil, err
	}
	if limit <= 0 || limit > SinceLimit {
		limit = SinceLimit
	}
	return r.since(ctx, room, seq, limit)
}

// since is Since for the room loops, which deliver to members only.
func (r *Rooms) since(ctx context.Context, room, seq int64, limit int) ([]Event, error) {
	// Two statements, two snapshots: a transaction that commits between them must not show its later seq without its
	// earlier one. So both are cut at the room's seq as it was before; below it, nothing can appear any more.
	var top, begins int64
	if err := r.db.QueryRow(ctx, `SELECT seq, first_seq FROM chat.room WHERE id = $1`, room).Scan(&top, &begins); err != nil {
		return nil, pg.Fault(err)
	}
	seq = max(seq, begins-1)         // what was before that is gone: who missed it misses nothing
	top = min(top, seq+int64(limit)) // the log has no gaps: so many seqs are so many events
	if top <= seq {
		return nil, nil
	}
	posts, err := messages(ctx, r.db, `x.room_id = $1 AND x.seq > $2 AND x.seq <= $3 ORDER BY x.seq`, room, seq, top)
	if err != nil {
		return nil, err
	}
	changes, err := r.changes(ctx, room, `c.seq > $2 AND c.seq <= $3 ORDER BY c.seq`, seq, top)
	if err != nil {
		return nil, err
	}
	events := make([]Event, 0, len(posts)+len(changes))
	for i := range posts {
		events = append(events, Event{Room: room, Seq: posts[i].Seq, At: posts[i].At, By: posts[i].By, Kind: Posted, Message: &posts[i]})
	}
	events = append(events, changes...)
	slices.SortFunc(events, func(a, b Event) int { return int(a.Seq - b.Seq) })
	return r.withRoots(ctx, room, events)
}

// top is the seq of a room's newest change.
func (r *Rooms) top(ctx context.Context, room int64) (seq int64, err error) {
	err = r.db.QueryRow(ctx, `SELECT seq FROM chat.room WHERE id = $1`, room).Scan(&seq)
	return seq, pg.Fault(err)
}

func (r *Rooms) changes(ctx context.Context, room int64, where string, from, to int64) ([]Event, error) {
	rows, err := r.db.Query(ctx, `
		SELECT c.seq, c.at, c.kind, b.id, b.handle, b.name, c.message_seq, w.id, w.handle, w.name, c.detail
		FROM chat.change c JOIN account.person b ON b.id = c.actor_id LEFT JOIN account.person w ON w.id = c.person_id
		WHERE c.room_id = $1 AND `+where, room, from, to)
	if err != nil {
		return nil, pg.Fault(err)
	}
	var about []int64
	type change struct {
		Event
		message *int64
	}
	found, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (change, error) {
		c := change{Event: Event{Room: room}}
		var id *int64
		var handle, name *string
		var detail []byte
		if err := row.Scan(&c.Seq, &c.At, &c.Kind, &c.By.ID, &c.By.Handle, &c.By.Name, &c.message, &id, &handle, &name, &detail); err != nil {
			return c, err
		}
		if id != nil {
			c.Person = &Author{ID: *id, Handle: *handle, Name: *name}
		}
		if c.message != nil {
			about = append(about, *c.message)
		}
		if (c.Kind == RoleSet || c.Kind == Renamed) && detail != nil {
			var d struct {
				Role        account.Role
				Name, Topic string
				Private     bool
			}
			if err := json.Unmarshal(detail, &d); err != nil {
				return c, err
			}
			c.Role, c.Name, c.Topic, c.Private = d.Role, d.Name, d.Topic, d.Private
		}
		if (c.Kind == Reacted || c.Kind == PinChanged || c.Kind == ArchiveSet) && detail != nil {
			if err := json.Unmarshal(detail, &struct {
				Emoji *string
				On    *bool
			}{&c.Emoji, &c.On}); err != nil {
				return c, err
			}
		}
		if (c.Kind == Retained || c.Kind == Trimmed) && detail != nil {
			if err := json.Unmarshal(detail, &struct {
				Days   *int
				Before *int64
			}{&c.Count, &c.Before}); err != nil {
				return c, err
			}
		}
		if c.Kind == Restored && detail != nil {
			var d restored
			if err := json.Unmarshal(detail, &d); err != nil {
				return c, err
			}
			c.Count = d.N
		}
		return c, nil
	})
	if err != nil || len(found) == 0 {
		return nil, pg.Fault(err)
	}
	now := map[int64]*Message{}
	if about != nil {
		subjects, err := messages(ctx, r.db, `x.room_id = $1 AND x.seq = ANY($2)`, room, about)
		if err != nil {
			return nil, err
		}
		for i := range subjects {
			now[subjects[i].Seq] = &subjects[i]
		}
	}
	events := make([]Event, len(found))
	for i, c := range found {
		events[i] = c.Event
		if c.message != nil {
			events[i].Message = now[*c.message]
		}
	}
	return events, nil
}

// read is one person's reading of one room.
type read struct {
	room, person, seq int64
	done              chan error
}

// MarkRead notes that me has read a room up to seq and returns what is still unread. Reading never goes back.
func (r *Rooms) MarkRead(ctx context.Context, me account.Person, room, seq int64) (Room, error) {
	w := &read{room, me.ID, seq, make(chan error, 1)}
	if !r.reads.put(w) {
		return Room{}, fault.New(fault.Unavailable, "chat.stopping")
	}
	select {
	case err := <-w.done:
		if err != nil {
			return Room{}, err
		}
	case <-ctx.Done():
		return Room{}, fault.Wrap(ctx.Err(), fault.Unavailable, "chat.unsure")
	}
	return r.Room(ctx, me, room)
}

func (r *Rooms) commitReads(ctx context.Context, batch []*read) {
	ctx, cancel := context.WithTimeout(ctx, commitTimeout)
	defer cancel()
	type key struct{ room, person int64 }
	furthest := map[key]int64{}
	for _, w := range batch {
		k := key{w.room, w.person}
		furthest[k] = max(furthest[k], w.seq)
	}
	var roomIDs, people, seqs []int64
	for k, seq := range furthest {
		roomIDs, people, seqs = append(roomIDs, k.room), append(people, k.person), append(seqs, seq)
	}
	// The rows are locked in one order, so that nodes cannot deadlock.
	_, err := r.db.Exec(ctx, `
		WITH mark AS MATERIALIZED (
			SELECT m.room_id, m.person_id, least(w.seq, r.seq) AS seq
			FROM unnest($1::bigint[], $2::bigint[], $3::bigint[]) AS w (room_id, person_id, seq)
			JOIN chat.member m ON m.room_id = w.room_id AND m.person_id = w.person_id
			JOIN chat.room r ON r.id = w.room_id
			ORDER BY 1, 2 FOR UPDATE OF m)
		UPDATE chat.member m SET read_seq = mark.seq FROM mark
		WHERE m.room_id = mark.room_id AND m.person_id = mark.person_id AND m.read_seq < mark.seq`, roomIDs, people, seqs)
	err = pg.Fault(err)
	r.suspect(err)
	for _, w := range batch {
		w.done <- err
	}
}
