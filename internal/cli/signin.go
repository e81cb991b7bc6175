package cli

import (
	"errors"
	"regexp"
	"slices"
	"strings"

	"howdah/internal/account"
	"howdah/internal/config"
	"howdah/internal/fault"
	"howdah/internal/mail"
	"howdah/internal/openid"
)

// signInKeys are what a [[sign-in]] may hold.
var signInKeys = []string{"name", "issuer", "client-id", "client-secret-env", "client-secret-file", "button", "scopes", "groups", "roles", "role", "new", "domains"}

var providerName = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,31}$`)

// providers are those that the configuration names. What they keep secret is read as whoever starts us, before root is given up.
func providers(tables config.Tables) ([]account.Provider, error) {
	var all []account.Provider
	for i := range tables {
		p, err := provider(&tables[i])
		if err != nil {
			return nil, err
		}
		if slices.ContainsFunc(all, func(other account.Provider) bool { return other.Name == p.Name || other.Issuer == p.Issuer }) {
			return nil, fault.New(fault.Invalid, "openid.twice", tables[i].At("name"))
		}
		all = append(all, p)
	}
	return all, nil
}

// mailServer is the one that the configuration names; nil where it names none.
func mailServer(tables config.Tables) (*mail.Server, error) {
	if len(tables) == 0 {
		return nil, nil
	}
	t := &tables[0]
	if err := t.Known([]string{"server", "tls", "user", "password-env", "password-file", "from", "timeout"}); err != nil {
		return nil, err
	}
	var s mail.Server
	var errs [6]error
	s.Address, errs[0] = t.Text("server")
	s.TLS, errs[1] = t.Text("tls")
	s.User, errs[2] = t.Text("user")
	s.Password, errs[3] = t.Secret("password")
	s.From, errs[4] = t.Text("from")
	s.Timeout, errs[5] = t.Time("timeout")
	if err := errors.Join(errs[:]...); err != nil {
		return nil, fault.Of(err)
	}
	if key := s.Check(); key != "" {
		return nil, t.Wrong(key)
	}
	return &s, nil
}

func provider(t *config.Table) (account.Provider, error) {
	var p account.Provider
	if err := t.Known(signInKeys); err != nil {
		return p, err
	}
	var wrong error
	text := func(key string) string {
		value, err := t.Text(key)
		wrong = errors.Join(wrong, err)
		return value
	}
	texts := func(key string) []string {
		value, err := t.Texts(key)
		wrong = errors.Join(wrong, err)
		return value
	}
	c := openid.Config{Name: text("name"), Label: text("button"), Issuer: text("issuer"), ClientID: text("client-id"), Scopes: texts("scopes"), Groups: text("groups")}
	if c.Name == "" {
		c.Name = "openid"
	}
	var err error
	c.Secret, err = t.Secret("client-secret")
	wrong = errors.Join(wrong, err)
	p.New, err = t.Yes("new")
	wrong = errors.Join(wrong, err)
	roles, err := t.Pairs("roles")
	wrong = errors.Join(wrong, err)
	p.Role, p.Domains = account.Role(text("role")), texts("domains")
	if wrong != nil {
		return p, fault.Of(wrong) // the first
	}
	given := func(role account.Role) bool { return role.Valid() && role != account.Owner } // an owner is made in the house
	switch {
	case !providerName.MatchString(c.Name):
		return p, t.Wrong("name")
	case len(c.Label) > 64:
		return p, t.Wrong("button")
	case p.Role != account.None && !given(p.Role):
		return p, t.Wrong("role")
	case (c.Groups == "") != (len(roles) == 0):
		return p, t.Wrong("groups")
	}
	for group, role := range roles {
		if !given(account.Role(role)) {
			return p, t.Wrong("roles")
		}
		if p.Roles == nil {
			p.Roles = map[string]account.Role{}
		}
		p.Roles[group] = account.Role(role)
	}
	for i, domain := range p.Domains {
		if p.Domains[i] = strings.TrimPrefix(strings.TrimSpace(domain), "@"); p.Domains[i] == "" || strings.ContainsAny(p.Domains[i], "@ /") {
			return p, t.Wrong("domains")
		}
	}
	p.Provider, err = openid.New(c)
	if f := fault.Of(err); f != nil && f.Key == "openid.config" { // it knows no files
		key, _ := f.Args["key"].(string)
		return p, t.Wrong(key)
	}
	return p, err
}
