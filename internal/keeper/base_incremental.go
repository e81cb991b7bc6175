package keeper

import (
	"context"
	"errors"
	"io"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"howdah/internal/fault"
)

// uploadParent hands the server the manifest of the backup that the new one is an increment to. The server keeps it for this connection, and sends only
// the blocks that its WAL summaries say were changed since.
func (b *base) uploadParent(ctx context.Context) error {
	if b.server.Major < 17 {
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
				return s.refused(err)
			}
			return nil
		}
	}
}
