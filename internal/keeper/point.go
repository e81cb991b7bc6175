package keeper

import (
	"context"
	"errors"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/jackc/pgx/v5/pgconn"

	"howdah/internal/fault"
	"howdah/internal/wal"
)

// maxPointName is the longest name of a restore point, in bytes (MAXFNAMELEN - 1 in xlog_internal.h).
const maxPointName = 63

// RestorePoint names this moment in the WAL of a running server, as its superuser, and gives the position behind it.
func RestorePoint(ctx context.Context, s Server, name string) (wal.LSN, error) {
	if name == "" || len(name) > maxPointName || !utf8.ValidString(name) || strings.ContainsFunc(name, unicode.IsControl) {
		return 0, fault.New(fault.Invalid, "keeper.point_name", fault.Args{"name": name})
	}
	conn, err := s.connect(ctx, "postgres")
	if err != nil {
		return 0, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	var text string
	err = conn.QueryRow(ctx, `SELECT pg_create_restore_point($1)::text`, name).Scan(&text)
	var refused *pgconn.PgError
	switch {
	case errors.As(err, &refused) && strings.Contains(refused.Message, "recovery is in progress"):
		return 0, fault.Wrap(err, fault.Conflict, "keeper.point_standby")
	case errors.As(err, &refused):
		return 0, fault.Wrap(err, fault.Forbidden, "keeper.point", fault.Args{"message": refused.Message})
	case err != nil:
		return 0, err
	}
	return wal.ParseLSN(text)
}
