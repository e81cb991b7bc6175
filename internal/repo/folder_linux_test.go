package repo

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"howdah/internal/fault"
	"howdah/internal/untested"
)

// asNobody runs f with the rights of an account that owns nothing.
func asNobody(t *testing.T, f func()) {
	t.Helper()
	if os.Geteuid() != 0 {
		f() // what root owns is closed to us anyway
		return
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // and it ends with the goroutine, because there is no unlocking
		if err := unix.Setfsuid(65534); err != nil {
			t.Error(err)
			return
		}
		f()
	}()
	<-done
}

// openDir is a temporary folder that everybody may enter.
func openDir(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, path := range []string{filepath.Dir(dir), dir} {
		if err := os.Chmod(path, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// The top of a disk has a folder that only root may look into.
func TestTheTopOfADiskCanBeARepo(t *testing.T) {
	t.Parallel()
	dir := openDir(t)
	if err := os.Mkdir(filepath.Join(dir, "lost+found"), 0); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	asNobody(t, func() {
		r, err := Open(t.Context(), dir, Options{Create: true})
		if err == nil {
			_, err = r.Put(t.Context(), "main/x", []byte("x"))
		}
		if err == nil {
			err = r.Sweep(t.Context(), "", 0)
		}
		if err != nil {
			t.Error(err)
		}
	})
}

func TestAFolderThatIsClosedToUsIsSaidToBe(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(openDir(t), "repo")
	r := openRepo(t, dir, Options{Create: true})
	if _, err := r.Put(t.Context(), "main/x", []byte("x")); err != nil {
		t.Fatal(err)
	}
	closed := []string{dir, filepath.Join(dir, "main")}
	for _, path := range closed {
		if err := os.Chmod(path, 0o555); err != nil {
			t.Fatal(err)
		}
		defer os.Chmod(path, 0o700) //nolint:errcheck // for the cleaning up
	}
	asNobody(t, func() {
		ctx := t.Context()
		_, putErr := r.Put(ctx, "main/y", []byte("y"))
		_, newErr := r.Put(ctx, "other/y", []byte("y"))
		for what, err := range map[string]error{"put": putErr, "new folder": newErr, "remove": r.Remove(ctx, "main/x.zst")} {
			if !fault.HasKey(err, "repo.no_rights") {
				t.Errorf("%s: %v", what, err)
			}
		}
	})
	if os.Geteuid() != 0 {
		return
	}
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	asNobody(t, func() {
		if _, err := Open(t.Context(), dir, Options{}); !fault.HasKey(err, "repo.no_rights") {
			t.Errorf("open: %v", err)
		}
		if _, err := r.Get(t.Context(), "main/x", nil); !fault.HasKey(err, "repo.no_rights") {
			t.Errorf("get: %v", err)
		}
	})
}

// smallDisk mounts a file system of so many MB.
func smallDisk(t *testing.T, megabytes int, flags uintptr) string {
	t.Helper()
	if os.Geteuid() != 0 {
		untested.Here(t, "only root may mount a small disk (tmpfs) to fill it")
	}
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", flags, fmt.Sprintf("size=%dm,mode=755", megabytes)); err != nil {
		t.Fatalf("this test has to mount a tmpfs, which takes the right CAP_SYS_ADMIN: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

func TestAFullDiskLeavesNothingAndGoesOnWhenThereIsRoom(t *testing.T) {
	t.Parallel()
	r := openRepo(t, smallDisk(t, 8, 0), Options{Create: true})
	noise := make([]byte, 3<<20)
	random := rand.NewChaCha8([32]byte{})
	_, _ = random.Read(noise)
	stored := 0
	var err error
	for err == nil {
		if _, err = r.Put(t.Context(), fmt.Sprintf("main/%d", stored), noise); err == nil {
			stored++
		}
	}
	if !fault.HasKey(err, "repo.full") || stored != 2 {
		t.Errorf("after %d objects: %v", stored, err)
	}
	w, err := r.Writer(t.Context(), "main/stream")
	if err != nil {
		t.Fatal(err)
	}
	for err == nil {
		if _, err = random.Read(noise); err == nil {
			_, err = w.Write(noise)
		}
	}
	if !fault.HasKey(err, "repo.full") {
		t.Errorf("stream: %v", err)
	}
	w.Abort()
	if got := names(t, r, "main/"); len(got) != stored {
		t.Errorf("%v", got)
	}
	if left := leftovers(t, r.bare().(*folder).root); len(left) > 0 { //nolint:forcetypeassert // it is one
		t.Errorf("left behind: %v", left)
	}
	if err := r.Remove(t.Context(), "main/0.zst"); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Put(t.Context(), "main/2", noise); err != nil {
		t.Errorf("with room again: %v", err)
	}
}

func TestADiskThatCanOnlyBeReadIsSaidToBe(t *testing.T) {
	t.Parallel()
	dir := smallDisk(t, 4, 0)
	r := openRepo(t, dir, Options{Create: true})
	if _, err := r.Put(t.Context(), "main/x", []byte("x")); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Put(t.Context(), "main/y", []byte("y")); !fault.HasKey(err, "repo.read_only") {
		t.Errorf("put: %v", err)
	}
	if err := r.Remove(t.Context(), "main/x.zst"); !fault.HasKey(err, "repo.read_only") {
		t.Errorf("remove: %v", err)
	}
	if got, err := r.Get(t.Context(), "main/x", nil); err != nil || string(got) != "x" {
		t.Errorf("get: %v", err)
	}
}

func TestWhatStandsInTheWayIsNamed(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	r := openRepo(t, dir, Options{Create: true})
	if err := os.WriteFile(filepath.Join(dir, "main"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Put(t.Context(), "main/x", []byte("x")); !fault.HasKey(err, "repo.in_the_way") {
		t.Errorf("a file where a folder belongs: %v", err)
	}
	if err := os.MkdirAll(filepath.Join(dir, "other", "x.zst"), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Put(t.Context(), "other/x", []byte("x")); !fault.HasKey(err, "repo.in_the_way") {
		t.Errorf("a folder where a file belongs: %v", err)
	}
	if err := r.Remove(t.Context(), "other/x.zst"); !fault.HasKey(err, "repo.in_the_way") {
		t.Errorf("a folder that should be removed: %v", err)
	}
}

func leftovers(t *testing.T, root string) (found []string) {
	t.Helper()
	err := filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		if err == nil && strings.HasPrefix(e.Name(), tempPrefix) {
			found = append(found, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// TestPutForEver is no test, but what TestAKilledWriter kills: it stores one object after the other and says so.
func TestPutForEver(t *testing.T) {
	dir := os.Getenv("HOWDAH_PUT_FOR_EVER")
	if dir == "" {
		t.Skip("run by TestAKilledWriterLeavesWholeObjectsOnly")
	}
	r := openRepo(t, dir, Options{Create: true})
	for i := 0; ; i++ {
		name := fmt.Sprintf("main/%d/%d-%d", i%7, os.Getpid(), i)
		if _, err := r.Put(t.Context(), name, killedContent(name)); err != nil {
			fmt.Println("failed", err)
			return
		}
		fmt.Println("stored", name)
	}
}

func killedContent(name string) []byte { return bytes.Repeat([]byte(name), 30_000) }

func TestAKilledWriterLeavesWholeObjectsOnly(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "repo")
	stored := map[string]bool{}
	seen := map[string]bool{} // whole, as the rounds before have found: they are looked at once more at the end
	tails := 0
	const rounds = 12
	for round := range rounds {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run", "^TestPutForEver$")
		cmd.Env = append(os.Environ(), "HOWDAH_PUT_FOR_EVER="+dir)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		enough := rand.IntN(20)
		var kill *time.Timer
		for lines := bufio.NewScanner(out); lines.Scan(); {
			what, name, _ := strings.Cut(lines.Text(), " ")
			if what == "failed" {
				t.Fatal(name)
			}
			if what == "stored" {
				stored[name] = true
				if enough--; enough < 0 && kill == nil { // in the midst of the next one, wherever that is
					kill = time.AfterFunc(rand.N(5*time.Millisecond), func() { _ = cmd.Process.Kill() })
				}
			}
		}
		_ = cmd.Wait()
		r := openRepo(t, dir, Options{})
		have := map[string]bool{}
		for _, name := range names(t, r, "main/") {
			name, _ = strings.CutSuffix(name, r.Ending())
			have[name] = true
			if seen[name] && round < rounds-1 {
				continue
			}
			seen[name] = true
			if got, err := r.Get(t.Context(), name, nil); err != nil || !bytes.Equal(got, killedContent(name)) {
				t.Errorf("round %d: %s: %v", round, name, err)
			}
			if _, err := r.Put(t.Context(), name, killedContent(name)); err != nil { // as PostgreSQL does after a crash
				t.Errorf("round %d: again: %v", round, err)
			}
		}
		for name := range stored {
			if !have[name] {
				t.Errorf("round %d: %s was confirmed, and is not there", round, name)
			}
		}
		tails += len(leftovers(t, dir))
		living, err := r.Create(t.Context(), "main/living")
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(r.Sweep(t.Context(), "", time.Hour), r.Sweep(t.Context(), "", -time.Hour)); err != nil {
			t.Fatal(err)
		}
		if left := leftovers(t, dir); len(left) != 1 {
			t.Errorf("round %d: after sweeping there are %v, and one of them is being written", round, left)
		}
		living.Abort()
	}
	if tails == 0 {
		t.Log("no round was killed in the midst of writing")
	}
}

func TestSweepLeavesYoungFilesAlone(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	r := openRepo(t, dir, Options{Create: true})
	young, old := filepath.Join(dir, tempPrefix+"young"), filepath.Join(dir, tempPrefix+"old")
	for _, path := range []string{young, old} {
		if err := os.WriteFile(path, []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	yesterday := time.Now().Add(-24 * time.Hour)
	if err := os.Chtimes(old, yesterday, yesterday); err != nil {
		t.Fatal(err)
	}
	if err := r.Sweep(t.Context(), "", time.Hour); err != nil {
		t.Fatal(err)
	}
	if left := leftovers(t, dir); len(left) != 1 || left[0] != young {
		t.Errorf("%v", left)
	}
}
