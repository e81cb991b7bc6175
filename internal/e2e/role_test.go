package e2e

import (
	"fmt"
	"net/http"
	"testing"
)

func TestAPrivateRoomIsInvisibleToOthers(t *testing.T) {
	h := story(t)
	ada, wei, eve := h.person(t, "Ada"), h.person(t, "Wei"), h.person(t, "Eve")
	room := ada.room(t, "private", "secret plans", wei)
	ada.say(t, room, "nobody else may read this")
	w := h.open(t, eve, look{})
	w.visit("/rooms")
	w.live()
	if get[bool](w, `document.body.innerHTML.includes("secret plans")`) {
		t.Error("the list of rooms tells of it")
	}
	w.expect("status of 404")
	w.visit(fmt.Sprint("/room/", room))
	w.wait("that there is no such room", `document.querySelector(".code").innerText === "404"`)
	for _, path := range []string{"", "/messages", "/members", "/since?seq=0"} {
		if _, status, err := eve.try(t.Context(), "GET", fmt.Sprintf("/rooms/%d%s", room, path), nil); err != nil || status != http.StatusNotFound {
			t.Errorf("GET %s: %d %v", path, status, err)
		}
	}

	// Brought in, she finds it in her sidebar at once, and loses it as fast.
	w.visit("/rooms")
	w.live()
	ada.call(t, "PUT", fmt.Sprintf("/rooms/%d/members/%d", room, eve.ID), map[string]any{})
	link := fmt.Sprintf(`#side a[data-room="%d"]`, room)
	w.click(link)
	w.at(fmt.Sprint("/room/", room))
	w.live()
	w.sees("nobody else may read this")
	ada.call(t, "DELETE", fmt.Sprintf("/rooms/%d/members/%d", room, eve.ID), nil)
	w.wait("to be out", `!document.body.innerText.includes("nobody else may read this") && document.querySelector(".code")?.innerText === "404"`)
}

func TestMembersSeeNoButtonsThatWouldBeRefusedAndTheOwnerManages(t *testing.T) {
	h := story(t)
	ada, wei, ben := h.person(t, "Ada"), h.person(t, "Wei"), h.person(t, "Ben")
	room := ada.room(t, "public", "managed", wei)
	ada.say(t, room, "the owner's words")
	b := h.enter(t, wei, room, look{})
	b.click("#members-button")
	b.wait("the members", `document.querySelectorAll("#member-list li").length === 2`)
	if get[bool](b, `!!document.querySelector("#member-list details, form[action$='/remove'], form[action$='/settings']")`) {
		t.Error("a member is offered what only owners may do")
	}
	b.press("\x1b")
	b.hover("#lines .msg")
	if get[bool](b, `[...document.querySelectorAll("[data-do=edit], [data-do=delete]")].some((one) => !one.hidden)`) {
		t.Error("a member may edit or delete the owner's words")
	}
	b.post("a member's words")

	a := h.enter(t, ada, room, look{})
	a.sees("a member's words")
	a.hover("#lines .msg:last-child")
	a.wait("the owner may delete what others wrote, and not edit it", `!document.querySelector("[data-do=delete]").hidden && document.querySelector("[data-do=edit]").hidden`)
	a.click("#members-button")
	row := fmt.Sprintf(`#member-list li[data-person="%d"]`, wei.ID)
	a.click(row + " summary")
	get[bool](a, `(() => { document.querySelector(`+quote(row+" select")+`).value = "admin"; return true })()`)
	a.click(row + ` form[action$="/role"] button`)
	a.at(fmt.Sprint("/room/", room))
	a.live()
	b.wait("the other to be told", `[...document.querySelectorAll(".sys")].some((one) => one.innerText.includes("Ada made Wei admin"))`)

	a.click("#members-button")
	a.fill("#members [name=handle]", ben.Handle)
	a.click(`#members form[action$="/members"] button`)
	a.at(fmt.Sprint("/room/", room))
	b.wait("the newcomer", `[...document.querySelectorAll(".sys")].some((one) => one.innerText.includes("Ada brought in Ben"))`)

	a.live()
	a.click("#members-button")
	a.click(row + " summary")
	a.click(row + ` form[action$="/remove"] button`)
	b.wait("to look in from outside", `!document.getElementById("composer") && document.querySelector(".join button")`)
	b.click(".join button")
	b.live()
	b.post("back again")
	a.sees("back again")
}

func TestRoomsAreMadeRenamedAndLeft(t *testing.T) {
	h := story(t)
	ada, wei := h.person(t, "Ada"), h.person(t, "Wei")
	w := h.open(t, ada, look{})
	w.visit("/rooms")
	w.fill("[name=name]", "garden "+ada.Handle)
	w.fill("[name=topic]", "beans")
	w.click(".stack button.main")
	w.at("/room/")
	w.live()
	room := get[int64](w, `+location.pathname.split("/")[2]`)
	other := h.open(t, wei, look{})
	other.visit("/rooms")
	other.click(fmt.Sprintf(`form[action="/room/%d/join"] button`, room))
	other.at(fmt.Sprint("/room/", room))
	other.live()
	w.click(`button[popovertarget="settings"]`)
	w.fill("#settings [name=name]", "orchard "+ada.Handle)
	w.fill("#settings [name=topic]", "apples")
	w.click("#settings button.main")
	other.wait("the new name, without loading", `document.getElementById("room-name").innerText.includes("orchard") && document.getElementById("room-topic").innerText === "apples" &&
		[...document.querySelectorAll("#rooms .name")].some((one) => one.innerText.startsWith("orchard"))`)
	other.wait("and who did it", `[...document.querySelectorAll(".sys")].some((one) => one.innerText.includes("Ada named this room orchard"))`)
	other.visit(fmt.Sprint("/room/", room)) // the page has it from the server then
	other.live()
	other.wait("who did it, after loading", `[...document.querySelectorAll(".sys")].some((one) => one.innerText.includes("Ada named this room orchard")) &&
		document.querySelectorAll(".sys").length === new Set([...document.querySelectorAll(".sys")].map((one) => one.dataset.seq)).size`)
	other.click(`button[popovertarget="settings"]`)
	other.click("#settings .danger")
	other.wait("to have left", fmt.Sprintf(`location.pathname !== "/room/%d" && !document.querySelector('#rooms a[data-room="%d"]')`, room, room))
	w.wait("one member", `document.getElementById("members-count").innerText === "1"`)
}
