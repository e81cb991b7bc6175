package recovery

import (
	"context"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"howdah/internal/keeper"
)

// Right is what a role may do with something.
type Right struct {
	On        string `json:"on"` // "TABLE shop.order", "ROUTINE shop.price(integer)", as GRANT writes it
	Column    string `json:"column,omitempty"`
	Privilege string `json:"privilege"`
	Grantee   string `json:"grantee"` // "" is everybody (PUBLIC)
	Grantor   string `json:"grantor"`
	Grantable bool   `json:"grantable,omitempty"`
}

// a right of somebody, and whose the thing is.
type right struct {
	Right
	Owner string
	ID    keeper.ObjectID
}

// same tells whether they are the same but for WITH GRANT OPTION.
func (r right) same(o right) bool {
	a, b := r.Right, o.Right
	a.Grantable, b.Grantable = false, false
	return a == b
}

// everyRight are the rights of everything in a database, and of what is shared by all; those that nobody has touched as PostgreSQL takes them (acldefault).
const everyRight = `WITH every AS (
	SELECT 'pg_catalog.pg_class'::regclass::oid AS class, oid, 0 AS part, CASE relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END AS word, NULL::text AS name, '' AS col, relowner AS owner,
		coalesce(relacl, pg_catalog.acldefault(CASE relkind WHEN 'S' THEN 's'::"char" ELSE 'r' END, relowner)) AS acl FROM pg_catalog.pg_class WHERE relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
	UNION ALL SELECT 'pg_catalog.pg_class'::regclass, attrelid, attnum, 'TABLE', NULL, attname, relowner, attacl FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_class c ON c.oid = attrelid
		WHERE attacl IS NOT NULL AND NOT attisdropped
	UNION ALL SELECT 'pg_catalog.pg_proc'::regclass, oid, 0, 'ROUTINE', NULL, '', proowner, coalesce(proacl, pg_catalog.acldefault('f', proowner)) FROM pg_catalog.pg_proc
	UNION ALL SELECT 'pg_catalog.pg_namespace'::regclass, oid, 0, 'SCHEMA', pg_catalog.quote_ident(nspname), '', nspowner, coalesce(nspacl, pg_catalog.acldefault('n', nspowner)) FROM pg_catalog.pg_namespace
	UNION ALL SELECT 'pg_catalog.pg_type'::regclass, t.oid, 0, 'TYPE', NULL, '', typowner, coalesce(typacl, pg_catalog.acldefault('T', typowner)) FROM pg_catalog.pg_type t LEFT JOIN pg_catalog.pg_class c ON c.oid = typrelid
		WHERE typtype <> 'p' AND coalesce(relkind, 'c') = 'c' AND NOT (typcategory = 'A' AND typelem <> 0) AND typtype <> 'm'
	UNION ALL SELECT 'pg_catalog.pg_language'::regclass, oid, 0, 'LANGUAGE', pg_catalog.quote_ident(lanname), '', lanowner, coalesce(lanacl, pg_catalog.acldefault('l', lanowner)) FROM pg_catalog.pg_language WHERE lanpltrusted
	UNION ALL SELECT 'pg_catalog.pg_foreign_data_wrapper'::regclass, oid, 0, 'FOREIGN DATA WRAPPER', pg_catalog.quote_ident(fdwname), '', fdwowner, coalesce(fdwacl, pg_catalog.acldefault('F', fdwowner)) FROM pg_catalog.pg_foreign_data_wrapper
	UNION ALL SELECT 'pg_catalog.pg_foreign_server'::regclass, oid, 0, 'FOREIGN SERVER', pg_catalog.quote_ident(srvname), '', srvowner, coalesce(srvacl, pg_catalog.acldefault('S', srvowner)) FROM pg_catalog.pg_foreign_server
	UNION ALL SELECT 'pg_catalog.pg_database'::regclass, oid, 0, 'DATABASE', pg_catalog.quote_ident(datname), '', datdba, coalesce(datacl, pg_catalog.acldefault('d', datdba)) FROM pg_catalog.pg_database
	UNION ALL SELECT 'pg_catalog.pg_tablespace'::regclass, oid, 0, 'TABLESPACE', pg_catalog.quote_ident(spcname), '', spcowner, coalesce(spcacl, pg_catalog.acldefault('t', spcowner)) FROM pg_catalog.pg_tablespace
	UNION ALL SELECT 'pg_catalog.pg_largeobject'::regclass, oid, 0, 'LARGE OBJECT', oid::text, '', lomowner, lomacl FROM pg_catalog.pg_largeobject_metadata WHERE lomacl IS NOT NULL
	UNION ALL SELECT 'pg_catalog.pg_parameter_acl'::regclass, oid, 0, 'PARAMETER', parname, '', 10, paracl FROM pg_catalog.pg_parameter_acl)
	SELECT word || ' ' || coalesce(name, (pg_catalog.pg_identify_object(class, every.oid, 0)).identity), col, coalesce(privilege_type, ''), CASE coalesce(grantee, 0) WHEN 0 THEN '' ELSE pg_catalog.pg_get_userbyid(grantee) END,
		coalesce(pg_catalog.pg_get_userbyid(grantor), ''), coalesce(is_grantable, false), pg_catalog.pg_get_userbyid(owner), class, every.oid, part FROM every LEFT JOIN LATERAL pg_catalog.aclexplode(acl) WITH ORDINALITY AS of_it (grantor, grantee, privilege_type, is_grantable, place) ON true WHERE `

// rights are those that a condition chooses. What nobody has any right to is there once, with no privilege.
func rights(ctx context.Context, conn *pgx.Conn, which string, args ...any) ([]right, error) {
	rows, _ := conn.Query(ctx, everyRight+which+` ORDER BY 1, 2, place`, args...)
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (r right, err error) {
		err = row.Scan(&r.On, &r.Column, &r.Privilege, &r.Grantee, &r.Grantor, &r.Grantable, &r.Owner, &r.ID.Class, &r.ID.OID, &r.ID.Part)
		return r, err
	})
}

// roleName is how SQL writes who has a right.
func roleName(name string) string {
	if name == "" {
		return "PUBLIC"
	}
	return ident(name)
}

// as says a statement in the name of the one who gave a right, who is the owner where nothing is said.
func (r right) as(sql string) string {
	if r.Grantor == r.Owner {
		return sql
	}
	return `SET SESSION AUTHORIZATION ` + ident(r.Grantor) + `; ` + sql + `; RESET SESSION AUTHORIZATION`
}

func (r right) what() string {
	if r.Column != "" {
		return r.Privilege + ` (` + ident(r.Column) + `) ON ` + r.On
	}
	return r.Privilege + ` ON ` + r.On
}

// grant is the SQL that gives it.
func (r right) grant() string {
	option := ""
	if r.Grantable {
		option = ` WITH GRANT OPTION`
	}
	return r.as(`GRANT ` + r.what() + ` TO ` + roleName(r.Grantee) + option)
}

// revoke is the SQL that takes it, or (option) takes the right to give it on.
func (r right) revoke(option bool) string {
	only := ""
	if option {
		only = `GRANT OPTION FOR `
	}
	return r.as(`REVOKE ` + only + r.what() + ` FROM ` + roleName(r.Grantee))
}

// compareRights tells what the one has and the other lacks, also where it is only the right to give it on.
func compareRights(then, now []right) (gone, newer []right) {
	lacks := func(all []right, r right) bool {
		return !slices.ContainsFunc(all, func(o right) bool { return o.same(r) && (o.Grantable || !r.Grantable) })
	}
	for _, r := range then {
		if r.Privilege != "" && lacks(now, r) {
			gone = append(gone, r)
		}
	}
	for _, r := range now {
		if r.Privilege != "" && lacks(then, r) {
			newer = append(newer, r)
		}
	}
	return inOrder(gone), newer
}

// inOrder has rights behind those that let them be given.
func inOrder(all []right) (ordered []right) {
	rest := slices.Clone(all)
	for len(rest) > 0 {
		at := slices.IndexFunc(rest, func(r right) bool {
			return r.Grantor == r.Owner || !slices.ContainsFunc(rest, func(o right) bool {
				return o.On == r.On && o.Grantee == r.Grantor && o.Privilege == r.Privilege && o.Grantable
			})
		})
		at = max(at, 0)
		ordered, rest = append(ordered, rest[at]), slices.Delete(rest, at, at+1)
	}
	return ordered
}

// settleRights gives things that have come back exactly the rights that they had: default privileges may have given others.
func (w *work) settleRights(ctx context.Context, classes, oids []uint32) error {
	then, err := rights(ctx, w.then, `EXISTS (SELECT FROM unnest($1::oid[], $2::oid[]) o (c, i) WHERE c = class AND i = every.oid)`, classes, oids)
	if err != nil {
		return err
	}
	var things []string
	for _, o := range w.past.Objects {
		if slices.Contains(oids, o.OID) {
			things = append(things, o.Identity)
		}
	}
	now, err := rights(ctx, w.live, `coalesce(name, (pg_catalog.pg_identify_object(class, every.oid, 0)).identity) = ANY($1::text[])`, things)
	if err != nil {
		return err
	}
	gone, newer := compareRights(then, slices.DeleteFunc(now, func(r right) bool { // a thing of another kind may have the name
		return !slices.ContainsFunc(w.past.Objects, func(o keeper.PastObject) bool {
			return strings.HasSuffix(r.On, " "+o.Identity) && o.Class == r.ID.Class
		})
	}))
	for _, r := range slices.Backward(inOrder(newer)) {
		if err := w.script(ctx, r.revoke(slices.ContainsFunc(then, r.same))); err != nil {
			return err
		}
	}
	for _, r := range gone {
		if err := w.script(ctx, r.grant()); err != nil {
			return err
		}
	}
	return nil
}

// commentWords are the types of pg_identify_object that COMMENT ON has another word for.
var commentWords = map[string]string{"table column": "COLUMN", "table constraint": "CONSTRAINT", "statistics object": "STATISTICS", "foreign table column": "COLUMN", "view column": "COLUMN",
	"materialized view column": "COLUMN", "composite type column": "COLUMN"}

// comments gives things that have come back the comments that they had.
func (w *work) comments(ctx context.Context, classes, oids []uint32) error {
	rows, _ := w.then.Query(ctx, `SELECT type, identity, description FROM (SELECT unnest($1::oid[]) AS class, unnest($2::oid[]) AS id) o JOIN pg_catalog.pg_description d ON classoid = class AND objoid = id,
		pg_catalog.pg_identify_object(classoid, objoid, objsubid) i WHERE identity IS NOT NULL ORDER BY class, id, objsubid`, classes, oids)
	all, err := pgx.CollectRows(rows, pgx.RowToStructByPos[struct{ Type, Name, Text string }])
	if err != nil {
		return err
	}
	for _, c := range all {
		word, name := commentWords[c.Type], c.Name
		switch {
		case c.Type == "domain constraint":
			word, name = "CONSTRAINT", strings.Replace(c.Name, " on ", " ON DOMAIN ", 1)
		case word == "":
			word = strings.ToUpper(c.Type)
		}
		if err := w.script(ctx, `COMMENT ON `+word+` `+name+` IS `+literal(c.Text)); err != nil {
			return err
		}
	}
	return nil
}
