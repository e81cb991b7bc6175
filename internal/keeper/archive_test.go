//go:build unix

package keeper

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"howdah/internal/cli/clitest"
	"howdah/internal/repo"
	"howdah/internal/wal"
	"howdah/internal/wal/waltest"
)

var kills = flag.Int("keeper.kills", 25, "how often TestAPushThatIsKilledLeavesNothingHalfTrue kills")

// program is howdah as it ships, where every account can run it.
func program(t *testing.T) string {
	t.Helper()
	return clitest.Program(t)
}

// TestAPushThatIsKilledLeavesNothingHalfTrue: what archives here are processes that get kill -9 at a random instant, again and again, until they happen
// to be faster: the command itself, and the helper that it leaves behind. Whatever lies in the repos at any time is whole and right, and whatever was
// called safe is there.
func TestAPushThatIsKilledLeavesNothingHalfTrue(t *testing.T) {
	t.Parallel()
	howdah := program(t)
	killed, helpers := 0, 0
	for round := 0; killed < *kills || round == 0; round++ {
		c := newWALFolder(t)
		c.spooled(t)
		second := filepath.Join(t.TempDir(), "second")
		c.made(t, second)
		c.Repos = append(c.Repos, Place{Address: second})
		settings := filepath.Join(t.TempDir(), "settings.json")
		if err := c.Save(settings); err != nil {
			t.Fatal(err)
		}
		names := append(append(append(c.files(t, wal.Segment, 1), c.files(t, wal.Partial, 1)...), c.files(t, wal.Backup, 1)...), "00000002.history")
		for _, name := range c.files(t, wal.Segment, 2) {
			if _, err := os.Stat(filepath.Join(c.dir, "archive_status", name+".ready")); err == nil {
				names = append(names, name)
			}
		}
		seen := map[string]bool{}
		for _, name := range names {
			for again := true; again; {
				cmd := exec.Command(howdah, "wal", "push", "--settings", settings, c.path(name))
				var said bytes.Buffer
				cmd.Stderr = &said
				if err := cmd.Start(); err != nil {
					t.Fatal(err)
				}
				if killed < *kills {
					timer := time.AfterFunc(time.Duration(rand.Int64N(int64(40*time.Millisecond))), func() { _ = cmd.Process.Kill() })
					defer timer.Stop()
				}
				err := cmd.Wait()
				var exit *exec.ExitError
				switch {
				case err == nil:
					again = false
				case errors.As(err, &exit) && exit.ExitCode() == -1:
					killed++
				default:
					t.Fatalf("%s: %v\n%s", name, err, said.String())
				}
				if killed < *kills && rand.IntN(2) == 0 {
					helpers += killAll(howdah, "ahead-push", settings)
				}
				for _, root := range []string{c.root, second} {
					c.wholeRepo(t, root, seen)
				}
			}
			// Told safe: it is in both.
			for _, root := range []string{c.root, second} {
				both := *c
				both.root = root
				if !bytes.Equal(both.stored(t, name), read(t, c.path(name))) {
					t.Fatalf("%s was called safe, and is not in %s", name, root)
				}
			}
		}
		waltest.Await(t, "the helper to end", func() bool { return len(processes(howdah, "ahead-push", settings)) == 0 })
		target := filepath.Join(t.TempDir(), "RECOVERYXLOG")
		for _, name := range names {
			if out, err := exec.Command(howdah, "wal", "fetch", "--settings", settings, name, target).CombinedOutput(); err != nil {
				t.Fatalf("%s: %v\n%s", name, err, out)
			}
			if !bytes.Equal(read(t, target), read(t, c.path(name))) {
				t.Errorf("%s came back as something else", name)
			}
		}
		waltest.Await(t, "the helper to end", func() bool { return len(processes(howdah, "ahead-fetch", settings)) == 0 })
		// What the killed ones left is recognised, and goes.
		for _, root := range []string{c.root, second} {
			if err := c.made(t, root).Sweep(t.Context(), "", 0); err != nil {
				t.Fatal(err)
			}
			err := filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
				if err == nil && strings.HasPrefix(e.Name(), ".") {
					t.Errorf("left behind: %s", path)
				}
				return err
			})
			if err != nil {
				t.Error(err)
			}
		}
	}
	t.Logf("%d commands and %d helpers were killed", killed, helpers)
}

// processes are the numbers of those of a program that were called with these words.
func processes(program string, words ...string) (pids []int) {
	all, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, path := range all {
		raw, err := os.ReadFile(path)
		if err != nil || !bytes.HasPrefix(raw, []byte(program+"\x00wal\x00")) {
			continue
		}
		fits := true
		for _, word := range words {
			fits = fits && bytes.Contains(raw, []byte("\x00"+word+"\x00"))
		}
		var pid int
		if _, err := fmt.Sscanf(path, "/proc/%d/", &pid); fits && err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}

func killAll(program string, words ...string) (killed int) {
	for _, pid := range processes(program, words...) {
		if p, err := os.FindProcess(pid); err == nil && p.Kill() == nil {
			killed++
		}
	}
	return killed
}

// wholeRepo looks at everything new that a reader of the repo would take for a file of WAL.
func (c *walFolder) wholeRepo(t *testing.T, root string, seen map[string]bool) {
	t.Helper()
	r, err := repo.Open(t.Context(), root, repo.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for info, err := range r.List(t.Context(), c.Cluster+"/wal/") {
		if err != nil {
			t.Fatal(err)
		}
		if seen[root+info.Name] {
			continue
		}
		seen[root+info.Name] = true
		name := strings.TrimSuffix(filepath.Base(info.Name), ".zst")
		content, err := r.Get(t.Context(), strings.TrimSuffix(info.Name, ".zst"), nil)
		if err != nil || !bytes.Equal(content, read(t, c.path(name))) {
			t.Fatalf("%s is not what is in pg_wal: %v", info.Name, err)
		}
	}
}

// archiving is a real server that archives with the real program into a repo.
type archiving struct {
	*waltest.Server
	settings, root string
	howdah         string
}

func newArchiving(t *testing.T) *archiving {
	t.Helper()
	a := &archiving{Server: waltest.New(t, 1, map[string]string{"archive_mode": "on"}), howdah: program(t)}
	a.settings, a.root = filepath.Join(a.Dir, "settings.json"), filepath.Join(a.Dir, "repo")
	if _, err := repo.Open(t.Context(), a.root, repo.Options{Create: true}); err != nil {
		t.Fatal(err)
	}
	s := &Settings{Cluster: "main", Identity: a.Identity(t), Repos: []Place{{Address: a.root}}, Spool: filepath.Join(a.Dir, "spool")}
	if err := s.Save(a.settings); err != nil {
		t.Fatal(err)
	}
	a.Own(t, a.settings)
	a.Own(t, a.root)
	// A signal that kills the command ends the archiver too, and PostgreSQL starts it again only ten seconds later.
	a.Set(t, map[string]string{"archive_command": fmt.Sprintf(`"%s" wal push --settings "%s" "%%p" || exit 1`, a.howdah, a.settings)})
	a.Run(t, "pg_ctl", "reload", "-D", a.Data, "-s")
	return a
}

func (a *archiving) fill(t *testing.T, times int) {
	t.Helper()
	a.Exec(t, `CREATE TABLE IF NOT EXISTS a (id bigserial PRIMARY KEY, body text)`)
	for range times {
		a.Exec(t, `INSERT INTO a (body) SELECT repeat(md5(i::text), 20) FROM generate_series(1, 3000) i`)
	}
}

// ready lists what waits to be archived.
func (a *archiving) ready(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(a.WAL(), "archive_status", "*.ready"))
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// archived waits until all that was written is archived.
func (a *archiving) archived(t *testing.T) {
	t.Helper()
	a.Exec(t, `SELECT pg_switch_wal()`)
	waltest.Await(t, "everything to be archived\n"+a.Log(), func() bool {
		a.Run(t, "pg_ctl", "reload", "-D", a.Data, "-s") // wakes an archiver that waits for a minute after three failures
		return len(a.ready(t)) == 0
	})
}

// killPushes kills every howdah that this test's archiver has started, the helpers among them.
func (a *archiving) killPushes(ctx context.Context) (killed int) {
	for ctx.Err() == nil {
		killed += killAll(a.howdah, "push", a.settings) + killAll(a.howdah, "ahead-push", a.settings)
		timer := time.NewTimer(time.Duration(rand.Int64N(int64(60 * time.Millisecond))))
		select {
		case <-ctx.Done():
		case <-timer.C:
		}
	}
	return killed
}

// restored is a server that recovers from a base backup and the archive; it is not started.
func (a *archiving) restored(t *testing.T, base string, settings map[string]string) *waltest.Server {
	t.Helper()
	return a.Clone(t, func(data string) {
		if err := os.CopyFS(data, os.DirFS(base)); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(data, 0o700); err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(data, "recovery.signal"), nil)
		f, err := os.OpenFile(filepath.Join(data, "postgresql.conf"), os.O_APPEND|os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		fmt.Fprintf(f, "archive_mode = off\nrestore_command = '\"%s\" wal fetch --settings \"%s\" \"%%f\" \"%%p\"'\n", a.howdah, a.settings)
		for name, value := range settings {
			fmt.Fprintf(f, "%s = '%s'\n", name, value)
		}
	})
}

func TestARealServerArchivesAndIsRecoveredThoughItsPushesAreKilled(t *testing.T) {
	t.Parallel()
	a := newArchiving(t)
	a.fill(t, 1)
	base := filepath.Join(a.Dir, "base")
	a.Run(t, "pg_basebackup", "-D", base, "-h", a.Dir, "-U", "postgres", "-X", "none", "-c", "fast")
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan int)
	go func() { done <- a.killPushes(ctx) }()
	a.fill(t, 6)
	a.Exec(t, `SELECT pg_create_restore_point('the middle')`)
	middle := a.Ask(t, `SELECT count(*) FROM a`)
	a.fill(t, 6)
	cancel()
	t.Logf("%d pushes were killed", <-done)
	a.archived(t)
	all := a.Ask(t, `SELECT count(*) FROM a`)

	// Every segment that PostgreSQL was told is safe comes back as it was.
	target := filepath.Join(t.TempDir(), "RECOVERYXLOG")
	compared := 0
	for _, name := range a.Segments(t, wal.Segment) {
		if _, err := os.Stat(filepath.Join(a.WAL(), "archive_status", name.String()+".done")); err != nil {
			continue
		}
		if out, err := exec.Command(a.howdah, "wal", "fetch", "--settings", a.settings, name.String(), target).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", name, err, out)
		}
		if !bytes.Equal(read(t, target), read(t, filepath.Join(a.WAL(), name.String()))) {
			t.Errorf("%s came back as something else", name)
		}
		compared++
	}
	waltest.Await(t, "the helper to end", func() bool { return len(processes(a.howdah, "ahead-fetch", a.settings)) == 0 })
	if compared < 20 {
		t.Errorf("only %d segments were archived", compared)
	}

	for _, c := range []struct {
		settings map[string]string
		want     string
	}{
		{map[string]string{}, all},
		{map[string]string{"recovery_target_name": "the middle", "recovery_target_action": "promote"}, middle},
	} {
		s := a.restored(t, base, c.settings)
		s.Start(t)
		waltest.Await(t, "the end of recovery", func() bool { return s.Ask(t, `SELECT pg_is_in_recovery()`) == "false" })
		if have := s.Ask(t, `SELECT count(*) FROM a`); have != c.want {
			t.Errorf("%d settings: %s rows, not %s\n%s", len(c.settings), have, c.want, s.Log())
		}
		s.Stop(t, "immediate")
	}

	// The repo goes away in the middle of a recovery: it must not end there, and goes on when the repo is back.
	s := a.restored(t, base, nil)
	hole := a.Segments(t, wal.Segment)
	names := hole[len(hole)/2].String()
	object, err := repo.WALName("main", names)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(a.root, object+".zst")
	whole := read(t, path)
	damaged := bytes.Clone(whole)
	damaged[len(damaged)-9] ^= 1
	write(t, path, damaged)
	_ = s.TryStart(t.Context()) // it may answer readers, until it comes to the hole
	waltest.Await(t, "the server to stop at the damaged segment", func() bool {
		_, err := os.Stat(filepath.Join(s.Data, "postmaster.pid"))
		return os.IsNotExist(err)
	})
	if log := s.Log(); !strings.Contains(log, "exit code 200") || strings.Contains(log, "archive recovery complete") {
		t.Errorf("recovery ended on a damaged archive:\n%s", log)
	}
	write(t, path, whole)
	s.Start(t)
	waltest.Await(t, "the end of recovery", func() bool { return s.Ask(t, `SELECT pg_is_in_recovery()`) == "false" })
	if have := s.Ask(t, `SELECT count(*) FROM a`); have != all {
		t.Errorf("%s rows, not %s\n%s", have, all, s.Log())
	}
}
