package cli

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"howdah/internal/cluster"
	"howdah/internal/config"
	"howdah/internal/fault"
	"howdah/internal/keeper"
	"howdah/internal/server"
	"howdah/internal/wal"
)

// keepCmd makes the scheduled backups of adopted clusters, without the chat.
type keepCmd struct {
	keeping
	config.Schedule
	config.Drill
	config.Retention
	config.Watch
	config.Trail
	config.Alerts
	config.Letters
	LogFormat string `help:"${help_log_format}" enum:"text,json" default:"text"`
	LogLevel  string `help:"${help_log_level}" enum:"debug,info,warn,error" default:"info"`
	UntilEOF  bool   `name:"until-eof" hidden:""` // ends with the standard input: with whoever started it
	Ops       bool   `name:"ops" hidden:""`       // and that is a house, which is spoken to over standard output and input

	house *server.House // nil: there is none
}

// Run is howdah keep.
func (c *keepCmd) Run(ctx context.Context, t *terminal) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if c.Ops {
		c.house = server.NewHouse(t.out)
	}
	if c.UntilEOF {
		go func() {
			if c.house != nil {
				c.house.Hear(t.in)
			}
			_, _ = io.Copy(io.Discard, t.in)
			cancel()
		}()
	}
	log := t.logger(c.LogFormat, c.LogLevel)
	if c.Cluster != config.OwnCluster {
		return c.one(ctx, t, log.With("cluster", c.Cluster))
	}
	// Each in a process of its own: they run as different accounts, and have options of their own.
	args := slices.Clone(t.args)
	if at := slices.Index(args, "keep"); at >= 0 {
		args = slices.Delete(args, at, at+1)
	}
	all := c.keepBeside(ctx, t, log, args, nil)
	defer all.Wait()
	defer all.stop()
	if all.count == 0 {
		return fault.New(fault.NotFound, "cli.keep_nothing")
	}
	if _, err := c.settle(ctx, t); err != nil { // nothing of us is root from here on
		return err
	}
	select {
	case <-ctx.Done():
		return nil
	case name := <-all.failed: // whoever started us starts us again
		return fault.New(fault.Unavailable, "cli.keep_ended", fault.Args{"cluster": name})
	}
}

// one keeps one cluster until ctx ends or it is released.
func (c *keepCmd) one(ctx context.Context, t *terminal, log *slog.Logger) error {
	own := openOwnProgram()
	when, err := whenOf(c.Schedule)
	if err != nil {
		return err
	}
	told, err := receivers(c.Alert, c.Mail) // as long as we are whoever started us: what is secret is theirs
	if err != nil {
		return err
	}
	if _, err := c.settle(ctx, t); err != nil {
		return err
	}
	if c.known == nil {
		return fault.New(fault.NotFound, "cli.not_adopted", fault.Args{"cluster": c.Cluster, "names": "-"})
	}
	program := own.place(c.Data)
	if program != own.path { // a new version came
		if err := own.settle(program); err != nil {
			log.Warn("archive_command goes on with an older copy of this program", "error", err)
		}
	}
	unlock, err := c.hold(ctx, log)
	if unlock == nil {
		return err
	}
	defer unlock() //nolint:errcheck // it goes with the process
	ctx, released := context.WithCancel(ctx)
	defer released()
	go func() {
		for c.adopted() && wait(ctx, 2*time.Second) {
		}
		released()
	}()
	log.Info("the cluster is kept")
	watching, unwatch := context.WithCancel(ctx)
	var watch sync.WaitGroup
	defer watch.Wait()
	defer unwatch()
	watch.Go(func() {
		for c.watched() && wait(watching, 2*time.Second) {
		}
		unwatch()
	})
	watch.Go(func() { c.watch(watching, t, log, told) })
	schedule := keeper.Schedule{Cluster: c.Cluster, Dir: c.Data, When: when, First: c.BackupFirst, Repos: c.sources(true),
		Drill:       c.drill(program, absolute(c.Folder(c.Data))),
		Clean:       retention(c.Retention),
		Report:      func(e keeper.Event) { server.LogBackup(log, e) },
		Server:      func() (keeper.Server, error) { return c.known.server(ctx, c.PgBin) },
		Replication: func() (string, error) { return c.known.Replication, nil },
		Timeline: func(ctx context.Context) (wal.Timeline, error) {
			in, err := cluster.FindMajor(ctx, c.PgBin, c.known.Major)
			if err != nil {
				return 0, err
			}
			here, err := c.known.cluster(in)
			if err != nil {
				return 0, err
			}
			return keeper.TimelineOf(ctx, here)
		},
	}
	schedule.Run(ctx)
	return nil
}

// adopted tells whether the cluster was not released.
func (c *keepCmd) adopted() bool {
	_, err := os.Stat(keeper.AdoptedFile(c.Data))
	return !errors.Is(err, fs.ErrNotExist)
}

// hold makes this process the one that keeps the cluster; another may do so, and is waited for. unlock is nil when there is nothing to do any more.
func (c *keepCmd) hold(ctx context.Context, log *slog.Logger) (unlock func() error, err error) {
	file, told := filepath.Join(c.Data, "keep.lock"), false
	for {
		release, held, err := cluster.Lock(file)
		switch {
		case err != nil:
			return nil, fault.Wrap(err, fault.Forbidden, "cli.data_dir", fault.Args{"dir": c.Data})
		case held:
			return release, nil
		case !told:
			log.Info("another process keeps the cluster already; waiting for its end")
			told = true
		}
		if !c.adopted() || !wait(ctx, 5*time.Second) {
			return nil, nil
		}
	}
}

// wait is false when ctx has ended.
func wait(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// beside are processes that keep a cluster each.
type beside struct {
	sync.WaitGroup
	count  int
	failed chan string // the name of a cluster whose process ended with an error
	inputs []io.Closer
	over   context.CancelFunc // what they say is heard until then
}

// stop lets them end: their standard input does. They may be of another account than we are by then.
func (b *beside) stop() {
	b.over()
	for _, in := range b.inputs {
		_ = in.Close()
	}
}

// keepBeside starts a process for each cluster that was adopted on this machine, as whoever we still are. What their watches find, neighbours are told; nil: there is no house.
func (c *keeping) keepBeside(ctx context.Context, t *terminal, log *slog.Logger, args []string, neighbours *server.Neighbours) *beside {
	serving, over := context.WithCancel(ctx)
	b := &beside{failed: make(chan string, 1), over: over}
	all := c.allAdopted()
	program, err := os.Executable()
	if err != nil || len(all) == 0 {
		return b
	}
	for _, a := range all {
		line := append([]string{"keep", "--until-eof", "--cluster", a.Name, "--clusters", filepath.Dir(a.dir)}, args...)
		cmd := exec.Command(program, line...)
		cmd.Stdout, cmd.Stderr = t.err, t.err
		in, err := cmd.StdinPipe()
		var out io.Reader
		if err == nil && neighbours != nil {
			cmd.Stdout = nil
			cmd.Args = append(cmd.Args, "--ops")
			out, err = cmd.StdoutPipe()
		}
		if err == nil {
			err = cmd.Start()
		}
		if err != nil {
			log.Error("a cluster is not kept", "cluster", a.Name, "error", err)
			continue
		}
		b.count++
		b.inputs = append(b.inputs, in)
		b.Go(func() {
			if out != nil {
				if err := neighbours.Serve(serving, a.Name, out, in); err != nil && serving.Err() == nil {
					log.Error("what the watch of a cluster finds is not said in the room any more", "cluster", a.Name, "error", err)
				}
				_, _ = io.Copy(io.Discard, out)
			}
			if err := cmd.Wait(); err != nil && ctx.Err() == nil {
				log.Error("what keeps a cluster has ended", "cluster", a.Name, "error", err)
				select {
				case b.failed <- a.Name:
				default:
				}
			}
		})
	}
	return b
}
