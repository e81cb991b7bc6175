package chat

import (
	"testing"

	"howdah/internal/account"
)

func TestAnArchivedRoomIsReadAndNobodySpeaksInIt(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	ctx := t.Context()
	ann, bob, eve, boss := h.person("ann", account.Member), h.person("bob", account.Member), h.person("eve", account.Member), h.person("boss", account.Admin)
	room, other := h.room(ann, Public, bob), h.room(ann, Public, bob)
	said := Draft{Room: room, ClientID: newID(), Body: "before"}
	first, err := h.Post(ctx, bob, said)
	if err != nil {
		t.Fatal(err)
	}
	h.wantFault(h.Archive(ctx, bob, room, true), "chat.may_not_archive")
	for range 2 { // again is success, and no change
		if err := h.Archive(ctx, boss, room, true); err != nil {
			t.Fatal(err)
		}
	}
	for _, who := range []account.Person{ann, bob} { // the guess, and then with care
		_, err = h.Post(ctx, who, Draft{Room: room, ClientID: newID(), Body: "after"})
		h.wantFault(err, "chat.archived")
	}
	h.say(bob, other, "elsewhere all goes on")
	if again, err := h.Post(ctx, bob, said); err == nil && again.Seq != first.Seq {
		t.Error("a retry was stored again:", again)
	}
	_, err = h.Edit(ctx, bob, Draft{Room: room, ClientID: newID(), Body: "other words"}, first.Seq)
	h.wantFault(err, "chat.archived")
	h.wantFault(h.Join(ctx, eve, room), "chat.archived")
	if page, err := h.History(ctx, eve, room, Cursor{}); err != nil || len(page.Messages) != 1 {
		t.Error(page, err)
	}
	if r := h.mine(bob, room); !r.Archived {
		t.Errorf("%+v", r)
	}
	if list, err := h.PublicRooms(ctx, eve); err != nil || len(list) != 1 {
		t.Error(list, err)
	}
	if err := h.Archive(ctx, ann, room, false); err != nil {
		t.Fatal(err)
	}
	h.say(bob, room, "and on")

	h.wantFault(h.MakePrivate(ctx, bob, room), "chat.may_not_archive")
	if err := h.MakePrivate(ctx, ann, room); err != nil {
		t.Fatal(err)
	}
	_, err = h.History(ctx, eve, room, Cursor{})
	h.wantFault(err, "chat.no_room")
	h.say(bob, room, "among us")
	events := h.wholeLogFrom(ann, room)
	n := map[EventKind]int{}
	for _, e := range events {
		n[e.Kind]++
		if e.Kind == Renamed && !e.Private {
			t.Errorf("%+v", e)
		}
	}
	if n[ArchiveSet] != 2 || n[Renamed] != 1 || n[Posted] != 3 {
		t.Error(n)
	}
}
