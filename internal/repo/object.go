package repo

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"regexp"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"

	"filippo.io/age"
	"github.com/klauspost/compress/zstd"

	"howdah/internal/fault"
)

// endings are what sealing adds to a name, as it is now and as it may have been when other keys were configured.
var endings = []string{".zst", ".zst.age"}

// Ending is what sealing adds to the names of objects with these keys: ".zst" or ".zst.age".
func (r *Repo) Ending() string {
	if r.keys.Encrypts() {
		return endings[1]
	}
	return endings[0]
}

// Encrypts tells whether what is written now will be encrypted.
func (r *Repo) Encrypts() bool { return r.keys.Encrypts() }

// Keys are those that the repo was opened with.
func (r *Repo) Keys() *Keys { return r.keys }

// Level is how hard the repo compresses.
func (r *Repo) Level() Level { return r.level }

// sealed finds the object that was put under name, with either ending: the configuration may have changed since.
func (r *Repo) sealed(ctx context.Context, name string) (Info, error) {
	if _, ok := r.bare().(*folder); ok { // two looks are cheaper than one at the whole folder
		mine := r.Ending()
		info, err := r.bare().Stat(ctx, name+mine)
		if errors.Is(err, fs.ErrNotExist) {
			info, err = r.bare().Stat(ctx, name+endings[1-slices.Index(endings, mine)])
		}
		return info, r.Store.(*guarded).orAway(ctx, err) //nolint:forcetypeassert // as Open makes it
	}
	for info, err := range r.List(ctx, name+endings[0]) { // one request for both
		if err != nil {
			return Info{}, err
		}
		if slices.Contains(endings, info.Name[len(name):]) {
			return info, nil
		}
	}
	err := fault.Wrap(fs.ErrNotExist, fault.NotFound, "repo.missing", fault.Args{"place": r.String(), "name": name})
	return Info{}, r.Store.(*guarded).orAway(ctx, err) //nolint:forcetypeassert // as Open makes it
}

// bare is the store itself.
func (r *Repo) bare() Store { return r.Store.(*guarded).Store } //nolint:forcetypeassert // as Open makes it

// Put seals content and stores it under name (to which Ending is added), for good: when it returns without an error, the content is safe.
// The same content again is success. Other content is the fault "repo.conflict", and what is there stays; so is, as "repo.damaged", an
// object that is there but torn.
func (r *Repo) Put(ctx context.Context, name string, content []byte) (Head, error) {
	have, err := r.sealed(ctx, name)
	if err == nil {
		return r.judge(ctx, have, HeadOf(content))
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return Head{}, err
	}
	var o Object
	if bucket, ok := r.bare().(*s3); ok {
		o, err = bucket.create(ctx, name+r.Ending(), true)
	} else {
		o, err = r.bare().Create(ctx, name+r.Ending())
	}
	if err != nil {
		return Head{}, err
	}
	defer o.Abort()
	h, err := Seal(o, content, r.keys, r.level)
	if err != nil {
		return h, err
	}
	if err = o.Commit(ctx); !errors.Is(err, fs.ErrExist) {
		return h, err
	}
	if have, err = r.Stat(ctx, name+r.Ending()); err != nil { // somebody else put it meanwhile
		return h, err
	}
	return r.judge(ctx, have, h)
}

// judge compares what is there with what should be.
func (r *Repo) judge(ctx context.Context, have Info, want Head) (Head, error) {
	h, err := r.head(ctx, have)
	if err != nil {
		return want, err
	}
	if !h.Same(want) {
		return want, fault.New(fault.Conflict, "repo.conflict", fault.Args{"place": r.String(), "name": have.Name})
	}
	// Whoever put it may have been killed before the folder was safe.
	if f, ok := r.bare().(*folder); ok {
		if err := f.settle(have.Name); err != nil {
			return want, err
		}
	}
	return h, nil
}

func (r *Repo) head(ctx context.Context, info Info) (Head, error) {
	src, err := r.Open(ctx, info.Name, 0, min(info.Size, maxHead))
	if err != nil {
		return Head{}, err
	}
	defer src.Close()
	h, err := ReadHead(src)
	if err != nil {
		return h, r.at(err, info.Name)
	}
	if h.Stored != info.Size {
		return h, fault.New(fault.Conflict, "repo.damaged", fault.Args{"place": r.String(), "name": info.Name})
	}
	return h, nil
}

// at adds the name to a fault that comes from an object's bytes.
func (r *Repo) at(err error, name string) error {
	f := fault.Of(err)
	if err == nil || f.Args != nil {
		return err
	}
	return &fault.Fault{Code: f.Code, Key: f.Key, Args: fault.Args{"place": r.String(), "name": name}, Err: err}
}

// Head says what was put under name, without reading it all; fs.ErrNotExist where there is nothing. An object that is shorter or longer
// than its head says is "repo.damaged".
func (r *Repo) Head(ctx context.Context, name string) (Head, Info, error) {
	info, err := r.sealed(ctx, name)
	if err != nil {
		return Head{}, info, err
	}
	h, err := r.head(ctx, info)
	return h, info, err
}

// Get appends to into what was put under name, every byte of it checked; fs.ErrNotExist where there is nothing, "repo.damaged" where it
// is not what was put there.
func (r *Repo) Get(ctx context.Context, name string, into []byte) ([]byte, error) {
	info, err := r.sealed(ctx, name)
	if err != nil {
		return nil, err
	}
	src, err := r.Open(ctx, info.Name, 0, -1)
	if err != nil {
		return nil, err
	}
	defer src.Close()
	if info.Size > maxWhole+maxHead+maxWhole/1000 {
		return nil, fault.New(fault.TooLarge, "repo.damaged", fault.Args{"place": r.String(), "name": info.Name})
	}
	buffer := buffers.Get().(*[]byte) //nolint:forcetypeassert // nothing else is stored
	defer buffers.Put(buffer)
	if *buffer, err = readAll((*buffer)[:0], src, int(info.Size)+1); err != nil {
		return nil, err
	}
	into, _, err = Unseal(into, *buffer, r.keys)
	return into, r.at(err, info.Name)
}

// PutJSON stores a value in the clear, for good; as Put, the same again is success.
func (r *Repo) PutJSON(ctx context.Context, name string, value any) error {
	if err := r.Store.(*guarded).there(ctx); err != nil { //nolint:forcetypeassert // as Open makes it
		return err
	}
	return putJSON(ctx, r.bare(), name, value)
}

func putJSON(ctx context.Context, s Store, name string, value any) error {
	raw, err := json.MarshalIndent(value, "", "  ")
	if err != nil {
		return err
	}
	raw = withSum(append(raw, '\n'))
	o, err := s.Create(ctx, name)
	if err != nil {
		return err
	}
	defer o.Abort()
	if _, err := o.Write(raw); err != nil {
		return err
	}
	if err = o.Commit(ctx); !errors.Is(err, fs.ErrExist) {
		return err
	}
	have, err := readSmall(ctx, s, name)
	if err == nil && !bytes.Equal(have, raw) {
		return fault.New(fault.Conflict, "repo.conflict", fault.Args{"place": s.String(), "name": name})
	}
	return err
}

// maxSmall is the largest manifest, in bytes.
const maxSmall = 64 << 20

func readSmall(ctx context.Context, s Store, name string) ([]byte, error) {
	src, err := s.Open(ctx, name, 0, maxSmall+1)
	if err != nil {
		return nil, err
	}
	defer src.Close()
	raw, err := io.ReadAll(src)
	if err == nil && len(raw) > maxSmall {
		err = fault.New(fault.Conflict, "repo.damaged", fault.Args{"place": s.String(), "name": name})
	}
	return raw, err
}

// GetJSON reads a manifest; fs.ErrNotExist where there is none.
func (r *Repo) GetJSON(ctx context.Context, name string, value any) error {
	raw, err := readSmall(ctx, r.Store, name)
	if err != nil {
		return err
	}
	plain, whole, said := splitSum(raw)
	if err = json.Unmarshal(plain, value); err == nil && said && !whole {
		err = errSum
	}
	if err != nil {
		return fault.Wrap(err, fault.Conflict, "repo.damaged", fault.Args{"place": r.String(), "name": name})
	}
	return nil
}

var errSum = errors.New("its sum is another")

// The last field of a manifest is its own SHA-256, of the text as it is without this field: a disk that changes a digit of an LSN must not go unnoticed.
var sumField = regexp.MustCompile(`,\n  "sum": "([0-9a-f]{64})"\n}\n$`)

func withSum(raw []byte) []byte {
	front, ok := bytes.CutSuffix(raw, []byte("\n}\n"))
	if !ok || raw[0] != '{' {
		return raw
	}
	return fmt.Appendf(slices.Clip(front), ",\n  \"sum\": \"%x\"\n}\n", sha256.Sum256(raw))
}

// CheckJSON tells whether a manifest is as it was written: its text says so at its end, and that is true.
func CheckJSON(raw []byte) bool {
	_, whole, _ := splitSum(raw)
	return whole
}

// splitSum gives a manifest without its sum, whether there is one, and whether it is right.
func splitSum(raw []byte) (plain []byte, whole, said bool) {
	m := sumField.FindSubmatchIndex(raw)
	if m == nil {
		return raw, false, false
	}
	plain = append(slices.Clone(raw[:m[0]]), "\n}\n"...)
	return plain, fmt.Sprintf("%x", sha256.Sum256(plain)) == string(raw[m[2]:m[3]]), true
}

// Writer seals a stream: what is written to it is compressed (in frames of zstd that all cores work on), encrypted and stored. It has no head,
// because what the content is is known at the end only; so Sum goes into a manifest.
type Writer struct {
	object Object
	out    *counter
	sealer io.WriteCloser
	packer *zstd.Encoder
	hash   hash.Hash
	sum    Head
	plain  *[]byte           // of the frame that is being filled
	queue  chan chan *[]byte // compressed frames, in order; nil when ended
	all    sync.WaitGroup
	failed atomic.Pointer[error]
}

// Writer begins a sealed stream under name, to which Ending is added. It must come to an end by Commit or Abort, or memory is lost.
func (r *Repo) Writer(ctx context.Context, name string) (*Writer, error) {
	packer, err := encoder(r.level, 0)
	if err != nil {
		return nil, err
	}
	o, err := r.Create(ctx, name+r.Ending())
	if err != nil {
		return nil, err
	}
	w := &Writer{object: o, out: &counter{dst: o}, packer: packer, hash: sha256.New(), plain: emptyBuffer(),
		queue: make(chan chan *[]byte, runtime.GOMAXPROCS(0))}
	if w.sealer, err = r.keys.Encrypt(w.out); err != nil {
		o.Abort()
		return nil, err
	}
	queue := w.queue
	w.all.Go(func() {
		for frame := range queue {
			packed := <-frame
			if w.failed.Load() == nil {
				if _, err := w.sealer.Write(*packed); err != nil {
					w.failed.Store(&err)
				}
			}
			buffers.Put(packed)
		}
	})
	return w, nil
}

func emptyBuffer() *[]byte {
	b := buffers.Get().(*[]byte) //nolint:forcetypeassert // nothing else is stored
	*b = (*b)[:0]
	return b
}

// Write implements io.Writer. An error may be that of an earlier one.
func (w *Writer) Write(p []byte) (int, error) {
	n := 0
	for n < len(p) {
		if err := w.failed.Load(); err != nil {
			return n, *err
		}
		take := min(framePlain-len(*w.plain), len(p)-n)
		*w.plain = append(*w.plain, p[n:n+take]...)
		n += take
		if len(*w.plain) == framePlain {
			w.pack()
		}
	}
	w.hash.Write(p)
	w.sum.Size += int64(n)
	return n, nil
}

// pack has the frame compressed, and waits when too many are on their way.
func (w *Writer) pack() {
	plain, frame := w.plain, make(chan *[]byte, 1)
	w.plain = emptyBuffer()
	w.queue <- frame
	go func() {
		packed := emptyBuffer()
		*packed = w.packer.EncodeAll(*plain, *packed)
		buffers.Put(plain)
		frame <- packed
	}()
}

// Commit ends the stream and gives the object its name, as Object.Commit does.
func (w *Writer) Commit(ctx context.Context) error {
	if len(*w.plain) > 0 || w.sum.Size == 0 {
		w.pack()
	}
	close(w.queue)
	w.all.Wait()
	w.queue = nil
	if err := w.failed.Load(); err != nil {
		return *err
	}
	if err := w.sealer.Close(); err != nil {
		return err
	}
	w.hash.Sum(w.sum.SHA256[:0])
	w.sum.Stored = w.out.n
	return w.object.Commit(ctx)
}

// Abort throws away what was written. After Commit it does nothing, so that it can be deferred.
func (w *Writer) Abort() {
	if w.queue != nil {
		w.failed.CompareAndSwap(nil, &errAborted)
		close(w.queue)
		w.all.Wait()
		w.queue = nil
	}
	w.object.Abort()
}

var errAborted = errors.New("aborted")

// Sum is what was written, known after Commit.
func (w *Writer) Sum() Head { return w.sum }

// Reader gives the content of a sealed object or stream, whose name is given with its ending. It checks what zstd and age check; a hash in a
// manifest is the caller's to compare.
func (r *Repo) Reader(ctx context.Context, name string) (io.ReadCloser, error) {
	src, err := r.Open(ctx, name, 0, -1)
	if err != nil {
		return nil, err
	}
	plain, err := r.keys.Decrypt(src)
	if err != nil {
		src.Close()
		return nil, r.at(err, name)
	}
	unpacked, err := zstd.NewReader(plain, zstd.WithDecoderMaxWindow(128<<20))
	if err != nil {
		src.Close()
		return nil, err
	}
	return &reader{r: r, name: name, src: src, unpacked: unpacked}, nil
}

type reader struct {
	r        *Repo
	name     string
	src      io.Closer
	unpacked *zstd.Decoder
}

func (r *reader) Read(p []byte) (int, error) {
	n, err := r.unpacked.Read(p)
	var known *fault.Fault
	if err != nil && !errors.Is(err, io.EOF) && !errors.As(err, &known) && !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded) {
		err = fault.Wrap(err, fault.Conflict, "repo.damaged", fault.Args{"place": r.r.String(), "name": r.name})
	}
	return n, err
}

func (r *reader) Close() error {
	r.unpacked.Close()
	return r.src.Close()
}

// Packed is a sealed object whose compressed bytes are read at offsets: the frames of a base backup. Offsets are those of the stream inside
// the encryption, where there is one. Its methods may be called by several goroutines.
type Packed struct {
	r      *Repo
	name   string
	stored int64
	size   int64
	key    age.Identity // nil: not encrypted
	front  []byte       // of the encrypted object: age's header and nonce
	last   []byte       // the last chunk of age's payload, which age looks at first
}

// Packed opens one, whose name is given with its ending; fs.ErrNotExist where there is none.
func (r *Repo) Packed(ctx context.Context, name string) (*Packed, error) {
	info, err := r.Stat(ctx, name)
	if err != nil {
		return nil, err
	}
	p := &Packed{r: r, name: name, stored: info.Size, size: info.Size}
	src, err := r.Open(ctx, name, 0, min(maxHead, info.Size))
	if err != nil {
		return nil, err
	}
	defer src.Close()
	begin := bufio.NewReaderSize(src, 4<<10)
	if magic, _ := begin.Peek(len(ageMagic)); string(magic) != ageMagic {
		return p, nil
	}
	if r.keys == nil || len(r.keys.identities) == 0 {
		return nil, r.at(fault.New(fault.Forbidden, "repo.no_identity"), name)
	}
	header, err := age.ExtractHeader(begin)
	if err != nil {
		return nil, r.at(decryptFault(err), name)
	}
	fileKey, err := age.DecryptHeader(header, r.keys.identities...)
	if err != nil {
		return nil, r.at(decryptFault(err), name)
	}
	p.key = age.NewInjectedFileKeyIdentity(fileKey)
	payload := info.Size - int64(len(header)) - nonceLength
	if payload < 16 {
		return nil, r.at(fault.New(fault.Conflict, "repo.damaged"), name)
	}
	if p.front, err = p.fetch(ctx, 0, int64(len(header))+nonceLength); err != nil {
		return nil, err
	}
	chunks := (payload + chunkSealed - 1) / chunkSealed
	p.size = payload - 16*chunks
	lastAt := int64(len(p.front)) + (chunks-1)*chunkSealed
	p.last, err = p.fetch(ctx, lastAt, info.Size-lastAt)
	return p, err
}

// Size is the length of the compressed stream, in bytes.
func (p *Packed) Size() int64 { return p.size }

func (p *Packed) fetch(ctx context.Context, offset, length int64) ([]byte, error) {
	src, err := p.r.Open(ctx, p.name, offset, length)
	if err != nil {
		return nil, err
	}
	defer src.Close()
	raw := make([]byte, length)
	if _, err := io.ReadFull(src, raw); err != nil {
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			err = fault.Wrap(err, fault.Conflict, "repo.damaged", fault.Args{"place": p.r.String(), "name": p.name})
		}
		return nil, err
	}
	return raw, nil
}

// Range reads length bytes of the compressed stream, from offset on, with one request to the store.
func (p *Packed) Range(ctx context.Context, offset, length int64) ([]byte, error) {
	if offset < 0 || length < 0 || offset > p.size-length {
		return nil, fault.New(fault.Conflict, "repo.damaged", fault.Args{"place": p.r.String(), "name": p.name})
	}
	if p.key == nil || length == 0 {
		return p.fetch(ctx, offset, length)
	}
	first, last := offset/chunkPlain, (offset+length-1)/chunkPlain
	from := int64(len(p.front)) + first*chunkSealed
	to := min(int64(len(p.front))+(last+1)*chunkSealed, p.stored)
	middle, err := p.fetch(ctx, from, to-from)
	if err != nil {
		return nil, err
	}
	plain, _, err := age.DecryptReaderAt(&pieces{p, from, middle}, p.stored, p.key)
	if err != nil {
		return nil, p.r.at(decryptFault(err), p.name)
	}
	raw := make([]byte, length)
	if _, err := plain.ReadAt(raw, offset); err != nil && !errors.Is(err, io.EOF) {
		return nil, p.r.at(decryptFault(err), p.name)
	}
	return raw, nil
}

// pieces are the parts of an encrypted object that age will ask for when it decrypts one range.
type pieces struct {
	p      *Packed
	from   int64
	middle []byte
}

// ReadAt implements io.ReaderAt.
func (s *pieces) ReadAt(into []byte, offset int64) (int, error) {
	n := 0
	for _, piece := range []struct {
		at   int64
		data []byte
	}{{0, s.p.front}, {s.from, s.middle}, {s.p.stored - int64(len(s.p.last)), s.p.last}} {
		if skip := offset + int64(n) - piece.at; skip >= 0 && skip < int64(len(piece.data)) {
			n += copy(into[n:], piece.data[skip:])
		}
	}
	if n < len(into) {
		return n, io.EOF
	}
	return n, nil
}
