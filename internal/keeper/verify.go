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
	"path"
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
	Contents bool                    // all is unpacked as well, and compared with the hashes of what was packed
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
	// Contents: all was unpacked. Otherwise the bytes were compared, as they lie there, with what was written.
	Contents bool `json:"contents,omitempty"`
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
// backup on. What lies there as it was written unpacks as it did then: so the stored bytes are compared, at the speed of one core's hash, where there is a sum of them;
// a drill shows that it unpacks at all. What is wrong is in the findings; the error is for a verification that could not be carried out. The report is kept in CLUSTER/report.
func Verify(ctx context.Context, r *repo.Repo, clusterName string, options VerifyOptions) (*Verification, error) {
	v := &verification{r: r, cluster: clusterName, options: options, broken: map[string]error{}, out: &Verification{Format: 1, Kind: verifyReport, Cluster: clusterName,
		ID: options.ID, Began: time.Now().UTC().Truncate(time.Second), Backups: []string{}, Reachable: []Span{}, Findings: []Finding{}}}
	release, err := keepAll(ctx, r, clusterName)
	if err != nil {
		return nil, err
	}
	defer release()
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
	v.out.Objects, v.out.Bytes, v.out.StoredOnly, v.out.Contents = len(v.tasks), v.done.Load(), v.sealed, v.options.Contents
	v.out.Ended = time.Now().UTC().Truncate(time.Second)
	v.out.Report, err = putReport(ctx, v.r, v.cluster, verifyReport, v.out.Ended, v.out)
	return v.out, err
}

// putReport keeps a report under the first name that is free.
func putReport(ctx context.Context, r *repo.Repo, clusterName, kind string, at time.Time, value any) (string, error) {
	for {
		name := reportFolder(clusterName) + kind + "-" + at.UTC().Format(repo.TimeForm) + ".json"
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
		err := v.load(ctx, object, m)
		if errors.Is(err, fs.ErrNotExist) && v.older(name) {
			return nil // a prune that had begun before us is at it
		}
		if err != nil {
			return err
		}
		plain, head, err := v.check(m, name.Kind == wal.History || name.Kind == wal.Backup)
		if head.Stored != 0 && head.Stored != int64(len(m.stored)) {
			return v.damaged(object, fmt.Errorf("%d bytes, not %d", len(m.stored), head.Stored))
		}
		if err != nil {
			return err
		}
		switch name.Kind {
		case wal.Segment, wal.Partial:
			err = v.a.Identity.Check(name, head.Size, plain[:min(len(plain), wal.HeadSize)], func(t wal.Timeline) (wal.Lineage, error) { return v.a.Lineage(t) })
		case wal.Backup:
			err = v.a.Identity.CheckBackup(name, plain)
		case wal.History:
			_, err = wal.ParseHistory(name.Timeline, plain)
		}
		return err
	}
}

// older tells whether a file of WAL lies before all that any backup needs.
func (v *verification) older(name wal.Name) bool {
	number, err := name.Number(v.a.SegmentSize)
	return err == nil && !slices.ContainsFunc(v.whole, func(b *Backup) bool { return v.a.SegmentSize.Number(b.Start) <= number })
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
		_, head, err := v.check(m, false)
		if head.Stored != 0 && (head.Stored != int64(len(m.stored)) || head.Size != p.size()) {
			return v.damaged(p.stored.Name, fmt.Errorf("%d bytes that hold %d, not %d that hold %d", len(m.stored), head.Size, head.Stored, p.size()))
		}
		return err
	}
}

// check compares a sealed object that was loaded with the sums of its head, and gives its content: all of it, or what tells a segment from another.
func (v *verification) check(m *verifyMemory, all bool) (plain []byte, head repo.Head, err error) {
	if !all && !v.options.Contents {
		return repo.CheckSealed(m.stored, make([]byte, wal.HeadSize), v.r.Keys())
	}
	if plain, head, err = repo.Unseal(m.plain[:0], m.stored, v.r.Keys()); err == nil {
		m.plain = plain
	}
	return plain, head, err
}

// json verifies a manifest. A run that ends takes what says that it is under way along; and so does a prune that had begun before us, or one that takes old reports.
func (v *verification) json(object string) func(context.Context, *verifyMemory) error {
	return func(ctx context.Context, m *verifyMemory) error {
		err := v.load(ctx, object, m)
		if folder, file := path.Split(object); errors.Is(err, fs.ErrNotExist) {
			_, _, report := parseReport(v.cluster, object)
			if _, pruned := v.r.Stat(ctx, folder+prunedName); file == runName || file == prunedName || report || pruned == nil {
				return nil
			}
		}
		if err != nil {
			return err
		}
		if !repo.CheckJSON(m.stored) {
			return v.damaged(object, errors.New("its sum is missing or another"))
		}
		return nil
	}
}

// plain verifies an object by the hash of its stored bytes. It reads on while it hashes: a disk or a network then costs no time of the core that hashes.
func (v *verification) plain(object string, part BaseObject) func(context.Context, *verifyMemory) error {
	return func(ctx context.Context, _ *verifyMemory) error {
		src, err := v.r.Open(ctx, object, 0, -1)
		if err != nil {
			return err
		}
		defer src.Close()
		const ahead = 3
		empty, full := make(chan []byte, ahead), make(chan []byte, ahead)
		for range ahead {
			empty <- make([]byte, 256<<10)
		}
		var read error
		go func() {
			defer close(full)
			for read == nil {
				block, n, got := <-empty, 0, 0
				for n < len(block) && read == nil {
					got, read = src.Read(block[n:])
					n += got
				}
				full <- block[:n]
			}
		}()
		sum := sha256.New()
		for block := range full {
			sum.Write(block)
			v.progress(int64(len(block)))
			empty <- block[:cap(block)]
		}
		if !errors.Is(read, io.EOF) {
			return read
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

// tarball verifies a tarball by the hash of its stored bytes, for which nobody needs an identity; with Contents also of each frame what it holds, in the same reading.
func (v *verification) tarball(b *Backup, i int) func(context.Context, *verifyMemory) error {
	part := b.Tarballs[i].BaseObject
	object := b.folder() + part.Object
	if !v.options.Contents {
		return v.plain(object, part)
	}
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
		if err != nil || b.Encrypted { // age has authenticated it
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
		err = errors.Join(src.drain(), src.Close())
		v.progress(p.Stored)
		return err
	}
}
