package cli

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"time"

	"howdah/internal/audit"
	"howdah/internal/audit/index"
	"howdah/internal/audit/judge"
	"howdah/internal/cluster"
	"howdah/internal/fault"
	"howdah/internal/server"
)

// auditAlertsCmd tells how the incidents stand, from the trail's files: also with the database down.
type auditAlertsCmd struct {
	watchOf
	ruleOptions
	All bool `name:"all" help:"${help_audit_alerts_all}"`
}

// alertJSON is an incident as howdah audit alerts --json shows it.
type alertJSON struct {
	*audit.Standing
	Text []string `json:"text"`
	Back []string `json:"back,omitempty"` // what was lost, and what brings it back
}

// Run is howdah audit alerts.
func (c *auditAlertsCmd) Run(ctx context.Context, t *terminal) error {
	rules, err := c.load(t)
	if err != nil {
		return err
	}
	house, err := c.open(ctx, t)
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
		database, flags := c.where()
		a.Back = server.WayBack(t.lang, &s.Incident, database, flags, oneLine)
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
	for _, line := range slices.Concat(a.Text, a.Back) {
		t.say("cli.audit.found.line", fault.Args{"text": oneLine(line)})
	}
	for _, answer := range a.Answers {
		args := fault.Args{"name": oneLine(answer.Name)}
		if answer.Until != nil {
			args["until"] = local(*answer.Until)
		}
		said := t.lang.T("web.js.alert.said."+answer.What, args)
		if answer.Note != "" {
			said = t.lang.T("web.js.alert.note", fault.Args{"said": said, "note": oneLine(answer.Note)})
		}
		t.say("cli.audit.alert.said", fault.Args{"said": said, "when": local(answer.At)})
	}
}

// auditAcknowledgeCmd answers an alert without the room: where there is none, or nobody gets in.
type auditAcknowledgeCmd struct {
	watchOf
	Incident string `arg:"" name:"incident" help:"${help_audit_acknowledge_incident}"`
}

// Run is howdah audit acknowledge.
func (c *auditAcknowledgeCmd) Run(ctx context.Context, t *terminal) error {
	by := whoAsks()
	watched, err := c.open(ctx, t)
	if err != nil {
		return err
	}
	found, err := audit.FindIncident(ctx, server.TrailDir(watched), c.Incident)
	if err != nil {
		return err
	}
	if found == nil {
		return fault.New(fault.NotFound, "cli.alert_unknown", fault.Args{"alert": c.Incident, "dir": server.TrailDir(watched)})
	}
	if err := server.Acknowledge(watched, c.Incident, by); err != nil {
		return err
	}
	t.say("cli.audit.acknowledged", fault.Args{"incident": c.Incident})
	return nil
}

// auditVerifyCmd computes the hashes of the trail anew, and compares the database's tables with it.
type auditVerifyCmd struct {
	watchOf
	Head  []string `name:"head" sep:"none" placeholder:"SEQ:HASH" help:"${help_audit_verify_head}"`
	Lines string   `name:"lines" placeholder:"FROM-TO" help:"${help_audit_verify_lines}"`
	JSON  bool     `name:"json" help:"${help_json}"`
}

// tablesJSON is how the tables compare as howdah audit verify --json shows it.
type tablesJSON struct {
	Compared bool             `json:"compared"`
	Why      string           `json:"why,omitempty"` // they were not
	Upto     int64            `json:"up_to"`
	Entries  int64            `json:"entries"`
	Older    int64            `json:"older,omitempty"`
	Unfit    []int64          `json:"unfit,omitempty"`
	Problems []differenceJSON `json:"problems"`
}

type differenceJSON struct {
	Kind     string     `json:"kind"`
	Seq      int64      `json:"seq,omitempty"`
	Incident string     `json:"incident,omitempty"`
	Hour     *time.Time `json:"hour,omitempty"`
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
	from, to, err := c.lines()
	if err != nil {
		return err
	}
	house, err := c.open(ctx, t)
	if err != nil {
		return err
	}
	v, err := audit.Verify(server.TrailDir(house), heads)
	if err != nil {
		return err
	}
	var compared index.Comparison
	var apart *fault.Fault
	if c.known == nil { // else it has no tables
		compared, apart = t.compare(ctx, house, from, to)
	}
	if ctx.Err() != nil {
		return ctx.Err()
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
		tables := tablesJSON{Compared: apart == nil && c.known == nil, Problems: []differenceJSON{}}
		if apart != nil {
			tables.Why = apart.Error()
		} else {
			tables.Upto, tables.Entries, tables.Older, tables.Unfit = compared.Stored.Seq, compared.Compared, compared.Older, compared.Unfit
			for _, d := range compared.Problems {
				one := differenceJSON{Kind: d.Kind, Seq: d.Seq, Incident: d.Incident}
				if !d.Hour.IsZero() {
					one.Hour = &d.Hour
				}
				tables.Problems = append(tables.Problems, one)
			}
		}
		err = t.print(map[string]any{"files": v.Files, "entries": v.Entries, "head": v.Head.String(), "removed": v.Removed, "problems": problems, "tables": tables})
	} else {
		if r := v.Removed; r != nil {
			key := "cli.audit.removed.age"
			if r.Why == audit.RemovedSize {
				key = "cli.audit.removed.size"
			}
			t.say(key, fault.Args{"to": r.To, "until": local(r.Until), "when": local(v.When), "keep": oneLine(r.Keep)})
		}
		for _, head := range v.Gone {
			t.say("cli.audit.gone", fault.Args{"head": head.String()})
		}
		for _, p := range v.Problems {
			t.say("cli.audit.problem."+p.Kind, fault.Args{"file": p.File, "seq": p.Seq})
		}
		if c.known == nil {
			t.compared(compared, apart)
		}
		t.say("cli.audit.verified", fault.Args{"files": v.Files, "entries": v.Entries, "head": v.Head.String()})
	}
	switch {
	case err != nil:
		return err
	case len(v.Problems) > 0:
		return fault.New(fault.Conflict, "cli.audit_trail", fault.Args{"count": len(v.Problems)})
	case len(compared.Problems) > 0:
		return fault.New(fault.Conflict, "cli.audit_tables", fault.Args{"count": len(compared.Problems)})
	}
	return nil
}

// lines reads FROM-TO.
func (c *auditVerifyCmd) lines() (from, to int64, err error) {
	if c.Lines == "" {
		return 0, 0, nil
	}
	first, last, both := strings.Cut(c.Lines, "-")
	from, wrong := strconv.ParseInt(first, 10, 64)
	if wrong == nil && both && last != "" {
		to, wrong = strconv.ParseInt(last, 10, 64)
	}
	if wrong != nil || from < 1 || !both || to != 0 && to < from {
		return 0, 0, fault.New(fault.Invalid, "cli.audit_lines", fault.Args{"value": c.Lines})
	}
	return from, to, nil
}

// compare compares the tables with the files; apart is why that could not be done.
func (t *terminal) compare(ctx context.Context, house *cluster.Cluster, from, to int64) (c index.Comparison, apart *fault.Fault) {
	x, end, err := t.tables(ctx, house)
	if err != nil {
		return c, fault.Of(err)
	}
	defer end()
	patience, done := context.WithTimeout(ctx, time.Minute) // for a database that does not answer
	defer done()
	if _, err = x.Look(patience); err == nil {
		c, err = x.Compare(ctx, from, to)
	}
	if err != nil {
		return index.Comparison{}, fault.Of(err)
	}
	return c, nil
}

func rank(d index.Difference) int {
	if d.Kind == index.TablesBehind || d.Kind == index.TablesOther {
		return 0
	}
	return 1
}

// compared says how the tables compare.
func (t *terminal) compared(c index.Comparison, apart *fault.Fault) {
	if apart != nil {
		message, _ := t.lang.Fault(apart)
		t.say("cli.audit.table.apart", fault.Args{"why": message})
		return
	}
	// Where the tables are another trail's, nearly all rows differ: that comes first, and the rest is not listed whole.
	problems := slices.Clone(c.Problems)
	slices.SortStableFunc(problems, func(a, b index.Difference) int { return rank(a) - rank(b) })
	const most = 50
	for i, d := range problems {
		if i == most {
			t.say("cli.audit.table.more", fault.Args{"count": len(problems) - most})
			break
		}
		t.say("cli.audit.table."+d.Kind, fault.Args{"seq": d.Seq, "stored": c.Stored.Seq, "incident": oneLine(d.Incident), "when": local(d.Hour)})
	}
	for _, seq := range c.Unfit {
		t.say("cli.audit.table.unfit", fault.Args{"seq": seq})
	}
	if c.Older > 0 {
		t.say("cli.audit.table.older", fault.Args{"count": c.Older})
	}
	t.say("cli.audit.table.compared", fault.Args{"count": c.Compared, "seq": c.Stored.Seq})
}
