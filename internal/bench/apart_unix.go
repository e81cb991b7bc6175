//go:build unix

package bench

import (
	"os/exec"
	"syscall"
)

// apart keeps a terminal's Ctrl-C from the server: we stop it in order, and a second word would end it at once.
func apart(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} }
