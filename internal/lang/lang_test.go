package lang

import (
	"errors"
	"regexp"
	"slices"
	"testing"

	"howdah/internal/fault"
)

var argument = regexp.MustCompile(`\{[a-z_]+\}`)

func arguments(forms text) []string {
	var names []string
	for _, one := range forms {
		names = append(names, argument.FindAllString(one, -1)...)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

func TestEveryLanguageSaysTheSameThings(t *testing.T) {
	for _, locale := range Locales[1:] {
		for key, english := range catalogs()[English] {
			other, ok := catalogs()[locale][key]
			if !ok {
				t.Errorf("%s lacks %q", locale, key)
				continue
			}
			if want, have := arguments(english), arguments(other); !slices.Equal(want, have) {
				t.Errorf("%s %q names %v, English names %v", locale, key, have, want)
			}
		}
		for key := range catalogs()[locale] {
			if _, ok := catalogs()[English][key]; !ok {
				t.Errorf("English lacks %q, which %s has", key, locale)
			}
		}
	}
}

func TestMatchFollowsBrowserAndShell(t *testing.T) {
	for wish, want := range map[string]Locale{
		"zh-Hant-TW,zh;q=0.8,en;q=0.5": Chinese,
		"zh-HK":                        Chinese,
		"zh_TW.UTF-8":                  Chinese,
		"en-GB,zh-TW;q=0.3":            English,
		"de-DE,zh-TW;q=0.7":            Chinese,
		"fr":                           English,
		"C.UTF-8":                      English,
		"":                             English,
		";;;\x00":                      English,
	} {
		if have := Match(wish); have != want {
			t.Errorf("Match(%q) = %s, want %s", wish, have, want)
		}
	}
	if have := Match("C", "", "zh_TW"); have != Chinese {
		t.Errorf("the first wish that means something should win, got %s", have)
	}
}

func TestPluralsAndArguments(t *testing.T) {
	catalogs()[English]["test.unread"] = text{"one": "{n} unread message in {room}", "other": "{n} unread messages in {room}"}
	t.Cleanup(func() { delete(catalogs()[English], "test.unread") })
	if have := English.T("test.unread", fault.Args{"n": 1, "room": "lobby"}); have != "1 unread message in lobby" {
		t.Error(have)
	}
	if have := English.T("test.unread", fault.Args{"n": 3, "room": "lobby"}); have != "3 unread messages in lobby" {
		t.Error(have)
	}
}

func TestFaultNeverShowsItsCause(t *testing.T) {
	message, hint := English.Fault(errors.New("password=hunter2 at 10.0.0.7"))
	if message == "" || hint == "" || regexp.MustCompile("hunter2").MatchString(message+hint) {
		t.Errorf("message %q hint %q", message, hint)
	}
}

func TestAValueThatLooksLikeAnArgumentIsShown(t *testing.T) {
	for range 20 { // maps have no order
		if have := English.T("hook.github.comment", fault.Args{"who": "{on}", "did": "{who}", "on": "{did}"}); have != "💬 {on} {who} {did}" {
			t.Fatal(have)
		}
	}
}
