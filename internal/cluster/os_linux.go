package cluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// utf8Ctype is a locale whose character classes know all of Unicode; glibc and musl both have it.
const utf8Ctype = "C.UTF-8"

// isPostmaster tells whether pid is alive and is the postmaster of this data directory: a postmaster's working directory is
// always its data directory, so a number that another process got later does not fool us. Where the process is not ours to
// look into, its name decides.
func isPostmaster(pid int, data string, _ time.Time) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	// "pid (comm) state ...": comm may hold anything, so look from the last parenthesis; see proc_pid_stat(5).
	open, end := bytes.IndexByte(stat, '('), bytes.LastIndexByte(stat, ')')
	if open < 0 || end < open || len(stat) < end+3 {
		return false
	}
	if state := stat[end+2]; state == 'Z' || state == 'X' {
		return false
	}
	cwd, err := os.Stat(fmt.Sprintf("/proc/%d/cwd", pid))
	if err == nil {
		want, err := os.Stat(data)
		return err == nil && os.SameFile(cwd, want)
	}
	if errors.Is(err, fs.ErrPermission) {
		comm := string(stat[open+1 : end])
		return comm == "postgres" || comm == "postmaster"
	}
	return false
}

// waitGone returns nil when the postmaster has ended, or the context's error. The kernel wakes us through a pidfd; a system
// without one is asked ten times a second.
func waitGone(ctx context.Context, pid int, data string, started time.Time) error {
	fd, err := unix.PidfdOpen(pid, unix.PIDFD_NONBLOCK)
	if err != nil {
		if errors.Is(err, unix.ESRCH) {
			return nil
		}
		return pollGone(ctx, pid, data, started)
	}
	file := os.NewFile(uintptr(fd), "pidfd")
	defer file.Close()
	if !isPostmaster(pid, data, started) { // it ended before we held it, and the number may have a new owner
		return nil
	}
	stop := context.AfterFunc(ctx, func() { _ = file.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	conn, err := file.SyscallConn()
	if err != nil {
		return pollGone(ctx, pid, data, started)
	}
	err = conn.Read(func(fd uintptr) bool {
		set := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, err := unix.Poll(set, 0)
		return err == nil && n == 1 // otherwise Go's poller waits until the descriptor becomes readable
	})
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil:
		return pollGone(ctx, pid, data, started)
	}
	return nil
}

// replacedProgram tells whether the file that the process runs is gone from the disk, as after a package upgrade.
func replacedProgram(pid int) bool {
	target, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
	return err == nil && strings.HasSuffix(target, " (deleted)")
}

// runningProgram is a path under which the very program of the process can be run, even when its file was deleted.
func runningProgram(pid int) string { return filepath.Join("/proc", fmt.Sprint(pid), "exe") }
