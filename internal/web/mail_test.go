package web

import (
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"howdah/internal/account"
)

func TestAMailLinkWantsWhoHasAskedForIt(t *testing.T) {
	h := newHouse(t)
	owner := h.owner()
	ann := h.newcomer(owner, "ann", account.Member, nil)
	h.newcomer(owner, "eve", account.Member, nil)
	token, err := h.acc.MailTicket(t.Context(), ann.id, "ann@example.org")
	if err != nil {
		t.Fatal(err)
	}
	link := "/mail/" + token
	get := func(c *http.Client) (int, *url.URL, string) {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, h.url+link, nil)
		if err != nil {
			t.Fatal(err)
		}
		response, err := c.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		raw, err := io.ReadAll(response.Body)
		if err != nil {
			t.Fatal(err)
		}
		return response.StatusCode, response.Request.URL, string(raw)
	}
	none := func() {
		t.Helper()
		if box, err := h.acc.Mailbox(t.Context(), ann.id); err != nil || box.Address != "" {
			t.Error(box, err)
		}
	}
	nobody := h.browser()
	if _, at, _ := get(nobody); at.Path != "/sign-in" || at.Query().Get("next") != link {
		t.Error(at)
	}
	if _, path, _ := h.submit(nobody, link, nil); path != "/sign-in" {
		t.Error(path)
	}
	none()
	in := func(handle string) *http.Client {
		t.Helper()
		c := h.browser()
		if _, path, _ := h.submit(c, "/sign-in", url.Values{"handle": {handle}, "password": {password}, "next": {link}}); path != link {
			t.Error(handle, path)
		}
		return c
	}
	other := in("eve")
	if code, _, page := get(other); code != http.StatusForbidden || !strings.Contains(page, "Sign in as the person who asked") || strings.Contains(page, "ann@example.org") {
		t.Error(code, page)
	}
	if code, _, page := h.submit(other, link, nil); code != http.StatusForbidden || !strings.Contains(page, "Somebody else has asked for this link.") {
		t.Error(code, page)
	}
	none()
	hers := in("ann")
	if code, _, page := get(hers); code != http.StatusOK || !strings.Contains(page, "ann@example.org") {
		t.Error(code, page)
	}
	if code, _, page := h.submit(hers, link, nil); code != http.StatusOK || !strings.Contains(page, "ann@example.org is yours") {
		t.Error(code, page)
	}

	// The test's house sends no mail, and one that sends none any more lets go of addresses as well.
	if _, path, page := h.submit(hers, "/me/security/mail/remove", url.Values{"password": {password}}); path != securityPath || !strings.Contains(page, "The address is removed.") || strings.Contains(page, "sends no mail") {
		t.Error(path, page)
	}
	none()
}
