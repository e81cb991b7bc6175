//go:build linux

package torture

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// Somebody's PostgreSQL without pgAudit is adopted: event triggers tell what blocks do to objects, in each database, also in one that is made while it is watched; what is missing is made anew and found by the check; and release takes
// all of them away.
func TestAnAdoptedClusterWithoutPgAuditIsWatched(t *testing.T) {
	t.Parallel()
	needDebian(t)
	d := newDebianCluster(t, "plain")
	bin := withoutPgAudit(t)
	base, err := os.MkdirTemp(work, "plain-")
	if err == nil {
		err = os.Chmod(base, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	k := &keeperLine{t: t, dir: base, clusters: filepath.Join(base, "clusters")}
	in := func(database, statement string) string {
		t.Helper()
		out, err := exec.Command("runuser", "-u", "postgres", "--", "psql", "-X", "-At", "-v", "ON_ERROR_STOP=1", "-p", d.port, "-d", database, "-c", statement).CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v: %s", statement, err, out)
		}
		return strings.TrimSpace(string(out))
	}
	const have = `SELECT count(*) FILTER (WHERE evtenabled = 'A') || ' ' || (SELECT count(*) FROM pg_namespace WHERE nspname = 'howdah_watch') FROM pg_event_trigger WHERE evtname LIKE 'howdah_%'`
	d.psql("CREATE DATABASE shop TEMPLATE template0")
	before := d.auto()
	k.do(0, "howdah_watch", "adopt", d.major+"/"+d.name, "--cluster", "plain", "--repo", filepath.Join(base, "repo"), "--pg-bin", bin, "--yes", "--restart")
	for _, database := range []string{"postgres", "template1", "shop"} {
		if is := in(database, have); is != "2 1" {
			t.Errorf("%s: %s", database, is)
		}
	}
	config := filepath.Join(base, "howdah.toml")
	if err := os.WriteFile(config, []byte("drill = 'off'\nbackup-first = '100h'\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	h := &house{t: t, dir: filepath.Join(base, "data"), said: filepath.Join(base, "kept.log")}
	keeper := h.launch(k.command("keep", "--config", config, "--pg-bin", bin, "--log-format", "json"))
	in("shop", "CREATE TABLE public.till(a int)")
	in("shop", "DO $$ BEGIN EXECUTE 'DROP TA' || 'BLE public.till'; END $$")
	found := func(what string) func() bool {
		return func() bool {
			out, _ := k.command("audit", "search", "--cluster", "plain", "--object", what).CombinedOutput()
			return keeper.ended() || strings.Contains(string(out), "DROP TABLE")
		}
	}
	await(t, patience, "what the block dropped", found("public.till"))

	d.psql("CREATE DATABASE later TEMPLATE template0")
	await(t, patience, "the triggers of the new database", func() bool { return keeper.ended() || in("later", have) == "2 1" })
	in("later", "CREATE TABLE public.safe(a int)")
	in("later", "DO $$ BEGIN EXECUTE 'DROP TA' || 'BLE public.safe'; END $$")
	await(t, patience, "what a block dropped there", found("public.safe"))
	if keeper.ended() {
		t.Fatal("the keeper ended")
	}
	if checked := k.do(1, "watch.pgaudit", "audit", "check", "--cluster", "plain"); strings.Contains(checked, "(watch.triggers)") {
		t.Error(checked)
	}
	in("postgres", "ALTER EVENT TRIGGER howdah_watch_dropped DISABLE")
	k.do(1, "howdah_watch_dropped is disabled", "audit", "check", "--cluster", "plain", "watch.triggers")

	k.do(0, "plain", "release", "plain", "--yes", "--restart")
	await(t, patience, "the watch to end", func() bool { return !k.keepers("") })
	h.end(keeper, syscall.SIGTERM)
	for _, database := range []string{"postgres", "template1", "shop", "later"} {
		if is := in(database, have); is != "0 0" {
			t.Errorf("%s has of ours: %s", database, is)
		}
	}
	if got, want := settingLines(d.auto()), settingLines(before); !slices.Equal(got, want) {
		t.Errorf("there are settings %q and were %q", got, want)
	}
}
