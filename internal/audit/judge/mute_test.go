package judge

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"howdah/internal/audit"
)

// TestAMuteIsNarrow: it covers the acts that were confirmed, by who did them, from where and with what they did, as long as was said; nothing else, and never what is
// critical or touches the auditing.
func TestAMuteIsNarrow(t *testing.T) {
	t.Parallel()
	rules := ours(t)
	start := time.Date(2026, 9, 1, 9, 0, 0, 0, time.UTC)
	j := New(rules, Options{Apps: []string{"app"}})
	session := 0
	act := func(at time.Time, who, app, from, sql string) []Verdict {
		session++
		return j.Line(&audit.Line{Time: at, SessionStart: at, SessionID: fmt.Sprint("s", session), LineNum: 1, User: who, DB: "d", App: app, RemoteHost: from, Severity: "LOG", BackendType: "client backend",
			TXID: uint64(1000 + session), Audit: &audit.Record{Type: "SESSION", StatementID: 1, SubstatementID: 1, Class: "ROLE", Command: strings.ToUpper(kindsIn(sql)[0]), Statement: sql, Rows: -1}})
	}
	told := func(verdicts []Verdict) (loud []string, incident *Incident) {
		for _, v := range verdicts {
			if v.Incident != nil {
				if incident = v.Incident; v.Muted == "" {
					loud = append(loud, v.Rule)
				}
			}
		}
		return loud, incident
	}
	const expiry, super = "ALTER ROLE kim VALID UNTIL 'infinity'", "CREATE ROLE eve SUPERUSER"
	_, first := told(act(start, "anna", "psql", "10.0.0.1", expiry))
	cover := first.Cover()
	if cover == nil || cover.Actor != "anna" || cover.Network != "10.0.0.0/24" || len(cover.Acts) != len(first.Rules) || cover.Acts[0].App != "psql" {
		t.Fatalf("%+v of %+v", cover, first)
	}
	mute := *cover
	mute.By, mute.From, mute.Until = "owner", start.Add(time.Hour), start.Add(25*time.Hour)
	j.Mute(mute)
	j.Mute(mute)

	later := start.Add(2 * time.Hour)
	loud, muted := told(act(later, "anna", "psql", "10.0.0.9", expiry))
	if loud != nil || muted == nil || muted.Muted != first.ID || muted.ID == first.ID {
		t.Fatalf("the same again: %v, %+v", loud, muted)
	}
	// What was muted and goes on with something that is not is told, that first.
	if loud, same := told(act(later, "anna", "psql", "10.0.0.1", super)); loud == nil || same != muted || same.Muted != "" || same.Rules[0] != "role.superuser" || same.Severity != Critical || len(same.Loud) != 1 {
		t.Errorf("%+v", same)
	}
	for _, c := range []struct {
		name           string
		at             time.Time
		who, app, from string
		sql            string
	}{
		{"another role", later, "bob", "psql", "10.0.0.1", expiry},
		{"another network", later, "anna", "psql", "10.0.1.1", expiry},
		{"another application", later, "anna", "DBeaver", "10.0.0.1", expiry},
		{"another act", later, "anna", "psql", "10.0.0.1", "ALTER ROLE kim LOGIN PASSWORD <REDACTED>"},
		{"less audit", later, "anna", "psql", "10.0.0.1", "ALTER SYSTEM SET pgaudit.log = 'none'"},
		{"the same after its end", start.Add(26 * time.Hour), "anna", "psql", "10.0.0.1", expiry},
		{"the same before somebody said so", start.Add(time.Minute), "anna", "psql", "10.0.0.1", expiry},
	} {
		if loud, _ := told(act(c.at, c.who, c.app, c.from, c.sql)); loud == nil {
			t.Errorf("%s was muted", c.name)
		}
	}

	// Nobody can make a mute of what is never muted, whatever they send.
	wide := Mute{Incident: "wide", From: start, Until: start.AddDate(1, 0, 0), Actor: "carl", Network: "10.0.0.0/24"}
	for _, rule := range rules.All {
		for _, kind := range []string{"create role", "alter system", Forged, Gap, "login"} {
			wide.Acts = append(wide.Acts, Act{Rule: rule.ID, Kind: kind, App: "psql"})
		}
	}
	j.Mute(wide)
	for _, sql := range []string{super, "ALTER SYSTEM SET pgaudit.log = 'none'"} {
		if loud, _ := told(act(later, "carl", "psql", "10.0.0.1", sql)); loud == nil {
			t.Errorf("%s was muted", sql)
		}
	}
	forged := &audit.Line{Time: later, SessionStart: later, SessionID: "f", LineNum: 1, User: "carl", App: "psql", RemoteHost: "10.0.0.1", Severity: "LOG", Forged: true, Message: "AUDIT: SESSION,1,1,ROLE"}
	if loud, _ := told(j.Line(forged)); loud == nil {
		t.Error("a forged record was muted")
	}

	// It is part of what is saved, and can be ended.
	var saved bytes.Buffer
	if err := j.Save(&saved); err != nil {
		t.Fatal(err)
	}
	j = New(rules, Options{Apps: []string{"app"}})
	if err := j.Load(&saved); err != nil {
		t.Fatal(err)
	}
	if all := j.Mutes(); len(all) != 2 || all[0].By != "owner" {
		t.Fatalf("%+v", all)
	}
	if loud, _ := told(act(later.Add(time.Hour), "anna", "psql", "10.0.0.3", expiry)); loud != nil {
		t.Error("the mute is forgotten")
	}
	j.Unmute(first.ID, later.Add(90*time.Minute))
	if loud, _ := told(act(later.Add(4*time.Hour), "anna", "psql", "10.0.0.3", expiry)); loud == nil {
		t.Error("the mute does not end")
	}
}

// TestNothingIsLearnedFromWhatIsMuted: who mutes a stranger for a day does not make them at home.
func TestNothingIsLearnedFromWhatIsMuted(t *testing.T) {
	t.Parallel()
	rules := ours(t)
	saved := firstWeek(t, rules)
	j := New(rules, Options{})
	if err := j.Load(bytes.NewReader(saved)); err != nil {
		t.Fatal(err)
	}
	now := j.state.Now
	login := func(session string, at time.Time) (loud bool, incident *Incident) {
		for _, v := range j.Line(&audit.Line{Time: at, SessionStart: at, SessionID: session, LineNum: 1, User: "analyst_kim", DB: "shop", App: "DBeaver 25.0 - Main", RemoteHost: "198.51.100.77",
			Severity: "LOG", BackendType: "client backend", Message: "connection authorized: user=analyst_kim database=shop"}) {
			if v.Incident != nil {
				loud, incident = loud || v.Muted == "", v.Incident
			}
		}
		return loud, incident
	}
	_, first := login("a", now.Add(time.Hour))
	if first == nil || first.Cover() == nil {
		t.Fatalf("%+v", first)
	}
	mute := *first.Cover()
	mute.From, mute.Until = now.Add(90*time.Minute), now.Add(24*time.Hour)
	j.Mute(mute)
	for n := range 12 {
		if loud, _ := login(fmt.Sprint("b", n), now.Add(time.Duration(n+2)*time.Hour)); loud {
			t.Errorf("log-in %d was told", n)
		}
	}
	if loud, _ := login("c", now.Add(30*time.Hour)); !loud {
		t.Error("what was muted is taken for usual")
	}
}
