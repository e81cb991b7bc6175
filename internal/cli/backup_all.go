package cli

import (
	"context"

	"howdah/internal/fault"
	"howdah/internal/keeper"
	"howdah/internal/repo"
)

// backupAllCmd makes a base backup and dumps everything, as one run.
type backupAllCmd struct {
	keeping
	Label          string `help:"${help_backup_label}" placeholder:"TEXT"`
	Rate           string `help:"${help_backup_rate}" placeholder:"50MB"`
	Gentle         bool   `help:"${help_backup_gentle}"`
	Format         string `help:"${help_backup_format}" enum:"custom,plain,directory" default:"custom"`
	Stage          string `help:"${help_stage}" placeholder:"DIR"`
	ReplicationDSN string `help:"${help_replication_dsn}" name:"replication-dsn" placeholder:"URL"`
}

// everything is what one run of howdah backup all has made in one repo; what failed is missing.
type everything struct {
	Repo     string         `json:"repo"`
	Physical *keeper.Backup `json:"physical,omitempty"`
	Logical  *keeper.Dump   `json:"logical,omitempty"`
}

// Run is howdah backup all. That one kind fails is no reason to do without the other.
func (c *backupAllCmd) Run(ctx context.Context, t *terminal) error {
	if c.ReplicationDSN != "" && c.AdminDSN == "" {
		return fault.New(fault.Invalid, "cli.backup_all_dsn")
	}
	account, err := c.settle(ctx, t)
	if err != nil {
		return err
	}
	server, err := c.server(ctx, account)
	if err != nil {
		return err
	}
	physical := &backupPhysicalCmd{keeping: c.keeping, Label: c.Label, Rate: c.Rate, Gentle: c.Gentle, WALFrom: "auto", ReplicationDSN: c.ReplicationDSN}
	base, err := physical.options(account)
	if err != nil {
		return err
	}
	unlock, err := keeper.LockRun(base.Lock, c.Cluster)
	if err != nil {
		return err
	}
	defer unlock()
	base.Lock = ""
	repos, err := c.repos(ctx, true)
	if err != nil {
		return err
	}
	dump := keeper.DumpOptions{Cluster: c.Cluster, Globals: true, Form: keeper.Form(c.Format), Stage: c.stage(c.Stage)}
	var failed error
	note := func(err error) {
		if err != nil && failed != nil {
			t.fail(failed) // only one error is told by who called us
		}
		if err != nil {
			failed = err
		}
	}
	for i, r := range repos {
		step := func(n int) string {
			return t.lang.T("cli.backup.step", fault.Args{"n": 2*i + n, "of": 2 * len(repos)}) + " "
		}
		made, errs := c.into(ctx, t, r, server, physical, base, dump, step)
		for _, err := range errs {
			note(err)
		}
		if c.JSON {
			note(t.print(made))
		}
		if ctx.Err() != nil {
			break
		}
	}
	return failed
}

func (c *backupAllCmd) into(ctx context.Context, t *terminal, r *repo.Repo, server keeper.Server, physical *backupPhysicalCmd, base keeper.BaseOptions,
	dump keeper.DumpOptions, step func(int) string) (made everything, errs []error) {
	made.Repo = r.String()
	bar := t.progress(c.JSON)
	b, err := physical.take(ctx, t, r, base, bar, step(1))
	bar.end()
	made.Physical = b
	errs = append(errs, err)
	if made.Physical != nil && !c.JSON {
		t.baseTaken(r, made.Physical)
	}
	if ctx.Err() != nil {
		return made, errs
	}
	dump.Progress = func(p keeper.DumpProgress) { bar.show(step(2)+t.partLabel(p), p.Done, p.Total) }
	d, err := keeper.TakeDump(ctx, r, server, dump)
	bar.end()
	if err == nil {
		made.Logical = &d
		if !c.JSON {
			t.dumpTaken(r, d)
		}
	}
	return made, append(errs, err)
}
