package keeper

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"howdah/internal/fault"
	"howdah/internal/repo"
	"howdah/internal/wal"
)

// Archive is what a repo holds of a cluster: base backups, and the WAL that leads on from them. Everything that is said of what can be restored is read from
// it, with no database.
type Archive struct {
	wal.Identity
	Backups []*Backup // whole ones, oldest first, good or not
	Broken  error     // backups whose manifests cannot be read; nil as a rule

	r       *repo.Repo
	cluster string
	// segments are those in the archive, those that backups hold themselves, and those that were streamed and are not archived.
	segments  map[wal.Name]segmentSource
	lineages  map[wal.Timeline]wal.Lineage
	histories []string // files of AddFolder that the archive lacks
	unnamed   error    // why cluster.json does not say which cluster it is; then the newest backup does
	sealed    error    // a history that cannot be read without an identity
	recent    []opened // segments that were read last
	seen      *judged  // of the WAL that was searched last; may be nil
}

// segmentSource is where a segment is read from: a file, pieces (a chain), or a backup; the archive when none of them is there.
type segmentSource struct {
	path    string
	pieces  []piece
	backup  *Backup
	tarball int
	file    repo.File
	t       *repo.Tarball
	came    time.Time // into the archive; zero for what is elsewhere
	stored  int64     // bytes there
}

type opened struct {
	name    wal.Name
	content []byte
}

// clusterFile is what says which cluster it is.
func clusterFile(cluster string) string { return cluster + "/cluster.json" }

// OpenArchive reads what there is: the list of WAL, the histories, the backups' manifests.
func OpenArchive(ctx context.Context, r *repo.Repo, clusterName string) (*Archive, error) {
	return openArchive(ctx, r, clusterName, func(_ string, err error) error { return err })
}

// openArchive is OpenArchive, but for what cannot be read: spoiled is told of it and of the object, and says with nil that the rest is wanted all the same.
func openArchive(ctx context.Context, r *repo.Repo, clusterName string, spoiled func(object string, err error) error) (*Archive, error) {
	c, unnamed := r.Cluster(ctx, clusterName)
	if unnamed != nil && !fault.HasKey(unnamed, "repo.damaged") && !errors.Is(unnamed, fs.ErrNotExist) {
		return nil, unnamed
	}
	a := &Archive{r: r, cluster: clusterName, segments: map[wal.Name]segmentSource{}, lineages: map[wal.Timeline]wal.Lineage{}, unnamed: unnamed,
		Identity: wal.Identity{System: c.System, Major: c.Major, SegmentSize: wal.SegmentSize(c.SegmentSize)}}
	var err error
	if a.Backups, _, err = Backups(ctx, r, clusterName); err != nil && ctx.Err() != nil {
		return nil, err
	}
	a.Broken = err
	if unnamed != nil { // each backup says it too, and nothing shall stand between people and their backups
		if len(a.Backups) == 0 {
			return nil, unnamed
		}
		a.Identity = a.Backups[len(a.Backups)-1].Identity
	}
	if len(a.Backups) == 0 && a.Broken != nil {
		if err := spoiled("", a.Broken); err != nil {
			return nil, err
		}
	}
	// Before the archive: pieces go when their segment lies there, and then it is seen in one of the two places.
	streamed, err := pieces(ctx, r, clusterName, "")
	if err != nil {
		return nil, err
	}
	for info, err := range r.List(ctx, clusterName+"/wal/") {
		if err != nil {
			return nil, err
		}
		name, ok := walObject(clusterName, info.Name)
		if !ok {
			continue // somebody else's
		}
		switch name.Kind {
		case wal.Segment:
			a.segments[name] = segmentSource{came: info.Modified, stored: info.Size}
		case wal.History:
			object, err := repo.WALName(clusterName, name.String())
			if err != nil {
				return nil, err
			}
			content, err := r.Get(ctx, object, nil)
			if unreadable(err) { // a backup may say it in the clear
				a.sealed = err
				continue
			}
			var l wal.Lineage
			if err == nil {
				l, err = wal.ParseHistory(name.Timeline, content)
			}
			if err != nil {
				if err = spoiled(info.Name, err); err != nil {
					return nil, err
				}
				continue
			}
			a.lineages[name.Timeline] = l
		}
	}
	for _, b := range a.Backups {
		if b.Lineage != nil {
			if _, there := a.lineages[b.Lineage.Timeline]; !there {
				a.lineages[b.Lineage.Timeline] = *b.Lineage
			}
		}
		if err := a.include(ctx, b); err != nil && !unreadable(err) {
			if err = spoiled(b.folder()+b.Index.Object, err); err != nil {
				return nil, err
			}
		}
	}
	for name, some := range streamed {
		if _, there := a.segments[name]; there {
			continue
		}
		if c := chain(some, a.SegmentSize); c != nil {
			a.segments[name] = segmentSource{pieces: c}
		}
	}
	return a, nil
}

// include adds the WAL that a backup holds itself.
func (a *Archive) include(ctx context.Context, b *Backup) error {
	if b.WAL != WALIncluded || !b.Good() {
		return nil
	}
	index, err := b.ReadIndex(ctx, a.r)
	if err != nil {
		return err
	}
	for i, t := range index.Tarballs {
		if t.Name != "base" {
			continue
		}
		for _, f := range t.Files {
			base, ok := strings.CutPrefix(f.Path, "pg_wal/")
			name, err := wal.ParseName(base)
			if !ok || err != nil {
				continue
			}
			switch name.Kind {
			case wal.Segment:
				if _, there := a.segments[name]; !there && f.Size == int64(a.SegmentSize) {
					a.segments[name] = segmentSource{backup: b, tarball: i, file: f, t: t}
				}
			case wal.History:
				if _, there := a.lineages[name.Timeline]; there {
					continue
				}
				content, err := a.included(ctx, segmentSource{backup: b, tarball: i, file: f, t: t})
				if err != nil {
					return err
				}
				if a.lineages[name.Timeline], err = wal.ParseHistory(name.Timeline, content); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

func (a *Archive) included(ctx context.Context, s segmentSource) ([]byte, error) {
	packed, err := a.r.Packed(ctx, s.backup.folder()+s.backup.Tarballs[s.tarball].Object)
	if err != nil {
		return nil, err
	}
	in, err := s.t.Open(ctx, packed.Range, s.file)
	if err != nil {
		return nil, err
	}
	content, err := io.ReadAll(in)
	return content, errors.Join(err, in.Close())
}

// open reads a segment; fs.ErrNotExist where there is none.
func (a *Archive) open(ctx context.Context, name wal.Name) (io.ReadCloser, error) {
	for i, o := range a.recent {
		if o.name == name {
			a.recent = append(slices.Delete(a.recent, i, i+1), o)
			return io.NopCloser(bytes.NewReader(o.content)), nil
		}
	}
	source, ok := a.segments[name]
	if !ok {
		return nil, fs.ErrNotExist
	}
	var buffer []byte
	if len(a.recent) >= recentSegments { // the memory of the one that was not read for longest
		buffer = a.recent[0].content[:0]
		a.recent = slices.Delete(a.recent, 0, 1)
	}
	var content []byte
	var err error
	switch {
	case source.path != "":
		if content, err = os.ReadFile(source.path); err != nil {
			err = unreadableFile(source.path, err)
		}
	case source.backup != nil:
		content, err = a.included(ctx, source)
	case source.pieces != nil:
		content = slices.Grow(buffer[:0], int(a.SegmentSize))[:a.SegmentSize]
		if err = assemble(ctx, a.r, a.cluster, source.pieces, content); errors.Is(err, fs.ErrNotExist) { // they were gathered, or are archived, since we listed them
			content, _, err = streamed(ctx, a.r, a.cluster, name, a.SegmentSize, chainEnd(source.pieces), content)
		}
	default:
		var object string
		if object, err = repo.WALName(a.cluster, name.String()); err == nil {
			content, err = a.r.Get(ctx, object, buffer)
		}
	}
	if err != nil {
		return nil, err
	}
	a.recent = append(a.recent, opened{name, content})
	return io.NopCloser(bytes.NewReader(content)), nil
}

// recentSegments are kept in memory: a search looks at some of them twice.
const recentSegments = 3

// reader reads the records of a lineage from a position on.
func (a *Archive) reader(ctx context.Context, l wal.Lineage, from wal.LSN) *wal.Reader {
	return wal.NewReader(a.Identity, l, from, func(name wal.Name) (io.ReadCloser, error) {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		return a.open(ctx, name)
	})
}

// AddFolder adds the segments in a pg_wal folder that the archive lacks: what a server that is lost, but whose disk is not, had written and not archived
// yet. A folder of another cluster, and a segment that cannot be read or is damaged at its head, are faults: leaving it out would lose what was committed.
//
// Of a segment that was streamed it has more; where it has something else, that is the fault "keeper.stream_differs".
func (a *Archive) AddFolder(ctx context.Context, dir string) error {
	entries, err := os.ReadDir(dir)
	switch {
	case errors.Is(err, fs.ErrPermission):
		return fault.Wrap(err, fault.Forbidden, "keeper.pg_wal_permissions", fault.Args{"path": dir})
	case err != nil:
		return fault.Wrap(err, fault.NotFound, "keeper.no_pg_wal", fault.Args{"dir": dir})
	}
	found := false
	for _, e := range entries { // in order of their names: a history comes before the segments of its timeline
		name, err := wal.ParseName(e.Name())
		if err != nil {
			continue
		}
		path := filepath.Join(dir, e.Name())
		switch name.Kind {
		case wal.Segment:
			found = true
			have, there := a.segments[name]
			if there && have.pieces == nil || !e.Type().IsRegular() {
				continue
			}
			switch err := a.checkFile(name, path); {
			case err == nil:
				if there {
					if err := a.goesOn(ctx, have, path); err != nil {
						return err
					}
				}
				a.segments[name] = segmentSource{path: path}
			case fault.HasKey(err, "wal.zeros"), fault.HasKey(err, "wal.address"), fault.HasKey(err, "wal.timeline"): // kept for later use: nothing, or old WAL, is in it
			default:
				return err
			}
		case wal.History:
			if _, there := a.lineages[name.Timeline]; there {
				continue
			}
			content, err := os.ReadFile(path)
			if err != nil {
				return unreadableFile(path, err)
			}
			if a.lineages[name.Timeline], err = wal.ParseHistory(name.Timeline, content); err != nil {
				return err
			}
			a.histories = append(a.histories, path)
		}
	}
	if !found {
		return fault.New(fault.NotFound, "keeper.no_pg_wal", fault.Args{"dir": dir})
	}
	return nil
}

// goesOn looks whether a file begins with what was streamed of its segment.
func (a *Archive) goesOn(ctx context.Context, have segmentSource, path string) error {
	content, err := os.ReadFile(path)
	if err != nil {
		return unreadableFile(path, err)
	}
	known := make([]byte, a.SegmentSize)
	if err := assemble(ctx, a.r, a.cluster, have.pieces, known); err != nil {
		return err
	}
	if end := chainEnd(have.pieces); !bytes.HasPrefix(content, known[:end]) {
		return fault.New(fault.Conflict, "keeper.stream_differs", fault.Args{"name": filepath.Base(path), "place": a.r.String()})
	}
	return nil
}

// checkFile judges a segment by its length and its first page.
func (a *Archive) checkFile(name wal.Name, path string) error {
	f, err := os.Open(path)
	if err != nil {
		return unreadableFile(path, err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return unreadableFile(path, err)
	}
	head := make([]byte, wal.HeadSize)
	n, err := io.ReadFull(f, head)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return unreadableFile(path, err)
	}
	err = a.Check(name, st.Size(), head[:n], a.Lineage)
	args := fault.Args{"name": name.String(), "dir": filepath.Dir(path)}
	switch {
	case err == nil, fault.HasKey(err, "wal.zeros"), fault.HasKey(err, "wal.address"), fault.HasKey(err, "wal.timeline"):
		return err
	case fault.HasKey(err, "wal.other_cluster"), fault.HasKey(err, "wal.version"), fault.HasKey(err, "wal.segment_size"):
		return fault.Wrap(err, fault.Conflict, "keeper.pg_wal_other", args)
	}
	return fault.Wrap(err, fault.Conflict, "keeper.pg_wal_damaged", args)
}

// unreadableFile is the fault for a file of AddFolder. It hides fs.ErrNotExist, which readers of WAL take for the end of it.
func unreadableFile(path string, err error) error {
	if errors.Is(err, fs.ErrPermission) {
		return fault.Wrap(err, fault.Forbidden, "keeper.pg_wal_permissions", fault.Args{"path": path})
	}
	return fault.Wrap(errors.New(err.Error()), fault.Unavailable, "keeper.pg_wal_unreadable", fault.Args{"name": filepath.Base(path), "dir": filepath.Dir(path)})
}

// Timelines are those of which there is WAL or a backup, in order.
func (a *Archive) Timelines() []wal.Timeline {
	seen := map[wal.Timeline]bool{}
	for name := range a.segments {
		seen[name.Timeline] = true
	}
	for t := range a.lineages {
		seen[t] = true
	}
	for _, b := range a.Backups {
		seen[b.EndTimeline] = true
	}
	all := make([]wal.Timeline, 0, len(seen))
	for t := range seen {
		all = append(all, t)
	}
	slices.Sort(all)
	return all
}

// Lineage is a timeline with those it grew out of; the fault "keeper.no_history" where that is not known.
func (a *Archive) Lineage(t wal.Timeline) (wal.Lineage, error) {
	if l, ok := a.lineages[t]; ok {
		return l, nil
	}
	if t == 1 || len(a.lineages) == 0 && t == a.Timelines()[0] { // pg_upgrade and pg_resetwal may leave a cluster at a later one
		return wal.Lineage{Timeline: t}, nil
	}
	if a.sealed != nil {
		return wal.Lineage{}, a.sealed
	}
	return wal.Lineage{}, fault.New(fault.NotFound, "keeper.no_history", fault.Args{"timeline": t, "place": a.r.String()})
}

// Stretch is WAL without a gap on a lineage.
type Stretch struct {
	First, Last uint64 // numbers of segments
	l           wal.Lineage
	a           *Archive
}

// stretches are what there is of a lineage from a segment on, in order. Segments that were streamed count only where they go on from what is there: those
// before them are on their way to the archive, and until then these are of no use, unless a backup begins with them. One that is known in part ends its stretch.
func (a *Archive) stretches(l wal.Lineage, from uint64) []Stretch {
	size := a.SegmentSize
	const part, whole, archived = 1, 2, 3
	have := map[uint64]int{}
	for name, source := range a.segments {
		number, err := name.Number(size)
		if err != nil || number < from || !slices.Contains(l.Holders(number, size), name.Timeline) {
			continue
		}
		switch {
		case source.pieces == nil:
			have[number] = archived
		case chainEnd(source.pieces) == uint32(size):
			have[number] = max(have[number], whole)
		default:
			have[number] = max(have[number], part)
		}
	}
	numbers := make([]uint64, 0, len(have))
	for n := range have {
		numbers = append(numbers, n)
	}
	slices.Sort(numbers)
	var all []Stretch
	for _, n := range numbers {
		if k := len(all) - 1; k >= 0 && all[k].Last+1 == n && have[all[k].Last] != part {
			all[k].Last = n
			continue
		}
		all = append(all, Stretch{First: n, Last: n, l: l, a: a})
	}
	all = slices.DeleteFunc(all, func(s Stretch) bool {
		if s.First == from {
			return false
		}
		for n := s.First; n <= s.Last; n++ {
			if have[n] == archived {
				return false
			}
		}
		return !slices.ContainsFunc(a.Backups, func(b *Backup) bool {
			return b.Good() && s.holds(size.Number(b.Start)) && l.Includes(b.EndTimeline, b.Stop)
		})
	})
	for k := len(all) - 2; k >= 0; k-- { // what something comes after is a part of the hole before that
		if have[all[k].Last] == part {
			if all[k].First == all[k].Last {
				all = slices.Delete(all, k, k+1)
			} else {
				all[k].Last--
			}
		}
	}
	return all
}

func (s Stretch) holds(number uint64) bool { return s.First <= number && number <= s.Last }

// moment is the time that a record tells, zero for one that tells none.
func moment(rec *wal.Record) time.Time {
	if outcome, at := rec.Ends(); outcome != 0 {
		return at
	}
	if c, ok := rec.Checkpoint(); ok {
		return c.Time
	}
	if p, ok := rec.RestorePoint(); ok {
		return p.Time
	}
	if e, ok := rec.EndOfRecovery(); ok {
		return e.Time
	}
	return time.Time{}
}

// firstMoment is the first time that is told in a segment or after it; false where none is, up to the end of the stretch.
func (s Stretch) firstMoment(ctx context.Context, number uint64) (time.Time, bool, error) {
	in := s.a.reader(ctx, s.l, s.a.SegmentSize.Start(number))
	defer in.Close()
	for {
		rec, err := in.Next()
		if err != nil {
			return time.Time{}, false, notEnd(err)
		}
		if at := moment(rec); !at.IsZero() {
			return at, true, nil
		}
	}
}

// begin is a moment before which nothing is known of what a stretch shows: what it holds first may have been written then, or shortly before. Checkpoints
// tell their time in whole seconds, cut off.
func (s Stretch) begin(ctx context.Context) (time.Time, bool, error) {
	at, ok, err := s.firstMoment(ctx, s.First)
	if at.Nanosecond() == 0 {
		at = at.Add(time.Second)
	}
	return at, ok, err
}

// notEnd is nil for the end of the WAL, whatever it is.
func notEnd(err error) error {
	var end *wal.End
	if errors.As(err, &end) {
		return nil
	}
	return err
}

// before is the number of a segment of the stretch from which on a time is looked for: no record with a time after `at` comes before it, but for those that
// were written at nearly the same time.
func (s Stretch) before(ctx context.Context, at time.Time) (uint64, error) {
	low, high := s.First, s.Last+1 // the first segment whose first moment is after `at` lies in (low, high]
	for low+1 < high {
		middle := low + (high-low)/2
		first, ok, err := s.firstMoment(ctx, middle)
		if err != nil {
			return 0, err
		}
		if ok && !first.After(at) {
			low = middle
		} else {
			high = middle
		}
	}
	// Transactions get their times shortly before their places in the WAL: some begin with the one before.
	return max(s.First, low-min(low, 1)), nil
}

// lastTransaction looks for the last transaction that committed before a position of the stretch: the nearest segment that has one.
func (s Stretch) lastTransaction(ctx context.Context, before wal.LSN) (xid uint32, at time.Time, lsn wal.LSN, err error) {
	size := s.a.SegmentSize
	number := min(size.Number(before), s.Last)
	for step := uint64(1); ; step *= 2 {
		from := max(s.First, number-min(number, step))
		in := s.a.reader(ctx, s.l, size.Start(from))
		var tx wal.Transaction
		for {
			rec, readErr := in.Next()
			if readErr != nil {
				if err = notEnd(readErr); err != nil {
					return 0, at, 0, err
				}
				break
			}
			if rec.LSN >= before {
				break
			}
			if outcome, _ := rec.Ends(); outcome == wal.Committed {
				if _, err = rec.Transaction(&tx); err != nil {
					return 0, at, 0, err
				}
				xid, at, lsn = tx.XID, tx.Time, rec.LSN
			}
		}
		in.Close()
		if lsn != 0 || from == s.First {
			return xid, at, lsn, nil
		}
	}
}

// tail is the end of a stretch: its last record, and the newest time that is told in it.
func (s Stretch) tail(ctx context.Context) (last, end wal.LSN, newest time.Time, stop *wal.End, err error) {
	size := s.a.SegmentSize
	for step := uint64(0); ; step = 2*step + 1 {
		from := max(s.First, s.Last-min(s.Last, step))
		in := s.a.reader(ctx, s.l, size.Start(from))
		for {
			rec, readErr := in.Next()
			if readErr != nil {
				if !errors.As(readErr, &stop) {
					return 0, 0, newest, nil, readErr
				}
				break
			}
			last, end = rec.LSN, rec.End
			if at := moment(rec); at.After(newest) {
				newest = at
			}
		}
		in.Close()
		if last != 0 && !newest.IsZero() || from == s.First {
			return last, end, newest, stop, nil
		}
	}
}

// sortBackups orders by where recovery from them can end first.
func sortBackups(all []*Backup) {
	slices.SortStableFunc(all, func(a, b *Backup) int { return cmp.Or(cmp.Compare(a.Stop, b.Stop), strings.Compare(a.ID, b.ID)) })
}
