package cli

import (
	"regexp"

	"howdah/internal/fault"
	"howdah/internal/lang"
)

// What the parser says of a command line that it does not understand, and the texts for it. What is not among these stays as it is.
var usageTexts = []struct {
	form *regexp.Regexp
	key  string
}{
	{regexp.MustCompile(`^expected one of (.+)$`), "one_of"},
	{regexp.MustCompile(`^missing flags: (.+?)(?:, .*)?$`), "missing_flags"},
	{regexp.MustCompile(`^unknown flag (\S+?)(?:, did you mean .*)?$`), "unknown_flag"},
	{regexp.MustCompile(`^unexpected argument (\S+?)(?:, did you mean .*)?$`), "unexpected"},
	{regexp.MustCompile(`^expected "(.+)"$`), "expected"},
	{regexp.MustCompile(`^(.+) can't be used together$`), "together"},
}

// usage says in the person's language what is wrong with a command line.
func usage(l lang.Locale, said string) string {
	if l == lang.English {
		return said
	}
	for _, u := range usageTexts {
		if m := u.form.FindStringSubmatch(said); m != nil {
			return l.T("cli.usage."+u.key, fault.Args{"what": m[1]})
		}
	}
	return said
}
