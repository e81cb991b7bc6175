// Package index keeps the tables of schema audit level with an audit trail's files, and looks things up in them. The files are the truth: what is here can be made anew from them.
package index

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"howdah/internal/audit"
	"howdah/internal/fault"
	"howdah/internal/pg"
)

// Index writes the tables of a trail. It is not safe for concurrent use.
type Index struct {
	pool   *pg.Pool
	source string
	reader *audit.Reader
	sure   bool // the line up to which the tables go was seen to be the files' own
}

// New makes one for the trail in a folder, whose PostgreSQL goes by a name. It connects when it steps.
func New(pool *pg.Pool, dir, source string) *Index {
	return &Index{pool: pool, source: source, reader: audit.NewReader(dir)}
}

// Close closes the files.
func (x *Index) Close() { x.reader.Close() }

// batch is about how many entries go into one transaction.
const batch = 4000

// Step takes some of what the tables do not have into them, and tells how many entries; none says that the tables are level with the files. How far they are is stored in the
// same transaction, so a step that is killed is as if it had not been. A database that was put back to an earlier moment is filled again. One that
// is further than the files, or has had other ones, is a Conflict fault: somebody has cut or changed them.
func (x *Index) Step(ctx context.Context) (stored int, err error) {
	sure := false
	err = x.pool.InTx(ctx, func(tx pgx.Tx) error {
		stored = 0
		var id int
		var at audit.Head
		var hash []byte
		const find = `SELECT id, seq, hash FROM audit.source WHERE name = $1 FOR UPDATE`
		err := tx.QueryRow(ctx, find, x.source).Scan(&id, &at.Seq, &hash)
		if errors.Is(err, pgx.ErrNoRows) {
			if _, err = tx.Exec(ctx, `INSERT INTO audit.source (name) VALUES ($1) ON CONFLICT DO NOTHING`, x.source); err == nil {
				err = tx.QueryRow(ctx, find, x.source).Scan(&id, &at.Seq, &hash)
			}
		}
		if err != nil {
			return err
		}
		copy(at.Hash[:], hash)
		part, err := x.reader.Next(at.Seq, batch)
		if err != nil {
			return err
		}
		if part.Have < at.Seq {
			return fault.New(fault.Conflict, "audit.trail_behind", fault.Args{"have": part.Have, "stored": at.Seq})
		}
		if part.After.Seq > 0 && part.After.Hash != at.Hash {
			return fault.New(fault.Conflict, "audit.trail_other", fault.Args{"stored": at.Seq})
		}
		sure = part.End.Seq == 0
		if part.End.Seq == 0 {
			return nil
		}
		rows := make([][]any, len(part.Entries))
		for i := range part.Entries {
			if rows[i], err = row(id, &part.Entries[i]); err != nil {
				return err
			}
		}
		if _, err = tx.CopyFrom(ctx, pgx.Identifier{"audit", "entry"}, columns, pgx.CopyFromRows(rows)); err != nil {
			return err
		}
		stored = len(rows)
		if err := count(ctx, tx, id, part.Entries); err != nil {
			return err
		}
		for i := range part.Entries {
			if e := &part.Entries[i]; e.Event != nil {
				if err := follow(ctx, tx, id, e); err != nil {
					return err
				}
			}
		}
		_, err = tx.Exec(ctx, `UPDATE audit.source SET seq = $2, hash = $3, changed_at = now() WHERE id = $1`, id, part.End.Seq, part.End.Hash[:])
		return err
	})
	if err != nil {
		x.reader.Close()
	}
	x.sure = err == nil && sure
	return stored, err
}

// Level tells whether the last step found nothing more to do.
func (x *Index) Level() bool { return x.sure }

// count adds entries to the hours.
func count(ctx context.Context, tx pgx.Tx, source int, entries []audit.Entry) error {
	type hour struct {
		at         int64
		kind, role string
	}
	sums := map[hour]int64{}
	for i := range entries {
		e := &entries[i]
		sums[hour{e.Time.Truncate(time.Hour).Unix(), e.Class(), e.User}]++
	}
	hours := make([]hour, 0, len(sums))
	for h := range sums {
		hours = append(hours, h)
	}
	slices.SortFunc(hours, func(a, b hour) int {
		if a.at != b.at {
			return int(a.at - b.at)
		}
		return strings.Compare(a.kind+"\x00"+a.role, b.kind+"\x00"+b.role)
	})
	at, kinds, roles, counts := make([]time.Time, len(hours)), make([]string, len(hours)), make([]string, len(hours)), make([]int64, len(hours))
	for i, h := range hours {
		at[i], kinds[i], roles[i], counts[i] = time.Unix(h.at, 0).UTC(), h.kind, h.role, sums[h]
	}
	_, err := tx.Exec(ctx, `
		INSERT INTO audit.hour (source_id, at, kind, user_name, entries)
		SELECT $1, * FROM unnest($2::timestamptz[], $3::text[], $4::text[], $5::bigint[])
		ON CONFLICT (source_id, at, kind, user_name) DO UPDATE SET entries = audit.hour.entries + excluded.entries`, source, at, kinds, roles, counts)
	return err
}

// follow does what an event says of other rows.
func follow(ctx context.Context, tx pgx.Tx, source int, e *audit.Entry) (err error) {
	switch v := e.Event; {
	case v.Kind == audit.EventIncident && v.Incident != nil:
		i := v.Incident
		_, err = tx.Exec(ctx, `
			INSERT INTO audit.incident (source_id, id, seq, severity, user_name, host, app, db, began, last, told, open)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, true)
			ON CONFLICT (source_id, id) DO UPDATE SET seq = excluded.seq, severity = excluded.severity, user_name = excluded.user_name, host = excluded.host, app = excluded.app,
				db = excluded.db, began = excluded.began, last = excluded.last, told = excluded.told`,
			source, i.ID, e.Seq, i.Severity, i.Actor, i.Source, i.App, i.DB, i.Began, i.Last, i)
	case v.Kind == audit.EventAnswer && v.Answer != nil:
		a := v.Answer
		_, err = tx.Exec(ctx, `UPDATE audit.incident SET seq = $3, answer = $4, answered_at = $5, open = $6 WHERE source_id = $1 AND id = $2`,
			source, a.Incident, e.Seq, a, e.Time, a.What == audit.Reopened)
	}
	return err
}

var columns = []string{
	"source_id", "seq", "at", "kind", "outcome", "session_id", "line_num", "session_start", "user_name", "db", "app", "host", "port", "pid", "ps", "vxid", "txid", "severity", "state",
	"message", "detail", "hint", "statement", "context", "backend_type", "query_id", "forged", "type", "statement_id", "substatement_id", "class", "command",
	"object_type", "object_name", "parameter", "rows", "event",
}

// selected are the columns that scan reads.
var selected = strings.Join(slices.Delete(slices.Clone(columns), 0, 1), ", ")

func row(source int, e *audit.Entry) ([]any, error) {
	r := e.Audit
	if r == nil {
		r = &audit.EntryRecord{Rows: -1}
	}
	var event []byte
	if e.Event != nil {
		var err error
		if event, err = json.Marshal(e.Event); err != nil {
			return nil, err
		}
	}
	return []any{
		source, e.Seq, e.Time, e.Class(), e.Outcome(), e.SessionID, e.LineNum, e.SessionStart, e.User, e.DB, e.App, e.Host, int64(e.Port), int64(e.PID), e.PS, e.VXID, e.TXID, e.Severity, e.State,
		e.Message, e.Detail, e.Hint, e.Statement, e.Context, e.BackendType, e.QueryID, e.Forged, r.Type, r.StatementID, r.SubstatementID, r.Class, r.Command,
		r.ObjectType, r.ObjectName, r.Parameter, r.Rows, event,
	}, nil
}

// scan reads a row of selected; sorted is what the index keeps of it beside, to find it by.
func scan(row pgx.CollectableRow) (e audit.Entry, sorted [2]string, err error) {
	var r audit.EntryRecord
	var event []byte
	var port, pid int64
	err = row.Scan(&e.Seq, &e.Time, &sorted[0], &sorted[1], &e.SessionID, &e.LineNum, &e.SessionStart, &e.User, &e.DB, &e.App, &e.Host, &port, &pid, &e.PS, &e.VXID, &e.TXID, &e.Severity, &e.State,
		&e.Message, &e.Detail, &e.Hint, &e.Statement, &e.Context, &e.BackendType, &e.QueryID, &e.Forged, &r.Type, &r.StatementID, &r.SubstatementID, &r.Class, &r.Command,
		&r.ObjectType, &r.ObjectName, &r.Parameter, &r.Rows, &event)
	if err != nil {
		return e, sorted, pg.Fault(err)
	}
	e.Port, e.PID, e.Time = int(port), int(pid), e.Time.UTC()
	if e.SessionStart != nil {
		start := e.SessionStart.UTC()
		e.SessionStart = &start
	}
	if r.Type != "" {
		e.Audit = &r
	}
	if event != nil {
		e.Event = &audit.Event{}
		err = json.Unmarshal(event, e.Event)
	}
	return e, sorted, err
}
