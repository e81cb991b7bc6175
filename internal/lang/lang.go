// Package lang speaks to people in their language: English and Traditional Chinese (as used in Taiwan).
//
// A catalog is a flat JSON object of key -> text, one file per door (cli, fault, web) and language. A text may name
// {arguments}; a text that counts is an object of CLDR plural forms ({"one": ..., "other": ...}), chosen by the
// argument "n". Every key exists in every language; a test compares them.
package lang

import (
	"embed"
	"encoding/json"
	"fmt"
	"path"
	"sort"
	"strings"
	"sync"

	"golang.org/x/text/feature/plural"
	"golang.org/x/text/language"

	"howdah/internal/fault"
)

//go:embed catalog
var files embed.FS

// Locale is one of the languages that Howdah speaks, as a BCP 47 tag.
type Locale string

// The languages, first the one that stands in for all others.
const (
	English Locale = "en"
	Chinese Locale = "zh-TW"
)

// Locales lists the languages, the default first.
var Locales = []Locale{English, Chinese}

// Name is what the language calls itself.
func (l Locale) Name() string {
	if l == Chinese {
		return "繁體中文"
	}
	return "English"
}

type text map[string]string // plural form -> text; "other" always

// Both are made when somebody needs words, and not at the start of the program: PostgreSQL calls it for every WAL segment.
var (
	catalogs = sync.OnceValue(load)
	matcher  = sync.OnceValue(func() language.Matcher {
		return language.NewMatcher([]language.Tag{language.English, language.MustParse("zh-TW")})
	})
)

func load() map[Locale]map[string]text {
	all := map[Locale]map[string]text{}
	for _, locale := range Locales {
		all[locale] = map[string]text{}
		dir := path.Join("catalog", string(locale))
		entries, err := files.ReadDir(dir)
		if err != nil {
			panic(err) // embedded: cannot be missing in a binary that was built
		}
		for _, e := range entries {
			raw, err := files.ReadFile(path.Join(dir, e.Name()))
			if err != nil {
				panic(err)
			}
			if err := parse(raw, all[locale]); err != nil {
				panic(fmt.Errorf("%s/%s: %w", dir, e.Name(), err))
			}
		}
	}
	return all
}

func parse(raw []byte, into map[string]text) error {
	var entries map[string]json.RawMessage
	if err := json.Unmarshal(raw, &entries); err != nil {
		return err
	}
	for key, value := range entries {
		if _, twice := into[key]; twice {
			return fmt.Errorf("%q stands twice", key)
		}
		var one string
		if json.Unmarshal(value, &one) == nil {
			into[key] = text{"other": one}
			continue
		}
		forms := text{}
		if err := json.Unmarshal(value, &forms); err != nil {
			return fmt.Errorf("%q: %w", key, err)
		}
		into[key] = forms
	}
	return nil
}

// Match chooses the language for wishes in the form of an Accept-Language header ("zh-Hant-TW,zh;q=0.8"), a POSIX
// locale ("zh_TW.UTF-8") or a plain tag; the first wish that leads to one of ours wins, English where none does.
func Match(wishes ...string) Locale {
	for _, wish := range wishes {
		if !strings.ContainsAny(wish, ",;") {
			wish, _, _ = strings.Cut(wish, ".") // POSIX: drop the encoding, but not the fraction of "q=0.7"
		}
		wish = strings.ReplaceAll(wish, "_", "-")
		if wish == "" || wish == "C" || wish == "POSIX" {
			continue
		}
		tags, _, err := language.ParseAcceptLanguage(wish)
		if err != nil || len(tags) == 0 {
			continue
		}
		for _, tag := range tags { // one at a time: given all, the matcher lets an exotic first wish end in English
			if _, index, confidence := matcher().Match(tag); confidence >= language.Low {
				return Locales[index]
			}
		}
	}
	return English
}

// T is the text under key in this language, with its arguments filled in. A key that no catalog has comes back as
// itself, so that a gap is seen and never hides a message.
func (l Locale) T(key string, args ...fault.Args) string {
	forms, ok := catalogs()[l][key]
	if !ok {
		if forms, ok = catalogs()[English][key]; !ok {
			return key
		}
	}
	var values fault.Args
	if len(args) > 0 {
		values = args[0]
	}
	chosen := forms["other"]
	if n, counts := values["n"]; counts && len(forms) > 1 {
		if form, ok := forms[l.form(n)]; ok {
			chosen = form
		}
	}
	if !strings.Contains(chosen, "{") {
		return chosen
	}
	pairs := make([]string, 0, 2*len(values))
	for name, value := range values {
		pairs = append(pairs, "{"+name+"}", fmt.Sprint(value))
	}
	return strings.NewReplacer(pairs...).Replace(chosen) // at once: a value may hold what looks like an argument
}

func (l Locale) form(n any) string {
	count, ok := asInt(n)
	if !ok || count < 0 {
		return "other"
	}
	tag := language.English
	if l == Chinese {
		tag = language.MustParse("zh-TW")
	}
	if plural.Cardinal.MatchPlural(tag, count, 0, 0, 0, 0) == plural.One {
		return "one"
	}
	return "other"
}

func asInt(n any) (int, bool) {
	switch v := n.(type) {
	case int:
		return v, true
	case int32:
		return int(v), true
	case int64:
		return int(v), true
	}
	return 0, false
}

// Fault is what people read of an error: the message, and what to do next ("" where there is nothing to add).
func (l Locale) Fault(err error) (message, hint string) {
	f := fault.Of(err)
	key := "fault." + f.Key
	message = l.T(key, f.Args)
	if _, ok := catalogs()[English][key+".hint"]; ok {
		hint = l.T(key+".hint", f.Args)
	}
	return message, hint
}

// Under is every text whose key starts with prefix, keys without it: what a page hands to its scripts.
func (l Locale) Under(prefix string) map[string]map[string]string {
	out := map[string]map[string]string{}
	for key, forms := range catalogs()[l] {
		if short, ok := strings.CutPrefix(key, prefix); ok {
			out[short] = forms
		}
	}
	return out
}

// Keys lists every key of this language, sorted.
func (l Locale) Keys() []string {
	keys := make([]string, 0, len(catalogs()[l]))
	for key := range catalogs()[l] {
		keys = append(keys, key)
	}
	sort.Strings(keys)
	return keys
}
