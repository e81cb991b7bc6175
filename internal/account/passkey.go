package account

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"net"
	"net/url"
	"strings"
	"time"

	"github.com/go-webauthn/webauthn/protocol"
	"github.com/go-webauthn/webauthn/webauthn"
	"github.com/jackc/pgx/v5"

	"howdah/internal/fault"
	"howdah/internal/pg"
)

// Passkeys open a session by themselves, so each proves who uses it (user verification: a PIN, a finger): it is two factors in one, and no code is asked for after it.

const (
	ticketNewPasskey = "new passkey"
	ticketPasskey    = "passkey"
	ceremonyLife     = 5 * time.Minute
	mostPasskeys     = 20 // of a person
)

// AllowPasskeys lets people sign in with passkeys on the pages of publicURL, and on no others: browsers bind each to the name of the house. It tells whether they can: only https, or
// http://localhost, and not an address of numbers.
func (a *Accounts) AllowPasskeys(publicURL string) bool {
	a.passkeys, a.passkeyOrigin = nil, ""
	u, err := url.Parse(publicURL)
	if err != nil || u.Hostname() == "" || net.ParseIP(u.Hostname()) != nil || u.Scheme != "https" && u.Hostname() != "localhost" && !strings.HasSuffix(u.Hostname(), ".localhost") {
		return false
	}
	origin := u.Scheme + "://" + u.Host
	party, err := webauthn.New(&webauthn.Config{RPID: u.Hostname(), RPDisplayName: "Howdah", RPOrigins: []string{origin}, AttestationPreference: protocol.PreferNoAttestation,
		AuthenticatorSelection: protocol.AuthenticatorSelection{ResidentKey: protocol.ResidentKeyRequirementRequired, UserVerification: protocol.VerificationRequired}})
	if err != nil {
		return false
	}
	a.passkeys, a.passkeyOrigin = party, origin
	return true
}

// PasskeyOrigin is where passkeys work; "" when they do nowhere.
func (a *Accounts) PasskeyOrigin() string { return a.passkeyOrigin }

func (a *Accounts) party() (*webauthn.WebAuthn, error) {
	if a.passkeys == nil {
		return nil, fault.New(fault.Conflict, "account.no_passkeys")
	}
	return a.passkeys, nil
}

// Passkey is a line in the list of somebody's.
type Passkey struct {
	ID        int64
	Name      string
	CreatedAt time.Time
	UsedAt    *time.Time
	ClonedAt  *time.Time // when it was noticed that there are two of it; it opens nothing since
}

// Passkeys lists a person's, oldest first.
func (a *Accounts) Passkeys(ctx context.Context, person int64) ([]Passkey, error) {
	return pg.All[Passkey](ctx, a.db, `SELECT id, name, created_at, used_at, cloned_at FROM account.passkey WHERE person_id = $1 ORDER BY id`, person)
}

// hasPasskey tells whether somebody has one that opens a session.
func (a *Accounts) hasPasskey(ctx context.Context, person int64) (has bool, err error) {
	err = a.db.QueryRow(ctx, `SELECT EXISTS (SELECT FROM account.passkey WHERE person_id = $1 AND cloned_at IS NULL)`, person).Scan(&has)
	return has, pg.Fault(err)
}

// holder is a person as the library wants them.
type holder struct {
	handle []byte
	person Person
	keys   []webauthn.Credential
}

func (h *holder) WebAuthnID() []byte                         { return h.handle }
func (h *holder) WebAuthnName() string                       { return h.person.Handle }
func (h *holder) WebAuthnDisplayName() string                { return h.person.Name }
func (h *holder) WebAuthnCredentials() []webauthn.Credential { return h.keys }

func (a *Accounts) holder(ctx context.Context, me Person) (*holder, error) {
	rows, err := pg.All[struct{ Handle, Credential []byte }](ctx, a.db, `SELECT user_handle, credential FROM account.passkey WHERE person_id = $1 ORDER BY id`, me.ID)
	if err != nil {
		return nil, err
	}
	h := &holder{person: me}
	for _, row := range rows {
		var key webauthn.Credential
		if err := json.Unmarshal(row.Credential, &key); err != nil {
			return nil, err
		}
		h.handle, h.keys = row.Handle, append(h.keys, key)
	}
	if h.handle == nil {
		h.handle = make([]byte, 32)
		rand.Read(h.handle)
	}
	return h, nil
}

// BeginPasskey begins to add a passkey, and gives what the browser's navigator.credentials.create wants (PublicKeyCredentialCreationOptionsJSON) and the ticket to finish with. It wants the
// password again, or a recent sign-in.
func (a *Accounts) BeginPasskey(ctx context.Context, s Session, password string) (options any, ticket string, err error) {
	party, err := a.party()
	if err != nil {
		return nil, "", err
	}
	if err := a.confirm(ctx, s, password); err != nil {
		return nil, "", err
	}
	me, err := a.holder(ctx, s.Person)
	if err != nil {
		return nil, "", err
	}
	if len(me.keys) >= mostPasskeys {
		return nil, "", fault.New(fault.Conflict, "account.passkeys_full", fault.Args{"n": mostPasskeys})
	}
	creation, session, err := party.BeginRegistration(me, webauthn.WithExclusions(webauthn.Credentials(me.keys).CredentialDescriptors()))
	if err != nil {
		return nil, "", err
	}
	ticket, err = a.newTicket(ctx, a.db, ticketNewPasskey, &s.Person.ID, session, ceremonyLife)
	return creation.Response, ticket, err
}

// FinishPasskey adds the passkey that the browser has made, under a name of 1 to 64 characters; response is its PublicKeyCredential as JSON.
func (a *Accounts) FinishPasskey(ctx context.Context, s Session, ticket, name string, response []byte) error {
	party, err := a.party()
	if err != nil {
		return err
	}
	if name, err = Name(name); err != nil {
		return fault.New(fault.Invalid, "account.passkey_name")
	}
	used, found, err := takeTicket(ctx, a.db, ticketNewPasskey, ticket)
	if err != nil {
		return err
	}
	if !found || used.Person == nil || *used.Person != s.Person.ID {
		return fault.New(fault.Conflict, "account.passkey_over")
	}
	var session webauthn.SessionData
	if err := json.Unmarshal(used.Data, &session); err != nil {
		return err
	}
	me, err := a.holder(ctx, s.Person)
	if err != nil {
		return err
	}
	me.handle = session.UserID
	parsed, err := protocol.ParseCredentialCreationResponseBytes(response)
	if err != nil {
		return passkeyFault(err)
	}
	key, err := party.CreateCredential(me, session, parsed)
	if err != nil {
		return passkeyFault(err)
	}
	raw, err := json.Marshal(key)
	if err != nil {
		return err
	}
	// The browser has just proved who uses it, so the session is as good as one that was opened with it.
	_, err = a.db.Exec(ctx, `WITH made AS (INSERT INTO account.passkey (person_id, credential_id, user_handle, credential, name) VALUES ($1, $2, $3, $4, $5) RETURNING id)
		UPDATE account.session SET passkey_id = made.id FROM made WHERE account.session.id = $6 AND person_id = $1`, s.Person.ID, key.ID, session.UserID, raw, name, s.ID)
	if pg.UniqueViolation(err, "passkey_credential_id_key") {
		return fault.Wrap(err, fault.Conflict, "account.passkey_known")
	}
	return pg.Fault(err)
}

// passkeyFault is how the answer of a browser that proves nothing is refused.
func passkeyFault(err error) error {
	return fault.Wrap(err, fault.Unauthenticated, "account.passkey_wrong")
}

// RenamePasskey gives one of a person's own another name.
func (a *Accounts) RenamePasskey(ctx context.Context, person, id int64, name string) error {
	name, err := Name(name)
	if err != nil {
		return fault.New(fault.Invalid, "account.passkey_name")
	}
	tag, err := a.db.Exec(ctx, `UPDATE account.passkey SET name = $3 WHERE person_id = $1 AND id = $2`, person, id, name)
	if err == nil && tag.RowsAffected() == 0 {
		return fault.New(fault.NotFound, "account.no_passkey")
	}
	return pg.Fault(err)
}

// RemovePasskey deletes one of a person's own. It wants the password again, or a recent sign-in.
func (a *Accounts) RemovePasskey(ctx context.Context, s Session, password string, id int64) error {
	if err := a.confirm(ctx, s, password); err != nil {
		return err
	}
	tag, err := a.db.Exec(ctx, `DELETE FROM account.passkey WHERE person_id = $1 AND id = $2`, s.Person.ID, id)
	if err == nil && tag.RowsAffected() == 0 {
		return fault.New(fault.NotFound, "account.no_passkey")
	}
	return pg.Fault(err)
}

// BeginPasskeySignIn begins a sign-in in which the browser says who it is, and gives what navigator.credentials.get wants (PublicKeyCredentialRequestOptionsJSON) and the ticket to finish with.
func (a *Accounts) BeginPasskeySignIn(ctx context.Context, client Client) (options any, ticket string, err error) {
	party, err := a.party()
	if err != nil {
		return nil, "", err
	}
	if err := a.take(ctx, a.may.passkey, "passkey "+addressKey(client.Address)); err != nil {
		return nil, "", err
	}
	assertion, session, err := party.BeginDiscoverableLogin(webauthn.WithUserVerification(protocol.VerificationRequired))
	if err != nil {
		return nil, "", err
	}
	ticket, err = a.newTicket(ctx, a.db, ticketPasskey, nil, session, ceremonyLife)
	return assertion.Response, ticket, err
}

// PasskeySignIn opens a session for whose passkey the browser has; response is its PublicKeyCredential as JSON. A passkey whose counter goes back was copied: it is refused, now and from
// then on (WebAuthn, section 6.1.1).
func (a *Accounts) PasskeySignIn(ctx context.Context, ticket string, response []byte, client Client) (Entry, error) {
	party, err := a.party()
	if err != nil {
		return Entry{}, err
	}
	used, found, err := takeTicket(ctx, a.db, ticketPasskey, ticket)
	if err != nil {
		return Entry{}, err
	}
	if !found {
		return Entry{}, fault.New(fault.Unauthenticated, "account.passkey_over")
	}
	var session webauthn.SessionData
	if err := json.Unmarshal(used.Data, &session); err != nil {
		return Entry{}, err
	}
	parsed, err := protocol.ParseCredentialRequestResponseBytes(response)
	if err != nil {
		return Entry{}, passkeyFault(err)
	}
	type row struct {
		Person
		Passkey            int64
		Handle, Credential []byte
		Cloned             bool
	}
	var entry Entry
	var cloned bool
	err = a.db.InTx(ctx, func(tx pgx.Tx) error {
		found, ok, err := pg.One[row](ctx, tx, `
			SELECT `+personColumns+`, k.id, k.user_handle, k.credential, k.cloned_at IS NOT NULL
			FROM account.passkey k JOIN account.person p ON p.id = k.person_id
			WHERE k.credential_id = $1 AND p.disabled_at IS NULL FOR UPDATE OF k`, []byte(parsed.RawID))
		if err != nil {
			return err
		}
		if !ok {
			return fault.New(fault.Unauthenticated, "account.passkey_unknown")
		}
		var key webauthn.Credential
		if err := json.Unmarshal(found.Credential, &key); err != nil {
			return err
		}
		now, err := party.ValidateDiscoverableLogin(func(_, handle []byte) (webauthn.User, error) {
			if !bytes.Equal(handle, found.Handle) {
				return nil, fault.New(fault.Unauthenticated, "account.passkey_unknown")
			}
			return &holder{handle: found.Handle, person: found.Person, keys: []webauthn.Credential{key}}, nil
		}, session, parsed)
		if err != nil {
			return passkeyFault(err)
		}
		if cloned = found.Cloned || now.Authenticator.CloneWarning; cloned {
			_, err := tx.Exec(ctx, `UPDATE account.passkey SET cloned_at = coalesce(cloned_at, now()) WHERE id = $1`, found.Passkey)
			return err
		}
		raw, err := json.Marshal(now)
		if err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `UPDATE account.passkey SET credential = $2, used_at = now() WHERE id = $1`, found.Passkey, raw); err != nil {
			return err
		}
		entry.Person = found.Person
		if entry.Session, err = a.openSession(ctx, tx, found.ID, client); err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `UPDATE account.session SET passkey_id = $2 WHERE token_hash = $1`, hashToken(entry.Session), found.Passkey)
		return err
	})
	if err == nil && cloned {
		err = fault.New(fault.Forbidden, "account.passkey_cloned")
	}
	return entry, err
}
