package server

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"howdah/internal/audit"
	"howdah/internal/chat"
	"howdah/internal/cluster"
	"howdah/internal/pg/pgtest"
)

// TestAnAnswerOutlivesADatabaseThatGoesBack: the alert is told again in a database that knows nothing of it, and is answered there as it was; who answers there first is heard too.
func TestAnAnswerOutlivesADatabaseThatGoesBack(t *testing.T) {
	t.Parallel()
	c, err := cluster.New(t.TempDir(), cluster.Installation{}, cluster.Options{})
	if err != nil {
		t.Fatal(err)
	}
	s := newServer(Options{Cluster: c, Log: slog.New(slog.DiscardHandler), Lang: "en"})
	w, err := newWatcher(s.watch)
	if err != nil {
		t.Fatal(err)
	}
	var olive *onlooker
	move := func() { // to another database
		t.Helper()
		db := pgtest.New(t)
		olive = newOnlooker(t, s, db.App, db.Steady)
	}
	speak := func() {
		t.Helper()
		w.asked = time.Time{} // it is time to listen again
		if _, err := w.speak(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	move()
	at := time.Now().UTC()
	act := func(from, sql string) {
		b := audit.Batch{Lines: []audit.Line{{Time: at, SessionStart: at, SessionID: from, LineNum: 1, User: "anna", DB: "d", App: "psql", RemoteHost: from, Severity: "LOG",
			BackendType: "client backend", Audit: &audit.Record{Type: "SESSION", StatementID: 1, SubstatementID: 1, Class: "ROLE", Command: "ALTER ROLE", Statement: sql, Rows: -1}}}}
		w.take(b)
		w.keep(b)
		speak()
	}
	// Where the trail cannot be written, people are told all the same.
	trail := filepath.Join(c.Dir(), TrailFolder)
	if err := os.WriteFile(trail, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	act("10.0.0.1", "ALTER ROLE kim VALID UNTIL 'infinity'")
	act("10.9.0.1", "ALTER ROLE lee VALID UNTIL 'infinity'")
	room, messages := olive.alerts()
	if len(messages) != 2 || messages[0].Alert == nil {
		t.Fatalf("%+v", messages)
	}
	first := messages[0]
	if _, err := olive.rooms.Answer(t.Context(), olive.Person, chat.AnswerDraft{Room: room, Seq: first.Seq, ClientID: chat.NewID(), What: chat.Muted, Days: 7, Cover: first.Alert.Cover.ID()}); err != nil {
		t.Fatal(err)
	}
	speak()
	if len(w.judge.Mutes()) != 1 {
		t.Fatal("the mute was not heard")
	}

	move()
	speak()
	speak()
	room, messages = olive.alerts()
	again := slices.IndexFunc(messages, func(m chat.Message) bool { return m.Alert.Incident == first.Alert.Incident })
	if len(messages) != 2 || again < 0 || messages[again].Alert.State != chat.Muted || messages[again].Alert.Answers[0].By.Name != "Olive" || messages[1-again].Alert.State != chat.AlertOpen {
		t.Fatalf("%+v", messages)
	}
	if _, err := olive.rooms.Answer(t.Context(), olive.Person, chat.AnswerDraft{Room: room, Seq: messages[again].Seq, ClientID: chat.NewID(), What: chat.Reopened}); err != nil {
		t.Fatal(err)
	}
	speak()
	if err := os.Remove(trail); err != nil {
		t.Fatal(err)
	}
	if err := w.save(); err != nil { // and it is killed before it could write the trail
		t.Fatal(err)
	}
	notes := len(w.notes)
	if w.closeTrail(); len(w.backlog)+len(w.notes) != 0 {
		t.Errorf("%d batches and %d notes are not on the trail", len(w.backlog), len(w.notes))
	}
	if next, err := newWatcher(s.watch); err != nil || len(next.notes) != notes || notes == 0 {
		t.Errorf("%d notes are left after a kill, not %d: %v", len(next.notes), notes, err)
	}
	onTrail := map[string]int{}
	for _, line := range trailLines(t, trail) {
		var l struct {
			Entry struct {
				User  string
				Event *audit.Event
			}
		}
		if err := json.Unmarshal(line, &l); err != nil {
			t.Fatal(err)
		}
		switch e := l.Entry.Event; {
		case l.Entry.User == "anna":
			onTrail["line"]++
		case e != nil && e.Kind == audit.EventIncident && e.Incident.Rule == "role.no-expiry":
			onTrail["incident"]++
		case e != nil && e.Kind == audit.EventAnswer && e.Answer.By == "olive":
			onTrail[e.Answer.What]++
			if e.Answer.What == audit.Muted && (e.Answer.Mute == nil || e.Answer.Mute.Network != "10.0.0.0/24" || e.Answer.Until == nil) {
				t.Errorf("%+v", e.Answer)
			}
		}
	}
	if onTrail["line"] != 2 || onTrail["incident"] < 2 || onTrail[audit.Muted] != 1 || onTrail[audit.Reopened] != 1 {
		t.Errorf("%v", onTrail)
	}
	if mutes := w.judge.Mutes(); len(mutes) != 1 || mutes[0].Until.After(time.Now().Add(time.Hour)) || len(w.answers) != 2 {
		t.Errorf("%+v", mutes)
	}
}

// TestWhatIsDueIsToldAfterARestart: what was found while the database was away, or while nobody had an account, is not forgotten with the process; nor is a mute.
func TestWhatIsDueIsToldAfterARestart(t *testing.T) {
	t.Parallel()
	c, err := cluster.New(t.TempDir(), cluster.Installation{}, cluster.Options{})
	if err != nil {
		t.Fatal(err)
	}
	open := func() *watcher {
		t.Helper()
		w, err := newWatcher(newServer(Options{Cluster: c, Log: slog.New(slog.DiscardHandler), Lang: "en"}).watch)
		if err != nil {
			t.Fatal(err)
		}
		return w
	}
	start := time.Date(2026, 9, 1, 9, 0, 0, 0, time.UTC)
	act := func(session string, at time.Time, sql string) audit.Batch {
		return audit.Batch{Lines: []audit.Line{{Time: at, SessionStart: at, SessionID: session, LineNum: 1, User: "anna", DB: "d", App: "psql", RemoteHost: "10.0.0.1", Severity: "LOG",
			BackendType: "client backend", Audit: &audit.Record{Type: "SESSION", StatementID: 1, SubstatementID: 1, Class: "ROLE", Command: strings.ToUpper("alter role"), Statement: sql, Rows: -1}}}}
	}
	w := open()
	w.take(act("a", start, "ALTER ROLE kim VALID UNTIL 'infinity'"))
	if len(w.due) != 1 {
		t.Fatalf("%d incidents are due", len(w.due))
	}
	if err := w.save(); err != nil {
		t.Fatal(err)
	}
	w = open()
	if len(w.due) != 1 {
		t.Fatalf("%d incidents are due after a restart", len(w.due))
	}
	for id, i := range w.due {
		alert := w.alert(i, 1)
		if alert.Incident != id || alert.Cover == nil || alert.Rules[0].Title["zh-TW"] == "" {
			t.Fatalf("%+v", alert)
		}
		until := start.Add(24 * time.Hour)
		was := w.told[id]
		was.Cover = alert.Cover // as it is when it was told
		w.told[id] = was
		forged := *alert.Cover
		forged.Acts = append(slices.Clone(forged.Acts), chat.Act{Rule: "role.powers", Kind: "alter role", App: "psql"})
		w.answer(chat.AnswerRecord{ID: "forged", Incident: id, Cover: &forged, Answer: chat.Answer{What: chat.Muted, At: start.Add(time.Minute), Until: &until}})
		w.answer(chat.AnswerRecord{ID: "never told", Incident: "x", Cover: alert.Cover, Answer: chat.Answer{What: chat.Muted, At: start.Add(time.Minute), Until: &until}})
		if mutes := w.judge.Mutes(); len(mutes) != 0 {
			t.Errorf("a mute that was never offered is followed: %+v", mutes)
		}
		w.answer(chat.AnswerRecord{Incident: id, Cover: alert.Cover, Answer: chat.Answer{What: chat.Muted, At: start.Add(time.Minute), Until: &until}})
	}
	clear(w.due)
	if err := w.save(); err != nil {
		t.Fatal(err)
	}
	w = open()
	w.take(act("b", start.Add(time.Hour), "ALTER ROLE lee VALID UNTIL 'infinity'"))
	if len(w.due) != 0 {
		t.Error("what is muted is due")
	}
	w.take(act("c", start.Add(2*time.Hour), "ALTER ROLE lee SUPERUSER"))
	if len(w.due) != 1 {
		t.Error("what is never muted is not due")
	}
	// At a terminal the mutes are listed, and ended, with nothing that runs.
	mutes, err := Mutes(c)
	if err != nil || len(mutes) != 1 || mutes[0].Actor != "anna" || !mutes[0].Until.Equal(start.Add(24*time.Hour)) {
		t.Fatalf("%+v, %v", mutes, err)
	}
	if err := EndMute(c, mutes[0].Incident, "root"); err != nil {
		t.Fatal(err)
	}
	if _, files, err := unmutes(c); err != nil || len(files) != 1 {
		t.Errorf("%v, %v", files, err)
	}
	// Names that would turn around or hide what stands beside them are shown as they are not.
	if text := code("a\u202eb`c\nd") + plainWords("x\u200by*"); text != "`a\uFFFDb'c'd`x\uFFFDy\\*" {
		t.Errorf("%q", text)
	}
}

// trailLines are the lines of a trail's files.
func trailLines(t *testing.T, dir string) (lines [][]byte) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "trail-*.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		lines = append(lines, bytes.Split(bytes.TrimSpace(raw), []byte("\n"))...)
	}
	return lines
}
