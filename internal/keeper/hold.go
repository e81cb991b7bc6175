package keeper

import (
	"context"
	"crypto/rand"
	"errors"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"howdah/internal/fault"
	"howdah/internal/repo"
	"howdah/internal/wal"
)

// hold says in the repo, for as long as a restore or a verification is under way, what it needs: no prune, on whichever machine, takes that. One whose process is gone does not
// count.
type hold struct {
	Backups []string `json:"backups"`       // base backups, or a logical one
	From    wal.LSN  `json:"from,omitzero"` // and all WAL from here on; 0: none
	runJSON
}

func holdFolder(cluster string) string { return cluster + "/hold/" }

// keepFor keeps prunes from what a restore needs, until release. The order makes that sure: here the hold is written before the manifests are looked for; a prune removes a manifest before it
// looks for holds. A repo that this account may only read is restored from all the same, without that.
func keepFor(ctx context.Context, r *repo.Repo, cluster string, from wal.LSN, manifest func(id string) string, ids ...string) (release func(), err error) {
	if release, err = writeHold(ctx, r, cluster, from, ids); err != nil {
		return nil, err
	}
	for _, id := range ids {
		if _, err := r.Stat(ctx, manifest(id)); err != nil {
			release()
			if errors.Is(err, fs.ErrNotExist) {
				err = fault.Wrap(err, fault.NotFound, "keeper.no_backup", fault.Args{"id": id, "cluster": cluster, "place": r.String()})
			}
			return nil, err
		}
	}
	return release, nil
}

// keepAll keeps prunes from all that is there, until release: who reads it must not take for missing what need not be kept any more.
func keepAll(ctx context.Context, r *repo.Repo, cluster string) (release func(), err error) {
	var ids []string
	for _, folder := range []string{baseFolder(cluster), dumpFolder(cluster)} {
		some, err := r.Folders(ctx, folder)
		if err != nil {
			return nil, err
		}
		ids = append(ids, some...)
	}
	if len(ids) == 0 {
		return func() {}, nil // nothing goes
	}
	return writeHold(ctx, r, cluster, 1, ids)
}

// writeHold writes one, as well as it can.
func writeHold(ctx context.Context, r *repo.Repo, cluster string, from wal.LSN, ids []string) (release func(), err error) {
	host, _ := os.Hostname()
	name := holdFolder(cluster) + strings.ToLower(rand.Text()) + ".json"
	err = r.PutJSON(ctx, name, hold{ids, from, runJSON{time.Now().UTC().Truncate(time.Second), host, os.Getpid(), rand.Text()}})
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if err != nil {
		return func() {}, nil //nolint:nilerr // it may not be ours to write to
	}
	return func() {
		late, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
		defer cancel()
		_ = r.Remove(late, name) // the next prune does it
	}, nil
}

// livingHolds are those of restores under way, and the names of those that ended without a word.
func livingHolds(ctx context.Context, r *repo.Repo, cluster string) (living []hold, dead []string, err error) {
	host, _ := os.Hostname()
	for info, err := range r.List(ctx, holdFolder(cluster)) {
		if err != nil {
			return nil, nil, err
		}
		var h hold
		err := r.GetJSON(ctx, info.Name, &h)
		if errors.Is(err, fs.ErrNotExist) || fault.HasKey(err, "repo.damaged") { // it has just ended; somebody else's file
			continue
		}
		if err != nil {
			return nil, nil, err
		}
		if h.gone(host) {
			dead = append(dead, info.Name)
		} else {
			living = append(living, h)
		}
	}
	return living, dead, nil
}

// gone tells whether a process is dead: by age, and by its number where it ran on this machine. Numbers come again, in a container after each start; so what seems to live
// for a week is taken for dead.
func (who runJSON) gone(host string) bool {
	if time.Since(who.Began) > unfinishedAge {
		return true
	}
	return host != "" && strings.EqualFold(host, who.Host) && !alive(who.PID)
}

// isHeld tells whether a restore under way needs a backup.
func isHeld(living []hold, id string) bool {
	return slices.ContainsFunc(living, func(h hold) bool { return slices.Contains(h.Backups, id) })
}
