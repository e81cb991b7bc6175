package cli

import (
	"context"
	"slices"
	"strings"
	"time"

	"howdah/internal/config"
	"howdah/internal/fault"
	"howdah/internal/keeper"
	"howdah/internal/repo"
)

// pruneCmd removes what need not be kept.
type pruneCmd struct {
	keeping
	config.Retention
	DryRun bool `help:"${help_dry_run_prune}" name:"dry-run"`
}

// retention is what the options say.
func retention(c config.Retention) *keeper.Retention {
	return &keeper.Retention{Window: time.Duration(c.Keep), Physical: c.KeepPhysical, Daily: c.KeepDaily, Weekly: c.KeepWeekly, Monthly: c.KeepMonthly}
}

// Run is howdah prune.
func (c *pruneCmd) Run(ctx context.Context, t *terminal) error {
	if _, err := c.settle(ctx, t); err != nil {
		return err
	}
	repos, err := c.repos(ctx, false)
	if err != nil {
		return err
	}
	type pruned struct {
		Repo string `json:"repo"`
		*keeper.PrunePlan
	}
	all := []pruned{}
	for _, r := range repos {
		do := keeper.Prune
		if c.DryRun {
			do = keeper.PlanPrune
		}
		p, err := do(ctx, r, c.Cluster, *retention(c.Retention))
		if err != nil {
			return err
		}
		all = append(all, pruned{r.String(), p})
		if !c.JSON {
			t.pruned(r, p)
		}
	}
	if c.JSON {
		return t.print(all)
	}
	return nil
}

func (t *terminal) pruned(r *repo.Repo, p *keeper.PrunePlan) {
	t.say("cli.prune.of", fault.Args{"place": r.String(), "cut": local(p.Cut)})
	gone := 0
	for _, j := range slices.Concat(p.Physical, p.Logical) {
		if !j.Kept() {
			gone++
			t.say("cli.prune.goes", fault.Args{"id": j.ID, "size": byteText(j.Stored)})
			continue
		}
		var why []string
		for _, w := range j.Why {
			why = append(why, t.lang.T("cli.prune.why_"+string(w)))
		}
		t.say("cli.prune.stays", fault.Args{"id": j.ID, "why": strings.Join(why, t.lang.T("cli.prune.comma"))})
	}
	if p.Segments > 0 {
		t.say("cli.prune.wal", fault.Args{"count": p.Segments, "first": p.First, "last": p.Last})
	}
	if p.Reports > 0 {
		t.say("cli.prune.reports", fault.Args{"n": p.Reports})
	}
	if p.Doubt != keeper.DoubtNone {
		t.say("cli.prune."+string(p.Doubt), fault.Args{"newest": local(p.Newest), "clock": local(p.Clock)})
	}
	if gone == 0 && p.Segments == 0 && p.Reports == 0 {
		t.say("cli.prune.nothing")
		return
	}
	if p.OldestAfter.After(p.OldestBefore) {
		t.say("cli.prune.lost", fault.Args{"before": local(p.OldestBefore), "after": local(p.OldestAfter)})
	} else if !p.OldestAfter.IsZero() {
		t.say("cli.prune.same", fault.Args{"after": local(p.OldestAfter)})
	}
	for _, j := range p.Logical {
		if !j.Kept() {
			t.say("cli.prune.lost_dump", fault.Args{"moment": local(j.Ended)})
		}
	}
	if p.DryRun {
		t.say("cli.prune.would", fault.Args{"size": byteText(p.Bytes)})
	} else {
		t.say("cli.prune.did", fault.Args{"size": byteText(p.Bytes)})
	}
}
