//go:build unix

package guide

import (
	"os/exec"
	"syscall"

	"howdah/internal/cluster"
)

// as runs the command as the account, where that is not ours.
func as(cmd *exec.Cmd, a *cluster.Account) {
	if a != nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(a.UID), Gid: uint32(a.GID)}} //nolint:gosec // of the system
		cmd.Env = append(cmd.Env, "HOME="+cmd.Dir, "TMPDIR=/tmp")
	}
}
