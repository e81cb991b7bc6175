package check

import (
	"strings"

	"howdah/internal/audit/cover"
	"howdah/internal/audit/judge"
)

const sectionWatch = "The watch"

// setting is a query for a setting that is not as it should be: bad is an expression over its value v, good the value that mends it. It asks with current_setting, which refuses where pg_settings
// leaves out what we may not see.
func setting(name, bad, good string) string {
	return `SELECT '` + name + ` = ' || CASE WHEN v = '' THEN '''''' ELSE v END, 'ALTER SYSTEM SET ` + name + ` = ''` + good + `'';' FROM (SELECT current_setting('` + name + `', true)) AS s(v) WHERE ` + bad
}

func settings(queries ...string) string { return strings.Join(queries, "\nUNION ALL\n") }

const off = `v IN ('off', '')`

// has says whether a list of pgAudit's classes, the expression value, has a class.
func has(value, class string) string {
	list := `(',' || replace(lower(` + value + `), ' ', '') || ',')`
	return `(` + list + ` ~ ',(all|` + class + `),' AND ` + list + ` !~ ',-` + class + `,')`
}

// classes is a query for classes that pgaudit.log lacks.
func classes(want ...string) string {
	var lacks, missing []string
	for _, class := range want {
		lacks = append(lacks, "NOT "+has("v", class))
		missing = append(missing, "CASE WHEN NOT "+has("v", class)+" THEN '"+class+"' END")
	}
	return `SELECT 'pgaudit.log = ' || quote_literal(v), format('ALTER SYSTEM SET pgaudit.log = %L;',
		concat_ws(', ', nullif(nullif(regexp_replace(v, ',? *-(role|ddl|misc_set)', '', 'g'), 'none'), ''), ` + strings.Join(missing, ", ") + `))
		FROM (SELECT current_setting('pgaudit.log', true)) AS s(v) WHERE ` + strings.Join(lacks, " OR ")
}

// set gives what ALTER ROLE and ALTER DATABASE have set: its name, value, where, and the statement that takes it back.
const set = `(SELECT lower(split_part(c, '=', 1)) AS name, lower(substr(c, strpos(c, '=') + 1)) AS value, concat_ws(' in ', coalesce(r.rolname, 'all roles'), d.datname) AS place,
	format('ALTER %s RESET %s;', CASE WHEN s.setrole <> 0 AND s.setdatabase <> 0 THEN format('ROLE %I IN DATABASE %I', r.rolname, d.datname) WHEN s.setdatabase <> 0 THEN format('DATABASE %I', d.datname)
		WHEN s.setrole <> 0 THEN format('ROLE %I', r.rolname) ELSE 'ROLE ALL' END, split_part(c, '=', 1)) AS mend
	FROM pg_db_role_setting s LEFT JOIN pg_roles r ON r.oid = s.setrole LEFT JOIN pg_database d ON d.oid = s.setdatabase, unnest(s.setconfig) c) AS o`

// watch is what the watch needs: without it, what is done is not written down, or not so that it can be believed.
var watch = []check{
	// CIS "Logging And Auditing": the PostgreSQL Audit Extension (pgAudit) is enabled.
	{id: "watch.pgaudit", severity: judge.Critical, section: sectionWatch, after: restart,
		query: `SELECT 'shared_preload_libraries = ' || quote_literal(v), CASE WHEN v ~ '(^|[ ,/"])pgaudit([ ,"]|$)' THEN '' ELSE format('ALTER SYSTEM SET shared_preload_libraries = %s;',
			(SELECT string_agg(quote_literal(btrim(l, ' "')), ', ' ORDER BY n) FROM unnest(string_to_array(v, ',') || 'pgaudit'::text) WITH ORDINALITY AS u(l, n) WHERE btrim(l, ' "') <> '')) END
			FROM (SELECT current_setting('shared_preload_libraries')) AS s(v) WHERE NOT EXISTS (SELECT FROM pg_settings WHERE name = 'pgaudit.log')`},
	{id: "watch.statements", severity: judge.High, section: sectionWatch, plain: true, query: setting("log_statement", `v = 'none'`, "ddl"), after: reload},
	{id: "watch.triggers", severity: judge.High, section: sectionWatch, plain: true, watched: true, each: true, query: cover.Amiss},
	{id: "watch.pgaudit_log", severity: judge.Critical, section: sectionWatch, audited: true, query: classes("role", "ddl"), after: reload},
	{id: "watch.pgaudit_more", severity: judge.Low, section: sectionWatch, wide: true, audited: true, query: classes("misc_set") + " AND " + has("v", "role") + " AND " + has("v", "ddl"), after: reload},
	// How records are written: elsewhere than in the log, or without their statement, they are of no use.
	{id: "watch.pgaudit_form", severity: judge.High, section: sectionWatch, audited: true, after: reload,
		query: settings(setting("pgaudit.log_level", `v <> 'log'`, "log"), setting("pgaudit.log_statement", off, "on"), setting("pgaudit.log_client", `v = 'on'`, "off"))},
	{id: "watch.hashes", severity: judge.Medium, section: sectionWatch, wide: true, audited: true, after: reload,
		query: `SELECT 'pgaudit.role = ' || quote_literal(v), concat_ws(' ', CASE WHEN NOT EXISTS (SELECT FROM pg_roles WHERE rolname = r) THEN format('CREATE ROLE %I NOLOGIN;', r) END, CASE WHEN v = '' THEN format('ALTER SYSTEM SET pgaudit.role = %L;', r) END)
			FROM (SELECT v, coalesce(nullif(v, ''), 'howdah_auditor') FROM (SELECT current_setting('pgaudit.role', true)) AS s(v)) AS s(v, r) WHERE v = '' OR NOT EXISTS (SELECT FROM pg_roles WHERE rolname = r)`},
	// The rights on shared catalogs, too, are a database's own.
	{id: "watch.hash_rights", severity: judge.Medium, section: sectionWatch, wide: true, audited: true, each: true,
		query: `SELECT r || ': SELECT (rolpassword) on pg_authid', format('GRANT SELECT (rolpassword), INSERT, UPDATE, DELETE ON pg_catalog.pg_authid TO %1$I; GRANT INSERT, UPDATE, DELETE ON pg_catalog.pg_auth_members TO %1$I;', r)
			FROM (SELECT current_setting('pgaudit.role', true)) AS s(r) WHERE CASE WHEN EXISTS (SELECT FROM pg_roles WHERE rolname = r) THEN NOT has_column_privilege(r, 'pg_catalog.pg_authid', 'rolpassword', 'SELECT') END`},
	{id: "watch.overridden", severity: judge.High, section: sectionWatch,
		query: `SELECT place || ': ' || name || ' = ' || value, mend FROM ` + set + ` WHERE name = 'pgaudit.log' AND NOT (` + has("value", "role") + ` AND ` + has("value", "ddl") + `)
			OR name = 'pgaudit.log_level' AND value <> 'log' OR name = 'pgaudit.log_statement' AND value IN ('off', 'false', 'no', '0') OR name = 'pgaudit.role' AND value IS DISTINCT FROM current_setting('pgaudit.role', true)
			OR name = 'log_min_messages' AND value IN ('fatal', 'panic') OR name IN ('log_connections', 'log_disconnections') AND value IN ('off', 'false', 'no', '0', '')
			OR name = 'log_error_verbosity' AND value = 'terse'`},
	// CIS "Logging And Auditing": the log destinations are set correctly; the logging collector is enabled.
	{id: "watch.collector", severity: judge.Critical, section: sectionWatch, query: setting("logging_collector", off, "on"), after: restart},
	{id: "watch.destination", severity: judge.Critical, section: sectionWatch, query: setting("log_destination", `v !~ '(^|[, ])jsonlog([, ]|$)'`, "jsonlog"), after: reload},
	// CIS "Logging And Auditing": the correct messages are written to the server log.
	{id: "watch.messages", severity: judge.Critical, section: sectionWatch, query: setting("log_min_messages", `v IN ('fatal', 'panic')`, "warning"), after: reload},
	{id: "watch.connections", severity: judge.High, section: sectionWatch, wide: true, after: reload,
		query: settings(setting("log_connections", `v = 'off' OR v !~ '(on|all|authorization|true|yes|1)'`, "on"), setting("log_disconnections", off, "on"))},
	// Whether a record is real is told by what PostgreSQL says beside it (context): without that, RAISE LOG forges one.
	{id: "watch.verbosity", severity: judge.High, section: sectionWatch, query: setting("log_error_verbosity", `v = 'terse'`, "default"), after: reload},
	{id: "watch.commit_time", severity: judge.Medium, section: sectionWatch, query: setting("track_commit_timestamp", off, "on"), after: restart},
	// CIS "Logging And Auditing": 'log_timezone' is set correctly.
	{id: "watch.timezone", severity: judge.Medium, section: sectionWatch, query: setting("log_timezone", `v NOT IN ('UTC', 'Etc/UTC', 'GMT', 'Etc/GMT', 'UCT', 'Etc/UCT', 'Universal', 'Zulu')`, "UTC"), after: reload},
	{id: "watch.language", severity: judge.Medium, section: sectionWatch, query: setting("lc_messages", `v !~* '^(C|POSIX|en[_.-].*|en)$' AND v !~ '^C\.' AND v <> '' AND v !~* '^english'`, "C"), after: reload},
}
