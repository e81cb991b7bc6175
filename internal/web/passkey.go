package web

import (
	"encoding/json"
	"net/http"

	"howdah/internal/fault"
)

// Passkeys: what the scripts of the pages ask for and answer with.

// told answers a script of a page: with a value, or with the fault in words.
func (d *Door) told(v *visit, value any, err error) error {
	if err == nil {
		writeJSON(v.w, v.r, http.StatusOK, value)
		return nil
	}
	f := fault.Of(err)
	d.note(v.r, f)
	writeJSON(v.w, v.r, status(f.Code), object{"error": failure(v.lang, f)})
	return nil
}

type passkeyIn struct {
	Password string          `json:"password"` // to begin
	Ticket   string          `json:"ticket"`   // to finish, as all that follows
	Name     string          `json:"name"`
	Next     string          `json:"next"`
	Response json.RawMessage `json:"response"`
}

func (d *Door) passkeyBegin(v *visit) error {
	var in passkeyIn
	err := v.body(&in)
	if err != nil {
		return d.told(v, nil, err)
	}
	options, ticket, err := d.accounts.BeginPasskey(v.ctx(), v.session, in.Password)
	return d.told(v, object{"options": options, "ticket": ticket}, err)
}

func (d *Door) passkeyFinish(v *visit) error {
	var in passkeyIn
	err := v.body(&in)
	if err == nil {
		err = d.accounts.FinishPasskey(v.ctx(), v.session, in.Ticket, in.Name, in.Response)
	}
	if err == nil {
		d.options.Log.Info("a passkey was added", "person", v.me().Handle)
	}
	return d.told(v, object{"next": securityPath + "?done=passkey"}, err)
}

func (d *Door) passkeySignInBegin(v *visit) error {
	options, ticket, err := d.accounts.BeginPasskeySignIn(v.ctx(), client(v.r))
	return d.told(v, object{"options": options, "ticket": ticket}, err)
}

func (d *Door) passkeySignIn(v *visit) error {
	var in passkeyIn
	if err := v.body(&in); err != nil {
		return d.told(v, nil, err)
	}
	entry, err := d.accounts.PasskeySignIn(v.ctx(), in.Ticket, in.Response, client(v.r))
	if fault.HasKey(err, "account.passkey_cloned") {
		d.options.Log.Warn("a passkey was refused: there are two of it", "address", client(v.r).Address)
	}
	if err == nil {
		err = d.admit(v, entry)
	}
	return d.told(v, object{"next": local(in.Next)}, err)
}

func (d *Door) passkeyRename(v *visit) error {
	id, err := v.number("passkey")
	if err != nil {
		return err
	}
	return d.showing(v, d.showSecurity, func() (string, error) {
		return securityPath + "?done=saved", d.accounts.RenamePasskey(v.ctx(), v.me().ID, id, v.field("name"))
	})
}

func (d *Door) passkeyRemove(v *visit) error {
	id, err := v.number("passkey")
	if err != nil {
		return err
	}
	return d.showing(v, d.showSecurity, func() (string, error) {
		err := d.accounts.RemovePasskey(v.ctx(), v.session, v.field("password"), id)
		if err == nil {
			d.options.Log.Info("a passkey was removed", "person", v.me().Handle)
		}
		return securityPath + "?done=passkey-gone", err
	})
}
