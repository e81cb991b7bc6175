package server

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"howdah/internal/audit/judge"
	"howdah/internal/chat"
	"howdah/internal/cluster"
	"howdah/internal/fault"
)

// hearPace is how often the watch looks for what was answered in the room. A mute counts from the moment of its answer, whenever it is heard.
const hearPace = time.Second

// remindPace is how often a database that went back is reminded of what was answered, while something is still to be told in it.
const remindPace = 15 * time.Second

// hear takes in what people answered since.
func (w *watcher) hear(ctx context.Context, rooms *chat.Rooms) error {
	if err := w.reopen(ctx, rooms); err != nil {
		return err
	}
	if w.forgot && (len(w.due) == 0 || time.Since(w.reminded) > remindPace) { // what is answered is told again by now, but for what waits for its transaction
		if err := rooms.Reanswer(ctx, w.answers); err != nil {
			return err
		}
		w.forgot, w.reminded = len(w.due) > 0, time.Now()
	}
	for {
		answers, upTo, more, err := rooms.Answers(ctx, w.answered, 200)
		if err != nil {
			return err
		}
		for _, a := range answers {
			w.answer(a)
		}
		w.answered = upTo
		if len(answers) > 0 {
			w.flush()
			if err := w.save(); err != nil {
				return err
			}
		}
		if !more {
			return nil
		}
	}
}

// mostAnswers and keepAnswers bound what is kept of answers beside the database. What is answered is about what was told, which is known for a day or two.
const (
	mostAnswers = 1000
	keepAnswers = 30 * 24 * time.Hour
)

// answer does what somebody answered.
func (w *watcher) answer(a chat.AnswerRecord) {
	if slices.ContainsFunc(w.answers, func(known chat.AnswerRecord) bool { return known.ID == a.ID }) {
		return // it is the room that heard it again
	}
	w.answers = slices.DeleteFunc(append(w.answers, a), func(old chat.AnswerRecord) bool { return a.At.Sub(old.At) > keepAnswers })
	w.answers = w.answers[max(0, len(w.answers)-mostAnswers):]
	if w.neighbours != nil && strings.Contains(a.Incident, between) { // it is for the watch of an adopted cluster
		w.neighbours.answered(w.answers)
		return
	}
	w.noteAnswer(a)
	w.changed(a.Incident)
	log := w.log.Info
	if i := w.judge.Incident(a.Incident); a.What == chat.Mine && i != nil && i.Severity >= judge.Critical {
		log = w.log.Warn // so says whoever has their account, too
	}
	log("an alert was answered", "incident", a.Incident, "by", a.By.Name, "answer", string(a.What))
	switch {
	case a.What == chat.Muted && a.Cover != nil && a.Until != nil:
		if mute, offered := w.mute(a); offered {
			w.judge.Mute(mute)
		} else {
			w.log.Warn("the room has a mute that was not offered there; it is not followed", "incident", a.Incident, "by", a.By.Name)
		}
	case a.What == chat.Reopened:
		w.judge.Unmute(a.Incident, a.At)
	}
}

// unmuteFiles hold what was answered at a terminal, each until the watch has done it: that needs no database, and nothing that runs.
const unmuteFiles = "unmute-*.json"

// unmute is one such wish.
type unmute struct {
	ID       string    `json:"id"` // of the answer that becomes of it
	Incident string    `json:"incident"`
	By       string    `json:"by"`
	At       time.Time `json:"at"`

	What chat.State `json:"what,omitempty"` // "" is chat.Reopened
}

// record is the answer that becomes of it.
func (u *unmute) record() chat.AnswerRecord {
	what := u.What
	if what == "" {
		what = chat.Reopened
	}
	return chat.AnswerRecord{ID: u.ID, Incident: u.Incident, Part: anyPart, Answer: chat.Answer{By: chat.Author{Name: u.By}, What: what, At: u.At}}
}

// Mutes are what the watch of a house is silent about, as it wrote them down last, which is when something was answered. It needs nothing that runs.
func Mutes(c *cluster.Cluster) ([]judge.Mute, error) {
	raw, err := c.ReadFile(watchFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var state watchState
	if err == nil {
		err = json.Unmarshal(raw, &state)
	}
	j := judge.New(nil, judge.Options{})
	if err == nil {
		err = j.Load(bytes.NewReader(state.Judge))
	}
	if err != nil {
		return nil, fault.Wrap(err, fault.Unavailable, "server.watch_file", fault.Args{"file": filepath.Join(c.Dir(), watchFile)})
	}
	wishes, _, err := unmutes(c)
	for _, u := range wishes {
		if u.What == "" {
			j.Unmute(u.Incident, u.At)
		}
	}
	return j.Mutes(), err
}

// EndMute asks the watch of a house to end a mute: at once where it runs, else when it runs again. by is who asks.
func EndMute(c *cluster.Cluster, incident, by string) error {
	return wish(c, unmute{ID: chat.NewID(), Incident: incident, By: by, At: time.Now().UTC()})
}

// Acknowledge answers an alert without the room, as EndMute does.
func Acknowledge(c *cluster.Cluster, incident, by string) error {
	return wish(c, unmute{ID: chat.NewID(), Incident: incident, By: by, At: time.Now().UTC(), What: chat.Acknowledged})
}

func wish(c *cluster.Cluster, u unmute) error {
	name := strings.Replace(unmuteFiles, "*", u.ID, 1)
	raw, err := json.Marshal(u)
	if err == nil {
		err = c.WriteFile(name, raw)
	}
	if err != nil {
		return fault.Wrap(err, fault.Unavailable, "server.watch_file", fault.Args{"file": filepath.Join(c.Dir(), name)})
	}
	return nil
}

// unmutes reads the wishes, and tells the files that they stand in.
func unmutes(c *cluster.Cluster) (wishes []unmute, files []string, err error) {
	if files, err = fs.Glob(os.DirFS(c.Dir()), unmuteFiles); err != nil {
		return nil, nil, err
	}
	for i, name := range files {
		file := filepath.Join(c.Dir(), name)
		files[i] = file
		raw, wrong := os.ReadFile(file)
		if wrong != nil {
			err = errors.Join(err, fault.Wrap(wrong, fault.Unavailable, "server.watch_file", fault.Args{"file": file}))
			continue
		}
		var u unmute
		if json.Unmarshal(raw, &u) == nil { // else it is none of ours
			wishes = append(wishes, u)
		}
	}
	return wishes, files, err
}

// mute is what an answer mutes: of what was offered, and for no longer than that. What the room says is what the database says, and whoever can write its rows could
// write themselves a mute.
func (w *watcher) mute(a chat.AnswerRecord) (m judge.Mute, offered bool) {
	cover := w.told[a.Incident].Cover
	if cover == nil || cover.Actor != a.Cover.Actor || cover.Network != a.Cover.Network {
		return m, false
	}
	m = judge.Mute{Incident: a.Incident, By: a.By.Handle, From: a.At, Until: *a.Until, Actor: cover.Actor, Network: cover.Network}
	if longest := time.Now().AddDate(0, 0, slices.Max(chat.MuteDays)); m.Until.After(longest) {
		m.Until = longest
	}
	for _, act := range a.Cover.Acts {
		if slices.Contains(cover.Acts, act) {
			m.Acts = append(m.Acts, judge.Act(act))
		}
	}
	return m, len(m.Acts) == len(a.Cover.Acts)
}

// obey ends the mutes that somebody at a terminal wants ended.
func (w *watcher) obey() {
	wishes, files, err := unmutes(w.cluster)
	if err != nil && !w.unread {
		w.log.Error("what was asked for at a terminal cannot be read", "error", err)
	}
	for _, u := range wishes {
		if u.What == "" {
			w.judge.Unmute(u.Incident, u.At)
		}
	}
	w.wishes, w.wishFiles, w.unread = wishes, files, err != nil
}

// reopen says in the room what was answered at a terminal.
func (w *watcher) reopen(ctx context.Context, rooms *chat.Rooms) error {
	if w.wishFiles == nil {
		return nil
	}
	var answers []chat.AnswerRecord
	for _, u := range w.wishes {
		answers = append(answers, u.record())
	}
	if err := rooms.Reanswer(ctx, answers); err != nil {
		return err
	}
	return w.granted()
}

// granted keeps what was asked for at a terminal, and then forgets that it was asked.
func (w *watcher) granted() error {
	if err := w.save(); err != nil {
		return err
	}
	var err error
	for _, file := range w.wishFiles {
		err = errors.Join(err, os.Remove(file))
	}
	w.wishes, w.wishFiles = nil, nil
	return err
}

// anyPart is beyond every part of an incident.
const anyPart = 1 << 30
