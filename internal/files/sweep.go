package files

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"howdah/internal/pg"
)

// How long what nobody needs is kept, and when it is looked for.
const (
	sweepEvery = 10 * time.Minute
	sweepFirst = time.Minute
	keepLoose  = 24 * time.Hour      // a content that no message has
	keepLost   = 14 * 24 * time.Hour // one whose messages are deleted, or gone from their table: they may come back, and it with them
	sweepRows  = 8192                // rows of a content that go in one transaction: some 64 MiB
)

// sweepLock is the advisory lock of the one node that sweeps.
const sweepLock = 0x66696c65 // "file"

func (s *Store) sweepAll() {
	wait := time.NewTimer(sweepFirst)
	defer wait.Stop()
	for {
		select {
		case <-s.ctx.Done():
			return
		case <-wait.C:
		}
		_, _ = s.Sweep(s.ctx, time.Now()) // the next one does what this could not
		wait.Reset(sweepEvery)
	}
}

// Sweep takes away what nobody needs as of now, and tells how many contents went: uploads that were left alone, contents that no message and no upload has, and what
// was left of those. Another node that does so at the moment is left alone.
func (s *Store) Sweep(ctx context.Context, now time.Time) (gone int, err error) {
	conn, err := s.db.Acquire(ctx)
	if err != nil {
		return 0, pg.Fault(err)
	}
	defer conn.Release()
	var mine bool
	if err := conn.QueryRow(ctx, `SELECT pg_try_advisory_lock($1)`, sweepLock).Scan(&mine); err != nil || !mine {
		return 0, pg.Fault(err)
	}
	defer func() {
		_, unlockErr := conn.Exec(context.WithoutCancel(ctx), `SELECT pg_advisory_unlock($1)`, sweepLock)
		if err == nil {
			err = pg.Fault(unlockErr)
		}
	}()
	for _, step := range []struct {
		sql  string
		args []any
	}{
		{`DELETE FROM chat.upload WHERE touched_at < $1`, []any{now.Add(-keepUploads)}},
		{`UPDATE chat.content c SET loose_at = NULL WHERE loose_at IS NOT NULL AND (` + held + `)`, nil},
		{`UPDATE chat.content c SET loose_at = $1 WHERE loose_at IS NULL AND NOT (` + held + `)`, []any{now}},
	} {
		if _, err := conn.Exec(ctx, step.sql, step.args...); err != nil {
			return 0, pg.Fault(err)
		}
	}
	type row struct{ ID int64 }
	loose, err := pg.All[row](ctx, conn, `
		SELECT id FROM chat.content c WHERE loose_at IS NOT NULL AND (sha256 IS NULL OR loose_at <= CASE WHEN EXISTS (SELECT FROM chat.file f WHERE f.content_id = c.id) THEN $2::timestamptz ELSE $1::timestamptz END)
		ORDER BY id`, now.Add(-keepLoose), now.Add(-keepLost))
	for _, one := range loose {
		if err == nil {
			err = drop(ctx, conn.Conn(), one.ID)
			gone++
		}
	}
	return gone, err
}

// held is a content c that something needs.
const held = `EXISTS (SELECT FROM chat.upload u WHERE u.content_id = c.id)
	OR EXISTS (SELECT FROM chat.file f JOIN chat.message m ON m.room_id = f.room_id AND m.seq = f.seq WHERE f.content_id = c.id AND m.deleted_at IS NULL)`

// drop takes a content away: first its hash, so that no upload is given it any more, then its rows, some at a time.
func drop(ctx context.Context, conn *pgx.Conn, id int64) error {
	kept := false
	err := pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `SELECT FROM chat.content WHERE id = $1 FOR UPDATE`, id); err != nil {
			return err
		}
		// Its own statement: it sees who took the content before the lock was ours.
		if err := tx.QueryRow(ctx, `SELECT coalesce(bool_or(`+held+`), true) FROM chat.content c WHERE id = $1`, id).Scan(&kept); err != nil || kept {
			return err
		}
		if _, err := tx.Exec(ctx, `DELETE FROM chat.file WHERE content_id = $1`, id); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, `UPDATE chat.content SET sha256 = NULL WHERE id = $1`, id)
		return err
	})
	if err != nil || kept {
		return pg.Fault(err)
	}
	for n := int64(1); n > 0; {
		done, err := conn.Exec(ctx, `DELETE FROM chat.content_part WHERE content_id = $1 AND at IN (SELECT at FROM chat.content_part WHERE content_id = $1 ORDER BY at LIMIT $2)`, id, sweepRows)
		if err != nil {
			return pg.Fault(err)
		}
		n = done.RowsAffected()
	}
	_, err = conn.Exec(ctx, `DELETE FROM chat.content WHERE id = $1`, id)
	return pg.Fault(err)
}
