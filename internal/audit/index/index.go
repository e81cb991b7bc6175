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
	pool      *pg.Pool
	source    string
	reader    *audit.Reader
	sure      bool       // the line up to which the tables go was seen to be the files' own
	stored    audit.Head // how far the tables were at the last step
	strangers int64      // rows that stood where the last step stored
	pid       uint32     // of the session that stepped last
	session   string
}

// New makes one for the trail in a folder, whose PostgreSQL goes by a name. It connects when it steps.
func New(pool *pg.Pool, dir, source string) *Index {
	return &Index{pool: pool, source: source, reader: audit.NewReader(dir)}
}

// Until bounds what the steps take: lines behind that one are as if they were not there yet. What a power failure can still take from the files must not be in the tables.
func (x *Index) Until(seq int64) { x.reader.Until(seq) }

// Close closes the files.
func (x *Index) Close() { x.reader.Close() }

// batch is about how many entries go into one transaction.
const batch = 4000

// Step takes some of what the tables do not have into them, and tells how many entries; none says that the tables are level with the files. How far they are is stored in the
// same transaction, so a step that is killed is as if it had not been. A database that was put back to an earlier moment is filled again. One that
// is further than the files, or has had other ones, is a Conflict fault: somebody has cut or changed them.
//
// An entry that the tables cannot hold, whatever is in it, is stored as an event that says so, and those behind it are stored as they are.
func (x *Index) Step(ctx context.Context) (stored int, err error) {
	x.strangers = 0
	stored, err = x.step(ctx, false)
	var known *fault.Fault
	if err != nil && !errors.As(err, &known) && ctx.Err() == nil { // the database lives and refuses a row
		stored, err = x.step(ctx, true)
	}
	if err != nil {
		x.reader.Close()
	}
	return stored, pg.Fault(err)
}

// step is Step; singly stores one entry after the other, each by itself.
func (x *Index) step(ctx context.Context, singly bool) (stored int, err error) {
	var sure bool
	var now audit.Head
	err = x.pool.InTx(ctx, func(tx pgx.Tx) error {
		if err := x.know(ctx, tx); err != nil {
			return err
		}
		id, at, err := x.lock(ctx, tx)
		if err != nil {
			return err
		}
		part, err := x.reader.Next(at.Seq, batch)
		if err != nil {
			return err
		}
		if err := x.same(at, &part); err != nil {
			return err
		}
		if sure, now = part.End.Seq == 0, at; sure {
			return nil
		}
		if stored, err = x.store(ctx, tx, id, part.Entries, singly); err != nil {
			return err
		}
		now = part.End
		_, err = tx.Exec(ctx, `UPDATE audit.source SET seq = $2, hash = $3, changed_at = now() WHERE id = $1`, id, now.Seq, now.Hash[:])
		return err
	})
	if err != nil {
		x.sure = false
		return 0, err
	}
	x.sure, x.stored = sure, now
	return stored, nil
}

// know notes under which number PostgreSQL's log has the session that writes.
func (x *Index) know(ctx context.Context, tx pgx.Tx) error {
	pid := tx.Conn().PgConn().PID()
	if x.pid == pid {
		return nil
	}
	err := tx.QueryRow(ctx, `SELECT to_hex(floor(extract(epoch FROM backend_start))::bigint) || '.' || to_hex(pid) FROM pg_stat_get_activity(pg_backend_pid())`).Scan(&x.session)
	if err == nil {
		x.pid = pid
	}
	return err
}

// Session is the number of the session that stepped last, as in PostgreSQL's log: what it writes there is no news.
func (x *Index) Session() string { return x.session }

// Stored is how far the tables were at the last step that went well.
func (x *Index) Stored() audit.Head { return x.stored }

// Strangers is how many rows the last step found, and removed, where it was to store: somebody else wrote them.
func (x *Index) Strangers() int64 { return x.strangers }

// Look tells how far the tables are, and changes nothing.
func (x *Index) Look(ctx context.Context) (at audit.Head, err error) {
	var hash []byte
	err = x.pool.QueryRow(ctx, `SELECT seq, hash FROM audit.source WHERE name = $1`, x.source).Scan(&at.Seq, &hash)
	if errors.Is(err, pgx.ErrNoRows) {
		return audit.Head{}, nil
	}
	copy(at.Hash[:], hash)
	return at, pg.Fault(err)
}

// lock gives the source's number and how far its tables are, and keeps others from stepping until the transaction ends.
func (x *Index) lock(ctx context.Context, tx pgx.Tx) (id int, at audit.Head, err error) {
	var hash []byte
	const find = `SELECT id, seq, hash FROM audit.source WHERE name = $1 FOR UPDATE`
	err = tx.QueryRow(ctx, find, x.source).Scan(&id, &at.Seq, &hash)
	if errors.Is(err, pgx.ErrNoRows) {
		if _, err = tx.Exec(ctx, `INSERT INTO audit.source (name) VALUES ($1) ON CONFLICT DO NOTHING`, x.source); err == nil {
			err = tx.QueryRow(ctx, find, x.source).Scan(&id, &at.Seq, &hash)
		}
	}
	copy(at.Hash[:], hash)
	return id, at, err
}

// same tells whether the files that were read are those of the tables.
func (x *Index) same(at audit.Head, part *audit.Part) error {
	if part.Have < at.Seq {
		return fault.New(fault.Conflict, "audit.trail_behind", fault.Args{"have": part.Have, "stored": at.Seq})
	}
	if part.After.Seq > 0 && part.After.Hash != at.Hash {
		return fault.New(fault.Conflict, "audit.trail_other", fault.Args{"stored": at.Seq})
	}
	return nil
}

// store puts entries into the tables. They are made fit for that first.
func (x *Index) store(ctx context.Context, tx pgx.Tx, id int, entries []audit.Entry, singly bool) (int, error) {
	fit := make([]audit.Entry, len(entries))
	for i := range entries {
		fit[i] = sane(&entries[i])
	}
	if !singly {
		return len(fit), put(ctx, tx, id, fit)
	}
	if len(fit) > 0 { // somebody else may have put rows where these belong
		tag, err := tx.Exec(ctx, `DELETE FROM audit.entry WHERE source_id = $1 AND seq BETWEEN $2 AND $3`, id, fit[0].Seq, fit[len(fit)-1].Seq)
		if err != nil {
			return 0, err
		}
		x.strangers = tag.RowsAffected()
	}
	for i := range fit {
		err := pgx.BeginFunc(ctx, tx, func(tx pgx.Tx) error { return put(ctx, tx, id, fit[i:i+1]) })
		if err != nil && ctx.Err() == nil && !tx.Conn().IsClosed() {
			fit[i] = unfit(&fit[i], err)
			err = put(ctx, tx, id, fit[i:i+1])
		}
		if err != nil {
			return 0, err
		}
	}
	return len(fit), nil
}

func put(ctx context.Context, tx pgx.Tx, id int, entries []audit.Entry) (err error) {
	rows := make([][]any, len(entries))
	for i := range entries {
		if rows[i], err = row(id, &entries[i]); err != nil {
			return err
		}
	}
	if _, err := tx.CopyFrom(ctx, pgx.Identifier{"audit", "entry"}, columns, pgx.CopyFromRows(rows)); err != nil {
		return err
	}
	if err := count(ctx, tx, id, entries); err != nil {
		return err
	}
	for i := range entries {
		if e := &entries[i]; e.Event != nil {
			if err := follow(ctx, tx, id, e); err != nil {
				return err
			}
		}
	}
	return nil
}

// Rebuild puts aside what the tables hold of the trail, so that the steps that follow make them anew from the files. It is kept under another name, as evidence, until Forget. The
// name is "" when there was nothing.
func (x *Index) Rebuild(ctx context.Context) (aside string, err error) {
	err = x.pool.InTx(ctx, func(tx pgx.Tx) error {
		err := tx.QueryRow(ctx, `UPDATE audit.source SET name = name || '@' || to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') WHERE name = $1 AND seq > 0 RETURNING name`,
			x.source).Scan(&aside)
		if errors.Is(err, pgx.ErrNoRows) {
			aside, err = "", nil
		}
		return err
	})
	x.sure, x.stored = false, audit.Head{}
	x.reader.Close()
	return aside, err
}

// Entries counts what the tables have.
func (x *Index) Entries(ctx context.Context) (n int64, err error) {
	err = x.pool.QueryRow(ctx, `SELECT coalesce(sum(entries), 0)::bigint FROM audit.hour WHERE source_id = (SELECT id FROM audit.source WHERE name = $1)`, x.source).Scan(&n)
	return n, pg.Fault(err)
}

// Aside is what Rebuild put aside.
type Aside struct {
	Name string
	Seq  int64 // the last line of the files that it had
}

// Asides lists what was put aside, oldest first.
func (x *Index) Asides(ctx context.Context) ([]Aside, error) {
	return pg.All[Aside](ctx, x.pool, `SELECT name, seq FROM audit.source WHERE starts_with(name, $1) ORDER BY id`, x.source+"@")
}

// Forget removes what was put aside, some entries at a time.
func (x *Index) Forget(ctx context.Context) error {
	const few = 20_000
	for {
		tag, err := x.pool.Exec(ctx, `DELETE FROM audit.entry WHERE (source_id, seq) IN (SELECT e.source_id, e.seq FROM audit.entry e JOIN audit.source s ON s.id = e.source_id WHERE starts_with(s.name, $1) LIMIT $2)`, x.source+"@", few)
		if err != nil {
			return pg.Fault(err)
		}
		if tag.RowsAffected() < few {
			_, err := x.pool.Exec(ctx, `DELETE FROM audit.source WHERE starts_with(name, $1)`, x.source+"@")
			return pg.Fault(err)
		}
	}
}

// Level tells whether the last step found nothing more to do.
func (x *Index) Level() bool { return x.sure }

// count adds entries to the hours.
func count(ctx context.Context, tx pgx.Tx, source int, entries []audit.Entry) error {
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
func follow(ctx context.Context, tx pgx.Tx, source int, e *audit.Entry) error {
	var id string
	switch v := e.Event; {
	case v.Kind == audit.EventIncident && v.Incident != nil:
		id = v.Incident.ID
	case v.Kind == audit.EventAnswer && v.Answer != nil:
		id = v.Answer.Incident
	case v.Kind == audit.EventRemoved && v.Removed != nil:
		return forget(ctx, tx, source, v.Removed)
	default:
		return nil
	}
	var now audit.Standing
	var told, said []byte
	var answeredAt *time.Time
	err := tx.QueryRow(ctx, `SELECT told, answer, answered_at, open FROM audit.incident WHERE source_id = $1 AND id = $2`, source, id).Scan(&told, &said, &answeredAt, &now.Open)
	known := err == nil
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return err
	}
	if known {
		if err := json.Unmarshal(told, &now.Incident); err != nil {
			return err
		}
	}
	if said != nil {
		now.Answers = make([]audit.Answer, 1)
		if err := json.Unmarshal(said, &now.Answers[0]); err != nil {
			return err
		}
	}
	if i := e.Event.Incident; i != nil && e.Event.Kind == audit.EventIncident {
		now.Tell(i)
	} else if before := len(now.Answers); known {
		if now.Answer(*e.Event.Answer); len(now.Answers) > before {
			answeredAt = &e.Time
		}
	} else {
		return nil // to something that was told before the tables began
	}
	var answer *audit.Answer
	if n := len(now.Answers); n > 0 {
		answer = &now.Answers[n-1]
	}
	i := &now.Incident
	_, err = tx.Exec(ctx, `
		INSERT INTO audit.incident (source_id, id, seq, severity, user_name, host, app, db, began, last, told, answer, answered_at, open)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)
		ON CONFLICT (source_id, id) DO UPDATE SET seq = excluded.seq, severity = excluded.severity, user_name = excluded.user_name, host = excluded.host, app = excluded.app, db = excluded.db,
			began = excluded.began, last = excluded.last, told = excluded.told, answer = excluded.answer, answered_at = excluded.answered_at, open = excluded.open`,
		source, id, e.Seq, i.Severity, i.Actor, i.Source, i.App, i.DB, i.Began, i.Last, i, answer, answeredAt, now.Open)
	return err
}

// forget removes what the files do not keep any longer; of what was put aside, too.
func forget(ctx context.Context, tx pgx.Tx, source int, gone *audit.Removed) error {
	if _, err := tx.Exec(ctx, `DELETE FROM audit.entry WHERE source_id = $1 AND seq <= $2`, source, gone.To); err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, `DELETE FROM audit.incident WHERE source_id = $1 AND seq <= $2`, source, gone.To); err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, `DELETE FROM audit.hour WHERE source_id = $1 AND at < date_trunc('hour', $2::timestamptz)`, source, inCalendar(gone.Until)); err != nil {
		return err
	}
	_, err := tx.Exec(ctx, `DELETE FROM audit.entry WHERE at < $2 AND source_id IN (SELECT s.id FROM audit.source s JOIN audit.source own ON starts_with(s.name, own.name || '@') WHERE own.id = $1)`,
		source, inCalendar(gone.Until))
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
