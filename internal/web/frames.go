package web

import (
	"bufio"
	"errors"
	"io"
	"unicode/utf8"

	"github.com/gobwas/ws"
)

// frameReader puts a client's frames together to messages (RFC 6455, sections 5 and 8.1). Control frames may come
// between the parts of a message.
type frameReader struct {
	from    *bufio.Reader
	limit   int64 // bytes of one message
	message []byte
	open    bool // a message has begun and its last part is yet to come
}

// errBadFrame says that the other side does not keep to the protocol, or to our limit.
var errBadFrame = errors.New("bad frame")

// next is the next whole message: OpText (valid UTF-8), OpPing, OpPong or OpClose. Nothing is allocated for what a
// header only announces beyond the limit.
func (f *frameReader) next() (ws.OpCode, []byte, error) {
	for {
		h, err := ws.ReadHeader(f.from)
		if err != nil {
			if errors.Is(err, ws.ErrHeaderLengthMSB) || errors.Is(err, ws.ErrHeaderLengthUnexpected) {
				err = errBadFrame
			}
			return 0, nil, err
		}
		control := h.OpCode.IsControl()
		switch {
		case !h.Masked, h.Rsv != 0, h.OpCode.IsReserved(), h.OpCode == ws.OpBinary,
			control && (!h.Fin || h.Length > ws.MaxControlFramePayloadSize),
			!control && h.Length+int64(len(f.message)) > f.limit,
			h.OpCode == ws.OpText && f.open, h.OpCode == ws.OpContinuation && !f.open:
			return 0, nil, errBadFrame
		}
		payload := make([]byte, h.Length)
		if _, err := io.ReadFull(f.from, payload); err != nil {
			return 0, nil, err
		}
		ws.Cipher(payload, h.Mask, 0)
		if control {
			return h.OpCode, payload, nil
		}
		f.open = !h.Fin
		if f.message == nil {
			f.message = payload
		} else {
			f.message = append(f.message, payload...)
		}
		if !h.Fin {
			continue
		}
		whole := f.message
		f.message = nil
		if !utf8.Valid(whole) {
			return 0, nil, errBadFrame
		}
		return ws.OpText, whole, nil
	}
}
