//go:build linux

package torture

import (
	"fmt"
	"hash/fnv"
	"sync"
	"sync/atomic"
	"time"
)

// op is something that a client wants to have happened: a post, an edit or a deletion. Its client id names it in every
// retry.
type op struct {
	kind     string // as the log names it
	clientID string
	by       person
	room     int64
	body     string
	post     *op // edit, delete: of which post
	mayDrop  bool
	begun    time.Time

	// Guarded by the ledger.
	seq     int64 // where it stands in the log, as acknowledged; 0: not acknowledged
	changes []*op // of a post: edits and deletions that were sent, in order; all but the last are acknowledged
	dropped bool  // its client forgot it: it may have happened, or not
}

// ledger is what the clients know: what the log is judged by.
type ledger struct {
	mu    sync.Mutex
	ops   map[string]*op
	reads map[readKey]int64 // furthest reading that was confirmed
	wrong []string
	broke chan struct{} // closed at the first wrong

	acked, retried, dropped, sessions, gaps, events, overHTTP, unanswered atomic.Int64
	byKind                                                                map[string]int
	newest                                                                time.Time // when the youngest op that is acknowledged was begun
}

type readKey struct{ room, person int64 }

func newLedger() *ledger {
	return &ledger{ops: map[string]*op{}, reads: map[readKey]int64{}, broke: make(chan struct{}), byKind: map[string]int{}}
}

// violation notes a broken promise.
func (l *ledger) violation(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.violationLocked(format, args...)
}

func (l *ledger) violationLocked(format string, args ...any) {
	if len(l.wrong) == 0 {
		close(l.broke)
	}
	if len(l.wrong) < 30 {
		l.wrong = append(l.wrong, fmt.Sprintf(format, args...))
	}
}

func (l *ledger) begin(o *op) {
	l.mu.Lock()
	defer l.mu.Unlock()
	o.begun = time.Now()
	l.ops[o.clientID] = o
	if o.post != nil {
		o.post.changes = append(o.post.changes, o)
	}
}

// ack notes that the server said where an operation stands. It may say so more than once, but not two things.
func (l *ledger) ack(o *op, seq int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case seq <= 0:
		l.violationLocked("room %d: %s %s was acknowledged without a seq", o.room, o.kind, o.clientID)
	case o.seq == 0:
		o.seq = seq
		l.acked.Add(1)
		l.byKind[o.kind]++
		if o.begun.After(l.newest) {
			l.newest = o.begun
		}
	case o.seq != seq:
		l.violationLocked("room %d: %s %s was acknowledged as seq %d and as seq %d", o.room, o.kind, o.clientID, o.seq, seq)
	}
}

// ackedSince tells whether something that was begun after the moment is acknowledged.
func (l *ledger) ackedSince(moment time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.newest.After(moment)
}

func (l *ledger) drop(o *op) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if o.seq == 0 && !o.dropped {
		o.dropped = true
		l.dropped.Add(1)
	}
}

func (l *ledger) read(room, person, seq int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	k := readKey{room, person}
	l.reads[k] = max(l.reads[k], seq)
}

// view is one client's picture of a room, made from events alone.
type view struct {
	room, seq int64
	chain     uint64           // of all events up to seq, in the order received
	posts     map[int64]uint64 // seq of a post -> what it shows now
}

func newView(room int64) *view { return &view{room: room, posts: map[int64]uint64{}} }

// apply takes the next event. The chain holds what of an event never changes; the words may be newer than the event.
func (v *view) apply(e *event) {
	var message, person int64
	client := ""
	if e.Message != nil {
		message, client = e.Message.Seq, e.Message.ClientID
		v.posts[message] = shown(e.Message)
	}
	if e.Person != nil {
		person = e.Person.ID
	}
	v.seq = e.Seq
	v.chain = digest(v.chain, e.Room, e.Seq, e.Kind, e.By.ID, message, client, person)
}

func shown(m *message) uint64 {
	return digest(m.Seq, m.By.ID, m.ClientID, m.Body, m.Edited, m.Deleted, m.HTML)
}

func digest(values ...any) uint64 {
	h := fnv.New64a()
	for _, v := range values {
		fmt.Fprintf(h, "%v\x00", v)
	}
	return h.Sum64()
}
