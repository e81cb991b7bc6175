package doctor_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"howdah/internal/alert"
	"howdah/internal/cluster"
	"howdah/internal/doctor"
	"howdah/internal/fault"
	"howdah/internal/keeper"
	"howdah/internal/lang"
	"howdah/internal/mail"
	"howdah/internal/mail/mailtest"
	"howdah/internal/openid"
)

// patient is a real PostgreSQL that things are done to.
type patient struct {
	*cluster.Scratch
	t *testing.T
	o doctor.Options
}

func (p *patient) look(only string) *doctor.Report {
	p.t.Helper()
	o := p.o
	o.Cluster = p.Cluster
	o.Only = strings.Fields(only)
	r, err := doctor.Look(p.t.Context(), o)
	if err != nil {
		p.t.Fatal(err)
	}
	for _, u := range r.Unseen {
		p.t.Errorf("%s was not looked at: %v", u.Check, u.Fault)
	}
	for _, f := range r.Findings {
		for _, l := range lang.Locales {
			if message, hint := l.Fault(f.Fault); f.Audit == nil && (message == "" || hint == "" || strings.Contains(message, "{") || strings.Contains(message, f.Fault.Key)) {
				p.t.Errorf("%s has no texts in %s: %q, %q", f.Fault.Key, l, message, hint)
			}
		}
	}
	return r
}

func named(r *doctor.Report, key string) *doctor.Finding {
	at := slices.IndexFunc(r.Findings, func(f doctor.Finding) bool { return f.Fault.Key == key || f.Audit != nil && f.Audit.ID == key })
	if at < 0 {
		return nil
	}
	return &r.Findings[at]
}

// await looks until something is found, or is not found any more: PostgreSQL takes a moment to read its settings again.
func (p *patient) await(check, key string, found bool) *doctor.Finding {
	p.t.Helper()
	again := time.NewTicker(50 * time.Millisecond)
	defer again.Stop()
	late := time.After(5 * time.Minute)
	for {
		r := p.look(check)
		f := named(r, key)
		if (f != nil) == found {
			return f
		}
		select {
		case <-again.C:
		case <-late:
			p.t.Fatalf("%s: found is not %t: %+v", key, found, r.Findings)
		}
	}
}

func (p *patient) sql(database string, statements ...string) {
	p.t.Helper()
	dsn, err := p.DSN(cluster.Superuser, database)
	if err != nil {
		p.t.Fatal(err)
	}
	conn, err := pgx.Connect(p.t.Context(), dsn)
	if err != nil {
		p.t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(p.t.Context())) //nolint:errcheck // it is over
	for _, statement := range statements {
		if _, err := conn.Exec(p.t.Context(), statement); err != nil {
			p.t.Fatalf("%s: %v", statement, err)
		}
	}
}

// treat does what the finding says.
func (p *patient) treat(f *doctor.Finding) {
	p.t.Helper()
	if len(f.Mend) == 0 {
		p.t.Fatalf("nothing mends %s", f.Fault.Key)
	}
	for _, step := range f.Mend {
		switch {
		case step.SQL != "":
			p.sql(step.Database, step.SQL)
		case step.Restart:
			if _, running := p.Running(); running {
				if err := p.Restart(p.t.Context()); err != nil {
					p.t.Fatal(err)
				}
				break
			}
			fallthrough // it was stopped for what came before: howdah up starts it so
		case step.Down:
			if step.Shell != "" {
				if err := p.Stop(p.t.Context(), cluster.Fast); err != nil {
					p.t.Fatal(err)
				}
				p.shell(step.Shell)
				break
			}
			if _, err := p.NewPasswords(p.t.Context()); err != nil {
				p.t.Fatal(err)
			}
			if err := p.Start(p.t.Context()); err != nil {
				p.t.Fatal(err)
			}
		case step.Shell != "":
			p.shell(step.Shell)
		}
	}
}

func (p *patient) shell(command string) {
	p.t.Helper()
	if out, err := exec.CommandContext(p.t.Context(), "sh", "-c", command).CombinedOutput(); err != nil {
		p.t.Fatalf("%s: %v\n%s", command, err, out)
	}
}

// TestEachIllnessIsNamedAndItsTreatmentHelps: a house is broken in one way after the other, howdah doctor names it, and what it says mends it.
func TestEachIllnessIsNamedAndItsTreatmentHelps(t *testing.T) {
	t.Parallel()
	s, err := cluster.NewScratch(t.Context(), cluster.ScratchOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	p := &patient{Scratch: s, t: t}
	p.o.Find = func(ctx context.Context) (cluster.Installation, error) { return cluster.Find(ctx, "") }
	archive := filepath.Join(s.Dir(), "archived") // where its account may write
	p.sql("postgres", "ALTER SYSTEM SET archive_mode = 'on'", fmt.Sprintf("ALTER SYSTEM SET archive_command = 'mkdir -p %[1]s && cp %%p %[1]s/'", archive), "ALTER SYSTEM SET max_prepared_transactions = 5", "ALTER SYSTEM SET full_page_writes = 'on'", "ALTER SYSTEM SET fsync = 'on'", "ALTER SYSTEM SET synchronous_commit = 'on'")
	p.sql("howdah", "CREATE SCHEMA chat", "GRANT USAGE ON SCHEMA chat TO howdah_app", "CREATE TABLE chat.message (x int)", "GRANT ALL ON chat.message TO howdah_app",
		"CREATE FUNCTION chat.note() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'", "CREATE TRIGGER note BEFORE INSERT ON chat.message FOR EACH ROW EXECUTE FUNCTION chat.note()",
		"INSERT INTO chat.message VALUES (1), (1)")
	if err := s.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	if r := p.look("settings roles database server archive files"); len(r.Findings) != 0 {
		t.Fatalf("what is well is found: %+v", r.Findings)
	}

	in := func(database string, statements ...string) func() { return func() { p.sql(database, statements...) } }
	system := func(statement string) func() {
		return in("postgres", "ALTER SYSTEM SET "+statement, "SELECT pg_reload_conf()")
	}
	conf := filepath.Join(s.DataDir(), "postgresql.conf")
	for _, illness := range []struct {
		key, check string
		catch      func()
		cure       func() // beside what the finding says; nil: that is enough
	}{
		{"doctor.unsafe", "settings", system("full_page_writes = off"), nil},
		{"doctor.lossy", "settings", system("synchronous_commit = off"), nil},
		{"doctor.autovacuum", "settings", system("autovacuum = off"), nil},
		{"doctor.timeout", "settings", system("statement_timeout = '5s'"), nil},
		{"doctor.read_only", "settings", system("default_transaction_read_only = on"), nil},
		{"doctor.pending_restart", "settings", system("max_connections = 120"), nil},
		{"doctor.overridden", "settings", in("postgres", "ALTER ROLE howdah_app SET default_transaction_read_only = on", "ALTER DATABASE howdah SET statement_timeout = 500"), nil},
		{"doctor.conf_file", "settings", func() {
			raw, err := os.ReadFile(conf)
			if err == nil {
				err = os.WriteFile(conf, append(raw, "\nwork_memm = 4MB\n"...), 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
		}, func() { p.shell("sed -i 's/^work_memm/#&/' '" + conf + "'") }},
		{"doctor.role_missing", "roles", in("postgres", "DROP ROLE replicator"), nil},
		{"doctor.role_login", "roles", in("postgres", "ALTER ROLE howdah_app NOLOGIN", "ALTER ROLE howdah_watch VALID UNTIL '2020-01-01'"), nil},
		{"doctor.role_power", "roles", in("postgres", "ALTER ROLE howdah_app CREATEROLE", "ALTER ROLE howdah_watch SUPERUSER"), nil},
		{"doctor.role_replication", "roles", in("postgres", "ALTER ROLE replicator NOREPLICATION"), nil},
		{"doctor.role_monitor", "roles", in("postgres", "REVOKE pg_monitor FROM howdah_watch"), nil},
		{"doctor.role_member", "roles", in("postgres", "GRANT pg_read_all_data TO howdah_app"), nil},
		{"doctor.role_password", "roles", in("postgres", "ALTER ROLE howdah_app PASSWORD 'somebody else''s'"), nil},
		{"doctor.database_closed", "roles", in("postgres", "ALTER DATABASE howdah ALLOW_CONNECTIONS false"), nil},
		{"doctor.database_owner", "roles", in("postgres", "ALTER DATABASE howdah OWNER TO postgres"), nil},
		{"doctor.database_connect", "roles", in("postgres", "REVOKE CONNECT ON DATABASE howdah FROM howdah_app, PUBLIC"), nil},
		{"doctor.app_rows", "roles", in("howdah", "REVOKE INSERT ON chat.message FROM howdah_app", "REVOKE USAGE ON SCHEMA chat FROM howdah_app"), nil},
		{"doctor.app_ddl", "roles", in("howdah", "GRANT CREATE ON SCHEMA chat TO howdah_app"), nil},
		{"doctor.trigger_off", "roles", in("howdah", "ALTER TABLE chat.message DISABLE TRIGGER note"), nil},
		{"doctor.index_invalid", "roles", func() {
			p.shell("true")
			dsn, _ := p.DSN(cluster.Superuser, "howdah")
			conn, err := pgx.Connect(t.Context(), dsn)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close(t.Context()) //nolint:errcheck // it is over
			if _, err := conn.Exec(t.Context(), "CREATE UNIQUE INDEX CONCURRENTLY message_x ON chat.message (x)"); err == nil {
				t.Fatal("there is a duplicate")
			}
		}, func() { p.sql("howdah", "DELETE FROM chat.message"); p.sql("howdah", "REINDEX INDEX chat.message_x") }},
		{"doctor.slot", "database", in("postgres", "SELECT pg_create_physical_replication_slot('left_behind', true)"), nil},
		{"doctor.archive_fails", "archive", system("archive_command = 'false'"), func() {
			p.sql("postgres", fmt.Sprintf("ALTER SYSTEM SET archive_command = 'cp %%p %s/'", archive), "SELECT pg_reload_conf()")
		}},
		{"watch.destination", "audit", system("log_destination = 'stderr'"), nil},
		{"login.trust", "audit", func() {
			p.shell("echo 'host all all 127.0.0.1/32 trust' >> '" + filepath.Join(s.DataDir(), "pg_hba.conf") + "'")
			p.sql("postgres", "SELECT pg_reload_conf()")
		}, func() { p.shell("sed -i '/trust$/d' '" + filepath.Join(s.DataDir(), "pg_hba.conf") + "'") }},
		{"doctor.open", "files", func() { p.shell("chmod 0644 '" + filepath.Join(s.Dir(), "secrets.json") + "'") }, nil},
		{"cluster.open_to_others", "files", func() { p.shell("chmod 0755 '" + s.DataDir() + "'") }, nil},
		{"doctor.clock_back", "clock", func() {
			later := time.Now().Add(24 * time.Hour)
			if err := os.Chtimes(filepath.Join(s.DataDir(), "global", "pg_control"), later, later); err != nil {
				t.Fatal(err)
			}
		}, func() { p.sql("postgres", "CHECKPOINT") }},
	} {
		p.o.Secrets = []doctor.Secret{{File: filepath.Join(s.Dir(), "secrets.json"), Mode: 0o600}}
		illness.catch()
		f := p.await(illness.check, illness.key, true)
		if illness.cure != nil {
			illness.cure()
		} else {
			p.treat(f)
		}
		p.await(illness.check, illness.key, false)
	}
}

// TestWhatAMachineLacks needs no database.
func TestWhatAMachineLacks(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	taken := busy.Addr().String()
	gone := httptest.NewServer(nil)
	gone.Close()
	ill := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) }))
	defer ill.Close()
	well := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/healthz" {
			w.WriteHeader(http.StatusNotFound)
		}
	}))
	defer well.Close()
	provider, err := openid.New(openid.Config{Name: "work", Issuer: gone.URL, ClientID: "howdah"})
	if err != nil {
		t.Fatal(err)
	}
	house, err := cluster.New(filepath.Join(dir, "house"), cluster.Installation{Bin: dir}, cluster.Options{})
	if err != nil {
		t.Fatal(err)
	}
	names := httptest.NewTLSServer(nil) // its certificate is for example.com
	defer names.Close()
	port := names.URL[strings.LastIndex(names.URL, ":"):]
	real := func(ctx context.Context) (cluster.Installation, error) { return cluster.Find(ctx, "") }
	for _, c := range []struct {
		name, check, key string // key "": all is well
		o                doctor.Options
	}{
		{"taken", "ports", "server.listen", doctor.Options{Listen: taken}},
		{"taken by another door", "ports", "server.listen", doctor.Options{Listen: "127.0.0.1:0", Metrics: taken}},
		{"free", "ports", "", doctor.Options{Listen: "127.0.0.1:0"}},
		{"silent", "ports", "doctor.door", doctor.Options{Running: true, URL: gone.URL}},
		{"ill", "ports", "doctor.door_ill", doctor.Options{Running: true, URL: ill.URL}},
		{"open", "ports", "", doctor.Options{Running: true, URL: well.URL}},
		{"another's certificate", "ports", "doctor.cert_name", doctor.Options{Running: true, URL: names.URL, PublicURL: "https://chat.example.org" + port}},
		{"a door without TLS", "ports", "doctor.door", doctor.Options{Running: true, URL: strings.Replace(well.URL, "http:", "https:", 1), PublicURL: "https://chat.example.org"}},
		{"no zone", "timezone", "doctor.timezone", doctor.Options{TimeZone: "Mars/Olympus"}},
		{"zone", "timezone", "", doctor.Options{TimeZone: ":Asia/Taipei"}},
		{"no PostgreSQL", "programs", "cluster.not_found", doctor.Options{Find: func(context.Context) (cluster.Installation, error) {
			return cluster.Installation{}, fault.New(fault.NotFound, "cluster.not_found", fault.Args{"oldest": 15})
		}}},
		{"half a PostgreSQL", "programs", "doctor.program", doctor.Options{Find: func(context.Context) (cluster.Installation, error) {
			return cluster.Installation{Bin: dir, Version: cluster.Version{Major: 1}, PgAudit: true}, nil
		}}},
		{"no pgAudit", "programs", "cluster.no_pgaudit", doctor.Options{Find: func(ctx context.Context) (cluster.Installation, error) {
			in, err := real(ctx)
			in.PgAudit = false
			return in, err
		}}},
		{"programs", "programs", "", doctor.Options{Find: real, Program: os.Args[0]}},
		{"no archive program", "programs", "doctor.archive_program", doctor.Options{Find: real, Program: filepath.Join(dir, "howdah")}},
		{"no room", "space", "doctor.space", doctor.Options{Places: []doctor.Place{{Dir: filepath.Join(dir, "a", "b"), Least: 1 << 60}}}},
		{"no house", "keeping", "cluster.absent", doctor.Options{Cluster: house, Status: keeper.StatusOptions{Cluster: house}}},
		{"webhook", "alerts", "doctor.receiver", doctor.Options{Receivers: []alert.Receiver{{Name: "hook", Kind: alert.Webhook, URL: gone.URL}}}},
		{"mail", "alerts", "doctor.receiver", doctor.Options{Receivers: []alert.Receiver{{Name: "mail", Kind: alert.Mail, Server: gone.Listener.Addr().String()}}}},
		{"command", "alerts", "doctor.receiver", doctor.Options{Receivers: []alert.Receiver{{Name: "run", Kind: alert.Command, Command: []string{filepath.Join(dir, "none")}}}}},
		{"receivers", "alerts", "", doctor.Options{Receivers: []alert.Receiver{{Name: "hook", Kind: alert.Webhook, URL: well.URL + "/x"}, {Name: "run", Kind: alert.Command, Command: []string{os.Args[0]}}}}},
		{"mail server", "mail", "doctor.mail", doctor.Options{Mail: &mail.Server{Address: gone.Listener.Addr().String(), TLS: "none", From: "h@example.org", Timeout: time.Minute}}},
		{"a mail server that lets us in", "mail", "", doctor.Options{Mail: mailtest.New(t).Server()}},
		{"provider", "sign-in", "doctor.provider", doctor.Options{Providers: []*openid.Provider{provider}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := &patient{Scratch: &cluster.Scratch{Cluster: c.o.Cluster}, t: t, o: c.o}
			r := p.look(c.check)
			if c.key == "" && len(r.Findings) > 0 || c.key != "" && named(r, c.key) == nil {
				t.Errorf("%+v, not %q", r.Findings, c.key)
			}
		})
	}
	// What is to be typed finds the house that was looked at.
	p := &patient{Scratch: &cluster.Scratch{}, t: t, o: doctor.Options{Flags: []string{"--data", "/srv/my house"}, Receivers: []alert.Receiver{{Name: "hook", Kind: alert.Webhook, URL: gone.URL}}}}
	if f := named(p.look("alerts"), "doctor.receiver"); f == nil || len(f.Mend) != 1 || f.Mend[0].Shell != "howdah alert test hook --data '/srv/my house'" {
		t.Errorf("%+v", f)
	}
	if _, err := doctor.Look(t.Context(), doctor.Options{Only: []string{"weather"}}); !fault.HasKey(err, "doctor.unknown") {
		t.Error(err)
	}
}
