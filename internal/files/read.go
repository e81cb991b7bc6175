package files

import (
	"context"
	"errors"
	"io"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"howdah/internal/fault"
	"howdah/internal/pg"
)

// Reader reads a content from anywhere in it. It holds one stretch of it and no connection in between: who reads slowly keeps nobody else waiting. Not safe for concurrent use.
type Reader struct {
	store   *Store
	ctx     context.Context
	content int64
	size    int64
	at      int64
	from    int64  // in the content, of window
	window  []byte // what was read of it
	next    int    // how much is read next: more and more, so that a look at the beginning costs little
	buffer  []byte
}

const firstWindow = 8 * RowSize

// Reader reads a content of this size, as long as ctx lasts. Who asks has been found to be allowed to.
func (s *Store) Reader(ctx context.Context, content, size int64) *Reader {
	return &Reader{store: s, ctx: ctx, content: content, size: size, next: firstWindow}
}

// Seek implements io.Seeker.
func (r *Reader) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		offset += r.at
	case io.SeekEnd:
		offset += r.size
	}
	if offset < 0 {
		return 0, errors.New("seek before the beginning")
	}
	r.at = offset
	return offset, nil
}

// Read implements io.Reader.
func (r *Reader) Read(p []byte) (int, error) {
	if r.at >= r.size {
		return 0, io.EOF
	}
	if len(p) == 0 {
		return 0, nil
	}
	if r.at < r.from || r.at >= r.from+int64(len(r.window)) {
		if err := r.load(); err != nil {
			return 0, err
		}
	}
	n := copy(p, r.window[r.at-r.from:])
	r.at += int64(n)
	return n, nil
}

func (r *Reader) load() error {
	want := min(int64(r.next), r.size-r.at)
	r.next = min(2*r.next, stretch)
	if int64(cap(r.buffer)) < want {
		r.buffer = make([]byte, 0, want)
	}
	out := r.buffer[:0]
	// Rows are as long as what came at once was, at most RowSize: the first that is wanted may begin before the place.
	rows, err := r.store.db.Query(r.ctx, `SELECT at, data FROM chat.content_part WHERE content_id = $1 AND at > $2 AND at < $3 ORDER BY at`, r.content, r.at-RowSize, r.at+want)
	if err != nil {
		return pg.Fault(err)
	}
	var at int64
	var data pgtype.DriverBytes
	_, err = pgx.ForEachRow(rows, []any{&at, &data}, func() error {
		expected := r.at + int64(len(out))
		if at+int64(len(data)) <= expected {
			return nil // ends before the place
		}
		if at > expected {
			return errTorn
		}
		data = data[expected-at:]
		out = append(out, data[:min(int64(len(data)), want-int64(len(out)))]...)
		return nil
	})
	switch {
	case err != nil:
		return pg.Fault(err)
	case int64(len(out)) < want:
		return errTorn
	}
	r.buffer, r.window, r.from = out, out, r.at
	return nil
}

// errTorn: somebody wrote in the tables who should not.
var errTorn = fault.New(fault.Internal, "files.torn")
