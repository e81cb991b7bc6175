//go:build unix

package keeper

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"filippo.io/age"

	"howdah/internal/cluster"
	"howdah/internal/repo"
)

func (a *archived) verify(options VerifyOptions) *Verification {
	a.t.Helper()
	v, err := Verify(a.t.Context(), a.r, "main", options)
	if err != nil {
		a.t.Fatal(err)
	}
	return v
}

// objects are the files of the repo, by their names there.
func (a *archived) objects() []string {
	var all []string
	root := filepath.Join(a.Dir(), "repo")
	_ = filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		if err == nil && e.Type().IsRegular() {
			rel, _ := filepath.Rel(root, path)
			all = append(all, filepath.ToSlash(rel))
		}
		return err
	})
	return all
}

func (a *archived) file(object string) string {
	a.t.Helper()
	if t, ok := a.t.(*testing.T); ok && !filepath.IsAbs(a.place.Address) {
		t.Skip("it reaches into the folder of its repo")
	}
	return filepath.Join(a.Dir(), "repo", filepath.FromSlash(object))
}

// filled is a house with two base backups, a logical one, and some segments of WAL around them.
func filled(t *testing.T, recipients []string, identity string) (a *archived, first, second *Backup, d Dump) {
	t.Helper()
	return filledOf(t, 1, recipients, identity)
}

// filledOf has segments of so many MiB.
func filledOf(t *testing.T, segment int, recipients []string, identity string) (a *archived, first, second *Backup, d Dump) {
	a = newArchivedOf(t, segment, recipients, identity)
	first = a.backup()
	a.exec(`CREATE TABLE grown (n int, t timestamptz DEFAULT clock_timestamp())`)
	more := func(n int) {
		for range n {
			a.exec(`INSERT INTO grown VALUES (1)`)
			a.await(a.house)
		}
	}
	more(4)
	second = a.backup()
	more(2)
	d, err := TakeDump(t.Context(), a.r, Server{DSN: a.dsn(cluster.Superuser), Programs: a.Installation()}, DumpOptions{Cluster: "main", Globals: true})
	if err != nil {
		t.Fatal(err)
	}
	a.own()
	return a, first, second, d
}

func TestAByteFlippedAnywhereInTheRepoIsFoundByVerify(t *testing.T) {
	t.Parallel()
	for _, encrypted := range []bool{false, true} {
		t.Run(fmt.Sprint("encrypted ", encrypted), func(t *testing.T) {
			t.Parallel()
			var recipients []string
			identity := ""
			if encrypted {
				key, err := age.GenerateX25519Identity()
				if err != nil {
					t.Fatal(err)
				}
				recipients, identity = []string{key.Recipient().String()}, filepath.Join(t.TempDir(), "identity")
				if err := os.WriteFile(identity, []byte(key.String()), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			a, first, second, d := filled(t, recipients, identity)
			v := a.verify(VerifyOptions{})
			if !v.Sound() || !slices.Equal(v.Backups, []string{first.ID, second.ID, d.ID}) || v.Segments < 6 || v.StoredOnly || len(v.Reachable) != 1 || v.Foreign != 0 {
				t.Fatalf("%+v", v)
			}
			for _, id := range v.Backups {
				if one := a.verify(VerifyOptions{ID: id}); !one.Sound() || !slices.Equal(one.Backups, []string{id}) || one.Objects >= v.Objects {
					t.Errorf("%s: %+v", id, one)
				}
			}
			if deep := a.verify(VerifyOptions{Contents: true}); !deep.Sound() || !deep.Contents || deep.StoredOnly {
				t.Errorf("%+v", deep)
			}
			blind, err := repo.NewKeys(recipients, "")
			if err != nil {
				t.Fatal(err)
			}
			without, err := repo.Open(t.Context(), a.r.String(), repo.Options{Keys: blind})
			if err != nil {
				t.Fatal(err)
			}
			if b, err := Verify(t.Context(), without, "main", VerifyOptions{}); err != nil || !b.Sound() || b.StoredOnly != encrypted {
				t.Errorf("without the identity: %+v, %v", b, err)
			}
			seed := uint64(time.Now().UnixNano())
			t.Logf("seed %d", seed)
			random := rand.New(rand.NewPCG(seed, 0))
			objects := slices.DeleteFunc(a.objects(), func(o string) bool { return !strings.HasPrefix(o, "main/") || o == "main/cluster.json" })
			for range 8 {
				object := objects[random.IntN(len(objects))]
				good, err := os.ReadFile(a.file(object))
				if err != nil {
					t.Fatal(err)
				}
				at, flip := random.IntN(len(good)), byte(1+random.IntN(255))
				bad := bytes.Clone(good)
				bad[at] ^= flip
				if err := os.WriteFile(a.file(object), bad, 0o600); err != nil {
					t.Fatal(err)
				}
				found := a.verify(VerifyOptions{Contents: random.IntN(2) == 0})
				if !slices.ContainsFunc(found.Findings, func(f Finding) bool { return f.Object == object && f.Problem == ProblemDamaged }) {
					// Some bits at the head of a frame of zstd mean nothing, or make no difference to this content.
					plain, _, err := repo.Unseal(nil, bad, a.keys)
					was, _, wasErr := repo.Unseal(nil, good, a.keys)
					if err != nil || wasErr != nil || !bytes.Equal(plain, was) {
						t.Errorf("%s: byte %d of %d, changed by %#x, was not found: %+v", object, at, len(good), flip, found.Findings)
					}
				}
				if err := os.WriteFile(a.file(object), good, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if last := a.verify(VerifyOptions{}); !last.Sound() {
				t.Errorf("%+v", last.Findings)
			}
		})
	}
}

// aged has all WAL in the repo come an hour ago.
func (a *archived) aged() {
	a.t.Helper()
	at := time.Now().Add(-time.Hour)
	for _, object := range a.objects() {
		if strings.HasPrefix(object, "main/wal/") {
			if err := os.Chtimes(a.file(object), at, at); err != nil {
				a.t.Fatal(err)
			}
		}
	}
}

func TestASegmentMissingInTheMiddleIsNamedWithTheTimeItCosts(t *testing.T) {
	t.Parallel()
	a, first, second, d := filled(t, nil, "")
	size := first.SegmentSize
	lost := size.Name(first.EndTimeline, size.Number(first.Stop-1)+2).String()
	object, err := repo.WALName("main", lost)
	if err != nil {
		t.Fatal(err)
	}
	gone := func(object string) func() {
		if err := os.Rename(a.file(object), a.file(object)+".aside"); err != nil {
			t.Fatal(err)
		}
		return func() {
			if err := os.Rename(a.file(object)+".aside", a.file(object)); err != nil {
				t.Fatal(err)
			}
		}
	}
	back := gone(object + ".zst")
	v := a.verify(VerifyOptions{})
	if len(v.Findings) != 1 || v.Foreign != 1 || len(v.Reachable) != 2 {
		t.Fatalf("%+v", v)
	}
	f := v.Findings[0]
	if f.Problem != ProblemMissing || f.First != lost || f.Last != lost || f.Count != 1 || f.Costs == nil || f.Costs.From.Before(first.Ended) || !f.Costs.To.Equal(second.Ended) {
		t.Errorf("%+v, costs %+v", f, f.Costs)
	}
	if one := a.verify(VerifyOptions{ID: second.ID}); !one.Sound() {
		t.Errorf("the second backup does not need it: %+v", one.Findings)
	}
	// Status finds it too, by the names alone, unless what comes behind has come only just now.
	look := func(key string, level Level) *RepoStatus {
		t.Helper()
		s := Look(t.Context(), StatusOptions{Name: "main", Repos: []Source{{a.place.Address, func(context.Context) (*repo.Repo, error) { return a.r, nil }}}})
		if s.Level != level || level == Well && len(s.Concerns) != 0 || level != Well && (len(s.Concerns) != 1 || s.Concerns[0].Fault.Key != key) || len(s.Repos) != 1 {
			t.Fatalf("%+v, not %s", s, key)
		}
		return &s.Repos[0]
	}
	if one := look("", Well); !one.From.Equal(first.Ended) || one.Missing != nil {
		t.Errorf("%+v", one)
	}
	a.aged()
	if one := look("keeper.status_missing", Warning); len(one.Missing) != 1 || one.Missing[0].First != lost || one.Missing[0].Backup != second.ID || !one.From.Equal(second.Ended) ||
		one.Missing[0].After.Before(first.Ended) || one.Missing[0].Count != 1 || one.Missing[0].Last != lost {
		t.Errorf("%+v", one)
	}
	back()
	if one := look("", Well); !one.From.Equal(first.Ended) || !one.To.After(second.Ended) {
		t.Errorf("%+v", one)
	}
	newer, err := repo.WALName("main", size.Name(second.EndTimeline, size.Number(second.Stop-1)+1).String())
	if err != nil {
		t.Fatal(err)
	}
	back = gone(newer + ".zst")
	if one := look("keeper.status_missing_open", Critical); len(one.Missing) != 1 || one.Missing[0].Backup != "" || !one.From.Equal(first.Ended) || one.To.Before(second.Ended) || one.ToTold {
		t.Errorf("%+v", one)
	}
	back()
	// A backup that is damaged costs nothing as long as an older one and the WAL lead past it.
	for id, costs := range map[string]bool{first.ID: true, second.ID: false} {
		back := gone("main/base/" + id + "/" + first.Tarballs[0].Object)
		v := a.verify(VerifyOptions{})
		if len(v.Findings) != 1 || v.Findings[0].Backup != id || v.Findings[0].Problem != ProblemMissing || (v.Findings[0].Costs != nil) != costs {
			t.Errorf("%+v", v.Findings)
		}
		back()
	}
	// The last that a backup needs.
	object, _ = repo.WALName("main", size.Name(second.Timeline, size.Number(second.Start)).String())
	back = gone(object + ".zst")
	if one := a.verify(VerifyOptions{ID: second.ID}); len(one.Findings) != 1 || one.Findings[0].Costs == nil {
		t.Errorf("%+v", one.Findings)
	}
	back()
	back = gone("main/dump/" + d.ID + "/" + d.Parts[0].Object)
	if one := a.verify(VerifyOptions{ID: d.ID}); len(one.Findings) != 1 || one.Findings[0].Backup != d.ID {
		t.Errorf("%+v", one.Findings)
	}
	back()
	if last := a.verify(VerifyOptions{}); !last.Sound() || last.Report == "" {
		t.Errorf("%+v", last)
	}
}

func TestAfterAPruneTheRestIsSoundAndIsRestored(t *testing.T) {
	t.Parallel()
	a, first, second, _ := filled(t, nil, "")
	foreign := a.file("main/base/" + first.ID + "/notes.txt")
	if err := os.WriteFile(foreign, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	reports := []string{"main/report/verify-20200101T000000Z.json", "main/report/drill-20200101T000000Z.json", a.verify(VerifyOptions{}).Report}
	for i, value := range []any{Verification{Kind: verifyReport}, Drilled{Kind: drillReport}} {
		if err := a.r.PutJSON(t.Context(), reports[i], value); err != nil {
			t.Fatal(err)
		}
	}
	all := len(a.objects())
	keep := Retention{Window: 0}
	dry, err := PlanPrune(t.Context(), a.r, "main", keep)
	if err != nil || dry.Segments == 0 || dry.Physical[0].Kept() || !dry.Physical[1].Kept() || len(a.objects()) != all || !dry.OldestAfter.Equal(second.Ended) {
		t.Fatalf("%+v, %v", dry, err)
	}
	if long, err := PlanPrune(t.Context(), a.r, "main", Retention{Window: 14 * 24 * time.Hour}); err != nil || !long.Physical[0].Kept() || long.Segments >= dry.Segments {
		t.Errorf("%+v, %v", long, err)
	}
	done, err := Prune(t.Context(), a.r, "main", keep)
	if err != nil || done.Segments != dry.Segments || done.Bytes != dry.Bytes || done.DryRun {
		t.Fatalf("%+v, %v", done, err)
	}
	for i, name := range reports { // the newest of each kind stays
		if _, err := a.r.Stat(t.Context(), name); errors.Is(err, fs.ErrNotExist) != (i == 0) || done.Reports != 1 {
			t.Errorf("%s: %v; %d have gone", name, err, done.Reports)
		}
	}
	if _, err := os.Stat(foreign); err != nil {
		t.Error(err)
	}
	if whole, unfinished, err := Backups(t.Context(), a.r, "main"); err != nil || len(whole) != 1 || whole[0].ID != second.ID {
		t.Errorf("%v, %v, %v", whole, unfinished, err)
	}
	if v := a.verify(VerifyOptions{}); !v.Sound() {
		t.Errorf("%+v", v.Findings)
	}
	if again, err := Prune(t.Context(), a.r, "main", keep); err != nil || again.Bytes != 0 {
		t.Errorf("%+v, %v", again, err)
	}
	h, _ := a.restore(a.plan(Target{}))
	if n := h.ask(`SELECT count(*)::text FROM grown`); n != "6" {
		t.Errorf("%s rows", n)
	}
}
