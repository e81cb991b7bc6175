package cluster

import (
	"errors"
	"os"
)

// Lock takes the lock of a file, which is made when missing, for this process; it goes with the process, however that
// ends. held is false when another process has it.
func Lock(path string) (release func() error, held bool, err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, false, err
	}
	if held, err = tryLock(f); err != nil || !held {
		return nil, false, errors.Join(err, f.Close())
	}
	return f.Close, true, nil
}
