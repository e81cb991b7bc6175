package check_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"howdah/internal/audit/check"
	"howdah/internal/audit/cover"
	"howdah/internal/cluster"
	"howdah/internal/fault"
	"howdah/internal/lang"
)

// house is a real PostgreSQL that is checked and mended as a person would.
type house struct {
	*cluster.Scratch
	t *testing.T
}

func (h *house) ways(roles ...string) (ways []check.Way) {
	for _, role := range roles {
		ways = append(ways, func(database string) (string, error) { return h.DSN(role, database) })
	}
	return ways
}

func (h *house) look(o check.Options) *check.Report {
	h.t.Helper()
	if o.Ways == nil {
		o.Ways = h.ways(cluster.Watcher, cluster.Superuser)
	}
	o.Files = true
	r, err := check.Run(h.t.Context(), o)
	if err != nil {
		h.t.Fatal(err)
	}
	for i, f := range r.Findings {
		if slices.ContainsFunc(r.Findings[:i], func(g check.Finding) bool { return g.ID == f.ID }) {
			h.t.Errorf("%s is there twice", f.ID)
		}
		if len(f.Names) == 0 || len(f.Mend) == 0 {
			h.t.Errorf("%s: nothing is named, or nothing mends it: %+v", f.ID, f)
		}
	}
	return r
}

func ids(r *check.Report) (all []string) {
	for _, f := range r.Findings {
		all = append(all, f.ID)
	}
	return all
}

// do runs statements as the superuser, each for itself.
func (h *house) do(database string, statements ...string) {
	h.t.Helper()
	dsn, err := h.DSN(cluster.Superuser, database)
	if err != nil {
		h.t.Fatal(err)
	}
	conn, err := pgx.Connect(h.t.Context(), dsn)
	if err != nil {
		h.t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(h.t.Context()))
	for _, sql := range statements {
		if _, err := conn.Exec(h.t.Context(), sql, pgx.QueryExecModeSimpleProtocol); err != nil {
			h.t.Fatalf("%s: %v", sql, err)
		}
	}
}

func (h *house) run(stdin string, program string, args ...string) {
	h.t.Helper()
	if setsid, err := exec.LookPath("setsid"); err == nil { // psql would ask for passwords at the terminal of whoever runs the tests
		program, args = setsid, append([]string{"--wait", program}, args...)
	}
	cmd := exec.CommandContext(h.t.Context(), program, args...)
	cmd.Stdin = strings.NewReader(stdin)
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Run(); err != nil {
		h.t.Fatalf("%s %q %s: %v\n%s", program, args, stdin, err, said.String())
	}
}

// mend types what a finding says, and tells whether PostgreSQL is to be restarted.
func (h *house) mend(f check.Finding) (restart bool) {
	h.t.Helper()
	dsn, err := h.DSN(cluster.Superuser, "postgres")
	if err != nil {
		h.t.Fatal(err)
	}
	for _, s := range f.Mend {
		switch {
		case s.SQL != "":
			typed := s.SQL + "\n"
			if s.Database != "" {
				typed = `\connect ` + pgx.Identifier{s.Database}.Sanitize() + "\n" + typed
			}
			if strings.HasPrefix(s.SQL, `\password`) {
				typed += "Quite-a-good-0ne\nQuite-a-good-0ne\n"
			}
			h.run(typed, h.Installation().Program("psql"), "-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", dsn)
		case s.Shell != "":
			if s.Down {
				if err := h.Stop(h.t.Context(), cluster.Fast); err != nil {
					h.t.Fatal(err)
				}
			}
			h.run("", "sh", "-c", s.Shell)
			h.own()
			if s.Down {
				if err := h.Start(h.t.Context()); err != nil {
					h.t.Fatal(err)
				}
			}
		case s.File != "":
			raw, err := os.ReadFile(s.File)
			if err != nil {
				h.t.Fatal(err)
			}
			lines := strings.Split(string(raw), "\n")
			lines[s.Line-1] = s.Text
			if err := os.WriteFile(s.File, []byte(strings.Join(lines, "\n")), 0o600); err != nil {
				h.t.Fatal(err)
			}
		case s.Restart:
			restart = true
		}
	}
	return restart
}

// own gives what we, perhaps as root, made among PostgreSQL's files to its account.
func (h *house) own() {
	h.t.Helper()
	h.run("", "sh", "-c", `chown -R --reference "$0"/PG_VERSION "$0"`, h.DataDir())
}

func (h *house) restart() {
	h.t.Helper()
	if err := h.Restart(h.t.Context()); err != nil {
		h.t.Fatal(err)
	}
}

// gone waits until none of the findings is there: what a reload changes counts a moment later.
func (h *house) gone(mended []string) {
	h.t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(5 * time.Minute); ; <-tick.C {
		r := h.look(check.Options{Only: mended, Triggers: true})
		left := slices.DeleteFunc(ids(r), func(id string) bool { return !slices.Contains(mended, id) })
		if len(left) == 0 {
			return
		}
		if time.Now().After(end) {
			raw, _ := json.MarshalIndent(r.Findings, "", " ")
			h.t.Fatalf("what was typed to mend %q did not: %s", left, raw)
		}
	}
}

// TestAHouseIsSoundAndWhatIsWrongIsMendedAsItSays: a new cluster of ours has no finding at all. Then everything is made wrong; each thing is found, and what the finding says, typed as it stands there, mends it.
func TestAHouseIsSoundAndWhatIsWrongIsMendedAsItSays(t *testing.T) {
	t.Parallel()
	s, err := cluster.NewScratch(t.Context(), cluster.ScratchOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	if !s.Installation().PgAudit {
		t.Skip("pgAudit is not installed")
	}
	h := &house{s, t}
	if _, err := cover.Apply(t.Context(), cover.Options{Scope: cover.Default, Database: cluster.Database, App: cluster.App, Watcher: cluster.Watcher, Auditor: cluster.Auditor, Ours: cluster.ConfName,
		DSN: func(database string) (string, error) { return s.DSN(cluster.Superuser, database) }}); err != nil {
		t.Fatal(err)
	}
	h.gone(check.IDs()) // of weight or not
	if _, err := check.Run(t.Context(), check.Options{Only: []string{"role.nobody"}}); !fault.HasKey(err, "check.unknown") {
		t.Errorf("a check that there is not: %v", err)
	}
	sessions := 0
	if r := h.look(check.Options{Begun: func(string) error { sessions++; return nil }}); len(r.Unseen) > 0 || !r.Well() || !r.Audited || sessions == 0 {
		t.Errorf("a new house: %+v, %d sessions", r, sessions)
	}
	// Who may see less is told what was not looked at.
	little := h.look(check.Options{Ways: h.ways(cluster.Watcher)})
	var unseen []string
	for _, u := range little.Unseen {
		if u.Why == "" {
			t.Errorf("%+v: why?", u)
		}
		unseen = append(unseen, strings.TrimPrefix(u.Database+" "+u.ID, " "))
	}
	if want := []string{"password.md5", "password.none", "template1 "}; len(little.Findings) > 0 || slices.ContainsFunc(want, func(id string) bool { return !slices.Contains(unseen, id) }) {
		t.Errorf("seen by %s: %q, %+v", cluster.Watcher, unseen, little.Findings)
	}

	h.do("postgres", "CREATE ROLE bob NOLOGIN", "CREATE ROLE boss SUPERUSER", "CREATE ROLE maker CREATEROLE", "CREATE ROLE passer BYPASSRLS", "GRANT pg_read_server_files TO bob", "CREATE ROLE copier REPLICATION CREATEDB",
		"GRANT SET ON PARAMETER log_min_messages TO bob", "CREATE ROLE old LOGIN PASSWORD 'x' VALID UNTIL '2020-01-01'", "CREATE ROLE bare LOGIN", "SET password_encryption = 'md5'", "CREATE ROLE \"Hash ed\" LOGIN PASSWORD 'x'",
		"ALTER ROLE bob SET pgaudit.log = 'none'", "ALTER ROLE bob IN DATABASE postgres SET session_preload_libraries = 'passwordcheck'", `CREATE DATABASE "od d"`, "GRANT CREATE ON DATABASE howdah TO PUBLIC")
	h.do("howdah", "GRANT CREATE ON SCHEMA public TO PUBLIC", "CREATE TABLE notes (a int)", "GRANT INSERT, DELETE ON notes TO PUBLIC", "GRANT SELECT ON pg_shadow TO bob", "GRANT EXECUTE ON FUNCTION pg_read_file(text) TO bob",
		"CREATE FUNCTION risky(a int) RETURNS int LANGUAGE sql SECURITY DEFINER AS 'SELECT 1'", "CREATE FUNCTION handle() RETURNS language_handler LANGUAGE c AS '$libdir/plpgsql', 'plpgsql_call_handler'", "CREATE LANGUAGE wild HANDLER handle",
		"CREATE FUNCTION native() RETURNS trigger LANGUAGE c AS '$libdir/refint', 'check_primary_key'", "CREATE EXTENSION dblink",
		"CREATE FUNCTION watching() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END'", "CREATE EVENT TRIGGER everywhere ON ddl_command_end EXECUTE FUNCTION watching()")
	for name, value := range map[string]string{"pgaudit.log": "none", "pgaudit.log_level": "debug1", "pgaudit.role": "", "logging_collector": "off", "log_destination": "stderr", "log_min_messages": "panic", "log_connections": "off",
		"log_error_verbosity": "terse", "track_commit_timestamp": "off", "log_timezone": "Asia/Taipei", "password_encryption": "md5", "log_file_mode": "0644", "log_statement": "none", "log_min_error_statement": "panic",
		"session_preload_libraries": "passwordcheck", "allow_system_table_mods": "on", "shared_preload_libraries": "pg_stat_statements", "listen_addresses": "*", "port": freePort(t), "ssl_min_protocol_version": "TLSv1"} {
		h.do("postgres", fmt.Sprintf("ALTER SYSTEM SET %s = '%s'", name, value))
	}
	hba := filepath.Join(h.DataDir(), "pg_hba.conf")
	raw, err := os.ReadFile(hba)
	if err != nil {
		t.Fatal(err)
	}
	raw = append(raw, "host all bob 10.0.0.1/32 trust\nhost \"od d\" +bob 0.0.0.0/0 scram-sha-256\nhost all \"Hash ed\" 10.0.0.2/32 md5\n"...)
	if err := os.WriteFile(hba, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := h.Stop(t.Context(), cluster.Fast); err != nil {
		t.Fatal(err)
	}
	h.run("", h.Installation().Program("pg_checksums"), "--disable", "--pgdata", h.DataDir())
	h.own()
	if err := os.Chmod(h.DataDir(), 0o750); err != nil { //nolint:gosec // what is to be found
		t.Fatal(err)
	}
	if err := h.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	raw = append(raw, "host all all nonsense\n"...) // with this line it would not have started
	if err := os.WriteFile(hba, raw, 0o600); err != nil {
		t.Fatal(err)
	}

	// Some things are seen only when others are mended: how pgAudit is set when it is loaded, who needs no TLS where there is any.
	found := map[string]bool{}
	for round := 0; ; round++ {
		r := h.look(check.Options{Triggers: true})
		if len(r.Unseen) > 0 {
			t.Errorf("not looked at: %+v", r.Unseen)
		}
		if round == 1 && !found["watch.log_file"] {
			var log string
			dsn, err := h.DSN(cluster.Superuser, "postgres")
			if err != nil {
				t.Fatal(err)
			}
			conn, err := pgx.Connect(t.Context(), dsn)
			if err != nil {
				t.Fatal(err)
			}
			err = conn.QueryRow(t.Context(), "SELECT pg_current_logfile('jsonlog')").Scan(&log)
			_ = conn.Close(t.Context())
			if err == nil {
				err = os.Remove(filepath.Join(h.DataDir(), log))
			}
			if err != nil {
				t.Fatal(err)
			}
			r = h.look(check.Options{Triggers: true})
		}
		if len(r.Findings) == 0 {
			break
		}
		if round == 6 {
			t.Fatalf("it does not end: %q", ids(r))
		}
		for _, f := range r.Findings {
			if found[f.ID] {
				t.Errorf("%s was mended and came back: %q", f.ID, f.Names)
			}
			found[f.ID] = true
			if h.mend(f) {
				h.restart()
			}
			h.gone([]string{f.ID})
		}
	}
	for _, id := range check.IDs() {
		if !found[id] && id != "watch.language" { // it wants a language of messages that this machine need not have
			t.Errorf("%s was not found", id)
		}
	}
}

// freePort is one that no connection of anybody's gets by chance.
func freePort(t *testing.T) string {
	t.Helper()
	for range 100 {
		port := fmt.Sprint(11000 + rand.IntN(20000))
		if l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", ":"+port); err == nil {
			_ = l.Close()
			return port
		}
	}
	t.Fatal("no port is free")
	return ""
}

// TestEveryCheckSaysWhatItFindsAndWhy: in both languages.
func TestEveryCheckSaysWhatItFindsAndWhy(t *testing.T) {
	t.Parallel()
	for _, l := range []lang.Locale{lang.English, lang.Match("zh-TW")} {
		texts := l.Under("check.")
		for _, what := range check.Without {
			if texts["without."+what] == nil {
				t.Errorf("%s: there is no text for %s", l, what)
			}
		}
		for _, id := range check.IDs() {
			if texts[id] == nil || texts[id+".why"] == nil {
				t.Errorf("%s: there is no text for %s", l, id)
			}
		}
	}
}
