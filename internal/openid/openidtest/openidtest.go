// Package openidtest is an OpenID Connect provider for tests: a real one (github.com/zitadel/oidc), with people that the test names, and the ability to forge what it says.
package openidtest

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"html/template"
	"io"
	"log/slog"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"

	jose "github.com/go-jose/go-jose/v4"
	"github.com/zitadel/oidc/v3/example/server/storage"
	"github.com/zitadel/oidc/v3/pkg/oidc"
	"github.com/zitadel/oidc/v3/pkg/op"
	"golang.org/x/text/language"
)

// What the house is known by.
const (
	ClientID = "howdah"
	Secret   = "a secret of the house"
)

// Password is everybody's.
const Password = "at the provider"

// User is somebody whom it knows.
type User struct {
	ID, Username, Name, Email string
	Verified                  bool
	Groups                    []string
}

// Token is what it is about to say of somebody, for a test to change.
type Token struct {
	Claims   map[string]any
	Unsigned bool // with alg none
	Stranger bool // signed with a key that is not its own
	Secret   bool // signed with the client's secret (HS256)
	Answer   map[string]any
}

// Provider is one that runs until the test ends.
type Provider struct {
	URL string // its issuer

	mu        sync.Mutex
	users     map[string]*User
	redirects []string
	forge     func(*Token)
	info      func(map[string]any)
	server    *httptest.Server
	store     *store
	key       op.SigningKey
}

// New starts one.
func New(t testing.TB) *Provider {
	t.Helper()
	p := &Provider{users: map[string]*User{}}
	mux := http.NewServeMux()
	p.server = httptest.NewServer(mux)
	t.Cleanup(p.server.Close)
	p.URL = p.server.URL
	p.store = &store{Storage: storage.NewStorageWithClients(p, map[string]*storage.Client{ClientID: storage.WebClient(ClientID, Secret)}), p: p}
	var err error
	if p.key, err = p.store.SigningKey(t.Context()); err != nil {
		t.Fatal(err)
	}
	provider, err := op.NewProvider(&op.Config{CryptoKey: [32]byte{1}, CryptoKeyId: "key", CodeMethodS256: true, AuthMethodPost: true, SupportedUILocales: []language.Tag{language.English}},
		p.store, op.StaticIssuer(p.URL), op.WithAllowInsecure(), op.WithLogger(slog.New(slog.DiscardHandler)))
	if err != nil {
		t.Fatal(err)
	}
	back := op.AuthCallbackURL(provider)
	mux.HandleFunc("GET /login", func(w http.ResponseWriter, r *http.Request) { _ = loginPage.Execute(w, r.FormValue("id")) })
	mux.HandleFunc("POST /login", op.NewIssuerInterceptor(provider.IssuerFromRequest).HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := p.store.CheckUsernamePassword(r.FormValue("username"), r.FormValue("password"), r.FormValue("id")); err != nil {
			http.Error(w, err.Error(), http.StatusForbidden)
			return
		}
		http.Redirect(w, r, back(r.Context(), r.FormValue("id")), http.StatusFound)
	}))
	mux.HandleFunc("GET /favicon.ico", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	mux.Handle("POST /oauth/token", p.forging(provider))
	mux.Handle("GET /userinfo", p.informing(provider))
	mux.Handle("/", provider)
	return p
}

var loginPage = template.Must(template.New("").Parse(`<!doctype html><html lang="en"><title>Provider</title><h1>The provider</h1><form method="post" action="/login"><input type="hidden" name="id" value="{{.}}">
<label>Name <input name="username"></label> <label>Password <input name="password" type="password"></label> <button class="main">Go</button></form></html>`))

// Close ends it before the test does.
func (p *Provider) Close() { p.server.Close() }

// Allow lets it send browsers back to an address.
func (p *Provider) Allow(redirect string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.redirects = append(p.redirects, redirect)
}

// Set makes it know somebody, or know them differently.
func (p *Provider) Set(u User) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.users[u.ID] = &u
}

// Forge changes what it says in tokens from now on; nil: nothing.
func (p *Provider) Forge(change func(*Token)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.forge = change
}

// Inform changes what it says beside them (userinfo); nil: nothing.
func (p *Provider) Inform(change func(claims map[string]any)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.info = change
}

// SignIn goes where a browser is sent, signs in there, and gives the address that it is sent back to.
func (p *Provider) SignIn(t testing.TB, address, username string) url.Values {
	t.Helper()
	jar, _ := cookiejar.New(nil)
	var back *url.URL
	client := &http.Client{Jar: jar, CheckRedirect: func(next *http.Request, _ []*http.Request) error {
		if !strings.HasPrefix(next.URL.String(), p.URL) {
			back = next.URL
			return http.ErrUseLastResponse
		}
		return nil
	}}
	get := func(request *http.Request) (answer *http.Response, body string) {
		answer, err := client.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		raw, err := io.ReadAll(answer.Body)
		if err != nil {
			t.Fatal(err)
		}
		return answer, string(raw)
	}
	ask, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address, nil)
	if err != nil {
		t.Fatal(err)
	}
	answer, body := get(ask)
	form := url.Values{"id": {answer.Request.URL.Query().Get("id")}, "username": {username}, "password": {Password}}
	if form.Get("id") == "" {
		t.Fatalf("%s: %s %s", address, answer.Status, body)
	}
	if ask, err = http.NewRequestWithContext(t.Context(), http.MethodPost, p.URL+"/login", strings.NewReader(form.Encode())); err != nil {
		t.Fatal(err)
	}
	ask.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if answer, body = get(ask); back == nil {
		t.Fatalf("%s %s", answer.Status, body)
	}
	return back.Query()
}

// recorder keeps an answer back until it was changed.
type recorder struct {
	http.ResponseWriter
	code int
	body bytes.Buffer
}

func (r *recorder) WriteHeader(code int)        { r.code = code }
func (r *recorder) Write(b []byte) (int, error) { return r.body.Write(b) }

func changed(next http.Handler, change func(map[string]any) error) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		kept := &recorder{ResponseWriter: w, code: http.StatusOK}
		next.ServeHTTP(kept, r)
		said := map[string]any{}
		raw := kept.body.Bytes()
		if kept.code == http.StatusOK && json.Unmarshal(raw, &said) == nil {
			if err := change(said); err != nil {
				http.Error(w, err.Error(), http.StatusInternalServerError)
				return
			}
			raw, _ = json.Marshal(said)
		}
		w.Header().Del("Content-Length")
		w.WriteHeader(kept.code)
		_, _ = w.Write(raw)
	})
}

func (p *Provider) informing(next http.Handler) http.Handler {
	return changed(next, func(said map[string]any) error {
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.info != nil {
			p.info(said)
		}
		return nil
	})
}

func (p *Provider) forging(next http.Handler) http.Handler {
	return changed(next, func(said map[string]any) error {
		p.mu.Lock()
		forge := p.forge
		p.mu.Unlock()
		raw, _ := said["id_token"].(string)
		if forge == nil || raw == "" {
			return nil
		}
		payload, err := base64.RawURLEncoding.DecodeString(strings.Split(raw, ".")[1])
		token := Token{Answer: said}
		if err == nil {
			err = json.Unmarshal(payload, &token.Claims)
		}
		if err != nil {
			return err
		}
		forge(&token)
		if said["id_token"] != raw {
			return nil // the test took it away, or has its own
		}
		said["id_token"], err = p.sign(token)
		return err
	})
}

func (p *Provider) sign(token Token) (string, error) {
	payload, err := json.Marshal(token.Claims)
	if err != nil {
		return "", err
	}
	if token.Unsigned {
		return base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none","typ":"JWT"}`)) + "." + base64.RawURLEncoding.EncodeToString(payload) + ".", nil
	}
	own := p.key
	key := jose.SigningKey{Algorithm: jose.RS256, Key: jose.JSONWebKey{Key: own.Key(), KeyID: own.ID()}}
	switch {
	case token.Stranger:
		other, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			return "", err
		}
		key.Key = jose.JSONWebKey{Key: other, KeyID: own.ID()}
	case token.Secret:
		key = jose.SigningKey{Algorithm: jose.HS256, Key: []byte(Secret + strings.Repeat(" ", 32))}
	}
	signer, err := jose.NewSigner(key, nil)
	if err != nil {
		return "", err
	}
	signed, err := signer.Sign(payload)
	if err != nil {
		return "", err
	}
	return signed.CompactSerialize()
}

// GetUserByID implements storage.UserStore.
func (p *Provider) GetUserByID(id string) *storage.User {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.users[id].stored()
}

// GetUserByUsername implements storage.UserStore.
func (p *Provider) GetUserByUsername(name string) *storage.User {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, u := range p.users {
		if u.Username == name {
			return u.stored()
		}
	}
	return nil
}

// ExampleClientID implements storage.UserStore.
func (p *Provider) ExampleClientID() string { return "nobody" }

func (u *User) stored() *storage.User {
	if u == nil {
		return nil
	}
	first, last, _ := strings.Cut(u.Name, " ")
	return &storage.User{ID: u.ID, Username: u.Username, Password: Password, FirstName: first, LastName: last, Email: u.Email, EmailVerified: u.Verified}
}

// store adds to the library's own store of examples what groups people are in, and where browsers may be sent back to.
type store struct {
	*storage.Storage
	p *Provider
}

func (s *store) groups(info *oidc.UserInfo) {
	s.p.mu.Lock()
	defer s.p.mu.Unlock()
	if u := s.p.users[info.Subject]; u != nil {
		info.Name = strings.TrimSpace(info.Name)
		info.AppendClaims("groups", append([]string{}, u.Groups...))
	}
}

func (s *store) SetUserinfoFromRequest(ctx context.Context, info *oidc.UserInfo, token op.IDTokenRequest, scopes []string) error {
	err := s.Storage.SetUserinfoFromRequest(ctx, info, token, scopes)
	s.groups(info)
	return err
}

func (s *store) SetUserinfoFromToken(ctx context.Context, info *oidc.UserInfo, token, subject, origin string) error {
	err := s.Storage.SetUserinfoFromToken(ctx, info, token, subject, origin)
	s.groups(info)
	return err
}

type client struct {
	op.Client
	redirects []string
}

func (c client) RedirectURIs() []string    { return c.redirects }
func (c client) LoginURL(id string) string { return "/login?id=" + url.QueryEscape(id) }

func (s *store) GetClientByClientID(ctx context.Context, id string) (op.Client, error) {
	c, err := s.Storage.GetClientByClientID(ctx, id)
	if err != nil {
		return nil, fmt.Errorf("no such client: %w", err)
	}
	s.p.mu.Lock()
	defer s.p.mu.Unlock()
	return client{c, append([]string{}, s.p.redirects...)}, nil
}
