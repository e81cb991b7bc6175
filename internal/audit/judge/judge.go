package judge

import (
	"fmt"
	"hash/fnv"
	"slices"
	"strings"
	"time"

	"howdah/internal/audit"
)

// Options are what a judge is told beside the lines.
type Options struct {
	Learn  time.Duration       // how long habits are learned before they speak; 7 days when 0
	Owners []string            // roles that migrations run as
	Apps   []string            // roles that change rows and nothing else, ever: any other change by them alarms from the first day
	Marker string              // what the application_name of our own migrations begins with
	Mask   func(string) string // takes secrets out of what is said; nil: the lines are masked already
	House  House               // what nobody changes but the Apps, and the Owners' migrations; zero: there is none
}

// Judge turns lines into verdicts. Not for use by several goroutines at once.
type Judge struct {
	rules   *Rules
	options Options
	state   State
	byKind  map[string][]*Rule
	lines   int
	events  []Event // of the line at hand, used again for the next
	own     map[string]bool
	written map[string]string // settings in a file of ours
}

// Verdict is what a rule found about an event.
type Verdict struct {
	Rule     string
	Severity Severity
	Reason   Reason
	Event    *Event
	Incident *Incident // nil when it does not alarm
	Change   Change
	Muted    string // whose mute covers it: the name of the incident that was answered so
}

// Change says what a verdict did to its incident.
type Change int

// The changes. Only the first two are worth a person's attention; the message grows with the others. To whom an incident was over, the last is news as well.
const (
	Nothing Change = iota
	Began          // a new incident
	Louder         // a new cause, or a graver one
	Grew           // more of the same
	Another        // the same rules found another thing, or the same one again after a while
)

// Incident is what belongs together: one session and what followed from it, one series of guesses, one change behind the log's back.
type Incident struct {
	ID       string       `json:"id"`
	Began    time.Time    `json:"began"`
	Last     time.Time    `json:"last"`
	Severity Severity     `json:"severity"`
	Rules    []string     `json:"rules"`
	Reasons  []Reason     `json:"reasons"` // one for each rule, the first that spoke
	Count    int          `json:"count"`   // verdicts
	Sessions []string     `json:"sessions"`
	Actor    string       `json:"actor"`
	App      string       `json:"app"`
	Source   string       `json:"source"`
	DB       string       `json:"db"`
	Objects  []string     `json:"objects,omitempty"`
	TXIDs    []uint64     `json:"txids,omitempty"`
	Undone   []uint64     `json:"undone,omitempty"` // of these, those that were rolled back
	Failed   int          `json:"failed,omitempty"` // verdicts about statements that PostgreSQL then refused: nothing came of them
	Key      string       `json:"key"`
	Acts     []Act        `json:"acts,omitempty"`    // what of it can be muted
	Loud     []string     `json:"loud,omitempty"`    // rules that spoke and cannot
	Losses   []audit.Loss `json:"losses,omitempty"`  // what it destroyed and can be brought back
	Further  []Further    `json:"further,omitempty"` // what rules found beside what they spoke of first, the newest
	Things   int          `json:"things,omitempty"`  // how many different things they found
	Known    things       `json:"known,omitempty"`
	Muted    string       `json:"muted,omitempty"` // every verdict so far is covered by a mute, this incident's: nobody is told
}

// New makes a judge without memory.
func New(rules *Rules, options Options) *Judge {
	if options.Learn == 0 {
		options.Learn = 7 * 24 * time.Hour
	}
	return &Judge{rules: rules, options: options, state: newState(), byKind: map[string][]*Rule{}}
}

// Line judges one line of the log.
func (j *Judge) Line(l *audit.Line) []Verdict {
	if j.state.Began.IsZero() {
		j.state.Began = l.Time
	}
	if l.Time.After(j.state.Now) {
		j.state.Now = l.Time
	}
	if j.lines++; j.lines%4096 == 0 {
		j.state.sweep()
	}
	var verdicts []Verdict
	j.events = j.derive(l, j.events[:0])
	for i := range j.events {
		verdicts = append(verdicts, j.judge(&j.events[i])...)
	}
	return verdicts
}

// Event judges what is known from elsewhere than a line: catalogs, polls, the canary.
func (j *Judge) Event(e Event) []Verdict {
	if j.state.Began.IsZero() {
		j.state.Began = e.Time
	}
	if e.Time.After(j.state.Now) {
		j.state.Now = e.Time
	}
	if e.Status == "" {
		e.Status = Committed
	}
	if e.Set.Name != "" {
		e.Set.judge()
	}
	return j.judge(&e)
}

// Own names sessions of those who run the judge, by PostgreSQL's own number, which nobody can take on: what they do is expected, and is no habit of their role. Their
// records explain what they change, as any other's. A line that is forged or missing alarms there as well.
func (j *Judge) Own(sessions ...string) {
	if j.own == nil {
		j.own = map[string]bool{}
	}
	for _, session := range sessions {
		j.own[session] = true
	}
}

// expectedOf says whether an event is the doing of a session of our own, or what a reload shows of it.
func (j *Judge) expectedOf(e *Event) bool {
	st := &j.state
	switch {
	case e.Kind == Forged || e.Kind == Gap:
		return false
	case j.own[e.Session]:
		if e.Set.Name != "" && e.Set.Scope == "system" {
			st.OwnSet[e.Set.Name] = ownSet{At: e.Time, Value: e.Set.Value, Reset: e.Set.Reset}
		}
		j.remember(e)
		j.enter(e)
		if e.Kind == "logout" {
			delete(st.Sessions, e.Session)
		}
		return true
	case e.Kind == SettingChange && e.Actor == "":
		if j.expectedSetting(e) {
			return true
		}
		set, known := st.OwnSet[e.Set.Name]
		return known && e.Time.Sub(set.At).Abs() < time.Hour && (set.Reset || words(set.Value) == words(e.Set.Value))
	}
	return false
}

// words is a value that is a list, however it is written.
func words(value string) string {
	return strings.Join(strings.FieldsFunc(strings.ToLower(value), func(r rune) bool { return strings.ContainsRune(" ,'\"\t", r) }), ",")
}

func (j *Judge) judge(e *Event) []Verdict {
	j.noteSetting(e)
	j.hearStatement(e)
	if j.expectedOf(e) {
		return nil
	}
	st := &j.state
	s := st.Sessions[e.Session]
	if s == nil {
		s = &session{Seen: e.Time}
		if e.Session != "" {
			st.Sessions[e.Session] = s
		}
	}
	switch e.Kind {
	case Login, Replication:
		j.guesses(e)
		j.begins(e, s)
	case "logout":
		j.ends(e, s)
		return nil
	}
	if e.Echo {
		return j.echo(e, s)
	}
	if e.Kind == Undone {
		return j.undone(e, s)
	}
	if e.Actor != "" && e.Kind != LoginFailed && e.Kind != Forged {
		j.measure(e, s)
	}
	e.House = j.ofHouse(e)
	j.rate(e, s)
	j.lost(e, s)

	rules, ok := j.byKind[e.Kind]
	if !ok {
		rules = j.rules.forKind(e.Kind)
		if len(j.byKind) < 1024 {
			j.byKind[e.Kind] = rules
		}
	}
	var verdicts []Verdict
	var kept *Event // the event outlives its line only when somebody has something to say about it
	look := view{e}
	alarms := false
	for _, rule := range rules {
		if !rule.matches(&look) {
			continue
		}
		if kept == nil {
			kept = new(*e)
		}
		v := Verdict{Rule: rule.ID, Severity: rule.severity(e), Reason: j.reason(rule, e), Event: kept}
		alarms = alarms || v.Severity.Alarms()
		verdicts = append(verdicts, v)
	}
	if alarms {
		s.Alarmed = e.Time
		if e.Class == "" && e.Status == Unknown && e.Time.Equal(s.HeardAt) && s.HeardText != 0 {
			for _, v := range verdicts {
				if v.Severity.Alarms() {
					s.HeardN++
				}
			}
		}
		for i := range verdicts {
			if v := &verdicts[i]; v.Severity.Alarms() {
				rule := rules[slices.IndexFunc(rules, func(r *Rule) bool { return r.ID == v.Rule })]
				v.Muted = j.muted(rule, e, v.Severity)
				v.Incident, v.Change = j.incident(e, s, v, rule.mutable(e, v.Severity))
			}
		}
		if e.Session != "" && s.Actor != "" {
			j.unlearn(s, e.Time)
		}
	} else if !s.Flagged {
		j.learn(e, s)
	}
	j.recall(e, s)
	j.remember(e)
	j.enter(e)
	return verdicts
}

func (j *Judge) reason(rule *Rule, e *Event) Reason {
	reason := rule.reason(e)
	for name, value := range reason.Args {
		if j.options.Mask != nil {
			value = j.options.Mask(value)
		}
		reason.Args[name] = clip(value, 300)
	}
	return reason
}

// ends closes a session; its size is a sample for the next.
func (j *Judge) ends(e *Event, s *session) {
	if s.Records > 0 && !s.Flagged {
		key := s.Actor + "|" + s.App
		sizes := append(j.state.Sizes[key], s.Records)
		j.state.Sizes[key] = sizes[max(0, len(sizes)-64):]
	}
	delete(j.state.Sessions, e.Session)
}

// storm is how many records a session must bring at least before that is too many.
const storm = 200

// guesses looks at the failures before a log-in.
func (j *Judge) guesses(e *Event) {
	f := j.state.Fails[e.Actor+"|"+network(e.Source)]
	if f == nil || len(f.Times) == 0 || e.Time.Sub(f.Times[len(f.Times)-1]) > burst+5*time.Minute {
		return
	}
	e.Rate.Failures = len(f.Times)
	e.Rate.Known = j.expected(e, f)
	e.Rate.Guessed = len(f.Times) >= 8 && !e.Rate.Known
}

// rate counts what comes in bursts.
func (j *Judge) rate(e *Event, s *session) {
	st := &j.state
	switch e.Kind {
	case LoginFailed:
		key := e.Actor + "|" + network(e.Source)
		f := st.Fails[key]
		if f == nil {
			f = &fails{}
			st.Fails[key] = f
		}
		f.trim(e.Time)
		f.Times = append(f.Times, e.Time)
		f.Times = f.Times[max(0, len(f.Times)-1000):]
		e.Rate.Failures = len(f.Times)
		e.Rate.Known = j.expected(e, f)
		e.Rate.Users = j.sprayed(e)
	}
	if e.Status == Denied {
		times := slices.DeleteFunc(st.Refused[e.Actor], func(t time.Time) bool { return e.Time.Sub(t) > burst })
		times = append(times, e.Time)
		st.Refused[e.Actor] = times[max(0, len(times)-200):]
		e.Rate.Denied = len(times)
	}
	if e.Class != "" && s.Records >= storm && !s.Stormed {
		sizes := st.Sizes[s.Actor+"|"+s.App]
		if !usual(sizes, s.Records, storm/2) {
			s.Stormed = true
			e.Rate.Storm = true
		}
	}
	switch e.Kind {
	case "drop table", "drop view", "drop materialized view", "truncate table":
		if !e.Habit.Own && e.Status == Unknown && st.roleKinds(e.Actor, e.Kind) < 10 {
			switch { // pgAudit says each object that goes with a table, with the same statement
			case e.ObjectName == "":
				s.Drops += max(1, len(e.Names))
			case strings.HasSuffix(e.ObjectType, "TABLE") || strings.HasSuffix(e.ObjectType, "VIEW"):
				s.Drops++
			}
		}
	case "alter table":
		if e.Habit.Interactive && slices.Contains(e.Does, "rename to") && !e.Habit.Own && e.Status == Unknown {
			s.Drops++
		}
	}
	e.Rate.Drops = s.Drops
}

func (st *State) roleKinds(name, kind string) int {
	if r := st.Roles[name]; r != nil {
		return r.Kinds[kind]
	}
	return 0
}

// expected says whether failures are no more than is usual for this role from there, or come from where it has been at home.
func (j *Judge) expected(e *Event, f *fails) bool {
	if usual(f.Usual, len(f.Times), 3) {
		return true
	}
	r := j.state.Roles[e.Actor]
	return len(f.Usual) == 0 && r != nil && r.Networks[network(e.Source)] > 0 && len(f.Times) < 40
}

// sprayed counts the roles that failed from this address of late.
func (j *Judge) sprayed(e *Event) int {
	suffix := "|" + network(e.Source)
	n := 0
	for key, f := range j.state.Fails {
		if strings.HasSuffix(key, suffix) && len(f.Times) > 0 && e.Time.Sub(f.Times[len(f.Times)-1]) <= burst {
			if n++; n >= 100 {
				break // enough to say so; there can be very many
			}
		}
	}
	return n
}

// together is how long after its last sign an incident still takes in what the same actor does from the same place.
const together = 30 * time.Minute

// mostAlike is how many incidents there may be at a time of which the same rule spoke first of the same role, or of those that were not let in. What is more is one: nobody reads a flood, and somebody may want one.
const (
	mostAlike = 20
	manyKey   = "many|"
)

// incident finds or begins what a verdict belongs to.
func (j *Judge) incident(e *Event, s *session, v *Verdict, mutable bool) (*Incident, Change) {
	st := &j.state
	key := e.Actor + "|" + network(e.Source)
	stranger := e.Kind == LoginFailed || e.Kind == Forged && !s.LoggedIn && (hidesLines(e.Actor) || hidesLines(e.DB))
	switch {
	case e.Actor == "" && e.Source == "":
		key = "server|" + e.Kind
	case stranger: // whoever is not let in can say any name
		key = "|" + network(e.Source)
	}
	var found *Incident
	alike := 0
	for i := len(st.Incidents) - 1; i >= 0 && found == nil; i-- {
		old := st.Incidents[i]
		recent := e.Time.Sub(old.Last) <= together
		if recent && len(old.Rules) > 0 && old.Rules[0] == v.Rule && (old.Actor == e.Actor || stranger && strings.HasPrefix(old.Key, "|")) {
			alike++
		}
		switch {
		case recent && e.Rate.Guessed && old.Key == "|"+network(e.Source):
			found = old // of the guesses that came before
		case s.Incident != "" && old.ID == s.Incident, recent && old.Key == key:
			found = old
		case recent && e.Actor == "" && slices.ContainsFunc(e.Names, func(name string) bool { return slices.Contains(old.Objects, name) }):
			found = old // what a reload or the catalogs show of what was seen being done
		}
	}
	change := Grew
	if found == nil && alike >= mostAlike && v.Severity < Critical { // from ever new places: they are told together
		if key = manyKey + v.Rule; !stranger {
			key += "|" + e.Actor
		}
		for _, old := range st.Incidents {
			if old.Key == key && e.Time.Sub(old.Last) <= together {
				found = old
			}
		}
	}
	if found == nil {
		// The same act has the same name whenever it is judged again, whatever else was found in between.
		name := fnv.New32a()
		fmt.Fprint(name, key, "|", e.Session, "|", v.Rule, "|", e.ObjectName, "|", e.Time.UnixMilli())
		found = &Incident{ID: fmt.Sprintf("%s-%08x", e.Time.UTC().Format("20060102T150405Z"), name.Sum32()), Began: e.Time, Key: key,
			Actor: e.Actor, App: e.App, Source: e.Source, DB: e.DB, Muted: v.Muted}
		st.Incidents = append(st.Incidents, found)
		change = Began
	}
	if e.Time.After(found.Last) {
		found.Last = e.Time
	}
	found.Count++
	s.Incident = found.ID
	found.belongs(s, e.Time)
	if e.Session != "" && len(found.Sessions) < 200 {
		found.Sessions = appendNew(found.Sessions, e.Session)
	}
	if many := strings.HasPrefix(found.Key, manyKey); (many || stranger) && len(found.Objects) < 50 { // who and where they are, of those who are not in its headline
		found.Objects = appendNew(found.Objects, clip(strings.TrimSpace(e.Actor+" "+e.Source), 200))
	}
	for _, name := range e.Names {
		if len(found.Objects) < 50 {
			found.Objects = appendNew(found.Objects, clip(name, 200))
		}
	}
	if e.TXID != 0 && len(found.TXIDs) < 200 && !slices.Contains(found.TXIDs, e.TXID) {
		found.TXIDs = append(found.TXIDs, e.TXID)
	}
	if v.Muted != "" && found.Muted == "" {
		return found, change // it is part of what is told, and makes it no louder
	}
	if v.Muted == "" && found.Muted != "" {
		found.Muted, found.Severity, change = "", v.Severity, Louder // from here on somebody is told, of this before all
		at := slices.Index(found.Rules, v.Rule)
		if at >= 0 {
			found.Rules, found.Reasons = slices.Delete(found.Rules, at, at+1), slices.Delete(found.Reasons, at, at+1)
		}
		found.Rules, found.Reasons = slices.Insert(found.Rules, 0, v.Rule), slices.Insert(found.Reasons, 0, v.Reason)
	}
	switch act := actOf(v.Rule, e); {
	case !mutable:
		found.Loud = appendNew(found.Loud, v.Rule)
	case e.Actor == found.Actor && network(e.Source) == network(found.Source) && len(found.Acts) < mostActs && !slices.Contains(found.Acts, act):
		found.Acts = append(found.Acts, act)
	}
	news := found.news(v.Rule, e) && !found.repeats(v.Reason, e.Time)
	if !slices.Contains(found.Rules, v.Rule) && len(found.Rules) < 50 {
		found.Rules = append(found.Rules, v.Rule)
		found.Reasons = append(found.Reasons, v.Reason)
		if change == Grew {
			change = Louder
		}
	} else if news && change == Grew {
		change = Another
		found.goesOn(v.Reason)
	}
	if v.Severity > found.Severity {
		found.Severity = v.Severity
		if change == Grew {
			change = Louder
		}
	}
	return found, change
}

// Incident finds an incident that is not long ago; nil when there is none of this name.
func (j *Judge) Incident(id string) *Incident {
	for _, i := range j.state.Incidents {
		if i.ID == id {
			return i
		}
	}
	return nil
}

// Outcome says what became of a transaction: an incident whose every transaction was undone is an attempt, and no longer louder than that. It gives the
// incidents that changed.
func (j *Judge) Outcome(txid uint64, committed bool) []*Incident {
	if committed || txid == 0 {
		return nil
	}
	var changed []*Incident
	for _, i := range j.state.Incidents {
		if !slices.Contains(i.TXIDs, txid) || slices.Contains(i.Undone, txid) {
			continue
		}
		i.Undone = append(i.Undone, txid)
		i.attempt()
		changed = append(changed, i)
	}
	return changed
}

// attempt makes an incident of which nothing came no louder than an attempt.
func (i *Incident) attempt() {
	if len(i.Undone) == len(i.TXIDs) && i.Count <= len(i.TXIDs)+i.Failed {
		i.Severity = min(i.Severity, Medium)
	}
}

// Know tells the judge of a role as the catalog has it, so that it need not wait for the first log-in.
func (j *Judge) Know(name string, super, createRole, login bool) {
	if _, known := j.state.Roles[name]; !known && !super && !createRole && !login {
		return
	}
	r := j.state.role(name)
	r.Super, r.CanLogin = super, login
	if createRole && r.Admin == 0 {
		r.Admin = 1
	}
}
