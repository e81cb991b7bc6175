package card

import (
	"io"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/net/html"
	"golang.org/x/net/html/atom"
	"golang.org/x/net/html/charset"
	"golang.org/x/text/unicode/norm"
)

// about is what a page says of itself.
type about struct {
	title, description, site string
	picture                  string // its address, as it stands there
}

// What of a page's words is shown, in characters.
const (
	mostTitle       = 200
	mostDescription = 300
	mostSite        = 60
)

// read reads what a page says of itself: Open Graph before Twitter's own before HTML's (https://ogp.me; HTML, 4.2.5 and 4.2.2). The bytes may be in any character set that browsers know, and
// be anything else: what makes no sense is left out.
func read(from io.Reader, contentType string) about {
	text, err := charset.NewReader(from, contentType)
	if err != nil {
		return about{}
	}
	said := map[string]string{} // by the name in lower case; the first counts
	say := func(name, value string) {
		if name = strings.ToLower(strings.TrimSpace(name)); said[name] == "" {
			said[name] = strings.TrimSpace(value)
		}
	}
	z := html.NewTokenizer(text)
	z.SetMaxBuf(mostPage)
	foreign := 0 // in a drawing, which has titles of its own
	for body := false; ; {
		kind := z.Next()
		if kind == html.ErrorToken { // the end, or what it breaks off with
			break
		}
		if kind != html.StartTagToken && kind != html.SelfClosingTagToken && kind != html.EndTagToken {
			continue
		}
		raw, has := z.TagName()
		tag := atom.Lookup(raw)
		switch {
		case tag == atom.Svg && kind == html.StartTagToken:
			foreign++
		case tag == atom.Svg && kind == html.EndTagToken:
			foreign = max(0, foreign-1)
		case kind == html.EndTagToken:
		case tag == atom.Body:
			body = true
		case tag == atom.Title && foreign == 0 && !body:
			if z.Next() == html.TextToken {
				say("title", string(z.Text()))
			}
		case tag == atom.Meta && has:
			a := attributes(z)
			if name := a["property"]; name != "" {
				say(name, a["content"])
			}
			if name := a["name"]; name != "" {
				say(name, a["content"])
			}
		case tag == atom.Link && has:
			if a := attributes(z); strings.EqualFold(a["rel"], "image_src") {
				say("image_src", a["href"])
			}
		}
		if body && said["title"]+said["og:title"] != "" {
			break
		}
	}
	first := func(names ...string) string {
		for _, name := range names {
			if value := said[name]; value != "" {
				return value
			}
		}
		return ""
	}
	return about{
		title:       clean(first("og:title", "twitter:title", "title"), mostTitle),
		description: clean(first("og:description", "twitter:description", "description"), mostDescription),
		site:        clean(first("og:site_name", "application-name"), mostSite),
		picture:     first("og:image:secure_url", "og:image", "og:image:url", "twitter:image", "twitter:image:src", "image_src"),
	}
}

// attributes are those of the tag at hand; of two with one name the first counts.
func attributes(z *html.Tokenizer) map[string]string {
	all := map[string]string{}
	for {
		key, value, more := z.TagAttr()
		if _, twice := all[string(key)]; !twice && len(key) > 0 {
			all[string(key)] = string(value)
		}
		if !more || len(all) > 50 {
			return all
		}
	}
}

// clean makes one line of what somebody else has written: without what would not be seen or turns letters around, no longer than so many characters.
func clean(text string, most int) string {
	var b strings.Builder
	n, blank := 0, false
	for _, r := range norm.NFC.String(bounded(text, 16*most)) {
		switch {
		case r == utf8.RuneError:
			continue
		case unicode.IsSpace(r), unicode.Is(unicode.Zl, r), unicode.Is(unicode.Zp, r), unicode.Is(unicode.Zs, r):
			blank = n > 0
			continue
		case r == '\u200d' && n > 0: // joins emoji
		case unicode.Is(unicode.Cc, r), unicode.Is(unicode.Cf, r), unicode.Is(unicode.Co, r), unicode.Is(unicode.Cs, r), !unicode.IsGraphic(r) && r != '\u200d':
			continue
		}
		if blank {
			b.WriteByte(' ')
			n++
			blank = false
		}
		if n >= most {
			return strings.TrimRight(b.String(), " ") + "…"
		}
		b.WriteRune(r)
		n++
	}
	return b.String()
}

// bounded is the beginning of a text, in bytes.
func bounded(text string, most int) string {
	if len(text) > most {
		text = strings.ToValidUTF8(text[:most], "")
	}
	return text
}
