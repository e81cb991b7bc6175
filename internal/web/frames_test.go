package web

import (
	"bufio"
	"bytes"
	"encoding/json"
	"testing"
	"unicode/utf8"

	"github.com/gobwas/ws"
)

func masked(op ws.OpCode, fin bool, payload string) []byte {
	return ws.MustCompileFrame(ws.MaskFrame(ws.NewFrame(op, fin, []byte(payload))))
}

func TestMessagesInPartsWithAPingBetween(t *testing.T) {
	var in []byte
	in = append(in, masked(ws.OpText, false, `{"do":`)...)
	in = append(in, masked(ws.OpPing, true, "alive?")...)
	in = append(in, masked(ws.OpContinuation, true, `"view"}`)...)
	in = append(in, masked(ws.OpText, true, `next`)...)
	f := frameReader{from: bufio.NewReaderSize(bytes.NewReader(in), 16), limit: 100}
	for _, want := range []struct {
		op      ws.OpCode
		payload string
	}{{ws.OpPing, "alive?"}, {ws.OpText, `{"do":"view"}`}, {ws.OpText, "next"}} {
		op, payload, err := f.next()
		if err != nil || op != want.op || string(payload) != want.payload {
			t.Fatalf("%v %q %v, want %v %q", op, payload, err, want.op, want.payload)
		}
	}
}

// FuzzFrames: whatever bytes come, no panic, no message over the limit, and only text that is text.
func FuzzFrames(f *testing.F) {
	f.Add(masked(ws.OpText, true, `{"do":"post","room":1,"client_id":"x","body":"hi"}`))
	f.Add(append(masked(ws.OpText, false, "a"), masked(ws.OpContinuation, true, "\xff")...))
	f.Add([]byte{0x81, 0xff, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0})
	f.Add([]byte{0x81, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, in []byte) {
		const limit = 1000
		r := frameReader{from: bufio.NewReaderSize(bytes.NewReader(in), 64), limit: limit}
		for {
			op, payload, err := r.next()
			if err != nil {
				return
			}
			if len(payload) > limit || op == ws.OpText && !utf8.Valid(payload) {
				t.Fatalf("%v of %d bytes", op, len(payload))
			}
			if op == ws.OpText {
				var o order
				_ = json.Unmarshal(payload, &o)
			}
		}
	})
}
