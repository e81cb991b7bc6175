package judge

import (
	"slices"
	"time"

	"howdah/internal/audit"
)

// Mute is what a person said is always fine from one source, until a moment. It covers what they were shown and nothing else: the acts that an incident had, by the
// same login role, from the same network, with the same application. What it covers is judged and remembered as ever, only nobody is told; and nothing is
// learned from it, so that the end of the mute is its end.
type Mute struct {
	Incident string    `json:"incident"` // whose answer it is; one mute for each
	By       string    `json:"by"`
	From     time.Time `json:"from"`
	Until    time.Time `json:"until"` // or when it was ended
	Actor    string    `json:"actor"`
	Network  string    `json:"network"`
	Acts     []Act     `json:"acts"`
}

// Act is what a rule found: a kind of event, by an application.
type Act = audit.Act

// mostActs bounds what one incident can offer to be muted.
const mostActs = 30

// keepMutes is how long a mute that is over is remembered, to be shown.
const keepMutes = 30 * 24 * time.Hour

// mutable says whether what a rule found can be muted at all. What is critical cannot, nor what touches the auditing itself: "always fine from this source" is just what
// whoever has taken over the source would say, and would like to have. A rule that is critical also stays loud where PostgreSQL refused, which shows that somebody tries.
func (r *Rule) mutable(e *Event, s Severity) bool {
	lowered := e.Habit.Routine && r.Routine != nil
	return !r.Loud && e.Actor != "" && s < Critical && (r.Severity < Critical || lowered)
}

func actOf(rule string, e *Event) Act {
	return Act{Rule: rule, Kind: e.Kind, App: clip(program(e.App), 100)}
}

// covers says whether a mute is for what a rule found of an event.
func (m *Mute) covers(rule string, e *Event) bool {
	return m.Actor == e.Actor && m.Network == network(e.Source) && !e.Time.Before(m.From) && e.Time.Before(m.Until) && slices.Contains(m.Acts, actOf(rule, e))
}

// muted names the incident whose mute covers this; "" when none does.
func (j *Judge) muted(rule *Rule, e *Event, s Severity) string {
	if len(j.state.Mutes) == 0 || !rule.mutable(e, s) {
		return ""
	}
	for i := range j.state.Mutes {
		if m := &j.state.Mutes[i]; m.covers(rule.ID, e) {
			return m.Incident
		}
	}
	return ""
}

// Mute takes a mute, in place of the one of the same incident. The same again is harmless.
func (j *Judge) Mute(m Mute) {
	j.Unmute(m.Incident, m.From)
	if m.Actor == "" || len(m.Acts) == 0 || !m.From.Before(m.Until) {
		return
	}
	j.state.Mutes = slices.DeleteFunc(j.state.Mutes, func(old Mute) bool { return old.Incident == m.Incident && !old.From.Before(m.From) })
	j.state.Mutes = append(j.state.Mutes, m)
}

// Unmute ends the mute of an incident; what it has covered so far stays covered.
func (j *Judge) Unmute(incident string, at time.Time) {
	for i := range j.state.Mutes {
		if m := &j.state.Mutes[i]; m.Incident == incident && at.Before(m.Until) {
			m.Until = at
		}
	}
}

// Mutes lists the mutes, oldest first, also those that are over but not long ago.
func (j *Judge) Mutes() []Mute { return slices.Clone(j.state.Mutes) }

// Cover is what of an incident a mute would cover; nil when nothing of it can be muted.
func (i *Incident) Cover() *Mute {
	if i.Actor == "" || len(i.Acts) == 0 {
		return nil
	}
	return &Mute{Incident: i.ID, Actor: i.Actor, Network: network(i.Source), Acts: slices.Clone(i.Acts)}
}
