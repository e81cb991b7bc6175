package config_test

import (
	"net/url"
	"testing"

	"howdah/internal/config"
	"howdah/internal/fault"
)

func TestAPublicURLIsWrittenAsBrowsersWriteIt(t *testing.T) {
	t.Parallel()
	for said, want := range map[string]string{
		"":                              "",
		"https://chat.example.org":      "https://chat.example.org",
		" https://chat.example.org/ ":   "https://chat.example.org",
		"HTTPS://Chat.Example.ORG:443/": "https://chat.example.org",
		"http://localhost:8432":         "http://localhost:8432",
		"http://example.org:80":         "http://example.org",
		"http://example.org:443":        "http://example.org:443",
		"http://my_server:8432":         "http://my_server:8432",
		"https://聊天室.台灣":                "https://xn--rssq1de89c.xn--kpry57d",
		"https://聊天室。台灣:8443":           "https://xn--rssq1de89c.xn--kpry57d:8443",
		"https://bücher.example":        "https://xn--bcher-kva.example",
		"https://straße.example":        "https://xn--strae-oqa.example",
		"https://xn--bcher-kva.example": "https://xn--bcher-kva.example",
		"http://192.0.2.7:8432":         "http://192.0.2.7:8432",
		"http://[2001:db8::1]:8432/":    "http://[2001:db8::1]:8432",
		"https://[2001:db8::1]":         "https://[2001:db8::1]",

		"chat.example.org":            "!",
		"chat.example.org:8432":       "!",
		"ftp://chat.example.org":      "!",
		"https://":                    "!",
		"https:///":                   "!",
		"https://chat.example.org/x":  "!",
		"https://chat.example.org/?a": "!",
		"https://chat.example.org/#a": "!",
		"https://ann:b@example.org":   "!",
		"https://a b.example":         "!",
		"https://chat／example.org":    "!",
		"https://xn--0.example":       "!",
	} {
		var have config.PublicURL
		err := have.UnmarshalText([]byte(said))
		if want == "!" {
			if !fault.HasKey(err, "config.public_url") {
				t.Errorf("%q: %v, %v", said, have, err)
			}
			continue
		}
		if err != nil || string(have) != want {
			t.Errorf("%q: %q, %v, not %q", said, have, err, want)
		}
	}
}

func FuzzPublicURL(f *testing.F) {
	f.Add("https://聊天室.台灣:443/")
	f.Add("http://[::1%25eth0]:80")
	f.Fuzz(func(t *testing.T, said string) {
		var once, twice config.PublicURL
		if once.UnmarshalText([]byte(said)) != nil || once == "" {
			return
		}
		if err := twice.UnmarshalText([]byte(once)); err != nil || once != twice {
			t.Fatalf("%q: %q, %q: %v", said, once, twice, err)
		}
		if u, err := url.Parse(string(once)); err != nil || u.Host == "" || u.Path != "" {
			t.Fatalf("%q: %q", said, once)
		}
	})
}
