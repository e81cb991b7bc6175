package chat

import (
	"context"
	"slices"
	"sync"
	"time"
)

// A loop delivers one room's log to those who follow it. Its goroutine owns all of its state; others send it words.
// It lives as long as somebody follows the room.
type loop struct {
	room int64
	live *live
	wake chan struct{}

	mu    sync.Mutex // guards inbox and ended only
	inbox []any
	ended bool

	// Owned by run:
	cursor   int64 // all up to here has been offered to every follower
	recent   []Event
	gathered []Event // what has come since the last wave
	lastWave time.Time
	waveDue  <-chan time.Time
	subs     map[Listener]*sub
	present  map[int64]int // person who is not away -> how many of their listeners follow
	viewers  int
	hereDue  <-chan time.Time
}

// sub is one follower. It has been offered all up to after.
type sub struct {
	after   int64
	views   bool
	primed  bool // false until what it missed has been delivered
	left    bool // the person is not in the room: it hears nothing until they are back, or its door lets go of the room
	present bool // counts among those who are here
	listens Listener
}

// The words a loop takes.
type (
	attach struct {
		who Listener
		seq int64
	}
	detach struct{ who Listener }
	view   struct {
		who Listener
		on  bool
	}
	typing  struct{ who Listener }
	stirred struct{ who Listener }
	grown   struct {
		posts  []*post // to be answered first
		events []Event // what they are, when these are all new; else the loop reads
	}
	behind  struct{ seq int64 }
	rewound struct{ seq int64 }
)

func (g grown) answer() {
	for _, p := range g.posts {
		p.answer()
	}
}

func (g grown) told() {
	for _, p := range g.posts {
		p.told()
	}
}

// A busy room tells in waves. The first event goes out at once; what comes within the pause after that goes out together,
// in one write for each follower: a write is what telling somebody costs, however much is in it. The pause grows with
// what a wave costs, up to what nobody notices.
const (
	wavePause    = 100 * time.Microsecond // for each follower
	longestPause = 20 * time.Millisecond
	fewFollowers = 16 // up to so many, an answer can wait for the author's own echo and share its write
)

// recentEvents is how much of the log's end a loop keeps, so that people who reconnect together read memory.
const recentEvents = 64

// send leaves a word with the loop. It never waits: what it may hold is bounded by who can send (each listener a few,
// each commit one).
func (l *loop) send(word any) bool {
	l.mu.Lock()
	if l.ended {
		l.mu.Unlock()
		return false
	}
	l.inbox = append(l.inbox, word)
	l.mu.Unlock()
	select {
	case l.wake <- struct{}{}:
	default:
	}
	return true
}

func (l *loop) run() {
	defer l.live.done.Done()
	for {
		select {
		case <-l.live.ctx.Done():
			l.mu.Lock()
			left := l.inbox
			l.inbox, l.ended = nil, true
			l.mu.Unlock()
			for _, word := range left {
				if g, ok := word.(grown); ok {
					g.answer()
					g.told()
				}
			}
			return
		case <-l.hereDue:
			l.hereDue = nil
			l.tellHere()
			continue
		case <-l.waveDue:
			if l.wave() {
				l.catchUp()
			}
			continue
		case <-l.wake:
		}
		l.mu.Lock()
		words := l.inbox
		l.inbox = nil
		l.mu.Unlock()
		read := false
		for _, word := range words {
			read = l.take(word) || read
		}
		if read {
			l.catchUp()
		}
		if len(l.subs) == 0 && l.retire() {
			return
		}
	}
}

// retire ends the loop unless somebody has sent a word meanwhile.
func (l *loop) retire() bool {
	l.live.mu.Lock()
	defer l.live.mu.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.inbox) > 0 {
		return false
	}
	l.ended = true
	delete(l.live.loops, l.room)
	return true
}

// take applies one word and tells whether the log has to be read.
func (l *loop) take(word any) (read bool) {
	switch w := word.(type) {
	case attach:
		s := l.subs[w.who]
		if s == nil {
			s = &sub{listens: w.who, left: true}
			l.subs[w.who] = s
		}
		l.admit(s)
		s.after, s.primed = w.seq, false
		return true
	case detach:
		if s := l.subs[w.who]; s != nil {
			l.dismiss(s)
			delete(l.subs, w.who)
		}
	case view:
		if s := l.subs[w.who]; s != nil && s.views != w.on {
			s.views = w.on
			if s.left {
				break
			}
			if w.on {
				l.viewers++
				w.who.Ephemeral(l.hereNow())
			} else {
				l.viewers--
			}
		}
	case typing:
		if s := l.subs[w.who]; s != nil && !s.left {
			me := author(w.who.Person())
			whisper := &Whisper{Room: l.room, Typing: &me}
			for who, other := range l.subs {
				if other.views && !other.left && who.Person().ID != me.ID {
					who.Ephemeral(whisper)
				}
			}
		}
	case stirred:
		if s := l.subs[w.who]; s != nil {
			l.count(s)
		}
	case grown:
		w.answer()
		if len(w.events) == 0 {
			w.told()
			return true
		}
		l.gathered = append(l.gathered, w.events...)
		pause := min(time.Duration(len(l.subs))*wavePause, longestPause) - time.Since(l.lastWave)
		if pause > 0 || len(l.subs) > fewFollowers {
			w.told()
		} else {
			defer w.told()
		}
		if pause <= 0 {
			return l.wave()
		}
		if l.waveDue == nil {
			l.waveDue = time.After(pause)
		}
	case behind:
		if w.seq > l.cursor {
			return true
		}
		for _, s := range l.subs { // the read that should have primed it failed
			if !s.primed && !s.left {
				return true
			}
		}
	case rewound: // the database was restored: the log ends here now
		l.cursor, l.recent = w.seq, nil
		for _, s := range l.subs {
			s.after, s.primed = w.seq, true
		}
	}
	return false
}

// wave offers what has gathered, and tells whether the log has to be read instead: when something is missing between.
func (l *loop) wave() (read bool) {
	events := l.gathered
	l.gathered, l.waveDue, l.lastWave = nil, nil, time.Now()
	for len(events) > 0 && events[0].Seq <= l.cursor { // read from the log meanwhile
		events = events[1:]
	}
	for i := range events {
		if events[i].Seq != l.cursor+1+int64(i) {
			return true
		}
	}
	l.offer(events)
	return false
}

// admit makes a follower one that hears; again is harmless.
func (l *loop) admit(s *sub) {
	if !s.left {
		return
	}
	s.left = false
	if s.views {
		l.viewers++
	}
	l.count(s)
}

// dismiss makes a follower one that hears nothing; again is harmless.
func (l *loop) dismiss(s *sub) {
	if s.left {
		return
	}
	s.left = true
	if s.views {
		l.viewers--
	}
	l.count(s)
}

// count has a follower among those who are here where they are in the room and not away.
func (l *loop) count(s *sub) {
	person := s.listens.Person()
	if now := !s.left && person.Away == nil; now != s.present {
		s.present = now
		l.arrive(person.ID, map[bool]int{true: 1, false: -1}[now])
	}
}

// offer delivers events that follow the cursor to every primed follower. Who leaves is told that, and nothing after it;
// who comes back before their door has let go of the room hears on from there.
func (l *loop) offer(events []Event) {
	for i, e := range events {
		cut := i // before who comes, after who goes
		if e.Kind == Left {
			cut++
		}
		if (e.Kind == Left || e.Kind == Joined) && cut > 0 && cut < len(events) {
			l.offer(events[:cut])
			l.offer(events[cut:])
			return
		}
	}
	if len(events) == 0 {
		return
	}
	if first := events[0]; first.Kind == Joined && first.Person != nil {
		for who, s := range l.subs {
			if s.left && who.Person().ID == first.Person.ID {
				s.after = max(s.after, first.Seq-1)
				l.admit(s)
			}
		}
	}
	l.cursor = events[len(events)-1].Seq
	l.recent = append(l.recent, events...)
	for _, e := range events {
		if e.Kind == Trimmed { // what is gone is not kept here either
			l.recent = slices.DeleteFunc(slices.Clone(l.recent), func(old Event) bool { return old.Seq < e.Before })
		}
	}
	if over := len(l.recent) - recentEvents; over > 0 {
		l.recent = append(l.recent[:0:0], l.recent[over:]...)
	}
	all := &Delivery{Room: l.room, Events: events}
	for _, s := range l.subs {
		if !s.primed || s.left {
			continue
		}
		if s.after < events[0].Seq {
			s.listens.Deliver(all)
		} else if rest := after(events, s.after); len(rest) > 0 {
			s.listens.Deliver(&Delivery{Room: l.room, Events: rest})
		}
		s.after = max(s.after, l.cursor)
	}
	if last := events[len(events)-1]; last.Kind == Left && last.Person != nil {
		for who, s := range l.subs {
			if who.Person().ID == last.Person.ID {
				l.dismiss(s)
				s.primed = true // when they come back, it hears on from there
			}
		}
	}
}

func after(events []Event, seq int64) []Event {
	for i := range events {
		if events[i].Seq > seq {
			return events[i:]
		}
	}
	return nil
}

// catchUp reads what the log has after the cursor, and primes those who have just come with what they missed. An error
// leaves everything as it is: the next poll wakes the loop again.
func (l *loop) catchUp() {
	ctx, cancel := context.WithTimeout(l.live.ctx, commitTimeout)
	defer cancel()
	if !l.primed() { // nobody wants what is between: a room may be long, and who comes be far behind
		top, err := l.live.rooms.top(ctx, l.room)
		if err != nil {
			return
		}
		if top-l.cursor > SinceLimit {
			l.cursor, l.recent = top, nil
		}
	}
	for {
		events, err := l.live.rooms.since(ctx, l.room, l.cursor, SinceLimit)
		if err != nil {
			return
		}
		l.offer(events)
		if len(events) < SinceLimit {
			break
		}
	}
	for _, s := range l.subs {
		if !s.primed && !s.left {
			l.prime(ctx, s)
		}
	}
}

// primed tells whether somebody counts on every event after the cursor; who has left waits for one that lets them in.
func (l *loop) primed() bool {
	for _, s := range l.subs {
		if s.primed {
			return true
		}
	}
	return false
}

// prime brings one follower from where it was to the cursor. One that missed too much is told so by a delivery
// without events: it follows from the cursor and loads its page anew.
func (l *loop) prime(ctx context.Context, s *sub) {
	missed := &Delivery{Room: l.room, Seq: l.cursor}
	switch {
	case s.after >= l.cursor: // up to date, or from the future of a database that was restored: Reset tells it
		s.primed = true
		return
	case l.cursor-s.after > SinceLimit:
	case len(l.recent) > 0 && l.recent[0].Seq <= s.after+1:
		missed.Events = after(l.recent, s.after)
	default:
		events, err := l.live.rooms.since(ctx, l.room, s.after, SinceLimit)
		if err != nil {
			return
		}
		for len(events) > 0 && events[len(events)-1].Seq > l.cursor {
			events = events[:len(events)-1] // committed since: comes with the next offer
		}
		missed.Events = events
	}
	events, out := untilGone(missed.Events, s.listens.Person().ID)
	missed.Events = events
	s.listens.Deliver(missed)
	s.after, s.primed = l.cursor, true
	if out { // since their door looked; they come back by a Joined, as who leaves later does
		l.dismiss(s)
	}
}

// untilGone cuts events after the one with which a person left, unless they came back.
func untilGone(events []Event, person int64) (until []Event, out bool) {
	for i := len(events) - 1; i >= 0; i-- {
		if e := events[i]; (e.Kind == Left || e.Kind == Joined) && e.Person != nil && e.Person.ID == person {
			if e.Kind == Left {
				return events[:i+1], true
			}
			break
		}
	}
	return events, false
}

// arrive counts a person's listeners and plans the telling when somebody has come or gone.
func (l *loop) arrive(person int64, n int) {
	before := l.present[person]
	if l.present[person] = before + n; l.present[person] <= 0 {
		delete(l.present, person)
	}
	if (before == 0) == (before+n == 0) || l.hereDue != nil {
		return
	}
	// The more are told, the less often: a thousand people who come back together are a few tellings, not a million.
	l.hereDue = time.After(min(500*time.Millisecond+time.Duration(l.viewers)*time.Millisecond, 10*time.Second))
}

func (l *loop) hereNow() *Whisper {
	w := &Whisper{Room: l.room, Count: len(l.present)}
	if len(l.present) <= hereLimit {
		w.Here = make([]int64, 0, len(l.present))
		for id := range l.present {
			w.Here = append(w.Here, id)
		}
	}
	return w
}

func (l *loop) tellHere() {
	if l.viewers == 0 {
		return
	}
	w := l.hereNow()
	for who, s := range l.subs {
		if s.views && !s.left {
			who.Ephemeral(w)
		}
	}
}
