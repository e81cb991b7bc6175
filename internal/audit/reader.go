package audit

import (
	"bufio"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// Reader reads a trail's files in order, up to the last mark that is there, also while another process writes them. It checks no hashes: Verify does. Not for use by
// several goroutines at once.
type Reader struct {
	dir    string
	file   *os.File
	name   string
	r      *bufio.Reader
	offset int64 // behind the last mark, or the beginning of the file
	last   Head  // the line before offset
}

// NewReader makes one for the trail in a folder. It opens files when it reads.
func NewReader(dir string) *Reader { return &Reader{dir: dir} }

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
	return r.open(name)
}

func (r *Reader) open(name string) error {
	file, err := os.Open(filepath.Join(r.dir, name))
	if err != nil {
		return trailFault(err, filepath.Join(r.dir, name))
	}
	r.Close()
	r.file, r.name, r.offset, r.last = file, name, 0, Head{}
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

// Next reads entries behind a line's number, about as many as most, or none when there is nothing new.
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
	for {
		if _, err := r.file.Seek(r.offset, io.SeekStart); err != nil {
			return Part{}, trailFault(err, r.name)
		}
		r.r.Reset(r.file)
		at := r.offset
		for {
			line, err := r.r.ReadBytes('\n')
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				return Part{}, trailFault(err, r.name)
			}
			at += int64(len(line))
			l, ok := parseChainLine(line[:len(line)-1])
			if !ok || l.kind == "begin" && trailName(l.seq) != r.name {
				continue // Verify names it
			}
			if l.seq == after {
				p.After = Head{l.seq, l.hash}
			}
			if l.kind == "entry" {
				if l.seq > after {
					e := Entry{Seq: l.seq, Hash: l.hash}
					if json.Unmarshal(l.payload, &e) == nil {
						pending = append(pending, e)
					}
				}
				continue
			}
			r.offset, r.last = at, Head{l.seq, l.hash}
			p.Have = l.seq
			if l.seq > after {
				p.Entries, p.End = append(p.Entries, pending...), r.last
			}
			pending = pending[:0]
			if len(p.Entries) >= most {
				return p, nil
			}
		}
		names, err := trailFiles(r.dir)
		if err != nil {
			return Part{}, trailFault(err, r.dir)
		}
		next := ""
		for _, name := range names {
			if name > r.name && next == "" {
				next = name
			}
		}
		p.Have = max(p.Have, r.last.Seq)
		if next == "" {
			return p, nil
		}
		if info, err := r.file.Stat(); err == nil && info.Size() > at { // more came before the next file was there
			continue
		}
		pending = pending[:0]
		if err := r.open(next); err != nil {
			return Part{}, err
		}
	}
}
