//go:build linux || darwin || freebsd

package keeper

import (
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// diskOf names the file system that a path is on.
func diskOf(path string) (id uint64, ok bool) {
	st, err := os.Stat(path)
	if err != nil {
		return 0, false
	}
	sys, ok := st.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, false
	}
	return uint64(sys.Dev), true //nolint:unconvert,gosec // it is signed on some systems
}

// diskSpace is what is left on the disk of a path for those who are not root, and its size, in bytes.
func diskSpace(path string) (free, total int64, err error) {
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil {
		return 0, 0, err
	}
	block := int64(st.Bsize)                                       //nolint:unconvert // it is smaller on some systems
	return int64(st.Bavail) * block, int64(st.Blocks) * block, nil //nolint:unconvert,gosec // the same
}
