package account

import (
	"context"
	"fmt"
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
	Device  string // what Remember gave this browser; "" when it gave nothing
}

// Session is one signed-in browser (or, with ID 0, a program with a token).
type Session struct {
	ID      int64
	Person  Person
	TokenID int64
	Scope   Scope     // what it may do
	Rooms   []int64   // where; nil: wherever its person is
	Since   time.Time // when somebody signed in for it, or the token was made
	Owes    bool      // the house demands a second factor of this person, who has none: nothing but setting one up is theirs
}

// OpenSession is a line in the list of sessions.
type OpenSession struct {
	ID        int64
	CreatedAt time.Time
	SeenAt    time.Time
	Address   string
	Agent     string
}

// Entry is how far a sign-in has come: to a session, or to where a second factor is asked for.
type Entry struct {
	Person  Person
	Session string // the session's token; "" while a second factor is wanted
	Pending string // names the sign-in that waits for it; see SecondFactor
}

// SignIn checks a password and opens a session, or asks for the second factor of who has one. A wrong handle and a wrong password are the same fault.
func (a *Accounts) SignIn(ctx context.Context, handle, password string, client Client) (Entry, error) {
	type row struct {
		Person
		Hash string
	}
	var found row
	var ok bool
	clean, err := Handle(handle)
	if err != nil {
		clean = ""
	} else if found, ok, err = pg.One[row](ctx, a.db,
		`SELECT `+personColumns+`, p.password_hash FROM account.person p WHERE p.handle = $1 AND p.disabled_at IS NULL AND p.bot_of IS NULL`, clean); err != nil {
		return Entry{}, err
	}
	keys, err := a.doors(ctx, "password", found.ID, clean, client)
	if err != nil {
		return Entry{}, err
	}
	if err := a.take(ctx, a.may.password, keys...); err != nil {
		return Entry{}, err
	}
	wrong := fault.New(fault.Unauthenticated, "account.wrong_password")
	if len(password) > 4*maxPassword {
		return Entry{}, wrong
	}
	if !ok {
		found.Hash = nobody
	}
	matches, err := a.passwordMatches(ctx, password, found.Hash)
	if err != nil {
		return Entry{}, err
	}
	if !ok || !matches {
		return Entry{}, wrong
	}
	if err := a.giveBack(ctx, a.may.password, keys...); err != nil {
		return Entry{}, err
	}
	return a.letIn(ctx, a.db, found.Person, client)
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
		Since     time.Time
		Owes      bool
		Stale     bool
	}
	found, ok, err := pg.One[row](ctx, a.db, `
		SELECT `+personColumns+`, s.id, s.created_at, `+sessionOwes+`, s.seen_at < now() - interval '5 minutes'
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
	return Session{ID: found.SessionID, Person: found.Person, Scope: All, Since: found.Since, Owes: found.Owes}, nil
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
		WHERE NOT EXISTS (SELECT FROM account.session s JOIN account.person p ON p.id = s.person_id WHERE s.id = w.id AND s.ends_at > now() AND p.disabled_at IS NULL AND NOT `+sessionOwes+`)
		  AND NOT EXISTS (SELECT FROM account.token t JOIN account.person p ON p.id = t.person_id WHERE t.id = -w.id AND `+tokenHolds+` AND NOT `+tokenOwes+`)`, sessions)
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

// EndSessionOf ends one session of somebody else, whom me may govern; with session 0, all of theirs.
func (a *Accounts) EndSessionOf(ctx context.Context, me Person, person, session int64) error {
	var ids []int64
	err := a.db.InTx(ctx, func(tx pgx.Tx) error {
		who, err := a.governed(ctx, tx, me, person)
		if err != nil {
			return err
		}
		if ids, err = deleteSessions(ctx, tx, `person_id = $1 AND ($2::bigint = 0 OR id = $2)`, person, session); err != nil {
			return err
		}
		if len(ids) == 0 {
			return fault.New(fault.NotFound, "account.no_session")
		}
		return notePerson(ctx, tx, me, SessionEnded, who, nil, Facts{"count": len(ids)})
	})
	if err == nil {
		a.ended(ids, 0)
	}
	return err
}

// Governed finds somebody whom me may govern: see their sessions, end them, close their account.
func (a *Accounts) Governed(ctx context.Context, me Person, id int64) (who Person, err error) {
	err = a.db.InTx(ctx, func(tx pgx.Tx) error {
		who, err = a.governed(ctx, tx, me, id)
		return err
	})
	return who, err
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
	if err := checkPassword(password, me.Handle, me.Name); err != nil {
		return err
	}
	if err := a.passwordIs(ctx, me, old); err != nil {
		return err
	}
	return a.setPassword(ctx, me.ID, session, password, func(pgx.Tx) error { return nil })
}

// passwordIs checks the password of somebody who is signed in; Forbidden when it is another.
func (a *Accounts) passwordIs(ctx context.Context, me Person, password string) error {
	key := fmt.Sprint("password person ", me.ID)
	if err := a.take(ctx, a.may.password, key); err != nil {
		return err
	}
	var stored string
	if err := a.db.QueryRow(ctx, `SELECT password_hash FROM account.person WHERE id = $1`, me.ID).Scan(&stored); err != nil {
		return pg.Fault(err)
	}
	if matches, err := a.passwordMatches(ctx, password, stored); err != nil {
		return err
	} else if !matches {
		return fault.New(fault.Forbidden, "account.wrong_old_password")
	}
	return a.giveBack(ctx, a.may.password, key)
}

// NewPassword gives somebody who has forgotten theirs a new one, and ends their sessions; reset takes away their second factor as well, and left tells that they still have one. Who may
// ask for it is the caller's to know.
func (a *Accounts) NewPassword(ctx context.Context, raw string, reset bool) (handle, password string, left bool, err error) {
	if handle, err = Handle(raw); err != nil {
		return "", "", false, err
	}
	person, found, err := pg.One[Person](ctx, a.db, `SELECT `+personColumns+` FROM account.person p WHERE p.handle = $1 AND NOT p.house AND p.bot_of IS NULL`, handle)
	if err == nil && !found {
		err = fault.New(fault.NotFound, "account.no_handle", fault.Args{"handle": handle})
	}
	if err != nil {
		return "", "", false, err
	}
	password, _ = newToken("")
	if err := a.setPassword(ctx, person.ID, 0, password, func(tx pgx.Tx) error {
		if !reset {
			return notePerson(ctx, tx, Person{}, PasswordGiven, person, nil, nil)
		}
		if err := removeFactors(ctx, tx, person.ID); err != nil {
			return err
		}
		return notePerson(ctx, tx, Person{}, PasswordGiven, person, nil, Facts{"second_factor": false})
	}); err != nil {
		return "", "", false, err
	}
	left, err = a.hasCodes(ctx, person.ID)
	return handle, password, left, err
}

// setPassword ends every session but keep, and all that was known or under way with the old one. also belongs to it.
func (a *Accounts) setPassword(ctx context.Context, person, keep int64, password string, also func(tx pgx.Tx) error) error {
	hash, err := a.hashPassword(ctx, password)
	if err != nil {
		return err
	}
	var ended []int64
	err = a.db.InTx(ctx, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `UPDATE account.person SET password_hash = $2 WHERE id = $1`, person, hash); err != nil {
			return err
		}
		if err := also(tx); err != nil {
			return err
		}
		ended, err = forget(ctx, tx, person, keep)
		return err
	})
	if err == nil {
		a.ended(ended, 0)
	}
	return err
}

// forget ends every session of a person but keep, which it gives, and what is left of others: half-made sign-ins, links, browsers that were known.
func forget(ctx context.Context, tx pgx.Tx, person, keep int64) (ended []int64, err error) {
	for _, sql := range []string{`DELETE FROM account.ticket WHERE person_id = $1`, `DELETE FROM account.device WHERE person_id = $1`} {
		if _, err := tx.Exec(ctx, sql, person); err != nil {
			return nil, err
		}
	}
	return deleteSessions(ctx, tx, `person_id = $1 AND id <> $2`, person, keep)
}
