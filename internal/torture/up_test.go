//go:build linux

package torture

import (
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"howdah/internal/chat"
	"howdah/internal/cluster"
)

// A second `howdah up` attaches to the one that runs: it tells where that is, and leaves without harm.
func TestSecondUpAttachesAndLeaves(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	a := h.start()
	first := h.run
	second := h.aside("up")
	await(t, patience, "the second to say where the first is", func() bool {
		return strings.Contains(second.words(), a.URL) && strings.Contains(second.words(), a.Setup)
	})
	h.end(second.program, syscall.SIGINT)
	if why := h.health(); why != "" || first.ended() {
		t.Fatalf("the first does not serve any more: %s", why)
	}
	third := h.aside("up")
	await(t, patience, "the third to attach", func() bool { return strings.Contains(third.words(), a.URL) })
	h.end(first, syscall.SIGINT)
	h.wait(third.program)
	if third.err != nil {
		t.Errorf("the attached one ended with %v when the first stopped", third.err)
	}
	h.empty()
}

// aside runs another command of the house beside its server.
func (h *house) aside(args ...string) *commandAside {
	h.t.Helper()
	c := &commandAside{h: h, file: filepath.Join(filepath.Dir(h.dir), "aside-"+chat.NewID()+".log")}
	said := h.said
	h.said = c.file
	c.program = h.launch(h.command(args...))
	h.said = said
	return c
}

type commandAside struct {
	*program
	h    *house
	file string
}

func (c *commandAside) words() string {
	raw, err := os.ReadFile(c.file)
	if err != nil {
		c.h.t.Fatal(err)
	}
	return string(raw)
}

// empty wants that no process of the house is left.
func (h *house) empty() {
	h.t.Helper()
	// PostgreSQL's logger is the last: it ends by itself when nobody can write to it any more.
	if !within(patience, func() bool { return len(householdOf(h.dir)) == 0 }) {
		h.t.Errorf("left behind: %v", householdOf(h.dir))
	}
}

// shutDown wants that PostgreSQL ended in order: no recovery at the next start.
func (h *house) shutDown() {
	h.t.Helper()
	if state := h.controlState(); state != "shut down" {
		h.t.Errorf("the cluster's state is %q", state)
	}
}

func (h *house) controlState() string {
	h.t.Helper()
	c := h.cluster()
	out, err := exec.Command(c.Installation().Program("pg_controldata"), "-D", c.DataDir()).Output()
	if err != nil {
		h.t.Fatal(err)
	}
	for line := range strings.Lines(string(out)) {
		if state, ok := strings.CutPrefix(line, "Database cluster state:"); ok {
			return strings.TrimSpace(state)
		}
	}
	return ""
}

// Ctrl-C tells the people, finishes what is under way, shuts PostgreSQL down cleanly and leaves no process behind.
func TestCtrlCStopsInOrder(t *testing.T) {
	t.Parallel()
	h := newRacedHouse(t)
	owner := h.settle(h.start(), "anna")[0]
	lobby := h.lobby(owner)
	page := h.open(owner, lobby)
	idle, err := net.Dial("tcp", h.addr) // says nothing, and must not hold up anybody
	if err != nil {
		t.Fatal(err)
	}
	defer idle.Close()
	seq := page.say(lobby, chat.NewID(), "before").Seq
	began := time.Now()
	if err := sendTo(h.run.pid(), syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	page.until("goodbye", func(f frame) bool { return f.Is == "bye" && f.Key == "stopping" })
	h.wait(h.run)
	if h.run.err != nil {
		t.Errorf("ended with %v", h.run.err)
	}
	t.Logf("stopped after %s", time.Since(began).Round(time.Millisecond))
	h.empty()
	h.shutDown()
	h.noFaults()

	h.start()
	if v := h.everything(owner, lobby); v.seq != seq {
		t.Errorf("the log ends at %d, not at %d", v.seq, seq)
	}
	h.end(h.run, syscall.SIGTERM)
	h.shutDown()
}

// Ctrl-C while howdah is still starting ends all that it has begun to start, at whatever moment it comes.
func TestCtrlCWhileStartingLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	type moment struct {
		name string
		come func() bool
	}
	begun := func() bool { return exists(filepath.Join(h.dir, "pgdata", "postmaster.pid")) }
	for _, m := range []moment{
		{"nothing is done", func() bool { return true }},
		{"the cluster is being made", func() bool { return h.has("initdb") }},
		{"postgres sets itself up", func() bool { return h.has("--boot") || h.has("--single") }},
		{"PostgreSQL starts for the first time", begun},
	} {
		p := h.up()
		h.comes(p, m.name, m.come)
		h.interrupt(p, m.name)
	}
	h.start()
	h.end(h.run, syscall.SIGINT)
	for range 3 {
		for _, m := range []moment{
			{"pg_ctl runs", func() bool { return h.has("pg_ctl") }},
			{"PostgreSQL is not alone", func() bool { return len(householdOf(h.dir)) > 2 }},
			{"its lock file is there", begun},
		} {
			p := h.up()
			h.comes(p, m.name, m.come)
			h.interrupt(p, m.name)
		}
	}
	h.start()
	if why := h.health(); why != "" {
		t.Error(why)
	}
	h.end(h.run, syscall.SIGINT)
	h.empty()
}

// comes waits for a moment of a start. Some are so short that a busy machine never looks in them: then the start is over, which is a moment too.
func (h *house) comes(p *program, moment string, come func() bool) {
	h.t.Helper()
	await(h.t, patience, moment, func() bool { _, ready := h.announced(p); return come() || ready || p.ended() })
}

// has tells whether a process of the house runs this.
func (h *house) has(args string) bool {
	for _, p := range householdOf(h.dir) {
		if strings.Contains(p.args, args) {
			return true
		}
	}
	return false
}

func (h *house) interrupt(p *program, moment string) {
	h.t.Helper()
	if err := sendTo(p.pid(), syscall.SIGINT); err != nil {
		h.t.Fatal(err)
	}
	h.wait(p)
	h.t.Logf("Ctrl-C when %s", moment)
	h.empty()
	h.clear()
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// A killed howdah leaves PostgreSQL running, and the next `up` takes that over as it is.
func TestKilledHowdahIsTakenOver(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	owner := h.settle(h.start(), "anna")[0]
	lobby := h.lobby(owner)
	seq := h.mustPost(owner, lobby, chat.NewID(), "before")
	before, ok := h.postmaster()
	if !ok {
		t.Fatal("no PostgreSQL")
	}
	h.kill(h.run)
	if pid, ok := h.postmaster(); !ok || pid != before {
		t.Fatalf("PostgreSQL is %d (runs: %t) and was %d", pid, ok, before)
	}
	began := time.Now()
	h.start()
	t.Logf("taken over in %s", time.Since(began).Round(time.Millisecond))
	if pid, ok := h.postmaster(); !ok || pid != before {
		t.Errorf("PostgreSQL is %d (runs: %t) and was %d: it was not taken over", pid, ok, before)
	}
	if v := h.everything(owner, lobby); v.seq != seq {
		t.Errorf("the log ends at %d, not at %d", v.seq, seq)
	}
	h.end(h.run, syscall.SIGINT)
	h.empty()
	h.shutDown()
}

// While PostgreSQL was down somebody else has taken its port: it comes back on another, and howdah finds it there.
func TestPostgreSQLComesBackOnAnotherPort(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	owner := h.settle(h.start(), "anna")[0]
	lobby := h.lobby(owner)
	page := h.open(owner, lobby)
	port := h.cluster().Status().Port
	pid, ok := h.postmaster()
	if !ok {
		t.Fatal("no PostgreSQL")
	}
	if err := sendTo(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	var thief net.Listener
	await(t, patience, "its port to be free", func() (won bool) {
		l, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp4", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		thief = l
		return err == nil
	})
	defer thief.Close()
	await(t, patience, "PostgreSQL to run again", func() bool {
		s := h.cluster().Status()
		return s.State == cluster.Running && s.PID != pid
	})
	if now := h.cluster().Status().Port; now == port {
		t.Fatalf("PostgreSQL has port %d again: nothing was tested", now)
	}
	seq := h.mustPost(owner, lobby, chat.NewID(), "on the other port")
	page.until("the post", func(f frame) bool { return f.Is == "event" && f.event.Seq == seq })
	h.end(h.run, syscall.SIGINT)
	h.empty()
}
