package cli

import (
	"context"
	"os"

	"howdah/internal/bench"
)

// benchWALCmd measures what PostgreSQL calls for every WAL segment.
type benchWALCmd struct {
	measuring
	Backlog int `help:"${help_bench_backlog}" default:"0" placeholder:"N"`
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
	return c.tell(t, report, err)
}
