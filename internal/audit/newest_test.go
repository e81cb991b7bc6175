package audit

import (
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestTheNewestIsWhatReadingAllWouldFind: reading from the end, and passing files and lines over, changes nothing in what is found.
func TestTheNewestIsWhatReadingAllWouldFind(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "trail")
	trail := makeTrail(t, dir)
	long := Line{Time: time.Date(2026, 9, 30, 0, 0, 0, 0, time.UTC), SessionID: "long", LineNum: 1, User: `o"neil\`, App: "漢 字", Severity: "LOG", Message: "Hello, WORLD " + strings.Repeat("漢", 30_000)}
	if _, _, err := trail.Append(Batch{Lines: []Line{long}}); err != nil {
		t.Fatal(err)
	}
	if err := trail.Note(Event{Kind: EventIncident, Incident: &Incident{ID: "20260901T000000Z-1", Severity: "high", Actor: "anna"}}); err != nil {
		t.Fatal(err)
	}
	// A writer that is at work, or was killed: what has no mark does not count, nor what has no end.
	names, err := trailFiles(dir)
	if err != nil || len(names) < 4 {
		t.Fatal(names, err)
	}
	file, err := os.OpenFile(filepath.Join(dir, names[len(names)-1]), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := trail.add("entry", Entry{Time: long.Time, User: "anna", Message: "not yet"}); err != nil {
		t.Fatal(err)
	}
	if _, err := file.Write(append(trail.buffer.Bytes(), `{"seq":9,"ha`...)); err != nil {
		t.Fatal(err)
	}
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}

	r := NewReader(dir)
	defer r.Close()
	var all []Entry
	end := int64(0)
	for {
		part, err := r.Next(end, 1000)
		if err != nil && err != io.EOF {
			t.Fatal(err)
		}
		if part.End.Seq == 0 {
			break
		}
		all, end = append(all, part.Entries...), part.End.Seq
	}
	if len(all) < 1000 || all[len(all)-1].Event == nil {
		t.Fatal(len(all))
	}
	middle := all[len(all)/2]
	for what, f := range map[string]Filter{
		"all": {}, "from": {From: middle.Time}, "to": {To: middle.Time}, "one moment": {From: middle.Time, To: middle.Time.Add(time.Millisecond)}, "before the trail": {To: all[0].Time.AddDate(-1, 0, 0)},
		"after the trail": {From: long.Time.AddDate(1, 0, 0)}, "role": {Role: middle.User}, "stars": {Role: "*" + middle.User[1:] + "*"}, "class": {Class: "role"}, "session": {Session: middle.SessionID},
		"text": {Text: "cReAtE"}, "text with a sign": {Text: `"`}, "name": {Role: `o"neil\`}, "wide": {App: "*字"}, "nobody": {Role: "nobody at all"}, "incident": {Text: "20260901t000000z-1"}, "long": {Text: "hello, world"},
		"next page": {Before: Cursor{middle.Time, middle.Seq}},
	} {
		for _, limit := range []int{1, 7, 1 << 20} {
			for _, chunk := range []int{1021, 1 << 20} {
				if chunk == 1021 && limit > 7 {
					continue
				}
				var want []int64
				for i := range all {
					if f.Match(&all[i]) {
						want = append(want, all[i].Seq)
					}
				}
				want = want[max(0, len(want)-limit):]
				found, upTo, err := newest(t.Context(), dir, &f, limit, chunk)
				if err != nil || upTo != end {
					t.Fatalf("%s: up to %d of %d, %v", what, upTo, end, err)
				}
				var have []int64
				for _, e := range found {
					have = append(have, e.Seq)
				}
				if !slices.Equal(have, want) {
					t.Errorf("%s, limit %d, chunk %d: %d and not %d entries", what, limit, chunk, len(have), len(want))
				}
			}
		}
	}
	if found, upTo, err := Newest(t.Context(), filepath.Join(dir, "none"), &Filter{}, 1); err != nil || upTo != 0 || found != nil {
		t.Error(found, upTo, err)
	}
}
