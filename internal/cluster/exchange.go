package cluster

import (
	"context"
	"errors"
	"os"
	"path/filepath"

	"howdah/internal/fault"
)

// freshName marks a data directory that is about to take the place of another; it holds the id of the exchange.
const freshName = "howdah.fresh"

// MarkFresh marks the data directory in a folder (its pgdata) for the Exchange of that id.
func (c *Cluster) MarkFresh(folder, id string) error {
	path := filepath.Join(folder, dataName, freshName)
	return c.fileFault(writeFile(path, []byte(id+"\n"), c.opt.Account))
}

// Exchange puts the marked data directory of the folder fresh in the place of this cluster's, and that into the folder aside ("": there is none yet). Where the
// system can exchange two directories in one step, there is a data directory at every moment; elsewhere an instant lies between two renames. Whoever is killed in
// between calls it again with the same arguments, which goes on, and is success when all was done. No server may run.
func (c *Cluster) Exchange(ctx context.Context, id, fresh, aside string) error {
	unlock, err := c.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	from, to := filepath.Join(fresh, dataName), filepath.Join(aside, dataName)
	if !c.marked(c.data(), id) && !exists(from) && exists(c.data()) && (aside == "" || exists(to)) {
		return nil // done before
	}
	if _, running := c.running(); running {
		return fault.New(fault.Conflict, "cluster.exchange_running", fault.Args{"dir": c.data()})
	}
	steps := func() error {
		if c.marked(from, id) {
			if !exists(c.data()) {
				return Rename(from, c.data())
			}
			if aside == "" {
				return fault.New(fault.Conflict, "cluster.exchange_lost", fault.Args{"dir": from})
			}
			if err := exchange(from, c.data()); !errors.Is(err, errors.ErrUnsupported) {
				return err
			}
			if err := Rename(c.data(), to); err != nil {
				return err
			}
			return Rename(from, c.data())
		}
		return nil
	}
	if err := steps(); err != nil {
		return c.exchangeFault(err)
	}
	if !c.marked(c.data(), id) { // it is not what was to be exchanged, or somebody took it away
		return fault.New(fault.Conflict, "cluster.exchange_lost", fault.Args{"dir": from})
	}
	if exists(from) { // exchanged in one step: the old one lies there
		if err := Rename(from, to); err != nil {
			return c.exchangeFault(err)
		}
	}
	for _, dir := range []string{c.dir, fresh, aside} {
		if dir == "" {
			continue
		}
		if err := syncDir(dir); err != nil && !errors.Is(err, os.ErrNotExist) {
			return c.exchangeFault(err)
		}
	}
	if err := Remove(filepath.Join(c.data(), freshName)); err != nil {
		return c.exchangeFault(err)
	}
	return c.exchangeFault(syncDir(c.data()))
}

// Exchanging tells whether an Exchange has begun or is done: then there is no way but on.
func (c *Cluster) Exchanging(id, aside string) bool {
	return c.marked(c.data(), id) || !exists(c.data()) || aside != "" && exists(filepath.Join(aside, dataName))
}

func (c *Cluster) marked(data, id string) bool {
	raw, err := os.ReadFile(filepath.Join(data, freshName))
	return err == nil && string(raw) == id+"\n"
}

func (c *Cluster) exchangeFault(err error) error {
	var known *fault.Fault
	if err = c.fileFault(err); err == nil || errors.As(err, &known) {
		return err
	}
	return fault.Wrap(err, fault.Unavailable, "cluster.exchange", fault.Args{"dir": c.data()})
}
