//go:build unix

package cli

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"howdah/internal/cli/clitest"
	"howdah/internal/cluster"
	"howdah/internal/keeper"
	"howdah/internal/wal"
)

// TestAConfigurationThatMayNotBeReadIsNoEmptyHouse: a service that lost its right to it must not begin anew elsewhere.
func TestAConfigurationThatMayNotBeReadIsNoEmptyHouse(t *testing.T) {
	t.Parallel()
	dir, err := os.MkdirTemp("", "howdah-closed-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil { //nolint:gosec // another account runs in it
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "howdah.toml"), []byte("data = '/srv/house'\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() != 0 {
		if err := os.Chmod(filepath.Join(dir, "howdah.toml"), 0); err != nil {
			t.Fatal(err)
		}
	}
	run := func(args ...string) (string, int) {
		cmd := exec.CommandContext(t.Context(), clitest.Program(t), args...)
		cmd.Dir, cmd.Env = dir, append(os.Environ(), "LANG=C")
		if os.Geteuid() == 0 {
			account, err := cluster.EnsureAccount(t.Context(), cluster.DefaultAccount)
			if err != nil {
				t.Fatal(err)
			}
			cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(account.UID), Gid: uint32(account.GID)}}
		}
		said, _ := cmd.CombinedOutput() // the code says it
		return string(said), cmd.ProcessState.ExitCode()
	}
	for _, command := range []string{"up", "status", "setup-link"} {
		if said, code := run(command); code != 77 || !strings.Contains(said, "howdah.toml may not be read") {
			t.Errorf("%s: %d %s", command, code, said)
		}
	}
	if said, _ := run("status", "--data", filepath.Join(dir, "another")); strings.Contains(said, "may not be read") {
		t.Error("another house is named, and it does not help:", said)
	}
	adopted := filepath.Join(dir, "clusters", "other")
	if err := os.MkdirAll(adopted, 0o755); err != nil { //nolint:gosec // as above
		t.Fatal(err)
	}
	known := &keeper.Adopted{Name: "other", Data: "/srv/other", Identity: wal.Identity{System: 7, Major: 15, SegmentSize: 1 << 20}}
	if err := known.Save(adopted); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(keeper.AdoptedFile(adopted), 0o644); err != nil { //nolint:gosec // as above
		t.Fatal(err)
	}
	if said, _ := run("status", "--cluster", "other", "--clusters", filepath.Dir(adopted)); strings.Contains(said, "howdah.toml may not be read") {
		t.Error("an adopted cluster is named, and it does not help:", said)
	}
	for _, args := range [][]string{{"status", "--cluster", "unknown"}, {"up", "--cluster", "other"}} {
		if said, code := run(append(args, "--clusters", filepath.Dir(adopted))...); code != 77 || !strings.Contains(said, "howdah.toml may not be read") {
			t.Errorf("%v: %d %s", args, code, said)
		}
	}
	if said, code := run("version"); code != 0 {
		t.Error("what needs no house:", said)
	}
	if _, err := os.Stat(filepath.Join(dir, "howdah-data")); err == nil {
		t.Error("there is an empty house")
	}
}
