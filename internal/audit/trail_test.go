package audit

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"howdah/internal/fault"
)

// childMode makes this program a watch that is to be killed: it follows a log, keeps the trail, and says after each step how far it is.
const childMode = "HOWDAH_AUDIT_TEST_CHILD"

func TestMain(m *testing.M) {
	if os.Getenv(childMode) != "" {
		if err := child(context.Background(), os.Args[len(os.Args)-2], os.Args[len(os.Args)-1]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func child(ctx context.Context, logs, dir string) error {
	trail, err := OpenTrail(dir, "house")
	if err != nil {
		return err
	}
	fmt.Println("at", trail.entries())
	return Follow(ctx, logs, trail.Position(), func(b Batch) error {
		for len(b.Lines) > 0 { // small steps: more moments to be killed at
			n := min(100, len(b.Lines))
			part := Batch{Lines: b.Lines[:n], Position: trail.Position()}
			if b.Lines = b.Lines[n:]; len(b.Lines) == 0 {
				part.Position = b.Position
			}
			fresh, _, err := trail.Append(part)
			if err != nil {
				return err
			}
			if len(fresh) == 0 && len(b.Lines) > 0 { // read again, since a batch has its position at its end
				continue
			}
			fmt.Println("at", trail.entries())
		}
		return nil
	})
}

// entries counts the lines of the log in the trail.
func (t *Trail) entries() (n int64) {
	for _, known := range t.sessions.Known {
		n += known.Line
	}
	return n
}

func TestAWatchThatIsKilledAgainAndAgainLosesNothingAndHasNothingTwice(t *testing.T) {
	t.Parallel()
	logs, dir := t.TempDir(), filepath.Join(t.TempDir(), "trail")
	text := unpack(t, "c02.json")
	lines := bytes.SplitAfter(text, []byte("\n"))
	lines = lines[:len(lines)-1]
	name := filepath.Join(logs, "a.json")
	if err := os.WriteFile(name, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	written, kills := 0, 0
	for round := 0; ; round++ {
		// More of the log, sometimes in the next file.
		if written < len(lines) {
			n := min(400+rand.IntN(400), len(lines)-written)
			if round%3 == 2 {
				name = filepath.Join(logs, fmt.Sprintf("%c.json", 'a'+round))
			}
			file, err := os.OpenFile(name, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
			if err != nil {
				t.Fatal(err)
			}
			_, err = file.Write(bytes.Join(lines[written:written+n], nil))
			if err = errors.Join(err, file.Close()); err != nil {
				t.Fatal(err)
			}
			written += n
		}
		cmd := exec.CommandContext(t.Context(), os.Args[0], logs, dir)
		cmd.Env = append(os.Environ(), childMode+"=1")
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		said, after := bufio.NewScanner(out), 1+rand.IntN(9)
		done := false
		for n := 0; n < after && said.Scan(); n++ {
			if said.Text() == fmt.Sprint("at ", written) { // it will say no more
				done = written == len(lines)
				break
			}
		}
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait()
		kills++
		if done {
			break
		}
		if kills > 500 {
			t.Fatal("it does not get on")
		}
	}
	t.Logf("killed %d times", kills)
	trail, err := OpenTrail(dir, "house")
	if err != nil {
		t.Fatal(err)
	}
	defer trail.Close()
	type place struct {
		session string
		line    int64
	}
	found, records := map[place]bool{}, 0
	names, err := trailFiles(dir)
	if err != nil || len(names) != 1 {
		t.Fatal(names, err)
	}
	kept, err := os.ReadFile(filepath.Join(dir, names[0]))
	if err != nil {
		t.Fatal(err)
	}
	for raw := range bytes.Lines(kept) {
		l, ok := parseChainLine(bytes.TrimSuffix(raw, []byte("\n")))
		if !ok || l.kind != "entry" {
			continue
		}
		var e Entry
		if err := json.Unmarshal(l.payload, &e); err != nil {
			t.Fatal(err)
		}
		if found[place{e.SessionID, e.LineNum}] || e.Event != nil {
			t.Errorf("twice, or an event: %s", l.payload)
		}
		found[place{e.SessionID, e.LineNum}] = true
		if e.Audit != nil {
			records++
		}
	}
	if len(found) != len(lines) || records != 3197 {
		t.Errorf("%d of %d lines, %d of 3197 records", len(found), len(lines), records)
	}
	v, err := Verify(dir, []Head{trail.Head()})
	if err != nil || len(v.Problems) > 0 || v.Entries != int64(len(lines)) || v.Head != trail.Head() {
		t.Errorf("%+v %v", v, err)
	}
}

// makeTrail fills a trail from a corpus, in files of their own.
func makeTrail(t *testing.T, dir string) *Trail {
	t.Helper()
	trail, err := OpenTrail(dir, "house")
	if err != nil {
		t.Fatal(err)
	}
	var b Batch
	for raw := range bytes.Lines(unpack(t, "c04.json")) {
		line, err := ParseLine(raw)
		if err != nil {
			t.Fatal(err)
		}
		b.Lines = append(b.Lines, line)
		b.Position.Offset += int64(len(raw))
		if len(b.Lines) == 300 {
			if _, _, err := trail.Append(b); err != nil {
				t.Fatal(err)
			}
			b.Lines = nil
			trail.opened = time.Time{} // it is time for another file
		}
	}
	if _, events, err := trail.Append(b); err != nil || len(events) > 0 {
		t.Fatal(events, err)
	}
	return trail
}

func TestWhoeverEditsTheTrailIsFound(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "trail")
	trail := makeTrail(t, dir)
	defer trail.Close()
	head, err := ParseHead(trail.Head().String())
	if err != nil || head != trail.Head() {
		t.Fatal(head, err)
	}
	names, err := trailFiles(dir)
	if err != nil || len(names) != 4 {
		t.Fatal(names, err)
	}
	kinds := func(heads ...Head) map[string]int {
		t.Helper()
		v, err := Verify(dir, heads)
		if err != nil {
			t.Fatal(err)
		}
		found := map[string]int{}
		for _, p := range v.Problems {
			found[p.Kind]++
		}
		return found
	}
	if found := kinds(head); len(found) > 0 {
		t.Fatalf("nobody did anything: %v", found)
	}

	// The files, edited in all ways; each is put back afterwards.
	second := filepath.Join(dir, names[1])
	whole, err := os.ReadFile(second)
	if err != nil {
		t.Fatal(err)
	}
	lines := bytes.SplitAfter(whole, []byte("\n"))
	lines = lines[:len(lines)-1]
	join := func(parts ...[][]byte) []byte {
		var all []byte
		for _, part := range parts {
			all = append(all, bytes.Join(part, nil)...)
		}
		return all
	}
	for what, c := range map[string]struct {
		content []byte
		kind    string
	}{
		"one letter":      {bytes.Replace(whole, []byte("CREATE"), []byte("CREATe"), 1), ProblemEdited},
		"a line removed":  {join(lines[:50], lines[51:]), ProblemMissing},
		"lines exchanged": {join(lines[:50], lines[51:52], lines[50:51], lines[52:]), ProblemOrder},
		"the end cut":     {join(lines[:len(lines)-20]), ProblemMissing},
		"half a line":     {whole[:len(whole)-10], ProblemCut},
		"a line twice":    {join(lines[:50], lines[49:]), ProblemOrder},
		"a line put in":   {join(lines[:50], [][]byte{[]byte("hello\n")}, lines[50:]), ProblemUnread},
	} {
		if err := os.WriteFile(second, c.content, 0o600); err != nil {
			t.Fatal(err)
		}
		if found := kinds(); found[c.kind] == 0 {
			t.Errorf("%s: %v", what, found)
		}
	}
	// An edit with all hashes of the file made anew shows where the next file begins.
	var forged []byte
	var end chainEnd
	for i, line := range lines {
		l, ok := parseChainLine(bytes.TrimSuffix(line, []byte("\n")))
		if !ok {
			t.Fatal("no line")
		}
		if i == 0 {
			v := Verification{}
			if err := v.one(filepath.Join(dir, names[0]), names[0], &end, false, nil); err != nil {
				t.Fatal(err)
			}
		}
		l.payload = bytes.Replace(l.payload, []byte("role"), []byte("r0le"), 1)
		end.hash = l.sum(end.hash)
		forged = append(forged, fmt.Sprintf("{\"seq\":%d,\"hash\":\"%x\",\"%s\":%s}\n", l.seq, end.hash, l.kind, l.payload)...)
	}
	if err := os.WriteFile(second, forged, 0o600); err != nil {
		t.Fatal(err)
	}
	if found := kinds(); found[ProblemMissing] == 0 {
		t.Errorf("made anew: %v", found)
	}
	// A file removed; the last one removed, which only a note of the head shows.
	if err := os.Remove(second); err != nil {
		t.Fatal(err)
	}
	if found := kinds(); found[ProblemMissing] == 0 {
		t.Errorf("a file removed: %v", found)
	}
	if err := os.WriteFile(second, whole, 0o600); err != nil {
		t.Fatal(err)
	}
	last := filepath.Join(dir, names[3])
	content, err := os.ReadFile(last)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(last); err != nil {
		t.Fatal(err)
	}
	if found := kinds(); len(found) != 0 {
		t.Errorf("without a note nobody can know: %v", found)
	}
	if found := kinds(head); found[ProblemCut] != 1 {
		t.Errorf("the last file removed: %v", found)
	}
	if err := os.WriteFile(last, content, 0o600); err != nil {
		t.Fatal(err)
	}
	if found := kinds(Head{head.Seq, [32]byte{1}}); found[ProblemHead] != 1 {
		t.Errorf("another head: %v", found)
	}
}

func TestATrailGoesOnAfterWhatBefallsItsFile(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "trail")
	l := &logger{t: t, dir: t.TempDir()}
	batch := func(n int) (b Batch) {
		for range n {
			line, err := ParseLine([]byte(l.line(5)))
			if err != nil {
				t.Fatal(err)
			}
			b.Lines = append(b.Lines, line)
		}
		b.Position = Position{File: "x.json", Offset: int64(l.n)}
		return b
	}
	trail, err := OpenTrail(dir, "house")
	if err != nil {
		t.Fatal(err)
	}
	first := batch(5)
	for range 2 { // the same again adds nothing
		if _, _, err := trail.Append(first); err != nil {
			t.Fatal(err)
		}
	}
	if head := trail.Head(); head.Seq != 7 { // the beginning, five entries, a mark
		t.Errorf("%v", head)
	}
	// A crash in the middle of a write.
	name := trail.file.Name()
	if err := trail.Close(); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, append(whole, `{"seq":8,"hash":"`...), 0o600); err != nil {
		t.Fatal(err)
	}
	if trail, err = OpenTrail(dir, "house"); err != nil || trail.Position() != first.Position {
		t.Fatal(err, trail.Position())
	}
	fresh, events, err := trail.Append(batch(2))
	if err != nil || len(fresh) != 2 || len(events) != 0 || trail.Head().Seq != 10 {
		t.Fatal(fresh, events, err, trail.Head())
	}
	// A second writer is refused.
	other, err := OpenTrail(dir, "house")
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := other.Append(batch(1)); err != nil {
		t.Fatal(err)
	}
	if _, _, err := trail.Append(batch(1)); !fault.HasKey(err, "audit.trail_writer") {
		t.Errorf("%v", err)
	}
	trail.Close()
	other.Close()
	// Somebody changed a line: it goes on in another file, and Verify tells.
	if whole, err = os.ReadFile(name); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, bytes.Replace(whole, []byte("xxxxx"), []byte("xyxxx"), 1), 0o600); err != nil {
		t.Fatal(err)
	}
	if trail, err = OpenTrail(dir, "house"); err != nil {
		t.Fatal(err)
	}
	fresh, events, err = trail.Append(batch(1)) // line 9 was refused, and is missed
	if err != nil || len(fresh) != 1 || len(events) != 1 || events[0] != (Event{Kind: EventLineGap, SessionID: "6b0336d2.1", From: 9, To: 9}) {
		t.Fatal(fresh, events, err)
	}
	trail.Close()
	v, err := Verify(dir, nil)
	if err != nil || v.Files != 2 || len(v.Problems) != 1 || v.Problems[0].Kind != ProblemEdited || v.Problems[0].Seq != 2 {
		t.Errorf("%+v %v", v, err)
	}
	// Somebody wrote over the whole of the last file: it stays where it is, and Verify tells.
	last := trail.file.Name()
	if err := os.WriteFile(last, []byte("nothing was here\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if trail, err = OpenTrail(dir, "house"); err != nil {
		t.Fatal(err)
	}
	trail.Close()
	if left, err := os.ReadFile(last); err != nil || string(left) != "nothing was here\n" {
		t.Errorf("%q %v", left, err)
	}
	if v, err = Verify(dir, nil); err != nil || v.Files != 3 || !slices.ContainsFunc(v.Problems, func(p Problem) bool { return p.File == filepath.Base(last) && p.Kind == ProblemUnread }) {
		t.Errorf("%+v %v", v, err)
	}
	// One that has no whole line was begun by somebody who was killed: it goes.
	begun := trail.file.Name()
	if err := os.WriteFile(begun, []byte(`{"seq":`), 0o600); err != nil {
		t.Fatal(err)
	}
	if trail, err = OpenTrail(dir, "house"); err != nil {
		t.Fatal(err)
	}
	trail.Close()
	if again, err := Verify(dir, nil); err != nil || again.Files != 3 {
		t.Errorf("%+v %v", again, err)
	}
}

// TestMissingLinesAndRecordsAreSeen takes single lines out of real logs. The log's own end is the one place where nothing shows.
func TestMissingLinesAndRecordsAreSeen(t *testing.T) {
	t.Parallel()
	for _, name := range corpora {
		var lines []Line
		last := map[string]int{}
		for raw := range bytes.Lines(unpack(t, name+".json")) {
			line, err := ParseLine(raw)
			if err != nil {
				t.Fatal(err)
			}
			last[line.SessionID] = len(lines)
			lines = append(lines, line)
		}
		events := func(without int, change func(*Line)) (found []Event) {
			var s sessions
			for i := range lines {
				if i == without && change == nil {
					continue
				}
				line := lines[i]
				if i == without {
					change(&line)
				}
				again, e := s.take(&line)
				if again && change == nil {
					t.Errorf("%s: line %d is taken for one that was read", name, i)
				}
				found = append(found, e...)
			}
			return found
		}
		if found := events(-1, nil); len(found) > 0 {
			t.Errorf("%s: nothing is missing: %+v", name, found)
		}
		missed := 0
		for range 20 {
			i := 10 + rand.IntN(len(lines)-10)
			if i == last[lines[i].SessionID] {
				continue
			}
			found := events(i, nil)
			if len(found) == 0 || found[0].Kind != EventLineGap || found[0].From != lines[i].LineNum || found[0].To != lines[i].LineNum {
				missed++
				t.Errorf("%s: line %d of %d was taken out: %+v", name, i, len(lines), found)
			}
		}
		// Who numbers the lines anew betrays himself by pgAudit's own number.
		for i := len(lines) / 2; i < len(lines); i++ {
			if lines[i].Audit == nil {
				continue
			}
			found := events(i, func(l *Line) {
				r := *l.Audit
				r.StatementID += 2
				l.Audit = &r
			})
			if len(found) == 0 || found[0].Kind != EventStatementGap {
				t.Errorf("%s: %+v", name, found)
			}
			break
		}
	}
}

func BenchmarkTrail(b *testing.B) {
	var lines []Line
	for raw := range bytes.Lines(unpack(b, "c01.json")) {
		line, err := ParseLine(raw)
		if err != nil {
			b.Fatal(err)
		}
		lines = append(lines, line)
	}
	trail, err := OpenTrail(b.TempDir(), "house")
	if err != nil {
		b.Fatal(err)
	}
	defer trail.Close()
	n := 0
	for i := 0; b.Loop(); i++ {
		batch := Batch{Lines: make([]Line, len(lines)), Position: Position{Offset: int64(i + 1)}}
		copy(batch.Lines, lines)
		for k := range batch.Lines { // other sessions each time
			batch.Lines[k].SessionID = fmt.Sprintf("%s%x", batch.Lines[k].SessionID, i)
		}
		fresh, _, err := trail.Append(batch)
		if err != nil {
			b.Fatal(err)
		}
		n += len(fresh)
	}
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "stored/s")
}

// TestWhoVerifiesWhileTheTrailGoesOnFindsNothing: a file that was just being made was taken for one that had been cut.
func TestWhoVerifiesWhileTheTrailGoesOnFindsNothing(t *testing.T) {
	t.Parallel()
	for range 20 { // of a few files: a look takes no longer than the making of the next
		trail, err := OpenTrail(filepath.Join(t.TempDir(), "trail"), "house")
		if err != nil {
			t.Fatal(err)
		}
		written := make(chan error, 1)
		go func() {
			defer close(written)
			for n := range int64(8) {
				trail.mutex.Lock()
				trail.opened = time.Time{} // it is time for another file
				trail.mutex.Unlock()
				if err := trail.Note(Event{Kind: EventSkipped, File: "x", Offset: n}); err != nil {
					written <- err
					return
				}
			}
		}()
		for done := false; !done; {
			select {
			case err := <-written:
				if err != nil {
					t.Fatal(err)
				}
				done = true
			default:
			}
			v, err := Verify(trail.dir, []Head{trail.Head()}) // what it tells is on the disk
			if err != nil || len(v.Problems) > 0 {
				t.Fatalf("%+v, %v", v, err)
			}
			if done && (v.Files != 9 || v.Entries != 8) {
				t.Errorf("%+v", v)
			}
		}
		if err := trail.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestWhoKnocksOnlyMakesNoSessionForgotten: somebody without a password can make as many sessions as they like, and each stood in the first line of each file.
func TestWhoKnocksOnlyMakesNoSessionForgotten(t *testing.T) {
	t.Parallel()
	var s sessions
	at := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	take := func(id string, n int64, message, severity string) []Event {
		at = at.Add(time.Millisecond)
		_, events := s.take(&Line{Time: at, SessionStart: at, SessionID: id, LineNum: n, Message: message, Severity: severity, BackendType: "client backend"})
		return events
	}
	take("people", 1, "connection received", "LOG")
	at = at.Add(time.Minute)
	take("people", 2, "connection authorized", "LOG")
	for n := range 5 * mostSessions {
		id := fmt.Sprintf("knock-%d", n)
		take(id, 1, "connection received", "LOG")
		switch n % 3 {
		case 1:
			take(id, 2, "password authentication failed", "FATAL")
		case 2:
			take(id, 2, "connection authorized", "LOG")
			take(id, 3, "disconnection: session time: 0:00:00.001", "LOG")
		}
	}
	if events := take("people", 9, "something", "LOG"); len(events) != 1 || events[0].Kind != EventLineGap || events[0].From != 3 || events[0].To != 8 {
		t.Errorf("lines of a session that runs were removed, and nobody noticed: %+v", events)
	}
	var line bytes.Buffer
	if err := encode(&line, begin{Sessions: s}); err != nil || line.Len() > 2<<20 {
		t.Errorf("the first line of a file has %d bytes, %v", line.Len(), err)
	}
}
