package audit

import (
	"strings"
)

// Where there is no pgAudit, event triggers tell of what has changed objects: a function of ours (package cover) writes one line with RAISE LOG for each object. Anybody can raise a line with the same words; that it was our
// function PostgreSQL says itself, in the line's context, whose first line is the innermost caller and cannot be chosen: the name of any other function stands there as it is, in quotes where it needs them, and nobody
// but a superuser can make one in our schema.

// TriggerSchema and TriggerFunction name the function; TriggerPrefix begins its messages.
const (
	TriggerSchema   = "howdah_watch"
	TriggerFunction = TriggerSchema + ".tell"
	TriggerPrefix   = TriggerSchema + ": "
)

// TriggerFailed is the Command of a record by which the function says that it could not tell what was changed; why stands in place of the object's name.
const TriggerFailed = "FAILED"

// Untranslated are the values of lc_messages, as a pattern for PostgreSQL and for Go, with which a line's context is in the words that it is known by. Letters count in either case.
const Untranslated = `^((C|POSIX|en|English)([_.@-].*)?)?$`

// Triggered is the Type of a record that an event trigger has written. It has no STATEMENT_ID.
const Triggered = "EVENT"

const (
	toldBy    = "PL/pgSQL function " + TriggerFunction + "() line "
	toldAt    = " at RAISE"
	toldInner = "\nSQL statement \""
	toldOuter = "\"\nPL/pgSQL function "
)

// triggered says whether a line's context is that of our function.
func triggered(context string) bool {
	first, _, _ := strings.Cut(context, "\n")
	line, ok := strings.CutPrefix(first, toldBy)
	if !ok {
		return false
	}
	line, ok = strings.CutSuffix(line, toldAt)
	_, number := count(line)
	return ok && number
}

// Nested says whether a record of an event trigger is of what a function or a DO block did, and not of a statement that the client sent itself.
func (l *Line) Nested() bool {
	return l.Audit != nil && l.Audit.Type == Triggered && strings.Contains(l.Context, "\n")
}

// told reads what our function says; nil where these are not its fields: the command tag, the object's type and name, the role in force where that is another than the session's, and the client's statement where what was
// done stands in no other place.
func told(text, context string) *Record {
	fields, n := split(text)
	if n != 5 || fields[0] == "" {
		return nil
	}
	r := &Record{Type: Triggered, Class: "DDL", Command: fields[0], ObjectType: fields[1], ObjectName: fields[2], Statement: fields[4], Rows: -1}
	if fields[3] != "" {
		r.Parameter = "current_user = " + fields[3]
	}
	switch r.Command {
	case "GRANT", "REVOKE":
		r.Class = "ROLE"
	}
	if _, inner, ok := strings.Cut(context, toldInner); ok {
		r.Statement, _, _ = strings.Cut(inner, toldOuter)
		r.Statement = strings.TrimSuffix(r.Statement, `"`)
	}
	return r
}
