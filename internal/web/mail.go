package web

import (
	"net/http"

	"howdah/internal/account"
	"howdah/internal/fault"
	"howdah/internal/web/ui"
)

// What goes by mail: an address that is shown to be somebody's, a forgotten password, and the end of digests.

func (d *Door) forgotForm(v *visit) error { return d.showForgot(v, http.StatusOK, nil, false) }

func (d *Door) showForgot(v *visit, code int, problem error, sent bool) error {
	v.session = account.Session{}
	c, err := d.chromeWith(v, problem)
	if err != nil {
		return err
	}
	d.render(v.w, v.r, code, "forgot", ui.ForgotPage{Chrome: c, Who: v.field("who"), Sent: sent})
	return nil
}

// forgot answers everybody alike: whether there is such a handle or address is looked up later, by whoever sends the letter.
func (d *Door) forgot(v *visit) error {
	if err := v.form(); err != nil {
		return err
	}
	from := client(v.r)
	who, err := d.accounts.Forgot(v.ctx(), v.field("who"), from)
	if err == nil {
		err = d.tell.Forgot(v.ctx(), who, from.Address, v.lang)
	}
	if err != nil {
		return d.showForgot(v, complaintStatus(err), err, false)
	}
	d.options.Log.Info("a link for a forgotten password was asked for", "who", who, "address", from.Address)
	return d.showForgot(v, http.StatusOK, nil, true)
}

func (d *Door) mailboxAsk(v *visit) error {
	return d.showing(v, d.showSecurity, func() (string, error) {
		address, err := d.accounts.WishMailbox(v.ctx(), v.session, v.field("password"), v.field("address"))
		if err == nil {
			err = d.tell.AskAddress(v.ctx(), v.me().ID, address, v.lang)
		}
		return securityPath + "?done=asked", err
	})
}

// unmailed tells an address that it is somebody's no more.
func (d *Door) unmailed(v *visit, person account.Person, before string) error {
	if before == "" {
		return nil
	}
	d.options.Log.Warn("somebody's mail address was changed", "person", person.Handle, "address", client(v.r).Address)
	if err := d.tell.AddressChanged(v.ctx(), person.ID, before, v.lang); err != nil && !fault.HasKey(err, "tell.no_mail") { // a house that sends no mail any more
		return err
	}
	return nil
}

func (d *Door) mailboxDrop(v *visit) error {
	return d.showing(v, d.showSecurity, func() (string, error) {
		before, err := d.accounts.DropMailbox(v.ctx(), v.session, v.field("password"))
		if err == nil {
			err = d.unmailed(v, v.me(), before)
		}
		return securityPath + "?done=unmailed", err
	})
}

// mailPage is a page behind a link in a letter.
func (d *Door) mailPage(v *visit, p ui.MailPage) error {
	v.session = account.Session{}
	c, err := d.chrome(v)
	if err == nil {
		p.Chrome = c
		d.render(v.w, v.r, http.StatusOK, "mail", p)
	}
	return err
}

func (d *Door) mailboxForm(v *visit) error {
	token := v.r.PathValue("token")
	who, address, err := d.accounts.CheckMailTicket(v.ctx(), v.me(), token)
	if err != nil {
		return err
	}
	return d.mailPage(v, ui.MailPage{To: "/mail/" + token, Heading: v.lang.T("web.mailbox.confirm"), Lead: v.lang.T("web.mailbox.confirm.lead", fault.Args{"address": address, "name": who.Name, "handle": who.Handle}), Button: v.lang.T("web.mailbox.confirm.button")})
}

func (d *Door) mailboxTake(v *visit) error {
	who, address, before, err := d.accounts.TakeMailbox(v.ctx(), v.me(), v.r.PathValue("token"))
	if err != nil {
		return err
	}
	d.options.Log.Info("somebody has shown a mail address to be theirs", "person", who.Handle)
	if err := d.unmailed(v, who, before); err != nil {
		return err
	}
	return d.mailPage(v, ui.MailPage{Heading: v.lang.T("web.mailbox.yours"), Lead: v.lang.T("web.mailbox.yours.lead", fault.Args{"address": address})})
}

func (d *Door) mailStopForm(v *visit) error {
	token := v.r.PathValue("token")
	if err := d.tell.CheckStop(v.ctx(), token); err != nil {
		return err
	}
	return d.mailPage(v, ui.MailPage{To: "/mail/off/" + token, Heading: v.lang.T("web.mail_off"), Lead: v.lang.T("web.mail_off.lead"), Button: v.lang.T("web.mail_off.button")})
}

// mailStop is also what mail programs ask for by themselves, with nobody signed in (RFC 8058).
func (d *Door) mailStop(v *visit) error {
	if err := d.tell.StopMail(v.ctx(), v.r.PathValue("token")); err != nil {
		return err
	}
	return d.mailPage(v, ui.MailPage{Heading: v.lang.T("web.mail_off.done"), Lead: v.lang.T("web.mail_off.done.lead")})
}
