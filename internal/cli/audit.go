package cli

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"strings"

	"howdah/internal/audit"
	"howdah/internal/audit/judge"
	"howdah/internal/cluster"
	"howdah/internal/config"
	"howdah/internal/fault"
	"howdah/internal/pg"
	"howdah/internal/server"
)

// auditCmd is what a person asks of the watch; all of it works with everything else down.
type auditCmd struct {
	Rules  auditRulesCmd  `cmd:"" help:"${help_audit_rules}"`
	Fields auditFieldsCmd `cmd:"" help:"${help_audit_fields}"`
	Replay auditReplayCmd `cmd:"" help:"${help_audit_replay}"`
	Tail   auditTailCmd   `cmd:"" help:"${help_audit_tail}"`
	Search auditSearchCmd `cmd:"" help:"${help_audit_search}"`
	Show   auditShowCmd   `cmd:"" help:"${help_audit_show}"`
	Alerts auditAlertsCmd `cmd:"" help:"${help_audit_alerts}"`
	Mutes  auditMutesCmd  `cmd:"" help:"${help_audit_mutes}"`

	Acknowledge auditAcknowledgeCmd `cmd:"" help:"${help_audit_acknowledge}"`

	Report auditReportCmd `cmd:"" help:"${help_audit_report}"`
	Verify auditVerifyCmd `cmd:"" help:"${help_audit_verify}"`
	Check  auditCheckCmd  `cmd:"" help:"${help_audit_check}"`

	Rebuild auditRebuildCmd `cmd:"" help:"${help_audit_rebuild}"`
}

// auditRulesCmd are the rules.
type auditRulesCmd struct {
	List auditRulesListCmd `cmd:"" default:"withargs" hidden:""`
	Test auditRulesTestCmd `cmd:"" help:"${help_audit_rules_test}"`
}

type ruleOptions struct {
	config.Watch
	JSON bool `name:"json" help:"${help_json}"`
}

// load reads the rules. One that cannot be used is said, and the others are there.
func (o *ruleOptions) load(t *terminal) (*judge.Rules, error) {
	rules, err := judge.LoadRules(o.OwnRules())
	if rules == nil {
		return nil, err
	}
	for _, wrong := range parts(err) {
		t.warn(wrong)
	}
	return rules, nil
}

// parts are the errors that were joined to one.
func parts(err error) []error {
	var many interface{ Unwrap() []error }
	if errors.As(err, &many) {
		return many.Unwrap()
	}
	if err != nil {
		return []error{err}
	}
	return nil
}

// auditRulesListCmd lists them.
type auditRulesListCmd struct{ ruleOptions }

// ruleJSON is a rule as howdah audit rules --json shows it.
type ruleJSON struct {
	ID        string   `json:"id"`
	Severity  string   `json:"severity"`
	On        []string `json:"on"`
	When      string   `json:"when,omitempty"`
	Technique []string `json:"technique,omitempty"`
	Title     string   `json:"title"`
	Off       bool     `json:"off,omitempty"`
}

// Run is howdah audit rules.
func (c *auditRulesListCmd) Run(t *terminal) error {
	rules, err := c.load(t)
	if err != nil {
		return err
	}
	all := make([]ruleJSON, 0, len(rules.All))
	rows := [][]string{}
	for _, r := range rules.All {
		title := r.Title[string(t.lang)]
		if title == "" {
			title = r.Title["en"]
		}
		all = append(all, ruleJSON{r.ID, r.Severity.String(), r.On, r.When, r.Technique, title, r.Off})
		severity := t.lang.T("server.watch.severity." + r.Severity.String())
		if r.Off {
			severity = t.lang.T("cli.audit.off")
		}
		rows = append(rows, []string{r.ID, severity, strings.Join(r.Technique, " "), title})
	}
	if c.JSON {
		return t.print(all)
	}
	t.table(rows)
	t.say("cli.audit.rules", fault.Args{"count": len(rules.All)})
	return nil
}

// auditRulesTestCmd runs the examples that stand in the rules.
type auditRulesTestCmd struct{ ruleOptions }

// Run is howdah audit rules test.
func (c *auditRulesTestCmd) Run(t *terminal) error {
	rules, wrong := judge.LoadRules(c.OwnRules())
	if rules == nil {
		return wrong
	}
	failed := 0
	for _, broken := range parts(wrong) {
		failed++
		t.warn(broken)
	}
	trials := rules.Try()
	for _, trial := range trials {
		if trial.Passed() {
			continue
		}
		failed++
		key := "cli.audit.trial.silent"
		switch {
		case trial.Err != nil:
			key = "cli.audit.trial.broken"
		case !trial.Want:
			key = "cli.audit.trial.loud"
		}
		args := fault.Args{"rule": trial.Rule, "file": trial.File}
		if trial.Err != nil {
			args["what"] = trial.Err.Error()
		}
		t.say(key, args)
	}
	t.say("cli.audit.trials", fault.Args{"count": len(trials), "rules": len(rules.All)})
	if failed > 0 {
		return fault.New(fault.Invalid, "cli.audit_rules", fault.Args{"count": failed})
	}
	return nil
}

// auditFieldsCmd lists what rules can name.
type auditFieldsCmd struct{}

// Run is howdah audit fields.
func (auditFieldsCmd) Run(t *terminal) error {
	rows := make([][]string, 0, len(judge.Fields))
	for _, f := range judge.Fields {
		rows = append(rows, []string{f.Name, f.Says})
	}
	t.table(rows)
	return nil
}

// auditReplayCmd judges logs again by today's rules.
type auditReplayCmd struct {
	ruleOptions
	Mutes string   `name:"mutes" placeholder:"DIR" help:"${help_audit_replay_mutes}"`
	Files []string `arg:"" name:"file" help:"${help_audit_replay_file}"`
}

// incidentJSON is an incident as howdah audit replay --json shows it.
type incidentJSON struct {
	*judge.Incident
	Text []string `json:"text"`
}

// Run is howdah audit replay.
func (c *auditReplayCmd) Run(ctx context.Context, t *terminal) error {
	rules, err := c.load(t)
	if err != nil {
		return err
	}
	j := judge.New(rules, judge.Options{Owners: []string{cluster.Owner}, Apps: []string{cluster.App}, Marker: pg.MigrationName, Mask: audit.Mask, House: judge.House{Database: cluster.Database, Tables: pg.Tables()}})
	if c.Mutes != "" {
		house, err := cluster.New(c.Mutes, cluster.Installation{}, cluster.Options{})
		if err != nil {
			return err
		}
		mutes, err := server.Mutes(house)
		if err != nil {
			return err
		}
		for _, m := range mutes {
			j.Mute(m)
		}
	}
	incidents := map[string]*judge.Incident{}
	var order []string
	var did judge.Replayed
	for _, name := range c.Files {
		one, err := replay(ctx, j, name, t.in, func(v judge.Verdict) {
			if v.Incident != nil && incidents[v.Incident.ID] == nil {
				incidents[v.Incident.ID] = v.Incident
				order = append(order, v.Incident.ID)
			}
		})
		if err != nil {
			return err
		}
		did.Lines, did.Records, did.Broken = did.Lines+one.Lines, did.Records+one.Records, did.Broken+one.Broken
	}
	all := make([]incidentJSON, 0, len(order))
	for _, id := range order {
		found := incidentJSON{Incident: incidents[id]}
		for _, reason := range found.Reasons {
			found.Text = append(found.Text, rules.Text(reason, string(t.lang)))
		}
		all = append(all, found)
		if !c.JSON {
			key := "cli.audit.found"
			if found.Muted != "" {
				key = "cli.audit.found.muted"
			}
			t.say(key, fault.Args{"when": local(found.Began), "severity": t.lang.T("server.watch.severity." + found.Severity.String()), "role": oneLine(found.Actor), "source": oneLine(found.Source),
				"app": oneLine(found.App), "database": oneLine(found.DB), "count": found.Count, "incident": found.Muted})
			for _, line := range found.Text {
				t.say("cli.audit.found.line", fault.Args{"text": oneLine(line)})
			}
		}
	}
	if c.JSON {
		return t.print(all)
	}
	t.say("cli.audit.replayed", fault.Args{"lines": did.Lines, "records": did.Records, "incidents": len(order), "broken": did.Broken})
	if until, still := j.Learning(); still {
		t.say("cli.audit.learning", fault.Args{"until": local(until)})
	}
	return nil
}

func replay(ctx context.Context, j *judge.Judge, name string, in io.Reader, found func(judge.Verdict)) (judge.Replayed, error) {
	if name != "-" {
		file, err := os.Open(name)
		if err != nil {
			code := fault.Unavailable
			if errors.Is(err, fs.ErrNotExist) {
				code = fault.NotFound
			}
			return judge.Replayed{}, fault.Wrap(err, code, "audit.log_file", fault.Args{"file": name})
		}
		defer file.Close()
		in = file
	}
	did, err := j.Replay(in, func(v judge.Verdict) error { found(v); return ctx.Err() })
	if err != nil && ctx.Err() == nil {
		err = fault.Wrap(err, fault.Unavailable, "audit.log_file", fault.Args{"file": name})
	}
	return did, err
}
