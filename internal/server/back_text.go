package server

import (
	"strings"
	"time"

	"howdah/internal/audit"
	"howdah/internal/fault"
	"howdah/internal/keeper"
	"howdah/internal/lang"
	"howdah/internal/recovery"
)

// What the house says of ways back, in its language.

// planText is a plan as people read it in the room.
func planText(t lang.Locale, p *keeper.Plan, scratch, incident string) string {
	lines := []string{"**" + t.T("server.back.plan", fault.Args{"incident": incident}) + "**"}
	add := func(key string, args fault.Args) { lines = append(lines, "- "+t.T("server.back.plan_"+key, args)) }
	if p.Backup != nil {
		add("backup", fault.Args{"id": code(p.Backup.ID), "at": utc(p.Backup.Ended)})
	}
	add("wal", fault.Args{"n": p.Segments, "size": keeper.SizeText(p.WAL)})
	add("space", fault.Args{"size": keeper.SizeText(p.Write), "dir": code(scratch)})
	add("time", fault.Args{"took": tookText(t, p.Seconds)})
	if !p.Ended.IsZero() {
		add("moment", fault.Args{"at": utc(p.Ended)})
	} else {
		add("until", fault.Args{"at": utc(p.Reached)})
	}
	return strings.Join(lines, "\n")
}

// tablesText is how tables were, and what has become of them.
func tablesText(t lang.Locale, d *recovery.Done) string {
	var lines []string
	for _, table := range d.Tables {
		args := fault.Args{"table": code(nameOf(table)), "rows": grouped(table.Rows), "gone": grouped(table.Gone), "altered": grouped(table.Altered), "newer": grouped(table.Newer)}
		if table.There {
			lines = append(lines, "- "+t.T("server.back.table", args))
		} else {
			lines = append(lines, "- "+t.T("server.back.table_gone", args))
		}
	}
	return strings.Join(lines, "\n")
}

// doneText is what was done, and how it is taken back.
func doneText(t lang.Locale, d *recovery.Done, by, undo string) string {
	lines := []string{"**" + t.T("server.back.done", fault.Args{"name": plainWords(by)}) + "**"}
	for _, table := range d.Tables {
		args := fault.Args{"table": code(nameOf(table)), "rows": grouped(table.Rows), "gone": grouped(table.Gone), "altered": grouped(table.Altered), "newer": grouped(table.Newer),
			"as": code(d.Schema() + "." + table.As), "kept": code(d.Schema() + "." + table.Kept)}
		switch d.Mode {
		case recovery.Beside, recovery.Diff:
			lines = append(lines, "- "+t.T("server.back.done_beside", args))
		case recovery.Merge:
			lines = append(lines, "- "+t.T("server.back.done_merge", args))
			if table.Over != "" {
				lines = append(lines, "- "+t.T("server.back.done_changed", args))
			}
		case recovery.Replace:
			lines = append(lines, "- "+t.T("server.back.done_replace", args))
			if table.Kept != "" {
				lines = append(lines, "- "+t.T("server.back.done_kept", args))
			}
		}
		if len(table.Loose) > 0 {
			lines = append(lines, "- "+t.T("server.back.done_loose", fault.Args{"names": code(strings.Join(table.Loose, ", "))}))
		}
	}
	return strings.Join(append(lines, "", t.T("server.back.undo", fault.Args{"command": code(undo)})), "\n")
}

// undoCommand is what somebody can paste into a shell.
func undoCommand(flags []string, d *recovery.Done) string {
	words := []string{"howdah", "recover", "undo", d.ID, "--db", shellWord(d.Database)}
	for i := 0; i < len(flags); i++ {
		words = append(words, shellWord(flags[i]))
	}
	return strings.Join(words, " ")
}

// farText says how far it is.
func farText(t lang.Locale, l heardLine) string {
	if l.Progress == nil {
		return ""
	}
	what := plainWords(l.Progress.Label) // it names tables
	if l.Progress.Total > 0 {
		return " " + t.T("server.back.far_of", fault.Args{"what": what, "done": keeper.SizeText(l.Progress.Bytes), "of": keeper.SizeText(l.Progress.Total)})
	}
	if l.Progress.Bytes > 0 {
		return " " + t.T("server.back.far", fault.Args{"what": what, "done": keeper.SizeText(l.Progress.Bytes)})
	}
	return " " + t.T("server.back.far_at", fault.Args{"what": what})
}

// nameOf is a table's name as SQL writes it, in quotes only where it needs them.
func nameOf(t recovery.Table) string { return audit.Ident(t.Schema) + "." + audit.Ident(t.Name) }

// tookText is a time, very roughly.
func tookText(t lang.Locale, seconds int) string {
	if seconds < 120 {
		return t.T("server.back.seconds", fault.Args{"n": max(1, seconds)})
	}
	return t.T("server.back.minutes", fault.Args{"n": (seconds + 59) / 60})
}

func utc(at time.Time) string {
	if at.IsZero() {
		return "-"
	}
	return at.UTC().Format("2006-01-02 15:04:05") + " UTC"
}
