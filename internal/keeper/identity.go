package keeper

import (
	"context"

	"howdah/internal/cluster"
	"howdah/internal/fault"
	"howdah/internal/wal"
)

// IdentityOf reads which cluster this is from its files; it need not run.
func IdentityOf(ctx context.Context, c *cluster.Cluster) (wal.Identity, error) {
	control, err := c.Control(ctx)
	if err != nil {
		return wal.Identity{}, err
	}
	id := wal.Identity{System: control.System, Major: c.Status().Major, SegmentSize: wal.SegmentSize(control.SegmentSize)}
	if id.System == 0 || !id.SegmentSize.Valid() {
		return wal.Identity{}, fault.New(fault.Unavailable, "cluster.not_cluster", fault.Args{"dir": c.DataDir()})
	}
	return id, nil
}

// TimelineOf reads from the files of a cluster which timeline it was on at its last checkpoint; it need not run.
func TimelineOf(ctx context.Context, c *cluster.Cluster) (wal.Timeline, error) {
	control, err := c.Control(ctx)
	if err == nil && control.Timeline == 0 {
		err = fault.New(fault.Unavailable, "cluster.not_cluster", fault.Args{"dir": c.DataDir()})
	}
	return wal.Timeline(control.Timeline), err
}
