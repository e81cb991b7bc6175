//go:build linux

package server

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"howdah/internal/pg/pgtest"
)

// names is a DNS server that knows one name. It speaks TCP, which pebble asks by.
func names(t *testing.T, name, address string) (at string) {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	answer := func(conn net.Conn) {
		defer conn.Close()
		var length [2]byte
		if _, err := io.ReadFull(conn, length[:]); err != nil {
			return
		}
		raw := make([]byte, binary.BigEndian.Uint16(length[:]))
		var m dnsmessage.Message
		if _, err := io.ReadFull(conn, raw); err != nil || m.Unpack(raw) != nil || len(m.Questions) != 1 {
			return
		}
		m.Response, m.RecursionAvailable, m.Additionals = true, true, nil
		switch q := m.Questions[0]; {
		case !strings.EqualFold(strings.TrimSuffix(q.Name.String(), "."), name):
			m.RCode = dnsmessage.RCodeNameError
		case q.Type == dnsmessage.TypeA:
			m.Answers = []dnsmessage.Resource{{Header: dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class, TTL: 1}, Body: &dnsmessage.AResource{A: [4]byte(net.ParseIP(address).To4())}}}
		}
		if raw, err := m.Pack(); err == nil {
			_, _ = conn.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(raw))), raw...)) // who does not listen any more asks again
		}
	}
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return // it is closed
			}
			go answer(conn)
		}
	}()
	return listener.Addr().String()
}

// authority is pebble, the certificate authority that Let's Encrypt tests with.
type authority struct {
	client *http.Client // that reaches and trusts it
	roots  *x509.CertPool
	stop   func()
}

const acmeName = "authority.example.org"

func newAuthority(t *testing.T, address, resolver string) *authority {
	t.Helper()
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(cache, "howdah-tests", "pebble-v2.10.1")
	if _, err := exec.LookPath(program); err != nil {
		t.Fatalf("the tests need the certificate authority %s; run .ci/deps, which builds it: %v", program, err)
	}
	dir := t.TempDir()
	cert, key := issue(t, acmeName, time.Now().AddDate(0, 1, 0))
	put(t, filepath.Join(dir, "cert.pem"), cert)
	put(t, filepath.Join(dir, "key.pem"), key)
	config, err := json.Marshal(map[string]any{"pebble": map[string]any{"listenAddress": address + ":14000", "managementListenAddress": address + ":15000", "certificate": filepath.Join(dir, "cert.pem"),
		"privateKey": filepath.Join(dir, "key.pem"), "httpPort": 5002, "tlsPort": 5001, "retryAfter": map[string]int{"authz": 1, "order": 1}, "keyAlgorithm": "ecdsa",
		"profiles": map[string]any{"default": map[string]any{"description": "as usual", "validityPeriod": 7776000}}}})
	if err != nil {
		t.Fatal(err)
	}
	put(t, filepath.Join(dir, "config.json"), config)
	var said bytes.Buffer
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	cmd := exec.CommandContext(ctx, program, "-config", filepath.Join(dir, "config.json"), "-dnsserver", resolver)
	cmd.Env = append(os.Environ(), "PEBBLE_VA_NOSLEEP=1", "PEBBLE_WFE_NONCEREJECT=0")
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { _ = cmd.Wait(); close(ended) }() // it is killed
	a := &authority{roots: x509.NewCertPool(), stop: func() { stop(); <-ended }}
	t.Cleanup(func() {
		a.stop()
		if t.Failed() {
			t.Logf("%s", said.String())
		}
	})
	trusted := x509.NewCertPool()
	trusted.AppendCertsFromPEM(cert)
	a.client = to(address+":14000", trusted)
	pgtest.Await(t, "the authority answers", func() bool {
		select {
		case <-ended:
			t.Fatal("it has ended: ", said.String())
		default:
		}
		r, err := ask(t, a.client, "GET", "https://"+acmeName+"/dir", "")
		return err == nil && r.StatusCode == http.StatusOK
	})
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+acmeName+"/roots/0", nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := to(address+":15000", trusted).Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	root, err := io.ReadAll(response.Body)
	if err != nil || !a.roots.AppendCertsFromPEM(root) {
		t.Fatalf("%s, %v", root, err)
	}
	return a
}

// TestACertificateIsGotFromAnAuthority: one that speaks ACME asks whether we are who we say, in both ways; what it gives is kept; what it refuses is said and not asked for again at once.
func TestACertificateIsGotFromAnAuthority(t *testing.T) {
	t.Parallel()
	// An address of our own: its ports are nobody else's.
	address := fmt.Sprintf("127.%d.%d.%d", 1+rand.N(254), rand.N(256), 1+rand.N(254))
	a := newAuthority(t, address, names(t, "chat.example.org", address))
	db := pgtest.New(t)
	o := Options{AppDSN: db.AppDSN, OwnerDSN: db.OwnerDSN, AppRole: "howdah_app", Listen: address + ":5001",
		TLS: &TLS{Domains: []string{"Chat.Example.org", "gone.example.org"}, Authority: "https://" + acmeName + "/dir", Cache: filepath.Join(t.TempDir(), "certificates"), Client: a.client, HTTPListen: address + ":5002"}}
	var r *running
	there, said := `msg="the certificate is there" domain=chat.example.org`, regexp.MustCompile(`nobody can come in by this name" error="[^"]*domain=chat\.example\.org`)
	for range 5 { // it waits fifteen seconds for our answer; a machine may stand still
		r, _, _, _ = runTLS(t, o)
		pgtest.Await(t, "the certificate is there, or not", func() bool { return strings.Contains(r.log.String(), there) || said.MatchString(r.log.String()) })
		if strings.Contains(r.log.String(), there) {
			break
		}
		r.stop()
		if err := <-r.done; err != nil {
			t.Fatal(err)
		}
	}
	if r.url != "https://chat.example.org:5001" {
		t.Error(r.url)
	}
	got, err := ask(t, to(address+":5001", a.roots), "GET", "https://chat.example.org:5001/sign-in", "")
	if err != nil {
		t.Fatal(err)
	}
	first := got.TLS.PeerCertificates[0]

	pgtest.Await(t, "what is refused is said", func() bool { return strings.Contains(r.log.String(), "nobody can come in by this name") })
	for range 3 {
		if _, err := ask(t, to(address+":5001", a.roots), "GET", "https://gone.example.org:5001/", ""); err == nil {
			t.Error("there is a certificate for a name that leads nowhere")
		}
	}
	if n := strings.Count(r.log.String(), "nobody can come in by this name"); n != 1 {
		t.Errorf("it was tried %d times", n)
	}
	// There is one kind of certificate, for whoever comes and whatever they offer.
	modern := to(address+":5001", a.roots)
	modern.Transport.(*http.Transport).TLSClientConfig.MinVersion = tls.VersionTLS13
	if got, err := ask(t, modern, "GET", "https://chat.example.org:5001/sign-in", ""); err != nil || !got.TLS.PeerCertificates[0].Equal(first) {
		t.Error("who speaks TLS 1.3 only:", err)
	}
	old := to(address+":5001", a.roots)
	old.Transport.(*http.Transport).TLSClientConfig.MaxVersion = tls.VersionTLS12
	old.Transport.(*http.Transport).TLSClientConfig.CipherSuites = []uint16{tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256}
	if _, err := ask(t, old, "GET", "https://chat.example.org:5001/", ""); err == nil {
		t.Error("there is a certificate of another kind")
	}
	// The watchdog and howdah doctor come by no name of ours.
	near := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS12}}}
	if health, err := ask(t, near, "GET", "https://"+address+":5001/healthz", ""); err != nil || health.StatusCode != http.StatusOK {
		t.Error(health, err)
	}
	r.stop()
	if err := <-r.done; err != nil {
		t.Error(err)
	}

	// The next time nobody is asked.
	a.stop()
	o.TLS.Domains = o.TLS.Domains[:1]
	runTLS(t, o)
	got, err = ask(t, to(address+":5001", a.roots), "GET", "https://chat.example.org:5001/sign-in", "")
	if err != nil || !got.TLS.PeerCertificates[0].Equal(first) {
		t.Error("the certificate was not kept:", err)
	}
	kept, err := os.ReadDir(o.TLS.Cache)
	if err != nil || len(kept) == 0 {
		t.Fatal(kept, err)
	}
	for _, entry := range kept {
		if info, err := entry.Info(); err != nil || info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s is open to others: %v, %v", entry.Name(), info, err)
		}
	}
}
