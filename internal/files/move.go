package files

import (
	"context"
	"io"

	"github.com/jackc/pgx/v5/pgtype"

	"howdah/internal/pg"
)

// Content is what stands in a content.
type Content struct {
	ID     int64
	SHA256 string // in hex
	Type   string
	Size   int64
}

// ContentsOf lists the contents that standing messages of these rooms have, by number. Read in the transaction in which Write is called, they are all there.
func ContentsOf(ctx context.Context, q pg.Queryer, rooms []int64) ([]Content, error) {
	return pg.All[Content](ctx, q, `
		SELECT c.id, encode(c.sha256, 'hex'), c.type, c.size FROM chat.content c WHERE c.sha256 IS NOT NULL AND EXISTS (
			SELECT FROM chat.file f JOIN chat.message x ON x.room_id = f.room_id AND x.seq = f.seq WHERE f.content_id = c.id AND f.room_id = ANY($1) AND x.deleted_at IS NULL)
		ORDER BY c.id`, rooms)
}

// Find gives the content with this hash (in hex); 0: there is none. Nothing holds it: somebody may take it away.
func Find(ctx context.Context, q pg.Queryer, sha256 string) (int64, error) {
	type row struct{ ID int64 }
	found, _, err := pg.One[row](ctx, q, `SELECT id FROM chat.content WHERE sha256 = decode($1, 'hex')`, sha256)
	return found.ID, err
}

// Write writes a content as q sees it, with one row in memory at a time.
func Write(ctx context.Context, q pg.Queryer, c Content, to io.Writer) error {
	rows, err := q.Query(ctx, `SELECT at, data FROM chat.content_part WHERE content_id = $1 ORDER BY at`, c.ID)
	if err != nil {
		return pg.Fault(err)
	}
	defer rows.Close()
	written := int64(0)
	for rows.Next() {
		var at int64
		var data pgtype.DriverBytes
		if err := rows.Scan(&at, &data); err != nil {
			return pg.Fault(err)
		}
		if at != written || at+int64(len(data)) > c.Size {
			return errTorn
		}
		if _, err := to.Write(data); err != nil {
			return err
		}
		written += int64(len(data))
	}
	if err := rows.Err(); err != nil {
		return pg.Fault(err)
	}
	if written != c.Size {
		return errTorn
	}
	return nil
}

// SizeText is a number of bytes for people: "1.5 MiB".
func SizeText(n int64) string { return size(n) }

// EndingOf is an ending of names (".png") for what a content's bytes say it is: programs that go by endings show it as that, and run nothing.
func EndingOf(kind string) string {
	if ending, ok := endings[kind]; ok {
		return ending
	}
	return ".bin"
}

var endings = map[string]string{
	"image/png": ".png", "image/jpeg": ".jpg", "image/gif": ".gif", "image/webp": ".webp", "image/avif": ".avif", "video/mp4": ".mp4", "video/webm": ".webm", "audio/mpeg": ".mp3", "audio/mp4": ".m4a",
	"audio/wave": ".wav", "audio/flac": ".flac", "audio/ogg": ".ogg", Text: ".txt", PDF: ".pdf", "application/zip": ".zip", "application/x-gzip": ".gz",
}
