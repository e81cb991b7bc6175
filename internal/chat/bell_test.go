package chat

import (
	"testing"
	"time"

	"howdah/internal/account"
)

func TestBellsAreMineAndEndWithMyMembership(t *testing.T) {
	h := newHouse(t)
	ada, wei := h.person("ada", account.Member), h.person("wei", account.Member)
	room := h.room(ada, Public, wei)
	until := time.Now().Add(time.Hour).Truncate(time.Microsecond)
	r, err := h.SetBell(t.Context(), wei, room, BellNothing, &until)
	if err != nil || r.Bell != BellNothing || r.MuteUntil == nil || !r.MuteUntil.Equal(until) {
		t.Fatalf("%+v %v", r, err)
	}
	if r := h.mine(ada, room); r.Bell != BellUnset || r.MuteUntil != nil {
		t.Errorf("another's bell is mine: %+v", r)
	}
	past := time.Now().Add(-time.Second)
	if r, err = h.SetBell(t.Context(), wei, room, BellAll, &past); err != nil || r.Bell != BellAll || r.MuteUntil != nil {
		t.Errorf("%+v %v", r, err)
	}
	_, err = h.SetBell(t.Context(), wei, room, "loud", nil)
	h.wantFault(err, "chat.bell")
	far := time.Now().AddDate(2, 0, 0)
	_, err = h.SetBell(t.Context(), wei, room, BellAll, &far)
	h.wantFault(err, "chat.mute_far")

	// A thread: to follow it is to be told of all of it.
	root := h.say(ada, room, "shall we?")
	if r, err = h.SetThreadBell(t.Context(), wei, room, root, BellAll, nil); err != nil || r.Bells != nil {
		t.Fatalf("%+v %v", r, err)
	}
	if _, err := h.Post(t.Context(), ada, Draft{Room: room, ClientID: newID(), Body: "yes", Thread: root}); err != nil {
		t.Fatal(err)
	}
	if r := h.mine(wei, room); r.Threads != 1 {
		t.Errorf("%d unread in threads", r.Threads)
	}
	if r, err = h.SetThreadBell(t.Context(), wei, room, root, BellNothing, nil); err != nil || len(r.Bells) != 1 || !r.Bells[0].Silent || r.Threads != 0 {
		t.Fatalf("%+v %v", r, err)
	}
	thread, err := h.Thread(t.Context(), wei, room, root, Cursor{})
	if err != nil || thread.Following || !thread.Silent {
		t.Errorf("%+v %v", thread, err)
	}
	if r, err = h.SetThreadBell(t.Context(), wei, room, root, BellAll, &until); err != nil || len(r.Bells) != 1 || r.Bells[0].Silent || !r.Bells[0].MuteUntil.Equal(until) {
		t.Fatalf("%+v %v", r, err)
	}
	_, err = h.SetThreadBell(t.Context(), wei, room, root+1000, BellAll, nil)
	h.wantFault(err, "chat.no_message")

	// Who is not in a room has no bell there, and who left and comes back begins anew.
	other := h.room(ada, Private)
	_, err = h.SetBell(t.Context(), wei, other, BellAll, nil)
	h.wantFault(err, "chat.no_room")
	if err := h.Leave(t.Context(), wei, room); err != nil {
		t.Fatal(err)
	}
	_, err = h.SetBell(t.Context(), wei, room, BellAll, nil)
	h.wantFault(err, "chat.not_member")
	_, err = h.SetThreadBell(t.Context(), wei, room, root, BellAll, nil)
	h.wantFault(err, "chat.not_member")
	if err := h.Join(t.Context(), wei, room); err != nil {
		t.Fatal(err)
	}
	if r := h.mine(wei, room); r.Bell != BellUnset {
		t.Errorf("%+v", r)
	}
}
