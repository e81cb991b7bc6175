package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"howdah/internal/openid/openidtest"
)

// atProvider signs in there.
func (w *window) atProvider(p *openidtest.Provider, username string) {
	w.t.Helper()
	w.wait("the provider", `location.href.startsWith(`+quote(p.URL+"/login")+`) && document.readyState === "complete"`)
	w.fill("[name=username]", username)
	w.fill("[name=password]", openidtest.Password)
	w.press("\r")
}

func TestSigningInWithAnAccountElsewhere(t *testing.T) {
	p := openidtest.New(t)
	h := disasterWith(t, p)
	p.Allow(h.url + "/sign-in/with/office/back")
	p.Set(openidtest.User{ID: "1", Username: "wei", Name: "林小薇", Email: "wei@example.org", Verified: true, Groups: []string{"chiefs"}})
	p.Set(openidtest.User{ID: "2", Username: "ada", Name: "Ada", Email: "ada@example.org", Verified: true, Groups: []string{"staff"}})
	p.Set(openidtest.User{ID: "3", Username: "eve", Name: "Eve", Email: "eve@example.org", Verified: true})

	// A newcomer, in Chinese on a phone, is led to where they wanted.
	w := h.open(t, nil, look{language: "zh-TW", phone: true})
	w.visit("/people")
	w.at("/sign-in?next=")
	w.wait("the button", `document.querySelector(".providers a")?.innerText === "使用 Example 繼續"`)
	w.accessible("the sign-in page with a provider")
	w.click(".providers a")
	w.atProvider(p, "wei")
	w.at("/people")
	w.wait("an admin", `document.querySelector("form[action='/people/invites']") && document.body.innerText.includes("林小薇")`)
	if role := h.role(t, "wei"); role != "admin" {
		t.Error(role)
	}

	// Somebody who lives here connects their account: they have signed in just now, so no password is asked for.
	ada := h.person(t, "Ada")
	a := h.open(t, ada, look{})
	a.visit("/me/security")
	a.click(`form[action="/me/security/providers/office"] button`)
	a.atProvider(p, "ada")
	a.at("/me/security?done=connected")
	a.wait("the account", `document.querySelector("form[action^='/me/security/connections/']") && /Example/.test(document.body.innerText)`)
	a.accessible("connected accounts")

	// Elsewhere she comes in with it; the answer is good once, and in no other browser.
	b := h.open(t, nil, look{})
	b.expect("status of 40[13]")
	b.visit("/sign-in?next=/me")
	b.click(".providers a")
	b.atProvider(p, "eve")
	b.wait("a refusal with its reason", `/in none of the groups/.test(document.querySelector("[role=alert]")?.innerText)`)
	b.accessible("a refused sign-in")
	b.click(".providers a")
	b.atProvider(p, "ada")
	b.at("/me")
	b.wait("Ada", `document.body.innerText.includes(`+quote(ada.Handle)+`)`)
	b.visit("/sign-in/with/office/back?code=x&state=y")
	b.wait("a refusal", `/took too long|was done already/.test(document.querySelector("[role=alert]")?.innerText)`)

	// Whoever runs the house is told when the provider is away.
	p.Close()
	if said := h.tried(t, "doctor", "sign-in"); !strings.Contains(said, "Example") || !strings.Contains(said, p.URL) {
		t.Error(said)
	}
}

// disasterWith begins a story in a house of its own, whose people may sign in with a provider.
func disasterWith(t *testing.T, p *openidtest.Provider) *house {
	t.Helper()
	secret := filepath.Join(stage.dir, "provider.secret")
	if err := os.WriteFile(secret, []byte(openidtest.Secret), 0o600); err != nil {
		t.Fatal(err)
	}
	return disaster(t, "[[sign-in]]", `name = "office"`, `button = "Example"`, fmt.Sprintf("issuer = %q", p.URL), fmt.Sprintf("client-id = %q", openidtest.ClientID), fmt.Sprintf("client-secret-file = %q", secret),
		"new = true", `domains = ["example.org"]`, `groups = "groups"`, `roles = { chiefs = "admin", staff = "member" }`)
}

// tried is what another command of howdah says of the same house, whatever it ends with.
func (h *house) tried(t *testing.T, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), stage.binary, append(args, "--data", h.data, "--lang", "en")...)
	cmd.Dir, cmd.Env = h.dir, h.cmd.Env
	out, _ := cmd.CombinedOutput()
	return string(out)
}

func (h *house) role(t *testing.T, handle string) (role string) {
	t.Helper()
	if err := h.db.QueryRow(t.Context(), `SELECT role FROM account.person WHERE handle = $1`, handle).Scan(&role); err != nil {
		t.Fatal(err)
	}
	return role
}
