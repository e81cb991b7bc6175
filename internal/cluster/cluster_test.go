package cluster

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// scratch is a running throw-away cluster.
func scratch(t *testing.T) *Scratch {
	t.Helper()
	s, err := NewScratch(t.Context(), ScratchOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	return s
}

func connect(t *testing.T, c *Cluster, role, database string) (*pgx.Conn, error) {
	t.Helper()
	dsn, err := c.DSN(role, database)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := pgx.Connect(t.Context(), dsn)
	if err == nil {
		t.Cleanup(func() { _ = conn.Close(context.WithoutCancel(t.Context())) })
	}
	return conn, err
}

func ask(t *testing.T, c *Cluster, role, query string) string {
	t.Helper()
	conn, err := connect(t, c, role, Database)
	if err != nil {
		t.Fatal(err)
	}
	var answer string
	if err := conn.QueryRow(t.Context(), query).Scan(&answer); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return answer
}

func TestScratchIsQuickAndWhole(t *testing.T) {
	t.Parallel()
	begun := time.Now()
	s := scratch(t)
	t.Logf("ready after %v", time.Since(begun))
	for _, role := range []string{Superuser, Owner, App, Watcher} {
		if have := ask(t, s.Cluster, role, "select current_user::text"); have != role {
			t.Errorf("connected as %s, want %s", have, role)
		}
	}
	if have := ask(t, s.Cluster, App, "show listen_addresses"); hasSockets && have != "" {
		t.Errorf("a scratch cluster listens at %q", have)
	}
	if have := ask(t, s.Cluster, Superuser, "select string_agg(extname, ' ') from pg_extension"); s.Installation().PgAudit && !strings.Contains(have, "pgaudit") {
		t.Errorf("extensions: %s", have)
	}
}
