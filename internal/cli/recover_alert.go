package cli

import (
	"context"
	"path/filepath"
	"slices"
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
	incident, err := c.incident(ctx, c.Before)
	if err != nil {
		return nil, err
	}
	args := fault.Args{"alert": c.Before, "db": c.DB}
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

// incident looks an alert up in the trail.
func (c *keeping) incident(ctx context.Context, id string) (*audit.Incident, error) {
	dir := c.Data
	if known, err := c.lookUp(); err != nil {
		return nil, err
	} else if known != nil {
		dir = known.dir
	}
	dir = filepath.Join(dir, server.TrailFolder)
	incident, err := audit.FindIncident(ctx, dir, id)
	if err == nil && incident == nil {
		err = fault.New(fault.NotFound, "cli.alert_unknown", fault.Args{"alert": id, "dir": dir})
	}
	return incident, err
}

// beforeAlert is that of all that is no table: the first transaction of the alert that was not rolled back, or the time where none is known, and the database. What comes back is named: an alert may tell of more
// than anybody wants back.
func (c *backTo) beforeAlert(ctx context.Context) (at time.Time, err error) {
	if c.Before == "" {
		return time.Time{}, nil
	}
	incident, err := c.incident(ctx, c.Before)
	if err != nil {
		return time.Time{}, err
	}
	args := fault.Args{"alert": c.Before, "db": incident.DB}
	switch {
	case c.DB == "":
		c.DB = incident.DB
	case !c.everywhere && incident.DB != "" && c.DB != incident.DB:
		return time.Time{}, fault.New(fault.NotFound, "cli.alert_other_db", args)
	}
	first, aborted := uint64(0), 0
	for _, transaction := range incident.Transactions {
		switch {
		case transaction.Fate == "aborted":
			aborted++
		case transaction.ID != 0 && (first == 0 || transaction.ID < first):
			first = transaction.ID
		}
	}
	switch {
	case first != 0:
		c.BeforeXID = strconv.FormatUint(first, 10)
	case aborted > 0:
		return time.Time{}, fault.New(fault.Conflict, "cli.alert_undone", args)
	default: // no record bears a number
		at = beforeRecord(incident.Began)
	}
	return at, nil
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

// followed is a line of howdah recover table --json --follow before the last.
type followed struct {
	Plan     *keeper.Plan `json:"plan,omitempty"`
	Scratch  string       `json:"scratch_dir,omitempty"` // with Plan: where the copy of the past is made, ...
	Database string       `json:"database,omitempty"`    // ... and whose tables come back
	Progress *farAs       `json:"progress,omitempty"`
}

// farAs says how far a recovery is.
type farAs struct {
	Label string `json:"label"`
	Bytes int64  `json:"bytes"`
	Total int64  `json:"total"` // 0: nobody knows
}

// followEvery is the least between two lines about the same.
const followEvery = time.Second

// follows tells whoever has started us how far it is. gone ends the recovery: whoever wished it was killed, and who comes next believes that nobody is at it.
func (c *recoverTableCmd) follows(t *terminal, plan *keeper.Plan, bar *progress, gone func()) {
	if !c.Follow || !c.JSON {
		return
	}
	if t.print(followed{Plan: plan, Scratch: c.Folder(c.Data), Database: c.DB}) != nil {
		gone()
	}
	var last string
	var at time.Time
	bar.tell = func(label string, done, total int64) {
		if label == last && time.Since(at) < followEvery {
			return
		}
		last, at = label, time.Now()
		if t.print(followed{Progress: &farAs{label, done, total}}) != nil {
			gone()
		}
	}
}

// wholes leaves partitions out as tables of their own where what they are parts of comes back, too: the record of a partitioned table that is dropped names them as well.
func wholes(tables []keeper.PastTable) []keeper.PastTable {
	parts := map[uint32]bool{}
	for _, t := range tables {
		parts[t.OID] = parts[t.OID] || !t.Asked
	}
	seen := map[uint32]bool{}
	return slices.DeleteFunc(slices.Clone(tables), func(t keeper.PastTable) bool {
		if t.Asked && parts[t.OID] || seen[t.OID] {
			return true
		}
		seen[t.OID] = true
		return false
	})
}
