package chat

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"

	"howdah/internal/account"
	"howdah/internal/fault"
)

// Limits of what people write: a body in bytes of UTF-8, names and topics in characters.
const (
	MaxBody  = 48000
	maxName  = 80
	maxTopic = 300
)

// cleanBody brings a message into the form that is stored - line ends as \n, no trailing blanks - or says what is wrong.
func cleanBody(body string) (string, error) {
	if err := checkText(body, MaxBody); err != nil {
		return "", err
	}
	if n := len(body); n > MaxBody {
		return "", fault.New(fault.TooLarge, "chat.too_long", fault.Args{"n": n, "limit": MaxBody})
	}
	body = strings.TrimRightFunc(strings.ReplaceAll(body, "\r\n", "\n"), unicode.IsSpace)
	body = strings.TrimLeft(body, "\n\r")
	if strings.TrimSpace(body) == "" {
		return "", fault.New(fault.Invalid, "chat.empty")
	}
	return body, nil
}

// checkText refuses what PostgreSQL cannot hold or a limit forbids.
func checkText(s string, limit int) error {
	if !utf8.ValidString(s) || strings.ContainsRune(s, 0) {
		return fault.New(fault.Invalid, "chat.not_text")
	}
	if n := utf8.RuneCountInString(s); n > limit {
		return fault.New(fault.TooLarge, "chat.too_long", fault.Args{"n": n, "limit": limit})
	}
	return nil
}

// cleanLine is text for one line: a room's name or topic.
func cleanLine(s string, limit int) (string, error) {
	if err := checkText(s, limit); err != nil {
		return "", err
	}
	s = strings.Join(strings.Fields(norm.NFC.String(s)), " ")
	for _, r := range s {
		if unicode.Is(unicode.Cc, r) || unicode.Is(unicode.Cf, r) {
			return "", fault.New(fault.Invalid, "chat.not_text")
		}
	}
	return s, nil
}

// A candidate is a stretch of text after an @ that may name somebody. Chinese is written without spaces, so "@小明你好"
// may name 小明: every prefix is a candidate, and the longest that is a member's handle wins.
type candidate struct {
	start  int // where in the text the @ stands
	handle string
}

// maxMentions bounds how many people one message can call.
const maxMentions = 50

// candidates finds what may be mentions in a message, longest first at each place. Code (in backquotes) calls nobody, and what is quoted has
// called already.
func candidates(body string) []candidate {
	if !strings.Contains(body, "@") {
		return nil
	}
	var out []candidate
	places := 0
	before := ' '
	code, quoted, begins := false, false, true // begins: only blanks so far on this line
	for i, r := range body {
		switch {
		case r == '\n':
			quoted, begins = false, true
		case begins && r == '>':
			quoted, begins = true, false
		case r != ' ':
			begins = false
		}
		switch {
		case r == '`':
			code = !code
		case r == '@' && !code && !quoted && !(isASCIIWord(before)) && places < maxMentions:
			places++
			rest := body[i+1:]
			end, runes := 0, 0
			var ends []int
			for j, c := range rest {
				if !account.HandleRune(c) || runes == 32 {
					break
				}
				runes++
				end = j + utf8.RuneLen(c)
				if runes >= 2 {
					ends = append(ends, end)
				}
			}
			for k := len(ends) - 1; k >= 0; k-- {
				if !account.HandleMayEnd(rest, ends[k]) {
					continue
				}
				if handle, err := account.Handle(rest[:ends[k]]); err == nil {
					out = append(out, candidate{i, handle})
				}
			}
		}
		before = r
	}
	return out
}

// isASCIIWord tells an address (me@example.org) from a mention (您好@小明).
func isASCIIWord(r rune) bool {
	return r < utf8.RuneSelf && (unicode.IsLetter(r) || unicode.IsDigit(r) || r == '_' || r == '.' || r == '-' || r == '/')
}
