package chat

import (
	"context"
	"math"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"howdah/internal/fault"
	"howdah/internal/pg"
	"howdah/internal/search"
)

// The index follows the rooms' logs behind everybody's back: nobody who posts waits for it. What it does not have yet, Search looks through where it stands.

const (
	indexLeast    = 512      // messages are worth a part
	indexMost     = 1 << 17  // messages a part has, about
	indexBytes    = 64 << 20 // of text are in memory at once, about
	mergeAtOnce   = 16       // parts of a kind become one
	indexSmall    = 1 << 13  // messages: below is a kind of part
	indexLook     = 2 * time.Second
	indexLookIdle = time.Minute
)

// indexLock is the advisory lock of the one node that writes the index.
const indexLock = 0x73656172 // "sear"

// gap is what of a room's log the index does not have: posts after Posts, and changes after Changes, up to Top.
type gap struct{ Room, Top, Posts, Changes int64 }

// gaps of these rooms; nil: of all. A log that is shorter than what the index has, or whose messages came back as a whole, is read from its beginning.
func gaps(ctx context.Context, q pg.Queryer, rooms []int64) ([]gap, error) {
	found, err := pg.All[gap](ctx, q, `
		SELECT g.id, g.seq, CASE WHEN back.seq IS NULL THEN g.posts ELSE 0 END, greatest(g.changes, back.seq)
		FROM (
			SELECT r.id, r.seq, CASE WHEN s.changes <= r.seq THEN s.posts ELSE 0 END AS posts, CASE WHEN s.changes <= r.seq THEN s.changes ELSE 0 END AS changes
			FROM chat.room r LEFT JOIN chat.search_room s ON s.room_id = r.id
			WHERE ($1::bigint[] IS NULL OR r.id = ANY($1)) AND (s.room_id IS NULL OR s.posts <> r.seq)) g
		LEFT JOIN LATERAL (SELECT max(c.seq) AS seq FROM chat.change c
			WHERE c.room_id = g.id AND c.seq > g.changes AND c.kind = 'restored' AND c.person_id IS NULL) back ON true
		ORDER BY g.id`, rooms)
	return found, err
}

// followIndex keeps the index near the logs until ctx ends. What goes wrong is tried again at the next look.
func (r *Rooms) followIndex(ctx context.Context) {
	idle := time.NewTicker(indexLookIdle)
	defer idle.Stop()
	for {
		for more := true; more && ctx.Err() == nil; {
			var err error
			if more, err = r.IndexSome(ctx, indexLeast); err != nil {
				break
			}
		}
		wait := time.NewTimer(indexLook) // however much is posted, one look in a while
		select {
		case <-ctx.Done():
			wait.Stop()
			return
		case <-wait.C:
		}
		select {
		case <-ctx.Done():
			return
		case <-r.grown:
		case <-idle.C:
		}
	}
}

// nudgeIndex says that there is more to index.
func (r *Rooms) nudgeIndex() {
	select {
	case r.grown <- struct{}{}:
	default:
	}
}

// IndexSome takes the oldest messages that are not in the search index into it, if there are at least so many, and puts parts of the index together. more: there is more to do. Another node that
// does so at the moment is left alone.
func (r *Rooms) IndexSome(ctx context.Context, least int) (more bool, err error) {
	err = r.inIndex(ctx, func(tx pgx.Tx) error {
		more, err = indexSome(ctx, tx, int64(least))
		return err
	})
	if err != nil {
		return false, err
	}
	err = r.inIndex(ctx, func(tx pgx.Tx) error {
		merged, err := mergeSome(ctx, tx)
		more = more || merged
		return err
	})
	return more, err
}

// inIndex runs work in a transaction of one snapshot as the one who writes the index. It is not tried again here: somebody else may have done it.
func (r *Rooms) inIndex(ctx context.Context, work func(pgx.Tx) error) error {
	err := pgx.BeginTxFunc(ctx, r.db, pgx.TxOptions{IsoLevel: pgx.RepeatableRead}, func(tx pgx.Tx) error {
		var mine bool
		if err := tx.QueryRow(ctx, `SELECT pg_try_advisory_xact_lock($1)`, indexLock).Scan(&mine); err != nil || !mine {
			return err
		}
		return work(tx)
	})
	if pg.Code(err) == "40001" || pg.Code(err) == "23505" { // it was written between our snapshot and our lock
		return nil
	}
	return pg.Fault(err)
}

// stretch is a part of a room's log that is taken into the index: up to Upto.
type stretch struct {
	Room, Upto, Bytes int64
	More              bool
}

func indexSome(ctx context.Context, tx pgx.Tx, least int64) (more bool, err error) {
	open, err := gaps(ctx, tx, nil)
	if err != nil {
		return false, err
	}
	var missing, most int64
	var rooms, posts, changes, tops []int64
	for _, g := range open {
		missing, most = missing+g.Top-min(g.Posts, g.Changes), max(most, g.Top-g.Posts)
		rooms, posts, changes, tops = append(rooms, g.Room), append(posts, g.Posts), append(changes, g.Changes), append(tops, g.Top)
	}
	if missing < max(least, 1) {
		return false, nil
	}
	// Of every room so much as lies before one moment, so that parts follow each other in time: as much as the busiest room's share of a part.
	var taken []stretch
	for each := max(indexMost*most/missing, 16); ; each /= 4 {
		taken, err = pg.All[stretch](ctx, tx, `
			WITH first AS MATERIALIZED (
				SELECT g.room_id, g.top, m.seq, m.at, octet_length(m.body) AS bytes, row_number() OVER (PARTITION BY g.room_id ORDER BY m.seq) AS n
				FROM unnest($1::bigint[], $2::bigint[], $3::bigint[]) AS g (room_id, posts, top)
				CROSS JOIN LATERAL (SELECT seq, at, body FROM chat.message x WHERE x.room_id = g.room_id AND x.seq > g.posts AND x.seq <= g.top ORDER BY x.seq LIMIT $4) m
			), moment AS (SELECT coalesce(min(at), 'infinity') AS at FROM first WHERE n = $4),
			upto AS (SELECT room_id, max(seq) AS seq FROM first WHERE at <= (SELECT at FROM moment) GROUP BY room_id)
			SELECT f.room_id, CASE WHEN bool_or(f.seq > coalesce(u.seq, 0) OR f.n = $4) THEN coalesce(u.seq, 0) ELSE max(f.top) END,
			       coalesce(sum(f.bytes) FILTER (WHERE f.seq <= u.seq), 0)::bigint, bool_or(f.seq > coalesce(u.seq, 0) OR f.n = $4)
			FROM first f LEFT JOIN upto u USING (room_id) GROUP BY f.room_id, u.seq`, rooms, posts, tops, each)
		if err != nil {
			return false, err
		}
		var bytes int64
		for _, s := range taken {
			bytes += s.Bytes
		}
		if bytes <= indexBytes || each < 4 {
			break
		}
	}
	upto := slices.Clone(tops) // a room without messages there has only changes
	for _, s := range taken {
		i, _ := slices.BinarySearch(rooms, s.Room)
		if upto[i] = max(s.Upto, posts[i]); s.More {
			more = true
		}
	}
	part, err := readPart(ctx, tx, rooms, posts, changes, upto)
	if err != nil {
		return false, err
	}
	if _, err := storePart(ctx, tx, part); err != nil {
		return false, err
	}
	_, err = tx.Exec(ctx, `
		INSERT INTO chat.search_room (room_id, posts, changes) SELECT g.room_id, g.upto, greatest(g.changes, g.upto) FROM unnest($1::bigint[], $2::bigint[], $3::bigint[]) AS g (room_id, changes, upto)
		ON CONFLICT (room_id) DO UPDATE SET posts = excluded.posts, changes = excluded.changes`, rooms, changes, upto)
	return more, err
}

// unindexed are messages that stand: those after $2, up to $4, and what changed after $3 of those before. It wants arrays of rooms and these seqs, and how many at most of each room.
const unindexed = `
	SELECT m.room_id, m.seq, m.author_id, m.at, m.body, ` + fileNames + `
	FROM unnest($1::bigint[], $2::bigint[], $4::bigint[]) AS g (room_id, posts, upto)
	CROSS JOIN LATERAL (SELECT * FROM chat.message x WHERE x.room_id = g.room_id AND x.seq > g.posts AND x.seq <= g.upto ORDER BY x.seq LIMIT $5) m
	WHERE m.deleted_at IS NULL
	UNION ALL
	SELECT m.room_id, m.seq, m.author_id, m.at, m.body, ` + fileNames + `
	FROM (SELECT DISTINCT c.room_id, c.message_seq FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[]) AS g (room_id, posts, changes, upto)
		CROSS JOIN LATERAL (SELECT * FROM chat.change x WHERE x.room_id = g.room_id AND x.seq > g.changes AND x.seq <= g.upto ORDER BY x.seq LIMIT $5) c
		WHERE c.message_seq <= g.posts AND c.kind NOT IN ('delete', 'react', 'pin', 'card')) c
	CROSS JOIN LATERAL (SELECT * FROM chat.message x WHERE x.room_id = c.room_id AND x.seq = c.message_seq) m
	WHERE m.deleted_at IS NULL`

// words is what the index and a search read of a message.
type words struct {
	Room, Seq, Author int64
	At                time.Time
	Body              string
	Names             *string // of its files; nil: it has none
}

// text is what it is found by: its words, and below them the names of its files.
func (w *words) text() string {
	if w.Names == nil {
		return w.Body
	}
	return w.Body + "\n" + *w.Names
}

func (w *words) post() search.Post {
	return search.Post{At: w.At.UnixMicro(), Room: w.Room, Seq: w.Seq}
}

func readPart(ctx context.Context, tx pgx.Tx, rooms, posts, changes, upto []int64) (*search.Part, error) {
	found, err := pg.All[words](ctx, tx, unindexed, rooms, posts, changes, upto, int64(math.MaxInt64))
	if err != nil {
		return nil, err
	}
	slices.SortFunc(found, func(a, b words) int { return a.post().Compare(b.post()) })
	var b search.Builder
	for i := range found {
		terms := []string{search.AuthorTerm(found[i].Author)}
		if found[i].Names != nil {
			terms = append(terms, search.FileTerm)
		}
		b.Add(found[i].post(), found[i].text(), terms...)
		found[i].Body, found[i].Names = "", nil
	}
	return b.Part(), nil
}

// storePart gives the number under which it is stored; 0 where there is nothing to store.
func storePart(ctx context.Context, tx pgx.Tx, p *search.Part) (id int64, err error) {
	if len(p.Posts) == 0 {
		return 0, nil
	}
	if err := tx.QueryRow(ctx, `INSERT INTO chat.search_part (messages, bytes, last_at) VALUES ($1, $2, $3) RETURNING id`,
		len(p.Posts), p.Bytes(), p.Posts[len(p.Posts)-1].At).Scan(&id); err != nil {
		return 0, err
	}
	if _, err := tx.CopyFrom(ctx, pgx.Identifier{"chat", "search_block"}, []string{"part_id", "first", "data"}, pgx.CopyFromSlice(len(p.Blocks), func(i int) ([]any, error) {
		return []any{id, p.Blocks[i].First, p.Blocks[i].Data}, nil
	})); err != nil {
		return 0, err
	}
	pages := p.Pages()
	_, err = tx.CopyFrom(ctx, pgx.Identifier{"chat", "search_page"}, []string{"part_id", "number", "last_at", "data"}, pgx.CopyFromSlice(len(pages), func(i int) ([]any, error) {
		return []any{id, pages[i].Number, pages[i].LastAt, pages[i].Data}, nil
	}))
	return id, err
}

// mergeSome makes one part of many small ones.
func mergeSome(ctx context.Context, tx pgx.Tx) (bool, error) {
	type row struct {
		ID       int64
		Messages int
		Bytes    int64
	}
	all, err := pg.All[row](ctx, tx, `SELECT id, messages, bytes FROM chat.search_part ORDER BY last_at, id`)
	if err != nil {
		return false, err
	}
	kinds := [2][]row{}
	for _, p := range all {
		switch {
		case p.Bytes > indexBytes/4:
		case p.Messages < indexSmall:
			kinds[0] = append(kinds[0], p)
		case p.Messages < indexMost:
			kinds[1] = append(kinds[1], p)
		}
	}
	for _, kind := range kinds {
		if len(kind) < mergeAtOnce {
			continue
		}
		var ids []int64
		messages, bytes := 0, int64(0)
		for _, p := range kind {
			if len(ids) > 1 && (messages+p.Messages > indexMost*5/4 || bytes+p.Bytes > indexBytes) {
				break
			}
			ids, messages, bytes = append(ids, p.ID), messages+p.Messages, bytes+p.Bytes
		}
		return true, merge(ctx, tx, ids)
	}
	return false, nil
}

func merge(ctx context.Context, tx pgx.Tx, ids []int64) error {
	var parts []*search.Part
	for _, id := range ids {
		p, torn, err := openWhole(ctx, tx, id)
		if err != nil {
			return err
		}
		if torn {
			return forgetIndex(ctx, tx)
		}
		parts = append(parts, p)
	}
	whole, err := search.Merge(parts)
	if err != nil { // somebody wrote there who should not
		return forgetIndex(ctx, tx)
	}
	if err := dropParts(ctx, tx, ids); err != nil {
		return err
	}
	_, err = storePart(ctx, tx, whole)
	return err
}

// openWhole reads a part of the index into memory; one that is not there has no posts.
func openWhole(ctx context.Context, tx pgx.Tx, id int64) (p *search.Part, torn bool, err error) {
	p = &search.Part{}
	pages, err := pg.All[struct{ Data []byte }](ctx, tx, `SELECT data FROM chat.search_page WHERE part_id = $1 ORDER BY number`, id)
	if err != nil {
		return nil, false, err
	}
	for _, page := range pages {
		posts, err := search.ReadPage(page.Data)
		if err != nil {
			return nil, true, nil //nolint:nilerr // it is made anew
		}
		p.Posts = append(p.Posts, posts...)
	}
	p.Blocks, err = pg.All[search.Block](ctx, tx, `SELECT first, data FROM chat.search_block WHERE part_id = $1 ORDER BY first`, id)
	return p, false, err
}

func dropParts(ctx context.Context, tx pgx.Tx, ids []int64) error {
	for _, sql := range []string{`DELETE FROM chat.search_block WHERE part_id = ANY($1)`, `DELETE FROM chat.search_page WHERE part_id = ANY($1)`, `DELETE FROM chat.search_part WHERE id = ANY($1)`} {
		if _, err := tx.Exec(ctx, sql, ids); err != nil {
			return err
		}
	}
	return nil
}

// forgetIndex empties the index, so that it is made anew.
func forgetIndex(ctx context.Context, tx pgx.Tx) error {
	_, err := tx.Exec(ctx, `WITH a AS (DELETE FROM chat.search_block), b AS (DELETE FROM chat.search_page), c AS (DELETE FROM chat.search_part) DELETE FROM chat.search_room`)
	return err
}

// Reindex forgets the search index and makes it anew.
func (r *Rooms) Reindex(ctx context.Context) error {
	forgotten := false
	err := r.inIndex(ctx, func(tx pgx.Tx) error {
		forgotten = true
		return forgetIndex(ctx, tx)
	})
	if err == nil && !forgotten { // another node writes it at the moment
		err = fault.New(fault.Unavailable, "search.building")
	}
	if err != nil {
		return err
	}
	for more := true; more; {
		var err error
		if more, err = r.IndexSome(ctx, 1); err != nil {
			return err
		}
	}
	return nil
}
