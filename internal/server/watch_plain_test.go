package server

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"howdah/internal/audit"
	"howdah/internal/audit/check"
	"howdah/internal/cluster"
	"howdah/internal/pg/pgtest"
)

// TestWithoutPgAuditTheWatchLivesOnStatements: a PostgreSQL that has no pgAudit, as on Windows, is watched by what it can log itself. What is done is judged, the catalogs agree with it, the canary is heard, and what
// is not seen is listed.
func TestWithoutPgAuditTheWatchLivesOnStatements(t *testing.T) {
	t.Parallel()
	scratch, err := cluster.NewScratch(t.Context(), cluster.ScratchOptions{Without: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := scratch.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	e := newEye(t, scratch.Cluster)
	ways := func(role string) check.Way {
		return func(database string) (string, error) { return scratch.DSN(role, database) }
	}
	connect := func() *pgx.Conn {
		t.Helper()
		dsn, err := scratch.DSN(cluster.Superuser, cluster.Database)
		if err != nil {
			t.Fatal(err)
		}
		conn, err := pgx.Connect(t.Context(), dsn)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close(context.WithoutCancel(t.Context())) })
		return conn
	}
	e.s.cover(t.Context())
	pgtest.Await(t, "statements are logged", func() bool {
		var is string
		conn := connect()
		defer conn.Close(t.Context())
		return conn.QueryRow(t.Context(), "SHOW log_statement").Scan(&is) == nil && is == "ddl"
	})
	r, err := check.Run(t.Context(), check.Options{Ways: []check.Way{ways(cluster.Watcher), ways(cluster.Superuser)}, Files: true, Triggers: true})
	if err != nil || r.Audited || len(r.Without) == 0 || len(r.Findings) != 1 || r.Findings[0].ID != "watch.pgaudit" {
		t.Fatalf("%+v, %v", r, err)
	}
	noise := func() { _ = connect().Close(t.Context()) }
	e.glance(noise)
	if e.canary.heard.IsZero() || len(Troubles(scratch.Cluster)) > 0 {
		t.Fatalf("%+v", e.canary)
	}
	do := func(statements ...string) {
		t.Helper()
		conn := connect()
		for _, sql := range statements {
			if _, err := conn.Exec(t.Context(), sql); err != nil {
				t.Fatalf("%s: %v", sql, err)
			}
		}
	}
	do("CREATE ROLE clerk LOGIN", "CREATE FUNCTION public.one() RETURNS int LANGUAGE sql AS 'SELECT 1'", "GRANT pg_monitor TO clerk", "ALTER ROLE clerk SET work_mem = '8MB'", "DROP FUNCTION one()", "CREATE ROLE boss SUPERUSER")
	e.glance(noise)
	e.glance(noise)
	e.rules()
	if !slices.Contains(e.found, "role.superuser") || slices.Contains(e.found, "watch.unexplained") || slices.Contains(e.found, "watch.vanished") {
		t.Errorf("what was said is judged, and explains the catalogs: %q", e.found)
	}
	if !slices.ContainsFunc(e.kept, func(l audit.Line) bool { return l.Message == "statement: CREATE ROLE boss SUPERUSER" }) {
		t.Error("it is not on the trail")
	}
	// Event triggers tell what was done to objects, also where log_statement sees nothing, and with the transaction. What they tell of a statement that was judged is no second finding.
	e.found = nil
	do("CREATE TABLE public.till(a int); CREATE TABLE public.safe(a int); CREATE ROLE mallory SUPERUSER LOGIN", "SET ROLE mallory; DROP TABLE public.till CASCADE", "DO $$ BEGIN EXECUTE 'DROP TA' || 'BLE public.safe CASCADE'; END $$",
		"DO $$ BEGIN RAISE LOG 'howdah_watch: DROP TABLE,TABLE,public.forged,,'; END $$")
	e.glance(noise)
	e.glance(noise)
	e.rules()
	seen := func(what string) (n int) {
		for i := range e.kept {
			if l := &e.kept[i]; l.Audit != nil && l.Audit.Type == audit.Triggered && l.TXID != 0 && l.Audit.Command+" "+l.Audit.ObjectName == what {
				n++
			}
		}
		return n
	}
	if seen("DROP TABLE public.till") != 1 || seen("DROP TABLE public.safe") != 1 || seen("DROP TABLE public.forged") != 0 {
		t.Errorf("the trail has not what was dropped: %+v", e.kept)
	}
	if !slices.Contains(e.found, "watch.forged") || slices.Contains(e.found, "watch.unexplained") || slices.Contains(e.found, "watch.vanished") {
		t.Errorf("%q", e.found)
	}

	do("DO $$ BEGIN CREATE TABLE public.cover_up(); EXECUTE 'CREATE ROLE gh' || 'ost SUPERUSER'; END $$")
	e.glance(noise)
	e.glance(noise)
	e.rules()
	if !slices.Contains(e.found, "watch.unexplained") {
		t.Errorf("what a block hides is found in the catalogs: %q", e.found)
	}

	// A database that is new has them as soon as it was looked at, also one that was made from template0; and its catalogs are compared as those of the others.
	select { // what was done to that of the house
	case <-e.unsettled:
	default:
	}
	do("CREATE DATABASE later TEMPLATE template0")
	e.glance(noise)
	if e.hurry.IsZero() {
		t.Error("the new database is not hurried to")
	}
	select {
	case <-e.unsettled:
	default:
		t.Fatal("nobody is told of the new database")
	}
	e.s.cover(t.Context())
	in := func(database string, statements ...string) {
		t.Helper()
		dsn, err := scratch.DSN(cluster.Superuser, database)
		if err != nil {
			t.Fatal(err)
		}
		conf, err := pgx.ParseConfig(dsn)
		if err != nil {
			t.Fatal(err)
		}
		conn, err := pgx.ConnectConfig(t.Context(), conf)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close(context.WithoutCancel(t.Context()))
		for _, sql := range statements {
			if _, err := conn.Exec(t.Context(), sql); err != nil {
				t.Fatalf("%s: %v", sql, err)
			}
		}
	}
	r, err = check.Run(t.Context(), check.Options{Ways: []check.Way{ways(cluster.Watcher), ways(cluster.Superuser)}, Triggers: true, Only: []string{"watch.triggers"}})
	if err != nil || len(r.Findings) != 0 || len(r.Unseen) != 0 {
		t.Errorf("%+v, %v", r, err)
	}
	again := func() { // as when its turn has come
		for _, one := range e.around.known {
			one.looked = time.Time{}
		}
		e.glance(noise)
	}
	in("later", "CREATE FUNCTION public.one() RETURNS int LANGUAGE sql AS 'SELECT 1'")
	again()
	again()
	e.rules()
	if slices.Contains(e.found, "watch.vanished") {
		t.Errorf("%q", e.found)
	}
	e.found = nil
	in("later", "UPDATE pg_proc SET prosecdef = true WHERE proname = 'one'", "ALTER EVENT TRIGGER howdah_watch_dropped DISABLE")
	again()
	again()
	again()
	e.rules()
	if n := len(e.found); n == 0 || !slices.Contains(e.found, "watch.unexplained") {
		t.Errorf("%q", e.found)
	}
	select {
	case <-e.unsettled:
	default:
		t.Error("nobody is told that a trigger is disabled")
	}
	r, err = check.Run(t.Context(), check.Options{Ways: []check.Way{ways(cluster.Watcher), ways(cluster.Superuser)}, Triggers: true, Only: []string{"watch.triggers"}})
	if err != nil || len(r.Findings) != 1 || !slices.Equal(r.Findings[0].Names, []string{"later: howdah_watch_dropped is disabled"}) {
		t.Errorf("%+v, %v", r, err)
	}

	// What PostgreSQL refused was not done, though it was written down before.
	e.found = nil
	conn := connect()
	if _, err := conn.Exec(t.Context(), "DROP SCHEMA public, no_such CASCADE"); err == nil {
		t.Fatal("it was dropped")
	}
	e.glance(noise)
	e.rules()
	failed := 0
	for _, i := range e.due {
		failed += i.Failed
	}
	if failed == 0 {
		t.Errorf("%q", e.found)
	}
}
