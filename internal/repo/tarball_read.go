package repo

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/klauspost/compress/zstd"

	"howdah/internal/fault"
)

// Ranges gives `length` bytes from `offset` on of the compressed stream of a tarball (inside age, when it is encrypted), as
// Packed.Range does, or fewer where it ends earlier. It is called by several goroutines at once.
type Ranges func(ctx context.Context, offset, length int64) ([]byte, error)

// RangesAt are the ranges of something that is read at offsets, such as a file.
func RangesAt(at io.ReaderAt) Ranges {
	return func(_ context.Context, offset, length int64) ([]byte, error) {
		p := make([]byte, length)
		n, err := at.ReadAt(p, offset)
		if errors.Is(err, io.EOF) {
			err = nil
		}
		return p[:n], err
	}
}

// ExtractOptions say what is restored and how; the zero value is all of it.
type ExtractOptions struct {
	Workers  int               // frames at once; 0: one per processor, and at least 4 (a store may be far away)
	Only     func(File) bool   // nil: every file. Frames of which nothing is wanted are not read
	Progress func(bytes int64) // told how many more bytes of the tar are done, by several goroutines; may be nil
	Sync     bool              // all is on disk when Extract returns
}

// A run of frames is read with one request: up to so many bytes of the compressed stream, and of the tar.
const (
	runLength = 8 << 20
	runPlain  = 32 << 20
)

// Extract restores files into a folder, which is best empty: a file that exists is the error fs.ErrExist, and nothing leaves the
// folder whatever the index says, also not through links. Every frame that is read is checked against its hash;
// one that differs is the fault "repo.frame_damaged", and what was written stays for the caller to remove. Modes and
// times are as in the tar; owners are not restored.
func (t *Tarball) Extract(ctx context.Context, from Ranges, into *os.Root, options ExtractOptions) error {
	if err := t.Check(); err != nil {
		return err
	}
	x := &extraction{t: t, into: into, options: options, open: map[int]*openFile{}}
	if err := x.folders(); err != nil {
		return err
	}
	wanted := make([]bool, len(t.Frames))
	for _, f := range t.Files {
		switch {
		case options.Only != nil && !options.Only(f):
		case f.Mode.IsRegular() && f.Size == 0:
			if err := x.empty(f); err != nil {
				return err
			}
		case f.Mode.IsRegular():
			for i := f.Frame; i < len(t.Frames) && t.Frames[i].Start < f.Offset+f.Size; i++ {
				wanted[i] = true
			}
		}
	}
	if err := t.frames(ctx, from, wanted, options.Workers, x.frame); err != nil {
		x.abandon()
		return err
	}
	return x.finish()
}

// Verify reads every frame and compares it with its hash.
func (t *Tarball) Verify(ctx context.Context, from Ranges, workers int, progress func(bytes int64)) error {
	if err := t.Check(); err != nil {
		return err
	}
	return t.frames(ctx, from, nil, workers, func(_ int, plain []byte) error {
		if progress != nil {
			progress(int64(len(plain)))
		}
		return nil
	})
}

// Open reads one file, as it is asked for: only its frames are fetched.
func (t *Tarball) Open(ctx context.Context, from Ranges, f File) (io.ReadCloser, error) {
	if err := t.Check(); err != nil {
		return nil, err
	}
	if f.Offset < 0 || f.Size < 0 || f.Offset > t.Plain || f.Size > t.Plain-f.Offset {
		return nil, fault.New(fault.Conflict, "repo.index_invalid", fault.Args{"tarball": t.Name})
	}
	ctx, cancel := context.WithCancel(ctx)
	in, out := io.Pipe()
	go func() {
		wanted := make([]bool, len(t.Frames))
		for i := t.frameAt(f.Offset); f.Size > 0 && i < len(t.Frames) && t.Frames[i].Start < f.Offset+f.Size; i++ {
			wanted[i] = true
		}
		out.CloseWithError(t.frames(ctx, from, wanted, 1, func(i int, plain []byte) error {
			part, _ := t.part(i, plain, f)
			_, err := out.Write(part)
			return err
		}))
	}()
	return &fileReader{in, cancel}, nil
}

type fileReader struct {
	*io.PipeReader
	cancel context.CancelFunc
}

// Close ends the reading.
func (r *fileReader) Close() error {
	r.cancel()
	return r.PipeReader.Close()
}

// part is what a frame holds of a file, and where in the file that belongs.
func (t *Tarball) part(i int, plain []byte, f File) (part []byte, at int64) {
	start := t.Frames[i].Start
	from, to := max(f.Offset, start), min(f.Offset+f.Size, start+int64(len(plain)))
	if to <= from {
		return nil, 0
	}
	return plain[from-start : to-start], from - f.Offset
}

// run is a number of frames that follow each other.
type run struct{ first, last int }

// frames reads frames, checks them, and hands each to do, which several goroutines call at once (in order, with one worker) and which must not
// keep the bytes. wanted is nil for all.
func (t *Tarball) frames(ctx context.Context, from Ranges, wanted []bool, workers int, do func(i int, plain []byte) error) error {
	if workers <= 0 {
		workers = max(4, runtime.GOMAXPROCS(0))
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	runs := make(chan run)
	var done sync.WaitGroup
	for range workers {
		done.Go(func() {
			decoder, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxFrame), zstd.WithDecodeAllCapLimit(true))
			if err != nil {
				cancel(err)
				return
			}
			defer decoder.Close()
			plain := make([]byte, 0, maxFrame)
			for r := range runs {
				if err := t.readRun(ctx, from, r, decoder, plain, do); err != nil {
					cancel(err)
				}
			}
		})
	}
	for r := range t.runs(wanted) {
		select {
		case runs <- r:
			continue
		case <-ctx.Done():
		}
		break
	}
	close(runs)
	done.Wait()
	return context.Cause(ctx)
}

// runs groups the wanted frames.
func (t *Tarball) runs(wanted []bool) func(yield func(run) bool) {
	return func(yield func(run) bool) {
		for i := 0; i < len(t.Frames); i++ {
			if wanted != nil && !wanted[i] {
				continue
			}
			r := run{i, i}
			first := t.Frames[i]
			for i+1 < len(t.Frames) && (wanted == nil || wanted[i+1]) {
				next := t.Frames[i+1]
				if next.Offset+next.Length-first.Offset > runLength || next.Start+next.Plain-first.Start > runPlain {
					break
				}
				i++
			}
			r.last = i
			if !yield(r) {
				return
			}
		}
	}
}

// readRun reads the frames of a run into buffer, one after the other.
func (t *Tarball) readRun(ctx context.Context, from Ranges, r run, decoder *zstd.Decoder, buffer []byte, do func(i int, plain []byte) error) error {
	first, last := t.Frames[r.first], t.Frames[r.last]
	packed, err := from(ctx, first.Offset, last.Offset+last.Length-first.Offset)
	if err != nil {
		return err
	}
	for i := r.first; i <= r.last; i++ {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		f := t.Frames[i]
		damaged := func(err error) error {
			return fault.Wrap(err, fault.Conflict, "repo.frame_damaged", fault.Args{"tarball": t.Name, "offset": f.Offset, "files": t.filesIn(i)})
		}
		if int64(len(packed)) < f.Length {
			return damaged(io.ErrUnexpectedEOF)
		}
		plain, err := decoder.DecodeAll(packed[:f.Length], buffer[:0:f.Plain])
		if err != nil {
			return damaged(err)
		}
		packed = packed[f.Length:]
		if int64(len(plain)) != f.Plain || sha256.Sum256(plain) != f.Sum {
			return damaged(errors.New("another content than was written"))
		}
		if err := do(i, plain); err != nil {
			return err
		}
	}
	return nil
}

// filesIn names the files that a frame holds something of, some of them.
func (t *Tarball) filesIn(i int) string {
	var names bytes.Buffer
	for n, f := range t.inFrame(i) {
		if n == 3 {
			names.WriteString(", ...")
			break
		}
		if n > 0 {
			names.WriteString(", ")
		}
		names.WriteString(f.Path)
	}
	return names.String()
}

// inFrame gives the files with bytes in a frame, numbered from 0.
func (t *Tarball) inFrame(i int) func(yield func(int, File) bool) {
	return func(yield func(int, File) bool) {
		n := 0
		for j := t.firstIn(i); j < len(t.Files); j++ {
			f := t.Files[j]
			if f.Offset >= t.Frames[i].Start+t.Frames[i].Plain {
				return
			}
			if f.Size > 0 && f.Offset+f.Size > t.Frames[i].Start {
				if !yield(n, f) {
					return
				}
				n++
			}
		}
	}
}

// firstIn is the number of the first file that may have bytes in a frame.
func (t *Tarball) firstIn(i int) int {
	low, high := 0, len(t.Files)
	for low < high { // the first whose end is behind the frame's start
		middle := (low + high) / 2
		if t.Files[middle].Offset+t.Files[middle].Size > t.Frames[i].Start {
			high = middle
		} else {
			low = middle + 1
		}
	}
	return low
}

// extraction is one Extract under way.
type extraction struct {
	t       *Tarball
	into    *os.Root
	options ExtractOptions

	mu   sync.Mutex
	open map[int]*openFile // files of several frames, by the frame and offset that they begin with
}

type openFile struct {
	mu   sync.Mutex
	file *os.File
	rest atomic.Int64 // bytes that are still to come
}

func (x *extraction) wants(f File) bool { return x.options.Only == nil || x.options.Only(f) }

// folders makes the folders and links. They are open to ourselves until the end, when they get their modes.
func (x *extraction) folders() error {
	made := map[string]bool{".": true}
	var make func(string) error
	make = func(name string) error {
		if made[name] {
			return nil
		}
		made[name] = true
		if err := make(path.Dir(name)); err != nil {
			return err
		}
		err := x.into.Mkdir(filepath.FromSlash(name), 0o700)
		if errors.Is(err, fs.ErrExist) {
			return nil
		}
		return x.fault(err)
	}
	for _, f := range x.t.Files {
		if f.Mode.IsDir() && x.wants(f) {
			if err := make(f.Path); err != nil {
				return err
			}
		} else if x.wants(f) {
			if err := make(path.Dir(f.Path)); err != nil {
				return err
			}
		}
	}
	for _, f := range x.t.Files {
		if f.Mode&fs.ModeSymlink != 0 && x.wants(f) {
			if err := x.into.Symlink(f.Link, filepath.FromSlash(f.Path)); err != nil {
				return x.fault(err)
			}
		}
	}
	return nil
}

// create makes a file; it stays writable for us until its end.
func (x *extraction) create(f File) (*os.File, error) {
	file, err := x.into.OpenFile(filepath.FromSlash(f.Path), os.O_CREATE|os.O_EXCL|os.O_WRONLY, f.Mode.Perm())
	return file, x.fault(err)
}

// complete closes a file that has all of its bytes.
func (x *extraction) complete(f File, file *os.File) error {
	err := file.Chmod(f.Mode.Perm()) // the umask may have taken some
	if errors.Is(err, errors.ErrUnsupported) {
		err = nil
	}
	if closeErr := file.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = x.into.Chtimes(filepath.FromSlash(f.Path), f.Time(), f.Time())
	}
	return x.fault(err)
}

func (x *extraction) empty(f File) error {
	file, err := x.create(f)
	if err != nil {
		return err
	}
	return x.complete(f, file)
}

// frame writes what a frame holds.
func (x *extraction) frame(i int, plain []byte) error {
	for _, f := range x.t.inFrame(i) {
		if !x.wants(f) || !f.Mode.IsRegular() {
			continue
		}
		part, at := x.t.part(i, plain, f)
		if int64(len(part)) == f.Size {
			file, err := x.create(f)
			if err != nil {
				return err
			}
			if _, err := file.Write(part); err != nil {
				return x.fault(errors.Join(err, file.Close()))
			}
			x.soon(file, 0, f.Size)
			if err := x.complete(f, file); err != nil {
				return err
			}
			continue
		}
		if err := x.write(f, part, at); err != nil {
			return err
		}
	}
	if x.options.Progress != nil {
		x.options.Progress(int64(len(plain)))
	}
	return nil
}

// write writes a part of a file that lies in several frames.
func (x *extraction) write(f File, part []byte, at int64) error {
	x.mu.Lock()
	key := x.t.firstOf(f)
	o := x.open[key]
	if o == nil {
		o = &openFile{}
		o.rest.Store(f.Size)
		x.open[key] = o
	}
	x.mu.Unlock()
	o.mu.Lock()
	if o.file == nil {
		var err error
		if o.file, err = x.create(f); err != nil {
			o.mu.Unlock()
			return err
		}
	}
	o.mu.Unlock()
	if _, err := o.file.WriteAt(part, at); err != nil {
		return x.fault(err)
	}
	x.soon(o.file, at, int64(len(part)))
	if o.rest.Add(-int64(len(part))) > 0 {
		return nil
	}
	x.mu.Lock()
	delete(x.open, key)
	x.mu.Unlock()
	return x.complete(f, o.file)
}

// soon lets the kernel begin with a large part, where all is to be on disk at the end. Many small ones it does better at once.
func (x *extraction) soon(file *os.File, at, length int64) {
	if x.options.Sync && length >= sharedSize {
		writeSoon(file, at, length)
	}
}

// firstOf is the number of a file of the index.
func (t *Tarball) firstOf(f File) int {
	low, high := 0, len(t.Files)
	for low < high {
		middle := (low + high) / 2
		if t.Files[middle].Offset >= f.Offset {
			high = middle
		} else {
			low = middle + 1
		}
	}
	return low
}

// abandon closes what is open.
func (x *extraction) abandon() {
	for _, o := range x.open {
		if o.file != nil {
			_ = o.file.Close()
		}
	}
}

// finish waits for the disk, and gives the folders their modes and times.
func (x *extraction) finish() error {
	if x.options.Sync {
		if err := SyncTree(x.into.Name()); err != nil {
			return x.fault(err)
		}
	}
	for i := len(x.t.Files) - 1; i >= 0; i-- {
		f := x.t.Files[i]
		if !f.Mode.IsDir() || !x.wants(f) {
			continue
		}
		name := filepath.FromSlash(f.Path)
		if err := x.into.Chmod(name, f.Mode.Perm()); err != nil {
			return x.fault(err)
		}
		if err := x.into.Chtimes(name, f.Time(), f.Time()); err != nil {
			return x.fault(err)
		}
	}
	return nil
}

// fault says what a failed file operation means for a person.
func (x *extraction) fault(err error) error {
	var f *fault.Fault
	switch {
	case err == nil, errors.As(err, &f):
		return err
	case noSpace(err):
		return fault.Wrap(err, fault.Unavailable, "repo.target_full", fault.Args{"dir": x.into.Name()})
	case errors.Is(err, fs.ErrExist):
		return fault.Wrap(err, fault.Conflict, "repo.target_exists", fault.Args{"dir": x.into.Name()})
	case errors.Is(err, fs.ErrPermission):
		return fault.Wrap(err, fault.Forbidden, "repo.target_permissions", fault.Args{"dir": x.into.Name()})
	}
	return fmt.Errorf("restoring into %s: %w", x.into.Name(), err)
}
