package web

import (
	"crypto/sha256"
	"fmt"
	"slices"
	"strconv"
	"time"

	"howdah/internal/chat"
	"howdah/internal/lang"
	"howdah/internal/web/ui"
)

// Answering an alert: what a message of the house says of it to pages and programs, and the two ways in.

type alertJSON struct {
	Incident string       `json:"incident"`
	Part     int          `json:"part"`
	Severity string       `json:"severity"`
	Critical bool         `json:"critical"`
	State    chat.State   `json:"state"`
	Answers  []answerJSON `json:"answers"`
	Cover    *coverJSON   `json:"cover,omitempty"`
	Loud     []ruleJSON   `json:"loud"`
	Back     bool         `json:"back"`
}

type answerJSON struct {
	By    personJSON `json:"by"`
	What  chat.State `json:"what"`
	At    time.Time  `json:"at"`
	Until *time.Time `json:"until,omitempty"`
	Note  string     `json:"note,omitempty"`
}

type coverJSON struct {
	ID      string        `json:"id"`
	Actor   string        `json:"actor"`
	Network string        `json:"network"`
	Rules   []coveredJSON `json:"rules"`
}

// coveredJSON is a rule with the kinds of events and the applications for which it would be silent.
type coveredJSON struct {
	ruleJSON
	Kinds []string `json:"kinds"`
	Apps  []string `json:"apps"`
}

type ruleJSON struct {
	ID    string            `json:"id"`
	Title map[string]string `json:"title"` // language -> words
}

func toAlert(a *chat.Alert) *alertJSON {
	if a == nil {
		return nil
	}
	out := &alertJSON{Incident: a.Incident, Part: a.Part, Severity: a.Severity, Critical: a.Critical, State: a.State, Back: a.Back, Answers: []answerJSON{}, Loud: []ruleJSON{}}
	for _, n := range a.Answers {
		answer := answerJSON{By: toPerson(n.By), What: n.What, At: n.At.UTC().Truncate(time.Millisecond), Note: n.Note}
		if n.Until != nil {
			until := n.Until.UTC().Truncate(time.Millisecond)
			answer.Until = &until
		}
		out.Answers = append(out.Answers, answer)
	}
	if a.Cover != nil {
		out.Cover = &coverJSON{ID: a.Cover.ID(), Actor: a.Cover.Actor, Network: a.Cover.Network, Rules: []coveredJSON{}}
	}
	for _, r := range a.Rules {
		rule := ruleJSON{r.ID, r.Title}
		if rule.Title == nil {
			rule.Title = map[string]string{}
		}
		covered := coveredJSON{ruleJSON: rule}
		if a.Cover != nil {
			for _, act := range a.Cover.Acts {
				if act.Rule == r.ID {
					covered.Kinds, covered.Apps = addNew(covered.Kinds, act.Kind), addNew(covered.Apps, act.App)
				}
			}
		}
		if covered.Kinds != nil {
			out.Cover.Rules = append(out.Cover.Rules, covered)
		}
		if r.Loud || covered.Kinds == nil {
			out.Loud = append(out.Loud, rule)
		}
	}
	return out
}

func addNew(list []string, one string) []string {
	if slices.Contains(list, one) {
		return list
	}
	return append(list, one)
}

// pageAlert is an alert in the words of one language.
func pageAlert(in *chat.Alert, l lang.Locale) *ui.Alert {
	a := toAlert(in)
	if a == nil {
		return nil
	}
	title := func(r ruleJSON) string {
		for _, words := range []string{r.Title[string(l)], r.Title[string(lang.English)]} {
			if words != "" {
				return words
			}
		}
		return r.ID
	}
	out := &ui.Alert{Incident: a.Incident, Lost: a.Back, Critical: a.Critical, State: string(a.State), ClientID: chat.NewID()}
	for _, n := range a.Answers {
		answer := ui.Answer{By: n.By.Name, What: string(n.What), At: n.At, Note: n.Note}
		if n.Until != nil {
			answer.Until = *n.Until
		}
		out.Answers = append(out.Answers, answer)
	}
	if a.Cover != nil {
		out.Cover = &ui.Cover{ID: a.Cover.ID, Actor: a.Cover.Actor, Network: a.Cover.Network}
		for _, r := range a.Cover.Rules {
			out.Cover.Rules = append(out.Cover.Rules, ui.Covered{Title: title(r.ruleJSON), Kinds: r.Kinds, Apps: r.Apps})
		}
	}
	for _, r := range a.Loud {
		out.Loud = append(out.Loud, title(r))
	}
	return out
}

// watches says whether there is a page on which somebody can look at an incident more closely.
func (d *Door) watches(v *visit) bool {
	_, err := d.watch(v)
	return err == nil
}

func (d *Door) apiAnswer(v *visit) (any, error) {
	room, seq, err := v.numbers("room", "seq")
	if err != nil {
		return nil, err
	}
	var in struct {
		ClientID string `json:"client_id"`
		What     chat.State
		Days     int
		Cover    string
		Note     string
	}
	if err := v.body(&in); err != nil {
		return nil, err
	}
	return receipt(d.rooms.Answer(v.ctx(), v.me(), chat.AnswerDraft{Room: room, Seq: seq, ClientID: in.ClientID, What: in.What, Days: in.Days, Cover: in.Cover, Note: in.Note}))
}

func (d *Door) roomAnswer(v *visit) error {
	seq, err := v.number("seq")
	if err != nil {
		return err
	}
	return d.inRoomAt(fmt.Sprintf("?at=%d#m%d", seq, seq), func(v *visit, room int64) error {
		what := v.field("what")
		days, _ := strconv.Atoi(v.field("days")) // what is no number is no length of a mute
		_, err := d.rooms.Answer(v.ctx(), v.me(), chat.AnswerDraft{Room: room, Seq: seq, ClientID: idOfForm(v.field("client_id"), what), What: chat.State(what), Days: days, Cover: v.field("cover")})
		return err
	})(v)
}

// idOfForm is the client id of one button of a form: a page that somebody came back to has the form as it was, and another button is another answer.
func idOfForm(form, button string) string {
	sum := sha256.Sum256([]byte(form + " " + button))
	b := sum[:16]
	b[6], b[8] = b[6]&0x0f|0x80, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
