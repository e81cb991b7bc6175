package judge

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// Snapshot is what a database's catalogs hold at a moment, of what changes who may do what. Package catalog takes it.
type Snapshot struct {
	At      time.Time
	Epoch   string // another one is another history: it went back to a backup, or a standby took over
	Scope   string // a database, or "" for the catalogs that all databases share
	Rows    []Row
	Commits []time.Time // when the transactions committed that Transactions named; nil without track_commit_timestamp
	Of      []uint32    `json:",omitempty"` // which these are
}

// Row is one row of a catalog.
type Row struct {
	Type      string    // role, member, setting, function, event trigger, ...
	Name      string    // as a person would write it
	XMin      uint32    // the transaction, or sub-transaction, that wrote it
	Committed time.Time // when; zero without track_commit_timestamp
	Says      string    // what it gives: attributes of a role, the hash of a function's text
}

// entry is what the log says of a transaction.
type entry struct {
	At     time.Time
	Hidden bool     // pgAudit cut a role's statement
	Local  bool     `json:",omitempty"` // only event triggers name it, which tell of objects: a role that the same transaction made is not explained by that
	Gains  []string // what roles got, as far as it was logged
}

// enter notes what a record explains of the catalogs.
func (j *Judge) enter(e *Event) {
	if e.Class != "ROLE" && e.Class != "DDL" || e.Status == Denied || e.Status == Broken {
		return
	}
	st := &j.state
	if e.TXID == 0 {
		if strings.HasSuffix(e.Kind, " extension") {
			st.Before = append(st.Before, e.Time)
		}
	} else {
		xid := uint32(e.TXID)
		n := st.Ledger[xid]
		if n == nil {
			n = &entry{Local: e.Triggered}
			st.Ledger[xid] = n
		}
		n.Local = n.Local && e.Triggered
		n.At = e.Time
		n.Hidden = n.Hidden || e.Role.Hidden
		for _, gain := range e.Role.Gains {
			n.Gains = appendNew(n.Gains, gain)
		}
	}
	verb, object, _ := strings.Cut(e.Kind, " ")
	where := ""
	if e.Triggered {
		where = local
		if e.ObjectName != "" {
			st.Dropped[local+bare(plainName(e.ObjectName))] = e.Time // also what ALTER has taken away
		}
	}
	switch verb {
	case "drop":
		for _, name := range e.Names {
			st.Dropped[where+bare(name)] = e.Time
		}
		if object == "owned" || slices.Contains(e.Does, "cascade") || object == "schema" || object == "extension" || object == "database" {
			st.Dropped[where] = e.Time // it can have taken anything along
		}
	case "revoke":
		st.Dropped[where+"revoke"] = e.Time
	case "alter":
		if object == "publication" || object == "subscription" { // tables come and go with it
			for _, name := range e.Names {
				st.Dropped[where+bare(name)] = e.Time
			}
		}
		if slices.Contains(e.Does, "rename") || slices.Contains(e.Does, "rename to") || slices.Contains(e.Does, "set schema") || e.Set.Reset || e.Set.Name != "" {
			st.Dropped[where+e.Role.Name] = e.Time
			st.Dropped[where] = e.Time
		}
	}
}

// local is before the names of what event triggers told of.
const local = "\x00"

// shared are the rows of catalogs, and others, that event triggers do not tell of.
var shared = map[string]bool{"role": true, "member": true, "setting": true, "database": true, "parameter": true, "subscription": true, "event trigger": true}

// Transactions names the transactions of the last records, newest last, so that whoever takes a snapshot can ask when they committed: a row that a
// sub-transaction wrote has its commit time, and no other thing in common.
func (j *Judge) Transactions() []uint32 {
	var all []uint32
	for xid := range j.state.Ledger {
		all = append(all, xid)
	}
	slices.SortFunc(all, func(a, b uint32) int {
		if c := j.state.Ledger[a].At.Compare(j.state.Ledger[b].At); c != 0 {
			return c
		}
		return int(int64(a) - int64(b))
	})
	return all[max(0, len(all)-5000):]
}

// Reconcile compares a snapshot with the one before it and with what the log says. It is called when the log was read beyond the moment of the snapshot. What
// no record explains is judged as an event; the first snapshot of a scope is only remembered. What the log said of roles also becomes known.
func (j *Judge) Reconcile(now *Snapshot) []Verdict {
	st := &j.state
	before := st.Catalogs[now.Scope]
	st.Catalogs[now.Scope] = &Snapshot{At: now.At, Epoch: now.Epoch, Scope: now.Scope, Rows: now.Rows}
	for _, row := range now.Rows {
		if row.Type == "role" {
			has := strings.Fields(row.Says)
			j.Know(row.Name, slices.Contains(has, "superuser"), slices.Contains(has, "createrole"), slices.Contains(has, "login"))
		}
	}
	if now.Scope == "" {
		j.forget(now)
	}
	if before == nil {
		return nil
	}
	if before.Epoch != now.Epoch {
		if now.Scope == "" { // the numbers of transactions that were taken back come again, and are others
			maps.DeleteFunc(st.Ledger, func(_ uint32, n *entry) bool { return n.At.Before(before.At) })
		}
		return nil
	}
	if now.Scope == ServerScope {
		return j.polled(before, now)
	}
	commits := map[time.Time]bool{} // true: explains all; false: what event triggers tell of
	for i, at := range now.Commits {
		local := i < len(now.Of) && st.Ledger[now.Of[i]] != nil && st.Ledger[now.Of[i]].Local
		commits[at] = commits[at] || !local
	}
	scripts := j.scripts(now, before.At)
	key := func(r *Row) string { return r.Type + " " + r.Name }
	old := make(map[string]*Row, len(before.Rows))
	for i := range before.Rows {
		old[key(&before.Rows[i])] = &before.Rows[i]
	}
	var verdicts []Verdict
	found := func(kind string, row *Row, detail string) {
		when := now.At
		if kind == Unexplained && !row.Committed.IsZero() {
			when = row.Committed
		}
		verdicts = append(verdicts, j.Event(Event{Kind: kind, Time: when, DB: now.Scope, ObjectType: row.Type, ObjectName: row.Name, Names: []string{row.Name},
			TXID: uint64(row.XMin), Detail: detail})...)
	}
	for i := range now.Rows {
		row := &now.Rows[i]
		was := old[key(row)]
		delete(old, key(row))
		if was != nil && was.XMin == row.XMin {
			continue
		}
		var gained []string
		if row.Type == "role" {
			for _, attribute := range strings.Fields(row.Says) {
				if attribute != "login" && (was == nil || !slices.Contains(strings.Fields(was.Says), attribute)) {
					gained = append(gained, attribute)
				}
			}
		}
		switch n := j.explains(row, commits, scripts); {
		case n == nil:
			what := "no record names transaction " + fmt.Sprint(row.XMin)
			if row.Says != "" {
				what = clip(row.Says, 120) + "; " + what
			}
			found(Unexplained, row, what)
		case n.Hidden:
			gained = slices.DeleteFunc(gained, func(a string) bool { return slices.Contains(n.Gains, a) })
			if len(gained) > 0 {
				found(Unexplained, row, strings.Join(gained, ", ")+" behind the password, where pgAudit does not write")
			}
		}
	}
	for i := range before.Rows {
		row := &before.Rows[i]
		if old[key(row)] == nil || j.dropped(row, before.At) {
			continue
		}
		found(Vanished, row, "it was there at "+before.At.UTC().Format("15:04:05"))
	}
	return verdicts
}

// forget drops what is kept of databases that are gone.
func (j *Judge) forget(shared *Snapshot) {
	there := map[string]bool{"": true, ServerScope: true}
	listed := false
	for i := range shared.Rows {
		if shared.Rows[i].Type == "database" {
			listed, there[shared.Rows[i].Name] = true, true
		}
	}
	for scope := range j.state.Catalogs {
		if listed && !there[scope] {
			delete(j.state.Catalogs, scope)
		}
	}
}

// scripts are the transactions of extensions that came since the last look. pgAudit writes CREATE EXTENSION before it has a transaction, and what its script makes
// only where pgAudit's own extension is; but all of it has the transaction of the extension's row.
func (j *Judge) scripts(now *Snapshot, since time.Time) map[uint32]bool {
	all := map[uint32]bool{}
	for i := range now.Rows {
		row := &now.Rows[i]
		if row.Type == "extension" && slices.ContainsFunc(j.state.Before, func(at time.Time) bool {
			return at.After(since.Add(-time.Hour)) && (row.Committed.IsZero() || row.Committed.Sub(at) > -time.Second && row.Committed.Sub(at) < time.Hour)
		}) {
			all[row.XMin] = true
		}
	}
	return all
}

// near is how far a sub-transaction's number lies behind its transaction's at most, where commit times are not kept.
const near = 64

// explains finds what the log says about the transaction that wrote a row; nil when it says nothing.
func (j *Judge) explains(row *Row, commits map[time.Time]bool, scripts map[uint32]bool) *entry {
	st := &j.state
	counts := func(n *entry) bool { return n != nil && !(n.Local && shared[row.Type]) }
	if n := st.Ledger[row.XMin]; counts(n) {
		return n
	}
	if j.said(row.Name) {
		return &entry{}
	}
	if scripts[row.XMin] {
		return &entry{}
	}
	if !row.Committed.IsZero() {
		if all, known := commits[row.Committed]; all || known && !shared[row.Type] {
			return &entry{}
		}
		return nil
	}
	for back := uint32(1); back <= near; back++ {
		if n := st.Ledger[row.XMin-back]; counts(n) {
			return &entry{}
		}
	}
	return nil
}

// dropped says whether a record since then explains that a row is gone.
func (j *Judge) dropped(row *Row, since time.Time) bool {
	st := &j.state
	if j.said(row.Name) {
		return true
	}
	after := func(name string) bool {
		at, ok := st.Dropped[name]
		if told := st.Dropped[local+name]; !shared[row.Type] && told.After(at) {
			at, ok = told, true
		}
		return ok && !at.Before(since.Add(-time.Second))
	}
	name := row.Name
	if at := strings.IndexByte(name, '('); at > 0 {
		name = name[:at]
	}
	switch row.Type {
	case "member":
		group, member, _ := strings.Cut(row.Name, " to ")
		return after("revoke") || after(group) || after(member)
	case "setting", "parameter", "default rights":
		return after("revoke") || after("")
	case "user mapping", "policy", "published", "subscription":
		return after("") || after(bare(name)) || slices.ContainsFunc(strings.Fields(name), after)
	}
	return after(bare(name)) || row.Type != "role" && after("")
}
