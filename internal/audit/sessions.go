package audit

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"time"
)

// sessions knows how far each session of the log was read: what comes again is not stored again, and what is missing is seen.
type sessions struct {
	Known map[string]*session `json:"known"`
	Since time.Time           `json:"since"` // the first line that was ever read: of sessions that began before, the beginning may be missing
}

type session struct {
	Line      int64     `json:"line"`                // the highest line_num
	Statement int64     `json:"statement,omitempty"` // pgAudit's last STATEMENT_ID
	Seen      time.Time `json:"seen"`
	Ended     bool      `json:"ended,omitempty"`
}

// mostSessions bounds them: all stand in the first line of each file of the trail, with some 75 bytes each.
const mostSessions = 10_000

// take notes a line; again says that it was read before, and events what is missing before it.
func (s *sessions) take(l *Line) (again bool, events []Event) {
	if s.Known == nil {
		s.Known = map[string]*session{}
	}
	if s.Since.IsZero() {
		s.Since = l.Time
	}
	known, had := s.Known[l.SessionID]
	whole := had || l.SessionStart.After(s.Since.Truncate(time.Second))
	if !had {
		s.trim()
		known = &session{}
		s.Known[strings.Clone(l.SessionID)] = known // the line's own would keep all of the line
	}
	if had && l.LineNum <= known.Line {
		return true, nil
	}
	if whole && l.LineNum > known.Line+1 {
		events = append(events, Event{Kind: EventLineGap, SessionID: clean(l.SessionID), From: known.Line + 1, To: l.LineNum - 1})
	}
	known.Line, known.Seen = l.LineNum, l.Time
	if r := l.Audit; r != nil && r.Type != Triggered {
		begun := known.Statement > 0 || l.SessionStart.After(s.Since.Truncate(time.Second))
		if begun && (r.StatementID < known.Statement || r.StatementID > known.Statement+1) {
			events = append(events, Event{Kind: EventStatementGap, SessionID: clean(l.SessionID), From: known.Statement + 1, To: r.StatementID - 1})
		}
		known.Statement = r.StatementID
	}
	if l.Context == "" && l.BackendType == "client backend" && l.Severity == "LOG" && strings.HasPrefix(l.Message, "disconnection: ") || l.Severity == "FATAL" || l.Severity == "PANIC" {
		known.Ended = true
	}
	return false, events
}

// trim forgets a quarter of the sessions when there are too many: those first that have ended, then those that nobody has logged in to, as somebody without a password can make as many as they like, and of
// each kind those that were silent for longest. Of one that is forgotten while it runs it would be said that its
// first lines are missing.
func (s *sessions) trim() {
	if len(s.Known) < mostSessions {
		return
	}
	rank := func(k *session) int {
		switch {
		case k.Ended:
			return 0
		case k.Line <= 1 && k.Statement == 0: // "connection received"
			return 1
		}
		return 2
	}
	ids := slices.SortedFunc(maps.Keys(s.Known), func(a, b string) int {
		x, y := s.Known[a], s.Known[b]
		return cmp.Or(rank(x)-rank(y), x.Seen.Compare(y.Seen), strings.Compare(a, b))
	})
	for _, id := range ids[:len(ids)/4] {
		delete(s.Known, id)
	}
}
