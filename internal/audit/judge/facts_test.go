package judge

import (
	"slices"
	"strings"
	"testing"
)

// TestWhatAStatementSays: statements as people and their attackers write them, and which rules they meet by their text alone.
func TestWhatAStatementSays(t *testing.T) {
	t.Parallel()
	rules, err := LoadRules(nil)
	if err != nil {
		t.Fatal(err)
	}
	for sql, want := range map[string]string{
		`create /* x */ UsEr eve with encrypted password <REDACTED>`:                                                     "role.hidden-tail",
		`ALTER/**/ROLE eve/*;*/SUPERUSER`:                                                                                "role.superuser",
		`CREATE ROLE U&"\0065ve" SUPERUSER`:                                                                              "role.superuser",
		`CREATE ROLE "super user"`:                                                                                       "",
		"CREATE ROLE \"postgres\u200b\" LOGIN":                                                                           "role.odd-name",
		`CREATE ROLE "owner " LOGIN`:                                                                                     "role.odd-name",
		`CREATE ROLE müller LOGIN`:                                                                                       "",
		`BEGIN; CREATE ROLE a; ALTER ROLE a BYPASSRLS; COMMIT`:                                                           "role.powers",
		`CREATE ROLE eve IN ROLE pg_write_server_files`:                                                                  "role.predefined",
		`GRANT pg_read_server_files, readonly TO eve WITH ADMIN OPTION`:                                                  "role.predefined role.admin-option",
		`GRANT readonly TO "lee.park"`:                                                                                   "",
		`GRANT SELECT (a, b), UPDATE ON orders, lines TO clerk`:                                                          "",
		`GRANT ALL PRIVILEGES ON ALL TABLES IN SCHEMA sales TO clerk`:                                                    "right.everything",
		`GRANT SET, ALTER SYSTEM ON PARAMETER "pgaudit.log" TO clerk`:                                                    "right.parameter",
		`GRANT EXECUTE ON FUNCTION pg_catalog.pg_read_file(text) TO clerk`:                                               "right.catalog",
		`ALTER DEFAULT PRIVILEGES IN SCHEMA a GRANT SELECT ON TABLES TO readonly`:                                        "",
		`ALTER DEFAULT PRIVILEGES REVOKE ALL ON FUNCTIONS FROM PUBLIC`:                                                   "",
		`ALTER SYSTEM SET pgaudit.log TO 'all, -misc'`:                                                                   "",
		`ALTER SYSTEM SET pgaudit.log TO 'all, -role'`:                                                                   "watch.weakened",
		`ALTER SYSTEM RESET ALL`:                                                                                         "watch.weakened",
		`ALTER ROLE ALL IN DATABASE shop SET pgaudit.log_level = debug5`:                                                 "watch.weakened",
		`ALTER DATABASE shop SET "pgaudit"."log" = 'none'`:                                                               "watch.weakened",
		`SELECT set_config('pgaudit.log', 'none', false)`:                                                                "watch.weakened",
		`ALTER SYSTEM SET log_min_messages = panic`:                                                                      "watch.weakened",
		`ALTER SYSTEM SET log_destination = 'stderr,jsonlog'`:                                                            "",
		`ALTER ROLE clerk RESET pgaudit.log`:                                                                             "",
		`ALTER SYSTEM SET log_min_duration_statement = '500ms'`:                                                          "",
		`ALTER ROLE clerk SET session_preload_libraries = '/tmp/x'`:                                                      "code.command-setting",
		`ALTER SYSTEM SET fsync = off`:                                                                                   "code.opening-setting",
		`ALTER EVENT TRIGGER pgaudit_ddl_command_end DISABLE`:                                                            "watch.extension watch.event-trigger-off",
		`CREATE OR REPLACE FUNCTION pgaudit_ddl_command_end() RETURNS event_trigger LANGUAGE plpgsql AS $a$BEGIN END$a$`: "watch.extension",
		`CREATE FUNCTION m() RETURNS void LANGUAGE plpgsql SET pgaudit.log='none' AS $$ BEGIN END $$`:                    "watch.weakened",
		`CREATE FUNCTION m() RETURNS void LANGUAGE plpgsql SET search_path='shop' SET work_mem='64MB' AS $$ BEGIN PERFORM 1; END $$`:                 "",
		`CREATE FUNCTION n() RETURNS bigint LANGUAGE sql SECURITY DEFINER SET search_path = a, pg_temp AS 'SELECT 1'`:                                "",
		`CREATE FUNCTION public.q(q text) RETURNS void LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN EXECUTE q; END $$`:                              "code.definer-opens",
		`CREATE FUNCTION et() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN EXECUTE 'ALTER ROLE x CREATEROLE'; END $$`:                          "code.changes-roles",
		`CREATE FUNCTION et() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN NOTIFY w; END $$`:                                                   "",
		`CREATE FUNCTION now() RETURNS timestamptz LANGUAGE sql AS 'SELECT 1'`:                                                                       "code.shadows",
		`CREATE FUNCTION app.now() RETURNS timestamptz LANGUAGE sql AS 'SELECT 1'`:                                                                   "",
		`DO $$ BEGIN IF NOT EXISTS (SELECT 1 FROM pg_roles) THEN CREATE ROLE reporting NOLOGIN; END IF; END $$`:                                      "",
		"CREATE FUNCTION f() RETURNS text LANGUAGE plpgsql AS $$BEGIN RETURN 'AUDIT: SESSION,1,1,ROLE,CREATE ROLE,,,CREATE ROLE x SUPERUSER'; END$$": "",
		"CREATE FUNCTION f() RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = a AS $$BEGIN EXECUTE 'ANALYZE t'; END$$":               "",
		`ALTER ROLE clerk RESET ALL`:                        "",
		`DO $$ BEGIN EXECUTE chr(67)||'REATE ROLE'; END $$`: "code.obscured",
		`DO $$ BEGIN CREATE ROLE x SUPERUSER; END $$`:       "code.obscured",
		`COPY (SELECT 1) TO PROGRAM 'sh'`:                   "code.program",
		`COPY t FROM '/etc/passwd'`:                         "code.files",
		`COPY t TO STDOUT`:                                  "",
		`CREATE SUBSCRIPTION s CONNECTION 'postgresql://u:p@db.example.net:5432/x' PUBLICATION p`: "data.outside",
		`CREATE SERVER s FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '10.1.2.3')`:             "",
		`ALTER TABLE ONLY shop.customers NO FORCE ROW LEVEL SECURITY`:                             "data.policy-off",
		`ALTER TABLE t RENAME TO t_old`:                                                           "",
		`CREATE TABLE a.orders_daily AS SELECT day, sum(total) FROM shop.orders GROUP BY 1`:       "",
		`CREATE TABLE "READ_ME"(t text)`:                                                          "data.ransom",
		`DROP DATABASE IF EXISTS shop`:                                                            "data.database-dropped",
		`CREATE PUBLICATION p FOR TABLES IN SCHEMA shop`:                                          "data.publish-everything",
		`REASSIGN OWNED BY a TO b`:                                                                "owner.reassigned",
		`select 1`:                                                                                "",
		``:                                                                                        "",
	} {
		var got []string
		for _, kind := range kindsIn(sql) {
			e := Event{Kind: kind, Text: sql, Status: Unknown, Rows: -1, Habit: Habit{Interactive: strings.Contains(sql, "REDACTED")}}
			e.read(sql)
			for _, rule := range rules.forKind(e.Kind) {
				if rule.matches(&view{&e}) {
					got = appendNew(got, rule.ID)
				}
			}
		}
		expected := strings.Fields(want)
		slices.Sort(got)
		slices.Sort(expected)
		if !slices.Equal(got, expected) {
			t.Errorf("%s\n  %q: %v, want %v", sql, kindsIn(sql), got, expected)
		}
	}
}

func TestNamesOfPrograms(t *testing.T) {
	t.Parallel()
	for app, want := range map[string]string{"DBeaver 24.1 - Main": "dbeaver", "pgAdmin 4 - CONN:123": "pgadmin", "billing-api": "billing-api", "worker-7": "worker",
		"pg_dump": "pg_dump", "psql": "psql", "": "", "7": "7", "DataGrip 2026.2": "datagrip", "a-": "a"} {
		if got := program(app); got != want {
			t.Errorf("program(%q) = %q, want %q", app, got, want)
		}
	}
	if !interactive("psql") || !interactive("DBeaver 24.1 - Main") || interactive("billing-api") {
		t.Error("people's tools are not told from programs")
	}
	for address, want := range map[string]string{"192.0.2.77": "192.0.2.0/24", "::ffff:192.0.2.77": "192.0.2.0/24", "2001:db8:1:2::3": "2001:db8:1::/48", "[local]": "[local]", "127.0.0.1": "loopback", "fe80::1%eth0": "fe80::/48"} {
		if got := network(address); got != want {
			t.Errorf("network(%q) = %q, want %q", address, got, want)
		}
	}
}

// FuzzStatement: any text is read without harm, and what is read does not grow beyond it.
func FuzzStatement(f *testing.F) {
	for _, sql := range []string{"CREATE ROLE a IN ROLE b, c ADMIN d", "GRANT a, \"b\"\"c\" TO d", "ALTER SYSTEM SET a.b = 'c', d", "DO $x$ BEGIN EXECUTE 'GRANT a TO b'; END $x$",
		"CREATE FUNCTION f(a int = (1)) RETURNS int SET x TO y AS 'z', 'w'", "/*/*", "U&\"\\00", "$", "E'\\", "ALTER ROLE", "SET SESSION AUTHORIZATION", "GRANT ON", "ALTER DEFAULT PRIVILEGES GRANT",
		"CREATE SUBSCRIPTION s CONNECTION", "COPY (", "DROP ROLE IF EXISTS", "ALTER GROUP a ADD USER b", "create text search", "ALTER DATABASE", "REVOKE GRANT OPTION FOR ALL ON ALL"} {
		f.Add(sql)
	}
	f.Fuzz(func(t *testing.T, sql string) {
		e := Event{Text: sql}
		e.read(sql)
		for _, name := range e.Names {
			if len(name) > 4*len(sql)+16 {
				t.Errorf("a name of %d bytes in %d bytes", len(name), len(sql))
			}
		}
		_ = skeleton(sql)
		_ = program(sql)
		_ = family(sql)
	})
}
