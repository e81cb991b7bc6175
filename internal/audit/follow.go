package audit

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"time"

	"howdah/internal/fault"
)

// Position is how far a log is read. It is to be stored together with what was read. The zero position is before the oldest line.
//
// A file is known by its first bytes, not by its inode: inodes are used again, a log that is truncated in place (log_truncate_on_rotation) keeps its own, and
// Windows has none. What lies before Offset never changes unless somebody changes it.
type Position struct {
	File   string    `json:"file"`   // its name, without the folder
	Offset int64     `json:"offset"` // the first byte that was not read
	Head   string    `json:"head"`   // SHA-256, in hexadecimal, of the first HeadLen bytes
	Length int       `json:"length"` // of Head
	Start  time.Time `json:"start"`  // time of the file's first line (of the latest so far): files are read in this order
}

// Batch is what Follow has read.
type Batch struct {
	Lines    []Line
	Raw      [][]byte // the lines as they stand in the file, without line ends; valid during the call only
	Skipped  []Skipped
	Position Position // behind all of it
	Newest   bool     // nothing more was there when it was read
}

// Skipped is what could not be read, and why: a corrupt line, a file that is gone or was cut off. Each is worth a look.
type Skipped struct {
	File   string
	Offset int64
	Length int64 // bytes; -1: nobody knows
	Why    error // a fault
}

const (
	headLength  = 512      // bytes that tell a file from all others: its first line has a time, a process and a session
	longestLine = 64 << 20 // bytes; pgAudit's records were seen with 5 MB
	batchBytes  = 1 << 20
	batchLines  = 2000

	// PostgreSQL writes each line by itself. Looking costs one read of an open file (2 microseconds), so that even the quick pace is below a thousandth of a core.
	// Notifications of the system (inotify, ReadDirectoryChangesW) are no better here: under load they come for each line, Windows does not send them before the
	// file is flushed, and network file systems send none.
	quickPace = 20 * time.Millisecond  // while lines come
	idlePace  = 100 * time.Millisecond // when none came for a second
	scanPace  = time.Second            // for what does not change the folder: a file that is truncated in place
)

// Follow reads the JSON logs (*.json) in PostgreSQL's log folder from a position on, oldest first, and hands on what it read, for as long as take returns nil; then it waits for more. It
// needs no database. It returns ctx's error, take's error or a fault; a caller may go on later from the last position that it stored. Lines that another program
// left half written are handed on when they are whole; those that never become whole are named in Skipped.
func Follow(ctx context.Context, dir string, from Position, take func(Batch) error) error {
	f := &follower{dir: dir, at: from, take: take, known: map[string]logFile{}, done: map[string]int64{}}
	defer f.close()
	if err := f.scan(); err != nil {
		return err
	}
	if err := f.begin(); err != nil {
		return err
	}
	last := time.Now()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		progress, err := f.step()
		if err != nil {
			return err
		}
		if progress {
			last = time.Now()
			continue
		}
		pace := quickPace
		if time.Since(last) > time.Second {
			pace = idlePace
		}
		timer.Reset(pace)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-timer.C:
		}
	}
}

// logFile is what the folder shows of a file.
type logFile struct {
	name  string
	size  int64
	mtime time.Time
	start time.Time // zero: it has no whole line yet
}

func (a logFile) before(b logFile) bool {
	if !a.start.Equal(b.start) {
		return a.start.Before(b.start)
	}
	return a.name < b.name
}

type follower struct {
	dir  string
	take func(Batch) error
	at   Position
	file *os.File // at.File; nil before its first line is there

	known   map[string]logFile
	order   []logFile        // with a first line, oldest first
	done    map[string]int64 // sizes of the files that were read to their ends
	scanned time.Time
	mtime   time.Time // of the folder

	buffer []byte // what was read behind at.Offset, beginning with a line
	over   int64  // bytes of an endless line that are passed over
}

func (f *follower) close() {
	if f.file != nil {
		f.file.Close()
		f.file = nil
	}
}

// scan looks which files there are and when they begin.
func (f *follower) scan() error {
	now := time.Now()
	info, err := os.Stat(f.dir)
	var entries []os.DirEntry
	if err == nil {
		entries, err = os.ReadDir(f.dir)
	}
	if err != nil {
		return fault.Wrap(err, fault.Unavailable, "audit.log_dir", fault.Args{"dir": f.dir})
	}
	f.scanned, f.mtime = now, info.ModTime()
	seen := make(map[string]logFile, len(entries))
	f.order = f.order[:0]
	for _, entry := range entries {
		if !strings.HasSuffix(entry.Name(), ".json") || entry.IsDir() {
			continue
		}
		info, err := os.Stat(filepath.Join(f.dir, entry.Name())) // the entry's own may be old on Windows while the file is being written
		if err != nil {
			continue // removed since
		}
		file, had := f.known[entry.Name()]
		if !had || file.start.IsZero() || info.Size() < file.size || !info.ModTime().Equal(file.mtime) {
			file = logFile{name: entry.Name(), start: firstTime(filepath.Join(f.dir, entry.Name()))}
		}
		file.size, file.mtime = info.Size(), info.ModTime()
		seen[file.name] = file
		if !file.start.IsZero() {
			f.order = append(f.order, file)
		}
	}
	f.known = seen
	sort.Slice(f.order, func(i, j int) bool { return f.order[i].before(f.order[j]) })
	return nil
}

// firstTime is that of the first line with a time; of the file itself when none of the first has one, and zero as long as there is no whole line.
func firstTime(path string) time.Time {
	file, err := os.Open(path)
	if err != nil {
		return time.Time{}
	}
	defer file.Close()
	head := make([]byte, 64<<10)
	n, _ := io.ReadFull(file, head)
	head = head[:n]
	for whole := false; len(head) > 0; whole = true {
		line, rest, ended := bytes.Cut(head, []byte("\n"))
		if parsed, err := ParseLine(line); err == nil && ended {
			return parsed.Time
		}
		const mark = `{"timestamp":"`
		if text := string(line[:min(len(line), 80)]); strings.HasPrefix(text, mark) && (ended || n == 64<<10) { // a line that is longer than what was read
			if at, _, ok := clock(text[len(mark):]); ok {
				return at
			}
		}
		if !ended {
			if !whole && n < 64<<10 {
				return time.Time{}
			}
			break
		}
		head = rest
	}
	if info, err := file.Stat(); err == nil && n > 0 {
		return info.ModTime()
	}
	return time.Time{}
}

// begin finds the file of the position, under another name if it was renamed.
func (f *follower) begin() error {
	if f.at.File == "" {
		return nil
	}
	names := []string{f.at.File}
	for _, file := range f.order {
		if file.name != f.at.File {
			names = append(names, file.name)
		}
	}
	for _, name := range names {
		if file, ok := f.open(name); ok {
			if f.same(file) {
				f.file, f.at.File = file, name
				return nil
			}
			file.Close()
		}
	}
	return f.lost()
}

// open gives a file for reading; one that cannot be opened is passed over.
func (f *follower) open(name string) (*os.File, bool) {
	file, err := os.Open(filepath.Join(f.dir, name))
	return file, err == nil
}

// same tells whether an open file is the one that was read up to the position.
func (f *follower) same(file *os.File) bool {
	info, err := file.Stat()
	if err != nil || info.Size() < f.at.Offset {
		return false
	}
	head := make([]byte, f.at.Length)
	if _, err := file.ReadAt(head, 0); err != nil && !(errors.Is(err, io.EOF) && f.at.Length == 0) {
		return false
	}
	if f.at.Length > 0 && fingerprint(head) != f.at.Head {
		return false
	}
	if f.at.Offset > 0 {
		var end [1]byte
		if _, err := file.ReadAt(end[:], f.at.Offset-1); err != nil || end[0] != '\n' {
			return false
		}
	}
	return true
}

func fingerprint(head []byte) string {
	sum := sha256.Sum256(head)
	return hex.EncodeToString(sum[:])
}

// lost tells that the rest of the position's file is gone, and goes on with the next file.
func (f *follower) lost() error {
	skipped := Skipped{File: f.at.File, Offset: f.at.Offset, Length: -1, Why: fault.New(fault.NotFound, "audit.log_gone", fault.Args{"file": f.at.File, "offset": f.at.Offset})}
	f.close()
	f.buffer, f.over = f.buffer[:0], 0
	delete(f.done, f.at.File)
	old := f.at
	// A file that was truncated in place has begun anew, and so comes later in the order; or, when its first line is not there yet, it will.
	f.at = Position{Start: old.Start}
	return f.hand(Batch{Skipped: []Skipped{skipped}})
}

// hand gives a batch away with the position behind it.
func (f *follower) hand(b Batch) error {
	b.Position = f.at
	return f.take(b)
}

// step reads what is there, or goes to the next file; progress is false when there is nothing to do for now.
func (f *follower) step() (progress bool, err error) {
	if f.file == nil {
		if err := f.rescan(); err != nil {
			return false, err
		}
		return f.next()
	}
	n, err := f.read()
	if err != nil {
		return false, err
	}
	if n > 0 {
		return true, f.lines(false)
	}
	// The end. The file may have been truncated, or PostgreSQL may be in the next one already.
	info, err := f.file.Stat()
	if err == nil && info.Size() < f.at.Offset+f.over+int64(len(f.buffer)) {
		return true, f.lost()
	}
	before := f.scanned
	if err := f.rescan(); err != nil {
		return false, err
	}
	if f.scanned.Equal(before) {
		return false, nil
	}
	if !f.same(f.file) {
		return true, f.lost()
	}
	return f.next()
}

// rescan scans when the folder has changed, or in passing for what does not show there.
func (f *follower) rescan() error {
	info, err := os.Stat(f.dir)
	if err == nil && info.ModTime().Equal(f.mtime) && time.Since(f.scanned) < scanPace && f.scanned.Sub(f.mtime) > 50*time.Millisecond {
		return nil
	}
	return f.scan()
}

// next goes to the file behind the present one, when there is one: PostgreSQL opens the next before it closes the last and writes to one only, so that what
// is read up to its end after the next was seen is whole.
func (f *follower) next() (bool, error) {
	present := logFile{name: f.at.File, start: f.at.Start}
	if f.file != nil {
		if info, err := f.file.Stat(); err == nil {
			present.size, present.mtime = info.Size(), info.ModTime()
		}
	}
	for _, file := range f.order {
		// A clock that was put back must not end the reading: what was written to last comes later, too, whenever its first line claims to be from.
		later := present.start.IsZero() || present.before(file) || f.file != nil && !file.mtime.Before(present.mtime)
		if size, done := f.done[file.name]; !later || done && size == file.size || f.reads(file) {
			continue
		}
		if f.file != nil {
			for {
				n, err := f.read()
				if err != nil {
					return false, err
				}
				if n == 0 {
					break
				}
				if err := f.lines(false); err != nil {
					return false, err
				}
			}
			if err := f.lines(true); err != nil {
				return false, err
			}
		}
		opened, ok := f.open(file.name)
		if !ok {
			return false, fault.New(fault.Unavailable, "audit.log_file", fault.Args{"file": filepath.Join(f.dir, file.name)})
		}
		f.close()
		if f.at.File != "" && f.at.File != file.name {
			f.done[f.at.File] = f.at.Offset
		}
		f.file, f.at, f.over, f.buffer = opened, Position{File: file.name, Start: file.start}, 0, f.buffer[:0]
		if present.start.After(file.start) {
			f.at.Start = present.start
		}
		return true, nil
	}
	return false, nil
}

// reads tells whether this is the file that is being read: another may have come under its name.
func (f *follower) reads(file logFile) bool {
	if f.file == nil || file.name != f.at.File {
		return false
	}
	open, err := f.file.Stat()
	if err != nil {
		return false
	}
	named, err := os.Stat(filepath.Join(f.dir, file.name))
	return err == nil && os.SameFile(open, named)
}

// read adds to the buffer what is behind it in the file.
func (f *follower) read() (int, error) {
	const chunk = 256 << 10
	have := len(f.buffer)
	if cap(f.buffer)-have < chunk {
		grown := make([]byte, have, max(2*cap(f.buffer), have+chunk))
		copy(grown, f.buffer)
		f.buffer = grown
	}
	n, err := f.file.ReadAt(f.buffer[have:have+chunk], f.at.Offset+f.over+int64(have))
	f.buffer = f.buffer[:have+n]
	if err != nil && !errors.Is(err, io.EOF) {
		if errors.Is(err, fs.ErrClosed) {
			return 0, err
		}
		return 0, fault.Wrap(err, fault.Unavailable, "audit.log_file", fault.Args{"file": filepath.Join(f.dir, f.at.File)})
	}
	return n, nil
}

// lines hands on the whole lines of the buffer; at the end of a file that is done with, what is left of it is named as well.
func (f *follower) lines(end bool) error {
	var b Batch
	rest := f.buffer
	used := 0
	flush := func() error {
		if used == 0 {
			return nil
		}
		if err := f.advance(used); err != nil {
			return err
		}
		b.Newest = len(rest) == 0
		err := f.hand(b)
		b, used = Batch{}, 0
		return err
	}
	skip := func(length int64, why error) {
		b.Skipped = append(b.Skipped, Skipped{File: f.at.File, Offset: f.at.Offset + int64(used), Length: length, Why: why})
	}
	for {
		i := bytes.IndexByte(rest, '\n')
		if i < 0 {
			break
		}
		raw := rest[:i]
		rest = rest[i+1:]
		switch line, err := ParseLine(raw); {
		case f.over > 0: // the end of an endless line
			skip(f.over+int64(i)+1, fault.New(fault.TooLarge, "audit.line_long", fault.Args{"limit": longestLine >> 20}))
			f.at.Offset += f.over
			f.over = 0
		case err == nil:
			b.Lines = append(b.Lines, line)
			b.Raw = append(b.Raw, bytes.TrimSuffix(raw, []byte("\r")))
		case len(bytes.TrimSpace(raw)) > 0:
			skip(int64(i)+1, err)
		}
		used += i + 1
		if len(b.Lines) >= batchLines || used >= batchBytes {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	if end && (len(rest) > 0 || f.over > 0) {
		skip(f.over+int64(len(rest)), fault.New(fault.Invalid, "audit.line", fault.Args{"at": f.over + int64(len(rest))}))
		f.at.Offset += f.over
		used += len(rest)
		f.over, rest = 0, nil
	}
	if err := flush(); err != nil {
		return err
	}
	if len(rest) > longestLine {
		f.over += int64(len(rest))
		rest = nil
	}
	f.buffer = append(f.buffer[:0], rest...)
	if cap(f.buffer) > 8<<20 && len(f.buffer) < 1<<20 { // a record of megabytes is rare
		f.buffer = append([]byte(nil), f.buffer...)
	}
	return nil
}

// advance moves the position behind bytes that were read, and takes the fingerprint while the file is young.
func (f *follower) advance(n int) error {
	f.at.Offset += int64(n)
	if want := int(min(f.at.Offset, headLength)); f.at.Length < want {
		head := make([]byte, want)
		if _, err := f.file.ReadAt(head, 0); err != nil {
			return fault.Wrap(err, fault.Unavailable, "audit.log_file", fault.Args{"file": filepath.Join(f.dir, f.at.File)})
		}
		f.at.Head, f.at.Length = fingerprint(head), want
	}
	return nil
}
