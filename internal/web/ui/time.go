package ui

import (
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"time"

	"howdah/internal/fault"
)

// The page Time. What it shows comes as plain values; how it is laid out is decided here and in time_plot.go.

// TimeView is which part of the past is looked at, and which moment of it.
type TimeView struct {
	Span     string // one of TimeSpans
	From, To time.Time
	At       time.Time // the moment that was chosen; zero: none
	Newest   bool      // it ends now, and goes with it

	step time.Duration // of a row of the table
	next string        // the span that one comes to by zooming in; the same at the finest
	back string        // by zooming out
}

// timeSpan is a length of time that the page can show.
type timeSpan struct {
	name   string
	span   time.Duration
	step   time.Duration // of a row of the table
	around time.Duration // on each side of a moment, of which is told what happened
	posts  time.Duration // for which posts are counted there
}

const aDay = 24 * time.Hour

// timeSpans are those to zoom through, the longest first.
var timeSpans = []timeSpan{
	{"1y", 365 * aDay, 7 * aDay, 12 * time.Hour, 30 * time.Minute},
	{"90d", 90 * aDay, aDay, 12 * time.Hour, 30 * time.Minute},
	{"30d", 30 * aDay, aDay, 6 * time.Hour, 15 * time.Minute},
	{"7d", 7 * aDay, 6 * time.Hour, time.Hour, 2 * time.Minute},
	{"1d", aDay, time.Hour, 30 * time.Minute, time.Minute},
	{"6h", 6 * time.Hour, 15 * time.Minute, 15 * time.Minute, time.Minute},
	{"1h", time.Hour, time.Minute, 5 * time.Minute, time.Minute},
	{"10m", 10 * time.Minute, 10 * time.Second, 2 * time.Minute, 10 * time.Second},
	{"1m", time.Minute, time.Second, 30 * time.Second, time.Second},
}

func spanOf(name string) int {
	return slices.IndexFunc(timeSpans, func(s timeSpan) bool { return s.name == name })
}

// NewTimeView is the view that an address asks for. What it does not say: the least span, of an hour or more, in which all of the past since first
// fits, up to now or around the moment.
func NewTimeView(span string, to, at, now, first time.Time) TimeView {
	k := spanOf(span)
	if k < 0 {
		k = spanOf("1h")
		for k > 0 && !first.IsZero() && now.Sub(first) > timeSpans[k].span {
			k--
		}
	}
	s := timeSpans[k]
	v := TimeView{Span: s.name, At: at, step: s.step, next: timeSpans[min(k+1, len(timeSpans)-1)].name, back: timeSpans[max(k-1, 0)].name}
	if to.IsZero() || !to.Before(now) {
		to, v.Newest = now, true
	}
	if !at.IsZero() && (at.After(to) || at.Before(to.Add(-s.span))) {
		to, v.Newest = at.Add(s.span/2), false
		if !to.Before(now) && !at.After(now) {
			to, v.Newest = now, true
		}
	}
	v.From, v.To = to.Add(-s.span), to
	return v
}

// With is the address of the page with this view, changed by names and values.
func (v TimeView) With(pairs ...string) string {
	q := url.Values{"span": {v.Span}, "to": {moment(v.To)}, "at": {moment(v.At)}}
	if v.Newest {
		q.Del("to")
	}
	for i := 0; i+1 < len(pairs); i += 2 {
		q.Set(pairs[i], pairs[i+1])
	}
	for name, values := range q {
		if values[0] == "" {
			q.Del(name)
		}
	}
	if len(q) == 0 {
		return "/time"
	}
	return "/time?" + q.Encode()
}

// centre is the end of a span that has a moment in its middle.
func centre(at time.Time, span string) string {
	return moment(at.Add(timeSpans[spanOf(span)].span / 2))
}

// pivot is what one zooms at: the chosen moment, or the middle; the end, where that is now.
func (v TimeView) pivot() time.Time {
	switch {
	case !v.At.IsZero():
		return v.At
	case v.Newest:
		return v.To
	}
	return v.From.Add(v.To.Sub(v.From) / 2)
}

// Zoom is the address of another span about the same place.
func (v TimeView) Zoom(span string) string {
	if v.Newest && v.At.IsZero() {
		return v.With("span", span)
	}
	return v.With("span", span, "to", centre(v.pivot(), span))
}

// In, Out, Earlier, Later and Latest are the addresses of the views beside this one; "" where there is none.
func (v TimeView) In() string {
	if v.next == v.Span {
		return ""
	}
	return v.Zoom(v.next)
}

// Out shows more of the past.
func (v TimeView) Out() string {
	if v.back == v.Span {
		return ""
	}
	return v.Zoom(v.back)
}

// Earlier shows what was before, half of it known.
func (v TimeView) Earlier() string {
	return v.With("to", moment(v.To.Add(-v.To.Sub(v.From)/2)), "at", "")
}

// Later shows what was behind.
func (v TimeView) Later() string {
	if v.Newest {
		return ""
	}
	return v.With("to", moment(v.To.Add(v.To.Sub(v.From)/2)), "at", "")
}

// Latest goes to now.
func (v TimeView) Latest() string {
	if v.Newest {
		return ""
	}
	return v.With("to", "", "at", "")
}

// Around is the time about the moment of which is told what happened.
func (v TimeView) Around() (from, to time.Time) {
	around := timeSpans[spanOf(v.Span)].around
	return v.At.Add(-around), v.At.Add(around)
}

// TimePage ("time"): GET /time?span=&to=&at=.
type TimePage struct {
	Chrome
	View    TimeView
	First   time.Time // the first that anything is known of; zero: of nothing
	Repos   []TimeRepo
	Alerts  []TimeAlert // of the span, oldest first
	Acts    []TimeAct   // what the trail has of it; each by itself unless Counted
	Counted bool
	Moment  *TimeMoment // nil: none is chosen
}

// TimeRepo is what a repo tells of the past.
type TimeRepo struct {
	Place    string
	Read     time.Time // when; zero: not yet
	Reading  time.Time // it is being read since then; zero: it is not
	Trouble  string    // why it could not be read when that was tried last
	Mend     string
	Troubles []Trouble // what of it could not be read
	Newest   time.Time // when the newest WAL came
	Ranges   []TimeRange
	Holes    []TimeHole
	Backups  []TimeBackup
	Dumps    []TimeDump
	Drills   []TimeDrill
	Written  []TimeWritten
}

// TimeRange is a stretch of time, every moment of which can be restored.
type TimeRange struct {
	From     time.Time `json:"from"`
	To       time.Time `json:"to"`
	Timeline uint32    `json:"timeline"`
}

// TimeHole is WAL that is missing.
type TimeHole struct {
	First  string    `json:"first_segment"`
	Last   string    `json:"last_segment"`
	Count  int64     `json:"count"`
	After  time.Time `json:"after,omitzero"` // the newest moment before it
	Before time.Time `json:"before,omitzero"`
}

// TimeBackup is a base backup.
type TimeBackup struct {
	ID       string    `json:"id"`
	Began    time.Time `json:"began"`
	Ended    time.Time `json:"ended"`
	Parent   string    `json:"parent,omitempty"` // what it is an increment to; "": it is a full one
	Good     bool      `json:"good"`
	Plain    int64     `json:"bytes"`  // of the data
	Stored   int64     `json:"stored"` // in the repo
	Verified time.Time `json:"verified,omitzero"`
	Drilled  time.Time `json:"drilled,omitzero"`
	Failed   time.Time `json:"drill_failed,omitzero"`
}

// TimeDump is a logical backup.
type TimeDump struct {
	ID        string    `json:"id"`
	Began     time.Time `json:"began"`
	Ended     time.Time `json:"ended"`
	Stored    int64     `json:"stored"`
	Databases []string  `json:"databases"`
}

// TimeDrill is a drill.
type TimeDrill struct {
	Backup  string    `json:"backup"`
	Began   time.Time `json:"began"`
	Ended   time.Time `json:"ended"`
	Good    bool      `json:"good"`
	Problem string    `json:"problem,omitempty"`
}

// TimeWritten is WAL that came into a repo in a minute.
type TimeWritten struct {
	At       time.Time `json:"minute"`
	Segments int       `json:"segments"`
	Bytes    int64     `json:"bytes"`
	Stored   int64     `json:"stored"`
}

// TimeAlert is an incident.
type TimeAlert struct {
	ID, Severity, Title, Actor string
	At                         time.Time
	Open                       bool
}

// TimeAct is something that was done, or how often in a step from At on.
type TimeAct struct {
	At   time.Time
	N    int64
	Step time.Duration
}

// TimeMoment is a moment, what happened around it and what a restore to it would take.
type TimeMoment struct {
	At, From, To          time.Time
	Plans                 []TimePlan // the best first
	Alerts                []TimeAlert
	Entries               []WatchEntry // newest first
	MoreBefore, MoreAfter bool
	Posts                 []TimeAct
}

// TimePlan is what a restore from a repo would take.
type TimePlan struct {
	Place       string
	Pending     bool
	Why, Mend   string // nothing leads there
	Backup      string
	BackupEnded time.Time
	Chain       int // backups that it consists of; 0: it is a full one
	Segments    int
	WAL, Read   int64
	Write       int64
	Seconds     int
	XID         uint32
	Reached     time.Time
	Timeline    uint32
}

// Rank puts plans in order: those that lead there, those that are not known yet, those that do not.
func (p TimePlan) Rank() int {
	switch {
	case p.Pending:
		return 1
	case p.Why != "":
		return 2
	}
	return 0
}

// Step is for how long posts are counted together.
func (m TimeMoment) Step() time.Duration {
	for _, s := range timeSpans {
		if s.around == m.To.Sub(m.At) {
			return s.posts
		}
	}
	return time.Minute
}

// Plan is the best of the plans; nil where no repo was asked.
func (m TimeMoment) Plan() *TimePlan {
	if len(m.Plans) == 0 {
		return nil
	}
	return &m.Plans[0]
}

// Others are the plans of the other repos.
func (m TimeMoment) Others() []TimePlan {
	if len(m.Plans) == 0 {
		return nil
	}
	return m.Plans[1:]
}

// Pending tells whether something is still being found out.
func (m TimeMoment) Pending() bool {
	return slices.ContainsFunc(m.Plans, func(p TimePlan) bool { return p.Pending })
}

// Stamp is the moment as commands have it.
func (m TimeMoment) Stamp() string { return m.At.UTC().Format("2006-01-02T15:04:05.999999Z07:00") }

// Watch is the address of all that the trail has around the moment.
func (m TimeMoment) Watch() string { return WatchFilter{From: moment(m.From), To: moment(m.To)}.With() }

// SpanNames are the spans to choose from.
func (p TimePage) SpanNames() []string {
	names := make([]string, len(timeSpans))
	for i, s := range timeSpans {
		names[i] = s.name
	}
	return names
}

// Waits tells whether something is being read or found out, so that it pays to ask again soon.
func (p TimePage) Waits() bool {
	return p.Moment != nil && p.Moment.Pending() || slices.ContainsFunc(p.Repos, func(r TimeRepo) bool { return !r.Reading.IsZero() })
}

// AtField is the moment as the form has it, to the second.
func (p TimePage) AtField() string {
	if p.View.At.IsZero() {
		return ""
	}
	return p.View.At.In(p.zone()).Format("2006-01-02T15:04:05")
}

// Second is a moment in the reader's zone, to the second.
func (c Chrome) Second(at time.Time) string { return at.In(c.zone()).Format("2006-01-02 15:04:05") }

// Bytes is an amount of bytes, to three figures.
func (c Chrome) Bytes(n int64) string { return bytesOf(float64(n)) }

func bytesOf(n float64) string {
	unit := 0
	for ; n >= 1000 && unit < 5; unit++ {
		n /= 1000
	}
	digits := 0
	switch {
	case unit > 0 && n < 10:
		digits = 2
	case unit > 0 && n < 100:
		digits = 1
	}
	return strconv.FormatFloat(n, 'f', digits, 64) + " " + []string{"B", "kB", "MB", "GB", "TB", "PB"}[unit]
}

// Takes is how long something will take, roughly, in words.
func (c Chrome) Takes(seconds int) string {
	switch {
	case seconds < 90:
		return c.Locale.T("web.time.takes.seconds", fault.Args{"n": (seconds + 4) / 5 * 5})
	case seconds < 90*60:
		return c.Locale.T("web.time.takes.minutes", fault.Args{"n": (seconds + 30) / 60})
	}
	return c.Locale.T("web.time.takes.hours", fault.Args{"n": (seconds + 1800) / 3600})
}

// Frame is what the scripts need to know of the picture, as JSON: where it begins and ends, in milliseconds. It stands at the picture and changes with it.
func (p TimePage) Frame() (string, error) {
	raw, err := json.Marshal(map[string]any{"from": p.View.From.UnixMilli(), "to": p.View.To.UnixMilli(), "newest": p.View.Newest, "waits": p.Waits(), "zone": p.zone().String(), "span": p.View.Span})
	return string(raw), err
}

// Side is the sidebar of the page.
func (p TimePage) Side() sidebar { return p.sidebar("time", 0) }

// between is a stretch of time for a tooltip.
func (p TimePage) between(from, to time.Time) string {
	return fmt.Sprintf("%s – %s", p.Second(from), p.Second(to))
}
