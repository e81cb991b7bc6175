package index

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"howdah/internal/audit"
	"howdah/internal/pg"
)

// Comparison is what Compare found.
type Comparison struct {
	Stored   audit.Head // the last line that the tables have
	Compared int64      // entries that stand in both
	Older    int64      // rows from before the files that are left: nothing says whether they are as they were
	Unfit    []int64    // entries that the tables say they could not hold
	Problems []Difference
}

// Difference is a place where the tables do not say what the files say.
type Difference struct {
	Kind     string // one of the constants below
	Seq      int64  // of the line; 0 where it is not about one
	Incident string // its ID
	Hour     time.Time
}

// The kinds of differences.
const (
	RowEdited     = "row_edited"     // it says something else than the line
	RowDeleted    = "row_deleted"    // the line has no row
	RowAdded      = "row_added"      // no line has this number
	SumEdited     = "sum_edited"     // the entries of an hour are counted otherwise
	IncidentOther = "incident_other" // an incident stands otherwise, is missing or is none
	TablesBehind  = "trail_behind"   // the tables go on behind the end of the files
	TablesOther   = "trail_other"    // the line up to which the tables go is another in the files
)

const mostDifferences = 1000

func (c *Comparison) problem(d Difference) {
	if len(c.Problems) < mostDifferences {
		c.Problems = append(c.Problems, d)
	}
}

type hour struct {
	at         int64 // seconds since 1970 of its beginning
	kind, role string
}

// Compare reads files and tables side by side, from one line to another (0: to the end), and names what the tables have otherwise. The tables are read as they are at one moment; sums and incidents are compared when all lines are.
func (x *Index) Compare(ctx context.Context, from, to int64) (c Comparison, err error) {
	err = pgx.BeginTxFunc(ctx, x.pool, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
		c = Comparison{}
		var id int
		var hash []byte
		err := tx.QueryRow(ctx, `SELECT id, seq, hash FROM audit.source WHERE name = $1`, x.source).Scan(&id, &c.Stored.Seq, &hash)
		if errors.Is(err, pgx.ErrNoRows) {
			return nil // nothing was stored yet
		}
		if err != nil {
			return err
		}
		copy(c.Stored.Hash[:], hash)
		return x.compare(ctx, tx, id, from, to, &c)
	})
	x.reader.Close()
	return c, pg.Fault(err)
}

func (x *Index) compare(ctx context.Context, tx pgx.Tx, id int, from, to int64, c *Comparison) error {
	r := audit.NewReader(x.reader.Dir())
	defer r.Close()
	end, whole := c.Stored.Seq, from <= 1 && (to == 0 || to >= c.Stored.Seq)
	if to > 0 {
		end = min(end, to)
	}
	oldest, err := r.Oldest()
	if err != nil {
		return err
	}
	after := max(from-1, oldest.Seq-1, 0)
	if err := tx.QueryRow(ctx, `SELECT count(*) FROM audit.entry WHERE source_id = $1 AND seq < $2`, id, oldest.Seq).Scan(&c.Older); err != nil {
		return err
	}
	sums, standing, order := map[hour]int64{}, map[string]*audit.Standing{}, []string{}
	have, met := int64(0), false
	for after < end {
		part, err := r.Next(after, batch)
		if err != nil {
			return err
		}
		if have = max(have, part.Have); part.End.Seq == 0 {
			break
		}
		upTo := min(part.End.Seq, end)
		lines := part.Entries
		for len(lines) > 0 && lines[len(lines)-1].Seq > upTo {
			lines = lines[:len(lines)-1]
		}
		if err := x.rows(ctx, tx, id, after, upTo, lines, c); err != nil {
			return err
		}
		for i := range lines {
			e := sane(&lines[i])
			if slices.Contains(c.Unfit, e.Seq) {
				e = unfit(&e, nil)
			}
			sums[hour{e.Time.Truncate(time.Hour).Unix(), e.Class(), e.User}]++
			order = follows(standing, order, &e)
		}
		if part.End.Seq == c.Stored.Seq {
			met = true
			if part.End.Hash != c.Stored.Hash {
				c.problem(Difference{Kind: TablesOther, Seq: c.Stored.Seq})
			}
		}
		after = part.End.Seq
	}
	if have < end {
		c.problem(Difference{Kind: TablesBehind, Seq: have})
	} else if !met && end == c.Stored.Seq && end > 0 && after < end {
		c.problem(Difference{Kind: TablesOther, Seq: c.Stored.Seq})
	}
	if to == 0 {
		numbers, err := pg.All[struct{ Seq int64 }](ctx, tx, `SELECT seq FROM audit.entry WHERE source_id = $1 AND seq > $2 ORDER BY seq LIMIT 1000`, id, min(end, max(after, have)))
		if err != nil {
			return err
		}
		for _, n := range numbers {
			c.problem(Difference{Kind: RowAdded, Seq: n.Seq})
		}
	}
	if !whole || have < end {
		return nil
	}
	since := time.Time{}
	if oldest.Seq > 1 {
		since = oldest.Time.Truncate(time.Hour).Add(time.Hour)
	}
	if err := c.hours(ctx, tx, id, since, sums); err != nil {
		return err
	}
	return c.incidents(ctx, tx, id, oldest.Seq > 1, standing, order)
}

// rows compares the entries of some lines with their rows.
func (x *Index) rows(ctx context.Context, tx pgx.Tx, id int, after, upTo int64, lines []audit.Entry, c *Comparison) error {
	found, err := tx.Query(ctx, `SELECT `+selected+` FROM audit.entry WHERE source_id = $1 AND seq > $2 AND seq <= $3 ORDER BY seq`, id, after, upTo)
	if err != nil {
		return err
	}
	defer found.Close()
	for found.Next() {
		stored, sorted, err := scan(found)
		if err != nil {
			if stored.Seq == 0 {
				return err
			}
			c.problem(Difference{Kind: RowEdited, Seq: stored.Seq}) // not even an event
		}
		for len(lines) > 0 && lines[0].Seq < stored.Seq {
			c.problem(Difference{Kind: RowDeleted, Seq: lines[0].Seq})
			lines = lines[1:]
		}
		if len(lines) == 0 || lines[0].Seq != stored.Seq {
			c.problem(Difference{Kind: RowAdded, Seq: stored.Seq})
			continue
		}
		line := sane(&lines[0])
		lines = lines[1:]
		switch {
		case err != nil:
		case stored.Event != nil && stored.Event.Kind == audit.EventUnfit:
			blank := unfit(&line, nil)
			if blank.Event.Why = stored.Event.Why; !equal(&blank, &stored, sorted) {
				c.problem(Difference{Kind: RowEdited, Seq: stored.Seq})
			} else if len(c.Unfit) < mostDifferences {
				c.Unfit = append(c.Unfit, stored.Seq)
			}
		case !equal(&line, &stored, sorted):
			c.problem(Difference{Kind: RowEdited, Seq: stored.Seq})
		default:
			c.Compared++
		}
	}
	for i := range lines {
		c.problem(Difference{Kind: RowDeleted, Seq: lines[i].Seq})
	}
	return found.Err()
}

// equal tells whether a row says what a line says.
func equal(line, stored *audit.Entry, sorted [2]string) bool {
	if sorted != [2]string{line.Class(), line.Outcome()} || !line.Time.Equal(stored.Time) || (line.SessionStart == nil) != (stored.SessionStart == nil) ||
		line.SessionStart != nil && !line.SessionStart.Equal(*stored.SessionStart) || (line.Event == nil) != (stored.Event == nil) {
		return false
	}
	none := audit.EntryRecord{Rows: -1}
	record := func(e *audit.Entry) audit.EntryRecord {
		if e.Audit == nil || e.Audit.Type == "" {
			return none
		}
		return *e.Audit
	}
	if record(line) != record(stored) {
		return false
	}
	if line.Event != nil {
		a, err := json.Marshal(line.Event)
		b, err2 := json.Marshal(stored.Event)
		if err != nil || err2 != nil || !bytes.Equal(a, b) {
			return false
		}
	}
	a, b := *line, *stored
	for _, e := range []*audit.Entry{&a, &b} {
		e.Time, e.SessionStart, e.Audit, e.Event, e.Hash = time.Time{}, nil, nil, nil, [32]byte{}
	}
	return a == b
}

// follows brings incidents to what an event says of them.
func follows(standing map[string]*audit.Standing, order []string, e *audit.Entry) []string {
	switch v := e.Event; {
	case v == nil:
	case v.Kind == audit.EventIncident && v.Incident != nil:
		s := standing[v.Incident.ID]
		if s == nil {
			s = &audit.Standing{}
			standing[v.Incident.ID], order = s, append(order, v.Incident.ID)
		}
		s.Tell(v.Incident)
	case v.Kind == audit.EventAnswer && v.Answer != nil:
		if s := standing[v.Answer.Incident]; s != nil {
			s.Answer(*v.Answer)
		}
	}
	return order
}

// hours compares the sums.
func (c *Comparison) hours(ctx context.Context, tx pgx.Tx, id int, since time.Time, sums map[hour]int64) error {
	type row struct {
		At         time.Time
		Kind, Role string
		Entries    int64
	}
	rows, err := pg.All[row](ctx, tx, `SELECT at, kind, user_name, entries FROM audit.hour WHERE source_id = $1 AND at >= $2`, id, since)
	if err != nil {
		return err
	}
	var wrong []int64
	for _, r := range rows {
		h := hour{r.At.Unix(), r.Kind, r.Role}
		if sums[h] != r.Entries {
			wrong = append(wrong, h.at)
		}
		delete(sums, h)
	}
	for h := range sums {
		if h.at >= since.Unix() {
			wrong = append(wrong, h.at)
		}
	}
	slices.Sort(wrong)
	for _, at := range slices.Compact(wrong) {
		c.problem(Difference{Kind: SumEdited, Hour: time.Unix(at, 0).UTC()})
	}
	return nil
}

// incidents compares how they stand. Where the oldest files are gone, the tables may know more.
func (c *Comparison) incidents(ctx context.Context, tx pgx.Tx, id int, cut bool, standing map[string]*audit.Standing, order []string) error {
	type row struct {
		ID           string
		Told, Answer []byte
		Open         bool
	}
	rows, err := pg.All[row](ctx, tx, `SELECT id, told, answer, open FROM audit.incident WHERE source_id = $1 ORDER BY began, id`, id)
	if err != nil {
		return err
	}
	for _, r := range rows {
		s := standing[r.ID]
		delete(standing, r.ID)
		if s == nil {
			if !cut {
				c.problem(Difference{Kind: IncidentOther, Incident: r.ID})
			}
			continue
		}
		var told audit.Incident
		var said []audit.Answer
		if r.Answer != nil {
			said = make([]audit.Answer, 1)
		}
		same := json.Unmarshal(r.Told, &told) == nil && (said == nil || json.Unmarshal(r.Answer, &said[0]) == nil) && alike(told, s.Incident)
		if same = same && (said == nil) == (len(s.Answers) == 0) && r.Open == s.Open; same && said != nil {
			same = alike(said[0], s.Answers[len(s.Answers)-1])
		}
		if !same && !cut {
			c.problem(Difference{Kind: IncidentOther, Incident: r.ID})
		}
	}
	for _, id := range order {
		if standing[id] != nil {
			c.problem(Difference{Kind: IncidentOther, Incident: id})
		}
	}
	return nil
}

func alike(a, b any) bool {
	first, err := json.Marshal(a)
	second, err2 := json.Marshal(b)
	return err == nil && err2 == nil && bytes.Equal(first, second)
}
