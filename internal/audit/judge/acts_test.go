package judge

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"howdah/internal/audit"
)

// deed is one session: who, with what, from where, at what hour, and what pgAudit records of it.
type deed struct {
	who, app, from string
	hour           int
	alarm          bool
	sql            []string
}

// TestOtherActs: acts and harmless look-alikes that are in no scenario, put to a judge that knows the shop's first week.
func TestOtherActs(t *testing.T) {
	t.Parallel()
	rules := ours(t)
	saved := firstWeek(t, rules)
	const office, away, deploy, app = "10.20.30.4", "198.51.100.77", "10.20.20.7", "10.20.10.3"
	for n, d := range []deed{
		{"dba_anna", "psql", office, 2, true, []string{"ALTER ROLE analyst_kim VALID UNTIL 'infinity'"}},
		{"iam_sync", "iam-sync", "10.20.20.9", 8, false, []string{"ALTER ROLE analyst_kim VALID UNTIL '2027-01-01'"}},
		{"dba_anna", "psql", office, 14, true, []string{"ALTER ROLE readonly LOGIN PASSWORD <REDACTED>"}},
		{"dba_anna", "psql", office, 14, true, []string{"GRANT pg_execute_server_program TO app_rw"}},
		{"dba_bob", "psql", "10.20.30.5", 14, false, []string{"GRANT readonly TO etl"}},
		{"dba_anna", "psql", office, 14, true, []string{"CREATE ROLE standby9 REPLICATION LOGIN"}},
		{"dba_anna", "psql", office, 14, true, []string{"GRANT ALL ON ALL TABLES IN SCHEMA shop TO PUBLIC"}},
		{"migrator", "flyway", deploy, 14, false, []string{"GRANT SELECT, INSERT ON shop.feature_90 TO app_rw"}},
		{"dba_anna", "psql", office, 14, true, []string{"ALTER TABLE shop.payments OWNER TO analyst_kim"}},
		{"migrator", "flyway", deploy, 14, false, []string{"ALTER TABLE shop.payments OWNER TO app_owner"}},
		{"dba_anna", "psql", office, 3, true, []string{"ALTER DATABASE shop SET pgaudit.log = ''"}},
		{"dba_anna", "psql", office, 15, false, []string{"ALTER DATABASE shop SET work_mem = '8MB'"}},
		{"dba_anna", "psql", office, 15, true, []string{"ALTER SYSTEM SET log_min_messages = 'fatal'"}},
		{"dba_anna", "psql", office, 15, true, []string{"ALTER SYSTEM SET shared_preload_libraries = 'pg_stat_statements'"}},
		{"dba_anna", "psql", office, 15, true, []string{"CREATE FUNCTION f(int) RETURNS int AS '/tmp/x.so' LANGUAGE C"}},
		{"app_rw", "shop-api", app, 11, true, []string{"CREATE TABLE shop.x(t text)"}},
		{"app_rw", "shop-api", app, 11, true, []string{"ALTER ROLE app_rw SET statement_timeout = 0"}},
		{"app_rw", "shop-api", app, 11, false, []string{"CREATE TEMP TABLE basket(id int)"}},
		{"app_rw", "shop-api", "10.20.10.99", 11, false, nil},
		{"app_rw", "shop-api", "10.20.30.8", 11, true, nil},
		{"app_rw", "pgAdmin 4 - CONN:1", app, 11, true, nil},
		{"migrator", "flyway", office, 14, true, []string{"ALTER TABLE shop.orders ADD COLUMN z int"}},
		{"analyst_kim", "DBeaver 25.0 - Main", "10.20.30.8", 10, false, []string{"CREATE TEMP TABLE y AS SELECT * FROM shop.orders LIMIT 3"}},
		{"analyst_kim", "DBeaver 25.0 - Main", away, 23, true, nil},
		{"dba_anna", "psql", office, 3, true, []string{"CREATE TRIGGER t AFTER INSERT ON shop.payments FOR EACH ROW EXECUTE FUNCTION shop.keep()"}},
		{"migrator", "flyway", deploy, 14, false, []string{"CREATE TRIGGER t AFTER INSERT ON shop.payments FOR EACH ROW EXECUTE FUNCTION shop.keep()"}},
		{"dba_anna", "psql", office, 3, true, []string{"DROP SCHEMA shop CASCADE"}},
		{"dba_anna", "psql", office, 15, true, []string{"ALTER TABLE shop.a RENAME TO b1", "ALTER TABLE shop.c RENAME TO b2", "ALTER TABLE shop.d RENAME TO b3"}},
		{"migrator", "flyway", deploy, 14, false, []string{"ALTER TABLE shop.a RENAME TO b1", "ALTER TABLE shop.c RENAME TO b2", "ALTER TABLE shop.d RENAME TO b3"}},
		{"dba_anna", "psql", office, 15, true, []string{"CREATE SUBSCRIPTION s CONNECTION 'host=198.51.100.3 dbname=x' PUBLICATION p"}},
		{"dba_anna", "psql", office, 15, true, []string{"ALTER DATABASE shop CONNECTION LIMIT 0"}},
		{"dba_anna", "psql", office, 15, true, []string{"ALTER ROLE app_rw RENAME TO app_rw_old"}},
		{"dba_anna", "psql", office, 15, false, []string{"CREATE INDEX CONCURRENTLY ix ON shop.orders(total)", "DROP INDEX CONCURRENTLY ix"}},
		{"dba_anna", "psql", office, 15, false, []string{"ALTER ROLE app_rw CONNECTION LIMIT 70"}},
		{"dba_anna", "ansible", "10.20.20.2", 15, false, []string{"ALTER SYSTEM SET checkpoint_timeout = '10min'"}},
		{"ci", "ci-runner", "10.20.20.6", 15, false, []string{"CREATE DATABASE ci_901", "DROP DATABASE ci_901"}},
		{"dba_anna", "psql", office, 15, true, []string{"DROP DATABASE shop"}},
		{"vault", "vault", "10.20.20.8", 3, false, []string{`CREATE ROLE "v-token-x-1" WITH LOGIN PASSWORD <REDACTED>`, `GRANT readonly TO "v-token-x-1"`, `DROP ROLE IF EXISTS "v-token-x-1"`}},
		{"dba_anna", "psql", office, 15, false, []string{"CREATE TABLE scratch.payments(i int)", "DROP TABLE scratch.payments CASCADE"}},
		{"dba_anna", "psql", office, 15, true, []string{"CREATE TABLE scratch.payments(i int)", "DROP TABLE shop.payments CASCADE"}},
		{"vault", "vault", "10.20.20.8", 3, true, []string{`GRANT dba_anna TO "v-token-report-00001"`}},
	} {
		j := New(rules, Options{})
		if err := j.Load(bytes.NewReader(saved)); err != nil {
			t.Fatal(err)
		}
		at := time.Date(2026, 9, 8, d.hour, 7, 0, 0, time.UTC)
		line := audit.Line{Time: at, SessionStart: at, User: d.who, DB: "shop", App: d.app, RemoteHost: d.from, SessionID: fmt.Sprint("deed.", n), BackendType: "client backend", Severity: "LOG"}
		say := func(message string, record *audit.Record) (loud []string) {
			line.LineNum++
			line.Message, line.Audit = message, record
			for _, v := range j.Line(&line) {
				if v.Severity.Alarms() {
					loud = appendNew(loud, v.Rule)
				}
			}
			return loud
		}
		loud := say("connection authorized: user="+d.who+" database=shop application_name="+d.app, nil)
		for i, sql := range d.sql {
			kind := kindsIn(sql)[0]
			class := "DDL"
			if strings.Contains(kind, "role") || strings.HasPrefix(kind, "grant") || strings.HasPrefix(kind, "alter default") {
				class = "ROLE"
			}
			loud = append(loud, say("AUDIT: ...", &audit.Record{Type: "SESSION", StatementID: int64(i + 1), SubstatementID: 1, Class: class, Command: strings.ToUpper(kind), Statement: sql, Rows: -1})...)
		}
		if (len(loud) > 0) != d.alarm {
			t.Errorf("%s with %s from %s at %d: %v: alarms %v, want %v", d.who, d.app, d.from, d.hour, d.sql, loud, d.alarm)
		}
		if slices.Contains(loud, "watch.gap") {
			t.Errorf("%v: a hole where none is", d.sql)
		}
	}
}
