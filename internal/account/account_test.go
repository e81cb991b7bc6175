package account

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/jackc/pgx/v5"

	"howdah/internal/fault"
	"howdah/internal/pg"
	"howdah/internal/pg/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

const good = "correct horse battery"

type house struct {
	*Accounts
	t     *testing.T
	owner Person
	ended []string
}

func newHouse(t *testing.T) *house {
	t.Helper()
	h := &house{t: t}
	h.Accounts = Open(pgtest.New(t).App, func(sessions []int64, person int64) {
		h.ended = append(h.ended, fmt.Sprint(len(sessions), " of ", person))
	})
	token, err := h.SetupToken(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	_, h.owner, err = h.SetUp(t.Context(), token, NewPerson{Handle: "Owner", Name: "The  Owner", Password: good}, Client{}, func(context.Context, pgx.Tx, Person) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func (h *house) join(handle string, role Role) (Person, string) {
	h.t.Helper()
	room := int64(1)
	token, _, err := h.NewInvite(h.t.Context(), h.owner, role, &room)
	if err != nil {
		h.t.Fatal(err)
	}
	session, p, err := h.Accept(h.t.Context(), token, NewPerson{Handle: handle, Name: handle, Password: good}, Client{},
		func(context.Context, pgx.Tx, Person, Invite) error { return nil })
	if err != nil {
		h.t.Fatal(err)
	}
	return p, session
}

func want(t *testing.T, err error, key string) {
	t.Helper()
	if !fault.HasKey(err, key) {
		t.Errorf("want fault %s, have %v", key, err)
	}
}

func TestTheFirstAccountIsTheOwnerAndThereIsOneFirst(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	if h.owner.Role != Owner || h.owner.Handle != "owner" || h.owner.Name != "The Owner" {
		t.Errorf("%+v", h.owner)
	}
	if token, err := h.SetupToken(t.Context()); token != "" || err != nil {
		t.Errorf("a set-up link for a house that has an owner: %q %v", token, err)
	}
	_, _, err := h.SetUp(t.Context(), "x", NewPerson{Handle: "eve", Name: "Eve", Password: good}, Client{}, nil)
	want(t, err, "account.setup_link")
}

func TestAFailedSettlingLeavesTheLinkUsable(t *testing.T) {
	t.Parallel()
	a := Open(pgtest.New(t).App, nil)
	token, err := a.SetupToken(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	n := NewPerson{Handle: "ann", Name: "Ann", Password: good}
	if _, _, err = a.SetUp(t.Context(), token, n, Client{}, func(context.Context, pgx.Tx, Person) error { return fmt.Errorf("no") }); err == nil {
		t.Fatal("settling failed unheard")
	}
	if _, _, err = a.SetUp(t.Context(), token, n, Client{}, func(context.Context, pgx.Tx, Person) error { return nil }); err != nil {
		t.Error(err)
	}
}

func TestSessions(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	bob, first := h.join("bob", Member)
	entry, err := h.SignIn(t.Context(), " @BOB ", good, Client{Address: "10.1.2.3", Agent: "Mozilla\xff\x00"})
	if err != nil {
		t.Fatal(err)
	}
	second := entry.Session
	s, err := h.Session(t.Context(), second)
	if err != nil || s.Person.ID != bob.ID {
		t.Fatal(s, err)
	}
	if list, err := h.Sessions(t.Context(), bob.ID); err != nil || len(list) != 2 || list[0].Address != "10.1.2.3" {
		t.Error(list, err)
	}
	// A use that cannot be noted - the disk is full, say - keeps nobody from reading.
	if _, err := h.db.Exec(t.Context(), `UPDATE account.session SET seen_at = now() - interval '1 hour'`); err != nil {
		t.Fatal(err)
	}
	full := *h.Accounts
	if full.db, err = pg.Open(t.Context(), h.db.Config().ConnString(), pg.Options{MaxConns: 1}); err != nil {
		t.Fatal(err)
	}
	defer full.db.Close()
	if _, err := full.db.Exec(t.Context(), `SET default_transaction_read_only = on`); err != nil {
		t.Fatal(err)
	}
	if read, err := full.Session(t.Context(), second); err != nil || read.ID != s.ID {
		t.Error(read, err)
	}
	want(t, h.EndSession(t.Context(), h.owner.ID, s.ID), "account.no_session") // not theirs
	want(t, h.ChangePassword(t.Context(), bob, s.ID, "wrong one here", good+"!"), "account.wrong_old_password")
	if err := h.ChangePassword(t.Context(), bob, s.ID, good, good+"!"); err != nil {
		t.Fatal(err)
	}
	_, err = h.Session(t.Context(), first)
	want(t, err, "account.sign_in")
	if _, err := h.Session(t.Context(), second); err != nil {
		t.Errorf("the session that changed the password ended: %v", err)
	}
	_, err = h.SignIn(t.Context(), "bob", good, Client{})
	want(t, err, "account.wrong_password")
	// Forgotten.
	_, _, _, err = h.NewPassword(t.Context(), "nobody", false)
	want(t, err, "account.no_handle")
	handle, made, _, err := h.NewPassword(t.Context(), "@Bob", false)
	if err != nil || handle != "bob" {
		t.Fatal(handle, err)
	}
	_, err = h.Session(t.Context(), second)
	want(t, err, "account.sign_in")
	if entry, err = h.SignIn(t.Context(), "bob", made, Client{Address: "10.9.9.9"}); err != nil {
		t.Fatal(err)
	}
	second = entry.Session
	if err := h.SignOut(t.Context(), second); err != nil {
		t.Fatal(err)
	}
	_, err = h.Session(t.Context(), second)
	want(t, err, "account.sign_in")
}

func TestAnInviteHasEndsAndRanks(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	admin, _ := h.join("adm", Admin)
	member, _ := h.join("mem", Member)
	_, _, err := h.NewInvite(t.Context(), admin, Admin, nil)
	want(t, err, "account.admins_only")
	_, _, err = h.NewInvite(t.Context(), member, Member, nil)
	want(t, err, "account.admins_only")
	_, _, err = h.NewInvite(t.Context(), h.owner, Owner, nil)
	want(t, err, "account.role")
	_, _, err = h.NewInvite(t.Context(), h.owner, Guest, nil)
	want(t, err, "account.guest_needs_room")

	token, id, err := h.NewInvite(t.Context(), admin, Member, nil)
	if err != nil {
		t.Fatal(err)
	}
	accept := func(handle string) error {
		_, _, err := h.Accept(t.Context(), token, NewPerson{Handle: handle, Name: handle, Password: good}, Client{Address: handle},
			func(context.Context, pgx.Tx, Person, Invite) error { return nil })
		return err
	}
	for _, word := range []string{"Here", "@all", "所有人"} {
		want(t, accept(word), "account.handle_calls")
	}
	want(t, accept("mem"), "account.handle_taken") // and costs no use
	for i := range inviteUses {
		if err := accept(fmt.Sprint("new", i)); err != nil {
			t.Fatal(i, err)
		}
	}
	want(t, accept("onetoomany"), "account.invite_link")
	want(t, h.RevokeInvite(t.Context(), member, id), "account.admins_only")
	if err := h.RevokeInvite(t.Context(), admin, id); err != nil {
		t.Error(err)
	}
	_, err = h.CheckInvite(t.Context(), token)
	want(t, err, "account.invite_link")
}

func TestRanksInTheHouse(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	admin, _ := h.join("adm", Admin)
	other, _ := h.join("other", Admin)
	member, session := h.join("mem", Member)
	want(t, h.SetRole(t.Context(), member, member.ID, Admin), "account.admins_only")
	want(t, h.SetRole(t.Context(), admin, member.ID, Admin), "account.outranked")
	want(t, h.SetRole(t.Context(), admin, other.ID, Member), "account.outranked")
	want(t, h.SetRole(t.Context(), admin, h.owner.ID, Member), "account.outranked")
	want(t, h.SetRole(t.Context(), h.owner, h.owner.ID, Member), "account.last_owner")
	want(t, h.Disable(t.Context(), h.owner, h.owner.ID, true), "account.last_owner")
	want(t, h.SetRole(t.Context(), h.owner, 1<<60, Member), "account.no_person")
	if err := h.SetRole(t.Context(), h.owner, admin.ID, Owner); err != nil {
		t.Fatal(err)
	}
	if err := h.SetRole(t.Context(), h.owner, h.owner.ID, Member); err != nil {
		t.Error(err)
	}
	if err := h.Disable(t.Context(), other, member.ID, true); err != nil {
		t.Fatal(err)
	}
	_, err := h.Session(t.Context(), session)
	want(t, err, "account.sign_in")
	_, err = h.SignIn(t.Context(), "mem", good, Client{})
	want(t, err, "account.wrong_password")
	if err := h.Disable(t.Context(), other, member.ID, false); err != nil {
		t.Fatal(err)
	}
	if _, err = h.SignIn(t.Context(), "mem", good, Client{}); err != nil {
		t.Error(err)
	}
}

func TestTheInvitationsOfWhoMayNotInviteAnyMoreAreNone(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	invite := func(by Person, role Role) string {
		token, _, err := h.NewInvite(t.Context(), by, role, nil)
		if err != nil {
			t.Fatal(err)
		}
		return token
	}
	works := func(token string, want bool) {
		t.Helper()
		if _, err := h.CheckInvite(t.Context(), token); (err == nil) != want {
			t.Errorf("want %t, have %v", want, err)
		}
	}
	second, _ := h.join("second", Admin)
	leaver, _ := h.join("leaver", Admin)
	if err := h.SetRole(t.Context(), h.owner, second.ID, Owner); err != nil {
		t.Fatal(err)
	}
	second.Role = Owner
	ours, asAdmin, asMember, theirs := invite(h.owner, Admin), invite(second, Admin), invite(second, Member), invite(leaver, Member)
	if err := h.SetRole(t.Context(), h.owner, second.ID, Admin); err != nil {
		t.Fatal(err)
	}
	works(asAdmin, false) // admins make no admins
	works(asMember, true)
	if err := h.SetRole(t.Context(), h.owner, second.ID, Member); err != nil {
		t.Fatal(err)
	}
	works(asMember, false)
	works(theirs, true)
	if err := h.Disable(t.Context(), h.owner, leaver.ID, true); err != nil {
		t.Fatal(err)
	}
	works(theirs, false)
	works(ours, true)
}

// patient makes the tries that are used up stay so, however long a machine takes for a test.
func (h *house) patient() { h.may.password.every, h.may.code.every = time.Hour, time.Hour }

func TestGuessingIsSlowedByAddressAndByAccount(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.patient()
	var limited error
	for i := range usual.password.atOnce + 2 { // one account, many addresses
		_, err := h.SignIn(t.Context(), "owner", "wrong", Client{Address: fmt.Sprint("10.0.0.", i)})
		if !fault.HasKey(err, "account.wrong_password") {
			limited = err
		}
	}
	want(t, limited, "account.too_often")
	limited = nil
	for i := range usual.password.atOnce + 2 { // one address, many accounts; IPv6 counts by network
		_, err := h.SignIn(t.Context(), fmt.Sprint("nobody", i), "wrong", Client{Address: fmt.Sprintf("2001:db8::%x", i)})
		if !fault.HasKey(err, "account.wrong_password") {
			limited = err
		}
	}
	want(t, limited, "account.too_often")
}

func TestWhatIsStoredIsNotThePasswordNorTheToken(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	a := Open(db.App, nil)
	setup, err := a.SetupToken(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	session, p, err := a.SetUp(t.Context(), setup, NewPerson{Handle: "ann", Name: "Ann", Password: good}, Client{}, func(context.Context, pgx.Tx, Person) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	token, _, err := a.NewToken(t.Context(), p.ID, "t")
	if err != nil {
		t.Fatal(err)
	}
	var all string
	if err := db.App.QueryRow(t.Context(), `SELECT (SELECT string_agg(x::text, ' ') FROM account.person x) || (SELECT string_agg(x::text, ' ') FROM account.session x)
		|| (SELECT string_agg(x::text, ' ') FROM account.token x)`).Scan(&all); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(all, "$argon2id$v=19$m=19456,t=2,p=1$") {
		t.Error("no argon2id hash in " + all)
	}
	for _, secret := range []string{good, session, token, setup} {
		if strings.Contains(all, secret) {
			t.Errorf("%q is stored", secret)
		}
	}
}

// FuzzNames: a handle or name that passes is in its one form, holds nothing invisible, and passes again unchanged.
func FuzzNames(f *testing.F) {
	for _, seed := range []string{"ann", " @Ann ", "小明", "ﬁne", "a\u202eb", "x\x00", "a..", "-a", "İstanbul", "\u0301ab", "ａｂ"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		if handle, err := Handle(raw); err == nil {
			if again, err := Handle(handle); err != nil || again != handle {
				t.Errorf("handle %q became %q, then %q (%v)", raw, handle, again, err)
			}
		}
		if name, err := Name(raw); err == nil {
			again, err := Name(name)
			if err != nil || again != name {
				t.Errorf("name %q became %q, then %q (%v)", raw, name, again, err)
			}
			for _, r := range name {
				if unicode.IsControl(r) {
					t.Errorf("name %q holds %U", name, r)
				}
			}
		}
	})
}
