package pg

import (
	"context"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
)

// MigrateTo brings the schema up to a version and no further.
func MigrateTo(ctx context.Context, ownerDSN string, version int64) error {
	config, err := pgx.ParseConfig(ownerDSN)
	if err != nil {
		return err
	}
	db := stdlib.OpenDB(*config)
	defer db.Close()
	provider, err := migrator(db)
	if err != nil {
		return err
	}
	_, err = provider.UpTo(ctx, version)
	return err
}
