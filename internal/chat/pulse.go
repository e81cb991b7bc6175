package chat

import (
	"context"
	"time"

	"howdah/internal/account"
	"howdah/internal/fault"
	"howdah/internal/pg"
)

// Beat is how many posts there were in a stretch of time, in all rooms together.
type Beat struct {
	At    time.Time `json:"at"` // its beginning
	Posts int64     `json:"posts"`
}

// MostBeats bounds one answer of Pulse, and PulseSpan the time that it looks at.
const (
	MostBeats = 1500
	PulseSpan = 31 * 24 * time.Hour
)

// Pulse counts the posts of all rooms from a time to another by stretches of step, which begin at whole multiples of it (UTC). Stretches without a post are left out. It tells no more than how
// many there were: also those of rooms that me may not read count.
func (r *Rooms) Pulse(ctx context.Context, me account.Person, from, to time.Time, step time.Duration) ([]Beat, error) {
	if !May(Survey, Standing{House: me.Role}) {
		return nil, fault.New(fault.Forbidden, "chat.may_not_survey")
	}
	if step < time.Second || !from.Before(to) || to.Sub(from) > PulseSpan || to.Sub(from)/step > MostBeats {
		return nil, fault.New(fault.Invalid, "chat.pulse")
	}
	beats, err := pg.All[Beat](ctx, r.db, `SELECT date_bin(make_interval(secs => $3), at, '1970-01-01 00:00:00Z'), count(*) FROM chat.message
		WHERE at >= $1 AND at < $2 GROUP BY 1 ORDER BY 1`, from, to, step.Seconds())
	for i := range beats {
		beats[i].At = beats[i].At.UTC()
	}
	return beats, err
}
