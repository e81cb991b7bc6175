package e2e

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"howdah/internal/chat"
)

// manage opens what one may do with a person on the page People, and gives the selector of a form there.
func (w *window) manage(id int64, what string) string {
	w.t.Helper()
	form := fmt.Sprintf(`form[action="/people/%d/%s"]`, id, what)
	get[bool](w, `(document.querySelector(`+quote(form)+`).closest("details").open = true)`)
	return form
}

// TestWhoRunsTheHouseSeesWhoChangedWhat: an owner changes a role and invites, and an admin finds it, in Chinese, on a phone.
func TestWhoRunsTheHouseSeesWhoChangedWhat(t *testing.T) {
	h := story(t)
	ada := h.person(t, "Ada")
	o := h.open(t, h.owner, look{})
	o.visit("/people?q=" + ada.Handle)
	form := o.manage(ada.ID, "role")
	get[bool](o, `(document.querySelector(`+quote(form+" select")+`).value = "admin", true)`)
	o.click(form + " button")
	o.wait("it to be done", `document.querySelector(".notice")`)
	o.visit(fmt.Sprintf("/trail?person=%d", ada.ID))
	o.wait("who did it", `document.querySelector(".rows li:first-child")?.innerText.includes("Given another role") && document.querySelector(".rows del")?.textContent === "member" && document.querySelector(".rows ins")?.textContent === "admin"`)
	o.accessible("the changes")
	o.remember("running-trail")

	w := h.open(t, ada, look{language: "zh-TW", phone: true, dark: true})
	w.visit("/trail?by=" + h.owner.Handle)
	w.wait("the owner's", `document.querySelector(".rows li b")`)
	get[bool](w, `(document.querySelector("select[name=action]").value = "person.role", document.querySelector("select[name=action]").focus(), true)`)
	w.click(".filter .go button")
	w.wait("the filter", `location.search.includes("action=person.role") && document.readyState === "complete"`)
	w.wait("only that", `[...document.querySelectorAll(".rows li b")].every((one) => one.textContent === "變更角色") && document.querySelector("main").innerText.includes(`+quote("@"+ada.Handle)+`)`)
	w.accessible("the changes in Chinese")
	w.remember("running-trail-phone")
	csv := get[string](w, `(async () => (await fetch(document.querySelector("a[download]").href)).text())()`)
	if !strings.Contains(csv, "person.role,") || !strings.Contains(csv, "'@"+ada.Handle) { // no formula for a spreadsheet
		t.Error(csv)
	}
	b := h.open(t, h.person(t, "Bob"), look{})
	b.visit("/people")
	if get[bool](b, `!!document.querySelector("a[href='/trail'], a[href='/spaces']")`) {
		t.Error("a member is led to what only admins may see")
	}
	b.expect("status of 403")
	b.visit("/trail")
	b.wait("to be refused", `document.querySelector(".code")?.textContent === "403"`)
}

// TestARoomKeepsItsMessagesForATime: a rule is tried, set by the keyboard and told, and what is too old goes from open pages, threads and the search.
func TestARoomKeepsItsMessagesForATime(t *testing.T) {
	h := story(t)
	ada, wei := h.person(t, "Ada"), h.person(t, "Wei")
	room := ada.room(t, "private", "short", wei)
	root := ada.say(t, room, "an old xylophone")
	ada.say(t, room, "another xylophone")
	h.exec(t, `UPDATE chat.message SET at = at - interval '60 days' WHERE room_id = $1`, room)
	ada.call(t, "POST", fmt.Sprintf("/rooms/%d/messages", room), map[string]any{"client_id": nextUUID(), "body": "a young answer", "thread": root})
	ada.say(t, room, "a young marimba")
	w := h.enter(t, wei, room, look{language: "zh-TW", phone: true, dark: true})
	a := h.enter(t, ada, room, look{})
	a.click(`.bar [popovertarget="settings"]`)
	a.click(`#settings a[href$="/retention"]`)
	a.at(fmt.Sprintf("/room/%d/retention", room))
	a.wait("what holds", `document.getElementById("holds").textContent.includes("for ever")`)
	a.click(`input[name=rule][value=days]`)
	a.fill(`input[name=days]`, "30")
	a.press("\r")
	a.wait("what would go", `document.getElementById("goes")?.textContent.includes("2 messages") && document.getElementById("backups").textContent.includes("until")`)
	a.accessible("what would go")
	a.remember("running-retention")
	get[bool](a, `(document.querySelector("#plan form button").focus(), true)`)
	a.press("\r")
	a.wait("it to be set", `document.querySelector(".notice") && document.getElementById("holds").textContent.includes("for 30 days")`)
	w.wait("to be told", `document.querySelector("#lines").innerText.includes("設定這裡的訊息只保存 30 天")`)
	w.sees("an old xylophone")

	if rooms := chat.Open(t.Context(), h.db, h.db, nil); true { // a day later
		_, err := rooms.Trim(t.Context(), time.Now().Add(25*time.Hour))
		rooms.Close()
		if err != nil {
			t.Fatal(err)
		}
	}
	w.wait("the old ones to go", `!document.querySelector("#lines").innerText.includes("xylophone") && document.querySelector("#lines").innerText.includes("a young marimba")`)
	w.accessible("a room that has forgotten")
	w.remember("running-forgotten")
	w.visit(fmt.Sprintf("/room/%d?thread=%d", room, root))
	w.live()
	w.wait("an empty beginning", `document.querySelector("#thread-lines .msg.gone") && document.querySelector("#thread-lines").innerText.includes("a young answer")`)
	a.visit("/search?q=xylophone")
	a.wait("nothing", `!document.querySelector("main").innerText.includes("an old xylophone")`)
	a.visit(fmt.Sprintf("/room/%d", room))
	a.live()
	a.wait("where it begins", `!document.getElementById("begin").hidden && document.querySelectorAll("#lines .msg").length === 1`)
	w.expect("status of 403")
	w.visit(fmt.Sprintf("/room/%d/retention?rule=days&days=1", room))
	w.wait("what holds, and no form", `document.getElementById("holds").textContent.includes("30") && !document.querySelector("main form")`)
}

// TestAnAdminLooksAfterPeopleAndRooms: a guest for one room, somebody signed out elsewhere, a room archived under who reads it, a bot for one room.
func TestAnAdminLooksAfterPeopleAndRooms(t *testing.T) {
	h := story(t)
	ada, bob := h.person(t, "Ada"), h.person(t, "Bob")
	room, old := ada.room(t, "private", "guests"), ada.room(t, "public", "old", bob)
	bob.say(t, old, "the last word")
	h.exec(t, `UPDATE account.person SET role = 'admin' WHERE id = $1`, ada.ID)
	a := h.enter(t, ada, room, look{})
	b := h.enter(t, bob, old, look{language: "zh-TW", phone: true, dark: true})

	a.visit("/people")
	get[bool](a, `(document.querySelector("select[name=role]").value = "guest", document.querySelector(".ticks").open = true)`)
	a.fill("input[name=uses]", "1")
	a.click(fmt.Sprintf(`.ticks input[value="%d"]`, room))
	a.click(`form[action="/people/invites"] button`)
	a.wait("the link", `document.getElementById("fresh")?.value.includes("/invite/")`)
	a.accessible("an invitation for guests")
	link := get[string](a, `document.getElementById("fresh").value`)
	g := h.open(t, nil, look{})
	g.visit(link)
	g.signUp("Gus Guest", fmt.Sprint("gus", h.people.Add(1)))
	g.at(fmt.Sprintf("/room/%d", room))
	g.live()
	if n := get[int](g, `document.querySelectorAll("#rooms a[data-room]").length`); n != 1 {
		t.Error("a guest is in", n, "rooms")
	}
	g.post("I am here")
	late := h.open(t, nil, look{})
	late.expect("status of 404")
	late.visit(link)
	late.wait("that it is used up", `document.querySelector(".code")?.textContent === "404"`)

	a.visit("/spaces")
	a.wait("the rooms", `document.querySelector(`+quote(fmt.Sprintf(`form[action="/spaces/%d/archive"]`, old))+`)`)
	a.accessible("rooms and space")
	a.remember("running-spaces")
	a.click(fmt.Sprintf(`form[action="/spaces/%d/archive"] button`, old))
	b.wait("that it is archived", `!document.getElementById("composer") && document.querySelector("main").innerText.includes("已封存") && document.querySelector("#lines").innerText.includes("the last word")`)
	b.live()
	b.accessible("an archived room")
	b.remember("running-archived")

	a.visit(fmt.Sprintf("/people?what=member&q=%s", bob.Handle))
	if n := get[int](a, `document.querySelectorAll(".rows > li > .face").length`); n != 1 {
		t.Error(n, "people are found")
	}
	a.visit(fmt.Sprintf("/people/%d", bob.ID))
	a.wait("where he is", `document.querySelector("#places-h + .rows")?.innerText.includes("old")`)
	a.accessible("one person")
	a.remember("running-person")
	b.expect("Authentication failed|status of 401") // where the page has no connection at that moment
	a.click(fmt.Sprintf(`form[action="/people/%d/sessions/end"] button`, bob.ID))
	b.at("/sign-in")

	bot := int64(ada.call(t, "POST", "/bots", map[string]any{"name": "Keeper", "handle": fmt.Sprint("keeper", ada.ID)})["id"].(float64))
	ada.call(t, "PUT", fmt.Sprintf("/rooms/%d/members/%d", room, bot), map[string]any{})
	a.visit("/bots")
	form := fmt.Sprintf(`form[action="/bots/%d/tokens"]`, bot)
	get[bool](a, `(document.querySelector(`+quote(form+" .ticks")+`).open = true)`)
	a.fill(form+" input[name=name]", "one room")
	a.click(form + fmt.Sprintf(` .ticks input[value="%d"]`, room))
	a.click(form + " > button")
	a.wait("the token", `document.getElementById("fresh")?.value.startsWith("hwd_")`)
	a.accessible("bots with rooms")
	a.remember("running-bots")
	token := get[string](a, `document.getElementById("fresh").value`)
	reach := func(room int64) int {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, fmt.Sprintf("%s/api/v1/rooms/%d", h.url, room), nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer "+token)
		response, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		_, _ = io.Copy(io.Discard, response.Body)
		return response.StatusCode
	}
	if in, out := reach(room), reach(old); in != http.StatusOK || out != http.StatusNotFound {
		t.Error(in, out)
	}
	a.click(fmt.Sprintf(`form[action="/bots/%d/disable"] button`, bot))
	a.wait("it to be disabled", `document.querySelector(`+quote(fmt.Sprintf(`form[action="/bots/%d/enable"]`, bot))+`)`)
	if in := reach(room); in != http.StatusUnauthorized {
		t.Error(in)
	}
}
