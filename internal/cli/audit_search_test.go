package cli

import "testing"

// TestATerminalIsGivenOneLineOfWhatOthersNamed: names and notes are anybody's; they move no cursor, turn nothing around, and hide nothing.
func TestATerminalIsGivenOneLineOfWhatOthersNamed(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{
		"anna":                           "anna",
		"\x1b[2J\x1b[Hroot":              "[2J [Hroot",
		"a\nb\r\n\tc":                    "a b c",
		"an\u200bna":                     "an na", // a second anna
		"\ufeffroot\u200e":               "root",
		"x\u202eda\u2066m\u061cin":       "x da m in",
		"a\u0085b\u2028c\u2029d\u009b2J": "a b c d 2J",
		"漢字 ok":                          "漢字 ok",
	} {
		if have := oneLine(name); have != want {
			t.Errorf("%q is shown as %q, not %q", name, have, want)
		}
	}
}
