//go:build unix

package keeper

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"howdah/internal/fault"
	"howdah/internal/repo"
)

// dying is a store that is no more after some removals, as for a process that is killed there; or one that does something then.
type dying struct {
	repo.Store
	left int
	then func()
}

// reading is a store in which something happens when a tarball is read.
type reading struct {
	repo.Store
	then func()
}

func (r *reading) Open(ctx context.Context, name string, offset, length int64) (io.ReadCloser, error) {
	if strings.Contains(name, ".tar.") {
		r.then()
	}
	return r.Store.Open(ctx, name, offset, length)
}

var errKilled = errors.New("killed")

func (d *dying) Remove(ctx context.Context, names ...string) error {
	for _, name := range names {
		if d.left == 0 {
			if d.then == nil {
				return errKilled
			}
			d.then()
		}
		d.left--
		if err := d.Store.Remove(ctx, name); err != nil {
			return err
		}
	}
	return nil
}

// copyTo makes a repo elsewhere that holds the same.
func (a *archived) copyTo(to Place) *repo.Repo {
	a.t.Helper()
	r := to.open(a.t, nil)
	for info, err := range a.r.List(a.t.Context(), "main/") {
		var in io.ReadCloser
		if err == nil {
			in, err = a.r.Open(a.t.Context(), info.Name, 0, -1)
		}
		if err != nil {
			a.t.Fatal(err)
		}
		out, err := r.Create(a.t.Context(), info.Name)
		if err == nil {
			_, err = io.Copy(out, in)
		}
		if err == nil {
			err = out.Commit(a.t.Context())
		}
		if err = errors.Join(err, in.Close()); err != nil {
			a.t.Fatal(err)
		}
	}
	if filepath.IsAbs(to.Address) {
		giveTo(a.t, nil, to.Address)
	}
	return r
}

// A prune is killed before each of its removals, one after the other; each time all that is listed is whole, and the next one leaves what is not ours and nothing else. One that meets a
// restore leaves it what it needs.
func TestAPruneThatIsKilledOrMeetsARestoreLeavesWhatIsListedWhole(t *testing.T) {
	t.Parallel()
	a, first, second, d := filled(t, nil, "")
	foreign := "main/base/" + first.ID + "/notes.txt"
	if err := os.WriteFile(a.file(foreign), []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	room := t.TempDir()
	copied := func() *repo.Repo {
		t.Helper()
		dir, err := os.MkdirTemp(room, "")
		if err != nil {
			t.Fatal(err)
		}
		if out, err := execute(t, "cp", "-al", filepath.Join(a.Dir(), "repo")+"/.", dir); err != nil { // nothing in it is ever changed
			t.Fatal(err, out)
		}
		r, err := repo.Open(t.Context(), dir, repo.Options{})
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	names := func(r *repo.Repo, prefix string) (all []string) {
		t.Helper()
		for info, err := range r.List(t.Context(), prefix) {
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, info.Name)
		}
		return all
	}
	sound := func(r *repo.Repo, foreign int) *Verification {
		t.Helper()
		v, err := Verify(t.Context(), r, "main", VerifyOptions{})
		if err != nil || !v.Sound() || v.Foreign != foreign || !slices.Contains(v.Backups, second.ID) || !slices.Contains(v.Backups, d.ID) {
			t.Errorf("%+v, %v", v, err)
		}
		return v
	}
	points := 0
	for ; ; points++ {
		r := copied()
		_, err := Prune(t.Context(), r.Through(func(s repo.Store) repo.Store { return &dying{Store: s, left: points} }), "main", Retention{})
		if err == nil {
			break
		}
		if !errors.Is(err, errKilled) {
			t.Fatal(err)
		}
		if v, err := Verify(t.Context(), r, "main", VerifyOptions{}); err != nil || !v.Sound() {
			t.Errorf("killed before removal %d: %+v, %v", points, v, err)
		}
		if p, err := PlanRestore(t.Context(), r, "main", Target{}); err != nil || p.Backup.ID != second.ID {
			t.Errorf("killed before removal %d: %+v, %v", points, p, err)
		}
		if _, err := Prune(t.Context(), r, "main", Retention{}); err != nil {
			t.Error(err)
		}
		if left := names(r, "main/base/"+first.ID+"/"); len(left) != 1 || left[0] != foreign {
			t.Errorf("killed before removal %d, and made up for: %v", points, left)
		}
		if whole, unfinished, err := Backups(t.Context(), r, "main"); err != nil || len(whole) != 1 || len(unfinished) != 0 {
			t.Errorf("%v, %v, %v", whole, unfinished, err)
		}
	}
	if points < 8 {
		t.Errorf("only %d removals", points)
	}

	// A restore that has begun: its backup stays, with the WAL from there on.
	r := copied()
	manifest := func(id string) string { return baseFolder("main") + "/" + id + "/" + backupName }
	release, err := keepFor(t.Context(), r, "main", first.Start, manifest, first.ID)
	if err != nil {
		t.Fatal(err)
	}
	segment, err := repo.WALName("main", first.SegmentSize.Name(first.Timeline, first.SegmentSize.Number(first.Start)).String())
	if err != nil {
		t.Fatal(err)
	}
	p, err := Prune(t.Context(), r, "main", Retention{})
	if err != nil || !slices.Contains(p.Physical[0].Why, KeptRestore) || len(names(r, segment)) == 0 {
		t.Errorf("%+v, %v", p, err)
	}
	sound(r, 1)
	release()
	// What a verification reads stays as well, until it is through.
	pruned := sync.OnceFunc(func() {
		if _, err := Prune(t.Context(), r, "main", Retention{}); err != nil {
			t.Error(err)
		}
	})
	if v := sound(r.Through(func(s repo.Store) repo.Store { return &reading{Store: s, then: pruned} }), 1); !slices.Contains(v.Backups, first.ID) {
		t.Errorf("%+v", v)
	}
	// One that begins when the manifest is about to go, and so has seen it: the rest waits for the next prune, and that one for its end.
	var late error
	_, err = Prune(t.Context(), r.Through(func(s repo.Store) repo.Store {
		return &dying{Store: s, then: func() { release, late = keepFor(t.Context(), r, "main", first.Start, manifest, first.ID) }}
	}), "main", Retention{})
	if err != nil || late != nil {
		t.Fatal(err, late)
	}
	whole := func() bool {
		all := names(r, "main/base/"+first.ID+"/")
		return slices.ContainsFunc(all, func(name string) bool { return strings.HasSuffix(name, "/"+first.Tarballs[0].Object) })
	}
	for range 2 {
		if !whole() || len(names(r, segment)) == 0 {
			t.Error("what the restore needs has gone")
		}
		if _, err := Prune(t.Context(), r, "main", Retention{}); err != nil {
			t.Error(err)
		}
	}
	if _, err := keepFor(t.Context(), r, "main", first.Start, manifest, first.ID); !fault.HasKey(err, "keeper.no_backup") {
		t.Errorf("a restore from what is none any more: %v", err)
	}
	release()
	if _, err := Prune(t.Context(), r, "main", Retention{}); err != nil || whole() || len(names(r, segment)) > 0 || len(names(r, holdFolder("main"))) > 0 {
		t.Error(err, whole())
	}
	sound(r, 0) // what is in a folder that is no backup's is not looked at

	// The program itself is killed at moments that nobody has chosen, in a folder and in a bucket, and the next one ends what it began.
	for _, where := range []string{"folder", "bucket"} {
		removals, cut := 0, 0 // of one that nobody kills; killed between the first and the last
		rounds := max(1, *kills/12)
		for round := range 1 + rounds {
			at := Place{Address: place(t)}
			if where == "bucket" {
				at = inBucket(t)
			}
			r := a.copyTo(at)
			prune := func() *exec.Cmd {
				cmd := exec.CommandContext(t.Context(), a.program, "prune", "--json", "--keep", "0d", "--keep-physical", "1", "--data", place(t), "--repo", at.Address)
				cmd.Env = append(os.Environ(), "AWS_ACCESS_KEY_ID="+at.AccessKey, "AWS_SECRET_ACCESS_KEY="+at.SecretKey)
				return cmd
			}
			before := names(r, "main/")
			cmd := prune()
			if round > 0 {
				if err := cmd.Start(); err != nil {
					t.Fatal(err)
				}
				ended := make(chan struct{})
				go func() { _ = cmd.Wait(); close(ended) }()
				for after, over := rand.IntN(removals), false; !over && len(before)-len(names(r, "main/")) < after; {
					select {
					case <-ended:
						over = true
					default:
					}
				}
				_ = cmd.Process.Kill() // unless it was quicker
				<-ended
				left := names(r, "main/")
				if gone := len(before) - len(left); gone > 0 && gone < removals {
					cut++
				}
				if v, err := Verify(t.Context(), r, "main", VerifyOptions{}); err != nil || !v.Sound() {
					t.Errorf("killed with %d of %d objects left: %+v, %v", len(left), len(before), v, err)
				}
				if p, err := PlanRestore(t.Context(), r, "main", Target{}); err != nil || p.Backup.ID != second.ID {
					t.Errorf("killed with %d of %d objects left: %+v, %v", len(left), len(before), p, err)
				}
				if where == "folder" {
					giveTo(t, nil, at.Address) // our verification has left a report
				}
				cmd = prune()
			}
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			if round == 0 {
				removals = len(before) - len(names(r, "main/"))
			}
			v, err := Verify(t.Context(), r, "main", VerifyOptions{})
			if err != nil || !v.Sound() || len(names(r, "main/base/"+first.ID+"/")) > 1 { // notes.txt is not ours
				t.Errorf("%+v, %v; %v", v, err, names(r, "main/base/"))
			}
			if round == rounds && where == "bucket" { // what is left comes back
				copied := *a
				copied.r, copied.place = r, at
				copied.own()
				h, _ := copied.restore(copied.plan(Target{}))
				if n := h.ask(`SELECT count(*)::text FROM grown`); n != "6" {
					t.Errorf("%s rows came back", n)
				}
			}
		}
		t.Logf("%s: a prune removes %d objects; %d were killed between the first and the last", where, removals, cut)
	}

	// cluster.json is damaged, or missing: that is found, and nothing else is lost by it.
	for _, content := range []string{`{"format": 1, "system_ident`, ""} {
		r := copied()
		file := filepath.Join(r.String(), filepath.FromSlash(clusterFile("main")))
		if err := os.Remove(file); err != nil { // it is a link
			t.Fatal(err)
		}
		problem := ProblemMissing
		if content != "" {
			problem = ProblemDamaged
			if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		v, err := Verify(t.Context(), r, "main", VerifyOptions{})
		if err != nil || len(v.Findings) != 1 || v.Findings[0].Object != clusterFile("main") || v.Findings[0].Problem != problem || len(v.Backups) != 3 {
			t.Errorf("%+v, %v", v, err)
		}
		if p, err := PlanRestore(t.Context(), r, "main", Target{}); err != nil || p.Backup.ID != second.ID {
			t.Errorf("%+v, %v", p, err)
		}
	}
	r = newRepo(t, nil)
	if err := os.MkdirAll(filepath.Join(r.String(), "main"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(r.String(), "main", "cluster.json"), []byte("?"), 0o600); err != nil {
		t.Fatal(err)
	}
	if v, err := Verify(t.Context(), r, "main", VerifyOptions{}); err != nil || len(v.Findings) != 1 || v.Report == "" {
		t.Errorf("%+v, %v", v, err)
	}
}
