package cli

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"howdah/internal/audit"
	"howdah/internal/cluster"
	"howdah/internal/fault"
	"howdah/internal/keeper"
)

// releaseCmd undoes adopt.
type releaseCmd struct {
	keeping
	Which   string `arg:"" optional:"" name:"which" help:"${help_release_which}"`
	Yes     bool   `help:"${help_adopt_yes}"`
	DryRun  bool   `help:"${help_adopt_dry_run}" name:"dry-run"`
	Restart bool   `help:"${help_adopt_restart}"`
}

// Run is howdah release.
func (c *releaseCmd) Run(ctx context.Context, t *terminal) error {
	known, err := c.named(c.Which)
	if err != nil {
		return err
	}
	c.Cluster = known.Name
	var account *cluster.Account
	if known.Account != "" && os.Geteuid() == 0 {
		if account, err = cluster.EnsureAccount(ctx, known.Account); err != nil {
			return err
		}
	}
	// The record belongs to PostgreSQL's account: what root runs is found anew, and never read from there.
	known.Restart = nil
	if known.Packaged != "" {
		all, err := cluster.ListPackaged(ctx)
		if err != nil {
			return err
		}
		for _, p := range all {
			if known.Packaged == p.String() {
				known.Restart = p.RestartCommand()
			}
		}
	}
	root, err := keepRoot(account, []string{known.dir}, known.Restart)
	if err != nil {
		return err
	}
	defer root.close()
	if _, err := known.become(ctx); err != nil {
		return err
	}
	server := keeper.Server{DSN: known.Admin}
	plan, err := keeper.Release(ctx, server, known.Adopted, true)
	if err != nil {
		return err
	}
	if !c.JSON {
		t.releasing(known, plan)
	}
	switch {
	case c.DryRun && c.JSON:
		return t.print(plan)
	case c.DryRun:
		return nil
	case !c.Yes && !t.yes("cli.adopt.ask", nil):
		return fault.New(fault.Conflict, "cli.adopt_not")
	}
	in, _ := cluster.FindMajor(ctx, c.PgBin, known.Major) // nothing of it is needed
	if server.Begun, err = known.begun(in); err != nil {
		return err
	}
	known.Releasing = true // nobody is told of what is done here
	if err := known.Save(known.dir); err != nil {
		return err
	}
	if err := known.unwatch(ctx); err != nil {
		return err
	}
	if plan, err = keeper.Release(ctx, server, known.Adopted, false); err != nil {
		return err
	}
	if known.Auditor {
		if err := known.uncover(ctx, server.Begun); err != nil {
			plan.Auditor = cluster.Auditor
		}
	}
	if known.Triggers {
		if err := known.untrigger(ctx, server.Begun); err != nil {
			plan.Triggers = audit.TriggerSchema
		}
	}
	restart := plan.Restart
	if restart && c.Restart {
		if err := root.restart(ctx, server); err != nil {
			return err
		}
		restart = false
	}
	repos := "DIR"
	if s, err := keeper.LoadSettings(archiveFile(known.dir)); err == nil && len(s.Repos) > 0 {
		repos = s.Repos[0].Address
	}
	if err := known.forget(slices.ContainsFunc(plan.Left, func(l keeper.Left) bool { return l.Name == "archive_command" })); err != nil {
		return err
	}
	if c.JSON {
		plan.Restart = restart
		return t.print(plan)
	}
	if plan.Role != "" {
		t.say("cli.release.role", fault.Args{"role": plan.Role})
	}
	if plan.Auditor != "" {
		t.say("cli.release.role", fault.Args{"role": plan.Auditor})
	}
	if plan.Triggers != "" {
		t.say("cli.release.triggers", fault.Args{"schema": plan.Triggers})
	}
	args := fault.Args{"cluster": known.Name, "command": strings.Join(known.Restart, " "), "place": repos, "dir": known.dir}
	t.say("cli.release.done", args)
	switch {
	case !restart:
	case len(known.Restart) > 0:
		t.say("cli.release.restart", args)
	default:
		t.say("cli.release.restart_yours", args)
	}
	return nil
}

// releasing shows what is put back and what is not.
func (t *terminal) releasing(known *adoptedIn, plan *keeper.Released) {
	t.say("cli.release.of", fault.Args{"cluster": known.Name, "dir": known.Data})
	rows := [][]string{{t.lang.T("cli.adopt.setting"), t.lang.T("cli.adopt.now"), t.lang.T("cli.adopt.then"), ""}}
	for _, r := range plan.Reset {
		then, when := "ALTER SYSTEM RESET", ""
		if r.Before != nil {
			then = shown(*r.Before)
		}
		if r.Restart {
			when = t.lang.T("cli.adopt.at_restart")
		}
		rows = append(rows, []string{r.Name, shown(r.After), then, when})
	}
	for _, l := range plan.Left {
		rows = append(rows, []string{l.Name, shown(l.Now), t.lang.T("cli.release.left"), ""})
	}
	if len(rows) > 1 {
		t.table(rows)
	}
	if known.HBA != "" {
		t.say("cli.release.hba", fault.Args{"file": known.HBA})
	}
	if known.Watch != nil {
		t.say("cli.release.trail", fault.Args{"dir": filepath.Join(known.dir, "trail")})
	}
}

// forget removes what we know of the cluster, the record last. A repo in the folder stays; and so do the settings and the program, when somebody's
// archive_command may use them still.
func (a *adoptedIn) forget(used bool) error {
	gone := []string{"spool", "stage", "drill", "repos.json", "backup-failures.json", "backup-" + a.Name + ".lock", "adopt.lock", "keep.lock", "watch.json", "watch.lock", "watch-trouble.json", "cover.json", "alerts"}
	for _, pattern := range []string{"session-*.own", "unmute-*.json"} {
		found, _ := filepath.Glob(filepath.Join(a.dir, pattern)) // the pattern is a good one
		for _, file := range found {
			gone = append(gone, filepath.Base(file))
		}
	}

	if !used {
		gone = append(gone, filepath.Base(archiveFile(a.dir)), programDir)
	}
	for _, name := range append(gone, filepath.Base(keeper.AdoptedFile(a.dir))) {
		if err := os.RemoveAll(filepath.Join(a.dir, name)); err != nil {
			return fault.Wrap(err, fault.Forbidden, "cli.data_dir", fault.Args{"dir": a.dir})
		}
	}
	_ = os.Remove(a.dir) // when it is empty and we may; otherwise root does it
	return nil
}
