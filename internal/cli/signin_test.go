package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/alecthomas/kong"

	"howdah/internal/account"
	"howdah/internal/config"
	"howdah/internal/fault"
)

func readProviders(t *testing.T, file string) ([]account.Provider, error) {
	t.Helper()
	resolver, err := config.Load(strings.NewReader(file))
	if err != nil {
		t.Fatal(err)
	}
	var options struct{ config.Providers }
	parser, err := kong.New(&options, kong.Resolvers(resolver), kong.Exit(func(int) {}))
	if err == nil {
		_, err = parser.Parse(nil)
	}
	if err != nil {
		return nil, err
	}
	return providers(options.SignIn)
}

func TestProvidersAreReadFromTheConfiguration(t *testing.T) {
	t.Parallel()
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("s3cret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	all, err := readProviders(t, `
[[sign-in]]
name = "office"
issuer = "https://id.example.org/realms/office"
client-id = "howdah"
client-secret-file = '`+secret+`'
button = "Example"
scopes = ["profile", "email", "groups"]
groups = "groups"
role = "guest"
new = true
domains = ["@example.org"]
[sign-in.roles]
chiefs = "admin"

[[sign-in]]
issuer = "https://accounts.example.com"
client-id = "x"
`)
	if err != nil || len(all) != 2 {
		t.Fatal(all, err)
	}
	one := all[0]
	if one.Name != "office" || one.Label != "Example" || one.Secret != "s3cret" || one.Groups != "groups" || one.Roles["chiefs"] != account.Admin || one.Role != account.Guest || !one.New || one.Domains[0] != "example.org" || len(one.Scopes) != 3 {
		t.Errorf("%+v %+v", one, one.Config)
	}
	if all[1].Name != "openid" || all[1].Label != "accounts.example.com" || all[1].New {
		t.Errorf("%+v", all[1].Config)
	}
	const good = "[[sign-in]]\nissuer = 'https://id.example.org'\nclient-id = 'x'\n"
	for text, key := range map[string]string{
		"sign-in = 3": "config.table_form",
		"[sign-in]\nissuer = 'https://id.example.org'":                   "config.table_form",
		good + "isuer = 'x'":                                             "config.table_key",
		good + "client-secret = 'x'":                                     "config.table_key",
		good + "name = 'A b'":                                            "config.table_value",
		good + "new = 'yes'":                                             "config.table_value",
		good + "role = 'owner'":                                          "config.table_value",
		good + "groups = 'groups'":                                       "config.table_value",
		good + "groups = 'g'\nroles = { a = 'owner' }":                   "config.table_value",
		good + "domains = ['a@b']":                                       "config.table_value",
		good + "client-secret-file = '/nowhere'":                         "config.secret_file",
		good + good:                                                      "openid.twice",
		"[[sign-in]]\nissuer = 'http://id.example.org'\nclient-id = 'x'": "config.table_value",
		"[[sign-in]]\nissuer = 'https://id.example.org'":                 "config.table_value",
	} {
		if _, err := readProviders(t, text); !fault.HasKey(err, key) {
			t.Errorf("%s\n%v, not %s", text, err, key)
		}
	}
}

func TestOneMailServerServesTheHouseAndItsAlerts(t *testing.T) {
	t.Parallel()
	read := func(file string) (config.Tables, config.Tables) {
		t.Helper()
		resolver, err := config.Load(strings.NewReader(file))
		if err != nil {
			t.Fatal(err)
		}
		var options struct {
			config.Letters
			config.Alerts
		}
		parser, err := kong.New(&options, kong.Resolvers(resolver), kong.Exit(func(int) {}))
		if err == nil {
			_, err = parser.Parse(nil)
		}
		if err != nil {
			t.Fatal(err)
		}
		return options.Mail, options.Alert
	}
	const both = "[[alert]]\nkind = 'mail'\nto = 'ann@example.org'\n[[alert]]\nname = 'other'\nkind = 'mail'\nserver = 'mail.example.com'\nto = ['bob@example.org']\n[mail]\nserver = 'mail.example.org:2525'\ntls = 'none'\nfrom = 'h@example.org'\n"
	post, alerts := read(both)
	s, err := mailServer(post)
	if err != nil || s.Address != "mail.example.org:2525" || s.Timeout == 0 {
		t.Fatal(s, err)
	}
	all, err := receivers(alerts, post)
	if err != nil || all[0].Server != s.Address || all[0].TLS != "none" || all[0].From != "h@example.org" || all[1].Server != "mail.example.com" || all[1].TLS != "starttls" || all[1].From != "h@example.org" {
		t.Errorf("%+v %v", all, err)
	}
	for text, key := range map[string]string{
		"[mail]\nserver = 'x'": "config.table_value", "[mail]\nserver = 'x'\nfrom = 'h@example.org'\nuser = 'h'": "config.table_value", "[mail]\nserver = 'x'\nfrom = 'h@example.org'\nfromm = 'h'": "config.table_key",
		"[mail]\nserver = 'x'\nfrom = 'h@example.org'\npassword-file = '/nowhere'": "config.secret_file",
	} {
		post, _ := read(text)
		if _, err := mailServer(post); !fault.HasKey(err, key) {
			t.Errorf("%s\n%v, not %s", text, err, key)
		}
	}
}
