package wal

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strings"

	"howdah/internal/fault"
)

// PageSize of the WAL in bytes (XLOG_BLCKSZ). Another one takes a PostgreSQL that was compiled for it; none is packaged anywhere.
const PageSize = 8192

// HeadSize is how much of a file's beginning Check needs.
const HeadSize = longHeader

// Lengths of the headers of pages, aligned.
const (
	shortHeader = 24
	longHeader  = 40
)

// The flags in xlp_info.
const (
	firstIsContinuation = 0x0001 // the page begins with the rest of a record
	hasLongHeader       = 0x0002 // on the first page of a segment
	backupsRemovable    = 0x0004 // nobody looks at it
	firstIsOverwrite    = 0x0008 // the record before this page was never finished: a crash came between
	knownFlags          = 0x000F
)

// magics tell versions apart: XLOG_PAGE_MAGIC in xlog_internal.h.
var magics = map[uint16]int{0xD110: 15, 0xD113: 16, 0xD116: 17, 0xD118: 18}

// Identity is what all WAL of a cluster has in common.
type Identity struct {
	System      uint64      `json:"system_identifier,string"` // pg_controldata calls it the database system identifier
	Major       int         `json:"major"`                    // of PostgreSQL: 15 to 18
	SegmentSize SegmentSize `json:"segment_size"`             // bytes
}

// page is the header of a page.
type page struct {
	magic, info uint16
	timeline    Timeline
	address     LSN
	remaining   uint32 // bytes of a record that began on an earlier page
	// of the long form
	system                uint64
	segmentSize, pageSize uint32
}

func (p *page) size() int {
	if p.info&hasLongHeader != 0 {
		return longHeader
	}
	return shortHeader
}

// parsePage reads a header; raw has at least longHeader bytes.
func parsePage(raw []byte) (p page) {
	le := binary.LittleEndian
	p = page{magic: le.Uint16(raw), info: le.Uint16(raw[2:]), timeline: Timeline(le.Uint32(raw[4:])), address: LSN(le.Uint64(raw[8:])), remaining: le.Uint32(raw[16:])}
	if p.info&hasLongHeader != 0 {
		p.system, p.segmentSize, p.pageSize = le.Uint64(raw[24:]), le.Uint32(raw[32:]), le.Uint32(raw[36:])
	}
	return p
}

// Check judges a segment (also a partial one) by its name, its length in bytes, and its first HeadSize bytes: whether it is what its name
// says, of this cluster. Each way to fail is a fault of its own, "wal." and then length, empty, zeros, magic, version,
// header, other_cluster, segment_size, page_size, address, timeline or no_history.
//
// A segment's first page can legally belong to an older timeline than its name says, in one case: the timeline began later in this very
// segment, whose file then starts with a copy of what the parent had written. To tell that case from a segment under a wrong
// name takes the timeline's history: lineage is called for it, and only then.
//
// What lies behind the first page is not judged: partial segments, and those that a standby with archive_mode=always archives
// when the timeline ends, legally hold leftovers of the file's earlier use there.
func (id Identity) Check(name Name, length int64, head []byte, lineage func(Timeline) (Lineage, error)) error {
	number, err := name.Number(id.SegmentSize)
	if err != nil {
		return err
	}
	wrong := func(key string, args fault.Args) error {
		args["name"] = name.String()
		return fault.New(fault.Conflict, key, args)
	}
	switch {
	case length == 0:
		return wrong("wal.empty", fault.Args{})
	case length != int64(id.SegmentSize) || len(head) < HeadSize:
		return wrong("wal.length", fault.Args{"have": length, "want": int64(id.SegmentSize)})
	}
	p := parsePage(head)
	major, known := magics[p.magic]
	switch {
	case zeros(head[:HeadSize]):
		return wrong("wal.zeros", fault.Args{})
	case !known:
		return wrong("wal.magic", fault.Args{"magic": fmt.Sprintf("%04X", p.magic)})
	case major != id.Major:
		return wrong("wal.version", fault.Args{"have": major, "want": id.Major})
	case p.info&hasLongHeader == 0 || p.info&^knownFlags != 0 || p.timeline == 0:
		return wrong("wal.header", fault.Args{"info": fmt.Sprintf("%04X", p.info)})
	case p.system != id.System:
		return wrong("wal.other_cluster", fault.Args{"have": p.system, "want": id.System})
	case p.segmentSize != uint32(id.SegmentSize):
		return wrong("wal.segment_size", fault.Args{"have": p.segmentSize, "want": uint32(id.SegmentSize)})
	case p.pageSize != PageSize:
		return wrong("wal.page_size", fault.Args{"have": p.pageSize, "want": PageSize})
	case p.address != id.SegmentSize.Start(number):
		return wrong("wal.address", fault.Args{"have": p.address, "want": id.SegmentSize.Start(number)})
	case p.timeline == name.Timeline:
		return nil
	case p.timeline > name.Timeline:
		return wrong("wal.timeline", fault.Args{"have": p.timeline, "want": name.Timeline})
	}
	l, err := lineage(name.Timeline)
	if err != nil {
		return fault.Wrap(err, fault.Unavailable, "wal.no_history", fault.Args{"name": name.String(), "have": p.timeline, "want": name.Timeline,
			"history": Name{Kind: History, Timeline: name.Timeline}.String()})
	}
	begin, ok := l.Begin(name.Timeline)
	if !ok || id.SegmentSize.Number(begin) != number || l.At(p.address) != p.timeline {
		return wrong("wal.timeline", fault.Args{"have": p.timeline, "want": name.Timeline})
	}
	return nil
}

// CheckBackup judges the note that PostgreSQL leaves about a base backup (do_pg_backup_stop in xlog.c): its first line must name the place that its
// name names.
func (id Identity) CheckBackup(name Name, content []byte) error {
	number, err := name.Number(id.SegmentSize)
	if err != nil {
		return err
	}
	first, _, _ := bytes.Cut(content, []byte("\n"))
	begin := id.SegmentSize.Start(number) + LSN(name.Offset)
	rest, ok := strings.CutPrefix(string(first), "START WAL LOCATION: ")
	at, file, _ := strings.Cut(rest, " ")
	have, err := ParseLSN(at)
	if !ok || err != nil || have != begin || strings.TrimSpace(file) != "(file "+name.Segment().String()+")" {
		return fault.New(fault.Conflict, "wal.backup", fault.Args{"name": name.String(), "line": clip(string(first))})
	}
	return nil
}

func zeros(b []byte) bool { return len(bytes.Trim(b, "\x00")) == 0 }
