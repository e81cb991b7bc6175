package cli

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"

	"howdah/internal/cluster"
	"howdah/internal/config"
	"howdah/internal/fault"
	"howdah/internal/keeper"
)

// clustersDirs are the folders in which what we know of adopted clusters may stand, each in a folder of its name: that of the machine, which root
// makes, and that of a person.
func (c *keeping) clustersDirs() []string {
	if c.Clusters != "" {
		return []string{absolute(c.Clusters)}
	}
	if runtime.GOOS == "windows" {
		return []string{filepath.Join(os.Getenv("ProgramData"), "howdah", "clusters")}
	}
	all := []string{"/var/lib/howdah/clusters"}
	if home, err := os.UserHomeDir(); err == nil && os.Geteuid() != 0 {
		all = append(all, filepath.Join(home, ".local", "state", "howdah", "clusters"))
	}
	return all
}

// adoptedIn is an adopted cluster and its folder.
type adoptedIn struct {
	*keeper.Adopted
	dir    string
	unlock func() error // lets go of the lock of its watch; nil: it is not ours
}

// allAdopted are those that we may read about.
func (c *keeping) allAdopted() (all []adoptedIn) {
	for _, parent := range c.clustersDirs() {
		entries, err := os.ReadDir(parent)
		if err != nil {
			continue // mostly it is not there
		}
		for _, e := range entries {
			if known, err := keeper.LoadAdopted(filepath.Join(parent, e.Name())); err == nil {
				all = append(all, adoptedIn{Adopted: known, dir: filepath.Join(parent, e.Name())})
			}
		}
	}
	return all
}

// lookUp finds the adopted cluster that --cluster names; nil where it is Howdah's own, or one that is only in the repos.
func (c *keeping) lookUp() (*adoptedIn, error) {
	if c.Cluster == config.OwnCluster || c.AdminDSN != "" {
		return nil, nil
	}
	for _, parent := range c.clustersDirs() {
		dir := filepath.Join(parent, c.Cluster)
		known, err := keeper.LoadAdopted(dir)
		if err == nil {
			return &adoptedIn{Adopted: known, dir: dir}, nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	return nil, nil
}

// become makes this process the account that the adopted cluster runs as: its files in the repos are that account's too.
func (a *adoptedIn) become(ctx context.Context) (*cluster.Account, error) {
	if a.Account == "" || os.Geteuid() < 0 {
		return nil, nil
	}
	account, err := cluster.EnsureAccount(ctx, a.Account)
	if err != nil {
		return nil, err
	}
	if os.Geteuid() != 0 && os.Geteuid() != account.UID {
		return nil, fault.New(fault.Forbidden, "cli.adopted_account", fault.Args{"cluster": a.Name, "account": a.Account})
	}
	return account, cluster.Drop(account)
}

// use takes the place of Howdah's own cluster: the adopted one's folder, repos and keys. What stands on the command line wins.
func (c *keeping) use(ctx context.Context, t *terminal, known *adoptedIn) (*cluster.Account, error) {
	for i, address := range c.Repo {
		c.Repo[i] = absolute(address) // before the working directory may be closed to us
	}
	if c.Identity != "" {
		c.Identity = absolute(c.Identity)
	}
	account, err := known.become(ctx)
	if err != nil {
		return nil, err
	}
	s, err := keeper.LoadSettings(archiveFile(known.dir))
	if err != nil {
		return nil, err
	}
	c.known, c.Data = known, known.dir
	c.take(t, s)
	return account, nil
}

// take fills in from the settings of an adopted cluster what does not stand on the command line.
func (c *keeping) take(t *terminal, s *keeper.Settings) {
	if !t.given["repo"] {
		c.Repo = nil
		for _, place := range s.Repos {
			c.Repo = append(c.Repo, place.Address)
		}
	}
	for _, place := range s.Repos {
		if place.AccessKey != "" && c.S3AccessKey == "" {
			c.S3AccessKey, c.S3SecretKey, c.S3SessionToken = place.AccessKey, place.SecretKey, place.SessionToken
		}
	}
	if !t.given["recipient"] {
		c.Recipient = s.Recipients
	}
	if !t.given["identity"] {
		c.Identity = s.IdentityFile
	}
	if !t.given["compression"] && s.Compression != "" {
		c.Compression = s.Compression
	}
}

// server is the adopted cluster, as its superuser.
func (a *adoptedIn) server(ctx context.Context, bin string) (keeper.Server, error) {
	in, err := cluster.FindMajor(ctx, bin, a.Major)
	return keeper.Server{DSN: a.Admin, Programs: in}, err
}

// cluster is the adopted cluster's files and processes, to be looked at.
func (a *adoptedIn) cluster(in cluster.Installation) (*cluster.Cluster, error) {
	return cluster.At(a.Data, a.dir, in, cluster.Options{})
}

// named finds the one that a person means: by its name, by what Debian calls it, or the only one.
func (c *keeping) named(which string) (*adoptedIn, error) {
	all := c.allAdopted()
	if which == "" && c.Cluster != config.OwnCluster {
		which = c.Cluster
	}
	at := slices.IndexFunc(all, func(a adoptedIn) bool { return a.Name == which || a.Packaged == which && which != "" })
	switch {
	case at >= 0:
		return &all[at], nil
	case which == "" && len(all) == 1:
		return &all[0], nil
	}
	var names []string
	for _, a := range all {
		names = append(names, a.Name)
	}
	return nil, fault.New(fault.NotFound, "cli.not_adopted", fault.Args{"cluster": which, "names": joinOr(names, "-")})
}
