package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/pquerna/otp/totp"
)

// code is what an app on somebody's phone shows, some half minutes from now.
func code(t *testing.T, secret string, later int) string {
	t.Helper()
	text, err := totp.GenerateCode(strings.ReplaceAll(secret, " ", ""), time.Now().Add(time.Duration(later)*30*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestASecondFactorIsSetUpAskedForLostAndTakenAway(t *testing.T) {
	h := disaster(t)
	ada := h.person(t, "Ada")
	w := h.open(t, nil, look{language: "zh-TW", phone: true})
	w.visit("/sign-in")
	w.signInByForm(ada.Handle, password)
	w.at("/room")
	w.visit("/me")
	w.click(`a[href="/me/security"]`)
	w.click(`form[action="/me/security/codes"] button`) // signed in just now: no password is asked for
	w.wait("the secret as text and as a picture", `document.getElementById("secret")?.value.length === 39 && document.querySelector("svg.qr path").getAttribute("d").length > 1000`)
	secret := get[string](w, `document.getElementById("secret").value`)
	w.expect("status of 401")
	w.fill("[name=code]", "000000")
	w.press("\r")
	w.wait("a refusal, with the same secret", `document.querySelector(".notice.bad") && document.getElementById("secret").value === `+quote(secret))
	first := code(t, secret, 0)
	w.fill("[name=code]", first)
	w.press("\r")
	w.wait("the recovery codes", `document.querySelector("#fresh")?.value.split("\n").length === 10`)
	w.accessible("fresh recovery codes")
	recovery := strings.Split(get[string](w, `document.querySelector("#fresh").value`), "\n")

	// Elsewhere, with the keyboard alone: the code is asked for, and the way leads to where one wanted to go.
	b := h.open(t, nil, look{})
	b.expect("status of 401")
	b.visit("/me/security")
	b.fill("[name=handle]", ada.Handle)
	b.press("\t")
	b.write(password)
	b.press("\r")
	b.at("/sign-in/code")
	b.accessible("asked for a code")
	b.wait("the field", `document.activeElement?.name === "code"`)
	b.write(first)
	b.press("\r")
	b.wait("that a code works once", `document.querySelector(".notice.bad")`)
	b.fill("[name=code]", recovery[0])
	b.press("\r")
	b.at("/me/security")
	b.wait("one recovery code less", `/9 recovery codes/.test(document.body.innerText)`)

	// The owner demands one of owners and admins, having one; who has none does nothing else first.
	grace := h.person(t, "Grace")
	h.exec(t, `UPDATE account.person SET role = 'admin' WHERE id = $1`, grace.ID)
	o, g := h.open(t, h.owner, look{}), h.enter(t, grace, grace.room(t, "public", "work"), look{})
	o.visit("/me/security")
	o.click(`form[action="/me/security/codes"] button`)
	o.wait("the secret", `document.getElementById("secret")`)
	o.fill("[name=code]", code(t, get[string](o, `document.getElementById("secret").value`), 0))
	o.press("\r")
	o.wait("it", `document.querySelector("#fresh")`)
	g.expect("status of 403")
	g.expect("WebSocket connection")
	o.visit("/people")
	o.click(`form[action="/people/demand"] button`)
	o.wait("that it is on", `/need a second factor/.test(document.body.innerText)`)
	g.at("/me/security")
	g.wait("what is owed", `document.querySelector(".notice.bad")`)
	g.accessible("owing a second factor")
	g.visit("/people")
	g.at("/me/security")
	if _, status, err := grace.try(t.Context(), "GET", "/rooms", nil); err != nil || status != 403 {
		t.Error(status, err)
	}
	g.click(`form[action="/me/security/codes"] button`)
	g.wait("the secret", `document.getElementById("secret")`)
	g.fill("[name=code]", code(t, get[string](g, `document.getElementById("secret").value`), 0))
	g.press("\r")
	g.wait("it", `document.querySelector("#fresh")`)
	g.visit("/people")
	g.at("/people")

	// Ada has lost all: the owner takes it away, and she is signed out everywhere.
	o.visit("/people")
	o.wait("everybody", `document.querySelector("form[action$='/factors/reset']")`)
	get[bool](o, `(document.querySelector("form[action='/people/`+fmt.Sprint(ada.ID)+`/factors/reset']").requestSubmit(), true)`)
	o.wait("that it is done", `/second factor is removed/.test(document.querySelector(".notice.good")?.textContent)`)
	b.visit("/me")
	b.at("/sign-in")
	b.signInByForm(ada.Handle, password)
	b.at("/me")
	if said := h.run(t, "password", h.owner.Handle); !strings.Contains(said, "--reset-second-factor") {
		t.Errorf("the command does not say that a code will be asked for:\n%s", said)
	}
	if said := h.run(t, "password", h.owner.Handle, "--reset-second-factor"); strings.Contains(said, "--reset-second-factor") {
		t.Error(said)
	}
}
