package config

import (
	"net"
	"net/netip"
	"net/url"
	"strings"

	"golang.org/x/net/idna"

	"howdah/internal/fault"
)

// PublicURL is how people reach the house: a scheme, a host and perhaps a port, as browsers write them ("https://chat.example.org"); "" where nobody has said. Pages are compared with it letter by
// letter, so another writing of the same - capitals, other scripts than Latin, a port that goes without saying - is made this one.
type PublicURL string

// hostNames writes names as they are looked up: in small letters, and other scripts as the WHATWG's URL standard has it, which browsers go by (https://url.spec.whatwg.org/#concept-domain-to-ascii).
var hostNames = idna.New(idna.MapForLookup(), idna.Transitional(false), idna.StrictDomainName(false))

// UnmarshalText implements encoding.TextUnmarshaler.
func (p *PublicURL) UnmarshalText(text []byte) error {
	said := strings.TrimSpace(string(text))
	if *p = ""; said == "" {
		return nil
	}
	bad := func(err error) error {
		return fault.Wrap(err, fault.Invalid, "config.public_url", fault.Args{"value": said})
	}
	u, err := url.Parse(said)
	if err != nil {
		return bad(err)
	}
	port := u.Port()
	if u.Scheme != "http" && u.Scheme != "https" || u.User != nil || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "" {
		return bad(nil)
	}
	host := u.Hostname()
	if ip, err := netip.ParseAddr(host); err == nil && ip.Zone() != "" { // known to one machine alone
		return bad(nil)
	} else if err != nil {
		if host, err = hostNames.ToASCII(host); err != nil {
			return bad(err)
		}
		if again, err := hostNames.ToASCII(host); err != nil || again != host { // no letters at all
			return bad(err)
		}
		// What is no ASCII may stand for what divides an address.
		if again, err := url.Parse("//" + host); err != nil || host == "" || again.Host != host {
			return bad(err)
		}
	}
	switch {
	case port != "" && port != map[string]string{"http": "80", "https": "443"}[u.Scheme]:
		host = net.JoinHostPort(host, port)
	case strings.Contains(host, ":"):
		host = "[" + host + "]"
	}
	*p = PublicURL(u.Scheme + "://" + host)
	return nil
}
