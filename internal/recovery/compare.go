package recovery

import (
	"context"
	"encoding/json"
	"slices"
	"sort"
	"strings"

	"github.com/jackc/pgx/v5"

	"howdah/internal/fault"
)

// mostSamples are shown of each kind of difference, and named of what stands in the way.
const mostSamples = 5

// match is how a table of the past and the live one are compared.
type match struct {
	same    string   // condition: a row of the past (r) is that of the live table (l)
	other   string   // the same of one that is called o
	differs string   // condition: it has other values
	common  []string // columns that both have and that can be written, with the key
}

func (s *staged) match() (m match, err error) {
	if len(s.Key) == 0 {
		return m, fault.New(fault.Conflict, "recovery.no_key", fault.Args{"name": s.FullName()})
	}
	var same, other, images, texts []string
	live := func(name string) *column {
		if i := slices.IndexFunc(s.now, func(c column) bool { return c.Name == name }); i >= 0 {
			return &s.now[i]
		}
		return nil
	}
	s.Skipped = nil
	for _, c := range s.columns {
		n := live(c.Name)
		key := slices.Contains(s.Key, c.Name)
		if n == nil {
			s.Skipped = append(s.Skipped, c.Name)
			if key {
				return m, fault.New(fault.Conflict, "recovery.other_key", fault.Args{"name": s.FullName(), "column": c.Name})
			}
			continue
		}
		q := ident(c.Name)
		switch {
		case key && n.Type != c.Type:
			return m, fault.New(fault.Conflict, "recovery.other_key", fault.Args{"name": s.FullName(), "column": c.Name})
		case key:
			same, other = append(same, "l."+q+" = r."+q), append(other, "o."+q+" = r."+q)
		case n.Generated != "":
			continue
		case n.Type != c.Type:
			texts = append(texts, "r."+q+"::text IS DISTINCT FROM l."+q+"::text")
		default:
			images = append(images, q)
		}
		m.common = append(m.common, c.Name)
	}
	for _, n := range s.now {
		if !slices.ContainsFunc(s.columns, func(c column) bool { return c.Name == n.Name }) {
			s.Skipped = append(s.Skipped, n.Name)
		}
	}
	m.same, m.other = strings.Join(same, " AND "), strings.Join(other, " AND ")
	if len(images) > 0 {
		// The bytes are compared: not every type has an equality (json), and not every equality tells all (numeric).
		texts = append(texts, "ROW(r."+strings.Join(images, ", r.")+")::record OPERATOR(pg_catalog.*<>) ROW(l."+strings.Join(images, ", l.")+")::record")
	}
	m.differs = "false"
	if len(texts) > 0 {
		m.differs = "(" + strings.Join(texts, " OR ") + ")"
	}
	return m, nil
}

// gone is the condition that the live table lacks a row r.
func (s *staged) gone(m match) string {
	return "NOT EXISTS (SELECT FROM " + s.FullName() + " l WHERE " + m.same + ")"
}

// compare counts what differs, and shows some of it.
func (w *work) compare(ctx context.Context, s *staged) error {
	if s.live == 0 {
		s.Gone = s.Rows
		return nil
	}
	m, err := s.match()
	if err != nil {
		return err
	}
	live := s.FullName()
	err = w.live.QueryRow(ctx, `SELECT count(*) FILTER (WHERE l.there IS NULL), count(*) FILTER (WHERE l.there AND l.differs)
		FROM `+s.full+` r LEFT JOIN LATERAL (SELECT true AS there, `+m.differs+` AS differs FROM `+live+` l WHERE `+m.same+`) l ON true`).Scan(&s.Gone, &s.Altered)
	if err == nil {
		err = w.live.QueryRow(ctx, `SELECT count(*) FROM `+live+` l WHERE NOT EXISTS (SELECT FROM `+s.full+` r WHERE `+m.same+`)`).Scan(&s.Newer)
	}
	if err != nil {
		return refused(err)
	}
	key := "r." + strings.Join(strings.Split(idents(s.Key), ", "), ", r.")
	of := func(kind, sql string) error {
		rows, _ := w.live.Query(ctx, sql, mostSamples)
		var was, is []byte
		_, err := pgx.ForEachRow(rows, []any{&was, &is}, func() error {
			d, err := s.difference(kind, was, is)
			s.Sample = append(s.Sample, d)
			return err
		})
		return refused(err)
	}
	if s.Gone > 0 {
		err = of("gone", `SELECT pg_catalog.convert_to(pg_catalog.to_json(r)::text, 'UTF8'), NULL::bytea FROM `+s.full+` r WHERE `+s.gone(m)+` ORDER BY `+key+` LIMIT $1`)
	}
	if s.Altered > 0 && err == nil {
		err = of("changed", `SELECT pg_catalog.convert_to(pg_catalog.to_json(r)::text, 'UTF8'), pg_catalog.convert_to(pg_catalog.to_json(l)::text, 'UTF8') FROM `+s.full+` r JOIN `+live+` l ON `+m.same+
			` WHERE `+m.differs+` ORDER BY `+key+` LIMIT $1`)
	}
	if s.Newer > 0 && err == nil {
		err = of("new", `SELECT NULL::bytea, pg_catalog.convert_to(pg_catalog.to_json(r)::text, 'UTF8') FROM `+live+` r WHERE NOT EXISTS (SELECT FROM `+s.full+` l WHERE `+m.same+`) ORDER BY `+key+` LIMIT $1`)
	}
	return err
}

// difference reads a row as it was and as it is.
func (s *staged) difference(kind string, was, is []byte) (d Difference, err error) {
	d.Kind = kind
	var before, after map[string]json.RawMessage
	for raw, into := range map[*[]byte]*map[string]json.RawMessage{&was: &before, &is: &after} {
		if *raw != nil {
			if err := json.Unmarshal(*raw, into); err != nil {
				return d, err
			}
		}
	}
	both := after
	if before != nil {
		both = before
	}
	var key []string
	for _, name := range s.Key {
		key = append(key, name+"="+string(both[name]))
	}
	d.Key = strings.Join(key, ", ")
	var names []string
	for name := range both {
		if !slices.Contains(s.Key, name) && !slices.Contains(s.Skipped, name) && (kind != "changed" || string(before[name]) != string(after[name])) {
			names = append(names, name)
		}
	}
	sort.Strings(names)
	for _, name := range names {
		d.Columns = append(d.Columns, Change{name, before[name], after[name]})
	}
	return d, nil
}

// some names the keys of rows r of the past that a query gives, up to mostSamples; "" when there are none.
func (w *work) some(ctx context.Context, s *staged, from string) (string, error) {
	var parts []string
	for _, name := range s.Key {
		parts = append(parts, literal(name+"=")+" || coalesce(r."+ident(name)+"::text, 'NULL')")
	}
	rows, _ := w.live.Query(ctx, `SELECT `+strings.Join(parts, " || ', ' || ")+` `+from+` LIMIT `+"6")
	keys, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if len(keys) > mostSamples {
		keys[mostSamples] = "..."
	}
	return strings.Join(keys, "; "), refused(err)
}

// merge puts rows back, what others refer to first.
func (w *work) merge(ctx context.Context, all []*staged) error {
	ordered, err := w.ordered(ctx, all)
	if err != nil {
		return err
	}
	for _, s := range ordered {
		if err := w.mergeOne(ctx, s); err != nil {
			return err
		}
	}
	return nil
}

// ordered has tables behind those that they refer to.
func (w *work) ordered(ctx context.Context, all []*staged) (ordered []*staged, err error) {
	refers := map[uint32][]uint32{}
	for _, s := range all {
		rows, _ := w.live.Query(ctx, `SELECT confrelid FROM pg_catalog.pg_constraint WHERE conrelid = $1 AND contype = 'f'`, s.live)
		if refers[s.live], err = pgx.CollectRows(rows, pgx.RowTo[uint32]); err != nil {
			return nil, err
		}
	}
	for rest := slices.Clone(all); len(rest) > 0; {
		at := slices.IndexFunc(rest, func(s *staged) bool {
			return !slices.ContainsFunc(rest, func(other *staged) bool { return other != s && slices.Contains(refers[s.live], other.live) })
		})
		at = max(at, 0) // they refer to each other
		ordered, rest = append(ordered, rest[at]), slices.Delete(rest, at, at+1)
	}
	return ordered, nil
}

func (w *work) mergeOne(ctx context.Context, s *staged) error {
	m, err := s.match()
	if err != nil {
		return err
	}
	if err := w.compare(ctx, s); err != nil {
		return err
	}
	s.Sample = nil
	if err := w.inTheWay(ctx, s, m); err != nil {
		return err
	}
	if err := w.trusted(ctx, w.live, []uint32{s.live}); err != nil {
		return err
	}
	list := idents(m.common)
	put := func(purpose string) (name, full string, err error) {
		name = s.As + "_" + purpose
		for n := 0; ; n++ {
			if oid, _, err := lookUp(ctx, w.live, w.schema, name); err != nil || oid == 0 {
				full = ident(w.schema) + "." + ident(name)
				if err == nil {
					_, err = w.live.Exec(ctx, `CREATE TABLE `+full+` AS SELECT `+list+` FROM `+s.FullName()+` WHERE false`)
				}
				return name, full, refused(err)
			}
			name += "_"
		}
	}
	// Triggers of people have seen these rows when they were new; what foreign keys ask for was looked at above.
	if _, err := w.live.Exec(ctx, `SET LOCAL session_replication_role = replica`); err != nil {
		return refused(err)
	}
	if s.Gone > 0 {
		var full string
		if s.Put, full, err = put("put_back"); err != nil {
			return err
		}
		tag, err := w.live.Exec(ctx, `WITH put AS (INSERT INTO `+s.FullName()+` (`+list+`) OVERRIDING SYSTEM VALUE SELECT `+list+` FROM `+s.full+` r WHERE `+s.gone(m)+
			` ON CONFLICT (`+idents(s.Key)+`) DO NOTHING RETURNING `+list+`) INSERT INTO `+full+` SELECT * FROM put`)
		if err != nil {
			return refused(err)
		}
		s.Gone = tag.RowsAffected()
	}
	if s.Altered > 0 && w.options.Changed {
		var full string
		if s.Over, full, err = put("overwritten"); err != nil {
			return err
		}
		if _, err := w.live.Exec(ctx, `INSERT INTO `+full+` SELECT `+prefixed("l.", m.common)+` FROM `+s.FullName()+` l WHERE EXISTS (SELECT FROM `+s.full+` r WHERE `+m.same+` AND `+m.differs+`) FOR UPDATE`); err != nil {
			return refused(err)
		}
		if err := w.update(ctx, s, s.full, m, ` AND `+m.differs); err != nil {
			return err
		}
	}
	if _, err := w.live.Exec(ctx, `SET LOCAL session_replication_role = origin`); err != nil {
		return refused(err)
	}
	return w.raise(ctx, s)
}

func prefixed(with string, names []string) string {
	var all []string
	for _, name := range names {
		all = append(all, with+ident(name))
	}
	return strings.Join(all, ", ")
}

// update gives rows of the live table the values that rows of the same key have elsewhere.
func (w *work) update(ctx context.Context, s *staged, from string, m match, and string) error {
	var set []string
	for _, name := range m.common {
		i := slices.IndexFunc(s.now, func(c column) bool { return c.Name == name })
		if !slices.Contains(s.Key, name) && s.now[i].Identity != "a" {
			set = append(set, ident(name)+" = r."+ident(name))
		}
	}
	if len(set) == 0 {
		return nil
	}
	_, err := w.live.Exec(ctx, `UPDATE `+s.FullName()+` l SET `+strings.Join(set, ", ")+` FROM `+from+` r WHERE `+m.same+and)
	return refused(err)
}

// key is an index or a foreign key of the live table.
type key struct {
	Name    string
	Columns []string
	Other   string   // the table that is referred to, as SQL writes it
	OID     uint32   // of that
	Theirs  []string // its columns
}

// inTheWay refuses rows that could not be put back, and names them: what is unique is in another row by now, or what they refer to is not there. It keeps what they refer to.
func (w *work) inTheWay(ctx context.Context, s *staged, m match) error {
	which := s.gone(m)
	if w.options.Changed {
		which = "(" + which + " OR EXISTS (SELECT FROM " + s.FullName() + " l WHERE " + m.same + " AND " + m.differs + "))"
	}
	rows, _ := w.live.Query(ctx, `SELECT c.relname, (SELECT array_agg(attname ORDER BY place) FROM unnest(indkey) WITH ORDINALITY k(n, place) JOIN pg_catalog.pg_attribute ON attrelid = indrelid AND attnum = n),
		'', 0::oid, '{}'::name[] FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = indexrelid
		WHERE indrelid = $1 AND indisunique AND NOT indisprimary AND indpred IS NULL AND indexprs IS NULL AND indisvalid`, s.live)
	unique, err := pgx.CollectRows(rows, pgx.RowToStructByPos[key])
	if err != nil {
		return err
	}
	for _, u := range unique {
		var same []string
		for _, name := range u.Columns {
			same = append(same, "o."+ident(name)+" = r."+ident(name))
		}
		if !subset(u.Columns, m.common) {
			continue
		}
		keys, err := w.some(ctx, s, `FROM `+s.full+` r WHERE `+which+` AND EXISTS (SELECT FROM `+s.FullName()+` o WHERE `+strings.Join(same, " AND ")+` AND NOT (`+m.other+`))`)
		if err != nil {
			return err
		}
		if keys != "" {
			return fault.New(fault.Conflict, "recovery.taken", fault.Args{"name": s.FullName(), "index": u.Name, "columns": strings.Join(u.Columns, ", "), "rows": keys})
		}
	}
	rows, _ = w.live.Query(ctx, `SELECT conname, (SELECT array_agg(attname ORDER BY place) FROM unnest(conkey) WITH ORDINALITY k(n, place) JOIN pg_catalog.pg_attribute ON attrelid = conrelid AND attnum = n),
		confrelid::regclass::text, confrelid, (SELECT array_agg(attname ORDER BY place) FROM unnest(confkey) WITH ORDINALITY k(n, place) JOIN pg_catalog.pg_attribute ON attrelid = confrelid AND attnum = n)
		FROM pg_catalog.pg_constraint WHERE conrelid = $1 AND contype = 'f'`, s.live)
	foreign, err := pgx.CollectRows(rows, pgx.RowToStructByPos[key])
	if err != nil {
		return err
	}
	for _, f := range foreign {
		if !subset(f.Columns, m.common) {
			continue
		}
		var same, given, own []string
		for i, name := range f.Columns {
			same = append(same, "p."+ident(f.Theirs[i])+" = r."+ident(name))
			own = append(own, "o."+ident(f.Theirs[i])+" = r."+ident(name))
			given = append(given, "r."+ident(name)+" IS NOT NULL")
		}
		which := which + " AND " + strings.Join(given, " AND ")
		// Kept until we commit, as PostgreSQL's own check does.
		if _, err := w.live.Exec(ctx, `SELECT FROM `+f.Other+` p WHERE EXISTS (SELECT FROM `+s.full+` r WHERE `+which+` AND `+strings.Join(same, " AND ")+`) FOR KEY SHARE`); err != nil {
			return refused(err)
		}
		missing := ` AND NOT EXISTS (SELECT FROM ` + f.Other + ` p WHERE ` + strings.Join(same, " AND ") + `)`
		if f.OID == s.live { // a row may refer to one that comes back with it
			missing += ` AND NOT EXISTS (SELECT FROM ` + s.full + ` o WHERE ` + strings.Join(own, " AND ") + `)`
		}
		keys, err := w.some(ctx, s, `FROM `+s.full+` r WHERE `+which+missing)
		if err != nil {
			return err
		}
		if keys != "" {
			return fault.New(fault.Conflict, "recovery.orphans", fault.Args{"name": s.FullName(), "other": f.Other, "constraint": f.Name, "rows": keys})
		}
	}
	return nil
}

func subset(some, all []string) bool {
	return !slices.ContainsFunc(some, func(name string) bool { return !slices.Contains(all, name) })
}

// raise sets the sequences of a table's columns past their highest values.
func (w *work) raise(ctx context.Context, s *staged) error {
	for _, c := range s.now {
		var sequence *string
		if err := w.live.QueryRow(ctx, `SELECT pg_catalog.pg_get_serial_sequence($1, $2)`, s.FullName(), c.Name).Scan(&sequence); err != nil {
			return refused(err)
		}
		if sequence == nil {
			continue
		}
		if _, err := w.live.Exec(ctx, `SELECT pg_catalog.setval($1::regclass, highest) FROM (SELECT max(`+ident(c.Name)+`)::bigint AS highest FROM `+s.FullName()+`) t
			WHERE highest > (SELECT last_value - CASE WHEN is_called THEN 0 ELSE 1 END FROM `+*sequence+`) AND (SELECT seqincrement > 0 FROM pg_catalog.pg_sequence WHERE seqrelid = $1::regclass)`, *sequence); err != nil {
			return refused(err)
		}
	}
	return nil
}
