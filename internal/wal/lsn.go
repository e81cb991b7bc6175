package wal

import (
	"fmt"
	"strconv"
	"strings"

	"howdah/internal/fault"
)

// LSN is a position in the WAL, in bytes from its beginning. Zero is no position.
type LSN uint64

// ParseLSN reads the form of PostgreSQL's pg_lsn: two hexadecimal numbers of at most 8 digits with a slash between.
func ParseLSN(s string) (LSN, error) {
	high, low, ok := strings.Cut(s, "/")
	if ok && len(high) <= 8 && len(low) <= 8 {
		h, errHigh := strconv.ParseUint(high, 16, 32)
		l, errLow := strconv.ParseUint(low, 16, 32)
		if errHigh == nil && errLow == nil {
			return LSN(h<<32 | l), nil
		}
	}
	return 0, fault.New(fault.Invalid, "wal.lsn", fault.Args{"text": clip(s)})
}

// String is the form of pg_lsn, as the servers 15 to 18 print it: "0/3000060".
func (l LSN) String() string {
	return strings.ToUpper(strconv.FormatUint(uint64(l>>32), 16) + "/" + strconv.FormatUint(uint64(uint32(l)), 16))
}

// MarshalText is String, for manifests.
func (l LSN) MarshalText() ([]byte, error) { return []byte(l.String()), nil }

// UnmarshalText is ParseLSN.
func (l *LSN) UnmarshalText(text []byte) (err error) {
	*l, err = ParseLSN(string(text))
	return err
}

// Timeline numbers the lives of a cluster: 1 at first, and a higher one after each recovery that ended in writing. Zero is none.
type Timeline uint32

// SegmentSize is a cluster's wal_segment_size in bytes.
type SegmentSize uint32

// DefaultSegmentSize is what initdb takes.
const DefaultSegmentSize SegmentSize = 16 << 20

// Valid tells whether initdb would take it: a power of two from 1 MB to 1 GB.
func (s SegmentSize) Valid() bool { return s >= 1<<20 && s <= 1<<30 && s&(s-1) == 0 }

// Number is the segment that holds the byte at a position.
func (s SegmentSize) Number(at LSN) uint64 { return uint64(at) / uint64(s) }

// Start is the position of a segment's first byte.
func (s SegmentSize) Start(number uint64) LSN { return LSN(number * uint64(s)) }

// Last is the number of the last segment that positions reach.
func (s SegmentSize) Last() uint64 { return (1<<64 - 1) / uint64(s) }

// perHigh is how many segments share the first half of a position (XLogSegmentsPerXLogId).
func (s SegmentSize) perHigh() uint64 { return (1 << 32) / uint64(s) }

// Name is the name of a segment's file.
func (s SegmentSize) Name(t Timeline, number uint64) Name {
	return Name{Kind: Segment, Timeline: t, High: uint32(number / s.perHigh()), Low: uint32(number % s.perHigh())}
}

// Holding is the name of the segment that holds the byte at a position.
func (s SegmentSize) Holding(t Timeline, at LSN) Name { return s.Name(t, s.Number(at)) }

// clip keeps what strangers wrote from filling a message.
func clip(s string) string {
	if len(s) > 80 {
		s = s[:80] + "..."
	}
	return fmt.Sprintf("%q", s)
}
