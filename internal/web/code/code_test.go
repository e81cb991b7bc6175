package code

import (
	"html"
	"io/fs"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/alecthomas/chroma/v2"
)

// ages are what a busy machine may need.
const ages = time.Hour

func TestLanguagesAreColoured(t *testing.T) {
	t.Parallel()
	for language, want := range map[string][2]string{
		"go":         {"func f() { return \"a\\\"<b>\" } // why", `<span class="k">func </span><span class="f">f</span>() { <span class="k">return </span><span class="s">&#34;a\&#34;&lt;b&gt;&#34; </span>} <span class="c">// why</span>`},
		"sql":        {"select 42 -- x", `<span class="k">select </span><span class="m">42 </span><span class="c">-- x</span>`},
		"SQL":        {"select 1", `<span class="k">select </span><span class="m">1</span>`},
		"json":       {`{"a": true}`, `<span class="f">&#34;a&#34;</span>`},
		"diff":       {"+in\n-out\n", "<span class=\"i\">+in\n</span><span class=\"d\">-out\n</span>"},
		"dockerfile": {"RUN echo 'x'", `<span class="k">RUN`},
		"html":       {"<script>let x = 1</script>", `<span class="k">let`},
		"py":         {"def f(x): return None", `<span class="k">def `},
		"c++":        {"int x = 1;", `<span class="f">int `},
		"postgres":   {"SELECT now()", `<span class="k">SELECT`},
	} {
		if !Known(language) {
			t.Errorf("%s is not known", language)
			continue
		}
		if have, ok := colour(lexers().Get(strings.ToLower(language)), want[0], ages); !ok || !strings.Contains(have, want[1]) {
			t.Errorf("%s: %t %s", language, ok, have)
		}
	}
	for _, language := range []string{"", "text", "mermaid", "\"><script>", strings.Repeat("g", 1000)} {
		if _, ok := HTML(language, "x"); ok {
			t.Errorf("%.20q is a language", language)
		}
	}
	if _, ok := HTML("go", strings.Repeat("x ", longest)); ok {
		t.Error("a text without end was coloured")
	}
}

var span = regexp.MustCompile(`</?span[^>]*>`)

// TestEveryDescriptionIsReadAndKeepsEveryCharacter: also on what it was not made for.
func TestEveryDescriptionIsReadAndKeepsEveryCharacter(t *testing.T) {
	t.Parallel()
	names, err := fs.Glob(files, "lexers/*.xml")
	if err != nil || len(names) < 25 {
		t.Fatal(names, err)
	}
	text := "# a\n/* b */ 'c' \"d\\\" <e f=\"g\">{{ h }}</e>\n\tif (x) { 你好 😀 } // $i `j` @k\n--l 1.5e3 0xff\n"
	for _, name := range names {
		lexer, err := chroma.NewXMLLexer(files, name)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		registered := lexers().Get(lexer.Config().Aliases[0])
		if have, ok := colour(registered, text, ages); !ok || html.UnescapeString(span.ReplaceAllString(have, "")) != text {
			t.Errorf("%s: %t %s", name, ok, have)
		}
	}
}

// TestATextThatWasMadeToTakeForEverDoesNot: whoever waits is let go, and the next one does not wait at all.
func TestATextThatWasMadeToTakeForEverDoesNot(t *testing.T) {
	t.Parallel()
	for _, text := range []string{strings.Repeat(`\`, longest-1), `"` + strings.Repeat(`\\`, longest/2-1), strings.Repeat("(a*", longest/3), strings.Repeat("<a ", longest/3), "/*" + strings.Repeat("*", longest-2)} {
		for _, language := range []string{"go", "js", "sql", "css", "ruby", "perl", "html", "bash", "yaml", "swift"} {
			began := time.Now()
			_, _ = HTML(language, text)
			if took := time.Since(began); took > time.Minute { // of a busy machine; without bounds it would be years
				t.Errorf("%s took %v for %.10q", language, took, text)
			}
		}
	}
}

func FuzzHTML(f *testing.F) {
	f.Add("go", "x := `a` + \"b\"")
	f.Add("html", "<a href='x'>&amp;</a>")
	f.Fuzz(func(t *testing.T, language, text string) {
		have, ok := HTML(language, text)
		if plain := span.ReplaceAllString(have, ""); ok && (strings.ContainsAny(plain, "<>\"'") || html.UnescapeString(plain) != text) {
			t.Errorf("%q became %q", text, have)
		}
	})
}
