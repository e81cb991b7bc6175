package e2e

import (
	"bytes"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// drop drops a file on an element, as a person does with a mouse.
func (w *window) drop(selector, name, kind, text string) {
	w.t.Helper()
	get[bool](w, fmt.Sprintf(`(() => {
		const bears = new DataTransfer()
		bears.items.add(new File([%s], %s, {type: %s}))
		for (const type of ["dragenter", "dragover", "drop"]) document.querySelector(%s).dispatchEvent(new DragEvent(type, {bubbles: true, cancelable: true, dataTransfer: bears}))
		return true
	})()`, quote(text), quote(name), quote(kind), quote(selector)))
}

// paste pastes a picture, made by the page, into an element.
func (w *window) paste(selector string) {
	w.t.Helper()
	get[bool](w, fmt.Sprintf(`(async () => {
		const canvas = new OffscreenCanvas(300, 200)
		const pen = canvas.getContext("2d")
		pen.fillStyle = "teal"
		pen.fillRect(20, 20, 200, 100)
		const bears = new DataTransfer()
		bears.items.add(new File([await canvas.convertToBlob()], "image.png", {type: "image/png"}))
		document.querySelector(%s).dispatchEvent(new ClipboardEvent("paste", {bubbles: true, cancelable: true, clipboardData: bears}))
		return true
	})()`, quote(selector)))
}

// choose picks files, as the dialog of the browser does.
func (w *window) choose(selector string, files ...string) {
	w.t.Helper()
	w.act(chromedp.SetUploadFiles(selector, files))
}

func TestFilesAreSharedByPickerDropAndPaste(t *testing.T) {
	h := story(t)
	ada, wei := h.person(t, "Ada"), h.person(t, "Wei")
	room := ada.room(t, "private", "files", wei)
	a, b := h.enter(t, ada, room, look{}), h.enter(t, wei, room, look{language: "zh-TW", dark: true})

	var picture bytes.Buffer
	p := image.NewRGBA(image.Rect(0, 0, 1600, 900))
	for y := range 900 {
		for x := range 1600 {
			p.Set(x, y, color.RGBA{uint8(x / 7), uint8(y / 4), 150, 255})
		}
	}
	if err := png.Encode(&picture, p); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o755); err != nil { //nolint:gosec // the browser may be another account
		t.Fatal(err)
	}
	photo, pages := filepath.Join(dir, "假期 山.png"), filepath.Join(dir, "report.pdf")
	for name, data := range map[string][]byte{photo: picture.Bytes(), pages: []byte("%PDF-1.4\n%nothing in it\n")} {
		if err := os.WriteFile(name, data, 0o644); err != nil { //nolint:gosec // likewise
			t.Fatal(err)
		}
	}
	a.wait("the button for files", `!document.querySelector("#composer .clip").hidden`)
	a.choose("#composer .pick", photo, pages)
	a.drop("#lines", "notes.txt", "text/plain", "# Notes\n"+strings.Repeat("a line of the notes\n", 40))
	a.wait("all of them to be ready", `document.querySelectorAll("#composer .tray .done").length === 3`)
	a.fill("#composer .tray .alt:not([hidden])", "A mountain in the evening")
	a.accessible("a composer with files")
	a.keep("files in the tray")
	a.visit(fmt.Sprint("/room/", room)) // they wait where they were left
	a.live()
	a.wait("them to be there again", `document.querySelectorAll("#composer .tray .done").length === 3`)
	a.post("From the *mountains*")
	for _, w := range []*window{a, b} {
		w.wait("the picture in its place", `(() => {
			const img = document.querySelector("#lines .files img")
			return img?.complete && img.naturalWidth === 960 && img.width === 420 && img.height === 236 && img.alt === "A mountain in the evening"
		})()`)
		w.wait("the beginning of the text", `document.querySelector("#lines .excerpt")?.textContent.startsWith("# Notes\na line")`)
		w.wait("the names", `[...document.querySelectorAll("#lines .files .name bdi")].map((one) => one.textContent).join() === "假期 山.png,report.pdf,notes.txt"`)
		w.wait("nothing left behind", `!document.querySelector("#pending li, .tray li")`)
	}
	b.visit(fmt.Sprint("/room/", room)) // and as the server draws it
	b.live()
	b.wait("the same after loading", `document.querySelector("#lines .files img")?.alt === "A mountain in the evening" && document.querySelectorAll("#lines .file").length === 3`)
	b.accessible("a room with files")
	b.keep("files in a room")

	// In large, with the keyboard.
	a.paste("#body")
	a.wait("the pasted picture", `document.querySelectorAll("#composer .tray .done").length === 1`)
	a.press(kb.Enter) // without a word
	b.wait("two pictures", `document.querySelectorAll("#lines .files img").length === 2`)
	b.click("#lines .files .picture")
	b.wait("it in large", `document.getElementById("viewer").open && document.querySelector("#viewer img").naturalWidth === 1600`)
	b.press(kb.ArrowRight)
	b.wait("the next one", `document.querySelector("#viewer img").naturalWidth === 300 && document.querySelector("#viewer .place").textContent === "2 / 2"`)
	b.accessible("a picture in large")
	b.keep("a picture in large")
	b.press(kb.Escape)
	b.wait("the room again", `!document.getElementById("viewer").open`)

	// In a thread, and gone with its message.
	b.hover("#lines .msg")
	b.click("[data-do=reply]")
	b.wait("the thread", `!document.getElementById("thread").hidden`)
	b.drop("#thread-history", "reply.bin", "", "\x00\x01")
	b.wait("its tray", `document.querySelector("#thread-composer .tray .done") && !document.querySelector("#composer .tray li")`)
	b.click("#thread-composer .send")
	b.wait("the reply", `document.querySelector("#thread-lines .file[data-form=file] bdi")?.textContent === "reply.bin"`)
	b.visit("/search?q=has:file+reply")
	b.wait("it to be found", `document.querySelector(".found .named bdi")?.textContent === "reply.bin"`)
	a.hover("#lines .msg")
	a.click("#lines [data-do=delete]")
	a.click("#lines [data-do=delete].armed")
	a.wait("it to be gone", `document.querySelector("#lines .msg.gone") && document.querySelectorAll("#lines .files").length === 1`)
}
