package tell

import (
	"context"

	"github.com/jackc/pgx/v5"

	"howdah/internal/pg"
)

// The rooms' logs are followed behind everybody's back, as the search index does: nobody who posts waits for it. What is to be told, and how far the logs were
// looked at, is stored in one transaction.

// followLock is the advisory lock of the one node that follows.
const followLock = 0x74656c6c // "tell"

type stretch struct{ Room, From, Upto int64 }

// follow notes what is to be told since the last time.
func (t *Teller) follow(ctx context.Context) error {
	err := t.db.InTx(ctx, func(tx pgx.Tx) error {
		var work bool
		mails := t.options.Mail != nil
		if err := tx.QueryRow(ctx, `SELECT pg_try_advisory_xact_lock($1) AND (EXISTS (SELECT FROM chat.device) OR EXISTS (SELECT FROM chat.told WHERE mail > 0))`, followLock).Scan(&work); err != nil || !work {
			return err
		}
		// A log that is shorter than what was looked at is one of the past: what comes after it is told, and not what was told before.
		gaps, err := pg.All[stretch](ctx, tx, `
			SELECT r.id, least(coalesce(t.seq, 0), r.seq), r.seq FROM chat.room r LEFT JOIN chat.told_room t ON t.room_id = r.id WHERE t.seq IS DISTINCT FROM r.seq`)
		if err != nil || len(gaps) == 0 {
			return err
		}
		var rooms, from, upto []int64
		for _, g := range gaps {
			rooms, from, upto = append(rooms, g.Room), append(from, g.From), append(upto, g.Upto)
		}
		if _, err := tx.Exec(ctx, noteWhatIsToBeTold, rooms, from, upto, t.options.Delay, t.options.Pause, mails); err != nil {
			return err
		}
		if mails {
			if _, err := tx.Exec(ctx, `
				INSERT INTO chat.digest AS d (person_id, due_at) SELECT DISTINCT person_id, now() FROM chat.missed
				ON CONFLICT (person_id) DO UPDATE SET due_at = now(), planned = false, tries = 0 WHERE d.due_at IS NULL`); err != nil {
				return err
			}
		}
		_, err = tx.Exec(ctx, `INSERT INTO chat.told_room (room_id, seq) SELECT * FROM unnest($1::bigint[], $2::bigint[]) ON CONFLICT (room_id) DO UPDATE SET seq = excluded.seq`, rooms, upto)
		return err
	})
	return pg.Fault(err)
}

// noteWhatIsToBeTold has the rule that told.js has in the page: of stretches of rooms' logs ($1 rooms, after $2, up to $3) the newest message in each room and thread of which somebody with
// a device or, with $6, a mail wants to be told. What waits already waits no longer for it; after something was told there is a pause ($5), else a delay ($4) in which it may be read elsewhere.
const noteWhatIsToBeTold = `
WITH gap AS (
	SELECT g.*, r.kind FROM unnest($1::bigint[], $2::bigint[], $3::bigint[]) AS g (room_id, since, upto) JOIN chat.room r ON r.id = g.room_id
), who AS MATERIALIZED (
	SELECT g.*, m.person_id, m.read_seq, coalesce(m.bell, CASE WHEN g.kind IN ('direct', 'ops') THEN 'all' ELSE coalesce(s.bell, 'mentions') END) AS bell
	FROM gap g JOIN chat.member m ON m.room_id = g.room_id JOIN account.person p ON p.id = m.person_id AND p.disabled_at IS NULL
	LEFT JOIN chat.told s ON s.person_id = m.person_id
	WHERE (EXISTS (SELECT FROM chat.device d WHERE d.person_id = m.person_id) OR $6 AND ` + wantsMail + `) AND m.bell IS DISTINCT FROM 'nothing' AND (m.mute_until IS NULL OR m.mute_until <= now())
), thread AS MATERIALIZED (
	SELECT DISTINCT x.room_id, x.thread FROM gap g JOIN chat.message x ON x.room_id = g.room_id AND x.seq > g.since AND x.seq <= g.upto WHERE x.thread IS NOT NULL AND EXISTS (SELECT FROM who w WHERE w.room_id = g.room_id)
), found AS (
	SELECT w.room_id, w.person_id, 0::bigint AS thread, x.seq FROM who w CROSS JOIN LATERAL (
		SELECT x.seq FROM chat.message x WHERE w.bell = 'all' AND x.room_id = w.room_id AND x.seq > greatest(w.since, w.read_seq) AND x.seq <= w.upto
			AND x.author_id <> w.person_id AND x.deleted_at IS NULL AND (x.thread IS NULL OR x.aloud OR w.kind = 'direct') ORDER BY x.seq DESC LIMIT 1) x
	UNION ALL
	SELECT w.room_id, w.person_id, x.thread, x.seq FROM who w CROSS JOIN LATERAL (
		SELECT CASE WHEN x.thread IS NULL OR x.aloud THEN 0 ELSE x.thread END AS thread, max(x.seq) AS seq
		FROM chat.mention n JOIN chat.message x ON x.room_id = n.room_id AND x.seq = n.seq
		LEFT JOIN chat.follow f ON f.room_id = x.room_id AND f.thread = x.thread AND f.person_id = w.person_id
		WHERE w.bell <> 'nothing' AND n.room_id = w.room_id AND n.person_id IN (w.person_id, 0) AND n.seq > w.since AND n.seq <= w.upto
			AND n.seq > CASE WHEN x.thread IS NULL OR x.aloud THEN w.read_seq ELSE coalesce(f.read_seq, 0) END
			AND x.author_id <> w.person_id AND x.deleted_at IS NULL AND f.silent IS NOT TRUE AND (f.mute_until IS NULL OR f.mute_until <= now()) GROUP BY 1) x
	UNION ALL
	SELECT w.room_id, w.person_id, x.thread, x.seq FROM who w JOIN thread t ON t.room_id = w.room_id
	JOIN chat.follow f ON f.room_id = w.room_id AND f.thread = t.thread AND f.person_id = w.person_id AND f.following AND (f.mute_until IS NULL OR f.mute_until <= now())
	CROSS JOIN LATERAL (
		SELECT CASE WHEN x.aloud THEN 0 ELSE x.thread END AS thread, x.seq FROM chat.message x
		WHERE w.bell <> 'nothing' AND x.room_id = w.room_id AND x.thread = t.thread AND x.seq > greatest(w.since, f.read_seq) AND x.seq <= w.upto AND x.author_id <> w.person_id AND x.deleted_at IS NULL
		ORDER BY x.seq DESC LIMIT 1) x
), newest AS (SELECT room_id, person_id, thread, max(seq) AS seq FROM found GROUP BY 1, 2, 3), missed AS (
	INSERT INTO chat.missed AS m (person_id, room_id, thread, first, seq) SELECT n.person_id, n.room_id, n.thread, g.since + 1, n.seq FROM newest n JOIN gap g USING (room_id) JOIN chat.told s USING (person_id)
	WHERE $6 AND ` + wantsMail + ` ON CONFLICT (person_id, room_id, thread) DO UPDATE SET seq = greatest(m.seq, excluded.seq)
)
INSERT INTO chat.push AS p (device_id, room_id, thread, seq, due_at)
SELECT d.id, n.room_id, n.thread, n.seq, now() + $4::interval FROM newest n JOIN chat.device d USING (person_id)
ON CONFLICT (device_id, room_id, thread) DO UPDATE SET seq = excluded.seq, tries = CASE WHEN p.due_at IS NULL THEN 0 ELSE p.tries END,
	due_at = coalesce(p.due_at, greatest(excluded.due_at, p.told_at + $5::interval))
WHERE p.seq <> excluded.seq`
