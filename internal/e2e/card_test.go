package e2e

import (
	"bytes"
	"fmt"
	"image"
	"image/color"
	"image/jpeg"
	"testing"
)

// TestALinkGetsACard: what it leads to is known already, so that nobody outside has to be asked; it comes to who looks and to who comes, is taken away by who wrote it, and
// hidden from who wants none.
func TestALinkGetsACard(t *testing.T) {
	h := story(t)
	ada, wei, max := h.person(t, "Ada"), h.person(t, "Wei"), h.person(t, "Max")
	room := ada.room(t, "public", "links", wei, max)
	picture := image.NewRGBA(image.Rect(0, 0, 320, 168))
	for y := range 168 {
		for x := range 320 {
			picture.Set(x, y, color.RGBA{uint8(x / 2), uint8(y), 160, 255}) //nolint:gosec // within
		}
	}
	var data bytes.Buffer
	if err := jpeg.Encode(&data, picture, nil); err != nil {
		t.Fatal(err)
	}
	h.exec(t, `WITH p AS (INSERT INTO chat.picture (sha256, type, width, height, data) VALUES (sha256($1), 'image/jpeg', 320, 168, $1) ON CONFLICT (sha256) DO UPDATE SET made_at = now() RETURNING id)
		INSERT INTO chat.link (address, ends_at, trouble, title, description, site, picture_id)
		SELECT 'https://elephants.example/walk', now() + interval '1 day', '', 'How elephants walk <b>', 'An elephant has three feet on the ground at any time. 大象走路時總有三隻腳著地。', 'Elephants', id FROM p
		UNION ALL SELECT 'https://plain.example/', now() + interval '1 day', '', 'A plain page', '', 'plain.example', NULL ON CONFLICT DO NOTHING`, data.Bytes())

	a, w, m := h.enter(t, ada, room, look{}), h.enter(t, wei, room, look{language: "zh-TW", phone: true, dark: true}), h.open(t, max, look{})
	m.visit("/me")
	m.click(`button[name=cards][value=""]`)
	m.wait("none wanted", `document.querySelector("button[name=cards][value='']")?.ariaPressed === "true"`)
	m.visit(fmt.Sprint("/room/", room))
	m.live()
	a.post("See https://elephants.example/walk and https://plain.example/ but not `https://plain.example/code` or <https://elephants.example/>")
	const two = `document.querySelectorAll("#lines .cards .leads").length === 2`
	a.wait("two cards", two+` && document.querySelector(".leads .name").innerText === "How elephants walk <b>"`)
	w.wait("two cards", two)
	w.wait("the picture", `(document.querySelector(".leads img").scrollIntoView(), document.querySelector(".leads img").naturalWidth === 320)`)
	if get[bool](w, `!!document.querySelector(".leads form")`) {
		t.Error("somebody else may take a card away")
	}
	w.accessible("cards")
	w.remember("cards-phone")
	a.accessible("cards")
	a.remember("cards")
	m.wait("the message", `document.querySelector("#lines .body a[href='https://elephants.example/walk']")`)
	m.post("seen")
	a.sees("seen")
	if n := get[int](m, `document.querySelectorAll(".leads").length`); n != 0 {
		t.Errorf("%d cards for who wants none", n)
	}
	late := h.enter(t, wei, room, look{}) // drawn by the server
	late.wait("two cards", two)
	get[bool](a, `(document.querySelectorAll(".leads form button")[1].focus(), true)`)
	a.press("\r")
	const one = `document.querySelectorAll("#lines .cards .leads").length === 1`
	for _, each := range []*window{a, w, late} {
		each.wait("one card", one)
	}
	a.visit(fmt.Sprint("/room/", room))
	a.wait("one card", one)
	a.live()
	a.wait("one card", one)
}
