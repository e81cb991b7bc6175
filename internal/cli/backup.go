package cli

import (
	"context"
	"strings"

	"howdah/internal/fault"
	"howdah/internal/keeper"
	"howdah/internal/repo"
)

// backupCmd makes backups.
type backupCmd struct {
	Physical backupPhysicalCmd `cmd:"" help:"${help_backup_physical}"`
	Logical  backupLogicalCmd  `cmd:"" help:"${help_backup_logical}"`
	Globals  backupGlobalsCmd  `cmd:"" help:"${help_backup_globals}"`
	All      backupAllCmd      `cmd:"" help:"${help_backup_all}"`
}

// backupLogicalCmd dumps one database, or all of them with the globals.
type backupLogicalCmd struct {
	keeping
	DB     []string `help:"${help_backup_db}" name:"db" sep:"none" placeholder:"NAME"`
	Format string   `help:"${help_backup_format}" enum:"custom,plain,directory" default:"custom"`
	Stage  string   `help:"${help_stage}" placeholder:"DIR"`
}

// Run is howdah backup logical.
func (c *backupLogicalCmd) Run(ctx context.Context, t *terminal) error {
	return c.dump(ctx, t, keeper.DumpOptions{Databases: c.DB, Globals: len(c.DB) == 0, Form: keeper.Form(c.Format)}, c.Stage)
}

// backupGlobalsCmd dumps roles and tablespaces.
type backupGlobalsCmd struct {
	keeping
}

// Run is howdah backup globals.
func (c *backupGlobalsCmd) Run(ctx context.Context, t *terminal) error {
	return c.dump(ctx, t, keeper.DumpOptions{Databases: []string{}, Globals: true}, "")
}

// dump makes a logical backup in each repo.
func (c *keeping) dump(ctx context.Context, t *terminal, opt keeper.DumpOptions, stage string) error {
	account, err := c.settle(ctx, t)
	if err != nil {
		return err
	}
	server, err := c.server(ctx, account)
	if err != nil {
		return err
	}
	repos, err := c.repos(ctx, true)
	if err != nil {
		return err
	}
	opt.Cluster, opt.Stage = c.Cluster, c.stage(stage)
	if c.AdminDSN == "" {
		opt.Lock = keeper.LockFile(c.Data, c.Cluster)
	}
	for _, r := range repos {
		if err := c.dumpInto(ctx, t, r, server, opt); err != nil {
			return err
		}
	}
	return nil
}

func (c *keeping) dumpInto(ctx context.Context, t *terminal, r *repo.Repo, server keeper.Server, opt keeper.DumpOptions) error {
	bar := t.progress(c.JSON)
	opt.Progress = func(p keeper.DumpProgress) { bar.show(t.partLabel(p), p.Done, p.Total) }
	d, err := keeper.TakeDump(ctx, r, server, opt)
	bar.end()
	if err != nil {
		return err
	}
	if c.JSON {
		return t.print(struct {
			Repo string `json:"repo"`
			keeper.Dump
		}{r.String(), d})
	}
	t.dumpTaken(r, d)
	return nil
}

// dumpTaken tells of a logical backup.
func (t *terminal) dumpTaken(r *repo.Repo, d keeper.Dump) {
	var databases, warnings []string
	for _, p := range d.Parts {
		if !p.Globals() {
			databases = append(databases, p.Database.Name)
		}
		warnings = append(warnings, p.Warnings...)
	}
	args := fault.Args{"id": d.ID, "place": r.String(), "size": byteText(d.Size()), "took": durationText(d.Ended.Sub(d.Began)),
		"databases": strings.Join(databases, t.lang.T("cli.backup.comma"))}
	switch {
	case len(databases) == 0:
		t.say("cli.backup.globals", args)
	case len(databases) == len(d.Parts):
		t.say("cli.backup.databases", args)
	default:
		t.say("cli.backup.all", args)
	}
	for _, warning := range warnings {
		t.say("cli.backup.warning", fault.Args{"warning": warning})
	}
}

// partLabel names what is worked on: "shop (2/5)".
func (t *terminal) partLabel(p keeper.DumpProgress) string {
	name := p.Database
	if name == "" {
		name = t.lang.T("cli.backup.the_globals")
	}
	if p.Parts < 2 {
		return name
	}
	return t.lang.T("cli.backup.part", fault.Args{"name": name, "part": p.Part, "parts": p.Parts})
}
