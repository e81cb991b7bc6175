package judge

import (
	"strconv"
	"strings"
	"sync"
	"unicode/utf8"
)

// The kinds of tokens.
const (
	word   = iota // keyword or plain identifier, in lower case
	quoted        // "identifier", as PostgreSQL would store it
	text          // a string literal of any form, without its quotes
	sign          // one character of anything else; numbers are words
)

// token is a piece of SQL: comments and white space are gone.
type token struct {
	kind uint8
	text string
}

// is says whether the token is this keyword or sign.
func (t token) is(s string) bool { return t.text == s && (t.kind == word || t.kind == sign) }

// name says whether the token can be (a part of) a name.
func (t token) name() bool { return t.kind == word || t.kind == quoted }

// maxTokens bounds the work for one statement: what comes behind it is data, or a file of a gigabyte.
const maxTokens = 20_000

// scan splits SQL as PostgreSQL's lexer does where it matters: nested comments, dollar quotes, E” and U&” forms. Text that ends within
// a quote is taken as it is; nothing fails.
func scan(sql string) []token { return scanInto(make([]token, 0, min(len(sql)/4+8, maxTokens)), sql) }

// buffers are for statements that are looked at and forgotten: what is kept of them are strings.
var buffers = sync.Pool{New: func() any { return new(make([]token, 0, 256)) }}

func scanInto(tokens []token, sql string) []token {
	for i := 0; i < len(sql) && len(tokens) < maxTokens; {
		c := sql[i]
		switch {
		case c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\f' || c == '\v':
			i++
		case c == '-' && strings.HasPrefix(sql[i:], "--"):
			end := strings.IndexAny(sql[i:], "\r\n")
			if end < 0 {
				return tokens
			}
			i += end
		case c == '/' && strings.HasPrefix(sql[i:], "/*"):
			i = skipComment(sql, i)
		case c == '\'':
			var s string
			s, i = literal(sql, i+1, false)
			tokens = append(tokens, token{text, s})
		case c == '"':
			var s string
			s, i = identifier(sql, i+1)
			tokens = append(tokens, token{quoted, s})
		case c == '$':
			if s, next, ok := dollar(sql, i); ok {
				tokens, i = append(tokens, token{text, s}), next
			} else {
				tokens, i = append(tokens, token{sign, "$"}), i+1
			}
		case letter(c):
			start := i
			for i < len(sql) && (letter(sql[i]) || sql[i] >= '0' && sql[i] <= '9' || sql[i] == '$') {
				i++
			}
			switch rest := sql[i:]; {
			case i-start == 1 && strings.HasPrefix(rest, "'") && strings.ContainsAny(sql[start:i], "eEbBxXnN"):
				var s string
				s, i = literal(sql, i+1, sql[start] == 'e' || sql[start] == 'E')
				tokens = append(tokens, token{text, s})
			case i-start == 1 && (sql[start] == 'u' || sql[start] == 'U') && (strings.HasPrefix(rest, `&"`) || strings.HasPrefix(rest, "&'")):
				var s string
				if rest[1] == '"' {
					s, i = identifier(sql, i+2)
					tokens = append(tokens, token{quoted, unicodeEscapes(s)})
				} else {
					s, i = literal(sql, i+2, false)
					tokens = append(tokens, token{text, unicodeEscapes(s)})
				}
			default:
				tokens = append(tokens, token{word, strings.ToLower(sql[start:i])})
			}
		case c >= '0' && c <= '9':
			start := i
			for i < len(sql) && (letter(sql[i]) || sql[i] >= '0' && sql[i] <= '9' || sql[i] == '.') {
				i++
			}
			tokens = append(tokens, token{word, sql[start:i]})
		default:
			tokens, i = append(tokens, token{sign, sql[i : i+1]}), i+1
		}
	}
	return tokens
}

// letter says whether c can begin an identifier; bytes of other scripts can.
func letter(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '_' || c >= utf8.RuneSelf
}

func skipComment(sql string, i int) int {
	depth := 0
	for i < len(sql) {
		switch {
		case strings.HasPrefix(sql[i:], "/*"):
			depth, i = depth+1, i+2
		case strings.HasPrefix(sql[i:], "*/"):
			depth, i = depth-1, i+2
			if depth == 0 {
				return i
			}
		default:
			i++
		}
	}
	return i
}

// literal reads from behind the opening quote and gives what is inside and where it goes on.
func literal(sql string, i int, backslash bool) (string, int) {
	start, plain := i, true
	for i < len(sql) {
		switch {
		case backslash && sql[i] == '\\' && i+1 < len(sql):
			i += 2
		case sql[i] == '\'' && i+1 < len(sql) && sql[i+1] == '\'':
			plain, i = false, i+2
		case sql[i] == '\'':
			s := sql[start:i]
			if !plain {
				s = strings.ReplaceAll(s, "''", "'")
			}
			return s, i + 1
		default:
			i++
		}
	}
	return sql[start:min(i, len(sql))], len(sql)
}

func identifier(sql string, i int) (string, int) {
	start, plain := i, true
	for i < len(sql) {
		switch {
		case sql[i] == '"' && i+1 < len(sql) && sql[i+1] == '"':
			plain, i = false, i+2
		case sql[i] == '"':
			s := sql[start:i]
			if !plain {
				s = strings.ReplaceAll(s, `""`, `"`)
			}
			return s, i + 1
		default:
			i++
		}
	}
	return sql[start:], len(sql)
}

// dollar reads $tag$ ... $tag$ from its first dollar.
func dollar(sql string, i int) (string, int, bool) {
	end := i + 1
	for end < len(sql) && (letter(sql[end]) || end > i+1 && sql[end] >= '0' && sql[end] <= '9') {
		end++
	}
	if end >= len(sql) || sql[end] != '$' {
		return "", 0, false
	}
	tag := sql[i : end+1]
	body := sql[end+1:]
	if at := strings.Index(body, tag); at >= 0 {
		return body[:at], end + 1 + at + len(tag), true
	}
	return body, len(sql), true
}

// unicodeEscapes replaces \0061 and \+000061.
func unicodeEscapes(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); {
		if s[i] == '\\' {
			digits, at := 4, i+1
			if at < len(s) && s[at] == '+' {
				digits, at = 6, at+1
			}
			if at+digits <= len(s) {
				if r, err := strconv.ParseUint(s[at:at+digits], 16, 32); err == nil {
					b.WriteRune(rune(r))
					i = at + digits
					continue
				}
			}
		}
		b.WriteByte(s[i])
		i++
	}
	return b.String()
}

// statements parts tokens at the semicolons between statements; those within parentheses (CREATE RULE) are none.
func statements(tokens []token) [][]token {
	var all [][]token
	start, depth := 0, 0
	for i, t := range tokens {
		if t.kind != sign {
			continue
		}
		switch t.text {
		case "(":
			depth++
		case ")":
			depth--
		case ";":
			if depth <= 0 {
				if i > start {
					all = append(all, tokens[start:i])
				}
				start, depth = i+1, 0
			}
		}
	}
	if start < len(tokens) {
		all = append(all, tokens[start:])
	}
	return all
}
