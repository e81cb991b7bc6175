//go:build linux

package torture

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"howdah/internal/audit"
	"howdah/internal/cluster"
	"howdah/internal/untested"
)

// Somebody's PostgreSQL from apt is adopted and watched: who makes a superuser there is told to the receivers of alerts and stands on its trail, also while nobody kept it; a keep that is killed
// loses nothing and doubles nothing; what adopt and release do themselves is no news; and release takes all of it back.
func TestAnAdoptedClusterIsWatched(t *testing.T) {
	t.Parallel()
	needDebian(t)
	in, err := cluster.Find(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	if !in.PgAudit {
		untested.Here(t, "this needs pgAudit")
	}
	d := newDebianCluster(t, "watched")
	base, err := os.MkdirTemp(work, "watched-")
	if err == nil {
		err = os.Chmod(base, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	k := &keeperLine{t: t, dir: base, clusters: filepath.Join(base, "clusters")}
	said, auto, hba := filepath.Join(base, "said"), d.auto(), d.hba()
	rights := d.psql(`SELECT relacl FROM pg_class WHERE oid = 'pg_authid'::regclass`)
	if err := os.Mkdir(said, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(said, owns(t, d.data), -1); err != nil {
		t.Fatal(err)
	}
	script, config := filepath.Join(base, "tell.sh"), filepath.Join(base, "howdah.toml")
	if err := os.WriteFile(script, fmt.Appendf(nil, "#!/bin/sh\ncat >> %s/all\n", said), 0o755); err != nil {
		t.Fatal(err)
	}
	text := fmt.Sprintf("drill = 'off'\nbackup-first = '100h'\n[[alert]]\nname = 'mine'\nkind = 'command'\ncommand = ['%s']\n", script)
	if err := os.WriteFile(config, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}

	k.do(0, "howdah_auditor", "adopt", d.major+"/"+d.name, "--cluster", "watched", "--repo", filepath.Join(base, "repo"), "--yes", "--restart")
	k.do(1, "Nobody watches", "status", "--cluster", "watched")
	h := &house{t: t, dir: filepath.Join(base, "data"), said: filepath.Join(base, "kept.log")}
	keep := func() *program {
		t.Helper()
		return h.launch(k.command("keep", "--config", config, "--log-format", "json"))
	}
	// told are the incidents that the receiver was told of, by the superuser that was made.
	told := func() map[string]string {
		t.Helper()
		raw, err := os.ReadFile(filepath.Join(said, "all"))
		if err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		found := map[string]string{}
		for line := range strings.Lines(string(raw)) {
			var m struct {
				Finding struct{ UID, Title, Desc string } `json:"finding_info"`
				Howdah  struct{ Cluster string }
			}
			if !strings.HasSuffix(line, "\n") || json.Unmarshal([]byte(line), &m) != nil {
				continue // it is being written, or the writer was killed over it
			}
			if m.Howdah.Cluster != "watched" || !strings.Contains(m.Finding.Title, "watched") {
				t.Errorf("an alert does not say which PostgreSQL it is about: %s", line)
			}
			for _, role := range []string{"mallory", "oscar"} {
				if strings.Contains(m.Finding.Desc, " makes "+role) {
					found[role] = m.Finding.UID
				}
			}
		}
		return found
	}
	first := keep()
	d.psql(`CREATE ROLE mallory SUPERUSER LOGIN PASSWORD 'hunter-two'`)
	await(t, patience, "the alert", func() bool { return first.ended() || told()["mallory"] != "" })
	if err := syscall.Kill(-first.pid(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	h.wait(first)
	await(t, patience, "the killed to be gone", func() bool { return !k.keepers("") })
	mallory := exec.Command("psql", "-X", "-h", "127.0.0.1", "-p", d.port, "-U", "mallory", "-d", "postgres", "-c", `CREATE ROLE oscar SUPERUSER LOGIN PASSWORD 'hunter-three'`)
	mallory.Env = append(os.Environ(), "PGPASSWORD=hunter-two")
	if out, err := mallory.CombinedOutput(); err != nil { // another who does the like from elsewhere is another incident
		t.Fatalf("%v: %s", err, out)
	}
	second := keep()
	await(t, patience, "the alert of what happened meanwhile", func() bool { return second.ended() || told()["oscar"] != "" })

	trail := filepath.Join(k.clusters, "watched", "trail")
	for _, role := range []string{"mallory", "oscar"} {
		if found := k.do(0, role, "audit", "search", "--cluster", "watched", "--class", "ROLE", "CREATE ROLE "+role); strings.Count(found, "CREATE ROLE:") != 1 {
			t.Errorf("the record of %s: %s", role, found)
		}
	}
	k.do(0, told()["mallory"], "audit", "alerts", "--cluster", "watched")
	k.do(0, "acknowledged", "audit", "acknowledge", told()["mallory"], "--cluster", "watched")
	await(t, patience, "the answer on the trail", func() bool {
		incidents, err := audit.Incidents(trail)
		return err == nil && slices.ContainsFunc(incidents, func(i *audit.Standing) bool { return i.ID == told()["mallory"] && !i.Open })
	})
	k.do(0, "mallory", "audit", "show", told()["mallory"], "--cluster", "watched")
	k.do(0, "mallory", "audit", "report", "--cluster", "watched")
	k.do(0, "CREATE ROLE", "audit", "tail", "-n", "1000", "--cluster", "watched")
	k.do(0, "The end of the trail", "audit", "verify", "--cluster", "watched")
	if checked := k.do(1, "62 checks", "audit", "check", "--cluster", "watched"); strings.Contains(checked, "(watch.") {
		t.Errorf("the watch lacks something: %s", checked)
	}
	if status := k.do(1, "no good base backup", "status", "--cluster", "watched"); strings.Contains(status, "watches") {
		t.Errorf("status: %s", status)
	}

	// Released: all is as before, nobody watches any more, and the trail stays. It has the two, and nothing of what we have done ourselves.
	k.do(0, "All is set", "adopt", d.major+"/"+d.name, "--cluster", "watched", "--yes") // again, which changes nothing
	k.do(0, trail, "release", "watched", "--yes", "--restart")
	await(t, patience, "the watch to end", func() bool { return !k.keepers("") })
	h.end(second, syscall.SIGTERM)
	if got, want := settingLines(d.auto()), settingLines(auto); !slices.Equal(got, want) || d.hba() != hba {
		t.Errorf("there are settings %q and were %q; pg_hba.conf: %s", got, want, d.hba())
	}
	if left := d.psql(`SELECT count(*) FROM pg_roles WHERE rolname IN ('replicator', 'howdah_auditor')`); left != "0" {
		t.Errorf("%s roles of ours are left", left)
	}
	if now := d.psql(`SELECT relacl FROM pg_class WHERE oid = 'pg_authid'::regclass`); now != rights {
		t.Errorf("the rights on pg_authid are %s and were %s", now, rights)
	}
	if got := d.psql(`SELECT current_setting('logging_collector') || current_setting('log_destination') || current_setting('shared_preload_libraries')`); got != "offstderr" {
		t.Errorf("after the restart: %s", got)
	}
	incidents, err := audit.Incidents(trail)
	if err != nil {
		t.Fatal(err)
	}
	var ids []string
	for _, i := range incidents {
		ids = append(ids, i.ID)
	}
	slices.Sort(ids)
	want := []string{told()["mallory"], told()["oscar"]}
	slices.Sort(want)
	if !slices.Equal(ids, want) {
		t.Errorf("the trail has the incidents %q, and told were %q", ids, want)
		for _, i := range incidents {
			t.Logf("%+v", i.Incident)
		}
	}
	for _, dir := range []string{trail, said} {
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if strings.Contains(readAll(t, filepath.Join(dir, e.Name())), "hunter-") {
				t.Errorf("a password stands in %s", e.Name())
			}
		}
	}
}
