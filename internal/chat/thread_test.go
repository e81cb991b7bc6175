package chat

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"howdah/internal/account"
	"howdah/internal/pg"
)

// TestThreads: who replies, who is told, what stands in the room, and that all counts are what a recount of the log gives, after any workload.
func TestThreads(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	ctx := t.Context()
	ann, bob, eve, zoe := h.person("ann", account.Member), h.person("bob", account.Member), h.person("eve", account.Member), h.person("zoe", account.Member)
	room, private := h.room(ann, Public, bob, zoe), h.room(ann, Private, bob)
	reply := func(who account.Person, to int64, body string, aloud bool) int64 {
		t.Helper()
		got, err := h.Post(ctx, who, Draft{Room: room, ClientID: newID(), Body: body, Thread: to, Aloud: aloud})
		if err != nil {
			t.Fatal(err)
		}
		return got.Seq
	}
	counts := func(who account.Person) string {
		r := h.mine(who, room)
		return fmt.Sprint(r.Unread, r.Mentions, r.Threads)
	}
	read := func(who account.Person) {
		if _, err := h.MarkRead(ctx, who, room, h.mine(who, room).Seq); err != nil {
			t.Fatal(err)
		}
	}

	root := h.say(ann, room, "shall we?")
	beside := h.say(zoe, room, "something else")
	read(ann)
	read(bob)
	first := reply(bob, root, "yes", false)
	second := reply(bob, first, "a reply to a reply is in its thread", false)
	loud := reply(bob, root, "for all of you", true)
	// Ann began it, so she is told; in the room only the loud one counts; zoe hears nothing of the thread.
	if have := counts(ann); have != "1 0 2" {
		t.Errorf("ann has %s", have)
	}
	if have := counts(zoe); have != "2 0 0" {
		t.Errorf("zoe has %s", have)
	}
	page, err := h.History(ctx, bob, room, Cursor{})
	if err != nil || len(page.Messages) != 3 || page.Messages[0].Replies == nil || page.Messages[0].Replies.Count != 3 || page.Messages[0].Replies.Last != loud ||
		page.Messages[1].Seq != beside || page.Messages[1].Replies != nil || page.Messages[2].Seq != loud || page.Messages[2].Thread != root || !page.Messages[2].Aloud {
		t.Fatalf("%+v, %v", page.Messages, err)
	}
	// Who is called follows from there on.
	called := reply(bob, root, "what does @zoe say?", false)
	if have := counts(zoe); have != "2 0 1" {
		t.Errorf("zoe has %s", have)
	}
	// The log tells of replies with what there is in the thread and who follows it.
	events, err := h.Since(ctx, zoe, room, called-1, 0)
	if err != nil || len(events) != 1 || events[0].Root == nil || events[0].Root.Seq != root || events[0].Root.Replies.Count != 4 || len(events[0].Root.Followers) != 3 {
		t.Fatalf("%+v, %v", events, err)
	}
	// Reading a thread does not go back, and is no reading of the room.
	if r, err := h.ReadThread(ctx, ann, room, root, second); err != nil || r.Threads != 1 || r.Unread != 1 {
		t.Errorf("%+v, %v", r, err)
	}
	if r, err := h.ReadThread(ctx, ann, room, root, first); err != nil || r.Threads != 1 {
		t.Errorf("%+v, %v", r, err)
	}
	thread, err := h.Thread(ctx, ann, room, second, Cursor{Limit: 2})
	if err != nil || thread.Root.Seq != root || len(thread.Messages) != 2 || thread.Messages[1].Seq != called || !thread.Earlier || !thread.Following || thread.Read != second {
		t.Errorf("%+v, %v", thread, err)
	}
	if thread, err = h.Thread(ctx, ann, room, root, Cursor{Around: first, Limit: 2}); err != nil || len(thread.Messages) != 1 || thread.Messages[0].Seq != first || thread.Earlier {
		t.Errorf("%+v, %v", thread, err)
	}
	if list, err := h.Threads(ctx, ann); err != nil || len(list) != 1 || list[0].Root.Seq != root || list[0].Unread != 2 {
		t.Errorf("%+v, %v", list, err)
	}
	// Enough of it: nothing more is told, also when called again; and asked for again, it is from then on.
	if err := h.FollowThread(ctx, zoe, room, root, false); err != nil {
		t.Error(err)
	}
	reply(bob, root, "@zoe?", false)
	if have := counts(zoe); have != "2 0 0" {
		t.Errorf("zoe has %s", have)
	}
	if err := h.FollowThread(ctx, zoe, room, root, true); err != nil {
		t.Error(err)
	}
	// A reply that is deleted counts no more, and the log says how many are left.
	if have := counts(ann); have != "1 0 2" {
		t.Errorf("ann has %s", have)
	}
	if _, err := h.Delete(ctx, bob, room, called, newID()); err != nil {
		t.Error(err)
	}
	if have := counts(ann); have != "1 0 1" {
		t.Errorf("ann has %s", have)
	}
	if events, err = h.Since(ctx, ann, room, h.mine(ann, room).Seq-1, 0); err != nil || events[0].Kind != Deleted || events[0].Root == nil || events[0].Root.Replies.Count != 4 {
		t.Errorf("%+v, %v", events, err)
	}

	// Who may not, may not; and a refusal says nothing of what there is.
	refused := func(key string, who account.Person, d Draft) {
		t.Helper()
		d.ClientID, d.Body = newID(), "x"
		_, err := h.Post(ctx, who, d)
		h.wantFault(err, key)
	}
	secret := h.say(ann, private, "secret")
	refused("chat.no_message", bob, Draft{Room: room, Thread: 1})
	refused("chat.no_message", bob, Draft{Room: room, Thread: 1 << 40})
	refused("chat.not_member", eve, Draft{Room: room, Thread: root})
	refused("chat.not_member", eve, Draft{Room: private, Thread: secret})
	refused("chat.not_member", eve, Draft{Room: private, Thread: 1 << 40})
	refused("chat.aloud", bob, Draft{Room: room, Aloud: true})
	refused("chat.aloud", bob, Draft{Room: room, Thread: -1})
	_, err = h.Thread(ctx, eve, private, secret, Cursor{})
	h.wantFault(err, "chat.no_room")
	_, err = h.Thread(ctx, ann, private, 1<<40, Cursor{})
	h.wantFault(err, "chat.no_message")
	_, err = h.ReadThread(ctx, eve, private, secret, 1)
	h.wantFault(err, "chat.no_room")
	h.wantFault(h.FollowThread(ctx, eve, private, secret, true), "chat.no_room")
	h.wantFault(h.FollowThread(ctx, eve, room, root, true), "chat.not_member")
	h.wantFault(h.FollowThread(ctx, ann, room, first, true), "chat.no_message")

	// Any workload, with retries, from several at once in one lane.
	people := []account.Person{ann, bob, zoe}
	dice := rand.New(rand.NewPCG(3, 9))
	roots := []int64{root, beside}
	var all []int64
	for range 120 {
		who := people[dice.IntN(3)]
		switch dice.IntN(8) {
		case 0:
			all = append(all, h.say(who, room, "plain"))
		case 1:
			read(who)
		case 2:
			if _, err := h.ReadThread(ctx, who, room, roots[dice.IntN(2)], h.mine(who, room).Seq-int64(dice.IntN(5))); err != nil {
				t.Fatal(err)
			}
		case 3:
			if len(all) > 0 {
				if _, err := h.Delete(ctx, ann, room, all[dice.IntN(len(all))], newID()); err != nil {
					t.Fatal(err)
				}
			}
		case 4:
			if err := h.FollowThread(ctx, who, room, roots[dice.IntN(2)], dice.IntN(2) == 0); err != nil {
				t.Fatal(err)
			}
		default:
			d := Draft{Room: room, ClientID: newID(), Body: []string{"so", "@ann?", "@bob and @zoe"}[dice.IntN(3)], Thread: roots[dice.IntN(2)], Aloud: dice.IntN(4) == 0}
			got, err := h.Post(ctx, who, d)
			if err != nil {
				t.Fatal(err)
			}
			if again, err := h.Post(ctx, who, d); err != nil || again.Seq != got.Seq {
				t.Fatalf("%+v, %v", again, err)
			}
			all = append(all, got.Seq)
		}
	}
	// The recount: from the log and from what each has read.
	var posts []*Message
	last := map[int64]*Root{}
	for _, e := range h.wholeLog(ann, room) {
		if e.Kind == Posted {
			posts = append(posts, e.Message)
		}
		if e.Root != nil {
			last[e.Root.Seq] = e.Root
		}
	}
	type row struct {
		Thread, Read int64
		Following    bool
	}
	for _, who := range people {
		now := h.mine(who, room)
		follows, err := pg.All[row](ctx, h.db.App, `SELECT thread, read_seq AS read, following FROM chat.follow WHERE room_id = $1 AND person_id = $2`, room, who.ID)
		if err != nil {
			t.Fatal(err)
		}
		unread, mentions, threads := 0, 0, 0
		for _, m := range posts {
			switch {
			case m.Deleted || m.By.ID == who.ID:
			case m.quiet():
				if slices.ContainsFunc(follows, func(f row) bool { return f.Following && f.Thread == m.Thread && m.Seq > f.Read }) {
					threads++
				}
			case m.Seq > now.Read:
				unread++
				if slices.Contains(m.Mentions, who.Handle) {
					mentions++
				}
			}
		}
		if now.Unread != unread || now.Mentions != mentions || now.Threads != threads {
			t.Errorf("%s: %d %d %d, the log says %d %d %d", who.Handle, now.Unread, now.Mentions, now.Threads, unread, mentions, threads)
		}
	}
	for _, seq := range roots {
		stand := 0
		for _, m := range posts {
			if m.Thread == seq && !m.Deleted {
				stand++
			}
		}
		thread, err := h.Thread(ctx, ann, room, seq, Cursor{Limit: 100})
		if err != nil || thread.Root.Replies.Count != stand || len(thread.Messages) != stand || last[seq].Replies.Count != stand {
			t.Errorf("%d: %+v, %d replies, %v; the log says %d", seq, thread.Root.Replies, len(thread.Messages), err, stand)
		}
	}
}

// TestWordsThatCallEverybody: who is told by @room and @here, who may say it, and that what is quoted calls nobody again.
func TestWordsThatCallEverybody(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	ctx := t.Context()
	ann, bob, guest, out := h.person("ann", account.Member), h.person("bob", account.Member), h.person("guest", account.Guest), h.person("out", account.Member)
	room := h.room(ann, Public, bob, guest)
	mentions := func(who account.Person) int { return h.mine(who, room).Mentions }
	body := func(seq int64) Message {
		page, err := h.History(ctx, ann, room, Cursor{Around: seq, Limit: 1})
		if err != nil || len(page.Messages) != 1 {
			t.Fatal(page, err)
		}
		return page.Messages[0]
	}
	seq := h.say(ann, room, "@room and @bob, lunch!")
	if m := body(seq).Mentions; mentions(bob) != 1 || mentions(guest) != 1 || mentions(ann) != 0 || len(m) != 2 {
		t.Errorf("%d %d %d %v", mentions(bob), mentions(guest), mentions(ann), m)
	}
	// Guests call by name; code and quotations call nobody; Chinese needs no blank.
	for _, quiet := range []string{"`@room`", "> @room said ann\n> @bob\n\nyes", "rooms@room.example"} {
		h.say(ann, room, quiet)
	}
	h.say(guest, room, "@room hey")
	if mentions(bob) != 1 {
		t.Errorf("bob has %d", mentions(bob))
	}
	seq = h.say(ann, room, "@所有人吃飯了")
	if m := body(seq).Mentions; mentions(bob) != 2 || len(m) != 1 || m[0] != "所有人" {
		t.Errorf("%d %v", mentions(bob), m)
	}
	// Only who is here, and in the room.
	ear := &silent{who: bob}
	if _, err := h.Listen(ctx, ear); err != nil {
		t.Fatal(err)
	}
	defer h.Unlisten(ear)
	other := &silent{who: out}
	if _, err := h.Listen(ctx, other); err != nil {
		t.Fatal(err)
	}
	defer h.Unlisten(other)
	seq = h.say(ann, room, "@here?")
	if mentions(bob) != 3 || mentions(guest) != 2 || h.mine(out, room).Mentions != 0 {
		t.Errorf("%d %d", mentions(bob), mentions(guest))
	}
	// Other words to those who were here call nobody who is here since, and still those who have gone.
	h.Unlisten(ear)
	late := &silent{who: guest}
	if _, err := h.Listen(ctx, late); err != nil {
		t.Fatal(err)
	}
	defer h.Unlisten(late)
	if _, err := h.Edit(ctx, ann, Draft{Room: room, ClientID: newID(), Body: "@在線, lunch?"}, seq); err != nil {
		t.Fatal(err)
	}
	if mentions(bob) != 3 || mentions(guest) != 2 {
		t.Errorf("%d %d", mentions(bob), mentions(guest))
	}
	// An edit takes it back.
	if _, err := h.Edit(ctx, ann, Draft{Room: room, ClientID: newID(), Body: "never mind"}, seq); err != nil {
		t.Fatal(err)
	}
	if mentions(bob) != 2 {
		t.Errorf("bob has %d", mentions(bob))
	}
	// Who bears the name is called by it, and nobody else.
	all := h.person("here", account.Member)
	if err := h.Join(ctx, all, room); err != nil {
		t.Fatal(err)
	}
	h.say(ann, room, "@here is a person")
	if mentions(bob) != 2 || mentions(all) != 1 {
		t.Errorf("%d %d", mentions(bob), mentions(all))
	}
}

type silent struct{ who account.Person }

func (*silent) Deliver(*Delivery)        {}
func (*silent) Ephemeral(*Whisper)       {}
func (*silent) RoomsChanged()            {}
func (*silent) Reset(string)             {}
func (*silent) Away(error)               {}
func (s *silent) Person() account.Person { return s.who }

// TestEditsAreKeptAndDeletionsUndone: everybody who reads sees what was said before; who deleted takes it back, for a while.
func TestEditsAreKeptAndDeletionsUndone(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	ctx := t.Context()
	ann, bob, eve := h.person("ann", account.Member), h.person("bob", account.Member), h.person("eve", account.Member)
	room := h.room(ann, Private, bob)
	seq := h.say(bob, room, "one")
	if v, err := h.Edits(ctx, ann, room, seq); err != nil || len(v) != 1 || v[0].Body != "one" {
		t.Errorf("%+v, %v", v, err)
	}
	for _, words := range []string{"two", "three"} {
		if _, err := h.Edit(ctx, bob, Draft{Room: room, ClientID: newID(), Body: words}, seq); err != nil {
			t.Fatal(err)
		}
	}
	v, err := h.Edits(ctx, ann, room, seq)
	if err != nil || len(v) != 3 || v[0].Body != "one" || v[1].Body != "two" || v[2].Body != "three" || !v[1].At.After(v[0].At) || !v[2].At.After(v[1].At) {
		t.Errorf("%+v, %v", v, err)
	}
	// A long one is given as far as it is not too much, from the newest back.
	long := h.say(bob, room, "short")
	for i := range 24 {
		if _, err := h.Edit(ctx, bob, Draft{Room: room, ClientID: newID(), Body: fmt.Sprint(i, strings.Repeat("x", 47000))}, long); err != nil {
			t.Fatal(err)
		}
	}
	v, err = h.Edits(ctx, ann, room, long)
	if want := mostVersionBytes / 47000; err != nil || len(v) != want+1 || !strings.HasPrefix(v[want].Body, "23x") || !strings.HasPrefix(v[0].Body, fmt.Sprint(23-want, "x")) || !v[0].At.Before(v[1].At) {
		t.Errorf("%d versions, %v", len(v), err)
	}
	_, err = h.Edits(ctx, eve, room, seq)
	h.wantFault(err, "chat.no_room")
	_, err = h.Edits(ctx, ann, room, 1)
	h.wantFault(err, "chat.no_message")

	if again, err := h.Restore(ctx, bob, room, seq, newID()); err != nil || again.Seq != 0 {
		t.Errorf("%+v, %v", again, err)
	}
	if _, err := h.Delete(ctx, bob, room, seq, newID()); err != nil {
		t.Fatal(err)
	}
	_, err = h.Edits(ctx, ann, room, seq)
	h.wantFault(err, "chat.deleted")
	_, err = h.Restore(ctx, ann, room, seq, newID())
	h.wantFault(err, "chat.not_deleter")
	_, err = h.Restore(ctx, eve, room, seq, newID())
	h.wantFault(err, "chat.no_room")
	client := newID()
	back, err := h.Restore(ctx, bob, room, seq, client)
	if err != nil || back.Seq == 0 {
		t.Fatal(back, err)
	}
	if again, err := h.Restore(ctx, bob, room, seq, client); err != nil || again.Seq != back.Seq {
		t.Errorf("%+v, %v", again, err)
	}
	log := h.wholeLog(ann, room)
	if last := log[len(log)-1]; last.Kind != Undeleted || last.Message.Body != "three" || last.Message.Deleted {
		t.Errorf("%+v", last)
	}
	// What was deleted long ago, and what somebody else deleted since, is not theirs to bring back.
	if _, err := h.Delete(ctx, bob, room, seq, newID()); err != nil {
		t.Fatal(err)
	}
	if _, err := h.db.App.Exec(ctx, `UPDATE chat.change SET at = at - interval '1 day' WHERE room_id = $1 AND kind = 'delete'`, room); err != nil {
		t.Fatal(err)
	}
	_, err = h.Restore(ctx, bob, room, seq, newID())
	h.wantFault(err, "chat.undo_over")
}
