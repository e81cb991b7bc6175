package recovery

import (
	"context"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"howdah/internal/fault"
	"howdah/internal/keeper"
)

// A foreignKey of another table that refers to one of ours.
type foreignKey struct {
	Schema, Table, Name, Define string
}

func (k foreignKey) table() string {
	return keeper.TableName{Schema: k.Schema, Name: k.Table}.String()
}

// refersTo are the foreign keys of tables other than `ours` that refer to them. What a partition has of its parent comes with that.
func refersTo(ctx context.Context, conn *pgx.Conn, ours []uint32) ([]foreignKey, error) {
	rows, _ := conn.Query(ctx, `SELECT nspname, relname, conname, pg_catalog.pg_get_constraintdef(k.oid) FROM pg_catalog.pg_constraint k JOIN pg_catalog.pg_class c ON c.oid = conrelid
		JOIN pg_catalog.pg_namespace n ON n.oid = relnamespace WHERE contype = 'f' AND confrelid = ANY($1::oid[]) AND NOT conrelid = ANY($1::oid[]) AND conparentid = 0 ORDER BY 1, 2, 3`, ours)
	return pgx.CollectRows(rows, pgx.RowToStructByPos[foreignKey])
}

// replace makes the tables what they were: what pg_dump says of them, their rows, and the foreign keys of others. One that is there is put into the recovered schema first.
func (w *work) replace(ctx context.Context) error {
	var then, now []uint32
	var living []int
	for _, t := range w.past.Tables {
		then = append(then, t.OID)
		if t.Asked {
			w.done.Tables = append(w.done.Tables, Table{Schema: t.Schema, Name: t.Name})
		}
		oid, _, err := lookUp(ctx, w.live, t.Schema, t.Name)
		if err != nil {
			return err
		}
		if oid == 0 {
			continue
		}
		name := keeper.TableName{Schema: t.Schema, Name: t.Name}.String()
		switch {
		case !w.options.Over:
			return fault.New(fault.Conflict, "recovery.is_there", fault.Args{"name": name})
		case !t.Asked || t.Parent:
			return fault.New(fault.Conflict, "recovery.partition_there", fault.Args{"name": name})
		}
		now, living = append(now, oid), append(living, len(w.done.Tables)-1)
	}
	for _, t := range w.past.Tables { // pg_dump does not make it
		var there bool
		if err := w.live.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_catalog.pg_namespace WHERE nspname = $1)`, t.Schema).Scan(&there); err != nil {
			return err
		}
		if !there {
			return fault.New(fault.NotFound, "recovery.no_schema", fault.Args{"name": keeper.TableName{Schema: t.Schema, Name: t.Name}.String(), "schema": t.Schema})
		}
	}
	others, err := refersTo(ctx, w.then, then)
	if err != nil {
		return err
	}
	back, err := w.aside(ctx, now, living) // what brings the live ones back
	if err != nil {
		return err
	}
	before, err := w.past.Definition(ctx, "pre-data")
	if err != nil {
		return err
	}
	after, err := w.past.Definition(ctx, "post-data")
	if err != nil {
		return err
	}
	if err := w.script(ctx, before); err != nil {
		return err
	}
	w.options.Phases.Begin("rows")
	if err := w.fill(ctx); err != nil {
		return err
	}
	w.options.Phases.Begin("indexes")
	if err := w.script(ctx, after); err != nil {
		return err
	}
	var undo []string
	for _, k := range others {
		loose, there, err := w.bind(ctx, k)
		if err != nil {
			return err
		}
		if !there {
			continue
		}
		undo = append(undo, `ALTER TABLE `+k.table()+` DROP CONSTRAINT `+ident(k.Name))
		if loose {
			i := slices.IndexFunc(w.done.Tables, func(Table) bool { return true })
			w.done.Tables[i].Loose = append(w.done.Tables[i].Loose, k.table()+": "+k.Name)
		}
	}
	for _, t := range slices.Backward(w.done.Tables) {
		undo = append(undo, `DROP TABLE `+t.FullName())
	}
	w.done.Undo = append(undo, back...)
	return nil
}

// aside puts live tables into the recovered schema. It gives the SQL that brings them back.
func (w *work) aside(ctx context.Context, oids []uint32, which []int) (back []string, err error) {
	if len(oids) == 0 {
		return nil, nil
	}
	others, err := refersTo(ctx, w.live, oids)
	if err != nil {
		return nil, err
	}
	for i, oid := range oids {
		t := &w.done.Tables[which[i]]
		// Views and functions know a table by its OID: they would go on showing the one that is put aside.
		var users string
		err := w.live.QueryRow(ctx, `SELECT coalesce(string_agg(DISTINCT pg_catalog.pg_describe_object(classid, objid, 0), ', '), '') FROM (
			SELECT 'pg_catalog.pg_class'::regclass AS classid, ev_class AS objid FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_rewrite r ON d.classid = 'pg_catalog.pg_rewrite'::regclass AND r.oid = d.objid
				WHERE refclassid = 'pg_catalog.pg_class'::regclass AND refobjid = $1 AND ev_class <> $1
			UNION SELECT d.classid, d.objid FROM pg_catalog.pg_depend d WHERE d.classid = 'pg_catalog.pg_proc'::regclass AND refclassid = 'pg_catalog.pg_class'::regclass AND refobjid = $1
			UNION SELECT 'pg_catalog.pg_class'::regclass, inhrelid FROM pg_catalog.pg_inherits WHERE inhparent = $1
			UNION SELECT 'pg_catalog.pg_class'::regclass, inhparent FROM pg_catalog.pg_inherits WHERE inhrelid = $1) of_it`, oid).Scan(&users)
		if err != nil {
			return nil, refused(err)
		}
		if users != "" {
			return nil, fault.New(fault.Conflict, "recovery.used", fault.Args{"name": t.FullName(), "users": users})
		}
	}
	for _, k := range others {
		if err := w.script(ctx, `ALTER TABLE `+k.table()+` DROP CONSTRAINT `+ident(k.Name)); err != nil {
			return nil, err
		}
	}
	for _, i := range which {
		t := &w.done.Tables[i]
		t.Kept = t.Name
		if slices.ContainsFunc(w.done.Tables[:i], func(other Table) bool { return other.Kept == t.Kept }) {
			t.Kept = t.Schema + "." + t.Name
			return nil, fault.New(fault.Conflict, "recovery.same_names", fault.Args{"name": t.FullName()})
		}
		if err := w.script(ctx, `ALTER TABLE `+t.FullName()+` SET SCHEMA `+ident(w.schema)); err != nil {
			return nil, err
		}
		back = append(back, `ALTER TABLE `+ident(w.schema)+`.`+ident(t.Kept)+` SET SCHEMA `+ident(t.Schema))
	}
	for _, k := range others {
		back = append(back, `ALTER TABLE `+k.table()+` ADD CONSTRAINT `+ident(k.Name)+` `+k.Define)
	}
	return back, nil
}

// script runs SQL of several statements.
func (w *work) script(ctx context.Context, sql string) error {
	_, err := w.live.PgConn().Exec(ctx, sql).ReadAll()
	return refused(err)
}

// trusted refuses tables whose rows cannot be written without calling functions of people who are no superusers (checks, domains, defaults, generated columns): they would run as us, and nothing keeps a
// function from finding out that it may do everything. A restore with pg_restore calls them as well; but here an alert leads to it, and who drops a table can have prepared it.
func (w *work) trusted(ctx context.Context, conn *pgx.Conn, tables []uint32) error {
	if w.options.Trust || len(tables) == 0 {
		return nil
	}
	var names string
	err := conn.QueryRow(ctx, `SELECT coalesce(string_agg(DISTINCT p.oid::pg_catalog.regprocedure::text || ' (' || rolname || ')', ', '), '') FROM pg_catalog.pg_depend d
		JOIN pg_catalog.pg_proc p ON p.oid = d.refobjid AND d.refclassid = 'pg_catalog.pg_proc'::regclass JOIN pg_catalog.pg_roles r ON r.oid = proowner AND NOT rolsuper
		LEFT JOIN pg_catalog.pg_constraint k ON d.classid = 'pg_catalog.pg_constraint'::regclass AND k.oid = d.objid AND contype = 'c'
		LEFT JOIN pg_catalog.pg_attrdef a ON d.classid = 'pg_catalog.pg_attrdef'::regclass AND a.oid = d.objid
		WHERE k.conrelid = ANY($1::oid[]) OR a.adrelid = ANY($1::oid[]) OR k.contypid IN (SELECT atttypid FROM pg_catalog.pg_attribute WHERE attrelid = ANY($1::oid[]) AND NOT attisdropped)`, tables).Scan(&names)
	if err == nil && names != "" {
		err = fault.New(fault.Conflict, "recovery.strangers", fault.Args{"functions": names})
	}
	return err
}

// fill copies the rows into new tables, and sets the sequences that belong to them.
func (w *work) fill(ctx context.Context) error {
	var all []uint32
	for _, t := range w.past.Tables {
		all = append(all, t.OID)
	}
	if err := w.trusted(ctx, w.then, all); err != nil {
		return err
	}
	if err := settle(ctx, w.live); err != nil { // the script has its own settings
		return err
	}
	i := -1
	for _, t := range w.past.Tables {
		if t.Asked {
			i++
		}
		if t.Parent {
			continue
		}
		all, err := columns(ctx, w.then, t.OID)
		if err != nil {
			return err
		}
		var names []string
		for _, c := range all {
			if c.Generated == "" {
				names = append(names, c.Name)
			}
		}
		full := keeper.TableName{Schema: t.Schema, Name: t.Name}.String()
		list := idents(names)
		if len(names) == 0 {
			continue
		}
		rows, err := w.copy(ctx, full, inBytes(all), `COPY `+full+` (`+list+`) TO STDOUT`, `COPY `+full+` (`+list+`) FROM STDIN`)
		if err != nil {
			return err
		}
		w.done.Tables[i].Rows += rows
	}
	for _, t := range w.past.Tables {
		rows, _ := w.then.Query(ctx, `SELECT s.oid::regclass::text FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_class s ON s.oid = d.objid AND s.relkind = 'S' WHERE d.classid = 'pg_catalog.pg_class'::regclass
			AND d.refclassid = 'pg_catalog.pg_class'::regclass AND d.refobjid = $1 AND d.deptype IN ('a', 'i')`, t.OID)
		sequences, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			return err
		}
		for _, name := range sequences {
			if err := w.sequence(ctx, name); err != nil {
				return err
			}
		}
		oid, _, err := lookUp(ctx, w.live, t.Schema, t.Name)
		if err != nil {
			return err
		}
		s := &staged{Table: &Table{Schema: t.Schema, Name: t.Name}, live: oid}
		if s.now, err = columns(ctx, w.live, oid); err != nil {
			return err
		}
		if err := w.raise(ctx, s); err != nil {
			return err
		}
		if _, err := w.live.Exec(ctx, `ANALYZE `+s.FullName()); err != nil {
			return refused(err)
		}
	}
	return nil
}

// bind gives a foreign key back to a table that still is there and has none of its name. Where rows were written since that refer to nothing, it is not checked for those that are
// there (loose).
func (w *work) bind(ctx context.Context, k foreignKey) (loose, there bool, err error) {
	oid, kind, err := lookUp(ctx, w.live, k.Schema, k.Table)
	if err != nil || oid == 0 || kind != "r" && kind != "p" {
		return false, false, err
	}
	var taken bool
	if err := w.live.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_catalog.pg_constraint WHERE conrelid = $1 AND conname = $2)`, oid, k.Name).Scan(&taken); err != nil || taken {
		return false, false, err
	}
	add := `ALTER TABLE ` + k.table() + ` ADD CONSTRAINT ` + ident(k.Name) + ` ` + k.Define
	if _, err := w.live.Exec(ctx, `SAVEPOINT bind`); err != nil {
		return false, false, err
	}
	_, err = w.live.Exec(ctx, add)
	var said *pgconn.PgError
	if err != nil && asPg(err, &said) && said.Code == "23503" && kind == "r" && !strings.HasSuffix(k.Define, " NOT VALID") {
		loose = true
		if _, err = w.live.Exec(ctx, `ROLLBACK TO bind`); err == nil {
			_, err = w.live.Exec(ctx, add+` NOT VALID`)
		}
	}
	return loose, true, refused(err)
}
