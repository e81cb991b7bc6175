package keeper

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os/exec"
	"strings"

	"howdah/internal/fault"
)

// DrillBusy is the exit code of howdah drill when a backup is being made: try again later (EX_TEMPFAIL of sysexits.h).
const DrillBusy = 75

// DrillProcess has another process make a drill: its priority is its own, and so are its memory and its end. The program is howdah, its arguments are those of howdah drill
// --json for one repo. It gives the name of the report.
func DrillProcess(ctx context.Context, program string, args, env []string) (report string, err error) {
	var out bytes.Buffer
	words, err := runOurs(ctx, program, args, env, &out)
	if ctx.Err() != nil {
		return "", ctx.Err()
	}
	var said []struct {
		Report string `json:"report"`
	}
	if json.Unmarshal(out.Bytes(), &said) == nil && len(said) > 0 {
		report = said[0].Report
	}
	var exit *exec.ExitError
	switch {
	case err == nil:
		return report, nil
	case errors.As(err, &exit) && exit.ExitCode() == DrillBusy:
		return "", fault.Wrap(err, fault.Conflict, "keeper.backup_runs")
	}
	why := strings.TrimSpace(words)
	if report != "" {
		return report, fault.Wrap(err, fault.Conflict, "keeper.drill_bad", fault.Args{"report": report, "said": why})
	}
	return "", fault.Wrap(err, fault.Unavailable, "keeper.drill_failed", fault.Args{"said": why})
}
