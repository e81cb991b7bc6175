package account

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/time/rate"

	"howdah/internal/fault"
	"howdah/internal/pg"
)

// Scope is how much a token, or a session, may do of what its person may.
type Scope string

// The scopes; each holds those before it. A browser that is signed in has All.
const (
	Reads  Scope = "read"  // see rooms and what is said in them
	Writes Scope = "write" // speak there too, and change one's own words
	All    Scope = "all"   // whatever the person may do: rooms, people, tokens, settings
)

// Scopes lists them, the least first.
var Scopes = []Scope{Reads, Writes, All}

// Allows tells whether s holds other.
func (s Scope) Allows(other Scope) bool {
	return slices.Index(Scopes, s) >= slices.Index(Scopes, other)
}

// In tells whether a session is good for a room. Whether its person may go there is another question.
func (s Session) In(room int64) bool { return s.Rooms == nil || slices.Contains(s.Rooms, room) }

// OpenToken is a line in the list of access tokens.
type OpenToken struct {
	ID        int64
	Name      string
	Scope     Scope
	Rooms     []int64 // nil: wherever its person is
	CreatedAt time.Time
	SeenAt    *time.Time
	EndsAt    *time.Time // nil: never
}

// TokenDraft is an access token to be made.
type TokenDraft struct {
	Name  string
	Scope Scope         // "" is All
	Rooms []int64       // nil: wherever its person is
	Lasts time.Duration // 0: until it is revoked
}

const (
	mostTokens     = 100 // of one person
	mostTokenRooms = 100
	longestToken   = 10 * 366 * 24 * time.Hour
)

// NewToken makes a personal access token that may do all that its person may; this is the only time that it is seen.
func (a *Accounts) NewToken(ctx context.Context, person int64, name string) (token string, id int64, err error) {
	return a.MakeToken(ctx, person, TokenDraft{Name: name})
}

// MakeToken makes an access token for somebody; this is the only time that it is seen. Who may ask for it is the caller's to know.
func (a *Accounts) MakeToken(ctx context.Context, person int64, d TokenDraft) (token string, id int64, err error) {
	if d.Name, err = Name(d.Name); err != nil {
		return "", 0, fault.New(fault.Invalid, "account.token_name")
	}
	if d.Scope == "" {
		d.Scope = All
	}
	switch {
	case !slices.Contains(Scopes, d.Scope):
		return "", 0, fault.New(fault.Invalid, "account.token_scope")
	case d.Lasts < 0 || d.Lasts > longestToken:
		return "", 0, fault.New(fault.Invalid, "account.token_lasts")
	case d.Rooms != nil && (len(d.Rooms) == 0 || len(d.Rooms) > mostTokenRooms || d.Scope == All):
		return "", 0, fault.New(fault.Invalid, "account.token_rooms", fault.Args{"most": mostTokenRooms})
	}
	var ends *time.Time
	if d.Lasts > 0 {
		at := time.Now().Add(d.Lasts)
		ends = &at
	}
	token, hash := newToken("hwd_")
	type row struct {
		ID     int64
		Handle string
	}
	var made row
	err = a.db.InTx(ctx, func(tx pgx.Tx) error {
		var fresh bool
		made, fresh, err = pg.One[row](ctx, tx, `
			INSERT INTO account.token (person_id, name, token_hash, scope, rooms, ends_at) SELECT $1, $2, $3, $4, $5, $6
			WHERE (SELECT count(*) FROM account.token WHERE person_id = $1) < $7 RETURNING id, (SELECT handle FROM account.person WHERE id = $1)`, person, d.Name, hash, d.Scope, d.Rooms, ends, mostTokens)
		if err == nil && !fresh {
			err = fault.New(fault.Conflict, "account.token_many", fault.Args{"most": mostTokens})
		}
		if err != nil || asker(ctx).Person.ID == person || asker(ctx).Via == "" {
			return err // one's own are one's own
		}
		after := Facts{"name": d.Name, "scope": d.Scope}
		if d.Rooms != nil {
			after["rooms"] = d.Rooms
		}
		if ends != nil {
			after["ends"] = ends.UTC().Format(time.RFC3339)
		}
		return notePerson(ctx, tx, Person{}, TokenMade, Person{ID: person, Handle: made.Handle}, nil, after)
	})
	if err != nil {
		return "", 0, err
	}
	return token, made.ID, nil
}

// Tokens lists a person's access tokens, those that have ended too.
func (a *Accounts) Tokens(ctx context.Context, person int64) ([]OpenToken, error) {
	return pg.All[OpenToken](ctx, a.db, `SELECT id, name, scope, rooms, created_at, seen_at, ends_at FROM account.token WHERE person_id = $1 ORDER BY id`, person)
}

// RevokeToken deletes one of a person's tokens and closes what it holds open.
func (a *Accounts) RevokeToken(ctx context.Context, person, id int64) error {
	err := a.db.InTx(ctx, func(tx pgx.Tx) error {
		gone, found, err := pg.One[struct{ Name, Handle string }](ctx, tx, `DELETE FROM account.token t USING account.person p WHERE t.person_id = $1 AND t.id = $2 AND p.id = t.person_id RETURNING t.name, p.handle`, person, id)
		switch {
		case err != nil:
			return err
		case !found:
			return fault.New(fault.NotFound, "account.no_token")
		case asker(ctx).Person.ID == person || asker(ctx).Via == "":
			return nil
		}
		return notePerson(ctx, tx, Person{}, TokenRevoked, Person{ID: person, Handle: gone.Handle}, Facts{"name": gone.Name}, nil)
	})
	if err != nil {
		return err
	}
	a.ended([]int64{-id}, 0) // a token's live sockets go by the negative of its id
	return nil
}

// tokenHolds is when token t of person p is good. A bot's is while somebody answers for it.
const tokenHolds = `(t.ends_at IS NULL OR t.ends_at > now()) AND p.disabled_at IS NULL
	AND (p.bot_of IS NULL OR EXISTS (SELECT FROM account.person o WHERE o.id = p.bot_of AND o.disabled_at IS NULL))`

// Bearer finds who an access token belongs to, and what it is good for. A token that is used too often is told to wait.
func (a *Accounts) Bearer(ctx context.Context, token string) (Session, error) {
	type row struct {
		Person
		TokenID int64
		Scope   Scope
		Rooms   []int64
		Since   time.Time
		Owes    bool
		Stale   bool
	}
	found, ok, err := pg.One[row](ctx, a.db, `
		SELECT `+personColumns+`, t.id, t.scope, t.rooms, t.created_at, `+tokenOwes+`, coalesce(t.seen_at < now() - interval '5 minutes', true)
		FROM account.token t JOIN account.person p ON p.id = t.person_id
		WHERE t.token_hash = $1 AND `+tokenHolds, hashToken(token))
	if err != nil {
		return Session{}, err
	}
	if !ok {
		return Session{}, fault.New(fault.Unauthenticated, "account.bad_token")
	}
	if err := a.paces.take(found.TokenID); err != nil {
		return Session{}, err
	}
	if found.Stale {
		if err := a.used(ctx, `UPDATE account.token SET seen_at = now() WHERE id = $1`, found.TokenID); err != nil {
			return Session{}, err
		}
	}
	return Session{Person: found.Person, TokenID: found.TokenID, ID: -found.TokenID, Scope: found.Scope, Rooms: found.Rooms, Since: found.Since, Owes: found.Owes}, nil
}

// A token may be used so often at once, and then so often a second: far more than a program needs that does not spin.
const (
	usesAtOnce  = 1000
	usesASecond = 100
)

// paces slows programs down, each by itself: one that spins takes nothing from another, nor from people. It lives in memory.
type paces struct {
	mu sync.Mutex
	of map[int64]*rate.Limiter
}

const mostPaces = 10_000

func (p *paces) take(token int64) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.of == nil || len(p.of) > mostPaces {
		p.of = map[int64]*rate.Limiter{}
	}
	l := p.of[token]
	if l == nil {
		l = rate.NewLimiter(usesASecond, usesAtOnce)
		p.of[token] = l
	}
	if !l.Allow() {
		return fault.New(fault.RateLimited, "account.token_often", fault.Args{"seconds": 1})
	}
	return nil
}
