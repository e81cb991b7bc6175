package web

import (
	"bytes"
	"html"
	"net/url"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/yuin/goldmark"
	"github.com/yuin/goldmark/ast"
	"github.com/yuin/goldmark/extension"
	"github.com/yuin/goldmark/parser"
	"github.com/yuin/goldmark/renderer"
	mdhtml "github.com/yuin/goldmark/renderer/html"
	"github.com/yuin/goldmark/text"
	"github.com/yuin/goldmark/util"

	"howdah/internal/account"
	"howdah/internal/chat"
	"howdah/internal/web/code"
)

// markdown is CommonMark (0.31) as a chat wants it: without raw HTML (it is shown as the text that it is), headings and
// pictures from elsewhere; a line break is a line break; addresses become links; ~~struck~~; tables.
var markdown = goldmark.New(
	goldmark.WithParser(parser.NewParser(
		parser.WithBlockParsers(
			util.Prioritized(parser.NewThematicBreakParser(), 200),
			util.Prioritized(parser.NewListParser(), 300),
			util.Prioritized(parser.NewListItemParser(), 400),
			util.Prioritized(parser.NewCodeBlockParser(), 500),
			util.Prioritized(parser.NewFencedCodeBlockParser(), 700),
			util.Prioritized(parser.NewBlockquoteParser(), 800),
			util.Prioritized(parser.NewParagraphParser(), 1000),
		),
		parser.WithInlineParsers(
			util.Prioritized(parser.NewCodeSpanParser(), 100),
			util.Prioritized(parser.NewLinkParser(), 200),
			util.Prioritized(angled{parser.NewAutoLinkParser()}, 300),
			util.Prioritized(mentionParser{}, 450),
			util.Prioritized(parser.NewEmphasisParser(), 500),
		),
		parser.WithParagraphTransformers(util.Prioritized(parser.LinkReferenceParagraphTransformer, 100)),
	)),
	goldmark.WithExtensions(extension.Strikethrough, extension.Linkify,
		extension.NewTable(extension.WithTableCellAlignMethod(extension.TableCellAlignAttribute))), // no style attributes: see the CSP
	goldmark.WithRendererOptions(mdhtml.WithHardWraps(), renderer.WithNodeRenderers(util.Prioritized(safeLinks{}, 100))),
)

// A Markdown parser's time can grow with the square of some inputs: quotes and lists that nest, brackets and stars that
// never close, all in one paragraph. A message beyond these bounds is shown as the plain text that it is; nothing that
// people write for people comes near them.
const (
	maxNesting  = 24   // block markers at the beginning of one line
	maxInline   = 1000 // characters that may begin or end something, in one paragraph outside code blocks
	maxInlines  = 6000 // ... and in the whole message
	inlineMarks = "*_~[]()`@<!|"
)

var mentionsKey = parser.NewContextKey()

// render makes a message's Markdown into HTML that holds nothing but the elements of Markdown. handles are the people
// whom it names.
func render(body string, handles []string) string {
	// "/me waves" says what its author does.
	if deed, did := chat.Deed(body); did {
		return `<div class="did">` + renderWords(deed, handles) + "</div>\n"
	}
	return renderWords(body, handles)
}

// Markdown is a message's Markdown as the pages show it, for who writes pages of their own (howdah export).
func Markdown(body string, handles []string) string { return render(body, handles) }

func renderWords(body string, handles []string) string {
	if wordsOnly(body) {
		return "<p>" + body + "</p>\n"
	}
	if costly(body) {
		return plain(body)
	}
	pc := parser.NewContext()
	if len(handles) > 0 {
		pc.Set(mentionsKey, handles)
	}
	var out bytes.Buffer
	if err := markdown.Convert([]byte(body), &out, parser.WithContext(pc)); err != nil {
		return plain(body)
	}
	return strings.ReplaceAll(out.String(), "<pre>", preStart)
}

// preStart lets who has no mouse scroll code that is wide. There is no other "<pre>" in what the parser gives: what people write is escaped.
const preStart = `<pre tabindex="0">`

func plain(body string) string {
	return "<p>" + strings.ReplaceAll(html.EscapeString(body), "\n", "<br>\n") + "</p>\n"
}

// wordsOnly tells whether a message is one line in which nothing can mean anything to Markdown, as most are: parsing it
// costs more than all else that is done for a post. A fuzz test compares with the parser.
func wordsOnly(body string) bool {
	if body == "" || strings.ContainsAny(body[:1], " \t0123456789-+=#>*|:") || strings.ContainsAny(body, "\n\r\t\x00\\`*_~[]<>&@\"|") {
		return false
	}
	if strings.Contains(body, "  ") || strings.HasSuffix(body, " ") || !utf8.ValidString(body) {
		return false
	}
	// Addresses need one of these to become links.
	return !strings.Contains(body, ":") && !strings.Contains(body, "www.")
}

// costly tells whether a message is beyond the bounds.
func costly(body string) bool {
	if len(body) < maxInline/8 {
		return false // too short to cost anything
	}
	paragraph, all := 0, 0
	fence := ""
	for line := range strings.SplitSeq(body, "\n") {
		trimmed := strings.TrimLeft(line, " ")
		if indent := len(line) - len(trimmed); indent < 4 {
			if mark := fenceOf(trimmed); fence == "" && mark != "" && !strings.Contains(trimmed[len(mark):], "`") {
				fence, paragraph = mark, 0
				continue
			} else if fence != "" && strings.HasPrefix(mark, fence) && strings.TrimSpace(trimmed[len(mark):]) == "" {
				fence = ""
				continue
			}
		}
		if fence != "" {
			continue
		}
		if strings.TrimSpace(line) == "" {
			paragraph = 0
		}
		for _, r := range line {
			if strings.ContainsRune(inlineMarks, r) {
				paragraph++
				all++
			}
		}
		if paragraph > maxInline || all > maxInlines || nesting(line) > maxNesting {
			return true
		}
	}
	return false
}

// fenceOf is the run of three or more backquotes or tildes at the beginning of a line.
func fenceOf(line string) string {
	for _, mark := range []string{"`", "~"} {
		if run := line[:len(line)-len(strings.TrimLeft(line, mark))]; len(run) >= 3 {
			return run
		}
	}
	return ""
}

// nesting is how many block markers a line begins with.
func nesting(line string) int {
	depth := 0
	for _, r := range line {
		switch {
		case strings.ContainsRune(">-*+.)", r): // of an ordered item the dot or bracket counts
			depth++
		case r != ' ' && r != '\t' && (r < '0' || r > '9'):
			return depth
		}
	}
	return depth
}

// mentionParser makes @handle of somebody who was called into a mention.
type mentionParser struct{}

var kindMention = ast.NewNodeKind("Mention")

type mention struct {
	ast.BaseInline
	text string
}

func (*mention) Kind() ast.NodeKind { return kindMention }

func (m *mention) Dump(source []byte, level int) { ast.DumpHelper(m, source, level, nil, nil) }

func (mentionParser) Trigger() []byte { return []byte{'@'} }

func (mentionParser) Parse(_ ast.Node, block text.Reader, pc parser.Context) ast.Node {
	handles, _ := pc.Get(mentionsKey).([]string)
	if len(handles) == 0 {
		return nil
	}
	line, _ := block.PeekLine()
	rest := string(line[1:])
	longest := 0
	for end, runes := 0, 0; end < len(rest) && runes < 32; runes++ {
		r, size := utf8.DecodeRuneInString(rest[end:])
		if !account.HandleRune(r) {
			break
		}
		end += size
		if !account.HandleMayEnd(rest, end) {
			continue
		}
		if handle, err := account.Handle(rest[:end]); err == nil {
			for _, h := range handles {
				if h == handle {
					longest = end
				}
			}
		}
	}
	if longest == 0 {
		return nil
	}
	block.Advance(1 + longest)
	return &mention{text: "@" + rest[:longest]}
}

// safeLinks renders what leads elsewhere: only http, https and mailto addresses, in a new window that knows nothing of
// ours; a picture is a link to it.
type safeLinks struct{}

func (s safeLinks) RegisterFuncs(reg renderer.NodeRendererFuncRegisterer) {
	reg.Register(kindMention, s.mention)
	reg.Register(ast.KindLink, s.link)
	reg.Register(ast.KindImage, s.link)
	reg.Register(ast.KindAutoLink, s.autoLink)
	reg.Register(ast.KindFencedCodeBlock, s.fenced)
}

// fenced is code, with colours where its language is named.
func (safeLinks) fenced(w util.BufWriter, source []byte, n ast.Node, entering bool) (ast.WalkStatus, error) {
	if !entering {
		return ast.WalkContinue, nil
	}
	block := n.(*ast.FencedCodeBlock)
	var text strings.Builder
	for i := range block.Lines().Len() {
		line := block.Lines().At(i)
		text.Write(line.Value(source))
	}
	_, _ = w.WriteString("<pre><code")
	language := string(block.Language(source))
	if language != "" {
		_, _ = w.WriteString(` class="language-` + html.EscapeString(language) + `"`)
	}
	_, _ = w.WriteString(">")
	coloured, ok := code.HTML(language, text.String())
	if !ok {
		coloured = string(util.EscapeHTML([]byte(text.String())))
	}
	_, _ = w.WriteString(coloured + "</code></pre>\n")
	return ast.WalkContinue, nil
}

// angled parses <addresses>, and marks them: whoever writes one so wants no card of it.
type angled struct{ parser.InlineParser }

const angledAttribute = "angled"

func (a angled) Parse(parent ast.Node, block text.Reader, pc parser.Context) ast.Node {
	n := a.InlineParser.Parse(parent, block, pc)
	if n != nil {
		n.SetAttributeString(angledAttribute, true) // safeLinks renders no attributes
	}
	return n
}

// Links are the web addresses that a message leads to, in order, each once: neither those in code, nor in what is quoted, nor in <angle brackets>.
func Links(body string) []string {
	if deed, did := chat.Deed(body); did {
		body = deed
	}
	if wordsOnly(body) || costly(body) {
		return nil
	}
	source := []byte(body)
	var found []string
	_ = ast.Walk(markdown.Parser().Parse(text.NewReader(source)), func(n ast.Node, entering bool) (ast.WalkStatus, error) {
		raw := ""
		switch l := n.(type) {
		case *ast.Blockquote:
			return ast.WalkSkipChildren, nil
		case *ast.Link:
			raw = string(l.Destination)
		case *ast.Image:
			raw = string(l.Destination)
		case *ast.AutoLink:
			if _, angled := l.AttributeString(angledAttribute); !angled && l.AutoLinkType == ast.AutoLinkURL {
				raw = string(l.URL(source))
			}
		}
		if address, ok := safeAddress(raw); ok && entering && !strings.HasPrefix(address, "mailto:") && !slices.Contains(found, address) {
			found = append(found, address)
		}
		return ast.WalkContinue, nil
	}) // the walker never fails
	return found
}

func (safeLinks) mention(w util.BufWriter, _ []byte, n ast.Node, entering bool) (ast.WalkStatus, error) {
	if entering {
		_, _ = w.WriteString(`<span class="mention">` + html.EscapeString(n.(*mention).text) + `</span>`)
	}
	return ast.WalkContinue, nil
}

func safeAddress(raw string) (string, bool) {
	u, err := url.Parse(raw)
	if err != nil {
		return "", false
	}
	switch u.Scheme {
	case "http", "https":
		return u.String(), u.Host != ""
	case "mailto":
		return u.String(), true
	}
	return "", false
}

func (safeLinks) link(w util.BufWriter, _ []byte, n ast.Node, entering bool) (ast.WalkStatus, error) {
	var raw []byte
	switch l := n.(type) {
	case *ast.Link:
		raw = l.Destination
	case *ast.Image:
		raw = l.Destination
	}
	address, ok := safeAddress(string(raw))
	switch {
	case !ok: // the words stay, the address does not
	case entering:
		openLink(w, address)
	default:
		_, _ = w.WriteString("</a>")
	}
	return ast.WalkContinue, nil
}

func openLink(w util.BufWriter, address string) {
	_, _ = w.WriteString(`<a href="` + html.EscapeString(address) + `" target="_blank" rel="noopener noreferrer nofollow">`)
}

func (safeLinks) autoLink(w util.BufWriter, source []byte, n ast.Node, entering bool) (ast.WalkStatus, error) {
	if !entering {
		return ast.WalkContinue, nil
	}
	l := n.(*ast.AutoLink)
	raw := string(l.URL(source))
	if l.AutoLinkType == ast.AutoLinkEmail && !strings.HasPrefix(strings.ToLower(raw), "mailto:") {
		raw = "mailto:" + raw
	}
	label := html.EscapeString(string(l.Label(source)))
	if address, ok := safeAddress(raw); ok {
		openLink(w, address)
		label += "</a>"
	}
	_, _ = w.WriteString(label)
	return ast.WalkContinue, nil
}
