//go:build unix

package cluster

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
)

func TestAClusterIsAsPromised(t *testing.T) {
	t.Parallel()
	c := started(t)
	want := map[string]string{
		"data_checksums": "on", "server_encoding": "UTF8", "listen_addresses": "127.0.0.1", "wal_level": "replica",
		"password_encryption": "scram-sha-256", "logging_collector": "on", "log_destination": "jsonlog", "TimeZone": "UTC",
		"log_timezone": "UTC", "track_commit_timestamp": "on", "hot_standby": "on", "log_file_mode": "0640", "fsync": "on",
		"full_page_writes": "on", "synchronous_commit": "on", "unix_socket_directories": c.path(runName), "archive_mode": "off",
	}
	if c.in.PgAudit {
		want["shared_preload_libraries"], want["pgaudit.log"] = "pgaudit", "role, ddl"
	}
	for name, value := range want {
		if have := ask(t, c, Superuser, "select current_setting('"+name+"')"); have != value {
			t.Errorf("%s = %q, want %q", name, have, value)
		}
	}
	truths := []string{
		"select bool_and(rolcanlogin) and count(*) = 4 and not bool_or(rolsuper or rolcreaterole or rolcreatedb or rolbypassrls) from pg_roles where rolname in ('howdah_owner', 'howdah_app', 'replicator', 'howdah_watch')",
		"select array_agg(rolname::text) = '{replicator}' from pg_roles where rolreplication and not rolsuper",
		"select pg_has_role('howdah_watch', 'pg_monitor', 'member')",
		"select pg_get_userbyid(datdba) = 'howdah_owner' from pg_database where datname = 'howdah'",
		"select not has_database_privilege('replicator', 'howdah', 'connect')",
		"select not has_database_privilege('howdah_app', 'howdah', 'temporary')",
		"select not has_database_privilege('howdah_app', 'postgres', 'connect')",
		"select not has_schema_privilege('howdah_app', 'public', 'create')",
		"select has_schema_privilege('howdah_owner', 'public', 'create')",
		"select bool_and(rolpassword like 'SCRAM-SHA-256$4096:%') and count(*) = 5 from pg_authid where rolcanlogin",
		"select 'ÄÉß' ~ '^[[:alpha:]]+$' and lower('ÄÉ') = 'äé' and '中' ~ '[[:alpha:]]'",
		"select 'Z' < 'a' and datcollate = 'C' or datlocprovider = 'b' from pg_database where datname = 'howdah'",
	}
	for _, query := range truths {
		if have := ask(t, c, Superuser, "select ("+query+")::text"); have != "true" {
			t.Errorf("%s: %s", query, have)
		}
	}
	if c.in.PgAudit {
		if have := ask(t, c, Superuser, "select count(*)::text from pg_extension where extname = 'pgaudit'"); have != "1" {
			t.Errorf("pgaudit is loaded and not created")
		}
		owner, err := connect(t, c, Owner, Database)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := owner.Exec(t.Context(), "create table noticed_by_the_audit (x int)"); err != nil {
			t.Fatal(err)
		}
		eventually(t, "a record of pgAudit in the log", func() bool {
			logs, _ := filepath.Glob(filepath.Join(c.LogDir(), "*.json"))
			return slices.ContainsFunc(logs, func(log string) bool {
				raw, err := os.ReadFile(log)
				return err == nil && strings.Contains(string(raw), "AUDIT: SESSION") && strings.Contains(string(raw), "noticed_by_the_audit")
			})
		})
	}
	if hasSockets {
		if st, err := os.Stat(c.path(secretsName)); err != nil || st.Mode().Perm() != 0o600 || ownerOf(st) != c.opt.Account.uid() {
			t.Errorf("%v, %v", st, err)
		}
		if st, err := os.Stat(c.dir); err != nil || st.Mode().Perm() != 0o700 {
			t.Errorf("%v, %v", st, err)
		}
	}
	if logs, _ := filepath.Glob(filepath.Join(c.LogDir(), "*.json")); len(logs) == 0 {
		t.Error("no jsonlog")
	}
	wantFault(t, c.Init(t.Context()), "cluster.exists", c.dir)

	// A password over TCP, a wrong one, and the rows-only role at something it may not do.
	password, err := c.Password(App)
	if err != nil {
		t.Fatal(err)
	}
	for given, want := range map[string]bool{password: true, "wrong": false} {
		config, err := pgconn.ParseConfig("host=127.0.0.1 user=howdah_app dbname=howdah sslmode=disable password=" + given)
		if err != nil {
			t.Fatal(err)
		}
		config.Port = uint16(c.Status().Port)
		conn, err := pgconn.ConnectConfig(t.Context(), config)
		if (err == nil) != want {
			t.Errorf("password ok %v: %v", want, err)
		}
		if err == nil {
			var refused *pgconn.PgError
			if _, err := conn.Exec(t.Context(), "create table t (x int)").ReadAll(); !errors.As(err, &refused) || refused.Code != "42501" {
				t.Errorf("the app role made a table: %v", err)
			}
			_ = conn.Close(t.Context())
		}
	}
	if _, err := c.DSN("nobody", Database); err == nil {
		t.Error("a DSN for a role that is none")
	}
}

func TestPasswordsStayOutOfTheLog(t *testing.T) {
	t.Parallel()
	c := started(t)
	var all strings.Builder
	for _, dir := range []string{c.LogDir(), c.data()} {
		files, _ := filepath.Glob(filepath.Join(globQuote(dir), "*"))
		for _, file := range files {
			raw, _ := os.ReadFile(file) // directories have nothing to read
			all.Write(raw)
		}
	}
	for _, role := range Roles {
		password, err := c.Password(role)
		if err != nil || len(password) < 26 || strings.Contains(all.String(), password) {
			t.Errorf("%s: password of %d bytes, in a log or not; %v", role, len(password), err)
		}
	}
}

func TestInitLeavesNothingHalf(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(place(t), "data")
	c := newCluster(t, dir, mustFind(t.Context()))
	// What runs leave that were killed at several moments: a temporary directory, secrets without data, an empty data directory.
	half := filepath.Join(dir, ".init-123", dataName, "base")
	for _, d := range []string{half, filepath.Join(dir, dataName)} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for _, f := range []string{filepath.Join(half, "1"), filepath.Join(dir, secretsName)} {
		if err := os.WriteFile(f, []byte("old"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if have := c.Status().State; have != Absent {
		t.Errorf("it is %s", have)
	}
	wantFault(t, c.Start(t.Context()), map[bool]string{true: "cluster.foreign_owner", false: "cluster.not_cluster"}[isRoot()])
	if err := c.Init(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, ".*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	if have := ask(t, c, App, "select current_user::text"); have != App {
		t.Error(have)
	}
}

func TestInitAfterAKilledInit(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(place(t), "data")
	c := newCluster(t, dir, mustFind(t.Context()))
	for _, until := range []string{".init-*", ".init-*/pgdata/base/1/*", ".init-*/pgdata/postgresql.conf"} {
		cmd, _ := other(t, "HOWDAH_TEST_INIT="+dir)
		eventually(t, until, func() bool {
			found, _ := filepath.Glob(filepath.Join(dir, until))
			return len(found) > 0
		})
		_ = cmd.Process.Kill() // initdb goes on for a while
		_ = cmd.Wait()
		if s := c.Status(); s.State != Absent {
			t.Fatalf("%+v", s)
		}
	}
	if err := c.Init(t.Context()); err != nil {
		t.Fatal(err)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, ".init-*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if have := ask(t, c, App, "select current_user::text"); have != App {
		t.Error(have)
	}
}

func TestInitThatFailsMakesNothing(t *testing.T) {
	t.Parallel()
	in := mustFind(t.Context())
	in.Bin = pretend(t, filepath.Join(place(t), "bin"), "15.18")
	if err := os.WriteFile(in.Program("initdb"), []byte("#!/bin/sh\nmkdir -p \"$2\"\necho 'could not extend file: No space left on device'\nexit 1\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	c := newCluster(t, filepath.Join(place(t), "data"), in)
	wantFault(t, c.Init(t.Context()), "cluster.disk_full", c.dir)
	left, _ := filepath.Glob(filepath.Join(c.dir, "*"))
	hidden, _ := filepath.Glob(filepath.Join(c.dir, ".*"))
	for _, path := range append(left, hidden...) {
		if name := filepath.Base(path); name != lockName && name != runName {
			t.Errorf("left behind: %s", path)
		}
	}
}

func TestInitRefusesAForeignDirectory(t *testing.T) {
	t.Parallel()
	dir := place(t)
	if err := os.Mkdir(filepath.Join(dir, dataName), 0o700); err != nil {
		t.Fatal(err)
	}
	precious := filepath.Join(dir, dataName, "thesis.txt")
	if err := os.WriteFile(precious, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	wantFault(t, newCluster(t, dir, mustFind(t.Context())).Init(t.Context()), "cluster.not_cluster", dir)
	if !exists(precious) {
		t.Error("it was deleted")
	}
}

func TestPathsAsPeopleHaveThem(t *testing.T) {
	t.Parallel()
	for _, name := range []string{
		"聊天 室/資料 (1)",
		"it's \"quoted\", $HOME `x` 100%",
		"long/" + strings.Repeat("deeper/", 14) + "data",
		"[a-z]*/b?",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			root := place(t)
			c := newCluster(t, filepath.Join(root, name), mustFind(t.Context()))
			if err := c.Init(t.Context()); err != nil {
				t.Fatal(err)
			}
			if err := c.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
			if have := ask(t, c, App, "select current_user::text"); have != App {
				t.Error(have)
			}
			if have := ask(t, c, Superuser, "show data_directory"); have != c.data() {
				t.Errorf("it runs on %s", have)
			}
			if err := c.Stop(t.Context(), Fast); err != nil {
				t.Fatal(err)
			}
		})
	}
}

func TestAnUnreachableDirectoryIsNamedBeforeAnythingIsMade(t *testing.T) {
	t.Parallel()
	closed := t.TempDir() // 0700, ours
	if err := os.Chmod(closed, 0o700); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(closed, "howdah", "howdah-data")
	a := testAccount(t.Context())
	base := place(t)
	where, moved, err := placeBelow(dir, a, base)
	if err != nil {
		t.Fatal(err)
	}
	if a == nil { // we run as ourselves and can reach our own
		if where != dir || moved {
			t.Errorf("moved to %s", where)
		}
		return
	}
	if !moved || filepath.Dir(where) != base || !exists(where) {
		t.Errorf("placed in %s, %v", where, moved)
	}
	if target, err := os.Readlink(dir); err != nil || target != where {
		t.Errorf("the link leads to %s, %v", target, err)
	}
	if again, moved, err := placeBelow(dir, a, base); again != where || moved || err != nil {
		t.Errorf("a second time: %s, %v, %v", again, moved, err)
	}

	c, err := New(filepath.Join(closed, "other"), mustFind(t.Context()), Options{Account: a})
	if err != nil {
		t.Fatal(err)
	}
	wantFault(t, c.Init(t.Context()), "cluster.unreachable", a.Name)
	if exists(c.dir) {
		t.Error("something was made")
	}
	full := filepath.Join(closed, "full")
	if err := os.MkdirAll(filepath.Join(full, "x"), 0o755); err != nil {
		t.Fatal(err)
	}
	_, _, err = placeBelow(full, a, base)
	wantFault(t, err, "cluster.in_the_way", full)

	root, err := New(place(t), mustFind(t.Context()), Options{})
	if err != nil {
		t.Fatal(err)
	}
	wantFault(t, root.Init(t.Context()), "cluster.root")
}
