package files

import (
	"context"
	"crypto/sha256"
	"encoding"
	"encoding/binary"
	"errors"
	"hash"
	"io"
	"slices"
	"strings"
	"sync"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"howdah/internal/fault"
	"howdah/internal/pg"
)

// Upload is a file on its way: all before Received is stored. Done: it can be posted.
type Upload struct {
	ID       string
	Name     string
	Size     int64
	Received int64
	Done     bool
	Content  int64
}

// Draft is an upload to be begun.
type Draft struct {
	ID   string // a UUID made by the client, the same in every retry
	Name string
	Size int64
}

const uploadColumns = `id::text, name, size, received, done, content_id`

func uploadID(id string) (out pgtype.UUID, err error) {
	if len(id) != 36 || out.Scan(id) != nil {
		return out, fault.New(fault.Invalid, "chat.client_id")
	}
	return out, nil
}

// Begin makes room for a file. Again, with the same id, name and size, gives it as it stands.
func (s *Store) Begin(ctx context.Context, person int64, d Draft) (Upload, error) {
	id, err := uploadID(d.ID)
	if err != nil {
		return Upload{}, err
	}
	name := CleanName(d.Name)
	switch {
	case d.Size < 0:
		return Upload{}, fault.New(fault.Invalid, "files.size")
	case s.limits.File > 0 && d.Size > s.limits.File:
		return Upload{}, fault.New(fault.TooLarge, "files.too_large", fault.Args{"limit": size(s.limits.File)})
	case slices.Contains(s.limits.Refused, strings.ToLower(ending(name))):
		return Upload{}, fault.New(fault.Invalid, "files.refused", fault.Args{"ending": ending(name)})
	}
	if u, err := s.Upload(ctx, person, d.ID); !fault.HasKey(err, "files.no_upload") {
		if err == nil && (u.Size != d.Size || u.Name != name) {
			err = fault.New(fault.Conflict, "files.other")
		}
		return u, err
	}
	type taken struct {
		Mine, House int64
		Open        int
	}
	now, _, err := pg.One[taken](ctx, s.db, `
		SELECT (SELECT coalesce(sum(c.size), 0) FROM chat.file f JOIN chat.content c ON c.id = f.content_id WHERE f.person_id = $1)::bigint
		     + (SELECT coalesce(sum(u.size), 0) FROM chat.upload u WHERE u.person_id = $1 AND NOT EXISTS (SELECT FROM chat.file f WHERE f.content_id = u.content_id AND f.person_id = $1))::bigint,
		       CASE WHEN $2 THEN (SELECT coalesce(sum(size), 0) FROM chat.content) ELSE 0 END::bigint,
		       (SELECT count(*) FROM chat.upload WHERE person_id = $1 AND NOT done)::int`, person, s.limits.House > 0)
	switch {
	case err != nil:
		return Upload{}, err
	case s.limits.Person > 0 && now.Mine+d.Size > s.limits.Person:
		return Upload{}, fault.New(fault.TooLarge, "files.quota", fault.Args{"limit": size(s.limits.Person)})
	case s.limits.House > 0 && now.House+d.Size > s.limits.House:
		return Upload{}, fault.New(fault.TooLarge, "files.house_full", fault.Args{"limit": size(s.limits.House)})
	case now.Open >= mostOpen:
		return Upload{}, fault.New(fault.RateLimited, "files.too_many", fault.Args{"limit": mostOpen})
	}
	var u Upload
	err = s.db.InTx(ctx, func(tx pgx.Tx) error {
		var content int64
		if err := tx.QueryRow(ctx, `INSERT INTO chat.content (size) VALUES ($1) RETURNING id`, d.Size).Scan(&content); err != nil {
			return err
		}
		var made bool
		u, made, err = pg.One[Upload](ctx, tx, `INSERT INTO chat.upload (person_id, id, name, size, content_id) VALUES ($1, $2, $3, $4, $5)
			ON CONFLICT DO NOTHING RETURNING `+uploadColumns, person, id, name, d.Size, content)
		if err == nil && !made { // another try came first
			err = errAgain
		}
		return err
	})
	if errors.Is(err, errAgain) {
		return s.Upload(ctx, person, d.ID)
	}
	if err == nil && u.Size == 0 {
		return s.finish(ctx, person, u)
	}
	return u, err
}

var errAgain = errors.New("again")

// Upload is one of a person's as it stands.
func (s *Store) Upload(ctx context.Context, person int64, id string) (Upload, error) {
	key, err := uploadID(id)
	if err != nil {
		return Upload{}, err
	}
	u, ok, err := pg.One[Upload](ctx, s.db, `SELECT `+uploadColumns+` FROM chat.upload WHERE person_id = $1 AND id = $2`, person, key)
	if err == nil && !ok {
		err = fault.New(fault.NotFound, "files.no_upload")
	}
	if err == nil && !u.Done && u.Received == u.Size { // we were stopped just before its end
		return s.finish(ctx, person, u)
	}
	return u, err
}

// Cancel forgets an upload; one that is not there is success. What it brought is taken away later.
func (s *Store) Cancel(ctx context.Context, person int64, id string) error {
	key, err := uploadID(id)
	if err != nil {
		return err
	}
	_, err = s.db.Exec(ctx, `DELETE FROM chat.upload WHERE person_id = $1 AND id = $2`, person, key)
	return pg.Fault(err)
}

// stretches are buffers for what is under way.
var stretches = sync.Pool{New: func() any { return new([stretch]byte) }}

// Append stores what body gives, which begins at an offset of the file that has to be the one up to which it was received: else it is refused (files.offset) with the right one.
// It gives the upload as it then stands. When body breaks off, what came is stored, and the error is body's. More than the file's size is refused, and none of it stored that lies behind.
func (s *Store) Append(ctx context.Context, person int64, id string, offset int64, body io.Reader) (Upload, error) {
	if err := s.begin(person); err != nil {
		return Upload{}, err
	}
	defer s.end(person)
	u, err := s.Upload(ctx, person, id)
	if err != nil {
		return u, err
	}
	if offset != u.Received {
		return u, fault.New(fault.Conflict, "files.offset", fault.Args{"offset": u.Received})
	}
	buffer := stretches.Get().(*[stretch]byte)
	defer stretches.Put(buffer)
	for u.Received < u.Size {
		n, err := io.ReadFull(body, buffer[:min(stretch, u.Size-u.Received)])
		if n > 0 {
			// What has come is worth storing also when whoever sent it is gone.
			if err := s.store(context.WithoutCancel(ctx), person, &u, buffer[:n]); err != nil {
				return u, err
			}
		}
		switch {
		case err == nil:
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF): // the end of the body, or of the connection: the offset says it
			return u, nil
		default:
			return u, err
		}
	}
	if !u.Done {
		if u, err = s.finish(context.WithoutCancel(ctx), person, u); err != nil {
			return u, err
		}
	}
	if n, _ := io.ReadFull(body, make([]byte, 1)); n > 0 {
		return u, fault.New(fault.Invalid, "files.more", fault.Args{"size": u.Size})
	}
	return u, nil
}

// store puts a stretch of bytes behind what has come. It need not be on disk before the next: whoever sends keeps all until the end, which is durable, and asks where to go on.
func (s *Store) store(ctx context.Context, person int64, u *Upload, data []byte) error {
	ctx, cancel := context.WithTimeout(ctx, storeFor)
	defer cancel()
	next := u.Received + int64(len(data))
	err := pg.Fault(pgx.BeginFunc(ctx, s.db, func(tx pgx.Tx) error {
		var state []byte
		// The row's lock, with what it knows: of two that send the same, one comes first and the other learns how far it came.
		err := tx.QueryRow(ctx, `WITH off AS (SELECT set_config('synchronous_commit', 'off', true))
			SELECT u.hash FROM chat.upload u, off WHERE u.person_id = $1 AND u.id = $2 AND u.received = $3 AND NOT u.done FOR NO KEY UPDATE OF u`, person, u.ID, u.Received).Scan(&state)
		if errors.Is(err, pgx.ErrNoRows) {
			return fault.New(fault.Conflict, "files.offset_now")
		}
		if err != nil {
			return err
		}
		sum, err := resume(state)
		if err != nil {
			return err
		}
		_, _ = sum.Write(data)
		if state, err = sum.(encoding.BinaryMarshaler).MarshalBinary(); err != nil {
			return err
		}
		if _, err := tx.Conn().PgConn().CopyFrom(ctx, &copyRows{content: u.Content, at: u.Received, rest: data}, `COPY chat.content_part (content_id, at, data) FROM STDIN (FORMAT binary)`); err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `UPDATE chat.upload SET received = $3, hash = $4, touched_at = now() WHERE person_id = $1 AND id = $2`, person, u.ID, next, state)
		return err
	}))
	if fault.HasKey(err, "files.offset_now") {
		now, lookErr := s.Upload(ctx, person, u.ID)
		if lookErr != nil {
			return lookErr
		}
		*u = now
		return fault.New(fault.Conflict, "files.offset", fault.Args{"offset": now.Received})
	}
	if err == nil {
		u.Received = next
	}
	return err
}

func resume(state []byte) (hash.Hash, error) {
	sum := sha256.New()
	if state == nil {
		return sum, nil
	}
	return sum, sum.(encoding.BinaryUnmarshaler).UnmarshalBinary(state)
}

// copyRows writes a stretch of bytes as PostgreSQL reads rows in COPY's binary format (its documentation, "COPY", "Binary Format"): straight from the buffer, with no row made of it in between.
type copyRows struct {
	content, at int64
	rest        []byte
	from        io.Reader // where more of it comes from; nil: rest is all
	left        int64     // bytes that come from there
	pending     []byte    // what is to be written before
	begun, over bool
	row         int // bytes of the row that are left
	buffer      []byte
}

// Rows gives so many bytes in the form in which COPY chat.content_part (content_id, at, data) FROM STDIN (FORMAT binary) reads them: to measure that alone.
func Rows(content int64, from io.Reader, size int64) io.Reader {
	return &copyRows{content: content, from: from, left: size}
}

func (c *copyRows) Read(p []byte) (n int, err error) {
	for n < len(p) {
		switch {
		case len(c.pending) > 0:
			m := copy(p[n:], c.pending)
			c.pending, n = c.pending[m:], n+m
		case c.row > 0:
			m := copy(p[n:], c.rest[:c.row])
			c.rest, c.row, c.at, n = c.rest[m:], c.row-m, c.at+int64(m), n+m
		case c.over:
			return n, io.EOF
		case !c.begun:
			c.begun, c.pending = true, []byte("PGCOPY\n\xff\r\n\x00\x00\x00\x00\x00\x00\x00\x00\x00")
		case len(c.rest) == 0 && c.left > 0:
			if c.buffer == nil {
				c.buffer = make([]byte, stretch)
			}
			m, err := io.ReadFull(c.from, c.buffer[:min(stretch, c.left)])
			if err != nil {
				return n, err
			}
			c.rest, c.left = c.buffer[:m], c.left-int64(m)
		case len(c.rest) == 0:
			c.over, c.pending = true, []byte{0xff, 0xff}
		default:
			c.row = min(len(c.rest), RowSize)
			h := make([]byte, 0, 30)
			h = binary.BigEndian.AppendUint16(h, 3)
			h = binary.BigEndian.AppendUint32(h, 8)
			h = binary.BigEndian.AppendUint64(h, uint64(c.content)) //nolint:gosec // ids are positive
			h = binary.BigEndian.AppendUint32(h, 8)
			h = binary.BigEndian.AppendUint64(h, uint64(c.at))  //nolint:gosec // likewise
			h = binary.BigEndian.AppendUint32(h, uint32(c.row)) //nolint:gosec // at most RowSize
			c.pending = h
		}
	}
	return n, nil
}

// finish looks at what has come as a whole, and gives the upload the content that it is from now on: durable when it returns.
func (s *Store) finish(ctx context.Context, person int64, u Upload) (Upload, error) {
	about, err := s.inspect(ctx, u)
	if err != nil {
		return u, err
	}
	for try := 0; ; try++ {
		err = s.db.InTx(ctx, func(tx pgx.Tx) error {
			type row struct {
				Done bool
				Hash []byte
			}
			now, ok, err := pg.One[row](ctx, tx, `SELECT done, hash FROM chat.upload WHERE person_id = $1 AND id = $2 FOR NO KEY UPDATE`, person, u.ID)
			if err != nil || now.Done {
				return err
			}
			if !ok {
				return fault.New(fault.NotFound, "files.no_upload")
			}
			sum, err := resume(now.Hash)
			if err != nil {
				return err
			}
			sha := sum.Sum(nil)
			type same struct{ ID int64 }
			// Whoever takes that content away waits for us, or we see that it is gone.
			have, found, err := pg.One[same](ctx, tx, `SELECT id FROM chat.content WHERE sha256 = $1 FOR KEY SHARE`, sha)
			if err != nil {
				return err
			}
			if !found {
				have.ID = u.Content
				if _, err := tx.Exec(ctx, `UPDATE chat.content SET sha256 = $2, type = $3, width = $4, height = $5, excerpt = $6 WHERE id = $1`,
					u.Content, sha, about.Type, about.Width, about.Height, about.Excerpt); err != nil {
					return err
				}
			}
			_, err = tx.Exec(ctx, `WITH still AS (UPDATE chat.content SET loose_at = NULL WHERE id = $3 AND loose_at IS NOT NULL)
				UPDATE chat.upload SET done = true, content_id = $3, hash = NULL, touched_at = now() WHERE person_id = $1 AND id = $2`, person, u.ID, have.ID)
			return err
		})
		if pg.UniqueViolation(err, "content_sha256") && try < 3 { // somebody's same content ended at the same moment
			continue
		}
		break
	}
	if err != nil {
		return u, pg.Fault(err)
	}
	out, ok, err := pg.One[Upload](ctx, s.db, `SELECT `+uploadColumns+` FROM chat.upload WHERE person_id = $1 AND id = $2`, person, u.ID)
	if err == nil && !ok {
		err = fault.New(fault.NotFound, "files.no_upload")
	}
	if err == nil && about.Width != nil {
		s.paintLater(out.Content)
	}
	return out, err
}
