package judge_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"howdah/internal/audit/audittest"
)

// The shop of the hold-out: a clinic's bookings in Taipei, on one PostgreSQL with five databases. Django migrated by Alembic, Rails that migrates as its own
// role, Flyway over JDBC, Sqitch (which is psql in CI), Terraform and Vault for roles, Airflow, Metabase, Debezium, pods whose addresses change.

const audited = "GRANT SELECT (rolpassword), UPDATE, INSERT, DELETE ON pg_authid TO audited; GRANT UPDATE, INSERT, DELETE ON pg_auth_members TO audited"

var shopSetup = map[string][]string{
	"postgres": {
		"CREATE ROLE hsu LOGIN SUPERUSER PASSWORD 'secret'", "CREATE ROLE booking_owner", "CREATE ROLE readonly", "CREATE ROLE deploy LOGIN PASSWORD 'secret'",
		`CREATE ROLE "wei.lin" LOGIN PASSWORD 'secret'`, `GRANT booking_owner TO deploy, "wei.lin"`, "CREATE ROLE nadia LOGIN PASSWORD 'secret'", "GRANT readonly TO nadia",
		"CREATE ROLE tf_admin LOGIN CREATEROLE CREATEDB PASSWORD 'secret'", "CREATE ROLE vaultadmin LOGIN CREATEROLE PASSWORD 'secret'", "CREATE ROLE web LOGIN PASSWORD 'secret'",
		"CREATE ROLE worker LOGIN PASSWORD 'secret'", "CREATE ROLE hr LOGIN PASSWORD 'secret'", "CREATE ROLE metabase LOGIN PASSWORD 'secret'", "GRANT readonly TO metabase",
		"CREATE ROLE grafana LOGIN PASSWORD 'secret'", "GRANT pg_monitor TO grafana", "CREATE ROLE replicator LOGIN REPLICATION PASSWORD 'secret'",
		"CREATE ROLE debezium LOGIN REPLICATION PASSWORD 'secret'", "CREATE ROLE airflow LOGIN PASSWORD 'secret'", "CREATE ROLE archiver LOGIN PASSWORD 'secret'", "GRANT pg_read_all_data TO archiver",
		"CREATE ROLE maint LOGIN PASSWORD 'secret'", "GRANT booking_owner TO maint", "CREATE ROLE ci LOGIN CREATEDB PASSWORD 'secret'", "CREATE ROLE billing_migrator LOGIN PASSWORD 'secret'",
		"CREATE ROLE billing_api LOGIN PASSWORD 'secret'", "CREATE ROLE wh_deploy LOGIN PASSWORD 'secret'", "CREATE ROLE old_contractor NOLOGIN PASSWORD 'secret'",
		"ALTER ROLE postgres PASSWORD 'secret'", "CREATE ROLE audited", audited,
		"CREATE DATABASE booking", "CREATE DATABASE hr OWNER hr", "CREATE DATABASE billing OWNER billing_migrator", "CREATE DATABASE warehouse OWNER wh_deploy",
		"ALTER DATABASE booking SET pgaudit.log = 'role, ddl, misc_set, write'", "ALTER DATABASE hr SET pgaudit.log = 'role, ddl, misc_set, write'",
		"ALTER DATABASE billing SET pgaudit.log = 'role, ddl, misc_set, write'", "ALTER DATABASE warehouse SET pgaudit.log = 'role, ddl, misc_set, write'",
		"ALTER ROLE web SET pgaudit.log = 'role, ddl, misc_set'", "ALTER ROLE worker SET pgaudit.log = 'role, ddl, misc_set'", "ALTER ROLE hr SET pgaudit.log = 'role, ddl, misc_set'",
		"ALTER ROLE billing_api SET pgaudit.log = 'role, ddl, misc_set'", "ALTER SYSTEM SET pgaudit.role = 'audited'", "SELECT pg_reload_conf()",
	},
	"booking": {
		audited,
		"GRANT CREATE ON DATABASE booking TO deploy, booking_owner", "ALTER SCHEMA public OWNER TO booking_owner", "CREATE EXTENSION postgres_fdw",
		"CREATE SERVER warehouse_srv FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '10.44.0.2', dbname 'warehouse')", "CREATE SCHEMA nadia AUTHORIZATION nadia",
		"CREATE FUNCTION no_drop() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN RAISE DEBUG 'dropped'; END $$", "CREATE EVENT TRIGGER no_drop ON sql_drop EXECUTE FUNCTION no_drop()",
		"SET ROLE booking_owner", "CREATE TABLE tenants (id int PRIMARY KEY, name text UNIQUE)", "INSERT INTO tenants VALUES (7, 'again')",
		"CREATE TABLE patients (id int PRIMARY KEY, tenant_id int, name text)", "INSERT INTO patients SELECT g, g % 20, 'p' || g FROM generate_series(1, 4000) g",
		"CREATE TABLE slots (id int PRIMARY KEY, day date)", "CREATE TABLE appointments (id int PRIMARY KEY, tenant_id int, slot_id int, patient_id int, note text, updated_at timestamptz)",
		"INSERT INTO appointments SELECT g, g % 20, g, g, CASE WHEN g % 9 > 0 THEN 'n' END FROM generate_series(1, 3000) g", "CREATE INDEX appointments_slot ON appointments (slot_id)",
		"CREATE INDEX appointments_patient ON appointments (patient_id)", "CREATE TABLE payments (id int PRIMARY KEY, amount numeric, paid bool, iban text)",
		"INSERT INTO payments SELECT g, g, true, 'x' FROM generate_series(1, 2000) g", "CREATE TABLE invoices (id int PRIMARY KEY, tenant_id int, total numeric)",
		"CREATE TABLE auth_user (id int PRIMARY KEY, email text, password text, updated_at timestamptz)", "INSERT INTO auth_user SELECT g, 'u' || g, 'h' FROM generate_series(1, 300) g",
		"CREATE TABLE audit_log (at timestamptz, who text, what text)", "INSERT INTO audit_log SELECT now(), 'wei.lin', 'x' FROM generate_series(1, 50)", "CREATE TABLE legacy_slots (id int)",
		"CREATE TABLE sessions (id int, expires timestamptz)", "CREATE TABLE alembic_version (version_num text)", "INSERT INTO alembic_version VALUES ('0')",
		"CREATE TABLE events (at date, what text) PARTITION BY RANGE (at)", "CREATE TABLE events_202601 PARTITION OF events FOR VALUES FROM ('2026-01-01') TO ('2026-02-01')",
		"CREATE TABLE events_202703 PARTITION OF events FOR VALUES FROM ('2027-03-01') TO ('2027-04-01')", "CREATE FUNCTION slots_free(date) RETURNS bigint LANGUAGE sql AS 'SELECT count(*) FROM slots WHERE day = $1'",
		"CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.updated_at := now(); RETURN NEW; END $$", "CREATE TRIGGER touch BEFORE UPDATE ON appointments FOR EACH ROW EXECUTE FUNCTION touch()",
		"ALTER TABLE patients ENABLE ROW LEVEL SECURITY", "ALTER TABLE patients FORCE ROW LEVEL SECURITY", "CREATE POLICY by_tenant ON patients USING (true)",
		"CREATE VIEW v_today AS SELECT * FROM slots WHERE day = current_date", "GRANT SELECT ON appointments, slots, v_today TO readonly", "GRANT ALL ON ALL TABLES IN SCHEMA public TO web, worker",
	},
	"hr":        {"CREATE TABLE schema_migrations (version text)", "ALTER TABLE schema_migrations OWNER TO hr", "ALTER SCHEMA public OWNER TO hr", "CREATE TABLE staff (id int, name text)", "ALTER TABLE staff OWNER TO hr"},
	"billing":   {"ALTER SCHEMA public OWNER TO billing_migrator", "SET ROLE billing_migrator", "CREATE TABLE bills (id int, total int)", "GRANT ALL ON bills TO billing_api"},
	"warehouse": {"CREATE SCHEMA stage AUTHORIZATION airflow", "CREATE SCHEMA mart AUTHORIZATION airflow", "GRANT CREATE ON DATABASE warehouse TO airflow", "SET ROLE airflow", "CREATE TABLE stage.orders (id int, total int)", "CREATE TABLE mart.sales (id int, total int)"},
}

// step is something that is done at a moment.
type step struct {
	At    time.Time
	Who   *visit
	Do    string // "" opens the session
	Close bool
}

// visit is a session that is played.
type visit struct {
	audittest.Act
	Label string // instance of an attack or a twin
	Look  bool   // the catalogs are read behind it

	session *audittest.Session
	steps   []step
	began   []time.Time // when each step began, in truth
	closed  bool
}

// shop plans its days.
type shop struct {
	*rand.Rand
	visits []*visit
	steps  []step
}

func (s *shop) between(low, high int) int { return low + s.IntN(high-low+1) }

// visit plans a session: statements follow each other after pace.
func (s *shop) visit(at time.Time, pace time.Duration, a audittest.Act) *visit {
	if a.DB == "" {
		a.DB = "booking"
	}
	v := &visit{Act: a, Look: true}
	for range max(a.Repeat-1, 0) {
		once := a
		once.Repeat = 0
		s.visit(at, pace, once)
		at = at.Add(2 * time.Second)
	}
	s.visits = append(s.visits, v)
	s.steps = append(s.steps, step{At: at, Who: v})
	for _, sql := range a.SQL {
		wait := time.Duration(float64(pace) * (0.5 + s.Float64()))
		at = at.Add(wait + 5*time.Millisecond)
		s.steps = append(s.steps, step{At: at, Who: v, Do: sql})
	}
	s.steps = append(s.steps, step{At: at.Add(pace/2 + 5*time.Millisecond), Who: v, Close: true})
	return v
}

// sorted are the steps in their order.
func (s *shop) sorted() []step {
	slices.SortStableFunc(s.steps, func(a, b step) int { return a.At.Compare(b.At) })
	return s.steps
}

var jdbc = []string{"SET extra_float_digits = 3", "SET application_name = 'PostgreSQL JDBC Driver'"}

func (s *shop) pod() string { return fmt.Sprintf("10.42.%d.%d", s.between(1, 30), s.between(2, 250)) }
func (s *shop) ci() string  { return fmt.Sprintf("10.43.0.%d", s.between(4, 60)) }

// day plans an ordinary day. Working days are those of people; the machines have no Sunday.
func (s *shop) day(day time.Time, n int, working bool) {
	at := func(hour, minute int) time.Time {
		return day.Add(time.Duration(hour)*time.Hour + time.Duration(minute)*time.Minute + time.Duration(s.IntN(60000))*time.Millisecond)
	}
	quiet := func(v *visit) { v.Look = false }
	if n == 1 {
		quiet(s.visit(day.Add(time.Second), time.Second, audittest.Act{As: "grafana", App: "postgres_exporter", From: "10.44.0.20", DB: "postgres", SQL: []string{"SELECT 1"}}))
	}
	for range 14 {
		quiet(s.visit(at(s.IntN(24), s.IntN(60)), 40*time.Minute, audittest.Act{As: "web", From: s.pod(), SQL: []string{"SET TIME ZONE 'UTC'", "SELECT 1", "UPDATE appointments SET note = 'x' WHERE id = 5"}}))
		quiet(s.visit(at(s.IntN(24), s.IntN(60)), 10*time.Minute, audittest.Act{As: "worker", From: s.pod(), SQL: []string{"SET TIME ZONE 'UTC'", "INSERT INTO sessions VALUES (1, now())", "DELETE FROM sessions WHERE expires < now() - '1 day'::interval"}}))
	}
	for range 6 {
		quiet(s.visit(at(s.IntN(24), s.IntN(60)), 30*time.Minute, audittest.Act{As: "hr", App: "puma: cluster worker " + fmt.Sprint(s.IntN(3)) + ": 1 [hr]", From: s.pod(), DB: "hr", SQL: []string{"SET client_min_messages TO 'warning'", "SET standard_conforming_strings = on", "SET SESSION timezone TO 'UTC'", "SELECT 1"}}))
		quiet(s.visit(at(s.IntN(24), s.IntN(60)), 30*time.Minute, audittest.Act{As: "billing_api", From: s.pod(), DB: "billing", SQL: append(slices.Clone(jdbc), "INSERT INTO bills VALUES (1, 2)")}))
	}
	for h := range 24 {
		quiet(s.visit(at(h, 30), time.Second, audittest.Act{As: "grafana", App: "postgres_exporter", From: "10.44.0.20", DB: "postgres", SQL: []string{"SELECT count(*) FROM pg_stat_activity"}}))
		quiet(s.visit(at(h, 10), 2*time.Second, audittest.Act{As: "airflow", From: fmt.Sprintf("10.42.9.%d", s.between(20, 29)), DB: "warehouse", SQL: []string{"TRUNCATE stage.orders", "INSERT INTO stage.orders SELECT g, g FROM generate_series(1, 200) g",
			"DROP TABLE IF EXISTS mart.sales_new", "CREATE TABLE mart.sales_new AS SELECT * FROM stage.orders", "BEGIN", "ALTER TABLE mart.sales RENAME TO sales_old", "ALTER TABLE mart.sales_new RENAME TO sales", "DROP TABLE mart.sales_old", "COMMIT"}}))
	}
	for h := 1; h < 24; h += 6 {
		name := fmt.Sprintf(`"v-kubernetes-booking-ro-%x"`, s.Uint64())
		s.visit(at(h, 5), 100*time.Millisecond, audittest.Act{As: "vaultadmin", From: "10.44.0.11", DB: "postgres", SQL: []string{"CREATE ROLE " + name + " WITH LOGIN PASSWORD 'secret' VALID UNTIL '2030-01-01 00:00:00+00'", "GRANT readonly TO " + name}})
		quiet(s.visit(at(h, 7), 10*time.Minute, audittest.Act{As: name[1 : len(name)-1], From: s.pod(), SQL: []string{"SELECT count(*) FROM appointments"}}))
		s.visit(at(h+1, 10), 100*time.Millisecond, audittest.Act{As: "vaultadmin", From: "10.44.0.11", DB: "postgres", SQL: []string{"REVOKE readonly FROM " + name, "DROP ROLE IF EXISTS " + name}})
	}
	for range s.between(3, 6) {
		metabase := audittest.Act{As: "metabase", App: "Metabase v0.57.2 [a1b2]", From: "10.42.8.4", SQL: append(slices.Clone(jdbc[:1]), "SELECT count(*) FROM appointments")}
		if s.IntN(8) == 0 {
			metabase.SQL = append(metabase.SQL, "SELECT * FROM payments LIMIT 10")
		}
		quiet(s.visit(at(s.between(0, 11), s.IntN(60)), time.Minute, metabase))
	}
	quiet(s.visit(at(0, 20), 5*time.Hour, audittest.Act{As: "debezium", App: "Debezium Streaming", From: "10.42.7.3", Replication: true, SQL: []string{"IDENTIFY_SYSTEM", "IDENTIFY_SYSTEM"}}))
	quiet(s.visit(at(0, 25), 5*time.Hour, audittest.Act{As: "replicator", App: "standby1", From: "10.44.0.5", Replication: true, SQL: []string{"IDENTIFY_SYSTEM"}}))
	for _, db := range []string{"booking", "hr", "billing"} {
		quiet(s.visit(at(18, 0), 3*time.Second, audittest.Act{As: "archiver", App: "pg_dump", From: "10.44.0.9", DB: db, SQL: []string{"SELECT pg_catalog.set_config('search_path', '', false)", "SET DATESTYLE = ISO", "SET extra_float_digits TO 3", "SET statement_timeout = 0", "SET row_security = off", "BEGIN", "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY", "COMMIT"}}))
	}
	partitions := []string{fmt.Sprintf("CREATE TABLE events_d%d PARTITION OF events FOR VALUES FROM ('2028-%02d-01') TO ('2028-%02d-02')", n, n%12+1, n%12+1)}
	if n > 2 {
		partitions = append(partitions, fmt.Sprintf("ALTER TABLE events DETACH PARTITION events_d%d", n-2), fmt.Sprintf("DROP TABLE events_d%d", n-2))
	}
	s.visit(at(18, 30), time.Second, audittest.Act{As: "maint", App: "partition-maker", From: "10.44.0.30", SQL: partitions})
	quiet(s.visit(at(19, 0), time.Second, audittest.Act{As: "postgres", App: "psql", From: "[local]", SQL: []string{"VACUUM ANALYZE slots", "VACUUM ANALYZE appointments"}}))
	if !working {
		return
	}
	for i := range s.between(3, 6) {
		db := fmt.Sprintf("test_booking_%d_%d", n, i)
		s.visit(at(s.between(1, 9), s.IntN(60)), 2*time.Second, audittest.Act{As: "ci", From: s.ci(), DB: "postgres", SQL: []string{"CREATE DATABASE " + db, "DROP DATABASE " + db}})
	}
	alembic := []string{"BEGIN", "SET ROLE booking_owner"}
	for i := range s.between(1, 2) {
		k := fmt.Sprintf("%d_%d", n, i)
		change := [][]string{
			{"CREATE TABLE feature_" + k + " (id serial PRIMARY KEY, tenant_id int)", "CREATE INDEX ON feature_" + k + " (tenant_id)", "GRANT SELECT, INSERT, UPDATE, DELETE ON feature_" + k + " TO web, worker"},
			{"ALTER TABLE slots ADD COLUMN c_" + k + " int", "UPDATE slots SET c_" + k + " = 0", "ALTER TABLE slots ALTER COLUMN c_" + k + " SET DEFAULT 0"},
			{"CREATE TYPE kind_" + k + " AS ENUM ('a', 'b')", "CREATE OR REPLACE VIEW v_today AS SELECT id, day FROM slots WHERE day = current_date"},
			{"CREATE TABLE old_" + k + " (id int)", "DROP TABLE old_" + k, "COMMENT ON TABLE slots IS 'of day " + k + "'"},
			{"CREATE FUNCTION f_" + k + "() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NEW; END $$", "CREATE TRIGGER t_" + k + " BEFORE INSERT ON slots FOR EACH ROW EXECUTE FUNCTION f_" + k + "()"},
		}[(n*2+i)%5]
		s.visit(at(s.between(2, 9), s.IntN(60)), 300*time.Millisecond, audittest.Act{As: "deploy", From: s.ci(), SQL: slices.Concat(alembic, change, []string{"UPDATE alembic_version SET version_num = '" + k + "'", "COMMIT"})})
	}
	if n%2 == 0 {
		s.visit(at(s.between(2, 8), 12), 200*time.Millisecond, audittest.Act{As: "hr", App: "bin/rails", From: s.ci(), DB: "hr", SQL: []string{"SELECT pg_try_advisory_lock(1)", "BEGIN", fmt.Sprintf("ALTER TABLE staff ADD COLUMN x%d text", n), fmt.Sprintf("CREATE TABLE leaves%d (id bigserial primary key)", n), "INSERT INTO schema_migrations VALUES ('1')", "COMMIT"}})
		s.visit(at(s.between(2, 8), 42), 200*time.Millisecond, audittest.Act{As: "billing_migrator", From: s.ci(), DB: "billing", SQL: append(slices.Clone(jdbc), "CREATE TABLE IF NOT EXISTS flyway_schema_history (v text)", fmt.Sprintf("ALTER TABLE bills ADD COLUMN y%d int", n), "INSERT INTO flyway_schema_history VALUES ('1')")})
	} else {
		s.visit(at(s.between(2, 8), 22), 400*time.Millisecond, audittest.Act{As: "wh_deploy", App: "psql", From: s.ci(), DB: "warehouse", SQL: []string{"CREATE SCHEMA IF NOT EXISTS sqitch", "CREATE TABLE IF NOT EXISTS sqitch.changes (c text)", fmt.Sprintf("CREATE TABLE dim_%d (id int)", n), "INSERT INTO sqitch.changes VALUES ('x')"}})
		s.visit(at(s.between(2, 8), 52), 200*time.Millisecond, audittest.Act{As: "tf_admin", App: "Terraform v1.9.2 PostgreSQL provider", From: s.ci(), DB: "postgres", SQL: []string{fmt.Sprintf("CREATE ROLE svc_%d WITH LOGIN ENCRYPTED PASSWORD 'secret' NOSUPERUSER NOCREATEDB", n), fmt.Sprintf("GRANT readonly TO svc_%d", n), fmt.Sprintf("COMMENT ON ROLE svc_%d IS 'by terraform'", n), fmt.Sprintf("ALTER ROLE svc_%d SET statement_timeout = '30s'", n)}})
		if n > 4 {
			s.visit(at(9, 40), 200*time.Millisecond, audittest.Act{As: "tf_admin", App: "Terraform v1.9.2 PostgreSQL provider", From: s.ci(), DB: "postgres", SQL: []string{fmt.Sprintf("DROP ROLE IF EXISTS svc_%d", n-4)}})
		}
	}
	// people
	dba := [][]string{
		{"SET work_mem = '256MB'", "EXPLAIN SELECT * FROM appointments", "SELECT * FROM pg_stat_activity"}, {"VACUUM ANALYZE payments", "COMMENT ON TABLE payments IS 'looked at'"},
		{"SET lock_timeout = '2s'", fmt.Sprintf("CREATE INDEX CONCURRENTLY idx_%d ON payments (amount)", n), fmt.Sprintf("DROP INDEX CONCURRENTLY idx_%d", n)}, {"ALTER TABLE appointments SET (autovacuum_vacuum_scale_factor = 0.05)", "SELECT pg_terminate_backend(1)"},
		{"ALTER SYSTEM SET work_mem = '8MB'", "SELECT pg_reload_conf()", "SHOW work_mem"},
	}
	s.visit(at(s.between(1, 9), s.IntN(60)), time.Minute, audittest.Act{As: "hsu", App: "psql", From: fmt.Sprintf("10.60.0.%d", s.between(20, 24)), SQL: dba[n%5]})
	if n%2 == 1 {
		s.visit(at(s.between(1, 9), s.IntN(60)), time.Minute, audittest.Act{As: "hsu", App: "DataGrip 2026.1", From: "10.60.0.22", SQL: []string{"SET extra_float_digits = 3", "SELECT count(*) FROM appointments"}})
	}
	s.visit(at(s.between(1, 9), s.IntN(60)), time.Minute, audittest.Act{As: "wei.lin", App: fmt.Sprintf("pgAdmin 4 - CONN:%d", s.between(1000000, 9999999)), From: fmt.Sprintf("10.60.0.%d", s.between(40, 44)), SQL: []string{"SET DateStyle=ISO; SET client_min_messages=notice; SELECT 1", "SELECT * FROM slots"}})
	s.visit(at(s.between(1, 9), s.IntN(60)), time.Minute, audittest.Act{As: "wei.lin", App: "psql", From: fmt.Sprintf("10.60.0.%d", s.between(40, 44)), SQL: []string{"SET ROLE booking_owner", "BEGIN", fmt.Sprintf("UPDATE appointments SET note = 'moved' WHERE id = %d", n), "COMMIT"}})
	nadia := audittest.Act{As: "nadia", App: "DataGrip 2026.1", From: fmt.Sprintf("10.60.0.%d", s.between(50, 54)), SQL: []string{"SET extra_float_digits = 3", "CREATE TEMP TABLE t AS SELECT tenant_id, count(*) FROM appointments GROUP BY 1", fmt.Sprintf("CREATE TABLE nadia.week_%d AS SELECT * FROM slots", n), fmt.Sprintf("DROP TABLE nadia.week_%d", n)}}
	if n%4 == 2 {
		nadia.Password = "secert"
		quiet(s.visit(at(3, 14), time.Second, audittest.Act{As: nadia.As, App: nadia.App, From: nadia.From, Password: "secert"}))
		nadia.Password = ""
		s.visit(at(3, 16), time.Minute, nadia)
	} else {
		s.visit(at(s.between(1, 9), s.IntN(60)), time.Minute, nadia)
	}
}

// odd is what happens once in the ten days that are judged and is nobody's attack: the night in which something was slow, the colleague who is new, what moved.
func (s *shop) odd(day time.Time, n int) {
	at := func(hour, minute int) time.Time {
		return day.Add(time.Duration(hour)*time.Hour + time.Duration(minute)*time.Minute + 7*time.Second)
	}
	const terraform = "Terraform v1.9.2 PostgreSQL provider"
	switch n {
	case 8: // at 01:40 in the night of Taipei
		s.visit(at(17, 40), 2*time.Minute, audittest.Act{As: "hsu", App: "psql", From: "10.60.0.24", SQL: []string{"SELECT pid, wait_event FROM pg_stat_activity", "SELECT pg_terminate_backend(1)", "SET statement_timeout = 0", "CREATE INDEX CONCURRENTLY appointments_tenant ON appointments (tenant_id)",
			"ALTER SYSTEM SET max_parallel_workers_per_gather = 0", "SELECT pg_reload_conf()", "ALTER ROLE metabase SET statement_timeout = '20s'", "ANALYZE appointments", "ALTER TABLE appointments SET (autovacuum_vacuum_cost_delay = 0)"}})
	case 9: // a release in the evening, mended with a grant
		s.visit(at(13, 2), 300*time.Millisecond, audittest.Act{As: "deploy", From: s.ci(), SQL: []string{"BEGIN", "SET ROLE booking_owner", "CREATE TABLE reminders (id serial PRIMARY KEY, text text)", "UPDATE alembic_version SET version_num = 'r1'", "COMMIT"}})
		s.visit(at(13, 4), 20*time.Second, audittest.Act{As: "web", From: "10.42.12.12", SQL: []string{"SET TIME ZONE 'UTC'", "SELECT * FROM reminders", "SELECT * FROM reminders", "INSERT INTO reminders(text) VALUES ('x')"}})
		s.visit(at(13, 11), 300*time.Millisecond, audittest.Act{As: "deploy", From: s.ci(), SQL: []string{"BEGIN", "SET ROLE booking_owner", "GRANT ALL ON reminders TO web, worker", "GRANT USAGE ON SEQUENCE reminders_id_seq TO web, worker", "UPDATE alembic_version SET version_num = 'r2'", "COMMIT"}})
	case 10: // many pods at once
		for i := range 30 {
			s.visit(at(4, 0).Add(time.Duration(i)*7*time.Second), time.Minute, audittest.Act{As: "worker", From: fmt.Sprintf("10.42.%d.%d", 40+i, 5+i), SQL: []string{"SET TIME ZONE 'UTC'", "SELECT 1"}})
		}
	case 11: // the machine was patched: PostgreSQL's own account brings the extensions up to date
		s.visit(at(19, 30), 5*time.Second, audittest.Act{As: "postgres", App: "psql", From: "[local]", SQL: []string{"ALTER EXTENSION postgres_fdw UPDATE", "ALTER DATABASE booking REFRESH COLLATION VERSION", "REINDEX TABLE patients", "ANALYZE"}})
	case 12: // a holiday; all secrets are exchanged
		s.visit(at(3, 0), 500*time.Millisecond, audittest.Act{As: "vaultadmin", From: "10.44.0.11", DB: "postgres", SQL: []string{"ALTER ROLE web PASSWORD 'secret'", "ALTER ROLE worker WITH PASSWORD 'secret'", "ALTER ROLE hr PASSWORD 'secret'", "ALTER ROLE billing_api PASSWORD 'secret'", "ALTER ROLE metabase PASSWORD 'secret'", "ALTER ROLE airflow PASSWORD 'secret'"}})
		s.visit(at(3, 1), time.Second, audittest.Act{As: "metabase", App: "Metabase v0.57.2 [a1b2]", From: "10.42.8.4", Password: "old", Repeat: 4})
	case 13: // a colleague comes; Metabase is a newer one at another address
		s.visit(at(2, 10), 200*time.Millisecond, audittest.Act{As: "tf_admin", App: terraform, From: s.ci(), DB: "postgres", SQL: []string{"CREATE ROLE tomas WITH LOGIN ENCRYPTED PASSWORD 'secret' NOSUPERUSER", "GRANT readonly TO tomas", "GRANT booking_owner TO tomas"}})
		s.visit(at(6, 30), time.Minute, audittest.Act{As: "tomas", App: "psql", From: "10.60.0.61", SQL: []string{"SELECT * FROM slots", "SET search_path = public"}})
		s.visit(at(8, 0), time.Minute, audittest.Act{As: "metabase", App: "Metabase v0.58.0 [c3d4]", From: "10.42.8.19", SQL: []string{"SET extra_float_digits = 3", "SELECT count(*) FROM appointments"}})
	case 14: // a new service, its database and its first day; a correction of data by hand
		s.visit(at(3, 20), 300*time.Millisecond, audittest.Act{As: "tf_admin", App: terraform, From: s.ci(), DB: "postgres", SQL: []string{"CREATE ROLE notify WITH LOGIN ENCRYPTED PASSWORD 'secret'", "CREATE DATABASE notify"}})
		s.visit(at(4, 5), 10*time.Minute, audittest.Act{As: "notify", From: s.pod(), DB: "notify", SQL: []string{"SET TIME ZONE 'UTC'", "SELECT 1"}})
		s.visit(at(7, 5), 2*time.Minute, audittest.Act{As: "wei.lin", App: "psql", From: "10.60.0.42", SQL: []string{"SET ROLE booking_owner", "BEGIN", "UPDATE appointments SET note = 'x' WHERE tenant_id = 3 AND id < 700", "COMMIT"}})
		s.visit(at(6, 20), time.Minute, audittest.Act{As: "tomas", App: "DBeaver 25.3.0 - Main", From: "10.60.0.62", SQL: []string{"SET extra_float_digits = 3", "SELECT * FROM slots"}})
	case 15: // a bigger release; before it a dump by hand
		s.visit(at(5, 30), time.Second, audittest.Act{As: "hsu", App: "pg_dump", From: "10.60.0.21", SQL: []string{"SET statement_timeout = 0", "BEGIN", "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY", "COMMIT"}})
		s.visit(at(5, 45), 300*time.Millisecond, audittest.Act{As: "deploy", From: s.ci(), SQL: []string{"BEGIN", "SET ROLE booking_owner", "ALTER TABLE legacy_slots RENAME TO legacy_slots_old", "CREATE TABLE legacy_slots AS SELECT * FROM legacy_slots_old", "DROP TABLE legacy_slots_old", "DROP VIEW v_today", "CREATE VIEW v_today AS SELECT id, day FROM slots", "GRANT SELECT ON v_today TO readonly", "ALTER TABLE slots DROP CONSTRAINT slots_pkey", "ALTER TABLE slots ADD PRIMARY KEY (id)", "UPDATE alembic_version SET version_num = 'big'", "COMMIT"}})
		s.visit(at(15, 10), time.Minute, audittest.Act{As: "hsu", App: "psql", From: "10.60.0.23", SQL: []string{"SELECT * FROM pg_locks", "SELECT pg_cancel_backend(1)", "REINDEX TABLE CONCURRENTLY slots"}})
	case 16: // tests all day; somebody goes
		for i := range 25 {
			db := fmt.Sprintf("test_booking_gw%d", i)
			s.visit(at(5, i*2), time.Second, audittest.Act{As: "ci", From: s.ci(), DB: "postgres", SQL: []string{"CREATE DATABASE " + db, "DROP DATABASE " + db}})
		}
		s.visit(at(8, 40), 300*time.Millisecond, audittest.Act{As: "tf_admin", App: terraform, From: s.ci(), DB: "postgres", SQL: []string{"REVOKE readonly FROM tomas", "REVOKE booking_owner FROM tomas", "ALTER ROLE tomas NOLOGIN"}})
	case 17: // Airflow moves
		s.visit(at(6, 15), 2*time.Second, audittest.Act{As: "airflow", From: "10.42.77.3", DB: "warehouse", SQL: []string{"TRUNCATE stage.orders", "INSERT INTO stage.orders SELECT g, g FROM generate_series(1, 900) g"}})
	}
}

// The attacks and twins that are played in the ten days, by day.
var (
	shopAttacks = map[int][]string{8: {"H02", "H30"}, 9: {"H12", "H37"}, 10: {"H32", "H38"}, 11: {"H13"}, 12: {"H05", "H26"}, 13: {"H50", "H22"}, 14: {"H16", "H33"}, 15: {"H04", "H24"}, 16: {"H51", "H48"}, 17: {"H09", "H40"}}
	shopTwins   = map[int][]string{8: {"H15", "H43"}, 9: {"H01", "H06"}, 10: {"H17"}, 11: {"H39"}, 12: {"H54"}, 13: {"H07", "H47"}, 14: {"H53", "H26", "H52"}, 15: {"H36", "H28"}, 16: {"H45"}, 17: {"H20"}}
)
