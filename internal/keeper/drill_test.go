//go:build unix

package keeper

import (
	"context"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"howdah/internal/cluster"
	"howdah/internal/fault"
	"howdah/internal/repo"
	"howdah/internal/wal"
)

// always is a time that has always just come.
type always struct{}

func (always) Next(at time.Time) time.Time { return at }

func left(t testing.TB, dir string) []string {
	t.Helper()
	var names []string
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// A drill's life: the backups are hopes, one is restored by it, another drill is killed at some point, a third sweeps and finds that an index is not as it should be.
func TestADrillShowsWhetherTheNewestBackupCanBeRestored(t *testing.T) {
	t.Parallel()
	a, first, second, _ := filledOf(t, 16, nil, "")
	scratch := place(t)
	options := DrillOptions{Scratch: scratch, Program: a.program, Repos: []Place{a.place}, IdentityFile: a.identity, Installation: a.Installation(), Account: testAccount(t),
		By: "this test"}
	proofs := func() map[string]Proof {
		t.Helper()
		p, err := Proofs(t.Context(), a.r, "main", []*Backup{first, second})
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	if p := proofs(); !p[first.ID].Hope || !p[second.ID].Hope {
		t.Errorf("before the first drill: %+v", p)
	}
	a.verify(VerifyOptions{})

	// It needs no role and no database of a certain name: here, nobody may log in, and not into template1.
	a.exec(`ALTER DATABASE template1 ALLOW_CONNECTIONS false`, `ALTER ROLE postgres NOLOGIN`)
	a.await(a.house)
	d, err := Drill(t.Context(), a.r, "main", options)
	if err != nil {
		t.Fatalf("%v\n%s", err, startLog(nil, err))
	}
	a.exec(`ALTER ROLE postgres LOGIN`)
	if d.Backup != second.ID || !d.Good() || d.Report == "" || d.Server == "" || d.By != "this test" || len(d.Exercises) != 2 {
		t.Fatalf("%+v", d)
	}
	end, moment := d.Exercises[0], d.Exercises[1]
	rows := map[string]int64{}
	for _, c := range end.Databases {
		rows[c.Name] = c.Rows
	}
	if rows["postgres"] != 6 || end.Amcheck == "" || !end.Target.IsZero() || end.Reached.IsZero() || end.Backup != second.ID {
		t.Errorf("the newest moment: %+v", end)
	}
	if moment.Target.Before(first.Ended) || moment.Target.After(end.Reached) || moment.Reached.After(moment.Target) || moment.Amcheck == "" {
		t.Errorf("a random moment: %+v", moment)
	}
	if names := left(t, scratch); len(names) > 0 {
		t.Errorf("left behind: %v", names)
	}
	if p := proofs(); p[second.ID].Hope || p[second.ID].Drilled.IsZero() || p[second.ID].Verified.IsZero() || p[first.ID].Hope != (moment.Backup == second.ID) {
		t.Errorf("after the first drill: %+v", p)
	}
	var report Drilled
	if err := a.r.GetJSON(t.Context(), d.Report, &report); err != nil || report.Backup != second.ID || len(report.Exercises) != 2 || report.Exercises[0].Restored <= 0 {
		t.Errorf("%+v, %v", report, err)
	}

	// All of that is in the chronicle, with a plan for any moment of the range.
	c, err := ReadChronicle(t.Context(), a.r, "main")
	if err != nil || len(c.Troubles) > 0 || len(c.Backups) != 2 || len(c.Drills) != 1 || !c.Drills[0].Good() || c.Proofs[second.ID].Drilled.IsZero() || len(c.Written) == 0 || c.Newest.IsZero() {
		t.Errorf("%+v, %v", c, err)
	} else if n := len(c.Ranges); n == 0 || !c.Ranges[n-1].From.Equal(first.Ended) || c.Ranges[n-1].To.Before(end.Reached) {
		t.Errorf("%+v", c.Ranges)
	} else if p, err := c.Plan(t.Context(), Target{Time: c.Ranges[n-1].To}); err != nil || p.Backup.ID != second.ID {
		t.Errorf("%+v, %v", p, err)
	} else if _, err := c.Plan(t.Context(), Target{Time: first.Began.Add(-time.Hour)}); !fault.HasKey(err, "keeper.target_past") {
		t.Errorf("a moment before all backups: %v", err)
	}

	a.own()
	// Another process makes one, which is killed: with a house that is not there, as on a machine that has only the repo.
	nowhere := filepath.Join(filepath.Dir(scratch), "no-house")
	args := []string{"drill", "--json", "--gentle", "--data", nowhere, "--scratch", scratch, "--identity", a.identity, "--repo", a.place.Address}
	env := []string{"AWS_ACCESS_KEY_ID=" + a.place.AccessKey, "AWS_SECRET_ACCESS_KEY=" + a.place.SecretKey}
	points := map[string]string{"the folder is made": "*/held", "files come back": "*/cluster/unfinished-restore/pgdata/base", "WAL is replayed": "*/cluster/unfinished-restore/pgdata/postmaster.pid",
		"it is looked at": "*/cluster/pgdata/postmaster.pid"}
	names := []string{"the folder is made", "files come back", "WAL is replayed", "it is looked at"}
	point := names[rand.IntN(len(names))]
	t.Logf("killed when %s", point)
	killed := exec.CommandContext(t.Context(), a.program, args...)
	killed.Env = append(os.Environ(), env...)
	if err := killed.Start(); err != nil {
		t.Fatal(err)
	}
	await(t, point, func() bool {
		found, _ := filepath.Glob(filepath.Join(scratch, points[point]))
		return len(found) > 0
	})
	if err := killed.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = killed.Wait()
	var servers []int
	pids, _ := filepath.Glob(filepath.Join(scratch, "*", "cluster", "*", "pgdata", "postmaster.pid"))
	more, _ := filepath.Glob(filepath.Join(scratch, "*", "cluster", "pgdata", "postmaster.pid"))
	for _, name := range append(pids, more...) {
		var pid int
		if raw, err := os.ReadFile(name); err == nil && json.Unmarshal([]byte(strings.SplitN(string(raw), "\n", 2)[0]), &pid) == nil {
			servers = append(servers, pid)
		}
	}
	if len(left(t, scratch)) == 0 {
		t.Error("it was not killed while it was at it")
	}

	// An index that does not know all of its table: neither a checksum nor a restore shows that.
	a.exec(`CREATE INDEX of_grown ON grown (t)`, `UPDATE pg_index SET indisready = false WHERE indexrelid = 'of_grown'::regclass`)
	a.exec(`INSERT INTO grown VALUES (7)`)
	a.exec(`UPDATE pg_index SET indisready = true WHERE indexrelid = 'of_grown'::regclass`)
	a.await(a.house)
	dir := filepath.Join(filepath.Dir(scratch), "house")
	if err := os.Mkdir(dir, 0o755); err != nil { //nolint:gosec // the account enters it
		t.Fatal(err)
	}
	giveTo(t, nil, dir)
	var said []Event
	s := a.schedule(a.r, dir, func(e Event) { said = append(said, e) }, Drilling)
	s.Repos[0].Address = a.place.Address
	args[4] = dir
	s.Drill = func(ctx context.Context, address string) (string, error) {
		return DrillProcess(ctx, a.program, append(args[:len(args)-1:len(args)-1], address), env)
	}
	e := &errand{kind: Drilling, when: s.When[Drilling], source: s.Repos[0]}
	s.attend(t.Context(), e)
	if len(said) != 0 || !e.due.After(time.Now()) {
		t.Errorf("it was not due before %s: %+v", e.due, said)
	}
	release, held, err := cluster.Lock(LockFile(dir, "main"))
	if err != nil || !held {
		t.Fatal(held, err)
	}
	giveTo(t, nil, dir)
	e.when, e.due = always{}, time.Time{}
	s.attend(t.Context(), e)
	if failed, err := Failures(dir); len(failed) != 0 || err != nil || len(said) != 1 {
		t.Errorf("while a backup runs: %+v, %v, %+v", failed, err, said)
	}
	if err := release(); err != nil {
		t.Fatal(err)
	}
	e.due = time.Time{}
	s.attend(t.Context(), e)
	last := said[len(said)-1]
	if !fault.HasKey(last.Err, "keeper.drill_bad") || !strings.Contains(last.Err.Error(), "of_grown") || last.ID == "" || e.retry < firstDrillRetry {
		t.Fatalf("%+v, again in %s", last, e.retry)
	}
	for _, pid := range servers {
		if alive(pid) && syscall.Kill(pid, 0) == nil {
			t.Errorf("the server %d of the drill that was killed runs still", pid)
		}
	}
	if names := left(t, scratch); len(names) > 0 {
		t.Errorf("left behind: %v", names)
	}
	if _, err := os.Stat(nowhere); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a house was made: %v", err)
	}
	if p := proofs(); p[second.ID].Failed.IsZero() {
		t.Errorf("after the bad drill: %+v", p[second.ID])
	}
	status := Look(t.Context(), StatusOptions{Name: "main", Dir: dir, Repos: s.Repos, When: s.When})
	if status.Level != Critical || len(status.Concerns) != 1 || status.Concerns[0].Fault.Key != "keeper.status_drill_bad" || status.Repos[0].Drill == nil || status.Repos[0].Drill.Problem == "" {
		t.Errorf("%+v", status)
	}
	if v := a.verify(VerifyOptions{}); !v.Sound() || v.Foreign != 0 {
		t.Errorf("%+v", v)
	}
}

func TestWhatDoesNotChangeIsToldOnce(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "told.json")
	for _, step := range []struct{ texts, news []string }{
		{[]string{"a", "b"}, []string{"a", "b"}}, {[]string{"a", "b"}, nil}, {[]string{"b", "c"}, []string{"c"}}, {nil, nil}, {[]string{"b"}, []string{"b"}},
	} {
		if news := TellOnce(file, step.texts); !slices.Equal(news, step.news) {
			t.Errorf("%v: %v", step.texts, news)
		}
	}
	if err := os.WriteFile(file, []byte(`["b`), 0o600); err != nil {
		t.Fatal(err)
	}
	if news := TellOnce(file, []string{"b"}); len(news) != 1 {
		t.Error(news)
	}
}

// Segments of 1 MiB, the oldest of which has waited for an hour.
func TestWhenPgWALFillsTheDiskIsToldFromTheSizeOfItsSegments(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "archive_status"), 0o700); err != nil {
		t.Fatal(err)
	}
	for n := uint64(1); n <= 60; n++ {
		name := wal.SegmentSize(1<<20).Name(1, n).String()
		if err := os.WriteFile(filepath.Join(dir, name), make([]byte, 1<<20), 0o600); err != nil {
			t.Fatal(err)
		}
		ready := filepath.Join(dir, "archive_status", name+".ready")
		if err := os.WriteFile(ready, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if at := time.Now().Add(-time.Hour); n == 1 {
			if err := os.Chtimes(ready, at, at); err != nil {
				t.Fatal(err)
			}
		}
	}
	s := &Status{}
	s.lookAtFiles(dir)
	want := float64(s.Disk.Free) / (1 << 20) * 60 // a segment per minute
	if s.Archive.Ready != 60 || s.Archive.Lag < 3600 || s.Disk.Free == 0 || s.Disk.FullIn < want || s.Disk.FullIn > want*(s.Archive.Lag+1)/3600 {
		t.Errorf("%+v %+v, not %.0f", s.Archive, s.Disk, want)
	}
	if s.Level != Critical || s.Concerns[0].Fault.Key != "keeper.status_lag" {
		t.Errorf("%+v", s.Concerns)
	}
}

func TestADrillIsRefusedWhereThereIsNoRoom(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "not", "there", "yet")
	if err := drillRoom(&Plan{Backup: &Backup{}, Write: 1 << 60}, dir); !fault.HasKey(err, "keeper.drill_no_room") {
		t.Error(err)
	}
	if err := drillRoom(&Plan{Backup: &Backup{}, Write: 1}, dir); err != nil {
		t.Error(err)
	}
	if left := left(t, filepath.Dir(filepath.Dir(dir))); len(left) != 0 {
		t.Error(left)
	}
}

// Manifests of long ago are all that there is: what is due is found without PostgreSQL.
func TestWhatIsOverdueOrHasFailedIsFoundWithTheNextStep(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	r := newRepo(t, nil)
	if err := r.Bind(t.Context(), repo.Cluster{Name: "main", System: 7, Major: 15, SegmentSize: 16 << 20}); err != nil {
		t.Fatal(err)
	}
	daily, err := ParseWhen("@daily")
	if err != nil {
		t.Fatal(err)
	}
	weekly, err := ParseWhen("@weekly")
	if err != nil {
		t.Fatal(err)
	}
	ago := func(days int) time.Time { return time.Now().UTC().AddDate(0, 0, -days).Truncate(time.Second) }
	put := func(name string, value any) {
		t.Helper()
		if err := r.PutJSON(t.Context(), "main/"+name, value); err != nil {
			t.Fatal(err)
		}
	}
	keys := func(when map[Kind]When) map[string]Level {
		t.Helper()
		found := map[string]Level{}
		for _, c := range Look(t.Context(), StatusOptions{Name: "main", Dir: dir, When: when,
			Repos: []Source{{r.String(), func(context.Context) (*repo.Repo, error) { return r, nil }}}}).Concerns {
			key := c.Fault.Key
			if kind, ok := c.Fault.Args["kind"].(string); ok {
				key += " " + kind
			}
			found[key] = c.Level
		}
		return found
	}
	same := func(when map[Kind]When, want map[string]Level) {
		t.Helper()
		have := keys(when)
		if len(have) != len(want) {
			t.Errorf("%v, not %v", have, want)
		}
		for key, level := range want {
			if got, ok := have[key]; !ok || got != level {
				t.Errorf("%v, not %v", have, want)
			}
		}
	}
	all := map[Kind]When{Physical: weekly, Logical: daily, Drilling: weekly}
	same(all, map[string]Level{"keeper.status_no_base": Critical})
	base := ago(20)
	id := base.Format(repo.TimeForm)
	put("base/"+id+"/"+backupName, Backup{Format: 1, ID: id, Began: base, Ended: base, Start: 1, Stop: 2, Timeline: 1, EndTimeline: 1,
		Identity: wal.Identity{System: 7, Major: 15, SegmentSize: wal.DefaultSegmentSize}, Tarballs: []BaseTarball{{Name: "base"}}, WAL: WALIncluded})
	same(all, map[string]Level{"keeper.status_overdue physical": Critical, "keeper.status_drill_overdue": Warning})
	same(map[Kind]When{Physical: weekly}, map[string]Level{"keeper.status_overdue physical": Critical})
	good := Drilled{Format: 1, Kind: "drill", Cluster: "main", Backup: id, Began: ago(1), Ended: ago(1), Exercises: []Exercise{{Backup: id}}}
	put("report/drill-"+good.Ended.Format(repo.TimeForm)+".json", good)
	monthly := map[Kind]When{Physical: nil, Drilling: weeks(3)}
	same(monthly, map[string]Level{})
	s := &Schedule{Dir: dir}
	for range 3 {
		s.remember(&errand{kind: Logical, source: Source{Address: "there"}}, errors.New("no"))
		s.remember(&errand{kind: Drilling, source: Source{Address: "there"}}, fault.New(fault.Unavailable, "keeper.drill_failed"))
	}
	same(monthly, map[string]Level{"keeper.status_failed logical": Critical, "keeper.status_drill_failed drill": Warning})
	s.forget(&errand{kind: Drilling, source: Source{Address: "there"}}, time.Now())
	s.forget(&errand{kind: Logical, source: Source{Address: "there"}}, time.Now())
	bad := good
	bad.Began, bad.Ended, bad.Problem = time.Now().UTC(), time.Now().UTC(), "an index"
	put("report/drill-"+bad.Ended.Format(repo.TimeForm)+".json", bad)
	same(monthly, map[string]Level{"keeper.status_drill_bad": Critical})
}

// weeks is a time that comes again after so many weeks.
type weeks int

func (n weeks) Next(at time.Time) time.Time { return at.AddDate(0, 0, 7*int(n)) }
