package alert

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"howdah/internal/fault"
	"howdah/internal/outside"
)

// Queue takes messages to all receivers, each on its own: one that hangs or fails keeps nobody waiting.
type Queue struct {
	couriers []*courier
	done     sync.WaitGroup
}

// Event is something that happens to a receiver; each is worth a line in a log.
type Event struct {
	Receiver string
	Kind     string // "failing", "again" (it takes messages again), "lost" (a message was given up), "disk" (the queue cannot be written)
	Incident string
	Err      error
}

// Waits of a courier.
const (
	firstRetry   = 5 * time.Second
	longestRetry = 15 * time.Minute
	remembered   = 60 * 24 * time.Hour // how long it is known that an incident was told
	mostWaiting  = 1000                // messages for one receiver
	mostKept     = 10000               // files of one receiver
	lookEvery    = time.Hour
)

// thread is what one receiver is told about one incident: a file of the queue.
type thread struct {
	Format   int      `json:"format"` // 1
	Incident string   `json:"incident"`
	N        int      `json:"n"`              // messages so far, with the one under way
	Told     *told    `json:"told,omitempty"` // the last one that the receiver took, or that was given up
	Now      *telling `json:"now,omitempty"`  // the one under way: it stays as it is, under its key, until it is taken
	Then     *Message `json:"then,omitempty"` // how the incident stands since
	Lost     []Loss   `json:"lost,omitempty"`
}

type told struct {
	At       time.Time `json:"at"`
	Severity Severity  `json:"severity"`
	measure
}

type telling struct {
	Key     string    `json:"key"`
	Since   time.Time `json:"since"`
	Tries   int       `json:"tries"`
	Last    time.Time `json:"last"`
	Next    time.Time `json:"next"` // not before; zero: as soon as the receiver takes anything
	Message Message   `json:"message"`
	Why     *Why      `json:"why,omitempty"` // it was not taken when it was tried last
	here    bool      // it was tried since we were started
}

// Loss is a message that was given up.
type Loss struct {
	Receiver string    `json:"receiver"`
	Incident string    `json:"incident"`
	Key      string    `json:"key"`
	At       time.Time `json:"at"`
	Since    time.Time `json:"since"`
	Tries    int       `json:"tries"`
	Why      Why       `json:"why"`  // it was not taken at last
	Said     bool      `json:"said"` // it was said that it is lost
}

// Why is a fault as it lies in a file.
type Why struct {
	Key  string         `json:"key"`
	Args map[string]any `json:"args,omitempty"`
}

// Fault is the fault.
func (w Why) Fault() *fault.Fault { return fault.New(fault.Unavailable, w.Key, fault.Args(w.Args)) }

func whyOf(err error) Why {
	f := fault.Of(err)
	w := Why{Key: f.Key, Args: map[string]any{}}
	for name, value := range f.Args {
		w.Args[name] = fmt.Sprint(value)
	}
	return w
}

// State is how it stands with a receiver.
type State struct {
	Receiver string     `json:"receiver"`
	Waiting  int        `json:"waiting"`          // messages that it has not taken
	Oldest   *time.Time `json:"oldest,omitempty"` // since when the oldest of them is tried
	Why      *Why       `json:"why,omitempty"`    // that one was not taken when it was tried last
	Lost     []Loss     `json:"lost,omitempty"`   // of the last 7 days
	Sent     int64      `json:"-"`
	Failed   int64      `json:"-"`
	Given    int64      `json:"-"`
	unsaid   []Loss
}

// courier serves one receiver; its goroutine owns the folder and the threads.
type courier struct {
	Receiver
	sender  sender
	dir     string
	report  func(Event)
	threads map[string]*thread
	state   atomic.Pointer[State]

	mu   sync.Mutex
	box  map[string]Message // what was told and not yet taken over
	said []string           // keys of losses that were said
	wake chan struct{}

	syncs   chan chan error
	over    chan struct{} // closed when nobody serves any more
	results chan result
	busy    *thread // whose message is under way
	fails   int
	pause   time.Time // tried messages wait until then
	asked   time.Time // all messages wait until then: the receiver has said so
	swept   time.Time
	unsaved map[string]bool // threads that could not be written
	sent    int64
	failed  int64
	given   int64
}

type result struct {
	thread *thread
	err    error
}

// Open makes the queue in dir for the receivers, which are complete (Check), and begins to send; until ctx ends. What a killed one left is gone on with.
func Open(ctx context.Context, dir string, receivers []Receiver, report func(Event)) (*Queue, error) {
	q := &Queue{}
	for _, given := range receivers {
		for _, r := range given.each() {
			c := &courier{Receiver: r, sender: r.sender(), dir: filepath.Join(dir, r.Name), report: report, threads: map[string]*thread{}, box: map[string]Message{},
				wake: make(chan struct{}, 1), syncs: make(chan chan error), over: make(chan struct{}), results: make(chan result, 1), unsaved: map[string]bool{}, swept: time.Now()}
			if err := c.load(); err != nil {
				return nil, fault.Wrap(err, fault.Unavailable, "alert.queue", fault.Args{"dir": c.dir})
			}
			c.note()
			q.couriers = append(q.couriers, c)
		}
	}
	if err := q.noteServed(dir); err != nil {
		return nil, fault.Wrap(err, fault.Unavailable, "alert.queue", fault.Args{"dir": dir})
	}
	for _, c := range q.couriers {
		q.done.Go(func() { c.run(ctx) })
	}
	return q, nil
}

// servedFile names the receivers that somebody sends to. What waits for one that is not configured any more stays where it is, in case it comes back, and troubles nobody.
const servedFile = "receivers.json"

func (q *Queue) noteServed(dir string) error {
	names := []string{}
	for _, c := range q.couriers {
		names = append(names, c.Name)
	}
	raw, err := json.Marshal(names)
	if err != nil {
		return err
	}
	if was, err := os.ReadFile(filepath.Join(dir, servedFile)); len(names) == 0 && errors.Is(err, fs.ErrNotExist) || err == nil && bytes.Equal(was, raw) {
		return nil
	}
	return writeFile(filepath.Join(dir, servedFile), raw)
}

// Wait waits until all has ended, after ctx.
func (q *Queue) Wait() { q.done.Wait() }

// Tell tells how an incident stands; it waits for nobody. What is not beyond what was told already is no news. It is safe after the next Sync.
func (q *Queue) Tell(m Message) {
	for _, c := range q.couriers {
		c.mu.Lock()
		if was, ok := c.box[m.Incident]; !ok || m.measure().beyond(was.measure()) {
			c.box[m.Incident] = m
		}
		c.mu.Unlock()
		c.call()
	}
}

func (c *courier) call() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// Sync makes durable what was told: after it no kill loses any of it. Who found it must not forget it before.
func (q *Queue) Sync() error {
	var all error
	for _, c := range q.couriers {
		answer := make(chan error, 1)
		select {
		case c.syncs <- answer:
			all = errors.Join(all, <-answer)
		case <-c.over:
			return fault.New(fault.Unavailable, "alert.queue", fault.Args{"dir": c.dir})
		}
	}
	return all
}

// States is how it stands with each receiver.
func (q *Queue) States() []State {
	var all []State
	for _, c := range q.couriers {
		all = append(all, *c.state.Load())
	}
	return all
}

// Unsaid are the losses that nobody was told of; who has told somebody calls Said.
func (q *Queue) Unsaid() []Loss {
	var all []Loss
	for _, c := range q.couriers {
		all = append(all, c.state.Load().unsaid...)
	}
	return all
}

// Said notes that a loss was told.
func (q *Queue) Said(l Loss) {
	for _, c := range q.couriers {
		if c.Name == l.Receiver {
			c.mu.Lock()
			c.said = append(c.said, l.Key)
			c.mu.Unlock()
			c.call()
		}
	}
}

// Look reads how it stands from the files, whether anybody sends or not.
func Look(dir string) ([]State, error) {
	raw, err := os.ReadFile(filepath.Join(dir, servedFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var names []string
	if err == nil {
		err = json.Unmarshal(raw, &names)
	}
	var all []State
	for _, name := range names {
		c := courier{Receiver: Receiver{Name: name}, dir: filepath.Join(dir, name), threads: map[string]*thread{}}
		if readErr := c.read(nil); readErr != nil {
			err = errors.Join(err, readErr)
			continue
		}
		c.note()
		all = append(all, *c.state.Load())
	}
	if err != nil {
		err = fault.Wrap(err, fault.Unavailable, "alert.queue", fault.Args{"dir": dir})
	}
	return all, err
}

// load makes the folder and reads what is in it.
func (c *courier) load() error {
	if err := os.MkdirAll(c.dir, 0o700); err != nil {
		return err
	}
	if err := syncDir(filepath.Dir(c.dir)); err != nil {
		return err
	}
	return c.read(func(path string, why error) {
		if strings.HasPrefix(filepath.Base(path), ".") {
			_ = os.Remove(path) // a killed one did not finish it
			return
		}
		c.report(Event{Receiver: c.Name, Kind: "disk", Err: fault.Wrap(why, fault.Internal, "alert.queue_file", fault.Args{"file": path})})
		_ = os.Rename(path, path+".broken")
	})
}

func (c *courier) read(strange func(path string, why error)) error {
	entries, err := os.ReadDir(c.dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		path := filepath.Join(c.dir, e.Name())
		if filepath.Ext(path) == ".broken" {
			continue
		}
		if strings.HasPrefix(e.Name(), ".") {
			if strange != nil {
				strange(path, nil)
			}
			continue
		}
		raw, err := os.ReadFile(path)
		if err != nil && errors.Is(err, fs.ErrNotExist) {
			continue
		}
		t, err := parseThread(raw, err)
		if err != nil || fileName(t.Incident) != e.Name() {
			if strange != nil {
				strange(path, err)
			}
			continue
		}
		c.threads[t.Incident] = t
	}
	return nil
}

func parseThread(raw []byte, err error) (*thread, error) {
	t := &thread{}
	if err == nil {
		err = json.Unmarshal(raw, t)
	}
	if err == nil && (t.Format != 1 || t.Incident == "" || t.Now != nil && t.Now.Key == "") {
		err = fault.New(fault.Invalid, "alert.queue_file", fault.Args{"file": t.Incident})
	}
	return t, err
}

// fileName is where a thread lies: incidents are named by whoever finds them.
func fileName(incident string) string {
	return fmt.Sprintf("%x.json", sha256.Sum256([]byte(incident)))[48:]
}

// save makes a thread durable. Where that fails it is tried again, and what it holds is sent all the same: an alert is worth more than its file.
func (c *courier) save(t *thread) {
	raw, err := json.Marshal(t)
	if err == nil {
		err = writeFile(filepath.Join(c.dir, fileName(t.Incident)), raw)
	}
	if err == nil {
		delete(c.unsaved, t.Incident)
		return
	}
	if len(c.unsaved) == 0 {
		c.report(Event{Receiver: c.Name, Kind: "disk", Incident: t.Incident, Err: fault.Wrap(err, fault.Unavailable, "alert.queue", fault.Args{"dir": c.dir})})
	}
	c.unsaved[t.Incident] = true
}

func writeFile(path string, content []byte) error {
	tmp, err := os.CreateTemp(filepath.Dir(path), ".tmp-") // 0600
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.Write(content)
	if err == nil {
		err = tmp.Sync()
	}
	if closeErr := tmp.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	if err == nil {
		err = syncDir(filepath.Dir(path))
	}
	return err
}

// syncDir makes a new name in a folder durable; Windows does that by itself.
func syncDir(dir string) error {
	if os.PathSeparator == '\\' {
		return nil
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// run serves the receiver until ctx ends; a message that is under way then is given up, and sent again by the next one.
func (c *courier) run(ctx context.Context) {
	defer close(c.over)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			c.take()
			if c.busy != nil {
				if r := <-c.results; r.err == nil {
					c.settle(r)
				}
			}
			_ = c.sync()
			return
		case answer := <-c.syncs:
			c.take()
			err := c.sync()
			c.note()
			answer <- err
		case <-c.wake:
			c.take()
		case r := <-c.results:
			c.settle(r)
		case <-timer.C:
			for incident := range c.unsaved {
				c.save(c.threads[incident])
			}
		}
		next := c.step(ctx)
		if len(c.unsaved) > 0 {
			next = min(next, firstRetry)
		}
		timer.Reset(next)
		c.note()
	}
}

func (c *courier) sync() error {
	for incident := range c.unsaved {
		c.save(c.threads[incident])
	}
	if len(c.unsaved) > 0 {
		return fault.New(fault.Unavailable, "alert.queue", fault.Args{"dir": c.dir})
	}
	return nil
}

// take takes over what was told.
func (c *courier) take() {
	c.mu.Lock()
	box, said := c.box, c.said
	c.box, c.said = map[string]Message{}, nil
	c.mu.Unlock()
	for _, m := range box {
		c.accept(m)
	}
	for _, t := range c.threads {
		changed := false
		for i := range t.Lost {
			if !t.Lost[i].Said && slices.Contains(said, t.Lost[i].Key) {
				t.Lost[i].Said, changed = true, true
			}
		}
		if changed {
			c.save(t)
		}
	}
}

func (c *courier) accept(m Message) {
	t := c.threads[m.Incident]
	if t == nil {
		if m.Severity < c.Least || m.answered() {
			return // whoever answered knows of it, and nobody here was asked
		}
		t = &thread{Format: 1, Incident: m.Incident}
		c.threads[m.Incident] = t
	}
	switch {
	case t.Then != nil && !m.measure().beyond(t.Then.measure()), t.Now != nil && !m.measure().beyond(t.Now.Message.measure()), t.Told != nil && !m.measure().beyond(t.Told.measure):
		return
	}
	short := m.bounded(c.Language)
	if c.Kind != Room {
		short.Room = nil
	}
	t.Then = &short
	c.promote(t, time.Now())
	c.save(t)
}

// promote begins to tell what has come since, when it is time for that.
func (c *courier) promote(t *thread, now time.Time) bool {
	if t.Then == nil || t.Now != nil || t.Told != nil && t.Then.Severity <= t.Told.Severity && t.Then.Answers <= t.Told.Answers && now.Before(c.ripe(t)) {
		return false
	}
	t.N++
	t.Now = &telling{Key: fmt.Sprintf("%s.%s.%d", c.Name, t.Incident, t.N), Since: now.UTC(), Message: *t.Then}
	t.Then = nil
	return true
}

// ripe is when an incident may be told again. A clock that was set back does not make it wait longer.
func (c *courier) ripe(t *thread) time.Time {
	if now := time.Now(); t.Told.At.After(now) {
		t.Told.At = now
	}
	return t.Told.At.Add(c.Every)
}

// step gives up what is over, begins with what is due, and says when to look again.
func (c *courier) step(ctx context.Context) time.Duration {
	now := time.Now()
	next := now.Add(lookEvery)
	sooner := func(at time.Time) {
		if at.Before(next) {
			next = at
		}
	}
	c.sweep(now)
	var best *thread
	waiting := 0
	for _, t := range c.threads {
		if t.Now == nil && t.Then != nil {
			if c.promote(t, now) {
				c.save(t)
			} else {
				sooner(c.ripe(t))
			}
		}
		if t.Now == nil || t == c.busy {
			continue
		}
		waiting++
		at := later(c.asked, t.Now.Next)
		if t.Now.Tries > 0 && t.Now.here {
			at = later(at, c.pause)
		}
		if at.After(now.Add(outside.LongestAfter)) { // the clock was set back
			at = now
		}
		if at.After(now) {
			sooner(at)
			continue
		}
		if best == nil || before(t, best) {
			best = t
		}
	}
	if best != nil && c.busy == nil && ctx.Err() == nil {
		c.busy = best
		m := &outgoing{best.Now.Message, best.Now.Key, best.N}
		go func() {
			_, err := c.sender.send(ctx, m)
			c.results <- result{best, err}
		}()
	}
	return max(next.Sub(now), time.Millisecond)
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// before: what was tried longest ago comes first, so that one message nobody takes is in nobody's way; then the graver one, then the older one.
func before(a, b *thread) bool {
	return cmp.Or(a.Now.Last.Compare(b.Now.Last), cmp.Compare(b.Now.Message.Severity, a.Now.Message.Severity), a.Now.Since.Compare(b.Now.Since), strings.Compare(a.Incident, b.Incident)) < 0
}

// settle notes what became of a message.
func (c *courier) settle(r result) {
	t, now := r.thread, time.Now()
	c.busy = nil
	t.Now.Tries++
	t.Now.Last, t.Now.here = now.UTC(), true
	if r.err == nil {
		c.sent++
		if c.fails > 0 {
			c.report(Event{Receiver: c.Name, Kind: "again"})
		}
		c.fails, c.pause = 0, time.Time{}
		c.finish(t, now)
		c.save(t)
		return
	}
	c.failed++
	why := whyOf(r.err)
	t.Now.Why = &why
	var refused *refusal
	errors.As(r.err, &refused)
	wait := func(tries int) time.Duration {
		w := min(firstRetry<<min(tries-1, 12), longestRetry)
		return w/2 + rand.N(w) // so that many do not come at once
	}
	switch {
	case refused != nil && refused.own:
		t.Now.Next = now.Add(max(wait(t.Now.Tries), refused.after)).UTC()
	default:
		if c.fails++; c.fails == 1 {
			c.report(Event{Receiver: c.Name, Kind: "failing", Incident: t.Incident, Err: r.err})
		}
		c.pause = now.Add(wait(c.fails))
		if refused != nil && refused.after > 0 {
			c.asked = now.Add(refused.after)
		}
	}
	if now.Sub(t.Now.Since) > c.GiveUp {
		c.lose(t, now, r.err)
	}
	c.save(t)
}

// finish ends the message under way.
func (c *courier) finish(t *thread, now time.Time) {
	t.Told = &told{now.UTC(), t.Now.Message.Severity, t.Now.Message.measure()}
	t.Now = nil
	c.promote(t, now)
}

// lose gives a message up. That is said, too.
func (c *courier) lose(t *thread, now time.Time, why error) {
	t.Lost = append(t.Lost, Loss{Receiver: c.Name, Incident: t.Incident, Key: t.Now.Key, At: now.UTC(), Since: t.Now.Since, Tries: t.Now.Tries, Why: whyOf(why)})
	t.Lost = t.Lost[max(0, len(t.Lost)-10):]
	c.given++
	c.report(Event{Receiver: c.Name, Kind: "lost", Incident: t.Incident, Err: why})
	c.finish(t, now)
}

// sweep keeps the folder within its size: too many messages are given up, the least grave first; what was told long ago is forgotten.
func (c *courier) sweep(now time.Time) {
	var waiting, over []*thread
	for _, t := range c.threads {
		if t.Now != nil && t != c.busy {
			waiting = append(waiting, t)
		} else if t.Now == nil && t.Then == nil && t.Told != nil && !slices.ContainsFunc(t.Lost, func(l Loss) bool { return !l.Said }) {
			over = append(over, t)
		}
	}
	if n := len(waiting) - mostWaiting; n > 0 {
		slices.SortFunc(waiting, func(a, b *thread) int {
			return cmp.Or(cmp.Compare(a.Now.Message.Severity, b.Now.Message.Severity), a.Now.Since.Compare(b.Now.Since))
		})
		for _, t := range waiting[:n] {
			c.lose(t, now, fault.New(fault.TooLarge, "alert.full", fault.Args{"most": mostWaiting}))
			c.save(t)
		}
	}
	excess := len(c.threads) - mostKept
	if excess <= 0 && now.Sub(c.swept) < lookEvery {
		return
	}
	c.swept = now
	slices.SortFunc(over, func(a, b *thread) int { return a.Told.At.Compare(b.Told.At) })
	for i, t := range over {
		if i < excess || now.Sub(t.Told.At) > remembered {
			if os.Remove(filepath.Join(c.dir, fileName(t.Incident))) == nil {
				delete(c.threads, t.Incident)
				delete(c.unsaved, t.Incident)
			}
		}
	}
}

// note publishes how it stands.
func (c *courier) note() {
	s := &State{Receiver: c.Name, Sent: c.sent, Failed: c.failed, Given: c.given}
	for _, t := range c.threads {
		if t.Now != nil {
			s.Waiting++
			if since := t.Now.Since; s.Oldest == nil || since.Before(*s.Oldest) {
				s.Oldest, s.Why = &since, t.Now.Why
			}
		}
		for _, l := range t.Lost {
			if time.Since(l.At) < 7*24*time.Hour {
				s.Lost = append(s.Lost, l)
			}
			if !l.Said {
				s.unsaid = append(s.unsaid, l)
			}
		}
	}
	byTime := func(a, b Loss) int { return cmp.Or(a.At.Compare(b.At), strings.Compare(a.Key, b.Key)) }
	slices.SortFunc(s.Lost, byTime)
	slices.SortFunc(s.unsaid, byTime)
	c.state.Store(s)
}
