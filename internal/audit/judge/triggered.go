package judge

import (
	"slices"
	"strings"
	"time"

	"howdah/internal/audit"
)

// Without pgAudit there are two lines of a statement that changes objects: log_statement's, written before it is run, and one of an event trigger for each object, written behind it, with its transaction. The first is
// judged, as it comes first and has the words; the others bring what it lacked, and are judged where there is no first: inside functions and blocks.

// heard is a statement of the last line that log_statement wrote in a session.
type heard struct {
	Kind string
	Does []string `json:",omitempty"`
}

// triggered fills in the event of a record that an event trigger has written.
func (j *Judge) triggered(e *Event, s *session, l *audit.Line) {
	r := l.Audit
	e.Triggered = true
	if !l.Nested() {
		if at := slices.IndexFunc(s.Heard, func(h heard) bool { return h.Kind == e.Kind }); at >= 0 {
			e.Echo, e.Does = true, slices.Clone(s.Heard[at].Does)
		}
	} else if slices.Contains(kindsIn(r.Statement), e.Kind) {
		e.read(r.Statement)
	}
	if e.ObjectName != "" && (e.Echo || len(e.Names) == 0) {
		e.Names = []string{plainName(e.ObjectName)}
	}
}

// plainName is an object's name without quotation marks and arguments.
func plainName(name string) string {
	if at := strings.IndexByte(name, '('); at > 0 {
		name = name[:at]
	}
	return strings.ReplaceAll(name, `"`, "")
}

// echo takes in what a trigger tells of a statement that was judged already.
func (j *Judge) echo(e *Event, s *session) []Verdict {
	j.measure(e, s)
	losses := e.losses()
	var told *Incident
	if i := j.Incident(s.Incident); i != nil && s.Alarmed.Equal(s.HeardAt) && !s.HeardAt.IsZero() {
		told = i
	}
	s.Lost = slices.DeleteFunc(s.Lost, func(l audit.Loss) bool { return e.Time.Sub(l.At) > together })
	s.Lost = completed(s.Lost, losses, s.HeardAt)
	j.remember(e)
	j.enter(e)
	if told == nil {
		return nil
	}
	grown := len(told.TXIDs)
	if e.TXID != 0 && grown < 200 && !slices.Contains(told.TXIDs, e.TXID) {
		told.TXIDs = append(told.TXIDs, e.TXID)
	}
	told.Losses = completed(told.Losses, losses, s.HeardAt)
	if len(told.TXIDs) == grown && losses == nil {
		return nil
	}
	kept := new(*e)
	return []Verdict{{Rule: told.Rules[0], Severity: told.Severity, Reason: told.Reasons[0], Event: kept, Incident: told, Change: Grew, Muted: told.Muted}}
}

// completed brings transaction and schema to what a statement was heard to destroy, and adds what it did not name.
func completed(known, losses []audit.Loss, heardAt time.Time) []audit.Loss {
	for _, loss := range losses {
		at := slices.IndexFunc(known, func(old audit.Loss) bool {
			return old.TXID == 0 && old.Kind == loss.Kind && old.At.Equal(heardAt) && bare(plainName(old.Object)) == bare(plainName(loss.Object))
		})
		if at < 0 {
			known = lose(known, []audit.Loss{loss})
			continue
		}
		known = slices.Clone(known)
		known[at].TXID, known[at].Object = loss.TXID, loss.Object
	}
	return known
}
