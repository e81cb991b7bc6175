//go:build linux

package torture

import (
	"errors"
	"fmt"
	"testing"
	"time"
)

// post says something once and gives its seq.
func (h *house) post(p person, room int64, clientID, body string) (int64, error) {
	var out struct{ Seq int64 }
	err := h.try(p, "POST", fmt.Sprintf("/rooms/%d/messages", room), object{"client_id": clientID, "body": body}, &out)
	return out.Seq, err
}

// mustPost says something as soon as that is possible.
func (h *house) mustPost(p person, room int64, clientID, body string) int64 {
	h.t.Helper()
	var seq int64
	var err error
	if !within(patience, func() bool {
		seq, err = h.post(p, room, clientID, body)
		return err == nil || unlessPassing(err) != nil
	}) || err != nil {
		h.t.Fatalf("cannot post: %v; /healthz says %q", err, h.health())
	}
	return seq
}

// everything reads a room from its beginning.
func (h *house) everything(p person, room int64) *view {
	h.t.Helper()
	v := newView(room)
	for more := true; more; {
		var page struct {
			Events []event
			More   bool
		}
		h.must(p, "GET", fmt.Sprintf("/rooms/%d/since?seq=%d", room, v.seq), nil, &page)
		for i := range page.Events {
			if page.Events[i].Seq != v.seq+1 {
				h.t.Fatalf("room %d: seq %d after %d", room, page.Events[i].Seq, v.seq)
			}
			v.apply(&page.Events[i])
		}
		more = page.More
	}
	return v
}

// lobby is the room that a house has from the beginning.
func (h *house) lobby(p person) int64 {
	h.t.Helper()
	var mine struct{ Rooms []room }
	h.must(p, "GET", "/rooms", nil, &mine)
	return mine.Rooms[0].ID
}

// page is a live session that shows one room.
type page struct {
	t      testing.TB
	socket *socket
	frames chan frame
	number int64
	last   frame // that was taken
	err    error // why there are no more; valid when frames is closed
}

// open opens the page of a room and waits for hello.
func (h *house) open(p person, room int64) *page {
	h.t.Helper()
	s, err := dial(h.t.Context(), h.addr, p.token)
	if err != nil {
		h.t.Fatal(err)
	}
	g := &page{t: h.t, socket: s, frames: make(chan frame, 1000)}
	h.t.Cleanup(func() { s.hangUp(true) })
	go func() {
		defer close(g.frames)
		for {
			f, err := s.receive(2 * patience)
			if err != nil {
				g.err = err
				return
			}
			g.frames <- f
		}
	}()
	if err := s.send(object{"do": "hello", "epoch": "", "room": room, "since": 0}, 0); err != nil {
		h.t.Fatal(err)
	}
	g.until("hello", func(f frame) bool { return f.Is == "hello" })
	return g
}

var errTooLate = errors.New("waited in vain")

// await gives the first frame for which holds is true.
func (g *page) await(holds func(frame) bool) (frame, error) {
	deadline := time.After(patience)
	for {
		select {
		case f, ok := <-g.frames:
			if !ok {
				return f, fmt.Errorf("after %q %s: %w", g.last.Is, g.last.Key, g.err)
			}
			g.last = f
			if holds(f) {
				return f, nil
			}
		case <-deadline:
			return frame{}, errTooLate
		}
	}
}

func (g *page) until(what string, holds func(frame) bool) frame {
	g.t.Helper()
	f, err := g.await(holds)
	if err != nil {
		g.t.Fatalf("waiting for %s: %v", what, err)
	}
	return f
}

// say posts over the socket and gives the answer.
func (g *page) say(room int64, clientID, body string) frame {
	g.t.Helper()
	g.number++
	if err := g.socket.send(object{"do": "post", "id": g.number, "room": room, "client_id": clientID, "body": body}, 0); err != nil {
		g.t.Fatal(err)
	}
	return g.until("an answer to a post", func(f frame) bool { return f.ID == g.number })
}
