package web

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"howdah/internal/account"
	"howdah/internal/chat"
)

// send posts to an address as a program does that knows nothing of us.
func (h *house) send(address, kind, body string, header ...string) (int, string, http.Header) {
	h.t.Helper()
	r, err := http.NewRequestWithContext(h.t.Context(), http.MethodPost, address, strings.NewReader(body))
	if err != nil {
		h.t.Fatal(err)
	}
	r.Header.Set("Content-Type", kind)
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		h.t.Fatal(err)
	}
	defer response.Body.Close()
	raw, err := io.ReadAll(response.Body)
	if err != nil {
		h.t.Fatal(err)
	}
	return response.StatusCode, string(raw), response.Header
}

// said are the bodies in a room, oldest first.
func (p *person) said(path string) (bodies []string) {
	p.t.Helper()
	for _, m := range p.must("GET", path+"/since?seq=0", nil)["events"].([]any) {
		if e := m.(map[string]any); e["kind"] == "post" {
			bodies = append(bodies, e["message"].(map[string]any)["body"].(string))
		}
	}
	return bodies
}

func TestAnIncomingWebhookSpeaksInItsRoom(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	owner := h.owner()
	bob, admin := h.newcomer(owner, "bob", account.Member, nil), h.newcomer(owner, "admin", account.Admin, nil)
	room := bob.must("POST", "/rooms", answer{"client_id": chat.NewID(), "kind": "private", "name": "builds"}).num("id")
	path := fmt.Sprint("/rooms/", room)
	bob.must("PUT", fmt.Sprintf("%s/members/%d", path, owner.id), answer{})
	admin.refused(404, "chat.no_room", "POST", path+"/incoming", answer{"name": "x"})
	made := bob.must("POST", path+"/incoming", answer{"name": "Build Server"})
	address := made["url"].(string)
	if code, said, _ := h.send(address, "application/json", `{"text":"*done* <https://ci.example|log> @room @bob"}`); code != 200 || said != "ok" {
		t.Fatal(code, said)
	}
	if code, said, _ := h.send(address, "application/x-www-form-urlencoded", url.Values{"payload": {`{"attachments":[{"text":"two"}]}`}}.Encode()); code != 200 || said != "ok" {
		t.Fatal(code, said)
	}
	page := bob.must("GET", path+"/messages", nil)["messages"].([]any)
	first := page[0].(map[string]any)
	by := first["by"].(map[string]any)
	if by["bot"] != true || by["name"] != "Build Server" || first["body"] != "**done** [log](https://ci.example) @room @bob" || fmt.Sprint(first["mentions"]) != "[bob]" || page[1].(map[string]any)["body"] != "> two" {
		t.Error(page)
	}
	if _, text, _ := bob.page(fmt.Sprint("/room/", room)); !strings.Contains(text, `class="bot"`) {
		t.Error("the page does not say that a bot speaks")
	}
	for _, bad := range []struct {
		code            int
		key, kind, body string
	}{
		{400, "hook.no_json", "application/json", `hello`},
		{400, "hook.empty", "application/json", `{}`},
		{400, "hook.form", "application/x-www-form-urlencoded", `text=hello`},
		{413, "web.too_large", "application/json", `{"text":"` + strings.Repeat("x", maxHook) + `"}`},
	} {
		if code, said, _ := h.send(address, bad.kind, bad.body); code != bad.code || !strings.Contains(said, `"`+bad.key+`"`) {
			t.Error(bad.key, code, said)
		}
	}
	if code, _, _ := h.send(h.url+hooksPath+"hwi_nothing", "application/json", `{"text":"x"}`); code != 404 {
		t.Error(code)
	}
	if list := bob.must("GET", path+"/incoming", nil)["incoming"].([]any); list[0].(map[string]any)["trouble"] != "hook.form" || list[0].(map[string]any)["used"] != 5.0 {
		t.Error(list)
	}

	// GitHub's, signed, and the same again.
	signedAt := bob.must("POST", path+"/incoming", answer{"name": "GitHub", "secret": "s3cret"})
	push := `{"action":"opened","issue":{"number":1,"title":"Bug"},"repository":{"full_name":"a/b"},"sender":{"login":"ann"}}`
	mac := hmac.New(sha256.New, []byte("s3cret"))
	mac.Write([]byte(push))
	good := "sha256=" + hex.EncodeToString(mac.Sum(nil))
	for _, signature := range []string{"", "sha256=00", strings.ToUpper(good[:10]) + good[10:]} {
		if code, said, _ := h.send(signedAt["url"].(string), "application/json", push, "X-GitHub-Event", "issues", "X-Hub-Signature-256", signature); code != 403 || !strings.Contains(said, "hook.signature") {
			t.Error(code, said)
		}
	}
	for range 2 {
		if code, said, _ := h.send(signedAt["url"].(string), "application/json", push, "X-GitHub-Event", "issues", "X-GitHub-Delivery", "d1", "X-Hub-Signature-256", good); code != 200 {
			t.Error(code, said)
		}
	}
	if bodies := bob.said(path); len(bodies) != 3 || !strings.Contains(bodies[2], "#1 Bug") {
		t.Error(bodies)
	}

	// A group of alerts is one message that changes; what is new in it is a reply that stands in the room.
	group := func(status string, hosts ...string) string {
		var alerts []string
		for _, host := range hosts {
			alerts = append(alerts, fmt.Sprintf(`{"status":%q,"labels":{"host":%q},"fingerprint":%q}`, status, host, host))
		}
		return fmt.Sprintf(`{"version":"4","groupKey":"g","status":%q,"receiver":"am","commonLabels":{"alertname":"Full"},"alerts":[%s]}`, status, strings.Join(alerts, ","))
	}
	for _, body := range []string{group("resolved", "a"), group("firing", "a"), group("firing", "a"), group("firing", "a", "b"), group("resolved", "a", "b"), group("resolved", "a", "b"), group("firing", "a")} {
		if code, said, _ := h.send(address, "application/json", body); code != 200 {
			t.Fatal(code, said)
		}
	}
	bodies := bob.said(path)[3:]
	if len(bodies) != 4 || !strings.HasPrefix(bodies[0], "✅ **RESOLVED**") || !strings.Contains(bodies[1], "host=b") || bodies[2] != "✅ RESOLVED" || !strings.HasPrefix(bodies[3], "🔥 **FIRING:1**") {
		t.Errorf("%q", bodies)
	}

	// A flood comes to wait, and people do not.
	for i := 0; ; i++ {
		code, _, header := h.send(address, "application/json", `{"text":"x"}`)
		if code == http.StatusTooManyRequests && header.Get("Retry-After") != "" {
			break
		}
		if code != 200 || i > 5000 {
			t.Fatal(code, i)
		}
	}
	bob.must("POST", path+"/messages", answer{"client_id": chat.NewID(), "body": "people speak"})

	// Whoever is taken out of a room is silent in it, and a way that is closed is closed.
	loud := bob.must("POST", path+"/incoming", answer{"name": "Loud", "calls": true})
	if code, said, _ := h.send(loud["url"].(string), "application/json", `{"text":"<!channel> wake up"}`); code != 200 {
		t.Fatal(code, said)
	}
	if r := owner.must("GET", path, nil); r.num("mentions") != 1 {
		t.Error(r)
	}
	list := bob.must("GET", path+"/incoming", nil)["incoming"].([]any)
	bot := answer(list[2].(map[string]any)["bot"].(map[string]any)).num("id")
	bob.must("DELETE", fmt.Sprintf("%s/members/%d", path, bot), nil)
	if code, said, _ := h.send(loud["url"].(string), "application/json", `{"text":"x"}`); code != 403 || !strings.Contains(said, "chat.not_member") {
		t.Error(code, said)
	}
	bob.must("DELETE", fmt.Sprintf("%s/incoming/%d", path, made.num("id")), nil)
	bob.refused(404, "hook.no_hook", "DELETE", fmt.Sprintf("%s/incoming/%d", path, made.num("id")), nil)
	if code, _, _ := h.send(address, "application/json", `{"text":"x"}`); code != 404 {
		t.Error(code)
	}
}

func TestABotIsWhereItWasPutAndATokenIsGoodForWhatItSays(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	owner := h.owner()
	bob := h.newcomer(owner, "bob", account.Member, nil)
	bob.refused(403, "account.admins_only", "POST", "/bots", answer{"handle": "x-bot", "name": "X"})
	bot := owner.must("POST", "/bots", answer{"handle": "Helper", "name": "Helper"}).num("id")
	owner.must("GET", "/bots", nil)
	bob.refused(404, "account.no_bot", "GET", fmt.Sprintf("/bots/%d/tokens", bot), nil)
	owner.refused(400, "account.token_scope", "POST", fmt.Sprintf("/bots/%d/tokens", bot), answer{"name": "ci", "scope": "all"})
	public := owner.must("POST", "/rooms", answer{"client_id": chat.NewID(), "kind": "public", "name": "lobby"}).num("id")
	room := owner.must("POST", "/rooms", answer{"client_id": chat.NewID(), "kind": "private", "name": "builds"}).num("id")
	other := owner.must("POST", "/rooms", answer{"client_id": chat.NewID(), "kind": "private", "name": "other"}).num("id")
	token := func(draft answer) *person {
		return &person{h, owner.must("POST", fmt.Sprintf("/bots/%d/tokens", bot), draft)["token"].(string), bot}
	}
	writer, reader, here := token(answer{"name": "w"}), token(answer{"name": "r", "scope": "read", "days": 1}), token(answer{"name": "h", "scope": "write", "rooms": []int64{room}})
	if me := writer.must("GET", "/me", nil); me["bot"] != true || me["role"] != "guest" {
		t.Error(me)
	}
	words := func() answer { return answer{"client_id": chat.NewID(), "body": "hi @room"} }
	post := func(room int64) string { return fmt.Sprintf("/rooms/%d/messages", room) }
	writer.refused(403, "chat.not_member", "POST", post(public), words())
	writer.refused(404, "chat.no_room", "GET", post(public), nil)
	for _, id := range []int64{room, other} {
		owner.must("PUT", fmt.Sprintf("/rooms/%d/members/%d", id, bot), answer{})
	}
	writer.must("POST", post(room), words())
	writer.refused(403, "web.token_scope", "POST", "/tokens", answer{"name": "more"})
	writer.refused(403, "web.token_scope", "PATCH", "/me", answer{"name": "more"})
	reader.must("GET", post(room), nil)
	reader.refused(403, "web.token_scope", "POST", post(room), words())
	here.must("POST", post(room), words())
	here.refused(404, "chat.no_room", "POST", post(other), words())
	here.refused(404, "chat.no_room", "GET", post(other), nil)
	here.refused(403, "web.token_rooms", "GET", "/search?q=hi", nil)
	if rooms := here.must("GET", "/rooms", nil)["rooms"].([]any); len(rooms) != 1 {
		t.Error(rooms)
	}
	if code, _, _ := writer.page("/me"); code != 403 {
		t.Error("a page for a token that is not for everything:", code)
	}

	// The live socket keeps to the same.
	narrow := here.listen(room, 0)
	narrow.send(answer{"do": "post", "id": 1, "room": other, "client_id": chat.NewID(), "body": "x"})
	if e := narrow.await("error"); e["key"] != "chat.no_room" {
		t.Error(e)
	}
	narrow.send(answer{"do": "post", "id": 2, "room": room, "client_id": chat.NewID(), "body": "heard"})
	narrow.await("ok")
	deaf := reader.listen(room, 0)
	deaf.send(answer{"do": "post", "id": 1, "room": room, "client_id": chat.NewID(), "body": "x"})
	if e := deaf.await("error"); e["key"] != "web.token_scope" {
		t.Error(e)
	}
	owner.must("POST", post(other), words())
	owner.must("POST", post(room), answer{"client_id": chat.NewID(), "body": "the last"})
	for {
		e := narrow.await("event")
		if e.num("room") != room {
			t.Fatal("heard from another room", e)
		}
		if m, _ := e["message"].(map[string]any); m != nil && m["body"] == "the last" {
			break
		}
	}

	// Nobody signs in as a bot, nobody makes it more than a guest, and who answers for it can be somebody else.
	if _, err := h.acc.SignIn(t.Context(), "helper", password, account.Client{}); err == nil {
		t.Error("somebody signed in as a bot")
	}
	me, err := h.acc.Person(t.Context(), owner.id)
	if err != nil {
		t.Fatal(err)
	}
	if err := h.acc.SetRole(t.Context(), me, bot, account.Admin); err == nil {
		t.Error("a bot became an admin")
	}
	if _, _, _, err := h.acc.NewPassword(t.Context(), "helper", false); err == nil {
		t.Error("a bot has a password")
	}
	boss := h.newcomer(owner, "boss", account.Admin, nil)
	them, err := h.acc.Person(t.Context(), boss.id)
	if err == nil {
		err = h.acc.TakeBot(t.Context(), them, bot)
	}
	if err == nil {
		err = h.acc.Disable(t.Context(), me, boss.id, true)
	}
	if err != nil {
		t.Fatal(err)
	}
	reader.refused(401, "account.bad_token", "GET", "/me", nil)
	if err := h.acc.TakeBot(t.Context(), me, bot); err != nil {
		t.Fatal(err)
	}
	reader.must("GET", "/me", nil)
	if _, err := h.db.App.Exec(context.WithoutCancel(t.Context()), `UPDATE account.token SET ends_at = now() WHERE name = 'r'`); err != nil {
		t.Fatal(err)
	}
	reader.refused(401, "account.bad_token", "GET", "/me", nil)
	for _, one := range owner.must("GET", fmt.Sprintf("/bots/%d/tokens", bot), nil)["tokens"].([]any) {
		owner.must("DELETE", fmt.Sprintf("/bots/%d/tokens/%d", bot, answer(one.(map[string]any)).num("id")), nil)
	}
	writer.refused(401, "account.bad_token", "GET", "/me", nil)
}

// TestThePagesOfConnections does with forms what the API does, as people do who have no scripts.
func TestThePagesOfConnections(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	browser := h.browser()
	submit := func(path string, fields url.Values) (int, string, string) { return h.submit(browser, path, fields) }
	if code, path, body := submit("/setup/"+h.setup, url.Values{"name": {"Ann"}, "handle": {"ann"}, "password": {password}}); code != 200 {
		t.Fatal(code, path, body)
	}
	_, room, _ := submit("/rooms", url.Values{"name": {"builds"}, "kind": {"private"}, "client_id": {chat.NewID()}})
	if code, _, body := h.get(browser, room); code != 200 || !strings.Contains(body, `href="`+room+`/hooks"`) {
		t.Error("the room does not lead to its connections", code)
	}
	shown := func(body string) string {
		_, rest, _ := strings.Cut(body, `id="fresh" readonly value="`)
		value, _, _ := strings.Cut(rest, `"`)
		return value
	}
	_, _, body := submit(room+"/hooks/incoming", url.Values{"name": {"CI"}})
	address := shown(body)
	if code, said, _ := h.send(address, "application/json", `{"text":"hello"}`); code != 200 {
		t.Fatal(code, said, body)
	}
	h.send(address, "application/json", `{}`)
	if _, _, body := h.get(browser, room+"/hooks"); strings.Contains(body, address) || !strings.Contains(body, "The payload says nothing") {
		t.Error("the page of connections")
	}
	to := newReceiver(t)
	if code, _, body := submit(room+"/hooks/outgoing", url.Values{"name": {"Out"}, "url": {"nowhere"}, "hears": {"mention"}}); code != 400 || !strings.Contains(body, `value="nowhere"`) || !strings.Contains(body, `value="mention" selected`) {
		t.Error("what was typed is gone", code)
	}
	if _, _, body = submit(room+"/hooks/outgoing", url.Values{"name": {"Out"}, "url": {to.URL + "/secret-path"}, "hears": {"all"}}); !strings.HasPrefix(shown(body), "whsec_") || strings.Contains(body, "secret-path") {
		t.Error(shown(body))
	}
	hook := room + "/hooks/outgoing/1"
	if code, path, _ := submit(hook+"/test", nil); code != 200 || path != room+"/hooks" || len(to.ids) != 1 {
		t.Error(code, path, to.ids)
	}
	to.answer = func(int, map[string]any) (int, string) { return 500, "" }
	if code, _, body := submit(hook+"/test", nil); code != 409 || !strings.Contains(body, "500") {
		t.Error(code)
	}
	for _, do := range []string{hook + "/off", hook + "/on", hook + "/drop", room + "/hooks/incoming/1/drop"} {
		if code, path, body := submit(do, nil); code != 200 || path != room+"/hooks" {
			t.Error(do, code, path, body)
		}
	}

	if code, path, body := submit("/bots", url.Values{"name": {"Helper"}, "handle": {"helper"}}); code != 200 || path != "/bots" || !strings.Contains(body, "@helper") {
		t.Fatal(code, path, body)
	}
	bot := 0
	if err := h.db.App.QueryRow(t.Context(), `SELECT id FROM account.person WHERE handle = 'helper'`).Scan(&bot); err != nil {
		t.Fatal(err)
	}
	_, _, body = submit(fmt.Sprintf("/bots/%d/tokens", bot), url.Values{"name": {"ci"}, "scope": {"write"}, "days": {"30"}})
	if code, me := (&person{h, shown(body), 0}).call("GET", "/me", nil); code != 200 || me["handle"] != "helper" {
		t.Error(code, me)
	}
	if code, _, body := submit(fmt.Sprintf("/bots/%d/tokens", bot), url.Values{"name": {"ci"}, "scope": {"all"}}); code != 400 || !strings.Contains(body, "bot’s is for") && !strings.Contains(body, "a bot&#39;s is for") {
		t.Error(code)
	}
	if _, _, body = submit("/me/tokens", url.Values{"name": {"mine"}, "scope": {"read"}, "days": {"0"}}); !strings.HasPrefix(shown(body), "hwd_") {
		t.Error("a token of one's own")
	}
	if code, _, _ := submit(fmt.Sprintf("/bots/%d/tokens/1/revoke", bot), nil); code != 200 {
		t.Error(code)
	}
	if code, _, body := h.get(browser, "/people"); code != 200 || !strings.Contains(body, `class="bot"`) {
		t.Error("the people's page does not tell bots")
	}
}

func (h *house) get(c *http.Client, path string) (int, string, string) {
	h.t.Helper()
	r, err := http.NewRequestWithContext(h.t.Context(), http.MethodGet, h.url+path, nil)
	if err != nil {
		h.t.Fatal(err)
	}
	response, err := c.Do(r)
	if err != nil {
		h.t.Fatal(err)
	}
	defer response.Body.Close()
	raw, err := io.ReadAll(response.Body)
	if err != nil {
		h.t.Fatal(err)
	}
	return response.StatusCode, response.Request.URL.Path, string(raw)
}
