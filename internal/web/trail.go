package web

import (
	"encoding/csv"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"time"

	"howdah/internal/account"
	"howdah/internal/fault"
	"howdah/internal/web/ui"
)

// The page of who changed what in the house, for those who run it.

// trailAsk reads what an address asks the trail for: action, by (a handle), person and room (ids), since, until, before.
func (d *Door) trailAsk(v *visit) (ask account.TrailAsk, f ui.TrailFilter, err error) {
	q := v.r.URL.Query()
	f = ui.TrailFilter{Action: ui.Asked(q.Get("action")), By: ui.Asked(q.Get("by")), Since: ui.Asked(q.Get("since")), Until: ui.Asked(q.Get("until"))}
	ask.Action = f.Action
	for name, into := range map[string]*int64{"person": &ask.Person, "room": &ask.Room, "before": &ask.Before} {
		if *into, err = v.query(name); err != nil {
			return ask, f, err
		}
	}
	f.Person, f.Room = ask.Person, ask.Room
	if f.By != "" {
		if ask.By, err = d.accounts.IDOf(v.ctx(), f.By); err != nil {
			return ask, f, err
		}
	}
	for raw, into := range map[*string]*time.Time{&f.Since: &ask.Since, &f.Until: &ask.Until} {
		if *raw == "" {
			continue
		}
		if *into, err = moment(*raw, zone(v.r)); err != nil {
			return ask, f, err
		}
	}
	if len(f.Until) == len(time.DateOnly) && !ask.Until.IsZero() {
		ask.Until = ask.Until.AddDate(0, 0, 1) // the whole day
	}
	return ask, f, nil
}

func (d *Door) trailPage(v *visit) error {
	if !v.me().Role.AtLeast(account.Admin) {
		return fault.New(fault.Forbidden, "account.admins_only")
	}
	c, err := d.chrome(v)
	if err != nil {
		return err
	}
	code := http.StatusOK
	ask, f, err := d.trailAsk(v)
	if err != nil {
		code = complaintStatus(err)
		if err := complain(&c, err); err != nil {
			return err
		}
		ask = account.TrailAsk{}
	}
	c.Title = v.lang.T("web.trail.heading")
	p := ui.TrailPage{Chrome: c, Filter: f, Export: "/trail/export.csv?" + f.Query(0).Encode()}
	for _, a := range account.Actions {
		p.Actions = append(p.Actions, string(a))
	}
	entries, more, err := d.accounts.Trail(v.ctx(), v.me(), ask)
	if err != nil {
		return err
	}
	for _, e := range entries {
		row := ui.TrailRow{ID: e.ID, At: e.At, Actor: e.Actor, Name: e.ActorName, Via: e.Via, Address: e.Address, Action: string(e.Action), Subject: e.Subject}
		row.Facts = facts(v, e)
		p.Entries = append(p.Entries, row)
	}
	if more {
		p.Older = "/trail?" + f.Query(entries[len(entries)-1].ID).Encode()
	}
	d.render(v.w, v.r, code, "deeds", p)
	return nil
}

// facts puts what was before and after into words.
func facts(v *visit, e account.Trace) (out []ui.Fact) {
	names := map[string]bool{}
	for _, facts := range []account.Facts{e.Before, e.After} {
		for name := range facts {
			names[name] = true
		}
	}
	say := func(facts account.Facts, name string) string {
		value, there := facts[name]
		if !there {
			return ""
		}
		if text, ok := value.(string); ok {
			if name == "role" && account.Role(text).Valid() {
				return v.lang.T("web.role." + text)
			}
			if at, err := time.Parse(time.RFC3339, text); err == nil {
				return (ui.Chrome{Locale: v.lang, Zone: zone(v.r)}).Moment(at)
			}
			return text
		}
		if on, ok := value.(bool); ok {
			return v.lang.T(map[bool]string{true: "web.trail.yes", false: "web.trail.no"}[on])
		}
		if days, ok := value.(float64); ok && name == "days" {
			if days == 0 {
				return v.lang.T("web.retention.ever")
			}
			return v.lang.T("web.retention.days", fault.Args{"n": int(days)})
		}
		raw, _ := json.Marshal(value) // it came from JSON
		return string(raw)
	}
	for name := range names {
		out = append(out, ui.Fact{Name: name, Before: say(e.Before, name), After: say(e.After, name)})
	}
	slices.SortFunc(out, func(a, b ui.Fact) int { return strings.Compare(a.Name, b.Name) })
	return out
}

type deedJSON struct {
	ID      int64          `json:"id"`
	At      time.Time      `json:"at"`
	ActorID *int64         `json:"actor_id"`
	Actor   string         `json:"actor"`
	Via     string         `json:"via"`
	Address string         `json:"address"`
	Action  account.Action `json:"action"`
	Person  *int64         `json:"person"`
	Room    *int64         `json:"room"`
	Subject string         `json:"subject"`
	Before  account.Facts  `json:"before"`
	After   account.Facts  `json:"after"`
}

func (d *Door) apiTrail(v *visit) (any, error) {
	if !v.me().Role.AtLeast(account.Admin) { // before it is looked who is asked about
		return nil, fault.New(fault.Forbidden, "account.admins_only")
	}
	ask, _, err := d.trailAsk(v)
	if err != nil {
		return nil, err
	}
	limit, err := v.query("limit")
	if err != nil {
		return nil, err
	}
	ask.Limit = int(min(limit, account.TrailLimit))
	entries, more, err := d.accounts.Trail(v.ctx(), v.me(), ask)
	if err != nil {
		return nil, err
	}
	out := make([]deedJSON, len(entries))
	for i, e := range entries {
		out[i] = deedJSON{e.ID, e.At.UTC(), e.ActorID, e.Actor, e.Via, e.Address, e.Action, e.Person, e.Room, e.Subject, e.Before, e.After}
	}
	older := int64(0)
	if more {
		older = entries[len(entries)-1].ID
	}
	return object{"entries": out, "older": older}, nil
}

// trailExport streams all that a filter chooses for a spreadsheet, the newest first.
func (d *Door) trailExport(v *visit) error {
	if !v.me().Role.AtLeast(account.Admin) {
		return fault.New(fault.Forbidden, "account.admins_only")
	}
	ask, _, err := d.trailAsk(v)
	if err != nil {
		return err
	}
	ask.Limit = account.TrailLimit
	entries, more, err := d.accounts.Trail(v.ctx(), v.me(), ask)
	if err != nil {
		return err
	}
	h := v.w.Header()
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Type", "text/csv; charset=utf-8; header=present")
	h.Set("Content-Disposition", `attachment; filename="howdah-changes-`+time.Now().UTC().Format("20060102-150405")+`.csv"`)
	controller := http.NewResponseController(v.w)
	_, _ = v.w.Write([]byte("\uFEFF")) // see csvWriter
	out := csv.NewWriter(v.w)
	out.UseCRLF = true
	_ = out.Write(account.TrailColumns) // into its buffer
	for {
		_ = controller.SetWriteDeadline(time.Now().Add(exportPause)) // where that cannot be set, the server's own holds
		for _, e := range entries {
			_ = out.Write(e.Columns())
		}
		out.Flush()
		if err = out.Error(); err == nil && !more {
			return nil
		}
		if err == nil {
			ask.Before = entries[len(entries)-1].ID
			entries, more, err = d.accounts.Trail(v.ctx(), v.me(), ask)
		}
		if err != nil {
			d.note(v.r, fault.Of(err))
			panic(http.ErrAbortHandler) // a file that breaks off must not look whole
		}
	}
}
