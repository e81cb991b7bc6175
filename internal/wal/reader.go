package wal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"

	"howdah/internal/fault"
)

// Reader reads records one after another over the segments of a lineage: across pages, segments and switches of timelines, and past records
// that a crash left unfinished. It is for one goroutine.
type Reader struct {
	id      Identity
	lineage Lineage
	open    func(Name) (io.ReadCloser, error)

	from LSN // nothing before it is handed out
	next LSN // where the next record is; the beginning of a page where it is not known yet
	prev LSN // of the last record, 0 before the first

	segment io.ReadCloser // nil: none is open
	name    Name          // of the open one
	limit   LSN           // the open file is of an older timeline than it should be, and holds good from here on no longer
	chunk   []byte        // what was read last of the segment
	start   LSN           // of the chunk
	page    page          // the header read last
	checked LSN           // where that page is
	known   bool          // page and checked hold good: of the open file

	record     Record
	assembled  []byte // a record that crosses pages
	unfinished LSN    // a record that the next one must say to stand for
	end        *End
}

// chunkSize is how much is read at once, in bytes; a part of every segment size.
const chunkSize = 32 * PageSize

// NewReader reads from the first record at or after a position. The segments of the lineage are asked for by open, which answers
// fs.ErrNotExist for what there is not; the next one is asked for only when the one before has been read.
func NewReader(id Identity, l Lineage, from LSN, open func(Name) (io.ReadCloser, error)) *Reader {
	return &Reader{id: id, lineage: l, open: open, from: from, next: from - from%PageSize}
}

// Reason is why a stream of records ended.
type Reason string

// The reasons.
const (
	Missing  Reason = "missing"  // there is no segment to go on with; a record may have begun in the one before
	Blank    Reason = "blank"    // nothing was ever written behind the last record: where a running server is now, or one crashed
	Recycled Reason = "recycled" // the same, in a file that was used before and still holds what it held then
	Damaged  Reason = "damaged"  // what is there is not what PostgreSQL wrote
)

// End is where and why a stream of records ended.
type End struct {
	At      LSN // all before it was read
	Reason  Reason
	Segment Name   // the one that is missing, or holds the end
	Detail  string // of damage, for the log
}

// Error is for the log.
func (e *End) Error() string {
	s := fmt.Sprintf("the WAL ends at %s: %s, %s", e.At, e.Reason, e.Segment)
	if e.Detail != "" {
		s += ": " + e.Detail
	}
	return s
}

// Fault is an end that should not be, for people.
func (e *End) Fault() error {
	args := fault.Args{"at": e.At, "segment": e.Segment.String()}
	if e.Reason == Missing {
		return fault.Wrap(e, fault.NotFound, "wal.missing", args)
	}
	return fault.Wrap(e, fault.Conflict, "wal.damaged", args)
}

// Next is the next record, which holds until Next is called again. At the end of the WAL the error is an *End, and so it is ever after. Any
// other error is one of reading; what was read before is good.
func (r *Reader) Next() (*Record, error) {
	if r.end != nil {
		return nil, r.end
	}
	for {
		err := r.step()
		if err != nil {
			var end *End
			if errors.As(err, &end) {
				r.end = end
			}
			r.close()
			return nil, err
		}
		if r.record.LSN >= r.from {
			return &r.record, nil
		}
	}
}

// Close lets go of the open segment. It need not be called after an error of Next.
func (r *Reader) Close() { r.close() }

func (r *Reader) close() {
	if r.segment != nil {
		r.segment.Close()
		r.segment = nil
	}
}

// step reads one record into r.record.
func (r *Reader) step() error {
	if r.prev == 0 {
		if err := r.findFirst(); err != nil {
			return err
		}
	}
	at := r.next
again:
	pageStart := at - at%PageSize
	body, err := r.at(pageStart)
	if err != nil {
		return err
	}
	if at == pageStart {
		at += LSN(r.page.size())
		if r.page.info&firstIsContinuation != 0 {
			return r.damaged(at, "the page continues a record that did not begin")
		}
	}
	if at >= r.limit {
		return r.missing(at, r.id.SegmentSize.Holding(r.lineage.At(at), at))
	}
	le := binary.LittleEndian
	raw := body[at-pageStart:]
	total := le.Uint32(raw)
	switch {
	case total == 0:
		return &End{At: at, Reason: Blank, Segment: r.name}
	case total < recordHeader || total > 1<<30: // XLogRecordMaxSize is 1020 MB
		return r.damaged(at, fmt.Sprintf("a record of %d bytes", total))
	case len(raw) >= recordHeader:
		if err := r.checkHeader(at, raw); err != nil {
			return err
		}
	}
	timeline := r.lineage.At(at)
	after := at + align(total)
	if int(total) <= len(raw) {
		raw = raw[:total]
	} else {
		r.assembled = append(r.assembled[:0], raw...)
		for len(r.assembled) < int(total) {
			pageStart += PageSize
			body, err := r.at(pageStart)
			if err != nil {
				var end *End
				if errors.As(err, &end) {
					end.At = at // the record has begun, and its end is not there
				}
				return err
			}
			if r.page.info&firstIsOverwrite != 0 {
				r.unfinished, at = at, pageStart
				goto again
			}
			missing := total - uint32(len(r.assembled))
			if r.page.info&firstIsContinuation == 0 || r.page.remaining != missing {
				return r.damaged(at, fmt.Sprintf("the record does not go on at %s", pageStart))
			}
			head := r.page.size()
			part := min(int(missing), PageSize-head)
			headIncomplete := len(r.assembled) < recordHeader
			r.assembled = append(r.assembled, body[head:head+part]...)
			after = pageStart + align(uint32(head+part))
			if headIncomplete {
				if err := r.checkHeader(at, r.assembled); err != nil {
					return err
				}
			}
		}
		raw = r.assembled
	}
	// The CRC is of the record without its header, and then of the header up to the CRC.
	crc := crc32.Update(crc32.Update(0, castagnoli, raw[recordHeader:]), castagnoli, raw[:20])
	if crc != le.Uint32(raw[20:]) {
		return r.damaged(at, "the record's CRC is wrong")
	}
	rec := &r.record
	rec.LSN, rec.Prev, rec.Timeline = at, LSN(le.Uint64(raw[8:])), timeline
	rec.XID, rec.Length, rec.Info, rec.Rmgr = le.Uint32(raw[4:]), total, raw[16], Rmgr(raw[17])
	rec.major, rec.raw = r.id.Major, raw
	if rec.Switch() {
		after = (after + LSN(r.id.SegmentSize) - 1) &^ LSN(r.id.SegmentSize-1)
	}
	rec.End = after
	if r.unfinished != 0 {
		if lsn, ok := rec.overwrites(); !ok || lsn != r.unfinished {
			return r.damaged(r.unfinished, fmt.Sprintf("the record at %s does not stand for it", at))
		}
		r.unfinished = 0
	}
	r.prev, r.next = at, after
	return nil
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func align(n uint32) LSN { return (LSN(n) + 7) &^ 7 }

// checkHeader refuses what can be no record at this place. The link to the record before is the strongest of these: an old record that a
// recycled page still holds has another.
func (r *Reader) checkHeader(at LSN, raw []byte) error {
	prev := LSN(binary.LittleEndian.Uint64(raw[8:]))
	if !Rmgr(raw[17]).valid() {
		return r.damaged(at, fmt.Sprintf("a record of the unknown resource manager %d", raw[17]))
	}
	if r.prev != 0 && prev != r.prev || prev >= at {
		return r.damaged(at, fmt.Sprintf("the record links back to %s", prev))
	}
	return nil
}

// findFirst puts r.next at the first record that begins on or after the page that r.next is on. (XLogFindNextRecord)
func (r *Reader) findFirst() error {
	for {
		if _, err := r.at(r.next); err != nil {
			return err
		}
		head := uint32(r.page.size())
		if r.page.info&firstIsContinuation == 0 {
			r.next += LSN(head)
			return nil
		}
		if rest := align(r.page.remaining); rest < LSN(PageSize-head) {
			r.next += LSN(head) + rest
			return nil
		}
		r.next += PageSize
	}
}

// at gives the page at a position, whose header is then in r.page and has been checked.
func (r *Reader) at(start LSN) ([]byte, error) {
	for start < r.start || start >= r.start+LSN(len(r.chunk)) || r.segment == nil {
		if err := r.read(start); err != nil {
			return nil, err
		}
	}
	body := r.chunk[start-r.start:][:PageSize]
	if start != r.checked || !r.known {
		r.page = parsePage(body)
		if err := r.checkPage(start, body); err != nil {
			return nil, err
		}
		r.checked, r.known = start, true
	}
	return body, nil
}

// checkPage mirrors XLogReaderValidatePageHeader in xlogreader.c.
func (r *Reader) checkPage(start LSN, body []byte) error {
	p := &r.page
	major, ok := magics[p.magic]
	long := start%LSN(r.id.SegmentSize) == 0
	switch {
	case !ok || major != r.id.Major:
		if zeros(body[:longHeader]) {
			return &End{At: start, Reason: Blank, Segment: r.name}
		}
		return r.damaged(start, fmt.Sprintf("a page with the magic number %04X", p.magic))
	case p.info&^knownFlags != 0 || long != (p.info&hasLongHeader != 0):
		return r.damaged(start, fmt.Sprintf("a page with the flags %04X", p.info))
	case long && (p.system != r.id.System || p.segmentSize != uint32(r.id.SegmentSize) || p.pageSize != PageSize):
		return r.damaged(start, "a segment of another cluster")
	case p.address < start:
		return &End{At: start, Reason: Recycled, Segment: r.name}
	case p.address > start:
		return r.damaged(start, fmt.Sprintf("a page of the address %s", p.address))
	case p.timeline != r.lineage.At(start):
		if start >= r.limit { // the parent's file, read where the child's is missing
			return r.missing(start, r.id.SegmentSize.Holding(r.lineage.At(start), start))
		}
		return r.damaged(start, fmt.Sprintf("a page of timeline %d", p.timeline))
	}
	return nil
}

// read reads on in the segment that holds the page at start, or opens it.
func (r *Reader) read(start LSN) error {
	size := r.id.SegmentSize
	number := size.Number(start)
	behind := r.start + LSN(len(r.chunk))
	if r.segment == nil || size.Number(behind-1) != number || start < behind {
		r.close()
		if err := r.openSegment(start, number); err != nil {
			return err
		}
		behind = size.Start(number)
		if r.chunk == nil {
			r.chunk = make([]byte, chunkSize)
		}
	}
	r.chunk = r.chunk[:chunkSize]
	n, err := io.ReadFull(r.segment, r.chunk)
	r.start, r.chunk = behind, r.chunk[:n-n%PageSize]
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		if start < r.start+LSN(len(r.chunk)) {
			return nil
		}
		return r.damaged(start, "the segment is cut off")
	}
	return err
}

func (r *Reader) openSegment(start LSN, number uint64) error {
	for _, t := range r.lineage.Holders(number, r.id.SegmentSize) {
		name := r.id.SegmentSize.Name(t, number)
		segment, err := r.open(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		r.segment, r.name, r.known = segment, name, false
		r.limit, _ = r.lineage.End(t)
		r.chunk = r.chunk[:0]
		return nil
	}
	return r.missing(start, r.id.SegmentSize.Holding(r.lineage.At(start), start))
}

func (r *Reader) missing(at LSN, name Name) error {
	return &End{At: at, Reason: Missing, Segment: name}
}

func (r *Reader) damaged(at LSN, detail string) error {
	return &End{At: at, Reason: Damaged, Segment: r.name, Detail: detail}
}
