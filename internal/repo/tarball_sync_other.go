//go:build !linux

package repo

import (
	"io/fs"
	"os"
	"path/filepath"
	"sync"
)

func writeSoon(*os.File, int64, int64) {}

// SyncTree waits until a folder and all below it is on disk, several files at once.
func SyncTree(dir string) error {
	names := make(chan string)
	failed := make(chan error, 8)
	var done sync.WaitGroup
	for range cap(failed) {
		done.Go(func() {
			var err error
			for name := range names {
				if err == nil {
					err = syncFile(name)
				}
			}
			failed <- err
		})
	}
	err := filepath.WalkDir(dir, func(name string, e fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case e.IsDir():
			return syncDir(name)
		case e.Type().IsRegular():
			names <- name
		}
		return nil
	})
	close(names)
	done.Wait()
	close(failed)
	for syncErr := range failed {
		if err == nil {
			err = syncErr
		}
	}
	return err
}

func syncFile(name string) error {
	f, err := os.OpenFile(name, os.O_RDWR, 0) // Windows syncs only what may be written
	if err != nil {
		return err
	}
	err = f.Sync()
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	return err
}
