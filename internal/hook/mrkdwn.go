package hook

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// Slack's mrkdwn and our Markdown (CommonMark) say much alike: what differs is brought over, and all else is left as it is, since many who send to Slack's address send
// Markdown.

// FromMrkdwn is a text of Slack's as Markdown, for who brings rooms from there.
func FromMrkdwn(s string) string { return fromMrkdwn(s) }

// Anchor is a link in Markdown; the label alone where the address is none of the web.
func Anchor(label, to string) string { return anchor(label, to) }

// fromMrkdwn is a text of Slack's as Markdown.
func fromMrkdwn(s string) string {
	s = strings.ReplaceAll(s, "\r\n", "\n")
	var b strings.Builder
	for s != "" {
		if rest, ok := strings.CutPrefix(s, "```"); ok {
			code, after, closed := strings.Cut(rest, "```")
			if !closed {
				b.WriteString("```")
				s = rest
				continue
			}
			fence(&b, entities(links(code, true)))
			s = strings.TrimPrefix(after, "\n")
			continue
		}
		if s[0] == '`' {
			if end := strings.IndexAny(s[1:], "`\n"); end >= 0 && s[1+end] == '`' {
				b.WriteString("`" + entities(links(s[1:1+end], true)) + "`")
				s = s[end+2:]
				continue
			}
			b.WriteByte('`')
			s = s[1:]
			continue
		}
		end := strings.IndexByte(s, '`')
		if end < 0 {
			end = len(s)
		}
		b.WriteString(entities(marks(links(s[:end], false))))
		s = s[end:]
	}
	return b.String()
}

// fence writes a block of code, with a fence that nothing in it closes.
func fence(b *strings.Builder, code string) {
	if b.Len() > 0 && !strings.HasSuffix(b.String(), "\n") {
		b.WriteByte('\n')
	}
	bars := "```"
	for strings.Contains(code, bars) {
		bars += "`"
	}
	b.WriteString(bars + "\n" + strings.Trim(code, "\n") + "\n" + bars + "\n")
}

// entities takes back the three that Slack asks for.
func entities(s string) string {
	if !strings.Contains(s, "&") {
		return s
	}
	return strings.NewReplacer("&lt;", "<", "&gt;", ">", "&amp;", "&").Replace(s)
}

// links brings over what stands in <...>: addresses, people, rooms, calls. In code only their words are left.
func links(s string, code bool) string {
	var b strings.Builder
	for {
		open := strings.IndexByte(s, '<')
		if open < 0 {
			break
		}
		end := strings.IndexAny(s[open+1:], "<>\n")
		if end <= 0 || s[open+1+end] != '>' {
			b.WriteString(s[:open+1])
			s = s[open+1:]
			continue
		}
		b.WriteString(s[:open])
		b.WriteString(link(s[open+1:open+1+end], code))
		s = s[open+end+2:]
	}
	return b.String() + s
}

func link(inner string, code bool) string {
	to, label, labelled := strings.Cut(inner, "|")
	switch to[0] {
	case '@':
		if labelled && label != "" {
			return "@" + strings.TrimPrefix(label, "@")
		}
		return to
	case '#':
		if labelled && label != "" {
			return "#" + strings.TrimPrefix(label, "#")
		}
		return to
	case '!':
		switch word, _, _ := strings.Cut(to[1:], "^"); {
		case word == "here":
			return "@here"
		case word == "channel", word == "everyone":
			return "@room"
		case labelled:
			return label
		}
		return ""
	}
	if label == "" || label == to {
		label = strings.TrimPrefix(to, "mailto:")
	}
	if code {
		return label
	}
	return anchor(label, entities(to))
}

// anchor is a link in Markdown. Only addresses of the web and of mail become one.
func anchor(label, to string) string {
	if !strings.HasPrefix(to, "https://") && !strings.HasPrefix(to, "http://") && !strings.HasPrefix(to, "mailto:") {
		return label
	}
	to = strings.NewReplacer(" ", "%20", "(", "%28", ")", "%29", "<", "%3C", ">", "%3E", "\\", "%5C", "\n", "", "\t", "", "`", "%60").Replace(to)
	if !strings.HasPrefix(to, "mailto:") {
		to = strings.ReplaceAll(to, "@", "%40") // an address calls nobody
	}
	if entities(label) == to {
		return to
	}
	label = strings.NewReplacer("[", `\[`, "]", `\]`, "\n", " ").Replace(label)
	return "[" + label + "](" + to + ")"
}

// marks doubles the marks of what is bold or struck. Those that are doubled already are Markdown.
func marks(s string) string {
	if !strings.ContainsAny(s, "*~") {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); {
		c := s[i]
		if c != '*' && c != '~' {
			b.WriteByte(c)
			i++
			continue
		}
		n := 1
		for i+n < len(s) && s[i+n] == c {
			n++
		}
		if n > 1 || !opens(s, i) {
			b.WriteString(s[i : i+n])
			i += n
			continue
		}
		end := closing(s, i, c)
		if end < 0 {
			b.WriteByte(c)
			i++
			continue
		}
		two := string([]byte{c, c})
		b.WriteString(two + marks(s[i+1:end]) + two)
		i = end + 1
	}
	return b.String()
}

// opens tells whether the mark at i stands before a word and behind none.
func opens(s string, i int) bool {
	before, _ := utf8.DecodeLastRuneInString(s[:i])
	after, _ := utf8.DecodeRuneInString(s[i+1:])
	return i+1 < len(s) && !unicode.IsSpace(after) && (i == 0 || !wordly(before))
}

// closing finds the end of what is marked at i, on the same line.
func closing(s string, i int, c byte) int {
	for j := i + 2; j < len(s) && s[j] != '\n'; j++ {
		if s[j] != c {
			continue
		}
		if j+1 < len(s) && s[j+1] == c { // doubled: not ours
			return -1
		}
		before, _ := utf8.DecodeLastRuneInString(s[:j])
		after, _ := utf8.DecodeRuneInString(s[j+1:])
		if !unicode.IsSpace(before) && (j+1 == len(s) || !wordly(after)) {
			return j
		}
	}
	return -1
}

// wordly tells letters that a mark does not part; Chinese is written without spaces, and marks part it.
func wordly(r rune) bool {
	return r < 0x2e80 && (unicode.IsLetter(r) || unicode.IsDigit(r))
}

// words is a text of somebody's as it is, in one line of Markdown: nothing in it is a mark, and it calls nobody.
func words(s string) string {
	var b strings.Builder
	for _, r := range strings.Join(strings.Fields(strings.ToValidUTF8(s, "\ufffd")), " ") {
		switch {
		case r == '@':
			b.WriteString("@\u2060") // a word joiner: it is read and not seen
			continue
		case strings.ContainsRune("\\`*_~[]<>|", r):
			b.WriteByte('\\')
		case unicode.Is(unicode.Cc, r) || unicode.Is(unicode.Cf, r):
			continue
		}
		b.WriteRune(r)
	}
	return b.String()
}

// clip shortens a text to so many characters.
func clip(s string, most int) string {
	if utf8.RuneCountInString(s) <= most {
		return s
	}
	return string([]rune(s)[:most-1]) + "…"
}

// bounded is a body that a message can have.
func bounded(body string, most int) string {
	body = strings.ReplaceAll(strings.ToValidUTF8(body, "\ufffd"), "\x00", "\ufffd")
	if len(body) <= most {
		return body
	}
	body = strings.ToValidUTF8(body[:most-8], "")
	if strings.Count(body, "```")%2 == 1 {
		return body + "…\n```"
	}
	return body + "…"
}

// quoted puts a text into a quote.
func quoted(s string) string {
	return "> " + strings.ReplaceAll(strings.TrimRight(s, "\n"), "\n", "\n> ")
}
