//go:build unix && !linux

package repo

import "os"

// giveName renames the file; fs.ErrExist where the name is taken.
func giveName(f *os.File, to string) error { return linkName(f.Name(), to) }
