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
