package account

import (
	"context"
	"crypto/subtle"
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"howdah/internal/fault"
	"howdah/internal/openid"
	"howdah/internal/pg"
)

// People who sign in with an OpenID Connect provider. It takes the place of a password and of nothing else: a second factor of the house is asked for behind it. Nobody is taken for
// somebody by their address: an account is connected by who is signed in to it, or by who holds a link that an admin has made for it.

const (
	ticketProvider = "provider"
	providerLife   = 15 * time.Minute // at the provider
	mostIdentities = 10               // of a person
	mostHandles    = 50               // that are tried for a newcomer
)

// Provider is one of them, with what it may decide.
type Provider struct {
	*openid.Provider
	Roles   map[string]Role // by group; a person gets the highest at each sign-in. Empty: roles are given in the house
	Role    Role            // of newcomers, and of those who are in none of the groups; None: those are refused where there are groups, and newcomers are members
	New     bool            // whoever it lets in may come in, without an invitation
	Domains []string        // only verified addresses in these; nil: it is not asked
}

// AllowProviders lets people sign in with these. Call it before anybody does.
func (a *Accounts) AllowProviders(all []Provider) { a.providers = all }

// Providers are those that people may sign in with.
func (a *Accounts) Providers() []Provider { return a.providers }

func (a *Accounts) provider(name string) (Provider, error) {
	for _, p := range a.providers {
		if p.Name == name {
			return p, nil
		}
	}
	return Provider{}, fault.New(fault.NotFound, "account.no_provider")
}

// role is what an identity's groups make somebody; set is false where groups decide nothing.
func (p Provider) role(groups []string) (role Role, set bool, err error) {
	if len(p.Roles) == 0 {
		if p.Role == None {
			return Member, false, nil
		}
		return p.Role, false, nil
	}
	role = p.Role
	best := None
	for _, group := range groups {
		if r := p.Roles[group]; r.Rank() > best.Rank() {
			best = r
		}
	}
	if best != None {
		role = best
	}
	if role == None {
		return None, true, fault.New(fault.Forbidden, "account.provider_group", fault.Args{"name": p.Label})
	}
	return role, true, nil
}

// welcome refuses an identity whose address is not in one of the domains.
func (p Provider) welcome(who openid.Identity) error {
	if len(p.Domains) == 0 {
		return nil
	}
	_, domain, _ := strings.Cut(who.Email, "@")
	for _, one := range p.Domains {
		if domain != "" && strings.EqualFold(domain, one) {
			return nil
		}
	}
	if who.Email == "" {
		return fault.New(fault.Forbidden, "account.provider_unverified", fault.Args{"name": p.Label})
	}
	return fault.New(fault.Forbidden, "account.provider_domain", fault.Args{"name": p.Label})
}

// errand is what a way to a provider and back is for.
type errand struct {
	Provider string      `json:"provider"`
	Flow     openid.Flow `json:"flow"`
	Browser  []byte      `json:"browser"` // hash of what the browser keeps
	Next     string      `json:"next,omitempty"`
	Link     bool        `json:"link,omitempty"`    // to connect the ticket's person, who is signed in
	Recover  []byte      `json:"recover,omitempty"` // to connect the ticket's person by this ticket, a link that an admin has made
}

// send begins a way to a provider: the address to send the browser to, and what the browser has to keep until it is back.
func (a *Accounts) send(ctx context.Context, name, redirect string, person *int64, e errand) (address, browser string, err error) {
	p, err := a.provider(name)
	if err != nil {
		return "", "", err
	}
	browser, hash := newToken("")
	e.Provider, e.Flow, e.Browser = name, openid.NewFlow(redirect), hash
	if _, err := p.Address(ctx, e.Flow, ""); err != nil { // before anything is kept
		return "", "", err
	}
	state, err := a.newTicket(ctx, a.db, ticketProvider, person, e, providerLife)
	if err != nil {
		return "", "", err
	}
	address, err = p.Address(ctx, e.Flow, state)
	return address, browser, err
}

// BeginProvider begins a sign-in with a provider. redirect is where it shall send the browser back to, next where somebody wanted to go.
func (a *Accounts) BeginProvider(ctx context.Context, name, redirect, next string, client Client) (address, browser string, err error) {
	if err := a.take(ctx, a.may.passkey, "provider "+addressKey(client.Address)); err != nil {
		return "", "", err
	}
	return a.send(ctx, name, redirect, nil, errand{Next: next})
}

// BeginConnect begins to connect one's own account with a provider. It wants the password again, or a recent sign-in.
func (a *Accounts) BeginConnect(ctx context.Context, s Session, password, name, redirect string) (address, browser string, err error) {
	if s.ID <= 0 {
		return "", "", fault.New(fault.Forbidden, "account.confirm")
	}
	if err := a.confirm(ctx, s, password); err != nil {
		return "", "", err
	}
	return a.send(ctx, name, redirect, &s.Person.ID, errand{Link: true})
}

// BeginRecoverWith begins to connect the account that a recovery link is for, which is used up by it, instead of choosing a password.
func (a *Accounts) BeginRecoverWith(ctx context.Context, token, name, redirect string) (address, browser string, err error) {
	person, err := a.CheckRecovery(ctx, token)
	if err != nil {
		return "", "", err
	}
	return a.send(ctx, name, redirect, &person.ID, errand{Recover: hashToken(token)})
}

// Arrival is how somebody came back from a provider. It is filled in as far as is known when there is an error.
type Arrival struct {
	Entry
	Provider string // as people call it
	Next     string
	Link     bool // it was to connect an account to which somebody is signed in: there is no new session
	New      bool // the person was made
	Was      Role // before the groups changed it; None: nothing was changed
}

// FinishProvider takes what a browser came back from a provider with: the query of its address, what it has kept, and who is signed in there. welcome runs in the transaction that makes a
// newcomer: it lets them into their first rooms. Each answer is good once.
func (a *Accounts) FinishProvider(ctx context.Context, name string, answer url.Values, browser string, s Session, client Client,
	welcome func(ctx context.Context, tx pgx.Tx, newcomer Person) error) (Arrival, error) {
	p, err := a.provider(name)
	if err != nil {
		return Arrival{}, err
	}
	back := Arrival{Provider: p.Label}
	used, found, err := takeTicket(ctx, a.db, ticketProvider, answer.Get("state"))
	if err != nil {
		return back, err
	}
	if !found {
		return back, fault.New(fault.Unauthenticated, "account.provider_over")
	}
	var e errand
	if err := json.Unmarshal(used.Data, &e); err != nil {
		return back, err
	}
	if e.Provider != name || subtle.ConstantTimeCompare(hashToken(browser), e.Browser) != 1 {
		return back, fault.New(fault.Unauthenticated, "account.provider_browser")
	}
	back.Next, back.Link = e.Next, e.Link
	if e.Link && (used.Person == nil || s.ID <= 0 || s.Person.ID != *used.Person) {
		back.Link = false
		return back, fault.New(fault.Unauthenticated, "account.provider_browser")
	}
	who, err := p.Finish(ctx, e.Flow, answer)
	if err == nil {
		err = p.welcome(who)
	}
	if err != nil {
		return back, err
	}
	var ended []int64
	err = a.db.InTx(ctx, func(tx pgx.Tx) error {
		back.Entry, back.New, back.Was, ended = Entry{}, false, None, nil
		// Who comes for the first time, twice at the same moment, is one person.
		if _, err := tx.Exec(ctx, `SELECT pg_advisory_xact_lock(hashtextextended($1, 0))`, "identity "+who.Issuer+" "+who.Subject); err != nil {
			return err
		}
		person, known, err := pg.One[Person](ctx, tx, `
			SELECT `+personColumns+` FROM account.identity i JOIN account.person p ON p.id = i.person_id WHERE i.issuer = $1 AND i.subject = $2 FOR UPDATE OF p`, who.Issuer, who.Subject)
		switch {
		case err != nil:
			return err
		case e.Link || e.Recover != nil:
			if used.Person == nil {
				return fault.New(fault.Unauthenticated, "account.provider_over")
			}
			if known && person.ID != *used.Person {
				return fault.New(fault.Conflict, "account.provider_taken", fault.Args{"name": p.Label})
			}
			if person, err = a.connect(ctx, tx, *used.Person, e, who); err != nil || e.Link {
				back.Person = person
				return err
			}
			if ended, err = forget(ctx, tx, person.ID, 0); err != nil { // as by a new password: whoever else is in there goes
				return err
			}
			if err := notePerson(ctx, tx, person, LinkUsed, person, nil, Facts{"by": p.Label}); err != nil {
				return err
			}
		case known:
			if person.Disabled {
				return fault.New(fault.Forbidden, "account.provider_closed")
			}
		case !p.New:
			return fault.New(fault.Forbidden, "account.provider_unknown", fault.Args{"name": p.Label})
		default:
			if person, err = a.newcomer(ctx, tx, p, who); err == nil {
				back.New = true
				err = notePerson(ctx, tx, person, PersonMade, person, nil, Facts{"role": person.Role, "by": p.Label})
			}
			if err == nil {
				err = welcome(ctx, tx, person)
			}
			if err != nil {
				return err
			}
		}
		if !back.New {
			if back.Was, err = follow(ctx, tx, p, &person, who.Groups); err != nil {
				return err
			}
		}
		if _, err := tx.Exec(ctx, `UPDATE account.identity SET used_at = now(), name = $3 WHERE issuer = $1 AND subject = $2`, who.Issuer, who.Subject, called(who)); err != nil {
			return err
		}
		back.Entry, err = a.letIn(ctx, tx, person, client)
		return err
	})
	if err == nil && len(ended) > 0 {
		a.ended(ended, 0)
	}
	return back, err
}

// follow gives somebody the role that their groups say. An owner stays one, and gets in whatever the provider says of groups: only in the house is an owner made, and unmade.
func follow(ctx context.Context, tx pgx.Tx, p Provider, person *Person, groups []string) (was Role, err error) {
	if person.Role == Owner {
		return None, nil
	}
	role, set, err := p.role(groups)
	if err != nil || !set || role == person.Role {
		return None, err
	}
	if _, err := tx.Exec(ctx, `UPDATE account.person SET role = $2 WHERE id = $1`, person.ID, role); err != nil {
		return None, err
	}
	was, person.Role = person.Role, role
	if err := notePerson(ctx, tx, *person, PersonRole, *person, Facts{"role": was}, Facts{"role": role, "by": p.Label}); err != nil {
		return None, err
	}
	return was, revokeLinks(ctx, tx, person.ID, role)
}

// called is how the list of what somebody signs in with names an identity.
func called(who openid.Identity) string {
	for _, name := range []string{who.Username, who.Email, who.Unverified, who.Name} {
		if name != "" {
			return name
		}
	}
	return who.Subject
}

// connect adds an identity to a person; by a recovery link, which it takes.
func (a *Accounts) connect(ctx context.Context, tx pgx.Tx, id int64, e errand, who openid.Identity) (Person, error) {
	if e.Recover != nil {
		tag, err := tx.Exec(ctx, `DELETE FROM account.ticket WHERE token_hash = $1 AND kind = $2 AND person_id = $3 AND ends_at > now()`, e.Recover, ticketRecover, id)
		if err != nil {
			return Person{}, err
		}
		if tag.RowsAffected() == 0 {
			return Person{}, fault.New(fault.NotFound, "account.recovery_link")
		}
	}
	person, found, err := pg.One[Person](ctx, tx, `SELECT `+personColumns+` FROM account.person p WHERE p.id = $1 AND p.disabled_at IS NULL AND p.bot_of IS NULL FOR UPDATE`, id)
	if err != nil {
		return Person{}, err
	}
	var have int
	if err := tx.QueryRow(ctx, `SELECT count(*) FROM account.identity WHERE person_id = $1`, id).Scan(&have); err != nil {
		return Person{}, err
	}
	switch {
	case !found:
		return Person{}, fault.New(fault.NotFound, "account.no_person")
	case have >= mostIdentities:
		return Person{}, fault.New(fault.Conflict, "account.providers_full", fault.Args{"n": mostIdentities})
	}
	_, err = tx.Exec(ctx, `INSERT INTO account.identity (person_id, issuer, subject, name) VALUES ($1, $2, $3, $4) ON CONFLICT (issuer, subject) DO NOTHING`, id, who.Issuer, who.Subject, called(who))
	return person, err
}

// newcomer makes an account for somebody whom a provider has let in, under a handle like the name that they have there.
func (a *Accounts) newcomer(ctx context.Context, tx pgx.Tx, p Provider, who openid.Identity) (Person, error) {
	var settled bool
	if err := tx.QueryRow(ctx, `SELECT EXISTS (SELECT FROM account.person WHERE role = 'owner')`).Scan(&settled); err != nil {
		return Person{}, err
	}
	if !settled { // the first is the owner, by the set-up link and nothing else
		return Person{}, fault.New(fault.Conflict, "account.provider_early")
	}
	role, _, err := p.role(who.Groups)
	if err != nil {
		return Person{}, err
	}
	var lives bool // and has shown that address to be theirs: they would have two accounts, and look for their rooms in the wrong one
	if err := tx.QueryRow(ctx, `SELECT $1 <> '' AND EXISTS (SELECT FROM account.mailbox WHERE lower(address) = lower($1))`, who.Email).Scan(&lives); err != nil {
		return Person{}, err
	}
	if lives {
		return Person{}, fault.New(fault.Conflict, "account.provider_lives", fault.Args{"name": p.Label})
	}
	base := ""
	for _, words := range []string{who.Username, who.Email, who.Unverified, who.Name, "member"} {
		if base = likeHandle(words); base != "" {
			break
		}
	}
	n := NewPerson{Name: who.Name}
	if n.Name, err = Name(n.Name); err != nil {
		n.Name = base
	}
	taken, err := pg.All[struct{ Handle string }](ctx, tx, `SELECT handle FROM account.person WHERE handle = $1 OR starts_with(handle, $1)`, base)
	if err != nil {
		return Person{}, err
	}
	have := map[string]bool{}
	for _, one := range taken {
		have[one.Handle] = true
	}
	for i := 1; i <= len(taken)+mostHandles; i++ {
		if n.Handle = base; i > 1 {
			n.Handle = fmt.Sprint(base, i)
		}
		if have[n.Handle] {
			continue
		}
		person, made, err := pg.One[Person](ctx, tx, `
			INSERT INTO account.person AS p (handle, name, role, password_hash) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING RETURNING `+personColumns, n.Handle, n.Name, role, nobody)
		if err != nil {
			return Person{}, err
		}
		if made {
			_, err = tx.Exec(ctx, `INSERT INTO account.identity (person_id, issuer, subject, name) VALUES ($1, $2, $3, $4)`, person.ID, who.Issuer, who.Subject, called(who))
			return person, err
		}
	}
	return Person{}, fault.New(fault.Conflict, "account.handle_taken", fault.Args{"handle": base})
}

// likeHandle makes a handle of somebody's words, with room for a number behind it; "" when there is nothing in them.
func likeHandle(words string) string {
	words, _, _ = strings.Cut(words, "@")
	handle := ""
	n := 0
	for _, r := range strings.ToLower(strings.Join(strings.Fields(words), ".")) {
		if HandleRune(r) && n < 28 {
			handle += string(r)
			n++
		}
	}
	handle, err := Handle(strings.TrimLeft(handle, "._-"))
	if err != nil || CallsAll(handle) != "" {
		return ""
	}
	return handle
}

// Connected is a provider's person that somebody signs in as.
type Connected struct {
	ID       int64
	Provider string // as people call it, or its issuer where the house knows it no more
	Name     string
	MadeAt   time.Time
	UsedAt   *time.Time
}

// Connections lists somebody's, and the providers that they are not connected with. keyless tells that they have no password.
func (a *Accounts) Connections(ctx context.Context, person int64) (have []Connected, others []Provider, keyless bool, err error) {
	if have, err = pg.All[Connected](ctx, a.db, `SELECT id, issuer, name, made_at, used_at FROM account.identity WHERE person_id = $1 ORDER BY id`, person); err != nil {
		return nil, nil, false, err
	}
	with := map[string]bool{}
	for i := range have {
		issuer := have[i].Provider
		with[issuer] = true
		for _, p := range a.providers {
			if p.Issuer == issuer {
				have[i].Provider = p.Label
			}
		}
	}
	for _, p := range a.providers {
		if !with[p.Issuer] {
			others = append(others, p)
		}
	}
	err = a.db.QueryRow(ctx, `SELECT password_hash = $2 FROM account.person WHERE id = $1`, person, nobody).Scan(&keyless)
	return have, others, keyless, pg.Fault(err)
}

// Disconnect ends that somebody signs in with one of theirs, unless it is their only way in. It wants the password again, or a recent sign-in.
func (a *Accounts) Disconnect(ctx context.Context, s Session, password string, id int64) error {
	if err := a.confirm(ctx, s, password); err != nil {
		return err
	}
	return a.db.InTx(ctx, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `SELECT FROM account.person WHERE id = $1 FOR UPDATE`, s.Person.ID); err != nil {
			return err
		}
		tag, err := tx.Exec(ctx, `DELETE FROM account.identity WHERE person_id = $1 AND id = $2`, s.Person.ID, id)
		if err != nil {
			return err
		}
		if tag.RowsAffected() == 0 {
			return fault.New(fault.NotFound, "account.no_provider")
		}
		var left bool
		if err := tx.QueryRow(ctx, `
			SELECT EXISTS (SELECT FROM account.person WHERE id = $1 AND password_hash <> $2) OR EXISTS (SELECT FROM account.passkey WHERE person_id = $1 AND cloned_at IS NULL)
			    OR EXISTS (SELECT FROM account.identity WHERE person_id = $1)`, s.Person.ID, nobody).Scan(&left); err != nil {
			return err
		}
		if !left {
			return fault.New(fault.Conflict, "account.provider_last")
		}
		return nil
	})
}
