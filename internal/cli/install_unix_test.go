//go:build unix

package cli

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"howdah/internal/cli/clitest"
	"howdah/internal/untested"
)

// debs makes packages with nothing in them, which apt could install.
func debs(t *testing.T, dir string, named map[string][3]string) {
	t.Helper()
	for file, field := range named {
		tree := filepath.Join(t.TempDir(), "DEBIAN")
		if err := os.MkdirAll(tree, 0o755); err != nil { //nolint:gosec // dpkg-deb asks for it
			t.Fatal(err)
		}
		control := fmt.Sprintf("Package: %s\nVersion: %s\nArchitecture: %s\nMaintainer: Ann <ann@example.org>\nDescription: nothing\n", field[0], field[1], field[2])
		if err := os.WriteFile(filepath.Join(tree, "control"), []byte(control), 0o644); err != nil { //nolint:gosec // so are these
			t.Fatal(err)
		}
		if out, err := exec.CommandContext(t.Context(), "dpkg-deb", "--root-owner-group", "--build", filepath.Dir(tree), filepath.Join(dir, file)).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
}

func TestOnDebianAptInstallsThePackage(t *testing.T) {
	t.Parallel()
	arch, err := exec.CommandContext(t.Context(), "dpkg", "--print-architecture").Output()
	if err != nil {
		untested.Here(t, "there is no dpkg")
	}
	here := strings.TrimSpace(string(arch))
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o755); err != nil { //nolint:gosec // whatever the umask is
		t.Fatal(err)
	}
	program, err := os.ReadFile(clitest.Program(t))
	if err != nil {
		t.Fatal(err)
	}
	own := filepath.Join(dir, "howdah")
	if err := os.WriteFile(own, program, 0o755); err != nil { //nolint:gosec // a program
		t.Fatal(err)
	}
	run := func(args ...string) (string, error) {
		cmd := exec.CommandContext(t.Context(), own, args...)
		cmd.Dir, cmd.Env = dir, append(os.Environ(), "LANG=C")
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	says := func(want string, ok bool, args ...string) {
		t.Helper()
		if out, err := run(args...); (err == nil) != ok || !strings.Contains(out, want) {
			t.Errorf("%q: %v\n%s\nnot %q", args, err, out, want)
		}
	}
	says("There is no package of Howdah for "+here, false, "install", "--dry-run")
	debs(t, dir, map[string][3]string{
		"howdah_0.9-1_" + here + ".deb":  {"howdah", "0.9-1", here},
		"howdah_0.10-1_" + here + ".deb": {"howdah", "0.10-1", here}, // the newest, and not by its letters
		"another's":                      {"hello", "1", here},
		"elsewhere.deb":                  {"howdah", "1", "s390x"},
	})
	says(" install -y "+filepath.Join(dir, "howdah_0.10-1_"+here+".deb")+"\n", true, "install", "--dry-run")
	says(" install -y "+filepath.Join(dir, "howdah_0.9-1_"+here+".deb")+"\n", true, "install", "--dry-run", "--package", "howdah_0.9-1_"+here+".deb")
	says("apt-get -o DPkg::Lock::Timeout=120 update\n", true, "install", "--dry-run")
	says("is no Debian package of Howdah", false, "install", "--dry-run", "--package", "another's")
	says("is no Debian package of Howdah", false, "install", "--dry-run", "--package", "howdah")
	says("is for s390x, and this machine is "+here, false, "install", "--dry-run", "--package", "elsewhere.deb")
	says("There is no "+filepath.Join(dir, "none.deb"), false, "install", "--package", "none.deb")
	says("install takes no --listen", false, "install", "--dry-run", "--listen", ":443")
	says("The package howdah is not installed here", false, "uninstall", "--dry-run")
	// What anybody could have put there is not taken by itself.
	if err := os.Chmod(dir, 0o777); err != nil { //nolint:gosec // that is the point
		t.Fatal(err)
	}
	says("There is no package of Howdah for "+here, false, "install", "--dry-run")
}
