package audit

import (
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
}

const mostSessions = 100_000

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
	if r := l.Audit; r != nil {
		begun := known.Statement > 0 || l.SessionStart.After(s.Since.Truncate(time.Second))
		if begun && (r.StatementID < known.Statement || r.StatementID > known.Statement+1) {
			events = append(events, Event{Kind: EventStatementGap, SessionID: clean(l.SessionID), From: known.Statement + 1, To: r.StatementID - 1})
		}
		known.Statement = r.StatementID
	}
	if strings.HasPrefix(l.Message, "disconnection: ") && l.Severity == "LOG" && l.BackendType == "client backend" && l.Context == "" {
		known.Seen = l.Time.Add(-time.Hour * 24 * 365) // the first to be forgotten
	}
	return false, events
}

// trim forgets the sessions that were silent for longest when there are too many.
func (s *sessions) trim() {
	if len(s.Known) < mostSessions {
		return
	}
	var newest time.Time
	for _, known := range s.Known {
		if known.Seen.After(newest) {
			newest = known.Seen
		}
	}
	for age := 30 * 24 * time.Hour; len(s.Known) > mostSessions*3/4; age /= 2 {
		for id, known := range s.Known {
			if newest.Sub(known.Seen) > age {
				delete(s.Known, id)
			}
		}
		if age < time.Second {
			break
		}
	}
}
