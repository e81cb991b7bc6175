package server

import (
	"path/filepath"
	"time"

	"howdah/internal/audit"
	"howdah/internal/audit/judge"
	"howdah/internal/chat"
	"howdah/internal/cluster"
	"howdah/internal/fault"
)

// The trail is what the watch writes down for good, outside the database: every line that it reads, what it told of them, and what people answered.

const (
	trailFolder = "trail" // in the folder of the house
	trailRetry  = time.Second
	// A trail that cannot be written does not keep the watch from judging, up to so much: then it stops reading, and what is not read is still in PostgreSQL's log.
	mostBacklog = 16 // batches, of a megabyte of log at most
)

// TrailDir is where the trail of a house lies.
func TrailDir(c *cluster.Cluster) string { return filepath.Join(c.Dir(), trailFolder) }

// keep puts what was read on the trail, with what waits for it. It says whether more can be read.
func (w *watcher) keep(b audit.Batch) bool {
	b.Raw = nil // valid for the moment only
	w.backlog = append(w.backlog, b)
	w.flush()
	return len(w.backlog) < mostBacklog
}

// flush puts on the trail what waits for it, and opens it where it is not open yet: whoever reads it has to know how far it is safe.
func (w *watcher) flush() {
	if w.trail != nil && len(w.backlog)+len(w.notes) == 0 || time.Now().Before(w.trailWait) {
		return
	}
	err := w.write()
	if err == nil {
		w.trailWait = time.Time{}
		return
	}
	if w.trailWait.IsZero() {
		w.s.options.Log.Error("the audit trail cannot be written; what is read waits for it", "error", err)
	}
	w.trailWait = time.Now().Add(trailRetry)
	if w.trail != nil {
		_ = w.trail.Close() // it is opened anew
		w.trail = nil
	}
}

func (w *watcher) write() (err error) {
	if w.trail == nil {
		if w.trail, err = audit.OpenTrail(TrailDir(w.s.options.Cluster), TrailSource); err != nil {
			w.trail = nil
			return err
		}
		w.s.tables.grown(w.trail.Head().Seq, nil, 1)
	}
	for len(w.backlog) > 0 {
		fresh, events, err := w.trail.Append(w.backlog[0])
		if err != nil {
			return err
		}
		w.s.tables.grown(w.trail.Head().Seq, fresh, len(events))
		w.at = w.backlog[0].Position
		w.backlog = w.backlog[1:]
	}
	w.backlog = nil
	if err := w.trail.Note(w.notes...); err != nil {
		return err
	}
	if len(w.notes) > 0 {
		w.s.tables.grown(w.trail.Head().Seq, nil, len(w.notes))
	}
	w.notes = nil
	return nil
}

// closeTrail is for the end.
func (w *watcher) closeTrail() {
	w.trailWait = time.Time{}
	w.flush()
	if w.trail != nil {
		if err := w.trail.Close(); err != nil {
			w.s.options.Log.Error("the audit trail could not be closed", "error", fault.Of(err))
		}
	}
}

// noteIncident writes down how an incident stands.
func (w *watcher) noteIncident(i *judge.Incident) {
	out := &audit.Incident{ID: i.ID, Severity: i.Severity.String(), Reasons: i.Reasons, Actor: i.Actor, Source: i.Source, App: i.App, DB: i.DB, Began: i.Began, Last: i.Last,
		Objects: i.Objects, Sessions: i.Sessions, Count: i.Count, Muted: i.Muted}
	if rule := w.gravest(i); rule != nil {
		out.Rule = rule.ID
	}
	for _, id := range i.TXIDs {
		out.Transactions = append(out.Transactions, audit.Transaction{ID: id, Fate: w.fate[id]})
	}
	w.notes = append(w.notes, audit.Event{Kind: audit.EventIncident, Incident: out})
}

// noteAnswer writes down what somebody answered.
func (w *watcher) noteAnswer(a chat.AnswerRecord) {
	out := &audit.Answer{ID: a.ID, Incident: a.Incident, Part: a.Part, By: a.By.Handle, Name: a.By.Name, At: a.At, What: string(a.What), Until: a.Until, Note: a.Note}
	if a.Cover != nil {
		out.Mute = &audit.Mute{Actor: a.Cover.Actor, Network: a.Cover.Network}
		for _, act := range a.Cover.Acts {
			out.Mute.Acts = append(out.Mute.Acts, audit.Act(act))
		}
	}
	w.notes = append(w.notes, audit.Event{Kind: audit.EventAnswer, Answer: out})
}
