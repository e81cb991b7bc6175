// Package catalog reads from a running PostgreSQL what the log alone does not prove: who wrote each row that says who may do what. Package judge
// compares it with the records of the log.
package catalog

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"howdah/internal/audit/judge"
	"howdah/internal/fault"
)

// shared are the catalogs of the whole cluster. pg_class is none of them anywhere: TRUNCATE and REINDEX rewrite its rows.
const shared = `
SELECT 'role', rolname::text, xmin, concat_ws(' ', CASE WHEN rolsuper THEN 'superuser' END, CASE WHEN rolcreaterole THEN 'createrole' END,
       CASE WHEN rolcreatedb THEN 'createdb' END, CASE WHEN rolreplication THEN 'replication' END, CASE WHEN rolbypassrls THEN 'bypassrls' END, CASE WHEN rolcanlogin THEN 'login' END)
  FROM pg_catalog.pg_authid
UNION ALL SELECT 'member', pg_catalog.pg_get_userbyid(roleid) || ' to ' || pg_catalog.pg_get_userbyid(member), xmin, CASE WHEN admin_option THEN 'admin option' ELSE '' END FROM pg_catalog.pg_auth_members
UNION ALL SELECT 'setting', concat_ws(' in ', coalesce(r.rolname, 'all roles'), d.datname), s.xmin, pg_catalog.array_to_string(s.setconfig, ', ')
  FROM pg_catalog.pg_db_role_setting s LEFT JOIN pg_catalog.pg_roles r ON r.oid = s.setrole LEFT JOIN pg_catalog.pg_database d ON d.oid = s.setdatabase
UNION ALL SELECT 'database', datname::text, xmin, pg_catalog.pg_get_userbyid(datdba)::text FROM pg_catalog.pg_database
UNION ALL SELECT 'parameter', parname, xmin, paracl::text FROM pg_catalog.pg_parameter_acl
UNION ALL SELECT 'subscription', d.datname || ' ' || s.subname, s.xmin, pg_catalog.concat_ws(' ', 'of', pg_catalog.array_to_string(s.subpublications, ','), CASE WHEN NOT s.subenabled THEN 'disabled' END)
  FROM pg_catalog.pg_subscription s JOIN pg_catalog.pg_database d ON d.oid = s.subdbid`

// form counts how often what is read has changed: a look of one form is not compared with one of another, as what is only read now would seem to be new.
const form = "3 "

// local are those of one database. PostgreSQL's own functions are one row: the newest of them, and a hash over all.
const local = `
SELECT 'function', n.nspname || '.' || p.proname || '(' || pg_catalog.pg_get_function_identity_arguments(p.oid) || ')', p.xmin,
       pg_catalog.concat_ws(' ', CASE WHEN p.prosecdef THEN 'security definer' END, 'owner', pg_catalog.pg_get_userbyid(p.proowner))
  FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace WHERE p.oid >= 16384
UNION ALL (SELECT 'function', 'PostgreSQL''s own', p.xmin, '' FROM pg_catalog.pg_proc p WHERE p.oid < 16384 ORDER BY pg_catalog.age(p.xmin), p.oid LIMIT 1)
UNION ALL SELECT 'event trigger', evtname::text, xmin, evtenabled::text FROM pg_catalog.pg_event_trigger
UNION ALL SELECT 'extension', extname::text, xmin, extversion FROM pg_catalog.pg_extension
UNION ALL SELECT 'language', lanname::text, xmin, CASE WHEN lanpltrusted THEN 'trusted' ELSE 'untrusted' END FROM pg_catalog.pg_language
UNION ALL SELECT 'server', srvname::text, xmin, '' FROM pg_catalog.pg_foreign_server
UNION ALL SELECT 'publication', pubname::text, xmin, CASE WHEN puballtables THEN 'all tables' ELSE '' END FROM pg_catalog.pg_publication
UNION ALL SELECT 'published', p.pubname || ' ' || r.prrelid::pg_catalog.regclass, r.xmin, '' FROM pg_catalog.pg_publication_rel r JOIN pg_catalog.pg_publication p ON p.oid = r.prpubid
UNION ALL SELECT 'published', p.pubname || ' ' || r.pnnspid::pg_catalog.regnamespace, r.xmin, 'the whole schema' FROM pg_catalog.pg_publication_namespace r JOIN pg_catalog.pg_publication p ON p.oid = r.pnpubid
UNION ALL SELECT 'policy', p.polname || ' ' || p.polrelid::pg_catalog.regclass, p.xmin, '' FROM pg_catalog.pg_policy p
UNION ALL SELECT 'default rights', pg_catalog.pg_get_userbyid(defaclrole) || ' ' || defaclnamespace || ' ' || defaclobjtype::text, xmin, defaclacl::text FROM pg_catalog.pg_default_acl`

// mappings are those of one database, for whoever has a right to read them (Grants).
const mappings = `
UNION ALL SELECT 'user mapping', pg_catalog.pg_get_userbyid(m.umuser) || ' ' || s.srvname, m.xmin, '' FROM pg_catalog.pg_user_mapping m JOIN pg_catalog.pg_foreign_server s ON s.oid = m.umserver`

const mappingsGranted = `(SELECT bool_and(pg_catalog.has_column_privilege('pg_catalog.pg_user_mapping', c, 'SELECT')) FROM (VALUES ('oid'), ('xmin'), ('umuser'), ('umserver')) AS v(c))`

// server is what is in no catalog: settings that say what is written down, what is run and who gets in; what ALTER SYSTEM has written; who may come in; who takes all changes along. Settings that are
// another role's, database's or session's are not what a session sees for all. Of what holds passwords there is a hash.
const server = `
SELECT '` + judge.RowSetting + `', lower(name), CASE WHEN name ~ '(conninfo|passphrase)' THEN 'md5 ' || pg_catalog.md5(pg_catalog.current_setting(name)) ELSE pg_catalog.current_setting(name) END FROM pg_catalog.pg_settings WHERE source NOT IN ('database', 'user', 'database user', 'client', 'session', 'interactive', 'test')
  AND (name ~ '^(pgaudit\.|log_|logging_|ssl|archive_|restore_|recovery_end|krb_)' OR name ~ '(_libraries|_library|library_path|_command|_provider|_addresses|_conninfo)$'
    OR name IN ('hba_file', 'ident_file', 'password_encryption', 'allow_system_table_mods', 'ignore_system_indexes', 'zero_damaged_pages', 'row_security', 'track_commit_timestamp', 'event_triggers', 'fsync',
      'full_page_writes', 'synchronous_commit', 'wal_level', 'data_checksums', 'autovacuum', 'authentication_timeout', 'unix_socket_permissions', 'unix_socket_directories', 'session_replication_role'))
UNION ALL SELECT '` + judge.RowFile + `', lower(name), pg_catalog.string_agg(CASE WHEN name ~* '(conninfo|passphrase)' THEN 'md5 ' || pg_catalog.md5(setting) ELSE setting END, ' ' ORDER BY seqno) FROM pg_catalog.pg_file_settings WHERE sourcefile ~ 'postgresql\.auto\.conf$' AND name IS NOT NULL GROUP BY lower(name)
UNION ALL SELECT DISTINCT '` + judge.RowHBA + `', pg_catalog.concat_ws(' ', type, pg_catalog.array_to_string(database, ','), pg_catalog.array_to_string(user_name, ','), address, netmask, auth_method, pg_catalog.regexp_replace(pg_catalog.array_to_string(options, ' '), '(ldapbindpasswd|radiussecrets)=[^ ]*', '\1=***', 'g'), error), '' FROM pg_catalog.pg_hba_file_rules
UNION ALL SELECT '` + judge.RowSlot + `', slot_name::text, pg_catalog.concat_ws(' ', slot_type, plugin, database) FROM pg_catalog.pg_replication_slots WHERE NOT temporary`

// serverGranted is whether the one who asks may read all of it.
const serverGranted = `pg_catalog.has_table_privilege('pg_catalog.pg_hba_file_rules', 'SELECT') AND pg_catalog.has_function_privilege('pg_catalog.pg_hba_file_rules()', 'EXECUTE')
	AND pg_catalog.has_table_privilege('pg_catalog.pg_file_settings', 'SELECT') AND pg_catalog.has_function_privilege('pg_catalog.pg_show_all_file_settings()', 'EXECUTE')`

// Grants are what a role needs for Read: names and powers of roles, but not their passwords, and which user mappings and subscriptions there are, but not what stands in them,
// and what the files of settings and of who may come in say. They are to be given in the database that is read: rights on shared catalogs, too, are a database's own.
func Grants(role string) []string {
	to := " TO " + pgx.Identifier{role}.Sanitize()
	return []string{
		"GRANT SELECT (oid, xmin, rolname, rolsuper, rolcreaterole, rolcreatedb, rolreplication, rolbypassrls, rolcanlogin) ON pg_catalog.pg_authid" + to,
		"GRANT SELECT (oid, xmin, umuser, umserver) ON pg_catalog.pg_user_mapping" + to,
		"GRANT SELECT (oid, xmin, subdbid, subname, subenabled, subpublications) ON pg_catalog.pg_subscription" + to,
		"GRANT SELECT ON pg_catalog.pg_hba_file_rules, pg_catalog.pg_file_settings" + to,
		"GRANT EXECUTE ON FUNCTION pg_catalog.pg_hba_file_rules(), pg_catalog.pg_show_all_file_settings()" + to,
	}
}

// Granted is an expression that says whether the role $1 has what Grants gives, in the database that is asked.
const Granted = `(SELECT bool_and(has_column_privilege($1, c.oid, a.attname, 'SELECT')) FROM pg_catalog.pg_class c JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid
	WHERE c.oid = 'pg_catalog.pg_authid'::regclass AND a.attname IN ('oid', 'xmin', 'rolname', 'rolsuper', 'rolcreaterole', 'rolcreatedb', 'rolreplication', 'rolbypassrls', 'rolcanlogin')
	   OR c.oid = 'pg_catalog.pg_user_mapping'::regclass AND a.attname IN ('oid', 'xmin', 'umuser', 'umserver')
	   OR c.oid = 'pg_catalog.pg_subscription'::regclass AND a.attname IN ('oid', 'xmin', 'subdbid', 'subname', 'subenabled', 'subpublications'))
	AND has_table_privilege($1, 'pg_catalog.pg_hba_file_rules', 'SELECT') AND has_function_privilege($1, 'pg_catalog.pg_hba_file_rules()', 'EXECUTE')
	AND has_table_privilege($1, 'pg_catalog.pg_file_settings', 'SELECT') AND has_function_privilege($1, 'pg_catalog.pg_show_all_file_settings()', 'EXECUTE')`

// Read takes snapshots over one connection: of the catalogs that the cluster shares, of the connection's database, and of the server (judge.ServerScope; where it may). It needs Grants. Of the
// transactions it finds out when they committed, where PostgreSQL keeps that (track_commit_timestamp); they are what Judge.Transactions names.
func Read(ctx context.Context, conn *pgx.Conn, transactions []uint32) ([]*judge.Snapshot, error) {
	return read(ctx, conn, func(tx pgx.Tx, now *moment) ([]*judge.Snapshot, error) {
		var commits []time.Time
		var of []uint32
		if now.times && len(transactions) > 0 {
			rows, err := tx.Query(ctx, `SELECT pg_catalog.pg_xact_commit_timestamp(x::text::xid), x FROM unnest($1::bigint[]) x WHERE pg_catalog.pg_xact_commit_timestamp(x::text::xid) IS NOT NULL`, wide(transactions))
			if err != nil {
				return nil, err
			}
			if commits, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (at time.Time, err error) {
				var id int64
				err = row.Scan(&at, &id)
				of = append(of, uint32(id))
				return at.UTC(), err
			}); err != nil {
				return nil, err
			}
		}
		all, err := now.rows(ctx, tx, shared)
		if err != nil {
			return nil, err
		}
		own, err := now.own(ctx, tx)
		if err != nil {
			return nil, err
		}
		both := []*judge.Snapshot{{At: now.at, Epoch: now.epoch, Rows: all}, own}
		for _, s := range both {
			s.Commits, s.Of = commits, of
		}
		var may bool
		if err := tx.QueryRow(ctx, "SELECT "+serverGranted).Scan(&may); err != nil || !may {
			return both, err
		}
		rows, err := tx.Query(ctx, "SELECT type, name, coalesce(says, '') FROM ("+server+") AS row(type, name, says) ORDER BY 1, 2")
		if err != nil {
			return nil, err
		}
		s := &judge.Snapshot{At: now.at, Epoch: now.epoch, Scope: judge.ServerScope}
		s.Rows, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (r judge.Row, err error) { return r, row.Scan(&r.Type, &r.Name, &r.Says) })
		return append(both, s), err
	})
}

// ReadOwn takes the snapshot of the connection's database alone. It needs no rights; what only Grants lets one read is left out without them.
func ReadOwn(ctx context.Context, conn *pgx.Conn) (own *judge.Snapshot, err error) {
	_, err = read(ctx, conn, func(tx pgx.Tx, now *moment) ([]*judge.Snapshot, error) {
		own, err = now.own(ctx, tx)
		return nil, err
	})
	return own, err
}

// Database is a database that takes connections. One that was dropped and made anew has another OID.
type Database struct {
	Name string
	OID  uint32
	May  bool // the one who asked may connect to it
	Mute bool // somebody has switched pgAudit's class ddl off for all of it: no record explains what is done there
}

// Databases are those that take connections. One with the limit -2 is what a DROP DATABASE that was broken off has left.
func Databases(ctx context.Context, conn *pgx.Conn) ([]Database, error) {
	rows, err := conn.Query(ctx, `SELECT datname::text, oid, pg_catalog.has_database_privilege(oid, 'CONNECT'), EXISTS (SELECT FROM pg_catalog.pg_db_role_setting s, unnest(s.setconfig) c WHERE s.setdatabase = d.oid AND s.setrole = 0 AND c ~ '^pgaudit\.log=' AND c !~* '[=, "](ddl|all)([, "]|$)')
		FROM pg_catalog.pg_database d WHERE datallowconn AND datconnlimit <> -2 ORDER BY datname`)
	if err != nil {
		return nil, fault.Wrap(err, fault.Unavailable, "catalog.read")
	}
	all, err := pgx.CollectRows(rows, pgx.RowToStructByPos[Database])
	if err != nil {
		return nil, fault.Wrap(err, fault.Unavailable, "catalog.read")
	}
	return all, nil
}

// moment is what snapshots of one transaction have in common.
type moment struct {
	at              time.Time
	database, epoch string
	oid             uint32
	times           bool // commit times are kept
}

func read(ctx context.Context, conn *pgx.Conn, take func(pgx.Tx, *moment) ([]*judge.Snapshot, error)) (all []*judge.Snapshot, err error) {
	err = pgx.BeginTxFunc(ctx, conn, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
		now := &moment{}
		if err := tx.QueryRow(ctx, `SELECT pg_catalog.clock_timestamp(), d.datname::text, d.oid, pg_catalog.current_setting('track_commit_timestamp')::bool,
			CASE WHEN pg_catalog.pg_is_in_recovery() THEN 'standby' ELSE pg_catalog.left(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_lsn()), 8) END
			FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database()`).Scan(&now.at, &now.database, &now.oid, &now.times, &now.epoch); err != nil {
			return err
		}
		now.at, now.epoch = now.at.UTC(), form+now.epoch
		all, err = take(tx, now)
		return err
	})
	if err != nil {
		return nil, fault.Wrap(err, fault.Unavailable, "catalog.read")
	}
	return all, nil
}

// own is the snapshot of the connection's database.
func (now *moment) own(ctx context.Context, tx pgx.Tx) (*judge.Snapshot, error) {
	var may bool
	if err := tx.QueryRow(ctx, "SELECT "+mappingsGranted).Scan(&may); err != nil {
		return nil, err
	}
	query, epoch := local, fmt.Sprintf("%s %d", now.epoch, now.oid)
	if may {
		query, epoch = local+mappings, epoch+" mappings"
	}
	rows, err := now.rows(ctx, tx, query)
	return &judge.Snapshot{At: now.at, Epoch: epoch, Scope: now.database, Rows: rows}, err
}

func (now *moment) rows(ctx context.Context, tx pgx.Tx, query string) ([]judge.Row, error) {
	committed := "NULL::timestamptz"
	if now.times {
		committed = "CASE WHEN xmin::text::bigint > 2 THEN pg_catalog.pg_xact_commit_timestamp(xmin) END"
	}
	rows, err := tx.Query(ctx, "SELECT type, name, xmin::text::bigint, "+committed+", coalesce(says, '') FROM ("+query+") AS row(type, name, xmin, says) ORDER BY 1, 2")
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (judge.Row, error) {
		var r judge.Row
		var xmin int64
		var when *time.Time
		err := row.Scan(&r.Type, &r.Name, &xmin, &when, &r.Says)
		r.XMin = uint32(xmin)
		if when != nil {
			r.Committed = when.UTC()
		}
		return r, err
	})
}

func wide(xids []uint32) []int64 {
	all := make([]int64, len(xids))
	for i, x := range xids {
		all[i] = int64(x)
	}
	return all
}
