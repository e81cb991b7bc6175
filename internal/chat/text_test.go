package chat

import (
	"strings"
	"testing"
	"unicode/utf8"

	"howdah/internal/account"
)

// FuzzCandidates: whatever people write, mentions are found in bounded number, each a valid handle at an @ of the text,
// the longest first; and a cleaned body stays as it is when it is cleaned again.
func FuzzCandidates(f *testing.F) {
	for _, seed := range []string{"@ann", "@小明你好", "a@b.c", "`@x` @yy", "@@@@", "\r\n hi \r\n", "@\u0301\u0301", strings.Repeat("@ab ", 80)} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, body string) {
		clean, err := cleanBody(body)
		if err != nil {
			return
		}
		if again, err := cleanBody(clean); err != nil || again != clean {
			t.Fatalf("%q became %q, then %q (%v)", body, clean, again, err)
		}
		places := map[int]int{}
		for _, c := range candidates(clean) {
			if clean[c.start] != '@' {
				t.Fatalf("%q: no @ at %d", clean, c.start)
			}
			if again, err := account.Handle(c.handle); err != nil || again != c.handle {
				t.Fatalf("%q is no handle: %q %v", c.handle, again, err)
			}
			n := utf8.RuneCountInString(c.handle)
			if n > 4*32 {
				t.Fatalf("a handle of %d characters", n)
			}
			places[c.start]++
		}
		if len(places) > maxMentions {
			t.Fatalf("%d mentions", len(places))
		}
	})
}
