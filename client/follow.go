package client

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"
)

// ErrReset ends Follow when the house was restored to another state of its database: what is known of the room may not hold any more. Read it anew, and follow from there.
var ErrReset = errors.New("the house was restored; what was known before may not hold")

// Follow hands every change of a room after seq to handle, in order, each once, until the context ends (nil), handle fails (its error), the house refuses (*Error), or it was
// restored (ErrReset). A connection that breaks is opened again, and what was missed comes first.
func (c *Client) Follow(ctx context.Context, room, seq int64, handle func(Event) error) error {
	f := &follower{Client: c, room: room, seq: seq, handle: handle}
	for try := 1; ; try++ {
		before := f.seq
		err := f.session(ctx)
		var own handled
		switch {
		case errors.As(err, &own):
			return own.error
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, ErrReset) || !passing(err):
			return err
		}
		if f.seq != before {
			try = 1
		}
		if !wait(ctx, pause(err, try)) {
			return nil
		}
	}
}

// handled is an error of the caller's own.
type handled struct{ error }

type follower struct {
	*Client
	room, seq int64
	epoch     string
	handle    func(Event) error
}

// heal hands on what there is after seq.
func (f *follower) heal(ctx context.Context) error {
	for more := true; more; {
		var events []Event
		var err error
		if events, more, err = f.Since(ctx, f.room, f.seq); err != nil {
			return err
		}
		for _, e := range events {
			if e.Seq <= f.seq {
				continue
			}
			if err := f.handle(e); err != nil { // a room may not keep what was before the first of them: there is nothing between
				return handled{err}
			}
			f.seq = e.Seq
		}
	}
	return nil
}

// take hands on one event, if it is the next one. What came before it, and was not seen, is asked for.
func (f *follower) take(ctx context.Context, e Event) error {
	if e.Seq <= f.seq {
		return nil
	}
	if e.Seq > f.seq+1 {
		return f.heal(ctx) // this one is among them
	}
	if err := f.handle(e); err != nil {
		return handled{err}
	}
	f.seq = e.Seq
	return nil
}

// silence is how long nothing may come: the house asks for a sign of life more often.
const silence = 90 * time.Second

// session is one connection.
func (f *follower) session(ctx context.Context) error {
	header := http.Header{}
	f.header(header)
	dialer := ws.Dialer{Header: ws.HandshakeHeaderHTTP(header), Timeout: 30 * time.Second}
	var refused *Error
	dialer.OnStatusError = func(status int, reason []byte, rest io.Reader) {
		refused = &Error{Status: status, Code: "unavailable", Message: string(reason)}
	}
	conn, early, _, err := dialer.Dial(ctx, "ws"+strings.TrimPrefix(f.URL, "http")+"/api/v1/live")
	if err != nil {
		if refused != nil {
			_, err = f.Me(ctx) // which says why, in words
			if err == nil {
				err = refused
			}
		}
		return err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	var from io.Reader = conn
	if early != nil {
		from = early
	}
	both := struct {
		io.Reader
		io.Writer
	}{from, conn}
	hello, err := json.Marshal(map[string]any{"do": "hello", "epoch": f.epoch, "room": f.room, "since": f.seq})
	if err != nil {
		return err
	}
	if err := wsutil.WriteClientText(conn, hello); err != nil {
		return err
	}
	for {
		_ = conn.SetReadDeadline(time.Now().Add(silence))
		raw, err := f.next(both, conn)
		if err != nil {
			return err
		}
		var frame struct {
			Is    string `json:"is"`
			Epoch string `json:"epoch"`
			Rooms []Room `json:"rooms"`
		}
		if err := json.Unmarshal(raw, &frame); err != nil {
			return err
		}
		switch frame.Is {
		case "hello", "rooms":
			in := false
			for _, r := range frame.Rooms {
				in = in || r.ID == f.room
			}
			if !in { // not a member, or not any more: the house says what it is
				if err := f.Call(ctx, http.MethodGet, "/rooms", nil, nil); err != nil {
					return err
				}
				return &Error{Status: http.StatusForbidden, Code: "forbidden", Key: "chat.not_member", Message: "not a member of this room"}
			}
			if frame.Is == "hello" {
				if f.epoch != "" && f.epoch != frame.Epoch {
					return ErrReset
				}
				f.epoch = frame.Epoch
				if err := f.heal(ctx); err != nil {
					return err
				}
			}
		case "reset":
			return ErrReset
		case "error":
			refused := &Error{}
			if err := json.Unmarshal(raw, refused); err != nil {
				return err
			}
			return refused // to hello: nothing else was asked
		case "gap":
			if err := f.heal(ctx); err != nil {
				return err
			}
		case "event":
			var e Event
			if err := json.Unmarshal(raw, &e); err != nil {
				return err
			}
			if e.Room == f.room {
				if err := f.take(ctx, e); err != nil {
					return err
				}
			}
		}
	}
}

// next is the next text; what asks for a sign of life gets one.
func (f *follower) next(both io.ReadWriter, conn net.Conn) ([]byte, error) {
	reader := wsutil.Reader{Source: both, State: ws.StateClientSide, OnIntermediate: wsutil.ControlFrameHandler(conn, ws.StateClientSide)}
	for {
		header, err := reader.NextFrame()
		if err != nil {
			return nil, err
		}
		if header.OpCode.IsControl() {
			if err := wsutil.ControlFrameHandler(conn, ws.StateClientSide)(header, &reader); err != nil {
				return nil, err
			}
			_ = conn.SetReadDeadline(time.Now().Add(silence))
			continue
		}
		raw, err := io.ReadAll(io.LimitReader(&reader, most))
		return raw, err
	}
}
