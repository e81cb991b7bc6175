package server

import (
	"context"
	"path/filepath"
	"slices"
	"time"

	"howdah/internal/audit"
	"howdah/internal/audit/judge"
	"howdah/internal/chat"
	"howdah/internal/cluster"
	"howdah/internal/fault"
)

// The trail is what the watch writes down for good, outside the database: every line that it reads, what it told of them, and what people answered.

const (
	TrailFolder = "trail" // in the folder of the house, or of what is known of an adopted cluster
	trailRetry  = time.Second
	trailRest   = 15 * time.Second // opening it reads its last file
	// What was judged waits here for a trail that cannot be written, up to so much. Judging goes on all the same: what is more is read again from PostgreSQL's log when there is room.
	mostBacklog = 16 // batches, of a megabyte of log at most
	mostNotes   = 1000
)

// TrailDir is where the trail of a house lies.
func TrailDir(c *cluster.Cluster) string { return filepath.Join(c.Dir(), TrailFolder) }

// keep puts what was judged on the trail, with what waits for it.
func (w *watcher) keep(b audit.Batch) {
	w.judged = b.Position
	switch {
	case w.late:
		return // it is read again
	case w.ahead != nil && reached(*w.ahead, b.Position):
		return // it was
	case len(w.backlog) == mostBacklog:
		w.late = true
		return
	}
	w.ahead = nil
	b.Raw = nil // valid for the moment only
	w.backlog = append(w.backlog, b)
	w.flush()
}

// reached tells whether who has read up to a position has read all that is before the other. It says no when it cannot be known, and more is read then.
func reached(at, other audit.Position) bool {
	if at.File == other.File && at.Start.Equal(other.Start) {
		return at.Offset >= other.Offset
	}
	return at.Start.After(other.Start)
}

// catching is what reads again for the trail, beside the reading for the judge.
type catching struct {
	read chan reading
	over chan error
	stop context.CancelFunc
	held chan struct{} // it waits for the trail
}

// catchUp begins to read again what the trail does not have, when it can be written.
func (w *watcher) catchUp(ctx context.Context) {
	if !w.late || w.catching != nil || len(w.backlog) > 0 || time.Now().Before(w.trailWait) {
		return
	}
	if reached(w.at, w.judged) {
		w.caughtUp()
		return
	}
	reading, stop := context.WithCancel(ctx)
	c := &catching{stop: stop}
	c.read, c.over = follow(reading, w.logDir(), w.at)
	w.catching = c
}

// again puts on the trail what was read for it alone.
func (w *watcher) again(r reading) {
	r.Raw = nil
	w.backlog = append(w.backlog, r.Batch)
	w.catching.held = r.taken
	w.flush()
	w.goOn()
}

// goOn has the reading for the trail go on, or ends it where the judge is.
func (w *watcher) goOn() {
	if w.catching == nil || w.catching.held == nil || len(w.backlog) > 0 {
		return
	}
	if reached(w.at, w.judged) {
		w.caughtUp()
		return
	}
	close(w.catching.held)
	w.catching.held = nil
}

// caughtUp notes that the trail has all that was judged.
func (w *watcher) caughtUp() {
	at := w.at
	w.late, w.ahead = false, &at
	w.stopCatching()
	w.flush() // it is whole again
}

func (w *watcher) stopCatching() {
	if w.catching != nil {
		w.catching.stop()
		w.catching = nil
	}
}

// caught gives the channels of the reading for the trail; nil where there is none.
func (w *watcher) caught() (read chan reading, over chan error) {
	if w.catching == nil {
		return nil, nil
	}
	return w.catching.read, w.catching.over
}

// flush puts on the trail what waits for it, and opens it where it is not open yet: whoever reads it has to know how far it is safe.
func (w *watcher) flush() {
	if w.trail != nil && len(w.backlog)+len(w.notes) == 0 && w.failed.IsZero() || time.Now().Before(w.trailWait) {
		return
	}
	err := w.write()
	if err == nil {
		w.trailWait, w.trailPause = time.Time{}, 0
		if !w.late && !w.failed.IsZero() {
			w.failed, w.gapNoted = time.Time{}, false
			since := w.heal(troubleTrail)
			w.log.Info("the audit trail can be written again, and has all that was read meanwhile", "since", since)
		}
		return
	}
	if w.failed.IsZero() {
		w.failed = time.Now().UTC().Truncate(time.Microsecond)
		w.log.Error("the audit trail cannot be written; judging goes on, and what is read now is written later", "error", err)
	}
	w.ail(troubleTrail, fault.Wrap(err, fault.Unavailable, "server.trail_unwritten", fault.Args{"dir": TrailDir(w.cluster), "message": lastOf(err)}))
	w.gapNoted = false
	w.trailPause = min(max(2*w.trailPause, trailRetry), trailRest)
	w.trailWait = time.Now().Add(w.trailPause)
	if w.trail != nil {
		_ = w.trail.Close() // it is opened anew
		w.trail = nil
	}
	w.trimNotes()
}

// trimNotes bounds what waits while there is no room: of what was told of an incident only the last holds.
func (w *watcher) trimNotes() {
	if len(w.notes) <= mostNotes {
		return
	}
	last := map[string]int{}
	for i, n := range w.notes {
		if n.Incident != nil {
			last[n.Incident.ID] = i
		}
	}
	kept := w.notes[:0]
	for i, n := range w.notes {
		if n.Incident == nil || last[n.Incident.ID] == i {
			kept = append(kept, n)
		}
	}
	w.notes = slices.Clip(kept)
}

func (w *watcher) write() (err error) {
	if w.trail == nil {
		if w.trail, err = audit.OpenTrail(TrailDir(w.cluster), w.source); err != nil {
			w.trail = nil
			return err
		}
		w.tables.grown(w.trail.Head().Seq, nil, 1)
	}
	if !w.failed.IsZero() && !w.gapNoted {
		since := w.failed
		if err := w.trail.Note(audit.Event{Kind: audit.EventUnwritten, Since: &since}); err != nil {
			return err
		}
		w.gapNoted = true
	}
	for len(w.backlog) > 0 {
		fresh, events, err := w.trail.Append(w.backlog[0])
		if err != nil {
			return err
		}
		w.tables.grown(w.trail.Head().Seq, fresh, len(events))
		w.at = w.backlog[0].Position
		w.backlog = w.backlog[1:]
	}
	w.backlog = nil
	if err := w.trail.Note(w.notes...); err != nil {
		return err
	}
	if len(w.notes) > 0 {
		w.tables.grown(w.trail.Head().Seq, nil, len(w.notes))
	}
	w.notes = nil
	return nil
}

// closeTrail is for the end.
func (w *watcher) closeTrail() {
	w.stopCatching()
	w.trailWait = time.Time{}
	w.flush()
	if w.trail != nil {
		if err := w.trail.Close(); err != nil {
			w.log.Error("the audit trail could not be closed", "error", fault.Of(err))
		}
	}
}

// noteIncident writes down how an incident stands.
func (w *watcher) noteIncident(i *judge.Incident) {
	w.notes = append(w.notes, audit.Event{Kind: audit.EventIncident, Incident: w.incident(i)})
}

// incident is how one stands, as it is written down.
func (w *watcher) incident(i *judge.Incident) *audit.Incident {
	out := &audit.Incident{ID: i.ID, Severity: i.Severity.String(), Actor: i.Actor, Source: i.Source, App: i.App, DB: i.DB, Began: i.Began, Last: i.Last,
		Objects: i.Objects, Sessions: i.Sessions, Losses: i.Losses, Count: i.Count, Muted: i.Muted}
	fresh, before := w.reasons(i)
	out.Reasons = append(fresh, before...)
	if rule := w.gravest(i); rule != nil {
		out.Rule = rule.ID
	}
	for _, id := range i.TXIDs {
		out.Transactions = append(out.Transactions, audit.Transaction{ID: id, Fate: w.fate[id]})
	}
	return out
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
