package cli

import (
	"context"
	"os"
	"time"

	"howdah/internal/bench"
	"howdah/internal/config"
	"howdah/internal/fault"
)

// benchCmd are the measurements, and what they need.
type benchCmd struct {
	Chat   benchChatCmd   `cmd:"" help:"${help_bench_chat}"`
	Fill   benchFillCmd   `cmd:"" help:"${help_bench_fill}"`
	WAL    benchWALCmd    `cmd:"" name:"wal" help:"${help_bench_wal}"`
	Backup benchBackupCmd `cmd:"" help:"${help_bench_backup}"`
	Audit  benchAuditCmd  `cmd:"" help:"${help_bench_audit}"`

	Recover benchRecoverCmd `cmd:"" help:"${help_bench_recover}"`
	Search  benchSearchCmd  `cmd:"" help:"${help_bench_search}"`
	Files   benchFilesCmd   `cmd:"" help:"${help_bench_files}"`
}

// measuring are the options that all measurements have in common.
type measuring struct {
	JSON   bool   `help:"${help_bench_json}" name:"json"`
	Brief  bool   `help:"${help_bench_brief}"`
	Rounds int    `help:"${help_bench_rounds}" default:"0" placeholder:"N"`
	Dir    string `help:"${help_bench_dir}" placeholder:"DIR"`
}

// tell shows what came out.
func (m measuring) tell(t *terminal, report *bench.Report, err error) error {
	switch {
	case err != nil:
		return err
	case m.JSON:
		return report.JSON(t.out)
	}
	return report.Table(t.out, t.lang)
}

// benchChatCmd measures the chat.
type benchChatCmd struct {
	config.House
	measuring
	Only        []string      `help:"${help_bench_only}" enum:"start,posts,fanout,page,idle" placeholder:"PART"`
	Window      time.Duration `help:"${help_bench_window}" default:"0" placeholder:"TIME"`
	Connections int           `help:"${help_bench_connections}" default:"0" placeholder:"N"`
	Messages    int           `help:"${help_bench_messages}" default:"0" placeholder:"N"`
	// A running house is measured only when that is said: a setting in the environment must not let a bench loose on it.
	Running  bool   `help:"${help_bench_running}"`
	URL      string `help:"${help_bench_url}" name:"url" placeholder:"URL"`
	DSN      string `help:"${help_bench_dsn}" name:"dsn" placeholder:"URL"`
	OwnerDSN string `help:"${help_bench_owner_dsn}" name:"owner-dsn" placeholder:"URL"`
	PID      int    `help:"${help_bench_pid}" name:"pid" default:"0" placeholder:"N"`
}

// Run is howdah bench chat.
func (c *benchChatCmd) Run(ctx context.Context, t *terminal) error {
	options := bench.Full
	if c.Brief {
		options = bench.Brief
	}
	options.Parts, options.Dir = c.Only, c.Dir
	for _, number := range []struct {
		given int
		to    *int
	}{{c.Rounds, &options.Rounds}, {c.Connections, &options.Connections}, {c.Messages, &options.Big}} {
		if number.given > 0 {
			*number.to = number.given
		}
	}
	if c.Window > 0 {
		options.Window = c.Window
	}
	options.Say = t.whisper
	var err error
	if c.Running {
		options.House, err = c.house()
	} else {
		options.Program, err = os.Executable()
	}
	if err != nil {
		return err
	}
	report, err := bench.Chat(ctx, options)
	return c.tell(t, report, err)
}

// house finds the running house: by its data folder, or by what was said of it.
func (c *benchChatCmd) house() (*bench.House, error) {
	h, err := houseOf(c.Data, c.DSN, c.OwnerDSN)
	if err != nil {
		return nil, err
	}
	if c.URL != "" {
		h.URL = c.URL
	}
	if c.PID != 0 {
		h.PID = c.PID
	}
	if h.URL == "" {
		return nil, fault.New(fault.Invalid, "bench.no_url")
	}
	return h, nil
}
