package judge

import (
	"fmt"
	"testing"
	"time"

	"howdah/internal/audit"
)

// TestAnEventTriggersWordIsNotASecondAct: what log_statement wrote is judged once, and gets its transaction and schema from the trigger's line; what a block did is judged by that line alone; and a role that was made in the same
// transaction is not explained by it.
func TestAnEventTriggersWordIsNotASecondAct(t *testing.T) {
	t.Parallel()
	rules, err := LoadRules(nil)
	if err != nil {
		t.Fatal(err)
	}
	j := New(rules, Options{})
	start := time.Date(2026, 9, 1, 3, 0, 0, 0, time.UTC)
	number := int64(0)
	line := func(l audit.Line) []Verdict {
		number++
		l.Time, l.SessionStart, l.SessionID, l.LineNum = start.Add(time.Duration(number)*time.Millisecond), start, "s", number
		l.User, l.DB, l.App, l.RemoteHost, l.Severity, l.BackendType = "eve", "shop", "psql", "10.0.0.1", "LOG", "client backend"
		return j.Line(&l)
	}
	tell := func(txid uint64, context, kind, object, statement string) []Verdict {
		return line(audit.Line{TXID: txid, Context: "PL/pgSQL function howdah_watch.tell() line 20 at RAISE" + context,
			Audit: &audit.Record{Type: audit.Triggered, Class: "DDL", Command: kind, ObjectType: "TABLE", ObjectName: object, Statement: statement, Rows: -1}})
	}
	line(audit.Line{Message: "statement: DROP TABLE till, safe CASCADE"})
	if len(j.state.Incidents) != 1 {
		t.Fatalf("%+v", j.state.Incidents)
	}
	i := j.state.Incidents[0]
	count := i.Count
	tell(77, "", "DROP TABLE", "cash.till", "")
	if v := tell(77, "", "DROP TABLE", "cash.safe", ""); len(v) != 1 || v[0].Incident != i || v[0].Change != Grew {
		t.Errorf("%+v", v)
	}
	if i.Count != count || len(i.TXIDs) != 1 || i.TXIDs[0] != 77 || len(i.Losses) != 2 || i.Losses[0].Object != "cash.till" || i.Losses[0].TXID != 77 || i.Losses[1].Object != "cash.safe" {
		t.Errorf("%+v", i)
	}
	// In a block there is no other line.
	tell(78, "\nSQL statement \"DROP TABLE cash.coins CASCADE\"\nPL/pgSQL function inline_code_block line 1 at EXECUTE", "DROP TABLE", "cash.coins", "DROP TABLE cash.coins CASCADE")
	if i.Count <= count || len(i.TXIDs) != 2 || len(i.Losses) != 3 || i.Losses[2].TXID != 78 || len(i.Further) == 0 {
		t.Errorf("%+v", i)
	}
	if v := line(audit.Line{TXID: 79, Context: "PL/pgSQL function howdah_watch.tell() line 40 at RAISE",
		Audit: &audit.Record{Type: audit.Triggered, Class: "DDL", Command: audit.TriggerFailed, ObjectName: "division by zero", Rows: -1}}); len(v) != 1 || v[0].Rule != "watch.blinded" || v[0].Event.Detail != "division by zero" {
		t.Errorf("a trigger that failed: %+v", v)
	}
	at := start.Add(time.Minute)
	j.Reconcile(&Snapshot{At: at})
	j.Reconcile(&Snapshot{At: at, Scope: "shop"})
	var found []string
	for _, s := range []*Snapshot{{At: at.Add(time.Minute), Rows: []Row{{Type: "role", Name: "ghost", XMin: 78, Says: "superuser"}}},
		{At: at.Add(time.Minute), Scope: "shop", Rows: []Row{{Type: "function", Name: "cash.count()", XMin: 78}}}} {
		for _, v := range j.Reconcile(s) {
			found = append(found, v.Rule+" "+v.Event.ObjectName)
		}
	}
	if len(found) != 1 || found[0] != "watch.unexplained ghost" {
		t.Errorf("%q", found)
	}
}

// TestWhatTriggersTellIsForgottenInTime: a session that goes on for days does not fill up with what it destroyed long ago.
func TestWhatTriggersTellIsForgottenInTime(t *testing.T) {
	t.Parallel()
	rules, err := LoadRules(nil)
	if err != nil {
		t.Fatal(err)
	}
	j := New(rules, Options{})
	s := &session{}
	start := time.Date(2026, 9, 1, 3, 0, 0, 0, time.UTC)
	for i := range mostLosses + 10 {
		s.HeardAt = start.Add(time.Duration(i) * (together + time.Second))
		j.echo(&Event{Kind: "drop table", Time: s.HeardAt, Status: Unknown, Echo: true, Triggered: true, ObjectType: "TABLE", ObjectName: fmt.Sprintf("cash.till%d", i), TXID: uint64(i + 1)}, s)
	}
	if len(s.Lost) != 1 || s.Lost[0].TXID != mostLosses+10 {
		t.Errorf("%+v", s.Lost)
	}
}
