package web

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"howdah/internal/account"
	"howdah/internal/audit"
	"howdah/internal/audit/index"
	"howdah/internal/audit/judge"
	"howdah/internal/chat"
	"howdah/internal/fault"
	"howdah/internal/web/ui"
)

// The page Watch: the trail as the tables of package index have it, and the incidents on it.

// Watch is what the page is made from. The trail's files are the truth; the page reads tables that follow them, so it says how far these are.
type Watch struct {
	Trail *index.Reader
	State func() WatchState
	// EndMute ends the mute of an incident about which #ops has no message any more; by is who asks.
	EndMute func(incident, by string) error
}

// WatchState is how the watch itself stands.
type WatchState struct {
	Rules    *judge.Rules  // in whose words incidents are told; nil: the watch has not begun
	Missing  int64         // lines of the trail's files that its tables do not have
	Late     time.Duration // for how long that has been so
	Troubles []error       // what keeps the watch from seeing all that it should, or from writing it down
	Behind   time.Duration // between the newest line judged and now, while there are more; 0: all is judged
	Learns   time.Time     // until then habits are learned; zero: they speak
	Without  []string      // what it does not see, having no pgAudit: the texts are in the catalogs, under "check.without."
	Mutes    []judge.Mute  // what the watch is silent about, or was not long ago
}

const (
	watchPage     = 100 // entries of the trail on a page
	sessionPage   = 200 // of a session
	mostText      = 8 << 10
	mostName      = 120
	mostWeeks     = 4 // roles with hours of the week
	mostIncidents = 100
	// Lines that only tell of who fills the tables wait there for the next others, a minute at most: neither so few nor so short a time is worth a word.
	fewMissing = 20
	tablesLate = 90 * time.Second
)

// watch lets those in who may look at the watch: who runs the house.
func (d *Door) watch(v *visit) (*Watch, error) {
	if d.options.Watch == nil {
		return nil, fault.New(fault.NotFound, "web.watch_none")
	}
	if !v.me().Role.AtLeast(account.Admin) {
		return nil, fault.New(fault.Forbidden, "web.watch_admins")
	}
	return d.options.Watch, nil
}

// watchSpans are how far back each of ui.Spans goes, and how long a bar of the plot then is.
var watchSpans = map[string]struct{ back, step time.Duration }{
	"1h": {time.Hour, time.Minute}, "24h": {24 * time.Hour, time.Hour}, "7d": {7 * 24 * time.Hour, 3 * time.Hour}, "30d": {30 * 24 * time.Hour, 12 * time.Hour},
}

// watchSteps are the lengths that a bar can have.
var watchSteps = []time.Duration{time.Minute, 5 * time.Minute, 15 * time.Minute, time.Hour, 3 * time.Hour, 12 * time.Hour, 24 * time.Hour, 7 * 24 * time.Hour, 28 * 24 * time.Hour}

// stepOf is how long a bar is, so that there are no more than a hundred.
func stepOf(span time.Duration) time.Duration {
	for _, step := range watchSteps {
		if span/step <= 100 && (step >= time.Hour || span <= 48*time.Hour) {
			return step
		}
	}
	return watchSteps[len(watchSteps)-1]
}

// span is the time that a filter asks for, and how long a bar of it is. From is zero for all there is.
func span(f *ui.WatchFilter, zone *time.Location, now time.Time) (from, to time.Time, step time.Duration, err error) {
	moments := [2]time.Time{}
	for i, raw := range []*string{&f.From, &f.To} {
		if *raw == "" {
			continue
		}
		if moments[i], err = moment(*raw, zone); err != nil {
			return from, to, 0, err
		}
		*raw = moments[i].UTC().Format(time.RFC3339)
	}
	if f.From != "" || f.To != "" {
		f.Last = ""
		from, to = moments[0], moments[1]
		if to.IsZero() {
			to = now
		}
		if from.IsZero() || !from.Before(to) {
			return from, to, watchSteps[len(watchSteps)-1], nil
		}
		return from, to, stepOf(to.Sub(from)), nil
	}
	if f.Last == "all" {
		return from, now, watchSteps[len(watchSteps)-1], nil
	}
	chosen, ok := watchSpans[f.Last]
	if !ok {
		f.Last = ui.Spans[0]
		chosen = watchSpans[f.Last]
	}
	return now.Add(-chosen.back), now, chosen.step, nil
}

// moment reads what a form or a script wrote: RFC 3339, or a date and time of day in the reader's zone.
func moment(raw string, zone *time.Location) (time.Time, error) {
	if at, err := time.Parse(time.RFC3339, raw); err == nil {
		return at, nil
	}
	for _, form := range []string{"2006-01-02T15:04", "2006-01-02T15:04:05", "2006-01-02 15:04", time.DateOnly} {
		if at, err := time.ParseInLocation(form, raw, zone); err == nil && at.Year() > 0 {
			return at, nil
		}
	}
	return time.Time{}, fault.New(fault.Invalid, "web.watch_time", fault.Args{"value": ui.Seen(raw, 60)})
}

// contains is a pattern of audit.Filter for what somebody types: a part of it will do; "=" asks for the whole, and "*" is theirs to use.
func contains(typed string) string {
	if whole, ok := strings.CutPrefix(typed, "="); ok {
		return whole
	}
	if typed == "" || strings.Contains(typed, "*") {
		return typed
	}
	return "*" + typed + "*"
}

// chosen makes a filter of the trail of what stands in an address.
func chosen(f ui.WatchFilter, from, to time.Time) audit.Filter {
	out := audit.Filter{From: from, To: to, Role: contains(f.Who), Source: contains(f.Source), Class: f.Class, Object: contains(f.Object), Outcome: f.Outcome, Text: f.Text}
	switch f.Class {
	case "": // who came and went, and what PostgreSQL says of itself, would bury what was done
		out.Without = []string{audit.ClassLogin, audit.ClassLog, audit.ClassRights}
		if f.Outcome != "" && f.Outcome != audit.OutcomeDone { // but a log-in that was refused is what is asked for
			out.Without = nil
		}
	case ui.EveryClass:
		out.Class = ""
	}
	return out
}

func (d *Door) watchPage(v *visit) error { return d.showWatch(v, http.StatusOK, nil) }

func (d *Door) showWatch(v *visit, code int, problem error) error {
	w, err := d.watch(v)
	if err != nil {
		return err
	}
	c, err := d.chromeWith(v, problem)
	if err != nil {
		return err
	}
	q := v.r.URL.Query()
	p := ui.WatchPage{Chrome: c, Filter: ui.ReadWatchFilter(q)}
	p.Title = v.lang.T("web.watch.heading")
	step := time.Duration(0)
	if p.From, p.To, step, err = span(&p.Filter, p.Zone, p.Now); err != nil {
		if err := complain(&p.Chrome, err); err != nil {
			return err
		}
		code = http.StatusBadRequest
		p.Filter.From, p.Filter.To = "", ""
		if p.From, p.To, step, err = span(&p.Filter, p.Zone, p.Now); err != nil {
			return err
		}
	}
	f := chosen(p.Filter, p.From, p.To)
	if p.Filter.To == "" {
		f.To = time.Time{} // what is written while this is read is not left out
	}
	f.Limit = watchPage
	if f.Before, err = audit.ParseCursor(q.Get("before")); err != nil {
		return err
	}
	p.Page = f.Before != audit.Cursor{}
	found, err := w.Trail.Entries(v.ctx(), f)
	if err != nil {
		return err
	}
	p.Older = found.More.String()
	if len(found.Entries) < f.Limit {
		p.Looked = found.More.Time
	}
	state := w.State()
	words := telling{state.Rules, v.lang}
	p.Mutes = words.mutes(state.Mutes, p.Now)
	if err := d.fillIncidents(v, w, words, &p, ui.Asked(q.Get("incident"))); err != nil {
		return err
	}
	for i := range found.Entries {
		p.Entries = append(p.Entries, words.entry(&found.Entries[i], p.Incidents, p.Answered))
	}
	if err := d.fillPlots(v, w, &p, step); err != nil {
		return err
	}
	p.Starting, p.Behind, p.Learns, p.Without = state.Rules == nil, state.Behind, state.Learns, state.Without
	if p.Seq, p.LevelAt, err = w.Trail.Level(v.ctx()); err != nil {
		return err
	}
	if p.Missing = state.Missing; p.Missing <= fewMissing && state.Late < tablesLate {
		p.Missing = 0
	}
	p.Late = state.Late >= tablesLate
	for _, trouble := range state.Troubles {
		what, hint := v.lang.Fault(trouble)
		p.Troubles = append(p.Troubles, ui.Trouble{What: ui.Seen(what, 1000), Mend: ui.Seen(hint, 1000)})
	}
	d.render(v.w, v.r, code, "watch", p)
	return nil
}

// fillIncidents puts on the page what is open, what of its time was answered, and the one that its address names.
func (d *Door) fillIncidents(v *visit, w *Watch, words telling, p *ui.WatchPage, named string) error {
	open, err := w.Trail.Incidents(v.ctx(), index.IncidentFilter{Open: true, Limit: mostIncidents})
	if err != nil {
		return err
	}
	all, err := w.Trail.Incidents(v.ctx(), index.IncidentFilter{From: p.From, To: p.To, Limit: mostIncidents})
	if err != nil {
		return err
	}
	if named != "" {
		one, err := w.Trail.Incident(v.ctx(), named)
		switch {
		case err == nil:
			p.Shown = named
			if !slices.ContainsFunc(slices.Concat(open, all), func(i index.Incident) bool { return i.ID == named }) {
				all = append(all, one)
			}
		case fault.Is(err, fault.NotFound): // told a moment ago, and not in the tables yet
			if err := complain(&p.Chrome, err); err != nil {
				return err
			}
		default:
			return err
		}
	}
	list := append([]index.Incident{}, open...)
	ids := map[string]bool{}
	names := []string{}
	for _, i := range slices.Concat(open, all) {
		if !ids[i.ID] {
			ids[i.ID] = true
			names = append(names, i.ID)
		}
	}
	for _, i := range all {
		if !slices.ContainsFunc(open, func(o index.Incident) bool { return o.ID == i.ID }) {
			list = append(list, i)
		}
	}
	// The room knows an answer at once, the tables a moment later.
	room, about, err := d.rooms.Alerts(v.ctx(), v.me(), names)
	if err != nil {
		return err
	}
	for _, i := range list {
		shown := words.incident(i)
		isOpen := i.Open
		if m, told := about[i.ID]; told {
			shown.Room, shown.Message, shown.Alert = room, m.Seq, pageAlert(m.Alert, v.lang)
			isOpen = m.Alert.State == chat.AlertOpen
		}
		if isOpen {
			p.Incidents = append(p.Incidents, shown)
		} else {
			p.Answered = append(p.Answered, shown)
		}
		if !i.Began.Before(p.From) && i.Began.Before(p.To) {
			p.Activity.Marks = append(p.Activity.Marks, ui.ActivityMark{At: i.Began, Severity: severityOf(i.Severity), Title: words.title(i.Rule), ID: i.ID})
		}
	}
	slices.SortStableFunc(p.Incidents, func(a, b ui.Incident) int { return gravity(b.Severity) - gravity(a.Severity) })
	return nil
}

func gravity(severity string) int {
	return slices.Index([]string{"informational", "low", "medium", "high", "critical"}, severity)
}

// severityOf is a severity that the page has words for.
func severityOf(s string) string {
	if gravity(s) < 0 {
		return "informational"
	}
	return s
}

// fillPlots counts what was done when, and by whom at which hour of the week. For all there is, it begins with the first of it.
func (d *Door) fillPlots(v *visit, w *Watch, p *ui.WatchPage, step time.Duration) error {
	from := p.From
	if from.IsZero() || !from.Before(p.To) || p.To.Sub(from) > 300*step {
		from = p.To.Add(-300 * step)
	}
	count := func(from time.Time, step time.Duration) ([]index.Bar, time.Duration, error) {
		if step < time.Hour {
			if fine, err := w.Trail.Fine(v.ctx(), from, p.To); err != nil {
				return nil, step, err
			} else if !fine {
				step = time.Hour
			}
		}
		bars, err := w.Trail.Activity(v.ctx(), from, p.To, step)
		return bars, step, err
	}
	bars, step, err := count(from, step)
	if err != nil {
		return err
	}
	// A trail that is younger than the time asked for fills the plot all the same.
	if p.From.IsZero() || len(bars) > 0 && bars[0].At.Sub(p.From) > p.To.Sub(p.From)/2 {
		p.From = p.To.Add(-step)
		if len(bars) > 0 {
			p.From = bars[0].At
		}
		if finer := stepOf(p.To.Sub(p.From)); finer < step {
			if bars, step, err = count(p.From, finer); err != nil {
				return err
			}
			if len(bars) > 0 {
				p.From = bars[0].At
			}
		}
	}
	p.Activity.Step = step
	for _, b := range bars {
		p.Activity.Counts = append(p.Activity.Counts, ui.ActivityCount{At: b.At, Class: strings.ToLower(b.Class), N: b.Entries})
	}
	if !p.From.Before(p.To) {
		return nil
	}
	hours, err := w.Trail.Week(v.ctx(), p.From, p.To)
	if err != nil {
		return err
	}
	// The tables count hours of UTC: they are moved by what the reader's zone is off now, to the whole hour.
	_, offset := p.Now.In(p.Zone).Zone()
	shift := (offset/3600 + 24*8) % (24 * 7)
	weeks := map[string]*ui.Week{}
	for _, h := range hours {
		week := weeks[h.Role]
		if week == nil {
			week = &ui.Week{Who: h.Role}
			weeks[h.Role] = week
		}
		hour := (h.Hour + shift) % (24 * 7)
		week.Hours[hour/24][hour%24] += h.Entries
		week.Total += h.Entries
	}
	for _, week := range weeks {
		p.Weeks = append(p.Weeks, *week)
	}
	slices.SortFunc(p.Weeks, func(a, b ui.Week) int {
		if a.Total != b.Total {
			if a.Total > b.Total {
				return -1
			}
			return 1
		}
		return strings.Compare(a.Who, b.Who)
	})
	for _, week := range p.Weeks {
		if ui.Seen(week.Who, mostName) == week.Who {
			p.Roles = append(p.Roles, week.Who)
		}
	}
	p.MoreRoles = max(0, len(p.Weeks)-mostWeeks)
	p.Weeks = p.Weeks[:min(len(p.Weeks), mostWeeks)]
	for i := range p.Entries {
		if s := p.Entries[i].Source; s != "" && !slices.Contains(p.Sources, s) {
			p.Sources = append(p.Sources, s)
		}
	}
	return nil
}

// watchEntry shows an entry within its whole session.
func (d *Door) watchEntry(v *visit) error {
	w, err := d.watch(v)
	if err != nil {
		return err
	}
	seq, err := v.number("seq")
	if err != nil {
		return err
	}
	e, err := w.Trail.Entry(v.ctx(), seq)
	if err != nil {
		return err
	}
	return d.showSession(v, w, e.SessionID, &e, 0)
}

// watchSession shows a session from its beginning, or behind one of its entries.
func (d *Door) watchSession(v *visit) error {
	w, err := d.watch(v)
	if err != nil {
		return err
	}
	after, err := v.query("after")
	if err != nil {
		return err
	}
	return d.showSession(v, w, ui.Asked(v.r.PathValue("session")), nil, after)
}

// showSession shows a page of a session: the one with an entry, or the one behind after. An entry without a session stands alone.
func (d *Door) showSession(v *visit, w *Watch, session string, current *audit.Entry, after int64) error {
	entries := []audit.Entry{}
	if session == "" && current != nil {
		entries = append(entries, *current)
	}
	if session != "" {
		var err error
		if entries, err = w.Trail.Session(v.ctx(), session, after); err != nil {
			return err
		}
		if current != nil && !slices.ContainsFunc(entries, func(e audit.Entry) bool { return e.Seq == current.Seq }) {
			after = current.Seq - 1 // it is further back than what is read at once
			if entries, err = w.Trail.Session(v.ctx(), session, after); err != nil {
				return err
			}
		}
		if len(entries) == 0 {
			return fault.New(fault.NotFound, "web.watch_session", fault.Args{"id": ui.Seen(session, mostName)})
		}
	}
	c, err := d.chrome(v)
	if err != nil {
		return err
	}
	p := ui.SessionPage{Chrome: c, ID: ui.Seen(session, mostName), Address: session, Back: "/watch", Whole: after == 0}
	p.Title = v.lang.T("web.watch.heading")
	if current != nil {
		p.Seq = current.Seq
		if at := slices.IndexFunc(entries, func(e audit.Entry) bool { return e.Seq == current.Seq }); at >= sessionPage {
			entries, p.Whole = entries[at-sessionPage/4:], false
		}
	}
	if len(entries) > sessionPage {
		entries = entries[:sessionPage]
		p.Later = entries[sessionPage-1].Seq
	}
	open, err := w.Trail.Incidents(v.ctx(), index.IncidentFilter{From: entries[0].Time.Add(-24 * time.Hour), To: entries[len(entries)-1].Time.Add(time.Second), Limit: mostIncidents})
	if err != nil {
		return err
	}
	words := telling{w.State().Rules, v.lang}
	incidents := make([]ui.Incident, len(open))
	for i := range open {
		incidents[i] = words.incident(open[i])
	}
	for i := range entries {
		e := &entries[i]
		row := words.whole(e, incidents)
		row.Current = e.Seq == p.Seq
		p.Entries = append(p.Entries, row)
		for _, part := range []struct {
			into *string
			from string
		}{{&p.Who, e.User}, {&p.App, e.App}, {&p.DB, e.DB}, {&p.Source, e.Host}} {
			if *part.into == "" {
				*part.into = ui.Seen(part.from, mostName)
			}
		}
		if p.PID == 0 {
			p.PID = e.PID
		}
		if p.Began.IsZero() && e.SessionStart != nil {
			p.Began = *e.SessionStart
		}
	}
	if p.Began.IsZero() {
		p.Began = entries[0].Time
	}
	if back := local(v.r.URL.Query().Get("back")); strings.HasPrefix(back, "/watch?") {
		if u, err := url.Parse(back); err == nil {
			p.Back = ui.ReadWatchFilter(u.Query()).With()
		}
	}
	d.render(v.w, v.r, http.StatusOK, "watch-session", p)
	return nil
}
