package cli

import (
	"context"
	"errors"
	"strings"
	"time"

	"howdah/internal/fault"
	"howdah/internal/keeper"
	"howdah/internal/repo"
)

// restoreCmd brings back what backups hold.
type restoreCmd struct {
	Cluster restoreClusterCmd `cmd:"" default:"withargs" help:"${help_restore_cluster}"`
	Logical restoreLogicalCmd `cmd:"" help:"${help_restore_logical}"`
	Undo    restoreUndoCmd    `cmd:"" help:"${help_restore_undo}"`
	Forget  restoreForgetCmd  `cmd:"" help:"${help_restore_forget}"`
}

// restoreLogicalCmd makes a database, or the roles, from a logical backup.
type restoreLogicalCmd struct {
	keeping
	ID      string `arg:"" name:"id" help:"${help_restore_id}"`
	DB      string `help:"${help_restore_db}" name:"db" xor:"what" required:"" placeholder:"NEW"`
	Globals bool   `help:"${help_restore_globals}" xor:"what" required:""`
	From    string `help:"${help_restore_from}" placeholder:"NAME"`
	NoOwner bool   `help:"${help_restore_no_owner}"`
	Stage   string `help:"${help_stage}" placeholder:"DIR"`
}

// Run is howdah restore logical.
func (c *restoreLogicalCmd) Run(ctx context.Context, t *terminal) error {
	account, err := c.settle(ctx, t)
	if err != nil {
		return err
	}
	repos, err := c.repos(ctx, false)
	if err != nil {
		return err
	}
	r, err := c.holding(ctx, repos)
	if err != nil {
		return err
	}
	server, err := c.server(ctx, account)
	if err != nil {
		return err
	}
	if c.Globals {
		return c.globals(ctx, t, r, server)
	}
	bar := t.progress(c.JSON)
	done, err := keeper.RestoreDump(ctx, r, server, c.ID, keeper.RestoreOptions{Cluster: c.Cluster, Database: c.From, As: c.DB, NoOwner: c.NoOwner,
		Stage: c.stage(c.Stage), Progress: func(p keeper.DumpProgress) { bar.show(c.DB, p.Done, p.Total) }})
	bar.end()
	if err != nil {
		return err
	}
	if c.JSON {
		return t.print(done)
	}
	t.say("cli.restore.database", fault.Args{"db": done.Database, "from": done.From, "id": done.Dump, "size": byteText(done.Bytes),
		"took": durationText(done.Took), "moment": done.Moment.Local().Format(time.DateTime + " -07:00")})
	if done.Newer > 0 {
		t.say("cli.restore.newer", fault.Args{"server": done.Newer})
	}
	return nil
}

// holding is the first repo that has the backup.
func (c *restoreLogicalCmd) holding(ctx context.Context, repos []*repo.Repo) (*repo.Repo, error) {
	var errs []error
	for _, r := range repos {
		_, err := keeper.ReadDump(ctx, r, c.Cluster, c.ID)
		if err == nil {
			return r, nil
		}
		errs = append(errs, err)
	}
	return nil, errors.Join(errs...)
}

func (c *restoreLogicalCmd) globals(ctx context.Context, t *terminal, r *repo.Repo, server keeper.Server) error {
	made, kept, err := keeper.RestoreGlobals(ctx, r, server, c.Cluster, c.ID)
	if err != nil {
		return err
	}
	if c.JSON {
		return t.print(struct {
			Made []string `json:"made"`
			Kept []string `json:"kept"`
		}{made, kept})
	}
	comma := t.lang.T("cli.backup.comma")
	if len(made) > 0 {
		t.say("cli.restore.made", fault.Args{"names": strings.Join(made, comma)})
	}
	if len(kept) > 0 {
		t.say("cli.restore.kept", fault.Args{"names": strings.Join(kept, comma)})
	}
	return nil
}
