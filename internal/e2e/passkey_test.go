package e2e

import (
	"fmt"
	"testing"

	"github.com/chromedp/cdproto/webauthn"
)

// authenticator puts a device for passkeys into the browser, whose owner it knows.
func (w *window) authenticator() webauthn.AuthenticatorID {
	w.t.Helper()
	do(w, webauthn.Enable, webauthn.EnableParams{})
	return do(w, webauthn.AddVirtualAuthenticator, webauthn.AddVirtualAuthenticatorParams{Options: &webauthn.VirtualAuthenticatorOptions{
		Protocol: webauthn.AuthenticatorProtocolCtap2, Transport: webauthn.AuthenticatorTransportInternal,
		HasResidentKey: true, HasUserVerification: true, IsUserVerified: true, AutomaticPresenceSimulation: true}}).AuthenticatorID
}

func TestAPasskeyIsAddedUsedCopiedAndRemoved(t *testing.T) {
	h := story(t)
	ada := h.person(t, "Ada")
	w := h.open(t, ada, look{})
	device := w.authenticator()
	w.visit("/me/security")
	w.accessible("security")
	w.fill("#passkey [name=name]", "this laptop")
	w.press("\r")
	w.wait("the passkey", `document.querySelector(".rows b")?.textContent === "this laptop" && document.querySelector(".notice.good")`)
	w.expect("status of 409")
	w.fill("#passkey [name=name]", "again")
	w.press("\r")
	w.wait("that this device has one", `document.querySelector("#passkey [role=alert]").textContent`)

	w.live() // a socket that is about to open would find the session gone
	w.click(`form[action="/sign-out"] button`)
	w.at("/sign-in")
	w.visit("/sign-in?next=/threads")
	w.accessible("sign-in with passkeys")
	w.click("#passkey button")
	w.at("/threads")
	var counts bool // as a second factor: see account.Demand
	if err := h.db.QueryRow(t.Context(), `SELECT count(*) = 1 FROM account.session s JOIN account.passkey k ON k.id = s.passkey_id WHERE s.person_id = $1 AND s.created_at > k.created_at`, ada.ID).Scan(&counts); err != nil || !counts {
		t.Error("the session does not know its passkey", err)
	}
	w.visit("/me/security")
	w.click(".rows .more summary")
	w.fill(".rows .more [name=name]", "藍色金鑰")
	w.press("\r")
	w.wait("its new name, and that it was used", `document.querySelector(".rows b")?.textContent === "藍色金鑰" && document.querySelectorAll(".rows time").length === 2`)

	// A copy of it was used elsewhere: the counter here is behind, and both are closed.
	h.exec(t, `UPDATE account.passkey SET credential = jsonb_set(credential, '{authenticator,signCount}', '1000') WHERE person_id = $1`, ada.ID)
	w.live()
	w.click(`form[action="/sign-out"] button`)
	w.at("/sign-in")
	w.expect("status of 403")
	w.click("#passkey button")
	w.wait("that it is closed", `/copied/.test(document.querySelector("#passkey [role=alert]").textContent)`)
	h.exec(t, `UPDATE account.passkey SET credential = jsonb_set(credential, '{authenticator,signCount}', '0') WHERE person_id = $1`, ada.ID)
	w.click("#passkey button")
	w.wait("that it stays closed", `/copied/.test(document.querySelector("#passkey [role=alert]").textContent)`)
	w.signInByForm(ada.Handle, password)
	w.wait("to be in", `!location.pathname.startsWith("/sign-in") && document.readyState === "complete"`)
	w.visit("/me/security")
	w.wait("what became of it", `/copied/.test(document.querySelector(".rows strong").textContent)`)
	w.click(".rows .more summary")
	w.click(`.rows form[action$="/remove"] button`)
	w.wait("none", `!document.querySelector(".rows b")`)

	// One that is not known any more, and one that nobody unlocks.
	w.live()
	w.click(`form[action="/sign-out"] button`)
	w.at("/sign-in")
	w.expect("status of 401")
	w.click("#passkey button")
	w.wait("that nobody has it", `/Nobody here/.test(document.querySelector("#passkey [role=alert]").textContent)`)
	do(w, webauthn.SetUserVerified, webauthn.SetUserVerifiedParams{AuthenticatorID: device, IsUserVerified: false})
	w.click("#passkey button")
	w.wait("that none was given", `/No passkey/.test(document.querySelector("#passkey [role=alert]").textContent)`)

	// Under another name the pages say where it works.
	o := h.open(t, nil, look{})
	o.visit(fmt.Sprintf("http://127.0.0.1:%s/sign-in", h.url[len("http://localhost:"):]))
	o.wait("no button", `document.querySelector("#passkey").hidden`)
}
