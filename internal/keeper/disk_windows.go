package keeper

import (
	"path/filepath"
	"strings"

	"golang.org/x/sys/windows"
)

// diskOf names the volume that a path is on.
func diskOf(path string) (id string, ok bool) {
	volume := strings.ToUpper(filepath.VolumeName(path))
	return volume, volume != ""
}

// diskSpace is what is left on the disk of a path for this account, and its size, in bytes.
func diskSpace(path string) (free, total int64, err error) {
	name, err := windows.UTF16PtrFromString(path)
	if err != nil {
		return 0, 0, err
	}
	var left, size uint64
	err = windows.GetDiskFreeSpaceEx(name, &left, &size, nil)
	return int64(left), int64(size), err //nolint:gosec // no disk has so much
}
