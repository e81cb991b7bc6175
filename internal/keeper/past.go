package keeper

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"howdah/internal/cluster"
	"howdah/internal/fault"
)

// Past is a cluster as it was at a plan's end, which runs, answers this process only, and is thrown away by Close. Of its database it holds the catalogs and the tables
// that were asked for; what else is in there must not be read.
type Past struct {
	Server Server // a way in, as a superuser, to the database that was asked for
	Plan   *Plan
	Tables []PastTable // those that were asked for, with their partitions behind them
	Bytes  int64       // of files that came back
	Why    WhyWhole    // why all of the cluster came back; "" when it is a part
	Rounds int         // how often files were brought back: once as a rule

	Roots   []ObjectID   // what was asked for by PastOptions.Objects
	Objects []PastObject // these and what would go with them, as far as the live database lacks it; the tables among them are in Tables

	dir  string // what is made beside the cluster lies there
	drop func(context.Context) error
}

// PastTable is a table of the past.
type PastTable struct {
	OID    uint32
	Schema string
	Name   string
	Parent bool // it is partitioned: the rows are in its partitions
	Asked  bool // by name; false for a partition of one that was
}

// TableName names a table.
type TableName struct{ Schema, Name string }

// String is how SQL writes the name.
func (n TableName) String() string { return quote(n.Schema) + "." + quote(n.Name) }

// PastOptions say what of the past is wanted and where it is made.
type PastOptions struct {
	Database     uint32 // its OID
	All          bool   // all of it comes back
	Tables       []TableName
	Objects      []ObjectName
	Living       func(ctx context.Context, all []ObjectID) (lost []ObjectID, err error) // of Objects: which of these the live database lacks; nil: all of them
	Scratch      string                                                                 // a folder, as of DrillOptions
	Program      string                                                                 // the path of howdah: restore_command brings the WAL with it
	Repos        []Place                                                                // where the WAL is
	IdentityFile string
	Installation cluster.Installation
	Account      *cluster.Account // who PostgreSQL runs as; nil: we ourselves
	Workers      int
	Progress     func(RecoverProgress) // may be nil
	Phases       *Stopwatch            // may be nil
}

func (o PastOptions) drill() DrillOptions {
	return DrillOptions{Scratch: o.Scratch, Program: o.Program, Repos: o.Repos, IdentityFile: o.IdentityFile, Installation: o.Installation, Account: o.Account, Workers: o.Workers}
}

// SweepScratch removes what killed drills and recoveries have left in a folder: servers that run still, and files.
func SweepScratch(ctx context.Context, scratch string, in cluster.Installation, account *cluster.Account) {
	sweepDrills(ctx, DrillOptions{Scratch: scratch, Installation: in, Account: account})
}

// OpenPast makes a cluster as it was at a plan's end. Only what is needed comes back: the catalogs, and the files that the backup's own catalogs name, which are read as they lie there (catalogs). At the
// plan's end PostgreSQL looks the tables up. What has another name by then, or was put elsewhere, is brought back in one more round; what was written anew since the backup is in the
// WAL, whole. Where a part will not do (WhyWhole), all of the cluster comes back.
//
// A table that is not there at the plan's end is the fault "keeper.no_table".
func (a *Archive) OpenPast(ctx context.Context, plan *Plan, o PastOptions) (*Past, error) {
	sweepDrills(ctx, o.drill())
	if major := o.Installation.Version.Major; major != plan.id.Major {
		return nil, fault.New(fault.Conflict, "keeper.other_major", fault.Args{"want": plan.id.Major, "have": major})
	}
	x := &opening{a: a, plan: plan, o: o}
	o.Phases.Begin("names")
	index, why, err := x.whyWhole(ctx)
	if err != nil {
		return nil, err
	}
	x.index = index
	if why == "" {
		judged := make(chan error, 1)
		var fits WhyWhole
		beside := a.other()
		go func() { // beside the first round
			var err error
			fits, err = beside.fitsPart(ctx, plan, o.Database)
			judged <- err
		}()
		past, err := x.rounds(ctx)
		judgeErr := <-judged
		switch {
		case ctx.Err() != nil, judgeErr != nil:
			err = errors.Join(ctx.Err(), judgeErr)
			if past != nil {
				err = errors.Join(err, past.Close(ctx))
			}
			return nil, err
		case fits != "":
			if past != nil {
				if err := past.Close(ctx); err != nil {
					return nil, err
				}
			}
			why = fits
		case err == nil, final(err):
			return past, err
		default:
			x.failed, why = err, WholeFailed
		}
	}
	x.selection = nil
	past, err := x.open(ctx, plan)
	if err != nil {
		return nil, errors.Join(err, x.failed)
	}
	past.Why = why
	if _, err := x.tables(ctx, past); err != nil {
		return nil, errors.Join(err, past.Close(ctx))
	}
	return past, nil
}

// other is the same archive for another goroutine.
func (a *Archive) other() *Archive {
	copied := *a
	copied.recent = nil
	return &copied
}

// opening is one OpenPast under way.
type opening struct {
	a         *Archive
	plan      *Plan
	o         PastOptions
	index     *Index
	selection *Selection // nil: everything
	made      int        // rounds
	failed    error      // why a part would not do
}

// whyWhole tells from the backup alone whether a part of it will do.
func (x *opening) whyWhole(ctx context.Context) (*Index, WhyWhole, error) {
	b := x.plan.Backup
	switch {
	case len(x.plan.Chain) > 1:
		return nil, WholeIncrement, nil
	case !b.Checksums:
		return nil, WholeChecksums, nil
	}
	index, err := b.ReadIndex(ctx, x.a.r)
	if err != nil {
		return nil, "", err
	}
	c, err := b.catalogsOf(ctx, x.a.r, index, x.o.Database)
	if err != nil {
		return nil, "", err
	}
	if c == nil {
		return nil, WholeNewer, nil
	}
	x.selection = &Selection{Database: x.o.Database, Files: map[RelationFile]bool{}, Whole: x.o.All}
	for _, number := range c.mapped {
		x.selection.Files[RelationFile{index.Tarballs[c.tarball].Name, x.o.Database, number}] = true
	}
	return index, "", x.guess(c)
}

// final tells whether more files would not help.
func final(err error) bool {
	return slices.ContainsFunc([]string{"keeper.no_table", "keeper.no_object", "keeper.not_table", "keeper.unlogged_table", "repo.target_full", "keeper.no_room"}, func(key string) bool { return fault.HasKey(err, key) })
}

// mostRounds is enough for tables that were renamed, one after the other, between the backup and the plan's end.
const mostRounds = 6

// rounds brings files back until all that is needed was among them.
func (x *opening) rounds(ctx context.Context) (*Past, error) {
	for {
		past, err := x.open(ctx, x.plan)
		if err != nil {
			return nil, err
		}
		more, err := x.tables(ctx, past)
		if more == 0 && err == nil {
			return past, nil
		}
		if closeErr := past.Close(ctx); closeErr != nil || more == 0 {
			return nil, errors.Join(err, closeErr)
		}
		if x.made >= mostRounds {
			return nil, fmt.Errorf("after %d rounds, %d files are missing still", x.made, more)
		}
	}
}

// open makes the cluster with what is selected, and starts it.
func (x *opening) open(ctx context.Context, plan *Plan) (past *Past, err error) {
	x.made++
	past = &Past{Plan: x.plan, Bytes: plan.Write, Rounds: x.made}
	if x.selection != nil {
		x.selection.measure(x.index)
		past.Bytes = x.selection.Bytes
	}
	if err := x.room(plan, past.Bytes); err != nil {
		return nil, err
	}
	dir, drop, err := drillFolder(ctx, x.o.drill())
	if err != nil {
		return nil, err
	}
	past.dir, past.drop = dir, drop
	defer func() {
		if err != nil {
			past, err = nil, errors.Join(err, past.Close(ctx))
		}
	}()
	to := RecoverOptions{To: filepath.Join(dir, "cluster"), Program: x.o.Program, Repos: x.o.Repos, IdentityFile: x.o.IdentityFile, Installation: x.o.Installation,
		Account: x.o.Account, Scratch: true, Select: x.selection, Workers: x.o.Workers, Progress: x.o.Progress, Phases: x.o.Phases}
	done, err := Recover(ctx, x.a.r, plan, to)
	if err != nil {
		return past, err
	}
	if past.Server, err = revive(ctx, done, dir, to); err != nil {
		return past, err
	}
	conn, err := past.Server.connect(ctx, "")
	if err != nil {
		return past, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	var name string
	err = conn.QueryRow(ctx, `SELECT datname FROM pg_database WHERE oid = $1`, x.o.Database).Scan(&name)
	if errors.Is(err, pgx.ErrNoRows) {
		return past, fault.New(fault.NotFound, "keeper.no_table", fault.Args{"tables": fmt.Sprint(x.o.Tables), "moment": plan.moment()})
	}
	if err == nil {
		_, err = conn.Exec(ctx, `UPDATE pg_database SET datallowconn = true, datconnlimit = -1 WHERE oid = $1`, x.o.Database)
	}
	if err != nil {
		return past, err
	}
	values, err := parseDSN(past.Server.DSN)
	if err != nil {
		return past, err
	}
	values["dbname"] = name
	past.Server.DSN = keywords(values)
	return past, nil
}

// moment says where a plan ends, for people.
func (p *Plan) moment() string {
	if !p.Reached.IsZero() {
		return fmt.Sprintf("%s (%s)", p.Until, Moment(p.Reached.Local()))
	}
	return p.Until.String()
}

// room refuses what would leave too little of the disk. A page of WAL that is replayed into a hole takes its place on disk, so the WAL counts as well; it may be compressed.
func (x *opening) room(plan *Plan, bytes int64) error {
	need := min(plan.Write, bytes+4*plan.WAL) + min(plan.WAL, 1<<30) + drillLeaves
	free, err := freeSpace(nearest(x.o.Scratch))
	if err == nil && free < need {
		return noRoom(x.o.Scratch, need, free)
	}
	return nil //nolint:nilerr // some file systems do not say
}

// Close stops the cluster and removes it.
func (p *Past) Close(ctx context.Context) error {
	late, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	return p.drop(late)
}

// tables looks up what is wanted, and adds the files of it that have not come back to the selection: how many these are. With none, Tables is right.
func (x *opening) tables(ctx context.Context, past *Past) (more int, err error) {
	conn, err := past.Server.connect(ctx, "")
	if err != nil {
		return 0, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	needs := func(paths []string) (n int) {
		for _, path := range paths {
			if of, ok := livingFile(path); ok && x.selection != nil && !x.selection.covers(of) && x.index.has(of) {
				x.selection.Files[of] = true
				n++
			}
		}
		return n
	}
	// Catalogs that were written anew (VACUUM FULL) are no longer where initdb has put them.
	rows, _ := conn.Query(ctx, `SELECT pg_relation_filepath(oid) FROM pg_class WHERE oid < 16384 AND relkind IN ('r', 'i', 't') AND NOT relisshared
		AND pg_relation_filenode(oid) >= 16384`)
	catalogs, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return 0, err
	}
	if more = needs(catalogs); more > 0 {
		return more, nil
	}
	past.Tables = nil
	var missing []string
	for _, name := range x.o.Tables {
		var kind, persistence string
		t := PastTable{Schema: name.Schema, Name: name.Name, Asked: true}
		err := conn.QueryRow(ctx, `SELECT c.oid, relkind::text, relpersistence::text FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace WHERE nspname = $1 AND relname = $2`,
			name.Schema, name.Name).Scan(&t.OID, &kind, &persistence)
		switch {
		case errors.Is(err, pgx.ErrNoRows):
			missing = append(missing, name.String())
			continue
		case err != nil:
			return more, err
		case kind != "r" && kind != "p":
			return more, fault.New(fault.Invalid, "keeper.not_table", fault.Args{"name": name.String()})
		case persistence != "p":
			return more, fault.New(fault.Invalid, "keeper.unlogged_table", fault.Args{"name": name.String()})
		}
		t.Parent = kind == "p"
		past.Tables = append(past.Tables, t)
		if t.Parent {
			rows, _ := conn.Query(ctx, `WITH RECURSIVE part AS (SELECT inhrelid AS oid FROM pg_inherits WHERE inhparent = $1 UNION ALL
				SELECT i.inhrelid FROM pg_inherits i JOIN part ON i.inhparent = part.oid)
				SELECT c.oid, nspname, relname, relkind = 'p', false FROM part JOIN pg_class c USING (oid) JOIN pg_namespace n ON n.oid = relnamespace WHERE relkind IN ('r', 'p') ORDER BY 2, 3`, t.OID)
			parts, err := pgx.CollectRows(rows, pgx.RowToStructByPos[PastTable])
			if err != nil {
				return more, err
			}
			past.Tables = append(past.Tables, parts...)
		}
	}
	relations, err := x.objects(ctx, conn, past)
	if err != nil {
		return more, err
	}
	var oids []uint32
	for _, t := range past.Tables {
		oids = append(oids, t.OID)
	}
	// Tables, their TOAST, the indexes of both, and the sequences that belong to them.
	rows, _ = conn.Query(ctx, `WITH heap AS (SELECT unnest($1::oid[]) AS oid UNION SELECT reltoastrelid FROM pg_class WHERE oid = ANY($1::oid[]) AND reltoastrelid <> 0)
		SELECT coalesce(pg_relation_filepath(oid), '') FROM (SELECT oid FROM heap UNION SELECT indexrelid FROM pg_index JOIN heap ON indrelid = heap.oid
		UNION SELECT d.objid FROM pg_depend d JOIN pg_class s ON s.oid = d.objid AND s.relkind = 'S' WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass
			AND d.refobjid = ANY($1::oid[]) AND d.deptype IN ('a', 'i') UNION SELECT unnest($2::oid[])) all_of_them`, oids, relations)
	files, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return more, err
	}
	more = needs(files)
	if len(missing) > 0 {
		slices.Sort(missing)
		return more, fault.New(fault.NotFound, "keeper.no_table", fault.Args{"tables": strings.Join(slices.Compact(missing), ", "), "moment": past.Plan.moment()})
	}
	return more, nil
}

// Connect opens a connection to the database of the past.
func (p *Past) Connect(ctx context.Context) (*pgx.Conn, error) { return p.Server.connect(ctx, "") }

// Definition is what pg_dump writes of the tables without their rows: the section "pre-data" (tables, sequences, defaults, owners, rights, comments) or "post-data" (indexes,
// constraints, triggers, rules, policies). It is SQL for one connection.
func (p *Past) Definition(ctx context.Context, section string) (string, error) {
	values, err := parseDSN(p.Server.DSN)
	if err != nil {
		return "", err
	}
	info, password, err := p.Server.conninfo(values["dbname"])
	if err != nil {
		return "", err
	}
	args := []string{"--section=" + section, "--encoding=UTF8", "--no-password"}
	for _, t := range p.Tables {
		args = append(args, "--table="+TableName{t.Schema, t.Name}.String())
	}
	var text bytes.Buffer
	if _, err := p.Server.run(ctx, nil, &text, password, "pg_dump", append(args, "--dbname="+info)...); err != nil {
		return "", dumpFault(err, values["dbname"])
	}
	return withoutRestricts(text.String()), nil
}

var restricts = regexp.MustCompile(`^\\(un)?restrict [A-Za-z0-9]+\n$`)

// ConnectAs opens a connection to a database under a name that others see (application_name).
func (s Server) ConnectAs(ctx context.Context, database, application string) (*pgx.Conn, error) {
	conn, err := s.connect(ctx, database)
	if err != nil {
		return nil, err
	}
	_, err = conn.Exec(ctx, `SELECT set_config('application_name', $1, false)`, application)
	if err != nil {
		_ = conn.Close(context.WithoutCancel(ctx))
		return nil, err
	}
	return conn, nil
}
