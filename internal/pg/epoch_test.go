package pg_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"howdah/internal/cluster"
	"howdah/internal/pg"
)

// A database that was restored, or taken over from a standby, is another one from the moment in which it takes writes: by hand or by us, nobody has to say so, and
// nobody waits for a checkpoint.
func TestTheEpochChangesWithThePromotionItself(t *testing.T) {
	t.Parallel()
	s, err := cluster.NewScratch(t.Context(), cluster.ScratchOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	dsn := func(role string) string {
		t.Helper()
		dsn, err := s.DSN(role, cluster.Database)
		if err != nil {
			t.Fatal(err)
		}
		return dsn
	}
	if err := pg.Migrate(t.Context(), dsn(cluster.Owner), cluster.App); err != nil {
		t.Fatal(err)
	}
	epoch := func() string {
		t.Helper()
		app, err := pg.Open(t.Context(), dsn(cluster.App), pg.Options{MaxConns: 1})
		if err != nil {
			t.Fatal(err)
		}
		defer app.Close()
		now, err := pg.Epoch(t.Context(), app)
		if err != nil {
			t.Fatal(err)
		}
		return now
	}
	first := epoch()
	if err := s.Stop(t.Context(), cluster.Fast); err != nil {
		t.Fatal(err)
	}
	signal := filepath.Join(s.DataDir(), "standby.signal")
	if err := os.WriteFile(signal, nil, 0o644); err != nil { //nolint:gosec // PostgreSQL's account reads it, where we are root
		t.Fatal(err)
	}
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if now := epoch(); now != first {
		t.Errorf("a standby has the epoch %s, and what it follows has %s", now, first)
	}
	super, err := pg.Open(t.Context(), dsn(cluster.Superuser), pg.Options{MaxConns: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer super.Close()
	if _, err := super.Exec(t.Context(), `SELECT pg_promote()`); err != nil {
		t.Fatal(err)
	}
	if now := epoch(); now == first {
		t.Errorf("the epoch is %s as before", now)
	}
}
