//go:build unix

package cluster

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestStartStopAndTakeOver(t *testing.T) {
	t.Parallel()
	c := made(t)
	ctx := t.Context()
	if s := c.Status(); s.State != Stopped || s.Major != c.in.Version.Major || s.PID != 0 {
		t.Errorf("%+v", s)
	}
	if err := c.Stop(ctx, Fast); err != nil {
		t.Errorf("stopping what does not run: %v", err)
	}
	if err := c.Start(ctx); err != nil {
		t.Fatal(err)
	}
	s := c.Status()
	if s.State != Running || s.PID == 0 || s.OnHold || time.Since(s.Started) > time.Hour {
		t.Errorf("%+v", s)
	}
	if session, err := unix.Getsid(s.PID); err != nil || session == mustSession(t) {
		t.Errorf("the server is in our session: Ctrl-C would end it (%v)", err)
	}

	again := newCluster(t, c.dir, c.in)
	if err := again.Start(ctx); err != nil {
		t.Fatal(err)
	}
	if have, ok := again.Running(); !ok || have != s.PID {
		t.Errorf("a second Start made process %d of %d", have, s.PID)
	}
	if have := ask(t, again, App, "select current_user::text"); have != App {
		t.Error(have)
	}

	// Smart waits for the one who is connected, and says so when we do not want to wait any longer.
	if _, err := connect(t, c, App, Database); err != nil {
		t.Fatal(err)
	}
	short, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
	defer cancel()
	wantFault(t, again.Stop(short, Smart), "cluster.still_stopping")
	if s := c.Status(); s.State != Stopping || !s.OnHold {
		t.Errorf("%+v", s)
	}
	if err := again.Stop(ctx, Fast); err != nil {
		t.Fatal(err)
	}
	if s := c.Status(); s.State != Stopped || !s.OnHold {
		t.Errorf("%+v", s)
	}
	if err := c.Start(ctx); err != nil {
		t.Fatal(err)
	}
	if err := c.Restart(ctx); err != nil {
		t.Fatal(err)
	}
	if s := c.Status(); s.State != Running || s.OnHold {
		t.Errorf("%+v", s)
	}
	if err := c.Stop(ctx, Immediate); err != nil {
		t.Fatal(err)
	}
	if err := c.Start(ctx); err != nil {
		t.Errorf("after an immediate stop: %v", err)
	}
}

func mustSession(t *testing.T) int {
	t.Helper()
	sid, err := unix.Getsid(0)
	if err != nil {
		t.Fatal(err)
	}
	return sid
}

func TestStartsAtTheSameTimeAreOne(t *testing.T) {
	t.Parallel()
	c := made(t)
	errs := make(chan error)
	for range 4 {
		go func() { errs <- newClusterQuiet(c).Start(t.Context()) }()
	}
	for range 4 {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
}

func newClusterQuiet(c *Cluster) *Cluster {
	return &Cluster{dir: c.dir, in: c.in, opt: c.opt, changed: make(chan struct{})}
}

func TestTheServerOutlivesAKilledHowdah(t *testing.T) {
	t.Parallel()
	c := made(t)
	cmd, _ := other(t, "HOWDAH_TEST_START="+c.dir)
	pid, ok := c.Running()
	if !ok {
		t.Fatal("the other process started nothing")
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if have, _ := c.Running(); have != pid {
		t.Errorf("process %d was not taken over, %d runs", pid, have)
	}
	if have := ask(t, c, App, "select current_user::text"); have != App {
		t.Error(have)
	}
}

func TestStartRightAfterAKill(t *testing.T) {
	t.Parallel()
	c := started(t)
	conn, err := connect(t, c, App, Database) // a child that has to notice the death of its postmaster
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	for range 3 {
		l, _ := c.running()
		kill(t, l.pid, syscall.SIGKILL)
		if err := waitGone(t.Context(), l.pid, c.data(), l.started); err != nil {
			t.Fatal(err)
		}
		if _, ok := c.Running(); ok {
			t.Error("a dead server counts as running")
		}
		if err := c.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

func TestALockFileLeftBehindIsNoServer(t *testing.T) {
	t.Parallel()
	c := made(t)
	// A living process of the same account that has got the number of a server of yesterday: PostgreSQL alone would refuse to start.
	sleeper := exec.CommandContext(t.Context(), "sleep", "600")
	if a := c.opt.Account; a.other() {
		sleeper.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(a.UID), Gid: uint32(a.GID)}}
	}
	if err := sleeper.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = sleeper.Process.Kill(); _ = sleeper.Wait() }()
	full := fmt.Sprintf("%d\n%s\n%d\n15432\n/nowhere\n127.0.0.1\n 1234567 1\nready   \n",
		sleeper.Process.Pid, c.data(), time.Now().Unix())
	for _, content := range []string{full, strconv.Itoa(sleeper.Process.Pid), "", "-17\nx\n", "999999999999999999999\n\n\n"} {
		path := filepath.Join(c.data(), "postmaster.pid")
		if err := writeFile(path, []byte(content), c.opt.Account); err != nil {
			t.Fatal(err)
		}
		if pid, ok := c.Running(); ok {
			t.Errorf("%q: process %d counts as our server", content, pid)
		}
		if s := c.Status(); s.State != Stopped {
			t.Errorf("%q: %+v", content, s)
		}
		if err := c.Stop(t.Context(), Fast); err != nil {
			t.Fatal(err)
		}
		if err := c.Start(t.Context()); err != nil {
			t.Fatalf("%q: %v", content, err)
		}
		if err := c.Stop(t.Context(), Fast); err != nil {
			t.Fatal(err)
		}
	}
	if sleeper.Process.Signal(syscall.Signal(0)) != nil {
		t.Error("Stop ended a stranger")
	}
}

func TestATakenPortIsReplaced(t *testing.T) {
	t.Parallel()
	c := made(t)
	first := c.Status().Port
	l, err := net.Listen("tcp4", net.JoinHostPort("127.0.0.1", strconv.Itoa(first)))
	taken := err == nil // else another test has it at this moment, and may let it go in the next
	if taken {
		defer l.Close()
	}
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if s := c.Status(); taken && s.Port == first || s.State != Running {
		t.Errorf("%+v", s)
	}
	if have, want := ask(t, c, App, "show port"), strconv.Itoa(c.Status().Port); have != want {
		t.Errorf("it listens at %s, we say %s", have, want)
	}

	// The port is taken between our look and PostgreSQL's.
	if err := c.Stop(t.Context(), Fast); err != nil {
		t.Fatal(err)
	}
	busy, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	_, port, _ := net.SplitHostPort(busy.Addr().String())
	conf, err := os.ReadFile(filepath.Join(c.data(), confName))
	if err != nil {
		t.Fatal(err)
	}
	old := fmt.Sprintf("port = '%d'", c.readConf().port)
	if err := writeFile(filepath.Join(c.data(), confName), []byte(strings.Replace(string(conf), old, "port = '"+port+"'", 1)), c.opt.Account); err != nil {
		t.Fatal(err)
	}
	said, err := c.launch(t.Context())
	if err == nil || !strings.Contains(said, "could not bind") {
		t.Errorf("PostgreSQL said %q, %v", said, err)
	}
	if !strings.Contains(c.startFault(err, said).Error(), "could not bind") {
		t.Errorf("the cause does not hold what the log says: %v", c.startFault(err, said))
	}
}

func TestWhatKeepsItFromStartingIsNamed(t *testing.T) {
	t.Parallel()
	c := made(t)
	ctx := t.Context()
	data := c.data()

	version := filepath.Join(data, "PG_VERSION")
	if err := os.WriteFile(version, []byte("14\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	wantFault(t, c.Start(ctx), "cluster.wrong_major", "14", strconv.Itoa(c.in.Version.Major), data)
	if err := os.Remove(version); err != nil {
		t.Fatal(err)
	}
	wantFault(t, c.Start(ctx), "cluster.not_cluster", data)
	if err := writeFile(version, []byte(strconv.Itoa(c.in.Version.Major)+"\n"), c.opt.Account); err != nil {
		t.Fatal(err)
	}

	if err := os.Chmod(data, 0o755); err != nil {
		t.Fatal(err)
	}
	wantFault(t, c.Start(ctx), "cluster.open_to_others", "0755", data)
	if err := os.Chmod(data, 0o750); err != nil {
		t.Fatal(err)
	}

	if isRoot() {
		if err := os.Lchown(data, 0, 0); err != nil {
			t.Fatal(err)
		}
		wantFault(t, c.Start(ctx), "cluster.foreign_owner", data)
		if err := c.opt.Account.own(data); err != nil {
			t.Fatal(err)
		}
	}

	control := filepath.Join(data, "global", "pg_control")
	if err := os.Chmod(control, 0); err != nil {
		t.Fatal(err)
	}
	wantFault(t, c.Start(ctx), "cluster.permissions", c.dir)
	if err := os.Chmod(control, 0o600); err != nil {
		t.Fatal(err)
	}

	auto := filepath.Join(data, "postgresql.auto.conf")
	if err := writeFile(auto, []byte("work_mem = 'a lot'\n"), c.opt.Account); err != nil {
		t.Fatal(err)
	}
	err := c.Start(ctx)
	wantFault(t, err, "cluster.start_failed", c.LogDir())
	if !strings.Contains(err.Error(), "work_mem") {
		t.Errorf("the cause does not hold what PostgreSQL said: %v", err)
	}
	if err := writeFile(auto, nil, c.opt.Account); err != nil {
		t.Fatal(err)
	}

	for said, key := range map[string]string{
		"FATAL:  could not write lock file: No space left on device": "cluster.disk_full",
		"pre-existing shared memory block":                           "cluster.orphans",
		"FATAL:  data directory \"x\" has wrong ownership":           "cluster.foreign_owner",
	} {
		wantFault(t, c.startFault(errors.New("exit status 1"), said), key)
	}
	if err := c.Start(ctx); err != nil {
		t.Errorf("all is mended, and yet: %v", err)
	}

	absent := newCluster(t, filepath.Join(place(t), "none"), c.in)
	wantFault(t, absent.Start(ctx), "cluster.absent", absent.dir)
	if _, err := absent.DSN(App, Database); err == nil {
		t.Error("a DSN for nothing")
	}
}

func TestSettingsAreAddedAndOwnOnesWin(t *testing.T) {
	t.Parallel()
	c := made(t)
	const command = `"C:\Program Files\new\howdah.exe" wal push 'it'\''s' "%p"` // a path of Windows, and one as sh wants it
	c.opt.Settings = map[string]string{"work_mem": "5MB", "application_name": "it's", "restore_command": command}
	main := filepath.Join(c.data(), "postgresql.conf")
	raw, err := os.ReadFile(main)
	if err != nil {
		t.Fatal(err)
	}
	if err := writeFile(main, append(raw, "max_connections = 33\n"...), c.opt.Account); err != nil {
		t.Fatal(err)
	}
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"work_mem": "5MB", "max_connections": "33", "restore_command": command} {
		if have := ask(t, c, App, "show "+name); have != want {
			t.Errorf("%s is %s", name, have)
		}
	}
	// The control file is read as PostgreSQL's own program reads it, up and down.
	for _, down := range []bool{false, true} {
		if down {
			if err := c.Stop(t.Context(), Fast); err != nil {
				t.Fatal(err)
			}
		}
		have, err := c.Control(t.Context())
		want, askErr := c.askControl(t.Context())
		if err != nil || askErr != nil || have != want || have.Down != down || have.Timeline != 1 || have.SegmentSize != 16<<20 {
			t.Errorf("down %v: %+v %v, and pg_controldata says %+v %v", down, have, err, want, askErr)
		}
	}
	control, err := os.ReadFile(filepath.Join(c.data(), "global", "pg_control"))
	if err != nil {
		t.Fatal(err)
	}
	for at := range 300 { // torn
		torn := slices.Concat(control[:at], make([]byte, len(control)-at))
		if have, err := parseControl(torn); err == nil && at < 289 {
			t.Errorf("torn at %d it is %+v", at, have)
		}
	}
}

func TestPgAuditThatComesLater(t *testing.T) {
	t.Parallel()
	in := mustFind(t.Context())
	has := in.PgAudit
	in.PgAudit = false
	c := newCluster(t, filepath.Join(place(t), "data"), in)
	if err := c.Init(t.Context()); err != nil {
		t.Fatal(err)
	}
	if c.readConf().pgaudit {
		t.Error("preloaded though it is not there")
	}
	if err := c.Start(t.Context()); err != nil { // looks at the installation again
		t.Fatal(err)
	}
	want := map[bool]string{true: "1", false: "0"}[has]
	if have := ask(t, c, Superuser, "select count(*)::text from pg_extension where extname = 'pgaudit'"); have != want {
		t.Errorf("pgaudit created %s times", have)
	}
}
