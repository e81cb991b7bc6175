//go:build unix

package bench

import (
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// settle lets the system write what it has in memory.
func settle() { unix.Sync() }

// waitedFor is the time of CPU of all programs that we have started and that have ended.
func waitedFor() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_CHILDREN, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
