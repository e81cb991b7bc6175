package web

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/gobwas/ws"

	"howdah/internal/account"
	"howdah/internal/chat"
	"howdah/internal/fault"
)

func TestTheAPIFromFirstRoomToLast(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	owner := h.owner()
	bob, gus := h.newcomer(owner, "bob", account.Member, nil), h.newcomer(owner, "小明", account.Member, nil)

	if me := owner.must("GET", "/me", nil); me["handle"] != "owner" || me["role"] != "owner" {
		t.Error(me)
	}
	if me := bob.must("PATCH", "/me", answer{"name": "Bob B.", "theme": "dark", "locale": "zh-TW"}); me["name"] != "Bob B." || me["theme"] != "dark" {
		t.Error(me)
	}
	made := answer{"client_id": chat.NewID(), "kind": "public", "name": "茶水間", "topic": "tea"}
	room := owner.must("POST", "/rooms", made).num("id")
	if again := owner.must("POST", "/rooms", made).num("id"); again != room {
		t.Error("a retry made another room")
	}
	path := fmt.Sprint("/rooms/", room)
	bob.refused(403, "chat.not_member", "POST", path+"/messages", answer{"client_id": chat.NewID(), "body": "hi"})
	bob.must("POST", path+"/join", nil)
	owner.must("PUT", fmt.Sprintf("%s/members/%d", path, gus.id), answer{})
	owner.must("PUT", fmt.Sprintf("%s/members/%d", path, gus.id), answer{"role": "admin"})
	words := answer{"client_id": chat.NewID(), "body": "hello **@bob** and @小明"}
	seq := owner.must("POST", path+"/messages", words).num("seq")
	if again := owner.must("POST", path+"/messages", words).num("seq"); again != seq {
		t.Error("a retry made another message")
	}
	if r := bob.must("GET", path, nil); r.num("unread") != 1 || r.num("mentions") != 1 || r.num("members") != 3 {
		t.Error(r)
	}
	bob.must("PUT", path+"/read", answer{"seq": seq})
	page := bob.must("GET", path+"/messages?limit=10", nil)
	message := page["messages"].([]any)[0].(map[string]any)
	if message["html"] != "<p>hello <strong><span class=\"mention\">@bob</span></strong> and <span class=\"mention\">@小明</span></p>\n" {
		t.Error(message["html"])
	}
	if events := page["events"].([]any); len(events) != 4 { // three came, one was ranked
		t.Errorf("%d events", len(events))
	}
	thumb := fmt.Sprintf("%s/messages/%d/reactions/%s", path, seq, url.PathEscape("👍"))
	bob.must("PUT", thumb, nil)
	if again := bob.must("PUT", thumb+"?client_id="+chat.NewID(), nil); again.num("seq") != 0 {
		t.Error("the same reaction twice")
	}
	owner.must("PUT", thumb, nil)
	owner.must("DELETE", thumb, nil)
	bob.refused(400, "chat.no_emoji", "PUT", fmt.Sprintf("%s/messages/%d/reactions/%s", path, seq, "yes%3Cb%3E"), nil)
	page = owner.must("GET", path+"/messages?limit=1", nil)
	if have := fmt.Sprint(page["messages"].([]any)[0].(map[string]any)["reactions"]); !strings.Contains(have, "count:1 emoji:👍 people:[map[handle:bob") {
		t.Error(have)
	}
	reply := bob.must("POST", path+"/messages", answer{"client_id": chat.NewID(), "body": "so *I* say", "thread": seq}).num("seq")
	bob.must("POST", path+"/messages", answer{"client_id": chat.NewID(), "body": "and aloud", "thread": reply, "aloud": true})
	thread := owner.must("GET", fmt.Sprintf("%s/threads/%d?limit=10", path, reply), nil)
	if root := thread["root"].(map[string]any); root["seq"] != float64(seq) || fmt.Sprint(root["replies"].(map[string]any)["count"]) != "2" || len(thread["messages"].([]any)) != 2 || thread["following"] != true {
		t.Error(thread)
	}
	if list := owner.must("GET", "/threads", nil)["threads"].([]any); len(list) != 1 || list[0].(map[string]any)["unread"] != 2.0 {
		t.Error(list)
	}
	if r := owner.must("GET", path, nil); r.num("threads") != 1 {
		t.Error(r)
	}
	if r := owner.must("PUT", fmt.Sprintf("%s/threads/%d/read", path, seq), answer{"seq": reply}); r.num("threads") != 0 {
		t.Error(r)
	}
	gus.must("PUT", fmt.Sprintf("%s/threads/%d/follow", path, seq), nil)
	gus.must("DELETE", fmt.Sprintf("%s/threads/%d/follow", path, seq), nil)
	if m := gus.must("GET", fmt.Sprintf("%s/messages/%d", path, reply), nil); m["body"] != "so *I* say" || m.num("thread") != seq {
		t.Error(m)
	}
	// The pages show it without scripts, and a link to a reply leads into its thread.
	if code, text, _ := owner.page(fmt.Sprintf("/room/%d?thread=%d", room, seq)); code != 200 || !strings.Contains(text, "so <em>I</em> say") || !strings.Contains(text, fmt.Sprintf(`id="t%d"`, reply)) || strings.Contains(text, fmt.Sprintf(`id="m%d"`, reply)) {
		t.Error(code, text)
	}
	if code, _, header := owner.page(fmt.Sprintf("/room/%d?at=%d", room, reply)); code != 303 || !strings.Contains(header.Get("Location"), fmt.Sprintf("?thread=%d&at=%d", seq, reply)) {
		t.Error(code, header)
	}
	if code, text, _ := owner.page("/threads"); code != 200 || !strings.Contains(text, fmt.Sprintf("/room/%d?thread=%d", room, seq)) {
		t.Error(code, text)
	}
	pin, save := fmt.Sprintf("%s/messages/%d/pin", path, reply), fmt.Sprintf("%s/messages/%d/saved", path, reply)
	bob.must("PUT", pin, nil)
	bob.must("PUT", save, nil)
	if list := owner.must("GET", path+"/pins", nil)["messages"].([]any); len(list) != 1 || fmt.Sprint(list[0].(map[string]any)["pinned"].(map[string]any)["by"].(map[string]any)["handle"]) != "bob" {
		t.Error(list)
	}
	if list := bob.must("GET", "/saved?before=2100-01-01T00:00:00Z", nil)["saved"].([]any); len(list) != 1 {
		t.Error(list)
	}
	bob.refused(400, "web.bad_time", "GET", "/saved?before=x", nil)
	forms := map[string]string{fmt.Sprintf("/room/%d/pins", room): `/pin"`, "/saved": `/save"`}
	for at, want := range forms {
		if code, text, _ := bob.page(at); code != 200 || !strings.Contains(text, "so <em>I</em> say") || !strings.Contains(text, want) {
			t.Error(at, code, text)
		}
	}
	if code, text, _ := owner.page(fmt.Sprintf("/room/%d?thread=%d", room, seq)); code != 200 || !strings.Contains(text, `class="pinned"`) {
		t.Error(code, text)
	}
	bob.must("DELETE", pin, nil)
	bob.must("DELETE", save, nil)
	draft := answer{"client_id": chat.NewID(), "version": 5, "body": "half a <b>thought"}
	if now := bob.must("PUT", path+"/draft", draft); now["body"] != "half a <b>thought" {
		t.Error(now)
	}
	if list := bob.must("GET", fmt.Sprintf("/drafts?room=%d", room), nil)["drafts"].([]any); len(list) != 1 {
		t.Error(list)
	}
	if code, text, _ := bob.page(fmt.Sprintf("/room/%d", room)); code != 200 || !strings.Contains(text, ">half a ") {
		t.Error(code, text)
	}
	owner.must("PATCH", fmt.Sprintf("%s/messages/%d", path, seq), answer{"client_id": chat.NewID(), "body": "bye"})
	bob.refused(403, "chat.not_author", "PATCH", fmt.Sprintf("%s/messages/%d", path, seq), answer{"client_id": chat.NewID(), "body": "mine"})
	bob.refused(403, "chat.may_not_moderate", "DELETE", fmt.Sprintf("%s/messages/%d", path, seq), nil)
	if list := bob.must("GET", fmt.Sprintf("%s/messages/%d/edits", path, seq), nil)["versions"].([]any); len(list) != 2 || list[1].(map[string]any)["body"] != "bye" {
		t.Error(list)
	}
	if code, text, _ := bob.page(fmt.Sprintf("/room/%d/messages/%d/edits", room, seq)); code != 200 || !strings.Contains(text, "<p>bye</p>") || !strings.Contains(text, "hello <strong>") {
		t.Error(code, text)
	}
	// A reply that stands only in its thread has a page of its edits as well, with who wrote it.
	if code, text, _ := owner.page(fmt.Sprintf("/room/%d/messages/%d/edits", room, reply)); code != 200 || !strings.Contains(text, "so <em>I</em> say") || !strings.Contains(text, `<h2><span dir="auto">`) {
		t.Error(code, text)
	}
	gus.must("DELETE", fmt.Sprintf("%s/messages/%d", path, seq), nil)
	bob.refused(403, "chat.not_deleter", "POST", fmt.Sprintf("%s/messages/%d/undelete", path, seq), nil)
	gus.must("POST", fmt.Sprintf("%s/messages/%d/undelete", path, seq), nil)
	gus.must("DELETE", fmt.Sprintf("%s/messages/%d", path, seq), nil)
	gus.must("PATCH", path, answer{"topic": "coffee"})
	since := bob.must("GET", path+"/since?seq=0", nil)
	if n := len(since["events"].([]any)); int64(n) != since.num("seq") || since["more"] != false {
		t.Error(since)
	}
	direct := bob.must("POST", "/direct", answer{"person": gus.id})
	if again := gus.must("POST", "/direct", answer{"person": bob.id}); again.num("id") != direct.num("id") {
		t.Error("two direct rooms of two people")
	}
	if n := len(bob.must("GET", "/rooms", nil)["rooms"].([]any)); n != 2 {
		t.Error(n, "rooms")
	}
	bob.must("GET", "/rooms/public", nil)
	bob.must("GET", path+"/members", nil)
	owner.must("DELETE", fmt.Sprintf("%s/members/%d", path, bob.id), nil)
	if told := gus.must("POST", path+"/commands", answer{"client_id": chat.NewID(), "line": "/remind me in 2 hours to sing"}); !strings.Contains(told["message"].(string), "sing") || told["left"] != false {
		t.Error(told)
	}
	if list := gus.must("GET", "/reminders", nil)["reminders"].([]any); len(list) != 1 {
		t.Error(list)
	}
	gus.refused(404, "chat.no_command", "POST", path+"/commands", answer{"client_id": chat.NewID(), "line": "/dance"})
	gus.must("POST", path+"/commands", answer{"client_id": chat.NewID(), "line": "/away lunch"})
	if members := fmt.Sprint(owner.must("GET", path+"/members", nil)); !strings.Contains(members, "away:lunch") {
		t.Error(members)
	}
	if _, text, _ := owner.page(fmt.Sprintf("/room/%d", room)); !strings.Contains(text, "away · lunch") {
		t.Error("the page does not say who is away")
	}
	gus.must("POST", path+"/leave", nil)
	owner.must("GET", "/people", nil)

	owner.must("POST", path+"/messages", answer{"client_id": chat.NewID(), "body": "the Café in 台北車站 <b>"})
	found := owner.must("GET", "/search?q="+url.QueryEscape("北車 caf")+"&limit=5&zone=Asia/Taipei", nil)["found"].([]any)
	if len(found) != 1 || fmt.Sprint(found[0].(map[string]any)["excerpt"]) != "[map[text:the ] map[mark:true text:Café] map[text: in 台] map[mark:true text:北車] map[text:站 <b>]]" {
		t.Error(found)
	}
	if left := gus.must("GET", "/search?q=from:owner", nil)["found"].([]any); len(left) == 0 { // gus has left, but is no guest of the house
		t.Error("what stands in a public room is not found by who is not in it")
	}
	direct2 := owner.must("POST", "/direct", answer{"person": bob.id})
	owner.must("POST", fmt.Sprintf("/rooms/%d/messages", direct2.num("id")), answer{"client_id": chat.NewID(), "body": "only for 台北 bob"})
	if n := len(gus.must("GET", "/search?q=only+bob", nil)["found"].([]any)); n != 0 {
		t.Error("somebody finds what was said to another")
	}
	if n := len(bob.must("GET", "/search?q=only+in:@owner", nil)["found"].([]any)); n != 1 {
		t.Error(n, "found in a conversation of two")
	}
	gus.refused(404, "search.no_person", "GET", "/search?q=from:nobody", nil)
	gus.refused(404, "search.no_room", "GET", "/search?q=in:Lobbby", nil)
	gus.refused(400, "search.empty", "GET", "/search?q=", nil)
	gus.refused(400, "search.day", "GET", "/search?q=before:tomorrow", nil)
	gus.refused(400, "web.bad_zone", "GET", "/search?q=a&zone=Mars", nil)

	h.answers(owner, bob)

	if told := bob.must("PATCH", "/told", answer{"bell": "all", "zone": "Asia/Taipei", "hide": true, "quiet": answer{"from": "00:00", "to": "00:00", "days": []int{0, 1, 2, 3, 4, 5, 6}}}); told["silent_until"] == nil {
		t.Error(told)
	}
	if told := bob.must("GET", "/told", nil); told["zone"] != "Asia/Taipei" || told["bell"] != "all" || told["hide"] != true || told["paused_until"] != nil {
		t.Error(told)
	}
	bob.refused(400, "tell.quiet", "PATCH", "/told", answer{"quiet": answer{"from": "25:00", "to": "08:00", "days": []int{1}}})
	bob.refused(400, "tell.zone", "PATCH", "/told", answer{"zone": "../zone"})
	if r := bob.must("PUT", fmt.Sprintf("/rooms/%d/bell", direct2.num("id")), answer{"bell": "", "mute_until": "2020-01-01T00:00:00Z"}); r["bell"] != "" || r["mute_until"] != nil {
		t.Error(r)
	}
	bob.refused(400, "chat.bell", "PUT", fmt.Sprintf("/rooms/%d/bell", direct2.num("id")), answer{"bell": "loud"})
	if devices := bob.must("GET", "/devices", nil); len(devices["key"].(string)) != 87 || len(devices["devices"].([]any)) != 0 {
		t.Error(devices)
	}
	keys := answer{"p256dh": "BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4", "auth": "BTBZMqHH6r4Tts7J_aSIgg"}
	bob.refused(403, "tell.browsers_only", "POST", "/devices", answer{"endpoint": "https://push.example.org/x", "keys": keys})
	for _, endpoint := range []string{"http://push.example.org/x", "https://user:word@push.example.org/", "file:///etc/passwd", "https://", "x", ""} {
		bob.refused(400, "push.subscription", "POST", "/devices", answer{"endpoint": endpoint, "keys": keys})
	}
	bob.refused(404, "tell.no_device", "DELETE", "/devices/1", nil)
	whole := owner.must("POST", fmt.Sprintf("/rooms/%d/messages", direct2.num("id")), answer{"client_id": chat.NewID(), "body": "the first of a thread"}).num("seq")
	bob.must("PUT", fmt.Sprintf("/rooms/%d/threads/%d/bell", direct2.num("id"), whole), answer{"bell": "nothing"})

	owner.must("GET", "/watch", nil)
	owner.must("GET", "/watch/entries", nil)
	owner.must("GET", "/watch/incidents", nil)
	owner.refused(404, "web.watch_session", "GET", "/watch/sessions/none", nil)
	bob.refused(403, "web.watch_admins", "GET", "/watch", nil)

	invite := owner.must("POST", "/invites", answer{"role": "guest", "room": room})
	if !strings.Contains(invite["url"].(string), "/invite/") {
		t.Error(invite)
	}
	owner.must("GET", "/invites", nil)
	owner.must("DELETE", fmt.Sprint("/invites/", invite.num("id")), nil)
	bob.refused(403, "account.admins_only", "GET", "/invites", nil)
	owner.must("GET", "/sessions", nil)
	owner.refused(404, "account.no_session", "DELETE", "/sessions/999999", nil)
	token := owner.must("POST", "/tokens", answer{"name": "ci"})
	owner.must("GET", "/tokens", nil)
	owner.must("DELETE", fmt.Sprint("/tokens/", token.num("id")), nil)
	owner.refused(404, "account.no_token", "DELETE", fmt.Sprint("/tokens/", token.num("id")), nil)

	for _, path := range []string{"/time", "/time/plan", "/time/posts", "/deletions"} { // other tests say what they answer; these may not have come to it yet
		owner.call("GET", path, nil)
	}
	owner.call("POST", "/deletions", answer{})
	for _, line := range []string{"GET /bots", "POST /bots", "GET /bots/1/tokens", "POST /bots/1/tokens", "DELETE /bots/1/tokens/1", "GET /rooms/1/incoming", "POST /rooms/1/incoming", "DELETE /rooms/1/incoming/1",
		"GET /rooms/1/outgoing", "POST /rooms/1/outgoing", "PATCH /rooms/1/outgoing/1", "DELETE /rooms/1/outgoing/1", "GET /rooms/1/outgoing/1/deliveries", "POST /rooms/1/outgoing/1/deliveries"} {
		method, path, _ := strings.Cut(line, " ")
		owner.call(method, path, answer{})
	}
	upload := owner.must("POST", "/uploads", answer{"client_id": chat.NewID(), "name": "x", "size": 5})["id"].(string)
	owner.must("GET", "/uploads/"+upload, nil)
	owner.refused(400, "files.not_bytes", "PATCH", "/uploads/"+upload, answer{})
	owner.must("DELETE", "/uploads/"+upload, nil)
	owner.refused(404, "chat.no_file", "GET", fmt.Sprintf("%s/messages/%d/files/1", path, seq), nil)
	owner.refused(404, "chat.no_file", "GET", fmt.Sprintf("%s/messages/%d/files/1/preview", path, seq), nil)

	if plan := owner.must("GET", path+"/retention/plan?days=30", nil); plan.num("days") != 30 || plan.num("messages") != 0 || plan["upto"] == nil {
		t.Error(plan)
	}
	if held := owner.must("PUT", path+"/retention", answer{"days": 30}); held.num("days") != 30 || held.num("own") != 30 || held["from"] == nil {
		t.Error(held)
	}
	if held := bob.must("GET", path+"/retention", nil); held.num("days") != 30 {
		t.Error(held)
	}
	bob.refused(403, "chat.may_not_retain", "PUT", path+"/retention", answer{"days": 1})
	owner.refused(400, "chat.retain_days", "PUT", path+"/retention", answer{"days": -1})
	if held := owner.must("PUT", path+"/retention", answer{"days": nil}); held.num("days") != 0 || held["own"] != nil {
		t.Error(held)
	}
	owner.refused(400, "web.retention_days", "PUT", "/retention", answer{})
	if held := owner.must("PUT", "/retention", answer{"days": 400}); held.num("days") != 400 {
		t.Error(held)
	}
	owner.must("GET", "/retention", nil)
	owner.must("GET", "/retention/plan", nil)
	bob.refused(403, "account.admins_only", "GET", "/retention", nil)
	trail := owner.must("GET", "/trail?action=room.&limit=3", nil)["entries"].([]any)
	if last := trail[0].(map[string]any); len(trail) != 3 || last["action"] != "room.retention" || last["actor"] != "owner" || last["via"] != "api" || last["address"] != "127.0.0.1" {
		t.Error(trail)
	}
	bob.refused(403, "account.admins_only", "GET", "/trail", nil)
	for _, one := range owner.must("GET", "/spaces", nil)["rooms"].([]any) {
		if r := answer(one.(map[string]any)); r.num("id") == room && (r.num("members") < 1 || r.num("entries") < 5 || r["last"] == nil) {
			t.Error(r)
		}
	}
	bob.refused(403, "account.admins_only", "GET", "/spaces", nil)
	if _, err := h.acc.SignIn(t.Context(), "bob", password, account.Client{Address: "192.0.2.77"}); err != nil {
		t.Fatal(err)
	}
	open := owner.must("GET", fmt.Sprintf("/people/%d/sessions", bob.id), nil)["sessions"].([]any)
	if len(open) == 0 {
		t.Fatal("bob is signed in nowhere")
	}
	bob.refused(403, "account.admins_only", "GET", fmt.Sprintf("/people/%d/sessions", owner.id), nil)
	owner.must("DELETE", fmt.Sprintf("/people/%d/sessions/%d", bob.id, answer(open[0].(map[string]any)).num("id")), nil)
	owner.refused(404, "account.no_session", "DELETE", fmt.Sprintf("/people/%d/sessions/%d", bob.id, answer(open[0].(map[string]any)).num("id")), nil)
	owner.call("DELETE", fmt.Sprintf("/people/%d/sessions", bob.id), nil)
	owner.refused(400, "web.watch_time", "GET", "/trail?since=yesterdayish", nil)
	h.cards(owner, gus, room)

	document().mu.Lock()
	defer document().mu.Unlock()
	for _, c := range h.door.calls() {
		method, path, _ := strings.Cut(c.pattern, " ")
		if pattern := method + " " + strings.TrimPrefix(path, "/api/v1"); !document().seen[pattern] && pattern != "DELETE /sessions/{session}" {
			t.Errorf("no answer of %s was checked", pattern)
		}
	}
}

// cards is what a program and a page without scripts see of what a link leads to.
func (h *house) cards(owner, other *person, room int64) {
	h.t.Helper()
	ctx := h.t.Context()
	path := fmt.Sprint("/rooms/", room)
	const body = "look: https://a.example/x?y=1&z"
	seq := owner.must("POST", path+"/messages", answer{"client_id": chat.NewID(), "body": body}).num("seq")
	var picture int64
	if err := h.db.App.QueryRow(ctx, `INSERT INTO chat.picture (sha256, type, width, height, data) VALUES ('x', 'image/png', 20, 10, 'picture') RETURNING id`).Scan(&picture); err != nil {
		h.t.Fatal(err)
	}
	card := chat.Card{Address: "https://a.example/x?y=1&z", Title: `A <b> "title"`, Description: "about", Site: "a.example", Picture: picture}
	if err := h.rooms.SetCards(ctx, room, seq, body, []chat.Card{card}); err != nil {
		h.t.Fatal(err)
	}
	have := fmt.Sprint(other.must("GET", fmt.Sprintf("%s/messages/%d", path, seq), nil)["cards"])
	if have != "[map[address:https://a.example/x?y=1&z description:about height:10 id:"+card.ID()+" site:a.example title:A <b> \"title\" width:20]]" {
		h.t.Error(have)
	}
	at := fmt.Sprintf("/room/%d/messages/%d/cards/%s", room, seq, card.ID())
	if code, text, _ := other.page(fmt.Sprint("/room/", room)); code != 200 || !strings.Contains(text, `A <b> "title"</a>`) || !strings.Contains(text, at) || strings.Contains(text, at+"/remove") {
		h.t.Error(code, text)
	}
	if code, text, header := other.page(at); code != 200 || text != "picture" || header.Get("Content-Type") != "image/png" || !strings.Contains(header.Get("Content-Security-Policy"), "sandbox") {
		h.t.Error(code, text, header)
	}
	if me := other.must("PATCH", "/me", answer{"cards": false}); me["cards"] != false {
		h.t.Error(me)
	}
	if _, text, _ := other.page(fmt.Sprint("/room/", room)); strings.Contains(text, at) {
		h.t.Error("who wants no cards is shown one")
	}
	other.refused(403, "chat.may_not_moderate", "DELETE", fmt.Sprintf("%s/messages/%d/cards/%s", path, seq, card.ID()), nil)
	other.refused(404, "chat.no_card", "GET", fmt.Sprintf("%s/messages/%d/cards/x", path, seq), nil)
	if code := owner.press(at+"/remove", url.Values{}); code != 303 {
		h.t.Error(code)
	}
	if again := owner.must("DELETE", fmt.Sprintf("%s/messages/%d/cards/%s", path, seq, card.ID()), nil); again.num("seq") != 0 {
		h.t.Error(again)
	}
	other.refused(404, "chat.no_card", "GET", fmt.Sprintf("%s/messages/%d/cards/%s", path, seq, card.ID()), nil)
}

// answers is the table of who may answer an alert, and what a program sees of it.
func (h *house) answers(owner, member *person) {
	h.t.Helper()
	ctx := h.t.Context()
	admin, guest := h.newcomer(owner, "admin", account.Admin, nil), h.newcomer(owner, "guest", account.Member, nil)
	me, err := h.acc.Person(ctx, owner.id)
	if err == nil {
		err = h.acc.SetRole(ctx, me, guest.id, account.Guest)
	}
	if err != nil {
		h.t.Fatal(err)
	}
	about := chat.Alert{Incident: "i", Part: 1, Severity: "high", Level: 4, Rules: []chat.AlertRule{{ID: "r", Title: map[string]string{"en": "R"}}, {ID: "s", Loud: true}},
		Cover: &chat.Cover{Actor: "dba", Network: "10.0.0.0/24", Acts: []chat.Act{{Rule: "r", Kind: "drop table", App: "psql"}, {Rule: "r", Kind: "drop view", App: "psql"}}}}
	if _, _, err := h.rooms.Alert(ctx, "topic", "**High**: tables were dropped", about); err != nil {
		h.t.Fatal(err)
	}
	ops := int64(0)
	for _, r := range owner.must("GET", "/rooms", nil)["rooms"].([]any) {
		if room := answer(r.(map[string]any)); room["kind"] == "ops" {
			ops = room.num("id")
		}
	}
	path := fmt.Sprintf("/rooms/%d", ops)
	seen := func(p *person) (m answer, alert answer) {
		messages := p.must("GET", path+"/messages", nil)["messages"].([]any)
		m = messages[len(messages)-1].(map[string]any)
		return m, m["alert"].(map[string]any)
	}
	m, alert := seen(admin)
	cover := alert["cover"].(map[string]any)
	if rules := cover["rules"].([]any); alert["state"] != "open" || len(rules) != 1 || len(rules[0].(map[string]any)["kinds"].([]any)) != 2 || len(alert["loud"].([]any)) != 1 {
		h.t.Errorf("%v", alert)
	}
	to := fmt.Sprintf("%s/messages/%d/answer", path, m.num("seq"))
	for _, row := range []struct {
		who  *person
		what string
		code int
		key  string
	}{
		{member, "acknowledged", 404, "chat.no_room"}, {guest, "acknowledged", 404, "chat.no_room"}, {member, "muted", 404, "chat.no_room"},
		{admin, "reopened", 409, "chat.not_answered"}, {admin, "closed", 400, "chat.answer"},
		{admin, "mine", 200, ""}, {owner, "reopened", 200, ""}, {owner, "acknowledged", 200, ""}, {admin, "reopened", 200, ""}, {admin, "muted", 200, ""},
	} {
		body := answer{"client_id": chat.NewID(), "what": row.what}
		if row.what == "muted" {
			body["days"], body["cover"] = 30, cover["id"]
		}
		if row.key != "" {
			row.who.refused(row.code, row.key, "POST", to, body)
		} else if code, out := row.who.call("POST", to, body); code != row.code || out.num("seq") == 0 {
			h.t.Errorf("%s by %d: %d %v", row.what, row.who.id, code, out)
		}
	}
	back := fmt.Sprintf("%s/messages/%d/back", path, m.num("seq"))
	member.refused(404, "chat.no_room", "POST", back, answer{"client_id": chat.NewID(), "what": "plan"})
	admin.refused(409, "chat.way_nothing", "POST", back, answer{"client_id": chat.NewID(), "what": "plan"})
	admin.refused(404, "chat.no_way", "POST", back, answer{"client_id": chat.NewID(), "what": "replace"})
	if _, alert = seen(owner); alert["state"] != "muted" || len(alert["answers"].([]any)) != 5 {
		h.t.Errorf("%v", alert)
	}
	about.Incident, about.Back = "lost", true
	if _, _, err := h.rooms.Alert(ctx, "topic", "**High**: a table was dropped", about); err != nil {
		h.t.Fatal(err)
	}
	m, _ = seen(admin)
	admin.must("POST", fmt.Sprintf("%s/messages/%d/back", path, m.num("seq")), answer{"client_id": chat.NewID(), "what": "plan"})
	messages := owner.must("GET", path+"/messages", nil)["messages"].([]any)
	if way := messages[len(messages)-1].(map[string]any)["way"].(map[string]any); way["state"] != "wanted" || way["incident"] != "lost" || len(way["offers"].([]any)) != 0 {
		h.t.Errorf("%v", way)
	}
	owner.must("GET", path+"/since?seq=0", nil)
	// Who runs the house no more neither sees nor answers it, also while they still stand in the room.
	if err := h.acc.SetRole(ctx, me, admin.id, account.Member); err != nil {
		h.t.Fatal(err)
	}
	admin.refused(404, "chat.no_room", "POST", to, answer{"client_id": chat.NewID(), "what": "reopened"})
	if rooms := admin.must("GET", "/rooms", nil)["rooms"].([]any); len(rooms) != 0 {
		h.t.Errorf("%v", rooms)
	}
}

func TestBadInputIsRefusedWithAReason(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	owner := h.owner()
	eve := h.newcomer(owner, "eve", account.Member, nil)
	room := owner.must("POST", "/rooms", answer{"client_id": chat.NewID(), "kind": "private", "name": "board"}).num("id")
	path := fmt.Sprintf("/rooms/%d", room)
	post := path + "/messages"
	for _, bad := range []struct {
		code      int
		key, body string
	}{
		{400, "web.bad_json", `{`},
		{400, "web.bad_json", `{"client_id":1}`},
		{400, "web.bad_json", `{"surprise":true}`},
		{400, "web.bad_json", `{"client_id":"` + chat.NewID() + `","body":"x"} {}`},
		{400, "chat.client_id", `{"body":"x"}`},
		{400, "chat.empty", `{"client_id":"` + chat.NewID() + `","body":"  \n"}`},
		{400, "chat.not_text", `{"client_id":"` + chat.NewID() + `","body":"a\u0000b"}`},
		{413, "chat.too_long", `{"client_id":"` + chat.NewID() + `","body":"` + strings.Repeat("x", 50000) + `"}`},
		{413, "web.too_large", `{"client_id":"` + chat.NewID() + `","body":"` + strings.Repeat("x", maxRequest) + `"}`},
	} {
		owner.refused(bad.code, bad.key, "POST", post, bad.body)
	}
	for _, forged := range []string{"/rooms/0", "/rooms/-1", "/rooms/99999999999999999999", "/rooms/x", "/rooms/1%00"} {
		if code, out := eve.call("GET", forged, nil); code != 404 {
			t.Errorf("%s: %d %v", forged, code, out)
		}
	}
	for _, c := range []struct{ method, path string }{
		{"GET", path}, {"GET", post}, {"GET", path + "/since?seq=0"}, {"GET", path + "/members"}, {"POST", path + "/join"}, {"PATCH", path}, {"PUT", path + "/read"},
	} {
		body := any(nil)
		if c.method == "PATCH" {
			body = answer{"name": "x"}
		}
		if c.method == "PUT" {
			eve.call(c.method, c.path, answer{"seq": 1})
			continue
		}
		eve.refused(404, "chat.no_room", c.method, c.path, body)
	}
	eve.refused(403, "chat.not_member", "POST", post, answer{"client_id": chat.NewID(), "body": "let me in"})
	owner.refused(400, "web.bad_number", "GET", post+"?before=x", nil)
	for _, locale := range []string{`"xx"`, `"en\u0000"`, `"` + strings.Repeat("e", 1000) + `"`} {
		owner.refused(400, "account.locale", "PATCH", "/me", `{"locale":`+locale+`}`)
	}
	owner.refused(400, "account.theme", "PATCH", "/me", `{"theme":"\u0000"}`)
	nobody := &person{h, "hwd_nothing", 0}
	nobody.refused(401, "account.bad_token", "GET", "/me", nil)
	nobody.token = ""
	nobody.refused(401, "account.sign_in", "GET", "/me", nil)
}

func TestForeignSitesCannotActInAPersonsName(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	browser := h.browser()
	fields := url.Values{"name": {"Ann"}, "handle": {"ann"}, "password": {password}}
	if code, path, body := h.submit(browser, "/setup/"+h.setup, fields); code != 200 || !strings.HasPrefix(path, "/room/") {
		t.Fatal(code, path, body)
	}
	for _, header := range [][]string{{"Sec-Fetch-Site", "cross-site"}, {"Sec-Fetch-Site", "same-site"}, {"Origin", "https://evil.example"}} {
		if code, _, _ := h.submit(browser, "/rooms", url.Values{"name": {"x"}, "kind": {"public"}, "client_id": {chat.NewID()}}, header...); code != http.StatusForbidden {
			t.Errorf("%v: %d", header, code)
		}
	}
	if code, path, _ := h.submit(browser, "/rooms", url.Values{"name": {"y"}, "kind": {"public"}, "client_id": {chat.NewID()}}, "Sec-Fetch-Site", "same-origin"); code != 200 || !strings.HasPrefix(path, "/room/") {
		t.Error(code, path)
	}
	u, err := url.Parse(h.url)
	if err != nil {
		t.Fatal(err)
	}
	cookies := browser.Jar.Cookies(u)
	cookie := cookies[slices.IndexFunc(cookies, func(c *http.Cookie) bool { return c.Name == sessionCookie })]
	for origin, want := range map[string]bool{h.url: true, "https://evil.example": false, "null": false, "": false, h.url + ".evil.example": false} {
		header := http.Header{"Cookie": {cookie.String()}}
		if origin != "" {
			header.Set("Origin", origin)
		}
		conn, _, _, err := ws.Dialer{Header: ws.HandshakeHeaderHTTP(header)}.Dial(t.Context(), strings.Replace(h.url, "http", "ws", 1)+"/api/v1/live")
		if (err == nil) != want {
			t.Errorf("socket from origin %q: %v", origin, err)
		}
		if err == nil {
			conn.Close()
		}
	}
}

// atOnce does something n times at the same time: what slows people down counts in seconds, and a machine may need many for one sign-in.
func atOnce(n int, do func(i int) int) []int {
	codes := make([]int, n)
	var all sync.WaitGroup
	for i := range codes {
		all.Go(func() { codes[i] = do(i) })
	}
	all.Wait()
	return codes
}

func TestTheSetupLinkWorksOnceAndSignInIsLimited(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	first := h.browser()
	fields := url.Values{"name": {"Ann"}, "handle": {"Ann"}, "password": {"short"}}
	if code, _, body := h.submit(first, "/setup/"+h.setup, fields); code != 400 || !strings.Contains(body, "10 to 256") {
		t.Error(code, body)
	}
	if code, _, _ := h.submit(first, "/setup/wrong", fields); code != 400 && code != 404 {
		t.Error(code)
	}
	fields.Set("password", password)
	if code, path, _ := h.submit(first, "/setup/"+h.setup, fields); code != 200 || !strings.HasPrefix(path, "/room/") {
		t.Fatal(code, path)
	}
	if code, _, _ := h.submit(h.browser(), "/setup/"+h.setup, url.Values{"name": {"Eve"}, "handle": {"eve"}, "password": {password}}); code != 404 {
		t.Errorf("the link worked twice: %d", code)
	}
	other := h.browser()
	sign := func(c *http.Client, handle, password, next string) (int, string) {
		code, path, _ := h.submit(c, "/sign-in", url.Values{"handle": {handle}, "password": {password}, "next": {next}})
		return code, path
	}
	if code, path := sign(other, "@ANN", password, "/me"); code != 200 || path != "/me" {
		t.Error(code, path)
	}
	if _, path := sign(h.browser(), "ann", password, "//evil.example/x"); !strings.HasPrefix(path, "/room/") {
		t.Errorf("led away to %s", path)
	}
	limited := false
	for _, code := range atOnce(15, func(int) int { code, _ := sign(h.browser(), "ann", "not this one", ""); return code }) {
		limited = limited || code == http.StatusTooManyRequests
		if code != http.StatusUnauthorized && code != http.StatusTooManyRequests && code != http.StatusServiceUnavailable { // the last on a machine that is too busy for its database
			t.Errorf("wrong password: %d", code)
		}
	}
	if !limited {
		t.Error("guessing was not slowed down")
	}
}

func TestAnInvitationIntoARoomIsForThoseWhoHaveAnAccountToo(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	owner := h.owner()
	h.newcomer(owner, "bob", account.Member, nil)
	room := owner.must("POST", "/rooms", answer{"client_id": chat.NewID(), "kind": "private", "name": "board"}).num("id")
	link, _ := owner.must("POST", "/invites", answer{"room": room})["url"].(string)
	_, path, _ := strings.Cut(strings.TrimPrefix(link, "http://"), "/")
	bob := h.browser()
	if code, path, body := h.submit(bob, "/sign-in", url.Values{"handle": {"bob"}, "password": {password}, "next": {"/" + path}}); code != 200 || !strings.Contains(body, "Accept the invitation") {
		t.Fatal(code, path)
	}
	left := func() int64 {
		list, _ := owner.must("GET", "/invites", nil)["invites"].([]any)
		one, _ := list[len(list)-1].(map[string]any)
		return answer(one).num("uses_left")
	}
	before := left()
	for range 2 { // again is harmless, and costs the invitation nothing
		if code, where, _ := h.submit(bob, "/"+path, nil); code != 200 || where != fmt.Sprint("/room/", room) {
			t.Error(code, where)
		}
	}
	if left() != before-1 {
		t.Errorf("%d uses left of %d", left(), before)
	}
	if n := owner.must("GET", fmt.Sprint("/rooms/", room), nil).num("members"); n != 2 {
		t.Errorf("%d members", n)
	}
}

func TestWhoComesByAProxyIsWhoTheyAre(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.owner()
	sign := func(password string, header ...string) int {
		code, _, _ := h.submit(h.browser(), "/sign-in", url.Values{"handle": {"nobody " + chat.NewID()}, "password": {password}}, header...)
		return code
	}
	// What stands before the proxy's own word is the guesser's invention.
	codes := atOnce(15, func(i int) int { return sign("wrong", "X-Forwarded-For", fmt.Sprintf("192.0.2.%d, 203.0.113.9", i)) })
	if !slices.Contains(codes, http.StatusTooManyRequests) {
		t.Error("guessing through a proxy was not slowed down")
	}
	if code := sign("wrong", "X-Forwarded-For", "198.51.100.1"); code == http.StatusTooManyRequests {
		t.Errorf("somebody else was slowed down with them: %d", code)
	}
}

func TestThePublicURLIsOursUnderWhateverNameAProxyAsks(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.owner()
	door := New(t.Context(), h.acc, h.rooms, h.tell, Options{PublicURL: "https://chat.example.org"})
	t.Cleanup(door.Close)
	server := httptest.NewServer(door)
	t.Cleanup(server.Close)
	entry, err := h.acc.SignIn(t.Context(), "owner", password, account.Client{})
	if err != nil {
		t.Fatal(err)
	}
	for origin, want := range map[string]bool{"https://chat.example.org": true, "http://chat.example.org": false, "https://chat.example.org.evil.example": false, "": false} {
		header := http.Header{"Cookie": {sessionCookie + "=" + entry.Session}}
		if origin != "" {
			header.Set("Origin", origin)
		}
		conn, _, _, err := ws.Dialer{Header: ws.HandshakeHeaderHTTP(header)}.Dial(t.Context(), strings.Replace(server.URL, "http", "ws", 1)+"/api/v1/live")
		if (err == nil) != want {
			t.Errorf("socket from origin %q: %v", origin, err)
		}
		if err == nil {
			conn.Close()
		}
		if origin == "" {
			continue // no browser
		}
		at := *h
		at.url = server.URL
		if code, _, _ := at.submit(http.DefaultClient, "/sign-in", url.Values{"handle": {"owner"}, "password": {"wrong"}}, "Origin", origin); (code != http.StatusForbidden) != want {
			t.Errorf("form from origin %q: %d", origin, code)
		}
	}
}

func TestTheWaitingDoorSaysWhyToPeopleAndPrograms(t *testing.T) {
	t.Parallel()
	var why error
	server := httptest.NewServer(Waiting(func() error { return why }))
	t.Cleanup(server.Close)
	ask := func(path string) string {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		response, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		raw, err := io.ReadAll(response.Body)
		if err != nil || response.StatusCode != http.StatusServiceUnavailable {
			t.Errorf("%s: %d %v", path, response.StatusCode, err)
		}
		return string(raw)
	}
	if have := ask("/healthz"); !strings.Contains(have, `"key":"pg.away"`) {
		t.Error(have)
	}
	why = fault.New(fault.Unavailable, "pg.disk_full")
	if have := ask("/healthz"); !strings.Contains(have, `"key":"pg.disk_full"`) {
		t.Error(have)
	}
	if have := ask("/room/1"); !strings.Contains(have, "One moment") || !strings.Contains(have, "disk is full") {
		t.Error("the page does not say why")
	}
	if have := ask("/watch?class=role"); !strings.Contains(have, "howdah audit tail") {
		t.Error("who looks for what happened is not told where it is written")
	}
}
