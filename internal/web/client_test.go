package web

import (
	"errors"
	"fmt"
	"testing"

	api "howdah/client"
	"howdah/internal/account"
	"howdah/internal/chat"
)

// TestTheClientFollowsARoom through broken connections, in order and without a gap.
func TestTheClientFollowsARoom(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	owner := h.owner()
	bob := h.newcomer(owner, "bob", account.Member, nil)
	id := owner.must("POST", "/rooms", answer{"client_id": chat.NewID(), "kind": "private", "name": "Builds"}).num("id")
	owner.must("PUT", fmt.Sprintf("/rooms/%d/members/%d", id, bob.id), answer{})
	speaker, listener := api.New(h.url, owner.token), api.New(h.url, bob.token)
	if me, err := listener.Me(t.Context()); err != nil || me.Handle != "bob" || me.Bot {
		t.Error(me, err)
	}
	room, err := listener.FindRoom(t.Context(), "#builds")
	if err != nil || room.ID != id {
		t.Fatal(room, err)
	}
	if _, err := listener.FindRoom(t.Context(), "nowhere"); !api.IsCode(err, "not_found") {
		t.Error(err)
	}
	const all = 30
	heard, done := make(chan api.Event, 100), make(chan error, 1)
	enough := errors.New("enough")
	go func() {
		n := 0
		done <- listener.Follow(t.Context(), id, room.Seq, func(e api.Event) error {
			heard <- e
			if e.Kind == "post" {
				n++
			}
			if n == all {
				return enough
			}
			return nil
		})
	}()
	draft := api.Draft{Room: id, Body: "message 1", ClientID: api.NewID()}
	first, err := speaker.Post(t.Context(), draft)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := speaker.Post(t.Context(), draft); err != nil || again.Seq != first.Seq {
		t.Error(again, err)
	}
	<-heard // it listens
	for i := 2; i <= all; i++ {
		if _, err := speaker.Post(t.Context(), api.Draft{Room: id, Body: fmt.Sprint("message ", i)}); err != nil {
			t.Fatal(err)
		}
		if i%10 == 0 { // its connection ends
			h.door.mu.Lock()
			for s := range h.door.sockets {
				s.conn.Close()
			}
			h.door.mu.Unlock()
		}
	}
	if err := <-done; !errors.Is(err, enough) {
		t.Fatal(err)
	}
	seq := first.Seq
	for range all - 1 {
		if e := <-heard; e.Seq != seq+1 {
			t.Fatalf("seq %d after %d", e.Seq, seq)
		}
		seq++
	}
	if _, err := speaker.Edit(t.Context(), id, first.Seq, "other words"); err != nil {
		t.Error(err)
	}
	if err := speaker.React(t.Context(), id, first.Seq, "👍", true); err != nil {
		t.Error(err)
	}
	if _, err := speaker.Delete(t.Context(), id, seq); err != nil {
		t.Error(err)
	}
	if err := listener.Read(t.Context(), id, seq); err != nil {
		t.Error(err)
	}
	messages, err := listener.Messages(t.Context(), id, 0, 100)
	if err != nil || len(messages) != all || messages[0].Body != "other words" || !messages[all-1].Deleted {
		t.Error(len(messages), err)
	}
	owner.must("DELETE", fmt.Sprintf("/rooms/%d/members/%d", id, bob.id), nil)
	if err := listener.Follow(t.Context(), id, seq, func(api.Event) error { return nil }); !api.IsCode(err, "forbidden") {
		t.Error(err)
	}
	bad := api.New(h.url, "hwd_wrong")
	if err := bad.Follow(t.Context(), id, seq, nil); !api.IsCode(err, "unauthenticated") {
		t.Error(err)
	}
}
