package server

import (
	"time"

	"howdah/internal/audit"
)

// How often is looked whether the trail has become too large, and whether its oldest file is too old: of those one goes at a time.
const (
	sizePace = time.Minute
	agePace  = time.Hour
)

// retain removes what is not to be kept of the trail any longer.
func (w *watcher) retain(now time.Time) {
	if w.trail == nil || now.Sub(w.sized) < sizePace {
		return
	}
	w.sized = now
	keep := w.kept
	if now.Sub(w.aged) < agePace {
		keep.Age = 0
	} else {
		w.aged = now
	}
	if keep == (audit.Keep{}) {
		return
	}
	stored := w.tables.stored.Load()
	if w.alone { // it has no tables
		stored = w.trail.Head().Seq
	}
	gone, err := w.trail.Retain(keep, stored)
	for _, r := range gone {
		w.log.Info("the oldest file of the audit trail was removed", "because_of", r.Why, "lines", r.To-r.From+1, "up_to", r.To, "begun", r.Begun, "until", r.Until)
	}
	if len(gone) > 0 {
		w.tables.grown(w.trail.Head().Seq, nil, len(gone))
	}
	if err != nil && !w.stuck {
		w.log.Error("the audit trail's oldest files cannot be removed", "error", err)
	}
	w.stuck = err != nil
}
