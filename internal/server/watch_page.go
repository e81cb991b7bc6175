package server

import (
	"time"

	"howdah/internal/audit/check"
	"howdah/internal/audit/index"
	"howdah/internal/pg"
	"howdah/internal/web"
)

// watchPage is what the page Watch is made from: the tables, and how the watch stands.
func (s *Server) watchPage(db *pg.Pool) *web.Watch {
	if s.options.Cluster == nil {
		return nil // somebody else's PostgreSQL, whose log is not ours to read
	}
	return &web.Watch{Trail: index.NewReader(db, TrailSource), State: func() web.WatchState {
		state := web.WatchState{}
		if shown := s.watch.watched.shown.Load(); shown != nil {
			state = *shown
			state.Behind = time.Duration(s.watch.watched.behind.Load()) * time.Millisecond
		}
		state.Missing, state.Late = s.watch.tables.behind()
		state.Troubles = s.watch.ails.lasting()
		if !s.watch.audits.Load() {
			state.Without = check.Without
		}
		return state
	}, EndMute: func(incident, by string) error { return EndMute(s.options.Cluster, incident, by) }}
}

// show notes for the page how the watch stands.
func (w *watcher) show() {
	state := web.WatchState{Rules: w.rules, Mutes: w.judge.Mutes()}
	if until, still := w.judge.Learning(); still && until.Year() > 1 { // else no line was read yet
		state.Learns = until
	}
	w.watched.shown.Store(&state)
}
