package chat

import (
	"context"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"howdah/internal/account"
	"howdah/internal/fault"
	"howdah/internal/pg"
)

// Draft is a post as it comes from a client.
type Draft struct {
	Room     int64
	ClientID string // a UUID made by the client, the same in every retry
	Body     string // Markdown
}

// Receipt says where a post stands in its room's log, for good.
type Receipt struct {
	Seq int64
	At  time.Time
}

type postKey struct {
	room, author int64
	client       pgtype.UUID
}

type post struct {
	postKey
	by       Author
	body     string
	calls    []candidate
	mentions []named
	replies  []Reply

	outcome Receipt
	fresh   bool // stored by the last try, not found
	err     error
}

type named struct {
	id     int64
	handle string
}

// Post stores what me says and returns when it is on disk. A retry with the same client id gets the same receipt.
func (r *Rooms) Post(ctx context.Context, me account.Person, d Draft) (Receipt, error) {
	w := waiter{stored: make(chan struct{})}
	r.PostThen(me, d, &w)
	select {
	case <-w.stored:
		return w.receipt, w.err
	case <-ctx.Done(): // it may still be stored: the caller's retry will find it
		return Receipt{}, fault.Wrap(ctx.Err(), fault.Unavailable, "chat.unsure")
	}
}

// A Reply is told what became of a post. Its methods are called once each, by goroutines that others wait for: they must
// not block.
type Reply interface {
	Stored(Receipt, error) // it is on disk, or refused; those who follow the room are told after this
	Told()                 // they have been told: an answer may wait for this, to travel with the author's own echo
}

type waiter struct {
	stored  chan struct{}
	receipt Receipt
	err     error
}

func (w *waiter) Stored(receipt Receipt, err error) {
	w.receipt, w.err = receipt, err
	close(w.stored)
}

func (w *waiter) Told() {}

// PostThen is Post for doors that do not wait.
func (r *Rooms) PostThen(me account.Person, d Draft, reply Reply) {
	refuse := func(err error) {
		reply.Stored(Receipt{}, err)
		reply.Told()
	}
	body, err := cleanBody(d.Body)
	if err != nil {
		refuse(err)
		return
	}
	client, err := clientID(d.ClientID)
	if err != nil {
		refuse(err)
		return
	}
	p := &post{
		postKey: postKey{d.Room, me.ID, client},
		by:      Author{me.ID, me.Handle, me.Name},
		body:    body,
		calls:   candidates(body),
		replies: []Reply{reply},
	}
	if !r.posts.put(p) {
		refuse(fault.New(fault.Unavailable, "chat.stopping"))
	}
}

func clientID(s string) (id pgtype.UUID, err error) {
	if len(s) != 36 || id.Scan(s) != nil {
		return id, fault.New(fault.Invalid, "chat.client_id")
	}
	return id, nil
}

// lockRooms takes the locks of a batch's rooms in the order of their ids, so that nodes cannot deadlock. It is a
// statement of its own, so that storePosts has a snapshot from after the locks and sees every member and post before.
const lockRooms = `SELECT id FROM chat.room WHERE id = ANY($1) ORDER BY id FOR NO KEY UPDATE`

// storePosts judges and stores a batch in one statement: the posts of members take the next seqs of their rooms, others
// are left out. It does not look for posts that were stored before: the unique index does, a violation undoes the whole
// batch, and it is stored carefully then. Arrays are read by their subscripts instead of joined, so that the only
// lookups are those of member and room, each along an index that has all of the columns: whatever the statistics say,
// there is no bad plan to choose.
const storePosts = `
WITH room AS (
	UPDATE chat.room r SET seq = r.seq + c.n
	FROM (SELECT p.room_id, count(*) AS n, array_agg(p.ord ORDER BY p.ord) AS ords
	      FROM unnest($1::bigint[], $2::bigint[]) WITH ORDINALITY AS p (room_id, author_id, ord)
	      JOIN chat.member m ON m.room_id = p.room_id AND m.person_id = p.author_id
	      GROUP BY p.room_id) c
	WHERE r.id = c.room_id RETURNING r.id, r.seq - c.n AS base, c.ords
)
INSERT INTO chat.message (room_id, seq, author_id, client_id, at, body, mentions)
SELECT room.id, room.base + u.n, ($2::bigint[])[u.ord], ($3::uuid[])[u.ord], (SELECT clock_timestamp()), ($4::text[])[u.ord],
       string_to_array(nullif(($5::text[])[u.ord], ''), ' ')
FROM room, unnest(room.ords) WITH ORDINALITY AS u (ord, n)
RETURNING room_id, author_id, client_id, seq, at, true`

// storePostsCarefully is storePosts where some of the batch may have been stored before: those are found, and answered
// like the first time.
const storePostsCarefully = `
WITH post AS MATERIALIZED (
	SELECT p.*, done.seq AS done_seq, done.at AS done_at
	FROM unnest($1::bigint[], $2::bigint[], $3::uuid[], $4::text[], $5::text[]) WITH ORDINALITY
	     AS p (room_id, author_id, client_id, body, mentions, ord)
	JOIN chat.member m ON m.room_id = p.room_id AND m.person_id = p.author_id
	LEFT JOIN chat.message done ON done.room_id = p.room_id AND done.author_id = p.author_id AND done.client_id = p.client_id
), fresh AS (
	SELECT *, row_number() OVER (PARTITION BY room_id ORDER BY ord) AS n FROM post WHERE done_seq IS NULL
), room AS (
	UPDATE chat.room r SET seq = r.seq + c.n
	FROM (SELECT room_id, count(*) AS n FROM fresh GROUP BY room_id) c
	WHERE r.id = c.room_id RETURNING r.id, r.seq - c.n AS base
), stored AS (
	INSERT INTO chat.message (room_id, seq, author_id, client_id, at, body, mentions)
	SELECT f.room_id, room.base + f.n, f.author_id, f.client_id, (SELECT clock_timestamp()), f.body,
	       string_to_array(nullif(f.mentions, ''), ' ')
	FROM fresh f JOIN room ON room.id = f.room_id
	RETURNING room_id, author_id, client_id, seq, at
)
SELECT *, true FROM stored
UNION ALL
SELECT room_id, author_id, client_id, done_seq, done_at, false FROM post WHERE done_seq IS NOT NULL`

// storeMentions adds who was called by the posts of a batch; again for a retry, without harm.
const storeMentions = `
INSERT INTO chat.mention (room_id, person_id, seq)
SELECT m.room_id, c.person_id, m.seq
FROM unnest($1::bigint[], $2::bigint[], $3::uuid[], $4::bigint[]) AS c (room_id, author_id, client_id, person_id)
JOIN chat.message m USING (room_id, author_id, client_id)
ON CONFLICT DO NOTHING`

// resolveMentions finds the longest handle at each @ that is a member's.
const resolveMentions = `
SELECT DISTINCT ON (c.ord, c.start) c.ord, p.id, p.handle
FROM unnest($1::int[], $2::int[], $3::bigint[], $4::text[]) AS c (ord, start, room_id, handle)
JOIN account.person p ON p.handle = c.handle
JOIN chat.member m ON m.room_id = c.room_id AND m.person_id = p.id
ORDER BY c.ord, c.start, length(c.handle) DESC`

// commitPosts stores a batch, tells every caller, and wakes the rooms. It answers every caller exactly once. There is one
// lane for all rooms: with more of them batches get smaller, and what a batch costs is hardly less for that.
func (r *Rooms) commitPosts(ctx context.Context, steady *pg.Pool, batch []*post) {
	batch = mergeRetries(batch)
	err := r.storeBatch(ctx, steady, batch)
	if err != nil && len(batch) > 1 && (!fault.Is(err, fault.Unavailable) || fault.HasKey(err, "pg.busy")) {
		for _, p := range batch { // one that PostgreSQL will not have, or whose room somebody locks, must not take the others with it
			p.err = r.storeBatch(ctx, steady, []*post{p})
		}
	} else if err != nil {
		for _, p := range batch {
			p.err = err
		}
	}
	rooms := map[int64]*grown{}
	for _, p := range batch {
		if p.err != nil {
			p.answer()
			p.told()
			continue
		}
		g := rooms[p.room]
		if g == nil {
			g = &grown{}
			rooms[p.room] = g
		}
		g.posts = append(g.posts, p)
		if p.fresh { // else found: another try or node stored it, perhaps with other words, and the loop reads them
			g.events = append(g.events, p.event())
		}
	}
	for room, g := range rooms {
		r.live.grew(room, *g)
	}
}

func (p *post) answer() {
	for _, reply := range p.replies {
		reply.Stored(p.outcome, p.err)
	}
}

func (p *post) told() {
	for _, reply := range p.replies {
		reply.Told()
	}
}

func (p *post) event() Event {
	handles := make([]string, len(p.mentions))
	for i, m := range p.mentions {
		handles[i] = m.handle
	}
	return Event{
		Room: p.room, Seq: p.outcome.Seq, At: p.outcome.At, By: p.by, Kind: Posted,
		Message: &Message{Seq: p.outcome.Seq, At: p.outcome.At, By: p.by, ClientID: p.client.String(), Body: p.body, Mentions: handles},
	}
}

// mergeRetries makes one post of several with the same key: a client that could not wait.
func mergeRetries(batch []*post) []*post {
	first := make(map[postKey]*post, len(batch))
	out := batch[:0]
	for _, p := range batch {
		if f := first[p.postKey]; f != nil {
			f.replies = append(f.replies, p.replies...)
			continue
		}
		first[p.postKey] = p
		out = append(out, p)
	}
	return out
}

// storeBatch runs one transaction, and again when the connection broke (the outcome is then unknown) or one of the posts
// had been stored before: carefully, from the second try on.
func (r *Rooms) storeBatch(ctx context.Context, steady *pg.Pool, batch []*post) error {
	const tries = 3
	for try := 1; ; try++ {
		var err error
		if try == 1 {
			err = r.tryBatch(ctx, steady, storePosts, batch)
		} else {
			err = r.tryBatch(ctx, r.db, storePostsCarefully, batch)
		}
		if err == nil {
			return nil
		}
		lost := fault.HasKey(err, "pg.away") && ctx.Err() == nil
		r.suspect(err)
		if try < tries && (lost || pg.UniqueViolation(err, "message_client")) {
			continue
		}
		return err
	}
}

func (r *Rooms) tryBatch(ctx context.Context, db *pg.Pool, store string, batch []*post) error {
	ctx, cancel := context.WithTimeout(ctx, commitTimeout)
	defer cancel()
	if err := r.resolve(ctx, db, batch); err != nil {
		return err
	}
	n := len(batch)
	roomIDs, authors := make([]int64, n), make([]int64, n)
	clients, bodies, mentions := make([]pgtype.UUID, n), make([]string, n), make([]string, n)
	var called struct {
		rooms, authors, people []int64
		clients                []pgtype.UUID
	}
	byKey := make(map[postKey]*post, n)
	for i, p := range batch {
		roomIDs[i], authors[i], clients[i], bodies[i] = p.room, p.author, p.client, p.body
		byKey[p.postKey] = p
		p.outcome, p.err = Receipt{}, fault.New(fault.Forbidden, "chat.not_member") // unless a row says otherwise
		if len(p.mentions) == 0 {
			continue
		}
		handles := make([]string, len(p.mentions))
		for j, m := range p.mentions {
			handles[j] = m.handle
			called.rooms, called.authors = append(called.rooms, p.room), append(called.authors, p.author)
			called.clients, called.people = append(called.clients, p.client), append(called.people, m.id)
		}
		mentions[i] = strings.Join(handles, " ")
	}
	var b pgx.Batch // without BEGIN: its statements up to the one Sync are one transaction and one round trip
	b.Queue(lockRooms, roomIDs)
	b.Queue(store, roomIDs, authors, clients, bodies, mentions).Query(func(rows pgx.Rows) error {
		var key postKey
		var got Receipt
		var fresh bool
		_, err := pgx.ForEachRow(rows, []any{&key.room, &key.author, &key.client, &got.Seq, &got.At, &fresh}, func() error {
			if p := byKey[key]; p != nil {
				p.outcome, p.fresh, p.err = got, fresh, nil
			}
			return nil
		})
		return err
	})
	if called.people != nil {
		b.Queue(storeMentions, called.rooms, called.authors, called.clients, called.people)
	}
	r.commits.Add(1)
	return pg.Fault(db.SendBatch(ctx, &b).Close())
}

// commitTimeout is how long a commit may take before its callers are told that it is unsure.
const commitTimeout = 15 * time.Second

func (r *Rooms) resolve(ctx context.Context, q pg.Queryer, batch []*post) error {
	var ords, starts []int32
	var roomIDs []int64
	var handles []string
	for i, p := range batch {
		p.mentions = nil
		for _, c := range p.calls {
			ords, starts, roomIDs, handles = append(ords, int32(i)), append(starts, int32(c.start)), append(roomIDs, p.room), append(handles, c.handle)
		}
	}
	if ords == nil {
		return nil
	}
	rows, err := q.Query(ctx, resolveMentions, ords, starts, roomIDs, handles)
	if err != nil {
		return pg.Fault(err)
	}
	var ord int32
	var m named
	_, err = pgx.ForEachRow(rows, []any{&ord, &m.id, &m.handle}, func() error {
		batch[ord].mentions = addNamed(batch[ord].mentions, m)
		return nil
	})
	return pg.Fault(err)
}

func addNamed(list []named, m named) []named {
	for _, have := range list {
		if have == m {
			return list
		}
	}
	return append(list, m)
}
