package cli

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"howdah/internal/cluster"
	"howdah/internal/config"
	"howdah/internal/fault"
	"howdah/internal/keeper"
	"howdah/internal/repo"
)

// keeping are the options that the commands of the keeper have in common.
type keeping struct {
	config.House
	config.Keeper
	AdminDSN string `help:"${help_admin_dsn}" name:"admin-dsn" placeholder:"URL"`
	PgBin    string `help:"${help_pg_bin}" name:"pg-bin" placeholder:"DIR"`
	JSON     bool   `help:"${help_json}" name:"json"`

	known *adoptedIn // the adopted cluster that --cluster names; nil: Howdah's own, or --admin-dsn
}

// settle gives up root, where we are it and the house is our own, and makes the data folder's path absolute. For an adopted cluster it becomes that
// one's account, and the data folder is the one of what we know about it. A house that is not there is not begun: what is asked of it fails, and what needs the repo
// only does not need it.
func (c *keeping) settle(ctx context.Context, t *terminal) (account *cluster.Account, err error) {
	known, err := c.lookUp()
	if err != nil {
		return nil, err
	}
	if known != nil {
		return c.use(ctx, t, known)
	}
	if _, missing := os.Lstat(c.Data); errors.Is(missing, fs.ErrNotExist) && c.AdminDSN == "" && os.Geteuid() == 0 {
		if account, err = cluster.EnsureAccount(ctx, c.Account); err == nil {
			err = cluster.Drop(account)
		}
	} else if c.AdminDSN == "" {
		account, err = t.settleDown(ctx, &c.House)
	}
	if err != nil {
		return nil, err
	}
	c.Data, err = filepath.Abs(c.Data)
	return account, err
}

// server is the PostgreSQL that is backed up or restored into, as its superuser: the house's own, or the one at --admin-dsn.
func (c *keeping) server(ctx context.Context, account *cluster.Account) (keeper.Server, error) {
	if c.known != nil {
		return c.known.server(ctx, c.PgBin)
	}
	if c.AdminDSN != "" {
		in, err := cluster.Find(ctx, c.PgBin)
		return keeper.Server{DSN: c.AdminDSN, Programs: in}, err
	}
	in, err := cluster.FindFor(ctx, c.PgBin, c.Data)
	if err != nil {
		return keeper.Server{}, err
	}
	house, err := cluster.New(c.Data, in, cluster.Options{Account: account})
	if err != nil {
		return keeper.Server{}, err
	}
	switch house.Status().State {
	case cluster.Absent:
		return keeper.Server{}, fault.New(fault.NotFound, "cluster.absent", fault.Args{"dir": c.Data})
	case cluster.Running:
	case cluster.Stopped, cluster.Starting, cluster.Stopping:
		return keeper.Server{}, fault.New(fault.Unavailable, "cli.not_running", fault.Args{"dir": c.Data})
	}
	dsn, err := house.DSN(cluster.Superuser, "postgres")
	return keeper.Server{DSN: dsn, Programs: in}, err
}

var levels = map[string]repo.Level{"normal": repo.Normal, "fast": repo.Fast, "better": repo.Better, "best": repo.Best}

// repos opens all that are configured.
func (c *keeping) repos(ctx context.Context, make bool) ([]*repo.Repo, error) {
	var all []*repo.Repo
	for _, address := range c.Repos(c.Data) {
		r, err := c.open(ctx, address, make)
		if err != nil {
			return nil, err
		}
		all = append(all, r)
	}
	return all, nil
}

// open opens a repo. One that is not there yet is made if make is set, unless we made it before: then its disk is missing.
func (c *keeping) open(ctx context.Context, address string, make bool) (*repo.Repo, error) {
	keys, err := repo.NewKeys(c.Recipient, c.Identity)
	if err != nil {
		return nil, err
	}
	known, err := loadMade(c.Data)
	if err != nil {
		return nil, err
	}
	isNew := make && !slices.Contains(known, address)
	r, err := repo.Open(ctx, address, repo.Options{Create: isNew, Keys: keys, Level: levels[c.Compression],
		AccessKey: c.S3AccessKey, SecretKey: c.S3SecretKey, SessionToken: c.S3SessionToken})
	if err != nil {
		return nil, err
	}
	if isNew && c.AdminDSN == "" {
		return r, noteMade(c.Data, address)
	}
	return r, nil
}

// madeFile remembers which repos were made from this house.
func madeFile(dir string) string { return filepath.Join(dir, "repos.json") }

func loadMade(dir string) (known []string, err error) {
	raw, err := os.ReadFile(madeFile(dir))
	if err == nil {
		err = json.Unmarshal(raw, &known)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fault.Wrap(err, fault.Unavailable, "cli.data_dir", fault.Args{"dir": dir})
	}
	return known, nil
}

// making lets one repo be noted after the other: schedule, streams and status open theirs at the same time.
var making sync.Mutex

// noteMade remembers that a repo was made.
func noteMade(dir, address string) error {
	making.Lock()
	defer making.Unlock()
	known, err := loadMade(dir)
	if err != nil || slices.Contains(known, address) {
		return err
	}
	raw, err := json.Marshal(append(known, address))
	if err == nil {
		err = os.WriteFile(madeFile(dir)+".tmp", append(raw, '\n'), 0o600)
	}
	if err == nil {
		err = cluster.Rename(madeFile(dir)+".tmp", madeFile(dir))
	}
	if err != nil {
		return fault.Wrap(err, fault.Forbidden, "cli.data_dir", fault.Args{"dir": dir})
	}
	return nil
}

// place gives up root, where we are it: PostgreSQL runs as an ordinary account, and so does all that writes for it. The folder that something is to be restored into is made by what is left of
// root, when it is asked to, and goes again when nothing came into it; nil: there is nothing to ask for. With look nothing is to be touched. All paths are absolute then.
func (c *keeping) place(ctx context.Context, t *terminal, to *string, look bool) (account *cluster.Account, root *rootHand, err error) {
	known, err := c.lookUp()
	if err != nil {
		return nil, nil, err
	}
	if *to, err = filepath.Abs(*to); err != nil {
		return nil, nil, err
	}
	if c.Data, err = filepath.Abs(c.Data); err != nil {
		return nil, nil, err
	}
	if real, err := filepath.EvalSymlinks(c.Data); err == nil {
		c.Data = real
	}
	for i, address := range c.Repo {
		c.Repo[i] = absolute(address)
	}
	if c.Identity != "" {
		c.Identity = absolute(c.Identity)
	}
	if known != nil {
		c.Account = known.Account
	}
	if os.Geteuid() != 0 || look {
		if known == nil {
			return nil, nil, nil
		}
		_, err := c.use(ctx, t, known)
		return nil, nil, err
	}
	if account, err = cluster.EnsureAccount(ctx, c.Account); err != nil {
		return nil, nil, err
	}
	if _, err := os.Lstat(*to); errors.Is(err, fs.ErrNotExist) { // one that is there already stays as it is
		if root, err = keepRoot(account, []string{*to}, nil); err != nil {
			return nil, nil, err
		}
	}
	if known != nil {
		account, err = c.use(ctx, t, known)
	} else {
		err = cluster.Drop(account)
	}
	if err != nil {
		root.close()
		return nil, nil, err
	}
	return account, root, nil
}

// reachable tells whether PostgreSQL's account can read what it will need.
func (c *keeping) reachable(account *cluster.Account, program string) error {
	if account == nil {
		return nil
	}
	for _, path := range []string{program, c.Identity} {
		if path == "" {
			continue
		}
		f, err := os.Open(path)
		if err != nil {
			return fault.Wrap(err, fault.Forbidden, "cli.recover_unreachable", fault.Args{"file": path, "account": account.Name})
		}
		_ = f.Close()
	}
	return nil
}

// stage is where files lie on their way.
func (c *keeping) stage(named string) string {
	if named == "" && c.AdminDSN == "" {
		return filepath.Join(c.Data, "stage")
	}
	return named
}

// print writes one line of JSON.
func (t *terminal) print(value any) error {
	return json.NewEncoder(t.out).Encode(value)
}
