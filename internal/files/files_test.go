package files

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/jpeg"
	"image/png"
	"io"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"howdah/internal/fault"
	"howdah/internal/pg"
	"howdah/internal/pg/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

type house struct {
	*Store
	t  testing.TB
	db *pgtest.DB
}

func newHouse(t testing.TB, limits Limits) *house {
	t.Helper()
	db := pgtest.New(t)
	h := &house{Open(t.Context(), db.App, limits), t, db}
	t.Cleanup(h.Close)
	return h
}

func (h *house) person(handle string) int64 {
	h.t.Helper()
	type row struct{ ID int64 }
	p, _, err := pg.One[row](h.t.Context(), h.db.App, `INSERT INTO account.person (handle, name, role, password_hash) VALUES ($1, $1, 'member', 'x') RETURNING id`, handle)
	if err != nil {
		h.t.Fatal(err)
	}
	return p.ID
}

func (h *house) count(sql string, args ...any) (n int64) {
	h.t.Helper()
	if err := h.db.App.QueryRow(h.t.Context(), sql, args...).Scan(&n); err != nil {
		h.t.Fatal(err)
	}
	return n
}

var ids = struct {
	sync.Mutex
	n int
}{}

func newID() string {
	ids.Lock()
	defer ids.Unlock()
	ids.n++
	return fmt.Sprintf("00000000-0000-4000-8000-%012x", ids.n)
}

func noise(n int, seed uint64) []byte {
	r := rand.NewChaCha8([32]byte{byte(seed)})
	b := make([]byte, n)
	_, _ = r.Read(b)
	return b
}

func (h *house) send(person int64, name string, data []byte) Upload {
	h.t.Helper()
	u, err := h.Begin(h.t.Context(), person, Draft{newID(), name, int64(len(data))})
	if err == nil && !u.Done {
		u, err = h.Append(h.t.Context(), person, u.ID, 0, bytes.NewReader(data))
	}
	if err != nil || !u.Done {
		h.t.Fatal(u, err)
	}
	return u
}

func (h *house) read(u Upload) []byte {
	h.t.Helper()
	b, err := io.ReadAll(h.Reader(h.t.Context(), u.Content, u.Size))
	if err != nil {
		h.t.Fatal(err)
	}
	return b
}

func wantFault(t *testing.T, err error, key string) {
	t.Helper()
	if !fault.HasKey(err, key) {
		t.Errorf("want fault %s, have %v", key, err)
	}
}

// torn is a body whose connection breaks.
type torn struct {
	io.Reader
	err error
}

func (b torn) Read(p []byte) (int, error) {
	n, err := b.Reader.Read(p)
	if errors.Is(err, io.EOF) {
		err = b.err
	}
	return n, err
}

func TestAFileThatIsCutOffGoesOnWhereItCameTo(t *testing.T) {
	t.Parallel()
	h := newHouse(t, DefaultLimits)
	ann, bob := h.person("ann"), h.person("bob")
	data := noise(3*stretch+12345, 1)
	d := Draft{newID(), "../../etc/report\u202e.txt", int64(len(data))}
	u, err := h.Begin(t.Context(), ann, d)
	if err != nil || u.Received != 0 || u.Name != "report.txt" {
		t.Fatal(u, err)
	}
	if again, err := h.Begin(t.Context(), ann, d); err != nil || again != u {
		t.Error("a retry is answered otherwise", again, err)
	}
	_, err = h.Begin(t.Context(), ann, Draft{d.ID, "other.txt", 1})
	wantFault(t, err, "files.other")
	_, err = h.Upload(t.Context(), bob, d.ID)
	wantFault(t, err, "files.no_upload")

	// Pieces of all sizes, each cut off; what came is there, in another process too.
	node := Open(t.Context(), h.db.App, DefaultLimits)
	defer node.Close()
	for i, n := range []int{1, 8099, RowSize, stretch + 7, 0, 3} {
		at := u.Received
		store := []*Store{h.Store, node}[i%2]
		u, err = store.Append(t.Context(), ann, d.ID, at, torn{bytes.NewReader(data[at : at+int64(n)]), io.ErrUnexpectedEOF})
		if err != nil || u.Received != at+int64(n) || u.Done {
			t.Fatal(i, u, err)
		}
		if now, err := node.Upload(t.Context(), ann, d.ID); err != nil || now.Received != u.Received {
			t.Fatal(now, err)
		}
	}
	_, err = h.Append(t.Context(), ann, d.ID, 5, bytes.NewReader(data[5:]))
	wantFault(t, err, "files.offset")
	if fault.Of(err).Args["offset"] != u.Received {
		t.Error(err)
	}
	// Two send the rest at the same time: it is there once.
	var both sync.WaitGroup
	for range 2 {
		both.Go(func() {
			if _, err := h.Append(context.WithoutCancel(t.Context()), ann, d.ID, u.Received, bytes.NewReader(data[u.Received:])); err != nil && !fault.HasKey(err, "files.offset") {
				t.Error(err)
			}
		})
	}
	both.Wait()
	if u, err = h.Upload(t.Context(), ann, d.ID); err != nil || !u.Done {
		if u, err = h.Append(t.Context(), ann, d.ID, u.Received, bytes.NewReader(data[u.Received:])); err != nil || !u.Done {
			t.Fatal(u, err)
		}
	}
	if !bytes.Equal(h.read(u), data) {
		t.Error("it is not what was sent")
	}
	r := h.Reader(t.Context(), u.Content, u.Size)
	for _, at := range []int64{int64(stretch) + 5, 0, 1, RowSize - 1, RowSize, RowSize + 1, u.Size - 1, u.Size - RowSize} {
		if _, err := r.Seek(at, io.SeekStart); err != nil {
			t.Fatal(err)
		}
		part := make([]byte, min(2*RowSize, u.Size-at))
		if _, err := io.ReadFull(r, part); err != nil || !bytes.Equal(part, data[at:at+int64(len(part))]) {
			t.Error("wrong bytes from", at, err)
		}
	}
	_, err = h.Append(t.Context(), ann, d.ID, u.Size, strings.NewReader("x"))
	wantFault(t, err, "files.more")
	h.db.Exec(t, fmt.Sprintf(`DELETE FROM chat.content_part WHERE content_id = %d AND at > 100000 AND at < 120000`, u.Content))
	_, err = io.ReadAll(h.Reader(t.Context(), u.Content, u.Size))
	wantFault(t, err, "files.torn")
}

func TestTheSameContentIsKeptOnceAndGoesWhenNobodyHasIt(t *testing.T) {
	t.Parallel()
	h := newHouse(t, DefaultLimits)
	ann, bob := h.person("ann"), h.person("bob")
	data := noise(100_000, 2)
	var all sync.WaitGroup
	uploads := make([]Upload, 6)
	for i := range uploads {
		all.Go(func() { uploads[i] = h.send([]int64{ann, bob}[i%2], fmt.Sprint("copy ", i, ".bin"), data) })
	}
	all.Wait()
	for _, u := range uploads {
		if u.Content != uploads[0].Content || !bytes.Equal(h.read(u), data) {
			t.Error(u)
		}
	}
	empty := h.send(ann, "empty.txt", nil)
	if got := h.read(empty); len(got) != 0 {
		t.Error(got)
	}
	half, err := h.Begin(t.Context(), ann, Draft{newID(), "half", 50_000})
	if err == nil {
		half, err = h.Append(t.Context(), ann, half.ID, 0, bytes.NewReader(data[:20_000]))
	}
	if err != nil || half.Done {
		t.Fatal(half, err)
	}
	// A message has it; another message that had it is gone from its table.
	h.db.Exec(t, fmt.Sprintf(`INSERT INTO chat.message (room_id, seq, author_id, client_id, at, body, files) VALUES (1, 1, %[1]d, gen_random_uuid(), now(), '', 1);
		INSERT INTO chat.file (room_id, seq, n, content_id, person_id, name) VALUES (1, 1, 1, %[2]d, %[1]d, 'a'), (1, 2, 1, %[3]d, %[1]d, 'b')`, ann, uploads[0].Content, empty.Content))
	now := time.Now()
	sweep := func(after time.Duration, want int64) {
		t.Helper()
		if _, err := h.Sweep(t.Context(), now.Add(after)); err != nil {
			t.Fatal(err)
		}
		if have := h.count(`SELECT count(*) FROM chat.content`); have != want {
			t.Errorf("after %v: %d contents, want %d", after, have, want)
		}
	}
	sweep(0, 3) // the copies that were sent for nothing
	if have := h.count(`SELECT count(DISTINCT content_id) FROM chat.content_part`); have != 2 {
		t.Error(have, "contents have rows")
	}
	sweep(8*24*time.Hour, 2) // uploads are forgotten, and what never came as a whole
	sweep(10*24*time.Hour, 2)
	sweep(23*24*time.Hour, 1)
	if !bytes.Equal(h.read(uploads[0]), data) {
		t.Error("what a message has is gone")
	}
	h.db.Exec(t, `DELETE FROM chat.file`)
	sweep(23*24*time.Hour, 1)
	again := h.send(bob, "again", data) // it is wanted again in time
	sweep(23*24*time.Hour+time.Minute, 1)
	if !bytes.Equal(h.read(again), data) {
		t.Error("what is wanted again is gone")
	}
	if err := h.Cancel(t.Context(), bob, again.ID); err != nil {
		t.Error(err)
	}
	sweep(24*24*time.Hour, 1)
	sweep(26*24*time.Hour, 0)
	if have := h.count(`SELECT count(*) FROM chat.content_part`); have != 0 {
		t.Error(have, "rows are left")
	}
}

func TestWhatIsTooMuchIsRefused(t *testing.T) {
	t.Parallel()
	h := newHouse(t, Limits{File: 1000, Person: 1500, House: 2500, Refused: Endings([]string{".EXE"})})
	ann, bob := h.person("ann"), h.person("bob")
	begin := func(who int64, name string, size int64) error {
		_, err := h.Begin(t.Context(), who, Draft{newID(), name, size})
		return err
	}
	wantFault(t, begin(ann, "a", 1001), "files.too_large")
	wantFault(t, begin(ann, "a", -1), "files.size")
	wantFault(t, begin(ann, "Setup.Exe. ", 1), "files.refused")
	if err := begin(ann, "a", 1000); err != nil {
		t.Error(err)
	}
	wantFault(t, begin(ann, "b", 501), "files.quota")
	if err := begin(bob, "a", 1000); err != nil {
		t.Error(err)
	}
	wantFault(t, begin(bob, "b", 500+1), "files.quota")
	wantFault(t, begin(bob, "b", 501), "files.quota")
	if err := begin(bob, "b", 500); err != nil {
		t.Error(err)
	}
	wantFault(t, begin(ann, "b", 1), "files.house_full")
	_, err := h.Begin(t.Context(), ann, Draft{"x", "a", 1})
	wantFault(t, err, "chat.client_id")
	for range mostOfOne {
		if err := h.begin(ann); err != nil {
			t.Fatal(err)
		}
	}
	_, err = h.Append(t.Context(), ann, newID(), 0, strings.NewReader(""))
	wantFault(t, err, "files.at_once")
}

func TestNamesAreMadeHarmless(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		`C:\Users\ann\Bild.png`: "Bild.png", "/etc/passwd": "passwd", "..": "file", "": "file", " . ": "file", "a\x00b\n c.txt": "ab c.txt", "x\u202egnp.exe": "xgnp.exe",
		"報告 最終版.pdf": "報告 最終版.pdf", "a.txt. . ": "a.txt", "e\u0301.txt": "é.txt", "\xff.txt": "\ufffd.txt", "👩\u200d💻.png": "👩\u200d💻.png",
		strings.Repeat("字", 200) + ".docx": strings.Repeat("字", 83) + ".docx",
	} {
		if have := CleanName(in); have != want {
			t.Errorf("%q is %q, want %q", in, have, want)
		}
	}
}

func FuzzNames(f *testing.F) {
	for _, seed := range []string{"a/b\\c.txt", "\u202e.exe", strings.Repeat("字", 300), "..", "x." + strings.Repeat("y", 300), "\u200d"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, in string) {
		name := CleanName(in)
		if name == "" || len(name) > longestName || !utf8.ValidString(name) || strings.ContainsAny(name, "/\\\x00\n\r") || name == "." || name == ".." || strings.HasSuffix(name, ".") || CleanName(name) != name {
			t.Errorf("%q is %q, and again %q", in, name, CleanName(name))
		}
	})
}

// photo is a JPEG with an EXIF segment that turns it and says where it was made.
func photo(t testing.TB, w, h, orientation int) []byte {
	t.Helper()
	p := image.NewRGBA(image.Rect(0, 0, w, h))
	for y := range h {
		for x := range w {
			p.Set(x, y, color.RGBA{uint8(x), uint8(y), 128, 255}) //nolint:gosec // a pattern
		}
	}
	var b bytes.Buffer
	if err := jpeg.Encode(&b, p, nil); err != nil {
		t.Fatal(err)
	}
	exif := append([]byte("Exif\x00\x00MM\x00\x2a\x00\x00\x00\x08\x00\x01\x01\x12\x00\x03\x00\x00\x00\x01\x00"), byte(orientation), 0, 0, 0, 0, 0, 0)
	exif = append(exif, "GPSLatitude 24.99"...)
	out := append([]byte{0xff, 0xd8, 0xff, 0xe1, byte((len(exif) + 2) >> 8), byte(len(exif) + 2)}, exif...)
	return append(out, b.Bytes()[2:]...)
}

func TestPicturesAreMadeSmallUprightAndWithoutTheirPlace(t *testing.T) {
	t.Parallel()
	h := newHouse(t, DefaultLimits)
	ann := h.person("ann")
	u := h.send(ann, "IMG_1.JPG", photo(t, 2000, 1000, 6))
	type row struct {
		Type          string
		Width, Height int
	}
	if have, _, err := pg.One[row](t.Context(), h.db.App, `SELECT type, width, height FROM chat.content WHERE id = $1`, u.Content); err != nil || have != (row{"image/jpeg", 1000, 2000}) {
		t.Error(have, err)
	}
	kind, data, err := h.Preview(t.Context(), u.Content)
	if err != nil || kind != "image/jpeg" || bytes.Contains(data, []byte("GPS")) || bytes.Contains(data, []byte("Exif")) {
		t.Fatal(kind, len(data), err)
	}
	small, err := jpeg.DecodeConfig(bytes.NewReader(data))
	if err != nil || small.Width != 320 || small.Height != 640 {
		t.Error(small.Width, small.Height, err)
	}
	var clear bytes.Buffer
	if err := png.Encode(&clear, image.NewNRGBA(image.Rect(0, 0, 3000, 10))); err != nil {
		t.Fatal(err)
	}
	if kind, data, err := h.Preview(t.Context(), h.send(ann, "clear.png", clear.Bytes()).Content); err != nil || kind != "image/png" || len(data) == 0 {
		t.Error(kind, err)
	}
	// What claims to be huge, is cut off, or is something else is a file and no picture.
	bomb := bytes.Clone(clear.Bytes())
	copy(bomb[16:], []byte{0, 0, 0xff, 0xff, 0, 0, 0xff, 0xff})
	broken := photo(t, 500, 500, 1)
	for name, data := range map[string][]byte{"bomb.png": bomb, "head.jpg": broken[:200], "zip.jpg": append([]byte("PK\x03\x04"), noise(100, 3)...), "page.png": []byte("<svg onload=alert(1)>"), "x.gif": []byte("GIF89a")} {
		u := h.send(ann, name, data)
		_, _, err := h.Preview(t.Context(), u.Content)
		wantFault(t, err, "files.no_preview")
	}
	u = h.send(ann, "half.jpg", broken[:len(broken)-2000]) // its head is well
	_, _, err = h.Preview(t.Context(), u.Content)
	wantFault(t, err, "files.no_preview")
}

func TestContentsAreKnownByTheirBytes(t *testing.T) {
	t.Parallel()
	for head, want := range map[string]string{
		"": Text, "hello": Text, "<html><script>": Text, "<?xml version='1.0'?><svg/>": Text, "\x00\x01\x02": Other, "%PDF-1.7": PDF, "PK\x03\x04": "application/zip",
		"\x00\x00\x00\x20ftypisom": "video/mp4", "\x00\x00\x00\x20ftypM4A ": "audio/mp4", "\x00\x00\x00\x20ftypheic": Other, "\x1aE\xdf\xa3....webm": "video/webm", "ID3\x04": "audio/mpeg",
		"\x89PNG\r\n\x1a\n": "image/png", "MZ\x90\x00": Other, strings.Repeat("字", 2000)[:headSize]: Text, "a\xff": Other,
	} {
		if have := Sniff([]byte(head)); have != want {
			t.Errorf("%.20q is %s, want %s", head, have, want)
		}
	}
	if have := excerpt([]byte("a\tb\r\nc\u202ed\x1b[31m\n" + strings.Repeat("x\n", 50))); have != "a\tb\ncd[31m"+strings.Repeat("\nx", 8) {
		t.Errorf("%q", have)
	}
}

func FuzzPictures(f *testing.F) {
	f.Add(photo(f, 40, 30, 3))
	f.Add([]byte("GIF89a\x02\x00\x02\x00\x80\x00\x00\xff\xff\xff\x00\x00\x00,\x00\x00\x00\x00\x02\x00\x02\x00\x00\x02\x02\x84Q\x00;"))
	var b bytes.Buffer
	if err := png.Encode(&b, image.NewGray(image.Rect(0, 0, 5, 5))); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes())
	f.Fuzz(func(t *testing.T, data []byte) {
		kind := Sniff(data[:min(len(data), headSize)])
		_ = excerpt(data)
		if !strings.HasPrefix(kind, "image/") || kind == "image/avif" {
			return
		}
		if look, err := measure(kind, bytes.NewReader(data)); err != nil || float64(look.width)*float64(look.height) > 1<<20 {
			return
		}
		if small, err := thumbnail(kind, bytes.NewReader(data), previewWidth, previewHeight); err == nil && (len(small.Data) == 0 || small.Type == "") {
			t.Error("a preview of nothing")
		}
	})
}

func TestASumIsThatOfAllThatCame(t *testing.T) {
	t.Parallel()
	h := newHouse(t, DefaultLimits)
	data := noise(stretch+1, 4)
	u := h.send(h.person("ann"), "x", data)
	var sum []byte
	if err := h.db.App.QueryRow(t.Context(), `SELECT sha256 FROM chat.content WHERE id = $1`, u.Content).Scan(&sum); err != nil {
		t.Fatal(err)
	}
	if want := sha256.Sum256(data); !bytes.Equal(sum, want[:]) {
		t.Error("another sum")
	}
}
