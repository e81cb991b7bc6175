package index

import (
	"errors"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/jackc/pgx/v5/pgconn"

	"howdah/internal/audit"
)

// What stands in the files comes from outside: a name can be as long as somebody likes, a text can hold the one character that PostgreSQL cannot store, a time can lie in any
// year. None of it may keep the rest from being stored.

// longest is how many bytes of a name the tables hold. PostgreSQL's own have 63 at most; a row of an index has room for 2700 (its documentation, chapter 67.4).
const longest = 500

// sane gives an entry as the tables can hold it. It is the same for all that PostgreSQL itself writes.
func sane(from *audit.Entry) audit.Entry {
	e := *from
	e.Time = inCalendar(e.Time)
	if e.SessionStart != nil {
		start := inCalendar(*e.SessionStart)
		e.SessionStart = &start
	}
	for _, name := range []*string{&e.SessionID, &e.User, &e.DB, &e.App, &e.Host, &e.PS, &e.VXID, &e.Severity, &e.State, &e.BackendType} {
		*name = clip(*name)
	}
	for _, text := range []*string{&e.Message, &e.Detail, &e.Hint, &e.Statement, &e.Context} {
		*text = plain(*text)
	}
	if e.Audit != nil {
		r := *e.Audit
		for _, name := range []*string{&r.Type, &r.Class, &r.Command, &r.ObjectType} {
			*name = clip(*name)
		}
		r.ObjectName, r.Parameter = plain(r.ObjectName), plain(r.Parameter)
		e.Audit = &r
	}
	if e.Event != nil {
		v := e.Event.Clean()
		if i := v.Incident; i != nil {
			i.ID, i.Severity, i.Actor, i.Source, i.App, i.DB = clip(i.ID), clip(i.Severity), clip(i.Actor), clip(i.Source), clip(i.App), clip(i.DB)
			i.Began, i.Last = inCalendar(i.Began), inCalendar(i.Last)
		}
		if a := v.Answer; a != nil {
			a.Incident = clip(a.Incident)
		}
		e.Event = v
	}
	return e
}

// unfit is what stands in the tables for an entry that they did not take.
func unfit(e *audit.Entry, why error) audit.Entry {
	code := "?"
	var refused *pgconn.PgError
	if errors.As(why, &refused) {
		code = refused.Code
	}
	return audit.Entry{Seq: e.Seq, Hash: e.Hash, Time: e.Time, Event: &audit.Event{Kind: audit.EventUnfit, Why: code}}
}

// plain makes text that PostgreSQL can store.
func plain(s string) string {
	if strings.IndexByte(s, 0) >= 0 {
		s = strings.ReplaceAll(s, "\x00", "\uFFFD")
	}
	if !utf8.ValidString(s) {
		s = strings.ToValidUTF8(s, "\uFFFD")
	}
	return s
}

// clip makes a name that PostgreSQL can store and index.
func clip(s string) string {
	if s = plain(s); len(s) > longest {
		s = strings.ToValidUTF8(s[:longest], "") + "…"
	}
	return s
}

// inCalendar keeps a time between the years 1 and 9999, which JSON can say as well, to the microsecond.
func inCalendar(t time.Time) time.Time {
	t = t.UTC().Truncate(time.Microsecond)
	switch {
	case t.Year() < 1:
		return time.Time{}
	case t.Year() > 9999:
		return time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)
	}
	return t
}
