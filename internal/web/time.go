package web

import (
	"cmp"
	"context"
	"net/http"
	"slices"
	"strings"
	"time"

	"howdah/internal/account"
	"howdah/internal/audit"
	"howdah/internal/audit/index"
	"howdah/internal/chat"
	"howdah/internal/fault"
	"howdah/internal/web/ui"
)

// The page Time: the house's past as one picture, and what a way back to one of its moments would take. Nothing is done from here: it names the commands.

// Past is what the page is made from: what the repos tell, which may be far away, or away. So nothing here waits for them longer than a person would.
type Past struct {
	// Look gives what is known of each repo, and has what is not fresh read anew.
	Look func(ctx context.Context) []PastRepo
	// Plan gives for each repo what a restore to a moment would take, as far as that has been found out.
	Plan func(ctx context.Context, at time.Time) []PastPlan
}

// PastRepo is what is known of a repo.
type PastRepo struct {
	ui.TimeRepo       // but for what is the matter: that is put into words here
	Trouble     error // why it could not be read when that was tried last
	Troubles    []error
}

// PastPlan is what a restore from a repo would take.
type PastPlan struct {
	Place   string
	Pending bool // it is being found out
	Plan    *ui.TimePlan
	Whole   any   // the plan with all that there is to say of it, for programs
	Err     error // why nothing leads there
}

const (
	mostTicks  = 600 // entries of the trail that are drawn each by itself
	mostAround = 40  // entries that are listed around a moment
)

// past lets those in who may look at the house's past: who runs it.
func (d *Door) past(v *visit) (*Past, *Watch, error) {
	if d.options.Past == nil {
		return nil, nil, fault.New(fault.NotFound, "web.time_none")
	}
	if !v.me().Role.AtLeast(account.Admin) {
		return nil, nil, fault.New(fault.Forbidden, "web.time_admins")
	}
	return d.options.Past, d.options.Watch, nil
}

// pasts says whether there is a page Time for somebody.
func (d *Door) pasts(v *visit) bool {
	_, _, err := d.past(v)
	return err == nil
}

func (d *Door) timePage(v *visit) error {
	past, watch, err := d.past(v)
	if err != nil {
		return err
	}
	c, err := d.chrome(v)
	if err != nil {
		return err
	}
	p := ui.TimePage{Chrome: c}
	p.Title = v.lang.T("web.time.heading")
	code := http.StatusOK
	repos := past.Look(v.ctx())
	first, err := beginning(v.ctx(), repos, watch)
	if err != nil {
		return err
	}
	q := v.r.URL.Query()
	var to, at time.Time
	for name, into := range map[string]*time.Time{"to": &to, "at": &at} {
		raw := q.Get(name)
		if raw == "" {
			continue
		}
		if *into, err = moment(raw, p.Zone); err != nil {
			if err := complain(&p.Chrome, err); err != nil {
				return err
			}
			code = http.StatusBadRequest
		}
	}
	p.View = ui.NewTimeView(ui.Asked(q.Get("span")), to, at, p.Now, first)
	p.First = first
	for _, r := range repos {
		p.Repos = append(p.Repos, shownRepo(v, r))
	}
	if err := d.fillHappened(v, watch, &p); err != nil {
		return err
	}
	if !p.View.At.IsZero() {
		if err := d.fillMoment(v, past, watch, &p); err != nil {
			return err
		}
	}
	d.render(v.w, v.r, code, "time", p)
	return nil
}

// beginning is the first that anything is known of; now, for a house of which nothing is.
func beginning(ctx context.Context, repos []PastRepo, watch *Watch) (first time.Time, err error) {
	note := func(at time.Time) {
		if !at.IsZero() && (first.IsZero() || at.Before(first)) {
			first = at
		}
	}
	for _, r := range repos {
		if len(r.Backups) > 0 {
			note(r.Backups[0].Began)
		}
		if len(r.Dumps) > 0 {
			note(r.Dumps[0].Began)
		}
		if len(r.Written) > 0 {
			note(r.Written[0].At)
		}
	}
	if watch != nil {
		at, err := watch.Trail.First(ctx)
		if err != nil {
			return first, err
		}
		note(at)
	}
	return first, nil
}

// shownRepo is what a repo tells, with what comes from outside as it can be shown.
func shownRepo(v *visit, r PastRepo) ui.TimeRepo {
	out := r.TimeRepo
	out.Place = ui.Seen(out.Place, 200)
	if r.Trouble != nil {
		what, mend := v.lang.Fault(r.Trouble)
		out.Trouble, out.Mend = ui.Seen(what, 1000), ui.Seen(mend, 1000)
	}
	for _, err := range r.Troubles {
		what, mend := v.lang.Fault(err)
		out.Troubles = append(out.Troubles, ui.Trouble{What: ui.Seen(what, 1000), Mend: ui.Seen(mend, 1000)})
	}
	out.Dumps = slices.Clone(out.Dumps)
	for i := range out.Dumps {
		names := slices.Clone(out.Dumps[i].Databases)
		for k := range names {
			names[k] = ui.Seen(names[k], mostName)
		}
		out.Dumps[i].Databases = names
	}
	out.Drills = slices.Clone(out.Drills)
	for i := range out.Drills {
		out.Drills[i].Problem = ui.Seen(out.Drills[i].Problem, 300)
	}
	return out
}

// acts is a filter of the trail for what was done; who came and went, and what PostgreSQL says of itself, would bury it.
func acts(from, to time.Time) audit.Filter {
	return audit.Filter{From: from, To: to, Without: []string{audit.ClassLogin, audit.ClassLog, audit.ClassRights, audit.ClassIncident}}
}

// fillHappened puts what the trail has of the span on the page: each entry, where they are few, otherwise how many.
func (d *Door) fillHappened(v *visit, w *Watch, p *ui.TimePage) error {
	if w == nil {
		return nil
	}
	from, to := p.View.From, p.View.To
	words := telling{w.State().Rules, v.lang}
	incidents, err := w.Trail.Incidents(v.ctx(), index.IncidentFilter{From: from, To: to, Limit: 1000})
	if err != nil {
		return err
	}
	for _, i := range incidents {
		p.Alerts = append(p.Alerts, alertOf(words, i))
	}
	slices.SortStableFunc(p.Alerts, func(a, b ui.TimeAlert) int { return cmp.Compare(a.At.UnixNano(), b.At.UnixNano()) })
	f := acts(from, to)
	f.Limit = mostTicks + 1
	found, err := w.Trail.Entries(v.ctx(), f)
	if err != nil {
		return err
	}
	if len(found.Entries) <= mostTicks {
		for i := range found.Entries {
			p.Acts = append(p.Acts, ui.TimeAct{At: found.Entries[i].Time, N: 1})
		}
		slices.Reverse(p.Acts)
		return nil
	}
	p.Counted = true
	step := time.Minute
	switch span := to.Sub(from); {
	case span > 100*24*time.Hour:
		step = 6 * time.Hour
	case span > 48*time.Hour:
		step = time.Hour
	}
	bars, err := w.Trail.Activity(v.ctx(), from, to, step)
	if err != nil {
		return err
	}
	for _, b := range bars {
		if !slices.Contains(f.Without, b.Class) {
			p.Acts = append(p.Acts, ui.TimeAct{At: b.At, N: b.Entries, Step: step})
		}
	}
	return nil
}

func alertOf(words telling, i index.Incident) ui.TimeAlert {
	return ui.TimeAlert{ID: i.ID, At: i.Began, Severity: severityOf(i.Severity), Title: words.title(i.Rule), Actor: ui.Seen(i.Actor, mostName), Open: i.Open}
}

// fillMoment says what happened around the moment that was chosen, and what a restore to it would take.
func (d *Door) fillMoment(v *visit, past *Past, w *Watch, p *ui.TimePage) error {
	m := &ui.TimeMoment{At: p.View.At}
	m.From, m.To = p.View.Around()
	for _, one := range past.Plan(v.ctx(), m.At) {
		m.Plans = append(m.Plans, shownPlan(v, one))
	}
	// The first that leads there is the one to show; the others are named below it.
	slices.SortStableFunc(m.Plans, func(a, b ui.TimePlan) int { return a.Rank() - b.Rank() })
	if w != nil {
		words := telling{w.State().Rules, v.lang}
		incidents, err := w.Trail.Incidents(v.ctx(), index.IncidentFilter{From: m.From, To: m.To, Limit: mostAround})
		if err != nil {
			return err
		}
		for _, i := range incidents {
			m.Alerts = append(m.Alerts, alertOf(words, i))
		}
		// As many before the moment as behind it, the nearest.
		for _, part := range []struct{ from, to time.Time }{{m.From, m.At}, {m.At, m.To}} {
			f := acts(part.from, part.to)
			f.Limit = 1000
			found, err := w.Trail.Entries(v.ctx(), f)
			for after := part.from.Equal(m.At); err == nil && after && len(found.Entries) == f.Limit && f.To.Sub(f.From) > time.Millisecond; {
				f.To = f.From.Add(f.To.Sub(f.From) / 8) // the trail gives the newest first, and these are not the nearest
				m.MoreAfter = true
				found, err = w.Trail.Entries(v.ctx(), f)
			}
			if err != nil {
				return err
			}
			entries := found.Entries // the newest first
			if part.from.Equal(m.At) && len(entries) > mostAround/2 {
				m.MoreAfter, entries = true, entries[len(entries)-mostAround/2:]
			} else if len(entries) > mostAround/2 {
				m.MoreBefore, entries = true, entries[:mostAround/2]
			}
			shown := make([]ui.WatchEntry, 0, len(entries))
			for i := range entries {
				shown = append(shown, words.entry(&entries[i], nil, nil))
			}
			if part.from.Equal(m.At) {
				m.Entries = append(shown, m.Entries...)
			} else {
				m.Entries = append(m.Entries, shown...)
			}
		}
	}
	posts, err := d.rooms.Pulse(v.ctx(), v.me(), m.From, m.To, m.Step())
	if err != nil {
		return err
	}
	for _, one := range posts {
		m.Posts = append(m.Posts, ui.TimeAct{At: one.At, N: one.Posts})
	}
	p.Moment = m
	return nil
}

// shownPlan is a plan as it can be shown.
func shownPlan(v *visit, one PastPlan) ui.TimePlan {
	out := ui.TimePlan{}
	if one.Plan != nil {
		out = *one.Plan
	}
	out.Place, out.Pending = ui.Seen(one.Place, 200), one.Pending
	if one.Err != nil {
		what, mend := v.lang.Fault(one.Err)
		out.Why, out.Mend = ui.Seen(what, 1000), ui.Seen(mend, 1000)
	}
	return out
}

// The same for programs.

// timeJSON is what GET /api/v1/time gives of a repo.
type timeJSON struct {
	Place      string           `json:"place"`
	At         *time.Time       `json:"at"`      // when it was read; null: not yet
	Reading    bool             `json:"reading"` // it is being read anew
	Trouble    *failureJSON     `json:"trouble"` // why it could not be
	Incomplete []failureJSON    `json:"incomplete"`
	Ranges     []ui.TimeRange   `json:"ranges"`
	Holes      []ui.TimeHole    `json:"holes"`
	Backups    []ui.TimeBackup  `json:"backups"`
	Dumps      []ui.TimeDump    `json:"dumps"`
	Drills     []ui.TimeDrill   `json:"drills"`
	WAL        []ui.TimeWritten `json:"wal"`
}

// chosenOf are those of a list that a choice wants; never nil.
func chosenOf[T any](list []T, wants func(T) bool) []T {
	out := []T{}
	for _, one := range list {
		if wants(one) {
			out = append(out, one)
		}
	}
	return out
}

func (d *Door) apiTime(v *visit) (any, error) {
	past, _, err := d.past(v)
	if err != nil {
		return nil, err
	}
	from, to, err := v.between()
	if err != nil {
		return nil, err
	}
	within := func(began, ended time.Time) bool {
		return (to.IsZero() || began.Before(to)) && (from.IsZero() || !ended.Before(from))
	}
	all := []timeJSON{}
	for _, r := range past.Look(v.ctx()) {
		one := timeJSON{Place: r.Place, Reading: !r.Reading.IsZero(), Incomplete: []failureJSON{},
			Ranges:  chosenOf(r.Ranges, func(x ui.TimeRange) bool { return within(x.From, x.To) }),
			Holes:   chosenOf(r.Holes, func(ui.TimeHole) bool { return true }),
			Backups: chosenOf(r.Backups, func(x ui.TimeBackup) bool { return within(x.Began, x.Ended) }),
			Dumps:   chosenOf(r.Dumps, func(x ui.TimeDump) bool { return within(x.Began, x.Ended) }),
			Drills:  chosenOf(r.Drills, func(x ui.TimeDrill) bool { return within(x.Began, x.Ended) }),
			WAL:     chosenOf(r.Written, func(x ui.TimeWritten) bool { return within(x.At, x.At.Add(time.Minute)) })}
		if !r.Read.IsZero() {
			at := r.Read
			one.At = &at
		}
		if r.Trouble != nil {
			f := failure(v.lang, fault.Of(r.Trouble))
			one.Trouble = &f
		}
		for _, err := range r.Troubles {
			one.Incomplete = append(one.Incomplete, failure(v.lang, fault.Of(err)))
		}
		all = append(all, one)
	}
	return object{"repos": all}, nil
}

// between reads the moments from and to of an address; zero where they are not given.
func (v *visit) between() (from, to time.Time, err error) {
	for name, into := range map[string]*time.Time{"from": &from, "to": &to} {
		if raw := v.r.URL.Query().Get(name); raw != "" && err == nil {
			*into, err = moment(raw, time.UTC)
		}
	}
	return from, to, err
}

func (d *Door) apiTimePlan(v *visit) (any, error) {
	past, _, err := d.past(v)
	if err != nil {
		return nil, err
	}
	at, err := moment(strings.TrimSpace(v.r.URL.Query().Get("at")), time.UTC)
	if err != nil {
		return nil, err
	}
	all := []object{}
	for _, p := range past.Plan(v.ctx(), at) {
		one := object{"place": p.Place, "pending": p.Pending, "plan": p.Whole, "error": nil}
		if p.Err != nil {
			one["error"] = failure(v.lang, fault.Of(p.Err))
		}
		all = append(all, one)
	}
	return object{"at": at.UTC(), "plans": all}, nil
}

func (d *Door) apiTimePosts(v *visit) (any, error) {
	if _, _, err := d.past(v); err != nil {
		return nil, err
	}
	from, to, err := v.between()
	if err != nil {
		return nil, err
	}
	posts, err := d.rooms.Pulse(v.ctx(), v.me(), from, to, time.Minute)
	if err != nil {
		return nil, err
	}
	if posts == nil {
		posts = []chat.Beat{}
	}
	return object{"minutes": posts}, nil
}
