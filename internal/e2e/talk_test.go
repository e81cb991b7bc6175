package e2e

import (
	"fmt"
	"strings"
	"testing"

	"github.com/chromedp/chromedp/kb"
)

func TestTwoPeopleTalkBothWays(t *testing.T) {
	h := story(t)
	ada, wei := h.person(t, "Ada Lovelace"), h.person(t, "Wei 林小薇")
	room := ada.room(t, "public", "talk", wei)
	a, b := h.enter(t, ada, room, look{}), h.enter(t, wei, room, look{language: "zh-TW"})

	a.post("Good morning, Wei")
	b.sees("Good morning, Wei")
	b.post("早安，昨晚睡得好嗎？")
	a.sees("早安，昨晚睡得好嗎？")
	a.sees("Good morning, Wei")
	for i := range 5 {
		a.post(fmt.Sprint("quick ", i))
	}
	b.wait("all five in order", `[...document.querySelectorAll("#lines .body")].map((b) => b.innerText.trim()).join().endsWith("quick 0,quick 1,quick 2,quick 3,quick 4")`)
	a.wait("nothing left to send", `!document.querySelector("#pending li")`)
	a.wait("both are here", `document.getElementById("here-count").textContent === "2"`)

	b.press("t") // a key in the message box, where the cursor is after sending
	a.wait("that the other is typing", `document.getElementById("typing").textContent.includes("Wei 林小薇")`)
}

func TestScriptsAndMarkupInNamesAndMessagesAreHarmless(t *testing.T) {
	h := story(t)
	evil := h.person(t, `"><script>alert(1)</script>`)
	ada := h.person(t, "Ada")
	room := evil.room(t, "public", `<b>bold</b> & "quoted"`, ada)
	a, b := h.enter(t, ada, room, look{}), h.enter(t, evil, room, look{})
	for _, text := range []string{
		`<script>document.title = "taken"</script>`,
		`<img src=x onerror="document.title = 'taken'">`,
		`[click](javascript:document.title='taken') ![x](javascript:alert(1)) <a href="javascript:alert(1)">x</a>`,
		"```\n</code></pre><script>document.title='taken'</script>\n```",
		`<style>* { display: none }</style> <iframe src="https://site.example"></iframe>`,
		`[x](data:text/html,<script>alert(1)</script>) <https://site.example/"onmouseover="alert(1)>`,
		`<!-- --> <![CDATA[ ]]> &lt;script&gt; \<b>`,
	} {
		b.post(text)
	}
	b.post("the end")
	a.sees("the end")
	b.sees("the end")
	for _, w := range []*window{a, b} {
		for what, code := range map[string]string{
			"an element that writes scripts": `#lines :is(script, img, iframe, style, object, form, input)`,
			"a link that is none":            `#lines .body a:not([href^="http"], [href^="mailto:"])`,
			"a script's attribute":           `[onerror], [onmouseover], [onload], #lines [style]`,
		} {
			if found := get[string](w, `document.querySelector(`+quote(code)+`)?.outerHTML.slice(0, 300) ?? ""`); found != "" {
				t.Errorf("%s: %s", what, found)
			}
		}
		if title := get[string](w, "document.title"); strings.Contains(title, "taken") || !strings.Contains(title, `<b>bold</b> & "quoted"`) {
			t.Errorf("title %q", title)
		}
	}
	for _, page := range []string{"/people", "/rooms", "/me"} { // the same names, elsewhere
		b.visit(page)
		b.live()
	}
}

func TestMarkdownIsShown(t *testing.T) {
	h := story(t)
	ada := h.person(t, "Ada")
	room := ada.room(t, "public", "markdown")
	w, dark := h.enter(t, ada, room, look{}), h.enter(t, ada, room, look{dark: true})
	w.compose("**bold** _soft_ `code` ~~gone~~\n\n- one\n- two\n\n> quoted\n\n```go\nfunc main() { x := 1 + len(\"two\") } // three\n```\n```diff\n+ in\n- out\n```\nsee https://site.example/a_b_c and [this](https://site.example)\nnext line")
	w.click(".send")
	w.wait("every form", `["strong", "em", "code", "del", "ul > li + li", "blockquote", "pre > code", "a[href='https://site.example/a_b_c'][rel~=noopener]", "br"]
		.every((one) => document.querySelector("#lines .body " + one))`)
	for _, one := range []*window{w, dark} {
		for range 20 { // a busy machine shows it plain, and in colours when it is asked again
			if get[bool](one, `["k", "f", "m", "s", "c", "i", "d"].every((c) => document.querySelector("#lines pre ." + c))`) {
				break
			}
			one.visit(fmt.Sprint("/room/", room))
			one.live()
		}
		one.wait("code in colours", `["k", "f", "m", "s", "c", "i", "d"].every((c) => document.querySelector("#lines pre ." + c))`)
		one.accessible("a room with code")
	}
}

func TestAMessageThatIsTooLongIsCountedInBytesBeforeItIsSent(t *testing.T) {
	h := story(t)
	ada := h.person(t, "Ada")
	room := ada.room(t, "public", "long")
	w := h.enter(t, ada, room, look{})
	w.post(strings.Repeat("字", 16001)) // three bytes each
	w.wait("to be told", `document.querySelector("#limit.over")?.textContent === "too long by 1 character" && document.getElementById("body").value.length === 16001`)
	w.press(kb.Backspace)
	w.wait("that it fits", `document.getElementById("limit").textContent.startsWith("room for") && !document.querySelector("#limit.over")`)
	w.press(kb.Enter)
	w.wait("it to be taken", `document.querySelector("#lines .msg .body")?.textContent.trim().length === 16000`)
}

func TestEditAndDeleteAreSeenByTheOther(t *testing.T) {
	h := story(t)
	ada, wei := h.person(t, "Ada"), h.person(t, "Wei")
	room := ada.room(t, "public", "edits", wei)
	a, b := h.enter(t, ada, room, look{}), h.enter(t, wei, room, look{})
	a.post("teh first")
	a.post("the second")
	b.sees("teh first")
	b.sees("the second")
	a.sees("the second")

	// The arrow key brings back the last message of one's own.
	a.press(kb.ArrowUp)
	a.wait("editing", `!document.getElementById("mode").hidden && document.getElementById("body").value === "the second"`)
	a.post("the second, edited")
	b.sees("the second, edited")
	b.wait("the mark", `[...document.querySelectorAll("#lines .msg")].at(-1).querySelector(".edited:not([hidden])")`)
	a.wait("the box to be empty again", `document.getElementById("mode").hidden && document.getElementById("body").value === ""`)

	// The pencil does so for any.
	a.hover("#lines .msg")
	a.click("[data-do=edit]")
	a.wait("editing", `document.getElementById("body").value === "teh first"`)
	a.post("the first")
	b.sees("the first")

	// Deleting asks once.
	a.hover("#lines .msg")
	a.click("[data-do=delete]")
	a.click("[data-do=delete].armed")
	b.wait("it to be gone", `document.querySelector("#lines .msg.gone")`)
	if text := get[string](b, `document.getElementById("lines").innerText`); strings.Contains(text, "the first") {
		t.Errorf("words of a deleted message are still there: %q", text)
	}
	b.hover("#lines .msg:last-child")
	if get[bool](b, `[...document.querySelectorAll("[data-do=edit], [data-do=delete]")].some((one) => !one.hidden)`) {
		t.Error("somebody else's message offers to be edited")
	}
	b.visit(fmt.Sprint("/room/", room)) // and as the server draws it
	b.live()
	b.wait("the same after loading", `document.querySelectorAll("#lines .msg.gone").length === 1 && document.querySelectorAll("#lines .edited:not([hidden])").length === 1`)
}

func TestUnreadAndMentionsAreCountedAndClearedByReading(t *testing.T) {
	h := story(t)
	ada, wei := h.person(t, "Ada"), h.person(t, "Wei")
	quiet := ada.room(t, "public", "quiet", wei)
	busy := ada.room(t, "public", "busy", wei)
	a, b := h.enter(t, ada, busy, look{}), h.enter(t, wei, quiet, look{})
	badge := func(kind string) string {
		return fmt.Sprintf(`#side a[data-room="%d"] .%s:not([hidden]) > span`, busy, kind)
	}
	a.post("nobody in particular")
	b.wait("one unread", `document.querySelector(`+quote(badge("count"))+`)?.textContent === "1" && document.title.startsWith("(1)")`)
	a.post("@" + wei.Handle + " this one is for you")
	b.wait("a mention", `document.querySelector(`+quote(badge("mention"))+`)?.textContent === "1" && document.querySelector(`+quote(badge("count"))+`)?.textContent === "2"`)
	a.post("but not mail@" + wei.Handle + " and `@" + wei.Handle + "`")
	b.wait("three unread, one mention", `document.title.startsWith("(3)") && document.querySelector(`+quote(badge("mention"))+`)?.textContent === "1"`)
	regretted := ada.say(t, busy, "@"+wei.Handle+" I take this back")
	b.wait("four unread, two mentions", `document.title.startsWith("(4)") && document.querySelector(`+quote(badge("mention"))+`)?.textContent === "2"`)
	ada.remove(t, busy, regretted)
	b.wait("what was taken back not to count", `document.title.startsWith("(3)") && document.querySelector(`+quote(badge("mention"))+`)?.textContent === "1"`)
	b.visit(fmt.Sprint("/room/", quiet)) // the server counts the same
	b.wait("the same after loading", `document.title.startsWith("(3)") && document.querySelector(`+quote(badge("mention"))+`)?.textContent === "1"`)

	b.click(fmt.Sprintf(`#side a[data-room="%d"]`, busy))
	b.at(fmt.Sprint("/room/", busy))
	b.wait("the divider above what is new", `!document.querySelector(".new") || document.querySelector(".new + .msg")`)
	b.wait("my handle to stand out", `document.querySelector(".mention.mine")`)
	b.wait("everything read", `!document.title.startsWith("(") && !document.querySelector(`+quote(badge("count"))+`)`)
	b.visit(fmt.Sprint("/room/", quiet))
	b.live()
	b.wait("still read", `!document.title.startsWith("(")`)

	direct := int64(ada.call(t, "POST", "/direct", map[string]any{"person": wei.ID})["id"].(float64))
	ada.say(t, direct, "psst")
	b.wait("a direct room to appear with its count", fmt.Sprintf(`document.querySelector('#direct a[data-room="%d"] .count:not([hidden])') && document.title.startsWith("(1)")`, direct))
}
