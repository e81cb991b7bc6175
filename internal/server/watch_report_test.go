package server

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"howdah/internal/audit"
	"howdah/internal/audit/judge"
	"howdah/internal/cluster"
	"howdah/internal/keeper"
	"howdah/internal/lang"
	"howdah/internal/pg/pgtest"
)

// TestADigestIsSaidOnceForEachTimeAndMadeUpWhenItWasMissed: a house that was off for weeks says one, about all of them; a watch that was killed before it could write down that it has said it says nothing twice.
func TestADigestIsSaidOnceForEachTimeAndMadeUpWhenItWasMissed(t *testing.T) {
	t.Parallel()
	c, err := cluster.New(t.TempDir(), cluster.Installation{}, cluster.Options{})
	if err != nil {
		t.Fatal(err)
	}
	day := (time.Now().Weekday() + 3) % 7 // no moment of the schedule is near: none comes while this runs
	weekly, err := keeper.ParseWhen(fmt.Sprintf("0 8 * * %d", day))
	if err != nil {
		t.Fatal(err)
	}
	s := newServer(Options{Cluster: c, Log: slog.New(slog.DiscardHandler), Lang: "en", Digest: weekly})
	db := pgtest.New(t)
	olive := newOnlooker(t, s, db.App, db.Steady)
	digests := func() (said []string) {
		t.Helper()
		_, messages := olive.sees()
		for _, m := range messages {
			said = append(said, m.Body)
		}
		return said
	}
	open := func() *watcher {
		t.Helper()
		w, err := newWatcher(s.watch)
		if err != nil {
			t.Fatal(err)
		}
		return w
	}
	speak := func(w *watcher) {
		t.Helper()
		w.asked = time.Time{}
		if _, err := w.speak(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	w := open()
	speak(w) // a house that has just begun has nothing to report
	if w.digests.making || w.digests.upTo.IsZero() || len(digests()) != 0 {
		t.Fatalf("%+v", w.digests)
	}
	rights := &audit.Rights{At: time.Now(), Rows: []audit.Right{{Kind: audit.RightPower, Who: "eve*", What: "superuser"}}}
	w.noteRights(rights)
	w.noteRights(rights)
	if len(w.notes) != 1 {
		t.Errorf("%d notes of rights that have not changed", len(w.notes))
	}
	w.flush()
	began := time.Now().AddDate(0, 0, -20)
	w.digests.upTo = began
	if err := w.save(); err != nil {
		t.Fatal(err)
	}
	for kill := range 2 {
		w = open()
		for !w.digests.upTo.After(began.Add(24 * time.Hour)) {
			if speak(w); w.digests.making { // it is made beside the watch
				d := <-w.digests.done
				w.digests.done <- d
			}
		}
		speak(w)
		said := digests()
		if len(said) != 1 || !strings.Contains(said[0], "Report of the watch, "+minute(began)) || w.digests.making {
			t.Fatalf("%d: %v", kill, said)
		}
		due := w.digests.upTo
		if due.Weekday() != day || due.Hour() != 8 || time.Since(due) > 8*24*time.Hour {
			t.Errorf("%v", due)
		}
		w.digests.upTo = began // as if it was killed before it was written
		if err := w.save(); err != nil {
			t.Fatal(err)
		}
	}
	w.closeTrail()
}

// TestAReportIsReadInBothLanguages: for the room and for a terminal, and no name in it is anything but a name.
func TestAReportIsReadInBothLanguages(t *testing.T) {
	t.Parallel()
	rules, err := judge.LoadRules(nil)
	if err != nil {
		t.Fatal(err)
	}
	at := time.Now()
	who := "eve`*\u202e"
	r := &audit.Report{From: at.AddDate(0, 0, -7), To: at, Begins: at.AddDate(0, 0, -3), Missing: 3,
		Roles:     []audit.RoleChanges{{Role: who, Kinds: []audit.Count{{Name: "GRANT", Count: 2}}, Objects: []audit.Count{{Name: who, Count: 1}}, Texts: []string{"GRANT `all`"}, Refused: 4}},
		Incidents: []*audit.Standing{{Incident: audit.Incident{ID: "a", Severity: "high", Rule: "role.superuser", Actor: who}, Open: true}, {Incident: audit.Incident{ID: "b", Severity: "low", Rule: "gone"}, Answers: []audit.Answer{{What: audit.Mine, Name: who}}}},
		Logins:    []audit.FailedLogin{{Role: who, Source: "10.0.0.1", Count: 9}},
		Now:       &audit.Rights{At: at, Rows: []audit.Right{{Kind: audit.RightPower, Who: who, What: "superuser"}, {Kind: audit.RightMember, Who: who, What: "staff"}}},
		Before:    &audit.Rights{At: at.AddDate(0, 0, -7), Rows: []audit.Right{{Kind: audit.RightOwner, Who: who, What: "schema x"}, {Kind: audit.RightPublic, Who: "PUBLIC", What: "SELECT on y"}}}}
	for range 20 {
		r.Sources = append(r.Sources, audit.NewSource{Role: who, Source: "10.0.0.1", App: "psql", First: at, Count: 1})
	}
	for _, l := range lang.Locales {
		for _, markdown := range []bool{true, false} {
			text := ReportText(r, rules, l, markdown)
			if strings.Contains(text, "server.") || strings.Contains(text, "web.js") || strings.ContainsAny(text, "{}\u202e") || strings.Count(text, "10.0.0.1") != mostLines+1 {
				t.Errorf("%s", text)
			}
			if markdown && strings.Contains(text, "eve`*") || markdown != strings.Contains(text, "**") {
				t.Errorf("%s", text)
			}
			if l == "en" && (!strings.Contains(text, "GRANT 2") || !strings.Contains(text, "refused: 4") || !strings.Contains(text, "OPEN") || !strings.Contains(text, "is a member of") || !strings.Contains(text, "and 5 more") || !strings.Contains(text, "A superuser")) {
				t.Errorf("%s", text)
			}
		}
	}
	r.Now, r.Incidents[0].Severity = nil, ""
	if text := ReportText(r, rules, "en", false); !strings.Contains(text, "Nobody has noted them") {
		t.Error(text)
	}
}
