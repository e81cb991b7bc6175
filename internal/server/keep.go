package server

import (
	"context"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"time"

	"howdah/internal/cluster"
	"howdah/internal/fault"
	"howdah/internal/keeper"
	"howdah/internal/wal"
)

// Keeping says how the server's own PostgreSQL is kept from being lost. That its WAL is archived, the cluster's Options say.
type Keeping struct {
	Settings keeper.Settings // of archive_command; which cluster it is, is filled in here
	File     string          // where they are written to
	Repos    []keeper.Source
	When     map[keeper.Kind]keeper.When
	Clean    *keeper.Retention // what stays in the repos
	First    time.Duration     // from the start to a backup that is missing or overdue
	// Stream sends WAL to the repos as it is written, beside archiving; StreamEvery is keeper.Stream's Every.
	Stream      bool
	StreamEvery time.Duration
	Flags       []string // what commands of the keeper need beside their own, to find the same house and repos
	// Recover has another process recover (howdah recover ARGS) and is told each line that it says; nil: nobody can.
	Recover func(ctx context.Context, args []string, line func([]byte)) error
	// Told hears how it is kept, about every minute; nil: nobody wants to know.
	Told func(*keeper.Status)
	// Drill makes a drill of one of the repos.
	Drill func(ctx context.Context, address string) (report string, err error)
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

// openRepos opens the repos, which makes those that are not there yet, and notes which are on the disk of the data. PostgreSQL may have WAL to archive as soon as it
// is started: it would fail, say so, and wait a minute.
func (s *Server) openRepos(ctx context.Context) {
	defer close(s.opened)
	for _, source := range s.options.Keeping.Repos {
		r, err := source.Open(ctx)
		if err != nil {
			if ctx.Err() == nil {
				s.options.Log.Error("a repository cannot be used; PostgreSQL keeps its WAL until it can", "error", err)
			}
			continue
		}
		if keeper.SameDisk(r, s.options.Cluster.DataDir()) {
			s.sameDisk = append(s.sameDisk, r.String())
		}
	}
}

// repoPatience is how long a start of PostgreSQL waits for the repos: one that hangs is no reason not to start.
const repoPatience = 2 * time.Second

// keep makes backups, beside all else, until ctx ends.
func (s *Server) keep(ctx context.Context) {
	k, c, log := s.options.Keeping, s.options.Cluster, s.options.Log
	select {
	case <-s.opened:
	case <-ctx.Done():
		return
	}
	for _, place := range keeper.TellOnce(filepath.Join(c.Dir(), "same-disk.json"), s.sameDisk) { // howdah status says it always
		log.Warn("the backups are on the same disk as the data", "error", fault.New(fault.Conflict, "keeper.same_disk", fault.Args{"place": place}))
	}
	if c.Installation().Version.Major < keeper.IncrementsSince || k.When[keeper.Physical] == nil { // they need full ones
		delete(k.When, keeper.Incremental)
	}
	schedule := keeper.Schedule{Cluster: k.Settings.Cluster, Dir: c.Dir(), When: k.When, First: k.First, Repos: k.Repos, Drill: k.Drill, Clean: k.Clean, Report: func(e keeper.Event) { LogBackup(log, e) }, Now: s.backupNow,
		Timeline: func(ctx context.Context) (wal.Timeline, error) { return keeper.TimelineOf(ctx, c) },
		Server: func() (keeper.Server, error) {
			dsn, err := c.DSN(cluster.Superuser, "postgres")
			return keeper.Server{DSN: dsn, Programs: c.Installation()}, err
		},
		Replication: func() (string, error) { return c.DSN(cluster.Replicator, "postgres") },
	}
	s.keeping.Go(func() { s.lookAfter(ctx) })
	s.stream(ctx)
	schedule.Run(ctx)
}

// stream begins to stream WAL into each repo, when that is wanted, and lets go of slots from a time when more was.
func (s *Server) stream(ctx context.Context) {
	k, c := s.options.Keeping, s.options.Cluster
	replicator := func() (string, error) { return c.DSN(cluster.Replicator, "postgres") }
	var slots []string
	for _, source := range k.Repos {
		if !k.Stream {
			break
		}
		slot := keeper.SlotName(k.Settings.Cluster, source.Address)
		slots = append(slots, slot)
		stream := keeper.Stream{Cluster: k.Settings.Cluster, Repo: source, DSN: replicator, Slot: slot, Every: k.StreamEvery, State: keeper.StreamFile(c.Dir(), slot),
			Report: s.streamEvent}
		s.keeping.Go(func() { stream.Run(ctx) })
	}
	dsn, err := replicator()
	if err == nil {
		err = keeper.DropSlots(ctx, dsn, c.Dir(), slots)
	}
	if err != nil && ctx.Err() == nil {
		s.options.Log.Warn("a replication slot that is not needed any more could not be dropped", "error", err)
	}
}

// streamEvent logs what happens to a stream.
func (s *Server) streamEvent(e keeper.StreamEvent) {
	log := s.options.Log.With("repo", e.Repo)
	switch {
	case e.Err != nil:
		log.Error("WAL is not streamed; archiving goes on", "error", e.Err, "retry_in", e.Retry)
	case e.Lost:
		log.Warn("the slot for streaming was lost, because it was too far behind; it is made anew, and what it missed is archived")
	case e.Began:
		log.Info("WAL is streamed")
	}
}

// lookAfter keeps what the metrics tell of backups fresh.
func (s *Server) lookAfter(ctx context.Context) {
	k, c := s.options.Keeping, s.options.Cluster
	tick := time.NewTicker(time.Minute)
	defer tick.Stop()
	seen, line := map[string]keeper.Seen{}, &keeper.Line{}
	defer line.Close(context.WithoutCancel(ctx))
	for {
		opt := keeper.StatusOptions{Seen: seen, Line: line, Name: k.Settings.Cluster, Cluster: c, Dir: c.Dir(), Repos: k.Repos, When: k.When, Also: s.watch.ails.concerns()}
		if dsn, err := c.DSN(cluster.Watcher, "postgres"); err == nil {
			opt.Server.DSN = dsn
		}
		if status := keeper.Look(ctx, opt); ctx.Err() == nil {
			s.kept.Store(status)
			if k.Told != nil {
				k.Told(status)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// keepingGauges tell Prometheus what howdah status tells people, at most a minute old. Ages of what there is not are NaN.
func (s *Server) keepingGauges(gauge func(name, help string, value func() float64)) {
	of := func(value func(*keeper.Status) float64) func() float64 {
		return func() float64 {
			if status := s.kept.Load(); status != nil {
				return value(status)
			}
			return math.NaN()
		}
	}
	// Where there are several repos, the one that is worst off counts.
	worst := func(value func(keeper.RepoStatus) float64) func() float64 {
		return of(func(status *keeper.Status) float64 {
			n := math.Inf(-1)
			for _, r := range status.Repos {
				n = math.Max(n, value(r)) // NaN when one is
			}
			return n
		})
	}
	age := func(last *keeper.LastRun) float64 {
		if last == nil {
			return math.NaN()
		}
		return time.Since(last.Began).Seconds()
	}
	gauge("howdah_keeper_level", "How well the database is kept: 0 good, 1 warning, 2 critical; howdah status says why.",
		of(func(status *keeper.Status) float64 { return float64(status.Level) }))
	gauge("howdah_archive_ready_segments", "WAL segments that wait to be archived.",
		of(func(status *keeper.Status) float64 { return float64(status.Archive.Ready) }))
	gauge("howdah_archive_lag_seconds", "Age of the oldest WAL segment that waits to be archived.",
		of(func(status *keeper.Status) float64 { return status.Archive.Lag }))
	if s.options.Keeping.Stream {
		stream := func(value func(*keeper.StreamStatus) float64) func() float64 {
			return worst(func(r keeper.RepoStatus) float64 {
				if r.Stream == nil {
					return math.NaN()
				}
				return value(r.Stream)
			})
		}
		gauge("howdah_stream_active", "1 while WAL is streamed into all repositories.", of(func(status *keeper.Status) float64 {
			for _, r := range status.Repos {
				if r.Stream == nil || !r.Stream.Active {
					return 0
				}
			}
			return 1
		}))
		gauge("howdah_stream_lag_bytes", "WAL on the server's disk that is not streamed into every repository yet.",
			stream(func(st *keeper.StreamStatus) float64 { return float64(st.Bytes) }))
		gauge("howdah_stream_lag_seconds", "For how long it is not.", stream(func(st *keeper.StreamStatus) float64 { return st.Lag }))
	}
	gauge("howdah_archive_failing", "1 while archive_command fails.", of(func(status *keeper.Status) float64 {
		if status.Archive.Failing {
			return 1
		}
		return 0
	}))
	gauge("howdah_backup_failed_runs", "Scheduled backups that failed since the last that did not.", of(func(status *keeper.Status) (n float64) {
		for _, f := range status.Failures {
			n += float64(f.Count)
		}
		return n
	}))
	gauge("howdah_wal_disk_free_bytes", "What is left on the disk of pg_wal.",
		of(func(status *keeper.Status) float64 { return float64(status.Disk.Free) }))
	gauge("howdah_base_backup_age_seconds", "Age of the newest good base backup.", worst(func(r keeper.RepoStatus) float64 { return age(r.Physical) }))
	gauge("howdah_logical_backup_age_seconds", "Age of the newest dump of everything.", worst(func(r keeper.RepoStatus) float64 { return age(r.Logical) }))
	drill := func(value func(*keeper.LastDrill) float64) func() float64 {
		return worst(func(r keeper.RepoStatus) float64 {
			if r.Drill == nil {
				return math.NaN()
			}
			return value(r.Drill)
		})
	}
	gauge("howdah_drill_age_seconds", "Age of the newest restore drill.", drill(func(d *keeper.LastDrill) float64 { return time.Since(d.Began).Seconds() }))
	gauge("howdah_drill_restore_seconds", "How long the newest drill took to restore the newest moment.", drill(func(d *keeper.LastDrill) float64 { return d.Restore }))
	gauge("howdah_drill_failed", "1 when what the newest drill restored was not as it should be.", drill(func(d *keeper.LastDrill) float64 {
		if d.Problem != "" {
			return 1
		}
		return 0
	}))
	gauge("howdah_restore_reach_seconds", "How long ago the oldest moment is that can be restored.", worst(func(r keeper.RepoStatus) float64 {
		if r.From == nil {
			return math.NaN()
		}
		return time.Since(*r.From).Seconds()
	}))
}

// LogBackup logs what a schedule does.
func LogBackup(log *slog.Logger, e keeper.Event) {
	log = log.With("kind", string(e.Kind), "repo", e.Repo)
	switch {
	case e.Kind == keeper.Cleaning && e.Err != nil:
		log.Error("what need not be kept could not be removed", "error", e.Err)
	case e.Kind == keeper.Cleaning:
		log.Info("what need not be kept was removed", "freed", e.Freed, "took", e.Took.Round(time.Millisecond))
	case e.Kind == keeper.Drilling && e.Err != nil:
		log.Error("a drill failed", "report", e.ID, "error", e.Err, "retry_in", e.Retry)
	case e.Kind == keeper.Drilling && e.ID != "":
		log.Info("a drill has shown that the newest backup can be restored", "report", e.ID, "took", e.Took.Round(time.Millisecond))
	case e.Kind == keeper.Drilling:
		log.Info("a drill is being made")
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
