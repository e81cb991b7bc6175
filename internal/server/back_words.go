package server

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"howdah/internal/audit"
	"howdah/internal/audit/judge"
	"howdah/internal/fault"
	"howdah/internal/lang"
	"howdah/internal/pg"
	"howdah/internal/recovery"
)

// What an incident destroyed, and the command that brings it back.

// mostNamed are the tables that a command and a message name; with more, the command finds them on the trail.
const mostNamed = 5

// back is WayBack of an incident that the watch has found.
func (w *watcher) back(t lang.Locale, i *judge.Incident, show func(string) string) []string {
	lines := WayBack(t, w.incident(i), w.database, w.flags, show)
	if !w.goesBack && len(lines) > 0 {
		return lines[:1]
	}
	return lines
}

// WayBack says what of an incident was lost, and the command that brings it back; nothing where there is nothing, or where all of it was rolled back. The command goes without --db for a
// database, and has these flags. show makes of a name, or a command, what is seen as it is.
func WayBack(t lang.Locale, i *audit.Incident, database string, flags []string, show func(string) string) (lines []string) {
	way, _, ok := i.Back("")
	if !ok {
		return nil
	}
	comma := t.T("cli.backup.comma")
	var lost []string
	for n, l := range way.Losses {
		if n == mostNamed {
			lost = append(lost, "…")
			break
		}
		lost = append(lost, lossText(t, l, show))
	}
	lines = append(lines, t.T("server.back.lost", fault.Args{"lost": strings.Join(lost, comma)}))
	command := recoverCommand(flags, database, i.ID, way)
	if way.TXID != 0 {
		return append(lines, t.T("server.back.command", fault.Args{"id": strconv.FormatUint(way.TXID, 10), "command": show(command)}))
	}
	return append(lines, t.T("server.back.command_at", fault.Args{"at": beforeRecord(way.At).Format("2006-01-02 15:04:05.000"), "command": show(command)}))
}

// beforeRecord is the time up to which a state has nothing of what a record tells: it is written before its transaction commits.
func beforeRecord(at time.Time) time.Time { return at.Add(-time.Millisecond).UTC() }

func lossText(t lang.Locale, l audit.Loss, show func(string) string) string {
	key := "server.back." + strings.ReplaceAll(l.Kind, " ", "_")
	switch l.Kind {
	case "drop table", "truncate table", "delete", "update", "alter table":
	default:
		key = "server.back.drop_table"
	}
	text := t.T(key, fault.Args{"table": show(l.Object)})
	if l.Rows > 0 {
		text = t.T("server.back.rows", fault.Args{"what": text, "rows": grouped(l.Rows)})
	}
	return text
}

// grouped is a number as people read it.
func grouped(n int64) string {
	text := strconv.FormatInt(n, 10)
	for at := len(text) - 3; at > 0 && text[at-1] != '-'; at -= 3 {
		text = text[:at] + "," + text[at:]
	}
	return text
}

// recoverCommand is what somebody can paste into a shell.
func recoverCommand(flags []string, database, incident string, way audit.Way) string {
	words := []string{"howdah", "recover", "table"}
	if schemas := schemasOf(way); schemas != nil {
		words[2] = "schema" // which is gone itself, and has more than tables in it
		for _, name := range schemas {
			words = append(words, shellWord(name))
		}
		words = append(words, "--before-xid", strconv.FormatUint(way.TXID, 10))
	} else {
		if len(way.Tables) <= mostNamed {
			for _, name := range way.Tables {
				words = append(words, shellWord(name))
			}
		}
		words = append(words, "--before", incident)
	}
	if way.DB != database {
		words = append(words, "--db", shellWord(way.DB))
	}
	for _, flag := range flags {
		words = append(words, shellWord(flag))
	}
	return strings.Join(words, " ")
}

// schemasOf are the schemas that were dropped with all that was in them, as SQL writes them; nil where that is not all that was lost, or no transaction is known.
func schemasOf(way audit.Way) (schemas []string) {
	for _, l := range way.Losses {
		name, err := recovery.ParseName(l.Object)
		if err != nil || l.Kind != "drop schema" || way.TXID == 0 || l.TXID != way.TXID {
			return nil
		}
		if schema := audit.Ident(name.Schema); !slices.Contains(schemas, schema) {
			schemas = append(schemas, schema)
		}
	}
	return schemas
}

// shellWord is a word of a command for a shell as sh.
func shellWord(word string) string {
	if word != "" && strings.Trim(word, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_./:=@%+,-") == "" {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}

// sizes is how many rows tables of the watch's own database have, as far as PostgreSQL has counted.
type sizes struct {
	known atomic.Pointer[map[string]int64] // by the table's name as SQL writes it
}

const (
	measurePace  = time.Minute
	measureLimit = 20 * time.Second
	mostSizes    = 5000 // tables
)

// measure looks how large tables are, until ctx ends: who says that one was dropped can say then how much that was.
func (w *watch) measure(ctx context.Context) {
	tick := time.NewTicker(measurePace)
	defer tick.Stop()
	for {
		if w.away() == nil {
			w.measureNow(ctx)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// measureNow keeps what it knew of tables that are gone since the last time: what is told of them may come later.
func (w *watch) measureNow(ctx context.Context) {
	limited, done := context.WithTimeout(ctx, measureLimit)
	defer done()
	type row struct {
		Schema, Name string
		Rows         int64
	}
	of, err := w.ask(limited)
	if err != nil {
		return
	}
	found, err := pg.All[row](limited, of, `SELECT s.schemaname, s.relname, greatest(n_live_tup, reltuples::bigint) FROM pg_stat_user_tables s JOIN pg_class c ON c.oid = relid
		WHERE greatest(n_live_tup, reltuples) > 0 ORDER BY 3 DESC LIMIT $1`, mostSizes)
	if err != nil {
		return // it is no more than a figure
	}
	next := make(map[string]int64, len(found))
	for _, r := range found {
		next[audit.Ident(r.Schema)+"."+audit.Ident(r.Name)] = r.Rows
	}
	if old := w.sizes.known.Load(); old != nil && len(next) < mostSizes {
		for name, rows := range *old {
			if _, there := next[name]; !there && rows > 0 {
				next[name] = -rows // said once more, and then forgotten
			}
		}
	}
	w.sizes.known.Store(&next)
}

// size notes how many rows what was lost had.
func (w *watcher) size(i *judge.Incident) {
	known := w.sizes.known.Load()
	if known == nil {
		return
	}
	for n := range i.Losses {
		if l := &i.Losses[n]; l.Rows == 0 && l.DB == w.database && l.Kind != "delete" && l.Kind != "update" {
			rows := (*known)[l.Object]
			l.Rows = max(rows, -rows)
		}
	}
}

// canGoBack says whether people may be offered to go back to before an incident.
func (w *watcher) canGoBack(i *judge.Incident) bool {
	_, _, ok := w.incident(i).Back("")
	return ok && w.goesBack && w.recovers
}
