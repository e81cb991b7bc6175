//go:build unix

package recovery_test

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"howdah/internal/cli/clitest"
	"howdah/internal/cluster"
	"howdah/internal/fault"
	"howdah/internal/keeper"
	"howdah/internal/recovery"
	"howdah/internal/repo"
	"howdah/internal/wal"
)

func TestMain(m *testing.M) {
	code := m.Run()
	clitest.Remove()
	os.Exit(code)
}

// shop is a cluster that archives, with a database whose tables accidents happen to.
type shop struct {
	*testing.T
	*cluster.Scratch
	conn    *pgx.Conn
	dir     string // that everybody may enter
	program string
	account *cluster.Account
	repo    *repo.Repo
	place   keeper.Place
}

func newShop(t *testing.T) *shop {
	t.Helper()
	s := &shop{T: t}
	var err error
	if s.dir, err = os.MkdirTemp("", "howdah-recovery-"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(s.dir) })
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.Chmod(s.dir, 0o755)) //nolint:gosec // PostgreSQL's account enters it
	if os.Geteuid() == 0 {
		s.account, err = cluster.EnsureAccount(t.Context(), cluster.DefaultAccount)
		must(err)
	}
	s.program = clitest.Program(t)
	s.Scratch, err = cluster.NewScratch(t.Context(), cluster.ScratchOptions{Settings: map[string]string{"archive_mode": "on", "archive_command": "false"}})
	must(err)
	t.Cleanup(func() {
		if err := s.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	s.conn = s.connect()
	s.place = keeper.Place{Address: filepath.Join(s.dir, "repo")}
	keys, err := repo.NewKeys(nil, "")
	must(err)
	s.repo, err = repo.Open(t.Context(), s.place.Address, repo.Options{Create: true, Keys: keys})
	must(err)
	system, err := recovery.System(t.Context(), s.live())
	must(err)
	settings := filepath.Join(s.dir, "archive.json")
	must((&keeper.Settings{Cluster: "main", Repos: []keeper.Place{s.place}, Identity: wal.Identity{System: system, Major: s.Installation().Version.Major,
		SegmentSize: wal.DefaultSegmentSize}}).Save(settings))
	s.give(settings)
	s.give(s.place.Address)
	s.exec(`ALTER SYSTEM SET archive_command = '`+strings.ReplaceAll(keeper.ArchiveCommand(s.program, settings), "'", "''")+`'`, `SELECT pg_reload_conf()`)
	return s
}

func (s *shop) give(path string) {
	s.Helper()
	if s.account == nil {
		return
	}
	err := filepath.WalkDir(path, func(path string, _ fs.DirEntry, err error) error {
		if err == nil {
			err = os.Lchown(path, s.account.UID, s.account.GID)
		}
		return err
	})
	if err != nil {
		s.Fatal(err)
	}
}

func (s *shop) dsn(role string) string {
	s.Helper()
	dsn, err := s.DSN(role, "postgres")
	if err != nil {
		s.Fatal(err)
	}
	return dsn
}

func (s *shop) live() keeper.Server {
	return keeper.Server{DSN: s.dsn(cluster.Superuser), Programs: s.Installation()}
}

func (s *shop) connect() *pgx.Conn {
	s.Helper()
	conn, err := pgx.Connect(s.Context(), s.dsn(cluster.Superuser))
	if err != nil {
		s.Fatal(err)
	}
	s.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

func (s *shop) exec(statements ...string) {
	s.Helper()
	for _, sql := range statements {
		if _, err := s.conn.Exec(s.Context(), sql); err != nil {
			s.Fatalf("%s: %v", sql, err)
		}
	}
}

func (s *shop) ask(sql string) (answer string) {
	s.Helper()
	if err := s.conn.QueryRow(s.Context(), sql).Scan(&answer); err != nil {
		s.Fatalf("%s: %v", sql, err)
	}
	return answer
}

// accident does something in a transaction of its own, with another session, and gives its number.
func (s *shop) accident(statements ...string) string {
	s.Helper()
	conn := s.connect()
	tx, err := conn.Begin(s.Context())
	if err != nil {
		s.Fatal(err)
	}
	for _, sql := range statements {
		if _, err := tx.Exec(s.Context(), sql); err != nil {
			s.Fatalf("%s: %v", sql, err)
		}
	}
	var xid string
	if err := tx.QueryRow(s.Context(), `SELECT pg_current_xact_id()::text`).Scan(&xid); err != nil {
		s.Fatal(err)
	}
	if err := tx.Commit(s.Context()); err != nil {
		s.Fatal(err)
	}
	return xid
}

// rows are all rows of a table, in order of its first column.
func (s *shop) rows(table string) string {
	s.Helper()
	return s.ask(`SELECT count(*) || ' ' || coalesce(md5(string_agg(t::text, ' ' ORDER BY t::text COLLATE "C")), '') FROM ` + table + ` t`)
}

// definition is what pg_dump says of a table.
func (s *shop) definition(tables ...string) string {
	s.Helper()
	args := []string{"--schema-only", "--dbname=" + s.dsn(cluster.Superuser)}
	for _, table := range tables {
		args = append(args, "--table="+table)
	}
	out, err := exec.CommandContext(s.Context(), s.Installation().Program("pg_dump"), args...).Output()
	if err != nil {
		s.Fatal(err)
	}
	var lines []string
	for line := range strings.Lines(string(out)) {
		if !strings.HasPrefix(line, `\`) { // restrict, with a word of its own each time
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "")
}

func (s *shop) archive() *keeper.Archive {
	s.Helper()
	if ok, err := keeper.Flush(s.Context(), s.live(), filepath.Join(s.DataDir(), "pg_wal"), 5*time.Minute); err != nil || !ok {
		s.Fatal(ok, err)
	}
	a, err := keeper.OpenArchive(s.Context(), s.repo, "main")
	if err != nil {
		s.Fatal(err)
	}
	return a
}

const tables = `
CREATE SCHEMA shop;
CREATE TYPE shop.state AS ENUM ('new', 'paid');
CREATE TABLE shop.customer (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, email text UNIQUE NOT NULL, "Größe 大" text COLLATE "C");
CREATE TABLE shop."Order" (id serial PRIMARY KEY, customer bigint NOT NULL REFERENCES shop.customer ON DELETE CASCADE, s shop.state DEFAULT 'new', note text,
	cents int CHECK (cents >= 0), total numeric GENERATED ALWAYS AS (cents / 100.0) STORED, j json);
CREATE INDEX ON shop."Order" (customer);
COMMENT ON TABLE shop."Order" IS 'what people want';
COMMENT ON COLUMN shop."Order".note IS 'theirs';
ALTER TABLE shop."Order" ALTER note SET STATISTICS 77;
CREATE STATISTICS shop.together ON customer, cents FROM shop."Order";
GRANT USAGE ON SCHEMA shop TO howdah_app, howdah_owner;
GRANT SELECT, INSERT ON shop."Order" TO howdah_app;
GRANT UPDATE (note) ON shop."Order" TO howdah_app;
ALTER TABLE shop."Order" OWNER TO howdah_owner;
ALTER TABLE shop."Order" ENABLE ROW LEVEL SECURITY;
CREATE POLICY mine ON shop."Order" FOR SELECT TO howdah_app USING (s = 'new');
CREATE FUNCTION shop.touch() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN NEW.note := coalesce(NEW.note, '') || '!'; RETURN NEW; END$$;
CREATE TRIGGER touch BEFORE INSERT OR UPDATE ON shop."Order" FOR EACH ROW EXECUTE FUNCTION shop.touch();
CREATE TABLE shop.line (o int REFERENCES shop."Order" ON DELETE CASCADE, n int, PRIMARY KEY (o, n));
CREATE TABLE shop."舊" (id int PRIMARY KEY, t text, j json);
CREATE TRIGGER touch BEFORE INSERT OR UPDATE ON shop.customer FOR EACH ROW WHEN (false) EXECUTE FUNCTION shop.touch();
CREATE TABLE shop.part (id int, day int, t text, PRIMARY KEY (id, day)) PARTITION BY RANGE (day);
CREATE TABLE shop.part_1 PARTITION OF shop.part FOR VALUES FROM (0) TO (10);
CREATE TABLE shop.part_2 PARTITION OF shop.part FOR VALUES FROM (10) TO (20);
CREATE TABLE shop.nokey (t text);
CREATE TABLE shop.busy (n bigint PRIMARY KEY);
CREATE TABLE shop.large (n int, t text);
CREATE TABLE public.customer (id int);
INSERT INTO shop.customer (email, "Größe 大") SELECT 'c' || g || '@x', repeat('中', g % 50) FROM generate_series(1, 500) g;
INSERT INTO shop."Order" (customer, note, cents, j) SELECT 1 + g % 500, repeat(md5(g::text), 1 + g % 200), g, '{"a":  1}' FROM generate_series(1, 3000) g;
INSERT INTO shop."Order" (customer, note, cents) SELECT 1, string_agg(md5(g::text), ''), 1 FROM generate_series(1, 2000) g;
INSERT INTO shop.line SELECT id, 1 FROM shop."Order";
INSERT INTO shop."舊" SELECT g, repeat('x', g % 300), '{"b": 2}' FROM generate_series(1, 2000) g;
INSERT INTO shop.part SELECT g, g % 20, md5(g::text) FROM generate_series(1, 1000) g;
INSERT INTO shop.nokey SELECT md5(g::text) FROM generate_series(1, 100) g;
INSERT INTO shop.large SELECT g, repeat(md5(g::text), 20) FROM generate_series(1, 30000) g`

// TestTablesComeBackAsTheyWereOneTransactionBeforeTheAccident: while somebody goes on writing, tables are dropped, emptied and overwritten by others. A copy of the past with their files
// alone has them as they were; they are compared, merged, put in their place and taken back again; and nobody else notices.
func TestTablesComeBackAsTheyWereOneTransactionBeforeTheAccident(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	for sql := range strings.SplitSeq(tables, ";\n") {
		s.exec(sql)
	}
	// Catalogs that are not where initdb put them: one whose place is in pg_class, and pg_class itself.
	s.exec(`VACUUM FULL pg_attrdef`, `VACUUM FULL pg_class`)
	backup, err := keeper.TakeBase(t.Context(), s.repo, keeper.BaseOptions{Cluster: "main", DSN: s.dsn(cluster.Replicator)})
	if err != nil {
		t.Fatal(err)
	}
	s.give(s.place.Address)
	// After the backup one gets another name, one other files, and one is there for the first time.
	s.exec(`ALTER TABLE shop."舊" RENAME TO "新 t"`, `VACUUM FULL shop.customer`, `UPDATE shop."Order" SET cents = cents + 1 WHERE id % 7 = 0`,
		`CREATE TABLE shop.young (id int GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY, t text)`, `INSERT INTO shop.young (t) SELECT md5(g::text) FROM generate_series(1, 300) g`,
		`CHECKPOINT`, `UPDATE shop."新 t" SET t = t || 'y' WHERE id % 3 = 0`)

	writing, stop := context.WithCancel(t.Context())
	var written atomic.Int64
	ended := make(chan error, 1)
	busy := s.connect()
	go func() {
		for n := int64(1); writing.Err() == nil; n++ {
			if _, err := busy.Exec(t.Context(), `INSERT INTO shop.busy VALUES ($1)`, n); err != nil {
				ended <- err
				return
			}
			written.Store(n)
		}
		ended <- nil
	}()
	defer stop()

	names := []string{`shop."Order"`, `shop.customer`, `shop."新 t"`, `shop.young`, `shop.part`, `shop.nokey`}
	then := map[string]string{}
	for _, name := range names {
		then[name] = s.rows(name)
	}
	definition := s.definition(`shop."Order"`, `shop.line`)
	started := s.connect() // has a lock and writes when the accident happens
	open, err := started.Begin(t.Context())
	if err == nil {
		_, err = open.Exec(t.Context(), `INSERT INTO shop.nokey VALUES ('never')`)
	}
	if err != nil {
		t.Fatal(err)
	}
	first := s.accident(`DROP TABLE shop."Order" CASCADE`)
	if err := open.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.accident(`DELETE FROM shop.customer WHERE id > 50`, `UPDATE shop.customer SET email = 'changed' WHERE id = 7`)
	s.accident(`UPDATE shop."新 t" SET t = 'oops'`)
	s.accident(`TRUNCATE shop.young RESTART IDENTITY`)
	s.accident(`DELETE FROM shop.part`)
	s.exec(`INSERT INTO shop.customer (email) VALUES ('since@x')`, `INSERT INTO shop.young (t) VALUES ('since')`, `INSERT INTO shop.line VALUES (99999, 1)`)
	after := map[string]string{}
	for _, name := range names[1:] {
		after[name] = s.rows(name)
	}

	rolledBack := s.connect()
	tx, err := rolledBack.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var aborted string
	if err := tx.QueryRow(t.Context(), `SELECT pg_current_xact_id()::text FROM (SELECT set_config('a.b', '', false)) x`).Scan(&aborted); err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), `DELETE FROM shop.nokey`); err != nil {
		t.Fatal(err)
	}
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}

	a := s.archive()
	if _, err := a.Plan(t.Context(), keeper.Target{XID: aborted, Before: true}); !fault.HasKey(err, "keeper.xid_rolled_back") {
		t.Errorf("before a transaction that was rolled back: %v", err)
	}
	plan, err := a.Plan(t.Context(), keeper.Target{XID: first, Before: true})
	if err != nil {
		t.Fatal(err)
	}
	if plan.Backup.ID != backup.ID || plan.Ended.IsZero() || strconv.FormatUint(uint64(plan.XID), 10) == first {
		t.Errorf("the plan: %+v", plan)
	}
	scratch := filepath.Join(s.dir, "scratch")
	options := keeper.PastOptions{Scratch: scratch, Program: s.program, Repos: []keeper.Place{s.place}, Installation: s.Installation(), Account: s.account}
	if options.Database, err = recovery.DatabaseOID(t.Context(), s.live(), "postgres"); err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		parsed, err := recovery.ParseName(name)
		if err != nil {
			t.Fatal(err)
		}
		options.Tables = append(options.Tables, parsed)
	}

	// Somebody's own attempt is killed while it is at it.
	s.killed(first, scratch)

	past, err := a.OpenPast(t.Context(), plan, options)
	if err != nil {
		t.Fatalf("%v\n%s", err, said(err))
	}
	closed := false
	defer func() {
		if !closed {
			_ = past.Close(context.Background())
		}
	}()
	if past.Why != "" || past.Bytes > plan.Write-15<<20 || past.Rounds > 2 {
		t.Errorf("%d of %d bytes came back in %d rounds, all of it because: %q", past.Bytes, plan.Write, past.Rounds, past.Why)
	}
	s.sound(past)

	apply := func(o recovery.Options, only ...string) (*recovery.Done, error) {
		t.Helper()
		part := *past
		part.Tables = slices.Clone(past.Tables)
		part.Tables = slices.DeleteFunc(part.Tables, func(x keeper.PastTable) bool {
			name := keeper.TableName{Schema: x.Schema, Name: x.Name}
			return !slices.ContainsFunc(only, func(text string) bool {
				wanted, err := recovery.ParseName(text)
				return err == nil && (wanted == name || !x.Asked && strings.HasPrefix(name.Name, wanted.Name+"_"))
			})
		})
		o.Live, o.Database, o.Now = s.live(), "postgres", time.Now()
		return recovery.Apply(t.Context(), &part, o)
	}
	do := func(o recovery.Options, only ...string) *recovery.Done {
		t.Helper()
		done, err := apply(o, only...)
		if err != nil {
			t.Fatalf("%s %v: %v", o.Mode, only, err)
		}
		return done
	}

	// Beside: the rows, one transaction before.
	done := do(recovery.Options{Mode: recovery.Beside}, names...)
	for i, name := range names {
		if have := s.rows(`"` + done.Schema() + `"."` + done.Tables[i].As + `"`); have != then[name] {
			t.Errorf("%s came back as %s, it was %s", name, have, then[name])
		}
	}
	undone, err := recovery.Undo(t.Context(), s.live(), "postgres", "")
	if err != nil || undone.ID != done.ID {
		t.Errorf("taken back: %+v, %v", undone, err)
	}

	// What differs.
	done = do(recovery.Options{Mode: recovery.Diff}, `shop.customer`, `shop."新 t"`, `shop.young`, `shop.part`)
	for i, want := range [][3]int64{{450, 1, 1}, {0, 2000, 0}, {299, 1, 0}, {1000, 0, 0}} {
		if d := done.Tables[i]; d.Gone != want[0] || d.Altered != want[1] || d.Newer != want[2] || len(d.Sample) == 0 {
			t.Errorf("%s: %+v", d.Name, d)
		}
	}
	if d := done.Tables[0].Sample; len(d) != 7 || d[0].Key != "id=51" || d[5].Kind != "changed" || d[5].Columns[0].Name != "email" || string(d[5].Columns[0].Is) != `"changed"` || d[6].Kind != "new" {
		t.Errorf("the sample: %+v", d)
	}
	if _, err := apply(recovery.Options{Mode: recovery.Merge}, `shop.nokey`); !fault.HasKey(err, "recovery.no_key") {
		t.Errorf("merged without a key: %v", err)
	}

	// Merged: what is gone is back, what is new stays. Something that stands in the way is named.
	s.exec(`INSERT INTO shop.customer (email) VALUES ('c100@x')`)
	if _, err := apply(recovery.Options{Mode: recovery.Merge}, `shop.customer`); !fault.HasKey(err, "recovery.taken") || !strings.Contains(err.Error(), "id=100") {
		t.Errorf("merged over what is unique: %v", err)
	}
	s.exec(`DELETE FROM shop.customer WHERE email = 'c100@x' AND id > 500`)
	merged := do(recovery.Options{Mode: recovery.Merge}, `shop.customer`, `shop.young`, `shop.part`)
	if s.rows(`shop.part`) != then[`shop.part`] || s.ask(`SELECT count(*) || ' ' || count(*) FILTER (WHERE email = 'changed') FROM shop.customer`) != "501 1" ||
		s.ask(`SELECT count(*) || ' ' || min(t) FILTER (WHERE id = 1) FROM shop.young`) != "300 since" || merged.Tables[0].Gone != 450 {
		t.Errorf("merged: %+v", merged.Tables)
	}
	s.exec(`INSERT INTO shop.young (t) VALUES ('next')`) // its number is past those that came back
	changed := do(recovery.Options{Mode: recovery.Merge, Changed: true}, `shop.customer`, `shop."新 t"`)
	if s.rows(`shop."新 t"`) != then[`shop."新 t"`] || s.ask(`SELECT email FROM shop.customer WHERE id = 7`) != "c7@x" {
		t.Errorf("changed rows: %+v", changed.Tables)
	}
	all, err := recovery.List(t.Context(), s.live(), "postgres")
	if err != nil || len(all) != 2 || all[0].ID != changed.ID || all[1].ID != merged.ID {
		t.Errorf("%+v, %v", all, err)
	}

	// In its place.
	if _, err := apply(recovery.Options{Mode: recovery.Replace}, `shop.customer`); !fault.HasKey(err, "recovery.is_there") {
		t.Errorf("a table that is there: %v", err)
	}
	replaced := do(recovery.Options{Mode: recovery.Replace}, `shop."Order"`)
	if have := s.rows(`shop."Order"`); have != then[`shop."Order"`] {
		t.Errorf(`shop."Order" is %s, it was %s`, have, then[`shop."Order"`])
	}
	if len(replaced.Tables[0].Loose) != 1 { // of the line that was written since
		t.Errorf("%+v", replaced.Tables)
	}
	if have := strings.ReplaceAll(s.definition(`shop."Order"`, `shop.line`), " NOT VALID", ""); have != definition {
		t.Errorf("the definition is\n%s\nand was\n%s", have, definition)
	}
	s.exec(`INSERT INTO shop."Order" (customer, cents) VALUES (1, 1)`)
	if _, err := recovery.Undo(t.Context(), s.live(), "postgres", replaced.ID); !fault.HasKey(err, "recovery.changed_since") {
		t.Errorf("a table that was written to was taken back: %v", err)
	}
	s.exec(`DELETE FROM shop."Order" WHERE id > 3001`)

	now := s.rows(`shop.young`)
	over := do(recovery.Options{Mode: recovery.Replace, Over: true}, `shop.young`)
	if s.rows(`shop.young`) != then[`shop.young`] || s.rows(over.Schema()+"."+over.Tables[0].Kept) != now {
		t.Errorf("what was there and was replaced: %+v", over.Tables)
	}

	// All of it is taken back.
	for _, d := range []*recovery.Done{over, replaced, changed} {
		if _, err := recovery.Undo(t.Context(), s.live(), "postgres", d.ID); err != nil {
			t.Fatalf("%s: %v", d.Mode, err)
		}
	}
	s.exec(`UPDATE shop.customer SET email = 'again' WHERE id = 60`)
	if _, err := recovery.Undo(t.Context(), s.live(), "postgres", merged.ID); !fault.HasKey(err, "recovery.changed_since") || !strings.Contains(err.Error(), "id=60") {
		t.Errorf("rows that were changed were taken back: %v", err)
	}
	s.exec(`DELETE FROM shop.customer WHERE id = 60`, `DELETE FROM shop.young WHERE t = 'next'`)
	if _, err := recovery.Undo(t.Context(), s.live(), "postgres", merged.ID); err != nil {
		t.Fatal(err)
	}
	for name, want := range after {
		if have := s.rows(name); have != want {
			t.Errorf("%s is %s, it was %s after the accident", name, have, want)
		}
	}
	if s.ask(`SELECT count(*)::text FROM pg_namespace WHERE nspname LIKE 'recovered%'`) != "0" || s.ask(`SELECT (to_regclass('shop."Order"') IS NULL)::text`) != "true" {
		t.Error("something of it is left")
	}

	// A partitioned table in its place.
	parts := []string{`shop.part`, `shop.part_1`, `shop.part_2`}
	definition = s.definition(parts...)
	s.exec(`DROP TABLE shop.part`)
	parted := do(recovery.Options{Mode: recovery.Replace}, `shop.part`)
	if have := s.definition(parts...); have != definition || s.rows(`shop.part`) != then[`shop.part`] || parted.Tables[0].Rows != 1000 {
		t.Errorf("the partitioned table is\n%s\nand was\n%s\n%+v", have, definition, parted.Tables)
	}
	s.exec(`UPDATE shop.part SET t = 'since' WHERE id = 7`)
	if _, err := recovery.Undo(t.Context(), s.live(), "postgres", parted.ID); !fault.HasKey(err, "recovery.changed_since") || !strings.Contains(err.Error(), "id=7") {
		t.Errorf("a partitioned table that was written to was taken back: %v", err)
	}

	closed = true
	if err := past.Close(t.Context()); err != nil {
		t.Error(err)
	}
	s.empty(scratch)
	stop()
	if err := <-ended; err != nil {
		t.Errorf("who wrote meanwhile: %v", err)
	}
	if have := s.ask(`SELECT count(*)::text FROM shop.busy`); have != fmt.Sprint(written.Load()) {
		t.Errorf("%s of %d rows that were written meanwhile are there", have, written.Load())
	}
}

// sound has PostgreSQL compare the tables of a past with their indexes.
func (s *shop) sound(past *keeper.Past) {
	s.Helper()
	conn, err := past.Connect(s.Context())
	if err != nil {
		s.Fatal(err)
	}
	defer conn.Close(s.Context())
	if _, err := conn.Exec(s.Context(), `CREATE EXTENSION amcheck`); err != nil {
		s.Fatal(err)
	}
	var oids []uint32
	for _, t := range past.Tables {
		oids = append(oids, t.OID)
	}
	var indexes, damaged int
	err = conn.QueryRow(s.Context(), `WITH heap AS (SELECT unnest($1::oid[]) AS oid UNION SELECT reltoastrelid FROM pg_class WHERE oid = ANY($1::oid[]) AND reltoastrelid <> 0),
		checked AS MATERIALIZED (SELECT bt_index_check(indexrelid, true) FROM pg_index JOIN heap ON indrelid = heap.oid JOIN pg_class c ON c.oid = indexrelid WHERE c.relkind = 'i')
		SELECT (SELECT count(*) FROM checked), (SELECT count(*) FROM heap JOIN pg_class c USING (oid), verify_heapam(heap.oid) WHERE relkind IN ('r', 't'))`, oids).Scan(&indexes, &damaged)
	if err != nil || damaged != 0 || indexes < 10 {
		s.Errorf("%d indexes were checked, %d rows are damaged: %v", indexes, damaged, err)
	}
}

// killed begins a recovery in a process of its own and kills it when its server runs: the live database is as it was, and the next command clears up.
func (s *shop) killed(xid, scratch string) {
	s.Helper()
	command := func(args ...string) *exec.Cmd {
		args = append(args, "--admin-dsn", s.dsn(cluster.Superuser), "--repo", s.place.Address, "--data", filepath.Join(s.dir, "no-house"), "--pg-bin", s.Installation().Bin)
		cmd := exec.CommandContext(s.Context(), s.program, args...)
		cmd.Env, cmd.Dir = []string{"PATH=" + os.Getenv("PATH"), "LANG=C", "HOME=" + s.dir}, s.dir
		return cmd
	}
	if err := os.Mkdir(scratch, 0o700); err != nil {
		s.Fatal(err)
	}
	s.give(scratch)
	cmd := command("recover", "table", `shop."Order"`, "--before-xid", xid, "--replace", "--yes", "--scratch", scratch)
	var words strings.Builder
	cmd.Stdout, cmd.Stderr = &words, &words
	if err := cmd.Start(); err != nil {
		s.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	running := func() bool {
		found, _ := filepath.Glob(filepath.Join(scratch, "*", "cluster", "*", "pgdata", "postmaster.pid"))
		return len(found) > 0
	}
	again := time.NewTicker(5 * time.Millisecond)
	defer again.Stop()
	for !running() {
		select {
		case err := <-ended:
			s.Fatalf("it ended before it was killed: %v\n%s", err, words.String())
		case <-again.C:
		}
	}
	if err := cmd.Process.Kill(); err != nil {
		s.Fatal(err)
	}
	<-ended
	if s.ask(`SELECT (to_regclass('shop."Order"') IS NULL)::text`) != "true" {
		s.Error("the table is there")
	}
	if out, err := command("recover", "list", "--scratch", scratch, "--db", "postgres").CombinedOutput(); err != nil || !strings.Contains(string(out), "Nothing was recovered") {
		s.Errorf("%v\n%s", err, out)
	}
	s.empty(scratch)
}

func (s *shop) empty(dir string) {
	s.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) > 0 {
		s.Errorf("left in %s: %v, %v", dir, entries, err)
	}
}

func said(err error) string {
	name, _ := fault.Of(err).Args["log"].(string)
	raw, _ := os.ReadFile(name)
	return string(raw)
}

func FuzzName(f *testing.F) {
	for _, seed := range []string{`a.b`, `"a.b"."c""d"`, `A."B"`, `"`, `a..b`, `.`, `""."x"`, `a.b.c`, `shop."新 t"`} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		name, err := recovery.ParseName(text)
		if err != nil {
			return
		}
		if again, err := recovery.ParseName(name.String()); err != nil || again != name {
			t.Errorf("%q is %q, which is %q, %v", text, name, again, err)
		}
	})
}

func FuzzObjectName(f *testing.F) {
	for _, seed := range []string{`a.b(integer, "x y")`, `a.b.c`, `shop`, `"a(b".c()`, `a.b(`, `a.b)`} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		for _, kind := range []keeper.ObjectKind{keeper.KindSchema, keeper.KindView, keeper.KindTrigger, keeper.KindFunction} {
			name, err := recovery.ParseObject(kind, text)
			if err != nil {
				continue
			}
			again, err := recovery.ParseObject(kind, name.String())
			if err != nil || again.String() != name.String() || again.Name != name.Name || (again.Args == nil) != (name.Args == nil) {
				t.Errorf("%q is %q, which is %q, %v", text, name, again, err)
			}
		}
	})
}
