package keeper

import (
	"context"
	"slices"
	"time"

	"howdah/internal/fault"
	"howdah/internal/repo"
	"howdah/internal/wal"
)

// Plan says what a restore will do, and what will come of it.
type Plan struct {
	Cluster  string       `json:"cluster"`
	Backup   *Backup      `json:"backup"`
	Chain    []*Backup    `json:"chain,omitempty"` // for an increment: the full backup first, and Backup last
	Timeline wal.Timeline `json:"timeline"`

	Stop  wal.LSN `json:"stop"`  // the last record that is replayed
	Until wal.LSN `json:"until"` // where that ends
	// The last transaction that the restored cluster will hold; zero when none has committed since before the WAL that there is.
	XID     uint32    `json:"xid,omitzero"`
	Reached time.Time `json:"reached,omitzero"`

	// Ended is when the transaction committed that the target lies just before; zero for all other targets.
	Ended time.Time `json:"ended,omitzero"`

	Segments int    `json:"segments"` // that are replayed
	First    string `json:"first_segment"`
	Last     string `json:"last_segment"`
	Read     int64  `json:"read"`  // bytes of the backup in the repo
	Write    int64  `json:"write"` // bytes that the restored files take
	WAL      int64  `json:"wal"`   // bytes of WAL that are replayed
	Holes    []Hole `json:"holes,omitempty"`
	Seconds  int    `json:"seconds"` // that it will take, very roughly

	Orphans []string `json:"orphans,omitempty"` // increments that are nearer to the target, but a backup that they need is gone or damaged

	// Files are segments, and histories, that are not in the archive but in a pg_wal folder, and that recovery needs: their paths.
	Files []string `json:"files,omitempty"`

	// Streamed are segments that are not archived, of which the beginning was streamed.
	Streamed []StreamedSegment `json:"streamed,omitempty"`

	id wal.Identity
}

// StreamedSegment is a segment that is not archived.
type StreamedSegment struct {
	Name  string `json:"segment"`
	Bytes uint32 `json:"bytes"` // that are known of it
}

// Hole is WAL that is missing between stretches that are there.
type Hole struct {
	First  string    `json:"first_segment"`
	Last   string    `json:"last_segment"`
	Count  uint64    `json:"count"`
	After  time.Time `json:"after,omitzero"`  // the newest moment before it
	Before time.Time `json:"before,omitzero"` // the oldest moment behind it
	// Behind it nothing can be reached but from this backup on; "" when there is none: then all that comes after the hole is lost.
	Backup string `json:"backup,omitempty"`
}

func (a *Archive) hole(stretches []Stretch, k int) Hole {
	first, last := stretches[k].Last+1, stretches[k+1].First-1
	l := stretches[k].l
	name := func(n uint64) string {
		return a.SegmentSize.Holding(l.At(a.SegmentSize.Start(n)), a.SegmentSize.Start(n)).String()
	}
	return Hole{First: name(first), Last: name(last), Count: last - first + 1}
}

// NewestTimeline is the one that a restore goes to when nothing is said: the highest that a good backup leads to.
func (a *Archive) NewestTimeline() (wal.Timeline, error) {
	all := a.Timelines()
	for i := len(all) - 1; i >= 0; i-- {
		l, err := a.Lineage(all[i])
		if err != nil {
			if i == len(all)-1 {
				return 0, err
			}
			continue
		}
		if len(a.usable(l)) > 0 {
			return all[i], nil
		}
	}
	return 0, fault.New(fault.NotFound, "keeper.no_backups", fault.Args{"cluster": a.cluster, "place": a.r.String()})
}

// usable are the good backups that lead to a timeline, by where recovery from them can end first.
func (a *Archive) usable(l wal.Lineage) []*Backup {
	var all []*Backup
	for _, b := range a.Backups {
		if b.Good() && b.System == a.System && l.Includes(b.EndTimeline, b.Stop) {
			if _, err := a.chain(b); err == nil {
				all = append(all, b)
			}
		}
	}
	sortBackups(all)
	return all
}

// Plan finds out how a target is reached. A target that cannot be is a fault that names the nearest that can: "keeper.target_future", "keeper.target_past",
// "keeper.target_hole", "keeper.target_branch".
func (a *Archive) Plan(ctx context.Context, target Target) (*Plan, error) {
	if target.kinds() > 1 {
		return nil, fault.New(fault.Invalid, "keeper.targets")
	}
	timeline := target.Timeline
	if timeline == 0 {
		var err error
		if timeline, err = a.NewestTimeline(); err != nil {
			return nil, err
		}
	}
	l, err := a.Lineage(timeline)
	if err != nil {
		return nil, err
	}
	usable := a.usable(l)
	if len(usable) == 0 {
		for _, b := range a.Backups { // what there is may be increments only
			if _, err := a.chain(b); err != nil {
				return nil, err
			}
		}
		return nil, fault.New(fault.NotFound, "keeper.no_backups", fault.Args{"cluster": a.cluster, "place": a.r.String()})
	}
	oldest := usable[0]
	for _, b := range usable {
		if b.Start < oldest.Start {
			oldest = b
		}
	}
	stretches := a.stretches(l, a.SegmentSize.Number(oldest.Start))
	if len(stretches) == 0 {
		return nil, fault.New(fault.NotFound, "keeper.no_wal", fault.Args{"cluster": a.cluster, "place": a.r.String(),
			"segment": a.SegmentSize.Holding(oldest.Timeline, oldest.Start).String()})
	}
	f, err := a.find(ctx, stretches, target)
	if err != nil {
		return nil, err
	}
	if target.Timeline == 0 {
		if err := a.onBranch(ctx, l, f, target); err != nil {
			return nil, err
		}
	}
	b, err := a.choose(ctx, stretches, usable, f, target)
	if err != nil {
		return nil, err
	}
	p := &Plan{Cluster: a.cluster, Backup: b, Timeline: timeline, Stop: f.last, Until: f.until, Ended: f.ended, id: a.Identity}
	if p.Chain, err = a.chain(b); err != nil {
		return nil, err
	}
	for _, c := range a.Backups {
		if _, err := a.chain(c); err != nil && c.Stop > b.Stop && c.Stop <= f.until {
			p.Orphans = append(p.Orphans, c.ID)
		}
	}
	return p, a.fill(ctx, p, stretches, f)
}

// find looks for the target.
func (a *Archive) find(ctx context.Context, stretches []Stretch, target Target) (found, error) {
	switch {
	case !target.Time.IsZero():
		return a.at(ctx, stretches, target.Time)
	case target.LSN != 0:
		return a.lsn(ctx, stretches, target.LSN)
	case target.XID != "":
		return a.transaction(ctx, stretches, target.XID, target.Before)
	case target.Name != "":
		return a.point(ctx, stretches, target.Name)
	}
	return a.latest(ctx, stretches)
}

// choose takes the backup that recovery to what was found begins with.
func (a *Archive) choose(ctx context.Context, stretches []Stretch, usable []*Backup, f found, target Target) (*Backup, error) {
	size := a.SegmentSize
	var best *Backup
	reaches := func(b *Backup) bool { return b.Stop <= f.until && f.s.holds(size.Number(b.Start)) }
	for _, b := range usable {
		switch {
		case !reaches(b), target.Backup != "" && b.ID != target.Backup:
		case best == nil || b.Start >= best.Start:
			best = b
		}
	}
	if best != nil {
		return best, nil
	}
	if target.Backup != "" {
		b, err := OpenBackup(ctx, a.r, a.cluster, target.Backup)
		if err != nil {
			return nil, err
		}
		return nil, a.useless(ctx, stretches, b, f)
	}
	// Nothing leads there: it lies before all backups, or behind a hole and before the next backup.
	what := described(target, f)
	if target.kinds() == 0 {
		what = "--latest"
	}
	for k, s := range stretches {
		if s.First != f.s.First || k == 0 {
			continue
		}
		for _, b := range usable {
			if size.Number(b.Start) < s.First { // a backup from before the hole
				return nil, a.inHole(ctx, what, stretches, k-1)
			}
		}
	}
	for _, b := range usable {
		if b.Stop > f.until || b.Start > f.until {
			return nil, fault.New(fault.NotFound, "keeper.target_past", fault.Args{"target": what, "oldest": Moment(b.Ended.Local()), "lsn": b.Stop})
		}
	}
	// The newest backup has a hole between its own WAL and the target.
	return nil, a.inHole(ctx, what, stretches, 0)
}

func described(t Target, f found) string {
	switch {
	case !t.Time.IsZero():
		return Moment(t.Time)
	case t.LSN != 0:
		return t.LSN.String()
	case t.XID != "":
		return t.XID
	case t.Name != "":
		return t.Name
	}
	return f.until.String()
}

// useless says why a backup that somebody named does not do.
func (a *Archive) useless(ctx context.Context, stretches []Stretch, b *Backup, f found) error {
	_, err := a.chain(b)
	switch {
	case err != nil:
		return err
	case !b.Good():
		return fault.New(fault.Conflict, "keeper.backup_damaged", fault.Args{"id": b.ID, "files": b.damagedFiles()})
	case !f.s.l.Includes(b.EndTimeline, b.Stop):
		return fault.New(fault.Conflict, "keeper.backup_branch", fault.Args{"id": b.ID, "have": b.EndTimeline, "want": f.s.l.Timeline})
	case b.Stop > f.until:
		return fault.New(fault.Conflict, "keeper.backup_later", fault.Args{"id": b.ID, "ended": Moment(b.Ended.Local()), "lsn": b.Stop})
	}
	for k := range stretches[:len(stretches)-1] {
		if stretches[k+1].First > a.SegmentSize.Number(b.Start) {
			return a.inHole(ctx, f.until.String(), stretches, k)
		}
	}
	return fault.New(fault.NotFound, "keeper.no_wal", fault.Args{"cluster": a.cluster, "place": a.r.String(),
		"segment": a.SegmentSize.Holding(b.Timeline, b.Start).String()})
}

// chain is chainOf the backups of the archive.
func (a *Archive) chain(b *Backup) ([]*Backup, error) { return chainOf(a.Backups, b) }

// chainOf is what one of all backups consists of: for an increment, all from the full one on; nil for a full one. The fault "keeper.chain_broken" where one
// is missing or damaged.
func chainOf(all []*Backup, b *Backup) ([]*Backup, error) {
	if b.Parent == "" {
		return nil, nil
	}
	chain := []*Backup{b}
	for at := b; at.Parent != ""; {
		var parent *Backup
		for _, c := range all {
			if c.ID == at.Parent && c.ID < at.ID {
				parent = c
			}
		}
		if parent == nil || !parent.Good() {
			return nil, fault.New(fault.NotFound, "keeper.chain_broken", fault.Args{"id": b.ID, "parent": at.Parent})
		}
		chain = append([]*Backup{parent}, chain...)
		at = parent
	}
	return chain, nil
}

// onBranch refuses a target that somebody may mean in another way: at that time, or at that position, the cluster was on a timeline that was left later, when it
// was restored to an earlier state.
func (a *Archive) onBranch(ctx context.Context, l wal.Lineage, f found, target Target) error {
	for _, s := range l.Switches {
		switch {
		case !target.Time.IsZero() && f.until >= s.At && a.firstAfter(ctx, l, s.At, target.Time):
		case target.LSN > s.At:
		default:
			continue
		}
		covered, err := a.covers(ctx, s, target)
		if err != nil {
			return err
		}
		if covered {
			return fault.New(fault.Conflict, "keeper.target_branch", fault.Args{"target": described(target, f), "timeline": s.Timeline, "switch": s.At, "newest": l.Timeline})
		}
	}
	return nil
}

// covers tells whether a timeline has, behind the place where it was left, something that belongs to the target.
func (a *Archive) covers(ctx context.Context, left wal.Switch, target Target) (bool, error) {
	l, err := a.Lineage(left.Timeline)
	if err != nil {
		return false, nil // it is forgotten: nobody can go there
	}
	in := a.reader(ctx, l, left.At)
	defer in.Close()
	for {
		rec, err := in.Next()
		if err != nil {
			return false, notEnd(err)
		}
		if target.LSN != 0 {
			if rec.End >= target.LSN {
				return true, nil
			}
		} else if outcome, at := rec.Ends(); outcome == wal.Committed {
			return !at.After(target.Time), nil
		}
	}
}

// firstAfter tells whether nothing on a timeline ended between a switch and a time: whether the time lies between the two lives. A checkpoint tells whole seconds:
// within its second, what ended next decides, and where nothing did, the time may lie before it.
func (a *Archive) firstAfter(ctx context.Context, l wal.Lineage, at wal.LSN, limit time.Time) bool {
	in := a.reader(ctx, l, at)
	defer in.Close()
	perhaps := false
	for {
		rec, err := in.Next()
		if err != nil {
			return perhaps
		}
		m := moment(rec)
		if rec.LSN < at || m.IsZero() {
			continue
		}
		if _, ok := rec.Checkpoint(); ok && !m.After(limit) && m.Add(time.Second).After(limit) {
			perhaps = true
			continue
		}
		return m.After(limit)
	}
}

// fill adds what the plan costs and what it reaches.
func (a *Archive) fill(ctx context.Context, p *Plan, stretches []Stretch, f found) error {
	size := a.SegmentSize
	first, last := size.Number(p.Backup.Start), size.Number(max(f.last, p.Backup.Stop-1))
	p.Segments = int(last - first + 1)
	p.First = size.Holding(f.s.l.At(p.Backup.Start), p.Backup.Start).String()
	p.Last = size.Holding(f.s.l.At(f.last), f.last).String()
	p.WAL = int64(p.Until - p.Backup.Start)
	for number := first; number <= last; number++ {
		for _, t := range f.s.l.Holders(number, size) {
			source, there := a.segments[size.Name(t, number)]
			if there && source.path != "" {
				p.Files = append(p.Files, source.path)
			}
			if there && source.pieces != nil {
				p.Streamed = append(p.Streamed, StreamedSegment{Name: size.Name(t, number).String(), Bytes: chainEnd(source.pieces)})
			}
			if there {
				break
			}
		}
	}
	// All histories, for PostgreSQL takes a new timeline that is in none.
	p.Files = append(p.Files, a.histories...)
	// The timeline that the end is on, where the archive has the segment under its name: going along one that began later, PostgreSQL would write a history that says so.
	for _, t := range slices.Backward(f.s.l.Holders(last, size)) {
		if _, there := a.segments[size.Name(t, last)]; there && t >= f.s.l.At(f.last) {
			p.Timeline = t
			break
		}
	}
	for _, b := range append([]*Backup{p.Backup}, p.Chain[:max(0, len(p.Chain)-1)]...) {
		p.Read += b.Stored()
		p.Write += b.Plain()
	}
	var err error
	if p.XID, p.Reached, _, err = f.s.lastTransaction(ctx, f.until); err != nil {
		return err
	}
	for k := range stretches[:len(stretches)-1] {
		h, err := a.describeHole(ctx, stretches, k)
		if err != nil {
			return err
		}
		p.Holes = append(p.Holes, h)
	}
	const files, replay = 150 << 20, 60 << 20 // bytes per second, on a small machine
	p.Seconds = 5 + int(p.Write/files+p.WAL/replay)
	return nil
}

// PlanRestore is OpenArchive and Plan; folders are those that AddFolder takes.
func PlanRestore(ctx context.Context, r *repo.Repo, clusterName string, target Target, folders ...string) (*Plan, error) {
	a, err := OpenArchive(ctx, r, clusterName)
	if err != nil {
		return nil, err
	}
	for _, dir := range folders {
		if err := a.AddFolder(ctx, dir); err != nil {
			return nil, err
		}
	}
	return a.Plan(ctx, target)
}
