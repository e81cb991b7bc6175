package cli

import (
	"context"
	"os"

	"howdah/internal/bench"
	"howdah/internal/config"
)

// benchFilesCmd measures files.
type benchFilesCmd struct {
	measuring
	Size config.Size `help:"${help_bench_files_size}" default:"0" placeholder:"512MiB"`
}

// Run is howdah bench files.
func (c *benchFilesCmd) Run(ctx context.Context, t *terminal) error {
	options := bench.FullFiles
	if c.Brief {
		options = bench.BriefFiles
	}
	if c.Rounds > 0 {
		options.Rounds = c.Rounds
	}
	if c.Size > 0 {
		options.Size = int64(c.Size)
	}
	options.Dir, options.Say = c.Dir, t.whisper
	var err error
	if options.Program, err = os.Executable(); err != nil {
		return err
	}
	report, err := bench.Files(ctx, options)
	return c.tell(t, report, err)
}
