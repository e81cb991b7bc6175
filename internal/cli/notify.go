package cli

import (
	"context"
	"net/http"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"

	"howdah/internal/doctor"
)

// tellSystemd tells whoever started us, when that is systemd with Type=notify, how it stands: https://www.freedesktop.org/software/systemd/man/latest/sd_notify.html
// Elsewhere it does nothing.
func tellSystemd(state string) { _, _ = daemon.SdNotify(false, state) }

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
