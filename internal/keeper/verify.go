package keeper

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"howdah/internal/fault"
	"howdah/internal/repo"
	"howdah/internal/wal"
)

// VerifyOptions say what is verified; the zero value is all that a repo holds of a cluster.
type VerifyOptions struct {
	ID       string                  // of a base backup (with the WAL that it needs and the backups that it is an increment to) or of a logical one; "": all
	Workers  int                     // objects at once; 0: 2
	Progress func(done, total int64) // bytes as stored; called by several goroutines; may be nil
}

// Problem is what is wrong with something in a repo.
type Problem string

// The problems.
const (
	ProblemDamaged Problem = "damaged" // an object is not what was put there
	ProblemMissing Problem = "missing" // it is not there
	ProblemPages   Problem = "pages"   // the server's own pages were damaged when the backup was taken
)

// Finding is something that is wrong, and what it costs.
type Finding struct {
	Problem Problem `json:"problem"`
	Object  string  `json:"object,omitempty"` // its name in the repo
	Backup  string  `json:"backup,omitempty"` // that it is a part of
	// The segments that it is about, where it is WAL.
	First string `json:"first_segment,omitempty"`
	Last  string `json:"last_segment,omitempty"`
	Count uint64 `json:"count,omitempty"`
	// Costs are the moments that cannot be restored because of it; nil when it costs none.
	Costs  *Span  `json:"costs,omitempty"`
	Detail string `json:"detail,omitempty"` // for the log
}

// Span are moments: from the one to the other. A zero To is "to the newest".
type Span struct {
	Timeline wal.Timeline `json:"timeline,omitzero"`
	From     time.Time    `json:"from,omitzero"`
	To       time.Time    `json:"to,omitzero"`
}

// Verification is what came of one, and the form of its report in the repo.
type Verification struct {
	Format   int       `json:"format"` // 1
	Kind     string    `json:"kind"`   // "verify"
	Cluster  string    `json:"cluster"`
	ID       string    `json:"id,omitempty"` // the backup that was asked for; "": all
	Began    time.Time `json:"began"`
	Ended    time.Time `json:"ended"`
	Backups  []string  `json:"backups"`  // that were verified, good or not
	Segments int       `json:"segments"` // of WAL
	Objects  int       `json:"objects"`
	Bytes    int64     `json:"bytes"`             // as stored
	Foreign  int       `json:"foreign,omitempty"` // objects in the cluster's folder that are not ours
	// StoredOnly: much is encrypted and there was no identity: lengths, names and what manifests say of the stored bytes, not the contents.
	StoredOnly bool      `json:"stored_only,omitempty"`
	Reachable  []Span    `json:"reachable"` // moments that can be restored by what is sound
	Findings   []Finding `json:"findings"`
	Report     string    `json:"-"` // where it lies in the repo
}

// Sound tells whether nothing was found.
func (v *Verification) Sound() bool { return len(v.Findings) == 0 }

// verification is one under way.
type verification struct {
	r       *repo.Repo
	cluster string
	options VerifyOptions
	out     *Verification

	a     *Archive
	whole []*Backup // as a.Backups was
	dumps []Dump
	tasks []verifyTask
	// streamed are the pieces that are verified.
	streamed []piece
	done     atomic.Int64
	total    int64

	mu     sync.Mutex
	broken map[string]error // by objects
	sealed bool             // something could not be decrypted
}

// verifyTask is an object to be verified.
type verifyTask struct {
	object string
	size   int64
	backup string // that it belongs to
	check  func(ctx context.Context, m *verifyMemory) error
}

// verifyMemory is what a worker keeps from one object to the next.
type verifyMemory struct{ stored, plain []byte }

// Verify reads everything that a repo holds of a cluster (or of one backup), compares every byte with the hashes, and looks for holes in the WAL from each base
// backup on. What is wrong is in the findings; the error is for a verification that could not be carried out. The report is kept in CLUSTER/report.
func Verify(ctx context.Context, r *repo.Repo, clusterName string, options VerifyOptions) (*Verification, error) {
	v := &verification{r: r, cluster: clusterName, options: options, broken: map[string]error{}, out: &Verification{Format: 1, Kind: "verify", Cluster: clusterName,
		ID: options.ID, Began: time.Now().UTC().Truncate(time.Second), Backups: []string{}, Reachable: []Span{}, Findings: []Finding{}}}
	var err error
	v.a, err = openArchive(ctx, r, clusterName, v.spoiled(ctx))
	if name := clusterFile(clusterName); fault.HasKey(err, "repo.damaged") && fault.Of(err).Args["name"] == name { // and no backup says what it should
		v.out.Findings = append(v.out.Findings, Finding{Problem: ProblemDamaged, Object: name, Detail: err.Error()})
		return v.end(ctx)
	}
	if err != nil {
		return nil, err
	}
	v.whole = v.a.Backups
	v.sealed = v.sealed || v.a.sealed != nil
	if err := v.list(ctx); err != nil {
		return nil, err
	}
	for _, b := range v.whole { // without its parent an increment is nothing
		parent := baseFolder(clusterName) + "/" + b.Parent + "/" + backupName
		if b.Parent != "" && v.broken[parent] == nil && v.wanted()(b.ID) && !slices.ContainsFunc(v.whole, func(p *Backup) bool { return p.ID == b.Parent }) {
			v.broken[parent] = fs.ErrNotExist
		}
	}
	if options.ID != "" && len(v.out.Backups) == 0 && len(v.broken) == 0 {
		return nil, fault.New(fault.NotFound, "keeper.no_backup", fault.Args{"id": options.ID, "cluster": clusterName, "place": r.String()})
	}
	if err := v.read(ctx); err != nil {
		return nil, err
	}
	if err := v.judge(ctx); err != nil {
		return nil, err
	}
	return v.end(ctx)
}

// end keeps the report.
func (v *verification) end(ctx context.Context) (_ *Verification, err error) {
	v.out.Objects, v.out.Bytes, v.out.StoredOnly = len(v.tasks), v.done.Load(), v.sealed
	v.out.Ended = time.Now().UTC().Truncate(time.Second)
	v.out.Report, err = putReport(ctx, v.r, v.cluster, "verify", v.out.Ended, v.out)
	return v.out, err
}

// putReport keeps a report under the first name that is free.
func putReport(ctx context.Context, r *repo.Repo, clusterName, kind string, at time.Time, value any) (string, error) {
	for {
		name := clusterName + "/report/" + kind + "-" + at.UTC().Format(repo.TimeForm) + ".json"
		if _, err := r.Stat(ctx, name); errors.Is(err, fs.ErrNotExist) {
			if err = r.PutJSON(ctx, name, value); !fault.HasKey(err, "repo.conflict") {
				return name, err
			}
		} else if err != nil {
			return "", err
		}
		at = at.Add(time.Second)
	}
}

// spoiled notes what is broken, and lets the rest go on. A repo that is away is not broken.
func (v *verification) spoiled(ctx context.Context) func(string, error) error {
	return func(object string, err error) error {
		switch {
		case err == nil, object == "": // the broken ones of that list are looked at later
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		case fault.HasKey(err, "repo.no_identity"):
			v.mu.Lock()
			v.sealed = true
			v.mu.Unlock()
			return nil
		case fault.HasKey(err, "repo.absent"):
			return err
		case !fault.Is(err, fault.Conflict) && !errors.Is(err, fs.ErrNotExist):
			if _, away := v.r.Stat(ctx, clusterFile(v.cluster)); away != nil && !errors.Is(away, fs.ErrNotExist) {
				return err
			}
		}
		v.mu.Lock()
		defer v.mu.Unlock()
		if v.broken[object] == nil {
			v.broken[object] = err
		}
		return nil
	}
}

// list finds out what there is to read, and what should be there.
func (v *verification) list(ctx context.Context) error {
	have := map[string]int64{}
	for info, err := range v.r.List(ctx, v.cluster+"/") {
		if err != nil {
			return err
		}
		have[info.Name] = info.Size
	}
	manifests := map[string]bool{} // folders of whole backups
	add := func(object, backup string, want int64, check func(context.Context, *verifyMemory) error) {
		size, there := have[object]
		switch {
		case !there:
			v.broken[object] = fault.Wrap(fs.ErrNotExist, fault.NotFound, "repo.missing", fault.Args{"place": v.r.String(), "name": object})
		case want >= 0 && size != want:
			v.broken[object] = v.damaged(object, fmt.Errorf("%d bytes, not %d", size, want))
		default:
			v.tasks = append(v.tasks, verifyTask{object, size, backup, check})
			v.total += size
		}
		delete(have, object)
	}
	if name := clusterFile(v.cluster); v.a.unnamed != nil && have[name] == 0 {
		v.broken[name] = v.a.unnamed
	}
	wanted := v.wanted()
	for _, b := range v.whole {
		manifests[b.folder()] = true
		if !wanted(b.ID) {
			continue
		}
		v.out.Backups = append(v.out.Backups, b.ID)
		for i, t := range b.Tarballs {
			add(b.folder()+t.Object, b.ID, t.Stored, v.tarball(b, i))
		}
		for _, part := range []BaseObject{b.Index, b.Manifest} {
			add(b.folder()+part.Object, b.ID, part.Stored, v.plain(b.folder()+part.Object, part))
		}
	}
	ids, err := v.r.Folders(ctx, dumpFolder(v.cluster))
	if err != nil {
		return err
	}
	for _, id := range ids {
		folder := dumpFolder(v.cluster) + "/" + id + "/"
		d, err := ReadDump(ctx, v.r, v.cluster, id)
		if err != nil {
			if !fault.HasKey(err, "keeper.no_dump") {
				if err := v.spoiled(ctx)(folder+dumpManifest, err); err != nil {
					return err
				}
			}
			continue
		}
		manifests[folder] = true
		if !wanted(id) {
			continue
		}
		v.dumps = append(v.dumps, d)
		v.out.Backups = append(v.out.Backups, id)
		for _, p := range d.Parts {
			add(folder+p.Object, id, p.Stored, v.part(d, p))
		}
	}
	needed := v.neededSegments()
	names := make([]string, 0, len(have))
	for name := range have {
		names = append(names, name)
	}
	slices.Sort(names) // as they lie: the order in which they were written, more or less
	for _, object := range names {
		rest := strings.TrimPrefix(object, v.cluster+"/")
		kind, _, _ := strings.Cut(rest, "/")
		folder := object[:strings.LastIndexByte(object, '/')+1]
		file := object[len(folder):]
		switch {
		case kind == "wal":
			base := strings.TrimSuffix(strings.TrimSuffix(file, ".age"), ".zst")
			name, err := wal.ParseName(base)
			where, nameErr := repo.WALName(v.cluster, base)
			if err != nil || nameErr != nil || object != where+".zst" && object != where+".zst.age" {
				v.out.Foreign++
				continue
			}
			if needed != nil && !needed[name] {
				continue
			}
			if name.Kind == wal.Segment {
				v.out.Segments++
			}
			add(object, "", -1, v.segment(object, name))
		case kind == "stream":
			p, ok := parsePiece(v.cluster, repo.Info{Name: object})
			if !ok || p.end > uint32(v.a.SegmentSize) {
				v.out.Foreign++
				continue
			}
			if needed == nil || needed[p.segment] {
				v.streamed = append(v.streamed, p)
				add(object, "", -1, v.piece(p))
			}
		case kind == "hold": // of a restore under way
		case strings.HasSuffix(file, ".json") && (rest == "cluster.json" || kind == "report" || (kind == "base" || kind == "dump") && (file == runName || file == prunedName || file == backupName || file == dumpManifest)):
			id := strings.TrimSuffix(strings.TrimPrefix(folder, v.cluster+"/"+kind+"/"), "/")
			if v.options.ID != "" && !wanted(id) {
				continue
			}
			if kind == "report" || rest == "cluster.json" {
				id = ""
			}
			add(object, id, -1, v.json(object))
		default:
			if kind != "base" && kind != "dump" || manifests[folder] {
				v.out.Foreign++ // the rest is of runs under way or killed
			}
		}
	}
	return nil
}

// wanted tells which backups are to be verified.
func (v *verification) wanted() func(id string) bool {
	if v.options.ID == "" {
		return func(string) bool { return true }
	}
	ids := []string{v.options.ID}
	for _, b := range v.whole {
		if b.ID == v.options.ID {
			chain, _ := v.a.chain(b)
			for _, one := range chain {
				ids = append(ids, one.ID)
			}
		}
	}
	return func(id string) bool { return slices.Contains(ids, id) }
}

// neededSegments are those that the backup that was asked for needs to be consistent; nil when all are verified.
func (v *verification) neededSegments() map[wal.Name]bool {
	if v.options.ID == "" {
		return nil
	}
	needed := map[wal.Name]bool{}
	for _, b := range v.whole {
		if b.ID != v.options.ID {
			continue
		}
		for n := v.a.SegmentSize.Number(b.Start); n <= v.a.SegmentSize.Number(b.Stop-1); n++ {
			needed[v.a.SegmentSize.Name(b.Timeline, n)], needed[v.a.SegmentSize.Name(b.EndTimeline, n)] = true, true
		}
	}
	return needed
}

func (v *verification) damaged(object string, err error) error {
	return fault.Wrap(err, fault.Conflict, "repo.damaged", fault.Args{"place": v.r.String(), "name": object})
}

func (v *verification) progress(n int64) {
	done := v.done.Add(n)
	if v.options.Progress != nil {
		v.options.Progress(done, v.total)
	}
}

// read verifies all objects, some at once.
func (v *verification) read(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	queue := make(chan verifyTask)
	var all sync.WaitGroup
	for range max(1, cmp.Or(v.options.Workers, 2)) {
		all.Go(func() {
			m := &verifyMemory{}
			for task := range queue {
				err := task.check(ctx, m)
				if err == nil {
					continue
				}
				if err := v.spoiled(ctx)(task.object, err); err != nil {
					cancel(err)
				}
			}
		})
	}
	// The large ones first, so that none of them is left alone at the end.
	slices.SortStableFunc(v.tasks, func(a, b verifyTask) int { return cmp.Compare(b.size>>26, a.size>>26) })
	for _, task := range v.tasks {
		select {
		case queue <- task:
			continue
		case <-ctx.Done():
		}
		break
	}
	close(queue)
	all.Wait()
	return context.Cause(ctx)
}

// load reads a whole object.
func (v *verification) load(ctx context.Context, object string, m *verifyMemory) error {
	src, err := v.r.Open(ctx, object, 0, -1)
	if err != nil {
		return err
	}
	defer src.Close()
	m.stored = m.stored[:0]
	for {
		m.stored = slices.Grow(m.stored, 1<<20)
		n, err := src.Read(m.stored[len(m.stored):cap(m.stored)])
		m.stored = m.stored[:len(m.stored)+n]
		v.progress(int64(n))
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// segment verifies a file of WAL.
func (v *verification) segment(object string, name wal.Name) func(context.Context, *verifyMemory) error {
	return func(ctx context.Context, m *verifyMemory) error {
		if err := v.load(ctx, object, m); err != nil {
			return err
		}
		plain, head, err := repo.Unseal(m.plain[:0], m.stored, v.r.Keys())
		if head.Stored != 0 && head.Stored != int64(len(m.stored)) {
			return v.damaged(object, fmt.Errorf("%d bytes, not %d", len(m.stored), head.Stored))
		}
		if err != nil {
			return err
		}
		m.plain = plain
		switch name.Kind {
		case wal.Segment, wal.Partial:
			err = v.a.Identity.Check(name, int64(len(plain)), plain[:min(len(plain), wal.HeadSize)], func(t wal.Timeline) (wal.Lineage, error) { return v.a.Lineage(t) })
		case wal.Backup:
			err = v.a.Identity.CheckBackup(name, plain)
		case wal.History:
			_, err = wal.ParseHistory(name.Timeline, plain)
		}
		return err
	}
}

// piece verifies a part of a segment that is not archived yet.
func (v *verification) piece(p piece) func(context.Context, *verifyMemory) error {
	return func(ctx context.Context, m *verifyMemory) error {
		err := v.load(ctx, p.stored.Name, m)
		if errors.Is(err, fs.ErrNotExist) { // it was gathered, or its segment archived, since we listed it
			return nil
		}
		if err != nil {
			return err
		}
		plain, head, err := repo.Unseal(m.plain[:0], m.stored, v.r.Keys())
		if head.Stored != 0 && (head.Stored != int64(len(m.stored)) || head.Size != p.size()) {
			return v.damaged(p.stored.Name, fmt.Errorf("%d bytes that hold %d, not %d that hold %d", len(m.stored), head.Size, head.Stored, p.size()))
		}
		if err != nil {
			return err
		}
		m.plain = plain
		return nil
	}
}

// json verifies a manifest.
func (v *verification) json(object string) func(context.Context, *verifyMemory) error {
	return func(ctx context.Context, m *verifyMemory) error {
		if err := v.load(ctx, object, m); err != nil {
			return err
		}
		if !repo.CheckJSON(m.stored) {
			return v.damaged(object, errors.New("its sum is missing or another"))
		}
		return nil
	}
}

// plain verifies an object by the hash of its stored bytes.
func (v *verification) plain(object string, part BaseObject) func(context.Context, *verifyMemory) error {
	return func(ctx context.Context, _ *verifyMemory) error {
		src, err := v.r.Open(ctx, object, 0, -1)
		if err != nil {
			return err
		}
		defer src.Close()
		sum := sha256.New()
		if _, err := io.Copy(io.MultiWriter(sum, writerFunc(func(p []byte) { v.progress(int64(len(p))) })), src); err != nil {
			return err
		}
		return v.compare(object, sum, part)
	}
}

func (v *verification) compare(object string, sum hash.Hash, part BaseObject) error {
	if repo.Sum(sum.Sum(nil)) != part.SHA256 {
		return v.damaged(object, errors.New("its hash is another"))
	}
	return nil
}

// writerFunc is told what is written.
type writerFunc func([]byte)

// Write implements io.Writer.
func (f writerFunc) Write(p []byte) (int, error) {
	f(p)
	return len(p), nil
}

// tarball verifies a tarball in one reading: the hash of the stored bytes, and of each frame what it holds. Encrypted ones are authenticated by age; without an
// identity only the hash of the stored bytes is left.
func (v *verification) tarball(b *Backup, i int) func(context.Context, *verifyMemory) error {
	part := b.Tarballs[i].BaseObject
	object := b.folder() + part.Object
	return func(ctx context.Context, m *verifyMemory) error {
		index, err := b.ReadIndex(ctx, v.r)
		if err != nil {
			return v.plain(object, part)(ctx, m) // the index has a finding of its own
		}
		packed, err := v.r.Packed(ctx, object)
		if fault.HasKey(err, "repo.no_identity") {
			if err := v.spoiled(ctx)(object, err); err != nil {
				return err
			}
			return v.plain(object, part)(ctx, m)
		}
		if err != nil {
			return err
		}
		t := index.Tarballs[i]
		if packed.Size() != t.Length {
			return v.damaged(object, fmt.Errorf("%d bytes of frames, not %d", packed.Size(), t.Length))
		}
		sum := sha256.New()
		err = t.Verify(ctx, func(ctx context.Context, offset, length int64) ([]byte, error) {
			raw, err := packed.Range(ctx, offset, length)
			if err == nil {
				sum.Write(raw) // one worker: in order
				v.progress(length)
			}
			return raw, err
		}, 1, nil)
		if err != nil || b.Encrypted {
			return err
		}
		return v.compare(object, sum, part)
	}
}

// part verifies a part of a logical backup.
func (v *verification) part(d Dump, p Part) func(context.Context, *verifyMemory) error {
	return func(ctx context.Context, _ *verifyMemory) error {
		src, err := openPart(ctx, v.r, v.cluster, d, p)
		if err != nil {
			return err
		}
		err = errors.Join(src.drain(nil), src.Close())
		v.progress(p.Stored)
		return err
	}
}

// judge says what is missing, and what everything that is wrong costs.
func (v *verification) judge(ctx context.Context) error {
	a := v.a
	// What was never there.
	type gap struct {
		t           wal.Timeline
		first, last uint64
	}
	var gaps []gap
	seen := map[string]bool{}
	for _, t := range slices.Backward(a.Timelines()) {
		l, err := v.lineage(t)
		if err != nil {
			v.out.Findings = append(v.out.Findings, Finding{Problem: ProblemMissing, Object: fmt.Sprintf("%s/wal/%08X.history", v.cluster, uint32(t)), Detail: err.Error()})
			continue
		}
		for _, g := range v.gaps(l) {
			first, last := v.segmentName(l, g[0]), v.segmentName(l, g[1])
			if !seen[first+last] {
				seen[first+last] = true
				gaps = append(gaps, gap{t, g[0], g[1]})
			}
		}
	}
	// From here on only what is sound counts.
	bad := map[string]bool{}
	for object := range v.broken {
		if kind, rest, ok := strings.Cut(strings.TrimPrefix(object, v.cluster+"/"), "/"); ok && kind == "base" {
			id, file, _ := strings.Cut(rest, "/")
			bad[id] = bad[id] || file != runName
		} else if name, ok := v.walOf(object); ok && name.Kind == wal.Segment {
			delete(a.segments, name)
		} else if p, ok := parsePiece(v.cluster, repo.Info{Name: object}); ok {
			v.shorten(p.segment)
		}
	}
	a.recent = nil
	a.Backups = nil
	for _, b := range v.whole { // a parent comes before its increments
		if bad[b.ID] || b.Parent != "" && (bad[b.Parent] || !slices.ContainsFunc(v.whole, func(p *Backup) bool { return p.ID == b.Parent })) {
			bad[b.ID] = true
			continue
		}
		a.Backups = append(a.Backups, b)
	}
	for name, source := range a.segments {
		if source.backup != nil && bad[source.backup.ID] {
			delete(a.segments, name)
		}
	}
	for _, t := range a.Timelines() {
		if l, err := v.lineage(t); err == nil {
			some, err := v.reachable(ctx, l)
			if err != nil {
				return err
			}
			v.out.Reachable = append(v.out.Reachable, some...)
		}
	}
	for _, g := range gaps {
		l, err := v.lineage(g.t)
		if err != nil {
			continue
		}
		f := Finding{Problem: ProblemMissing, First: v.segmentName(l, g.first), Last: v.segmentName(l, g.last), Count: g.last - g.first + 1}
		if f.Costs, err = v.costs(ctx, l, g.first); err != nil {
			return err
		}
		v.out.Findings = append(v.out.Findings, f)
	}
	objects := make([]string, 0, len(v.broken))
	for object := range v.broken {
		objects = append(objects, object)
	}
	slices.Sort(objects)
	for _, object := range objects {
		f, err := v.finding(ctx, object, v.broken[object])
		if err != nil {
			return err
		}
		v.out.Findings = append(v.out.Findings, f)
	}
	for _, b := range v.whole {
		if !b.Good() && slices.Contains(v.out.Backups, b.ID) {
			v.out.Findings = append(v.out.Findings, Finding{Problem: ProblemPages, Backup: b.ID, Detail: b.damagedFiles()})
		}
	}
	return nil
}

// shorten leaves of a segment that is not archived what is sound.
func (v *verification) shorten(name wal.Name) {
	if source, ok := v.a.segments[name]; !ok || source.pieces == nil {
		return
	}
	sound := slices.DeleteFunc(slices.Clone(v.streamed), func(p piece) bool { return p.segment != name || v.broken[p.stored.Name] != nil })
	if c := chain(sound, v.a.SegmentSize); c != nil {
		v.a.segments[name] = segmentSource{pieces: c}
	} else {
		delete(v.a.segments, name)
	}
}

// lineage is that of a timeline; without an identity, where histories cannot be read, the timeline alone.
func (v *verification) lineage(t wal.Timeline) (wal.Lineage, error) {
	l, err := v.a.Lineage(t)
	if err != nil && v.sealed {
		return wal.Lineage{Timeline: t}, nil
	}
	return l, err
}

func (v *verification) walOf(object string) (wal.Name, bool) {
	file := object[strings.LastIndexByte(object, '/')+1:]
	name, err := wal.ParseName(strings.TrimSuffix(strings.TrimSuffix(file, ".age"), ".zst"))
	return name, err == nil && strings.HasPrefix(object, v.cluster+"/wal/")
}

func (v *verification) numberOf(name wal.Name) uint64 {
	n, err := name.Number(v.a.SegmentSize)
	if err != nil {
		return 0
	}
	return n
}

func (v *verification) segmentName(l wal.Lineage, number uint64) string {
	at := v.a.SegmentSize.Start(number)
	return v.a.SegmentSize.Holding(l.At(at), at).String()
}

// leading are the backups, sound or not, that lead to a timeline and are verified.
func (v *verification) leading(l wal.Lineage) []*Backup {
	var all []*Backup
	for _, b := range v.whole {
		if b.System == v.a.System && l.Includes(b.EndTimeline, b.Stop) && (v.options.ID == "" || b.ID == v.options.ID) {
			all = append(all, b)
		}
	}
	return all
}

// gaps are the segments that are missing from the first backup on: numbers of the first and last of each.
func (v *verification) gaps(l wal.Lineage) (all [][2]uint64) {
	size := v.a.SegmentSize
	backups := v.leading(l)
	if len(backups) == 0 {
		return nil
	}
	from, need := size.Number(backups[0].Start), uint64(0)
	for _, b := range backups {
		from, need = min(from, size.Number(b.Start)), max(need, size.Number(b.Stop-1))
	}
	next, archived := from, true
	for _, s := range v.a.stretches(l, from) {
		if v.options.ID != "" && s.First > need {
			break
		}
		if s.First > next && archived {
			all = append(all, [2]uint64{next, s.First - 1})
		}
		next = s.Last + 1
		archived = false // WAL that a backup brought along ends with it: what comes then was never asked for
		for _, t := range l.Holders(s.Last, size) {
			source, ok := v.a.segments[size.Name(t, s.Last)]
			archived = archived || ok && source.backup == nil
		}
	}
	if next <= need && v.options.ID != "" || next <= need && archived {
		all = append(all, [2]uint64{next, need})
	}
	return all
}

// reachable are the moments of a timeline that can be restored by what is left in the archive.
func (v *verification) reachable(ctx context.Context, l wal.Lineage) (all []Span, err error) {
	size := v.a.SegmentSize
	usable := v.a.usable(l)
	if len(usable) == 0 {
		return nil, nil
	}
	from := size.Number(usable[0].Start)
	for _, b := range usable {
		from = min(from, size.Number(b.Start))
	}
	for _, s := range v.a.stretches(l, from) {
		var out Span
		for _, b := range usable {
			if !s.holds(size.Number(b.Start)) || !s.holds(size.Number(b.Stop-1)) {
				continue
			}
			if out.From.IsZero() {
				out = Span{l.Timeline, b.Ended, b.Ended}
			}
			out.To = b.Ended // what can be told without reading WAL
		}
		if out.From.IsZero() {
			continue
		}
		if !v.sealed {
			_, _, newest, _, err := s.tail(ctx)
			if err != nil {
				return nil, err
			}
			if newest.After(out.To) {
				out.To = newest
			}
		}
		all = append(all, out)
	}
	return all, nil
}

// costs are the moments that are lost because a segment is; nil when there are none.
func (v *verification) costs(ctx context.Context, l wal.Lineage, number uint64) (*Span, error) {
	size := v.a.SegmentSize
	backups := v.leading(l)
	var from time.Time
	needed := false
	for _, b := range backups {
		if size.Number(b.Start) > number {
			continue
		}
		needed = true
		if size.Number(b.Stop-1) < number && b.Ended.After(from) {
			from = b.Ended
		}
	}
	if !needed {
		return nil, nil
	}
	if from.IsZero() { // no backup was whole before it
		for _, b := range backups {
			if size.Number(b.Stop-1) >= number && (from.IsZero() || b.Ended.Before(from)) {
				from = b.Ended
			}
		}
	} else if !v.sealed {
		for _, s := range v.a.stretches(l, 0) {
			if s.Last >= number {
				break
			}
			_, _, newest, _, err := s.tail(ctx)
			if err != nil {
				return nil, err
			}
			if s.Last+1 == number && newest.After(from) {
				from = newest
			}
		}
	}
	return v.from(l, from), nil
}

// from is what cannot be reached from a moment on, until the next that can.
func (v *verification) from(l wal.Lineage, from time.Time) *Span {
	out := &Span{Timeline: l.Timeline, From: from}
	for _, r := range v.out.Reachable {
		if r.Timeline != l.Timeline {
			continue
		}
		if !r.From.After(from) && r.To.After(from) {
			return nil
		}
		if r.From.After(from) && (out.To.IsZero() || r.From.Before(out.To)) {
			out.To = r.From
		}
	}
	return out
}

// finding says what an object that is broken costs.
func (v *verification) finding(ctx context.Context, object string, why error) (Finding, error) {
	f := Finding{Problem: ProblemDamaged, Object: object, Detail: why.Error()}
	if errors.Is(why, fs.ErrNotExist) {
		f.Problem = ProblemMissing
	}
	if name, ok := v.walOf(object); ok {
		if name.Kind != wal.Segment {
			return f, nil
		}
		f.First, f.Last, f.Count = name.String(), name.String(), 1
		number, err := name.Number(v.a.SegmentSize)
		if err != nil {
			return f, nil
		}
		for _, t := range slices.Backward(v.a.Timelines()) { // the newest that needs it
			l, err := v.lineage(t)
			if err != nil || len(v.leading(l)) == 0 || !slices.Contains(l.Holders(number, v.a.SegmentSize), name.Timeline) {
				continue
			}
			f.Costs, err = v.costs(ctx, l, number)
			return f, err
		}
		return f, nil
	}
	if p, ok := parsePiece(v.cluster, repo.Info{Name: object}); ok { // what it costs goes to the newest
		f.First, f.Last, f.Count = p.segment.String(), p.segment.String(), 1
		if source, left := v.a.segments[p.segment]; left && source.pieces == nil {
			return f, nil // it is archived
		}
		for _, r := range v.out.Reachable {
			if l, err := v.lineage(r.Timeline); err == nil && slices.Contains(l.Holders(v.numberOf(p.segment), v.a.SegmentSize), p.segment.Timeline) {
				f.Costs = &Span{Timeline: r.Timeline, From: r.To}
			}
		}
		return f, nil
	}
	kind, rest, _ := strings.Cut(strings.TrimPrefix(object, v.cluster+"/"), "/")
	id, file, _ := strings.Cut(rest, "/")
	if kind != "base" && kind != "dump" || file == runName {
		return f, nil
	}
	f.Backup = id
	at, err := time.Parse(repo.TimeForm, id)
	if err != nil {
		return f, nil
	}
	if kind == "dump" {
		f.Costs = &Span{From: at, To: at}
		return f, nil
	}
	t := wal.Timeline(0)
	for _, b := range v.whole {
		if b.ID == id {
			at, t = b.Ended, b.EndTimeline
		}
	}
	if t == 0 { // its manifest is gone: nobody knows any more
		if t, err = v.a.NewestTimeline(); err != nil {
			f.Costs = &Span{From: at}
			return f, nil
		}
	}
	l, err := v.lineage(t)
	if err == nil {
		f.Costs = v.from(l, at)
	}
	return f, nil
}
