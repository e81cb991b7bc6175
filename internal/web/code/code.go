// Package code colours source text for pages: as HTML with a handful of classes, and never for longer than somebody waits. The languages are descriptions of chroma
// (github.com/alecthomas/chroma), of which only those are in here that people paste into a chat: all of them would be read whenever any command of howdah starts.
package code

import (
	"embed"
	"hash/maphash"
	"html"
	"io/fs"
	"strings"
	"sync"
	"time"

	"github.com/alecthomas/chroma/v2"
)

//go:embed lexers/*.xml
var files embed.FS

// Bounds. The descriptions are expressions that may try very many ways through a text that was made for that; so one that is not done in time is plain, for good.
const (
	longest  = 16 << 10               // bytes of one text
	patience = 150 * time.Millisecond // that a caller waits
	atMost   = 5 * time.Second        // that one text is worked at, after nobody waits for it any more
	remember = 4 << 20                // bytes of what was coloured lately, about
)

var lexers = sync.OnceValue(func() *chroma.LexerRegistry {
	registry := chroma.NewLexerRegistry()
	names, _ := fs.Glob(files, "lexers/*.xml") // the pattern is a valid constant
	for _, name := range names {
		lexer, err := chroma.NewXMLLexer(files, name)
		if err != nil {
			continue // a test reads them all
		}
		registry.Register(lexer)
	}
	if golang, err := chroma.NewLexer(&chroma.Config{Name: "Go", Aliases: []string{"go", "golang"}}, golang); err == nil {
		registry.Register(golang)
	}
	return registry
})

// golang is chroma's, without templates in strings, and with strings that cannot be read in many ways.
func golang() chroma.Rules {
	word := func(words ...string) string { return `(?:` + strings.Join(words, "|") + `)\b` }
	return chroma.Rules{"root": {
		{Pattern: `\s+`, Type: chroma.TextWhitespace},
		{Pattern: `//[^\n]*`, Type: chroma.CommentSingle},
		{Pattern: `/\*[^*]*\*+(?:[^/*][^*]*\*+)*/`, Type: chroma.CommentMultiline},
		{Pattern: word("break", "case", "chan", "const", "continue", "default", "defer", "else", "fallthrough", "for", "func", "go", "goto", "if", "import", "interface", "map", "package",
			"range", "return", "select", "struct", "switch", "type", "var"), Type: chroma.Keyword},
		{Pattern: word("true", "false", "iota", "nil"), Type: chroma.KeywordConstant},
		{Pattern: word("any", "bool", "byte", "comparable", "complex64", "complex128", "error", "float32", "float64", "int", "int8", "int16", "int32", "int64", "rune", "string", "uint", "uint8",
			"uint16", "uint32", "uint64", "uintptr"), Type: chroma.KeywordType},
		{Pattern: `\.?\d[\w.]*`, Type: chroma.LiteralNumber},
		{Pattern: `'(?:\\.|[^'\\\n])*'`, Type: chroma.LiteralStringChar},
		{Pattern: "`[^`]*`", Type: chroma.LiteralString},
		{Pattern: `"(?:\\.|[^"\\\n])*"`, Type: chroma.LiteralString},
		{Pattern: `[^\W\d]\w*(?=\s*\()`, Type: chroma.NameFunction},
		{Pattern: `[^\W\d]\w*`, Type: chroma.NameOther},
		{Pattern: `[^\w\s]`, Type: chroma.Punctuation},
	}}
}

// Known tells whether texts in a language can be coloured, by the name that stands behind the fence.
func Known(language string) bool { return lexers().Get(strings.ToLower(language)) != nil }

// class is how a kind of token looks: k what the language says itself, s texts, c comments, m numbers, f names that do something or that mean a kind, i and d lines
// that came and went; "" as all else.
func class(t chroma.TokenType) string {
	switch {
	case t == chroma.KeywordType, t.InSubCategory(chroma.NameFunction), t.InSubCategory(chroma.NameBuiltin), t == chroma.NameClass, t == chroma.NameTag, t == chroma.NameDecorator, t == chroma.NameAttribute:
		return "f"
	case t.InCategory(chroma.Keyword), t == chroma.OperatorWord, t == chroma.CommentPreproc, t == chroma.GenericHeading, t == chroma.GenericSubheading:
		return "k"
	case t.InCategory(chroma.Comment):
		return "c"
	case t.InSubCategory(chroma.LiteralString):
		return "s"
	case t.InSubCategory(chroma.LiteralNumber):
		return "m"
	case t == chroma.GenericInserted:
		return "i"
	case t == chroma.GenericDeleted:
		return "d"
	}
	return ""
}

// colour writes a text with its classes; ok is false where it took too long, or the description gave back something else than the text.
func colour(lexer chroma.Lexer, text string, within time.Duration) (out string, ok bool) {
	defer func() {
		if recover() != nil { // as chroma says that errors within come
			out, ok = "", false
		}
	}()
	until := time.Now().Add(within)
	tokens, err := lexer.Tokenise(nil, text)
	if err != nil {
		return "", false
	}
	var b, said strings.Builder
	open := ""
	for token := tokens(); token != chroma.EOF; token = tokens() {
		if time.Now().After(until) {
			return "", false
		}
		said.WriteString(token.Value)
		c := class(token.Type)
		if strings.TrimSpace(token.Value) == "" {
			c = open // blanks have no colour
		}
		if c != open {
			if open != "" {
				b.WriteString("</span>")
			}
			if open = c; c != "" {
				b.WriteString(`<span class="` + c + `">`)
			}
		}
		b.WriteString(html.EscapeString(token.Value))
	}
	if open != "" {
		b.WriteString("</span>")
	}
	return b.String(), said.String() == text
}

// What was coloured lately, with what cannot be: half of it is forgotten when it is too much.
var (
	seed    = maphash.MakeSeed()
	working = make(chan struct{}, 2)
	lately  = struct {
		sync.Mutex
		size int
		now  map[key]string
		then map[key]string
	}{now: map[key]string{}}
)

type key struct {
	language string
	sum      uint64
	length   int
}

func find(k key) (string, bool) {
	lately.Lock()
	defer lately.Unlock()
	if found, ok := lately.now[k]; ok {
		return found, true
	}
	found, ok := lately.then[k]
	return found, ok
}

func keep(k key, coloured string) {
	lately.Lock()
	defer lately.Unlock()
	if lately.size > remember/2 {
		lately.then, lately.now, lately.size = lately.now, map[key]string{}, 0
	}
	lately.now[k] = coloured
	lately.size += len(coloured) + 100
}

// HTML is a text of a language, coloured and escaped. ok is false where the language is not known, the text is too long, or it cannot be coloured in time: then it is
// shown as it is. What could not be coloured in time now may be at the next call.
func HTML(language, text string) (coloured string, ok bool) {
	if len(text) > longest || len(language) > 40 {
		return "", false
	}
	lexer := lexers().Get(strings.ToLower(language))
	if lexer == nil {
		return "", false
	}
	k := key{lexer.Config().Name, maphash.String(seed, text), len(text)}
	if found, ok := find(k); ok {
		return found, found != ""
	}
	wait := time.NewTimer(patience)
	defer wait.Stop()
	select {
	case working <- struct{}{}:
	case <-wait.C:
		return "", false
	}
	done := make(chan string, 1)
	go func() { // an expression that is being tried cannot be stopped, but for by itself
		defer func() { <-working }()
		out, _ := colour(lexer, text, atMost)
		keep(k, out)
		done <- out
	}()
	select {
	case out := <-done:
		return out, out != ""
	case <-wait.C:
		return "", false
	}
}
