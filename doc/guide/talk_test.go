package guide

import (
	"os"
	"strings"
	"testing"

	"howdah/internal/chat"
	"howdah/internal/lang"
	"howdah/internal/web/ui"
)

// TestTheTablesOfKeysAndCommandsAreWhole: the page about talking has those that there are, in their words, and no others.
func TestTheTablesOfKeysAndCommandsAreWhole(t *testing.T) {
	t.Parallel()
	for page, locale := range map[string]lang.Locale{"talk.md": lang.English, "talk.zh-TW.md": lang.Chinese} {
		raw, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		text := string(raw)
		want := 0
		row := func(first, second string) {
			t.Helper()
			want++
			if line := "| " + first + " | " + second + " |\n"; strings.Count(text, line) != 1 {
				t.Errorf("%s: there is no line %s", page, line)
			}
		}
		for _, name := range append([]string{"me"}, names()...) {
			use, does, _ := strings.Cut(locale.T("chat.command."+name), " - ")
			row("`"+use+"`", does)
		}
		for _, group := range ui.Keyboard {
			if !strings.Contains(text, "### "+locale.T(group.Where)+"\n") {
				t.Errorf("%s: no heading %q", page, locale.T(group.Where))
			}
			for _, key := range group.Keys {
				row("`"+strings.Join(key.Keys, "`, `")+"`", locale.T(key.Does))
			}
		}
		if have := strings.Count(text, "\n| `"); have != want {
			t.Errorf("%s: %d lines of %d that there should be", page, have, want)
		}
	}
}

func names() (all []string) {
	for _, c := range chat.Commands {
		all = append(all, c.Name)
	}
	return all
}
