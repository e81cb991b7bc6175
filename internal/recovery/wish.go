package recovery

import (
	"context"
	"errors"
	"slices"

	"github.com/jackc/pgx/v5"

	"howdah/internal/fault"
	"howdah/internal/keeper"
)

// Who asks for a recovery on behalf of somebody else gives the wish a name (Options.For), which is kept with what was done. So whoever was killed in between finds out what became of it, and nobody does it twice.

// turn is the advisory lock that a transaction of ours holds to its end.
const turn = 0x686f77646168 // "howdah"

// alone waits for our turn: one recovery at a time works on a database. A server whose client was killed notices that within seconds, where it can, and undoes what it was doing.
func alone(ctx context.Context, conn *pgx.Conn) error {
	_, err := conn.Exec(ctx, `SELECT pg_advisory_xact_lock($1)`, int64(turn))
	return err
}

// watchful has the server look whether we are still there while it works for us. Not every system can.
func watchful(ctx context.Context, conn *pgx.Conn) {
	_, _ = conn.Exec(ctx, `SET client_connection_check_interval = '5s'`)
}

// again refuses a wish that was granted before.
func again(ctx context.Context, conn *pgx.Conn, wish string) error {
	if wish == "" {
		return nil
	}
	all, err := list(ctx, conn)
	if at := slices.IndexFunc(all, func(d Done) bool { return d.For == wish }); err == nil && at >= 0 {
		err = fault.New(fault.Conflict, "recovery.done_before", fault.Args{"id": all[at].ID})
	}
	return err
}

// Find gives what was done for a wish, once nobody is at it any more; nil when nothing was. Who calls it knows that nobody begins again.
func Find(ctx context.Context, live keeper.Server, database, wish string) (*Done, error) {
	conn, err := live.ConnectAs(ctx, database, Application)
	if err != nil {
		return nil, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	if _, err := conn.Exec(ctx, `BEGIN`); err != nil {
		return nil, err
	}
	err = alone(ctx, conn)
	var all []Done
	if err == nil {
		all, err = list(ctx, conn)
	}
	_, end := conn.Exec(ctx, `ROLLBACK`)
	if err = errors.Join(err, end); err != nil {
		return nil, err
	}
	if at := slices.IndexFunc(all, func(d Done) bool { return d.For == wish && wish != "" }); at >= 0 {
		return &all[at], nil
	}
	return nil, nil
}
