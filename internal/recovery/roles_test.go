//go:build unix

package recovery_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"howdah/internal/fault"
	"howdah/internal/keeper"
	"howdah/internal/recovery"
)

const staff = `
CREATE ROLE team; CREATE ROLE boss LOGIN; CREATE ROLE "Ann 大" LOGIN CREATEDB PASSWORD 'not to be seen' CONNECTION LIMIT 3 VALID UNTIL '2031-01-01 00:00:00+00';
COMMENT ON ROLE "Ann 大" IS 'knows it all';
ALTER ROLE "Ann 大" SET search_path = shop, "$user", public; ALTER ROLE "Ann 大" IN DATABASE postgres SET statement_timeout = '7min'; ALTER ROLE "Ann 大" SET "my.own" = 'a=b, c';
GRANT team TO "Ann 大" WITH ADMIN OPTION; GRANT "Ann 大" TO boss;
CREATE SCHEMA shop AUTHORIZATION "Ann 大"; CREATE TABLE public.busy (n bigint PRIMARY KEY);
CREATE TABLE shop.own (id int GENERATED ALWAYS AS IDENTITY, t text); ALTER TABLE shop.own OWNER TO "Ann 大";
CREATE TABLE shop.t (id int, "c 1" text);
GRANT SELECT ON shop.t TO "Ann 大" WITH GRANT OPTION; GRANT UPDATE ("c 1") ON shop.t TO "Ann 大"; GRANT INSERT ON shop.t TO team;
SET SESSION AUTHORIZATION "Ann 大"; GRANT SELECT ON shop.t TO boss; RESET SESSION AUTHORIZATION;
CREATE FUNCTION shop.f(a int, b text) RETURNS int LANGUAGE sql AS 'SELECT 1'; REVOKE EXECUTE ON FUNCTION shop.f FROM public; GRANT EXECUTE ON FUNCTION shop.f TO "Ann 大", team;
CREATE TYPE shop.kind AS ENUM ('a'); ALTER TYPE shop.kind OWNER TO "Ann 大";
ALTER DEFAULT PRIVILEGES FOR ROLE "Ann 大" IN SCHEMA shop GRANT SELECT ON TABLES TO team WITH GRANT OPTION; ALTER DEFAULT PRIVILEGES FOR ROLE boss GRANT USAGE ON SEQUENCES TO "Ann 大";
SELECT lo_create(4711), lo_create(4712); GRANT SELECT ON LARGE OBJECT 4711 TO "Ann 大"; ALTER LARGE OBJECT 4712 OWNER TO "Ann 大";
GRANT CONNECT, TEMPORARY ON DATABASE postgres TO "Ann 大"; GRANT SET ON PARAMETER work_mem TO "Ann 大"`

// TestRolesAndRightsComeBack: somebody drops a role with all that it might do and owned, and takes rights from others. All of it comes back, the password too, which nobody sees on the way,
// and is taken back again.
func TestRolesAndRightsComeBack(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	for sql := range strings.SplitSeq(staff, ";\n") {
		s.exec(sql)
	}
	secret := s.ask(`SELECT rolpassword FROM pg_authid WHERE rolname = 'Ann 大'`)
	s.exec(`ALTER SYSTEM SET log_statement = 'all'`, `ALTER SYSTEM SET log_min_duration_statement = 0`, `SELECT pg_reload_conf()`)
	s.exec(`CREATE DATABASE "Shop 店" OWNER boss CONNECTION LIMIT 17`, `ALTER DATABASE "Shop 店" SET search_path = a, "b c"`, `ALTER ROLE boss IN DATABASE "Shop 店" SET work_mem = '5MB'`,
		`REVOKE TEMPORARY ON DATABASE "Shop 店" FROM public`, `GRANT CONNECT ON DATABASE "Shop 店" TO team`, `COMMENT ON DATABASE "Shop 店" IS 'what''s sold'`)
	inside, err := s.DSN("postgres", "Shop 店")
	if err != nil {
		t.Fatal(err)
	}
	conn, err := pgx.Connect(t.Context(), inside)
	if err == nil {
		_, err = conn.Exec(t.Context(), `CREATE TABLE public.t AS SELECT g AS id, repeat(md5(g::text), 20) AS text FROM generate_series(1, 5000) g; ALTER TABLE public.t ADD PRIMARY KEY (id); SELECT lo_from_bytea(0, 'large')`)
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := conn.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := keeper.TakeBase(t.Context(), s.repo, keeper.BaseOptions{Cluster: "main", DSN: s.dsn("replicator")}); err != nil {
		t.Fatal(err)
	}
	s.give(s.place.Address)
	write := s.writer()
	state := func() []string {
		t.Helper()
		out, err := exec.CommandContext(t.Context(), s.Installation().Program("pg_dumpall"), "--globals-only", "--dbname="+s.dsn("postgres")).Output()
		if err != nil {
			t.Fatal(err)
		}
		var all []string
		for line := range strings.Lines(string(out) + s.definition()) {
			if !strings.HasPrefix(line, `\`) && !strings.HasPrefix(line, "--") {
				all = append(all, line)
			}
		}
		slices.Sort(all) // rights stand in the order in which they were given
		all = append(all, s.ask(`SELECT string_agg(lo.oid || lomowner::regrole::text || coalesce(rights, ''), ' ' ORDER BY lo.oid) FROM pg_largeobject_metadata lo,
			LATERAL (SELECT string_agg(grantee::regrole::text || privilege_type, ' ' ORDER BY grantee::regrole::text, privilege_type) AS rights FROM aclexplode(lomacl) a) r`))
		return append(all, s.ask(`SELECT rolpassword FROM pg_authid WHERE rolname IN ('Ann 大', 'postgres') ORDER BY rolname LIMIT 1`), s.ask(`SELECT coalesce(string_agg(d::text, ' ' ORDER BY d::text), '') FROM (SELECT datname, datacl::text FROM pg_database) d`))
	}
	same := func(what string, have, want []string) {
		t.Helper()
		if h, w := strings.Join(have, ""), strings.Join(want, ""); h != w {
			t.Fatalf("%s: is\n%s\nand should be\n%s", what, differing(h, w), differing(w, h))
		}
	}
	before := state()
	xid := s.accident(`REVOKE INSERT ON shop.t FROM team`, `REVOKE EXECUTE ON FUNCTION shop.f(int, text) FROM team`, `REASSIGN OWNED BY "Ann 大" TO postgres`, `DROP OWNED BY "Ann 大"`, `DROP ROLE "Ann 大"`)
	after := state()
	past := s.past(xid)
	if past.Rounds != 1 {
		t.Errorf("the catalogs came back in %d rounds", past.Rounds)
	}

	apply := func(o recovery.Options) (*recovery.Done, error) {
		o.Live, o.Database, o.Now = s.live(), "postgres", time.Now()
		return recovery.Apply(t.Context(), past, o)
	}
	args := "integer, text"
	role := recovery.Options{Mode: recovery.Roles, Selected: recovery.Selected{Roles: []string{"Ann 大"}}}
	grants := recovery.Options{Mode: recovery.Grants, Selected: recovery.Selected{On: []keeper.ObjectName{{Schema: "shop", Name: "t"}, {Schema: "shop", Name: "f", Args: &args}}}}
	if _, err := apply(recovery.Options{Mode: recovery.Roles, Selected: recovery.Selected{Roles: []string{"nobody"}}}); !fault.HasKey(err, "recovery.no_role") {
		t.Errorf("a role that never was: %v", err)
	}
	both := func() (all []*recovery.Done) {
		t.Helper()
		for _, o := range []recovery.Options{role, grants} {
			look := o
			look.Look = true
			shown, err := apply(look)
			if err != nil {
				t.Fatalf("%s: %v", o.Mode, err)
			}
			done, err := apply(o)
			if err != nil {
				t.Fatalf("%s: %v", o.Mode, err)
			}
			if len(done.Left) != 0 || len(done.Rights) == 0 || len(done.Rights) != len(shown.Rights) {
				t.Errorf("%s: %+v", o.Mode, done)
			}
			raw, err := json.Marshal(done)
			if err != nil || strings.Contains(string(raw), secret) {
				t.Errorf("what it says: %s, %v", raw, err)
			}
			all = append(all, done)
		}
		return all
	}
	for _, done := range slices.Backward(both()) {
		if _, err := recovery.Undo(t.Context(), s.live(), "postgres", done.ID); err != nil {
			t.Fatalf("%s: %v\n%s", done.Mode, err, strings.Join(done.Undo, "\n"))
		}
	}
	same("taken back", state(), after)
	for _, done := range both() {
		s.exec(`DROP SCHEMA ` + done.Schema())
	}
	same("back", state(), before)
	if _, err := apply(role); !fault.HasKey(err, "recovery.nothing_lost") {
		t.Errorf("a role that is as it was: %v", err)
	}

	// One that is there gets back what was changed, but for its password.
	s.exec(`ALTER ROLE "Ann 大" SUPERUSER PASSWORD 'mine now' CONNECTION LIMIT -1`, `REVOKE team FROM "Ann 大" CASCADE`, `REVOKE SELECT ON shop.t FROM "Ann 大" CASCADE`)
	password := s.ask(`SELECT rolpassword FROM pg_authid WHERE rolname = 'Ann 大'`)
	done, err := apply(role)
	if err != nil {
		t.Fatal(err)
	}
	s.exec(`ALTER ROLE "Ann 大" NOCREATEDB`)
	if _, err := recovery.Undo(t.Context(), s.live(), "postgres", done.ID); !fault.HasKey(err, "recovery.redefined") {
		t.Errorf("taken back, though somebody has changed the role since: %v", err)
	}
	s.exec(`DROP SCHEMA ` + done.Schema())
	if s.ask(`SELECT rolpassword FROM pg_authid WHERE rolname = 'Ann 大'`) != password {
		t.Error("the password of a role that is there was changed")
	}
	if _, err := apply(recovery.Options{Mode: recovery.Grants, Selected: recovery.Selected{Schemas: []string{"shop"}}}); err == nil || !fault.HasKey(err, "recovery.nothing_lost") {
		t.Errorf("rights in the schema: %v", err)
	}
	if err := past.Close(t.Context()); err != nil {
		t.Error(err)
	}

	write()
	s.database()

	// The verifier stands in no log, whatever is logged.
	files, err := filepath.Glob(filepath.Join(s.LogDir(), "*"))
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	seen := false
	for _, name := range files {
		raw, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		seen = seen || strings.Contains(string(raw), `CREATE ROLE \"Ann 大\"`)
		if strings.Contains(string(raw), secret) {
			t.Errorf("%s has the verifier", name)
		}
	}
	if !seen {
		t.Error("the log does not have what was done")
	}
}

// database has a database dropped and brought back, by the command, which is killed at first.
func (s *shop) database() {
	s.Helper()
	state := func() string {
		s.Helper()
		dsn, err := s.DSN("postgres", "Shop 店")
		if err != nil {
			s.Fatal(err)
		}
		out, err := exec.CommandContext(s.Context(), s.Installation().Program("pg_dump"), "--create", "--dbname="+dsn).Output()
		if err != nil {
			s.Fatal(err)
		}
		return strings.Join(slices.DeleteFunc(strings.SplitAfter(string(out), "\n"), func(line string) bool { return strings.HasPrefix(line, `\`) && !strings.HasPrefix(line, `\.`) }), "")
	}
	before := state()
	s.exec(`SELECT pg_create_restore_point('before the drop')`, `DROP DATABASE "Shop 店" WITH (FORCE)`)
	s.archive() // has what is written by now
	scratch := filepath.Join(s.dir, "scratch")
	run := func(args ...string) *exec.Cmd {
		args = append(args, "--admin-dsn", s.dsn("postgres"), "--repo", s.place.Address, "--data", filepath.Join(s.dir, "no-house"), "--pg-bin", s.Installation().Bin, "--scratch", scratch)
		cmd := exec.CommandContext(s.Context(), s.program, args...)
		cmd.Env, cmd.Dir = []string{"PATH=" + os.Getenv("PATH"), "LANG=C", "HOME=" + s.dir}, s.dir
		return cmd
	}
	// It cannot come to its end: the comment on the database waits.
	hold, err := s.connect().Begin(s.Context())
	if err == nil {
		_, err = hold.Exec(s.Context(), `LOCK TABLE pg_catalog.pg_shdescription IN EXCLUSIVE MODE`)
	}
	if err != nil {
		s.Fatal(err)
	}
	killed := run("recover", "database", "Shop 店", "--name", "before the drop", "--yes")
	var words strings.Builder
	killed.Stdout, killed.Stderr = &words, &words
	if err := killed.Start(); err != nil {
		s.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- killed.Wait() }()
	again := time.NewTicker(5 * time.Millisecond)
	defer again.Stop()
	for s.ask(`SELECT count(*)::text FROM pg_database WHERE datname LIKE 'recovered%'`) == "0" {
		select {
		case err := <-ended:
			s.Fatalf("it ended before it was killed: %v\n%s", err, words.String())
		case <-again.C:
		}
	}
	if err := killed.Process.Kill(); err != nil {
		s.Fatal(err)
	}
	<-ended
	if err := hold.Rollback(s.Context()); err != nil {
		s.Fatal(err)
	}
	for s.ask(`SELECT count(*)::text FROM pg_locks WHERE locktype = 'advisory'`) != "0" { // its session ends with it, not before
		<-again.C
	}
	if s.ask(`SELECT count(*)::text FROM pg_database WHERE datname = 'Shop 店'`) != "0" {
		s.Fatal("a database that is not whole has its name")
	}
	out, err := run("recover", "database", "Shop 店", "--name", "before the drop", "--yes").CombinedOutput()
	if err != nil {
		s.Fatalf("%v\n%s", err, out)
	}
	if have := state(); have != before {
		s.Errorf("the database is\n%s\nand was\n%s\n%s", differing(have, before), differing(before, have), out)
	}
	if s.ask(`SELECT coalesce(string_agg(datname, ' '), '') FROM pg_database WHERE datname LIKE 'recovered%'`) != "" {
		s.Error("a half-filled database is left")
	}
	if _, err := recovery.RestoreDatabase(s.Context(), nil, &recovery.DatabaseThen{Name: "Shop 店"}, recovery.Options{Live: s.live(), Now: time.Now(), Look: true}); !fault.HasKey(err, "recovery.database_there") {
		s.Errorf("one that is there: %v", err)
	}
	if out, err := run("recover", "undo", "--last", "--db", "postgres").CombinedOutput(); err != nil || s.ask(`SELECT count(*)::text FROM pg_database WHERE datname = 'Shop 店'`) != "0" {
		s.Errorf("taken back: %v\n%s", err, out)
	}
	s.empty(scratch)
}
