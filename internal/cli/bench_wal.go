package cli

import (
	"context"
	"os"

	"howdah/internal/bench"
)

// benchWALCmd measures what PostgreSQL calls for every WAL segment.
type benchWALCmd struct {
	JSON    bool   `help:"${help_bench_json}" name:"json"`
	Brief   bool   `help:"${help_bench_brief}"`
	Rounds  int    `help:"${help_bench_rounds}" default:"0" placeholder:"N"`
	Backlog int    `help:"${help_bench_backlog}" default:"0" placeholder:"N"`
	Dir     string `help:"${help_bench_dir}" placeholder:"DIR"`
}

// Run is howdah bench wal.
func (c *benchWALCmd) Run(ctx context.Context, t *terminal) error {
	options := bench.FullWAL
	if c.Brief {
		options = bench.BriefWAL
	}
	if c.Rounds > 0 {
		options.Rounds = c.Rounds
	}
	if c.Backlog > 0 {
		options.Backlog = c.Backlog
		options.Single = min(options.Single, c.Backlog)
	}
	options.Dir, options.Say = c.Dir, t.whisper
	var err error
	if options.Program, err = os.Executable(); err != nil {
		return err
	}
	report, err := bench.WAL(ctx, options)
	if err != nil {
		return err
	}
	if c.JSON {
		return report.JSON(t.out)
	}
	return report.Table(t.out, t.lang)
}
