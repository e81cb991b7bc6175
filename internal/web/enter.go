package web

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/jackc/pgx/v5"

	"howdah/internal/account"
	"howdah/internal/chat"
	"howdah/internal/fault"
	"howdah/internal/web/ui"
)

// Pages on the way in: set-up, sign-in, invitation.

// chrome is what is around every page; without a person it has no sidebar.
func (d *Door) chrome(v *visit) (ui.Chrome, error) {
	c := ui.Chrome{Locale: v.lang, Theme: theme(v.r), Zone: zone(v.r), Now: time.Now()}
	me := v.me()
	if me.ID == 0 {
		return c, nil
	}
	c.NoCards = me.NoCards
	c.Theme, c.Me = me.Theme, &ui.Person{ID: me.ID, Handle: me.Handle, Name: me.Name, Role: string(me.Role)}
	rooms, err := d.rooms.Mine(v.ctx(), me)
	if err != nil {
		return c, err
	}
	for _, r := range rooms {
		if !r.Archived {
			c.Rooms = append(c.Rooms, pageRoom(r))
		}
	}
	settings, err := d.tell.Settings(v.ctx(), me)
	if err != nil {
		return c, err
	}
	c.Told = toldInPage(settings)
	c.Epoch = d.rooms.Epoch()
	c.Watch, c.Past, c.Machine, c.Owes = d.watches(v), d.pasts(v), d.doctors(v), v.session.Owes
	if n := notices[v.r.URL.Query().Get("done")]; n != "" {
		c.Notice = v.lang.T(n)
	}
	return c, nil
}

// notices are what a page may say after a form led to it; the address only names which.
var notices = map[string]string{"saved": "web.done.saved", "password": "web.done.password", "codes-off": "web.done.codes_off", "passkey": "web.done.passkey", "passkey-gone": "web.done.passkey_gone", "factor-reset": "web.done.factor_reset",
	"connected": "web.done.connected", "disconnected": "web.done.disconnected",
	"asked": "web.done.asked", "unmailed": "web.done.unmailed"}

// chromeWith is chrome with what went wrong on it; nil: nothing did. What nobody can mend there is returned.
func (d *Door) chromeWith(v *visit, problem error) (ui.Chrome, error) {
	c, err := d.chrome(v)
	if err == nil && problem != nil {
		err = complain(&c, problem)
	}
	return c, err
}

// complain puts a fault that people can mend onto the page that they came from; others are returned.
func complain(c *ui.Chrome, err error) error {
	switch f := fault.Of(err); f.Code {
	case fault.Internal, fault.Unavailable:
		return err
	default:
		c.Problem, c.Hint = c.Locale.Fault(f)
		return nil
	}
}

func complaintStatus(err error) int { return status(fault.Of(err).Code) }

func (d *Door) home(v *visit) error {
	if v.me().ID == 0 {
		done, err := d.accounts.IsSetUp(v.ctx())
		if err != nil {
			return err
		}
		if !done {
			c, err := d.chrome(v)
			if err == nil {
				d.render(v.w, v.r, http.StatusOK, "unset", ui.UnsetPage{Chrome: c})
			}
			return err
		}
		redirect(v, "/sign-in")
		return nil
	}
	rooms, err := d.rooms.Mine(v.ctx(), v.me())
	if err != nil {
		return err
	}
	for _, r := range rooms { // the first that has something new, else the first
		if r.Unread > 0 && !r.Archived {
			redirect(v, fmt.Sprint("/room/", r.ID))
			return nil
		}
	}
	if len(rooms) > 0 {
		redirect(v, fmt.Sprint("/room/", rooms[0].ID))
	} else {
		redirect(v, "/rooms")
	}
	return nil
}

func (d *Door) setupForm(v *visit) error {
	token := v.r.PathValue("token")
	if err := d.accounts.CheckSetup(v.ctx(), token); err != nil {
		return err
	}
	c, err := d.chrome(v)
	if err == nil {
		d.render(v.w, v.r, http.StatusOK, "setup", ui.SetupPage{Chrome: c, Token: token})
	}
	return err
}

func (v *visit) newPerson() (account.NewPerson, error) {
	err := v.form()
	return account.NewPerson{Handle: v.field("handle"), Name: v.field("name"), Password: v.field("password")}, err
}

func (d *Door) setup(v *visit) error {
	n, err := v.newPerson()
	if err != nil {
		return err
	}
	token := v.r.PathValue("token")
	var lobby int64
	session, owner, err := d.accounts.SetUp(v.ctx(), token, n, client(v.r), func(ctx context.Context, tx pgx.Tx, owner account.Person) (err error) {
		lobby, err = chat.CreateIn(ctx, tx, owner, chat.NewRoomDraft{Kind: chat.Public, Name: v.lang.T("web.lobby.name"), Topic: v.lang.T("web.lobby.topic"), ClientID: chat.NewID()})
		if err == nil {
			_, _, _, err = chat.OpsIn(ctx, tx, v.lang.T("web.ops.topic"))
		}
		return err
	})
	if err != nil {
		c, chromeErr := d.chrome(v)
		if chromeErr != nil {
			return chromeErr
		}
		if fault.HasKey(err, "account.setup_link") {
			return err
		}
		if err := complain(&c, err); err != nil {
			return err
		}
		d.render(v.w, v.r, complaintStatus(err), "setup", ui.SetupPage{Chrome: c, Token: token, Name: n.Name, Handle: n.Handle})
		return nil
	}
	return d.signedIn(v, owner, session, fmt.Sprint("/room/", lobby))
}

func (d *Door) signInPage(c ui.Chrome, handle, next string) ui.SignInPage {
	return ui.SignInPage{Chrome: c, Handle: handle, Next: next, Origin: d.accounts.PasskeyOrigin(), Providers: d.pageProviders(), Mails: d.tell.Mails()}
}

func (d *Door) signInForm(v *visit) error {
	next := local(v.r.URL.Query().Get("next"))
	if v.me().ID != 0 {
		redirect(v, next)
		return nil
	}
	c, err := d.chrome(v)
	if err == nil {
		d.render(v.w, v.r, http.StatusOK, "sign-in", d.signInPage(c, "", next))
	}
	return err
}

func (d *Door) signIn(v *visit) error {
	if err := v.form(); err != nil {
		return err
	}
	next := local(v.field("next"))
	entry, err := d.accounts.SignIn(v.ctx(), v.field("handle"), v.field("password"), client(v.r))
	if err == nil {
		return d.entered(v, entry, next)
	}
	v.session = account.Session{}
	c, chromeErr := d.chrome(v)
	if chromeErr != nil {
		return chromeErr
	}
	code := complaintStatus(err)
	if err := complain(&c, err); err != nil {
		return err
	}
	d.render(v.w, v.r, code, "sign-in", d.signInPage(c, v.field("handle"), next))
	return nil
}

// entered leads on from a sign-in: to where somebody wanted to go, or to where their second factor is asked for.
func (d *Door) entered(v *visit, entry account.Entry, next string) error {
	if entry.Session == "" {
		d.setCookie(v.w, v.r, pendingCookie, entry.Pending, 600, true)
		redirect(v, "/sign-in/code?next="+escape(next))
		return nil
	}
	err := d.admit(v, entry)
	if err == nil {
		redirect(v, next)
	}
	return err
}

// admit gives the browser the session that a sign-in has opened, and what goes with the person.
func (d *Door) admit(v *visit, entry account.Entry) error {
	d.setCookie(v.w, v.r, pendingCookie, "", -1, true)
	if entry.Person.Locale != "" {
		d.setCookie(v.w, v.r, localeCookie, entry.Person.Locale, 365*24*3600, false)
	}
	d.setCookie(v.w, v.r, themeCookie, entry.Person.Theme, 365*24*3600, false)
	return d.keep(v, entry.Person, entry.Session)
}

// pending names the sign-in that waits for its second factor in this browser; "" when none does.
func pending(r *http.Request) string {
	if cookie, err := r.Cookie(pendingCookie); err == nil {
		return cookie.Value
	}
	return ""
}

func (d *Door) codeForm(v *visit) error {
	next := local(v.r.URL.Query().Get("next"))
	if v.me().ID != 0 || pending(v.r) == "" {
		redirect(v, "/sign-in?next="+escape(next))
		return nil
	}
	c, err := d.chrome(v)
	if err == nil {
		d.render(v.w, v.r, http.StatusOK, "sign-in-code", ui.CodePage{Chrome: c, Next: next, Origin: d.accounts.PasskeyOrigin()})
	}
	return err
}

func (d *Door) code(v *visit) error {
	if err := v.form(); err != nil {
		return err
	}
	next := local(v.field("next"))
	entry, err := d.accounts.SecondFactor(v.ctx(), pending(v.r), v.field("code"), client(v.r))
	if err == nil {
		return d.entered(v, entry, next)
	}
	v.session = account.Session{}
	c, chromeErr := d.chrome(v)
	if chromeErr != nil {
		return chromeErr
	}
	code, over := complaintStatus(err), fault.HasKey(err, "account.entry_over")
	if fault.HasKey(err, "account.key_away") || fault.HasKey(err, "account.key_other") {
		d.options.Log.Error("codes from an app cannot be checked", "error", err)
	}
	if err := complain(&c, err); err != nil {
		return err
	}
	if over {
		d.setCookie(v.w, v.r, pendingCookie, "", -1, true)
		d.render(v.w, v.r, code, "sign-in", d.signInPage(c, "", next))
		return nil
	}
	d.render(v.w, v.r, code, "sign-in-code", ui.CodePage{Chrome: c, Next: next, Origin: d.accounts.PasskeyOrigin()})
	return nil
}

func (d *Door) signOut(v *visit) error {
	if v.token != "" {
		if err := d.accounts.SignOut(v.ctx(), v.token); err != nil {
			return err
		}
	}
	d.setCookie(v.w, v.r, sessionCookie, "", -1, true)
	redirect(v, "/sign-in")
	return nil
}

func (d *Door) recoverForm(v *visit) error { return d.showRecover(v, http.StatusOK, nil) }

func (d *Door) showRecover(v *visit, code int, problem error) error {
	token := v.r.PathValue("token")
	who, err := d.accounts.CheckRecovery(v.ctx(), token)
	if err != nil {
		return err
	}
	v.session = account.Session{} // whoever is signed in here, the link is somebody's
	c, err := d.chromeWith(v, problem)
	if err != nil {
		return err
	}
	d.render(v.w, v.r, code, "recover", ui.RecoverPage{Chrome: c, Token: token, Handle: who.Handle, Name: who.Name, Providers: d.pageProviders()})
	return nil
}

func (d *Door) recover(v *visit) error {
	return d.showing(v, d.showRecover, func() (string, error) {
		entry, err := d.accounts.Recover(v.ctx(), v.r.PathValue("token"), v.field("password"), client(v.r))
		if err != nil {
			return "", err
		}
		d.options.Log.Warn("a recovery link was used", "person", entry.Person.Handle, "address", client(v.r).Address)
		return "", d.entered(v, entry, "/")
	})
}

// invitePage fills the page of an invitation.
func (d *Door) invitePage(v *visit) (ui.InvitePage, account.Invite, error) {
	token := v.r.PathValue("token")
	invite, err := d.accounts.CheckInvite(v.ctx(), token)
	if err != nil {
		return ui.InvitePage{}, invite, err
	}
	c, err := d.chrome(v)
	if err != nil {
		return ui.InvitePage{}, invite, err
	}
	p := ui.InvitePage{Chrome: c, Token: token, By: ui.Person{Name: invite.CreatedBy}, AskRole: string(invite.Role)}
	if invite.RoomID != nil {
		p.House, err = d.rooms.Name(v.ctx(), *invite.RoomID)
	}
	return p, invite, err
}

func (d *Door) inviteForm(v *visit) error {
	p, _, err := d.invitePage(v)
	if err == nil {
		d.render(v.w, v.r, http.StatusOK, "invite", p)
	}
	return err
}

func (d *Door) acceptInvite(v *visit) error {
	p, invite, err := d.invitePage(v)
	if err != nil {
		return err
	}
	if me := v.me(); me.ID != 0 {
		return d.followInvite(v, me, invite)
	}
	n, err := v.newPerson()
	if err != nil {
		return err
	}
	var first int64
	session, newcomer, err := d.accounts.Accept(v.ctx(), p.Token, n, client(v.r), func(ctx context.Context, tx pgx.Tx, newcomer account.Person, invite account.Invite) (err error) {
		if invite.RoomID != nil {
			first = *invite.RoomID
			for _, room := range invite.Rooms {
				if _, err := chat.JoinIn(ctx, tx, newcomer, room); err != nil {
					return err
				}
			}
			return nil
		} else if first, err = chat.FirstRoom(ctx, tx); err != nil || first == 0 {
			return err
		}
		_, err = chat.JoinIn(ctx, tx, newcomer, first)
		return err
	})
	if err != nil {
		p.Name, p.Handle = n.Name, n.Handle
		code := complaintStatus(err)
		if fault.HasKey(err, "account.invite_link") {
			return err
		}
		if err := complain(&p.Chrome, err); err != nil {
			return err
		}
		d.render(v.w, v.r, code, "invite", p)
		return nil
	}
	d.rooms.Grown(first)
	for _, room := range invite.Rooms {
		d.rooms.Grown(room)
	}
	if err := d.settleOps(v); err != nil {
		return err
	}
	if first != 0 {
		return d.signedIn(v, newcomer, session, fmt.Sprint("/room/", first))
	}
	return d.signedIn(v, newcomer, session, "/rooms")
}

// followInvite leads somebody who has an account here already to where an invitation leads.
func (d *Door) followInvite(v *visit, me account.Person, invite account.Invite) error {
	if invite.RoomID == nil {
		redirect(v, "/")
		return nil
	}
	room := *invite.RoomID
	if err := d.accounts.Follow(v.ctx(), invite, func(ctx context.Context, tx pgx.Tx) (came bool, err error) {
		for _, one := range invite.Rooms {
			in, err := chat.JoinIn(ctx, tx, me, one)
			if err != nil {
				return false, err
			}
			came = came || in
		}
		return came, nil
	}); err != nil {
		return err
	}
	for _, one := range invite.Rooms {
		d.rooms.Grown(one)
	}
	d.rooms.Poke(me.ID)
	redirect(v, fmt.Sprint("/room/", room))
	return nil
}
