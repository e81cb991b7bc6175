package e2e

import (
	"fmt"
	"testing"
)

// signUp fills in the form that makes an account.
func (w *window) signUp(name, handle string) {
	w.t.Helper()
	w.fill("[name=name]", name)
	w.fill("[name=handle]", handle)
	w.fill("[name=password]", password)
	w.click("button.main")
}

func (w *window) signInByForm(handle, secret string) {
	w.t.Helper()
	w.fill("[name=handle]", handle)
	w.fill("[name=password]", secret)
	w.click("button.main")
}

func TestSetUpByTheLinkThenInviteThenSignIn(t *testing.T) {
	h := unsettled(t)
	a := h.open(t, nil, look{})
	a.visit("/")
	a.wait("that nobody lives here", `document.querySelector("h1").textContent === "Nobody lives here yet"`)
	a.visit(h.setup)
	a.expect("status of 400")
	a.fill("[name=name]", "Ada Lovelace")
	a.fill("[name=handle]", "ada")
	a.fill("[name=password]", "short")
	a.click("button.main")
	a.wait("what is wrong with the password", `document.querySelector("[role=alert]") && document.querySelector("[name=handle]").value === "ada"`)
	a.signUp("Ada Lovelace", "ada")
	a.at("/room/")
	a.live()
	a.post("Is anybody here?")
	a.sees("Is anybody here?")

	again := h.open(t, nil, look{})
	again.expect("status of 404")
	again.visit(h.setup)
	again.wait("the link to be refused", `document.querySelector(".code").textContent === "404" && !document.querySelector("form[action^='/setup']")`)

	a.click(`a[href="/people"]`)
	a.at("/people")
	a.click(`form[action="/people/invites"] button`)
	a.wait("the link", `document.getElementById("fresh")?.value.includes("/invite/")`)
	link := get[string](a, `document.getElementById("fresh").value`)
	b := h.open(t, nil, look{language: "zh-TW"})
	b.visit(link)
	b.wait("who invites", `document.body.innerText.includes("Ada Lovelace 為你保留了一個座位")`)
	b.signUp("林小薇", "小薇")
	b.at("/room/")
	b.live()
	b.sees("Is anybody here?")
	b.post("我在")

	a.click(`#rooms a[data-room]`)
	a.at("/room/")
	a.sees("我在")
	a.wait("the newcomer is a member", `document.getElementById("members-count").textContent === "2"`)

	b.click(`form[action="/sign-out"] button`)
	b.at("/sign-in")
	b.expect("status of 401")
	b.signInByForm("小薇", "not the password")
	b.wait("a refusal in words", `document.querySelector("[role=alert]") && document.querySelector("[name=handle]").value === "小薇" && !document.querySelector("[name=password]").value`)
	b.signInByForm("小薇", password)
	b.at("/room/")

	// Somebody who guesses is slowed down, and told for how long.
	c := h.open(t, nil, look{})
	c.expect("status of 4(01|29)")
	c.visit("/sign-in")
	get[bool](c, `(async () => { for (let i = 0; i < 11; i++) await fetch("/sign-in", { method: "POST", body: new URLSearchParams({ handle: "ada", password: "guess " + i }) }); return true })()`)
	c.signInByForm("ada", "one more guess")
	c.wait("to be told to wait", `/second/.test(document.querySelector("[role=alert]")?.textContent)`)
}

func TestWhoIsNotSignedInIsLedBackToWhereTheyWanted(t *testing.T) {
	h := story(t)
	ada := h.person(t, "Ada")
	room := ada.room(t, "public", "wanted")
	w := h.open(t, nil, look{})
	w.visit(fmt.Sprintf("/room/%d?at=1", room))
	w.at("/sign-in?next=")
	w.signInByForm(ada.Handle, password)
	w.at(fmt.Sprintf("/room/%d?at=1", room))
	w.live()
	w.visit("/sign-in?next=//example.org/")
	w.at("/room/") // never to somebody else's house
	w.expect("status of 404")
	w.visit("/room/987654321")
	w.wait("an error page with a way on", `document.querySelector(".code").textContent === "404" && document.querySelector("a.button[href='/']")`)
}

func TestASessionEndedElsewhereLeavesThePage(t *testing.T) {
	h := story(t)
	ada := h.person(t, "Ada")
	room := ada.room(t, "public", "sessions")
	other := *ada
	other.session = h.session(t, ada)
	a, b := h.enter(t, ada, room, look{}), h.enter(t, &other, room, look{})
	b.visit("/me")
	b.click(`form[action="/me/sessions/end"] button`)
	a.at(fmt.Sprintf("/sign-in?next=%%2Froom%%2F%d", room))
	b.wait("one session to be left", `document.querySelectorAll("form[action^='/me/sessions/'][action$='/end']").length <= 1`)
	b.visit(fmt.Sprint("/room/", room))
	b.live()
}
