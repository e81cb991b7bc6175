package recovery

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"howdah/internal/fault"
	"howdah/internal/keeper"
)

// Objects is the mode of what was asked for by keeper.PastOptions.Objects: what is lost comes back, with all that went with it, and functions and views that are there get their old text.
const Objects Mode = "objects"

// Object is something that came back.
type Object struct {
	Type    string `json:"type"` // as pg_identify_object says it
	Name    string `json:"name"` // as SQL writes it
	Changed bool   `json:"changed,omitempty"`
}

// Living tells which objects of the past a live database lacks, for keeper.PastOptions.
func Living(live keeper.Server, database string) func(context.Context, []keeper.ObjectID) ([]keeper.ObjectID, error) {
	return func(ctx context.Context, all []keeper.ObjectID) ([]keeper.ObjectID, error) {
		conn, err := live.ConnectAs(ctx, database, Application)
		if err != nil {
			return nil, err
		}
		defer conn.Close(context.WithoutCancel(ctx))
		var classes, oids []uint32
		var parts []int32
		for _, o := range all {
			classes, oids, parts = append(classes, o.Class), append(oids, o.OID), append(parts, o.Part)
		}
		rows, _ := conn.Query(ctx, `SELECT class, o.oid, part FROM (SELECT unnest($1::oid[]) AS class, unnest($2::oid[]) AS oid, unnest($3::int[]) AS part) o
			LEFT JOIN pg_catalog.pg_attribute a ON class = 'pg_catalog.pg_class'::regclass AND part > 0 AND attrelid = o.oid AND attnum = part AND NOT attisdropped
			WHERE CASE WHEN class = 'pg_catalog.pg_class'::regclass AND part > 0 THEN attrelid IS NULL ELSE (pg_catalog.pg_identify_object(class, o.oid, 0)).identity IS NULL END`, classes, oids, parts)
		return pgx.CollectRows(rows, pgx.RowToStructByPos[keeper.ObjectID])
	}
}

// pgClass is the number of the catalog of relations (RelationRelationId in pg_class.h).
const (
	pgClass     = 1259
	pgNamespace = 2615

	pgUserMapping = 1418
)

// definition is the text of a function or view.
type definition struct {
	keeper.ObjectID
	Type, Name, Text string
}

const definitions = `SELECT class, id, 0, type, identity, text FROM (
	SELECT 'pg_catalog.pg_proc'::regclass::oid AS class, oid AS id, pg_catalog.pg_get_functiondef(oid) AS text FROM pg_catalog.pg_proc WHERE oid = ANY($1::oid[]) AND prokind <> 'a'
	UNION ALL SELECT 'pg_catalog.pg_class'::regclass::oid, c.oid, 'CREATE OR REPLACE VIEW ' || pg_catalog.quote_ident(nspname) || '.' || pg_catalog.quote_ident(relname) ||
		coalesce(' WITH (' || pg_catalog.array_to_string(reloptions, ', ') || ')', '') || ' AS ' || pg_catalog.pg_get_viewdef(c.oid)
		FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = relnamespace WHERE c.oid = ANY($1::oid[]) AND relkind = 'v') d, pg_catalog.pg_identify_object(class, id, 0) i ORDER BY class, id`

// texts are the definitions of the functions and views among what was asked for.
func texts(ctx context.Context, conn *pgx.Conn, ids []keeper.ObjectID) ([]definition, error) {
	var oids []uint32
	for _, id := range ids {
		oids = append(oids, id.OID)
	}
	rows, _ := conn.Query(ctx, definitions, oids)
	all, err := pgx.CollectRows(rows, pgx.RowToStructByPos[definition])
	return slices.DeleteFunc(all, func(d definition) bool { return !slices.Contains(ids, d.ObjectID) }), err
}

// changed are those that the live database has with another text: as they were, and as they are.
func (w *work) changed(ctx context.Context) (was, is []definition, err error) {
	then, err := texts(ctx, w.then, w.past.Roots)
	if err != nil {
		return nil, nil, err
	}
	now, err := texts(ctx, w.live, w.past.Roots)
	for _, t := range then {
		if i := slices.IndexFunc(now, func(d definition) bool { return d.ObjectID == t.ObjectID }); i >= 0 && now[i].Text != t.Text && now[i].Name == t.Name {
			was, is = append(was, t), append(is, now[i])
		}
	}
	return was, is, err
}

// objects brings back what is lost.
func (w *work) objects(ctx context.Context) error {
	was, is, err := w.changed(ctx)
	if err != nil {
		return err
	}
	for _, o := range w.past.Objects {
		switch {
		case o.Part != 0 && !w.lost(o.ObjectID.Class, o.OID):
			w.done.Left = append(w.done.Left, o.Identity)
		case !o.Within && o.Part == 0 && o.Class != pgUserMapping: // these are named by bare
			w.done.Objects = append(w.done.Objects, Object{Type: o.Type, Name: o.Identity})
		}
	}
	for _, d := range was {
		w.done.Objects = append(w.done.Objects, Object{Type: d.Type, Name: d.Name, Changed: true})
	}
	if len(w.done.Objects) == 0 {
		return fault.New(fault.NotFound, "recovery.nothing_lost")
	}
	if err := w.bare(ctx); err != nil {
		return err
	}
	for _, t := range w.past.Tables {
		if t.Asked {
			w.done.Tables = append(w.done.Tables, Table{Schema: t.Schema, Name: t.Name})
		}
	}
	if w.options.Look {
		return nil
	}
	if err := w.rolesThere(ctx); err != nil {
		return err
	}
	if len(w.past.Objects) > 0 {
		if err := w.make(ctx); err != nil {
			return err
		}
	}
	for i, d := range was {
		if err := w.script(ctx, d.Text); err != nil {
			return err
		}
		w.done.Undo = append(w.done.Undo, is[i].Text)
		if err := w.leave(ctx, Left{What: leftText, Name: d.Name, Class: d.Class, OID: d.OID}); err != nil {
			return err
		}
	}
	return nil
}

// bare names what comes back without what was in it, or not at all: rows of unlogged tables, which no backup has; rows that tables of extensions had beside those that they come with; user mappings, which may hold
// passwords.
func (w *work) bare(ctx context.Context) error {
	classes, oids := w.ids()
	of := func(into *[]string, sql string) error {
		rows, _ := w.then.Query(ctx, `WITH gone AS (SELECT unnest($1::oid[]) AS class, unnest($2::oid[]) AS id) `+sql, classes, oids)
		names, err := pgx.CollectRows(rows, pgx.RowTo[string])
		*into = append(*into, names...)
		return err
	}
	err := of(&w.done.Empty, `SELECT pg_catalog.quote_ident(nspname) || '.' || pg_catalog.quote_ident(relname) FROM gone JOIN pg_catalog.pg_class c ON class = 'pg_catalog.pg_class'::regclass AND c.oid = id
		JOIN pg_catalog.pg_namespace n ON n.oid = relnamespace WHERE relkind = 'r' AND relpersistence = 'u'
		AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.classid = class AND d.objid = id AND d.deptype = 'e') ORDER BY 1`)
	if err == nil {
		err = of(&w.done.Beside, `SELECT 'extension ' || pg_catalog.quote_ident(extname) || ': ' || table_of::regclass::text FROM gone JOIN pg_catalog.pg_extension e ON class = 'pg_catalog.pg_extension'::regclass AND e.oid = id,
			unnest(extconfig) table_of ORDER BY 1`)
	}
	if err == nil {
		err = of(&w.done.Beside, `SELECT type || ' ' || identity FROM gone, LATERAL pg_catalog.pg_identify_object(class, id, 0) WHERE class = 'pg_catalog.pg_user_mapping'::regclass ORDER BY 1`)
	}
	return err
}

// lost tells whether the live database lacks all of an object.
func (w *work) lost(class, oid uint32) bool {
	return slices.ContainsFunc(w.past.Objects, func(o keeper.PastObject) bool { return o.Class == class && o.OID == oid && o.Part == 0 })
}

// ids are what is lost, for SQL.
func (w *work) ids() (classes, oids []uint32) {
	for _, o := range w.past.Objects {
		if o.Part == 0 {
			classes, oids = append(classes, o.Class), append(oids, o.OID)
		}
	}
	return classes, oids
}

// rolesThere refuses what belonged to roles that are gone, or was granted to them.
func (w *work) rolesThere(ctx context.Context) error {
	classes, oids := w.ids()
	rows, _ := w.then.Query(ctx, `SELECT DISTINCT rolname FROM pg_catalog.pg_shdepend d JOIN pg_catalog.pg_roles r ON r.oid = refobjid JOIN (SELECT unnest($1::oid[]) AS class, unnest($2::oid[]) AS id) o
		ON class = classid AND id = objid WHERE dbid = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database()) AND refclassid = 'pg_catalog.pg_authid'::regclass
		AND deptype IN ('o', 'a', 'r')`, classes, oids)
	then, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return err
	}
	rows, _ = w.live.Query(ctx, `SELECT name FROM unnest($1::text[]) name WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = name) ORDER BY 1`, then)
	gone, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err == nil && len(gone) > 0 {
		err = fault.New(fault.Conflict, "recovery.roles_gone", fault.Args{"roles": strings.Join(gone, ", "), "first": gone[0]})
	}
	return err
}

// onLiving is a constraint or default of a table that is there still.
type onLiving struct {
	OID                uint32
	Schema, Table      string
	Name, Make         string
	Foreign, IsDefault bool
	Looks              bool // at all rows, with expressions
}

// make carries out what pg_dump says of what is lost, and puts the rows into its tables.
func (w *work) make(ctx context.Context) error {
	dump, err := w.past.Dump(ctx)
	if err != nil {
		return err
	}
	classes, oids := w.ids()
	// What belongs to tables that are there is no entry of its own in a dump, or one that cannot be judged beforehand.
	rows, _ := w.then.Query(ctx, `WITH gone AS (SELECT unnest($1::oid[]) AS class, unnest($2::oid[]) AS id)
		SELECT k.oid, nspname, relname, conname, 'ADD CONSTRAINT ' || pg_catalog.quote_ident(conname) || ' ' || pg_catalog.pg_get_constraintdef(k.oid), contype = 'f', false, contype = 'c' AND convalidated
		FROM gone JOIN pg_catalog.pg_constraint k ON k.oid = id AND class = 'pg_catalog.pg_constraint'::regclass JOIN pg_catalog.pg_class c ON c.oid = conrelid JOIN pg_catalog.pg_namespace n ON n.oid = relnamespace
		WHERE conparentid = 0 AND contype <> 't' AND NOT EXISTS (SELECT FROM gone g WHERE g.class = 'pg_catalog.pg_class'::regclass AND g.id = conrelid)
		UNION ALL SELECT k.oid, nspname, relname, attname, 'ALTER COLUMN ' || pg_catalog.quote_ident(attname) || ' SET DEFAULT ' || pg_catalog.pg_get_expr(adbin, adrelid), false, true, false
		FROM gone JOIN pg_catalog.pg_attrdef k ON k.oid = id AND class = 'pg_catalog.pg_attrdef'::regclass JOIN pg_catalog.pg_class c ON c.oid = adrelid JOIN pg_catalog.pg_namespace n ON n.oid = relnamespace
		JOIN pg_catalog.pg_attribute a ON attrelid = adrelid AND attnum = adnum WHERE attgenerated = '' AND NOT EXISTS (SELECT FROM gone g WHERE g.class = 'pg_catalog.pg_class'::regclass AND g.id = adrelid)
		ORDER BY 6, 2, 3, 4`, classes, oids)
	living, err := pgx.CollectRows(rows, pgx.RowToStructByPos[onLiving])
	if err != nil {
		return err
	}
	there, err := w.schemasThere(ctx)
	if err != nil {
		return err
	}
	relations, err := w.names(ctx, oids)
	if err != nil {
		return err
	}
	entries := dump.Of(func(e keeper.DumpEntry) bool {
		class := e.Class
		if class == 0 { // of a table (ROW SECURITY)
			class = pgClass
		}
		return w.lost(class, e.OID) && !slices.ContainsFunc(living, func(o onLiving) bool { return o.OID == e.OID }) && !slices.Contains(there, e.OID)
	}, relations)
	before, err := dump.Script(ctx, entries, "pre-data")
	if err != nil {
		return err
	}
	after, err := dump.Script(ctx, entries, "post-data")
	if err != nil {
		return err
	}
	if err := w.script(ctx, before); err != nil {
		return err
	}
	if err := w.fill(ctx); err != nil {
		return err
	}
	if err := w.numbers(ctx, oids); err != nil {
		return err
	}
	if err := w.script(ctx, after); err != nil {
		return err
	}
	if err := settle(ctx, w.live); err != nil {
		return err
	}
	undo, err := w.giveBack(ctx, living)
	if err != nil {
		return err
	}
	ofDomains, err := w.domains(ctx, classes, oids)
	if err != nil {
		return err
	}
	undo = append(ofDomains, undo...)
	if err := w.refresh(ctx, oids); err != nil {
		return err
	}
	// A schema that others have made anew is theirs: what is said of it, and who may use it, stays.
	var ofClass, made []uint32
	for i, oid := range oids {
		if classes[i] != pgNamespace || !slices.Contains(there, oid) {
			ofClass, made = append(ofClass, classes[i]), append(made, oid)
		}
	}
	if err := w.comments(ctx, ofClass, made); err != nil {
		return err
	}
	if err := w.settleRights(ctx, ofClass, made); err != nil {
		return err
	}
	keys, err := w.foreignKeys(ctx, oids)
	w.done.Undo = slices.Concat(undo, keys, w.drops(entries, there))
	return err
}

// schemasThere are those of the lost schemas whose names others have by now: what was in the one comes into the other.
func (w *work) schemasThere(ctx context.Context) ([]uint32, error) {
	rows, _ := w.then.Query(ctx, `SELECT oid, nspname FROM pg_catalog.pg_namespace`)
	then, err := pgx.CollectRows(rows, pgx.RowToStructByPos[struct {
		OID  uint32
		Name string
	}])
	if err != nil {
		return nil, err
	}
	var there []uint32
	for _, s := range then {
		if !slices.ContainsFunc(w.past.Objects, func(o keeper.PastObject) bool { return o.Type == "schema" && o.OID == s.OID }) {
			continue
		}
		var is bool
		if err := w.live.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_catalog.pg_namespace WHERE nspname = $1)`, s.Name).Scan(&is); err != nil {
			return nil, err
		}
		if is {
			there = append(there, s.OID)
		}
	}
	return there, nil
}

// names are those of lost relations, as a dump has them.
func (w *work) names(ctx context.Context, oids []uint32) ([]string, error) {
	rows, _ := w.then.Query(ctx, `SELECT pg_catalog.translate(nspname || ' ' || relname, E'\n\r', '  ') FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = relnamespace WHERE c.oid = ANY($1::oid[])`, oids)
	return pgx.CollectRows(rows, pgx.RowTo[string])
}

// numbers sets lost sequences to what they were at, those of tables having been set with these.
func (w *work) numbers(ctx context.Context, oids []uint32) error {
	rows, _ := w.then.Query(ctx, `SELECT c.oid::regclass::text FROM pg_catalog.pg_class c WHERE c.oid = ANY($1::oid[]) AND relkind = 'S'
		AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.classid = 'pg_catalog.pg_class'::regclass AND d.objid = c.oid AND d.deptype IN ('a', 'i') AND d.refobjid = ANY($1::oid[]) AND d.refobjsubid > 0)`, oids)
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := w.sequence(ctx, name); err != nil {
			return err
		}
	}
	return nil
}

// sequence sets a sequence to what it was at.
func (w *work) sequence(ctx context.Context, name string) error {
	var last int64
	var called bool
	if err := w.then.QueryRow(ctx, `SELECT last_value, is_called FROM `+name).Scan(&last, &called); err != nil {
		return err
	}
	_, err := w.live.Exec(ctx, `SELECT pg_catalog.setval($1::regclass, $2, $3)`, name, last, called)
	return refused(err)
}

// giveBack gives constraints and defaults back to tables that are there still. It gives the SQL that takes them away again.
func (w *work) giveBack(ctx context.Context, all []onLiving) (undo []string, err error) {
	for _, o := range all {
		table := keeper.TableName{Schema: o.Schema, Name: o.Table}.String()
		oid, kind, err := lookUp(ctx, w.live, o.Schema, o.Table)
		if err != nil {
			return nil, err
		}
		if oid == 0 || kind == "v" {
			w.done.Left = append(w.done.Left, table+": "+o.Name)
			continue
		}
		switch {
		case o.IsDefault:
			var other bool // somebody has given it another since, and that stays
			if err := w.live.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_catalog.pg_attrdef JOIN pg_catalog.pg_attribute ON attrelid = adrelid AND attnum = adnum WHERE adrelid = $1 AND attname = $2)`,
				oid, o.Name).Scan(&other); err != nil {
				return nil, refused(err)
			}
			if other {
				continue
			}
			if err := w.script(ctx, `ALTER TABLE `+table+` `+o.Make); err != nil {
				return nil, err
			}
			undo = append(undo, `ALTER TABLE `+table+` ALTER COLUMN `+ident(o.Name)+` DROP DEFAULT`)
			continue
		case o.Foreign:
			loose, there, err := w.bind(ctx, foreignKey{Schema: o.Schema, Table: o.Table, Name: o.Name, Define: strings.TrimPrefix(o.Make, `ADD CONSTRAINT `+quoted(o.Make)+` `)})
			if err != nil {
				return nil, err
			}
			if !there {
				continue
			}
			if loose {
				w.done.Loose = append(w.done.Loose, table+": "+o.Name)
			}
		default:
			if err := w.script(ctx, `ALTER TABLE `+table+` `+o.Make+w.unseen(o.Looks, table+": "+o.Name)); err != nil {
				return nil, err
			}
		}
		undo = append(undo, `ALTER TABLE `+table+` DROP CONSTRAINT `+ident(o.Name))
	}
	slices.Reverse(undo)
	return undo, nil
}

// unseen is what stands behind a check that would look at all rows that are there: functions in it would run as us, and those of strangers were not asked for. What comes back so is told.
func (w *work) unseen(looks bool, name string) string {
	if !looks || w.options.Trust {
		return ""
	}
	w.done.Loose = append(w.done.Loose, name)
	return ` NOT VALID`
}

// domains gives lost constraints back to domains that are there still. It gives the SQL that takes them away again.
func (w *work) domains(ctx context.Context, classes, oids []uint32) (undo []string, err error) {
	rows, _ := w.then.Query(ctx, `WITH gone AS (SELECT unnest($1::oid[]) AS class, unnest($2::oid[]) AS id)
		SELECT t.oid::regtype::text, conname, pg_catalog.pg_get_constraintdef(k.oid), contype = 'c' AND convalidated FROM gone JOIN pg_catalog.pg_constraint k ON k.oid = id AND class = 'pg_catalog.pg_constraint'::regclass
		JOIN pg_catalog.pg_type t ON t.oid = contypid WHERE NOT EXISTS (SELECT FROM gone g WHERE g.class = 'pg_catalog.pg_type'::regclass AND g.id = contypid) ORDER BY 1, 2`, classes, oids)
	all, err := pgx.CollectRows(rows, pgx.RowToStructByPos[struct {
		Domain, Name, Make string
		Looks              bool
	}])
	if err != nil {
		return nil, err
	}
	for _, c := range all {
		var there, taken bool
		if err := w.live.QueryRow(ctx, `SELECT pg_catalog.to_regtype($1) IS NOT NULL, EXISTS (SELECT FROM pg_catalog.pg_constraint WHERE contypid = pg_catalog.to_regtype($1) AND conname = $2)`,
			c.Domain, c.Name).Scan(&there, &taken); err != nil {
			return nil, refused(err)
		}
		if !there || taken { // somebody has given it another since, and that stays
			w.done.Beside = append(w.done.Beside, c.Domain+": "+c.Name)
			continue
		}
		if err := w.script(ctx, `ALTER DOMAIN `+c.Domain+` ADD CONSTRAINT `+ident(c.Name)+` `+c.Make+w.unseen(c.Looks, c.Domain+": "+c.Name)); err != nil {
			return nil, err
		}
		undo = append(undo, `ALTER DOMAIN `+c.Domain+` DROP CONSTRAINT `+ident(c.Name))
	}
	return undo, nil
}

// quoted is the name in "ADD CONSTRAINT NAME ...", as it is written there.
func quoted(text string) string {
	rest := strings.TrimPrefix(text, `ADD CONSTRAINT `)
	if !strings.HasPrefix(rest, `"`) {
		name, _, _ := strings.Cut(rest, " ")
		return name
	}
	for i := 1; i < len(rest); i++ {
		if rest[i] != '"' {
			continue
		}
		if i+1 < len(rest) && rest[i+1] == '"' {
			i++
			continue
		}
		return rest[:i+1]
	}
	return rest
}

// refresh fills materialized views that came back without rows, those that others read first.
func (w *work) refresh(ctx context.Context, oids []uint32) error {
	rows, _ := w.then.Query(ctx, `SELECT oid::regclass::text FROM pg_catalog.pg_class WHERE oid = ANY($1::oid[]) AND relkind = 'm' AND relispopulated ORDER BY oid`, oids)
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return err
	}
	for _, name := range names {
		var filled bool
		if err := w.live.QueryRow(ctx, `SELECT relispopulated FROM pg_catalog.pg_class WHERE oid = $1::regclass`, name).Scan(&filled); err != nil {
			return refused(err)
		}
		if !filled {
			if err := w.script(ctx, `REFRESH MATERIALIZED VIEW `+name); err != nil {
				return err
			}
		}
	}
	return nil
}

// foreignKeys is the SQL that takes the foreign keys away that are between lost tables: these could not be dropped one after the other.
func (w *work) foreignKeys(ctx context.Context, oids []uint32) ([]string, error) {
	rows, _ := w.then.Query(ctx, `SELECT 'ALTER TABLE ' || pg_catalog.quote_ident(nspname) || '.' || pg_catalog.quote_ident(relname) || ' DROP CONSTRAINT ' || pg_catalog.quote_ident(conname)
		FROM pg_catalog.pg_constraint k JOIN pg_catalog.pg_class c ON c.oid = conrelid JOIN pg_catalog.pg_namespace n ON n.oid = relnamespace
		WHERE contype = 'f' AND conparentid = 0 AND k.oid = ANY($1::oid[]) AND conrelid = ANY($1::oid[]) ORDER BY 1`, oids)
	return pgx.CollectRows(rows, pgx.RowTo[string])
}

// dropWords are the types of pg_identify_object whose DROP has another word.
var dropWords = map[string]string{"statistics object": "STATISTICS", "server": "SERVER", "foreign-data wrapper": "FOREIGN DATA WRAPPER"}

// drops is the SQL that takes away what a dump has made, the last first.
func (w *work) drops(entries []keeper.DumpEntry, there []uint32) (drops []string) {
	for _, e := range slices.Backward(entries) {
		i := slices.IndexFunc(w.past.Objects, func(o keeper.PastObject) bool { return o.Class == e.Class && o.OID == e.OID && o.Part == 0 })
		if e.OID == 0 || i < 0 || w.past.Objects[i].Within || slices.Contains(there, e.OID) {
			continue
		}
		o := w.past.Objects[i]
		word := dropWords[o.Type]
		if word == "" {
			word = strings.ToUpper(o.Type)
		}
		drops = append(drops, fmt.Sprintf("DROP %s %s", word, o.Identity))
	}
	return drops
}
