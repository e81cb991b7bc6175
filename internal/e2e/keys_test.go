package e2e

import (
	"testing"

	"github.com/chromedp/chromedp/kb"
)

// TestTheKeysAreShownWhereOneIs: from a message, from the box with what was begun there, and by a click; the focus is where it was.
func TestTheKeysAreShownWhereOneIs(t *testing.T) {
	h := story(t)
	ada := h.person(t, "Ada")
	w := h.enter(t, ada, ada.room(t, "public", "keys"), look{language: "zh-TW"})
	const open, shut = `document.getElementById("keys").open`, `!document.getElementById("keys").open`
	w.post("something to stand on")
	w.sees("something to stand on")
	get[bool](w, `(document.querySelector("#lines > .msg").focus(), true)`)
	w.press("?")
	w.wait("the keys", open+` && document.getElementById("keys").innerText.includes("在討論串中回覆")`)
	w.accessible("the list of keys")
	w.remember("keys")
	w.press(kb.Escape)
	w.wait("the message again", shut+` && document.activeElement?.matches("#lines > .msg")`)
	w.compose("why? half a")
	get[bool](w, `(document.dispatchEvent(new KeyboardEvent("keydown", { key: "/", ctrlKey: true, bubbles: true })), true)`)
	w.wait("the keys", open)
	w.click("#keys button")
	w.wait("what was begun", shut+` && document.activeElement?.id === "body" && document.getElementById("body").value === "why? half a"`)
	w.click(".under [data-keys]")
	w.wait("the keys", open)
	w.press("?")
	w.wait("no keys", shut)
}
