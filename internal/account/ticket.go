package account

import (
	"context"
	"encoding/json"
	"time"

	"howdah/internal/pg"
)

// The kinds of tickets: secrets that hold for a short time and are used up.
const (
	ticketSecond = "second" // a sign-in whose password was right, waiting for its second factor
)

// newTicket makes one and gives its secret; person may be nil, data is whatever JSON makes of it.
func (a *Accounts) newTicket(ctx context.Context, q pg.Queryer, kind string, person *int64, data any, life time.Duration) (string, error) {
	if data == nil {
		data = struct{}{}
	}
	raw, err := json.Marshal(data)
	if err != nil {
		return "", err
	}
	secret, hash := newToken("")
	_, err = q.Exec(ctx, `INSERT INTO account.ticket (token_hash, kind, person_id, data, ends_at) VALUES ($1, $2, $3, $4, now() + $5::interval)`, hash, kind, person, raw, life)
	return secret, pg.Fault(err)
}

// ticket is what one holds.
type ticket struct {
	Person *int64
	Data   []byte
}

// takeTicket deletes a ticket and gives what it holds; found is false when it was used, has ended or never was.
func takeTicket(ctx context.Context, q pg.Queryer, kind, secret string) (held ticket, found bool, err error) {
	return pg.One[ticket](ctx, q, `DELETE FROM account.ticket WHERE token_hash = $1 AND kind = $2 AND ends_at > now() RETURNING person_id, data`, hashToken(secret), kind)
}
