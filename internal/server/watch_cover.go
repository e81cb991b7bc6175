package server

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"sync"

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
func (s *Server) begun(session string) error {
	o := &s.own
	o.mu.Lock()
	defer o.mu.Unlock()
	o.known = append(o.known, session)
	raw, err := json.Marshal(o.known[max(0, len(o.known)-mostOwn):])
	if err != nil {
		return err
	}
	return s.options.Cluster.WriteFile(coverFile, raw)
}

// cover settles what our PostgreSQL has to log. That it cannot be settled is no reason to keep people out: it is said, and tried again at the next start.
func (s *Server) cover(ctx context.Context) {
	c, log := s.options.Cluster, s.options.Log
	s.own.mu.Lock()
	if s.own.known == nil {
		raw, err := c.ReadFile(coverFile)
		if err == nil {
			err = json.Unmarshal(raw, &s.own.known)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			log.Warn("which sessions of the past were the house's own is not known any more", "file", coverFile, "error", err)
		}
	}
	s.own.mu.Unlock()
	scope := s.options.Cover
	if scope == "" {
		scope = cover.Default
	}
	report, err := cover.Apply(ctx, cover.Options{Scope: scope, Database: cluster.Database, App: cluster.App, Watcher: cluster.Watcher, Auditor: cluster.Auditor, Ours: cluster.ConfName, Begun: s.begun,
		DSN: func(database string) (string, error) { return c.DSN(cluster.Superuser, database) }})
	if len(report.Changed) > 0 {
		log.Info("what PostgreSQL audits was settled", "cover", string(scope), "changed", report.Changed)
	}
	for _, own := range report.Left {
		log.Info("a setting of auditing is somebody's own and is left so", "setting", own.String())
	}
	if err != nil && ctx.Err() == nil {
		log.Error("what PostgreSQL audits could not be settled; the watch sees less than it should", "error", err, "hint", fault.Of(err).Key)
	}
}
