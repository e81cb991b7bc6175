//go:build unix

package cluster

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"howdah/internal/fault"
)

// TestMain: with one of these variables set, the test program plays another process (a howdah that is killed, one that drops root).
func TestMain(m *testing.M) {
	if dir := os.Getenv("HOWDAH_TEST_START"); dir != "" {
		os.Exit(play(func(ctx context.Context) error {
			c, err := New(dir, mustFind(ctx), Options{Account: testAccount(ctx)})
			if err == nil {
				err = c.Start(ctx)
			}
			return err
		}))
	}
	if dir := os.Getenv("HOWDAH_TEST_INIT"); dir != "" {
		os.Exit(play(func(ctx context.Context) error {
			c, err := New(dir, mustFind(ctx), Options{Account: testAccount(ctx)})
			if err == nil {
				fmt.Println("done") // beginning, that is
				err = c.Init(ctx)
			}
			return err
		}))
	}
	if os.Getenv("HOWDAH_TEST_SCRATCH") != "" {
		os.Exit(play(func(ctx context.Context) error {
			s, err := NewScratch(ctx, ScratchOptions{Parent: os.Getenv("HOWDAH_TEST_SCRATCH")})
			if err == nil {
				pid, _ := s.Running()
				fmt.Println(s.Dir(), pid)
			}
			return err
		}))
	}
	if name := os.Getenv("HOWDAH_TEST_ACCOUNT"); name != "" {
		os.Exit(play(func(ctx context.Context) error {
			a, err := EnsureAccount(ctx, name)
			if err == nil {
				fmt.Println(a.UID, a.GID)
			}
			return err
		}))
	}
	if os.Getenv("HOWDAH_TEST_DROP") != "" {
		os.Exit(play(func(ctx context.Context) error {
			if err := Drop(testAccount(ctx)); err != nil {
				return err
			}
			fmt.Println(os.Getuid(), os.Getgid(), os.Getenv("USER"))
			return nil
		}))
	}
	// Most of the time goes into waiting for other processes and the disk: more at once than there are processors.
	flag.Parse()
	_ = flag.Set("test.parallel", "6")
	code := m.Run()
	if root, _ := template(); root != "" {
		_ = os.RemoveAll(root)
	}
	os.Exit(code)
}

// play does something, says "done", and stays until it is killed.
func play(do func(context.Context) error) int {
	if err := do(context.Background()); err != nil {
		fmt.Println("failed:", err)
		return 1
	}
	fmt.Println("done")
	_, _ = os.Stdin.Read(make([]byte, 1)) // until the test closes it or kills us
	return 0
}

// other starts the test program as another process and gives what it printed up to "done".
func other(t *testing.T, env string) (cmd *exec.Cmd, said string) {
	t.Helper()
	cmd = exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), env)
	if _, err := cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 4096)
	for !strings.Contains(said, "done\n") {
		n, err := out.Read(buf)
		if said += string(buf[:n]); err != nil {
			t.Fatalf("the other process said %q: %v", said, err)
		}
	}
	return cmd, said
}

func mustFind(ctx context.Context) Installation {
	in, err := Find(ctx, "")
	if err != nil {
		panic(err)
	}
	return in
}

// testAccount is who PostgreSQL runs as in tests: ourselves, or as root the account that the product uses.
func testAccount(ctx context.Context) *Account {
	if !isRoot() {
		return nil
	}
	a, err := EnsureAccount(ctx, DefaultAccount)
	if err != nil {
		panic(err)
	}
	return a
}

// place is a new directory that the account can reach (those of t.TempDir are closed).
func place(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "howdah-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := removeAll(context.WithoutCancel(t.Context()), dir); err != nil {
			t.Error(err)
		}
	})
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := testAccount(t.Context()).own(dir); err != nil {
		t.Fatal(err)
	}
	return dir
}

func newCluster(t *testing.T, dir string, in Installation) *Cluster {
	t.Helper()
	c, err := New(dir, in, Options{Account: testAccount(t.Context()), Port: 15432})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx := context.WithoutCancel(t.Context())
		if l, ok := c.running(); ok {
			if err := c.signalStop(ctx, l.pid, Immediate); err != nil {
				t.Error(err)
			}
			_ = waitGone(ctx, l.pid, c.data(), l.started)
		}
		if socket := c.readConf().socket; strings.HasPrefix(socket, "/tmp/howdah-") && !strings.HasPrefix(socket, dir) {
			_ = os.RemoveAll(socket)
		}
	})
	return c
}

// template is initialised once; TestMain removes it.
var template = sync.OnceValues(func() (string, error) {
	ctx := context.Background()
	root, err := os.MkdirTemp("/tmp", "howdah-test-")
	if err != nil {
		return "", err
	}
	if err := errors.Join(os.Chmod(root, 0o755), testAccount(ctx).own(root)); err != nil {
		return root, err
	}
	c, err := New(filepath.Join(root, "howdah-data"), mustFind(ctx), Options{Account: testAccount(ctx), Port: 15432})
	if err == nil {
		err = c.Init(ctx)
	}
	return root, err
})

// made is an initialised cluster that is not running: a copy, for a cluster may be moved while it is stopped.
func made(t *testing.T) *Cluster {
	t.Helper()
	from, err := template()
	if err != nil {
		t.Fatal(err)
	}
	root := place(t)
	if out, err := exec.CommandContext(t.Context(), "cp", "-Rp", filepath.Join(from, "howdah-data"), root).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v", out, err)
	}
	return newCluster(t, filepath.Join(root, "howdah-data"), mustFind(t.Context()))
}

func started(t *testing.T) *Cluster {
	t.Helper()
	c := made(t)
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	return c
}

// scratch is a running throw-away cluster.
func scratch(t *testing.T) *Scratch {
	t.Helper()
	s, err := NewScratch(t.Context(), ScratchOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	return s
}

func connect(t *testing.T, c *Cluster, role, database string) (*pgx.Conn, error) {
	t.Helper()
	dsn, err := c.DSN(role, database)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := pgx.Connect(t.Context(), dsn)
	if err == nil {
		t.Cleanup(func() { _ = conn.Close(context.WithoutCancel(t.Context())) })
	}
	return conn, err
}

func ask(t *testing.T, c *Cluster, role, query string) string {
	t.Helper()
	conn, err := connect(t, c, role, Database)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	var answer string
	if err := conn.QueryRow(t.Context(), query).Scan(&answer); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return answer
}

func wantFault(t *testing.T, err error, key string, names ...string) {
	t.Helper()
	if !fault.HasKey(err, key) {
		t.Fatalf("got %v, want the fault %s", err, key)
	}
	args := fmt.Sprint(fault.Of(err).Args)
	for _, name := range names {
		if !strings.Contains(args, name) {
			t.Errorf("%s names %s, want %q in it", key, args, name)
		}
	}
}

// patience is what a healthy part has for anything, on a machine that is ten times slower too.
const patience = 5 * time.Minute

// eventually waits until it is so.
func eventually(t *testing.T, what string, so func() bool) {
	t.Helper()
	again := time.NewTicker(5 * time.Millisecond)
	defer again.Stop()
	for deadline := time.Now().Add(patience); !so(); <-again.C {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain: %s", what)
		}
	}
}

func kill(t *testing.T, pid int, signal syscall.Signal) {
	t.Helper()
	if err := syscall.Kill(pid, signal); err != nil {
		t.Fatal(err)
	}
}

func TestScratchIsQuickAndWhole(t *testing.T) {
	t.Parallel()
	begun := time.Now()
	s := scratch(t)
	t.Logf("ready after %v", time.Since(begun))
	for _, role := range []string{Superuser, Owner, App, Watcher} {
		if have := ask(t, s.Cluster, role, "select current_user::text"); have != role {
			t.Errorf("connected as %s, want %s", have, role)
		}
	}
	if have := ask(t, s.Cluster, App, "show listen_addresses"); hasSockets && have != "" {
		t.Errorf("a scratch cluster listens at %q", have)
	}
}

func TestScratchOfAKilledProcessIsSweptAway(t *testing.T) {
	t.Parallel()
	parent := place(t)
	killed, said := other(t, "HOWDAH_TEST_SCRATCH="+parent)
	var dir string
	var pid int
	if _, err := fmt.Sscan(said, &dir, &pid); err != nil {
		t.Fatal(err)
	}
	s, err := NewScratch(t.Context(), ScratchOptions{Parent: parent})
	if err != nil {
		t.Fatal(err)
	}
	if !exists(dir) {
		t.Error("the cluster of a living process was swept away")
	}
	if err := s.Close(t.Context()); err != nil {
		t.Error(err)
	}
	_ = killed.Process.Kill()
	_ = killed.Wait()
	if s, err = NewScratch(t.Context(), ScratchOptions{Parent: parent}); err != nil {
		t.Fatal(err)
	}
	if exists(dir) || isPostmaster(pid, filepath.Join(dir, dataName), time.Now()) {
		t.Errorf("%s is still there", dir)
	}
	if err := s.Close(t.Context()); err != nil {
		t.Error(err)
	}
	left, err := filepath.Glob(filepath.Join(parent, "*"))
	if len(left) > 0 || err != nil {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestDropMakesTheWholeProcessTheAccount(t *testing.T) {
	t.Parallel()
	cmd, said := other(t, "HOWDAH_TEST_DROP=1")
	defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
	want := fmt.Sprintln(os.Getuid(), os.Getgid(), os.Getenv("USER"))
	if a := testAccount(t.Context()); a != nil {
		want = fmt.Sprintln(a.UID, a.GID, a.Name)
		raw, err := os.ReadFile("/proc/" + strconv.Itoa(cmd.Process.Pid) + "/status")
		if err == nil && !strings.Contains(string(raw), fmt.Sprintf("Groups:\t%d \n", a.GID)) {
			t.Errorf("groups of root stayed:\n%s", raw)
		}
	}
	if have, _, _ := strings.Cut(said, "\n"); strings.TrimSpace(have) != strings.TrimSpace(want) {
		t.Errorf("it is %q, want %q", have, want)
	}
}
