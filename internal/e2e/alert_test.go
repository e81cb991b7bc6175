package e2e

import (
	"fmt"
	"testing"

	"github.com/chromedp/chromedp/kb"
	"github.com/jackc/pgx/v5"

	"howdah/internal/account"
	"howdah/internal/cluster"
)

// TestAnAlertIsAnsweredInTheRoom: what is out of order is answered under its message, for all to see at once, with scripts and without, by hand and by keyboard; and
// what gets louder afterwards is told anew.
func TestAnAlertIsAnsweredInTheRoom(t *testing.T) {
	h := disaster(t)
	ada := h.person(t, "Ada")
	if err := h.accounts.SetRole(t.Context(), h.owner.account, ada.ID, account.Admin); err != nil {
		t.Fatal(err)
	}
	dsn, err := h.cluster.DSN(cluster.Superuser, cluster.Database)
	if err != nil {
		t.Fatal(err)
	}
	by, err := pgx.Connect(t.Context(), dsn+" application_name=psql")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = by.Close(t.Context()) }()
	do := func(statement string) {
		t.Helper()
		if _, err := by.Exec(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
	do(`CREATE ROLE kim LOGIN`)
	do(`ALTER ROLE kim VALID UNTIL 'infinity'`)
	w, plain := h.open(t, h.owner, look{}), h.open(t, ada, look{scriptless: true, language: "zh-TW"})
	w.visit("/")
	w.wait("the room of the house", `document.querySelector('#side a[href^="/room/"] span')?.closest("nav, #side").innerText.includes("ops")`)
	ops := int64(0)
	for _, one := range h.owner.call(t, "GET", "/rooms", nil)["rooms"].([]any) {
		if room := one.(map[string]any); room["kind"] == "ops" {
			ops = int64(room["id"].(float64))
		}
	}
	room := fmt.Sprint("/room/", ops)
	w.visit(room)
	w.live()
	const last = `[...document.querySelectorAll("#lines > .msg:has(.alert)")].at(-1)`
	stands := func(w *window, state string) {
		t.Helper()
		w.wait("the alert to be "+state, last+`.querySelector(".alert").dataset.state === "`+state+`"`)
	}
	says := func(w *window, text string) {
		t.Helper()
		w.wait(text, last+`.querySelector(".said").innerText.includes(`+quote(text)+`)`)
	}
	w.wait("the alert", last+`?.innerText.includes("kim")`)
	stands(w, "open")
	w.click("#lines .msg:has(.alert) summary")
	w.wait("what would be covered", last+`.querySelector(".acts").innerText.includes("alter role")`)
	w.accessible("an open alert")
	get[bool](w, last+`.querySelector("[value=acknowledged]").focus() ?? true`)
	w.press(kb.Enter)
	stands(w, "acknowledged")
	says(w, "Olive Owner has acknowledged this")
	w.wait("the focus to stay on the message", `document.activeElement === `+last)

	plain.visit(room)
	stands(plain, "acknowledged")
	says(plain, "Olive Owner 已確認")
	plain.click("#lines .msg:has(.alert) [value=reopened]")
	stands(plain, "open")
	plain.click("#lines .msg:has(.alert) summary")
	plain.wait("what would be covered", last+`.querySelector(".acts").innerText.includes("alter role") && getComputedStyle(`+last+`.querySelector(".cover")).display !== "none"`)
	plain.click("#lines .msg:has(.alert) [name=days][value='7']")
	plain.click("#lines .msg:has(.alert) [value=muted]")
	stands(plain, "muted")
	stands(w, "muted") // which had nothing but its open page
	says(w, "Ada muted this until")

	do(`CREATE ROLE eve SUPERUSER`)
	w.wait("a message of its own", `document.querySelectorAll("#lines > .msg:has(.alert)").length > 1 && `+last+`.innerText.includes("eve")`)
	stands(w, "open")
	w.click("#lines .msg:last-of-type [value=mine]")
	says(w, "Olive Owner: “this was me”")
	stands(w, "open")
	w.wait("a word of caution", `!`+last+`.querySelector(".caution").hidden`)
	w.accessible("a critical alert")
	onThePageWatch(w, plain, do)
	onThePageTime(w, plain)
}
