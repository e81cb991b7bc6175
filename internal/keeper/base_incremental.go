package keeper

import (
	"context"
	"errors"
	"io"
	"slices"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"howdah/internal/fault"
	"howdah/internal/repo"
)

// IncrementsSince is the version of PostgreSQL that incremental base backups came with.
const IncrementsSince = 17

// NewestParent is the ID of the backup that the next increment is made to: the newest good one of which nothing is missing; "" where there is none. An increment comes after
// its parent in the order of IDs, so one that was made while the clock was ahead has to wait for its time.
func NewestParent(ctx context.Context, r *repo.Repo, clusterName string) (string, error) {
	all, _, err := Backups(ctx, r, clusterName)
	now := time.Now().UTC().Format(repo.TimeForm)
	for _, b := range slices.Backward(all) {
		if _, broken := chainOf(all, b); b.Good() && broken == nil && b.ID <= now {
			return b.ID, nil
		}
	}
	return "", err
}

// Orphaned tells whether one of all backups is an increment to one that is missing or damaged, so that it cannot be restored.
func Orphaned(all []*Backup, b *Backup) bool {
	_, err := chainOf(all, b)
	return err != nil
}

// TakeIncrement is TakeBase of an increment to NewestParent. Where none can be made, it takes a full backup: where there is nothing yet, and where the server
// has no WAL summaries back to the parent (they were switched on later, or are older than wal_summary_keep_time), or has been restored to an earlier state since.
func TakeIncrement(ctx context.Context, r *repo.Repo, options BaseOptions) (*Backup, error) {
	var err error
	options.Parent, err = NewestParent(ctx, r, options.Cluster)
	if err = butDamaged(err); err != nil {
		return nil, err
	}
	b, err := TakeBase(ctx, r, options)
	if fault.HasKey(err, "keeper.parent_unfit") {
		options.Parent = ""
		return TakeBase(ctx, r, options)
	}
	return b, err
}

// uploadParent hands the server the manifest of the backup that the new one is an increment to. The server keeps it for this connection, and sends only
// the blocks that its WAL summaries say were changed since.
func (b *base) uploadParent(ctx context.Context) error {
	if b.server.Major < IncrementsSince {
		return fault.New(fault.Invalid, "keeper.no_increments", fault.Args{"version": b.server.version})
	}
	parent, err := OpenBackup(ctx, b.r, b.options.Cluster, b.options.Parent)
	if err != nil {
		return err
	}
	if parent.System != b.server.System {
		return fault.New(fault.Conflict, "repo.other_cluster", fault.Args{"place": b.r.String(), "name": b.options.Cluster})
	}
	if !parent.Good() {
		return fault.New(fault.Conflict, "keeper.parent_damaged", fault.Args{"id": parent.ID})
	}
	return parent.readPlain(ctx, b.r, parent.Manifest, func(in io.Reader) error { return b.server.upload(ctx, in) })
}

// upload is UPLOAD_MANIFEST.
func (s *sender) upload(ctx context.Context, manifest io.Reader) error {
	front := s.conn.Frontend()
	raw := s.conn.Conn()
	stop := context.AfterFunc(ctx, func() { _ = raw.Close() })
	defer stop()
	front.SendQuery(&pgproto3.Query{String: "UPLOAD_MANIFEST"})
	if err := front.Flush(); err != nil {
		return s.lost(err)
	}
	var refused error
	for {
		message, err := front.Receive()
		if err != nil {
			return s.lost(errors.Join(refused, err))
		}
		switch m := message.(type) {
		case *pgproto3.CopyInResponse:
			buffer := make([]byte, 32<<10)
			for {
				n, err := io.ReadFull(manifest, buffer)
				if n > 0 {
					front.Send(&pgproto3.CopyData{Data: buffer[:n]})
					if err := front.Flush(); err != nil {
						return s.lost(err)
					}
				}
				if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
					break
				}
				if err != nil {
					return err
				}
			}
			front.Send(&pgproto3.CopyDone{})
			if err := front.Flush(); err != nil {
				return s.lost(err)
			}
		case *pgproto3.ErrorResponse:
			refused = pgconn.ErrorResponseToPgError(m)
		case *pgproto3.ReadyForQuery:
			var err *pgconn.PgError
			if errors.As(refused, &err) {
				return s.refusedIncrement(err)
			}
			return nil
		}
	}
}

// refusedIncrement tells a parent that does not do from all else that PostgreSQL says (basebackup_incremental.c).
func (s *sender) refusedIncrement(err *pgconn.PgError) error {
	if err.Code == "55000" { // object_not_in_prerequisite_state
		return fault.Wrap(err, fault.Conflict, "keeper.parent_unfit", fault.Args{"message": err.Message})
	}
	return s.refused(err)
}
