package repo

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io/fs"
	"slices"
	"sync"
	"time"

	"github.com/minio/minio-go/v7"

	"howdah/internal/fault"
)

func partSize(number int) int {
	size := firstPart
	for ; number > partsEqual; number -= partsEqual {
		size *= 3
	}
	return size
}

type s3Object struct {
	s      *s3
	ctx    context.Context //nolint:containedctx // of one writing
	cancel context.CancelFunc
	name   string
	writer string // random
	looked bool   // somebody has just seen that the name is free
	part   []byte
	free   chan []byte // at most two parts are under way while a third is filled
	upload string      // id of the multipart upload, "" as long as there is none
	number int         // of parts that were begun
	ended  bool

	sending sync.WaitGroup
	mu      sync.Mutex
	parts   []minio.CompletePart
	failed  error
}

// Create implements Store.
func (s *s3) Create(ctx context.Context, name string) (Object, error) {
	return s.create(ctx, name, false)
}

func (s *s3) create(ctx context.Context, name string, looked bool) (Object, error) {
	if err := errors.Join(checkName(name), ctx.Err()); err != nil {
		return nil, err
	}
	o := &s3Object{s: s, name: name, writer: rand.Text(), looked: looked, free: make(chan []byte, 2)}
	o.free <- nil
	o.free <- nil
	o.ctx, o.cancel = context.WithCancel(ctx)
	return o, nil
}

func (o *s3Object) options(condition bool) minio.PutObjectOptions {
	options := minio.PutObjectOptions{UserMetadata: map[string]string{writerKey: o.writer}}
	if condition {
		options.SetMatchETagExcept("*")
	}
	return options
}

// Write implements io.Writer.
func (o *s3Object) Write(p []byte) (int, error) {
	if o.ended {
		return 0, fs.ErrClosed
	}
	n := 0
	for n < len(p) {
		room := partSize(o.number+1) - len(o.part)
		take := min(room, len(p)-n)
		o.part = append(o.part, p[n:n+take]...)
		n += take
		if take == room {
			if err := o.send(); err != nil {
				return n, err
			}
		}
	}
	return n, nil
}

// send begins the upload of the part that is full, and waits for a place for the next one.
func (o *s3Object) send() error {
	if o.upload == "" {
		err := o.s.try(o.ctx, o.name, func() (err error) {
			o.upload, err = o.s.core.NewMultipartUpload(o.ctx, o.s.bucket, o.s.key(o.name), o.options(false))
			return err
		})
		if err != nil {
			return err
		}
	}
	o.number++
	number, part := o.number, o.part
	next := <-o.free
	o.part = next[:0]
	o.sending.Go(func() {
		sum := sha256.Sum256(part)
		var done minio.ObjectPart
		err := o.s.try(o.ctx, o.name, func() (err error) {
			done, err = o.s.core.PutObjectPart(o.ctx, o.s.bucket, o.s.key(o.name), o.upload, number, bytes.NewReader(part), int64(len(part)),
				minio.PutObjectPartOptions{Sha256Hex: hex.EncodeToString(sum[:])})
			return err
		})
		o.mu.Lock()
		if o.failed == nil {
			o.failed = err
		}
		o.parts = append(o.parts, minio.CompletePart{PartNumber: number, ETag: done.ETag})
		o.mu.Unlock()
		o.free <- part
	})
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.failed
}

// Commit implements Object.
func (o *s3Object) Commit(ctx context.Context) error {
	if o.ended {
		return fs.ErrClosed
	}
	defer o.Abort()
	if o.upload != "" && len(o.part) > 0 {
		if err := o.send(); err != nil {
			return err
		}
	}
	o.sending.Wait()
	if o.failed != nil {
		return o.failed
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if !o.looked {
		if _, err := o.s.stat(ctx, o.name); err == nil {
			return fault.Wrap(fs.ErrExist, fault.Conflict, "repo.taken", fault.Args{"place": o.s.place, "name": o.name})
		} else if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	err := o.finish(ctx, true)
	if answerCode(err) == "NotImplemented" {
		err = o.finish(ctx, false)
	}
	// An answer may have got lost, and what we meet at the second try is our own.
	if err != nil && ctx.Err() == nil {
		if info, statErr := o.s.stat(ctx, o.name); statErr == nil && info.UserMetadata[writerKey] == o.writer {
			err = nil
		}
	}
	if err == nil {
		o.upload = "" // nothing to abort
	}
	return err
}

func (o *s3Object) finish(ctx context.Context, condition bool) error {
	if o.upload == "" {
		sum := sha256.Sum256(o.part)
		return o.s.try(ctx, o.name, func() error {
			_, err := o.s.core.PutObject(ctx, o.s.bucket, o.s.key(o.name), bytes.NewReader(o.part), int64(len(o.part)), "",
				hex.EncodeToString(sum[:]), o.options(condition))
			return err
		})
	}
	slices.SortFunc(o.parts, func(a, b minio.CompletePart) int { return a.PartNumber - b.PartNumber })
	return o.s.try(ctx, o.name, func() error {
		options := o.options(condition)
		options.UserMetadata = nil // said when the upload began
		_, err := o.s.core.CompleteMultipartUpload(ctx, o.s.bucket, o.s.key(o.name), o.upload, o.parts, options)
		return err
	})
}

// Abort implements Object.
func (o *s3Object) Abort() {
	if o.ended {
		return
	}
	o.ended = true
	ctx := context.WithoutCancel(o.ctx)
	o.cancel()
	o.sending.Wait()
	o.part = nil
	if o.upload != "" {
		ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
		defer cancel()
		_ = o.s.abort(ctx, o.s.key(o.name), o.upload) // Sweep will find it
	}
}
