package web

import (
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"howdah/internal/fault"
)

// ParseProxies reads networks and addresses (192.0.2.0/24, ::1); "none" is an empty list.
func ParseProxies(texts []string) ([]netip.Prefix, error) {
	proxies := []netip.Prefix{}
	for _, text := range texts {
		text = strings.TrimSpace(text)
		if text == "none" && len(texts) == 1 {
			break
		}
		prefix, err := netip.ParsePrefix(text)
		if address, addressErr := netip.ParseAddr(text); addressErr == nil {
			prefix, err = netip.PrefixFrom(address, address.BitLen()), nil
		}
		if err != nil {
			return nil, fault.Wrap(err, fault.Invalid, "web.proxy", fault.Args{"value": text})
		}
		proxies = append(proxies, prefix.Masked())
	}
	return proxies, nil
}

// hop is what one proxy says of whoever came to it.
type hop struct {
	client      netip.Addr // the zero one: it does not say
	proto, host string
}

const (
	forwardedHost  = "X-Forwarded-Host"
	forwardedProto = "X-Forwarded-Proto"
)

// forwarded puts into a request what a proxy of ours says of it: RemoteAddr and Host are then those of the person, and X-Forwarded-Proto and -Host are left only where they can be
// believed. From anybody else none of it is: whoever guesses at passwords would invent an address for each guess.
func (d *Door) forwarded(r *http.Request) {
	h := r.Header
	simple, standard := h["X-Forwarded-For"], h["Forwarded"]
	if simple == nil && standard == nil && h[forwardedProto] == nil && h[forwardedHost] == nil {
		return
	}
	proto, host := h.Values(forwardedProto), h.Values(forwardedHost)
	for _, name := range []string{"X-Forwarded-For", "Forwarded", forwardedProto, forwardedHost} {
		h.Del(name)
	}
	peer := addressOf(r.RemoteAddr)
	if !d.ours(peer) {
		return
	}
	told := d.outermost(peer, simpleHops(simple, proto, host))
	if standard != nil {
		other := d.outermost(peer, standardHops(standard))
		switch {
		case simple == nil:
			told = other
		case other.client != told.client: // one of them is not the proxy's: it passed on what somebody has invented
			return
		}
	}
	if told.client.IsValid() {
		r.RemoteAddr = net.JoinHostPort(told.client.String(), "0")
	}
	if told.host != "" {
		if u, err := url.Parse("//" + told.host); err == nil && u.Host == told.host && u.Hostname() != "" {
			r.Host = told.host
			h.Set(forwardedHost, told.host)
		}
	}
	if proto := strings.ToLower(told.proto); proto == "https" || proto == "http" {
		h.Set(forwardedProto, proto)
	}
}

func (d *Door) ours(address netip.Addr) bool {
	return slices.ContainsFunc(d.options.Proxies, func(p netip.Prefix) bool { return p.Contains(address) })
}

// outermost walks from us to the person, as long as it is proxies of ours that speak. What the first stranger said, anybody may have written.
func (d *Door) outermost(peer netip.Addr, hops []hop) (told hop) {
	for i := len(hops) - 1; i >= 0 && d.ours(peer); i-- {
		told = hops[i]
		if peer = told.client; !peer.IsValid() && i < len(hops)-1 {
			told.client = hops[i+1].client // that is how far it is known
		}
	}
	return told
}

// simpleHops are what X-Forwarded-For and its like say: lists, each proxy at the end of them, or for protocol and host often only one of the proxies.
func simpleHops(clients, protos, hosts []string) []hop {
	addresses, proto, host := split(clients), split(protos), split(hosts)
	if len(addresses) == 0 {
		addresses = []string{""}
	}
	at := func(list []string, i int) string {
		switch len(list) {
		case 0:
			return ""
		case len(addresses):
			return list[i]
		}
		return list[len(list)-1]
	}
	hops := make([]hop, len(addresses))
	for i, address := range addresses {
		hops[i] = hop{addressOf(address), at(proto, i), at(host, i)}
	}
	return hops
}

func split(values []string) (all []string) {
	for _, value := range values {
		for one := range strings.SplitSeq(value, ",") {
			all = append(all, strings.TrimSpace(one))
		}
	}
	return all
}

// standardHops are what Forwarded says (RFC 7239, section 4); nil where it cannot be read.
func standardHops(values []string) (hops []hop) {
	rest := strings.Join(values, ",")
	one := hop{}
	for {
		name, after, ok := strings.Cut(strings.TrimLeft(rest, " \t"), "=")
		if !ok || name == "" || strings.ContainsAny(name, " \t\",;") {
			return nil
		}
		var value string
		if quoted, isQuoted := strings.CutPrefix(after, `"`); isQuoted {
			var text strings.Builder
			end := -1
			for i := 0; i < len(quoted); i++ {
				if quoted[i] == '"' {
					end = i
					break
				}
				if quoted[i] == '\\' && i+1 < len(quoted) {
					i++
				}
				text.WriteByte(quoted[i])
			}
			if end < 0 {
				return nil
			}
			value, rest = text.String(), quoted[end+1:]
		} else {
			end := strings.IndexAny(after, ",; \t")
			if end < 0 {
				end = len(after)
			}
			value, rest = after[:end], after[end:]
		}
		switch strings.ToLower(name) {
		case "for":
			one.client = addressOf(value)
		case "proto":
			one.proto = value
		case "host":
			one.host = value
		}
		rest = strings.TrimLeft(rest, " \t")
		switch {
		case rest == "":
			return append(hops, one)
		case rest[0] == ',':
			hops, one = append(hops, one), hop{}
		case rest[0] != ';':
			return nil
		}
		rest = rest[1:]
	}
}

// addressOf reads an address, with or without a port; the zero one where there is none.
func addressOf(text string) netip.Addr {
	if with, err := netip.ParseAddrPort(text); err == nil {
		return with.Addr().Unmap().WithZone("")
	}
	address, _ := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(text, "["), "]"))
	return address.Unmap().WithZone("")
}

// secure tells whether a request came over TLS, to us or to a proxy of ours.
func (d *Door) secure(r *http.Request) bool {
	return d.options.Secure || r.TLS != nil || r.Header.Get(forwardedProto) == "https"
}

// base is how the person who asks reaches the house, for links that they send to others: as it was said by whoever runs it, or else by the proxy.
func (d *Door) base(r *http.Request) string {
	host := r.Header.Get(forwardedHost)
	if host == "" || d.options.Named {
		return d.options.PublicURL
	}
	if d.secure(r) {
		return "https://" + host
	}
	return "http://" + host
}
