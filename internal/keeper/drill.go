package keeper

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	mathrand "math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"howdah/internal/cluster"
	"howdah/internal/fault"
	"howdah/internal/repo"
)

// DrillOptions say how a drill is made.
type DrillOptions struct {
	Scratch      string  // a folder, in which a folder is made for what is thrown away afterwards
	Program      string  // the path of howdah: restore_command brings the WAL with it
	Repos        []Place // where the WAL is
	IdentityFile string  // of age, when the backups are encrypted
	Installation cluster.Installation
	Account      *cluster.Account    // who PostgreSQL runs as; nil: we ourselves
	Lock         string              // as BaseOptions.Lock: a drill and a backup keep out of each other's way
	By           string              // which program it is, for the report
	Workers      int                 // frames at once
	Progress     func(DrillProgress) // told some times per second; may be nil
}

// DrillCheck is the phase of a drill that comes after those of a restore: PostgreSQL reads all that was restored, Bytes of Total.
const DrillCheck RecoverPhase = "check"

// DrillProgress is how far a drill has come.
type DrillProgress struct {
	Restore int // which of its restores, from 1
	Of      int
	RecoverProgress
}

// Exercise is one restore of a drill.
type Exercise struct {
	Backup    string    `json:"backup"`
	Chain     []string  `json:"chain,omitempty"`    // what it is an increment to, which was restored with it
	Target    time.Time `json:"target,omitzero"`    // zero: the newest that there is
	Reached   time.Time `json:"reached,omitzero"`   // when the last transaction committed that came back
	XID       uint32    `json:"xid,omitzero"`       // its number
	Segments  int       `json:"segments"`           // of WAL that were replayed
	Bytes     int64     `json:"bytes"`              // of files
	WAL       int64     `json:"wal"`                // bytes that were replayed
	Restored  float64   `json:"restore_seconds"`    // until PostgreSQL answered
	Checked   float64   `json:"check_seconds"`      // that it was read for
	Databases []Counted `json:"databases"`          // whose rows were counted, all of every table
	Amcheck   string    `json:"amcheck,omitempty"`  // with what all tables and B-trees were checked; "" when that was not to be had
	Problems  []string  `json:"problems,omitempty"` // what is wrong with what came back
}

// Counted is a database of which all rows were read.
type Counted struct {
	Name   string `json:"name"`
	Tables int    `json:"tables"`
	Rows   int64  `json:"rows"`
}

// Drilled is what came of a drill, and the form of its report in the repo.
type Drilled struct {
	Format    int        `json:"format"` // 1
	Kind      string     `json:"kind"`   // "drill"
	Cluster   string     `json:"cluster"`
	Backup    string     `json:"backup"`              // the newest good one
	By        string     `json:"by"`                  // which program
	Host      string     `json:"host"`                // where
	Server    string     `json:"server"`              // version of the PostgreSQL that it was restored with
	Began     time.Time  `json:"began"`               //
	Ended     time.Time  `json:"ended"`               //
	Exercises []Exercise `json:"exercises"`           // the first to the end, the second to a random moment
	Problem   string     `json:"problem"`             // why it is not good; "" when it is
	Unchecked []string   `json:"unchecked,omitempty"` // what could not be checked: UncheckedIndexes
	Log       string     `json:"log,omitzero"`        // the last that PostgreSQL said, when the restore failed
	Report    string     `json:"-"`                   // where it lies in the repo
}

// UncheckedIndexes is what stays unchecked where pg_amcheck or its extension is missing: whether indexes fit their tables.
const UncheckedIndexes = "indexes"

// Good tells whether everything came back as it should.
func (d *Drilled) Good() bool { return d.Problem == "" }

// restored are the backups that came back.
func (d *Drilled) restored() []string {
	var all []string
	for _, e := range d.Exercises {
		if len(e.Problems) == 0 {
			all = append(append(all, e.Chain...), e.Backup)
		}
	}
	return all
}

// Drill restores the newest backup to the end of the WAL, and to a random moment of those that can be restored, starts what came of it, has PostgreSQL check it, counts all
// rows, and throws it away. It needs nothing but the repo. What came of it is kept in CLUSTER/report and given, also when it is not good: then the error says why. Without a
// report the error is why the drill could not be made.
func Drill(ctx context.Context, r *repo.Repo, clusterName string, options DrillOptions) (*Drilled, error) {
	unlock, err := LockRun(options.Lock, clusterName)
	if err != nil {
		return nil, err
	}
	defer unlock()
	sweepDrills(ctx, options)
	host, _ := os.Hostname()
	d := &Drilled{Format: 1, Kind: drillReport, Cluster: clusterName, By: options.By, Host: host, Server: options.Installation.Version.Text,
		Began: time.Now().UTC().Truncate(time.Second), Exercises: []Exercise{}}
	a, err := OpenArchive(ctx, r, clusterName)
	if err != nil {
		return nil, err
	}
	newest := a.newestGood()
	if newest == nil {
		return nil, fault.New(fault.NotFound, "keeper.no_backups", fault.Args{"cluster": clusterName, "place": r.String()})
	}
	d.Backup = newest.ID
	if major := options.Installation.Version.Major; major != a.Major {
		return nil, fault.New(fault.Conflict, "keeper.other_major", fault.Args{"want": a.Major, "have": major})
	}
	plans, failed := a.exercises(ctx)
	if unreadable(failed) { // not the backups' fault
		return nil, failed
	}
	for _, p := range plans {
		if err := drillRoom(p.Plan, options.Scratch); err != nil {
			return nil, err
		}
	}
	for i, p := range plans {
		if failed != nil {
			break
		}
		var e *Exercise
		e, failed = d.exercise(ctx, r, p, options, i+1, len(plans))
		if failed == nil {
			d.Exercises = append(d.Exercises, *e)
			if e.Amcheck == "" && !slices.Contains(d.Unchecked, UncheckedIndexes) {
				d.Unchecked = append(d.Unchecked, UncheckedIndexes)
			}
			if len(e.Problems) > 0 {
				failed = fault.New(fault.Conflict, "keeper.drill_problem", fault.Args{"id": e.Backup, "problem": e.Problems[0]})
			}
		}
	}
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if fault.HasKey(failed, "repo.target_full") { // somebody else was quicker: nothing is said of the backup
		return nil, failed
	}
	if failed != nil {
		d.Problem = failed.Error()
	}
	d.Ended = time.Now().UTC().Truncate(time.Second)
	if d.Report, err = putReport(ctx, r, clusterName, drillReport, d.Ended, d); err != nil {
		return nil, errors.Join(failed, err)
	}
	return d, failed
}

// drillRoom refuses a drill that would leave too little of a folder's disk.
func drillRoom(plan *Plan, dir string) error {
	need, free, err := plan.Room(dir, nil)
	if need += drillLeaves; err != nil || free > 0 && free < need {
		return fault.New(fault.Unavailable, "keeper.drill_no_room", fault.Args{"dir": dir, "need": need >> 20, "free": free >> 20})
	}
	return nil
}

// drillLeaves is what a drill leaves of the room on its disk to others, in bytes: PostgreSQL may write there.
const drillLeaves = 512 << 20

// newestGood is the newest backup that is good; nil where there is none.
func (a *Archive) newestGood() *Backup {
	for _, b := range slices.Backward(a.Backups) {
		if b.Good() && b.System == a.System {
			return b
		}
	}
	return nil
}

// rehearsal is a restore that a drill makes: to a time, or (zero) to the end.
type rehearsal struct {
	*Plan
	to time.Time
}

// exercises are what a drill restores: the newest backup to the end, and to a moment that nobody has chosen, from the backup that is nearest to it.
func (a *Archive) exercises(ctx context.Context) ([]rehearsal, error) {
	end, err := a.Plan(ctx, Target{})
	if err != nil {
		return nil, err
	}
	ranges, _, err := a.Ranges(ctx)
	if err != nil {
		return nil, err
	}
	all := time.Duration(0)
	length := func(r Range) time.Duration { return max(0, r.To.Sub(r.From.Add(time.Second))) } // the end of a backup is known to the second
	for _, r := range ranges {
		all += length(r)
	}
	if all == 0 {
		return []rehearsal{{end, time.Time{}}}, nil
	}
	for try := 1; ; try++ {
		at := time.Duration(mathrand.Int64N(int64(all))) //nolint:gosec // not a secret
		for _, r := range ranges {
			if at >= length(r) {
				at -= length(r)
				continue
			}
			to := r.From.Add(time.Second + at).Truncate(time.Microsecond)
			moment, err := a.Plan(ctx, Target{Time: to, Timeline: r.Timeline})
			if err == nil {
				return []rehearsal{{end, time.Time{}}, {moment, to}}, nil
			}
			if !fault.Is(err, fault.NotFound) && !fault.Is(err, fault.Conflict) || try == 10 {
				return nil, err
			}
			break // too near to an end
		}
	}
}

const (
	drillPrefix = "howdah-drill-"
	heldName    = "held" // locked as long as the process lives whose drill it is
	socketName  = "socket"
)

// exercise is one of the restores.
func (d *Drilled) exercise(ctx context.Context, r *repo.Repo, plan rehearsal, options DrillOptions, number, of int) (e *Exercise, err error) {
	began := time.Now()
	dir, drop, err := drillFolder(ctx, options)
	if err != nil {
		return nil, err
	}
	defer func() {
		late, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
		defer cancel()
		d.keepLog(err)
		err = errors.Join(err, drop(late))
	}()
	tell := func(p RecoverProgress) {
		if options.Progress != nil {
			options.Progress(DrillProgress{number, of, p})
		}
	}
	to := RecoverOptions{To: filepath.Join(dir, "cluster"), Program: options.Program, Repos: options.Repos, IdentityFile: options.IdentityFile, Installation: options.Installation,
		Account: options.Account, Scratch: true, Workers: options.Workers, Progress: tell}
	done, err := Recover(ctx, r, plan.Plan, to)
	if err != nil {
		return nil, err
	}
	e = &Exercise{Backup: plan.Backup.ID, Target: plan.to, Reached: plan.Reached, XID: plan.XID, Segments: plan.Segments, Bytes: plan.Write, WAL: plan.WAL,
		Databases: []Counted{}}
	for _, b := range plan.Chain[:max(0, len(plan.Chain)-1)] {
		e.Chain = append(e.Chain, b.ID)
	}
	s, err := revive(ctx, done, dir, to)
	if err != nil {
		return nil, err
	}
	e.Restored = seconds(time.Since(began))
	began = time.Now()
	err = e.look(ctx, s, func(bytes, total int64) { tell(RecoverProgress{Phase: DrillCheck, Bytes: bytes, Total: total}) })
	e.Checked = seconds(time.Since(began))
	return e, err
}

// revive starts a restored cluster for us alone; what belongs to it lies in dir. The server's database is template1, or postgres where nobody may enter that.
func revive(ctx context.Context, done *Recovered, dir string, to RecoverOptions) (Server, error) {
	x := &recovery{options: to, to: to.To, work: to.To}
	where, err := x.letUsIn(done, dir)
	if err != nil {
		return Server{}, err
	}
	c, err := cluster.New(done.Dir, to.Installation, cluster.Options{Account: to.Account, Bare: true})
	if err != nil {
		return Server{}, err
	}
	// A role of our own: which superusers there are, whether they may log in, and what is set for them, is the cluster's affair.
	role := drillPrefix + strings.ToLower(rand.Text()[:12])
	password := rand.Text()
	database, err := c.MakeSuperuser(ctx, role, password)
	if err != nil {
		return Server{}, err
	}
	return Server{DSN: where + " user=" + role + " password=" + password + " dbname=" + database + " sslmode=disable", Programs: to.Installation}, c.Start(ctx)
}

// keepLog keeps the end of the server's log that a fault names: the file goes with all the rest.
func (d *Drilled) keepLog(err error) {
	if err == nil {
		return
	}
	name, _ := fault.Of(err).Args["log"].(string)
	if st, statErr := os.Stat(name); statErr == nil && st.IsDir() {
		name = filepath.Join(name, "start.log")
	}
	if text, readErr := os.ReadFile(name); readErr == nil {
		lines := strings.Split(strings.TrimSpace(string(text)), "\n")
		d.Log = strings.Join(lines[max(0, len(lines)-30):], "\n")
	}
}

func seconds(d time.Duration) float64 { return d.Round(10 * time.Millisecond).Seconds() }

// drillFolder makes a folder that is ours as long as we live. What drop cannot remove, the next drill will.
func drillFolder(ctx context.Context, options DrillOptions) (dir string, drop func(context.Context) error, err error) {
	parent, err := filepath.Abs(options.Scratch)
	x := &recovery{options: RecoverOptions{Account: options.Account}, to: parent}
	if _, there := os.Stat(parent); err == nil && errors.Is(there, fs.ErrNotExist) {
		if err = os.MkdirAll(parent, 0o700); err == nil {
			err = x.own(parent)
		}
	}
	if err != nil {
		return "", nil, x.fault(err)
	}
	for ctx.Err() == nil {
		if dir, err = os.MkdirTemp(parent, drillPrefix); err != nil {
			return "", nil, x.fault(err)
		}
		release, held, err := cluster.Lock(filepath.Join(dir, heldName))
		if err != nil {
			return "", nil, x.fault(err)
		}
		if !held { // somebody who sweeps was quicker
			continue
		}
		drop = func(ctx context.Context) error { return dropDrill(ctx, dir, options, release) }
		if err := x.own(dir); err != nil {
			return "", nil, errors.Join(err, drop(ctx))
		}
		return dir, drop, nil
	}
	return "", nil, ctx.Err()
}

// sweepDrills removes what killed drills have left: folders that nobody holds, with the servers that may still run in them. What cannot be removed (it is another
// account's) stays.
func sweepDrills(ctx context.Context, options DrillOptions) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	entries, _ := os.ReadDir(options.Scratch)
	for _, entry := range entries {
		dir := filepath.Join(options.Scratch, entry.Name())
		if !strings.HasPrefix(entry.Name(), drillPrefix) || !entry.IsDir() {
			continue
		}
		if _, err := os.Lstat(filepath.Join(dir, heldName)); err != nil {
			continue // being made, or not one of ours
		}
		if release, held, err := cluster.Lock(filepath.Join(dir, heldName)); err == nil && held {
			_ = dropDrill(ctx, dir, options, release)
		}
	}
}

// dropDrill stops what runs in a drill's folder and removes all of it. The file that says whose it is goes last, and release gives its lock up.
func dropDrill(ctx context.Context, dir string, options DrillOptions, release func() error) error {
	if err := emptyDrill(ctx, dir, options); err != nil {
		return errors.Join(err, release())
	}
	if runtime.GOOS == "windows" { // a file that is open cannot be removed there, and whoever sweeps now removes the same
		return errors.Join(release(), removeTree(ctx, dir))
	}
	return errors.Join(removeTree(ctx, dir), release())
}

// emptyDrill does that but for the file.
func emptyDrill(ctx context.Context, dir string, options DrillOptions) error {
	to := filepath.Join(dir, "cluster")
	var errs []error
	for _, one := range []string{to, filepath.Join(to, unfinishedName)} {
		c, err := cluster.New(one, options.Installation, cluster.Options{Account: options.Account, Bare: true})
		if err == nil {
			err = c.Stop(ctx, cluster.Immediate)
		}
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return err // a server that runs keeps its files
	}
	var record unfinished
	if raw, err := os.ReadFile(filepath.Join(to, unfinishedName, recordName)); err == nil && json.Unmarshal(raw, &record) == nil {
		if strings.HasPrefix(filepath.Base(record.Socket), "howdah-restore-") {
			errs = append(errs, os.RemoveAll(record.Socket))
		}
	}
	if raw, err := os.ReadFile(filepath.Join(dir, socketName)); err == nil && strings.HasPrefix(filepath.Base(string(raw)), drillPrefix) {
		errs = append(errs, os.RemoveAll(string(raw)))
	}
	entries, err := os.ReadDir(dir)
	if errs = append(errs, err); err == nil {
		for _, e := range entries {
			if e.Name() != heldName {
				errs = append(errs, removeTree(ctx, filepath.Join(dir, e.Name())))
			}
		}
	}
	return errors.Join(errs...)
}

// removeTree is os.RemoveAll, but a helper of the restore that is about to end may put one more file into a folder that is being removed.
func removeTree(ctx context.Context, dir string) error {
	again := time.NewTicker(20 * time.Millisecond)
	defer again.Stop()
	for {
		err := os.RemoveAll(dir)
		if err == nil || errors.Is(err, fs.ErrPermission) && runtime.GOOS != "windows" {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-again.C:
		}
	}
}

// letUsIn lets us, who know a password, into a restored cluster, which shall do nothing but answer us; where there are sockets, also nobody who may not enter their folder. It gives the way in.
// The folder is named in dir, so that it is found when we are killed.
func (x *recovery) letUsIn(done *Recovered, dir string) (where string, err error) {
	hba, ident := filepath.Join(dir, "pg_hba.conf"), filepath.Join(dir, "pg_ident.conf")
	auto := filepath.Join(done.Data, autoConfName)
	raw, err := os.ReadFile(auto)
	if err != nil {
		return "", x.fault(err)
	}
	conf := autoConf(strings.Split(strings.TrimRight(string(raw), "\n"), "\n"))
	for _, s := range [][2]string{{"hba_file", cluster.NativePath(hba)}, {"ident_file", cluster.NativePath(ident)}, {"external_pid_file", cluster.NativePath(filepath.Join(dir, "pid"))}, {"ssl", "off"}, {"archive_mode", "off"},
		{"logging_collector", "off"}, {"log_destination", "stderr"}, {"fsync", "off"}, {"autovacuum", "off"}, {"synchronous_standby_names", ""},
		{"max_logical_replication_workers", "0"}, {"shared_preload_libraries", ""}, {"session_preload_libraries", ""}, {"local_preload_libraries", ""}, {"jit", "off"},
		{"statement_timeout", "0"}, {"default_transaction_read_only", "off"},
		// So triggers on events (pgAudit's, which need its library; somebody's own) are quiet while amcheck is made.
		{"session_replication_role", "replica"}} {
		conf = conf.with(s[0], s[1])
	}
	for _, s := range smallServer {
		conf = conf.with(s[0], s[1])
	}
	files := map[string]string{ident: ""}
	if runtime.GOOS == "windows" {
		port, err := freePort()
		if err != nil {
			return "", err
		}
		files[hba], where = "host all all 127.0.0.1/32 scram-sha-256\n", fmt.Sprintf("host=127.0.0.1 port=%d", port)
		conf = conf.with("listen_addresses", "127.0.0.1").with("port", fmt.Sprint(port))
	} else {
		parent := os.TempDir()
		if len(parent) > 60 || !reachable(filepath.Join(parent, "x")) {
			parent = "/tmp" // a socket's path must be short
		}
		socket := filepath.Join(parent, drillPrefix+rand.Text()[:12])
		if err := os.WriteFile(filepath.Join(dir, socketName), []byte(socket), 0o600); err != nil {
			return "", x.fault(err)
		}
		if err := os.Mkdir(socket, 0o700); err != nil {
			return "", x.fault(err)
		}
		if err := x.own(socket); err != nil {
			return "", err
		}
		files[hba], where = "local all all scram-sha-256\n", "host="+socket+" port=5432"
		conf = conf.with("listen_addresses", "").with("port", "5432").with("unix_socket_directories", socket).with("unix_socket_permissions", "0700").with("unix_socket_group", "")
	}
	files[auto] = strings.Join(conf, "\n") + "\n"
	for name, text := range files {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			return "", x.fault(err)
		}
		if err := x.own(name); err != nil {
			return "", err
		}
	}
	return where, nil
}

// smallServer are settings of a server that nobody works with: the restored ones may be those of a large machine, or of this one, which is in use.
var smallServer = [][2]string{{"shared_buffers", "128MB"}, {"huge_pages", "off"}, {"maintenance_work_mem", "64MB"}, {"work_mem", "4MB"}}

// mostProblems are told of one restore: behind the first ones are hardly others.
const mostProblems = 20

func (e *Exercise) problem(text string) {
	if len(e.Problems) < mostProblems {
		e.Problems = append(e.Problems, text)
	}
}

// look checks what is in a restored cluster.
func (e *Exercise) look(ctx context.Context, s Server, progress func(bytes, total int64)) error {
	type database struct {
		Name string
		Size int64
	}
	conn, err := s.connect(ctx, "")
	if err != nil {
		return err
	}
	// One that is half dropped (-2) can be neither entered nor restored.
	rows, _ := conn.Query(ctx, `SELECT datname, pg_database_size(oid) FROM pg_database WHERE datallowconn AND datconnlimit <> -2 AND datname <> 'template1' ORDER BY 1`) // its error comes with the rows
	all, err := pgx.CollectRows(rows, pgx.RowToStructByPos[database])
	var available bool
	if err == nil {
		err = conn.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_available_extensions WHERE name = 'amcheck')`).Scan(&available)
	}
	_ = conn.Close(ctx)
	if err != nil {
		return err
	}
	if _, err := os.Stat(s.Programs.Program("pg_amcheck")); err != nil {
		available = false
	}
	total, done := int64(0), int64(0)
	for _, d := range all {
		total += 2 * d.Size
	}
	progress(0, total)
	for _, d := range all {
		counted, err := e.count(ctx, s, d.Name)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			e.problem(fmt.Sprintf("%s: %v", d.Name, err))
		}
		e.Databases = append(e.Databases, counted)
		done += d.Size
		progress(done, total)
		if !available {
			continue
		}
		if err := e.amcheck(ctx, s, d.Name); err != nil {
			return err
		}
		done += d.Size
		progress(done, total)
	}
	if available {
		e.Amcheck = "pg_amcheck " + s.Programs.Version.Text
	}
	return nil
}

// amcheck has PostgreSQL compare tables and B-trees with themselves and with each other: https://www.postgresql.org/docs/current/app-pgamcheck.html
func (e *Exercise) amcheck(ctx context.Context, s Server, database string) error {
	info, password, err := s.conninfo(database)
	if err != nil {
		return err
	}
	var found lastWords // what it finds it says on its standard output
	_, err = s.run(ctx, nil, &found, password, "pg_amcheck", "--install-missing", "--heapallindexed", "--no-password", "--", info)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	var failed *programError
	if !errors.As(err, &failed) {
		return err
	}
	if said := found.lines(); len(said) > 0 {
		e.problem(database + ": " + strings.Join(said, "\n"))
	} else {
		e.problem(database + ": " + failed.Error())
	}
	return nil
}

// count reads all rows of all tables of a database.
func (e *Exercise) count(ctx context.Context, s Server, database string) (Counted, error) {
	c := Counted{Name: database}
	conn, err := s.connect(ctx, database)
	if err != nil {
		return c, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	if _, err := conn.Exec(ctx, `SET enable_indexonlyscan = off`); err != nil { // which counts without a look at the rows
		return c, err
	}
	rows, _ := conn.Query(ctx, `SELECT format('%I.%I', nspname, relname) FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
		WHERE relkind IN ('r', 'm') AND relpersistence = 'p' AND nspname NOT IN ('pg_catalog', 'information_schema') AND relispopulated ORDER BY 1`)
	tables, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return c, err
	}
	for _, table := range tables {
		var n int64
		if err := conn.QueryRow(ctx, `SELECT count(*) FROM ONLY `+table).Scan(&n); err != nil {
			if ctx.Err() != nil || conn.IsClosed() {
				return c, err
			}
			e.problem(fmt.Sprintf("%s, %s: %v", database, table, err))
			continue
		}
		c.Tables++
		c.Rows += n
	}
	return c, nil
}
