package account

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base32"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/pquerna/otp"
	"github.com/pquerna/otp/hotp"

	"howdah/internal/fault"
	"howdah/internal/pg"
)

const (
	codePeriod  = 30 * time.Second
	pendingLife = 10 * time.Minute // from the password to the code
	pendingMost = 10               // codes for one sign-in
	setUpLife   = 30 * time.Minute // from the secret to the first code
	recent      = 10 * time.Minute // a sign-in that is as good as the password again
	recoveries  = 10               // recovery codes
)

// What the house demands of owners and admins is met by codes, and by a passkey, which proves two things at once: by a session that was opened with one, and not by another one of the same
// person, since the password alone opens that.
const (
	codeless = `(p.role IN ('owner', 'admin') AND EXISTS (SELECT FROM account.rule WHERE second_factor)
	AND NOT EXISTS (SELECT FROM account.totp f WHERE f.person_id = p.id AND f.confirmed_at IS NOT NULL))`

	// sessionOwes is SQL that tells of a session s of a person p whether a second factor is demanded that it does not have.
	sessionOwes = `(` + codeless + ` AND NOT EXISTS (SELECT FROM account.passkey k WHERE k.id = s.passkey_id AND k.cloned_at IS NULL))`

	// tokenOwes tells it of a person p whose token it is: who has a passkey made it in a session of theirs that owed nothing.
	tokenOwes = `(` + codeless + ` AND NOT EXISTS (SELECT FROM account.passkey k WHERE k.person_id = p.id AND k.cloned_at IS NULL))`
)

// Factors is what somebody has beside their password.
type Factors struct {
	Codes    time.Time // since when an app makes codes; zero: none does
	Recovery int       // recovery codes that are left
}

// Any tells whether there is a second factor.
func (f Factors) Any() bool { return !f.Codes.IsZero() }

// Factors finds somebody's.
func (a *Accounts) Factors(ctx context.Context, person int64) (Factors, error) {
	type row struct {
		Codes    *time.Time
		Recovery int
	}
	found, _, err := pg.One[row](ctx, a.db, `
		SELECT (SELECT confirmed_at FROM account.totp WHERE person_id = $1), (SELECT count(*) FROM account.recovery_code WHERE person_id = $1)`, person)
	f := Factors{Recovery: found.Recovery}
	if found.Codes != nil {
		f.Codes = *found.Codes
	}
	return f, err
}

// WithFactors are those who have codes or passkeys.
func (a *Accounts) WithFactors(ctx context.Context) (map[int64]bool, error) {
	all, err := pg.All[struct{ ID int64 }](ctx, a.db, `SELECT person_id FROM account.totp WHERE confirmed_at IS NOT NULL UNION SELECT person_id FROM account.passkey`)
	have := map[int64]bool{}
	for _, one := range all {
		have[one.ID] = true
	}
	return have, err
}

func (a *Accounts) hasCodes(ctx context.Context, person int64) (bool, error) {
	f, err := a.Factors(ctx, person)
	return f.Any(), err
}

// Recent tells whether somebody has signed in so lately that nothing has to be proved again.
func (s Session) Recent() bool { return s.TokenID == 0 && time.Since(s.Since) < recent }

// confirm wants the password again, unless the sign-in is recent.
func (a *Accounts) confirm(ctx context.Context, s Session, password string) error {
	if s.Owes { // who knows the password alone changes nothing of how somebody signs in who has a passkey
		if has, err := a.hasPasskey(ctx, s.Person.ID); err != nil {
			return err
		} else if has {
			return fault.New(fault.Forbidden, "account.use_passkey")
		}
	}
	if password == "" && s.Recent() {
		return nil
	}
	if password == "" {
		return fault.New(fault.Forbidden, "account.confirm")
	}
	return a.passwordIs(ctx, s.Person, password)
}

func codePurpose(person int64) string { return fmt.Sprint("totp ", person) }

// CodeSecret is a secret for an app that makes codes: as a text to type, and as an address (otpauth://totp/...) to show as a QR code.
type CodeSecret struct{ Text, URL string }

func codeSecret(house, handle string, secret []byte) CodeSecret {
	text := base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(secret)
	values := url.Values{"secret": {text}, "issuer": {house}, "algorithm": {"SHA1"}, "digits": {"6"}, "period": {"30"}} // what every app can do
	link := url.URL{Scheme: "otpauth", Host: "totp", Path: "/" + house + ":" + handle, RawQuery: strings.ReplaceAll(values.Encode(), "+", "%20")}
	return CodeSecret{text, link.String()}
}

// BeginCodes makes a secret for an app. It wants the password again, or a recent sign-in. Codes are asked for from when ConfirmCodes was answered; until then, calling it again makes another.
func (a *Accounts) BeginCodes(ctx context.Context, s Session, password, house string) (CodeSecret, error) {
	if err := a.confirm(ctx, s, password); err != nil {
		return CodeSecret{}, err
	}
	secret := make([]byte, 20) // as long as the hash of HMAC-SHA-1 (RFC 4226, section 4)
	rand.Read(secret)
	id, sealed, err := a.vault.seal(codePurpose(s.Person.ID), secret)
	if err != nil {
		return CodeSecret{}, err
	}
	tag, err := a.db.Exec(ctx, `
		INSERT INTO account.totp AS t (person_id, key_id, secret) VALUES ($1, $2, $3)
		ON CONFLICT (person_id) DO UPDATE SET key_id = excluded.key_id, secret = excluded.secret, made_at = now(), step = 0 WHERE t.confirmed_at IS NULL`, s.Person.ID, id, sealed)
	if err != nil {
		return CodeSecret{}, pg.Fault(err)
	}
	if tag.RowsAffected() == 0 {
		return CodeSecret{}, fault.New(fault.Conflict, "account.codes_on")
	}
	return codeSecret(house, s.Person.Handle, secret), nil
}

// PendingCodes is the secret that BeginCodes made a short while ago and nobody has confirmed; found is false where there is none.
func (a *Accounts) PendingCodes(ctx context.Context, me Person, house string) (secret CodeSecret, found bool, err error) {
	row, found, err := a.codes(ctx, a.db, me.ID, false)
	if err != nil || !found {
		return CodeSecret{}, false, err
	}
	return codeSecret(house, me.Handle, row), true, nil
}

// codes gives the secret of somebody's codes, those that are in force or those that are not yet.
func (a *Accounts) codes(ctx context.Context, q pg.Queryer, person int64, inForce bool) (secret []byte, found bool, err error) {
	row, found, err := pg.One[struct{ KeyID, Secret []byte }](ctx, q, `
		SELECT key_id, secret FROM account.totp
		WHERE person_id = $1 AND CASE WHEN $2 THEN confirmed_at IS NOT NULL ELSE confirmed_at IS NULL AND made_at > now() - $3::interval END`, person, inForce, setUpLife)
	if err != nil || !found {
		return nil, found, err
	}
	secret, err = a.vault.open(codePurpose(person), row.KeyID, row.Secret)
	return secret, true, err
}

// takeCode tells whether code is one of now, the half minute before or the one after, and takes it: no code is good twice (RFC 6238, section 5.2).
func (a *Accounts) takeCode(ctx context.Context, q pg.Queryer, person int64, secret []byte, code string) error {
	text := base32.StdEncoding.EncodeToString(secret)
	now := time.Now().Unix() / int64(codePeriod/time.Second)
	hit := int64(0)
	for step := now - 1; step <= now+1; step++ {
		right, err := hotp.GenerateCodeCustom(text, uint64(step), hotp.ValidateOpts{Digits: otp.DigitsSix, Algorithm: otp.AlgorithmSHA1}) //nolint:gosec // time is positive
		if err != nil {
			return err
		}
		if subtle.ConstantTimeCompare([]byte(right), []byte(code)) == 1 {
			hit = step
		}
	}
	if hit == 0 {
		return fault.New(fault.Unauthenticated, "account.wrong_code")
	}
	tag, err := q.Exec(ctx, `UPDATE account.totp SET step = $2 WHERE person_id = $1 AND step < $2`, person, hit)
	if err == nil && tag.RowsAffected() == 0 {
		return fault.New(fault.Unauthenticated, "account.code_used")
	}
	return pg.Fault(err)
}

// ConfirmCodes puts codes in force with the first that the app makes, and gives the recovery codes, which are never seen again.
func (a *Accounts) ConfirmCodes(ctx context.Context, s Session, code string) (recovery []string, err error) {
	key := fmt.Sprint("code person ", s.Person.ID)
	if err := a.take(ctx, a.may.password, key); err != nil {
		return nil, err
	}
	err = a.db.InTx(ctx, func(tx pgx.Tx) error {
		secret, found, err := a.codes(ctx, tx, s.Person.ID, false)
		if err != nil {
			return err
		}
		if !found {
			return fault.New(fault.Conflict, "account.codes_over")
		}
		if err := a.takeCode(ctx, tx, s.Person.ID, secret, digits(code)); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `UPDATE account.totp SET confirmed_at = now() WHERE person_id = $1`, s.Person.ID); err != nil {
			return err
		}
		recovery, err = newRecoveryCodes(ctx, tx, s.Person.ID)
		return err
	})
	if err != nil {
		return nil, err
	}
	return recovery, a.giveBack(ctx, a.may.password, key)
}

// NewRecoveryCodes makes new ones in place of those that are left. It wants the password again, or a recent sign-in.
func (a *Accounts) NewRecoveryCodes(ctx context.Context, s Session, password string) (recovery []string, err error) {
	if err := a.confirm(ctx, s, password); err != nil {
		return nil, err
	}
	err = a.db.InTx(ctx, func(tx pgx.Tx) error {
		var on bool
		if err := tx.QueryRow(ctx, `SELECT EXISTS (SELECT FROM account.totp WHERE person_id = $1 AND confirmed_at IS NOT NULL)`, s.Person.ID).Scan(&on); err != nil {
			return err
		}
		if !on {
			return fault.New(fault.Conflict, "account.codes_over")
		}
		recovery, err = newRecoveryCodes(ctx, tx, s.Person.ID)
		return err
	})
	return recovery, err
}

func newRecoveryCodes(ctx context.Context, tx pgx.Tx, person int64) (codes []string, err error) {
	if _, err := tx.Exec(ctx, `DELETE FROM account.recovery_code WHERE person_id = $1`, person); err != nil {
		return nil, err
	}
	for range recoveries {
		code := strings.ToLower(rand.Text())[:16] // 80 bits
		if _, err := tx.Exec(ctx, `INSERT INTO account.recovery_code (person_id, code_hash) VALUES ($1, $2)`, person, hashToken(code)); err != nil {
			return nil, err
		}
		codes = append(codes, code[:4]+"-"+code[4:8]+"-"+code[8:12]+"-"+code[12:])
	}
	return codes, nil
}

// RemoveCodes does without codes from now on. It wants the password again, or a recent sign-in.
func (a *Accounts) RemoveCodes(ctx context.Context, s Session, password string) error {
	if err := a.confirm(ctx, s, password); err != nil {
		return err
	}
	return a.db.InTx(ctx, func(tx pgx.Tx) error { return removeCodes(ctx, tx, s.Person.ID) })
}

func removeCodes(ctx context.Context, tx pgx.Tx, person int64) error {
	for _, sql := range []string{`DELETE FROM account.totp WHERE person_id = $1`, `DELETE FROM account.recovery_code WHERE person_id = $1`} {
		if _, err := tx.Exec(ctx, sql, person); err != nil {
			return err
		}
	}
	return nil
}

// removeFactors leaves somebody their password alone: whoever had got in may have added a passkey or an address of theirs, or connected a provider. Who has no password keeps the provider.
func removeFactors(ctx context.Context, tx pgx.Tx, person int64) error {
	if _, err := tx.Exec(ctx, `DELETE FROM account.passkey WHERE person_id = $1`, person); err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, `DELETE FROM account.mailbox WHERE person_id = $1`, person); err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, `DELETE FROM account.identity i USING account.person p WHERE i.person_id = $1 AND p.id = $1 AND p.password_hash <> $2`, person, nobody); err != nil {
		return err
	}
	return removeCodes(ctx, tx, person)
}

// digits is a code without the blanks that people and apps put into it.
func digits(code string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == ' ' || r == '-' || r == '\u00a0' || r == '\u3000':
			return -1
		case r >= '０' && r <= '９': // from an input method that is set to full width
			return r - '０' + '0'
		}
		return r
	}, strings.TrimSpace(code))
}

// SecondFactor completes a sign-in that SignIn left pending: with a code from the app, or with a recovery code, which is used up. It may be tried ten times; and each account's codes are
// tried slowly, however many sign-ins are begun, but from a browser that the person is known in.
func (a *Accounts) SecondFactor(ctx context.Context, pending, code string, client Client) (Entry, error) {
	waiting, found, err := pg.One[struct{ Person int64 }](ctx, a.db, `
		UPDATE account.ticket t SET tries = tries + 1 FROM account.person p
		WHERE t.token_hash = $1 AND t.kind = $2 AND t.ends_at > now() AND t.tries < $3 AND p.id = t.person_id AND p.disabled_at IS NULL RETURNING t.person_id`,
		hashToken(pending), ticketSecond, pendingMost)
	if err != nil {
		return Entry{}, err
	}
	if !found {
		return Entry{}, fault.New(fault.Unauthenticated, "account.entry_over")
	}
	known, err := a.device(ctx, client.Device, waiting.Person)
	if err != nil {
		return Entry{}, err
	}
	key := fmt.Sprint("code person ", waiting.Person)
	if known != 0 {
		key = fmt.Sprint("code device ", known)
	}
	if err := a.take(ctx, a.may.code, key); err != nil {
		return Entry{}, err
	}
	var entry Entry
	err = a.db.InTx(ctx, func(tx pgx.Tx) error {
		if err := a.takeFactor(ctx, tx, waiting.Person, code); err != nil {
			return err
		}
		if _, ok, err := takeTicket(ctx, tx, ticketSecond, pending); err != nil {
			return err
		} else if !ok {
			return fault.New(fault.Unauthenticated, "account.entry_over")
		}
		person, _, err := pg.One[Person](ctx, tx, `SELECT `+personColumns+` FROM account.person p WHERE p.id = $1`, waiting.Person)
		if err != nil {
			return err
		}
		session, err := a.openSession(ctx, tx, person.ID, client)
		entry = Entry{Person: person, Session: session}
		return err
	})
	if err != nil {
		return Entry{}, err
	}
	return entry, a.giveBack(ctx, a.may.code, key)
}

func (a *Accounts) takeFactor(ctx context.Context, tx pgx.Tx, person int64, code string) error {
	code = strings.ToLower(digits(code))
	if len(code) != 6 {
		tag, err := tx.Exec(ctx, `DELETE FROM account.recovery_code WHERE person_id = $1 AND code_hash = $2`, person, hashToken(code))
		if err == nil && tag.RowsAffected() == 0 {
			err = fault.New(fault.Unauthenticated, "account.wrong_code")
		}
		return err
	}
	secret, found, err := a.codes(ctx, tx, person, true)
	if err != nil {
		return err
	}
	if !found { // taken away since
		return fault.New(fault.Unauthenticated, "account.entry_over")
	}
	return a.takeCode(ctx, tx, person, secret, code)
}

// ResetFactors takes away codes and passkeys of somebody who has lost them, by who may govern them, and ends their sessions: they sign in with their password and set up anew. Nobody does
// it to themselves: that is RemoveCodes, which asks for the password.
func (a *Accounts) ResetFactors(ctx context.Context, me Person, id int64) (Person, error) {
	var target Person
	var ended []int64
	err := a.db.InTx(ctx, func(tx pgx.Tx) (err error) {
		if target, err = a.governed(ctx, tx, me, id); err != nil {
			return err
		}
		if target.ID == me.ID {
			return fault.New(fault.Forbidden, "account.own_factor")
		}
		if err := removeFactors(ctx, tx, id); err != nil {
			return err
		}
		if ended, err = forget(ctx, tx, id, 0); err != nil {
			return err
		}
		return notePerson(ctx, tx, me, FactorReset, target, nil, nil)
	})
	if err == nil {
		a.ended(ended, 0)
	}
	return target, err
}

// Demanded tells whether owners and admins need a second factor.
func (a *Accounts) Demanded(ctx context.Context) (on bool, err error) {
	err = a.db.QueryRow(ctx, `SELECT EXISTS (SELECT FROM account.rule WHERE second_factor)`).Scan(&on)
	return on, pg.Fault(err)
}

// Demand says whether they do; owners only, and only who has one themselves. Who owes one then is asked for it with the next page, and can do nothing else.
func (a *Accounts) Demand(ctx context.Context, me Person, on bool) error {
	if me.Role != Owner {
		return fault.New(fault.Forbidden, "account.owners_only")
	}
	if on {
		has, err := a.hasCodes(ctx, me.ID)
		if err == nil && !has {
			has, err = a.hasPasskey(ctx, me.ID)
		}
		if err != nil {
			return err
		}
		if !has {
			return fault.New(fault.Conflict, "account.demand_own")
		}
	}
	if err := a.db.InTx(ctx, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, `UPDATE account.rule SET second_factor = $1 WHERE second_factor <> $1`, on)
		if err != nil || tag.RowsAffected() == 0 {
			return err
		}
		return Note(ctx, tx, me, Deed{Action: DemandSet, Before: Facts{"second_factor": !on}, After: Facts{"second_factor": on}})
	}); err != nil {
		return err
	}
	owing, err := pg.All[struct{ ID int64 }](ctx, a.db, `
		SELECT s.id FROM account.session s JOIN account.person p ON p.id = s.person_id WHERE s.ends_at > now() AND p.disabled_at IS NULL AND `+sessionOwes+`
		UNION ALL
		SELECT -t.id FROM account.token t JOIN account.person p ON p.id = t.person_id WHERE p.disabled_at IS NULL AND `+tokenOwes)
	if len(owing) > 0 {
		sessions := make([]int64, len(owing))
		for i, one := range owing {
			sessions[i] = one.ID
		}
		a.ended(sessions, 0)
	}
	return err
}
