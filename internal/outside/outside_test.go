package outside

import (
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"

	"howdah/internal/fault"
)

func TestOnlyPublicAddressesAreSpokenTo(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]bool{
		"8.8.8.8": true, "1.1.1.1": true, "100.63.255.255": true, "100.128.0.1": true, "172.32.0.1": true, "223.255.255.255": true, "2606:4700::1111": true, "2a00:1450::1": true,
		"0.0.0.0": false, "0.1.2.3": false, "10.1.2.3": false, "100.64.0.1": false, "100.100.100.200": false, "127.0.0.1": false, "127.255.0.1": false, "169.254.169.254": false,
		"172.16.0.1": false, "172.31.255.255": false, "192.0.0.192": false, "192.168.1.1": false, "198.18.0.1": false, "224.0.0.1": false, "239.1.1.1": false, "240.0.0.1": false, "255.255.255.255": false,
		"168.63.129.16": false, "192.0.2.1": false,
		"::": false, "::1": false, "fe80::1": false, "fe80::1%eth0": false, "fc00::1": false, "fd00:ec2::254": false, "ff02::1": false, "fec0::1": false, "2001:db8::1": false, "2001::1": false,
		"::ffff:127.0.0.1": false, "::ffff:8.8.8.8": true, "::ffff:169.254.169.254": false, "::127.0.0.1": false, "::ffff:0:127.0.0.1": false,
		"64:ff9b::7f00:1": false, "64:ff9b::a9fe:a9fe": false, "64:ff9b::808:808": true, "64:ff9b:1::808:808": false,
		"2002:7f00:1::": false, "2002:a9fe:a9fe::1": false, "2002:808:808::1": true, "100::1": false, "3fff::1": false, "4000::1": false, "5f00::1": false,
	} {
		if have := Public(netip.MustParseAddr(text)); have != want {
			t.Errorf("%s: public is %v", text, have)
		}
	}
}

func allowance(t *testing.T, list ...string) Allowance {
	t.Helper()
	a, err := ParseAllowance(list)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func ask(t *testing.T, c *Client, method, address string) (Answer, error) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, address, strings.NewReader("x"))
	if err != nil {
		t.Fatal(err)
	}
	return c.Do(r)
}

func TestTheMachineItselfIsReachedByNoName(t *testing.T) {
	t.Parallel()
	asked := make(chan string, 100)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked <- r.URL.Path
		switch r.URL.Path {
		case "/away":
			http.Redirect(w, r, "/home", http.StatusTemporaryRedirect)
		case "/long":
			_, _ = w.Write([]byte(strings.Repeat("x", 5000)))
		}
	}))
	t.Cleanup(server.Close)
	_, port, err := net.SplitHostPort(strings.TrimPrefix(server.URL, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	closed := New(Limits{Time: time.Minute})
	for _, host := range []string{"127.0.0.1", "localhost", "LOCALHOST.", "0.0.0.0", "127.1", "2130706433", "0x7f000001", "017700000001", "[::1]", "[::ffff:127.0.0.1]", "[::]"} {
		_, err := ask(t, closed, http.MethodPost, "http://"+host+":"+port+"/")
		if err == nil {
			t.Errorf("%s was reached", host)
		}
		if host == "127.0.0.1" && !fault.HasKey(err, "outside.private") {
			t.Error(err)
		}
	}
	if len(asked) != 0 {
		t.Fatalf("it was asked for %s", <-asked)
	}
	for _, open := range [][]string{{"127.0.0.0/8"}, {"127.0.0.1"}, {"localhost"}, {"Localhost:" + port}} {
		host := "localhost"
		if strings.HasPrefix(open[0], "127") {
			host = "127.0.0.1"
		}
		if a, err := ask(t, New(Limits{Time: time.Minute, Private: allowance(t, open...)}), http.MethodPost, "http://"+host+":"+port+"/"); err != nil || a.Status != 200 {
			t.Errorf("%v: %v", open, err)
		}
	}
	if _, err := ask(t, New(Limits{Time: time.Minute, Private: allowance(t, "localhost:1", "10.0.0.0/8")}), http.MethodPost, server.URL); !fault.HasKey(err, "outside.private") {
		t.Error(err)
	}
	// What is posted goes where it was meant to go; what is fetched follows as far as was said.
	open := Limits{Time: time.Minute, Body: 100, Follow: 1, Private: allowance(t, "127.0.0.1")}
	if a, err := ask(t, New(open), http.MethodPost, server.URL+"/away"); err != nil || a.Status != http.StatusTemporaryRedirect {
		t.Error(a, err)
	}
	if a, err := ask(t, New(open), http.MethodGet, server.URL+"/away"); err != nil || a.Status != 200 {
		t.Error(a, err)
	}
	if a, err := ask(t, New(open), http.MethodGet, server.URL+"/long"); err != nil || len(a.Body) != 100 || !a.More {
		t.Error(a, err)
	}
	for _, wrong := range []string{"ftp://example.org/", "file:///etc/passwd", "http://user:secret@example.org/", "http:///x", "gopher://x/"} {
		if _, err := ask(t, closed, http.MethodGet, wrong); !fault.HasKey(err, "outside.url") {
			t.Errorf("%s: %v", wrong, err)
		}
	}
}

// TestARedirectInsideLeadsNowhere: an open address that sends us to a closed one.
func TestARedirectInsideLeadsNowhere(t *testing.T) {
	t.Parallel()
	reached := false
	secret := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached = true }))
	t.Cleanup(secret.Close)
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, secret.URL, http.StatusFound) }))
	t.Cleanup(front.Close)
	u, err := url.Parse(front.URL)
	if err != nil {
		t.Fatal(err)
	}
	c := New(Limits{Time: time.Minute, Follow: 5, Private: allowance(t, "localhost:"+u.Port())})
	if _, err := ask(t, c, http.MethodGet, "http://localhost:"+u.Port()); !fault.HasKey(err, "outside.private") || reached {
		t.Error(err, reached)
	}
}

func TestAnAllowanceIsReadAsItIsWritten(t *testing.T) {
	t.Parallel()
	for _, wrong := range []string{"http://grafana", "a b", "10.0.0.0/99", ":80"} {
		if _, err := ParseAllowance([]string{wrong}); !fault.HasKey(err, "outside.allowance") {
			t.Errorf("%s: %v", wrong, err)
		}
	}
	a := allowance(t, " Grafana.Internal. ", "", "10.1.0.0/16", "[fd00::1]")
	if !a.host("grafana.internal", "1") || a.host("grafana", "1") || !a.address(netip.MustParseAddr("10.1.2.3")) || a.address(netip.MustParseAddr("10.2.0.1")) || !a.address(netip.MustParseAddr("fd00::1")) {
		t.Error(a)
	}
	if (Allowance{}).host("localhost", "1") || (Allowance{}).address(netip.MustParseAddr("10.0.0.1")) {
		t.Error("nothing allows something")
	}
}

func TestWhenToComeAgain(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for text, want := range map[string]time.Duration{"": 0, "7": 7 * time.Second, "-7": 0, "soon": 0, "9999999": 24 * time.Hour, now.Add(time.Minute).Format(http.TimeFormat): time.Minute, now.Add(-time.Minute).Format(http.TimeFormat): 0} {
		if have := RetryAfter(text, now); have != want {
			t.Errorf("%q: %v", text, have)
		}
	}
}
