package judge

import (
	"regexp"
	"slices"
	"strings"
	"time"

	"howdah/internal/audit"
)

// What is destroyed and can be brought back is kept with the session that did it, so that an incident has all of it, also what came before anybody thought that it was one.

// mostLosses are kept of a session, and of an incident.
const mostLosses = 50

// manyRows are as many as a statement with a condition has to change at least to count: that is work, else.
const manyRows = 1000

var hasWhere = regexp.MustCompile(`(?i)\bwhere\b`)

// losses say what of it can be brought back.
func (e *Event) losses() []audit.Loss {
	if e.Status != Unknown && e.Status != Committed || e.Habit.Own {
		return nil
	}
	switch e.Kind {
	case "drop table", "truncate table", "drop schema", "drop owned":
	case "delete", "update":
		if hasWhere.MatchString(e.Text) && e.Rows < manyRows {
			return nil
		}
	case "alter table":
		if !slices.Contains(e.Does, "drop column") {
			return nil
		}
	default:
		return nil
	}
	names := e.Names
	switch {
	case e.ObjectType == "TABLE" && e.ObjectName != "":
		names = []string{e.ObjectName}
	case e.ObjectType != "" || strings.HasPrefix(e.Kind, "drop schema") || strings.HasPrefix(e.Kind, "drop owned"):
		return nil // an index of it, say; what a schema held is named by records of their own
	default:
		names = slices.Clone(names)
		for i, name := range names {
			parts := strings.Split(name, ".")
			if len(parts) == 1 {
				parts = []string{"public", name}
			}
			for k, part := range parts {
				parts[k] = audit.Ident(part)
			}
			names[i] = strings.Join(parts, ".")
		}
	}
	var all []audit.Loss
	for _, name := range names {
		if strings.HasPrefix(name, "pg_temp") || strings.HasPrefix(name, "pg_catalog.") {
			continue
		}
		loss := audit.Loss{Kind: e.Kind, Object: clip(name, 200), DB: e.DB, TXID: e.TXID, At: e.Time}
		if e.Kind == "delete" || e.Kind == "update" {
			loss.Rows = max(0, e.Rows)
		}
		all = append(all, loss)
	}
	return all
}

// lose adds what is new; it says whether anything was.
func lose(known []audit.Loss, more []audit.Loss) []audit.Loss {
	for _, loss := range more {
		if len(known) < mostLosses && !slices.ContainsFunc(known, loss.Same) {
			known = append(known, loss)
		}
	}
	return known
}

// lost takes in what an event destroyed.
func (j *Judge) lost(e *Event, s *session) {
	losses := e.losses()
	if losses == nil {
		return
	}
	s.Lost = slices.DeleteFunc(s.Lost, func(l audit.Loss) bool { return e.Time.Sub(l.At) > together })
	s.Lost = lose(s.Lost, losses)
}

// belongs brings an incident to what its session has destroyed.
func (i *Incident) belongs(s *session, now time.Time) {
	if now.Sub(i.Last) <= together {
		i.Losses = lose(i.Losses, s.Lost)
	}
}
