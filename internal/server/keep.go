package server

import (
	"context"
	"os"
	"time"

	"howdah/internal/cluster"
	"howdah/internal/fault"
	"howdah/internal/keeper"
)

// Keeping says how the server's own PostgreSQL is kept from being lost. That its WAL is archived, the cluster's Options say.
type Keeping struct {
	Settings keeper.Settings // of archive_command; which cluster it is, is filled in here
	File     string          // where they are written to
	Repos    []keeper.Source
	When     map[keeper.Kind]keeper.When
	First    time.Duration // from the start to a backup that is missing or overdue
}

// writeSettings makes archive_command know what it is to do. The cluster is made by now and need not run.
func (s *Server) writeSettings(ctx context.Context) error {
	k := s.options.Keeping
	id, err := keeper.IdentityOf(ctx, s.options.Cluster)
	if err != nil {
		return err
	}
	k.Settings.Identity = id
	if err := os.MkdirAll(k.Settings.Spool, 0o700); err != nil {
		return fault.Wrap(err, fault.Unavailable, "keeper.spool", fault.Args{"dir": k.Settings.Spool})
	}
	return k.Settings.Save(k.File)
}

// keep makes backups, beside all else, until ctx ends.
func (s *Server) keep(ctx context.Context) {
	k, c, log := s.options.Keeping, s.options.Cluster, s.options.Log
	for _, source := range k.Repos {
		r, err := source.Open(ctx) // makes it: the first segment of WAL comes soon
		if err != nil {
			if ctx.Err() == nil {
				log.Error("a repository cannot be used; PostgreSQL keeps its WAL until it can", "error", err)
			}
			continue
		}
		if keeper.SameDisk(r, c.DataDir()) {
			log.Warn("the backups are on the same disk as the data", "error", fault.New(fault.Conflict, "keeper.same_disk", fault.Args{"place": r.String()}))
		}
	}
	schedule := keeper.Schedule{Cluster: k.Settings.Cluster, Dir: c.Dir(), When: k.When, First: k.First, Repos: k.Repos, Report: s.backupEvent,
		Server: func() (keeper.Server, error) {
			dsn, err := c.DSN(cluster.Superuser, "postgres")
			return keeper.Server{DSN: dsn, Programs: c.Installation()}, err
		},
		Replication: func() (string, error) { return c.DSN(cluster.Replicator, "postgres") },
	}
	schedule.Run(ctx)
}

// backupEvent logs what the schedule does.
func (s *Server) backupEvent(e keeper.Event) {
	log := s.options.Log.With("kind", string(e.Kind), "repo", e.Repo)
	switch {
	case e.Err != nil && e.ID != "":
		log.Error("a backup was made of damaged data", "id", e.ID, "error", e.Err)
	case e.Err != nil:
		log.Error("a backup failed", "error", e.Err, "retry_in", e.Retry)
	case e.ID != "":
		log.Info("a backup was made", "id", e.ID, "took", e.Took.Round(time.Millisecond))
	default:
		log.Info("a backup is being made")
	}
}
