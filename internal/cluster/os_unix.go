//go:build unix

package cluster

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

const (
	exeSuffix  = ""
	hasSockets = true
)

// NativePath is a path as PostgreSQL's programs can take it: any, here.
func NativePath(path string) string { return path }

// Rename is os.Rename; on Windows it waits for those who have something of it open.
func Rename(from, to string) error { return os.Rename(from, to) }

// Remove is os.Remove; on Windows it waits in the same way.
func Remove(name string) error { return os.Remove(name) }

// ReadFile is os.ReadFile; on Windows it waits while the file is exchanged for another.
func ReadFile(name string) ([]byte, error) { return os.ReadFile(name) }

// registered: only Windows keeps a list of installations.
func registered() []string { return nil }

func unusable(string) bool { return false }

// detach starts the command in a session of its own, so that Ctrl-C on our terminal and the end of it pass PostgreSQL by,
// and as the account. Cancelling its context ends it with the programs that it started itself (initdb starts postgres);
// a server started by pg_ctl has a session of its own by then and stays.
func detach(cmd *exec.Cmd, a *Account) error {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if a.other() {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: uint32(a.UID), Gid: uint32(a.GID)}
	}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	return nil
}

// isRoot tells whether PostgreSQL would refuse to run as we are.
func isRoot() bool { return os.Geteuid() == 0 }

// taken tells whether PostgreSQL takes the process that a lock file names for another server: it asks the kernel only
// whether there is such a process (CreateLockFile in src/backend/utils/init/miscinit.c).
func taken(pid int) bool { return syscall.Kill(pid, 0) == nil }

// ownerOf is the uid that owns a file.
func ownerOf(st fs.FileInfo) int {
	if sys, ok := st.Sys().(*syscall.Stat_t); ok {
		return int(sys.Uid)
	}
	return -1
}

// barrier is the first directory on the way to path that the account may not pass, "" where the way is free. It looks at
// what exists, and reads mode bits only: an access control list that lets the account in is not seen.
func barrier(path string, a *Account) string {
	if !a.other() {
		return ""
	}
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real
	}
	for dir := filepath.Dir(path); ; dir = filepath.Dir(dir) {
		if st, err := os.Stat(dir); err == nil && !mayEnter(st, a) {
			return dir
		}
		if dir == filepath.Dir(dir) {
			return ""
		}
	}
}

func mayEnter(st fs.FileInfo, a *Account) bool {
	sys, ok := st.Sys().(*syscall.Stat_t)
	if !ok {
		return true
	}
	switch {
	case int(sys.Uid) == a.UID:
		return st.Mode()&0o100 != 0
	case int(sys.Gid) == a.GID:
		return st.Mode()&0o010 != 0
	}
	return st.Mode()&0o001 != 0
}

// tryLock takes an advisory lock that ends with the process, however that ends; false when another holds it.
func tryLock(f *os.File) (bool, error) {
	err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return false, nil
	}
	return err == nil, err
}

func syncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync()
}

func noSpace(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

// stopSignals are what PostgreSQL's postmaster understands:
// https://www.postgresql.org/docs/current/server-shutdown.html
var stopSignals = map[Mode]syscall.Signal{Smart: syscall.SIGTERM, Fast: syscall.SIGINT, Immediate: syscall.SIGQUIT}

func (c *Cluster) signalStop(_ context.Context, pid int, mode Mode) error {
	err := syscall.Kill(pid, stopSignals[mode])
	if errors.Is(err, syscall.ESRCH) {
		return nil
	}
	return err
}
