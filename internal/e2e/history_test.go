package e2e

import (
	"fmt"
	"strings"
	"testing"
)

// watchScrolling tells from frame to frame whether a line that stays on the screen moves by anything else than our own
// scrolling, and how many nodes the history has at most.
const watchScrolling = `(() => {
	const box = document.getElementById("history"), list = document.getElementById("lines")
	const seen = () => {
		const frame = box.getBoundingClientRect()
		const tops = new Map()
		for (const line of list.querySelectorAll(".msg")) {
			const top = line.getBoundingClientRect().top
			if (top > frame.top && top < frame.bottom - 40) tops.set(line.id, top)
		}
		return tops
	}
	let before = seen()
	window.watched = { jump: 0, where: "", most: 0, frames: 0 }
	const look = () => {
		const now = seen()
		for (const [id, top] of now) {
			const moved = Math.abs(top - (before.get(id) ?? top))
			if (moved > watched.jump) { watched.jump = moved; watched.where = id + " at frame " + watched.frames }
		}
		watched.most = Math.max(watched.most, list.childElementCount)
		watched.frames++
		before = now
		requestAnimationFrame(look)
	}
	requestAnimationFrame(look)
	// One turn of the wheel, and two frames to draw.
	window.turn = (by) => new Promise((done) => {
		box.scrollBy(0, by)
		before = seen()
		requestAnimationFrame(() => requestAnimationFrame(() => done(Math.round(box.scrollTop))))
	})
	return true
})()`

func TestHistoryScrollsBothWaysWithoutAJumpInABoundedWindow(t *testing.T) {
	h := story(t)
	ada, wei := h.person(t, "Ada"), h.person(t, "Wei")
	room := ada.room(t, "public", "history", wei)
	const all = 480
	for i := range all { // lines of many heights
		who := ada
		if i%7 < 3 {
			who = wei
		}
		text := fmt.Sprintf("message %d", i)
		switch i % 5 {
		case 1:
			text += strings.Repeat(" 這是一段比較長的文字，會折成好幾行。", i%9)
		case 2:
			text += "\n\n```\n" + strings.Repeat("code\n", i%6) + "```"
		case 3:
			text += "\n" + strings.Repeat("- item\n", i%5)
		}
		who.say(t, room, text)
	}
	w := h.enter(t, ada, room, look{})
	w.wait("to be at the end", `Math.abs(document.getElementById("history").scrollTop) < 2 && `+shows("message 479")+` && document.getElementById("newest").hidden`)
	get[bool](w, watchScrolling)

	turns := 0
	for !get[bool](w, `document.getElementById("earlier").hidden && turn(-700).then(() => document.getElementById("begin").getBoundingClientRect().bottom > 60)`) {
		get[float64](w, `turn(-700)`)
		if turns++; turns > 3*all {
			t.Fatalf("the beginning was never reached\n%s", w.says())
		}
	}
	w.wait("the first message", shows("message 0"))
	if get[bool](w, shows("message 479")) {
		t.Error("the window holds both ends of a long history")
	}

	wei.say(t, room, "something new at the end")
	w.wait("a button that counts", `!document.getElementById("newest").hidden && document.getElementById("newest").innerText.includes("1 new message")`)

	for turns = 0; !get[bool](w, `document.getElementById("later").hidden && document.getElementById("newest").hidden`); turns++ {
		get[float64](w, `turn(700)`)
		if turns > 3*all {
			t.Fatalf("the end was never reached\n%s", w.says())
		}
	}
	w.sees("something new at the end")
	if get[bool](w, shows("message 0")) {
		t.Error("the window holds both ends of a long history")
	}
	got := get[struct {
		Jump, Most, Frames float64
		Where              string
	}](w, "watched")
	t.Logf("%+v", got)
	if got.Jump > 1.5 {
		t.Errorf("a line jumped by %.1f pixels: %s", got.Jump, got.Where)
	}
	if got.Most > 420 {
		t.Errorf("the history had %.0f nodes", got.Most)
	}
	gaps := get[string](w, `(() => { const seqs = [...document.querySelectorAll("#lines > .msg")].map((one) => +one.dataset.seq)
		for (let i = 1; i < seqs.length; i++) if (seqs[i] !== seqs[i - 1] + 1) return seqs[i - 1] + " then " + seqs[i]
		return "" })()`)
	if gaps != "" {
		t.Errorf("messages are missing or out of order: %s", gaps)
	}

	// From the past the button leads home.
	for range 12 {
		get[float64](w, `turn(-700)`)
	}
	w.click("#newest")
	w.wait("to be at the end", `Math.abs(document.getElementById("history").scrollTop) < 2 && document.getElementById("newest").hidden`)
}

// shows tells whether a message that begins with this text is in the window of lines.
func shows(text string) string {
	return `[...document.querySelectorAll("#lines > .msg > .body")].some((b) => b.textContent.trim().split(/[\s]{2,}|\n/)[0].startsWith(` + quote(text) + `))`
}

func TestMoreUnreadThanAPageHoldsLeadsToTheFirst(t *testing.T) {
	h := story(t)
	ada, wei := h.person(t, "Ada"), h.person(t, "Wei")
	room := ada.room(t, "public", "missed", wei)
	read := ada.say(t, room, "the last one read")
	wei.call(t, "PUT", fmt.Sprintf("/rooms/%d/read", room), map[string]any{"seq": read})
	for i := range 110 {
		ada.say(t, room, fmt.Sprintf("missed %d", i))
	}
	w := h.enter(t, wei, room, look{})
	w.wait("the end", shows("missed 109"))
	w.click("#unread")
	w.wait("the first unread one below its divider", `document.querySelector(".new + .msg")?.innerText.includes("missed 0") && !document.getElementById("unread")`)
	w.wait("it to be in view", `(() => { const r = document.querySelector(".new").getBoundingClientRect(); return r.top > 60 && r.bottom < innerHeight - 100 })()`)
	w.wait("what was read before it", shows("the last one read"))

	quiet := h.open(t, wei, look{scriptless: true}) // nothing is read without scripts but by looking
	quiet.visit(fmt.Sprint("/room/", room))
	quiet.wait("the end", shows("missed 109"))
}

func TestALinkToAMessageOpensAroundIt(t *testing.T) {
	h := story(t)
	ada := h.person(t, "Ada")
	room := ada.room(t, "public", "links")
	var seqs []int64
	for i := range 130 {
		seqs = append(seqs, ada.say(t, room, fmt.Sprintf("message %d of many", i)))
	}
	aim := seqs[20]
	w := h.open(t, ada, look{})
	w.visit(fmt.Sprintf("/room/%d?at=%d", room, aim))
	w.live()
	pointed := fmt.Sprintf(`(() => { const r = document.getElementById("m%d")?.getBoundingClientRect(); return r && r.top > 60 && r.bottom < innerHeight - 100 })()`, aim)
	w.wait("the message in view", pointed)
	w.wait("it to be pointed out", fmt.Sprintf(`document.querySelector("#m%d.found")`, aim))
	w.wait("the way to the end", `!document.getElementById("newest").hidden && !`+shows("message 129"))
	w.click("#newest")
	w.sees("message 129 of many")
	w.wait("the address to let go", `!location.search`)

	w.hover(fmt.Sprintf("#m%d", seqs[128]))
	w.click(fmt.Sprintf("#m%d .when", seqs[128]))
	w.at(fmt.Sprintf("/room/%d?at=%d", room, seqs[128]))
	w.wait("the message", fmt.Sprintf(`document.getElementById("m%d")`, seqs[128]))

	// Without scripts the same address shows the same, and the steps lead on.
	quiet := h.open(t, ada, look{scriptless: true})
	quiet.visit(fmt.Sprintf("/room/%d?at=%d", room, aim))
	quiet.wait("the message", fmt.Sprintf(`document.getElementById("m%d")`, aim))
	quiet.click("#later")
	quiet.wait("later ones", shows("message 60"))
}
