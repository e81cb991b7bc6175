package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"howdah/internal/cluster"
	"howdah/internal/fault"
	"howdah/internal/keeper"
	"howdah/internal/pg"
	"howdah/internal/repo"
	"howdah/internal/wal"
)

// WALOptions of the WAL bench.
type WALOptions struct {
	Program string // the binary that archive_command would call
	Dir     string // where the segments and repos are put, on a real disk; "" is a fitting place

	Rounds  int
	Backlog int // segments that wait, and that are fetched in a run
	Single  int // segments that are pushed one by one

	Say func(key string, args ...fault.Args) // told what is being done; may be nil
}

// FullWAL is the bench as its figures are published; BriefWAL only shows that everything works.
var (
	FullWAL  = WALOptions{Rounds: 3, Backlog: 200, Single: 32}
	BriefWAL = WALOptions{Rounds: 1, Backlog: 6, Single: 3}
)

// walBench is one run.
type walBench struct {
	WALOptions
	dir        string // all is below it
	data       string // of the cluster that wrote the segments; nothing runs on it any more
	names      []string
	id         wal.Identity
	pgbackrest string // "" where it is not installed
	report     *Report
}

// WAL measures what archive_command and restore_command cost, as processes, as PostgreSQL calls them, beside what everybody has: copying with and without zstd,
// and pgBackRest with two processes where it is installed. All that is compared is measured in the same rounds, in turn.
func WAL(ctx context.Context, options WALOptions) (*Report, error) {
	b := &walBench{WALOptions: options, report: newReport()}
	b.Say = listened(b.Say)
	var err error
	if b.pgbackrest, err = exec.LookPath("pgbackrest"); err != nil {
		b.Say("bench.say.no_pgbackrest")
	}
	err = inFolder(ctx, b.Dir, func(dir string) error {
		b.dir = dir
		b.Say("bench.say.wal_fill", fault.Args{"n": b.Backlog})
		for _, part := range []func(context.Context) error{b.fill, b.noted, b.single, b.backlog} {
			if err := part(ctx); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return b.report, nil
}

// fill makes segments of the kind that pgbench writes: rows of accounts changed here and there, a history that grows, checkpoints in between.
func (b *walBench) fill(ctx context.Context) (err error) {
	s, err := cluster.NewScratch(ctx, cluster.ScratchOptions{Parent: b.dir, Settings: map[string]string{
		"max_wal_size": "1GB", "wal_keep_size": "64GB", "shared_buffers": "256MB", "autovacuum": "off", "pgaudit.log": "none"}})
	if err != nil {
		return err
	}
	closed := false
	defer func() {
		if !closed {
			err = errors.Join(err, s.Close(context.WithoutCancel(ctx)))
		}
	}()
	conn, err := superuser(ctx, s.Cluster, "postgres")
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	var system string
	if err := conn.QueryRow(ctx, `SELECT system_identifier::text, current_setting('server_version') FROM pg_control_system()`).Scan(&system, &b.report.Versions.Postgres); err != nil {
		return pg.Fault(err)
	}
	b.id = wal.Identity{Major: s.Installation().Version.Major, SegmentSize: wal.DefaultSegmentSize}
	if b.id.System, err = strconv.ParseUint(system, 10, 64); err != nil {
		return err
	}
	rows := min(3_000_000, b.Backlog*50_000)
	for _, statement := range []string{
		`CREATE TABLE account (id int PRIMARY KEY, branch int, balance int, filler char(84))`,
		`CREATE TABLE history (teller int, branch int, account int, delta int, at timestamptz, filler char(22))`,
		fmt.Sprintf(`INSERT INTO account SELECT i, i / 100000, 0, '' FROM generate_series(1, %d) i`, rows),
		`CHECKPOINT`, `SELECT pg_switch_wal()`,
	} {
		if _, err := conn.Exec(ctx, statement); err != nil {
			return pg.Fault(err)
		}
	}
	change := fmt.Sprintf(`DO $$ BEGIN FOR i IN 1..200 LOOP
		WITH one AS (UPDATE account SET balance = balance + 1 WHERE id = ANY (ARRAY(SELECT 1 + (random() * (%d - 1))::int FROM generate_series(1, 50))) RETURNING id, branch)
		INSERT INTO history SELECT branch * 10, branch, id, 1, clock_timestamp(), '' FROM one; COMMIT; END LOOP; END $$`, rows)
	data := filepath.Join(s.DataDir(), "pg_wal")
	var first string
	if err := conn.QueryRow(ctx, `SELECT pg_walfile_name(pg_current_wal_lsn())`).Scan(&first); err != nil {
		return pg.Fault(err)
	}
	for len(b.names) < max(b.Backlog, b.Single)+1 {
		if _, err := conn.Exec(ctx, change); err != nil {
			return pg.Fault(err)
		}
		var now string
		if err := conn.QueryRow(ctx, `SELECT pg_walfile_name(pg_current_wal_lsn())`).Scan(&now); err != nil {
			return pg.Fault(err)
		}
		entries, err := os.ReadDir(data)
		if err != nil {
			return err
		}
		b.names = b.names[:0]
		for _, e := range entries {
			if n, err := wal.ParseName(e.Name()); err == nil && n.Kind == wal.Segment && e.Name() > first && e.Name() < now {
				b.names = append(b.names, e.Name())
			}
		}
	}
	b.names = b.names[:max(b.Backlog, b.Single)]
	if err := conn.Close(ctx); err != nil {
		return err
	}
	if err := s.Stop(ctx, cluster.Fast); err != nil {
		return err
	}
	// What is needed of it is kept, on the disk and not in memory alone.
	b.data = filepath.Join(b.dir, "data")
	for _, file := range []string{"PG_VERSION", "global/pg_control"} {
		if err := copyDurably(filepath.Join(s.DataDir(), file), filepath.Join(b.data, file)); err != nil {
			return err
		}
	}
	for _, name := range b.names {
		if err := copyDurably(filepath.Join(data, name), filepath.Join(b.dir, "segments", name)); err != nil {
			return err
		}
	}
	closed = true
	return s.Close(ctx)
}

// copyDurably is the least that an archive_command must do: copy, fsync, rename, fsync of the folder.
func copyDurably(from, to string) error {
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	src, err := os.Open(from)
	if err != nil {
		return err
	}
	defer src.Close()
	dst, err := os.Create(to + ".tmp")
	if err != nil {
		return err
	}
	defer dst.Close()
	// Not io.Copy as it is: the kernel may copy by a reference, and not a byte would be written.
	if _, err := io.CopyBuffer(struct{ io.Writer }{dst}, struct{ io.Reader }{src}, make([]byte, 256<<10)); err != nil {
		return err
	}
	return nameDurably(dst, to)
}

func nameDurably(file *os.File, to string) error {
	if err := file.Sync(); err != nil {
		return err
	}
	if err := os.Rename(file.Name(), to); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(to))
	if err != nil {
		return err
	}
	defer dir.Close()
	_ = dir.Sync() // Windows cannot
	return nil
}

// stage makes a data directory where these segments wait to be archived.
func (b *walBench) stage(names []string) error {
	if err := b.removeAll("data/pg_wal"); err != nil {
		return err
	}
	status := filepath.Join(b.data, "pg_wal", "archive_status")
	if err := os.MkdirAll(status, 0o755); err != nil {
		return err
	}
	for _, name := range names {
		if err := os.Link(filepath.Join(b.dir, "segments", name), filepath.Join(b.data, "pg_wal", name)); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(status, name+".ready"), nil, 0o600); err != nil {
			return err
		}
	}
	return nil
}

func (b *walBench) removeAll(names ...string) error {
	for _, name := range names {
		if err := os.RemoveAll(filepath.Join(b.dir, name)); err != nil {
			return err
		}
	}
	return nil
}

// archive does what PostgreSQL's archiver does: one after the other, and .ready becomes .done.
func (b *walBench) archive(ctx context.Context, names []string, command func(name string) []string) (each []time.Duration, all time.Duration, err error) {
	began := time.Now()
	for _, name := range names {
		start := time.Now()
		if err := b.run(ctx, command(name)...); err != nil {
			return nil, 0, err
		}
		each = append(each, time.Since(start))
		status := filepath.Join(b.data, "pg_wal", "archive_status", name)
		if err := os.Rename(status+".ready", status+".done"); err != nil {
			return nil, 0, err
		}
	}
	return each, time.Since(began), nil
}

func (b *walBench) run(ctx context.Context, args ...string) error {
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Dir = b.data
	cmd.Env = environment()
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}

// fresh makes an empty repo of ours, and gives the settings for it.
func (b *walBench) fresh(ctx context.Context) (settings string, err error) {
	if err := b.removeAll("howdah", "spool"); err != nil {
		return "", err
	}
	root := filepath.Join(b.dir, "howdah")
	if _, err := repo.Open(ctx, root, repo.Options{Create: true}); err != nil {
		return "", err
	}
	s := &keeper.Settings{Cluster: "bench", Identity: b.id, Repos: []keeper.Place{{Address: root}}, Spool: filepath.Join(b.dir, "spool"), Workers: 2}
	settings = filepath.Join(b.dir, "settings.json")
	return settings, s.Save(settings)
}

// noted measures what an archive_command costs whose segment went along with an earlier one: the start of a process, mostly.
func (b *walBench) noted(ctx context.Context) error {
	b.Say("bench.say.wal_noted")
	var took []float64
	for range b.Rounds {
		settings, err := b.fresh(ctx)
		if err != nil {
			return err
		}
		names := b.names[:min(len(b.names), 12)]
		if err := b.stage(names); err != nil {
			return err
		}
		if err := pause(ctx, 200*time.Millisecond); err != nil { // the files have new links: they must be at rest again
			return err
		}
		push := func(name string) []string {
			return []string{b.Program, "wal", "push", "--settings", settings, filepath.Join("pg_wal", name)}
		}
		if _, _, err := b.archive(ctx, names[:1], push); err != nil {
			return err
		}
		for notes, looks := 0, 1; notes < len(names)-1; looks++ { // until the helper has been ahead of them all
			if err := pause(ctx, 20*time.Millisecond); err != nil {
				return err
			}
			if looks%500 == 0 { // it looks ahead for some seconds only, which a disk that stalls may take for itself
				if err := b.run(ctx, push(names[0])...); err != nil {
					return err
				}
			}
			all, err := filepath.Glob(filepath.Join(b.dir, "spool", "*", "*.json"))
			if err != nil {
				return err
			}
			notes = len(all)
		}
		each, _, err := b.archive(ctx, names[1:], push)
		if err != nil {
			return err
		}
		for _, d := range each {
			took = append(took, float64(d.Microseconds())/1000)
		}
	}
	b.report.add(Figure{Name: "wal_noted", Value: median(took), Unit: "ms"}.atMost(5))
	return nil
}

// single measures pushes of one segment at a time, nothing else being ready, in turn with copies of the same segment.
func (b *walBench) single(ctx context.Context) error {
	b.Say("bench.say.wal_single", fault.Args{"n": b.Single})
	settings, err := b.fresh(ctx)
	if err != nil {
		return err
	}
	copies := filepath.Join(b.dir, "copies")
	if err := os.MkdirAll(copies, 0o755); err != nil {
		return err
	}
	ways := []struct {
		name string
		run  func(name string) error
	}{
		{"push", func(name string) error {
			return b.run(ctx, b.Program, "wal", "push", "--settings", settings, filepath.Join("pg_wal", name))
		}},
		{"copy", func(name string) error { // as people write it into archive_command, and with what they forget: sync
			return b.run(ctx, "sh", "-c", `cp "$1" "$2/$3.tmp" && sync "$2/$3.tmp" && mv "$2/$3.tmp" "$2/$3" && sync "$2"`, "sh", filepath.Join("pg_wal", name), copies, name)
		}},
		{"zstd", func(name string) error {
			return b.run(ctx, "sh", "-c", `zstd -q -3 "$1" -o "$2/$3.tmp" && sync "$2/$3.tmp" && mv "$2/$3.tmp" "$2/$3" && sync "$2"`, "sh", filepath.Join("pg_wal", name), copies, name+".zst")
		}},
		{"pgbackrest", func(name string) error {
			return b.run(ctx, b.pgbackrest, "--config="+b.config(), "--stanza=bench", "--no-archive-async", "archive-push", filepath.Join(b.data, "pg_wal", name))
		}},
	}
	hasZstd := exec.Command("zstd", "--version").Run() == nil
	ways = slices.DeleteFunc(ways, func(w struct {
		name string
		run  func(name string) error
	}) bool {
		return w.name == "pgbackrest" && b.pgbackrest == "" || w.name == "zstd" && !hasZstd
	})
	if err := b.freshBackRest(ctx); err != nil {
		return err
	}
	took := map[string][]float64{}
	for i, name := range b.names[:b.Single] {
		if err := b.stage([]string{name}); err != nil {
			return err
		}
		for j := range ways { // each is first as often as the others
			way := ways[(i+j)%len(ways)]
			start := time.Now()
			if err := way.run(name); err != nil {
				return err
			}
			took[way.name] = append(took[way.name], float64(time.Since(start).Microseconds())/1000)
		}
	}
	ratios := func(against string) (ratios []float64) {
		for i, t := range took["push"] {
			ratios = append(ratios, t/took[against][i])
		}
		return ratios
	}
	push := Figure{Value: median(took["push"]), Unit: "ms"}
	push.Name = "wal_push_copy"
	b.report.add(push.against(median(took["copy"]), ratios("copy")).ratioAtMost(1.5))
	if hasZstd {
		push.Name = "wal_push_zstd"
		b.report.add(push.against(median(took["zstd"]), ratios("zstd")))
	}
	if b.pgbackrest != "" {
		push.Name = "wal_push_pgbackrest"
		b.report.add(push.against(median(took["pgbackrest"]), ratios("pgbackrest")))
	}
	if hasZstd {
		ours, theirs, err := b.sizes()
		if err != nil {
			return err
		}
		b.report.add(Figure{Name: "wal_size", Value: ours, Unit: "MB"}.against(theirs, []float64{ours / theirs}))
	}
	return b.removeAll("copies")
}

// sizes are what single has stored, by us and by zstd, in MB.
func (b *walBench) sizes() (ours, theirs float64, err error) {
	sum := func(root string) (n float64, err error) {
		err = filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
			if err != nil || e.IsDir() || !strings.HasSuffix(path, ".zst") {
				return err
			}
			st, err := e.Info()
			if err == nil {
				n += float64(st.Size()) / 1e6
			}
			return err
		})
		return n, err
	}
	if ours, err = sum(filepath.Join(b.dir, "howdah")); err == nil {
		theirs, err = sum(filepath.Join(b.dir, "copies"))
	}
	return ours, theirs, err
}

// backlog measures a backlog that is archived, and the same segments coming back, in rounds with pgBackRest's asynchronous mode.
func (b *walBench) backlog(ctx context.Context) error {
	names := b.names[:b.Backlog]
	bytes := float64(len(names)) * float64(b.id.SegmentSize) / 1e6
	var pushed, fetched, theirPush, theirFetch, copied []float64
	for round := range b.Rounds {
		b.Say("bench.say.round", fault.Args{"round": round + 1})
		ways := []func() error{
			func() error {
				push, fetch, err := b.ours(ctx, names)
				pushed, fetched = append(pushed, bytes/push.Seconds()), append(fetched, bytes/fetch.Seconds())
				return err
			},
			func() error {
				if b.pgbackrest == "" {
					return nil
				}
				push, fetch, err := b.theirs(ctx, names)
				theirPush, theirFetch = append(theirPush, bytes/push.Seconds()), append(theirFetch, bytes/fetch.Seconds())
				return err
			},
		}
		if round%2 == 1 {
			slices.Reverse(ways)
		}
		for _, way := range ways {
			if err := way(); err != nil {
				return err
			}
		}
		start := time.Now()
		for _, name := range names {
			if err := copyDurably(filepath.Join(b.dir, "segments", name), filepath.Join(b.dir, "copies", name)); err != nil {
				return err
			}
		}
		copied = append(copied, bytes/time.Since(start).Seconds())
		if err := b.removeAll("copies"); err != nil {
			return err
		}
	}
	per := func(a, b []float64) (ratios []float64) {
		for i := range a {
			ratios = append(ratios, a[i]/b[i])
		}
		return ratios
	}
	push, fetch := Figure{Name: "wal_backlog", Value: median(pushed), Unit: "MB/s"}, Figure{Name: "wal_fetch", Value: median(fetched), Unit: "MB/s"}
	if b.pgbackrest != "" {
		push = push.against(median(theirPush), per(pushed, theirPush)).ratioAtLeast(1.1)
		fetch = fetch.against(median(theirFetch), per(fetched, theirFetch)).ratioAtLeast(1.1)
	}
	b.report.add(push, Figure{Name: "wal_backlog_copy", Value: median(pushed), Unit: "MB/s"}.against(median(copied), per(pushed, copied)), fetch)
	return nil
}

// ours archives and fetches with howdah.
func (b *walBench) ours(ctx context.Context, names []string) (push, fetch time.Duration, err error) {
	settings, err := b.fresh(ctx)
	if err != nil {
		return 0, 0, err
	}
	if err := b.stage(names); err != nil {
		return 0, 0, err
	}
	if err := pause(ctx, 200*time.Millisecond); err != nil {
		return 0, 0, err
	}
	_, push, err = b.archive(ctx, names, func(name string) []string {
		return []string{b.Program, "wal", "push", "--settings", settings, filepath.Join("pg_wal", name)}
	})
	if err != nil {
		return 0, 0, err
	}
	fetch, err = b.recover(ctx, names, func(name, target string) []string {
		return []string{b.Program, "wal", "fetch", "--settings", settings, name, target}
	})
	return push, fetch, errors.Join(err, b.removeAll("howdah", "spool"))
}

// recover does what PostgreSQL does with a restore_command: it names the file and takes it away.
func (b *walBench) recover(ctx context.Context, names []string, command func(name, target string) []string) (time.Duration, error) {
	if err := b.stage(nil); err != nil {
		return 0, err
	}
	target := filepath.Join("pg_wal", "RECOVERYXLOG")
	began := time.Now()
	for _, name := range names {
		if err := b.run(ctx, command(name, target)...); err != nil {
			return 0, err
		}
		st, err := os.Stat(filepath.Join(b.data, target))
		if err != nil || st.Size() != int64(b.id.SegmentSize) {
			return 0, errors.Join(err, fmt.Errorf("%s did not come back", name))
		}
		if err := os.Remove(filepath.Join(b.data, target)); err != nil {
			return 0, err
		}
	}
	return time.Since(began), nil
}

func (b *walBench) config() string { return filepath.Join(b.dir, "pgbackrest.conf") }

// freshBackRest makes an empty repo of pgBackRest.
func (b *walBench) freshBackRest(ctx context.Context) error {
	if b.pgbackrest == "" {
		return nil
	}
	if err := b.removeAll("pgbackrest"); err != nil {
		return err
	}
	below := func(name string) string { return filepath.Join(b.dir, "pgbackrest", name) }
	for _, name := range []string{"repo", "spool", "log", "lock"} {
		if err := os.MkdirAll(below(name), 0o755); err != nil {
			return err
		}
	}
	text := fmt.Sprintf("[global]\nrepo1-path=%s\nspool-path=%s\nlog-path=%s\nlock-path=%s\nlog-level-console=warn\nlog-level-file=off\n"+
		"process-max=2\ncompress-type=zst\ncompress-level=3\narchive-async=y\n[bench]\npg1-path=%s\n", below("repo"), below("spool"), below("log"), below("lock"), b.data)
	if err := os.WriteFile(b.config(), []byte(text), 0o600); err != nil {
		return err
	}
	return b.run(ctx, b.pgbackrest, "--config="+b.config(), "--stanza=bench", "--no-online", "stanza-create")
}

// theirs archives and fetches with pgBackRest.
func (b *walBench) theirs(ctx context.Context, names []string) (push, fetch time.Duration, err error) {
	if err := b.freshBackRest(ctx); err != nil {
		return 0, 0, err
	}
	if err := b.stage(names); err != nil {
		return 0, 0, err
	}
	_, push, err = b.archive(ctx, names, func(name string) []string {
		return []string{b.pgbackrest, "--config=" + b.config(), "--stanza=bench", "archive-push", filepath.Join(b.data, "pg_wal", name)}
	})
	if err != nil {
		return 0, 0, err
	}
	fetch, err = b.recover(ctx, names, func(name, target string) []string {
		return []string{b.pgbackrest, "--config=" + b.config(), "--stanza=bench", "archive-get", name, filepath.Join(b.data, target)}
	})
	// Its processes in the background may be at work still; what they hold is removed with the rest at the end.
	return push, fetch, err
}
