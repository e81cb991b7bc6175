//go:build unix

package keeper

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"howdah/internal/fault"
	"howdah/internal/repo"
	"howdah/internal/wal"
	"howdah/internal/wal/waltest"
)

// walFolder is a folder of WAL of a test's own: segments of 1 MB, filled by a real server that wanted to archive them and was promoted once, with all that
// this leaves: a history, a partial segment, the note of a backup, files .ready. Beside it lies a repo.
type walFolder struct {
	*Settings
	dir  string // pg_wal
	root string // of the repo
}

func newWALFolder(t *testing.T) *walFolder {
	t.Helper()
	fixture.once.Do(func() {
		s := waltest.New(t, 1, map[string]string{"archive_mode": "on", "archive_command": "false", "wal_recycle": "off"})
		fixture.id = s.Identity(t)
		other := waltest.New(t, 1, nil)
		fill := `DO $$ BEGIN FOR i IN 1..40 LOOP INSERT INTO a SELECT repeat(md5(i::text), 30) FROM generate_series(1, 100); COMMIT; END LOOP; END $$`
		s.Exec(t, `CREATE TABLE a (body text)`, fill, `SELECT pg_switch_wal()`, fill)
		conn := s.Connect(t)
		for _, q := range []string{`SELECT pg_backup_start('a label', true)`, `SELECT pg_backup_stop(false)`} {
			if _, err := conn.Exec(t.Context(), q); err != nil {
				t.Fatal(err)
			}
		}
		if err := conn.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		s.Exec(t, fill)
		s.Stop(t, "immediate") // a fast one would end the segment
		signal := filepath.Join(s.Data, "standby.signal")
		if err := os.WriteFile(signal, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		s.Own(t, signal)
		s.Start(t)
		s.Run(t, "pg_ctl", "promote", "-D", s.Data, "-w", "-s")
		s.Exec(t, fill, `SELECT pg_switch_wal()`)
		s.Stop(t, "fast")
		other.Exec(t, `SELECT pg_switch_wal()`, `SELECT pg_switch_wal()`)
		other.Stop(t, "fast")
		fixture.stranger = other.Identity(t)
		var err error
		if fixture.dir, err = os.MkdirTemp("", "howdah-keeper-"); err == nil {
			if err = os.CopyFS(filepath.Join(fixture.dir, "pg_wal"), os.DirFS(s.WAL())); err == nil {
				fixture.other = filepath.Join(fixture.dir, "other")
				err = os.CopyFS(fixture.other, os.DirFS(other.WAL()))
			}
		}
		if err != nil {
			t.Fatal(err)
		}
	})
	if fixture.id.System == 0 || fixture.other == "" {
		t.Fatal("the cluster that all tests share could not be made")
	}
	dir := t.TempDir()
	c := &walFolder{dir: filepath.Join(dir, "pg_wal"), root: filepath.Join(dir, "repo")}
	if err := os.CopyFS(c.dir, os.DirFS(filepath.Join(fixture.dir, "pg_wal"))); err != nil {
		t.Fatal(err)
	}
	c.Settings = &Settings{Format: 1, Cluster: "main", Identity: fixture.id, Repos: []Place{{Address: c.root}}}
	c.made(t, c.root)
	return c
}

// made makes a repo.
func (c *walFolder) made(t *testing.T, address string) *repo.Repo {
	t.Helper()
	place := Place{Address: address}
	if i := slices.IndexFunc(c.Repos, func(p Place) bool { return p.Address == address }); i >= 0 {
		place = c.Repos[i]
	}
	r, err := repo.Open(t.Context(), address, repo.Options{Create: true, AccessKey: place.AccessKey, SecretKey: place.SecretKey})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func (c *walFolder) path(name string) string { return filepath.Join(c.dir, name) }

func (c *walFolder) push(t *testing.T, name string) error {
	t.Helper()
	return Push(t.Context(), c.Settings, c.path(name), PushOptions{})
}

// pushAlong pushes a segment until all that are ready have gone along: with one push, unless the disk is so busy that its time for looking ahead is over before.
func (c *walFolder) pushAlong(t *testing.T, asked string) {
	t.Helper()
	waltest.Await(t, "what is ready to go along", func() bool {
		wantFault(t, c.push(t, asked), "")
		for _, timeline := range []wal.Timeline{1, 2} {
			for _, name := range c.files(t, wal.Segment, timeline) {
				if _, err := os.Stat(filepath.Join(c.dir, "archive_status", name+".ready")); err == nil && name != asked && !c.noted(t, name) {
					return false
				}
			}
		}
		return true
	})
}

// stored is what lies in the repo under a name.
func (c *walFolder) stored(t *testing.T, name string) []byte {
	t.Helper()
	object, err := repo.WALName(c.Cluster, name)
	if err != nil {
		t.Fatal(err)
	}
	content, err := c.made(t, c.root).Get(t.Context(), object, nil)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	return content
}

// file is the first of a kind, and of a timeline.
func (c *walFolder) files(t *testing.T, kind wal.Kind, timeline wal.Timeline) []string {
	t.Helper()
	entries, err := os.ReadDir(c.dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		if n, err := wal.ParseName(e.Name()); err == nil && n.Kind == kind && n.Timeline == timeline {
			names = append(names, e.Name())
		}
	}
	if len(names) == 0 {
		t.Fatalf("no file of kind %d and timeline %d among %v", kind, timeline, entries)
	}
	return names
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func write(t *testing.T, path string, content []byte) {
	t.Helper()
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
}

func wantFault(t *testing.T, err error, key string) {
	t.Helper()
	if key == "" && err != nil || key != "" && !fault.HasKey(err, key) {
		t.Errorf("have %v, want %q", err, key)
	}
}

// spooled gives the cluster a spool, when its files are so old that notes about them can be left.
func (c *walFolder) spooled(t *testing.T) {
	t.Helper()
	c.Spool = filepath.Join(t.TempDir(), "spool")
	for _, timeline := range []wal.Timeline{1, 2} {
		for _, name := range c.files(t, wal.Segment, timeline) {
			st, err := os.Stat(c.path(name))
			if err != nil {
				t.Fatal(err)
			}
			file, _ := stampOf(st)
			waltest.Await(t, name+" to be at rest", func() bool { return file.atRest(time.Now()) })
		}
	}
}

// noted tells whether the next push would answer by a note.
func (c *walFolder) noted(t *testing.T, name string) bool {
	t.Helper()
	n, err := wal.ParseName(name)
	if err != nil {
		t.Fatal(err)
	}
	p := &push{s: c.Settings, dir: c.dir, targets: c.targets(nil, true), notes: newNotes(c.Spool, c.Cluster, c.System)}
	st, err := os.Stat(c.path(name))
	if err != nil {
		t.Fatal(err)
	}
	file, _ := stampOf(st)
	have := p.notes.read(n, file)
	ok, err := p.noted(t.Context(), n)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.notes.leave(n, have); err != nil { // looking takes it away
		t.Fatal(err)
	}
	return ok
}
