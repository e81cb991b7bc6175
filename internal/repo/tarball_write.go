package repo

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"runtime"
	"sync"

	"github.com/klauspost/compress/zstd"

	"howdah/internal/fault"
)

// TarballOptions say how a tarball is compressed; the zero value is fine.
type TarballOptions struct {
	Level   Level
	Workers int // frames compressed at once; 0: one per processor
}

// TarballWriter takes the bytes of a tar and writes the tarball form of it. Memory: Workers + 2 frames of 4 MiB, as much
// again for what they are compressed to, and what each worker tries, whatever comes; and some hundred bytes of index per file and frame.
type TarballWriter struct {
	to      io.Writer
	encoder *zstd.Encoder
	quick   *zstd.Encoder // of the fastest level; nil where another than the normal one was asked for
	file    *trial        // of the current file

	index   Tarball // Files and Plain belong to Write, Frames and Length to the goroutine that writes
	header  []byte  // of the next file, as far as it has come
	rest    int64   // bytes of the current file that are still to come
	pad     int64   // bytes after it
	ended   bool    // the end of the tar has come
	current *frameJob
	closed  bool

	free   chan *frameJob // those not in use
	work   chan *frameJob // to the compressors
	order  chan *frameJob // the same, to the goroutine that writes
	failed chan struct{}  // closed when err is set
	once   sync.Once
	err    error
	done   sync.WaitGroup
}

type frameJob struct {
	plain, packed []byte
	sum           Sum
	file          *trial // that it is a part of; nil when there is not enough of it to try anything
	ready         chan struct{}
}

// trial finds out whether the fastest level does for a file: on rows that are much alike its frames are no larger, at two thirds of the time.
type trial struct {
	mu    sync.Mutex
	quick bool
	n     int // frames since the last try
}

const (
	triesEvery = 32       // frames: what a table holds may change on the way
	quickMay   = 1 + .005 // times the size at the normal level
)

// next says how the next frame of the file is compressed.
func (t *trial) next() (quick, try bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	try = t.n%triesEvery == 0
	t.n++
	return t.quick, try
}

func (t *trial) found(quick bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.quick = quick
}

// NewTarballWriter begins one. Close must be called, or Abort.
func NewTarballWriter(to io.Writer, options TarballOptions) (*TarballWriter, error) {
	if options.Workers <= 0 {
		options.Workers = runtime.GOMAXPROCS(0)
	}
	encoder, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(options.Workers),
		zstd.WithEncoderLevel(options.Level.zstd()), zstd.WithWindowSize(frameSize))
	if err != nil {
		return nil, err
	}
	var quick *zstd.Encoder
	if options.Level.zstd() == zstd.SpeedDefault {
		if quick, err = zstd.NewWriter(nil, zstd.WithEncoderConcurrency(options.Workers), zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithWindowSize(frameSize)); err != nil {
			return nil, err
		}
	}
	jobs := options.Workers + 2
	w := &TarballWriter{to: to, encoder: encoder, quick: quick, failed: make(chan struct{}),
		free: make(chan *frameJob, jobs), work: make(chan *frameJob, jobs), order: make(chan *frameJob, jobs)}
	for range jobs {
		w.free <- &frameJob{ready: make(chan struct{}, 1)}
	}
	w.current = <-w.free
	for range options.Workers {
		w.done.Go(w.compress)
	}
	w.done.Go(w.write)
	return w, nil
}

func (w *TarballWriter) compress() {
	var other []byte
	for job := range w.work {
		job.sum = sha256.Sum256(job.plain)
		quick, try := false, false
		if job.file != nil && w.quick != nil {
			quick, try = job.file.next()
		}
		if quick && !try {
			job.packed = w.quick.EncodeAll(job.plain, job.packed[:0])
		} else {
			job.packed = w.encoder.EncodeAll(job.plain, job.packed[:0])
		}
		if try {
			other = w.quick.EncodeAll(job.plain, other[:0])
			quick = float64(len(other)) <= quickMay*float64(len(job.packed))
			job.file.found(quick)
			if quick {
				job.packed, other = other, job.packed
			}
		}
		job.ready <- struct{}{}
	}
}

// write puts the frames out in their order.
func (w *TarballWriter) write() {
	var start int64
	for job := range w.order {
		<-job.ready
		if _, err := w.to.Write(job.packed); err != nil {
			w.fail(err)
		}
		f := Frame{Offset: w.index.Length, Length: int64(len(job.packed)), Start: start, Plain: int64(len(job.plain)), Sum: job.sum}
		w.index.Frames = append(w.index.Frames, f)
		w.index.Length, start = w.index.Length+f.Length, start+f.Plain
		w.free <- job
	}
}

func (w *TarballWriter) fail(err error) {
	w.once.Do(func() { w.err = err; close(w.failed) })
}

func (w *TarballWriter) failure() error {
	select {
	case <-w.failed:
		return w.err
	default:
		return nil
	}
}

// cut ends the current frame.
func (w *TarballWriter) cut() error {
	if len(w.current.plain) == 0 {
		return nil
	}
	w.current.file = w.file
	w.work <- w.current
	w.order <- w.current
	w.current = <-w.free // they come back even after a failure
	w.current.plain = w.current.plain[:0]
	return w.failure()
}

func (w *TarballWriter) add(p []byte) {
	if cap(w.current.plain) < maxFrame {
		w.current.plain = append(make([]byte, 0, maxFrame), w.current.plain...)
	}
	w.current.plain = append(w.current.plain, p...)
	w.index.Plain += int64(len(p))
}

// Write takes the next bytes of the tar, cut wherever.
func (w *TarballWriter) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 {
		taken, err := w.take(p)
		if err != nil {
			return n - len(p), err
		}
		p = p[taken:]
	}
	return n, nil
}

// take deals with the first of some bytes.
func (w *TarballWriter) take(p []byte) (int, error) {
	switch {
	case w.rest > 0: // content, up to where the frame ends
		file := &w.index.Files[len(w.index.Files)-1]
		come := file.Size - w.rest
		n := min(int64(len(p)), w.rest, frameSize-come%frameSize)
		w.add(p[:n])
		w.rest -= n
		if come+n < file.Size && (come+n)%frameSize == 0 {
			return int(n), w.cut()
		}
		return int(n), nil
	case w.pad > 0:
		n := min(int64(len(p)), w.pad)
		w.add(p[:n])
		w.pad -= n
		return int(n), nil
	case w.ended: // tars are often filled up with zeros to a round length
		if !allZero(p) {
			return 0, w.broken(errors.New("something follows the end"))
		}
		n := min(len(p), frameSize-len(w.current.plain))
		w.add(p[:n])
		if len(w.current.plain) == frameSize {
			return n, w.cut()
		}
		return n, nil
	}
	n := min(tarUnit-len(w.header), len(p))
	w.header = append(w.header, p[:n]...)
	if len(w.header) < tarUnit {
		return n, nil
	}
	file, end, err := parseHeader(w.header)
	if err != nil {
		return n, w.broken(err)
	}
	if !end && !local(file.Path) {
		return n, fault.New(fault.Forbidden, "repo.path_escapes", fault.Args{"path": file.Path})
	}
	if have := int64(len(w.current.plain)); have > 0 && have+tarUnit+file.Size+padding(file.Size) > sharedSize {
		if err := w.cut(); err != nil {
			return n, err
		}
	}
	w.add(w.header)
	w.header = w.header[:0]
	if end {
		w.ended = true
		return n, nil
	}
	file.Offset = w.index.Plain
	w.rest, w.pad = file.Size, padding(file.Size)
	w.index.Files = append(w.index.Files, file)
	w.file = nil
	if file.Size > 2*frameSize {
		w.file = &trial{}
	}
	return n, w.failure()
}

func (w *TarballWriter) broken(err error) error {
	return fault.Wrap(err, fault.Unavailable, "repo.not_tar")
}

// Close ends the tarball and gives its index, which the caller names. A tar that is cut off is the fault "repo.not_tar".
func (w *TarballWriter) Close() (*Tarball, error) {
	err := w.failure()
	if err == nil && (!w.ended || len(w.header) > 0) {
		err = w.broken(fmt.Errorf("it ends in the middle: %w", io.ErrUnexpectedEOF))
	}
	if err == nil {
		err = w.cut()
	}
	w.Abort()
	if err == nil {
		err = w.failure()
	}
	if err != nil {
		return nil, err
	}
	for i, f := range w.index.Files {
		w.index.Files[i].Frame = w.index.frameAt(f.Offset)
	}
	return &w.index, nil
}

// Abort gives up; what was written stays where it was written to. After Close it does nothing.
func (w *TarballWriter) Abort() {
	if w.closed {
		return
	}
	w.closed = true
	close(w.work)
	close(w.order)
	w.done.Wait()
	_ = w.encoder.Close()
	if w.quick != nil {
		_ = w.quick.Close()
	}
}
