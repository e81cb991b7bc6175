//go:build unix

package alert

import (
	"os/exec"
	"syscall"
)

// alone puts a command into a process group of its own, and ends all of it when its time is over.
func alone(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
}
