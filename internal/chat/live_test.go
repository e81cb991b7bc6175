package chat

import (
	"fmt"
	"slices"
	"sync"
	"testing"

	"howdah/internal/account"
	"howdah/internal/pg/pgtest"
)

// ear is a listener that remembers.
type ear struct {
	who account.Person

	mu      sync.Mutex
	seqs    map[int64][]int64
	gaps    int
	typing  []string
	here    []int64
	resets  []string
	away    []bool
	changed int
}

func newEar(who account.Person) *ear { return &ear{who: who, seqs: map[int64][]int64{}} }

func (e *ear) Person() account.Person { return e.who }

func (e *ear) Deliver(d *Delivery) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(d.Events) == 0 {
		e.gaps++
	}
	for _, event := range d.Events {
		e.seqs[d.Room] = append(e.seqs[d.Room], event.Seq)
	}
}

func (e *ear) Ephemeral(w *Whisper) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if w.Typing != nil {
		e.typing = append(e.typing, w.Typing.Handle)
	} else {
		e.here = slices.Sorted(slices.Values(w.Here))
	}
}

func (e *ear) RoomsChanged() { e.mu.Lock(); e.changed++; e.mu.Unlock() }

func (e *ear) Reset(epoch string) { e.mu.Lock(); e.resets = append(e.resets, epoch); e.mu.Unlock() }

func (e *ear) Away(why error) { e.mu.Lock(); e.away = append(e.away, why != nil); e.mu.Unlock() }

func (e *ear) heard(room int64) []int64 {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.seqs[room])
}

func (h *house) listen(who account.Person, room, since int64) *ear {
	h.t.Helper()
	e := newEar(who)
	if _, err := h.Listen(h.t.Context(), e); err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { h.Unlisten(e) })
	h.Follow(e, room, since)
	return e
}

// hearsAll waits until a listener has heard every seq from first to the room's last, once and in order.
func (h *house) hearsAll(e *ear, room, first int64) {
	h.t.Helper()
	last := h.mine(e.who, room).Seq
	pgtest.Await(h.t, fmt.Sprintf("%s hears %d to %d", e.who.Handle, first, last), func() bool { return int64(len(e.heard(room))) >= last-first+1 })
	for i, seq := range e.heard(room) {
		if seq != first+int64(i) {
			h.t.Fatalf("%s heard %v", e.who.Handle, e.heard(room))
		}
	}
}

func TestEveryListenerHearsEverySeqOnceFromWhereverItBegan(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	ann, bob := h.person("ann", account.Member), h.person("bob", account.Member)
	room := h.room(ann, Public, bob)
	early := h.listen(bob, room, 0)
	var talk sync.WaitGroup
	for i := range 4 {
		talk.Add(1)
		go func() {
			defer talk.Done()
			for j := range 60 {
				seq := h.say(ann, room, fmt.Sprint(i, " ", j))
				if j%10 == 9 {
					if _, err := h.Edit(t.Context(), ann, Draft{Room: room, ClientID: newID(), Body: "edited"}, seq); err != nil {
						t.Error(err)
					}
				}
			}
		}()
	}
	var others []*ear // they come while the talk goes on
	for range 20 {
		others = append(others, h.listen(bob, room, h.mine(bob, room).Seq/2))
	}
	talk.Wait()
	h.hearsAll(early, room, 1)
	for _, e := range others {
		if heard := e.heard(room); len(heard) > 0 {
			h.hearsAll(e, room, heard[0])
		}
	}
}

func TestALostTickLosesNothing(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	ann := h.person("ann", account.Member)
	room := h.room(ann, Public)
	e := h.listen(ann, room, 1)
	other := Open(t.Context(), h.db.App, h.db.Steady, nil) // another node: its ticks do not reach this one
	t.Cleanup(other.Close)
	if _, err := other.Post(t.Context(), ann, Draft{Room: room, ClientID: newID(), Body: "from afar"}); err != nil {
		t.Fatal(err)
	}
	h.Look() // the poll that would come by itself
	h.hearsAll(e, room, 2)
}

func TestWhoMissedTooMuchIsToldToLoadAnew(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	ann := h.person("ann", account.Member)
	room := h.room(ann, Public)
	h.db.Exec(t, fmt.Sprintf(`
		INSERT INTO chat.message (room_id, seq, author_id, client_id, at, body)
		SELECT %d, n, %d, gen_random_uuid(), now(), 'x' FROM generate_series(2, 1001) n;
		UPDATE chat.room SET seq = 1001 WHERE id = %d`, room, ann.ID, room))
	far, near := h.listen(ann, room, 10), h.listen(ann, room, 600)
	pgtest.Await(t, "a gap is told", func() bool { far.mu.Lock(); defer far.mu.Unlock(); return far.gaps == 1 })
	h.hearsAll(near, room, 601)
	h.say(ann, room, "on we go")
	pgtest.Await(t, "it follows from the newest on", func() bool { return slices.Equal(far.heard(room), []int64{1002}) })
}

func TestWhoIsRemovedHearsThatAndNothingAfter(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	ann, bob := h.person("ann", account.Member), h.person("bob", account.Member)
	room := h.room(ann, Private, bob)
	annHears, bobHears := h.listen(ann, room, 2), h.listen(bob, room, 2)
	h.say(ann, room, "hi")
	h.hearsAll(bobHears, room, 3)
	if err := h.Remove(t.Context(), ann, room, bob.ID); err != nil {
		t.Fatal(err)
	}
	h.say(ann, room, "between us")
	h.hearsAll(annHears, room, 3)
	h.say(ann, room, "and again")
	h.hearsAll(annHears, room, 3)
	if heard := bobHears.heard(room); !slices.Equal(heard, []int64{3, 4}) {
		t.Errorf("bob heard %v; 4 was his removal", heard)
	}
	// A window that looked at its rooms just before that, and comes to this one only now.
	late := h.listen(bob, room, 3)
	pgtest.Await(t, "bob's late window hears of it", func() bool { return len(late.heard(room)) > 0 })
	h.say(ann, room, "still between us")
	h.hearsAll(annHears, room, 3)
	if heard := late.heard(room); !slices.Equal(heard, []int64{4}) {
		t.Errorf("bob's late window heard %v; 4 was his removal", heard)
	}
	if err := h.Invite(t.Context(), ann, room, bob.ID); err != nil {
		t.Fatal(err)
	}
	h.say(ann, room, "welcome back")
	for _, e := range []*ear{bobHears, late} {
		pgtest.Await(t, "bob hears on from his return", func() bool { heard := e.heard(room); return slices.Equal(heard[len(heard)-2:], []int64{8, 9}) })
	}
	pgtest.Await(t, "bob's windows are told to look at their rooms", func() bool { bobHears.mu.Lock(); defer bobHears.mu.Unlock(); return bobHears.changed > 0 })
}

func TestTypingAndPresencePassAndAreNotWritten(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	ann, bob := h.person("ann", account.Member), h.person("bob", account.Member)
	room := h.room(ann, Public, bob)
	annHears, bobHears := h.listen(ann, room, 2), h.listen(bob, room, 2)
	h.View(annHears, room)
	here := func(e *ear) []int64 { e.mu.Lock(); defer e.mu.Unlock(); return e.here }
	pgtest.Await(t, "both are here", func() bool { return slices.Equal(here(annHears), []int64{ann.ID, bob.ID}) })
	h.Typing(bobHears, room)
	pgtest.Await(t, "ann sees bob typing", func() bool {
		annHears.mu.Lock()
		defer annHears.mu.Unlock()
		return slices.Equal(annHears.typing, []string{"bob"})
	})
	h.Unlisten(bobHears)
	pgtest.Await(t, "bob has gone", func() bool { return slices.Equal(here(annHears), []int64{ann.ID}) })
	if r := h.mine(ann, room); r.Seq != 2 {
		t.Errorf("something was written: seq %d", r.Seq)
	}
}

func TestARestoredDatabaseIsNoticed(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	ann := h.person("ann", account.Member)
	room := h.room(ann, Public)
	last := h.say(ann, room, "one")
	e := h.listen(ann, room, last)
	h.say(ann, room, "two, which will not have been")
	h.hearsAll(e, room, last+1)
	h.db.Exec(t, fmt.Sprintf(`DELETE FROM chat.message WHERE room_id = %d AND seq = %d; UPDATE chat.room SET seq = %d WHERE id = %d;
		UPDATE chat.epoch SET epoch = gen_random_uuid()`, room, last+1, last, room))
	h.Look()
	pgtest.Await(t, "reset", func() bool { e.mu.Lock(); defer e.mu.Unlock(); return len(e.resets) == 1 })
	h.say(ann, room, "another two")
	pgtest.Await(t, "the same seq with other words is delivered", func() bool { return slices.Equal(e.heard(room), []int64{last + 1, last + 1}) })
}

func TestADatabaseThatGoesAndComesIsTold(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	ann := h.person("ann", account.Member)
	room := h.room(ann, Public)
	e := h.listen(ann, room, 1)
	h.db.ExecElsewhere(t, `ALTER DATABASE `+h.db.Name+` ALLOW_CONNECTIONS false`)
	cut := `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '` + h.db.Name + `' AND usename = 'howdah_app'`
	away := func(want bool) func() bool {
		return func() bool {
			e.mu.Lock()
			defer e.mu.Unlock()
			return len(e.away) > 0 && e.away[len(e.away)-1] == want
		}
	}
	h.db.ExecElsewhere(t, cut)
	h.Look()
	pgtest.Await(t, "away", away(true))
	if _, err := h.Post(t.Context(), ann, Draft{Room: room, ClientID: newID(), Body: "lost?"}); err == nil {
		t.Error("a post was acknowledged without a database")
	}
	h.db.ExecElsewhere(t, `ALTER DATABASE `+h.db.Name+` ALLOW_CONNECTIONS true`)
	pgtest.Await(t, "back", away(false))
	h.say(ann, room, "found")
	h.hearsAll(e, room, 2)
}
