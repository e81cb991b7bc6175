package e2e

import (
	"fmt"
	"testing"

	"github.com/chromedp/chromedp/kb"
)

// TestPinsSavedMessagesAndDraftsAreOnAllDevices: Ada has two, in two languages, and Wei looks on.
func TestPinsSavedMessagesAndDraftsAreOnAllDevices(t *testing.T) {
	h := story(t)
	ada, wei := h.person(t, "Ada"), h.person(t, "Wei")
	room := ada.room(t, "public", "kept", wei)
	question := ada.say(t, room, "what now?")
	wei.say(t, room, "the number is 42")
	line := h.wire(t)
	desk, phone, b := h.enter(t, ada, room, look{through: line}), h.enter(t, ada, room, look{language: "zh-TW", phone: true, dark: true}), h.enter(t, wei, room, look{})
	value := func(w *window, selector, want string) {
		t.Helper()
		w.wait("the words "+want, `document.querySelector(`+quote(selector)+`).value === `+quote(want))
	}

	// Pinned by the keyboard, seen by all, listed.
	get[bool](desk, `(document.querySelector("#lines .msg:last-child").focus(), true)`)
	desk.press("p")
	for _, w := range []*window{desk, phone, b} {
		w.wait("the pin", `document.querySelector("#lines .msg:last-child .pinned span")?.textContent.includes("Ada")`)
	}
	desk.press("s")
	desk.wait("it to be saved", `document.querySelector("[data-do=save]").ariaPressed === "true"`)
	desk.accessible("a room with a pin")
	get[bool](phone, `(document.querySelector("#lines .msg:last-child").focus(), true)`)
	phone.wait("it to be saved here, too", `document.querySelector("[data-do=save]").ariaPressed === "true"`)
	b.visit(fmt.Sprintf("/room/%d/pins", room))
	b.wait("the list", `document.querySelector(".kept .body")?.textContent.includes("42")`)
	b.accessible("the pinned messages")
	phone.visit("/saved")
	phone.wait("the list", `document.querySelector(".kept .body")?.textContent.includes("42")`)
	phone.accessible("what is saved")
	phone.click(".kept button")
	phone.wait("it to be taken away", `!document.querySelector(".kept")`)
	desk.wait("it to be taken away here, too", `document.querySelector("[data-do=save]").ariaPressed === "false"`)
	phone.visit(fmt.Sprint("/room/", room))
	phone.live()

	// What is written at the desk stands on the phone, and the other way round.
	desk.compose("half a thought")
	value(phone, "#body", "half a thought")
	phone.fill("#body", "half a thought, and more")
	value(desk, "#body", "half a thought, and more")
	for _, w := range []*window{desk, phone} {
		w.visit(fmt.Sprintf("/room/%d?thread=%d", room, question))
		w.live()
	}
	desk.fill(inThread, "in the thread")
	value(phone, inThread, "in the thread")
	value(desk, "#body", "half a thought, and more")

	// Sent without a connection, and the page gone: what went out is no draft, on no device, and what the phone has written meanwhile is still there.
	desk.fill(inThread, "")
	value(phone, inThread, "")
	desk.visit(fmt.Sprint("/room/", room))
	desk.live()
	desk.expectAway()
	line.cutOff()
	desk.wait("to be away", `document.getElementById("state").dataset.state !== "open"`)
	desk.fill("#body", "half a thought, and the end")
	desk.press(kb.Enter)
	desk.wait("it to wait", `document.querySelector("#pending li")`)
	value(phone, "#body", "half a thought, and more")
	line.mend()
	desk.sees("half a thought, and the end")
	value(desk, "#body", "")
	value(phone, "#body", "")
	phone.visit(fmt.Sprint("/room/", room))
	phone.live()
	value(phone, "#body", "")
	if n := h.count(t, room, "half a thought, and the end"); n != 1 {
		t.Errorf("sent %d times", n)
	}
}
