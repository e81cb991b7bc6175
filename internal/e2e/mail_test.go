package e2e

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"howdah/internal/mail/mailtest"
)

func TestAMailAddressHelpsWhoHasForgottenAndWhoHasMissed(t *testing.T) {
	p := mailtest.New(t)
	h := disaster(t, "[mail]", fmt.Sprintf("server = %q", p.Address), `tls = "none"`, `from = "Howdah <howdah@example.org>"`)
	ada := h.person(t, "Ada")
	room := h.owner.room(t, "public", "post", ada)

	// She gives her address, and shows that it is hers, on a phone: there she signs in first, and comes back to the link. To somebody else it says nothing.
	a := h.open(t, ada, look{})
	a.visit("/told")
	a.click(`section a[href="/me/security"]`)
	a.fill("[name=address]", "ada@example.org")
	a.press("\r")
	a.at("/me/security?done=asked")
	asked := p.Next(t)
	if asked.To != "ada@example.org" || !strings.Contains(asked.Text, ada.Handle) {
		t.Errorf("%+v", asked)
	}
	eve := h.open(t, h.person(t, "Eve"), look{})
	eve.expect("status of 403")
	eve.visit(asked.Link(t, "/mail/"))
	eve.wait("that it is not for her", `document.body.innerText.includes("Sign in as the person who asked") && !document.body.innerText.includes("ada@example.org")`)
	b := h.open(t, nil, look{language: "zh-TW", phone: true, dark: true})
	b.visit(asked.Link(t, "/mail/"))
	b.at("/sign-in?next=/mail/")
	b.signInByForm(ada.Handle, password)
	b.at("/mail/")
	b.accessible("a link in a letter")
	b.click("button.main")
	b.wait("that it is hers", `document.body.innerText.includes("從現在起是你的地址")`)
	b.expect("status of 404")
	b.visit(asked.Link(t, "/mail/"))
	b.wait("that it was used", `document.querySelector(".code")?.textContent === "404"`)
	a.visit("/me/security")
	a.wait("the address", `document.body.innerText.includes("ada@example.org")`)
	a.accessible("with an address")
	a.visit("/told")
	a.click(`input[name=after][value="15"]`)
	a.accessible("told by mail")
	a.click(`form[action="/told/mail"] button`)
	a.at("/told?done=saved")
	a.wait("what she chose", `document.querySelector("input[name=after]:checked").value === "15"`)
	a.visit("/offline") // no page of hers is open

	// What she misses comes by mail, and a mail program ends it by itself.
	h.owner.say(t, room, "@"+ada.Handle+" are you there?")
	missed := h.mailed(t, p)
	if missed.Subject != "1 unread message in Howdah" || !strings.Contains(missed.Text, "are you there?") {
		t.Errorf("%+v", missed)
	}
	a.visit(missed.Link(t, "/room/"))
	a.sees("@" + ada.Handle + " are you there?")
	off := strings.Trim(missed.Header.Get("List-Unsubscribe"), "<>")
	answer, err := http.Post(off, "application/x-www-form-urlencoded", strings.NewReader("List-Unsubscribe=One-Click")) //nolint:noctx // as a mail program
	if err != nil || answer.StatusCode != http.StatusOK {
		t.Fatal(answer, err)
	}
	_ = answer.Body.Close()
	b.visit(off)
	b.accessible("the end of mail")
	a.visit("/told")
	a.wait("no mail", `document.querySelector("input[name=after]:checked").value === "0"`)

	// She has forgotten her password; nobody can tell from the page whether there is somebody.
	c := h.open(t, nil, look{language: "zh-TW"})
	c.visit("/sign-in")
	c.click(`a[href="/forgot"]`)
	c.at("/forgot")
	c.accessible("forgotten")
	c.fill("[name=who]", "nobody@example.org")
	c.press("\r")
	c.wait("the answer", `document.querySelector("[role=status]")`)
	same := get[string](c, `document.body.innerText`)
	c.visit("/forgot")
	c.fill("[name=who]", "Ada@example.org")
	c.press("\r")
	c.wait("the same answer", `document.querySelector("[role=status]") && document.body.innerText === `+quote(same))
	c.accessible("a letter is on its way")
	link := p.Next(t).Link(t, "/recover/")
	c.visit(link)
	c.fill("[name=password]", "five other quiet small words")
	c.press("\r")
	c.at("/room/")
	a.visit("/me")
	a.at("/sign-in")
}

// mailed makes the time pass until the next digest, and gives it.
func (h *house) mailed(t *testing.T, p *mailtest.Post) mailtest.Letter {
	t.Helper()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); ; <-tick.C {
		if all := p.New(); len(all) > 0 {
			return all[0]
		}
		if time.Now().After(deadline) {
			t.Fatal("no digest came")
		}
		h.exec(t, `UPDATE chat.digest SET due_at = now() WHERE due_at > now() + interval '3 minutes'`) // not what is under way
	}
}
