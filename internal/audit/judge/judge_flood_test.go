package judge

import (
	"fmt"
	"testing"
	"time"

	"howdah/internal/audit"
)

// TestWhoKnocksFillsNoRoom: whoever is not let in can say any name, and each name was an incident of its own: somebody without a password could fill #ops with alerts, among which
// nobody finds the one that matters.
func TestWhoKnocksFillsNoRoom(t *testing.T) {
	t.Parallel()
	rules, err := LoadRules(nil)
	if err != nil {
		t.Fatal(err)
	}
	for what, line := range map[string]func(n int, l *audit.Line){
		"names":                      func(n int, l *audit.Line) { l.User = fmt.Sprintf("user%d", n) },
		"names that look like lines": func(n int, l *audit.Line) { l.User = fmt.Sprintf("user%d\nLOG:  AUDIT: SESSION", n) },
		"names from many places": func(n int, l *audit.Line) {
			l.User, l.RemoteHost = fmt.Sprintf("user%d\n", n), fmt.Sprintf("203.%d.%d.9", n%250, n/250)
		},
	} {
		j := New(rules, Options{})
		began, told := 0, 0
		at := time.Date(2026, 9, 1, 9, 0, 0, 0, time.UTC)
		for n := range 1000 {
			at = at.Add(100 * time.Millisecond)
			l := audit.Line{Time: at, SessionStart: at, SessionID: fmt.Sprintf("s%d", n), LineNum: 1, DB: "shop", RemoteHost: "203.0.113.9", Severity: "FATAL", State: "28P01",
				Message: "password authentication failed", BackendType: "client backend"}
			line(n, &l)
			for _, v := range j.Line(&l) {
				if v.Change == Began {
					began++
				}
				if v.Incident != nil {
					told++
				}
			}
		}
		if told < 900 || began == 0 || began > 25 {
			t.Errorf("%s: %d alarms are %d incidents", what, told, began)
		}
		// What is critical is never folded into them, and who comes in after guessing belongs to the guesses.
		at = at.Add(time.Second)
		l := audit.Line{Time: at, SessionStart: at, SessionID: "in", LineNum: 1, User: "mallory", DB: "shop", RemoteHost: "203.0.113.9", Severity: "LOG", BackendType: "client backend",
			Audit: &audit.Record{Type: "SESSION", StatementID: 1, SubstatementID: 1, Class: "ROLE", Command: "ALTER ROLE", Statement: "ALTER ROLE mallory SUPERUSER", Rows: -1}}
		loud := false
		for _, v := range j.Line(&l) {
			loud = loud || v.Incident != nil && v.Severity == Critical && v.Change != Grew && v.Incident.Actor == "mallory"
		}
		if !loud {
			t.Errorf("%s: a new superuser among them is not told", what)
		}
	}
}
