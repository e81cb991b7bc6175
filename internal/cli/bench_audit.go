package cli

import (
	"context"
	"os"

	"howdah/internal/bench"
)

// benchAuditCmd measures the watch.
type benchAuditCmd struct {
	measuring
	Only []string `help:"${help_bench_audit_only}" enum:"pgbench,records,posts,alerts" placeholder:"PART"`
}

// Run is howdah bench audit.
func (c *benchAuditCmd) Run(ctx context.Context, t *terminal) error {
	options := bench.FullAudit
	if c.Brief {
		options = bench.BriefAudit
	}
	if c.Rounds > 0 {
		options.Rounds = c.Rounds
	}
	options.Dir, options.Parts, options.Say = c.Dir, c.Only, t.whisper
	var err error
	if options.Program, err = os.Executable(); err != nil {
		return err
	}
	report, err := bench.Audit(ctx, options)
	return c.tell(t, report, err)
}
