//go:build unix

package keeper

import (
	"errors"
	"syscall"

	"golang.org/x/sys/unix"
)

// freeSpace is how many bytes this account may still write to the disk that holds a folder.
func freeSpace(dir string) (int64, error) {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return 0, err
	}
	return int64(uint64(s.Bavail) * uint64(s.Bsize)), nil
}

func noSpace(err error) bool { return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) }
