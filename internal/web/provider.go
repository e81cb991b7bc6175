package web

import (
	"context"
	"fmt"
	"net/http"

	"github.com/jackc/pgx/v5"

	"howdah/internal/account"
	"howdah/internal/chat"
	"howdah/internal/fault"
	"howdah/internal/web/ui"
)

// Signing in with an OpenID Connect provider: the browser is sent there and comes back.

func pageProvider(p account.Provider) ui.Provider { return ui.Provider{Name: p.Name, Label: p.Label} }

func (d *Door) pageProviders() (all []ui.Provider) {
	for _, p := range d.accounts.Providers() {
		all = append(all, pageProvider(p))
	}
	return all
}

// connections adds to the page of how somebody signs in whom they are connected with.
func (d *Door) connections(v *visit, p *ui.SecurityPage) error {
	have, others, keyless, err := d.accounts.Connections(v.ctx(), v.me().ID)
	if err != nil {
		return err
	}
	p.Keyless = keyless
	for _, one := range have {
		c := ui.Connection{ID: one.ID, Label: one.Provider, Name: one.Name, Made: one.MadeAt}
		if one.UsedAt != nil {
			c.Seen = *one.UsedAt
		}
		p.Connections = append(p.Connections, c)
	}
	for _, one := range others {
		p.Others = append(p.Others, pageProvider(one))
	}
	return nil
}

// providerReturn is where a provider sends the browser back to. Who runs the house registers it there.
func (d *Door) providerReturn(v *visit) string {
	return d.linkURL(v.r, "/sign-in/with/"+v.r.PathValue("provider")+"/back")
}

// errandLife is how long the browser keeps what it is known by again, in seconds.
const errandLife = 15 * 60

// providerProblem shows what went wrong with a provider: that one is away is no reason to say that the house is.
func providerProblem(c *ui.Chrome, err error) (code int, left error) {
	if fault.HasKey(err, "openid.away") || fault.HasKey(err, "openid.other_issuer") {
		c.Problem, c.Hint = c.Locale.Fault(err)
		return http.StatusBadGateway, nil
	}
	return complaintStatus(err), complain(c, err)
}

func (d *Door) providerGo(v *visit) error {
	next := local(v.r.URL.Query().Get("next"))
	if v.me().ID != 0 {
		redirect(v, next)
		return nil
	}
	address, browser, err := d.accounts.BeginProvider(v.ctx(), v.r.PathValue("provider"), d.providerReturn(v), next, client(v.r))
	if err != nil {
		return d.providerRefused(v, err, account.Arrival{Next: next})
	}
	d.setCookie(v.w, v.r, errandCookie, browser, errandLife, true)
	redirect(v, address)
	return nil
}

// leave leads on to a provider after a form.
func (d *Door) leave(v *visit, address, browser string) error {
	c, err := d.chrome(v)
	if err != nil {
		return err
	}
	d.setCookie(v.w, v.r, errandCookie, browser, errandLife, true)
	label := ""
	for _, p := range d.pageProviders() {
		if p.Name == v.r.PathValue("provider") {
			label = p.Label
		}
	}
	d.render(v.w, v.r, http.StatusOK, "leave", ui.LeavePage{Chrome: c, Label: label, To: address})
	return nil
}

func (d *Door) providerConnect(v *visit) error {
	if err := v.form(); err != nil {
		return err
	}
	address, browser, err := d.accounts.BeginConnect(v.ctx(), v.session, v.field("password"), v.r.PathValue("provider"), d.providerReturn(v))
	if err != nil {
		return d.providerRefused(v, err, account.Arrival{Link: true})
	}
	return d.leave(v, address, browser)
}

func (d *Door) providerRecover(v *visit) error {
	address, browser, err := d.accounts.BeginRecoverWith(v.ctx(), v.r.PathValue("token"), v.r.PathValue("provider"), d.providerReturn(v))
	if err != nil {
		return d.providerRefused(v, err, account.Arrival{})
	}
	v.session = account.Session{} // whoever is signed in here, the link is somebody's
	return d.leave(v, address, browser)
}

func (d *Door) providerRemove(v *visit) error {
	id, err := v.number("connection")
	if err != nil {
		return err
	}
	return d.showing(v, d.showSecurity, func() (string, error) {
		err := d.accounts.Disconnect(v.ctx(), v.session, v.field("password"), id)
		if err == nil {
			d.options.Log.Info("somebody signs in with a provider no more", "person", v.me().Handle)
		}
		return securityPath + "?done=disconnected", err
	})
}

func (d *Door) providerBack(v *visit) error {
	browser := ""
	if cookie, err := v.r.Cookie(errandCookie); err == nil {
		browser = cookie.Value
	}
	d.setCookie(v.w, v.r, errandCookie, "", -1, true)
	var first int64
	back, err := d.accounts.FinishProvider(v.ctx(), v.r.PathValue("provider"), v.r.URL.Query(), browser, v.session, client(v.r), func(ctx context.Context, tx pgx.Tx, newcomer account.Person) (err error) {
		if newcomer.Role == account.Guest { // somebody lets them into rooms
			return nil
		}
		if first, err = chat.FirstRoom(ctx, tx); err == nil && first != 0 {
			_, err = chat.JoinIn(ctx, tx, newcomer, first)
		}
		return err
	})
	log := d.options.Log.With("provider", v.r.PathValue("provider"), "address", client(v.r).Address)
	if err != nil {
		log.Warn("a sign-in with a provider was refused", "error", err)
		return d.providerRefused(v, err, back)
	}
	switch {
	case back.New:
		log.Info("somebody came in by a provider", "person", back.Person.Handle, "role", back.Person.Role)
		if first != 0 {
			d.rooms.Grown(first)
		}
	case back.Was != account.None:
		log.Warn("a provider's groups changed somebody's role", "person", back.Person.Handle, "from", back.Was, "to", back.Person.Role)
		d.rooms.Poke(back.Person.ID)
	case back.Link:
		log.Info("somebody connected their account with a provider", "person", back.Person.Handle)
	}
	if back.New || back.Was != account.None {
		if err := d.settleOps(v); err != nil {
			return err
		}
	}
	if back.Link {
		redirect(v, securityPath+"?done=connected")
		return nil
	}
	next := local(back.Next)
	if next == "/" && first != 0 {
		next = fmt.Sprint("/room/", first)
	}
	return d.entered(v, back.Entry, next)
}

// providerRefused shows what went wrong where it began.
func (d *Door) providerRefused(v *visit, err error, back account.Arrival) error {
	if back.Link && v.me().ID != 0 {
		if !fault.HasKey(err, "openid.away") && !fault.HasKey(err, "openid.other_issuer") {
			return d.showSecurity(v, complaintStatus(err), err)
		}
		f := *fault.Of(err)
		f.Code = fault.Conflict // the house is not away
		return d.showSecurity(v, http.StatusBadGateway, &f)
	}
	v.session = account.Session{}
	c, chromeErr := d.chrome(v)
	if chromeErr != nil {
		return chromeErr
	}
	code, left := providerProblem(&c, err)
	if left != nil {
		return left
	}
	d.render(v.w, v.r, code, "sign-in", d.signInPage(c, "", local(back.Next)))
	return nil
}
