package cluster

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"howdah/internal/fault"
)

// Examine says what would keep Start from starting PostgreSQL, were it stopped now: as the account that is meant to run it.
func (c *Cluster) Examine() error {
	if err := c.mayRun(); err != nil {
		return err
	}
	st, err := os.Stat(c.data())
	if errors.Is(err, os.ErrNotExist) {
		return fault.New(fault.NotFound, "cluster.absent", fault.Args{"dir": c.dir})
	}
	if err != nil {
		return c.fileFault(err)
	}
	return c.fits(st)
}

// fits looks at the data directory before PostgreSQL does, to say more clearly what is wrong with it.
func (c *Cluster) fits(st os.FileInfo) error {
	if owner := ownerOf(st); owner != c.opt.Account.uid() {
		return c.foreign(c.data())
	}
	if hasSockets && st.Mode().Perm()&0o027 != 0 { // PostgreSQL takes 0700 and 0750
		return fault.New(fault.Forbidden, "cluster.open_to_others", fault.Args{"dir": c.data(), "mode": fmt.Sprintf("%04o", st.Mode().Perm())})
	}
	if _, err := os.Stat(filepath.Join(c.data(), "PG_VERSION")); err != nil && !errors.Is(err, os.ErrNotExist) {
		return c.fileFault(err)
	}
	if dataMajor(c.data()) == 0 {
		return fault.New(fault.Conflict, "cluster.not_cluster", fault.Args{"dir": c.data()})
	}
	return nil
}
