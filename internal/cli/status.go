package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"howdah/internal/cluster"
	"howdah/internal/config"
	"howdah/internal/fault"
	"howdah/internal/keeper"
	"howdah/internal/lang"
	"howdah/internal/repo"
	"howdah/internal/server"
)

// statusCmd says how the database is kept, for people and for monitoring.
type statusCmd struct {
	keeping
	config.Schedule
}

// exitCode ends the process with a code, and nothing is left to be said.
type exitCode int

// Error is for those who do not know it.
func (c exitCode) Error() string { return fmt.Sprintf("exit code %d", int(c)) }

// Run is howdah status. It works with everything down: what cannot be found out is part of the answer.
func (c *statusCmd) Run(ctx context.Context, t *terminal) error {
	var beside *lookedAt
	if c.Cluster == config.OwnCluster && c.AdminDSN == "" && !t.given["repo"] {
		beside = c.lookBeside(ctx, t)
	}
	if _, err := os.Lstat(c.Data); errors.Is(err, fs.ErrNotExist) && filepath.Clean(c.Data) == "howdah-data" && beside.some() { // nobody speaks of a house, and there need not be one
		return t.adoptedAlone(beside.wait(), c.JSON)
	}
	account, err := c.settle(ctx, t)
	if err != nil {
		return err
	}
	opt := keeper.StatusOptions{Name: c.Cluster}
	if opt.When, err = whenOf(c.Schedule); err != nil {
		return err
	}
	if c.AdminDSN != "" {
		opt.Server.DSN, opt.When = c.AdminDSN, nil
	} else if c.known != nil {
		opt.Dir, opt.Server.DSN = c.Data, c.known.Admin
		if opt.Cluster, err = c.known.cluster(cluster.Installation{}); err != nil {
			return err
		}
		opt.Also = append(c.known.unwatched(time.Now()), server.Troubles(opt.Cluster)...)
	} else {
		if opt.Cluster, err = cluster.New(c.Data, cluster.Installation{}, cluster.Options{Account: account}); err != nil {
			return err
		}
		opt.Dir, opt.Also = c.Data, server.Troubles(opt.Cluster)
		if opt.Cluster.Status().State == cluster.Running {
			if opt.Server.DSN, err = opt.Cluster.DSN(cluster.Watcher, "postgres"); err != nil {
				return err
			}
		}
	}
	opt.Repos = c.sources(false)
	s := keeper.Look(ctx, opt)
	if opt.Cluster != nil {
		t.undelivered(s, opt.Cluster)
	}
	aside := keeper.Asides(opt.Dir, true)
	others := beside.wait()
	if c.JSON {
		err = t.print(struct {
			*keeper.Status
			Concerns []foundJSON     `json:"findings"`
			Aside    []keeper.Aside  `json:"aside,omitempty"`
			Adopted  []adoptedStatus `json:"adopted,omitempty"`
		}{s, t.found(s), aside, others})
	} else {
		t.status(s)
		if c.known != nil && len(s.Concerns) > 0 {
			t.say("cli.status.with_cluster", fault.Args{"cluster": c.Cluster})
		}
		t.asides(aside)
		t.adopted(others)
	}
	if level := max(s.Level, worst(others)); err == nil && level > keeper.Well {
		err = exitCode(level)
	}
	return err
}

// sources are the repos, each opened when it is needed.
func (c *keeping) sources(make bool) []keeper.Source {
	var all []keeper.Source
	for _, address := range c.Repos(c.Data) {
		all = append(all, keeper.Source{Address: address, Open: func(ctx context.Context) (*repo.Repo, error) { return c.open(ctx, address, make) }})
	}
	return all
}

// whenOf reads the schedule.
func whenOf(c config.Schedule) (map[keeper.Kind]keeper.When, error) {
	physical, err := keeper.ParseWhen(c.BackupPhysical)
	incremental, incrementalErr := keeper.ParseWhen(c.BackupIncremental)
	logical, logicalErr := keeper.ParseWhen(c.BackupLogical)
	drill, drillErr := keeper.ParseWhen(c.Drill)
	return map[keeper.Kind]keeper.When{keeper.Physical: physical, keeper.Incremental: incremental, keeper.Logical: logical, keeper.Drilling: drill}, errors.Join(err, incrementalErr, logicalErr, drillErr)
}

// foundJSON is a finding for programs and people.
type foundJSON struct {
	Level   keeper.Level `json:"level"`
	Key     string       `json:"key"`
	Message string       `json:"message"`
	Hint    string       `json:"hint,omitempty"`
}

func (t *terminal) found(s *keeper.Status) []foundJSON {
	all := []foundJSON{}
	for _, f := range s.Concerns {
		message, hint := t.lang.Fault(f.Fault)
		all = append(all, foundJSON{f.Level, f.Fault.Key, message, hint})
	}
	return all
}

var levelKeys = map[keeper.Level]string{keeper.Well: "cli.status.good", keeper.Warning: "cli.status.warning", keeper.Critical: "cli.status.critical"}

// status is one screen: what is not well and the next step, and then the figures.
func (t *terminal) status(s *keeper.Status) {
	fmt.Fprintln(t.out, t.lang.T(levelKeys[s.Level]))
	for _, f := range s.Concerns {
		message, hint := t.lang.Fault(f.Fault)
		fmt.Fprintf(t.out, "  %s %s\n", map[keeper.Level]string{keeper.Warning: "!", keeper.Critical: "!!"}[f.Level], message)
		if hint != "" {
			fmt.Fprintf(t.out, "     %s\n", strings.ReplaceAll(hint, "\n", "\n     "))
		}
	}
	if len(s.Concerns) > 0 {
		fmt.Fprintln(t.out)
	}
	var rows [][]string
	row := func(label, value string) { rows = append(rows, []string{"  " + label, value}) }
	if s.PostgreSQL.State != "" {
		state := t.lang.T("cli.state." + string(s.PostgreSQL.State))
		if s.PostgreSQL.PID != 0 {
			state = t.lang.T("cli.status.state", fault.Args{"state": state, "pid": s.PostgreSQL.PID})
		}
		row("PostgreSQL", state)
		waiting := t.lang.T("cli.status.nothing_waits")
		if s.Archive.Ready > 0 {
			waiting = t.lang.T("cli.status.waiting", fault.Args{"count": s.Archive.Ready, "lag": durationText(seconds(s.Archive.Lag))})
		}
		row(t.lang.T("cli.status.archive"), waiting)
		if s.Disk.Total > 0 {
			row(t.lang.T("cli.status.disk"), t.lang.T("cli.status.free", fault.Args{"free": byteText(s.Disk.Free), "total": byteText(s.Disk.Total)}))
		}
		if s.Disk.FullIn > 0 {
			row("", t.lang.T("cli.status.full", fault.Args{"time": durationText(seconds(s.Disk.FullIn))}))
		}
	}
	last := func(r *keeper.LastRun) string {
		if r == nil {
			return t.lang.T("cli.status.none")
		}
		return t.lang.T("cli.status.last", fault.Args{"id": r.ID, "age": durationText(seconds(r.Age))})
	}
	for _, r := range s.Repos {
		row(t.lang.T("cli.status.repo"), r.Place)
		if r.Trouble != "" {
			continue
		}
		if r.From != nil && r.To != nil {
			from, to := keeper.Moment(r.From.Local().Truncate(time.Second)), keeper.Moment(r.To.Local().Truncate(time.Second))
			key := "cli.status.range"
			switch {
			case len(r.Missing) > 0 && r.Missing[len(r.Missing)-1].Backup == "":
				key = "cli.status.range_missing"
			case !r.ToTold:
				key = "cli.status.range_about"
			case from == to:
				key = "cli.status.range_one"
			}
			row(t.lang.T("cli.status.back"), t.lang.T(key, fault.Args{"from": from, "to": to}))
		} else {
			row(t.lang.T("cli.status.back"), t.lang.T("cli.status.not_back"))
		}
		row(t.lang.T("cli.status.physical"), last(r.Physical))
		row(t.lang.T("cli.status.logical"), last(r.Logical))
		if st := r.Stream; st != nil && st.Active {
			row(t.lang.T("cli.status.stream"), t.lang.T("cli.status.stream_lag", fault.Args{"bytes": byteText(st.Bytes), "time": seconds(st.Lag).Round(time.Millisecond).String()}))
		} else if st != nil {
			row(t.lang.T("cli.status.stream"), t.lang.T("cli.status.stream_idle", fault.Args{"lsn": st.LSN}))
		}
		if d := r.Drill; d != nil {
			key := "cli.status.drilled"
			switch {
			case d.Problem != "":
				key = "cli.status.drill_bad"
			case len(d.Unchecked) > 0:
				key = "cli.status.drilled_unchecked"
			}
			row(t.lang.T("cli.status.drill"), t.lang.T(key, fault.Args{"id": d.Backup, "age": durationText(seconds(d.Age)), "restore": durationText(seconds(d.Restore))}))
		} else {
			row(t.lang.T("cli.status.drill"), t.lang.T("cli.status.none"))
		}
		if r.Hope {
			row("", t.lang.T("cli.status.hope"))
		}
		if r.SameDisk {
			row("", t.lang.T("cli.status.same_disk"))
		}
	}
	fmt.Fprint(t.out, lang.Table(rows))
}

func seconds(n float64) time.Duration { return time.Duration(n * float64(time.Second)) }
