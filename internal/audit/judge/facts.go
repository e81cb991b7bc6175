package judge

import (
	_ "embed"
	"slices"
	"strings"
	"sync"
)

// read fills in what a statement says. A query string can hold many statements, and pgAudit writes the whole string for each of them; so
// all that have the event's kind are read.
func (e *Event) read(sql string) {
	buffer := buffers.Get().(*[]token)
	tokens := scanInto((*buffer)[:0], sql)
	defer func() {
		if clear(tokens); cap(tokens) <= 4096 {
			*buffer = tokens
			buffers.Put(buffer)
		}
	}()
	all := statements(tokens)
	if e.Kind == "" && len(all) > 0 {
		// The most telling of a string: what changes roles or objects before what sets or reads.
		for _, s := range all {
			if kind := command(s); e.Kind == "" || weight(kind) > weight(e.Kind) {
				e.Kind = kind
			}
		}
	}
	seen := false
	for _, s := range all {
		if command(s) == e.Kind {
			e.statement(s)
			seen = true
		}
	}
	if !seen && len(all) == 1 {
		e.statement(all[0])
	}
	e.calls(tokens)
}

// kindsIn lists the kinds of statements in a query string that are worth an event, each once.
func kindsIn(sql string) []string {
	var kinds []string
	for _, s := range statements(scan(sql)) {
		if kind := command(s); kind != "" && weight(kind) > 0 && len(kinds) < 32 {
			kinds = appendNew(kinds, kind)
		}
	}
	return kinds
}

func weight(kind string) int {
	verb, _, _ := strings.Cut(kind, " ")
	switch verb {
	case "grant", "revoke", "alter", "create", "drop", "reassign":
		return 3
	case "copy", "do", "load", "set", "security", "truncate", "insert", "update", "delete":
		return 2
	case "select", "call", "execute":
		return 1
	}
	return 0
}

func (e *Event) does(what string) {
	if !slices.Contains(e.Does, what) {
		e.Does = append(e.Does, what)
	}
}

func (e *Event) statement(s []token) {
	verb, object, _ := strings.Cut(e.Kind, " ")
	switch verb {
	case "create", "alter":
		switch object {
		case "role":
			e.role(s)
		case "system":
			e.setting(s, 2, "system", "")
		case "default privileges":
			e.defaults(s)
		case "database":
			e.database(s)
		case "function", "procedure", "routine", "aggregate":
			e.function(s)
		case "extension", "language", "schema", "view", "materialized view", "rule", "policy", "trigger", "event trigger", "operator", "cast", "type", "domain":
			e.named(s, object)
		case "server", "user mapping", "subscription", "foreign data wrapper", "foreign table":
			e.named(s, object)
			e.hosts(s)
		case "publication":
			e.named(s, object)
			if has(s, "for all tables") || has(s, "tables in schema") || has(s, "all tables") {
				e.does("publish everything")
			}
		case "table":
			e.named(s, object)
		case "table as":
			e.named(s, "table")
			e.copies(s)
		}
		e.phrases(s)
	case "drop":
		at := 2
		if strings.Contains(object, " ") {
			at += strings.Count(object, " ")
		}
		if object == "owned" {
			at = skip(s, 2, "by")
		}
		names, _ := namesAt(s, skip(s, at, "concurrently", "if", "exists"))
		e.name(names) // a string can hold several
		if has(s, "cascade") {
			e.does("cascade")
		}
		if object == "role" && len(e.Names) > 0 {
			e.Role.Name = e.Names[0]
		}
	case "grant", "revoke":
		if object == "role" {
			e.memberships(s, verb)
		} else {
			e.rights(s, 1, verb)
		}
	case "reassign":
		if i := find(s, 0, "to"); i >= 0 {
			e.Owner, _ = nameAt(s, i)
		}
		if i := find(s, 0, "by"); i >= 0 {
			e.Names, _ = namesAt(s, i)
		}
	case "set", "reset":
		e.session(s)
	case "copy":
		e.copy(s)
	case "select":
		if object == "into" {
			e.copies(s)
		}
	case "do":
		for _, t := range s {
			if t.kind == text {
				e.body(t.text)
			}
		}
	case "load":
		e.Set.Runs = true
		if len(s) > 1 {
			e.Names = append(e.Names, s[1].text)
		}
	case "import":
		e.hosts(s)
		if i := find(s, 0, "server"); i >= 0 {
			name, _ := nameAt(s, i)
			e.Names = append(e.Names, name)
		}
	case "insert", "update", "delete", "merge": // pgAudit names no table unless it is told to (pgaudit.log_relation)
		for _, name := range written(s, verb) {
			e.Names = appendNew(e.Names, name)
		}
	case "truncate":
		for i := skip(s, 1, "table"); i < len(s); i++ {
			i = skip(s, i, "only")
			name, next := nameAt(s, i)
			if name == "" {
				break
			}
			e.name([]string{name})
			if i = skip(s, next, "*"); i >= len(s) || !s[i].is(",") {
				break
			}
		}
	}
}

// name adds objects that the statement names.
func (e *Event) name(names []string) {
	for _, name := range names {
		if len(e.Names) < maxNames {
			e.Names = appendNew(e.Names, name)
		}
	}
}

// written are the tables that a statement inserts into, changes or deletes from, also within WITH.
func written(s []token, verb string) (names []string) {
	for i, t := range s {
		if !t.is(verb) {
			continue
		}
		next := i + 1
		switch verb {
		case "insert", "merge":
			if next = skip(s, next, "into"); next == i+1 {
				continue
			}
		case "delete":
			if next = skip(s, next, "from"); next == i+1 {
				continue
			}
		case "update":
			if i > 0 && (s[i-1].is("for") || s[i-1].is("do") || s[i-1].is("key") || s[i-1].is("on")) {
				continue // of a lock, of ON CONFLICT
			}
		}
		if name, _ := nameAt(s, skip(s, next, "only")); name != "" && len(names) < maxNames {
			names = append(names, name)
		}
	}
	return names
}

// attributes of roles that can be said with NO before them.
var attributes = map[string]bool{"superuser": true, "createrole": true, "createdb": true, "login": true, "replication": true, "bypassrls": true, "inherit": true}

func (e *Event) role(s []token) {
	i := 2
	if i < len(s) && s[0].is("create") && s[1].is("user") {
		e.Role.Gains = append(e.Role.Gains, "login")
	}
	e.Role.Name, i = nameAt(s, i)
	e.Role.Odd = odd(e.Role.Name)
	if i+1 < len(s) && s[i].is("in") && s[i+1].is("database") {
		_, i = nameAt(s, i+2)
	}
	if i < len(s) && (s[i].is("set") || s[i].is("reset")) {
		e.setting(s, i, "role", e.Role.Name)
		return
	}
	if i < len(s) && s[i].is("rename") {
		if to, _ := nameAt(s, skip(s, i, "rename", "to")); to != "" {
			e.does("rename")
			e.Names = append(e.Names, to)
			e.Role.Odd = odd(to)
		}
		return
	}
	if s[0].is("alter") && s[1].is("group") && i+1 < len(s) && (s[i].is("add") || s[i].is("drop")) {
		e.Grant.To, _ = namesAt(s, i+2)
		if s[i].is("add") {
			e.Grant.Roles = append(e.Grant.Roles, e.Role.Name)
		}
		return
	}
	for ; i < len(s); i++ {
		if s[i].kind != word {
			if s[i].is("<") && i+1 < len(s) && s[i+1].is("redacted") {
				e.Role.Hidden = true
			}
			continue
		}
		switch w := s[i].text; {
		case attributes[w]:
			e.Role.Gains = append(e.Role.Gains, w)
		case strings.HasPrefix(w, "no") && attributes[w[2:]]:
			e.Role.Loses = append(e.Role.Loses, w[2:])
		case w == "password":
			if i+1 < len(s) && s[i+1].is("null") {
				e.Role.Loses = append(e.Role.Loses, "password")
			} else {
				e.Role.Gains = append(e.Role.Gains, "password")
			}
		case w == "valid":
			e.does("valid until")
			if i+2 < len(s) && s[i+2].kind == text && strings.EqualFold(s[i+2].text, "infinity") {
				e.Role.Gains = append(e.Role.Gains, "no expiry")
			}
			i++
		case w == "connection" && i+2 < len(s) && s[i+1].is("limit") && s[i+2].is("0"):
			e.does("no connections")
		case w == "in" && i+1 < len(s) && (s[i+1].is("role") || s[i+1].is("group")):
			roles, next := namesAt(s, i+2)
			e.Grant.Roles, e.Grant.To = append(e.Grant.Roles, roles...), []string{e.Role.Name}
			i = next - 1
		case w == "role" || w == "user" || w == "admin":
			members, next := namesAt(s, i+1)
			e.Grant.To, e.Grant.Roles = append(e.Grant.To, members...), []string{e.Role.Name}
			e.Grant.Further = e.Grant.Further || w == "admin"
			i = next - 1
		}
	}
}

func (e *Event) memberships(s []token, verb string) {
	i := skip(s, 1, "admin", "inherit", "set", "option", "for") // REVOKE ADMIN OPTION FOR
	roles, next := namesAt(s, i)
	e.Grant.Roles = append(e.Grant.Roles, roles...)
	end := "to"
	if verb == "revoke" {
		end = "from"
	}
	if i = find(s, next, end); i < 0 {
		return
	}
	to, next := namesAt(s, skip(s, i, "group"))
	e.Grant.To = append(e.Grant.To, to...)
	if find(s, next, "admin", "option") >= 0 || find(s, next, "admin", "true") >= 0 {
		e.Grant.Further = true
	}
}

func (e *Event) rights(s []token, i int, verb string) {
	i = skip(s, i, "grant", "option", "for")
	for ; i < len(s) && !s[i].is("on"); i++ {
		if s[i].is("(") {
			i = behind(s, i) - 1
		} else if s[i].kind == word && s[i].text != "privileges" {
			if last := len(e.Grant.Rights) - 1; s[i].is("system") && last >= 0 && e.Grant.Rights[last] == "alter" {
				e.Grant.Rights[last] = "alter system"
			} else {
				e.Grant.Rights = append(e.Grant.Rights, s[i].text)
			}
		}
	}
	i++
	e.Grant.On = "table"
	if i < len(s) && s[i].is("all") {
		e.Grant.Every = true
		if i+1 < len(s) {
			e.Grant.On = strings.TrimSuffix(s[i+1].text, "s")
		}
		if at := find(s, i, "schema"); at >= 0 {
			e.Names, i = namesAt(s, at)
		}
	} else {
		for i < len(s) && s[i].kind == word && grantable[s[i].text] && i+1 < len(s) && !s[i+1].is(".") && !s[i+1].is("to") && !s[i+1].is("from") && !s[i+1].is(",") {
			e.Grant.On = s[i].text
			i++
		}
		if e.Grant.On == "wrapper" {
			e.Grant.On = "foreign data wrapper"
		}
		e.Names, i = namesAt(s, i)
	}
	end := "to"
	if verb == "revoke" {
		end = "from"
	}
	if i = find(s, i, end); i < 0 {
		return
	}
	to, next := namesAt(s, skip(s, i, "group"))
	e.Grant.To = append(e.Grant.To, to...)
	if find(s, next, "grant", "option") >= 0 {
		e.Grant.Further = true
	}
}

var grantable = map[string]bool{"table": true, "sequence": true, "database": true, "domain": true, "foreign": true, "data": true, "wrapper": true, "server": true,
	"function": true, "procedure": true, "routine": true, "language": true, "large": true, "object": true, "parameter": true, "schema": true, "tablespace": true, "type": true}

func (e *Event) defaults(s []token) {
	i := find(s, 0, "grant")
	verb := "grant"
	if i < 0 {
		if i, verb = find(s, 0, "revoke"), "revoke"; i < 0 {
			return
		}
	}
	schema := find(s[:i], 0, "schema") >= 0
	if verb == "revoke" {
		e.does("revoke")
	}
	on := find(s, i, "on")
	e.rights(s, i, verb)
	if on >= 0 && on < len(s) {
		e.Grant.On, e.Names = strings.TrimSuffix(s[on].text, "s"), nil
	}
	e.Grant.Every = !schema
}

func (e *Event) database(s []token) {
	name, i := nameAt(s, 2)
	e.Names = append(e.Names, name)
	if has(s, "connection limit 0") || has(s, "allow_connections false") || has(s, "allow_connections = false") {
		e.does("no connections")
	}
	if i < len(s) && s[0].is("alter") && (s[i].is("set") || s[i].is("reset")) && !(i+1 < len(s) && s[i+1].is("tablespace")) {
		e.setting(s, i, "database", name)
	}
}

// setting reads SET name {=|TO} value and RESET name from place i on.
func (e *Event) setting(s []token, i int, scope, target string) {
	if i >= len(s) {
		return
	}
	set := SettingFacts{Scope: scope, Target: target, Reset: s[i].is("reset")}
	set.Name, i = nameAt(s, skip(s, i+1, "session", "local"))
	set.Name = strings.ToLower(set.Name)
	if i < len(s) && (s[i].is("=") || s[i].is("to")) {
		set.Value = values(s[i+1:])
	} else if i+1 < len(s) && s[i].is("from") {
		set.Value = "current"
	}
	if set.Reset && set.Name == "" {
		set.Name = "all"
	}
	set.judge()
	e.Set = set
	if e.Set.Runs || e.Set.Weakens {
		e.Names = append(e.Names, set.Name)
	}
}

// values joins the words of a setting's value.
func values(s []token) string {
	var b strings.Builder
	for i, t := range s {
		if i > 0 && t.text != "," && s[i-1].text != "-" && t.text != "." && s[i-1].text != "." {
			b.WriteByte(' ')
		}
		b.WriteString(t.text)
	}
	return b.String()
}

func (e *Event) session(s []token) {
	switch {
	case has(s, "session authorization"):
		e.does("session authorization")
		if i := find(s, 0, "authorization"); i < len(s) {
			e.Role.Name = s[i].text
		}
	case len(s) > 2 && s[1].is("role"):
		e.does("set role")
		e.Role.Name = s[2].text
	default:
		e.setting(s, 0, "session", "")
	}
}

// clause begins another part of CREATE FUNCTION.
var clause = map[string]bool{"as": true, "set": true, "language": true, "security": true, "immutable": true, "stable": true, "volatile": true, "strict": true,
	"cost": true, "rows": true, "parallel": true, "returns": true, "called": true, "leakproof": true, "begin": true, "return": true, "window": true, "not": true}

//go:embed rules/functions.txt
var functionNames string

var builtins = sync.OnceValue(func() map[string]bool {
	names := map[string]bool{}
	for name := range strings.FieldsSeq(functionNames) {
		names[name] = true
	}
	return names
})

func appendNew(list []string, s string) []string {
	if slices.Contains(list, s) {
		return list
	}
	return append(list, s)
}

// named reads the name behind CREATE or ALTER and the kind of object.
func (e *Event) named(s []token, object string) {
	i := 1
	for i < len(s) && s[i].kind == word && (fillers[s[i].text]) {
		if s[i].is("temp") || s[i].is("temporary") {
			e.does("temporary")
		}
		i++
	}
	switch object {
	case "function":
		i++ // FUNCTION, PROCEDURE, ROUTINE, AGGREGATE
	case "user mapping":
		if at := find(s, 0, "server"); at >= 0 {
			name, _ := nameAt(s, at)
			e.Names = append(e.Names, name)
		}
		return
	case "trigger", "policy", "rule":
		if at := find(s, i+1, "on"); at >= 0 {
			name, _ := nameAt(s, at)
			e.Names = append(e.Names, name)
			return
		}
		fallthrough
	default:
		i += 1 + strings.Count(object, " ")
	}
	i = skip(s, i, "concurrently", "if", "not", "exists", "only")
	if name, _ := nameAt(s, i); name != "" {
		e.Names = append(e.Names, name)
	}
}

// phrases that say what ALTER does, or what stands out in CREATE.
var phrases = func(all ...string) map[string][][]string {
	byWord := map[string][][]string{}
	for _, phrase := range all {
		words := strings.Fields(phrase)
		byWord[words[0]] = append(byWord[words[0]], words)
	}
	return byWord
}("disable row level security", "no force row level security", "disable trigger", "disable rule", "set unlogged", "rename to", "disable",
	"security definer", "no inherit", "detach partition", "drop column", "do instead", "set schema", "refresh publication", "enable replica", "enable always")

// reaches are functions that reach out of the database: to files, programs, other servers, or into the audit itself.
var reaches = map[string]string{"pg_read_file": "read file", "pg_read_binary_file": "read file", "pg_ls_dir": "list files", "pg_stat_file": "list files",
	"lo_import": "read file", "lo_export": "write file", "pg_file_write": "write file", "pg_file_unlink": "write file", "pg_file_rename": "write file",
	"dblink": "connect out", "dblink_connect": "connect out", "dblink_exec": "connect out", "dblink_send_query": "connect out", "dblink_connect_u": "connect out",
	"pg_create_logical_replication_slot": "replication slot", "pg_create_physical_replication_slot": "replication slot", "pg_logical_slot_get_changes": "replication slot",
	"pg_terminate_backend": "end sessions", "pg_rotate_logfile": "rotate log", "set_config": "set config", "pg_switch_wal": "", "pg_read_server_files": "",
	"query_to_xml": "query in text", "database_to_xml": "query in text"}
