//go:build unix

package keeper

import (
	"io/fs"
	"os"
	"os/exec"
	"syscall"

	"golang.org/x/sys/unix"
)

// stampOf is what tells a file apart from any other, and from itself as it was before a change; false where the system does not tell that.
func stampOf(st fs.FileInfo) (stamp, bool) {
	sys, ok := st.Sys().(*syscall.Stat_t)
	if !ok {
		return stamp{}, false
	}
	s := stamp{Size: st.Size(), Modified: st.ModTime().UnixNano(), Changed: changed(sys), Inode: sys.Ino, Device: uint64(sys.Dev)} //nolint:unconvert // it is signed on some systems
	return s, s.Changed != 0
}

func syncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync()
}

// lockFile takes a lock that ends with the process, or with the file; without wait, only when it is free.
func lockFile(f *os.File, wait bool) bool {
	how := unix.LOCK_EX
	if !wait {
		how |= unix.LOCK_NB
	}
	for {
		if err := unix.Flock(int(f.Fd()), how); err != unix.EINTR { //nolint:errorlint // as the system gives it
			return err == nil
		}
	}
}

// detach keeps a process from being ended with us.
func detach(cmd *exec.Cmd) error {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	return nil
}
