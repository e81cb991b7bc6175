//go:build unix

package cluster

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// watched runs Watch and gives its events, until the test ends.
func watched(t *testing.T, c *Cluster) func(EventKind) Event {
	t.Helper()
	var next func(EventKind) Event
	events := make(chan Event, 100)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		c.Watch(ctx, func(e Event) { events <- e })
	}()
	t.Cleanup(func() {
		cancel()
		<-ended
	})
	next = func(kind EventKind) Event {
		t.Helper()
		deadline := time.NewTimer(patience)
		defer deadline.Stop()
		select {
		case e := <-events:
			if kind == Up && e.Kind == Begin {
				return next(Up) // Watch joined in a start that somebody else has begun
			}
			if e.Kind != kind {
				t.Fatalf("%s (%v), want %s", e.Kind, e.Err, kind)
			}
			return e
		case <-deadline.C:
			t.Fatalf("no %s", kind)
		}
		return Event{}
	}
	return next
}

func TestWatchRestartsAKilledServer(t *testing.T) {
	t.Parallel()
	c := made(t)
	next := watched(t, c)
	next(Begin)
	up := next(Up)
	if pid, _ := c.Running(); pid != up.PID {
		t.Errorf("told %d, %d runs", up.PID, pid)
	}
	begun := time.Now()
	kill(t, up.PID, syscall.SIGKILL)
	down := next(Down)
	t.Logf("noticed after %v", down.At.Sub(begun))
	if down.PID != up.PID || down.Retry != shortestPause {
		t.Errorf("%+v", down)
	}
	wantFault(t, down.Err, "cluster.crashed")
	next(Begin)
	again := next(Up)
	t.Logf("up after %v", again.At.Sub(begun))
	if again.PID == up.PID {
		t.Error("the same process")
	}
	if have := ask(t, c, App, "select current_user::text"); have != App {
		t.Error(have)
	}

	// On purpose, by another process's Cluster: no crash, and left alone until the next Start.
	elsewhere := newClusterQuiet(c)
	if err := elsewhere.Stop(t.Context(), Fast); err != nil {
		t.Fatal(err)
	}
	next(OnHold)
	if err := elsewhere.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	next(Up)
	if err := c.Stop(t.Context(), Fast); err != nil {
		t.Fatal(err)
	}
	next(OnHold)
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	next(Up)
}

func TestWatchTriesAgainAndSaysWhy(t *testing.T) {
	t.Parallel()
	c := made(t)
	if err := os.Chmod(c.data(), 0o755); err != nil {
		t.Fatal(err)
	}
	next := watched(t, c)
	next(Begin)
	first := next(Failed)
	wantFault(t, first.Err, "cluster.open_to_others")
	next(Begin)
	if second := next(Failed); first.Retry != shortestPause || second.Retry != 2*first.Retry {
		t.Errorf("paused %v, then %v", first.Retry, second.Retry)
	}
	if err := os.Chmod(c.data(), 0o700); err != nil {
		t.Fatal(err)
	}
	next(Begin)
	next(Up)
}

// copyInstallation copies the programs and links to the rest, in the same shape: PostgreSQL finds its files relative to
// its programs.
func copyInstallation(t *testing.T, in Installation, root string) Installation {
	t.Helper()
	prefix := filepath.Dir(in.Bin)
	for dir := in.Bin; dir != filepath.Dir(dir); dir = filepath.Dir(dir) {
		if filepath.Base(dir) == "lib" { // Debian: /usr/lib/postgresql/15/bin beside /usr/share/postgresql/15
			prefix = filepath.Dir(dir)
		}
	}
	rel, err := filepath.Rel(prefix, in.Bin)
	if err != nil {
		t.Fatal(err)
	}
	copied := in
	copied.Bin = filepath.Join(root, rel)
	if err := os.MkdirAll(copied.Bin, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"postgres", "initdb", "pg_ctl", "pg_config"} {
		if out, err := exec.CommandContext(t.Context(), "cp", "-L", in.Program(name), copied.Bin).CombinedOutput(); err != nil && name != "pg_config" {
			t.Fatalf("%s: %v", out, err)
		}
	}
	for _, link := range []string{"share", filepath.Join(filepath.Dir(rel), "lib"), "lib"} {
		to := filepath.Join(root, link)
		if exists(filepath.Join(prefix, link)) && !exists(to) {
			if err := os.Symlink(filepath.Join(prefix, link), to); err != nil {
				t.Fatal(err)
			}
		}
	}
	return copied
}

func TestWatchNoticesAnUpgradeUnderneath(t *testing.T) {
	t.Parallel()
	root := place(t)
	in := copyInstallation(t, mustFind(t.Context()), filepath.Join(root, "usr"))
	c := newCluster(t, filepath.Join(root, "data"), in)
	if err := c.Init(t.Context()); err != nil {
		t.Fatal(err)
	}
	next := watched(t, c)
	next(Begin)
	next(Up)

	// As dpkg does it: the new file is complete under another name and then renamed over the old one.
	fresh := filepath.Join(in.Bin, "postgres.dpkg-new")
	if err := os.WriteFile(fresh, []byte("#!/bin/sh\necho 'postgres (PostgreSQL) 15.99 (Debian 15.99-1)'\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	original := in.Program("postgres") + ".old" // stays away: the running file is deleted then
	if out, err := exec.CommandContext(t.Context(), "cp", in.Program("postgres"), original).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v", out, err)
	}
	if err := os.Rename(fresh, in.Program("postgres")); err != nil {
		t.Fatal(err)
	}
	event := next(Upgraded)
	wantFault(t, event.Err, "cluster.upgraded_underneath", in.Version.Build, "15.99 (Debian 15.99-1)")

	// One who comes later and has seen neither the start nor the upgrade finds out too, even without the record.
	if err := os.Remove(c.path(runningName)); err != nil {
		t.Fatal(err)
	}
	late := watched(t, newClusterQuiet(c))
	late(Up)
	found := late(Upgraded)
	wantFault(t, found.Err, "cluster.upgraded_underneath", "15.99")
	if have := found.Err.Error(); runningProgram(event.PID) != "" && !strings.Contains(have, in.Version.Build) {
		t.Errorf("it does not know what runs: %s", have)
	}
}

// A server that is just recovering from the crash of one of its processes can be stopped too.
func TestStopWhileRecoveringFromACrash(t *testing.T) {
	t.Parallel()
	c := made(t)
	for range 3 {
		if err := c.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		dsn, err := c.DSN(Superuser, "postgres")
		if err != nil {
			t.Fatal(err)
		}
		conn, err := pgx.Connect(t.Context(), dsn)
		if err != nil {
			t.Fatal(err)
		}
		if err := syscall.Kill(int(conn.PgConn().PID()), syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		// No connection is taken from the crash to the end of the recovery.
		deadline, tick := time.After(patience), time.NewTicker(time.Millisecond)
		for again := conn; again != nil; {
			if again, err = pgx.Connect(t.Context(), dsn); err == nil {
				again.Close(t.Context())
			}
			select {
			case <-deadline:
				t.Fatal("it does not recover")
			case <-tick.C:
			}
		}
		tick.Stop()
		conn.Close(t.Context())
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		if err := c.Stop(ctx, Fast); err != nil {
			t.Error(err)
		}
		cancel()
	}
}
