package keeper

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"

	"howdah/internal/cluster"
	"howdah/internal/fault"
)

// ObjectKind is what can be asked for by name beside tables.
type ObjectKind string

// The kinds.
const (
	KindSchema   ObjectKind = "schema" // with all that is in it
	KindView     ObjectKind = "view"   // also a materialized one
	KindIndex    ObjectKind = "index"
	KindFunction ObjectKind = "function" // procedures and aggregates as well
	KindTrigger  ObjectKind = "trigger"
	KindType     ObjectKind = "type" // domains as well
	KindSequence ObjectKind = "sequence"
)

// ObjectName names something of a database.
type ObjectName struct {
	Kind   ObjectKind
	Schema string  // "" for a schema
	On     string  // the table of a trigger
	Name   string  //
	Args   *string // of a function, the types of its arguments as PostgreSQL writes them; nil: all of that name
}

// String is how people write it.
func (n ObjectName) String() string {
	var parts []string
	for _, part := range []string{n.Schema, n.On, n.Name} {
		if part != "" {
			parts = append(parts, quote(part))
		}
	}
	text := strings.Join(parts, ".")
	if n.Args != nil {
		text += "(" + *n.Args + ")"
	}
	return text
}

// ObjectID is how PostgreSQL knows something: a catalog, a number in it, and of a table's columns which one. It is the same in the past and in the live database, as long as the thing
// has not been dropped.
type ObjectID struct {
	Class, OID uint32
	Part       int32
}

// PastObject is something of the past that the live database lacks.
type PastObject struct {
	ObjectID
	Type     string // as pg_identify_object says it: "view", "table constraint", "function"
	Schema   string // "" where it is in none
	Identity string // as SQL writes it
	Within   bool   // it comes and goes with another one that the live database lacks
}

// roots are the ways to find what was asked for. $1 is the schema, $2 the name, $3 the table of a trigger, $4 the types of a function's arguments.
var roots = map[ObjectKind]string{
	KindSchema:   `SELECT 'pg_namespace'::regclass::oid, oid FROM pg_namespace WHERE nspname = $2 AND $1 || $3 = '' AND $4::text IS NULL`,
	KindView:     ofClass + `relkind IN ('v', 'm')`,
	KindIndex:    ofClass + `relkind IN ('i', 'I')`,
	KindSequence: ofClass + `relkind = 'S'`,
	KindFunction: `SELECT 'pg_proc'::regclass::oid, p.oid FROM pg_proc p JOIN pg_namespace n ON n.oid = pronamespace WHERE nspname = $1 AND proname = $2 AND $3 = ''
		AND ($4::text IS NULL OR replace(oidvectortypes(proargtypes), ', ', ',') = replace($4, ', ', ','))`,
	KindTrigger: `SELECT 'pg_trigger'::regclass::oid, t.oid FROM pg_trigger t JOIN pg_class c ON c.oid = tgrelid JOIN pg_namespace n ON n.oid = relnamespace
		WHERE nspname = $1 AND tgname = $2 AND relname = $3 AND NOT tgisinternal AND $4::text IS NULL`,
	KindType: `SELECT 'pg_type'::regclass::oid, t.oid FROM pg_type t JOIN pg_namespace n ON n.oid = typnamespace LEFT JOIN pg_class c ON c.oid = typrelid
		WHERE nspname = $1 AND typname = $2 AND $3 = '' AND $4::text IS NULL AND typtype <> 'p' AND coalesce(relkind, 'c') = 'c'`,
}

const ofClass = `SELECT 'pg_class'::regclass::oid, c.oid FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace WHERE nspname = $1 AND relname = $2 AND $3 = '' AND $4::text IS NULL AND `

// closure is what DROP ... CASCADE would take along: what depends on the roots, and what that is an inner part of. ($1 catalogs, $2 numbers)
const closure = `WITH RECURSIVE gone AS (
	SELECT * FROM (SELECT unnest($1::oid[]) AS class, unnest($2::oid[]) AS oid, 0 AS part) roots
	UNION SELECT n.* FROM gone g CROSS JOIN LATERAL (
		SELECT classid, objid, objsubid FROM pg_depend WHERE refclassid = g.class AND refobjid = g.oid AND (g.part = 0 OR refobjsubid = g.part)
		UNION ALL SELECT refclassid, refobjid, refobjsubid FROM pg_depend WHERE classid = g.class AND objid = g.oid AND objsubid = g.part AND deptype IN ('i', 'e')) n)
	SELECT class, oid, part FROM gone`

// objects looks up what was asked for by name, with all that would go with it: what the live database lacks of that becomes past.Objects, the tables and sequences among it are added
// to the tables, and the relations whose files are needed beside those of tables are given.
func (x *opening) objects(ctx context.Context, conn *pgx.Conn, past *Past) (relations []uint32, err error) {
	past.Objects = nil
	if len(x.o.Objects) == 0 {
		return nil, nil
	}
	var classes, oids []uint32
	var missing []string
	for _, name := range x.o.Objects {
		rows, _ := conn.Query(ctx, roots[name.Kind], name.Schema, name.Name, name.On, name.Args)
		found, err := pgx.CollectRows(rows, pgx.RowToStructByPos[struct{ Class, OID uint32 }])
		if err != nil {
			return nil, err
		}
		for _, f := range found {
			classes, oids = append(classes, f.Class), append(oids, f.OID)
		}
		if len(found) == 0 {
			missing = append(missing, name.String())
		}
	}
	if len(missing) > 0 {
		return nil, fault.New(fault.NotFound, "keeper.no_object", fault.Args{"names": strings.Join(missing, ", "), "moment": past.Plan.moment()})
	}
	rows, _ := conn.Query(ctx, closure, classes, oids)
	all, err := pgx.CollectRows(rows, pgx.RowToStructByPos[ObjectID])
	if err != nil {
		return nil, err
	}
	past.Roots = nil
	for i := range classes {
		past.Roots = append(past.Roots, ObjectID{classes[i], oids[i], 0})
	}
	if x.o.Living != nil {
		if all, err = x.o.Living(ctx, all); err != nil {
			return nil, err
		}
	}
	if err := x.identify(ctx, conn, past, all); err != nil {
		return nil, err
	}
	var lost []uint32 // relations
	for _, o := range past.Objects {
		if o.Class == pgClass && o.Part == 0 {
			lost = append(lost, o.OID)
		}
	}
	// What an extension has made comes with it. Partitions stand behind what they are parts of.
	rows, _ = conn.Query(ctx, `SELECT c.oid, n.nspname, c.relname, c.relkind = 'p', c.oid = root FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace,
		LATERAL (SELECT CASE WHEN relispartition AND pg_partition_root(c.oid) = ANY($1::oid[]) THEN pg_partition_root(c.oid)::oid ELSE c.oid END AS root) r
		WHERE c.oid = ANY($1::oid[]) AND relkind IN ('r', 'p') AND relpersistence = 'p'
		AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e') ORDER BY root, c.oid <> root, n.nspname, c.relname`, lost)
	tables, err := pgx.CollectRows(rows, pgx.RowToStructByPos[PastTable])
	if err != nil {
		return nil, err
	}
	past.Tables = append(past.Tables, tables...)
	rows, _ = conn.Query(ctx, `SELECT oid FROM pg_class WHERE oid = ANY($1::oid[]) AND relkind = 'S'`, lost)
	return pgx.CollectRows(rows, pgx.RowTo[uint32])
}

// pgClass is the number of the catalog of relations (RelationRelationId in pg_class.h).
const pgClass = 1259

// identify names what is lost.
func (x *opening) identify(ctx context.Context, conn *pgx.Conn, past *Past, all []ObjectID) error {
	var classes, oids []uint32
	var parts []int32
	for _, o := range all {
		classes, oids, parts = append(classes, o.Class), append(oids, o.OID), append(parts, o.Part)
	}
	rows, _ := conn.Query(ctx, `WITH gone AS (SELECT unnest($1::oid[]) AS class, unnest($2::oid[]) AS oid, unnest($3::int[]) AS part)
		SELECT class, gone.oid, part, i.type, coalesce(i.schema, ''), i.identity, EXISTS (SELECT FROM pg_depend d JOIN gone g ON g.class = refclassid AND g.oid = refobjid AND (g.part = 0 OR g.part = refobjsubid)
			WHERE d.classid = gone.class AND d.objid = gone.oid AND d.objsubid = part AND deptype IN ('a', 'i', 'P', 'S', 'e') AND (g.class, g.oid) <> (gone.class, gone.oid))
		FROM gone, pg_identify_object(class, gone.oid, part) i WHERE i.identity IS NOT NULL ORDER BY class, gone.oid, part`, classes, oids, parts)
	var err error
	past.Objects, err = pgx.CollectRows(rows, pgx.RowToStructByPos[PastObject])
	return err
}

// PastDump holds the definitions of all that is in the database of a past.
type PastDump struct {
	past    *Past
	file    string
	Entries []DumpEntry // in the order in which they can be made
	roles   []string
}

// DumpEntry is a thing in a dump. Names are written as they are, but for the ends of lines, which are spaces there. (PrintTOCSummary in pg_backup_archiver.c)
type DumpEntry struct {
	Line       string // as pg_restore lists it
	Class, OID uint32 // 0 for what has no number of its own: rights, comments
	What       string // the rest: kind, schema, name, owner
}

var dumpLine = regexp.MustCompile(`^[0-9]+; ([0-9]+) ([0-9]+) (.+)$`)

// parseDumpList reads what pg_restore --list says.
func parseDumpList(text string) (all []DumpEntry) {
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\r\n")
		m := dumpLine.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		class, classErr := strconv.ParseUint(m[1], 10, 32)
		oid, oidErr := strconv.ParseUint(m[2], 10, 32)
		if classErr == nil && oidErr == nil {
			all = append(all, DumpEntry{line, uint32(class), uint32(oid), m[3]})
		}
	}
	return all
}

// Dump has pg_dump write the definitions of everything in the database: the catalogs are all there.
func (p *Past) Dump(ctx context.Context) (*PastDump, error) {
	values, err := parseDSN(p.Server.DSN)
	if err != nil {
		return nil, err
	}
	info, password, err := p.Server.conninfo(values["dbname"])
	if err != nil {
		return nil, err
	}
	d := &PastDump{past: p, file: cluster.NativePath(filepath.Join(p.dir, "definitions"))}
	if _, err := p.Server.run(ctx, nil, nil, password, "pg_dump", "--schema-only", "--format=custom", "--encoding=UTF8", "--no-password", "--file="+d.file, "--dbname="+info); err != nil {
		return nil, dumpFault(err, values["dbname"])
	}
	var list bytes.Buffer
	if _, err := p.Server.run(ctx, nil, &list, "", "pg_restore", "--list", d.file); err != nil {
		return nil, err
	}
	d.Entries = parseDumpList(list.String())
	conn, err := p.Connect(ctx)
	if err != nil {
		return nil, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	rows, _ := conn.Query(ctx, `SELECT rolname FROM pg_roles`)
	d.roles, err = pgx.CollectRows(rows, pgx.RowTo[string])
	return d, err
}

// Of are the entries of things, and what puts them together: partitions, indexes of partitions, sequences of columns. Their rights and comments are not among them. relations are the
// names of those among them that are relations, as "SCHEMA NAME".
func (d *PastDump) Of(wanted func(DumpEntry) bool, relations []string) (all []DumpEntry) {
	with := map[string]bool{}
	for _, name := range relations {
		for _, role := range append(d.roles, "") {
			for _, kind := range []string{"TABLE ATTACH", "INDEX ATTACH", "SEQUENCE OWNED BY"} {
				with[strings.TrimRight(kind+" "+name+" "+role, " ")] = true
			}
		}
	}
	for _, e := range d.Entries {
		if e.OID != 0 && wanted(e) || e.OID == 0 && with[strings.TrimRight(e.What, " ")] {
			all = append(all, e)
		}
	}
	return all
}

// Script is the SQL that makes what is in a section of the dump ("pre-data", "post-data"): of the entries that are given only. It is for one connection.
func (d *PastDump) Script(ctx context.Context, entries []DumpEntry, section string) (string, error) {
	var list strings.Builder
	for _, e := range entries {
		list.WriteString(e.Line + "\n")
	}
	name := filepath.Join(d.past.dir, "wanted")
	if err := os.WriteFile(name, []byte(list.String()), 0o600); err != nil {
		return "", err
	}
	var text bytes.Buffer
	if _, err := d.past.Server.run(ctx, nil, &text, "", "pg_restore", "--file=-", "--section="+section, "--use-list="+cluster.NativePath(name), d.file); err != nil {
		return "", err
	}
	return withoutRestricts(text.String()), nil
}

// withoutRestricts leaves out psql's own commands, which keep a script from running others (since August 2025).
func withoutRestricts(text string) string {
	lines := strings.SplitAfter(text, "\n")
	lines = slices.DeleteFunc(lines, func(line string) bool { return restricts.MatchString(line) })
	return strings.Join(lines, "")
}

// CopyDatabase has pg_dump and pg_restore copy all of the past's database into an empty one of a running server. The first error is the end of it.
func (p *Past) CopyDatabase(ctx context.Context, to Server, database string) error {
	values, err := parseDSN(p.Server.DSN)
	if err != nil {
		return err
	}
	from, password, err := p.Server.conninfo(values["dbname"])
	if err != nil {
		return err
	}
	into, theirs, err := to.conninfo(database)
	if err != nil {
		return err
	}
	in, out := io.Pipe()
	dumped := make(chan error, 1)
	go func() {
		_, err := p.Server.run(ctx, nil, out, password, "pg_dump", "--format=custom", "--compress=0", "--encoding=UTF8", "--no-password", "--dbname="+from)
		out.CloseWithError(err)
		dumped <- err
	}()
	into += ` options='-c log_statement=none -c log_min_duration_statement=-1 -c log_min_error_statement=panic -c pgaudit.log=none -c pgaudit.role='` // passwords of subscriptions and user mappings
	_, err = to.run(ctx, in, nil, theirs, "pg_restore", "--exit-on-error", "--no-password", "--dbname="+into)
	in.CloseWithError(errors.Join(err, io.ErrClosedPipe))
	dumpErr := <-dumped
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil:
		return restoreFault(err, database)
	case dumpErr != nil:
		return dumpFault(dumpErr, values["dbname"])
	}
	return nil
}
