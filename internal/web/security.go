package web

import (
	"html/template"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/boombuler/barcode/qr"

	"howdah/internal/account"
	"howdah/internal/web/ui"
)

// The page of how somebody signs in, and what is decided about it for others.

const securityPath = "/me/security"

func (d *Door) securityPage(v *visit) error { return d.showSecurity(v, http.StatusOK, nil) }

func (d *Door) showSecurity(v *visit, code int, problem error) error {
	return d.showSecurityWith(v, code, problem, ui.SecurityPage{})
}

func (d *Door) showSecurityWith(v *visit, code int, problem error, p ui.SecurityPage) error {
	c, err := d.chromeWith(v, problem)
	if err != nil {
		return err
	}
	factors, err := d.accounts.Factors(v.ctx(), v.me().ID)
	if err != nil {
		return err
	}
	p.Chrome, p.Ask, p.Codes, p.Left, p.Origin = c, !v.session.Recent(), factors.Codes, factors.Recovery, d.accounts.PasskeyOrigin()
	passkeys, err := d.accounts.Passkeys(v.ctx(), v.me().ID)
	if err != nil {
		return err
	}
	for _, k := range passkeys {
		one := ui.Passkey{ID: k.ID, Name: k.Name, Made: k.CreatedAt, Cloned: k.ClonedAt != nil}
		if k.UsedAt != nil {
			one.Seen = *k.UsedAt
		}
		p.Passkeys = append(p.Passkeys, one)
	}
	if err := d.connections(v, &p); err != nil {
		return err
	}
	box, err := d.accounts.Mailbox(v.ctx(), v.me().ID)
	if err != nil {
		return err
	}
	p.Mails, p.Mailbox, p.MailRefused = d.tell.Mails(), box.Address, box.Refused
	d.render(v.w, v.r, code, "security", p)
	return nil
}

// houseName is what an app calls its codes for this house.
func (d *Door) houseName(r *http.Request) string {
	host := r.Host
	if u, err := url.Parse(d.base(r)); err == nil && u.Host != "" {
		host = u.Host
	}
	return "Howdah " + strings.ReplaceAll(host, ":", " ") // a colon ends an issuer's name
}

func pageSecret(s account.CodeSecret) (*ui.CodeSecret, error) {
	groups := ""
	for i, r := range s.Text {
		if i > 0 && i%4 == 0 {
			groups += " "
		}
		groups += string(r)
	}
	code, err := qr.Encode(s.URL, qr.M, qr.Auto)
	if err != nil {
		return nil, err
	}
	const quiet = 4 // modules of white around it
	size := code.Bounds().Dx()
	var path strings.Builder
	for y := range size {
		for x := range size {
			if r, _, _, _ := code.At(x, y).RGBA(); r == 0 {
				path.WriteString("M" + strconv.Itoa(x+quiet) + " " + strconv.Itoa(y+quiet) + "h1v1h-1z")
			}
		}
	}
	return &ui.CodeSecret{Text: groups, Link: template.URL(s.URL), Size: size + 2*quiet, Path: path.String()}, nil //nolint:gosec // otpauth: with a handle and base32 in it, made by us
}

func (d *Door) securityBegin(v *visit) error {
	return d.showing(v, d.showSecurity, func() (string, error) {
		secret, err := d.accounts.BeginCodes(v.ctx(), v.session, v.field("password"), d.houseName(v.r))
		if err != nil {
			return "", err
		}
		page, err := pageSecret(secret)
		if err != nil {
			return "", err
		}
		return "", d.showSecurityWith(v, http.StatusOK, nil, ui.SecurityPage{Secret: page})
	})
}

func (d *Door) securityConfirm(v *visit) error {
	again := func(v *visit, code int, problem error) error {
		secret, found, err := d.accounts.PendingCodes(v.ctx(), v.me(), d.houseName(v.r))
		if err != nil || !found {
			return d.showSecurity(v, code, problem)
		}
		page, err := pageSecret(secret)
		if err != nil {
			return err
		}
		return d.showSecurityWith(v, code, problem, ui.SecurityPage{Secret: page})
	}
	return d.showing(v, again, func() (string, error) {
		codes, err := d.accounts.ConfirmCodes(v.ctx(), v.session, v.field("code"))
		if err != nil {
			return "", err
		}
		d.options.Log.Info("two-factor codes set up", "person", v.me().Handle)
		v.session.Owes = false
		return "", d.showSecurityWith(v, http.StatusOK, nil, ui.SecurityPage{Recovery: codes})
	})
}

func (d *Door) securityRecovery(v *visit) error {
	return d.showing(v, d.showSecurity, func() (string, error) {
		codes, err := d.accounts.NewRecoveryCodes(v.ctx(), v.session, v.field("password"))
		if err != nil {
			return "", err
		}
		return "", d.showSecurityWith(v, http.StatusOK, nil, ui.SecurityPage{Recovery: codes})
	})
}

func (d *Door) securityRemove(v *visit) error {
	return d.showing(v, d.showSecurity, func() (string, error) {
		err := d.accounts.RemoveCodes(v.ctx(), v.session, v.field("password"))
		if err == nil {
			d.options.Log.Info("two-factor codes removed", "person", v.me().Handle)
		}
		return securityPath + "?done=codes-off", err
	})
}

func (d *Door) peopleResetFactors(v *visit) error {
	return d.onPerson(v, func(person int64) (string, error) {
		who, err := d.accounts.ResetFactors(v.ctx(), v.me(), person)
		if err == nil {
			d.options.Log.Warn("somebody's second factor was removed", "of", who.Handle, "by", v.me().Handle, "address", client(v.r).Address)
		}
		return "/people?done=factor-reset", err
	})
}

func (d *Door) peopleRecovery(v *visit) error {
	return d.onPerson(v, func(person int64) (string, error) {
		token, who, err := d.accounts.RecoveryLink(v.ctx(), v.me(), person)
		if err != nil {
			return "", err
		}
		d.options.Log.Warn("a recovery link was made", "for", who.Handle, "by", v.me().Handle, "address", client(v.r).Address)
		// Shown in the answer and nowhere else: only its hash is kept.
		return "", d.showPeopleWith(v, http.StatusOK, nil, "", ui.RecoveryLink{Name: who.Name, URL: d.linkURL(v.r, "/recover/"+token)})
	})
}

func (d *Door) peopleDemand(v *visit) error {
	return d.showing(v, d.showPeople, func() (string, error) {
		on := v.field("on") != ""
		err := d.accounts.Demand(v.ctx(), v.me(), on)
		if err == nil {
			d.options.Log.Warn("whether owners and admins need a second factor was settled", "needed", on, "by", v.me().Handle)
		}
		return "/people?done=saved", err
	})
}
