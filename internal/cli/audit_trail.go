package cli

import (
	"context"

	"howdah/internal/audit"
	"howdah/internal/audit/judge"
	"howdah/internal/config"
	"howdah/internal/fault"
	"howdah/internal/server"
)

// auditAlertsCmd tells how the incidents stand, from the trail's files: also with the database down.
type auditAlertsCmd struct {
	config.House
	ruleOptions
	All bool `name:"all" help:"${help_audit_alerts_all}"`
}

// alertJSON is an incident as howdah audit alerts --json shows it.
type alertJSON struct {
	*audit.Standing
	Text []string `json:"text"`
}

// Run is howdah audit alerts.
func (c *auditAlertsCmd) Run(ctx context.Context, t *terminal) error {
	rules, err := c.load(t)
	if err != nil {
		return err
	}
	house, err := t.house(ctx, &c.House)
	if err != nil {
		return err
	}
	found, err := audit.Incidents(server.TrailDir(house))
	if err != nil {
		return err
	}
	shown := make([]alertJSON, 0, len(found))
	open := 0
	for _, s := range found {
		if s.Open {
			open++
		} else if !c.All {
			continue
		}
		a := alertJSON{Standing: s}
		for _, reason := range s.Reasons {
			a.Text = append(a.Text, rules.Text(reason, string(t.lang)))
		}
		shown = append(shown, a)
	}
	if c.JSON {
		return t.print(shown)
	}
	for _, a := range shown {
		t.alert(a, rules)
	}
	t.say("cli.audit.alerts", fault.Args{"open": open, "count": len(found)})
	return nil
}

func (t *terminal) alert(a alertJSON, rules *judge.Rules) {
	key := "cli.audit.alert.shut"
	switch {
	case a.Open:
		key = "cli.audit.alert.open"
	case a.Muted != "":
		key = "cli.audit.alert.muted"
	}
	title := a.Rule
	if rule := rules.ByID(a.Rule); rule != nil {
		if title = rule.Title[string(t.lang)]; title == "" {
			title = rule.Title["en"]
		}
	}
	t.say(key, fault.Args{"when": local(a.Began), "severity": t.lang.T("server.watch.severity." + a.Severity), "title": title, "incident": a.ID})
	t.say("cli.audit.alert.who", fault.Args{"role": oneLine(a.Actor), "source": oneLine(a.Source), "app": oneLine(a.App), "database": oneLine(a.DB), "count": a.Count})
	for _, line := range a.Text {
		t.say("cli.audit.found.line", fault.Args{"text": oneLine(line)})
	}
	for _, answer := range a.Answers {
		args := fault.Args{"name": oneLine(answer.Name)}
		if answer.Until != nil {
			args["until"] = local(*answer.Until)
		}
		said := t.lang.T("web.js.alert.said."+answer.What, args)
		if answer.Note != "" {
			said = t.lang.T("web.js.alert.note", fault.Args{"said": said, "note": answer.Note})
		}
		t.say("cli.audit.alert.said", fault.Args{"said": said, "when": local(answer.At)})
	}
}

// auditVerifyCmd computes the hashes of the trail anew.
type auditVerifyCmd struct {
	config.House
	Head []string `name:"head" sep:"none" placeholder:"SEQ:HASH" help:"${help_audit_verify_head}"`
	JSON bool     `name:"json" help:"${help_json}"`
}

// Run is howdah audit verify.
func (c *auditVerifyCmd) Run(ctx context.Context, t *terminal) error {
	var heads []audit.Head
	for _, noted := range c.Head {
		head, err := audit.ParseHead(noted)
		if err != nil {
			return err
		}
		heads = append(heads, head)
	}
	house, err := t.house(ctx, &c.House)
	if err != nil {
		return err
	}
	v, err := audit.Verify(server.TrailDir(house), heads)
	if err != nil {
		return err
	}
	if c.JSON {
		type problem struct {
			Kind string `json:"kind"`
			File string `json:"file,omitempty"`
			Seq  int64  `json:"seq"`
		}
		problems := make([]problem, len(v.Problems))
		for i, p := range v.Problems {
			problems[i] = problem(p)
		}
		err = t.print(map[string]any{"files": v.Files, "entries": v.Entries, "head": v.Head.String(), "problems": problems})
	} else {
		for _, p := range v.Problems {
			t.say("cli.audit.problem."+p.Kind, fault.Args{"file": p.File, "seq": p.Seq})
		}
		t.say("cli.audit.verified", fault.Args{"files": v.Files, "entries": v.Entries, "head": v.Head.String()})
	}
	if err == nil && len(v.Problems) > 0 {
		err = fault.New(fault.Conflict, "cli.audit_trail", fault.Args{"count": len(v.Problems)})
	}
	return err
}
