package cli

import (
	"context"
	"net/http"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"

	"howdah/internal/doctor"
	"howdah/internal/fault"
	"howdah/internal/keeper"
)

// tellSystemd tells whoever started us, when that is systemd with Type=notify, how it stands: https://www.freedesktop.org/software/systemd/man/latest/sd_notify.html
// Elsewhere it does nothing.
func tellSystemd(state string) { _, _ = daemon.SdNotify(false, state) }

// summary is what howdah status begins with, on one line: how it stands, and what is the matter.
func (t *terminal) summary(s *keeper.Status) string {
	text := t.lang.T(levelKeys[s.Level])
	for _, f := range s.Concerns {
		message, _ := t.lang.Fault(f.Fault)
		text += " " + message
	}
	return oneLine(text)
}

// alreadyRuns says whose process has the house.
func alreadyRuns(dir string) error {
	r, err := readRunning(dir)
	if err != nil { // it is starting
		return fault.New(fault.Conflict, "cli.up.held", fault.Args{"dir": dir})
	}
	return fault.New(fault.Conflict, "cli.up.runs", fault.Args{"dir": dir, "pid": r.PID})
}

// watchdog tells systemd, where it wants to know (WatchdogSec=), that the page still answers: that it does, not what. A database that is away is no reason to be killed.
func watchdog(ctx context.Context, url string) {
	every, err := daemon.SdWatchdogEnabled(false)
	if err != nil || every == 0 {
		return
	}
	client := &http.Client{Transport: doctor.OwnDoor(), Timeout: every / 2, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	tick := time.NewTicker(every / 3)
	defer tick.Stop()
	for {
		if request, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/api/openapi.json", nil); err == nil { // not /healthz, which waits for the database
			if answer, err := client.Do(request); err == nil {
				answer.Body.Close()
				tellSystemd(daemon.SdNotifyWatchdog)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}
