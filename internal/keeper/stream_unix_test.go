//go:build unix

package keeper

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"filippo.io/age"
	"github.com/jackc/pgx/v5"

	"howdah/internal/cluster"
	"howdah/internal/fault"
	"howdah/internal/repo"
	"howdah/internal/wal"
	"howdah/internal/wal/waltest"
)

// streaming is a process that streams into the repo of a house, for killing.
func (a *archived) streaming(h *house, recipient, state string) *exec.Cmd {
	a.t.Helper()
	return child(a.t, map[string]string{"Stream": state, "Repo": a.place.Address, "AccessKey": a.place.AccessKey, "SecretKey": a.place.SecretKey,
		"DSN": h.dsn(cluster.Replicator), "Recipient": recipient})
}

func kill(t testing.TB, cmd *exec.Cmd) {
	t.Helper()
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
}

// confirmed is what the server was told to be safe; 0 before that.
func (h *house) confirmed(slot string) wal.LSN {
	h.t.Helper()
	var at *string
	err := h.conn.QueryRow(h.t.Context(), `SELECT restart_lsn::text FROM pg_replication_slots WHERE slot_name = $1`, slot).Scan(&at)
	if errors.Is(err, pgx.ErrNoRows) || err == nil && at == nil {
		return 0
	}
	if err != nil {
		h.t.Fatal(err)
	}
	lsn, err := wal.ParseLSN(*at)
	if err != nil {
		h.t.Fatal(err)
	}
	return lsn
}

// awaitStreamed waits until all that has committed by now is safe.
func (h *house) awaitStreamed(slot string) wal.LSN {
	h.t.Helper()
	now, err := wal.ParseLSN(h.ask(`SELECT pg_current_wal_flush_lsn()::text`))
	if err != nil {
		h.t.Fatal(err)
	}
	waltest.Await(h.t, "the WAL to be streamed", func() bool { return h.confirmed(slot) >= now })
	return now
}

// truePieces compares all that was streamed with what the server has.
func (a *archived) truePieces(h *house) {
	a.t.Helper()
	all, err := pieces(a.t.Context(), a.r, "main", "")
	if err != nil {
		a.t.Fatal(err)
	}
	for name, some := range all {
		for _, p := range some {
			content, err := a.r.Get(a.t.Context(), p.object("main"), nil)
			if errors.Is(err, fs.ErrNotExist) {
				continue // gathered, or archived
			}
			if err != nil {
				a.t.Fatal(err)
			}
			have, err := os.ReadFile(filepath.Join(h.DataDir(), "pg_wal", name.String()))
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err != nil {
				a.t.Fatal(err)
			}
			if !bytes.Equal(content, have[p.start:p.end]) {
				a.t.Errorf("%s is not what the server has there", p.stored.Name)
			}
		}
	}
}

// crash ends a house as a lost machine does, and takes its data directory away. Its WAL is kept elsewhere where that is said.
func crash(t testing.TB, h *house, kept string) {
	t.Helper()
	pid, running := h.Running()
	if !running {
		t.Fatal("it does not run")
	}
	children, err := exec.Command("ps", "-o", "pid=", "--ppid", strconv.Itoa(pid)).Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range append([]string{strconv.Itoa(pid)}, strings.Fields(string(children))...) {
		if n, err := strconv.Atoi(text); err == nil {
			_ = syscall.Kill(n, syscall.SIGKILL)
		}
	}
	waltest.Await(t, "the server to be dead", func() bool { _, running := h.Running(); return !running })
	if kept != "" {
		if err := os.Rename(filepath.Join(h.DataDir(), "pg_wal"), kept); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.RemoveAll(h.DataDir()); err != nil {
		t.Fatal(err)
	}
}

// rows counts the rows of each writer that committed up to a position.
type row struct {
	n  int
	at wal.LSN // behind its commit
}

// writers insert one row per transaction until they are stopped or the server dies, and remember which were acknowledged and where they lie.
func (h *house) writers() (stop func() [2][]row) {
	h.t.Helper()
	ctx, cancel := context.WithCancel(h.t.Context())
	var done sync.WaitGroup
	var rows [2][]row
	for i := range rows {
		conn, err := pgx.Connect(ctx, h.dsn(cluster.Superuser))
		if err != nil {
			h.t.Fatal(err)
		}
		done.Go(func() {
			defer conn.Close(context.Background())
			for n := 1; ctx.Err() == nil; n++ {
				if _, err := conn.Exec(context.Background(), `INSERT INTO ledger VALUES ($1, $2, repeat(md5(random()::text), 20))`, i, n); err != nil {
					return
				}
				var at string
				if err := conn.QueryRow(context.Background(), `SELECT pg_current_wal_insert_lsn()::text`).Scan(&at); err != nil {
					return
				}
				lsn, err := wal.ParseLSN(at)
				if err != nil {
					return
				}
				rows[i] = append(rows[i], row{n, lsn})
			}
		})
	}
	return func() [2][]row { cancel(); done.Wait(); return rows }
}

// holds looks whether a restored house has all that was confirmed, and nothing with a hole in it.
func holds(h *house, rows [2][]row, confirmed wal.LSN) {
	h.t.Helper()
	for i, some := range rows {
		have, _ := strconv.Atoi(h.ask(fmt.Sprintf(`SELECT count(*)::text FROM ledger WHERE writer = %d`, i)))
		if highest := h.ask(fmt.Sprintf(`SELECT coalesce(max(n), 0)::text FROM ledger WHERE writer = %d`, i)); highest != strconv.Itoa(have) {
			h.t.Errorf("writer %d has %d rows up to number %s", i, have, highest)
		}
		due := 0
		for _, r := range some {
			if r.at <= confirmed {
				due = r.n
			}
		}
		h.t.Logf("writer %d: %d rows were acknowledged, %d of them confirmed as streamed, %d are there", i, len(some), due, have)
		if have < due || have == 0 {
			h.t.Errorf("writer %d: %d rows had been confirmed, and %d are there", i, due, have)
		}
	}
}

// A machine is lost with its data and its pg_wal, while the current segment is far from full. What streaming had confirmed is there, whoever was killed
// when; the restored cluster goes on along a new timeline, and is lost and restored again. A slot that was lost in between is made anew.
func TestALostDiskCostsNothingThatWasStreamed(t *testing.T) {
	t.Parallel()
	key, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	identity := place(t)
	if err := os.WriteFile(identity, []byte(key.String()+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	giveTo(t, nil, identity)
	recipient := key.Recipient().String()
	a := newArchivedOf(t, 16, []string{recipient}, identity)
	a.backup()
	a.exec(`CREATE TABLE ledger (writer int, n int, filling text, PRIMARY KEY (writer, n))`)
	slot, state := SlotName("main", a.place.Address), filepath.Join(t.TempDir(), "state.json")

	// A slot that falls behind.
	p := a.streaming(a.house, recipient, state)
	a.awaitStreamed(slot)
	kill(t, p)
	a.exec(`ALTER SYSTEM SET max_slot_wal_keep_size = '16MB'`, `ALTER SYSTEM SET max_wal_size = '32MB'`, `ALTER SYSTEM SET min_wal_size = '32MB'`, `SELECT pg_reload_conf()`)
	for range 5 {
		a.exec(`INSERT INTO ledger VALUES (7, 0, 'x')`, `DELETE FROM ledger`, `SELECT pg_switch_wal()`)
	}
	a.await(a.house)
	waltest.Await(t, "the slot to be lost", func() bool {
		a.exec(`CHECKPOINT`)
		return a.ask(`SELECT wal_status FROM pg_replication_slots`) == "lost"
	})
	p = a.streaming(a.house, recipient, state)
	a.awaitStreamed(slot)
	if states := readState(t, state); states.Lost.IsZero() || states.Error != "" {
		t.Errorf("%+v", states)
	}

	// Killed again and again while much is written.
	stop := a.writers()
	for range 3 {
		before := a.confirmed(slot)
		waltest.Await(t, "something to be streamed", func() bool { return a.confirmed(slot) > before+wal.LSN(rand.IntN(300_000)) })
		kill(t, p)
		a.own()
		read := *a
		read.r = a.reader()
		read.truePieces(a.house)
		p = a.streaming(a.house, recipient, state)
	}
	before := a.confirmed(slot)
	waltest.Await(t, "something more to be streamed", func() bool { return a.confirmed(slot) > before+200_000 })
	confirmed := a.confirmed(slot)
	kept := filepath.Join(a.Dir(), "pg_wal that was saved")
	crash(t, a.house, kept)
	kill(t, p)
	rows := stop()
	a.own()

	a.r = a.reader()
	plan := a.plan(Target{})
	all, err := pieces(t.Context(), a.r, "main", "")
	if err != nil {
		t.Fatal(err)
	}
	for name, some := range all {
		if t.Logf("%s: %d pieces", name, len(some)); len(some) > 100 {
			t.Errorf("%s lies there in %d pieces", name, len(some))
		}
	}
	// What was confirmed may end in the midst of a record, at the end of a page; the plan ends with a whole one, and holds (below) looks for the rows.
	streamedTo := wal.LSN(0)
	for name, some := range all {
		if number, err := name.Number(wal.DefaultSegmentSize); err == nil {
			streamedTo = max(streamedTo, wal.DefaultSegmentSize.Start(number)+wal.LSN(chainEnd(chain(some, wal.DefaultSegmentSize))))
		}
	}
	if streamedTo < confirmed || plan.Until > streamedTo {
		t.Errorf("the pieces end at %s and the plan at %s, and %s was confirmed", streamedTo, plan.Until, confirmed)
	}
	// The disk of the lost server, if there is one, has as much and more.
	if p, err := PlanRestore(t.Context(), a.r, "main", Target{}, kept); err != nil || p.Until < plan.Until || len(p.Streamed) > 0 || len(p.Files) == 0 || len(plan.Streamed) != 1 {
		t.Errorf("%+v %+v %v", p, plan, err)
	}
	other := filepath.Join(kept, plan.Last)
	content, err := os.ReadFile(other)
	if err != nil {
		t.Fatal(err)
	}
	content[8192+100] ^= 1
	if err := os.WriteFile(other, content, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := PlanRestore(t.Context(), a.r, "main", Target{}, kept); !fault.HasKey(err, "keeper.stream_differs") {
		t.Error(err)
	}
	archive, err := OpenArchive(t.Context(), a.r, "main")
	if err != nil {
		t.Fatal(err)
	}
	if ranges, holes, err := archive.Ranges(t.Context()); err != nil || len(holes) > 0 || len(ranges) != 1 || ranges[0].ToLSN != plan.Until {
		t.Errorf("%+v %+v %v", ranges, holes, err)
	}
	if v, err := Verify(t.Context(), a.r, "main", VerifyOptions{}); err != nil || !v.Sound() || v.Foreign > 0 || len(v.Reachable) != 1 || v.Reachable[0].To.Before(plan.Reached) {
		t.Errorf("%+v %v", v, err)
	}
	options := a.options(place(t))
	options.Archiving = true
	done, err := Recover(t.Context(), a.r, plan, options)
	if err != nil {
		t.Fatalf("%v\n%s", err, startLog(done, err))
	}
	a.own()
	second := a.run(done, "archive_mode", "on", "archive_command", ArchiveCommand(a.program, a.settings))
	holds(second, rows, confirmed)

	// On along the next timeline.
	second.exec(`TRUNCATE ledger`)
	p = a.streaming(second, recipient, state)
	second.awaitStreamed(slot)
	stop = second.writers()
	before = second.confirmed(slot)
	waltest.Await(t, "something to be streamed", func() bool { return second.confirmed(slot) > before+100_000 })
	confirmed = second.confirmed(slot)
	crash(t, second, "")
	kill(t, p)
	rows = stop()
	a.own()
	plan = a.plan(Target{})
	third, _ := a.restore(plan)
	if plan.Timeline != 2 {
		t.Errorf("%+v", plan)
	}
	holds(third, rows, confirmed)

	// A byte that is flipped in a piece is found, and what is before it stays.
	flipped := false
	all, err = pieces(t.Context(), a.r, "main", "")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range sortedSegments(all) {
		if c := chain(all[name], wal.DefaultSegmentSize); len(c) > 1 && name.Timeline == 2 {
			a.flip(c[len(c)-1].stored.Name)
			v, err := Verify(t.Context(), a.r, "main", VerifyOptions{})
			if err != nil || len(v.Findings) != 1 || v.Findings[0].Object != c[len(c)-1].stored.Name || v.Findings[0].Costs == nil {
				t.Errorf("%+v %v", v, err)
			}
			flipped = true
		}
	}
	if !flipped {
		t.Error("there is no segment in several pieces")
	}
}

// reader is the repo with the key to it.
// flip changes a byte near the end of an object.
func (a *archived) flip(object string) {
	a.t.Helper()
	in, err := a.r.Open(a.t.Context(), object, 0, -1)
	if err != nil {
		a.t.Fatal(err)
	}
	raw, err := io.ReadAll(in)
	if err = errors.Join(err, in.Close(), a.r.Remove(a.t.Context(), object)); err != nil {
		a.t.Fatal(err)
	}
	raw[len(raw)-20] ^= 1
	out, err := a.r.Create(a.t.Context(), object)
	if err == nil {
		_, err = out.Write(raw)
	}
	if err == nil {
		err = out.Commit(a.t.Context())
	}
	if err != nil {
		a.t.Fatal(err)
	}
}

func (a *archived) reader() *repo.Repo {
	a.t.Helper()
	r, err := repo.Open(a.t.Context(), a.place.Address, repo.Options{Keys: a.keys, AccessKey: a.place.AccessKey, SecretKey: a.place.SecretKey})
	if err != nil {
		a.t.Fatal(err)
	}
	return r
}

func readState(t testing.TB, path string) (s StreamState) {
	t.Helper()
	s, err := readStreamState(path)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// follow runs a stream beside the test; the function tells what has happened since it was asked last.
func follow(t testing.TB, s *Stream) (events func() []StreamEvent, stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var mu sync.Mutex
	var all []StreamEvent
	s.Report = func(e StreamEvent) {
		mu.Lock()
		defer mu.Unlock()
		all = append(all, e)
	}
	var done sync.WaitGroup
	done.Go(func() { s.Run(ctx) })
	stop = func() { cancel(); done.Wait() }
	t.Cleanup(stop)
	return func() []StreamEvent {
		mu.Lock()
		defer mu.Unlock()
		out := all
		all = nil
		return out
	}, stop
}

// failsWith waits until a stream says that it cannot go on, and why.
func failsWith(t testing.TB, s *Stream, key string) {
	t.Helper()
	events, stop := follow(t, s)
	defer stop()
	waltest.Await(t, key, func() bool {
		for _, e := range events() {
			if e.Err != nil && !fault.HasKey(e.Err, "keeper.slot_busy") {
				if !fault.HasKey(e.Err, key) {
					t.Errorf("%v, and not %s", e.Err, key)
				}
				return true
			}
		}
		return false
	})
}

// Several repos, S3 among them, each get all, and one that is away holds up no other. What is archived needs no pieces, and what is not is gathered. A server
// that is not what the pieces are of is refused.
func TestEveryRepoIsStreamedIntoAndNoneIsStitchedToAnotherLife(t *testing.T) {
	t.Parallel()
	a := newArchivedOf(t, 16, nil, "")
	bucket := inBucket(t)
	s3 := bucket.open(t, nil)
	a.await(a.house) // the archive is bound to the cluster
	dsn := a.dsn(cluster.Replicator)
	near, far := newStream(t, a.place, dsn, ""), newStream(t, bucket, dsn, "")
	far.Repo.Open = func(context.Context) (*repo.Repo, error) { return s3, nil }
	_, stopNear := follow(t, near)
	_, stopFar := follow(t, far)
	failsWith(t, newStream(t, Place{Address: filepath.Join(t.TempDir(), "away")}, dsn, ""), "repo.absent")

	a.exec(`CREATE TABLE ledger (writer int, n int, filling text)`)
	fill := func() {
		a.exec(`INSERT INTO ledger SELECT 1, n, md5(n::text) FROM generate_series(1, 5000) n`)
		for _, s := range []*Stream{near, far} {
			a.awaitStreamed(s.Slot)
		}
	}
	fill()
	other := *a
	other.r = s3
	for range 3 {
		first := a.ask(`SELECT pg_walfile_name(pg_current_wal_lsn())`)
		fill()
		a.truePieces(a.house)
		other.truePieces(a.house)
		a.await(a.house)
		waltest.Await(t, "the pieces of what is archived to go", func() bool { return len(a.piecesOf(first)) == 0 })
		waltest.Await(t, "the rest to be streamed", func() bool {
			c := chain(other.piecesOf(first), wal.DefaultSegmentSize)
			return chainEnd(c) == uint32(wal.DefaultSegmentSize)
		})
	}
	fill()
	all, err := pieces(t.Context(), s3, "main", "")
	if err != nil {
		t.Fatal(err)
	}
	names := sortedSegments(all)
	waltest.Await(t, "what nobody archives to be gathered", func() bool { return len(other.piecesOf(names[0].String())) == 1 })
	other.truePieces(a.house)
	fill() // the segment may be another one by now
	stopNear()
	stopFar()

	// Another life.
	now := a.ask(`SELECT pg_walfile_name(pg_current_wal_lsn())`)
	have := chain(a.piecesOf(now), wal.DefaultSegmentSize)
	last := have[len(have)-1]
	content, err := a.r.Get(t.Context(), last.object("main"), nil)
	if err != nil {
		t.Fatal(err)
	}
	content[len(content)/2] ^= 1
	put := func(p piece, content []byte) {
		t.Helper()
		if err := a.r.Remove(t.Context(), last.stored.Name); err != nil {
			t.Fatal(err)
		}
		if _, err := a.r.Put(t.Context(), p.object("main"), content); err != nil {
			t.Fatal(err)
		}
	}
	put(last, content)
	failsWith(t, near, "keeper.stream_differs")
	ahead := last
	ahead.end = uint32(wal.DefaultSegmentSize)
	put(ahead, make([]byte, ahead.size()))
	failsWith(t, near, "keeper.stream_ahead")
	if have := chain(a.piecesOf(now), wal.DefaultSegmentSize); chainEnd(have) != ahead.end {
		t.Error("what was there did not stay")
	}
}

func (a *archived) piecesOf(segment string) []piece {
	a.t.Helper()
	all, err := pieces(a.t.Context(), a.r, "main", segment+"/")
	if err != nil {
		a.t.Fatal(err)
	}
	name, err := wal.ParseName(segment)
	if err != nil {
		a.t.Fatal(err)
	}
	return all[name]
}
