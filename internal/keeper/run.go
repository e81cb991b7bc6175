package keeper

import (
	"context"
	"crypto/rand"
	"errors"
	"io/fs"
	"os"
	"path"
	"regexp"
	"strings"
	"time"

	"howdah/internal/cluster"
	"howdah/internal/fault"
	"howdah/internal/repo"
)

// run is a backup that is being made: a folder of the repo that is ours alone. The first object in it, run.json, says by its existence that the
// name is taken, and by its content who is at it; so the next run can tell what a killed one left behind.
type run struct {
	r      *repo.Repo
	folder string // "main/dump/20261122T040000Z"
	id     string
	began  time.Time
	done   bool // the manifest is written: nothing is to be abandoned
}

const (
	runName = "run.json"
	// prunedName says that a prune is removing the backup, or was; who made it may live on.
	prunedName = "pruned.json"
)

type runJSON struct {
	Began time.Time `json:"began"`
	Host  string    `json:"host"`
	PID   int       `json:"pid"`
	Token string    `json:"token"` // so that no two are the same
}

// beginRun takes the first free second as the name of a backup below "CLUSTER/dump" or "CLUSTER/base". A name stands for one backup of the cluster, whatever its kind.
func beginRun(ctx context.Context, r *repo.Repo, below string) (*run, error) {
	host, _ := os.Hostname()
	now := time.Now().UTC().Truncate(time.Second)
	for {
		id, err := r.FreeName(ctx, now, path.Dir(below)+"/base", path.Dir(below)+"/dump")
		if err != nil {
			return nil, err
		}
		err = r.PutJSON(ctx, below+"/"+id+"/"+runName, runJSON{now, host, os.Getpid(), rand.Text()})
		if err == nil {
			return &run{r: r, folder: below + "/" + id, id: id, began: now}, nil
		}
		if !fault.HasKey(err, "repo.conflict") { // somebody else was as fast; his name is in the list now
			return nil, err
		}
	}
}

// LockRun takes the lock that keeps runs on this machine from overlapping; "" is none. Backups that belong together are made under one, and get no Lock of their own then.
func LockRun(file, clusterName string) (unlock func(), err error) {
	if file == "" {
		return func() {}, nil
	}
	release, held, err := cluster.Lock(file)
	if err != nil {
		return nil, fault.Wrap(err, fault.Forbidden, "keeper.lock", fault.Args{"file": file})
	}
	if !held {
		return nil, fault.New(fault.Conflict, "keeper.backup_runs", fault.Args{"cluster": clusterName})
	}
	return func() { _ = release() }, nil
}

// abandon removes what there is, unless the run is done. What it cannot remove, the next run will.
func (u *run) abandon(ctx context.Context) {
	if u.done {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
	defer cancel()
	_ = removeFolder(ctx, u.r, u.folder)
}

// ourObjects are the names of what a backup consists of, beside its manifest and run.json: of a base backup, and of a logical one.
var ourObjects = regexp.MustCompile(`^(?:(?:base|[0-9]+)\.tar\.zst(?:\.age)?|index\.json\.zst|backup_manifest\.zst|[a-z0-9_][a-z0-9_-]{0,62}\.(?:dump|sql|tar)\.zst(?:\.age)?)$`)

// removeFolder removes all objects of a backup that is none, run.json last: as long as it is there, the next run knows what this is. What somebody else has put there stays.
func removeFolder(ctx context.Context, r *repo.Repo, folder string) error {
	var names []string
	for info, err := range r.List(ctx, folder+"/") {
		if err != nil {
			return err
		}
		if ourObjects.MatchString(strings.TrimPrefix(info.Name, folder+"/")) {
			names = append(names, info.Name)
		}
	}
	if err := r.Remove(ctx, names...); err != nil {
		return err
	}
	if err := r.Sweep(ctx, folder+"/", 0); err != nil { // the object that a killed run was at
		return err
	}
	return r.Remove(ctx, folder+"/"+runName, folder+"/"+prunedName)
}

// unfinishedAge is when a backup without a manifest is taken for dead where its process cannot be asked for.
const unfinishedAge = 7 * 24 * time.Hour

// sweepRuns removes what killed runs left below "CLUSTER/dump" or "CLUSTER/base": folders that have a run.json and no manifest, and whose process
// is gone. Anything else is left alone, also what is not ours.
func sweepRuns(ctx context.Context, r *repo.Repo, below, manifest string) error {
	ids, err := r.Folders(ctx, below)
	if err != nil {
		return err
	}
	host, _ := os.Hostname()
	for _, id := range ids {
		folder := below + "/" + id
		if _, err := r.Stat(ctx, folder+"/"+manifest); err == nil {
			continue
		} else if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		_, err := r.Stat(ctx, folder+"/"+prunedName)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		pruned := err == nil
		var who runJSON
		if err := r.GetJSON(ctx, folder+"/"+runName, &who); pruned {
			// Whoever made it: it is none any more.
		} else if errors.Is(err, fs.ErrNotExist) {
			if _, err := time.Parse(repo.TimeForm, id); err != nil {
				continue // not ours
			}
			// Killed at its first object or before: what nobody holds any more goes, and the folder when that was all.
			if err := r.Sweep(ctx, folder+"/", 0); err != nil {
				return err
			}
			continue
		} else if fault.HasKey(err, "repo.damaged") {
			continue
		} else if err != nil {
			return err
		}
		if !pruned && !who.gone(host) {
			continue
		}
		if living, _, err := livingHolds(ctx, r, below[:strings.IndexByte(below, '/')]); err != nil {
			return err
		} else if isHeld(living, id) { // a prune came upon a restore
			continue
		}
		// It may have come to its end since we looked for the manifest.
		if _, err := r.Stat(ctx, folder+"/"+manifest); !errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err := removeFolder(ctx, r, folder); err != nil {
			return err
		}
	}
	return r.Sweep(ctx, "", unfinishedAge)
}
