//go:build unix

package keeper

import (
	"io/fs"
	"os"
	"syscall"
)

// stampOf is what tells a file apart from any other, and from itself as it was before a change; false where the system does not tell that.
func stampOf(st fs.FileInfo) (stamp, bool) {
	sys, ok := st.Sys().(*syscall.Stat_t)
	if !ok {
		return stamp{}, false
	}
	s := stamp{Size: st.Size(), Modified: st.ModTime().UnixNano(), Changed: changed(sys), Inode: sys.Ino, Device: uint64(sys.Dev)} //nolint:unconvert // it is signed on some systems
	return s, s.Changed != 0
}

func syncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync()
}
