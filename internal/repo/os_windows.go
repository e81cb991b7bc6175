package repo

import (
	"errors"
	"os"

	"golang.org/x/sys/windows"
)

// tryLock: on Windows a file that somebody has open cannot be removed anyway.
func tryLock(*os.File) (bool, error) { return true, nil }

// syncDir: Windows has no such call; NTFS journals its directories.
func syncDir(string) error { return nil }

// giveName renames the file; fs.ErrExist where the name is taken. The file is closed before: Windows renames no open ones.
func giveName(f *os.File, to string) error {
	if err := f.Close(); err != nil {
		return err
	}
	from16, err := windows.UTF16PtrFromString(f.Name())
	if err != nil {
		return err
	}
	to16, err := windows.UTF16PtrFromString(to)
	if err != nil {
		return err
	}
	if err := windows.MoveFileEx(from16, to16, windows.MOVEFILE_WRITE_THROUGH); err != nil {
		return &os.LinkError{Op: "rename", Old: f.Name(), New: to, Err: err}
	}
	return nil
}

func noSpace(err error) bool {
	return errors.Is(err, windows.ERROR_DISK_FULL) || errors.Is(err, windows.ERROR_HANDLE_DISK_FULL)
}

func readOnly(err error) bool { return errors.Is(err, windows.ERROR_WRITE_PROTECT) }

func inTheWay(err error) bool { return errors.Is(err, windows.ERROR_DIRECTORY) }
