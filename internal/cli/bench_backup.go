package cli

import (
	"context"

	"howdah/internal/bench"
)

// benchBackupCmd measures base backups and their restores.
type benchBackupCmd struct {
	measuring
	Size string `help:"${help_bench_size}" placeholder:"3GB"`
}

// Run is howdah bench backup.
func (c *benchBackupCmd) Run(ctx context.Context, t *terminal) error {
	options := bench.FullBackup
	if c.Brief {
		options = bench.BriefBackup
	}
	if c.Rounds > 0 {
		options.Rounds = c.Rounds
	}
	size, err := parseBytes(c.Size)
	if err != nil {
		return err
	}
	if size > 0 {
		options.Size = size
	}
	options.Dir, options.Say = c.Dir, t.whisper
	report, err := bench.Backup(ctx, options)
	return c.tell(t, report, err)
}
