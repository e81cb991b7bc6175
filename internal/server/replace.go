package server

import (
	"context"
	"time"

	"howdah/internal/cluster"
	"howdah/internal/fault"
	"howdah/internal/keeper"
)

// lookForReplacement is how often it is looked whether the data directory is to be replaced: by howdah restore, in another process.
const lookForReplacement = 250 * time.Millisecond

// follow carries out replacements of the data directory until ctx ends. An error is why the house can't go on.
func (s *Server) follow(ctx context.Context) error {
	tick := time.NewTicker(lookForReplacement)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		asked, err := keeper.Asked(s.options.Cluster.Dir())
		if asked == nil && err == nil {
			continue
		}
		if err == nil {
			err = s.replace(ctx)
		}
		if err != nil && ctx.Err() == nil {
			return err
		}
	}
}

// replace takes people to the waiting page, puts the new data directory in its place, and brings everything up on it.
func (s *Server) replace(ctx context.Context) error {
	c, log := s.options.Cluster, s.options.Log
	s.replacing.Store(fault.New(fault.Unavailable, "server.replacing"))
	s.rooms.Load().Look() // it tells all who are connected
	began := time.Now()
	log.Info("the data directory is being replaced; people are told to wait")
	done, err := keeper.Replace(ctx, c)
	switch {
	case err != nil && (done == nil || done.Error == ""):
		return err
	case err != nil:
		log.Error("the data directory could not be replaced; the old one is used as before", "error", err)
	case done != nil:
		log.Info("the data directory was replaced", "timeline", done.Timeline, "old", done.Aside)
	}
	// The server is let in by nobody but us until the schema is what this program knows: the new one may be from before a migration.
	if err := s.patiently(ctx, func() error { return c.Start(ctx) }); err != nil {
		return err
	}
	s.cover(ctx) // the new one may be from before it was so
	if s.options.OwnerDSN, err = c.DSN(cluster.Owner, cluster.Database); err != nil {
		return err
	}
	if err := s.migrate(ctx); err != nil {
		return err
	}
	s.replacing.Store(nil)
	s.rooms.Load().Look()
	s.watch.tables.doubted()
	if s.backupNow != nil {
		select {
		case s.backupNow <- struct{}{}:
		default:
		}
	}
	log.Info("people can come in again", "after", time.Since(began).Round(time.Millisecond))
	if err := keeper.LetIn(c.Dir()); err != nil { // howdah restore waits for it, or for our end
		log.Warn("howdah restore cannot be told", "error", err)
	}
	return nil
}

// finishReplacement carries out a replacement that was asked for while nobody ran the house, or by somebody who was killed over it.
func (s *Server) finishReplacement(ctx context.Context) error {
	done, err := keeper.Replace(ctx, s.options.Cluster)
	switch {
	case err != nil && done != nil && done.Error != "":
		s.options.Log.Error("the data directory could not be replaced; the old one is used as before", "error", err)
		return nil
	case err != nil:
		return err
	case done != nil:
		s.options.Log.Info("the data directory was replaced, as howdah restore had asked", "timeline", done.Timeline, "old", done.Aside)
	}
	return nil
}
