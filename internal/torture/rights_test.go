//go:build linux

package torture

import (
	"context"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"

	"howdah/internal/chat"
	"howdah/internal/cluster"
)

// Started as root, nothing runs as root: not howdah, not PostgreSQL, not one that was started anew; and no file of the
// house is root's.
func TestStartedAsRootNothingRunsAsRoot(t *testing.T) {
	t.Parallel()
	needRoot(t, "it is about being started as root")
	h := newHouse(t)
	h.start()
	none := func(when string) {
		t.Helper()
		household := householdOf(h.dir)
		for _, p := range household {
			for _, uid := range p.uids { // real, effective, saved, file system
				if uid == "0" {
					t.Errorf("%s: %s", when, p)
					break
				}
			}
		}
		if len(household) < 5 {
			t.Errorf("%s: only %v are there", when, household)
		}
	}
	none("after the start")
	pid, _ := h.postmaster()
	if err := sendTo(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	await(t, patience, "PostgreSQL to be started again", func() bool {
		now, ok := h.postmaster()
		return ok && now != pid && h.health() == ""
	})
	none("after PostgreSQL was started again")
	err := filepath.WalkDir(h.dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			if os.IsNotExist(err) { // PostgreSQL removes files as it likes
				return nil
			}
			return err
		}
		st, err := os.Lstat(path)
		if err == nil && st.Sys().(*syscall.Stat_t).Uid == 0 {
			t.Errorf("%s is root's", path)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	h.end(h.run, syscall.SIGINT)
	h.empty()
}

// On somebody else's PostgreSQL: `init` with an administrator who is no superuser, then `up` with nobody's rights but
// those of its two roles. What is not ours is left running.
func TestOnSomebodyElsesPostgreSQL(t *testing.T) {
	t.Parallel()
	_, port, err := net.SplitHostPort(freeAddress(t))
	if err != nil {
		t.Fatal(err)
	}
	other, err := cluster.NewScratch(t.Context(), cluster.ScratchOptions{Settings: map[string]string{"listen_addresses": "127.0.0.1", "port": port, "fsync": "on", "synchronous_commit": "on"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := other.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	dsn, err := other.DSN(cluster.Superuser, "postgres")
	if err != nil {
		t.Fatal(err)
	}
	super, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	// A cluster of ours has our roles already; somebody else's has not.
	for _, sql := range []string{`DROP DATABASE howdah`, `DROP ROLE howdah_owner`, `DROP ROLE howdah_app`,
		`CREATE ROLE boss LOGIN CREATEROLE CREATEDB PASSWORD 'b p/w'`, `GRANT CONNECT ON DATABASE postgres TO boss`} {
		if _, err := super.Exec(t.Context(), sql); err != nil {
			t.Fatal(sql, err)
		}
	}
	host := net.JoinHostPort("127.0.0.1", port)
	admin := url.URL{Scheme: "postgres", User: url.UserPassword("boss", "b p/w"), Host: host, Path: "/postgres"}

	h := newHouse(t)
	h.args = []string{"--dsn", "postgres://" + host + "/howdah"}
	for range 2 { // again is harmless
		init := h.aside("init", "--dsn", admin.String())
		h.wait(init.program)
		if init.err != nil || !strings.Contains(init.words(), "up --dsn") {
			t.Fatalf("init: %v\n%s", init.err, init.words())
		}
		if strings.Contains(init.words(), "b p/w") || strings.Contains(init.words(), "b%20p") {
			t.Error("init shows the administrator's password")
		}
	}
	owner := h.settle(h.start(), "anna")[0]
	lobby := h.lobby(owner)
	page := h.open(owner, lobby)
	seq := page.say(lobby, chat.NewID(), "hello").Seq

	var strong int
	if err := super.QueryRow(t.Context(), `SELECT count(*) FROM pg_roles WHERE rolname LIKE 'howdah%' AND (rolsuper OR rolcreaterole OR rolcreatedb OR rolreplication OR rolbypassrls)`).Scan(&strong); err != nil || strong > 0 {
		t.Errorf("%d roles of howdah have rights that they do not need, %v", strong, err)
	}
	rows, err := super.Query(t.Context(), `SELECT DISTINCT usename FROM pg_stat_activity WHERE datname = 'howdah'`)
	if err != nil {
		t.Fatal(err)
	}
	users, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil || fmt.Sprint(users) != "[howdah_app]" {
		t.Errorf("connected are %v, %v", users, err)
	}
	super.Close(t.Context())

	if err := other.Stop(t.Context(), cluster.Immediate); err != nil {
		t.Fatal(err)
	}
	page.until("the page to be told", func(f frame) bool { return f.Is == "waiting" })
	if why := h.health(); why == "" {
		t.Error("healthz is well without a database")
	}
	if err := other.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	page.until("the page to be told", func(f frame) bool { return f.Is == "back" })
	if next := h.mustPost(owner, lobby, chat.NewID(), "again"); next != seq+1 {
		t.Errorf("seq %d after %d", next, seq)
	}
	pid, _ := other.Running()
	h.end(h.run, syscall.SIGINT)
	h.empty()
	h.noFaults()
	if now, ok := other.Running(); !ok || now != pid {
		t.Error("somebody else's PostgreSQL was not left alone")
	}
}
