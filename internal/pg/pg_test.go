package pg_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"testing"

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
