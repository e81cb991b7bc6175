package bench

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"howdah/internal/fault"
)

// A conn is the light end of a live socket: no allocation per frame, no JSON, a mask of zeros. The clients share the
// cores with the server; what they need is reported as its own figure.
type conn struct {
	net.Conn
	buf  []byte
	r, w int // buf[r:w] has been read from the network and not yet been taken
}

// readSize is the buffer of a client that reads much; idle ones start with less.
const (
	readSize = 16 << 10
	idleSize = 1 << 10
)

// dial opens a live socket as the owner of a token and says hello from a room.
func (h *House) dial(ctx context.Context, token string, room int64, buffer, index int) (*conn, error) {
	u, err := url.Parse(h.URL)
	if err != nil {
		return nil, fault.Wrap(err, fault.Invalid, "cli.url", fault.Args{"url": h.URL})
	}
	if u.Scheme != "http" {
		return nil, fault.New(fault.Invalid, "bench.plain_http", fault.Args{"url": h.URL})
	}
	dialer := net.Dialer{}
	if index >= portsPerAddress { // one address has not enough ports for more; Linux answers to all of 127/8
		dialer.LocalAddr = &net.TCPAddr{IP: net.IPv4(127, 0, 0, byte(1+index/portsPerAddress))}
	}
	raw, err := dialer.DialContext(ctx, "tcp", hostPort(u))
	if err != nil {
		return nil, fault.Wrap(err, fault.Unavailable, "cli.unreachable", fault.Args{"url": h.URL})
	}
	c := &conn{Conn: raw, buf: make([]byte, buffer)}
	_ = raw.SetDeadline(time.Now().Add(time.Minute))
	if err = c.enter(u, token, room); err != nil {
		raw.Close()
		return nil, fault.Wrap(err, fault.Unavailable, "bench.refused", fault.Args{"message": err.Error()})
	}
	_ = raw.SetDeadline(time.Time{})
	return c, nil
}

const portsPerAddress = 20_000

func hostPort(u *url.URL) string {
	port := u.Port()
	if port == "" {
		port = "80"
	}
	host := u.Hostname()
	if host == "localhost" {
		host = "127.0.0.1"
	}
	return net.JoinHostPort(host, port)
}

// enter does the handshake of RFC 6455, section 4, and waits until hello is answered.
func (c *conn) enter(u *url.URL, token string, room int64) error {
	_, err := fmt.Fprintf(c, "GET /api/v1/live HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\nAuthorization: Bearer %s\r\n\r\n", u.Host, token)
	if err != nil {
		return err
	}
	reader := bufio.NewReaderSize(c.Conn, 4096)
	answer, err := http.ReadResponse(reader, nil)
	if err != nil {
		return err
	}
	if answer.StatusCode != http.StatusSwitchingProtocols {
		return fmt.Errorf("GET /api/v1/live: %s", answer.Status)
	}
	early, _ := reader.Peek(reader.Buffered())
	c.w = copy(c.buf, early)
	if _, err = c.Write(frame(fmt.Appendf(nil, `{"do":"hello","epoch":"","room":%d,"since":0}`, room))); err != nil {
		return err
	}
	for {
		payload, err := c.next()
		if err != nil {
			return err
		}
		if bytes.HasPrefix(payload, []byte(`{"epoch":`)) || bytes.Contains(payload, []byte(`"is":"hello"`)) {
			return nil
		}
	}
}

// frame is a text frame as clients send it. The mask is zero: the server undoes it all the same, and frames can be
// made beforehand and stamped where they lie.
func frame(payload []byte) []byte { return append(head(0x81, len(payload)), payload...) }

func head(first byte, n int) []byte {
	var f []byte
	switch {
	case n < 126:
		f = []byte{first, 0x80 | byte(n)}
	case n < 1<<16:
		f = binary.BigEndian.AppendUint16([]byte{first, 0x80 | 126}, uint16(n))
	default:
		f = binary.BigEndian.AppendUint64([]byte{first, 0x80 | 127}, uint64(n))
	}
	return append(f, 0, 0, 0, 0)
}

// next is the payload of the next text frame; it holds until next is called again. Pings are answered.
func (c *conn) next() ([]byte, error) {
	for {
		have := c.buf[c.r:c.w]
		if op, from, to, ok := parse(have); ok {
			c.r += to
			payload := have[from:to]
			switch op {
			case 1:
				return payload, nil
			case 8:
				return nil, fmt.Errorf("the server closed the socket: %q", payload)
			case 9:
				if _, err := c.Write(append(head(0x8a, len(payload)), payload...)); err != nil {
					return nil, err
				}
			}
			continue
		}
		if c.r > 0 {
			c.w = copy(c.buf, have)
			c.r = 0
		}
		if c.w == len(c.buf) {
			c.buf = append(c.buf, make([]byte, len(c.buf))...)
		}
		n, err := c.Read(c.buf[c.w:])
		if err != nil {
			return nil, err
		}
		c.w += n
	}
}

// parse finds a whole frame at the start of b: its payload is b[from:to].
func parse(b []byte) (op byte, from, to int, ok bool) {
	if len(b) < 2 {
		return 0, 0, 0, false
	}
	n := int(b[1] & 0x7f)
	from = 2
	switch {
	case n == 126 && len(b) >= 4:
		n, from = int(binary.BigEndian.Uint16(b[2:])), 4
	case n == 127 && len(b) >= 10:
		n, from = int(binary.BigEndian.Uint64(b[2:])), 10
	case n >= 126:
		return 0, 0, 0, false
	}
	return b[0] & 0x0f, from, from + n, len(b) >= from+n
}

// post is a frame that posts a text, with places for what differs each time: it is stamped and sent, not made anew.
type post struct {
	frame        []byte
	id, clientID int // where they stand in it
}

const (
	idDigits   = 9
	postHead   = `{"do":"post","id":100000000,"room":`
	timeDigits = 12 // the last part of a UUID: nanoseconds since the bench began, in hexadecimal
)

// newPost prepares a post. prefix is the first 24 characters of every client id: what tells this run and sender.
func newPost(room int64, prefix, body string) post {
	text, err := json.Marshal(body)
	if err != nil {
		panic(err) // a string
	}
	payload := fmt.Appendf(nil, `%s%d,"client_id":"%s%012x","body":%s}`, postHead, room, prefix, 0, text)
	f := frame(payload)
	start := len(f) - len(payload)
	return post{f, start + strings.Index(postHead, "1"), start + bytes.Index(payload, []byte(prefix)) + len(prefix)}
}

// stamp writes the order's id and the time into the frame: the time makes the client id unique, and who gets the
// message reads from it how long it took.
func (p post) stamp(id int64, since time.Duration) {
	for i := idDigits - 1; i > 0; i-- { // the first digit stays: no leading zero in JSON
		p.frame[p.id+i] = byte('0' + id%10)
		id /= 10
	}
	n := uint64(since)
	for i := timeDigits - 1; i >= 0; i-- {
		p.frame[p.clientID+i] = "0123456789abcdef"[n&15]
		n >>= 4
	}
}

// stampID is the part of stamp's id that comes back in the answer.
func stampID(id int64) int64 { return 100_000_000 + id%100_000_000 }

var clientIDField = []byte(`"client_id":"`)

// sentAt reads the stamp from an event.
func sentAt(event []byte) (time.Duration, bool) {
	at := bytes.Index(event, clientIDField)
	if at < 0 || len(event) < at+len(clientIDField)+36 {
		return 0, false
	}
	var n uint64
	for _, c := range event[at+len(clientIDField)+24:][:timeDigits] {
		switch {
		case c >= '0' && c <= '9':
			n = n<<4 | uint64(c-'0')
		case c >= 'a' && c <= 'f':
			n = n<<4 | uint64(c-'a'+10)
		default:
			return 0, false
		}
	}
	return time.Duration(n), true
}

var (
	isEvent = []byte(`{"is":"event"`)
	isOK    = []byte(`{"is":"ok"`)
	isError = []byte(`{"is":"error"`)
)
