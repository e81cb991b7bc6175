package cli

import (
	"context"
	"fmt"
	"path/filepath"

	"howdah/internal/config"
	"howdah/internal/fault"
)

// installCmd makes Howdah a service of this machine, with PostgreSQL.
type installCmd struct {
	DryRun  bool   `help:"${help_install_dry_run}" name:"dry-run"`
	Package string `help:"${help_install_package}" placeholder:"FILE"`
	Data    string `help:"${help_install_data}" placeholder:"DIR"`
	Listen  string `help:"${help_listen}" default:"localhost:8432"`
	PgBin   string `help:"${help_pg_bin}" name:"pg-bin" placeholder:"DIR"`
	PgZip   string `help:"${help_install_pg_zip}" name:"pg-zip" placeholder:"FILE"`
	NoOpen  bool   `help:"${help_install_no_open}" name:"no-open"`
}

// Run is howdah install.
func (c *installCmd) Run(ctx context.Context, t *terminal) error {
	steps, err := c.steps(ctx, t)
	if err != nil {
		return err
	}
	return t.install(ctx, c.DryRun, steps)
}

// uninstallCmd takes back what install did, but for the data.
type uninstallCmd struct {
	DryRun bool `help:"${help_install_dry_run}" name:"dry-run"`
}

// Run is howdah uninstall.
func (c *uninstallCmd) Run(ctx context.Context, t *terminal) error {
	steps, err := c.steps(ctx, t)
	if err != nil {
		return err
	}
	return t.install(ctx, c.DryRun, steps)
}

// wrongOption refuses an option that means nothing here: to pass over it would be to do something else than what was asked for.
func (t *terminal) wrongOption(names ...string) error {
	for _, name := range names {
		if t.given[name] {
			return fault.New(fault.Invalid, "cli.install.option", fault.Args{"option": name, "file": filepath.Join(config.SystemDir(), config.FileName)})
		}
	}
	return nil
}

// step is one thing that install or uninstall does.
type step struct {
	text string // the command, as a person would type it
	run  func(context.Context) error
}

// install does the steps, each told before it is done, or only tells them.
func (t *terminal) install(ctx context.Context, only bool, steps []step) error {
	if !only {
		if err := mayInstall(ctx); err != nil {
			return err
		}
	}
	for _, s := range steps {
		fmt.Fprintln(t.out, s.text)
		if only {
			continue
		}
		if err := s.run(ctx); err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if f := fault.Of(err); f.Code != fault.Internal {
				return err
			}
			return fault.Wrap(err, fault.Unavailable, "cli.install.failed", fault.Args{"command": s.text})
		}
	}
	return nil
}
