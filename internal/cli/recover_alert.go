package cli

import (
	"context"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"howdah/internal/audit"
	"howdah/internal/fault"
	"howdah/internal/keeper"
	"howdah/internal/server"
)

// beforeAlert fills in what --before ALERT stands for: the transaction, or the time where none is known, the database, and the tables where none are named. It reads the trail's files, and needs
// nothing that runs. nil where another target was given.
func (c *recoverTableCmd) beforeAlert(ctx context.Context) (*audit.Way, error) {
	if c.Before == "" {
		return nil, nil
	}
	dir := c.Data
	if known, err := c.lookUp(); err != nil {
		return nil, err
	} else if known != nil {
		dir = known.dir
	}
	args := fault.Args{"alert": c.Before, "dir": filepath.Join(dir, server.TrailFolder), "db": c.DB}
	incident, err := audit.FindIncident(ctx, filepath.Join(dir, server.TrailFolder), c.Before)
	if err != nil {
		return nil, err
	}
	if incident == nil {
		return nil, fault.New(fault.NotFound, "cli.alert_unknown", args)
	}
	way, undone, ok := incident.Back(c.DB)
	switch {
	case undone:
		return nil, fault.New(fault.Conflict, "cli.alert_undone", args)
	case !ok && c.DB != "" && len(incident.Losses) > 0:
		args["db"] = incident.Losses[0].DB
		return nil, fault.New(fault.NotFound, "cli.alert_other_db", args)
	case !ok:
		return nil, fault.New(fault.NotFound, "cli.alert_nothing_lost", args)
	}
	c.DB = way.DB
	if len(c.Names) == 0 {
		c.Names = way.Tables
	}
	if way.TXID != 0 {
		c.BeforeXID = strconv.FormatUint(way.TXID, 10)
	}
	return &way, nil
}

// beforeRecord is the time up to which a state has nothing of what a record tells: it is written before its transaction commits.
func beforeRecord(at time.Time) time.Time { return at.Add(-time.Millisecond) }

// includes says before what the state is, and what it has.
func (t *terminal) includes(way *audit.Way, p *keeper.Plan) {
	if way == nil {
		return
	}
	if way.TXID != 0 {
		var others []string
		for _, l := range way.Losses {
			if id := strconv.FormatUint(l.TXID, 10); l.TXID != way.TXID && l.TXID != 0 && (len(others) == 0 || others[len(others)-1] != id) {
				others = append(others, id)
			}
		}
		t.say("cli.tables.before", fault.Args{"xid": way.TXID, "kind": way.Losses[0].Kind, "table": way.Losses[0].Object, "at": keeper.Moment(way.At.Local())})
		if len(others) > 0 {
			t.say("cli.tables.before_others", fault.Args{"ids": strings.Join(others, t.lang.T("cli.backup.comma"))})
		}
		return
	}
	t.say("cli.tables.before_time", fault.Args{"kind": way.Losses[0].Kind, "table": way.Losses[0].Object, "at": keeper.Moment(way.At.Local()), "until": keeper.Moment(beforeRecord(way.At).Local())})
}
