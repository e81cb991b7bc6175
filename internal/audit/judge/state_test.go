package judge

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"howdah/internal/audit"
	"howdah/internal/fault"
)

// TestAJudgeGoesOnWhereItStopped: a judge that is saved and loaded now and then says the same, and ends in the same state, as one that never stopped.
func TestAJudgeGoesOnWhereItStopped(t *testing.T) {
	t.Parallel()
	rules := ours(t)
	lines := bytes.SplitAfter(unpack(t, "timeline.json.zst"), []byte("\n"))
	run := func(every int) (string, string) {
		j := New(rules, Options{})
		var said strings.Builder
		for n, raw := range lines {
			if len(raw) == 0 {
				continue
			}
			l, err := audit.ParseLine(raw)
			if err != nil {
				t.Fatal(err)
			}
			for _, v := range j.Line(&l) {
				id := ""
				if v.Incident != nil {
					id = v.Incident.ID
				}
				fmt.Fprintln(&said, l.Time, v.Rule, v.Severity, rules.Text(v.Reason, "en"), id, v.Change)
			}
			if every > 0 && n%every == 0 {
				var saved bytes.Buffer
				if err := j.Save(&saved); err != nil {
					t.Fatal(err)
				}
				next := New(rules, Options{})
				if err := next.Load(&saved); err != nil {
					t.Fatal(err)
				}
				next.lines = j.lines // when it sweeps is no matter of what it says
				j = next
			}
		}
		var state bytes.Buffer
		if err := j.Save(&state); err != nil {
			t.Fatal(err)
		}
		return said.String(), state.String()
	}
	said, state := run(0)
	again, after := run(997)
	if said == "" || said != again {
		t.Error("a judge that was loaded says something else")
	}
	if state != after {
		t.Error("a judge that was loaded ends in another state")
	}
	if err := New(rules, Options{}).Load(strings.NewReader(`{"Version":99}`)); fault.Of(err).Key != "judge.state" {
		t.Errorf("a state of another version: %v", err)
	}
}

// TestHolesAndForgeries: a line or a statement that is missing is noticed, also at the beginning of a session, and one that only looks like a record is no record.
func TestHolesAndForgeries(t *testing.T) {
	t.Parallel()
	start := time.Date(2026, 9, 1, 9, 0, 0, 0, time.UTC)
	line := func(session string, number, statement int64, change func(*audit.Line)) *audit.Line {
		l := &audit.Line{Time: start.Add(3 * time.Minute), SessionStart: start.Add(time.Minute), SessionID: session, LineNum: number, User: "anna", DB: "d", App: "psql", RemoteHost: "10.0.0.1",
			Severity: "LOG", BackendType: "client backend", TXID: 7}
		if statement > 0 {
			l.Audit = &audit.Record{Type: "SESSION", StatementID: statement, SubstatementID: 1, Class: "DDL", Command: "COMMENT", Statement: "COMMENT ON TABLE t IS 'x'", Rows: -1}
		}
		if change != nil {
			change(l)
		}
		return l
	}
	first := line("old", 40, 9, func(l *audit.Line) { l.Time, l.SessionStart = start, start.Add(-time.Hour) })
	for name, c := range map[string]struct {
		lines []*audit.Line
		want  string
	}{
		"whole":               {[]*audit.Line{line("a", 1, 1, nil), line("a", 2, 1, nil), line("a", 3, 2, nil)}, ""},
		"a session before us": {[]*audit.Line{line("old", 41, 10, nil)}, ""},
		"a line":              {[]*audit.Line{line("a", 1, 1, nil), line("a", 3, 2, nil)}, "watch.gap"},
		"the first line":      {[]*audit.Line{line("a", 2, 1, nil)}, "watch.gap"},
		"a statement":         {[]*audit.Line{line("a", 1, 1, nil), line("a", 2, 3, nil)}, "watch.gap"},
		"raised":              {[]*audit.Line{line("a", 1, 0, func(l *audit.Line) { l.Forged, l.Message = true, "AUDIT: SESSION,1,1,ROLE" })}, "watch.forged"},
		"a name of two lines": {[]*audit.Line{line("a", 1, 0, func(l *audit.Line) { l.User, l.Severity, l.State = "x\ny", "FATAL", "28P01" })}, "watch.forged"},
	} {
		j := New(ours(t), Options{})
		j.Line(first)
		var got []string
		for _, l := range c.lines {
			for _, v := range j.Line(l) {
				got = appendNew(got, v.Rule)
			}
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%s: %v, want %q", name, got, c.want)
		}
	}
}

// TestOneSessionIsOneIncident: what one person does from one place is one message that grows, and what was undone is no longer loud.
func TestOneSessionIsOneIncident(t *testing.T) {
	t.Parallel()
	j := New(ours(t), Options{})
	at := time.Date(2026, 9, 1, 3, 0, 0, 0, time.UTC)
	var changes []Change
	var incident *Incident
	for n, sql := range []string{"CREATE ROLE eve SUPERUSER", "CREATE ROLE eve2 SUPERUSER", "GRANT pg_read_server_files TO eve", "CREATE TABLE t(a int)"} {
		kind := kindsIn(sql)[0]
		for _, v := range j.Line(&audit.Line{Time: at.Add(time.Duration(n) * time.Minute), SessionStart: at, SessionID: "s", LineNum: int64(n + 1), User: "anna", RemoteHost: "10.0.0.1",
			Severity: "LOG", BackendType: "client backend", TXID: uint64(100 + n), Audit: &audit.Record{Type: "SESSION", StatementID: int64(n + 1), SubstatementID: 1, Class: "ROLE",
				Command: strings.ToUpper(kind), Statement: sql, Rows: -1}}) {
			if v.Incident != nil {
				changes, incident = append(changes, v.Change), v.Incident
			}
		}
	}
	if fmt.Sprint(changes) != fmt.Sprint([]Change{Began, Another, Louder}) || incident == nil || incident.Count != 3 || incident.Severity != Critical {
		t.Fatalf("%v: %+v", changes, incident)
	}
	for xid := uint64(100); xid < 103; xid++ {
		j.Outcome(xid, false)
	}
	if incident.Severity != Medium || len(incident.Undone) != 3 {
		t.Errorf("rolled back, and still %s: %+v", incident.Severity, incident)
	}
}
