// Package ui is what people see: the templates of every page, the stylesheet and the scripts, all inside the binary.
//
// The door (package web) fills one of the page structs of pages.go and calls Render. Pages are whole without scripts:
// every form is a plain POST. The room page comes alive through ES modules in static/, which clone the same templates
// that the server ran (inside <template> elements), so that the two can never drift apart.
package ui

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"html/template"
	"io"
	"io/fs"
	"mime"
	"path"
	"regexp"
	"sort"
	"strings"
	"sync"

	"github.com/tdewolff/minify/v2"
	"github.com/tdewolff/minify/v2/js"

	"howdah/internal/fault"
	"howdah/internal/lang"
)

//go:embed templates
var templateFiles embed.FS

//go:embed static
var staticFiles embed.FS

//go:embed ui.css
var stylesheet string

// File is one static file, ready to be sent.
type File struct {
	Path string // "room.js"
	Type string // its Content-Type
	Raw  []byte
	Gzip []byte // Raw compressed; nil where that saves nothing
}

// Localized is page data that knows its language. Every page struct does, through Chrome.
type Localized interface{ Language() lang.Locale }

// css is the stylesheet as pages carry it: it is written for people, and sent without its comments and spaces.
var css = sync.OnceValue(func() string {
	text := regexp.MustCompile(`(?s)/\*.*?\*/`).ReplaceAllString(stylesheet, "")
	text = regexp.MustCompile(`\s+`).ReplaceAllString(text, " ")
	text = regexp.MustCompile(` ?([{};,]) ?`).ReplaceAllString(text, "$1")
	return strings.TrimSpace(strings.ReplaceAll(text, ": ", ":")) // a selector never has a space after its colon
})

// StyleHash is the CSP source of the stylesheet that every page carries in its <style>, without quotes: sha256-...
var StyleHash = sync.OnceValue(func() string {
	sum := sha256.Sum256([]byte(css()))
	return "sha256-" + base64.StdEncoding.EncodeToString(sum[:])
})

type files struct {
	hash string
	all  map[string]func() File // each is packed when it is first asked for
}

// The modules import each other by relative names, so all of them live under one hash: that of the whole set.
var static = sync.OnceValue(func() files {
	set := files{all: map[string]func() File{}}
	sum := sha256.New()
	err := fs.WalkDir(staticFiles, "static", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		raw, err := staticFiles.ReadFile(name)
		if err != nil {
			return err
		}
		at := strings.TrimPrefix(name, "static/")
		fmt.Fprintf(sum, "%s %d\n", at, len(raw))
		sum.Write(raw)
		set.all[at] = sync.OnceValue(func() File { return pack(at, raw) })
		return nil
	})
	if err != nil {
		panic(err) // embedded: cannot be missing in a binary that was built
	}
	set.hash = hex.EncodeToString(sum.Sum(nil))[:12]
	return set
})

// pack makes a file as it is sent: scripts are written for people, and sent without their comments and long names.
func pack(name string, raw []byte) File {
	f := File{Path: name, Type: contentType(name), Raw: raw}
	if path.Ext(name) == ".js" {
		var short bytes.Buffer
		if err := (&js.Minifier{}).Minify(minify.New(), &short, bytes.NewReader(raw), nil); err != nil {
			panic(fmt.Errorf("%s: %w", name, err)) // embedded: a test packs them all
		}
		f.Raw = short.Bytes()
	}
	if packed := compress(f.Raw); len(packed) < len(f.Raw) {
		f.Gzip = packed
	}
	return f
}

func contentType(name string) string {
	switch path.Ext(name) { // not from the system's tables, which may say anything
	case ".js":
		return "text/javascript; charset=utf-8"
	case ".svg":
		return "image/svg+xml"
	}
	return mime.TypeByExtension(path.Ext(name))
}

func compress(raw []byte) []byte {
	var b bytes.Buffer
	w, _ := gzip.NewWriterLevel(&b, gzip.BestCompression) // the level is a valid constant
	if _, err := w.Write(raw); err != nil {
		return raw
	}
	if err := w.Close(); err != nil {
		return raw
	}
	return b.Bytes()
}

// URL is where a static file is served: /static/{hash}/{path}. It may be cached for ever.
func URL(name string) string { return "/static/" + static().hash + "/" + name }

// Static finds the file behind the two parts of its address. With another hash it still answers, for pages that were
// open while the server was replaced, but current is false: such an answer must not be cached.
func Static(hash, name string) (file File, current, ok bool) {
	set := static()
	packed, ok := set.all[name]
	if ok {
		file = packed()
	}
	return file, hash == set.hash, ok
}

// Files lists every static file, by path.
func Files() []File {
	var list []File
	for _, packed := range static().all {
		list = append(list, packed())
	}
	sort.Slice(list, func(i, j int) bool { return list[i].Path < list[j].Path })
	return list
}

// A template is parsed once per language: so t needs no page data, and works inside every nested template.
var pages = map[lang.Locale]func() *template.Template{}

func init() {
	for _, locale := range lang.Locales {
		pages[locale] = sync.OnceValue(func() *template.Template {
			return template.Must(template.New("").Funcs(functions(locale)).ParseFS(templateFiles, "templates/*.html"))
		})
	}
}

func functions(locale lang.Locale) template.FuncMap {
	return template.FuncMap{
		// t "web.key" "name" value ...: the text in the page's language.
		"t": func(key string, pairs ...any) (string, error) {
			args := fault.Args{}
			for i := 0; i+1 < len(pairs); i += 2 {
				name, ok := pairs[i].(string)
				if !ok {
					return "", fmt.Errorf("t %q: argument %d is not a name", key, i)
				}
				args[name] = pairs[i+1]
			}
			return locale.T(key, args), nil
		},
		"css":      func() template.CSS { return template.CSS(css()) },
		"static":   URL,
		"modules":  modules,
		"keyboard": func() any { return Keyboard },
		"initial":  initial,
		"hue":      hue,
		"dict":     dict,
		"grouped":  grouped,
		"session":  SessionURL,
		"blank":    func() line { return line{} },
		"noalert": func(watch bool) alertForm {
			f := alertForm{Alert: Alert{State: "open", Cover: &Cover{}}, Plan: "/"}
			if watch {
				f.Look = "/watch"
			}
			return f
		},
		"nofile": nofile,
		"nocard": nocard,
		"nofoot": func() foot { return foot{} },
		"nomark": func() marks { return marks{Chips: []chip{{}}} },
		"nopin":  func() line { return line{Message: Message{PinnedBy: "?"}} },
		"noway":  func() wayForm { return wayForm{} },
		"noroom": func() roomEntry { return roomEntry{} },
	}
}

// dict lets a template hand several things to another one.
func dict(pairs ...any) (map[string]any, error) {
	if len(pairs)%2 != 0 {
		return nil, fmt.Errorf("dict: %d arguments", len(pairs))
	}
	m := map[string]any{}
	for i := 0; i < len(pairs); i += 2 {
		key, ok := pairs[i].(string)
		if !ok {
			return nil, fmt.Errorf("dict: %v is not a name", pairs[i])
		}
		m[key] = pairs[i+1]
	}
	return m, nil
}

// texts are the ones that the scripts speak: plain ones as strings, counting ones as their plural forms.
func texts(locale lang.Locale) map[string]any {
	out := map[string]any{}
	for key, forms := range locale.Under("web.js.") {
		if len(forms) == 1 {
			out[key] = forms["other"]
		} else {
			out[key] = forms
		}
	}
	return out
}

// Render writes the page of this name ("room", "sign-in", ...: the names stand at the structs in pages.go) in the
// language of its data. Nothing is written when the template fails: half a page is worse than an error.
func Render(w io.Writer, name string, data Localized) error {
	set, ok := pages[data.Language()]
	if !ok {
		set = pages[lang.English]
	}
	var page bytes.Buffer
	if err := set().ExecuteTemplate(&page, name, data); err != nil {
		return fmt.Errorf("page %s: %w", name, err)
	}
	_, err := page.WriteTo(w)
	return err
}
