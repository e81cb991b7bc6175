package cli

import (
	"cmp"
	"context"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"time"

	"howdah/internal/config"
	"howdah/internal/doctor"
	"howdah/internal/keeper"
	"howdah/internal/lang"
	"howdah/internal/web"
	"howdah/internal/web/ui"
)

// commandOnly are the checks that the page leaves to the command: they come in as PostgreSQL's superuser, or have it finish a segment. A page that anybody can load again and again does neither.
var commandOnly = []string{"settings", "roles", "database", "archive", "audit"}

const (
	checkupFresh    = time.Minute      // so old may be what somebody is shown
	checkupWait     = 15 * time.Second // that a page waits for it
	checkupPatience = 10 * time.Minute // repos may be far away
)

// checkups looks at the machine for the page, one look at a time, whoever asks.
func (c *upCmd) checkups(ctx context.Context, t *terminal, sources *config.Sources, known others) web.Doctor {
	own := doctorCmd{upOptions: c.upOptions}
	for _, id := range doctor.Checks() {
		if !slices.Contains(commandOnly, id) {
			own.Only = append(own.Only, id)
		}
	}
	var mu sync.Mutex
	var report *doctor.Report
	command := ""
	var at time.Time
	var failed error
	var done chan struct{} // closed when the look that is under way has ended; nil: there is none
	look := func() {
		ctx, cancel := context.WithTimeout(ctx, checkupPatience)
		defer cancel()
		own := own // what it finds out it notes in its options
		o, err := own.options(ctx, t, sources, known)
		var r *doctor.Report
		if err == nil {
			r, err = doctor.Look(ctx, o)
		}
		mu.Lock()
		defer mu.Unlock()
		report, at, failed, command = r, time.Now(), err, asRoot(o.Command("doctor"))
		close(done)
		done = nil
	}
	return func(ctx context.Context, l lang.Locale) (web.Checkup, error) {
		mu.Lock()
		if time.Since(at) > checkupFresh && done == nil {
			done = make(chan struct{})
			go look()
		}
		if ended := done; ended != nil {
			mu.Unlock()
			late := time.NewTimer(checkupWait)
			defer late.Stop()
			select {
			case <-ended:
			case <-late.C:
				return web.Checkup{}, nil
			case <-ctx.Done():
				return web.Checkup{}, ctx.Err()
			}
			mu.Lock()
		}
		defer mu.Unlock()
		if failed != nil {
			return web.Checkup{}, failed
		}
		shown := (&terminal{lang: l}).checkup(report, at)
		shown.Command = command
		return shown, nil
	}
}

// asRoot is a command of ours as somebody types it who may look at all of the machine: not every container has sudo.
func asRoot(command string) string {
	if _, err := exec.LookPath("sudo"); err == nil && os.Geteuid() > 0 { // -1 on Windows, which has a sudo of another kind
		return "sudo " + command
	}
	return command
}

// checkup puts a report into words.
func (t *terminal) checkup(r *doctor.Report, at time.Time) web.Checkup {
	shown := web.Checkup{At: at}
	for _, f := range r.Findings {
		d := t.diagnosis(f)
		shown.Findings = append(shown.Findings, ui.Diagnosis{Critical: d.Level == keeper.Critical, Check: t.lang.T("doctor." + d.Check), Message: d.Message, Hint: d.Hint, Mend: d.Text})
	}
	for _, id := range r.Looked {
		shown.Looked = append(shown.Looked, t.lang.T("doctor."+id))
	}
	for _, id := range commandOnly {
		shown.Left = append(shown.Left, t.lang.T("doctor."+id))
	}
	for _, u := range r.Unseen {
		message, hint := t.lang.Fault(u.Fault)
		shown.Unseen = append(shown.Unseen, strings.Join([]string{t.lang.T("doctor." + u.Check), message, cmp.Or(hint, "")}, " – "))
	}
	return shown
}
