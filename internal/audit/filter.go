package audit

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"howdah/internal/fault"
)

// Filter chooses entries of the trail. What is empty chooses all. In the fields Role to Session, "*" stands for any characters; Class, Command, Outcome and Severity
// take capitals and small letters for the same. Package index makes SQL of it that chooses alike.
type Filter struct {
	From, To time.Time // To is not in it
	Role     string    // the login role
	Source   string    // the client's address; [local] for a Unix socket
	App, DB  string
	Class    string   // Entry.Class
	Without  []string // classes that are left out, in capitals
	Command  string   // of a record, and the tag of other lines: CREATE TABLE
	Object   string   // of a record: public.accounts
	Outcome  string   // Entry.Outcome
	Severity string   // of the line: LOG, ERROR, FATAL; of an incident: low, medium, high, critical
	Session  string
	Text     string // anywhere in what people read of the entry, whether in capitals or small letters

	Before Cursor // what is older than that place: the next page
	Limit  int    // entries at most
}

// Cursor is a place in the trail, between two entries. The zero cursor is behind the newest one.
type Cursor struct {
	Time time.Time
	Seq  int64
}

// String is what ParseCursor reads.
func (c Cursor) String() string {
	if c == (Cursor{}) {
		return ""
	}
	return fmt.Sprintf("%d.%d", c.Time.UnixMicro(), c.Seq)
}

// ParseCursor reads what String wrote.
func ParseCursor(s string) (Cursor, error) {
	if s == "" {
		return Cursor{}, nil
	}
	micros, number, _ := strings.Cut(s, ".")
	at, err := strconv.ParseInt(micros, 10, 64)
	seq, err2 := strconv.ParseInt(number, 10, 64)
	if err != nil || err2 != nil || at < -62135596800000000 || at > 253402300799999999 { // the years 1 to 9999
		return Cursor{}, fault.New(fault.Invalid, "audit.cursor", fault.Args{"cursor": printable(s)})
	}
	return Cursor{time.UnixMicro(at).UTC(), seq}, nil
}

// Classes of entries that are no record of pgAudit's; those of records are pgAudit's own (ROLE, DDL, READ, WRITE, FUNCTION, MISC).
const (
	ClassLogin    = "LOGIN"    // a session began, ended, or was refused
	ClassError    = "ERROR"    // a statement failed
	ClassLog      = "LOG"      // any other line
	ClassForged   = "FORGED"   // only looks like a record
	ClassNoticed  = "NOTICED"  // lines that are missing or cannot be read
	ClassRights   = "RIGHTS"   // who may do what from then on
	ClassIncident = "INCIDENT" // what was told, and what was answered
)

// Class says what kind of thing an entry is.
func (e *Entry) Class() string {
	switch {
	case e.Event != nil && (e.Event.Kind == EventIncident || e.Event.Kind == EventAnswer || e.Event.Kind == EventBack):
		return ClassIncident
	case e.Event != nil && e.Event.Kind == EventRights:
		return ClassRights
	case e.Event != nil:
		return ClassNoticed
	case e.Audit != nil:
		return e.Audit.Class
	case e.Forged:
		return ClassForged
	case e.Severity == "LOG" && (strings.HasPrefix(e.Message, "connection ") || strings.HasPrefix(e.Message, "disconnection: ") || strings.HasPrefix(e.Message, "replication connection ")) && e.Context == "",
		strings.HasPrefix(e.State, "28"):
		return ClassLogin
	case e.Severity == "ERROR", e.Severity == "FATAL", e.Severity == "PANIC":
		return ClassError
	}
	return ClassLog
}

// What became of what a line tells, as far as the line itself says.
const (
	OutcomeDenied = "denied" // PostgreSQL refused it for want of rights, or a log-in
	OutcomeFailed = "failed" // it failed for another reason
	OutcomeDone   = "done"   // neither: whether its transaction committed is another question
)

// Outcome says what became of what an entry tells; "" for an event.
func (e *Entry) Outcome() string {
	switch {
	case e.Event != nil:
		return ""
	case e.State == "42501" || strings.HasPrefix(e.State, "28"):
		return OutcomeDenied
	case e.Severity == "ERROR", e.Severity == "FATAL", e.Severity == "PANIC":
		return OutcomeFailed
	}
	return OutcomeDone
}

// Command is the command of a record, or the tag of another line.
func (e *Entry) Command() string {
	if e.Audit != nil {
		return e.Audit.Command
	}
	return e.PS
}

// Object is what a record names.
func (e *Entry) Object() string {
	if e.Audit != nil {
		return e.Audit.ObjectName
	}
	return ""
}

// Match tells whether the filter chooses an entry; Limit is the caller's.
func (f *Filter) Match(e *Entry) bool {
	if !f.From.IsZero() && e.Time.Before(f.From) || !f.To.IsZero() && !e.Time.Before(f.To) {
		return false
	}
	if f.Before != (Cursor{}) && (e.Time.After(f.Before.Time) || e.Time.Equal(f.Before.Time) && e.Seq >= f.Before.Seq) {
		return false
	}
	if slices.Contains(f.Without, e.Class()) {
		return false
	}
	severity := e.Severity
	if e.Event != nil && e.Event.Incident != nil {
		severity = e.Event.Incident.Severity
	}
	return like(f.Role, e.User) && like(f.Source, e.Host) && like(f.App, e.App) && like(f.DB, e.DB) && like(f.Object, e.Object()) && like(f.Session, e.SessionID) &&
		alike(f.Class, e.Class()) && alike(f.Command, e.Command()) && alike(f.Outcome, e.Outcome()) && alike(f.Severity, severity) &&
		(f.Text == "" || strings.Contains(strings.ToLower(e.Text()), strings.ToLower(f.Text)))
}

// Text is what is searched of an entry.
func (e *Entry) Text() string {
	parts := []string{e.Message, e.Statement, e.Detail, e.Hint, e.Context, e.User, e.App, e.Host, e.DB}
	if e.Audit != nil {
		parts = append(parts, e.Audit.Command, e.Audit.ObjectName, e.Audit.Parameter)
	}
	if v := e.Event; v != nil {
		parts = append(parts, v.Kind, v.File, v.Why)
		if i := v.Incident; i != nil {
			parts = append(parts, i.ID, i.Severity, i.Rule, i.Actor, i.Source, i.App, i.DB, strings.Join(i.Objects, " "))
		}
		if a := v.Answer; a != nil {
			parts = append(parts, a.Incident, a.By, a.What, a.Note)
		}
		if b := v.Back; b != nil {
			parts = append(parts, b.Incident, b.By, b.What)
		}
	}
	return strings.Join(parts, "\n")
}

// alike is like for what is written in capitals or small letters.
func alike(pattern, s string) bool { return like(strings.ToLower(pattern), strings.ToLower(s)) }

// like tells whether s is what a pattern says, in which "*" stands for any characters; an empty pattern is every s.
func like(pattern, s string) bool {
	if pattern == "" {
		return true
	}
	first, rest, more := strings.Cut(pattern, "*")
	if !more {
		return pattern == s
	}
	s, ok := strings.CutPrefix(s, first)
	if !ok {
		return false
	}
	for {
		part, next, more := strings.Cut(rest, "*")
		if !more {
			return strings.HasSuffix(s, part)
		}
		at := strings.Index(s, part)
		if at < 0 {
			return false
		}
		s, rest = s[at+len(part):], next
	}
}
