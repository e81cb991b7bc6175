package cluster

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"howdah/internal/fault"
)

// Mode is how Stop treats those who are connected; https://www.postgresql.org/docs/current/server-shutdown.html
type Mode string

// The modes.
const (
	Smart     Mode = "smart"     // waits until all have gone by themselves
	Fast      Mode = "fast"      // rolls their transactions back and disconnects them
	Immediate Mode = "immediate" // as after a crash: recovery at the next start
)

// startLog takes what the server says before its log is open.
const startLog = "start.log"

// runningName holds which version was started, as JSON; see Watch.
const runningName = "started.json"

type runningRecord struct {
	PID     int    `json:"pid"`
	Version string `json:"version"`
}

// Start starts the server and returns when it answers. A server that runs already in this data directory, whoever
// started it, is taken over (waited for, where it is still starting). The server belongs to no terminal and does not end with this
// process. When ctx ends first, the server goes on starting, and another Start waits for it again.
//
// The settings in howdah.conf are written anew, and a port that somebody else has taken meanwhile is replaced by the next free one.
func (c *Cluster) Start(ctx context.Context) error {
	return c.start(ctx, true)
}

// start with deliberate=false (Watch) respects a Stop that came in between.
func (c *Cluster) start(ctx context.Context, deliberate bool) error {
	if err := c.mayRun(); err != nil {
		return err
	}
	if err := c.mayStart(); err != nil {
		return err
	}
	unlock, err := c.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	hold := c.path(stoppedName)
	if deliberate {
		if err := Remove(hold); err != nil && !errors.Is(err, os.ErrNotExist) {
			return c.fileFault(err)
		}
		defer c.poke()
	} else if exists(hold) {
		return fault.New(fault.Conflict, "cluster.on_hold", fault.Args{"dir": c.dir})
	}
	for tries := 1; ; tries++ {
		err := c.startLocked(ctx)
		if err == nil {
			break
		}
		// Somebody killed it while we waited for it: the next one may be left alone.
		if !errors.Is(err, errVanished) || tries == 3 {
			return err
		}
	}
	if exists(hold) { // Stop does not wait for a start: whoever comes last has to see the other
		if err := c.stop(ctx, Fast); err != nil {
			return err
		}
		return fault.New(fault.Conflict, "cluster.on_hold", fault.Args{"dir": c.dir})
	}
	return nil
}

// mayStart looks at the data directory before PostgreSQL does, to say more clearly what is wrong with it.
func (c *Cluster) mayStart() error {
	st, err := os.Stat(c.data())
	if errors.Is(err, os.ErrNotExist) {
		return fault.New(fault.NotFound, "cluster.absent", fault.Args{"dir": c.dir})
	}
	if err != nil {
		return c.fileFault(err)
	}
	if _, ok := c.Running(); ok {
		return nil
	}
	return c.fits(st)
}

func (c *Cluster) startLocked(ctx context.Context) error {
	if l, ok := c.running(); ok {
		if l.state != "stopping" {
			return c.waitReady(ctx)
		}
		if err := waitGone(ctx, l.pid, c.data(), l.started); err != nil {
			return fault.Wrap(err, fault.Unavailable, "cluster.still_stopping", fault.Args{"dir": c.data()})
		}
	}
	// The package may have been upgraded since we looked; what is started now is what is on disk now.
	in, err := inspect(ctx, c.in.Bin)
	if err != nil {
		return fault.Wrap(err, fault.Unavailable, "cluster.programs_gone", fault.Args{"bin": c.in.Bin})
	}
	in.PgAudit = in.PgAudit && !c.without
	if major := dataMajor(c.data()); major != in.Version.Major {
		return fault.New(fault.Conflict, "cluster.wrong_major",
			fault.Args{"dir": c.data(), "data": major, "installed": in.Version.Major})
	}
	if err := c.retireLockFile(ctx); err != nil {
		return c.fileFault(err)
	}
	if err := os.Mkdir(c.LogDir(), 0o700); err == nil {
		err = c.opt.Account.own(c.LogDir())
		if err != nil {
			return c.fileFault(err)
		}
	} else if !errors.Is(err, os.ErrExist) {
		return c.fileFault(err)
	}

	avoid := map[int]bool{}
	again := time.NewTicker(100 * time.Millisecond)
	defer again.Stop()
	patience := time.Now().Add(10 * time.Second)
	for silent := 0; ; {
		var want conf
		if !c.opt.Bare {
			if want, err = c.prepare(ctx, in, avoid); err != nil {
				return err
			}
		}
		said, err := c.launch(ctx)
		if err == nil {
			break
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if _, ok := c.running(); ok { // somebody else was faster, without our lock
			break
		}
		switch {
		// Whoever took the port in the moment between our look and PostgreSQL's: try the next.
		case !c.opt.Bare && (strings.Contains(said, "could not bind") || strings.Contains(said, "could not create any TCP/IP sockets")):
			if avoid[want.port] = true; len(avoid) < 5 {
				continue
			}
			return fault.Wrap(err, fault.Conflict, "cluster.port_taken", fault.Args{"port": want.port})
		// After a kill -9 of the postmaster its children take a moment to notice and to end.
		case strings.Contains(said, "pre-existing shared memory block") && time.Now().Before(patience):
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-again.C:
				continue
			}
		// It ended without a word: somebody has killed it while it started, and the next one may be left alone.
		case !strings.Contains(said, "FATAL") && !strings.Contains(said, "PANIC") && silent < 3:
			silent++
			continue
		}
		return c.startFault(err, said)
	}
	if err := c.waitReady(ctx); err != nil {
		return err
	}
	if pid, ok := c.Running(); ok {
		raw, err := json.Marshal(runningRecord{PID: pid, Version: in.Version.Build})
		if err != nil {
			return err
		}
		return c.fileFault(writeFile(c.path(runningName), append(raw, '\n'), c.opt.Account))
	}
	return nil
}

// prepare writes our settings for the next start.
func (c *Cluster) prepare(ctx context.Context, in Installation, avoid map[int]bool) (conf, error) {
	hadAudit := c.readConf().pgaudit
	want, err := c.writeConf(ctx, c.data(), in.PgAudit, avoid)
	if err != nil {
		return want, err
	}
	if err := clearSockets(ctx, want.socket); err != nil {
		return want, c.fileFault(err)
	}
	if want.pgaudit && !hadAudit {
		err = c.single(ctx, c.data(), Database, "CREATE EXTENSION IF NOT EXISTS pgaudit;\n\n")
	}
	return want, err
}

// retireLockFile makes a postmaster.pid harmless whose process is not our postmaster but somebody else who got its number
// since: PostgreSQL would refuse to start beside it. The file stays, with a number that no process can have, because PostgreSQL
// finds orphaned children of a dead postmaster by the rest of it.
//
// Only that file is touched which PostgreSQL itself would refuse. Any other may change hands at this moment: a Howdah that was
// killed leaves the start behind that it had begun, and two servers on one data directory would be the end of it.
func (c *Cluster) retireLockFile(ctx context.Context) error {
	path := filepath.Join(c.data(), "postmaster.pid")
	raw, err := os.ReadFile(path)
	if err == nil && !bytes.Contains(raw, []byte("\n")) { // torn, unless it is being written right now
		moment := time.NewTimer(200 * time.Millisecond)
		defer moment.Stop()
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-moment.C:
		}
		raw, err = os.ReadFile(path)
	}
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	number, rest, _ := strings.Cut(string(raw), "\n")
	if rest == "" { // PostgreSQL would call it bogus and give up
		return os.Remove(path)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(number))
	if pid < 0 { // of single-user mode
		pid = -pid
	}
	l, _ := readLockFile(c.data())
	if err == nil && (!taken(pid) || isPostmaster(pid, c.data(), l.started)) {
		return nil
	}
	return writeFile(path, []byte("2147483646\n"+rest), c.opt.Account)
}

// clearSockets removes what a killed server left in the socket directory, which is this cluster's alone. PostgreSQL removes it too,
// but not while the number in the socket's lock file belongs to a process: a stranger, or the dead server itself where
// process 1 is slow to collect it. A socket that somebody answers stays: a Howdah that was killed while it started PostgreSQL
// leaves a start behind that our look at the lock file may have come too early for.
func clearSockets(ctx context.Context, dir string) error {
	if dir == "" {
		return nil
	}
	alive, _ := filepath.Glob(filepath.Join(globQuote(dir), ".s.PGSQL.*[0-9]")) // well formed
	for _, path := range alive {
		if conn, err := (&net.Dialer{}).DialContext(ctx, "unix", path); err == nil {
			return conn.Close()
		}
	}
	left, _ := filepath.Glob(filepath.Join(globQuote(dir), ".s.PGSQL.*")) // well formed
	for _, path := range left {
		if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return nil
}

// launch runs pg_ctl start and gives what the server said when that failed.
func (c *Cluster) launch(ctx context.Context) (said string, err error) {
	mark, err := c.markLog()
	if err != nil {
		return "", err
	}
	// pg_ctl hands the server to a shell, with these paths in double quotes: a relative one and the environment (PGDATA) are
	// safe whatever a directory is called. -D is for people who look at the list of processes.
	args := []string{"start", "-w", "-t", "2000000", "-s", "-l", filepath.Join(logName, startLog)}
	if !strings.ContainsAny(c.data(), "\"$`\\%") {
		args = append(args, "-D", c.data())
	}
	patient, done := c.untilSeen(ctx)
	defer done()
	_, err = c.run(patient, nil, "pg_ctl", args...)
	if err == nil {
		return "", nil
	}
	said = c.lastWords(ctx, mark)
	var failed *commandError
	if errors.As(err, &failed) {
		failed.output = strings.TrimSpace(failed.output + "\n" + lastLines(said, 12))
	}
	return said, err
}

// untilSeen is a context that ends after ctx, but not before the server that is being started can be seen (or five seconds
// have passed). Without pg_ctl there would be a server that nobody knows of, and Stop would find nothing to stop.
func (c *Cluster) untilSeen(ctx context.Context) (patient context.Context, done func()) {
	patient, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		defer cancel()
		limit := time.NewTimer(5 * time.Second)
		defer limit.Stop()
		again := time.NewTicker(5 * time.Millisecond)
		defer again.Stop()
		for {
			if _, ok := c.running(); ok {
				return
			}
			select {
			case <-patient.Done():
				return
			case <-limit.C:
				return
			case <-again.C:
			}
		}
	})
	return patient, func() { stop(); cancel() }
}

// markLog empties start.log and remembers how far the other files of the log go.
func (c *Cluster) markLog() (map[string]int64, error) {
	path := filepath.Join(c.LogDir(), startLog)
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		return nil, c.fileFault(err)
	}
	if err := c.opt.Account.own(path); err != nil {
		return nil, c.fileFault(err)
	}
	mark := map[string]int64{}
	files, _ := filepath.Glob(filepath.Join(globQuote(c.LogDir()), "*")) // well formed
	for _, file := range files {
		if st, err := os.Stat(file); err == nil {
			mark[file] = st.Size()
		}
	}
	return mark, nil
}

// lastWords is what a server that has failed said. The process that writes the log outlives it for a moment, so this waits (two
// seconds at the longest) until the end is in it.
func (c *Cluster) lastWords(ctx context.Context, mark map[string]int64) string {
	again := time.NewTicker(20 * time.Millisecond)
	defer again.Stop()
	for deadline := time.Now().Add(2 * time.Second); ; {
		said := c.saidSince(mark)
		if strings.Contains(said, "FATAL") || strings.Contains(said, "PANIC") ||
			strings.Contains(said, "database system is shut down") || time.Now().After(deadline) {
			return said
		}
		select {
		case <-ctx.Done():
			return said
		case <-again.C:
		}
	}
}

// saidSince is what came into the log since the mark: messages only, oldest first; at most the last 64 KiB of each file.
func (c *Cluster) saidSince(mark map[string]int64) string {
	var b strings.Builder
	files, _ := filepath.Glob(filepath.Join(globQuote(c.LogDir()), "*"))
	slices.SortFunc(files, func(x, y string) int { // start.log first: what is in it came first
		return cmp.Or(btoi(filepath.Base(y) == startLog)-btoi(filepath.Base(x) == startLog), strings.Compare(x, y))
	})
	for _, file := range files {
		f, err := os.Open(file)
		if err != nil {
			continue
		}
		size, err := f.Seek(0, io.SeekEnd)
		from := max(mark[file], size-64<<10)
		if err == nil && size > from {
			raw := make([]byte, size-from)
			n, _ := f.ReadAt(raw, from)
			for line := range strings.Lines(string(raw[:n])) {
				b.WriteString(plainLine(line))
			}
		}
		f.Close()
	}
	return b.String()
}

// plainLine takes the message out of a line of jsonlog, and leaves others as they are.
func plainLine(line string) string {
	var record struct {
		Severity string `json:"error_severity"`
		Message  string `json:"message"`
		Detail   string `json:"detail"`
		Hint     string `json:"hint"`
	}
	if json.Unmarshal([]byte(line), &record) != nil || record.Message == "" {
		return line
	}
	out := record.Severity + ": " + record.Message + "\n"
	if record.Detail != "" {
		out += "DETAIL: " + record.Detail + "\n"
	}
	if record.Hint != "" {
		out += "HINT: " + record.Hint + "\n"
	}
	return out
}

// startFault says why the server did not start; the cause ends with the last lines of its own log.
func (c *Cluster) startFault(err error, said string) error {
	has := func(s string) bool { return strings.Contains(said, s) || strings.Contains(err.Error(), s) }
	switch {
	case has("No space left on device"):
		return fault.Wrap(err, fault.Unavailable, "cluster.disk_full", fault.Args{"dir": c.dir})
	case has("has wrong ownership"):
		return fault.Wrap(err, fault.Forbidden, "cluster.foreign_owner", fault.Args{"dir": c.data(), "account": c.accountName()})
	case has("Permission denied"), has("has invalid permissions"):
		return fault.Wrap(err, fault.Forbidden, "cluster.permissions", fault.Args{"dir": c.dir, "account": c.accountName()})
	case has("pre-existing shared memory block"):
		return fault.Wrap(err, fault.Unavailable, "cluster.orphans", fault.Args{"dir": c.data()})
	}
	return fault.Wrap(err, fault.Unavailable, "cluster.start_failed", fault.Args{"dir": c.data(), "log": c.LogDir()})
}

var errVanished = errors.New("the server ended before it answered")

// waitReady waits until the server that runs answers, or ends.
func (c *Cluster) waitReady(ctx context.Context) error {
	again := time.NewTicker(20 * time.Millisecond)
	defer again.Stop()
	for {
		l, ok := c.running()
		if !ok {
			return fault.Wrap(errVanished, fault.Unavailable, "cluster.start_failed", fault.Args{"dir": c.data(), "log": c.LogDir()})
		}
		if l.state == "ready" || l.state == "standby" {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-again.C:
		}
	}
}

// Stop stops the server on purpose and returns when it has ended; a server that does not run is success. Watch, in whichever
// process, leaves it stopped until the next Start. When ctx ends first the server is still stopping (or waiting for its clients, in mode Smart)
// and the fault is "cluster.still_stopping".
func (c *Cluster) Stop(ctx context.Context, mode Mode) error {
	if dataMajor(c.data()) == 0 {
		return nil
	}
	err := writeFile(c.path(stoppedName), []byte("Stopped on purpose. The next start removes this file.\n"), c.opt.Account)
	c.poke()
	// A disk that has no room for the file is no reason to leave the server running.
	return errors.Join(c.stop(ctx, mode), c.fileFault(err))
}

// Restart stops (mode Fast) and starts: after an upgrade of the package, for instance.
func (c *Cluster) Restart(ctx context.Context) error {
	if err := c.Stop(ctx, Fast); err != nil {
		return err
	}
	return c.Start(ctx)
}

func (c *Cluster) stop(ctx context.Context, mode Mode) error {
	l, ok := c.running()
	if !ok {
		return nil
	}
	signal := func(mode Mode) error {
		if err := c.signalStop(ctx, l.pid, mode); err != nil {
			return fault.Wrap(err, fault.Forbidden, "cluster.permissions", fault.Args{"dir": c.dir, "account": c.accountName()})
		}
		return nil
	}
	if err := signal(mode); err != nil {
		return err
	}
	// A server that is asked while it recovers from the crash of one of its processes may wait for ever for its checkpointer,
	// which nobody tells to end (PostmasterStateMachine, seen in 15). What it was doing it has to do again anyway.
	if mode == Fast {
		brief, done := context.WithTimeout(ctx, stuckAfter)
		err := waitGone(brief, l.pid, c.data(), l.started)
		done()
		if err == nil {
			return nil
		}
		if ctx.Err() == nil && !c.shuttingDown(ctx) {
			if err := signal(Immediate); err != nil {
				return err
			}
		}
	}
	if err := waitGone(ctx, l.pid, c.data(), l.started); err != nil {
		return fault.Wrap(err, fault.Unavailable, "cluster.still_stopping", fault.Args{"dir": c.data()})
	}
	return nil
}

// stuckAfter is how long disconnecting everybody may take, before the checkpoint that ends a server begins.
const stuckAfter = 5 * time.Second

// shuttingDown tells whether the server writes its last checkpoint, which may take long, or has written it.
func (c *Cluster) shuttingDown(ctx context.Context) bool {
	control, err := c.Control(ctx)
	return err != nil || control.Down // better too patient than a recovery for nothing
}

// pollGone is waitGone for systems that cannot tell us.
func pollGone(ctx context.Context, pid int, data string, started time.Time) error {
	again := time.NewTicker(100 * time.Millisecond)
	defer again.Stop()
	for isPostmaster(pid, data, started) {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-again.C:
		}
	}
	return nil
}

// DSN says to a driver (in libpq's keyword form) how to reach a database as one of the Roles: by the Unix socket where there is one, by
// 127.0.0.1 otherwise. It changes when a Start has to take another port, so ask again after each.
func (c *Cluster) DSN(role, database string) (string, error) {
	password, err := c.Password(role)
	if err != nil {
		return "", err
	}
	s := c.Status()
	if s.State == Absent {
		return "", fault.New(fault.NotFound, "cluster.absent", fault.Args{"dir": c.dir})
	}
	host := "127.0.0.1"
	if conf := c.readConf(); hasSockets && conf.socket != "" {
		host = conf.socket
	}
	quote := func(s string) string { return "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(s) + "'" }
	return strings.Join([]string{"host=" + quote(host), "port=" + strconv.Itoa(s.Port), "user=" + quote(role),
		"password=" + quote(password), "dbname=" + quote(database), "sslmode=disable"}, " "), nil
}

// Password is that of one of the roles that Howdah made; "cluster.role" for any other.
func (c *Cluster) Password(role string) (string, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.secrets == nil {
		path := c.path(secretsName)
		raw, err := os.ReadFile(path)
		if err == nil {
			err = json.Unmarshal(raw, &c.secrets)
		}
		if err != nil {
			c.secrets = nil
			return "", fault.Wrap(err, fault.Unavailable, "cluster.secrets", fault.Args{"path": path})
		}
	}
	password, ok := c.secrets[role]
	if !ok {
		return "", fault.New(fault.NotFound, "cluster.role", fault.Args{"role": role})
	}
	return password, nil
}
