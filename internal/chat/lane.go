package chat

import "sync"

// A lane carries many callers' work in few commits: while one batch is under way, what arrives gathers for the next.
// So the cost of making things durable is shared by all who wait for it, and nobody waits on a timer.
type lane[T any] struct {
	mu      sync.Mutex
	waiting []T
	running bool
	closed  bool
	commit  func(batch []T)
	idle    sync.WaitGroup
}

// maxBatch bounds how much one transaction carries.
const maxBatch = 512

func newLane[T any](commit func(batch []T)) *lane[T] { return &lane[T]{commit: commit} }

// put adds work and returns at once; commit tells the callers. False when the lane is closed.
func (l *lane[T]) put(work T) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return false
	}
	l.waiting = append(l.waiting, work)
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
		l.commit(batch)
	}
}

// close takes no more work and returns when all that waited has been committed or told that it was not.
func (l *lane[T]) close() {
	l.mu.Lock()
	l.closed = true
	l.mu.Unlock()
	l.idle.Wait()
}
