package cli

import (
	"context"
	"os"

	"howdah/internal/bench"
	"howdah/internal/cluster"
)

// benchRecoverCmd measures how long it takes until a table is back.
type benchRecoverCmd struct {
	measuring
	Size  string `help:"${help_bench_recover_size}" placeholder:"1GB"`
	WAL   string `help:"${help_bench_recover_wal}" name:"wal" placeholder:"256MB"`
	Small string `help:"${help_bench_recover_small}" placeholder:"100MB"`
}

// Run is howdah bench recover.
func (c *benchRecoverCmd) Run(ctx context.Context, t *terminal) error {
	options := bench.FullRecover
	if c.Brief {
		options = bench.BriefRecover
	}
	if c.Rounds > 0 {
		options.Rounds = c.Rounds
	}
	for _, given := range []struct {
		text string
		to   *int64
	}{{c.Size, &options.Size}, {c.WAL, &options.WAL}, {c.Small, &options.Small}} {
		n, err := parseBytes(given.text)
		if err != nil {
			return err
		}
		if n > 0 {
			*given.to = n
		}
	}
	options.Small = min(options.Small, options.Size/4)
	own := openOwnProgram()
	if os.Geteuid() == 0 { // PostgreSQL's account owns all of it
		account, err := cluster.EnsureAccount(ctx, cluster.DefaultAccount)
		if err == nil {
			err = cluster.Drop(account)
		}
		if err != nil {
			return err
		}
	}
	options.Dir, options.Say, options.Settle = c.Dir, t.whisper, own.reachable
	report, err := bench.Recover(ctx, options)
	return c.tell(t, report, err)
}
