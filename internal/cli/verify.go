package cli

import (
	"context"
	"strings"
	"time"

	"howdah/internal/fault"
	"howdah/internal/keeper"
)

// verifyCmd reads all that is kept and says whether it is sound.
type verifyCmd struct {
	keeping
	ID       string `arg:"" optional:"" name:"id" help:"${help_verify_id}"`
	Contents bool   `help:"${help_verify_contents}"`
}

// verified is what howdah verify says of one repo.
type verified struct {
	Repo string `json:"repo"`
	*keeper.Verification
	Report string `json:"report"`
}

// Run is howdah verify.
func (c *verifyCmd) Run(ctx context.Context, t *terminal) error {
	if _, err := c.settle(ctx, t); err != nil {
		return err
	}
	repos, err := c.repos(ctx, false)
	if err != nil {
		return err
	}
	found := 0
	all := []verified{}
	for _, r := range repos {
		bar := t.progress(c.JSON)
		label := t.lang.T("cli.verify.label", fault.Args{"place": r.String()})
		v, err := keeper.Verify(ctx, r, c.Cluster, keeper.VerifyOptions{ID: c.ID, Contents: c.Contents, Progress: func(done, total int64) { bar.show(label, done, total) }})
		bar.end()
		if err != nil {
			return err
		}
		found += len(v.Findings)
		all = append(all, verified{r.String(), v, v.Report})
		if !c.JSON {
			t.verified(r.String(), v)
		}
	}
	if c.JSON {
		if err := t.print(all); err != nil {
			return err
		}
	}
	if found > 0 {
		return fault.New(fault.Conflict, "cli.verify_found", fault.Args{"count": found})
	}
	return nil
}

func (t *terminal) verified(place string, v *keeper.Verification) {
	took := v.Ended.Sub(v.Began)
	t.say("cli.verify.read", fault.Args{"place": place, "backups": len(v.Backups), "segments": v.Segments, "size": byteText(v.Bytes), "took": durationText(took)})
	if v.StoredOnly {
		t.say("cli.verify.stored_only")
	}
	if v.Foreign > 0 {
		t.say("cli.verify.foreign", fault.Args{"count": v.Foreign})
	}
	for _, f := range v.Findings {
		t.finding(f)
	}
	for _, r := range v.Reachable {
		t.say("cli.verify.reachable", fault.Args{"from": local(r.From), "to": local(r.To), "timeline": r.Timeline})
	}
	if v.Sound() {
		t.say("cli.verify.sound")
	}
	t.say("cli.verify.report", fault.Args{"name": v.Report})
}

func (t *terminal) finding(f keeper.Finding) {
	args := fault.Args{"object": f.Object, "backup": f.Backup, "first": f.First, "last": f.Last, "count": f.Count, "detail": f.Detail}
	switch {
	case f.Problem == keeper.ProblemPages:
		t.say("cli.verify.pages", args)
	case f.Problem == keeper.ProblemMissing && f.Object == "":
		t.say("cli.verify.hole", args)
	case f.Problem == keeper.ProblemMissing:
		t.say("cli.verify.missing", args)
	default:
		t.say("cli.verify.damaged", args)
	}
	switch {
	case strings.HasSuffix(f.Object, "/cluster.json"):
		t.say("cli.verify.cluster")
	case f.Problem == keeper.ProblemPages:
	case f.Costs == nil && (f.First != "" || f.Backup != ""):
		t.say("cli.verify.costs_nothing")
	case f.Costs == nil:
	case f.Costs.From.Equal(f.Costs.To):
		t.say("cli.verify.costs_dump", fault.Args{"moment": local(f.Costs.From)})
	case f.Costs.To.IsZero():
		t.say("cli.verify.costs_from", fault.Args{"from": local(f.Costs.From.Truncate(time.Second))})
	default:
		t.say("cli.verify.costs", fault.Args{"from": local(f.Costs.From), "to": local(f.Costs.To)})
	}
}
