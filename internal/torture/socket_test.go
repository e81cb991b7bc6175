//go:build linux

package torture

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/gobwas/ws"
)

// socket is the client's end of a live session.
type socket struct {
	conn net.Conn
	from *bufio.Reader
}

// frame is any frame from the server.
type frame struct {
	Is      string
	ID      int64
	Seq     int64
	Room    int64
	Epoch   string
	Key     string
	Code    string
	Message json.RawMessage
	Rooms   []room
	event   event // of "event" frames
}

func dial(ctx context.Context, addr, token string) (*socket, error) {
	d := ws.Dialer{Timeout: time.Minute, Header: ws.HandshakeHeaderHTTP(http.Header{"Authorization": {"Bearer " + token}})}
	conn, early, _, err := d.Dial(ctx, "ws://"+addr+"/api/v1/live")
	if err != nil {
		return nil, err
	}
	s := &socket{conn: conn, from: bufio.NewReader(conn)}
	if early != nil { // frames that came with the answer to the handshake
		raw, _ := early.Peek(early.Buffered())
		s.from = bufio.NewReader(io.MultiReader(bytes.NewReader(bytes.Clone(raw)), conn))
	}
	return s, nil
}

// send writes a frame. cut > 0: only so many bytes of it, for a client that dies in the middle.
func (s *socket) send(value any, cut int) error {
	raw, err := json.Marshal(value)
	if err != nil {
		return err
	}
	f, err := ws.CompileFrame(ws.MaskFrame(ws.NewTextFrame(raw)))
	if err != nil {
		return err
	}
	if cut > 0 && cut < len(f) {
		f = f[:cut]
	}
	_ = s.conn.SetWriteDeadline(time.Now().Add(20 * time.Second))
	_, err = s.conn.Write(f)
	return err
}

var errClosed = errors.New("closed by the server")

// receive reads the next text frame, and answers pings on the way.
func (s *socket) receive(patience time.Duration) (f frame, err error) {
	for {
		_ = s.conn.SetReadDeadline(time.Now().Add(patience))
		h, err := ws.ReadHeader(s.from)
		if err != nil {
			return f, err
		}
		payload := make([]byte, h.Length)
		if _, err := io.ReadFull(s.from, payload); err != nil {
			return f, err
		}
		switch h.OpCode {
		case ws.OpPing:
			_ = s.conn.SetWriteDeadline(time.Now().Add(20 * time.Second))
			// One write each, here and in send: two goroutines' frames must not mix.
			if _, err := s.conn.Write(ws.MustCompileFrame(ws.MaskFrame(ws.NewPongFrame(payload)))); err != nil {
				return f, err
			}
			continue
		case ws.OpClose:
			return f, errClosed
		case ws.OpText:
		default:
			continue
		}
		if err := json.Unmarshal(payload, &f); err != nil {
			return f, err
		}
		if f.Is == "event" {
			err = json.Unmarshal(payload, &f.event)
		}
		return f, err
	}
}

// hangUp closes the connection: with a goodbye, or as a machine that lost its network does (reset).
func (s *socket) hangUp(reset bool) {
	if reset {
		if tcp, ok := s.conn.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0)
		}
	} else {
		_ = s.conn.SetWriteDeadline(time.Now().Add(time.Second))
		_ = ws.WriteFrame(s.conn, ws.MaskFrame(ws.NewCloseFrame(ws.NewCloseFrameBody(ws.StatusNormalClosure, ""))))
	}
	s.conn.Close()
}
