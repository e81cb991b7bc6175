package keeper

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"time"

	"howdah/internal/fault"
	"howdah/internal/wal"
)

// Target says to which state a cluster shall be restored: one of Time, LSN, XID and Name, or none for the newest that can be had.
type Target struct {
	Time time.Time // all that had committed by then
	LSN  wal.LSN   // all that was written before this position
	XID  string    // up to the end of this transaction, and with it: as pg_current_xact_id or txid_current say it
	Name string    // up to this restore point: the newest of that name

	// Before stops just before the record that ended XID: what it did is not there, and neither is what committed at the same time or later.
	Before bool

	Timeline wal.Timeline // 0: the newest
	Backup   string       // the ID of the base backup to begin with; "": the one that is nearest
}

// kinds is how many of the four are given.
func (t Target) kinds() int {
	n := 0
	for _, given := range []bool{!t.Time.IsZero(), t.LSN != 0, t.XID != "", t.Name != ""} {
		if given {
			n++
		}
	}
	return n
}

// found is where a target lies.
type found struct {
	s       Stretch
	last    wal.LSN // the last record that is replayed
	until   wal.LSN // where that ends, or the next begins
	crossed wal.LSN // for a time: the first record that is later; 0 when nothing is

	ended time.Time // for a transaction: when it committed
}

// TimeForm is how moments are shown: to the microsecond, with the offset of their zone.
const momentForm = "2006-01-02 15:04:05.999999 -07:00"

// Moment is a time as people read it, with its zone.
func Moment(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.Format(momentForm)
}

// ParseMoment reads a time as people write it: a date and a time of day, to the minute or as exactly as one likes, with an offset ("Z", "+08:00") or in the
// zone given. A local time that comes twice, or not at all, because clocks are set then, is refused.
func ParseMoment(text string, zone *time.Location) (time.Time, error) {
	bad := func(key string, args fault.Args) (time.Time, error) {
		return time.Time{}, fault.New(fault.Invalid, key, args)
	}
	s := strings.TrimSpace(text)
	if i := strings.IndexByte(s, 'T'); i == 10 {
		s = s[:i] + " " + s[i+1:]
	}
	for _, offset := range []string{"Z07:00", " Z07:00", "Z0700", " Z0700", "Z07", " Z07"} {
		for _, form := range []string{"2006-01-02 15:04:05", "2006-01-02 15:04"} {
			if t, err := time.Parse(form+offset, s); err == nil {
				return t, nil
			}
		}
	}
	for _, form := range []string{"2006-01-02 15:04:05", "2006-01-02 15:04"} {
		wall, err := time.Parse(form, s)
		if err != nil {
			continue
		}
		var hits []time.Time
		for _, offset := range offsets(wall, zone) {
			at := wall.Add(-time.Duration(offset) * time.Second).In(zone)
			if _, have := at.Zone(); have == offset {
				hits = append(hits, at)
			}
		}
		switch len(hits) {
		case 0:
			return bad("keeper.time_skipped", fault.Args{"time": text, "zone": zone.String()})
		case 1:
			return hits[0], nil
		}
		return bad("keeper.time_twice", fault.Args{"time": text, "zone": zone.String(), "first": Moment(hits[0]), "second": Moment(hits[1])})
	}
	return bad("keeper.time_form", fault.Args{"time": text})
}

// offsets are those from UTC that a zone has about a time of day, in seconds, the one that comes first in time first.
func offsets(wall time.Time, zone *time.Location) []int {
	_, before := wall.Add(-36 * time.Hour).In(zone).Zone()
	_, after := wall.Add(36 * time.Hour).In(zone).Zone()
	if before == after {
		return []int{before}
	}
	return []int{before, after}
}

// at looks for a time.
func (a *Archive) at(ctx context.Context, stretches []Stretch, at time.Time) (found, error) {
	k := -1
	var oldest time.Time
	for i, s := range stretches { // the last that begins early enough
		begin, ok, err := s.begin(ctx)
		if err != nil {
			return found{}, err
		}
		if i == 0 {
			oldest = begin
		}
		if ok && !begin.After(at) {
			k = i
		}
	}
	if k < 0 {
		return found{}, fault.New(fault.NotFound, "keeper.target_past", fault.Args{"target": Moment(at), "oldest": Moment(oldest.In(at.Location())),
			"lsn": a.SegmentSize.Start(stretches[0].First)})
	}
	s := stretches[k]
	from, err := s.before(ctx, at)
	if err != nil {
		return found{}, err
	}
	in := a.reader(ctx, s.l, a.SegmentSize.Start(from))
	defer in.Close()
	f := found{s: s}
	newest := time.Time{}
	for {
		rec, err := in.Next()
		var end *wal.End
		if errors.As(err, &end) {
			break
		}
		if err != nil {
			return f, err
		}
		// As PostgreSQL judges it (recoveryStopsBefore in xlogrecovery.c): by the first end of a transaction that is later.
		if outcome, ended := rec.Ends(); outcome != 0 && ended.After(at) {
			f.crossed, f.last, f.until = rec.LSN, rec.Prev, rec.LSN
			return f, nil
		}
		f.last, f.until = rec.LSN, rec.End
		if m := moment(rec); m.After(newest) {
			newest = m
		}
	}
	if newest.Before(at) {
		if _, _, newest, _, err = s.tail(ctx); err != nil {
			return f, err
		}
	}
	if !newest.Before(at) {
		return f, nil
	}
	if k+1 < len(stretches) {
		return f, a.inHole(ctx, Moment(at), stretches, k)
	}
	return f, fault.New(fault.NotFound, "keeper.target_future", fault.Args{"target": Moment(at), "newest": Moment(newest.In(at.Location())), "lsn": f.until})
}

// inHole says that a target lies behind the k-th stretch, where WAL is missing, and what can be had in its place.
func (a *Archive) inHole(ctx context.Context, target string, stretches []Stretch, k int) error {
	_, until, newest, _, err := stretches[k].tail(ctx)
	if err != nil {
		return err
	}
	hole := a.hole(stretches, k)
	args := fault.Args{"target": target, "first": hole.First, "last": hole.Last, "n": int64(hole.Count), "before": Moment(newest.Local()), "lsn": until, "after": "-", "id": "-"}
	for _, b := range a.Backups {
		if b.Good() && stretches[k].l.Includes(b.EndTimeline, b.Stop) && a.SegmentSize.Number(b.Start) > stretches[k].Last {
			args["after"], args["id"] = Moment(b.Ended.Local()), b.ID
			break
		}
	}
	return fault.New(fault.NotFound, "keeper.target_hole", args)
}

// lsn looks for a position.
func (a *Archive) lsn(ctx context.Context, stretches []Stretch, at wal.LSN) (found, error) {
	size := a.SegmentSize
	number := size.Number(at - 1)
	for k, s := range stretches {
		if s.First > number || k == len(stretches)-1 && !s.holds(number) {
			if k > 0 && s.First > number {
				return found{}, a.inHole(ctx, at.String(), stretches, k-1)
			}
			if s.First > number {
				return found{}, fault.New(fault.NotFound, "keeper.target_past", fault.Args{"target": at, "oldest": size.Start(s.First), "lsn": size.Start(s.First)})
			}
			break
		}
		if !s.holds(number) {
			continue
		}
		f := found{s: s}
		for step := uint64(1); f.last == 0; step *= 2 { // a record may be longer than a segment
			from := max(s.First, number-min(number, step))
			in := a.reader(ctx, s.l, size.Start(from))
			for {
				rec, err := in.Next()
				if err != nil {
					if err := notEnd(err); err != nil {
						return f, err
					}
					break
				}
				if rec.LSN >= at {
					in.Close()
					return f, nil
				}
				f.last, f.until = rec.LSN, rec.End
			}
			if from == s.First {
				break
			}
		}
		if f.until >= at { // it is the very end
			return f, nil
		}
	}
	last := stretches[len(stretches)-1]
	_, until, newest, _, err := last.tail(ctx)
	if err != nil {
		return found{}, err
	}
	return found{}, fault.New(fault.NotFound, "keeper.target_future", fault.Args{"target": at, "newest": Moment(newest.Local()), "lsn": until})
}

// latest is the end of the WAL.
func (a *Archive) latest(ctx context.Context, stretches []Stretch) (found, error) {
	s := stretches[len(stretches)-1]
	last, until, _, stop, err := s.tail(ctx)
	if err != nil {
		return found{}, err
	}
	// A server that crashed leaves a torn record at the end, which is in no archive.
	if stop != nil && stop.Reason == wal.Damaged && a.segments[stop.Segment].path == "" && a.segments[stop.Segment].pieces == nil {
		return found{}, stop.Fault()
	}
	return found{s: s, last: last, until: until}, nil
}

// errEnough ends a scan.
var errEnough = errors.New("nothing else is looked for")

// scan looks for the last record that `is` wants, in the newest stretch that has one.
func (a *Archive) scan(ctx context.Context, stretches []Stretch, from wal.LSN, is func(*wal.Record) (bool, error)) (found, error) {
	for k := len(stretches) - 1; k >= 0; k-- {
		s := stretches[k]
		if s.Last < a.SegmentSize.Number(from) {
			break
		}
		f := found{s: s}
		in := a.reader(ctx, s.l, max(from, a.SegmentSize.Start(s.First)))
		for {
			rec, err := in.Next()
			if err != nil {
				if err := notEnd(err); err != nil {
					return f, err
				}
				break
			}
			yes, err := is(rec)
			if yes {
				f.last, f.until = rec.LSN, rec.End
			}
			if errors.Is(err, errEnough) {
				in.Close()
				return f, nil
			}
			if err != nil {
				in.Close()
				return f, err
			}
		}
		in.Close()
		if f.last != 0 {
			return f, nil
		}
	}
	return found{}, nil
}

// transaction looks for the end of a transaction.
func (a *Archive) transaction(ctx context.Context, stretches []Stretch, text string, before bool) (found, error) {
	id, err := strconv.ParseUint(text, 10, 64)
	if err != nil || id < 3 { // 0 to 2 are no transactions
		return found{}, fault.New(fault.Invalid, "keeper.xid_form", fault.Args{"xid": text})
	}
	newest := stretches[len(stretches)-1]
	end := a.SegmentSize.Start(newest.Last + 1)
	from, near := a.newestStart(newest)
	if near = near && end-from <= nearEnd; near {
		// Whoever goes back to it reads all of that as well.
		f, err := a.transactionFrom(ctx, stretches[len(stretches)-1:], from, id, text, before)
		if !fault.HasKey(err, "keeper.no_xid") {
			return f, err
		}
	}
	if from, err = a.assigned(ctx, stretches, id); err != nil {
		return found{}, err
	}
	return a.transactionFrom(ctx, stretches, from, id, text, before)
}

// nearEnd is how much WAL is rather read from the newest backup on than searched for a place to begin at: a search reads up to the next checkpoint, more than once.
const nearEnd = 1 << 30

// newestStart is where the newest good backup of a stretch begins.
func (a *Archive) newestStart(s Stretch) (at wal.LSN, ok bool) {
	for _, b := range a.usable(s.l) {
		if s.holds(a.SegmentSize.Number(b.Start)) {
			at, ok = max(at, b.Start), true
		}
	}
	return at, ok
}

// transactionFrom looks for the end of a transaction behind a position. On the way it notes what fitsPart asks for.
func (a *Archive) transactionFrom(ctx context.Context, stretches []Stretch, from wal.LSN, id uint64, text string, before bool) (found, error) {
	newest := stretches[len(stretches)-1]
	seen := &judged{timeline: newest.l.Timeline, from: from}
	var tx wal.Transaction
	var epoch uint64 // of the transactions, from the last checkpoint
	next := uint64(0)
	type end struct {
		prev, at wal.LSN
		time     time.Time
		outcome  wal.Outcome
	}
	var last end // of those that are the transaction
	f, err := a.scan(ctx, stretches, from, func(rec *wal.Record) (bool, error) {
		seen.note(rec)
		if c, ok := rec.Checkpoint(); ok {
			next = c.NextXID
			epoch = next >> 32
		}
		if outcome, _ := rec.Ends(); outcome == 0 {
			return false, nil
		}
		if ok, err := rec.Transaction(&tx); !ok || err != nil {
			return false, err
		}
		if tx.XID != uint32(id) {
			return false, nil
		}
		is := end{rec.Prev, rec.LSN, tx.Time, tx.Outcome}
		// A number comes again when 2^32 others were used, each of which has written more than a record's head.
		var enough error
		if a.SegmentSize.Start(newest.Last+1)-rec.LSN < 24<<31 {
			enough = errEnough
		}
		if id>>32 == 0 || next == 0 {
			last = is
			return true, enough
		}
		of := epoch // one that is far above the next of the checkpoint is of the epoch before; PostgreSQL keeps them 2^31 apart
		switch low := uint32(next); {
		case tx.XID > low && tx.XID-low > 1<<31 && of > 0:
			of--
		case tx.XID < low && low-tx.XID > 1<<31:
			of++
		}
		if of != id>>32 {
			return false, nil
		}
		last = is
		return true, enough
	})
	if len(stretches) == 1 && err == nil {
		a.seen = seen
	}
	switch {
	case err != nil:
	case f.last == 0:
		err = fault.New(fault.NotFound, "keeper.no_xid", fault.Args{"xid": text})
	case before && last.outcome != wal.Committed:
		err = fault.New(fault.Invalid, "keeper.xid_rolled_back", fault.Args{"xid": text, "at": Moment(last.time.Local())})
	case before:
		f.last, f.until, f.ended = last.prev, last.at, last.time
	}
	return f, err
}

// assigned is a position before which the transaction with a full number had not begun; 0 when that cannot be told.
func (a *Archive) assigned(ctx context.Context, stretches []Stretch, id uint64) (wal.LSN, error) {
	s := stretches[len(stretches)-1]
	nextXID := func(number uint64) (uint64, bool, error) {
		in := a.reader(ctx, s.l, a.SegmentSize.Start(number))
		defer in.Close()
		for range 100_000 {
			rec, err := in.Next()
			if err != nil {
				return 0, false, notEnd(err)
			}
			if c, ok := rec.Checkpoint(); ok {
				return c.NextXID, true, nil
			}
		}
		return 0, false, nil
	}
	low, high := s.First, s.Last+1
	for low+1 < high {
		middle := low + (high-low)/2
		next, ok, err := nextXID(middle)
		if err != nil {
			return 0, err
		}
		if ok && next>>32 != 0 && id>>32 == 0 {
			return 0, nil // the short form of a number, in a cluster that has used them all once
		}
		if ok && next <= id {
			low = middle
		} else {
			high = middle
		}
	}
	next, ok, err := nextXID(low)
	if err != nil || !ok || next > id {
		return 0, err
	}
	return a.SegmentSize.Start(low), nil
}

// point looks for a restore point.
func (a *Archive) point(ctx context.Context, stretches []Stretch, name string) (found, error) {
	f, err := a.scan(ctx, stretches, 0, func(rec *wal.Record) (bool, error) {
		p, ok := rec.RestorePoint()
		return ok && p.Name == name, nil
	})
	if err == nil && f.last == 0 {
		err = fault.New(fault.NotFound, "keeper.no_restore_point", fault.Args{"name": name})
	}
	return f, err
}
