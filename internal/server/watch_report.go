package server

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"howdah/internal/audit"
	"howdah/internal/audit/judge"
	"howdah/internal/chat"
	"howdah/internal/fault"
	"howdah/internal/lang"
)

// The digest is a report of the trail that is said in #ops when it is time, from the moment of the last one to this one. What was missed is made up for by one.

// digests are what the watcher knows of them.
type digests struct {
	upTo   time.Time // what was reported
	rights string    // a hash of them, as they were noted last
	done   chan digest
	making bool      // one is being made
	ready  *digest   // made, and not said yet
	retry  time.Time // none is made before
}

// digest is a report that is ready to be said, or why there is none.
type digest struct {
	upTo time.Time
	text string
	err  error
}

// mostDigestSpan bounds what a house that was switched off for years reports.
const mostDigestSpan = 400 * 24 * time.Hour

const (
	digestRetry = time.Minute
	rightsPace  = time.Hour // how often is looked who may do what
)

// noteRights puts on the trail who may do what, when that has changed since it was noted last.
func (w *watcher) noteRights(now *audit.Rights) {
	if now == nil {
		return
	}
	raw, err := json.Marshal(now.Rows)
	sum := fmt.Sprintf("%s %x", now.At.Format("2006-01"), sha256.Sum256(raw)) // once a month in any case: what is old goes from the trail
	if err != nil || sum == w.digests.rights {
		return
	}
	w.digests.rights = sum
	w.notes = append(w.notes, audit.Event{Kind: audit.EventRights, Rights: now})
}

// digestDue is the newest moment at which a digest was due since the last one; zero when none was. The first one is due after a house has begun to watch.
func (w *watcher) digestDue(now time.Time) time.Time {
	if w.reports == nil {
		return time.Time{}
	}
	if w.digests.upTo.IsZero() || w.digests.upTo.After(now.Add(24*time.Hour)) { // the clock was set back
		w.digests.upTo = now
		return time.Time{}
	}
	if now.Sub(w.digests.upTo) > mostDigestSpan {
		w.digests.upTo = now.Add(-mostDigestSpan)
	}
	due := time.Time{}
	for at := w.reports.Next(w.digests.upTo); !at.IsZero() && !at.After(now); at = w.reports.Next(at) {
		due = at
	}
	return due
}

// digest begins a report when one is due, which may take until all ends, and says one that is ready.
func (w *watcher) digest(ctx, all context.Context, rooms *chat.Rooms) error {
	select {
	case d := <-w.digests.done:
		w.digests.making = false
		if d.err != nil {
			w.log.Error("the digest of the watch could not be made; it is tried again", "error", d.err)
			w.digests.retry = time.Now().Add(digestRetry)
			return nil
		}
		w.digests.ready = &d
	default:
	}
	if d := w.digests.ready; d != nil {
		// Its name is the moment of the schedule, so a kill before the next line says it once more under the same name: that is nothing new.
		heard, err := rooms.Announce(ctx, w.lang.T("web.ops.topic"), "digest "+d.upTo.UTC().Format(time.RFC3339), d.text)
		if err != nil || !heard {
			return err
		}
		w.digests.ready, w.digests.upTo = nil, d.upTo
		return w.save()
	}
	if w.digests.making || time.Now().Before(w.digests.retry) {
		return nil
	}
	if due := w.digestDue(time.Now()); !due.IsZero() {
		w.digests.making = true
		from, dir, rules, locale := w.digests.upTo, TrailDir(w.cluster), w.rules, w.lang
		go func() {
			r, err := audit.MakeReport(all, dir, from, due)
			d := digest{upTo: due, err: err}
			if err == nil {
				d.text = ReportText(r, rules, locale, true)
			}
			w.digests.done <- d
		}()
	}
	return nil
}

// Most lines of a part of a report; the JSON of howdah audit report has all.
const mostLines = 15

// ReportText is a report for people: Markdown for the room, or as a terminal shows it.
func ReportText(r *audit.Report, rules *judge.Rules, t lang.Locale, markdown bool) string {
	p := sheet{t: t, markdown: markdown}
	p.head("server.report.title", fault.Args{"from": minute(r.From), "to": minute(r.To)})
	if !r.Begins.Before(r.From) && !r.Begins.IsZero() {
		p.line(0, "server.report.begins", fault.Args{"begins": minute(r.Begins)})
	}
	if r.Missing > 0 {
		p.line(0, "server.report.missing", fault.Args{"count": r.Missing})
	}
	p.changes(r)
	p.incidents(r, rules)
	p.logins(r)
	p.sources(r)
	p.rights(r)
	return strings.TrimRight(p.b.String(), "\n") + "\n"
}

func minute(at time.Time) string { return at.Local().Format("2006-01-02 15:04") }

// sheet is a text as it grows.
type sheet struct {
	t        lang.Locale
	markdown bool
	b        strings.Builder
}

func (p *sheet) head(key string, args fault.Args) {
	if text := p.t.T(key, args); p.markdown {
		p.b.WriteString("\n**" + text + "**\n")
	} else {
		p.b.WriteString("\n" + text + "\n")
	}
}

func (p *sheet) line(deep int, key string, args fault.Args) {
	if p.markdown {
		p.b.WriteString(strings.Repeat("  ", deep) + "- " + p.t.T(key, args) + "\n")
	} else {
		p.b.WriteString(strings.Repeat("  ", deep+1) + p.t.T(key, args) + "\n")
	}
}

// more says how many lines were left out, and gives how many there are room for.
func (p *sheet) more(all int) (room int, rest func()) {
	room = min(all, mostLines)
	return room, func() {
		if all > room {
			p.line(0, "server.report.more", fault.Args{"count": all - room})
		}
	}
}

// name shows a name as it is, whatever is in it.
func (p *sheet) name(name string) string {
	if p.markdown {
		return code(name)
	}
	if name = strings.Join(strings.Fields(strings.Map(seen, name)), " "); name == "" {
		return "–"
	}
	return name
}

// plain is name for what is mostly our own word.
func (p *sheet) plain(name string) string {
	if p.markdown {
		return plainWords(name)
	}
	return p.name(name)
}

func (p *sheet) list(all []string) string { return strings.Join(all, p.t.T("cli.backup.comma")) }

func (p *sheet) counted(all []audit.Count, show func(string) string) string {
	var parts []string
	for _, c := range all[:min(len(all), 8)] {
		parts = append(parts, fmt.Sprintf("%s %d", show(c.Name), c.Count))
	}
	if len(all) > 8 {
		parts = append(parts, "…")
	}
	return p.list(parts)
}

func (p *sheet) changes(r *audit.Report) {
	p.head("server.report.changes", nil)
	room, rest := p.more(len(r.Roles))
	for _, one := range r.Roles[:room] {
		kinds := p.counted(one.Kinds, p.plain)
		if kinds == "" {
			kinds = p.t.T("server.report.nothing")
		}
		p.line(0, "server.report.role", fault.Args{"role": p.name(one.Role), "kinds": kinds})
		if len(one.Objects) > 0 {
			p.line(1, "server.report.objects", fault.Args{"objects": p.counted(one.Objects, p.name)})
		}
		for _, text := range one.Texts {
			p.line(1, "server.report.text", fault.Args{"text": p.name(text)})
		}
		if one.Refused > 0 {
			p.line(1, "server.report.refused", fault.Args{"count": one.Refused})
		}
	}
	if rest(); room == 0 {
		p.line(0, "server.report.nobody", nil)
	}
}

func (p *sheet) incidents(r *audit.Report, rules *judge.Rules) {
	all := slices.Clone(r.Incidents)
	open := 0
	for _, s := range all {
		if s.Open {
			open++
		}
	}
	slices.SortStableFunc(all, func(a, b *audit.Standing) int { // what is open comes first, and the newest of it
		left := func(s *audit.Standing) int {
			if s.Open {
				return 0
			}
			return 1
		}
		return cmp.Or(cmp.Compare(left(a), left(b)), b.Last.Compare(a.Last))
	})
	p.head("server.report.alerts", fault.Args{"count": len(all), "open": open})
	room, rest := p.more(len(all))
	for _, s := range all[:room] {
		title := s.Rule
		if rule := rules.ByID(s.Rule); rule != nil {
			if title = rule.Title[string(p.t)]; title == "" {
				title = rule.Title["en"]
			}
		}
		state := p.t.T("server.report.open")
		switch {
		case len(s.Answers) > 0 && !s.Open:
			last := s.Answers[len(s.Answers)-1]
			args := fault.Args{"name": p.name(cmp.Or(last.Name, last.By))}
			if last.Until != nil {
				args["until"] = minute(*last.Until)
			}
			state = p.t.T("web.js.alert.said."+last.What, args)
		case !s.Open:
			state = p.t.T("web.js.alert.state.muted")
		}
		p.line(0, "server.report.alert", fault.Args{"when": minute(s.Began), "severity": p.t.T("server.watch.severity." + s.Severity), "title": title, "role": p.name(s.Actor), "source": p.name(s.Source),
			"state": state, "incident": s.ID})
	}
	rest()
}

func (p *sheet) logins(r *audit.Report) {
	if len(r.Logins) == 0 {
		return
	}
	p.head("server.report.logins", nil)
	room, rest := p.more(len(r.Logins))
	for _, f := range r.Logins[:room] {
		p.line(0, "server.report.login", fault.Args{"role": p.name(f.Role), "source": p.name(f.Source), "count": f.Count, "when": minute(f.Last)})
	}
	rest()
}

func (p *sheet) sources(r *audit.Report) {
	if len(r.Sources) == 0 {
		return
	}
	p.head("server.report.sources", nil)
	room, rest := p.more(len(r.Sources))
	for _, s := range r.Sources[:room] {
		p.line(0, "server.report.source", fault.Args{"role": p.name(s.Role), "source": p.name(s.Source), "app": p.name(s.App), "when": minute(s.First), "count": s.Count})
	}
	rest()
}

func (p *sheet) rights(r *audit.Report) {
	if r.Now == nil {
		p.head("server.report.rights", nil)
		p.line(0, "server.report.rights.unknown", nil)
		return
	}
	p.head("server.report.rights.at", fault.Args{"at": minute(r.Now.At)})
	holders := map[string][]string{}
	others := map[string]int{}
	var powers []string
	for _, right := range r.Now.Rows {
		if right.Kind != audit.RightPower {
			others[right.Kind]++
			continue
		}
		if holders[right.What] == nil {
			powers = append(powers, right.What)
		}
		holders[right.What] = append(holders[right.What], p.name(right.Who))
	}
	slices.Sort(powers)
	for _, power := range powers {
		p.line(0, "server.report.power", fault.Args{"power": strings.ToUpper(power), "roles": p.list(holders[power])})
	}
	p.line(0, "server.report.others", fault.Args{"members": others[audit.RightMember], "owners": others[audit.RightOwner], "public": others[audit.RightPublic]})
	if r.Before == nil || !r.Before.At.Before(r.Now.At) {
		p.line(0, "server.report.first", nil)
		return
	}
	gained, lost := r.Now.Compare(r.Before)
	if len(gained)+len(lost) == 0 {
		p.line(0, "server.report.same", fault.Args{"since": minute(r.Before.At)})
		return
	}
	p.line(0, "server.report.since", fault.Args{"since": minute(r.Before.At)})
	for _, part := range []struct {
		sign string
		rows []audit.Right
	}{{"+", gained}, {"−", lost}} {
		room, rest := p.more(len(part.rows))
		for _, right := range part.rows[:room] {
			p.line(1, "server.report.right."+right.Kind, fault.Args{"sign": part.sign, "who": p.name(right.Who), "what": p.name(right.What)})
		}
		rest()
	}
}
