package cli

import (
	"context"
	"os"

	"howdah/internal/bench"
)

// benchSearchCmd measures the search over messages.
type benchSearchCmd struct {
	measuring
	Messages int `help:"${help_bench_search_messages}" default:"0" placeholder:"N"`
}

// Run is howdah bench search.
func (c *benchSearchCmd) Run(ctx context.Context, t *terminal) error {
	options := bench.FullSearch
	if c.Brief {
		options = bench.BriefSearch
	}
	if c.Rounds > 0 {
		options.Rounds = c.Rounds
	}
	if c.Messages > 0 {
		options.Messages = c.Messages
	}
	options.Dir, options.Say = c.Dir, t.whisper
	var err error
	if options.Program, err = os.Executable(); err != nil {
		return err
	}
	report, err := bench.Search(ctx, options)
	return c.tell(t, report, err)
}
