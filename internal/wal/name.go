package wal

import (
	"fmt"
	"strconv"
	"strings"

	"howdah/internal/fault"
)

// Kind is what a file of WAL is.
type Kind uint8

// The kinds of files that PostgreSQL archives.
const (
	Segment Kind = iota + 1 // 000000010000000A000000C6
	Partial                 // 000000010000000A000000C6.partial: the last of a timeline that was left, not filled; never replayed by itself
	Backup                  // 000000010000000A000000C6.00000028.backup: text, where a base backup began and ended
	History                 // 00000002.history: text, where the timelines before it were left
)

// Name is the name of a file of WAL, taken apart.
type Name struct {
	Kind     Kind
	Timeline Timeline
	// High and Low number the segment, in the way of its name: how far Low goes depends on the segment size. Zero for History.
	High, Low uint32
	Offset    uint32 // where in the segment the backup began, in bytes; Backup only
}

const (
	partialSuffix = ".partial"
	backupSuffix  = ".backup"
	historySuffix = ".history"
)

// ParseName takes a name apart. Only capital digits count, as PostgreSQL writes them, so that a file has one name.
func ParseName(s string) (Name, error) {
	var n Name
	bad := fault.New(fault.Invalid, "wal.name", fault.Args{"name": clip(s)})
	timeline, ok := digits(s, 0)
	if !ok || timeline == 0 {
		return n, bad
	}
	n.Timeline = Timeline(timeline)
	if s[8:] == historySuffix {
		n.Kind = History
		return n, nil
	}
	var okHigh, okLow bool
	n.High, okHigh = digits(s, 8)
	n.Low, okLow = digits(s, 16)
	if !okHigh || !okLow {
		return Name{}, bad
	}
	switch rest := s[24:]; {
	case rest == "":
		n.Kind = Segment
	case rest == partialSuffix:
		n.Kind = Partial
	case strings.HasPrefix(rest, ".") && strings.HasSuffix(rest, backupSuffix) && len(rest) == 1+8+len(backupSuffix):
		n.Kind = Backup
		if n.Offset, ok = digits(rest, 1); !ok {
			return Name{}, bad
		}
	default:
		return Name{}, bad
	}
	return n, nil
}

// digits reads 8 hexadecimal digits.
func digits(s string, from int) (uint32, bool) {
	if len(s) < from+8 || strings.Trim(s[from:from+8], "0123456789ABCDEF") != "" {
		return 0, false
	}
	v, err := strconv.ParseUint(s[from:from+8], 16, 32)
	return uint32(v), err == nil
}

// String is the name as PostgreSQL writes it.
func (n Name) String() string {
	switch n.Kind {
	case History:
		return fmt.Sprintf("%08X"+historySuffix, uint32(n.Timeline))
	case Partial:
		return n.segment() + partialSuffix
	case Backup:
		return fmt.Sprintf("%s.%08X"+backupSuffix, n.segment(), n.Offset)
	}
	return n.segment()
}

func (n Name) segment() string {
	const hex = "0123456789ABCDEF" // by hand: this is called for every segment of an archive
	var b [24]byte
	for i, part := range [3]uint32{uint32(n.Timeline), n.High, n.Low} {
		for j := range 8 {
			b[8*i+j] = hex[part>>(28-4*j)&15]
		}
	}
	return string(b[:])
}

// Segment is the name of the segment that a partial one or a backup's note belongs to.
func (n Name) Segment() Name {
	return Name{Kind: Segment, Timeline: n.Timeline, High: n.High, Low: n.Low}
}

// Number is the segment's number, the fault "wal.name" where no cluster with this segment size has such a segment.
func (n Name) Number(size SegmentSize) (uint64, error) {
	if n.Kind == History || uint64(n.Low) >= size.perHigh() {
		return 0, fault.New(fault.Invalid, "wal.name", fault.Args{"name": clip(n.String())})
	}
	return uint64(n.High)*size.perHigh() + uint64(n.Low), nil
}
