package chat

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"howdah/internal/account"
)

func TestPinsAreTheRoomsAndWhatIsSavedIsOnesOwn(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	ctx := t.Context()
	ann, bob, gus, eve := h.person("ann", account.Member), h.person("bob", account.Member), h.person("gus", account.Guest), h.person("eve", account.Member)
	room := h.room(ann, Private, bob, gus)
	first, second := h.say(ann, room, "first"), h.say(bob, room, "second")
	pin := func(who account.Person, seq int64, on bool) Receipt {
		t.Helper()
		got, err := h.Pin(ctx, who, room, seq, on, newID())
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	pinned := func() (seqs []int64) {
		t.Helper()
		list, err := h.Pins(ctx, gus, room)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range list {
			seqs = append(seqs, m.Seq)
		}
		return seqs
	}
	pin(bob, second, true)
	pin(ann, first, true)
	if again := pin(bob, first, true); again.Seq != 0 {
		t.Error("what is pinned was pinned again")
	}
	if have := pinned(); !slices.Equal(have, []int64{first, second}) {
		t.Error(have)
	}
	m, err := h.Message(ctx, gus, room, first)
	if err != nil || m.Pinned == nil || m.Pinned.By.ID != ann.ID || time.Since(m.Pinned.At) > time.Hour {
		t.Errorf("%+v %v", m.Pinned, err)
	}
	_, err = h.Pin(ctx, gus, room, first, false, newID())
	h.wantFault(err, "chat.may_not_pin")
	_, err = h.Pin(ctx, eve, room, first, false, newID())
	h.wantFault(err, "chat.no_room")
	_, err = h.Pin(ctx, ann, room, 999, true, newID())
	h.wantFault(err, "chat.no_message")
	if _, err := h.Delete(ctx, ann, room, first, newID()); err != nil {
		t.Fatal(err)
	}
	if have := pinned(); !slices.Equal(have, []int64{second}) {
		t.Error(have)
	}
	_, err = h.Pin(ctx, bob, room, first, true, newID())
	h.wantFault(err, "chat.deleted")
	if _, err := h.Restore(ctx, ann, room, first, newID()); err != nil {
		t.Fatal(err)
	}
	pin(bob, second, false)
	if have := pinned(); !slices.Equal(have, []int64{first}) {
		t.Error(have)
	}
	if _, err := h.db.App.Exec(ctx, `INSERT INTO chat.message (room_id, seq, author_id, client_id, at, body) SELECT $1, 1000 + n, $2, gen_random_uuid(), now(), 'x' FROM generate_series(1, $3) n`, room, ann.ID, mostPins); err != nil {
		t.Fatal(err)
	}
	if _, err := h.db.App.Exec(ctx, `INSERT INTO chat.pin (room_id, message_seq, seq, person_id, at) SELECT $1, 1000 + n, 1000 + n, $2, now() FROM generate_series(1, $3) n`, room, ann.ID, mostPins); err != nil {
		t.Fatal(err)
	}
	_, err = h.Pin(ctx, bob, room, second, true, newID())
	h.wantFault(err, "chat.pins_full")
	if _, err := h.db.App.Exec(ctx, `DELETE FROM chat.message WHERE room_id = $1 AND seq > 1000`, room); err != nil {
		t.Fatal(err)
	}
	on := 0
	for _, e := range h.wholeLog(gus, room) {
		if e.Kind == PinChanged {
			if e.Message == nil {
				t.Errorf("%+v", e)
			}
			if e.On {
				on++
			} else {
				on--
			}
		}
	}
	if on != 1 {
		t.Errorf("%d pins by the log", on)
	}

	// Saved: mine alone, gone from sight with the right to read, and back with it.
	saved := func(who account.Person) (bodies []string) {
		t.Helper()
		list, _, err := h.Saved(ctx, who, time.Time{})
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range list {
			bodies = append(bodies, s.Message.Body)
		}
		return bodies
	}
	for _, seq := range []int64{first, second, second} {
		if err := h.Save(ctx, bob, room, seq, true); err != nil {
			t.Fatal(err)
		}
	}
	h.wantFault(h.Save(ctx, eve, room, first, true), "chat.no_room")
	h.wantFault(h.Save(ctx, bob, room, 999, true), "chat.no_message")
	if have := saved(bob); !slices.Equal(have, []string{"second", "first"}) || len(saved(ann)) != 0 {
		t.Error(have)
	}
	if have, err := h.SavedIn(ctx, bob, room); err != nil || !slices.Equal(have, []int64{first, second}) {
		t.Error(have, err)
	}
	if err := h.Remove(ctx, ann, room, bob.ID); err != nil {
		t.Fatal(err)
	}
	if have := saved(bob); len(have) != 0 {
		t.Errorf("somebody outside sees %q", have)
	}
	if err := h.Save(ctx, bob, room, second, false); err != nil {
		t.Fatal(err)
	}
	if err := h.Invite(ctx, ann, room, bob.ID); err != nil {
		t.Fatal(err)
	}
	if have := saved(bob); !slices.Equal(have, []string{"first"}) {
		t.Error(have)
	}
}

func TestADraftIsTheLastThatWasWrittenAndNoneOnceItIsSent(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	ctx := t.Context()
	ann, eve := h.person("ann", account.Member), h.person("eve", account.Member)
	room := h.room(ann, Private)
	now := time.Now().UnixMilli()
	id, other := newID(), newID()
	keep := func(d Unsent, want string, changes bool) Unsent {
		t.Helper()
		d.Room = room
		got, changed, err := h.KeepDraft(ctx, ann, d)
		if err != nil || got.Body != want || changed != changes {
			t.Errorf("%+v, %t, %v, want %q", got, changed, err, want)
		}
		return got
	}
	keep(Unsent{ClientID: id, Version: now, Body: "hel"}, "hel", true)
	keep(Unsent{ClientID: id, Version: now + 2, Body: "hello"}, "hello", true)
	keep(Unsent{ClientID: id, Version: now + 2, Body: "hello"}, "hello", false) // a retry
	keep(Unsent{ClientID: id, Version: now + 1, Body: "hell"}, "hello", false)  // late
	keep(Unsent{ClientID: other, Version: now + 3, Thread: 7, Body: " \n"}, "", true)
	// A clock that is years ahead does not win for years.
	fast := keep(Unsent{ClientID: id, Version: now + 1e12, Body: "from the future"}, "from the future", true)
	if fast.Version > time.Now().UnixMilli()+1000 {
		t.Errorf("%d, now it is %d", fast.Version, time.Now().UnixMilli())
	}
	keep(Unsent{ClientID: id, Version: fast.Version + 1, Body: "and back"}, "and back", true)
	list, err := h.Drafts(ctx, ann, 0)
	if err != nil || len(list) != 2 {
		t.Error(list, err)
	}
	if list, err := h.Drafts(ctx, eve, room); err != nil || len(list) != 0 {
		t.Error(list, err)
	}
	_, _, err = h.KeepDraft(ctx, eve, Unsent{Room: room, ClientID: id, Version: now, Body: "x"})
	h.wantFault(err, "chat.no_room")
	_, _, err = h.KeepDraft(ctx, ann, Unsent{Room: room, ClientID: id, Body: "x"})
	h.wantFault(err, "chat.draft_version")
	_, _, err = h.KeepDraft(ctx, ann, Unsent{Room: room, ClientID: "x", Version: now})
	h.wantFault(err, "chat.client_id")

	// It was sent, and the device died before it could say so.
	if _, err := h.Post(ctx, ann, Draft{Room: room, ClientID: id, Body: "and back"}); err != nil {
		t.Fatal(err)
	}
	list, err = h.Drafts(ctx, ann, room)
	if err != nil || len(list) != 2 || fmt.Sprint(list[0].Body, list[1].Body) != "" {
		t.Error(list, err)
	}
	keep(Unsent{ClientID: id, Version: fast.Version + 2, Body: "and back agai"}, "", true) // words of before, still on their way
	if _, err := h.db.App.Exec(ctx, `INSERT INTO chat.draft (person_id, room_id, thread, client_id, version, body, at)
		SELECT $1, $2, 100 + n, gen_random_uuid(), 1, 'x', now() - interval '1 day' FROM generate_series(1, $3) n`, ann.ID, room, mostDrafts); err != nil {
		t.Fatal(err)
	}
	keep(Unsent{ClientID: other, Version: now, Thread: 9, Body: "new"}, "new", true)
	if list, err = h.Drafts(ctx, ann, 0); err != nil || len(list) != mostDrafts || list[0].Body != "new" {
		t.Error(len(list), err)
	}
}
