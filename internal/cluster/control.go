package cluster

import (
	"context"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"howdah/internal/fault"
)

// Control is what PostgreSQL's control file says of a cluster; the server need not run.
type Control struct {
	System      uint64 // the database system identifier
	Timeline    uint32 // of the last checkpoint
	SegmentSize int64  // bytes of a segment of WAL
	// Down: the server has written its last checkpoint, or is writing it.
	Down bool
}

// Control reads the control file. Its form is known for the versions 15 to 18; a later one is asked of its own pg_controldata, which some distributions of PostgreSQL leave out.
func (c *Cluster) Control(ctx context.Context) (Control, error) {
	again := time.NewTicker(20 * time.Millisecond)
	defer again.Stop()
	for try := 0; ; try++ {
		raw, err := os.ReadFile(filepath.Join(c.data(), "global", "pg_control"))
		var control Control
		if err == nil {
			control, err = parseControl(raw)
		}
		switch {
		case err == nil:
			return control, nil
		case errors.Is(err, errors.ErrUnsupported):
			return c.askControl(ctx)
		case errors.Is(err, errControl) && try < 50: // a running server may be writing it
		default:
			return control, fault.Wrap(err, fault.Unavailable, "cluster.not_cluster", fault.Args{"dir": c.data()})
		}
		select {
		case <-ctx.Done():
			return control, ctx.Err()
		case <-again.C:
		}
	}
}

var errControl = errors.New("pg_control is damaged, or being written")

// parseControl takes a control file apart: ControlFileData in src/include/catalog/pg_control.h, of a little-endian machine with 8-byte alignment.
func parseControl(raw []byte) (Control, error) {
	if len(raw) < 300 {
		return Control{}, errControl
	}
	crc := 288 // where the sum over all before it is
	switch binary.LittleEndian.Uint32(raw[8:]) {
	case 1300: // PostgreSQL 13 to 17
	case 1800:
		crc = 292
	default: // a later one, or a machine with another order of bytes
		return Control{}, errors.ErrUnsupported
	}
	if crc32.Checksum(raw[:crc], crc32.MakeTable(crc32.Castagnoli)) != binary.LittleEndian.Uint32(raw[crc:]) {
		return Control{}, errControl
	}
	state := binary.LittleEndian.Uint32(raw[16:])
	return Control{System: binary.LittleEndian.Uint64(raw), Down: state >= 1 && state <= 3, // DB_SHUTDOWNED, DB_SHUTDOWNED_IN_RECOVERY, DB_SHUTDOWNING
		Timeline: binary.LittleEndian.Uint32(raw[48:]), SegmentSize: int64(binary.LittleEndian.Uint32(raw[228:]))}, nil
}

func (c *Cluster) askControl(ctx context.Context) (Control, error) {
	out, err := c.run(ctx, nil, "pg_controldata", c.data())
	if err != nil {
		return Control{}, fault.Wrap(err, fault.Unavailable, "cluster.not_cluster", fault.Args{"dir": c.data()})
	}
	said := map[string]string{}
	for line := range strings.Lines(out) {
		if label, value, ok := strings.Cut(line, ":"); ok {
			said[label] = strings.TrimSpace(value)
		}
	}
	system, err := strconv.ParseUint(said["Database system identifier"], 10, 64)
	timeline, timelineErr := strconv.ParseUint(said["Latest checkpoint's TimeLineID"], 10, 32)
	size, sizeErr := strconv.ParseInt(said["Bytes per WAL segment"], 10, 64)
	if err := errors.Join(err, timelineErr, sizeErr); err != nil {
		return Control{}, fault.Wrap(err, fault.Unavailable, "cluster.not_cluster", fault.Args{"dir": c.data()})
	}
	return Control{System: system, Timeline: uint32(timeline), SegmentSize: size, Down: strings.HasPrefix(said["Database cluster state"], "shut")}, nil
}
