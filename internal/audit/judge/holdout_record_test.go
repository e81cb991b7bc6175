//go:build linux

package judge_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/klauspost/compress/zstd"

	"howdah/internal/audit"
	"howdah/internal/audit/audittest"
	"howdah/internal/audit/catalog"
	"howdah/internal/audit/judge"
	"howdah/internal/cluster"
)

var recordInto = flag.String("judge.record", "", "plays the hold-out on a real PostgreSQL and writes what it logged into this folder (as root; some minutes)")

var recordSeed = flag.Uint64("judge.seed", 0, "other days of the same shop, without the scenarios one by one: how the watch does on days that nobody has seen")

const shopStart = "2027-03-04"

// recording is a cluster on which days are played, and what came of it.
type recording struct {
	t      *testing.T
	dir    string
	in     cluster.Installation
	server audittest.Server
	steps  []moment
	visits []*visit
	looks  []virtualLook
	seen   []uint32 // transactions of the log, for the looks
	before int      // length of the log before the first visit
}

// moment is when a step was really made.
type moment struct{ real, virtual time.Time }

type virtualLook struct {
	at        time.Time
	snapshots []*judge.Snapshot
}

// TestRecordTheHoldOut makes testdata/holdout anew: `make holdout`.
func TestRecordTheHoldOut(t *testing.T) {
	if *recordInto == "" {
		t.Skip("only for making testdata/holdout anew: -judge.record FOLDER")
	}
	scenarios := holdoutScenarios(t)
	in, err := cluster.Find(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	base, err := os.MkdirTemp("/tmp", "howdah-holdout-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(base) })
	if err := os.Chmod(base, 0o777); err != nil {
		t.Fatal(err)
	}
	r := &recording{t: t, dir: filepath.Join(base, "main"), in: in, server: audittest.Server{Socket: base, Password: "secret"}}
	r.as("initdb", "-D", r.dir, "-U", "postgres", "--auth-local=trust", "--auth-host=scram-sha-256", "-N", "-E", "UTF8", "--locale=C.UTF-8")
	r.must(os.WriteFile(filepath.Join(r.dir, "pg_hba.conf"), []byte("local all all trust\nlocal replication all trust\nhost all all 127.0.0.0/8 scram-sha-256\nhost replication all 127.0.0.0/8 scram-sha-256\n"), 0o600))
	conf, err := os.OpenFile(filepath.Join(r.dir, "postgresql.conf"), os.O_APPEND|os.O_WRONLY, 0)
	r.must(err)
	_, err = fmt.Fprintf(conf, `
listen_addresses = '127.0.0.1'
unix_socket_directories = '%s'
fsync = off
wal_level = logical
max_wal_senders = 20
max_replication_slots = 20
max_connections = 300
track_commit_timestamp = on
shared_preload_libraries = 'pgaudit'
pgaudit.log = 'role, ddl, misc_set'
pgaudit.log_rows = on
log_connections = on
log_disconnections = on
log_timezone = 'UTC'
log_destination = 'jsonlog'
logging_collector = on
log_directory = 'log'
log_filename = 'one.log'
log_rotation_age = 0
log_rotation_size = 0
autovacuum = off
`, base)
	r.must(err)
	r.must(conf.Close())
	r.start()
	for _, db := range []string{"postgres", "booking", "hr", "billing", "warehouse"} {
		conn := r.owner(db)
		for _, sql := range shopSetup[db] {
			if _, err := conn.Exec(t.Context(), sql); err != nil {
				t.Fatalf("%s: %v", sql, err)
			}
		}
		r.must(conn.Close(t.Context()))
	}

	s := &shop{Rand: rand.New(rand.NewPCG(7+*recordSeed, 20270304))}
	start, err := time.Parse("2006-01-02", shopStart)
	r.must(err)
	for n := 1; n <= 7; n++ {
		day := start.AddDate(0, 0, n-1)
		s.day(day, n, day.Weekday() != time.Saturday && day.Weekday() != time.Sunday)
	}
	r.play(s)
	r.looks = append(r.looks, virtualLook{s.steps[len(s.steps)-1].At, r.look("booking")})
	r.stop()

	// each scenario on a copy
	var played []playedScenario
	eighth := start.AddDate(0, 0, 7)
	for _, sc := range scenarios {
		if *recordSeed != 0 {
			break
		}
		for part, acts := range map[string][]audittest.Act{"attack": sc.Attack, "twin": sc.Twin} {
			c := &recording{t: t, dir: filepath.Join(base, "copy"), in: in, server: r.server, seen: slices.Clone(r.seen), steps: slices.Clone(r.steps)}
			if out, err := exec.Command("cp", "-a", r.dir, c.dir).CombinedOutput(); err != nil {
				t.Fatalf("%s: %v", out, err)
			}
			if log, err := os.Stat(filepath.Join(c.dir, "log", "one.json")); err == nil {
				c.before = int(log.Size())
			}
			c.start()
			days := &shop{Rand: rand.New(rand.NewPCG(7, 9))}
			days.acts(eighth, acts)
			c.play(days)
			last := days.steps[len(days.steps)-1].At.Add(15 * time.Second)
			c.looks = []virtualLook{{last, c.look("booking")}}
			p := playedScenario{ID: sc.ID, Part: part}
			for _, line := range c.log() {
				p.Lines = append(p.Lines, string(line.raw))
			}
			for _, l := range c.looks {
				p.Snapshots = append(p.Snapshots, c.virtual(l)...)
			}
			played = append(played, p)
			c.as("pg_ctl", "-D", c.dir, "-w", "-m", "immediate", "stop")
			r.must(os.RemoveAll(c.dir))
		}
	}
	slices.SortFunc(played, func(a, b playedScenario) int { return strings.Compare(a.ID+a.Part, b.ID+b.Part) })

	r.start()
	days := &shop{Rand: rand.New(rand.NewPCG(8+*recordSeed, 20270311))}
	for n := 8; n <= 17; n++ {
		day := start.AddDate(0, 0, n-1)
		days.day(day, n, day.Weekday() != time.Saturday && day.Weekday() != time.Sunday && n != 12)
		days.odd(day, n)
		for part, ids := range map[string][]string{"attack": shopAttacks[n], "twin": shopTwins[n]} {
			for _, id := range ids {
				i := slices.IndexFunc(scenarios, func(sc audittest.Scenario) bool { return sc.ID == id })
				acts := scenarios[i].Attack
				if part == "twin" {
					acts = scenarios[i].Twin
				}
				for _, v := range days.acts(day, acts) {
					v.Label = fmt.Sprintf("%s %s", part, id)
				}
			}
		}
	}
	r.play(days)
	r.looks = append(r.looks, virtualLook{days.steps[len(days.steps)-1].At, r.look("booking")})
	all := r.log()
	r.stop()

	week, _ := slices.BinarySearchFunc(all, eighth, func(l logged, at time.Time) int { return l.at.Compare(at) })
	labels := map[string]*holdoutLabel{}
	var order []string
	for _, line := range all {
		if v := line.who; v != nil && v.Label != "" {
			l := labels[v.Label]
			if l == nil {
				l = &holdoutLabel{Label: v.Label}
				labels[v.Label] = l
				order = append(order, v.Label)
			}
			if !slices.Contains(l.Sessions, line.session) {
				l.Sessions = append(l.Sessions, line.session)
			}
		}
	}
	r.write("learn.json.zst", func(w *bufio.Writer) {
		for _, line := range all[:week] {
			w.Write(line.raw)
			w.WriteByte('\n')
		}
		r.writeLooks(w, r.looks[:1])
	})
	r.write("days.json.zst", func(w *bufio.Writer) {
		looks := r.looks[1:]
		for _, line := range all[week:] {
			for len(looks) > 0 && looks[0].at.Before(line.at) {
				r.writeLooks(w, looks[:1])
				looks = looks[1:]
			}
			w.Write(line.raw)
			w.WriteByte('\n')
		}
		r.writeLooks(w, looks)
	})
	r.write("scenarios.json.zst", func(w *bufio.Writer) {
		for _, p := range played {
			raw, err := json.Marshal(p)
			r.must(err)
			w.Write(raw)
			w.WriteByte('\n')
		}
	})
	var out bytes.Buffer
	for _, name := range order {
		raw, err := json.Marshal(labels[name])
		r.must(err)
		out.Write(append(raw, '\n'))
	}
	r.must(os.WriteFile(filepath.Join(*recordInto, "labels.jsonl"), out.Bytes(), 0o644))
}

// acts plans the sessions of a scenario at their hours.
func (s *shop) acts(day time.Time, acts []audittest.Act) []*visit {
	first := len(s.visits)
	taken := map[string]int{}
	for _, a := range acts {
		h, err := time.Parse("15:04", a.Hour)
		if err != nil {
			panic(err)
		}
		if a.DB == "" {
			a.DB = "booking"
		}
		if a.Replication {
			a.DB = "postgres"
		}
		s.visit(day.Add(time.Duration(h.Hour())*time.Hour+time.Duration(h.Minute())*time.Minute+time.Duration(taken[a.Hour]*4)*time.Second), 2*time.Second, a)
		taken[a.Hour]++
	}
	s.sorted()
	return s.visits[first:]
}

func (r *recording) must(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

// as runs one of PostgreSQL's programs as the account postgres.
func (r *recording) as(program string, args ...string) {
	r.t.Helper()
	cmd := exec.Command("runuser", append([]string{"-u", "postgres", "--", r.in.Program(program)}, args...)...)
	cmd.Dir = "/tmp"
	if out, err := cmd.Output(); err != nil {
		r.t.Fatalf("%s: %v: %s", program, err, out)
	}
}

func (r *recording) start() {
	r.t.Cleanup(func() { // what a failure leaves running
		_ = exec.Command("runuser", "-u", "postgres", "--", r.in.Program("pg_ctl"), "-D", r.dir, "-m", "immediate", "stop").Run()
	})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	r.must(err)
	r.server.Port = uint16(l.Addr().(*net.TCPAddr).Port)
	r.must(l.Close())
	r.as("pg_ctl", "-D", r.dir, "-w", "-l", "/dev/null", "-o", fmt.Sprintf("-p %d", r.server.Port), "start")
}

func (r *recording) stop() { r.as("pg_ctl", "-D", r.dir, "-w", "-m", "fast", "stop") }

func (r *recording) owner(db string) *pgx.Conn {
	r.t.Helper()
	conn, err := pgx.Connect(r.t.Context(), fmt.Sprintf("host=%s port=%d user=postgres dbname=%s options='-c pgaudit.log=none -c session_preload_libraries='", r.server.Socket, r.server.Port, db))
	r.must(err)
	return conn
}

// play does what is planned, one step after the other.
func (r *recording) play(s *shop) {
	ctx := r.t.Context()
	r.visits = append(r.visits, s.visits...)
	var behind *visit
	for _, step := range s.sorted() {
		v := step.Who
		began := time.Now()
		r.steps = append(r.steps, moment{began, step.At})
		v.steps, v.began = append(v.steps, step), append(v.began, began)
		switch {
		case v.session == nil && !v.closed:
			session, err := r.server.Open(ctx, v.Act)
			v.session = session
			v.closed = err != nil
			if err != nil && v.Password == "" {
				r.t.Logf("%s %s at %s: %v", v.Label, v.As, step.At, err)
			}
		case v.closed:
		case step.Close:
			r.must(v.session.Close(ctx))
			v.closed = true
			if v.Look {
				behind = v
			}
		default:
			if err := v.session.Do(ctx, step.Do); err != nil {
				r.t.Logf("%s %s %s: %v", step.At.Format("02 15:04"), v.As+" "+v.Label, step.Do, err)
			}
		}
		if behind != nil && behind.Label != "" {
			r.looks = append(r.looks, virtualLook{step.At.Add(15 * time.Second), r.look("booking")})
		}
		behind = nil
	}
}

// look reads the catalogs as the watch does.
func (r *recording) look(db string) []*judge.Snapshot {
	r.t.Helper()
	conn := r.owner(db)
	defer func() { _ = conn.Close(context.Background()) }()
	raw, err := os.ReadFile(filepath.Join(r.dir, "log", "one.json"))
	r.must(err)
	for _, m := range txids.FindAllSubmatch(raw, -1) {
		x, _ := strconv.ParseUint(string(m[1]), 10, 32)
		if !slices.Contains(r.seen, uint32(x)) {
			r.seen = append(r.seen, uint32(x))
		}
	}
	snapshots, err := catalog.Read(r.t.Context(), conn, r.seen[max(len(r.seen)-400, 0):])
	r.must(err)
	return snapshots
}

var txids = regexp.MustCompile(`"txid":([1-9]\d*)`)

// told is when something happened in the days that are played.
func (r *recording) told(real time.Time) time.Time {
	i, _ := slices.BinarySearchFunc(r.steps, real, func(m moment, at time.Time) int {
		if m.real.After(at) {
			return 1
		}
		return -1
	})
	i = max(i-1, 0)
	return r.steps[i].virtual.Add(real.Sub(r.steps[i].real))
}

func (r *recording) virtual(l virtualLook) []*judge.Snapshot {
	for _, s := range l.snapshots {
		s.At = l.at
		for i := range s.Rows {
			if !s.Rows[i].Committed.IsZero() {
				s.Rows[i].Committed = r.told(s.Rows[i].Committed)
			}
		}
		for i := range s.Commits {
			s.Commits[i] = r.told(s.Commits[i])
		}
	}
	return l.snapshots
}

func (r *recording) writeLooks(w *bufio.Writer, looks []virtualLook) {
	for _, l := range looks {
		raw, err := json.Marshal(map[string]any{"snapshots": r.virtual(l)})
		r.must(err)
		w.Write(raw)
		w.WriteByte('\n')
	}
}

func (r *recording) write(name string, fill func(w *bufio.Writer)) {
	var out bytes.Buffer
	z, err := zstd.NewWriter(&out, zstd.WithEncoderLevel(zstd.SpeedBestCompression), zstd.WithWindowSize(8<<20))
	r.must(err)
	w := bufio.NewWriter(z)
	fill(w)
	r.must(w.Flush())
	r.must(z.Close())
	r.must(os.WriteFile(filepath.Join(*recordInto, name), out.Bytes(), 0o644))
}

// logged is a line of the log as it would have been in the days that are played.
type logged struct {
	at      time.Time
	session string
	who     *visit
	raw     []byte
}

var (
	stamp   = regexp.MustCompile(`^\{"timestamp":"([^"]*)"`)
	started = regexp.MustCompile(`"session_start":"([^"]*)"`)
	ident   = regexp.MustCompile(`"session_id":"([^"]*)"`)
	remote  = regexp.MustCompile(`127\.\d+\.\d+\.\d+`)
)

// log gives the lines of all visits so far, in the order of the days that are played.
func (r *recording) log() []logged {
	r.t.Helper()
	var raw []byte
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for { // until the sessions that were closed last have said so
		var err error
		raw, err = os.ReadFile(filepath.Join(r.dir, "log", "one.json"))
		r.must(err)
		raw = raw[r.before:]
		if bytes.Count(raw, []byte(`"disconnection: `)) >= r.closed() {
			break
		}
		select {
		case <-r.t.Context().Done():
			r.t.Fatal("some of the sessions that were closed have not said so in the log")
		case <-tick.C:
		}
	}
	const form = "2006-01-02 15:04:05.000 UTC"
	byPID, byPort := map[int][]*visit{}, map[int]*visit{} // process ids come again
	for _, v := range r.visits {
		if v.session == nil {
			continue
		}
		if v.session.Connected() {
			byPID[int(v.session.PID())] = append(byPID[int(v.session.PID())], v)
		} else {
			byPort[int(v.session.Local.Port())] = v
		}
	}
	var all []logged
	ids := map[string]string{}
	starts := map[string]string{}
	last := map[string]time.Time{}
	for _, line := range bytes.Split(raw, []byte("\n")) {
		if len(line) == 0 {
			continue
		}
		l, err := audit.ParseLine(line)
		r.must(err)
		var v *visit
		for _, of := range byPID[l.PID] {
			if !of.began[0].After(l.SessionStart.Add(time.Second)) && (v == nil || of.began[0].After(v.began[0])) {
				v = of
			}
		}
		if v == nil {
			v = byPort[l.RemotePort]
		}
		if v == nil {
			continue
		}
		i := 0
		for i+1 < len(v.began) && !v.began[i+1].Truncate(time.Millisecond).After(l.Time) {
			i++
		}
		at := v.steps[i].At.Add(max(l.Time.Sub(v.began[i]), 0)).Truncate(time.Millisecond)
		if at.Before(last[l.SessionID]) {
			at = last[l.SessionID] // a statement took longer in truth than the plan gave it
		}
		last[l.SessionID] = at
		if ids[l.SessionID] == "" {
			ids[l.SessionID] = fmt.Sprintf("%x.%x", at.Unix(), l.PID)
			starts[l.SessionID] = at.Format("2006-01-02 15:04:05 UTC")
		}
		out := stamp.ReplaceAll(line, []byte(`{"timestamp":"`+at.Format(form)+`"`))
		out = started.ReplaceAll(out, []byte(`"session_start":"`+starts[l.SessionID]+`"`))
		out = ident.ReplaceAll(out, []byte(`"session_id":"`+ids[l.SessionID]+`"`))
		if v.From != "[local]" {
			out = remote.ReplaceAllFunc(out, func(found []byte) []byte {
				if from, _ := audittest.Loopback(v.From); from.String() == string(found) {
					return []byte(v.From)
				}
				return found
			})
		}
		all = append(all, logged{at, ids[l.SessionID], v, out})
	}
	slices.SortStableFunc(all, func(a, b logged) int { return a.at.Compare(b.at) })
	return all
}

func (r *recording) closed() int {
	n := 0
	for _, v := range r.visits {
		if v.closed && v.session != nil && v.session.Connected() {
			n++
		}
	}
	return n
}
