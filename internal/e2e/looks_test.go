package e2e

import (
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/accessibility"
	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/chromedp/kb"

	"howdah/internal/chat"
)

func TestTheLanguageFollowsTheBrowserAndCanBeSet(t *testing.T) {
	h := story(t)
	ada := h.person(t, "Ada")
	room := ada.room(t, "public", "languages")
	w := h.enter(t, ada, room, look{language: "zh-TW,zh,en"})
	w.wait("Chinese", `document.documentElement.lang === "zh-TW" && document.getElementById("body").placeholder.startsWith("傳訊息到") && document.getElementById("state").textContent === "已連線"`)
	w.post("一則訊息")
	w.wait("the day in Chinese", `document.querySelector(".day").innerText === "今天"`)
	w.visit("/me")
	w.click(`button[name=locale][value=en]`)
	w.wait("English in spite of the browser", `document.documentElement.lang === "en" && document.querySelector("button[name=locale][value=en]").ariaPressed === "true"`)
	w.visit(fmt.Sprint("/room/", room))
	w.live()
	w.wait("English", `document.querySelector(".day").innerText === "Today" && document.getElementById("state").textContent === "Connected"`)
	w.visit("/me")
	w.click(`button[name=locale][value=""]`)
	w.wait("the browser's again", `document.documentElement.lang === "zh-TW"`)

	out := h.open(t, nil, look{language: "fr-FR"})
	out.visit("/sign-in")
	out.wait("English where there is no better", `document.documentElement.lang === "en"`)
	out.click(`a[hreflang="zh-TW"]`)
	out.wait("what was chosen", `document.documentElement.lang === "zh-TW" && document.querySelector("h1").innerText === "歡迎回來"`)
	out.visit("/sign-in")
	out.wait("the choice to stay", `document.documentElement.lang === "zh-TW"`)
	out.expect("status of 401")
	out.signInByForm("nobody-here", "no password of theirs")
	out.wait("an error in Chinese", `/[\u4e00-\u9fff]{4}/.test(document.querySelector("[role=alert]")?.innerText)`)
}

func TestLightAndDarkFollowTheSystemAndCanBeSet(t *testing.T) {
	h := story(t)
	ada := h.person(t, "Ada")
	const dark = `getComputedStyle(document.body).backgroundColor.match(/\d+/g).slice(0, 3).every((n) => n < 80)`
	a, b := h.open(t, ada, look{}), h.open(t, ada, look{dark: true})
	for _, w := range []*window{a, b} {
		w.visit("/me")
	}
	a.wait("light", "!"+dark)
	b.wait("dark", dark)
	b.click(`button[name=theme][value=light]`)
	b.wait("light, as set", "!"+dark+` && document.documentElement.dataset.theme === "light"`)
	b.click(`button[name=theme][value=dark]`)
	b.wait("dark, as set", dark)
	a.visit("/me")
	a.wait("dark in the other browser of the same person", dark)
}

func TestOnAPhoneTheDrawerOpensAndTheButtonSends(t *testing.T) {
	h := story(t)
	ada := h.person(t, "Ada")
	one, two := ada.room(t, "public", "one"), ada.room(t, "public", "two")
	ada.say(t, two, "a-very-long-word-"+strings.Repeat("without-an-end", 20)+"\n\n```\n"+strings.Repeat("a wide line of code ", 20)+"\n```")
	w := h.enter(t, ada, one, look{phone: true})
	narrow := `document.documentElement.scrollWidth <= innerWidth && document.getElementById("main").scrollWidth <= innerWidth`
	w.wait("no drawer", `getComputedStyle(document.getElementById("side")).display === "none" && `+narrow)
	w.click(`.bar [popovertarget="side"]`)
	w.wait("the drawer", `document.getElementById("side").matches(":popover-open")`)
	w.click(fmt.Sprintf(`#side a[data-room="%d"]`, two))
	w.at(fmt.Sprint("/room/", two))
	w.live()
	w.wait("nothing wider than the screen", narrow)
	w.compose("first line")
	w.press(kb.Enter)
	w.write("second line")
	w.wait("a new line and no message", `document.getElementById("body").value === "first line\nsecond line" && !`+shows("first line"))
	w.wait("the composer on the screen", `document.querySelector(".send").getBoundingClientRect().bottom <= innerHeight`)
	w.click(".send")
	w.wait("both lines in one message", `[...document.querySelectorAll("#lines .body")].at(-1).innerText.trim() === "first line\nsecond line"`)
	w.click("#members-button")
	w.wait("the members within the screen", `(() => { const r = document.getElementById("members").getBoundingClientRect(); return r.width > 100 && r.right <= innerWidth && r.bottom <= innerHeight + 1 && r.top > 50 })()`)
}

func TestEnterThatBelongsToAnInputMethodDoesNotSend(t *testing.T) {
	h := story(t)
	ada := h.person(t, "Ada")
	room := ada.room(t, "public", "input")
	w := h.enter(t, ada, room, look{})
	key := func(kind input.DispatchKeyEventType, name string, code int64) {
		t.Helper()
		do(w, input.DispatchKeyEvent, input.DispatchKeyEventParams{Type: kind, Key: name, Code: "Enter", WindowsVirtualKeyCode: code})
	}
	w.compose("")
	do(w, input.ImeSetComposition, input.ImeSetCompositionParams{Text: "ㄋㄧˇ", SelectionStart: 3, SelectionEnd: 3})
	key(input.DispatchKeyEventTypeRawKeyDown, "Enter", 229) // takes the candidate
	w.write("你")
	key(input.DispatchKeyEventTypeKeyUp, "Enter", 229)
	do(w, input.ImeSetComposition, input.ImeSetCompositionParams{Text: "ㄏㄠˇ", SelectionStart: 3, SelectionEnd: 3})
	key(input.DispatchKeyEventTypeRawKeyDown, "Enter", 13) // some say so only by isComposing
	w.write("好")
	key(input.DispatchKeyEventTypeKeyUp, "Enter", 13)
	w.wait("the words in the box", `document.getElementById("body").value === "你好"`)
	get[bool](w, `new Promise((done) => setTimeout(() => done(true), 80))`) // an Enter that is no longer the composition's
	if get[bool](w, `!!document.querySelector("#lines .msg, #pending li")`) {
		t.Error("it was sent while composing")
	}
	w.press(kb.Enter)
	w.sees("你好")

	// Safari ends the composition before the Enter that ended it.
	get[bool](w, `(() => { const box = document.getElementById("body"); box.value = "再見"
		box.dispatchEvent(new CompositionEvent("compositionstart")); box.dispatchEvent(new CompositionEvent("compositionend"))
		return box.dispatchEvent(new KeyboardEvent("keydown", { key: "Enter", bubbles: true, cancelable: true })) })()`)
	if value := get[string](w, `document.getElementById("body").value`); value != "再見" {
		t.Errorf("the box holds %q", value)
	}
}

func TestWithoutScriptsAMessageCanBePosted(t *testing.T) {
	h := story(t)
	ada, wei := h.person(t, "Ada"), h.person(t, "Wei")
	room := ada.room(t, "public", "plain", wei)
	ada.say(t, room, "hello **there**")
	w := h.open(t, wei, look{scriptless: true})
	w.visit(fmt.Sprint("/room/", room))
	w.sees("hello there")
	w.fill("#body", "posted by a plain form")
	w.click(".send")
	w.at(fmt.Sprint("/room/", room))
	w.sees("posted by a plain form")
	h.once(t, room, "posted by a plain form")
	w.expect("status of 4")
	w.fill("#body", "   ")
	get[bool](w, `(() => { document.getElementById("composer").submit(); return true })()`)
	w.wait("what is wrong", `document.querySelector("[role=alert]")`)
	long := strings.Repeat("too long ", chat.MaxBody/8)
	w.fill("#body", long)
	get[bool](w, `(() => { document.body.dataset.before = "1"; document.getElementById("composer").submit(); return true })()`)
	w.wait("the words to be there still", `document.readyState === "complete" && !document.body.dataset.before && document.querySelector("[role=alert]") && document.getElementById("body").value.length === `+strconv.Itoa(len(long)))
	if n := get[int](w, `document.querySelectorAll("main button:not([hidden]), main a:not([hidden])").length`); n < 3 {
		t.Errorf("only %d things to press", n)
	}
}

func TestScreenReadersHearNewLinesOnlyAndFindTheirWay(t *testing.T) {
	h := story(t)
	ada, wei := h.person(t, "Ada"), h.person(t, "Wei")
	room := ada.room(t, "public", "reader", wei)
	for i := range 120 {
		wei.say(t, room, fmt.Sprintf("old %d", i))
	}
	w := h.enter(t, ada, room, look{})
	for !get[bool](w, `document.getElementById("earlier").hidden`) {
		get[bool](w, `new Promise((done) => { document.getElementById("history").scrollBy(0, -2000); requestAnimationFrame(() => done(true)) })`)
	}
	const heard = `document.getElementById("announce").innerText.trim()`
	if said := get[string](w, heard); said != "" {
		t.Errorf("old pages were read aloud: %q", said)
	}
	wei.say(t, room, "brand **new**")
	w.wait("the new line", heard+` === "Wei: brand new"`)
	w.click("#newest")
	w.post("my own words")
	w.sees("my own words")
	if said := get[string](w, heard); strings.Contains(said, "my own") {
		t.Errorf("one's own words were read back: %q", said)
	}
	w.checkNames("the room", "main", "navigation", "region", "log", "textbox")
	w.click("#members-button")
	w.wait("the members", `document.querySelector("#member-list li")`)
	w.checkNames("the members", "main")
	for _, page := range []string{"/rooms", "/people", "/me"} {
		w.visit(page)
		w.live()
		w.checkNames(page, "main", "navigation")
	}

	// The history is one stop for Tab, with arrow keys from line to line.
	w.visit(fmt.Sprint("/room/", room))
	w.live()
	if n := get[int](w, `document.querySelectorAll('#lines > [tabindex="0"]').length`); n != 1 {
		t.Errorf("%d lines are stops for Tab", n)
	}
	get[bool](w, `(() => { document.querySelector('#lines > [tabindex="0"]').focus(); return true })()`)
	w.press(kb.ArrowUp)
	w.wait("the line above", `document.activeElement === [...document.querySelectorAll("#lines > .msg")].at(-2)`)
	w.press(kb.Tab)
	w.wait("its time", `document.activeElement.matches(".when")`)
}

// checkNames checks that everything that can be used has a name, and that the landmarks are there.
func (w *window) checkNames(page string, landmarks ...string) {
	w.t.Helper()
	tree := do(w, accessibility.GetFullAXTree, accessibility.GetFullAXTreeParams{})
	seen := map[string]int{}
	text := func(v *accessibility.Value) string {
		if v == nil {
			return ""
		}
		return strings.Trim(string(v.Value), `"`)
	}
	for _, node := range tree.Nodes {
		role, name := text(node.Role), strings.TrimSpace(text(node.Name))
		if node.Ignored {
			continue
		}
		seen[role]++
		switch role {
		case "button", "link", "textbox", "combobox", "radio", "navigation", "region", "complementary", "DisclosureTriangle", "toolbar", "listbox", "option":
			if name == "" {
				w.t.Errorf("%s: a %s has no name", page, role)
			}
		}
	}
	for _, one := range landmarks {
		if seen[one] == 0 {
			w.t.Errorf("%s has no %s: %v", page, one, seen)
		}
	}
	if seen["main"] > 1 {
		w.t.Errorf("%s has %d main parts", page, seen["main"])
	}
	if twice := get[string](w, `[...document.querySelectorAll("[id]")].map((one) => one.id).find((id, i, all) => all.indexOf(id) !== i) ?? ""`); twice != "" {
		w.t.Errorf("%s: id %s is there twice", page, twice)
	}
}
