package e2e

import (
	"fmt"

	"github.com/chromedp/chromedp/kb"
)

// onThePageTime: the house's own backups are on the page Time; a click chooses a moment, which shows what was done then and what a way back to it takes; keys and buttons zoom from there to a minute; and all of
// it is there without scripts, in the other language.
func onThePageTime(w, plain *window) {
	w.t.Helper()
	w.visit("/time?span=1d")
	w.live()
	// The first backups are made when the house has started; the page finds them by itself.
	w.wait("a way back", `document.querySelector(".lanes .b-good") && document.querySelector(".lanes .m-full")`)
	w.wait("the alert", `document.querySelector(".lanes .tick.s-critical")`)
	w.accessible("the page Time")
	w.click("#time-table > summary")
	w.wait("the same as a table", `document.querySelector("#time-table[open] tbody").innerText.includes("Critical")`)

	at := get[string](w, `document.querySelector(".lanes .m-full").closest("a").getAttribute("href")`)
	get[bool](w, `(() => { document.querySelector(".lanes .m-full").closest("a").dispatchEvent(new MouseEvent("click", { bubbles: true, cancelable: true })); return true })()`)
	w.at(at)
	w.wait("what a way back takes", `document.querySelector("#moment .verdict") && document.getElementById("way-table").innerText.startsWith("howdah recover table SCHEMA.NAME --at 2")`)
	w.wait("what was done then", `document.querySelector("#moment .time-acts").innerText.includes("ROLE")`)
	w.accessible("a moment")
	get[bool](w, `document.getElementById("lanes").focus() ?? true`)
	for _, span := range []string{"6h", "1h"} {
		w.press("+")
		w.wait(span, fmt.Sprintf(`new URLSearchParams(location.search).get("span") === %q && JSON.parse(document.getElementById("picture").dataset.frame).span === %q && document.querySelector("#picture .chosen")`, span, span))
	}
	w.wait("the focus to stay", `document.activeElement.id === "lanes"`)
	before := get[string](w, `document.querySelector("#moment-h").innerText`)
	w.press(kb.ArrowRight)
	w.wait("the next moment", fmt.Sprintf(`document.querySelector("#moment-h").innerText > %q`, before))

	plain.visit("/time?span=1d")
	plain.wait("a way back", `document.querySelector(".lanes .b-good")`)
	plain.click("#time-table > summary")
	get[bool](plain, `(() => { [...document.querySelectorAll("#time-table tbody tr")].find((r) => r.innerText.includes("嚴重")).querySelector("a").click(); return true })()`)
	plain.wait("the moment, nearer", `location.search.includes("span=6h") && document.getElementById("moment-h") && document.body.innerText.includes("可還原")`)
	plain.click("#t-out")
	plain.wait("more of the past", `location.search.includes("span=1d") && document.getElementById("moment-h")`)
}
