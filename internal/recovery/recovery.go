// Package recovery brings tables of a past state of a cluster (keeper.Past) back into the live database: beside what is there, compared with it, merged into it, or in its
// place. All that it does to the live database is one transaction, on a connection of a superuser; where anything fails, that database is as it was.
//
// What was done is written into the comment of the schema that it needed ("recovered_..."), in the same transaction: so it is known exactly as long as it is true, and can be
// taken back (Undo).
package recovery

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"howdah/internal/fault"
	"howdah/internal/keeper"
)

// Application is the name that the live database sees.
const Application = "howdah recover"

// SchemaPrefix begins the names of schemas that are ours.
const SchemaPrefix = "recovered_"

// Mode is what is done with the tables of the past.
type Mode string

// The modes.
const (
	Beside  Mode = "beside"  // the rows lie in a schema of their own
	Diff    Mode = "diff"    // they are compared, and nothing is kept
	Merge   Mode = "merge"   // rows that are gone come back
	Replace Mode = "replace" // the table is what it was
)

// Options say what is done.
type Options struct {
	Live     keeper.Server // as a superuser
	Database string
	Mode     Mode
	Changed  bool      // of Merge: rows that were changed get their old values back, too
	Look     bool      // of Objects, Roles and Grants: nothing is done but said what would be
	Over     bool      // of Replace: the tables may be there; they are kept in the new schema
	Trust    bool      // functions of people who are no superusers may run as us, where writing rows calls them
	Selected Selected  // of Roles and Grants
	Moment   string    // of the past, for people
	Now      time.Time // names the schema
	For      string    // a wish that is granted once; "": whoever asks is there
	Progress func(table string, bytes int64)
	Phases   *keeper.Stopwatch // may be nil
}

// Done is what was done, or (of Diff) what would be found.
type Done struct {
	Format   int       `json:"format"` // 1
	ID       string    `json:"id"`     // of the schema, without its prefix
	Mode     Mode      `json:"mode"`
	Changed  bool      `json:"changed,omitempty"`
	Moment   string    `json:"moment"` // of the past
	Database string    `json:"database"`
	At       time.Time `json:"at"`
	XID      string    `json:"xid,omitempty"`   // our transaction
	Point    string    `json:"point,omitempty"` // the restore point before it
	Tables   []Table   `json:"tables"`
	Objects  []Object  `json:"objects,omitempty"` // of the mode Objects: what came back beside the rows of tables
	Left     []string  `json:"left,omitempty"`    // and what did not: columns of tables that are there
	Loose    []string  `json:"loose,omitempty"`   // foreign keys and checks of tables and domains that are there, which came back without a look at what is there (NOT VALID)
	Rights   []Right   `json:"rights,omitempty"`  // that were given back
	For      string    `json:"for,omitempty"`     // Options.For
	Empty    []string  `json:"empty,omitempty"`   // unlogged tables that came back without rows
	Beside   []string  `json:"beside,omitempty"`  // what did not come back of what an extension or a server had, or a domain
	Stands   []Left    `json:"stands,omitempty"`  // what was changed and not made, as it was left: Undo changes nothing that was changed again
	Undo     []string  `json:"undo,omitempty"`    // SQL that takes it back, of Replace, Objects, Roles and Grants

	Elsewhere []string `json:"elsewhere,omitempty"` // other databases in which roles that came back had rights
}

// Schema is where it lies.
func (d *Done) Schema() string { return SchemaPrefix + d.ID }

// Table is what was done with one table.
type Table struct {
	Schema  string       `json:"schema"`
	Name    string       `json:"name"`
	As      string       `json:"as,omitempty"`   // its rows in the recovered schema
	Put     string       `json:"put,omitempty"`  // rows that were put back, there
	Over    string       `json:"over,omitempty"` // rows that were overwritten, there
	Kept    string       `json:"kept,omitempty"` // the table that was replaced, there
	Key     []string     `json:"key,omitempty"`  // the columns of the primary key
	Rows    int64        `json:"rows"`           // of the past
	Gone    int64        `json:"gone"`           // rows that the live table lacks
	Altered int64        `json:"altered"`        // rows that it has with other values
	Newer   int64        `json:"newer"`          // rows that only it has
	There   bool         `json:"there"`          // there is a live table of the name, before anything is done
	Sample  []Difference `json:"sample,omitempty"`
	Plain   []string     `json:"plain,omitempty"`   // columns that stand as text, because their types are gone
	Skipped []string     `json:"skipped,omitempty"` // columns that are in one of the two only
	Loose   []string     `json:"loose,omitempty"`   // foreign keys that came back without a check of what is there (NOT VALID)
}

// FullName is how SQL writes it.
func (t Table) FullName() string { return keeper.TableName{Schema: t.Schema, Name: t.Name}.String() }

// Difference is a row that is not the same.
type Difference struct {
	Kind    string   `json:"kind"` // "gone", "changed" or "new"
	Key     string   `json:"key"`
	Columns []Change `json:"columns,omitempty"`
}

// Change is a column of it, as JSON.
type Change struct {
	Name string          `json:"name"`
	Was  json.RawMessage `json:"was,omitempty"`
	Is   json.RawMessage `json:"is,omitempty"`
}

// ParseName reads SCHEMA.NAME as SQL does: what is not quoted is in small letters.
func ParseName(text string) (keeper.TableName, error) {
	parts, ok := nameParts(text)
	if !ok || len(parts) != 2 {
		return keeper.TableName{}, fault.New(fault.Invalid, "recovery.name", fault.Args{"name": text})
	}
	return keeper.TableName{Schema: parts[0], Name: parts[1]}, nil
}

// ParseObject reads the name of something else, as SQL does: NAME of a schema, SCHEMA.TABLE.NAME of a trigger, SCHEMA.NAME(TYPES) or SCHEMA.NAME of a function, SCHEMA.NAME of all others.
func ParseObject(kind keeper.ObjectKind, text string) (n keeper.ObjectName, err error) {
	bad := fault.New(fault.Invalid, "recovery.object_name", fault.Args{"name": text, "kind": string(kind)})
	n.Kind = kind
	name := text
	if at := openingParenthesis(text); kind == keeper.KindFunction && at >= 0 {
		if !strings.HasSuffix(text, ")") {
			return n, bad
		}
		types := text[at+1 : len(text)-1]
		n.Args, name = &types, text[:at]
	}
	parts, ok := nameParts(name)
	wanted := map[keeper.ObjectKind]int{keeper.KindSchema: 1, keeper.KindTrigger: 3}[kind]
	if wanted == 0 {
		wanted = 2
	}
	if !ok || len(parts) != wanted || n.Args != nil && strings.ContainsRune(*n.Args, 0) {
		return n, bad
	}
	n.Name = parts[len(parts)-1]
	if len(parts) > 1 {
		n.Schema = parts[0]
	}
	if len(parts) > 2 {
		n.On = parts[1]
	}
	return n, nil
}

// openingParenthesis is where the first one stands that is not between quotes; -1 when there is none.
func openingParenthesis(text string) int {
	quoted := false
	for i, r := range text {
		switch {
		case r == '"':
			quoted = !quoted
		case r == '(' && !quoted:
			return i
		}
	}
	return -1
}

// nameParts takes a name apart at its points.
func nameParts(text string) (parts []string, ok bool) {
	rest := text
	for {
		var part string
		if strings.HasPrefix(rest, `"`) {
			rest = rest[1:]
			for {
				before, after, found := strings.Cut(rest, `"`)
				if !found {
					return nil, false
				}
				part += before
				if rest = after; !strings.HasPrefix(rest, `"`) {
					break
				}
				part, rest = part+`"`, rest[1:]
			}
		} else {
			end := strings.IndexAny(rest, `."`)
			if end < 0 {
				end = len(rest)
			}
			part, rest = small(rest[:end]), rest[end:]
		}
		if part == "" || strings.ContainsRune(part, 0) {
			return nil, false
		}
		parts = append(parts, part)
		if rest == "" {
			return parts, true
		}
		if rest[0] != '.' {
			return nil, false
		}
		rest = rest[1:]
	}
}

// small makes ASCII letters small, as PostgreSQL does in a database with several bytes per letter.
func small(s string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'A' && r <= 'Z' {
			return r + 'a' - 'A'
		}
		return r
	}, s)
}

// DatabaseOID looks a database up.
func DatabaseOID(ctx context.Context, live keeper.Server, name string) (oid uint32, err error) {
	conn, err := live.ConnectAs(ctx, "postgres", Application)
	if err != nil {
		return 0, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	err = conn.QueryRow(ctx, `SELECT oid FROM pg_database WHERE datname = $1`, name).Scan(&oid)
	if errors.Is(err, pgx.ErrNoRows) {
		err = fault.New(fault.NotFound, "recovery.no_database", fault.Args{"name": name})
	}
	return oid, err
}

// System is the system identifier of a running cluster.
func System(ctx context.Context, live keeper.Server) (id uint64, err error) {
	conn, err := live.ConnectAs(ctx, "postgres", Application)
	if err != nil {
		return 0, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	var signed int64
	err = conn.QueryRow(ctx, `SELECT system_identifier FROM pg_control_system()`).Scan(&signed)
	return uint64(signed), err //nolint:gosec // it is one of 64 bits
}

// work is one transaction on the live database.
type work struct {
	options Options
	past    *keeper.Past
	then    *pgx.Conn // the past
	live    *pgx.Conn
	done    *Done
	schema  string // where rows of the past are put
}

// keeps tells whether anything is left of it.
func (w *work) keeps() bool { return w.options.Mode != Diff && !w.options.Look }

func ident(name string) string { return pgx.Identifier{name}.Sanitize() }

// Apply does it. Of Diff, Beside and Merge nothing is changed in tables that are there but what the mode says.
func Apply(ctx context.Context, past *keeper.Past, options Options) (*Done, error) {
	options.Phases.Begin("definitions")
	w := &work{options: options, past: past, done: &Done{Format: 1, Mode: options.Mode, Changed: options.Changed, For: options.For, Moment: options.Moment, Database: options.Database,
		At: options.Now.UTC().Truncate(time.Second)}}
	var err error
	if w.then, err = past.Connect(ctx); err != nil {
		return nil, err
	}
	defer w.then.Close(context.WithoutCancel(ctx))
	if w.live, err = options.Live.ConnectAs(ctx, options.Database, Application); err != nil {
		return nil, err
	}
	defer w.live.Close(context.WithoutCancel(ctx))
	for _, conn := range []*pgx.Conn{w.then, w.live} {
		if err := settle(ctx, conn); err != nil {
			return nil, err
		}
	}
	watchful(ctx, w.live)
	if w.keeps() {
		if w.done.ID, err = freeID(ctx, w.live, options.Now); err != nil {
			return nil, err
		}
		w.done.Point = "before " + w.done.Schema()
		if _, err := w.live.Exec(ctx, `SELECT pg_create_restore_point($1)`, w.done.Point); err != nil {
			return nil, refused(err)
		}
	}
	if _, err := w.live.Exec(ctx, `BEGIN`); err != nil {
		return nil, err
	}
	// Keys and indexes of many rows are made.
	if _, err := w.live.Exec(ctx, `SELECT pg_catalog.set_config(name, '256MB', true) FROM pg_catalog.pg_settings WHERE name = 'maintenance_work_mem' AND setting::bigint < 262144`); err != nil {
		return nil, err
	}
	if err := w.run(ctx); err != nil {
		return nil, err // the connection ends, and with it the transaction
	}
	end := `COMMIT`
	if !w.keeps() {
		end = `ROLLBACK`
	}
	w.options.Phases.Begin("commit")
	_, err = w.live.Exec(ctx, end)
	return w.done, refused(err)
}

// settle makes a connection write and read values as pg_dump does, and look nothing up but what is named in full.
func settle(ctx context.Context, conn *pgx.Conn) error {
	_, err := conn.Exec(ctx, `SET search_path = ''; SET client_encoding = 'UTF8'; SET DateStyle = ISO; SET IntervalStyle = postgres; SET extra_float_digits = 3; SET TimeZone = 'UTC';
		SET statement_timeout = 0; SET idle_in_transaction_session_timeout = 0; SET row_security = off; SET default_transaction_read_only = off; SET standard_conforming_strings = on`)
	return err
}

// freeID is a time that no schema has yet.
func freeID(ctx context.Context, conn *pgx.Conn, now time.Time) (string, error) {
	for {
		id := now.UTC().Format("20060102_150405")
		var taken bool
		if err := conn.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_catalog.pg_namespace WHERE nspname = $1)`, SchemaPrefix+id).Scan(&taken); err != nil || !taken {
			return id, err
		}
		now = now.Add(time.Second)
	}
}

func (w *work) run(ctx context.Context) error {
	if err := w.live.QueryRow(ctx, `SELECT pg_current_xact_id()::text`).Scan(&w.done.XID); err != nil {
		return err
	}
	w.schema = "pg_temp"
	if w.keeps() {
		if err := alone(ctx, w.live); err != nil {
			return refused(err)
		}
		if err := again(ctx, w.live, w.options.For); err != nil {
			return err
		}
		w.schema = w.done.Schema()
		if _, err := w.live.Exec(ctx, `CREATE SCHEMA `+ident(w.schema)); err != nil {
			return refused(err)
		}
	}
	var err error
	switch w.options.Mode {
	case Replace:
		err = w.replace(ctx)
	case Objects:
		err = w.objects(ctx)
	case Roles:
		err = w.roles(ctx)
	case Grants:
		err = w.rightsBack(ctx, w.options.Selected.Roles)
	default:
		err = w.beside(ctx)
	}
	if err == nil && (w.options.Mode == Roles || w.options.Mode == Grants) && len(w.done.Undo) == 0 {
		err = fault.New(fault.NotFound, "recovery.nothing_lost")
	}
	if err != nil {
		return err
	}
	if !w.keeps() {
		return nil
	}
	raw, err := json.Marshal(w.done)
	if err == nil {
		_, err = w.live.Exec(ctx, `COMMENT ON SCHEMA `+ident(w.schema)+` IS `+literal(commentHead+string(raw)))
	}
	return refused(err)
}

// commentHead begins the comment of a schema that is ours; Done as JSON follows.
const commentHead = "howdah recover: "

func literal(text string) string {
	return "'" + strings.ReplaceAll(text, "'", "''") + "'" // standard_conforming_strings is on
}

// column of a table.
type column struct {
	Name, Type          string
	NotNull             bool
	Generated, Identity string // as in pg_attribute
	Collation           string // where it is not the type's own: quoted, with its schema
}

const columnsOf = `SELECT attname, pg_catalog.format_type(atttypid, atttypmod), attnotnull, attgenerated::text, attidentity::text,
	CASE WHEN attcollation <> 0 AND attcollation <> typcollation THEN (SELECT pg_catalog.quote_ident(nspname) || '.' || pg_catalog.quote_ident(collname)
		FROM pg_catalog.pg_collation l JOIN pg_catalog.pg_namespace n ON n.oid = collnamespace WHERE l.oid = attcollation) ELSE '' END
	FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_type t ON t.oid = atttypid WHERE attrelid = $1 AND attnum > 0 AND NOT attisdropped ORDER BY attnum`

func columns(ctx context.Context, conn *pgx.Conn, table uint32) ([]column, error) {
	rows, _ := conn.Query(ctx, columnsOf, table)
	return pgx.CollectRows(rows, pgx.RowToStructByPos[column])
}

func keyOf(ctx context.Context, conn *pgx.Conn, table uint32) ([]string, error) {
	rows, _ := conn.Query(ctx, `SELECT attname FROM pg_catalog.pg_constraint c, unnest(conkey) WITH ORDINALITY k(n, place) JOIN pg_catalog.pg_attribute a ON attnum = n AND attrelid = $1
		WHERE conrelid = $1 AND contype = 'p' ORDER BY place`, table)
	return pgx.CollectRows(rows, pgx.RowTo[string])
}

// lookUp finds a table of the live database; 0 where there is none.
func lookUp(ctx context.Context, conn *pgx.Conn, schema, name string) (oid uint32, kind string, err error) {
	err = conn.QueryRow(ctx, `SELECT c.oid, relkind::text FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = relnamespace WHERE nspname = $1 AND relname = $2`,
		schema, name).Scan(&oid, &kind)
	if errors.Is(err, pgx.ErrNoRows) {
		return 0, "", nil
	}
	return oid, kind, err
}

// staged is a table of the past in the live database.
type staged struct {
	*Table
	columns []column // of the past
	live    uint32   // OID of the live table; 0: it is not there
	now     []column // of that
	full    string   // name of the copy, for SQL
}

// beside puts the rows of the past into the schema, and does with them what the mode says.
func (w *work) beside(ctx context.Context) error {
	names := map[string]bool{}
	var all []*staged
	for _, t := range w.past.Tables {
		if !t.Asked {
			continue
		}
		as := t.Name
		if names[as] {
			as = t.Schema + "." + t.Name
		}
		names[as] = true
		w.done.Tables = append(w.done.Tables, Table{Schema: t.Schema, Name: t.Name, As: as})
	}
	i := 0
	for _, t := range w.past.Tables {
		if !t.Asked {
			continue
		}
		s := &staged{Table: &w.done.Tables[i], full: ident(w.schema) + "." + ident(w.done.Tables[i].As)}
		i++
		var kind string
		var err error
		if s.live, kind, err = lookUp(ctx, w.live, t.Schema, t.Name); err != nil {
			return err
		}
		if s.There = s.live != 0; s.There {
			if s.now, err = columns(ctx, w.live, s.live); err != nil {
				return err
			}
		}
		if w.options.Mode == Merge || w.options.Mode == Diff {
			if s.live != 0 && kind != "r" && kind != "p" {
				return fault.New(fault.Conflict, "recovery.other_kind", fault.Args{"name": s.FullName()})
			}
			if s.live == 0 && w.options.Mode == Merge {
				return fault.New(fault.NotFound, "recovery.not_there", fault.Args{"name": s.FullName()})
			}
		}
		if err := w.stage(ctx, t, s); err != nil {
			return err
		}
		all = append(all, s)
	}
	switch w.options.Mode {
	case Diff:
		for _, s := range all {
			if err := w.compare(ctx, s); err != nil {
				return err
			}
		}
	case Merge:
		w.options.Phases.Begin("merge")
		return w.merge(ctx, all)
	case Beside, Replace, Objects:
	}
	return nil
}

// stage copies a table of the past.
func (w *work) stage(ctx context.Context, t keeper.PastTable, s *staged) error {
	var err error
	if s.columns, err = columns(ctx, w.then, t.OID); err != nil {
		return err
	}
	if s.Key, err = keyOf(ctx, w.then, t.OID); err != nil {
		return err
	}
	var define, names []string
	for i, c := range s.columns {
		var known bool
		if err := w.live.QueryRow(ctx, `SELECT pg_catalog.to_regtype($1) IS NOT NULL`, c.Type).Scan(&known); err != nil {
			return refused(err)
		}
		if !known {
			s.Plain = append(s.Plain, c.Name)
			s.columns[i].Type = "text"
			c.Type, c.Collation = "text", ""
		}
		line := ident(c.Name) + " " + c.Type
		if c.Collation != "" {
			if err := w.live.QueryRow(ctx, `SELECT pg_catalog.to_regcollation($1) IS NOT NULL`, c.Collation).Scan(&known); err != nil {
				return refused(err)
			}
			if known {
				line += " COLLATE " + c.Collation
			}
		}
		if c.NotNull {
			line += " NOT NULL"
		}
		define, names = append(define, line), append(names, ident(c.Name))
	}
	w.options.Phases.Begin("rows")
	if _, err := w.live.Exec(ctx, `CREATE TABLE `+s.full+` (`+strings.Join(define, ", ")+`)`); err != nil {
		return refused(err)
	}
	list := strings.Join(names, ", ")
	from := "ONLY " + s.FullName()
	if t.Parent {
		from = s.FullName()
	}
	if s.Rows, err = w.copy(ctx, s.FullName(), len(s.Plain) == 0 && inBytes(s.columns), `COPY (SELECT `+list+` FROM `+from+`) TO STDOUT`, `COPY `+s.full+` (`+list+`) FROM STDIN`); err != nil {
		return err
	}
	w.options.Phases.Begin("indexes")
	if len(s.Key) > 0 {
		_, err = w.live.Exec(ctx, `ALTER TABLE `+s.full+` ADD PRIMARY KEY (`+idents(s.Key)+`)`)
	}
	if err == nil {
		_, err = w.live.Exec(ctx, `ANALYZE `+s.full)
	}
	return refused(err)
}

func idents(names []string) string {
	var all []string
	for _, name := range names {
		all = append(all, ident(name))
	}
	return strings.Join(all, ", ")
}

// asBytes are types whose binary form is the same in every database of a version: those that hold OIDs or names of others (regclass, enums and composites in arrays) are not among them.
var asBytes = regexp.MustCompile(`^("char"|name|boolean|bytea|smallint|integer|bigint|oid|text|character varying(\(\d+\))?|character(\(\d+\))?|real|double precision|numeric(\(\d+,-?\d+\))?|` +
	`date|(timestamp|time)(\(\d\))? with(out)? time zone|interval|uuid|jsonb?|inet|cidr|macaddr|bit varying(\(\d+\))?|bit(\(\d+\))?)(\[\])?$`)

func inBytes(columns []column) bool {
	return !slices.ContainsFunc(columns, func(c column) bool { return !asBytes.MatchString(c.Type) })
}

// copy streams rows from the past into the live database; with bytes, in PostgreSQL's binary form, so that neither has to write and read values as text.
func (w *work) copy(ctx context.Context, table string, bytes bool, from, to string) (rows int64, err error) {
	if bytes {
		from, to = from+` (FORMAT binary)`, to+` (FORMAT binary)`
	}
	in, out := io.Pipe()
	sent := make(chan error, 1)
	go func() {
		// A row is a message: handed on one by one, they would cost more than all the rest.
		many := bufio.NewWriterSize(&counting{out, 0, func(n int64) {
			if w.options.Progress != nil {
				w.options.Progress(table, n)
			}
		}}, 256<<10)
		_, err := w.then.PgConn().CopyTo(ctx, many, from)
		if err == nil {
			err = many.Flush()
		}
		out.CloseWithError(err)
		sent <- err
	}()
	tag, err := w.live.PgConn().CopyFrom(ctx, in, to)
	in.CloseWithError(errors.Join(err, io.ErrClosedPipe))
	if sentErr := <-sent; err == nil {
		err = sentErr
	}
	return tag.RowsAffected(), refused(err)
}

type counting struct {
	io.Writer
	bytes int64
	tell  func(int64)
}

func (c *counting) Write(p []byte) (int, error) {
	n, err := c.Writer.Write(p)
	c.bytes += int64(n)
	c.tell(c.bytes)
	return n, err
}

// refused says what PostgreSQL has against it.
func refused(err error) error {
	var said *pgconn.PgError
	if !errors.As(err, &said) {
		return err
	}
	message := said.Message
	if said.Detail != "" {
		message += " (" + said.Detail + ")"
	}
	return fault.Wrap(err, fault.Conflict, "recovery.refused", fault.Args{"message": message})
}

// List are the recoveries that a database knows, the newest first.
func List(ctx context.Context, live keeper.Server, database string) ([]Done, error) {
	conn, err := live.ConnectAs(ctx, database, Application)
	if err != nil {
		return nil, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	return list(ctx, conn)
}

func list(ctx context.Context, conn *pgx.Conn) ([]Done, error) {
	rows, _ := conn.Query(ctx, `SELECT nspname, d.description FROM pg_catalog.pg_namespace n JOIN pg_catalog.pg_description d ON d.objoid = n.oid AND d.classoid = 'pg_catalog.pg_namespace'::regclass
		JOIN pg_catalog.pg_roles r ON r.oid = nspowner WHERE rolsuper AND starts_with(nspname, $1) AND starts_with(d.description, $2)`, SchemaPrefix, commentHead)
	var all []Done
	var name, text string
	_, err := pgx.ForEachRow(rows, []any{&name, &text}, func() error {
		var d Done
		if json.Unmarshal([]byte(strings.TrimPrefix(text, commentHead)), &d) == nil && d.Format == 1 && d.Schema() == name {
			all = append(all, d)
		}
		return nil
	})
	slices.SortFunc(all, func(a, b Done) int { return strings.Compare(b.ID, a.ID) })
	return all, err
}
