package repo

import (
	"errors"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// giveName renames the file; fs.ErrExist where the name is taken.
func giveName(f *os.File, to string) error {
	err := unix.Renameat2(unix.AT_FDCWD, f.Name(), unix.AT_FDCWD, to, unix.RENAME_NOREPLACE)
	if errors.Is(err, syscall.EINVAL) || errors.Is(err, syscall.ENOSYS) || errors.Is(err, syscall.ENOTSUP) { // NFS, FUSE, old kernels
		return linkName(f.Name(), to)
	}
	if err != nil {
		return &os.LinkError{Op: "renameat2", Old: f.Name(), New: to, Err: err}
	}
	return nil
}
