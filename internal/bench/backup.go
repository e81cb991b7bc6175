package bench

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"howdah/internal/cluster"
	"howdah/internal/fault"
	"howdah/internal/keeper"
	"howdah/internal/pg"
	"howdah/internal/repo"
)

// BackupOptions of the bench of base backups.
type BackupOptions struct {
	Dir    string // where cluster, repos and what is restored are put, on a real disk; "" is a fitting place
	Size   int64  // bytes of the cluster, about
	Rounds int
	Say    func(key string, args ...fault.Args) // told what is being done; may be nil
}

// FullBackup is the bench as its figures are published; BriefBackup only shows that everything works.
var (
	FullBackup  = BackupOptions{Size: 3 << 30, Rounds: 3}
	BriefBackup = BackupOptions{Size: 40 << 20, Rounds: 1}
)

// backupBench is one run.
type backupBench struct {
	BackupOptions
	dir     string
	scratch *cluster.Scratch
	probe   probe
	report  *Report
	env     []string // that programs find the server by
	ways    []*backupWay

	verified, hashed []float64 // seconds, by round
}

// backupWay is one of those that are compared.
type backupWay struct {
	name    string
	backup  func(ctx context.Context, to string) error
	restore func(ctx context.Context, from, to string) error

	took, cpu, restored, restoredCPU []float64 // seconds, by round
	size                             float64   // MB
}

// Backup measures base backups and their restores beside pg_basebackup (tar, zstd at level 3 in two threads on the client) and pgBackRest (zstd 3, two processes),
// where it is installed: half of the cluster is rows as pgbench makes them, half is what people write. What is compared is measured in the same rounds, in turn.
// A restore here is that of the files, on disk at the end; the WAL that follows is the same for all.
func Backup(ctx context.Context, options BackupOptions) (*Report, error) {
	b := &backupBench{BackupOptions: options, report: newReport()}
	b.Say = listened(b.Say)
	err := inFolder(ctx, b.Dir, func(dir string) (err error) {
		b.dir = dir
		defer func() {
			if b.scratch != nil {
				err = errors.Join(err, b.scratch.Close(context.WithoutCancel(ctx)))
			}
		}()
		b.Say("bench.say.backup_fill", fault.Args{"n": b.Size >> 20})
		if err := b.fill(ctx); err != nil {
			return err
		}
		return b.contest(ctx)
	})
	if err != nil {
		return nil, err
	}
	b.figures()
	return b.report, nil
}

// fill makes a cluster of about the size.
func (b *backupBench) fill(ctx context.Context) error {
	var err error
	b.scratch, err = cluster.NewScratch(ctx, cluster.ScratchOptions{Parent: b.dir, Settings: map[string]string{
		"max_wal_size": "8GB", "shared_buffers": "256MB", "autovacuum": "off", "pgaudit.log": "none", "wal_level": "replica"}})
	if err != nil {
		return err
	}
	conn, err := superuser(ctx, b.scratch.Cluster, "postgres")
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	if err := conn.QueryRow(ctx, `SELECT current_setting('server_version')`).Scan(&b.report.Versions.Postgres); err != nil {
		return pg.Fault(err)
	}
	if b.probe, err = newProbe(ctx, 0, conn); err != nil {
		return err
	}
	in := conn.Config()
	replicator, err := b.scratch.DSN(cluster.Replicator, "postgres")
	if err != nil {
		return err
	}
	b.env = append(environment(), "PGHOST="+in.Host, "PGPORT="+strconv.Itoa(int(in.Port)), "PGUSER="+cluster.Superuser, "PGPASSWORD="+in.Password, "LC_ALL=C",
		"REPLICATOR="+replicator)
	for _, statement := range []string{
		`CREATE TABLE account (id int, branch int, balance int, filler char(84))`,
		`CREATE TABLE message (id bigint GENERATED ALWAYS AS IDENTITY, room int, author int, at timestamptz, body text)`,
		// 121 bytes of heap and 22 of index per row.
		fmt.Sprintf(`INSERT INTO account SELECT i, i / 100000, 0, '' FROM generate_series(1, %d) i`, b.Size/2/150),
		`ALTER TABLE account ADD PRIMARY KEY (id)`,
	} {
		if _, err := conn.Exec(ctx, statement); err != nil {
			return pg.Fault(err)
		}
	}
	if err := b.write(ctx, in.ConnString()); err != nil {
		return err
	}
	for _, statement := range []string{`ALTER TABLE message ADD PRIMARY KEY (id)`, `VACUUM`, `CHECKPOINT`} {
		if _, err := conn.Exec(ctx, statement); err != nil {
			return pg.Fault(err)
		}
	}
	return nil
}

// write fills the other half with what people write.
func (b *backupBench) write(ctx context.Context, dsn string) error {
	const writers = 2
	var done sync.WaitGroup
	failed := make(chan error, writers)
	for n := range writers {
		done.Go(func() {
			conn, err := pgx.Connect(ctx, dsn)
			if err != nil {
				failed <- pg.Fault(err)
				return
			}
			defer conn.Close(ctx)
			w := newWriter(uint64(n) + 1)
			left := b.Size / 2 / writers
			at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
			_, err = conn.CopyFrom(ctx, pgx.Identifier{"message"}, []string{"room", "author", "at", "body"}, pgx.CopyFromFunc(func() ([]any, error) {
				if left <= 0 {
					return nil, nil
				}
				body := w.message(w.rng.IntN(3) == 0)
				left -= int64(len(body)) + 75 // header, columns, index
				at = at.Add(time.Duration(w.rng.IntN(5000)) * time.Millisecond)
				return []any{int32(w.zipf(50)), int32(w.zipf(500)), at, body}, nil
			}))
			failed <- pg.Fault(err)
		})
	}
	done.Wait()
	close(failed)
	for err := range failed {
		if err != nil {
			return err
		}
	}
	return nil
}

// run runs a program as a person would.
func (b *backupBench) run(ctx context.Context, args ...string) error {
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Dir, cmd.Env = b.dir, b.env
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}

func (b *backupBench) contest(ctx context.Context) error {
	b.ways = []*backupWay{b.howdah(), b.basebackup()}
	if program, err := exec.LookPath("pgbackrest"); err == nil {
		b.ways = append(b.ways, b.backrest(program))
	} else {
		b.Say("bench.say.no_pgbackrest")
	}
	for round := range b.Rounds {
		b.Say("bench.say.round", fault.Args{"round": round + 1})
		for i := range b.ways { // each is first as often as the others
			way := b.ways[(i+round)%len(b.ways)]
			if err := b.once(ctx, way); err != nil {
				return err
			}
		}
	}
	return nil
}

// once backs up and restores in one way.
func (b *backupBench) once(ctx context.Context, way *backupWay) error {
	kept, back := filepath.Join(b.dir, "kept"), filepath.Join(b.dir, "back")
	for _, dir := range []string{kept, back} {
		if err := os.RemoveAll(dir); err != nil {
			return err
		}
		if err := os.Mkdir(dir, 0o700); err != nil {
			return err
		}
	}
	// For some seconds ext4 looks for numbers that it has not given away lately whenever a file is made (recently_deleted in fs/ext4/ialloc.c): whoever comes
	// after a removal would pay for it.
	settle()
	if b.Size >= FullBackup.Size/10 {
		if err := pause(ctx, 6*time.Second); err != nil {
			return err
		}
	}
	took, cpu, err := b.timed(func() error { return way.backup(ctx, kept) })
	if err != nil {
		return err
	}
	way.took, way.cpu = append(way.took, took), append(way.cpu, cpu)
	if way.size, err = megabytes(kept); err != nil {
		return err
	}
	if way == b.ways[0] {
		if err := b.verify(ctx, kept); err != nil {
			return err
		}
	}
	if took, cpu, err = b.timed(func() error { return way.restore(ctx, kept, back) }); err != nil {
		return err
	}
	way.restored, way.restoredCPU = append(way.restored, took), append(way.restoredCPU, cpu)
	for _, name := range []string{"PG_VERSION", "global/pg_control"} {
		if _, err := os.Stat(filepath.Join(back, name)); err != nil {
			return fmt.Errorf("%s restored nothing: %w", way.name, err)
		}
	}
	return errors.Join(os.RemoveAll(kept), os.RemoveAll(back))
}

// verify measures how long our own backup takes to verify, and how long one core takes to hash as many bytes as it read.
func (b *backupBench) verify(ctx context.Context, kept string) error {
	r, err := repo.Open(ctx, kept, repo.Options{})
	if err != nil {
		return err
	}
	var v *keeper.Verification
	took, _, err := b.timed(func() (err error) {
		v, err = keeper.Verify(ctx, r, "bench", keeper.VerifyOptions{})
		if err == nil && !v.Sound() {
			err = fmt.Errorf("the backup is not sound: %+v", v.Findings)
		}
		return err
	})
	if err != nil {
		return err
	}
	block := make([]byte, 1<<20)
	began := time.Now()
	for left := v.Bytes; left > 0; left -= int64(len(block)) {
		sum := sha256.Sum256(block)
		block[0] = sum[0]
	}
	b.verified, b.hashed = append(b.verified, took), append(b.hashed, time.Since(began).Seconds())
	return nil
}

// timed measures how long something takes, and the seconds of CPU that it takes here, in the programs that it starts, and in PostgreSQL.
func (b *backupBench) timed(do func() error) (took, cpu float64, err error) {
	settle() // what others have written before is not ours to wait for
	before, children := b.probe.now(), waitedFor()
	began := time.Now()
	err = do()
	took = time.Since(began).Seconds()
	used := b.probe.now().minus(before)
	return took, (used.load + used.postgres + waitedFor() - children).Seconds(), err
}

func megabytes(dir string) (float64, error) {
	var n int64
	err := filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		st, err := e.Info()
		if err == nil {
			n += st.Size()
		}
		return err
	})
	return float64(n) / 1e6, err
}

func (b *backupBench) dsn() string {
	for _, pair := range b.env {
		if value, ok := strings.CutPrefix(pair, "REPLICATOR="); ok {
			return value
		}
	}
	return ""
}

// howdah is our own way, in this process.
func (b *backupBench) howdah() *backupWay {
	return &backupWay{name: "howdah",
		backup: func(ctx context.Context, to string) error {
			r, err := repo.Open(ctx, to, repo.Options{Create: true})
			if err == nil {
				_, err = keeper.TakeBase(ctx, r, keeper.BaseOptions{Cluster: "bench", DSN: b.dsn(), WithWAL: keeper.WALIncluded})
			}
			return err
		},
		restore: func(ctx context.Context, from, to string) error {
			r, err := repo.Open(ctx, from, repo.Options{})
			if err != nil {
				return err
			}
			all, _, err := keeper.Backups(ctx, r, "bench")
			if err != nil {
				return err
			}
			return keeper.Unpack(ctx, r, all[len(all)-1], keeper.UnpackOptions{Data: to, Sync: true})
		}}
}

// basebackup is PostgreSQL's own tool; its tars are unpacked by zstd and tar.
func (b *backupBench) basebackup() *backupWay {
	program := b.scratch.Installation().Program("pg_basebackup")
	return &backupWay{name: "pg_basebackup",
		backup: func(ctx context.Context, to string) error {
			return b.run(ctx, program, "-d", b.dsn(), "-D", to, "-Ft", "-Xfetch", "--checkpoint=fast", "--compress=client-zstd:level=3,workers=2")
		},
		restore: func(ctx context.Context, from, to string) error {
			if err := b.run(ctx, "sh", "-ec", `zstd -q -d -c "$0" | tar -x -C "$1"`, filepath.Join(from, "base.tar.zst"), to); err != nil {
				return err
			}
			settle()
			return nil
		}}
}

// backrest is pgBackRest, with WAL archiving left out.
func (b *backupBench) backrest(program string) *backupWay {
	common := func(repo, data string) []string {
		return []string{program, "--stanza=bench", "--repo1-path=" + repo, "--pg1-path=" + data, "--lock-path=" + filepath.Join(b.dir, "lock"), "--log-path=" + b.dir,
			"--log-level-file=off", "--log-level-console=warn", "--process-max=2", "--compress-type=zst", "--compress-level=3"}
	}
	online := func() []string {
		host, port := "", ""
		for _, pair := range b.env {
			if value, ok := strings.CutPrefix(pair, "PGHOST="); ok {
				host = value
			} else if value, ok := strings.CutPrefix(pair, "PGPORT="); ok {
				port = value
			}
		}
		return []string{"--pg1-socket-path=" + host, "--pg1-port=" + port, "--pg1-user=" + cluster.Superuser}
	}
	return &backupWay{name: "pgbackrest",
		backup: func(ctx context.Context, to string) error {
			args := append(common(to, b.scratch.DataDir()), online()...)
			if err := b.run(ctx, slices.Concat(args[:1], withoutBackupOptions(args[1:]), []string{"stanza-create"})...); err != nil {
				return err
			}
			return b.run(ctx, slices.Concat(args, []string{"--start-fast", "--no-archive-check", "--type=full", "--repo1-retention-full=1", "backup"})...)
		},
		restore: func(ctx context.Context, from, to string) error {
			return b.run(ctx, append(withoutBackupOptions(common(from, to)), "--process-max=2", "restore")...)
		}}
}

// withoutBackupOptions leaves out what only backups understand.
func withoutBackupOptions(args []string) []string {
	return slices.DeleteFunc(slices.Clone(args), func(arg string) bool {
		return strings.HasPrefix(arg, "--compress-") || strings.HasPrefix(arg, "--process-max")
	})
}

// figures sets ours beside each of the others, and beside the faster of them in each round.
func (b *backupBench) figures() {
	ours := b.ways[0]
	per := func(a, b []float64) (ratios []float64) {
		for i := range a {
			ratios = append(ratios, a[i]/b[i])
		}
		return ratios
	}
	best := func(of func(*backupWay) []float64) []float64 {
		var least []float64
		for i := range of(ours) {
			value := of(b.ways[1])[i]
			for _, way := range b.ways[2:] {
				value = min(value, of(way)[i])
			}
			least = append(least, value)
		}
		return least
	}
	took := func(w *backupWay) []float64 { return w.took }
	restored := func(w *backupWay) []float64 { return w.restored }
	add := func(name string, value float64, unit string, baseline, ratios []float64, aim float64) {
		f := Figure{Name: name, Value: value, Unit: unit}.against(median(baseline), ratios)
		if aim > 0 {
			f = f.ratioAtMost(aim)
		}
		b.report.add(f)
	}
	smallest := b.ways[1].size
	for _, way := range b.ways[2:] {
		smallest = min(smallest, way.size)
	}
	add("backup_best", median(ours.took), "s", best(took), per(ours.took, best(took)), 1)
	add("restore_best", median(ours.restored), "s", best(restored), per(ours.restored, best(restored)), 1)
	add("backup_size", ours.size, "MB", []float64{smallest}, []float64{ours.size / smallest}, 1.03)
	add("verify", median(b.verified), "s", b.hashed, per(b.verified, b.hashed), 1)
	for _, way := range b.ways[1:] {
		add("backup_"+way.name, median(ours.took), "s", way.took, per(ours.took, way.took), 0)
		add("backup_cpu_"+way.name, median(ours.cpu), "s", way.cpu, per(ours.cpu, way.cpu), 0)
		add("backup_size_"+way.name, ours.size, "MB", []float64{way.size}, []float64{ours.size / way.size}, 0)
		add("restore_"+way.name, median(ours.restored), "s", way.restored, per(ours.restored, way.restored), 0)
		add("restore_cpu_"+way.name, median(ours.restoredCPU), "s", way.restoredCPU, per(ours.restoredCPU, way.restoredCPU), 0)
	}
}
