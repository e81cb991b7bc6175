package server

import (
	"context"
	"time"

	"howdah/internal/audit/judge"
	"howdah/internal/chat"
)

// hearPace is how often the watch looks for what was answered in the room. A mute counts from the moment of its answer, whenever it is heard.
const hearPace = time.Second

// hear takes in what people answered since.
func (w *watcher) hear(ctx context.Context, rooms *chat.Rooms) error {
	if time.Since(w.asked) < hearPace {
		return nil
	}
	w.asked = time.Now()
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
			if err := w.save(); err != nil {
				return err
			}
		}
		if !more {
			return nil
		}
	}
}

// answer does what somebody answered.
func (w *watcher) answer(a chat.AnswerRecord) {
	w.s.options.Log.Info("an alert was answered", "incident", a.Incident, "by", a.By.Handle, "answer", string(a.What))
	switch {
	case a.What == chat.Muted && a.Cover != nil && a.Until != nil:
		mute := judge.Mute{Incident: a.Incident, By: a.By.Handle, From: a.At, Until: *a.Until, Actor: a.Cover.Actor, Network: a.Cover.Network}
		for _, act := range a.Cover.Acts {
			mute.Acts = append(mute.Acts, judge.Act(act))
		}
		w.judge.Mute(mute)
	case a.What == chat.Reopened:
		w.judge.Unmute(a.Incident, a.At)
	}
}
