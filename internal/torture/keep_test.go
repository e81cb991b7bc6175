//go:build linux

package torture

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"howdah/internal/cluster"
)

// report is what howdah status --json says, as far as tests ask.
type report struct {
	Level      string
	PostgreSQL struct {
		State   string
		Answers bool
	}
	Archive struct {
		Ready   int
		Failing bool
	}
	Repos []struct {
		Trouble           string
		From, To          *time.Time
		Physical, Logical *struct{ ID string }
		Stream            *struct{ Active bool }
	}
	Findings []struct{ Key, Message, Hint string }
	code     int
}

func (h *house) status() (r report) {
	h.t.Helper()
	out, err := h.command("status", "--json").Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		r.code = exit.ExitCode()
	} else if err != nil {
		h.t.Fatal(err)
	}
	if err := json.Unmarshal(out, &r); err != nil {
		h.t.Fatalf("%v: %s", err, out)
	}
	if levels := []string{"good", "warning", "critical"}; r.code > 2 || levels[r.code] != r.Level {
		h.t.Errorf("exit code %d for %q", r.code, r.Level)
	}
	return r
}

func (r report) has(key string) bool {
	return slices.ContainsFunc(r.Findings, func(f struct{ Key, Message, Hint string }) bool { return f.Key == key && f.Hint != "" })
}

// baseBackups are those in the house's repo that are whole, and all that were begun.
func (h *house) baseBackups() (whole, all []string) {
	all, _ = filepath.Glob(filepath.Join(h.dir, "repo", "main", "base", "*", "run.json"))
	whole, _ = filepath.Glob(filepath.Join(h.dir, "repo", "main", "base", "*", "backup.json"))
	return whole, all
}

// switchWAL ends a segment, so that there is something to archive.
func (h *house) switchWAL() {
	h.t.Helper()
	conn := h.sql(cluster.Superuser)
	defer conn.Close(h.t.Context())
	if _, err := conn.Exec(h.t.Context(), `SELECT pg_logical_emit_message(true, 'test', 'x'), pg_switch_wal()`); err != nil {
		h.t.Fatal(err)
	}
}

// A fresh house archives and streams, and has its backups soon. While the repo is away it says so and loses nothing; afterwards all is well again.
func TestAFreshHouseIsKeptAndSaysWhenItIsNot(t *testing.T) {
	t.Parallel()
	side := freeAddress(t)
	h := newHouse(t, "--backup-first", "100ms", "--metrics-listen", side, "--stream")
	h.start()
	await(t, patience, "the house to be kept", func() bool {
		r := h.status()
		return r.code == 0 && r.Repos[0].Stream != nil && r.Repos[0].Stream.Active && r.Repos[0].Physical != nil && r.Repos[0].Logical != nil && r.Repos[0].From != nil
	})
	h.switchWAL()
	await(t, patience, "the segment to be archived", func() bool { return h.status().Archive.Ready == 0 })
	conn := h.sql(cluster.Superuser)
	var failures int
	if err := conn.QueryRow(t.Context(), `SELECT failed_count FROM pg_stat_archiver`).Scan(&failures); err != nil || failures != 0 {
		t.Errorf("archive_command failed %d times in a house that was made well: %v", failures, err)
	}

	await(t, patience, "the metrics", func() bool {
		response, err := http.Get("http://" + side + "/metrics")
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		raw, err := io.ReadAll(response.Body)
		return err == nil && strings.Contains(string(raw), "\nhowdah_archive_failing 0\n") && strings.Contains(string(raw), "\nhowdah_base_backup_age_seconds ") &&
			strings.Contains(string(raw), "\nhowdah_stream_lag_bytes ")
	})

	// A slot without a bound could fill the disk.
	for _, step := range []struct {
		statement string
		code      int
	}{{`ALTER SYSTEM SET max_slot_wal_keep_size = -1`, 1}, {`ALTER SYSTEM RESET max_slot_wal_keep_size`, 0}} {
		for _, statement := range []string{step.statement, `SELECT pg_reload_conf()`} {
			if _, err := conn.Exec(t.Context(), statement); err != nil {
				t.Fatal(err)
			}
		}
		await(t, patience, "the status after "+step.statement, func() bool {
			r := h.status()
			return r.code == step.code && r.has("keeper.status_slot_unbounded") == (step.code == 1)
		})
	}
	conn.Close(t.Context())

	repo := filepath.Join(h.dir, "repo")
	if err := os.Rename(repo, repo+"-away"); err != nil {
		t.Fatal(err)
	}
	h.switchWAL()
	await(t, patience, "the status to be red", func() bool {
		r := h.status()
		return r.code == 2 && r.has("repo.absent") && r.has("keeper.status_archiver") && r.has("keeper.status_stream_stopped") && r.Archive.Ready > 0
	})
	if err := os.Rename(repo+"-away", repo); err != nil {
		t.Fatal(err)
	}
	await(t, patience, "the status to be green", func() bool { // PostgreSQL tries again after a minute at the longest
		r := h.status()
		return r.code == 0 && r.Archive.Ready == 0 && !r.Archive.Failing && r.Repos[0].Stream.Active
	})
	h.end(h.run, syscall.SIGINT)
	h.shutDown()
	if r := h.status(); r.code != 2 || !r.has("keeper.status_down") || r.Repos[0].Physical == nil || r.Archive.Ready != 0 {
		t.Errorf("with the database down: %+v", r)
	}
}

// A howdah that is killed while it makes the first backup makes it when it is started again, and nothing of the first try stays.
func TestTheNextStartMakesTheFirstBackupThatWasKilled(t *testing.T) {
	t.Parallel()
	h := newHouse(t, "--backup-first", "50ms", "--backup-logical", "off", "--drill", "off")
	p := h.up()
	await(t, patience, "the backup to begin", func() bool { _, all := h.baseBackups(); return len(all) > 0 || p.ended() })
	h.kill(p)
	before, tried := h.baseBackups()
	t.Logf("killed with %d whole of %d", len(before), len(tried))
	h.start()
	await(t, patience, "a whole backup and nothing else", func() bool {
		whole, all := h.baseBackups()
		return len(whole) == 1 && len(all) == 1
	})
	h.end(h.run, syscall.SIGINT)
	h.empty()
}

// A house from before archiving is restarted once for it.
func TestAHouseFromBeforeIsRestartedOnceToArchive(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.start()
	h.end(h.run, syscall.SIGINT)
	c := h.cluster()
	if h.account() != nil {
		c = h.clusterAs(h.account())
	}
	if err := c.Start(t.Context()); err != nil { // as it was: without the settings
		t.Fatal(err)
	}
	old, _ := h.postmaster()
	h.start()
	now, ok := h.postmaster()
	if !ok || now == old {
		t.Fatalf("PostgreSQL is %d and was %d: it does not archive", now, old)
	}
	h.switchWAL()
	await(t, patience, "WAL to be archived", func() bool { r := h.status(); return r.Archive.Ready == 0 && !r.has("keeper.status_not_archiving") })
	h.kill(h.run)
	h.start()
	if again, _ := h.postmaster(); again != now {
		t.Errorf("PostgreSQL is %d and was %d: it was restarted again", again, now)
	}
	h.end(h.run, syscall.SIGINT)
	h.empty()
}

// account is who the house's PostgreSQL runs as, where we are root.
func (h *house) account() *cluster.Account {
	h.t.Helper()
	if os.Geteuid() != 0 {
		return nil
	}
	a, err := cluster.EnsureAccount(h.t.Context(), "howdah")
	if err != nil {
		h.t.Fatal(err)
	}
	return a
}

func (h *house) clusterAs(a *cluster.Account) *cluster.Cluster {
	h.t.Helper()
	c, err := cluster.New(h.dir, h.cluster().Installation(), cluster.Options{Account: a})
	if err != nil {
		h.t.Fatal(err)
	}
	return c
}
