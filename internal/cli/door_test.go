package cli

import (
	"testing"

	"howdah/internal/config"
	"howdah/internal/fault"
)

func TestNoCertificateIsAskedForWhereNobodyCanCome(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		listen, public string
		refused        bool
	}{
		{"localhost:8432", "", true},
		{"127.0.0.1:443", "", true},
		{"[::1]:443", "", true},
		{"localhost:8432", "https://chat.example.org", false}, // something passes connections on
		{":443", "", false},
		{"192.0.2.7:443", "", false},
		{"chat.example.org:443", "", false},
	} {
		var o upOptions
		o.Listen, o.PublicURL, o.TLSAuto = c.listen, config.PublicURL(c.public), []string{"chat.example.org"}
		if _, err := o.tls(); fault.HasKey(err, "server.tls_here") != c.refused || !c.refused && err != nil {
			t.Errorf("%s %s: %v", c.listen, c.public, err)
		}
	}
}
