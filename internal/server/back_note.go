package server

import (
	"context"
	"slices"

	"howdah/internal/audit"
	"howdah/internal/chat"
)

// mostWishes are remembered, so that a room that is read again puts none on the trail twice.
const mostWishes = 500

// wished are the wishes for ways back that are on the trail.
type wished struct {
	UpTo int64    `json:"up_to"` // of the log of #ops
	IDs  []string `json:"ids,omitempty"`
}

// hearWishes puts on the trail what was wished since.
func (w *watcher) hearWishes(ctx context.Context, rooms *chat.Rooms) error {
	for {
		wishes, upTo, err := rooms.Wishes(ctx, w.wished.UpTo, 100)
		if err != nil || upTo == w.wished.UpTo {
			return err
		}
		w.wished.UpTo = upTo
		for _, wish := range wishes {
			if slices.Contains(w.wished.IDs, wish.ID) {
				continue
			}
			w.wished.IDs = append(w.wished.IDs, wish.ID)
			w.wished.IDs = w.wished.IDs[max(0, len(w.wished.IDs)-mostWishes):]
			w.log.Info("a way back was wished for", "incident", wish.Incident, "by", wish.By.Name, "what", string(wish.What))
			w.notes = append(w.notes, audit.Event{Kind: audit.EventBack, Back: &audit.Back{ID: wish.ID, Way: wish.Way, Incident: wish.Incident, By: wish.By.Handle, Name: wish.By.Name, At: wish.At, What: string(wish.What)}})
		}
		w.flush()
		if err := w.save(); err != nil {
			return err
		}
	}
}
