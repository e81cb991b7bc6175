package keeper

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"filippo.io/age"
	"github.com/jackc/pgx/v5"

	"howdah/internal/cluster"
	"howdah/internal/fault"
	"howdah/internal/repo"
)

// TestChild plays another process: it does what the variable says, and is killed for it.
func TestChild(t *testing.T) {
	var what struct {
		Repo, Cluster, DSN, Lock, To, Program, Bin, Stream, Recipient string
		Identity, AccessKey, SecretKey                                string
	}
	if json.Unmarshal([]byte(os.Getenv("HOWDAH_TEST_CHILD")), &what) != nil {
		t.Skip("it is for other tests")
	}
	if what.Stream != "" {
		s := newStream(t, Place{Address: what.Repo, AccessKey: what.AccessKey, SecretKey: what.SecretKey}, what.DSN, what.Recipient)
		s.State = what.Stream
		fmt.Println("ready")
		s.Run(t.Context())
		return
	}
	keys, err := repo.NewKeys(nil, what.Identity)
	if err != nil {
		t.Fatal(err)
	}
	r, err := repo.Open(t.Context(), what.Repo, repo.Options{Keys: keys, AccessKey: what.AccessKey, SecretKey: what.SecretKey})
	if err != nil {
		t.Fatal(err)
	}
	fmt.Println("ready")
	if what.To != "" {
		in, err := cluster.Find(t.Context(), what.Bin)
		if err != nil {
			t.Fatal(err)
		}
		p, err := PlanRestore(t.Context(), r, what.Cluster, Target{})
		if err != nil {
			t.Fatal(err)
		}
		_, err = Recover(t.Context(), r, p, RecoverOptions{To: what.To, Program: what.Program, Installation: in,
			Repos: []Place{{Address: what.Repo, AccessKey: what.AccessKey, SecretKey: what.SecretKey}}, IdentityFile: what.Identity, Account: testAccount(t), Clear: true})
		fmt.Println("done", err)
		return
	}
	_, err = TakeBase(t.Context(), r, BaseOptions{Cluster: what.Cluster, DSN: what.DSN, Lock: what.Lock})
	fmt.Println("done", err)
}

// child starts this program again; it has said "ready" when this returns.
func child(t testing.TB, what any) *exec.Cmd {
	t.Helper()
	raw, err := json.Marshal(what)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestChild$", "-test.v")
	cmd.Env = append(os.Environ(), "HOWDAH_TEST_CHILD="+string(raw))
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if lines.Text() == "ready" {
			go func() { _, _ = io.Copy(io.Discard, out) }()
			return cmd
		}
	}
	t.Fatal("the child did not begin")
	return nil
}

// house is a scratch cluster with a connection of its superuser.
type house struct {
	*cluster.Scratch
	t    testing.TB
	conn *pgx.Conn
}

// newHouse has segments of WAL of 1 MiB: every switch to the next one is then a sixteenth of the work, for PostgreSQL as for us. Segments of the usual 16 MiB are in the tests of
// streaming, and wherever the program as a whole is tested.
func newHouse(t testing.TB, settings map[string]string) *house { return newHouseOf(t, 1, settings) }

func newHouseOf(t testing.TB, segment int, settings map[string]string) *house {
	t.Helper()
	s, err := cluster.NewScratch(t.Context(), cluster.ScratchOptions{Settings: settings, Segment: segment})
	if err != nil {
		t.Fatal(err)
	}
	h := &house{Scratch: s, t: t}
	t.Cleanup(func() {
		ctx := context.Background()
		if h.conn != nil {
			_ = h.conn.Close(ctx)
		}
		if err := s.Close(ctx); err != nil {
			t.Error(err)
		}
	})
	h.connect()
	return h
}

func (h *house) connect() {
	h.t.Helper()
	var err error
	if h.conn, err = pgx.Connect(h.t.Context(), h.dsn(cluster.Superuser)); err != nil {
		h.t.Fatal(err)
	}
}

func (h *house) dsn(role string) string {
	h.t.Helper()
	dsn, err := h.DSN(role, "postgres")
	if err != nil {
		h.t.Fatal(err)
	}
	return dsn
}

func (h *house) exec(statements ...string) {
	h.t.Helper()
	for _, sql := range statements {
		if _, err := h.conn.Exec(h.t.Context(), sql); err != nil {
			h.t.Fatalf("%s: %v", sql, err)
		}
	}
}

func (h *house) ask(sql string) (answer string) {
	h.t.Helper()
	if err := h.conn.QueryRow(h.t.Context(), sql).Scan(&answer); err != nil {
		h.t.Fatalf("%s: %v", sql, err)
	}
	return answer
}

func newRepo(t testing.TB, keys *repo.Keys) *repo.Repo {
	t.Helper()
	r, err := repo.Open(t.Context(), t.TempDir(), repo.Options{Create: true, Keys: keys})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// unpack restores a base backup with nothing but zstd and tar (and age, by its library); tablespaces go to tablespaces/OID beside the data directory, which
// it returns.
func unpack(t testing.TB, r *repo.Repo, b *Backup, identity age.Identity) (data string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "howdah-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	data = filepath.Join(dir, "pgdata")
	var tablespaces bytes.Buffer
	for _, part := range b.Tarballs {
		to := data
		if part.Name != "base" {
			to = filepath.Join(dir, "tablespaces", part.Name)
			fmt.Fprintf(&tablespaces, "%s %s\n", part.Name, to)
		}
		if err := os.MkdirAll(to, 0o700); err != nil {
			t.Fatal(err)
		}
		src, err := os.Open(filepath.Join(r.String(), filepath.FromSlash(b.folder()+part.Object)))
		if err != nil {
			t.Fatal(err)
		}
		var in io.Reader = src
		if identity != nil {
			if in, err = age.Decrypt(src, identity); err != nil {
				t.Fatal(err)
			}
		}
		cmd := exec.CommandContext(t.Context(), "sh", "-ec", "zstd -d | tar -x -p -C "+to)
		cmd.Stdin = in
		out, err := cmd.CombinedOutput()
		_ = src.Close()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	if tablespaces.Len() > 0 {
		if err := os.WriteFile(filepath.Join(data, "tablespace_map"), tablespaces.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	manifest := readManifest(t, r, b)
	if err := os.WriteFile(filepath.Join(data, "backup_manifest"), manifest, 0o600); err != nil {
		t.Fatal(err)
	}
	return data
}

func readManifest(t testing.TB, r *repo.Repo, b *Backup) (manifest []byte) {
	t.Helper()
	err := b.readPlain(t.Context(), r, b.Manifest, func(in io.Reader) (err error) {
		manifest, err = io.ReadAll(in)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return manifest
}

// started starts PostgreSQL on a data directory that was restored by hand.
func started(t testing.TB, from *house, data string) *house {
	t.Helper()
	giveTo(t, from, filepath.Dir(data))
	c, err := cluster.New(filepath.Dir(data), from.Installation(), cluster.Options{Account: testAccount(t), Settings: map[string]string{
		"listen_addresses": "", "fsync": "off", "port": "5432"}})
	if err != nil {
		t.Fatal(err)
	}
	copyFile(t, filepath.Join(from.Dir(), "secrets.json"), filepath.Join(filepath.Dir(data), "secrets.json"))
	giveTo(t, from, filepath.Dir(data))
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	h := &house{Scratch: &cluster.Scratch{Cluster: c}, t: t}
	t.Cleanup(func() {
		if h.conn != nil {
			_ = h.conn.Close(context.Background())
		}
		if err := c.Stop(context.Background(), cluster.Immediate); err != nil {
			t.Error(err)
		}
	})
	h.connect()
	return h
}

func testAccount(t testing.TB) *cluster.Account {
	t.Helper()
	if os.Geteuid() != 0 {
		return nil
	}
	a, err := cluster.EnsureAccount(t.Context(), cluster.DefaultAccount)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// giveTo gives a folder and all in it to the account that PostgreSQL runs as.
func giveTo(t testing.TB, _ *house, dir string) {
	t.Helper()
	a := testAccount(t)
	if a == nil {
		return
	}
	err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(path, a.UID, a.GID)
	})
	if err != nil {
		t.Fatal(err)
	}
}

func copyFile(t testing.TB, from, to string) {
	t.Helper()
	raw, err := os.ReadFile(from)
	if err == nil {
		err = os.WriteFile(to, raw, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// objects lists what a repo holds below a folder.
func objects(t testing.TB, r *repo.Repo, folder string) (names []string) {
	t.Helper()
	for info, err := range r.List(t.Context(), folder) {
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, strings.TrimPrefix(info.Name, folder))
	}
	return names
}

// inTablespace makes a tablespace with a table in it.
func (h *house) inTablespace(table string) {
	h.t.Helper()
	place := filepath.Join(h.Dir(), "space of "+table)
	if err := os.Mkdir(place, 0o700); err != nil {
		h.t.Fatal(err)
	}
	giveTo(h.t, h, place)
	h.exec(`CREATE TABLESPACE space_`+table+` LOCATION '`+place+`'`, `CREATE TABLE `+table+` TABLESPACE space_`+table+` AS SELECT i FROM generate_series(1, 10000) i`)
}

func TestABaseBackupIsRestoredByStockTools(t *testing.T) {
	t.Parallel()
	key, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	keys, err := repo.NewKeys([]string{key.Recipient().String()}, "")
	if err != nil {
		t.Fatal(err)
	}
	h := newHouse(t, nil)
	h.inTablespace("elsewhere")
	h.exec(`CREATE TABLE kept AS SELECT i, md5(i::text) AS m FROM generate_series(1, 100000) i`)
	for name, keys := range map[string]*repo.Keys{"plain": nil, "encrypted": keys} {
		var identity age.Identity
		if keys != nil {
			identity = key
		}
		r := newRepo(t, keys)
		var phases []Phase
		var last Progress
		b, err := TakeBase(t.Context(), r, BaseOptions{Cluster: "main", DSN: h.dsn(cluster.Replicator), Label: "it's a test", Rate: 1 << 30, Progress: func(p Progress) {
			last, phases = p, append(phases, p.Phase)
		}})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if last.Total < 20<<20 || phases[0] != PhaseCheckpoint || !slices.Contains(phases, PhaseFiles) || last.ID != b.ID {
			t.Errorf("%s: progress %v %+v", name, phases, last)
		}
		if !b.Good() || b.Timeline != 1 || b.Stop <= b.Start || b.WAL != WALIncluded || !b.Checksums || b.Encrypted != (keys != nil) || len(b.Tarballs) != 2 {
			t.Errorf("%s: %+v", name, b)
		}
		if whole, unfinished, err := Backups(t.Context(), r, "main"); err != nil || len(whole) != 1 || whole[0].ID != b.ID || len(unfinished) != 0 {
			t.Errorf("%s: %v %v %v", name, whole, unfinished, err)
		}
		for _, part := range append([]BaseObject{b.Index, b.Manifest}, b.Tarballs[0].BaseObject, b.Tarballs[1].BaseObject) {
			raw, err := os.ReadFile(filepath.Join(r.String(), filepath.FromSlash(b.folder()+part.Object)))
			if err != nil || sha256.Sum256(raw) != part.SHA256 || int64(len(raw)) != part.Stored {
				t.Errorf("%s: %s: %v, or its hash is another", name, part.Object, err)
			}
		}
		data := unpack(t, r, b, identity)
		oid := h.ask(`SELECT oid::text FROM pg_tablespace WHERE spcname = 'space_elsewhere'`)
		if err := os.Symlink(filepath.Join(filepath.Dir(data), "tablespaces", oid), filepath.Join(data, "pg_tblspc", oid)); err != nil {
			t.Fatal(err)
		}
		if out, err := execute(t, h.Installation().Program("pg_verifybackup"), "-i", "tablespace_map", "-n", data); err != nil {
			t.Errorf("%s: pg_verifybackup: %v %s", name, err, out)
		}
		again := started(t, h, data)
		if n := again.ask(`SELECT (SELECT count(*) FROM kept) || ' ' || (SELECT count(*) FROM elsewhere)`); n != "100000 10000" {
			t.Errorf("%s: %s", name, n)
		}
		if place := again.ask(`SELECT pg_tablespace_location(oid) FROM pg_tablespace WHERE spcname = 'space_elsewhere'`); strings.HasPrefix(place, h.Dir()) {
			t.Errorf("%s: the tablespace lies at %s", name, place)
		}
	}
}

func TestAPageThatTheDiskHasChangedIsFoundByTheBackup(t *testing.T) {
	t.Parallel()
	h := newHouse(t, nil)
	h.exec(`CREATE TABLE kept AS SELECT i, repeat('x', 300) AS filling FROM generate_series(1, 100000) i`, `CREATE INDEX ON kept (i)`, `VACUUM (FREEZE) kept`, `CREATE TABLE fine AS SELECT 1`, `CHECKPOINT`)
	file := h.ask(`SELECT pg_relation_filepath('kept')`)
	f, err := os.OpenFile(filepath.Join(h.DataDir(), file), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, block := range []int64{1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013} { // PostgreSQL names the first five
		if _, err := f.WriteAt([]byte("rot"), block*8192+4000); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	r := newRepo(t, nil)
	b, err := TakeBase(t.Context(), r, BaseOptions{Cluster: "main", DSN: h.dsn(cluster.Replicator)})
	if !fault.HasKey(err, "keeper.pages_damaged") || b == nil {
		t.Fatalf("%v, %v", b, err)
	}
	if len(b.Damaged) != 1 || b.Damaged[0].File != file || !slices.Equal(b.Damaged[0].Blocks, []uint32{1003, 1007, 1008, 1009, 1010}) || b.Good() {
		t.Errorf("%+v, want %s", b.Damaged, file)
	}
	if named, _ := fault.Of(err).Args["files"].(string); named != file {
		t.Errorf("the fault names %q", named)
	}
	whole, _, err := Backups(t.Context(), r, "main")
	if err != nil || len(whole) != 1 || whole[0].Good() {
		t.Errorf("%v, %v", whole, err)
	}
	// A drill that counts the rows reads them: an index would tell how many there are as well.
	_ = h.conn.Close(t.Context())
	if err := errors.Join(h.Stop(t.Context(), cluster.Fast), h.Start(t.Context())); err != nil { // nothing of it is in memory then
		t.Fatal(err)
	}
	h.connect()
	e := &Exercise{}
	c, err := e.count(t.Context(), Server{DSN: h.dsn(cluster.Superuser)}, "postgres")
	if err != nil || len(e.Problems) != 1 || !strings.Contains(e.Problems[0], "kept") || c.Tables != 1 {
		t.Errorf("%+v, %q, %v", c, e.Problems, err)
	}
	// The table is dropped, and the next backup is good.
	h.exec(`DROP TABLE kept`, `CHECKPOINT`)
	if b, err = TakeBase(t.Context(), r, BaseOptions{Cluster: "main", DSN: h.dsn(cluster.Replicator)}); err != nil || !b.Good() {
		t.Errorf("%+v, %v", b, err)
	}
}

// await waits until something is so.
func await(t testing.TB, what string, so func() bool) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.After(5 * time.Minute); !so(); { // on a machine that is ten times slower too
		select {
		case <-deadline:
			t.Fatalf("waited in vain until %s", what)
		case <-tick.C:
		}
	}
}

// quiet waits until no backup runs on the server, and tells what is left of one.
func (h *house) quiet() {
	h.t.Helper()
	const left = `SELECT count(*)::text FROM pg_stat_activity WHERE backend_type = 'walsender'`
	await(h.t, "no backup session is left on the server", func() bool { return h.ask(left) == "0" })
	if slots := h.ask(`SELECT count(*)::text FROM pg_replication_slots`); slots != "0" {
		h.t.Errorf("%s slots stay on the server", slots)
	}
}

func TestAKilledBackupIsNoneAndTheNextRunCleansUp(t *testing.T) {
	t.Parallel()
	h := newHouse(t, nil)
	h.exec(`CREATE TABLE kept AS SELECT i, md5(i::text) FROM generate_series(1, 400000) i`)
	r := newRepo(t, nil)
	lock := filepath.Join(t.TempDir(), "lock")
	what := map[string]string{"Repo": r.String(), "Cluster": "main", "DSN": h.dsn(cluster.Replicator), "Lock": lock}
	random := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 1))
	for round := range 6 {
		cmd := child(t, what)
		pause := time.NewTimer(time.Duration(random.Int64N(int64(700 * time.Millisecond))))
		<-pause.C
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait()
		whole, unfinished, err := Backups(t.Context(), r, "main")
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("round %d: %d whole, %d not", round, len(whole), len(unfinished))
		h.quiet()
		for _, b := range whole {
			if err := b.verify(t.Context(), r); err != nil {
				t.Errorf("%s: %v", b.ID, err)
			}
		}
	}
	// One that was killed when it had made no more than its folder; and somebody else's.
	foreign := filepath.Join(r.String(), "main", "base", "notes")
	if err := errors.Join(os.MkdirAll(filepath.Join(r.String(), "main", "base", "20261122T030000Z"), 0o700), os.MkdirAll(foreign, 0o700)); err != nil {
		t.Fatal(err)
	}
	b, err := TakeBase(t.Context(), r, BaseOptions{Cluster: "main", DSN: h.dsn(cluster.Replicator), Lock: lock})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(foreign); err != nil {
		t.Error(err)
	}
	whole, unfinished, err := Backups(t.Context(), r, "main")
	// Not always the last: a name that is taken makes the next one a second ahead of the clock.
	if err != nil || len(unfinished) > 0 || !slices.ContainsFunc(whole, func(w *Backup) bool { return w.ID == b.ID }) {
		t.Errorf("%v %v %v", whole, unfinished, err)
	}
	err = filepath.WalkDir(r.String(), func(path string, e fs.DirEntry, err error) error {
		if err == nil && strings.HasPrefix(e.Name(), ".") {
			t.Errorf("%s is left over", path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// verify reads everything.
func (b *Backup) verify(ctx context.Context, r *repo.Repo) error {
	index, err := b.ReadIndex(ctx, r)
	if err != nil {
		return err
	}
	for i, tarball := range index.Tarballs {
		packed, err := r.Packed(ctx, b.folder()+b.Tarballs[i].Object)
		if err == nil {
			err = tarball.Verify(ctx, packed.Range, 0, nil)
		}
		if err != nil {
			return err
		}
	}
	return b.readPlain(ctx, r, b.Manifest, func(in io.Reader) error {
		_, err := io.Copy(io.Discard, in)
		return err
	})
}

func TestABackupThatIsInterruptedLeavesNothing(t *testing.T) {
	t.Parallel()
	h := newHouse(t, nil)
	r := newRepo(t, nil)
	for _, phase := range []Phase{PhaseCheckpoint, PhaseFiles, PhaseWAL} {
		ctx, cancel := context.WithCancel(t.Context())
		options := BaseOptions{Cluster: "main", DSN: h.dsn(cluster.Replicator), WithWAL: WALArchive, Progress: func(p Progress) {
			if p.Phase == phase {
				cancel()
			}
		}}
		b, err := TakeBase(ctx, r, options)
		cancel()
		if err == nil || b != nil {
			t.Errorf("%s: %v, %v", phase, b, err)
		}
		h.quiet()
		if left := objects(t, r, "main/base/"); len(left) > 0 {
			t.Errorf("%s: %v", phase, left)
		}
	}
	options := BaseOptions{Cluster: "main", DSN: h.dsn(cluster.Replicator), WithWAL: WALArchive, Patience: time.Nanosecond}
	if _, err := TakeBase(t.Context(), r, options); !fault.HasKey(err, "keeper.wal_not_archived") {
		t.Error(err)
	}
	if left := objects(t, r, "main/base/"); len(left) > 0 {
		t.Error(left)
	}
}

func TestBackupsDoNotOverlap(t *testing.T) {
	t.Parallel()
	h := newHouse(t, nil)
	r := newRepo(t, nil)
	lock := filepath.Join(t.TempDir(), "lock")
	var inner error
	var other string
	options := BaseOptions{Cluster: "main", DSN: h.dsn(cluster.Replicator), Lock: lock}
	outer := options
	outer.Progress = func(p Progress) {
		if p.Phase == PhaseFiles && inner == nil {
			_, inner = TakeBase(t.Context(), r, options)
			raw, err := json.Marshal(map[string]string{"Repo": r.String(), "Cluster": "main", "DSN": options.DSN, "Lock": lock})
			if err != nil {
				t.Error(err)
			}
			cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestChild$", "-test.v")
			cmd.Env = append(os.Environ(), "HOWDAH_TEST_CHILD="+string(raw))
			said, err := cmd.CombinedOutput()
			if other = string(said); err != nil {
				t.Error(err)
			}
		}
	}
	if _, err := TakeBase(t.Context(), r, outer); err != nil {
		t.Fatal(err)
	}
	if !fault.HasKey(inner, "keeper.backup_runs") {
		t.Error(inner)
	}
	if !strings.Contains(other, "done conflict: keeper.backup_runs") {
		t.Errorf("another process: %s", other)
	}
}

func TestWhatKeepsABackupFromBeginningIsNamed(t *testing.T) {
	t.Parallel()
	h := newHouse(t, map[string]string{"max_wal_senders": "4"})
	r := newRepo(t, nil)
	h.exec(`CREATE ROLE nobody LOGIN PASSWORD 'x'`, `CREATE ROLE wrong LOGIN REPLICATION PASSWORD 'x'`)
	hba := filepath.Join(h.DataDir(), "pg_hba.conf")
	raw, err := os.ReadFile(hba)
	if err == nil {
		err = os.WriteFile(hba, append(raw, "\nlocal replication nobody,wrong trust\n"...), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	h.exec(`SELECT pg_reload_conf()`)
	good := h.dsn(cluster.Replicator)
	as := func(role string) string {
		return strings.Replace(good, "user='replicator'", "user='"+role+"'", 1)
	}
	at := strings.Index(good, "password=")
	for dsn, key := range map[string]string{
		"nonsense": "keeper.server_address", "host=/nowhere user=x": "keeper.server", good[:at] + "password='no' sslmode=disable": "keeper.password",
		as("howdah_watch"): "keeper.pg_hba", as("nobody"): "keeper.no_replication",
	} {
		if _, err := TakeBase(t.Context(), r, BaseOptions{Cluster: "main", DSN: dsn}); !fault.HasKey(err, key) {
			t.Errorf("%s: %v", key, err)
		}
	}
	if err := r.Bind(t.Context(), repo.Cluster{Name: "other", System: 1, Major: 15, SegmentSize: 16 << 20}); err != nil {
		t.Fatal(err)
	}
	if _, err := TakeBase(t.Context(), r, BaseOptions{Cluster: "other", DSN: good}); !fault.HasKey(err, "repo.other_cluster") {
		t.Error(err)
	}
	if h.Installation().Version.Major < 17 {
		if _, err := TakeBase(t.Context(), r, BaseOptions{Cluster: "main", DSN: good, Parent: "20261122T030000Z"}); !fault.HasKey(err, "keeper.no_increments") {
			t.Error(err)
		}
	}
	// Its own increment would come before it in the order of IDs.
	if _, err := TakeBase(t.Context(), r, BaseOptions{Cluster: "main", DSN: good, Parent: "29991122T030000Z"}); !fault.HasKey(err, "keeper.parent_unfit") {
		t.Error(err)
	}
	// Somebody takes it for the leftovers of a dead process, since a clock has jumped.
	robbed := r.Through(func(s repo.Store) repo.Store { return &thief{s} })
	if _, err := TakeBase(t.Context(), robbed, BaseOptions{Cluster: "main", DSN: good, WithWAL: WALIncluded}); !fault.HasKey(err, "repo.missing") {
		t.Error(err)
	}
	for range 5 {
		held, err := connect(t.Context(), good, "howdah backup")
		if err != nil {
			break
		}
		defer held.close(t.Context())
	}
	if _, err := TakeBase(t.Context(), r, BaseOptions{Cluster: "main", DSN: good}); !fault.HasKey(err, "keeper.no_wal_sender") {
		t.Error(err)
	}
	if left := objects(t, r, "main/base/"); len(left) > 0 {
		t.Error(left)
	}
}

// thief removes the tarballs of a base backup when its index is begun.
type thief struct{ repo.Store }

func (s *thief) Create(ctx context.Context, name string) (repo.Object, error) {
	if folder, ok := strings.CutSuffix(name, indexName); ok {
		if err := s.Remove(ctx, folder+"base.tar.zst"); err != nil {
			return nil, err
		}
	}
	return s.Store.Create(ctx, name)
}
