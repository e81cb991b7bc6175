package keeper

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
	"time"

	"github.com/klauspost/compress/zstd"

	"howdah/internal/fault"
	"howdah/internal/repo"
	"howdah/internal/wal"
)

const backupFormat = 1

// Backup is what backup.json says of a base backup. It is written when all else of the backup is safe, and never changed.
type Backup struct {
	Format  int    `json:"format"`
	ID      string `json:"id"` // when it began, in UTC: "20261122T030000Z"
	Cluster string `json:"cluster"`
	Label   string `json:"label"`
	wal.Identity
	Version   string    `json:"version"` // of the server: "15.18 (Debian 15.18-0+deb12u1)"
	Began     time.Time `json:"began"`
	Ended     time.Time `json:"ended"`
	Standby   bool      `json:"standby,omitempty"`   // it was taken from a standby
	Checksums bool      `json:"checksums"`           // the cluster's pages have checksums, and the server has verified them
	Damaged   []Damage  `json:"damaged,omitempty"`   // pages whose checksums were wrong; empty for a good backup
	Warnings  []string  `json:"warnings,omitempty"`  // what else the server warned of
	Parent    string    `json:"parent,omitempty"`    // the backup that this one is an increment to
	Encrypted bool      `json:"encrypted,omitempty"` // the tarballs are

	// Recovery reads the WAL from Start on, and is consistent when it has read up to Stop.
	Start       wal.LSN      `json:"start"`
	Timeline    wal.Timeline `json:"timeline"` // that Start is on
	Stop        wal.LSN      `json:"stop"`
	EndTimeline wal.Timeline `json:"stop_timeline"`
	Checkpoint  wal.LSN      `json:"checkpoint,omitzero"`
	Lineage     *wal.Lineage `json:"lineage,omitempty"` // what the timeline grew out of; nil for the first
	WAL         WALFrom      `json:"wal"`               // where this WAL is: "archive" or "included"

	Tarballs []BaseTarball     `json:"tarballs"` // in the order in which the server sent them
	Index    BaseObject        `json:"index"`    // of the tarballs: an Index as JSON, compressed with zstd
	Manifest BaseObject        `json:"manifest"` // PostgreSQL's own, compressed with zstd
	Settings map[string]string `json:"settings"` // of the server, some of them
}

// BaseObject is an object of a backup as it is stored.
type BaseObject struct {
	Object string   `json:"object"` // its name in the backup's folder
	Stored int64    `json:"stored"` // bytes
	SHA256 repo.Sum `json:"sha256"` // of these
}

// BaseTarball is a tarball of a backup.
type BaseTarball struct {
	BaseObject
	Name     string `json:"name"`               // "base", or the OID of a tablespace
	Location string `json:"location,omitempty"` // of the tablespace on the server
	Plain    int64  `json:"plain"`              // bytes of the tar
	Files    int    `json:"files"`
}

// Damage is a file with pages whose checksums were wrong.
type Damage struct {
	File   string   `json:"file"`             // relative to the data directory
	Blocks []uint32 `json:"blocks,omitempty"` // the numbers of the first of these pages
}

// Index is what index.json says: where in the tarballs each file lies.
type Index struct {
	Format   int             `json:"format"`
	Tarballs []*repo.Tarball `json:"tarballs"`
}

// Good tells whether the backup is one to rely on.
func (b *Backup) Good() bool { return len(b.Damaged) == 0 }

// Plain is how many bytes of tar the backup has.
func (b *Backup) Plain() (n int64) {
	for _, t := range b.Tarballs {
		n += t.Plain
	}
	return n
}

// Stored is how many bytes the backup takes in the repo.
func (b *Backup) Stored() int64 {
	n := b.Index.Stored + b.Manifest.Stored
	for _, t := range b.Tarballs {
		n += t.Stored
	}
	return n
}

func (b *Backup) damagedFiles() string {
	var names []string
	for _, d := range b.Damaged {
		names = append(names, d.File)
	}
	if len(names) > 5 {
		names = append(names[:5], fmt.Sprintf("... (%d)", len(b.Damaged)))
	}
	return strings.Join(names, ", ")
}

func baseFolder(cluster string) string { return cluster + "/base" }

// folder is where its objects lie.
func (b *Backup) folder() string { return baseFolder(b.Cluster) + "/" + b.ID + "/" }

// Backups lists the base backups of a cluster that are whole, oldest first, and the IDs of the others: under way, or left by a run that was killed.
// A backup.json that cannot be read is an error beside the list of those that can.
func Backups(ctx context.Context, r *repo.Repo, clusterName string) (whole []*Backup, unfinished []string, err error) {
	ids, err := r.Folders(ctx, clusterName+"/base")
	if err != nil {
		return nil, nil, err
	}
	var errs []error
	for _, id := range ids {
		if _, err := time.Parse(repo.TimeForm, id); err != nil {
			continue // somebody else's
		}
		b, err := OpenBackup(ctx, r, clusterName, id)
		switch {
		case err == nil:
			whole = append(whole, b)
		case fault.HasKey(err, "keeper.no_backup"):
			// Without run.json it is none of ours any more: what somebody has put into a folder that a prune has emptied.
			if _, err := r.Stat(ctx, clusterName+"/base/"+id+"/"+runName); err == nil {
				unfinished = append(unfinished, id)
			} else if !errors.Is(err, fs.ErrNotExist) {
				errs = append(errs, err)
			}
		default:
			errs = append(errs, err)
		}
	}
	slices.SortFunc(whole, func(a, b *Backup) int { return cmp.Compare(a.ID, b.ID) })
	return whole, unfinished, errors.Join(errs...)
}

// OpenBackup reads backup.json; the fault "keeper.no_backup" where there is none.
func OpenBackup(ctx context.Context, r *repo.Repo, clusterName, id string) (*Backup, error) {
	b := &Backup{}
	if _, err := time.Parse(repo.TimeForm, id); err != nil {
		return nil, fault.New(fault.NotFound, "keeper.no_backup", fault.Args{"id": id, "cluster": clusterName, "place": r.String()})
	}
	name := clusterName + "/base/" + id + "/" + backupName
	err := r.GetJSON(ctx, name, b)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fault.Wrap(err, fault.NotFound, "keeper.no_backup", fault.Args{"id": id, "cluster": clusterName, "place": r.String()})
	case err != nil:
		return nil, err
	case b.Format > backupFormat:
		return nil, fault.New(fault.Conflict, "repo.newer", fault.Args{"place": r.String()})
	case b.ID != id || b.Start == 0 || b.Stop < b.Start || !b.SegmentSize.Valid() || b.Timeline == 0 || b.EndTimeline == 0 || len(b.Tarballs) == 0:
		return nil, fault.New(fault.Conflict, "repo.damaged", fault.Args{"place": r.String(), "name": name})
	}
	b.Cluster = clusterName
	return b, nil
}

// Index reads the index of a backup's tarballs.
func (b *Backup) ReadIndex(ctx context.Context, r *repo.Repo) (*Index, error) {
	var index Index
	if err := b.readPlain(ctx, r, b.Index, func(in io.Reader) error { return json.NewDecoder(in).Decode(&index) }); err != nil {
		return nil, err
	}
	for i, t := range index.Tarballs {
		if t == nil || i >= len(b.Tarballs) || t.Name != b.Tarballs[i].Name {
			return nil, fault.New(fault.Conflict, "repo.index_invalid", fault.Args{"tarball": b.folder() + indexName})
		}
		if err := t.Check(); err != nil {
			return nil, err
		}
	}
	if len(index.Tarballs) != len(b.Tarballs) {
		return nil, fault.New(fault.Conflict, "repo.index_invalid", fault.Args{"tarball": b.folder() + indexName})
	}
	return &index, nil
}

// readPlain reads an object that is compressed only.
func (b *Backup) readPlain(ctx context.Context, r *repo.Repo, part BaseObject, do func(io.Reader) error) error {
	name := b.folder() + part.Object
	src, err := r.Open(ctx, name, 0, -1)
	if err != nil {
		return err
	}
	defer src.Close()
	in, err := zstd.NewReader(src, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(128<<20))
	if err != nil {
		return err
	}
	defer in.Close()
	if err := do(in); err != nil {
		if errors.As(err, new(*fault.Fault)) || ctx.Err() != nil {
			return err
		}
		return fault.Wrap(err, fault.Conflict, "repo.damaged", fault.Args{"place": r.String(), "name": name})
	}
	return nil
}
