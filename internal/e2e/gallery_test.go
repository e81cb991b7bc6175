package e2e

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/page"
	"github.com/jackc/pgx/v5"

	"howdah/internal/chat"
	"howdah/internal/cluster"
)

var pictures = flag.String("pictures", "", "write the pictures of the guide into this `folder`")

// pictured are the scenes that the guide shows.
var pictured = []string{"setup", "room", "watch", "time", "doctor"}

var gallery = flag.String("gallery", "", "write a picture of every page, in both languages and themes and at two sizes, into this `folder`")

// A scene is a page as somebody meets it.
type scene struct {
	name   string
	path   string
	out    bool            // nobody is signed in
	expect string          // complaint of the browser that belongs to it
	detail bool            // only worth a picture
	act    func(w *window) // what is done on the page before the picture is taken
}

// TestGallery opens every page at both sizes and checks that nothing is wider than the screen and that all is
// accessible. With -gallery DIR it
// writes pictures, to be looked at.
func TestGallery(t *testing.T) {
	h := unsettled(t)
	looks := []look{{}, {phone: true, dark: true, language: "zh-TW"}}
	if *pictures != "" {
		if err := os.MkdirAll(*pictures, 0o755); err != nil { //nolint:gosec // pictures to show around
			t.Fatal(err)
		}
		looks = []look{{language: "en-US"}, {language: "zh-TW"}}
	}
	if *gallery != "" {
		if err := os.MkdirAll(*gallery, 0o755); err != nil { //nolint:gosec // pictures to show around
			t.Fatal(err)
		}
		looks = nil
		for _, language := range []string{"en-US", "zh-TW"} {
			for _, phone := range []bool{false, true} {
				for _, dark := range []bool{false, true} {
					looks = append(looks, look{language: language, phone: phone, dark: dark})
				}
			}
		}
	}
	for _, how := range looks {
		w := h.open(t, nil, how)
		w.picture(how, scene{name: "unset", path: "/"})
		w.picture(how, scene{name: "setup", path: h.setup})
	}
	if err := h.settle(); err != nil {
		t.Fatal(err)
	}
	me, scenes := furnish(t, h)
	for _, how := range looks {
		in, out := h.open(t, me, how), h.open(t, nil, how)
		for _, s := range scenes {
			if s.detail && *gallery == "" && *pictures == "" || *pictures != "" && !slices.Contains(pictured, s.name) {
				continue
			}
			w := in
			if s.out {
				w = out
			}
			if s.expect != "" {
				w.expect(s.expect)
			}
			w.picture(how, s)
		}
	}
	if *pictures != "" {
		return
	}
	control := filepath.Join(h.cluster.DataDir(), "global", "pg_control")
	if err := os.Rename(control, control+".away"); err != nil {
		t.Fatal(err)
	}
	h.killPostgres(t)
	for _, how := range looks {
		w := h.open(t, nil, how)
		w.expectAway()
		w.picture(how, scene{name: "waiting", path: "/sign-in", act: func(w *window) {
			for !get[bool](w, `!!document.querySelector(".cloth.moving")`) {
				w.visit("/")
			}
		}})
	}
	if err := os.Rename(control+".away", control); err != nil {
		t.Fatal(err)
	}
}

// picture opens a scene, checks that it fits, and keeps it where that is asked for.
func (w *window) picture(how look, s scene) {
	w.t.Helper()
	w.visit(s.path)
	if !s.out && get[bool](w, `!!document.getElementById("state")`) {
		w.live()
	}
	if s.act != nil {
		s.act(w)
	}
	wide := get[string](w, `(() => {
		if (document.documentElement.scrollWidth > innerWidth) return "the page"
		for (const box of document.querySelectorAll(".matter, #main, .history, .panel:popover-open, .gate, .side"))
			if (box.scrollWidth > box.clientWidth + 1 && box.clientWidth) return box.className || box.id
		return ""
	})()`)
	if wide != "" {
		w.t.Errorf("%s (%+v): %s is wider than the screen", s.name, how, wide)
	}
	if title := get[string](w, "document.title"); !strings.Contains(title, "Howdah") {
		w.t.Errorf("%s: title %q", s.name, title)
	}
	w.accessible(fmt.Sprintf("%s (%+v)", s.name, how))
	if *pictures != "" && slices.Contains(pictured, s.name) {
		webp, err := w.shootAs(page.CaptureScreenshotFormatWebp)
		if err == nil {
			err = os.WriteFile(filepath.Join(*pictures, s.name+"-"+how.language[:2]+".webp"), webp, 0o644) //nolint:gosec // see above
		}
		if err != nil {
			w.t.Fatal(err)
		}
	}
	if *gallery == "" {
		return
	}
	shape, theme := "desktop", "light"
	if how.phone {
		shape = "phone"
	}
	if how.dark {
		theme = "dark"
	}
	png, err := w.shoot()
	if err == nil {
		err = os.WriteFile(filepath.Join(*gallery, fmt.Sprintf("%s-%s-%s-%s.png", s.name, how.language, shape, theme)), png, 0o644) //nolint:gosec // see above
	}
	if err != nil {
		w.t.Fatal(err)
	}
}

// furnish fills a house with people and talk as a small team has them, and says which scenes it makes for whom.
func furnish(t *testing.T, h *house) (me *person, scenes []scene) {
	t.Helper()
	ada := h.owner
	named := func(name, handle string) *person {
		p := h.person(t, name)
		h.exec(t, `UPDATE account.person SET handle = $2 WHERE id = $1`, p.ID, handle)
		p.Handle = handle
		return p
	}
	h.exec(t, `UPDATE account.person SET name = 'Ada Lovelace', handle = 'ada' WHERE id = $1`, ada.ID)
	wei, grace, ming := named("林小薇", "wei"), named("Grace Hopper", "grace"), named("陳大明", "大明")
	rename := func(room int64, name, topic string) {
		ada.call(t, "PATCH", fmt.Sprint("/rooms/", room), map[string]any{"name": name, "topic": topic})
	}
	lobby := ada.room(t, "public", "x", wei, grace, ming)
	rename(lobby, "資料庫 databases", "Backups, restores and what keeps us awake · 備份、還原與維運")
	garden, random := ada.room(t, "private", "x", wei), ada.room(t, "public", "x", wei, grace, ming)
	rename(garden, "garden planning", "")
	rename(random, "隨便聊聊", "大小事都可以聊")
	outside := grace.room(t, "public", "reading circle")
	grace.say(t, outside, "This month: *The Mythical Man-Month*, chapters 1 to 4.")
	long := wei.room(t, "public", "a room whose name is rather longer than any sidebar likes", ada)
	wei.say(t, long, "nothing much")
	empty := ada.room(t, "public", "empty")

	said := []struct {
		by   *person
		text string
	}{
		{grace, "Good morning! Did the restore drill finish last night?"},
		{wei, "有，凌晨三點跑完，總共 **12 分鐘**，資料筆數完全一致。"},
		{ada, "Nice. I looked at the WAL archive as well: no gaps since `00000001000000A3`."},
		{ada, "Three things before we announce it:\n\n1. row counts per table\n2. checksums of the big ones\n3. the slow query log"},
		{wei, "那我今天把 `pg_basebackup` 的排程改成每天兩次，大家覺得如何？"},
		{ming, "> 一則訊息只要被確認收到，就一定寫進磁碟。\n\n這句話我很喜歡。@ada 可以放進說明文件嗎？"},
		{grace, "See [the manual](https://www.postgresql.org/docs/current/continuous-archiving.html), or https://www.postgresql.org/docs/current/app-pgbasebackup.html for the switches."},
		{grace, "```sql\nSELECT relname, n_live_tup, n_dead_tup, last_autovacuum, pg_size_pretty(pg_total_relation_size(relid)) AS total\nFROM pg_stat_user_tables\nORDER BY n_live_tup DESC LIMIT 10;\n```"},
		{wei, "/var/lib/postgresql/15/main/" + strings.Repeat("base_16384_", 12) + "TheEndOfAVeryLongWord"},
		{ada, "a slip of the tongue"},
		{ming, "好啊，十二點半在樓下見。順便帶那本書給你，我上週已經看完了，寫得非常清楚，尤其是講索引與交易隔離層級的那幾章，很適合團隊一起讀。"},
		{ming, "| table | rows |\n| --- | ---: |\n| message | 10 412 233 |\n| room | 1 204 |"},
		{grace, "Lunch? 🍜"},
		{ada, "In ten minutes. @大明 @wei are you coming?"},
	}
	var seqs []int64
	for _, s := range said {
		seqs = append(seqs, s.by.say(t, lobby, s.text))
	}
	wei.edit(t, lobby, seqs[4], "那我今天把 `pg_basebackup` 的排程改成每天兩次（凌晨與中午），大家覺得如何？")
	ada.remove(t, lobby, seqs[9])
	h.exec(t, `UPDATE chat.message SET at = at - interval '1 day' - interval '3 hours' WHERE room_id = $1 AND seq <= $2`, lobby, seqs[3])
	h.exec(t, `UPDATE chat.message SET at = at - interval '2 hours' WHERE room_id = $1 AND seq > $2 AND seq <= $3`, lobby, seqs[3], seqs[8])
	h.exec(t, `UPDATE chat.change SET at = at - interval '2 days' WHERE room_id = $1 AND kind IN ('join', 'room', 'role')`, lobby)
	for i := range 7 {
		wei.say(t, random, fmt.Sprintf("第 %d 件小事", i+1))
	}
	grace.say(t, random, "@ada have you seen this?")
	direct := func(a, b *person) int64 {
		return int64(a.call(t, "POST", "/direct", map[string]any{"person": b.ID})["id"].(float64))
	}
	talk := direct(wei, ada)
	wei.say(t, talk, "晚上一起吃飯嗎？")
	direct(ada, grace)
	ada.call(t, "POST", "/tokens", map[string]any{"name": "nightly report"})
	h.session(t, &person{Handle: "ada"})
	token, _, err := h.accounts.NewInvite(t.Context(), ada.account, "member", nil)
	if err != nil {
		t.Fatal(err)
	}

	ops := alarm(t, h)
	dsn, err := h.cluster.DSN(cluster.Superuser, cluster.Database)
	if err != nil {
		t.Fatal(err)
	}
	by, err := pgx.Connect(t.Context(), dsn+" application_name=psql")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = by.Close(t.Context()) }()
	if _, err := by.Exec(t.Context(), `CREATE ROLE eve SUPERUSER`); err != nil {
		t.Fatal(err)
	}

	room := fmt.Sprint("/room/", lobby)
	at := fmt.Sprintf("#m%d", seqs[6])
	click := func(selector, then string) func(w *window) {
		return func(w *window) {
			w.click(selector)
			w.wait("what the click shows", then)
		}
	}
	return ada, []scene{
		{name: "room", path: room},
		{name: "room-at", detail: true, path: fmt.Sprintf("%s?at=%d", room, seqs[2])},
		{name: "room-hover", detail: true, path: room, act: func(w *window) { w.click(at + " .body > p"); w.wait("the tools", `document.querySelector(".actions")`) }},
		{name: "room-delete", detail: true, path: room, act: func(w *window) {
			w.click("#lines .msg:last-child .body")
			w.click("[data-do=delete]")
			w.wait("the question", `document.querySelector(".armed")`)
		}},
		{name: "room-editing", detail: true, path: room, act: func(w *window) {
			w.click("#lines .msg:last-child .body")
			w.click("[data-do=edit]")
			w.wait("editing", `!document.getElementById("mode").hidden`)
		}},
		{name: "room-mention", detail: true, path: room, act: func(w *window) { w.compose("Who knows? @"); w.wait("names", `document.querySelector("#suggest li")`) }},
		{name: "room-members", path: room, act: click("#members-button", `document.querySelectorAll("#member-list li").length > 3`)},
		{name: "room-manage", path: room, act: func(w *window) {
			w.click("#members-button")
			w.click("#member-list li:last-child summary")
			w.wait("the tools", `document.querySelector("#member-list details[open]")`)
		}},
		{name: "room-settings", path: room, act: click(`.bar [popovertarget="settings"]`, `document.querySelector("#settings:popover-open")`)},
		{name: "room-drawer", path: room, act: func(w *window) {
			if get[bool](w, "innerWidth < 700") {
				w.click(`.bar [popovertarget="side"]`)
			}
		}},
		{name: "watch", path: "/watch", act: func(w *window) {
			w.wait("the alert", `document.querySelector("#alerts > .incidents > .incident") && document.querySelector("#trail [data-seq]")`)
			w.click("#alerts > .incidents > .incident summary")
		}},
		{name: "watch-trail", detail: true, path: "/watch?class=all", act: func(w *window) { get[bool](w, `(document.getElementById("trail").scrollIntoView(), true)`) }},
		{name: "watch-session", path: "/watch?text=superuser", act: func(w *window) {
			w.click("#trail [data-seq] a")
			w.wait("its session", `document.querySelector(".steps li")`)
		}},
		{name: "ops", path: ops, act: click("#lines .msg:last-child summary", `document.querySelector(".mute[open] .acts")`)},
		{name: "room-outside", path: fmt.Sprint("/room/", outside)},
		{name: "room-long", detail: true, path: fmt.Sprint("/room/", long)},
		{name: "room-empty", detail: true, path: fmt.Sprint("/room/", empty)},
		{name: "direct", path: fmt.Sprint("/room/", talk)},
		{name: "time", detail: true, path: "/time"},
		{name: "deleted", path: "/deleted"},
		{name: "doctor", path: "/doctor", act: func(w *window) { w.wait("what was found", `document.querySelector(".doctor time")`) }},
		{name: "rooms", path: "/rooms"},
		{name: "people", path: "/people"},
		{name: "people-link", detail: true, path: "/people", act: click(`form[action="/people/invites"] button`, `document.getElementById("fresh")`)},
		{name: "people-manage", path: "/people", act: click(`.rows .more summary`, `document.querySelector("details[open]")`)},
		{name: "me", path: "/me"},
		{name: "told", path: "/told"},
		{name: "bell", detail: true, path: room, act: func(w *window) { w.click("#bell-button") }},
		{name: "me-token", detail: true, path: "/me", act: func(w *window) {
			w.fill("form[action='/me/tokens'] input", "say")
			w.click("form[action='/me/tokens'] button")
			w.wait("it", `document.getElementById("fresh")`)
		}},
		{name: "security", path: "/me/security"},
		{name: "security-secret", path: "/me/security", act: func(w *window) {
			if get[bool](w, `!!document.querySelector("form[action='/me/security/codes'] [name=password]")`) {
				w.fill("form[action='/me/security/codes'] [name=password]", password)
			}
			w.click("form[action='/me/security/codes'] button")
			w.wait("the secret", `document.querySelector(".qr")`)
		}},
		{name: "error", path: "/room/4040404", expect: "status of 404"},
		{name: "sign-in", path: "/sign-in", out: true},
		{name: "sign-in-wrong", detail: true, path: "/sign-in", out: true, expect: "status of 4(01|29)", act: func(w *window) {
			w.signInByForm("ada", "wrong")
			w.wait("the refusal", `document.querySelector("[role=alert]")`)
		}},
		{name: "invite", path: "/invite/" + token, out: true},
	}
}

// alarm lets the house tell of three incidents, as another node would, and has two of them answered. It gives the room's path.
func alarm(t *testing.T, h *house) string {
	t.Helper()
	rooms := chat.Open(t.Context(), h.db, h.db, nil)
	defer rooms.Close()
	titles := map[string]string{"en": "A schema was dropped with all that was in it", "zh-TW": "整個結構描述被刪除"}
	for i, text := range []string{
		"**🔴 Critical: A superuser was made**\n- anna makes “eve” a superuser\n  - Ask anna; if it was not she, DROP ROLE eve and change anna's password.\n\nRole `anna` from `198.51.100.77`, application `psql`, database `shop`, 2026-11-22 03:12:44 UTC\ntransaction 8841 (committed)",
		"**🟠 High: Somebody guesses passwords**\n- 40 log-ins failed for `app` from 203.0.113.9\n\nRole `app` from `203.0.113.9`, application –, database `shop`, 2026-11-22 03:15:01 – 03:19:30 UTC",
		"**🟠 High: A schema was dropped with all that was in it**\n- anna drops the schema archive, CASCADE\n\nRole `anna` from `10.20.30.4`, application `psql`, database `shop`, 2026-11-22 03:21:07 UTC\ntransaction 8847 (committed)",
	} {
		a := chat.Alert{Incident: fmt.Sprint("i", i), Part: 1, Severity: "high", Level: 4, Critical: i == 0, Rules: []chat.AlertRule{{ID: "r", Title: titles}}}
		if i > 0 {
			a.Cover = &chat.Cover{Actor: "anna", Network: "10.20.30.0/24", Acts: []chat.Act{{Rule: "r", Kind: "drop schema", App: "psql"}, {Rule: "r", Kind: "drop schema", App: ""}}}
			a.Rules = append(a.Rules, chat.AlertRule{ID: "s", Title: map[string]string{"en": "A superuser was made", "zh-TW": "建立了超級使用者"}, Loud: true})
		}
		if _, _, err := rooms.Alert(t.Context(), "What the house has to say to those who run it", text, a); err != nil {
			t.Fatal(err)
		}
	}
	mine, err := rooms.Mine(t.Context(), h.owner.account)
	if err != nil {
		t.Fatal(err)
	}
	room := mine[slices.IndexFunc(mine, func(r chat.Room) bool { return r.Kind == chat.Ops })].ID
	page, err := rooms.History(t.Context(), h.owner.account, room, chat.Cursor{})
	if err != nil {
		t.Fatal(err)
	}
	for i, what := range []chat.State{chat.Mine, chat.Muted} {
		m := page.Messages[i]
		if _, err := rooms.Answer(t.Context(), h.owner.account, chat.AnswerDraft{Room: room, Seq: m.Seq, ClientID: nextUUID(), What: what, Days: 7, Cover: m.Alert.Cover.ID()}); err != nil {
			t.Fatal(err)
		}
	}
	return fmt.Sprint("/room/", room)
}
