package files

import (
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// longestName is what every file system takes, in bytes of UTF-8.
const longestName = 255

// CleanName is a file's name as it is kept: the last part of what looks like a path, on one line, without what would not be seen or would turn its letters around, at most 255 bytes with
// its ending kept. Where nothing is left it is "file".
func CleanName(name string) string {
	name = strings.ToValidUTF8(name, "\ufffd")
	if i := strings.LastIndexAny(name, `/\`); i >= 0 {
		name = name[i+1:]
	}
	name = strings.Map(func(r rune) rune {
		switch {
		case r == '\u200d', r == '\u200c': // in emoji, and in Persian and Hindi
			return r
		case unicode.IsSpace(r):
			return ' '
		case unicode.Is(unicode.Cc, r), unicode.Is(unicode.Cf, r), unicode.Is(unicode.Zl, r), unicode.Is(unicode.Zp, r), unicode.Is(unicode.Co, r):
			return -1
		}
		return r
	}, name)
	name = strings.Join(strings.Fields(norm.NFC.String(name)), " ")
	if len(name) > longestName {
		end := ending(name)
		if len(end) > 20 {
			end = ""
		}
		if end != "" {
			end = "." + end
		}
		name = strings.TrimRight(cut(name, longestName-len(end)), " ") + end
	}
	name = strings.TrimRight(name, ". ") // Windows would drop them, and another ending with them
	if strings.Trim(name, ". \u200c\u200d") == "" {
		return "file"
	}
	return name
}

// cut shortens a text to so many bytes, at a character.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}

// ending is what stands behind the last dot; "" when nothing does.
func ending(name string) string {
	if i := strings.LastIndexByte(name, '.'); i > 0 {
		return name[i+1:]
	}
	return ""
}

// Endings are endings of names as people write them (".EXE", "exe") in the form of Limits.
func Endings(list []string) (out []string) {
	for _, one := range list {
		if one = strings.ToLower(strings.TrimLeft(strings.TrimSpace(one), "*.")); one != "" {
			out = append(out, one)
		}
	}
	return out
}

// size is a number of bytes in words.
func size(n int64) string {
	for i, unit := range []string{"TiB", "GiB", "MiB", "KiB"} {
		if one := int64(1) << (40 - 10*i); n >= one {
			return strings.TrimSuffix(strconv.FormatFloat(float64(n)/float64(one), 'f', 1, 64), ".0") + " " + unit
		}
	}
	return strconv.FormatInt(n, 10) + " B"
}
