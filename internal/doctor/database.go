package doctor

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"howdah/internal/cluster"
	"howdah/internal/fault"
	"howdah/internal/keeper"
)

// Marker is the application_name of the sessions that look.
const Marker = "howdah doctor"

// problem is something that can be wrong in a database: the rows of its query are what is, by name, and the statement that mends it ("" where none does).
type problem struct {
	key   string // of the fault
	level keeper.Level
	query string
	after []Step
}

var reload = sql("SELECT pg_reload_conf();")

// set is a query for a setting whose value v is bad, and the value that mends it. ALTER SYSTEM wins over every file.
func set(name, bad, good string) string {
	return `SELECT name || ' = ' || setting, 'ALTER SYSTEM SET ` + name + ` = ''` + good + `'';' FROM pg_settings, LATERAL (SELECT setting AS v) AS s WHERE name = '` + name + `' AND ` + bad
}

var settingProblems = []problem{
	{"doctor.conf_file", keeper.Critical, `SELECT format('%s:%s: %s', sourcefile, sourceline, concat_ws(' ', name, error)), '' FROM pg_file_settings
		WHERE error IS NOT NULL AND error <> 'setting could not be applied' ORDER BY seqno`, []Step{reload}},
	// With one of these off, a crash can cost the whole cluster: https://www.postgresql.org/docs/current/runtime-config-wal.html
	{"doctor.unsafe", keeper.Critical, set("fsync", "v = 'off'", "on") + " UNION ALL " + set("full_page_writes", "v = 'off'", "on"), []Step{reload}},
	{"doctor.wal_level", keeper.Critical, set("wal_level", "v = 'minimal'", "replica"), []Step{restart}},
	{"doctor.lossy", keeper.Warning, set("synchronous_commit", "v = 'off'", "on"), []Step{reload}},
	{"doctor.autovacuum", keeper.Warning, set("autovacuum", "v = 'off'", "on") + " UNION ALL " + set("track_counts", "v = 'off'", "on"), []Step{reload}},
	{"doctor.connections_few", keeper.Warning, set("max_connections", "v::int < 60", "100"), []Step{restart}},
	{"doctor.timeout", keeper.Warning, set("statement_timeout", "v::int BETWEEN 1 AND 59999", "0") + " UNION ALL " + set("idle_in_transaction_session_timeout", "v::int BETWEEN 1 AND 59999", "0") +
		" UNION ALL " + set("lock_timeout", "v::int BETWEEN 1 AND 9999", "0"), []Step{reload}},
	{"doctor.pending_restart", keeper.Warning, `SELECT name, '' FROM pg_settings WHERE pending_restart ORDER BY 1`, []Step{restart}},
	{"doctor.overridden", keeper.Warning, `SELECT concat_ws(' in ', r.rolname, d.datname) || ': ' || c, format('ALTER %s RESET %s;', CASE WHEN r.oid IS NULL THEN format('DATABASE %I', d.datname)
			WHEN d.oid IS NULL THEN format('ROLE %I', r.rolname) ELSE format('ROLE %I IN DATABASE %I', r.rolname, d.datname) END, split_part(c, '=', 1))
		FROM pg_db_role_setting s LEFT JOIN pg_roles r ON r.oid = s.setrole LEFT JOIN pg_database d ON d.oid = s.setdatabase, unnest(s.setconfig) c
		WHERE (d.datname = 'howdah' OR d.oid IS NULL) AND (r.rolname IN ('howdah_owner', 'howdah_app', 'howdah_watch') OR r.oid IS NULL)
			AND (c ~ '^(default_transaction_read_only|transaction_read_only)=(on|true|1|yes)$' OR c ~ '^(search_path|role|session_authorization)=' OR c ~ '^statement_timeout=[1-9][0-9]{0,4}(ms)?$' OR c = 'synchronous_commit=off')`, nil},
	{"doctor.read_only", keeper.Critical, set("default_transaction_read_only", "v = 'on'", "off"), []Step{reload}},
}

// ours are the roles of a house but for the superuser, as a list of SQL.
const ours = `('howdah_owner', 'howdah_app', 'replicator', 'howdah_watch')`

var roleProblems = []problem{
	{"doctor.role_missing", keeper.Critical, `SELECT r, CASE r WHEN 'replicator' THEN 'CREATE ROLE replicator LOGIN REPLICATION;' WHEN 'howdah_watch' THEN 'CREATE ROLE howdah_watch LOGIN IN ROLE pg_monitor;' ELSE format('CREATE ROLE %I LOGIN;', r) END
		FROM unnest(ARRAY['howdah_owner', 'howdah_app', 'replicator', 'howdah_watch']) r WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = r)`, nil},
	{"doctor.role_login", keeper.Critical, `SELECT rolname || CASE WHEN NOT rolcanlogin THEN ': NOLOGIN' WHEN rolconnlimit >= 0 THEN ': CONNECTION LIMIT ' || rolconnlimit ELSE ': VALID UNTIL ' || rolvaliduntil END,
		format('ALTER ROLE %I LOGIN CONNECTION LIMIT -1 VALID UNTIL ''infinity'';', rolname)
		FROM pg_roles WHERE rolname IN ` + ours + ` AND (NOT rolcanlogin OR rolconnlimit >= 0 OR rolvaliduntil < now() + interval '1 day')`, nil},
	{"doctor.role_power", keeper.Critical, `SELECT rolname || ':' || CASE WHEN rolsuper THEN ' SUPERUSER' ELSE '' END || CASE WHEN rolcreaterole THEN ' CREATEROLE' ELSE '' END || CASE WHEN rolcreatedb THEN ' CREATEDB' ELSE '' END ||
			CASE WHEN rolbypassrls THEN ' BYPASSRLS' ELSE '' END || CASE WHEN rolreplication AND rolname <> 'replicator' THEN ' REPLICATION' ELSE '' END,
		format('ALTER ROLE %I NOSUPERUSER NOCREATEROLE NOCREATEDB NOBYPASSRLS%s;', rolname, CASE WHEN rolname <> 'replicator' THEN ' NOREPLICATION' ELSE '' END)
		FROM pg_roles WHERE rolname IN ` + ours + ` AND (rolsuper OR rolcreaterole OR rolcreatedb OR rolbypassrls OR rolreplication AND rolname <> 'replicator') ORDER BY 1`, nil},
	{"doctor.role_replication", keeper.Critical, `SELECT rolname::text, 'ALTER ROLE replicator REPLICATION;' FROM pg_roles WHERE rolname = 'replicator' AND NOT rolreplication`, nil},
	{"doctor.role_monitor", keeper.Critical, `SELECT rolname::text, 'GRANT pg_monitor TO howdah_watch;' FROM pg_roles WHERE rolname = 'howdah_watch' AND NOT pg_has_role(rolname, 'pg_monitor', 'USAGE')`, nil},
	{"doctor.role_member", keeper.Warning, `SELECT format('%s in %s', u.rolname, g.rolname), format('REVOKE %I FROM %I;', g.rolname, u.rolname)
		FROM pg_auth_members m JOIN pg_roles g ON g.oid = m.roleid JOIN pg_roles u ON u.oid = m.member WHERE u.rolname = 'howdah_app' OR u.rolname IN ('replicator', 'howdah_owner') AND g.rolname <> 'howdah_app' ORDER BY 1`, nil},
	{"doctor.no_database", keeper.Critical, `SELECT 'howdah', 'CREATE DATABASE howdah OWNER howdah_owner TEMPLATE template0;' WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = 'howdah')`, nil},
	{"doctor.database_closed", keeper.Critical, `SELECT datname || CASE WHEN datconnlimit >= 0 THEN ': CONNECTION LIMIT ' || datconnlimit ELSE ': ALLOW_CONNECTIONS false' END, 'ALTER DATABASE howdah CONNECTION LIMIT -1 ALLOW_CONNECTIONS true;'
		FROM pg_database WHERE datname = 'howdah' AND (datconnlimit >= 0 OR NOT datallowconn)`, nil},
	{"doctor.database_owner", keeper.Critical, `SELECT datname || ': ' || pg_get_userbyid(datdba), 'ALTER DATABASE howdah OWNER TO howdah_owner;' FROM pg_database
		WHERE datname = 'howdah' AND pg_get_userbyid(datdba) <> 'howdah_owner' AND EXISTS (SELECT FROM pg_roles WHERE rolname = 'howdah_owner')`, nil},
	{"doctor.database_connect", keeper.Critical, `SELECT r.rolname::text, format('GRANT CONNECT ON DATABASE howdah TO %I;', r.rolname) FROM pg_roles r JOIN pg_database d ON d.datname = 'howdah'
		WHERE r.rolname IN ('howdah_owner', 'howdah_app') AND NOT has_database_privilege(r.oid, d.oid, 'CONNECT')`, nil},
}

// insideProblems are looked for in the house's database.
var insideProblems = []problem{
	{"doctor.app_rows", keeper.Critical, `SELECT format('%I.%I', n.nspname, c.relname), format('GRANT SELECT, INSERT%s ON %I.%I TO howdah_app;', CASE n.nspname || '.' || c.relname WHEN 'account.trail' THEN '' WHEN 'audit.entry' THEN ', DELETE' ELSE ', UPDATE, DELETE' END, n.nspname, c.relname)
		FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname IN ('account', 'chat', 'audit') AND c.relkind IN ('r', 'p') AND NOT has_table_privilege('howdah_app', c.oid, 'INSERT')
		UNION ALL SELECT n.nspname::text, format('GRANT USAGE ON SCHEMA %I TO howdah_app;', n.nspname) FROM pg_namespace n WHERE n.nspname IN ('account', 'chat', 'audit') AND NOT has_schema_privilege('howdah_app', n.oid, 'USAGE')`, nil},
	{"doctor.app_ddl", keeper.Critical, `SELECT 'CREATE on schema ' || n.nspname, format('REVOKE CREATE ON SCHEMA %I FROM howdah_app, PUBLIC;', n.nspname) FROM pg_namespace n
		WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' AND has_schema_privilege('howdah_app', n.oid, 'CREATE') AND NOT (SELECT rolsuper FROM pg_roles WHERE rolname = 'howdah_app')`, nil},
	{"doctor.index_invalid", keeper.Warning, `SELECT format('%I.%I', n.nspname, c.relname), format('REINDEX INDEX CONCURRENTLY %I.%I;', n.nspname, c.relname) FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
		JOIN pg_namespace n ON n.oid = c.relnamespace WHERE NOT i.indisvalid AND NOT EXISTS (SELECT FROM pg_stat_progress_create_index p WHERE p.index_relid = i.indexrelid)`, nil},
	{"doctor.trigger_off", keeper.Warning, `SELECT format('%s: %I', t.tgrelid::regclass, t.tgname), format('ALTER TABLE %s ENABLE TRIGGER %I;', t.tgrelid::regclass, t.tgname) FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
		JOIN pg_namespace n ON n.oid = c.relnamespace WHERE t.tgenabled = 'D' AND n.nspname IN ('account', 'chat', 'audit')`, nil},
}

var databaseProblems = []problem{
	// PostgreSQL refuses writes in the end: https://www.postgresql.org/docs/current/routine-vacuuming.html#VACUUM-FOR-WRAPAROUND
	{"doctor.wraparound", keeper.Critical, `SELECT datname || ': ' || age(datfrozenxid), '' FROM pg_database WHERE age(datfrozenxid) > 1500000000`, nil},
	{"doctor.prepared", keeper.Warning, `SELECT format('%s (%s, %s)', gid, owner, database), format('ROLLBACK PREPARED %L;', gid) FROM pg_prepared_xacts WHERE prepared < now() - interval '1 hour'
		OR transaction::text::bigint < 0 OR age(transaction) > 100000`, nil},
	{"doctor.slot", keeper.Warning, `SELECT format('%s: %s', slot_name, pg_size_pretty(pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn))), format('SELECT pg_drop_replication_slot(%L);', slot_name) FROM pg_replication_slots
		WHERE NOT active AND slot_name !~ '^howdah_' AND (wal_status IN ('unreserved', 'lost') OR pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn) > 1e9 OR restart_lsn IS NOT NULL AND NOT temporary)`, nil},
	{"doctor.collation", keeper.Critical, `SELECT format('%s: %s, not %s', datname, datcollversion, pg_database_collation_actual_version(oid)), format('ALTER DATABASE %I REFRESH COLLATION VERSION;', datname)
		FROM pg_database WHERE datallowconn AND datcollversion <> pg_database_collation_actual_version(oid)`, nil},
	{"doctor.connections", keeper.Warning, `SELECT format('%s / %s', count(*), current_setting('max_connections')), '' FROM pg_stat_activity WHERE backend_type = 'client backend'
		HAVING count(*) > 0.9 * current_setting('max_connections')::int`, nil},
	{"doctor.idle", keeper.Warning, `SELECT format('%s, %s', pid, concat_ws(' ', usename, application_name)), format('SELECT pg_terminate_backend(%s);', pid) FROM pg_stat_activity
		WHERE state LIKE 'idle in transaction%' AND xact_start < now() - interval '1 hour'`, nil},
}

// connect opens a session as a role of the house, or as whoever the way in is for.
func (x *exam) connect(role, database string) (*pgx.Conn, error) {
	dsn := x.Status.Server.DSN
	if x.Cluster != nil {
		var err error
		if dsn, err = x.Cluster.DSN(role, database); err != nil {
			return nil, err
		}
	}
	config, err := pgx.ParseConfig(dsn)
	if err != nil {
		return nil, fault.Wrap(err, fault.Invalid, "pg.dsn")
	}
	config.RuntimeParams["application_name"] = Marker
	config.ConnectTimeout = patience
	ctx, cancel := context.WithTimeout(x.ctx, patience)
	defer cancel()
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return nil, err
	}
	if x.Begun != nil {
		var session string
		if err = conn.QueryRow(ctx, `SELECT to_hex(trunc(extract(epoch FROM backend_start))::bigint) || '.' || to_hex(pid) FROM pg_stat_activity WHERE pid = pg_backend_pid()`).Scan(&session); err == nil {
			err = x.Begun(session)
		}
		if err != nil {
			_ = conn.Close(context.WithoutCancel(x.ctx))
			return nil, err
		}
	}
	return conn, nil
}

// look asks for all of the problems.
func (x *exam) look(conn *pgx.Conn, problems []problem, database string) error {
	var unseen []error
	for _, p := range problems {
		rows, err := conn.Query(x.ctx, p.query)
		if err != nil {
			unseen = append(unseen, fmt.Errorf("%s: %w", p.key, err))
			continue
		}
		var names []string
		var mend []Step
		var name, text string
		_, err = pgx.ForEachRow(rows, []any{&name, &text}, func() error {
			names = append(names, name)
			if text != "" {
				step := sql(text)
				step.Database = database
				mend = append(mend, step)
			}
			return nil
		})
		if err != nil {
			unseen = append(unseen, fmt.Errorf("%s: %w", p.key, err))
			continue
		}
		if len(names) > 0 {
			args := fault.Args{"names": strings.Join(names, ", ")}
			x.find(p.level, fault.New(fault.Conflict, p.key, args), append(mend, p.after...)...)
		}
	}
	return errors.Join(unseen...)
}

// inside looks for problems in a database, as its superuser.
func (x *exam) inside(database string, problems []problem) error {
	if err := x.mustRun(); err != nil {
		return err
	}
	conn, err := x.connect(cluster.Superuser, database)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(x.ctx)) //nolint:errcheck // it is over
	return x.look(conn, problems, database)
}

func (x *exam) settings() error { return x.inside("postgres", settingProblems) }
func (x *exam) database() error { return x.inside("postgres", databaseProblems) }

// server looks whether the server that runs is the one that is on the disk, and goes by our clock.
func (x *exam) server() error {
	if err := x.mustRun(); err != nil {
		return err
	}
	conn, err := x.connect(cluster.Watcher, "postgres")
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(x.ctx)) //nolint:errcheck // it is over
	var version string
	var recovering bool
	var clock time.Time
	before := time.Now()
	if err := conn.QueryRow(x.ctx, `SELECT current_setting('server_version'), pg_is_in_recovery(), clock_timestamp()`).Scan(&version, &recovering, &clock); err != nil {
		return err
	}
	if away := max(before.Sub(clock), time.Until(clock)); away > 10*time.Second {
		x.find(keeper.Warning, fault.New(fault.Conflict, "doctor.clocks", fault.Args{"seconds": int(away.Seconds())}))
	}
	if recovering {
		x.find(keeper.Critical, fault.New(fault.Conflict, "doctor.standby"))
	}
	if x.Cluster == nil {
		return nil
	}
	in, err := x.installation()
	if err != nil {
		return nil //nolint:nilerr // that there are no programs is said elsewhere
	}
	if have := strings.TrimSpace(version); have != in.Version.Build && have != in.Version.Text {
		x.find(keeper.Warning, fault.New(fault.Conflict, "doctor.superseded", fault.Args{"running": have, "installed": in.Version.Build}), restart)
	}
	return nil
}

// roles looks at the house's roles, its database, and what each may do.
func (x *exam) roles() error {
	if x.Cluster == nil {
		return nil
	}
	if err := x.mustRun(); err != nil {
		return err
	}
	conn, err := x.connect(cluster.Superuser, "postgres")
	if refused(err) {
		x.find(keeper.Critical, fault.Wrap(err, fault.Forbidden, "doctor.role_password", fault.Args{"names": cluster.Superuser}), x.freshPasswords()...)
		return nil
	}
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(x.ctx)) //nolint:errcheck // it is over
	before := len(x.report.Findings)
	err = x.look(conn, roleProblems, "postgres")
	if len(x.report.Findings) == before && err == nil { // otherwise who cannot get in is no news
		if err = x.inside(cluster.Database, insideProblems); err == nil {
			err = x.passwords()
		}
	}
	return err
}

// passwords tries to come in as each role.
func (x *exam) passwords() error {
	var wrong []string
	for _, role := range []string{cluster.Owner, cluster.App, cluster.Watcher} {
		database := cluster.Database
		if role == cluster.Watcher {
			database = "postgres"
		}
		conn, err := x.connect(role, database)
		switch {
		case err == nil:
			_ = conn.Close(context.WithoutCancel(x.ctx))
		case refused(err):
			wrong = append(wrong, role)
		default:
			return err
		}
	}
	if wrong != nil {
		x.find(keeper.Critical, fault.New(fault.Forbidden, "doctor.role_password", fault.Args{"names": strings.Join(wrong, ", ")}), x.freshPasswords()...)
	}
	return nil
}

// refused tells whether somebody was not let in: SQLSTATE class 28.
func refused(err error) bool {
	var e *pgconn.PgError
	return errors.As(err, &e) && strings.HasPrefix(e.Code, "28")
}

// archivePatience is how long a segment may take into all repos: PostgreSQL waits a minute after a command that failed, and a bucket may be slow.
const archivePatience = 3 * time.Minute

// archive has PostgreSQL finish a segment and waits until it is in all repos.
func (x *exam) archive() error {
	if x.Cluster == nil {
		return nil
	}
	if err := x.mustRun(); err != nil {
		return err
	}
	conn, err := x.connect(cluster.Superuser, "postgres")
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(x.ctx)) //nolint:errcheck // it is over
	var command, mode string
	if err := conn.QueryRow(x.ctx, `SELECT current_setting('archive_command'), current_setting('archive_mode')`).Scan(&command, &mode); err != nil {
		return err
	}
	if mode == "off" {
		return nil // howdah status says so
	}
	if want, ok := x.Cluster.Written()["archive_command"]; ok && want != "" && command != want {
		x.find(keeper.Critical, fault.New(fault.Conflict, "doctor.archive_command", fault.Args{"command": command}), sql("ALTER SYSTEM RESET archive_command;"), reload)
		return nil
	}
	var segment string
	var failed int64
	// The message makes sure that there is something to finish. In one statement each: a switch inside of a transaction is of no use.
	if _, err := conn.Exec(x.ctx, `SELECT pg_logical_emit_message(false, 'howdah', 'doctor')`); err != nil {
		return err
	}
	if err := conn.QueryRow(x.ctx, `SELECT pg_walfile_name(pg_switch_wal()), (SELECT failed_count FROM pg_stat_archiver)`).Scan(&segment, &failed); err != nil {
		return err
	}
	again := time.NewTicker(200 * time.Millisecond)
	defer again.Stop()
	late := time.NewTimer(archivePatience)
	defer late.Stop()
	for {
		var done, broken bool
		if err := conn.QueryRow(x.ctx, `SELECT coalesce(substr(last_archived_wal, 1, 24) >= $1, false), failed_count > $2 FROM pg_stat_archiver`, segment, failed).Scan(&done, &broken); err != nil {
			return err
		}
		args := fault.Args{"segment": segment, "command": command, "log": x.Cluster.LogDir()}
		switch {
		case done:
			return nil
		case broken:
			x.find(keeper.Critical, fault.New(fault.Unavailable, "doctor.archive_fails", args))
			return nil
		}
		select {
		case <-x.ctx.Done():
			return x.ctx.Err()
		case <-late.C:
			x.find(keeper.Critical, fault.New(fault.Unavailable, "doctor.archive_late", args))
			return nil
		case <-again.C:
		}
	}
}
