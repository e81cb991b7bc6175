package tell

import (
	"slices"
	"time"

	"howdah/internal/fault"
)

// Quiet are the hours of a week in which somebody does not want to be disturbed, in their own time zone.
type Quiet struct {
	From, To int            // minutes after midnight, 0 to 1439; To is on the next day where it is not after From
	Days     []time.Weekday // on which a period begins; none: never
}

// Span is a stretch of time: from From up to To.
type Span struct{ From, To time.Time }

// horizon is how far ahead quiet hours are looked at.
const horizon = 8 * 24 * time.Hour

func (q Quiet) check() error {
	ok := q.From >= 0 && q.From < 24*60 && q.To >= 0 && q.To < 24*60
	for _, day := range q.Days {
		ok = ok && day >= time.Sunday && day <= time.Saturday
	}
	if !ok {
		return fault.New(fault.Invalid, "tell.quiet")
	}
	return nil
}

// Spans are the quiet times from now on, up to the horizon, in order and apart from each other. One that has begun is the first.
func (q Quiet) Spans(zone *time.Location, now time.Time) []Span {
	var spans []Span
	y, m, d := now.In(zone).Date()
	for i := -1; i <= int(horizon/(24*time.Hour)); i++ {
		date := time.Date(y, m, d+i, 0, 0, 0, 0, time.UTC) // its calendar only
		if !slices.Contains(q.Days, date.Weekday()) {
			continue
		}
		end := date
		if q.To <= q.From {
			end = date.AddDate(0, 0, 1)
		}
		// Where clocks are put back, the hour that comes twice is quiet as a whole, and where they are put forward what does not exist begins when they are.
		one := Span{moment(date, q.From, zone, false), moment(end, q.To, zone, true)}
		if !one.To.After(now) || !one.To.After(one.From) {
			continue
		}
		if n := len(spans); n > 0 && !one.From.After(spans[n-1].To) {
			if one.To.After(spans[n-1].To) {
				spans[n-1].To = one.To
			}
			continue
		}
		spans = append(spans, one)
	}
	return spans
}

// moment is when clocks in a zone show so many minutes after midnight on a date: of two such moments the last or the first, and of none the one at
// which they were put forward.
func moment(date time.Time, minutes int, zone *time.Location, last bool) time.Time {
	wall := date.Unix() + int64(minutes)*60
	offset := func(at int64) int64 {
		_, seconds := time.Unix(at, 0).In(zone).Zone()
		return int64(seconds)
	}
	const far = 26 * 60 * 60 // no clock is further from UTC
	before, after := offset(wall-far), offset(wall+far)
	first, second := wall-before, wall-after
	firstFits, secondFits := offset(first) == before, offset(second) == after
	switch {
	case firstFits && (!secondFits || !last):
		return time.Unix(first, 0)
	case secondFits:
		return time.Unix(second, 0)
	}
	if _, put := time.Unix(second, 0).In(zone).ZoneBounds(); !put.IsZero() && put.Unix() <= first {
		return put
	}
	return time.Unix(first, 0)
}

// Location finds a time zone by its IANA name; "" is UTC. What is no such name is an Invalid fault.
func Location(name string) (*time.Location, error) {
	if name == "" {
		return time.UTC, nil
	}
	for _, r := range name {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '/' || r == '_' || r == '-' || r == '+' {
			continue
		}
		return nil, fault.New(fault.Invalid, "tell.zone")
	}
	if len(name) > 64 || name == "Local" {
		return nil, fault.New(fault.Invalid, "tell.zone")
	}
	zone, err := time.LoadLocation(name)
	if err != nil {
		return nil, fault.Wrap(err, fault.Invalid, "tell.zone")
	}
	return zone, nil
}
