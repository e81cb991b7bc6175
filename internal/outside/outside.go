// Package outside speaks to addresses that somebody else has named: a webhook's, a link's. A program that fetches whatever address it is told can be made to speak to
// what only it can reach - the machine it runs on, its neighbours, a cloud's metadata - so what is connected to is judged when the connection is made, after
// names have been looked up: an address that was good when it was checked may be another one a moment later.
package outside

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"syscall"
	"time"

	"howdah/internal/fault"
)

// Limits of one exchange. The zero value of each is its default.
type Limits struct {
	Time    time.Duration // for all of it, with redirects and the body; 15 seconds
	Body    int64         // bytes of an answer's body that are read; 1 MiB
	Follow  int           // redirects that are followed, each judged like the first address; 0: none
	Private Allowance     // who may be spoken to all the same

	// Want, if set, says how many bytes of an answer's body are read instead of Body, once its status and header have come.
	Want func(status int, header http.Header) int64
}

// Allowance names what is private and may be spoken to all the same. The zero value allows nothing.
type Allowance struct {
	hosts    map[string]bool // as they stand in an address: "grafana.internal"; with a port, "localhost:3000", only that one
	networks []netip.Prefix
}

// ParseAllowance reads a list of hosts (host or host:port) and networks (CIDR, or one address). A host in it may have any address.
func ParseAllowance(list []string) (Allowance, error) {
	a := Allowance{hosts: map[string]bool{}}
	for _, item := range list {
		item = strings.ToLower(strings.TrimSpace(item))
		if item == "" {
			continue
		}
		if p, err := netip.ParsePrefix(item); err == nil {
			a.networks = append(a.networks, p.Masked())
			continue
		}
		if addr, err := netip.ParseAddr(strings.Trim(item, "[]")); err == nil {
			addr = addr.Unmap()
			a.networks = append(a.networks, netip.PrefixFrom(addr, addr.BitLen()))
			continue
		}
		if strings.ContainsAny(item, "/@?# \t") || strings.HasPrefix(item, ":") {
			return Allowance{}, fault.New(fault.Invalid, "outside.allowance", fault.Args{"value": item})
		}
		a.hosts[strings.TrimSuffix(item, ".")] = true
	}
	return a, nil
}

func (a Allowance) host(name, port string) bool {
	name = strings.TrimSuffix(strings.ToLower(name), ".")
	return a.hosts[name] || a.hosts[net.JoinHostPort(name, port)]
}

func (a Allowance) address(addr netip.Addr) bool {
	for _, p := range a.networks {
		if p.Contains(addr) {
			return true
		}
	}
	return false
}

// closed are the networks that are nobody's to name from outside: IANA's registries of special addresses, IPv4 and IPv6.
var closed = prefixes(
	"0.0.0.0/8",        // this network; 0.0.0.0 reaches the machine itself
	"10.0.0.0/8",       // private
	"100.64.0.0/10",    // shared by carriers (RFC 6598); some clouds keep their metadata here
	"127.0.0.0/8",      // loopback
	"169.254.0.0/16",   // link-local, with the metadata of most clouds
	"172.16.0.0/12",    // private
	"192.0.0.0/24",     // protocol assignments
	"192.0.2.0/24",     // documentation
	"192.88.99.0/24",   // 6to4 relays
	"192.168.0.0/16",   // private
	"198.18.0.0/15",    // benchmarks
	"198.51.100.0/24",  // documentation
	"203.0.113.0/24",   // documentation
	"224.0.0.0/4",      // multicast
	"240.0.0.0/4",      // reserved, and broadcast
	"168.63.129.16/32", // Azure's own services, which stand in a public network
)

// global is where public IPv6 addresses are; all else is loopback, link-local, unique local, multicast, mapped or translated.
var (
	global = netip.MustParsePrefix("2000::/3")
	nat64  = netip.MustParsePrefix("64:ff9b::/96") // RFC 6052: an IPv4 address in its last four bytes
	sixto4 = netip.MustParsePrefix("2002::/16")    // RFC 3056: an IPv4 address in bytes 2 to 5
	inside = prefixes(
		"2001::/23",     // protocol assignments: Teredo, ORCHID and others
		"2001:db8::/32", // documentation
		"3fff::/20",     // documentation
	)
)

func prefixes(texts ...string) []netip.Prefix {
	all := make([]netip.Prefix, len(texts))
	for i, text := range texts {
		all[i] = netip.MustParsePrefix(text)
	}
	return all
}

// Public tells whether an address is one that everybody on the internet may be named by. Forms of IPv6 that stand for an IPv4 address are judged as that.
func Public(addr netip.Addr) bool {
	if addr.Zone() != "" {
		return false
	}
	addr = addr.Unmap()
	if addr.Is4() {
		for _, p := range closed {
			if p.Contains(addr) {
				return false
			}
		}
		return addr.IsValid()
	}
	b := addr.As16()
	switch {
	case !addr.IsValid():
		return false
	case nat64.Contains(addr):
		return Public(netip.AddrFrom4([4]byte(b[12:16])))
	case sixto4.Contains(addr):
		return Public(netip.AddrFrom4([4]byte(b[2:6])))
	case !global.Contains(addr):
		return false
	}
	for _, p := range inside {
		if p.Contains(addr) {
			return false
		}
	}
	return true
}

// Client makes requests to addresses that somebody else has named. It keeps no cookies, takes no proxy from the environment, and never connects to an address that is not
// Public, unless the allowance names it. It is safe for concurrent use.
type Client struct {
	http   http.Client
	limits Limits
}

// ports below 1024 that are spoken to: those of HTTP. What else listens there - mail, shells, directories - may take a request for something that it was not meant to be.
var ports = map[uint16]bool{80: true, 81: true, 88: true, 443: true, 591: true}

// portError is what a connection to another of them fails with.
type portError struct{ port uint16 }

func (e *portError) Error() string { return fmt.Sprintf("port %d is not one of HTTP", e.port) }

// privateError is what a connection that is refused fails with.
type privateError struct{ addr netip.Addr }

func (e *privateError) Error() string { return fmt.Sprintf("%s is not a public address", e.addr) }

// New makes a client.
func New(l Limits) *Client {
	if l.Time == 0 {
		l.Time = 15 * time.Second
	}
	if l.Body == 0 {
		l.Body = 1 << 20
	}
	c := &Client{limits: l}
	guarded := &net.Dialer{Timeout: 5 * time.Second, KeepAlive: -1, Control: func(_, address string, _ syscall.RawConn) error {
		return judge(l.Private, address)
	}}
	open := &net.Dialer{Timeout: 5 * time.Second, KeepAlive: -1}
	c.http.Transport = &http.Transport{
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			dialer := guarded
			if host, port, err := net.SplitHostPort(address); err == nil && l.Private.host(host, port) {
				dialer = open
			}
			return dialer.DialContext(ctx, network, address)
		},
		ForceAttemptHTTP2:      true,
		TLSHandshakeTimeout:    5 * time.Second,
		ResponseHeaderTimeout:  l.Time,
		MaxResponseHeaderBytes: 64 << 10,
		MaxIdleConns:           20,
		MaxIdleConnsPerHost:    1,
		IdleConnTimeout:        10 * time.Second,
	}
	c.http.Timeout = l.Time
	c.http.CheckRedirect = func(next *http.Request, via []*http.Request) error {
		// A request that was meant for one address is not carried to another one.
		if first := via[0].Method; len(via) > l.Follow || first != http.MethodGet && first != http.MethodHead {
			return http.ErrUseLastResponse
		}
		return CheckURL(next.URL)
	}
	return c
}

// judge refuses an address that is about to be connected to.
func judge(allowed Allowance, address string) error {
	at, err := netip.ParseAddrPort(address)
	if err != nil {
		return err
	}
	addr := at.Addr().Unmap()
	switch {
	case allowed.address(addr):
		return nil
	case !Public(at.Addr()):
		return &privateError{addr}
	case at.Port() < 1024 && !ports[at.Port()]:
		return &portError{at.Port()}
	}
	return nil
}

// CheckURL refuses an address that no client of this package would ask: of another scheme, without a host, or with a password in it.
func CheckURL(u *url.URL) error {
	if u.Scheme != "https" && u.Scheme != "http" || u.Hostname() == "" || u.User != nil || u.Opaque != "" {
		return fault.New(fault.Invalid, "outside.url")
	}
	return nil
}

// Answer is what came back.
type Answer struct {
	Status int
	URL    *url.URL // what answered, after redirects
	Header http.Header
	Body   []byte // at most Limits.Body bytes, or what Limits.Want wanted
	More   bool   // there was, or may have been, more than that
}

// Do sends a request and reads the answer within the limits. An error is a fault: Invalid for an address that cannot be asked, Forbidden (outside.private) for one that may not,
// Unavailable when nobody answers.
func (c *Client) Do(r *http.Request) (Answer, error) {
	if err := CheckURL(r.URL); err != nil {
		return Answer{}, err
	}
	ctx, cancel := context.WithTimeout(r.Context(), c.limits.Time)
	defer cancel()
	response, err := c.http.Do(r.WithContext(ctx))
	if err != nil {
		return Answer{}, c.fault(err, r.URL)
	}
	defer response.Body.Close()
	a := Answer{Status: response.StatusCode, URL: response.Request.URL, Header: response.Header}
	limit := c.limits.Body
	if c.limits.Want != nil {
		if limit = c.limits.Want(a.Status, a.Header); limit <= 0 {
			a.More = true
			return a, nil
		}
	}
	a.Body, err = io.ReadAll(io.LimitReader(response.Body, limit+1))
	if int64(len(a.Body)) > limit {
		a.Body, a.More = a.Body[:limit], true
	}
	if err != nil {
		return a, c.fault(err, r.URL)
	}
	return a, nil
}

// Close drops connections that wait to be used again.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// fault says why nobody answered; of the address, which may hold a secret, it names the host only.
func (c *Client) fault(err error, u *url.URL) error {
	where := u.Scheme + "://" + u.Host
	var known *fault.Fault
	if errors.As(err, &known) {
		return known
	}
	var private *privateError
	if errors.As(err, &private) {
		return fault.New(fault.Forbidden, "outside.private", fault.Args{"where": where, "address": private.addr.String()})
	}
	var port *portError
	if errors.As(err, &port) {
		return fault.New(fault.Forbidden, "outside.port", fault.Args{"where": where, "port": int(port.port)})
	}
	var withURL *url.Error
	if errors.As(err, &withURL) {
		err = withURL.Err
	}
	var slow net.Error
	if errors.Is(err, context.DeadlineExceeded) || errors.As(err, &slow) && slow.Timeout() {
		return fault.New(fault.Unavailable, "outside.silent", fault.Args{"where": where, "seconds": int(c.limits.Time.Seconds())})
	}
	return fault.New(fault.Unavailable, "outside.unreachable", fault.Args{"where": where, "why": err.Error()})
}
