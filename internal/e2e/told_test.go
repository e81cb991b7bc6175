package e2e

import (
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chromedp/cdproto/browser"
	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/serviceworker"
	"github.com/chromedp/chromedp"
)

// notifying lets a person's browser notify, and has its pages keep what they tell.
func (w *window) notifying() {
	w.t.Helper()
	do(w, browser.SetPermission, browser.SetPermissionParams{Permission: &browser.PermissionDescriptor{Name: "notifications"}, Setting: browser.PermissionSettingGranted,
		Origin: w.base, BrowserContextID: chromedp.FromContext(w.ctx).BrowserContextID})
	do(w, page.AddScriptToEvaluateOnNewDocument, page.AddScriptToEvaluateOnNewDocumentParams{Source: `
		window.told = []
		window.Notification = class extends Notification {
			constructor(title, options) {
				super(title, options)
				told.push(this)
			}
			close() {
				this.gone = true
				super.close()
			}
		}`})
}

// comes is wait for what a promise says.
func (w *window) comes(what, promise string) {
	w.t.Helper()
	for deadline := time.Now().Add(patience); ; {
		holds, err := try[bool](w, promise)
		if err == nil && holds {
			return
		}
		if time.Now().After(deadline) {
			w.t.Fatalf("waited in vain for %s: %s (last: %v)\n%s", what, promise, err, w.says())
		}
		select {
		case <-w.ctx.Done():
			w.t.Fatal(w.ctx.Err())
		case <-time.After(25 * time.Millisecond):
		}
	}
}

// told waits until a page has told so many things, and gives the last: its title and its words.
func (w *window) told(n int) string {
	w.t.Helper()
	w.wait(fmt.Sprint(n, " notifications"), fmt.Sprintf(`window.told.length >= %d`, n))
	all := get[[]string](w, `window.told.map((one) => one.title + ": " + one.body)`)
	if len(all) != n {
		w.t.Fatalf("told %q", all)
	}
	return all[n-1]
}

func TestWhoLooksElsewhereIsToldOnceAndOfWhatTheyWant(t *testing.T) {
	h := story(t)
	ada, wei := h.person(t, "Ada"), h.person(t, "Wei")
	quiet, busy := ada.room(t, "public", "quiet", wei), ada.room(t, "public", "busy", wei)
	direct := int64(ada.call(t, "POST", "/direct", map[string]any{"person": wei.ID})["id"].(float64))
	call := "@" + wei.Handle + " "
	b := h.open(t, wei, look{})
	b.notifying()
	b.visit("/told")
	b.live()
	b.wait("the state of this browser", `document.getElementById("here-state").textContent === "Notifications are on in this browser." && !document.getElementById("here-try").hidden`)
	b.accessible("/told")
	b.visit(fmt.Sprint("/room/", quiet))
	b.live()
	b.wait("what tells to be there", `performance.getEntriesByType("resource").some((one) => one.name.endsWith("/told.js"))`)

	ada.say(t, busy, "nobody in particular")
	ada.say(t, quiet, call+"you are looking at this")
	b.sees(call + "you are looking at this")
	ada.say(t, busy, call+"come **here**")
	if told := b.told(1); !strings.HasPrefix(told, "Ada in busy ") || !strings.HasSuffix(told, ": "+call+"come **here**") {
		t.Errorf("told %q", told)
	}
	b.wait("the count on the icon", `document.querySelector("link[rel=icon]").href.startsWith("data:image/png")`)

	// What is silent tells nothing and is not in the title; the bell is set with the keyboard.
	b.visit(fmt.Sprint("/room/", busy))
	b.live()
	get[bool](b, `(document.getElementById("bell-button").focus(), true)`)
	b.press("\r")
	b.wait("the bell", `document.getElementById("bell").matches(":popover-open")`)
	b.click(`#bell input[value=nothing]`)
	b.wait("it to be saved", `document.querySelector("#bell [role=status]").textContent === "Saved." && document.getElementById("bell-button").classList.contains("off")`)
	b.accessible("the bell of a room")
	b.visit(fmt.Sprint("/room/", quiet))
	b.live()
	b.wait("the room to be silent", fmt.Sprintf(`!document.querySelector('#side a[data-room="%d"] .hush').hasAttribute("hidden")`, busy))
	ada.say(t, busy, call+"not now")
	b.wait("it to be counted", fmt.Sprintf(`document.querySelector('#side a[data-room="%d"] .mention:not([hidden])') && !document.title.startsWith("(")`, busy))

	// A thread that is followed, and one that is silent.
	followed, silent := ada.say(t, quiet, "one"), ada.say(t, quiet, "two")
	wei.call(t, "PUT", fmt.Sprintf("/rooms/%d/threads/%d/bell", quiet, followed), map[string]any{"bell": "all"})
	wei.call(t, "PUT", fmt.Sprintf("/rooms/%d/threads/%d/bell", quiet, silent), map[string]any{"bell": "nothing"})
	b.visit(fmt.Sprint("/room/", quiet)) // which knows that then
	b.live()
	answer := func(thread int64, words string) {
		ada.call(t, "POST", fmt.Sprintf("/rooms/%d/messages", quiet), map[string]any{"client_id": nextUUID(), "body": words, "thread": thread})
	}
	answer(silent, call+"no")
	answer(followed, "yes")
	if told := b.told(1); !strings.HasPrefix(told, "Ada in a thread of quiet ") || !strings.HasSuffix(told, ": yes") {
		t.Errorf("told %q", told)
	}

	// A pause, and after it a direct message without its words; a click leads to it.
	wei.call(t, "PATCH", "/told", map[string]any{"paused_until": time.Now().Add(time.Hour), "hide": true})
	ada.say(t, direct, "while paused")
	b.wait("it to be counted", `document.title.startsWith("(2)")`)
	wei.call(t, "PATCH", "/told", map[string]any{"paused_until": time.Now().Add(-time.Hour)})
	b.visit(fmt.Sprint("/room/", quiet))
	b.live()
	seq := ada.say(t, direct, "psst")
	if told := b.told(1); told != "Ada: New message" {
		t.Errorf("told %q", told)
	}
	wei.call(t, "PUT", fmt.Sprintf("/rooms/%d/read", direct), map[string]any{"seq": seq})
	b.wait("what was read elsewhere to go", `told[0].gone`)
	get[bool](b, `told[0].dispatchEvent(new Event("click"))`)
	b.at(fmt.Sprintf("/room/%d?at=%d#m%d", direct, seq, seq))
}

func TestTheAppIsToldWithItsPagesClosedAndOpensWithoutANetwork(t *testing.T) {
	h := story(t)
	ada, wei := h.person(t, "Ada"), h.person(t, "Wei")
	room := ada.room(t, "public", "app", wei)
	path := fmt.Sprint("/room/", room)
	ada.say(t, room, "what stands there")
	line := h.wire(t)
	w := h.open(t, wei, look{through: line})
	w.expectAway()
	w.notifying()
	var worker atomic.Value // the id of its registration
	if err := chromedp.Listen(w.ctx, func(event any) {
		if e, ok := event.(*serviceworker.EventWorkerRegistrationUpdated); ok {
			for _, one := range e.Registrations {
				worker.Store(string(one.RegistrationID))
			}
		}
	}); err != nil {
		t.Fatal(err)
	}
	do(w, serviceworker.Enable, cdp.Empty{})
	w.visit("/told")
	w.live()
	w.click("#here-offline input")
	w.wait("it to be kept", `document.querySelector("#here-offline input").checked && navigator.serviceWorker.controller`)
	w.visit(path)
	w.live()
	w.sees("what stands there")
	w.comes("the room to be kept", `caches.keys().then((names) => Promise.all(names.filter((one) => one.startsWith("howdah-pages-")).map(async (one) => (await (await caches.open(one)).keys()).length))).then((n) => n.join() === "1")`)

	// Pushed to, as a push service's message arrives: heard once, however often it comes.
	shown := `navigator.serviceWorker.getRegistration().then((one) => one.getNotifications()).then((all) => all.map((one) => one.title + ": " + one.body).join())`
	deliver := func(seq int, words string) {
		t.Helper()
		do(w, serviceworker.DeliverPushMessage, serviceworker.DeliverPushMessageParams{Origin: w.base, RegistrationID: serviceworker.RegistrationID(worker.Load().(string)),
			Data: fmt.Sprintf(`{"title":"Ada","body":%q,"tag":"room-%d","url":%q,"room":%d,"seq":%d,"person":%d,"lang":"en","count":1}`, words, 1_000_000+room, path, 1_000_000+room, seq, wei.ID)})
	}
	deliver(1, "one")
	w.comes("a notification", shown+`.then((all) => all === "Ada: one")`)
	get[bool](w, `navigator.serviceWorker.getRegistration().then((one) => one.getNotifications()).then((all) => { all.forEach((one) => one.close()); return true })`)
	deliver(1, "one")
	w.comes("it again without a sound", `navigator.serviceWorker.getRegistration().then((one) => one.getNotifications()).then((all) => all.length === 1 && all[0].silent && !all[0].renotify)`)
	deliver(2, "two")
	w.comes("the newer one in its place", shown+`.then((all) => all === "Ada: two")`)

	// Without a network the room opens as it was; with it, never.
	line.cutOff()
	w.visit(path)
	w.sees("what stands there")
	w.wait("to be told that it is away", `!document.getElementById("banner").hidden`)
	w.visit("/people")
	w.wait("the page of what was not kept", `document.querySelector("h1").textContent === "There is no network"`)
	line.mend()
	ada.say(t, room, "said meanwhile")
	w.visit(path)
	w.live()
	w.sees("said meanwhile")

	// Who signs out leaves nothing.
	w.click(`form[action="/sign-out"] button`)
	w.at("/sign-in")
	w.comes("nothing to be kept", `caches.keys().then((names) => !names.some((one) => one.startsWith("howdah-pages-")))`)
}
