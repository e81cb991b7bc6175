package keeper

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"howdah/internal/cluster"
	"howdah/internal/fault"
	"howdah/internal/repo"
	"howdah/internal/wal"
)

// RenewOptions say how a data directory that lay aside is made fit to live on.
type RenewOptions struct {
	Cluster      string
	Installation cluster.Installation
	Account      *cluster.Account
	Known        []string     // pg_wal folders with histories of timelines that are taken
	Repos        []*repo.Repo // others may be there; one that is out of reach is no obstacle
}

// wasName keeps a data directory's own settings while those of a recovery stand in their place.
const wasName = "postgresql.auto.conf.was"

// Renew lets a data directory that lay aside begin a timeline of its own at its end, so that what it lives from now on can be told from what it lived before and from what the
// other lived meanwhile: in the archive, and by those who have pages of it open. It needs no archive, and is left stopped. Killed in between, it is simply called again.
func Renew(ctx context.Context, a Aside, options RenewOptions) (*Recovered, error) {
	began := time.Now().UTC().Truncate(time.Second)
	bare, err := cluster.New(a.Dir, options.Installation, cluster.Options{Account: options.Account, Bare: true})
	if err != nil {
		return nil, err
	}
	if _, running := bare.Running(); running { // of an earlier try that was killed
		if err := bare.Stop(ctx, cluster.Immediate); err != nil {
			return nil, err
		}
	}
	id, err := IdentityOf(ctx, bare)
	if err != nil {
		return nil, err
	}
	from, err := TimelineOf(ctx, bare)
	if err != nil {
		return nil, err
	}
	if major := options.Installation.Version.Major; major != id.Major {
		return nil, fault.New(fault.Conflict, "keeper.other_major", fault.Args{"want": id.Major, "have": major})
	}
	x := &recovery{plan: &Plan{Cluster: options.Cluster, Timeline: from, Backup: &Backup{}, id: id}, to: a.Dir, work: a.Dir, began: began,
		options: RecoverOptions{Installation: options.Installation, Account: options.Account, Archiving: true}}
	pgWAL := filepath.Join(x.data(), "pg_wal")
	for _, dir := range options.Known {
		if err := takeHistories(dir, pgWAL); err != nil {
			return nil, x.fault(err)
		}
	}
	for _, r := range options.Repos {
		fetchHistories(ctx, r, options.Cluster, from, pgWAL)
	}
	was := filepath.Join(a.Dir, wasName)
	conf, err := readAutoConf(was)
	if err == nil && conf == nil {
		if conf, err = readAutoConf(filepath.Join(x.data(), autoConfName)); err == nil {
			err = writeFile(was, []byte(conf.text()), true)
		}
	}
	if err != nil {
		return nil, x.fault(err)
	}
	if err := x.makeSocket(); err != nil {
		return nil, err
	}
	defer os.RemoveAll(x.socket)
	if err := x.own(x.socket); err != nil {
		return nil, err
	}
	nothing := "false"
	if runtime.GOOS == "windows" {
		nothing = "exit 1"
	}
	if err := x.steer(conf, nothing, ""); err != nil { // all that it has is in its own pg_wal
		return nil, err
	}
	if err := x.ownAll(); err != nil {
		return nil, err
	}
	timeline, err := x.recover(ctx)
	if err != nil {
		return nil, err
	}
	if err := x.settle(conf, timeline); err != nil {
		return nil, err
	}
	if err := x.ownAll(); err != nil {
		return nil, err
	}
	for _, dir := range append([]string{x.data()}, spacesOf(x.data())...) {
		if err := repo.SyncTree(dir); err != nil {
			return nil, x.fault(err)
		}
	}
	if err := os.Remove(was); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, x.fault(err)
	}
	return &Recovered{Cluster: options.Cluster, System: id.System, Dir: a.Dir, Data: x.data(), From: from, Timeline: timeline, Began: began, Ended: time.Now().UTC().Truncate(time.Second)}, nil
}

// fetchHistories brings the histories of the timelines after one into a pg_wal folder, as far as they can be read.
func fetchHistories(ctx context.Context, r *repo.Repo, clusterName string, after wal.Timeline, pgWAL string) {
	for t := after + 1; ; t++ {
		name := wal.Name{Kind: wal.History, Timeline: t}.String()
		object, err := repo.WALName(clusterName, name)
		if err != nil {
			return
		}
		content, err := r.Get(ctx, object, nil)
		if err != nil {
			return
		}
		path := filepath.Join(pgWAL, name)
		if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
			_ = writeFile(path, content, true)
		}
	}
}
