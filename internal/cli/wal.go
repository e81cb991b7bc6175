package cli

import (
	"context"
	"flag"
	"io"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"

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
	return keeper.Push(ctx, s, c.Path, keeper.PushOptions{Warn: warn, Helper: helper(aheadPush), Settings: c.Settings})
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
		err = keeper.Fetch(ctx, s, c.Name, c.Target, keeper.FetchOptions{Warn: warn, Helper: helper(aheadFetch), Settings: c.Settings})
	}
	if err != nil {
		return &codedError{err, keeper.ExitCode(err)}
	}
	return nil
}

// What the processes are called with that PostgreSQL's commands leave behind to look ahead. They are for nobody else, and in no list of commands.
const (
	aheadPush  = "ahead-push"
	aheadFetch = "ahead-fetch"
)

func helper(what string) keeper.Helper {
	program, err := os.Executable()
	if err != nil || runtime.GOOS == "windows" {
		return keeper.Helper{} // then what is ahead is done at once
	}
	return keeper.Helper{Program: program, Args: []string{"wal", what}}
}

// ahead runs them. Nobody hears what they say: what they could not do is said by the command that is called for it.
func ahead(ctx context.Context, what string, args []string) (code int) {
	if len(args) < 3 {
		return 2
	}
	s, err := keeper.LoadSettings(args[0])
	if err != nil {
		return 1
	}
	if what == aheadPush {
		s.Spool = args[1]
		err = keeper.PushAhead(ctx, s, args[2])
	} else if len(args) == 4 {
		var count int
		if count, err = strconv.Atoi(args[3]); err == nil {
			err = keeper.FetchAhead(ctx, s, args[1], args[2], count)
		}
	}
	if err != nil {
		return 1
	}
	return 0
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
	case aheadPush, aheadFetch:
		return ahead(context.Background(), args[1], args[2:]), true
	default:
		return 0, false
	}
	return 0, true
}

// warn says what went wrong without ending what was asked for.
func (t *terminal) warn(err error) { _ = t.fail(err) }
