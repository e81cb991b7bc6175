package cover_test

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"howdah/internal/audit/cover"
	"howdah/internal/cluster"
	"howdah/internal/fault"
)

// TestTheCoverIsSettledOnceAndFightsNobody: on a real PostgreSQL with pgAudit, what is missing is made, what is there is left, what somebody else has set stays, and all of it can be narrowed
// to role and ddl. No restart is needed.
func TestTheCoverIsSettledOnceAndFightsNobody(t *testing.T) {
	t.Parallel()
	s, err := cluster.NewScratch(t.Context(), cluster.ScratchOptions{Settings: map[string]string{"shared_preload_libraries": "pgaudit", "pgaudit.log": "role, ddl"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	connect := func(role, database string) *pgx.Conn {
		t.Helper()
		dsn, err := s.DSN(role, database)
		if err != nil {
			t.Fatal(err)
		}
		conn, err := pgx.Connect(t.Context(), dsn)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close(context.Background()) })
		return conn
	}
	sessions := 0
	apply := func(scope cover.Scope) cover.Report {
		t.Helper()
		report, err := cover.Apply(t.Context(), cover.Options{Scope: scope, Database: cluster.Database, App: cluster.App, Watcher: cluster.Watcher, Auditor: cluster.Auditor, Ours: cluster.ConfName,
			DSN:   func(database string) (string, error) { return s.DSN(cluster.Superuser, database) },
			Begun: func(string) error { sessions++; return nil }})
		if err != nil {
			t.Fatal(err)
		}
		return report
	}
	show := func(role, setting string) (value string) {
		t.Helper()
		if err := connect(role, cluster.Database).QueryRow(t.Context(), "SELECT current_setting($1)", setting).Scan(&value); err != nil {
			t.Fatal(err)
		}
		return value
	}
	if first := apply(cover.Default); len(first.Changed) == 0 || len(first.Left) > 0 || sessions == 0 {
		t.Fatalf("%+v, %d sessions", first, sessions)
	}
	for role, want := range map[string]string{cluster.Superuser: "role, ddl, misc_set, write", cluster.Owner: "role, ddl, misc_set, write", cluster.App: "role, ddl, misc_set"} {
		if have := show(role, "pgaudit.log"); have != want {
			t.Errorf("pgaudit.log of %s is %q, want %q", role, have, want)
		}
	}
	if again := apply(cover.Default); len(again.Changed)+len(again.Left) > 0 {
		t.Errorf("settled already, and yet: %+v", again)
	}
	super := connect(cluster.Superuser, "postgres")
	if _, err := super.Exec(t.Context(), "ALTER SYSTEM SET pgaudit.log = 'all'"); err != nil {
		t.Fatal(err)
	}
	own := apply(cover.Default)
	if !slices.ContainsFunc(own.Left, func(o cover.Own) bool { return o.Name == "pgaudit.log" && o.Value == "all" }) || len(own.Changed) == 0 {
		t.Errorf("who audits all is not left alone: %+v", own) // and nothing of ours makes it less in the house's database
	}
	for _, changed := range own.Changed {
		if !strings.Contains(changed, "DATABASE") {
			t.Errorf("changed: %s", changed)
		}
	}
	if _, err := super.Exec(t.Context(), "ALTER SYSTEM RESET pgaudit.log"); err != nil {
		t.Fatal(err)
	}
	apply(cover.Default)
	apply(cover.Classes)
	var left []string
	if err := super.QueryRow(t.Context(), `SELECT array_agg(name || '=' || setting ORDER BY name) FROM pg_file_settings WHERE sourcefile LIKE '%postgresql.auto.conf'`).Scan(&left); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(left, []string{"pgaudit.log=role, ddl"}) {
		t.Errorf("narrowed: %q", left)
	}
	var settings int
	if err := super.QueryRow(t.Context(), `SELECT count(*) FROM pg_db_role_setting`).Scan(&settings); err != nil || settings != 0 {
		t.Errorf("%d settings of databases are left, %v", settings, err)
	}
}

func TestAScopeIsOneOfTwo(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]cover.Scope{"default": cover.Default, "role, ddl": cover.Classes, "DDL,role": cover.Classes} {
		var s cover.Scope
		if err := s.UnmarshalText([]byte(text)); err != nil || s != want {
			t.Errorf("%q: %q, %v", text, s, err)
		}
	}
	var s cover.Scope
	if err := s.UnmarshalText([]byte("all")); !fault.HasKey(err, "cover.scope") {
		t.Errorf("%v", err)
	}
}
