package server

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"howdah/internal/audit"
	"howdah/internal/audit/index"
	"howdah/internal/cluster"
	"howdah/internal/fault"
	"howdah/internal/pg/pgtest"
)

// lines is a log that several goroutines write and read.
type lines struct {
	mu sync.Mutex
	bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.Buffer.Write(p)
}

func (l *lines) has(text string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.String(), text)
}

// TestTheTablesFollowTheTrail: by themselves, whatever the database does meanwhile; the trail never waits for them.
func TestTheTablesFollowTheTrail(t *testing.T) {
	t.Parallel()
	c, err := cluster.New(t.TempDir(), cluster.Installation{}, cluster.Options{})
	if err != nil {
		t.Fatal(err)
	}
	db, log := pgtest.New(t), &lines{}
	s := newServer(Options{Cluster: c, Log: slog.New(slog.NewTextHandler(log, nil)), Lang: "en"})
	w, err := newWatcher(s.watch)
	if err != nil {
		t.Fatal(err)
	}
	number := int64(0)
	act := func(session string) {
		t.Helper()
		number++
		at := time.Now().UTC()
		w.keep(audit.Batch{Lines: []audit.Line{{Time: at, SessionStart: at, SessionID: session, LineNum: 1, User: "anna", Message: "m", Severity: "LOG", BackendType: "client backend"}},
			Position: audit.Position{Offset: number}})
		if len(w.backlog) > 0 {
			t.Fatal("the trail waits")
		}
	}
	act("one.1") // before anybody fills the tables
	if lag, age := s.watch.tables.behind(); lag != w.trail.Head().Seq || age < 0 {
		t.Errorf("%d lines, %s", lag, age)
	}
	ctx, end := context.WithCancel(t.Context())
	var filling sync.WaitGroup
	filling.Go(func() { s.fill(ctx, index.New(db.App, TrailDir(c), TrailSource)) })
	defer filling.Wait()
	defer end()
	reader := index.NewReader(db.App, TrailSource)
	level := func(what string) {
		t.Helper()
		pgtest.Await(t, what, func() bool {
			seq, _, err := reader.Level(t.Context())
			lag, _ := s.watch.tables.behind()
			return err == nil && seq == w.trail.Head().Seq && lag == 0
		})
	}
	level("what came before")
	act("two.1")
	level("what comes")

	// A database that hangs holds up nothing but the tables.
	conn, err := pgx.Connect(t.Context(), db.Super)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(t.Context()))
	do := func(sql string) {
		t.Helper()
		if _, err := conn.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	do(`BEGIN; LOCK TABLE audit.source`)
	for i := range 20 {
		act(fmt.Sprintf("three.%d", i))
	}
	if lag, _ := s.watch.tables.behind(); lag <= 0 {
		t.Error("nothing waits for the database")
	}
	do(`ROLLBACK`)
	level("what waited for a database that hung")

	// One that was put back in time is filled again.
	do(`DELETE FROM audit.source`)
	s.watch.tables.doubted()
	level("a database that went back")
	entry, err := reader.Entries(t.Context(), audit.Filter{Session: "one.1"})
	if err != nil || len(entry.Entries) != 1 {
		t.Errorf("%+v, %v", entry, err)
	}

	// What the session that fills them writes into the log is no news, or that would never end.
	s.watch.tables.mu.Lock()
	known := s.watch.tables.session
	s.watch.tables.mu.Unlock()
	there := 0
	if err := conn.QueryRow(t.Context(), `SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND usename = $2
		AND to_hex(floor(extract(epoch FROM backend_start))::bigint) || '.' || to_hex(pid) = $1`, known, cluster.App).Scan(&there); err != nil || there != 1 {
		t.Errorf("it takes itself for %q: %d, %v", known, there, err)
	}
	end()
	filling.Wait()
	select {
	case <-s.watch.tables.wake: // what it was not told of before it ended
	default:
	}
	act(known)
	if len(s.watch.tables.wake) != 0 {
		t.Error("its own lines wake it")
	}
	if act("four.1"); len(s.watch.tables.wake) != 1 {
		t.Error("other lines do not")
	}

	// Tables that are another trail's are left alone, and told of once, until somebody makes them anew.
	do(`UPDATE audit.source SET hash = '\x00'`)
	ctx, end2 := context.WithCancel(t.Context())
	defer end2()
	filling.Go(func() { s.fill(ctx, index.New(db.App, TrailDir(c), TrailSource)) })
	pgtest.Await(t, "it to be told", func() bool { return log.has("not filled any more") > 0 })
	act("five.1")
	if found := Troubles(c); len(found) != 1 || found[0].Fault.Key != "audit.trail_other" {
		t.Errorf("howdah status finds %+v", found)
	}
	other := index.New(db.App, TrailDir(c), TrailSource)
	defer other.Close()
	if _, err := other.Step(t.Context()); !fault.HasKey(err, "audit.trail_other") {
		t.Error(err)
	}
	if aside, err := other.Rebuild(t.Context()); err != nil || aside == "" {
		t.Fatal(aside, err)
	}
	s.watch.tables.doubted()
	level("tables that were made anew")
	pgtest.Await(t, "howdah status to find nothing more", func() bool { return len(Troubles(c)) == 0 })
	if n := log.has("not filled any more"); n != 1 {
		t.Errorf("told %d times", n)
	}
	if v, err := audit.Verify(TrailDir(c), nil); err != nil || len(v.Problems) > 0 {
		t.Error(v, err)
	}
}
