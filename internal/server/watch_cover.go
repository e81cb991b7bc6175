package server

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"howdah/internal/audit/cover"
	"howdah/internal/cluster"
	"howdah/internal/fault"
)

// coverFile holds the sessions in which the house itself changed what is audited, so that a watch that reads the log from its beginning knows them again.
const coverFile = "cover.json"

// mostOwn bounds what is kept of them; a house that changes nothing at a start opens a few all the same.
const mostOwn = 400

// ownSessions are the sessions of the house that change what is audited.
type ownSessions struct {
	mu    sync.Mutex
	known []string
	next  int // of known, what the judge has not been told of
}

// fresh are those that came since it was called last.
func (o *ownSessions) fresh() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	news := o.known[o.next:len(o.known):len(o.known)]
	o.next = len(o.known)
	return news
}

func (o *ownSessions) all() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.next = len(o.known)
	return append([]string(nil), o.known...)
}

// begun notes a session before it changes anything: after a kill, too, its records are ours.
func (w *watch) begun(session string) error {
	o := &w.own
	o.mu.Lock()
	defer o.mu.Unlock()
	o.known = append(o.known, session)
	raw, err := json.Marshal(o.known[max(0, len(o.known)-mostOwn):])
	if err != nil {
		return err
	}
	return w.cluster.WriteFile(coverFile, raw)
}

// loadOwn reads which sessions of the past were ours.
func (w *watch) loadOwn() {
	w.own.mu.Lock()
	defer w.own.mu.Unlock()
	if w.own.known != nil {
		return
	}
	raw, err := w.cluster.ReadFile(coverFile)
	if err == nil {
		err = json.Unmarshal(raw, &w.own.known)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		w.log.Warn("which sessions of the past were the house's own is not known any more", "file", coverFile, "error", err)
	}
}

// announcedFiles hold the numbers of sessions that another process of the house is about to use for what would otherwise alarm: to look at passwords' hashes, say. Who can write them can write all
// that the watch knows.
const announcedFiles = "session-*.own"

// Announce gives a function with which another process than the house's own notes a session of its before it does anything, so that the watch knows it again.
func Announce(c *cluster.Cluster) func(session string) error {
	return func(session string) error {
		return c.WriteFile(strings.Replace(announcedFiles, "*", session, 1), nil)
	}
}

// announced takes over the sessions that other processes have noted. Their files were there before their records were.
func (w *watch) announced() error {
	c := w.cluster
	files, err := fs.Glob(os.DirFS(c.Dir()), announcedFiles)
	for _, name := range files {
		before, after, _ := strings.Cut(announcedFiles, "*")
		if begun := w.begun(strings.TrimSuffix(strings.TrimPrefix(name, before), after)); begun != nil {
			err = errors.Join(err, begun)
			continue
		}
		err = errors.Join(err, os.Remove(filepath.Join(c.Dir(), name)))
	}
	return err
}

// How often it is tried to settle the cover while that fails.
const (
	coverPace = time.Second // at first; twice as long each time
	coverRest = 5 * time.Minute
)

// cover settles what our PostgreSQL has to log. That it cannot be settled is no reason to keep people out: it is said, in #ops as well, and tried again until it is.
func (s *Server) cover(ctx context.Context) {
	s.covering.Lock() // the data directory may be replaced while an older try is under way
	if s.coverRetry != nil {
		s.coverRetry()
	}
	retrying, stop := context.WithCancel(ctx)
	s.coverRetry = stop
	s.covering.Unlock()
	if s.settleCover(ctx) {
		return
	}
	s.keeping.Go(func() {
		for pause := coverPace; ; pause = min(2*pause, coverRest) {
			timer := time.NewTimer(pause)
			select {
			case <-retrying.Done():
				timer.Stop()
				return
			case <-timer.C:
			}
			if s.replacing.Load() == nil && s.trouble.Load() == nil && s.settleCover(retrying) {
				return
			}
		}
	})
}

// resettle settles the cover again whenever the watch finds that something is not as it should be.
func (s *Server) resettle(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.watch.unsettled:
			if s.replacing.Load() == nil && s.trouble.Load() == nil {
				s.cover(ctx)
			}
		}
	}
}

// settleCover tries to; it says whether there is nothing left to be done.
func (s *Server) settleCover(ctx context.Context) bool {
	c, log := s.options.Cluster, s.options.Log
	s.watch.loadOwn()
	scope := s.options.Cover
	if scope == "" {
		scope = cover.Default
	}
	trying, done := context.WithTimeout(ctx, coverLimit)
	defer done()
	report, err := cover.Apply(trying, cover.Options{Scope: scope, Database: cluster.Database, App: cluster.App, Watcher: cluster.Watcher, Auditor: cluster.Auditor, Ours: cluster.ConfName, Begun: s.watch.begun,
		DSN: func(database string) (string, error) { return c.DSN(cluster.Superuser, database) }})
	if len(report.Changed) > 0 {
		log.Info("PostgreSQL was told what to write down for the watch", "cover", string(scope), "changes", len(report.Changed))
		log.Debug("what was changed for that", "changed", report.Changed)
	}
	for _, own := range report.Left {
		log.Info("a setting of auditing is somebody's own and is left so", "setting", own.String())
	}
	if err == nil {
		if since := s.watch.heal(troubleCover); !since.IsZero() {
			log.Info("what PostgreSQL audits could be settled at last", "after", time.Since(since).Round(time.Second))
		}
		return true
	}
	if ctx.Err() != nil {
		return true // nobody wants it any more
	}
	if s.watch.ail(troubleCover, fault.Of(err)) {
		log.Error("what PostgreSQL audits could not be settled; the watch sees less than it should, and it is tried again", "error", err)
	}
	return false
}

// coverLimit is how long one try may take: a table that somebody has locked keeps it waiting.
const coverLimit = time.Minute
