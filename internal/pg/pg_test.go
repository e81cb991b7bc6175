package pg_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"howdah/internal/fault"
	"howdah/internal/pg"
	"howdah/internal/pg/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

func TestMigratingAgainAndAtTheSameTimeIsHarmless(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	db.Exec(t, `DROP SCHEMA chat CASCADE; DROP SCHEMA account CASCADE; DROP SCHEMA audit CASCADE; DROP TABLE public.howdah_schema`)
	var all sync.WaitGroup
	for range 4 {
		all.Add(1)
		go func() {
			defer all.Done()
			if err := pg.Migrate(t.Context(), db.OwnerDSN, "howdah_app"); err != nil {
				t.Error(err)
			}
		}()
	}
	all.Wait()
	if _, err := pg.All[struct{ ID int64 }](t.Context(), db.App, `SELECT id FROM chat.room`); err != nil {
		t.Error(err)
	}
}

func TestAMigrationThatWasKilledBeforeItsGrantsGetsThemAtTheNextStart(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	db.Exec(t, `REVOKE ALL ON ALL TABLES IN SCHEMA chat FROM howdah_app`)
	if err := pg.Migrate(t.Context(), db.OwnerDSN, "howdah_app"); err != nil {
		t.Fatal(err)
	}
	if _, err := pg.All[struct{ ID int64 }](t.Context(), db.App, `SELECT id FROM chat.room`); err != nil {
		t.Error(err)
	}
}

func TestErrorsOfPostgreSQLBecomeFaultsThatSayWhatToDo(t *testing.T) {
	t.Parallel()
	for code, want := range map[string]string{
		"53100": "pg.disk_full", "53300": "pg.too_many_connections", "53200": "pg.resources", "58P01": "pg.library", "57P01": "pg.away", "57P03": "pg.away",
		"08006": "pg.away", "25006": "pg.read_only", "28P01": "pg.sign_in", "3D000": "pg.no_database", "42501": "pg.rights", "55P03": "pg.busy", "42601": "internal",
	} {
		if f := fault.Of(pg.Fault(&pgconn.PgError{Code: code})); f.Key != want {
			t.Errorf("%s is %s, want %s", code, f.Key, want)
		}
	}
	if f := fault.Of(pg.Fault(fmt.Errorf("read: %w", io.ErrUnexpectedEOF))); f.Key != "pg.away" {
		t.Error(f)
	}
	mine := fault.New(fault.Forbidden, "x")
	if err := pg.Fault(mine); !errors.Is(err, mine) || pg.Fault(nil) != nil {
		t.Error("faults and nil must pass")
	}
}

func TestATransactionIsRunAgainWhenPostgreSQLAsks(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	tries := 0
	err := db.App.InTx(t.Context(), func(tx pgx.Tx) error {
		if tries++; tries < 3 {
			return &pgconn.PgError{Code: "40P01"}
		}
		_, err := tx.Exec(t.Context(), `SELECT 1`)
		return err
	})
	if err != nil || tries != 3 {
		t.Errorf("%d tries, %v", tries, err)
	}
}

func TestTheEpochChangesWithTheDatabaseAndWhenItIsSaid(t *testing.T) {
	t.Parallel()
	db, other := pgtest.New(t), pgtest.New(t)
	epoch := func(p *pg.Pool) string {
		t.Helper()
		e, err := pg.Epoch(t.Context(), p)
		if err != nil {
			t.Fatal(err)
		}
		return e
	}
	first := epoch(db.App)
	if epoch(db.App) != first {
		t.Error("it changed by itself")
	}
	if epoch(other.App) == first {
		t.Error("another database has the same")
	}
	db.Exec(t, `UPDATE chat.epoch SET epoch = gen_random_uuid()`)
	if epoch(db.App) == first {
		t.Error("it did not change when it was said")
	}
}

func TestADatabaseThatIsNotThereIsAway(t *testing.T) {
	t.Parallel()
	pool, err := pg.Open(context.WithoutCancel(t.Context()), "postgres://x@127.0.0.1:1/y", pg.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	_, err = pg.All[struct{ N int }](t.Context(), pool, `SELECT 1`)
	if !fault.HasKey(err, "pg.away") {
		t.Error(err)
	}
	if _, err := pg.Open(t.Context(), "postgres://%zz", pg.Options{}); !fault.HasKey(err, "pg.dsn") {
		t.Error(err)
	}
}

func TestNobodyIsAskedBeforeAMigrationThatChangesNothingOfWorth(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	before := func(context.Context, int64, int64) error { return errors.New("asked") }
	for _, prepare := range []string{`SELECT 1`, `DROP SCHEMA chat CASCADE; DROP SCHEMA account CASCADE; DROP SCHEMA audit CASCADE; DROP TABLE public.howdah_schema`} {
		db.Exec(t, prepare)
		if err := pg.MigrateAfter(t.Context(), db.OwnerDSN, "howdah_app", before); err != nil {
			t.Errorf("%s: %v", prepare, err)
		}
	}
}

func TestTheRoleOfADSNInEveryForm(t *testing.T) {
	t.Parallel()
	for dsn, want := range map[string]string{
		"postgres://app:secret@db.example/talk": "app", "postgresql://an%20app@/talk?host=/run/pg": "an app", "postgres:///talk?user=app": "app",
		"host=/run/pg user=app password='a b' dbname=talk": "app",
	} {
		role, err := pg.Role(dsn)
		if err != nil || role != want {
			t.Errorf("%s: %q %v", dsn, role, err)
		}
	}
	if _, err := pg.Role("postgres://[/"); !fault.HasKey(err, "pg.dsn") {
		t.Error(err)
	}
}

// TestTablesAreThoseThatTheMigrationsMake: the watch knows by them what is Howdah's own.
func TestTablesAreThoseThatTheMigrationsMake(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	known := pg.Tables()
	rows, err := db.App.Query(t.Context(), `SELECT schemaname || '.' || tablename FROM pg_tables WHERE schemaname !~ '^(pg_|information_schema)'`)
	if err != nil {
		t.Fatal(err)
	}
	tables, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil || len(tables) < 10 {
		t.Fatal(tables, err)
	}
	for _, table := range tables {
		if !slices.Contains(known, table) {
			t.Errorf("%s is not known in %q", table, known)
		}
	}
}

// TestAnIndexOverMessagesKeepsNobodyFromTalking: another node's people talk while it is built, and what a kill has left of it is built anew.
func TestAnIndexOverMessagesKeepsNobodyFromTalking(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	ctx := t.Context()
	db.Exec(t, `DROP SCHEMA chat CASCADE; DROP SCHEMA account CASCADE; DROP SCHEMA audit CASCADE; DROP TABLE public.howdah_schema`)
	if err := pg.MigrateTo(ctx, db.OwnerDSN, 8); err != nil {
		t.Fatal(err)
	}
	connect := func() *pgx.Conn {
		t.Helper()
		conn, err := pgx.Connect(ctx, db.OwnerDSN)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close(context.WithoutCancel(ctx)) })
		return conn
	}
	exec := func(conn *pgx.Conn, sql string) {
		t.Helper()
		if _, err := conn.Exec(ctx, sql); err != nil {
			t.Fatal(err)
		}
	}
	left := connect()
	valid := func(index string) (ok bool) {
		t.Helper()
		if err := left.QueryRow(ctx, `SELECT indisvalid AND NOT indisunique FROM pg_index WHERE indexrelid = $1::regclass`, index).Scan(&ok); err != nil {
			t.Fatal(err)
		}
		return ok
	}
	// A node was killed half-way: a column is there, and what is left of an index.
	exec(left, `INSERT INTO chat.message (room_id, seq, author_id, client_id, at, body) SELECT 1, n, 1, gen_random_uuid(), now(), 'x' FROM generate_series(1, 10) n`)
	exec(left, `ALTER TABLE chat.message ADD COLUMN thread bigint`)
	if _, err := left.Exec(ctx, `CREATE UNIQUE INDEX CONCURRENTLY message_thread ON chat.message (room_id)`); pg.Code(err) != "23505" || valid("chat.message_thread") {
		t.Fatal(err)
	}
	if err := pg.MigrateTo(ctx, db.OwnerDSN, 9); err != nil || !valid("chat.message_thread") {
		t.Fatal(err)
	}
	// While somebody's change is under way, which the index waits for, others go on.
	slow, quick := connect(), connect()
	const change = `INSERT INTO chat.change (room_id, seq, at, actor_id, kind, message_seq) VALUES (1, $1, now(), 1, 'edit', 1)`
	tx, err := slow.Begin(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(ctx, change, 11); err != nil {
		t.Fatal(err)
	}
	built := make(chan error, 1)
	go func() { built <- pg.MigrateTo(ctx, db.OwnerDSN, 10) }()
	look := time.NewTicker(10 * time.Millisecond)
	defer look.Stop()
	for waits := false; !waits; {
		select {
		case <-look.C:
		case err := <-built:
			t.Fatal("it was not waited for", err)
		}
		if err := quick.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE 'CREATE INDEX%')`).Scan(&waits); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := quick.Exec(ctx, change, 12); err != nil {
		t.Fatal(err)
	}
	if err := tx.Commit(ctx); err != nil {
		t.Fatal(err)
	}
	if err := <-built; err != nil || !valid("chat.change_edited") {
		t.Fatal(err)
	}
	if err := pg.Migrate(ctx, db.OwnerDSN, "howdah_app"); err != nil {
		t.Fatal(err)
	}
}

// TestNoMigrationLocksMessagesWhileItBuilds: from the first that houses may still have before them.
func TestNoMigrationLocksMessagesWhileItBuilds(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("migrations/*.sql")
	if err != nil || len(files) < 10 {
		t.Fatal(files, err)
	}
	builds := regexp.MustCompile(`(?m)^CREATE (UNIQUE )?INDEX (IF NOT EXISTS )?[a-z_]+ ON (chat\.message|chat\.change|chat\.mention|audit\.entry) `)
	checks := regexp.MustCompile(`(?m)^ALTER TABLE (chat\.message|chat\.change|chat\.mention|audit\.entry) ADD CONSTRAINT [^;]*;`)
	for _, name := range files {
		raw, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if filepath.Base(name) < "00008" {
			continue
		}
		if m := builds.Find(raw); m != nil {
			t.Errorf("%s: %s... has to be CONCURRENTLY, in a migration with NO TRANSACTION", name, m)
		}
		for _, m := range checks.FindAll(raw, -1) {
			if !bytes.Contains(m, []byte("NOT VALID")) {
				t.Errorf("%s: %s has to be NOT VALID", name, m)
			}
		}
	}
}
