package bench

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"

	"howdah/internal/cluster"
	"howdah/internal/pg"
)

// schema holds the bench's own table, beside the house's.
const schema = "howdah_bench"

// baseline is what PostgreSQL does for anybody: 16 connections that each insert one row per commit, into a table like
// chat.message; and one connection that inserts 32 rows per commit, the ceiling of storing many posts together.
type baseline struct {
	conns  []*pgx.Conn
	seqs   []int64
	bodies []string
}

const (
	insertOne  = `INSERT INTO ` + schema + `.message (room_id, seq, author_id, client_id, at, body) VALUES ($1, $2, $3, $4, clock_timestamp(), $5)`
	insertMany = `INSERT INTO ` + schema + `.message (room_id, seq, author_id, client_id, at, body)
		SELECT r, s, a, c, clock_timestamp(), b FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::uuid[], $5::text[]) AS p (r, s, a, c, b)`
	manyRows = 32
)

func newBaseline(ctx context.Context, owner *pgx.Conn, dsn string, bodies []string) (*baseline, error) {
	for _, sql := range []string{
		`DROP SCHEMA IF EXISTS ` + schema + ` CASCADE`, `CREATE SCHEMA ` + schema,
		`CREATE TABLE ` + schema + `.message (LIKE chat.message INCLUDING ALL)`,
	} {
		if _, err := owner.Exec(ctx, sql); err != nil {
			return nil, pg.Fault(err)
		}
	}
	l := &baseline{seqs: make([]int64, few+1), bodies: bodies}
	for range few + 1 {
		conn, err := pgx.Connect(ctx, dsn)
		if err != nil {
			l.close(ctx)
			return nil, pg.Fault(err)
		}
		l.conns = append(l.conns, conn)
		if _, err = conn.Prepare(ctx, "one", insertOne); err == nil {
			_, err = conn.Prepare(ctx, "many", insertMany)
		}
		if err != nil {
			l.close(ctx)
			return nil, pg.Fault(err)
		}
	}
	return l, nil
}

func (l *baseline) close(ctx context.Context) {
	for _, conn := range l.conns {
		_ = conn.Close(ctx)
	}
}

// single is the rate of single-row commits of 16 connections, in rows per second.
func (l *baseline) single(ctx context.Context, window time.Duration) (float64, error) {
	ctx = context.WithoutCancel(ctx) // a context that can end costs a goroutine per statement; this ends soon by itself
	return l.run(window, l.conns[:few], func(i int, conn *pgx.Conn) (int64, error) {
		// Straight to the protocol, with parameters as text: a driver's conveniences would cost the baseline.
		l.seqs[i]++
		seq := l.seqs[i]
		params := [][]byte{
			strconv.AppendInt(nil, int64(i+1), 10), strconv.AppendInt(nil, seq, 10), strconv.AppendInt(nil, int64(i+1), 10),
			fmt.Appendf(nil, "00000000-0000-4000-8000-%012x", seq), []byte(l.bodies[int(seq)%len(l.bodies)]),
		}
		_, err := conn.PgConn().ExecPrepared(ctx, "one", params, nil, nil).Close()
		return 1, err
	})
}

// many is the rate of one connection with 32 rows per commit, in rows per second.
func (l *baseline) many(ctx context.Context, window time.Duration) (float64, error) {
	ctx = context.WithoutCancel(ctx)
	rooms, seqs, authors := make([]int64, manyRows), make([]int64, manyRows), make([]int64, manyRows)
	clients, bodies := make([]string, manyRows), make([]string, manyRows)
	return l.run(window, l.conns[few:], func(_ int, conn *pgx.Conn) (int64, error) {
		for i := range manyRows {
			l.seqs[few]++
			rooms[i], seqs[i], authors[i] = few+1, l.seqs[few], few+1
			clients[i], bodies[i] = fmt.Sprintf("00000000-0000-4000-8000-%012x", seqs[i]), l.bodies[int(seqs[i])%len(l.bodies)]
		}
		_, err := conn.Exec(ctx, "many", rooms, seqs, authors, clients, bodies)
		return manyRows, err
	})
}

func (l *baseline) run(window time.Duration, conns []*pgx.Conn, insert func(i int, conn *pgx.Conn) (int64, error)) (float64, error) {
	var stop atomic.Bool
	var rows atomic.Int64
	var done sync.WaitGroup
	failed := make(chan error, len(conns))
	began := time.Now()
	for i, conn := range conns {
		done.Go(func() {
			for !stop.Load() {
				n, err := insert(i, conn)
				if err != nil {
					failed <- pg.Fault(err)
					return
				}
				rows.Add(n)
			}
		})
	}
	timer := time.NewTicker(window)
	defer timer.Stop()
	var err error
	var n int64
	for n == 0 && err == nil { // where the disk stalls, until something was stored
		select {
		case <-timer.C:
			n = rows.Load()
		case err = <-failed:
		}
	}
	took := time.Since(began)
	stop.Store(true)
	done.Wait()
	if err == nil && len(failed) > 0 {
		err = <-failed
	}
	return float64(n) / took.Seconds(), err
}

// superuser connects as the superuser of a cluster that a benchmark made. The caller closes the connection.
func superuser(ctx context.Context, c *cluster.Cluster, database string) (*pgx.Conn, error) {
	dsn, err := c.DSN(cluster.Superuser, database)
	if err != nil {
		return nil, err
	}
	conn, err := pgx.Connect(ctx, dsn)
	return conn, pg.Fault(err)
}
