package account

import (
	"context"
	"net/url"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"howdah/internal/openid"
	"howdah/internal/openid/openidtest"
)

const redirect = "https://house.example/sign-in/with/office/back"

// trust lets people into the house with a provider that the test runs.
func (h *house) trust(p Provider) *openidtest.Provider {
	h.t.Helper()
	there := openidtest.New(h.t)
	there.Allow(redirect)
	var err error
	p.Provider, err = openid.New(openid.Config{Name: "office", Label: "Office", Issuer: there.URL, ClientID: openidtest.ClientID, Secret: openidtest.Secret, Groups: "groups"})
	if err != nil {
		h.t.Fatal(err)
	}
	h.AllowProviders([]Provider{p})
	return there
}

// back finishes a way to the provider.
func (h *house) back(answer url.Values, browser string, s Session) (Arrival, error) {
	return h.FinishProvider(h.t.Context(), "office", answer, browser, s, Client{}, func(context.Context, pgx.Tx, Person) error { return nil })
}

// by signs somebody in with the provider.
func (h *house) by(there *openidtest.Provider, username string) (Arrival, error) {
	h.t.Helper()
	address, browser, err := h.BeginProvider(h.t.Context(), "office", redirect, "/room/1", Client{Address: "192.0.2.7"})
	if err != nil {
		h.t.Fatal(err)
	}
	return h.back(there.SignIn(h.t, address, username), browser, Session{})
}

func TestPeopleComeInWithAProvider(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	there := h.trust(Provider{})
	there.Set(openidtest.User{ID: "1", Username: "bob", Name: "Bob There", Email: "bob@example.org", Verified: true})
	there.Set(openidtest.User{ID: "2", Username: "mallory", Name: "Mallory", Email: "bob@example.org", Verified: true})
	bob, token := h.join("bob", Member)

	// Nobody is taken for somebody by a name or an address.
	_, err := h.by(there, "bob")
	want(t, err, "account.provider_unknown")

	// An answer belongs to the browser that went for it, and to the person who did.
	address, browser, err := h.BeginConnect(t.Context(), h.in(token), "", "office", redirect)
	if err != nil {
		t.Fatal(err)
	}
	answer := there.SignIn(t, address, "bob")
	_, err = h.back(answer, "another browser", h.in(token))
	want(t, err, "account.provider_browser")
	_, err = h.back(answer, browser, h.in(token))
	want(t, err, "account.provider_over") // it was used up
	address, browser, err = h.BeginConnect(t.Context(), h.in(token), good, "office", redirect)
	if err != nil {
		t.Fatal(err)
	}
	_, eve := h.join("eve", Member)
	_, err = h.back(there.SignIn(t, address, "bob"), browser, h.in(eve))
	want(t, err, "account.provider_browser")
	_, _, err = h.BeginConnect(t.Context(), h.in(token), "not the password", "office", redirect)
	want(t, err, "account.wrong_old_password")

	connect := func(token, username string) error {
		t.Helper()
		address, browser, err := h.BeginConnect(t.Context(), h.in(token), good, "office", redirect)
		if err != nil {
			t.Fatal(err)
		}
		back, err := h.back(there.SignIn(t, address, username), browser, h.in(token))
		if !back.Link || back.Session != "" {
			t.Errorf("%+v", back)
		}
		return err
	}
	if err := connect(token, "bob"); err != nil {
		t.Fatal(err)
	}
	if err := connect(token, "bob"); err != nil { // again is harmless
		t.Fatal(err)
	}
	want(t, connect(eve, "bob"), "account.provider_taken")
	back, err := h.by(there, "bob")
	if err != nil || back.Person.ID != bob.ID || back.Next != "/room/1" || h.in(back.Session).Person.ID != bob.ID {
		t.Fatal(back, err)
	}
	_, err = h.by(there, "mallory")
	want(t, err, "account.provider_unknown")

	// The house's own second factor is asked for.
	h.KeepSecrets(NewVault(filepath.Join(t.TempDir(), "sign-in.key")))
	phone, _ := h.enrol(h.in(token))
	if back, err = h.by(there, "bob"); err != nil || back.Session != "" || back.Pending == "" {
		t.Fatal(back, err)
	}
	if entry, err := h.SecondFactor(t.Context(), back.Pending, phone.code(0), Client{}); err != nil || entry.Session == "" {
		t.Error(entry, err)
	}
	if err := h.RemoveCodes(t.Context(), h.in(token), good); err != nil {
		t.Fatal(err)
	}

	// Who has closed their account does not come in this way either.
	if err := h.Disable(t.Context(), h.owner, bob.ID, true); err != nil {
		t.Fatal(err)
	}
	_, err = h.by(there, "bob")
	want(t, err, "account.provider_closed")
	if err := h.Disable(t.Context(), h.owner, bob.ID, false); err != nil {
		t.Fatal(err)
	}

	// By a link of an admin's, once.
	link, _, err := h.RecoveryLink(t.Context(), h.owner, bob.ID)
	if err != nil {
		t.Fatal(err)
	}
	there.Set(openidtest.User{ID: "3", Username: "bobby", Name: "Bob again"})
	elsewhere, err := h.SignIn(t.Context(), "bob", good, Client{})
	if err != nil {
		t.Fatal(err)
	}
	asked, err := h.MailTicket(t.Context(), bob.ID, "bob@example.org")
	if err != nil {
		t.Fatal(err)
	}
	address, browser, err = h.BeginRecoverWith(t.Context(), link, "office", redirect)
	if err != nil {
		t.Fatal(err)
	}
	if back, err = h.back(there.SignIn(t, address, "bobby"), browser, Session{}); err != nil || h.in(back.Session).Person.ID != bob.ID {
		t.Fatal(back, err)
	}
	_, _, err = h.BeginRecoverWith(t.Context(), link, "office", redirect)
	want(t, err, "account.recovery_link")
	// It ends what is signed in elsewhere, and other links.
	if _, err := h.Session(t.Context(), elsewhere.Session); err == nil {
		t.Error("whoever was in there still is")
	}
	if len(h.ended) == 0 || h.ended[len(h.ended)-1] != "1 of 0" {
		t.Error("the page elsewhere was not hung up", h.ended)
	}
	_, _, err = h.CheckMailTicket(t.Context(), bob, asked)
	want(t, err, "account.mail_link")
	have, others, keyless, err := h.Connections(t.Context(), bob.ID)
	if err != nil || len(have) != 2 || have[1].Name != "bobby" || have[0].Provider != "Office" || len(others) != 0 || keyless {
		t.Error(have, others, keyless, err)
	}
	if err := h.Disconnect(t.Context(), h.in(back.Session), "", have[0].ID); err != nil {
		t.Fatal(err)
	}
	_, err = h.by(there, "bob")
	want(t, err, "account.provider_unknown")
	// What whoever had got in may have connected goes with a reset.
	if _, err := h.ResetFactors(t.Context(), h.owner, bob.ID); err != nil {
		t.Fatal(err)
	}
	_, err = h.by(there, "bobby")
	want(t, err, "account.provider_unknown")
}

func TestAProvidersGroupsDecideWhoIsWhat(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	there := h.trust(Provider{New: true, Roles: map[string]Role{"chiefs": Admin, "staff": Member}, Domains: []string{"example.org"}})
	is := func(u openidtest.User) openidtest.User {
		u.Email, u.Verified = u.Username+"@example.org", true
		there.Set(u)
		return u
	}
	come := func(username string, role Role, isNew bool) Arrival {
		t.Helper()
		back, err := h.by(there, username)
		if err != nil || back.Person.Role != role || back.New != isNew {
			t.Fatalf("%+v %v", back, err)
		}
		if s := h.in(back.Session); s.Person.Role != role {
			t.Errorf("%+v", s)
		}
		return back
	}
	u := is(openidtest.User{ID: "1", Username: "Owner", Name: "An Owner elsewhere", Groups: []string{"staff", "unheard of"}})
	first := come("Owner", Member, true)
	if first.Person.Handle != "owner2" || first.Person.Name != "An Owner elsewhere" {
		t.Errorf("%+v", first.Person)
	}
	if again := come("Owner", Member, false); again.Person.ID != first.Person.ID {
		t.Error("a second account")
	}
	u.Groups = []string{"staff", "chiefs"}
	is(u)
	if up := come("Owner", Admin, false); up.Was != Member {
		t.Error(up.Was)
	}
	if all, _, err := h.Trail(t.Context(), h.owner, TrailAsk{Action: string(PersonRole), By: first.Person.ID}); err != nil || len(all) != 1 || all[0].Actor != "owner2" {
		t.Errorf("%+v %v", all, err)
	}
	if _, _, err := h.NewInvite(t.Context(), Person{ID: first.Person.ID, Role: Admin}, Member, nil); err != nil {
		t.Fatal(err)
	}
	u.Groups = []string{"staff"}
	is(u)
	come("Owner", Member, false)
	if open, err := h.Invites(t.Context(), h.owner); err != nil || len(open) != 0 {
		t.Error("invitations of an admin who is none any more", open, err)
	}
	u.Groups = nil
	is(u)
	_, err := h.by(there, "Owner")
	want(t, err, "account.provider_group")

	// It is their only way in.
	have, _, keyless, err := h.Connections(t.Context(), first.Person.ID)
	if err != nil || !keyless {
		t.Fatal(have, err)
	}
	want(t, h.Disconnect(t.Context(), h.in(first.Session), "", have[0].ID), "account.provider_last")

	// Who is in no group at the provider, has another address, or one that nobody has verified.
	is(openidtest.User{ID: "2", Username: "carol", Name: "Carol"})
	_, err = h.by(there, "carol")
	want(t, err, "account.provider_group")
	there.Set(openidtest.User{ID: "2", Username: "carol", Email: "carol@example.org", Groups: []string{"staff"}})
	_, err = h.by(there, "carol")
	want(t, err, "account.provider_unverified")
	there.Set(openidtest.User{ID: "2", Username: "carol", Email: "carol@example.org.evil.example", Verified: true, Groups: []string{"staff"}})
	_, err = h.by(there, "carol")
	want(t, err, "account.provider_domain")
	// Who lives here already, and has shown the address to be theirs, is not made a second time.
	if _, err := h.db.Exec(t.Context(), `INSERT INTO account.mailbox (person_id, address) VALUES ($1, 'Dora@example.org')`, h.owner.ID); err != nil {
		t.Fatal(err)
	}
	is(openidtest.User{ID: "5", Username: "dora", Groups: []string{"staff"}})
	_, err = h.by(there, "dora")
	want(t, err, "account.provider_lives")
	// Names that are none.
	is(openidtest.User{ID: "3", Username: "here", Name: "\u202e", Groups: []string{"staff"}})
	if odd := come("here", Member, true); odd.Person.Handle != "member" || odd.Person.Name != "member" {
		t.Errorf("%+v", odd.Person)
	}

	// An owner stays one, and gets in, whatever the groups say.
	mine, err := h.SignIn(t.Context(), "owner", good, Client{})
	if err != nil {
		t.Fatal(err)
	}
	boss := is(openidtest.User{ID: "4", Username: "boss", Groups: []string{"staff"}})
	address, browser, err := h.BeginConnect(t.Context(), h.in(mine.Session), "", "office", redirect)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.back(there.SignIn(t, address, "boss"), browser, h.in(mine.Session)); err != nil {
		t.Fatal(err)
	}
	come("boss", Owner, false)
	boss.Groups = nil
	is(boss)
	come("boss", Owner, false)
}

func TestNobodyComesByAProviderBeforeThereIsAnOwner(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	there := h.trust(Provider{New: true})
	there.Set(openidtest.User{ID: "1", Username: "early"})
	if _, err := h.db.Exec(t.Context(), `DELETE FROM account.person`); err != nil {
		t.Fatal(err)
	}
	_, err := h.by(there, "early")
	want(t, err, "account.provider_early")
	if done, err := h.IsSetUp(t.Context()); done || err != nil {
		t.Error("set up by a provider", err)
	}
}

// FuzzLikeHandle: whatever a provider calls somebody, the handle made of it is one, or there is none.
func FuzzLikeHandle(f *testing.F) {
	for _, words := range []string{"ada", "Ada Lovelace", "林小薇", "a@b", "...", "here", "\u202e", "ﬁfi", "É-è"} {
		f.Add(words)
	}
	f.Fuzz(func(t *testing.T, words string) {
		handle := likeHandle(words)
		if handle == "" {
			return
		}
		if again, err := Handle(handle); err != nil || again != handle || CallsAll(handle) != "" {
			t.Errorf("%q: %q %v", words, handle, err)
		}
		if more, err := Handle(handle + "9999"); err != nil || more != handle+"9999" {
			t.Errorf("%q: no room for a number behind %q: %v", words, handle, err)
		}
	})
}

// FuzzMailAddress: what is taken for an address can stand in a letter's head, and is its own form.
func FuzzMailAddress(f *testing.F) {
	for _, raw := range []string{"ada@example.org", "Ada <ada@example.org>", "a@b\r\nBcc: c@d.e", `"a b"@example.org`, "ä@例え.jp", "a@[127.0.0.1]", "a@localhost"} {
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		address, err := MailAddress(raw)
		if err != nil {
			return
		}
		if again, err := MailAddress(address); err != nil || again != address || strings.ContainsAny(address, " \r\n<>\"\x00") || strings.Count(address, "@") < 1 {
			t.Errorf("%q: %q %q %v", raw, address, again, err)
		}
	})
}
