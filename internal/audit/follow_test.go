package audit

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"howdah/internal/fault"
)

// logger writes a log as PostgreSQL's logger does.
type logger struct {
	t    *testing.T
	dir  string
	file *os.File
	n    int
	at   time.Time
}

func (l *logger) rotate(name string) {
	l.t.Helper()
	if l.file != nil {
		defer l.file.Close()
	}
	file, err := os.OpenFile(filepath.Join(l.dir, name), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		l.t.Fatal(err)
	}
	l.file = file
	l.t.Cleanup(func() { file.Close() })
}

func (l *logger) line(padding int) string {
	l.n++
	l.at = l.at.Add(time.Second)
	return fmt.Sprintf(`{"timestamp":%q,"session_id":"6b0336d2.1","line_num":%d,"error_severity":"LOG","message":"%s"}`+"\n",
		l.at.Format("2006-01-02 15:04:05.000 MST"), l.n, strings.Repeat("x", padding))
}

func (l *logger) raw(text string) {
	l.t.Helper()
	if _, err := l.file.WriteString(text); err != nil {
		l.t.Fatal(err)
	}
}

func (l *logger) lines(n int) {
	l.t.Helper()
	for range n {
		l.raw(l.line(10))
	}
}

// reader runs Follow and notes what came.
type reader struct {
	t       *testing.T
	cancel  context.CancelFunc
	batches chan Batch
	done    chan error
	got     []int64
	skipped []Skipped
	at      Position
}

func follow(t *testing.T, dir string, from Position) *reader {
	ctx, cancel := context.WithCancel(t.Context())
	r := &reader{t: t, cancel: cancel, batches: make(chan Batch), done: make(chan error, 1), at: from}
	go func() {
		r.done <- Follow(ctx, dir, from, func(b Batch) error {
			for i := range b.Raw {
				b.Raw[i] = bytes.Clone(b.Raw[i])
			}
			select {
			case r.batches <- b:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		})
	}()
	t.Cleanup(cancel)
	return r
}

// until takes batches until the line was read, or so much was skipped.
func (r *reader) until(line int64, skips int) {
	r.t.Helper()
	for !(line == 0 || len(r.got) > 0 && r.got[len(r.got)-1] >= line) || len(r.skipped) < skips {
		select {
		case b := <-r.batches:
			for i, line := range b.Lines {
				r.got = append(r.got, line.LineNum)
				if again, err := ParseLine(b.Raw[i]); err != nil || again.LineNum != line.LineNum {
					r.t.Errorf("the raw line is another: %s", b.Raw[i])
				}
			}
			r.skipped = append(r.skipped, b.Skipped...)
			text, err := json.Marshal(b.Position) // it is stored as JSON
			if err == nil {
				r.at = Position{}
				err = json.Unmarshal(text, &r.at)
			}
			if err != nil {
				r.t.Fatal(err)
			}
		case err := <-r.done:
			r.t.Fatalf("ended: %v", err)
		}
	}
}

func (r *reader) stop() Position {
	r.t.Helper()
	r.cancel()
	if err := <-r.done; !errors.Is(err, context.Canceled) {
		r.t.Fatal(err)
	}
	return r.at
}

// inOrder tells whether all lines came once and in order.
func (r *reader) inOrder(from, to int64) {
	r.t.Helper()
	var want []int64
	for n := from; n <= to; n++ {
		want = append(want, n)
	}
	if !slices.Equal(r.got, want) {
		r.t.Errorf("read %v, want %d to %d", r.got, from, to)
	}
	r.got = nil
}

func TestALogIsFollowedThroughAllThatHappensToIt(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	l := &logger{t: t, dir: dir, at: time.Date(2026, 11, 22, 0, 0, 0, 0, time.UTC)}

	l.rotate("z-first.json") // names need not be in order
	l.lines(3)
	r := follow(t, dir, Position{})
	r.until(3, 0)
	l.lines(2)
	r.until(5, 0)

	// A half line waits for its other half; the next file waits for it, too.
	six := l.line(100)
	l.raw(six[:70])
	l.raw(six[70:])
	l.rotate("m-second.json")
	l.lines(4)
	r.until(10, 0)
	r.inOrder(1, 10)

	// A file that is removed is still being written to, and still read.
	if err := os.Remove(filepath.Join(dir, "m-second.json")); err != nil {
		t.Fatal(err)
	}
	l.lines(2)
	r.until(12, 0)
	l.rotate("a-third.json")
	l.raw(l.line(5_000_000)) // a record of 5 MB
	r.until(13, 0)
	r.inOrder(11, 13)

	// A stop, a file renamed meanwhile, and a start from the stored position.
	at := r.stop()
	l.lines(2)
	if err := os.Rename(filepath.Join(dir, "a-third.json"), filepath.Join(dir, "a-old.json")); err != nil {
		t.Fatal(err)
	}
	l.rotate("b-fourth.json")
	l.lines(1)
	r = follow(t, dir, at)
	r.until(16, 0)
	r.inOrder(14, 16)

	// Corrupt lines are named and passed over.
	l.raw("no JSON at all\n\n\x00\x00\x00\n{\"timestamp\":\"2026\n")
	l.lines(1)
	r.until(17, 3)
	r.inOrder(17, 17)
	for _, s := range r.skipped {
		if s.File != "b-fourth.json" || s.Offset == 0 || s.Length <= 0 || !fault.Is(s.Why, fault.Invalid) {
			t.Errorf("%+v", s)
		}
	}
	r.skipped = nil

	// A line that was never ended, in a file that is done with.
	l.raw(`{"timestamp":"2026-11-22 00:00:20`)
	l.rotate("c-fifth.json")
	l.lines(1)
	r.until(18, 1)
	r.inOrder(18, 18)
	r.skipped = nil

	// Truncation in place, as PostgreSQL does with log_truncate_on_rotation, and as one does who removes traces.
	if err := l.file.Truncate(0); err != nil {
		t.Fatal(err)
	}
	r.until(0, 1)
	if !fault.HasKey(r.skipped[0].Why, "audit.log_gone") {
		t.Errorf("%v", r.skipped[0].Why)
	}
	l.lines(2)
	r.until(20, 1)
	r.inOrder(19, 20)

	// Truncated while nobody looks, and longer than before: the head tells.
	at = r.stop()
	if err := l.file.Truncate(0); err != nil {
		t.Fatal(err)
	}
	l.lines(9)
	r = follow(t, dir, at)
	r.until(29, 1)
	r.inOrder(21, 29)

	// Another file under the same name.
	if err := os.Rename(filepath.Join(dir, "c-fifth.json"), filepath.Join(dir, "c-fifth.1")); err != nil {
		t.Fatal(err)
	}
	l.lines(1)
	l.rotate("c-fifth.json")
	l.lines(1)
	r.until(31, 1)
	r.inOrder(30, 31)

	// The clock was put back.
	l.at = l.at.Add(-24 * time.Hour)
	l.rotate("c-clock.json")
	l.lines(1)
	r.until(32, 1)
	r.inOrder(32, 32)
	l.at = l.at.Add(24 * time.Hour)
	l.rotate("c-right.json")
	l.lines(1)
	r.until(33, 1)
	r.inOrder(33, 33)

	// The file of the position is gone while nobody looks.
	at = r.stop()
	l.rotate("d-sixth.json")
	l.lines(1)
	if err := os.Remove(filepath.Join(dir, "c-right.json")); err != nil {
		t.Fatal(err)
	}
	r = follow(t, dir, at)
	r.until(34, 1)
	r.inOrder(34, 34)
	if len(r.skipped) != 1 || !fault.HasKey(r.skipped[0].Why, "audit.log_gone") {
		t.Errorf("%v", r.skipped)
	}
	r.stop()
}

func TestALogThatIsNotThereIsAFault(t *testing.T) {
	t.Parallel()
	err := Follow(t.Context(), filepath.Join(t.TempDir(), "none"), Position{}, func(Batch) error { return nil })
	if !fault.HasKey(err, "audit.log_dir") {
		t.Error(err)
	}
	dir := t.TempDir()
	l := &logger{t: t, dir: dir, at: time.Date(2026, 11, 22, 0, 0, 0, 0, time.UTC)}
	l.rotate("a.json")
	l.lines(1)
	stop := errors.New("stop")
	if err := Follow(t.Context(), dir, Position{}, func(Batch) error { return stop }); !errors.Is(err, stop) {
		t.Error(err)
	}
}
