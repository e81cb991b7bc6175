package keeper

import (
	"os"
	"strings"
	"syscall"
)

// changed is when anything about the file was changed last, in nanoseconds; unlike the time of modification, nobody can set it.
func changed(st *syscall.Stat_t) int64 { return st.Ctim.Nano() }

// bootID names the time since the machine was started: what was written since is in memory, at least. "" where the system does not say.
func bootID() string {
	raw, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(raw))
}
