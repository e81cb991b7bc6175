package cluster

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"howdah/internal/fault"
)

const (
	dataName    = "pgdata"
	secretsName = "secrets.json"
	logName     = "log"
	runName     = "run"
	stoppedName = "stopped"
	lockName    = "lock"
	confName    = "howdah.conf"
)

// The roles of every cluster (least privilege by construction), the superuser among them, and the database.
const (
	Superuser  = "postgres"     // only for what nobody else may do; no part of normal life uses it
	Owner      = "howdah_owner" // owns the database; runs migrations and nothing else
	App        = "howdah_app"   // reads and writes rows
	Replicator = "replicator"   // REPLICATION: base backups and WAL
	Watcher    = "howdah_watch" // pg_monitor: statistics
	Database   = "howdah"
	Auditor    = "howdah_auditor" // nobody logs in as it: its rights say which reads and writes pgAudit records (audit/cover)
)

// Roles lists the roles, the superuser first.
var Roles = []string{Superuser, Owner, App, Replicator, Watcher}

// Options say what is not the same for every cluster.
type Options struct {
	Account  *Account          // who PostgreSQL runs as; nil: we ourselves (which must not be root)
	Port     int               // the port to try first; 0: the one used last, or 5432
	Settings map[string]string // further settings of PostgreSQL, over ours; values are quoted here
	// Bare starts a data directory with the settings that are in it and nothing else: howdah.conf is neither written nor minded. Port and Settings
	// are of no effect then.
	Bare bool
}

// Cluster is one database cluster below one directory. Its methods may be called by several goroutines, and several
// processes may hold a Cluster of the same directory: what they share is in files, under a lock.
type Cluster struct {
	dir     string // absolute, links resolved as far as it exists
	in      Installation
	opt     Options
	scratch bool // loses its data with the machine: no fsync, no TCP
	without bool // pgAudit is not loaded, though it may be installed
	segment int  // MiB of a segment of WAL when the cluster is made; 0: as PostgreSQL has it
	// elsewhere is the data directory of a cluster that somebody else runs; "": it is below dir.
	elsewhere string

	mu      sync.Mutex
	secrets map[string]string
	changed chan struct{} // closed and replaced when Start or Stop was called here: Watch looks at once
}

// New describes the cluster below dir, which need not exist yet; nothing is touched.
func New(dir string, in Installation, opt Options) (*Cluster, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	if real, err := filepath.EvalSymlinks(abs); err == nil {
		abs = real
	}
	return &Cluster{dir: abs, in: in, opt: opt, changed: make(chan struct{})}, nil
}

// Dir is the directory that all of the cluster is below, absolute.
func (c *Cluster) Dir() string { return c.dir }

// DataDir is PostgreSQL's data directory.
func (c *Cluster) DataDir() string { return c.data() }

// LogDir is where PostgreSQL writes its jsonlog files.
func (c *Cluster) LogDir() string { return c.path(logName) }

// Installation is the one that the cluster is run with.
func (c *Cluster) Installation() Installation { return c.in }

func (c *Cluster) path(name string) string { return filepath.Join(c.dir, name) }
func (c *Cluster) data() string {
	if c.elsewhere != "" {
		return c.elsewhere
	}
	return c.path(dataName)
}

// State of a cluster, from its files and processes.
type State string

// The states.
const (
	Absent   State = "absent"   // not initialised
	Stopped  State = "stopped"  // no server runs
	Starting State = "starting" // a server runs and does not answer yet (recovery after a crash takes a while)
	Running  State = "running"  // a server runs and answers
	Stopping State = "stopping" // a server runs and takes no new connections
)

// Status is what can be said without asking the server.
type Status struct {
	State   State
	PID     int       // of the postmaster, 0 where none runs
	Started time.Time // of the postmaster
	Port    int       // of the running server, or the one it had last
	Socket  string    // directory of the Unix socket, "" where there is none
	Major   int       // of the data directory, 0 when absent
	OnHold  bool      // stopped on purpose: Watch leaves it stopped
}

// lockFile is what postmaster.pid says. Its lines: pid, data directory, start time, port, socket directory, address, shared memory,
// state; https://www.postgresql.org/docs/current/storage-file-layout.html and src/include/utils/pidfile.h.
type lockFile struct {
	pid     int
	started time.Time
	port    int
	socket  string
	state   string
}

func readLockFile(data string) (lockFile, error) {
	raw, err := os.ReadFile(filepath.Join(data, "postmaster.pid"))
	if err != nil {
		return lockFile{}, err
	}
	lines := strings.Split(string(raw), "\n")
	line := func(i int) string {
		if i < len(lines) {
			return strings.TrimSpace(lines[i])
		}
		return ""
	}
	var l lockFile
	l.pid, _ = strconv.Atoi(line(0)) // single-user mode writes a negative one; a torn file gives 0
	seconds, _ := strconv.ParseInt(line(2), 10, 64)
	l.started = time.Unix(seconds, 0)
	l.port, _ = strconv.Atoi(line(3))
	l.socket, l.state = line(4), line(7)
	return l, nil
}

// running gives the lock file of a postmaster that is alive and works on this data directory.
func (c *Cluster) running() (lockFile, bool) {
	l, err := readLockFile(c.data())
	if err != nil || l.pid <= 0 || !isPostmaster(l.pid, c.data(), l.started) {
		return lockFile{}, false
	}
	return l, true
}

// Running gives the process id of the postmaster of this data directory, whoever started it. A lock file left behind by a
// crash, or one whose number another process has got since, counts as not running.
func (c *Cluster) Running() (pid int, ok bool) {
	l, ok := c.running()
	return l.pid, ok
}

// Status looks at files and processes.
func (c *Cluster) Status() Status {
	s := Status{State: Absent, Major: dataMajor(c.data()), OnHold: exists(c.path(stoppedName))}
	if s.Major == 0 {
		return s
	}
	s.State = Stopped
	conf := c.readConf()
	s.Port, s.Socket = conf.port, conf.socket
	if l, ok := c.running(); ok {
		s.PID, s.Started, s.State = l.pid, l.started, Starting
		if l.port > 0 {
			s.Port = l.port
		}
		switch l.state {
		case "ready", "standby":
			s.State = Running
		case "stopping":
			s.State = Stopping
		}
	}
	return s
}

// lock keeps other processes from changing the cluster's files meanwhile. It waits until ctx ends, and it ends with this
// process however that dies.
func (c *Cluster) lock(ctx context.Context) (unlock func(), err error) {
	f, err := os.OpenFile(c.path(lockName), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, c.fileFault(err)
	}
	if err := c.opt.Account.own(f.Name()); err != nil {
		f.Close()
		return nil, err
	}
	again := time.NewTicker(20 * time.Millisecond)
	defer again.Stop()
	for {
		ok, err := tryLock(f)
		if ok {
			return func() { f.Close() }, nil
		}
		if err != nil {
			f.Close()
			return nil, c.fileFault(err)
		}
		select {
		case <-ctx.Done():
			f.Close()
			return nil, fault.Wrap(ctx.Err(), fault.Unavailable, "cluster.busy", fault.Args{"dir": c.dir})
		case <-again.C:
		}
	}
}

// fileFault says what a failed file operation below our directory means for a person.
func (c *Cluster) fileFault(err error) error {
	switch {
	case err == nil:
		return nil
	case noSpace(err):
		return fault.Wrap(err, fault.Unavailable, "cluster.disk_full", fault.Args{"dir": c.dir})
	case errors.Is(err, fs.ErrPermission):
		return fault.Wrap(err, fault.Forbidden, "cluster.permissions", fault.Args{"dir": c.dir, "account": c.accountName()})
	}
	return err
}

func (c *Cluster) accountName() string {
	if c.opt.Account != nil {
		return c.opt.Account.Name
	}
	for _, name := range []string{"USER", "USERNAME"} {
		if user := os.Getenv(name); user != "" {
			return user
		}
	}
	return strconv.Itoa(os.Geteuid())
}

// mayRun refuses what cannot work before anything is made.
func (c *Cluster) mayRun() error {
	if c.opt.Account == nil && isRoot() {
		return fault.New(fault.Forbidden, "cluster.root", fault.Args{"account": "root"})
	}
	for _, path := range []string{c.dir, c.in.Bin} {
		if unusable(path) {
			return fault.New(fault.Invalid, "cluster.letters", fault.Args{"dir": path, "volume": filepath.VolumeName(path)})
		}
	}
	if at := barrier(c.dir, c.opt.Account); at != "" {
		return fault.New(fault.Forbidden, "cluster.unreachable",
			fault.Args{"dir": c.dir, "parent": at, "account": c.accountName()})
	}
	if at := barrier(c.in.Program("postgres"), c.opt.Account); at != "" {
		return fault.New(fault.Forbidden, "cluster.unreachable",
			fault.Args{"dir": c.in.Bin, "parent": at, "account": c.accountName()})
	}
	return nil
}

// poke wakes Watch.
func (c *Cluster) poke() {
	c.mu.Lock()
	close(c.changed)
	c.changed = make(chan struct{})
	c.mu.Unlock()
}

func (c *Cluster) poked() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.changed
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// digest is a short name for a path.
func digest(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:5])
}

// WriteFile keeps something beside the cluster, in the place of what was kept under that name.
func (c *Cluster) WriteFile(name string, content []byte) error {
	return writeFile(c.path(name), content, c.opt.Account)
}

// ReadFile reads what WriteFile kept; fs.ErrNotExist when there is nothing.
func (c *Cluster) ReadFile(name string) ([]byte, error) { return ReadFile(c.path(name)) }

// writeFile puts a whole file in the place of another: temporary name, fsync, rename.
func writeFile(path string, content []byte, a *Account) error {
	tmp, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-") // 0600
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.Write(content)
	if err == nil {
		err = tmp.Sync()
	}
	if closeErr := tmp.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = a.own(tmp.Name())
	}
	if err == nil {
		err = Rename(tmp.Name(), path)
	}
	if err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}
