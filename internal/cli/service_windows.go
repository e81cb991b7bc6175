package cli

import (
	"context"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/windows/svc"

	"howdah/internal/config"
)

// serviceName is what Windows knows our service by, and its account (NT SERVICE\howdah).
const serviceName = "howdah"

// asService begins the command line that the service manager starts us with. It is for nobody else, and in no list of commands.
const asService = "as-service"

// mostLog is from which size on the service's log is put aside at a start, in bytes.
const mostLog = 16 << 20

// logFile is where the service's log is: in a folder of its own, for it may write nothing beside the configuration.
func logFile() string { return filepath.Join(config.SystemDir(), "log", "howdah.log") }

// service makes a process that Windows' service manager has started a service: ctx ends when that asks for it, or when the machine shuts down. Such a process has no terminal:
// what it says goes to a file beside the configuration. ended has to be called last, with the exit code.
func service(ctx context.Context, args []string) (_ context.Context, rest []string, log io.Writer, ended func(code int)) {
	if len(args) == 0 || args[0] != asService { // who the parent of a process is, is told differently by each Windows
		return ctx, args, nil, func(int) {}
	}
	path := logFile()
	if st, err := os.Stat(path); err == nil && st.Size() > mostLog {
		_ = os.Rename(path, path+".1")
	}
	log = io.Discard
	if file, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600); err == nil {
		log = file
	}
	ctx, stop := context.WithCancel(ctx)
	h := &serviceHandler{stop: stop, code: make(chan int, 1)}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = svc.Run(serviceName, h) // without the manager's ear we serve all the same
	}()
	return ctx, args[1:], log, func(code int) {
		h.code <- code
		<-done
	}
}

type serviceHandler struct {
	stop func()
	code chan int // of the end
}

// Execute is the talk with the service manager; a svc.Handler.
func (h *serviceHandler) Execute(_ []string, asked <-chan svc.ChangeRequest, tell chan<- svc.Status) (bool, uint32) {
	// Before the machine goes down, and not while it does: then there is little time for PostgreSQL's last checkpoint.
	const accepted = svc.AcceptStop | svc.AcceptPreShutdown
	stopping := false
	// Running at once: while PostgreSQL reads its WAL again, people see the page that says so.
	tell <- svc.Status{State: svc.Running, Accepts: accepted}
	for {
		select {
		case request := <-asked:
			switch request.Cmd {
			case svc.Interrogate:
				tell <- request.CurrentStatus
			case svc.Stop, svc.PreShutdown:
				stopping = true
				tell <- svc.Status{State: svc.StopPending, WaitHint: 90_000} // ms; people are told, and PostgreSQL writes its last checkpoint
				h.stop()
			}
		case code := <-h.code:
			if stopping { // an end that was asked for is none to be started anew after; what went wrong is in the log
				code = 0
			}
			return code != 0, uint32(code) //nolint:gosec // an exit code
		}
	}
}
