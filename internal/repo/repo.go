// Package repo is where backups lie: a folder, or a bucket that speaks S3. It knows names, how objects are sealed (zstd, age), and
// that what has been written once is never changed.
//
// The layout is plain, and doc/guide shows how to restore from it by hand:
//
//	howdah-repo.json                         says that this is a repo
//	CLUSTER/cluster.json                     which cluster this is
//	CLUSTER/wal/00000001/0000000100000000/000000010000000000000003.zst[.age]
//	CLUSTER/stream/000000010000000000000004/00000000-00A3F2C8.zst[.age]  bytes of a segment that is not archived yet
//	CLUSTER/base/20261122T030000Z/...        a base backup; whole when its backup.json is there
//	CLUSTER/dump/20261122T040000Z/...        a logical backup; whole when its dump.json is there
//	CLUSTER/report/...                       verifications and drills
//	CLUSTER/hold/...                         what restores and verifications under way need, so that no prune takes it
package repo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"howdah/internal/fault"
)

// Options say how a repo is opened; the zero value reads and writes without encryption.
type Options struct {
	Create bool  // make the repo where there is none; archiving never does, so that a disk that is not mounted is noticed
	Keys   *Keys // nil: nothing is encrypted, and nothing encrypted can be read
	Level  Level // of compression

	// For S3; where they are empty, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN of the environment.
	AccessKey, SecretKey, SessionToken string
	// Patience is how long an S3 server may go without an answer or a byte moving, and for how long requests are tried again; 0: a minute.
	Patience time.Duration
}

// Repo is an open repo. Its methods may be called by several goroutines.
type Repo struct {
	Store
	keys  *Keys
	level Level
}

const (
	markName    = "howdah-repo.json"
	clusterName = "cluster.json"
	format      = 1
)

// mark is what howdah-repo.json says.
type mark struct {
	Format int       `json:"format"`
	Made   time.Time `json:"made"`
	About  string    `json:"about"`
}

const about = "A repository of PostgreSQL backups, made by Howdah. Please leave the files in it as they are."

// Open opens the repo at an address (OpenStore says which there are). Where there is none, it is made or it is the fault "repo.absent";
// a folder that holds other things is "repo.foreign" and is not touched.
func Open(ctx context.Context, address string, opt Options) (*Repo, error) {
	store, err := OpenStore(address, opt)
	if err != nil {
		return nil, err
	}
	r := &Repo{Store: &guarded{store}, keys: opt.Keys, level: opt.Level}
	place := fault.Args{"place": store.String()}
	for range 2 { // when another process makes it at the same time, the second round finds it
		raw, err := readSmall(ctx, store, markName)
		if err == nil {
			var m mark
			if json.Unmarshal(raw, &m) != nil || m.Format < 1 {
				return nil, fault.New(fault.Conflict, "repo.foreign", place)
			}
			if m.Format > format {
				return nil, fault.New(fault.Conflict, "repo.newer", place)
			}
			return r, nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		for info, err := range store.List(ctx, "") {
			if err != nil {
				return nil, err
			}
			if info.Name != markName {
				return nil, fault.New(fault.Conflict, "repo.foreign", place)
			}
		}
		if folders, err := store.Folders(ctx, ""); err != nil {
			return nil, err
		} else if slices.ContainsFunc(folders, func(name string) bool { return name != "lost+found" }) {
			return nil, fault.New(fault.Conflict, "repo.foreign", place)
		}
		if !opt.Create {
			return nil, fault.New(fault.Unavailable, "repo.absent", place)
		}
		m := mark{Format: format, Made: time.Now().UTC().Truncate(time.Second), About: about}
		if err := putJSON(ctx, store, markName, m); err != nil && !fault.HasKey(err, "repo.conflict") {
			return nil, err
		}
	}
	return nil, fault.New(fault.Unavailable, "repo.absent", place)
}

// Through gives the same repo with a store around its own, which may fail or wait where that would not.
func (r *Repo) Through(wrap func(Store) Store) *Repo {
	return &Repo{Store: &guarded{wrap(r.bare())}, keys: r.keys, level: r.level}
}

// guarded tells an object that is missing from a repo that is: a disk that is not mounted any more must not look like the end of the WAL.
type guarded struct{ Store }

func (g *guarded) there(ctx context.Context) error {
	_, err := g.Store.Stat(ctx, markName)
	if errors.Is(err, fs.ErrNotExist) {
		return fault.New(fault.Unavailable, "repo.absent", fault.Args{"place": g.String()})
	}
	return err
}

func (g *guarded) orAway(ctx context.Context, err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		if away := g.there(ctx); away != nil {
			return away
		}
	}
	return err
}

// Create implements Store.
func (g *guarded) Create(ctx context.Context, name string) (Object, error) {
	if _, ok := g.Store.(*folder); ok { // a bucket does not turn into another one
		if err := g.there(ctx); err != nil {
			return nil, err
		}
	}
	return g.Store.Create(ctx, name)
}

// Open implements Store.
func (g *guarded) Open(ctx context.Context, name string, offset, length int64) (io.ReadCloser, error) {
	r, err := g.Store.Open(ctx, name, offset, length)
	return r, g.orAway(ctx, err)
}

// Stat implements Store.
func (g *guarded) Stat(ctx context.Context, name string) (Info, error) {
	info, err := g.Store.Stat(ctx, name)
	return info, g.orAway(ctx, err)
}

// Cluster says which cluster the backups are of.
type Cluster struct {
	Name        string `json:"name"` // the folder in the repo
	System      uint64 `json:"system_identifier,string"`
	Major       int    `json:"major"`        // version of PostgreSQL
	SegmentSize int64  `json:"segment_size"` // of WAL, in bytes
}

type clusterJSON struct {
	Format int `json:"format"`
	Cluster
	Made time.Time `json:"made"`
}

var clusterNames = regexp.MustCompile(`^[a-z0-9][a-z0-9_-]{0,62}$`)

// CheckCluster refuses what cannot be the name of a cluster.
func CheckCluster(name string) error {
	if !clusterNames.MatchString(name) {
		return fault.New(fault.Invalid, "repo.cluster_name", fault.Args{"name": name})
	}
	return nil
}

// Cluster reads what the repo says of the cluster of this name; fs.ErrNotExist where it has none.
func (r *Repo) Cluster(ctx context.Context, name string) (Cluster, error) {
	if err := CheckCluster(name); err != nil {
		return Cluster{}, err
	}
	var c clusterJSON
	err := r.GetJSON(ctx, name+"/"+clusterName, &c)
	if errors.Is(err, fs.ErrNotExist) {
		return Cluster{}, fault.Wrap(err, fault.NotFound, "repo.no_cluster", fault.Args{"place": r.String(), "name": name})
	}
	if err == nil && (c.Format > format || c.Format < 1) {
		return Cluster{}, fault.New(fault.Conflict, "repo.newer", fault.Args{"place": r.String()})
	}
	c.Cluster.Name = name
	return c.Cluster, err
}

// Clusters lists the names of the clusters in the repo, in order.
func (r *Repo) Clusters(ctx context.Context) ([]string, error) {
	folders, err := r.Folders(ctx, "")
	if err != nil {
		return nil, err
	}
	names := folders[:0]
	for _, name := range folders {
		if !clusterNames.MatchString(name) {
			continue
		}
		if _, err := r.Stat(ctx, name+"/"+clusterName); err == nil {
			names = append(names, name)
		} else if !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	return names, nil
}

// Bind makes sure that the folder c.Name of the repo belongs to this very cluster. The first one that comes gets the folder; any other
// system identifier is the fault "repo.other_cluster".
func (r *Repo) Bind(ctx context.Context, c Cluster) error {
	for range 2 {
		have, err := r.Cluster(ctx, c.Name)
		if err == nil {
			if have.System != c.System {
				return fault.New(fault.Conflict, "repo.other_cluster", fault.Args{"place": r.String(), "name": c.Name,
					"have": fmt.Sprint(have.System), "want": fmt.Sprint(c.System)})
			}
			return nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		made := clusterJSON{Format: format, Cluster: c, Made: time.Now().UTC().Truncate(time.Second)}
		if err := r.PutJSON(ctx, c.Name+"/"+clusterName, made); err == nil || !fault.HasKey(err, "repo.conflict") {
			return err
		}
	}
	return fault.New(fault.Unavailable, "repo.absent", fault.Args{"place": r.String()})
}

// TimeForm is the form of the times that name backups: in UTC, to the second.
const TimeForm = "20060102T150405Z"

// FreeName is the name for a backup that begins now, such as "20261122T030000Z": the first second, from now on, whose name is in none of the
// folders ("CLUSTER/base") yet. Runs that might choose at the same time have to be kept apart by the caller.
func (r *Repo) FreeName(ctx context.Context, now time.Time, folders ...string) (string, error) {
	var taken []string
	for _, folder := range folders {
		there, err := r.Folders(ctx, folder)
		if err != nil {
			return "", err
		}
		taken = append(taken, there...)
	}
	for now = now.UTC(); ; now = now.Add(time.Second) {
		if name := now.Format(TimeForm); !slices.Contains(taken, name) {
			return name, nil
		}
	}
}

var walNames = regexp.MustCompile(`^([0-9A-F]{8})(?:([0-9A-F]{8})[0-9A-F]{8}(?:\.[0-9A-F]{8}\.backup|\.partial)?|\.history)$`)

// WALName is where a file of WAL (a segment, its .partial or .backup, a .history), named as in pg_wal, lies in the repo, without the ending
// that sealing adds.
func WALName(cluster, file string) (string, error) {
	m := walNames.FindStringSubmatch(file)
	switch {
	case m == nil:
		return "", fault.New(fault.Invalid, "repo.name", fault.Args{"name": file})
	case m[2] == "":
		return cluster + "/wal/" + file, nil
	}
	return cluster + "/wal/" + m[1] + "/" + m[1] + m[2] + "/" + file, nil
}

var pieceNames = regexp.MustCompile(`^([0-9A-F]{24})/([0-9A-F]{8})-([0-9A-F]{8})(?:\.zst|\.zst\.age)$`)

// PieceName is where the bytes of a segment from one offset up to another lie, as long as it is not archived, without the ending that sealing adds.
func PieceName(cluster, segment string, start, end uint32) string {
	return fmt.Sprintf("%s/stream/%s/%08X-%08X", cluster, segment, start, end)
}

// ParsePieceName takes the name of an object apart that is a cluster's piece of a segment; false for any other.
func ParsePieceName(cluster, object string) (segment string, start, end uint32, ok bool) {
	rest, ok := strings.CutPrefix(object, cluster+"/stream/")
	m := pieceNames.FindStringSubmatch(rest)
	if !ok || m == nil {
		return "", 0, 0, false
	}
	from, fromErr := strconv.ParseUint(m[2], 16, 32)
	to, toErr := strconv.ParseUint(m[3], 16, 32)
	return m[1], uint32(from), uint32(to), fromErr == nil && toErr == nil && from < to
}
