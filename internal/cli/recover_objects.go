package cli

import (
	"context"
	"strings"
	"time"

	"howdah/internal/cluster"
	"howdah/internal/config"
	"howdah/internal/fault"
	"howdah/internal/keeper"
	"howdah/internal/recovery"
)

// backTo says which past, and what is done with it, for all that is no table.
type backTo struct {
	keeping
	config.Drill
	Before    string `help:"${help_recover_before}" name:"before" xor:"target" required:"" placeholder:"ALERT"`
	BeforeXID string `help:"${help_recover_before_xid}" name:"before-xid" xor:"target" required:"" placeholder:"N"`
	At        string `help:"${help_restore_at}" xor:"target" required:"" placeholder:"TIME"`
	LSN       string `help:"${help_restore_lsn}" name:"lsn" xor:"target" required:"" placeholder:"X/Y"`
	Name      string `help:"${help_restore_name}" xor:"target" required:"" placeholder:"POINT"`
	DB        string `help:"${help_recover_db}" name:"db" placeholder:"NAME"`
	Plan      bool   `help:"${help_recover_plan}"`
	Diff      bool   `help:"${help_recover_objects_diff}"`
	Trust     bool   `help:"${help_recover_trust}"`
	Yes       bool   `help:"${help_restore_yes}"`

	everywhere bool // what comes back is in no single database
}

// table is the command for tables with the same options: it plans and tells.
func (c *backTo) table(names []string) *recoverTableCmd {
	return &recoverTableCmd{keeping: c.keeping, Drill: c.Drill, Names: names, BeforeXID: c.BeforeXID, At: c.At, LSN: c.LSN, Name: c.Name, DB: c.DB, Plan: c.Plan, Yes: c.Yes}
}

// opened is a past under way.
type opened struct {
	live    alive
	archive *keeper.Archive
	options keeper.PastOptions
	plan    *keeper.Plan
	past    *keeper.Past
	took    float64
	began   time.Time
}

// open plans, says so, and opens the past, unless one of the programs of PostgreSQL that are needed is missing; nil where no more was asked for.
func (c *backTo) open(ctx context.Context, t *terminal, names []string, bar *progress, want func(*alive, *keeper.PastOptions), programs ...string) (*opened, error) {
	began := time.Now()
	at, err := c.beforeAlert(ctx)
	if err != nil {
		return nil, err
	}
	table := c.table(names)
	target, err := table.target()
	if err != nil {
		return nil, err
	}
	if !at.IsZero() {
		target.Time = at
	}
	keeper.StandBack() // what is made to look at must not slow down what lives
	live, err := c.alive(ctx, t, c.DB, c.Drill)
	if err != nil {
		return nil, err
	}
	a, plan, err := table.find(ctx, t, live, target)
	if err != nil {
		return nil, err
	}
	if !c.JSON {
		table.tell(t, plan, live)
		if c.Before != "" && at.IsZero() {
			t.say("cli.objects.before", fault.Args{"xid": c.BeforeXID, "alert": c.Before})
		} else if c.Before != "" {
			t.say("cli.objects.before_time", fault.Args{"alert": c.Before, "until": keeper.Moment(at.Local())})
		}
	}
	if c.Plan {
		if c.JSON {
			return nil, t.print(recovered{Plan: plan})
		}
		return nil, nil //nolint:nilnil // no more was asked for
	}
	if err := t.mayAsk(c.Yes || c.Diff); err != nil {
		return nil, err
	}
	in, err := cluster.FindMajor(ctx, c.PgBin, plan.Backup.Major)
	if err != nil {
		return nil, err
	}
	if err := keeper.Needs(in, programs...); err != nil {
		return nil, err
	}
	options := keeper.PastOptions{Database: live.oid, Scratch: live.scratch, Program: live.program, Repos: c.places(), IdentityFile: c.Identity, Installation: in, Account: live.account,
		Progress: func(p keeper.RecoverProgress) { bar.show(t.lang.T("cli.recover."+string(p.Phase)), p.Bytes, p.Total) }}
	want(&live, &options)
	past, err := a.OpenPast(ctx, plan, options)
	bar.end()
	if err != nil {
		return nil, err
	}
	return &opened{live, a, options, plan, past, time.Since(began).Seconds(), began}, nil
}

// close throws the past away. What was done is done: what is left of it the next command sweeps.
func (c *backTo) close(ctx context.Context, t *terminal, o *opened) {
	if err := o.past.Close(ctx); err != nil {
		t.note("cli.tables.left", fault.Args{"dir": o.live.scratch, "why": err})
	}
}

// finish says what came of it.
func (c *backTo) finish(t *terminal, o *opened, done *recovery.Done) error {
	part := &partly{o.past.Bytes, o.plan.Write, o.past.Rounds, o.past.Why, o.took}
	if c.JSON {
		return t.print(recovered{Plan: o.plan, Part: part, Done: done, Took: time.Since(o.began).Seconds()})
	}
	t.say("cli.tables.part", fault.Args{"bytes": byteText(part.Bytes), "of": byteText(part.Of), "took": durationText(time.Since(o.began))})
	if part.Whole != "" {
		t.say("cli.tables.whole_" + string(part.Whole))
	}
	if !c.Diff {
		t.say("cli.objects.done")
	}
	tellObjects(t, done)
	if !c.Diff {
		t.say("cli.tables.undo", fault.Args{"id": done.ID})
		if done.Mode == recovery.Databases {
			t.say("cli.objects.database_undo", fault.Args{"as": done.Schema()})
		}
	}
	return nil
}

// tellObjects lists what comes back, or came.
func tellObjects(t *terminal, d *recovery.Done) {
	for _, o := range d.Objects {
		key := "cli.objects.lost"
		if o.Changed {
			key = "cli.objects.changed"
		}
		t.say(key, fault.Args{"type": o.Type, "name": o.Name})
	}
	for _, table := range d.Tables {
		if table.Rows > 0 {
			t.say("cli.tables.replaced", fault.Args{"table": table.FullName(), "rows": table.Rows})
		}
		for _, name := range table.Loose {
			t.say("cli.tables.loose", fault.Args{"name": name})
		}
	}
	for _, name := range d.Loose {
		t.say("cli.tables.loose", fault.Args{"name": name})
	}
	for _, r := range d.Rights {
		key := "cli.rights.right"
		args := fault.Args{"what": r.Privilege, "on": r.On, "to": r.Grantee}
		switch {
		case r.Privilege == "MEMBER":
			key = "cli.rights.member"
		case r.Privilege == "OWNER":
			key = "cli.rights.owner"
		case r.Grantee == "":
			args["to"] = "PUBLIC"
		}
		if r.Column != "" {
			args["what"] = r.Privilege + " (" + r.Column + ")"
		}
		t.say(key, args)
	}
	if len(d.Elsewhere) > 0 {
		t.say("cli.rights.elsewhere", fault.Args{"databases": strings.Join(d.Elsewhere, ", "), "db": d.Elsewhere[0]})
	}
	for _, name := range d.Empty {
		t.say("cli.objects.empty", fault.Args{"name": name})
	}
	for _, name := range d.Beside {
		t.say("cli.objects.beside", fault.Args{"name": name})
	}
	for _, name := range d.Left {
		if d.Mode != recovery.Objects {
			t.say("cli.rights.left", fault.Args{"name": name})
			continue
		}
		t.say("cli.objects.left", fault.Args{"name": name})
	}
}

// apply shows what would be done, asks, and does it.
func (c *backTo) apply(ctx context.Context, t *terminal, o *opened, mode recovery.Mode, bar *progress, more func(*recovery.Options)) (*recovery.Done, error) {
	options := recovery.Options{Live: o.live.server, Database: o.live.database, Mode: mode, Trust: c.Trust, Moment: c.table(nil).moment(o.plan), Now: time.Now(),
		Progress: func(table string, n int64) { bar.show(t.lang.T("cli.tables.copy", fault.Args{"table": table}), n, 0) }}
	if more != nil {
		more(&options)
	}
	if c.Diff || !c.Yes {
		look := options
		look.Look = true
		shown, err := recovery.Apply(ctx, o.past, look)
		if err != nil || c.Diff {
			return shown, err
		}
		tellObjects(t, shown)
		if !t.yes("cli.objects.sure", nil) {
			return nil, fault.New(fault.Invalid, "cli.restore_yes")
		}
	}
	done, err := recovery.Apply(ctx, o.past, options)
	bar.end()
	return done, err
}

// recoverObject brings back things of one kind.
type recoverObject struct {
	backTo
	Names []string `arg:"" name:"names" help:"${help_recover_object_names}"`
}

func (c *recoverObject) run(ctx context.Context, t *terminal, kind keeper.ObjectKind) error {
	var names []keeper.ObjectName
	for _, text := range c.Names {
		name, err := recovery.ParseObject(kind, text)
		if err != nil {
			return err
		}
		names = append(names, name)
	}
	bar := t.progress(c.JSON)
	defer bar.end()
	o, err := c.open(ctx, t, c.Names, bar, func(live *alive, p *keeper.PastOptions) {
		p.Objects, p.Living = names, recovery.Living(live.server, live.database)
	}, "pg_dump", "pg_restore")
	if err != nil || o == nil {
		return err
	}
	done, err := c.apply(ctx, t, o, recovery.Objects, bar, nil)
	c.close(ctx, t, o)
	if err != nil {
		return err
	}
	return c.finish(t, o, done)
}

// One command for each kind.
type (
	recoverSchemaCmd   struct{ recoverObject }
	recoverViewCmd     struct{ recoverObject }
	recoverIndexCmd    struct{ recoverObject }
	recoverFunctionCmd struct{ recoverObject }
	recoverTriggerCmd  struct{ recoverObject }
	recoverTypeCmd     struct{ recoverObject }
	recoverSequenceCmd struct{ recoverObject }
)

// Run is howdah recover schema.
func (c *recoverSchemaCmd) Run(ctx context.Context, t *terminal) error {
	return c.run(ctx, t, keeper.KindSchema)
}

// Run is howdah recover view.
func (c *recoverViewCmd) Run(ctx context.Context, t *terminal) error {
	return c.run(ctx, t, keeper.KindView)
}

// Run is howdah recover index.
func (c *recoverIndexCmd) Run(ctx context.Context, t *terminal) error {
	return c.run(ctx, t, keeper.KindIndex)
}

// Run is howdah recover function.
func (c *recoverFunctionCmd) Run(ctx context.Context, t *terminal) error {
	return c.run(ctx, t, keeper.KindFunction)
}

// Run is howdah recover trigger.
func (c *recoverTriggerCmd) Run(ctx context.Context, t *terminal) error {
	return c.run(ctx, t, keeper.KindTrigger)
}

// Run is howdah recover type.
func (c *recoverTypeCmd) Run(ctx context.Context, t *terminal) error {
	return c.run(ctx, t, keeper.KindType)
}

// Run is howdah recover sequence.
func (c *recoverSequenceCmd) Run(ctx context.Context, t *terminal) error {
	return c.run(ctx, t, keeper.KindSequence)
}

// recoverRoleCmd brings roles back.
type recoverRoleCmd struct {
	backTo
	Names []string `arg:"" name:"names" help:"${help_recover_role_names}"`
}

// Run is howdah recover role.
func (c *recoverRoleCmd) Run(ctx context.Context, t *terminal) error {
	return c.rights(ctx, t, c.Names, recovery.Roles, recovery.Selected{Roles: c.Names})
}

// recoverGrantsCmd gives rights back.
type recoverGrantsCmd struct {
	backTo
	Names  []string `arg:"" optional:"" name:"names" help:"${help_recover_grants_names}"`
	Role   []string `help:"${help_recover_grants_role}" placeholder:"ROLE"`
	Schema []string `help:"${help_recover_grants_schema}" placeholder:"SCHEMA"`
}

// Run is howdah recover grants.
func (c *recoverGrantsCmd) Run(ctx context.Context, t *terminal) error {
	if len(c.Names)+len(c.Role)+len(c.Schema) == 0 {
		return fault.New(fault.Invalid, "cli.recover_grants")
	}
	s := recovery.Selected{Roles: c.Role, Schemas: c.Schema}
	for _, text := range c.Names {
		name, err := recovery.ParseObject(keeper.KindFunction, text)
		if err != nil {
			return fault.New(fault.Invalid, "recovery.name", fault.Args{"name": text})
		}
		s.On = append(s.On, name)
	}
	return c.rights(ctx, t, append(append(append([]string{}, c.Names...), c.Schema...), c.Role...), recovery.Grants, s)
}

// rights brings back what belongs to roles: of the past, that needs the catalogs alone.
func (c *backTo) rights(ctx context.Context, t *terminal, names []string, mode recovery.Mode, selected recovery.Selected) error {
	c.everywhere = true // or in one, and the change was made from another
	bar := t.progress(c.JSON)
	defer bar.end()
	o, err := c.open(ctx, t, names, bar, func(*alive, *keeper.PastOptions) {})
	if err != nil || o == nil {
		return err
	}
	done, err := c.apply(ctx, t, o, mode, bar, func(options *recovery.Options) { options.Selected = selected })
	c.close(ctx, t, o)
	if err != nil {
		return err
	}
	return c.finish(t, o, done)
}

// recoverDatabaseCmd brings a dropped database back.
type recoverDatabaseCmd struct {
	backTo
	Database string `arg:"" name:"database" help:"${help_recover_database_name}"`
}

// Run is howdah recover database.
func (c *recoverDatabaseCmd) Run(ctx context.Context, t *terminal) error {
	c.DB, c.everywhere = "postgres", true // what is done is written down there
	bar := t.progress(c.JSON)
	defer bar.end()
	o, err := c.open(ctx, t, []string{c.Database}, bar, func(_ *alive, p *keeper.PastOptions) { p.Database = recovery.Template1 }, "pg_dump", "pg_restore")
	if err != nil || o == nil {
		return err
	}
	then, err := recovery.FindDatabase(ctx, o.past, c.Database)
	c.close(ctx, t, o)
	if err != nil {
		return err
	}
	options := recovery.Options{Live: o.live.server, Moment: c.table(nil).moment(o.plan), Now: time.Now(), Look: true}
	done, err := recovery.RestoreDatabase(ctx, nil, then, options)
	if err != nil {
		return err
	}
	if !c.Diff {
		if !c.Yes {
			tellObjects(t, done)
			if !t.yes("cli.objects.sure", nil) {
				return fault.New(fault.Invalid, "cli.restore_yes")
			}
		}
		options.Look, options.Now = false, time.Now()
		o.options.Database, o.options.All = then.OID, true
		if o.past, err = o.archive.OpenPast(ctx, o.plan, o.options); err != nil {
			return err
		}
		bar.show(t.lang.T("cli.tables.copy", fault.Args{"table": c.Database}), 0, 0)
		done, err = recovery.RestoreDatabase(ctx, o.past, then, options)
		bar.end()
		c.close(ctx, t, o)
		if err != nil {
			return err
		}
	}
	return c.finish(t, o, done)
}
