//go:build unix

package keeper

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"howdah/internal/cluster"
	"howdah/internal/repo"
)

// TestADisasterIsOvercomeWithTheBucketAndTheKeyAlone: a house archives and backs up into S3, encrypted, while people write; all of it is lost. On a machine that has the
// program, the address, the keys of the bucket and the file with the identity, what was archived comes back, all of it and nothing else; and the bucket is as good for all
// the rest afterwards: it is verified, drilled, pruned, and a dump is restored from it.
func TestADisasterIsOvercomeWithTheBucketAndTheKeyAlone(t *testing.T) {
	t.Parallel()
	recipients, identity := sealed(t)
	bucket := inBucket(t)
	a := newArchived(t, recipients, identity, bucket)
	a.exec(`CREATE DATABASE howdah_two`)
	first := a.backup()
	w := a.workload()
	w.wait(a, 300)
	second := a.backup()
	w.wait(a, 600)
	dump, err := TakeDump(t.Context(), a.r, Server{DSN: a.dsn(cluster.Superuser), Programs: a.Installation()}, DumpOptions{Cluster: "main", Globals: true})
	if err != nil {
		t.Fatal(err)
	}
	w.stop()
	a.await(a.house)
	// How far one can go back, is read from the WAL; without the key there is only the time when it came, to the second.
	blind, err := repo.NewKeys(recipients, "")
	if err != nil {
		t.Fatal(err)
	}
	plan := a.plan(Target{})
	for _, keys := range []*repo.Keys{a.keys, blind} {
		seen := map[string]Seen{}
		for range 2 { // the second remembers
			to := Look(t.Context(), StatusOptions{Name: "main", Seen: seen, Repos: []Source{{bucket.Address, func(ctx context.Context) (*repo.Repo, error) {
				return repo.Open(ctx, bucket.Address, repo.Options{Keys: keys, AccessKey: bucket.AccessKey, SecretKey: bucket.SecretKey})
			}}}}).Repos[0]
			if to.To == nil || to.ToTold != (keys == a.keys) || to.To.Before(plan.Reached.Truncate(time.Second)) || to.ToTold && to.To.After(time.Now()) {
				t.Errorf("the last transaction is of %s, and one can go back to %+v", plan.Reached, to)
			}
		}
	}
	const sum = `SELECT count(*) || ' ' || sum(hashtextextended(ledger::text, 0)::numeric) FROM ledger`
	want := a.ask(sum)

	if err := a.conn.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	a.conn = nil
	if err := a.Stop(t.Context(), cluster.Immediate); err != nil {
		t.Fatal(err)
	}
	for _, name := range left(t, a.Dir()) {
		if name != "held" && name != "secrets.json" { // the one is the test's, the other is what people know: their passwords
			if err := os.RemoveAll(filepath.Join(a.Dir(), name)); err != nil {
				t.Fatal(err)
			}
		}
	}

	machine := place(t)
	if err := os.Mkdir(machine, 0o755); err != nil { //nolint:gosec // the account enters it
		t.Fatal(err)
	}
	run := func(args ...string) string {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), a.program, append(args, "--repo", bucket.Address, "--identity", identity)...)
		cmd.Dir = machine
		cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + machine, "LANG=C", "AWS_ACCESS_KEY_ID=" + bucket.AccessKey, "AWS_SECRET_ACCESS_KEY=" + bucket.SecretKey}
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("howdah %s: %v\n%s", strings.Join(args, " "), err, out)
		}
		return string(out)
	}
	holds := func(text string, patterns ...string) {
		t.Helper()
		for _, pattern := range patterns {
			if !regexp.MustCompile(pattern).MatchString(text) {
				t.Errorf("no %q in\n%s", pattern, text)
			}
		}
	}
	holds(run("backups"), first.ID+".*encrypted, a hope", second.ID+".*encrypted, a hope", dump.ID, `Any moment from .* to .* can be restored`)
	holds(run("restore", "--to", "back"), second.ID, "holds .*transaction|transaction")
	back := filepath.Join(machine, "back")
	h := a.run(&Recovered{Dir: back, Data: filepath.Join(back, restored)})
	if have := h.ask(sum); have != want {
		t.Errorf("%s came back of %s", have, want)
	}

	holds(run("verify"), "2 backups and|3 backups and", "Nothing is wrong")
	holds(run("prune", "--keep", "0d", "--keep-physical", "1"), "goes +"+first.ID, "stays +"+second.ID, "stays +"+dump.ID)
	holds(run("verify"), "Nothing is wrong")
	if strings.Contains(run("backups", "--json"), first.ID) {
		t.Errorf("%s is there still", first.ID)
	}
	// A PostgreSQL without pg_amcheck, as some packages have it: what it would have checked is named.
	bin := filepath.Join(filepath.Dir(machine), "bin")
	if err := os.Mkdir(bin, 0o755); err != nil { //nolint:gosec // as above
		t.Fatal(err)
	}
	for _, name := range left(t, a.Installation().Bin) {
		if name != "pg_amcheck" {
			if err := os.Symlink(filepath.Join(a.Installation().Bin, name), filepath.Join(bin, name)); err != nil {
				t.Fatal(err)
			}
		}
	}
	holds(run("drill", "--scratch", filepath.Join(machine, "scratch"), "--pg-bin", bin), second.ID+" to the newest moment", "pg_amcheck was not to be had", "All came back")
	var drilled struct{ Unchecked []string }
	for info, err := range a.r.List(t.Context(), "main/report/drill-") {
		if err == nil {
			err = a.r.GetJSON(t.Context(), info.Name, &drilled)
		}
		if err != nil || !slices.Equal(drilled.Unchecked, []string{UncheckedIndexes}) {
			t.Errorf("%s: %v, %v", info.Name, drilled, err)
		}
	}
	holds(run("backups"), second.ID+".*restored by a drill")
	if names := left(t, filepath.Join(machine, "scratch")); len(names) > 0 {
		t.Errorf("the drill left %v", names)
	}
	run("restore", "logical", dump.ID, "--db", "from_dump", "--from", "postgres", "--admin-dsn", h.dsn(cluster.Superuser))
	dsn, err := h.DSN(cluster.Superuser, "from_dump")
	if err != nil {
		t.Fatal(err)
	}
	dumped, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	var rows int
	if err := dumped.QueryRow(t.Context(), `SELECT count(*) FROM ledger`).Scan(&rows); err != nil || rows < 600 {
		t.Errorf("%d rows from the dump: %v", rows, err)
	}
	if err := dumped.Close(t.Context()); err != nil {
		t.Error(err)
	}
	// No configuration, no house: none has come to be.
	if names := left(t, machine); strings.TrimSuffix(strings.Join(names, " "), " scratch") != "back" { // root takes the empty folder away
		t.Errorf("%v", names)
	}
}
