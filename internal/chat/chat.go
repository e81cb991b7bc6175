// Package chat is the rooms: who is in them, what is said in them, what has been read, and the loops that deliver it.
//
// # The log
//
// A room is a log. Every change - a post, an edit, a deletion, somebody coming or going - takes the room's next seq in
// the transaction that makes it, under the lock of the room's row. From that follow the invariants that all else
// stands on (and that the torture test checks):
//
//   - the seqs of a room are without a gap from 1, or from where its log begins (see Trim), in the order of their commits;
//   - whoever has seen all up to seq n needs only Since(room, n), once or again, to be as one who saw everything;
//   - nobody is told of a change before it is committed, and losing the telling loses nothing: it is only a hint that
//     Since has more to give.
//
// Posts carry an id made by the client, unique per author and room, so that a retry is answered like the first try.
package chat

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"

	"howdah/internal/account"
	"howdah/internal/fault"
	"howdah/internal/pg"
)

// Kind is who can find a room: everybody, its members, two people, or who runs the house.
type Kind string

// The kinds of rooms.
const (
	Public  Kind = "public"
	Private Kind = "private"
	Direct  Kind = "direct"
	Ops     Kind = "ops" // one: where the house itself speaks (see OpsIn)
)

// Author is a person as a line in a room shows them.
type Author struct {
	ID           int64
	Handle, Name string
	Bot          bool `db:"-"` // a program's account; known of who says something, of members, and of who comes and goes
}

// Room is a room as one person sees it.
type Room struct {
	ID       int64
	Kind     Kind
	Name     string // "" for a direct room: Other names it
	Topic    string
	Seq      int64        // of its newest change
	Role     account.Role // mine in it; None when I am not a member
	Read     int64        // I have read all up to here
	Unread   int          // posts of others after Read that still stand, without replies in threads, at most CountLimit
	Mentions int          // those of them that name me
	Threads  int          // unread replies in the threads of it that I follow, at most CountLimit
	Members  int
	Other    *Author // direct rooms: who else is in it
	Archived bool

	Bell      Bell         // what I want to be told of in it
	MuteUntil *time.Time   // nil: it is not muted
	Bells     []ThreadBell // of its threads that are silent or muted for me
}

// CountLimit bounds what counting the unread can cost; a page shows "999+" at this number.
const CountLimit = 1000

// Message is a post as it now stands. A deleted one keeps its place and loses its words.
type Message struct {
	Seq      int64
	At       time.Time
	By       Author
	ClientID string
	Body     string   // Markdown; "" when deleted
	Mentions []string // the handles in Body that name somebody, and the words in it that call everybody (see account.CallsAll)
	Edited   bool
	Deleted  bool
	Alert    *Alert // nil: it tells of no incident
	Way      *Way   // nil: it tells of no way back

	Reactions []Reaction // oldest first; nil when deleted
	Thread    int64      // the message that it answers, the first of the thread; 0: none
	Aloud     bool       // a reply that stands in the room as well
	Replies   *Replies   // to it; nil: none
	Files     []File     // nil when deleted
	Pinned    *Pinning   // nil: it is not
	Cards     []Card     // of its links; nil when deleted
}

// quiet tells whether a message is a reply that does not stand in the page of its room.
func (m Message) quiet() bool { return m.Thread != 0 && !m.Aloud }

// EventKind is what changed.
type EventKind string

// The kinds of events, as chat.change and the live protocol name them.
const (
	Posted     EventKind = "post"
	Edited     EventKind = "edit"
	Deleted    EventKind = "delete"
	Joined     EventKind = "join"     // Person; By somebody else: was invited
	Left       EventKind = "leave"    // Person; By somebody else: was removed
	RoleSet    EventKind = "role"     // Person, Role
	Renamed    EventKind = "room"     // Name, Topic
	Answered   EventKind = "answer"   // somebody answered an alert
	Undeleted  EventKind = "restore"  // the message is back
	Restored   EventKind = "restored" // Count messages came back; Person: who had deleted them, nil: they came from a backup
	Wished     EventKind = "way"      // somebody wished something of a way back
	Reacted    EventKind = "react"    // Emoji is on the message or, unless On, off it
	PinChanged EventKind = "pin"      // the message is pinned or, unless On, no more
	Retained   EventKind = "retain"   // messages are kept for Count days; 0: for ever
	Trimmed    EventKind = "trim"     // what was before Before is gone
	ArchiveSet EventKind = "archive"  // the room is archived or, unless On, open again

	CardsChanged EventKind = "card" // what the links of the message lead to is known, or was taken away
)

// Event is one change in a room. Message is set for posts, edits, deletions, answers, reactions, pins, cards and what came back, and is the message as it was when the
// event was read: one that healed late shows the newest words. It is nil of a message that the room does not keep any more.
type Event struct {
	Room    int64
	Seq     int64
	At      time.Time
	By      Author
	Kind    EventKind
	Message *Message
	Person  *Author
	Role    account.Role
	Name    string
	Topic   string
	Count   int
	Emoji   string
	On      bool
	Before  int64
	Private bool  // Renamed: and it is private from now on
	Root    *Root // of the thread, where Message is a reply
}

// Rooms is the door to this package. It is safe for concurrent use. Close it when done.
type Rooms struct {
	db       *pg.Pool
	posts    *lane[*post]
	bringing gate // posts with files that are on their way to it
	reads    *lane[*read]
	live     *live
	tops     tops

	searching chan struct{}
	searchFor time.Duration // at most
	searchers struct {
		sync.Mutex
		n map[int64]int // searches of each person that are under way, or wait for their turn
	}
	grown     chan struct{} // there is more to index
	posted    chan struct{} // there is more to tell of; see Posted
	linked    chan struct{} // there are links to look up; see Linked
	stopIndex func()

	commits atomic.Int64
}

// Commits counts the transactions that have stored posts.
func (r *Rooms) Commits() int64 { return r.commits.Load() }

// Open starts the lanes and loops; they live until Close, and take values but no cancellation from ctx. steady is a
// pool opened with pg.Options.Steady: posts run on it. trouble (it may be nil) is told when the database goes away, with
// the reason, and with nil when it is back: once each time. It is also told, once, of a reminder that cannot be said (chat.not_reminded).
func Open(ctx context.Context, db, steady *pg.Pool, trouble func(error)) *Rooms {
	ctx = context.WithoutCancel(ctx)
	if trouble == nil {
		trouble = func(error) {}
	}
	r := &Rooms{db: db, grown: make(chan struct{}, 1), posted: make(chan struct{}, 1), linked: make(chan struct{}, 1), searching: make(chan struct{}, mostSearching), searchFor: searchFor}
	r.searchers.n = map[int64]int{}
	r.live = newLive(ctx, r, trouble)
	r.posts = newLane(func(batch []*post) { r.commitPosts(ctx, steady, batch) })
	r.reads = newLane(func(batch []*read) { r.commitReads(ctx, batch) })
	following, stop := context.WithCancel(ctx)
	var index sync.WaitGroup
	index.Go(func() { r.followIndex(following) })
	index.Go(func() { r.trimAll(following) })
	r.stopIndex = func() { stop(); index.Wait() }
	return r
}

// Close finishes what the lanes carry, ends the loops and returns. Listeners are not told: their door is.
func (r *Rooms) Close() {
	r.stopIndex()
	r.bringing.close()
	r.posts.close()
	r.reads.close()
	r.live.close()
}

// roomColumns are those of Room for the person $1; it wants chat.room r LEFT JOIN chat.member m.
//
// Counts are counted, not kept: a kept count has been wrong somewhere in every chat that keeps one, and counting to
// CountLimit along the primary key costs less than a write per member and post would.
const roomColumns = `
	r.id, r.kind, r.name, r.topic, r.seq, coalesce(m.role, ''), coalesce(m.read_seq, 0),
	CASE WHEN m.role IS NULL THEN 0 ELSE (SELECT count(*) FROM (
		SELECT FROM chat.message x WHERE x.room_id = r.id AND x.seq > m.read_seq AND x.author_id <> $1 AND x.deleted_at IS NULL AND ` + inRoom + ` LIMIT 1000) c) END::int,
	CASE WHEN m.role IS NULL THEN 0 ELSE (SELECT count(*) FROM (
		SELECT FROM (SELECT DISTINCT seq FROM chat.mention WHERE room_id = r.id AND person_id IN ($1, 0) AND seq > m.read_seq) n
		JOIN chat.message x ON x.room_id = r.id AND x.seq = n.seq
		WHERE x.author_id <> $1 AND x.deleted_at IS NULL AND ` + inRoom + ` LIMIT 1000) c) END::int,
	CASE WHEN m.role IS NULL THEN 0 ELSE ` + threadUnread + ` END::int,
	(SELECT count(*) FROM (SELECT FROM chat.member x WHERE x.room_id = r.id LIMIT 10000) c)::int,
	o.id, o.handle, o.name, r.archived_at IS NOT NULL,` + bellColumns

const roomTables = `
	LEFT JOIN chat.member m ON m.room_id = r.id AND m.person_id = $1
	LEFT JOIN account.person o ON r.kind = 'direct' AND o.id = CASE WHEN r.pair[1] = $1 THEN r.pair[2] ELSE r.pair[1] END`

func scanRoom(row pgx.CollectableRow) (Room, error) {
	var r Room
	var id *int64
	var handle, name *string
	err := row.Scan(&r.ID, &r.Kind, &r.Name, &r.Topic, &r.Seq, &r.Role, &r.Read, &r.Unread, &r.Mentions, &r.Threads, &r.Members, &id, &handle, &name, &r.Archived, &r.Bell, &r.MuteUntil, &r.Bells)
	if id != nil {
		r.Other = &Author{ID: *id, Handle: *handle, Name: *name}
	}
	return r, err
}

func rooms(ctx context.Context, q pg.Queryer, sql string, args ...any) ([]Room, error) {
	rows, err := q.Query(ctx, sql, args...)
	if err != nil {
		return nil, pg.Fault(err)
	}
	out, err := pgx.CollectRows(rows, scanRoom)
	return out, pg.Fault(err)
}

// Mine lists the rooms that me is a member of: named ones by name, then direct ones by the other's name.
func (r *Rooms) Mine(ctx context.Context, me account.Person) ([]Room, error) {
	found, err := rooms(ctx, r.db, `
		SELECT `+roomColumns+` FROM chat.room r `+roomTables+`
		WHERE m.role IS NOT NULL ORDER BY r.kind = 'direct', lower(coalesce(nullif(r.name, ''), o.name)), r.id`, me.ID)
	return slices.DeleteFunc(found, func(r Room) bool { return !May(Read, standing(me, r.Kind, r.Role)) }), err
}

// PublicRooms lists the rooms that everybody may join. A guest finds none: guests come in by invitation.
func (r *Rooms) PublicRooms(ctx context.Context, me account.Person) ([]Room, error) {
	if !me.Role.AtLeast(account.Member) {
		return nil, nil
	}
	return rooms(ctx, r.db, `
		SELECT `+roomColumns+` FROM chat.room r `+roomTables+`
		WHERE r.kind = 'public' AND r.archived_at IS NULL ORDER BY lower(r.name), r.id LIMIT 1000`, me.ID)
}

// Room is one room that me may read; NotFound for a room that is not there and for one that is not theirs to know of.
func (r *Rooms) Room(ctx context.Context, me account.Person, id int64) (Room, error) {
	found, err := rooms(ctx, r.db, `SELECT `+roomColumns+` FROM chat.room r `+roomTables+` WHERE r.id = $2`, me.ID, id)
	if err != nil {
		return Room{}, err
	}
	if len(found) == 0 || !May(Read, standing(me, found[0].Kind, found[0].Role)) {
		return Room{}, errNoRoom
	}
	return found[0], nil
}

// Name is what a room is called, for who has been invited into it and cannot see it yet.
func (r *Rooms) Name(ctx context.Context, room int64) (string, error) {
	type row struct{ Name string }
	found, _, err := pg.One[row](ctx, r.db, `SELECT name FROM chat.room WHERE id = $1`, room)
	return found.Name, err
}

var errNoRoom = fault.New(fault.NotFound, "chat.no_room")

// RoomMember is a line in a room's list of members.
type RoomMember struct {
	Author
	Role account.Role
	Here bool    // has a page of the house open, and does not say that they are away
	Away *string // says that they are away, and perhaps why; nil: does not
}

// Members lists who is in a room, by rank and name, at most 1000.
func (r *Rooms) Members(ctx context.Context, me account.Person, room int64) ([]RoomMember, error) {
	if err := r.may(ctx, r.db, Read, me, room); err != nil {
		return nil, err
	}
	type row struct {
		ID           int64
		Handle, Name string
		Role         account.Role
		Away         *string
		Bot          bool
	}
	found, err := pg.All[row](ctx, r.db, `
		SELECT p.id, p.handle, p.name, m.role, p.away, p.bot_of IS NOT NULL FROM chat.member m JOIN account.person p ON p.id = m.person_id
		WHERE m.room_id = $1
		ORDER BY array_position(ARRAY['owner','admin','member','guest'], m.role), lower(p.name), p.id LIMIT 1000`, room)
	out := make([]RoomMember, 0, len(found))
	ids := make([]int64, len(found))
	for i, m := range found {
		ids[i] = m.ID
	}
	here := r.Here(ids)
	for _, m := range found {
		out = append(out, RoomMember{Author: Author{m.ID, m.Handle, m.Name, m.Bot}, Role: m.Role, Here: here[m.ID] && m.Away == nil, Away: m.Away})
	}
	return out, err
}
