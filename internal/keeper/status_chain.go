package keeper

import (
	"context"
	"time"

	"howdah/internal/repo"
	"howdah/internal/wal"
)

// Missing is WAL that the archive lacks, so that one cannot go back to any moment.
type Missing struct {
	First  string    `json:"first_segment"`
	Last   string    `json:"last_segment"`
	Count  uint64    `json:"count"`
	After  time.Time `json:"after"`            // about when the WAL before it was written: it came into the repo then
	Backup string    `json:"backup,omitempty"` // from whose end on one can go back again; "": there is none
	Until  time.Time `json:"until,omitzero"`   // when that ended
}

// missing finds out, from the names of what there is, what is missing of the WAL that leads on from the good backups to the newest timeline. nil where that timeline's history cannot be
// read here. What came behind a gap only just now proves none: what is in between may be on its way.
func missing(ctx context.Context, r *repo.Repo, clusterName string, whole []*Backup, now time.Time) ([]Missing, error) {
	a := &Archive{Identity: whole[len(whole)-1].Identity, Backups: whole, r: r, cluster: clusterName, segments: map[wal.Name]segmentSource{}, lineages: map[wal.Timeline]wal.Lineage{}}
	size, came, newest, histories := a.SegmentSize, map[wal.Name]time.Time{}, wal.Timeline(0), map[wal.Timeline]bool{}
	for info, err := range r.List(ctx, clusterName+"/wal/") {
		if err != nil {
			return nil, err
		}
		name, ok := walFile(info.Name)
		switch {
		case ok && name.Kind == wal.Segment:
			a.segments[name], came[name] = segmentSource{}, info.Modified
		case ok && name.Kind == wal.History:
			histories[name.Timeline] = true
		default:
			continue
		}
		newest = max(newest, name.Timeline)
	}
	streamed, err := pieces(ctx, r, clusterName, "")
	if err != nil {
		return nil, err
	}
	for name, some := range streamed {
		if _, archived := a.segments[name]; archived {
			continue
		}
		if c := chain(some, size); c != nil {
			a.segments[name], newest = segmentSource{pieces: c}, max(newest, name.Timeline)
		}
	}
	for _, b := range whole {
		if newest = max(newest, b.EndTimeline); b.Lineage != nil {
			a.lineages[b.Lineage.Timeline] = *b.Lineage
		}
	}
	if _, known := a.lineages[newest]; !known && histories[newest] {
		if object, err := repo.WALName(clusterName, wal.Name{Kind: wal.History, Timeline: newest}.String()); err == nil {
			if content, err := r.Get(ctx, object, nil); err == nil {
				if l, err := wal.ParseHistory(newest, content); err == nil {
					a.lineages[newest] = l
				}
			}
		}
	}
	l, err := a.Lineage(newest)
	if err != nil {
		return nil, ctx.Err()
	}
	name := func(number uint64) wal.Name { return size.Holding(l.At(size.Start(number)), size.Start(number)) }
	usable := a.usable(l)
	for _, b := range usable {
		if b.WAL != WALIncluded {
			continue
		}
		for n := size.Number(b.Start); n <= size.Number(b.Stop-1); n++ {
			if _, there := a.segments[name(n)]; !there {
				a.segments[name(n)] = segmentSource{backup: b}
			}
		}
	}
	var all []Missing
	for _, gap := range a.gaps(l, usable, false) {
		m := Missing{First: name(gap[0]).String(), Last: name(gap[1]).String(), Count: gap[1] - gap[0] + 1, After: came[name(gap[0]-1)].UTC()}
		behind := came[name(gap[1]+1)]
		for _, b := range usable { // where recovery from them can end, in order
			switch {
			case size.Number(b.Stop-1) < gap[0]:
				if m.After.Before(b.Ended) {
					m.After = b.Ended
				}
			case size.Number(b.Start) > gap[1]:
				if m.Backup == "" {
					m.Backup, m.Until = b.ID, b.Ended
				}
			case behind.Before(b.Ended): // it needs what is missing
				behind = b.Ended
			}
		}
		if m.After.IsZero() {
			m.After = usable[0].Began
		}
		if now.Sub(behind) >= lagWarning {
			all = append(all, m)
		}
	}
	return all, nil
}
