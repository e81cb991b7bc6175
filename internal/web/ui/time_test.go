package ui

import (
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"howdah/internal/lang"
)

// timePage is the past of a house that has seen something: two repos, one of them away, a hole, a drill that failed, a branch, hostile names.
func timePage(c Chrome) TimePage {
	c.Watch, c.Past = true, true
	day := func(n float64) time.Time { return someday.Add(-time.Duration(n * 24 * float64(time.Hour))) }
	p := TimePage{Chrome: c, First: day(27), View: NewTimeView("30d", time.Time{}, day(9.31), someday, day(27))}
	near := TimeRepo{Place: "/srv/howdah/repo", Read: someday.Add(-20 * time.Second), Reading: someday.Add(-time.Second), Newest: someday.Add(-3 * time.Minute),
		Ranges: []TimeRange{{day(24), day(13.2), 1}, {day(12), someday.Add(-4 * time.Minute), 1}, {day(24), day(15), 2}},
		Holes:  []TimeHole{{"000000010000000A000000B1", "000000010000000A000000B7", 7, day(13.2), day(13.1)}}}
	far := TimeRepo{Place: "s3://" + evil, Trouble: "s3 does not answer. " + evil, Mend: "Look at the network."}
	for n := 24.0; n > 0; n-- {
		b := TimeBackup{ID: day(n).Format("20060102T150405Z"), Began: day(n), Ended: day(n).Add(4 * time.Minute), Good: n != 18, Plain: int64(41e9 + (24-n)*(24-n)*5e7), Stored: 9e9, Drilled: day(n - 1)}
		if int(n)%7 != 3 {
			b.Parent = "x"
		}
		near.Backups = append(near.Backups, b)
		near.Dumps = append(near.Dumps, TimeDump{ID: "d", Began: day(n + .3), Ended: day(n + .29), Databases: []string{"howdah", evil}})
		if int(n)%7 == 2 {
			near.Drills = append(near.Drills, TimeDrill{Backup: b.ID, Began: day(n - .2), Ended: day(n - .25), Good: n > 5, Problem: map[bool]string{false: evil}[n > 5]})
		}
	}
	for at := day(24); at.Before(someday); at = at.Add(5 * time.Minute) {
		busy := 1 + 6*(1+at.Hour()%12)/(1+at.Minute()%7)
		near.Written = append(near.Written, TimeWritten{At: at, Segments: busy, Bytes: int64(busy) << 24})
	}
	p.Repos = []TimeRepo{near, far}
	for i := range 27 * 24 {
		at := day(27).Add(time.Duration(i) * time.Hour)
		p.Acts = append(p.Acts, TimeAct{At: at, N: int64(1 + i*i%97), Step: time.Hour})
	}
	p.Counted = true
	for i, severity := range []string{"low", "medium", "high", "critical", "informational", "high"} {
		p.Alerts = append(p.Alerts, TimeAlert{ID: fmt.Sprint("i", i), Severity: severity, Title: "A table was dropped 資料表被刪除", Actor: evil, At: day(21 - float64(i)*3.9), Open: i > 3})
	}
	m := &TimeMoment{At: p.View.At, Alerts: p.Alerts[2:4], MoreBefore: true, Entries: watchPage(c).Entries[:12],
		Plans: []TimePlan{{Place: near.Place, Backup: "20261112T030000Z", BackupEnded: day(10), Chain: 3, Segments: 1212, WAL: 20e9, Read: 11e9, Write: 42e9, Seconds: 640, XID: 90416, Reached: day(9.31).Add(-time.Second), Timeline: 2},
			{Place: far.Place, Why: "s3 does not answer. " + evil, Mend: "Look at the network."}}}
	m.From, m.To = p.View.Around()
	for i := range 48 {
		if i%11 != 7 {
			m.Posts = append(m.Posts, TimeAct{At: m.From.Add(time.Duration(i) * m.Step()), N: int64(3 + i*i%41)})
		}
	}
	p.Moment = m
	return p
}

func TestZoomingStaysWhereOneLooks(t *testing.T) {
	t.Parallel()
	at, now := someday.Add(-40*time.Hour), someday
	view := func(address string) TimeView {
		t.Helper()
		u, err := url.Parse(address)
		if err != nil || u.Path != "/time" {
			t.Fatalf("%q: %v", address, err)
		}
		read := func(name string) (moment time.Time) {
			if raw := u.Query().Get(name); raw != "" {
				if moment, err = time.Parse(time.RFC3339, raw); err != nil {
					t.Fatal(err)
				}
			}
			return moment
		}
		return NewTimeView(u.Query().Get("span"), read("to"), read("at"), now, now.Add(-27*24*time.Hour))
	}
	v := view("/time")
	if v.Span != "30d" || !v.Newest || v.Later() != "" || v.Latest() != "" {
		t.Errorf("27 days of past are shown as %+v", v)
	}
	v = view(v.With("at", moment(at)))
	seen := map[string]bool{}
	for v.In() != "" { // down to a minute, and the chosen moment stays on the picture
		v = view(v.In())
		if seen[v.Span] || !v.At.Equal(at) || !v.holds(at) {
			t.Fatalf("zoomed to %+v", v)
		}
		seen[v.Span] = true
	}
	if v.Span != "1m" || v.To.Sub(v.From) != time.Minute {
		t.Errorf("the finest is %+v", v)
	}
	for v.Out() != "" {
		v = view(v.Out())
	}
	if v.Span != "1y" || !v.holds(at) {
		t.Errorf("the widest is %+v", v)
	}
	v = view("/time?span=1h&to=" + moment(at))
	earlier, later := view(v.Earlier()), view(view(v.Earlier()).Later())
	if !earlier.To.Equal(v.To.Add(-30*time.Minute)) || !later.To.Equal(v.To) || !view(v.Latest()).Newest {
		t.Errorf("from %+v earlier is %+v, and back %+v", v, earlier, later)
	}
	if v := view("/time?span=7d&to=2099-01-01T00:00:00Z"); !v.Newest || !v.To.Equal(now) {
		t.Errorf("the future is shown as %+v", v)
	}
	if v := view("/time?span=never&at=1969-01-01T00:00:00Z"); !v.holds(v.At) {
		t.Errorf("a moment long ago is not on %+v", v)
	}
}

// TestTheBandSaysWhereOneCanGoBack lays ranges over each other, as several repos and timelines give them.
func TestTheBandSaysWhereOneCanGoBack(t *testing.T) {
	t.Parallel()
	hour := func(n int) time.Time { return someday.Add(time.Duration(n-100) * time.Hour) }
	bands := func(p TimePage) string {
		var out []string
		for _, s := range p.stretches() {
			out = append(out, fmt.Sprintf("%s %g-%g", s.kind, s.from.Sub(hour(0)).Hours(), s.to.Sub(hour(0)).Hours()))
		}
		return strings.Join(out, ", ")
	}
	page := func(ranges ...TimeRange) TimePage {
		return TimePage{Chrome: chrome(lang.English, "", "Ada"), First: hour(0), Repos: []TimeRepo{{Read: someday, Ranges: ranges}}}
	}
	r := func(from, to int) TimeRange { return TimeRange{From: hour(from), To: hour(to)} }
	for want, have := range map[string]TimePage{
		"bad 0-10, good 10-90, wait 90-100":                        page(r(10, 90)),
		"bad 0-10, good 10-95, wait 95-100":                        page(r(10, 40), r(10, 95), r(20, 30)),
		"bad 0-10, good 10-40, bad 40-60, good 60-95, wait 95-100": page(r(60, 95), r(10, 40)),
		"bad 0-10, good 10-10, wait 10-100":                        page(r(10, 10)),
		"good 0-100":                                               page(r(0, 50), r(50, 100)),
		"bad 0-100":                                                page(),
		"unknown 0-100":                                            {Chrome: chrome(lang.English, "", "Ada"), First: hour(0), Repos: []TimeRepo{{}}},
		"":                                                         {Chrome: chrome(lang.English, "", "Ada")},
	} {
		if got := bands(have); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
	// A repo that could not be read takes nothing from what another one has.
	both := page(r(10, 90))
	both.Repos = append(both.Repos, TimeRepo{Place: "away"})
	if got := bands(both); got != "bad 0-10, good 10-90, wait 90-100" {
		t.Error(got)
	}
	// The table says the same by the row.
	p := timePage(chrome(lang.English, "", "Ada"))
	kinds := map[string]int{}
	for _, row := range p.Picture().Rows {
		kinds[row.Kind]++
	}
	if kinds["good"] < 15 || kinds["bad"] < 2 || kinds["mixed"] < 2 || kinds[""] < 2 {
		t.Errorf("of the days of the picture are %v", kinds)
	}
}
