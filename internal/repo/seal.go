package repo

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"math"
	"os"
	"strconv"
	"strings"
	"sync"

	"filippo.io/age"
	"github.com/cespare/xxhash/v2"
	"github.com/klauspost/compress/zstd"

	"howdah/internal/fault"
)

// A sealed object is its plain content, compressed by zstd, and then encrypted by age where there are recipients. `zstd -d`, or
// `age -d -i FILE | zstd -d`, gives the content back.
//
// An object that was sealed whole (Seal) says at its head, in the clear, what the content is, so that a second object of the same name
// can be judged by who cannot decrypt. Without encryption the head is a skippable frame of zstd with JSON in it, which zstd passes over
// (RFC 8878, 3.1.2); with it, a recipient stanza of a type of its own, which age passes over (https://age-encryption.org/v1).

// Head is what a sealed object says of its content. With encryption only somebody who holds an identity can tell that it is true.
type Head struct {
	SHA256 [sha256.Size]byte
	Size   int64 // of the plain content, in bytes
	Stored int64 // of the whole sealed object, in bytes: a shorter one is torn
}

// Same tells whether two heads stand for the same content.
func (h Head) Same(other Head) bool { return h.SHA256 == other.SHA256 && h.Size == other.Size }

// HeadOf is the head of content that is not sealed yet; Stored is 0.
func HeadOf(plain []byte) Head { return Head{SHA256: sha256.Sum256(plain), Size: int64(len(plain))} }

const (
	skippable   = 0x184D2A50 // magic number of the skippable frame that holds a head
	frameHead   = 8          // its magic number and length
	headLength  = 184        // of a whole skippable frame with a head: fixed, because it holds the length of all
	stanzaType  = "howdah-plain"
	ageMagic    = "age-encryption.org/v1\n"
	zstdMagic   = 0xFD2FB528
	chunkPlain  = 64 << 10 // of age's payload
	chunkSealed = chunkPlain + 16
	nonceLength = 16
	// maxHead is how far into an object the end of its head is looked for: a post-quantum recipient takes 1.6 kB.
	maxHead = 1 << 20
)

// Keys are who may read what is sealed, and with what we can read ourselves. A nil *Keys neither encrypts nor decrypts.
type Keys struct {
	recipients []age.Recipient
	identities []age.Identity
}

// NewKeys takes recipients (age's public keys, "age1...", or files of them) and a file of identities (age's private keys); both may be
// missing. A machine that only makes backups needs no identity.
func NewKeys(recipients []string, identityFile string) (*Keys, error) {
	k := &Keys{}
	for _, r := range recipients {
		r = strings.TrimSpace(r)
		if r == "" {
			continue
		}
		text := r
		if !strings.HasPrefix(r, "age1") {
			raw, err := os.ReadFile(r)
			if err != nil {
				return nil, fault.Wrap(err, fault.Invalid, "repo.recipient", fault.Args{"recipient": r})
			}
			text = string(raw)
		}
		parsed, err := age.ParseRecipients(strings.NewReader(text))
		if err != nil {
			return nil, fault.Wrap(err, fault.Invalid, "repo.recipient", fault.Args{"recipient": r})
		}
		k.recipients = append(k.recipients, parsed...)
	}
	if identityFile != "" {
		raw, err := os.ReadFile(identityFile)
		if err == nil {
			k.identities, err = age.ParseIdentities(bytes.NewReader(raw))
		}
		if err != nil {
			return nil, fault.Wrap(err, fault.Invalid, "repo.identity_file", fault.Args{"file": identityFile})
		}
	}
	return k, nil
}

// Encrypts tells whether what is sealed now will be encrypted.
func (k *Keys) Encrypts() bool { return k != nil && len(k.recipients) > 0 }

// Opens tells whether there is an identity to decrypt with.
func (k *Keys) Opens() bool { return k != nil && len(k.identities) > 0 }

// Encrypt gives a writer whose Close ends the encryption and leaves dst open. Without recipients it passes everything on as it is.
func (k *Keys) Encrypt(dst io.Writer) (io.WriteCloser, error) {
	if !k.Encrypts() {
		return passing{dst}, nil
	}
	return age.Encrypt(dst, k.recipients...)
}

type passing struct{ io.Writer }

func (passing) Close() error { return nil }

// Decrypt is the other way round of Encrypt; it sees by the first bytes whether there is anything to decrypt.
func (k *Keys) Decrypt(src io.Reader) (io.Reader, error) {
	b, ok := src.(*bufio.Reader)
	if !ok {
		b = bufio.NewReaderSize(src, 64<<10)
	}
	if begin, _ := b.Peek(len(ageMagic)); string(begin) != ageMagic {
		return b, nil // also where it ends or fails earlier: the reader meets that itself
	}
	if k == nil || len(k.identities) == 0 {
		return nil, fault.New(fault.Forbidden, "repo.no_identity")
	}
	r, err := age.Decrypt(b, k.identities...)
	if err != nil {
		return nil, decryptFault(err)
	}
	return r, nil
}

func decryptFault(err error) error {
	var known *fault.Fault
	var none *age.NoIdentityMatchError
	switch {
	case errors.As(err, &known):
		return err
	case errors.As(err, &none), errors.Is(err, age.ErrIncorrectIdentity):
		return fault.Wrap(err, fault.Forbidden, "repo.wrong_identity")
	}
	return fault.Wrap(err, fault.Conflict, "repo.damaged")
}

// Level is how hard zstd tries. The zero value is what zstd calls 3.
type Level int

// The levels, by what zstd's own levels they come close to.
const (
	Normal Level = iota // 3
	Fast                // 1
	Better              // 7
	Best                // 11
)

func (l Level) zstd() zstd.EncoderLevel {
	switch l {
	case Fast:
		return zstd.SpeedFastest
	case Better:
		return zstd.SpeedBetterCompression
	case Best:
		return zstd.SpeedBestCompression
	}
	return zstd.SpeedDefault
}

// encoders is one for each level and window. EncodeAll may be called by several goroutines, and keeps its memory for the next call.
var encoders sync.Map

// encoderKind is what encoders differ in; a window of 0 is the level's own.
type encoderKind struct {
	level  Level
	window int // bytes
}

// smallWindow is how far back an object that is sealed whole refers. WAL becomes larger by 0.2 % with it, and a process that lives for one
// segment has 15 MB less of memory to ask the system for, page by page: a fifth of its time.
const smallWindow = 1 << 20

func encoder(l Level, window int) (*zstd.Encoder, error) {
	kind := encoderKind{l, window}
	if e, ok := encoders.Load(kind); ok {
		return e.(*zstd.Encoder), nil //nolint:forcetypeassert // nothing else is stored
	}
	options := []zstd.EOption{zstd.WithEncoderLevel(l.zstd()), zstd.WithZeroFrames(true)}
	if window > 0 {
		options = append(options, zstd.WithWindowSize(window))
	}
	e, err := zstd.NewWriter(nil, options...)
	if err != nil {
		return nil, err
	}
	kept, _ := encoders.LoadOrStore(kind, e)
	return kept.(*zstd.Encoder), nil //nolint:forcetypeassert // nothing else is stored
}

// Compress appends one whole frame of zstd to dst.
func Compress(dst, plain []byte, l Level) ([]byte, error) {
	e, err := encoder(l, 0)
	if err != nil {
		return nil, err
	}
	return e.EncodeAll(plain, dst), nil
}

var decoder = sync.OnceValues(func() (*zstd.Decoder, error) {
	return zstd.NewReader(nil, zstd.WithDecoderConcurrency(0), zstd.WithDecodeAllCapLimit(true), zstd.WithDecoderMaxMemory(math.MaxInt64))
})

// Decompress appends the content of whole frames to dst, whose capacity is the limit: what is longer is damaged.
func Decompress(dst, frames []byte) ([]byte, error) {
	d, err := decoder()
	if err != nil {
		return nil, err
	}
	if dst, err = d.DecodeAll(frames, dst); err != nil {
		return nil, fault.Wrap(err, fault.Conflict, "repo.damaged")
	}
	return dst, nil
}

// buffers hold sealed objects while they are made or read.
var buffers = sync.Pool{New: func() any { return new([]byte) }}

// framePlain is how much content goes into one frame of zstd at most, so that all cores share the work on a segment of WAL.
const framePlain = 4 << 20

// sealFrames compresses the content into frames, and gives their length in all; release gives their memory back.
func sealFrames(plain []byte, level Level) (frames [][]byte, length int64, release func(), err error) {
	e, err := encoder(level, smallWindow)
	if err != nil {
		return nil, 0, nil, err
	}
	held := make([]*[]byte, max(1, (len(plain)+framePlain-1)/framePlain))
	frames = make([][]byte, len(held))
	var all sync.WaitGroup
	for i := range held {
		held[i] = buffers.Get().(*[]byte) //nolint:forcetypeassert // nothing else is stored
		all.Go(func() {
			*held[i] = e.EncodeAll(plain[i*framePlain:min(len(plain), (i+1)*framePlain)], (*held[i])[:0])
			frames[i] = *held[i]
		})
	}
	all.Wait()
	for _, frame := range frames {
		length += int64(len(frame))
	}
	return frames, length, func() {
		for _, b := range held {
			buffers.Put(b)
		}
	}, nil
}

// Seal writes the content to dst as a sealed object, and gives its head.
func Seal(dst io.Writer, plain []byte, keys *Keys, level Level) (Head, error) {
	sum := make(chan [sha256.Size]byte, 1)
	go func() { sum <- sha256.Sum256(plain) }()
	frames, packed, release, err := sealFrames(plain, level)
	h := Head{SHA256: <-sum, Size: int64(len(plain)), Stored: headLength + packed}
	if err != nil {
		return h, err
	}
	defer release()
	out := &counter{dst: dst}
	var w io.WriteCloser = passing{out}
	if keys.Encrypts() {
		withHead := &headRecipient{recipient: keys.recipients[0], head: h, packed: packed}
		w, err = age.Encrypt(out, append([]age.Recipient{withHead}, keys.recipients[1:]...)...)
	} else {
		_, err = w.Write(clearHead(h, frames))
	}
	for _, frame := range frames {
		if err == nil {
			_, err = w.Write(frame)
		}
	}
	if err == nil {
		err = w.Close()
	}
	h.Stored = out.n
	return h, err
}

type counter struct {
	dst io.Writer
	n   int64
}

func (c *counter) Write(p []byte) (int, error) {
	n, err := c.dst.Write(p)
	c.n += int64(n)
	return n, err
}

type headJSON struct {
	Howdah int    `json:"howdah"` // version of this form
	SHA256 string `json:"sha256"`
	Size   int64  `json:"size"`
	Stored int64  `json:"stored"`
	Sum    string `json:"sum,omitempty"` // XXH64 of the whole object, with noSum in its place
}

// noSum stands where the sum will.
const noSum = "0000000000000000"

// clearHead is a skippable frame of headLength bytes for these frames; blanks after the JSON make up for the length of its numbers.
func clearHead(h Head, frames [][]byte) []byte {
	head := bytes.Repeat([]byte(" "), headLength)
	text, _ := json.Marshal(headJSON{1, hex.EncodeToString(h.SHA256[:]), h.Size, h.Stored, noSum}) // cannot fail
	binary.LittleEndian.PutUint32(head, skippable)
	binary.LittleEndian.PutUint32(head[4:], headLength-frameHead)
	copy(head[frameHead:], text)
	sum := xxhash.New()
	_, _ = sum.Write(head)
	for _, frame := range frames {
		_, _ = sum.Write(frame)
	}
	hex.Encode(head[sumAt(head):], sum.Sum(nil))
	return head
}

// sumAt is where the sum stands in the head of an object that is not encrypted; 0: it was sealed before there were sums.
func sumAt(object []byte) int {
	const before = `,"sum":"`
	head := object[:min(len(object), headLength)]
	if at := bytes.Index(head, []byte(before)); at >= 0 && len(head) >= at+len(before)+len(noSum) {
		return at + len(before)
	}
	return 0
}

// headRecipient adds the head to what another recipient writes; so the labels, by which age keeps recipients apart that must not be
// mixed, stay that one's.
type headRecipient struct {
	recipient age.Recipient
	head      Head
	packed    int64
}

// Wrap implements age.Recipient.
func (r *headRecipient) Wrap(fileKey []byte) ([]*age.Stanza, error) {
	stanzas, _, err := r.WrapWithLabels(fileKey)
	return stanzas, err
}

// WrapWithLabels implements age.RecipientWithLabels.
func (r *headRecipient) WrapWithLabels(fileKey []byte) (stanzas []*age.Stanza, labels []string, err error) {
	if with, ok := r.recipient.(age.RecipientWithLabels); ok {
		stanzas, labels, err = with.WrapWithLabels(fileKey)
	} else {
		stanzas, err = r.recipient.Wrap(fileKey)
	}
	if err != nil {
		return nil, nil, err
	}
	head := &age.Stanza{Type: stanzaType, Args: []string{base64.RawStdEncoding.EncodeToString(r.head.SHA256[:]),
		strconv.FormatInt(r.head.Size, 10), strconv.FormatInt(r.packed, 10)}}
	return append([]*age.Stanza{head}, stanzas...), labels, nil
}

// errNoHead: the object was not sealed whole, or is none of ours.
var errNoHead = errors.New("there is no head")

// ReadHead reads the head of a sealed object, and no more than some kilobytes. The fault "repo.damaged" means that there is none.
func ReadHead(src io.Reader) (Head, error) {
	h, err := readHead(bufio.NewReaderSize(io.LimitReader(src, maxHead), 4<<10))
	var known *fault.Fault
	if err != nil && !errors.As(err, &known) {
		err = fault.Wrap(err, fault.Conflict, "repo.damaged")
	}
	return h, err
}

func readHead(src *bufio.Reader) (Head, error) {
	begin, err := src.Peek(frameHead)
	if err != nil {
		return Head{}, eofUnexpected(err)
	}
	if binary.LittleEndian.Uint32(begin) == skippable {
		length := binary.LittleEndian.Uint32(begin[4:])
		if length > 4<<10 {
			return Head{}, errNoHead
		}
		text := make([]byte, frameHead+length)
		if _, err := io.ReadFull(src, text); err != nil {
			return Head{}, eofUnexpected(err)
		}
		return parseHead(text[frameHead:])
	}
	var length int64
	line := func() (string, error) {
		text, err := src.ReadString('\n')
		length += int64(len(text))
		return text, eofUnexpected(err)
	}
	text, err := line()
	if err != nil {
		return Head{}, err
	}
	if text != ageMagic {
		return Head{}, errNoHead
	}
	var h Head
	packed, found := int64(0), false
	for {
		if text, err = line(); err != nil {
			return Head{}, err
		}
		if strings.HasPrefix(text, "---") {
			break
		}
		fields := strings.Fields(text)
		if len(fields) != 5 || fields[0] != "->" || fields[1] != stanzaType {
			continue
		}
		if found { // two of them: whom should we believe?
			return Head{}, errNoHead
		}
		found = true
		sum, err := base64.RawStdEncoding.Strict().DecodeString(fields[2])
		size, sizeErr := strconv.ParseInt(fields[3], 10, 64)
		sealed, sealedErr := strconv.ParseInt(fields[4], 10, 64)
		if err = errors.Join(err, sizeErr, sealedErr); err != nil || len(sum) != len(h.SHA256) || size < 0 || sealed < 0 || sealed > 1<<60 {
			return Head{}, errors.Join(errNoHead, err)
		}
		h.SHA256, h.Size, packed = [sha256.Size]byte(sum), size, sealed
	}
	if !found {
		return Head{}, errNoHead
	}
	h.Stored = length + nonceLength + packed + 16*max(1, (packed+chunkPlain-1)/chunkPlain)
	return h, nil
}

func parseHead(text []byte) (Head, error) {
	var j headJSON
	if err := json.Unmarshal(text, &j); err != nil {
		return Head{}, errors.Join(errNoHead, err)
	}
	sum, err := hex.DecodeString(j.SHA256)
	if err != nil || len(sum) != sha256.Size || j.Size < 0 || j.Stored < 0 {
		return Head{}, errors.Join(errNoHead, err)
	}
	return Head{[sha256.Size]byte(sum), j.Size, j.Stored}, nil
}

func eofUnexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// maxWhole is the largest content that is read into memory in one piece: the largest WAL segment that PostgreSQL knows.
const maxWhole = 1 << 30

// Unseal gives the content of an object that was sealed whole, appended to into, after its length and hash were compared with the
// head. Damage anywhere in the object is the fault "repo.damaged".
func Unseal(into, sealed []byte, keys *Keys) ([]byte, Head, error) {
	h, err := ReadHead(bytes.NewReader(sealed))
	if err != nil {
		return nil, h, err
	}
	if h.Size > maxWhole || h.Stored != int64(len(sealed)) {
		return nil, h, fault.New(fault.Conflict, "repo.damaged")
	}
	frames, done, err := decrypted(sealed, keys)
	if err != nil {
		return nil, h, err
	}
	defer done()
	at := len(into)
	if cap(into)-at < int(h.Size) {
		into = append(make([]byte, 0, at+int(h.Size)), into...)
	}
	plain, err := Decompress(into[:at:at+int(h.Size)], frames)
	if err != nil {
		return nil, h, err
	}
	if plain = plain[at:]; int64(len(plain)) != h.Size || sha256.Sum256(plain) != h.SHA256 {
		return nil, h, fault.New(fault.Conflict, "repo.damaged")
	}
	return into[:at+len(plain)], h, nil
}

// decrypted gives the frames of zstd in a sealed object, whole and authenticated where it is encrypted; done gives their memory back.
func decrypted(sealed []byte, keys *Keys) (frames []byte, done func(), err error) {
	if !bytes.HasPrefix(sealed, []byte(ageMagic)) {
		return sealed, func() {}, nil
	}
	r, err := keys.Decrypt(bufio.NewReaderSize(bytes.NewReader(sealed), 4<<10))
	if err != nil {
		return nil, nil, err
	}
	buffer := buffers.Get().(*[]byte) //nolint:forcetypeassert // nothing else is stored
	if *buffer, err = readAll((*buffer)[:0], r, len(sealed)); err != nil {
		buffers.Put(buffer)
		return nil, nil, decryptFault(err)
	}
	return *buffer, func() { buffers.Put(buffer) }, nil
}

// CheckSealed tells whether an object that was sealed whole is as it was written, byte for byte, and gives the first bytes of its content, as many as there are
// up to len(begin). It is Unseal for who does not need the rest: a sum over all that is stored, or age's authentication of it, takes a fraction of the time.
// Damage is the fault "repo.damaged".
func CheckSealed(sealed, begin []byte, keys *Keys) ([]byte, Head, error) {
	h, err := ReadHead(bytes.NewReader(sealed))
	if err != nil {
		return nil, h, err
	}
	if h.Stored != int64(len(sealed)) {
		return nil, h, fault.New(fault.Conflict, "repo.damaged")
	}
	if !bytes.HasPrefix(sealed, []byte(ageMagic)) {
		at := sumAt(sealed)
		if at == 0 {
			plain, h, err := Unseal(nil, sealed, keys)
			return begin[:copy(begin, plain)], h, err
		}
		sum := xxhash.New()
		_, _ = sum.Write(sealed[:at])
		_, _ = sum.WriteString(noSum)
		_, _ = sum.Write(sealed[at+len(noSum):])
		if hex.EncodeToString(sum.Sum(nil)) != string(sealed[at:at+len(noSum)]) {
			return nil, h, fault.New(fault.Conflict, "repo.damaged")
		}
	}
	frames, done, err := decrypted(sealed, keys)
	if err != nil {
		return nil, h, err
	}
	defer done()
	d, _ := beginners.Get().(*zstd.Decoder)
	if d == nil {
		if d, err = zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxMemory(math.MaxInt64)); err != nil {
			return nil, h, err
		}
	}
	defer beginners.Put(d)
	if err := d.Reset(bytes.NewReader(frames)); err != nil {
		return nil, h, fault.Wrap(err, fault.Conflict, "repo.damaged")
	}
	n, err := io.ReadFull(d, begin)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) || int64(n) != min(h.Size, int64(len(begin))) {
		return nil, h, fault.Wrap(err, fault.Conflict, "repo.damaged")
	}
	return begin[:n], h, nil
}

// beginners read the beginning of objects.
var beginners sync.Pool

// readAll appends all of r to b; expected is how much it probably is.
func readAll(b []byte, r io.Reader, expected int) ([]byte, error) {
	if cap(b) < expected {
		b = make([]byte, 0, expected+512)
	}
	for {
		n, err := r.Read(b[len(b):cap(b)])
		b = b[:len(b)+n]
		if errors.Is(err, io.EOF) {
			return b, nil
		}
		if err != nil {
			return b, err
		}
		if len(b) == cap(b) {
			b = append(b, 0)[:len(b)]
		}
	}
}
