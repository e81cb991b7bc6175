package judge

import (
	"fmt"
	"strings"
	"time"
	"unicode"

	"howdah/internal/audit"
)

// derive makes the events that a line stands for; most lines stand for one, and a session's first for its beginning as well.
func (j *Judge) derive(l *audit.Line, events []Event) []Event {
	st := &j.state
	s := st.Sessions[l.SessionID]
	base := Event{Time: l.Time, Actor: l.User, Session: l.SessionID, App: l.App, Source: l.RemoteHost, DB: l.DB, TXID: l.TXID, Status: Unknown, Rows: -1}
	if s == nil {
		s = &session{Line: l.LineNum - 1}
		if l.LineNum > 1 && l.User != "" && l.SessionStart.After(st.Began.Add(time.Second)) && l.Time.Sub(l.SessionStart) < forgetStrangers {
			s.Line = 0 // its beginning should have been seen; an older session may have been forgotten
		}
		st.Sessions[l.SessionID] = s
	}
	if l.LineNum > s.Line+1 {
		gap := base
		gap.Kind, gap.Detail = Gap, fmt.Sprintf("%d lines before line %d", l.LineNum-s.Line-1, l.LineNum)
		events = append(events, gap)
	}
	s.Line, s.Seen = max(s.Line, l.LineNum), l.Time

	if l.Forged || hidesLines(l.User) || hidesLines(l.DB) {
		forged := base
		forged.Kind, forged.Detail = Forged, clip(l.Message, 200)
		return append(events, forged)
	}
	if l.Audit != nil {
		return j.record(j.implicitLogin(events, &base, s, l), &base, s, l)
	}
	switch l.Severity {
	case "LOG":
		return j.logLine(events, &base, s, l)
	case "FATAL":
		if l.State == "28P01" || l.State == "28000" {
			base.Kind, base.Code = LoginFailed, l.State
			return append(events, base)
		}
	case "ERROR":
		events = j.implicitLogin(events, &base, s, l)
		if s.refused(l) {
			undone := base
			undone.Kind = Undone
			events = append(events, undone)
		}
		base.Kind, base.Status, base.Code, base.Detail = Failed, Broken, l.State, l.Message
		if l.State == "42501" {
			base.Status = Denied
			for _, kind := range kindsIn(l.Statement) {
				if base.Kind == Failed || weight(kind) > weight(base.Kind) {
					base.Kind = kind
				}
			}
			base.Text = l.Statement
			base.read(l.Statement)
			return append(events, base)
		}
		// What failed for another reason is judged where doing it would have been critical: a library that could not be loaded was meant to be.
		for _, kind := range kindsIn(l.Statement) {
			if grave[kind] && base.Kind == Failed {
				base.Kind, base.Text = kind, l.Statement
				base.read(l.Statement)
			}
		}
		return append(events, base)
	}
	return events
}

// grave are the kinds of which an attempt matters, however it failed.
var grave = map[string]bool{"create function": true, "create procedure": true, "create language": true, "create extension": true, "create role": true, "alter role": true,
	"grant role": true, "alter system": true, "load": true, "copy": true, "do": true, "select": true, "alter database": true, "create foreign table": true}

// hidesLines says whether a name holds what ends a line in a text log.
func hidesLines(name string) bool {
	return strings.ContainsFunc(name, func(r rune) bool { return unicode.IsControl(r) })
}

func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n], "") + "…"
}

// record adds the event of a pgAudit record.
func (j *Judge) record(events []Event, base *Event, s *session, l *audit.Line) []Event {
	r := l.Audit
	triggered := r.Type == audit.Triggered
	if s.Statement > 0 && r.StatementID > s.Statement+1 {
		gap := *base
		gap.Kind, gap.Detail = Gap, fmt.Sprintf("%d statements before statement %d", r.StatementID-s.Statement-1, r.StatementID)
		events = append(events, gap)
	}
	s.Statement = max(s.Statement, r.StatementID)
	s.Records++
	j.state.Audited = j.state.Audited || !triggered
	events = append(events, *base)
	e := &events[len(events)-1]
	e.Kind, e.Class, e.Object, e.Records, e.Rows = lower(r.Command), r.Class, r.Type == "OBJECT", s.Records, r.Rows
	e.ObjectType, e.ObjectName, e.Text = r.ObjectType, r.ObjectName, r.Statement
	if triggered && r.Command == audit.TriggerFailed {
		e.Kind, e.ObjectName, e.Detail = Blinded, "", r.ObjectName
		return events
	}
	if triggered {
		j.triggered(e, s, l)
		return events
	}
	if e.Kind == "select" && !e.Object && !strings.Contains(r.Statement, "(") {
		return events // nothing in it that a rule asks for
	}
	e.read(r.Statement)
	if len(e.Names) == 0 && e.ObjectName != "" {
		e.Names = append(e.Names, e.ObjectName)
	}
	if strings.HasPrefix(e.ObjectName, "pg_temp") {
		e.does("temporary")
	}
	return events
}

// tags are the command tags that come often, in lower case.
var tags = func(all ...string) map[string]string {
	m := map[string]string{}
	for _, tag := range all {
		m[tag] = strings.ToLower(tag)
	}
	return m
}("CREATE TABLE", "CREATE TABLE AS", "DROP TABLE", "ALTER TABLE", "CREATE INDEX", "DROP INDEX", "CREATE VIEW", "CREATE FUNCTION", "REFRESH MATERIALIZED VIEW", "COMMENT",
	"GRANT", "REVOKE", "GRANT ROLE", "REVOKE ROLE", "CREATE ROLE", "ALTER ROLE", "DROP ROLE", "SELECT", "INSERT", "UPDATE", "DELETE", "COPY", "SET", "BEGIN", "COMMIT", "EXECUTE")

func lower(tag string) string {
	if kind, ok := tags[tag]; ok {
		return kind
	}
	return strings.ToLower(tag)
}

// implicitLogin makes up for a log-in that was not logged.
func (j *Judge) implicitLogin(events []Event, base *Event, s *session, l *audit.Line) []Event {
	if s.LoggedIn || l.User == "" || l.BackendType != "client backend" && l.BackendType != "" {
		return events
	}
	s.LoggedIn = true
	events = append(events, *base)
	events[len(events)-1].Kind = Login
	return events
}

func (j *Judge) logLine(events []Event, base *Event, s *session, l *audit.Line) []Event {
	m := l.Message
	switch {
	case strings.HasPrefix(m, "connection authorized: "), strings.HasPrefix(m, "replication connection authorized: "):
		s.LoggedIn = true
		base.Kind = Login
		if m[0] == 'r' || l.BackendType == "walsender" {
			base.Kind = Replication
		}
		if _, app, ok := strings.Cut(m, " application_name="); ok {
			for _, end := range []string{" SSL enabled (", " GSS ("} {
				app, _, _ = strings.Cut(app, end)
			}
			base.App = app
		}
		return append(events, *base)
	case strings.HasPrefix(m, "disconnection: "):
		base.Kind = "logout"
		return append(events, *base)
	case strings.HasPrefix(m, `parameter "`):
		// After a reload: parameter "x" changed to "y", or: removed from configuration file, reset to default.
		name, rest, ok := strings.Cut(m[len(`parameter "`):], `"`)
		if !ok {
			return events
		}
		base.Kind = SettingChange
		base.Set = SettingFacts{Name: strings.ToLower(name), Scope: "system"}
		if value, ok := strings.CutPrefix(rest, ` changed to "`); ok {
			base.Set.Value = strings.TrimSuffix(value, `"`)
		} else if strings.Contains(rest, "reset to default") {
			base.Set.Reset = true
		} else {
			return events
		}
		base.Set.judge()
		base.Names = []string{base.Set.Name}
		return append(events, *base)
	case strings.HasPrefix(m, "statement: "):
		return j.loggedStatement(events, base, s, l, m[len("statement: "):])
	case strings.HasPrefix(m, "execute "):
		if _, sql, ok := strings.Cut(m, ": "); ok {
			return j.loggedStatement(events, base, s, l, sql)
		}
	case strings.HasPrefix(m, "duration: "):
		if _, sql, ok := strings.Cut(m, "  statement: "); ok {
			return j.loggedStatement(events, base, s, l, sql)
		}
	}
	return events
}

// loggedStatement makes events of what log_statement writes: all there is without pgAudit, and with it what it hides behind a password.
func (j *Judge) loggedStatement(events []Event, base *Event, s *session, l *audit.Line, sql string) []Event {
	events = j.implicitLogin(events, base, s, l)
	s.hears(sql, l.Time)
	for _, kind := range kindsIn(sql) {
		e := *base
		e.Kind, e.Text = kind, sql
		e.read(sql)
		events = append(events, e)
		s.Heard = append(s.Heard, heard{kind, e.Does})
	}
	return events
}
