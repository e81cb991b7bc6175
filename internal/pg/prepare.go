package pg

import (
	"context"
	"crypto/rand"
	"fmt"
	"net/url"

	"github.com/jackc/pgx/v5"

	"howdah/internal/fault"
)

// Prepared are the two ways into a database that Prepare made ready.
type Prepared struct {
	Place string // host, port and database: what both have in common
	DSN   string // the same as a URL that names nobody
	Owner string // DSN of the owner role: migrations only
	App   string // DSN of the application role: rows only
}

// Place is the part of a DSN (a URL) that says which database it is, without who comes in.
func Place(dsn string) (string, error) {
	config, err := pgx.ParseConfig(dsn)
	if err != nil {
		return "", fault.Wrap(err, fault.Invalid, "pg.dsn")
	}
	return fmt.Sprintf("%s:%d/%s", config.Host, config.Port, config.Database), nil
}

// Role is who a DSN, in whichever form, comes in as.
func Role(dsn string) (string, error) {
	config, err := pgx.ParseConfig(dsn)
	if err != nil {
		return "", fault.Wrap(err, fault.Invalid, "pg.dsn")
	}
	return config.User, nil
}

// Prepare makes somebody else's server ready, once, with an administrator's DSN (a URL; CREATEROLE and CREATEDB are
// enough): an owner role, an application role, both with new passwords, and the database. Again is harmless: the
// passwords change, nothing else. Roles belong to the whole server: where another database is the owner role's already, new passwords would lock out who uses that
// one, and it is a Conflict fault.
func Prepare(ctx context.Context, adminURL, database, owner, app string) (Prepared, error) {
	u, err := url.Parse(adminURL)
	if err != nil || u.Scheme != "postgres" && u.Scheme != "postgresql" {
		return Prepared{}, fault.New(fault.Invalid, "pg.dsn_url")
	}
	conn, err := pgx.Connect(ctx, adminURL)
	if err != nil {
		return Prepared{}, Fault(err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	var other string
	err = conn.QueryRow(ctx, `SELECT coalesce(min(d.datname), '') FROM pg_database d JOIN pg_roles r ON r.oid = d.datdba WHERE r.rolname = $1 AND d.datname <> $2`, owner, database).Scan(&other)
	if err != nil {
		return Prepared{}, Fault(err)
	}
	if other != "" {
		return Prepared{}, fault.New(fault.Conflict, "pg.other_house", fault.Args{"role": owner, "database": other})
	}
	var out Prepared
	for _, role := range []struct {
		name string
		dsn  *string
	}{{owner, &out.Owner}, {app, &out.App}} {
		password := rand.Text()
		// The SCRAM verifier is the server's to make; log_statement could see the password, so it is changed by
		// nothing but this, over a connection that is the administrator's own.
		var exists bool
		if err := conn.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = $1)`, role.name).Scan(&exists); err != nil {
			return Prepared{}, Fault(err)
		}
		change := `CREATE ROLE %s LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE PASSWORD '%s'`
		if exists { // only a superuser may so much as mention the other attributes
			change = `ALTER ROLE %s LOGIN PASSWORD '%s'`
		}
		if _, err := conn.Exec(ctx, fmt.Sprintf(change, Quote(role.name), password)); err != nil {
			return Prepared{}, Fault(err)
		}
		way := *u
		way.User, way.Path = url.UserPassword(role.name, password), "/"+database
		*role.dsn = way.String()
	}
	var exists bool
	if err := conn.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)`, database).Scan(&exists); err != nil {
		return Prepared{}, Fault(err)
	}
	statements := []string{
		`REVOKE ALL ON DATABASE ` + Quote(database) + ` FROM PUBLIC`,
		`GRANT CONNECT ON DATABASE ` + Quote(database) + ` TO ` + Quote(app),
	}
	if !exists {
		// An administrator without superuser can give away only to roles that it is a member of.
		statements = append([]string{
			`GRANT ` + Quote(owner) + ` TO CURRENT_USER`,
			`CREATE DATABASE ` + Quote(database) + ` OWNER ` + Quote(owner) + ` ENCODING 'UTF8' TEMPLATE template0`,
		}, statements...)
	}
	for _, sql := range statements {
		if _, err := conn.Exec(ctx, sql); err != nil {
			return Prepared{}, Fault(err)
		}
	}
	bare := *u
	bare.User, bare.Path = nil, "/"+database
	out.DSN = bare.String()
	out.Place, err = Place(out.App)
	return out, err
}
