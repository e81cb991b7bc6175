package repo

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"howdah/internal/fault"
	"howdah/internal/repo/repotest"
)

// stores are the places that the conformance tests run on: each gives an empty one.
var stores = map[string]func(*testing.T) Store{
	"folder": func(t *testing.T) Store { return openStore(t, t.TempDir(), Options{}) },
	"s3": func(t *testing.T) Store {
		server := repotest.Shared(t)
		return openStore(t, server.Bucket(t), s3Keys(server))
	},
}

func s3Keys(server *repotest.Server) Options {
	return Options{AccessKey: server.AccessKey, SecretKey: server.SecretKey}
}

func TestMain(m *testing.M) { os.Exit(repotest.Main(m)) }

func openStore(t *testing.T, address string, opt Options) Store {
	t.Helper()
	s, err := OpenStore(address, opt)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// onStores runs a test on an empty store of each kind.
func onStores(t *testing.T, test func(*testing.T, Store)) {
	t.Parallel()
	for kind, empty := range stores {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			test(t, empty(t))
		})
	}
}

// A folder that becomes empty goes, while others are about to put something into it; and what a dead writer has left goes with it, but not what one has just begun.
func TestOneThatTidiesUpTakesNothingFromOneThatBegins(t *testing.T) {
	t.Parallel()
	s := openStore(t, t.TempDir(), Options{})
	var all sync.WaitGroup
	for writer := range 8 {
		all.Go(func() {
			for i := range 150 {
				name := fmt.Sprintf("main/hold/%d-%d", writer, i)
				err := put(t.Context(), s, name, []byte(name))
				if err == nil {
					err = s.Remove(t.Context(), name)
				}
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
}

func put(ctx context.Context, s Store, name string, content []byte) error {
	o, err := s.Create(ctx, name)
	if err != nil {
		return err
	}
	defer o.Abort()
	if _, err := o.Write(content); err != nil {
		return err
	}
	return o.Commit(ctx)
}

func mustPut(t *testing.T, s Store, name, content string) {
	t.Helper()
	if err := put(t.Context(), s, name, []byte(content)); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
}

func read(t *testing.T, s Store, name string, offset, length int64) string {
	t.Helper()
	r, err := s.Open(t.Context(), name, offset, length)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	raw, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

func names(t *testing.T, s Store, prefix string) []string {
	t.Helper()
	var all []string
	for info, err := range s.List(t.Context(), prefix) {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, info.Name)
	}
	return all
}

func TestAnObjectIsReadAsItWasWrittenWholeAndInParts(t *testing.T) {
	onStores(t, func(t *testing.T, s Store) {
		mustPut(t, s, "a/b/c.txt", "hello, elephant")
		for _, c := range []struct {
			offset, length int64
			want           string
		}{{0, -1, "hello, elephant"}, {0, 5, "hello"}, {7, -1, "elephant"}, {7, 3, "ele"}, {7, 100, "elephant"}, {0, 0, ""}, {15, -1, ""}, {15, 3, ""}} {
			if got := read(t, s, "a/b/c.txt", c.offset, c.length); got != c.want {
				t.Errorf("%d+%d: %q, not %q", c.offset, c.length, got, c.want)
			}
		}
		info, err := s.Stat(t.Context(), "a/b/c.txt")
		if err != nil || info.Size != 15 || info.Name != "a/b/c.txt" || time.Since(info.Modified) > time.Hour {
			t.Errorf("%+v, %v", info, err)
		}
		mustPut(t, s, "empty", "")
		if got := read(t, s, "empty", 0, -1); got != "" {
			t.Errorf("%q", got)
		}
	})
}

func TestALargeObjectSurvives(t *testing.T) {
	onStores(t, func(t *testing.T, s Store) {
		content := make([]byte, 40<<20+12345)
		_, _ = rand.Read(content)
		o, err := s.Create(t.Context(), "large")
		if err != nil {
			t.Fatal(err)
		}
		defer o.Abort()
		for part := range slices.Chunk(content, 1<<20-7) {
			if _, err := o.Write(part); err != nil {
				t.Fatal(err)
			}
		}
		if err := o.Commit(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := read(t, s, "large", 0, -1); got != string(content) {
			t.Error("it came back different")
		}
		if got := read(t, s, "large", 33<<20, 1000); got != string(content[33<<20:33<<20+1000]) {
			t.Error("a part came back different")
		}
	})
}

func TestATakenNameIsNeverOverwritten(t *testing.T) {
	onStores(t, func(t *testing.T, s Store) {
		mustPut(t, s, "x", "first")
		if err := put(t.Context(), s, "x", []byte("second")); !errors.Is(err, fs.ErrExist) || !fault.HasKey(err, "repo.taken") {
			t.Errorf("the second one: %v", err)
		}
		if got := read(t, s, "x", 0, -1); got != "first" {
			t.Errorf("now it is %q", got)
		}
		if got := names(t, s, ""); !slices.Equal(got, []string{"x"}) {
			t.Errorf("left behind: %v", got)
		}
	})
}

func TestOfManyWritersOfOneNameOneWins(t *testing.T) {
	onStores(t, func(t *testing.T, s Store) {
		var won []string
		var mu sync.Mutex
		var all sync.WaitGroup
		for i := range 8 {
			all.Go(func() {
				mine := strings.Repeat(fmt.Sprint(i), 100_000)
				err := put(t.Context(), s, "deep/down/x", []byte(mine))
				mu.Lock()
				defer mu.Unlock()
				if err == nil {
					won = append(won, mine)
				} else if !errors.Is(err, fs.ErrExist) {
					t.Error(err)
				}
			})
		}
		all.Wait()
		if len(won) != 1 || read(t, s, "deep/down/x", 0, -1) != won[0] {
			t.Errorf("%d writers were told that theirs is the one", len(won))
		}
	})
}

func TestNothingIsSeenBeforeCommitNorAfterAbort(t *testing.T) {
	onStores(t, func(t *testing.T, s Store) {
		o, err := s.Create(t.Context(), "f/x")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := o.Write(bytes.Repeat([]byte("y"), 10<<20)); err != nil {
			t.Fatal(err)
		}
		missing := func() {
			t.Helper()
			if _, err := s.Stat(t.Context(), "f/x"); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("stat: %v", err)
			}
			if _, err := s.Open(t.Context(), "f/x", 0, -1); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("open: %v", err)
			}
			if all := names(t, s, ""); len(all) > 0 {
				t.Errorf("listed: %v", all)
			}
		}
		missing()
		o.Abort()
		missing()
		o.Abort()
		if err := o.Commit(t.Context()); err == nil {
			t.Error("it was committed after all")
		}
		ctx, cancel := context.WithCancel(t.Context())
		if o, err = s.Create(t.Context(), "f/x"); err != nil {
			t.Fatal(err)
		}
		defer o.Abort()
		cancel()
		if err := o.Commit(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("commit after the end: %v", err)
		}
		missing()
	})
}

func TestListGoesByTheBytesOfWholeNames(t *testing.T) {
	onStores(t, func(t *testing.T, s Store) {
		all := []string{"a-b", "a.b/x", "a/b-", "a/b.c", "a/b/c", "a0", "ab/1", "ab/2", "b"}
		for _, i := range []int{4, 0, 8, 2, 1, 3, 7, 5, 6} {
			mustPut(t, s, all[i], all[i])
		}
		for prefix, want := range map[string][]string{
			"": all, "a": all[:8], "a/": all[2:5], "a/b": all[2:5], "a/b/": all[4:5], "a.": all[1:2], "ab/2": all[7:8], "nothing/": nil, "zz": nil,
		} {
			if got := names(t, s, prefix); !slices.Equal(got, want) {
				t.Errorf("%q: %v, not %v", prefix, got, want)
			}
		}
		for range s.List(t.Context(), "") {
			break // a caller may stop
		}
		for dir, want := range map[string][]string{"": {"a", "a.b", "ab"}, "a": {"b"}, "a/b": nil, "nothing": nil} {
			if got, err := s.Folders(t.Context(), dir); err != nil || !slices.Equal(got, want) {
				t.Errorf("folders of %q: %v, %v, not %v", dir, got, err, want)
			}
		}
	})
}

func TestRemoveTakesWhatIsThereAndMindsNothingElse(t *testing.T) {
	onStores(t, func(t *testing.T, s Store) {
		for _, name := range []string{"a/1", "a/2", "b/c/d/e"} {
			mustPut(t, s, name, name)
		}
		if err := s.Remove(t.Context(), "a/1", "b/c/d/e", "never/was"); err != nil {
			t.Fatal(err)
		}
		if got := names(t, s, ""); !slices.Equal(got, []string{"a/2"}) {
			t.Errorf("%v", got)
		}
		if got, err := s.Folders(t.Context(), ""); err != nil || !slices.Equal(got, []string{"a"}) {
			t.Errorf("%v, %v", got, err)
		}
		mustPut(t, s, "a/1", "again")
	})
}

func TestNamesThatAreNotTheSameEverywhereAreRefused(t *testing.T) {
	onStores(t, func(t *testing.T, s Store) {
		for _, name := range []string{"", "/", "a/", "/a", "a//b", "..", "a/../b", ".hidden", "a/.b", "a\\b", "a b", "ä", "a\x00", "a:b", "x.", strings.Repeat("x", 201)} {
			if err := put(t.Context(), s, name, nil); !fault.HasKey(err, "repo.name") {
				t.Errorf("create %q: %v", name, err)
			}
			if _, err := s.Open(t.Context(), name, 0, -1); !fault.HasKey(err, "repo.name") {
				t.Errorf("open %q: %v", name, err)
			}
			if err := s.Remove(t.Context(), name); !fault.HasKey(err, "repo.name") {
				t.Errorf("remove %q: %v", name, err)
			}
		}
	})
}

func TestWhoeverComesTooLateIsTold(t *testing.T) {
	onStores(t, func(t *testing.T, s Store) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := s.Open(ctx, "a", 0, -1); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		if _, err := s.Stat(ctx, "a"); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		for _, err := range s.List(ctx, "") {
			if !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
		}
	})
}
