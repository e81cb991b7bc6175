package audit

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"strings"
	"time"
)

// Report is what the trail tells of a span of time. It is read from the files alone.
type Report struct {
	From      time.Time     `json:"from"`
	To        time.Time     `json:"to"` // not in it
	Begins    time.Time     `json:"trail_begins"`
	Entries   int           `json:"entries"` // of the span
	Roles     []RoleChanges `json:"changes"` // who changed what, the busiest first
	Sources   []NewSource   `json:"new_sources"`
	Incidents []*Standing   `json:"incidents"` // those of the span, and those that are open
	Logins    []FailedLogin `json:"failed_logins"`
	Missing   int           `json:"missing"` // times that lines of the log were missing, unreadable or forged

	Now    *Rights `json:"rights,omitempty"`      // at the end of the span; nil: nobody has noted them
	Before *Rights `json:"rights_then,omitempty"` // at its beginning
}

// RoleChanges is what one role changed.
type RoleChanges struct {
	Role    string   `json:"role"`
	Kinds   []Count  `json:"kinds"`   // by command
	Objects []Count  `json:"objects"` // by name
	Texts   []string `json:"texts"`   // the last of the statements about roles and rights, masked
	Refused int      `json:"refused"` // statements that PostgreSQL did not allow
}

// Count is how often something was met.
type Count struct {
	Name  string `json:"name"`
	Count int    `json:"count"`
}

// NewSource is a role that came from where, or with what, it never had before.
type NewSource struct {
	Role   string    `json:"role"`
	Source string    `json:"source"`
	App    string    `json:"app"` // with numbers as #
	First  time.Time `json:"first"`
	Count  int       `json:"count"` // entries of the span
}

// FailedLogin is a role, real or not, as which somebody was not let in.
type FailedLogin struct {
	Role   string    `json:"role"`
	Source string    `json:"source"`
	Count  int       `json:"count"`
	Last   time.Time `json:"last"`
}

// Most that a report lists; whoever makes many must not make it unreadable.
const (
	mostObjects = 10
	mostTexts   = 8
	longestText = 200 // bytes
)

// came names a source.
type came struct{ role, source, app string }

// MakeReport reads a trail for a span of time.
func MakeReport(ctx context.Context, dir string, from, to time.Time) (*Report, error) {
	r := NewReader(dir)
	defer r.Close()
	m := maker{Report: Report{From: from, To: to, Roles: []RoleChanges{}, Sources: []NewSource{}, Incidents: []*Standing{}, Logins: []FailedLogin{}},
		changes: map[string]*changes{}, known: map[came]bool{}, fresh: map[came]*NewSource{}, failed: map[came]*FailedLogin{}, incidents: map[string]*Standing{}, counted: map[string]string{}}
	for after := int64(0); ; {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		part, err := r.Next(after, 10_000)
		if err != nil {
			return nil, err
		}
		if part.End.Seq == 0 {
			return m.report(), nil
		}
		after = part.End.Seq
		for i := range part.Entries {
			m.take(&part.Entries[i])
		}
	}
}

type maker struct {
	Report
	changes   map[string]*changes
	known     map[came]bool
	fresh     map[came]*NewSource
	failed    map[came]*FailedLogin
	incidents map[string]*Standing
	order     []*Standing
	counted   map[string]string // session -> the statement of it that was counted last
}

type changes struct {
	kinds, objects map[string]int
	texts          []string
	refused        int
}

func (m *maker) take(e *Entry) {
	if m.Begins.IsZero() || e.Time.Before(m.Begins) {
		m.Begins = e.Time
	}
	if !e.Time.Before(m.To) {
		return
	}
	if e.Event != nil {
		m.event(e)
		return
	}
	within := !e.Time.Before(m.From)
	if within {
		m.Entries++
	}
	class := e.Class()
	if e.Forged && within {
		m.Missing++
	}
	if class == ClassLogin && e.Outcome() == OutcomeDenied {
		if key := (came{e.User, e.Host, ""}); within {
			f := m.failed[key]
			if f == nil {
				f = &FailedLogin{Role: e.User, Source: e.Host}
				m.failed[key] = f
			}
			f.Count++
			f.Last = e.Time
		}
		return
	}
	if e.User == "" || e.Forged {
		return
	}
	m.source(e, within)
	if !within {
		return
	}
	if e.Outcome() == OutcomeDenied {
		m.of(e.User).refused++
	}
	if e.Audit != nil {
		m.change(e)
	}
}

func (m *maker) of(role string) *changes {
	c := m.changes[role]
	if c == nil {
		c = &changes{kinds: map[string]int{}, objects: map[string]int{}}
		m.changes[role] = c
	}
	return c
}

// source notes where a role came from, once its session is let in.
func (m *maker) source(e *Entry, within bool) {
	app := e.App
	if e.Audit == nil {
		says, authorized := strings.CutPrefix(e.Message, "connection authorized: ")
		if !authorized {
			return
		}
		if _, named, ok := strings.Cut(says, " application_name="); ok && app == "" { // the line itself is written before it is set
			app, _, _ = strings.Cut(named, " SSL enabled (")
		}
	}
	key := came{e.User, e.Host, unnumbered(app)}
	if m.known[key] {
		return
	}
	if !within {
		m.known[key] = true
		return
	}
	s := m.fresh[key]
	if s == nil {
		s = &NewSource{Role: key.role, Source: key.source, App: key.app, First: e.Time}
		m.fresh[key] = s
	}
	s.Count++
}

// unnumbered is an application's name with # for numbers: versions and processes are no other application.
func unnumbered(app string) string {
	var b strings.Builder
	number := false
	for _, r := range app {
		digit := r >= '0' && r <= '9'
		if digit && number {
			continue
		}
		if number = digit; digit {
			r = '#'
		}
		b.WriteRune(r)
	}
	return b.String()
}

// change counts a statement once for each command and object in it, however many records it has.
func (m *maker) change(e *Entry) {
	r := e.Audit
	switch strings.ToUpper(r.Class) {
	case "ROLE", "DDL", "WRITE":
	default:
		return // reading and settings change nothing
	}
	c := m.of(e.User)
	statement := strings.Join([]string{r.Command, r.ObjectName, time.Duration(r.StatementID).String()}, "\x00")
	if m.counted[e.SessionID] == statement {
		return
	}
	m.counted[e.SessionID] = statement
	c.kinds[r.Command]++
	if r.ObjectName != "" {
		c.objects[r.ObjectName]++
	}
	text := short(e.Statement)
	if strings.EqualFold(r.Class, "ROLE") && !slices.Contains(c.texts, text) {
		c.texts = append(c.texts, text)
		c.texts = c.texts[max(0, len(c.texts)-mostTexts):]
	}
}

func short(text string) string {
	text = strings.Join(strings.Fields(text), " ")
	if len(text) > longestText {
		text = strings.ToValidUTF8(text[:longestText], "") + "…"
	}
	return text
}

func (m *maker) event(e *Entry) {
	v := e.Event
	switch {
	case v.Kind == EventIncident && v.Incident != nil:
		s := m.incidents[v.Incident.ID]
		if s == nil {
			s = &Standing{Answers: []Answer{}}
			m.incidents[v.Incident.ID] = s
			m.order = append(m.order, s)
		}
		s.Tell(v.Incident)
	case v.Kind == EventAnswer && v.Answer != nil:
		if s := m.incidents[v.Answer.Incident]; s != nil {
			s.Answer(*v.Answer)
		}
	case v.Kind == EventRights && v.Rights != nil:
		if !v.Rights.At.After(m.From) || m.Before == nil { // of a trail that began later, the first
			m.Before = v.Rights
		}
		m.Now = v.Rights
	case (v.Kind == EventLineGap || v.Kind == EventStatementGap || v.Kind == EventSkipped) && !e.Time.Before(m.From):
		m.Missing++
	}
}

func (m *maker) report() *Report {
	for _, role := range slices.Sorted(maps.Keys(m.changes)) {
		c := m.changes[role]
		m.Roles = append(m.Roles, RoleChanges{role, counts(c.kinds), counts(c.objects)[:min(len(c.objects), mostObjects)], append([]string{}, c.texts...), c.refused})
	}
	slices.SortStableFunc(m.Roles, func(a, b RoleChanges) int { return cmp.Compare(total(b.Kinds), total(a.Kinds)) })
	for _, s := range m.fresh {
		m.Sources = append(m.Sources, *s)
	}
	slices.SortFunc(m.Sources, func(a, b NewSource) int {
		return cmp.Or(a.First.Compare(b.First), cmp.Compare(a.Role, b.Role), cmp.Compare(a.Source, b.Source), cmp.Compare(a.App, b.App))
	})
	for _, f := range m.failed {
		m.Logins = append(m.Logins, *f)
	}
	slices.SortFunc(m.Logins, func(a, b FailedLogin) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Role, b.Role), cmp.Compare(a.Source, b.Source))
	})
	for _, s := range m.order {
		if s.Open || !s.Last.Before(m.From) || slices.ContainsFunc(s.Answers, func(a Answer) bool { return !a.At.Before(m.From) }) {
			m.Incidents = append(m.Incidents, s)
		}
	}
	return &m.Report
}

func counts(all map[string]int) []Count {
	out := []Count{}
	for name, n := range all {
		out = append(out, Count{name, n})
	}
	slices.SortFunc(out, func(a, b Count) int { return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Name, b.Name)) })
	return out
}

func total(all []Count) (n int) {
	for _, c := range all {
		n += c.Count
	}
	return n
}

// Rights are who may do what, as it stood at a moment.
type Rights struct {
	At   time.Time `json:"at"`
	Rows []Right   `json:"rows"`
}

// Right is one thing that somebody may do.
type Right struct {
	Kind string `json:"kind"` // one of the constants below
	Who  string `json:"who"`
	What string `json:"what"`
}

// The kinds of rights.
const (
	RightPower  = "power"  // Who is superuser, createrole, createdb, replication, bypassrls
	RightMember = "member" // Who is a member of What
	RightOwner  = "owner"  // Who owns What
	RightPublic = "public" // everybody may do What
)

// Compare tells what is there now and was not before, and what is not any more.
func (now *Rights) Compare(before *Rights) (gained, lost []Right) {
	if now == nil || before == nil {
		return nil, nil
	}
	has := func(rows []Right) map[Right]bool {
		all := map[Right]bool{}
		for _, r := range rows {
			all[r] = true
		}
		return all
	}
	was, is := has(before.Rows), has(now.Rows)
	for _, r := range now.Rows {
		if !was[r] {
			gained = append(gained, r)
		}
	}
	for _, r := range before.Rows {
		if !is[r] {
			lost = append(lost, r)
		}
	}
	return gained, lost
}
