// Package files keeps what people share: contents in PostgreSQL, each once, streamed in and out with constant memory, and small pictures of large ones. It knows who sent what,
// and nothing of rooms: which message has which file, and who may read it, is for package chat to say.
//
// An upload is a row that says how far it has come. Each stretch of bytes is stored in one transaction with the offset behind it and the state of its SHA-256, so whoever
// was cut off - by a network, a kill, a full disk - asks for the offset and goes on. Where the same content is there already, the upload is given that one at its end: all of it has to
// be sent before, so nobody learns from us what others have.
package files

import (
	"context"
	"sync"
	"time"

	"howdah/internal/fault"
	"howdah/internal/pg"
)

// Limits of what is taken; 0: none.
type Limits struct {
	File   int64 // bytes of one file
	Person int64 // bytes of all files of a person that messages have, and of their uploads
	House  int64 // bytes of all contents
	// Refused are endings of names, in lower case without the dot, that are not taken.
	Refused []string
}

// DefaultLimits are those of a house that says nothing.
var DefaultLimits = Limits{File: 2 << 30, Person: 20 << 30, House: 200 << 30}

// RowSize is how many bytes of a content are in one row: with its header, key and length it fills a page of 8 KiB. Rows that large are kept beside others (TOAST) in pieces
// of 2 KiB with an index over them, unless their column is PLAIN; COPY writes such rows a page at a time.
const RowSize = 8100

const (
	stretch     = 128 * RowSize // bytes in memory of an upload under way, and in one transaction
	mostAtOnce  = 64            // uploads that send
	mostOfOne   = 6             // of them of one person
	mostOpen    = 100           // uploads of one person that were begun and not ended
	keepUploads = 7 * 24 * time.Hour
	storeFor    = time.Minute // one stretch, at most
)

// Store is the door to this package. It is safe for concurrent use. Close it when done.
type Store struct {
	db     *pg.Pool
	limits Limits

	sending struct {
		sync.Mutex
		all int
		of  map[int64]int
	}
	painting chan struct{} // one picture is made at a time: they take memory
	paints   struct {
		sync.Mutex
		under  map[int64]chan struct{} // contents whose preview is being made
		closed bool
	}
	ctx    context.Context // of all that outlives a request
	cancel context.CancelFunc
	done   sync.WaitGroup
}

// Open starts the store over a pool of its own: what it does there keeps nobody waiting who posts. What nobody needs any more it takes away every now and then.
func Open(ctx context.Context, db *pg.Pool, limits Limits) *Store {
	s := &Store{db: db, limits: limits, painting: make(chan struct{}, 1)}
	s.sending.of = map[int64]int{}
	s.paints.under = map[int64]chan struct{}{}
	s.ctx, s.cancel = context.WithCancel(context.WithoutCancel(ctx))
	s.done.Go(s.sweepAll)
	return s
}

// Close ends what is under way; uploads stay as far as they have come.
func (s *Store) Close() {
	s.paints.Lock()
	s.paints.closed = true
	s.paints.Unlock()
	s.cancel()
	s.done.Wait()
}

// Limits are those of this house.
func (s *Store) Limits() Limits { return s.limits }

// begin lets somebody send, if not too many do; who may calls end.
func (s *Store) begin(person int64) error {
	s.sending.Lock()
	defer s.sending.Unlock()
	if s.sending.all >= mostAtOnce || s.sending.of[person] >= mostOfOne {
		return fault.New(fault.RateLimited, "files.at_once", fault.Args{"seconds": 2})
	}
	s.sending.all++
	s.sending.of[person]++
	return nil
}

func (s *Store) end(person int64) {
	s.sending.Lock()
	defer s.sending.Unlock()
	s.sending.all--
	if s.sending.of[person]--; s.sending.of[person] == 0 {
		delete(s.sending.of, person)
	}
}
