package bench

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"howdah/internal/fault"
)

// teams is how many people share a small room; everybody is in three: the one of all, and two small ones.
const teams = 50

// idle measures what connections cost that only listen.
func (b *bench) idle(ctx context.Context) error {
	n := b.Connections
	b.Say("bench.say.idle", fault.Args{"n": n})
	from := len(b.crowd.people)
	if err := b.crowd.need(ctx, from+n); err != nil {
		return err
	}
	all, err := b.crowd.room(ctx, from, from+n)
	if err != nil {
		return err
	}
	for range 2 {
		for at := 0; at < n; at += teams {
			if _, err := b.crowd.room(ctx, from+at, from+min(at+teams, n)); err != nil {
				return err
			}
		}
	}
	if b.own != nil { // a fresh server: one that has worked holds memory that new connections would seem not to need
		if err := b.own.kill(); err != nil {
			return err
		}
		if _, err := b.own.start(ctx); err != nil {
			return err
		}
		if b.probe, err = newProbe(ctx, b.house.PID, b.owner); err != nil {
			return err
		}
		if err := pause(ctx, min(b.Settle, 5*time.Second)); err != nil {
			return err
		}
	}
	before, seen := residentKiB(b.house.PID)
	conns := make([]*conn, n)
	defer func() {
		for _, c := range conns {
			if c != nil {
				c.Close()
			}
		}
	}()
	began := time.Now()
	if err := eachOf(n, 32, func(i int) (err error) {
		conns[i], err = b.house.dial(ctx, b.crowd.tokens[from+i], all, idleSize, i)
		return err
	}); err != nil {
		return err
	}
	b.report.add(Figure{Name: "connect_rate", Value: float64(n) / time.Since(began).Seconds(), Unit: "/s"})

	var lost atomic.Int64
	var stopping atomic.Bool
	var readers sync.WaitGroup
	for _, c := range conns {
		readers.Go(func() {
			for {
				if _, err := c.next(); err != nil {
					if !stopping.Load() {
						lost.Add(1)
					}
					return
				}
			}
		})
	}
	err = pause(ctx, b.Settle) // long enough for a heartbeat, and for garbage of 10,000 handshakes to be collected
	after, _ := residentKiB(b.house.PID)
	idle := b.probe.now()
	if err == nil {
		err = pause(ctx, b.Settle/2)
	}
	idle = b.probe.now().minus(idle)
	stopping.Store(true)
	for _, c := range conns {
		_ = c.SetDeadline(time.Now())
	}
	readers.Wait()
	if err == nil && lost.Load() > 0 {
		err = fault.New(fault.Unavailable, "bench.lost", fault.Args{"n": lost.Load()})
	}
	if seen && err == nil {
		b.report.add(
			Figure{Name: "connection_memory", Value: float64(after-before) / float64(n), Unit: "KiB"}.atMost(20),
			Figure{Name: "connections_memory", Value: float64(after) / 1024, Unit: "MiB"},
			Figure{Name: "connections_cpu", Value: 100 * idle.howdah.Seconds() / (b.Settle / 2).Seconds(), Unit: "% core"},
		)
	}
	return err
}

// eachOf does n things, some at a time, and ends at the first failure.
func eachOf(n, together int, do func(i int) error) error {
	var next, failed atomic.Int64
	var done sync.WaitGroup
	errs := make(chan error, together)
	for range min(n, together) {
		done.Go(func() {
			for failed.Load() == 0 {
				i := int(next.Add(1)) - 1
				if i >= n {
					return
				}
				if err := do(i); err != nil {
					failed.Add(1)
					errs <- err
					return
				}
			}
		})
	}
	done.Wait()
	if len(errs) > 0 {
		return <-errs
	}
	return nil
}
