package cli

import (
	"net"
	"strings"

	"howdah/internal/fault"
	"howdah/internal/server"
)

// tls is how the door speaks TLS; nil: it does not. Names of files are made absolute: they are read again later.
func (c *upOptions) tls() (*server.TLS, error) {
	files, auto := c.TLSCert != "" || c.TLSKey != "", len(c.TLSAuto) > 0
	switch {
	case !files && !auto:
		if c.TLSMail != "" || c.TLSAuthority != "" || c.HTTPListen != "" && c.HTTPListen != "none" {
			return nil, fault.New(fault.Invalid, "server.tls_none")
		}
		return nil, nil
	case files && auto:
		return nil, fault.New(fault.Invalid, "server.tls_both")
	case auto && c.PublicURL == "" && loopback(c.Listen): // with a public URL, somebody leads people on
		return nil, fault.New(fault.Invalid, "server.tls_here", fault.Args{"listen": c.Listen})
	case files && (c.TLSCert == "" || c.TLSKey == ""):
		return nil, fault.New(fault.Invalid, "server.tls_half")
	}
	t := &server.TLS{Domains: c.TLSAuto, Mail: c.TLSMail, Authority: c.TLSAuthority, HTTPListen: c.HTTPListen}
	if files {
		t.CertFile, t.KeyFile = absolute(c.TLSCert), absolute(c.TLSKey)
	}
	switch {
	case c.HTTPListen == "none":
		t.HTTPListen = ""
	case c.HTTPListen == "" && auto: // one of the two ways in which the authority asks
		t.HTTPListen, t.HTTPMay = ":80", true
	}
	return t, nil
}

// loopback tells whether an address is for this machine alone.
func loopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	ip := net.ParseIP(host)
	return err == nil && (strings.EqualFold(host, "localhost") || ip != nil && ip.IsLoopback())
}

// localAddress is where the page is reached on this machine, whatever its public name is; told is that.
func (c *upOptions) localAddress(told string) string {
	i := strings.LastIndex(c.Listen, ":")
	if i < 0 || c.Listen[i+1:] == "0" {
		return told
	}
	host, port := c.Listen[:i], c.Listen[i+1:]
	if host == "" || host == "0.0.0.0" || host == "[::]" {
		host = "localhost"
	}
	scheme := "http"
	if c.TLSCert != "" || len(c.TLSAuto) > 0 {
		scheme = "https"
	}
	return scheme + "://" + host + ":" + port
}
