package chat

import (
	"sync"
	"time"
)

// A lane carries many callers' work in few commits: while one batch is under way, what arrives gathers for the next.
// So the cost of making things durable is shared by all who wait for it. There is one batch at a time: with more of them
// batches get smaller, and what a batch costs is hardly less for that.
type lane[T any] struct {
	commit func(batch []T)

	mu      sync.Mutex
	waiting []T
	running bool
	closed  bool
	target  int           // how much work is to wait before full is told
	full    chan struct{} // nil unless the lane gathers
	idle    sync.WaitGroup
}

// maxBatch bounds how much one transaction carries.
const maxBatch = 512

// enoughToShare is a batch whose share of what a commit costs is small already: waiting for more would only leave PostgreSQL idle.
const enoughToShare = 32

// longestGather is what nobody notices, and no slow disk needs.
const longestGather = 20 * time.Millisecond

func newLane[T any](commit func(batch []T)) *lane[T] { return &lane[T]{commit: commit} }

// put adds work and returns at once; commit tells the callers. False when the lane is closed.
func (l *lane[T]) put(work T) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return false
	}
	l.waiting = append(l.waiting, work)
	if l.full != nil && len(l.waiting) >= l.target {
		close(l.full)
		l.full = nil
	}
	if !l.running {
		l.running = true
		l.idle.Add(1)
		go l.run()
	}
	return true
}

// run commits batches until nothing waits. An idle lane has no goroutine.
func (l *lane[T]) run() {
	defer l.idle.Done()
	for {
		l.mu.Lock()
		n := min(len(l.waiting), maxBatch)
		if n == 0 {
			l.running = false
			l.mu.Unlock()
			return
		}
		batch := l.waiting[:n:n]
		l.waiting = l.waiting[n:]
		l.mu.Unlock()
		began := time.Now()
		l.commit(batch)
		if n > 1 && n < enoughToShare {
			l.gather(n, min(time.Since(began), longestGather))
		}
	}
}

// gather waits for those n who have just been answered to come again, no longer than their batch took. Without it,
// programs that each wait for their answer fall into two camps that take turns: every commit carries half of them. A person who
// posts alone never waits for it.
func (l *lane[T]) gather(n int, longest time.Duration) {
	full := make(chan struct{})
	l.mu.Lock()
	l.target, l.full = len(l.waiting)+n, full
	l.mu.Unlock()
	enough := time.NewTimer(longest)
	defer enough.Stop()
	select {
	case <-full:
	case <-enough.C:
	}
	l.mu.Lock()
	l.full = nil
	l.mu.Unlock()
}

// close takes no more work and returns when all that waited has been committed or told that it was not.
func (l *lane[T]) close() {
	l.mu.Lock()
	l.closed = true
	l.mu.Unlock()
	l.idle.Wait()
}
