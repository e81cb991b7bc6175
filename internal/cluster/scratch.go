package cluster

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"time"

	"howdah/internal/fault"
)

// ScratchOptions say what kind of throw-away cluster; the zero value is fine.
type ScratchOptions struct {
	Hint     string            // where PostgreSQL is, as for Find
	Parent   string            // where its directory is made; "": the system's place for temporary files
	Account  *Account          // as whom; nil: we ourselves, or (started as root) the account DefaultAccount
	Settings map[string]string // further settings of PostgreSQL
	Without  bool              // without pgAudit, though it is installed: as where there is none
	Segment  int               // MiB that a segment of WAL has: a power of two up to 1024; 0: PostgreSQL's own, 16
}

// Scratch makes and starts a throw-away cluster, for tests and drills: the same roles, database and settings as a real one, but it
// does not wait for the disk, and it has no TCP port where there are Unix sockets. Close ends it; what a killed process
// left behind is removed by the next Scratch in the same parent directory.
type Scratch struct {
	*Cluster
	held *os.File
}

// NewScratch makes one. It takes about two seconds, nearly all of them initdb's.
func NewScratch(ctx context.Context, opt ScratchOptions) (*Scratch, error) {
	in, err := Find(ctx, opt.Hint)
	if err != nil {
		return nil, err
	}
	in.PgAudit = in.PgAudit && !opt.Without
	if opt.Account == nil && isRoot() {
		if opt.Account, err = EnsureAccount(ctx, DefaultAccount); err != nil {
			return nil, err
		}
	}
	parent := opt.Parent
	if parent == "" {
		parent = os.TempDir()
		if barrier(filepath.Join(parent, "x"), opt.Account) != "" {
			parent = "/tmp" // TMPDIR is a private one
		}
	}
	sweep(ctx, parent, in)
	s := &Scratch{}
	var dir string
	for range 3 { // a sweep may catch the directory before we hold it
		if dir, err = os.MkdirTemp(parent, "howdah-scratch-"); err != nil {
			return nil, err
		}
		if s.held, err = hold(dir); err == nil {
			break
		}
		err = errors.Join(err, os.RemoveAll(dir))
	}
	if err != nil {
		return nil, err
	}
	if s.Cluster, err = New(dir, in, Options{Account: opt.Account, Settings: opt.Settings}); err != nil {
		return nil, errors.Join(err, s.remove(ctx, dir))
	}
	s.scratch, s.without, s.segment = true, opt.Without, opt.Segment
	if err = s.Init(ctx); err == nil {
		err = s.Start(ctx)
	}
	if err != nil {
		return nil, errors.Join(err, s.Close(context.WithoutCancel(ctx)))
	}
	return s, nil
}

// heldName is locked as long as the process lives whose scratch cluster it is.
const heldName = "held"

func hold(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, heldName), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if ok, err := tryLock(f); !ok {
		f.Close()
		if err == nil {
			err = fault.New(fault.Conflict, "cluster.busy", fault.Args{"dir": dir})
		}
		return nil, err
	}
	return f, nil
}

// Close kills the server and removes everything.
func (s *Scratch) Close(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	err := s.stop(ctx, Immediate)
	return errors.Join(err, s.remove(ctx, s.dir))
}

func (s *Scratch) remove(ctx context.Context, dir string) error {
	var errs []error
	if s.Cluster != nil && hasSockets {
		if socket := s.readConf().socket; socket != "" && !filepath.IsLocal(relative(dir, socket)) {
			errs = append(errs, os.RemoveAll(socket))
		}
	}
	errs = append(errs, s.held.Close(), removeAll(ctx, dir))
	return errors.Join(errs...)
}

func relative(base, path string) string {
	if rel, err := filepath.Rel(base, path); err == nil {
		return rel
	}
	return path
}

// sweep removes what killed processes left. What cannot be removed (another user's) stays.
func sweep(ctx context.Context, parent string, in Installation) {
	dirs, _ := filepath.Glob(filepath.Join(globQuote(parent), "howdah-scratch-*"))
	for _, dir := range dirs {
		if !exists(filepath.Join(dir, heldName)) {
			continue // being made, or not one of ours
		}
		held, err := hold(dir)
		if err != nil {
			continue
		}
		s := &Scratch{held: held}
		if s.Cluster, err = New(dir, in, Options{}); err == nil {
			_ = s.Close(ctx)
		} else {
			held.Close()
		}
	}
}
