package keeper

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"howdah/internal/cluster"
	"howdah/internal/fault"
	"howdah/internal/repo"
	"howdah/internal/repo/repotest"
	"howdah/internal/untested"
	"howdah/internal/wal"
	"howdah/internal/wal/waltest"
)

// smallDisk mounts a file system in memory with so many bytes and files.
func smallDisk(t *testing.T, bytes, files int) string {
	t.Helper()
	if os.Geteuid() != 0 {
		untested.Here(t, "only root may mount a small disk (tmpfs) to fill it")
	}
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%d,nr_inodes=%d,mode=755", bytes, files)); err != nil {
		t.Fatalf("this test has to mount a tmpfs, which takes the right CAP_SYS_ADMIN: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// The repo's disk is full when any of the things is written that a push writes: a folder, the name of a file, its first byte or its last. Whatever it is, nothing lies there
// that could be taken for a segment, the next step is said, the other repo has it, and when there is room it goes on.
func TestAPushOntoAFullDiskLeavesNothingAndGoesOnWhenThereIsRoom(t *testing.T) {
	t.Parallel()
	const name = "00000001000000000000000A"
	object, err := repo.WALName("main", name)
	if err != nil {
		t.Fatal(err)
	}
	type room struct{ pages, files int } // that are left
	var rooms []room
	for files := range 7 { // the cluster's folder and three in it, cluster.json, the segment
		rooms = append(rooms, room{1 << 20, files})
	}
	c := newWALFolder(t)
	wantFault(t, c.push(t, name), "")
	st, err := os.Stat(filepath.Join(c.root, object+".zst"))
	if err != nil {
		t.Fatal(err)
	}
	whole := int(st.Size()+4095) / 4096
	for _, pages := range []int{0, 1, 2, whole / 2, whole, whole + 2} {
		rooms = append(rooms, room{pages, 100})
	}
	succeeded := 0
	for _, room := range rooms {
		good := *c
		disk := smallDisk(t, 16<<20, 200)
		full := filepath.Join(disk, "repo")
		good.root = filepath.Join(t.TempDir(), "good")
		good.made(t, full)
		good.made(t, good.root)
		own := *c.Settings
		own.Repos = []Place{{Address: full}, {Address: good.root}}
		good.Settings = &own
		// What else lies on that disk.
		for i := range 200 {
			if err := os.WriteFile(filepath.Join(disk, fmt.Sprintf("file-%d", i)), nil, 0o600); err != nil {
				break
			}
		}
		for i := range room.files {
			if err := os.Remove(filepath.Join(disk, fmt.Sprintf("file-%d", i))); err != nil {
				t.Fatal(err)
			}
		}
		filling := filepath.Join(disk, "file-150")
		f, err := os.OpenFile(filling, os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		for err == nil {
			_, err = f.Write(make([]byte, 4096))
		}
		st, statErr := f.Stat()
		if !errors.Is(err, unix.ENOSPC) || statErr != nil {
			t.Fatal(err, statErr)
		}
		if err := errors.Join(f.Truncate(max(0, st.Size()-int64(room.pages)*4096)), f.Close()); err != nil {
			t.Fatal(err)
		}
		err = good.push(t, name)
		if err == nil {
			succeeded++
			if room.pages < whole || room.files < 4 {
				t.Errorf("%+v: it was called safe, and there was no room", room)
			}
		} else {
			wantFault(t, err, "repo.full")
			seen := 0
			err := filepath.WalkDir(full, func(path string, e fs.DirEntry, err error) error {
				if err == nil && !e.IsDir() && e.Name() != "howdah-repo.json" && e.Name() != "cluster.json" {
					t.Errorf("%+v: %s lies there", room, path)
				}
				seen++
				return err
			})
			if err != nil || seen == 0 {
				t.Error(err)
			}
			if !bytes.Equal(good.stored(t, name), read(t, good.path(name))) {
				t.Errorf("%+v: the good repo does not have it", room)
			}
		}
		for i := range 200 { // room is made
			if err := os.Remove(filepath.Join(disk, fmt.Sprintf("file-%d", i))); err != nil && !errors.Is(err, fs.ErrNotExist) {
				t.Fatal(err)
			}
		}
		wantFault(t, good.push(t, name), "")
		second := good
		second.root = full
		if !bytes.Equal(second.stored(t, name), read(t, good.path(name))) {
			t.Errorf("%+v: with room again it is not there", room)
		}
	}
	if succeeded == 0 || succeeded == len(rooms) {
		t.Errorf("%d of %d had room: the disks are not as full as they should be", succeeded, len(rooms))
	}
}

// A spool that is full costs time later, and nothing else.
func TestAFullSpoolKeepsNobodyFromArchiving(t *testing.T) {
	t.Parallel()
	c := newWALFolder(t)
	c.spooled(t)
	c.Spool = filepath.Join(smallDisk(t, 4096, 2), "spool")
	warned := 0
	for _, name := range c.files(t, wal.Segment, 1) {
		if err := Push(t.Context(), c.Settings, c.path(name), PushOptions{Warn: func(err error) {
			if warned++; !fault.HasKey(err, "keeper.spool") {
				t.Error(err)
			}
		}}); err != nil {
			t.Error(err)
		}
		if !bytes.Equal(c.stored(t, name), read(t, c.path(name))) {
			t.Errorf("%s is not in the repo", name)
		}
	}
	if warned == 0 {
		t.Error("nobody was told")
	}
}

// What others have put into the repo's folders is passed over, stays, and is taken for nothing; where it stands in the place of a segment, that is said.
func TestForeignFilesInTheRepoAreTakenForNothing(t *testing.T) {
	t.Parallel()
	c := newWALFolder(t)
	names := c.files(t, wal.Segment, 1)
	wantFault(t, c.push(t, names[0]), "")
	object, err := repo.WALName("main", names[0])
	if err != nil {
		t.Fatal(err)
	}
	folder := filepath.Join(c.root, filepath.Dir(object))
	foreign := []string{filepath.Join(folder, "README.txt"), filepath.Join(folder, names[1]), filepath.Join(folder, names[1]+".gz"), filepath.Join(folder, names[1]+".zst.part"),
		filepath.Join(folder, ".nfs000001"), filepath.Join(folder, "00000001000000000000000b.zst"), filepath.Join(c.root, "main", "wal", names[1]+".zst"),
		filepath.Join(c.root, "main", "stream", "notes.txt"), filepath.Join(c.root, "main", "stream", names[1], "00000000-00001000.zst.bak"), filepath.Join(c.root, "notes.txt")}
	for _, path := range foreign {
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		write(t, path, []byte("somebody else's"))
	}
	target := filepath.Join(t.TempDir(), "RECOVERYXLOG")
	if err := Fetch(t.Context(), c.Settings, names[1], target, FetchOptions{}); ExitCode(err) != ExitNotArchived {
		t.Errorf("what is not there: %v", err)
	}
	if a, err := OpenArchive(t.Context(), c.made(t, c.root), "main"); err != nil || len(a.segments) != 1 {
		t.Errorf("what is there: %v, %v", a.segments, err)
	}
	for _, name := range names {
		wantFault(t, c.push(t, name), "")
		if err := Fetch(t.Context(), c.Settings, name, target, FetchOptions{}); err != nil || !bytes.Equal(read(t, target), read(t, c.path(name))) {
			t.Errorf("%s: %v", name, err)
		}
	}
	r := c.made(t, c.root)
	a, err := OpenArchive(t.Context(), r, "main")
	if err != nil || len(a.segments) != len(names) {
		t.Errorf("%d segments, and not %d: %v", len(a.segments), len(names), err)
	}
	if v, err := Verify(t.Context(), r, "main", VerifyOptions{}); err != nil || !v.Sound() || v.Segments != len(names) || v.Foreign == 0 {
		t.Errorf("%+v %v", v, err)
	}
	if p, err := Prune(t.Context(), r, "main", Retention{}); err != nil || p.Segments != 0 {
		t.Errorf("%+v %v", p, err)
	}
	for _, path := range foreign {
		if string(read(t, path)) != "somebody else's" {
			t.Errorf("%s was changed", path)
		}
	}
	// In the place of a segment: neither overwritten nor taken for it.
	next := c.files(t, wal.Segment, 2)[0]
	if object, err = repo.WALName("main", next); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(c.root, object+".zst")
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	write(t, path, []byte("somebody else's"))
	wantFault(t, c.push(t, next), "repo.damaged")
	if err := Fetch(t.Context(), c.Settings, next, target, FetchOptions{}); ExitCode(err) != ExitStop {
		t.Errorf("recovery would go on without it: %v", err)
	}
	if string(read(t, path)) != "somebody else's" {
		t.Error("it was overwritten")
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	wantFault(t, c.push(t, next), "")
}

// A store that hangs, and then one that does not take the keys any more: PostgreSQL goes on, keeps its WAL, and status says it; the repo that is good has everything
// meanwhile, and when the other is mended it gets what it missed.
func TestWhileAStoreHangsOrRefusesPostgreSQLGoesOnAndStatusSaysIt(t *testing.T) {
	t.Parallel()
	a := newArchived(t, nil, "")
	bucket := inBucket(t)
	second := bucket.open(t, nil)
	a.await(a.house)
	silent, err := net.Listen("tcp", "127.0.0.1:0") // the kernel takes connections, and nobody answers
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	hung, locked := bucket, bucket
	hung.Address = strings.Replace(bucket.Address, repotest.Shared(t).Endpoint, "http://"+silent.Addr().String(), 1)
	locked.SecretKey = "another"
	settings, err := LoadSettings(a.settings)
	if err != nil {
		t.Fatal(err)
	}
	good := settings.Repos[0]
	settings.Timeout = Duration(5 * time.Second) // where that is not enough for the good one, the next try of PostgreSQL does it
	a.exec(`CREATE TABLE kept (n int)`)
	line := &Line{} // who looks again and again does so over one connection
	defer line.Close(t.Context())
	opt := StatusOptions{Name: "main", Cluster: a.Cluster, Server: Server{DSN: a.dsn(cluster.Watcher)}, Line: line}
	var over []uint32 // process ids
	rows, oldest := 0, ""
	for _, c := range []struct {
		what  string
		place Place
	}{
		{"hangs", hung},
		{"wrong keys", locked},
	} {
		settings.Repos = []Place{c.place, good}
		if err := settings.Save(a.settings); err != nil {
			t.Fatal(err)
		}
		a.own()
		a.exec(`SELECT pg_stat_reset_shared('archiver')`, `INSERT INTO kept VALUES (1)`)
		segment := a.ask(`SELECT pg_walfile_name(pg_switch_wal())`)
		waltest.Await(t, c.what+": the archiver to fail", func() bool { return a.ask(`SELECT (failed_count > 0)::text FROM pg_stat_archiver`) == "true" })
		a.exec(`INSERT INTO kept SELECT 1 FROM generate_series(1, 100)`)
		rows += 101
		s := Look(t.Context(), opt)
		over = append(over, line.conn.PgConn().PID())
		if !s.Archive.Failing || s.Archive.Ready == 0 || s.Level != Critical || s.Concerns[0].Fault.Key != "keeper.status_archiver" {
			t.Errorf("%s: %+v", c.what, s)
		}
		if oldest == "" { // which the archiver does not get past
			oldest = segment
		}
		object, err := repo.WALName("main", oldest)
		if err != nil {
			t.Fatal(err)
		}
		waltest.Await(t, c.what+": the good repo to have "+oldest, func() bool { _, _, err := a.r.Head(t.Context(), object); return err == nil })
		if _, _, err := second.Head(t.Context(), object); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v", c.what, err)
		}
		if c.what == "wrong keys" {
			wantFault(t, Push(t.Context(), settings, filepath.Join(a.DataDir(), "pg_wal", segment), PushOptions{}), "repo.wrong_keys")
			if err := Fetch(t.Context(), &Settings{Format: 1, Cluster: "main", Identity: settings.Identity, Repos: []Place{c.place}}, segment, filepath.Join(t.TempDir(), "x"), FetchOptions{}); ExitCode(err) != ExitStop {
				t.Errorf("recovery would end here: %v", err)
			}
		}
	}
	if over[0] != over[1] {
		t.Errorf("two looks made two connections: %v", over)
	}
	a.exec(fmt.Sprintf(`SELECT pg_terminate_backend(%d)`, over[1])) // one that has ended is made anew
	waltest.Await(t, "the status to have its answers", func() bool {
		s := Look(t.Context(), opt)
		return s.PostgreSQL.Answers && line.conn.PgConn().PID() != over[1]
	})
	settings.Repos = []Place{bucket, good}
	settings.Timeout = 0
	if err := settings.Save(a.settings); err != nil {
		t.Fatal(err)
	}
	a.own()
	a.await(a.house)
	if have := a.ask(`SELECT count(*)::text FROM kept`); have != fmt.Sprint(rows) {
		t.Errorf("%s rows, and not %d", have, rows)
	}
	waltest.Await(t, "the status to be well again", func() bool { s := Look(t.Context(), opt); return !s.Archive.Failing && s.Archive.Ready == 0 })
	archive, err := OpenArchive(t.Context(), second, "main")
	if err != nil || len(archive.segments) < 3 {
		t.Errorf("what it missed did not come: %d segments, %v", len(archive.segments), err)
	}

	// What is streamed is kept waiting in the same way, and goes on by itself.
	stream := newStream(t, hung, a.dsn(cluster.Replicator), "")
	stream.Timeout = time.Second
	stream.Repo.Open = func(ctx context.Context) (*repo.Repo, error) {
		return repo.Open(ctx, hung.Address, repo.Options{AccessKey: hung.AccessKey, SecretKey: hung.SecretKey})
	}
	failsWith(t, stream, "keeper.timeout")
	disk := smallDisk(t, 4<<20, 100)
	if _, err := repo.Open(t.Context(), disk, repo.Options{Create: true}); err != nil {
		t.Fatal(err)
	}
	filling := filepath.Join(disk, "filling")
	if err := os.WriteFile(filling, make([]byte, 4<<20), 0o600); !errors.Is(err, unix.ENOSPC) {
		t.Fatal(err)
	}
	stream = newStream(t, Place{Address: disk}, a.dsn(cluster.Replicator), "")
	failsWith(t, stream, "repo.full")
	follow(t, stream)
	a.exec(`INSERT INTO kept VALUES (2)`)
	if err := os.Remove(filling); err != nil {
		t.Fatal(err)
	}
	a.awaitStreamed(stream.Slot)
}

// Success is told only when file and folder are on disk: the file is synced before it has its name, and the folder after.
func TestSuccessIsToldAfterFileAndFolderAreSynced(t *testing.T) {
	t.Parallel()
	strace, err := exec.LookPath("strace")
	if err != nil {
		t.Fatalf("run .ci/deps: %v", err)
	}
	howdah := program(t)
	c := newWALFolder(t)
	settings := filepath.Join(t.TempDir(), "settings.json")
	if err := c.Save(settings); err != nil {
		t.Fatal(err)
	}
	const name = "00000001000000000000000A"
	log := filepath.Join(t.TempDir(), "strace")
	cmd := exec.Command(strace, "-f", "-y", "-o", log, "-e", "trace=fsync,fdatasync,link,linkat,rename,renameat,renameat2,exit_group", howdah, "wal", "push", "--settings", settings, c.path(name))
	if out, err := cmd.CombinedOutput(); err != nil {
		if strings.Contains(string(out), "ptrace") {
			untested.Here(t, "nothing may be traced here (ptrace)")
		}
		t.Fatalf("%v\n%s", err, out)
	}
	object, err := repo.WALName("main", name)
	if err != nil {
		t.Fatal(err)
	}
	folder := regexp.QuoteMeta(filepath.Join(c.root, filepath.Dir(object)))
	file := regexp.MustCompile(`^f(?:data)?sync\(\d+<` + folder + `/\.howdah-[^>]*>`)
	named := regexp.MustCompile(`^(?:link|linkat|rename|renameat|renameat2)\(.*` + regexp.QuoteMeta(name))
	dir := regexp.MustCompile(`^f(?:data)?sync\(\d+<` + folder + `>`)
	begun := map[string]string{} // calls that were interrupted in the log, by thread
	step := 0
	for line := range strings.Lines(string(read(t, log))) {
		thread, call, _ := strings.Cut(strings.TrimSpace(line), " ")
		call = strings.TrimSpace(call)
		if head, ok := strings.CutSuffix(call, "<unfinished ...>"); ok && !strings.HasPrefix(call, "exit_group") {
			begun[thread] = head
			continue
		}
		if strings.HasPrefix(call, "<...") {
			_, rest, _ := strings.Cut(call, "resumed>")
			call = begun[thread] + rest
		}
		switch {
		case step == 0 && file.MatchString(call) && strings.HasSuffix(call, "= 0"), step == 1 && named.MatchString(call) && strings.HasSuffix(call, "= 0"),
			step == 2 && dir.MatchString(call) && strings.HasSuffix(call, "= 0"), step == 3 && strings.HasPrefix(call, "exit_group(0)"):
			step++
		}
	}
	if step != 4 {
		t.Errorf("after step %d it went on in another way:\n%s", step, read(t, log))
	}
}
