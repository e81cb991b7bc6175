package openid_test

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"testing"
	"time"

	"howdah/internal/fault"
	"howdah/internal/openid"
	"howdah/internal/openid/openidtest"
)

const redirect = "https://house.example/sign-in/with/office/back"

func known(t *testing.T, p *openidtest.Provider) *openid.Provider {
	t.Helper()
	p.Allow(redirect)
	p.Set(openidtest.User{ID: "a-1", Username: "ada", Name: "Ada Lovelace", Email: "ada@example.org", Verified: true, Groups: []string{"staff", "engineers"}})
	house, err := openid.New(openid.Config{Name: "office", Label: "Office", Issuer: p.URL, ClientID: openidtest.ClientID, Secret: openidtest.Secret, Groups: "groups"})
	if err != nil {
		t.Fatal(err)
	}
	return house
}

// answer goes to the provider and comes back.
func answer(t *testing.T, p *openidtest.Provider, house *openid.Provider) (openid.Flow, url.Values) {
	t.Helper()
	flow := openid.NewFlow(redirect)
	address, err := house.Address(t.Context(), flow, "the state")
	if err != nil {
		t.Fatal(err)
	}
	back := p.SignIn(t, address, "ada")
	if back.Get("state") != "the state" {
		t.Error(back)
	}
	return flow, back
}

func want(t *testing.T, err error, code fault.Code, key string) {
	t.Helper()
	if !fault.HasKey(err, key) || fault.Of(err).Code != code {
		t.Errorf("%v, not %s", err, key)
	}
}

func TestWhoComesBackFromAProviderIsKnown(t *testing.T) {
	t.Parallel()
	p := openidtest.New(t)
	house := known(t, p)
	flow, back := answer(t, p, house)
	who, err := house.Finish(t.Context(), flow, back)
	if err != nil || who.Issuer != p.URL || who.Subject != "a-1" || who.Email != "ada@example.org" || who.Name != "Ada Lovelace" || who.Username != "ada" || !slices.Equal(who.Groups, []string{"staff", "engineers"}) {
		t.Fatal(who, err)
	}
	// An answer is good once, and for the flow that it belongs to.
	_, err = house.Finish(t.Context(), flow, back)
	want(t, err, fault.Unauthenticated, "openid.said")
	_, back = answer(t, p, house)
	_, err = house.Finish(t.Context(), flow, back)
	want(t, err, fault.Unauthenticated, "openid.said") // PKCE: the code was asked for with another verifier
	_, err = house.Finish(t.Context(), flow, url.Values{"error": {"access_denied<b>"}})
	want(t, err, fault.Unauthenticated, "openid.said")
	if said := fault.Of(err).Args["said"]; said != "access_deniedb" {
		t.Error(said)
	}
	_, err = house.Finish(t.Context(), flow, url.Values{"code": {"made up"}, "iss": {"https://elsewhere.example"}})
	want(t, err, fault.Unauthenticated, "openid.issuer")
	_, err = house.Finish(t.Context(), flow, url.Values{})
	want(t, err, fault.Unauthenticated, "openid.no_token")

	// What is not verified is said so; a claim can lie deeper.
	p.Set(openidtest.User{ID: "a-1", Username: "ada", Name: "Ada", Email: "ada@example.org"})
	p.Forge(func(token *openidtest.Token) {
		token.Claims["realm_access"] = map[string]any{"roles": []any{"deep", 7, "deep"}}
	})
	flow, back = answer(t, p, house)
	house.Groups = "realm_access.roles"
	if who, err = house.Finish(t.Context(), flow, back); err != nil || who.Email != "" || who.Unverified != "ada@example.org" || !slices.Equal(who.Groups, []string{"deep"}) {
		t.Error(who, err)
	}
}

func TestForgedAndStaleAnswersAreRefusedWithAReason(t *testing.T) {
	t.Parallel()
	p := openidtest.New(t)
	house := known(t, p)
	claim := func(name string, value any) func(*openidtest.Token) {
		return func(token *openidtest.Token) { token.Claims[name] = value }
	}
	for name, c := range map[string]struct {
		key   string
		forge func(*openidtest.Token)
	}{
		"another issuer":   {"openid.issuer", claim("iss", "https://elsewhere.example")},
		"another audience": {"openid.audience", claim("aud", "somebody else")},
		"a second audience": {"openid.audience", func(token *openidtest.Token) {
			token.Claims["aud"] = []string{openidtest.ClientID, "x"}
			delete(token.Claims, "azp")
		}},
		"another party":            {"openid.audience", claim("azp", "somebody else")},
		"another sign-in's nonce":  {"openid.nonce", claim("nonce", "of before")},
		"no nonce":                 {"openid.nonce", func(token *openidtest.Token) { delete(token.Claims, "nonce") }},
		"over":                     {"openid.expired", claim("exp", time.Now().Add(-time.Minute).Unix())},
		"not yet":                  {"openid.signature", claim("nbf", time.Now().Add(time.Hour).Unix())},
		"alg none":                 {"openid.signature", func(token *openidtest.Token) { token.Unsigned = true }},
		"a stranger's key":         {"openid.signature", func(token *openidtest.Token) { token.Stranger = true }},
		"the secret as a key":      {"openid.signature", func(token *openidtest.Token) { token.Secret = true }},
		"of another access token":  {"openid.signature", claim("at_hash", "AAAAAAAAAAAAAAAAAAAAAA")},
		"nobody":                   {"openid.subject", claim("sub", "")},
		"a name that is too long":  {"openid.subject", claim("sub", string(make([]byte, 300)))},
		"no token":                 {"openid.no_token", func(token *openidtest.Token) { delete(token.Answer, "id_token") }},
		"no token at all":          {"openid.signature", func(token *openidtest.Token) { token.Answer["id_token"] = "a.b" }},
		"a stranger's information": {"openid.subject", nil},
	} {
		t.Run(name, func(t *testing.T) {
			p.Forge(c.forge)
			p.Inform(nil)
			if c.forge == nil {
				p.Inform(func(said map[string]any) { said["sub"] = "b-2" })
			}
			flow, back := answer(t, p, house)
			who, err := house.Finish(t.Context(), flow, back)
			want(t, err, fault.Unauthenticated, c.key)
			if who.Subject != "" {
				t.Error(who)
			}
		})
	}
}

func TestAProviderThatIsAwayOrAnotherIsNamed(t *testing.T) {
	t.Parallel()
	gone := httptest.NewServer(http.NotFoundHandler())
	gone.Close()
	liar := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte(`{"issuer": "https://elsewhere.example"}`))
	}))
	defer liar.Close()
	open := httptest.NewServer(nil)
	defer open.Close()
	open.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte(`{"issuer": "` + open.URL + `", "authorization_endpoint": "http://elsewhere.example/", "token_endpoint": "https://elsewhere.example/", "jwks_uri": "https://elsewhere.example/"}`))
	})
	for issuer, key := range map[string]string{gone.URL: "openid.away", liar.URL: "openid.other_issuer", open.URL: "openid.away"} {
		p, err := openid.New(openid.Config{Name: "office", Issuer: issuer, ClientID: "x"})
		if err != nil {
			t.Fatal(err)
		}
		want(t, p.Check(t.Context()), fault.Unavailable, key)
		_, err = p.Address(t.Context(), openid.NewFlow(redirect), "")
		want(t, err, fault.Unavailable, key)
	}
	for _, c := range []openid.Config{{Issuer: "http://elsewhere.example", ClientID: "x"}, {Issuer: "https://", ClientID: "x"}, {Issuer: "https://a.example?b", ClientID: "x"}, {Issuer: "https://a.example"},
		{Issuer: "https://a.example", ClientID: "x", Scopes: []string{"a b"}}} {
		if _, err := openid.New(c); !fault.HasKey(err, "openid.config") {
			t.Errorf("%+v: %v", c, err)
		}
	}
	// One that was there, and is away for a while, is remembered.
	p := openidtest.New(t)
	house := known(t, p)
	if _, err := house.Address(t.Context(), openid.NewFlow(redirect), "x"); err != nil {
		t.Fatal(err)
	}
	p.Close()
	if _, err := house.Address(t.Context(), openid.NewFlow(redirect), "x"); err != nil {
		t.Error(err)
	}
	want(t, house.Check(t.Context()), fault.Unavailable, "openid.away")
}
