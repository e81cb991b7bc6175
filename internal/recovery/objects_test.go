//go:build unix

package recovery_test

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"howdah/internal/fault"
	"howdah/internal/keeper"
	"howdah/internal/recovery"
)

// store is a schema with everything that can be in one, and what elsewhere depends on it.
const store = `
CREATE ROLE clerk; CREATE ROLE "Chef 大" LOGIN PASSWORD 'not to be seen' CONNECTION LIMIT 3 VALID UNTIL '2031-01-01';
CREATE SCHEMA store; CREATE SCHEMA report; CREATE TABLE public.busy (n bigint PRIMARY KEY);
COMMENT ON SCHEMA store IS 'what is sold';
GRANT USAGE ON SCHEMA store TO clerk, "Chef 大";
CREATE TYPE store.state AS ENUM ('new', 'paid');
CREATE TYPE store.place AS (street text, "No." int);
CREATE DOMAIN store.cents AS int CHECK (VALUE >= 0);
COMMENT ON DOMAIN store.cents IS 'of money';
CREATE SEQUENCE store.number START 100;
CREATE FUNCTION store.price(n int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT n * 2';
CREATE FUNCTION store.price(n text) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT 3';
CREATE PROCEDURE store.clear() LANGUAGE sql AS 'SELECT 1';
REVOKE EXECUTE ON FUNCTION store.price(int) FROM public; GRANT EXECUTE ON FUNCTION store.price(int) TO clerk;
CREATE AGGREGATE store.total(int) (SFUNC = int4pl, STYPE = int, INITCOND = 0);
CREATE FUNCTION store.touch() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN NEW.note := coalesce(NEW.note, '') || '!'; RETURN NEW; END$$;
CREATE TABLE store.customer (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, at store.place, name text COLLATE "C" NOT NULL, note text, UNIQUE (name));
CREATE TABLE store."Order" (id int PRIMARY KEY DEFAULT nextval('store.number'), customer bigint REFERENCES store.customer, s store.state DEFAULT 'new', c store.cents, twice int GENERATED ALWAYS AS (c * 2) STORED,
	boss int REFERENCES store."Order", note text);
CREATE UNLOGGED TABLE store.cache (k int);
CREATE INDEX "Order by price" ON store."Order" (store.price(c)) WHERE s = 'new';
COMMENT ON INDEX store."Order by price" IS 'for the report';
COMMENT ON COLUMN store."Order".c IS 'in cents';
CREATE TRIGGER touch BEFORE UPDATE ON store."Order" FOR EACH ROW EXECUTE FUNCTION store.touch();
COMMENT ON TRIGGER touch ON store."Order" IS 'a touch';
ALTER TABLE store."Order" DISABLE TRIGGER touch;
ALTER TABLE store."Order" ENABLE ROW LEVEL SECURITY; CREATE POLICY mine ON store."Order" TO clerk USING (s = 'new');
GRANT SELECT (id, c), UPDATE (c) ON store."Order" TO clerk; GRANT SELECT ON store.customer TO clerk WITH GRANT OPTION;
SET SESSION AUTHORIZATION clerk; GRANT SELECT ON store.customer TO "Chef 大"; RESET SESSION AUTHORIZATION;
ALTER TABLE store.customer OWNER TO "Chef 大";
CREATE TABLE store.day (d int, n int, PRIMARY KEY (d, n)) PARTITION BY RANGE (d);
CREATE TABLE store.day_1 PARTITION OF store.day FOR VALUES FROM (0) TO (10);
CREATE TABLE report.day_2 PARTITION OF store.day FOR VALUES FROM (10) TO (20);
CREATE INDEX ON store.day (n);
CREATE STATISTICS store.both ON d, n FROM store.day_1;
CREATE VIEW store.open AS SELECT * FROM store."Order" WHERE s = 'new';
CREATE VIEW report.open WITH (security_barrier) AS SELECT id, c FROM store.open;
COMMENT ON VIEW report.open IS 'two deep'; GRANT SELECT ON report.open TO clerk;
CREATE MATERIALIZED VIEW report.sums AS SELECT customer, sum(c) AS c FROM store."Order" GROUP BY 1; CREATE UNIQUE INDEX ON report.sums (customer);
CREATE TABLE report.line (o int REFERENCES store."Order" ON DELETE CASCADE, n int DEFAULT nextval('store.number'), p int CHECK (store.price(p) > 0), lost store.state);
COMMENT ON CONSTRAINT line_o_fkey ON report.line IS 'of an order';
CREATE SEQUENCE public.seen;
CREATE FUNCTION report.seen(n int) RETURNS boolean LANGUAGE plpgsql AS $$BEGIN PERFORM nextval('public.seen'); RETURN true; END$$;
ALTER FUNCTION report.seen(int) OWNER TO clerk;
CREATE DOMAIN report.small AS int CONSTRAINT small_seen CHECK (report.seen(VALUE)) CONSTRAINT small_known CHECK (VALUE > 0) NOT NULL;
CREATE TABLE report.few (n report.small CONSTRAINT few_seen CHECK (report.seen(n)));
INSERT INTO report.few SELECT generate_series(1, 3);
CREATE VIEW report.line_now AS SELECT n FROM report.line;
CREATE RULE quiet AS ON DELETE TO report.line DO ALSO NOTHING;
INSERT INTO store.customer (name, at) SELECT 'c' || g, ROW('s', g)::store.place FROM generate_series(1, 300) g;
INSERT INTO store."Order" (customer, c, boss, note) SELECT g % 300 + 1, g, CASE WHEN g > 1 THEN 100 END, repeat(md5(g::text), 100) FROM generate_series(1, 400) g;
INSERT INTO store.day SELECT g % 20, g FROM generate_series(1, 200) g;
INSERT INTO report.line SELECT 100 + g, g, g FROM generate_series(1, 50) g;
REFRESH MATERIALIZED VIEW report.sums;
ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO public`

// TestWhatWasDroppedComesBackWithAllThatWentWithIt: a schema, and functions, views, an index and a sequence, are dropped by others while somebody goes on writing. They come back, and the
// definitions of the whole database and all rows are what they were one transaction before; and they are taken back.
func TestWhatWasDroppedComesBackWithAllThatWentWithIt(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	for sql := range strings.SplitSeq(store, ";\n") {
		s.exec(sql)
	}
	if _, err := keeper.TakeBase(t.Context(), s.repo, keeper.BaseOptions{Cluster: "main", DSN: s.dsn("replicator")}); err != nil {
		t.Fatal(err)
	}
	s.give(s.place.Address)
	// Rewrites between the backup and the accident.
	s.exec(`VACUUM FULL store."Order"`, `TRUNCATE store.day`, `INSERT INTO store.day SELECT g % 20, g FROM generate_series(1, 100) g`, `ALTER TABLE store.customer ALTER note TYPE varchar(90)`, `SELECT nextval('store.number')`)
	write := s.writer()

	tables := []string{`store."Order"`, `store.customer`, `store.day`, `report.day_2`, `report.line`, `report.sums`, `store.open`}
	state := func() (all []string) {
		t.Helper()
		blocks := strings.Split(s.definition(), "\n--\n-- Name: ") // pg_dump has things that are alike in the order of their numbers
		slices.Sort(blocks)
		all = append(all, strings.Join(blocks, "\n"))
		for _, name := range tables {
			if s.ask(`SELECT (to_regclass('`+name+`') IS NOT NULL)::text`) == "true" {
				all = append(all, name+" "+s.rows(name))
			}
		}
		return all
	}
	same := func(what string, have, want []string) {
		t.Helper()
		for i := range max(len(have), len(want)) {
			if i >= len(have) || i >= len(want) || have[i] != want[i] {
				h, w := slices.Concat(have, []string{""}), slices.Concat(want, []string{""})
				t.Fatalf("%s: is\n%s\nand should be\n%s", what, differing(h[i], w[i]), differing(w[i], h[i]))
			}
		}
	}
	before := state()
	number := s.ask(`SELECT last_value::text FROM store.number`)
	counts := func() { // the WAL has numbers that were not given out yet
		t.Helper()
		if s.ask(`SELECT (last_value BETWEEN `+number+` AND `+number+` + 32 AND is_called)::text FROM store.number`) != "true" {
			t.Errorf("the sequence was at %s", number)
		}
		number = s.ask(`SELECT last_value::text FROM store.number`)
	}

	// Things.
	things := s.accident(`DROP FUNCTION store.touch() CASCADE`, `DROP INDEX store."Order by price"`, `DROP VIEW store.open CASCADE`, `DROP SEQUENCE store.number CASCADE`,
		`CREATE OR REPLACE FUNCTION store.price(n text) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT 4'`, `DROP MATERIALIZED VIEW report.sums`, `DROP PROCEDURE store.clear`,
		`ALTER TABLE report.line DROP COLUMN lost`, `ALTER DOMAIN store.cents DROP CONSTRAINT cents_check`, `DROP FUNCTION report.seen CASCADE`)
	after := state()
	seen := s.ask(`SELECT last_value::text FROM public.seen`)
	args := "text"
	past := s.past(things, keeper.ObjectName{Kind: keeper.KindFunction, Schema: "store", Name: "touch"}, keeper.ObjectName{Kind: keeper.KindIndex, Schema: "store", Name: "Order by price"},
		keeper.ObjectName{Kind: keeper.KindView, Schema: "store", Name: "open"}, keeper.ObjectName{Kind: keeper.KindView, Schema: "report", Name: "sums"},
		keeper.ObjectName{Kind: keeper.KindSequence, Schema: "store", Name: "number"}, keeper.ObjectName{Kind: keeper.KindFunction, Schema: "store", Name: "price", Args: &args},
		keeper.ObjectName{Kind: keeper.KindFunction, Schema: "store", Name: "clear"}, keeper.ObjectName{Kind: keeper.KindType, Schema: "store", Name: "state"},
		keeper.ObjectName{Kind: keeper.KindType, Schema: "store", Name: "cents"},
		keeper.ObjectName{Kind: keeper.KindFunction, Schema: "report", Name: "seen"})
	options := recovery.Options{Live: s.live(), Database: "postgres", Mode: recovery.Objects, Now: time.Now(), Look: true}
	shown, err := recovery.Apply(t.Context(), past, options)
	if err != nil || len(shown.Objects) < 9 || len(shown.Left) != 1 || shown.Left[0] != "report.line.lost" {
		t.Fatalf("%+v, %v", shown, err)
	}
	same("after a look", state(), after)
	options.Look = false
	done, err := recovery.Apply(t.Context(), past, options)
	if err != nil {
		t.Fatal(err)
	}
	deploy := `CREATE OR REPLACE FUNCTION store.price(n text) RETURNS int LANGUAGE sql IMMUTABLE AS `
	s.exec(deploy + `'SELECT 5'`)
	if _, err := recovery.Undo(t.Context(), s.live(), "postgres", done.ID); !fault.HasKey(err, "recovery.redefined") || !strings.Contains(err.Error(), "store.price") {
		t.Errorf("taken back, though somebody has changed the function since: %v", err)
	}
	s.exec(deploy + `'SELECT 3'`)
	if _, err := recovery.Undo(t.Context(), s.live(), "postgres", done.ID); err != nil {
		t.Fatalf("%v\n%s", err, strings.Join(done.Undo, "\n"))
	}
	same("taken back", state(), after)
	if done, err = recovery.Apply(t.Context(), past, options); err != nil {
		t.Fatal(err)
	}
	if _, err := recovery.Apply(t.Context(), past, options); err == nil {
		t.Error("it came back twice")
	}
	if err := past.Close(t.Context()); err != nil {
		t.Error(err)
	}
	if now := s.ask(`SELECT last_value::text FROM public.seen`); now != seen { // VALIDATE CONSTRAINT is for those who trust it
		t.Errorf("a function of somebody who is no superuser has seen the rows: called %s times, and now %s", seen, now)
	}
	slices.Sort(done.Loose)
	if want := []string{`"report"."few": few_seen`, "report.small: small_seen", "store.cents: cents_check"}; !slices.Equal(done.Loose, want) {
		t.Errorf("came back without a look at the rows: %q", done.Loose)
	}
	s.exec(`DROP SCHEMA `+done.Schema(), `ALTER TABLE report.line ADD lost store.state`, `ALTER TABLE report.few VALIDATE CONSTRAINT few_seen`, `ALTER DOMAIN report.small VALIDATE CONSTRAINT small_seen`,
		`ALTER DOMAIN store.cents VALIDATE CONSTRAINT cents_check`)
	same("things", state(), before)
	counts()

	// The schema.
	all := s.accident(`DROP SCHEMA store CASCADE`)
	after = state()
	s.exec(`INSERT INTO report.line (o, n) VALUES (99999, 1)`) // refers to nothing
	after[slices.IndexFunc(after, func(text string) bool { return strings.HasPrefix(text, "report.line ") })] = "report.line " + s.rows("report.line")
	past = s.past(all, keeper.ObjectName{Kind: keeper.KindSchema, Name: "store"})
	s.exec(`ALTER ROLE clerk RENAME TO clerk_away`)
	if _, err := recovery.Apply(t.Context(), past, options); !fault.HasKey(err, "recovery.roles_gone") || !strings.Contains(err.Error(), "clerk") {
		t.Errorf("rights of a role that is gone: %v", err)
	}
	s.exec(`ALTER ROLE clerk_away RENAME TO clerk`)
	if done, err = recovery.Apply(t.Context(), past, options); err != nil {
		t.Fatal(err)
	}
	if len(done.Loose) != 2 || !slices.Equal(done.Left, []string{"report.line.lost"}) {
		t.Errorf("loose: %v, left: %v", done.Loose, done.Left)
	}
	s.exec(`INSERT INTO store.day VALUES (1, 999)`)
	if _, err := recovery.Undo(t.Context(), s.live(), "postgres", done.ID); !fault.HasKey(err, "recovery.changed_since") {
		t.Errorf("taken back, though somebody wrote: %v", err)
	}
	s.exec(`DELETE FROM store.day WHERE n = 999`, `INSERT INTO store.cache VALUES (1)`)
	if _, err := recovery.Undo(t.Context(), s.live(), "postgres", done.ID); !fault.HasKey(err, "recovery.written_since") || !slices.Equal(done.Empty, []string{"store.cache"}) {
		t.Errorf("taken back, though somebody wrote into what came back empty (%v): %v", done.Empty, err)
	}
	s.exec(`DELETE FROM store.cache`)
	if _, err := recovery.Undo(t.Context(), s.live(), "postgres", done.ID); err != nil {
		t.Fatalf("%v\n%s", err, strings.Join(done.Undo, "\n"))
	}
	same("the schema, taken back", state(), after)
	if done, err = recovery.Apply(t.Context(), past, options); err != nil {
		t.Fatal(err)
	}
	if err := past.Close(t.Context()); err != nil {
		t.Error(err)
	}
	s.exec(`DROP SCHEMA `+done.Schema(), `ALTER TABLE report.line ADD lost store.state`, `DELETE FROM report.line WHERE o = 99999`, `ALTER TABLE report.line VALIDATE CONSTRAINT line_o_fkey`, `ALTER TABLE report.line VALIDATE CONSTRAINT line_p_check`)
	same("the schema", state(), before)
	counts()

	if n := write(); s.ask(`SELECT count(*)::text FROM public.busy`) != fmt.Sprint(n) {
		t.Errorf("not all of the %d rows that were written meanwhile are there", n)
	}
	s.empty(filepath.Join(s.dir, "scratch"))
}

// differing are the lines of a text that another lacks.
func differing(text, other string) string {
	var lines []string
	has := map[string]bool{}
	for line := range strings.Lines(other) {
		has[line] = true
	}
	for line := range strings.Lines(text) {
		if !has[line] {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "")
}

// writer writes rows until the function that it gives is called, which says how many.
func (s *shop) writer() (stop func() int64) {
	s.Helper()
	writing, cancel := context.WithCancel(s.Context())
	s.Cleanup(cancel)
	var written atomic.Int64
	ended := make(chan error, 1)
	conn := s.connect()
	go func() {
		for n := int64(1); writing.Err() == nil; n++ {
			if _, err := conn.Exec(s.Context(), `INSERT INTO public.busy VALUES ($1)`, n); err != nil {
				ended <- err
				return
			}
			written.Store(n)
		}
		ended <- nil
	}()
	return func() int64 {
		cancel()
		if err := <-ended; err != nil {
			s.Errorf("who wrote meanwhile: %v", err)
		}
		return written.Load()
	}
}

// past opens the state just before a transaction.
func (s *shop) past(xid string, names ...keeper.ObjectName) *keeper.Past {
	s.Helper()
	a := s.archive()
	plan, err := a.Plan(s.Context(), keeper.Target{XID: xid, Before: true})
	if err != nil {
		s.Fatal(err)
	}
	o := keeper.PastOptions{Scratch: filepath.Join(s.dir, "scratch"), Program: s.program, Repos: []keeper.Place{s.place}, Installation: s.Installation(), Account: s.account,
		Objects: names, Living: recovery.Living(s.live(), "postgres")}
	if o.Database, err = recovery.DatabaseOID(s.Context(), s.live(), "postgres"); err != nil {
		s.Fatal(err)
	}
	past, err := a.OpenPast(s.Context(), plan, o)
	if err != nil {
		s.Fatalf("%v\n%s", err, said(err))
	}
	if past.Why != "" {
		s.Errorf("all of it came back: %s", past.Why)
	}
	s.Cleanup(func() { _ = past.Close(context.Background()) })
	return past
}
