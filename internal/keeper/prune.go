package keeper

import (
	"cmp"
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"howdah/internal/fault"
	"howdah/internal/repo"
	"howdah/internal/wal"
)

// Retention says what is kept. The newest good base backup and the newest dump of each database stay, whatever it says.
type Retention struct {
	Window   time.Duration // any moment of it, back from now, stays within reach
	Physical int           // at least so many good base backups
	// Logical backups outside of the window: the newest of so many days, weeks (from Monday) and months that have one, in UTC.
	Daily, Weekly, Monthly int
}

// KeptWhy is a reason to keep a backup.
type KeptWhy string

// The reasons.
const (
	KeptNewest   KeptWhy = "newest"   // it is the newest good one, or the newest that holds some database
	KeptWindow   KeptWhy = "window"   // it is younger than the window is long
	KeptAnchor   KeptWhy = "anchor"   // the beginning of the window is reached from it
	KeptCount    KeptWhy = "count"    // so many are kept
	KeptParent   KeptWhy = "parent"   // an increment that is kept needs it
	KeptDaily    KeptWhy = "daily"    // newest of a day
	KeptWeekly   KeptWhy = "weekly"   // newest of a week
	KeptMonthly  KeptWhy = "monthly"  // newest of a month
	KeptDoubt    KeptWhy = "doubt"    // it cannot be judged
	KeptRestore  KeptWhy = "restore"  // it is being restored, or verified
	KeptTimeline KeptWhy = "timeline" // another timeline, that has moments in the window, is reached from it
)

// Judgement is what becomes of a backup.
type Judgement struct {
	ID      string    `json:"id"`
	Logical bool      `json:"logical,omitempty"`
	Ended   time.Time `json:"ended"`
	Stored  int64     `json:"stored"`            // bytes
	Why     []KeptWhy `json:"kept_as,omitempty"` // empty: it goes

	objects []string // in its folder, but for the manifest
}

// Kept tells whether it stays.
func (j Judgement) Kept() bool { return len(j.Why) > 0 }

// PruneDoubt is why nothing at all is removed.
type PruneDoubt string

// The doubts.
const (
	DoubtNone     PruneDoubt = ""
	DoubtAhead    PruneDoubt = "repo_ahead"  // the repo holds things from the future: a clock is, or was, wrong
	DoubtBehind   PruneDoubt = "repo_behind" // nothing has come for long: backups fail, or the clock has jumped
	DoubtManifest PruneDoubt = "manifest"    // there are backups whose manifests cannot be read
	DoubtEmpty    PruneDoubt = "no_backup"   // there is no good base backup
)

// PrunePlan is what a prune removes, or has removed.
type PrunePlan struct {
	Cluster  string       `json:"cluster"`
	DryRun   bool         `json:"dry_run"`
	Doubt    PruneDoubt   `json:"doubt,omitempty"`
	Clock    time.Time    `json:"clock"`  // what it says here
	Newest   time.Time    `json:"newest"` // the newest time that the repo knows of
	Cut      time.Time    `json:"cut"`    // where the window begins
	Physical []*Judgement `json:"physical"`
	Logical  []*Judgement `json:"logical"`
	Segments int          `json:"segments"` // files of WAL that go
	First    string       `json:"first_segment,omitempty"`
	Last     string       `json:"last_segment,omitempty"`
	Reports  int          `json:"reports"` // of drills and verifications that go
	Bytes    int64        `json:"bytes"`   // that are freed, as stored
	// The oldest moment that can be restored from base backups, before and after.
	OldestBefore time.Time `json:"oldest_before,omitzero"`
	OldestAfter  time.Time `json:"oldest_after,omitzero"`

	size   wal.SegmentSize
	wal    []repo.Info
	pieces []piece
	report []string // names of the reports that go
}

// Fault is why nothing is removed that should be; nil where nothing is in doubt, and where there is no base backup yet.
func (p *PrunePlan) Fault(place string) error {
	switch p.Doubt {
	case DoubtAhead:
		return aheadFault(place, p.Newest, p.Clock)
	case DoubtBehind:
		return fault.New(fault.Conflict, "keeper.clean_behind", fault.Args{"place": place, "newest": Moment(p.Newest.Local()), "clock": Moment(p.Clock.Local())})
	case DoubtManifest:
		return fault.New(fault.Conflict, "keeper.clean_manifest", fault.Args{"place": place})
	case DoubtNone, DoubtEmpty:
	}
	return nil
}

func aheadFault(place string, newest, clock time.Time) *fault.Fault {
	return fault.New(fault.Conflict, "keeper.clean_ahead", fault.Args{"place": place, "newest": Moment(newest.Local()), "clock": Moment(clock.Local())})
}

// pruneStock is what there is to judge.
type pruneStock struct {
	a     *Archive
	dumps []Dump
	wal   []repo.Info // files of WAL but histories, which are never removed
	// pieces of segments, archived or not.
	pieces map[wal.Name][]piece
	holds  []hold
	clock  time.Time
	// reports of drills and verifications, and the name of the newest of a drill that was good.
	reports []repo.Info
	good    string
}

const (
	// A repo may be this much ahead of the clock: machines differ.
	repoAhead = time.Hour
	// It may be this much behind: a base backup every week is the least that somebody would make.
	repoBehind = 8 * 24 * time.Hour
)

// walFile takes the name of an object of WAL apart.
func walFile(object string) (wal.Name, bool) {
	file := object[strings.LastIndexByte(object, '/')+1:]
	name, err := wal.ParseName(strings.TrimSuffix(strings.TrimSuffix(file, ".age"), ".zst"))
	return name, err == nil
}

// walObject is walFile for what lies where a push puts it: only that is ours.
func walObject(clusterName, object string) (wal.Name, bool) {
	name, ok := walFile(object)
	if !ok {
		return name, false
	}
	where, err := repo.WALName(clusterName, name.String())
	return name, err == nil && (object == where+".zst" || object == where+".zst.age")
}

// judge decides what goes. It looks at nothing but the stock.
func (s *pruneStock) judge(keep Retention) *PrunePlan {
	a := s.a
	p := &PrunePlan{Cluster: a.cluster, Clock: s.clock.UTC(), Physical: []*Judgement{}, Logical: []*Judgement{}}
	newestOn := map[wal.Timeline]time.Time{} // when something was last written on a timeline
	var times []time.Time                    // when anything was
	note := func(t wal.Timeline, at time.Time) {
		times = append(times, at)
		if at.After(newestOn[t]) {
			newestOn[t] = at
		}
		if at.After(p.Newest) {
			p.Newest = at
		}
	}
	for _, b := range a.Backups {
		note(b.EndTimeline, b.Ended)
	}
	for _, d := range s.dumps {
		note(0, d.Ended)
	}
	for _, f := range s.wal {
		if name, ok := walFile(f.Name); ok {
			note(name.Timeline, f.Modified)
		}
	}
	for name, some := range s.pieces {
		for _, piece := range some {
			note(name.Timeline, piece.stored.Modified)
		}
	}
	// The window ends where the repo does when that is earlier: what nobody writes any more does not fall out of it.
	end := s.clock
	if p.Newest.Before(end) {
		end = p.Newest
	}
	p.Cut = windowBegin(times, end, keep.Window).UTC()

	base := map[string]*Judgement{}
	for _, b := range a.Backups {
		j := &Judgement{ID: b.ID, Ended: b.Ended, Stored: b.Stored(), objects: []string{b.Index.Object, b.Manifest.Object}}
		for _, t := range b.Tarballs {
			j.objects = append(j.objects, t.Object)
		}
		base[b.ID] = j
		p.Physical = append(p.Physical, j)
	}
	why := func(j *Judgement, reason KeptWhy) {
		if !slices.Contains(j.Why, reason) {
			j.Why = append(j.Why, reason)
		}
	}
	// Good ones, from the newest on; an increment whose chain is broken is none.
	good := slices.DeleteFunc(slices.Clone(a.Backups), func(b *Backup) bool {
		_, err := a.chain(b)
		return !b.Good() || b.System != a.System || err != nil
	})
	slices.SortStableFunc(good, func(x, y *Backup) int { return cmp.Or(y.Ended.Compare(x.Ended), strings.Compare(y.ID, x.ID)) })
	if len(good) > 0 {
		why(base[good[0].ID], KeptNewest)
		p.OldestBefore = good[len(good)-1].Ended
	}
	for _, b := range good[:min(len(good), max(0, keep.Physical))] {
		why(base[b.ID], KeptCount)
	}
	for _, b := range a.Backups {
		_, err := a.Lineage(b.EndTimeline)
		switch {
		case b.Ended.After(p.Cut):
			why(base[b.ID], KeptWindow)
		case b.System != a.System, err != nil:
			why(base[b.ID], KeptDoubt)
		}
	}
	for _, b := range a.Backups {
		if isHeld(s.holds, b.ID) {
			why(base[b.ID], KeptRestore)
		}
	}
	timelines := a.Timelines()
	for _, t := range timelines {
		l, err := a.Lineage(t)
		if err != nil {
			continue // its backups stay, and so does the WAL behind them
		}
		if last := t == timelines[len(timelines)-1]; !last && newestOn[t].Before(p.Cut) {
			continue // all of its moments are older than the window
		}
		for _, b := range good { // the newest that leads to the window's beginning. One that was still running then does not
			if b.Ended.After(p.Cut) || !l.Includes(b.EndTimeline, b.Stop) {
				continue
			}
			if t == timelines[len(timelines)-1] {
				why(base[b.ID], KeptAnchor)
			} else {
				why(base[b.ID], KeptTimeline)
			}
			break
		}
	}
	for i := len(a.Backups) - 1; i >= 0; i-- { // increments come after what they are increments to
		if b := a.Backups[i]; base[b.ID].Kept() && base[b.Parent] != nil {
			why(base[b.Parent], KeptParent)
		}
	}
	s.logical(p, keep, why)
	switch {
	case p.Newest.After(s.clock.Add(repoAhead)):
		p.Doubt = DoubtAhead
	case !p.Newest.IsZero() && s.clock.Sub(p.Newest) > repoBehind:
		p.Doubt = DoubtBehind
	case a.Broken != nil:
		p.Doubt = DoubtManifest
	}
	if len(good) == 0 { // what is left of base backups may be all that there is
		for _, j := range p.Physical {
			why(j, KeptDoubt)
		}
	}
	if p.Doubt != DoubtNone {
		for _, j := range slices.Concat(p.Physical, p.Logical) {
			if !j.Kept() {
				why(j, KeptDoubt)
			}
		}
	}
	for i := len(good) - 1; i >= 0; i-- {
		if base[good[i].ID].Kept() {
			p.OldestAfter = good[i].Ended
			break
		}
	}
	s.files(p, base, len(good) > 0)
	s.oldReports(p, base)
	for _, j := range slices.Concat(p.Physical, p.Logical) {
		if !j.Kept() {
			p.Bytes += j.Stored
		}
	}
	return p
}

// windowBegin is where a window that ends at a moment begins. Time in which nothing at all came to the repo for longer than repoBehind does not count: somebody was on
// holiday, or the clock has jumped, and the first backup that was made after it would push all others out of the window.
func windowBegin(times []time.Time, end time.Time, window time.Duration) time.Time {
	slices.SortFunc(times, func(a, b time.Time) int { return b.Compare(a) })
	for _, at := range times {
		gap := end.Sub(at)
		switch {
		case gap <= 0:
			continue
		case gap > repoBehind:
		case gap >= window:
			return end.Add(-window)
		default:
			window -= gap
		}
		end = at
	}
	return end.Add(-window)
}

// logical judges the dumps.
func (s *pruneStock) logical(p *PrunePlan, keep Retention, why func(*Judgement, KeptWhy)) {
	held := map[string]bool{} // databases
	days, weeks, months := map[string]bool{}, map[string]bool{}, map[string]bool{}
	for _, d := range slices.Backward(s.dumps) {
		j := &Judgement{ID: d.ID, Logical: true, Ended: d.Ended, Stored: d.Size()}
		p.Logical = append(p.Logical, j)
		for _, part := range d.Parts {
			j.objects = append(j.objects, part.Object)
			name := "\x00globals"
			if !part.Globals() {
				name = part.Database.Name
			}
			if !held[name] {
				held[name] = true
				why(j, KeptNewest)
			}
		}
		if d.Ended.After(p.Cut) {
			why(j, KeptWindow)
		}
		if isHeld(s.holds, d.ID) {
			why(j, KeptRestore)
		}
		at := d.Ended.UTC()
		year, week := at.ISOWeek()
		for _, each := range []struct {
			have   map[string]bool
			name   string
			limit  int
			reason KeptWhy
		}{{days, at.Format(time.DateOnly), keep.Daily, KeptDaily}, {weeks, fmt.Sprint(year, " ", week), keep.Weekly, KeptWeekly},
			{months, at.Format("2006-01"), keep.Monthly, KeptMonthly}} {
			if !each.have[each.name] && len(each.have) < each.limit {
				each.have[each.name] = true
				why(j, each.reason)
			}
		}
	}
	slices.Reverse(p.Logical)
}

// files finds the WAL that goes: what lies before the beginning of every backup that stays, by its position, on whatever timeline. Positions only grow, also from
// one timeline to the next, so nothing that is kept can need it.
func (s *pruneStock) files(p *PrunePlan, base map[string]*Judgement, some bool) {
	if !some {
		if p.Doubt == DoubtNone {
			p.Doubt = DoubtEmpty
		}
		return
	}
	if p.Doubt != DoubtNone {
		return
	}
	size := s.a.SegmentSize
	from := size.Last()
	for _, b := range s.a.Backups {
		if base[b.ID].Kept() {
			from = min(from, size.Number(min(b.Start, b.Stop)))
		}
	}
	from = min(from, heldFrom(s.holds, size))
	for _, f := range s.wal {
		name, ok := walFile(f.Name)
		if !ok || name.Kind == wal.History {
			continue
		}
		if number, err := name.Number(size); err != nil || number >= from {
			continue
		}
		p.wal = append(p.wal, f)
		p.Bytes += f.Size
	}
	for name, some := range s.pieces {
		if number, err := name.Number(size); err != nil || number >= from { // where it is archived, streaming itself removes them
			continue
		}
		for _, piece := range some {
			p.pieces = append(p.pieces, piece)
			p.Bytes += piece.stored.Size
		}
	}
	number := func(f repo.Info) uint64 {
		name, _ := walFile(f.Name)
		n, _ := name.Number(size) // it had one above
		return n
	}
	slices.SortStableFunc(p.wal, func(x, y repo.Info) int { return cmp.Compare(number(x), number(y)) })
	if p.Segments = len(p.wal); p.Segments > 0 {
		first, _ := walFile(p.wal[0].Name)
		last, _ := walFile(p.wal[len(p.wal)-1].Name)
		p.First, p.Last = first.Segment().String(), last.Segment().String()
	}
}

// oldReports finds the reports that go: those from before the window that tell of no base backup that stays. The newest of each kind stays, and that of the last drill that was good, by
// which the next is due.
func (s *pruneStock) oldReports(p *PrunePlan, base map[string]*Judgement) {
	if p.Doubt != DoubtNone {
		return
	}
	since := p.Cut
	for _, b := range s.a.Backups {
		if base[b.ID].Kept() && b.Ended.Before(since) {
			since = b.Ended
		}
	}
	newest := map[string]bool{}
	for _, info := range slices.Backward(s.reports) { // in the order of their names, which is that of time
		kind, at, ok := parseReport(s.a.cluster, info.Name)
		if first := !newest[kind]; !ok || first || !at.Before(since) || info.Name == s.good {
			newest[kind] = newest[kind] || ok
			continue
		}
		p.report = append(p.report, info.Name)
		p.Bytes += info.Size
	}
	p.Reports = len(p.report)
}

// heldFrom is the number of the first segment that restores under way need.
func heldFrom(living []hold, size wal.SegmentSize) uint64 {
	from := size.Last()
	for _, h := range living {
		if h.From != 0 {
			from = min(from, size.Number(h.From))
		}
	}
	return from
}

// PlanPrune says what a prune would remove, and of each backup why it stays.
func PlanPrune(ctx context.Context, r *repo.Repo, clusterName string, keep Retention) (*PrunePlan, error) {
	a, err := OpenArchive(ctx, r, clusterName)
	if err != nil {
		return nil, err
	}
	s := &pruneStock{a: a, clock: time.Now()}
	if s.dumps, err = Dumps(ctx, r, clusterName); err != nil {
		return nil, err
	}
	for info, err := range r.List(ctx, clusterName+"/wal/") {
		if err != nil {
			return nil, err
		}
		if name, ok := walObject(clusterName, info.Name); ok && name.Kind != wal.History {
			s.wal = append(s.wal, info)
		}
	}
	if s.pieces, err = pieces(ctx, r, clusterName, ""); err != nil {
		return nil, err
	}
	for info, err := range r.List(ctx, reportFolder(clusterName)) {
		if err != nil {
			return nil, err
		}
		s.reports = append(s.reports, info)
	}
	if _, good, err := lastDrills(ctx, r, clusterName); err != nil {
		return nil, err
	} else if good != nil {
		s.good = good.Report
	}
	if s.holds, _, err = livingHolds(ctx, r, clusterName); err != nil {
		return nil, err
	}
	p := s.judge(keep)
	p.size, p.DryRun = a.SegmentSize, true
	return p, nil
}

// removeListed removes a backup: after a note that says so, first the manifest, so that it is none any more; run.json and the note last, by which the next run knows what is left
// when we are killed.
// What somebody else has put into its folder stays; and all the rest, for the next run, when a restore that has just begun needs it.
func removeListed(ctx context.Context, r *repo.Repo, clusterName, id, folder, manifest string, objects []string) error {
	host, _ := os.Hostname()
	err := r.PutJSON(ctx, folder+prunedName, runJSON{time.Now().UTC().Truncate(time.Second), host, os.Getpid(), rand.Text()})
	if err != nil && !fault.HasKey(err, "repo.conflict") { // an earlier prune has said so
		return err
	}
	if err := r.Remove(ctx, folder+manifest); err != nil {
		return err
	}
	if living, _, err := livingHolds(ctx, r, clusterName); err != nil || isHeld(living, id) {
		return err
	}
	names := make([]string, len(objects))
	for i, object := range objects {
		names[i] = folder + object
	}
	if err := r.Remove(ctx, names...); err != nil {
		return err
	}
	return r.Remove(ctx, folder+runName, folder+prunedName)
}

// Prune removes what need not be kept any more. Killed at any moment, it leaves a repo in which all that is listed can be restored: a backup stops being one
// before its files go, increments go before what they need, and WAL goes last, the oldest first.
func Prune(ctx context.Context, r *repo.Repo, clusterName string, keep Retention) (*PrunePlan, error) {
	p, err := PlanPrune(ctx, r, clusterName, keep)
	if err != nil {
		return nil, err
	}
	p.DryRun = false
	for _, j := range slices.Backward(p.Physical) {
		if !j.Kept() {
			if err := removeListed(ctx, r, clusterName, j.ID, baseFolder(clusterName)+"/"+j.ID+"/", backupName, j.objects); err != nil {
				return nil, err
			}
		}
	}
	for _, j := range p.Logical {
		if j.Kept() {
			continue
		}
		if err := removeListed(ctx, r, clusterName, j.ID, dumpFolder(clusterName)+"/"+j.ID+"/", dumpManifest, j.objects); err != nil {
			return nil, err
		}
	}
	living, dead, err := livingHolds(ctx, r, clusterName)
	if err != nil {
		return nil, err
	}
	from := heldFrom(living, p.size)
	p.wal = slices.DeleteFunc(p.wal, func(f repo.Info) bool {
		name, _ := walFile(f.Name)
		number, err := name.Number(p.size)
		stays := err != nil || number >= from
		if stays {
			p.Segments--
			p.Bytes -= f.Size
		}
		return stays
	})
	p.pieces = slices.DeleteFunc(p.pieces, func(one piece) bool {
		number, err := one.segment.Number(p.size)
		return err != nil || number >= from
	})
	for some := range slices.Chunk(p.wal, 100) {
		names := make([]string, len(some))
		for i, f := range some {
			names[i] = f.Name
		}
		if err := r.Remove(ctx, names...); err != nil {
			return nil, err
		}
	}
	if err := removePieces(ctx, r, p.pieces); err != nil {
		return nil, err
	}
	for some := range slices.Chunk(append(dead, p.report...), 100) {
		if err := r.Remove(ctx, some...); err != nil {
			return nil, err
		}
	}
	if p.Doubt == DoubtNone { // what a killed prune, or a killed backup, has left
		if err := sweepRuns(ctx, r, baseFolder(clusterName), backupName); err != nil {
			return nil, err
		}
		if err := sweepRuns(ctx, r, dumpFolder(clusterName), dumpManifest); err != nil {
			return nil, err
		}
	}
	return p, nil
}
