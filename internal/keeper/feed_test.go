//go:build unix

package keeper

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"howdah/internal/wal"
)

// TestNobodyWaitsForWhatHasNoRoom: while a feed has no room, what it has yet to bring is left to the other command, but for what is under way; and who waited in vain has nobody wait again.
func TestNobodyWaitsForWhatHasNoRoom(t *testing.T) {
	t.Parallel()
	s := &Settings{Identity: wal.Identity{SegmentSize: 1 << 30}} // one fills all the room
	f := &feed{x: &recovery{plan: &Plan{Timeline: 2}}, dir: t.TempDir(), first: wal.Name{Timeline: 2}, fetch: &fetch{s: s}}
	path := func(parts ...string) string { return filepath.Join(append([]string{f.dir}, parts...)...) }
	touch := func(path string) {
		t.Helper()
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	there := func(path string) bool {
		_, err := os.Stat(path)
		return err == nil
	}
	for _, dir := range []string{comingName, makingName} {
		if err := os.Mkdir(path(dir), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	a, b := f.name(1), f.name(2)
	touch(path(a))
	touch(path(comingName, b))
	ended := make(chan error, 1)
	go func() { ended <- f.await(t.Context(), path(comingName, b+nowName)) }()
	for !there(path(comingName, fullName)) && t.Context().Err() == nil {
		runtime.Gosched()
	}
	taken := path(makingName, "taken")
	command := func(name string) *exec.Cmd {
		text := strings.NewReplacer("%f", name, "%p", taken).Replace(f.command("echo other"))
		return exec.CommandContext(t.Context(), "sh", "-c", text)
	}
	if out, err := command(b).CombinedOutput(); err != nil || string(out) != "other\n" {
		t.Errorf("what has no room: %q, %v", out, err)
	}
	if out, err := command(a).CombinedOutput(); err != nil || len(out) > 0 || !there(taken) {
		t.Errorf("what lies ready: %q, %v", out, err)
	}
	if err := <-ended; err != nil || there(path(comingName, fullName)) || !there(path(comingName, b+nowName)) {
		t.Errorf("there is room again, and nobody is told: %v", err)
	}
	if err := os.Remove(taken); err != nil {
		t.Fatal(err)
	}
	touch(path(comingName, fullName)) // for those behind it
	waits := command(b)
	var out strings.Builder
	waits.Stdout = &out
	if err := waits.Start(); err != nil {
		t.Fatal(err)
	}
	touch(path(b))
	if err := os.Remove(path(comingName, b)); err != nil {
		t.Fatal(err)
	}
	if err := waits.Wait(); err != nil || out.Len() > 0 || !there(taken) {
		t.Errorf("what is under way: %q, %v", out.String(), err)
	}

	// We were killed.
	touch(path(comingName, b))
	if err := os.Remove(path(comingName, fullName)); err != nil {
		t.Fatal(err)
	}
	once := strings.NewReplacer("%f", b, "%p", taken, "sleep 0.05", ":").Replace(f.command("echo other"))
	if out, err := exec.CommandContext(t.Context(), "sh", "-c", once).CombinedOutput(); err != nil || string(out) != "other\n" || there(path(comingName)) {
		t.Errorf("%q, %v", out, err)
	}
	if err := f.await(context.WithoutCancel(t.Context()), path(comingName, b+nowName)); err != nil {
		t.Errorf("nobody waits any more, and the feed fails: %v", err)
	}
}
