package bench

import (
	"context"
	"time"
)

// posts measures how many messages people can store and be sure of, against what PostgreSQL does for single rows.
func (b *bench) posts(ctx context.Context) error {
	b.Say("bench.say.posts")
	loads := []*load{
		{name: "posts_16", n: few, share: 1}, // each alone in a room
		{name: "posts_256", n: b.Many, share: 1},
		{name: "posts_256_in_16", n: b.Many, share: b.Many / few},
		{name: "hot_16", n: few, share: few}, // all in one room: every post goes to everybody
		{name: "hot_256", n: b.Many, share: b.Many},
	}
	for _, l := range loads {
		if err := b.place(ctx, l); err != nil {
			return err
		}
	}
	base, err := newBaseline(ctx, b.owner, b.house.OwnerDSN, bodies())
	if err != nil {
		return err
	}
	defer base.close(context.WithoutCancel(ctx))

	var singles, ceilings []float64
	quiet, err := b.rounds(ctx, func(ctx context.Context) error {
		single, err := base.single(ctx, b.Window)
		if err != nil {
			return err
		}
		for _, l := range loads {
			got, err := b.once(ctx, l)
			if err != nil {
				return err
			}
			l.rounds = append(l.rounds, got)
		}
		ceiling, err := base.many(ctx, b.Window/2)
		if err != nil {
			return err
		}
		// The baseline again: what lies between is compared with both halves.
		half, err := base.single(ctx, b.Window/2)
		singles, ceilings = append(singles, (single*2+half)/3), append(ceilings, ceiling)
		return err
	})
	if err != nil {
		return err
	}
	singles, ceilings = pick(singles, quiet), pick(ceilings, quiet)
	for _, l := range loads {
		l.rounds = pick(l.rounds, quiet)
	}
	b.reportPosts(singles, ceilings, loads)
	return nil
}

// load is one way of posting, over all rounds.
type load struct {
	name   string
	n      int // senders
	share  int // of them to a room
	from   int // the first of them in the crowd: every load has its own people
	rooms  []int64
	rounds []counts
}

func (l *load) room(i int) int64 { return l.rooms[i/l.share] }

// place makes the people and rooms of a load.
func (b *bench) place(ctx context.Context, l *load) error {
	l.from = len(b.crowd.people)
	if err := b.crowd.need(ctx, l.from+l.n); err != nil {
		return err
	}
	for at := 0; at < l.n; at += l.share {
		id, err := b.crowd.room(ctx, l.from+at, l.from+at+l.share)
		if err != nil {
			return err
		}
		l.rooms = append(l.rooms, id)
	}
	return nil
}

// once connects the load's people, lets them post for a window, and hangs up: connections that idle beside another
// measurement would be part of it.
func (b *bench) once(ctx context.Context, l *load) (counts, error) {
	crew, err := b.newCrew(ctx, l.from, l.n, l.room)
	if err != nil {
		return counts{}, err
	}
	defer crew.close()
	return crew.drive(ctx, b.Window)
}

// over gives one number per round.
func over(rounds []counts, value func(c counts) float64) []float64 {
	out := make([]float64, len(rounds))
	for i, c := range rounds {
		out[i] = value(c)
	}
	return out
}

func ratios(values, bases []float64) []float64 {
	out := make([]float64, len(values))
	for i := range values {
		if bases[i] > 0 {
			out[i] = values[i] / bases[i]
		}
	}
	return out
}

func (b *bench) reportPosts(singles, ceilings []float64, loads []*load) {
	single := median(singles)
	b.report.add(
		Figure{Name: "baseline_single", Value: single, Unit: "rows/s"},
		Figure{Name: "baseline_ceiling", Value: median(ceilings), Unit: "rows/s"}.against(single, ratios(ceilings, singles)),
	)
	plain := over(loads[0].rounds, counts.rate)
	for _, l := range loads {
		rates := over(l.rounds, counts.rate)
		f := Figure{Name: l.name, Value: median(rates), Unit: "posts/s"}
		switch l.name {
		case "posts_16":
			f = f.against(single, ratios(rates, singles)).ratioAtLeast(1)
		case "posts_256":
			f = f.against(single, ratios(rates, singles)).ratioAtLeast(3)
		case "hot_16":
			f = f.against(median(plain), ratios(rates, plain)).ratioAtLeast(0.5)
		default:
			f = f.against(median(plain), ratios(rates, plain))
		}
		b.report.add(f)
	}
	for _, l := range loads {
		for _, q := range []struct {
			name string
			q    float64
		}{{"p50", 0.50}, {"p99", 0.99}} {
			b.report.add(Figure{Name: l.name + "_ack_" + q.name, Unit: "ms",
				Value: median(over(l.rounds, func(c counts) float64 { return millis(quantile(c.waits, q.q)) }))})
		}
	}
	if !b.probe.complete() {
		return
	}
	for _, l := range loads[:2] {
		per := func(of func(usage) time.Duration) float64 {
			return median(over(l.rounds, func(c counts) float64 { return micros(of(c.cpu), c.posts) }))
		}
		b.report.add(
			Figure{Name: l.name + "_cpu", Value: per(usage.server), Unit: "us/post"}.atMost(150),
			Figure{Name: l.name + "_cpu_howdah", Value: per(func(u usage) time.Duration { return u.howdah }), Unit: "us/post"},
			Figure{Name: l.name + "_cpu_postgres", Value: per(func(u usage) time.Duration { return u.postgres }), Unit: "us/post"},
			Figure{Name: l.name + "_cpu_load", Value: per(func(u usage) time.Duration { return u.load }), Unit: "us/post"},
		)
	}
}

func millis(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
