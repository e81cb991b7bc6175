//go:build unix

package keeper

import (
	"bytes"
	"context"
	"flag"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"howdah/internal/cluster"
	"howdah/internal/fault"
	"howdah/internal/repo"
	"howdah/internal/wal"
)

// repos says what repos those houses of the tests have that do not mind: beside the cluster, the same encrypted, or in a bucket and encrypted.
var repos = flag.String("keeper.repos", "folder", "folder, age or s3: where tests that do not mind have their repos")

func TestRestoresToRandomMomentsHoldExactlyWhatHadCommittedByThen(t *testing.T) {
	t.Parallel()
	a := newArchived(t, nil, "")
	first := a.backup()
	w := a.workload()
	began := time.Now() // the table is there
	for round := range 6 {
		w.wait(a, (round+1)*300)
		a.exec(`SELECT pg_switch_wal()`)
		if round == 2 {
			a.backup()
		}
		if round == 3 {
			a.exec(`SELECT pg_create_restore_point('before the accident')`)
		}
	}
	// A checkpoint tells its time in whole seconds: right behind the first backup there is nothing to be had.
	if possible := first.Began.Add(2 * time.Second); began.Before(possible) {
		began = possible
	}
	for time.Since(began) < time.Second {
		w.wait(a, 0)
	}
	w.stop()
	ended := time.Now()
	a.exec(`CREATE TABLE afterwards ()`) // a moment can be had when a commit behind it is in the archive
	a.await(a.house)
	random := rand.New(rand.NewPCG(uint64(began.UnixNano()), 0))
	for range 4 {
		at := began.Add(time.Duration(random.Int64N(int64(ended.Sub(began))))).Truncate(time.Microsecond)
		p := a.plan(Target{Time: at})
		t.Logf("%s: from %s, %d segments, up to %s, transaction %d of %s", Moment(at), p.Backup.ID, p.Segments, p.Until, p.XID, Moment(p.Reached))
		h, done := a.restore(p)
		w.check(h, at)
		if done.Timeline != 2 || p.Reached.After(at) || done.Reached != p.Reached {
			t.Errorf("%+v", done)
		}
	}
	p := a.plan(Target{})
	h, done := a.restore(p)
	w.check(h, time.Now())
	for query, want := range map[string]string{
		`SELECT pg_is_in_recovery()::text`: "false", `SHOW archive_mode`: "off", `SHOW restore_command`: "", `SHOW recovery_target_lsn`: "", `SHOW fsync`: "off",
		`SHOW hot_standby`: "on", `SELECT timeline_id::text FROM pg_control_checkpoint()`: "2", `SHOW primary_conninfo`: "", `SHOW autovacuum`: "on",
	} {
		if have := h.ask(query); have != want {
			t.Errorf("%s: %s, want %s", query, have, want)
		}
	}
	h.exec(`INSERT INTO ledger VALUES (9, 1)`)
	if left, _ := filepath.Glob(filepath.Join(done.Dir, "*")); len(left) > 8 || slices.Contains(left, filepath.Join(done.Dir, unfinishedName)) {
		t.Errorf("%v", left)
	}
	// By its name, by the number of a transaction, by a position.
	p = a.plan(Target{Name: "before the accident"})
	if p.Backup.ID == first.ID {
		t.Errorf("it begins with %s, and there is a newer one", p.Backup.ID)
	}
	named, _ := a.restore(p)
	if n, all := named.ask(`SELECT count(*)::text FROM ledger`), a.ask(`SELECT count(*)::text FROM ledger`); n >= all && len(n) == len(all) || n == "0" {
		t.Errorf("%s rows of %s", n, all)
	}
	xid := a.ask(`SELECT xmin::text FROM ledger WHERE writer = 1 AND n = 250`)
	one, _ := a.restore(a.plan(Target{XID: xid}))
	if have := one.ask(`SELECT max(n)::text FROM ledger WHERE writer = 1`); have != "250" {
		t.Errorf("up to transaction %s there is %s", xid, have)
	}

	// What cannot be is refused, with what can.
	for key, target := range map[string]Target{
		"keeper.target_future": {Time: time.Now().Add(time.Hour)}, "keeper.target_past": {Time: began.Add(-time.Hour)}, "keeper.no_restore_point": {Name: "nowhere"},
		"keeper.no_xid": {XID: "4000000000"}, "keeper.xid_form": {XID: "x"}, "keeper.no_history": {Timeline: 7}, "keeper.targets": {XID: "5", Name: "x"},
		"keeper.backup_later": {LSN: first.Stop + 8, Backup: p.Backup.ID}, "keeper.no_backup": {Backup: "20200101T000000Z"},
	} {
		if _, err := PlanRestore(t.Context(), a.r, "main", target); !fault.HasKey(err, key) {
			t.Errorf("%s: %v", key, err)
		}
	}
	if _, err := PlanRestore(t.Context(), a.r, "main", Target{LSN: p.Until + 1<<40}); !fault.HasKey(err, "keeper.target_future") {
		t.Error(err)
	}
}

func TestARestoreGoesAcrossATimelineSwitchAndBranchesAreTold(t *testing.T) {
	t.Parallel()
	a := newArchived(t, nil, "")
	first := a.backup()
	a.exec(`CREATE TABLE kept (what text)`, `INSERT INTO kept VALUES ('early')`)
	early := momentOf(a.house)
	for time.Since(first.Began) < 3*time.Second {
		a.ask(`SELECT 'x'`)
	}
	a.exec(`INSERT INTO kept VALUES ('before')`)
	before := momentOf(a.house)
	a.exec(`INSERT INTO kept VALUES ('lost')`)
	lost := momentOf(a.house)
	a.exec(`INSERT INTO kept VALUES ('more that is lost')`)
	lostAt := a.ask(`SELECT pg_current_wal_insert_lsn()::text`)
	a.await(a.house)

	// Back to before, and on from there, into the same archive.
	options := a.options(place(t))
	options.Archiving = true
	p := a.plan(Target{Time: before})
	done, err := Recover(t.Context(), a.r, p, options)
	if err != nil {
		t.Fatalf("%v\n%s", err, startLog(done, err))
	}
	second := a.run(done, "archive_mode", "on", "archive_command", ArchiveCommand(a.program, a.settings))
	second.exec(`INSERT INTO kept VALUES ('after')`)
	after := momentOf(second)
	second.exec(`INSERT INTO kept VALUES ('last')`)
	a.await(second)

	for _, c := range []struct {
		target Target
		want   string
		from   wal.Timeline
	}{
		{Target{}, "early, before, after, last", 2}, {Target{Time: after}, "early, before, after", 2},
		{Target{Time: before}, "early, before", 2}, {Target{Time: lost, Timeline: 1}, "early, before, lost", 1}, {Target{Time: lost, Timeline: 2}, "early, before", 2},
	} {
		p := a.plan(c.target)
		h, done := a.restore(p)
		if have := h.ask(`SELECT coalesce(string_agg(what, ', ' ORDER BY ctid), '') FROM kept`); have != c.want || done.From != c.from || done.Timeline != 3 {
			t.Errorf("%+v: %s, want %s; timeline %d from %d", c.target, have, c.want, done.Timeline, done.From)
		}
	}
	// In between, the cluster lived a life that was given up: who asks for that has to say so.
	if _, err := PlanRestore(t.Context(), a.r, "main", Target{Time: lost}); !fault.HasKey(err, "keeper.target_branch") {
		t.Error(err)
	}
	lsn, err := wal.ParseLSN(lostAt)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := PlanRestore(t.Context(), a.r, "main", Target{LSN: lsn}); !fault.HasKey(err, "keeper.target_branch") {
		t.Error(err)
	}
	_ = early
}

// momentOf is a moment that lies between two transactions.
func momentOf(h *house) time.Time {
	h.t.Helper()
	var at time.Time
	if err := h.conn.QueryRow(h.t.Context(), `SELECT clock_timestamp()`).Scan(&at); err != nil {
		h.t.Fatal(err)
	}
	return at
}

func TestASegmentThatIsMissingIsNamedWithWhatItCosts(t *testing.T) {
	t.Parallel()
	a := newArchived(t, nil, "")
	first := a.backup()
	a.exec(`CREATE TABLE kept (what text)`)
	for time.Since(first.Began) < 3*time.Second {
		a.ask(`SELECT 'x'`)
	}
	a.exec(`INSERT INTO kept VALUES ('before')`)
	before := momentOf(a.house)
	a.exec(`INSERT INTO kept VALUES ('edge')`, `SELECT pg_switch_wal()`, `INSERT INTO kept VALUES ('in the hole')`)
	missing := a.ask(`SELECT pg_walfile_name(pg_current_wal_insert_lsn())`)
	inside := momentOf(a.house)
	a.exec(`INSERT INTO kept VALUES ('in the hole')`, `SELECT pg_switch_wal()`, `INSERT INTO kept VALUES ('behind')`)
	behind := momentOf(a.house)
	a.exec(`INSERT INTO kept VALUES ('end')`)
	a.await(a.house)
	object, err := repo.WALName("main", missing)
	if err != nil {
		t.Fatal(err)
	}
	if err := a.r.Remove(t.Context(), object+a.r.Ending()); err != nil {
		t.Fatal(err)
	}
	for name, target := range map[string]Target{"inside": {Time: inside}, "behind": {Time: behind}, "latest": {}} {
		_, err := PlanRestore(t.Context(), a.r, "main", target)
		if !fault.HasKey(err, "keeper.target_hole") {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if args := fault.Of(err).Args; args["first"] != missing || args["last"] != missing || args["id"] != "-" {
			t.Errorf("%s: %v", name, args)
		}
	}
	p := a.plan(Target{Time: before})
	h, _ := a.restore(p)
	if have := h.ask(`SELECT string_agg(what, ', ') FROM kept`); have != "before" {
		t.Error(have)
	}
	if len(p.Holes) != 1 || p.Holes[0].First != missing || p.Holes[0].Count != 1 || p.Holes[0].After.IsZero() || p.Holes[0].Before.Before(p.Holes[0].After) || p.Holes[0].Backup != "" {
		t.Errorf("%+v", p.Holes)
	}
	// The nearest that the refusal names can be had.
	_, err = PlanRestore(t.Context(), a.r, "main", Target{Time: inside})
	lsn, ok := fault.Of(err).Args["lsn"].(wal.LSN)
	if !ok {
		t.Fatal(err)
	}
	if p, err := PlanRestore(t.Context(), a.r, "main", Target{LSN: lsn}); err != nil || p.Until != lsn {
		t.Errorf("%v %v", p, err)
	}
	// From the next backup on all is well again.
	next := a.backup()
	a.exec(`INSERT INTO kept VALUES ('newest')`)
	a.await(a.house)
	_, err = PlanRestore(t.Context(), a.r, "main", Target{Time: inside})
	if !fault.HasKey(err, "keeper.target_hole") || fault.Of(err).Args["id"] != next.ID {
		t.Error(err)
	}
	h, _ = a.restore(a.plan(Target{}))
	if have := h.ask(`SELECT string_agg(what, ', ') FROM kept`); have != "before, edge, in the hole, in the hole, behind, end, newest" {
		t.Error(have)
	}
}

func TestTablespacesAndEncryptedBackupsComeBackWithAnIdentityOnly(t *testing.T) {
	t.Parallel()
	recipients, identity := sealed(t)
	a := newArchived(t, recipients, identity)
	a.inTablespace("elsewhere")
	a.inTablespace("named")
	b := a.backup()
	a.exec(`INSERT INTO elsewhere VALUES (0)`)
	a.await(a.house)
	options := a.options(place(t))
	oid := a.ask(`SELECT oid::text FROM pg_tablespace WHERE spcname = 'space_named'`)
	other := place(t) + " with blanks"
	options.Tablespaces = map[string]string{oid: other}
	var phases []RecoverPhase
	var mu sync.Mutex
	options.Progress = func(p RecoverProgress) {
		mu.Lock()
		defer mu.Unlock()
		if p.Bytes > p.Total && p.Phase != RecoverFiles {
			t.Errorf("%+v", p)
		}
		if !slices.Contains(phases, p.Phase) {
			phases = append(phases, p.Phase)
		}
	}
	p := a.plan(Target{})
	done, err := Recover(t.Context(), a.r, p, options)
	if err != nil {
		t.Fatalf("%v\n%s", err, startLog(done, err))
	}
	if !slices.Equal(phases, []RecoverPhase{RecoverFiles, RecoverWAL, RecoverSync}) {
		t.Error(phases)
	}
	h := a.run(done)
	for query, want := range map[string]string{
		`SELECT count(*)::text FROM elsewhere`: "10001", `SELECT count(*)::text FROM named`: "10000",
		`SELECT pg_tablespace_location(oid) FROM pg_tablespace WHERE spcname = 'space_named'`:     other,
		`SELECT pg_tablespace_location(oid) FROM pg_tablespace WHERE spcname = 'space_elsewhere'`: filepath.Join(done.Dir, "tablespaces", a.ask(`SELECT oid::text FROM pg_tablespace WHERE spcname = 'space_elsewhere'`)),
	} {
		if have := h.ask(query); have != want {
			t.Errorf("%s: %s, want %s", query, have, want)
		}
	}
	// Twice into the same places: nothing is written over.
	options.To = place(t)
	if _, err := Recover(t.Context(), a.r, p, options); !fault.HasKey(err, "keeper.not_empty") {
		t.Error(err)
	}
	options.To = done.Dir
	if _, err := Recover(t.Context(), a.r, p, options); !fault.HasKey(err, "keeper.not_empty") {
		t.Error(err)
	}
	options.To, options.Tablespaces = place(t), map[string]string{"1": "/nowhere"}
	if _, err := Recover(t.Context(), a.r, p, options); !fault.HasKey(err, "keeper.no_tablespace") {
		t.Error(err)
	}
	// Without the identity, and with a wrong one.
	blind, err := repo.Open(t.Context(), a.place.Address, repo.Options{AccessKey: a.place.AccessKey, SecretKey: a.place.SecretKey})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := PlanRestore(t.Context(), blind, "main", Target{}); !fault.HasKey(err, "repo.no_identity") {
		t.Error(err)
	}
	blindArchive, err := OpenArchive(t.Context(), blind, "main")
	if err != nil {
		t.Fatal(err)
	}
	if ranges, _, err := blindArchive.Ranges(t.Context()); err != nil || len(ranges) != 1 || !ranges[0].To.IsZero() || ranges[0].FromLSN != b.Stop {
		t.Errorf("%+v %v", ranges, err)
	}
	if list, _, err := Backups(t.Context(), blind, "main"); err != nil || len(list) != 1 || list[0].ID != b.ID {
		t.Error(list, err)
	}
	if _, err := Recover(t.Context(), blind, p, a.options(place(t))); !fault.HasKey(err, "repo.no_identity") {
		t.Error(err)
	}
}

func TestARestoreThatIsKilledIsPlainlyUnfinished(t *testing.T) {
	t.Parallel()
	a := newArchived(t, nil, "")
	a.exec(`CREATE TABLE kept AS SELECT i, md5(i::text) FROM generate_series(1, 100000) i`)
	a.backup()
	for range 4 {
		a.exec(`INSERT INTO kept SELECT i, md5(i::text) FROM generate_series(1, 100000) i`, `SELECT pg_switch_wal()`)
	}
	a.await(a.house)
	to := place(t)
	what := map[string]string{"Repo": a.place.Address, "AccessKey": a.place.AccessKey, "SecretKey": a.place.SecretKey, "Identity": a.identity,
		"Cluster": "main", "To": to, "Program": a.program, "Bin": a.Installation().Bin}
	random := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 2))
	for round := range 5 {
		cmd := child(t, what)
		if round > 0 { // the first may be killed before it has done anything
			await(t, "it has begun", func() bool {
				_, err := os.Stat(filepath.Join(to, unfinishedName))
				_, done := os.Stat(filepath.Join(to, restored))
				return err == nil || done == nil
			})
		}
		pause := time.NewTimer(time.Duration(random.Int64N(int64(2 * time.Second))))
		<-pause.C
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait()
		_, finished := os.Stat(filepath.Join(to, restored))
		_, marked := os.Stat(filepath.Join(to, unfinishedName))
		t.Logf("round %d: %v, %v", round, finished, marked)
		if finished == nil {
			break // it was faster than the kill
		}
		if _, err := os.Stat(to); err == nil && marked == nil {
			if _, err := Recover(t.Context(), a.r, a.plan(Target{}), a.options(to)); !fault.HasKey(err, "keeper.unfinished_restore") {
				t.Errorf("round %d: %v", round, err)
			}
		}
	}
	if _, err := os.Stat(filepath.Join(to, restored)); err == nil {
		to = place(t)
	}
	options := a.options(to)
	options.Clear = true
	done, err := Recover(t.Context(), a.r, a.plan(Target{}), options)
	if err != nil {
		t.Fatalf("%v\n%s", err, startLog(done, err))
	}
	h := a.run(done)
	if have := h.ask(`SELECT count(*)::text FROM kept`); have != "500000" {
		t.Error(have)
	}
}

func TestARestoreThatIsInterruptedOrRefusedLeavesTheFolderAsItWas(t *testing.T) {
	t.Parallel()
	a := newArchived(t, nil, "")
	a.backup()
	a.await(a.house)
	p := a.plan(Target{})
	for _, phase := range []RecoverPhase{RecoverFiles, RecoverWAL} {
		ctx, cancel := context.WithCancel(t.Context())
		options := a.options(place(t))
		options.Progress = func(p RecoverProgress) {
			if p.Phase == phase {
				cancel()
			}
		}
		if _, err := Recover(ctx, a.r, p, options); err == nil {
			t.Errorf("%s: it went on", phase)
		}
		cancel()
		if left, err := os.ReadDir(options.To); err != nil || len(left) > 0 {
			t.Errorf("%s: %v %v", phase, left, err)
		}
	}
	full := place(t)
	if err := os.MkdirAll(full, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(full, "mine"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for dir, key := range map[string]string{full: "keeper.not_empty", a.Dir(): "keeper.not_empty", a.DataDir(): "keeper.not_empty"} {
		if _, err := Recover(t.Context(), a.r, p, a.options(dir)); !fault.HasKey(err, key) {
			t.Errorf("%s: %v", dir, err)
		}
	}
	huge := *p
	huge.Write = 1 << 55
	if _, err := Recover(t.Context(), a.r, &huge, a.options(place(t))); !fault.HasKey(err, "keeper.no_room") {
		t.Error(err)
	}
	options := a.options(place(t))
	options.Installation.Version.Major++
	if _, err := Recover(t.Context(), a.r, p, options); !fault.HasKey(err, "keeper.other_major") {
		t.Error(err)
	}
	if a.ask(`SELECT 'x'`) != "x" {
		t.Error("the house is gone")
	}
}

// TestWhatALostServerHadNotArchivedIsTakenFromItsDisk: the server is killed, and only what it had written is there.
func TestWhatALostServerHadNotArchivedIsTakenFromItsDisk(t *testing.T) {
	t.Parallel()
	a := newArchived(t, nil, "")
	a.backup()
	a.exec(`CREATE TABLE kept (n int)`)
	a.await(a.house)
	a.exec(`ALTER SYSTEM SET archive_command = 'false'`, `SELECT pg_reload_conf()`, `SELECT pg_stat_reset_shared('archiver')`)
	await(t, "the archiver has read that", func() bool {
		a.exec(`SELECT pg_create_restore_point('something')`)
		segment := a.ask(`SELECT pg_walfile_name(pg_switch_wal() - 1)`)
		outcome := ""
		await(t, "the archiver has tried "+segment, func() bool {
			outcome = a.ask(`SELECT CASE WHEN failed_count > 0 THEN 'refused' WHEN last_archived_wal >= '` + segment + `' THEN 'taken' ELSE '' END FROM pg_stat_archiver`)
			return outcome != ""
		})
		return outcome == "refused"
	})
	for range 3 {
		a.exec(`INSERT INTO kept SELECT generate_series(1, 1000)`, `SELECT pg_switch_wal()`)
	}
	a.exec(`SET synchronous_commit = on`, `INSERT INTO kept VALUES (0)`)
	_ = a.conn.Close(t.Context())
	if err := a.Stop(t.Context(), cluster.Immediate); err != nil {
		t.Fatal(err)
	}
	p := a.plan(Target{})
	if len(p.Files) != 0 {
		t.Error(p.Files)
	}
	h, _ := a.restore(p)
	if have := h.ask(`SELECT count(*)::text FROM kept`); have != "0" {
		t.Error(have)
	}
	pgWAL := filepath.Join(a.DataDir(), "pg_wal")
	p, err := PlanRestore(t.Context(), a.r, "main", Target{}, pgWAL)
	if err != nil {
		t.Fatal(err)
	}
	if len(p.Files) < 4 {
		t.Errorf("%+v", p)
	}
	// A server that lives archives and removes some of it meanwhile.
	settings, err := LoadSettings(a.settings)
	if err == nil {
		err = Push(t.Context(), settings, p.Files[0], PushOptions{})
	}
	if err == nil {
		err = os.Remove(p.Files[0])
	}
	if err != nil {
		t.Fatal(err)
	}
	a.own()
	h, _ = a.restore(p)
	if have := h.ask(`SELECT count(*)::text FROM kept`); have != "3001" {
		t.Error(have)
	}
	if _, err := PlanRestore(t.Context(), a.r, "main", Target{}, a.Dir()); !fault.HasKey(err, "keeper.no_pg_wal") {
		t.Error(err)
	}
	// What would be left out in silence is said.
	last := p.Files[len(p.Files)-1]
	content, err := os.ReadFile(last)
	if err != nil {
		t.Fatal(err)
	}
	for key, spoil := range map[string]func([]byte) []byte{
		"keeper.pg_wal_damaged": func(c []byte) []byte { return c[:len(c)/2] },
		"keeper.pg_wal_other":   func(c []byte) []byte { c[24]++; return c }, // xlp_sysid
	} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, filepath.Base(last)), spoil(bytes.Clone(content)), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := PlanRestore(t.Context(), a.r, "main", Target{}, dir); !fault.HasKey(err, key) {
			t.Errorf("%s: %v", key, err)
		}
	}
}

func TestABackupIsTakenFromAStandbyWhenThatIsSaid(t *testing.T) {
	t.Parallel()
	a := newArchived(t, nil, "")
	a.exec(`CREATE TABLE kept AS SELECT i FROM generate_series(1, 1000) i`)
	first := a.backup()
	dir := place(t)
	if err := Unpack(t.Context(), a.r, first, UnpackOptions{Data: filepath.Join(dir, restored)}); err != nil {
		t.Fatal(err)
	}
	auto := filepath.Join(dir, restored, autoConfName)
	f, err := os.OpenFile(auto, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	reading, err := LoadSettings(a.settings) // who archives need not be able to read
	if err != nil {
		t.Fatal(err)
	}
	reading.IdentityFile = a.identity
	settings := filepath.Join(dir, "keeper.json")
	if err := reading.Save(settings); err != nil {
		t.Fatal(err)
	}
	conf := autoConf{}.with("primary_conninfo", strings.ReplaceAll(a.dsn(cluster.Replicator), "dbname='postgres'", "")).with("restore_command", RestoreCommand(a.program, settings))
	if _, err := f.WriteString(strings.Join(conf, "\n") + "\n"); err != nil || f.Close() != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, restored, "standby.signal"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	giveTo(t, nil, dir)
	standby := a.run(&Recovered{Dir: dir})
	if standby.ask(`SELECT pg_is_in_recovery()::text`) != "true" {
		t.Fatal("it is no standby")
	}
	a.exec(`INSERT INTO kept VALUES (1001)`)
	target := a.ask(`SELECT pg_current_wal_insert_lsn()::text`)
	a.exec(`CHECKPOINT`)
	for standby.ask(`SELECT (pg_last_wal_replay_lsn() >= '`+target+`')::text`) != "true" {
	}
	standby.exec(`CHECKPOINT`)
	options := BaseOptions{Cluster: "main", DSN: standby.dsn(cluster.Replicator)}
	if _, err := TakeBase(t.Context(), a.r, options); !fault.HasKey(err, "keeper.standby") {
		t.Error(err)
	}
	options.Standby = true
	options.Progress = func(p Progress) {
		if p.Phase == PhaseWAL { // the standby cannot end the segment by itself
			a.exec(`SELECT pg_switch_wal()`)
		}
	}
	b, err := TakeBase(t.Context(), a.r, options)
	if err != nil {
		t.Fatal(err)
	}
	if !b.Standby || b.WAL != WALArchive {
		t.Errorf("%+v", b)
	}
	a.own()
	a.exec(`INSERT INTO kept VALUES (1002)`)
	a.await(a.house)
	p := a.plan(Target{})
	if p.Backup.ID != b.ID {
		t.Errorf("it begins with %s", p.Backup.ID)
	}
	h, done := a.restore(p)
	if have := h.ask(`SELECT count(*)::text FROM kept`); have != "1002" {
		t.Error(have)
	}
	if _, err := os.Stat(filepath.Join(done.Data, "standby.signal")); err == nil || h.ask(`SHOW primary_conninfo`) != "" {
		t.Error("it is a standby still")
	}
}

// TestABackupThatHoldsItsWALNeedsNoArchive: of a server that archives nothing, with settings outside of its data directory, as Debian has them.
func TestABackupThatHoldsItsWALNeedsNoArchive(t *testing.T) {
	t.Parallel()
	howdah := program(t)
	h := newHouse(t, nil)
	h.exec(`CREATE TABLE kept AS SELECT 1 AS x`, `ALTER SYSTEM SET work_mem = '5MB'`, `ALTER SYSTEM SET primary_conninfo = 'host=nowhere'`,
		`ALTER SYSTEM SET archive_cleanup_command = 'false'`, `SELECT pg_reload_conf()`)
	root := filepath.Join(h.Dir(), "repo")
	r, err := repo.Open(t.Context(), root, repo.Options{Create: true})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"pg_hba.conf", "pg_ident.conf", "postgresql.conf"} {
		if err := os.Remove(filepath.Join(h.DataDir(), name)); err != nil {
			t.Fatal(err)
		}
	}
	b, err := TakeBase(t.Context(), r, BaseOptions{Cluster: "main", DSN: h.dsn(cluster.Replicator)})
	if err != nil {
		t.Fatal(err)
	}
	giveTo(t, h, root)
	if b.WAL != WALIncluded {
		t.Error(b.WAL)
	}
	a := &archived{house: h, r: r, program: howdah, place: Place{Address: root}}
	p := a.plan(Target{})
	done, err := Recover(t.Context(), r, p, a.options(place(t)))
	if err != nil {
		t.Fatalf("%v\n%s", err, startLog(done, err))
	}
	auto, err := os.ReadFile(filepath.Join(done.Data, "postgresql.auto.conf"))
	if text := string(auto); err != nil || !strings.Contains(text, "work_mem = '5MB'") || strings.Contains(text, "nowhere") || strings.Contains(text, "recovery_target") ||
		!strings.Contains(text, "archive_mode = 'off'") || strings.Contains(text, "archive_cleanup_command") {
		t.Errorf("%v: %s", err, auto)
	}
	f, err := os.OpenFile(filepath.Join(done.Data, "postgresql.conf"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString("include_if_exists 'howdah.conf'\n"); err != nil || f.Close() != nil {
		t.Fatal(err)
	}
	// A cluster that keeps these files elsewhere is a package's, whose superuser comes in by the account's name. Ours has a password.
	hba, err := os.ReadFile(filepath.Join(done.Data, "pg_hba.conf"))
	if err == nil {
		err = os.WriteFile(filepath.Join(done.Data, "pg_hba.conf"), bytes.Replace(hba, []byte("peer"), []byte("scram-sha-256"), 1), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	again := a.run(done)
	if have := again.ask(`SELECT x::text FROM kept`); have != "1" {
		t.Error(have)
	}
	if have := again.ask(`SHOW work_mem`); have != "5MB" {
		t.Error(have)
	}
}
