package ui

import (
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"howdah/internal/fault"
)

// The page Watch. What it shows comes as plain values; how it is laid out, also the two plots, is decided here.

// WatchFilter is what of the trail is looked at, as it stands in the address and in the form. Empty fields ask for nothing.
type WatchFilter struct {
	Text, Who, Source, Class, Object, Outcome string

	Last     string // a span up to now, one of Spans; "" is the first of them. From and To take its place
	From, To string // moments as an address has them: RFC 3339, to the minute where that is exact
}

// Spans are the ones to choose from, the default first.
var Spans = []string{"7d", "1h", "24h", "30d", "all"}

// With is the address of the page with this filter, changed by names and values.
func (f WatchFilter) With(pairs ...string) string { return f.at("/watch", pairs...) }

// Export is the address of the same as a file: csv or jsonl.
func (f WatchFilter) Export(form string) string { return f.at("/watch/export." + form) }

func (f WatchFilter) at(path string, pairs ...string) string {
	q := url.Values{}
	for i, one := range []string{f.Text, f.Who, f.Source, f.Class, f.Object, f.Outcome, f.Last, f.From, f.To} {
		q.Set(watchFields[i], one)
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
		return path
	}
	return path + "?" + q.Encode()
}

// watchFields are the names of the filter's fields in addresses, in the order of the struct.
var watchFields = []string{"text", "who", "source", "class", "object", "outcome", "last", "from", "to"}

// ReadWatchFilter reads a filter from an address.
func ReadWatchFilter(q url.Values) WatchFilter {
	var f WatchFilter
	for i, into := range []*string{&f.Text, &f.Who, &f.Source, &f.Class, &f.Object, &f.Outcome, &f.Last, &f.From, &f.To} {
		*into = Asked(q.Get(watchFields[i]))
	}
	return f
}

// mostAsked is how many characters of each part of a filter count; an address has no more.
const mostAsked = 300

// Asked is a text of an address as PostgreSQL can be asked for it.
func Asked(s string) string {
	return clipped(strings.TrimSpace(strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD")), mostAsked)
}

// Narrowed tells whether the filter asks for anything but a time.
func (f WatchFilter) Narrowed() bool {
	f.Last, f.From, f.To = "", "", ""
	return f != WatchFilter{}
}

// WatchClasses are the classes of what the trail holds (audit.Entry.Class, in small letters): pgAudit's own, and those of what is no audit record. Each has its
// colour (.k0 to .k9 in ui.css); the last four, which speak of the trail itself, share one.
var WatchClasses = []string{"role", "ddl", "write", "read", "function", "misc", "login", "error", "log", "forged", "noticed", "rights", "incident"}

// EveryClass asks for all of them; an address that names none leaves log-ins and what PostgreSQL says of itself out.
const EveryClass = "all"

// slot is a class's colour.
func slot(class string) int { return min(place(class), 9) }

// place is where a class stands among the others; what is not known counts as other statements.
func place(class string) int {
	if i := slices.Index(WatchClasses, class); i >= 0 {
		return i
	}
	return slices.Index(WatchClasses, "misc")
}

// WatchClass is one of WatchClasses for a class of the trail, in whatever letters.
func WatchClass(class string) string { return WatchClasses[place(strings.ToLower(class))] }

// WatchOutcomes are the ones to choose from.
var WatchOutcomes = []string{"done", "denied", "failed"}

// WatchPage ("watch"): GET /watch, the filter in its query.
type WatchPage struct {
	Chrome
	Filter   WatchFilter
	From, To time.Time // the span that is shown

	Mutes     []Mute     // the next to end first
	Incidents []Incident // that are open, the gravest first
	Answered  []Incident // those of the span that somebody has answered
	Activity  Activity
	Weeks     []Week // the busiest roles first
	MoreRoles int    // that have no week here
	Entries   []WatchEntry
	Older     string    // cursor of the next page; "" when there is none
	Page      bool      // this is not the first page
	Looked    time.Time // how far back was looked for this page, when it may be short for that; zero: all the way
	Roles     []string
	Sources   []string

	Shown string // incident that the address names, which stands open; ""

	Seq      int64         // of the newest line of the trail that is in the tables
	Missing  int64         // lines of the trail's files that are not in them yet
	LevelAt  time.Time     // when they took in the newest; zero: they are empty
	Late     bool          // they have not had them for long
	Troubles []Trouble     // what keeps the watch from seeing all that it should
	Starting bool          // the watch has not begun to read
	Behind   time.Duration // between the newest line judged and now, while there are more; 0: all is judged
	Learns   time.Time     // until then habits are learned
	Without  []string      // what is not seen: the texts are in the catalogs, under "check.without."
}

// Trouble is what is the matter with the watch, and what to do about it.
type Trouble struct{ What, Mend string }

// Mute is what the watch is silent about.
type Mute struct {
	Incident, Actor, Network, By string
	From, Until                  time.Time
	Rules                        []Covered
	ClientID                     string // a fresh UUID, for the form
}

// Incident is what is out of order, as people read it.
type Incident struct {
	ID       string
	Severity string // informational, low, medium, high, critical
	Title    string
	State    string // open, reopened, acknowledged, mine, muted
	By       string // who answered
	Until    time.Time
	Note     string

	Began, Last            time.Time
	Actor, Source, App, DB string
	Role                   string // Actor as it is, for addresses
	Reasons                []Reason
	Objects                []string
	Fates                  []Fate
	Count                  int
	Back                   string // command that brings back the database as it was just before; ""
	Sessions               []string

	Room, Message int64  // of #ops where it is answered; 0: nowhere
	Alert         *Alert // as it stands there
}

// Reason is why something is out of order, and what to do about it.
type Reason struct{ Text, Advice string }

// Fate is what became of a transaction: committed, aborted, running, unknown.
type Fate struct {
	TXID string
	Fate string
}

// WatchEntry is one thing in the trail.
type WatchEntry struct {
	Seq      int64
	At       time.Time
	Who      string
	App      string
	Source   string
	DB       string
	Session  string
	Class    string // one of WatchClasses
	Command  string
	Object   string
	Text     string // the statement, or what PostgreSQL said
	Outcome  string // one of WatchOutcomes
	Severity string // of the gravest incident that rests on it; ""
	Incident string // its id

	// For the page of a session.
	Line    int64
	TXID    int64
	Rows    int64 // -1: not logged
	State   string
	Notes   []Note
	Current bool
	Cut     int // bytes of Text that are not shown
}

// Note is a named part of an entry beside its text.
type Note struct{ Name, Text string }

// SessionPage ("watch-session"): GET /watch/entry/{seq}: an entry within its whole session.
type SessionPage struct {
	Chrome
	Seq          int64  // of the entry that was asked for; 0: none was
	ID           string // as it is shown; "": an entry without a session
	Address      string // ID as it is
	Whole        bool   // it begins with the session
	Who, App, DB string
	Source       string
	PID          int
	Began        time.Time
	Entries      []WatchEntry
	Later        int64 // the last entry of the page, behind which there is more; 0: there is none
	Back         string
}

// Data is what the page's scripts start from.
func (p WatchPage) Data() map[string]any {
	data := p.Chrome.Data()
	data["watch"] = map[string]any{"seq": p.Seq, "zone": p.zone().String()}
	return data
}

// Clock is a moment of the trail in the reader's zone, to the millisecond.
func (c Chrome) Clock(at time.Time) string { return at.In(c.zone()).Format("2006-01-02 15:04:05.000") }

// Stamp is the same to the second, with the year where it is another one than now.
func (c Chrome) Stamp(at time.Time) string {
	at = at.In(c.zone())
	if at.Year() != c.now().Year() {
		return at.Format("2006-01-02 15:04:05")
	}
	return at.Format("01-02 15:04:05")
}

// UTC is the same in UTC.
func (c Chrome) UTC(at time.Time) string { return at.UTC().Format("2006-01-02 15:04:05.000") }

// UTCClock is its time of day.
func (c Chrome) UTCClock(at time.Time) string { return at.UTC().Format("15:04:05") }

// Short is a moment to the minute, with the year where it is another one than now.
func (c Chrome) Short(at time.Time) string {
	at = at.In(c.zone())
	if at.Year() != c.now().Year() {
		return at.Format("2006-01-02 15:04")
	}
	return at.Format("01-02 15:04")
}

// ZoneName names the reader's zone with its distance from UTC.
func (c Chrome) ZoneName() string {
	name, offset := c.zone().String(), c.now().Format("-07:00")
	if name == "UTC" {
		return name
	}
	return name + " (UTC" + offset + ")"
}

// Field is a moment as an input of type datetime-local has it.
func (c Chrome) Field(raw string) string {
	at, err := time.Parse(time.RFC3339, raw)
	if err != nil {
		return ""
	}
	return at.In(c.zone()).Format("2006-01-02T15:04")
}

// Ago is how long ago something was, to one figure.
func (c Chrome) Ago(at time.Time) string {
	d := c.now().Sub(at)
	switch {
	case d < time.Minute:
		return c.Locale.T("web.watch.ago.now")
	case d < time.Hour:
		return c.Locale.T("web.watch.ago.minutes", fault.Args{"n": int(d / time.Minute)})
	case d < 48*time.Hour:
		return c.Locale.T("web.watch.ago.hours", fault.Args{"n": int(d / time.Hour)})
	}
	return c.Locale.T("web.watch.ago.days", fault.Args{"n": int(d / (24 * time.Hour))})
}

// Span is the time from one moment to another in words.
func (c Chrome) Span(from, to time.Time) string {
	d := to.Sub(from).Round(time.Second)
	if d < time.Second {
		return "< 1 s"
	}
	return strings.TrimSuffix(strings.TrimSuffix(d.String(), "0s"), "0m") // 2h, 3m, 4m30s
}

// Grouped is a number with its thousands apart.
func Grouped(n int64) string {
	s := strconv.FormatInt(n, 10)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// grouped is Grouped for templates.
func grouped(n any) (string, error) {
	switch n := n.(type) {
	case int:
		return Grouped(int64(n)), nil
	case int64:
		return Grouped(n), nil
	}
	return "", fmt.Errorf("grouped: %T", n)
}

// Line1 is a text on one line, as long as a table can use.
func (e WatchEntry) Line1() string {
	text := strings.Join(strings.Fields(clipRunes(e.Text, 2000)), " ")
	return clipRunes(text, 300)
}

func clipRunes(s string, most int) string {
	if short := clipped(s, most); len(short) < len(s) {
		return short + "…"
	}
	return s
}

func clipped(s string, most int) string {
	n := 0
	for i := range s {
		if n++; n > most {
			return s[:i]
		}
	}
	return s
}

// Slot is the class's colour.
func (e WatchEntry) Slot() int { return slot(e.Class) }

func (c Chrome) weekday(day int) string {
	return c.Locale.T("web.watch.day." + strconv.Itoa(((day%7)+7)%7))
}

// exactly asks for a role by its whole name.
func exactly(name string) string { return "=" + name }

// Exact is a whole name as a filter of the page.
func (p WatchPage) Exact(name string) string { return exactly(name) }

// Form is how an incident is answered on the page; nil when it cannot be.
func (p WatchPage) Form(i Incident) *alertForm {
	if i.Alert == nil {
		return nil
	}
	f := p.answering(*i.Alert)
	f.Action, f.Place, f.Back = "/watch/incidents/"+url.PathEscape(i.ID)+"/answer", fmt.Sprintf("%d/%d", i.Room, i.Message), p.Filter.With()
	return f
}

// Acts are what a mute covers, in words.
func (p WatchPage) Acts(m Mute) []string { return p.covered(m.Rules) }

// Around is the address of what the same role did about the time of an incident.
func (p WatchPage) Around(i Incident) string {
	who := ""
	if i.Role != "" {
		who = exactly(i.Role)
	}
	return WatchFilter{Who: who, From: moment(i.Began.Add(-time.Minute)), To: moment(i.Last.Add(2 * time.Minute))}.With()
}

// SessionURL is the address of a session of PostgreSQL.
func SessionURL(id string) string { return "/watch/session/" + url.PathEscape(id) }

// Seen is a text from outside as it can be shown: what would not be seen, or would turn around what stands beside it, is named, and what is longer than most
// characters is cut (0: nothing is).
func Seen(s string, most int) string {
	if most > 0 {
		s = clipRunes(s, most)
	}
	if strings.IndexFunc(s, unseen) < 0 {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		if unseen(r) {
			fmt.Fprintf(&b, "⟨U+%04X⟩", r)
		} else {
			b.WriteRune(r)
		}
	}
	return b.String()
}

// unseen tells of characters that people do not see as what they are: control and format characters, and spaces that are none of the usual.
func unseen(r rune) bool {
	switch {
	case r == '\n', r == '\t', r == '\r', r == ' ', r == '\u3000':
		return false
	case r < 0x7f:
		return r < ' '
	}
	return unicode.In(r, unicode.Cc, unicode.Cf, unicode.Co, unicode.Zs, unicode.Zl, unicode.Zp, unicode.Other_Default_Ignorable_Code_Point)
}

// Classes, Outcomes, SpanNames and HourNames are what the form and the tables list.
func (p WatchPage) Classes() []string   { return WatchClasses }
func (p WatchPage) Outcomes() []string  { return WatchOutcomes }
func (p WatchPage) SpanNames() []string { return Spans }

// HourNames are the hours of a day.
func (p WatchPage) HourNames() []string {
	names := make([]string, 24)
	for i := range names {
		names[i] = fmt.Sprintf("%02d", i)
	}
	return names
}

// Lag is how far the judge is behind, in words.
func (p WatchPage) Lag() string { return p.Behind.Round(100 * time.Millisecond).String() }

// StepName is the width of a bar in words.
func (p WatchPage) StepName() string {
	step := p.Activity.Step
	switch {
	case step >= 24*time.Hour:
		return p.Locale.T("web.watch.step.days", fault.Args{"n": int(step / (24 * time.Hour))})
	case step >= time.Hour:
		return p.Locale.T("web.watch.step.hours", fault.Args{"n": int(step / time.Hour)})
	}
	return p.Locale.T("web.watch.step.minutes", fault.Args{"n": max(1, int(step/time.Minute))})
}

// Side is the sidebar of the page.
func (p WatchPage) Side() sidebar { return p.sidebar("watch", 0) }

// Side is the sidebar of the page.
func (p SessionPage) Side() sidebar { return p.sidebar("watch", 0) }
