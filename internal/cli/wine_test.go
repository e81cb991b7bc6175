//go:build linux

package cli

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"howdah/internal/untested"
)

// TestWindowsUnderWine goes through what make windows does, where somebody has Wine: it takes some minutes, and a chroot with a Wine of its own, so that all machines try the same.
func TestWindowsUnderWine(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("wine"); err != nil {
		untested.Here(t, "Windows: there is no Wine. make windows tries it, with one that it brings along")
	}
	if os.Geteuid() != 0 {
		untested.Here(t, "Windows: make windows needs root")
	}
	cmd := exec.CommandContext(t.Context(), "./.ci/windows")
	cmd.Dir = "../.."
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if _, why, not := strings.Cut(string(out), "NOT TESTED: "); not {
		untested.Here(t, strings.TrimSpace(why))
	}
	t.Logf("%s", out)
}
