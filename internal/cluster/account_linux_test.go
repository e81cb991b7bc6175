package cluster

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"howdah/internal/untested"
)

// useradd looks whether there is such an account before it takes its lock: of two that run together, the later gives the account another number.
func TestHousesThatStartTogetherOnANewMachineAgreeOnTheirAccount(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		untested.Here(t, "only root makes accounts")
	}
	// In a mount namespace with an /etc of its own, which goes with it.
	cmd := exec.CommandContext(t.Context(), "unshare", "--mount", "--propagation", "private", "sh", "-ec", `
		cp -a /etc "$1/etc"
		mount --bind "$1/etc" /etc
		for n in 1 2; do
			for k in 1 2 3 4; do HOWDAH_TEST_ACCOUNT=howdah-test-$n "$2" | head -n 1 >"$1/$n.$k" & done
			wait
			cat "$1/$n".? | sort -u
			id -u howdah-test-$n; id -g howdah-test-$n
		done`, "sh", t.TempDir(), os.Args[0])
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	got := strings.Fields(string(out))
	if len(got) != 2*4 {
		t.Fatalf("not one account for each name:\n%s", out)
	}
	for ; len(got) > 0; got = got[4:] {
		if got[0] != got[2] || got[1] != got[3] {
			t.Errorf("told %v, made %v", got[:2], got[2:4])
		}
	}
}
