package audit

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Newest gives the newest entries that a filter chooses, the oldest of them first, at most limit, and the number of the last line of the trail. It reads files from their ends, and none that lies outside of the
// filter's times, so that what happened lately is found at once however long the trail is. It checks no hashes: Verify does.
func Newest(ctx context.Context, dir string, f *Filter, limit int) (found []Entry, upTo int64, err error) {
	return newest(ctx, dir, f, limit, 1<<20)
}

// clockSlack is how far clocks may have been put back or forth without anything being passed over.
const clockSlack = 2 * time.Hour

func newest(ctx context.Context, dir string, f *Filter, limit, chunk int) (found []Entry, upTo int64, err error) {
	names, err := trailFiles(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, 0, nil
	}
	if err != nil {
		return nil, 0, trailFault(err, dir)
	}
	s := newestSearch{ctx: ctx, filter: f, needles: needles(f), limit: max(limit, 1), chunk: chunk}
	for _, name := range slices.Backward(names) {
		path := filepath.Join(dir, name)
		b, known := firstOf(path)
		// What stands in a file comes from the log behind the position where it begins, or was noted later.
		if later := known && !f.To.IsZero() && !b.Position.Start.IsZero() && b.Position.Start.Add(-clockSlack).After(f.To); !later || s.upTo == 0 {
			if err := s.file(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return nil, 0, trailFault(err, path)
			}
		}
		// And nothing in the files before it happened after it was begun.
		if len(s.found) == s.limit || known && !f.From.IsZero() && b.Time.Add(clockSlack).Before(f.From) {
			break
		}
	}
	slices.Reverse(s.found)
	return s.found, s.upTo, nil
}

// firstOf reads what the first line of a file says of it, but for the sessions.
func firstOf(path string) (b begin, known bool) {
	file, err := os.Open(path)
	if err != nil {
		return b, false
	}
	defer file.Close()
	head := make([]byte, 8<<10)
	n, _ := io.ReadFull(file, head)
	head, _, whole := bytes.Cut(head[:n], []byte(`,"sessions":`)) // no text holds a quotation mark that is not escaped
	_, payload, ok := bytes.Cut(head, []byte(`","begin":`))
	if !whole || !ok || json.Unmarshal(append(bytes.Clone(payload), '}'), &b) != nil {
		return begin{}, false
	}
	return b, true
}

// newestSearch is a Newest under way.
type newestSearch struct {
	ctx     context.Context
	filter  *Filter
	needles [][]byte
	limit   int
	chunk   int // bytes that are read at a time
	found   []Entry
	upTo    int64
}

// file reads a file from its end to its beginning, or until there is enough.
func (s *newestSearch) file(path string) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return err
	}
	var buffer []byte // from at on, up to the beginning of what was looked at already
	at, step := info.Size(), int64(s.chunk)
	marked, ended := false, false // what stands behind the last mark does not count, nor what stands behind the last line end
	for at > 0 {
		if err := s.ctx.Err(); err != nil {
			return err
		}
		from := max(0, at-step)
		more := make([]byte, at-from, at-from+int64(len(buffer)))
		if _, err := file.ReadAt(more, from); err != nil {
			return err
		}
		fresh := len(more)
		buffer, at = append(more, buffer...), from
		if !ended {
			end := bytes.LastIndexByte(buffer, '\n')
			if end < 0 {
				step *= 2
				continue
			}
			buffer, ended, fresh = buffer[:end+1], true, end+1
		}
		if at > 0 && bytes.IndexByte(buffer[:fresh], '\n') < 0 {
			step *= 2 // a line that is longer
			continue
		}
		step = int64(s.chunk)
		for len(buffer) > 0 {
			begins := bytes.LastIndexByte(buffer[:len(buffer)-1], '\n') + 1
			if begins == 0 && at > 0 {
				break // it goes on further up
			}
			l, ok := parseChainLine(buffer[begins : len(buffer)-1])
			buffer = buffer[:begins]
			if !ok {
				continue
			}
			if l.kind != "entry" {
				if marked = true; s.upTo == 0 {
					s.upTo = l.seq
				}
				continue
			}
			if !marked || !s.mayMatch(l.payload) {
				continue
			}
			e := Entry{Seq: l.seq, Hash: l.hash}
			if json.Unmarshal(l.payload, &e) == nil && s.filter.Match(&e) {
				if s.found = append(s.found, e); len(s.found) == s.limit {
					return nil
				}
			}
		}
	}
	return nil
}

// mayMatch says no where an entry cannot be what the filter chooses, without taking it apart, which costs a hundred times as much.
func (s *newestSearch) mayMatch(payload []byte) bool {
	if f := s.filter; !f.From.IsZero() || !f.To.IsZero() {
		text, ok := bytes.CutPrefix(payload, []byte(`{"time":"`))
		text, _, closed := bytes.Cut(text[:min(len(text), 40)], []byte(`"`))
		if at, err := time.Parse(time.RFC3339Nano, string(text)); ok && closed && err == nil && (!f.From.IsZero() && at.Before(f.From) || !f.To.IsZero() && !at.Before(f.To)) {
			return false
		}
	}
	for _, needle := range s.needles {
		if !bytes.Contains(payload, needle) {
			return false
		}
	}
	return len(s.filter.Text) == 0 || !asItIs(s.filter.Text) || bytes.Contains(bytes.ToLower(payload), []byte(strings.ToLower(s.filter.Text)))
}

// needles are what stands in each entry that a filter chooses.
func needles(f *Filter) (all [][]byte) {
	for _, pattern := range []string{f.Role, f.Source, f.App, f.DB, f.Object, f.Session} {
		for part := range strings.SplitSeq(pattern, "*") {
			if part != "" && asItIs(part) {
				all = append(all, []byte(part))
			}
		}
	}
	return all
}

// asItIs tells whether JSON writes a text as it is.
func asItIs(text string) bool {
	return !strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r > '~' || r == '"' || r == '\\' })
}
