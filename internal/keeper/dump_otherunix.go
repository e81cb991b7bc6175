//go:build unix && !linux

package keeper

import (
	"os"
	"os/exec"
)

// endWithUs lets the program clean up when it is asked to stop. When we are killed it ends at its next write to us.
func endWithUs(cmd *exec.Cmd) {
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
}
