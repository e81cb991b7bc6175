package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp/kb"
	"github.com/jackc/pgx/v5"

	"howdah/internal/account"
	"howdah/internal/cluster"
)

// longer is how long a recovery may take, which is a server that is restored and replays WAL on a machine that others keep busy.
const longer = 15 * time.Minute

// waitLonger is wait for what a recovery has to come to.
func (w *window) waitLonger(what, expression string) {
	w.t.Helper()
	deadline := time.After(longer)
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		if holds, err := try[bool](w, "!!("+expression+")"); err == nil && holds {
			return
		}
		select {
		case <-deadline:
			w.keep("waiting")
			w.t.Fatalf("waited in vain for %s\n%s", what, w.says())
		case <-tick.C:
		}
	}
}

// remember keeps a picture beside those of the gallery.
func (w *window) remember(name string) {
	w.t.Helper()
	if *gallery == "" {
		return
	}
	png, err := w.shoot()
	if err == nil {
		err = os.MkdirAll(*gallery, 0o755) //nolint:gosec // pictures to show around
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(*gallery, name+".png"), png, 0o600)
	}
	if err != nil {
		w.t.Error(err)
	}
}

// TestTheWayBackFromTheAlertToTheTable: somebody drops a table; the alert offers the way back, the plan says what it takes, a person chooses, the house is killed while it is at it and lets it be chosen again, and the
// table is back with its rows, while people go on talking; then it is taken back again.
func TestTheWayBackFromTheAlertToTheTable(t *testing.T) {
	h := disaster(t)
	ada, wei := h.person(t, "Ada"), h.person(t, "Wei")
	if err := h.accounts.SetRole(t.Context(), h.owner.account, ada.ID, account.Admin); err != nil {
		t.Fatal(err)
	}
	connect := func(role, more string) *pgx.Conn {
		t.Helper()
		dsn, err := h.cluster.DSN(role, cluster.Database)
		if err != nil {
			t.Fatal(err)
		}
		conn, err := pgx.Connect(t.Context(), dsn+more)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close(t.Context()) })
		return conn
	}
	do := func(by *pgx.Conn, statements ...string) {
		t.Helper()
		for _, sql := range statements {
			if _, err := by.Exec(t.Context(), sql); err != nil {
				t.Fatalf("%s: %v", sql, err)
			}
		}
	}
	do(connect(cluster.Owner, ""), `CREATE SCHEMA shop`, `CREATE TABLE shop.orders (id int PRIMARY KEY, t text NOT NULL)`, `INSERT INTO shop.orders SELECT g, md5(g::text) FROM generate_series(1, 3000) g`,
		`CREATE TABLE shop.line (id int PRIMARY KEY, o int NOT NULL REFERENCES shop.orders)`, `INSERT INTO shop.line SELECT g, g FROM generate_series(1, 100) g`)
	h.run(t, "backup", "physical")
	reader := connect(cluster.Superuser, "")
	sum := func() (sum string) {
		t.Helper()
		err := reader.QueryRow(t.Context(), `SELECT count(*) || ' ' || md5(string_agg(o::text, ',' ORDER BY id)) || (SELECT string_agg(conname, ' ' ORDER BY conname) FROM pg_constraint WHERE connamespace = 'shop'::regnamespace) FROM shop.orders o`).Scan(&sum)
		if err != nil {
			t.Fatal(err)
		}
		return sum
	}
	before := sum()

	room := ada.room(t, "public", "meanwhile", wei)
	line := h.wire(t)
	talk := h.enter(t, wei, room, look{through: line})
	talk.expectAway()
	said := 0
	talking := func() {
		t.Helper()
		said++
		talk.post(fmt.Sprint("word ", said))
		talk.sees(fmt.Sprint("word ", said))
	}
	talking()

	do(connect(cluster.Superuser, " application_name=psql"), `DROP TABLE shop.orders CASCADE`)
	w, plain := h.open(t, h.owner, look{through: line}), h.open(t, ada, look{through: line, scriptless: true, language: "zh-TW", dark: true})
	w.expectAway()
	ops := int64(0)
	until(t, "the room of the house", func() bool {
		for _, one := range h.owner.call(t, "GET", "/rooms", nil)["rooms"].([]any) {
			if room := one.(map[string]any); room["kind"] == "ops" {
				ops = int64(room["id"].(float64))
			}
		}
		return ops != 0
	})
	w.visit(fmt.Sprint("/room/", ops))
	w.live()
	const alert, way = `#lines > .msg:has(.alert:not(.way))`, `#lines > .msg:has(.way)`
	stands := func(w *window, states string) string {
		return `[` + states + `].includes([...document.querySelectorAll(` + quote(way+" .way") + `)].at(-1)?.dataset.state)`
	}
	w.wait("the alert with what was lost", `document.querySelector(`+quote(alert)+`)?.innerText.includes("shop.orders was dropped")`)
	w.wait("the command", `document.querySelector(`+quote(alert)+`).innerText.includes("howdah recover table shop.orders --before ")`)
	w.wait("the button", `!document.querySelector(`+quote(alert+" [value=plan]")+`).hidden`)
	w.accessible("an alert with a way back")
	w.remember("back-1-alert")
	get[bool](w, `document.querySelector(`+quote(alert+" [value=plan]")+`).focus() ?? true`)
	w.press(kb.Enter)
	w.waitLonger("the plan", stands(w, `"planned"`)+` && document.querySelector(`+quote(way)+`).innerText.includes("base backup")`)
	talking()
	w.waitLonger("what has been written since", `document.querySelector(`+quote(way)+`).innerText.includes("had 3,000 rows") && !document.querySelector(`+quote(way+" [data-wish=replace]")+`).hidden`)
	w.accessible("a plan")
	w.remember("back-2-plan")
	if get[bool](w, `!document.querySelector(`+quote(way+" [value=merge]")+`).hidden`) {
		t.Error("rows are to be merged into a table that is not there")
	}
	// Who has no scripts chooses as well, and who is no admin does not.
	plain.visit(fmt.Sprint("/room/", ops))
	plain.wait("the plan in her language", `document.querySelector(`+quote(way+" .pill")+`).innerText === "已規劃"`)
	plain.click(way + " [data-wish=replace] summary")
	plain.wait("what it means", `document.querySelector(`+quote(way+" [data-wish=replace]")+`).innerText.includes("以原名回來")`)
	plain.remember("back-3-sure-zh")
	seq := get[int64](w, `+document.querySelector(`+quote(way)+`).dataset.seq`)
	if _, status, err := wei.try(t.Context(), "POST", fmt.Sprintf("/rooms/%d/messages/%d/back", ops, seq), map[string]any{"client_id": "0b9a7b7e-4f2f-4f5d-8a55-6a6a1ff0a001", "what": "replace"}); err != nil || status != 404 {
		t.Errorf("a member who is no admin: %d, %v", status, err)
	}
	plain.click(way + " [value=replace]")
	w.waitLonger("it to be under way", stands(w, `"running", "done"`))
	talking()
	h.kill(t)
	if err := h.start(); err != nil {
		t.Fatal(err)
	}
	line.to(h)
	// It was ended, and nothing of it is there; or it had been done by then.
	w.waitLonger("what became of it", stands(w, `"planned", "done"`))
	talking()
	if get[bool](w, stands(w, `"planned"`)) {
		w.wait("that it died", `document.querySelector(`+quote(way)+`).innerText.includes("the database is as it was")`)
		var there bool
		if err := reader.QueryRow(t.Context(), `SELECT to_regclass('shop.orders') IS NOT NULL OR EXISTS (SELECT FROM pg_namespace WHERE nspname LIKE 'recovered%')`).Scan(&there); err != nil || there {
			t.Errorf("something of it is there: %v", err)
		}
		w.click(way + " [data-wish=replace] summary")
		w.wait("what it means", `document.querySelector(`+quote(way+" [data-wish=replace]")+`).innerText.includes("comes back under its name")`)
		w.accessible("a grave question")
		w.remember("back-4-sure")
		w.click(way + " [value=replace]")
	}
	w.waitLonger("the table", stands(w, `"done"`)+` && document.querySelector(`+quote(way)+`).innerText.includes("howdah recover undo ")`)
	w.remember("back-5-done")
	if after := sum(); after != before {
		t.Errorf("the table is %q, it was %q", after, before)
	}
	talking()

	// What the page "Going back" tells to type.
	name := get[string](w, `document.querySelector(`+quote(alert)+`).innerText.match(/--before ([0-9]\S+)/)[1]`)
	if said := h.run(t, "audit", "alerts"); !strings.Contains(said, " --before "+name) {
		t.Errorf("howdah audit alerts does not name the way back:\n%s", said)
	}
	h.run(t, "recover", "table", "--before", name, "--plan")
	h.run(t, "recover", "list")

	w.click(way + " [data-wish=undo] summary")
	w.click(way + " [value=undo]")
	w.waitLonger("it to be taken back", stands(w, `"undone"`))
	var left int
	if err := reader.QueryRow(t.Context(), `SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'recovered%' OR to_regclass('shop.orders') IS NOT NULL`).Scan(&left); err != nil || left != 0 {
		t.Errorf("%d are left, %v", left, err)
	}
	if n := get[int](w, `document.querySelectorAll(`+quote(alert)+`).length`); n != 1 {
		t.Errorf("there are %d alerts: recovering alarms", n)
	}
	for n := range said {
		h.once(t, room, fmt.Sprint("word ", n+1))
	}
}
