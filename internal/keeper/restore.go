package keeper

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"howdah/internal/cluster"
	"howdah/internal/fault"
	"howdah/internal/repo"
	"howdah/internal/wal"
)

// RecoverOptions say where and how a plan is carried out.
type RecoverOptions struct {
	To           string               // a folder that does not exist yet or is empty. The data directory becomes pgdata in it
	Program      string               // the path of howdah: restore_command brings the WAL with it
	Repos        []Place              // where the WAL is
	IdentityFile string               // of age, when the WAL is encrypted
	Installation cluster.Installation // PostgreSQL of the cluster's major version
	Account      *cluster.Account     // who PostgreSQL runs as; nil: we ourselves
	// Tablespaces says where the contents of tablespaces go, by their OIDs. Those that are not named go to tablespaces/OID in To.
	Tablespaces map[string]string
	// Archiving leaves archive_mode and archive_command as they were. Without it archiving is off in the restored cluster, so that it does not write into the archive
	// of the one that it is a copy of.
	Archiving bool
	// Histories is a pg_wal folder: the restored cluster takes none of the timelines whose histories are in there. "" where the archive knows them all.
	Histories string
	Scratch   bool       // it is looked at and thrown away: the disk is not waited for, and the server is a small one
	Clear     bool       // what an earlier restore into To left unfinished is removed
	Select    *Selection // what comes back; nil: everything
	Workers   int
	Phases    *Stopwatch            // may be nil
	Progress  func(RecoverProgress) // told some times per second; may be nil
}

// RecoverPhase is what a restore is at.
type RecoverPhase string

// The phases, in their order.
const (
	RecoverFiles   RecoverPhase = "files"   // Bytes of Total
	RecoverCombine RecoverPhase = "combine" // increments are put together
	RecoverWAL     RecoverPhase = "wal"     // replayed, Bytes of Total
	RecoverSync    RecoverPhase = "sync"    // waiting for the disk
)

// RecoverProgress is how far a restore has come.
type RecoverProgress struct {
	Phase RecoverPhase `json:"phase"`
	Bytes int64        `json:"bytes"`
	Total int64        `json:"total"`
	LSN   wal.LSN      `json:"lsn,omitzero"` // that has been replayed
}

// Recovered is what a restore has made.
type Recovered struct {
	Cluster  string       `json:"cluster"`
	System   uint64       `json:"system_identifier,string"`
	Dir      string       `json:"dir"`  // To
	Data     string       `json:"data"` // the data directory
	Backup   string       `json:"backup"`
	From     wal.Timeline `json:"from_timeline"`
	Timeline wal.Timeline `json:"timeline"` // the new one, that the restored cluster goes on with
	Until    wal.LSN      `json:"until"`    // where the WAL ends that it holds
	XID      uint32       `json:"xid,omitzero"`
	Reached  time.Time    `json:"reached,omitzero"` // when the last transaction committed that it holds
	Began    time.Time    `json:"began"`
	Ended    time.Time    `json:"ended"`

	Tablespaces map[string]string `json:"tablespaces,omitempty"` // by OID
}

const (
	// unfinishedName is the folder in To that everything is made in. What is in it is no cluster yet.
	unfinishedName = "unfinished-restore"
	// recordName says in To what was restored, and in the unfinished folder what shall be.
	recordName = "howdah-restore.json"
	restored   = "pgdata"
	spacesName = "tablespaces"
)

// unfinished is what is known of a restore under way.
type unfinished struct {
	Cluster     string            `json:"cluster"`
	Backup      string            `json:"backup"`
	Began       time.Time         `json:"began"`
	Socket      string            `json:"socket,omitempty"` // folder of the server's socket
	Tablespaces map[string]string `json:"tablespaces,omitempty"`
}

// Recover carries out a plan: files, WAL, and an end to the recovery. What it leaves is a cluster that is stopped, complete on disk, and starts with its own settings, on a
// timeline of its own. A run that is killed leaves the folder unfinished-restore in To, and no pgdata.
func Recover(ctx context.Context, r *repo.Repo, plan *Plan, options RecoverOptions) (*Recovered, error) {
	to, err := filepath.Abs(options.To)
	if err != nil {
		return nil, err
	}
	x := &recovery{r: r, plan: plan, options: options, to: to, work: filepath.Join(to, unfinishedName), began: time.Now().UTC().Truncate(time.Second)}
	if major := options.Installation.Version.Major; major != plan.id.Major {
		return nil, fault.New(fault.Conflict, "keeper.other_major", fault.Args{"want": plan.id.Major, "have": major})
	}
	chain := plan.Chain
	if len(chain) == 0 {
		chain = []*Backup{plan.Backup}
	}
	var ids []string
	for _, b := range chain {
		ids = append(ids, b.ID)
	}
	release, err := keepFor(ctx, r, plan.Cluster, chain[0].Start, func(id string) string { return baseFolder(plan.Cluster) + "/" + id + "/" + backupName }, ids...)
	if err != nil {
		return nil, err
	}
	defer release()
	if err := x.prepare(ctx); err != nil {
		return nil, err
	}
	done, err := x.run(ctx)
	if err == nil {
		return done, nil
	}
	if x.recovering { // the log is in there
		return nil, err
	}
	late, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	return nil, errors.Join(err, x.clear(late))
}

type recovery struct {
	r       *repo.Repo
	plan    *Plan
	options RecoverOptions
	to      string
	work    string // To/unfinished-restore
	began   time.Time
	spaces  map[string]string // where tablespaces go, by OID
	socket  string
	bytes   atomic.Int64

	feed       *feed // nil: restore_command brings all WAL
	recovering bool  // the server has been started
}

func (x *recovery) data() string     { return filepath.Join(x.work, restored) }
func (x *recovery) settings() string { return filepath.Join(x.work, "settings.json") }

// prepare sees to it that there is a place to restore into, and marks it.
func (x *recovery) prepare(ctx context.Context) error {
	entries, err := os.ReadDir(x.to)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return x.fault(err)
	}
	for _, e := range entries {
		switch e.Name() {
		case "lost+found":
		case unfinishedName:
			if !x.options.Clear {
				return fault.New(fault.Conflict, "keeper.unfinished_restore", fault.Args{"dir": x.work})
			}
		case spacesName:
			if _, err := os.Lstat(x.work); err != nil { // it is not of an unfinished one
				return fault.New(fault.Conflict, "keeper.not_empty", fault.Args{"dir": x.to, "name": e.Name()})
			}
		default:
			return fault.New(fault.Conflict, "keeper.not_empty", fault.Args{"dir": x.to, "name": e.Name()})
		}
	}
	if err := x.clear(ctx); err != nil {
		return err
	}
	x.spaces = map[string]string{}
	for _, t := range x.plan.Backup.Tarballs {
		if t.Name == "base" {
			continue
		}
		place := filepath.Join(x.to, spacesName, t.Name)
		if given, ok := x.options.Tablespaces[t.Name]; ok {
			if place, err = filepath.Abs(given); err != nil {
				return err
			}
			if held, err := os.ReadDir(place); err == nil && len(held) > 0 {
				return fault.New(fault.Conflict, "keeper.not_empty", fault.Args{"dir": place, "name": held[0].Name()})
			}
		}
		x.spaces[t.Name] = place
	}
	for oid := range x.options.Tablespaces {
		if x.spaces[oid] == "" {
			return fault.New(fault.Invalid, "keeper.no_tablespace", fault.Args{"oid": oid, "id": x.plan.Backup.ID})
		}
	}
	if err := os.MkdirAll(x.to, 0o700); err != nil {
		return x.fault(err)
	}
	if x.options.Select == nil { // of a part, the caller knows what it takes
		if _, _, err := x.plan.Room(x.to, x.options.Tablespaces); err != nil {
			return err
		}
	}
	if err := os.Mkdir(x.work, 0o700); err != nil {
		return x.fault(err)
	}
	if err := x.makeSocket(); err != nil {
		return err
	}
	record := unfinished{Cluster: x.plan.Cluster, Backup: x.plan.Backup.ID, Began: x.began, Socket: x.socket, Tablespaces: x.spaces}
	if err := x.write(filepath.Join(x.work, recordName), record); err != nil {
		return err
	}
	return x.own(x.to, x.work, x.socket)
}

// makeSocket makes a folder for the server's socket, whose path must be short.
func (x *recovery) makeSocket() (err error) {
	if x.socket, err = os.MkdirTemp("", "howdah-restore-"); err != nil {
		return x.fault(err)
	}
	if len(x.socket) > 80 || !reachable(x.socket) {
		_ = os.Remove(x.socket)
		if x.socket, err = os.MkdirTemp("/tmp", "howdah-restore-"); err != nil {
			return x.fault(err)
		}
	}
	return nil
}

// reachable tells whether everybody may enter the folder above: the temporary files of root may be hidden from others.
func reachable(dir string) bool {
	st, err := os.Stat(filepath.Dir(dir))
	return err == nil && st.Mode().Perm()&0o001 != 0
}

// Room tells what a restore needs of a folder's disk and what is free there, in bytes; the fault "keeper.no_room" when that is too little, there or where a tablespace
// (by its OID) goes to another disk. The WAL comes and goes, at most some segments at once; PostgreSQL keeps them up to max_wal_size.
func (p *Plan) Room(dir string, tablespaces map[string]string) (need, free int64, err error) {
	need = p.Write + min(p.WAL, 1<<30) + int64(len(p.Files)+len(p.Streamed))*int64(p.id.SegmentSize)
	whole := p.Backup
	if len(p.Chain) > 1 { // increments, and what they are increments to, lie beside what is made of them: about as much as the full one has
		whole = p.Chain[0]
		need += whole.Plain()
	}
	here, known := diskOf(nearest(dir))
	for _, t := range whole.Tarballs {
		place := tablespaces[t.Name]
		if place == "" {
			continue
		}
		place = nearest(place)
		if there, ok := diskOf(place); !known || !ok || there == here {
			continue
		}
		need -= t.Plain
		if free, err := freeSpace(place); err == nil && free < t.Plain {
			return t.Plain, free, noRoom(place, t.Plain, free)
		}
	}
	if free, err = freeSpace(nearest(dir)); err != nil {
		return need, 0, nil //nolint:nilerr // some file systems do not say
	}
	if free < need {
		return need, free, noRoom(dir, need, free)
	}
	return need, free, nil
}

func noRoom(dir string, need, free int64) error {
	return fault.New(fault.Unavailable, "keeper.no_room", fault.Args{"dir": dir, "need": need >> 20, "free": free >> 20})
}

// nearest is a folder, or the one above it that is there: it may have to be made.
func nearest(dir string) string {
	for {
		if _, err := os.Stat(dir); err == nil || dir == filepath.Dir(dir) {
			return dir
		}
		dir = filepath.Dir(dir)
	}
}

// clear removes what an unfinished restore has left, after its server was stopped.
func (x *recovery) clear(ctx context.Context) error {
	if _, err := os.Lstat(x.work); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	c, err := cluster.New(x.work, x.options.Installation, cluster.Options{Account: x.options.Account, Bare: true})
	if err != nil {
		return err
	}
	if _, running := c.Running(); running {
		if err := c.Stop(ctx, cluster.Immediate); err != nil {
			return err
		}
	}
	var record unfinished
	if raw, err := os.ReadFile(filepath.Join(x.work, recordName)); err == nil && json.Unmarshal(raw, &record) == nil {
		if strings.HasPrefix(filepath.Base(record.Socket), "howdah-restore-") {
			_ = os.RemoveAll(record.Socket)
		}
		for oid, place := range record.Tablespaces {
			if err := clearSpace(place, oid == filepath.Base(place) && filepath.Dir(place) == filepath.Join(x.to, spacesName)); err != nil {
				return x.fault(err)
			}
		}
		_ = os.Remove(filepath.Join(x.to, spacesName)) // when it is empty
	}
	// The record goes last: as long as it is there, the next run knows what this is.
	entries, err := os.ReadDir(x.work)
	if err != nil {
		return x.fault(err)
	}
	for _, e := range entries {
		if e.Name() != recordName {
			if err := os.RemoveAll(filepath.Join(x.work, e.Name())); err != nil {
				return x.fault(err)
			}
		}
	}
	return x.fault(os.RemoveAll(x.work))
}

// clearSpace empties the place of a tablespace: of what PostgreSQL puts there, and nothing else.
func clearSpace(place string, ours bool) error {
	if ours {
		return os.RemoveAll(place)
	}
	versions, _ := filepath.Glob(filepath.Join(place, "PG_[0-9]*_[0-9]*"))
	for _, dir := range versions {
		if err := os.RemoveAll(dir); err != nil {
			return err
		}
	}
	return nil
}

func (x *recovery) run(ctx context.Context) (*Recovered, error) {
	chain := x.plan.Chain
	if len(chain) == 0 {
		chain = []*Backup{x.plan.Backup}
	}
	x.options.Phases.Begin("files")
	settings := Settings{Cluster: x.plan.Cluster, Identity: x.plan.id, Repos: x.options.Repos, IdentityFile: x.options.IdentityFile}
	if err := settings.Save(x.settings()); err != nil {
		return nil, err
	}
	var err error
	if x.feed, err = x.beginFeed(ctx, &settings); err != nil {
		return nil, err
	}
	defer x.feed.end()
	if len(chain) == 1 {
		err = x.extract(ctx, chain[0], x.data(), func(oid string) string { return x.spaces[oid] })
	} else {
		err = x.combine(ctx, chain)
	}
	if err != nil {
		return nil, err
	}
	if err := x.takeFiles(ctx); err != nil {
		return nil, err
	}
	if err := takeHistories(x.options.Histories, filepath.Join(x.data(), "pg_wal")); err != nil {
		return nil, x.fault(err)
	}
	if err := x.mapSpaces(); err != nil {
		return nil, err
	}
	conf, err := x.configure()
	if err != nil {
		return nil, err
	}
	if err := x.ownAll(); err != nil {
		return nil, err
	}
	x.options.Phases.Begin("replay")
	timeline, err := x.recover(ctx)
	x.feed.end()
	if err != nil {
		return nil, err
	}
	return x.finish(conf, timeline)
}

func (x *recovery) tell(p RecoverProgress) {
	if x.options.Progress != nil {
		x.options.Progress(p)
	}
}

// recover starts PostgreSQL, lets it replay the WAL up to the plan's end, and stops it.
func (x *recovery) recover(ctx context.Context) (wal.Timeline, error) {
	c, err := cluster.New(x.work, x.options.Installation, cluster.Options{Account: x.options.Account, Bare: true})
	if err != nil {
		return 0, err
	}
	x.recovering = true
	stopFollowing := x.follow(ctx, filepath.Join(c.LogDir(), "start.log"))
	err = c.Start(ctx)
	if err == nil {
		err = x.awaitEnd(ctx, c)
	}
	stopFollowing()
	late, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Minute)
	defer cancel()
	if err != nil {
		if stopErr := c.Stop(late, cluster.Immediate); stopErr == nil && ctx.Err() != nil {
			x.recovering = false // nobody wants to read a log
		}
		return 0, x.recoveryFault(err, c.LogDir())
	}
	x.options.Phases.Begin("open")
	if err := c.Stop(late, cluster.Fast); err != nil {
		return 0, err
	}
	return x.check(c)
}

// awaitEnd waits until the server has come to the end of its recovery. Without a hot standby it says "standby" for as long as it is at it, and "ready" then. (LOCK_FILE_LINE_PM_STATUS
// in miscadmin.h)
func (x *recovery) awaitEnd(ctx context.Context, c *cluster.Cluster) error {
	again := time.NewTicker(20 * time.Millisecond)
	defer again.Stop()
	for {
		raw, err := os.ReadFile(filepath.Join(x.data(), "postmaster.pid"))
		if lines := strings.Split(string(raw), "\n"); err == nil && len(lines) > 7 && strings.TrimSpace(lines[7]) == "ready" {
			return nil
		}
		if _, running := c.Running(); !running {
			return fault.New(fault.Unavailable, "cluster.start_failed", fault.Args{"dir": x.data(), "log": c.LogDir()})
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-again.C:
		}
	}
}

// What PostgreSQL says of a recovery, with lc_messages at C.
var (
	redoAt    = regexp.MustCompile(`current LSN: ([0-9A-F]+/[0-9A-F]+)`)
	fetched   = regexp.MustCompile(`restored log file "([0-9A-F]{24})" from archive`)
	stoppedAt = regexp.MustCompile(`recovery stopping after WAL location \(LSN\) "([0-9A-F]+/[0-9A-F]+)"`)
	newLine   = regexp.MustCompile(`selected new timeline ID: ([0-9]+)`)
)

// follow reads the server's log while it recovers, and reports how far it is.
func (x *recovery) follow(ctx context.Context, log string) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var done sync.WaitGroup
	done.Go(func() {
		again := time.NewTicker(200 * time.Millisecond)
		defer again.Stop()
		at, told := x.plan.Backup.Start, wal.LSN(0)
		var from int64
		for {
			text, next := readFrom(log, from)
			from = next
			for line := range strings.Lines(text) {
				if m := redoAt.FindStringSubmatch(line); m != nil {
					if lsn, err := wal.ParseLSN(m[1]); err == nil {
						at = max(at, lsn)
					}
				} else if m := fetched.FindStringSubmatch(line); m != nil {
					if name, err := wal.ParseName(m[1]); err == nil {
						if number, err := name.Number(x.plan.id.SegmentSize); err == nil {
							at = max(at, x.plan.id.SegmentSize.Start(number))
						}
					}
				}
			}
			if at = min(at, x.plan.Until); at != told {
				told = at
				x.tell(RecoverProgress{Phase: RecoverWAL, Bytes: int64(at - x.plan.Backup.Start), Total: x.plan.WAL, LSN: at})
			}
			select {
			case <-ctx.Done():
				return
			case <-again.C:
			}
		}
	})
	return func() { cancel(); done.Wait() }
}

// readFrom reads the whole lines of a file from an offset on.
func readFrom(name string, from int64) (text string, next int64) {
	f, err := os.Open(name)
	if err != nil {
		return "", from
	}
	defer f.Close()
	buffer := make([]byte, 256<<10)
	n, _ := f.ReadAt(buffer, from)
	whole := strings.LastIndexByte(string(buffer[:n]), '\n') + 1
	return string(buffer[:whole]), from + int64(whole)
}

// recoveryFault says why PostgreSQL did not come to the end of the recovery.
func (x *recovery) recoveryFault(err error, logs string) error {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return fault.Wrap(err, fault.Unavailable, "keeper.restore_interrupted", fault.Args{"dir": x.work})
	}
	raw, _ := os.ReadFile(filepath.Join(logs, "start.log"))
	message := ""
	for line := range strings.Lines(string(raw)) {
		for _, severity := range []string{"FATAL:  ", "PANIC:  "} {
			if _, said, ok := strings.Cut(line, severity); ok && message == "" {
				message = strings.TrimSpace(said)
			}
		}
	}
	if message == "" {
		return err
	}
	return fault.Wrap(err, fault.Unavailable, "keeper.recovery_failed", fault.Args{"message": message, "log": filepath.Join(logs, "start.log")})
}

// check looks whether the recovery ended where it should, and that the cluster is whole.
func (x *recovery) check(c *cluster.Cluster) (wal.Timeline, error) {
	raw, err := os.ReadFile(filepath.Join(c.LogDir(), "start.log"))
	if err != nil {
		return 0, x.fault(err)
	}
	failed := func(message string) error {
		return fault.New(fault.Internal, "keeper.recovery_failed", fault.Args{"message": message, "log": filepath.Join(c.LogDir(), "start.log")})
	}
	m := stoppedAt.FindStringSubmatch(string(raw))
	if x.plan.Stop != 0 && (m == nil || m[1] != x.plan.Stop.String()) {
		return 0, failed(fmt.Sprintf("it did not stop at %s", x.plan.Stop))
	}
	line := newLine.FindStringSubmatch(string(raw))
	if line == nil {
		return 0, failed("it took no new timeline")
	}
	timeline, err := strconv.ParseUint(line[1], 10, 32)
	if err != nil {
		return 0, failed(err.Error())
	}
	for _, name := range []string{"recovery.signal", "backup_label", "postmaster.pid"} {
		if _, err := os.Lstat(filepath.Join(x.data(), name)); err == nil {
			return 0, failed(name + " is there still")
		}
	}
	return wal.Timeline(timeline), nil
}

// finish takes the settings of the recovery away, waits for the disk, and puts the cluster in its place.
func (x *recovery) finish(conf autoConf, timeline wal.Timeline) (*Recovered, error) {
	if err := x.settle(conf, timeline); err != nil {
		return nil, err
	}
	if err := x.ownAll(); err != nil {
		return nil, err
	}
	toSync := append([]string{x.data()}, x.placesOfSpaces()...)
	if x.options.Scratch {
		toSync = nil
	} else {
		x.tell(RecoverProgress{Phase: RecoverSync, Total: x.plan.Write})
	}
	for _, dir := range toSync {
		if err := repo.SyncTree(dir); err != nil {
			return nil, x.fault(err)
		}
	}
	done := &Recovered{Cluster: x.plan.Cluster, System: x.plan.id.System, Dir: x.to, Data: filepath.Join(x.to, restored), Backup: x.plan.Backup.ID, From: x.plan.Timeline,
		Timeline: timeline, Until: x.plan.Until, XID: x.plan.XID, Reached: x.plan.Reached, Began: x.began, Ended: time.Now().UTC().Truncate(time.Second)}
	if len(x.spaces) > 0 {
		done.Tablespaces = x.spaces
	}
	if err := x.write(filepath.Join(x.to, recordName), done); err != nil {
		return nil, err
	}
	if err := x.own(filepath.Join(x.to, recordName)); err != nil {
		return nil, err
	}
	if err := cluster.Rename(x.data(), done.Data); err != nil {
		return nil, x.fault(err)
	}
	if err := syncDir(x.to); err != nil {
		return nil, x.fault(err)
	}
	_ = os.RemoveAll(x.socket)
	return done, x.fault(os.RemoveAll(x.work))
}

func (x *recovery) placesOfSpaces() []string {
	var places []string
	for _, place := range x.spaces {
		places = append(places, place)
	}
	slices.Sort(places)
	return places
}

func (x *recovery) write(name string, value any) error {
	raw, err := json.MarshalIndent(value, "", "  ")
	if err != nil {
		return err
	}
	return x.fault(writeFile(name, append(raw, '\n'), true))
}

// own gives files to the account that PostgreSQL runs as.
func (x *recovery) own(paths ...string) error {
	a := x.options.Account
	if a == nil || a.UID == os.Geteuid() {
		return nil
	}
	for _, path := range paths {
		if err := os.Lchown(path, a.UID, a.GID); err != nil {
			return x.fault(err)
		}
	}
	return nil
}

func (x *recovery) ownAll() error {
	if a := x.options.Account; a == nil || a.UID == os.Geteuid() {
		return nil
	}
	tops := append([]string{x.work}, x.placesOfSpaces()...)
	if spaces := filepath.Join(x.to, spacesName); len(x.spaces) > 0 {
		if _, err := os.Lstat(spaces); err == nil {
			tops = append(tops, spaces)
		}
	}
	for _, top := range tops {
		err := filepath.WalkDir(top, func(path string, _ fs.DirEntry, err error) error {
			if err == nil {
				err = x.own(path)
			}
			if errors.Is(err, fs.ErrNotExist) && path != top {
				return nil // a look-ahead of wal fetch clears up behind itself
			}
			return err
		})
		if err != nil {
			return x.fault(err)
		}
	}
	return nil
}

// fault says what a failed file operation means for a person.
func (x *recovery) fault(err error) error {
	switch {
	case err == nil, errors.As(err, new(*fault.Fault)):
		return err
	case errors.Is(err, fs.ErrPermission):
		return fault.Wrap(err, fault.Forbidden, "repo.target_permissions", fault.Args{"dir": x.to})
	case noSpace(err):
		return fault.Wrap(err, fault.Unavailable, "repo.target_full", fault.Args{"dir": x.to})
	}
	return fmt.Errorf("restoring into %s: %w", x.to, err)
}

func lastLine(s string) string {
	s = strings.TrimSpace(s)
	return s[strings.LastIndexByte(s, '\n')+1:]
}
