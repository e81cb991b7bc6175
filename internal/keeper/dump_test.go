package keeper

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"filippo.io/age"
	"github.com/jackc/pgx/v5"

	"howdah/internal/cluster"
	"howdah/internal/fault"
	"howdah/internal/repo"
	"howdah/internal/repo/repotest"
)

// newServer starts a PostgreSQL of the test's own.
func newServer(t *testing.T) Server {
	t.Helper()
	s, err := cluster.NewScratch(t.Context(), cluster.ScratchOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	dsn, err := s.DSN(cluster.Superuser, "postgres")
	if err != nil {
		t.Fatal(err)
	}
	return Server{DSN: dsn, Programs: s.Installation()}
}

func do(t *testing.T, s Server, database string, statements ...string) {
	t.Helper()
	conn, err := s.connect(t.Context(), database)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	for _, statement := range statements {
		if _, err := conn.Exec(t.Context(), statement); err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
	}
}

func ask[T any](t *testing.T, s Server, database, query string, args ...any) []T {
	t.Helper()
	conn, err := s.connect(t.Context(), database)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	rows, err := conn.Query(t.Context(), query, args...)
	if err != nil {
		t.Fatal(err)
	}
	all, err := pgx.CollectRows(rows, pgx.RowTo[T])
	if err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return all
}

// shop is a database with a bit of everything that a dump must not lose.
const shop = `
	CREATE SCHEMA "店"; COMMENT ON SCHEMA "店" IS '中文名稱的結構';
	CREATE TYPE mood AS ENUM ('calm', '開心');
	CREATE TABLE elephant (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text NOT NULL, mood mood, born timestamptz, weight numeric,
	  picture bytea, likes jsonb, upper_name text GENERATED ALWAYS AS (upper(name)) STORED);
	INSERT INTO elephant (name, mood, born, weight, picture, likes)
	  SELECT CASE i % 3 WHEN 0 THEN '大象' || i WHEN 1 THEN E'Ann\'s "elephant"\t\\' || i ELSE 'elephant ' || i END, CASE WHEN i % 2 = 0 THEN 'calm' ELSE '開心' END::mood,
	         '2020-01-01 00:00+00'::timestamptz + i * interval '1 hour', i / 7.0, decode(md5(i::text), 'hex'), jsonb_build_object('香蕉', i, 'water', NULL)
	  FROM generate_series(1, 5000) i;
	CREATE INDEX ON elephant (name);
	CREATE TABLE "店"."帳本" (day date, what text, amount money) PARTITION BY RANGE (day);
	CREATE TABLE "店"."帳本_2026" PARTITION OF "店"."帳本" FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
	INSERT INTO "店"."帳本" SELECT '2026-01-01'::date + i, '買了 ' || i || ' 根香蕉 🍌', i FROM generate_series(0, 300) i;
	CREATE VIEW heavy AS SELECT * FROM elephant WHERE weight > 500;
	CREATE MATERIALIZED VIEW counted AS SELECT mood, count(*) FROM elephant GROUP BY mood;
	CREATE FUNCTION greet(text) RETURNS text LANGUAGE sql AS $$ SELECT '你好, ' || $1 $$;
	CREATE SEQUENCE tickets START 42; SELECT nextval('tickets');
	SELECT lo_from_bytea(4711, decode(repeat('c0ffee00', 100000), 'hex')); SELECT lo_from_bytea(0, '大物件'::bytea);
	GRANT SELECT ON elephant TO keeper_reader; GRANT UPDATE (name) ON elephant TO "動物 園長"; ALTER TABLE "店"."帳本" OWNER TO "動物 園長";
	GRANT SELECT ON LARGE OBJECT 4711 TO keeper_reader;
	ALTER DEFAULT PRIVILEGES IN SCHEMA "店" GRANT SELECT ON TABLES TO keeper_reader;`

// makeShop makes the database with roles, rights and settings.
func makeShop(t *testing.T, s Server, database string) {
	t.Helper()
	name := quote(database)
	for _, role := range []string{"keeper_reader LOGIN PASSWORD 'secret-of-the-reader'", `"動物 園長" LOGIN`} {
		if words := strings.SplitN(role, " LOGIN", 2); len(ask[int](t, s, "", "SELECT 1 FROM pg_roles WHERE rolname = $1", strings.Trim(words[0], `"`))) == 0 {
			do(t, s, "", "CREATE ROLE "+role)
		}
	}
	do(t, s, "", "CREATE DATABASE "+name+" TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C.UTF-8' OWNER \"動物 園長\"")
	do(t, s, database, shop)
	do(t, s, "", "COMMENT ON DATABASE "+name+" IS '象''s shop'", "ALTER DATABASE "+name+` SET search_path TO "$user", public, "店"`,
		"ALTER DATABASE "+name+" SET work_mem TO '7MB'", "ALTER ROLE keeper_reader IN DATABASE "+name+" SET statement_timeout TO '90s'",
		"REVOKE ALL ON DATABASE "+name+" FROM PUBLIC", "GRANT CONNECT ON DATABASE "+name+" TO keeper_reader WITH GRANT OPTION")
}

// contents is a hash of every table and large object, and what else there is to compare.
func contents(t *testing.T, s Server, database string) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, table := range ask[string](t, s, database, `SELECT c.oid::regclass::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
		WHERE c.relkind IN ('r', 'm', 'v') AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast')`) {
		all["rows of "+table] = ask[string](t, s, database, `SELECT count(*) || ' ' || coalesce(md5(string_agg(t::text, E'\n' ORDER BY t::text COLLATE "C")), '') FROM `+table+` t`)[0]
	}
	for what, query := range map[string]string{
		"large objects": `SELECT string_agg(oid || ' ' || md5(lo_get(oid)) || coalesce(lomacl::text, ''), E'\n' ORDER BY oid) FROM pg_largeobject_metadata`,
		"rights": `SELECT string_agg(oid::regclass || ' ' || pg_get_userbyid(relowner) || ' ' || coalesce(relacl::text, ''), E'\n' ORDER BY oid::regclass::text COLLATE "C")
			FROM pg_class WHERE relnamespace NOT IN ('pg_catalog'::regnamespace, 'information_schema'::regnamespace, 'pg_toast'::regnamespace)`,
		"columns' rights": `SELECT string_agg(attrelid::regclass || attname || attacl::text, ' ') FROM pg_attribute WHERE attacl IS NOT NULL AND attrelid >= 16384`,
		"functions":       `SELECT string_agg(pg_get_functiondef(oid), E'\n') FROM pg_proc WHERE pronamespace = 'public'::regnamespace`,
		"sequences":       `SELECT string_agg(schemaname || sequencename || last_value, ' ' ORDER BY 1) FROM pg_sequences GROUP BY schemaname, sequencename`,
		"comment":         `SELECT shobj_description(oid, 'pg_database') || obj_description('店'::regnamespace) FROM pg_database WHERE datname = current_database()`,
		"the database": `SELECT pg_get_userbyid(datdba) || pg_encoding_to_char(encoding) || datcollate || datctype ||
			(SELECT string_agg(a::text, ' ' ORDER BY a::text) FROM unnest(datacl) a) FROM pg_database WHERE datname = current_database()`,
		"settings": `SELECT string_agg(setrole::regrole || setconfig::text, ' ' ORDER BY setrole::regrole::text) FROM pg_db_role_setting
			WHERE setdatabase = (SELECT oid FROM pg_database WHERE datname = current_database())`,
	} {
		all[what] = strings.Join(ask[string](t, s, database, query), "\n")
	}
	return all
}

func same(t *testing.T, want, got map[string]string) {
	t.Helper()
	for _, what := range slices.Sorted(maps.Keys(want)) {
		if want[what] != got[what] {
			t.Errorf("%s was\n%s\nand is\n%s", what, want[what], got[what])
		}
	}
	if len(want) != len(got) {
		t.Errorf("there were %d things, and are %d", len(want), len(got))
	}
}

func dumpRepo(t *testing.T, opt repo.Options) *repo.Repo {
	t.Helper()
	opt.Create = true
	r, err := repo.Open(t.Context(), filepath.Join(t.TempDir(), "repo"), opt)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// bucketRepo is encrypted, and in S3.
func bucketRepo(t *testing.T) *repo.Repo {
	t.Helper()
	server := repotest.Start(t, repotest.Options{})
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "key.txt")
	if err := os.WriteFile(file, []byte(id.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	keys, err := repo.NewKeys([]string{id.Recipient().String()}, file)
	if err != nil {
		t.Fatal(err)
	}
	r, err := repo.Open(t.Context(), server.Bucket(t), repo.Options{Create: true, Keys: keys, AccessKey: server.AccessKey, SecretKey: server.SecretKey})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestADumpComesBackAsItWasInEveryForm(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	makeShop(t, s, "象 shop")
	want := contents(t, s, "象 shop")
	if len(want) < 10 {
		t.Fatalf("only %d things to compare", len(want))
	}
	for where, r := range map[string]*repo.Repo{"folder": dumpRepo(t, repo.Options{}), "encrypted bucket": bucketRepo(t)} {
		for _, form := range []Form{Custom, Plain, Directory} {
			t.Run(where+"/"+string(form), func(t *testing.T) {
				var seen []DumpProgress
				before := time.Now()
				d, err := TakeDump(t.Context(), r, s, DumpOptions{Cluster: "main", Databases: []string{"象 shop"}, Form: form, Stage: t.TempDir(),
					Progress: func(p DumpProgress) { seen = append(seen, p) }})
				if err != nil {
					t.Fatal(err)
				}
				if last := seen[len(seen)-1]; last.Done != last.Total || last.Done != d.Parts[0].Size || last.Database != "象 shop" || last.Parts != 1 {
					t.Errorf("the progress ends with %+v", last)
				}
				p := d.Parts[0]
				if p.Moment.Before(before.Add(-time.Minute)) || p.Moment.After(time.Now().Add(time.Minute)) || !strings.Contains(p.LSN, "/") || p.Form != form ||
					d.Major != s.Programs.Version.Major || p.Stored == 0 || p.Database.Bytes == 0 || len(p.Warnings) > 0 {
					t.Errorf("%+v %+v", d, p)
				}
				listed, err := Dumps(t.Context(), r, "main")
				if err != nil || !slices.ContainsFunc(listed, func(other Dump) bool { return other.ID == d.ID }) {
					t.Errorf("listed: %+v, %v", listed, err)
				}
				if err := verifyDump(t.Context(), r, d); err != nil {
					t.Error(err)
				}
				name := "back " + where + " " + string(form)
				done, err := RestoreDump(t.Context(), r, s, d.ID, RestoreOptions{Cluster: "main", As: name, Stage: t.TempDir()})
				if err != nil {
					t.Fatal(err)
				}
				if done.Database != name || done.From != "象 shop" || done.Newer != 0 || !done.Moment.Equal(p.Moment) || done.Bytes == 0 {
					t.Errorf("%+v", done)
				}
				same(t, want, contents(t, s, name))
			})
		}
	}
}

func TestAllDatabasesWithTheirRolesComeBackOnAnotherServer(t *testing.T) {
	t.Parallel()
	from, to := newServer(t), newServer(t)
	makeShop(t, from, "shop")
	makeShop(t, from, "second")
	want := contents(t, from, "shop")
	r := dumpRepo(t, repo.Options{})
	d, err := TakeDump(t.Context(), r, from, DumpOptions{Cluster: "main", Globals: true})
	if err != nil {
		t.Fatal(err)
	}
	var objects []string
	for _, p := range d.Parts {
		objects = append(objects, p.Object)
	}
	if want := []string{"globals.sql.zst", "database-howdah.dump.zst", "database-postgres.dump.zst", "database-second.dump.zst", "database-shop.dump.zst",
		"database-template1.dump.zst"}; !slices.Equal(objects, want) {
		t.Errorf("it holds %v, not %v", objects, want)
	}
	opt := RestoreOptions{Cluster: "main", Database: "shop", As: "shop"}
	if _, err := RestoreDump(t.Context(), r, to, d.ID, opt); !fault.HasKey(err, "keeper.roles_missing") ||
		fault.Of(err).Args["missing"] != "keeper_reader, 動物 園長" {
		t.Errorf("without roles: %v", err)
	}
	if left := ask[string](t, to, "", "SELECT datname FROM pg_database ORDER BY 1"); !slices.Equal(left, []string{"howdah", "postgres", "template0", "template1"}) {
		t.Errorf("something was made: %v", left)
	}
	opt.As, opt.NoOwner = "without", true
	if _, err := RestoreDump(t.Context(), r, to, d.ID, opt); err != nil {
		t.Fatal(err)
	}
	if got := ask[string](t, to, "without", "SELECT DISTINCT pg_get_userbyid(relowner)::text FROM pg_class"); !slices.Equal(got, []string{"postgres"}) {
		t.Errorf("owners: %v", got)
	}
	mine := ask[string](t, to, "", "SELECT rolpassword FROM pg_authid WHERE rolname = 'postgres'")
	made, kept, err := RestoreGlobals(t.Context(), r, to, "main", d.ID)
	if err != nil || !slices.Equal(made, []string{"ROLE keeper_reader", `ROLE "動物 園長"`}) || !slices.Contains(kept, "ROLE postgres") {
		t.Errorf("made %v, kept %v, %v", made, kept, err)
	}
	if !slices.Equal(mine, ask[string](t, to, "", "SELECT rolpassword FROM pg_authid WHERE rolname = 'postgres'")) {
		t.Error("the superuser got another password")
	}
	const password = "SELECT rolpassword FROM pg_authid WHERE rolname = 'keeper_reader'"
	if !slices.Equal(ask[string](t, from, "", password), ask[string](t, to, "", password)) {
		t.Error("the reader did not get his password back")
	}
	if made, _, err := RestoreGlobals(t.Context(), r, to, "main", d.ID); err != nil || len(made) > 0 {
		t.Errorf("once more: %v, %v", made, err)
	}
	opt.As, opt.NoOwner = "shop", false
	if _, err := RestoreDump(t.Context(), r, to, d.ID, opt); err != nil {
		t.Fatal(err)
	}
	same(t, want, contents(t, to, "shop"))
	opt.Database = ""
	if _, err := RestoreDump(t.Context(), r, to, d.ID, opt); !fault.HasKey(err, "keeper.dump_which") {
		t.Errorf("which one: %v", err)
	}
	opt.Database = "nothing"
	if _, err := RestoreDump(t.Context(), r, to, d.ID, opt); !fault.HasKey(err, "keeper.dump_no_database") {
		t.Errorf("not in it: %v", err)
	}
	// Another cluster must not get into the same folder of the repo.
	if _, err := TakeDump(t.Context(), r, to, DumpOptions{Cluster: "main", Globals: true}); !fault.HasKey(err, "repo.other_cluster") {
		t.Errorf("another cluster: %v", err)
	}
	if d, err = TakeDump(t.Context(), r, to, DumpOptions{Cluster: "other", Globals: true, Databases: []string{}}); err != nil || len(d.Parts) != 1 {
		t.Errorf("globals alone: %+v, %v", d, err)
	}
	if _, err := RestoreDump(t.Context(), r, to, d.ID, RestoreOptions{Cluster: "other", As: "x"}); !fault.HasKey(err, "keeper.dump_globals_only") {
		t.Errorf("a database from globals: %v", err)
	}
}

func TestWhatCannotWorkIsSaidBeforeAnythingIsMade(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	do(t, s, "", "CREATE DATABASE small")
	do(t, s, "small", "CREATE TABLE t AS SELECT 1 AS n")
	r := dumpRepo(t, repo.Options{})
	d, err := TakeDump(t.Context(), r, s, DumpOptions{Cluster: "main", Databases: []string{"small"}})
	if err != nil {
		t.Fatal(err)
	}
	change := func(change func(*Dump)) string {
		other := d
		other.Parts = slices.Clone(d.Parts)
		info := *d.Parts[0].Database
		other.Parts[0].Database = &info
		change(&other)
		run, err := beginRun(t.Context(), r, dumpFolder("main"))
		if err != nil {
			t.Fatal(err)
		}
		other.ID = run.id
		if err := r.PutJSON(t.Context(), run.folder+"/"+dumpManifest, other); err != nil {
			t.Fatal(err)
		}
		return run.id
	}
	before := ask[string](t, s, "", "SELECT datname FROM pg_database ORDER BY 1")
	for name, c := range map[string]struct {
		id, as, key string
	}{
		"taken":        {d.ID, "small", "keeper.database_exists"},
		"no name":      {d.ID, "", "keeper.database_name"},
		"long name":    {d.ID, strings.Repeat("象", 22), "keeper.database_name"},
		"newer":        {change(func(d *Dump) { d.Major = 99 }), "x", "keeper.dump_newer"},
		"extension":    {change(func(d *Dump) { d.Parts[0].Database.Extensions = []string{"no_such_thing"} }), "x", "keeper.extensions_missing"},
		"tablespace":   {change(func(d *Dump) { d.Parts[0].Form, d.Parts[0].Database.Tablespaces = Plain, []string{"fast"} }), "x", "keeper.tablespaces_missing"},
		"role":         {change(func(d *Dump) { d.Parts[0].Database.Roles = []string{"nobody here"} }), "x", "keeper.roles_missing"},
		"locale":       {change(func(d *Dump) { d.Parts[0].Database.Collate = "tlh_KX" }), "x", "keeper.create_database"},
		"no such dump": {"20200101T000000Z", "x", "keeper.no_dump"},
		"no dump's id": {"../x", "x", "keeper.no_dump"},
		"newer form":   {change(func(d *Dump) { d.Format = 2 }), "x", "repo.newer"},
	} {
		if _, err := RestoreDump(t.Context(), r, s, c.id, RestoreOptions{Cluster: "main", As: c.as}); !fault.HasKey(err, c.key) {
			t.Errorf("%s: %v, not %s", name, err, c.key)
		}
	}
	if after := ask[string](t, s, "", "SELECT datname FROM pg_database ORDER BY 1"); !slices.Equal(before, after) {
		t.Errorf("there are %v, and were %v", after, before)
	}
	for name, c := range map[string]struct {
		s   Server
		opt DumpOptions
		key string
	}{
		"no database":  {s, DumpOptions{Cluster: "main", Databases: []string{"nothing"}}, "keeper.no_database"},
		"no form":      {s, DumpOptions{Cluster: "main", Form: "tape"}, "keeper.dump_form"},
		"old programs": {Server{DSN: s.DSN, Programs: cluster.Installation{Version: cluster.Version{Major: 9}}}, DumpOptions{Cluster: "main"}, "keeper.programs_old"},
		"no programs":  {Server{DSN: s.DSN, Programs: cluster.Installation{Bin: t.TempDir(), Version: s.Programs.Version}}, DumpOptions{Cluster: "main"}, "keeper.no_program"},
		"nobody there": {Server{DSN: "postgres://postgres@127.0.0.1:1/postgres", Programs: s.Programs}, DumpOptions{Cluster: "main"}, "keeper.no_connection"},
		"no address":   {Server{DSN: "postgres://%%%", Programs: s.Programs}, DumpOptions{Cluster: "main"}, "keeper.dsn"},
	} {
		if _, err := TakeDump(t.Context(), r, c.s, c.opt); !fault.HasKey(err, c.key) {
			t.Errorf("%s: %v, not %s", name, err, c.key)
		}
	}
}

func TestARestoreThatFailsLeavesNothing(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	makeShop(t, s, "shop")
	for _, form := range []Form{Custom, Plain, Directory} {
		dir := filepath.Join(t.TempDir(), "repo")
		r, err := repo.Open(t.Context(), dir, repo.Options{Create: true})
		if err != nil {
			t.Fatal(err)
		}
		d, err := TakeDump(t.Context(), r, s, DumpOptions{Cluster: "main", Databases: []string{"shop"}, Form: form})
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, "main", "dump", d.ID, d.Parts[0].Object)
		whole, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for what, broken := range map[string][]byte{
			"flipped": append(append(bytes.Clone(whole[:len(whole)/2]), whole[len(whole)/2]^1), whole[len(whole)/2+1:]...),
			"cut":     whole[:len(whole)*2/3],
			"empty":   {},
		} {
			if err := os.WriteFile(path, broken, 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := RestoreDump(t.Context(), r, s, d.ID, RestoreOptions{Cluster: "main", As: "broken"})
			if !fault.HasKey(err, "repo.damaged") {
				t.Errorf("%s, %s: %v", form, what, err)
			}
			if err := verifyDump(t.Context(), r, d); !fault.HasKey(err, "repo.damaged") {
				t.Errorf("verify %s, %s: %v", form, what, err)
			}
		}
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		if _, err := RestoreDump(t.Context(), r, s, d.ID, RestoreOptions{Cluster: "main", As: "broken"}); !fault.HasKey(err, "repo.damaged") {
			t.Errorf("%s, missing: %v", form, err)
		}
	}
	// Rows that do not go in any more: a check that knows the name of the database.
	r := dumpRepo(t, repo.Options{})
	do(t, s, "", "CREATE DATABASE clash")
	do(t, s, "clash", "CREATE FUNCTION f(int) RETURNS bool IMMUTABLE LANGUAGE sql AS $$ SELECT current_database() = 'clash' $$",
		"CREATE TABLE a (n int CHECK (f(n)))", "INSERT INTO a VALUES (1)")
	for _, form := range []Form{Custom, Plain, Directory} {
		d, err := TakeDump(t.Context(), r, s, DumpOptions{Cluster: "main", Databases: []string{"clash"}, Form: form})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := RestoreDump(t.Context(), r, s, d.ID, RestoreOptions{Cluster: "main", As: "broken"}); !fault.HasKey(err, "keeper.restore_failed") ||
			!strings.Contains(fmt.Sprint(fault.Of(err).Args["said"]), "ERROR") {
			t.Errorf("%s: %v", form, err)
		}
	}
	// One that is under way is let be, also by those who are in another database.
	under, err := s.connect(t.Context(), "shop")
	if err != nil {
		t.Fatal(err)
	}
	name, err := holdName(t.Context(), under)
	if err != nil {
		t.Fatal(err)
	}
	do(t, s, "", "CREATE DATABASE "+quote(name))
	sweep := func() []string {
		t.Helper()
		conn, err := s.connect(t.Context(), "")
		if err == nil {
			err = errors.Join(sweepRestores(t.Context(), conn), conn.Close(t.Context()))
		}
		if err != nil {
			t.Fatal(err)
		}
		return ask[string](t, s, "", "SELECT datname FROM pg_database WHERE starts_with(datname, $1)", restoringPrefix)
	}
	if left := sweep(); !slices.Equal(left, []string{name}) {
		t.Errorf("the database of a restore under way: %v", left)
	}
	// A database that somebody has half dropped keeps no others from being dumped.
	do(t, s, "", "CREATE DATABASE half", "UPDATE pg_database SET datconnlimit = -2 WHERE datname = 'half'")
	if d, err := TakeDump(t.Context(), r, s, DumpOptions{Cluster: "main"}); err != nil || slices.ContainsFunc(d.Parts, func(p Part) bool { return p.Database.Name == "half" }) {
		t.Errorf("%+v, %v", d, err)
	}
	if err := under.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	awaitNobody(t, s)
	sweep()
	if got := ask[string](t, s, "", "SELECT datname FROM pg_database WHERE datname = 'broken' OR starts_with(datname, $1)", restoringPrefix); len(got) > 0 {
		t.Errorf("left behind: %v", got)
	}
}

func TestNoSecretIsOnACommandLine(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	do(t, s, "", "CREATE DATABASE locked")
	// A partitioned table: pg_dump waits for it, and the estimate of the size, which looks at those with data, does not.
	do(t, s, "locked", "CREATE TABLE t (n int) PARTITION BY LIST (n)")
	password := ""
	if values, err := parseDSN(s.DSN); err != nil || values["password"] == "" {
		t.Fatal("the DSN of a scratch cluster has no password: ", err)
	} else {
		password = values["password"]
	}
	conn, err := s.connect(t.Context(), "locked")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	if _, err := conn.Exec(t.Context(), "BEGIN; LOCK TABLE t"); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	r := dumpRepo(t, repo.Options{})
	go func() {
		_, err := TakeDump(t.Context(), r, s, DumpOptions{Cluster: "main", Databases: []string{"locked"}})
		done <- err
	}()
	again := time.NewTicker(20 * time.Millisecond)
	defer again.Stop()
	seen := false
	for deadline := time.Now().Add(3 * time.Minute); !seen && time.Now().Before(deadline); <-again.C {
		select {
		case err := <-done:
			t.Fatalf("it ended before the table was let go: %v", err)
		default:
		}
		lines, _ := filepath.Glob("/proc/[0-9]*/cmdline")
		for _, path := range lines {
			line, _ := os.ReadFile(path)
			if bytes.Contains(line, []byte(password)) {
				t.Errorf("%s: %q", path, line)
			}
			seen = seen || bytes.Contains(line, []byte("pg_dump")) && bytes.Contains(line, []byte("dbname='locked'"))
		}
	}
	if !seen {
		t.Error("pg_dump was never seen")
	}
	if _, err := conn.Exec(t.Context(), "COMMIT"); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// verifyDump reads every byte of a logical backup and compares it with the manifest.
func verifyDump(ctx context.Context, r *repo.Repo, d Dump) error {
	for _, p := range d.Parts {
		src, err := openPart(ctx, r, "main", d, p)
		if err != nil {
			return err
		}
		if err = errors.Join(src.drain(), src.Close()); err != nil {
			return err
		}
	}
	return nil
}
