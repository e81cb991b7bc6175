package keeper

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"time"

	"howdah/internal/fault"
)

// DrillBusy is the exit code of howdah drill when a backup is being made: try again later (EX_TEMPFAIL of sysexits.h).
const DrillBusy = 75

// DrillProcess has another process make a drill: its priority is its own, and so are its memory and its end. The program is howdah, its arguments are those of howdah drill
// --json for one repo. It gives the name of the report.
func DrillProcess(ctx context.Context, program string, args, env []string) (report string, err error) {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Env = append(os.Environ(), env...)
	var out bytes.Buffer
	var words lastWords
	cmd.Stdout, cmd.Stderr = &out, &words
	endWithUs(cmd)
	cmd.WaitDelay = 2 * time.Minute // it stops its server and clears up
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // Linux ends the child with the thread that made it
		defer runtime.UnlockOSThread()
		done <- cmd.Run()
	}()
	err = <-done
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
	why := strings.TrimSpace(strings.Join(words.lines(), " "))
	if report != "" {
		return report, fault.Wrap(err, fault.Conflict, "keeper.drill_bad", fault.Args{"report": report, "said": why})
	}
	return "", fault.Wrap(err, fault.Unavailable, "keeper.drill_failed", fault.Args{"said": why})
}
