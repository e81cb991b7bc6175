// Package bench measures a house as its people meet it: real WebSocket clients in this process, a real server with a
// durable PostgreSQL in another. What a machine can do swings by half when it is shared, so every rate is set against
// a baseline that was measured in the same minute, in several rounds, and the median of the rounds is what counts.
package bench

import (
	"cmp"
	"context"
	"runtime"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"howdah/internal/fault"
	"howdah/internal/pg"
)

// The parts of the chat bench, in the order in which they run.
const (
	Start = "start"  // how soon a server is ready, and what it holds when idle
	Posts = "posts"  // durable posts against the baselines
	FanTo = "fanout" // one post to many
	Pages = "page"   // the first page, and rooms of different size
	Idle  = "idle"   // what an idle connection costs
)

// Parts lists them.
var Parts = []string{Start, Posts, FanTo, Pages, Idle}

// Options of the chat bench.
type Options struct {
	Program string   // the binary of which a throw-away house is made
	Dir     string   // where that house is put, on a real disk; "" is a fitting place
	House   *House   // a house that runs already, in place of a throw-away one
	Parts   []string // nil: all

	Rounds      int
	Window      time.Duration // how long each measurement of a round takes
	Many        int           // senders of the crowded figures
	Receivers   int           // of the fan-out
	Connections int           // idle ones
	Small, Big  int           // messages of the two rooms whose pages are compared
	Settle      time.Duration // how long memory may settle before it is read

	Say func(key string, args ...fault.Args) // told what is being done; may be nil
}

// Full is the bench as its figures are published; Brief only shows that everything works.
var (
	Full = Options{Rounds: 5, Window: 2 * time.Second, Many: 256, Receivers: 200, Connections: 10_000, Small: 100_000, Big: 1_000_000,
		Settle: 40 * time.Second}
	Brief = Options{Rounds: 1, Window: 250 * time.Millisecond, Many: 32, Receivers: 20, Connections: 100, Small: 500, Big: 2000,
		Settle: 200 * time.Millisecond}
)

const few = 16 // senders, rooms and connections of the plain figures

// House is where a running house is found.
type House struct {
	URL              string // of its door
	PID              int    // of its process, when it runs on this machine; 0: nothing is said of its CPU and memory
	AppDSN, OwnerDSN string
}

// bench is one run.
type bench struct {
	Options
	house  *House
	own    *throwaway // nil: the house is somebody's
	owner  *pgx.Conn
	app    *pg.Pool
	crowd  *crowd
	probe  probe
	began  time.Time
	report *Report

	strangers []float64 // of every round that counts: the share of the machine that others took
}

// Chat runs the chat bench. Whatever it makes in a house that is not its own, it takes away again.
func Chat(ctx context.Context, options Options) (report *Report, err error) {
	b := &bench{Options: options, began: time.Now(), report: newReport()}
	b.Say = listened(b.Say)
	raiseLimit(uint64(b.Connections) + 2000)
	if b.house = b.House; b.house == nil {
		b.Say("bench.say.house")
		if b.own, err = newThrowaway(b.Program, b.Dir); err != nil {
			return nil, err
		}
		defer func() {
			if stopErr := b.own.close(context.WithoutCancel(ctx)); err == nil {
				err = stopErr
			}
		}()
		first, err := b.own.start(ctx)
		if err != nil {
			return nil, err
		}
		b.house = &b.own.House
		if b.wants(Start) {
			b.report.add(Figure{Name: "first_start", Value: first.Seconds(), Unit: "s"})
			if err := b.starts(ctx); err != nil {
				return nil, err
			}
		}
	}
	if err := b.open(ctx); err != nil {
		return nil, err
	}
	defer func() {
		if closeErr := b.close(context.WithoutCancel(ctx)); err == nil {
			err = closeErr
		}
	}()
	for _, part := range []struct {
		name string
		run  func(context.Context) error
	}{{Posts, b.posts}, {FanTo, b.fanOut}, {Pages, b.pages}, {Idle, b.idle}} {
		if !b.wants(part.name) {
			continue
		}
		if err := part.run(ctx); err != nil {
			return nil, err
		}
	}
	if len(b.strangers) > 0 { // how far the figures can be trusted
		b.report.add(Figure{Name: "others", Value: 100 * median(b.strangers), Unit: "%"})
	}
	return b.report, nil
}

func (b *bench) wants(part string) bool { return len(b.Parts) == 0 || slices.Contains(b.Parts, part) }

// open comes into the house by its database: bench people and rooms are put there directly, which a thousand sign-ups
// would take an hour for.
func (b *bench) open(ctx context.Context) error {
	var err error
	if b.owner, err = pgx.Connect(ctx, b.house.OwnerDSN); err != nil {
		return pg.Fault(err)
	}
	if b.app, err = pg.Open(ctx, b.house.AppDSN, pg.Options{MaxConns: 4}); err != nil {
		return err
	}
	durable := map[string]string{}
	for _, name := range []string{"fsync", "synchronous_commit", "full_page_writes", "server_version"} {
		var value string
		if err := b.owner.QueryRow(ctx, `SELECT current_setting($1)`, name).Scan(&value); err != nil {
			return pg.Fault(err)
		}
		durable[name] = value
	}
	b.report.Versions.Postgres = durable["server_version"]
	if durable["fsync"] != "on" || durable["synchronous_commit"] == "off" || durable["synchronous_commit"] == "local" {
		return fault.New(fault.Conflict, "bench.not_durable", fault.Args{"fsync": durable["fsync"], "commit": durable["synchronous_commit"]})
	}
	if b.probe, err = newProbe(ctx, b.house.PID, b.owner); err != nil {
		return err
	}
	b.crowd, err = newCrowd(ctx, b.app)
	return err
}

func (b *bench) close(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	var err error
	if b.own == nil && b.crowd != nil {
		err = b.crowd.leave(ctx)
	}
	if b.app != nil {
		b.app.Close()
	}
	if b.owner != nil {
		_, dropErr := b.owner.Exec(ctx, `DROP SCHEMA IF EXISTS `+schema+` CASCADE`)
		if err == nil {
			err = pg.Fault(dropErr)
		}
		_ = b.owner.Close(ctx)
	}
	return err
}

// starts measures how soon a server is ready when PostgreSQL runs already - each is killed, which leaves PostgreSQL
// running - and what the last one holds when idle.
func (b *bench) starts(ctx context.Context) error {
	b.Say("bench.say.start")
	var took []float64
	for range 2*b.Rounds - 1 {
		if err := b.own.kill(); err != nil {
			return err
		}
		ready, err := b.own.start(ctx)
		if err != nil {
			return err
		}
		took = append(took, float64(ready.Microseconds())/1000)
	}
	b.report.add(Figure{Name: "ready", Value: median(took), Unit: "ms"}.atMost(300))
	if err := pause(ctx, min(b.Settle, 5*time.Second)); err != nil {
		return err
	}
	if rss, ok := residentKiB(b.own.PID); ok {
		b.report.add(Figure{Name: "idle_memory", Value: float64(rss) / 1024, Unit: "MiB"}.atMost(40))
	}
	return nil
}

// pause waits, unless ctx ends first.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return fault.Wrap(ctx.Err(), fault.Unavailable, "bench.interrupted")
	case <-timer.C:
		return nil
	}
}

func median(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}

// quantile of values, which it sorts.
func quantile(values []time.Duration, q float64) time.Duration {
	if len(values) == 0 {
		return 0
	}
	slices.Sort(values)
	return values[min(int(q*float64(len(values))), len(values)-1)]
}

func micros(d time.Duration, per int64) float64 {
	if per == 0 {
		return 0
	}
	return float64(d.Nanoseconds()) / 1000 / float64(per)
}

// A round is disturbed when others take more than a tenth of the machine: then another one is made, up to thrice as
// many as were asked for, and the quietest count. Contention does not treat all alike: sixteen processes that
// PostgreSQL has for the baseline get more of a machine that is fought for than the two or three of a server.
const (
	disturbed = 0.1
	moreTimes = 3
)

// rounds runs what is measured several times; it gives the numbers of the rounds that count.
func (b *bench) rounds(ctx context.Context, run func(context.Context) error) (quiet []int, err error) {
	var shares []float64
	good := 0
	for i := 0; good < b.Rounds && i < moreTimes*b.Rounds; i++ {
		b.Say("bench.say.round", fault.Args{"round": i + 1})
		before, began := b.probe.now(), time.Now()
		if err := run(ctx); err != nil {
			return nil, err
		}
		share := b.probe.now().minus(before).strangers() / time.Since(began).Seconds() / float64(runtime.NumCPU())
		if !b.probe.complete() {
			share = 0
		}
		if shares = append(shares, share); share <= disturbed {
			good++
		}
	}
	for i := range shares {
		quiet = append(quiet, i)
	}
	slices.SortFunc(quiet, func(i, j int) int { return cmp.Compare(shares[i], shares[j]) })
	quiet = quiet[:min(b.Rounds, len(quiet))]
	if b.probe.complete() {
		b.strangers = append(b.strangers, pick(shares, quiet)...)
	}
	return quiet, nil
}

// pick gives the values at some places.
func pick[T any](values []T, at []int) []T {
	out := make([]T, len(at))
	for i, j := range at {
		out[i] = values[j]
	}
	return out
}
