package keeper

// DiskSpace is what is left on the disk of a path for those who are not root, and its size, in bytes.
func DiskSpace(path string) (free, total int64, err error) { return diskSpace(path) }
