package audit

import (
	"strconv"
	"strings"
)

// Record is what pgAudit says in a line (its README, "Format"). Strings are raw, as those of a Line. ObjectName is written as SQL, with quotation marks where it needs them.
type Record struct {
	Type                        string // SESSION or OBJECT; Triggered where an event trigger of ours has written it
	StatementID, SubstatementID int64  // from 1; the first counts within the session
	Class                       string // ROLE, DDL, READ, WRITE, FUNCTION, MISC
	Command                     string // the command tag: CREATE TABLE, GRANT ROLE
	ObjectType, ObjectName      string // "" where pgAudit names none: roles, role grants, databases, ALTER SYSTEM
	Statement, Parameter        string // or <not logged>, <previously logged>, <none>
	Rows                        int64  // -1: not logged (pgaudit.log_rows is off)
}

// auditPrefix is what pgAudit begins its messages with.
const auditPrefix = "AUDIT: "

// audit fills in Audit and Forged. pgAudit writes its records with severity LOG (pgaudit.log_level is to stay so), no SQLSTATE, detail or hint, and hides statement
// and context; what a role raises has a context, and what fails has a state.
func (l *Line) audit() {
	if strings.HasPrefix(l.Message, auditPrefix) && l.Severity == "LOG" && l.Statement == "" && l.Context == "" && l.State == "" && l.Detail == "" && l.Hint == "" {
		l.Audit = parseRecord(l.Message[len(auditPrefix):])
	}
	if text, ok := strings.CutPrefix(l.Message, TriggerPrefix); ok && l.Severity == "LOG" && l.State == "" && l.Detail == "" && l.Hint == "" && triggered(l.Context) {
		l.Audit = told(text, l.Context)
	}
	l.Forged = l.Audit == nil && looksLikeRecord(l)
}

// looksLikeRecord tells what a person, or a program that reads the plain text log, would take for a record.
func looksLikeRecord(l *Line) bool {
	text := strings.TrimLeft(l.Message, " \t\r\n")
	if len(text) >= len(auditPrefix)-1 && strings.EqualFold(text[:len(auditPrefix)-1], auditPrefix[:len(auditPrefix)-1]) {
		return true
	}
	if len(text) >= len(TriggerPrefix) && strings.EqualFold(text[:len(TriggerPrefix)], TriggerPrefix) {
		return true
	}
	// Before the log-in the names are the stranger's own, and a newline in them begins a line of the text log.
	return l.Severity == "FATAL" && strings.Contains(text, "\n") && strings.Contains(text, auditPrefix)
}

// parseRecord reads the fields behind the prefix; nil when they are none of pgAudit's: nine, or ten with pgaudit.log_rows, quoted where they hold a comma, a
// quotation mark or a line end, and only there.
func parseRecord(text string) *Record {
	fields, n := split(text)
	if n < 9 || fields[0] != "SESSION" && fields[0] != "OBJECT" {
		return nil
	}
	r := &Record{
		Type: fields[0], Class: fields[3], Command: fields[4], ObjectType: fields[5], ObjectName: fields[6],
		Statement: fields[7], Parameter: fields[8], Rows: -1,
	}
	var ok1, ok2, ok3 bool
	r.StatementID, ok1 = count(fields[1])
	r.SubstatementID, ok2 = count(fields[2])
	ok3 = true
	if n == 10 {
		r.Rows, ok3 = count(fields[9])
	}
	if !ok1 || !ok2 || !ok3 || r.StatementID == 0 || r.SubstatementID == 0 || !classLike(r.Class) {
		return nil
	}
	return r
}

// split takes fields apart that are quoted where they hold a comma, a quotation mark or a line end, and only there; n is 0 where they are not.
func split(text string) (fields [10]string, n int) {
	for {
		if n == len(fields) {
			return fields, 0
		}
		if strings.HasPrefix(text, `"`) {
			field, rest, ok := quoted(text[1:])
			if !ok {
				return fields, 0
			}
			fields[n], text = field, rest
			n++
			if text == "" {
				return fields, n
			}
			if text[0] != ',' {
				return fields, 0
			}
			text = text[1:]
			continue
		}
		field, rest, more := strings.Cut(text, ",")
		if strings.ContainsAny(field, "\"\r\n") {
			return fields, 0
		}
		fields[n], text = field, rest
		n++
		if !more {
			return fields, n
		}
	}
}

// count reads what C's %lld writes of a number that is not negative: no sign, no leading zero.
func count(s string) (int64, bool) {
	if s == "" || s[0] < '0' || s[0] > '9' || s[0] == '0' && len(s) > 1 {
		return 0, false
	}
	n, err := strconv.ParseInt(s, 10, 64)
	return n, err == nil
}

func classLike(s string) bool {
	for i := range len(s) {
		if (s[i] < 'A' || s[i] > 'Z') && s[i] != '_' {
			return false
		}
	}
	return s != ""
}

// quoted reads to the closing quotation mark; two of them stand for one. Line ends stay as they are.
func quoted(text string) (field, rest string, ok bool) {
	end := strings.IndexByte(text, '"')
	if end < 0 {
		return "", "", false
	}
	if end+1 == len(text) || text[end+1] != '"' {
		return text[:end], text[end+1:], true
	}
	var b strings.Builder
	b.Grow(len(text))
	for {
		b.WriteString(text[:end])
		text = text[end+1:]
		if text == "" || text[0] != '"' {
			return b.String(), text, true
		}
		b.WriteByte('"')
		text = text[1:]
		if end = strings.IndexByte(text, '"'); end < 0 {
			return "", "", false
		}
	}
}
