package repo

import (
	"os"

	"golang.org/x/sys/unix"
)

// writeSoon asks the kernel to begin writing what was just written, so that little is left to do when it has to be on disk.
func writeSoon(f *os.File, at, length int64) {
	_ = unix.SyncFileRange(int(f.Fd()), at, length, unix.SYNC_FILE_RANGE_WRITE) // a hint
}

// SyncTree waits until a folder and all below it is on disk. The kernel does that in one go for all of the file system, which costs less than half of
// what it costs to ask for file after file, and takes no longer where little else is being written; PostgreSQL's sync-method=syncfs does the same.
func SyncTree(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	return unix.Syncfs(int(f.Fd()))
}
