package bench

import (
	"context"
	"io"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"howdah/internal/fault"
)

// paced is how many deliveries per second the latency is measured at.
const paced = 8000

// fanOut measures what it costs to tell many of one message, at full speed and at a pace.
func (b *bench) fanOut(ctx context.Context) error {
	b.Say("bench.say.fanout")
	from := len(b.crowd.people)
	if err := b.crowd.need(ctx, from+b.Receivers+1); err != nil {
		return err
	}
	room, err := b.crowd.room(ctx, from, from+b.Receivers+1)
	if err != nil {
		return err
	}
	listeners, err := b.newAudience(ctx, from+1, b.Receivers, room)
	if err != nil {
		return err
	}
	defer listeners.close()
	speaker, err := b.newCrew(ctx, from, 1, func(int) int64 { return room })
	if err != nil {
		return err
	}
	defer speaker.close()
	if err := pause(ctx, min(b.Settle, 2*time.Second)); err != nil { // who is here has been told
		return err
	}

	bare, err := newBareWrites(b.Receivers)
	if err != nil {
		return err
	}
	defer bare.close()
	var full, slow []counts
	var least []float64
	quiet, err := b.rounds(ctx, func(ctx context.Context) error {
		got, err := speaker.against(ctx, listeners, b.Window, 0)
		if err != nil {
			return err
		}
		full = append(full, got)
		got, err = speaker.against(ctx, listeners, 2*b.Window, time.Duration(b.Receivers)*time.Second/paced)
		if err != nil {
			return err
		}
		slow = append(slow, got)
		one, err := bare.each(ctx, b.Window, time.Duration(b.Receivers)*time.Second/paced)
		least = append(least, one)
		return err
	})
	if err != nil {
		return err
	}
	full, slow, least = pick(full, quiet), pick(slow, quiet), pick(least, quiet)
	rate := func(c counts) float64 { return float64(c.deliveries) / c.took.Seconds() }
	b.report.add(
		Figure{Name: "fanout_rate", Value: median(over(full, rate)), Unit: "deliveries/s"},
		Figure{Name: "fanout_paced_rate", Value: median(over(slow, rate)), Unit: "deliveries/s"},
		Figure{Name: "fanout_paced_p50", Value: median(over(slow, func(c counts) float64 { return millis(quantile(c.waits, 0.50)) })), Unit: "ms"},
		Figure{Name: "fanout_paced_p99", Value: median(over(slow, func(c counts) float64 { return millis(quantile(c.waits, 0.99)) })), Unit: "ms"}.atMost(20),
	)
	if !b.probe.complete() {
		return nil
	}
	for _, way := range []struct {
		name   string
		rounds []counts
	}{{"fanout", full}, {"fanout_paced", slow}} {
		per := func(of func(usage) time.Duration) float64 {
			return median(over(way.rounds, func(c counts) float64 { return micros(of(c.cpu), c.deliveries) }))
		}
		cpu := Figure{Name: way.name + "_cpu", Value: per(func(u usage) time.Duration { return u.howdah }), Unit: "us/delivery"}.atMost(6)
		if way.name == "fanout_paced" && median(least) > 0 {
			values := over(slow, func(c counts) float64 { return micros(c.cpu.howdah, c.deliveries) })
			cpu = cpu.against(median(least), ratios(values, least))
		}
		b.report.add(cpu,
			Figure{Name: way.name + "_cpu_postgres", Value: per(func(u usage) time.Duration { return u.postgres }), Unit: "us/delivery"},
			Figure{Name: way.name + "_cpu_load", Value: per(func(u usage) time.Duration { return u.load }), Unit: "us/delivery"},
		)
	}
	return nil
}

// bareWrites are the least that telling many can cost: connections whose readers sleep, and one thread that writes to them.
type bareWrites struct {
	ends    []net.Conn // to write to
	readers sync.WaitGroup
}

// frameSize is about what a post is on its way.
const frameSize = 400

func newBareWrites(n int) (*bareWrites, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fault.Wrap(err, fault.Unavailable, "bench.broken", fault.Args{"message": err.Error()})
	}
	defer l.Close()
	w := &bareWrites{}
	for range n {
		near, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			w.close()
			return nil, fault.Wrap(err, fault.Unavailable, "bench.broken", fault.Args{"message": err.Error()})
		}
		far, err := l.Accept()
		if err != nil {
			near.Close()
			w.close()
			return nil, fault.Wrap(err, fault.Unavailable, "bench.broken", fault.Args{"message": err.Error()})
		}
		w.ends = append(w.ends, near)
		w.readers.Go(func() {
			defer far.Close()
			_, _ = io.Copy(io.Discard, struct{ io.Reader }{far})
		})
	}
	return w, nil
}

// each gives the writing thread's CPU time per write, in us: 0 where the system does not tell it.
func (w *bareWrites) each(ctx context.Context, length, beat time.Duration) (float64, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	frame := make([]byte, frameSize)
	n, began, cpu := int64(0), time.Now(), threadCPU()
	for next := began; time.Since(began) < length; {
		for _, end := range w.ends {
			if _, err := end.Write(frame); err != nil {
				return 0, fault.Wrap(err, fault.Unavailable, "bench.broken", fault.Args{"message": err.Error()})
			}
			n++
		}
		next = next.Add(beat)
		if err := pause(ctx, time.Until(next)); err != nil {
			return 0, err
		}
	}
	return micros(threadCPU()-cpu, n), nil
}

func (w *bareWrites) close() {
	for _, end := range w.ends {
		end.Close()
	}
	w.readers.Wait()
}

// against lets one speaker post to an audience for a window: as fast as its answers come, or once in every beat.
func (c *crew) against(ctx context.Context, a *audience, length, beat time.Duration) (counts, error) {
	s := c.senders[0]
	var stop, unrecorded atomic.Bool
	var done sync.WaitGroup
	_ = s.SetDeadline(time.Now().Add(length + stalled))
	done.Go(func() {
		if err := s.speak(c.b.began, beat, &stop); err != nil {
			a.failed <- fault.Wrap(err, fault.Unavailable, "bench.broken", fault.Args{"message": err.Error()})
		}
	})
	record := &unrecorded // at full speed a delivery waits in queues that are as long as the speaker makes them
	if beat > 0 {
		record = &a.record
	}
	out, err := c.b.window(ctx, length, record, a.failed, func() (posts, deliveries int64) { return s.acked.Load(), a.total() + s.seen.Load() })
	stop.Store(true)
	done.Wait()
	if err == nil {
		err = a.settle(ctx)
	}
	out.waits = a.take()
	return out, err
}

// speak posts until it is told to stop. With a beat, a post that is late bears the time at which it was due: the
// people who wait for it do not care whose fault it is.
func (s *sender) speak(epoch time.Time, beat time.Duration, stop *atomic.Bool) error {
	var never atomic.Bool
	due := time.NewTimer(0)
	defer due.Stop()
	<-due.C
	for at := time.Since(epoch); !stop.Load(); at += beat {
		if beat == 0 {
			at = time.Since(epoch)
		} else if early := at - time.Since(epoch); early > 0 {
			due.Reset(early)
			<-due.C
		}
		if err := s.post(at, epoch, &never); err != nil {
			return err
		}
	}
	return nil
}

// settle waits until everything that was sent has arrived.
func (a *audience) settle(ctx context.Context) error {
	for before := int64(-1); before != a.total(); {
		before = a.total()
		if err := pause(ctx, 100*time.Millisecond); err != nil {
			return err
		}
	}
	if len(a.failed) > 0 {
		return <-a.failed
	}
	return nil
}
