package web

import (
	"fmt"
	"net/http"
	"strconv"
	"time"

	"howdah/internal/chat"
	"howdah/internal/fault"
	"howdah/internal/web/ui"
)

// For how long a room keeps what is said in it, and the house where rooms say nothing: first what a rule would take, then the rule.

// ruled reads a rule from a form or an address: rule is house, ever or days, and days a number. asked is false where there is none.
func ruled(rule, days string) (own *int, asked bool, err error) {
	zero := 0
	switch rule {
	case "":
		return nil, false, nil
	case "house":
		return nil, true, nil
	case "ever":
		return &zero, true, nil
	}
	n, err := strconv.Atoi(days)
	if rule != "days" || err != nil || n < 1 {
		return nil, true, fault.New(fault.Invalid, "web.retention_days")
	}
	return &n, true, nil
}

// roomOf is the room of the path; 0 for the house.
func (v *visit) roomOf() (int64, error) {
	if v.r.PathValue("room") == "" {
		return 0, nil
	}
	return v.number("room")
}

func (d *Door) retentionPage(v *visit) error {
	q := v.r.URL.Query()
	own, asked, err := ruled(q.Get("rule"), q.Get("days"))
	if err != nil {
		return d.showRetention(v, complaintStatus(err), err, nil, false)
	}
	return d.showRetention(v, http.StatusOK, nil, own, asked)
}

func (d *Door) showRetention(v *visit, code int, problem error, own *int, asked bool) error {
	room, err := v.roomOf()
	if err != nil {
		return err
	}
	p := ui.RetentionPage{Action: "/retention"}
	var held chat.Retention
	if room == 0 {
		p.May = true
		if held.Days, held.From, err = d.rooms.HouseRetention(v.ctx(), v.me()); err != nil {
			return err
		}
	} else {
		r, err := d.rooms.Room(v.ctx(), v.me(), room)
		if err != nil {
			return err
		}
		if held, p.May, err = d.rooms.Retention(v.ctx(), v.me(), room); err != nil {
			return err
		}
		p.Room, p.Action = pageRoom(r), fmt.Sprintf("/room/%d/retention", room)
		p.House, p.ByHouse = held.House, held.Own == nil
	}
	if p.Chrome, err = d.chrome(v); err != nil {
		return err
	}
	if problem != nil {
		if err := complain(&p.Chrome, problem); err != nil {
			return err
		}
	}
	p.Title = v.lang.T("web.retention.heading")
	p.Days, p.From = held.Days, held.From
	if p.Rule = "days"; held.Days == 0 {
		p.Rule = "ever"
	}
	if p.ByHouse {
		p.Rule = "house"
	}
	p.Typed = held.Days
	if asked && problem == nil && p.May {
		plan, err := d.rooms.PlanRetention(v.ctx(), v.me(), room, own)
		switch {
		case err != nil && (fault.Is(err, fault.Internal) || fault.Is(err, fault.Unavailable)):
			return err
		case err != nil:
			code = complaintStatus(err)
			if err := complain(&p.Chrome, err); err != nil {
				return err
			}
		default:
			p.Rule, p.Typed = "house", plan.Days
			if own != nil {
				if p.Rule = "days"; *own == 0 {
					p.Rule = "ever"
				}
			}
			p.Plan = &ui.RetentionPlan{Days: plan.Days, From: plan.From, Upto: plan.Upto, Rooms: plan.Rooms, Messages: int(plan.Messages), Files: int(plan.Files), Bytes: plan.Bytes, Oldest: plan.Oldest}
		}
	}
	if d.options.Backups != nil {
		p.Backups = true
		gone := time.Now()
		if p.Plan != nil && !p.Plan.From.IsZero() {
			gone = p.Plan.From
		} else if held.From.After(gone) {
			gone = held.From
		}
		p.Held = d.options.Backups(gone)
	}
	d.render(v.w, v.r, code, "retention", p)
	return nil
}

func (d *Door) retentionSet(v *visit) error {
	room, err := v.roomOf()
	if err != nil {
		return err
	}
	if err := v.form(); err != nil {
		return err
	}
	own, asked, err := ruled(v.field("rule"), v.field("days"))
	if err == nil && !asked {
		err = fault.New(fault.Invalid, "web.retention_days")
	}
	switch {
	case err != nil:
	case room != 0:
		_, err = d.rooms.SetRetention(v.ctx(), v.me(), room, own)
	case own == nil:
		err = fault.New(fault.Invalid, "web.retention_days")
	default:
		err = d.rooms.SetHouseRetention(v.ctx(), v.me(), *own)
	}
	if err != nil {
		if fault.HasKey(err, "chat.no_room") {
			return err
		}
		return d.showRetention(v, complaintStatus(err), err, nil, false)
	}
	redirect(v, v.r.URL.Path+"?done=saved")
	return nil
}

func (d *Door) retentionJSON(held chat.Retention) object {
	out := object{"days": held.Days, "own": held.Own, "house": held.House, "from": nil, "backups_until": nil}
	if !held.From.IsZero() {
		out["from"] = held.From.UTC()
		if d.options.Backups != nil {
			gone := held.From
			if now := time.Now(); gone.Before(now) {
				gone = now
			}
			if until := d.options.Backups(gone); !until.IsZero() {
				out["backups_until"] = until.UTC()
			}
		}
	}
	return out
}

func (d *Door) heldJSON(v *visit, room int64) (any, error) {
	if room == 0 {
		days, from, err := d.rooms.HouseRetention(v.ctx(), v.me())
		return d.retentionJSON(chat.Retention{House: days, Days: days, From: from}), err
	}
	held, _, err := d.rooms.Retention(v.ctx(), v.me(), room)
	return d.retentionJSON(held), err
}

func (d *Door) apiRetention(v *visit) (any, error) {
	room, err := v.roomOf()
	if err != nil {
		return nil, err
	}
	return d.heldJSON(v, room)
}

func (d *Door) apiSetRetention(v *visit) (any, error) {
	room, err := v.roomOf()
	if err != nil {
		return nil, err
	}
	var in struct{ Days *int }
	if err := v.body(&in); err != nil {
		return nil, err
	}
	switch {
	case room != 0:
		_, err = d.rooms.SetRetention(v.ctx(), v.me(), room, in.Days)
	case in.Days == nil:
		err = fault.New(fault.Invalid, "web.retention_days")
	default:
		err = d.rooms.SetHouseRetention(v.ctx(), v.me(), *in.Days)
	}
	if err != nil {
		return nil, err
	}
	return d.heldJSON(v, room)
}

// apiPlanRetention tells what a rule would take: days (0: for ever), or without it, what holds where rooms have none of their own.
func (d *Door) apiPlanRetention(v *visit) (any, error) {
	room, err := v.roomOf()
	if err != nil {
		return nil, err
	}
	var days *int
	if raw := v.r.URL.Query().Get("days"); raw != "" {
		n, err := strconv.Atoi(raw)
		if err != nil {
			return nil, fault.New(fault.Invalid, "web.retention_days")
		}
		days = &n
	}
	p, err := d.rooms.PlanRetention(v.ctx(), v.me(), room, days)
	if err != nil {
		return nil, err
	}
	out := object{"days": p.Days, "rooms": p.Rooms, "messages": p.Messages, "files": p.Files, "bytes": p.Bytes, "from": nil, "upto": nil, "oldest": nil, "backups_until": nil}
	for name, at := range map[string]time.Time{"from": p.From, "upto": p.Upto, "oldest": p.Oldest} {
		if !at.IsZero() {
			out[name] = at.UTC()
		}
	}
	if d.options.Backups != nil && !p.From.IsZero() {
		if until := d.options.Backups(p.From); !until.IsZero() {
			out["backups_until"] = until.UTC()
		}
	}
	return out, nil
}
