package audit

import (
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"howdah/internal/fault"
)

// TestIncidentsStandAsTheTrailSays: what was told last, what was answered, and that something louder than the answer is open again.
func TestIncidentsStandAsTheTrailSays(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	trail, err := OpenTrail(dir, "main")
	if err != nil {
		t.Fatal(err)
	}
	defer trail.Close()
	at := time.Date(2026, 9, 1, 9, 0, 0, 0, time.UTC)
	incident := func(id, severity string, reasons ...string) Event {
		i := &Incident{ID: id, Severity: severity, Began: at, Last: at, Count: len(reasons)}
		for _, key := range reasons {
			i.Reasons = append(i.Reasons, Reason{Key: key, Args: map[string]string{"who": "a\x00\xff"}})
		}
		return Event{Kind: EventIncident, Incident: i}
	}
	n := 0
	answer := func(id, what string) Event {
		n++
		return Event{Kind: EventAnswer, Answer: &Answer{ID: fmt.Sprint(n), Incident: id, By: "olive", At: at, What: what}}
	}
	twice := answer("b", Acknowledged)
	for _, events := range [][]Event{
		{incident("a", "medium", "r1"), answer("a", Mine), incident("a", "medium", "r1")},
		{incident("b", "high", "r1"), twice, twice, incident("b", "high", "r1", "r2")},
		{incident("c", "critical", "r1"), answer("c", Mine)},
		{},
		{incident("d", "high", "r1"), answer("d", Muted), answer("d", Reopened), answer("nobody's", Muted)},
		{incident("e", "high", "r1"), answer("e", Acknowledged), incident("e", "critical", "r1"), answer("e", Acknowledged)},
		{{Kind: EventIncident, Incident: &Incident{ID: "f", Severity: "high", Muted: "d"}}},
	} {
		if err := trail.Note(events...); err != nil {
			t.Fatal(err)
		}
	}
	all, err := Incidents(dir)
	if err != nil {
		t.Fatal(err)
	}
	got := ""
	for _, s := range all {
		got += fmt.Sprintf("%s %v %d, ", s.ID, s.Open, len(s.Answers))
	}
	if want := "a false 1, b true 1, c true 1, d true 2, e false 2, f false 0, "; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if v, err := Verify(dir, []Head{trail.Head()}); err != nil || len(v.Problems) > 0 || v.Entries != 18 {
		t.Errorf("%+v, %v", v, err)
	}
	if _, err := Verify(filepath.Join(dir, "none"), nil); !fault.HasKey(err, "audit.trail_none") {
		t.Error(err)
	}
	if none, err := Incidents(filepath.Join(dir, "none")); err != nil || len(none) != 0 {
		t.Errorf("%v, %v", none, err)
	}
}
