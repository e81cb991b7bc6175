package cover_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"howdah/internal/audit"
	"howdah/internal/audit/cover"
	"howdah/internal/cluster"
	"howdah/internal/fault"
)

// TestTriggersTellWhatStatementsDoNot: on a real PostgreSQL without pgAudit, what functions and blocks do to objects is told with its transaction and the statement; nobody else can tell so; and it can all be taken away.
func TestTriggersTellWhatStatementsDoNot(t *testing.T) {
	t.Parallel()
	s, err := cluster.NewScratch(t.Context(), cluster.ScratchOptions{Without: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	do := func(role string, statements ...string) {
		t.Helper()
		dsn, err := s.DSN(role, cluster.Database)
		if err != nil {
			t.Fatal(err)
		}
		conn, err := pgx.Connect(t.Context(), dsn)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close(context.WithoutCancel(t.Context()))
		for _, sql := range statements {
			if _, err := conn.PgConn().Exec(t.Context(), sql).ReadAll(); err != nil { // as psql does
				t.Fatalf("%s: %v", sql, err)
			}
		}
	}
	options := cover.Options{Scope: cover.Default, Database: cluster.Database, App: cluster.App, Watcher: cluster.Watcher, Auditor: cluster.Auditor, Ours: cluster.ConfName,
		DSN: func(database string) (string, error) { return s.DSN(cluster.Superuser, database) }}
	settled := func(step func() (cover.Report, error)) []string {
		t.Helper()
		report, err := step()
		if err != nil {
			t.Fatal(err)
		}
		return slices.DeleteFunc(report.Changed, func(what string) bool { return !strings.Contains(what, "event triggers") })
	}
	apply := func() (cover.Report, error) { return cover.Apply(t.Context(), options) }
	if first := settled(apply); len(first) != 3 { // postgres, template1 and the house's
		t.Fatalf("%q", first)
	}
	if again := settled(apply); len(again) != 0 {
		t.Errorf("settled already, and yet: %q", again)
	}
	do(cluster.Superuser, "ALTER EVENT TRIGGER howdah_watch_dropped ENABLE")
	if again := settled(apply); len(again) != 1 {
		t.Errorf("what was weakened is made anew: %q", again)
	}

	var fewer strings.Builder
	for i := range 25 {
		fmt.Fprintf(&fewer, "CREATE VIEW few.v%d AS SELECT 1 AS a; ", i)
	}
	do(cluster.Superuser, `CREATE FUNCTION "howdah_watch.tell"() RETURNS void LANGUAGE plpgsql AS $$ BEGIN RAISE LOG 'howdah_watch: DROP TABLE,TABLE,public.forged,,'; END $$`,
		`CREATE SCHEMA other; CREATE FUNCTION other.tell() RETURNS void LANGUAGE plpgsql AS $$ BEGIN RAISE LOG 'howdah_watch: DROP TABLE,TABLE,public.forged,,'; END $$`,
		`CREATE FUNCTION hidden() RETURNS void LANGUAGE sql AS 'CREATE TABLE public.by_sql(a int)'`, "CREATE ROLE clerk; GRANT CREATE ON SCHEMA public TO clerk")
	do(cluster.Superuser, "CREATE TABLE public.plain(id serial PRIMARY KEY, secret text)", "CREATE TEMP TABLE passing(a int)", "DROP TABLE passing",
		`DO $$ BEGIN EXECUTE 'CREATE TABLE public."a ""b"", c"(a int DEFAULT length(''pass' || 'word''))'; END $$`,
		`DO $$ BEGIN ALTER TABLE public.plain DROP COLUMN secret; EXCEPTION WHEN OTHERS THEN RAISE; END $$`,
		"SELECT hidden()", "SET session_replication_role = replica; DROP TABLE public.plain",
		"SET ROLE clerk; CREATE TABLE public.by_clerk(a int)", "RESET ROLE; GRANT SELECT ON public.by_clerk TO PUBLIC", "BEGIN; DROP TABLE public.by_sql; ROLLBACK",
		`CREATE DOMAIN pg_temp.text AS varchar(1)`, `CREATE TABLE public.shadowed(a int)`,
		"CREATE SCHEMA many", `DO $$ BEGIN FOR i IN 1..205 LOOP EXECUTE 'CREATE VIEW many.v' || i || ' AS SELECT 1 AS a'; END LOOP; END $$`, "CREATE TABLE many.last(a int)", "DROP SCHEMA many CASCADE",
		"CREATE TABLE public.long(a int) /*"+strings.Repeat("x", 70000)+"*/; CREATE SCHEMA few; "+fewer.String()+"DROP SCHEMA few CASCADE",
		`SELECT "howdah_watch.tell"()`, "SELECT other.tell()", `SET search_path = other; SELECT tell()`,
		`DO $$ BEGIN RAISE LOG E'howdah_watch: DROP TABLE,TABLE,public.forged,,\nPL/pgSQL function howdah_watch.tell() line 1 at RAISE'; END $$`,
		`DO $$ BEGIN EXECUTE E'DO ''BEGIN RAISE LOG ''''howdah_watch: DROP TABLE,TABLE,public.forged,,''''; END'' /*\nPL/pgSQL function howdah_watch.tell() line 26 at RAISE\n*/'; END $$`)
	if err := func() error {
		dsn, err := s.DSN(cluster.Superuser, cluster.Database)
		if err != nil {
			return err
		}
		conn, err := pgx.Connect(t.Context(), dsn)
		if err != nil {
			return err
		}
		defer conn.Close(context.WithoutCancel(t.Context()))
		_, err = conn.Exec(t.Context(), "SELECT howdah_watch.tell()")
		return err
	}(); err == nil {
		t.Error("the function can be called by hand")
	}
	do(cluster.Superuser, "DO $$ BEGIN RAISE LOG 'that is all'; END $$")

	var told []string
	forged, failed := 0, 0
	enough := errors.New("enough")
	transactions := map[uint64]bool{}
	err = audit.Follow(t.Context(), s.LogDir(), audit.Position{}, func(b audit.Batch) error {
		for i := range b.Lines {
			l := &b.Lines[i]
			l.Mask()
			if l.Forged {
				forged++
			}
			if strings.HasPrefix(l.Message, "howdah_watch: FAILED") {
				failed++
			}
			if l.Message == "that is all" {
				return enough
			}
			if l.Audit == nil || l.User != "postgres" && l.User != cluster.Superuser || strings.Contains(l.App, "cover") {
				continue
			}
			if len(l.Statement) > 0 {
				t.Errorf("the whole statement is there again: %.80s", l.Statement)
			}
			r := l.Audit
			if r.Type != audit.Triggered || l.TXID == 0 {
				t.Errorf("%+v", r)
			}
			transactions[l.TXID] = true
			nested := ""
			if l.Nested() {
				nested = " <" + r.Statement
			}
			told = append(told, r.Class+" "+r.Command+" "+r.ObjectType+" "+r.ObjectName+r.Parameter+nested)
		}
		return nil
	})
	if !errors.Is(err, enough) {
		t.Fatal(err)
	}
	for _, want := range []string{
		"DDL CREATE TABLE TABLE public.plain", `DDL CREATE TABLE TABLE public."a ""b"", c" <CREATE TABLE public."a ""b"", c"(a int DEFAULT length('password'))`,
		"DDL ALTER TABLE TABLE COLUMN public.plain.secret <ALTER TABLE public.plain DROP COLUMN secret", "DDL CREATE TABLE TABLE public.by_sql <SELECT hidden()",
		"DDL DROP TABLE TABLE public.plain", "DDL CREATE TABLE TABLE public.by_clerkcurrent_user = clerk", "ROLE GRANT TABLE ", "DDL DROP TABLE TABLE public.by_sql",
		"DDL CREATE TABLE TABLE public.shadowed", "DDL DROP SCHEMA TABLE many.last", "DDL DROP SCHEMA MORE 7 more", "DDL DROP SCHEMA VIEW few.v24",
		"DDL CREATE FUNCTION FUNCTION public.hidden()", "DDL CREATE SCHEMA SCHEMA other", "DDL CREATE FUNCTION FUNCTION other.tell()",
	} {
		if !slices.Contains(told, want) {
			t.Errorf("not told: %s", want)
		}
	}
	if slices.ContainsFunc(told, func(what string) bool { return strings.Contains(what, "passing") || strings.Contains(what, "forged") }) || forged != 5 || failed != 0 {
		t.Errorf("%d are forged, %d failed: %s", forged, failed, strings.Join(told, "\n"))
	}
	if t.Failed() {
		t.Log(strings.Join(told, "\n"))
	}

	// A dump has nothing of them, and can be restored by whoever owns a database that has them as well.
	do(cluster.Superuser, "CREATE ROLE restorer", "CREATE DATABASE restored OWNER restorer")
	in, err := cluster.Find(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	run := func(database, program string, stdin []byte, args ...string) []byte {
		t.Helper()
		dsn, err := s.DSN(cluster.Superuser, database)
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.CommandContext(t.Context(), in.Program(program), append(args, "--dbname="+dsn)...)
		cmd.Stdin, cmd.Env = bytes.NewReader(stdin), append(os.Environ(), "PGOPTIONS=-c role=restorer")
		if program == "pg_dump" {
			cmd.Env = os.Environ()
		}
		out, err := cmd.Output()
		if err != nil {
			var failed *exec.ExitError
			errors.As(err, &failed)
			t.Fatalf("%v: %s", err, failed.Stderr)
		}
		return out
	}
	dump := run(cluster.Database, "pg_dump", nil, "--no-owner", "--no-acl", "--table=public.by_clerk")
	if whole := run(cluster.Database, "pg_dump", nil, "--schema-only"); bytes.Contains(whole, []byte("EVENT TRIGGER")) || bytes.Contains(whole, []byte("SCHEMA howdah_watch")) || bytes.Contains(whole, []byte("FUNCTION howdah_watch.")) {
		t.Error("the dump has the triggers")
	}
	run("restored", "psql", dump, "--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1")

	// Whoever owns a database cannot have us run what is theirs.
	do(cluster.Superuser, "ALTER DATABASE restored SET search_path = public, pg_catalog", "GRANT ALL ON DATABASE restored TO restorer")
	run("restored", "psql", []byte(`CREATE SCHEMA IF NOT EXISTS public; CREATE FUNCTION public.to_hex(bigint) RETURNS text LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'run as %', current_user; END $$;`), "--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1")
	if _, err := apply(); err != nil {
		t.Error(err)
	}

	// What somebody else has there stays, is told of, and keeps no other database from being settled.
	do(cluster.Superuser, "ALTER EVENT TRIGGER howdah_watch_dropped ENABLE", "CREATE TABLE howdah_watch.diary(a int)", "CREATE DATABASE bare TEMPLATE template0")
	if report, err := apply(); !fault.HasKey(err, "cover.strange") || len(report.Changed) != 1 || !strings.HasPrefix(report.Changed[0], "bare: event triggers") {
		t.Errorf("%q, %v", report.Changed, err)
	}
	do(cluster.Superuser, "TABLE howdah_watch.diary", "DROP TABLE howdah_watch.diary", "DROP DATABASE bare")
	if again := settled(apply); len(again) != 1 || !strings.HasPrefix(again[0], cluster.Database) {
		t.Errorf("%q", again)
	}

	away := func() (cover.Report, error) { return cover.Triggers(t.Context(), options, false) }
	if gone := settled(away); len(gone) != 4 { // and the restored one
		t.Errorf("%q", gone)
	}
	if again := settled(away); len(again) != 0 {
		t.Errorf("%q", again)
	}
	do(cluster.Superuser, "DROP TABLE public.by_sql") // by nobody's leave
}
