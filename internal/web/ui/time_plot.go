package ui

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"howdah/internal/fault"
)

// The picture of the page Time: lanes under each other, all of the same span, x in percent of the width. And the same as a table.

// What can be said of a stretch of time: one can go back to any of its moments, to none, or nothing newer is in a repo yet.
const (
	bandGood    = "good"
	bandBad     = "bad"
	bandWait    = "wait"
	bandUnknown = "unknown" // no repo has been read yet
)

type stretch struct {
	from, to time.Time
	kind     string
}

// Picture is what the lanes hold.
type picture struct {
	Bands              []pictureBox
	Days               []string // where days begin, or what is a row of the table
	Ticks              []plotTick
	Columns            []pictureBox // what a click without scripts chooses
	Backups            []pictureMark
	Dumps              []pictureMark
	Drills             []pictureMark
	Acts               []pictureAct
	Alerts             []pictureMark
	WAL, WALTop        string // a path in a box of 1000 by 100, and what its top is
	Size, SizeTop      string
	SizePoints         []pictureMark
	At                 string // where the chosen moment is; "" where it is not in the picture
	Rows               []timeRow
	Good, Bad, Pending bool // which kinds of bands there are
}

type pictureBox struct{ X, W, Kind, Name, URL string }

type pictureMark struct{ X, Y, Kind, Name, URL string }

type pictureAct struct{ X, W, Y, H string }

// timeRow is a row of the table.
type timeRow struct {
	At                     time.Time
	Name, URL              string
	Kind                   string // good, bad, wait or unknown, where it is one of them altogether; mixed
	Share                  int    // percent of its known past that one can go back to
	Backups, Dumps, Drills int
	Failed                 int // drills that were not good
	Alerts                 int
	Worst                  string // the gravest of these
	Acts                   int64
	WAL                    int64
	Size                   int64 // of the data at the last full backup in it; 0: there was none
}

// stretches are what can be said of all of the past, in order, from the first that is known to now.
func (p TimePage) stretches() []stretch {
	now := p.now()
	if p.First.IsZero() || !p.First.Before(now) {
		return nil
	}
	var ranges []TimeRange
	read := false
	for _, r := range p.Repos {
		read = read || !r.Read.IsZero()
		ranges = append(ranges, r.Ranges...)
	}
	if !read {
		return []stretch{{p.First, now, bandUnknown}}
	}
	slices.SortFunc(ranges, func(a, b TimeRange) int { return cmp.Compare(a.From.UnixNano(), b.From.UnixNano()) })
	var all []stretch
	at := p.First
	for _, r := range ranges {
		if r.From.After(at) {
			all = append(all, stretch{at, r.From, bandBad})
		} else if n := len(all) - 1; n >= 0 && all[n].kind == bandGood && !r.From.After(all[n].to) {
			if r.To.After(all[n].to) {
				all[n].to, at = r.To, r.To
			}
			continue
		}
		if from := r.From; r.To.After(at) || r.To.Equal(from) {
			all = append(all, stretch{from, r.To, bandGood})
			at = r.To
		}
	}
	if at.Before(now) {
		kind := bandWait
		if len(ranges) == 0 {
			kind = bandBad
		}
		all = append(all, stretch{at, now, kind})
	}
	return all
}

// x is where a moment lies.
func (v TimeView) x(at time.Time) string {
	return percent(float64(at.Sub(v.From)), float64(v.To.Sub(v.From)))
}

func (v TimeView) holds(at time.Time) bool { return !at.Before(v.From) && !at.After(v.To) }

// clip cuts a stretch to the view; false where nothing is left.
func (v TimeView) clip(from, to time.Time) (a, b time.Time, ok bool) {
	if from.Before(v.From) {
		from = v.From
	}
	if to.After(v.To) {
		to = v.To
	}
	return from, to, !to.Before(from) && v.holds(from)
}

func (v TimeView) box(from, to time.Time) (x, w string) {
	span := float64(v.To.Sub(v.From))
	return v.x(from), percent(math.Max(float64(to.Sub(from)), span/1500), span)
}

// buckets are the beginnings of the table's rows, and the end of the last. They begin with days, hours or minutes as the reader's clock has them.
func (p TimePage) buckets() []time.Time {
	v := p.View
	at := v.From.In(p.zone())
	switch {
	case v.step >= aDay:
		at = time.Date(at.Year(), at.Month(), at.Day(), 0, 0, 0, 0, p.zone())
		if v.step > aDay {
			at = at.AddDate(0, 0, -(int(at.Weekday())+6)%7) // a week begins on Monday
		}
	case v.step > time.Hour:
		at = time.Date(at.Year(), at.Month(), at.Day(), at.Hour()/int(v.step/time.Hour)*int(v.step/time.Hour), 0, 0, 0, p.zone())
	default:
		at = at.Truncate(v.step)
	}
	all := []time.Time{at}
	for at.Before(v.To) && len(all) < 400 {
		if v.step >= aDay {
			at = at.AddDate(0, 0, int(v.step/aDay)) // a day may have 23 hours, or 25
		} else {
			at = at.Add(v.step)
		}
		all = append(all, at)
	}
	return all
}

// Picture lays out the lanes and the table.
func (p TimePage) Picture() picture {
	v := p.View
	out := picture{Ticks: p.timeTicks()}
	past := p.stretches()
	for _, s := range past {
		from, to, ok := v.clip(s.from, s.to)
		if !ok {
			continue
		}
		out.Good, out.Bad, out.Pending = out.Good || s.kind == bandGood, out.Bad || s.kind == bandBad, out.Pending || s.kind == bandWait
		x, w := v.box(from, to)
		out.Bands = append(out.Bands, pictureBox{X: x, W: w, Kind: s.kind, Name: p.between(s.from, s.to) + ": " + p.Locale.T("web.time.band."+s.kind)})
	}
	p.marks(&out)
	p.curves(&out)
	if v.holds(v.At) && !v.At.IsZero() {
		out.At = v.x(v.At)
	}
	edges := p.buckets()
	for i := range len(edges) - 1 {
		from, to := edges[i], edges[i+1]
		if to.After(v.From) && from.After(v.From) {
			if v.step >= aDay || from.In(p.zone()).Format("15:04:05") == "00:00:00" {
				out.Days = append(out.Days, v.x(from))
			}
		}
		if a, b, ok := v.clip(from, to); ok && b.After(a) {
			x, w := v.box(a, b)
			middle := a.Add(b.Sub(a) / 2).Truncate(time.Second)
			out.Columns = append(out.Columns, pictureBox{X: x, W: w, Name: p.Second(middle), URL: v.With("at", moment(middle))})
		}
		out.Rows = append(out.Rows, p.row(from, to, past))
	}
	slices.Reverse(out.Rows)
	return out
}

// marks are what was made, and what happened.
func (p TimePage) marks(out *picture) {
	v := p.View
	mark := func(into *[]pictureMark, at time.Time, kind, name string) {
		if v.holds(at) {
			*into = append(*into, pictureMark{X: v.x(at), Kind: kind, Name: p.Second(at) + " · " + name, URL: v.With("at", moment(at))})
		}
	}
	for _, r := range p.Repos {
		for _, b := range r.Backups {
			mark(&out.Backups, b.Ended, backupKind(b), p.Locale.T("web.time.backup."+backupKind(b))+" "+b.ID+" · "+bytesOf(float64(b.Plain)))
		}
		for _, d := range r.Dumps {
			mark(&out.Dumps, d.Ended, "dump", p.Locale.T("web.time.dump")+" "+d.ID+" · "+strings.Join(d.Databases, ", "))
		}
		for _, d := range r.Drills {
			kind := "drilled"
			if !d.Good {
				kind = "failed"
			}
			mark(&out.Drills, d.Ended, kind, p.Locale.T("web.time."+kind)+" "+d.Backup+" "+d.Problem)
		}
	}
	for _, a := range p.Alerts {
		mark(&out.Alerts, a.At, a.Severity, p.Locale.T("web.watch.severity."+a.Severity)+": "+a.Title+" · "+a.Actor)
	}
	most := int64(1)
	for _, a := range p.Acts {
		most = max(most, a.N)
	}
	const bottom, height = 46.0, 26.0
	for _, a := range p.Acts {
		from, to, ok := v.clip(a.At, a.At.Add(a.Step))
		if !ok {
			continue
		}
		h := 12.0
		if p.Counted {
			h = 2 + (height-2)*math.Sqrt(float64(a.N)/float64(most)) // a flood does not make all else look like nothing
		}
		x, w := v.box(from, to)
		out.Acts = append(out.Acts, pictureAct{X: x, W: w, Y: pixels(bottom - h), H: pixels(h)})
	}
}

func backupKind(b TimeBackup) string {
	switch {
	case !b.Good:
		return "damaged"
	case b.Parent == "":
		return "full"
	}
	return "increment"
}

// columns is into how many parts the curve of WAL cuts the span.
const columns = 120

// curves are how much WAL was written when, and how large the data was. Of several repos, which all get the same, the one that has most counts.
func (p TimePage) curves(out *picture) {
	v := p.View
	span := v.To.Sub(v.From)
	var sums [columns]float64
	most, points := 0.0, []TimeBackup{}
	for _, r := range p.Repos {
		var mine [columns]float64
		for _, w := range r.Written {
			// What came within a minute is spread over it.
			from, to, ok := v.clip(w.At, w.At.Add(time.Minute))
			if !ok || !to.After(from) {
				continue
			}
			first, last := int(columns*from.Sub(v.From)/span), int(columns*(to.Sub(v.From)-1)/span)
			first, last = max(0, min(first, columns-1)), max(0, min(last, columns-1))
			for i := first; i <= last; i++ {
				mine[i] += float64(w.Bytes) * to.Sub(from).Minutes() / float64(last-first+1)
			}
		}
		for i := range mine {
			sums[i] = max(sums[i], mine[i])
		}
		for _, b := range r.Backups {
			if b.Parent == "" {
				points = append(points, b)
			}
		}
	}
	per := span.Minutes() / columns
	for i := range sums {
		sums[i] /= per
		most = max(most, sums[i])
	}
	if most > 0 {
		top := niceBytes(most)
		out.WALTop = p.Locale.T("web.time.per_minute", fault.Args{"amount": bytesOf(top)})
		var d strings.Builder
		d.WriteString("M0 100")
		for i, n := range sums {
			y := coordinate(100 - 100*n/top)
			fmt.Fprintf(&d, "L%s %sL%s %s", coordinate(1000*float64(i)/columns), y, coordinate(1000*float64(i+1)/columns), y)
		}
		d.WriteString("L1000 100Z")
		out.WAL = d.String()
	}
	slices.SortFunc(points, func(a, b TimeBackup) int { return cmp.Compare(a.Ended.UnixNano(), b.Ended.UnixNano()) })
	largest := 0.0
	for _, b := range points {
		largest = max(largest, float64(b.Plain))
	}
	if len(points) == 0 || points[0].Ended.After(v.To) {
		return
	}
	top := niceBytes(largest)
	out.SizeTop = bytesOf(top)
	var d strings.Builder
	for i, b := range points {
		x := coordinate(1000 * float64(b.Ended.Sub(v.From)) / float64(span))
		y := coordinate(100 - 100*float64(b.Plain)/top)
		fmt.Fprintf(&d, "%s%s %s", map[bool]string{true: "M", false: "L"}[i == 0], x, y)
		if v.holds(b.Ended) {
			out.SizePoints = append(out.SizePoints, pictureMark{X: v.x(b.Ended), Y: pixels(6 + 44*(1-float64(b.Plain)/top)), Name: p.Second(b.Ended) + " · " + bytesOf(float64(b.Plain)), URL: v.With("at", moment(b.Ended))})
		}
	}
	last := points[len(points)-1] // what came of it since, nobody has measured
	fmt.Fprintf(&d, "L%s %s", coordinate(1000*float64(min(p.now().Sub(v.From), span))/float64(span)), coordinate(100-100*float64(last.Plain)/top))
	out.Size = d.String()
}

// coordinate is a number in a path; what lies far outside of it is cut, since drawing programs count with few digits.
func coordinate(n float64) string {
	return strconv.FormatFloat(math.Max(-1e6, math.Min(1e6, n)), 'f', 1, 64)
}

// niceBytes is the least round amount that is not below n.
func niceBytes(n float64) float64 {
	for unit := 1.0; ; unit *= 10 {
		for _, k := range []float64{1, 2, 5} {
			if k*unit >= n {
				return k * unit
			}
		}
	}
}

// row counts what was in a stretch of time.
func (p TimePage) row(from, to time.Time, past []stretch) timeRow {
	v := p.View
	r := timeRow{At: from, Name: p.rowName(from, to), URL: v.With("at", moment(from))}
	if v.step >= time.Minute {
		r.URL = v.With("span", v.next, "to", centre(from.Add(to.Sub(from)/2), v.next), "at", moment(from.Add(to.Sub(from)/2)))
	}
	within := func(at time.Time) bool { return !at.Before(from) && at.Before(to) }
	of := map[string]time.Duration{}
	known := time.Duration(0)
	for _, s := range past {
		a, b := s.from, s.to
		if a.Before(from) {
			a = from
		}
		if b.After(to) {
			b = to
		}
		if b.After(a) {
			of[s.kind] += b.Sub(a)
			known += b.Sub(a)
		}
	}
	if known > 0 {
		r.Kind = "mixed"
		for kind, d := range of {
			if d == known {
				r.Kind = kind
			}
		}
		r.Share = min(99, int(100*of[bandGood]/known))
		if r.Kind == bandGood {
			r.Share = 100
		}
	}
	for _, repo := range p.Repos {
		wal := int64(0)
		for _, b := range repo.Backups {
			if within(b.Ended) {
				r.Backups++
				if b.Parent == "" {
					r.Size = max(r.Size, b.Plain)
				}
			}
		}
		for _, d := range repo.Dumps {
			if within(d.Ended) {
				r.Dumps++
			}
		}
		for _, d := range repo.Drills {
			if within(d.Ended) {
				r.Drills++
				if !d.Good {
					r.Failed++
				}
			}
		}
		for _, w := range repo.Written {
			if within(w.At) {
				wal += w.Bytes
			}
		}
		r.WAL = max(r.WAL, wal)
	}
	for _, a := range p.Alerts {
		if within(a.At) {
			r.Alerts++
			if r.Worst == "" || grave(a.Severity) > grave(r.Worst) {
				r.Worst = a.Severity
			}
		}
	}
	for _, a := range p.Acts {
		if within(a.At) {
			r.Acts += a.N
		}
	}
	return r
}

func grave(severity string) int {
	return slices.Index([]string{"informational", "low", "medium", "high", "critical"}, severity)
}

// rowName names a row of the table.
func (p TimePage) rowName(from, to time.Time) string {
	from, to = from.In(p.zone()), to.In(p.zone())
	switch {
	case p.View.step > aDay:
		return from.Format("2006-01-02") + " – " + to.AddDate(0, 0, -1).Format("01-02")
	case p.View.step == aDay:
		return from.Format("2006-01-02") + " " + p.weekday(int(from.Weekday()))
	case p.View.step >= time.Minute:
		return from.Format("2006-01-02 15:04")
	}
	return from.Format("2006-01-02 15:04:05")
}

// timeTicks name five moments along the picture, the first and the last at its ends.
func (p TimePage) timeTicks() []plotTick {
	span := p.View.To.Sub(p.View.From)
	form := "01-02 15:04"
	switch {
	case span <= 10*time.Minute:
		form = "15:04:05"
	case span < aDay:
		form = "15:04"
	case span > 20*aDay:
		form = "2006-01-02"
	}
	var ticks []plotTick
	for i := range 5 {
		anchor := "middle"
		switch i {
		case 0:
			anchor = "start"
		case 4:
			anchor = "end"
		}
		ticks = append(ticks, plotTick{X: percent(float64(i), 4), Anchor: anchor, Text: p.View.From.Add(span * time.Duration(i) / 4).In(p.zone()).Format(form)})
	}
	return ticks
}

// pulseBar is a bar of the posts around a moment.
type pulseBar struct {
	X, W, Y, H, Name, Time string
	Rate                   string
}

// Pulse lays out the posts around the moment, and says how many a minute the highest bar is.
func (p TimePage) Pulse() (out struct {
	Bars []pulseBar
	Top  string
	At   string
}) {
	m := p.Moment
	if m == nil || len(m.Posts) == 0 {
		return out
	}
	most, span := int64(1), float64(m.To.Sub(m.From))
	for _, b := range m.Posts {
		most = max(most, b.N)
	}
	rate := func(n int64) string {
		return strconv.FormatFloat(float64(n)/m.Step().Minutes(), 'f', 1, 64)
	}
	for _, b := range m.Posts {
		from, to := b.At, b.At.Add(m.Step())
		if from.Before(m.From) {
			from = m.From
		}
		if to.After(m.To) {
			to = m.To
		}
		h := math.Max(2, 60*float64(b.N)/float64(most))
		out.Bars = append(out.Bars, pulseBar{X: percent(float64(from.Sub(m.From)), span), W: percent(float64(to.Sub(from))*.88, span), Y: pixels(66 - h), H: pixels(h),
			Time: p.Second(b.At), Rate: rate(b.N), Name: p.Second(b.At) + " · " + rate(b.N)})
	}
	out.Top, out.At = rate(most), percent(float64(m.At.Sub(m.From)), span)
	return out
}
