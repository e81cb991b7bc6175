package e2e

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
)

// post sends something to an address, as a program that knows nothing of us.
func post(t *testing.T, address, body string) int {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, address, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	return response.StatusCode
}

// TestAProgramIsLetIntoARoom: somebody makes a webhook with the keyboard, a program speaks through it, and two people see it live, as a bot's, one of them in Chinese.
func TestAProgramIsLetIntoARoom(t *testing.T) {
	h := story(t)
	ada, wei := h.person(t, "Ada"), h.person(t, "Wei")
	room := ada.room(t, "private", "builds", wei)
	w := h.enter(t, wei, room, look{language: "zh-TW", phone: true, dark: true})
	a := h.enter(t, ada, room, look{})
	a.click(`.bar [popovertarget="settings"]`)
	a.click(`#settings a[href$="/hooks"]`)
	a.at(fmt.Sprintf("/room/%d/hooks", room))
	get[bool](a, `(document.querySelector("form[action$='/incoming'] input[name=name]").focus(), true)`)
	a.write("Build server")
	a.press("\t")
	a.press("\t")
	a.press(" ") // may call everybody
	a.press("\r")
	a.wait("the address", `document.getElementById("fresh")?.value.includes("/api/hooks/hwi_")`)
	a.accessible("a new address")
	a.remember("connect-new")
	address := get[string](a, `document.getElementById("fresh").value`)
	said := `{"text":"*Build 7* is done: <https://ci.example.org/7|log> <!channel>","attachments":[{"color":"danger","title":"2 tests failed","fields":[{"title":"Branch","value":"main"}]}]}`
	if code := post(t, address, said); code != http.StatusOK {
		t.Fatal(code)
	}
	post(t, address, `{}`)
	w.wait("2 tests failed", `document.querySelector("main").innerText.includes("2 tests failed")`)
	w.wait("that a bot said it", `[...document.querySelectorAll("#lines .msg .bot")].some((one) => !one.hidden && one.innerText === "機器人")`)
	w.accessible("a bot's message")
	w.remember("connect-message")
	ada.call(t, "POST", fmt.Sprintf("/rooms/%d/outgoing", room), map[string]any{"name": "Deployer", "url": "http://10.1.2.3/x", "hears": "word", "word": "!deploy"})
	a.visit(fmt.Sprintf("/room/%d/hooks", room))
	a.wait("The payload says nothing", `document.querySelector("main").innerText.includes("The payload says nothing")`)
	a.expect("status of 409")
	a.click(`form[action$="/test"] button`)
	a.wait("not a public address", `document.querySelector("main").innerText.includes("not a public address")`)
	a.accessible("connections")
	a.remember("connect-hooks")
	w.visit(fmt.Sprintf("/room/%d", room))
	if get[bool](w, `!!document.querySelector("a[href$='/hooks']")`) {
		t.Error("a member is led to what only admins may do")
	}

	h.exec(t, `UPDATE account.person SET role = 'admin' WHERE id = $1`, ada.ID)
	ada.call(t, "POST", "/bots", map[string]any{"name": "Helper", "handle": "helper"})
	a.visit("/bots")
	a.fill(`form[action$="/tokens"] input[name=name]`, "ci")
	a.click(`form[action$="/tokens"] button`)
	a.wait("the token", `document.getElementById("fresh")?.value.startsWith("hwd_")`)
	a.accessible("bots")
	a.remember("connect-bots")
}
