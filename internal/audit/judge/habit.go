package judge

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// automation are programs that change schemas and roles as their work. Their name alone counts for something only until the learning time is over; from
// then on it is where they come from and what they have done before.
var automation = map[string]bool{"flyway": true, "liquibase": true, "alembic": true, "sqitch": true, "goose": true, "migrate": true, "dbmate": true, "ansible": true,
	"terraform": true, "puppet": true, "chef": true, "pulumi": true, "dbt": true, "partman": true, "pg_partman": true, "rails": true, "django": true, "knex": true,
	"prisma": true, "hibernate": true, "pg_restore": true, "pg_dump": true, "pg_dumpall": true, "vault": true, "atlas": true, "skeema": true, "howdah": true, "ci-runner": true}

// flavour is a kind with what makes it grave: a role that gets a password is not one that gets a connection limit.
func flavour(e *Event) string {
	switch {
	case len(e.Role.Gains) > 0:
		return e.Kind + ":" + strings.Join(e.Role.Gains, "+")
	case e.Set.Name != "" && e.Kind != "set" && e.Kind != "select":
		return e.Kind + ":set"
	case slices.Contains(e.Does, "temporary"):
		return e.Kind + ":temporary"
	}
	return e.Kind
}

// sensitivity is how much it matters that something of this kind is new, from 0 to 1.
func (e *Event) sensitivity() float64 {
	if slices.Contains(e.Does, "temporary") {
		return 0.1
	}
	switch e.Kind {
	case "create role", "alter role", "drop role":
		if e.Set.Name != "" && !e.Set.Weakens && !e.Set.Runs {
			return 0.6
		}
		if e.Role.Name == e.Actor && slices.Equal(e.Role.Gains, []string{"password"}) {
			return 0.2 // one's own password
		}
		if len(e.Role.Gains)+len(e.Role.Loses) == 0 && e.Kind == "alter role" && !slices.Contains(e.Does, "rename") {
			return 0.6
		}
		return 1
	case "grant role", "alter default privileges", "reassign owned", "drop owned", "drop database", "drop schema", "load", "grant", "drop table", "create extension", "create server", "create subscription", "create function", "create procedure", "create trigger",
		"create event trigger", "create language", "create publication", "drop policy", "create user mapping", "drop function", "drop trigger", "drop view", "create cast",
		"create operator", "create rule", "create policy", "alter policy", "create foreign table", "import foreign schema", "create foreign data wrapper", "create tablespace":
		return 1
	case "revoke role", "revoke", "alter function", "alter procedure", "alter view", "alter schema", "drop materialized view", "alter trigger", "alter server":
		return 0.8
	case "alter system", "alter database", "security label":
		return 0.6
	case Login, Replication:
		return 0.6
	case "refresh materialized view", "comment", "analyze", "vacuum", "reindex", "cluster", "set", "reset", "show", "select", "begin", "commit", "rollback", "execute", "explain", "copy",
		"savepoint", "release", "fetch", "declare cursor", "close cursor", "deallocate", "prepare", "discard", "listen", "notify", "checkpoint", "lock table":
		return 0.2
	case Failed, LoginFailed, "logout":
		return 0
	}
	if e.Class == "READ" || e.Class == "WRITE" || e.Class == "FUNCTION" {
		return 0.2
	}
	return 0.5
}

// nearHour gives how many hours the time lies from the nearest that the role is active at, and whether enough is known to say so.
func (r *role) nearHour(t time.Time) (distance int, known bool) {
	if r.Logins < 4 || r.Days < 3 {
		return 0, false
	}
	var day [24]int
	active := 0
	for i, n := range r.Hours {
		if n > 0 {
			if day[i%24] == 0 {
				active++
			}
			day[i%24] += n
		}
	}
	if active >= 16 {
		return 0, false // around the clock
	}
	distance = 24
	for h, n := range day {
		if n > 0 {
			d := (t.Hour() - h + 24) % 24
			distance = min(distance, d, 24-d)
		}
	}
	return distance, true
}

// span says between which hours the role is active.
func (r *role) span() string {
	first, last := -1, -1
	for h := range 24 {
		for day := range 7 {
			if r.Hours[day*24+h] > 0 {
				if first < 0 {
					first = h
				}
				last = h
			}
		}
	}
	return fmt.Sprintf("%02d:00–%02d:59", first, last)
}

func hourOfWeek(t time.Time) int { return (int(t.Weekday())+6)%7*24 + t.Hour() }

// service says whether a role is a program's: it logs in often, and never with a tool for people.
func (r *role) service() bool {
	return r.People == 0 && r.Logins >= 8 && r.Days >= 3 && len(r.Apps) <= 6
}

// begins measures a session's beginning against what was learned and remembers it for all that the session does.
func (j *Judge) begins(e *Event, s *session) {
	st := &j.state
	s.Actor, s.App, s.Network, s.key = e.Actor, program(e.App), network(e.Source), ""
	r := st.Roles[e.Actor]
	h := Habit{Interactive: interactive(e.App) || e.App == "" && r != nil && 2*r.People > r.Logins}
	var points float64
	var why []Reason
	if st.Networks[s.Network] == 0 && !roams(st.Networks, s.Network) {
		h.NewNetwork = true
		points += 3
		why = append(why, Reason{Key: "new.network", Args: map[string]string{"where": e.Source}})
	}
	if r == nil || r.Logins == 0 {
		h.NewActor = true
		points += 0.5
		why = append(why, Reason{Key: "new.actor", Args: map[string]string{"who": e.Actor}})
	} else {
		h.Service = r.service()
		heavy := 1.0
		switch {
		case h.Service:
			heavy = 2
		case automation[s.App] && j.automated(s.Network):
			heavy = 0.5 // a tool of deployments, from where deployments come
		}
		if n := r.Networks[s.Network]; n < 3 && r.Logins > 3 && !roams(r.Networks, s.Network) && !(roams(st.Networks, s.Network) && beside(r.Networks, s.Network)) {
			h.NewSource = n == 0
			points += heavy / float64(1+2*n)
			if n == 0 && !h.NewNetwork {
				why = append(why, Reason{Key: "new.source", Args: map[string]string{"who": e.Actor, "where": e.Source}})
			}
		}
		if n := r.Apps[s.App]; n < 3 && r.Logins > 3 {
			h.NewApp = n == 0
			points += heavy / float64(1+2*n)
			if n == 0 {
				why = append(why, Reason{Key: "new.app", Args: map[string]string{"who": e.Actor, "app": e.word("app")}})
			}
		}
		if distance, known := r.nearHour(e.Time); known && distance > 1 {
			if distance >= 4 {
				h.NewHour = true
				points += 1.5
			} else {
				points += 0.75
			}
			why = append(why, Reason{Key: "new.hour", Args: map[string]string{"who": e.Actor, "hour": e.Time.Format("15:04"), "times": fmt.Sprint(r.Logins), "hours": r.span()}})
		}
	}
	s.New, s.Points, s.Why = h, points, why

	// Learned at once: a second session of the same kind is less new than the first. One that turns out bad is taken back.
	r = st.role(e.Actor)
	if r.Logins == 0 || !sameDay(r.Last, e.Time) {
		r.Days++
	}
	r.Logins++
	r.Last = e.Time
	count(r.Apps, s.App)
	count(r.Networks, s.Network)
	r.Hours[hourOfWeek(e.Time)]++
	if h.Interactive {
		r.People++
	}
	if len(st.Networks) < 100*many || st.Networks[s.Network] > 0 {
		st.Networks[s.Network]++
	}
	p := st.Pairs[s.pair()]
	if p == nil {
		p = &pair{}
		if len(st.Pairs) < 20*many {
			st.Pairs[s.pair()] = p
		}
	}
	if p.Sessions == 0 || !sameDay(p.Last, e.Time) {
		p.Days++
	}
	p.Sessions++
	p.Last = e.Time
}

// automated says whether automation is at home in a network.
func (j *Judge) automated(network string) bool {
	for key, p := range j.state.Pairs {
		if strings.HasSuffix(key, "|"+network) && p.routine() {
			return true
		}
	}
	return false
}

// routine says whether a program changes things from a network as a matter of course.
func (p *pair) routine() bool { return p != nil && p.Sessions >= 5 && p.Days >= 3 && p.Acts >= 3 }

// unlearn takes back what a session taught that turned out to be out of order: an attacker must not become a habit.
func (j *Judge) unlearn(s *session, at time.Time) {
	st := &j.state
	r := st.Roles[s.Actor]
	if r == nil || s.Flagged {
		return
	}
	s.Flagged = true
	down := func(m map[string]int, key string) {
		if m[key]--; m[key] <= 0 {
			delete(m, key)
		}
	}
	down(r.Apps, s.App)
	down(r.Networks, s.Network)
	down(st.Networks, s.Network)
	r.Hours[hourOfWeek(at)] = max(0, r.Hours[hourOfWeek(at)]-1)
	if s.New.Interactive {
		r.People = max(0, r.People-1)
	}
	if p := st.Pairs[s.pair()]; p != nil {
		p.Sessions--
	}
}

func sameDay(a, b time.Time) bool { return a.YearDay() == b.YearDay() && a.Year() == b.Year() }

// measure says what is new about an event.
func (j *Judge) measure(e *Event, s *session) {
	st := &j.state
	e.Habit = s.New
	h := &e.Habit
	h.Ready = j.ready()
	r := st.role(e.Actor)

	p := st.Pairs[s.pair()]
	switch {
	case slices.Contains(j.options.Owners, e.Actor) && j.options.Marker != "" && strings.HasPrefix(e.App, j.options.Marker):
		h.Routine = true
	case h.Interactive:
	case !h.Ready:
		h.Routine = automation[s.App]
	default:
		h.Routine = p.routine()
	}

	for _, name := range e.Grant.Roles {
		if other := st.Roles[name]; name == "postgres" || other != nil && (other.Super || other.Admin > 0) {
			h.GrantsPower = e.Kind != "revoke role"
		}
	}
	for _, name := range append(slices.Clip(e.Grant.To), e.Owner) {
		if other := st.Roles[name]; other != nil && (other.Logins > 0 || other.CanLogin) {
			h.TargetLogin = true
		}
	}
	targets := []string{e.Role.Name}
	if e.Kind == "drop role" {
		targets = e.Names
	}
	for _, name := range targets {
		other := st.Roles[name]
		if name == "" || other == nil {
			continue
		}
		if other.Logins > 0 || other.CanLogin {
			h.TargetLogin = true
		}
		if other.Super || other.Admin > 0 {
			h.GrantsPower = true
		}
		if other.Creator != "" && other.Creator == e.Actor {
			h.Own = true
		}
	}
	if e.Kind == "reassign owned" || e.Kind == "drop owned" {
		h.Own = len(e.Names) > 0 && !slices.ContainsFunc(e.Names, func(name string) bool { return st.Roles[name] == nil || st.Roles[name].Creator != e.Actor })
	}
	if e.Kind == "create role" && e.Role.Name != "" {
		e.Role.Alike = j.alike(e.Role.Name)
	}
	switch {
	case slices.Contains(e.Does, "temporary"):
		h.Own = true
	case e.Kind == "drop database" && len(e.Names) > 0:
		h.Own = st.Databases[e.Names[0]] == e.Actor
	case strings.HasPrefix(e.Kind, "drop ") && e.Kind != "drop role" || e.Kind == "truncate table":
		h.Own = len(e.Names) > 0
		for _, name := range e.Names {
			h.Own = h.Own && st.Made[e.DB+" "+bare(name)].is(e.Actor, e.full(name))
		}
	}

	for _, table := range e.From {
		if r.Copied[table] < 2 {
			h.NewFrom = true
		}
		if !h.Ready {
			r.copied(table) // also when it alarms: what is done every day is told for two days and then is a habit
		}
	}
	weight := e.sensitivity()
	if weight == 0 || e.Status == Broken || e.Class == "" && st.Audited && e.Kind != Login && e.Kind != Replication {
		return
	}
	points := s.Points
	why := s.Why
	switch {
	case !e.changes() || h.Own:
	case slices.Contains(j.options.Apps, e.Actor):
		h.FirstChange = true
	case h.Ready && h.Service && r.Changes == 0:
		// The application's own life holds no such event at all, so this needs no guesswork.
		h.FirstChange = true
		points++
		why = append(slices.Clip(why), Reason{Key: "new.changes", Args: map[string]string{"who": e.Actor, "times": fmt.Sprint(r.Logins)}})
	}
	if e.Kind != Login && e.Kind != Replication {
		key := flavour(e)
		if n := r.Kinds[key]; n < 3 && r.Logins > 3 {
			h.NewKind = n == 0
			points += 1 / float64(1+2*n)
			if n == 0 {
				others := j.others(key, e.Actor)
				reason := Reason{Key: "new.kind", Args: map[string]string{"who": e.Actor}}
				if len(others) > 0 && weight >= 0.8 {
					points += 0.5
					reason = Reason{Key: "new.kind-others", Args: map[string]string{"who": e.Actor, "others": strings.Join(others, ", ")}}
				}
				why = append(slices.Clip(why), reason)
			}
		}
	} else if h.NewActor && h.NewNetwork {
		points += 0.5
	}
	if h.Routine {
		weight *= 0.3
	}
	if h.Own {
		weight *= 0.4
	}
	h.Score = points * weight
	h.Why = why
}

// changes says whether the event changes who may do what, or an object that lasts.
func (e *Event) changes() bool {
	return !slices.Contains(e.Does, "temporary") && (e.Class == "DDL" || e.Class == "ROLE" || e.Class == "" && weight(e.Kind) == 3) &&
		e.Kind != "refresh materialized view" && e.Kind != "comment" && e.Kind != "reindex"
}

// others are roles that do such a thing as their work.
func (j *Judge) others(kind, actor string) []string {
	var names []string
	for name, r := range j.state.Roles {
		if name != actor && r.Kinds[kind] >= 2 {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names[:min(3, len(names))]
}

// alike finds a known role that a new name is drawn like.
func (j *Judge) alike(name string) string {
	shape := skeleton(name)
	var found []string
	for other, r := range j.state.Roles {
		if other != name && r.Creator != name && r.Shape == shape && (r.Logins > 0 || r.CanLogin) {
			found = append(found, other)
		}
	}
	for _, other := range []string{"postgres", "root", "admin", "replicator"} {
		if other != name && skeleton(other) == shape {
			found = append(found, other)
		}
	}
	if len(found) == 0 {
		return ""
	}
	slices.Sort(found)
	return found[0]
}

// bare is an object's name without its schema.
func bare(name string) string { return name[strings.LastIndexByte(name, '.')+1:] }

// full is an object's name with its schema, where the statement or pgAudit says it.
func (e *Event) full(name string) string {
	if logged := strings.ReplaceAll(e.ObjectName, `"`, ""); bare(logged) == name {
		return logged
	}
	return name
}

// is tells whether the actor made what goes by this name. Whoever makes a table in a schema of their own has not made the one of that name in another schema.
func (m made) is(actor, name string) bool {
	return m.By == actor && (m.Name == name || bare(m.Name) == m.Name || bare(name) == name)
}

// learn takes an event that was found in order into the habits.
func (j *Judge) learn(e *Event, s *session) {
	st := &j.state
	if e.Status == Denied || e.Status == Broken || e.Actor == "" {
		return
	}
	r := st.role(e.Actor)
	switch e.Kind {
	case Login, Replication, LoginFailed, Failed, "logout", Gap, Forged:
		return
	}
	if e.Class != "" || !st.Audited {
		count(r.Kinds, flavour(e))
		for _, table := range e.From {
			r.copied(table)
		}
		if e.changes() {
			r.Changes++
		}
		if e.Class == "DDL" || e.Class == "ROLE" || e.Class == "" && weight(e.Kind) == 3 {
			if p := st.Pairs[s.pair()]; p != nil {
				p.Acts++
			}
		}
	}
}

// remember takes what an event makes true, whether it was in order or not: who made what, who may do what.
func (j *Judge) remember(e *Event) {
	st := &j.state
	if e.Status == Denied || e.Status == Broken || e.Status == RolledBack {
		return
	}
	switch e.Kind {
	case "create role":
		if e.Role.Name != "" {
			r := st.role(e.Role.Name)
			r.Creator, r.CanLogin = e.Actor, slices.Contains(e.Role.Gains, "login")
		}
		fallthrough
	case "alter role":
		if r := st.Roles[e.Role.Name]; r != nil {
			if slices.Contains(e.Role.Gains, "superuser") {
				r.Super = true
			}
			if slices.Contains(e.Role.Loses, "superuser") {
				r.Super = false
			}
		}
		if e.Role.Name != e.Actor && e.Set.Name == "" {
			st.role(e.Actor).Admin++
		}
	case "drop role":
		for _, name := range e.Names {
			if r := st.Roles[name]; r != nil && (r.Logins == 0 || r.Creator == e.Actor) {
				delete(st.Roles, name) // any other may come back: the drop can be undone, and its habits are not to be lost by that
			}
		}
		st.role(e.Actor).Admin++
	case "grant role", "alter system":
		st.role(e.Actor).Admin++
	case "create database":
		if len(e.Names) > 0 {
			st.Databases[e.Names[0]] = e.Actor
		}
	case "drop database":
		for _, name := range e.Names {
			delete(st.Databases, name)
		}
	case "create table", "create table as", "create view", "create materialized view", "create schema", "create index", "create sequence", "select into", "create function":
		name := e.ObjectName
		if name == "" && len(e.Names) > 0 {
			name = e.Names[0]
		}
		if name != "" {
			name = strings.ReplaceAll(name, `"`, "")
			st.Made[e.DB+" "+bare(name)] = made{By: e.Actor, Name: e.full(name), At: e.Time}
		}
	case "drop table", "drop view", "drop materialized view", "drop schema":
		for _, name := range e.Names {
			delete(st.Made, e.DB+" "+bare(name))
		}
	}
}

// copied counts that the role has copied a table whole.
func (r *role) copied(table string) {
	if r.Copied == nil {
		r.Copied = map[string]int{}
	}
	count(r.Copied, table)
}

// ready says whether the learning time is over.
func (j *Judge) ready() bool { return j.state.Now.Sub(j.state.Began) >= j.options.Learn }

// Learning gives the end of the learning time and whether it lies ahead: until then habits are silent, and rules are not.
func (j *Judge) Learning() (until time.Time, still bool) {
	return j.state.Began.Add(j.options.Learn), !j.ready()
}
