package e2e

import (
	"strings"

	"github.com/chromedp/chromedp/kb"
)

// onThePageWatch: the superuser eve, whom somebody has made with psql, is on the page Watch; the trail is filtered as one types; an entry opens its whole session; the alert is answered there, with scripts and
// without; what comes meanwhile shows by itself; and what is shown can be taken away as a file.
func onThePageWatch(w, plain *window, do func(string)) {
	w.t.Helper()
	const alert, row = `document.querySelector("#alerts > .incidents > .incident")`, `[...document.querySelectorAll("#trail [data-seq]")]`
	w.visit("/watch")
	w.live()
	w.wait("the alert", alert+`?.textContent.includes("eve")`)
	w.wait("the superuser on the trail", row+`.some((r) => r.innerText.includes("CREATE ROLE eve SUPERUSER"))`)
	do(`CREATE ROLE zoe LOGIN`)
	w.wait("what comes, by itself", row+`.some((r) => r.innerText.includes("CREATE ROLE zoe"))`)

	w.click("#filter [name=text]")
	for _, part := range []string{"role", " e", "ve"} {
		w.write(part)
	}
	w.wait("what the filter says, and nothing else", row+`.length > 0 && `+row+`.every((r) => r.innerText.includes("eve")) && location.search === "?text=role+eve"`)
	w.wait("the focus to stay", `document.activeElement.name === "text" && document.activeElement.value === "role eve"`)
	file := get[string](w, `fetch(document.querySelector(".files a").href).then((answer) => answer.text())`)
	if !strings.HasPrefix(file, "seq,time,") || !strings.Contains(file, "CREATE ROLE eve SUPERUSER") || strings.Contains(file, "zoe") {
		w.t.Errorf("the file has %q", file)
	}
	w.click("#trail [data-seq] a")
	w.wait("the session around it", `document.querySelector(".steps")?.innerText.includes("CREATE ROLE kim LOGIN") && document.querySelector(".steps [aria-current]")?.innerText.includes("eve")`)
	w.accessible("a session")

	w.visit("/watch")
	w.live()
	w.click("#alerts > .incidents > .incident summary")
	w.wait("why", alert+`.querySelector("details").open`)
	w.accessible("the page Watch")
	w.click("#alerts > .incidents [value=acknowledged]")
	w.wait("nothing to be open", `!`+alert+` && [...document.querySelectorAll("#answered .alert")].some((a) => a.dataset.state === "acknowledged")`)

	// Without scripts, in the other language.
	plain.visit("/watch")
	plain.fill("#filter [name=text]", "ROLE EVE")
	plain.press(kb.Enter)
	const asked = `location.pathname === "/watch" && new URLSearchParams(location.search).get("text") === "ROLE EVE" && document.readyState === "complete"` // a form sends its fields in its own order
	plain.wait("the filter in the address", asked)
	plain.wait("the same", row+`.length > 0 && `+row+`.every((r) => r.innerText.includes("eve")) && document.body.innerText.includes("筆")`)
	plain.click("#answered > summary")
	plain.click("#answered .incident.s-critical summary")
	plain.click("#answered .incident.s-critical [value=reopened]")
	plain.wait("the filter in the address still", asked)
	plain.wait("it to be open", alert+`?.querySelector(".alert").dataset.state === "open"`)
	w.wait("it to be open, by itself", alert+`?.querySelector(".alert").dataset.state === "open"`)
}
