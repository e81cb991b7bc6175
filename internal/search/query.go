package search

import (
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"howdah/internal/fault"
)

// Query is a question: a text answers it when each of its phrases stands in it.
type Query struct {
	Filters []Filter
	phrases []phrase
}

// Filter is a word of a question that speaks of a message and not of its text: from:ann.
type Filter struct{ Key, Value string }

// keys are the filters; what stands before another colon is a word.
var keys = []string{"from", "in", "before", "after", "on", "has"}

// phrase is atoms that must follow each other.
type phrase struct {
	atoms  []atom
	prefix bool // the last one may go on
}

// Bounds of a question.
const (
	longestQuestion = 400 // characters
	mostPhrases     = 20
)

// quotes are what a phrase may stand between.
var quotes = map[rune]rune{'"': '"', '“': '”', '„': '“', '「': '」', '『': '』', '«': '»'}

// Parse reads a question as people type it. The last word may be half typed, unless a blank or a quote stands behind it.
func Parse(raw string) (*Query, error) {
	if !utf8.ValidString(raw) || strings.ContainsRune(raw, 0) {
		return nil, fault.New(fault.Invalid, "chat.not_text")
	}
	if n := utf8.RuneCountInString(raw); n > longestQuestion {
		return nil, fault.New(fault.TooLarge, "chat.too_long", fault.Args{"n": n, "limit": longestQuestion})
	}
	q := &Query{}
	for rest := strings.TrimLeftFunc(raw, unicode.IsSpace); rest != ""; rest = strings.TrimLeftFunc(rest, unicode.IsSpace) {
		if key, value, ok := strings.Cut(strings.Replace(rest, "：", ":", 1), ":"); ok && slices.Contains(keys, strings.ToLower(key)) {
			var text string
			text, rest, _ = token(value)
			if text == "" {
				return nil, fault.New(fault.Invalid, "search.no_value", fault.Args{"key": strings.ToLower(key)})
			}
			q.Filters = append(q.Filters, Filter{strings.ToLower(key), text})
			continue
		}
		var text string
		var open bool
		text, rest, open = token(rest)
		p := phrase{prefix: open && rest == ""}
		atoms(text, false, func(a atom) { p.atoms = append(p.atoms, a) })
		if p.atoms != nil {
			q.phrases = append(q.phrases, p)
		}
	}
	if len(q.phrases)+len(q.Filters) > mostPhrases {
		return nil, fault.New(fault.TooLarge, "search.too_many", fault.Args{"limit": mostPhrases})
	}
	if q.phrases == nil && q.Filters == nil {
		return nil, fault.New(fault.Invalid, "search.empty")
	}
	return q, nil
}

// token takes what stands first: a word, or what is between quotes. open: more of it may be typed still.
func token(s string) (text, rest string, open bool) {
	first, n := utf8.DecodeRuneInString(s)
	if end, ok := quotes[first]; ok {
		if text, rest, ok := strings.Cut(s[n:], string(end)); ok {
			return text, rest, false
		}
		return s[n:], "", true
	}
	if i := strings.IndexFunc(s, unicode.IsSpace); i >= 0 {
		return s[:i], s[i:], false
	}
	return s, "", true
}

// need is a term that the index must have for a text, or one that begins like it.
type need struct {
	term   string
	prefix bool
}

func (q *Query) needs() []need {
	var out []need
	add := func(n need) {
		if !slices.Contains(out, n) {
			out = append(out, n)
		}
	}
	for _, p := range q.phrases {
		for i, a := range p.atoms {
			if !a.dense {
				add(need{cut(a.text), p.prefix && i == len(p.atoms)-1})
				continue
			}
			if utf8.RuneCountInString(a.text) == 1 {
				add(need{a.text, true}) // it begins what stands there, be it two characters or the last
			}
			Terms(a.text, func(term string) {
				if utf8.RuneCountInString(term) == 2 {
					add(need{term, false})
				}
			})
		}
	}
	return out
}

// mostMarks are shown of one text.
const mostMarks = 100

// Match tells whether a text answers the question, and where: in order, without overlaps.
func (q *Query) Match(text string) (marks []Span, ok bool) {
	if q.phrases == nil {
		return nil, true
	}
	var all []atom
	atoms(text, true, func(a atom) { all = append(all, a) })
	for _, p := range q.phrases {
		found := false
		for i := range all {
			found = p.at(all[i:], &marks) || found
		}
		if !found {
			return nil, false
		}
	}
	slices.SortFunc(marks, func(a, b Span) int { return a.From - b.From })
	out := marks[:0]
	for _, m := range marks {
		if n := len(out); n > 0 && m.From <= out[n-1].To {
			out[n-1].To = max(out[n-1].To, m.To)
		} else if n < mostMarks {
			out = append(out, m)
		}
	}
	return out, true
}

// at looks for a phrase that begins in the first of these atoms, and adds where it stands.
func (p phrase) at(text []atom, marks *[]Span) bool {
	if len(p.atoms) > len(text) {
		return false
	}
	if len(p.atoms) == 1 && p.atoms[0].dense {
		return text[0].dense && inside(text[0], p.atoms[0].text, marks)
	}
	last := len(p.atoms) - 1
	for i, want := range p.atoms {
		have := text[i]
		switch {
		case have.dense != want.dense:
			return false
		case have.text == want.text:
		case i == 0 && want.dense && strings.HasSuffix(have.text, want.text):
		case i == last && (want.dense || p.prefix) && strings.HasPrefix(have.text, want.text):
		default:
			return false
		}
	}
	mark := Span{text[0].from, text[last].to}
	if want := p.atoms[0]; want.dense {
		runes := text[0].runes
		mark.From = runes[len(runes)-utf8.RuneCountInString(want.text)].from
	}
	if want := p.atoms[last]; want.dense {
		mark.To = text[last].runes[utf8.RuneCountInString(want.text)-1].to
	}
	*marks = append(*marks, mark)
	return true
}

// inside finds a part of a run of characters wherever it stands.
func inside(have atom, want string, marks *[]Span) bool {
	n := utf8.RuneCountInString(want)
	found := false
	rune, byte := 0, 0
	for {
		i := strings.Index(have.text[byte:], want)
		if i < 0 || found && len(*marks) > mostMarks*mostPhrases {
			return found
		}
		found = true
		rune += utf8.RuneCountInString(have.text[byte : byte+i])
		*marks = append(*marks, Span{have.runes[rune].from, have.runes[rune+n-1].to})
		_, size := utf8.DecodeRuneInString(want)
		rune, byte = rune+1, byte+i+size
	}
}
