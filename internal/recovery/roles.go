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

// The modes of what belongs to roles. Rights that were given since stay.
const (
	Roles  Mode = "roles"  // Options.Roles come back as they were, with what they owned, were members of and might do
	Grants Mode = "grants" // rights on Options.On, of Options.Roles, or both, and memberships of these
)

// Selected is what a recovery of rights is about.
type Selected struct {
	Roles   []string            // of Roles: these; of Grants: rights of these alone
	On      []keeper.ObjectName // of Grants: tables, views, sequences, types and functions of these names
	Schemas []string            // of Grants: with all that is in them
}

// role is one, with what it may do.
type role struct {
	OID                                                                 uint32
	Name                                                                string
	Super, Inherit, CreateRole, CreateDB, Login, Replication, BypassRLS bool
	Limit                                                               int
	Until, Password, Comment                                            *string
}

const rolesNamed = `SELECT oid, rolname, rolsuper, rolinherit, rolcreaterole, rolcreatedb, rolcanlogin, rolreplication, rolbypassrls, rolconnlimit, rolvaliduntil::text, rolpassword,
	pg_catalog.shobj_description(oid, 'pg_authid') FROM pg_catalog.pg_authid WHERE rolname = ANY($1::text[]) ORDER BY rolname`

func rolesOf(ctx context.Context, conn *pgx.Conn, names []string) ([]role, error) {
	rows, _ := conn.Query(ctx, rolesNamed, names)
	return pgx.CollectRows(rows, pgx.RowToStructByPos[role])
}

// attributes are the words of CREATE ROLE and ALTER ROLE.
func (r role) attributes() string {
	word := func(is bool, name string) string {
		if is {
			return name
		}
		return "NO" + name
	}
	words := []string{word(r.Super, "SUPERUSER"), word(r.Inherit, "INHERIT"), word(r.CreateRole, "CREATEROLE"), word(r.CreateDB, "CREATEDB"), word(r.Login, "LOGIN"), word(r.Replication, "REPLICATION"),
		word(r.BypassRLS, "BYPASSRLS"), fmt.Sprintf("CONNECTION LIMIT %d", r.Limit)}
	until := "infinity"
	if r.Until != nil {
		until = *r.Until
	}
	return strings.Join(append(words, "VALID UNTIL "+literal(until)), " ")
}

// roles brings roles back.
func (w *work) roles(ctx context.Context) error {
	names := w.options.Selected.Roles
	then, err := rolesOf(ctx, w.then, names)
	if err != nil {
		return err
	}
	for _, name := range names {
		if !slices.ContainsFunc(then, func(r role) bool { return r.Name == name }) {
			return fault.New(fault.NotFound, "recovery.no_role", fault.Args{"name": name})
		}
	}
	now, err := rolesOf(ctx, w.live, names)
	if err != nil {
		return err
	}
	var made []string
	for _, r := range then {
		i := slices.IndexFunc(now, func(n role) bool { return n.Name == r.Name })
		if i < 0 {
			if err := w.makeRole(ctx, r); err != nil {
				return err
			}
			made = append(made, r.Name)
			continue
		}
		if was, is := r.attributes(), now[i].attributes(); was != is {
			if err := w.do(ctx, `ALTER ROLE `+ident(r.Name)+` `+was, `ALTER ROLE `+ident(r.Name)+` `+is); err != nil {
				return err
			}
			w.done.Objects = append(w.done.Objects, Object{Type: "role", Name: ident(r.Name), Changed: true})
			if err := w.leave(ctx, Left{What: leftRole, Name: r.Name}); err != nil {
				return err
			}
		}
	}
	if err := w.settings(ctx, names); err != nil {
		return err
	}
	// What was theirs comes first: an owner gives rights in a schema because it is the owner.
	if err := w.owned(ctx, names); err != nil {
		return err
	}
	if err := w.rightsBack(ctx, names); err != nil {
		return err
	}
	return w.elsewhere(ctx, made)
}

// do runs SQL, and keeps what takes it back.
func (w *work) do(ctx context.Context, sql, undo string) error {
	if err := w.script(ctx, sql); err != nil {
		return err
	}
	w.done.Undo = append([]string{undo}, w.done.Undo...)
	return nil
}

// makeRole makes a role that is gone. What PostgreSQL keeps of its password is written by a statement that nobody logs.
func (w *work) makeRole(ctx context.Context, r role) error {
	if err := w.do(ctx, `CREATE ROLE `+ident(r.Name)+` `+r.attributes(), `DROP ROLE `+ident(r.Name)); err != nil {
		return err
	}
	w.done.Objects = append(w.done.Objects, Object{Type: "role", Name: ident(r.Name)})
	if r.Comment != nil {
		if err := w.script(ctx, `COMMENT ON ROLE `+ident(r.Name)+` IS `+literal(*r.Comment)); err != nil {
			return err
		}
	}
	if r.Password == nil {
		return nil
	}
	quiet := [][2]string{{"log_statement", "none"}, {"log_min_duration_statement", "-1"}, {"log_min_duration_sample", "-1"}, {"log_transaction_sample_rate", "0"}, {"log_duration", "off"},
		{"log_min_error_statement", "panic"}, {"pgaudit.log", "none"}, {"pgaudit.role", ""}, {"pg_stat_statements.track", "none"}, {"auto_explain.log_min_duration", "-1"}, {"track_activities", "off"}}
	var back []string
	for _, s := range quiet {
		var was *string
		if err := w.live.QueryRow(ctx, `SELECT pg_catalog.current_setting($1, true)`, s[0]).Scan(&was); err != nil {
			return refused(err)
		}
		if was == nil { // a library that is not loaded
			continue
		}
		if _, err := w.live.Exec(ctx, `SELECT pg_catalog.set_config($1, $2, true)`, s[0], s[1]); err != nil {
			return refused(err)
		}
		back = append(back, s[0], *was)
	}
	if err := w.script(ctx, `ALTER ROLE `+ident(r.Name)+` PASSWORD `+literal(*r.Password)); err != nil {
		return fault.New(fault.Conflict, "recovery.password", fault.Args{"name": r.Name}) // the cause may repeat it
	}
	for i := 0; i < len(back); i += 2 {
		if _, err := w.live.Exec(ctx, `SELECT pg_catalog.set_config($1, $2, true)`, back[i], back[i+1]); err != nil {
			return refused(err)
		}
	}
	return nil
}

// both reads the same of the past and of the live database.
func both[T any](w *work, read func(*pgx.Conn) ([]T, error)) (then, now []T, err error) {
	if then, err = read(w.then); err == nil {
		now, err = read(w.live)
	}
	return then, now, err
}

// settings gives roles back what was set for them (ALTER ROLE ... SET).
func (w *work) settings(ctx context.Context, names []string) error {
	type setting struct{ Role, Database, Name, Value string }
	of := func(conn *pgx.Conn) ([]setting, error) {
		rows, _ := conn.Query(ctx, `SELECT rolname, coalesce(datname, ''), split_part(one, '=', 1), substr(one, strpos(one, '=') + 1) FROM pg_catalog.pg_db_role_setting JOIN pg_catalog.pg_roles r ON r.oid = setrole
			LEFT JOIN pg_catalog.pg_database d ON d.oid = setdatabase, unnest(setconfig) one WHERE rolname = ANY($1::text[]) AND (setdatabase = 0 OR datname IS NOT NULL) ORDER BY 1, 2, 3`, names)
		return pgx.CollectRows(rows, pgx.RowToStructByPos[setting])
	}
	then, now, err := both(w, of)
	if err != nil {
		return err
	}
	for _, s := range then {
		if slices.Contains(now, s) {
			continue
		}
		alter := `ALTER ROLE ` + ident(s.Role)
		if s.Database != "" {
			var there bool
			if err := w.live.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_catalog.pg_database WHERE datname = $1)`, s.Database).Scan(&there); err != nil {
				return refused(err)
			}
			if !there {
				continue
			}
			alter += ` IN DATABASE ` + ident(s.Database)
		}
		undo := alter + ` RESET ` + ident(s.Name)
		if i := slices.IndexFunc(now, func(n setting) bool { return n.Role == s.Role && n.Database == s.Database && n.Name == s.Name }); i >= 0 {
			undo = setTo(alter, s.Name, now[i].Value)
		}
		if err := w.do(ctx, setTo(alter, s.Name, s.Value), undo); err != nil {
			return err
		}
		w.done.Objects = append(w.done.Objects, Object{Type: "role", Name: ident(s.Role) + ": " + s.Name, Changed: true})
		if err := w.leave(ctx, Left{What: leftSetting, Name: s.Role, Database: s.Database, Setting: s.Name}); err != nil {
			return err
		}
	}
	return nil
}

// lists are the settings that are lists of names, each a literal of its own. (GUC_LIST_QUOTE in guc_tables.c)
var lists = []string{"local_preload_libraries", "search_path", "session_preload_libraries", "shared_preload_libraries", "temp_tablespaces", "unix_socket_directories"}

// setTo is the SQL that makes a setting what is stored of it. Anybody can have written that: it never becomes SQL as it is.
func setTo(alter, name, value string) string {
	low := strings.ToLower(name)
	if !slices.Contains(lists, low) || strings.TrimSpace(value) == "" {
		return alter + ` SET ` + dotted(name) + ` TO ` + literal(value)
	}
	plain := func(one string) string { return one } // files keep their letters
	if low == "search_path" || low == "temp_tablespaces" {
		plain = small
	}
	var all []string
	for _, one := range keeper.SettingList(value, plain) {
		all = append(all, literal(one))
	}
	return alter + ` SET ` + dotted(name) + ` TO ` + strings.Join(all, ", ")
}

// dotted quotes the parts of the name of a setting.
func dotted(name string) string {
	parts := strings.Split(name, ".")
	for i := range parts {
		parts[i] = ident(parts[i])
	}
	return strings.Join(parts, ".")
}

// rightsBack gives back memberships, rights and default privileges that are gone.
func (w *work) rightsBack(ctx context.Context, of []string) error {
	if err := w.memberships(ctx, of); err != nil {
		return err
	}
	which, args := w.about()
	then, err := rights(ctx, w.then, which, args...)
	if err != nil {
		return err
	}
	now, err := rights(ctx, w.live, `true`)
	if err != nil {
		return err
	}
	roles, err := w.liveRoles(ctx)
	if err != nil {
		return err
	}
	there := map[string]bool{}
	for _, r := range now {
		there[r.On] = true
	}
	for i, r := range then { // as PostgreSQL does it when a thing gets another owner, who then has given what the old one gave
		o := owner(now, r)
		if r.Grantor == r.Owner {
			then[i].Grantor = o
		}
		if r.Grantee == r.Owner {
			then[i].Grantee = o
		}
		then[i].Owner = o
	}
	gone, _ := compareRights(then, now)
	for _, r := range gone {
		switch {
		case r.Privilege == "":
			continue
		case !there[r.On] && !strings.HasPrefix(r.On, "PARAMETER "), r.Grantee != "" && !roles[r.Grantee], !roles[r.Grantor]:
			w.done.Left = append(w.done.Left, r.what()+" TO "+roleName(r.Grantee))
			continue
		}
		undo := r.revoke(slices.ContainsFunc(now, r.same))
		if err := w.do(ctx, r.grant(), undo); err != nil {
			return err
		}
		w.done.Rights = append(w.done.Rights, r.Right)
	}
	return w.defaults(ctx, of, roles)
}

// owner is whose a thing is now.
func owner(now []right, r right) string {
	if i := slices.IndexFunc(now, func(n right) bool { return n.On == r.On }); i >= 0 {
		return now[i].Owner
	}
	return r.Owner
}

// about is the condition for the rights that this is about.
func (w *work) about() (string, []any) {
	s := w.options.Selected
	schemas, names, types := []string{}, []string{}, []string{}
	for _, n := range s.On {
		schemas, names = append(schemas, n.Schema), append(names, n.Name)
		if n.Args == nil {
			types = append(types, "")
		} else {
			types = append(types, strings.ReplaceAll(*n.Args, " ", "")+")")
		}
	}
	return `(cardinality($1::text[]) = 0 OR CASE coalesce(grantee, 0) WHEN 0 THEN '' ELSE pg_catalog.pg_get_userbyid(grantee) END = ANY($1::text[]) OR pg_catalog.pg_get_userbyid(grantor) = ANY($1::text[]))
		AND (cardinality($2::text[]) + cardinality($5::text[]) = 0
			OR class = 'pg_catalog.pg_namespace'::regclass AND (SELECT nspname FROM pg_catalog.pg_namespace n WHERE n.oid = every.oid) = ANY($5::text[])
			OR EXISTS (SELECT nspname, relname FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = relnamespace WHERE class = 'pg_catalog.pg_class'::regclass AND c.oid = every.oid
				AND (nspname = ANY($5::text[]) OR (nspname::text, relname::text, '') IN (SELECT * FROM unnest($2::text[], $3::text[], $4::text[]))))
			OR EXISTS (SELECT FROM pg_catalog.pg_type c JOIN pg_catalog.pg_namespace n ON n.oid = typnamespace WHERE class = 'pg_catalog.pg_type'::regclass AND c.oid = every.oid
				AND (nspname = ANY($5::text[]) OR (nspname::text, typname::text, '') IN (SELECT * FROM unnest($2::text[], $3::text[], $4::text[]))))
			OR EXISTS (SELECT FROM pg_catalog.pg_proc c JOIN pg_catalog.pg_namespace n ON n.oid = pronamespace, unnest($2::text[], $3::text[], $4::text[]) o (s, f, args)
				WHERE class = 'pg_catalog.pg_proc'::regclass AND c.oid = every.oid AND nspname = s AND proname = f AND (args = '' OR replace(pg_catalog.oidvectortypes(proargtypes), ' ', '') || ')' = args))
			OR EXISTS (SELECT FROM pg_catalog.pg_proc c JOIN pg_catalog.pg_namespace n ON n.oid = pronamespace WHERE class = 'pg_catalog.pg_proc'::regclass AND c.oid = every.oid AND nspname = ANY($5::text[])))`,
		[]any{append([]string{}, s.Roles...), schemas, names, types, append([]string{}, s.Schemas...)}
}

func (w *work) liveRoles(ctx context.Context) (map[string]bool, error) {
	rows, _ := w.live.Query(ctx, `SELECT rolname FROM pg_catalog.pg_roles`)
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	roles := map[string]bool{}
	for _, name := range names {
		roles[name] = true
	}
	return roles, err
}

// membership of a role in another.
type membership struct {
	Group, Member, Grantor string
	Admin                  bool
	Inherit, Set           *bool // from PostgreSQL 16 on
}

// memberships come back where both still are, or are again.
func (w *work) memberships(ctx context.Context, of []string) error {
	if len(of) == 0 {
		return nil
	}
	read := func(conn *pgx.Conn) ([]membership, error) {
		rows, _ := conn.Query(ctx, `SELECT pg_catalog.pg_get_userbyid(roleid), pg_catalog.pg_get_userbyid(member), pg_catalog.pg_get_userbyid(grantor), admin_option,
			(pg_catalog.to_jsonb(m) ->> 'inherit_option')::bool, (pg_catalog.to_jsonb(m) ->> 'set_option')::bool FROM pg_catalog.pg_auth_members m
			WHERE pg_catalog.pg_get_userbyid(roleid) = ANY($1::text[]) OR pg_catalog.pg_get_userbyid(member) = ANY($1::text[]) ORDER BY 1, 2, 3`, of)
		return pgx.CollectRows(rows, pgx.RowToStructByPos[membership])
	}
	then, now, err := both(w, read)
	if err != nil {
		return err
	}
	roles, err := w.liveRoles(ctx)
	if err != nil {
		return err
	}
	slices.SortStableFunc(then, func(a, b membership) int { // who may give it on comes first
		switch {
		case a.Admin == b.Admin:
			return 0
		case a.Admin:
			return -1
		}
		return 1
	})
	for _, m := range then {
		if slices.ContainsFunc(now, func(n membership) bool { return n.Group == m.Group && n.Member == m.Member && (n.Admin || !m.Admin) }) {
			continue
		}
		if !roles[m.Group] || !roles[m.Member] {
			w.done.Left = append(w.done.Left, ident(m.Group)+" TO "+ident(m.Member))
			continue
		}
		options := ""
		switch {
		case m.Inherit != nil && m.Set != nil:
			options = fmt.Sprintf(" WITH ADMIN %t, INHERIT %t, SET %t", m.Admin, *m.Inherit, *m.Set)
		case m.Admin:
			options = " WITH ADMIN OPTION"
		}
		undo := `REVOKE ` + ident(m.Group) + ` FROM ` + ident(m.Member)
		grant := `GRANT ` + ident(m.Group) + ` TO ` + ident(m.Member) + options
		if slices.ContainsFunc(now, func(n membership) bool { return n.Group == m.Group && n.Member == m.Member }) {
			undo = `REVOKE ADMIN OPTION FOR ` + ident(m.Group) + ` FROM ` + ident(m.Member)
		}
		// In the name of the one who gave it, where PostgreSQL lets that be.
		if roles[m.Grantor] && m.Grantor != m.Member {
			if _, err := w.live.Exec(ctx, `SAVEPOINT membership`); err != nil {
				return err
			}
			by := ` GRANTED BY ` + ident(m.Grantor)
			if w.script(ctx, grant+by) == nil {
				w.done.Undo = append([]string{undo + by}, w.done.Undo...)
				w.done.Rights = append(w.done.Rights, Right{On: ident(m.Group), Privilege: "MEMBER", Grantee: m.Member, Grantor: m.Grantor, Grantable: m.Admin})
				continue
			}
			if _, err := w.live.Exec(ctx, `ROLLBACK TO membership`); err != nil {
				return err
			}
		}
		if err := w.do(ctx, grant, undo); err != nil {
			return err
		}
		w.done.Rights = append(w.done.Rights, Right{On: ident(m.Group), Privilege: "MEMBER", Grantee: m.Member, Grantable: m.Admin})
	}
	return nil
}

// preset is a default privilege.
type preset struct {
	Owner, Schema, Kind, Privilege, Grantee string
	Grantable                               bool
}

// defaults gives back default privileges that roles had given, or were given.
func (w *work) defaults(ctx context.Context, of []string, roles map[string]bool) error {
	if len(of) == 0 || len(w.options.Selected.On)+len(w.options.Selected.Schemas) > 0 {
		return nil
	}
	read := func(conn *pgx.Conn) ([]preset, error) {
		rows, _ := conn.Query(ctx, `SELECT pg_catalog.pg_get_userbyid(defaclrole), coalesce(nspname, ''), defaclobjtype::text, privilege_type, CASE grantee WHEN 0 THEN '' ELSE pg_catalog.pg_get_userbyid(grantee) END, is_grantable
			FROM pg_catalog.pg_default_acl LEFT JOIN pg_catalog.pg_namespace n ON n.oid = defaclnamespace, LATERAL pg_catalog.aclexplode(defaclacl)
			WHERE pg_catalog.pg_get_userbyid(defaclrole) = ANY($1::text[]) OR grantee <> 0 AND pg_catalog.pg_get_userbyid(grantee) = ANY($1::text[]) ORDER BY 1, 2, 3, 5, 4`, of)
		return pgx.CollectRows(rows, pgx.RowToStructByPos[preset])
	}
	then, now, err := both(w, read)
	if err != nil {
		return err
	}
	words := map[string]string{"r": "TABLES", "S": "SEQUENCES", "f": "ROUTINES", "T": "TYPES", "n": "SCHEMAS", "L": "LARGE OBJECTS"}
	for _, p := range then {
		if slices.Contains(now, p) || words[p.Kind] == "" || p.Grantee == p.Owner {
			continue
		}
		var there bool
		if err := w.live.QueryRow(ctx, `SELECT $1 = '' OR EXISTS (SELECT FROM pg_catalog.pg_namespace WHERE nspname = $1)`, p.Schema).Scan(&there); err != nil {
			return refused(err)
		}
		alter := `ALTER DEFAULT PRIVILEGES FOR ROLE ` + ident(p.Owner)
		if p.Schema != "" {
			alter += ` IN SCHEMA ` + ident(p.Schema)
		}
		what := p.Privilege + ` ON ` + words[p.Kind]
		if !there || !roles[p.Owner] || p.Grantee != "" && !roles[p.Grantee] {
			w.done.Left = append(w.done.Left, alter+` GRANT `+what+` TO `+roleName(p.Grantee))
			continue
		}
		option := ""
		if p.Grantable {
			option = ` WITH GRANT OPTION`
		}
		if err := w.do(ctx, alter+` GRANT `+what+` TO `+roleName(p.Grantee)+option, alter+` REVOKE `+what+` FROM `+roleName(p.Grantee)); err != nil {
			return err
		}
		w.done.Rights = append(w.done.Rights, Right{On: "DEFAULT " + words[p.Kind], Privilege: p.Privilege, Grantee: p.Grantee, Grantor: p.Owner, Grantable: p.Grantable})
	}
	return nil
}

// ownable are the types of pg_identify_object whose owner can be changed, and the words for that.
var ownable = map[string]string{"table": "TABLE", "view": "VIEW", "materialized view": "MATERIALIZED VIEW", "foreign table": "FOREIGN TABLE", "sequence": "SEQUENCE", "schema": "SCHEMA", "type": "TYPE",
	"function": "FUNCTION", "procedure": "PROCEDURE", "aggregate": "AGGREGATE", "database": "DATABASE", "tablespace": "TABLESPACE", "collation": "COLLATION", "server": "SERVER", "language": "LANGUAGE",
	"foreign-data wrapper": "FOREIGN DATA WRAPPER", "statistics object": "STATISTICS", "publication": "PUBLICATION", "event trigger": "EVENT TRIGGER", "large object": "LARGE OBJECT"}

// owned gives roles back what was theirs and is another's by now.
func (w *work) owned(ctx context.Context, names []string) error {
	rows, _ := w.then.Query(ctx, `SELECT rolname, type, identity FROM pg_catalog.pg_shdepend d JOIN pg_catalog.pg_roles r ON r.oid = refobjid, LATERAL pg_catalog.pg_identify_object(classid, objid, 0)
		WHERE refclassid = 'pg_catalog.pg_authid'::regclass AND deptype = 'o' AND rolname = ANY($1::text[]) AND identity IS NOT NULL
		AND (dbid = 0 OR dbid = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database()))
		AND NOT (classid = 'pg_catalog.pg_class'::regclass AND EXISTS (SELECT FROM pg_catalog.pg_depend p WHERE p.classid = d.classid AND p.objid = d.objid AND p.deptype IN ('a', 'i') AND p.refclassid = d.classid)
			AND EXISTS (SELECT FROM pg_catalog.pg_class WHERE oid = d.objid AND relkind = 'S')) ORDER BY classid, objid`, names)
	then, err := pgx.CollectRows(rows, pgx.RowToStructByPos[struct{ Role, Type, Name string }])
	if err != nil {
		return err
	}
	rows, _ = w.live.Query(ctx, `SELECT rolname, type, identity FROM pg_catalog.pg_shdepend JOIN pg_catalog.pg_roles r ON r.oid = refobjid, LATERAL pg_catalog.pg_identify_object(classid, objid, 0)
		WHERE refclassid = 'pg_catalog.pg_authid'::regclass AND deptype = 'o' AND identity IS NOT NULL AND (dbid = 0 OR dbid = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database()))
		UNION ALL SELECT pg_catalog.pg_get_userbyid(relowner), type, identity FROM pg_catalog.pg_class c, LATERAL pg_catalog.pg_identify_object('pg_catalog.pg_class'::regclass, c.oid, 0) WHERE relowner = 10 AND c.oid >= 16384
		UNION ALL SELECT pg_catalog.pg_get_userbyid(proowner), type, identity FROM pg_catalog.pg_proc p, LATERAL pg_catalog.pg_identify_object('pg_catalog.pg_proc'::regclass, p.oid, 0) WHERE proowner = 10 AND p.oid >= 16384
		UNION ALL SELECT pg_catalog.pg_get_userbyid(nspowner), type, identity FROM pg_catalog.pg_namespace n, LATERAL pg_catalog.pg_identify_object('pg_catalog.pg_namespace'::regclass, n.oid, 0) WHERE nspowner = 10 AND n.oid >= 16384
		UNION ALL SELECT pg_catalog.pg_get_userbyid(typowner), type, identity FROM pg_catalog.pg_type t, LATERAL pg_catalog.pg_identify_object('pg_catalog.pg_type'::regclass, t.oid, 0) WHERE typowner = 10 AND t.oid >= 16384 AND typtype IN ('c', 'd', 'e', 'r')
		UNION ALL SELECT pg_catalog.pg_get_userbyid(lomowner), 'large object', oid::text FROM pg_catalog.pg_largeobject_metadata WHERE lomowner = 10`)
	owners := map[string]string{}
	var name, kind, identity string
	if _, err := pgx.ForEachRow(rows, []any{&name, &kind, &identity}, func() error { owners[kind+" "+identity] = name; return nil }); err != nil {
		return err
	}
	for _, o := range then {
		word, is := ownable[o.Type], owners[o.Type+" "+o.Name]
		switch {
		case is == o.Role || word == "":
			continue
		case is == "":
			w.done.Left = append(w.done.Left, o.Type+" "+o.Name)
			continue
		}
		alter := `ALTER ` + word + ` ` + o.Name + ` OWNER TO `
		if err := w.do(ctx, alter+ident(o.Role), alter+ident(is)); err != nil {
			return err
		}
		w.done.Rights = append(w.done.Rights, Right{On: word + " " + o.Name, Privilege: "OWNER", Grantee: o.Role})
	}
	return nil
}

// elsewhere names the other databases in which roles that were made again had something.
func (w *work) elsewhere(ctx context.Context, made []string) error {
	rows, _ := w.then.Query(ctx, `SELECT DISTINCT datname FROM pg_catalog.pg_shdepend d JOIN pg_catalog.pg_database b ON b.oid = dbid JOIN pg_catalog.pg_roles r ON r.oid = refobjid
		WHERE refclassid = 'pg_catalog.pg_authid'::regclass AND rolname = ANY($1::text[]) AND datname <> pg_catalog.current_database() ORDER BY 1`, made)
	var err error
	w.done.Elsewhere, err = pgx.CollectRows(rows, pgx.RowTo[string])
	return err
}
