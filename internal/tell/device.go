package tell

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"howdah/internal/account"
	"howdah/internal/fault"
	"howdah/internal/pg"
	"howdah/internal/push"
)

// Devices are browsers that are told with no page open.

// mostDevices bounds how many of them somebody has; the oldest makes way.
const mostDevices = 20

// key reads the key of this house, or makes it.
func (t *Teller) key(ctx context.Context) (push.Key, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.known != nil {
		return *t.known, nil
	}
	fresh, err := push.NewKey()
	if err != nil {
		return push.Key{}, err
	}
	raw, err := fresh.Bytes()
	if err != nil {
		return push.Key{}, err
	}
	var kept []byte
	err = t.db.InTx(ctx, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `INSERT INTO chat.push_key (private) VALUES ($1) ON CONFLICT DO NOTHING`, raw); err != nil {
			return err
		}
		return tx.QueryRow(ctx, `SELECT private FROM chat.push_key`).Scan(&kept)
	})
	if err != nil {
		return push.Key{}, pg.Fault(err)
	}
	k, err := push.ParseKey(kept)
	if err == nil {
		t.known = &k
	}
	return k, err
}

// PublicKey is what a browser wants to know before it subscribes, in base64url.
func (t *Teller) PublicKey(ctx context.Context) (string, error) {
	k, err := t.key(ctx)
	if err != nil {
		return "", err
	}
	return k.Public()
}

// Subscribe has a browser told from now on, as long as its session holds; again is harmless. Who used it before is told there no more.
func (t *Teller) Subscribe(ctx context.Context, me account.Session, to push.Subscription, locale string) error {
	if me.ID <= 0 { // a program's token
		return fault.New(fault.Forbidden, "tell.browsers_only")
	}
	err := t.db.InTx(ctx, func(tx pgx.Tx) error {
		if err := beginToLook(ctx, tx); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `DELETE FROM chat.device WHERE endpoint = $1 AND person_id <> $2`, to.Endpoint, me.Person.ID); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `
			INSERT INTO chat.device (person_id, session_id, endpoint, key, auth, locale) VALUES ($1, $2, $3, $4, $5, $6)
			ON CONFLICT (endpoint) DO UPDATE SET session_id = $2, key = $4, auth = $5, locale = $6, refused = 0`,
			me.Person.ID, me.ID, to.Endpoint, to.Key, to.Auth, locale); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, `DELETE FROM chat.device WHERE id IN (SELECT id FROM chat.device WHERE person_id = $1 ORDER BY id DESC OFFSET $2)`, me.Person.ID, mostDevices)
		return err
	})
	return pg.Fault(err)
}

// beginToLook is for who wants to be told first of all: while there is nobody, nobody looks at the logs, and what was said until now is told to nobody.
func beginToLook(ctx context.Context, tx pgx.Tx) error {
	_, err := tx.Exec(ctx, `
		INSERT INTO chat.told_room (room_id, seq) SELECT id, seq FROM chat.room WHERE NOT EXISTS (SELECT FROM chat.device) AND NOT EXISTS (SELECT FROM chat.told WHERE mail > 0)
		ON CONFLICT (room_id) DO UPDATE SET seq = excluded.seq`)
	return err
}

// Unsubscribe has a browser of mine told no more; again is harmless.
func (t *Teller) Unsubscribe(ctx context.Context, me account.Person, endpoint string) error {
	_, err := t.db.Exec(ctx, `DELETE FROM chat.device WHERE person_id = $1 AND endpoint = $2`, me.ID, endpoint)
	return pg.Fault(err)
}

// Device is one of mine in a list.
type Device struct {
	ID      int64
	Session int64
	Agent   string // the User-Agent of its session
	Made    time.Time
	Told    *time.Time // when it was told last
}

// Devices lists mine, the newest first.
func (t *Teller) Devices(ctx context.Context, me account.Person) ([]Device, error) {
	return pg.All[Device](ctx, t.db, `
		SELECT d.id, d.session_id, s.agent, d.made_at, (SELECT max(told_at) FROM chat.push p WHERE p.device_id = d.id)
		FROM chat.device d JOIN account.session s ON s.id = d.session_id WHERE d.person_id = $1 ORDER BY d.id DESC`, me.ID)
}

// RemoveDevice has one of mine told no more.
func (t *Teller) RemoveDevice(ctx context.Context, me account.Person, id int64) error {
	gone, err := t.db.Exec(ctx, `DELETE FROM chat.device WHERE person_id = $1 AND id = $2`, me.ID, id)
	if err == nil && gone.RowsAffected() == 0 {
		return fault.New(fault.NotFound, "tell.no_device")
	}
	return pg.Fault(err)
}
