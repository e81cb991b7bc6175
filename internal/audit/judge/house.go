package judge

import (
	"slices"
	"strings"
)

// House is a database that a program keeps: people who write there go around all that the program sees to.
type House struct {
	Database string
	Tables   []string // with their schemas: chat.message
}

// ofHouse says whether an event touches what the house keeps: one of its tables, a schema that holds some, its database, or all that its owner has. A migration of its own is no such event.
func (j *Judge) ofHouse(e *Event) bool {
	h := &j.options.House
	if h.Database == "" || slices.Contains(j.options.Owners, e.Actor) && j.options.Marker != "" && strings.HasPrefix(e.App, j.options.Marker) {
		return false
	}
	verb, object, _ := strings.Cut(e.Kind, " ")
	switch verb {
	case "drop", "alter", "truncate", "delete", "update", "insert", "merge", "copy", "create", "grant", "reassign":
	default:
		return false
	}
	switch verb {
	case "delete", "update", "insert", "merge", "copy":
		if slices.Contains(j.options.Apps, e.Actor) {
			return false // rows are its work
		}
	}
	if object == "database" {
		return slices.Contains(e.Names, h.Database)
	}
	if e.DB != h.Database {
		return false
	}
	if object == "owned" {
		return slices.ContainsFunc(e.Names, func(role string) bool { return slices.Contains(j.options.Owners, role) })
	}
	for _, name := range e.Names {
		if object == "schema" && h.schema(name) {
			return true
		}
		full := e.full(name)
		if made := j.state.Made[e.DB+" "+bare(full)].Name; bare(full) == full && made != "" {
			full = made // somebody has made one of that name, and is not the house
		}
		if h.holds(full) {
			return true
		}
	}
	return e.ObjectName != "" && h.holds(strings.ReplaceAll(e.ObjectName, `"`, ""))
}

// schema says whether tables of the house are in a schema.
func (h *House) schema(name string) bool {
	return slices.ContainsFunc(h.Tables, func(table string) bool { schema, _, _ := strings.Cut(table, "."); return schema == name })
}

// holds says whether a table is one of the house's. A name without a schema is taken for one: the house's tables are in no search_path, and who types it has set that by hand.
func (h *House) holds(name string) bool {
	if !strings.Contains(name, ".") {
		return slices.ContainsFunc(h.Tables, func(table string) bool { return bare(table) == name })
	}
	for _, table := range h.Tables {
		if table == name || strings.HasPrefix(name, table+".") { // a column of it, as event triggers say
			return true
		}
	}
	return false
}
