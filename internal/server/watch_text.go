package server

import (
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"howdah/internal/audit/judge"
	"howdah/internal/fault"
)

// What an incident is in the words of people. All names in it are anybody's: they are shown as they are, and never read as Markdown.

// text is an incident as people read it in the room.
func (w *watcher) text(i *judge.Incident) string {
	t, say := w.lang, string(w.lang)
	var b strings.Builder
	title := ""
	if rule := w.gravest(i); rule != nil {
		if title = rule.Title[say]; title == "" {
			title = rule.Title["en"]
		}
	}
	title = t.T("server.watch.title", fault.Args{"severity": t.T("server.watch.severity." + i.Severity.String()), "title": plainWords(title)})
	restore := "howdah restore --to DIR --at "
	if name := w.name(); name != "" {
		title = t.T("server.alert.title.of", fault.Args{"cluster": plainWords(name), "title": title})
		restore = "howdah restore " + strings.Join(w.flags, " ") + " --to DIR --at "
	}
	b.WriteString("**" + title + "**\n")
	fresh, before := w.reasons(i)
	listed := 0
	advised := map[string]bool{}
	for _, reasons := range [][]judge.Reason{fresh, before} {
		if listed > 0 && len(reasons) > 0 {
			b.WriteString("\n" + t.T("server.watch.before") + "\n\n")
		}
		for _, reason := range reasons {
			if listed++; listed > mostReasons {
				b.WriteString("- …\n")
				break
			}
			plain := plainReason(reason)
			b.WriteString("- " + w.rules.Text(plain, say) + "\n")
			if do := w.rules.Advice(plain, say); do != "" && !advised[do] {
				advised[do] = true
				b.WriteString("  - " + do + "\n")
			}
		}
	}
	when := i.Began.UTC().Format("2006-01-02 15:04:05")
	if i.Last.Sub(i.Began) >= time.Second {
		when += " – " + i.Last.UTC().Format("15:04:05")
	}
	b.WriteString("\n" + t.T("server.watch.who", fault.Args{"role": code(i.Actor), "source": code(i.Source), "app": code(i.App), "database": code(i.DB), "when": when}))
	if n := len(i.TXIDs); n > 0 {
		ids := make([]string, 0, n)
		for _, id := range i.TXIDs[:min(n, 5)] {
			fate := w.fate[id]
			if fate == "" {
				fate = "running"
			}
			ids = append(ids, t.T("server.watch.transaction", fault.Args{"id": strconv.FormatUint(id, 10), "fate": t.T("server.watch.fate." + fate)}))
		}
		if n > 5 {
			ids = append(ids, "…")
		}
		b.WriteString("\n" + strings.Join(ids, t.T("cli.backup.comma")))
	}
	if i.Failed > 0 {
		b.WriteString("\n" + t.T("server.watch.failed", fault.Args{"count": i.Failed}))
	}
	if len(i.Objects) > 1 {
		names := make([]string, 0, 10)
		for _, name := range i.Objects[:min(len(i.Objects), 10)] {
			names = append(names, code(name))
		}
		if len(i.Objects) > 10 {
			names = append(names, "…")
		}
		b.WriteString("\n" + t.T("server.watch.objects", fault.Args{"objects": strings.Join(names, t.T("cli.backup.comma"))}))
	}
	if i.Count > len(i.Reasons) {
		b.WriteString("\n" + t.T("server.watch.count", fault.Args{"count": i.Count}))
	}
	if way := w.back(t, i, code); way != nil {
		b.WriteString("\n" + strings.Join(way, "\n"))
	} else if i.Severity >= judge.High && w.goesBack && slices.ContainsFunc(i.TXIDs, func(id uint64) bool { return w.fate[id] == "committed" }) {
		before := beforeRecord(w.told[i.ID].Since).Format("2006-01-02T15:04:05.000Z07:00")
		b.WriteString("\n" + t.T("server.watch.back", fault.Args{"command": code(restore + before)}))
	}
	return b.String()
}

// reasons are what is new in an incident since its last message, and what was told before.
func (w *watcher) reasons(i *judge.Incident) (fresh, before []judge.Reason) {
	had := w.told[i.ID].Had
	fresh = slices.Clone(i.Reasons[min(had.Reasons, len(i.Reasons)):])
	before = slices.Clone(i.Reasons[:min(had.Reasons, len(i.Reasons))])
	for _, more := range i.Further {
		if more.N > had.Things {
			fresh = append(fresh, more.Reason)
		} else {
			before = append(before, more.Reason)
		}
	}
	return fresh, before
}

// code shows a name as it is, whatever is in it.
func code(name string) string {
	name = strings.Map(func(r rune) rune {
		if r == '`' || r < ' ' {
			return '\''
		}
		return seen(r)
	}, name)
	if name == "" {
		return "–"
	}
	return "`" + name + "`"
}

// plainReason is a reason whose arguments are shown as they are: the sentences are those of the rules, the names are anybody's.
func plainReason(r judge.Reason) judge.Reason {
	out := judge.Reason{Key: r.Key, Args: make(map[string]string, len(r.Args))}
	for name, value := range r.Args {
		out.Args[name] = plainWords(value)
	}
	for _, why := range r.Why {
		out.Why = append(out.Why, plainReason(why))
	}
	return out
}

// plainWords keeps what others named, a role or a table, from being read as Markdown.
func plainWords(text string) string {
	var b strings.Builder
	for _, r := range text {
		switch {
		case r == '\n' || r == '\r':
			r = ' '
		case strings.ContainsRune("\\`*_[]<>|~#@&", r):
			b.WriteByte('\\')
		}
		b.WriteRune(seen(r))
	}
	return b.String()
}

// seen shows what would not be seen, or would turn around what stands beside it, as a mark.
func seen(r rune) rune {
	if unicode.Is(unicode.Cf, r) || unicode.Is(unicode.Cc, r) || unicode.Is(unicode.Zl, r) || unicode.Is(unicode.Zp, r) {
		return '\uFFFD'
	}
	return r
}
