package repo

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"howdah/internal/fault"
)

var long = time.Date(2026, 11, 22, 3, 0, 0, 0, time.UTC)

// entries are a tar as PostgreSQL sends one, in small: small files, an empty one, large ones, folders, a link.
func entries() map[string][]byte {
	noise := rand.NewChaCha8([32]byte{1})
	random := func(n int) []byte {
		p := make([]byte, n)
		_, _ = noise.Read(p)
		return p
	}
	return map[string][]byte{
		"backup_label": []byte("START WAL LOCATION: 0/2000028\n"), "base/5/1259": bytes.Repeat([]byte("pg_class "), 20_000), "base/5/empty": {},
		"base/16384/16385": random(4<<20 + 12345), "base/16384/16385.1": make([]byte, 4<<20), "base/16384/16386": random(2<<20 - 100),
		"base/16384/16387": random(1 << 20), "global/pg_control": random(8192), "a name with blanks & \"signs\"": []byte("x"), "global/\xe9t\xe9": []byte("latin"),
	}
}

func makeTar(t testing.TB, files map[string][]byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	add := func(h tar.Header, content []byte) {
		h.Format, h.ModTime = tar.FormatUSTAR, long
		if strings.ContainsRune(h.Name, 0xfffd) || h.Name == "global/\xe9t\xe9" {
			h.Format = tar.FormatGNU // the package takes no such name for ustar; the header is the same but for its magic
		}
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(h.Name, err)
		}
		if _, err := w.Write(content); err != nil {
			t.Fatal(err)
		}
	}
	names := make([]string, 0, len(files))
	for name := range files {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, dir := range []string{"base", "base/5", "base/16384", "global", "pg_replslot"} {
		add(tar.Header{Name: dir + "/", Typeflag: tar.TypeDir, Mode: 0o750}, nil)
	}
	for _, name := range names {
		add(tar.Header{Name: name, Mode: 0o640, Size: int64(len(files[name]))}, files[name])
	}
	add(tar.Header{Name: "pg_wal", Typeflag: tar.TypeSymlink, Linkname: "/srv/wal", Mode: 0o777}, nil)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// pack writes a tar in pieces of odd sizes.
func pack(t testing.TB, plain []byte, piece int) (*Tarball, []byte) {
	t.Helper()
	var packed bytes.Buffer
	w, err := NewTarballWriter(&packed, TarballOptions{Workers: 3})
	if err != nil {
		t.Fatal(err)
	}
	for p := range slices.Chunk(plain, piece) {
		if _, err := w.Write(p); err != nil {
			t.Fatal(err)
		}
	}
	index, err := w.Close()
	if err != nil {
		t.Fatal(err)
	}
	index.Name = "base"
	raw, err := json.Marshal(index)
	if err != nil {
		t.Fatal(err)
	}
	read := &Tarball{}
	if err := json.Unmarshal(raw, read); err != nil {
		t.Fatal(err)
	}
	if err := read.Check(); err != nil {
		t.Fatal(err)
	}
	return read, packed.Bytes()
}

func emptyRoot(t testing.TB) *os.Root {
	t.Helper()
	root, err := os.OpenRoot(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = root.Close() })
	return root
}

// holds compares a folder with what should be in it.
func holds(t *testing.T, dir string, want map[string][]byte) {
	t.Helper()
	for name, content := range want {
		at := filepath.Join(dir, filepath.FromSlash(name))
		if got, err := os.ReadFile(at); err != nil || !bytes.Equal(got, content) {
			t.Errorf("%q: %v, or another content", name, err)
		}
		if st, err := os.Stat(at); err != nil || st.Mode().Perm() != 0o640 || !st.ModTime().Equal(long) {
			t.Errorf("%q: %v %v", name, st, err)
		}
	}
	if st, err := os.Stat(filepath.Join(dir, "pg_replslot")); err != nil || !st.IsDir() || st.Mode().Perm() != 0o750 || !st.ModTime().Equal(long) {
		t.Errorf("the empty folder: %v %v", st, err)
	}
	if link, err := os.Readlink(filepath.Join(dir, "pg_wal")); err != nil || link != "/srv/wal" {
		t.Errorf("the link: %q %v", link, err)
	}
}

func TestATarballIsRestoredAsItWas(t *testing.T) {
	t.Parallel()
	files := entries()
	plain := makeTar(t, files)
	index, packed := pack(t, plain, 32768)
	root := emptyRoot(t)
	var told atomic.Int64
	err := index.Extract(t.Context(), RangesAt(bytes.NewReader(packed)), root, ExtractOptions{Sync: true, Progress: func(n int64) { told.Add(n) }})
	if err != nil {
		t.Fatal(err)
	}
	holds(t, root.Name(), files)
	if told.Load() != int64(len(plain)) || index.Plain != int64(len(plain)) || index.Length != int64(len(packed)) {
		t.Errorf("%d bytes told, %d and %d in the index, of %d and %d", told.Load(), index.Plain, index.Length, len(plain), len(packed))
	}
	// And again into the same folder: nothing is written over.
	err = index.Extract(t.Context(), RangesAt(bytes.NewReader(packed)), root, ExtractOptions{})
	if !fault.HasKey(err, "repo.target_exists") {
		t.Error(err)
	}
}

func TestStockToolsReadATarball(t *testing.T) {
	t.Parallel()
	for _, tool := range []string{"zstd", "tar"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Fatalf("run .ci/deps: %v", err)
		}
	}
	files := entries()
	_, packed := pack(t, makeTar(t, files), 1<<20)
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "base.tar.zst"), packed, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "sh", "-ec", "zstd -d < base.tar.zst > base.tar; mkdir out; tar -x -p -f base.tar -C out")
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	holds(t, filepath.Join(dir, "out"), files)
}

func TestFramesBeginAtFilesAndHoldAtMostFourMiB(t *testing.T) {
	t.Parallel()
	plain := makeTar(t, entries())
	index, packed := pack(t, plain, 100_000)
	again, same := pack(t, plain, 511)
	if !bytes.Equal(packed, same) || !slices.Equal(index.Frames, again.Frames) {
		t.Error("how the stream is cut into writes has changed the tarball")
	}
	starts := map[int64]bool{}
	for _, f := range index.Files {
		starts[f.Offset-tarUnit] = true
		for at := int64(frameSize); at < f.Size; at += frameSize {
			starts[f.Offset+at] = true
		}
	}
	for i, f := range index.Frames[:len(index.Frames)-1] {
		if !starts[f.Start] || f.Plain > maxFrame {
			t.Errorf("frame %d begins at %d with %d bytes", i, f.Start, f.Plain)
		}
		decoder, err := zstd.NewReader(bytes.NewReader(packed[f.Offset : f.Offset+f.Length]))
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(decoder)
		decoder.Close()
		if err != nil || !bytes.Equal(got, plain[f.Start:f.Start+f.Plain]) {
			t.Errorf("frame %d alone: %v", i, err)
		}
	}
}

// counting counts what is read of a tarball.
func counting(packed []byte, n *atomic.Int64) Ranges {
	at := RangesAt(bytes.NewReader(packed))
	return func(ctx context.Context, offset, length int64) ([]byte, error) {
		n.Add(length)
		return at(ctx, offset, length)
	}
}

func TestOneFileIsFetchedWithoutTheRest(t *testing.T) {
	t.Parallel()
	files := entries()
	index, packed := pack(t, makeTar(t, files), 1<<16)
	for name, want := range files {
		var read atomic.Int64
		f, ok := index.Find(name)
		if !ok {
			t.Fatal(name)
		}
		r, err := index.Open(t.Context(), counting(packed, &read), f)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(r)
		if err != nil || !bytes.Equal(got, want) || r.Close() != nil {
			t.Errorf("%s: %v, or another content", name, err)
		}
		if read.Load() > int64(len(want))+2<<20 {
			t.Errorf("%s has %d bytes, and %d were read", name, len(want), read.Load())
		}
	}
	root := emptyRoot(t)
	var read atomic.Int64
	err := index.Extract(t.Context(), counting(packed, &read), root, ExtractOptions{Only: func(f File) bool { return strings.HasPrefix(f.Path, "base/5/") }})
	if err != nil || read.Load() > 1<<20 {
		t.Errorf("%v, %d bytes were read", err, read.Load())
	}
	if got, err := os.ReadFile(filepath.Join(root.Name(), "base/5/1259")); err != nil || !bytes.Equal(got, files["base/5/1259"]) {
		t.Error(err)
	}
	if _, err := root.Stat("global"); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}

func TestAReaderThatStopsEarlyLeavesNothingRunning(t *testing.T) {
	t.Parallel()
	index, packed := pack(t, makeTar(t, entries()), 1<<16)
	f, _ := index.Find("base/16384/16385")
	r, err := index.Open(t.Context(), RangesAt(bytes.NewReader(packed)), f)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.CopyN(io.Discard, r, 1<<20); err != nil {
		t.Fatal(err)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := index.Verify(ctx, RangesAt(bytes.NewReader(packed)), 2, nil); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// TestAFlippedBitIsFound: or it is one that zstd does not look at, and then the content is what it was.
func TestAFlippedBitIsFound(t *testing.T) {
	t.Parallel()
	files := entries()
	for name, content := range files {
		files[name] = content[:min(len(content), 100_000)]
	}
	index, packed := pack(t, makeTar(t, files), 1<<16)
	random := rand.New(rand.NewPCG(1, 2))
	found := 0
	for range 60 {
		bad := bytes.Clone(packed)
		bad[random.IntN(len(bad))] ^= 1 << random.IntN(8)
		err := index.Verify(t.Context(), RangesAt(bytes.NewReader(bad)), 2, nil)
		if err != nil && !fault.HasKey(err, "repo.frame_damaged") {
			t.Error(err)
		}
		if err != nil {
			found++
			if files, _ := fault.Of(err).Args["files"].(string); files == "" {
				t.Errorf("it does not say which files: %v", err)
			}
		}
	}
	if found < 55 {
		t.Errorf("%d of 60 were found", found)
	}
	for _, cut := range []int{0, 1, len(packed) / 2, len(packed) - 1} {
		err := index.Verify(t.Context(), RangesAt(bytes.NewReader(packed[:cut])), 2, nil)
		if !fault.HasKey(err, "repo.frame_damaged") {
			t.Errorf("cut at %d: %v", cut, err)
		}
	}
}

func TestNothingLeavesTheFolder(t *testing.T) {
	t.Parallel()
	index, packed := pack(t, makeTar(t, entries()), 1<<20)
	path := &index.Files[len(index.Files)-3].Path
	was := *path
	for _, name := range []string{"../outside", "/etc/outside", "a/../../outside", "..", ".", "", "a//b", "a/./b"} {
		*path = name
		err := index.Extract(t.Context(), RangesAt(bytes.NewReader(packed)), emptyRoot(t), ExtractOptions{})
		if !fault.HasKey(err, "repo.path_escapes") {
			t.Errorf("%q in an index: %v", name, err)
		}
		var block [tarUnit]byte
		header(block[:], name, '0', 0)
		w, err := NewTarballWriter(io.Discard, TarballOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err = w.Write(block[:]); name != "a//b" && !fault.HasKey(err, "repo.path_escapes") {
			t.Errorf("%q in a tar: %v", name, err)
		}
		w.Abort()
	}
	*path = was
	if err := index.Extract(t.Context(), RangesAt(bytes.NewReader(packed)), emptyRoot(t), ExtractOptions{}); err != nil {
		t.Errorf("as it was: %v", err)
	}
	// A link out of the folder, and then a file through it.
	outside := t.TempDir()
	index, packed = pack(t, makeTar(t, map[string][]byte{"through/x": []byte("caught"), "y": {}}), 1<<20)
	for i, f := range index.Files {
		if f.Mode&fs.ModeSymlink != 0 {
			index.Files[i].Path, index.Files[i].Link = "through", outside
		}
	}
	if err := index.Extract(t.Context(), RangesAt(bytes.NewReader(packed)), emptyRoot(t), ExtractOptions{}); err == nil {
		t.Error("it went through a link")
	}
	if left, err := os.ReadDir(outside); err != nil || len(left) > 0 {
		t.Error(left, err)
	}
}

// header makes the header of a file in a tar.
func header(block []byte, name string, kind byte, size int64) {
	copy(block, name)
	copy(block[100:], fmt.Sprintf("%07o", 0o600))
	copy(block[124:], fmt.Sprintf("%011o", size))
	block[156] = kind
	copy(block[148:156], "        ")
	sum := 0
	for _, b := range block[:tarUnit] {
		sum += int(b)
	}
	copy(block[148:], fmt.Sprintf("%06o\x00", sum))
}

func TestATarThatIsCutOffIsNoBackup(t *testing.T) {
	t.Parallel()
	plain := makeTar(t, entries())
	for _, cut := range []int{0, 100, 511, 512, 1024, len(plain) / 2, len(plain) - 1024} {
		w, err := NewTarballWriter(io.Discard, TarballOptions{Workers: 1})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(plain[:cut]); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Close(); !fault.HasKey(err, "repo.not_tar") {
			t.Errorf("cut at %d: %v", cut, err)
		}
	}
	w, err := NewTarballWriter(io.Discard, TarballOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Abort()
	if _, err = w.Write(append(bytes.Clone(plain), 1)); !fault.HasKey(err, "repo.not_tar") {
		t.Error(err)
	}
}

// failing is a store that gives up.
type failing struct{ after int }

var errFull = errors.New("no room")

func (f *failing) Write(p []byte) (int, error) {
	if f.after -= len(p); f.after < 0 {
		return 0, errFull
	}
	return len(p), nil
}

func TestAStoreThatGivesUpEndsTheTarball(t *testing.T) {
	t.Parallel()
	plain := makeTar(t, entries())
	for _, after := range []int{0, 1 << 20, 5 << 20} {
		w, err := NewTarballWriter(&failing{after: after}, TarballOptions{})
		if err != nil {
			t.Fatal(err)
		}
		_, err = w.Write(plain)
		if _, closeErr := w.Close(); !errors.Is(errors.Join(err, closeErr), errFull) || closeErr == nil {
			t.Error(err, closeErr)
		}
	}
}

func TestLargeFilesOfATarAreUnderstood(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	if err := w.WriteHeader(&tar.Header{Name: "base/1/2", Mode: 0o600, Size: 1 << 40, Format: tar.FormatGNU}); err != nil {
		t.Fatal(err)
	}
	f, end, err := parseHeader(b.Bytes()[:tarUnit])
	if err != nil || end || f.Size != 1<<40 || f.Path != "base/1/2" || f.Mode != 0o600 {
		t.Errorf("%+v %v %v", f, end, err)
	}
}

// FuzzTarSplit: whatever is taken comes out again, and its index is sound.
func FuzzTarSplit(f *testing.F) {
	f.Add(makeTar(f, map[string][]byte{"base/5/1259": []byte("x"), "global/pg_control": make([]byte, 8192)}), 700)
	f.Add(make([]byte, 1024), 1)
	f.Add([]byte("not a tar"), 3)
	f.Fuzz(func(t *testing.T, plain []byte, piece int) {
		var packed bytes.Buffer
		w, err := NewTarballWriter(&packed, TarballOptions{Workers: 1, Level: Fast})
		if err != nil {
			t.Fatal(err)
		}
		for p := range slices.Chunk(plain, max(1, min(piece, 1<<20))) {
			if _, err = w.Write(p); err != nil {
				break
			}
		}
		if err != nil {
			w.Abort()
			return
		}
		index, err := w.Close()
		if err != nil {
			return
		}
		if err := index.Check(); err != nil {
			t.Fatal(err)
		}
		decoder, err := zstd.NewReader(&packed)
		if err != nil {
			t.Fatal(err)
		}
		defer decoder.Close()
		if got, err := io.ReadAll(decoder); err != nil || !bytes.Equal(got, plain) {
			t.Fatalf("%v: %x came out of %x", err, got, plain)
		}
	})
}

// FuzzTarIndex: no index makes the reader fall over, take much memory, or write anywhere but into its folder.
func FuzzTarIndex(f *testing.F) {
	index, packed := pack(f, makeTar(f, map[string][]byte{"base/5/1259": []byte("x"), "global/pg_control": make([]byte, 8192)}), 700)
	raw, err := json.Marshal(index)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw, packed)
	f.Add([]byte(`{"length":1,"plain":1,"frames":[{"length":1,"plain":1}],"files":[{"path":"a","offset":512,"mode":420}]}`), []byte("x"))
	f.Fuzz(func(t *testing.T, raw, packed []byte) {
		index := &Tarball{}
		if json.Unmarshal(raw, index) != nil {
			return
		}
		outer := t.TempDir()
		if err := os.Mkdir(filepath.Join(outer, "in"), 0o700); err != nil {
			t.Fatal(err)
		}
		root, err := os.OpenRoot(filepath.Join(outer, "in"))
		if err != nil {
			t.Fatal(err)
		}
		defer root.Close()
		_ = index.Extract(t.Context(), RangesAt(bytes.NewReader(packed)), root, ExtractOptions{Workers: 2})
		if left, err := os.ReadDir(outer); err != nil || len(left) != 1 {
			t.Fatal(left, err)
		}
		for _, file := range index.Files {
			if r, err := index.Open(t.Context(), RangesAt(bytes.NewReader(packed)), file); err == nil {
				_, _ = io.Copy(io.Discard, r)
				_ = r.Close()
			}
		}
	})
}

func BenchmarkTarball(b *testing.B) {
	name := os.Getenv("HOWDAH_BENCH_TAR")
	if name == "" {
		b.Skip("HOWDAH_BENCH_TAR names a tar")
	}
	plain, err := os.ReadFile(name)
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(plain)))
	for b.Loop() {
		_, packed := pack(b, plain, 32768)
		b.ReportMetric(float64(len(packed)), "packed")
	}
}
