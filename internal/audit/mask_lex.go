package audit

import (
	"strconv"
	"strings"
)

func foldAt(text string, i int, low string) bool {
	if len(text)-i < len(low) {
		return false
	}
	for k := range len(low) {
		c := text[i+k]
		if c >= 'A' && c <= 'Z' {
			c += 'a' - 'A'
		}
		if c != low[k] {
			return false
		}
	}
	return true
}

// kind of a token of SQL.
type kind uint8

const (
	space  kind = iota // and comments
	remark             // a comment
	word               // a name or a keyword
	name               // a name in quotation marks
	text               // a string constant
	number
	param // $1
	sign  // an operator or a bracket, one byte; but := and =>, || and ::
)

type token struct {
	kind     kind
	from, to int
	open     int    // bytes before the content of a quoted token
	end      int    // bytes after it; 0 where it was cut off
	dollar   bool   // $tag$
	escapes  bool   // E'...'
	as       string // what is written instead, when set is true
	set      bool
}

func letter(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '_' || c >= 0x80
}

func digit(c byte) bool { return c >= '0' && c <= '9' }

// lex parts a text into tokens, as PostgreSQL's scan.l does with standard_conforming_strings on.
func lex(s string) []token {
	tokens := make([]token, 0, len(s)/5+4)
	for i := 0; i < len(s); {
		t := token{from: i}
		c := s[i]
		switch {
		case c <= ' ':
			for i < len(s) && s[i] <= ' ' {
				i++
			}
			t.kind = space
		case c == '-' && strings.HasPrefix(s[i:], "--"):
			t.kind, t.open = remark, 2
			if n := strings.IndexAny(s[i:], "\r\n"); n >= 0 {
				i += n
			} else {
				i = len(s)
			}
		case c == '/' && strings.HasPrefix(s[i:], "/*"):
			t.kind, t.open = remark, 2
			depth := 1
			for i += 2; i < len(s) && depth > 0; {
				switch {
				case strings.HasPrefix(s[i:], "/*"):
					depth++
					i += 2
				case strings.HasPrefix(s[i:], "*/"):
					depth--
					i += 2
				default:
					i++
				}
			}
			if depth == 0 {
				t.end = 2
			}
		case c == '\'':
			i = t.quoted(s, i, false)
		case c == '"':
			t.kind, t.open = name, 1
			for i++; i < len(s); i++ {
				if s[i] == '"' {
					if i+1 < len(s) && s[i+1] == '"' {
						i++
						continue
					}
					t.end = 1
					i++
					break
				}
			}
		case c == '$' && i+1 < len(s) && digit(s[i+1]):
			t.kind = param
			for i++; i < len(s) && digit(s[i]); i++ {
			}
		case c == '$':
			j := i + 1
			for j < len(s) && (letter(s[j]) || j > i+1 && digit(s[j])) {
				j++
			}
			if j >= len(s) || s[j] != '$' {
				t.kind = sign
				i++
				break
			}
			tag := s[i : j+1]
			t.kind, t.dollar, t.open = text, true, len(tag)
			if n := strings.Index(s[j+1:], tag); n >= 0 {
				t.end = len(tag)
				i = j + 1 + n + len(tag)
			} else {
				i = len(s)
			}
		case letter(c):
			for i++; i < len(s) && (letter(s[i]) || digit(s[i]) || s[i] == '$'); i++ {
			}
			t.kind = word
			if i < len(s) && s[i] == '\'' && i-t.from == 1 && strings.IndexByte("eEbBxXnN", c) >= 0 {
				i = t.quoted(s, i, c == 'e' || c == 'E')
			} else if i+1 < len(s) && s[i] == '&' && s[i+1] == '\'' && i-t.from == 1 && (c == 'u' || c == 'U') {
				i = t.quoted(s, i+1, false)
			}
		case digit(c):
			for i++; i < len(s) && (digit(s[i]) || letter(s[i]) || s[i] == '.'); i++ {
			}
			t.kind = number
		default:
			t.kind = sign
			i++
			if i < len(s) {
				switch s[i-1 : i+1] {
				case ":=", "=>", "||", "::":
					i++
				}
			}
		}
		t.to = i
		tokens = append(tokens, t)
	}
	return tokens
}

// quoted reads a string constant whose quotation mark is at i, and gives what follows it.
func (t *token) quoted(s string, i int, escapes bool) int {
	t.kind, t.open, t.escapes = text, i-t.from+1, escapes
	for i++; i < len(s); i++ {
		switch {
		case s[i] == '\\' && escapes:
			i++
		case s[i] == '\'' && i+1 < len(s) && s[i+1] == '\'':
			i++
		case s[i] == '\'':
			t.end = 1
			return i + 1
		}
	}
	return len(s)
}

// content is what a quoted token means.
func (t *token) content(s string) string {
	inner := s[t.from+t.open : max(t.from+t.open, t.to-t.end)]
	switch {
	case t.dollar || t.kind == remark:
		return inner
	case t.kind == name:
		return strings.ReplaceAll(inner, `""`, `"`)
	case t.escapes && strings.Contains(inner, `\`):
		var b strings.Builder
		for i := 0; i < len(inner); i++ {
			if inner[i] != '\\' || i+1 == len(inner) {
				if inner[i] == '\'' && i+1 < len(inner) && inner[i+1] == '\'' {
					i++
				}
				b.WriteByte(inner[i])
				continue
			}
			i++
			switch c := inner[i]; c {
			case 'n':
				b.WriteByte('\n')
			case 't':
				b.WriteByte('\t')
			case 'r':
				b.WriteByte('\r')
			case 'x', 'u', 'U', '0', '1', '2', '3', '4', '5', '6', '7':
				n, base, most := i, 8, 3
				switch c {
				case 'x':
					n, base, most = i+1, 16, 2
				case 'u':
					n, base, most = i+1, 16, 4
				case 'U':
					n, base, most = i+1, 16, 8
				}
				end := n
				for end < len(inner) && end < n+most && strings.IndexByte("0123456789abcdefABCDEF"[:base+base/16*6], inner[end]) >= 0 {
					end++
				}
				code, err := strconv.ParseUint(inner[n:end], base, 32)
				if err != nil {
					b.WriteByte(c)
					continue
				}
				if c == 'u' || c == 'U' {
					b.WriteRune(rune(code))
				} else {
					b.WriteByte(byte(code))
				}
				i = end - 1
			default:
				b.WriteByte(c)
			}
		}
		return b.String()
	default:
		return strings.ReplaceAll(inner, `''`, `'`)
	}
}

// quote writes a string constant anew, in the form that it had where that can hold it.
func (t *token) quote(s, content string) string {
	if t.dollar {
		return s[t.from:t.from+t.open] + content + s[t.to-t.end:t.to]
	}
	head := s[t.from : t.from+t.open]
	content = strings.ReplaceAll(content, `'`, `''`)
	if t.escapes {
		content = strings.ReplaceAll(content, `\`, `\\`)
	}
	return head + content + s[t.to-t.end:t.to]
}

// asciiLower keeps the length, which strings.ToLower does not.
func asciiLower(s string) string {
	for i := range len(s) {
		if s[i] >= 'A' && s[i] <= 'Z' {
			b := []byte(s)
			for ; i < len(b); i++ {
				if b[i] >= 'A' && b[i] <= 'Z' {
					b[i] += 'a' - 'A'
				}
			}
			return string(b)
		}
	}
	return s
}
