package judge

import "strings"

// fillers stand between CREATE, ALTER or DROP and the kind of object.
var fillers = map[string]bool{"or": true, "replace": true, "temp": true, "temporary": true, "unlogged": true, "global": true, "local": true,
	"recursive": true, "unique": true, "trusted": true, "procedural": true, "constraint": true}

// pairs are the kinds of objects that have two words or more.
var pairs = map[string][]string{"materialized": {"view"}, "foreign": {"table", "data"}, "event": {"trigger"}, "user": {"mapping"},
	"access": {"method"}, "default": {"privileges"}, "large": {"object"}, "text": {"search"}, "operator": {"class", "family"}}

// command names a statement as PostgreSQL's command tags do, in lower case: "create role" for CREATE USER and CREATE GROUP as well.
func command(s []token) string {
	for len(s) > 0 && s[0].is("(") {
		s = s[1:]
	}
	if len(s) == 0 || s[0].kind != word {
		return ""
	}
	verb := s[0].text
	switch verb {
	case "create", "alter", "drop", "refresh", "comment":
		i := 1
		for i < len(s) && s[i].kind == word && fillers[s[i].text] {
			i++
		}
		if verb == "comment" || i >= len(s) || s[i].kind != word {
			return verb
		}
		object := s[i].text
		if next := i + 1; next < len(s) {
			for _, second := range pairs[object] {
				if s[next].is(second) {
					object += " " + second
					switch {
					case second == "data":
						object = "foreign data wrapper"
					case second == "search" && next+1 < len(s):
						object += " " + s[next+1].text
					}
					break
				}
			}
		}
		switch object {
		case "user", "group":
			object = "role"
		case "table":
			if verb == "create" && makesFromQuery(s[i:]) {
				object = "table as"
			}
		}
		return verb + " " + object
	case "grant", "revoke":
		end := "to"
		if verb == "revoke" {
			end = "from"
		}
		for _, t := range s[1:] {
			if t.is("on") {
				return verb
			}
			if t.is(end) {
				break
			}
		}
		return verb + " role"
	case "reassign", "security", "import", "lock":
		if len(s) > 1 {
			return verb + " " + s[1].text
		}
	case "truncate":
		return "truncate table"
	case "select":
		for _, t := range s {
			if t.is("from") {
				break
			}
			if t.is("into") {
				return "select into"
			}
		}
	}
	return verb
}

// makesFromQuery tells CREATE TABLE ... AS from a list of columns.
func makesFromQuery(s []token) bool {
	depth := 0
	for i, t := range s {
		switch {
		case t.is("("):
			depth++
		case t.is(")"):
			depth--
		case depth == 0 && t.is("as") && i+1 < len(s):
			return true
		}
	}
	return false
}

// maxNames bounds how many names of a statement are kept.
const maxNames = 200

// namesAt reads names from i on, parted by commas, each with its dots joined, and gives where it stopped.
func namesAt(s []token, i int) ([]string, int) {
	var names []string
	for i < len(s) && s[i].name() {
		var name string
		name, i = nameAt(s, i)
		if len(names) < maxNames {
			names = append(names, name)
		}
		for i < len(s) && s[i].is("(") { // arguments of a function, columns of a right
			i = behind(s, i)
		}
		if i >= len(s) || !s[i].is(",") {
			break
		}
		i++
	}
	return names, i
}

func nameAt(s []token, i int) (string, int) {
	if i >= len(s) || !s[i].name() {
		return "", i
	}
	name := s[i].text
	for i++; i+1 < len(s) && s[i].is(".") && s[i+1].name(); i += 2 {
		name += "." + s[i+1].text
	}
	return name, i
}

// behind is the place behind the parenthesis that opens at i.
func behind(s []token, i int) int {
	depth := 0
	for ; i < len(s); i++ {
		if s[i].is("(") {
			depth++
		} else if s[i].is(")") {
			if depth--; depth == 0 {
				return i + 1
			}
		}
	}
	return i
}

// find gives the place behind a phrase, from i on; -1 when it is not there.
func find(s []token, i int, phrase ...string) int {
	for ; i+len(phrase) <= len(s); i++ {
		found := true
		for k, w := range phrase {
			if !s[i+k].is(w) {
				found = false
				break
			}
		}
		if found {
			return i + len(phrase)
		}
	}
	return -1
}

func has(s []token, phrase string) bool { return find(s, 0, strings.Fields(phrase)...) >= 0 }

func skip(s []token, i int, words ...string) int {
	for _, w := range words {
		if i < len(s) && s[i].is(w) {
			i++
		}
	}
	return i
}
