package keeper

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"time"

	cron "github.com/netresearch/go-cron"

	"howdah/internal/fault"
	"howdah/internal/repo"
	"howdah/internal/wal"
)

// Kind is what kind of backup is made by the schedule.
type Kind string

// The kinds.
const (
	Physical    Kind = "physical"    // a full base backup
	Incremental Kind = "incremental" // what has changed since the newest base backup, from PostgreSQL 17 on
	Logical     Kind = "logical"     // a dump of all databases, and the globals
	Drilling    Kind = "drill"       // no backup: what shows that the newest one can be restored
	Cleaning    Kind = "clean"       // no backup: what removes those that need not be kept, after each other
)

// When is a time that comes again; nil: never.
type When cron.Schedule

// ParseWhen reads the five fields of cron (minute, hour, day of month, month, day of week), in local time, or one of its words such as @daily; "off"
// is never.
func ParseWhen(text string) (When, error) {
	if text == "off" {
		return nil, nil
	}
	when, err := cron.ParseStandard(text)
	if err != nil {
		return nil, fault.Wrap(err, fault.Invalid, "keeper.when", fault.Args{"when": text})
	}
	return when, nil
}

// Source is a repo that is opened when it is needed.
type Source struct {
	Address string
	Open    func(context.Context) (*repo.Repo, error)
}

// Schedule makes backups of one cluster when it is time. What was done, it reads from the repos' manifests; so backups that were made by hand count, and
// what was missed is made up for once. Only failures are remembered in a file of the house.
type Schedule struct {
	Cluster string // its name in the repos
	Dir     string // the house's folder: the lock, the failures, the stage
	When    map[Kind]When
	First   time.Duration // from the beginning to the first look: whoever has just started has more urgent things to do
	Repos   []Source
	Server  func() (Server, error) // as the superuser
	// Replication gives the way in for base backups, as BaseOptions.DSN.
	Replication func() (string, error)
	// Timeline is the one that the cluster is on: on a new one a base backup is due. nil: that is not minded.
	Timeline func(context.Context) (wal.Timeline, error)
	Now      <-chan struct{} // looks at once: something has changed. May be nil
	// Drill makes a drill of a repo and gives the name of its report, if there is one; the fault "keeper.backup_runs" puts it off.
	Drill  func(ctx context.Context, address string) (report string, err error)
	Clean  *Retention  // what is kept of a repo, after each backup into it; nil: all
	Report func(Event) // told what happens, from one goroutine
}

// Event is a run that begins (Err nil, ID empty), or its end.
type Event struct {
	Kind  Kind
	Repo  string
	ID    string // of the backup, or the name of the drill's report, when there is one
	Took  time.Duration
	Err   error
	Retry time.Duration // after an error: until it is tried again
	Freed int64         // bytes, at the end of a cleaning
}

// LockFile keeps runs of backups of one house's cluster from overlapping, in whichever processes.
func LockFile(dir, cluster string) string { return filepath.Join(dir, "backup-"+cluster+".lock") }

// Waits of the schedule.
const (
	lookEvery    = time.Minute // at the clock, at the longest
	firstRetry   = time.Minute // after a failure; it doubles with each
	longestRetry = time.Hour
	clockStep    = time.Minute // more than the clock may be wrong
	// A clock that is behind, so that all that was made seems to lie ahead, is mostly set right soon after the machine was started.
	clockPatience = time.Hour

	// A drill that failed is likely to fail again, and costs much.
	firstDrillRetry   = time.Hour
	longestDrillRetry = 24 * time.Hour
	longestDrill      = 24 * time.Hour // backups wait for it
)

// errand is one kind of backup into one repo.
type errand struct {
	kind   Kind
	when   When
	source Source
	due    time.Time // zero: to be found out
	had    bool      // there is a backup already
	ahead  time.Time // since when all that there is seems to lie ahead; zero: it does not
	retry  time.Duration
}

// Run makes backups until ctx ends; then the one under way is given up. One run after the other, in this goroutine.
func (s *Schedule) Run(ctx context.Context) {
	var all []*errand
	for _, kind := range []Kind{Physical, Incremental, Logical, Drilling} { // when a full backup is due too, it does for an increment
		for _, source := range s.Repos {
			if when := s.When[kind]; when != nil {
				all = append(all, &errand{kind: kind, when: when, source: source})
			}
		}
	}
	if !pause(ctx, s.First) {
		return
	}
	for {
		begun := time.Now()
		next := begun.Add(lookEvery)
		for _, e := range all {
			if ctx.Err() != nil {
				return
			}
			s.attend(ctx, e)
			if e.due.Before(next) {
				next = e.due
			}
		}
		called, ok := s.wait(ctx, time.Until(next))
		if !ok {
			return
		}
		if now := time.Now(); called || stepped(begun, now, now.Sub(begun)) {
			for _, e := range all {
				e.due = time.Time{}
			}
		}
	}
}

// wait is pause, but that it ends when somebody calls.
func (s *Schedule) wait(ctx context.Context, d time.Duration) (called, ok bool) {
	brief, stop := context.WithTimeout(ctx, max(d, 0))
	defer stop()
	select {
	case <-s.Now:
		return true, true
	case <-brief.Done():
		return false, ctx.Err() == nil
	}
}

// pause waits; false when ctx has ended.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(max(d, 0))
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// stepped tells whether the clock was set between two times that it gave, or the machine has slept; passed is what went by meanwhile, by a clock that is never set.
func stepped(before, after time.Time, passed time.Duration) bool {
	return (after.Round(0).Sub(before.Round(0)) - passed).Abs() > clockStep
}

// dueAfter is when the next backup is due after the last, which was begun at last (zero: there is none). One from a moment ahead, by a clock that was a
// little fast, counts as made now.
func dueAfter(when When, last, now time.Time) time.Time {
	if last.IsZero() {
		return now
	}
	if last.After(now) {
		last = now
	}
	return when.Next(last.Local())
}

// dueAfter is when an errand is due after what lastRun says.
func (e *errand) dueAfter(last time.Time, ahead bool, now time.Time) time.Time {
	if !last.IsZero() || !ahead {
		e.ahead = time.Time{}
		return dueAfter(e.when, last, now)
	}
	if e.ahead.IsZero() || e.ahead.After(now) {
		e.ahead = now
	}
	return e.ahead.Add(clockPatience)
}

// attend does what is due of an errand, and sets when it is due next.
func (s *Schedule) attend(ctx context.Context, e *errand) {
	now := time.Now().Round(0) // the wall clock's is what counts
	if !e.due.IsZero() && e.due.After(now) {
		return
	}
	r, err := e.source.Open(ctx)
	if err == nil {
		var last time.Time
		var ahead bool
		if last, ahead, err = lastRun(ctx, r, s.Cluster, e.kind, now); err == nil { // somebody may have made one meanwhile
			e.had = !last.IsZero() || ahead
			if e.kind == Drilling && !e.had { // there is nothing to be restored yet
				e.due = now.Add(lookEvery)
				return
			}
			if e.kind == Drilling && r.Encrypts() && !r.Keys().Opens() { // nor can it be here; status says so
				e.due = e.when.Next(now)
				return
			}
			e.due = e.dueAfter(last, ahead, now)
			if e.kind == Physical && e.had && s.branched(ctx, r) {
				e.due = now
			}
			if e.due.After(now) {
				s.forget(e, last)
				return
			}
		}
	}
	var id string
	if err == nil {
		s.Report(Event{Kind: e.kind, Repo: e.source.Address})
		id, err = s.make(ctx, r, e)
	}
	took := time.Since(now)
	switch {
	case err == nil:
		e.due, e.retry = time.Time{}, 0
		e.due = dueAfter(e.when, now, now)
		s.forget(e, now)
		s.Report(Event{Kind: e.kind, Repo: e.source.Address, ID: id, Took: took})
		s.clean(ctx, r, e)
	case ctx.Err() != nil: // the next start makes it
	case fault.HasKey(err, "keeper.backup_runs"):
		e.due = now.Add(lookEvery)
	default:
		first, longest := firstRetry, longestRetry
		if e.kind == Drilling {
			first, longest = firstDrillRetry, longestDrillRetry
		}
		e.retry = min(max(2*e.retry, first), longest)
		e.due = time.Now().Round(0).Add(e.retry)
		if id != "" && e.kind != Drilling { // a backup of damaged pages: another one would be no better
			e.due = e.when.Next(now)
			e.retry = time.Until(e.due)
		}
		s.remember(e, err)
		s.Report(Event{Kind: e.kind, Repo: e.source.Address, ID: id, Took: took, Err: err, Retry: e.retry})
	}
}

// clean removes what need not be kept now that there is another backup. When it cannot, the next backup's cleaning does it.
func (s *Schedule) clean(ctx context.Context, r *repo.Repo, e *errand) {
	if s.Clean == nil || e.kind == Drilling {
		return
	}
	begun := time.Now()
	plan, err := Prune(ctx, r, s.Cluster, *s.Clean)
	if err == nil {
		err = plan.Fault(r.String()) // or the disk of the repo would fill in silence
	}
	event := Event{Kind: Cleaning, Repo: e.source.Address, Took: time.Since(begun), Err: err}
	if plan != nil {
		event.Freed = plan.Bytes
	}
	if ctx.Err() == nil && (err != nil || event.Freed > 0) {
		s.Report(event)
	}
}

// make makes one backup.
func (s *Schedule) make(ctx context.Context, r *repo.Repo, e *errand) (id string, err error) {
	lock := LockFile(s.Dir, s.Cluster)
	if e.kind == Drilling {
		ctx, cancel := context.WithTimeout(ctx, longestDrill)
		defer cancel()
		return s.Drill(ctx, e.source.Address)
	}
	if e.kind != Logical {
		dsn, err := s.Replication()
		if err != nil {
			return "", err
		}
		// The first one is waited for; all others leave the disk to those who work.
		take := TakeBase
		if e.kind == Incremental {
			take = TakeIncrement
		}
		b, err := take(ctx, r, BaseOptions{Cluster: s.Cluster, DSN: dsn, Lock: lock, Gentle: e.had})
		if b != nil {
			id = b.ID
		}
		return id, err
	}
	server, err := s.Server()
	if err != nil {
		return "", err
	}
	d, err := TakeDump(ctx, r, server, DumpOptions{Cluster: s.Cluster, Globals: true, Lock: lock})
	if err != nil {
		return "", err
	}
	return d.ID, nil
}

// branched tells whether the cluster is on a timeline of which there is no base backup: it was restored. From an older one a recovery would have to go on over the
// switch, and there would be nothing newer to begin with.
func (s *Schedule) branched(ctx context.Context, r *repo.Repo) bool {
	if s.Timeline == nil {
		return false
	}
	whole, _, err := Backups(ctx, r, s.Cluster)
	if err != nil || len(whole) == 0 {
		return false
	}
	now, err := s.Timeline(ctx)
	return err == nil && !slices.ContainsFunc(whole, func(b *Backup) bool { return b.EndTimeline == now })
}

// lastRun is when the newest backup of a kind was begun; zero where there is none. One with damaged pages counts too: that is not mended by another. For drills it is
// the newest that was good; before the first, the oldest good backup, so that the first comes when it is time.
//
// One from the future was made by a clock that was wrong. It does not count, or nothing would be made until then; ahead says that there is one. Nor does one whose manifest is
// damaged: another is needed all the more.
func lastRun(ctx context.Context, r *repo.Repo, cluster string, kind Kind, now time.Time) (last time.Time, ahead bool, err error) {
	counts := func(began time.Time) bool {
		if began.After(now.Add(clockStep)) {
			ahead = true
			return false
		}
		return true
	}
	if kind == Logical {
		dumps, err := Dumps(ctx, r, cluster)
		if err = butDamaged(err); err != nil {
			return last, false, err
		}
		for _, d := range slices.Backward(dumps) {
			if d.Full() && counts(d.Began) {
				return d.Began, ahead, nil
			}
		}
		return last, ahead, nil
	}
	if kind == Drilling {
		for d, err := range reports[Drilled](ctx, r, cluster, "drill", time.Time{}) {
			if err != nil {
				return last, false, err
			}
			if d.Good() && counts(d.Began) {
				return d.Began, ahead, nil
			}
		}
	}
	whole, _, err := Backups(ctx, r, cluster)
	if err = butDamaged(err); err != nil {
		return last, false, err
	}
	if kind == Drilling {
		for _, b := range whole {
			if b.Good() && counts(b.Began) {
				return b.Began, ahead, nil
			}
		}
		return last, ahead, nil
	}
	for _, b := range slices.Backward(whole) {
		if (b.Parent == "" || kind == Incremental) && counts(b.Began) {
			return b.Began, ahead, nil
		}
	}
	return last, ahead, nil
}

// butDamaged is an error without what it says of objects that are damaged; nil when that is all.
func butDamaged(err error) error {
	if all, ok := err.(interface{ Unwrap() []error }); ok { //nolint:errorlint // what errors.Join gives
		var rest []error
		for _, one := range all.Unwrap() {
			rest = append(rest, butDamaged(one))
		}
		return errors.Join(rest...)
	}
	if fault.HasKey(err, "repo.damaged") {
		return nil
	}
	return err
}

// Failure is what is remembered of runs that failed since the last one that did not.
type Failure struct {
	Kind  Kind      `json:"kind"`
	Repo  string    `json:"repo"`
	Since time.Time `json:"since"` // the first of them
	Last  time.Time `json:"last"`
	Count int       `json:"count"`
	Key   string    `json:"key"` // of the last one's fault
	Error string    `json:"error"`
}

func failuresFile(dir string) string { return filepath.Join(dir, "backup-failures.json") }

// Failures are the runs of a house's schedule that have failed and were not made up for.
func Failures(dir string) ([]Failure, error) {
	raw, err := os.ReadFile(failuresFile(dir))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	var all []Failure
	if err == nil && json.Unmarshal(raw, &all) != nil {
		return nil, nil // torn by a full disk: the next failure writes it anew
	}
	return all, err
}

func (s *Schedule) remember(e *errand, err error) {
	now := time.Now().UTC().Truncate(time.Second)
	f := Failure{Kind: e.kind, Repo: e.source.Address, Since: now, Last: now, Key: fault.Of(err).Key, Error: err.Error()}
	all, _ := Failures(s.Dir)
	kept := all[:0]
	for _, old := range all {
		if old.Kind == f.Kind && old.Repo == f.Repo {
			f.Since, f.Count = old.Since, old.Count
		} else {
			kept = append(kept, old)
		}
	}
	f.Count++
	s.save(append(kept, f))
}

// forget drops failures from before a backup that was made.
func (s *Schedule) forget(e *errand, made time.Time) {
	all, _ := Failures(s.Dir)
	var kept []Failure
	for _, old := range all {
		if old.Kind != e.kind || old.Repo != e.source.Address || old.Last.After(made.Add(time.Second)) && old.Key == "keeper.pages_damaged" {
			kept = append(kept, old)
		}
	}
	if len(kept) != len(all) {
		s.save(kept)
	}
}

// save is best effort: the log has it too, and a disk that is full must not end the schedule.
func (s *Schedule) save(all []Failure) {
	if raw, err := json.MarshalIndent(all, "", "  "); err == nil {
		_ = writeFile(failuresFile(s.Dir), append(raw, '\n'), false)
	}
}
