package server

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"howdah/internal/audit"
	"howdah/internal/cluster"
	"howdah/internal/pg/pgtest"
	"howdah/internal/untested"
)

// TestAFullDiskKeepsNoAlertWaiting: when the trail could not be written, nothing more was judged after some megabytes of log. Now judging goes on; when there is room, also after a restart, the trail gets
// all that it lacks from PostgreSQL's log, once, and both it and the room say since when it was so.
func TestAFullDiskKeepsNoAlertWaiting(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		untested.Here(t, "only root may mount a small disk (tmpfs) to fill it")
	}
	c, err := cluster.New(t.TempDir(), cluster.Installation{}, cluster.Options{})
	if err != nil {
		t.Fatal(err)
	}
	trail := TrailDir(c)
	for _, dir := range []string{trail, c.LogDir()} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := unix.Mount("tmpfs", trail, "tmpfs", 0, "size=64k,mode=700"); err != nil {
		t.Fatalf("this test has to mount a tmpfs, which takes the right CAP_SYS_ADMIN: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(trail, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	db := pgtest.New(t)
	s := newServer(Options{Cluster: c, Log: slog.New(slog.DiscardHandler), Lang: "en"})
	olive := newOnlooker(t, s, db.App, db.Steady)
	watch := func() (stop func()) {
		t.Helper()
		w, err := newWatcher(s.watch)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { defer close(ended); w.watchOn(ctx) }()
		stop = func() { cancel(); <-ended }
		t.Cleanup(stop)
		return stop
	}
	said := func(part string) (n int) {
		t.Helper()
		_, messages := olive.sees()
		for _, m := range messages {
			if strings.Contains(m.Body, part) {
				n++
			}
		}
		return n
	}
	log, err := os.Create(filepath.Join(c.LogDir(), "postgresql.json"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	at, lines := time.Now().UTC(), 0
	write := func(message string) {
		t.Helper()
		lines++
		raw, err := json.Marshal(map[string]any{"timestamp": at.Format("2006-01-02 15:04:05.000") + " UTC", "user": "mallory", "dbname": "shop", "pid": 4242, "remote_host": "198.51.100.7",
			"session_id": "6a000000.1092", "line_num": lines, "ps": "ALTER ROLE", "session_start": at.Format("2006-01-02 15:04:05") + " UTC", "txid": 0, "error_severity": "LOG",
			"message": message, "application_name": "psql", "backend_type": "client backend"})
		if err == nil {
			_, err = fmt.Fprintf(log, "%s\n", raw)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	fill := func() { // more batches than wait in memory, and more than there is room for
		t.Helper()
		for range mostBacklog + 4 {
			write("something that is logged: " + strings.Repeat("x", 8000))
			pgtest.Await(t, "the line to be judged", func() bool { return s.watch.watched.lines.Load() >= int64(lines) })
		}
	}

	stop := watch()
	fill()
	write(`AUDIT: SESSION,1,1,ROLE,ALTER ROLE,,,ALTER ROLE mallory SUPERUSER,<not logged>`)
	pgtest.Await(t, "the alert", func() bool { return said("`mallory`") == 1 })
	pgtest.Await(t, "the room knows of the trail", func() bool { return said("no space left on device") == 1 })
	if found := Troubles(c); len(found) != 1 || found[0].Fault.Key != "server.trail_unwritten" {
		t.Errorf("howdah status knows of %+v", found)
	}
	stop() // and it is started again, still without room
	stop = watch()
	fill()
	if err := unix.Mount("tmpfs", trail, "tmpfs", unix.MS_REMOUNT, "size=256m,mode=700"); err != nil {
		t.Fatal(err)
	}
	pgtest.Await(t, "the trail to have all", func() bool { return len(Troubles(c)) == 0 && said("Over") == 1 })
	write("and it goes on")
	reader := audit.NewReader(trail)
	defer reader.Close()
	seen, gaps, after := map[int64]int{}, 0, int64(0)
	pgtest.Await(t, "the last line", func() bool {
		part, err := reader.Next(after, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range part.Entries {
			switch {
			case e.Event == nil:
				seen[e.LineNum]++
			case e.Event.Kind == audit.EventUnwritten && e.Event.Since != nil && e.Event.Since.Before(e.Time):
				gaps++
			case e.Event.Kind != audit.EventIncident:
				t.Errorf("%+v", e.Event)
			}
		}
		if part.End.Seq != 0 {
			after = part.End.Seq
		}
		return seen[int64(lines)] > 0
	})
	stop()
	if gaps == 0 || len(seen) != lines {
		t.Errorf("%d of %d lines are on the trail, %d gaps are told", len(seen), lines, gaps)
	}
	for line, n := range seen {
		if n != 1 {
			t.Fatalf("line %d is there %d times", line, n)
		}
	}
	if v, err := audit.Verify(trail, nil); err != nil || len(v.Problems) > 0 {
		t.Errorf("%+v, %v", v, err)
	}
	if said("`mallory`") != 1 {
		t.Errorf("the alert was said %d times", said("`mallory`"))
	}
}
