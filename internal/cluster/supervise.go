package cluster

import (
	"context"
	"encoding/json"
	"io/fs"
	"os"
	"strconv"
	"time"

	"howdah/internal/fault"
)

// EventKind says what happened to the server.
type EventKind string

// The kinds.
const (
	Up       EventKind = "up"       // it answers; it was started, or found running
	Down     EventKind = "down"     // it ended without a Stop; Err names it, Retry is when it will be started
	Begin    EventKind = "starting" // it is being started
	Failed   EventKind = "failed"   // it did not start; Err says why, Retry is when that will be tried again
	OnHold   EventKind = "on_hold"  // it was stopped on purpose and is left so until the next Start
	Upgraded EventKind = "upgraded" // the package on disk is not what runs; Err names both versions. Told once per server
)

// Event is one thing that happened to the server.
type Event struct {
	Kind  EventKind
	At    time.Time
	PID   int           // of the postmaster, for Up, Down and Upgraded
	Err   error         // a fault, for Down, Failed and Upgraded
	Retry time.Duration // for Down and Failed: until the next start
}

const (
	shortestPause = 200 * time.Millisecond // the first pause before a start; it doubles with each failure
	longestPause  = 30 * time.Second
	steady        = 2 * time.Second // a server that stayed up so long has recovered: the pause is short again
	lookEvery     = time.Second     // at the package on disk, and for a Start by another process
)

// Watch keeps the server running until ctx ends, and leaves it running then: it starts it when it is down (after a pause that
// grows from 0.2 s to 30 s while that fails), and reports what happens, one event after the other, by calling report, which should
// return soon. A server stopped by Stop is left alone until the next Start, by whichever process.
func (c *Cluster) Watch(ctx context.Context, report func(Event)) {
	w := watcher{c: c, report: report, pause: shortestPause}
	for ctx.Err() == nil {
		w.round(ctx)
	}
}

type watcher struct {
	c      *Cluster
	report func(Event)
	pause  time.Duration // before the next start
	held   bool          // OnHold was told
}

func (w *watcher) tell(e Event) {
	e.At = time.Now()
	w.report(e)
}

// round looks once and does what is to do: attend to the server that runs, start one, or wait.
func (w *watcher) round(ctx context.Context) {
	poked := w.c.poked() // before looking, so that no Start or Stop falls between
	if l, ok := w.c.running(); ok {
		w.held = false
		w.attend(ctx, l)
		return
	}
	if exists(w.c.path(stoppedName)) {
		if !w.held {
			w.tell(Event{Kind: OnHold})
		}
		w.held = true
		w.wait(ctx, lookEvery, poked)
		return
	}
	w.held = false
	w.tell(Event{Kind: Begin})
	err := w.c.start(ctx, false)
	if err == nil || ctx.Err() != nil || fault.HasKey(err, "cluster.on_hold") {
		return
	}
	w.tell(Event{Kind: Failed, Err: fault.Of(err), Retry: w.pause})
	w.wait(ctx, w.pause, poked)
	w.pause = min(2*w.pause, longestPause)
}

// attend stays with one server from when it answers to its end.
func (w *watcher) attend(ctx context.Context, l lockFile) {
	up := time.Time{}
	if err := w.c.waitReady(ctx); err == nil {
		up = time.Now()
		w.tell(Event{Kind: Up, PID: l.pid})
		gone := make(chan error, 1)
		go func() { gone <- waitGone(ctx, l.pid, w.c.data(), l.started) }()
		w.look(ctx, l.pid, gone)
	}
	poked := w.c.poked()
	if ctx.Err() != nil || exists(w.c.path(stoppedName)) {
		if _, ok := w.c.running(); ok && ctx.Err() == nil { // put on hold, and not gone yet
			_ = waitGone(ctx, l.pid, w.c.data(), l.started)
		}
		return
	}
	if !up.IsZero() && time.Since(up) >= steady {
		w.pause = shortestPause
	}
	w.tell(Event{Kind: Down, PID: l.pid, Retry: w.pause,
		Err: fault.New(fault.Unavailable, "cluster.crashed", fault.Args{"dir": w.c.data(), "log": w.c.LogDir()})})
	w.wait(ctx, w.pause, poked)
	w.pause = min(2*w.pause, longestPause)
}

// look compares what runs with what is on disk, and trims the logs, until the server is gone.
func (w *watcher) look(ctx context.Context, pid int, gone <-chan error) {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	program := w.c.in.Program("postgres")
	seen, _ := os.Stat(program)
	told := w.upgraded(ctx, pid, nil)
	trimmed := time.Time{}
	for {
		select {
		case <-gone:
			return
		case now := <-tick.C:
			if !told {
				told = w.upgraded(ctx, pid, seen)
			}
			if now.Sub(trimmed) >= trimEvery {
				w.c.trimLogs(now)
				trimmed = now
			}
		}
	}
}

// upgraded tells once that the program on disk is another than the one that runs. `seen` is what was on disk when the server
// was first looked at, nil on that first look. While a package is being unpacked there may be no file: that is for the next look.
func (w *watcher) upgraded(ctx context.Context, pid int, seen fs.FileInfo) bool {
	program := w.c.in.Program("postgres")
	st, err := os.Stat(program)
	if err != nil {
		return false
	}
	changed := seen != nil && (!os.SameFile(seen, st) || !seen.ModTime().Equal(st.ModTime()) || seen.Size() != st.Size())
	replaced := replacedProgram(pid)
	if seen != nil && !changed && !replaced {
		return false
	}
	installed, err := versionOf(ctx, program)
	if err != nil {
		return false
	}
	started := w.c.startedVersion(ctx, pid)
	if started == "" { // this much is known of whatever runs
		started = strconv.Itoa(dataMajor(w.c.data()))
		if started == strconv.Itoa(installed.Major) && !replaced && !changed {
			return false
		}
	}
	if started == installed.Build && !replaced && !changed {
		return false
	}
	w.tell(Event{Kind: Upgraded, PID: pid, Err: fault.New(fault.Unavailable, "cluster.upgraded_underneath",
		fault.Args{"started": started, "installed": installed.Build})})
	return true
}

// startedVersion is what runs: as recorded by Start, or else as the running program says itself; "" where nobody knows.
func (c *Cluster) startedVersion(ctx context.Context, pid int) string {
	var record runningRecord
	if raw, err := ReadFile(c.path(runningName)); err == nil && json.Unmarshal(raw, &record) == nil && record.PID == pid {
		return record.Version
	}
	if program := runningProgram(pid); program != "" {
		if v, err := versionOf(ctx, program); err == nil {
			return v.Build
		}
	}
	return ""
}

// wait waits, until somebody calls Start or Stop here at the longest.
func (w *watcher) wait(ctx context.Context, pause time.Duration, poked <-chan struct{}) {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	case <-poked:
	}
}
