//go:build !windows

package config

import (
	"os"
	"strconv"
	"syscall"
)

// Trusted tells whether what a file says is root's word, our own, or that of who called us through sudo: it names programs that are run.
func Trusted(name string) bool {
	st, err := os.Stat(name)
	if err != nil {
		return false
	}
	owner, ok := st.Sys().(*syscall.Stat_t)
	if !ok {
		return false
	}
	// Whoever has set these is root, or is asked for nothing that they could not do themselves.
	return ours(owner.Uid, os.Geteuid(), "SUDO_UID") && st.Mode().Perm()&0o002 == 0 && (st.Mode().Perm()&0o020 == 0 || ours(owner.Gid, os.Getegid(), "SUDO_GID"))
}

func ours(id uint32, own int, caller string) bool {
	called, err := strconv.ParseUint(os.Getenv(caller), 10, 32)
	return id == 0 || int(id) == own || err == nil && own == 0 && uint64(id) == called
}
