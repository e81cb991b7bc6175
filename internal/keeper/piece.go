package keeper

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"maps"
	"slices"
	"strings"

	"howdah/internal/fault"
	"howdah/internal/repo"
	"howdah/internal/wal"
)

// piece is a part of a segment that PostgreSQL has not archived yet: what Stream received of it and put into a repo. Like everything there it is never
// changed. What is known of a segment are the bytes that its pieces have from its beginning on without a gap; what is behind them is not told, and nobody
// may take it for zeros that PostgreSQL wrote. Pieces may overlap, as some are gathered into a larger one. A segment that was archived needs none.
type piece struct {
	segment    wal.Name
	start, end uint32 // offsets in the segment, in bytes
	stored     repo.Info
	level      int // how often it was gathered, as far as we know
}

// object is its name in the repo, without the ending that sealing adds.
func (p piece) object(cluster string) string {
	return repo.PieceName(cluster, p.segment.String(), p.start, p.end)
}

func (p piece) size() int64 { return int64(p.end) - int64(p.start) }

// parsePiece takes the name of an object apart; false for what is none of a cluster's pieces.
func parsePiece(cluster string, info repo.Info) (piece, bool) {
	segment, start, end, ok := repo.ParsePieceName(cluster, info.Name)
	if !ok {
		return piece{}, false
	}
	name, err := wal.ParseName(segment)
	return piece{segment: name, start: start, end: end, stored: info}, err == nil && name.Kind == wal.Segment
}

// streamFolder is where pieces lie.
func streamFolder(cluster string) string { return cluster + "/stream/" }

// pieces lists those whose segments' names begin with a prefix; "" for all.
func pieces(ctx context.Context, r *repo.Repo, cluster, prefix string) (map[wal.Name][]piece, error) {
	all := map[wal.Name][]piece{}
	for info, err := range r.List(ctx, streamFolder(cluster)+prefix) {
		if err != nil {
			return nil, err
		}
		if p, ok := parsePiece(cluster, info); ok {
			all[p.segment] = append(all[p.segment], p)
		}
	}
	return all, nil
}

// chain takes from the pieces of one segment as few as make all that can be had from its beginning on without a gap. When that is less than the first
// page's header, they are of no use, and it is nil.
func chain(all []piece, size wal.SegmentSize) []piece {
	all = slices.Clone(all)
	slices.SortFunc(all, func(a, b piece) int { return cmp.Or(cmp.Compare(a.start, b.start), cmp.Compare(b.end, a.end)) })
	var out []piece
	at := uint32(0)
	for {
		best := -1
		for i, p := range all {
			if p.start > at {
				break
			}
			if p.end > at && p.end <= uint32(size) && (best < 0 || p.end > all[best].end) {
				best = i
			}
		}
		if best < 0 {
			break
		}
		out = append(out, all[best])
		at = all[best].end
	}
	if at < wal.HeadSize {
		return nil
	}
	return out
}

// chainEnd is up to where a chain goes, an offset in the segment.
func chainEnd(c []piece) uint32 {
	if len(c) == 0 {
		return 0
	}
	return c[len(c)-1].end
}

// assemble reads a chain into a segment of full length; what is not known is zeros.
func assemble(ctx context.Context, r *repo.Repo, cluster string, c []piece, into []byte) error {
	clear(into)
	var buffer []byte
	for _, p := range c {
		content, err := r.Get(ctx, p.object(cluster), buffer[:0])
		if err != nil {
			return err
		}
		if int64(len(content)) != p.size() || int64(p.end) > int64(len(into)) {
			return fault.New(fault.Conflict, "repo.damaged", fault.Args{"place": r.String(), "name": p.stored.Name})
		}
		copy(into[p.start:], content)
		buffer = content
	}
	return nil
}

// streamed reads what pieces tell of a segment, up to an offset; fs.ErrNotExist when there are none. They may be gathered, or go because the segment is
// archived, while we look: at least is an offset that has to be reached, or it is read from the archive.
func streamed(ctx context.Context, r *repo.Repo, cluster string, name wal.Name, size wal.SegmentSize, least uint32, buffer []byte) (content []byte, end uint32, err error) {
	object, err := repo.WALName(cluster, name.String())
	if err != nil {
		return nil, 0, err
	}
	for range 5 {
		all, err := pieces(ctx, r, cluster, name.String()+"/")
		if err != nil {
			return nil, 0, err
		}
		c := chain(all[name], size)
		if end = chainEnd(c); end > 0 && end >= least {
			content = slices.Grow(buffer[:0], int(size))[:size]
			if err = assemble(ctx, r, cluster, c, content); err == nil {
				return content, end, nil
			}
			if !errors.Is(err, fs.ErrNotExist) {
				return nil, 0, err
			}
		}
		content, err = r.Get(ctx, object, buffer[:0])
		if err == nil {
			return content, uint32(size), nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return nil, 0, err
		}
		if end == 0 || end < least { // neither this nor that
			break
		}
	}
	return nil, 0, fs.ErrNotExist
}

// isArchived tells whether a segment lies in the archive, by its head.
func isArchived(ctx context.Context, r *repo.Repo, cluster string, name wal.Name) (bool, error) {
	object, err := repo.WALName(cluster, name.String())
	if err != nil {
		return false, err
	}
	_, _, err = r.Head(ctx, object)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// removePieces removes some. The last go first: what is left when we are killed is a shorter beginning.
func removePieces(ctx context.Context, r *repo.Repo, some []piece) error {
	some = slices.Clone(some)
	slices.SortFunc(some, func(a, b piece) int { return cmp.Or(cmp.Compare(b.start, a.start), cmp.Compare(b.end, a.end)) })
	for part := range slices.Chunk(some, 100) {
		names := make([]string, len(part))
		for i, p := range part {
			names[i] = p.stored.Name
		}
		if err := r.Remove(ctx, names...); err != nil {
			return err
		}
	}
	return nil
}

// sortedSegments are the names of segments in order.
func sortedSegments(all map[wal.Name][]piece) []wal.Name {
	return slices.SortedFunc(maps.Keys(all), func(a, b wal.Name) int { return strings.Compare(a.String(), b.String()) })
}
