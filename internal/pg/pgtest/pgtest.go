// Package pgtest gives every test a database of its own: a clone of a migrated template, on one throw-away PostgreSQL
// per test program. Nothing is mocked; each test may run in parallel with all others.
package pgtest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"howdah/internal/cluster"
	"howdah/internal/pg"
)

const template = "howdah_template"

var (
	once    sync.Once
	scratch *cluster.Scratch
	failed  error
	counter atomic.Int64
	admin   sync.Mutex // PostgreSQL copies a template for one at a time
)

// Main runs a package's tests and takes the server away afterwards; call it from TestMain.
func Main(m *testing.M) { os.Exit(Run(m)) }

// Run is Main for a TestMain that has more to do at the end.
func Run(m *testing.M) (code int) {
	code = m.Run()
	if scratch != nil {
		if err := scratch.Close(context.Background()); err != nil {
			fmt.Fprintln(os.Stderr, "pgtest:", err)
			code = max(code, 1)
		}
	}
	return code
}

func start() {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	if scratch, failed = cluster.NewScratch(ctx, cluster.ScratchOptions{Settings: map[string]string{"max_connections": "300"}}); failed != nil {
		return
	}
	failed = errors.Join(exec(ctx, "CREATE DATABASE "+template+" OWNER "+cluster.Owner), func() error {
		owner, err := scratch.DSN(cluster.Owner, template)
		if err != nil {
			return err
		}
		return pg.Migrate(ctx, owner, cluster.App)
	}())
}

func exec(ctx context.Context, sql string) error {
	dsn, err := scratch.DSN(cluster.Superuser, "postgres")
	if err != nil {
		return err
	}
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	_, err = conn.Exec(ctx, sql)
	return err
}

// DB is a test's own database, migrated, with nobody in it.
type DB struct {
	Name             string
	AppDSN, OwnerDSN string
	Super            string   // DSN of the superuser: to break things
	App, Steady      *pg.Pool // as the application role
}

// New clones the template. The database goes when the test ends.
func New(t testing.TB) *DB {
	t.Helper()
	once.Do(start)
	if failed != nil {
		t.Fatalf("no PostgreSQL for tests: %v", failed)
	}
	ctx := t.Context()
	db := &DB{Name: fmt.Sprintf("t%d", counter.Add(1))}
	admin.Lock()
	err := exec(ctx, "CREATE DATABASE "+db.Name+" TEMPLATE "+template+" OWNER "+cluster.Owner)
	admin.Unlock()
	if err != nil {
		t.Fatal(err)
	}
	dsn := func(role string) string {
		s, err := scratch.DSN(role, db.Name)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	db.AppDSN, db.OwnerDSN, db.Super = dsn(cluster.App), dsn(cluster.Owner), dsn(cluster.Superuser)
	db.App, db.Steady = db.open(t, pg.Options{MaxConns: 8}), db.open(t, pg.Options{MaxConns: 4, Steady: true})
	t.Cleanup(func() {
		db.App.Close()
		db.Steady.Close()
		if err := exec(context.Background(), "DROP DATABASE "+db.Name+" WITH (FORCE)"); err != nil {
			t.Error(err)
		}
	})
	return db
}

func (db *DB) open(t testing.TB, options pg.Options) *pg.Pool {
	pool, err := pg.Open(context.WithoutCancel(t.Context()), db.AppDSN, options)
	if err != nil {
		t.Fatal(err)
	}
	return pool
}

// Exec runs a statement as the superuser.
func (db *DB) Exec(t testing.TB, sql string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), db.Super)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(t.Context()))
	if _, err := conn.Exec(t.Context(), sql); err != nil {
		t.Fatal(err)
	}
}

// ExecElsewhere runs a statement as the superuser from another database: for when this one takes no connections.
func (db *DB) ExecElsewhere(t testing.TB, sql string) {
	t.Helper()
	if err := exec(t.Context(), sql); err != nil {
		t.Fatal(err)
	}
}

// Await waits until holds is true, looking every few milliseconds, and fails the test after ten seconds.
func Await(t testing.TB, what string, holds func() bool) {
	t.Helper()
	deadline := time.After(5 * time.Minute) // on a machine that is ten times slower too
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-deadline:
			t.Fatalf("waited in vain: %s", what)
		case <-tick.C:
		}
	}
}
