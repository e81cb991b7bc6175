package repo

import (
	"os"

	"golang.org/x/sys/unix"
)

// writeSoon asks the kernel to begin writing what was just written, so that little is left to do when it has to be on disk.
func writeSoon(f *os.File, at, length int64) {
	_ = unix.SyncFileRange(int(f.Fd()), at, length, unix.SYNC_FILE_RANGE_WRITE) // a hint
}
