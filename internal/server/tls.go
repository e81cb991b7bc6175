package server

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/acme"
	"golang.org/x/crypto/acme/autocert"
	"golang.org/x/net/idna"

	"howdah/internal/fault"
)

// TLS is how the door speaks TLS by itself: with a certificate and its key from files, or with certificates that it gets from an authority (ACME, RFC 8555).
type TLS struct {
	CertFile, KeyFile string

	Domains   []string     // that certificates are got for; then there are no files
	Mail      string       // that the authority may write to
	Authority string       // its directory's URL; "" is Let's Encrypt
	Cache     string       // folder for certificates and the key of the account
	Client    *http.Client // to reach the authority; nil is Go's own

	// HTTPListen is where plain HTTP is answered: with the way to https, and to the authority's question; "" is nowhere. With HTTPMay it is no reason not to start that it cannot be had.
	HTTPListen string
	HTTPMay    bool
}

// secured is what makes a door one of TLS.
type secured struct {
	config *tls.Config
	host   string                          // that people come to; "" where the certificate does not name exactly one
	plain  func(http.Handler) http.Handler // around what answers plain HTTP
	get    *gotten                         // nil: from files
}

// open reads the certificate, or makes ready to get one.
func (o *TLS) open(log *slog.Logger) (*secured, error) {
	own := func(h http.Handler) http.Handler { return h }
	if len(o.Domains) == 0 {
		files := &certFiles{cert: o.CertFile, key: o.KeyFile, log: log}
		if err := files.load(); err != nil {
			return nil, err
		}
		leaf := files.current.Leaf
		if now := time.Now(); now.After(leaf.NotAfter) || now.Before(leaf.NotBefore) {
			log.Error("browsers will warn people", "error", fault.New(fault.Conflict, "server.tls_time", fault.Args{"cert": o.CertFile, "from": leaf.NotBefore.Format(time.DateOnly), "to": leaf.NotAfter.Format(time.DateOnly)}))
		}
		host := ""
		if names := slices.DeleteFunc(slices.Clone(leaf.DNSNames), func(name string) bool { return strings.HasPrefix(name, "*") }); len(names) == 1 {
			host = strings.ToLower(names[0])
		}
		return &secured{&tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: files.get}, host, own, nil}, nil
	}
	g := &gotten{log: log, refused: map[string]refusal{}}
	for _, domain := range o.Domains {
		written, err := idna.Lookup.ToASCII(strings.TrimSuffix(strings.TrimSpace(domain), ".")) // as it stands in a certificate, and in what browsers ask for
		if err != nil {
			return nil, fault.Wrap(err, fault.Invalid, "server.tls_domain", fault.Args{"domain": domain})
		}
		domain = written
		if u, err := url.Parse("//" + domain); err != nil || u.Host != domain || !strings.Contains(domain, ".") || strings.Contains(domain, "*") || net.ParseIP(domain) != nil {
			return nil, fault.New(fault.Invalid, "server.tls_domain", fault.Args{"domain": domain})
		}
		g.domains = append(g.domains, domain)
	}
	g.manager = &autocert.Manager{Prompt: autocert.AcceptTOS, Cache: autocert.DirCache(o.Cache), HostPolicy: autocert.HostWhitelist(g.domains...), Email: o.Mail,
		Client: &acme.Client{DirectoryURL: o.Authority, HTTPClient: o.Client, UserAgent: "howdah"}}
	if o.Authority == "" {
		g.manager.Client.DirectoryURL = autocert.DefaultACMEDirectory
	}
	var err error
	if g.own, err = ownCertificate(); err != nil {
		return nil, err
	}
	config := g.manager.TLSConfig() // with the protocol of the authority's question
	config.MinVersion, config.GetCertificate = tls.VersionTLS12, g.certificate
	return &secured{config, g.domains[0], g.manager.HTTPHandler, g}, nil
}

// certFiles is a certificate in files. They are looked at in every handshake, which costs a thousand times as much: who renews them need not tell us.
type certFiles struct {
	cert, key string
	log       *slog.Logger

	mu      sync.Mutex
	tried   [2]os.FileInfo
	failed  time.Time // when they could not be used, as they are now; zero: they could
	current *tls.Certificate
}

// load reads the files. The caller holds mu, or is the only one.
func (c *certFiles) load() error {
	c.tried = c.seen()
	for _, file := range []string{c.cert, c.key} {
		f, err := os.Open(file)
		if err != nil {
			return fault.Wrap(err, fault.Invalid, "server.tls_unreadable", fault.Args{"file": file, "message": lastOf(err)})
		}
		f.Close()
	}
	pair, err := tls.LoadX509KeyPair(c.cert, c.key)
	if err != nil {
		return fault.Wrap(err, fault.Invalid, "server.tls_pair", fault.Args{"cert": c.cert, "key": c.key, "message": lastOf(err)})
	}
	c.current = &pair
	return nil
}

func (c *certFiles) seen() (files [2]os.FileInfo) {
	for i, file := range []string{c.cert, c.key} {
		files[i], _ = os.Stat(file) // one that is away is being exchanged
	}
	return files
}

func (c *certFiles) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.seen()
	same := true
	for i, file := range now {
		before := c.tried[i]
		same = same && (file == nil) == (before == nil) && (file == nil || os.SameFile(file, before) && file.ModTime().Equal(before.ModTime()) && file.Size() == before.Size())
	}
	if !same || !c.failed.IsZero() && time.Since(c.failed) >= time.Second { // a right to read them that comes later does not show in them
		if err := c.load(); err != nil { // perhaps the second file comes in a moment
			c.failed = time.Now()
			if !same {
				c.log.Warn("the certificate has changed and cannot be used; the one from before is kept", "error", err)
			}
		} else {
			c.failed = time.Time{}
			c.log.Info("a new certificate is used", "file", c.cert, "until", c.current.Leaf.NotAfter)
		}
	}
	return c.current, nil
}

// gotten are certificates that an authority gives. It counts the tries that fail (Let's Encrypt: five an hour), and a stranger's handshake is one: they are made seldom, and the reason is said.
type gotten struct {
	manager *autocert.Manager
	domains []string
	own     *tls.Certificate // for programs on this machine that come by another name
	log     *slog.Logger

	mu      sync.Mutex
	refused map[string]refusal
}

type refusal struct {
	err   error
	until time.Time
	pause time.Duration
}

const leastPause, mostPause = 5 * time.Minute, 3 * time.Hour

func (g *gotten) certificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	name := strings.ToLower(strings.TrimSuffix(hello.ServerName, "."))
	if written, err := idna.Lookup.ToASCII(name); err == nil {
		name = written
	}
	if !slices.Contains(g.domains, name) && fromHere(hello.Conn) {
		return g.own, nil
	}
	if len(hello.SupportedProtos) == 1 && hello.SupportedProtos[0] == acme.ALPNProto || !slices.Contains(g.domains, name) {
		return g.manager.GetCertificate(hello)
	}
	g.mu.Lock()
	refused, known := g.refused[name]
	g.mu.Unlock()
	if known && time.Now().Before(refused.until) {
		return nil, refused.err
	}
	certificate, err := g.manager.GetCertificate(oneKind(name))
	g.mu.Lock()
	defer g.mu.Unlock()
	if err == nil {
		delete(g.refused, name)
		return certificate, nil
	}
	if latest, ok := g.refused[name]; ok && latest.until.After(time.Now()) {
		return nil, err // somebody who waited for the same try has said it
	}
	pause := min(max(2*refused.pause, leastPause), mostPause)
	err = fault.Wrap(err, fault.Unavailable, "server.tls_auto", fault.Args{"domain": name, "message": err.Error()})
	g.refused[name] = refusal{err, time.Now().Add(pause), pause}
	g.log.Error("there is no certificate yet; nobody can come in by this name", "error", err, "retry_in", pause)
	return nil, err
}

// oneKind asks for a name's certificate of the one kind that we have. The manager gets another one for who does not offer ECDSA with TLS 1.2, be it because
// they speak only TLS 1.3: a try of its own that a stranger may cause, and that fails for all.
func oneKind(name string) *tls.ClientHelloInfo {
	return &tls.ClientHelloInfo{ServerName: name, CipherSuites: []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256},
		SignatureSchemes: []tls.SignatureScheme{tls.ECDSAWithP256AndSHA256}, SupportedCurves: []tls.CurveID{tls.CurveP256}}
}

// keep gets the certificates before anybody asks, and tries again until they are there; from then on they are renewed by themselves.
func (g *gotten) keep(ctx context.Context) {
	for _, domain := range g.domains {
		go func() {
			for {
				_, err := g.certificate(&tls.ClientHelloInfo{ServerName: domain})
				if err == nil {
					g.log.Info("the certificate is there", "domain", domain)
					return
				}
				g.mu.Lock()
				wait := time.NewTimer(max(time.Until(g.refused[domain].until), time.Second))
				g.mu.Unlock()
				select {
				case <-ctx.Done():
					wait.Stop()
					return
				case <-wait.C:
				}
			}
		}()
	}
}

// fromHere tells whether the other side is a program on this machine.
func fromHere(conn net.Conn) bool {
	if conn == nil {
		return false
	}
	there, err := netip.ParseAddrPort(conn.RemoteAddr().String())
	here, hereErr := netip.ParseAddrPort(conn.LocalAddr().String())
	return err == nil && hereErr == nil && (there.Addr().Unmap().IsLoopback() || there.Addr() == here.Addr())
}

// ownCertificate is one that nobody vouches for. It is only for who knows that it talks with this machine.
func ownCertificate() (*tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	template := &x509.Certificate{SerialNumber: big.NewInt(now.UnixNano()), Subject: pkix.Name{CommonName: "howdah"}, DNSNames: []string{"localhost"}, NotBefore: now.AddDate(0, 0, -1), NotAfter: now.AddDate(10, 0, 0),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	raw, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	return &tls.Certificate{Certificate: [][]byte{raw}, PrivateKey: key}, nil
}

// servePlain opens the door of plain HTTP, which leads to https. Only who looks is led: what was sent in a form, others may have read already.
func (s *Server) servePlain(ctx context.Context, o *TLS, secured *secured) (*http.Server, error) {
	if o.HTTPListen == "" {
		return nil, nil
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", o.HTTPListen)
	if err != nil {
		err = listenFault(err, o.HTTPListen)
		if !o.HTTPMay {
			return nil, err
		}
		s.options.Log.Warn("http is not answered; people have to type https", "error", err)
		return nil, nil
	}
	lead := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			http.Error(w, "Use "+s.url, http.StatusForbidden)
			return
		}
		w.Header().Set("Connection", "close")
		path := r.URL.RequestURI()
		if !strings.HasPrefix(path, "/") {
			path = "/"
		}
		status := http.StatusFound // the certificate's name may be another one tomorrow, and browsers keep for ever what is permanent
		if s.options.PublicURL != "" {
			status = http.StatusMovedPermanently
		}
		http.Redirect(w, r, s.url+path, status)
	})
	answer := secured.plain(lead)
	bare := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if host, _, err := net.SplitHostPort(r.Host); err == nil { // a port is led here from another one
			r.Host = host
		}
		answer.ServeHTTP(w, r)
	})
	plain := &http.Server{Handler: bare, ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 10 * time.Second, WriteTimeout: 10 * time.Second, IdleTimeout: 10 * time.Second, MaxHeaderBytes: 16 << 10,
		ErrorLog: slog.NewLogLogger(s.options.Log.Handler(), slog.LevelDebug), ConnState: s.silent.note}
	go func() { _ = plain.Serve(newDoorkeeper(listener, s.options.Log)) }() // ends with Shutdown
	s.options.Log.Info("http is led to https", "address", listener.Addr().String())
	return plain, nil
}

// nameless says that nobody on another machine would know by which name to come.
func (o *TLS) nameless(secured *secured, at net.Addr) error {
	tcp, ok := at.(*net.TCPAddr)
	if secured.host != "" || ok && tcp.IP.IsLoopback() {
		return nil
	}
	return fault.New(fault.Invalid, "server.tls_name", fault.Args{"cert": o.CertFile})
}

// listenFault says why an address cannot be listened at.
func listenFault(err error, address string) error {
	args := fault.Args{"address": address, "message": lastOf(err)}
	if errors.Is(err, os.ErrPermission) {
		return fault.Wrap(err, fault.Conflict, "server.listen_low", args)
	}
	return fault.Wrap(err, fault.Conflict, "server.listen", args)
}
