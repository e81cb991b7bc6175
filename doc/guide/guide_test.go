// Package guide holds what people read, and tests that do what it says.
package guide

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"filippo.io/age"
	"github.com/jackc/pgx/v5"

	"howdah/internal/cli/clitest"
	"howdah/internal/cluster"
	"howdah/internal/keeper"
	"howdah/internal/repo"
	"howdah/internal/wal"
)

var fences = regexp.MustCompile("(?ms)^```sh\n(.*?)^```$")

// commands are the blocks of commands of a page.
func commands(t *testing.T, page string) (blocks []string) {
	t.Helper()
	raw, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range fences.FindAllSubmatch(raw, -1) {
		blocks = append(blocks, string(m[1]))
	}
	return blocks
}

func TestBothLanguagesShowTheSameCommands(t *testing.T) {
	t.Parallel()
	pages, err := filepath.Glob("*.zh-TW.md")
	if err != nil || len(pages) == 0 {
		t.Fatal("no pages", err)
	}
	for _, page := range pages {
		english := strings.TrimSuffix(page, ".zh-TW.md") + ".md"
		if want, got := commands(t, english), commands(t, page); !slices.Equal(want, got) {
			t.Errorf("%s has other commands than %s", page, english)
		}
	}
}

// TestMain takes away the program that the tests have shared.
func TestMain(m *testing.M) {
	code := m.Run()
	clitest.Remove()
	os.Exit(code)
}

// person is who follows the page: an ordinary account, in a folder of its own.
type person struct {
	account *cluster.Account
	dir     string
	env     []string
}

func newPerson(t *testing.T) *person {
	t.Helper()
	p := &person{}
	var err error
	if os.Geteuid() == 0 {
		if p.account, err = cluster.EnsureAccount(t.Context(), cluster.DefaultAccount); err != nil {
			t.Fatal(err)
		}
	}
	if p.dir, err = os.MkdirTemp("/tmp", "howdah-guide-"); err != nil { // a short path, for the socket
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(p.dir) })
	p.own(t, p.dir)
	return p
}

// own gives a folder and all in it to the person.
func (p *person) own(t *testing.T, path string) {
	t.Helper()
	if p.account == nil {
		return
	}
	out, err := exec.CommandContext(t.Context(), "chown", "-R", fmt.Sprintf("%d:%d", p.account.UID, p.account.GID), path).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}

func (p *person) bash(t *testing.T, script string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 15*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", "-c", script)
	cmd.Dir = p.dir
	cmd.Env = append(slices.DeleteFunc(os.Environ(), func(pair string) bool { return strings.HasPrefix(pair, "PG") }), p.env...)
	// The server that is started at the end keeps its output open; so it goes into a file.
	out, err := os.CreateTemp(t.TempDir(), "out")
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	cmd.Stdout, cmd.Stderr = out, out
	as(cmd, p.account)
	err = cmd.Run()
	said, readErr := os.ReadFile(out.Name())
	if err != nil || readErr != nil {
		t.Fatalf("%v, %v\n%s", err, readErr, said)
	}
	return string(said)
}

// original is the cluster that is lost in the end.
type original struct {
	*cluster.Scratch
	conn *pgx.Conn
}

func (o *original) do(t *testing.T, statements ...string) {
	t.Helper()
	for _, statement := range statements {
		if _, err := o.conn.Exec(t.Context(), statement); err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
	}
}

func connect(t *testing.T, dsn string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(context.WithoutCancel(t.Context())) })
	return conn
}

// contents is a hash of all rows that there are to lose.
func contents(t *testing.T, dsn string) (sum string) {
	t.Helper()
	err := connect(t, dsn).QueryRow(t.Context(), `SELECT count(*) || ' ' || md5(string_agg(e::text, E'\n' ORDER BY id)) FROM elephant e`).Scan(&sum)
	if err != nil {
		t.Fatal(err)
	}
	return sum
}

// TestTheCommandsOfRestoreByHandRestore does exactly what the page says, with what Howdah made.
func TestTheCommandsOfRestoreByHandRestore(t *testing.T) {
	t.Parallel()
	for _, encrypted := range []bool{false, true} {
		t.Run(fmt.Sprintf("encrypted=%v", encrypted), func(t *testing.T) {
			t.Parallel()
			p := newPerson(t)
			keys := &repo.Keys{}
			var recipients []string
			key := filepath.Join(p.dir, "key.txt")
			if encrypted {
				id, err := age.GenerateX25519Identity()
				if err != nil {
					t.Fatal(err)
				}
				recipients = []string{id.Recipient().String()}
				if err := os.WriteFile(key, []byte(id.String()+"\n"), 0o600); err != nil {
					t.Fatal(err)
				}
				if keys, err = repo.NewKeys(recipients, ""); err != nil { // who makes backups cannot read them
					t.Fatal(err)
				}
			}
			place := filepath.Join(p.dir, "backup", "howdah")
			r, err := repo.Open(t.Context(), place, repo.Options{Create: true, Keys: keys})
			if err != nil {
				t.Fatal(err)
			}
			o := startOriginal(t, p, r, recipients)
			live, before := backUp(t, p, o, r)
			p.env = []string{"REPO=" + place, "CLUSTER=main", "DB=shop", "KEY=" + key, "PATH=" + os.Getenv("PATH") + ":" + o.Installation().Bin, "LC_ALL=C.UTF-8"}
			config := o.conn.Config()
			p.env = append(p.env, "PGHOST="+config.Host, fmt.Sprintf("PGPORT=%d", config.Port), "PGUSER="+config.User, "PGPASSWORD="+config.Password)

			blocks := commands(t, "restore-by-hand.md")
			for line := range strings.Lines(blocks[0]) { // in their place are ours
				for _, word := range strings.Fields(line)[1:] {
					if name, _, _ := strings.Cut(word, "="); !slices.ContainsFunc(p.env, func(pair string) bool { return strings.HasPrefix(pair, name+"=") }) {
						t.Errorf("the test does not set %s", name)
					}
				}
			}
			t.Cleanup(func() {
				p.bash(t, `if [ -e restored/postmaster.pid ]; then pg_ctl -D restored -m immediate stop; fi`)
			})
			t.Log(p.bash(t, strings.Join(blocks[1:], "\n")))

			dsn := func(database string) string {
				text, err := o.DSN(cluster.Superuser, database)
				if err != nil {
					t.Fatal(err)
				}
				return text
			}
			for _, database := range []string{"restored_custom", "restored_plain", "restored_directory"} {
				if got := contents(t, dsn(database)); got != before {
					t.Errorf("%s holds %s, not %s", database, got, before)
				}
			}
			restored := "host=" + filepath.Join(p.dir, "socket") + " port=5432 user=postgres dbname=shop"
			if got := contents(t, restored); got != live {
				t.Errorf("the cluster holds %s, not %s", got, live)
			}
			var mode, somewhere string
			err = connect(t, restored).QueryRow(t.Context(), `SELECT current_setting('archive_mode'), pg_tablespace_location(oid) FROM pg_tablespace WHERE spcname = 'fast'`).
				Scan(&mode, &somewhere)
			if err != nil || mode != "off" || !strings.HasPrefix(somewhere, p.dir+"/tablespaces/") {
				t.Errorf("archive_mode is %s, the tablespace is in %s, %v", mode, somewhere, err)
			}
		})
	}
}

// startOriginal starts a cluster that archives into the repo.
func startOriginal(t *testing.T, p *person, r *repo.Repo, recipients []string) *original {
	t.Helper()
	howdah := clitest.Program(t)
	s, err := cluster.NewScratch(t.Context(), cluster.ScratchOptions{Settings: map[string]string{"archive_mode": "on"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	dsn, err := s.DSN(cluster.Superuser, "postgres")
	if err != nil {
		t.Fatal(err)
	}
	o := &original{Scratch: s, conn: connect(t, dsn)}
	id := wal.Identity{Major: s.Installation().Version.Major, SegmentSize: 16 << 20}
	if err := o.conn.QueryRow(t.Context(), "SELECT system_identifier FROM pg_control_system()").Scan(&id.System); err != nil {
		t.Fatal(err)
	}
	if err := r.Bind(t.Context(), repo.Cluster{Name: "main", System: id.System, Major: id.Major, SegmentSize: 16 << 20}); err != nil {
		t.Fatal(err)
	}
	settings := keeper.Settings{Cluster: "main", Identity: id, Repos: []keeper.Place{{Address: r.String()}}, Recipients: recipients}
	file := filepath.Join(p.dir, "settings.json")
	if err := settings.Save(file); err != nil {
		t.Fatal(err)
	}
	p.own(t, p.dir)
	o.do(t, fmt.Sprintf(`ALTER SYSTEM SET archive_command = '"%s" wal push --settings "%s" "%%p"'`, howdah, file), "SELECT pg_reload_conf()")
	return o
}

// backUp makes one backup of each kind, and goes on writing after that. It gives what the database holds at the end, and what it held when it was dumped.
func backUp(t *testing.T, p *person, o *original, r *repo.Repo) (live, dumped string) {
	t.Helper()
	fast := filepath.Join(p.dir, "fast")
	if err := os.Mkdir(fast, 0o700); err != nil {
		t.Fatal(err)
	}
	p.own(t, fast)
	o.do(t, "CREATE ROLE visitor", "CREATE TABLESPACE fast LOCATION '"+fast+"'", "CREATE DATABASE shop")
	dsn, err := o.DSN(cluster.Superuser, "shop")
	if err != nil {
		t.Fatal(err)
	}
	shop := &original{Scratch: o.Scratch, conn: connect(t, dsn)}
	shop.do(t, "CREATE TABLE elephant (id int PRIMARY KEY USING INDEX TABLESPACE fast, name text)", "GRANT SELECT ON elephant TO visitor",
		"INSERT INTO elephant SELECT i, '大象 ' || i FROM generate_series(1, 20000) i")
	dumped = contents(t, dsn)
	root, err := o.DSN(cluster.Superuser, "postgres")
	if err != nil {
		t.Fatal(err)
	}
	server := keeper.Server{DSN: root, Programs: o.Installation()}
	for _, form := range []keeper.Form{keeper.Custom, keeper.Plain, keeper.Directory} {
		opt := keeper.DumpOptions{Cluster: "main", Form: form, Databases: []string{"shop"}, Globals: form == keeper.Custom}
		if _, err := keeper.TakeDump(t.Context(), r, server, opt); err != nil {
			t.Fatal(err)
		}
	}
	replication, err := o.DSN(cluster.Replicator, "postgres")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := keeper.TakeBase(t.Context(), r, keeper.BaseOptions{Cluster: "main", DSN: replication, WithWAL: keeper.WALArchive}); err != nil {
		t.Fatal(err)
	}
	shop.do(t, "INSERT INTO elephant SELECT i, 'later ' || i FROM generate_series(20001, 30000) i")
	live = contents(t, dsn)
	var last string
	if err := o.conn.QueryRow(t.Context(), "SELECT pg_walfile_name(pg_switch_wal())").Scan(&last); err != nil {
		t.Fatal(err)
	}
	again := time.NewTicker(50 * time.Millisecond)
	defer again.Stop()
	for deadline := time.Now().Add(5 * time.Minute); ; <-again.C {
		var archived string
		if err := o.conn.QueryRow(t.Context(), "SELECT coalesce(last_archived_wal, '') FROM pg_stat_archiver").Scan(&archived); err != nil {
			t.Fatal(err)
		}
		if archived >= last {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s is not archived, only %s", last, archived)
		}
	}
	p.own(t, p.dir)
	return live, dumped
}

func TestTheCommandsHaveNoTabsAndNoCarriageReturns(t *testing.T) {
	t.Parallel()
	pages, _ := filepath.Glob("*.md")
	for _, page := range pages {
		raw, err := os.ReadFile(page)
		if err != nil || bytes.ContainsAny(raw, "\t\r") {
			t.Errorf("%s: %v", page, err)
		}
	}
}
