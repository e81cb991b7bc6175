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
	"howdah/internal/recovery"
	"howdah/internal/repo"
	"howdah/internal/server"
	"howdah/internal/wal"
)

// recoverCmd brings single tables back into the database that lives.
type recoverCmd struct {
	Table    recoverTableCmd    `cmd:"" help:"${help_recover_table}"`
	Schema   recoverSchemaCmd   `cmd:"" help:"${help_recover_schema}"`
	View     recoverViewCmd     `cmd:"" help:"${help_recover_view}"`
	Index    recoverIndexCmd    `cmd:"" help:"${help_recover_index}"`
	Function recoverFunctionCmd `cmd:"" help:"${help_recover_function}"`
	Trigger  recoverTriggerCmd  `cmd:"" help:"${help_recover_trigger}"`
	Type     recoverTypeCmd     `cmd:"" help:"${help_recover_type}"`
	Sequence recoverSequenceCmd `cmd:"" help:"${help_recover_sequence}"`

	Role     recoverRoleCmd     `cmd:"" help:"${help_recover_role}"`
	Grants   recoverGrantsCmd   `cmd:"" help:"${help_recover_grants}"`
	Database recoverDatabaseCmd `cmd:"" help:"${help_recover_database}"`

	List recoverListCmd `cmd:"" help:"${help_recover_list}"`
	Undo recoverUndoCmd `cmd:"" help:"${help_recover_undo}"`
}

// recoverTableCmd brings tables back as they were.
type recoverTableCmd struct {
	keeping
	config.Drill
	Names     []string `arg:"" optional:"" name:"schema.name" help:"${help_recover_names}"`
	Before    string   `help:"${help_recover_before}" name:"before" xor:"target" required:"" placeholder:"ALERT"`
	BeforeXID string   `help:"${help_recover_before_xid}" name:"before-xid" xor:"target" required:"" placeholder:"N"`
	At        string   `help:"${help_restore_at}" xor:"target" required:"" placeholder:"TIME"`
	LSN       string   `help:"${help_restore_lsn}" name:"lsn" xor:"target" required:"" placeholder:"X/Y"`
	Name      string   `help:"${help_restore_name}" xor:"target" required:"" placeholder:"POINT"`
	DB        string   `help:"${help_recover_db}" name:"db" placeholder:"NAME"`
	Plan      bool     `help:"${help_recover_plan}"`
	Beside    bool     `help:"${help_recover_beside}" xor:"mode"`
	Diff      bool     `help:"${help_recover_diff}" xor:"mode"`
	Merge     bool     `help:"${help_recover_merge}" xor:"mode"`
	Changed   bool     `help:"${help_recover_changed}"`
	Replace   bool     `help:"${help_recover_replace}" xor:"mode"`
	Over      bool     `help:"${help_recover_over}"`
	Trust     bool     `help:"${help_recover_trust}"`
	Yes       bool     `help:"${help_restore_yes}"`
	Follow    bool     `hidden:""` // with --json: the plan and how far it is as lines of their own, before the result
	For       string   `hidden:""` // recovery.Options.For
}

// recovered is what howdah recover table says as JSON.
type recovered struct {
	Plan *keeper.Plan   `json:"plan"`
	Part *partly        `json:"scratch,omitempty"`
	Done *recovery.Done `json:"done,omitempty"`
	Took float64        `json:"seconds,omitempty"`
	// Phases say what that went to.
	Phases []keeper.Lap `json:"phases,omitempty"`
}

// partly says what came back of the cluster to get at the tables.
type partly struct {
	Bytes  int64           `json:"bytes"`
	Of     int64           `json:"of"`
	Rounds int             `json:"rounds"`
	Whole  keeper.WhyWhole `json:"whole,omitempty"`
	Opened float64         `json:"opened_seconds"` // until it could be read
}

func (c *recoverTableCmd) mode() (recovery.Mode, error) {
	if c.Changed && !c.Merge {
		return "", fault.New(fault.Invalid, "cli.recover_changed")
	}
	if c.Over && !c.Replace {
		return "", fault.New(fault.Invalid, "cli.recover_over")
	}
	switch {
	case c.Diff:
		return recovery.Diff, nil
	case c.Merge:
		return recovery.Merge, nil
	case c.Replace:
		return recovery.Replace, nil
	}
	return recovery.Beside, nil
}

func (c *recoverTableCmd) target() (t keeper.Target, err error) {
	t = keeper.Target{XID: c.BeforeXID, Before: c.BeforeXID != "", Name: c.Name}
	if c.At != "" {
		t.Time, err = keeper.ParseMoment(lastTime(c.At, time.Now()), time.Local)
	}
	if c.LSN != "" && err == nil {
		t.LSN, err = wal.ParseLSN(c.LSN)
	}
	return t, err
}

// alive is the database that something comes back into.
type alive struct {
	server   keeper.Server
	account  *cluster.Account
	program  string
	pgWAL    string // "" where it is not ours to read
	scratch  string
	database string
	oid      uint32
}

// alive finds the cluster that lives, and a place for the one of the past.
func (c *keeping) alive(ctx context.Context, t *terminal, database string, drill config.Drill) (a alive, err error) {
	own := openOwnProgram()
	if a.account, err = c.settle(ctx, t); err != nil {
		return a, err
	}
	if c.AdminDSN != "" && os.Geteuid() == 0 { // the copy of the past is a server of ours
		if a.account, err = cluster.EnsureAccount(ctx, c.Account); err == nil {
			err = cluster.Drop(a.account)
		}
		if err != nil {
			return a, err
		}
	}
	if a.server, err = c.server(ctx, a.account); err != nil {
		return a, err
	}
	if c.known == nil && c.AdminDSN == "" { // the watch is to know our sessions
		house, err := cluster.New(c.Data, a.server.Programs, cluster.Options{Account: a.account})
		if err != nil {
			return a, err
		}
		a.server.Begun = server.Announce(house)
	}
	if c.known != nil {
		if a.server.Begun, err = c.known.begun(a.server.Programs); err != nil {
			return a, err
		}
	}
	if a.program, err = own.reachable(c.Data); err != nil {
		return a, err
	}
	a.scratch = absolute(drill.Folder(c.Data))
	keeper.SweepScratch(ctx, a.scratch, a.server.Programs, a.account)
	switch {
	case c.known != nil:
		a.pgWAL = filepath.Join(c.known.Data, "pg_wal")
	case c.AdminDSN == "":
		a.pgWAL = filepath.Join(c.Data, "pgdata", "pg_wal")
	}
	if a.database = database; database == "" {
		if a.database = cluster.Database; c.known != nil || c.AdminDSN != "" {
			a.database = "postgres"
		}
	}
	a.oid, err = recovery.DatabaseOID(ctx, a.server, a.database)
	return a, err
}

// Run is howdah recover table.
func (c *recoverTableCmd) Run(ctx context.Context, t *terminal) error {
	began, phases := time.Now(), &keeper.Stopwatch{}
	phases.Begin("plan")
	mode, err := c.mode()
	if err != nil {
		return err
	}
	told, err := c.beforeAlert(ctx)
	if err != nil {
		return err
	}
	target, err := c.target()
	if err != nil {
		return err
	}
	if told != nil && told.TXID == 0 {
		target.Time = beforeRecord(told.At)
	}
	if len(c.Names) == 0 {
		return fault.New(fault.Invalid, "cli.recover_names")
	}
	var names []keeper.TableName
	for _, text := range c.Names {
		name, err := recovery.ParseName(text)
		if err != nil {
			return err
		}
		names = append(names, name)
	}
	keeper.StandBack() // what is made to look at must not slow down what lives
	live, err := c.alive(ctx, t, c.DB, c.Drill)
	if err != nil {
		return err
	}
	a, plan, err := c.find(ctx, t, live, target)
	if err != nil {
		return err
	}
	if !c.JSON {
		c.tell(t, plan, live)
		t.includes(told, plan)
	}
	if c.Plan {
		if c.JSON {
			return t.print(recovered{Plan: plan})
		}
		return nil
	}
	if mode == recovery.Merge || mode == recovery.Replace {
		if err := t.mayAsk(c.Yes); err != nil {
			return err
		}
	}
	in, err := cluster.FindMajor(ctx, c.PgBin, plan.Backup.Major)
	if err != nil {
		return err
	}
	if mode == recovery.Replace { // how tables are made, pg_dump says
		if err := keeper.Needs(in, "pg_dump"); err != nil {
			return err
		}
	}
	bar := t.progress(c.JSON)
	ctx, gone := context.WithCancel(ctx)
	defer gone()
	c.follows(t, plan, bar, gone)
	defer bar.end()
	past, err := a.OpenPast(ctx, plan, keeper.PastOptions{Database: live.oid, Tables: names, Scratch: live.scratch, Program: live.program, Repos: c.places(), IdentityFile: c.Identity,
		Installation: in, Account: live.account, Phases: phases, Progress: func(p keeper.RecoverProgress) { bar.show(t.lang.T("cli.recover."+string(p.Phase)), p.Bytes, p.Total) }})
	if err != nil {
		return err
	}
	opened := time.Since(began).Seconds()
	past.Tables = wholes(past.Tables)
	done, err := c.apply(ctx, t, past, live, mode, bar, phases)
	bar.end()
	phases.Begin("close")
	if closeErr := past.Close(ctx); err == nil && closeErr != nil {
		t.note("cli.tables.left", fault.Args{"dir": live.scratch, "why": closeErr}) // what was done is done; the next command sweeps
	}
	if err != nil {
		return err
	}
	n, err := c.tellRooms(ctx, live, done)
	if err != nil {
		t.note("cli.tables.untold", fault.Args{"why": err}) // what was done is done
	}
	part := &partly{past.Bytes, plan.Write, past.Rounds, past.Why, opened}
	if c.JSON {
		return t.print(recovered{plan, part, done, time.Since(began).Seconds(), phases.End()})
	}
	t.say("cli.tables.part", fault.Args{"bytes": byteText(part.Bytes), "of": byteText(part.Of), "took": durationText(time.Since(began))})
	if part.Whole != "" {
		t.say("cli.tables.whole_" + string(part.Whole))
	}
	c.report(t, done)
	if n > 0 {
		t.say("cli.tables.told", fault.Args{"n": n})
	}
	return nil
}

// find plans with the first repo that leads to the target.
func (c *recoverTableCmd) find(ctx context.Context, t *terminal, live alive, target keeper.Target) (*keeper.Archive, *keeper.Plan, error) {
	if live.pgWAL != "" && !c.Plan { // what is not archived then is read from the server's own folder
		bar := t.progress(c.JSON)
		bar.show(t.lang.T("cli.physical.wal"), 0, 0)
		_, err := keeper.Flush(ctx, live.server, live.pgWAL, 30*time.Second)
		bar.end()
		if ctx.Err() != nil {
			return nil, nil, err
		}
	}
	repos, err := c.repos(ctx, false)
	if err != nil {
		return nil, nil, err
	}
	var first error
	for _, r := range repos {
		a, plan, err := c.planIn(ctx, r, live, target)
		if err == nil {
			return a, plan, nil
		}
		if first == nil {
			first = err
		}
	}
	return nil, nil, first
}

func (c *recoverTableCmd) planIn(ctx context.Context, r *repo.Repo, live alive, target keeper.Target) (*keeper.Archive, *keeper.Plan, error) {
	a, err := keeper.OpenArchive(ctx, r, c.Cluster)
	if err != nil {
		return nil, nil, err
	}
	if system, err := recovery.System(ctx, live.server); err != nil {
		return nil, nil, err
	} else if system != a.System {
		return nil, nil, fault.New(fault.Conflict, "cli.restore_other_cluster", fault.Args{"cluster": c.Cluster, "dir": c.Data})
	}
	if live.pgWAL != "" {
		if err := a.AddFolder(ctx, live.pgWAL); err != nil && !errors.Is(err, fs.ErrPermission) {
			return nil, nil, err
		}
	}
	plan, err := a.Plan(ctx, target)
	return a, plan, err
}

// tell shows the plan.
func (c *recoverTableCmd) tell(t *terminal, p *keeper.Plan, live alive) {
	row := func(key, value string) []string { return []string{t.lang.T("cli.plan." + key), value} }
	rows := [][]string{row("cluster", fmt.Sprintf("%s (PostgreSQL %s)", p.Cluster, p.Backup.Version)), row("tables", strings.Join(c.Names, " ")+" ("+live.database+")"),
		row("backup", fmt.Sprintf("%s, %s", p.Backup.ID, local(p.Backup.Ended))),
		row("wal", t.lang.T("cli.plan.segments", fault.Args{"n": p.Segments, "first": p.First, "last": p.Last, "size": byteText(p.WAL)})), row("until", p.Until.String())}
	if !p.Ended.IsZero() {
		rows = append(rows, row("moment", t.lang.T("cli.plan.just_before", fault.Args{"xid": c.BeforeXID, "at": keeper.Moment(p.Ended.Local())})))
	}
	if p.XID != 0 {
		rows = append(rows, row("reached", t.lang.T("cli.plan.transaction", fault.Args{"xid": p.XID, "at": keeper.Moment(p.Reached.Local())})))
	}
	rows = append(rows, row("scratch", live.scratch), row("most", t.lang.T("cli.plan.at_most", fault.Args{"size": byteText(p.Write), "took": durationText(time.Duration(p.Seconds) * time.Second)})))
	t.table(rows)
	for _, h := range p.Holes {
		t.hole(h)
	}
}

func (c *recoverTableCmd) moment(p *keeper.Plan) string {
	if c.BeforeXID != "" {
		return fmt.Sprintf("%s (< %s)", p.Until, c.BeforeXID)
	}
	return p.Until.String()
}

// apply does what was asked for. What changes rows that are there is shown before.
func (c *recoverTableCmd) apply(ctx context.Context, t *terminal, past *keeper.Past, live alive, mode recovery.Mode, bar *progress, phases *keeper.Stopwatch) (*recovery.Done, error) {
	options := recovery.Options{Live: live.server, Database: live.database, Mode: mode, Changed: c.Changed, Trust: c.Trust, Moment: c.moment(past.Plan), Now: time.Now(), For: c.For, Phases: phases,
		Progress: func(table string, n int64) { bar.show(t.lang.T("cli.tables.copy", fault.Args{"table": table}), n, 0) }}
	if !c.Yes && (mode == recovery.Merge || mode == recovery.Replace) {
		look := options
		look.Mode = recovery.Diff
		shown, err := recovery.Apply(ctx, past, look)
		bar.end()
		switch {
		case err == nil && !c.JSON:
			c.report(t, shown)
		case mode == recovery.Merge, ctx.Err() != nil:
			return nil, err
		}
		question := "cli.tables.sure_" + string(mode)
		if !t.yes(question, nil) {
			return nil, fault.New(fault.Invalid, "cli.restore_yes")
		}
	}
	done, err := recovery.Apply(ctx, past, options)
	if mode == recovery.Replace && fault.HasKey(err, "recovery.is_there") {
		bar.end()
		if !c.Over && !t.yes("cli.tables.sure_over", fault.Args{"names": strings.Join(c.Names, " ")}) {
			return nil, err
		}
		options.Over = true
		done, err = recovery.Apply(ctx, past, options)
	}
	return done, err
}

// report says what was done, or found.
func (c *recoverTableCmd) report(t *terminal, d *recovery.Done) {
	for _, table := range d.Tables {
		args := fault.Args{"table": table.FullName(), "rows": table.Rows, "gone": table.Gone, "altered": table.Altered, "newer": table.Newer, "as": d.Schema() + "." + table.As,
			"kept": d.Schema() + "." + table.Kept, "columns": strings.Join(append(table.Plain, table.Skipped...), ", ")}
		switch d.Mode {
		case recovery.Beside:
			t.say("cli.tables.beside", args)
		case recovery.Diff:
			t.say("cli.tables.diff", args)
		case recovery.Merge:
			t.say("cli.tables.merged", args)
			if table.Over != "" {
				t.say("cli.tables.altered", args)
			}
		case recovery.Replace:
			t.say("cli.tables.replaced", args)
			if table.Kept != "" {
				t.say("cli.tables.kept", args)
			}
		}
		if len(table.Plain) > 0 {
			args["columns"] = strings.Join(table.Plain, ", ")
			t.say("cli.tables.plain", args)
		}
		if len(table.Skipped) > 0 {
			args["columns"] = strings.Join(table.Skipped, ", ")
			t.say("cli.tables.skipped", args)
		}
		for _, name := range table.Loose {
			t.say("cli.tables.loose", fault.Args{"name": name})
		}
		for _, s := range table.Sample {
			line := t.lang.T("cli.tables.kind_"+s.Kind) + " " + s.Key
			for _, change := range s.Columns {
				switch s.Kind {
				case "gone":
					line += fmt.Sprintf(", %s=%s", change.Name, short(change.Was))
				case "new":
					line += fmt.Sprintf(", %s=%s", change.Name, short(change.Is))
				default:
					line += fmt.Sprintf(", %s: %s -> %s", change.Name, short(change.Was), short(change.Is))
				}
			}
			fmt.Fprintln(t.out, "  "+line)
		}
	}
	if d.Mode != recovery.Diff {
		t.say("cli.tables.undo", fault.Args{"id": d.ID})
	}
}

// short is a value that fits into a line.
func short(raw []byte) string {
	if all := []rune(string(raw)); len(all) > 40 {
		return string(all[:39]) + "…"
	}
	return string(raw)
}

// recoverListCmd lists what was recovered and can be taken back.
type recoverListCmd struct {
	keeping
	config.Drill
	DB string `help:"${help_recover_db}" name:"db" placeholder:"NAME"`
}

// Run is howdah recover list.
func (c *recoverListCmd) Run(ctx context.Context, t *terminal) error {
	live, err := c.alive(ctx, t, c.DB, c.Drill)
	if err != nil {
		return err
	}
	all, err := recovery.List(ctx, live.server, live.database)
	if err != nil {
		return err
	}
	if c.JSON {
		if all == nil {
			all = []recovery.Done{}
		}
		return t.print(all)
	}
	if len(all) == 0 {
		t.say("cli.tables.none", fault.Args{"db": live.database})
	}
	for _, d := range all {
		var names []string
		for _, table := range d.Tables {
			names = append(names, table.FullName())
		}
		for _, o := range d.Objects {
			if o.Type != "table" {
				names = append(names, o.Type+" "+o.Name)
			}
		}
		t.say("cli.tables.listed", fault.Args{"id": d.ID, "at": local(d.At), "mode": t.lang.T("cli.tables.mode_" + string(d.Mode)), "tables": strings.Join(names, " "), "moment": d.Moment})
	}
	return nil
}

// recoverUndoCmd takes back what a recovery did.
type recoverUndoCmd struct {
	keeping
	config.Drill
	ID   string `arg:"" name:"id" optional:"" help:"${help_recover_id}"`
	Last bool   `help:"${help_recover_last}"`
	DB   string `help:"${help_recover_db}" name:"db" placeholder:"NAME"`
}

// Run is howdah recover undo.
func (c *recoverUndoCmd) Run(ctx context.Context, t *terminal) error {
	if (c.ID == "") != c.Last {
		return fault.New(fault.Invalid, "cli.recover_which")
	}
	live, err := c.alive(ctx, t, c.DB, c.Drill)
	if err != nil {
		return err
	}
	done, err := recovery.Undo(ctx, live.server, live.database, c.ID)
	if err != nil {
		return err
	}
	if c.JSON {
		return t.print(done)
	}
	t.say("cli.tables.undone", fault.Args{"id": done.ID})
	return nil
}
