package chat

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
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
	Thread   int64  // a reply: seq of the message that it answers, or of another reply to that; 0: none
	Aloud    bool   // a reply that shall stand in the room as well
	Typed    bool   // by a person: what is a command (see IsCommand) is refused rather than shown to everybody

	Files []FileDraft // with them, Body may be empty

	MayCallAll bool // a bot that may call everybody, though it is a guest
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
	answers  int64 // as it was said; 0: nothing
	thread   int64 // the beginning of its thread; see aim
	aloud    bool
	calls    []candidate
	callsAll bool // its author may call everybody
	mentions []named
	called   []int64 // people; everybody in the room is 0
	here     bool    // calls those who are here: see callHere
	files    []File
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
	if len(d.Files) > 0 && fault.HasKey(err, "chat.empty") {
		body, err = "", nil
	}
	if err != nil {
		refuse(err)
		return
	}
	if d.Thread < 0 || d.Aloud && d.Thread == 0 {
		refuse(fault.New(fault.Invalid, "chat.aloud"))
		return
	}
	if d.Typed && IsCommand(body) {
		refuse(fault.New(fault.Invalid, "chat.is_command"))
		return
	}
	client, err := clientID(d.ClientID)
	if err != nil {
		refuse(err)
		return
	}
	p := &post{
		postKey:  postKey{d.Room, me.ID, client},
		by:       author(me),
		body:     body,
		answers:  d.Thread,
		aloud:    d.Aloud,
		calls:    candidates(body),
		callsAll: d.MayCallAll || me.Role.AtLeast(account.Member), // guests call by name
		replies:  []Reply{reply},
	}
	put := func() {
		if !r.posts.put(p) {
			refuse(fault.New(fault.Unavailable, "chat.stopping"))
		}
	}
	if len(d.Files) == 0 {
		put()
		return
	}
	files, err := checkFiles(d.Files)
	if err != nil {
		refuse(err)
		return
	}
	if !r.bringing.begin() {
		refuse(fault.New(fault.Unavailable, "chat.stopping"))
		return
	}
	go func() {
		defer r.bringing.end()
		if err := r.bring(r.live.ctx, p, files); err != nil {
			refuse(err)
			return
		}
		put()
	}()
}

func clientID(s string) (id pgtype.UUID, err error) {
	if len(s) != 36 || id.Scan(s) != nil {
		return id, fault.New(fault.Invalid, "chat.client_id")
	}
	return id, nil
}

// A batch is stored by two statements in one transaction. They are written on a guess: that every room still ends where
// this node last saw it end (see tops), that every author is a member, and that nothing was stored before. PostgreSQL
// checks the guess where it stores: a division by zero, or a violation of the unique index, undoes the whole batch,
// and it is stored carefully then. So a post that goes well costs no look-up that its own indexes do not make.
const (
	// takeSeqs takes the locks of the batch's rooms, in the order of the arrays, which is that of their ids: nodes cannot
	// deadlock. As the other statement begins after it, that one sees every member as of the locks.
	takeSeqs = `
UPDATE chat.room r SET seq = c.after / (r.seq = c.before AND r.archived_at IS NULL)::int
FROM unnest($1::bigint[], $2::bigint[], $3::bigint[]) AS c (id, before, after) WHERE r.id = c.id`

	storePosts = `
INSERT INTO chat.message (room_id, seq, author_id, client_id, at, body, mentions, thread, aloud)
SELECT p.room_id, p.seq / (m.person_id IS NOT NULL)::int, p.author_id, p.client_id, (SELECT clock_timestamp()), p.body,
       string_to_array(nullif(p.mentions, ''), ' '), nullif(p.thread, 0), nullif(p.aloud, false)
FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::uuid[], $5::text[], $6::text[], $7::bigint[], $8::bool[])
     AS p (room_id, seq, author_id, client_id, body, mentions, thread, aloud)
LEFT JOIN chat.member m ON m.room_id = p.room_id AND m.person_id = p.author_id
RETURNING at`
)

// lockRooms is what takeSeqs does of locking, for storePostsCarefully.
const lockRooms = `SELECT id FROM chat.room WHERE id = ANY($1) ORDER BY id FOR NO KEY UPDATE`

// storePostsCarefully judges and stores whatever the batch is: the posts of members take the next seqs of their rooms,
// those that were stored before are found and answered like the first time, though their author may have left since; others are left out.
const storePostsCarefully = `
WITH post AS MATERIALIZED (
	SELECT p.*, done.seq AS done_seq, done.at AS done_at
	FROM unnest($1::bigint[], $2::bigint[], $3::uuid[], $4::text[], $5::text[], $6::bigint[], $7::bool[]) WITH ORDINALITY
	     AS p (room_id, author_id, client_id, body, mentions, thread, aloud, ord)
	LEFT JOIN chat.member m ON m.room_id = p.room_id AND m.person_id = p.author_id AND NOT EXISTS (SELECT FROM chat.room a WHERE a.id = p.room_id AND a.archived_at IS NOT NULL)
	LEFT JOIN chat.message done ON done.room_id = p.room_id AND done.author_id = p.author_id AND done.client_id = p.client_id
	WHERE m.person_id IS NOT NULL OR done.seq IS NOT NULL
), fresh AS (
	SELECT *, row_number() OVER (PARTITION BY room_id ORDER BY ord) AS n FROM post WHERE done_seq IS NULL
), room AS (
	UPDATE chat.room r SET seq = r.seq + c.n
	FROM (SELECT room_id, count(*) AS n FROM fresh GROUP BY room_id) c
	WHERE r.id = c.room_id RETURNING r.id, r.seq - c.n AS base
), stored AS (
	INSERT INTO chat.message (room_id, seq, author_id, client_id, at, body, mentions, thread, aloud)
	SELECT f.room_id, room.base + f.n, f.author_id, f.client_id, (SELECT clock_timestamp()), f.body,
	       string_to_array(nullif(f.mentions, ''), ' '), nullif(f.thread, 0), nullif(f.aloud, false)
	FROM fresh f JOIN room ON room.id = f.room_id
	RETURNING room_id, author_id, client_id, seq, at
)
SELECT *, true FROM stored
UNION ALL
SELECT room_id, author_id, client_id, done_seq, done_at, false FROM post WHERE done_seq IS NOT NULL`

// storeMentions adds who was called by the posts that this transaction stores. A retry of an older one adds nothing: it may have been edited since, and calls others now.
const storeMentions = `
INSERT INTO chat.mention (room_id, person_id, seq)
SELECT m.room_id, c.person_id, m.seq
FROM unnest($1::bigint[], $2::bigint[], $3::uuid[], $4::bigint[]) AS c (room_id, author_id, client_id, person_id)
JOIN chat.message m USING (room_id, author_id, client_id)
WHERE m.xmin = pg_current_xact_id()::xid
  AND (c.person_id = 0 OR EXISTS (SELECT FROM chat.member i WHERE i.room_id = m.room_id AND i.person_id = c.person_id))
ON CONFLICT DO NOTHING`

// resolveMentions finds the longest handle at each @ that is a member's.
const resolveMentions = `
SELECT DISTINCT ON (c.ord, c.start) c.ord, c.start, p.id, p.handle
FROM unnest($1::int[], $2::int[], $3::bigint[], $4::text[]) AS c (ord, start, room_id, handle)
JOIN account.person p ON p.handle = c.handle
JOIN chat.member m ON m.room_id = c.room_id AND m.person_id = p.id
ORDER BY c.ord, c.start, length(c.handle) DESC`

// commitPosts stores a batch, tells every caller, and wakes the rooms. It answers every caller exactly once.
func (r *Rooms) commitPosts(ctx context.Context, steady *pg.Pool, batch []*post) {
	batch = mergeRetries(batch)
	r.storeOrPart(ctx, steady, r.aim(ctx, steady, batch))
	r.nudgeIndex()
	r.nudge()
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
		if hasLink(p.body) {
			r.nudgeLinks()
		}
		if p.fresh { // else found: another try or node stored it, perhaps with other words, and the loop reads them
			g.events = append(g.events, p.event())
		}
	}
	for room, g := range rooms {
		if slices.ContainsFunc(g.posts, func(p *post) bool { return p.thread != 0 }) {
			g.events = nil // the loop reads them, with what there is in the thread now
		}
		r.live.grew(room, *g)
	}
}

// storeOrPart stores a batch, in parts where it cannot be stored whole. What became of each post stands in it.
func (r *Rooms) storeOrPart(ctx context.Context, steady *pg.Pool, batch []*post) {
	err := r.storeBatch(ctx, steady, batch)
	if err == nil {
		return
	}
	parts := apart(batch, err)
	for _, part := range parts {
		r.storeOrPart(ctx, steady, part)
	}
	if pg.Code(err) == "23503" { // what was uploaded has been taken away meanwhile: only files refer to anything
		err = fault.Wrap(err, fault.NotFound, "files.no_upload")
	}
	if parts == nil {
		for _, p := range batch {
			p.err = err
		}
	}
}

// apart parts a batch that was refused, so that one that PostgreSQL will not have, or whose room somebody locks, does not take the others with it:
// by rooms first, and a room's posts one by one, unless it is the room that is locked. nil when no part would fare better.
func apart(batch []*post, err error) (parts [][]*post) {
	locked := fault.HasKey(err, "pg.busy")
	if fault.Is(err, fault.Unavailable) && !locked {
		return nil
	}
	rooms := map[int64][]*post{}
	for _, p := range batch {
		rooms[p.room] = append(rooms[p.room], p)
	}
	switch {
	case len(rooms) > 1:
		parts = slices.Collect(maps.Values(rooms))
	case len(batch) > 1 && !locked:
		parts = slices.Collect(slices.Chunk(batch, 1))
	}
	return parts
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
		Message: &Message{Seq: p.outcome.Seq, At: p.outcome.At, By: p.by, ClientID: p.client.String(), Body: p.body, Mentions: handles, Files: p.files},
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

// storeBatch runs one transaction: on a guess first, then carefully - also when the connection broke and the outcome is
// unknown.
func (r *Rooms) storeBatch(ctx context.Context, steady *pg.Pool, batch []*post) error {
	const tries = 3
	err := r.tryGuess(ctx, steady, batch)
	for try := 2; err != nil; try++ {
		lost := fault.HasKey(err, "pg.away") && ctx.Err() == nil
		r.suspect(err)
		if try > tries || !lost && !wrongGuess(err) {
			return err
		}
		err = r.tryCarefully(ctx, batch)
	}
	return nil
}

// wrongGuess tells whether this batch has to be stored carefully. Deadlocks are none of ours: somebody locks rooms by hand.
func wrongGuess(err error) bool {
	return pg.UniqueViolation(err, "message_client") || pg.Code(err) == "22012" || pg.Code(err) == "40P01"
}

// columns are a batch as arrays, and who is called in it.
type columns struct {
	rooms, authors   []int64
	clients          []pgtype.UUID
	bodies, mentions []string
	threads          []int64
	aloud            []bool
	roots            struct{ rooms, seqs []int64 } // of the replies
	files            fileColumns
	called           struct {
		rooms, authors, people []int64
		clients                []pgtype.UUID
	}
}

func (r *Rooms) columns(ctx context.Context, db *pg.Pool, batch []*post) (*columns, error) {
	if err := r.resolve(ctx, db, batch); err != nil {
		return nil, err
	}
	if err := r.callHere(ctx, db, batch); err != nil {
		return nil, err
	}
	n := len(batch)
	c := &columns{rooms: make([]int64, n), authors: make([]int64, n), clients: make([]pgtype.UUID, n), bodies: make([]string, n), mentions: make([]string, n),
		threads: make([]int64, n), aloud: make([]bool, n)}
	for i, p := range batch {
		c.rooms[i], c.authors[i], c.clients[i], c.bodies[i] = p.room, p.author, p.client, p.body
		c.files.add(p)
		if p.thread != 0 {
			c.threads[i], c.aloud[i] = p.thread, p.aloud
			c.roots.rooms, c.roots.seqs = append(c.roots.rooms, p.room), append(c.roots.seqs, p.thread)
		}
		if len(p.mentions) == 0 {
			continue
		}
		handles := make([]string, len(p.mentions))
		for j, m := range p.mentions {
			handles[j] = m.handle
		}
		for _, id := range p.called {
			c.called.rooms, c.called.authors = append(c.called.rooms, p.room), append(c.called.authors, p.author)
			c.called.clients, c.called.people = append(c.called.clients, p.client), append(c.called.people, id)
		}
		c.mentions[i] = strings.Join(handles, " ")
	}
	return c, nil
}

// commit sends what b has been given, and the mentions: without BEGIN, the statements up to the one Sync are one
// transaction and one round trip.
func (r *Rooms) commit(ctx context.Context, db *pg.Pool, b *pgx.Batch, c *columns) error {
	if c.called.people != nil {
		b.Queue(storeMentions, c.called.rooms, c.called.authors, c.called.clients, c.called.people)
	}
	if c.files.ns != nil {
		b.Queue(storeFiles, c.files.rooms, c.files.authors, c.files.clients, c.files.ns, c.files.contents, c.files.names, c.files.alts)
	}
	if c.roots.seqs != nil {
		b.Queue(markRoots, c.roots.rooms, c.roots.seqs)
		b.Queue(followThreads, c.rooms, c.authors, c.clients)
	}
	r.commits.Add(1)
	return pg.Fault(db.SendBatch(ctx, b).Close())
}

// tryGuess stores a batch where the rooms are believed to end.
func (r *Rooms) tryGuess(ctx context.Context, steady *pg.Pool, batch []*post) error {
	ctx, cancel := context.WithTimeout(ctx, commitTimeout)
	defer cancel()
	before, err := r.ends(ctx, steady, batch)
	if err != nil {
		return err
	}
	c, err := r.columns(ctx, steady, batch)
	if err != nil {
		return err
	}
	after, seqs := make(map[int64]int64, len(before)), make([]int64, len(batch))
	for i, p := range batch {
		if after[p.room] == 0 {
			after[p.room] = before[p.room]
		}
		after[p.room]++
		seqs[i] = after[p.room]
	}
	rooms := slices.Sorted(maps.Keys(after))
	befores, afters := make([]int64, len(rooms)), make([]int64, len(rooms))
	for i, room := range rooms {
		befores[i], afters[i] = before[room], after[room]
	}
	var at time.Time
	var b pgx.Batch
	b.Queue(takeSeqs, rooms, befores, afters)
	b.Queue(storePosts, c.rooms, seqs, c.authors, c.clients, c.bodies, c.mentions, c.threads, c.aloud).Query(func(rows pgx.Rows) error {
		n, err := 0, error(nil)
		for ; rows.Next(); n++ {
			if n == 0 {
				err = rows.Scan(&at) // they all have the same
			}
		}
		return errors.Join(err, rows.Err())
	})
	if err := r.commit(ctx, steady, &b, c); err != nil {
		r.tops.forget(rooms...)
		return err
	}
	for i, p := range batch {
		p.outcome, p.fresh, p.err = Receipt{Seq: seqs[i], At: at}, true, nil
	}
	r.tops.learn(after)
	return nil
}

// ends gives where the rooms of a batch are believed to end, from memory where it can. A room that is not there is
// believed to end at 0: nobody is a member of it.
func (r *Rooms) ends(ctx context.Context, db *pg.Pool, batch []*post) (map[int64]int64, error) {
	known, missing := r.tops.of(batch)
	if len(missing) == 0 {
		return known, nil
	}
	type row struct{ ID, Seq int64 }
	rows, err := pg.All[row](ctx, db, `SELECT id, seq FROM chat.room WHERE id = ANY($1)`, missing)
	for _, row := range rows {
		known[row.ID] = row.Seq
	}
	return known, err
}

// tryCarefully stores what of a batch can be stored.
func (r *Rooms) tryCarefully(ctx context.Context, batch []*post) error {
	ctx, cancel := context.WithTimeout(ctx, commitTimeout)
	defer cancel()
	c, err := r.columns(ctx, r.db, batch)
	if err != nil {
		return err
	}
	byKey := make(map[postKey]*post, len(batch))
	for _, p := range batch {
		byKey[p.postKey] = p
		p.outcome, p.err = Receipt{}, fault.New(fault.Forbidden, "chat.not_member") // unless a row says otherwise
	}
	var b pgx.Batch
	b.Queue(`SELECT set_config('lock_timeout', '2s', true)`) // as on the steady pool
	b.Queue(lockRooms, c.rooms)
	b.Queue(storePostsCarefully, c.rooms, c.authors, c.clients, c.bodies, c.mentions, c.threads, c.aloud).Query(func(rows pgx.Rows) error {
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
	if err := r.commit(ctx, r.db, &b, c); err != nil {
		return err
	}
	r.sayArchived(ctx, batch)
	return nil
}

// tops remember where rooms end, as far as this node knows: a guess that PostgreSQL checks (see takeSeqs).
type tops struct {
	mu  sync.Mutex
	seq map[int64]int64
}

// mostTops bounds what is remembered; beyond it, all is forgotten and read again where it is needed.
const mostTops = 1 << 16

func (t *tops) of(batch []*post) (known map[int64]int64, missing []int64) {
	known = make(map[int64]int64, len(batch))
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, p := range batch {
		if _, done := known[p.room]; done {
			continue
		}
		seq, ok := t.seq[p.room]
		if known[p.room] = seq; !ok {
			missing = append(missing, p.room)
		}
	}
	return known, missing
}

func (t *tops) learn(seqs map[int64]int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.seq == nil || len(t.seq) > mostTops {
		t.seq = make(map[int64]int64, len(seqs))
	}
	maps.Copy(t.seq, seqs)
}

func (t *tops) forget(rooms ...int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, room := range rooms {
		delete(t.seq, room)
	}
}

// commitTimeout is how long a commit may take before its callers are told that it is unsure.
const commitTimeout = 15 * time.Second

func (r *Rooms) resolve(ctx context.Context, q pg.Queryer, batch []*post) error {
	var ords, starts []int32
	var roomIDs []int64
	var handles []string
	for i, p := range batch {
		p.mentions, p.called, p.here = nil, nil, false
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
	type place struct{ ord, start int32 }
	var at place
	var m named
	taken := map[place]bool{}
	_, err = pgx.ForEachRow(rows, []any{&at.ord, &at.start, &m.id, &m.handle}, func() error {
		p := batch[at.ord]
		taken[at] = true
		if p.mentions = addNamed(p.mentions, m); !slices.Contains(p.called, m.id) {
			p.called = append(p.called, m.id)
		}
		return nil
	})
	for i, p := range batch {
		for _, c := range p.calls { // the longest at each place comes first
			if at := (place{int32(i), int32(c.start)}); p.callsAll && account.CallsAll(c.handle) != "" && !taken[at] {
				taken[at] = true
				p.mentions = addNamed(p.mentions, named{handle: c.handle})
				if account.CallsAll(c.handle) == "here" {
					p.here = true
				} else {
					p.called = append(p.called, 0)
				}
			}
		}
	}
	return pg.Fault(err)
}

// mostHere bounds how many people "@here" calls.
const mostHere = 1000

// callHere calls those who are in the room, have a page of the house open and do not say that they are away, where a resolved post calls them.
func (r *Rooms) callHere(ctx context.Context, q pg.Queryer, batch []*post) error {
	type row struct{ ID int64 }
	rooms := map[int64][]row{}
	var online []int64
	for _, p := range batch {
		if !p.here {
			continue
		}
		here, known := rooms[p.room]
		if !known {
			if online == nil {
				online = r.online()
			}
			var err error
			if here, err = pg.All[row](ctx, q, `SELECT m.person_id FROM chat.member m JOIN account.person p ON p.id = m.person_id
				WHERE m.room_id = $1 AND m.person_id = ANY($2) AND p.away IS NULL LIMIT $3`, p.room, online, mostHere); err != nil {
				return err
			}
			rooms[p.room] = here
		}
		for _, one := range here {
			p.called = append(p.called, one.ID)
		}
	}
	return nil
}

func addNamed(list []named, m named) []named {
	for _, have := range list {
		if have == m {
			return list
		}
	}
	return append(list, m)
}
