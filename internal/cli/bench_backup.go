package cli

import (
	"context"

	"howdah/internal/bench"
)

// benchBackupCmd measures base backups and their restores.
type benchBackupCmd struct {
	JSON   bool   `help:"${help_bench_json}" name:"json"`
	Brief  bool   `help:"${help_bench_brief}"`
	Rounds int    `help:"${help_bench_rounds}" default:"0" placeholder:"N"`
	Size   string `help:"${help_bench_size}" placeholder:"3GB"`
	Dir    string `help:"${help_bench_dir}" placeholder:"DIR"`
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
	if err != nil {
		return err
	}
	if c.JSON {
		return report.JSON(t.out)
	}
	return report.Table(t.out, t.lang)
}
