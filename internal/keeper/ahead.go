package keeper

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// Looking ahead is done by a process of its own, which the command that PostgreSQL called leaves behind: so it works while PostgreSQL goes on, replays or
// calls the next command, and nobody waits for it. It ends by itself when there is nothing more to do. Who keeps out of whose way is settled by locks on
// files; they only spare work - two that do the same come to the same - and they end with the process that holds them, however that ends.

// Helper is the program that is left behind: its path, and what to call it with before our own arguments.
type Helper struct {
	Program string // "": what is ahead is done at once, and the command ends later
	Args    []string
}

// leave starts the helper, detached from PostgreSQL and from all that we have open. Its errors are nobody's: what it could not do is
// done, and told of, when PostgreSQL asks for it.
func (h Helper) leave(args ...string) error {
	cmd := exec.Command(h.Program, append(append([]string{}, h.Args...), args...)...)
	if err := detach(cmd); err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	return cmd.Process.Release()
}

// lock is a lock on a file by the name of what is being worked on.
type lock struct{ file *os.File }

const lockSuffix = ".lock"

// tryLock takes a lock, or says that somebody else has it.
func tryLock(path string) (l *lock, free bool) {
	f, err := os.OpenFile(path+lockSuffix, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, errors.Is(err, fs.ErrNotExist) // no folder yet: nobody works there
	}
	if !lockFile(f, false) {
		f.Close()
		return nil, false
	}
	return &lock{f}, true
}

// locked tells whether somebody has a lock.
func locked(path string) bool {
	f, err := os.OpenFile(path+lockSuffix, os.O_RDWR, 0)
	if err != nil {
		return false
	}
	defer f.Close()
	return !lockFile(f, false)
}

// awaitLock waits until nobody has a lock any more, at most for a time. It tells whether somebody had it.
func awaitLock(ctx context.Context, path string, patience time.Duration) (waited bool) {
	if !locked(path) {
		return false
	}
	f, err := os.OpenFile(path+lockSuffix, os.O_RDWR, 0)
	if err != nil {
		return true // it has ended meanwhile
	}
	done := make(chan struct{})
	go func() {
		lockFile(f, true)
		f.Close()
		close(done)
	}()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-done:
	case <-timer.C:
	case <-ctx.Done():
	}
	return true
}

// release ends a lock. Whoever waits for the removed file finds that it is over.
func (l *lock) release() {
	if l != nil {
		_ = os.Remove(l.file.Name())
		l.file.Close()
	}
}

// aheadName is what a process that looks ahead has locked.
const aheadName = "ahead"

// begin takes the place of the one that looks ahead in a folder.
func beginAhead(dir string) (*lock, bool) { return tryLock(filepath.Join(dir, aheadName)) }
