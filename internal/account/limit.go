package account

import (
	"context"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"howdah/internal/fault"
	"howdah/internal/pg"
)

// allowance is how often something may be tried: some times at once, then once in every while.
type allowance struct {
	atOnce int
	every  time.Duration
}

// allowances are how often what is tried may be.
//
// A password: ten times at once, then once every six seconds: from an address, and for an account from all unknown browsers together, which is 14,400 tries a day whoever guesses. A browser in
// which somebody has signed in before has tries of its own, so nobody is locked out of where they always are. A code of six digits is one of a million, and three of them hold: 720 tries a
// day find it once in a year. A passkey cannot be guessed; a sign-in that is begun with one from an address, which an office shares, only costs a challenge. A letter is somebody else's time: five at once, then one in ten minutes, for who asks and for whom it is, and more for an address, which an office shares.
type allowances struct{ password, code, passkey, mail, forgot, forgotFrom allowance }

var usual = allowances{password: allowance{10, 6 * time.Second}, code: allowance{5, 2 * time.Minute}, passkey: allowance{60, time.Second}, mail: allowance{5, 10 * time.Minute}, forgot: allowance{5, 10 * time.Minute}, forgotFrom: allowance{20, time.Minute}}

// Rows of the table account.try at most; those that matter least go first.
const mostTries = 100_000

// refusals remembers, in this process, who has no try left: asking again costs the database nothing.
type refusals struct {
	mu    sync.Mutex
	until map[string]time.Time
	swept time.Time
}

// wait tells how long one of the keys has still to wait, and whether it is time to sweep.
func (r *refusals) wait(now time.Time, keys []string) (wait time.Duration, sweep bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if sweep = now.Sub(r.swept) > time.Minute; sweep {
		r.swept = now
		for key, until := range r.until {
			if !until.After(now) {
				delete(r.until, key)
			}
		}
	}
	for _, key := range keys {
		wait = max(wait, r.until[key].Sub(now))
	}
	return wait, sweep
}

func (r *refusals) note(key string, until time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.until == nil || len(r.until) > mostTries {
		r.until = map[string]time.Time{}
	}
	r.until[key] = until
}

// take takes a try from each key, or refuses with RateLimited and the seconds to wait when one has none left. What is left stands in the database, for all nodes and across
// restarts: one moment per key, that at which all tries will be there again (GCRA), so a flood of keys is a flood of small rows that soon mean nothing.
func (a *Accounts) take(ctx context.Context, of allowance, keys ...string) error {
	now := time.Now()
	wait, sweep := a.refused.wait(now, keys)
	if wait > 0 {
		return tooOften(wait)
	}
	if sweep {
		if _, err := a.db.Exec(ctx, `
			DELETE FROM account.try WHERE full_at < now() OR key IN (SELECT key FROM account.try ORDER BY full_at DESC OFFSET $1)`, mostTries); err != nil {
			return pg.Fault(err)
		}
		if _, err := a.db.Exec(ctx, `DELETE FROM account.ticket WHERE ends_at < now()`); err != nil {
			return pg.Fault(err)
		}
	}
	for _, key := range keys {
		tag, err := a.db.Exec(ctx, `
			INSERT INTO account.try AS t (key, full_at) VALUES ($1, now() + $2::interval)
			ON CONFLICT (key) DO UPDATE SET full_at = greatest(t.full_at, now()) + $2::interval
			WHERE greatest(t.full_at, now()) + $2::interval <= now() + $3::interval`, key, of.every, time.Duration(of.atOnce)*of.every)
		if err != nil {
			return pg.Fault(err)
		}
		if tag.RowsAffected() > 0 {
			continue
		}
		wait := time.Second
		if err := a.db.QueryRow(ctx, `SELECT full_at - now() - $2::interval FROM account.try WHERE key = $1`, key, time.Duration(of.atOnce-1)*of.every).Scan(&wait); err != nil {
			return pg.Fault(err)
		}
		a.refused.note(key, now.Add(wait))
		return tooOften(wait)
	}
	return nil
}

func tooOften(wait time.Duration) error {
	return fault.New(fault.RateLimited, "account.too_often", fault.Args{"seconds": int(max(wait, 0)/time.Second) + 1})
}

// giveBack returns a try that was none, since it was right. What others have tried stays counted: signing in to an account of one's own buys no tries at another.
func (a *Accounts) giveBack(ctx context.Context, of allowance, keys ...string) error {
	for _, key := range keys {
		if _, err := a.db.Exec(ctx, `UPDATE account.try SET full_at = full_at - $2::interval WHERE key = $1`, key, of.every); err != nil {
			return pg.Fault(err)
		}
	}
	return nil
}

// addressKey groups an IPv6 customer's whole /64, which is one person's to choose from.
func addressKey(address string) string {
	addr, err := netip.ParseAddr(address)
	if err != nil {
		return "address " + address
	}
	addr = addr.Unmap()
	if addr.Is6() {
		if prefix, err := addr.Prefix(64); err == nil {
			return "address " + prefix.String()
		}
	}
	return "address " + addr.String()
}

// Devices that are remembered of a person at most, the last used.
const mostDevices = 20

// device finds the id of the browser that a token was given to, if this person has signed in there; 0: it is not known.
func (a *Accounts) device(ctx context.Context, token string, person int64) (id int64, err error) {
	if token == "" {
		return 0, nil
	}
	found, _, err := pg.One[struct{ ID int64 }](ctx, a.db, `SELECT id FROM account.device WHERE token_hash = $1 AND person_id = $2`, hashToken(token), person)
	return found.ID, err
}

// Remember makes the browser one that the person is known in, and gives the token that it is to keep beside its session; "" when it has it already.
func (a *Accounts) Remember(ctx context.Context, person int64, client Client) (token string, err error) {
	id, err := a.device(ctx, client.Device, person)
	if err != nil {
		return "", err
	}
	if id != 0 {
		return "", a.used(ctx, `UPDATE account.device SET seen_at = now() WHERE id = $1`, id)
	}
	hash := hashToken(client.Device)
	var shared bool // somebody else signs in with this browser, too
	if err := a.db.QueryRow(ctx, `SELECT EXISTS (SELECT FROM account.device WHERE token_hash = $1)`, hash).Scan(&shared); err != nil {
		return "", pg.Fault(err)
	}
	if !shared {
		token, hash = newToken("")
	}
	if _, err := a.db.Exec(ctx, `INSERT INTO account.device (person_id, token_hash) VALUES ($1, $2) ON CONFLICT DO NOTHING`, person, hash); err != nil {
		return "", pg.Fault(err)
	}
	_, err = a.db.Exec(ctx, `
		DELETE FROM account.device WHERE person_id = $1 AND id IN (SELECT id FROM account.device WHERE person_id = $1 ORDER BY seen_at DESC, id DESC OFFSET $2)`, person, mostDevices)
	return token, pg.Fault(err)
}

// doors are the keys that tries to get in as somebody count for: a known browser's own, or those of the address and of the account. person is 0 where there is nobody of that handle,
// which counts just the same.
func (a *Accounts) doors(ctx context.Context, what string, person int64, handle string, client Client) ([]string, error) {
	if person != 0 {
		known, err := a.device(ctx, client.Device, person)
		if err != nil {
			return nil, err
		}
		if known != 0 {
			return []string{fmt.Sprint(what, " device ", known)}, nil
		}
	}
	keys := []string{what + " " + addressKey(client.Address)}
	if handle != "" { // what can be nobody's handle is tried by nobody else
		keys = append(keys, what+" handle "+handle)
	}
	return keys, nil
}
