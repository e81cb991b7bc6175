package bench

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"howdah/internal/audit"
	"howdah/internal/audit/index"
	"howdah/internal/cluster"
	"howdah/internal/pg"
)

// tables measures how fast records are in the trail's files and in the tables of a PostgreSQL as ours are, from the first line that is read to the moment in which the tables are level.
func (b *auditBench) tables(ctx context.Context) (err error) {
	b.Say("bench.say.audit_tables")
	s, err := cluster.NewScratch(ctx, cluster.ScratchOptions{Parent: b.dir})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close(context.WithoutCancel(ctx))) }()
	owner, err := s.DSN(cluster.Owner, cluster.Database)
	if err != nil {
		return err
	}
	if err := pg.Migrate(ctx, owner, cluster.App); err != nil {
		return err
	}
	dsn, err := s.DSN(cluster.App, cluster.Database)
	if err != nil {
		return err
	}
	pool, err := pg.Open(ctx, dsn, pg.Options{MaxConns: 2})
	if err != nil {
		return err
	}
	defer pool.Close()
	var values []float64
	for round := range b.Rounds {
		source := fmt.Sprintf("bench-%d", round)
		dir := filepath.Join(b.dir, "tables-"+source)
		trail, err := audit.OpenTrail(dir, source)
		if err != nil {
			return err
		}
		records := 0
		began := time.Now()
		err = b.alone(probe{}, func() error {
			heads, filled := make(chan int64, len(b.lines)/lot+2), make(chan error, 1)
			go func() { filled <- fill(ctx, index.New(pool, dir, source), heads) }()
			records, err = b.append(trail, func() { heads <- trail.Head().Seq })
			close(heads)
			return errors.Join(err, <-filled)
		})
		took := time.Since(began)
		if err = errors.Join(err, trail.Close()); err != nil {
			return err
		}
		values = append(values, float64(records)/took.Seconds())
	}
	b.report.add(Figure{Name: "audit_stored", Value: median(values), Unit: "records/s"}.aim(">= %g", 20_000, median(values) >= 20_000))
	return nil
}

// fill takes into the tables what the files have, up to each line that is told, and ends when no more is.
func fill(ctx context.Context, x *index.Index, heads <-chan int64) error {
	defer x.Close()
	for head := range heads {
		for more := true; more; { // what came meanwhile goes with it
			select {
			case next, open := <-heads:
				if more = open; open {
					head = next
				}
			default:
				more = false
			}
		}
		x.Until(head)
		for x.Stored().Seq < head {
			if _, err := x.Step(ctx); err != nil {
				return err
			}
		}
	}
	return nil
}
