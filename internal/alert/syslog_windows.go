package alert

import (
	"context"

	"golang.org/x/sys/windows/svc/eventlog"

	"howdah/internal/fault"
)

func systemLog() string { return "" }

// send writes to the event log "Application", under the source "Howdah". The source need not be registered: then Windows shows the text behind a remark that it has no description.
func (l *logger) send(_ context.Context, m *outgoing) (string, error) {
	log, err := eventlog.Open("Howdah")
	if err == nil {
		write := log.Warning
		switch {
		case m.Severity >= 4:
			write = log.Error
		case m.Severity <= 2:
			write = log.Info
		}
		err = write(1, m.line(l.Language))
		_ = log.Close()
	}
	if err != nil {
		return "", fault.New(fault.Unavailable, "alert.unreachable", fault.Args{"where": "Application", "why": clip(err.Error())})
	}
	return "written to the event log", nil
}
