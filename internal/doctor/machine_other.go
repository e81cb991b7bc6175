//go:build !linux

package doctor

import (
	"os"
	"runtime"

	"howdah/internal/keeper"
)

// modes says whether files have rights in Unix's manner.
const modes = runtime.GOOS != "windows"

type space struct {
	disk     string
	free     int64
	inodes   int64
	readOnly bool
	gone     bool
}

func spaceOf(dir string) (s space, err error) {
	free, total, err := keeper.DiskSpace(dir)
	if err != nil {
		return s, err
	}
	return space{disk: dir, free: free, inodes: -1, readOnly: total == 0}, nil
}

func unsynchronized() bool { return false }

// mostFiles is not known of another process here; Go raises our own limit by itself.
func mostFiles(pid int) (n uint64, ok bool) { return 0, pid == os.Getpid() && false }
