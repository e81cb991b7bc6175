package bench

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"howdah/internal/audit"
	"howdah/internal/audit/judge"
	"howdah/internal/cluster"
	"howdah/internal/fault"
	"howdah/internal/pg"
)

// AuditOptions of the audit bench.
type AuditOptions struct {
	Program string   // the binary of which throw-away houses are made
	Dir     string   // where all is put, on a real disk; "" is a fitting place
	Parts   []string // of AuditParts; nil: all

	Rounds  int
	Records int           // that are judged and stored in a round, about
	Window  time.Duration // of pgbench, and of the posts
	Alerts  int           // acts whose alerts are waited for
	Scale   int           // of pgbench

	Say func(key string, args ...fault.Args) // told what is being done; may be nil
}

// AuditParts are what can be measured alone: pgbench with auditing, records judged and stored, posts with auditing, and alerts.
var AuditParts = []string{"pgbench", "records", "posts", "alerts"}

func (b *auditBench) wants(part string) bool {
	return len(b.Parts) == 0 || slices.Contains(b.Parts, part)
}

// FullAudit is the bench as its figures are published; BriefAudit only shows that everything works.
var (
	FullAudit  = AuditOptions{Rounds: 7, Records: 100_000, Window: 5 * time.Second, Alerts: 200, Scale: 10}
	BriefAudit = AuditOptions{Rounds: 1, Records: 2000, Window: time.Second, Alerts: 3, Scale: 1}
)

// auditBench is one run.
type auditBench struct {
	AuditOptions
	dir    string
	lines  [][]byte // of a real log of a real pgAudit, day after day
	report *Report
	others []float64 // of every round: the share of the machine that others took
}

// Audit measures the watch: how fast records are read, judged and stored, how soon an alert is in the room, and what auditing costs those who are watched.
func Audit(ctx context.Context, options AuditOptions) (*Report, error) {
	b := &auditBench{AuditOptions: options, report: newReport()}
	b.Say = listened(b.Say)
	raiseLimit(4096)
	err := inFolder(ctx, b.Dir, func(dir string) error {
		b.dir = dir
		for _, part := range []struct {
			run    func(context.Context) error
			wanted bool
		}{{b.clusters, b.wants("pgbench") || b.wants("records")}, {b.judged, b.wants("records")}, {b.stored, b.wants("records")}, {b.tables, b.wants("records")}, {b.houses, b.wants("posts") || b.wants("alerts")}} {
			if !part.wanted {
				continue
			}
			if err := part.run(ctx); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if runtime.GOOS == "linux" {
		b.report.add(Figure{Name: "others", Value: 100 * median(b.others), Unit: "%"}) // how far the figures can be trusted
	}
	return b.report, nil
}

// alone notes how much of the machine others take while something runs. ours are the processes that belong to it.
func (b *auditBench) alone(p probe, run func() error) error {
	before, began := p.now(), time.Now()
	err := run()
	b.others = append(b.others, p.now().minus(before).strangers()/time.Since(began).Seconds()/float64(runtime.NumCPU()))
	return err
}

// unaudited are the settings of a PostgreSQL that nobody watches. An empty list of libraries is one that ALTER SYSTEM cannot write (it writes """").
var unaudited = map[string]string{"shared_preload_libraries": "plpgsql", "track_commit_timestamp": "off", "log_connections": "off", "log_disconnections": "off"}

// clusters measures what auditing costs pgbench, on a PostgreSQL with the cover that ours have and on one without any, in turn; and lets the audited one write a log.
func (b *auditBench) clusters(ctx context.Context) (err error) {
	type side struct {
		*cluster.Scratch
		rates []float64
		run   func() (float64, error)
	}
	var sides [2]*side // without, with
	for i := range sides {
		s, err := cluster.NewScratch(ctx, cluster.ScratchOptions{Parent: b.dir, Settings: map[string]string{"max_wal_size": "4GB", "autovacuum": "off"}})
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, s.Close(context.WithoutCancel(ctx))) }()
		sides[i] = &side{Scratch: s}
	}
	if err := unwatch(ctx, sides[0].Cluster); err != nil {
		return err
	}
	if err := sides[0].Stop(ctx, cluster.Fast); err != nil {
		return err
	}
	if err := sides[0].Start(ctx); err != nil {
		return err
	}
	audited := sides[1]
	if !audited.Installation().PgAudit {
		return fault.New(fault.Unavailable, "cluster.no_pgaudit", fault.Args{"package": "pgaudit"})
	}
	conn, err := superuser(ctx, audited.Cluster, cluster.Database)
	if err != nil {
		return err
	}
	if err := conn.QueryRow(ctx, `SELECT current_setting('server_version')`).Scan(&b.report.Versions.Postgres); err != nil {
		return pg.Fault(err)
	}
	probe, err := newProbe(ctx, 0, conn)
	if err != nil {
		return err
	}
	if err := conn.Close(ctx); err != nil {
		return pg.Fault(err)
	}
	if err := b.write(ctx, audited.Cluster); err != nil {
		return err
	}
	if !b.wants("pgbench") {
		return nil
	}
	b.Say("bench.say.audit_pgbench")
	for _, s := range sides {
		if s.run, err = b.pgbench(ctx, s.Cluster); err != nil {
			return err
		}
	}
	// Each round: without, with, without. What lies between is compared with both.
	var plain, ratio []float64
	for i := range b.Rounds {
		b.Say("bench.say.round", fault.Args{"round": i + 1})
		var rates [3]float64
		err := b.alone(probe, func() (err error) {
			for k, s := range []*side{sides[0], sides[1], sides[0]} {
				if rates[k], err = s.run(); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
		base := (rates[0] + rates[2]) / 2
		plain, audited.rates, ratio = append(plain, base), append(audited.rates, rates[1]), append(ratio, rates[1]/base)
	}
	b.others = b.others[:0] // the cluster without auditing counts as somebody else here
	b.report.add(Figure{Name: "audit_pgbench", Value: median(audited.rates), Unit: "tx/s"}.against(median(plain), ratio).ratioAtLeast(0.97))
	return nil
}

// pgbench prepares PostgreSQL's own bench in a cluster, for the application's role, and gives what runs it for a window.
func (b *auditBench) pgbench(ctx context.Context, c *cluster.Cluster) (func() (float64, error), error) {
	run := func(role string, args ...string) ([]byte, error) {
		dsn, err := c.DSN(role, cluster.Database)
		if err != nil {
			return nil, err
		}
		config, err := pgx.ParseConfig(dsn)
		if err != nil {
			return nil, err
		}
		cmd := exec.CommandContext(ctx, c.Installation().Program("pgbench"), append(args, cluster.Database)...)
		cmd.Env = append(environment(), "PGHOST="+config.Host, "PGPORT="+strconv.Itoa(int(config.Port)), "PGUSER="+role, "PGPASSWORD="+config.Password, "LC_ALL=C")
		out, err := cmd.CombinedOutput()
		if err != nil {
			return nil, fault.Wrap(err, fault.Unavailable, "bench.failed", fault.Args{"message": strings.TrimSpace(string(out))})
		}
		return out, nil
	}
	if _, err := run(cluster.Superuser, "-i", "-q", "-s", strconv.Itoa(b.Scale)); err != nil {
		return nil, err
	}
	conn, err := superuser(ctx, c, cluster.Database)
	if err != nil {
		return nil, err
	}
	defer conn.Close(ctx)
	if _, err := conn.Exec(ctx, "GRANT USAGE ON SCHEMA public TO "+cluster.App+"; GRANT ALL ON ALL TABLES IN SCHEMA public TO "+cluster.App); err != nil {
		return nil, pg.Fault(err)
	}
	return func() (float64, error) {
		out, err := run(cluster.App, "-n", "-c", "8", "-j", "2", "-M", "prepared", "-T", strconv.Itoa(max(1, int(b.Window.Seconds()))))
		if err != nil {
			return 0, err
		}
		found := tps.FindSubmatch(out)
		if found == nil {
			return 0, fault.New(fault.Internal, "bench.failed", fault.Args{"message": strings.TrimSpace(string(out))})
		}
		return strconv.ParseFloat(string(found[1]), 64)
	}, nil
}

var tps = regexp.MustCompile(`tps = ([0-9.]+) \(without initial connection time\)`)

// write lets people and programs do what is logged, and repeats that log, day after day, until it has enough records.
func (b *auditBench) write(ctx context.Context, c *cluster.Cluster) error {
	const sessions = 40
	for i := range sessions {
		conn, err := superuser(ctx, c, cluster.Database)
		if err != nil {
			return err
		}
		t, r := fmt.Sprintf("bench.orders_%d", i), fmt.Sprintf("bench_person_%d", i)
		for _, sql := range []string{
			"CREATE SCHEMA IF NOT EXISTS bench", "CREATE TABLE " + t + " (id bigint PRIMARY KEY, customer text NOT NULL, total numeric(12, 2), made timestamptz DEFAULT now())",
			"CREATE INDEX ON " + t + " (customer) WHERE total > 0", "ALTER TABLE " + t + " ADD COLUMN note text", "COMMENT ON TABLE " + t + " IS 'orders of the shop, with what was paid for them'",
			"CREATE ROLE " + r + " LOGIN PASSWORD 'a secret of the bench' VALID UNTIL '2030-01-01'", "GRANT SELECT, INSERT ON " + t + " TO " + r, "ALTER ROLE " + r + " SET statement_timeout = '30s'",
			"CREATE VIEW " + t + "_open AS SELECT id, customer FROM " + t + " WHERE total > 0", "REVOKE ALL ON " + t + " FROM " + r, "DROP VIEW " + t + "_open", "DROP TABLE " + t, "DROP ROLE " + r,
		} {
			if _, err := conn.Exec(ctx, sql); err != nil {
				return pg.Fault(err)
			}
		}
		if err := conn.Close(ctx); err != nil {
			return pg.Fault(err)
		}
	}
	var log []byte
	for read := time.Now(); ; { // the logging collector writes soon, but not at once
		names, err := filepath.Glob(filepath.Join(c.LogDir(), "*.json"))
		if err != nil {
			return err
		}
		log = nil
		for _, name := range names {
			raw, err := os.ReadFile(name)
			if err != nil {
				return err
			}
			log = append(log, raw...)
		}
		if bytes.Contains(log, fmt.Appendf(nil, "DROP ROLE bench_person_%d", sessions-1)) && log[len(log)-1] == '\n' {
			break
		}
		if time.Since(read) > time.Minute {
			return fault.New(fault.Internal, "bench.failed", fault.Args{"message": "pgAudit wrote nothing to " + c.LogDir()})
		}
		if err := pause(ctx, 20*time.Millisecond); err != nil {
			return err
		}
	}
	var first []audit.Line
	var raw [][]byte
	for scan := bufio.NewScanner(bytes.NewReader(log)); scan.Scan(); {
		line, err := audit.ParseLine(scan.Bytes())
		if err != nil {
			return err
		}
		if line.User == cluster.Superuser && line.DB == cluster.Database {
			first, raw = append(first, line), append(raw, slices.Clone(scan.Bytes()))
		}
	}
	for records, day := 0, 0; records < b.Records; day++ {
		for i := range raw {
			l := &first[i]
			shift := time.Duration(day) * 6 * time.Hour
			out := []byte(strings.Replace(string(raw[i]), l.Time.Format(logTime), l.Time.Add(shift).Format(logTime), 1))
			out = bytes.Replace(out, []byte(l.SessionStart.Format(logStart)), []byte(l.SessionStart.Add(shift).Format(logStart)), 1)
			out = bytes.Replace(out, []byte(l.SessionID), fmt.Appendf(nil, "%x.%x", l.SessionStart.Add(shift).Unix(), l.PID), 1)
			b.lines = append(b.lines, out)
			if l.Audit != nil {
				records++
			}
		}
		if records == 0 {
			return fault.New(fault.Internal, "bench.failed", fault.Args{"message": "no line of the log is the bench's"})
		}
	}
	return nil
}

const (
	logTime  = "2006-01-02 15:04:05.000 UTC"
	logStart = `"session_start":"2006-01-02 15:04:05 UTC"`
)

// judged measures reading and judging on one core, beside one that only reads the JSON.
func (b *auditBench) judged(ctx context.Context) error {
	b.Say("bench.say.audit_judged")
	rules, err := judge.LoadRules(nil)
	if err != nil {
		return err
	}
	var values, bases, ratios []float64
	p := probe{}
	for range b.Rounds {
		j := judge.New(rules, judge.Options{Mask: audit.Mask})
		records := 0
		err := b.alone(p, func() error {
			took := spent(p, func() {
				records, err = 0, nil
				for _, raw := range b.lines {
					line, bad := audit.ParseLine(raw)
					if bad != nil {
						err = bad
						return
					}
					if line.Audit != nil {
						records++
					}
					j.Line(&line)
				}
			})
			values = append(values, float64(records)/took.Seconds())
			return err
		})
		if err != nil {
			return err
		}
		took := spent(p, func() {
			var line struct {
				Timestamp, User, DBName, Message, Statement, Detail, Context string
				ApplicationName                                              string `json:"application_name"`
				SessionID                                                    string `json:"session_id"`
				LineNum, TXID, PID                                           int64
			}
			for _, raw := range b.lines {
				if bad := json.Unmarshal(raw, &line); bad != nil {
					err = bad
				}
			}
		})
		if err != nil {
			return err
		}
		bases = append(bases, float64(records)/took.Seconds())
		ratios = append(ratios, values[len(values)-1]/bases[len(bases)-1])
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	b.report.add(Figure{Name: "audit_judged", Value: median(values), Unit: "records/s"}.against(median(bases), ratios).aim(">= %g", 100_000, median(values) >= 100_000))
	return nil
}

// spent is the processor time that something took, of all threads, so that what the garbage collector does on another core counts; where that is not known, the
// time on the clock.
func spent(p probe, run func()) time.Duration {
	runtime.GC()
	before, began := p.now().load, time.Now()
	run()
	if used := p.now().load - before; used > 100*time.Millisecond {
		return used
	}
	return time.Since(began)
}

// houses measures how soon alerts are in the room of a house that is busy, and what auditing costs its chat.
func (b *auditBench) houses(ctx context.Context) (err error) {
	var sides [2]*bench // without auditing, with
	for i := range sides {
		b.Say("bench.say.house")
		own, err := newThrowaway(b.Program, b.dir)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, own.close(context.WithoutCancel(ctx))) }()
		if _, err := own.start(ctx); err != nil {
			return err
		}
		if i == 0 {
			c, err := cluster.New(own.data(), cluster.Installation{}, cluster.Options{})
			if err != nil {
				return err
			}
			if err := unwatch(ctx, c); err != nil {
				return err
			}
			if err := own.kill(); err != nil {
				return err
			}
			if err := own.stopLeft(ctx); err != nil {
				return err
			}
			if _, err := own.start(ctx); err != nil {
				return err
			}
		}
		side := &bench{own: own, house: &own.House, began: time.Now(), report: newReport()}
		side.Say = b.Say
		if err := side.open(ctx); err != nil {
			return err
		}
		defer func() { _ = side.close(context.WithoutCancel(ctx)) }()
		sides[i] = side
	}
	b.report.Versions.Postgres = sides[1].report.Versions.Postgres
	if b.wants("posts") {
		if err := b.chat(ctx, sides); err != nil {
			return err
		}
	}
	if !b.wants("alerts") {
		return nil
	}
	return b.alerts(ctx, sides[1])
}

// unwatch takes all auditing out of a cluster; what is loaded goes with its next start.
func unwatch(ctx context.Context, c *cluster.Cluster) error {
	conn, err := superuser(ctx, c, cluster.Database)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	statements := []string{"DROP EXTENSION IF EXISTS pgaudit"}
	for name, value := range unaudited {
		statements = append(statements, fmt.Sprintf("ALTER SYSTEM SET %s = '%s'", name, value))
	}
	for _, sql := range statements {
		if _, err := conn.Exec(ctx, sql); err != nil {
			return pg.Fault(err)
		}
	}
	return nil
}

// chat compares the rates of posts, in turn.
func (b *auditBench) chat(ctx context.Context, sides [2]*bench) error {
	b.Say("bench.say.audit_chat")
	loads := [2]*load{}
	for i, side := range sides {
		side.Window = b.Window
		loads[i] = &load{name: "posts_16", n: few, share: 1}
		if err := side.place(ctx, loads[i]); err != nil {
			return err
		}
	}
	var bases, values, ratio []float64
	for i := range b.Rounds {
		b.Say("bench.say.round", fault.Args{"round": i + 1})
		var rates [3]float64
		for k, side := range []int{0, 1, 0} {
			it := sides[side]
			err := b.alone(it.probe, func() error {
				got, err := it.once(ctx, loads[side])
				rates[k] = got.rate()
				return err
			})
			if err != nil {
				return err
			}
		}
		base := (rates[0] + rates[2]) / 2
		bases, values, ratio = append(bases, base), append(values, rates[1]), append(ratio, rates[1]/base)
	}
	b.report.add(Figure{Name: "audit_posts", Value: median(values), Unit: "posts/s"}.against(median(bases), ratio).ratioAtLeast(0.97))
	return nil
}

// alerts does what is never normal, each time as somebody else, while people post as fast as they can, and waits at a live socket until the room says so.
func (b *auditBench) alerts(ctx context.Context, house *bench) error {
	b.Say("bench.say.audit_alerts", fault.Args{"n": b.Alerts})
	own, err := cluster.New(house.own.data(), cluster.Installation{}, cluster.Options{})
	if err != nil {
		return err
	}
	super, err := superuser(ctx, own, cluster.Database)
	if err != nil {
		return err
	}
	defer super.Close(ctx)
	load := &load{name: "posts_16", n: few, share: 1}
	if err := house.place(ctx, load); err != nil {
		return err
	}
	if _, err := house.app.Exec(ctx, `UPDATE account.person SET role = 'owner' WHERE id = $1`, house.crowd.people[0]); err != nil {
		return pg.Fault(err)
	}
	for i := range b.Alerts {
		if _, err := super.Exec(ctx, fmt.Sprintf("CREATE ROLE bench_alert_%04d LOGIN SUPERUSER PASSWORD 'bench'", i)); err != nil {
			return pg.Fault(err)
		}
	}
	var room int64
	for began := time.Now(); room == 0; {
		if err := house.owner.QueryRow(ctx, `SELECT coalesce(max(m.room_id), 0) FROM chat.message m JOIN chat.room r ON r.id = m.room_id WHERE r.kind = 'ops'`).Scan(&room); err != nil {
			return pg.Fault(err)
		}
		if time.Since(began) > time.Minute {
			return fault.New(fault.Unavailable, "bench.no_alert")
		}
		if err := pause(ctx, 10*time.Millisecond); err != nil {
			return err
		}
	}
	listener, err := house.house.dial(ctx, house.crowd.tokens[0], room, 256<<10, 0)
	if err != nil {
		return err
	}
	defer listener.Close()

	crew, err := house.newCrew(ctx, load.from, load.n, load.room)
	if err != nil {
		return err
	}
	defer crew.close()
	busy, stop := context.WithCancel(ctx)
	posted := make(chan error, 1)
	go func() {
		_, err := crew.drive(busy, time.Hour)
		posted <- err
	}()
	waits, err := b.wait(ctx, super.Config().ConnString(), listener)
	stop()
	drove := <-posted
	if err != nil {
		return err
	}
	if drove != nil && !errors.Is(drove, context.Canceled) {
		return drove
	}
	b.report.add(Figure{Name: "audit_alert_p50", Value: millis(quantile(waits, 0.50)), Unit: "ms"}, Figure{Name: "audit_alert_p99", Value: millis(quantile(waits, 0.99)), Unit: "ms"}.atMost(1000))
	return nil
}

// wait acts and listens.
func (b *auditBench) wait(ctx context.Context, dsn string, listener *conn) ([]time.Duration, error) {
	var waits []time.Duration
	for i := range b.Alerts {
		config, err := pgx.ParseConfig(dsn)
		if err != nil {
			return nil, err
		}
		config.User, config.Password = fmt.Sprintf("bench_alert_%04d", i), "bench"
		conn, err := pgx.ConnectConfig(ctx, config)
		if err != nil {
			return nil, pg.Fault(err)
		}
		_, err = conn.Exec(ctx, fmt.Sprintf("CREATE ROLE bench_act_%04d SUPERUSER", i))
		committed := time.Now()
		if err != nil {
			return nil, pg.Fault(err)
		}
		_ = conn.Close(ctx)
		if err := listener.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
			return nil, err
		}
		for name := fmt.Appendf(nil, "act_%04d", i); ; {
			payload, err := listener.next()
			if err != nil {
				return nil, fault.Wrap(err, fault.Unavailable, "bench.no_alert")
			}
			if bytes.Contains(bytes.ReplaceAll(payload, []byte(`\\`), nil), name) {
				break
			}
		}
		waits = append(waits, time.Since(committed))
	}
	return waits, nil
}

// lot is how many lines come at once.
const lot = 500

// append puts all lines on a trail, and tells of each lot.
func (b *auditBench) append(trail *audit.Trail, grown func()) (records int, err error) {
	for at := 0; at < len(b.lines); at += lot {
		raw := b.lines[at:min(at+lot, len(b.lines))]
		batch := audit.Batch{Raw: raw, Position: audit.Position{File: "bench.json", Offset: int64(at + len(raw))}}
		for _, r := range raw {
			line, err := audit.ParseLine(r)
			if err != nil {
				return records, err
			}
			if line.Audit != nil {
				records++
			}
			batch.Lines = append(batch.Lines, line)
		}
		if _, _, err := trail.Append(batch); err != nil {
			return records, err
		}
		grown()
	}
	return records, nil
}

// stored measures the trail's files, which are durable, beside a plain file that is synced as often.
func (b *auditBench) stored(ctx context.Context) error {
	b.Say("bench.say.audit_stored")
	var values, bases, ratios []float64
	for round := range b.Rounds {
		dir := filepath.Join(b.dir, fmt.Sprintf("trail-%d", round))
		trail, err := audit.OpenTrail(dir, "bench")
		if err != nil {
			return err
		}
		records := 0
		began := time.Now()
		err = b.alone(probe{}, func() error {
			records, err = b.append(trail, func() {})
			return err
		})
		took := time.Since(began)
		if err = errors.Join(err, trail.Close()); err != nil {
			return err
		}
		plain, err := b.synced(filepath.Join(b.dir, fmt.Sprintf("plain-%d", round)))
		if err != nil {
			return err
		}
		values, bases = append(values, float64(records)/took.Seconds()), append(bases, float64(records)/plain.Seconds())
		ratios = append(ratios, values[round]/bases[round])
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	b.report.add(Figure{Name: "audit_trail", Value: median(values), Unit: "records/s"}.against(median(bases), ratios).aim(">= %g", 20_000, median(values) >= 20_000))
	return nil
}

// synced writes the same lines as they are.
func (b *auditBench) synced(name string) (time.Duration, error) {
	file, err := os.Create(name)
	if err != nil {
		return 0, err
	}
	defer file.Close()
	began := time.Now()
	for at := 0; at < len(b.lines); at += lot {
		if _, err := file.Write(bytes.Join(b.lines[at:min(at+lot, len(b.lines))], []byte("\n"))); err != nil {
			return 0, err
		}
		if err := file.Sync(); err != nil {
			return 0, err
		}
	}
	return time.Since(began), nil
}
