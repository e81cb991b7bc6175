package keeper

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"hash"
	"io"
	"io/fs"
	"strings"
	"sync/atomic"
	"time"

	"github.com/klauspost/compress/zstd"

	"howdah/internal/fault"
	"howdah/internal/repo"
	"howdah/internal/wal"
)

// BaseOptions say how a base backup is taken.
type BaseOptions struct {
	Cluster string // its name in the repo
	DSN     string // a way in for a role with REPLICATION, in the form of libpq
	Label   string // for people; "" is howdah and the backup's ID
	Lock    string // a file that keeps runs on this machine from overlapping; "": nothing does
	Rate    int64  // bytes per second that the server may send, from 32 KiB to 1 GiB; 0: as fast as it can
	Gentle  bool   // the checkpoint at the beginning takes its time (checkpoint_completion_target), for the disk's sake
	Standby bool   // a standby is as good as the primary; without this, one is refused
	WithWAL WALFrom
	Parent  string // the ID of the backup that this one is an increment to, from PostgreSQL 17 on; "": a full one
	// Patience is how long the archive may go on without a new segment while the backup waits for its WAL; 0: 10 minutes.
	Patience time.Duration
	Workers  int            // frames compressed at once; 0: one per processor
	Progress func(Progress) // told at most some times per second; may be nil
}

// WALFrom says where the WAL of a backup is to be found when it is restored.
type WALFrom string

// The ways.
const (
	WALAuto     WALFrom = ""         // the archive, when this repo has WAL of the cluster's timeline; otherwise the backup itself
	WALArchive  WALFrom = "archive"  // in the repo: the backup is whole when its WAL has come there
	WALIncluded WALFrom = "included" // in the backup
)

// Phase of a base backup.
type Phase string

// The phases, in their order.
const (
	PhaseCheckpoint Phase = "checkpoint" // the server writes a checkpoint
	PhaseFiles      Phase = "files"
	PhaseWAL        Phase = "wal" // the WAL of the backup is on its way to the archive
)

// Progress of a backup.
type Progress struct {
	ID     string `json:"id"`
	Phase  Phase  `json:"phase"`
	Bytes  int64  `json:"bytes"`  // of the cluster's files that have come
	Total  int64  `json:"total"`  // as the server estimated at the beginning; 0: it is not known
	Stored int64  `json:"stored"` // bytes that have gone into the repo
}

// The objects of a base backup, beside its tarballs and run.json.
const (
	backupName   = "backup.json"
	indexName    = "index.json.zst"
	manifestName = "backup_manifest.zst"
)

// TakeBase takes a base backup of a running cluster into a repo: over PostgreSQL's replication protocol, compressed, hashed and (when the repo's keys say so)
// encrypted on the way, with no copy in between. It returns when the backup can be restored: its files are in the repo, and the WAL that
// they need.
//
// PostgreSQL verifies the checksums of all pages that it reads. When some are wrong, the backup is kept and names the damaged files, and the fault is
// "keeper.pages_damaged" beside the backup; Good is false then. On any other error nothing of the backup stays; a run that is killed leaves
// what the next one removes.
func TakeBase(ctx context.Context, r *repo.Repo, options BaseOptions) (*Backup, error) {
	unlock, err := LockRun(options.Lock, options.Cluster)
	if err != nil {
		return nil, err
	}
	defer unlock()
	server, err := connect(ctx, options.DSN, "howdah backup")
	if err != nil {
		return nil, err
	}
	defer server.close(ctx)
	if server.standby && !options.Standby {
		return nil, fault.New(fault.Conflict, "keeper.standby", fault.Args{"cluster": options.Cluster})
	}
	err = r.Bind(ctx, repo.Cluster{Name: options.Cluster, System: server.System, Major: server.Major, SegmentSize: int64(server.SegmentSize)})
	if err != nil {
		return nil, err
	}
	if err := sweepRuns(ctx, r, baseFolder(options.Cluster), backupName); err != nil {
		return nil, err
	}
	b := &base{r: r, options: options, server: server}
	if b.run, err = beginRun(ctx, r, baseFolder(options.Cluster)); err != nil {
		return nil, err
	}
	defer b.run.abandon(ctx)
	defer b.drop()
	err = b.take(ctx)
	if err != nil && !b.run.done {
		if ctx.Err() != nil && !errors.As(err, new(*fault.Fault)) {
			err = fault.Wrap(err, fault.Unavailable, "keeper.interrupted")
		}
		return nil, err
	}
	return &b.backup, err
}

// base is one base backup under way.
type base struct {
	r       *repo.Repo
	options BaseOptions
	server  *sender
	run     *run
	backup  Backup
	index   Index

	tar      *tarObject   // the tarball that is being received
	manifest *plainObject // PostgreSQL's manifest, behind the last tarball

	bytes, total int64 // of the files
	stored       atomic.Int64
	told         time.Time
	phase        Phase
}

func (b *base) name(object string) string {
	return b.run.folder + "/" + object
}

func (b *base) take(ctx context.Context) error {
	b.backup = Backup{Format: backupFormat, ID: b.run.id, Cluster: b.options.Cluster, Began: b.run.began, Identity: b.server.Identity,
		Version: b.server.version, Checksums: b.server.checksums, Standby: b.server.standby, Parent: b.options.Parent,
		Encrypted: b.r.Encrypts(), Label: b.options.Label, Settings: b.server.settings, Lineage: b.server.lineage}
	if b.backup.Label == "" {
		b.backup.Label = "howdah " + b.run.id
	}
	from, err := b.walFrom(ctx)
	if err != nil {
		return err
	}
	b.backup.WAL = from
	request := request{label: b.backup.Label, rate: b.options.Rate, gentle: b.options.Gentle, wal: from == WALIncluded}
	if b.options.Parent != "" {
		if b.options.Parent >= b.run.id { // it would be taken for broken: a chain goes from older to younger
			return fault.New(fault.Conflict, "keeper.parent_unfit", fault.Args{"message": b.options.Parent + " > " + b.run.id})
		}
		if err := b.uploadParent(ctx); err != nil {
			return err
		}
		request.incremental = true
	}
	b.tell(PhaseCheckpoint)
	result, err := b.server.baseBackup(ctx, request, b)
	if err == nil {
		err = b.endObject(ctx)
	}
	if err != nil {
		return err
	}
	if b.manifestMissing() {
		return fault.New(fault.Unavailable, "repo.not_tar")
	}
	b.backup.Start, b.backup.Timeline, b.backup.Stop, b.backup.EndTimeline = result.start, result.timeline, result.stop, result.endTimeline
	b.backup.Damaged, b.backup.Warnings = result.damaged, result.warnings
	if err := b.readLabel(ctx); err != nil {
		return err
	}
	if err := b.putIndex(ctx); err != nil {
		return err
	}
	if from == WALArchive {
		if err := b.awaitWAL(ctx); err != nil {
			return err
		}
	}
	b.backup.Ended = time.Now().UTC().Truncate(time.Second)
	objects := []string{b.backup.Index.Object, b.backup.Manifest.Object}
	for _, t := range b.backup.Tarballs {
		objects = append(objects, t.Object)
	}
	for _, object := range objects { // a clock that jumped may have let somebody take us for a dead one
		if _, err := b.r.Stat(ctx, b.name(object)); err != nil {
			return err
		}
	}
	if err := b.r.PutJSON(ctx, b.name(backupName), &b.backup); err != nil {
		return err
	}
	b.run.done = true
	if !b.backup.Good() {
		return fault.New(fault.Conflict, "keeper.pages_damaged", fault.Args{"id": b.backup.ID, "files": b.backup.damagedFiles()})
	}
	return nil
}

func (b *base) manifestMissing() bool {
	return b.backup.Manifest.Object == "" || len(b.index.Tarballs) == 0
}

// walFrom settles where the WAL will be.
func (b *base) walFrom(ctx context.Context) (WALFrom, error) {
	if b.options.WithWAL != WALAuto {
		return b.options.WithWAL, nil
	}
	if b.server.archiving == "off" && !b.server.standby { // the primary of a standby may archive
		return WALIncluded, nil
	}
	folders, err := b.r.Folders(ctx, b.options.Cluster+"/wal")
	if err != nil {
		return "", err
	}
	if len(folders) == 0 {
		return WALIncluded, nil
	}
	return WALArchive, nil
}

// tell reports, at most five times a second unless the phase changes.
func (b *base) tell(phase Phase) {
	if b.options.Progress == nil || phase == b.phase && time.Since(b.told) < 200*time.Millisecond {
		return
	}
	b.phase, b.told = phase, time.Now()
	b.options.Progress(Progress{ID: b.backup.ID, Phase: phase, Bytes: b.bytes, Total: b.total, Stored: b.stored.Load()})
}

// sizes implements receiver: what the server expects to send.
func (b *base) sizes(total int64) { b.total = total; b.tell(PhaseFiles) }

// archive implements receiver: a tar begins.
func (b *base) archive(ctx context.Context, name, location string) error {
	if err := b.endObject(ctx); err != nil {
		return err
	}
	plain, ok := strings.CutSuffix(name, ".tar")
	if !ok || plain == "" || strings.Trim(plain, "0123456789") != "" && plain != "base" {
		return fault.New(fault.Unavailable, "repo.not_tar")
	}
	o, err := b.create(ctx, name+b.r.Ending())
	if err != nil {
		return err
	}
	b.tar = &tarObject{plain: plain, location: location, object: o}
	if b.tar.sealer, err = b.r.Keys().Encrypt(o); err != nil {
		return err
	}
	b.tar.writer, err = repo.NewTarballWriter(b.tar.sealer, repo.TarballOptions{Level: b.r.Level(), Workers: b.options.Workers})
	return err
}

// manifestBegins implements receiver: PostgreSQL's own manifest begins.
func (b *base) manifestBegins(ctx context.Context) error {
	if err := b.endObject(ctx); err != nil {
		return err
	}
	var err error
	b.manifest, err = b.plain(ctx, manifestName)
	return err
}

// data implements receiver.
func (b *base) data(p []byte) error {
	if b.manifest != nil {
		_, err := b.manifest.Write(p)
		return err
	}
	if b.tar == nil {
		return fault.New(fault.Unavailable, "repo.not_tar")
	}
	_, err := b.tar.writer.Write(p)
	b.bytes += int64(len(p))
	b.tell(PhaseFiles)
	return err
}

// endObject ends what is being received, if anything.
func (b *base) endObject(ctx context.Context) error {
	if b.tar != nil {
		t := b.tar
		tarball, err := t.writer.Close()
		if err == nil {
			err = t.sealer.Close()
		}
		if err == nil {
			err = t.object.Commit(ctx)
		}
		if err != nil {
			return err
		}
		tarball.Name, tarball.Location = t.plain, t.location
		b.index.Tarballs = append(b.index.Tarballs, tarball)
		b.backup.Tarballs = append(b.backup.Tarballs, BaseTarball{BaseObject: t.object.part(), Name: t.plain, Location: t.location,
			Plain: tarball.Plain, Files: len(tarball.Files)})
		b.tar = nil
	}
	if b.manifest != nil {
		part, err := b.manifest.commit(ctx)
		if err != nil {
			return err
		}
		b.backup.Manifest, b.manifest = part, nil
	}
	return nil
}

// drop lets go of what is being received, if anything still is.
func (b *base) drop() {
	if b.tar != nil {
		if b.tar.writer != nil {
			b.tar.writer.Abort()
		}
		b.tar.object.Abort()
	}
	if b.manifest != nil {
		b.manifest.abort()
	}
}

// readLabel takes from backup_label when the checkpoint was made that recovery begins with: the moment from which on the backup is of use.
func (b *base) readLabel(ctx context.Context) error {
	for i, t := range b.index.Tarballs {
		f, ok := t.Find("backup_label")
		if !ok || f.Size > 64<<10 || t.Name != "base" {
			continue
		}
		if b.r.Encrypts() {
			return nil // we may not be able to read what we wrote
		}
		packed, err := b.r.Packed(ctx, b.name(b.backup.Tarballs[i].Object))
		if err != nil {
			return err
		}
		in, err := t.Open(ctx, packed.Range, f)
		if err != nil {
			return err
		}
		text, err := io.ReadAll(in)
		_ = in.Close()
		if err != nil {
			return err
		}
		for line := range strings.Lines(string(text)) {
			if at, ok := strings.CutPrefix(strings.TrimSpace(line), "CHECKPOINT LOCATION: "); ok {
				if b.backup.Checkpoint, err = wal.ParseLSN(at); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// putIndex stores the index of all tarballs.
func (b *base) putIndex(ctx context.Context) error {
	o, err := b.plain(ctx, indexName)
	if err != nil {
		return err
	}
	defer o.abort()
	b.index.Format = backupFormat
	if err := json.NewEncoder(o).Encode(&b.index); err != nil {
		return err
	}
	b.backup.Index, err = o.commit(ctx)
	return err
}

// awaitWAL waits until all segments are in the repo that a recovery from this backup has to read.
func (b *base) awaitWAL(ctx context.Context) error {
	patience := b.options.Patience
	if patience == 0 {
		patience = 10 * time.Minute
	}
	again := time.NewTicker(100 * time.Millisecond)
	defer again.Stop()
	size := b.server.SegmentSize
	number, last := size.Number(b.backup.Start), size.Number(b.backup.Stop-1)
	for since := time.Now(); number <= last; {
		b.tell(PhaseWAL)
		segment := size.Name(b.backup.Timeline, number)
		if b.backup.EndTimeline != b.backup.Timeline { // a standby that was switched over meanwhile
			segment.Timeline = b.backup.EndTimeline
		}
		name, err := repo.WALName(b.options.Cluster, segment.String())
		if err != nil {
			return err
		}
		_, _, err = b.r.Head(ctx, name)
		if err == nil {
			number, since = number+1, time.Now()
			continue
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if time.Since(since) > patience {
			return fault.New(fault.Unavailable, "keeper.wal_not_archived", fault.Args{"segment": segment.String(), "place": b.r.String(), "patience": patience.String()})
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-again.C:
		}
	}
	return nil
}

// tarObject is a tarball that is being written.
type tarObject struct {
	plain, location string
	object          *hashedObject
	sealer          io.WriteCloser
	writer          *repo.TarballWriter
}

// hashedObject is an object with the hash and the length of what was stored.
type hashedObject struct {
	repo.Object
	name string
	n    *atomic.Int64 // of all objects of the backup
	size int64
	hash hash.Hash
}

func (b *base) create(ctx context.Context, object string) (*hashedObject, error) {
	o, err := b.r.Create(ctx, b.name(object))
	return &hashedObject{Object: o, name: object, n: &b.stored, hash: sha256.New()}, err
}

// Write implements io.Writer.
func (o *hashedObject) Write(p []byte) (int, error) {
	n, err := o.Object.Write(p)
	o.hash.Write(p[:n])
	o.size += int64(n)
	o.n.Add(int64(n))
	return n, err
}

func (o *hashedObject) part() BaseObject {
	return BaseObject{Object: o.name, Stored: o.size, SHA256: repo.Sum(o.hash.Sum(nil))}
}

// plainObject is compressed, and never encrypted: what is in it is needed to know what there is.
type plainObject struct {
	object *hashedObject
	*zstd.Encoder
}

func (b *base) plain(ctx context.Context, name string) (*plainObject, error) {
	o, err := b.create(ctx, name)
	if err != nil {
		return nil, err
	}
	packer, err := zstd.NewWriter(o, zstd.WithEncoderConcurrency(1))
	return &plainObject{o, packer}, err
}

func (p *plainObject) commit(ctx context.Context) (BaseObject, error) {
	if err := p.Close(); err != nil {
		return BaseObject{}, err
	}
	return p.object.part(), p.object.Commit(ctx)
}

func (p *plainObject) abort() {
	p.Reset(nil)
	p.object.Abort()
}
