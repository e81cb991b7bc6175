package index

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"howdah/internal/audit"
	"howdah/internal/fault"
	"howdah/internal/pg"
)

// Reader looks things up in the tables of a trail. It is safe for concurrent use.
type Reader struct {
	pool   *pg.Pool
	source string
}

// NewReader makes one for the PostgreSQL of a name.
func NewReader(pool *pg.Pool, source string) *Reader { return &Reader{pool, source} }

// Page is a page of entries, newest first.
type Page struct {
	Entries []audit.Entry
	// More is where the next page begins (Filter.Before); the zero cursor when there is none. What no index serves (Text, App, Source, Without, ...) is looked for in as many entries as a moment
	// allows: then a page may be short, or empty, and More is how far it has looked.
	More audit.Cursor
}

const (
	mostEntries = 1000
	// What no index serves is looked for in lots, the first of which is small, since what is looked for is mostly near; and on until a moment is over.
	firstLot = 1000
	mostLot  = 20_000
	moment   = 80 * time.Millisecond
)

// query collects a statement's conditions and arguments.
type query struct {
	where []string
	args  []any
}

// add adds a condition, in which $$ stands for the argument.
func (q *query) add(condition string, arg any) {
	q.args = append(q.args, arg)
	q.where = append(q.where, strings.ReplaceAll(condition, "$$", fmt.Sprintf("$%d", len(q.args))))
}

func (q *query) text() string {
	if len(q.where) == 0 {
		return "true"
	}
	return strings.Join(q.where, " AND ")
}

// like adds a condition on a column by a pattern of audit.Filter.
func (q *query) like(column, pattern string) {
	switch {
	case pattern == "":
	case strings.Contains(pattern, "*"):
		q.add(column+` LIKE $$`, strings.ReplaceAll(escape(pattern), "*", "%"))
	default:
		q.add(column+` = $$`, pattern)
	}
}

func escape(pattern string) string {
	return strings.NewReplacer(`\`, `\\`, `%`, `\%`, `_`, `\_`).Replace(pattern)
}

const searchText = `concat_ws(E'\n', message, statement, detail, hint, context, user_name, app, host, db, command, object_name, parameter, event::text)`

// conditions are those of a filter: which the indexes serve, and which need a look at each entry.
func conditions(source int, f audit.Filter) (served query, looks []func(*query)) {
	served.add("source_id = $$", source)
	if !f.From.IsZero() {
		served.add("at >= $$", f.From)
	}
	if !f.To.IsZero() {
		served.add("at < $$", f.To)
	}
	if len(f.Without) > 0 { // there can be any number of them before one that is not
		looks = append(looks, func(q *query) { q.add("kind <> ALL ($$)", f.Without) })
	}
	if f.Before != (audit.Cursor{}) {
		served.args = append(served.args, f.Before.Time, f.Before.Seq)
		served.where = append(served.where, fmt.Sprintf("(at, seq) < ($%d, $%d)", len(served.args)-1, len(served.args)))
	}
	later := func(column, pattern string) {
		if pattern != "" {
			looks = append(looks, func(q *query) { q.like(column, pattern) })
		}
	}
	either := func(column, pattern string) { // an index serves what is said in full
		if strings.Contains(pattern, "*") {
			later(column, pattern)
		} else {
			served.like(column, pattern)
		}
	}
	either("kind", strings.ToUpper(f.Class))
	either("user_name", f.Role)
	either("session_id", f.Session)
	if f.Object != "" && !strings.Contains(f.Object, "*") {
		served.add("object_name <> '' AND left(object_name, 200) = left($$, 200)", f.Object)
	}
	later("object_name", f.Object)
	later("host", f.Source)
	later("app", f.App)
	later("db", f.DB)
	later("upper(CASE WHEN type = '' THEN ps ELSE command END)", strings.ToUpper(f.Command))
	later("outcome", strings.ToLower(f.Outcome))
	if f.Severity != "" {
		looks = append(looks, func(q *query) {
			q.like("upper(coalesce(event->'incident'->>'severity', severity))", strings.ToUpper(f.Severity))
		})
	}
	if f.Text != "" {
		looks = append(looks, func(q *query) { q.add(searchText+` ILIKE $$`, "%"+escape(f.Text)+"%") })
	}
	return served, looks
}

// id of the source; found is false while nothing was stored.
func (r *Reader) id(ctx context.Context) (id int, found bool, err error) {
	err = r.pool.QueryRow(ctx, `SELECT id FROM audit.source WHERE name = $1`, r.source).Scan(&id)
	if errors.Is(err, pgx.ErrNoRows) {
		return 0, false, nil
	}
	return id, err == nil, pg.Fault(err)
}

// Entries gives a page of entries that a filter chooses, newest first; 100 unless the filter says otherwise, and 1000 at most. However rare what it chooses is, it answers soon: see Page.
func (r *Reader) Entries(ctx context.Context, f audit.Filter) (Page, error) {
	id, found, err := r.id(ctx)
	if err != nil || !found {
		return Page{}, err
	}
	if f.Limit <= 0 {
		f.Limit = 100
	}
	f.Limit = min(f.Limit, mostEntries)
	if q, looks := conditions(id, f); len(looks) == 0 {
		page, err := r.entries(ctx, fmt.Sprintf("SELECT %s FROM audit.entry WHERE %s ORDER BY at DESC, seq DESC LIMIT %d", selected, q.text(), f.Limit), q.args)
		if len(page.Entries) == f.Limit {
			page.More = place(&page.Entries[f.Limit-1])
		}
		return page, err
	}
	// Which they are is found first, without their texts, and then they are read.
	var chosen []int64
	more := f.Before
	began := time.Now()
	for lot := firstLot; len(chosen) < f.Limit; {
		left := f
		left.Before = more
		looked, at, err := r.lot(ctx, id, left, lot, f.Limit-len(chosen), &chosen)
		if err != nil {
			return Page{}, err
		}
		if more = at; at == (audit.Cursor{}) {
			break // that is all there is
		}
		took := max(time.Since(began), time.Millisecond)
		if took >= moment {
			break
		}
		// No more than what is left of the moment is good for; at least so many that each page gets on.
		lot = max(firstLot, min(mostLot, 4*lot, int(float64(looked)*float64(moment-took)/float64(took))))
	}
	if len(chosen) == 0 {
		return Page{More: more}, nil
	}
	page, err := r.entries(ctx, `SELECT `+selected+` FROM audit.entry WHERE source_id = $1 AND seq = ANY ($2) ORDER BY at DESC, seq DESC`, []any{id, chosen})
	page.More = more
	return page, err
}

func (r *Reader) entries(ctx context.Context, sql string, args []any) (page Page, err error) {
	rows, err := r.pool.Query(ctx, sql, args...)
	if err != nil {
		return Page{}, pg.Fault(err)
	}
	page.Entries, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (audit.Entry, error) { e, _, err := scan(row); return e, err })
	return page, pg.Fault(err)
}

func place(e *audit.Entry) audit.Cursor { return audit.Cursor{Time: e.Time, Seq: e.Seq} }

// lot looks through so many entries from a place on, adds those that are chosen, up to a number, and tells how many it has looked at and where to go on: behind the last of these, or of the lot; the zero cursor when that was all.
func (r *Reader) lot(ctx context.Context, id int, f audit.Filter, size, wanted int, chosen *[]int64) (looked int, more audit.Cursor, err error) {
	q, looks := conditions(id, f)
	inner := fmt.Sprintf("SELECT * FROM audit.entry WHERE %s ORDER BY at DESC, seq DESC LIMIT %d", q.text(), size)
	outer := query{args: q.args}
	for _, look := range looks {
		look(&outer)
	}
	rows, err := r.pool.Query(ctx, fmt.Sprintf(`SELECT seq, at, n, hit FROM (SELECT seq, at, row_number() OVER (ORDER BY at DESC, seq DESC) AS n, (%s) IS TRUE AS hit FROM (%s) x) y
		WHERE hit OR n = %d ORDER BY at DESC, seq DESC LIMIT %d`, outer.text(), inner, size, wanted), outer.args...)
	if err != nil {
		return 0, more, pg.Fault(err)
	}
	defer rows.Close()
	got := 0
	for rows.Next() {
		var seq int64
		var at time.Time
		var hit bool
		if err := rows.Scan(&seq, &at, &looked, &hit); err != nil {
			return 0, more, pg.Fault(err)
		}
		if hit {
			*chosen = append(*chosen, seq)
			got++
		}
		if got == wanted || looked == size {
			more = audit.Cursor{Time: at.UTC(), Seq: seq}
		}
	}
	return looked, more, pg.Fault(rows.Err())
}

// Entry is the entry of a number.
func (r *Reader) Entry(ctx context.Context, seq int64) (audit.Entry, error) {
	rows, err := r.pool.Query(ctx, `SELECT `+selected+` FROM audit.entry WHERE source_id = (SELECT id FROM audit.source WHERE name = $1) AND seq = $2`, r.source, seq)
	if err != nil {
		return audit.Entry{}, pg.Fault(err)
	}
	e, err := pgx.CollectExactlyOneRow(rows, func(row pgx.CollectableRow) (audit.Entry, error) { e, _, err := scan(row); return e, err })
	if errors.Is(err, pgx.ErrNoRows) {
		return e, fault.New(fault.NotFound, "audit.no_entry", fault.Args{"id": seq})
	}
	return e, pg.Fault(err)
}

// Session gives the entries of a session of PostgreSQL from its beginning, in the order in which they were read, behind the entry of a number (0: all), 1000 at most.
func (r *Reader) Session(ctx context.Context, session string, after int64) ([]audit.Entry, error) {
	rows, err := r.pool.Query(ctx, `SELECT `+selected+` FROM audit.entry
		WHERE source_id = (SELECT id FROM audit.source WHERE name = $1) AND session_id = $2 AND seq > $3 ORDER BY seq LIMIT $4`, r.source, session, after, mostEntries)
	if err != nil {
		return nil, pg.Fault(err)
	}
	entries, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (audit.Entry, error) { e, _, err := scan(row); return e, err })
	return entries, pg.Fault(err)
}

// Bar is how many entries of a class there were in a span of time.
type Bar struct {
	At      time.Time // its beginning
	Class   string
	Entries int64
}

// Activity counts the entries of each class from a time to another in buckets, which begin at whole multiples of their length (UTC). From an hour on it reads sums that are kept; shorter
// buckets count the entries themselves, of two days at most.
func (r *Reader) Activity(ctx context.Context, from, to time.Time, bucket time.Duration) ([]Bar, error) {
	if bucket < time.Minute || !from.Before(to) || to.Sub(from)/bucket > 5000 || bucket < time.Hour && to.Sub(from) > 48*time.Hour || bucket > time.Hour && bucket%time.Hour != 0 {
		return nil, fault.New(fault.Invalid, "audit.span")
	}
	sql := `SELECT date_bin(make_interval(secs => $4), at, '1970-01-01 00:00:00Z'), kind, sum(entries)::bigint FROM audit.hour
		WHERE source_id = (SELECT id FROM audit.source WHERE name = $1) AND at >= $2 AND at < $3 GROUP BY 1, 2 ORDER BY 1, 2`
	if bucket < time.Hour {
		sql = `SELECT date_bin(make_interval(secs => $4), at, '1970-01-01 00:00:00Z'), kind, count(*) FROM audit.entry
			WHERE source_id = (SELECT id FROM audit.source WHERE name = $1) AND at >= $2 AND at < $3 GROUP BY 1, 2 ORDER BY 1, 2`
	} else {
		from = from.Truncate(time.Hour)
	}
	bars, err := pg.All[Bar](ctx, r.pool, sql, r.source, from, to, bucket.Seconds())
	for i := range bars {
		bars[i].At = bars[i].At.UTC()
	}
	return bars, err
}

// mostCounted entries are counted one by one in a moment; of more there are the sums of hours.
const mostCounted = 30_000

// Fine tells whether Activity is to count what lies between in buckets shorter than an hour: that takes its time where there is very much.
func (r *Reader) Fine(ctx context.Context, from, to time.Time) (fine bool, err error) {
	err = r.pool.QueryRow(ctx, `SELECT coalesce(sum(entries), 0) <= $4 FROM audit.hour WHERE source_id = (SELECT id FROM audit.source WHERE name = $1) AND at >= $2 AND at < $3`,
		r.source, from.Truncate(time.Hour), to, mostCounted).Scan(&fine)
	return fine, pg.Fault(err)
}

// Hour is how many entries a role brought in an hour of the week.
type Hour struct {
	Role    string
	Hour    int // 0 is Monday 00:00 to 01:00 UTC, 167 the last of Sunday
	Entries int64
}

// Week counts the entries of each role that has a name by the hour of the week.
func (r *Reader) Week(ctx context.Context, from, to time.Time) ([]Hour, error) {
	return pg.All[Hour](ctx, r.pool, `
		SELECT user_name, ((extract(isodow FROM at AT TIME ZONE 'UTC') - 1) * 24 + extract(hour FROM at AT TIME ZONE 'UTC'))::int, sum(entries)::bigint FROM audit.hour
		WHERE source_id = (SELECT id FROM audit.source WHERE name = $1) AND at >= $2 AND at < $3 AND user_name <> '' GROUP BY 1, 2 ORDER BY 1, 2`, r.source, from.Truncate(time.Hour), to)
}

// Incident is an incident as it stands, and what was answered to it last.
type Incident struct {
	audit.Incident
	Seq        int64 // of the newest entry about it
	Answer     *audit.Answer
	AnsweredAt *time.Time
	Open       bool
}

// IncidentFilter chooses incidents. What is empty chooses all.
type IncidentFilter struct {
	From, To time.Time // of their beginning; To is not in it
	Open     bool      // only those that are open
	Severity string
	Role     string
	Before   string // the ID of an incident: older ones than that, for the next page
	Limit    int    // 100 when 0, 1000 at most
}

const incidentColumns = `told, seq, answer, answered_at, open`

func scanIncident(row pgx.CollectableRow) (i Incident, err error) {
	var told, answer []byte
	if err := row.Scan(&told, &i.Seq, &answer, &i.AnsweredAt, &i.Open); err != nil {
		return i, pg.Fault(err)
	}
	err = json.Unmarshal(told, &i.Incident)
	if answer != nil && err == nil {
		i.Answer = &audit.Answer{}
		err = json.Unmarshal(answer, i.Answer)
	}
	if i.AnsweredAt != nil {
		at := i.AnsweredAt.UTC()
		i.AnsweredAt = &at
	}
	return i, err
}

// Incidents gives incidents that a filter chooses, newest first.
func (r *Reader) Incidents(ctx context.Context, f IncidentFilter) ([]Incident, error) {
	id, found, err := r.id(ctx)
	if err != nil || !found {
		return nil, err
	}
	var q query
	q.add("source_id = $$", id)
	if !f.From.IsZero() {
		q.add("began >= $$", f.From)
	}
	if !f.To.IsZero() {
		q.add("began < $$", f.To)
	}
	if f.Open {
		q.where = append(q.where, "open")
	}
	q.like("severity", strings.ToLower(f.Severity))
	q.like("user_name", f.Role)
	if f.Before != "" {
		q.add("(began, id) < (SELECT began, id FROM audit.incident WHERE source_id = $1 AND id = $$)", f.Before)
	}
	if f.Limit <= 0 {
		f.Limit = 100
	}
	rows, err := r.pool.Query(ctx, fmt.Sprintf(`SELECT %s FROM audit.incident WHERE %s ORDER BY began DESC, id DESC LIMIT %d`, incidentColumns, q.text(), min(f.Limit, mostEntries)), q.args...)
	if err != nil {
		return nil, pg.Fault(err)
	}
	incidents, err := pgx.CollectRows(rows, scanIncident)
	return incidents, pg.Fault(err)
}

// Incident is the incident of an ID.
func (r *Reader) Incident(ctx context.Context, id string) (Incident, error) {
	rows, err := r.pool.Query(ctx, `SELECT `+incidentColumns+` FROM audit.incident WHERE source_id = (SELECT id FROM audit.source WHERE name = $1) AND id = $2`, r.source, id)
	if err != nil {
		return Incident{}, pg.Fault(err)
	}
	i, err := pgx.CollectExactlyOneRow(rows, scanIncident)
	if errors.Is(err, pgx.ErrNoRows) {
		return i, fault.New(fault.NotFound, "audit.no_incident", fault.Args{"id": id})
	}
	return i, pg.Fault(err)
}

// Stream gives all entries that a filter chooses, newest first, one by one: for exports. It reads page by page, so it holds no transaction while take is slow.
func (r *Reader) Stream(ctx context.Context, f audit.Filter, take func(*audit.Entry) error) error {
	left := f.Limit
	for {
		f.Limit = mostEntries
		if left > 0 {
			f.Limit = min(left, mostEntries)
		}
		page, err := r.Entries(ctx, f)
		if err != nil {
			return err
		}
		for i := range page.Entries {
			if err := take(&page.Entries[i]); err != nil {
				return err
			}
		}
		if left > 0 {
			if left -= len(page.Entries); left <= 0 {
				return nil
			}
		}
		if page.More == (audit.Cursor{}) {
			return nil
		}
		f.Before = page.More
	}
}

// First is the time of the oldest entry; zero when there is none.
func (r *Reader) First(ctx context.Context) (at time.Time, err error) {
	err = r.pool.QueryRow(ctx, `SELECT at FROM audit.entry WHERE source_id = (SELECT id FROM audit.source WHERE name = $1) ORDER BY at, seq LIMIT 1`, r.source).Scan(&at)
	if errors.Is(err, pgx.ErrNoRows) {
		return time.Time{}, nil
	}
	return at.UTC(), pg.Fault(err)
}

// Level tells how far the tables are: the number of the last line of the files that they have, and when they came to be so.
func (r *Reader) Level(ctx context.Context) (seq int64, at time.Time, err error) {
	err = r.pool.QueryRow(ctx, `SELECT seq, changed_at FROM audit.source WHERE name = $1`, r.source).Scan(&seq, &at)
	if errors.Is(err, pgx.ErrNoRows) {
		return 0, time.Time{}, nil
	}
	return seq, at.UTC(), pg.Fault(err)
}
