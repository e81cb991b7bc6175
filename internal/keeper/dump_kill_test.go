package keeper

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"howdah/internal/cluster"
	"howdah/internal/repo"
)

func TestAStoppedDumpIsNotListedAndLeavesNothing(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	makeShop(t, s, "shop")
	for where, r := range map[string]*repo.Repo{"folder": dumpRepo(t, repo.Options{}), "bucket": bucketRepo(t)} {
		for _, form := range []Form{Custom, Directory} {
			ctx, cancel := context.WithCancel(t.Context())
			_, err := TakeDump(ctx, r, s, DumpOptions{Cluster: "main", Globals: true, Form: form, Progress: func(p DumpProgress) {
				if p.Database == "shop" {
					cancel()
				}
			}})
			if !errors.Is(err, context.Canceled) {
				t.Errorf("%s, %s: %v", where, form, err)
			}
			for info, err := range r.List(t.Context(), "main/dump/") {
				t.Errorf("%s, %s: left behind: %s %v", where, form, info.Name, err)
			}
		}
	}
}

// TestDumpForEver is no test, but what the tests below kill: it makes one backup after the other, or restores one again and again.
func TestDumpForEver(t *testing.T) {
	dir := os.Getenv("HOWDAH_DUMP_FOR_EVER")
	if dir == "" {
		t.Skip("run by the tests of killed dumps")
	}
	in, err := cluster.Find(t.Context(), os.Getenv("HOWDAH_DUMP_BIN"))
	if err != nil {
		t.Fatal(err)
	}
	s := Server{DSN: os.Getenv("HOWDAH_DUMP_DSN"), Programs: in}
	r, err := repo.Open(t.Context(), dir, repo.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; ; i++ {
		if id := os.Getenv("HOWDAH_DUMP_ID"); id != "" {
			_, err = RestoreDump(t.Context(), r, s, id, RestoreOptions{Cluster: "main", As: fmt.Sprintf("again %d %d", os.Getpid(), i)})
		} else {
			_, err = TakeDump(t.Context(), r, s, DumpOptions{Cluster: "main", Databases: []string{"shop"}, Form: []Form{Custom, Directory}[i%2], Stage: dir + "-stage"})
		}
		if err != nil {
			fmt.Println("failed", err)
			return
		}
		fmt.Println("done")
	}
}

// killSome lets a process like TestDumpForEver work and kills it at some instant, as many times as told.
// In every other round that is when begun says for the first time that the work is under way: on a slow machine, instants
// taken by chance may all lie before that.
func killSome(t *testing.T, s Server, dir, id string, rounds int, begun func() bool, look func(round int)) {
	t.Helper()
	for round := range rounds {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run", "^TestDumpForEver$")
		cmd.Env = append(os.Environ(), "HOWDAH_DUMP_FOR_EVER="+dir, "HOWDAH_DUMP_DSN="+s.DSN, "HOWDAH_DUMP_BIN="+s.Programs.Bin, "HOWDAH_DUMP_ID="+id)
		var out bytes.Buffer
		cmd.Stdout = &out
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		instant := 100*time.Millisecond + time.Duration(round*211%1000)*time.Millisecond
		ended := make(chan struct{})
		go func() {
			_ = cmd.Wait()
			close(ended)
		}()
		if round%2 == 1 {
			instant = 5 * time.Millisecond
		}
		for kill := time.NewTicker(instant); ; {
			select {
			case <-ended:
				kill.Stop()
			case <-kill.C:
				if round%2 == 0 || begun() {
					_ = cmd.Process.Kill()
				}
				continue
			}
			break
		}
		if strings.Contains(out.String(), "failed") {
			t.Fatalf("round %d: %s", round, &out)
		}
		look(round)
	}
}

// awaitNobody returns when no client program is connected any more: the ones of a killed process end with it.
func awaitNobody(t *testing.T, s Server) {
	t.Helper()
	conn, err := s.connect(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	again := time.NewTicker(20 * time.Millisecond)
	defer again.Stop()
	for deadline := time.Now().Add(5 * time.Minute); ; <-again.C {
		var count int
		err := conn.QueryRow(t.Context(), "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()").Scan(&count)
		if err != nil || time.Now().After(deadline) {
			t.Fatalf("%d are still connected, %v", count, err)
		}
		if count == 0 {
			return
		}
	}
}

func TestAKilledDumpIsNotListedAndTheNextOneCleansUp(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	makeShop(t, s, "shop")
	dir := filepath.Join(t.TempDir(), "repo")
	r, err := repo.Open(t.Context(), dir, repo.Options{Create: true})
	if err != nil {
		t.Fatal(err)
	}
	unfinished := 0
	known := 0
	folders := func() int {
		names, err := r.Folders(t.Context(), "main/dump")
		if err != nil {
			t.Fatal(err)
		}
		return len(names)
	}
	killSome(t, s, dir, "", 8, func() bool { return folders() > known }, func(round int) {
		defer func() { known = folders() }()
		awaitNobody(t, s)
		all, err := Dumps(t.Context(), r, "main")
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range all {
			if err := verifyDump(t.Context(), r, d); err != nil {
				t.Errorf("round %d: %s is listed: %v", round, d.ID, err)
			}
		}
		folders, err := r.Folders(t.Context(), "main/dump")
		if err != nil {
			t.Fatal(err)
		}
		unfinished += len(folders) - len(all)
		if err := sweepRuns(t.Context(), r, "main/dump", dumpManifest); err != nil {
			t.Fatal(err)
		}
		if folders, err = r.Folders(t.Context(), "main/dump"); err != nil || len(folders) != len(all) {
			t.Errorf("round %d: after sweeping %v, %v", round, folders, err)
		}
	})
	if unfinished == 0 {
		t.Error("no backup was killed")
	}
	_, release, err := makeStage(dir + "-stage")
	if err != nil {
		t.Fatal(err)
	}
	release()
	if entries, err := os.ReadDir(dir + "-stage"); err != nil || len(entries) > 0 {
		t.Errorf("left on the way: %v, %v", entries, err)
	}
}

func TestAKilledRestoreIsNoDatabaseAndTheNextOneDropsIt(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	makeShop(t, s, "shop")
	want := contents(t, s, "shop")
	dir := filepath.Join(t.TempDir(), "repo")
	r, err := repo.Open(t.Context(), dir, repo.Options{Create: true})
	if err != nil {
		t.Fatal(err)
	}
	d, err := TakeDump(t.Context(), r, s, DumpOptions{Cluster: "main", Databases: []string{"shop"}})
	if err != nil {
		t.Fatal(err)
	}
	left := 0
	unfinished := func() []string {
		return ask[string](t, s, "", "SELECT datname FROM pg_database WHERE starts_with(datname, $1)", restoringPrefix)
	}
	killSome(t, s, dir, d.ID, 4, func() bool { return len(unfinished()) > 0 }, func(round int) {
		for _, name := range ask[string](t, s, "", "SELECT datname FROM pg_database WHERE starts_with(datname, 'again ')") {
			same(t, want, contents(t, s, name))
			do(t, s, "", "DROP DATABASE "+quote(name)+" WITH (FORCE)")
		}
		left += len(unfinished())
		awaitNobody(t, s) // the name is held by the session
		if _, err := RestoreDump(t.Context(), r, s, d.ID, RestoreOptions{Cluster: "main", As: "after"}); err != nil {
			t.Fatal(err)
		}
		if names := unfinished(); len(names) > 0 {
			t.Errorf("round %d: left behind: %v", round, names)
		}
		do(t, s, "", `DROP DATABASE after`)
	})
	if left == 0 {
		t.Error("no restore was killed in the middle")
	}
}
