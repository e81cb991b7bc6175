package pg

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"

	"howdah/internal/fault"
)

//go:embed migrations/*.sql
var migrations embed.FS

// MigrationName is the application_name of migrations: the watch knows them by it, and by the role.
const MigrationName = "howdah migrate"

// Tables are those that the migrations make, with their schemas.
func Tables() []string {
	tables := []string{versions}
	names, _ := fs.Glob(migrations, "migrations/*.sql") // the pattern is sound, and what is embedded can be read
	for _, name := range names {
		raw, _ := fs.ReadFile(migrations, name)
		for _, found := range makesTable.FindAllSubmatch(raw, -1) {
			tables = append(tables, string(found[1]))
		}
	}
	return tables
}

var makesTable = regexp.MustCompile(`(?m)^CREATE (?:UNLOGGED )?TABLE (?:IF NOT EXISTS )?([a-z_]+\.[a-z_]+)`)

// versions is the table in which stands which migrations were made.
const versions = "public.howdah_schema"

// migrationLock is the key of the advisory lock under which one node migrates while the others wait.
const migrationLock = 0x686f77646168 // "howdah"

// Migrate brings the schema up to what this binary knows, as the owner role, and then grants the application role
// what it may do: rows, never DDL. It is a single read where there is nothing to do. A schema that is newer than this
// binary is refused: an older program must not write into it.
func Migrate(ctx context.Context, ownerDSN, appRole string) error {
	return MigrateAfter(ctx, ownerDSN, appRole, func(context.Context, int64, int64) error { return nil })
}

// MigrateAfter is Migrate, but that before is called first when a schema that is in use will be changed: from one version to another. Its error stops
// the migration. Several nodes may call theirs for the same migration.
func MigrateAfter(ctx context.Context, ownerDSN, appRole string, before func(ctx context.Context, from, to int64) error) error {
	config, err := pgx.ParseConfig(ownerDSN)
	if err != nil {
		return fault.Wrap(err, fault.Invalid, "pg.dsn")
	}
	config.RuntimeParams["application_name"] = MigrationName
	db := stdlib.OpenDB(*config)
	defer db.Close()
	provider, err := migrator(db)
	if err != nil {
		return err
	}
	sources := provider.ListSources()
	newest := sources[len(sources)-1].Version

	have, granted, err := schemaVersion(ctx, config, appRole)
	if err != nil {
		return err
	}
	if have == newest && granted {
		return nil
	}
	if have > newest {
		return fault.New(fault.Conflict, "pg.newer_schema", fault.Args{"have": have, "know": newest})
	}
	if have > 0 && have < newest {
		if err := before(ctx, have, newest); err != nil {
			return err
		}
	}
	if _, err := provider.Up(ctx); err != nil {
		return Fault(err)
	}
	return grant(ctx, config, appRole)
}

// migrator runs the migrations, one node at a time.
func migrator(db *sql.DB) (*goose.Provider, error) {
	source, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return nil, err
	}
	// Another node may be building an index over many messages: it is waited for, asking now and then. Who asks waits in no transaction, which that would wait for in turn.
	locker, err := lock.NewPostgresSessionLocker(lock.WithLockID(migrationLock), lock.WithLockTimeout(2, 1800))
	if err != nil {
		return nil, err
	}
	return goose.NewProvider(goose.DialectPostgres, db, source, goose.WithSessionLocker(locker), goose.WithTableName(versions), goose.WithDisableGlobalRegistry(true))
}

// schemaVersion tells a schema that is missing (0) from one that could not be read (an error), and whether the
// application role has its rows: a migration that was killed before its grants must not leave a house without them.
func schemaVersion(ctx context.Context, config *pgx.ConnConfig, appRole string) (have int64, granted bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return 0, false, Fault(err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	var version *int64
	err = conn.QueryRow(ctx, `SELECT max(version_id) FILTER (WHERE is_applied) FROM public.howdah_schema`).Scan(&version)
	var e *pgconn.PgError
	if errors.As(err, &e) && e.Code == "42P01" { // undefined_table
		return 0, false, nil
	}
	if err != nil || version == nil {
		return 0, false, Fault(err)
	}
	if !grants(config, appRole) {
		return *version, true, nil
	}
	err = conn.QueryRow(ctx, `
		SELECT coalesce(bool_and(has_table_privilege($1, c.oid, 'INSERT') AND has_schema_privilege($1, n.oid, 'USAGE')), false)
		FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
		WHERE n.nspname IN ('account', 'chat', 'audit') AND c.relkind IN ('r', 'p')`, appRole).Scan(&granted)
	return *version, granted, Fault(err)
}

// grants says whether there is anybody to grant to: the owner may be the application role itself (one account on
// somebody else's server).
func grants(config *pgx.ConnConfig, appRole string) bool {
	return appRole != "" && appRole != config.User
}

// grant gives the application role its rows, one node at a time: GRANTs on one object at the same moment fail with
// "tuple concurrently updated".
func grant(ctx context.Context, config *pgx.ConnConfig, appRole string) error {
	if !grants(config, appRole) {
		return nil
	}
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return Fault(err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	app := Quote(appRole)
	_, err = conn.Exec(ctx, fmt.Sprintf(`
		SELECT pg_advisory_xact_lock(%d);
		GRANT USAGE ON SCHEMA account, chat, audit TO %[2]s;
		GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA account, chat, audit TO %[2]s;
		REVOKE UPDATE ON audit.entry FROM %[2]s; -- what is on the trail stays as it is until it goes for its age
		REVOKE UPDATE, DELETE ON account.trail FROM %[2]s; -- and this for ever
		GRANT USAGE ON ALL SEQUENCES IN SCHEMA account, chat, audit TO %[2]s`, migrationLock, app))
	return Fault(err)
}
