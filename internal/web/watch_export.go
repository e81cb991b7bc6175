package web

import (
	"encoding/csv"
	"encoding/json"
	"net/http"
	"strconv"
	"time"

	"howdah/internal/account"
	"howdah/internal/audit"
	"howdah/internal/audit/index"
	"howdah/internal/fault"
	"howdah/internal/web/ui"
)

// The trail for programs and spreadsheets: the same filter as the page's.

// apiWatch says how the watch stands: little enough to be asked every few seconds.
func (d *Door) apiWatch(v *visit) (any, error) {
	w, err := d.watch(v)
	if err != nil {
		return nil, err
	}
	seq, _, err := w.Trail.Level(v.ctx())
	if err != nil {
		return nil, err
	}
	state := w.State()
	var learns *time.Time
	if !state.Learns.IsZero() {
		until := state.Learns.UTC().Truncate(time.Millisecond)
		learns = &until
	}
	return object{"seq": seq, "missing": state.Missing, "behind_ms": state.Behind.Milliseconds(), "running": state.Rules != nil, "learns_until": learns}, nil
}

// entryJSON is an entry with its place and what it is filtered by; the same as howdah audit search --json.
type entryJSON struct {
	Seq int64 `json:"seq"`
	*audit.Entry
	Class   string `json:"class"`
	Outcome string `json:"outcome,omitempty"`
}

func toEntry(e *audit.Entry) entryJSON { return entryJSON{e.Seq, e, e.Class(), e.Outcome()} }

func toEntries(entries []audit.Entry) []entryJSON {
	out := make([]entryJSON, len(entries))
	for i := range entries {
		out[i] = toEntry(&entries[i])
	}
	return out
}

// asked reads the filter of an address. Where it says nothing, a page asks for what it shows then, and a program (all) for everything.
func (v *visit) asked(all bool) (audit.Filter, error) {
	q := ui.ReadWatchFilter(v.r.URL.Query())
	if all && q.Last == "" {
		q.Last = "all"
	}
	if all && q.Class == "" {
		q.Class = ui.EveryClass
	}
	from, to, _, err := span(&q, zone(v.r), time.Now())
	if err != nil {
		return audit.Filter{}, err
	}
	if q.To == "" {
		to = time.Time{}
	}
	return chosen(q, from, to), nil
}

func (d *Door) apiWatchEntries(v *visit) (any, error) {
	w, err := d.watch(v)
	if err != nil {
		return nil, err
	}
	f, err := v.asked(true)
	if err != nil {
		return nil, err
	}
	if f.Before, err = audit.ParseCursor(v.r.URL.Query().Get("before")); err != nil {
		return nil, err
	}
	limit, err := v.query("limit")
	if err != nil {
		return nil, err
	}
	f.Limit = int(min(limit, 1000))
	page, err := w.Trail.Entries(v.ctx(), f)
	if err != nil {
		return nil, err
	}
	return object{"entries": toEntries(page.Entries), "older": page.More.String()}, nil
}

func (d *Door) apiWatchSession(v *visit) (any, error) {
	w, err := d.watch(v)
	if err != nil {
		return nil, err
	}
	after, err := v.query("after")
	if err != nil {
		return nil, err
	}
	session := ui.Asked(v.r.PathValue("session"))
	entries, err := w.Trail.Session(v.ctx(), session, after)
	if err != nil {
		return nil, err
	}
	if len(entries) == 0 && after == 0 {
		return nil, fault.New(fault.NotFound, "web.watch_session", fault.Args{"id": ui.Seen(session, mostName)})
	}
	return object{"entries": toEntries(entries)}, nil
}

type incidentJSON struct {
	audit.Incident
	Open       bool          `json:"open"`
	Title      string        `json:"title"`
	Text       []string      `json:"text"`
	Answer     *audit.Answer `json:"answer,omitempty"` // the last
	AnsweredAt *time.Time    `json:"answered_at,omitempty"`
}

func (d *Door) apiWatchIncidents(v *visit) (any, error) {
	w, err := d.watch(v)
	if err != nil {
		return nil, err
	}
	q := v.r.URL.Query()
	found, err := w.Trail.Incidents(v.ctx(), index.IncidentFilter{Open: q.Get("open") == "true", Before: ui.Asked(q.Get("before")), Limit: mostIncidents})
	if err != nil {
		return nil, err
	}
	rules := w.State().Rules
	words := telling{rules, v.lang}
	out := make([]incidentJSON, len(found))
	for i, one := range found {
		out[i] = incidentJSON{one.Incident, one.Open, words.title(one.Rule), []string{}, one.Answer, one.AnsweredAt}
		for _, reason := range one.Reasons {
			text := reason.Key
			if rules != nil {
				text = rules.Text(reason, string(v.lang))
			}
			out[i].Text = append(out[i].Text, text)
		}
	}
	return object{"incidents": out}, nil
}

const (
	exportPause = time.Minute // how long who takes an export may take for a piece of it
	exportPiece = 500         // entries
)

// watchExport streams all that a filter chooses as a file: csv or jsonl.
func (d *Door) watchExport(form string) handler {
	return func(v *visit) error {
		w, err := d.watch(v)
		if err != nil {
			return err
		}
		f, err := v.asked(false)
		if err != nil {
			return err
		}
		started := false
		var take func(*audit.Entry) error
		var flush func() error
		begin := func() {
			started = true
			h := v.w.Header()
			h.Set("Cache-Control", "no-store")
			h.Set("Content-Disposition", `attachment; filename="howdah-trail-`+time.Now().UTC().Format("20060102-150405")+"."+form+`"`)
			if form == "csv" {
				h.Set("Content-Type", "text/csv; charset=utf-8; header=present")
				take, flush = csvWriter(v.w)
				return
			}
			h.Set("Content-Type", "application/x-ndjson; charset=utf-8")
			lines := json.NewEncoder(v.w)
			lines.SetEscapeHTML(false)
			take, flush = func(e *audit.Entry) error { return lines.Encode(toEntry(e)) }, func() error { return nil }
		}
		controller := http.NewResponseController(v.w)
		n := 0
		err = w.Trail.Stream(v.ctx(), f, func(e *audit.Entry) error {
			if n%exportPiece == 0 {
				_ = controller.SetWriteDeadline(time.Now().Add(exportPause)) // where that cannot be set, the server's own holds
			}
			n++
			if !started {
				begin()
			}
			return take(e)
		})
		if !started && err == nil {
			begin()
		}
		if started && err == nil {
			err = flush()
		}
		if started && err != nil {
			d.note(v.r, fault.Of(err))
			panic(http.ErrAbortHandler) // a file that breaks off must not look whole
		}
		return err
	}
}

// csvColumns are those of the export, in the order of csvRow.
var csvColumns = []string{"seq", "time", "class", "outcome", "role", "source", "application", "database", "command", "object", "statement", "message", "sqlstate", "detail", "hint", "context",
	"parameters", "rows", "transaction", "session", "line", "pid", "event"}

// csvWriter writes entries as RFC 4180 has it. It begins with a byte order mark: this file is for spreadsheets, which without one read UTF-8 as whatever is usual on
// that machine, on a Taiwanese one as Big5; programs have the JSON lines.
func csvWriter(w http.ResponseWriter) (take func(*audit.Entry) error, flush func() error) {
	out := csv.NewWriter(w)
	out.UseCRLF = true
	_, _ = w.Write([]byte("\uFEFF")) // who is gone is found out at the next flush
	_ = out.Write(csvColumns)        // into its buffer
	return func(e *audit.Entry) error { return out.Write(csvRow(e)) }, func() error {
		out.Flush()
		return out.Error()
	}
}

func csvRow(e *audit.Entry) []string {
	number := func(n int64) string {
		if n <= 0 {
			return ""
		}
		return strconv.FormatInt(n, 10)
	}
	parameter, rows, event := "", "", ""
	if r := e.Audit; r != nil {
		parameter = r.Parameter
		if r.Rows >= 0 {
			rows = strconv.FormatInt(r.Rows, 10)
		}
	}
	if e.Event != nil {
		if raw, err := json.Marshal(e.Event); err == nil {
			event = string(raw)
		}
	}
	row := []string{number(e.Seq), e.Time.UTC().Format("2006-01-02T15:04:05.000Z"), e.Class(), e.Outcome(), e.User, e.Host, e.App, e.DB, e.Command(), e.Object(), e.Statement, e.Message,
		e.State, e.Detail, e.Hint, e.Context, parameter, rows, number(e.TXID), e.SessionID, number(e.LineNum), number(int64(e.PID)), event}
	for i := range row {
		row[i] = account.Cell(row[i])
	}
	return row
}
