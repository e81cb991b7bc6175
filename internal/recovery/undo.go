package recovery

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"howdah/internal/fault"
	"howdah/internal/keeper"
)

func asPg(err error, said **pgconn.PgError) bool { return errors.As(err, said) }

// Undo takes back what a recovery did, in one transaction: the tables are as they were before it, and its schema is gone. Where rows that it put there were changed since, nothing is
// done, and they are named. The ID "" is the last one.
func Undo(ctx context.Context, live keeper.Server, database, id string) (*Done, error) {
	all, err := List(ctx, live, database)
	if err != nil {
		return nil, err
	}
	at := slices.IndexFunc(all, func(d Done) bool { return id == "" || d.ID == strings.TrimPrefix(id, SchemaPrefix) })
	if at < 0 {
		return nil, fault.New(fault.NotFound, "recovery.none", fault.Args{"id": id, "db": database})
	}
	done := &all[at]
	w := &work{options: Options{Live: live, Database: database}, done: done, schema: done.Schema()}
	if w.live, err = live.ConnectAs(ctx, database, Application); err != nil {
		return nil, err
	}
	defer w.live.Close(context.WithoutCancel(ctx))
	if err := settle(ctx, w.live); err != nil {
		return nil, err
	}
	watchful(ctx, w.live)
	if _, err := w.live.Exec(ctx, `BEGIN`); err != nil {
		return nil, err
	}
	if err := alone(ctx, w.live); err != nil {
		return nil, err
	}
	for _, t := range slices.Backward(done.Tables) {
		switch done.Mode {
		case Merge:
			err = w.unmerge(ctx, t)
		case Replace, Objects:
			err = w.untouched(ctx, t)
		case Beside, Diff:
		}
		if err != nil {
			return nil, err
		}
	}
	if err := w.stillSo(ctx); err != nil {
		return nil, err
	}
	for _, sql := range done.Undo {
		if err := w.script(ctx, sql); err != nil {
			return nil, err
		}
	}
	for _, t := range done.Tables {
		for _, name := range []string{t.As, t.Put, t.Over} {
			if name != "" {
				if err := w.script(ctx, `DROP TABLE IF EXISTS `+ident(w.schema)+`.`+ident(name)); err != nil {
					return nil, err
				}
			}
		}
	}
	if err := w.script(ctx, `DROP SCHEMA `+ident(w.schema)); err != nil { // not what others have put there
		return nil, err
	}
	_, err = w.live.Exec(ctx, `COMMIT`)
	return done, refused(err)
}

// Left is something that was changed, as it was left.
type Left struct {
	What     string `json:"what"` // leftText and others
	Name     string `json:"name"`
	Class    uint32 `json:"class,omitempty"`
	OID      uint32 `json:"oid,omitempty"`
	Database string `json:"database,omitempty"`
	Setting  string `json:"setting,omitempty"`
	Is       string `json:"is"` // a SHA-256: texts are long
}

const (
	leftText    = "text"    // of a function or view
	leftRole    = "role"    // what it may do
	leftSetting = "setting" // of a role
)

// is says how it is now.
func (w *work) is(ctx context.Context, l Left) (string, error) {
	var now string
	switch l.What {
	case leftText:
		all, err := texts(ctx, w.live, []keeper.ObjectID{{Class: l.Class, OID: l.OID}})
		if err != nil {
			return "", refused(err)
		}
		for _, d := range all {
			now += d.Name + "\n" + d.Text
		}
	case leftRole:
		all, err := rolesOf(ctx, w.live, []string{l.Name})
		if err != nil {
			return "", refused(err)
		}
		for _, r := range all {
			now += r.attributes()
		}
	case leftSetting:
		err := w.live.QueryRow(ctx, `SELECT coalesce(string_agg(one, ''), '') FROM pg_catalog.pg_db_role_setting JOIN pg_catalog.pg_roles r ON r.oid = setrole LEFT JOIN pg_catalog.pg_database d ON d.oid = setdatabase,
			unnest(setconfig) one WHERE rolname = $1 AND coalesce(datname, '') = $2 AND split_part(one, '=', 1) = $3`, l.Name, l.Database, l.Setting).Scan(&now)
		if err != nil {
			return "", refused(err)
		}
	}
	return fmt.Sprintf("%x", sha256.Sum256([]byte(now))), nil
}

// leave keeps how something was left that Undo would change.
func (w *work) leave(ctx context.Context, l Left) (err error) {
	if w.options.Look {
		return nil
	}
	l.Is, err = w.is(ctx, l)
	w.done.Stands = append(w.done.Stands, l)
	return err
}

// stillSo refuses to take back what somebody has changed since: a deployment, say. Unlogged tables came back empty; what is in them by now would go.
func (w *work) stillSo(ctx context.Context) error {
	for _, l := range w.done.Stands {
		now, err := w.is(ctx, l)
		if err != nil {
			return err
		}
		if now != l.Is {
			name := l.Name
			if l.Setting != "" {
				name = ident(l.Name) + ": " + l.Setting
			}
			return fault.New(fault.Conflict, "recovery.redefined", fault.Args{"name": name})
		}
	}
	for _, name := range w.done.Empty {
		var there bool
		if err := w.live.QueryRow(ctx, `SELECT pg_catalog.to_regclass($1) IS NOT NULL`, name).Scan(&there); err != nil {
			return refused(err)
		}
		if !there { // the DROP of Undo says so
			continue
		}
		if err := w.script(ctx, `LOCK TABLE `+name+` IN ACCESS EXCLUSIVE MODE`); err != nil {
			return err
		}
		var rows int64
		if err := w.live.QueryRow(ctx, `SELECT count(*) FROM ONLY `+name).Scan(&rows); err != nil {
			return refused(err)
		}
		if rows > 0 {
			return fault.New(fault.Conflict, "recovery.written_since", fault.Args{"name": name, "then": 0, "now": rows, "n": rows})
		}
	}
	return nil
}

// unmerge removes the rows that were put back, and gives those that were overwritten their values back.
func (w *work) unmerge(ctx context.Context, t Table) error {
	if t.Put == "" && t.Over == "" {
		return nil
	}
	s := &staged{Table: &t}
	var kind string
	var err error
	if s.live, kind, err = lookUp(ctx, w.live, t.Schema, t.Name); err != nil {
		return err
	}
	if s.live == 0 || kind != "r" && kind != "p" {
		return fault.New(fault.Conflict, "recovery.not_there", fault.Args{"name": t.FullName()})
	}
	if s.now, err = columns(ctx, w.live, s.live); err != nil {
		return err
	}
	of := func(name string) (m match, full string, err error) {
		full = ident(w.schema) + "." + ident(name)
		oid, _, err := lookUp(ctx, w.live, w.schema, name)
		if err == nil {
			s.columns, err = columns(ctx, w.live, oid)
		}
		if err == nil {
			m, err = s.match()
		}
		return m, full, err
	}
	changed := func(m match, full string) error {
		keys, err := w.some(ctx, s, `FROM `+full+` r JOIN `+s.FullName()+` l ON `+m.same+` WHERE `+m.differs)
		if err == nil && keys != "" {
			err = fault.New(fault.Conflict, "recovery.changed_since", fault.Args{"name": t.FullName(), "rows": keys})
		}
		return err
	}
	if _, err := w.live.Exec(ctx, `LOCK TABLE `+s.FullName()+` IN SHARE ROW EXCLUSIVE MODE`); err != nil {
		return refused(err)
	}
	if t.Over != "" {
		// What was put in place of the overwritten values is in the copy of the past.
		m, past, err := of(t.As)
		if err != nil {
			return err
		}
		over := ident(w.schema) + "." + ident(t.Over)
		keys, err := w.some(ctx, s, `FROM `+past+` r JOIN `+s.FullName()+` l ON `+m.same+` WHERE `+m.differs+` AND EXISTS (SELECT FROM `+over+` o WHERE `+m.other+`)`)
		if err != nil {
			return err
		}
		if keys != "" {
			return fault.New(fault.Conflict, "recovery.changed_since", fault.Args{"name": t.FullName(), "rows": keys})
		}
		if m, over, err = of(t.Over); err != nil {
			return err
		}
		if err := w.quietly(ctx, func() error { return w.update(ctx, s, over, m, "") }); err != nil {
			return err
		}
	}
	if t.Put == "" {
		return nil
	}
	m, put, err := of(t.Put)
	if err != nil {
		return err
	}
	if err := changed(m, put); err != nil {
		return err
	}
	rows, _ := w.live.Query(ctx, `SELECT conname, (SELECT array_agg(attname ORDER BY place) FROM unnest(conkey) WITH ORDINALITY k(n, place) JOIN pg_catalog.pg_attribute ON attrelid = conrelid AND attnum = n),
		conrelid::regclass::text, conrelid, (SELECT array_agg(attname ORDER BY place) FROM unnest(confkey) WITH ORDINALITY k(n, place) JOIN pg_catalog.pg_attribute ON attrelid = confrelid AND attnum = n)
		FROM pg_catalog.pg_constraint WHERE confrelid = $1 AND contype = 'f' AND conparentid = 0`, s.live)
	children, err := pgx.CollectRows(rows, pgx.RowToStructByPos[key])
	if err != nil {
		return err
	}
	for _, c := range children {
		var same []string
		for i, name := range c.Columns {
			same = append(same, "c."+ident(name)+" = r."+ident(c.Theirs[i]))
		}
		which := `FROM ` + put + ` r WHERE EXISTS (SELECT FROM ` + c.Other + ` c WHERE ` + strings.Join(same, " AND ")
		if c.OID == s.live { // rows that go with it do not count
			var theirs []string
			for _, name := range t.Key {
				theirs = append(theirs, "o."+ident(name)+" = c."+ident(name))
			}
			which += ` AND NOT EXISTS (SELECT FROM ` + put + ` o WHERE ` + strings.Join(theirs, " AND ") + `)`
		}
		keys, err := w.some(ctx, s, which+`)`)
		if err != nil {
			return err
		}
		if keys != "" {
			return fault.New(fault.Conflict, "recovery.referred", fault.Args{"name": t.FullName(), "other": c.Other, "rows": keys})
		}
	}
	return w.quietly(ctx, func() error {
		_, err := w.live.Exec(ctx, `DELETE FROM `+s.FullName()+` l USING `+put+` r WHERE `+m.same)
		return refused(err)
	})
}

// quietly does something that triggers do not see.
func (w *work) quietly(ctx context.Context, do func() error) error {
	_, err := w.live.Exec(ctx, `SET LOCAL session_replication_role = replica`)
	if err == nil {
		err = do()
	}
	if err == nil {
		_, err = w.live.Exec(ctx, `SET LOCAL session_replication_role = origin`)
	}
	return refused(err)
}

// untouched refuses a table in which anything was written since it came back: every row bears our transaction, and none is missing.
func (w *work) untouched(ctx context.Context, t Table) error {
	oid, kind, err := lookUp(ctx, w.live, t.Schema, t.Name)
	if err != nil {
		return err
	}
	if oid == 0 || kind != "r" && kind != "p" {
		return fault.New(fault.Conflict, "recovery.not_there", fault.Args{"name": t.FullName()})
	}
	if _, err := w.live.Exec(ctx, `LOCK TABLE `+t.FullName()+` IN ACCESS EXCLUSIVE MODE`); err != nil {
		return refused(err)
	}
	var rows, others int64
	only := ""
	if kind == "r" { // what inherits from it is not it
		only = "ONLY "
	}
	err = w.live.QueryRow(ctx, `SELECT count(*), count(*) FILTER (WHERE xmin::text <> ($1::xid8::xid)::text) FROM `+only+t.FullName(), w.done.XID).Scan(&rows, &others)
	if err != nil {
		return refused(err)
	}
	if others == 0 && rows == t.Rows {
		return nil
	}
	s := &staged{Table: &t}
	if s.Key, err = keyOf(ctx, w.live, oid); err != nil {
		return err
	}
	names := ""
	if len(s.Key) > 0 {
		names, err = w.some(ctx, s, `FROM `+t.FullName()+` r WHERE xmin::text <> ('`+w.done.XID+`'::xid8::xid)::text`)
	}
	if err == nil {
		err = fault.New(fault.Conflict, "recovery.changed_since", fault.Args{"name": t.FullName(), "rows": names, "n": others})
	}
	if names == "" {
		err = fault.New(fault.Conflict, "recovery.written_since", fault.Args{"name": t.FullName(), "then": t.Rows, "now": rows, "n": others})
	}
	return err
}
