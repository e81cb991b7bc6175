// Package search finds messages by what is in them. It says what a text and a question consist of, when the one answers the other, and how the index over
// many texts is written; it knows no database.
//
// A text is taken apart into atoms. Where words are written with blanks between them, a word is an atom: accents and case do not count, and neither does
// what stands between. Where they are not (Chinese, Japanese, Korean, Thai ... and pictures such as emoji), a whole run of characters is one, and any part of
// it is found. Match is the definition of what is found; the index (see Builder) only says where to look, and may name too much, never too little.
package search

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// atom is a word, or a run of characters that are written without blanks.
type atom struct {
	text  string // folded
	dense bool   // any part of it counts
	from  int    // where it stands in the text as written, in bytes
	to    int
	runes []span // of a dense one, where each of its characters stands as written
}

type span struct{ from, to int }

// Span is a part of a text that answers a question, in bytes.
type Span struct{ From, To int }

// atoms takes a text apart, in order. places: note where the characters of dense atoms stand.
func atoms(text string, places bool, visit func(atom)) {
	var now atom
	var folded []byte
	flush := func() {
		if len(folded) > 0 {
			now.text = string(folded)
			visit(now)
		}
		now, folded = atom{}, folded[:0]
	}
	for i := 0; i < len(text); {
		// What Unicode holds for one character may be several: a letter and the accents on it.
		n := 1
		if c := text[i]; c >= utf8.RuneSelf || i+1 < len(text) && text[i+1] >= utf8.RuneSelf {
			n = max(norm.NFKC.NextBoundaryInString(text[i:], true), 1)
		}
		part := text[i : i+n]
		if n > 1 && !norm.NFKC.IsNormalString(part) {
			part = norm.NFKC.String(part)
		}
		for _, r := range part {
			switch class(r) {
			case skipped:
			case between:
				flush()
			case dense:
				if !now.dense {
					flush()
					now = atom{dense: true, from: i}
				}
				folded, now.to = utf8.AppendRune(folded, r), i+n
				if places {
					now.runes = append(now.runes, span{i, i + n})
				}
			case word:
				if now.dense || len(folded) == 0 {
					flush()
					now.from = i
				}
				folded, now.to = fold(folded, r), i+n
			}
		}
		i += n
	}
	flush()
}

// The classes of characters.
const (
	between = iota // parts words
	word
	dense
	skipped // is not there: joiners, accents that stand alone, tones of skin
)

// crowded are the scripts that are written without blanks.
var crowded = []*unicode.RangeTable{unicode.Han, unicode.Hiragana, unicode.Katakana, unicode.Hangul, unicode.Bopomofo, unicode.Thai, unicode.Lao, unicode.Khmer, unicode.Myanmar}

func class(r rune) int {
	switch {
	case r < utf8.RuneSelf:
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' {
			return word
		}
		return between
	case r >= 0x4e00 && r <= 0x9fff, r >= 0x3041 && r <= 0x3096, r >= 0x30a1 && r <= 0x30fa, r == 'ー', r >= 0xac00 && r <= 0xd7a3:
		return dense
	case r >= 0x300 && r <= 0x36f, r >= 0xfe00 && r <= 0xfe0f, r >= 0x1f3fb && r <= 0x1f3ff, unicode.Is(unicode.Cf, r):
		return skipped
	case unicode.IsPunct(r), unicode.IsSpace(r):
		return between
	case unicode.Is(unicode.So, r), unicode.In(r, crowded...):
		return dense
	case unicode.IsLetter(r), unicode.IsNumber(r), unicode.IsMark(r):
		return word
	}
	return between
}

// letters that Unicode does not take apart, and people type without.
var letters = map[rune]string{'ß': "ss", 'æ': "ae", 'œ': "oe", 'ø': "o", 'đ': "d", 'ð': "d", 'ł': "l", 'ħ': "h", 'ı': "i", 'þ': "th", 'ς': "σ"}

// fold appends a letter without its case and, where it is Latin or Greek, without its accents: elsewhere they make another letter of it.
func fold(out []byte, r rune) []byte {
	if r < utf8.RuneSelf {
		if r >= 'A' && r <= 'Z' {
			r += 'a' - 'A'
		}
		return append(out, byte(r))
	}
	if unicode.In(r, unicode.Latin, unicode.Greek) {
		if parts := norm.NFD.PropertiesString(string(r)).Decomposition(); parts != nil {
			base, _ := utf8.DecodeRune(parts)
			r = base
		}
	}
	r = unicode.ToLower(r)
	if s, ok := letters[r]; ok {
		return append(out, s...)
	}
	return utf8.AppendRune(out, r)
}

// longestWord is how much of a word is in the index, in bytes; the rest is looked at in the text.
const longestWord = 64

func cut(s string) string {
	if len(s) <= longestWord {
		return s
	}
	n := longestWord
	for !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}

// Terms are what a text is found by in the index: its words, and of runs without blanks each two characters that stand together and the last one. A term may
// come more than once.
func Terms(text string, visit func(term string)) {
	atoms(text, false, func(a atom) {
		if !a.dense {
			visit(cut(a.text))
			return
		}
		_, first := utf8.DecodeRuneInString(a.text)
		for s := a.text; ; {
			_, second := utf8.DecodeRuneInString(s[first:])
			visit(s[:first+second])
			if second == 0 {
				return
			}
			s, first = s[first:], second
		}
	})
}

// Piece is a part of an excerpt.
type Piece struct {
	Text string
	Mark bool // it answers the question
}

// Excerpt is what of a text a list of results shows: around the first part that answers, about width characters, on one line.
func Excerpt(text string, marks []Span, width int) []Piece {
	from, first := 0, 0
	if len(marks) > 0 {
		first = marks[0].From
	}
	if utf8.RuneCountInString(text[:first]) > width/3 {
		from = first
		for range width / 4 {
			_, n := utf8.DecodeLastRuneInString(text[:from])
			from -= n
		}
		if blank := strings.IndexAny(text[from:first], " \n"); blank >= 0 { // no half word at the beginning
			from += blank + 1
		}
	}
	to := from
	for n := 0; n < width && to < len(text); n++ {
		_, size := utf8.DecodeRuneInString(text[to:])
		to += size
	}
	var out []Piece
	add := func(s string, mark bool) {
		if s = strings.Map(oneLine, s); s != "" {
			out = append(out, Piece{s, mark})
		}
	}
	if from > 0 {
		out = append(out, Piece{"…", false})
	}
	at := from
	for _, m := range marks {
		if m.From < at || m.From >= to {
			continue
		}
		add(text[at:m.From], false)
		at = min(m.To, to)
		add(text[m.From:at], true)
	}
	add(text[at:to], false)
	if to < len(text) {
		out = append(out, Piece{"…", false})
	}
	return out
}

func oneLine(r rune) rune {
	if unicode.IsSpace(r) {
		return ' '
	}
	if unicode.IsControl(r) {
		return -1
	}
	return r
}

// Fold is a text as it is compared: for names.
func Fold(text string) string {
	var b strings.Builder
	atoms(text, false, func(a atom) {
		if b.Len() > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(a.text)
	})
	return b.String()
}
