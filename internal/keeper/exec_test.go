package keeper

import (
	"os/exec"
	"testing"
)

func execute(t testing.TB, program string, args ...string) (string, error) {
	out, err := exec.CommandContext(t.Context(), program, args...).CombinedOutput()
	return string(out), err
}
