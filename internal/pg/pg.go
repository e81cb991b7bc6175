// Package pg is the way to PostgreSQL: a pool, transactions, migrations, and what its errors mean to people.
package pg

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"howdah/internal/fault"
)

// Pool is a set of connections of one role. It is safe for concurrent use.
type Pool struct {
	*pgxpool.Pool
}

// Options of a pool. The zero value is a pool of 16 connections.
type Options struct {
	MaxConns int32
	// Steady prefers index lookups always. For statements that touch a handful of rows by key in tables of any size:
	// a plan made while the tables were empty must not be the one that runs when they are not.
	Steady bool
	// Idle is how long a connection that nobody uses is kept; 0 is 5 minutes.
	Idle time.Duration
	// Where, if set, gives the DSN anew for each new connection: a server that was restarted may have another address.
	Where func() (dsn string, err error)
}

// Open makes a pool for a DSN (URL or key=value form, see the libpq documentation, "Connection Strings"). It does not
// connect yet, so it succeeds while the server is away; a DSN that cannot be read is an Invalid fault.
func Open(ctx context.Context, dsn string, options Options) (*Pool, error) {
	config, err := pgxpool.ParseConfig(dsn)
	if err != nil {
		return nil, fault.Wrap(err, fault.Invalid, "pg.dsn")
	}
	config.MaxConns = 16
	if options.MaxConns > 0 {
		config.MaxConns = options.MaxConns
	}
	config.MaxConnIdleTime = 5 * time.Minute
	if options.Idle > 0 {
		config.MaxConnIdleTime = options.Idle
	}
	config.ConnConfig.ConnectTimeout = 5 * time.Second
	params := config.ConnConfig.RuntimeParams
	if params["application_name"] == "" {
		params["application_name"] = "howdah"
	}
	params["timezone"] = "UTC"
	params["jit"] = "off" // our statements are short: compiling them costs more than running them
	if options.Steady {
		params["enable_seqscan"], params["enable_hashjoin"], params["enable_mergejoin"] = "off", "off", "off"
		// Planning a batch costs more than running it, and arrays of another length would be planned anew every time.
		params["plan_cache_mode"] = "force_generic_plan"
		params["lock_timeout"] = "2s" // somebody who locks a row by hand must not stop everybody
	}
	if options.Where != nil {
		config.BeforeConnect = func(_ context.Context, to *pgx.ConnConfig) error {
			dsn, err := options.Where()
			if err != nil {
				return err
			}
			now, err := pgx.ParseConfig(dsn)
			if err != nil {
				return err
			}
			to.Host, to.Port, to.Fallbacks = now.Host, now.Port, now.Fallbacks
			return nil
		}
	}
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, Fault(err)
	}
	return &Pool{pool}, nil
}

// Queryer is what a query runs on: the pool or a transaction.
type Queryer interface {
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// InTx runs work in one transaction (READ COMMITTED) and commits when it returns nil. The transaction is run again,
// a few times, when PostgreSQL asks for that (serialization failure, deadlock); so work may be called more than once
// and must keep its results to itself until it returns.
func (p *Pool) InTx(ctx context.Context, work func(tx pgx.Tx) error) error {
	const tries = 5
	for try := 1; ; try++ {
		err := pgx.BeginFunc(ctx, p.Pool, work)
		if again(err) && try < tries && ctx.Err() == nil {
			continue
		}
		return Fault(err)
	}
}

func again(err error) bool {
	var e *pgconn.PgError
	return errors.As(err, &e) && (e.Code == "40001" || e.Code == "40P01")
}

// All collects the rows of a query into structs by position.
func All[T any](ctx context.Context, q Queryer, sql string, args ...any) ([]T, error) {
	rows, err := q.Query(ctx, sql, args...)
	if err != nil {
		return nil, Fault(err)
	}
	out, err := pgx.CollectRows(rows, pgx.RowToStructByPos[T])
	return out, Fault(err)
}

// One is the only row of a query as a struct by position; found is false where there is none.
func One[T any](ctx context.Context, q Queryer, sql string, args ...any) (row T, found bool, err error) {
	rows, err := q.Query(ctx, sql, args...)
	if err != nil {
		return row, false, Fault(err)
	}
	row, err = pgx.CollectExactlyOneRow(rows, pgx.RowToStructByPos[T])
	if errors.Is(err, pgx.ErrNoRows) {
		return row, false, nil
	}
	return row, err == nil, Fault(err)
}

// Fault translates what the driver says (PostgreSQL documentation, Appendix A, "PostgreSQL Error Codes"). Faults and
// nil pass unchanged; what has no translation stays an error that ends as Internal.
func Fault(err error) error {
	if err == nil {
		return nil
	}
	var known *fault.Fault
	if errors.As(err, &known) {
		return err
	}
	var e *pgconn.PgError
	if errors.As(err, &e) {
		switch {
		case e.Code == "53100": // disk_full
			return fault.Wrap(err, fault.Unavailable, "pg.disk_full")
		case e.Code == "53300": // too_many_connections
			return fault.Wrap(err, fault.Unavailable, "pg.too_many_connections")
		case e.Code == "58P01" || strings.Contains(e.Message, "could not load library") || strings.Contains(e.Message, "could not access file"):
			return fault.Wrap(err, fault.Unavailable, "pg.library", fault.Args{"message": e.Message})
		case strings.HasPrefix(e.Code, "53"), strings.HasPrefix(e.Code, "58"): // out of memory, I/O errors
			return fault.Wrap(err, fault.Unavailable, "pg.resources", fault.Args{"message": e.Message})
		case strings.HasPrefix(e.Code, "57P"), strings.HasPrefix(e.Code, "08"): // shutting down, starting up, connection
			return fault.Wrap(err, fault.Unavailable, "pg.away")
		case e.Code == "57014" || e.Code == "55P03": // query_canceled, lock_not_available
			return fault.Wrap(err, fault.Unavailable, "pg.busy")
		case e.Code == "25006": // read_only_sql_transaction: a standby, or being restored
			return fault.Wrap(err, fault.Unavailable, "pg.read_only")
		case e.Code == "28P01" || e.Code == "28000":
			return fault.Wrap(err, fault.Unavailable, "pg.sign_in", fault.Args{"message": e.Message})
		case e.Code == "3D000":
			return fault.Wrap(err, fault.Unavailable, "pg.no_database", fault.Args{"message": e.Message})
		case e.Code == "42501":
			return fault.Wrap(err, fault.Internal, "pg.rights", fault.Args{"message": e.Message})
		}
		return err
	}
	var network net.Error
	var connect *pgconn.ConnectError
	if errors.As(err, &connect) || errors.As(err, &network) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, net.ErrClosed) || pgconn.SafeToRetry(err) || pgconn.Timeout(err) || strings.Contains(err.Error(), "conn closed") {
		return fault.Wrap(err, fault.Unavailable, "pg.away")
	}
	return err
}

// UniqueViolation tells whether err says that a row of this unique index is already there.
func UniqueViolation(err error, index string) bool {
	var e *pgconn.PgError
	return errors.As(err, &e) && e.Code == "23505" && e.ConstraintName == index
}

// Code is the SQLSTATE that PostgreSQL refused with (its documentation, appendix A); "" when err is something else.
func Code(err error) string {
	var e *pgconn.PgError
	if errors.As(err, &e) {
		return e.Code
	}
	return ""
}

// Quote writes a name as SQL.
func Quote(name string) string { return pgx.Identifier{name}.Sanitize() }

// Epoch names this state of this database: it changes when the cluster is restored or fails over (its timeline grows),
// when the database is made anew (its oid), and when a recovery says so (chat.epoch). The timeline is the one that is written to:
// the last checkpoint's is the old one for some time after a promotion. A standby writes none, and has that of the last checkpoint.
func Epoch(ctx context.Context, q Queryer) (string, error) {
	var system, database, stored string
	var timeline int64
	err := q.QueryRow(ctx, `
		SELECT (SELECT system_identifier FROM pg_control_system())::text,
		       CASE WHEN pg_is_in_recovery() THEN (SELECT timeline_id FROM pg_control_checkpoint())
		            ELSE ('x' || left(pg_walfile_name(pg_current_wal_insert_lsn()), 8))::bit(32)::bigint END,
		       (SELECT oid FROM pg_database WHERE datname = current_database())::text,
		       (SELECT epoch FROM chat.epoch)::text`).Scan(&system, &timeline, &database, &stored)
	if err != nil {
		return "", Fault(err)
	}
	return fmt.Sprintf("%s.%d.%s.%s", system, timeline, database, stored[:8]), nil
}
