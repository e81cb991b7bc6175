package doctor

import (
	"fmt"
	"math"

	"golang.org/x/sys/unix"
)

// modes says whether files have rights in Unix's manner.
const modes = true

type space struct {
	disk     string // which disk it is
	free     int64  // bytes, for those who are not root
	inodes   int64  // that are free; -1: they never end
	readOnly bool
	gone     bool // with the machine's next start
}

func spaceOf(dir string) (s space, err error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return s, err
	}
	s = space{disk: fmt.Sprint(st.Fsid), free: int64(st.Bavail) * st.Bsize, inodes: -1, readOnly: st.Flags&unix.ST_RDONLY != 0, gone: st.Type == unix.TMPFS_MAGIC || st.Type == unix.RAMFS_MAGIC} //nolint:gosec // disks are not that large
	if st.Files > 0 && st.Ffree <= math.MaxInt64 {
		s.inodes = int64(st.Ffree)
	}
	return s, nil
}

// unsynchronized tells whether the kernel says that nobody sets its clock: adjtimex(2).
func unsynchronized() bool {
	var t unix.Timex
	_, err := unix.Adjtimex(&t)
	return err == nil && t.Status&unix.STA_UNSYNC != 0
}

// mostFiles is how many files a process may open.
func mostFiles(pid int) (n uint64, ok bool) {
	var limit unix.Rlimit
	err := unix.Prlimit(pid, unix.RLIMIT_NOFILE, nil, &limit)
	return limit.Cur, err == nil
}
