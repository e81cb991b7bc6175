package catalog_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"howdah/internal/audit"
	"howdah/internal/audit/catalog"
	"howdah/internal/audit/judge"
	"howdah/internal/cluster"
)

// TestWhatIsChangedBehindTheLogsBack: on a real PostgreSQL with pgAudit, everything that is done openly is explained by its records, and what is done with auditing
// off, in the catalog itself or behind a password is found, whatever the log says.
func TestWhatIsChangedBehindTheLogsBack(t *testing.T) {
	t.Parallel()
	s, err := cluster.NewScratch(t.Context(), cluster.ScratchOptions{Settings: map[string]string{"shared_preload_libraries": "pgaudit", "pgaudit.log": "role, ddl",
		"track_commit_timestamp": "on"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	dsn, err := s.DSN(cluster.Superuser, "postgres")
	if err != nil {
		t.Fatal(err)
	}
	session := func() *pgx.Conn {
		t.Helper()
		conn, err := pgx.Connect(t.Context(), dsn)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close(context.Background()) })
		return conn
	}
	do := func(conn *pgx.Conn, statements ...string) {
		t.Helper()
		for _, sql := range statements {
			if _, err := conn.Exec(t.Context(), sql); err != nil {
				t.Fatalf("%s: %v", sql, err)
			}
		}
	}
	rules, err := judge.LoadRules(nil)
	if err != nil {
		t.Fatal(err)
	}
	j := judge.New(rules, judge.Options{})
	admin, watch := session(), session()
	var beside *pgx.Conn // in another database, in which there is nothing of pgAudit but the library
	marks := 0
	var at audit.Position
	// look reads the log to a mark behind everything that was done, and then compares the catalogs.
	look := func() (found []string) {
		t.Helper()
		marks++
		mark := fmt.Sprintf("mark %d", marks)
		do(admin, "COMMENT ON DATABASE postgres IS '"+mark+"'")
		seen := errors.New("seen")
		err := audit.Follow(t.Context(), s.LogDir(), at, func(b audit.Batch) error {
			at = b.Position
			marked := false
			for i := range b.Lines {
				b.Lines[i].Mask()
				j.Line(&b.Lines[i])
				marked = marked || b.Lines[i].Audit != nil && strings.Contains(b.Lines[i].Audit.Statement, mark)
			}
			if marked {
				return seen
			}
			return nil
		})
		if !errors.Is(err, seen) {
			t.Fatal(err)
		}
		both, err := catalog.Read(t.Context(), watch, j.Transactions())
		if err != nil {
			t.Fatal(err)
		}
		if beside != nil {
			own, err := catalog.ReadOwn(t.Context(), beside)
			if err != nil {
				t.Fatal(err)
			}
			own.Commits, own.Of = both[0].Commits, both[0].Of
			both = append(both, own)
		}
		for _, snapshot := range both {
			for _, v := range j.Reconcile(snapshot) {
				if v.Incident == nil {
					t.Errorf("%s does not alarm", v.Rule)
				}
				found = append(found, v.Event.Kind+" "+v.Event.ObjectType+" "+v.Event.ObjectName)
			}
		}
		slices.Sort(found)
		return found
	}
	do(admin, "CREATE EXTENSION pgaudit", "CREATE ROLE monitor LOGIN", "CREATE ROLE watch")
	do(admin, catalog.Grants("watch")...)
	do(watch, "SET ROLE watch") // it needs no more than that
	if found := look(); len(found) > 0 {
		t.Errorf("the first look finds %v", found)
	}

	before, err := catalog.Rights(t.Context(), watch)
	if err != nil {
		t.Fatal(err)
	}
	open := session()
	do(open, "CREATE ROLE staff", "CREATE ROLE clerk LOGIN PASSWORD 'x'", "GRANT staff TO clerk", "ALTER ROLE clerk SET work_mem = '8MB'", "GRANT SET ON PARAMETER log_min_duration_statement TO clerk",
		"CREATE FUNCTION one() RETURNS int LANGUAGE sql AS 'SELECT 1'", "CREATE TABLE t(a int)", "ALTER TABLE t ENABLE ROW LEVEL SECURITY", "CREATE POLICY mine ON t USING (true)", "CREATE EXTENSION IF NOT EXISTS pg_trgm",
		"ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO staff", "CREATE PUBLICATION p FOR TABLE t", "CREATE TABLE t2(a int)", "CREATE TABLE t3(a int)", "ALTER PUBLICATION p ADD TABLE t2, t3", "CREATE SUBSCRIPTION taken CONNECTION 'dbname=x' PUBLICATION p WITH (connect = false)", "CREATE DATABASE other", "TRUNCATE t", "VACUUM FULL", "DROP FUNCTION one()", "CREATE ROLE gone", "DROP ROLE gone",
		"BEGIN", "SAVEPOINT a", "CREATE ROLE sub1", "SAVEPOINT b", "CREATE ROLE sub2", "RELEASE b", "COMMIT",
		"DO $$ BEGIN BEGIN CREATE ROLE sub3; EXCEPTION WHEN others THEN NULL; END; END $$",
		"BEGIN", "CREATE ROLE never", "ROLLBACK")
	after, err := catalog.Rights(t.Context(), watch)
	if err != nil {
		t.Fatal(err)
	}
	gained, lost := after.Compare(before)
	for _, want := range []audit.Right{{Kind: audit.RightMember, Who: "clerk", What: "staff"}, {Kind: audit.RightOwner, Who: "postgres", What: "database other"}, {Kind: audit.RightPublic, Who: "PUBLIC", What: "CONNECT on database other"}} {
		if !slices.Contains(gained, want) {
			t.Errorf("%v is not among the rights that came: %v", want, gained)
		}
	}
	if len(lost) != 0 || !slices.Contains(after.Rows, audit.Right{Kind: audit.RightPower, Who: "postgres", What: "superuser"}) {
		t.Errorf("%v, %v", lost, after.Rows)
	}
	if found := look(); len(found) > 0 {
		t.Errorf("what was done openly is not explained: %v", found)
	}
	do(open, "DROP POLICY mine ON t", "REVOKE staff FROM clerk", "ALTER ROLE clerk RESET ALL", "ALTER ROLE staff RENAME TO crew", "ALTER PUBLICATION p DROP TABLE t2", "DROP TABLE t3", "ALTER SUBSCRIPTION taken SET (slot_name = NONE)", "DROP SUBSCRIPTION taken", "CREATE TABLE t4(a int)", "DROP EXTENSION pg_trgm")
	if found := look(); len(found) > 0 {
		t.Errorf("what was taken away openly is not explained: %v", found)
	}

	if dsn, err = s.DSN(cluster.Superuser, "other"); err != nil {
		t.Fatal(err)
	}
	beside = session()
	do(beside, "SET ROLE watch")
	look()
	there := session()
	do(there, "CREATE FUNCTION two() RETURNS int LANGUAGE sql AS 'SELECT 2'", "ALTER FUNCTION two() SECURITY DEFINER", "CREATE FUNCTION three() RETURNS int LANGUAGE sql AS 'SELECT 3'", "DROP FUNCTION three()", "CREATE EXTENSION pg_trgm", "CREATE EXTENSION hstore",
		"DROP EXTENSION hstore", "CREATE TABLE t(a int)", "CREATE POLICY mine ON t USING (true)", "CREATE PUBLICATION p FOR TABLE t", "ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO crew", "DO $$ BEGIN CREATE FUNCTION four() RETURNS int LANGUAGE sql AS 'SELECT 4'; END $$",
		"DO $$ BEGIN BEGIN ALTER FUNCTION two() SECURITY INVOKER; EXCEPTION WHEN others THEN NULL; END; END $$", "BEGIN", "SAVEPOINT a", "CREATE OR REPLACE FUNCTION two() RETURNS int LANGUAGE sql AS 'SELECT 22'", "COMMIT")
	if found := look(); len(found) > 0 {
		t.Errorf("what was done openly in another database is not explained: %v", found)
	}
	do(there, "UPDATE pg_proc SET prosecdef = true WHERE proname = 'two'")
	if found := look(); !slices.Equal(found, []string{"catalog.unexplained function public.two()"}) {
		t.Errorf("what was done there behind the log's back: %v", found)
	}
	do(admin, "CREATE DATABASE quiet", "ALTER DATABASE quiet SET pgaudit.log = 'read, write'", "ALTER DATABASE other SET pgaudit.log = 'role, ddl'")
	databases, err := catalog.Databases(t.Context(), watch)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, d := range databases {
		if names = append(names, d.Name); d.OID == 0 || d.Mute != (d.Name == "quiet") || d.May != (d.Name == "other" || d.Name == "quiet") { // the scratch cluster lets nobody into its own
			t.Errorf("%+v", d)
		}
	}
	if !slices.Equal(names, []string{cluster.Database, "other", "postgres", "quiet", "template1"}) {
		t.Errorf("%q", names)
	}
	beside = nil
	if dsn, err = s.DSN(cluster.Superuser, "postgres"); err != nil {
		t.Fatal(err)
	}
	look()

	hidden := session()
	do(hidden, "SET pgaudit.log = 'none'", "CREATE ROLE ghost SUPERUSER LOGIN", "CREATE FUNCTION trap() RETURNS int LANGUAGE sql AS 'SELECT 1'", "GRANT crew TO monitor", "ALTER ROLE monitor SET search_path = 'a'", "DROP ROLE sub3", "ALTER PUBLICATION p ADD TABLE t4", "CREATE SUBSCRIPTION leak CONNECTION 'dbname=x' PUBLICATION p WITH (connect = false)", "RESET pgaudit.log",
		"UPDATE pg_catalog.pg_authid SET rolcreaterole = true WHERE rolname = 'sub1'",
		"ALTER ROLE clerk PASSWORD 'rotated' BYPASSRLS")
	want := []string{"catalog.unexplained function public.trap()", "catalog.unexplained member crew to monitor", "catalog.unexplained published p t4", "catalog.unexplained role clerk", "catalog.unexplained role ghost",
		"catalog.unexplained role sub1", "catalog.unexplained setting monitor", "catalog.unexplained subscription postgres leak", "catalog.vanished role sub3"}
	if found := look(); !slices.Equal(found, want) {
		t.Errorf("behind the log's back: %q\nwant %q", found, want)
	}
	if found := look(); len(found) > 0 {
		t.Errorf("told twice: %v", found)
	}
}
