// Package openid speaks to OpenID Connect providers: where somebody is sent to sign in, and what is believed of the answer (OpenID Connect Core 1.0, code flow with PKCE). Whoever may come
// in with that is package account's to say.
package openid

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"

	"howdah/internal/fault"
)

// Config says which provider it is.
type Config struct {
	Name     string   // in addresses: "office"
	Label    string   // as people call it
	Issuer   string   // its URL, letter by letter as it says itself
	ClientID string   // that it knows the house by
	Secret   string   // beside it; "" for a public client, which PKCE alone protects
	Scopes   []string // asked for beside openid; nil: profile and email
	Groups   string   // the claim that says who is in which group, "groups" or "realm_access.roles"; "": nobody asks
}

// Provider is one of them. It is safe for concurrent use.
type Provider struct {
	Config
	client *http.Client

	mu    sync.Mutex
	found *metadata
	at    time.Time
	fault error     // why it could not be asked ...
	tried time.Time // ... then
}

// metadata is what a provider says of itself.
type metadata struct {
	*oidc.Provider
	saysIssuer bool // its answers name it (RFC 9207)
}

const (
	patience  = 10 * time.Second // of one request
	again     = 10 * time.Second // from a provider that is away to the next who asks it
	fresh     = time.Hour        // what a provider says of itself is asked again after that
	mostBytes = 1 << 20          // of an answer
	mostWords = 200              // bytes of a reason
)

// New makes a provider; nobody is asked yet. A fault names the value that cannot be used in its argument "key".
func New(c Config) (*Provider, error) {
	wrong := func(key string) error {
		return fault.New(fault.Invalid, "openid.config", fault.Args{"name": c.Name, "key": key})
	}
	u, err := url.Parse(c.Issuer)
	if err != nil || !safe(u) || u.RawQuery != "" || u.Fragment != "" || u.User != nil {
		return nil, wrong("issuer")
	}
	if c.ClientID == "" {
		return nil, wrong("client-id")
	}
	if c.Label == "" {
		c.Label = u.Hostname()
	}
	if c.Scopes == nil {
		c.Scopes = []string{"profile", "email"}
	}
	for _, scope := range c.Scopes {
		if scope == "" || strings.ContainsAny(scope, " \"\\") {
			return nil, wrong("scopes")
		}
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxResponseHeaderBytes, transport.IdleConnTimeout = 64<<10, 30*time.Second
	return &Provider{Config: c, client: &http.Client{Timeout: patience, Transport: bounded{transport}, CheckRedirect: func(next *http.Request, via []*http.Request) error {
		if len(via) > 3 || !safe(next.URL) {
			return errors.New("a redirect that is not followed")
		}
		return nil
	}}}, nil
}

// safe tells whether nobody on the way can change what is said there: https, or this machine.
func safe(u *url.URL) bool {
	if u.Hostname() == "" || u.Opaque != "" {
		return false
	}
	if u.Scheme == "https" {
		return true
	}
	ip := net.ParseIP(u.Hostname())
	return u.Scheme == "http" && (u.Hostname() == "localhost" || ip != nil && ip.IsLoopback())
}

// bounded reads no more of an answer than an honest one has.
type bounded struct{ http.RoundTripper }

func (b bounded) RoundTrip(r *http.Request) (*http.Response, error) {
	answer, err := b.RoundTripper.RoundTrip(r)
	if err == nil {
		answer.Body = struct {
			io.Reader
			io.Closer
		}{io.LimitReader(answer.Body, mostBytes), answer.Body}
	}
	return answer, err
}

// away says that a provider cannot be asked. Why is among its arguments, and not said to people: it names our network.
func (p *Provider) away(err error) error {
	var withURL *url.Error
	why := err
	if errors.As(err, &withURL) { // its address may hold what is nobody's business
		why = withURL.Err
	}
	return fault.Wrap(err, fault.Unavailable, "openid.away", fault.Args{"name": p.Label, "issuer": p.Issuer, "why": clip(why.Error())})
}

// Check asks the provider what it says of itself, whatever is known of it.
func (p *Provider) Check(ctx context.Context) error {
	_, err := p.discover(ctx)
	return err
}

func (p *Provider) discover(ctx context.Context) (*metadata, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	found, err := oidc.NewProvider(oidc.ClientContext(ctx, p.client), p.Issuer)
	var other *oidc.IssuerMismatchError
	if errors.As(err, &other) {
		return nil, fault.Wrap(err, fault.Unavailable, "openid.other_issuer", fault.Args{"name": p.Label, "issuer": p.Issuer, "says": clip(other.Discovered)})
	}
	if err != nil {
		return nil, p.away(err)
	}
	var says struct {
		Keys     string `json:"jwks_uri"`
		UserInfo string `json:"userinfo_endpoint"`
		Issuer   bool   `json:"authorization_response_iss_parameter_supported"`
	}
	if err := found.Claims(&says); err != nil {
		return nil, p.away(err)
	}
	for _, address := range []string{found.Endpoint().AuthURL, found.Endpoint().TokenURL, says.Keys, says.UserInfo} {
		if u, err := url.Parse(address); err != nil || !safe(u) && (address != "" || says.UserInfo != "") {
			return nil, p.away(fmt.Errorf("not an https address: %q", clip(address)))
		}
	}
	return &metadata{found, says.Issuer}, nil
}

// metadata is what is known of the provider. One that does not answer just now goes on with what it said before.
func (p *Provider) metadata(ctx context.Context) (*metadata, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.found != nil && time.Since(p.at) < fresh {
		return p.found, nil
	}
	if p.fault == nil || time.Since(p.tried) > again {
		var found *metadata
		found, p.fault = p.discover(context.WithoutCancel(ctx)) // others wait for it as well
		if p.tried = time.Now(); p.fault == nil {
			p.found, p.at = found, p.tried
		}
	}
	if p.found != nil {
		return p.found, nil
	}
	return nil, p.fault
}

// Flow is one way to the provider and back, to be kept where the browser cannot read it.
type Flow struct {
	Nonce    string `json:"nonce"`
	Verifier string `json:"verifier"` // of PKCE (RFC 7636)
	Redirect string `json:"redirect"` // where the provider sends the browser back to
}

// NewFlow makes one.
func NewFlow(redirect string) Flow {
	return Flow{Nonce: rand.Text(), Verifier: oauth2.GenerateVerifier(), Redirect: redirect}
}

func (p *Provider) oauth(m *metadata, f Flow) *oauth2.Config {
	return &oauth2.Config{ClientID: p.ClientID, ClientSecret: p.Secret, Endpoint: m.Endpoint(), RedirectURL: f.Redirect, Scopes: append([]string{oidc.ScopeOpenID}, p.Scopes...)}
}

// Address is where the browser is sent. state comes back with the answer.
func (p *Provider) Address(ctx context.Context, f Flow, state string) (string, error) {
	m, err := p.metadata(ctx)
	if err != nil {
		return "", err
	}
	return p.oauth(m, f).AuthCodeURL(state, oidc.Nonce(f.Nonce), oauth2.S256ChallengeOption(f.Verifier)), nil
}

// Identity is somebody as the provider knows them. Issuer and Subject together name them for ever; all else may change, and be another's tomorrow.
type Identity struct {
	Issuer, Subject string
	Email           string // "" unless the provider says that it was verified
	Unverified      string // what it says of an address that was not
	Name, Username  string
	Groups          []string
}

// Finish takes the answer that the browser came back with, and gives whom the provider means. A fault of the code Unauthenticated says what is wrong with the answer, Unavailable that the
// provider cannot be asked.
func (p *Provider) Finish(ctx context.Context, f Flow, answer url.Values) (Identity, error) {
	refused := func(err error, key string, more ...fault.Args) error {
		args := fault.Args{"name": p.Label}
		for _, one := range more {
			for name, value := range one {
				args[name] = value
			}
		}
		return fault.Wrap(err, fault.Unauthenticated, key, args)
	}
	if said := answer.Get("error"); said != "" {
		return Identity{}, refused(nil, "openid.said", fault.Args{"said": code(said)})
	}
	ctx, cancel := context.WithTimeout(oidc.ClientContext(ctx, p.client), 2*patience)
	defer cancel()
	m, err := p.metadata(ctx)
	if err != nil {
		return Identity{}, err
	}
	if iss := answer.Get("iss"); iss != p.Issuer && (iss != "" || m.saysIssuer) {
		return Identity{}, refused(nil, "openid.issuer")
	}
	if answer.Get("code") == "" {
		return Identity{}, refused(nil, "openid.no_token")
	}
	token, err := p.oauth(m, f).Exchange(ctx, answer.Get("code"), oauth2.VerifierOption(f.Verifier))
	var no *oauth2.RetrieveError
	if errors.As(err, &no) && no.Response != nil && no.Response.StatusCode < 500 {
		return Identity{}, refused(err, "openid.said", fault.Args{"said": code(no.ErrorCode)})
	}
	if err != nil {
		return Identity{}, p.away(err)
	}
	raw, _ := token.Extra("id_token").(string)
	if raw == "" {
		return Identity{}, refused(nil, "openid.no_token")
	}
	id, err := m.Verifier(&oidc.Config{ClientID: p.ClientID}).Verify(ctx, raw)
	if err != nil {
		return Identity{}, refused(err, p.why(raw, err))
	}
	claims := map[string]any{}
	if err := id.Claims(&claims); err != nil {
		return Identity{}, refused(err, "openid.signature")
	}
	party, _ := claims["azp"].(string)
	switch {
	case subtle.ConstantTimeCompare([]byte(id.Nonce), []byte(f.Nonce)) != 1:
		return Identity{}, refused(nil, "openid.nonce")
	case party != "" && party != p.ClientID, party == "" && len(id.Audience) > 1:
		return Identity{}, refused(nil, "openid.audience")
	case id.AccessTokenHash != "" && id.VerifyAccessToken(token.AccessToken) != nil:
		return Identity{}, refused(nil, "openid.signature")
	case id.Subject == "" || len(id.Subject) > 255 || text(id.Subject, 255) != id.Subject:
		return Identity{}, refused(nil, "openid.subject")
	}
	// What the token does not say, the provider is asked for (section 5.3 of Core); it has to speak of the same person.
	if missing := func(name string) bool { return name != "" && find(claims, name) == nil }; m.UserInfoEndpoint() != "" && (missing("email") || missing("name") || missing(p.Groups)) {
		info, err := m.UserInfo(ctx, oauth2.StaticTokenSource(token))
		if err != nil {
			return Identity{}, p.away(err)
		}
		more := map[string]any{}
		if err := info.Claims(&more); err != nil {
			return Identity{}, p.away(err)
		}
		if info.Subject != id.Subject {
			return Identity{}, refused(nil, "openid.subject")
		}
		_, own := claims["email"]
		for name, value := range more {
			if _, ok := claims[name]; !ok && (name != "email_verified" || !own) { // which address was verified is said beside it
				claims[name] = value
			}
		}
	}
	return p.identity(id.Subject, claims), nil
}

func (p *Provider) identity(subject string, claims map[string]any) Identity {
	who := Identity{Issuer: p.Issuer, Subject: subject}
	word := func(name string) string {
		s, _ := claims[name].(string)
		return text(s, mostWords)
	}
	who.Name, who.Username = word("name"), word("preferred_username")
	if email := strings.TrimSpace(word("email")); claims["email_verified"] == true || claims["email_verified"] == "true" { // some write it as a text
		who.Email = email
	} else {
		who.Unverified = email
	}
	if p.Groups == "" {
		return who
	}
	switch said := find(claims, p.Groups).(type) {
	case string:
		who.Groups = []string{said}
	case []any:
		for _, one := range said {
			if group, ok := one.(string); ok && !slices.Contains(who.Groups, group) {
				who.Groups = append(who.Groups, group)
			}
		}
	}
	return who
}

// find is a claim by its name, or by the names that lead to it with dots between.
func find(claims map[string]any, name string) any {
	if value, ok := claims[name]; ok {
		return value
	}
	first, rest, ok := strings.Cut(name, ".")
	if !ok {
		return nil
	}
	inner, _ := claims[first].(map[string]any)
	if inner == nil {
		return nil
	}
	return find(inner, rest)
}

// why finds which fault a token that was refused has: its verifier decides, and this only names the reason.
func (p *Provider) why(raw string, err error) string {
	var over *oidc.TokenExpiredError
	if errors.As(err, &over) {
		return "openid.expired"
	}
	var says struct {
		Issuer   string `json:"iss"`
		Audience any    `json:"aud"`
	}
	parts := strings.Split(raw, ".")
	if len(parts) != 3 {
		return "openid.signature"
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil || json.Unmarshal(payload, &says) != nil {
		return "openid.signature"
	}
	if says.Issuer != p.Issuer {
		return "openid.issuer"
	}
	many, _ := says.Audience.([]any)
	if says.Audience != p.ClientID && !slices.Contains(many, any(p.ClientID)) {
		return "openid.audience"
	}
	return "openid.signature"
}

// code is an error code of OAuth as it can be shown: it comes with an address that anybody can write.
func code(said string) string {
	if len(said) > 60 {
		said = said[:60]
	}
	said = strings.Map(func(r rune) rune {
		if r == '_' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' {
			return r
		}
		return -1
	}, said)
	if said == "" {
		return "?"
	}
	return said
}

func clip(s string) string { return text(s, mostWords) }

// text is s in one line, without what a page or PostgreSQL cannot hold.
func text(s string, most int) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r == '\ufffd' {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, " "))
	for len(s) > most {
		s = strings.ToValidUTF8(s[:most], "")
	}
	return s
}
