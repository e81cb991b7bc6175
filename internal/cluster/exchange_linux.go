package cluster

import (
	"errors"

	"golang.org/x/sys/unix"
)

// exchange lets two directories change places in one step, where the file system can. renameat2(2)
func exchange(a, b string) error {
	err := unix.Renameat2(unix.AT_FDCWD, a, unix.AT_FDCWD, b, unix.RENAME_EXCHANGE)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS) {
		return errors.ErrUnsupported
	}
	return err
}
