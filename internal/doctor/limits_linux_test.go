package doctor_test

import (
	"context"
	"os/exec"
	"testing"

	"golang.org/x/sys/unix"

	"howdah/internal/cluster"
	"howdah/internal/doctor"
	"howdah/internal/fault"
	"howdah/internal/untested"
)

func TestALowLimitOfFilesIsNamed(t *testing.T) {
	t.Parallel()
	child := exec.CommandContext(t.Context(), "sleep", "3600")
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = child.Process.Kill()
		_ = child.Wait()
	}()
	p := &patient{Scratch: &cluster.Scratch{}, t: t, o: doctor.Options{PID: child.Process.Pid}}
	if err := unix.Prlimit(child.Process.Pid, unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 1024, Max: 1024}, nil); err != nil {
		t.Fatal(err)
	}
	if r := p.look("limits"); len(r.Findings) != 0 {
		t.Errorf("%+v", r.Findings)
	}
	if err := unix.Prlimit(child.Process.Pid, unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 256, Max: 1024}, nil); err != nil {
		t.Fatal(err)
	}
	if named(p.look("limits"), "doctor.limit") == nil {
		t.Error("256 files are few")
	}
}

func TestAFolderInMemoryIsNamed(t *testing.T) {
	t.Parallel()
	var st unix.Statfs_t
	if err := unix.Statfs("/dev/shm", &st); err != nil || st.Type != unix.TMPFS_MAGIC {
		untested.Here(t, "/dev/shm is no file system in memory")
	}
	r, err := doctor.Look(context.WithoutCancel(t.Context()), doctor.Options{Only: []string{"space"}, Places: []doctor.Place{{Dir: "/dev/shm/howdah"}}})
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Findings) != 1 || !fault.HasKey(r.Findings[0].Fault, "doctor.memory_disk") && !fault.HasKey(r.Findings[0].Fault, "doctor.space") {
		t.Errorf("%+v", r.Findings)
	}
}
