package judge

import (
	"slices"
	"strings"
	"time"

	"howdah/internal/audit"
)

// log_statement writes a statement before it is run, so what has failed reads like what was done; pgAudit writes it behind, or not at all. PostgreSQL's own line about the error has the same text, in the same session.

// hears notes a statement that log_statement wrote.
func (s *session) hears(sql string, at time.Time) {
	s.Heard, s.HeardAt, s.HeardText, s.HeardMade, s.HeardN = nil, at, textHash(sql), nil, 0
}

// refused says whether a line tells that what the session was heard to say last has failed, all of it.
func (s *session) refused(l *audit.Line) bool {
	if s.HeardText == 0 || len(s.Heard) == 0 || l.Statement == "" || textHash(l.Statement) != s.HeardText {
		return false
	}
	for _, statement := range statements(scan(l.Statement)) { // one that commits in the middle has kept what came before
		if kind := command(statement); kind == "commit" || kind == "end" {
			return false
		}
	}
	return true
}

// textHash is never 0. It is kept with the state, so it is the same in every process.
func textHash(sql string) uint64 {
	const offset, prime = 14695981039346656037, 1099511628211 // FNV-1a
	h := uint64(offset)
	for i := range len(sql) {
		h = (h ^ uint64(sql[i])) * prime
	}
	return h | 1
}

// recall notes what is known of the objects that a statement of log_statement says it makes or drops: before that is remembered otherwise.
func (j *Judge) recall(e *Event, s *session) {
	if e.Class != "" || s.HeardText == 0 || !e.Time.Equal(s.HeardAt) {
		return
	}
	verb, _, _ := strings.Cut(e.Kind, " ")
	if verb != "create" && verb != "drop" && e.Kind != "select into" {
		return
	}
	for _, name := range e.Names {
		key := e.DB + " " + bare(name)
		if _, noted := s.HeardMade[key]; noted || len(s.HeardMade) >= maxNames {
			continue
		}
		if s.HeardMade == nil {
			s.HeardMade = map[string]made{}
		}
		s.HeardMade[key] = j.state.Made[key]
	}
}

// undone takes back what was judged of a statement as if it had been done.
func (j *Judge) undone(_ *Event, s *session) []Verdict {
	for key, was := range s.HeardMade {
		if was == (made{}) {
			delete(j.state.Made, key)
		} else {
			j.state.Made[key] = was
		}
	}
	at, n := s.HeardAt, s.HeardN
	s.hears("", time.Time{})
	s.HeardText = 0
	came := func(l audit.Loss) bool { return l.TXID == 0 && l.At.Equal(at) }
	s.Lost = slices.DeleteFunc(s.Lost, came)
	told := j.Incident(s.Incident)
	if n == 0 || told == nil {
		return nil
	}
	told.Failed += n
	told.Losses = slices.DeleteFunc(slices.Clone(told.Losses), came)
	told.attempt()
	return []Verdict{{Rule: told.Rules[0], Severity: told.Severity, Reason: told.Reasons[0], Event: &Event{Kind: Undone, Time: at}, Incident: told, Change: Grew, Muted: told.Muted}}
}
