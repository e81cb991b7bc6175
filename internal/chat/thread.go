package chat

import (
	"context"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"howdah/internal/account"
	"howdah/internal/fault"
	"howdah/internal/pg"
)

// Replies is what was answered to a message: how much of it still stands, and the last of it.
type Replies struct {
	Count int       `json:"count"`
	Last  int64     `json:"last"` // seq
	At    time.Time `json:"at"`
}

// Root is the beginning of a thread, as an event about one of its replies bears it.
type Root struct {
	Seq       int64
	Replies   Replies
	Followers []int64 // people; at most 1000
}

// Thread is a page of a thread as one person sees it.
type Thread struct {
	Root      Message
	Messages  []Message // replies that stand, oldest first
	Earlier   bool      // there are replies before these
	Following bool
	Silent    bool       // I want to be told of nothing in it
	MuteUntil *time.Time // nil: is not muted
	Read      int64      // I have read all replies up to here
	Unread    int
	Seq       int64 // the room's newest change, read no later than the replies
}

// inRoom holds for a message x that stands in the page of its room: a reply does when it was said aloud.
const inRoom = `(x.thread IS NULL OR x.aloud)`

// repliesColumn is what was answered to the message x; NULL when nothing ever was.
const repliesColumn = `
	CASE WHEN x.marked THEN (
		SELECT jsonb_build_object('count', count(*), 'last', max(t.seq), 'at', max(t.at)) FROM chat.message t
		WHERE t.room_id = x.room_id AND t.thread = x.seq AND t.deleted_at IS NULL HAVING count(*) > 0) END`

// threadUnread counts, for room r and person $1, what is unread in the threads that they follow there. What was said aloud is counted in the room.
const threadUnread = `
	(SELECT count(*) FROM (
		SELECT FROM chat.follow f JOIN chat.message x ON x.room_id = f.room_id AND x.thread = f.thread AND x.seq > f.read_seq
		WHERE f.person_id = $1 AND f.room_id = r.id AND f.following AND x.author_id <> $1 AND x.deleted_at IS NULL AND x.aloud IS NOT true LIMIT 1000) c)`

// aim finds the threads of a batch's replies before it is stored - what is answered never goes away, and never into another thread - and gives those
// posts that can be tried. A reply to a reply goes into the thread of that one. Without replies it asks nothing.
func (r *Rooms) aim(ctx context.Context, db *pg.Pool, batch []*post) []*post {
	var ords []int32
	var rooms, seqs, authors []int64
	for i, p := range batch {
		if p.answers != 0 {
			ords, rooms, seqs, authors = append(ords, int32(i)), append(rooms, p.room), append(seqs, p.answers), append(authors, p.author)
		}
	}
	if ords == nil {
		return batch
	}
	ctx, cancel := context.WithTimeout(ctx, commitTimeout)
	defer cancel()
	type row struct {
		Ord  int32
		Root int64
	}
	// Who is in no position to know what there is gets the answer that they may not speak, from where that is judged.
	rows, err := pg.All[row](ctx, db, `
		SELECT w.ord, CASE WHEN m.person_id IS NULL THEN -1 ELSE coalesce(x.thread, x.seq, 0) END AS root
		FROM unnest($1::int[], $2::bigint[], $3::bigint[], $4::bigint[]) AS w (ord, room_id, seq, author_id)
		LEFT JOIN chat.member m ON m.room_id = w.room_id AND m.person_id = w.author_id
		LEFT JOIN chat.message x ON x.room_id = w.room_id AND x.seq = w.seq`, ords, rooms, seqs, authors)
	if err != nil {
		r.suspect(err)
	}
	for _, ord := range ords {
		batch[ord].err = err
	}
	for _, one := range rows {
		switch p := batch[one.Ord]; one.Root {
		case 0:
			p.err = fault.New(fault.NotFound, "chat.no_message")
		case -1:
			p.thread = 0
		default:
			p.thread = one.Root
		}
	}
	return slices.DeleteFunc(slices.Clone(batch), func(p *post) bool { return p.err != nil })
}

// Of a batch with replies: their threads' beginnings bear marks from now on, and who began, answers or is called follows. Again for a retry, without harm.
const (
	markRoots = `
UPDATE chat.message x SET marked = true
FROM unnest($1::bigint[], $2::bigint[]) AS w (room_id, seq) WHERE x.room_id = w.room_id AND x.seq = w.seq AND x.marked IS NOT true`

	followThreads = `
INSERT INTO chat.follow (room_id, thread, person_id, read_seq)
SELECT DISTINCT ON (n.room_id, n.thread, n.person_id) n.* FROM (
	SELECT x.room_id, x.thread, x.author_id AS person_id, x.seq FROM unnest($1::bigint[], $2::bigint[], $3::uuid[]) AS c (room_id, author_id, client_id)
	JOIN chat.message x USING (room_id, author_id, client_id) WHERE x.thread IS NOT NULL
	UNION ALL
	SELECT x.room_id, x.thread, o.author_id, o.seq FROM unnest($1::bigint[], $2::bigint[], $3::uuid[]) AS c (room_id, author_id, client_id)
	JOIN chat.message x USING (room_id, author_id, client_id) JOIN chat.message o ON o.room_id = x.room_id AND o.seq = x.thread
	UNION ALL
	SELECT x.room_id, x.thread, n.person_id, x.seq - 1 FROM unnest($1::bigint[], $2::bigint[], $3::uuid[]) AS c (room_id, author_id, client_id)
	JOIN chat.message x USING (room_id, author_id, client_id) JOIN chat.mention n ON n.room_id = x.room_id AND n.seq = x.seq WHERE x.thread IS NOT NULL AND n.person_id <> 0
) n ORDER BY n.room_id, n.thread, n.person_id, n.seq
ON CONFLICT DO NOTHING`
)

// roots reads the beginnings of threads for events about their replies.
func (r *Rooms) roots(ctx context.Context, room int64, seqs []int64) (map[int64]*Root, error) {
	rows, err := r.db.Query(ctx, `
		SELECT x.seq, `+repliesColumn+`,
			(SELECT array_agg(person_id) FROM (SELECT person_id FROM chat.follow f WHERE f.room_id = x.room_id AND f.thread = x.seq AND f.following LIMIT 1000) f)
		FROM chat.message x WHERE x.room_id = $1 AND x.seq = ANY($2)`, room, seqs)
	if err != nil {
		return nil, pg.Fault(err)
	}
	found := map[int64]*Root{}
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (*Root, error) {
		one := &Root{}
		var replies *Replies
		err := row.Scan(&one.Seq, &replies, &one.Followers)
		if replies != nil {
			one.Replies = *replies
		}
		return one, err
	})
	for _, one := range list {
		found[one.Seq] = one
	}
	return found, pg.Fault(err)
}

// withRoots gives events about replies the beginnings of their threads.
func (r *Rooms) withRoots(ctx context.Context, room int64, events []Event) ([]Event, error) {
	var seqs []int64
	for _, e := range events {
		if e.Message != nil && e.Message.Thread != 0 && !slices.Contains(seqs, e.Message.Thread) {
			seqs = append(seqs, e.Message.Thread)
		}
	}
	if seqs == nil {
		return events, nil
	}
	roots, err := r.roots(ctx, room, seqs)
	for i, e := range events {
		if e.Message != nil {
			events[i].Root = roots[e.Message.Thread]
		}
	}
	return events, err
}

// Thread reads the thread to which a message belongs, be it the first of it or a reply: the newest replies, those before a seq, or those around one.
func (r *Rooms) Thread(ctx context.Context, me account.Person, room, seq int64, c Cursor) (Thread, error) {
	if c.Before < 0 || c.After != 0 || c.Around < 0 {
		return Thread{}, fault.New(fault.Invalid, "chat.cursor")
	}
	if c.Limit <= 0 || c.Limit > PageLimit {
		c.Limit = 50
	}
	if err := r.may(ctx, r.db, Read, me, room); err != nil {
		return Thread{}, err
	}
	var out Thread
	var err error
	if out.Seq, err = r.top(ctx, room); err != nil {
		return out, err
	}
	root, err := messages(ctx, r.db, `x.room_id = $1 AND x.seq = (SELECT coalesce(thread, seq) FROM chat.message WHERE room_id = $1 AND seq = $2)`, room, seq)
	if err != nil {
		return out, err
	}
	if len(root) == 0 {
		return out, fault.New(fault.NotFound, "chat.no_message")
	}
	out.Root = root[0]
	before := int64(1 << 62)
	switch {
	case c.Before > 0:
		before = c.Before
	case c.Around > 0: // the rest of the page comes after it
		type row struct{ Seq int64 }
		last, found, err := pg.One[row](ctx, r.db, `SELECT max(seq) + 1 AS seq FROM (SELECT seq FROM chat.message WHERE room_id = $1 AND thread = $2 AND deleted_at IS NULL AND seq >= $3
			ORDER BY seq LIMIT $4) x HAVING count(*) > 0`, room, out.Root.Seq, c.Around, c.Limit/2)
		if err != nil {
			return out, err
		}
		if found {
			before = last.Seq
		}
	}
	out.Messages, err = messages(ctx, r.db, `x.room_id = $1 AND x.thread = $2 AND x.deleted_at IS NULL AND x.seq < $3 ORDER BY x.seq DESC LIMIT $4`, room, out.Root.Seq, before, c.Limit+1)
	if err != nil {
		return out, err
	}
	if out.Earlier = len(out.Messages) > c.Limit; out.Earlier {
		out.Messages = out.Messages[:c.Limit]
	}
	slices.Reverse(out.Messages)
	mine, err := r.follows(ctx, me, room, out.Root.Seq)
	out.Following, out.Read, out.Unread = mine.Following, mine.Read, mine.Unread
	out.Silent, out.MuteUntil = mine.Silent, mine.MuteUntil
	return out, err
}

type follow struct {
	Following bool
	Read      int64
	Unread    int
	Silent    bool
	MuteUntil *time.Time
}

func (r *Rooms) follows(ctx context.Context, me account.Person, room, root int64) (follow, error) {
	found, _, err := pg.One[follow](ctx, r.db, `
		SELECT f.following, f.read_seq AS read, (SELECT count(*)::int FROM (SELECT FROM chat.message x WHERE x.room_id = f.room_id AND x.thread = f.thread AND x.seq > f.read_seq
			AND x.author_id <> $3 AND x.deleted_at IS NULL LIMIT 1000) c) AS unread, f.silent, CASE WHEN f.mute_until > now() THEN f.mute_until END
		FROM chat.follow f WHERE f.room_id = $1 AND f.thread = $2 AND f.person_id = $3`, room, root, me.ID)
	return found, err
}

// FollowThread has me told of a thread, or no more, from now on.
func (r *Rooms) FollowThread(ctx context.Context, me account.Person, room, root int64, on bool) error {
	s, err := place(ctx, r.db, me, room, false)
	if err != nil {
		return err
	}
	if err := s.require(Post); err != nil { // who is not in the room is not told of anything in it
		return err
	}
	done, err := r.db.Exec(ctx, `
		INSERT INTO chat.follow (room_id, thread, person_id, read_seq, following)
		SELECT x.room_id, x.seq, $3, r.seq, $4 FROM chat.message x JOIN chat.room r ON r.id = x.room_id WHERE x.room_id = $1 AND x.seq = $2 AND x.thread IS NULL
		ON CONFLICT (room_id, thread, person_id) DO UPDATE SET following = $4, silent = false, mute_until = NULL, read_seq = greatest(chat.follow.read_seq, excluded.read_seq)`, room, root, me.ID, on)
	if err == nil && done.RowsAffected() == 0 {
		return fault.New(fault.NotFound, "chat.no_message")
	}
	return pg.Fault(err)
}

// ReadThread notes that I have read the replies of a thread up to seq - reading never goes back, and who does not follow has nothing to note - and gives the room with what is left unread in it.
func (r *Rooms) ReadThread(ctx context.Context, me account.Person, room, root, seq int64) (Room, error) {
	if err := r.may(ctx, r.db, Read, me, room); err != nil {
		return Room{}, err
	}
	if _, err := r.db.Exec(ctx, `
		UPDATE chat.follow f SET read_seq = least($4, r.seq) FROM chat.room r
		WHERE r.id = f.room_id AND f.room_id = $1 AND f.thread = $2 AND f.person_id = $3 AND f.read_seq < least($4, r.seq)`, room, root, me.ID, seq); err != nil {
		return Room{}, pg.Fault(err)
	}
	return r.Room(ctx, me, room)
}

// Followed is a thread that I follow, in a list of them.
type Followed struct {
	Room   int64
	Root   Message
	Unread int
}

// Threads lists the threads that I follow, those with something unread first, then by their last reply; at most 100.
func (r *Rooms) Threads(ctx context.Context, me account.Person) ([]Followed, error) {
	type row struct {
		Room   int64
		Root   int64
		Unread int
		Kind   Kind
		Role   account.Role
	}
	rows, err := pg.All[row](ctx, r.db, `
		SELECT f.room_id AS room, f.thread AS root, n.unread, r.kind, coalesce(m.role, '') AS role
		FROM chat.follow f JOIN chat.room r ON r.id = f.room_id JOIN chat.member m ON m.room_id = f.room_id AND m.person_id = f.person_id
		CROSS JOIN LATERAL (SELECT count(*) FILTER (WHERE x.seq > f.read_seq AND x.author_id <> $1)::int AS unread, max(x.at) AS last FROM chat.message x
			WHERE x.room_id = f.room_id AND x.thread = f.thread AND x.deleted_at IS NULL) n
		WHERE f.person_id = $1 AND f.following AND n.last IS NOT NULL ORDER BY n.unread = 0, n.last DESC LIMIT 100`, me.ID)
	if err != nil {
		return nil, err
	}
	byRoom := map[int64][]int64{}
	for _, one := range rows {
		if May(Read, standing(me, one.Kind, one.Role)) {
			byRoom[one.Room] = append(byRoom[one.Room], one.Root)
		}
	}
	type key struct{ room, seq int64 }
	found := map[key]Message{}
	for room, seqs := range byRoom {
		list, err := messages(ctx, r.db, `x.room_id = $1 AND x.seq = ANY($2)`, room, seqs)
		if err != nil {
			return nil, err
		}
		for _, m := range list {
			found[key{room, m.Seq}] = m
		}
	}
	var out []Followed
	for _, one := range rows {
		if m, ok := found[key{one.Room, one.Root}]; ok {
			out = append(out, Followed{one.Room, m, one.Unread})
		}
	}
	return out, nil
}
