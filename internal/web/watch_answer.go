package web

import (
	"net/url"
	"slices"
	"strconv"
	"time"

	"howdah/internal/audit/judge"
	"howdah/internal/chat"
	"howdah/internal/fault"
	"howdah/internal/web/ui"
)

// What can be answered on the page Watch: the same as under the message in #ops, by the same calls.

// back is the address of the page that a form was on.
func (v *visit) back() string {
	u, err := url.Parse(v.field("back"))
	if err != nil {
		return "/watch"
	}
	return ui.ReadWatchFilter(u.Query()).With()
}

// watchAnswer is the form of an alert on the page.
func (d *Door) watchAnswer(v *visit) error {
	if _, err := d.watch(v); err != nil {
		return err
	}
	return d.showing(v, d.showWatch, func() (string, error) {
		incident := ui.Asked(v.r.PathValue("incident"))
		room, about, err := d.rooms.Alerts(v.ctx(), v.me(), []string{incident})
		if err != nil {
			return "", err
		}
		m, told := about[incident]
		if !told {
			return "", fault.New(fault.NotFound, "web.watch_untold")
		}
		what := v.field("what")
		days, _ := strconv.Atoi(v.field("days")) // what is no number is no length of a mute
		_, err = d.rooms.Answer(v.ctx(), v.me(), chat.AnswerDraft{Room: room, Seq: m.Seq, ClientID: idOfForm(v.field("client_id"), what), What: chat.State(what), Days: days, Cover: v.field("cover")})
		return v.back(), err
	})
}

// watchUnmute ends a mute: in the room where it was answered, so that it stands there; and where that is gone, past it.
func (d *Door) watchUnmute(v *visit) error {
	w, err := d.watch(v)
	if err != nil {
		return err
	}
	return d.showing(v, d.showWatch, func() (string, error) {
		incident := ui.Asked(v.r.PathValue("incident"))
		if !slices.ContainsFunc(w.State().Mutes, func(m judge.Mute) bool { return m.Incident == incident }) {
			return "", fault.New(fault.NotFound, "web.watch_no_mute")
		}
		room, about, err := d.rooms.Alerts(v.ctx(), v.me(), []string{incident})
		if err != nil {
			return "", err
		}
		if m, told := about[incident]; told {
			_, err = d.rooms.Answer(v.ctx(), v.me(), chat.AnswerDraft{Room: room, Seq: m.Seq, ClientID: idOfForm(v.field("client_id"), "unmute"), What: chat.Reopened})
		} else {
			err = w.EndMute(incident, v.me().Handle)
		}
		return v.back(), err
	})
}

// mutes are what the watch is silent about now, those that end first before the others.
func (t telling) mutes(all []judge.Mute, now time.Time) []ui.Mute {
	var shown []ui.Mute
	for _, m := range all {
		if !now.Before(m.Until) {
			continue
		}
		out := ui.Mute{Incident: m.Incident, Actor: ui.Seen(m.Actor, mostName), Network: ui.Seen(m.Network, mostName), By: ui.Seen(m.By, mostName), From: m.From, Until: m.Until, ClientID: chat.NewID()}
		rules := map[string]int{}
		for _, act := range m.Acts {
			at, known := rules[act.Rule]
			if !known {
				at = len(out.Rules)
				rules[act.Rule] = at
				out.Rules = append(out.Rules, ui.Covered{Title: t.title(act.Rule)})
			}
			r := &out.Rules[at]
			r.Kinds, r.Apps = addNew(r.Kinds, ui.Seen(act.Kind, mostName)), addNew(r.Apps, ui.Seen(act.App, mostName))
		}
		shown = append(shown, out)
	}
	slices.SortStableFunc(shown, func(a, b ui.Mute) int { return a.Until.Compare(b.Until) })
	return shown
}
