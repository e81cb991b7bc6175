package repo

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"howdah/internal/fault"
	"howdah/internal/repo/repotest"
)

func openRepo(t *testing.T, address string, opt Options) *Repo {
	t.Helper()
	r, err := Open(t.Context(), address, opt)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// onRepos runs a test on an empty repo of each kind, without encryption and with it.
func onRepos(t *testing.T, test func(t *testing.T, r *Repo)) {
	onStores(t, func(t *testing.T, s Store) {
		_, keys := testKeys(t)
		for kind, k := range map[string]*Keys{"plain": nil, "encrypted": keys} {
			t.Run(kind, func(t *testing.T) {
				if f, ok := s.(*folder); ok {
					test(t, openRepo(t, f.root+"/"+kind, Options{Create: true, Keys: k}))
					return
				}
				server := repotest.Shared(t)
				opt := s3Keys(server)
				opt.Create, opt.Keys = true, k
				test(t, openRepo(t, server.Bucket(t), opt))
			})
		}
	})
}

func TestARepoIsMadeOnceAndForeignFoldersAreLeftAlone(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "new", "repo")
	if _, err := Open(t.Context(), dir, Options{}); !fault.HasKey(err, "repo.absent") {
		t.Errorf("without leave to make it: %v", err)
	}
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("it was made: %v", err)
	}
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			if _, err := Open(t.Context(), dir, Options{Create: true}); err != nil {
				t.Errorf("all at once: %v", err)
			}
		})
	}
	all.Wait()
	openRepo(t, dir, Options{})
	openRepo(t, "file://"+filepath.ToSlash(dir), Options{})

	mounted := t.TempDir() // a new disk is not quite empty
	if err := os.Mkdir(filepath.Join(mounted, "lost+found"), 0o700); err != nil {
		t.Fatal(err)
	}
	openRepo(t, mounted, Options{Create: true})

	for _, name := range []string{"holiday.jpg", "photos/1.jpg"} {
		foreign := t.TempDir()
		path := filepath.Join(foreign, filepath.FromSlash(name))
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, nil, 0o600)); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(t.Context(), foreign, Options{Create: true}); !fault.HasKey(err, "repo.foreign") {
			t.Errorf("%s: %v", name, err)
		}
		if entries, _ := os.ReadDir(foreign); len(entries) != 1 {
			t.Errorf("something was put there: %v", entries)
		}
	}
	for text, want := range map[string]string{`{"format":2}`: "repo.newer", `{}`: "repo.foreign", `nonsense`: "repo.foreign", "": "repo.foreign"} {
		odd := t.TempDir()
		if err := os.WriteFile(filepath.Join(odd, markName), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(t.Context(), odd, Options{Create: true}); !fault.HasKey(err, want) {
			t.Errorf("%s: %v", text, err)
		}
	}
	for _, address := range []string{"", "ftp://x/y", "file://elsewhere/x"} {
		if _, err := Open(t.Context(), address, Options{Create: true}); !fault.HasKey(err, "repo.address") {
			t.Errorf("%q: %v", address, err)
		}
	}
}

func TestAFolderOfTheRepoBelongsToOneCluster(t *testing.T) {
	onRepos(t, func(t *testing.T, r *Repo) {
		mine := Cluster{Name: "main", System: 7301234567890123456, Major: 15, SegmentSize: 16 << 20}
		if _, err := r.Cluster(t.Context(), "main"); !errors.Is(err, fs.ErrNotExist) || !fault.HasKey(err, "repo.no_cluster") {
			t.Errorf("before: %v", err)
		}
		for range 2 {
			if err := r.Bind(t.Context(), mine); err != nil {
				t.Fatal(err)
			}
		}
		if got, err := r.Cluster(t.Context(), "main"); err != nil || got != mine {
			t.Errorf("%+v, %v", got, err)
		}
		other := mine
		other.System++
		if err := r.Bind(t.Context(), other); !fault.HasKey(err, "repo.other_cluster") {
			t.Errorf("another cluster: %v", err)
		}
		other.Name = "other"
		if err := r.Bind(t.Context(), other); err != nil {
			t.Error(err)
		}
		if got, err := r.Clusters(t.Context()); err != nil || !slices.Equal(got, []string{"main", "other"}) {
			t.Errorf("%v, %v", got, err)
		}
		for _, name := range []string{"", "Main", "a/b", "..", "howdah repo"} {
			if err := r.Bind(t.Context(), Cluster{Name: name}); !fault.HasKey(err, "repo.cluster_name") {
				t.Errorf("%q: %v", name, err)
			}
		}
	})
}

func TestTheSameAgainIsSuccessAndOtherContentIsRefused(t *testing.T) {
	onRepos(t, func(t *testing.T, r *Repo) {
		plain := someWAL(1 << 20)
		name, err := WALName("main", "000000010000000000000003")
		if err != nil || name != "main/wal/00000001/0000000100000000/000000010000000000000003" {
			t.Fatal(name, err)
		}
		for range 2 {
			if h, err := r.Put(t.Context(), name, plain); err != nil || !h.Same(HeadOf(plain)) {
				t.Fatalf("%+v, %v", h, err)
			}
		}
		other := bytes.Clone(plain)
		other[1000]++
		if _, err := r.Put(t.Context(), name, other); !fault.HasKey(err, "repo.conflict") {
			t.Errorf("other content: %v", err)
		}
		if _, err := r.Put(t.Context(), name, plain[:len(plain)/2]); !fault.HasKey(err, "repo.conflict") {
			t.Errorf("a part: %v", err)
		}
		if got, err := r.Get(t.Context(), name, nil); err != nil || !bytes.Equal(got, plain) {
			t.Errorf("%d bytes, %v", len(got), err)
		}
		if h, info, err := r.Head(t.Context(), name); err != nil || !h.Same(HeadOf(plain)) || info.Name != name+r.Ending() {
			t.Errorf("%+v, %+v, %v", h, info, err)
		}
		if _, err := r.Get(t.Context(), name+"x", nil); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("what is not there: %v", err)
		}
	})
}

func TestOfManyWhoPutDifferentThingsOneWinsAndTheOthersAreTold(t *testing.T) {
	onRepos(t, func(t *testing.T, r *Repo) {
		var all sync.WaitGroup
		var mu sync.Mutex
		var won []byte
		for i := range byte(6) {
			all.Go(func() {
				content := bytes.Repeat([]byte{i / 2}, 1<<20) // two of each
				_, err := r.Put(t.Context(), "main/x", content)
				mu.Lock()
				defer mu.Unlock()
				switch {
				case err == nil && (won == nil || bytes.Equal(won, content)):
					won = content
				case err == nil:
					t.Error("two different ones were accepted")
				case !fault.HasKey(err, "repo.conflict"):
					t.Error(err)
				}
			})
		}
		all.Wait()
		if got, err := r.Get(t.Context(), "main/x", nil); err != nil || !bytes.Equal(got, won) {
			t.Errorf("%d bytes, %v", len(got), err)
		}
	})
}

func TestWhenEncryptionIsTurnedOnOrOffTheOldObjectsStillCount(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	_, keys := testKeys(t)
	plain, secret := openRepo(t, dir, Options{Create: true}), openRepo(t, dir, Options{Keys: keys})
	for i, r := range []*Repo{plain, secret} {
		name := []string{"main/a", "main/b"}[i]
		other := []*Repo{secret, plain}[i]
		if _, err := r.Put(t.Context(), name, []byte("x")); err != nil {
			t.Fatal(err)
		}
		if _, err := other.Put(t.Context(), name, []byte("x")); err != nil {
			t.Errorf("the same: %v", err)
		}
		if _, err := other.Put(t.Context(), name, []byte("y")); !fault.HasKey(err, "repo.conflict") {
			t.Errorf("other content: %v", err)
		}
	}
	if got := names(t, plain, "main"); !slices.Equal(got, []string{"main/a.zst", "main/b.zst.age"}) {
		t.Errorf("%v", got)
	}
	if got, err := secret.Get(t.Context(), "main/a", nil); err != nil || string(got) != "x" {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := plain.Get(t.Context(), "main/b", nil); !fault.HasKey(err, "repo.no_identity") {
		t.Errorf("%v", err)
	}
}

func TestATornObjectIsNotTakenForTheSame(t *testing.T) {
	t.Parallel()
	_, keys := testKeys(t)
	for _, k := range []*Keys{nil, keys} {
		dir := t.TempDir()
		r := openRepo(t, dir, Options{Create: true, Keys: k})
		content := someWAL(200_000)
		if _, err := r.Put(t.Context(), "main/x", content); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, "main", "x"+r.Ending())
		if err := os.Truncate(path, 100_000); err != nil {
			t.Fatal(err)
		}
		for what, err := range map[string]error{
			"put":  func() error { _, err := r.Put(t.Context(), "main/x", content); return err }(),
			"head": func() error { _, _, err := r.Head(t.Context(), "main/x"); return err }(),
			"get":  func() error { _, err := r.Get(t.Context(), "main/x", nil); return err }(),
		} {
			if !fault.HasKey(err, "repo.damaged") || fault.Of(err).Args["name"] != "main/x"+r.Ending() {
				t.Errorf("%s: %v", what, err)
			}
		}
	}
}

func TestAStreamIsStoredWholeOrNotAtAll(t *testing.T) {
	onRepos(t, func(t *testing.T, r *Repo) {
		content := someWAL(5 << 20)
		w, err := r.Writer(t.Context(), "main/dump/x")
		if err != nil {
			t.Fatal(err)
		}
		defer w.Abort()
		for part := range slices.Chunk(content, 100_001) {
			if _, err := w.Write(part); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Commit(t.Context()); err != nil {
			t.Fatal(err)
		}
		name := "main/dump/x" + r.Ending()
		if info, err := r.Stat(t.Context(), name); err != nil || info.Size != w.Sum().Stored || !w.Sum().Same(HeadOf(content)) {
			t.Errorf("%+v, %+v, %v", info, w.Sum(), err)
		}
		src, err := r.Reader(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		defer src.Close()
		if got, err := io.ReadAll(src); err != nil || !bytes.Equal(got, content) {
			t.Errorf("%d bytes, %v", len(got), err)
		}
		if w, err = r.Writer(t.Context(), "main/dump/y"); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(content); err != nil {
			t.Fatal(err)
		}
		w.Abort()
		if got := names(t, r, "main/dump"); !slices.Equal(got, []string{name}) {
			t.Errorf("%v", got)
		}
	})
}

func TestFramesAreReadAtTheirOffsets(t *testing.T) {
	onRepos(t, func(t *testing.T, r *Repo) {
		random := rand.New(rand.NewPCG(3, 3))
		for i, size := range []int{0, 1, 64<<10 - 1, 64 << 10, 64<<10 + 1, 1 << 20, 3<<20 + 17} {
			name := "main/base/" + string(rune('a'+i))
			content := someWAL(size)
			o, err := r.Create(t.Context(), name)
			if err != nil {
				t.Fatal(err)
			}
			defer o.Abort()
			w, err := r.Keys().Encrypt(o)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := w.Write(content); err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(w.Close(), o.Commit(t.Context())); err != nil {
				t.Fatal(err)
			}
			p, err := r.Packed(t.Context(), name)
			if err != nil || p.Size() != int64(size) {
				t.Fatalf("%d bytes are %+v, %v", size, p, err)
			}
			for range 40 {
				from := random.Int64N(int64(size) + 1)
				length := random.Int64N(int64(size) - from + 1)
				if got, err := p.Range(t.Context(), from, length); err != nil || !bytes.Equal(got, content[from:from+length]) {
					t.Fatalf("%d+%d of %d: %v", from, length, size, err)
				}
			}
			if _, err := p.Range(t.Context(), 1, int64(size)); !fault.HasKey(err, "repo.damaged") {
				t.Errorf("past the end: %v", err)
			}
		}
		if _, err := r.Packed(t.Context(), "main/base/none"); !errors.Is(err, fs.ErrNotExist) {
			t.Error(err)
		}
	})
}

func TestManifestsAreWrittenOnce(t *testing.T) {
	onRepos(t, func(t *testing.T, r *Repo) {
		for range 2 {
			if err := r.PutJSON(t.Context(), "main/m.json", map[string]int{"n": 1}); err != nil {
				t.Fatal(err)
			}
		}
		if err := r.PutJSON(t.Context(), "main/m.json", map[string]int{"n": 2}); !fault.HasKey(err, "repo.conflict") {
			t.Error(err)
		}
		var got map[string]int
		if err := r.GetJSON(t.Context(), "main/m.json", &got); err != nil || got["n"] != 1 {
			t.Errorf("%v, %v", got, err)
		}
		mustPut(t, r, "main/bad.json", "{")
		if err := r.GetJSON(t.Context(), "main/bad.json", &got); !fault.HasKey(err, "repo.damaged") {
			t.Error(err)
		}
	})
}

func TestARepoThatGoesAwayIsNotAnEmptyOne(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "repo")
	r := openRepo(t, dir, Options{Create: true})
	if err := os.Rename(dir, dir+"-unmounted"); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(dir, 0o700); err != nil { // the empty place where the disk was
		t.Fatal(err)
	}
	_, getErr := r.Get(t.Context(), "main/x", nil)
	_, putErr := r.Put(t.Context(), "main/x", []byte("x"))
	_, writeErr := r.Writer(t.Context(), "main/x")
	_, openErr := r.Open(t.Context(), "main/x", 0, -1)
	_, statErr := r.Stat(t.Context(), "main/x")
	for _, err := range []error{getErr, putErr, writeErr, openErr, statErr, r.PutJSON(t.Context(), "main/x.json", 1)} {
		if !fault.HasKey(err, "repo.absent") || errors.Is(err, fs.ErrNotExist) {
			t.Error(err)
		}
	}
	if entries, _ := os.ReadDir(dir); len(entries) > 0 {
		t.Errorf("something was put there: %v", entries)
	}
}

func TestBackupsAreNamedByTheFirstFreeSecond(t *testing.T) {
	onRepos(t, func(t *testing.T, r *Repo) {
		now := time.Date(2026, 11, 22, 4, 0, 0, 999, time.FixedZone("UTC+1", 3600))
		for i, want := range []string{"20261122T030000Z", "20261122T030001Z", "20261122T030002Z"} {
			got, err := r.FreeName(t.Context(), now, "main/base", "main/dump")
			if err != nil || got != want {
				t.Fatalf("%s, %v, not %s", got, err, want)
			}
			mustPut(t, r, []string{"main/base/", "main/dump/"}[i%2]+got+"/backup.json", "{}")
		}
	})
}

func TestFilesOfWALHaveTheirPlaces(t *testing.T) {
	t.Parallel()
	for file, want := range map[string]string{
		"0000000100000000000000FF":                 "00000001/0000000100000000/0000000100000000000000FF",
		"0000000A000000010000002A":                 "0000000A/0000000A00000001/0000000A000000010000002A",
		"0000000A000000010000002A.partial":         "0000000A/0000000A00000001/0000000A000000010000002A.partial",
		"000000010000000000000003.00000028.backup": "00000001/0000000100000000/000000010000000000000003.00000028.backup",
		"00000002.history":                         "00000002.history",
		"":                                         "", "00000002": "", "../00000002.history": "", "00000001000000000000000g": "", "000000010000000000000003.gz": "", "000000010000000000000003\n": "",
	} {
		got, err := WALName("main", file)
		if strings.TrimPrefix(got, "main/wal/") != want || (err != nil) != (want == "") {
			t.Errorf("%q: %q, %v", file, got, err)
		}
	}
}

func TestAManifestTellsThatAByteOfItWasChanged(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	r, err := Open(t.Context(), dir, Options{Create: true})
	if err != nil {
		t.Fatal(err)
	}
	type manifest struct{ LSN, Label string }
	if err := r.PutJSON(t.Context(), "main/m.json", manifest{"0/3000028", "a label"}); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "main", "m.json")
	good, err := os.ReadFile(path)
	if err != nil || !CheckJSON(good) {
		t.Fatalf("%s, %v", good, err)
	}
	for i := range good {
		bad := bytes.Clone(good)
		bad[i] ^= 1
		if CheckJSON(bad) {
			t.Errorf("byte %d", i)
		}
	}
	bad := bytes.Replace(good, []byte("0/3"), []byte("0/2"), 1)
	if err := os.WriteFile(path, bad, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := r.GetJSON(t.Context(), "main/m.json", &manifest{}); !fault.HasKey(err, "repo.damaged") {
		t.Error(err)
	}
}
