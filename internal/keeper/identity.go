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
