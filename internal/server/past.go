package server

import (
	"context"
	"sync"
	"time"

	"howdah/internal/fault"
	"howdah/internal/keeper"
	"howdah/internal/repo"
	"howdah/internal/web"
	"howdah/internal/web/ui"
)

// What the page Time is told of the repos. They may be slow, far away, or away: they are read beside the requests, one reader for each repo, and a request takes what is known.
const (
	pastFresh    = time.Minute      // so old may be what somebody is shown; what is older is read anew when somebody looks
	pastPatience = 5 * time.Minute  // for reading a repo, and for finding out a plan
	pastWait     = time.Second      // that a request waits, in case it does not take longer
	planFresh    = 10 * time.Minute // for which a plan is remembered
	mostPlans    = 200
)

// past is what is known of the repos.
type past struct {
	ctx    context.Context // of what reads; it ends with the server
	cancel context.CancelFunc
	done   sync.WaitGroup
	name   string // of the cluster in them

	mu     sync.Mutex
	closed bool
	repos  []*pastRepo
}

type pastRepo struct {
	source    keeper.Source
	chronicle *keeper.Chronicle // nil: it has not been read yet
	told      *ui.TimeRepo      // the same for the page; nobody changes it
	reading   time.Time         // since when; zero: it is not
	trouble   error
	tried     time.Time
	read      chan struct{} // closed when what is under way has ended
	plans     map[time.Time]*pastPlan
	planning  bool
}

// pastPlan is what a restore to a moment takes; found is closed when that is known.
type pastPlan struct {
	found chan struct{}
	since time.Time // when it was asked for
	of    *keeper.Chronicle
	plan  *keeper.Plan
	err   error
}

func newPast(ctx context.Context, name string, sources []keeper.Source) *past {
	p := &past{name: name}
	p.ctx, p.cancel = context.WithCancel(context.WithoutCancel(ctx))
	for _, source := range sources {
		p.repos = append(p.repos, &pastRepo{source: source, plans: map[time.Time]*pastPlan{}})
	}
	return p
}

// close ends what is being read, and waits for it.
func (p *past) close() {
	if p == nil {
		return
	}
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.cancel()
	p.done.Wait()
}

// begin runs something beside the requests. The caller holds mu.
func (p *past) begin(do func()) {
	p.done.Add(1)
	go func() {
		defer p.done.Done()
		do()
	}()
}

// look is web.Past.Look.
func (p *past) look(ctx context.Context) []web.PastRepo {
	p.mu.Lock()
	var first []chan struct{}
	for _, r := range p.repos {
		// After a failure it is as long until the next try as after a success, so that somebody who reloads does not knock at a door that is closed.
		if r.reading.IsZero() && time.Since(r.tried) >= pastFresh && !p.closed {
			r.reading, r.read = time.Now(), make(chan struct{})
			p.begin(func() { p.refresh(r) })
		}
		if r.chronicle == nil && !r.reading.IsZero() {
			first = append(first, r.read)
		}
	}
	p.mu.Unlock()
	await(ctx, first)
	p.mu.Lock()
	defer p.mu.Unlock()
	all := make([]web.PastRepo, 0, len(p.repos))
	for _, r := range p.repos {
		one := web.PastRepo{Trouble: r.trouble}
		one.Place = r.source.Address
		if r.chronicle != nil {
			one.TimeRepo, one.Troubles = *r.told, r.chronicle.Troubles
		}
		one.Reading = r.reading
		all = append(all, one)
	}
	return all
}

// await waits a moment for things to happen, all together.
func await(ctx context.Context, all []chan struct{}) {
	if len(all) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, pastWait)
	defer cancel()
	for _, one := range all {
		select {
		case <-one:
		case <-ctx.Done():
			return
		}
	}
}

// refresh reads a repo.
func (p *past) refresh(r *pastRepo) {
	ctx, cancel := context.WithTimeout(p.ctx, pastPatience)
	defer cancel()
	var c *keeper.Chronicle
	var opened *repo.Repo
	opened, err := r.source.Open(ctx)
	if err == nil {
		c, err = keeper.ReadChronicle(ctx, opened, p.name)
	}
	if err != nil && ctx.Err() != nil {
		err = fault.Wrap(err, fault.Unavailable, "keeper.chronicle_slow", fault.Args{"place": r.source.Address})
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if r.trouble = err; err == nil {
		r.chronicle, r.told = c, shownPast(c)
	}
	r.reading, r.tried = time.Time{}, time.Now()
	close(r.read)
}

// plan is web.Past.Plan. A plan reads WAL; so of each repo one is made at a time, and who asks for another meanwhile has to ask again.
func (p *past) plan(ctx context.Context, at time.Time) []web.PastPlan {
	at = at.UTC()
	p.mu.Lock()
	asked := make([]*pastPlan, len(p.repos))
	var wait []chan struct{}
	for i, r := range p.repos {
		asked[i] = p.ask(r, at)
		if asked[i] != nil {
			wait = append(wait, asked[i].found)
		}
	}
	p.mu.Unlock()
	await(ctx, wait)
	p.mu.Lock()
	defer p.mu.Unlock()
	var all []web.PastPlan
	for i, r := range p.repos {
		one := web.PastPlan{Place: r.source.Address, Pending: true}
		if r.chronicle != nil {
			one.Place = r.chronicle.Place
		}
		if known := asked[i]; known != nil {
			select {
			case <-known.found:
				one.Pending, one.Err = false, known.err
				if known.plan != nil {
					one.Plan, one.Whole = planned(known.plan), known.plan
				}
			default:
			}
		} else if r.chronicle == nil && r.trouble != nil && r.reading.IsZero() {
			one.Pending, one.Err = false, r.trouble
		}
		all = append(all, one)
	}
	return all
}

// ask finds a plan that is known, or begins to make it; nil where it has to wait for what is under way. The caller holds mu.
func (p *past) ask(r *pastRepo, at time.Time) *pastPlan {
	known := r.plans[at]
	if known != nil {
		select {
		case <-known.found:
			// A way that was there is there still; one that was not may have come with what was written since.
			if fresh := time.Since(known.since) < planFresh; fresh && (known.err == nil || known.of == r.chronicle) {
				return known
			}
		default:
			return known
		}
	}
	if r.planning || r.chronicle == nil || p.closed {
		return nil
	}
	for at, old := range r.plans {
		if len(r.plans) >= mostPlans || time.Since(old.since) >= planFresh { // none is under way: that is asked above
			delete(r.plans, at)
		}
	}
	known = &pastPlan{found: make(chan struct{}), since: time.Now(), of: r.chronicle}
	r.plans[at], r.planning = known, true
	p.begin(func() {
		ctx, cancel := context.WithTimeout(p.ctx, pastPatience)
		defer cancel()
		plan, err := known.of.Plan(ctx, keeper.Target{Time: at})
		if err != nil && ctx.Err() != nil {
			err = fault.Wrap(err, fault.Unavailable, "keeper.chronicle_slow", fault.Args{"place": known.of.Place})
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		known.plan, known.err = plan, err
		r.planning = false
		close(known.found)
	})
	return known
}

// shownPast is a chronicle as plain values: the door knows nothing of repos.
func shownPast(c *keeper.Chronicle) *ui.TimeRepo {
	out := &ui.TimeRepo{Place: c.Place, Read: c.At, Newest: c.Newest}
	for _, r := range c.Ranges {
		out.Ranges = append(out.Ranges, ui.TimeRange{From: r.From, To: r.To, Timeline: uint32(r.Timeline)})
	}
	for _, h := range c.Holes {
		out.Holes = append(out.Holes, ui.TimeHole{First: h.First, Last: h.Last, Count: int64(h.Count), After: h.After, Before: h.Before})
	}
	for _, b := range c.Backups {
		proof := c.Proofs[b.ID]
		out.Backups = append(out.Backups, ui.TimeBackup{ID: b.ID, Began: b.Began, Ended: b.Ended, Parent: b.Parent, Good: b.Good(), Plain: b.Plain(), Stored: b.Stored(),
			Verified: proof.Verified, Drilled: proof.Drilled, Failed: proof.Failed})
	}
	for _, d := range c.Dumps {
		one := ui.TimeDump{ID: d.ID, Began: d.Began, Ended: d.Ended, Stored: d.Size(), Databases: []string{}}
		for _, part := range d.Parts {
			if !part.Globals() {
				one.Databases = append(one.Databases, part.Database.Name)
			}
		}
		out.Dumps = append(out.Dumps, one)
	}
	for _, d := range c.Drills {
		out.Drills = append(out.Drills, ui.TimeDrill{Backup: d.Backup, Began: d.Began, Ended: d.Ended, Good: d.Good(), Problem: d.Problem})
	}
	for _, w := range c.Written {
		out.Written = append(out.Written, ui.TimeWritten{At: w.At, Segments: w.Segments, Bytes: int64(w.Segments) * c.Segment, Stored: w.Stored})
	}
	return out
}

// planned is a plan as plain values.
func planned(p *keeper.Plan) *ui.TimePlan {
	return &ui.TimePlan{Backup: p.Backup.ID, BackupEnded: p.Backup.Ended, Chain: len(p.Chain), Segments: p.Segments, WAL: p.WAL, Read: p.Read, Write: p.Write, Seconds: p.Seconds,
		XID: p.XID, Reached: p.Reached, Timeline: uint32(p.Timeline)}
}

// pastPage is what the page Time is made from; nil where somebody else looks after the database.
func (s *Server) pastPage(ctx context.Context) *web.Past {
	k := s.options.Keeping
	if s.options.Cluster == nil || k == nil || len(k.Repos) == 0 {
		return nil
	}
	s.past = newPast(ctx, k.Settings.Cluster, k.Repos)
	return &web.Past{Look: s.past.look, Plan: s.past.plan}
}
