//go:build unix && !linux

package cluster

import (
	"context"
	"syscall"
	"time"
)

// utf8Ctype: macOS has a locale of this name for character classes only.
const utf8Ctype = "UTF-8"

// isPostmaster tells whether pid is alive and began about when the lock file says: a number that another process got later
// began later.
func isPostmaster(pid int, _ string, started time.Time) bool {
	if err := syscall.Kill(pid, 0); err != nil && err != syscall.EPERM {
		return false
	}
	began, name, ok := processInfo(pid)
	if !ok {
		return true // alive, and nothing more can be said: better to refuse a second server than to start it
	}
	gap := began.Sub(started)
	return (name == "postgres" || name == "postmaster") && gap < 5*time.Second && gap > -5*time.Minute
}

func waitGone(ctx context.Context, pid int, data string, started time.Time) error {
	return pollGone(ctx, pid, data, started)
}

func replacedProgram(int) bool  { return false }
func runningProgram(int) string { return "" }
