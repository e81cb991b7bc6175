package keeper

import (
	"context"
	"strconv"

	"howdah/internal/cluster"
	"howdah/internal/fault"
	"howdah/internal/wal"
)

// IdentityOf reads which cluster this is from its files; it need not run.
func IdentityOf(ctx context.Context, c *cluster.Cluster) (wal.Identity, error) {
	said, err := c.ControlData(ctx)
	if err != nil {
		return wal.Identity{}, err
	}
	system, err := strconv.ParseUint(said["Database system identifier"], 10, 64)
	size, sizeErr := strconv.ParseInt(said["Bytes per WAL segment"], 10, 64)
	id := wal.Identity{System: system, Major: c.Status().Major, SegmentSize: wal.SegmentSize(size)}
	if err != nil || sizeErr != nil || system == 0 || !id.SegmentSize.Valid() {
		return wal.Identity{}, fault.New(fault.Unavailable, "cluster.not_cluster", fault.Args{"dir": c.DataDir()})
	}
	return id, nil
}

// TimelineOf reads from the files of a cluster which timeline it was on at its last checkpoint; it need not run.
func TimelineOf(ctx context.Context, c *cluster.Cluster) (wal.Timeline, error) {
	said, err := c.ControlData(ctx)
	if err != nil {
		return 0, err
	}
	t, err := strconv.ParseUint(said["Latest checkpoint's TimeLineID"], 10, 32)
	if err != nil || t == 0 {
		return 0, fault.New(fault.Unavailable, "cluster.not_cluster", fault.Args{"dir": c.DataDir()})
	}
	return wal.Timeline(t), nil
}
