//go:build linux

package torture

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"howdah/internal/cli/clitest"
	"howdah/internal/cluster"
)

// house is the real program on a data directory of its own.
type house struct {
	t       testing.TB
	dir     string   // the data directory
	addr    string   // host:port of the door, the same after every restart
	args    []string // further arguments of up
	program string   // "": as it is built from this source
	raced   bool     // with the race detector, where program is ""
	wrap    []string // a command that starts the program: a shell that sets limits
	said    string   // the file that takes what it says
	run     *program // the one that was started last
}

// program is one run of howdah.
type program struct {
	cmd   *exec.Cmd
	began time.Time
	done  chan struct{} // closed when it has ended
	err   error         // how, valid then
}

func (p *program) pid() int { return p.cmd.Process.Pid }

func (p *program) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// newHouse makes the place; start starts it. Nothing of it is left when the test ends.
func newHouse(t testing.TB, args ...string) *house {
	t.Helper()
	base, err := os.MkdirTemp(work, "house-")
	if err == nil {
		err = os.Chmod(base, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	return houseIn(t, base, args...)
}

// newRacedHouse has the race detector in the server.
func newRacedHouse(t testing.TB, args ...string) *house {
	t.Helper()
	h := newHouse(t, args...)
	h.raced = true
	return h
}

func houseIn(t testing.TB, base string, args ...string) *house {
	h := &house{t: t, dir: filepath.Join(base, "data"), addr: freeAddress(t), args: args, said: filepath.Join(base, "said.log")}
	t.Cleanup(func() {
		h.clear()
		if t.Failed() {
			t.Logf("the end of what howdah said:\n%s", h.tail(40))
		}
	})
	return h
}

// addresses are those that freeAddress has given.
var addresses sync.Map

// freeAddress finds a port below those that the system gives to outgoing connections: while howdah is down, a client
// that knocks at one of those can be connected to itself.
func freeAddress(t testing.TB) string {
	t.Helper()
	for range 100 {
		addr := fmt.Sprintf("127.0.0.1:%d", 20000+rand.IntN(12000))
		if _, given := addresses.LoadOrStore(addr, true); given { // to a house that may be down for the moment
			continue
		}
		if l, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", addr); err == nil {
			l.Close()
			return addr
		}
	}
	t.Fatal("no free port")
	return ""
}

// clear kills whatever is left of the house. SIGKILL to each again until none is there: a supervisor may be starting
// another at this very moment.
func (h *house) clear() {
	ok := within(patience, func() bool {
		left := householdOf(h.dir)
		for _, p := range left {
			_ = sendTo(p.pid, syscall.SIGKILL)
		}
		return len(left) == 0
	})
	if !ok {
		h.t.Errorf("cannot get rid of %v", householdOf(h.dir))
	}
}

// command is howdah with the house's data directory.
func (h *house) command(args ...string) *exec.Cmd {
	path := h.program
	switch {
	case path == "" && h.raced:
		path = raced(h.t)
	case path == "":
		path = clitest.Program(h.t)
	}
	line := append(append([]string{}, h.wrap...), path)
	line = append(line, args...)
	cmd := exec.Command(line[0], append(line[1:], "--data", h.dir)...)
	cmd.Dir = filepath.Dir(h.dir)
	cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8", "HOWDAH_LANG=en", "HOWDAH_DIGEST=off") // no report comes between what is counted on a Monday morning
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}                                   // Ctrl-C at the test is for the test
	return cmd
}

// up runs `howdah up` and does not wait.
func (h *house) up() *program {
	h.t.Helper()
	args := append([]string{"up", "--listen", h.addr, "--metrics-listen", "", "--log-format", "json", "--link-cards", "off"}, h.args...)
	h.run = h.launch(h.command(args...))
	return h.run
}

func (h *house) launch(cmd *exec.Cmd) *program {
	h.t.Helper()
	out, err := os.OpenFile(h.said, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		h.t.Fatal(err)
	}
	defer out.Close()
	cmd.Stdout, cmd.Stderr = out, out
	p := &program{cmd: cmd, began: time.Now(), done: make(chan struct{})}
	if err := cmd.Start(); err != nil {
		h.t.Fatal(err)
	}
	go func() {
		p.err = cmd.Wait()
		close(p.done)
	}()
	return p
}

// announcement is what a running server tells others on the machine.
type announcement struct {
	PID        int
	URL, Setup string
}

// announced reads running.json, when it is this program's.
func (h *house) announced(p *program) (announcement, bool) {
	var a announcement
	raw, err := os.ReadFile(filepath.Join(h.dir, "running.json"))
	return a, err == nil && json.Unmarshal(raw, &a) == nil && a.PID == p.pid()
}

// start runs the house and waits until it is ready.
func (h *house) start() announcement {
	h.t.Helper()
	return h.ready(h.up())
}

func (h *house) ready(p *program) announcement {
	h.t.Helper()
	var a announcement
	await(h.t, patience, "howdah to be ready", func() bool {
		if p.ended() {
			h.t.Fatalf("howdah ended: %v\n%s", p.err, h.tail(30))
		}
		var ok bool
		a, ok = h.announced(p)
		return ok
	})
	return a
}

// end asks the program to stop as Ctrl-C does and wants it to end well.
func (h *house) end(p *program, signal syscall.Signal) {
	h.t.Helper()
	age := time.Since(p.began)
	if err := sendTo(p.pid(), signal); err != nil {
		h.t.Fatal(err)
	}
	h.wait(p)
	var exit *exec.ExitError
	if age < time.Second && errors.As(p.err, &exit) && exit.Sys().(syscall.WaitStatus).Signaled() {
		return // it was so young that it did not listen to signals yet, and has done nothing
	}
	if p.err != nil {
		h.t.Fatalf("howdah, asked to stop, ended with: %v\n%s", p.err, h.tail(30))
	}
}

func (h *house) wait(p *program) {
	h.t.Helper()
	select {
	case <-p.done:
	case <-time.After(patience):
		h.t.Fatalf("howdah does not end\n%s", h.tail(30))
	}
}

// kill ends the program at once, and PostgreSQL stays.
func (h *house) kill(p *program) {
	h.t.Helper()
	if err := sendTo(p.pid(), syscall.SIGKILL); err != nil {
		h.t.Fatal(err)
	}
	h.wait(p)
}

// cluster is the house's PostgreSQL, seen from outside.
func (h *house) cluster() *cluster.Cluster {
	h.t.Helper()
	in, err := cluster.Find(h.t.Context(), "")
	if err != nil {
		h.t.Fatal(err)
	}
	c, err := cluster.New(h.dir, in, cluster.Options{})
	if err != nil {
		h.t.Fatal(err)
	}
	return c
}

// postmaster is the process id of the house's PostgreSQL.
func (h *house) postmaster() (int, bool) {
	c, err := cluster.New(h.dir, cluster.Installation{}, cluster.Options{})
	if err != nil {
		return 0, false
	}
	return c.Running()
}

// backends are the server processes that serve a role.
func (h *house) backends(role string) []process {
	postmaster, ok := h.postmaster()
	if !ok {
		return nil
	}
	var list []process
	for _, p := range processes() {
		if p.parent == postmaster && !p.dead() && strings.Contains(p.args, ": "+role+" ") {
			list = append(list, p)
		}
	}
	return list
}

// sql opens a connection to the house's database as one of its roles.
func (h *house) sql(role string) *pgx.Conn {
	h.t.Helper()
	dsn, err := h.cluster().DSN(role, cluster.Database)
	if err != nil {
		h.t.Fatal(err)
	}
	conn, err := pgx.Connect(h.t.Context(), dsn)
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { conn.Close(context.Background()) })
	return conn
}

// log is all that the program has said so far.
func (h *house) log() string {
	raw, err := os.ReadFile(h.said)
	if err != nil {
		h.t.Fatal(err)
	}
	return string(raw)
}

func (h *house) tail(lines int) string {
	raw, _ := os.ReadFile(h.said)
	all := strings.Split(strings.TrimRight(string(raw), "\n"), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

// logged counts the lines of the log with all of these words.
func (h *house) logged(words ...string) int {
	n := 0
	for line := range strings.Lines(h.log()) {
		all := true
		for _, word := range words {
			all = all && strings.Contains(line, word)
		}
		if all {
			n++
		}
	}
	return n
}

// noFaults fails the test for what must never be in the log: our own mistakes.
func (h *house) noFaults() {
	h.t.Helper()
	for line := range strings.Lines(h.log()) {
		for _, word := range []string{"DATA RACE", "panic", "request failed", "goroutine "} {
			if strings.Contains(line, word) {
				h.t.Errorf("howdah said: %s", strings.TrimSpace(line))
				break
			}
		}
	}
}
