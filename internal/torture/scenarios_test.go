//go:build linux

package torture

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/klauspost/compress/zstd"

	"howdah/internal/audit"
	"howdah/internal/audit/audittest"
	"howdah/internal/audit/catalog"
	"howdah/internal/audit/judge"
	"howdah/internal/cluster"
)

var scenariosLive = flag.String("torture.scenarios", "", "plays attacks and their twins against a real house: all, or the ids to play; in a network of its own (make scenarios)")

var scenariosIn = flag.String("torture.config", "", "plays them in this configuration only: role, ddl; wide; plain")

// stage is a house in which one scenario after the other is played. Before each of them the shop is as it was, and the watch has just learned its seven days.
type stage struct {
	*house
	owner   person
	server  audittest.Server
	super   *pgx.Conn
	learned []byte // what a judge knows after seven days of the shop, saved
	rules   *judge.Rules
	conf    string // postgresql.auto.conf as it was
	hba     string
	rulesIn []byte   // of pg_hba.conf
	auto    []string // settings of the configuration that is played
	plain   bool     // a PostgreSQL that has no pgAudit
}

// TestTheScenariosLive: each attack is told in #ops and no twin is, by the program as it is, on a real PostgreSQL with pgAudit, with the seed's cover (role, ddl) and
// with the wide one, and on one without pgAudit. What hangs on the hour of the day is not played: the clock is the real one.
func TestTheScenariosLive(t *testing.T) {
	if *scenariosLive == "" {
		t.Skip("some minutes; make scenarios")
	}
	var all []audittest.Scenario
	raw, err := os.ReadFile("testdata/scenarios.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	for line := range bytes.Lines(raw) {
		var s audittest.Scenario
		if err := json.Unmarshal(line, &s); err != nil {
			t.Fatal(err)
		}
		if *scenariosLive == "all" || slices.Contains(strings.Split(*scenariosLive, ","), s.ID) {
			all = append(all, s)
		}
	}
	table := map[string]map[string][2]string{} // what was told, by scenario and configuration: attack and twin
	configs := []struct {
		name  string
		auto  []string
		plain bool
	}{
		{"role, ddl", []string{"pgaudit.log = 'role, ddl'", "log_connections = off", "log_disconnections = off"}, false},
		{"wide", []string{"pgaudit.log = 'role, ddl, misc_set'", "log_connections = on", "log_disconnections = on", "pgaudit.log_rows = on", "pgaudit.role = 'audited'"}, false},
		{"plain", []string{"log_statement = 'ddl'", "log_connections = on", "log_disconnections = on"}, true},
	}
	for _, config := range configs {
		if *scenariosIn != "" && *scenariosIn != config.name {
			continue
		}
		s := newStage(t, config.auto, config.plain)
		for _, scenario := range all {
			s.reset()
			attack := s.play(scenario.Attack, true)
			s.reset()
			twin := s.play(scenario.Twin, false)
			if table[scenario.ID] == nil {
				table[scenario.ID] = map[string][2]string{}
			}
			table[scenario.ID][config.name] = [2]string{attack, twin}
			t.Logf("%-9s %-4s %-8s %-70.70s attack: %-40s twin: %s", config.name, scenario.ID, scenario.Severity, scenario.Title, said(attack), said(twin))
		}
		s.end(s.run, syscall.SIGINT)
	}
	for _, config := range configs {
		played, found, silent := 0, 0, 0
		for _, cells := range table {
			cell, ok := cells[config.name]
			if !ok {
				continue
			}
			played++
			if cell[0] != "" {
				found++
			}
			if cell[1] == "" {
				silent++
			}
		}
		t.Logf("%s: of %d, %d attacks told, %d twins silent", config.name, played, found, silent)
		if config.name == "wide" && (100*found < 95*played || 100*silent < 95*played) {
			t.Errorf("with the wide cover only %d of %d attacks were told, or %d twins silent", found, played, silent)
		}
	}
}

func said(what string) string {
	if what == "" {
		return "-"
	}
	return what
}

// shop is what the scenarios are played on. Each statement stands alone; databases are made anew.
var scenarioShop = []string{
	"DROP DATABASE IF EXISTS shop WITH (FORCE)", "DROP DATABASE IF EXISTS ci_8812",
	"CREATE ROLE dba_anna LOGIN SUPERUSER PASSWORD 'secret'", "CREATE ROLE dba_bob LOGIN SUPERUSER PASSWORD 'secret'", "CREATE ROLE app_owner", "CREATE ROLE readonly",
	"CREATE ROLE app_rw LOGIN PASSWORD 'secret'", "CREATE ROLE app_ro LOGIN PASSWORD 'secret'", "CREATE ROLE migrator LOGIN PASSWORD 'secret'", "GRANT app_owner TO migrator",
	"CREATE ROLE analyst_kim LOGIN PASSWORD 'secret'", "CREATE ROLE iam_sync LOGIN CREATEROLE PASSWORD 'secret'", "CREATE ROLE vault LOGIN CREATEROLE PASSWORD 'secret'",
	"CREATE ROLE monitor LOGIN PASSWORD 'secret'", "GRANT pg_monitor TO monitor", "CREATE ROLE ci LOGIN CREATEDB PASSWORD 'secret'", "CREATE ROLE dbt LOGIN PASSWORD 'secret'",
	"CREATE ROLE audited", "GRANT SELECT (rolpassword), UPDATE, INSERT, DELETE ON pg_authid TO audited", "GRANT UPDATE, INSERT, DELETE ON pg_auth_members TO audited",
	"CREATE DATABASE shop",
}

var scenarioTables = []string{
	"GRANT SELECT (rolpassword), UPDATE, INSERT, DELETE ON pg_authid TO audited", "GRANT UPDATE, INSERT, DELETE ON pg_auth_members TO audited", "CREATE EXTENSION pgaudit",
	"GRANT CREATE ON DATABASE shop TO app_owner, migrator", "GRANT CREATE ON SCHEMA public TO PUBLIC", "CREATE SCHEMA shop AUTHORIZATION app_owner", "CREATE SCHEMA analytics", "GRANT ALL ON SCHEMA analytics TO dbt, analyst_kim",
	"SET ROLE app_owner", "CREATE TABLE shop.customers (id int PRIMARY KEY, name text, email text, card text)", "CREATE POLICY p ON shop.customers USING (true)", "ALTER TABLE shop.customers ENABLE ROW LEVEL SECURITY",
	"CREATE TABLE shop.orders (id int, customer_id int, total numeric, created_at timestamptz)", "CREATE TABLE shop.users (id int)", "CREATE TABLE shop.payments (id int, card text)",
	"CREATE TABLE shop.staging (id int)", "CREATE TABLE shop.events (at date) PARTITION BY RANGE (at)", "GRANT USAGE ON SCHEMA shop TO PUBLIC", "GRANT SELECT ON ALL TABLES IN SCHEMA shop TO app_rw, analyst_kim, dbt",
}

func newStage(t *testing.T, auto []string, plain bool) *stage {
	args := []string{"--backup-physical", "off", "--backup-logical", "off", "--drill", "off"}
	if plain {
		args = append(args, "--pg-bin", withoutPgAudit(t))
	}
	s := &stage{house: newHouse(t, args...), auto: auto, plain: plain}
	s.owner = s.settle(s.start(), "anna")[0]
	s.super = s.sql(cluster.Superuser)
	var err error
	if s.rules, err = judge.LoadRules(nil); err != nil {
		t.Fatal(err)
	}
	s.learn()
	for _, sql := range []string{"ALTER SYSTEM SET listen_addresses = '*'", "ALTER SYSTEM SET log_checkpoints = off", "ALTER SYSTEM SET wal_level = 'logical'"} {
		s.do(sql)
	}
	data := s.cluster().DataDir()
	s.hba = filepath.Join(data, "pg_hba.conf")
	rules, err := os.ReadFile(s.hba)
	if err != nil {
		t.Fatal(err)
	}
	s.rulesIn = append(rules, "host all all 0.0.0.0/0 scram-sha-256\n"...)
	if err := os.WriteFile(s.hba, s.rulesIn, 0o600); err != nil {
		t.Fatal(err)
	}
	s.super.Close(t.Context())
	s.end(s.run, syscall.SIGINT) // PostgreSQL as well: it begins anew with all of that
	s.start()
	s.super = s.sql(cluster.Superuser)
	var port int
	if err := s.super.QueryRow(t.Context(), `SELECT setting::int FROM pg_settings WHERE name = 'port'`).Scan(&port); err != nil {
		t.Fatal(err)
	}
	s.server = audittest.Server{Port: uint16(port), Password: "secret", Host: "10.20.0.1"}
	saved, err := os.ReadFile(filepath.Join(data, "postgresql.auto.conf"))
	if err != nil {
		t.Fatal(err)
	}
	s.conf = string(saved)
	return s
}

// withoutPgAudit is a folder of PostgreSQL's programs in which pg_config knows of no extension.
func withoutPgAudit(t *testing.T) string {
	t.Helper()
	in, err := cluster.Find(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(work, "plain-"+filepath.Base(t.TempDir()), "bin")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	programs, err := os.ReadDir(in.Bin)
	if err != nil {
		t.Fatal(err)
	}
	for _, program := range programs {
		if program.Name() != "pg_config" {
			if err := os.Symlink(filepath.Join(in.Bin, program.Name()), filepath.Join(dir, program.Name())); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "pg_config"), []byte("#!/bin/sh\necho /nowhere\necho /nowhere\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

func (s *stage) do(sql string) {
	s.t.Helper()
	if _, err := s.super.Exec(s.t.Context(), sql); err != nil {
		s.t.Fatalf("%s: %v", sql, err)
	}
}

// learn lets a judge see the shop's seven days as if they had just been, at the same hours.
func (s *stage) learn() {
	file, err := os.Open(filepath.Join("..", "audit", "judge", "testdata", "timeline.json.zst"))
	if err != nil {
		s.t.Fatal(err)
	}
	defer file.Close()
	z, err := zstd.NewReader(file)
	if err != nil {
		s.t.Fatal(err)
	}
	defer z.Close()
	j := judge.New(s.rules, judge.Options{})
	end := time.Date(2026, 9, 8, 0, 0, 0, 0, time.UTC)
	shift := time.Now().Truncate(24 * time.Hour).Sub(end)
	lines := bufio.NewScanner(z)
	lines.Buffer(nil, 8<<20)
	for lines.Scan() {
		l, err := audit.ParseLine(lines.Bytes())
		if err != nil {
			s.t.Fatal(err)
		}
		if !l.Time.Before(end) {
			break
		}
		l.Time, l.SessionStart = l.Time.Add(shift), l.SessionStart.Add(shift)
		l.Mask()
		j.Line(&l)
	}
	if err := lines.Err(); err != nil {
		s.t.Fatal(err)
	}
	var saved bytes.Buffer
	if err := j.Save(&saved); err != nil {
		s.t.Fatal(err)
	}
	// Its transactions are those of another PostgreSQL: one of this house that happened to have such a number would be explained by them.
	var state map[string]json.RawMessage
	if err := json.Unmarshal(saved.Bytes(), &state); err != nil {
		s.t.Fatal(err)
	}
	state["Ledger"] = json.RawMessage("{}")
	if s.learned, err = json.Marshal(state); err != nil {
		s.t.Fatal(err)
	}
}

// reset makes the shop as it was and lets the watch begin at this moment, with what it has learned and nothing else.
func (s *stage) reset() {
	t := s.t
	t.Helper()
	ctx := t.Context()
	s.kill(s.run)
	data := s.cluster().DataDir()
	if err := os.WriteFile(filepath.Join(data, "postgresql.auto.conf"), []byte(s.conf), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(s.hba, s.rulesIn, 0o600); err != nil {
		t.Fatal(err)
	}
	s.do("SET pgaudit.log = 'none'")
	for _, setting := range s.auto {
		s.do("ALTER SYSTEM SET " + setting)
	}
	s.do("SELECT pg_reload_conf()")
	// Whatever a scenario has left: roles that are not the house's, what they own in its databases, and what lies in them.
	s.do("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename IN ('" + strings.Join(s.strangers(), "', '") + "')")
	s.do(`SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = 's_all'`)
	s.do("DROP DATABASE IF EXISTS shop WITH (FORCE)")
	for _, db := range []string{"postgres", cluster.Database} {
		conn := s.database(db)
		for _, role := range s.strangers() {
			if _, err := conn.Exec(ctx, "DROP OWNED BY "+pgx.Identifier{role}.Sanitize()+" CASCADE"); err != nil {
				t.Fatal(err)
			}
		}
		conn.Close(ctx)
	}
	for _, role := range s.strangers() {
		s.do("DROP ROLE " + pgx.Identifier{role}.Sanitize())
	}
	s.do("ALTER ROLE " + cluster.Superuser + " SUPERUSER")
	for _, sql := range scenarioShop {
		s.do(sql)
	}
	shop := s.database("shop")
	for _, sql := range scenarioTables {
		if s.plain && sql == "CREATE EXTENSION pgaudit" {
			continue
		}
		if _, err := shop.Exec(ctx, sql); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
	snapshots, err := func() ([]*judge.Snapshot, error) {
		conn := s.database(cluster.Database)
		defer conn.Close(context.WithoutCancel(ctx))
		return catalog.Read(ctx, conn, nil)
	}()
	if err != nil {
		t.Fatal(err)
	}
	shop.Close(ctx)

	j := judge.New(s.rules, judge.Options{Owners: []string{cluster.Owner}, Apps: []string{cluster.App}, Mask: audit.Mask})
	if err := j.Load(bytes.NewReader(s.learned)); err != nil {
		t.Fatal(err)
	}
	for _, snapshot := range snapshots {
		j.Reconcile(snapshot)
	}
	var state bytes.Buffer
	if err := j.Save(&state); err != nil {
		t.Fatal(err)
	}
	set := fmt.Sprintf("the stage is set %d", time.Now().UnixNano())
	s.do("DO $$ BEGIN RAISE LOG '" + set + "'; END $$")
	var at audit.Position
	enough := errors.New("read to the end")
	err = audit.Follow(ctx, s.cluster().LogDir(), audit.Position{}, func(b audit.Batch) error {
		at = b.Position
		if slices.ContainsFunc(b.Lines, func(l audit.Line) bool { return l.Message == set }) {
			return enough
		}
		return nil
	})
	if !errors.Is(err, enough) {
		t.Fatal(err)
	}
	file := map[string]any{} // all else as the house left it
	if raw, err := s.cluster().ReadFile("watch.json"); err != nil {
		t.Fatal(err)
	} else if err := json.Unmarshal(raw, &file); err != nil {
		t.Fatal(err)
	}
	file["position"], file["judge"], file["told"] = at, json.RawMessage(state.Bytes()), map[string]any{}
	delete(file, "due")
	raw, err := json.Marshal(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.clusterAs(s.account()).WriteFile("watch.json", raw); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(s.said, 0); err != nil {
		t.Fatal(err)
	}
	s.start()
}

// strangers are the roles that are not the house's.
func (s *stage) strangers() []string {
	rows, err := s.super.Query(s.t.Context(), `SELECT rolname::text FROM pg_authid WHERE rolname !~ '^(pg_|howdah|postgres$)' AND rolname NOT IN ('replicator') AND oid >= 16384
		AND rolname <> ALL ($1)`, []string{cluster.Superuser, cluster.Owner, cluster.App, cluster.Watcher, cluster.Replicator})
	if err != nil {
		s.t.Fatal(err)
	}
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		s.t.Fatal(err)
	}
	return names
}

func (s *stage) database(name string) *pgx.Conn {
	s.t.Helper()
	dsn, err := s.cluster().DSN(cluster.Superuser, name)
	if err != nil {
		s.t.Fatal(err)
	}
	config, err := pgx.ParseConfig(dsn)
	if err != nil {
		s.t.Fatal(err)
	}
	config.RuntimeParams["pgaudit.log"] = "none"
	conn, err := pgx.ConnectConfig(s.t.Context(), config)
	if err != nil {
		s.t.Fatal(err)
	}
	return conn
}

// looks is how long two comparisons of the catalogs take at least: what only they show is told by the second.
const looks = 40 * time.Second

// play lets it happen and gives the rules of what was told. An attack that the log does not prove is waited for as long as the catalogs need; a twin is waited for until what
// comes after it is told.
func (s *stage) play(acts []audittest.Act, attack bool) string {
	t := s.t
	t.Helper()
	for _, act := range acts {
		for range max(act.Repeat, 1) {
			if act.As == "postgres" && act.Password == "" {
				act.Password, _ = s.cluster().Password(cluster.Superuser)
				act.As = cluster.Superuser
			}
			session, err := s.server.Open(t.Context(), act)
			if err != nil {
				continue // that, too, is part of it
			}
			for _, sql := range act.SQL {
				sql = strings.NewReplacer("{HBA}", s.hba, "{DATA}", s.cluster().DataDir()).Replace(sql)
				if err := session.Do(t.Context(), sql); err != nil {
					t.Logf("%s: %.80s: %v", act.As, sql, err)
				}
			}
			if err := session.Close(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
	if attack {
		if !within(5*time.Second, func() bool { return s.rulesTold() != "" }) {
			within(looks, func() bool { return s.rulesTold() != "" })
		}
	} else {
		marker := s.sql(cluster.Superuser)
		for _, sql := range []string{"RESET pgaudit.log", "CREATE ROLE the_end_of_it SUPERUSER"} {
			if _, err := marker.Exec(t.Context(), sql); err != nil {
				t.Fatal(err)
			}
		}
		marker.Close(t.Context())
		await(t, time.Minute, "what comes after the twin to be told", func() bool { return s.logged("out of order", "the_end_of_it") > 0 })
	}
	told := s.rulesTold()
	if told != "" {
		await(t, time.Minute, "the room to hear of it", func() bool { _, all := s.opsRoom(s.owner); return len(all) > 0 })
	}
	return told
}

// rulesTold are the rules of the incidents that the house has told of, but for what the stage itself does, over the socket.
func (s *stage) rulesTold() string {
	var rules []string
	for line := range strings.Lines(s.log()) {
		var l struct{ Msg, Rule, From string }
		if json.Unmarshal([]byte(line), &l) == nil && l.Msg == "out of order" && l.From != "[local]" && !slices.Contains(rules, l.Rule) {
			rules = append(rules, l.Rule)
		}
	}
	return strings.Join(rules, " ")
}
