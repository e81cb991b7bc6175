package ui

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"time"
)

// The two plots of the page Watch: what was done when, and the hours of the week by role.

// Activity is how much was done when.
type Activity struct {
	Step   time.Duration
	Counts []ActivityCount // in any order
	Marks  []ActivityMark
}

// ActivityCount is how much of a class there was in the time that begins at At.
type ActivityCount struct {
	At    time.Time
	Class string
	N     int64
}

// ActivityMark is an incident in the plot.
type ActivityMark struct {
	At       time.Time
	Severity string
	Title    string
	ID       string
}

// plot is a drawing of bars: x in percent of its width, y in pixels, so that it fits any screen without a distorted letter.
type plot struct {
	Bars   []plotBar
	Lines  []plotTick // across
	Ticks  []plotTick // along the bottom
	Marks  []plotMark
	Legend []plotClass
	Total  int64
	Peak   int64
	PeakAt time.Time
}

type plotBar struct {
	At       time.Time
	X, W     string
	Name     string
	URL      string
	Total    int64
	Segments []plotSegment
	Counts   []int64 // by the legend
}

type plotSegment struct {
	X, W, Y, H string
	Slot       int
	Name, URL  string
}

type plotTick struct{ X, Y, Anchor, Text string }

type plotMark struct {
	X, Name, Severity, URL string
	At                     time.Time
}

type plotClass struct {
	Class, URL string
	Slot       int
	Total      int64
	On         bool // the filter asks for it
}

const (
	plotTop    = 24.0 // pixels above the bars, for the marks
	plotBottom = 174.0
	plotLeast  = 2.0 // pixels that even one record has
)

func percent(part, whole float64) string {
	return strconv.FormatFloat(100*part/whole, 'f', 3, 64) + "%"
}
func pixels(y float64) string { return strconv.FormatFloat(y, 'f', 1, 64) }

// nice is the least of 1, 2, 5, 10, 20, ... that is not below n.
func nice(n int64) int64 {
	for unit := int64(1); ; unit *= 10 {
		for _, k := range []int64{1, 2, 5} {
			if k*unit >= n || unit > math.MaxInt64/100 {
				return k * unit
			}
		}
	}
}

// Plot lays out the activity.
func (p WatchPage) Plot() plot {
	out := plot{}
	a := p.Activity
	span := p.To.Sub(p.From)
	if a.Step <= 0 || span <= 0 {
		return out
	}
	totals, bars := map[string]int64{}, map[time.Time]map[string]int64{}
	for _, c := range a.Counts {
		class := WatchClasses[place(c.Class)]
		totals[class] += c.N
		if bars[c.At] == nil {
			bars[c.At] = map[string]int64{}
		}
		bars[c.At][class] += c.N
	}
	for i, class := range WatchClasses {
		if n := totals[class]; n > 0 || p.Filter.Class == class {
			on := p.Filter.Class == class
			next := class
			if on {
				next = ""
			}
			out.Legend = append(out.Legend, plotClass{Class: class, Slot: slot(WatchClasses[i]), Total: n, On: on, URL: p.Filter.With("class", next)})
			out.Total += n
		}
	}
	var moments []time.Time
	for at, counts := range bars {
		moments = append(moments, at)
		sum := int64(0)
		for _, n := range counts {
			sum += n
		}
		if sum > out.Peak || sum == out.Peak && at.Before(out.PeakAt) {
			out.Peak, out.PeakAt = sum, at
		}
	}
	slices.SortFunc(moments, time.Time.Compare)
	top := nice(max(out.Peak, 1))
	height := plotBottom - plotTop
	for _, at := range moments {
		end := at.Add(a.Step)
		from, to := max(0, at.Sub(p.From)), min(span, end.Sub(p.From))
		if to <= from {
			continue
		}
		window := []string{"from", moment(at), "to", moment(end), "last", ""}
		gap := float64(a.Step) * .14
		bar := plotBar{At: at, X: percent(float64(from), float64(span)), W: percent(float64(to-from), float64(span)), URL: p.Filter.With(window...)}
		y := plotBottom
		for _, class := range out.Legend {
			n := bars[at][class.Class]
			bar.Counts = append(bar.Counts, n)
			bar.Total += n
			if n == 0 {
				continue
			}
			h := max(plotLeast, height*float64(n)/float64(top))
			y = max(plotTop, y-h)
			bar.Segments = append(bar.Segments, plotSegment{
				X: percent(float64(from)+gap/2, float64(span)), W: percent(max(float64(to-from)-gap, float64(span)/2000), float64(span)), Y: pixels(y), H: pixels(max(h-.8, 1)), Slot: class.Slot,
				Name: fmt.Sprintf("%s · %s: %s", p.bucket(at, end), p.Locale.T("web.watch.class."+class.Class), Grouped(n)), URL: p.Filter.With(append(window, "class", class.Class)...),
			})
		}
		bar.Name = fmt.Sprintf("%s: %s", p.bucket(at, end), Grouped(bar.Total))
		out.Bars = append(out.Bars, bar)
	}
	for _, part := range []int64{0, 1, 2} {
		if top == 1 && part == 1 {
			continue
		}
		out.Lines = append(out.Lines, plotTick{Y: pixels(plotBottom - height*float64(part)/2), Text: short(float64(top) * float64(part) / 2)})
	}
	out.Ticks = p.ticks(span)
	for _, m := range a.Marks {
		at := m.At.Sub(p.From)
		if at < 0 || at > span {
			continue
		}
		out.Marks = append(out.Marks, plotMark{X: percent(float64(at), float64(span)), Severity: m.Severity, At: m.At, URL: "#incident-" + m.ID,
			Name: fmt.Sprintf("%s · %s: %s", p.Clock(m.At)[:16], p.Locale.T("web.watch.severity."+m.Severity), m.Title)})
	}
	return out
}

// ticks name five moments along the bottom, the first and the last at its ends.
func (p WatchPage) ticks(span time.Duration) []plotTick {
	form := "01-02 15:04"
	switch {
	case span <= 26*time.Hour:
		form = "15:04"
	case span > 20*24*time.Hour:
		form = "2006-01-02"
	}
	var ticks []plotTick
	for i := range 5 {
		at := p.From.Add(span * time.Duration(i) / 4)
		anchor := "middle"
		switch i {
		case 0:
			anchor = "start"
		case 4:
			anchor = "end"
		}
		ticks = append(ticks, plotTick{X: percent(float64(i), 4), Anchor: anchor, Text: at.In(p.zone()).Format(form)})
	}
	return ticks
}

// bucket names a stretch of time.
func (p WatchPage) bucket(from, to time.Time) string {
	from, to = from.In(p.zone()), to.In(p.zone())
	if to.Sub(from) >= 24*time.Hour {
		return from.Format("2006-01-02")
	}
	return from.Format("2006-01-02 15:04") + "–" + to.Format("15:04")
}

// moment is a time as an address has it.
func moment(at time.Time) string {
	if at.IsZero() {
		return ""
	}
	return at.UTC().Format(time.RFC3339)
}

// short is a number for an axis: 1.5k.
func short(n float64) string {
	for _, unit := range []struct {
		n    float64
		name string
	}{{1e9, "G"}, {1e6, "M"}, {1e3, "k"}} {
		if n >= unit.n {
			return strconv.FormatFloat(n/unit.n, 'g', 3, 64) + unit.name
		}
	}
	return strconv.FormatFloat(n, 'g', 3, 64)
}

// Week is how much a role did in which hour of the week, in the reader's zone.
type Week struct {
	Who   string
	Total int64
	Hours [7][24]int64 // by day, 0 Sunday
}

// heat is a week as squares.
type heat struct {
	Who, URL string
	Total    int64
	Cells    []heatCell
	Days     []heatDay
	Peak     string // when most was done, in words
}

type heatCell struct {
	X, Y, W string
	Level   int // 1 to 5
	Name    string
}

type heatDay struct {
	Name  string
	Y     string
	Hours [24]int64
	Any   bool
}

const (
	heatHeight = 13.0 // pixels of an hour
	heatTop    = 14.0
)

// Heats lays out the weeks. A week begins on Monday. One measure for all of them: a colour means the same in each.
func (p WatchPage) Heats() []heat {
	most := int64(1)
	for _, w := range p.Weeks {
		for _, day := range w.Hours {
			most = max(most, slices.Max(day[:]))
		}
	}
	var all []heat
	for _, w := range p.Weeks {
		h := heat{Who: Seen(w.Who, 100), Total: w.Total, URL: p.Filter.With("who", exactly(w.Who))}
		peak := int64(0)
		for row := range 7 {
			day := (row + 1) % 7
			y := heatTop + heatHeight*float64(row)
			d := heatDay{Name: p.weekday(day), Y: pixels(y + 10), Hours: w.Hours[day]}
			for hour, n := range w.Hours[day] {
				if n == 0 {
					continue
				}
				d.Any = true
				name := fmt.Sprintf("%s %02d:00", d.Name, hour)
				if n > peak {
					peak, h.Peak = n, name
				}
				h.Cells = append(h.Cells, heatCell{X: percent(float64(hour)+.06, 24), Y: pixels(y), W: percent(.88, 24), Level: level(n, most),
					Name: fmt.Sprintf("%s · %s: %s", h.Who, name, Grouped(n))})
			}
			h.Days = append(h.Days, d)
		}
		all = append(all, h)
	}
	return all
}

// level is how dark an hour is, 1 to 5, by the logarithm: a flood in one hour does not make all others look empty.
func level(n, most int64) int {
	if most <= 1 {
		return 5
	}
	return 1 + int(math.Round(4*math.Log(float64(n))/math.Log(float64(most))))
}
