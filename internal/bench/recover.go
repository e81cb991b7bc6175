package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
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
	"howdah/internal/wal"
)

// RecoverOptions of the bench of recoveries of tables.
type RecoverOptions struct {
	Settle func(dir string) (program string, err error) // gives a path of the binary that PostgreSQL's account may run: a copy below dir where need be
	Dir    string                                       // where all of it is put, on a real disk with room for six times Size; "" is a fitting place
	Size   int64                                        // bytes of the database, about
	WAL    int64                                        // bytes that are written between the base backup and the accident, about
	Small  int64                                        // bytes of the small table
	Rounds int
	Say    func(key string, args ...fault.Args) // told what is being done; may be nil
}

// FullRecover is the bench as its figures are published; BriefRecover only shows that everything works.
var (
	FullRecover  = RecoverOptions{Size: 1 << 30, WAL: 256 << 20, Small: 100 << 20, Rounds: 1}
	BriefRecover = RecoverOptions{Size: 24 << 20, WAL: 4 << 20, Small: 2 << 20, Rounds: 1}
)

// recoverBench is one run.
type recoverBench struct {
	RecoverOptions
	dir     string
	program string
	scratch *cluster.Scratch
	repo    *repo.Repo
	place   keeper.Place
	backup  *keeper.Backup
	conn    *pgx.Conn
	report  *Report
	archive string // SQL that begins to archive
	size    wal.SegmentSize
	stop    string            // where the floor's replay ends
	xids    map[string]string // of the accidents, by table

	took, opened, parts map[string][]float64 // by table: seconds from the accident to the table back, until the past could be read, share of the files
	laps                map[string][]float64 // seconds of the phases of that, by table and phase
	floor, copied       []float64            // seconds
	quiet, busy         []time.Duration      // of commits, before and while tables are brought back
}

// Recover measures the time from an accident to the table back (howdah recover table --replace, as a process) for a table that is most of a database and for a small one in it, beside the
// floor in the same round: copying the files of that base backup and PostgreSQL's own replay of the same WAL, which lies there as plain files. The floor does not put any row into
// the live database. Meanwhile somebody commits single rows in it; how long that takes is compared with before.
func Recover(ctx context.Context, options RecoverOptions) (*Report, error) {
	b := &recoverBench{RecoverOptions: options, size: wal.DefaultSegmentSize, report: newReport(), xids: map[string]string{}, took: map[string][]float64{}, opened: map[string][]float64{}, parts: map[string][]float64{}, laps: map[string][]float64{}}
	b.Say = listened(b.Say)
	err := inFolder(ctx, b.Dir, func(dir string) (err error) {
		b.dir = dir
		if b.program, err = b.Settle(dir); err != nil {
			return err
		}
		defer func() {
			if b.scratch != nil {
				err = errors.Join(err, b.scratch.Close(context.WithoutCancel(ctx)))
			}
		}()
		for _, part := range []func(context.Context) error{b.start, b.fill, b.accidents, b.contest} {
			if err := part(ctx); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	b.figures()
	return b.report, nil
}

// start makes a cluster that archives.
func (b *recoverBench) start(ctx context.Context) (err error) {
	if b.scratch, err = cluster.NewScratch(ctx, cluster.ScratchOptions{Parent: b.dir, Settings: map[string]string{"max_wal_size": "4GB", "shared_buffers": "256MB", "autovacuum": "off",
		"wal_keep_size": "64GB", "archive_mode": "on", "archive_command": "exit 0"}}); err != nil {
		return err
	}
	if b.conn, err = superuser(ctx, b.scratch.Cluster, "postgres"); err != nil {
		return err
	}
	var system string
	if err := b.conn.QueryRow(ctx, `SELECT system_identifier::text, current_setting('server_version') FROM pg_control_system()`).Scan(&system, &b.report.Versions.Postgres); err != nil {
		return pg.Fault(err)
	}
	id := wal.Identity{Major: b.scratch.Installation().Version.Major, SegmentSize: b.size}
	if id.System, err = strconv.ParseUint(system, 10, 64); err != nil {
		return err
	}
	b.place = keeper.Place{Address: filepath.Join(b.dir, "repo")}
	if b.repo, err = repo.Open(ctx, b.place.Address, repo.Options{Create: true}); err != nil {
		return err
	}
	settings := filepath.Join(b.dir, "archive.json")
	if err := (&keeper.Settings{Cluster: "main", Repos: []keeper.Place{b.place}, Identity: id}).Save(settings); err != nil {
		return err
	}
	b.archive = `ALTER SYSTEM SET archive_command = '` + strings.ReplaceAll(keeper.ArchiveCommand(b.program, settings), "'", "''") + `'`
	return nil
}

func (b *recoverBench) exec(ctx context.Context, statements ...string) error {
	for _, sql := range statements {
		if _, err := b.conn.Exec(ctx, sql); err != nil {
			return pg.Fault(err)
		}
	}
	return nil
}

// fill makes a large table and a small one, of what people write and of numbers, with two indexes each, and takes the base backup.
func (b *recoverBench) fill(ctx context.Context) error {
	b.Say("bench.say.backup_fill", fault.Args{"n": b.Size >> 20})
	const perRow = 330 // bytes of heap and indexes
	for table, size := range map[string]int64{"big": b.Size - b.Small, "small": b.Small} {
		if err := b.exec(ctx, `CREATE TABLE `+table+` (id bigint, room int, author int, at timestamptz, body text)`,
			fmt.Sprintf(`INSERT INTO %s SELECT i, i %% 50, i * 7919 %% 500, '2026-01-01'::timestamptz + i * interval '1 second', md5(i::text) || repeat(' so be it', (i * 31 %% 40)::int) FROM generate_series(1, %d::bigint) i`,
				table, max(100, size/perRow)), `ALTER TABLE `+table+` ADD PRIMARY KEY (id)`, `CREATE INDEX ON `+table+` (room, id)`); err != nil {
			return err
		}
	}
	if err := b.exec(ctx, `CREATE TABLE busy (n bigint PRIMARY KEY)`, `VACUUM`, `CHECKPOINT`, b.archive, `SELECT pg_reload_conf()`, `SELECT pg_switch_wal()`); err != nil {
		return err
	}
	dsn, err := b.scratch.DSN(cluster.Replicator, "postgres")
	if err != nil {
		return err
	}
	if b.backup, err = keeper.TakeBase(ctx, b.repo, keeper.BaseOptions{Cluster: "main", DSN: dsn}); err != nil {
		return err
	}
	// The floor copies files as they are, on the same disk.
	return keeper.Unpack(ctx, b.repo, b.backup, keeper.UnpackOptions{Data: b.plain("data"), Sync: true})
}

func (b *recoverBench) plain(name string) string { return filepath.Join(b.dir, "plain", name) }

// accidents writes as much WAL as is wanted, and drops both tables.
func (b *recoverBench) accidents(ctx context.Context) error {
	b.Say("bench.say.recover_wal", fault.Args{"n": b.WAL >> 20})
	var start string
	if err := b.conn.QueryRow(ctx, `SELECT pg_current_wal_insert_lsn()::text`).Scan(&start); err != nil {
		return pg.Fault(err)
	}
	for written := int64(0); written < b.WAL; {
		if err := b.exec(ctx, `UPDATE big SET author = author + 1 WHERE id IN (SELECT 1 + (random() * (SELECT max(id) - 1 FROM big))::bigint FROM generate_series(1, 500))`,
			`UPDATE small SET author = author + 1 WHERE id IN (SELECT 1 + (random() * (SELECT max(id) - 1 FROM small))::bigint FROM generate_series(1, 50))`); err != nil {
			return err
		}
		if err := b.conn.QueryRow(ctx, `SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), $1::pg_lsn)::bigint`, start).Scan(&written); err != nil {
			return pg.Fault(err)
		}
	}
	var stop string
	if err := b.conn.QueryRow(ctx, `SELECT pg_current_wal_insert_lsn()::text`).Scan(&stop); err != nil {
		return pg.Fault(err)
	}
	b.stop = stop
	for _, table := range b.tables() {
		if err := b.drop(ctx, table); err != nil {
			return err
		}
	}
	// The floor has the WAL as PostgreSQL wrote it.
	live, err := b.live()
	if err != nil {
		return err
	}
	source := filepath.Join(b.scratch.DataDir(), "pg_wal")
	if ok, err := keeper.Flush(ctx, live, source, 10*time.Minute); err != nil || !ok {
		return errors.Join(errors.New("the WAL is not archived"), err)
	}
	end, err := wal.ParseLSN(stop)
	if err != nil {
		return err
	}
	for number := b.size.Number(b.backup.Start); number <= b.size.Number(end); number++ {
		name := b.size.Name(b.backup.Timeline, number).String()
		if err := copyDurably(filepath.Join(source, name), filepath.Join(b.plain("wal"), name)); err != nil {
			return err
		}
	}
	return nil
}

func (b *recoverBench) live() (keeper.Server, error) {
	dsn, err := b.scratch.DSN(cluster.Superuser, "postgres")
	return keeper.Server{DSN: dsn, Programs: b.scratch.Installation()}, err
}

// tables are those that are dropped, in that order.
func (b *recoverBench) tables() []string { return []string{"small", "big"} }

// drop is the accident. The first of each table is the one that is gone back to, in every round.
func (b *recoverBench) drop(ctx context.Context, table string) error {
	tx, err := b.conn.Begin(ctx)
	if err != nil {
		return pg.Fault(err)
	}
	var xid string
	if _, err = tx.Exec(ctx, `DROP TABLE IF EXISTS `+table); err == nil {
		err = tx.QueryRow(ctx, `SELECT pg_current_xact_id()::text`).Scan(&xid)
	}
	if err == nil {
		err = tx.Commit(ctx)
	}
	if b.xids[table] == "" {
		b.xids[table] = xid
	}
	return pg.Fault(err)
}

func (b *recoverBench) contest(ctx context.Context) error {
	for round := range b.Rounds {
		b.Say("bench.say.round", fault.Args{"round": round + 1})
		parts := []func(context.Context) error{b.ours, b.lowest}
		if round%2 == 1 {
			parts[0], parts[1] = parts[1], parts[0]
		}
		for _, part := range parts {
			if err := part(ctx); err != nil {
				return err
			}
		}
	}
	return nil
}

// ours brings both tables back, each by the command that a person would type.
func (b *recoverBench) ours(ctx context.Context) error {
	live, err := b.live()
	if err != nil {
		return err
	}
	for _, table := range b.tables() {
		if err := b.drop(ctx, table); err != nil { // of the round before
			return err
		}
		settle()
		err := b.commits(ctx, &b.quiet, func() error { return pause(ctx, min(5*time.Second, time.Duration(b.Size>>20)*20*time.Millisecond)) })
		if err != nil {
			return err
		}
		var done struct {
			Part struct {
				Bytes  int64   `json:"bytes"`
				Of     int64   `json:"of"`
				Opened float64 `json:"opened_seconds"`
			} `json:"scratch"`
			Phases []keeper.Lap `json:"phases"`
		}
		began := time.Now()
		err = b.commits(ctx, &b.busy, func() error {
			cmd := exec.CommandContext(ctx, b.program, "recover", "table", "public."+table, "--before-xid", b.xids[table], "--replace", "--yes", "--json", "--db", "postgres",
				"--admin-dsn", live.DSN, "--repo", b.place.Address, "--data", filepath.Join(b.dir, "no-house"), "--scratch", filepath.Join(b.dir, "past"), "--pg-bin", live.Programs.Bin)
			cmd.Dir, cmd.Env = b.dir, environment()
			var said bytes.Buffer
			cmd.Stderr = &said
			out, err := cmd.Output()
			if err != nil {
				return fmt.Errorf("howdah recover table: %w: %s", err, said.String())
			}
			return json.Unmarshal(out, &done)
		})
		if err != nil {
			return err
		}
		b.took[table] = append(b.took[table], time.Since(began).Seconds())
		b.opened[table] = append(b.opened[table], done.Part.Opened)
		for _, lap := range done.Phases {
			b.laps[table+"_"+lap.Name] = append(b.laps[table+"_"+lap.Name], lap.Seconds)
		}
		b.parts[table] = append(b.parts[table], 100*float64(done.Part.Bytes)/float64(done.Part.Of))
		var rows int64
		if err := b.conn.QueryRow(ctx, `SELECT count(*) FROM `+table).Scan(&rows); err != nil || rows == 0 {
			return errors.Join(fmt.Errorf("%s came back with %d rows", table, rows), pg.Fault(err))
		}
	}
	return nil
}

// commits has somebody commit single rows while something runs, and notes how long each took.
func (b *recoverBench) commits(ctx context.Context, into *[]time.Duration, run func() error) error {
	dsn, err := b.scratch.DSN(cluster.Superuser, "postgres")
	if err != nil {
		return err
	}
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return pg.Fault(err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	until, stop := context.WithCancel(ctx)
	var done sync.WaitGroup
	var failed error
	done.Go(func() {
		again := time.NewTicker(5 * time.Millisecond)
		defer again.Stop()
		for until.Err() == nil {
			began := time.Now()
			if _, failed = conn.Exec(ctx, `INSERT INTO busy SELECT coalesce(max(n), 0) + 1 FROM busy`); failed != nil {
				return
			}
			*into = append(*into, time.Since(began))
			select {
			case <-again.C:
			case <-until.Done():
			}
		}
	})
	err = run()
	stop()
	done.Wait()
	return errors.Join(err, pg.Fault(failed))
}

// lowest copies the files of the backup and lets PostgreSQL replay the WAL: who has these lying there, and no tool, could not be faster.
func (b *recoverBench) lowest(ctx context.Context) (err error) {
	to := filepath.Join(b.dir, "floor")
	defer func() { err = errors.Join(err, os.RemoveAll(to)) }()
	socket, err := os.MkdirTemp("", "howdah-") // whose path must be short
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(socket)) }()
	settle()
	began := time.Now()
	if err := os.CopyFS(to, os.DirFS(b.plain("data"))); err != nil {
		return err
	}
	if err := os.Chmod(to, 0o700); err != nil { //nolint:gosec // PostgreSQL asks for it
		return err
	}
	b.copied = append(b.copied, time.Since(began).Seconds())
	if err := os.WriteFile(filepath.Join(to, "recovery.signal"), nil, 0o600); err != nil {
		return err
	}
	args := []string{"-D", to}
	for _, s := range [][2]string{{"restore_command", `cp '` + b.plain("wal") + `/%f' '%p'`}, {"recovery_target_lsn", b.stop}, {"recovery_target_action", "shutdown"}, {"recovery_target_timeline", "current"},
		{"hot_standby", "off"}, {"listen_addresses", ""}, {"unix_socket_directories", socket}, {"archive_mode", "off"}, {"fsync", "off"}, {"logging_collector", "off"}, {"log_destination", "stderr"},
		{"shared_preload_libraries", ""}, {"hba_file", filepath.Join(to, "pg_hba.conf")}, {"ident_file", filepath.Join(to, "pg_ident.conf")}, {"lc_messages", "C"}} {
		args = append(args, "-c", s[0]+"="+s[1])
	}
	cmd := exec.CommandContext(ctx, b.scratch.Installation().Program("postgres"), args...)
	cmd.Dir, cmd.Env = b.dir, environment()
	said, err := cmd.CombinedOutput() // it ends when it has come there
	if !strings.Contains(string(said), "recovery stopping") {
		return errors.Join(fmt.Errorf("PostgreSQL's own replay did not come to its end: %s", said), err)
	}
	b.floor = append(b.floor, time.Since(began).Seconds())
	return nil
}

// recoverLaps are what a recovery's time goes to, as howdah recover says it.
var recoverLaps = []string{"plan", "names", "files", "replay", "open", "definitions", "rows", "indexes", "commit", "close"}

func (b *recoverBench) figures() {
	for _, table := range []struct {
		name string
		aim  float64
	}{{"big", 1.25}, {"small", 0.3}} {
		var ratios, opened []float64
		for i, floor := range b.floor {
			ratios, opened = append(ratios, b.took[table.name][i]/floor), append(opened, b.opened[table.name][i]/floor)
		}
		b.report.add(Figure{Name: "recover_" + table.name, Value: median(b.took[table.name]), Unit: "s"}.against(median(b.floor), ratios).ratioAtMost(table.aim),
			Figure{Name: "recover_opened_" + table.name, Value: median(b.opened[table.name]), Unit: "s"}.against(median(b.floor), opened),
			Figure{Name: "recover_part_" + table.name, Value: median(b.parts[table.name]), Unit: "%"})
		for _, lap := range recoverLaps {
			if seconds, ok := b.laps[table.name+"_"+lap]; ok {
				b.report.add(Figure{Name: "recover_" + table.name + "_" + lap, Value: median(seconds), Unit: "s"})
			}
		}
	}
	milliseconds := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
	before, during := milliseconds(quantile(b.quiet, 0.99)), milliseconds(quantile(b.busy, 0.99))
	b.report.add(Figure{Name: "recover_copied", Value: median(b.copied), Unit: "s"},
		Figure{Name: "recover_commit", Value: during, Unit: "ms"}.against(before, []float64{during / before}).aim("<= %g", 200, during-before <= 200))
}
