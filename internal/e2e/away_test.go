package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/chromedp/chromedp/kb"
)

// until waits until something holds outside of the pages.
func until(t *testing.T, what string, holds func() bool) {
	t.Helper()
	deadline := time.After(patience)
	tick := time.NewTicker(25 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-deadline:
			t.Fatalf("waited in vain for %s", what)
		case <-tick.C:
		}
	}
}

const (
	nothingPending = `!document.querySelector("#pending li")`
	onePending     = `document.querySelectorAll("#pending li").length === 1`
)

func (h *house) once(t *testing.T, room int64, text string) {
	t.Helper()
	if n := h.count(t, room, text); n != 1 {
		t.Errorf("%q is in the room %d times", text, n)
	}
}

func TestOfflineThenWhatWasWrittenGoesOutOnceAndWhatWasMissedHeals(t *testing.T) {
	h := story(t)
	ada, wei := h.person(t, "Ada"), h.person(t, "Wei")
	room := ada.room(t, "public", "offline", wei)
	first, second := wei.say(t, room, "teh first"), wei.say(t, room, "the second")
	line := h.wire(t)
	a, b := h.enter(t, ada, room, look{through: line}), h.enter(t, wei, room, look{})
	a.expectAway()
	a.sees("the second")

	line.cutOff()
	a.wait("the banner", `!document.getElementById("banner").hidden && document.getElementById("banner").innerText.includes("No connection")`)
	a.post("written offline")
	a.post("and one more")
	a.wait("both to wait", `document.querySelectorAll("#pending li").length === 2 && document.querySelector("#pending .fate").innerText.includes("waiting to be sent")`)
	wei.edit(t, room, first, "the first")
	wei.remove(t, room, second)
	b.post("while you were away")
	b.sees("while you were away")

	line.mend()
	a.live()
	a.sees("while you were away")
	a.sees("the first")
	a.wait("the deletion", fmt.Sprintf(`document.querySelector("#m%d.gone")`, second))
	a.wait("nothing to wait", nothingPending)
	b.sees("written offline")
	b.sees("and one more")
	b.wait("their order", `document.getElementById("lines").innerText.indexOf("written offline") < document.getElementById("lines").innerText.indexOf("and one more")`)
	a.wait("no banner", `document.getElementById("banner").hidden`)

	// The server takes it, its answer is lost, and the page asks again.
	line.mute()
	a.post("only once")
	until(t, "the post to arrive", func() bool { return h.count(t, room, "only once") > 0 })
	a.wait("it to wait for its answer", onePending)
	line.mend()
	a.wait("the answer", nothingPending)
	a.sees("only once")
	b.sees("only once")
	for _, text := range []string{"written offline", "and one more", "only once"} {
		h.once(t, room, text)
	}

	// A page that is closed in between sends when it is opened again; so does another page of the house.
	line.cutOff()
	a.post("kept in the browser")
	a.wait("it to wait", onePending)
	line.mend()
	a.visit("/people")
	b.sees("kept in the browser")
	h.once(t, room, "kept in the browser")
}

func TestARefusedPostStaysUntilItsWriterDecides(t *testing.T) {
	h := story(t)
	ada, wei := h.person(t, "Ada"), h.person(t, "Wei")
	room := ada.room(t, "public", "refused", wei)
	line := h.wire(t)
	w := h.enter(t, wei, room, look{through: line})
	w.expectAway()
	w.expect(`status of 403 .*/draft`) // what is written for a room that one was taken out of stays in this browser
	line.cutOff()
	w.post("too late")
	w.wait("it to wait", onePending)
	ada.call(t, "DELETE", fmt.Sprintf("/rooms/%d/members/%d", room, wei.ID), nil)
	line.mend()
	w.wait("the refusal, seen from outside the room", `document.querySelector("#pending .failed .fate")?.innerText.startsWith("Not sent:") && document.querySelector(".join button") &&
		document.querySelector("#pending [data-do=back]").hidden`)
	if n := h.count(t, room, "too late"); n != 0 {
		t.Errorf("it was posted %d times by somebody who is out", n)
	}
	w.click(".join button")
	w.live()
	w.click("#pending .failed [data-do=back]")
	w.wait("the words in the box", `document.getElementById("body")?.value === "too late" && `+nothingPending)
	w.press(kb.Enter)
	w.sees("too late")
	w.wait("nothing to wait", nothingPending)
	h.once(t, room, "too late")
}

func TestPostgresKilledUnderThePageKeepsDraftAndPost(t *testing.T) {
	h := disaster(t)
	ada, wei := h.person(t, "Ada"), h.person(t, "Wei")
	room := ada.room(t, "public", "killed", wei)
	a, b := h.enter(t, ada, room, look{}), h.enter(t, wei, room, look{})
	a.expectAway()
	b.expectAway()
	a.post("before")
	b.sees("before")

	// What PostgreSQL cannot start without is out of reach, so that it stays away until we say.
	control := filepath.Join(h.cluster.DataDir(), "global", "pg_control")
	if err := os.Rename(control, control+".away"); err != nil {
		t.Fatal(err)
	}
	h.killPostgres(t)
	a.wait("the banner", `!document.getElementById("banner").hidden && document.getElementById("banner").innerText.includes("database is away")`)
	a.post("written while it was away")
	a.wait("it to wait", onePending)
	a.compose("half a thought")
	b.visit(fmt.Sprint("/room/", room))
	b.wait("the waiting page", `document.querySelector("h1").innerText === "One moment, please"`)
	if err := os.Rename(control+".away", control); err != nil {
		t.Fatal(err)
	}

	a.wait("nothing to wait", nothingPending)
	a.sees("written while it was away")
	a.wait("no banner", `document.getElementById("banner").hidden && document.getElementById("state").dataset.state === "open"`)
	a.wait("the draft", `document.getElementById("body").value === "half a thought"`)
	b.live() // the waiting page became the room by itself
	b.sees("written while it was away")
	h.once(t, room, "written while it was away")
	b.post("after")
	a.sees("after")
	a.visit(fmt.Sprint("/room/", room))
	a.wait("the draft after loading", `document.getElementById("body").value === "half a thought"`)
}

func TestHowdahKilledUnderThePageAndStartedAgain(t *testing.T) {
	h := disaster(t)
	ada, wei := h.person(t, "Ada"), h.person(t, "Wei")
	room := ada.room(t, "public", "restart", wei)
	line := h.wire(t)
	a, b := h.enter(t, ada, room, look{through: line}), h.enter(t, wei, room, look{through: line})
	a.expectAway()
	b.expectAway()
	a.post("before")
	b.sees("before")
	h.kill(t)
	a.post("while nobody served")
	a.wait("it to wait", onePending)
	if err := h.start(); err != nil {
		t.Fatal(err)
	}
	line.to(h)
	b.sees("while nobody served")
	a.wait("nothing to wait", nothingPending)
	a.sees("while nobody served")
	h.once(t, room, "while nobody served")
	b.post("and back")
	a.sees("and back")
}

func TestARestoredDatabaseIsNoticedAndThePageStartsAnew(t *testing.T) {
	h := disaster(t)
	ada, wei := h.person(t, "Ada"), h.person(t, "Wei")
	room := ada.room(t, "public", "restored", wei)
	kept := ada.say(t, room, "in the backup")
	ada.say(t, room, "not in the backup")
	a, b := h.enter(t, ada, room, look{}), h.enter(t, wei, room, look{})
	a.sees("not in the backup")
	b.compose("a draft")
	h.exec(t, `WITH m AS (DELETE FROM chat.message WHERE room_id = $1 AND seq > $2), r AS (UPDATE chat.room SET seq = $2 WHERE id = $1),
		p AS (UPDATE chat.member SET read_seq = least(read_seq, $2) WHERE room_id = $1) UPDATE chat.epoch SET epoch = gen_random_uuid()`, room, kept)
	for _, w := range []*window{a, b} {
		w.wait("what is no more to go", `!`+shows("not in the backup")+` && `+shows("in the backup"))
		w.live()
	}
	b.wait("the draft", `document.getElementById("body").value === "a draft"`)
	a.post("life goes on")
	b.sees("life goes on")
	a.sees("life goes on")
	if seq := get[int64](b, `+[...document.querySelectorAll("#lines > .msg")].at(-1).dataset.seq`); seq != kept+1 {
		t.Errorf("the next message is number %d, want %d", seq, kept+1)
	}
}

func TestARestoreInPlaceHealsOpenPagesAndKeepsTheirDrafts(t *testing.T) {
	h := disaster(t)
	ada, wei := h.person(t, "Ada"), h.person(t, "Wei")
	room := ada.room(t, "public", "in place", wei)
	h.run(t, "backup", "physical")
	kept := ada.say(t, room, "before the accident")
	var moment time.Time
	if err := h.db.QueryRow(t.Context(), `SELECT clock_timestamp()`).Scan(&moment); err != nil {
		t.Fatal(err)
	}
	ada.say(t, room, "the accident")
	a, b := h.enter(t, ada, room, look{}), h.enter(t, wei, room, look{})
	a.expectAway()
	b.expectAway()
	a.sees("the accident")
	b.sees("the accident")
	b.compose("half a thought")
	a.visit("/people") // and a page that is no room

	h.run(t, "restore", "--in-place", "--at", moment.UTC().Format("2006-01-02 15:04:05.999999")+" Z", "--yes")
	b.wait("the accident to be undone", `!`+shows("the accident")+` && `+shows("before the accident"))
	b.live()
	b.wait("the draft", `document.getElementById("body").value === "half a thought"`)
	a.visit(fmt.Sprint("/room/", room))
	a.wait("the same for who comes back", `!`+shows("the accident")+` && `+shows("before the accident"))
	a.live()
	a.post("life goes on")
	b.sees("life goes on")
	if seq := get[int64](b, `+[...document.querySelectorAll("#lines > .msg")].at(-1).dataset.seq`); seq != kept+1 {
		t.Errorf("the next message is number %d, want %d", seq, kept+1)
	}

	h.run(t, "restore", "undo", "--yes")
	for _, w := range []*window{a, b} {
		w.wait("the other life", `!`+shows("life goes on")+` && `+shows("the accident"))
		w.live()
	}
	b.wait("the draft", `document.getElementById("body").value === "half a thought"`)
	b.press(kb.Enter)
	a.sees("half a thought")
	h.once(t, room, "half a thought")
	if seq := get[int64](a, `+[...document.querySelectorAll("#lines > .msg")].at(-1).dataset.seq`); seq != kept+2 {
		t.Errorf("the next message is number %d, want %d", seq, kept+2)
	}
}
