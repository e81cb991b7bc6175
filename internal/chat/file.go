package chat

import (
	"context"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgtype"

	"howdah/internal/account"
	"howdah/internal/fault"
	"howdah/internal/pg"
)

// File is one of a message's files.
type File struct {
	N       int    `json:"n"` // 1, 2, ... in its message
	Content int64  `json:"content"`
	Name    string `json:"name"`
	Type    string `json:"type"` // what its bytes say it is
	Size    int64  `json:"size"`
	Width   int    `json:"width"` // of a picture that has a preview; 0: it has none
	Height  int    `json:"height"`
	Alt     string `json:"alt"`     // a picture in words
	Excerpt string `json:"excerpt"` // the beginning of a text
}

// FileDraft is a file that is posted with a message: an upload of its author that has come as a whole.
type FileDraft struct {
	Upload string // its id
	Alt    string // a picture in words; may be ""
}

// Limits of the files of a message.
const (
	MostFiles = 20
	maxAlt    = 1000
)

// filesColumn is the files of the message x, in order; NULL where it has none. A message without files costs no look-up.
const filesColumn = `
	CASE WHEN x.files IS NOT NULL AND x.deleted_at IS NULL THEN (
		SELECT jsonb_agg(jsonb_build_object('n', f.n, 'content', c.id, 'name', f.name, 'type', c.type, 'size', c.size, 'width', coalesce(c.width, 0), 'height', coalesce(c.height, 0),
			'alt', f.alt, 'excerpt', coalesce(c.excerpt, '')) ORDER BY f.n)
		FROM chat.file f JOIN chat.content c ON c.id = f.content_id WHERE f.room_id = x.room_id AND f.seq = x.seq) END`

// fileNames are those of the message m, by which it is found; NULL where it has none.
const fileNames = `CASE WHEN m.files IS NOT NULL THEN (SELECT string_agg(f.name, E'\n' ORDER BY f.n) FROM chat.file f WHERE f.room_id = m.room_id AND f.seq = m.seq) END`

// storeFiles gives the posts of this transaction their files. A post that was stored before has its own.
const storeFiles = `
WITH stored AS (
	INSERT INTO chat.file (room_id, seq, n, content_id, person_id, name, alt)
	SELECT m.room_id, m.seq, f.n, f.content_id, m.author_id, f.name, f.alt
	FROM unnest($1::bigint[], $2::bigint[], $3::uuid[], $4::smallint[], $5::bigint[], $6::text[], $7::text[]) AS f (room_id, author_id, client_id, n, content_id, name, alt)
	JOIN chat.message m USING (room_id, author_id, client_id) WHERE m.xmin = pg_current_xact_id()::xid
	RETURNING room_id, seq
)
UPDATE chat.message m SET files = s.n FROM (SELECT room_id, seq, count(*) AS n FROM stored GROUP BY room_id, seq) s WHERE m.room_id = s.room_id AND m.seq = s.seq`

// checkFiles refuses what cannot be files of a message, before anything is asked.
func checkFiles(drafts []FileDraft) ([]FileDraft, error) {
	if len(drafts) > MostFiles {
		return nil, fault.New(fault.TooLarge, "chat.files_many", fault.Args{"limit": MostFiles})
	}
	out := make([]FileDraft, len(drafts))
	for i, d := range drafts {
		if _, err := clientID(d.Upload); err != nil {
			return nil, err
		}
		if err := checkText(d.Alt, maxAlt); err != nil {
			return nil, err
		}
		out[i] = FileDraft{strings.ToLower(d.Upload), strings.Join(strings.Fields(d.Alt), " ")}
	}
	return out, nil
}

// bring finds what was uploaded for a post, before it joins the lane: posts without files wait for none of it. A retry of a post that is stored already needs no upload any more.
func (r *Rooms) bring(ctx context.Context, p *post, drafts []FileDraft) error {
	ctx, cancel := context.WithTimeout(ctx, commitTimeout)
	defer cancel()
	ids := make([]string, len(drafts))
	for i, d := range drafts {
		ids[i] = d.Upload
	}
	type row struct {
		Ord     int
		Done    bool
		Content int64
		Name    string
		Type    string
		Size    int64
		Width   int
		Height  int
		Excerpt string
	}
	rows, err := pg.All[row](ctx, r.db, `
		WITH mine AS (
			UPDATE chat.upload u SET touched_at = now() FROM unnest($2::uuid[]) AS w (id) WHERE u.person_id = $1 AND u.id = w.id
			RETURNING u.id, u.done, u.content_id, u.name
		)
		SELECT w.ord::int, u.done, c.id, u.name, c.type, c.size, coalesce(c.width, 0), coalesce(c.height, 0), coalesce(c.excerpt, '')
		FROM unnest($2::uuid[]) WITH ORDINALITY AS w (id, ord) JOIN mine u ON u.id = w.id JOIN chat.content c ON c.id = u.content_id ORDER BY w.ord`, p.author, ids)
	if err != nil {
		return err
	}
	for i, one := range rows {
		if !one.Done {
			return fault.New(fault.Conflict, "chat.file_unfinished", fault.Args{"name": one.Name})
		}
		p.files = append(p.files, File{N: i + 1, Content: one.Content, Name: one.Name, Type: one.Type, Size: one.Size, Width: one.Width, Height: one.Height, Alt: drafts[one.Ord-1].Alt, Excerpt: one.Excerpt})
	}
	if len(rows) == len(drafts) {
		return nil
	}
	type done struct{ Seq int64 }
	_, again, err := pg.One[done](ctx, r.db, `SELECT seq FROM chat.message WHERE room_id = $1 AND author_id = $2 AND client_id = $3`, p.room, p.author, p.client)
	if err == nil && !again {
		err = fault.New(fault.NotFound, "files.no_upload")
	}
	return err
}

// fileColumns are the files of a batch as arrays.
type fileColumns struct {
	rooms, authors []int64
	clients        []pgtype.UUID
	ns             []int16
	contents       []int64
	names, alts    []string
}

func (c *fileColumns) add(p *post) {
	for _, f := range p.files {
		c.rooms, c.authors, c.clients = append(c.rooms, p.room), append(c.authors, p.author), append(c.clients, p.client)
		c.ns, c.contents = append(c.ns, int16(f.N)), append(c.contents, f.Content) //nolint:gosec // at most MostFiles
		c.names, c.alts = append(c.names, f.Name), append(c.alts, f.Alt)
	}
}

// Shared is a file that somebody may read, as things stand.
type Shared struct {
	File
	SHA256 []byte
	At     time.Time // of its message
}

// File finds one of a message's files for who may read the room now: right, message and file are read in one statement. What is deleted has none.
func (r *Rooms) File(ctx context.Context, me account.Person, room, seq int64, n int) (Shared, error) {
	type row struct {
		Kind    Kind
		Role    account.Role
		Content *int64
		Name    string
		Type    string
		Size    int64
		Width   int
		Height  int
		SHA256  []byte
		At      *time.Time
	}
	found, ok, err := pg.One[row](ctx, r.db, `
		SELECT r.kind, coalesce(m.role, ''), c.id, coalesce(f.name, ''), coalesce(c.type, ''), coalesce(c.size, 0), coalesce(c.width, 0), coalesce(c.height, 0), c.sha256, x.at
		FROM chat.room r LEFT JOIN chat.member m ON m.room_id = r.id AND m.person_id = $1
		LEFT JOIN chat.message x ON x.room_id = r.id AND x.seq = $3 AND x.deleted_at IS NULL
		LEFT JOIN chat.file f ON f.room_id = x.room_id AND f.seq = x.seq AND f.n = $4
		LEFT JOIN chat.content c ON c.id = f.content_id AND c.sha256 IS NOT NULL
		WHERE r.id = $2`, me.ID, room, seq, n)
	switch {
	case err != nil:
		return Shared{}, err
	case !ok || !May(Read, standing(me, found.Kind, found.Role)):
		return Shared{}, errNoRoom
	case found.Content == nil:
		return Shared{}, fault.New(fault.NotFound, "chat.no_file")
	}
	return Shared{File{N: n, Content: *found.Content, Name: found.Name, Type: found.Type, Size: found.Size, Width: found.Width, Height: found.Height}, found.SHA256, *found.At}, nil
}

// gate counts those who are on their way, until it closes.
type gate struct {
	mu     sync.Mutex
	closed bool
	inside sync.WaitGroup
}

// begin lets one in who then calls end; false when it is closed.
func (g *gate) begin() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.closed {
		g.inside.Add(1)
	}
	return !g.closed
}

func (g *gate) end() { g.inside.Done() }

// close lets nobody in any more and returns when all are through.
func (g *gate) close() {
	g.mu.Lock()
	g.closed = true
	g.mu.Unlock()
	g.inside.Wait()
}
