//go:build unix

package keeper

import (
	"bytes"
	"net"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"filippo.io/age"

	"howdah/internal/fault"
	"howdah/internal/repo"
	"howdah/internal/wal"
)

// archived pushes all segments of timeline 1, and gives their names.
func (c *walFolder) archived(t *testing.T) []string {
	t.Helper()
	names := c.files(t, wal.Segment, 1)
	for _, name := range names {
		wantFault(t, c.push(t, name), "")
	}
	return names
}

func (c *walFolder) fetch(t *testing.T, name, target string) error {
	t.Helper()
	return Fetch(t.Context(), c.Settings, name, target, FetchOptions{})
}

func (c *walFolder) object(t *testing.T, name string) string {
	t.Helper()
	object, err := repo.WALName(c.Cluster, name)
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(c.root, object+".zst")
}

func TestARunOfSegmentsComesBackAndWhatFollowsIsThereBeforeItIsAskedFor(t *testing.T) {
	t.Parallel()
	c := newWALFolder(t)
	names := c.archived(t)
	dir := t.TempDir()
	target := filepath.Join(dir, "RECOVERYXLOG")
	ahead := 0
	for _, name := range names {
		if _, err := os.Stat(filepath.Join(dir, fetchSpool, name)); err == nil {
			ahead++
		}
		if err := c.fetch(t, name, target); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(read(t, target), read(t, c.path(name))) {
			t.Fatalf("%s came back as something else", name)
		}
	}
	if ahead < len(names)/2 {
		t.Errorf("%d of %d were there before they were asked for", ahead, len(names))
	}
	last := names[len(names)-1]
	n, err := wal.ParseName(last)
	if err != nil {
		t.Fatal(err)
	}
	n.Low++
	if err := c.fetch(t, n.String(), target); ExitCode(err) != ExitNotArchived {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(dir, fetchSpool)); !os.IsNotExist(err) {
		t.Errorf("the spool stays after the end: %v", err)
	}
	for _, name := range []string{last, names[0], last} { // PostgreSQL asks for some twice, and begins anew
		if err := c.fetch(t, name, target); err != nil || !bytes.Equal(read(t, target), read(t, c.path(name))) {
			t.Errorf("%s once more: %v", name, err)
		}
	}
}

// TestWhatLiesInTheSpoolIsNotBelievedWhenItIsInDoubt: after a crash of the machine the spool may hold anything.
func TestWhatLiesInTheSpoolIsNotBelievedWhenItIsInDoubt(t *testing.T) {
	t.Parallel()
	c := newWALFolder(t)
	names := c.archived(t)
	for what, change := range map[string]func(t *testing.T, path string){
		"cut off":     func(t *testing.T, path string) { write(t, path, read(t, path)[:5000]) },
		"zeros":       func(t *testing.T, path string) { write(t, path, make([]byte, 1<<20)) },
		"a torn note": func(t *testing.T, path string) { write(t, path+".json", read(t, path+".json")[:20]) },
		"no note":     func(t *testing.T, path string) { _ = os.Remove(path + ".json") },
		"no file":     func(t *testing.T, path string) { _ = os.Remove(path) },
		"another start": func(t *testing.T, path string) {
			about := bytes.Replace(read(t, path+".json"), []byte(bootID()), []byte("00000000-0000-0000-0000-000000000000"), 1)
			content := read(t, path)
			content[77_777] ^= 1
			st, err := os.Stat(path)
			if err != nil {
				t.Fatal(err)
			}
			write(t, path, content)
			write(t, path+".json", about)
			if err := os.Chtimes(path, st.ModTime(), st.ModTime()); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			target := filepath.Join(dir, "RECOVERYXLOG")
			for _, name := range names[:2] {
				wantFault(t, c.fetch(t, name, target), "")
			}
			path := filepath.Join(dir, fetchSpool, names[2])
			if _, err := os.Stat(path); err != nil {
				t.Fatal(err)
			}
			change(t, path)
			wantFault(t, c.fetch(t, names[2], target), "")
			if !bytes.Equal(read(t, target), read(t, c.path(names[2]))) {
				t.Error("what was in the spool was handed over")
			}
		})
	}
}

// TestRecoveryEndsOnlyWhereTheArchiveEnds: PostgreSQL takes an exit code up to 125 for the end, so only what is surely not there may give one.
func TestRecoveryEndsOnlyWhereTheArchiveEnds(t *testing.T) {
	t.Parallel()
	base := newWALFolder(t)
	names := base.archived(t)
	hole := names[2]
	fresh := func(t *testing.T) *walFolder {
		t.Helper()
		c := *base
		s := *base.Settings
		c.Settings, c.root = &s, filepath.Join(t.TempDir(), "repo")
		if err := os.CopyFS(c.root, os.DirFS(base.root)); err != nil {
			t.Fatal(err)
		}
		c.Repos = []Place{{Address: c.root}}
		return &c
	}
	remove := func(t *testing.T, c *walFolder) {
		t.Helper()
		if err := os.Remove(c.object(t, hole)); err != nil {
			t.Fatal(err)
		}
	}
	for _, row := range []struct {
		what string
		try  func(t *testing.T, c *walFolder)
		code int
	}{
		{"it is there", func(*testing.T, *walFolder) {}, 0},
		{"it is not there", remove, ExitNotArchived},
		{"it is not in the first repo but in the second", func(t *testing.T, c *walFolder) {
			second := fresh(t)
			c.Repos = append(c.Repos, Place{Address: second.root})
			remove(t, c)
		}, 0},
		{"it is in neither of two", func(t *testing.T, c *walFolder) {
			second := fresh(t)
			c.Repos = append(c.Repos, Place{Address: second.root})
			remove(t, c)
			remove(t, second)
		}, ExitNotArchived},
		{"the repo is not mounted", func(t *testing.T, c *walFolder) {
			if err := os.Rename(c.root, c.root+".away"); err != nil {
				t.Fatal(err)
			}
		}, ExitStop},
		{"the repo is away, the second one has it", func(t *testing.T, c *walFolder) {
			c.Repos = []Place{{Address: c.root + ".away"}, {Address: c.root}}
		}, 0},
		{"the second repo is away, and the first does not have it", func(t *testing.T, c *walFolder) {
			remove(t, c)
			c.Repos = append(c.Repos, Place{Address: c.root + ".away"})
		}, ExitStop},
		{"a byte of it is flipped", func(t *testing.T, c *walFolder) {
			raw := read(t, c.object(t, hole))
			raw[len(raw)/2] ^= 4
			write(t, c.object(t, hole), raw)
		}, ExitStop},
		{"a byte of it is flipped, the second repo has it whole", func(t *testing.T, c *walFolder) {
			second := fresh(t)
			c.Repos = append(c.Repos, Place{Address: second.root})
			raw := read(t, c.object(t, hole))
			raw[len(raw)/2] ^= 4
			write(t, c.object(t, hole), raw)
		}, 0},
		{"it is torn", func(t *testing.T, c *walFolder) {
			if err := os.Truncate(c.object(t, hole), 1000); err != nil {
				t.Fatal(err)
			}
		}, ExitStop},
		{"another segment lies under its name", func(t *testing.T, c *walFolder) {
			write(t, c.object(t, hole), read(t, c.object(t, names[1])))
		}, ExitStop},
		{"a cluster that the repo does not know", func(t *testing.T, c *walFolder) { c.Cluster = "mian" }, ExitStop},
		{"another cluster of this name", func(t *testing.T, c *walFolder) { c.System++; remove(t, c) }, ExitStop},
		{"no rights", func(t *testing.T, c *walFolder) {
			if os.Geteuid() == 0 { // root may all; a folder in the place of the object is as unreadable
				remove(t, c)
				if err := os.Mkdir(c.object(t, hole), 0o700); err != nil {
					t.Fatal(err)
				}
			} else if err := os.Chmod(c.object(t, hole), 0); err != nil {
				t.Fatal(err)
			}
		}, ExitStop},
		{"nowhere to put it", func(*testing.T, *walFolder) {}, -1},
	} {
		t.Run(row.what, func(t *testing.T) {
			t.Parallel()
			c := fresh(t)
			row.try(t, c)
			target := filepath.Join(t.TempDir(), "RECOVERYXLOG")
			if row.code == -1 {
				target = filepath.Join(target, "no", "such", "folder")
				row.code = ExitStop
			}
			err := c.fetch(t, hole, target)
			if ExitCode(err) != row.code {
				t.Errorf("exit code %d, not %d: %v", ExitCode(err), row.code, err)
			}
			_, statErr := os.Stat(target)
			if (statErr == nil) != (row.code == 0) {
				t.Errorf("the target: %v", statErr)
			}
			if row.code == 0 && !bytes.Equal(read(t, target), read(t, c.path(hole))) {
				t.Error("it came back as something else")
			}
		})
	}
}

func TestEncryptedWALNeedsTheRightIdentity(t *testing.T) {
	t.Parallel()
	c := newWALFolder(t)
	var keys []*age.X25519Identity
	for range 2 {
		key, err := age.GenerateX25519Identity()
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, key)
	}
	c.Recipients = []string{keys[0].Recipient().String()}
	name := c.files(t, wal.Segment, 1)[0]
	wantFault(t, c.push(t, name), "")
	if raw := read(t, c.object(t, name)+".age"); !slices.Equal(raw[:4], []byte("age-")) {
		t.Errorf("it is not encrypted: %q", raw[:20])
	}
	target := filepath.Join(t.TempDir(), "RECOVERYXLOG")
	err := c.fetch(t, name, target)
	wantFault(t, err, "repo.no_identity")
	if ExitCode(err) != ExitStop {
		t.Error(ExitCode(err))
	}
	c.IdentityFile = filepath.Join(t.TempDir(), "identity")
	write(t, c.IdentityFile, []byte(keys[1].String()+"\n"))
	wantFault(t, c.fetch(t, name, target), "repo.wrong_identity")
	write(t, c.IdentityFile, []byte(keys[0].String()+"\n"))
	wantFault(t, c.fetch(t, name, target), "")
	if !bytes.Equal(read(t, target), read(t, c.path(name))) {
		t.Error("it came back as something else")
	}
}

// A recovery must not wait for a dead repo, segment after segment: the others are asked meanwhile. Only when none has the file it counts what the dead one might have.
func TestADeadRepoDoesNotHoldUpARecovery(t *testing.T) {
	t.Parallel()
	c := newWALFolder(t)
	names := c.archived(t)
	silent, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0") // the kernel takes connections, and nobody answers
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	dead := Place{Address: "s3://bucket/howdah?path-style=true&endpoint=http://" + silent.Addr().String(), AccessKey: "a", SecretKey: "b"}
	c.Repos, c.Timeout = append([]Place{dead}, c.Repos...), Duration(time.Hour)
	target := filepath.Join(t.TempDir(), "RECOVERYXLOG")
	var told []error
	err = Fetch(t.Context(), c.Settings, names[0], target, FetchOptions{Warn: func(err error) { told = append(told, err) }})
	if err != nil || !bytes.Equal(read(t, target), read(t, c.path(names[0]))) || len(told) != 1 || !fault.HasKey(told[0], "keeper.timeout") {
		t.Errorf("%v, %v", err, told)
	}
	c.Timeout = Duration(time.Second)
	if err := c.fetch(t, "0000000100000000000000FF", target); ExitCode(err) != ExitStop || !fault.HasKey(err, "keeper.timeout") {
		t.Errorf("what none of the others has: %v", err)
	}
}
