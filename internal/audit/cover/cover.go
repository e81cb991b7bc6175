// Package cover settles what PostgreSQL has to log for the watch: pgAudit's classes and its object auditing - or, where there is no pgAudit, statements that change roles, rights and objects, and event triggers - log-ins,
// and the rights of the role that compares the catalogs. It runs at every start, changes only what is not so already, and leaves alone what somebody else has set.
package cover

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"howdah/internal/audit/catalog"
	"howdah/internal/fault"
)

// Scope is how much is audited.
type Scope string

// The scopes.
const (
	// Default is Classes, and beside them: settings of sessions (misc_set), log-ins and log-outs, reading of password hashes and writing of pg_authid and pg_auth_members
	// (object auditing), and in the house's own database what anybody but the application writes, with the number of rows.
	Default Scope = "default"
	// Classes is pgAudit's role and ddl, and nothing else: what every house has, whatever else it has.
	Classes Scope = "role, ddl"
)

// UnmarshalText implements encoding.TextUnmarshaler.
func (s *Scope) UnmarshalText(text []byte) error {
	switch list(string(text)) {
	case "default", "":
		*s = Default
	case "ddl,role":
		*s = Classes
	default:
		return fault.New(fault.Invalid, "cover.scope", fault.Args{"value": string(text)})
	}
	return nil
}

// Marker is the application_name of the sessions that settle the cover. It proves nothing: the sessions are told to the judge by their number.
const Marker = "howdah cover"

// Options say what is covered how.
type Options struct {
	Scope    Scope
	DSN      func(database string) (string, error) // a superuser's way in
	Database string                                // the house's own
	App      string                                // the role whose writing is not audited: it writes what people post
	Watcher  string                                // the role that compares the catalogs
	Auditor  string                                // the role whose rights say which reads and writes pgAudit records (pgaudit.role); nobody logs in as it
	// Ours is the name of the file of settings that is written by us and not by a person.
	Ours string
	// Begun is called with the number of each session before it changes anything, so that what it does is known for ours.
	Begun func(session string) error
}

// Report is what was done.
type Report struct {
	Changed []string // settings and rights that were not as they should be
	Left    []Own    // settings that somebody else has made
	NoAudit bool     // pgAudit is not loaded: log_statement has to do
}

// Own is a setting that somebody else has made.
type Own struct {
	Name, Value, Where string
}

// setting is one that we make for the whole system; value "" means that we make none.
type setting struct {
	name, value string
	ours        []string // values that we have ever written
}

const (
	wide      = "role, ddl, misc_set"
	wideWrite = "role, ddl, misc_set, write"
)

func (o *Options) system(loaded bool) []setting {
	on := func(value string) string {
		if o.Scope == Classes {
			return ""
		}
		return value
	}
	first := wide
	if o.Scope == Classes {
		first = string(Classes)
	}
	if !loaded {
		return []setting{
			{"log_statement", "ddl", []string{"ddl"}},
			{"log_connections", on("on"), []string{"on"}},
			{"log_disconnections", on("on"), []string{"on"}},
		}
	}
	return []setting{
		{"pgaudit.log", first, []string{wide, string(Classes)}},
		{"pgaudit.role", on(o.Auditor), []string{o.Auditor}},
		{"log_statement", "", []string{"ddl"}}, // from when there was no pgAudit
		{"log_connections", on("on"), []string{"on"}},
		{"log_disconnections", on("on"), []string{"on"}},
	}
}

// loadedQuery says whether pgAudit is loaded.
const loadedQuery = `current_setting('shared_preload_libraries') ~ '(^|[ ,/"])pgaudit([ ,"]|$)'`

// Apply settles the cover. It needs no restart: what it sets counts after a reload, which it asks for, and for sessions that begin afterwards. A standby is left alone.
func Apply(ctx context.Context, o Options) (Report, error) {
	var report Report
	conn, err := o.connect(ctx, "postgres")
	if err != nil {
		return report, err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	var loaded, standby bool
	if err := conn.QueryRow(ctx, `SELECT `+loadedQuery+`, pg_is_in_recovery()`).Scan(&loaded, &standby); err != nil {
		return report, failed(err)
	}
	report.NoAudit = !loaded
	if standby {
		return report, nil
	}
	do := report.doing(ctx)
	rights := o.rights(ctx, conn, do, loaded) // what cannot be done in one database keeps nothing else
	owners, err := o.settle(ctx, conn, do, &report, loaded)
	if err == nil && loaded {
		err = o.settleDatabase(ctx, conn, do, &report, owners)
	}
	told := o.everywhere(ctx, conn, func(in *pgx.Conn, database string) error { return o.tells(ctx, in, database, do, !loaded) })
	return report, errors.Join(rights, err, told)
}

// Watch gives the auditor its rights in every database, and no more: the settings of a PostgreSQL that is somebody else's are changed where they can be put back. It changes only what is not so
// already; a standby is left alone.
func Watch(ctx context.Context, o Options) (Report, error) {
	var report Report
	conn, err := o.connect(ctx, "postgres")
	if err != nil {
		return report, err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	var standby bool
	if err := conn.QueryRow(ctx, `SELECT pg_is_in_recovery()`).Scan(&standby); err != nil || standby {
		return report, failed(err)
	}
	err = o.rights(ctx, conn, report.doing(ctx), true)
	return report, err
}

// Withdraw takes back what Watch has done: the auditor's rights in every database, and the role.
func Withdraw(ctx context.Context, o Options) error {
	conn, err := o.connect(ctx, "postgres")
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	var there bool
	if err := conn.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = $1)`, o.Auditor).Scan(&there); err != nil || !there {
		return failed(err)
	}
	err = o.everywhere(ctx, conn, func(in *pgx.Conn, _ string) error {
		for _, right := range watched { // and not DROP OWNED BY: what somebody else has given it stays, and keeps the role from being dropped
			if _, err := in.Exec(ctx, "REVOKE "+right.grant+" FROM "+quote(o.Auditor)); err != nil {
				return failed(err)
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	if _, err := conn.Exec(ctx, "DROP ROLE "+quote(o.Auditor)); err != nil {
		return failed(err)
	}
	return nil
}

// databasesOf are those that one can connect to, this one first. One with the limit -2 is what a DROP DATABASE that was broken off has left.
func databasesOf(ctx context.Context, conn *pgx.Conn) ([]string, error) {
	rows, err := conn.Query(ctx, `SELECT datname::text FROM pg_database WHERE datallowconn AND datconnlimit <> -2 ORDER BY datname = current_database() DESC, datname`)
	if err != nil {
		return nil, failed(err)
	}
	databases, err := pgx.CollectRows(rows, pgx.RowTo[string])
	return databases, failed(err)
}

type doing func(conn *pgx.Conn, what, sql string) error

// connect opens a session of ours.
func (o *Options) connect(ctx context.Context, database string) (*pgx.Conn, error) {
	dsn, err := o.DSN(database)
	if err != nil {
		return nil, err
	}
	conf, err := pgx.ParseConfig(dsn)
	if err != nil {
		return nil, err
	}
	conf.Database = database
	conf.RuntimeParams["application_name"] = Marker
	conf.RuntimeParams["search_path"] = "pg_catalog" // whatever the database's owner has set: what they made must not be taken for PostgreSQL's own, least of all by a superuser
	conn, err := pgx.ConnectConfig(ctx, conf)
	if err != nil {
		return nil, failed(err)
	}
	var session string
	err = conn.QueryRow(ctx, `SELECT to_hex(trunc(extract(epoch FROM backend_start))::bigint) || '.' || to_hex(pid) FROM pg_stat_activity WHERE pid = pg_backend_pid()`).Scan(&session)
	if err == nil && o.Begun != nil {
		err = o.Begun(session)
	}
	if err != nil {
		_ = conn.Close(context.WithoutCancel(ctx))
		return nil, failed(err)
	}
	return conn, nil
}

func failed(err error) error {
	if err == nil {
		return nil
	}
	return fault.Wrap(err, fault.Unavailable, "cover.failed", fault.Args{"message": strings.Join(strings.Fields(err.Error()), " ")})
}

// watched are the rights by which pgAudit records who reads password hashes, or writes who may do what without the commands for it. \du, pg_roles and log-ins need none of them.
var watched = []struct{ check, grant string }{
	{`has_column_privilege($1, 'pg_catalog.pg_authid', 'rolpassword', 'SELECT')`, "SELECT (rolpassword) ON pg_catalog.pg_authid"},
	{writes("pg_authid"), "INSERT, UPDATE, DELETE ON pg_catalog.pg_authid"},
	{writes("pg_auth_members"), "INSERT, UPDATE, DELETE ON pg_catalog.pg_auth_members"},
}

// writes asks the table's own list of rights: PostgreSQL refuses such rights on its catalogs to all but superusers whatever stands there (so they are of no use to anybody), and pgAudit goes by the list.
func writes(table string) string {
	return `(SELECT count(*) = 3 FROM pg_catalog.pg_class c, pg_catalog.aclexplode(c.relacl) a JOIN pg_catalog.pg_roles r ON r.oid = a.grantee
		WHERE c.oid = 'pg_catalog.` + table + `'::regclass AND r.rolname = $1 AND a.privilege_type IN ('INSERT', 'UPDATE', 'DELETE'))`
}

// rights gives the auditor and the watcher what they need in every database: the rights on shared catalogs, too, are a database's own.
func (o *Options) rights(ctx context.Context, conn *pgx.Conn, do doing, loaded bool) error {
	objects := o.Scope != Classes && loaded // what only pgAudit can record
	var there, watcher bool
	if err := conn.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = $1), EXISTS (SELECT FROM pg_roles WHERE rolname = $2)`, o.Auditor, o.Watcher).Scan(&there, &watcher); err != nil {
		return failed(err)
	}
	if objects && !there {
		if err := do(conn, "role "+o.Auditor, "CREATE ROLE "+quote(o.Auditor)+" NOLOGIN"); err != nil {
			return err
		}
	}
	right := func(in *pgx.Conn, database string) error {
		if objects {
			for _, right := range watched {
				var has bool
				if err := in.QueryRow(ctx, "SELECT "+right.check, o.Auditor).Scan(&has); err != nil {
					return failed(err)
				}
				if has {
					continue
				}
				if err := do(in, database+": "+right.grant, "GRANT "+right.grant+" TO "+quote(o.Auditor)); err != nil {
					return err
				}
			}
		}
		if !watcher || database != o.Database {
			return nil
		}
		var has bool
		if err := in.QueryRow(ctx, "SELECT "+catalog.Granted, o.Watcher).Scan(&has); err != nil {
			return failed(err)
		}
		if has {
			return nil
		}
		for _, grant := range catalog.Grants(o.Watcher) {
			if err := do(in, database+": "+grant, grant); err != nil {
				return err
			}
		}
		return nil
	}
	databases, err := databasesOf(ctx, conn)
	if err != nil {
		return err
	}
	var all []error
	for _, database := range databases {
		if objects || database == o.Database {
			all = append(all, o.within(ctx, conn, database, right))
		}
	}
	return errors.Join(all...)
}

// settle makes the settings of the system that are not so, and gives those that somebody else has made.
func (o *Options) settle(ctx context.Context, conn *pgx.Conn, do doing, report *Report, loaded bool) (owners map[string]bool, err error) {
	settings := o.system(loaded)
	names := make([]string, len(settings))
	for i, s := range settings {
		names[i] = s.name
	}
	rows, err := conn.Query(ctx, `SELECT lower(name), setting, sourcefile FROM pg_file_settings WHERE lower(name) = ANY ($1) AND setting IS NOT NULL ORDER BY seqno`, names)
	if err != nil {
		return nil, failed(err)
	}
	type line struct{ Name, Value, File string }
	lines, err := pgx.CollectRows(rows, pgx.RowToStructByPos[line])
	if err != nil {
		return nil, failed(err)
	}
	owners = map[string]bool{}
	reload := false
	for _, s := range settings {
		var set, own *line // by ALTER SYSTEM, and in a file of somebody's own
		for i := range lines {
			l := &lines[i]
			switch file := l.File[strings.LastIndexAny(l.File, `/\`)+1:]; {
			case l.Name != s.name || file == o.Ours:
			case file == "postgresql.auto.conf":
				set = l
			default:
				own = l
			}
		}
		isOurs := set != nil && slices.ContainsFunc(s.ours, func(value string) bool { return list(value) == list(set.Value) })
		switch {
		case set != nil && !isOurs: // ALTER SYSTEM, by somebody else
			owners[s.name] = true
			report.Left = append(report.Left, Own{s.name, set.Value, set.File})
		case own != nil: // a line of a person's own; ours would hide it
			owners[s.name] = true
			if list(own.Value) != list(s.value) {
				report.Left = append(report.Left, Own{s.name, own.Value, own.File})
			}
			if set != nil {
				err, reload = do(conn, s.name, "ALTER SYSTEM RESET "+s.name), true
			}
		case s.value == "" && set != nil:
			err, reload = do(conn, s.name, "ALTER SYSTEM RESET "+s.name), true
		case s.value != "" && (set == nil || list(set.Value) != list(s.value)):
			err, reload = do(conn, s.name+" = "+s.value, "ALTER SYSTEM SET "+s.name+" = "+literal(s.value)), true
		}
		if err != nil {
			return nil, err
		}
	}
	if reload {
		if _, err := conn.Exec(ctx, "SELECT pg_reload_conf()"); err != nil {
			return nil, failed(err)
		}
	}
	return owners, nil
}

// settleDatabase has what is written in the house's own database audited, but for what the application writes.
func (o *Options) settleDatabase(ctx context.Context, conn *pgx.Conn, do doing, report *Report, owners map[string]bool) error {
	type place struct{ role, name, value string }
	want := []place{{o.App, "pgaudit.log", wide}, {"", "pgaudit.log", wideWrite}, {"", "pgaudit.log_rows", "on"}} // the exception before what it is one of
	for _, p := range want {
		var have *string
		var there bool
		if err := conn.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1) AND ($2 = '' OR EXISTS (SELECT FROM pg_roles WHERE rolname = $2)),
			(SELECT substr(c, strpos(c, '=') + 1) FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase LEFT JOIN pg_roles r ON r.oid = s.setrole, unnest(s.setconfig) c
			 WHERE d.datname = $1 AND coalesce(r.rolname, '') = $2 AND (s.setrole <> 0) = ($2 <> '') AND split_part(c, '=', 1) = $3)`, o.Database, p.role, p.name).Scan(&there, &have); err != nil {
			return failed(err)
		}
		if !there {
			continue
		}
		where := "DATABASE " + quote(o.Database)
		if p.role != "" {
			where = "ROLE " + quote(p.role) + " IN DATABASE " + quote(o.Database)
		}
		var err error
		switch set := o.Scope != Classes && !owners["pgaudit.log"]; { // who has chosen the classes for all has chosen them for this database too
		case have != nil && list(*have) != list(p.value):
			report.Left = append(report.Left, Own{p.name, *have, where})
		case have == nil && set:
			err = do(conn, where+": "+p.name+" = "+p.value, "ALTER "+where+" SET "+p.name+" = "+literal(p.value))
		case have != nil && !set:
			err = do(conn, where+": "+p.name, "ALTER "+where+" RESET "+p.name)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// list is a list of words as PostgreSQL takes it, whatever their order and the blanks between them.
func list(value string) string {
	words := strings.FieldsFunc(strings.ToLower(value), func(r rune) bool { return r == ',' || r == ' ' || r == '"' || r == '\t' })
	slices.Sort(words)
	return strings.Join(words, ",")
}

func quote(name string) string { return pgx.Identifier{name}.Sanitize() }

func literal(value string) string { return "'" + strings.ReplaceAll(value, "'", "''") + "'" }

// String says what it is, for a log.
func (o Own) String() string { return fmt.Sprintf("%s = %q (%s)", o.Name, o.Value, o.Where) }
