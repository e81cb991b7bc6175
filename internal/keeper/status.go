package keeper

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"howdah/internal/cluster"
	"howdah/internal/fault"
	"howdah/internal/repo"
	"howdah/internal/wal"
)

// Level is how well something is.
type Level int

// The levels; their numbers are the exit codes that monitoring systems know.
const (
	Well     Level = iota // nothing to do
	Warning               // something should be seen to
	Critical              // what is written now may be lost, or cannot be written
)

var levelNames = [...]string{"good", "warning", "critical"}

// MarshalText implements encoding.TextMarshaler.
func (l Level) MarshalText() ([]byte, error) { return []byte(levelNames[l]), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (l *Level) UnmarshalText(text []byte) error {
	at := slices.Index(levelNames[:], string(text))
	if at < 0 {
		return errors.New("no such level: " + string(text))
	}
	*l = Level(at)
	return nil
}

// Concern is something that is not well; its hint is the next step.
type Concern struct {
	Level Level
	Fault *fault.Fault
}

// Status is how a cluster is kept, as of At. It is read from files and repos; what only the server knows is missing when it does not answer.
type Status struct {
	At         time.Time        `json:"at"`
	Level      Level            `json:"level"`
	PostgreSQL PostgreSQLStatus `json:"postgresql"`
	Archive    ArchiveStatus    `json:"archive"`
	Disk       DiskStatus       `json:"disk"`
	Repos      []RepoStatus     `json:"repos"`
	Failures   []Failure        `json:"failures,omitempty"` // of the schedule, not made up for yet
	Concerns   []Concern        `json:"-"`                  // the worst first
}

// PostgreSQLStatus is the state of the server.
type PostgreSQLStatus struct {
	State   cluster.State `json:"state,omitempty"` // "" where it is somebody else's
	PID     int           `json:"pid,omitempty"`
	Answers bool          `json:"answers"`
}

// ArchiveStatus is what waits to be archived.
type ArchiveStatus struct {
	Ready   int     `json:"ready"`       // segments that PostgreSQL has finished and that are in no repo yet
	Lag     float64 `json:"lag_seconds"` // age of the oldest of them
	Failing bool    `json:"failing"`     // archive_command failed since it last succeeded; only when the server answers
}

// DiskStatus is the disk of pg_wal.
type DiskStatus struct {
	Free   int64   `json:"free"`              // bytes
	Total  int64   `json:"total"`             // bytes
	FullIn float64 `json:"full_in,omitempty"` // seconds, if archiving stands still and as much is written as since then; 0: it does not
}

// RepoStatus is what a repo holds.
type RepoStatus struct {
	Place    string     `json:"place"`
	Trouble  string     `json:"trouble,omitempty"` // the key of the fault that keeps it from being read
	From     *time.Time `json:"from,omitempty"`    // one can go back to any moment from here ...
	To       *time.Time `json:"to,omitempty"`      // ... to here
	ToTold   bool       `json:"to_told"`           // the WAL says so; otherwise it is when the newest of it came
	Missing  []Missing  `json:"missing,omitempty"` // WAL; with it, From and To are what is on this side of the last
	Physical *LastRun   `json:"physical,omitempty"`
	Logical  *LastRun   `json:"logical,omitempty"`
	Drill    *LastDrill `json:"drill,omitempty"`
	Hope     bool       `json:"hope,omitempty"`      // no drill has restored the newest base backup
	SameDisk bool       `json:"same_disk,omitempty"` // as the data
	// Stream is how far WAL that is not archived yet is streamed; nil where it is not.
	Stream *StreamStatus `json:"stream,omitempty"`
}

// StreamStatus is how a stream stands.
type StreamStatus struct {
	Active bool    `json:"active"`        // it receives; only when the server answers
	Slot   string  `json:"slot"`          // its name
	State  string  `json:"wal_status"`    // of the slot, as pg_replication_slots says it; "" when the server does not answer or has no such slot
	LSN    wal.LSN `json:"confirmed_lsn"` // all before it is in the repo
	// Bytes and Lag are what a disk that is lost now costs: WAL that is on the server's disk and not in the repo, and since when. Zero where the server does not
	// answer.
	Bytes int64   `json:"lag_bytes"`
	Lag   float64 `json:"lag_seconds"`

	state StreamState
}

// LastRun is the newest backup of a kind that is good.
type LastRun struct {
	ID    string    `json:"id"`
	Began time.Time `json:"began"`
	Age   float64   `json:"age_seconds"`
}

// LastDrill is the newest drill.
type LastDrill struct {
	Report  string    `json:"report"`
	Backup  string    `json:"backup"` // that it restored, or should have
	Began   time.Time `json:"began"`
	Age     float64   `json:"age_seconds"`
	Took    float64   `json:"took_seconds"`      // all of it
	Restore float64   `json:"restore_seconds"`   // to the newest moment, until PostgreSQL answered; 0: it did not come to that
	Problem string    `json:"problem,omitempty"` // "" when all came back as it should
	// Unchecked is as in Drilled.
	Unchecked []string `json:"unchecked,omitempty"`
}

// StatusOptions say what is looked at.
type StatusOptions struct {
	Name    string           // of the cluster in the repos
	Cluster *cluster.Cluster // nil: somebody else's
	Server  Server           // a way in, as any role; empty: none
	Dir     string           // the house's folder; "": none
	Repos   []Source
	When    map[Kind]When   // nil: nothing is overdue
	Seen    map[string]Seen // what the Look before has read; nil: nothing
	Also    []Concern       // what is known from elsewhere to be not well
	Line    *Line           // where one looks again and again; nil: each Look connects anew
}

// Line is a connection that is kept from one Look to the next: each that is made is four lines of the server's log. The zero value connects when it is needed. Not for
// use by several goroutines at once.
type Line struct {
	conn *pgx.Conn
	made time.Time
}

// lineFresh is how long it is kept: one that is too old would not show that nobody new gets in.
const lineFresh = time.Hour

// Close ends it; the next Look makes it anew.
func (l *Line) Close(ctx context.Context) {
	if l != nil && l.conn != nil {
		_ = l.conn.Close(ctx)
		l.conn = nil
	}
}

// to gives a connection that answers.
func (l *Line) to(ctx context.Context, s Server) (*pgx.Conn, error) {
	if l.conn != nil && time.Since(l.made) < lineFresh && l.conn.Ping(ctx) == nil {
		return l.conn, nil
	}
	l.Close(context.WithoutCancel(ctx))
	conn, err := s.connect(ctx, "")
	if err == nil {
		l.conn, l.made = conn, time.Now()
	}
	return conn, err
}

// When things are not well any more.
const (
	lagWarning, lagCritical   = 5 * time.Minute, 30 * time.Minute
	diskWarning, diskCritical = int64(2 << 30), int64(512 << 20)
	fullWarning, fullCritical = 24 * time.Hour, 2 * time.Hour
	overdueBy                 = time.Hour
	streamWarning             = time.Minute
	streamLostFor             = 24 * time.Hour // so long it is told
	chainEvery                = time.Hour      // who looks all the time counts all of the WAL so often
)

// Look finds out how a cluster is kept. What cannot be found out is a finding too, so there is always a Status.
func Look(ctx context.Context, opt StatusOptions) *Status {
	s := &Status{At: time.Now().UTC().Truncate(time.Second), Repos: []RepoStatus{}}
	for _, c := range opt.Also {
		s.Find(c.Level, c.Fault)
	}
	young := false
	if c := opt.Cluster; c != nil {
		state := c.Status()
		s.PostgreSQL.State, s.PostgreSQL.PID = state.State, state.PID
		young = s.PostgreSQL.State == cluster.Running && time.Since(state.Started) < 10*time.Minute
		dir := fault.Args{"dir": c.Dir()}
		if filepath.Dir(c.DataDir()) != c.Dir() { // somebody else's: our folder would tell nobody which
			dir["dir"] = c.DataDir()
		}
		switch state.State {
		case cluster.Absent:
			s.Find(Critical, fault.New(fault.NotFound, "cluster.absent", dir))
		case cluster.Stopped, cluster.Stopping:
			s.Find(Critical, fault.New(fault.Unavailable, "keeper.status_down", dir))
		case cluster.Starting:
			s.Find(Warning, fault.New(fault.Unavailable, "keeper.status_starting", dir))
		case cluster.Running:
		}
		s.lookAtFiles(filepath.Join(c.DataDir(), "pg_wal"))
	}
	streams := map[string]*StreamStatus{}
	if opt.Dir != "" {
		for _, state := range StreamStates(opt.Dir) {
			streams[state.Slot] = &StreamStatus{Slot: state.Slot, LSN: state.LSN, state: state}
		}
	}
	if opt.Server.DSN != "" {
		s.ask(ctx, opt, streams)
	}
	for _, source := range opt.Repos {
		s.lookAtRepo(ctx, opt, source, young)
		if stream := streams[SlotName(opt.Name, source.Address)]; stream != nil {
			s.Repos[len(s.Repos)-1].Stream = stream
			s.judgeStream(stream, s.Repos[len(s.Repos)-1].Place, young)
		}
	}
	if opt.Dir != "" {
		s.Failures, _ = Failures(opt.Dir)
		if asked, err := Asked(opt.Dir); err != nil {
			s.Find(Critical, fault.Of(err))
		} else if asked != nil {
			s.Find(Warning, fault.New(fault.Unavailable, "keeper.status_replacement", fault.Args{"id": asked.ID}))
		}
	}
	for _, f := range s.Failures {
		level := Warning
		if f.Count >= 3 || f.Key == "keeper.pages_damaged" {
			level = Critical
		}
		args := fault.Args{"kind": string(f.Kind), "place": f.Repo, "count": f.Count, "since": Moment(f.Since.Local()), "error": f.Error}
		switch {
		case f.Key == "keeper.drill_bad": // found in the repo already
		case f.Kind == Drilling:
			s.Find(Warning, fault.New(fault.Unavailable, "keeper.status_drill_failed", args))
		default:
			s.Find(level, fault.New(fault.Unavailable, "keeper.status_failed", args))
		}
	}
	return s
}

// Find adds a concern.
func (s *Status) Find(level Level, f *fault.Fault) {
	at := len(s.Concerns)
	for at > 0 && s.Concerns[at-1].Level < level {
		at--
	}
	s.Concerns = append(s.Concerns[:at], append([]Concern{{level, f}}, s.Concerns[at:]...)...)
	s.Level = max(s.Level, level)
}

// lookAtFiles counts what PostgreSQL has marked as ready: https://www.postgresql.org/docs/current/continuous-archiving.html
func (s *Status) lookAtFiles(pgWAL string) {
	oldest, size := time.Time{}, int64(wal.DefaultSegmentSize)
	entries, _ := os.ReadDir(filepath.Join(pgWAL, "archive_status"))
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), ".ready") {
			continue
		}
		st, err := e.Info()
		if err != nil {
			continue // it has just been archived
		}
		if s.Archive.Ready++; s.Archive.Ready == 1 {
			if segment, err := os.Stat(filepath.Join(pgWAL, strings.TrimSuffix(e.Name(), ".ready"))); err == nil && wal.SegmentSize(segment.Size()).Valid() {
				size = segment.Size() // all have the same, but for histories
			}
		}
		if oldest.IsZero() || st.ModTime().Before(oldest) {
			oldest = st.ModTime()
		}
	}
	lag := time.Duration(0)
	if s.Archive.Ready > 0 {
		lag = max(time.Since(oldest), 0)
	}
	s.Archive.Lag = lag.Round(time.Millisecond).Seconds()
	args := fault.Args{"ready": s.Archive.Ready, "lag": lag.Round(time.Second).String()}
	switch {
	case lag >= lagCritical:
		s.Find(Critical, fault.New(fault.Unavailable, "keeper.status_lag", args))
	case lag >= lagWarning:
		s.Find(Warning, fault.New(fault.Unavailable, "keeper.status_lag", args))
	}
	free, total, err := diskSpace(pgWAL)
	if err != nil {
		return
	}
	s.Disk.Free, s.Disk.Total = free, total
	full := time.Duration(0)
	if lag >= lagWarning {
		perSecond := float64(s.Archive.Ready) * float64(size) / lag.Seconds()
		full = time.Duration(float64(free) / perSecond * float64(time.Second))
		if full < 0 { // more than 292 years
			full = 0
		}
		s.Disk.FullIn = full.Round(time.Second).Seconds()
	}
	disk := fault.New(fault.Unavailable, "keeper.status_disk", fault.Args{"dir": pgWAL, "free": free >> 20})
	switch {
	case free < diskCritical || full > 0 && full < fullCritical:
		s.Find(Critical, disk)
	case free < diskWarning || full > 0 && full < fullWarning:
		s.Find(Warning, disk)
	}
}

// ask asks the server what only it knows.
func (s *Status) ask(ctx context.Context, opt StatusOptions, streams map[string]*StreamStatus) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	line := opt.Line
	if line == nil {
		line = &Line{}
		defer line.Close(context.WithoutCancel(ctx))
	}
	conn, err := line.to(ctx, opt.Server)
	if err == nil {
		var mode string
		err = conn.QueryRow(ctx, `SELECT current_setting('archive_mode'),
			coalesce(last_failed_time > coalesce(last_archived_time, '-infinity'), false) FROM pg_stat_archiver`).Scan(&mode, &s.Archive.Failing)
		s.PostgreSQL.Answers = err == nil
		if err == nil && mode == "off" {
			s.Find(Critical, fault.New(fault.Conflict, "keeper.status_not_archiving"))
		}
		if s.Archive.Failing {
			s.Find(Critical, fault.New(fault.Unavailable, "keeper.status_archiver"))
		}
		slots := false
		for _, stream := range streams {
			if err == nil {
				err = stream.ask(ctx, conn)
				slots = slots || stream.State != ""
			}
		}
		if err == nil && slots {
			var limit int64
			if err = conn.QueryRow(ctx, `SELECT setting::bigint FROM pg_settings WHERE name = 'max_slot_wal_keep_size'`).Scan(&limit); err == nil && limit < 0 {
				s.Find(Warning, fault.New(fault.Conflict, "keeper.status_slot_unbounded"))
			}
		}
	}
	if err != nil && s.PostgreSQL.State != cluster.Stopped && s.PostgreSQL.State != cluster.Absent {
		s.Find(Critical, fault.Wrap(err, fault.Unavailable, "keeper.status_silent"))
	}
}

// ask asks the server about a slot.
func (s *StreamStatus) ask(ctx context.Context, conn *pgx.Conn) error {
	var at string
	var lag *float64
	err := conn.QueryRow(ctx, `SELECT s.active, coalesce(s.wal_status, ''), coalesce(s.restart_lsn, '0/0')::text,
			coalesce(pg_wal_lsn_diff(CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_flush_lsn() END, s.restart_lsn), 0)::bigint,
			extract(epoch FROM r.flush_lag)::float8
		FROM pg_replication_slots s LEFT JOIN pg_stat_replication r ON r.pid = s.active_pid WHERE s.slot_name = $1`, s.Slot).
		Scan(&s.Active, &s.State, &at, &s.Bytes, &lag)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil
	}
	if err != nil {
		return err
	}
	if lsn, err := wal.ParseLSN(at); err == nil && lsn != 0 {
		s.LSN = lsn
	}
	s.Bytes = max(s.Bytes, 0)
	switch {
	case s.Bytes == 0:
	case s.Active && s.state.Error == "" && lag != nil:
		s.Lag = *lag
	case !s.state.Safe.IsZero():
		s.Lag = max(0, time.Since(s.state.Safe).Round(time.Millisecond).Seconds())
	}
	return nil
}

func (s *Status) judgeStream(stream *StreamStatus, place string, young bool) {
	lag := time.Duration(stream.Lag * float64(time.Second))
	switch {
	case stream.state.Error != "" && !stream.Active:
		s.Find(Warning, fault.New(fault.Unavailable, "keeper.status_stream_stopped", fault.Args{"place": place, "since": Moment(stream.state.Since.Local()), "error": stream.state.Error}))
	case s.PostgreSQL.Answers && !stream.Active && !young:
		s.Find(Warning, fault.New(fault.Unavailable, "keeper.status_stream_off", fault.Args{"place": place}))
	case stream.Active && lag >= streamWarning:
		s.Find(Warning, fault.New(fault.Unavailable, "keeper.status_stream_lag", fault.Args{"place": place, "lag": lag.Round(time.Second).String(), "bytes": stream.Bytes}))
	}
	if lost := stream.state.Lost; !lost.IsZero() && s.At.Sub(lost) < streamLostFor {
		s.Find(Warning, fault.New(fault.Unavailable, "keeper.status_stream_lost", fault.Args{"place": place, "at": Moment(lost.Local())}))
	}
}

func (s *Status) lookAtRepo(ctx context.Context, opt StatusOptions, source Source, young bool) {
	out := RepoStatus{Place: source.Address}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	r, err := source.Open(ctx)
	if err == nil {
		out.Place = r.String()
		out.SameDisk = opt.Cluster != nil && SameDisk(r, opt.Cluster.DataDir())
		err = s.lookInto(ctx, opt, r, &out, young)
	}
	if err != nil {
		f := fault.Of(err)
		out.Trouble = f.Key
		s.Find(Critical, f)
	}
	s.Repos = append(s.Repos, out)
}

func (s *Status) lookInto(ctx context.Context, opt StatusOptions, r *repo.Repo, out *RepoStatus, young bool) error {
	run := func(id string, began time.Time) *LastRun { return &LastRun{id, began, s.At.Sub(began).Seconds()} }
	whole, _, err := Backups(ctx, r, opt.Name)
	if err != nil {
		return err
	}
	for _, b := range whole {
		if !b.Good() {
			continue
		}
		if out.From == nil {
			out.From = &b.Ended
		}
		out.To, out.Physical = &b.Ended, run(b.ID, b.Began)
	}
	dumps, err := Dumps(ctx, r, opt.Name)
	if err != nil {
		return err
	}
	for _, d := range dumps {
		if d.Full() {
			out.Logical = run(d.ID, d.Began)
		}
	}
	var newest time.Time // that anything was made
	for _, b := range whole {
		if b.Ended.After(newest) {
			newest = b.Ended
		}
	}
	for _, d := range dumps {
		if d.Ended.After(newest) {
			newest = d.Ended
		}
	}
	if newest.After(s.At.Add(repoAhead)) {
		s.Find(Warning, aheadFault(r.String(), newest, s.At))
	}
	if err := s.lookAtDrills(ctx, opt, r, out, whole); err != nil {
		return err
	}
	if out.To != nil {
		newest, told, err := newestMoment(ctx, r, opt.Name, whole[len(whole)-1].Identity, opt.Seen)
		if err != nil {
			return err
		}
		if out.ToTold = true; newest.After(*out.To) {
			out.To, out.ToTold = &newest, told
		}
	}
	if err := s.lookAtChain(ctx, opt, r, out, whole); err != nil {
		return err
	}
	if out.Physical == nil && opt.When[Physical] != nil {
		level := Critical
		if young {
			level = Warning
		}
		s.Find(level, fault.New(fault.NotFound, "keeper.status_no_base", fault.Args{"place": r.String()}))
	}
	for _, kind := range []Kind{Physical, Logical} {
		last, when := map[Kind]*LastRun{Physical: out.Physical, Logical: out.Logical}[kind], opt.When[kind]
		if last == nil || when == nil {
			continue
		}
		due := when.Next(last.Began.Local())
		args := fault.Args{"kind": string(kind), "place": r.String(), "last": Moment(last.Began.Local())}
		switch {
		case s.At.After(when.Next(due).Add(overdueBy)):
			s.Find(Critical, fault.New(fault.Unavailable, "keeper.status_overdue", args))
		case s.At.After(due.Add(overdueBy)):
			s.Find(Warning, fault.New(fault.Unavailable, "keeper.status_overdue", args))
		}
	}
	return nil
}

// lookAtChain tells of WAL that is missing.
func (s *Status) lookAtChain(ctx context.Context, opt StatusOptions, r *repo.Repo, out *RepoStatus, whole []*Backup) error {
	if out.Physical == nil {
		return nil
	}
	known, ok := opt.Seen["chain "+r.String()]
	if !ok || s.At.Sub(known.at).Abs() >= chainEvery {
		var err error
		if known.missing, err = missing(ctx, r, opt.Name, whole, s.At); err != nil {
			return err
		}
		if known.at = s.At; opt.Seen != nil {
			opt.Seen["chain "+r.String()] = known
		}
	}
	out.Missing = known.missing
	for _, m := range out.Missing {
		args := fault.Args{"place": r.String(), "first": m.First, "last": m.Last, "n": int(m.Count), "after": Moment(m.After.Local().Truncate(time.Second)), "id": m.Backup}
		if m.Backup == "" {
			to := m.After
			if out.To, out.ToTold = &to, false; to.Before(*out.From) { // it is the backup's own
				out.From, out.To = nil, nil
			}
			s.Find(Critical, fault.New(fault.NotFound, "keeper.status_missing_open", args))
			continue
		}
		from := m.Until
		out.From, args["until"] = &from, Moment(m.Until.Local())
		s.Find(Warning, fault.New(fault.NotFound, "keeper.status_missing", args))
	}
	return nil
}

// lookAtDrills tells of the newest drill, and whether another is overdue. One that was not made costs nothing by itself, so it is no more than a warning.
func (s *Status) lookAtDrills(ctx context.Context, opt StatusOptions, r *repo.Repo, out *RepoStatus, whole []*Backup) error {
	last, _, err := lastDrills(ctx, r, opt.Name)
	if err != nil {
		return err
	}
	if last != nil {
		d := &LastDrill{Report: last.Report, Backup: last.Backup, Began: last.Began, Age: s.At.Sub(last.Began).Seconds(), Took: last.Ended.Sub(last.Began).Seconds(), Problem: last.Problem,
			Unchecked: last.Unchecked}
		if len(last.Exercises) > 0 {
			d.Restore = last.Exercises[0].Restored
		}
		out.Drill = d
		if !last.Good() {
			s.Find(Critical, fault.New(fault.Conflict, "keeper.status_drill_bad", fault.Args{"place": r.String(), "id": last.Backup, "when": Moment(last.Began.Local()),
				"problem": last.Problem, "report": last.Report}))
		}
	}
	if out.Physical == nil {
		return nil
	}
	proofs, err := Proofs(ctx, r, opt.Name, whole)
	if err != nil {
		return err
	}
	out.Hope = proofs[out.Physical.ID].Hope
	when := opt.When[Drilling]
	if when == nil {
		return nil
	}
	from, ahead, err := lastRun(ctx, r, opt.Name, Drilling, s.At)
	if err != nil {
		return err
	}
	if from.IsZero() && ahead {
		from = s.At
	}
	if due := when.Next(from.Local()); s.At.After(due.Add(overdueBy)) {
		args := fault.Args{"place": r.String(), "since": Moment(due.Local())}
		if r.Encrypts() && !r.Keys().Opens() {
			s.Find(Warning, fault.New(fault.Unavailable, "keeper.status_drill_sealed", args))
		} else {
			s.Find(Warning, fault.New(fault.Unavailable, "keeper.status_drill_overdue", args))
		}
	}
	return nil
}

// Seen is what a Look found out about the newest WAL of a repo: as long as no other has come, the next need not read it again. And what of the WAL was missing, at a time.
type Seen struct {
	what    string
	at      time.Time
	told    bool
	missing []Missing
}

// newestMoment is the newest that can be restored: the newest time that the WAL tells (of a commit as a rule; told is true then), or when the last of it came, where it cannot be
// read here. That there is no hole before it is howdah verify's to find out.
func newestMoment(ctx context.Context, r *repo.Repo, clusterName string, id wal.Identity, seen map[string]Seen) (at time.Time, told bool, err error) {
	a := &Archive{Identity: id, r: r, cluster: clusterName, segments: map[wal.Name]segmentSource{}}
	var newest wal.Name
	var last string
	note := func(name wal.Name, info repo.Info) {
		if info.Modified.After(at) {
			at = info.Modified.UTC()
		}
		if name.String() > newest.String() || newest.Timeline == 0 {
			newest = name
		}
		last = max(last, info.Name)
	}
	folder := clusterName + "/wal"
	for range 2 { // the newest timeline, and the last 256 segments or less of it
		folders, err := r.Folders(ctx, folder)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return at, false, err
		}
		if len(folders) == 0 {
			folder = ""
			break
		}
		folder += "/" + slices.Max(folders)
	}
	if folder != "" {
		for info, err := range r.List(ctx, folder+"/") {
			if err != nil {
				return at, false, err
			}
			if name, ok := walFile(info.Name); ok && name.Kind == wal.Segment {
				a.segments[name] = segmentSource{}
				note(name, info)
			}
		}
	}
	streamed, err := pieces(ctx, r, clusterName, "")
	if err != nil {
		return at, false, err
	}
	for name, some := range streamed {
		if _, archived := a.segments[name]; archived {
			continue
		}
		if c := chain(some, id.SegmentSize); c != nil {
			a.segments[name] = segmentSource{pieces: c}
			for _, p := range some {
				note(name, p.stored)
			}
		}
	}
	if newest.Timeline == 0 {
		return at, false, nil
	}
	what := last + " " + at.String()
	if known, ok := seen[r.String()]; ok && known.what == what {
		return known.at, known.told, nil
	}
	arrived := at
	s := Stretch{l: wal.Lineage{Timeline: newest.Timeline}, a: a}
	if s.Last, err = newest.Number(id.SegmentSize); err != nil {
		return arrived, false, nil //nolint:nilerr // of another size: not ours to read
	}
	for s.First = s.Last; s.First > 0 && s.Last-s.First < 4; s.First-- { // an idle server writes segments that tell nothing
		if _, there := a.segments[id.SegmentSize.Name(newest.Timeline, s.First-1)]; !there {
			break
		}
	}
	_, _, at, _, err = s.tail(ctx)
	if ctx.Err() != nil {
		return arrived, false, ctx.Err()
	}
	if told = err == nil && !at.IsZero(); !told { // it is encrypted and the key is not here, or damaged
		at = arrived
	}
	if seen != nil {
		seen[r.String()] = Seen{what: what, at: at, told: told}
	}
	return at, told, nil
}
