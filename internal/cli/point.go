package cli

import (
	"context"

	"howdah/internal/fault"
	"howdah/internal/keeper"
	"howdah/internal/wal"
)

// restorePointCmd names a moment.
type restorePointCmd struct {
	keeping
	Name string `arg:"" help:"${help_restore_point_name}"`
}

// Run is howdah restore-point.
func (c *restorePointCmd) Run(ctx context.Context, t *terminal) error {
	account, err := c.settle(ctx, t)
	if err != nil {
		return err
	}
	server, err := c.server(ctx, account)
	if err != nil {
		return err
	}
	at, err := keeper.RestorePoint(ctx, server, c.Name)
	if err != nil {
		return err
	}
	if c.JSON {
		return t.print(struct {
			Name string  `json:"name"`
			LSN  wal.LSN `json:"lsn"`
		}{c.Name, at})
	}
	t.say("cli.point.set", fault.Args{"name": c.Name, "lsn": at})
	return nil
}
