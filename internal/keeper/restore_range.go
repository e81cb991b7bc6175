package keeper

import (
	"context"
	"errors"
	"time"

	"howdah/internal/fault"
	"howdah/internal/wal"
)

// Range is a stretch of time, every moment of which can be restored.
type Range struct {
	Timeline wal.Timeline `json:"timeline"`
	From     time.Time    `json:"from"` // when the oldest backup of it ended
	FromLSN  wal.LSN      `json:"from_lsn"`
	To       time.Time    `json:"to,omitzero"` // the newest moment that its WAL tells; zero when the WAL cannot be read (it is encrypted, and there is no identity)
	ToLSN    wal.LSN      `json:"to_lsn"`
	Backups  []string     `json:"backups"` // their IDs, oldest first
	// Left is where a timeline was left for this one: what came after it on the parent is a range of its own.
	Parent wal.Timeline `json:"parent,omitzero"`
	Left   wal.LSN      `json:"left,omitzero"`
}

// Ranges are what can be restored, by timeline and in order. A range of a timeline that was left ends where that has nothing that the next one does not have:
// only what is peculiar to it is listed. Holes are WAL that is missing between the ranges.
func (a *Archive) Ranges(ctx context.Context) (ranges []Range, holes []Hole, err error) {
	all := a.Timelines()
	newest, err := a.NewestTimeline()
	if fault.HasKey(err, "keeper.no_backups") || unreadable(err) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, err
	}
	for _, t := range all {
		l, err := a.Lineage(t)
		if err != nil {
			continue // without its history nobody can go there
		}
		usable := a.usable(l)
		if len(usable) == 0 {
			continue
		}
		oldest := usable[0]
		for _, b := range usable {
			if b.Start < oldest.Start {
				oldest = b
			}
		}
		// A timeline that others grew out of has something of its own behind the place where it was left, or nothing.
		left := wal.LSN(0)
		for _, other := range all {
			if ol, err := a.Lineage(other); err == nil && other != t {
				if end, ok := ol.End(t); ok {
					left = max(left, end)
				}
			}
		}
		stretches := a.stretches(l, a.SegmentSize.Number(oldest.Start))
		for k, s := range stretches {
			r := Range{Timeline: t}
			if n := len(l.Switches); n > 0 {
				r.Parent, r.Left = l.Switches[n-1].Timeline, l.Switches[n-1].At
			}
			for _, b := range usable {
				if s.holds(a.SegmentSize.Number(b.Start)) {
					if r.FromLSN == 0 {
						r.From, r.FromLSN = b.Ended, b.Stop
					}
					r.Backups = append(r.Backups, b.ID)
				}
			}
			if k > 0 && t == newest {
				h, err := a.describeHole(ctx, stretches, k-1)
				if err != nil && !unreadable(err) {
					return nil, nil, err
				}
				holes = append(holes, h)
			}
			if r.FromLSN == 0 {
				continue
			}
			_, r.ToLSN, r.To, _, err = s.tail(ctx)
			if unreadable(err) {
				r.ToLSN, err = a.SegmentSize.Start(s.Last+1), nil
			}
			if err != nil {
				return nil, nil, err
			}
			if left != 0 && r.ToLSN <= left {
				continue // all of it is a part of a younger one
			}
			ranges = append(ranges, r)
		}
	}
	return ranges, holes, nil
}

// unreadable tells whether all that is missing is the key.
func unreadable(err error) bool {
	return fault.HasKey(err, "repo.no_identity") || fault.HasKey(err, "repo.wrong_identity")
}

// describeHole says what the hole behind the k-th stretch costs.
func (a *Archive) describeHole(ctx context.Context, stretches []Stretch, k int) (Hole, error) {
	h := a.hole(stretches, k)
	for _, b := range a.usable(stretches[k].l) {
		if a.SegmentSize.Number(b.Start) > stretches[k].Last && h.Backup == "" {
			h.Backup = b.ID
		}
	}
	var err, beforeErr error
	_, _, h.After, _, err = stretches[k].tail(ctx)
	var ok bool
	if h.Before, ok, beforeErr = stretches[k+1].firstMoment(ctx, stretches[k+1].First); !ok {
		h.Before = time.Time{}
	}
	return h, errors.Join(err, beforeErr)
}
