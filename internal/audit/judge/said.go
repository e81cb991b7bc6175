package judge

import (
	"strings"
	"time"
	"unicode"
)

// Without pgAudit there are statements only, as log_statement writes them: before they are run, and so without a transaction. Then a row of a catalog is explained by a statement of the last
// minutes that has its name in it.

// statement is one that log_statement wrote.
type statement struct {
	At   time.Time
	Text string // in small letters
}

const (
	mostSaid   = 400
	longSaid   = 1 << 14
	saidLately = time.Hour
)

// hearStatement remembers a statement for the catalogs.
func (j *Judge) hearStatement(e *Event) {
	st := &j.state
	if st.Audited {
		st.Said = nil
		return
	}
	if e.Class != "" || e.Text == "" || weight(e.Kind) < 2 || e.Status == Denied || e.Status == Broken {
		return
	}
	text := e.Text
	if j.options.Mask != nil {
		text = j.options.Mask(text)
	}
	text = strings.ToLower(clip(text, longSaid))
	if n := len(st.Said); n > 0 && st.Said[n-1].Text == text { // of several kinds at once
		st.Said[n-1].At = e.Time
		return
	}
	st.Said = append(st.Said, statement{e.Time, text})
	st.Said = st.Said[max(0, len(st.Said)-mostSaid):]
}

// said says whether a statement of late has this name in it: each word of it that is no word of ours.
func (j *Judge) said(name string) bool {
	st := &j.state
	if st.Audited {
		return false
	}
	if at := strings.IndexByte(name, '('); at > 0 {
		name = name[:at]
	}
	words := strings.FieldsFunc(strings.ToLower(name), func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) && r != '_' })
	for i := len(st.Said) - 1; i >= 0; i-- {
		s := &st.Said[i]
		if st.Now.Sub(s.At) > saidLately {
			break
		}
		all := true
		for _, word := range words {
			switch {
			case word == "public", word == "to", word == "in", word == "all", word == "roles", len(word) == 1, word[0] >= '0' && word[0] <= '9': // a schema that need not be named, and what joins names
			default:
				all = all && strings.Contains(s.Text, word)
			}
		}
		if all {
			return true
		}
	}
	return false
}
