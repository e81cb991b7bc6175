package bench

import (
	"bytes"
	"context"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"howdah/internal/fault"
)

// A sender is a person who posts: one message, its answer, the next message.
type sender struct {
	*conn
	posts []post
	next  int64 // the order's id

	acked, seen atomic.Int64 // answers and events since the start
	waits       []time.Duration
}

// A crew are senders who work together, each in one of the rooms.
type crew struct {
	b       *bench
	senders []*sender
}

// newCrew connects people[from:from+n]; room tells where each of them writes.
func (b *bench) newCrew(ctx context.Context, from, n int, room func(i int) int64) (*crew, error) {
	c, texts := &crew{b: b}, bodies()
	for i := range n {
		s := &sender{}
		var err error
		if s.conn, err = b.house.dial(ctx, b.crowd.tokens[from+i], room(i), readSize, i); err != nil {
			c.close()
			return nil, err
		}
		c.senders = append(c.senders, s)
		prefix := fmt.Sprintf("%08x-%04x-4000-8000-", uint32(b.began.UnixNano()), i) // authors differ; the run tells apart runs
		for j := range 8 {
			s.posts = append(s.posts, newPost(room(i), prefix, texts[(i*8+j)%len(texts)]))
		}
	}
	return c, nil
}

func (c *crew) close() {
	for _, s := range c.senders {
		s.Close()
	}
}

// counts is what happened in a window.
type counts struct {
	took       time.Duration
	posts      int64 // answered
	deliveries int64 // events that clients have read
	cpu        usage
	waits      []time.Duration // from post to answer, or to delivery
}

func (c counts) rate() float64 { return float64(c.posts) / c.took.Seconds() }

// warmUp is how long a load runs before it counts.
const warmUp = 200 * time.Millisecond

// window takes what a load does between two moments: total reads its counters.
func (b *bench) window(ctx context.Context, length time.Duration, recording *atomic.Bool, failed <-chan error, total func() (posts, deliveries int64)) (counts, error) {
	wait := func(d time.Duration) error {
		timer := time.NewTimer(d)
		defer timer.Stop()
		select {
		case <-ctx.Done():
			return fault.Wrap(ctx.Err(), fault.Unavailable, "bench.interrupted")
		case err := <-failed:
			return err
		case <-timer.C:
			return nil
		}
	}
	if err := wait(min(warmUp, length)); err != nil {
		return counts{}, err
	}
	posts, deliveries := total()
	cpu, began := b.probe.now(), time.Now()
	recording.Store(true)
	err := wait(length)
	p, d := total()
	for err == nil && (p == posts || d == deliveries) { // a disk that stalls: a window in which nothing happened measures nothing
		err = wait(length)
		p, d = total()
	}
	recording.Store(false)
	return counts{took: time.Since(began), cpu: b.probe.now().minus(cpu), posts: p - posts, deliveries: d - deliveries}, err
}

// stalled is how long an answer may take beyond a window.
const stalled = 2 * time.Minute

// drive lets all senders post as fast as they are answered.
func (c *crew) drive(ctx context.Context, length time.Duration) (counts, error) {
	var stop, recording atomic.Bool
	var done sync.WaitGroup
	failed := make(chan error, len(c.senders))
	for _, s := range c.senders {
		_ = s.SetDeadline(time.Now().Add(length + stalled))
		s.waits = s.waits[:0]
		done.Go(func() {
			for !stop.Load() {
				if err := s.post(time.Since(c.b.began), c.b.began, &recording); err != nil {
					failed <- fault.Wrap(err, fault.Unavailable, "bench.broken", fault.Args{"message": err.Error()})
					return
				}
			}
		})
	}
	out, err := c.b.window(ctx, length, &recording, failed, func() (posts, deliveries int64) {
		for _, s := range c.senders {
			posts += s.acked.Load()
			deliveries += s.seen.Load()
		}
		return posts, deliveries
	})
	stop.Store(true)
	done.Wait()
	if err == nil && len(failed) > 0 {
		err = <-failed
	}
	for _, s := range c.senders {
		out.waits = append(out.waits, s.waits...)
	}
	return out, err
}

// post posts once, as of a time since the epoch, and reads until the answer.
func (s *sender) post(at time.Duration, epoch time.Time, recording *atomic.Bool) error {
	s.next++
	p := s.posts[int(s.next)%len(s.posts)]
	p.stamp(s.next, at)
	if _, err := s.Write(p.frame); err != nil {
		return err
	}
	want := strconv.AppendInt([]byte(`"id":`), stampID(s.next), 10)
	for {
		payload, err := s.conn.next()
		if err != nil {
			return err
		}
		switch {
		case bytes.HasPrefix(payload, isEvent):
			s.seen.Add(1)
		case bytes.HasPrefix(payload, isOK) && bytes.Contains(payload, want):
			if recording.Load() {
				s.waits = append(s.waits, time.Since(epoch)-at)
			}
			s.acked.Add(1)
			return nil
		case bytes.HasPrefix(payload, isError):
			return fmt.Errorf("%s", payload)
		}
	}
}

// An audience reads what rooms say, all the time, in one goroutine per listener.
type audience struct {
	epoch  time.Time
	ears   []*ear
	record atomic.Bool
	closed atomic.Bool
	done   sync.WaitGroup
	failed chan error // with room for every ear and a speaker
}

type ear struct {
	*conn
	seen  atomic.Int64
	mu    sync.Mutex // guards waits
	waits []time.Duration
}

// newAudience connects people[from:from+n] to a room and begins to read.
func (b *bench) newAudience(ctx context.Context, from, n int, room int64) (*audience, error) {
	a := &audience{epoch: b.began, failed: make(chan error, n+1)}
	for i := range n {
		c, err := b.house.dial(ctx, b.crowd.tokens[from+i], room, readSize, i)
		if err != nil {
			a.close()
			return nil, err
		}
		e := &ear{conn: c}
		a.ears = append(a.ears, e)
		a.done.Go(func() {
			if err := a.read(e); !a.closed.Load() {
				a.failed <- fault.Wrap(err, fault.Unavailable, "bench.broken", fault.Args{"message": err.Error()})
			}
		})
	}
	return a, nil
}

// read counts what comes, until the connection ends.
func (a *audience) read(e *ear) error {
	for {
		payload, err := e.next()
		if err != nil {
			return err
		}
		if !bytes.HasPrefix(payload, isEvent) {
			continue
		}
		e.seen.Add(1)
		if a.record.Load() {
			if sent, ok := sentAt(payload); ok {
				e.mu.Lock()
				e.waits = append(e.waits, time.Since(a.epoch)-sent)
				e.mu.Unlock()
			}
		}
	}
}

func (a *audience) total() (n int64) {
	for _, e := range a.ears {
		n += e.seen.Load()
	}
	return n
}

// take gives what was recorded since the last time.
func (a *audience) take() (all []time.Duration) {
	for _, e := range a.ears {
		e.mu.Lock()
		all = append(all, e.waits...)
		e.waits = nil
		e.mu.Unlock()
	}
	return all
}

func (a *audience) close() {
	a.closed.Store(true)
	for _, e := range a.ears {
		_ = e.SetDeadline(time.Now()) // wakes its reader
	}
	a.done.Wait()
	for _, e := range a.ears {
		e.Close()
	}
}
