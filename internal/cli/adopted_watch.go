package cli

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"path/filepath"
	"time"

	"howdah/internal/alert"
	"howdah/internal/audit"
	"howdah/internal/audit/cover"
	"howdah/internal/cluster"
	"howdah/internal/config"
	"howdah/internal/fault"
	"howdah/internal/keeper"
	"howdah/internal/server"
)

// begun notes sessions of ours for the watch of an adopted cluster.
func (a *adoptedIn) begun(in cluster.Installation) (func(session string) error, error) {
	here, err := a.cluster(in)
	if err != nil {
		return nil, err
	}
	return server.Announce(here), nil
}

func (a *adoptedIn) covering(begun func(string) error) cover.Options {
	return cover.Options{Scope: cover.Default, Auditor: cluster.Auditor, Begun: begun, DSN: func(string) (string, error) { return a.Admin, nil }}
}

// cover gives the auditor its rights, or sets the event triggers that do without it: also in databases that are new.
func (a *adoptedIn) cover(ctx context.Context, begun func(string) error) error {
	var err error
	if a.Auditor {
		_, err = cover.Watch(ctx, a.covering(begun))
	}
	if err == nil && a.Triggers {
		_, err = cover.Triggers(ctx, a.covering(begun), true)
	}
	return err
}

// untrigger takes the event triggers away.
func (a *adoptedIn) untrigger(ctx context.Context, begun func(string) error) error {
	_, err := cover.Triggers(ctx, a.covering(begun), false)
	return err
}

func (a *adoptedIn) uncover(ctx context.Context, begun func(string) error) error {
	return cover.Withdraw(ctx, a.covering(begun))
}

// watch watches the cluster until ctx ends or it is released.
func (c *keepCmd) watch(ctx context.Context, t *terminal, log *slog.Logger, receivers []alert.Receiver) {
	known := c.known
	if known.Watch == nil || known.Releasing {
		log.Info("the cluster is not watched; howdah adopt says what is needed for it")
		return
	}
	in, err := cluster.FindMajor(ctx, c.PgBin, known.Major)
	if err != nil {
		log.Error("the cluster is not watched", "error", err)
		return
	}
	here, err := known.cluster(in)
	if err != nil {
		log.Error("the cluster is not watched", "error", err)
		return
	}
	unlock, held, err := cluster.Lock(known.watchLock())
	if err != nil || !held {
		log.Error("the cluster is not watched: somebody does so already, or it is being released", "error", err)
		return
	}
	defer unlock() //nolint:errcheck // it goes with the process
	watch := server.Adopted{Name: known.Name, Cluster: here, Admin: known.Admin, LogDir: known.Watch.LogDir, Log: log, Lang: t.lang, Rules: c.OwnRules(), Alerts: receivers, House: c.house,
		Trail: audit.Keep{Age: time.Duration(c.TrailKeep), Size: int64(c.TrailSize)}}
	if watch.Flags = []string{"--cluster", known.Name}; c.Clusters != "" {
		watch.Flags = append(watch.Flags, "--clusters", absolute(c.Clusters))
	}
	if known.Auditor || known.Triggers {
		watch.Cover, watch.Triggers = known.cover, known.Triggers
	}
	if err := watch.Watch(ctx); err != nil {
		log.Error("the cluster is not watched", "error", err)
	}
}

// watchLock is held by whoever watches the cluster.
func (a *adoptedIn) watchLock() string { return filepath.Join(a.dir, "watch.lock") }

// unwatchPatience is how long howdah release waits for the watch to end.
const unwatchPatience = time.Minute

// unwatch waits until nobody watches the cluster, after its record says that it is being released. The lock is ours then, until the process ends.
func (a *adoptedIn) unwatch(ctx context.Context) error {
	ctx, done := context.WithTimeout(ctx, unwatchPatience)
	defer done()
	for {
		unlock, held, err := cluster.Lock(a.watchLock())
		if err != nil {
			return fault.Wrap(err, fault.Forbidden, "cli.data_dir", fault.Args{"dir": a.dir})
		}
		if held {
			a.unlock = unlock // it goes with the process
			return nil
		}
		if !wait(ctx, 100*time.Millisecond) { // one that hangs is no reason not to release
			return nil
		}
	}
}

// watched tells whether the cluster is neither released nor being released.
func (c *keepCmd) watched() bool {
	known, err := keeper.LoadAdopted(c.Data)
	return err != nil && !errors.Is(err, fs.ErrNotExist) || err == nil && !known.Releasing
}

// watchPatience is how old what the watch knows may be: it is written down every 30 s.
const watchPatience = 5 * time.Minute

// unwatched is what howdah status finds of a cluster that is to be watched and is not.
func (a *adoptedIn) unwatched(now time.Time) []keeper.Concern {
	if a.Watch == nil {
		return nil
	}
	saved := server.WatchedUpTo(a.dir)
	if now.Sub(saved) < watchPatience {
		return nil
	}
	args := fault.Args{"cluster": a.Name, "since": "-"}
	if !saved.IsZero() {
		args["since"] = keeper.Moment(saved.Local().Truncate(time.Second))
	}
	return []keeper.Concern{{Level: keeper.Warning, Fault: fault.New(fault.Unavailable, "cli.status_unwatched", args)}}
}

// watchOf says whose watch is meant: the house's own, or that of an adopted cluster.
type watchOf struct {
	config.House
	Cluster  string `name:"cluster" default:"main" placeholder:"NAME" help:"${help_cluster}"`
	Clusters string `name:"clusters" placeholder:"DIR" help:"${help_clusters}"`

	known *adoptedIn // nil: the house's own
}

// open finds the folder that the watch keeps its files in, as the account that it belongs to. It needs no database, and nothing that runs.
func (c *watchOf) open(ctx context.Context, t *terminal) (*cluster.Cluster, error) {
	if c.Cluster == config.OwnCluster {
		return t.house(ctx, &c.House)
	}
	known, err := (&keeping{House: c.House, Keeper: config.Keeper{Cluster: c.Cluster, Clusters: c.Clusters}}).named(c.Cluster)
	if err != nil {
		return nil, err
	}
	if _, err := known.become(ctx); err != nil {
		return nil, err
	}
	c.known = known
	return known.cluster(cluster.Installation{})
}

// where is what commands need to find the same: the database that they take when none is named ("": none), and flags.
func (c *watchOf) where() (database string, flags []string) {
	if c.Cluster == config.OwnCluster {
		if absolute(c.Data) != absolute("howdah-data") {
			flags = []string{"--data", absolute(c.Data)}
		}
		return cluster.Database, flags
	}
	if flags = []string{"--cluster", c.Cluster}; c.Clusters != "" {
		flags = append(flags, "--clusters", absolute(c.Clusters))
	}
	return "", flags
}
