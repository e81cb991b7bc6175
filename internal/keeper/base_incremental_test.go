//go:build unix

package keeper

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"howdah/internal/cluster"
	"howdah/internal/fault"
	"howdah/internal/untested"
)

// TestIncrementsArePutTogetherAndRestored: a full backup and two increments, what is restored from them, kept of them and said of them.
func TestIncrementsArePutTogetherAndRestored(t *testing.T) {
	t.Parallel()
	a := newArchived(t, nil, "")
	if a.Installation().Version.Major < IncrementsSince {
		untested.Here(t, "increments came with PostgreSQL 17: make matrix")
	}
	a.inTablespace("elsewhere")
	a.exec(`CREATE TABLE kept AS SELECT i, md5(i::text) AS m FROM generate_series(1, 300000) i`, `CREATE TABLE gone AS SELECT 1`)
	full := a.backup()
	const contents = `SELECT (SELECT count(*) || ' ' || sum(hashtext(m)) FROM kept) || ' ' || (SELECT count(*) FROM elsewhere) || ' ' || (SELECT count(*) FROM pg_class)`
	type state struct {
		at   time.Time
		from string // the backup that leads there
		want string
	}
	var states []state
	var last *Backup
	parent := full
	for round := range 2 {
		a.exec(`UPDATE kept SET m = 'changed' WHERE i <= 100`, `INSERT INTO elsewhere VALUES (0)`, fmt.Sprintf(`CREATE TABLE made%d AS SELECT 1`, round))
		if round == 1 {
			a.exec(`DROP TABLE gone`)
		}
		var err error
		if last, err = TakeIncrement(t.Context(), a.r, BaseOptions{Cluster: "main", DSN: a.dsn(cluster.Replicator)}); err != nil {
			t.Fatal(err)
		}
		if last.Parent != parent.ID || last.Plain() > full.Plain()/2 {
			t.Errorf("%+v", last)
		}
		for range 5 {
			a.exec(`INSERT INTO kept VALUES (-1, random()::text)`)
			states = append(states, state{momentOf(a.house), last.ID, a.ask(contents)})
		}
		parent = last
	}
	a.exec(`INSERT INTO kept VALUES (-1, 'behind')`)
	a.await(a.house)
	a.own()
	then := states[rand.IntN(len(states))]
	p := a.plan(Target{Time: then.at})
	if p.Backup.ID != then.from {
		t.Errorf("%+v", p)
	}
	h, _ := a.restore(p)
	if have := h.ask(contents); have != then.want {
		t.Errorf("at %s: %s, want %s", then.at, have, then.want)
	}
	p = a.plan(Target{})
	if p.Backup.ID != last.ID || len(p.Chain) != 3 || p.Chain[0].ID != full.ID {
		t.Errorf("%+v", p)
	}
	h, done := a.restore(p)
	if have, want := h.ask(contents), a.ask(contents); have != want {
		t.Errorf("%s, want %s", have, want)
	}
	if location := h.ask(`SELECT pg_tablespace_location(oid) FROM pg_tablespace WHERE spcname = 'space_elsewhere'`); !strings.HasPrefix(location, done.Dir) {
		t.Error(location)
	}
	// Whoever keeps the last keeps all; whoever verifies it verifies all.
	pruned, err := Prune(t.Context(), a.r, "main", Retention{Window: time.Millisecond, Physical: 1})
	if err != nil || len(pruned.Physical) != 3 || !slices.Contains(pruned.Physical[0].Why, KeptParent) || !slices.Contains(pruned.Physical[1].Why, KeptParent) {
		t.Errorf("%+v %v", pruned, err)
	}
	if v, err := Verify(t.Context(), a.r, "main", VerifyOptions{ID: last.ID}); err != nil || !v.Sound() || len(v.Backups) != 3 {
		t.Errorf("%+v %v", v, err)
	}
	d, err := Drill(t.Context(), a.r, "main", DrillOptions{Scratch: place(t), Program: a.program, Repos: []Place{a.place}, IdentityFile: a.identity, Installation: a.Installation(),
		Account: testAccount(t)})
	if err != nil || len(d.Exercises) == 0 || d.Exercises[0].Backup != last.ID || !slices.Equal(d.Exercises[0].Chain, []string{full.ID, p.Chain[1].ID}) || len(d.Unchecked) > 0 {
		t.Errorf("%+v, %v\n%s", d, err, startLog(nil, err))
	}
	if proofs, err := Proofs(t.Context(), a.r, "main", p.Chain); err != nil || proofs[full.ID].Hope || proofs[last.ID].Hope {
		t.Errorf("%+v, %v", proofs, err)
	}
	// Without its parent an increment is nothing: it is not chosen, and is named. The next is made to what is whole.
	folder := p.Chain[1].folder()
	if err := errors.Join(a.r.Remove(t.Context(), folder+backupName), removeFolder(t.Context(), a.r, strings.TrimSuffix(folder, "/"))); err != nil {
		t.Fatal(err)
	}
	if p := a.plan(Target{}); p.Backup.ID != full.ID || !slices.Equal(p.Orphans, []string{last.ID}) {
		t.Errorf("%+v", p)
	}
	if _, err := PlanRestore(t.Context(), a.r, "main", Target{Backup: last.ID}); !fault.HasKey(err, "keeper.chain_broken") {
		t.Error(err)
	}
	if v, err := Verify(t.Context(), a.r, "main", VerifyOptions{}); err != nil || len(v.Findings) != 1 || v.Findings[0].Backup != p.Chain[1].ID {
		t.Errorf("%+v %v", v, err)
	}
	id, err := a.schedule(a.r, a.Dir(), nil, Incremental).make(t.Context(), a.r, &errand{kind: Incremental})
	if err != nil {
		t.Fatal(err)
	}
	if b, err := OpenBackup(t.Context(), a.r, "main", id); err != nil || b.Parent != full.ID {
		t.Errorf("%+v %v", b, err)
	}
	// Where the server cannot say what has changed, a full one is made.
	a.exec(`ALTER SYSTEM SET summarize_wal = off`, `SELECT pg_reload_conf()`)
	for a.ask(`SHOW summarize_wal`) != "off" {
	}
	options := BaseOptions{Cluster: "main", DSN: a.dsn(cluster.Replicator), Parent: id}
	if _, err := TakeBase(t.Context(), a.r, options); !fault.HasKey(err, "keeper.parent_unfit") {
		t.Error(err)
	}
	if b, err := TakeIncrement(t.Context(), a.r, options); err != nil || b.Parent != "" {
		t.Errorf("%+v %v", b, err)
	}
}
