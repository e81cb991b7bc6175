package judge

import (
	_ "embed"
	"strings"
)

func (e *Event) function(s []token) {
	e.named(s, "function")
	e.Func.Definer = has(s, "security definer")
	e.Func.Trigger = has(s, "returns event_trigger") || has(s, "returns pg_catalog . event_trigger")
	if i := find(s, 0, "language"); i >= 0 && i < len(s) {
		e.Func.Language = strings.ToLower(s[i].text)
	}
	depth := 0
	for i, t := range s {
		switch {
		case t.is("("):
			depth++
		case t.is(")"):
			depth--
		case depth == 0 && i > 2 && t.is("set") && i+2 < len(s) && s[i+1].name():
			end := i + 2
			for end < len(s) && !clause[s[end].text] {
				end++
			}
			before := e.Set
			e.setting(s[:end], i, "function", "")
			if e.Set.Name == "search_path" {
				e.Func.Pinned = true
			}
			if before.Weakens || before.Opens {
				e.Set = before // the worst of several stays
			}
		case t.kind == text && i > 0 && (s[i-1].is("as") || s[i-1].is(",")):
			e.body(t.text)
		}
	}
	if i := find(s, 0, "begin", "atomic"); i >= 0 {
		e.actions(s[i:])
	}
	if len(e.Names) > 0 && s[0].is("create") {
		schema, name, found := strings.Cut(e.Names[0], ".")
		if !found {
			schema, name = "public", e.Names[0]
		}
		e.Func.Shadows = schema == "public" && builtin(name)
	}
}

// builtin says whether PostgreSQL has a function of this name in pg_catalog.
func builtin(name string) bool { return builtins()[name] }

// body reads code: what it would do, also in strings that it executes.
func (e *Event) body(code string) {
	tokens := scan(code)
	e.actions(tokens)
	runs := false
	made := 0
	for i, t := range tokens {
		if t.kind == word {
			switch t.text {
			case "execute":
				how := executes(tokens[i+1:])
				runs = runs || how == "execute"
				e.Func.Body = appendNew(e.Func.Body, how)
			case "decode", "chr", "convert_from", "reverse", "translate", "overlay", "string_agg":
				made++
			}
		}
		if t.kind == text && len(t.text) > 5 {
			// A string that is a command is one that is executed; a word for one within a sentence is not.
			if inner := scan(t.text); len(inner) > 0 && inner[0].kind == word && weight(inner[0].text) > 1 {
				e.actions(inner)
			}
		}
	}
	if runs && made > 0 {
		e.Func.Obscure = true
	}
	e.calls(tokens)
}

// executes says what EXECUTE in PL/pgSQL is given: a text that stands there, one put together by format(), or whatever comes.
func executes(s []token) string {
	switch {
	case len(s) == 0 || s[0].is("function") || s[0].is("procedure") || s[0].is("on"):
		return "execute fixed"
	case s[0].kind == text && (len(s) == 1 || s[1].is(";") || s[1].is("using") || s[1].is("into")):
		return "execute fixed"
	case s[0].is("format") && len(s) > 2 && s[2].kind == text && !strings.Contains(s[2].text, "%s"):
		return "execute format"
	}
	return "execute"
}

// actions notes the commands in code that change who may do what.
func (e *Event) actions(tokens []token) {
	for i := range tokens {
		if tokens[i].kind != word {
			continue
		}
		switch tokens[i].text {
		case "create", "alter", "drop", "grant", "revoke", "copy", "set", "reassign":
			switch kind := command(tokens[i:]); kind {
			case "create role", "alter role", "drop role", "alter system", "grant role", "alter database", "drop database", "create event trigger", "create extension", "reassign owned", "grant":
				e.Func.Body = appendNew(e.Func.Body, kind)
				if kind == "create role" || kind == "alter role" {
					for _, t := range tokens[i:min(len(tokens), i+24)] {
						if t.is("superuser") || t.is("createrole") || t.is("bypassrls") || t.is("replication") {
							e.Func.Body = appendNew(e.Func.Body, t.text)
						}
					}
				}
			case "copy":
				for k := i + 1; k+1 < min(len(tokens), i+40); k++ {
					if tokens[k].is("program") && tokens[k+1].kind == text {
						e.Func.Body = appendNew(e.Func.Body, "copy program")
					}
				}
			case "set":
				if i+1 < len(tokens) && tokens[i+1].is("pgaudit") {
					e.Func.Body = appendNew(e.Func.Body, "set pgaudit")
				}
			}
		case "pg_authid", "pg_auth_members":
			if i > 0 && (tokens[i-1].is("update") || tokens[i-1].is("into") || tokens[i-1].is(".")) {
				e.Func.Body = appendNew(e.Func.Body, "catalog write")
			}
		}
	}
}

func (e *Event) phrases(s []token) {
	for i, t := range s {
		if t.kind != word {
			continue
		}
		for _, phrase := range phrases[t.text] {
			if find(s[i:min(len(s), i+len(phrase))], 0, phrase...) > 0 {
				e.does(strings.Join(phrase, " "))
			}
		}
	}
	if i := find(s, 0, "owner", "to"); i >= 0 {
		e.Owner, _ = nameAt(s, i)
		e.does("owner to")
	}
	if i := find(s, 0, "using"); i >= 0 && e.Kind == "create policy" && i+2 < len(s) && s[i+1].is("true") {
		e.does("open to all")
	}
	if e.Kind == "create trigger" || e.Kind == "create rule" || e.Kind == "create event trigger" {
		if i := find(s, 0, "execute"); i >= 0 {
			name, _ := nameAt(s, skip(s, i, "function", "procedure"))
			e.Names = append(e.Names, name)
		}
	}
	if e.Kind == "create rule" {
		e.actions(s)
	}
}

// hosts reads where a foreign server or a subscription goes.
func (e *Event) hosts(s []token) {
	for i, t := range s {
		switch {
		case (t.is("host") || t.is("hostaddr")) && i+1 < len(s) && s[i+1].kind == text:
			e.Hosts = append(e.Hosts, s[i+1].text)
		case t.is("connection") && i+1 < len(s) && s[i+1].kind == text, t.is("add") && i+2 < len(s) && s[i+2].kind == text:
			e.Hosts = append(e.Hosts, connectionHosts(s[i+1].text)...)
		}
	}
}

// connectionHosts reads the hosts of a connection string, in both of its forms.
func connectionHosts(dsn string) []string {
	var hosts []string
	if _, rest, ok := strings.Cut(dsn, "://"); ok {
		rest, _, _ = strings.Cut(rest, "/")
		if at := strings.LastIndexByte(rest, '@'); at >= 0 {
			rest = rest[at+1:]
		}
		for host := range strings.SplitSeq(rest, ",") {
			host, _, _ = strings.Cut(host, ":")
			hosts = append(hosts, host)
		}
		return hosts
	}
	for field := range strings.FieldsSeq(dsn) {
		if key, value, ok := strings.Cut(field, "="); ok && (key == "host" || key == "hostaddr") {
			hosts = append(hosts, strings.Split(strings.Trim(value, "'"), ",")...)
		}
	}
	return hosts
}

// copies notes the tables that a query takes whole: SELECT * without WHERE, GROUP BY or LIMIT.
func (e *Event) copies(s []token) {
	star := false
	for i, t := range s {
		if t.is("select") && i+1 < len(s) && (s[i+1].is("*") || i+3 < len(s) && s[i+2].is(".") && s[i+3].is("*")) {
			star = true
		}
		if t.is("where") || t.is("limit") || t.is("group") || t.is("fetch") || t.is("tablesample") {
			return
		}
	}
	if i := find(s, 0, "from"); star && i >= 0 {
		from, _ := namesAt(s, i)
		e.From = append(e.From, from...)
	}
	if i := find(s, 0, "as", "table"); i >= 0 {
		name, _ := nameAt(s, i)
		e.From = append(e.From, name)
	}
}

func (e *Event) copy(s []token) {
	i := 1
	if i < len(s) && s[i].is("(") {
		i = behind(s, i)
	} else {
		var name string
		name, i = nameAt(s, skip(s, i, "binary"))
		e.Names = append(e.Names, name)
	}
	for ; i+1 < len(s); i++ {
		if s[i].is("from") || s[i].is("to") {
			switch next := s[i+1]; {
			case next.is("program"):
				e.does("copy program")
			case next.kind == text:
				e.does("copy file")
			}
			return
		}
	}
}

func (e *Event) calls(tokens []token) {
	for i, t := range tokens {
		if !t.name() || i+1 >= len(tokens) || !tokens[i+1].is("(") {
			continue
		}
		what := reaches[t.text]
		if what == "" {
			continue
		}
		if what == "set config" {
			if i+4 < len(tokens) && tokens[i+2].kind == text && e.Set.Name == "" {
				e.Set = SettingFacts{Name: strings.ToLower(tokens[i+2].text), Value: tokens[i+4].text, Scope: "session"}
				e.Set.judge()
			}
			continue
		}
		e.does(what)
	}
}
