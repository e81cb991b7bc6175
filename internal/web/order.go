package web

import (
	"encoding/json"
	"math"
	"unicode/utf8"
)

// order is a frame from a client.
type order struct {
	Do       string   `json:"do"`
	ID       int64    `json:"id"`
	Room     int64    `json:"room"`
	Seq      int64    `json:"seq"`
	Since    int64    `json:"since"`
	Epoch    string   `json:"epoch"`
	ClientID string   `json:"client_id"`
	Body     string   `json:"body"`
	Thread   int64    `json:"thread"`
	Aloud    bool     `json:"aloud"`
	Files    []fileIn `json:"files"`
}

// parseOrder reads a frame as encoding/json does. It is done for every post; so the form in which programs write one - one flat object, whole
// numbers, strings with the usual escapes - is read by hand, in a fifth of the time. All else, also what is wrong, is left to encoding/json: a fuzz
// test compares the two.
func parseOrder(raw []byte) (order, error) {
	if o, ok := plainOrder(raw); ok {
		return o, nil
	}
	var o order
	err := json.Unmarshal(raw, &o)
	return o, err
}

func plainOrder(raw []byte) (o order, ok bool) {
	s := scan{raw}
	if !s.char('{') {
		return o, false
	}
	for {
		key, ok := s.text()
		if !ok || !s.char(':') {
			return o, false
		}
		var number *int64
		var text *string
		switch string(key) {
		case "do":
			text = &o.Do
		case "id":
			number = &o.ID
		case "room":
			number = &o.Room
		case "seq":
			number = &o.Seq
		case "since":
			number = &o.Since
		case "thread":
			number = &o.Thread
		case "epoch":
			text = &o.Epoch
		case "client_id":
			text = &o.ClientID
		case "body":
			text = &o.Body
		default:
			return o, false
		}
		if text != nil {
			value, ok := s.text()
			if !ok {
				return o, false
			}
			*text = string(value)
		} else if *number, ok = s.number(); !ok {
			return o, false
		}
		if s.char(',') {
			continue
		}
		return o, s.char('}') && len(s.rest) == 0
	}
}

// scan is what is left of a text of JSON.
type scan struct{ rest []byte }

// char takes one character, with the blanks around it.
func (s *scan) char(c byte) bool {
	s.blanks()
	if len(s.rest) == 0 || s.rest[0] != c {
		return false
	}
	s.rest = s.rest[1:]
	s.blanks()
	return true
}

func (s *scan) blanks() {
	for len(s.rest) > 0 && (s.rest[0] == ' ' || s.rest[0] == '\n' || s.rest[0] == '\r' || s.rest[0] == '\t') {
		s.rest = s.rest[1:]
	}
}

// text takes a string whose escapes stand for one byte each.
func (s *scan) text() ([]byte, bool) {
	if len(s.rest) == 0 || s.rest[0] != '"' {
		return nil, false
	}
	body := s.rest[1:]
	escapes := false
	for i := 0; i < len(body); i++ {
		switch c := body[i]; {
		case c == '"':
			value := body[:i]
			s.rest = body[i+1:]
			if !utf8.Valid(value) {
				return nil, false
			}
			if escapes {
				return unescape(value)
			}
			return value, true
		case c < ' ':
			return nil, false
		case c == '\\':
			escapes = true
			i++
		}
	}
	return nil, false
}

func unescape(text []byte) ([]byte, bool) {
	out := make([]byte, 0, len(text))
	for i := 0; i < len(text); i++ {
		if text[i] != '\\' {
			out = append(out, text[i])
			continue
		}
		i++ // there is one: the backslash does not stand at the end
		switch text[i] {
		case '"', '\\', '/':
			out = append(out, text[i])
		case 'n':
			out = append(out, '\n')
		case 't':
			out = append(out, '\t')
		case 'r':
			out = append(out, '\r')
		default:
			return nil, false
		}
	}
	return out, true
}

// number takes a whole number.
func (s *scan) number() (n int64, ok bool) {
	digits := 0
	for digits < len(s.rest) && s.rest[digits] >= '0' && s.rest[digits] <= '9' {
		if n > (math.MaxInt64-9)/10 {
			return 0, false
		}
		n = n*10 + int64(s.rest[digits]-'0')
		digits++
	}
	if digits == 0 || digits > 1 && s.rest[0] == '0' {
		return 0, false
	}
	s.rest = s.rest[digits:]
	return n, true
}
