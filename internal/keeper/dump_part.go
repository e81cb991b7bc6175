package keeper

import (
	"context"
	"crypto/sha256"
	"errors"
	"hash"
	"io"
	"io/fs"

	"howdah/internal/fault"
	"howdah/internal/repo"
)

// partReader gives the content of a part, and at its end an error unless it was the content that the manifest names.
type partReader struct {
	r    *repo.Repo
	name string
	part Part
	src  io.ReadCloser
	hash hash.Hash
	size int64
}

func openPart(ctx context.Context, r *repo.Repo, cluster string, d Dump, p Part) (*partReader, error) {
	name := dumpFolder(cluster) + "/" + d.ID + "/" + p.Object
	src, err := r.Reader(ctx, name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fault.Wrap(err, fault.Conflict, "repo.damaged", fault.Args{"place": r.String(), "name": name})
	}
	if err != nil {
		return nil, err
	}
	return &partReader{r: r, name: name, part: p, src: src, hash: sha256.New()}, nil
}

// Read implements io.Reader.
func (p *partReader) Read(into []byte) (int, error) {
	n, err := p.src.Read(into)
	p.hash.Write(into[:n])
	p.size += int64(n)
	if errors.Is(err, io.EOF) && (p.size != p.part.Size || repo.Sum(p.hash.Sum(nil)) != p.part.SHA256) {
		err = fault.New(fault.Conflict, "repo.damaged", fault.Args{"place": p.r.String(), "name": p.name})
	}
	return n, err
}

// drain reads the rest, and so makes sure of all of it.
func (p *partReader) drain() error {
	_, err := io.Copy(io.Discard, p)
	return err
}

// blame gives the error of the program that read the content, or that of the content itself. After success that is all of it; after a failure,
// as much as may be needed for a damage to show, which the program saw before the end of a frame of zstd told of it.
func (p *partReader) blame(err error) error {
	if err == nil {
		return p.drain()
	}
	var failed *programError
	if !errors.As(err, &failed) {
		return err
	}
	if _, damage := io.CopyN(io.Discard, p, 16<<20); damage != nil && !errors.Is(damage, io.EOF) {
		return damage
	}
	return err
}

// Close implements io.Closer.
func (p *partReader) Close() error { return p.src.Close() }
