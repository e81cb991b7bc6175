//go:build linux

package torture

import (
	"fmt"
	"strings"
	"syscall"
	"testing"

	"howdah/internal/chat"
)

// Who missed much comes back in one go: the events, or the word that it was too much, and then all that comes. Never a
// connection that is dropped for the very catching up, which would come back and be dropped again.
func TestWhoMissedMuchIsBroughtUpToDate(t *testing.T) {
	t.Parallel()
	h := newRacedHouse(t)
	owner := h.settle(h.start(), "anna")[0]
	lobby := h.lobby(owner)
	writer := h.open(owner, lobby)
	body := strings.Repeat("大象 never *forget* ", 200)
	for i := range 450 {
		if f := writer.say(lobby, chat.NewID(), fmt.Sprint(i, " ", body)); f.Is != "ok" {
			t.Fatalf("%+v", f)
		}
	}
	top := h.everything(owner, lobby).seq
	for name, since := range map[string]int64{"nearly all of it": 1, "half of it": top / 2, "a little": top - 5} {
		s, err := dial(t.Context(), h.addr, owner.token)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.send(object{"do": "hello", "epoch": "", "room": lobby, "since": since}, 0); err != nil {
			t.Fatal(err)
		}
		at, told := since, false
		for at < top && !told {
			f, err := s.receive(patience)
			if err != nil {
				t.Fatalf("who missed %s (from %d) got up to %d of %d, then: %v", name, since, at, top, err)
			}
			switch f.Is {
			case "event":
				if f.event.Seq != at+1 {
					t.Fatalf("who missed %s got %d after %d", name, f.event.Seq, at)
				}
				at++
			case "gap":
				told = true
			case "bye":
				t.Fatalf("who missed %s (from %d) got up to %d of %d, then: bye, %s", name, since, at, top, f.Key)
			}
		}
		t.Logf("who missed %s: seen up to %d of %d, told of a gap: %t", name, at, top, told)
		top = writer.say(lobby, chat.NewID(), "and then?").Seq
		for {
			f, err := s.receive(patience)
			if err != nil {
				t.Fatalf("after catching up: %v", err)
			}
			if f.Is == "event" && f.event.Seq == top {
				break
			}
		}
		s.hangUp(false)
	}
	h.end(h.run, syscall.SIGINT)
}

// Who leaves a room and comes back at once goes on hearing it.
func TestWhoComesBackAtOnceHearsOn(t *testing.T) {
	t.Parallel()
	h := newRacedHouse(t)
	people := h.settle(h.start(), "anna", "bert")
	lobby := h.lobby(people[0])
	page := h.open(people[1], lobby)
	for i := range 25 {
		h.must(people[1], "POST", fmt.Sprintf("/rooms/%d/leave", lobby), nil, nil)
		h.must(people[1], "POST", fmt.Sprintf("/rooms/%d/join", lobby), nil, nil)
		seq := h.mustPost(people[0], lobby, chat.NewID(), fmt.Sprint("hello again ", i))
		// Heard, or spoken of in the list of rooms that comes with the joining.
		page.until(fmt.Sprintf("post %d (seq %d)", i, seq), func(f frame) bool {
			return f.Is == "event" && f.event.Seq == seq || f.Is == "rooms" && len(f.Rooms) > 0 && f.Rooms[0].Seq >= seq
		})
		seq = h.mustPost(people[0], lobby, chat.NewID(), "and again")
		page.until(fmt.Sprintf("second post %d (seq %d)", i, seq), func(f frame) bool { return f.Is == "event" && f.event.Seq == seq })
	}
	h.end(h.run, syscall.SIGINT)
	h.noFaults()
}

// A first start that is killed at any moment leaves nothing that the next one could not clear away.
func TestKilledWhileTheClusterIsMade(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	for _, m := range []struct {
		name string
		come func() bool
	}{
		{"initdb runs", func() bool { return h.has("initdb") }},
		{"postgres sets itself up", func() bool { return h.has("--boot") }},
		{"roles are made", func() bool { return h.has("--single") }},
		{"PostgreSQL starts", func() bool { _, ok := h.postmaster(); return ok }},
	} {
		p := h.up()
		h.comes(p, m.name, m.come)
		h.kill(p)
	}
	owner := h.settle(h.start(), "anna")[0]
	h.mustPost(owner, h.lobby(owner), chat.NewID(), "hello")
	h.end(h.run, syscall.SIGINT)
	h.empty()
	h.shutDown()
}
