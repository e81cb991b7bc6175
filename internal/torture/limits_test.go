//go:build linux

package torture

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sys/unix"

	"howdah/internal/chat"
	"howdah/internal/cluster"
)

// smallDisk mounts a file system of so many MB that the test alone fills.
func smallDisk(t *testing.T, megabytes int) string {
	t.Helper()
	needRoot(t, "it mounts a small disk (tmpfs) to fill it")
	dir, err := os.MkdirTemp(work, "disk-")
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%dm,mode=755", megabytes)); err != nil {
		t.Fatalf("this test has to mount a tmpfs, which takes the right CAP_SYS_ADMIN: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// fill takes all the room that there is, and goes on taking what is set free until drop is called.
func fill(t *testing.T, dir string) (drop func()) {
	t.Helper()
	path := filepath.Join(dir, "ballast")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	block := make([]byte, 64<<10)
	stuff := func() {
		for size := len(block); size > 0; {
			if _, err := f.Write(block[:size]); errors.Is(err, syscall.ENOSPC) {
				size /= 2
			} else if err != nil {
				t.Error(err)
				return
			}
		}
	}
	stuff()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				stuff()
			}
		}
	}()
	return func() {
		cancel()
		<-done
		f.Close()
		if err := os.Remove(path); err != nil {
			t.Error(err)
		}
	}
}

// A full disk is told to the people and, once, to the log; what cannot be stored is refused; nothing that was
// acknowledged is lost; and when there is room again all goes on by itself.
func TestFullDiskIsToldAndLosesNothing(t *testing.T) {
	t.Parallel()
	disk := smallDisk(t, 220)
	h := houseIn(t, disk)
	h.raced = true
	h.said = filepath.Join(work, "said-"+filepath.Base(disk)+".log") // what is said must not need the disk
	owner := h.settle(h.start(), "anna")[0]
	lobby := h.lobby(owner)
	page := h.open(owner, lobby)
	body := strings.Repeat("elephant ", 5000)
	var first int64 = h.mustPost(owner, lobby, chat.NewID(), body)
	errorsBefore := h.logged(`"ERROR"`)

	drop := fill(t, disk)
	acked := map[string]int64{}
	var refused []string // client ids, to be sent again
	var why error
	await(t, patience, "the disk to be full for the database", func() bool {
		id := chat.NewID()
		seq, err := h.post(owner, lobby, id, body)
		if err == nil {
			acked[id] = seq
			return false
		}
		why = err
		refused = append(refused, id)
		return len(refused) >= 5
	})
	var r *refusal
	if !errors.As(why, &r) || r.Code != "unavailable" {
		t.Errorf("the post was refused with %v", why)
	}
	t.Logf("acknowledged %d, then refused: %v", len(acked), why)
	waiting := page.until("the page to be told", func(f frame) bool { return f.Is == "waiting" })
	t.Logf("the page says %s", waiting.Message)
	await(t, patience, "/healthz to name the disk", func() bool { return strings.Contains(h.health(), "disk_full") })
	for range 50 {
		id := chat.NewID()
		if seq, err := h.post(owner, lobby, id, body); err == nil {
			acked[id] = seq
		} else if err := unlessPassing(err); err != nil {
			t.Fatal(err)
		} else {
			refused = append(refused, id)
		}
	}
	said := h.logged(`"ERROR"`) - errorsBefore
	t.Logf("%d errors logged for %d refusals", said, len(refused))
	if said == 0 || said > 12 {
		t.Errorf("%d errors were logged for %d refused posts", said, len(refused))
	}
	if h.logged("ERROR", "disk") == 0 {
		t.Error("the log does not say that the disk is full")
	}

	drop()
	for _, id := range refused {
		acked[id] = h.mustPost(owner, lobby, id, body)
	}
	await(t, patience, "/healthz to be well again", func() bool { return h.health() == "" })
	v := h.everything(owner, lobby)
	if v.seq != first+int64(len(acked)) {
		t.Errorf("the log ends at %d; it began at %d, and %d posts were acknowledged", v.seq, first, len(acked))
	}
	for id, seq := range acked {
		again, err := h.post(owner, lobby, id, body)
		if err != nil || again != seq || v.posts[seq] == 0 {
			t.Fatalf("the post acknowledged as seq %d is answered with %d, %v", seq, again, err)
		}
	}
	h.end(h.run, syscall.SIGINT)
	h.empty()
	h.shutDown()
	h.noFaults()
}

// On a full disk Ctrl-C still ends everything, and after that `up` says what is wrong and works when it is mended.
func TestFullDiskAtStartAndStop(t *testing.T) {
	t.Parallel()
	disk := smallDisk(t, 220)
	h := houseIn(t, disk)
	h.said = filepath.Join(work, "said-"+filepath.Base(disk)+".log")
	owner := h.settle(h.start(), "anna")[0]
	lobby := h.lobby(owner)
	seq := h.mustPost(owner, lobby, chat.NewID(), "before")
	drop := fill(t, disk)
	if err := sendTo(h.run.pid(), syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	h.wait(h.run)
	t.Logf("ended with %v", h.run.err)
	h.empty()
	p := h.up()
	// It may wait with its waiting page or give up; it must say why.
	await(t, patience, "up to say that the disk is full", func() bool {
		return strings.Contains(h.tail(30), "disk") && (p.ended() || strings.Contains(h.health(), "disk_full")) || p.ended()
	})
	if !strings.Contains(h.tail(30), "is full") && !strings.Contains(h.tail(30), "disk_full") {
		t.Errorf("it says\n%s", h.tail(30))
	}
	drop()
	if p.ended() {
		h.empty()
		p = h.up()
	}
	h.ready(p)
	if v := h.everything(owner, lobby); v.seq != seq {
		t.Errorf("the log ends at %d, not at %d", v.seq, seq)
	}
	h.end(h.run, syscall.SIGINT)
	h.empty()
}

// With too few files to open, howdah says so once, goes on for those who are in, and takes others when some have left.
func TestTooManyOpenFilesIsSurvived(t *testing.T) {
	t.Parallel()
	h := newRacedHouse(t)
	h.wrap = []string{"sh", "-c", `ulimit -n 160; exec "$@"`, "sh"}
	owner := h.settle(h.start(), "anna")[0]
	lobby := h.lobby(owner)
	page := h.open(owner, lobby)
	page.say(lobby, chat.NewID(), "before")
	var crowd []net.Conn
	t.Cleanup(func() {
		for _, c := range crowd {
			c.Close()
		}
	})
	for range 300 { // the kernel takes them all; howdah cannot
		c, err := net.DialTimeout("tcp", h.addr, 5*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		crowd = append(crowd, c)
	}
	await(t, patience, "howdah to say that it has too many files open", func() bool { return h.logged("too_many_files") > 0 })
	for i := range 20 {
		id := chat.NewID()
		var f frame
		if !within(patience, func() bool { f = page.say(lobby, id, fmt.Sprint("with ", i)); return f.Is == "ok" }) {
			t.Fatalf("who is in cannot talk: %+v", f)
		}
	}
	if n := h.logged("too_many_files"); n > 5 {
		t.Errorf("it was said %d times", n)
	}
	for _, c := range crowd {
		c.Close()
	}
	crowd = nil
	await(t, patience, "new ones to be let in", func() bool { return h.health() == "" })
	seq := h.mustPost(owner, lobby, chat.NewID(), "after")
	page.until("the post", func(f frame) bool { return f.Is == "event" && f.event.Seq == seq })
	h.end(h.run, syscall.SIGINT)
	h.empty()
	h.noFaults()
}

// When PostgreSQL takes no more connections, howdah says so, waits, and goes on when there are some again.
func TestTooManyConnectionsIsSurvived(t *testing.T) {
	t.Parallel()
	h := newRacedHouse(t)
	owner := h.settle(h.start(), "anna")[0]
	lobby := h.lobby(owner)
	page := h.open(owner, lobby)
	before := page.say(lobby, chat.NewID(), "before").Seq
	super := h.sql(cluster.Superuser)
	dsn, err := h.cluster().DSN(cluster.Superuser, cluster.Database)
	if err != nil {
		t.Fatal(err)
	}
	var held []*pgx.Conn
	release := func() {
		for _, c := range held {
			c.Close(context.Background())
		}
		held = nil
	}
	t.Cleanup(release)
	take := func() {
		for {
			c, err := pgx.Connect(t.Context(), dsn)
			if err != nil {
				return
			}
			held = append(held, c)
		}
	}
	take()
	await(t, patience, "howdah to have lost its connections", func() bool {
		if _, err := super.Exec(t.Context(), `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'howdah_app'`); err != nil {
			t.Fatal(err)
		}
		take()
		return strings.Contains(h.health(), "too_many_connections")
	})
	id := chat.NewID()
	if _, err := h.post(owner, lobby, id, "without"); err == nil || unlessPassing(err) != nil {
		t.Errorf("a post was answered with %v", err)
	}
	page.until("the page to be told", func(f frame) bool { return f.Is == "waiting" })
	if n := h.logged("ERROR", "too_many_connections"); n < 1 || n > 3 {
		t.Errorf("it was logged %d times", n)
	}
	release()
	page.until("the page to be told", func(f frame) bool { return f.Is == "back" })
	if seq := h.mustPost(owner, lobby, id, "without"); seq != before+1 {
		t.Errorf("the post is seq %d after %d", seq, before)
	}
	if why := h.health(); why != "" {
		t.Errorf("healthz: %s", why)
	}
	h.end(h.run, syscall.SIGINT)
	h.empty()
	h.noFaults()
}
