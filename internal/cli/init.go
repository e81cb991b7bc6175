package cli

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"howdah/internal/account"
	"howdah/internal/cluster"
	"howdah/internal/config"
	"howdah/internal/fault"
	"howdah/internal/pg"
)

// initCmd makes somebody else's PostgreSQL ready for Howdah.
type initCmd struct {
	config.House
	DSN      string `help:"${help_init_dsn}" name:"dsn" required:"" placeholder:"URL"`
	Database string `help:"${help_init_database}" default:"howdah" placeholder:"NAME"`
}

// Run is howdah init.
func (c *initCmd) Run(ctx context.Context, t *terminal) error {
	if _, err := t.settleDown(ctx, &c.House); err != nil {
		return err
	}
	prepared, err := pg.Prepare(ctx, c.DSN, c.Database, cluster.Owner, cluster.App)
	if err != nil {
		return err
	}
	if err := pg.Migrate(ctx, prepared.Owner, cluster.App); err != nil {
		return err
	}
	if err := saveRoles(c.Data, prepared); err != nil {
		return err
	}
	t.say("cli.init.done", fault.Args{"place": prepared.Place, "file": rolesFile(c.Data), "dsn": prepared.DSN})
	return nil
}

// rolesFile keeps the ways into databases that are not ours: passwords that only this account may read.
func rolesFile(dir string) string { return filepath.Join(dir, "roles.json") }

func loadRoles(dir string) (map[string]pg.Prepared, error) {
	raw, err := os.ReadFile(rolesFile(dir))
	if errors.Is(err, fs.ErrNotExist) {
		return map[string]pg.Prepared{}, nil
	}
	all := map[string]pg.Prepared{}
	if err == nil {
		err = json.Unmarshal(raw, &all)
	}
	if err != nil {
		return nil, fault.Wrap(err, fault.Unavailable, "cli.roles_file", fault.Args{"file": rolesFile(dir)})
	}
	return all, nil
}

func saveRoles(dir string, p pg.Prepared) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fault.Wrap(err, fault.Forbidden, "cli.data_dir", fault.Args{"dir": dir})
	}
	all, err := loadRoles(dir)
	if err != nil {
		return err
	}
	all[p.Place] = p
	raw, err := json.MarshalIndent(all, "", "  ")
	if err != nil {
		return err
	}
	temp := rolesFile(dir) + ".tmp"
	if err := os.WriteFile(temp, raw, 0o600); err != nil {
		return err
	}
	return cluster.Rename(temp, rolesFile(dir))
}

// readRoles finds what init saved for the database of a DSN; nil where it saved nothing.
func readRoles(dir, dsn string) (*pg.Prepared, error) {
	place, err := pg.Place(dsn)
	if err != nil {
		return nil, err
	}
	all, err := loadRoles(dir)
	if err != nil {
		return nil, err
	}
	if found, ok := all[place]; ok {
		return &found, nil
	}
	return nil, nil
}

// setupLinkCmd makes a new set-up link, for who has lost the first.
type setupLinkCmd struct {
	config.House
	DSN       string           `help:"${help_dsn}" name:"dsn" placeholder:"URL"`
	PublicURL config.PublicURL `help:"${help_public_url}" name:"public-url" placeholder:"URL"`
}

// Run is howdah setup-link.
func (c *setupLinkCmd) Run(ctx context.Context, t *terminal) error {
	db, err := openHouse(ctx, c.Data, c.DSN)
	if err != nil {
		return err
	}
	defer db.Close()
	token, err := account.Open(db, nil).SetupToken(ctx)
	if err != nil {
		return err
	}
	if token == "" {
		return fault.New(fault.Conflict, "cli.set_up_already")
	}
	url := string(c.PublicURL)
	if running, err := readRunning(c.Data); url == "" && err == nil {
		url = running.URL
	}
	if url == "" {
		url = "http://localhost:8432" // where howdah up listens when nothing else is said
	}
	t.say("cli.up.setup", fault.Args{"url": url + "/setup/" + token})
	return nil
}

// openHouse opens the database of a house as its application does: the one in the data folder, or the one at a DSN.
func openHouse(ctx context.Context, data, dsn string) (*pg.Pool, error) {
	return openHouseFor(ctx, data, dsn, 1)
}

// openHouseFor is openHouse for so many connections.
func openHouseFor(ctx context.Context, data, dsn string, conns int32) (*pg.Pool, error) {
	if dsn == "" {
		own, err := cluster.New(data, cluster.Installation{}, cluster.Options{})
		if err == nil {
			dsn, err = own.DSN(cluster.App, cluster.Database)
		}
		if err != nil {
			return nil, err
		}
	} else if saved, err := readRoles(data, dsn); err != nil {
		return nil, err
	} else if saved != nil {
		dsn = saved.App
	}
	return pg.Open(ctx, dsn, pg.Options{MaxConns: conns})
}

// passwordCmd gives somebody who has forgotten theirs a new password.
type passwordCmd struct {
	config.House
	DSN    string `help:"${help_dsn}" name:"dsn" placeholder:"URL"`
	Handle string `arg:"" help:"${help_password_handle}"`
	Reset  bool   `name:"reset-second-factor" help:"${help_password_reset}"`
}

// Run is howdah password.
func (c *passwordCmd) Run(ctx context.Context, t *terminal) error {
	db, err := openHouse(ctx, c.Data, c.DSN)
	if err != nil {
		return err
	}
	defer db.Close()
	ctx = account.Asking(ctx, account.Origin{Via: "command"})
	handle, password, left, err := account.Open(db, nil).NewPassword(ctx, c.Handle, c.Reset)
	if err != nil {
		return err
	}
	t.say("cli.password.new", fault.Args{"handle": handle, "password": password})
	if left {
		t.say("cli.password.second", fault.Args{"handle": handle})
	}
	return nil
}
