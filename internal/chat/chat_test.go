package chat

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"

	"howdah/internal/account"
	"howdah/internal/fault"
	"howdah/internal/pg"
	"howdah/internal/pg/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// house is a test's own house: a database, rooms over it, and people made by name.
type house struct {
	*Rooms
	t  testing.TB
	db *pgtest.DB
}

func newHouse(t testing.TB) *house {
	t.Helper()
	db := pgtest.New(t)
	h := &house{Rooms: Open(t.Context(), db.App, db.Steady, nil), t: t, db: db}
	t.Cleanup(h.Close)
	return h
}

func (h *house) person(handle string, role account.Role) account.Person {
	h.t.Helper()
	type row struct{ ID int64 }
	p, _, err := pg.One[row](h.t.Context(), h.db.App, `INSERT INTO account.person (handle, name, role, password_hash)
		VALUES ($1, $2, $3, 'x') RETURNING id`, handle, strings.ToTitle(handle), role)
	if err != nil {
		h.t.Fatal(err)
	}
	return account.Person{ID: p.ID, Handle: handle, Name: strings.ToTitle(handle), Role: role}
}

var ids = struct {
	sync.Mutex
	*rand.Rand
}{Rand: rand.New(rand.NewPCG(1, 2))}

func newID() string {
	ids.Lock()
	defer ids.Unlock()
	return fmt.Sprintf("%08x-%04x-4%03x-8%03x-%012x", ids.Uint32(), ids.Uint32N(1<<16), ids.Uint32N(1<<12), ids.Uint32N(1<<12), ids.Uint64N(1<<48))
}

func (h *house) room(owner account.Person, kind Kind, members ...account.Person) int64 {
	h.t.Helper()
	room, err := h.Create(h.t.Context(), owner, NewRoomDraft{Kind: kind, Name: "room " + newID(), ClientID: newID()})
	if err != nil {
		h.t.Fatal(err)
	}
	for _, m := range members {
		if err := h.Invite(h.t.Context(), owner, room.ID, m.ID); err != nil {
			h.t.Fatal(err)
		}
	}
	return room.ID
}

func (h *house) say(who account.Person, room int64, body string) int64 {
	h.t.Helper()
	receipt, err := h.Post(h.t.Context(), who, Draft{Room: room, ClientID: newID(), Body: body})
	if err != nil {
		h.t.Fatal(err)
	}
	return receipt.Seq
}

func (h *house) mine(who account.Person, room int64) Room {
	h.t.Helper()
	r, err := h.Room(h.t.Context(), who, room)
	if err != nil {
		h.t.Fatal(err)
	}
	return r
}

func (h *house) wantFault(err error, key string) {
	h.t.Helper()
	if !fault.HasKey(err, key) {
		h.t.Errorf("want fault %s, have %v", key, err)
	}
}

// wholeLog fails the test unless a room's log is 1, 2, 3 ... seq, and returns it.
func (h *house) wholeLog(who account.Person, room int64) []Event {
	h.t.Helper()
	var all []Event
	for {
		var last int64
		if len(all) > 0 {
			last = all[len(all)-1].Seq
		}
		events, err := h.Since(h.t.Context(), who, room, last, 7)
		if err != nil {
			h.t.Fatal(err)
		}
		if len(events) == 0 {
			break
		}
		all = append(all, events...)
	}
	for i, e := range all {
		if e.Seq != int64(i+1) {
			h.t.Fatalf("room %d: event %d has seq %d", room, i+1, e.Seq)
		}
	}
	if now := h.mine(who, room).Seq; now != int64(len(all)) {
		h.t.Fatalf("room %d: seq %d, but %d events", room, now, len(all))
	}
	return all
}

func TestPostsGetTheNextSeqAndARetryTheSameAnswer(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	ann, bob := h.person("ann", account.Member), h.person("bob", account.Member)
	room := h.room(ann, Public, bob)

	d := Draft{Room: room, ClientID: newID(), Body: "hello\r\nthere  "}
	first, err := h.Post(t.Context(), ann, d)
	if err != nil {
		t.Fatal(err)
	}
	again, err := h.Post(t.Context(), ann, d)
	if err != nil || again.Seq != first.Seq || !again.At.Equal(first.At) {
		t.Fatalf("first %v, again %v, %v", first, again, err)
	}
	farewell := Draft{Room: room, ClientID: newID(), Body: "bye"} // whose answer is lost, and then its author leaves
	said, err := h.Post(t.Context(), bob, farewell)
	if err != nil {
		t.Fatal(err)
	}
	if err := h.Leave(t.Context(), bob, room); err != nil {
		t.Fatal(err)
	}
	if again, err := h.Post(t.Context(), bob, farewell); err != nil || again.Seq != said.Seq {
		t.Errorf("first %v, again %v, %v", said, again, err)
	}
	_, err = h.Post(t.Context(), bob, Draft{Room: room, ClientID: newID(), Body: "one thing more"})
	h.wantFault(err, "chat.not_member")
	if err := h.Join(t.Context(), bob, room); err != nil {
		t.Fatal(err)
	}
	other, err := h.Post(t.Context(), bob, d) // the same id from somebody else is another post
	if err != nil || other.Seq != first.Seq+4 {
		t.Fatalf("bob: %v %v", other, err)
	}
	log := h.wholeLog(ann, room)
	if last := log[first.Seq-1]; last.Message.Body != "hello\nthere" || last.By.ID != ann.ID {
		t.Errorf("stored %+v", last.Message)
	}
}

func TestManyPostersOneOrder(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	ann := h.person("ann", account.Member)
	var rooms []int64
	for range 3 {
		rooms = append(rooms, h.room(ann, Private))
	}
	var all sync.WaitGroup
	for i := range 300 {
		all.Add(1)
		d := Draft{Room: rooms[i%3], ClientID: newID(), Body: fmt.Sprint("message ", i)}
		for range 1 + i%2 { // every other one twice at once
			all.Add(1)
			go func() {
				defer all.Done()
				if _, err := h.Post(t.Context(), ann, d); err != nil {
					t.Error(err)
				}
			}()
		}
		all.Done()
	}
	all.Wait()
	for _, room := range rooms {
		if n := len(h.wholeLog(ann, room)); n != 101 { // the posts, and ann's coming in
			t.Errorf("room %d has %d events", room, n)
		}
	}
}

// Each node guesses where a room ends. Guesses that another node, an edit or a stranger made wrong cost time and nothing else.
func TestTwoNodesAndAStrangerMakeOneLog(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	other := Open(t.Context(), h.db.App, h.db.Steady, nil)
	t.Cleanup(other.Close)
	ann, bob, eve := h.person("ann", account.Member), h.person("bob", account.Member), h.person("eve", account.Member)
	rooms := []int64{h.room(ann, Public, bob), h.room(ann, Public, bob), h.room(ann, Public, bob)}
	first := map[int64]int64{}
	for _, room := range rooms {
		first[room] = h.say(ann, room, "first")
	}
	const each = 40
	var all sync.WaitGroup
	for _, room := range rooms {
		for _, node := range []*Rooms{h.Rooms, other} {
			for _, who := range []account.Person{ann, bob} {
				all.Go(func() {
					for range each {
						if _, err := node.Post(t.Context(), who, Draft{Room: room, ClientID: newID(), Body: "hello @ann"}); err != nil {
							t.Error(err)
						}
					}
				})
			}
			all.Go(func() {
				for range each / 4 {
					_, err := node.Post(t.Context(), eve, Draft{Room: room, ClientID: newID(), Body: "let me in"})
					h.wantFault(err, "chat.not_member")
					if _, err := node.Edit(t.Context(), ann, Draft{Room: room, ClientID: newID(), Body: "first, " + newID()}, first[room]); err != nil {
						t.Error(err)
					}
				}
			})
		}
	}
	all.Wait()
	for _, room := range rooms {
		count := map[EventKind]int{}
		for _, e := range h.wholeLog(ann, room) {
			count[e.Kind]++
		}
		if count[Posted] != 1+4*each || count[Edited] != 2*(each/4) {
			t.Errorf("room %d: %v", room, count)
		}
		if r := h.mine(ann, room); r.Mentions != 2*each {
			t.Errorf("room %d: ann was called %d times", room, r.Mentions)
		}
	}
}

func TestBadPostsAreRefusedAloneWithAReason(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	ann, eve := h.person("ann", account.Member), h.person("eve", account.Member)
	room := h.room(ann, Private)
	for body, key := range map[string]string{
		" \n\t": "chat.empty", "a\x00b": "chat.not_text", "\xff": "chat.not_text", strings.Repeat("長", MaxBody/3+1): "chat.too_long",
	} {
		_, err := h.Post(t.Context(), ann, Draft{Room: room, ClientID: newID(), Body: body})
		h.wantFault(err, key)
	}
	for _, id := range []string{"", "1", "not-a-uuid-not-a-uuid-not-a-uuid-not", strings.Repeat("g", 36)} {
		_, err := h.Post(t.Context(), ann, Draft{Room: room, ClientID: id, Body: "x"})
		h.wantFault(err, "chat.client_id")
	}
	_, err := h.Post(t.Context(), eve, Draft{Room: room, ClientID: newID(), Body: "let me in"})
	h.wantFault(err, "chat.not_member")
	_, err = h.Post(t.Context(), ann, Draft{Room: 1 << 60, ClientID: newID(), Body: "nowhere"})
	h.wantFault(err, "chat.not_member")
	if len(h.wholeLog(ann, room)) != 1 {
		t.Error("something bad was stored")
	}
}

func TestEditAndDelete(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	ann, bob := h.person("ann", account.Member), h.person("bob", account.Member)
	room := h.room(ann, Public, bob)
	post := Draft{Room: room, ClientID: newID(), Body: "helo @ann"}
	posted, err := h.Post(t.Context(), bob, post)
	if err != nil {
		t.Fatal(err)
	}
	seq := posted.Seq
	if r := h.mine(ann, room); r.Unread != 1 || r.Mentions != 1 {
		t.Errorf("unread %d mentions %d", r.Unread, r.Mentions)
	}

	edit := Draft{Room: room, ClientID: newID(), Body: "hello"}
	first, err := h.Edit(t.Context(), bob, edit, seq)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := h.Edit(t.Context(), bob, edit, seq); err != nil || again.Seq != first.Seq {
		t.Errorf("retry of an edit: %v %v", again, err)
	}
	if again, err := h.Post(t.Context(), bob, post); err != nil || again.Seq != seq { // a retry that comes late calls nobody back
		t.Errorf("retry of the post: %v %v", again, err)
	}
	if r := h.mine(ann, room); r.Unread != 1 || r.Mentions != 0 {
		t.Errorf("after the edit: unread %d mentions %d", r.Unread, r.Mentions)
	}
	_, err = h.Edit(t.Context(), ann, Draft{Room: room, ClientID: newID(), Body: "mine"}, seq)
	h.wantFault(err, "chat.not_author")
	_, err = h.Edit(t.Context(), bob, Draft{Room: room, ClientID: newID(), Body: "x"}, 999)
	h.wantFault(err, "chat.no_message")
	_, err = h.Delete(t.Context(), bob, room, 1, newID()) // a change is no message
	h.wantFault(err, "chat.no_message")

	if _, err := h.Delete(t.Context(), ann, room, seq, newID()); err != nil { // ann owns the room
		t.Fatal(err)
	}
	_, err = h.Edit(t.Context(), bob, Draft{Room: room, ClientID: newID(), Body: "again"}, seq)
	h.wantFault(err, "chat.deleted")
	if receipt, err := h.Delete(t.Context(), bob, room, seq, newID()); err != nil || receipt.Seq != 0 {
		t.Errorf("deleting the deleted: %v %v", receipt, err)
	}
	log := h.wholeLog(ann, room)
	kinds := []EventKind{}
	for _, e := range log {
		kinds = append(kinds, e.Kind)
		if e.Message != nil && (e.Message.Body != "" || !e.Message.Deleted) {
			t.Errorf("words of a deleted message in %s: %+v", e.Kind, e.Message)
		}
	}
	if want := []EventKind{Joined, Joined, Posted, Edited, Deleted}; !slices.Equal(kinds, want) {
		t.Errorf("log %v, want %v", kinds, want)
	}
}

func TestMentionsFindTheLongestName(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	ann := h.person("ann", account.Member)
	ming, long := h.person("小明", account.Member), h.person("小明明", account.Member)
	anna, out := h.person("anna", account.Member), h.person("outsider", account.Member)
	room := h.room(ann, Public, ming, long, anna)
	seq := h.say(ann, room, "@小明你好，@小明明 也好。@Anna! @annabel @ann-x @ann_ mail me@anna.org, `@anna` @outsider @nobody @小明再見")
	page, err := h.History(t.Context(), ann, room, Cursor{Around: seq})
	if err != nil {
		t.Fatal(err)
	}
	have := page.Messages[len(page.Messages)-1].Mentions
	slices.Sort(have)
	if want := []string{"anna", "小明", "小明明"}; !slices.Equal(have, want) {
		t.Errorf("mentions %v, want %v", have, want)
	}
	for _, p := range []account.Person{ming, long, anna} {
		if r := h.mine(p, room); r.Mentions != 1 {
			t.Errorf("%s has %d mentions", p.Handle, r.Mentions)
		}
	}
	_ = out
}

func TestHistoryByCursor(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	ann := h.person("ann", account.Member)
	room := h.room(ann, Private)
	var seqs []int64
	for i := range 25 {
		seqs = append(seqs, h.say(ann, room, fmt.Sprint(i)))
	}
	read := func(c Cursor) Page {
		t.Helper()
		c.Limit = 10
		p, err := h.History(t.Context(), ann, room, c)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	check := func(what string, p Page, from, to int, earlier, later bool) {
		t.Helper()
		var have []int64
		for _, m := range p.Messages {
			have = append(have, m.Seq)
		}
		if !slices.Equal(have, seqs[from:to]) || p.Earlier != earlier || p.Later != later {
			t.Errorf("%s: %v earlier %v later %v", what, have, p.Earlier, p.Later)
		}
	}
	check("newest", read(Cursor{}), 15, 25, true, false)
	check("before", read(Cursor{Before: seqs[15]}), 5, 15, true, true)
	check("first", read(Cursor{Before: seqs[5]}), 0, 5, false, true)
	check("after", read(Cursor{After: seqs[4]}), 5, 15, true, true)
	check("last", read(Cursor{After: seqs[19]}), 20, 25, true, false)
	check("around", read(Cursor{Around: seqs[12]}), 7, 17, true, true)
	if _, err := h.History(t.Context(), ann, room, Cursor{Before: -1}); !fault.HasKey(err, "chat.cursor") {
		t.Error(err)
	}
}

func TestTheLastOwnerHandsOverFirst(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	ann, bob := h.person("ann", account.Member), h.person("bob", account.Member)
	room := h.room(ann, Private, bob)
	h.wantFault(h.Leave(t.Context(), ann, room), "chat.last_owner")
	h.wantFault(h.SetRole(t.Context(), ann, room, ann.ID, account.Member), "chat.last_owner")
	h.wantFault(h.SetRole(t.Context(), bob, room, bob.ID, account.Owner), "chat.may_not_role")
	if err := h.SetRole(t.Context(), ann, room, bob.ID, account.Owner); err != nil {
		t.Fatal(err)
	}
	if err := h.Leave(t.Context(), ann, room); err != nil {
		t.Fatal(err)
	}
	_, err := h.Room(t.Context(), ann, room)
	h.wantFault(err, "chat.no_room")
	if err := h.Leave(t.Context(), bob, room); err != nil { // nobody else is there
		t.Fatal(err)
	}
}

func TestDirectRoomIsOneForTwo(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	ann, bob, eve := h.person("ann", account.Owner), h.person("bob", account.Member), h.person("eve", account.Owner)
	var all sync.WaitGroup
	found := make([]int64, 8)
	for i := range found {
		all.Add(1)
		go func() {
			defer all.Done()
			me, other := ann, bob
			if i%2 == 1 {
				me, other = bob, ann
			}
			r, err := h.Direct(t.Context(), me, other.ID)
			if err != nil {
				t.Error(err)
				return
			}
			found[i] = r.ID
		}()
	}
	all.Wait()
	if slices.Max(found) != slices.Min(found) {
		t.Errorf("several direct rooms: %v", found)
	}
	room := found[0]
	if r := h.mine(bob, room); r.Other == nil || r.Other.ID != ann.ID || r.Members != 2 {
		t.Errorf("bob sees %+v", r)
	}
	_, err := h.Room(t.Context(), eve, room) // not even an owner of the house
	h.wantFault(err, "chat.no_room")
	h.wantFault(h.Invite(t.Context(), ann, room, eve.ID), "chat.may_not_invite")
	h.wantFault(h.Leave(t.Context(), ann, room), "chat.may_not_leave")
}

func TestCreateAgainFindsTheSameRoom(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	ann, bob, guest := h.person("ann", account.Member), h.person("bob", account.Member), h.person("gus", account.Guest)
	d := NewRoomDraft{Kind: Public, Name: "  the   Kitchen ", ClientID: newID()}
	first, err := h.Create(t.Context(), ann, d)
	if err != nil || first.Name != "the Kitchen" || first.Role != account.Owner {
		t.Fatal(first, err)
	}
	if again, err := h.Create(t.Context(), ann, d); err != nil || again.ID != first.ID {
		t.Errorf("%v %v", again, err)
	}
	_, err = h.Create(t.Context(), bob, NewRoomDraft{Kind: Public, Name: "the kitchen", ClientID: newID()})
	h.wantFault(err, "chat.name_taken")
	_, err = h.Create(t.Context(), guest, NewRoomDraft{Kind: Public, Name: "guests", ClientID: newID()})
	h.wantFault(err, "chat.may_not_new_room")
	if public, err := h.PublicRooms(t.Context(), bob); err != nil || len(public) != 1 {
		t.Error(public, err)
	}
	if public, err := h.PublicRooms(t.Context(), guest); err != nil || len(public) != 0 {
		t.Error(public, err)
	}
}

// TestCountsEqualARecount runs a random life of several rooms and compares every count with a plain recount.
func TestCountsEqualARecount(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	ctx := t.Context()
	random := rand.New(rand.NewPCG(7, 11))
	people := []account.Person{h.person("ann", account.Owner), h.person("bob", account.Member), h.person("cho", account.Member), h.person("小明", account.Guest)}
	rooms := []int64{h.room(people[0], Public, people...), h.room(people[1], Private, people...)}
	for range 400 {
		who, room := people[random.IntN(4)], rooms[random.IntN(2)]
		seq := 1 + random.Int64N(h.mine(people[random.IntN(2)], room).Seq+1)
		var err error
		switch random.IntN(8) {
		case 0, 1, 2:
			_, err = h.Post(ctx, who, Draft{Room: room, ClientID: newID(), Body: fmt.Sprintf("hi @%s and @%s", people[random.IntN(4)].Handle, people[random.IntN(4)].Handle)})
		case 3:
			_, err = h.Edit(ctx, who, Draft{Room: room, ClientID: newID(), Body: "now @" + people[random.IntN(4)].Handle}, seq)
		case 4:
			_, err = h.Delete(ctx, who, room, seq, newID())
		case 5, 6:
			_, err = h.MarkRead(ctx, who, room, seq)
		case 7:
			if random.IntN(2) == 0 && who.ID != people[0].ID && who.ID != people[1].ID {
				err = h.Leave(ctx, who, room)
			} else {
				err = h.Invite(ctx, people[1], room, who.ID)
			}
		}
		if err != nil && fault.Of(err).Code == fault.Internal {
			t.Fatal(err)
		}
	}
	for _, who := range people {
		mine, err := h.Mine(ctx, who)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range mine {
			unread, mentions := 0, 0
			for _, e := range h.wholeLog(who, r.ID) {
				if e.Kind == Posted && e.Seq > r.Read && !e.Message.Deleted && e.By.ID != who.ID {
					unread++
					if slices.Contains(e.Message.Mentions, who.Handle) {
						mentions++
					}
				}
			}
			if r.Unread != unread || r.Mentions != mentions {
				t.Errorf("%s in room %d: unread %d mentions %d, recounted %d %d", who.Handle, r.ID, r.Unread, r.Mentions, unread, mentions)
			}
		}
	}
}

func TestMarkReadNeverGoesBackNorAhead(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	ann, bob := h.person("ann", account.Member), h.person("bob", account.Member)
	room := h.room(ann, Public, bob)
	first := h.say(ann, room, "one")
	last := h.say(ann, room, "two")
	for _, step := range []struct{ seq, read int64 }{{first, first}, {1, first}, {1 << 50, last}, {first, last}} {
		r, err := h.MarkRead(t.Context(), bob, room, step.seq)
		if err != nil || r.Read != step.read {
			t.Errorf("read to %d: at %d, %v", step.seq, r.Read, err)
		}
	}
}

func TestTheApplicationRoleHasRowsAndNoDDL(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	for _, sql := range []string{`CREATE TABLE chat.x ()`, `DROP TABLE chat.message`, `ALTER TABLE chat.message ADD x int`, `CREATE SCHEMA x`,
		`CREATE TABLE public.x ()`, `CREATE ROLE x`, `TRUNCATE chat.message`} {
		err := pgx.BeginFunc(context.WithoutCancel(t.Context()), h.db.App, func(tx pgx.Tx) error {
			_, err := tx.Exec(t.Context(), sql)
			return err
		})
		if err == nil {
			t.Errorf("the application role may: %s", sql)
		}
	}
}

func TestARoomThatSomebodyLocksDoesNotStopTheOthers(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	ann := h.person("ann", account.Member)
	locked, open := h.room(ann, Private), h.room(ann, Private)
	tx, err := h.db.App.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), `SELECT FROM chat.room WHERE id = $1 FOR UPDATE`, locked); err != nil {
		t.Fatal(err)
	}
	stuck := make(chan error, 1)
	go func() {
		_, err := h.Post(t.Context(), ann, Draft{Room: locked, ClientID: newID(), Body: "into the locked room"})
		stuck <- err
	}()
	h.say(ann, open, "elsewhere")
	if err := <-stuck; !fault.Is(err, fault.Unavailable) {
		t.Errorf("want unavailable, have %v", err)
	}
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	h.say(ann, locked, "and again")
}

func TestABatchThatIsPartedAnswersEachPostForItself(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	ann, eve := h.person("ann", account.Member), h.person("eve", account.Member)
	open, locked := h.room(ann, Private), h.room(ann, Private)
	tx, err := h.db.App.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback(context.WithoutCancel(t.Context())) //nolint:errcheck // only lets go of the lock
	if _, err := tx.Exec(t.Context(), `SELECT FROM chat.room WHERE id = $1 FOR UPDATE`, locked); err != nil {
		t.Fatal(err)
	}
	var batch []*post
	var replies []*waiter
	put := func(who account.Person, room int64) *waiter {
		w := &waiter{stored: make(chan struct{})}
		id, err := clientID(newID())
		if err != nil {
			t.Fatal(err)
		}
		batch = append(batch, &post{postKey: postKey{room, who.ID, id}, by: author(who), body: "hello", replies: []Reply{w}})
		replies = append(replies, w)
		return w
	}
	stuck := []*waiter{put(ann, locked), put(ann, locked), put(ann, locked), put(eve, locked)}
	stranger, stored := put(eve, open), put(ann, open)
	h.tops.learn(map[int64]int64{open: 99}) // so that the whole batch is stored with care, too
	before := h.Commits()
	h.commitPosts(t.Context(), h.db.Steady, batch)
	for _, w := range replies {
		<-w.stored
	}
	for _, w := range stuck {
		h.wantFault(w.err, "pg.busy")
	}
	h.wantFault(stranger.err, "chat.not_member")
	if stored.err != nil || stored.receipt.Seq != 2 {
		t.Errorf("%+v %v", stored.receipt, stored.err)
	}
	if tries := h.Commits() - before; tries > 5 { // all and the open room by guess and with care, the locked room once: each try at a lock takes its time
		t.Errorf("tried %d times", tries)
	}
	h.wholeLog(ann, open)
}
