package server

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"howdah/internal/audit"
	"howdah/internal/chat"
	"howdah/internal/cluster"
	"howdah/internal/pg/pgtest"
)

// TestWhatGoesOnAfterAnAnswerIsToldAnew: whoever has acknowledged an incident hears of the next act that the same rule finds, by its name; and an incident that cannot be told keeps no other from it.
func TestWhatGoesOnAfterAnAnswerIsToldAnew(t *testing.T) {
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
	db := pgtest.New(t)
	olive := newOnlooker(t, s, db.App, db.Steady)
	speak := func() error {
		w.asked = time.Time{} // it is time to listen again
		for id, was := range w.told {
			was.at = time.Time{} // and to say again
			w.told[id] = was
		}
		_, err := w.speak(t.Context())
		return err
	}
	start := time.Now().UTC().Add(-time.Hour).Truncate(time.Millisecond)
	number := int64(0)
	act := func(who string, after time.Duration, sql string) {
		number++
		w.take(audit.Batch{Lines: []audit.Line{{Time: start.Add(after), SessionStart: start, SessionID: who, LineNum: number, User: who, DB: "d", App: "psql", RemoteHost: "10.0.0.1", Severity: "LOG",
			BackendType: "client backend", Audit: &audit.Record{Type: "SESSION", StatementID: number, SubstatementID: 1, Class: "ROLE", Command: "ALTER ROLE", Statement: sql, Rows: -1}}}})
	}
	forever := func(who string) string { return "ALTER ROLE " + who + " VALID UNTIL 'infinity'" }

	act("anna", 0, forever("kim"))
	act("anna", time.Second, forever("lee"))
	if err := speak(); err != nil {
		t.Fatal(err)
	}
	room, messages := olive.alerts()
	if len(messages) != 1 || !strings.Contains(messages[0].Body, "kim") || !strings.Contains(messages[0].Body, "lee") {
		t.Fatalf("both are one incident, and both are named: %+v", messages)
	}
	// It is answered while the next one is read: what is not known to be answered is told anew all the same.
	if _, err := olive.rooms.Answer(t.Context(), olive.Person, chat.AnswerDraft{Room: room, Seq: messages[0].Seq, ClientID: chat.NewID(), What: chat.Acknowledged}); err != nil {
		t.Fatal(err)
	}
	act("anna", 2*time.Second, forever("kim")) // more of the same
	if err := speak(); err != nil {
		t.Fatal(err)
	}
	if _, messages = olive.alerts(); len(messages) != 1 || messages[0].Alert.State != chat.Acknowledged {
		t.Fatalf("%+v", messages)
	}
	for n, name := range []string{"maya", "nora"} {
		act("anna", time.Duration(3+n)*time.Second, forever(name))
		if n == 1 { // which the watch knows to be answered
			act("anna", 5*time.Second, forever("omar"))
		}
		if err := speak(); err != nil {
			t.Fatal(err)
		}
		_, messages = olive.alerts()
		if len(messages) != 2+n {
			t.Fatalf("%s is not told anew: %+v", name, messages)
		}
		last := messages[1+n]
		fresh, before, _ := strings.Cut(last.Body, "\nBefore that")
		if last.Alert.State != chat.AlertOpen || last.Alert.Part != 2+n || !strings.Contains(fresh, name) || strings.Contains(fresh, "kim") || !strings.Contains(before, "kim") || n == 1 != strings.Contains(fresh, "omar") {
			t.Errorf("%+v", last)
		}
		if _, err := olive.rooms.Answer(t.Context(), olive.Person, chat.AnswerDraft{Room: room, Seq: last.Seq, ClientID: chat.NewID(), What: chat.Acknowledged}); err != nil {
			t.Fatal(err)
		}
		if err := speak(); err != nil {
			t.Fatal(err)
		}
		for id, was := range w.told { // the answers are of now, and the acts of an hour ago

			was.Louder = start
			w.told[id] = was
		}
	}

	// The database refuses one, for a reason that nobody foresaw.
	owner, err := pgx.Connect(t.Context(), db.OwnerDSN)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = owner.Close(context.WithoutCancel(t.Context())) })
	number = 0
	if _, err := owner.Exec(t.Context(), `ALTER TABLE chat.message ADD CONSTRAINT refused CHECK (body NOT LIKE '%mallory%')`); err != nil {
		t.Fatal(err)
	}
	act("mallory", 10*time.Second, forever("kim"))
	number = 0
	act("zoe", 11*time.Second, forever("kim"))
	if err := speak(); err == nil {
		t.Error("nothing is said of an incident that cannot be told")
	}
	about := func(who string) bool {
		_, messages := olive.alerts()
		return slices.ContainsFunc(messages, func(m chat.Message) bool { return strings.Contains(m.Body, who) })
	}
	if about("mallory") || !about("zoe") {
		t.Error("the one that cannot be told keeps the next from it")
	}
	if _, err := owner.Exec(t.Context(), `ALTER TABLE chat.message DROP CONSTRAINT refused`); err != nil {
		t.Fatal(err)
	}
	if err := speak(); err != nil || !about("mallory") {
		t.Error("it is not told when it can be", err)
	}

	// What goes wrong every second is said at once, then ever less often, and in the end that it is over.
	var n nagging
	times := 0
	for second := range 3 * 60 * 60 {
		if n.wrong(start.Add(time.Duration(second) * time.Second)) {
			times++
		}
	}
	if since := n.right(); times != 8 || !since.Equal(start) || !n.right().IsZero() || !n.wrong(start) {
		t.Errorf("%d times, since %v", times, since)
	}
}
