package cli

import (
	"context"
	"flag"
	"io"
	"runtime/debug"
	"slices"

	"howdah/internal/keeper"
)

// walCmd are what PostgreSQL itself calls.
type walCmd struct {
	Push  walPushCmd  `cmd:"" help:"${help_wal_push}"`
	Fetch walFetchCmd `cmd:"" help:"${help_wal_fetch}"`
}

// walPushCmd is the archive_command.
type walPushCmd struct {
	Settings string `help:"${help_wal_settings}" required:"" placeholder:"FILE"`
	Spool    string `help:"${help_wal_spool}" placeholder:"DIR"`
	Path     string `arg:"" help:"${help_wal_push_path}"`
}

// Run is howdah wal push.
func (c *walPushCmd) Run(ctx context.Context, t *terminal) error { return c.push(ctx, t.warn) }

func (c *walPushCmd) push(ctx context.Context, warn func(error)) error {
	s, err := keeper.LoadSettings(c.Settings)
	if err != nil {
		return err
	}
	if c.Spool != "" {
		s.Spool = c.Spool
	}
	return keeper.Push(ctx, s, c.Path, keeper.PushOptions{Warn: warn})
}

// walFetchCmd is the restore_command.
type walFetchCmd struct {
	Settings string `help:"${help_wal_settings}" required:"" placeholder:"FILE"`
	Name     string `arg:"" help:"${help_wal_fetch_name}"`
	Target   string `arg:"" help:"${help_wal_fetch_target}"`
}

// Run is howdah wal fetch.
func (c *walFetchCmd) Run(ctx context.Context, t *terminal) error { return c.fetch(ctx, t.warn) }

func (c *walFetchCmd) fetch(ctx context.Context, warn func(error)) error {
	s, err := keeper.LoadSettings(c.Settings)
	if err == nil {
		err = keeper.Fetch(ctx, s, c.Name, c.Target, keeper.FetchOptions{Warn: warn})
	}
	if err != nil {
		return &codedError{err, keeper.ExitCode(err)}
	}
	return nil
}

// codedError is an error that ends the process with a code of its own.
type codedError struct {
	error
	code int
}

// Unwrap gives the error.
func (e *codedError) Unwrap() error { return e.error }

// leastCode keeps a restore_command with a mistake in it from being taken for the end of the archive.
func leastCode(args []string) int {
	if slices.Contains(args, "wal") && slices.Contains(args, "fetch") {
		return keeper.ExitStop
	}
	return 0
}

// quick runs what PostgreSQL calls for every segment without all that a person at a terminal needs: reading the table of commands alone takes
// several times as long as looking at a note. What it does not understand - help, a mistake - it leaves to the others.
//
// Signals end these processes as they are: what they leave behind is what kill -9 would, and PostgreSQL has to see that it was a signal.
func quick(args []string, open func() *terminal) (code int, done bool) {
	if len(args) < 3 || args[0] != "wal" {
		return 0, false
	}
	flags := flag.NewFlagSet("", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	settings := flags.String("settings", "", "")
	warn := func(err error) { open().warn(err) }
	debug.SetGCPercent(400) // it ends before there is anything to collect
	switch args[1] {
	case "push":
		spool := flags.String("spool", "", "")
		if flags.Parse(args[2:]) != nil || flags.NArg() != 1 || *settings == "" {
			return 0, false
		}
		if err := (&walPushCmd{Settings: *settings, Spool: *spool, Path: flags.Arg(0)}).push(context.Background(), warn); err != nil {
			return open().fail(err), true
		}
	case "fetch":
		if flags.Parse(args[2:]) != nil || flags.NArg() != 2 || *settings == "" {
			return 0, false
		}
		err := (&walFetchCmd{Settings: *settings, Name: flags.Arg(0), Target: flags.Arg(1)}).fetch(context.Background(), warn)
		if keeper.ExitCode(err) == keeper.ExitNotArchived {
			return keeper.ExitNotArchived, true // PostgreSQL asks for what there is not all the time: no word about it
		}
		if err != nil {
			return open().fail(err), true
		}
	default:
		return 0, false
	}
	return 0, true
}

// warn says what went wrong without ending what was asked for.
func (t *terminal) warn(err error) { _ = t.fail(err) }
