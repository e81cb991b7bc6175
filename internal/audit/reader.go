package audit

import (
	"bufio"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"time"
)

// Reader reads a trail's files in order, up to the last mark that is there, also while another process writes them. It checks no hashes: Verify does. Not for use by
// several goroutines at once.
type Reader struct {
	dir    string
	file   *os.File
	name   string
	r      *bufio.Reader
	first  int64 // number of the file's first line, which its name tells
	bound  int64 // the lines of the file have lower numbers than this one, with which the next file begins; 0: there is none yet
	offset int64 // behind the last mark, or the beginning of the file
	last   Head  // the line before offset
	limit  int64 // up to which line is read; 0: to the end
}

// NewReader makes one for the trail in a folder. It opens files when it reads.
func NewReader(dir string) *Reader { return &Reader{dir: dir} }

// Until bounds what Next reads: what lies behind a line is as if it were not there yet. For who must not know what a power failure can still take back.
func (r *Reader) Until(seq int64) { r.limit = seq }

// Close closes the files; reading opens them again.
func (r *Reader) Close() {
	if r.file != nil {
		r.file.Close()
		r.file = nil
	}
}

// seek goes to the file that holds the line behind seq, or to the oldest that is left.
func (r *Reader) seek(seq int64) error {
	names, err := trailFiles(r.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return trailFault(err, r.dir)
	}
	if len(names) == 0 {
		return nil
	}
	name := names[0]
	for _, next := range names {
		if next <= trailName(seq) {
			name = next
		}
	}
	return r.open(name, Head{})
}

// open goes to the beginning of a file; last is the line before it.
func (r *Reader) open(name string, last Head) error {
	file, err := os.Open(filepath.Join(r.dir, name))
	if err != nil {
		return trailFault(err, filepath.Join(r.dir, name))
	}
	r.Close()
	r.file, r.name, r.first, r.offset, r.last, r.bound = file, name, 0, 0, last, 0
	r.first, _ = numberOf(name) // else 0: such a file has no line that may stand there
	r.r = bufio.NewReaderSize(file, 64<<10)
	return nil
}

// Part is what Next read.
type Part struct {
	Entries []Entry
	End     Head  // the last line that was read, a mark; its Seq is 0 when there was nothing new
	Have    int64 // number of the last line that the files hold up to now, as far as was read
	After   Head  // the line that was asked for, when it was met: whether it is still the same
}

// Dir is the folder of the files.
func (r *Reader) Dir() string { return r.dir }

// Oldest tells with which line the files that are left begin, and when the first of them was begun. The number is 0 when there is none.
func (r *Reader) Oldest() (o Start, err error) {
	names, err := trailFiles(r.dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return o, trailFault(err, r.dir)
	}
	if len(names) == 0 {
		return o, nil
	}
	seq, b, err := firstLine(filepath.Join(r.dir, names[0]))
	if err == nil && b != nil {
		return Start{seq, b.Time}, nil
	}
	o.Seq, _ = numberOf(names[0])
	return o, err
}

// Start is a place where files begin.
type Start struct {
	Seq  int64
	Time time.Time
}

// Settle makes durable what the files hold now, and tells up to which line that is. Whoever writes them does so by itself; this is for what a killed one left.
func Settle(dir string) (int64, error) {
	r := NewReader(dir)
	defer r.Close()
	part, err := r.Next(math.MaxInt64, 1)
	if err == nil && r.file != nil {
		err = trailFault(r.file.Sync(), r.name)
	}
	return part.Have, err
}

// mostPart is how many bytes of entries are read together, about: a line of the log can have megabytes.
const mostPart = 8 << 20

// shortest is less than any line of a trail has, in bytes: what bounds the numbers that can stand at a place.
const shortest = 80

// Next reads entries behind a line's number, about as many as most, or none when there is nothing new. Numbers always grow: a line whose number was there, or that cannot stand
// where it does, is left out.
func (r *Reader) Next(after int64, most int) (p Part, err error) {
	if r.file == nil || r.last.Seq > after {
		if err := r.seek(after); err != nil || r.file == nil {
			return Part{}, err
		}
	}
	if r.last.Seq == after {
		p.After = r.last
	}
	var pending []Entry
	high := Head{Seq: after} // the last line that is taken
	for {
		if _, err := r.file.Seek(r.offset, io.SeekStart); err != nil {
			return Part{}, trailFault(err, r.name)
		}
		r.r.Reset(r.file)
		if err := r.look(); err != nil {
			return Part{}, err
		}
		at, taken, size := r.offset, high, int64(0)
		for {
			line, err := r.r.ReadBytes('\n')
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				return Part{}, trailFault(err, r.name)
			}
			here := at
			at += int64(len(line))
			l, ok := parseChainLine(line[:len(line)-1])
			if !ok || l.kind == "begin" && trailName(l.seq) != r.name || l.seq < r.first ||
				r.bound > 0 && l.seq >= r.bound || r.bound == 0 && l.seq > r.first+here/shortest {
				continue // Verify names it
			}
			if l.seq == after && p.After.Seq == 0 {
				p.After = Head{l.seq, l.hash}
			}
			if l.kind == "entry" {
				if l.seq > taken.Seq {
					e := Entry{Seq: l.seq, Hash: l.hash}
					if json.Unmarshal(l.payload, &e) == nil {
						pending, size = append(pending, e), size+int64(len(line))
					}
					taken = Head{l.seq, l.hash}
				}
				continue
			}
			if r.limit > 0 && l.seq > r.limit {
				p.Have = max(p.Have, r.last.Seq, r.first-1)
				return p, nil
			}
			if l.seq > taken.Seq {
				taken = Head{l.seq, l.hash}
			}
			high, r.offset = taken, at
			if l.seq > r.last.Seq {
				r.last = Head{l.seq, l.hash}
			}
			if high.Seq > max(after, r.last.Seq) {
				r.last = high
			}
			p.Have = max(p.Have, r.last.Seq)
			if high.Seq > after {
				p.Entries, p.End = append(p.Entries, pending...), high
			}
			pending = pending[:0]
			if len(p.Entries) >= most || size >= mostPart {
				return p, nil
			}
		}
		if pending = pending[:0]; r.bound == 0 { // more may have come before the next file was there
			if err := r.look(); err != nil {
				return Part{}, err
			}
			if r.bound > 0 {
				continue
			}
		}
		p.Have = max(p.Have, r.last.Seq)
		if r.bound == 0 {
			return p, nil
		}
		err := r.open(trailName(r.bound), r.last)
		if errors.Is(err, fs.ErrNotExist) { // it was too old by now
			err = r.seek(high.Seq)
		}
		if err != nil {
			return Part{}, err
		}
	}
}

// look looks for the next file.
func (r *Reader) look() error {
	if r.bound > 0 {
		return nil
	}
	names, err := trailFiles(r.dir)
	if err != nil {
		return trailFault(err, r.dir)
	}
	for _, name := range names {
		if first, ok := numberOf(name); ok && name > r.name {
			r.bound = first
			return nil
		}
	}
	return nil
}
