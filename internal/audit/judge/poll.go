package judge

import (
	"fmt"
	"strings"
	"time"
)

// ServerScope is the scope of a snapshot of what is no catalog's row, and has no transaction: settings that matter, the lines of postgresql.auto.conf and pg_hba.conf, replication slots. What
// changed there is judged by its record, where SQL or a reload left one; what has none was changed outside of SQL.
const ServerScope = "\x00server"

// Types of a ServerScope's rows.
const (
	RowSetting = "setting in force" // Name and Says: its value
	RowFile    = "setting in file"  // a line of postgresql.auto.conf
	RowHBA     = "pg_hba.conf"      // Name: a line
	RowSlot    = "replication slot" // Says: its type
)

// Written names settings that are in a file that whoever runs the judge writes: where one reads otherwise than before and as it stands there, it is theirs.
func (j *Judge) Written(settings map[string]string) { j.written = settings }

// noteSetting remembers that the log says who changed a setting of the whole system, or that a reload did.
func (j *Judge) noteSetting(e *Event) {
	if e.Set.Name == "" || e.Set.Scope != "system" || e.Status == Denied || e.Status == Broken {
		return
	}
	if j.state.Set == nil {
		j.state.Set = map[string]ownSet{}
	}
	j.state.Set[e.Set.Name] = ownSet{At: e.Time, Value: e.Set.Value, Reset: e.Set.Reset}
}

// noted says whether the log tells of this change.
func (j *Judge) noted(name, value string) bool {
	if set, ok := j.state.Set["all"]; ok && set.Reset {
		return true
	}
	set, ok := j.state.Set[name]
	return ok && (set.Reset || strings.HasPrefix(value, "md5 ") || // of what holds passwords
		strings.EqualFold(set.Value, "default") || words(set.Value) == words(value))
}

// polled compares two snapshots of ServerScope.
func (j *Judge) polled(before, now *Snapshot) []Verdict {
	had, has := byName(before.Rows), byName(now.Rows)
	var verdicts []Verdict
	raise := func(e Event) {
		e.Time = now.At
		verdicts = append(verdicts, j.Event(e)...)
	}
	set := func(name, value string, gone bool, where string) {
		raise(Event{Kind: SettingChange, Names: []string{name}, Set: SettingFacts{Name: name, Value: value, Scope: "system", Reset: gone}, Detail: where})
	}
	var added, removed []string
	for i := range now.Rows {
		row := &now.Rows[i]
		was := had[row.Type+" "+row.Name]
		if was != nil && was.Says == row.Says {
			continue
		}
		switch row.Type {
		case RowFile:
			if !j.noted(row.Name, row.Says) {
				set(row.Name, row.Says, false, "changed outside of SQL: no record of ALTER SYSTEM, and it stands in postgresql.auto.conf")
			}
		case RowSetting:
			file := had[RowFile+" "+row.Name]
			if was != nil && !j.noted(row.Name, row.Says) && (file == nil || words(file.Says) != words(row.Says)) { // what stood there counts after a restart
				set(row.Name, row.Says, false, "changed outside of SQL: no record says by whom, it was “"+clip(was.Says, 200)+"”")
			}
		case RowHBA:
			added = append(added, row.Name)
		case RowSlot:
			if was == nil {
				raise(Event{Kind: SlotMade, ObjectType: row.Type, ObjectName: row.Name, Names: []string{row.Name}, Detail: row.Says})
			}
		}
	}
	for i := range before.Rows {
		row := &before.Rows[i]
		if has[row.Type+" "+row.Name] != nil {
			continue
		}
		switch row.Type {
		case RowFile:
			if noted, ok := j.state.Set[row.Name]; !j.noted(row.Name, "") && (!ok || noted.At.Before(before.At.Add(-time.Minute))) { // or a reload says so
				set(row.Name, "", true, "changed outside of SQL: its line in postgresql.auto.conf is gone, and no record says by whom")
			}
		case RowHBA:
			if fields := strings.Fields(row.Name); len(fields) > 2 {
				removed = append(removed, strings.Join(fields[:3], " "))
			}
		}
	}
	switch {
	case added != nil:
		detail := strings.Join(added, "; ")
		if removed != nil {
			detail += fmt.Sprintf(" (in the place of %d lines)", len(removed))
		}
		raise(Event{Kind: HBAChange, Detail: clip(detail, 1000)})
	case removed != nil:
		raise(Event{Kind: HBAChange, Detail: clip("lines are gone: "+strings.Join(removed, "; "), 1000)})
	}
	return verdicts
}

// byName finds rows again. Lines of pg_hba.conf that stand there twice are one.
func byName(rows []Row) map[string]*Row {
	all := make(map[string]*Row, len(rows))
	for i := range rows {
		all[rows[i].Type+" "+rows[i].Name] = &rows[i]
	}
	return all
}

// sweepSettings forgets what the log said of settings long ago.
func (st *State) sweepSettings() {
	for name, set := range st.Set {
		if st.Now.Sub(set.At) > 48*time.Hour {
			delete(st.Set, name)
		}
	}
}

// expectedSetting says whether a setting reads as it was written by whoever runs the judge.
func (j *Judge) expectedSetting(e *Event) bool {
	value, ok := j.written[e.Set.Name]
	return ok && words(value) == words(e.Set.Value)
}
