package check

import (
	"howdah/internal/audit/cover"
	"howdah/internal/audit/judge"
)

// Sections of the CIS PostgreSQL Benchmark.
const (
	sectionFiles   = "Directory and File Permissions"
	sectionLogging = "Logging And Auditing"
	sectionRights  = "User Access and Authorization"
	sectionLogin   = "Connection and Login"
	sectionConf    = "PostgreSQL Settings"
	sectionReplica = "Replication"
	sectionSpecial = "Special Configuration Considerations"
)

// hba are the lines of pg_hba.conf as the file reads now, with what is wrong with each, and how it reads when all of it is mended. A line with several things wrong is then mended once.
const hba = `(SELECT l.*, concat_ws(' ', CASE WHEN plain THEN 'hostssl' ELSE type END, names, whom, CASE WHEN everywhere THEN 'samenet' ELSE "from" END,
		CASE WHEN trusted OR weak THEN 'scram-sha-256' ELSE auth_method || coalesce(' ' || array_to_string(options, ' '), '') END) AS mended,
		'line ' || line_number || ': ' || concat_ws(' ', type, names, whom, "from", auth_method) AS says
	FROM (SELECT h.line_number, h.type, h.auth_method, h.options, h.error, coalesce(to_jsonb(h) ->> 'file_name', current_setting('hba_file')) AS file,
			(SELECT string_agg(CASE WHEN n ~ '^[a-z0-9_+/.-]+$' THEN n ELSE quote_ident(n) END, ',') FROM unnest(h.database) n) AS names,
			(SELECT string_agg(CASE WHEN n ~ '^[a-z0-9_+/.-]+$' THEN n ELSE quote_ident(n) END, ',') FROM unnest(h.user_name) n) AS whom,
			concat_ws(' ', h.address, h.netmask) AS "from",
			h.auth_method = 'trust' AS trusted,
			coalesce(h.auth_method IN ('password', 'md5') OR h.auth_method = 'ident' AND h.type <> 'local', false) AS weak,
			coalesce(h.auth_method <> 'reject' AND (h.address = 'all' OR h.address IN ('0.0.0.0', '::') AND h.netmask IN ('0.0.0.0', '::')), false) AS everywhere,
			coalesce(h.auth_method <> 'reject' AND h.type IN ('host', 'hostnossl') AND current_setting('ssl')::bool AND h.address NOT IN ('127.0.0.1', '::1', 'localhost', 'samehost') AND h.address NOT LIKE '127.%', false) AS plain
		FROM pg_hba_file_rules h) AS l) AS h`

func lines(where string) string {
	return `SELECT says, '', file, line_number, mended FROM ` + hba + ` WHERE error IS NULL AND ` + where + ` ORDER BY file, line_number`
}

// beyond says whether PostgreSQL listens at more than this machine's own addresses.
const beyond = `EXISTS (SELECT FROM unnest(string_to_array(current_setting('listen_addresses'), ',')) a WHERE btrim(a, ' "') NOT IN ('', 'localhost', '::1') AND btrim(a, ' "') NOT LIKE '127.%')`

// ofExtension says whether the object with this oid, of this catalog, belongs to an extension.
func ofExtension(catalog, oid string) string {
	return `EXISTS (SELECT FROM pg_depend e WHERE e.classid = '` + catalog + `'::regclass AND e.objid = ` + oid + ` AND e.deptype = 'e')`
}

const (
	own     = `n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ '^pg_(toast|temp)'`
	grantee = `CASE WHEN a.grantee = 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END`
	// plainly is a grantee that is neither PostgreSQL's own (whose members are looked at elsewhere) nor a superuser.
	plainly = `(a.grantee = 0 OR a.grantee >= 16384 AND NOT (SELECT rolsuper FROM pg_roles WHERE oid = a.grantee))`
)

// first is what must be mended before anything else: with it, the restart that another finding asks for would be PostgreSQL's last.
var first = []check{
	{id: "login.broken", severity: judge.Critical, section: sectionLogin, query: `SELECT 'line ' || line_number || ': ' || error, '', file, line_number, '#' FROM ` + hba + ` WHERE error IS NOT NULL ORDER BY file, line_number`, after: reload},
}

// hardening is what makes it hard to get in, and to do more than one may.
var hardening = []check{
	// CIS "User Access and Authorization": excessive administrative privileges are revoked.
	{id: "role.superuser", severity: judge.High, section: sectionRights, query: `SELECT rolname::text, format('ALTER ROLE %I NOSUPERUSER;', rolname) FROM pg_roles WHERE rolsuper AND oid <> 10 ORDER BY 1`},
	{id: "role.createrole", severity: judge.Medium, section: sectionRights, query: `SELECT rolname::text, format('ALTER ROLE %I NOCREATEROLE;', rolname) FROM pg_roles WHERE rolcreaterole AND NOT rolsuper ORDER BY 1`},
	// CIS "User Access and Authorization": Row Level Security (RLS) is configured correctly.
	{id: "role.bypassrls", severity: judge.Medium, section: sectionRights, query: `SELECT rolname::text, format('ALTER ROLE %I NOBYPASSRLS;', rolname) FROM pg_roles WHERE rolbypassrls AND NOT rolsuper ORDER BY 1`},
	// CIS "User Access and Authorization": make use of predefined roles - but for those that are as good as the operating system's account.
	{id: "role.server_files", severity: judge.High, section: sectionRights,
		query: `SELECT format('%s in %s', u.rolname, g.rolname), format('REVOKE %I FROM %I%s;', g.rolname, u.rolname, CASE WHEN current_setting('server_version_num')::int >= 160000 THEN format(' GRANTED BY %I', pg_get_userbyid(m.grantor)) ELSE '' END)
			FROM pg_auth_members m JOIN pg_roles g ON g.oid = m.roleid JOIN pg_roles u ON u.oid = m.member WHERE g.rolname IN ('pg_execute_server_program', 'pg_read_server_files', 'pg_write_server_files') AND NOT u.rolsuper ORDER BY 1`},
	// CIS "Replication": a replication-only user is created and used for streaming replication.
	{id: "role.replication", severity: judge.Medium, section: sectionReplica,
		query: `SELECT r.rolname::text, format('ALTER ROLE %I NOREPLICATION;', r.rolname) FROM pg_roles r WHERE r.rolreplication AND NOT r.rolsuper
			AND (r.rolcreaterole OR r.rolcreatedb OR r.rolbypassrls OR EXISTS (SELECT FROM pg_auth_members m WHERE m.member = r.oid) OR EXISTS (SELECT FROM pg_database d WHERE d.datdba = r.oid)) ORDER BY 1`},
	{id: "role.parameter", severity: judge.Medium, section: sectionConf,
		query: `SELECT format('%s: %s on %s', CASE WHEN a.grantee = 0 THEN 'PUBLIC' ELSE pg_get_userbyid(a.grantee)::text END, a.privilege_type, p.parname), format('REVOKE %s ON PARAMETER %s FROM %s;', a.privilege_type, p.parname, ` + grantee + `)
			FROM pg_parameter_acl p, aclexplode(p.paracl) a WHERE ` + plainly + ` AND (p.parname ~ '^(log_|logging_|pgaudit\.|ssl|archive_)' OR p.parname ~ '(preload_libraries|library_path|_command|_file|_directory)$'
				OR p.parname IN ('session_replication_role', 'allow_system_table_mods', 'password_encryption', 'listen_addresses', 'row_security', 'track_commit_timestamp')) ORDER BY 1`},
	// CIS "User Access and Authorization": lock out accounts if not currently in use.
	{id: "role.expired", severity: judge.Low, section: sectionRights, query: `SELECT format('%s (%s)', rolname, rolvaliduntil::date), format('ALTER ROLE %I NOLOGIN;', rolname) FROM pg_roles WHERE rolcanlogin AND rolvaliduntil < now() ORDER BY 1`},

	// CIS "Connection and Login": login via "local" UNIX domain socket and via "host" TCP/IP is configured correctly.
	{id: "login.trust", severity: judge.Critical, section: sectionLogin, query: lines("trusted"), after: reload},
	{id: "login.everywhere", severity: judge.High, section: sectionLogin, query: lines("everywhere"), after: reload},
	{id: "login.weak", severity: judge.High, section: sectionLogin, query: lines("weak"), after: reload},
	{id: "login.plain", severity: judge.Medium, section: sectionLogin, query: lines("plain"), after: reload},
	// CIS "Connection and Login": PostgreSQL is bound to an IP address; "PostgreSQL Settings": TLS is enabled and configured correctly.
	{id: "login.listen", severity: judge.Medium, section: sectionLogin, after: restart,
		query: `SELECT 'listen_addresses = ' || quote_literal(v), 'ALTER SYSTEM SET listen_addresses = ''localhost'';' FROM (SELECT current_setting('listen_addresses')) AS s(v)
			WHERE EXISTS (SELECT FROM unnest(string_to_array(v, ',')) a WHERE btrim(a, ' "') IN ('*', '0.0.0.0', '::'))`},
	{id: "login.ssl", severity: judge.High, section: sectionConf, after: reload,
		query: `SELECT 'ssl = ' || v || ', listen_addresses = ' || quote_literal(current_setting('listen_addresses')), 'ALTER SYSTEM SET ssl = ''on'';' FROM (SELECT current_setting('ssl')) AS s(v) WHERE v = 'off' AND ` + beyond,
		shell: `openssl req -new -x509 -days 3650 -nodes -subj /CN="$(hostname)" -keyout DATA/server.key -out DATA/server.crt && chmod 600 DATA/server.key`},
	{id: "login.tls", severity: judge.Medium, section: sectionConf, query: setting("ssl_min_protocol_version", `v IN ('', 'TLSv1', 'TLSv1.1') AND current_setting('ssl')::bool`, "TLSv1.2"), after: reload},
	// CIS "PostgreSQL Settings" and "Connection and Login": how passwords are kept.
	{id: "password.encryption", severity: judge.High, section: sectionLogin, query: setting("password_encryption", `v <> 'scram-sha-256'`, "scram-sha-256"), after: reload},
	{id: "password.md5", severity: judge.High, section: sectionLogin, query: `SELECT rolname::text, format('\password %I', rolname) FROM pg_authid WHERE rolpassword LIKE 'md5%' ORDER BY 1`},
	{id: "password.none", severity: judge.Low, section: sectionLogin, query: `SELECT rolname::text, format('\password %I', rolname) FROM pg_authid WHERE rolcanlogin AND rolpassword IS NULL AND oid <> 10 ORDER BY 1`},

	// CIS "Logging And Auditing": the log file permissions are set correctly; what is written of statements.
	{id: "log.file_mode", severity: judge.Medium, section: sectionLogging, query: setting("log_file_mode", `right(v, 1) <> '0'`, "0640"), after: reload},
	{id: "log.statement", severity: judge.Medium, section: sectionLogging, audited: true, query: setting("log_statement", `v <> 'none'`, "none"), after: reload},
	{id: "log.error_statement", severity: judge.Low, section: sectionLogging, query: setting("log_min_error_statement", `v IN ('log', 'fatal', 'panic')`, "error"), after: reload},

	// CIS "User Access and Authorization": excessive DML privileges are revoked; what everybody may, since everybody is PUBLIC.
	{id: "rights.public_schema", severity: judge.High, section: sectionRights, each: true,
		query: `SELECT 'CREATE on schema ' || n.nspname, format('REVOKE CREATE ON SCHEMA %I FROM PUBLIC;', n.nspname) FROM pg_namespace n, aclexplode(n.nspacl) a WHERE a.grantee = 0 AND a.privilege_type = 'CREATE' ORDER BY 1`},
	{id: "rights.public_tables", severity: judge.Medium, section: sectionRights, each: true,
		query: `SELECT string_agg(a.privilege_type, ', ' ORDER BY a.privilege_type) || ' on ' || c.oid::regclass, format('REVOKE %s ON %s FROM PUBLIC;', string_agg(a.privilege_type, ', ' ORDER BY a.privilege_type), c.oid::regclass)
			FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace, aclexplode(c.relacl) a
			WHERE a.grantee = 0 AND c.relkind IN ('r', 'p', 'v', 'f') AND a.privilege_type IN ('INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'TRIGGER') AND ` + own + ` AND NOT ` + ofExtension("pg_class", "c.oid") + ` GROUP BY c.oid ORDER BY 1`},
	{id: "rights.hashes", severity: judge.High, section: sectionRights, each: true,
		query: `SELECT DISTINCT format('%s: %s', CASE WHEN a.grantee = 0 THEN 'PUBLIC' ELSE pg_get_userbyid(a.grantee)::text END, c.relname), format('REVOKE ALL ON pg_catalog.%I FROM %s;', c.relname, ` + grantee + `)
			FROM pg_class c LEFT JOIN pg_attribute t ON t.attrelid = c.oid AND t.attname IN ('rolpassword', 'passwd', 'umoptions'), aclexplode(c.relacl || t.attacl) a
			WHERE c.oid IN ('pg_catalog.pg_authid'::regclass, 'pg_catalog.pg_shadow'::regclass, 'pg_catalog.pg_user_mapping'::regclass, 'pg_catalog.pg_largeobject'::regclass) AND ` + plainly + `
				AND NOT EXISTS (SELECT FROM pg_roles r WHERE r.oid = a.grantee AND r.rolname = current_setting('pgaudit.role', true) AND NOT r.rolcanlogin AND NOT EXISTS (SELECT FROM pg_auth_members m WHERE m.roleid = r.oid)) ORDER BY 1`},
	{id: "rights.server_functions", severity: judge.High, section: sectionRights, each: true,
		query: `SELECT format('%s: %s', CASE WHEN a.grantee = 0 THEN 'PUBLIC' ELSE pg_get_userbyid(a.grantee)::text END, p.oid::regprocedure), format('REVOKE EXECUTE ON FUNCTION %s FROM %s;', p.oid::regprocedure, ` + grantee + `)
			FROM pg_proc p, aclexplode(p.proacl) a WHERE p.pronamespace = 'pg_catalog'::regnamespace AND ` + plainly + ` AND p.proname IN ('pg_read_file', 'pg_read_binary_file', 'pg_ls_dir', 'pg_stat_file', 'lo_import', 'lo_export',
				'pg_file_write', 'pg_file_rename', 'pg_file_unlink', 'pg_file_sync', 'pg_logdir_ls', 'pg_rotate_logfile', 'pg_promote') ORDER BY 1`},
	{id: "rights.database_create", severity: judge.High, section: sectionRights,
		query: `SELECT d.datname::text, format('REVOKE CREATE ON DATABASE %I FROM PUBLIC;', d.datname) FROM pg_database d, aclexplode(d.datacl) a WHERE a.grantee = 0 AND a.privilege_type = 'CREATE' ORDER BY 1`},
	{id: "rights.database_connect", severity: judge.Low, section: sectionRights,
		query: `SELECT string_agg(a.privilege_type, ', ' ORDER BY a.privilege_type) || ' on ' || d.datname, format('REVOKE %s ON DATABASE %I FROM PUBLIC;', string_agg(a.privilege_type, ', ' ORDER BY a.privilege_type), d.datname)
			FROM pg_database d, aclexplode(coalesce(d.datacl, acldefault('d', d.datdba))) a WHERE a.grantee = 0 AND d.datallowconn AND a.privilege_type IN ('CONNECT', 'TEMPORARY') GROUP BY d.datname ORDER BY 1`},

	// CIS "User Access and Authorization": excessive function privileges are revoked. Code that runs with others' rights, or with the server's.
	{id: "code.definer", severity: judge.High, section: sectionRights, each: true,
		query: `SELECT p.oid::regprocedure::text || ' of ' || pg_get_userbyid(p.proowner), format('ALTER ROUTINE %s SET search_path = pg_catalog, %I, pg_temp;', p.oid::regprocedure, n.nspname)
			FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace WHERE p.prosecdef AND NOT EXISTS (SELECT FROM unnest(p.proconfig) c WHERE c LIKE 'search_path=%') AND ` + own + ` AND NOT ` + ofExtension("pg_proc", "p.oid") + ` ORDER BY 1`},
	{id: "code.untrusted", severity: judge.High, section: sectionRights, each: true,
		query: `SELECT l.lanname::text, coalesce((SELECT format('DROP EXTENSION %I;', x.extname) FROM pg_depend e JOIN pg_extension x ON x.oid = e.refobjid WHERE e.classid = 'pg_language'::regclass AND e.objid = l.oid AND e.deptype = 'e'),
				format('DROP LANGUAGE %I; DROP FUNCTION %s;', l.lanname, l.lanplcallfoid::regprocedure)) FROM pg_language l WHERE NOT l.lanpltrusted AND l.lanname NOT IN ('internal', 'c') ORDER BY 1`},
	{id: "code.library", severity: judge.High, section: sectionRights, each: true,
		query: `SELECT p.oid::regprocedure::text || ' from ' || p.probin, format('DROP ROUTINE %s;', p.oid::regprocedure) FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang
			WHERE l.lanname = 'c' AND p.oid >= 16384 AND NOT ` + ofExtension("pg_proc", "p.oid") + ` AND NOT EXISTS (SELECT FROM pg_language h WHERE p.oid IN (h.lanplcallfoid, h.laninline, h.lanvalidator)) ORDER BY 1`},
	{id: "code.extension", severity: judge.Medium, section: sectionSpecial, each: true,
		query: `SELECT extname::text, format('DROP EXTENSION %I;', extname) FROM pg_extension WHERE extname IN ('adminpack', 'dblink', 'file_fdw', 'pg_surgery', 'pageinspect', 'xml2', 'pltclu', 'system_stats') ORDER BY 1`},
	{id: "code.event_trigger", severity: judge.Medium, section: sectionSpecial, each: true,
		query: `SELECT format('%s runs %s', t.evtname, t.evtfoid::regprocedure), format('ALTER EVENT TRIGGER %I DISABLE;', t.evtname) FROM pg_event_trigger t WHERE t.evtenabled <> 'D' AND NOT ` + ofExtension("pg_event_trigger", "t.oid") + ` AND NOT ` + cover.OwnFunction("t.evtfoid") + ` ORDER BY 1`},
	{id: "code.preload", severity: judge.Medium, section: sectionConf, after: reload,
		query: `SELECT name || ' = ' || setting, CASE WHEN sourcefile LIKE '%postgresql.auto.conf' THEN format('ALTER SYSTEM RESET %s;', name) ELSE '' END, CASE WHEN sourcefile NOT LIKE '%postgresql.auto.conf' THEN sourcefile END, sourceline, '# ' || name
				FROM pg_settings WHERE name IN ('session_preload_libraries', 'local_preload_libraries') AND source NOT IN ('database', 'user', 'database user')
				AND EXISTS (SELECT FROM unnest(string_to_array(setting, ',')) l WHERE btrim(l, ' "') NOT IN ('', 'pgaudit', 'auto_explain', 'pg_stat_statements', '$libdir/auto_explain'))
			UNION ALL SELECT place || ': ' || name || ' = ' || value, mend, NULL, NULL, NULL FROM ` + set + ` WHERE name IN ('session_preload_libraries', 'local_preload_libraries') AND value NOT IN ('', '""', 'auto_explain')`},

	// CIS "PostgreSQL Settings": superuser, backend and postmaster parameters are configured correctly.
	{id: "conf.developer", severity: judge.High, section: sectionConf, after: reload,
		query: settings(setting("allow_system_table_mods", `v = 'on'`, "off"), setting("ignore_system_indexes", `v = 'on'`, "off"), setting("zero_damaged_pages", `v = 'on'`, "off"), setting("ignore_checksum_failure", `v = 'on'`, "off"))},
	{id: "conf.checksums", severity: judge.Medium, section: sectionSpecial, query: `SELECT 'data_checksums = ' || v, '' FROM (SELECT current_setting('data_checksums')) AS s(v) WHERE v <> 'on'`,
		shell: "BINpg_checksums --enable --pgdata DATA", down: true},
	// CIS "Directory and File Permissions", and "Logging And Auditing" for what lies in the data directory.
	{id: "file.data", severity: judge.Medium, section: sectionFiles, query: `SELECT current_setting('data_directory') || ': ' || v, '' FROM (SELECT current_setting('data_directory_mode')) AS s(v) WHERE right(v, 2) <> '00'`,
		shell: "chmod -R g-rwx,o-rwx DATA", after: restart},
}
