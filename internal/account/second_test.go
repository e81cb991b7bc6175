package account

import (
	"encoding/base32"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pquerna/otp/totp"
)

// app is somebody's phone.
type app struct {
	t      *testing.T
	secret string
}

// code is what it shows some half minutes from now.
func (p app) code(later int) string {
	p.t.Helper()
	code, err := totp.GenerateCode(p.secret, time.Now().Add(time.Duration(later)*codePeriod))
	if err != nil {
		p.t.Fatal(err)
	}
	return code
}

// fresh lets the app's codes be good again, as the next half minute does.
func (h *house) fresh() {
	h.t.Helper()
	if _, err := h.db.Exec(h.t.Context(), `UPDATE account.totp SET step = 0`); err != nil {
		h.t.Fatal(err)
	}
	if _, err := h.db.Exec(h.t.Context(), `DELETE FROM account.try`); err != nil {
		h.t.Fatal(err)
	}
	h.refused = &refusals{}
}

func (h *house) in(token string) Session {
	h.t.Helper()
	s, err := h.Session(h.t.Context(), token)
	if err != nil {
		h.t.Fatal(err)
	}
	return s
}

// enrol sets up codes for a person, as the page does.
func (h *house) enrol(s Session) (app, []string) {
	h.t.Helper()
	secret, err := h.BeginCodes(h.t.Context(), s, good, "Howdah here")
	if err != nil {
		h.t.Fatal(err)
	}
	phone := app{h.t, secret.Text}
	recovery, err := h.ConfirmCodes(h.t.Context(), s, phone.code(0))
	if err != nil {
		h.t.Fatal(err)
	}
	h.fresh()
	return phone, recovery
}

func TestASecondFactor(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	file := filepath.Join(t.TempDir(), "sign-in.key")
	h.KeepSecrets(NewVault(file))
	bob, token := h.join("bob", Member)
	s := h.in(token)

	// Setting it up wants the password, or a sign-in of now.
	if _, err := h.db.Exec(t.Context(), `UPDATE account.session SET created_at = now() - interval '1 hour'`); err != nil {
		t.Fatal(err)
	}
	old := h.in(token)
	_, err := h.BeginCodes(t.Context(), old, "", "Howdah here")
	want(t, err, "account.confirm")
	_, err = h.BeginCodes(t.Context(), old, "not the password", "Howdah here")
	want(t, err, "account.wrong_old_password")
	first, err := h.BeginCodes(t.Context(), s, "", "Howdah here")
	if err != nil {
		t.Fatal(err)
	}
	secret, err := h.BeginCodes(t.Context(), old, good, "Howdah here")
	if err != nil || secret.Text == first.Text {
		t.Fatal(secret, err)
	}
	if link, err := url.Parse(secret.URL); err != nil || link.Scheme != "otpauth" || link.Host != "totp" || link.Path != "/Howdah here:bob" || link.Query().Get("secret") != secret.Text || link.Query().Get("issuer") != "Howdah here" {
		t.Error(secret.URL, err)
	}
	if raw, err := base32.StdEncoding.DecodeString(secret.Text); err != nil || len(raw) != 20 {
		t.Error(secret.Text, err)
	}
	if pending, found, err := h.PendingCodes(t.Context(), bob, "Howdah here"); !found || err != nil || pending.Text != secret.Text {
		t.Error(pending, found, err)
	}

	// Until the first code is confirmed nobody is asked for one.
	if entry, err := h.SignIn(t.Context(), "bob", good, Client{}); err != nil || entry.Session == "" {
		t.Fatal(entry, err)
	}
	phone := app{t, secret.Text}
	_, err = h.ConfirmCodes(t.Context(), s, "000000")
	want(t, err, "account.wrong_code")
	code := phone.code(0)
	recovery, err := h.ConfirmCodes(t.Context(), s, code[:3]+" "+code[3:])
	if err != nil || len(recovery) != recoveries {
		t.Fatal(recovery, err)
	}
	_, err = h.BeginCodes(t.Context(), s, good, "Howdah here")
	want(t, err, "account.codes_on")

	// From now on a password alone opens nothing.
	begin := func(client Client) string {
		t.Helper()
		entry, err := h.SignIn(t.Context(), "bob", good, client)
		if err != nil || entry.Session != "" || entry.Pending == "" {
			t.Fatal(entry, err)
		}
		_, err = h.Session(t.Context(), entry.Pending)
		want(t, err, "account.sign_in")
		return entry.Pending
	}
	second := func(pending, code string, client Client) error {
		entry, err := h.SecondFactor(t.Context(), pending, code, client)
		if err == nil && (entry.Person.ID != bob.ID || h.in(entry.Session).Person.ID != bob.ID) {
			t.Error(entry)
		}
		return err
	}
	pending := begin(Client{})
	want(t, second(pending, code, Client{}), "account.code_used") // the one that turned it on
	h.fresh()
	want(t, second(pending, phone.code(-3), Client{}), "account.wrong_code")
	want(t, second(pending, phone.code(3), Client{}), "account.wrong_code")
	if err := second(pending, phone.code(1), Client{}); err != nil { // a clock that is half a minute ahead
		t.Fatal(err)
	}
	want(t, second(pending, phone.code(1), Client{}), "account.entry_over")
	pending = begin(Client{})
	want(t, second(pending, phone.code(0), Client{}), "account.code_used") // older than what was taken
	if err := second(pending, strings.ToUpper(recovery[3]), Client{}); err != nil {
		t.Fatal(err)
	}
	pending = begin(Client{})
	h.fresh()
	want(t, second(pending, recovery[3], Client{}), "account.wrong_code")
	if f, err := h.Factors(t.Context(), bob.ID); err != nil || f.Recovery != recoveries-1 || !f.Any() {
		t.Error(f, err)
	}
	renewed, err := h.NewRecoveryCodes(t.Context(), old, good)
	if err != nil {
		t.Fatal(err)
	}
	want(t, second(pending, recovery[4], Client{}), "account.wrong_code")
	if err := second(pending, renewed[0], Client{}); err != nil {
		t.Fatal(err)
	}

	// What the database holds makes no codes.
	raw, err := base32.StdEncoding.DecodeString(secret.Text)
	if err != nil {
		t.Fatal(err)
	}
	var bare bool
	if err := h.db.QueryRow(t.Context(), `SELECT position($1::bytea IN secret) > 0 FROM account.totp`, raw).Scan(&bare); err != nil || bare {
		t.Error("the secret is stored as it is", err)
	}
	if st, err := os.Stat(file); err != nil || st.Mode().Perm()&0o077 != 0 {
		t.Error(st, err)
	}
	// Without the key, or with another, a code is refused in words; recovery codes work.
	for name, key := range map[string]string{"account.key_away": filepath.Join(t.TempDir(), "none"), "account.key_other": filepath.Join(t.TempDir(), "other")} {
		h.fresh()
		if name == "account.key_other" {
			if err := makeKey(key); err != nil {
				t.Fatal(err)
			}
		}
		h.KeepSecrets(NewVault(key))
		pending = begin(Client{})
		want(t, second(pending, phone.code(0), Client{}), name)
		if err := second(pending, renewed[len(name)-len("account.key_")], Client{}); err != nil {
			t.Fatal(err)
		}
	}
	h.KeepSecrets(NewVault(file))

	// A house that was moved comes in by the command at the machine.
	_, made, left, err := h.NewPassword(t.Context(), "bob", false)
	if err != nil || !left {
		t.Fatal(left, err)
	}
	if entry, err := h.SignIn(t.Context(), "bob", made, Client{}); err != nil || entry.Pending == "" {
		t.Error(entry, err)
	}
	_, made, left, err = h.NewPassword(t.Context(), "bob", true)
	if err != nil || left {
		t.Fatal(left, err)
	}
	if entry, err := h.SignIn(t.Context(), "bob", made, Client{}); err != nil || entry.Session == "" {
		t.Error(entry, err)
	}
}

func TestCodesAreGuessedSlowlyAndNobodyIsLockedOutOfWhereTheyAlwaysAre(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.KeepSecrets(NewVault(filepath.Join(t.TempDir(), "sign-in.key")))
	bob, token := h.join("bob", Member)
	home := Client{Address: "192.0.2.1"}
	var err error
	if home.Device, err = h.Remember(t.Context(), bob.ID, home); err != nil || home.Device == "" {
		t.Fatal(err)
	}
	if again, err := h.Remember(t.Context(), bob.ID, home); err != nil || again != "" {
		t.Error(again, err)
	}
	if shared, err := h.Remember(t.Context(), h.owner.ID, home); err != nil || shared != "" {
		t.Error("a browser of two people is known for one of them", shared, err)
	}
	phone, _ := h.enrol(h.in(token))
	h.patient()

	// Somebody who knows the password tries codes, with a new sign-in for each.
	var refused error
	for i := range usual.code.atOnce + 1 {
		entry, err := h.SignIn(t.Context(), "bob", good, Client{Address: fmt.Sprint("10.0.1.", i)})
		if err != nil {
			t.Fatal(err)
		}
		_, refused = h.SecondFactor(t.Context(), entry.Pending, "123456", Client{Address: fmt.Sprint("10.0.1.", i)})
	}
	want(t, refused, "account.too_often")
	// And somebody who does not, passwords.
	for i := range usual.password.atOnce + 1 {
		_, refused = h.SignIn(t.Context(), "bob", "wrong", Client{Address: fmt.Sprint("10.0.2.", i)})
	}
	want(t, refused, "account.too_often")
	// A restart and another node know it too.
	other := Open(h.db, nil)
	other.may = h.may
	_, err = other.SignIn(t.Context(), "bob", good, Client{Address: "10.0.3.1"})
	want(t, err, "account.too_often")
	// A device of somebody else's helps nothing.
	carl, _ := h.join("carl", Member)
	foreign, err := h.Remember(t.Context(), carl.ID, Client{Device: "invented"})
	if err != nil || foreign == "" {
		t.Fatal(foreign, err)
	}
	_, err = h.SignIn(t.Context(), "bob", good, Client{Address: "10.0.3.1", Device: foreign})
	want(t, err, "account.too_often")
	// But bob is at home, also after his address was used to guess.
	for range usual.password.atOnce {
		_, _ = h.SignIn(t.Context(), "nobody", "wrong", Client{Address: home.Address})
	}
	entry, err := h.SignIn(t.Context(), "bob", good, home)
	if err != nil {
		t.Fatal(err)
	}
	if entry, err = h.SecondFactor(t.Context(), entry.Pending, phone.code(0), home); err != nil || entry.Session == "" {
		t.Fatal(err)
	}
	// A sign-in may be tried ten times, however slowly.
	if entry, err = h.SignIn(t.Context(), "bob", good, home); err != nil {
		t.Fatal(err)
	}
	for range pendingMost {
		h.fresh()
		_, err = h.SecondFactor(t.Context(), entry.Pending, "12345", home)
		want(t, err, "account.wrong_code")
	}
	_, err = h.SecondFactor(t.Context(), entry.Pending, phone.code(0), home)
	want(t, err, "account.entry_over")
	// What has been tried is forgotten when it means nothing any more.
	if _, err := h.db.Exec(t.Context(), `INSERT INTO account.try SELECT 'old ' || n, now() - interval '1 second' FROM generate_series(1, 1000) n`); err != nil {
		t.Fatal(err)
	}
	if err := Open(h.db, nil).take(t.Context(), usual.password, "password new"); err != nil {
		t.Fatal(err)
	}
	var rows int
	if err := h.db.QueryRow(t.Context(), `SELECT count(*) FROM account.try WHERE key LIKE 'old %'`).Scan(&rows); err != nil || rows > 0 {
		t.Errorf("%d rows are left, %v", rows, err)
	}
}

func TestAnOwnerDemandsSecondFactors(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.KeepSecrets(NewVault(filepath.Join(t.TempDir(), "sign-in.key")))
	admin, adminToken := h.join("adm", Admin)
	member, memberToken := h.join("mem", Member)
	bearer, _, err := h.NewToken(t.Context(), admin.ID, "program")
	if err != nil {
		t.Fatal(err)
	}
	want(t, h.Demand(t.Context(), admin, true), "account.owners_only")
	want(t, h.Demand(t.Context(), h.owner, true), "account.demand_own")
	entry, err := h.SignIn(t.Context(), "owner", good, Client{})
	if err != nil {
		t.Fatal(err)
	}
	h.enrol(h.in(entry.Session))
	if err := h.Demand(t.Context(), h.owner, true); err != nil {
		t.Fatal(err)
	}
	if on, err := h.Demanded(t.Context()); !on || err != nil {
		t.Error(on, err)
	}
	if len(h.ended) == 0 || h.ended[len(h.ended)-1] != "2 of 0" {
		t.Error("the admin's page and program were not hung up", h.ended)
	}
	program, err := h.Bearer(t.Context(), bearer)
	if err != nil || !program.Owes {
		t.Error(program, err)
	}
	s := h.in(adminToken)
	if !s.Owes || h.in(entry.Session).Owes || h.in(memberToken).Owes {
		t.Error("who owes a second factor?")
	}
	if gone, err := h.Gone(t.Context(), s.ID, program.ID, h.in(memberToken).ID); err != nil || len(gone) != 2 {
		t.Error(gone, err)
	}
	// A passkey meets it: the session that it opens, and what programs do, but not one that the password alone has opened, from which nothing can be changed either.
	withPasskey := func(key, session int64) {
		t.Helper()
		if _, err := h.db.Exec(t.Context(), `UPDATE account.session SET passkey_id = $1 WHERE id = $2`, key, session); err != nil {
			t.Fatal(err)
		}
	}
	var key int64
	if err := h.db.QueryRow(t.Context(), `INSERT INTO account.passkey (person_id, credential_id, user_handle, credential, name) VALUES ($1, 'c', 'h', '{}', 'key') RETURNING id`, admin.ID).Scan(&key); err != nil {
		t.Fatal(err)
	}
	if !h.in(adminToken).Owes {
		t.Error("the password alone meets the demand")
	}
	_, err = h.BeginCodes(t.Context(), s, good, "Howdah")
	want(t, err, "account.use_passkey")
	want(t, h.RemovePasskey(t.Context(), s, good, key), "account.use_passkey")
	if program, err = h.Bearer(t.Context(), bearer); err != nil || program.Owes {
		t.Error(program, err)
	}
	withPasskey(key, s.ID)
	if h.in(adminToken).Owes {
		t.Error("a passkey does not meet the demand")
	}
	if gone, err := h.Gone(t.Context(), s.ID, program.ID); err != nil || len(gone) != 0 {
		t.Error(gone, err)
	}
	if _, err := h.db.Exec(t.Context(), `UPDATE account.passkey SET cloned_at = now()`); err != nil {
		t.Fatal(err)
	}
	if program, err = h.Bearer(t.Context(), bearer); err != nil || !program.Owes || !h.in(adminToken).Owes {
		t.Error("a passkey that was copied meets the demand", err)
	}
	if _, err := h.db.Exec(t.Context(), `DELETE FROM account.passkey`); err != nil {
		t.Fatal(err)
	}
	if s = h.in(adminToken); !s.Owes {
		t.Error("a passkey that is gone meets the demand")
	}
	phone, _ := h.enrol(s)
	if h.in(adminToken).Owes {
		t.Error("it is set up, and still owed")
	}

	// Lost: who ranks higher takes it away, nobody else, and nobody their own without the password.
	_, err = h.ResetFactors(t.Context(), admin, h.owner.ID)
	want(t, err, "account.outranked")
	_, err = h.ResetFactors(t.Context(), admin, admin.ID)
	want(t, err, "account.own_factor")
	_, err = h.ResetFactors(t.Context(), member, admin.ID)
	want(t, err, "account.admins_only")
	if entry, err = h.SignIn(t.Context(), "adm", good, Client{}); err != nil || entry.Pending == "" {
		t.Fatal(entry, err)
	}
	if _, err := h.ResetFactors(t.Context(), h.owner, admin.ID); err != nil {
		t.Fatal(err)
	}
	_, err = h.SecondFactor(t.Context(), entry.Pending, phone.code(0), Client{})
	want(t, err, "account.entry_over")
	_, err = h.Session(t.Context(), adminToken)
	want(t, err, "account.sign_in")
	if entry, err = h.SignIn(t.Context(), "adm", good, Client{}); err != nil || !h.in(entry.Session).Owes {
		t.Error(entry, err)
	}
}

func TestALinkForANewPassword(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.KeepSecrets(NewVault(filepath.Join(t.TempDir(), "sign-in.key")))
	admin, _ := h.join("adm", Admin)
	bob, session := h.join("bob", Member)
	_, _, err := h.RecoveryLink(t.Context(), bob, admin.ID)
	want(t, err, "account.admins_only")
	_, _, err = h.RecoveryLink(t.Context(), admin, h.owner.ID)
	want(t, err, "account.outranked")
	_, _, err = h.RecoveryLink(t.Context(), admin, admin.ID)
	want(t, err, "account.no_recovery")
	link := func() string {
		t.Helper()
		token, who, err := h.RecoveryLink(t.Context(), admin, bob.ID)
		if err != nil || who.ID != bob.ID {
			t.Fatal(who, err)
		}
		return token
	}
	replaced, token := link(), link()
	_, err = h.CheckRecovery(t.Context(), replaced)
	want(t, err, "account.recovery_link")
	_, err = h.Recover(t.Context(), token, "password123", Client{})
	want(t, err, "account.password_common") // and costs the link nothing
	entry, err := h.Recover(t.Context(), token, "another quiet sentence", Client{})
	if err != nil || h.in(entry.Session).Person.ID != bob.ID {
		t.Fatal(entry, err)
	}
	_, err = h.Recover(t.Context(), token, "another quiet sentence", Client{})
	want(t, err, "account.recovery_link")
	_, err = h.Session(t.Context(), session)
	want(t, err, "account.sign_in")
	_, err = h.SignIn(t.Context(), "bob", good, Client{})
	want(t, err, "account.wrong_password")

	// A second factor stays, and is asked for behind the link.
	s := h.in(entry.Session)
	secret, err := h.BeginCodes(t.Context(), s, "", "Howdah here")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.ConfirmCodes(t.Context(), s, app{t, secret.Text}.code(0)); err != nil {
		t.Fatal(err)
	}
	if entry, err = h.Recover(t.Context(), link(), good, Client{}); err != nil || entry.Session != "" || entry.Pending == "" {
		t.Error(entry, err)
	}

	// Who has risen since is not to be had by a link of before, nor is anybody by who made it and has fallen.
	token = link()
	if err := h.SetRole(t.Context(), h.owner, bob.ID, Admin); err != nil {
		t.Fatal(err)
	}
	_, err = h.CheckRecovery(t.Context(), token)
	want(t, err, "account.recovery_link")
	if err := h.SetRole(t.Context(), h.owner, bob.ID, Member); err != nil {
		t.Fatal(err)
	}
	token = link()
	if err := h.SetRole(t.Context(), h.owner, admin.ID, Member); err != nil {
		t.Fatal(err)
	}
	_, err = h.CheckRecovery(t.Context(), token)
	want(t, err, "account.recovery_link")
	if err := h.SetRole(t.Context(), h.owner, admin.ID, Admin); err != nil {
		t.Fatal(err)
	}

	// Whose account is closed has no way back by a link of before.
	token = link()
	if err := h.Disable(t.Context(), admin, bob.ID, true); err != nil {
		t.Fatal(err)
	}
	_, err = h.Recover(t.Context(), token, good, Client{})
	want(t, err, "account.recovery_link")
}
