package audit

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// TestWhatIsRemovedForItsAgeIsToldFromWhatSomebodyRemoved: what is left verifies, and says what is gone; a file that somebody takes away is missing.
func TestWhatIsRemovedForItsAgeIsToldFromWhatSomebodyRemoved(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "trail")
	trail, err := OpenTrail(dir, "main")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { trail.Close() }()
	var heads []Head // of the files' ends
	for i := range 6 {
		trail.opened = time.Time{} // it is time for another file
		at := time.Now().UTC()
		b := Batch{Lines: []Line{{Time: at, SessionStart: at, SessionID: "a.1", LineNum: int64(i + 1), User: "anna", Message: fmt.Sprint(i), Severity: "LOG", BackendType: "client backend"}},
			Position: Position{Offset: int64(i + 1)}}
		if fresh, events, err := trail.Append(b); err != nil || len(fresh) != 1 || len(events) != 0 {
			t.Fatal(fresh, events, err)
		}
		heads = append(heads, trail.Head())
	}
	slow := NewReader(dir) // somebody who reads behind
	defer slow.Close()
	if part, err := slow.Next(0, 1); err != nil || len(part.Entries) != 1 {
		t.Fatal(part, err)
	}
	files := func() int {
		t.Helper()
		names, err := trailFiles(dir)
		if err != nil {
			t.Fatal(err)
		}
		return len(names)
	}
	verify := func(heads ...Head) Verification {
		t.Helper()
		v, err := Verify(dir, heads)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	had := files()
	retain := func(keep Keep, stored int64, removed int) {
		t.Helper()
		gone, err := trail.Retain(keep, stored)
		if err != nil || len(gone) != removed || files() != had-removed {
			t.Fatalf("%d of %d files are left: %+v, %v", files(), had, gone, err)
		}
		had -= removed
	}
	retain(Keep{}, 1<<40, 0)
	retain(Keep{Age: time.Hour, Size: 1 << 40}, 1<<40, 0)
	retain(Keep{Age: 1}, 0, 0)     // the tables do not have it
	retain(Keep{Age: 1}, 1<<40, 1) // one at a time
	if v := verify(heads...); len(v.Problems) != 0 || v.Removed == nil || v.Removed.Why != RemovedAge || v.Removed.From != 1 || len(v.Gone) > 2 {
		t.Errorf("%+v", v)
	}
	retain(Keep{Age: 1}, 1<<40, 1)
	first, err := trailFiles(dir)
	if err != nil {
		t.Fatal(err)
	}
	old, err := os.ReadFile(filepath.Join(dir, first[0]))
	if err != nil {
		t.Fatal(err)
	}
	retain(Keep{Age: 1}, 1<<40, 1)
	if v := verify(heads...); len(v.Problems) != 0 || v.Removed.To != heads[len(v.Gone)-1].Seq || !slices.Contains(v.Gone, heads[0]) {
		t.Errorf("%+v", v)
	}
	if part, err := slow.Next(2, 100); err != nil || len(part.Entries) == 0 || part.Entries[0].Seq <= 2 {
		t.Errorf("who reads behind is stopped: %+v, %v", part, err)
	}
	// Killed after it was noted, and before the file was gone: it is removed the next time.
	if err := os.WriteFile(filepath.Join(dir, first[0]), old, 0o600); err != nil {
		t.Fatal(err)
	}
	had++
	if v := verify(); len(v.Problems) != 0 {
		t.Errorf("%+v", v)
	}
	retain(Keep{Age: 1}, 1<<40, 1)
	// Who takes a file away is found, and what goes on is written as before.
	first, err = trailFiles(dir)
	if err != nil {
		t.Fatal(err)
	}
	aside := filepath.Join(t.TempDir(), "aside")
	if err := os.Rename(filepath.Join(dir, first[0]), aside); err != nil {
		t.Fatal(err)
	}
	if v := verify(); len(v.Problems) != 1 || v.Problems[0].Kind != ProblemMissing || v.Removed != nil {
		t.Errorf("%+v", v)
	}
	if err := os.Rename(aside, filepath.Join(dir, first[0])); err != nil {
		t.Fatal(err)
	}
	last := trail.Head()
	retain(Keep{Size: 1}, 0, had-1)
	if v := verify(last); len(v.Problems) != 0 || v.Removed.Why != RemovedSize || v.Files != 1 {
		t.Errorf("%+v", v)
	}
	retain(Keep{Size: 1}, 0, 0) // the newest stays
	if err := trail.Close(); err != nil {
		t.Fatal(err)
	}
	if trail, err = OpenTrail(dir, "main"); err != nil || trail.Position().Offset != 6 {
		t.Fatal(trail.Position(), err)
	}
	if fresh, _, err := trail.Append(Batch{Lines: []Line{{Time: time.Now(), SessionID: "a.1", LineNum: 3}}, Position: Position{Offset: 6}}); err != nil || len(fresh) != 0 {
		t.Error("a line of a removed file is new", err)
	}
}
