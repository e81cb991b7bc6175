package keeper

import (
	"os"
	"os/exec"
	"syscall"
)

// endWithUs lets the kernel end the program when we are killed, and lets it clean up when it is asked to stop.
func endWithUs(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
}
