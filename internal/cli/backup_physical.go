package cli

import (
	"context"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"howdah/internal/cluster"
	"howdah/internal/fault"
	"howdah/internal/keeper"
	"howdah/internal/repo"
)

// backupPhysicalCmd takes a base backup.
type backupPhysicalCmd struct {
	keeping
	Label       string `help:"${help_backup_label}" placeholder:"TEXT"`
	Rate        string `help:"${help_backup_rate}" placeholder:"50MB"`
	Gentle      bool   `help:"${help_backup_gentle}"`
	Standby     bool   `help:"${help_backup_standby}"`
	WALFrom     string `help:"${help_backup_wal}" name:"wal" enum:"auto,archive,included" default:"auto"`
	Incremental bool   `help:"${help_backup_incremental}"`
	// A superuser may take base backups, but pg_hba.conf often lets in a role of its own for that.
	ReplicationDSN string `help:"${help_replication_dsn}" name:"replication-dsn" placeholder:"URL"`
}

// Run is howdah backup physical.
func (c *backupPhysicalCmd) Run(ctx context.Context, t *terminal) error {
	if c.AdminDSN == "" {
		c.AdminDSN = c.ReplicationDSN // somebody else's server in any case
	}
	account, err := c.settle(ctx, t)
	if err != nil {
		return err
	}
	options, err := c.options(account)
	if err != nil {
		return err
	}
	repos, err := c.repos(ctx, true)
	if err != nil {
		return err
	}
	for _, r := range repos {
		if err := c.into(ctx, t, r, options); err != nil {
			return err
		}
	}
	return nil
}

func (c *backupPhysicalCmd) options(account *cluster.Account) (options keeper.BaseOptions, err error) {
	options = keeper.BaseOptions{Cluster: c.Cluster, Label: c.Label, Gentle: c.Gentle, Standby: c.Standby}
	if c.WALFrom != "auto" {
		options.WithWAL = keeper.WALFrom(c.WALFrom)
	}
	if options.Rate, err = parseBytes(c.Rate); err != nil {
		return options, err
	}
	if options.DSN = c.ReplicationDSN; options.DSN == "" {
		if options.DSN, err = c.replication(account); err != nil {
			return options, err
		}
	}
	options.Lock, err = c.lockFile()
	return options, err
}

func (c *backupPhysicalCmd) into(ctx context.Context, t *terminal, r *repo.Repo, options keeper.BaseOptions) error {
	bar := t.progress(c.JSON)
	b, err := c.take(ctx, t, r, options, bar, "")
	bar.end()
	if b == nil {
		return err
	}
	if c.JSON {
		if printErr := t.print(struct {
			Repo string `json:"repo"`
			*keeper.Backup
		}{r.String(), b}); printErr != nil {
			return printErr
		}
		return err
	}
	t.baseTaken(r, b)
	return err
}

// take takes one base backup; step goes before what the bar is labelled with. A backup of damaged pages comes with an error.
func (c *backupPhysicalCmd) take(ctx context.Context, t *terminal, r *repo.Repo, options keeper.BaseOptions, bar *progress, step string) (*keeper.Backup, error) {
	if c.Incremental {
		var err error
		if options.Parent, err = keeper.NewestParent(ctx, r, c.Cluster); err != nil {
			return nil, err
		}
		if options.Parent == "" {
			return nil, fault.New(fault.NotFound, "keeper.no_parent", fault.Args{"cluster": c.Cluster, "place": r.String()})
		}
	}
	options.Progress = func(p keeper.Progress) {
		switch p.Phase {
		case keeper.PhaseCheckpoint:
			bar.show(step+t.lang.T("cli.physical.checkpoint"), 0, 0)
		case keeper.PhaseWAL:
			bar.show(step+t.lang.T("cli.physical.wal"), p.Bytes, p.Bytes)
		case keeper.PhaseFiles:
			bar.show(step+p.ID, p.Bytes, p.Total)
		}
	}
	return keeper.TakeBase(ctx, r, options)
}

// baseTaken tells of a base backup.
func (t *terminal) baseTaken(r *repo.Repo, b *keeper.Backup) {
	t.say("cli.physical.done", fault.Args{"id": b.ID, "place": r.String(), "size": byteText(b.Plain()), "stored": byteText(b.Stored()),
		"took": durationText(b.Ended.Sub(b.Began)), "start": b.Start, "stop": b.Stop})
	for _, warning := range b.Warnings {
		t.say("cli.backup.warning", fault.Args{"warning": warning})
	}
}

// replication is a way in for base backups: as replicator into the house's own cluster, or --admin-dsn.
func (c *keeping) replication(account *cluster.Account) (string, error) {
	if c.AdminDSN != "" {
		return c.AdminDSN, nil
	}
	if c.known != nil {
		return c.known.Replication, nil
	}
	house, err := cluster.New(c.Data, cluster.Installation{}, cluster.Options{Account: account})
	if err != nil {
		return "", err
	}
	switch house.Status().State {
	case cluster.Absent:
		return "", fault.New(fault.NotFound, "cluster.absent", fault.Args{"dir": c.Data})
	case cluster.Running:
	case cluster.Stopped, cluster.Starting, cluster.Stopping:
		return "", fault.New(fault.Unavailable, "cli.not_running", fault.Args{"dir": c.Data})
	}
	return house.DSN(cluster.Replicator, "postgres")
}

// lockFile keeps base backups of one cluster apart.
func (c *keeping) lockFile() (string, error) {
	if c.AdminDSN == "" {
		return filepath.Join(c.Data, "backup-"+c.Cluster+".lock"), nil
	}
	dir, err := os.UserCacheDir()
	if err != nil {
		dir = os.TempDir()
	}
	dir = filepath.Join(dir, "howdah")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fault.Wrap(err, fault.Forbidden, "cli.data_dir", fault.Args{"dir": dir})
	}
	return filepath.Join(dir, "backup-"+c.Cluster+".lock"), nil
}

// parseBytes reads a number of bytes as people write it: "50MB", "1.5 GB", "300k".
func parseBytes(text string) (int64, error) {
	if text == "" {
		return 0, nil
	}
	s := strings.ToUpper(strings.TrimSpace(text))
	s = strings.TrimSuffix(strings.TrimSuffix(s, "/S"), "B")
	factor := 1.0
	if n := len(s); n > 0 {
		if i := strings.IndexByte("KMGT", s[n-1]); i >= 0 {
			for range i + 1 {
				factor *= 1000
			}
			s = s[:n-1]
		}
	}
	v, err := strconv.ParseFloat(strings.TrimSpace(s), 64)
	if err != nil || v <= 0 || v*factor > 1e18 {
		return 0, fault.New(fault.Invalid, "cli.bytes", fault.Args{"text": text})
	}
	return int64(v * factor), nil
}
