package server

import (
	"bytes"
	"cmp"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"

	"howdah/internal/fault"
	"howdah/internal/pg/pgtest"
)

// issue makes a certificate that vouches for itself, and its key.
func issue(t *testing.T, name string, until time.Time, more ...string) (cert, key []byte) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: serial, Subject: pkix.Name{CommonName: name}, DNSNames: append([]string{"*.example.org", name}, more...), NotBefore: until.AddDate(0, -3, 0), NotAfter: until, IsCA: true, BasicConstraintsValid: true}
	raw, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: raw}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret})
}

// put exchanges a file as certbot does: another one takes its place.
func put(t *testing.T, file string, content []byte) {
	t.Helper()
	if err := os.WriteFile(file+".new", content, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(file+".new", file); err != nil {
		t.Fatal(err)
	}
}

// to is a client that finds every name at one address, and trusts these.
func to(address string, roots *x509.CertPool) *http.Client {
	jar, _ := cookiejar.New(nil) // which never fails
	return &http.Client{Jar: jar, Transport: &http.Transport{ForceAttemptHTTP2: true, DisableKeepAlives: true, TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, network, address)
		}}, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

func ask(t *testing.T, c *http.Client, method, to, body string) (*http.Response, error) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, to, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	response, err := c.Do(r)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	_, err = io.Copy(io.Discard, response.Body)
	return response, err
}

// runTLS starts a server and gives where it is really reached.
func runTLS(t *testing.T, o Options) (r *running, setup, address, plain string) {
	t.Helper()
	r = &running{t: t, done: make(chan error, 1)}
	ctx, stop := context.WithCancel(t.Context())
	r.stop = stop
	t.Cleanup(stop)
	ready := make(chan [2]string, 1)
	o.Log, o.Ready = slog.New(slog.NewTextHandler(&r.log, nil)), func(url, setup string) { ready <- [2]string{url, setup} }
	go func() { r.done <- Run(ctx, o) }()
	select {
	case told := <-ready:
		r.url, setup = told[0], told[1]
	case err := <-r.done:
		t.Fatal(err)
	}
	u, err := url.Parse(r.url)
	if err != nil {
		t.Fatal(err)
	}
	address = net.JoinHostPort("localhost", u.Port())
	if found := regexp.MustCompile(`led to https" address=(\S+)`).FindStringSubmatch(r.log.String()); found != nil {
		plain = found[1]
	}
	return r, setup, address, plain
}

// TestTheDoorSpeaksTLS: people come in by the name in the certificate, talk over a live socket, are led there from plain HTTP, and a renewed certificate is taken.
func TestTheDoorSpeaksTLS(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "fullchain.pem"), filepath.Join(dir, "privkey.pem")
	first, firstKey := issue(t, "chat.example.org", time.Now().AddDate(0, 2, 0))
	second, secondKey := issue(t, "chat.example.org", time.Now().AddDate(0, 1, 0))
	put(t, cert, first)
	put(t, key, firstKey)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(first)
	roots.AppendCertsFromPEM(second)
	db := pgtest.New(t)
	r, setup, address, plain := runTLS(t, Options{AppDSN: db.AppDSN, OwnerDSN: db.OwnerDSN, AppRole: "howdah_app", Listen: "localhost:0", TLS: &TLS{CertFile: cert, KeyFile: key, HTTPListen: "localhost:0"}})
	if !strings.HasPrefix(r.url, "https://chat.example.org:") || !strings.HasPrefix(setup, r.url+"/setup/") {
		t.Fatal(r.url, setup)
	}
	c := to(address, roots)
	in, err := ask(t, c, "POST", setup, url.Values{"handle": {"ann"}, "name": {"Ann"}, "password": {"correct horse battery"}}.Encode())
	if err != nil || in.StatusCode != http.StatusSeeOther || in.ProtoMajor != 2 || in.Header.Get("Strict-Transport-Security") == "" {
		t.Fatal(in, err)
	}
	u, _ := url.Parse(r.url)
	cookie := ""
	for _, one := range in.Cookies() {
		if one.Name == "howdah_session" && one.Secure {
			cookie = one.Name + "=" + one.Value
		}
	}
	if cookie == "" {
		t.Fatal("the session's cookie is not for TLS alone:", in.Cookies())
	}
	dialer := ws.Dialer{Header: ws.HandshakeHeaderHTTP{"Cookie": {cookie}, "Origin": {r.url}}, TLSConfig: &tls.Config{RootCAs: roots, ServerName: u.Hostname(), MinVersion: tls.VersionTLS12},
		NetDial: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, network, address)
		}}
	conn, early, _, err := dialer.Dial(t.Context(), "wss://"+u.Host+"/api/v1/live")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := wsutil.WriteClientText(conn, []byte(`{"do":"hello"}`)); err != nil {
		t.Fatal(err)
	}
	var from io.ReadWriter = conn
	if early != nil {
		from = struct {
			io.Reader
			io.Writer
		}{early, conn}
	}
	raw, err := wsutil.ReadServerText(from)
	var said map[string]any
	if err != nil || json.Unmarshal(raw, &said) != nil || said["is"] != "hello" {
		t.Fatalf("%s, %v", raw, err)
	}

	led, err := ask(t, to(plain, nil), "GET", "http://chat.example.org/invite/x?y=1", "")
	if err != nil || led.StatusCode != http.StatusFound || led.Header.Get("Location") != r.url+"/invite/x?y=1" {
		t.Error(led, err)
	}
	if posted, err := ask(t, to(plain, nil), "POST", "http://chat.example.org/sign-in", "password=x"); err != nil || posted.StatusCode != http.StatusForbidden {
		t.Error("a password that was sent in the clear:", posted, err)
	}

	serves := func(want []byte, what string) {
		t.Helper()
		block, _ := pem.Decode(want)
		got, err := ask(t, c, "GET", r.url+"/sign-in", "")
		if err != nil || !bytes.Equal(got.TLS.PeerCertificates[0].Raw, block.Bytes) {
			t.Error(what, err)
		}
	}
	serves(first, "the first one")
	put(t, cert, second)
	serves(first, "half of a new pair is no reason to serve none")
	put(t, key, secondKey)
	serves(second, "a renewed certificate is not taken")
	if err := os.Remove(cert); err != nil {
		t.Fatal(err)
	}
	serves(second, "the files are gone for a moment")
	r.stop()
	if err := <-r.done; err != nil {
		t.Error(err)
	}
	for _, said := range []string{"cannot be used", "a new certificate is used"} {
		if !strings.Contains(r.log.String(), said) {
			t.Errorf("the log does not say %q", said)
		}
	}
}

func TestACertificateThatCannotBeUsedIsRefusedAtTheStart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	first, firstKey := issue(t, "chat.example.org", time.Now().AddDate(0, 2, 0))
	several, severalKey := issue(t, "example.org", time.Now().AddDate(0, 2, 0), "chat.example.org")
	star, starKey := issue(t, "*.chat.example.org", time.Now().AddDate(0, 2, 0))
	_, otherKey := issue(t, "chat.example.org", time.Now().AddDate(0, 2, 0))
	for _, c := range []struct {
		name      string
		cert, key []byte
		o         Options
		fault     string
	}{
		{"no files", nil, nil, Options{TLS: &TLS{CertFile: cert, KeyFile: key}}, "server.tls_unreadable"},
		{"another's key", first, otherKey, Options{TLS: &TLS{CertFile: cert, KeyFile: key}}, "server.tls_pair"},
		{"no PEM", []byte("x"), firstKey, Options{TLS: &TLS{CertFile: cert, KeyFile: key}}, "server.tls_pair"},
		{"an address without TLS", first, firstKey, Options{PublicURL: "http://chat.example.org", TLS: &TLS{CertFile: cert, KeyFile: key}}, "server.tls_url"},
		{"several names, and nobody says which", several, severalKey, Options{Listen: "0.0.0.0:0", TLS: &TLS{CertFile: cert, KeyFile: key}}, "server.tls_name"},
		{"no name but a star", star, starKey, Options{Listen: "0.0.0.0:0", TLS: &TLS{CertFile: cert, KeyFile: key}}, "server.tls_name"},
		{"no name in a domain's letters", nil, nil, Options{TLS: &TLS{Domains: []string{"聊 天.example.org"}}}, "server.tls_domain"},
		{"a star", nil, nil, Options{TLS: &TLS{Domains: []string{"*.example.org"}}}, "server.tls_domain"},
		{"an address", nil, nil, Options{TLS: &TLS{Domains: []string{"192.0.2.1"}}}, "server.tls_domain"},
		{"a URL", nil, nil, Options{TLS: &TLS{Domains: []string{"https://chat.example.org"}}}, "server.tls_domain"},
	} {
		os.Remove(cert)
		os.Remove(key)
		if c.cert != nil {
			put(t, cert, c.cert)
			put(t, key, c.key)
		}
		c.o.Listen, c.o.Log = cmp.Or(c.o.Listen, "localhost:0"), slog.New(slog.DiscardHandler)
		if err := Run(t.Context(), c.o); !fault.HasKey(err, c.fault) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

// TestACertificateThatCouldNotBeReadIsTriedAgain: what lets it be read, a right above all, need not change what a file looks like from outside.
func TestACertificateThatCouldNotBeReadIsTriedAgain(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	first, firstKey := issue(t, "chat.example.org", time.Now().AddDate(0, 1, 0))
	second, secondKey := issue(t, "chat.example.org", time.Now().AddDate(0, 2, 0))
	var said bytes.Buffer
	c := &certFiles{cert: filepath.Join(dir, "cert.pem"), key: filepath.Join(dir, "key.pem"), log: slog.New(slog.NewTextHandler(&said, nil))}
	put(t, c.cert, first)
	put(t, c.key, firstKey)
	if err := c.load(); err != nil {
		t.Fatal(err)
	}
	serves := func(want []byte) {
		t.Helper()
		block, _ := pem.Decode(want)
		if got, err := c.get(nil); err != nil || !bytes.Equal(got.Certificate[0], block.Bytes) {
			t.Error("it is not the right one:", err)
		}
	}
	put(t, c.key, secondKey)
	put(t, c.cert, bytes.Repeat([]byte{'x'}, len(second)))
	serves(first)
	info, err := os.Stat(c.cert)
	if err != nil {
		t.Fatal(err)
	}
	c.failed = c.failed.Add(-time.Second)
	serves(first)
	if err := os.WriteFile(c.cert, second, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(c.cert, time.Time{}, info.ModTime()); err != nil {
		t.Fatal(err)
	}
	c.failed = c.failed.Add(-time.Second)
	serves(second)
	if n := strings.Count(said.String(), "cannot be used"); n != 1 || !c.failed.IsZero() {
		t.Errorf("%d times: %s", n, said.String())
	}
}

func TestANameInOtherLettersIsWrittenAsInCertificates(t *testing.T) {
	t.Parallel()
	secured, err := (&TLS{Domains: []string{"聊天.Example.org."}, Cache: t.TempDir()}).open(slog.New(slog.DiscardHandler))
	if err != nil || secured.host != "xn--rss932g.example.org" {
		t.Fatal(secured, err)
	}
}
