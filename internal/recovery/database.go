package recovery

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"howdah/internal/fault"
	"howdah/internal/keeper"
)

// Databases is the mode of RestoreDatabase.
const Databases Mode = "database"

// Template1 is the number of template1 (pg_database.dat): a past of it has the catalogs that all databases share, and little else.
const Template1 = 1

// DatabaseThen is a database of the past.
type DatabaseThen struct {
	OID                   uint32
	Name, Owner, Encoding string
	Provider              string // of its locale: "c", "i" or "b"
	Collate, CType        string
	Locale, Rules         *string // of ICU, or of those built in
	Space                 string
	Limit                 int
	Allow, Template       bool
	Comment               *string
	rights                []right
	settings              [][3]string // role ("" for all), name, value
	roles                 []string    // that something in it belongs to, or was granted to
}

// FindDatabase looks a database up in a past of which only the shared catalogs are needed.
func FindDatabase(ctx context.Context, past *keeper.Past, name string) (*DatabaseThen, error) {
	conn, err := past.Connect(ctx)
	if err != nil {
		return nil, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	d := &DatabaseThen{}
	// Some columns have other names from PostgreSQL 17 on, or are younger than 15.
	err = conn.QueryRow(ctx, `SELECT d.oid, datname, pg_catalog.pg_get_userbyid(datdba), pg_catalog.pg_encoding_to_char(encoding), datlocprovider::text, datcollate, datctype,
		coalesce(j ->> 'datlocale', j ->> 'daticulocale'), j ->> 'daticurules', spcname, datconnlimit, datallowconn, datistemplate, pg_catalog.shobj_description(d.oid, 'pg_database')
		FROM pg_catalog.pg_database d JOIN pg_catalog.pg_tablespace s ON s.oid = dattablespace, LATERAL pg_catalog.to_jsonb(d) j WHERE datname = $1`, name).
		Scan(&d.OID, &d.Name, &d.Owner, &d.Encoding, &d.Provider, &d.Collate, &d.CType, &d.Locale, &d.Rules, &d.Space, &d.Limit, &d.Allow, &d.Template, &d.Comment)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, fault.New(fault.NotFound, "recovery.no_database_then", fault.Args{"name": name})
	}
	if err != nil {
		return nil, err
	}
	if d.rights, err = rights(ctx, conn, `class = 'pg_catalog.pg_database'::regclass AND every.oid = $1`, d.OID); err != nil {
		return nil, err
	}
	rows, _ := conn.Query(ctx, `SELECT ARRAY[CASE setrole WHEN 0 THEN '' ELSE pg_catalog.pg_get_userbyid(setrole)::text END, split_part(one, '=', 1), substr(one, strpos(one, '=') + 1)]
		FROM pg_catalog.pg_db_role_setting, unnest(setconfig) one WHERE setdatabase = $1 ORDER BY 1`, d.OID)
	d.settings, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (s [3]string, err error) {
		var three []string
		err = row.Scan(&three)
		copy(s[:], three)
		return s, err
	})
	if err != nil {
		return nil, err
	}
	rows, _ = conn.Query(ctx, `SELECT DISTINCT pg_catalog.pg_get_userbyid(refobjid)::text FROM pg_catalog.pg_shdepend WHERE refclassid = 'pg_catalog.pg_authid'::regclass
		AND (dbid = $1 OR classid = 'pg_catalog.pg_database'::regclass AND objid = $1) ORDER BY 1`, d.OID)
	d.roles, err = pgx.CollectRows(rows, pgx.RowTo[string])
	for _, s := range d.settings {
		if s[0] != "" && !slices.Contains(d.roles, s[0]) {
			d.roles = append(d.roles, s[0])
		}
	}
	return d, err
}

// unfinishedMark is the comment of the schema in the database postgres that has the name of a database that is being filled. It is there before that, and who fills it holds an advisory lock.
const unfinishedMark = commentHead + "unfinished"

const lockOf = `SELECT pg_catalog.pg_try_advisory_lock(pg_catalog.hashtextextended($1, 0))`

// RestoreDatabase brings a dropped database back from a past that has all of its files. PostgreSQL does not make databases in a transaction: it is filled under another name ("recovered_..."), and
// gets its own, its owner and its rights in one transaction at the end. Where anything fails the other one is dropped; what a killed one has left, the next removes. What was done is
// written down in the database postgres.
func RestoreDatabase(ctx context.Context, past *keeper.Past, d *DatabaseThen, options Options) (done *Done, err error) {
	w := &work{options: options, past: past, done: &Done{Format: 1, Mode: Databases, Moment: options.Moment, Database: "postgres", At: options.Now.UTC().Truncate(time.Second),
		Objects: []Object{{Type: "database", Name: ident(d.Name)}}}}
	if w.live, err = options.Live.ConnectAs(ctx, "postgres", Application); err != nil {
		return nil, err
	}
	defer w.live.Close(context.WithoutCancel(ctx))
	if err := settle(ctx, w.live); err != nil {
		return nil, err
	}
	if err := w.mayCome(ctx, d); err != nil || options.Look {
		return w.done, err
	}
	if err := sweepDatabases(ctx, w.live); err != nil {
		return nil, err
	}
	for now := options.Now; ; now = now.Add(time.Second) {
		if w.done.ID, err = freeID(ctx, w.live, now); err != nil {
			return nil, err
		}
		var taken bool
		if err := w.live.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_catalog.pg_database WHERE datname = $1)`, w.done.Schema()).Scan(&taken); err != nil {
			return nil, err
		}
		if !taken {
			break
		}
	}
	var held bool
	if err := w.live.QueryRow(ctx, lockOf, w.done.Schema()).Scan(&held); err != nil || !held {
		return nil, errors.Join(err, fmt.Errorf("somebody holds %s", w.done.Schema()))
	}
	w.done.Point = "before " + w.done.Schema()
	if _, err := w.live.Exec(ctx, `SELECT pg_catalog.pg_create_restore_point($1)`, w.done.Point); err != nil {
		return nil, refused(err)
	}
	defer func() {
		if err != nil {
			late, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
			defer cancel()
			_, _ = w.live.Exec(late, `ROLLBACK`)
			_ = dropUnfinished(late, w.live, w.done.Schema()) // or the next one does it
		}
	}()
	if err := w.script(ctx, `CREATE SCHEMA `+ident(w.done.Schema())+`; COMMENT ON SCHEMA `+ident(w.done.Schema())+` IS `+literal(unfinishedMark)); err != nil {
		return nil, err
	}
	if _, err := w.live.Exec(ctx, d.create(w.done.Schema())); err != nil {
		return nil, refused(err)
	}
	if err := past.CopyDatabase(ctx, options.Live, w.done.Schema()); err != nil {
		return nil, err
	}
	if err := w.name(ctx, d); err != nil {
		return nil, err
	}
	return w.done, nil
}

// mayCome refuses what could not come back.
func (w *work) mayCome(ctx context.Context, d *DatabaseThen) error {
	var there bool
	if err := w.live.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_catalog.pg_database WHERE datname = $1)`, d.Name).Scan(&there); err != nil {
		return err
	}
	if there {
		return fault.New(fault.Conflict, "recovery.database_there", fault.Args{"name": d.Name})
	}
	roles, err := w.liveRoles(ctx)
	if err != nil {
		return err
	}
	gone := slices.DeleteFunc(slices.Clone(d.roles), func(name string) bool { return roles[name] })
	if len(gone) > 0 {
		return fault.New(fault.Conflict, "recovery.roles_gone", fault.Args{"roles": strings.Join(gone, ", "), "first": gone[0]})
	}
	return nil
}

// sweepDatabases drops what killed recoveries have left half filled.
func sweepDatabases(ctx context.Context, conn *pgx.Conn) error {
	rows, _ := conn.Query(ctx, `SELECT nspname FROM pg_catalog.pg_namespace n JOIN pg_catalog.pg_roles r ON r.oid = nspowner WHERE rolsuper AND starts_with(nspname, $1)
		AND pg_catalog.obj_description(n.oid, 'pg_namespace') = $2`, SchemaPrefix, unfinishedMark)
	left, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return err
	}
	for _, name := range left {
		var ours bool
		if err := conn.QueryRow(ctx, lockOf, name).Scan(&ours); err != nil {
			return err
		}
		if ours { // it may have come to its end since
			if err := conn.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_catalog.pg_namespace n WHERE nspname = $1 AND pg_catalog.obj_description(n.oid, 'pg_namespace') = $2)`, name, unfinishedMark).Scan(&ours); err != nil {
				return err
			}
		}
		if ours {
			if err := dropUnfinished(ctx, conn, name); err != nil {
				return err
			}
		}
	}
	return nil
}

// dropUnfinished drops a half-filled database, and then what says that it is one.
func dropUnfinished(ctx context.Context, conn *pgx.Conn, name string) error {
	_, err := conn.Exec(ctx, `DROP DATABASE IF EXISTS `+ident(name)+` WITH (FORCE)`)
	if err == nil {
		_, err = conn.Exec(ctx, `DROP SCHEMA IF EXISTS `+ident(name))
	}
	return refused(err)
}

// create is the SQL that makes the empty database under another name.
func (d *DatabaseThen) create(name string) string {
	sql := `CREATE DATABASE ` + ident(name) + ` TEMPLATE template0 ENCODING ` + literal(d.Encoding) + ` LC_COLLATE ` + literal(d.Collate) + ` LC_CTYPE ` + literal(d.CType) + ` TABLESPACE ` + ident(d.Space) +
		` CONNECTION LIMIT 0` // none but superusers, until it has its name
	switch {
	case d.Provider == "i" && d.Locale != nil:
		sql += ` LOCALE_PROVIDER icu ICU_LOCALE ` + literal(*d.Locale)
		if d.Rules != nil {
			sql += ` ICU_RULES ` + literal(*d.Rules)
		}
	case d.Provider == "b" && d.Locale != nil:
		sql += ` LOCALE_PROVIDER builtin BUILTIN_LOCALE ` + literal(*d.Locale)
	default:
		sql += ` LOCALE_PROVIDER libc`
	}
	return sql
}

// name gives the filled database its name and all that is the database's own.
func (w *work) name(ctx context.Context, d *DatabaseThen) error {
	// Who is in it still - pg_restore's own session, somebody who collects figures - would keep it from being renamed.
	if _, err := w.live.Exec(ctx, `ALTER DATABASE `+ident(w.done.Schema())+` ALLOW_CONNECTIONS false`); err != nil {
		return refused(err)
	}
	if _, err := w.live.Exec(ctx, `SELECT pg_catalog.pg_terminate_backend(pid, 60000) FROM pg_catalog.pg_stat_activity WHERE datname = $1`, w.done.Schema()); err != nil {
		return refused(err)
	}
	if _, err := w.live.Exec(ctx, `BEGIN`); err != nil {
		return err
	}
	if err := w.live.QueryRow(ctx, `SELECT pg_catalog.pg_current_xact_id()::text`).Scan(&w.done.XID); err != nil {
		return err
	}
	name := ident(d.Name)
	sql := []string{`ALTER DATABASE ` + ident(w.done.Schema()) + ` RENAME TO ` + name, `ALTER DATABASE ` + name + ` OWNER TO ` + ident(d.Owner),
		fmt.Sprintf(`ALTER DATABASE %s CONNECTION LIMIT %d ALLOW_CONNECTIONS %t IS_TEMPLATE %t`, name, d.Limit, d.Allow, d.Template)}
	for _, s := range d.settings {
		alter := `ALTER DATABASE ` + name
		if s[0] != "" {
			alter = `ALTER ROLE ` + ident(s[0]) + ` IN DATABASE ` + name
		}
		sql = append(sql, setTo(alter, s[1], s[2]))
	}
	comment := `NULL`
	if d.Comment != nil {
		comment = literal(*d.Comment)
	}
	sql = append(sql, `COMMENT ON DATABASE `+name+` IS `+comment)
	for _, one := range sql {
		if err := w.script(ctx, one); err != nil {
			return err
		}
	}
	now, err := rights(ctx, w.live, `class = 'pg_catalog.pg_database'::regclass AND name = pg_catalog.quote_ident($1)`, d.Name)
	if err != nil {
		return err
	}
	gone, newer := compareRights(d.rights, now)
	for _, r := range newer {
		if err := w.script(ctx, r.revoke(slices.ContainsFunc(d.rights, r.same))); err != nil {
			return err
		}
	}
	for _, r := range gone {
		if err := w.script(ctx, r.grant()); err != nil {
			return err
		}
	}
	w.done.Undo = []string{`ALTER DATABASE ` + name + ` RENAME TO ` + ident(w.done.Schema())}
	raw, err := json.Marshal(w.done)
	if err != nil {
		return err
	}
	if err := w.script(ctx, `COMMENT ON SCHEMA `+ident(w.done.Schema())+` IS `+literal(commentHead+string(raw))); err != nil {
		return err
	}
	_, err = w.live.Exec(ctx, `COMMIT`)
	return refused(err)
}
