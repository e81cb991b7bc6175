package account

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"howdah/internal/fault"
	"howdah/internal/pg"
)

// sessionLife is how long a session holds without being used.
const sessionLife = 60 * 24 * time.Hour

// Client is where a request comes from, as people will read it in their list of sessions.
type Client struct {
	Address string // IP address without port
	Agent   string // User-Agent
}

// Session is one signed-in browser (or, with ID 0, a program with a token).
type Session struct {
	ID      int64
	Person  Person
	TokenID int64
	Scope   Scope   // what it may do
	Rooms   []int64 // where; nil: wherever its person is
}

// OpenSession is a line in the list of sessions.
type OpenSession struct {
	ID        int64
	CreatedAt time.Time
	SeenAt    time.Time
	Address   string
	Agent     string
}

// SignIn checks a password and opens a session. A wrong handle and a wrong password are the same fault.
func (a *Accounts) SignIn(ctx context.Context, handle, password string, client Client) (token string, person Person, err error) {
	keys := []string{addressKey(client.Address)}
	clean, err := Handle(handle)
	if err == nil {
		keys = append(keys, "handle "+clean)
	}
	if err := a.limits.take(keys...); err != nil {
		return "", Person{}, err
	}
	wrong := fault.New(fault.Unauthenticated, "account.wrong_password")
	if err != nil || len(password) > 4*maxPassword {
		return "", Person{}, wrong
	}
	type row struct {
		Person
		Hash string
	}
	found, ok, err := pg.One[row](ctx, a.db,
		`SELECT `+personColumns+`, p.password_hash FROM account.person p WHERE p.handle = $1 AND p.disabled_at IS NULL AND p.bot_of IS NULL`, clean)
	if err != nil {
		return "", Person{}, err
	}
	if !ok {
		found.Hash = nobody
	}
	matches, err := a.passwordMatches(ctx, password, found.Hash)
	if err != nil {
		return "", Person{}, err
	}
	if !ok || !matches {
		return "", Person{}, wrong
	}
	a.limits.forgive(keys...)
	token, err = a.openSession(ctx, a.db, found.ID, client)
	return token, found.Person, err
}

func (a *Accounts) openSession(ctx context.Context, q pg.Queryer, person int64, client Client) (string, error) {
	token, hash := newToken("hws_")
	if len(client.Agent) > 300 {
		client.Agent = client.Agent[:300]
	}
	_, err := q.Exec(ctx, `
		INSERT INTO account.session (person_id, token_hash, ends_at, address, agent) VALUES ($1, $2, now() + $3, $4, $5)`,
		person, hash, sessionLife, client.Address, validText(client.Agent))
	return token, pg.Fault(err)
}

// Session finds who a cookie's token belongs to; Unauthenticated where it belongs to nobody (any more). It notes the
// use at most every few minutes, so that reading costs no write.
func (a *Accounts) Session(ctx context.Context, token string) (Session, error) {
	type row struct {
		Person
		SessionID int64
		Stale     bool
	}
	found, ok, err := pg.One[row](ctx, a.db, `
		SELECT `+personColumns+`, s.id, s.seen_at < now() - interval '5 minutes'
		FROM account.session s JOIN account.person p ON p.id = s.person_id
		WHERE s.token_hash = $1 AND s.ends_at > now() AND p.disabled_at IS NULL`, hashToken(token))
	if err != nil {
		return Session{}, err
	}
	if !ok {
		return Session{}, fault.New(fault.Unauthenticated, "account.sign_in")
	}
	if found.Stale {
		if err := a.used(ctx, `UPDATE account.session SET seen_at = now(), ends_at = now() + $2 WHERE id = $1`, found.SessionID, sessionLife); err != nil {
			return Session{}, err
		}
	}
	return Session{ID: found.SessionID, Person: found.Person, Scope: All}, nil
}

// used notes a use. Where nothing can be written just now, on a disk that is full, people still read.
func (a *Accounts) used(ctx context.Context, sql string, args ...any) error {
	_, err := a.db.Exec(ctx, sql, args...)
	if err = pg.Fault(err); fault.Is(err, fault.Unavailable) {
		err = nil
	}
	return err
}

// Gone are those of some sessions (and of tokens, by the negative of their ids) that no longer hold.
func (a *Accounts) Gone(ctx context.Context, sessions ...int64) ([]int64, error) {
	rows, err := a.db.Query(ctx, `
		SELECT w.id FROM unnest($1::bigint[]) AS w (id)
		WHERE NOT EXISTS (SELECT FROM account.session s JOIN account.person p ON p.id = s.person_id WHERE s.id = w.id AND s.ends_at > now() AND p.disabled_at IS NULL)
		  AND NOT EXISTS (SELECT FROM account.token t JOIN account.person p ON p.id = t.person_id WHERE t.id = -w.id AND `+tokenHolds+`)`, sessions)
	if err != nil {
		return nil, pg.Fault(err)
	}
	gone, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	return gone, pg.Fault(err)
}

// SignOut ends the session of this token; a token of nobody is no error.
func (a *Accounts) SignOut(ctx context.Context, token string) error {
	ids, err := deleteSessions(ctx, a.db, `token_hash = $1`, hashToken(token))
	if err == nil {
		a.ended(ids, 0)
	}
	return err
}

// Sessions lists a person's open sessions, the last used first.
func (a *Accounts) Sessions(ctx context.Context, person int64) ([]OpenSession, error) {
	return pg.All[OpenSession](ctx, a.db, `
		SELECT id, created_at, seen_at, address, agent FROM account.session
		WHERE person_id = $1 AND ends_at > now() ORDER BY seen_at DESC, id DESC`, person)
}

// EndSession ends one of a person's own sessions.
func (a *Accounts) EndSession(ctx context.Context, person, session int64) error {
	ids, err := deleteSessions(ctx, a.db, `person_id = $1 AND id = $2`, person, session)
	if err == nil && len(ids) == 0 {
		return fault.New(fault.NotFound, "account.no_session")
	}
	if err == nil {
		a.ended(ids, 0)
	}
	return err
}

// EndOtherSessions ends all of a person's sessions but one.
func (a *Accounts) EndOtherSessions(ctx context.Context, person, keep int64) error {
	ids, err := deleteSessions(ctx, a.db, `person_id = $1 AND id <> $2`, person, keep)
	if err == nil {
		a.ended(ids, 0)
	}
	return err
}

// deleteSessions deletes the sessions for which where holds and says which they were. where is ours, never input.
func deleteSessions(ctx context.Context, q pg.Queryer, where string, args ...any) ([]int64, error) {
	rows, err := q.Query(ctx, `DELETE FROM account.session WHERE `+where+` RETURNING id`, args...)
	if err != nil {
		return nil, pg.Fault(err)
	}
	ids, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	return ids, pg.Fault(err)
}

// ChangePassword wants the old one, and ends every other session: who changes it may do so because somebody knows it.
func (a *Accounts) ChangePassword(ctx context.Context, me Person, session int64, old, password string) error {
	if err := checkPassword(password); err != nil {
		return err
	}
	if err := a.limits.take("handle " + me.Handle); err != nil {
		return err
	}
	var stored string
	if err := a.db.QueryRow(ctx, `SELECT password_hash FROM account.person WHERE id = $1`, me.ID).Scan(&stored); err != nil {
		return pg.Fault(err)
	}
	if matches, err := a.passwordMatches(ctx, old, stored); err != nil {
		return err
	} else if !matches {
		return fault.New(fault.Forbidden, "account.wrong_old_password")
	}
	return a.setPassword(ctx, me.ID, session, password)
}

// NewPassword gives somebody who has forgotten theirs a new one, and ends their sessions. Who may ask for it is the caller's to know.
func (a *Accounts) NewPassword(ctx context.Context, raw string) (handle, password string, err error) {
	if handle, err = Handle(raw); err != nil {
		return "", "", err
	}
	person, found, err := pg.One[Person](ctx, a.db, `SELECT `+personColumns+` FROM account.person p WHERE p.handle = $1 AND NOT p.house AND p.bot_of IS NULL`, handle)
	if err == nil && !found {
		err = fault.New(fault.NotFound, "account.no_handle", fault.Args{"handle": handle})
	}
	if err != nil {
		return "", "", err
	}
	password, _ = newToken("")
	return handle, password, a.setPassword(ctx, person.ID, 0, password)
}

// setPassword ends every session but keep.
func (a *Accounts) setPassword(ctx context.Context, person, keep int64, password string) error {
	hash, err := a.hashPassword(ctx, password)
	if err != nil {
		return err
	}
	var ended []int64
	err = a.db.InTx(ctx, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `UPDATE account.person SET password_hash = $2 WHERE id = $1`, person, hash); err != nil {
			return err
		}
		ended, err = deleteSessions(ctx, tx, `person_id = $1 AND id <> $2`, person, keep)
		return err
	})
	if err == nil {
		a.ended(ended, 0)
	}
	return err
}
