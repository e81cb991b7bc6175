package cli

import (
	"context"

	"github.com/jackc/pgx/v5"

	"howdah/internal/chat"
	"howdah/internal/cluster"
	"howdah/internal/pg"
	"howdah/internal/recovery"
)

// tellRooms lets the rooms of the house know that messages of theirs came back: open windows show them again, and each room says how many there were. It does nothing where what came back is not the chat's.
func (c *recoverTableCmd) tellRooms(ctx context.Context, live alive, d *recovery.Done) (n int, err error) {
	if c.known != nil || c.AdminDSN != "" || live.database != cluster.Database || d.Mode != recovery.Merge && d.Mode != recovery.Replace {
		return 0, nil
	}
	for _, table := range d.Tables {
		if table.Schema != "chat" || table.Name != "message" {
			continue
		}
		back := chat.Back{Whole: d.Mode == recovery.Replace, Messages: map[int64][]int64{}}
		conn, err := live.server.ConnectAs(ctx, live.database, recovery.Application)
		if err != nil {
			return n, err
		}
		for _, part := range []string{table.Put, table.Over} {
			if part == "" || err != nil {
				continue
			}
			var rows pgx.Rows
			if rows, err = conn.Query(ctx, `SELECT room_id, seq FROM `+pgx.Identifier{d.Schema(), part}.Sanitize()); err != nil {
				continue
			}
			var room, seq int64
			_, err = pgx.ForEachRow(rows, []any{&room, &seq}, func() error {
				back.Messages[room] = append(back.Messages[room], seq)
				return nil
			})
		}
		_ = conn.Close(context.WithoutCancel(ctx))
		if err != nil {
			return n, err
		}
		house, err := cluster.New(c.Data, live.server.Programs, cluster.Options{Account: live.account})
		if err != nil {
			return n, err
		}
		dsn, err := house.DSN(cluster.App, cluster.Database) // as the chat itself would, so it alarms nobody
		if err != nil {
			return n, err
		}
		db, err := pg.Open(ctx, dsn, pg.Options{MaxConns: 1})
		if err != nil {
			return n, err
		}
		told, err := chat.Recovered(ctx, db, back)
		db.Close()
		if n += told; err != nil {
			return n, err
		}
	}
	return n, nil
}
