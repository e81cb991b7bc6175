package judge

import (
	"hash/maphash"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
)

// gate is a condition of a rule, or a part of one, that is told without CEL: CEL looks every field up by its name and wraps every value, for each of some
// twenty rules that look at an event.
type gate func(*Event) bool

// gates reads a condition. Whole says that the gates together are all of it: then CEL, which has checked it, need not run at all. What this reader does not
// know it leaves to CEL, behind those parts of a conjunction that it does know.
func gates(when string) (all []gate, whole bool) {
	if g := condition(when); g != nil {
		return []gate{g}, true
	}
	if len(split(when, "||")) > 1 || strings.Contains(flattened(when), "?") {
		return nil, false
	}
	for _, part := range split(when, "&&") {
		if g := condition(part); g != nil {
			all = append(all, g)
		}
	}
	return all, false
}

// condition reads a condition whole; nil when it says something that is not known here.
func condition(when string) gate {
	when = strings.TrimSpace(when)
	if parts := split(when, "||"); len(parts) > 1 {
		return several(parts, func(all []gate) gate {
			return func(e *Event) bool { return slices.ContainsFunc(all, func(g gate) bool { return g(e) }) }
		})
	}
	if parts := split(when, "&&"); len(parts) > 1 {
		return several(parts, func(all []gate) gate {
			return func(e *Event) bool {
				for _, g := range all {
					if !g(e) {
						return false
					}
				}
				return true
			}
		})
	}
	if inner, ok := within(when); ok {
		return condition(inner)
	}
	if inner, ok := strings.CutPrefix(when, "!"); ok {
		if g := condition(inner); g != nil {
			return func(e *Event) bool { return !g(e) }
		}
		return nil
	}
	return simple(when)
}

func several(parts []string, join func([]gate) gate) gate {
	var all []gate
	for _, part := range parts {
		g := condition(part)
		if g == nil {
			return nil
		}
		all = append(all, g)
	}
	return join(all)
}

// split parts a condition at an operator outside of parentheses and strings.
func split(when, operator string) []string {
	var parts []string
	start := 0
	flat := flattened(when)
	for {
		at := strings.Index(flat[start:], operator)
		if at < 0 {
			return append(parts, strings.TrimSpace(when[start:]))
		}
		parts = append(parts, strings.TrimSpace(when[start:start+at]))
		start += at + len(operator)
	}
}

// flattened is a condition with blanks for all that stands within parentheses or strings.
func flattened(when string) string {
	flat := []byte(when)
	depth := 0
	for i := 0; i < len(flat); i++ {
		c := flat[i]
		if c == '"' || c == '\'' {
			for flat[i] = ' '; i+1 < len(flat) && flat[i+1] != c; i++ {
				if flat[i+1] == '\\' && i+2 < len(flat) {
					flat[i+1] = ' '
					i++
				}
				flat[i+1] = ' '
			}
			if i++; i < len(flat) {
				flat[i] = ' '
			}
			continue
		}
		switch c {
		case '(', '[', '{':
			depth++
			flat[i] = ' '
		case ')', ']', '}':
			depth--
			flat[i] = ' '
		default:
			if depth > 0 {
				flat[i] = ' '
			}
		}
	}
	return string(flat)
}

// within takes the parentheses off that hold the whole.
func within(when string) (string, bool) {
	if !strings.HasPrefix(when, "(") || !strings.HasSuffix(when, ")") || strings.TrimSpace(flattened(when)) != "" {
		return "", false
	}
	for i, depth := 0, 0; i < len(when); i++ { // "(a)(b)" is not one
		switch when[i] {
		case '"', '\'':
			for q := when[i]; i+1 < len(when) && when[i+1] != q; i++ {
				if when[i+1] == '\\' {
					i++
				}
			}
			i++
		case '(':
			depth++
		case ')':
			if depth--; depth == 0 && i < len(when)-1 {
				return "", false
			}
		}
	}
	return when[1 : len(when)-1], true
}

// simple reads what has no operator between conditions.
func simple(part string) gate {
	if part == "true" {
		return func(*Event) bool { return true }
	}
	if f := fieldByName[part]; f != nil {
		if _, ok := f.value(&Event{}).(*bool); ok {
			return func(e *Event) bool { return *f.value(e).(*bool) }
		}
		return nil
	}
	if inner, ok := strings.CutPrefix(part, "overlap("); ok && strings.HasSuffix(inner, "])") {
		name, list, ok := strings.Cut(strings.TrimSuffix(inner, ")"), ", ")
		f, words := listField(name), literals(list)
		if f == nil || !ok || words == nil {
			return nil
		}
		return func(e *Event) bool {
			return slices.ContainsFunc(*f.value(e).(*[]string), func(s string) bool { return slices.Contains(words, s) })
		}
	}
	if inner, ok := strings.CutPrefix(part, "size("); ok {
		if f := listField(strings.TrimSuffix(inner, ") > 0")); f != nil && strings.HasSuffix(inner, ") > 0") {
			return func(e *Event) bool { return len(*f.value(e).(*[]string)) > 0 }
		}
		return nil
	}
	if name, inner, ok := strings.Cut(part, ".exists("); ok && strings.HasSuffix(inner, ")") {
		f := listField(name)
		variable, about, ok := strings.Cut(strings.TrimSuffix(inner, ")"), ", ")
		if f == nil || !ok {
			return nil
		}
		is := textual(about, variable)
		if is == nil {
			return nil
		}
		return func(e *Event) bool { return slices.ContainsFunc(*f.value(e).(*[]string), is) }
	}
	if g := compared(part); g != nil {
		return g
	}
	if left, right, ok := strings.Cut(part, " != "); ok { // two fields
		if a, b := textField(left), textField(right); a != nil && b != nil {
			return func(e *Event) bool { return *a.value(e).(*string) != *b.value(e).(*string) }
		}
	}
	// What says something of one text.
	for _, op := range []string{" == ", " != ", " in [", ".contains(", ".startsWith(", ".endsWith(", ".matches("} {
		if name, _, ok := strings.Cut(part, op); ok {
			if f := textField(name); f != nil {
				if is := textual(part, name); is != nil {
					return func(e *Event) bool { return is(*f.value(e).(*string)) }
				}
			}
		}
	}
	if inner, ok := strings.CutPrefix(part, `"`); ok { // "text" in field
		if text, name, ok := strings.Cut(inner, `" in `); ok && !strings.ContainsAny(text, `"\`) {
			if f := listField(name); f != nil {
				return func(e *Event) bool { return slices.Contains(*f.value(e).(*[]string), text) }
			}
		}
	}
	return nil
}

func textField(name string) *Field {
	f := fieldByName[name]
	if f == nil {
		return nil
	}
	if _, ok := f.value(&Event{}).(*string); !ok {
		return nil
	}
	return f
}

func listField(name string) *Field {
	f := fieldByName[name]
	if f == nil {
		return nil
	}
	if _, ok := f.value(&Event{}).(*[]string); !ok {
		return nil
	}
	return f
}

// compared reads "number field >= 3".
func compared(part string) gate {
	for _, op := range []string{" >= ", " < ", " > "} {
		name, right, ok := strings.Cut(part, op)
		f := fieldByName[name]
		if !ok || f == nil {
			continue
		}
		limit, err := strconv.ParseFloat(right, 64)
		if err != nil {
			return nil
		}
		var value func(e *Event) float64
		switch f.value(&Event{}).(type) {
		case *float64:
			value = func(e *Event) float64 { return *f.value(e).(*float64) }
		case *int64:
			value = func(e *Event) float64 { return float64(*f.value(e).(*int64)) }
		case *int:
			value = func(e *Event) float64 { return float64(*f.value(e).(*int)) }
		default:
			return nil
		}
		switch op {
		case " >= ":
			return func(e *Event) bool { return value(e) >= limit }
		case " < ":
			return func(e *Event) bool { return value(e) < limit }
		}
		return func(e *Event) bool { return value(e) > limit }
	}
	return nil
}

// textual reads what is said of one text under a name: n == "x", n in ["x", "y"], n.startsWith("x"), n.matches("x"), and these with && || ! between.
func textual(about, name string) func(string) bool {
	about = strings.TrimSpace(about)
	for _, operator := range []string{"||", "&&"} {
		parts := split(about, operator)
		if len(parts) == 1 {
			continue
		}
		var all []func(string) bool
		for _, part := range parts {
			is := textual(part, name)
			if is == nil {
				return nil
			}
			all = append(all, is)
		}
		if operator == "||" {
			return func(s string) bool { return slices.ContainsFunc(all, func(is func(string) bool) bool { return is(s) }) }
		}
		return func(s string) bool {
			return !slices.ContainsFunc(all, func(is func(string) bool) bool { return !is(s) })
		}
	}
	if inner, ok := within(about); ok {
		return textual(inner, name)
	}
	if inner, ok := strings.CutPrefix(about, "!"); ok {
		if is := textual(inner, name); is != nil {
			return func(s string) bool { return !is(s) }
		}
		return nil
	}
	if inner, ok := strings.CutPrefix(about, "outside("); ok {
		if inner == name+")" {
			return outside
		}
		return nil
	}
	rest, ok := strings.CutPrefix(about, name)
	if !ok {
		return nil
	}
	if list, ok := strings.CutPrefix(rest, " in "); ok {
		if words := literals(list); words != nil {
			return func(s string) bool { return slices.Contains(words, s) }
		}
		return nil
	}
	if right, ok := strings.CutPrefix(rest, " == "); ok {
		if want, err := strconv.Unquote(right); err == nil {
			return func(s string) bool { return s == want }
		}
		return nil
	}
	if right, ok := strings.CutPrefix(rest, " != "); ok {
		if want, err := strconv.Unquote(right); err == nil {
			return func(s string) bool { return s != want }
		}
		return nil
	}
	call, right, ok := strings.Cut(rest, "(")
	if !ok {
		return nil
	}
	want, err := strconv.Unquote(strings.TrimSuffix(right, ")"))
	if err != nil || !strings.HasSuffix(right, ")") {
		return nil
	}
	switch call {
	case ".contains":
		return func(s string) bool { return strings.Contains(s, want) }
	case ".startsWith":
		return func(s string) bool { return strings.HasPrefix(s, want) }
	case ".endsWith":
		return func(s string) bool { return strings.HasSuffix(s, want) }
	case ".matches":
		if expression, err := regexp.Compile(want); err == nil {
			return remembering(expression.MatchString)
		}
	}
	return nil
}

// literals reads ["a", "b"]; nil when it is none.
func literals(list string) []string {
	inner, ok := strings.CutPrefix(strings.TrimSpace(list), "[")
	if !ok || !strings.HasSuffix(inner, "]") {
		return nil
	}
	words := []string{}
	for _, item := range split(strings.TrimSuffix(inner, "]"), ",") {
		w, err := strconv.Unquote(item)
		if err != nil {
			return nil
		}
		words = append(words, w)
	}
	return words
}

// remembering answers again what was asked of late: names come again and again, and an expression costs more than all else that a rule does. Safe for use by many
// at once.
func remembering(ask func(string) bool) func(string) bool {
	type answer struct {
		to string
		is bool
	}
	var answers [256]atomic.Pointer[answer]
	seed := maphash.MakeSeed()
	return func(s string) bool {
		if len(s) > 100 {
			return ask(s)
		}
		at := &answers[maphash.String(seed, s)%uint64(len(answers))]
		if known := at.Load(); known != nil && known.to == s {
			return known.is
		}
		is := ask(s)
		at.Store(&answer{strings.Clone(s), is})
		return is
	}
}
