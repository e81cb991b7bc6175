package audit

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"howdah/internal/fault"
)

// Trail is the audit trail of one PostgreSQL: files of JSON lines outside the database, to which is only ever added. Each line holds a hash of itself and of all lines
// before it, so that nothing can be changed, removed or moved without changing all hashes behind it, the last of which anybody may note
// down elsewhere (Head).
//
//	{"seq":1,"hash":"...","begin":{...}}   the first line of a file: what the one before ended with, and how far the log's sessions were read
//	{"seq":2,"hash":"...","entry":{...}}   an Entry
//	{"seq":3,"hash":"...","mark":{...}}    the Position in the log behind the entries before it
//
// What was read and how far it was read go into the files in one write, which counts only when its mark is there; so a watch that is killed at any moment loses nothing and
// has nothing twice. It needs no database.
//
// It may be used by several goroutines at once.
type Trail struct {
	mutex       sync.Mutex
	dir, source string
	file        *os.File
	size        int64
	opened      time.Time
	end         chainEnd
	durable     chainEnd // what of it is on the disk
	sessions    sessions
	buffer      bytes.Buffer
	payload     bytes.Buffer
	broken      bool
}

// chainEnd is what a line of the chain leaves behind.
type chainEnd struct {
	seq      int64
	hash     [32]byte
	position Position
}

// Head names the last line of the trail: whoever notes it down elsewhere can later prove that nothing before it was changed (Verify).
type Head struct {
	Seq  int64
	Hash [32]byte
}

// String is what a person notes down: 1234:9f86d0...
func (h Head) String() string { return fmt.Sprintf("%d:%x", h.Seq, h.Hash) }

// ParseHead reads what String wrote.
func ParseHead(s string) (Head, error) {
	number, sum, _ := strings.Cut(s, ":")
	seq, err := strconv.ParseInt(number, 10, 64)
	raw, err2 := hex.DecodeString(sum)
	if err != nil || err2 != nil || seq < 1 || len(raw) != 32 {
		return Head{}, fault.New(fault.Invalid, "audit.trail_head", fault.Args{"head": printable(s)})
	}
	return Head{seq, [32]byte(raw)}, nil
}

const (
	trailFileSize = 64 << 20 // bytes, about, after which the next file is begun; or after a day
	trailFormat   = 1
)

// begin is the first line of a file.
type begin struct {
	Format   int       `json:"format"`
	Source   string    `json:"source"`
	Time     time.Time `json:"time"`
	Previous string    `json:"previous"`          // hash of the line before, in hexadecimal; zeros for the first
	Damaged  bool      `json:"damaged,omitempty"` // the file before could not be read whole when this one was begun
	Position Position  `json:"position"`
	Sessions sessions  `json:"sessions"`
}

func trailName(seq int64) string { return fmt.Sprintf("trail-%016d.jsonl", seq) }

// trailFiles lists a trail's files, oldest first.
func trailFiles(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, entry := range entries {
		if strings.HasPrefix(entry.Name(), "trail-") && strings.HasSuffix(entry.Name(), ".jsonl") {
			names = append(names, entry.Name())
		}
	}
	return names, nil // ReadDir sorts, and the numbers have their zeros
}

// OpenTrail opens the trail of a source in a folder of its own, or begins it. What a killed writer left unfinished is cut off. A trail that somebody has damaged is
// gone on with in a new file; Verify tells what is wrong with it. One process may write a trail at a time.
func OpenTrail(dir, source string) (*Trail, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, trailFault(err, dir)
	}
	names, err := trailFiles(dir)
	if err != nil {
		return nil, trailFault(err, dir)
	}
	t := &Trail{dir: dir, source: source}
	unread := false // the last file has lines, and none of them can be read: no crash does that, so it stays for Verify to name
	for len(names) > 0 {
		path := filepath.Join(dir, names[len(names)-1])
		whole, damaged, err := t.resume(path)
		if err != nil {
			return nil, trailFault(err, path)
		}
		if damaged || whole > 0 && unread {
			return t, t.begin(true)
		}
		if whole > 0 {
			t.file, err = os.OpenFile(path, os.O_RDWR|os.O_APPEND, 0)
			if err == nil {
				err = t.file.Truncate(whole)
			}
			if err == nil {
				err = t.file.Sync()
			}
			if err != nil {
				return nil, trailFault(err, path)
			}
			t.size = whole
			return t, nil
		}
		lines, err := hasLine(path)
		if err != nil {
			return nil, trailFault(err, path)
		}
		if unread = unread || lines; !lines { // killed before its first line was there
			if err := os.Remove(path); err != nil {
				return nil, trailFault(err, path)
			}
		}
		names = names[:len(names)-1]
	}
	return t, t.begin(unread)
}

// hasLine tells whether a file holds a line end.
func hasLine(path string) (bool, error) {
	file, err := os.Open(path)
	if err != nil {
		return false, err
	}
	defer file.Close()
	_, err = bufio.NewReader(file).ReadBytes('\n')
	if errors.Is(err, io.EOF) {
		return false, nil
	}
	return err == nil, err
}

// resume reads a file, and tells up to where it is whole; damaged when something is wrong before a mark, which no crash does.
func (t *Trail) resume(path string) (whole int64, damaged bool, err error) {
	file, err := os.Open(path)
	if err != nil {
		return 0, false, err
	}
	defer file.Close()
	r := bufio.NewReaderSize(file, 1<<20)
	var end chainEnd
	var offset int64
	bad := false
	for {
		line, err := r.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			break // what is behind the last line end was cut off by a crash
		}
		if err != nil {
			return 0, false, err
		}
		first := offset == 0
		offset += int64(len(line))
		l, ok := parseChainLine(line[:len(line)-1])
		if !ok || first != (l.kind == "begin") || !first && l.seq != end.seq+1 {
			bad = true
		}
		if !ok {
			continue
		}
		var b begin
		if first && l.kind == "begin" {
			if json.Unmarshal(l.payload, &b) != nil || b.Format != trailFormat {
				bad = true
			}
			end.hash, end.position, t.opened = decodeHash(b.Previous), b.Position, b.Time
		}
		if l.sum(end.hash) != l.hash || l.kind == "mark" && json.Unmarshal(l.payload, &end.position) != nil {
			bad = true
		}
		end.seq, end.hash = l.seq, l.hash
		if l.kind != "entry" { // the beginning or a mark
			t.end, t.durable, whole, damaged = end, end, offset, bad
		}
	}
	if err := t.replay(path, whole); err != nil {
		return 0, false, err
	}
	return whole, damaged, nil
}

// replay notes how far the sessions were read, from a file up to a mark.
func (t *Trail) replay(path string, to int64) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	r := bufio.NewReaderSize(io.LimitReader(file, to), 1<<20)
	t.sessions = sessions{}
	for {
		line, err := r.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		l, ok := parseChainLine(line[:len(line)-1])
		if !ok {
			continue
		}
		var b begin
		var e Entry
		switch {
		case l.kind == "begin" && json.Unmarshal(l.payload, &b) == nil:
			t.sessions = b.Sessions
		case l.kind == "entry" && json.Unmarshal(l.payload, &e) == nil && e.LineNum > 0:
			t.sessions.take(e.asLine())
		}
	}
}

// beginning is the file's name until its first line is there: nobody who reads the trail meanwhile takes it for one that was cut.
const beginning = ".trail.begin"

// begin starts the next file.
func (t *Trail) begin(damaged bool) error {
	b := begin{Format: trailFormat, Source: t.source, Time: time.Now().UTC(), Previous: hex.EncodeToString(t.end.hash[:]), Damaged: damaged, Position: t.end.position, Sessions: t.sessions}
	path := filepath.Join(t.dir, trailName(t.end.seq+1))
	_, err := os.Lstat(path)
	for damaged && err == nil { // the damaged one has the name
		t.end.seq++
		path = filepath.Join(t.dir, trailName(t.end.seq+1))
		_, err = os.Lstat(path)
	}
	if err == nil {
		err = fs.ErrExist
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return trailFault(err, path)
	}
	t.buffer.Reset()
	if err := t.add("begin", b); err != nil {
		return err
	}
	unnamed := filepath.Join(t.dir, beginning) // what a killed writer left of one is written over
	file, err := os.OpenFile(unnamed, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return trailFault(err, unnamed)
	}
	_, err = file.Write(t.buffer.Bytes())
	if err == nil {
		err = file.Sync()
	}
	if err = errors.Join(err, file.Close()); err == nil { // Windows renames no open file
		err = os.Rename(unnamed, path)
	}
	if err == nil {
		err = syncDir(t.dir)
	}
	if err == nil {
		file, err = os.OpenFile(path, os.O_RDWR|os.O_APPEND, 0)
	}
	if err != nil {
		return trailFault(err, path)
	}
	if t.file != nil {
		t.file.Close()
	}
	t.file, t.size, t.opened, t.durable = file, int64(t.buffer.Len()), b.Time, t.end
	t.buffer.Reset()
	return nil
}

// syncDir makes a new name in a folder durable; Windows does that by itself.
func syncDir(dir string) error {
	if os.PathSeparator == '\\' {
		return nil
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// add puts a line into the buffer.
func (t *Trail) add(kind string, payload any) error {
	t.payload.Reset()
	if err := encode(&t.payload, payload); err != nil {
		return err
	}
	t.end.seq++
	t.end.hash = chainSum(t.end.hash, t.end.seq, kind, t.payload.Bytes())
	fmt.Fprintf(&t.buffer, `{"seq":%d,"hash":"%x","%s":`, t.end.seq, t.end.hash, kind)
	t.buffer.Write(t.payload.Bytes())
	t.buffer.WriteString("}\n")
	return nil
}

// flush makes the buffer durable. When it fails, the trail has to be opened anew.
func (t *Trail) flush() error {
	info, err := t.file.Stat()
	if err == nil && info.Size() != t.size {
		t.broken = true
		return fault.New(fault.Conflict, "audit.trail_writer", fault.Args{"file": t.file.Name()})
	}
	if err == nil {
		_, err = t.file.Write(t.buffer.Bytes())
	}
	if err == nil {
		err = t.file.Sync()
	}
	if err != nil {
		t.broken = true
		return trailFault(err, t.file.Name())
	}
	t.size += int64(t.buffer.Len())
	t.durable = t.end
	if t.buffer.Reset(); t.buffer.Cap() > 16<<20 {
		t.buffer = bytes.Buffer{}
	}
	return nil
}

// Position is how far the log was read: where Follow goes on.
func (t *Trail) Position() Position {
	t.mutex.Lock()
	defer t.mutex.Unlock()
	return t.durable.position
}

// Head is the trail's end, as it is on the disk.
func (t *Trail) Head() Head {
	t.mutex.Lock()
	defer t.mutex.Unlock()
	return Head{t.durable.seq, t.durable.hash}
}

// Append adds what was read of the log, with its secrets masked, and makes it durable. It gives back the lines that are new (a log that is read again from its beginning
// adds nothing), masked, and what was noticed: lines and records that are missing, what could not be read. After an error the trail is to be opened anew.
func (t *Trail) Append(b Batch) (fresh []Line, events []Event, err error) {
	t.mutex.Lock()
	defer t.mutex.Unlock()
	if err := t.ready(); err != nil {
		return nil, nil, err
	}
	defer func() { t.broken = t.broken || err != nil }()
	note := func(e Event, at time.Time) error {
		events = append(events, e)
		return t.add("entry", Entry{Time: at, SessionID: e.SessionID, Event: &e})
	}
	for _, s := range b.Skipped {
		why := "audit.line"
		if f := fault.Of(s.Why); f != nil {
			why = f.Key
		}
		if err := note(Event{Kind: EventSkipped, File: clean(s.File), Offset: s.Offset, Length: s.Length, Why: why}, time.Now().UTC().Truncate(time.Microsecond)); err != nil {
			return nil, nil, err
		}
	}
	for i := range b.Lines {
		line := b.Lines[i]
		again, missing := t.sessions.take(&line)
		if again {
			continue
		}
		for _, e := range missing {
			if err := note(e, line.Time); err != nil {
				return nil, nil, err
			}
		}
		line.Mask()
		fresh = append(fresh, line)
		if err := t.add("entry", entryOf(line)); err != nil {
			return nil, nil, err
		}
	}
	if t.buffer.Len() == 0 && b.Position == t.end.position {
		return nil, nil, nil
	}
	t.end.position = b.Position
	if err := t.add("mark", b.Position); err != nil {
		return nil, nil, err
	}
	return fresh, events, t.flush()
}

// Close closes the files.
func (t *Trail) Close() error {
	t.mutex.Lock()
	defer t.mutex.Unlock()
	t.broken = true
	if t.file == nil {
		return nil
	}
	return t.file.Close()
}

// chainLine is a line of a trail's file.
type chainLine struct {
	seq     int64
	hash    [32]byte
	kind    string
	payload []byte
}

func (l *chainLine) sum(previous [32]byte) [32]byte {
	return chainSum(previous, l.seq, l.kind, l.payload)
}

func chainSum(previous [32]byte, seq int64, kind string, payload []byte) (sum [32]byte) {
	h := sha256.New()
	h.Write(previous[:])
	var number [8]byte
	binary.BigEndian.PutUint64(number[:], uint64(seq))
	h.Write(number[:])
	h.Write([]byte(kind))
	h.Write([]byte{0})
	h.Write(payload)
	h.Sum(sum[:0])
	return sum
}

// parseChainLine takes a line apart, in the one form that add writes.
func parseChainLine(line []byte) (l chainLine, ok bool) {
	rest, ok := bytes.CutPrefix(line, []byte(`{"seq":`))
	if !ok {
		return l, false
	}
	number, rest, ok := bytes.Cut(rest, []byte(`,"hash":"`))
	if !ok || len(rest) < 64+3 {
		return l, false
	}
	seq, err := strconv.ParseInt(string(number), 10, 64)
	if err != nil || seq < 1 {
		return l, false
	}
	if _, err := hex.Decode(l.hash[:], rest[:64]); err != nil {
		return l, false
	}
	rest, ok = bytes.CutPrefix(rest[64:], []byte(`","`))
	if !ok {
		return l, false
	}
	kind, rest, ok := bytes.Cut(rest, []byte(`":`))
	if !ok || len(rest) < 2 || rest[len(rest)-1] != '}' || !slices.Contains([]string{"begin", "entry", "mark"}, string(kind)) {
		return l, false
	}
	l.seq, l.kind, l.payload = seq, string(kind), rest[:len(rest)-1]
	return l, true
}

func decodeHash(s string) (h [32]byte) {
	if raw, err := hex.DecodeString(s); err == nil && len(raw) == 32 {
		copy(h[:], raw)
	}
	return h
}

func trailFault(err error, path string) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, fs.ErrPermission) {
		return fault.Wrap(err, fault.Forbidden, "audit.trail_rights", fault.Args{"file": path})
	}
	return fault.Wrap(err, fault.Unavailable, "audit.trail_file", fault.Args{"file": path})
}
