package server

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"howdah/internal/chat"
	"howdah/internal/cluster"
	"howdah/internal/pg"
	"howdah/internal/pg/pgtest"
)

// TestACoverThatFailsIsSaidAndTriedAgain: a cover that could not be put in place at a start was tried again at the next one, which may be months away, and only the log said so. It is tried
// again while the house runs, #ops and howdah status say so while it lasts, and #ops says when it is over.
func TestACoverThatFailsIsSaidAndTriedAgain(t *testing.T) {
	t.Parallel()
	scratch, err := cluster.NewScratch(t.Context(), cluster.ScratchOptions{Settings: map[string]string{"shared_preload_libraries": "pgaudit", "pgaudit.log": "role, ddl"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := scratch.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	dsn := func(role, database string) string {
		t.Helper()
		dsn, err := scratch.DSN(role, database)
		if err != nil {
			t.Fatal(err)
		}
		return dsn
	}
	if err := pg.Migrate(t.Context(), dsn(cluster.Owner, cluster.Database), cluster.App); err != nil {
		t.Fatal(err)
	}
	db, err := pg.Open(t.Context(), dsn(cluster.App, cluster.Database), pg.Options{MaxConns: 4})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(db.Close)
	var log journal
	s := newServer(Options{Cluster: scratch.Cluster, Log: slog.New(slog.NewTextHandler(&log, nil)), Lang: "en"})
	olive := newOnlooker(t, s, db, db)
	t.Cleanup(s.keeping.Wait)
	w, err := newWatcher(s.watch)
	if err != nil {
		t.Fatal(err)
	}
	said := func() []chat.Message {
		t.Helper()
		w.asked = time.Time{} // it is time to listen again
		if _, err := w.speak(t.Context()); err != nil {
			t.Fatal(err)
		}
		_, messages := olive.sees()
		return messages
	}

	// Nothing is changed in a session that could not be noted for the house's own.
	inTheWay := filepath.Join(scratch.Dir(), coverFile)
	if err := os.Mkdir(inTheWay, 0o755); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	t.Cleanup(stop)
	s.cover(ctx)
	if found := Troubles(scratch.Cluster); len(found) != 1 || found[0].Fault.Key != "cover.failed" || !strings.Contains(found[0].Fault.Args["message"].(string), coverFile) {
		t.Fatalf("howdah status knows of %+v", found)
	}
	messages := said()
	if len(messages) != 1 || !strings.Contains(messages[0].Body, "could not be settled") || !strings.Contains(messages[0].Body, "is tried again") {
		t.Fatalf("%+v", messages)
	}
	if text := log.String(); strings.Contains(text, "hint=") || strings.Count(text, "level=ERROR") != 1 {
		t.Errorf("the log: %s", text)
	}
	again := &troubles{}
	if err := again.load(scratch.Cluster); err != nil || len(again.all) != 1 {
		t.Errorf("a restart knows of %+v, %v", again.all, err)
	}
	if err := os.Remove(inTheWay); err != nil {
		t.Fatal(err)
	}
	pgtest.Await(t, "it is tried again", func() bool { return len(Troubles(scratch.Cluster)) == 0 })
	messages = said()
	if len(messages) != 1 || !strings.Contains(messages[0].Body, "Over") {
		t.Errorf("%+v", messages)
	}
	var settled bool
	if err := db.QueryRow(t.Context(), `SELECT count(*) > 0 FROM pg_db_role_setting WHERE 'pgaudit.log_rows=on' = ANY (setconfig)`).Scan(&settled); err != nil || !settled {
		t.Errorf("the cover is not settled: %v", err)
	}
	if n := strings.Count(log.String(), "level=ERROR"); n != 1 {
		t.Errorf("said %d times in the log:\n%s", n, log.String())
	}
	s.watch.ails.mu.Lock()
	defer s.watch.ails.mu.Unlock()
	if len(s.watch.ails.all) != 0 {
		t.Errorf("what is over and told is kept: %+v", s.watch.ails.all)
	}
}
