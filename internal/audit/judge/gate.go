package judge

import (
	"slices"
	"strconv"
	"strings"
)

// gate is a part of a rule's condition that must hold and can be told without CEL: most rules look at one fact, and most events do not have it.
type gate func(*Event) bool

// gates finds the simple parts of a condition that is a conjunction: field, !field, field == "text", field >= number, "text" in field, overlap(field, [...]).
// What it does not know it leaves to CEL, which judges the whole in any case.
func gates(when string) []gate {
	parts, ok := conjuncts(when)
	if !ok {
		return nil
	}
	var all []gate
	for _, part := range parts {
		if g := simple(part); g != nil {
			all = append(all, g)
		}
	}
	return all
}

// conjuncts splits at && outside of parentheses and strings; not ok when || stands there too.
func conjuncts(when string) ([]string, bool) {
	var parts []string
	depth, start := 0, 0
	for i := 0; i < len(when); i++ {
		switch c := when[i]; c {
		case '"', '\'':
			for i++; i < len(when) && when[i] != c; i++ {
				if when[i] == '\\' {
					i++
				}
			}
		case '(', '[', '{':
			depth++
		case ')', ']', '}':
			depth--
		case '|', '?':
			if depth == 0 {
				return nil, false
			}
		case '&':
			if depth == 0 && strings.HasPrefix(when[i:], "&&") {
				parts = append(parts, strings.TrimSpace(when[start:i]))
				start = i + 2
				i++
			}
		}
	}
	return append(parts, strings.TrimSpace(when[start:])), true
}

func simple(part string) gate {
	if f := fieldByName[strings.TrimPrefix(part, "!")]; f != nil {
		if _, ok := f.value(&Event{}).(*bool); ok {
			want := part[0] != '!'
			return func(e *Event) bool { return *f.value(e).(*bool) == want }
		}
	}
	if inner, ok := strings.CutPrefix(part, "overlap("); ok && strings.HasSuffix(inner, "])") {
		name, list, ok := strings.Cut(strings.TrimSuffix(inner, "])"), ", [")
		f := fieldByName[name]
		if f == nil || !ok {
			return nil
		}
		if _, is := f.value(&Event{}).(*[]string); !is {
			return nil
		}
		var words []string
		for item := range strings.SplitSeq(list, ",") {
			w, err := strconv.Unquote(strings.TrimSpace(item))
			if err != nil {
				return nil
			}
			words = append(words, w)
		}
		return func(e *Event) bool {
			return slices.ContainsFunc(*f.value(e).(*[]string), func(s string) bool { return slices.Contains(words, s) })
		}
	}
	left, op, right := cutOperator(part)
	switch op {
	case "==":
		f := fieldByName[left]
		want, err := strconv.Unquote(right)
		if f == nil || err != nil {
			return nil
		}
		if _, ok := f.value(&Event{}).(*string); ok {
			return func(e *Event) bool { return *f.value(e).(*string) == want }
		}
	case ">=":
		f := fieldByName[left]
		least, err := strconv.ParseFloat(right, 64)
		if f == nil || err != nil {
			return nil
		}
		switch f.value(&Event{}).(type) {
		case *float64:
			return func(e *Event) bool { return *f.value(e).(*float64) >= least }
		case *int:
			return func(e *Event) bool { return float64(*f.value(e).(*int)) >= least }
		}
	case "in":
		f := fieldByName[right]
		want, err := strconv.Unquote(left)
		if f == nil || err != nil {
			return nil
		}
		if _, ok := f.value(&Event{}).(*[]string); ok {
			return func(e *Event) bool { return slices.Contains(*f.value(e).(*[]string), want) }
		}
	}
	return nil
}

// cutOperator parts "a op b" where a and b are one word each, or a quoted text.
func cutOperator(part string) (left, op, right string) {
	for _, op := range []string{" == ", " >= ", " in "} {
		if l, r, ok := strings.Cut(part, op); ok && word1(l) && word1(r) {
			return l, strings.TrimSpace(op), r
		}
	}
	return "", "", ""
}

func word1(s string) bool {
	if len(s) > 1 && s[0] == '"' {
		return strings.IndexByte(s[1:], '"') == len(s)-2
	}
	return s != "" && !strings.ContainsAny(s, ` ()[]{}"'!&|?:+-*/%<>=`)
}
