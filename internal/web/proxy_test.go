package web

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/gobwas/ws"

	"howdah/internal/account"
	"howdah/internal/fault"
)

// TestAProxyIsBelievedAndNobodyElse: what is said of a request counts as far as proxies of ours said it.
func TestAProxyIsBelievedAndNobodyElse(t *testing.T) {
	t.Parallel()
	proxies, err := ParseProxies([]string{"127.0.0.0/8", " ::1", "10.0.0.0/8", "2001:db8:1::/48"})
	if err != nil {
		t.Fatal(err)
	}
	d := &Door{options: Options{Proxies: proxies, PublicURL: "http://localhost:8432"}}
	for _, c := range []struct {
		name, remote  string
		header        []string
		address, base string
		secure        bool
	}{
		{"nobody says anything", "127.0.0.1:5", nil, "127.0.0.1", "http://localhost:8432", false},
		{"a stranger says it", "192.0.2.1:5", []string{"X-Forwarded-For", "203.0.113.9", "X-Forwarded-Proto", "https", "X-Forwarded-Host", "evil.example", "Forwarded", "for=203.0.113.9"}, "192.0.2.1", "http://localhost:8432", false},
		{"a proxy says it", "127.0.0.1:5", []string{"X-Forwarded-For", "203.0.113.9", "X-Forwarded-Proto", "https", "X-Forwarded-Host", "chat.example.org"}, "203.0.113.9", "https://chat.example.org", true},
		{"what comes before is the stranger's", "[::1]:5", []string{"X-Forwarded-For", "198.51.100.1, 192.0.2.7", "X-Forwarded-For", "203.0.113.9"}, "203.0.113.9", "http://localhost:8432", false},
		{"two proxies", "127.0.0.1:5", []string{"X-Forwarded-For", "198.51.100.1, 203.0.113.9, 10.1.2.3", "X-Forwarded-Proto", "http, https, http"}, "203.0.113.9", "http://localhost:8432", true},
		{"two proxies, one of which speaks of the protocol", "127.0.0.1:5", []string{"X-Forwarded-For", "203.0.113.9, 10.1.2.3", "X-Forwarded-Proto", "https"}, "203.0.113.9", "http://localhost:8432", true},
		{"all are proxies", "127.0.0.1:5", []string{"X-Forwarded-For", "10.0.0.9, 10.1.2.3"}, "10.0.0.9", "http://localhost:8432", false},
		{"with ports", "127.0.0.1:5", []string{"X-Forwarded-For", "203.0.113.9:1234"}, "203.0.113.9", "http://localhost:8432", false},
		{"the new protocol", "[::ffff:127.0.0.1]:5", []string{"X-Forwarded-For", "[2001:db8::5]:1234"}, "2001:db8::5", "http://localhost:8432", false},
		{"nonsense", "127.0.0.1:5", []string{"X-Forwarded-For", "unknown", "X-Forwarded-Proto", "gopher", "X-Forwarded-Host", "a b/c"}, "127.0.0.1", "http://localhost:8432", false},
		{"somebody who hides behind a proxy", "127.0.0.1:5", []string{"X-Forwarded-For", "_hidden, 10.1.2.3"}, "10.1.2.3", "http://localhost:8432", false},
		{"a host that would lead away", "127.0.0.1:5", []string{"X-Forwarded-Host", "ann@evil.example"}, "127.0.0.1", "http://localhost:8432", false},
		{"the standard", "127.0.0.1:5", []string{"Forwarded", `for=198.51.100.1, For="[2001:db8::5]:1234"; Proto=https;host="chat.example.org"`}, "2001:db8::5", "https://chat.example.org", true},
		{"the standard, two proxies", "127.0.0.1:5", []string{"Forwarded", `for=203.0.113.9;proto=https`, "Forwarded", `for=10.1.2.3;proto=http`}, "203.0.113.9", "http://localhost:8432", true},
		{"a standard that cannot be read", "127.0.0.1:5", []string{"Forwarded", `for="203.0.113.9`}, "127.0.0.1", "http://localhost:8432", false},
		{"both, and they agree", "127.0.0.1:5", []string{"X-Forwarded-For", "203.0.113.9", "Forwarded", "for=203.0.113.9;proto=https", "X-Forwarded-Proto", "https"}, "203.0.113.9", "http://localhost:8432", true},
		{"both, one of which the proxy passed on", "127.0.0.1:5", []string{"X-Forwarded-For", "203.0.113.9", "Forwarded", "for=198.51.100.1;proto=https"}, "127.0.0.1", "http://localhost:8432", false},
	} {
		r := &http.Request{RemoteAddr: c.remote, Host: "localhost:8432", Header: http.Header{}}
		for i := 0; i < len(c.header); i += 2 {
			r.Header.Add(c.header[i], c.header[i+1])
		}
		d.forwarded(r)
		if have := client(r).Address; have != c.address {
			t.Errorf("%s: it comes from %s, not %s", c.name, have, c.address)
		}
		if have := d.base(r); have != c.base {
			t.Errorf("%s: it is reached at %s, not %s", c.name, have, c.base)
		}
		if d.secure(r) != c.secure {
			t.Errorf("%s: secure is %t", c.name, d.secure(r))
		}
	}
	named := &Door{options: Options{Proxies: proxies, PublicURL: "https://chat.example.org", Named: true}}
	if have := named.base(&http.Request{Header: http.Header{forwardedHost: {"other.example"}}}); have != "https://chat.example.org" {
		t.Errorf("what was configured does not count: %s", have)
	}
	for text, want := range map[string]int{"none": 0, "192.0.2.7": 1, "192.0.2.7/24": 1, "192.0.2.300": -1, "": -1, "example.org": -1} {
		got, err := ParseProxies([]string{text})
		if want < 0 && !fault.HasKey(err, "web.proxy") || want >= 0 && (err != nil || len(got) != want) {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
}

// TestBehindAProxyPeopleAreAtHome: cookies, the live socket and links to others are those of the name that people know the house by.
func TestBehindAProxyPeopleAreAtHome(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.owner()
	front := []string{"X-Forwarded-For", "203.0.113.9", "X-Forwarded-Proto", "https", "X-Forwarded-Host", "chat.example.org", "Origin", "https://chat.example.org"}
	send := func(method, path, body string, header ...string) *http.Response {
		r, err := http.NewRequestWithContext(t.Context(), method, h.url+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		for i := 0; i < len(header); i += 2 {
			r.Header.Set(header[i], header[i+1])
		}
		response, err := http.DefaultTransport.RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		return response
	}
	form := url.Values{"handle": {"owner"}, "password": {password}}.Encode()
	in := send("POST", "/sign-in", form, front...)
	cookies := slices.DeleteFunc(in.Cookies(), func(c *http.Cookie) bool { return c.Name != sessionCookie })
	if in.StatusCode != http.StatusSeeOther || len(cookies) != 1 || !cookies[0].Secure || in.Header.Get("Strict-Transport-Security") == "" {
		t.Fatal(in.StatusCode, cookies, in.Header)
	}
	plain := send("POST", "/sign-in", form)
	if c := plain.Cookies(); len(c) == 0 || c[0].Secure || plain.Header.Get("Strict-Transport-Security") != "" {
		t.Error("without TLS it claims to have it:", c, plain.Header)
	}
	if foreign := send("POST", "/sign-in", form, append(front[:6:6], "Origin", "https://evil.example")...); foreign.StatusCode != http.StatusForbidden {
		t.Errorf("another site's form: %d", foreign.StatusCode)
	}
	session, err := h.acc.Session(t.Context(), cookies[0].Value)
	if err != nil {
		t.Fatal(err)
	}
	open, err := h.acc.Sessions(t.Context(), session.Person.ID)
	if err != nil || !slices.ContainsFunc(open, func(o account.OpenSession) bool { return o.ID == session.ID && o.Address == "203.0.113.9" }) {
		t.Errorf("the session is not the person's own: %+v, %v", open, err)
	}
	for origin, want := range map[string]bool{"https://chat.example.org": true, "https://evil.example": false} {
		header := http.Header{"Cookie": {cookies[0].Name + "=" + cookies[0].Value}, "Origin": {origin}, "X-Forwarded-For": {"203.0.113.9"}, "X-Forwarded-Host": {"chat.example.org"}, "X-Forwarded-Proto": {"https"}}
		conn, _, _, err := ws.Dialer{Header: ws.HandshakeHeaderHTTP(header)}.Dial(t.Context(), strings.Replace(h.url, "http", "ws", 1)+"/api/v1/live")
		if (err == nil) != want {
			t.Errorf("a live socket of %s: %v", origin, err)
		}
		if err == nil {
			conn.Close()
		}
	}
	r := httptest.NewRequest("GET", "/", nil)
	r.RemoteAddr = "127.0.0.1:9"
	r.Header = http.Header{"X-Forwarded-Proto": {"https"}, "X-Forwarded-Host": {"chat.example.org"}}
	h.door.forwarded(r)
	if link := h.door.inviteURL(r, "x"); link != "https://chat.example.org/invite/x" {
		t.Error(link)
	}
}

func FuzzForwarded(f *testing.F) {
	proxies, err := ParseProxies([]string{"127.0.0.0/8"})
	if err != nil {
		f.Fatal(err)
	}
	d := &Door{options: Options{Proxies: proxies}}
	f.Add("203.0.113.9, 127.0.0.2", `for="[2001:db8::5]:1";proto=https;host="a\"b", for=_x`, "https", "chat.example.org:8432")
	f.Add("", "", "", "")
	f.Fuzz(func(t *testing.T, simple, standard, proto, host string) {
		r := &http.Request{RemoteAddr: "127.0.0.1:5", Host: "localhost", Header: http.Header{}}
		for name, value := range map[string]string{"X-Forwarded-For": simple, "Forwarded": standard, "X-Forwarded-Proto": proto, "X-Forwarded-Host": host} {
			if value != "" {
				r.Header.Set(name, value)
			}
		}
		d.forwarded(r)
		if !addressOf(r.RemoteAddr).IsValid() {
			t.Errorf("no address: %q", r.RemoteAddr)
		}
		if u, err := url.Parse("http://" + r.Host + "/x"); err != nil || u.Host != r.Host || u.Path != "/x" {
			t.Errorf("no host: %q, %v", r.Host, err)
		}
	})
}
