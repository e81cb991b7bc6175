package cli

import (
	"context"

	"howdah/internal/audit"
	"howdah/internal/audit/index"
	"howdah/internal/cluster"
	"howdah/internal/config"
	"howdah/internal/fault"
	"howdah/internal/pg"
	"howdah/internal/server"
)

// tables opens the tables of a house's trail. The database has to run.
func (t *terminal) tables(ctx context.Context, house *cluster.Cluster) (x *index.Index, end func(), err error) {
	dsn, err := house.DSN(cluster.App, cluster.Database)
	if err != nil {
		return nil, nil, err
	}
	pool, err := pg.Open(ctx, dsn, pg.Options{MaxConns: 1})
	if err != nil {
		return nil, nil, err
	}
	x = index.New(pool, server.TrailDir(house), server.TrailSource)
	return x, func() { x.Close(); pool.Close() }, nil
}

// auditRebuildCmd makes the tables of the trail anew from its files.
type auditRebuildCmd struct {
	config.House
	Forget bool `name:"forget" help:"${help_audit_rebuild_forget}"`
	JSON   bool `name:"json" help:"${help_json}"`
}

// Run is howdah audit rebuild.
func (c *auditRebuildCmd) Run(ctx context.Context, t *terminal) error {
	house, err := t.house(ctx, &c.House)
	if err != nil {
		return err
	}
	x, end, err := t.tables(ctx, house)
	if err != nil {
		return err
	}
	defer end()
	var stored int64
	if !c.Forget {
		if stored, err = c.rebuild(ctx, t, x, server.TrailDir(house)); err != nil {
			return err
		}
	}
	asides, err := x.Asides(ctx)
	if err == nil && c.Forget {
		err = x.Forget(ctx)
	}
	if err != nil {
		return err
	}
	names := make([]string, len(asides))
	for i := range asides {
		names[i] = asides[i].Name
	}
	if c.JSON {
		return t.print(map[string]any{"entries": stored, "aside": names, "forgotten": c.Forget})
	}
	if !c.Forget {
		t.say("cli.audit.rebuilt", fault.Args{"count": stored})
	}
	for _, a := range asides {
		key := "cli.audit.aside"
		if c.Forget {
			key = "cli.audit.forgotten"
		}
		t.say(key, fault.Args{"name": a.Name, "seq": a.Seq})
	}
	return nil
}

// rebuild fills the tables, beside a running house as well: each step locks out the other's.
func (c *auditRebuildCmd) rebuild(ctx context.Context, t *terminal, x *index.Index, dir string) (stored int64, err error) {
	upTo, err := audit.Settle(dir)
	if err != nil {
		return 0, err
	}
	if upTo == 0 {
		return 0, fault.New(fault.NotFound, "audit.trail_none", fault.Args{"dir": dir})
	}
	if _, err := x.Rebuild(ctx); err != nil {
		return 0, err
	}
	if !c.JSON {
		t.say("cli.audit.filling", fault.Args{"count": upTo})
	}
	for x.Stored().Seq < upTo {
		x.Until(upTo)
		if _, err = x.Step(ctx); fault.HasKey(err, "audit.trail_behind") { // a running house was faster
			was := upTo
			if upTo, err = audit.Settle(dir); err == nil && upTo <= was {
				err = fault.New(fault.Conflict, "audit.trail_behind", fault.Args{"have": upTo, "stored": was})
			}
		}
		if err != nil {
			return 0, err
		}
		if x.Level() {
			break
		}
	}
	return x.Entries(ctx)
}
