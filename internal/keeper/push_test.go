//go:build unix

package keeper

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"filippo.io/age"
	"golang.org/x/sys/unix"

	"howdah/internal/cli/clitest"
	"howdah/internal/fault"
	"howdah/internal/repo"
	"howdah/internal/repo/repotest"
	"howdah/internal/wal"
	"howdah/internal/wal/waltest"
)

var fixture struct {
	once     sync.Once
	dir      string // a folder as PostgreSQL's pg_wal, and its neighbour's
	id       wal.Identity
	other    string // the folder of WAL of another cluster
	stranger wal.Identity
}

func TestMain(m *testing.M) {
	code := repotest.Main(m)
	if fixture.dir != "" {
		_ = os.RemoveAll(fixture.dir)
	}
	clitest.Remove()
	os.Exit(code)
}

// TestWhatAnArchiveCommandMustGetRight is the table of faults that other tools fail in: what they tell PostgreSQL is safe while it is not, and
// what they are stuck on for ever.
func TestWhatAnArchiveCommandMustGetRight(t *testing.T) {
	t.Parallel()
	const first = "00000001000000000000000A"
	same := func(t *testing.T, c *walFolder, name string) {
		t.Helper()
		if have, want := c.stored(t, name), read(t, c.path(name)); !bytes.Equal(have, want) {
			t.Errorf("%s: what is in the repo (%d bytes) is not what was pushed (%d bytes)", name, len(have), len(want))
		}
	}
	for _, row := range []struct {
		fault string
		try   func(t *testing.T, c *walFolder)
	}{
		{"the same segment again, after a crash before .done", func(t *testing.T, c *walFolder) {
			for range 3 {
				wantFault(t, c.push(t, first), "")
			}
			same(t, c, first)
		}},
		{"the same name with other bytes", func(t *testing.T, c *walFolder) {
			wantFault(t, c.push(t, first), "")
			before := c.stored(t, first)
			content := read(t, c.path(first))
			content[500_000] ^= 1
			write(t, c.path(first), content)
			wantFault(t, c.push(t, first), "repo.conflict")
			if !bytes.Equal(c.stored(t, first), before) {
				t.Error("it was overwritten")
			}
		}},
		{"a segment of another cluster", func(t *testing.T, c *walFolder) {
			write(t, c.path(first), read(t, filepath.Join(fixture.other, first)))
			wantFault(t, c.push(t, first), "wal.other_cluster")
		}},
		{"a segment that was cut in half", func(t *testing.T, c *walFolder) {
			write(t, c.path(first), read(t, c.path(first))[:512<<10])
			wantFault(t, c.push(t, first), "wal.length")
		}},
		{"an empty file", func(t *testing.T, c *walFolder) {
			write(t, c.path(first), nil)
			wantFault(t, c.push(t, first), "wal.empty")
		}},
		{"a segment of zeros", func(t *testing.T, c *walFolder) {
			write(t, c.path(first), make([]byte, 1<<20))
			wantFault(t, c.push(t, first), "wal.zeros")
		}},
		{"another segment under this name, as in a file that PostgreSQL uses again", func(t *testing.T, c *walFolder) {
			write(t, c.path(first), read(t, c.path("00000001000000000000000B")))
			wantFault(t, c.push(t, first), "wal.address")
		}},
		{"the segment of one timeline under the name of another", func(t *testing.T, c *walFolder) {
			begin := c.files(t, wal.Segment, 2)
			write(t, c.path("00000002"+first[8:]), read(t, c.path(first))) // before timeline 2 began
			wantFault(t, c.push(t, "00000002"+first[8:]), "wal.timeline")
			write(t, c.path("00000001"+begin[len(begin)-1][8:]), read(t, c.path(begin[len(begin)-1])))
			wantFault(t, c.push(t, "00000001"+begin[len(begin)-1][8:]), "wal.timeline")
		}},
		{"the first segment of a new timeline, which begins with the old one's WAL", func(t *testing.T, c *walFolder) {
			name := c.files(t, wal.Segment, 2)[0]
			if raw := read(t, c.path(name)); raw[4] != 1 {
				t.Fatalf("%s does not begin on timeline 1", name)
			}
			wantFault(t, c.push(t, name), "")
			same(t, c, name)
		}},
		{"the same without its history in pg_wal, but in the repo", func(t *testing.T, c *walFolder) {
			name := c.files(t, wal.Segment, 2)[0]
			wantFault(t, c.push(t, "00000002.history"), "")
			if err := os.Remove(c.path("00000002.history")); err != nil {
				t.Fatal(err)
			}
			wantFault(t, c.push(t, name), "")
		}},
		{"the same without its history", func(t *testing.T, c *walFolder) {
			name := c.files(t, wal.Segment, 2)[0]
			if err := os.Remove(c.path("00000002.history")); err != nil {
				t.Fatal(err)
			}
			wantFault(t, c.push(t, name), "wal.no_history")
		}},
		{"a history, the same again, and another one of its name", func(t *testing.T, c *walFolder) {
			for range 2 {
				wantFault(t, c.push(t, "00000002.history"), "")
			}
			same(t, c, "00000002.history")
			before := c.stored(t, "00000002.history")
			write(t, c.path("00000002.history"), []byte("1\t0/300000\tby hand\n"))
			wantFault(t, c.push(t, "00000002.history"), "repo.conflict")
			if !bytes.Equal(c.stored(t, "00000002.history"), before) {
				t.Error("it was overwritten")
			}
			write(t, c.path("00000003.history"), nil)
			wantFault(t, c.push(t, "00000003.history"), "wal.history")
		}},
		{"a partial segment, the same again, another, and half of one", func(t *testing.T, c *walFolder) {
			name := c.files(t, wal.Partial, 1)[0]
			for range 2 {
				wantFault(t, c.push(t, name), "")
			}
			same(t, c, name)
			content := read(t, c.path(name))
			content[len(content)-1] ^= 1
			write(t, c.path(name), content)
			wantFault(t, c.push(t, name), "repo.conflict")
			write(t, c.path(name), content[:1000])
			wantFault(t, c.push(t, name), "wal.length")
		}},
		{"the note of a backup, the same again, another, and one that was damaged", func(t *testing.T, c *walFolder) {
			name := c.files(t, wal.Backup, 1)[0]
			for range 2 {
				wantFault(t, c.push(t, name), "")
			}
			same(t, c, name)
			write(t, c.path(name), append(read(t, c.path(name)), '\n'))
			wantFault(t, c.push(t, name), "repo.conflict")
			write(t, c.path(name), []byte{})
			wantFault(t, c.push(t, name), "wal.backup")
		}},
		{"no file, or something that is no file of WAL", func(t *testing.T, c *walFolder) {
			wantFault(t, c.push(t, "000000010000000000000FFF"), "keeper.no_file")
			wantFault(t, c.push(t, "archive_status"), "wal.name")
			if err := os.Remove(c.path(first)); err != nil {
				t.Fatal(err)
			}
			if err := os.Mkdir(c.path(first), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := c.push(t, first); err == nil {
				t.Error("a folder was pushed")
			}
		}},
		{"the folder of another cluster in the repo", func(t *testing.T, c *walFolder) {
			wantFault(t, c.push(t, first), "")
			stranger := *c.Settings
			stranger.Identity = fixture.stranger
			if err := Push(t.Context(), &stranger, filepath.Join(fixture.other, "000000010000000000000008"), PushOptions{}); !fault.HasKey(err, "repo.other_cluster") {
				t.Error(err)
			}
		}},
		{"the repo's disk is not mounted", func(t *testing.T, c *walFolder) {
			wantFault(t, c.push(t, first), "")
			if err := os.Rename(c.root, c.root+".away"); err != nil {
				t.Fatal(err)
			}
			wantFault(t, c.push(t, "00000001000000000000000B"), "repo.absent")
			if err := os.Mkdir(c.root, 0o700); err != nil { // the empty place where it would be mounted
				t.Fatal(err)
			}
			wantFault(t, c.push(t, "00000001000000000000000B"), "repo.absent")
		}},
		{"an object that is torn in the repo", func(t *testing.T, c *walFolder) {
			wantFault(t, c.push(t, first), "")
			object, err := repo.WALName(c.Cluster, first)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.Truncate(filepath.Join(c.root, object+".zst"), 5000); err != nil {
				t.Fatal(err)
			}
			wantFault(t, c.push(t, first), "repo.damaged")
		}},
		{"encryption that began or ended between two tries", func(t *testing.T, c *walFolder) {
			wantFault(t, c.push(t, first), "")
			key, err := age.GenerateX25519Identity()
			if err != nil {
				t.Fatal(err)
			}
			c.Recipients = []string{key.Recipient().String()}
			wantFault(t, c.push(t, first), "")
			wantFault(t, c.push(t, "00000001000000000000000B"), "")
			c.Recipients = nil
			wantFault(t, c.push(t, "00000001000000000000000B"), "")
			content := read(t, c.path("00000001000000000000000B"))
			content[900_000] ^= 1
			write(t, c.path("00000001000000000000000B"), content)
			wantFault(t, c.push(t, "00000001000000000000000B"), "repo.conflict")
		}},
	} {
		t.Run(row.fault, func(t *testing.T) {
			t.Parallel()
			c := newWALFolder(t)
			row.try(t, c)
			// Nothing that was refused has left anything behind.
			err := filepath.WalkDir(c.root, func(path string, e fs.DirEntry, err error) error {
				if err == nil && strings.HasPrefix(e.Name(), ".") {
					t.Errorf("left behind: %s", path)
				}
				return err
			})
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				t.Error(err)
			}
		})
	}
}

func TestEveryRepoMustHaveItAndAGoodOneIsNotHeldBack(t *testing.T) {
	t.Parallel()
	c := newWALFolder(t)
	const name = "00000001000000000000000A"
	second := filepath.Join(t.TempDir(), "second")
	c.Repos = append(c.Repos, Place{Address: second})
	c.Spool = filepath.Join(t.TempDir(), "spool")
	var warned int
	push := func(name string) error {
		return Push(t.Context(), c.Settings, c.path(name), PushOptions{Warn: func(error) { warned++ }})
	}
	wantFault(t, push(name), "repo.absent")
	ready := c.files(t, wal.Segment, 1)
	for _, ahead := range ready { // the good one gets what else is ready, too
		if _, err := os.Stat(filepath.Join(c.dir, "archive_status", ahead+".ready")); err == nil && c.stored(t, ahead) == nil {
			t.Errorf("the good repo does not have %s", ahead)
		}
	}
	c.made(t, second)
	for _, name := range ready {
		wantFault(t, push(name), "")
	}
	both := *c
	both.root = second
	if !bytes.Equal(both.stored(t, name), read(t, c.path(name))) {
		t.Error("the second repo has something else")
	}
}

// TestAStoreThatAnswersNothingIsTimedOut: a server that takes connections and says nothing, beside a good repo.
func TestAStoreThatAnswersNothingIsTimedOut(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() { _, _ = io.Copy(io.Discard, conn) }()
		}
	}()
	c := newWALFolder(t)
	const name = "00000001000000000000000A"
	c.Timeout = Duration(2 * time.Second)
	c.Repos = []Place{{Address: "s3://bucket/folder?path-style=true&region=us-east-1&endpoint=http://" + listener.Addr().String(), AccessKey: "a", SecretKey: "b"}, {Address: c.root}}
	// The good repo has no more time than the dead one; where its disk was busy for so long, the next try of PostgreSQL does it.
	waltest.Await(t, "the good repo to have it", func() bool {
		if err := c.push(t, name); !fault.Is(err, fault.Unavailable) {
			t.Fatal(err)
		}
		return bytes.Equal(c.stored(t, name), read(t, c.path(name)))
	})
	err = Fetch(t.Context(), c.Settings, "00000001000000000000000B", filepath.Join(t.TempDir(), "target"), FetchOptions{})
	if ExitCode(err) != ExitStop {
		t.Errorf("recovery would end here: %v", err)
	}
	c.Timeout = Duration(time.Hour) // the second is asked all the same, and nobody waits for the first
	if err := Fetch(t.Context(), c.Settings, name, filepath.Join(t.TempDir(), "target"), FetchOptions{}); err != nil {
		t.Errorf("the second repo has it: %v", err)
	}
}

// TestADiskThatHangsIsTimedOut: a repo behind a pipe that nobody writes to hangs in the operating system, as a network drive may.
func TestADiskThatHangsIsTimedOut(t *testing.T) {
	t.Parallel()
	c := newWALFolder(t)
	mark := filepath.Join(c.root, "howdah-repo.json")
	if err := os.Remove(mark); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(mark, 0o600); err != nil {
		t.Fatal(err)
	}
	c.Timeout = Duration(200 * time.Millisecond)
	wantFault(t, c.push(t, "00000001000000000000000A"), "keeper.timeout")
	wantFault(t, Fetch(t.Context(), c.Settings, "00000001000000000000000A", filepath.Join(t.TempDir(), "target"), FetchOptions{}), "keeper.timeout")
	// Let those go that hang.
	f, err := os.OpenFile(mark, os.O_RDWR|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
}

func TestReadySegmentsGoAlongAndTheirOwnCallsAnswerByNotes(t *testing.T) {
	t.Parallel()
	c := newWALFolder(t)
	c.spooled(t)
	const asked = "00000001000000000000000A"
	if c.noted(t, asked) {
		t.Fatal("a note before anything was pushed")
	}
	c.pushAlong(t, asked)
	along := 0
	for _, timeline := range []wal.Timeline{1, 2} {
		for _, name := range c.files(t, wal.Segment, timeline) {
			_, err := os.Stat(filepath.Join(c.dir, "archive_status", name+".ready"))
			have := c.stored(t, name)
			switch {
			case name == asked:
			case err != nil && have != nil:
				t.Errorf("%s is not ready, and was taken along", name)
			case err == nil && !bytes.Equal(have, read(t, c.path(name))):
				t.Errorf("%s was ready, and was not taken along", name)
			case err == nil && !c.noted(t, name):
				t.Errorf("there is no note about %s", name)
			case err == nil:
				along++
				wantFault(t, c.push(t, name), "")
				if c.noted(t, name) {
					t.Errorf("the note about %s stays", name)
				}
			}
		}
	}
	if along < 5 {
		t.Errorf("only %d went along", along)
	}
	for _, kind := range []wal.Kind{wal.Partial, wal.Backup} { // each by its own call
		if have := c.stored(t, c.files(t, kind, 1)[0]); have != nil {
			t.Errorf("kind %d was taken along", kind)
		}
	}
}

// TestANoteIsNotBelievedWhenAnythingIsInDoubt changes, one after the other, whatever a note stands on.
func TestANoteIsNotBelievedWhenAnythingIsInDoubt(t *testing.T) {
	t.Parallel()
	const asked, name = "00000001000000000000000A", "00000001000000000000000B"
	object, err := repo.WALName("main", name)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		what   string
		change func(t *testing.T, c *walFolder)
		want   string // of the push that follows
	}{
		{"a byte of the file, with its old time set again", func(t *testing.T, c *walFolder) {
			st, err := os.Stat(c.path(name))
			if err != nil {
				t.Fatal(err)
			}
			f, err := os.OpenFile(c.path(name), os.O_RDWR, 0)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := f.WriteAt([]byte{'x'}, 700_001); err != nil {
				t.Fatal(err)
			}
			f.Close()
			if err := os.Chtimes(c.path(name), st.ModTime(), st.ModTime()); err != nil {
				t.Fatal(err)
			}
		}, "repo.conflict"},
		{"another file in its place, of the same time", func(t *testing.T, c *walFolder) {
			st, err := os.Stat(c.path(name))
			if err != nil {
				t.Fatal(err)
			}
			content := read(t, c.path(name))
			content[700_001] ^= 1
			write(t, c.path("new"), content)
			if err := errors.Join(os.Chtimes(c.path("new"), st.ModTime(), st.ModTime()), os.Rename(c.path("new"), c.path(name))); err != nil {
				t.Fatal(err)
			}
		}, "repo.conflict"},
		{"the object is gone from the repo", func(t *testing.T, c *walFolder) {
			if err := os.Remove(filepath.Join(c.root, object+".zst")); err != nil {
				t.Fatal(err)
			}
		}, ""},
		{"the object is torn", func(t *testing.T, c *walFolder) {
			if err := os.Truncate(filepath.Join(c.root, object+".zst"), 99); err != nil {
				t.Fatal(err)
			}
		}, "repo.damaged"},
		{"the repo is another", func(t *testing.T, c *walFolder) {
			c.root = filepath.Join(t.TempDir(), "another")
			c.made(t, c.root)
			c.Repos = []Place{{Address: c.root}}
		}, ""},
		{"a second repo", func(t *testing.T, c *walFolder) {
			second := filepath.Join(t.TempDir(), "second")
			c.made(t, second)
			c.Repos = append(c.Repos, Place{Address: second})
		}, ""},
		{"the note is torn", func(t *testing.T, c *walFolder) {
			path := filepath.Join(c.Spool, "main-push", name+".json")
			raw := read(t, path)
			write(t, path, raw[:len(raw)/2])
		}, ""},
		{"the note is another segment's", func(t *testing.T, c *walFolder) {
			dir := filepath.Join(c.Spool, "main-push")
			write(t, filepath.Join(dir, name+".json"), read(t, filepath.Join(dir, "00000001000000000000000C.json")))
		}, ""},
		{"the note is another cluster's", func(t *testing.T, c *walFolder) {
			path := filepath.Join(c.Spool, "main-push", name+".json")
			var n note
			if err := json.Unmarshal(read(t, path), &n); err != nil {
				t.Fatal(err)
			}
			n.System++
			raw, err := json.Marshal(n)
			if err != nil {
				t.Fatal(err)
			}
			write(t, path, raw)
		}, ""},
	} {
		t.Run(c.what, func(t *testing.T) {
			t.Parallel()
			cl := newWALFolder(t)
			cl.spooled(t)
			wantFault(t, cl.push(t, asked), "")
			if !cl.noted(t, name) {
				t.Fatal("there is no note")
			}
			c.change(t, cl)
			if cl.noted(t, name) {
				t.Error("the note is believed")
			}
			wantFault(t, cl.push(t, name), c.want)
			if c.want == "" && !bytes.Equal(cl.stored(t, name), read(t, cl.path(name))) {
				t.Error("it was called safe, and is not in the repo")
			}
		})
	}

	t.Run("a file that was written just now", func(t *testing.T) {
		t.Parallel()
		if (stamp{Modified: 5e18 + 1, Changed: 4e18}).atRest(time.Unix(0, 5e18+1e6)) {
			t.Error("a file could change within the same tick of its clock")
		}
		if !(stamp{Modified: 5e18 + 1, Changed: 4e18}).atRest(time.Unix(0, 5e18+1e9)) {
			t.Error("a second is long enough where times have fractions")
		}
		if (stamp{Modified: 5e18, Changed: 4e18}).atRest(time.Unix(0, 5e18+1e9)) {
			t.Error("a second is not long enough where they have none")
		}
	})
}

// TestPushesAtTheSameTimeAreOne: an archiver that was killed and its successor may both be at work.
func TestPushesAtTheSameTimeAreOne(t *testing.T) {
	t.Parallel()
	c := newWALFolder(t)
	c.spooled(t)
	names := c.files(t, wal.Segment, 1)[:4]
	errs := make(chan error)
	for range 4 {
		for _, name := range names {
			go func() { errs <- Push(t.Context(), c.Settings, c.path(name), PushOptions{}) }()
		}
	}
	for range 4 * len(names) {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	for _, name := range names {
		if !bytes.Equal(c.stored(t, name), read(t, c.path(name))) {
			t.Errorf("%s is not what was pushed", name)
		}
	}
}

func TestWALGoesToS3AndBack(t *testing.T) {
	t.Parallel()
	c := newWALFolder(t)
	c.spooled(t)
	server := repotest.Shared(t)
	address := server.Bucket(t)
	key, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	c.IdentityFile = filepath.Join(t.TempDir(), "identity")
	write(t, c.IdentityFile, []byte(key.String()+"\n"))
	c.Recipients = []string{key.Recipient().String()}
	c.Repos = []Place{{Address: address, AccessKey: server.AccessKey, SecretKey: server.SecretKey}}
	c.made(t, address)
	target := t.TempDir()
	for _, name := range append(c.files(t, wal.Segment, 1)[:5], "00000002.history") {
		wantFault(t, c.push(t, name), "")
		wantFault(t, c.push(t, name), "")
		if err := Fetch(t.Context(), c.Settings, name, filepath.Join(target, "RECOVERYXLOG"), FetchOptions{}); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(read(t, filepath.Join(target, "RECOVERYXLOG")), read(t, c.path(name))) {
			t.Errorf("%s came back as something else", name)
		}
	}
	content := read(t, c.path("00000001000000000000000A"))
	content[4711] ^= 1
	write(t, c.path("00000001000000000000000A"), content)
	wantFault(t, c.push(t, "00000001000000000000000A"), "repo.conflict")
	err = Fetch(t.Context(), c.Settings, "0000000100000000000000FF", filepath.Join(target, "RECOVERYXLOG"), FetchOptions{})
	if ExitCode(err) != ExitNotArchived {
		t.Error(err)
	}
}

func TestSettingsAreKeptForTheirOwnerAlone(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "settings.json")
	s := &Settings{Cluster: "main", Identity: wal.Identity{System: 7<<60 + 1, Major: 15, SegmentSize: 16 << 20}, Repos: []Place{{Address: "/backup", SecretKey: "s"}}, Timeout: Duration(90 * time.Second)}
	if err := s.Save(path); err != nil {
		t.Fatal(err)
	}
	if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", st.Mode(), err)
	}
	have, err := LoadSettings(path)
	if err != nil || have.System != s.System || have.Timeout != s.Timeout || have.SegmentSize != s.SegmentSize || have.Repos[0] != s.Repos[0] {
		t.Errorf("%+v %v", have, err)
	}
	for _, bad := range []string{"", "{}", `{"format":2}`, `{"format":1,"cluster":"main","repos":[]}`, strings.Replace(string(read(t, path)), "16777216", "3000", 1),
		strings.Replace(string(read(t, path)), "1m30s", "soon", 1)} {
		write(t, path, []byte(bad))
		if _, err := LoadSettings(path); !fault.HasKey(err, "keeper.settings") {
			t.Errorf("%s: %v", bad, err)
		}
	}
	wantFault(t, (&Settings{}).Save(path), "keeper.settings")
}

// What a process that lives has locked must not go, however long it is at it: two would do the same.
func TestALockThatIsHeldIsNotSweptAway(t *testing.T) {
	t.Parallel()
	n := newNotes(t.TempDir(), "main", 7)
	if err := os.Mkdir(n.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	held, free := beginAhead(n.dir)
	if held == nil || !free {
		t.Fatal("it is not free")
	}
	dead := filepath.Join(n.dir, "000000010000000000000001.json"+lockSuffix)
	if err := os.WriteFile(dead, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{held.file.Name(), dead} {
		if err := os.Chtimes(path, time.Time{}, time.Now().Add(-time.Hour)); err != nil {
			t.Fatal(err)
		}
	}
	n.sweep(nil)
	if !locked(filepath.Join(n.dir, aheadName)) {
		t.Error("the lock is gone")
	}
	if _, err := os.Lstat(dead); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a dead one's is left: %v", err)
	}
	held.release()
}
