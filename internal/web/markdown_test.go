package web

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/html"
)

func TestMarkdown(t *testing.T) {
	for in, want := range map[string]string{
		"hello **you**\nand _you_":         "<p>hello <strong>you</strong><br>\nand <em>you</em></p>\n",
		"`a < b`":                          "<p><code>a &lt; b</code></p>\n",
		"```none\nx := \"<b>\"\n```":       "<pre tabindex=\"0\"><code class=\"language-none\">x := &quot;&lt;b&gt;&quot;\n</code></pre>\n",
		"```\nx := \"<b>\"\n```":           "<pre tabindex=\"0\"><code>x := &quot;&lt;b&gt;&quot;\n</code></pre>\n",
		"- a\n- b":                         "<ul>\n<li>a</li>\n<li>b</li>\n</ul>\n",
		"> said":                           "<blockquote>\n<p>said</p>\n</blockquote>\n",
		"# not a heading":                  "<p># not a heading</p>\n",
		"<b>bold</b><script>x</script>":    "<p>&lt;b&gt;bold&lt;/b&gt;&lt;script&gt;x&lt;/script&gt;</p>\n",
		"<div onclick=x>\n\nhi":            "<p>&lt;div onclick=x&gt;</p>\n<p>hi</p>\n",
		"[x](javascript:alert(1))":         "<p>x</p>\n",
		"[x](JaVaScRiPt:alert(1))":         "<p>x</p>\n",
		"[x](data:text/html,a)":            "<p>x</p>\n",
		"[x](/sign-out)":                   "<p>x</p>\n",
		"[x](//evil.example)":              "<p>x</p>\n",
		"![cat](https://a.example/c)":      `<p><a href="https://a.example/c" target="_blank" rel="noopener noreferrer nofollow">cat</a></p>` + "\n",
		"see https://a.example/?q=1&b=2":   `<p>see <a href="https://a.example/?q=1&amp;b=2" target="_blank" rel="noopener noreferrer nofollow">https://a.example/?q=1&amp;b=2</a></p>` + "\n",
		"@ann @小明你好 @bob x@ann.org":        `<p><span class="mention">@ann</span> <span class="mention">@小明</span>你好 @bob <a href="mailto:x@ann.org" target="_blank" rel="noopener noreferrer nofollow">x@ann.org</a></p>` + "\n",
		"| a | b |\n| - | -: |\n| 1 | 2 |": "<table>\n<thead>\n<tr>\n<th>a</th>\n<th align=\"right\">b</th>\n</tr>\n</thead>\n<tbody>\n<tr>\n<td>1</td>\n<td align=\"right\">2</td>\n</tr>\n</tbody>\n</table>\n",
		"@annabel, @ann.":                  `<p>@annabel, <span class="mention">@ann</span>.</p>` + "\n",
		"~~no~~ yes":                       "<p><del>no</del> yes</p>\n",
	} {
		if have := render(in, []string{"ann", "小明"}); have != want {
			t.Errorf("%q\n have %q\n want %q", in, have, want)
		}
	}
}

func TestMarkdownThatOnlyCostsIsShownAsItIs(t *testing.T) {
	for _, unit := range []string{"> ", "1. ", "2) ", "- ", "[a](", "*_", "@", "``` `\n[](", "_a*b ", "*a_ \n", "[](\n"} {
		body := strings.Repeat(unit, 48000/len(unit))
		if have := render(body, []string{"ann"}); have != plain(body) {
			t.Errorf("%q over and over was parsed", unit)
		}
	}
	code := "```go\n" + strings.Repeat("a[i] = *b(c_d)\n", 3000) + "```\n*done*"
	if have := render(code, nil); !strings.HasPrefix(have, preStart) || !strings.HasSuffix(have, "<p><em>done</em></p>\n") {
		t.Error("a long listing was not shown as code")
	}
}

// FuzzWordsOnly: what is not given to the parser looks as if it had been.
func FuzzWordsOnly(f *testing.F) {
	for _, seed := range []string{"hello there", "你好，今天吃什麼？", "it's 5.30 (or 6)", "a - b + c", "www.x.org", "a\u00a0b", "x!", "one; two, three...", "a\u2028b", "\u3000x"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, body string) {
		if !wordsOnly(body) {
			return
		}
		var parsed bytes.Buffer
		if err := markdown.Convert([]byte(body), &parsed); err != nil {
			t.Fatal(err)
		}
		if have := renderWords(body, nil); have != parsed.String() {
			t.Errorf("%q is %q, the parser says %q", body, have, parsed.String())
		}
	})
}

// FuzzMarkdown: whatever people write, only Markdown's own elements and harmless attributes come out.
func FuzzMarkdown(f *testing.F) {
	for _, seed := range []string{"<script>alert(1)</script>", "[a](javascript:x)", "```\"onload=x\n```", "<a href='x' onclick=y>", "![x](\"onerror=alert(1))",
		"<javascript:alert(1)>", "https://x\"onmouseover=alert(1)", "@ann<b>", "[x]: javascript:1\n[x]", "&#60;script&#62;", "a\x00b", "```html onload=x\n<", "|a|b|\n|-|:-|\n|<b>|`x`|", "* > - + 1. x", "/me <b>waves</b>", "/me /me *x*"} {
		f.Add(seed)
	}
	elements := map[string]bool{"p": true, "br": true, "strong": true, "em": true, "del": true, "code": true, "pre": true, "ul": true, "ol": true, "li": true,
		"blockquote": true, "a": true, "hr": true, "span": true, "div": true,
		"table": true, "thead": true, "tbody": true, "tr": true, "th": true, "td": true}
	f.Fuzz(func(t *testing.T, body string) {
		z := html.NewTokenizer(strings.NewReader(render(body, []string{"ann"})))
		for {
			switch z.Next() {
			case html.ErrorToken:
				return
			case html.CommentToken, html.DoctypeToken:
				t.Fatalf("%q gives a comment or doctype", body)
			case html.StartTagToken, html.SelfClosingTagToken:
				token := z.Token()
				if !elements[token.Data] {
					t.Fatalf("%q gives <%s>", body, token.Data)
				}
				for _, a := range token.Attr {
					switch {
					case token.Data == "a" && a.Key == "href":
						if _, ok := safeAddress(a.Val); !ok {
							t.Fatalf("%q links to %q", body, a.Val)
						}
					case token.Data == "a" && (a.Key == "target" || a.Key == "rel"), token.Data == "span" && a.Key == "class" && a.Val == "mention", token.Data == "div" && a.Key == "class" && a.Val == "did",
						token.Data == "code" && a.Key == "class" && strings.HasPrefix(a.Val, "language-"), token.Data == "ol" && a.Key == "start",
						token.Data == "pre" && a.Key == "tabindex" && a.Val == "0",
						(token.Data == "th" || token.Data == "td") && a.Key == "align":
					default:
						t.Fatalf("%q gives <%s %s=%q>", body, token.Data, a.Key, a.Val)
					}
				}
			}
		}
	})
}

func TestLinksAreThoseThatAMessageLeadsTo(t *testing.T) {
	for body, want := range map[string][]string{
		"see https://a.example/b?c=1#d, and [this](http://b.example) ![x](https://c.example/p.png)": {"https://a.example/b?c=1#d", "http://b.example", "https://c.example/p.png"},
		"/me reads www.d.example":                                     {"http://www.d.example"},
		"https://a.example https://a.example":                         {"https://a.example"},
		"`https://a.example` <https://b.example> <a@b.example>":       nil,
		"```\nhttps://a.example\n```\n    https://b.example":          nil,
		"> https://a.example\n\nno":                                   nil,
		"[x](javascript:alert(1)) mailto:a@b.example ftp://a.example": nil,
		"[x]\n\n[x]: https://r.example":                               {"https://r.example"},
		"**https://bold.example** ~~<https://struck.example>~~":       {"https://bold.example"},
		strings.Repeat("> ", 3000) + "https://a.example":              nil,
	} {
		if have := Links(body); !slices.Equal(have, want) {
			t.Errorf("%q: %q", body[:min(len(body), 100)], have)
		}
	}
}
