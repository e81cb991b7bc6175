package web

import (
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"time"

	"howdah/internal/audit"
	"howdah/internal/audit/index"
	"howdah/internal/audit/judge"
	"howdah/internal/fault"
	"howdah/internal/lang"
	"howdah/internal/web/ui"
)

// telling puts what the trail has into a person's words. All of it comes from outside: it is clipped, and what would not be seen is named.
type telling struct {
	rules *judge.Rules // nil: only the keys are known
	lang  lang.Locale
}

func (t telling) title(rule string) string {
	if t.rules != nil {
		if r := t.rules.ByID(rule); r != nil {
			for _, words := range []string{r.Title[string(t.lang)], r.Title[string(lang.English)]} {
				if words != "" {
					return words
				}
			}
		}
	}
	return ui.Seen(rule, mostName)
}

// incident is how an incident stands, as the tables have it.
func (t telling) incident(in index.Incident) ui.Incident {
	out := ui.Incident{ID: in.ID, Severity: severityOf(in.Severity), Title: t.title(in.Rule), State: "open", Began: in.Began, Last: in.Last, Role: in.Actor, Actor: ui.Seen(in.Actor, mostName),
		Source: ui.Seen(in.Source, mostName), App: ui.Seen(in.App, mostName), DB: ui.Seen(in.DB, mostName), Count: in.Count, Sessions: in.Sessions[:min(len(in.Sessions), 20)]}
	const mostReasons, mostObjects, mostFates = 12, 20, 20
	for _, reason := range in.Reasons[:min(len(in.Reasons), mostReasons)] {
		said := ui.Reason{Text: reason.Key}
		if t.rules != nil {
			said = ui.Reason{Text: t.rules.Text(reason, string(t.lang)), Advice: t.rules.Advice(reason, string(t.lang))}
		}
		out.Reasons = append(out.Reasons, ui.Reason{Text: ui.Seen(said.Text, 1000), Advice: ui.Seen(said.Advice, 1000)})
	}
	for _, name := range in.Objects[:min(len(in.Objects), mostObjects)] {
		out.Objects = append(out.Objects, ui.Seen(name, mostName))
	}
	committed := false
	for i, tx := range in.Transactions {
		committed = committed || tx.Fate == "committed"
		if i >= mostFates {
			continue
		}
		fate := tx.Fate
		switch fate {
		case "committed", "aborted", "unknown":
		default:
			fate = "running"
		}
		out.Fates = append(out.Fates, ui.Fate{TXID: strconv.FormatUint(tx.ID, 10), Fate: fate})
	}
	if committed && gravity(in.Severity) >= gravity("high") {
		out.Back = "howdah restore --to DIR --at " + in.Began.Add(-time.Millisecond).UTC().Format("2006-01-02T15:04:05.000Z07:00") // a record is written before its transaction commits
	}
	if in.Muted != "" {
		out.State = audit.Muted
	}
	if a := in.Answer; a != nil {
		switch a.What {
		case audit.Acknowledged, audit.Mine, audit.Muted, audit.Reopened:
			out.State = a.What
		}
		out.By, out.Note = ui.Seen(a.Name, mostName), ui.Seen(a.Note, 400)
		if a.Until != nil {
			out.Until = *a.Until
		}
	}
	return out
}

// entry is a row of the table. It belongs to an incident when it is one of its session within its time.
func (t telling) entry(e *audit.Entry, lists ...[]ui.Incident) ui.WatchEntry {
	row := ui.WatchEntry{Seq: e.Seq, At: e.Time, Who: ui.Seen(e.User, mostName), App: ui.Seen(e.App, mostName), Source: ui.Seen(e.Host, mostName), DB: ui.Seen(e.DB, mostName), Session: e.SessionID,
		Class: ui.WatchClass(e.Class()), Command: ui.Seen(e.Command(), mostName), Object: ui.Seen(e.Object(), mostName), Outcome: e.Outcome(), Line: e.LineNum, TXID: e.TXID, Rows: -1}
	text := e.Message
	switch {
	case e.Event != nil:
		t.event(&row, e.Event)
		return row
	case e.Audit != nil:
		text, row.Rows = e.Statement, e.Audit.Rows
	case e.Severity != "LOG" && e.Severity != "":
		text = e.Severity + ": " + text
	}
	row.Text = ui.Seen(text, 400)
	if e.SessionID == "" || row.Class == "login" {
		return row
	}
	for _, list := range lists {
		for i := range list {
			in := &list[i]
			if e.Time.Before(in.Began) || e.Time.After(in.Last) || gravity(in.Severity) <= gravity(row.Severity) {
				continue
			}
			for _, session := range in.Sessions {
				if session == e.SessionID {
					row.Incident, row.Severity = in.ID, in.Severity
				}
			}
		}
	}
	return row
}

// event is what is on the trail beside the log's lines.
func (t telling) event(row *ui.WatchEntry, v *audit.Event) {
	switch {
	case v.Incident != nil:
		i := v.Incident
		row.Who, row.App, row.Source, row.DB = ui.Seen(i.Actor, mostName), ui.Seen(i.App, mostName), ui.Seen(i.Source, mostName), ui.Seen(i.DB, mostName)
		row.Incident, row.Severity = i.ID, severityOf(i.Severity)
		key := "web.watch.event.incident"
		if i.Muted != "" {
			key = "web.watch.event.muted"
		}
		row.Text = t.lang.T(key, fault.Args{"title": t.title(i.Rule)})
		if t.rules != nil && len(i.Reasons) > 0 {
			row.Text += "\n" + ui.Seen(t.rules.Text(i.Reasons[0], string(t.lang)), 1000)
		}
	case v.Answer != nil:
		a := v.Answer
		row.Incident, row.Severity = a.Incident, "informational"
		args := fault.Args{"name": ui.Seen(a.Name, mostName)}
		if a.Until != nil {
			args["until"] = a.Until.UTC().Format("2006-01-02 15:04 UTC")
		}
		switch a.What {
		case audit.Acknowledged, audit.Mine, audit.Muted, audit.Reopened:
			row.Text = t.lang.T("web.js.alert.said."+a.What, args)
		default:
			row.Text = ui.Seen(a.What, mostName)
		}
		if a.Note != "" {
			row.Text = t.lang.T("web.js.alert.note", fault.Args{"said": row.Text, "note": ui.Seen(a.Note, 400)})
		}
	default:
		kind := v.Kind
		args := fault.Args{"from": v.From, "to": v.To, "file": ui.Seen(v.File, 200), "offset": v.Offset, "length": v.Length, "why": ui.Seen(v.Why, mostName), "since": "?"}
		if v.Since != nil {
			args["since"] = v.Since.UTC().Format("2006-01-02 15:04:05 UTC")
		}
		switch {
		case kind == audit.EventSkipped && v.Length < 0:
			kind = "lost"
		case kind == audit.EventRemoved && v.Removed != nil:
			row.Text = t.lang.T("web.watch.event.removed", fault.Args{"from": v.Removed.From, "to": v.Removed.To})
			return
		case !slices.Contains([]string{audit.EventSkipped, audit.EventLineGap, audit.EventStatementGap, audit.EventUnwritten, audit.EventUnfit, audit.EventRights, audit.EventBack}, kind): // a later release's
			row.Text = ui.Seen(kind, mostName)
			return
		}
		row.Text = t.lang.T("web.watch.event."+kind, args)
	}
}

// whole is an entry with all that its line has.
func (t telling) whole(e *audit.Entry, incidents []ui.Incident) ui.WatchEntry {
	row := t.entry(e, incidents)
	row.State = ui.Seen(e.State, 10)
	if e.Event != nil {
		if e.Event.Rights != nil {
			if raw, err := json.MarshalIndent(e.Event.Rights, "", "  "); err == nil {
				cut := strings.ToValidUTF8(string(raw[:min(len(raw), mostText)]), "")
				row.Cut = len(raw) - len(cut)
				row.Text += "\n" + ui.Seen(cut, 0)
			}
		}
		return row
	}
	text, message := e.Message, ""
	if e.Audit != nil {
		text, message = e.Statement, e.Message
	} else if e.Severity != "LOG" && e.Severity != "" {
		text = e.Severity + ": " + text
	}
	if len(text) > mostText {
		cut := strings.ToValidUTF8(text[:mostText], "")
		row.Cut, text = len(text)-len(cut), cut
	}
	row.Text = ui.Seen(text, 0)
	note := func(name, text string) {
		if text != "" {
			row.Notes = append(row.Notes, ui.Note{Name: t.lang.T("web.watch.note." + name), Text: ui.Seen(text, 2000)})
		}
	}
	note("message", message)
	if e.Audit == nil {
		note("statement", e.Statement)
	} else {
		note("parameter", e.Audit.Parameter)
		if e.Audit.Rows >= 0 {
			note("rows", strconv.FormatInt(e.Audit.Rows, 10))
		}
	}
	note("detail", e.Detail)
	note("hint", e.Hint)
	note("context", e.Context)
	if e.TXID > 0 {
		note("transaction", strconv.FormatInt(e.TXID, 10))
	}
	return row
}
