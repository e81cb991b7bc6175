package web

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"howdah/internal/account"
	"howdah/internal/chat"
	"howdah/internal/outside"
)

func localhost(t testing.TB) outside.Allowance {
	t.Helper()
	a, err := outside.ParseAllowance([]string{"127.0.0.1"})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// receiver takes what outgoing webhooks send.
type receiver struct {
	*httptest.Server
	mu     sync.Mutex
	answer func(n int, m map[string]any) (int, string)
	came   []map[string]any
	ids    []string
}

func newReceiver(t *testing.T) *receiver {
	r := &receiver{answer: func(int, map[string]any) (int, string) { return 204, "" }}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, in *http.Request) {
		raw, _ := io.ReadAll(in.Body)
		var m map[string]any
		if err := json.Unmarshal(raw, &m); err != nil {
			t.Error(err)
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		m["_signature"], m["_at"], m["_raw"] = in.Header.Get("Webhook-Signature"), in.Header.Get("Webhook-Timestamp"), string(raw)
		r.came, r.ids = append(r.came, m), append(r.ids, in.Header.Get("Webhook-Id"))
		code, body := r.answer(len(r.came), m)
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(code)
		_, _ = io.WriteString(w, body)
	}))
	t.Cleanup(r.Close)
	return r
}

// texts are those that came, without tests.
func (r *receiver) texts() (texts []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, m := range r.came {
		if m["test"] != true {
			texts = append(texts, m["text"].(string))
		}
	}
	return texts
}

// until waits for a condition, generously.
func until(t *testing.T, what string, is func() bool) {
	t.Helper()
	look, never := time.NewTicker(20*time.Millisecond), time.After(2*time.Minute)
	defer look.Stop()
	for !is() {
		select {
		case <-look.C:
		case <-never:
			t.Fatal("never: " + what)
		}
	}
}

func TestAnOutgoingWebhookSendsWhatPeopleSay(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	stop := h.runHooks()
	owner := h.owner()
	bob := h.newcomer(owner, "bob", account.Member, nil)
	room := bob.must("POST", "/rooms", answer{"client_id": chat.NewID(), "kind": "private", "name": "builds"}).num("id")
	path := fmt.Sprint("/rooms/", room)
	say := func(words string) {
		bob.must("POST", path+"/messages", answer{"client_id": chat.NewID(), "body": words})
	}
	for _, bad := range []struct{ key, url, hears, word string }{
		{"outside.url", "ftp://x.example", "all", ""}, {"outside.url", "http://u:p@x.example", "", ""}, {"hook.hears", "https://x.example", "none", ""}, {"hook.word", "https://x.example", "word", "two words"},
	} {
		bob.refused(400, bad.key, "POST", path+"/outgoing", answer{"name": "x", "url": bad.url, "hears": bad.hears, "word": bad.word})
	}
	all, word := newReceiver(t), newReceiver(t)
	all.answer = func(n int, m map[string]any) (int, string) {
		if n == 1 {
			return 500, `{"text":"never said"}`
		}
		if m["text"] == "no" {
			return 422, ""
		}
		return 200, `{"text":"heard *you*"}`
	}
	say("before")
	made := bob.must("POST", path+"/outgoing", answer{"name": "All", "url": all.URL + "/secret"})
	bob.must("POST", path+"/outgoing", answer{"name": "Word", "url": word.URL, "hears": "word", "word": "!deploy"})
	inside := bob.must("POST", path+"/outgoing", answer{"name": "Inside", "url": strings.Replace(word.URL, "127.0.0.1", "127.0.0.2", 1)})
	say("one")
	say("!Deploy now")
	until(t, "the first try", func() bool { return len(all.texts()) > 0 })
	hook := fmt.Sprintf("%s/outgoing/%d", path, made.num("id"))
	until(t, "the failure is noted", func() bool {
		list := bob.must("GET", hook+"/deliveries", nil)["deliveries"].([]any)
		return len(list) == 1 && list[0].(map[string]any)["status"] == 500.0
	})
	hurry := func() {
		if _, err := h.db.App.Exec(t.Context(), `UPDATE chat.outgoing SET next_at = now()`); err != nil {
			t.Fatal(err)
		}
	}
	hurry()
	until(t, "what was said arrives in order", func() bool { return len(all.texts()) == 3 })
	if have := fmt.Sprint(all.texts(), word.texts()); have != "[one one !Deploy now] [!Deploy now]" {
		t.Error(have)
	}
	all.mu.Lock()
	first, again := all.came[0], all.came[1]
	if all.ids[0] != all.ids[1] || all.ids[0] != fmt.Sprint(first["id"]) || first["user_name"] != "bob" || first["channel_name"] != "builds" {
		t.Error(all.ids, first)
	}
	key, err := outside.Key(made["secret"].(string))
	if err != nil || outside.Signature(key, all.ids[1], again["_at"].(string), []byte(again["_raw"].(string))) != again["_signature"] {
		t.Error("the signature is wrong", err)
	}
	all.mu.Unlock()
	until(t, "the answers are said", func() bool { return strings.Count(strings.Join(bob.said(path), "\n"), "heard **you**") == 2 })

	// What the other side calls wrong is left after some tries, and what comes after it arrives.
	say("no")
	say("after")
	until(t, "the next one arrives", func() bool {
		hurry()
		texts := all.texts()
		return texts[len(texts)-1] == "after"
	})
	tries := 0
	for _, text := range all.texts() {
		if text == "no" {
			tries++
		}
	}
	if tries != 3 {
		t.Error(tries, "tries")
	}

	// A private address is not spoken to, whatever its name.
	list := bob.must("GET", path+"/outgoing", nil)["outgoing"].([]any)
	if one := list[2].(map[string]any); !strings.Contains(one["why"].(string), "outside.private") || one["failing_since"] == nil {
		t.Error(one)
	}

	// By hand: a test, and the same message once more, under its id.
	if d := bob.must("POST", hook+"/deliveries", answer{"seq": 0}); d.num("status") != 200 || d["why"] != "" {
		t.Error(d)
	}
	page := bob.must("GET", hook+"/deliveries", nil)["deliveries"].([]any)
	newest := answer(page[0].(map[string]any))
	bob.must("POST", hook+"/deliveries", answer{"seq": newest.num("seq")})
	all.mu.Lock()
	if n := len(all.ids); all.ids[n-1] != all.ids[n-3] {
		t.Error(all.ids)
	}
	all.mu.Unlock()
	owner.refused(404, "chat.no_room", "GET", hook+"/deliveries", nil)

	// After a kill it goes on where it was; one that fails for days is switched off, and its maker is told.
	stop()
	say("while away")
	if _, err := h.db.App.Exec(t.Context(), `UPDATE chat.outgoing SET failing_since = now() - interval '4 days', next_at = now() WHERE id = $1`, inside.num("id")); err != nil {
		t.Fatal(err)
	}
	h.runHooks()
	until(t, "it goes on", func() bool { texts := all.texts(); return texts[len(texts)-1] == "while away" })
	until(t, "it is switched off", func() bool {
		return bob.must("GET", path+"/outgoing", nil)["outgoing"].([]any)[2].(map[string]any)["on"] == false
	})
	until(t, "its maker is told", func() bool {
		for _, r := range bob.must("GET", "/rooms", nil)["rooms"].([]any) {
			if direct := answer(r.(map[string]any)); direct["kind"] == "direct" {
				return strings.Contains(strings.Join(bob.said(fmt.Sprint("/rooms/", direct.num("id"))), "\n"), "Inside")
			}
		}
		return false
	})
	bob.must("PATCH", fmt.Sprintf("%s/outgoing/%d", path, inside.num("id")), answer{"on": true})
	bob.must("PATCH", hook, answer{"on": false})
	bob.must("DELETE", hook, nil)
	bob.refused(404, "hook.no_hook", "PATCH", hook, answer{"on": true})
}

// runHooks sends, until stop.
func (h *house) runHooks() (stop func()) {
	ctx, cancel := context.WithCancel(h.t.Context())
	done := make(chan struct{})
	go func() { h.door.options.Hooks.Run(ctx); close(done) }()
	var once sync.Once
	stop = func() { once.Do(func() { cancel(); <-done }) }
	h.t.Cleanup(stop)
	return stop
}
