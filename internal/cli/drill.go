package cli

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"howdah/internal/cluster"
	"howdah/internal/config"
	"howdah/internal/fault"
	"howdah/internal/keeper"
	"howdah/internal/repo"
)

// drillCmd shows that the backups can be restored.
type drillCmd struct {
	keeping
	config.Drill
	Gentle bool `help:"${help_drill_gentle}"`
}

// drilled is what howdah drill says of one repo.
type drilled struct {
	Repo string `json:"repo"`
	*keeper.Drilled
	Report string `json:"report"`
}

// Run is howdah drill. It needs the repo and no more.
func (c *drillCmd) Run(ctx context.Context, t *terminal) error {
	if c.Gentle {
		keeper.LeaveToOthers()
	}
	own := openOwnProgram()
	known, err := c.lookUp()
	if err != nil {
		return err
	}
	if known != nil {
		c.Data = known.dir
	}
	scratch := c.Folder(c.Data)
	account, root, err := c.place(ctx, t, &scratch, false)
	if err != nil {
		return err
	}
	defer root.close()
	if root != nil {
		if err := root.make(scratch); err != nil {
			return fault.Wrap(err, fault.Forbidden, "repo.target_permissions", fault.Args{"dir": scratch})
		}
	}
	house := false
	if st, err := os.Stat(c.Data); err == nil && st.IsDir() {
		house = true
	}
	dir := scratch
	if house {
		dir = c.Data
	} else if _, err := os.Lstat(filepath.Join(dir, "program")); errors.Is(err, fs.ErrNotExist) {
		defer os.RemoveAll(filepath.Join(dir, "program")) // the copy, if there has to be one
	}
	program, err := own.reachable(dir)
	if err != nil {
		return err
	}
	if err := c.reachable(account, program); err != nil {
		return err
	}
	repos, err := c.repos(ctx, false)
	if err != nil {
		return err
	}
	options := keeper.DrillOptions{Scratch: scratch, Program: program, IdentityFile: c.Identity, Account: account, By: versionText()}
	if house {
		options.Lock = keeper.LockFile(c.Data, c.Cluster)
	}
	all := []drilled{}
	for i, r := range repos {
		options.Repos = c.places()[i : i+1]
		d, drillErr := c.into(ctx, t, r, options)
		if d != nil {
			all = append(all, drilled{r.String(), d, d.Report})
		}
		if err = drillErr; err != nil {
			break
		}
	}
	if c.JSON && len(all) > 0 {
		if printErr := t.print(all); err == nil {
			err = printErr
		}
	}
	if fault.HasKey(err, "keeper.backup_runs") {
		return &codedError{err, keeper.DrillBusy}
	}
	return err
}

func (c *drillCmd) into(ctx context.Context, t *terminal, r *repo.Repo, options keeper.DrillOptions) (*keeper.Drilled, error) {
	of, err := r.Cluster(ctx, c.Cluster)
	if err != nil {
		return nil, err
	}
	if options.Installation, err = cluster.FindMajor(ctx, c.PgBin, of.Major); err != nil {
		return nil, err
	}
	bar := t.progress(c.JSON)
	options.Progress = func(p keeper.DrillProgress) {
		bar.show(t.lang.T("cli.drill.label", fault.Args{"n": p.Restore, "of": p.Of, "phase": t.lang.T("cli.recover." + string(p.Phase))}), p.Bytes, p.Total)
	}
	d, err := keeper.Drill(ctx, r, c.Cluster, options)
	bar.end()
	if d != nil && !c.JSON {
		t.drilled(r.String(), d)
	}
	return d, err
}

func (t *terminal) drilled(place string, d *keeper.Drilled) {
	t.say("cli.drill.of", fault.Args{"cluster": d.Cluster, "place": place, "took": durationText(d.Ended.Sub(d.Began))})
	for _, e := range d.Exercises {
		tables, rows := 0, int64(0)
		var names []string
		for _, b := range e.Databases {
			tables, rows, names = tables+b.Tables, rows+b.Rows, append(names, b.Name)
		}
		args := fault.Args{"id": e.Backup, "target": local(e.Target), "size": byteText(e.Bytes), "n": e.Segments, "took": durationText(seconds(e.Restored)), "xid": e.XID,
			"reached": keeper.Moment(e.Reached.Local()), "databases": strings.Join(names, t.lang.T("cli.backup.comma")), "tables": tables, "rows": rows,
			"check": durationText(seconds(e.Checked)), "with": e.Amcheck}
		if e.Target.IsZero() {
			t.say("cli.drill.end", args)
		} else {
			t.say("cli.drill.moment", args)
		}
		if e.XID != 0 {
			t.say("cli.drill.reached", args)
		}
		t.say("cli.drill.counted", args)
		if e.Amcheck != "" && len(e.Problems) == 0 {
			t.say("cli.drill.amcheck", args)
		}
		for _, problem := range e.Problems {
			t.say("cli.drill.problem", fault.Args{"problem": strings.ReplaceAll(problem, "\n", "\n           ")})
		}
	}
	if slices.Contains(d.Unchecked, keeper.UncheckedIndexes) {
		t.say("cli.drill.no_amcheck", fault.Args{"server": d.Server})
	}
	if d.Good() {
		t.say("cli.drill.good")
	} else if d.Log != "" {
		t.say("cli.drill.log", fault.Args{"log": strings.ReplaceAll(d.Log, "\n", "\n  ")})
	}
	t.say("cli.verify.report", fault.Args{"name": d.Report})
}
