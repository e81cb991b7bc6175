package chat

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"howdah/internal/account"
	"howdah/internal/fault"
	"howdah/internal/pg"
)

// Retention is how long a room keeps what is said in it.
type Retention struct {
	Own   *int      // days; 0: for ever; nil: the room has no rule of its own
	House int       // days of those rooms; 0: for ever
	Days  int       // that hold here; 0: for ever
	From  time.Time // nothing goes before that; zero where nothing ever goes
	First int64     // seq at which the room's log begins
}

// Plan says what a rule would take: all that was said before a moment.
type Plan struct {
	Days     int
	From     time.Time // when it would begin
	Upto     time.Time // what is older goes then
	Rooms    int
	Messages int64
	Files    int64
	Bytes    int64 // that no other message has
	Oldest   time.Time
}

const (
	mostDays    = 36500
	retainGrace = 24 * time.Hour // from when a rule is set to when it takes the first message: a mistake can be undone
)

func checkDays(days *int) error {
	if days != nil && (*days < 0 || *days > mostDays) {
		return fault.New(fault.Invalid, "chat.retain_days", fault.Args{"most": mostDays})
	}
	return nil
}

// heldColumns are those of Retention; they want chat.room r and account.rule h. #ops keeps all that is said in it: it is how the house remembers.
const heldColumns = `r.keep_days, h.keep_days, CASE WHEN r.kind = 'ops' THEN 0 ELSE coalesce(r.keep_days, h.keep_days) END,
	CASE WHEN r.keep_days IS NOT NULL THEN r.keep_from ELSE greatest(r.keep_from, h.keep_from) END, r.first_seq`

func retention(ctx context.Context, q pg.Queryer, room int64) (Retention, error) {
	type row struct {
		Own   *int
		House int
		Days  int
		From  *time.Time
		First int64
	}
	found, ok, err := pg.One[row](ctx, q, `SELECT `+heldColumns+` FROM chat.room r, account.rule h WHERE r.id = $1`, room)
	if err == nil && !ok {
		err = errNoRoom
	}
	out := Retention{Own: found.Own, House: found.House, Days: found.Days, First: found.First}
	if found.Days > 0 && found.From != nil {
		out.From = *found.From
	}
	return out, err
}

// Retention tells how long a room that me may read keeps what is said in it, and whether me may change that.
func (r *Rooms) Retention(ctx context.Context, me account.Person, room int64) (held Retention, may bool, err error) {
	s, err := place(ctx, r.db, me, room, false)
	if err != nil {
		return Retention{}, false, err
	}
	held, err = retention(ctx, r.db, room)
	return held, May(Retain, s), err
}

// HouseRetention is how long rooms without a rule of their own keep what is said in them; days, 0: for ever.
func (r *Rooms) HouseRetention(ctx context.Context, me account.Person) (days int, from time.Time, err error) {
	if !me.Role.AtLeast(account.Admin) {
		return 0, from, fault.New(fault.Forbidden, "account.admins_only")
	}
	type row struct {
		Days int
		From *time.Time
	}
	found, _, err := pg.One[row](ctx, r.db, `SELECT keep_days, keep_from FROM account.rule`)
	if found.Days > 0 && found.From != nil {
		from = *found.From
	}
	return found.Days, from, err
}

// PlanRetention tells what a rule would take from a room, and changes nothing. days nil: the rule of the house. room 0 is for the house: of all rooms without a rule of their own.
func (r *Rooms) PlanRetention(ctx context.Context, me account.Person, room int64, days *int) (Plan, error) {
	if err := checkDays(days); err != nil {
		return Plan{}, err
	}
	var rooms []int64
	now := time.Now()
	p := Plan{From: now.Add(retainGrace)}
	if room == 0 {
		house, from, err := r.HouseRetention(ctx, me)
		if err != nil {
			return Plan{}, err
		}
		if p.Days = house; days != nil {
			p.Days = *days
		}
		if p.Days == house && !from.IsZero() {
			p.From = from
		}
		all, err := pg.All[struct{ ID int64 }](ctx, r.db, `SELECT id FROM chat.room WHERE kind <> 'ops' AND keep_days IS NULL`)
		if err != nil {
			return Plan{}, err
		}
		for _, one := range all {
			rooms = append(rooms, one.ID)
		}
	} else {
		if err := r.may(ctx, r.db, Retain, me, room); err != nil {
			return Plan{}, err
		}
		held, err := retention(ctx, r.db, room)
		if err != nil {
			return Plan{}, err
		}
		if p.Days = held.House; days != nil {
			p.Days = *days
		}
		if p.Days == held.Days && !held.From.IsZero() {
			p.From = held.From
		}
		rooms = []int64{room}
	}
	p.Rooms = len(rooms)
	if p.Days == 0 {
		p.From = time.Time{}
		return p, nil
	}
	if p.From.Before(now) {
		p.From = now
	}
	p.Upto = p.From.AddDate(0, 0, -p.Days)
	type row struct {
		N      int64
		Oldest *time.Time
	}
	said, _, err := pg.One[row](ctx, r.db, `SELECT count(*), min(at) FROM chat.message WHERE room_id = ANY($1) AND at < $2 AND NOT (deleted_at IS NOT NULL AND body = '')`, rooms, p.Upto)
	if err != nil {
		return Plan{}, err
	}
	if p.Messages = said.N; said.Oldest != nil {
		p.Oldest = *said.Oldest
	}
	err = r.db.QueryRow(ctx, `
		WITH going AS (SELECT f.content_id, count(*) AS n FROM chat.file f JOIN chat.message m ON m.room_id = f.room_id AND m.seq = f.seq WHERE f.room_id = ANY($1) AND m.at < $2 GROUP BY 1)
		SELECT coalesce(sum(g.n), 0)::bigint, coalesce(sum(c.size) FILTER (WHERE g.n = (SELECT count(*) FROM chat.file x WHERE x.content_id = g.content_id)), 0)::bigint
		FROM going g JOIN chat.content c ON c.id = g.content_id`, rooms, p.Upto).Scan(&p.Files, &p.Bytes)
	return p, pg.Fault(err)
}

// keepFrom is when a rule begins that is set now: a day later, but at once where nothing goes earlier by it than by the one before.
func keepFrom(before int, beganBefore time.Time, days int, now time.Time) *time.Time {
	if days == 0 {
		return nil
	}
	from := now.Add(retainGrace)
	if before > 0 && days >= before && !beganBefore.IsZero() && beganBefore.Before(from) {
		from = beganBefore
	}
	return &from
}

// SetRetention says how long a room keeps what is said in it: days, 0 for ever, nil as the house has it. Everybody in the room is told, and what is too old begins to go a day later.
func (r *Rooms) SetRetention(ctx context.Context, me account.Person, room int64, days *int) (Retention, error) {
	if err := checkDays(days); err != nil {
		return Retention{}, err
	}
	var now Retention
	err := r.settle(ctx, me, room, nil, func(tx pgx.Tx, s Standing) error {
		if err := s.require(Retain); err != nil {
			return err
		}
		was, err := retention(ctx, tx, room)
		if err != nil {
			return err
		}
		now = was
		if (days == nil) == (was.Own == nil) && (days == nil || *days == *was.Own) {
			return nil
		}
		next := was.House
		if days != nil {
			next = *days
		}
		from := keepFrom(was.Days, was.From, next, time.Now()) // also where it is the house's again
		if _, err := tx.Exec(ctx, `UPDATE chat.room SET keep_days = $2, keep_from = $3 WHERE id = $1`, room, days, from); err != nil {
			return err
		}
		if now, err = retention(ctx, tx, room); err != nil || now.Days == was.Days {
			return err
		}
		if err := note(ctx, tx, me, account.RoomRetention, room, 0, account.Facts{"days": was.Days}, account.Facts{"days": now.Days}); err != nil {
			return err
		}
		_, _, err = record(ctx, tx, room, change{kind: Retained, by: author(me), detail: map[string]any{"days": now.Days}})
		return err
	})
	return now, err
}

// SetHouseRetention says how long rooms without a rule of their own keep what is said in them: days, 0 for ever.
func (r *Rooms) SetHouseRetention(ctx context.Context, me account.Person, days int) error {
	if err := checkDays(&days); err != nil {
		return err
	}
	was, began, err := r.HouseRetention(ctx, me)
	if err != nil || was == days {
		return err
	}
	return r.db.InTx(ctx, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `UPDATE account.rule SET keep_days = $1, keep_from = $2`, days, keepFrom(was, began, days, time.Now())); err != nil {
			return err
		}
		return account.Note(ctx, tx, me, account.Deed{Action: account.RoomRetention, Before: account.Facts{"days": was}, After: account.Facts{"days": days}})
	})
}
