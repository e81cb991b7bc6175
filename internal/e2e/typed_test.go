package e2e

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/chromedp/chromedp/kb"

	"howdah/internal/chat"
)

const inThread = "#thread-composer textarea"

// TestWhatIsTypedIsDoneOrSaidAsItWasMeant: in every box, and from what an older page has left.
func TestWhatIsTypedIsDoneOrSaidAsItWasMeant(t *testing.T) {
	h := story(t)
	ada, wei, eve := h.person(t, "Ada"), h.person(t, "Wei"), h.person(t, "Eve")
	room := ada.room(t, "public", "typed", wei, eve)
	question := ada.say(t, room, "what now?")
	a, b := h.enter(t, ada, room, look{}), h.enter(t, wei, room, look{language: "zh-TW", phone: true})
	topic := func(w *window, want string) {
		t.Helper()
		w.wait("the topic "+want, `document.getElementById("room-topic").textContent === `+quote(want))
	}

	// The page takes for a command what the rooms take for one.
	var texts []string
	for _, slash := range []string{"/", "／", " /", "\n/", "//", "", "\u3000/", "/ "} {
		for _, word := range []string{"topic", "主題", "me", "ME", "Me2", "usr/bin", "nothing-such", ""} {
			for _, rest := range []string{"", " ", " x", "\u3000茶", "\u3000", "\u00a0x", "\nx\ny", "\u0085x", "\ufeffx", "x", " /x", "\tx"} {
				texts = append(texts, slash+word+rest)
			}
		}
	}
	raw, err := json.Marshal(texts)
	if err != nil {
		t.Fatal(err)
	}
	taken := get[[]bool](a, `import(document.querySelector("script[src*=room\\.js]").src.replace("room.js", "outbox.js")).then((m) => `+string(raw)+`.map(m.isCommand))`)
	for i, text := range texts {
		if taken[i] != chat.IsCommand(text) {
			t.Errorf("%q: %t on the page, %t in the rooms", text, taken[i], chat.IsCommand(text))
		}
	}

	// In a thread, a command is done as it is in the room, and nobody sees it.
	for w, line := range map[*window]string{a: "/remind me in 2 hours to call the bank", b: "／提醒\u3000我\u30002小時後\u3000打電話給銀行"} {
		w.visit(fmt.Sprintf("/room/%d?thread=%d", room, question))
		w.live()
		w.fill(inThread, line)
		if w == b {
			w.click("#thread-composer .send")
		} else {
			w.press(kb.Enter)
		}
		w.wait("to be told", `document.querySelector("#thread .told:not([hidden], .bad) p")?.textContent && document.querySelector(`+quote(inThread)+`).value === ""`)
		w.accessible("a thread with what a command says")
	}
	a.expect(`status of 404 .*/commands`)
	a.fill(inThread, "/remnid me in 2 hours to call the lawyer")
	a.press(kb.Enter)
	a.wait("a command that there is not to stay mine", `document.querySelector("#thread .told.bad p")?.textContent.includes("/remnid") && document.querySelector(`+quote(inThread)+`).value.startsWith("/remnid")`)
	a.fill(inThread, "/topic tea")
	a.press(kb.Enter)
	topic(a, "tea")
	a.fill(inThread, " /topic is how one sets it") // a blank before it says it
	a.press(kb.Enter)
	a.wait("it to be said", `[...document.querySelectorAll("#thread-lines .body")].some((b) => b.innerText.trim() === "/topic is how one sets it")`)

	// A reply can be edited from where it stands, whatever the room's own page has forgotten.
	a.press(kb.ArrowUp)
	a.wait("its words", `document.querySelector(`+quote(inThread)+`).value.trim() === "/topic is how one sets it"`)
	a.press(kb.Escape)
	body := get[string](a, `fetch("/api/v1/rooms/`+fmt.Sprint(room)+`/messages/" + document.querySelector("#thread-lines .msg:last-child").dataset.seq).then((r) => r.json()).then((m) => m.body)`)
	if body != " /topic is how one sets it" {
		t.Errorf("%q", body)
	}

	// What an older page has left goes out as what it is; nothing that it might send lies where it looks.
	id := nextUUID()
	get[bool](a, fmt.Sprintf(`(localStorage.setItem("howdah.outbox.%d.%s", JSON.stringify({client_id: "%[2]s", room: %[3]d, body: "/topic from long ago", at: 1})), true)`, ada.ID, id, room))
	a.visit(fmt.Sprint("/room/", room))
	a.live()
	topic(a, "from long ago")
	a.wait("nothing to be left", `Object.keys(localStorage).every((key) => !key.startsWith("howdah.outbox."))`)

	// A command that is looked for leaves the draft where it is.
	a.compose("half a thought")
	get[bool](a, `(document.dispatchEvent(new KeyboardEvent("keydown", {key: "k", ctrlKey: true, bubbles: true})), true)`)
	a.wait("the palette", `document.getElementById("palette").open`)
	a.write("/topic")
	a.wait("the command", `document.querySelector("#palette-list [aria-selected=true] b")?.textContent === "/topic"`)
	a.press(kb.Enter)
	a.wait("the command in the box", `document.getElementById("body").value === "/topic " && !document.getElementById("mode").hidden`)
	a.write("coffee")
	a.press(kb.Enter)
	topic(a, "coffee")
	a.wait("the draft", `document.getElementById("body").value === "half a thought" && document.getElementById("mode").hidden`)

	// What somebody does stands with their name, also below what they said.
	a.compose("one")
	a.press(kb.Enter)
	a.compose("/me\u3000waves")
	a.press(kb.Enter)
	b.visit(fmt.Sprint("/room/", room))
	b.live()
	for _, w := range []*window{a, b} {
		w.wait("the deed on one line", `(() => {
			const line = document.querySelector("#lines .msg:has(.did)")
			const who = line?.querySelector(".who").getBoundingClientRect(), deed = line?.querySelector(".did").getBoundingClientRect()
			return who && who.width > 10 && Math.abs(who.bottom - deed.bottom) < 8 && who.right <= deed.left + 1 && !line.matches(".cont")
		})()`)
	}

	// Who is away is not here: neither in the count, nor called.
	b.wait("both to be here", `document.getElementById("here-count").textContent === "2"`)
	wei.call(t, "POST", fmt.Sprintf("/rooms/%d/commands", room), map[string]any{"client_id": nextUUID(), "line": "/away"})
	a.wait("one to be here", `document.getElementById("here-count").textContent === "1"`)
	offers := `[...document.querySelectorAll("#suggest:not([hidden]) li")].map((one) => one.innerText).join(" ")`
	a.compose("@")
	a.wait("everybody to be offered, and nobody who is here", offers+`.includes("@room") && !(`+offers+`).includes("@here") && (`+offers+`).includes("2 others")`)
	before := ada.say(t, room, "@here nobody")
	wei.call(t, "POST", fmt.Sprintf("/rooms/%d/commands", room), map[string]any{"client_id": nextUUID(), "line": "/back"})
	a.wait("both to be here again", `document.getElementById("here-count").textContent === "2"`)
	a.compose("")
	a.compose("@h")
	a.wait("the one who is here", offers+`.includes("one other")`)
	called := ada.say(t, room, "@here somebody")
	for seq, want := range map[int64]int{before: 0, called: 1} {
		var n int
		if err := h.db.QueryRow(t.Context(), `SELECT count(*) FROM chat.mention WHERE room_id = $1 AND seq = $2 AND person_id = $3`, room, seq, wei.ID).Scan(&n); err != nil || n != want {
			t.Errorf("%d called, want %d, %v", n, want, err)
		}
	}

	var said []string
	rows, err := h.db.Query(t.Context(), `SELECT body FROM chat.message WHERE room_id = $1 ORDER BY seq`, room)
	if err != nil {
		t.Fatal(err)
	}
	for rows.Next() {
		var one string
		if err := rows.Scan(&one); err != nil {
			t.Fatal(err)
		}
		said = append(said, one)
	}
	if have := strings.Join(said, "|"); have != "what now?| /topic is how one sets it|one|/me\u3000waves|@here nobody|@here somebody" {
		t.Error(have)
	}
}
