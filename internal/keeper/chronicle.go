package keeper

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"slices"
	"sync"
	"time"

	"howdah/internal/fault"
	"howdah/internal/repo"
	"howdah/internal/wal"
)

// Chronicle is all that a repo tells of a cluster's past, as of At: what was made, which moments one can go back to, and how much was written when.
type Chronicle struct {
	At       time.Time
	Place    string
	Backups  []*Backup // whole ones, oldest first, good or not
	Proofs   map[string]Proof
	Dumps    []Dump
	Drills   []*Drilled // oldest first
	Ranges   []Range
	Holes    []Hole
	Written  []Written // oldest first; minutes in which nothing came are not there
	Newest   time.Time // when the newest WAL came; zero: there is none
	Segment  int64     // bytes of a segment
	Troubles []error   // what of it could not be read

	mu      sync.Mutex
	cluster string
	archive *Archive // nil where there is nothing physical
}

// Written is the WAL that came into the archive in a minute.
type Written struct {
	At       time.Time // its beginning
	Segments int
	Stored   int64 // bytes in the repo
}

// mostDrills are read of a repo's past.
const mostDrills = 500

// ReadChronicle reads it: all lists and manifests, and the ends of the WAL. What of it cannot be read is a trouble; an error means that nothing could.
func ReadChronicle(ctx context.Context, r *repo.Repo, clusterName string) (*Chronicle, error) {
	c := &Chronicle{cluster: clusterName, At: time.Now().UTC(), Place: r.String(), Proofs: map[string]Proof{}}
	a, err := OpenArchive(ctx, r, clusterName)
	switch {
	case errors.Is(err, fs.ErrNotExist): // nothing of this cluster; dumps may be there all the same
	case err != nil:
		return nil, err
	default:
		c.archive, c.Backups, c.Segment = a, a.Backups, int64(a.SegmentSize)
		if a.Broken != nil {
			c.Troubles = append(c.Troubles, a.Broken)
		}
		c.written(a)
		if c.Ranges, c.Holes, err = a.Ranges(ctx); err != nil {
			c.Troubles = append(c.Troubles, err)
		}
		if proofs, err := Proofs(ctx, r, clusterName, a.Backups); err != nil {
			c.Troubles = append(c.Troubles, err)
		} else {
			c.Proofs = proofs
		}
		for i := range c.Ranges {
			c.settle(&c.Ranges[i])
		}
		c.rest()
	}
	if c.Dumps, err = Dumps(ctx, r, clusterName); err != nil {
		c.Troubles = append(c.Troubles, err)
	}
	for d, err := range reports[Drilled](ctx, r, clusterName, drillReport, time.Time{}) {
		if err != nil {
			c.Troubles = append(c.Troubles, err)
			break
		}
		if c.Drills = append(c.Drills, d); len(c.Drills) == mostDrills {
			break
		}
	}
	slices.Reverse(c.Drills)
	if err := ctx.Err(); err != nil { // each part has failed by it, one as the other
		return nil, err
	}
	return c, nil
}

// rest lets go of the segments that were read last: a chronicle is kept for long, and they are as large as all the rest of it.
func (c *Chronicle) rest() { c.archive.recent = nil }

// settle gives a range an end where its WAL tells none: where nothing has committed since the backup ended, that is all there is; where the WAL cannot be read here, when the newest of it came.
func (c *Chronicle) settle(r *Range) {
	if r.To.IsZero() {
		r.To = c.Newest
	}
	if r.To.Before(r.From) {
		r.To = r.From
	}
}

// written counts what came when.
func (c *Chronicle) written(a *Archive) {
	minutes := map[time.Time]*Written{}
	for name, s := range a.segments {
		if name.Kind != wal.Segment {
			continue
		}
		for _, p := range s.pieces {
			if p.stored.Modified.After(c.Newest) {
				c.Newest = p.stored.Modified.UTC()
			}
		}
		if s.came.IsZero() {
			continue
		}
		if s.came.After(c.Newest) {
			c.Newest = s.came.UTC()
		}
		at := s.came.UTC().Truncate(time.Minute)
		w := minutes[at]
		if w == nil {
			w = &Written{At: at}
			minutes[at] = w
		}
		w.Segments++
		w.Stored += s.stored
	}
	c.Written = make([]Written, 0, len(minutes))
	for _, w := range minutes {
		c.Written = append(c.Written, *w)
	}
	slices.SortFunc(c.Written, func(a, b Written) int { return cmp.Compare(a.At.UnixNano(), b.At.UnixNano()) })
}

// Plan is Archive.Plan for what the repo held when the chronicle was read. It is safe for concurrent use; one is made after the other.
func (c *Chronicle) Plan(ctx context.Context, target Target) (*Plan, error) {
	if c.archive == nil {
		return nil, fault.New(fault.NotFound, "keeper.no_backups", fault.Args{"cluster": c.cluster, "place": c.Place})
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	defer c.rest()
	return c.archive.Plan(ctx, target)
}
