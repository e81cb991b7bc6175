//go:build linux

package torture

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"howdah/internal/chat"
)

// client is a page that somebody has open: it posts, edits, deletes and reads, loses its connection at random, keeps
// what it wants to say in an outbox, and heals by since. One goroutine owns it.
type client struct {
	name   string
	who    person
	addr   string
	rng    *rand.Rand
	ledger *ledger
	rooms  []int64
	people []person
	web    *http.Client
	quiet  <-chan struct{} // closed when no more is to be said: empty the outbox, and listen

	mu   sync.Mutex
	seen map[int64]int64 // set when all is said: how far each room has been seen

	epoch    string
	views    map[int64]*view
	outbox   []*entry
	mine     []*op // posts that nothing is under way for
	answered chan answer
	flying   int   // calls under way over HTTP
	number   int64 // of frames that want an answer
}

// entry is an op in the outbox.
type entry struct {
	*op
	frame int64     // sent under this number over the present socket; 0: not sent
	since time.Time // when that was
	http  bool      // under way over HTTP
	tries int
	wait  time.Time // not again before
}

// answer comes back from HTTP.
type answer struct {
	entry *entry
	seq   int64
	err   error
}

func newClient(name string, who person, rng *rand.Rand, l *ledger, addr string, rooms []int64, people []person, quiet <-chan struct{}) *client {
	c := &client{name: name, who: who, addr: addr, rng: rng, ledger: l, rooms: rooms, people: people, web: newWeb(30 * time.Second), quiet: quiet,
		views: map[int64]*view{}, answered: make(chan answer, 64)}
	for _, r := range rooms {
		c.views[r] = newView(r)
	}
	return c
}

func (c *client) isQuiet() bool {
	select {
	case <-c.quiet:
		return true
	default:
		return false
	}
}

// live goes on until ctx ends.
func (c *client) live(ctx context.Context) {
	defer c.web.CloseIdleConnections()
	for ctx.Err() == nil {
		if err := c.session(ctx); err != nil && ctx.Err() == nil {
			c.ledger.violation("%s: %v", c.name, err)
			return
		}
		pause := time.NewTimer(time.Duration(c.rng.IntN(300)+10) * time.Millisecond)
		select {
		case <-ctx.Done():
		case <-pause.C:
		}
		pause.Stop()
	}
}

// session is one connection. An error is a broken promise; a connection that ends is none.
func (c *client) session(ctx context.Context) error {
	s, err := dial(ctx, c.addr, c.who.token)
	if err != nil {
		return nil // away: again later
	}
	c.ledger.sessions.Add(1)
	reset := c.rng.IntN(2) == 0
	stop := make(chan struct{})
	defer func() {
		close(stop)
		s.hangUp(reset)
		c.forget()
	}()

	open := c.rooms[c.rng.IntN(len(c.rooms))]
	since := c.views[open].seq
	if s.send(object{"do": "hello", "epoch": c.epoch, "room": open, "since": since}, 0) != nil {
		return nil
	}
	frames := make(chan frame, 64)
	go func() { // ends with the connection
		defer close(frames)
		for {
			f, err := s.receive(100 * time.Second)
			if err != nil {
				return
			}
			select {
			case frames <- f:
			case <-stop:
				return
			}
		}
	}()
	greeting := time.NewTimer(20 * time.Second)
	defer greeting.Stop()
	// What the server owes next of each room; 0: it said that too much was missed.
	owed := map[int64]int64{}
	for len(owed) == 0 {
		select {
		case f, ok := <-frames:
			if !ok {
				return nil
			}
			switch f.Is {
			case "hello":
				if c.epoch != "" && f.Epoch != c.epoch {
					return fmt.Errorf("the epoch changed from %s to %s", c.epoch, f.Epoch)
				}
				c.epoch = f.Epoch
				for _, r := range f.Rooms {
					owed[r.ID] = r.Seq + 1
					if r.ID == open && since > 0 {
						owed[r.ID] = min(r.Seq, since) + 1
					}
				}
			case "bye":
				return nil
			case "error", "waiting", "back", "read":
			default:
				return fmt.Errorf("%q came before hello", f.Is)
			}
		case <-greeting.C:
			c.ledger.unanswered.Add(1)
			return nil
		case <-ctx.Done():
			return nil
		}
	}
	for _, r := range c.rooms {
		if owed[r] == 0 {
			return fmt.Errorf("hello did not list room %d", r)
		}
		if ok, err := c.heal(ctx, r, owed[r]-1); !ok {
			return err
		}
	}
	return c.talk(ctx, s, frames, owed)
}

// forget takes what was under way on a connection that is gone as not sent; what may be dropped sometimes is.
func (c *client) forget() {
	kept := c.outbox[:0]
	for _, e := range c.outbox {
		if e.frame != 0 && e.mayDrop {
			c.ledger.drop(e.op)
			continue
		}
		e.frame = 0
		kept = append(kept, e)
	}
	c.outbox = kept
}

// talk is the session after hello.
func (c *client) talk(ctx context.Context, s *socket, frames <-chan frame, owed map[int64]int64) error {
	life := time.NewTimer(time.Duration(c.rng.ExpFloat64() * float64(2500*time.Millisecond)))
	defer life.Stop()
	act := time.NewTimer(0)
	defer act.Stop()
	stall := time.NewTimer(time.Hour) // not reading for a while, as a machine that sleeps
	defer stall.Stop()
	from := frames
	for {
		select {
		case <-ctx.Done():
			return nil
		case f, ok := <-from:
			if !ok {
				return nil
			}
			if again, err := c.take(ctx, f, owed); err != nil || !again {
				return err
			}
		case a := <-c.answered:
			a.entry.http = false
			c.flying--
			if err := c.settle(a.entry, a.seq, a.err); err != nil {
				return err
			}
		case <-stall.C:
			from = frames
		case <-life.C:
			if c.isQuiet() {
				continue
			}
			if c.rng.IntN(3) == 0 { // in the middle of a frame
				raw := object{"do": "post", "id": 1, "room": c.rooms[0], "client_id": chat.NewID(), "body": strings.Repeat("half ", 50)}
				_ = s.send(raw, 1+c.rng.IntN(200))
			}
			return nil
		case <-act.C:
			switch {
			case !c.isQuiet():
				if c.rng.IntN(150) == 0 && from != nil {
					from = nil
					stall.Reset(time.Duration(c.rng.IntN(1000)) * time.Millisecond)
				}
				if err := c.act(s); err != nil {
					return nil
				}
			case len(c.outbox) == 0 && c.flying == 0:
				c.tell()
			}
			if !c.flush(ctx, s) {
				return nil
			}
			act.Reset(time.Duration(c.rng.IntN(80)+5) * time.Millisecond)
		}
	}
}

// take obeys a frame; again is false when the session is over.
func (c *client) take(ctx context.Context, f frame, owed map[int64]int64) (again bool, err error) {
	switch f.Is {
	case "event":
		return c.see(ctx, &f.event, owed)
	case "gap":
		c.ledger.gaps.Add(1)
		owed[f.Room] = 0
		return c.heal(ctx, f.Room, 0)
	case "ok", "error":
		for _, e := range c.outbox {
			if e.frame == f.ID && f.ID != 0 {
				e.frame = 0
				var why error
				if f.Is == "error" {
					why = &refusal{Code: f.Code, Key: f.Key}
				}
				return true, c.settle(e, f.Seq, why)
			}
		}
		if f.Is == "error" && !passing(f.Code) {
			return false, fmt.Errorf("error %s %s", f.Code, f.Key)
		}
	case "read":
		c.ledger.read(f.Room, c.who.id, f.Seq)
	case "bye":
		switch strings.TrimPrefix(f.Key, "web.bye.") {
		case "stopping", "too_slow", "away":
			return false, nil
		}
		return false, fmt.Errorf("bye: %s", f.Key)
	case "reset":
		return false, errors.New("the server spoke of a restored database")
	case "waiting", "back", "typing", "here", "rooms", "hello":
	default:
		return false, fmt.Errorf("unknown frame %q", f.Is)
	}
	return true, nil
}

// see takes an event: the server owes them one by one, none twice and none left out.
func (c *client) see(ctx context.Context, e *event, owed map[int64]int64) (again bool, err error) {
	c.ledger.events.Add(1)
	if next := owed[e.Room]; next != 0 && e.Seq != next {
		return false, fmt.Errorf("room %d: the socket gave seq %d where %d comes next", e.Room, e.Seq, next)
	}
	owed[e.Room] = e.Seq + 1
	v := c.views[e.Room]
	if v == nil {
		return false, fmt.Errorf("an event of room %d, which I am not in", e.Room)
	}
	if e.Seq > v.seq+1 {
		if again, err = c.heal(ctx, e.Room, e.Seq-1); !again {
			return again, err
		}
	}
	if e.Seq == v.seq+1 {
		v.apply(e)
	}
	return true, nil
}

// heal reads what was missed of a room, at least up to a seq. ok is false when that is not possible now.
func (c *client) heal(ctx context.Context, room, to int64) (ok bool, err error) {
	v := c.views[room]
	for more := true; more || v.seq < to; {
		var page struct {
			Events []event
			Seq    int64
			More   bool
		}
		path := fmt.Sprintf("/rooms/%d/since?seq=%d&limit=%d", room, v.seq, c.rng.IntN(400)+100)
		if err := call(ctx, c.web, c.addr, c.who.token, "GET", path, nil, &page); err != nil {
			return false, unlessPassing(err)
		}
		if len(page.Events) == 0 && v.seq < to {
			return false, fmt.Errorf("room %d: since %d gives nothing, but %d was spoken of", room, v.seq, to)
		}
		for i := range page.Events {
			if e := &page.Events[i]; e.Seq != v.seq+1 {
				return false, fmt.Errorf("room %d: since gave seq %d where %d comes next", room, e.Seq, v.seq+1)
			}
			v.apply(&page.Events[i])
		}
		more = page.More
	}
	return true, nil
}

// tell notes, for others to read, that all is said, and what has been seen.
func (c *client) tell() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.seen = map[int64]int64{}
	for room, v := range c.views {
		c.seen[room] = v.seq
	}
}

// hasSeen tells whether the client has said all and seen each of its rooms up to the given seq.
func (c *client) hasSeen(tops map[int64]int64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, room := range c.rooms {
		if c.seen == nil || tops != nil && c.seen[room] != tops[room] {
			return false
		}
	}
	return true
}

func passing(code string) bool { return code == "unavailable" || code == "rate_limited" }

// unlessPassing is nil for what passes by itself: no connection, no database.
func unlessPassing(err error) error {
	var r *refusal
	if errors.As(err, &r) && !passing(r.Code) {
		return err
	}
	return nil
}

// settle takes an answer to an op.
func (c *client) settle(e *entry, seq int64, err error) error {
	if err != nil {
		e.wait = time.Now().Add(time.Duration(c.rng.IntN(200)+20) * time.Millisecond)
		var netErr net.Error
		if errors.As(err, &netErr) {
			return nil
		}
		if err := unlessPassing(err); err != nil {
			return fmt.Errorf("%s in room %d was refused: %w", e.kind, e.room, err)
		}
		return nil
	}
	first := e.seq == 0
	c.ledger.ack(e.op, seq)
	for i, o := range c.outbox {
		if o == e {
			c.outbox = append(c.outbox[:i], c.outbox[i+1:]...)
			break
		}
	}
	switch {
	case !first || e.dropped: // answered twice, over HTTP and the socket
	case e.kind == "post":
		c.mine = append(c.mine, e.op)
	case e.kind == "edit":
		c.mine = append(c.mine, e.post)
	}
	return nil
}

// act thinks of something to do.
func (c *client) act(s *socket) error {
	switch n := c.rng.IntN(100); {
	case n < 8:
		r := c.rooms[c.rng.IntN(len(c.rooms))]
		return s.send(object{"do": "read", "room": r, "seq": c.views[r].seq}, 0)
	case n < 11:
		r := c.rooms[c.rng.IntN(len(c.rooms))]
		return s.send(object{"do": []string{"typing", "view"}[n%2], "room": r}, 0)
	case len(c.outbox) >= 12:
	case n < 35 && len(c.mine) > 0:
		i := c.rng.IntN(len(c.mine))
		o := &op{kind: "edit", clientID: chat.NewID(), by: c.who, room: c.mine[i].room, post: c.mine[i]}
		if n < 16 {
			o.kind = "delete"
		} else {
			o.body = c.words()
		}
		c.mine = append(c.mine[:i], c.mine[i+1:]...)
		c.plan(o)
	default:
		c.plan(&op{kind: "post", clientID: chat.NewID(), by: c.who, room: c.rooms[c.rng.IntN(len(c.rooms))], body: c.words()})
	}
	return nil
}

func (c *client) plan(o *op) {
	o.mayDrop = c.rng.IntN(25) == 0
	c.ledger.begin(o)
	c.outbox = append(c.outbox, &entry{op: o})
}

// words are some text, with people called in it now and then; seldom very long.
func (c *client) words() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %d", c.name, c.rng.Uint32())
	for range c.rng.IntN(12) {
		b.WriteString([]string{" elephants", " never", " forget", " **bold**", " `code`", " 大象不會忘記", " &<b>", " https://example.org/"}[c.rng.IntN(8)])
	}
	if c.rng.IntN(5) == 0 {
		fmt.Fprintf(&b, " @%s look", c.people[c.rng.IntN(len(c.people))].handle)
	}
	if c.rng.IntN(300) == 0 {
		b.WriteString(strings.Repeat(" long", 8000))
	}
	return b.String()
}

// flush sends what is in the outbox and due.
func (c *client) flush(ctx context.Context, s *socket) bool {
	for _, e := range c.outbox {
		if e.http || time.Now().Before(e.wait) {
			continue
		}
		if e.frame != 0 {
			if time.Since(e.since) > 25*time.Second { // more than any commit may take: the session is worth nothing
				c.ledger.unanswered.Add(1)
				return false
			}
			continue
		}
		if e.tries++; e.tries > 1 {
			c.ledger.retried.Add(1)
		}
		if c.rng.IntN(8) == 0 {
			c.overHTTP(ctx, e)
			if c.rng.IntN(2) == 0 {
				continue // the others go both ways at once
			}
		}
		c.number++
		e.frame, e.since = c.number, time.Now()
		f := object{"do": e.kind, "id": e.frame, "room": e.room, "client_id": e.clientID}
		if e.kind != "delete" {
			f["body"] = e.body
		}
		if e.post != nil {
			f["seq"] = e.post.seq
		}
		if s.send(f, 0) != nil {
			return false
		}
	}
	return true
}

func (c *client) overHTTP(ctx context.Context, e *entry) {
	c.ledger.overHTTP.Add(1)
	e.http = true
	c.flying++
	method, path, in := "POST", fmt.Sprintf("/rooms/%d/messages", e.room), any(object{"client_id": e.clientID, "body": e.body})
	if e.post != nil {
		method, path = "PATCH", fmt.Sprintf("%s/%d", path, e.post.seq)
	}
	if e.kind == "delete" {
		method, path, in = "DELETE", path+"?client_id="+e.clientID, nil
	}
	go func() { // bounded by the client's timeout; the channel holds more than the outbox can
		var out struct{ Seq int64 }
		err := call(ctx, c.web, c.addr, c.who.token, method, path, in, &out)
		c.answered <- answer{e, out.Seq, err}
	}()
}
