package account

import (
	"bytes"
	"compress/gzip"
	_ "embed"
	"io"
	"math"
	"strings"
	"sync"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"

	"howdah/internal/fault"
)

// Passwords may be as long as a sentence; the upper bound only keeps a request from being a load.
const (
	minPassword = 10
	maxPassword = 256
)

// enough is how many bits a password must be worth: a thousand million guesses of somebody who tries what people choose first. Nothing is asked of its characters, as NIST SP 800-63B
// (3.1.1.2) has it: length, and that it is not what everybody guesses.
const enough = 30

// commonWords are passwords, words and names of English in the order of how often people choose them: the lists that come with zxcvbn, one below the other by rank. It is unpacked when the
// first password is judged: this program is also started for every WAL segment.
//
//go:embed words/common.txt.gz
var commonWords []byte

const longestWord = 24

var rank = sync.OnceValue(func() map[string]int {
	unpacked, err := gzip.NewReader(bytes.NewReader(commonWords))
	var text []byte
	if err == nil {
		text, err = io.ReadAll(unpacked)
	}
	if err != nil {
		panic(err) // embedded: cannot be broken in a binary that was built
	}
	all := map[string]int{}
	for word := range strings.Lines(string(text)) {
		if word = strings.TrimSpace(word); len(word) <= longestWord {
			all[word] = len(all) + 1
		}
	}
	return all
})

// weakness is what a stretch of a password is made of.
type weakness string

const (
	characters weakness = ""
	common     weakness = "account.password_common"
	personal   weakness = "account.password_personal"
	keyboard   weakness = "account.password_keyboard"
	repeated   weakness = "account.password_repeat"
	sequence   weakness = "account.password_sequence"
	dated      weakness = "account.password_date"
)

// checkPassword refuses, as Invalid, a password that is too short, too long, or guessed too soon by who knows what people choose, and says why. about are words that have to do with the
// person: handle, name.
func checkPassword(password string, about ...string) error {
	if n := utf8.RuneCountInString(password); !utf8.ValidString(password) || n < minPassword || n > maxPassword {
		return fault.New(fault.Invalid, "account.password", fault.Args{"min": minPassword, "max": maxPassword})
	}
	bits, most := strength(password, about)
	if bits >= enough {
		return nil
	}
	switch most {
	case common:
		return fault.New(fault.Invalid, "account.password_common")
	case personal:
		return fault.New(fault.Invalid, "account.password_personal")
	case keyboard:
		return fault.New(fault.Invalid, "account.password_keyboard")
	case repeated:
		return fault.New(fault.Invalid, "account.password_repeat")
	case sequence:
		return fault.New(fault.Invalid, "account.password_sequence")
	case dated:
		return fault.New(fault.Invalid, "account.password_date")
	}
	return fault.New(fault.Invalid, "account.password_weak")
}

// strength is how many bits the cheapest way takes to say a password: in words by their rank, runs on the keyboard, sequences, dates, repetitions, and single characters; and what most of it
// is made of then. The thought is zxcvbn's (Wheeler, "zxcvbn: Low-Budget Password Strength Estimation", USENIX Security 2016).
func strength(password string, about []string) (bits float64, most weakness) {
	raw := []rune(norm.NFKC.String(password))
	text := make([]rune, len(raw))
	for i, r := range raw {
		text[i] = unicode.ToLower(r)
	}
	ranks, own := rank(), ownWords(about)
	type step struct {
		bits float64
		from int
		kind weakness
	}
	best := make([]step, len(text)+1)
	for i := range best[1:] {
		best[i+1].bits = math.Inf(1)
	}
	better := func(from, to int, bits float64, kind weakness) {
		if sum := best[from].bits + bits; sum < best[to].bits {
			best[to] = step{sum, from, kind}
		}
	}
	for i := range text {
		better(i, i+1, characterBits(raw[i]), characters)
		for n := 1; n <= longestWord && i+n <= len(text); n++ {
			word := text[i : i+n]
			if i >= n && string(text[i-n:i]) == string(word) {
				better(i, i+n, 1, repeated)
			}
			if n < 3 {
				continue
			}
			for _, way := range []struct {
				spelled string
				bits    float64
			}{{string(word), 0}, {plain(word, 'i'), 1.5}, {plain(word, 'l'), 1.5}} {
				extra := way.bits + capitals(raw[i:i+n])
				if own[way.spelled] {
					better(i, i+n, 1+extra, personal)
				}
				if r := ranks[way.spelled]; r > 0 {
					better(i, i+n, math.Log2(float64(r))+extra, common)
				}
			}
			length := math.Log2(float64(n))
			switch {
			case runs(word):
				better(i, i+n, 4+length, sequence)
			case onKeyboard(string(word)):
				better(i, i+n, 5+length, keyboard)
			case isDate(string(word)):
				better(i, i+n, map[bool]float64{true: 7, false: 15}[n == 4], dated)
			}
		}
	}
	covered := map[weakness]int{}
	for at := len(text); at > 0; at = best[at].from {
		covered[best[at].kind] += at - best[at].from
	}
	for _, kind := range []weakness{personal, common, keyboard, sequence, repeated, dated, characters} {
		if covered[kind] > covered[most] || covered[most] == 0 {
			most = kind
		}
	}
	return best[len(text)].bits, most
}

// characterBits is what a character is worth that is part of nothing known.
func characterBits(r rune) float64 {
	switch {
	case r == ' ':
		return 1.5
	case r >= '0' && r <= '9':
		return 3.3
	case r >= 'a' && r <= 'z':
		return 4.2
	case r < 128:
		return 4.8
	}
	return 7
}

// capitals is what a word's capital letters add: the first one or all are what everybody does.
func capitals(word []rune) float64 {
	n := 0
	for _, r := range word {
		if unicode.IsUpper(r) {
			n++
		}
	}
	switch {
	case n == 0:
		return 0
	case n == len(word) || n == 1 && unicode.IsUpper(word[0]):
		return 1
	}
	return math.Log2(float64(len(word)))
}

// plain undoes the usual disguises of letters; 1 may stand for two.
func plain(word []rune, one rune) string {
	out := make([]rune, len(word))
	for i, r := range word {
		switch r {
		case '@', '4':
			r = 'a'
		case '3':
			r = 'e'
		case '1', '!', '|':
			r = one
		case '0':
			r = 'o'
		case '5', '$':
			r = 's'
		case '7', '+':
			r = 't'
		}
		out[i] = r
	}
	return string(out)
}

// ownWords are the words in what is about a person, and the house's name, which is on every page.
func ownWords(about []string) map[string]bool {
	own := map[string]bool{"howdah": true}
	for _, text := range about {
		text = strings.ToLower(norm.NFKC.String(text))
		own[text] = true
		for _, word := range strings.FieldsFunc(text, func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) }) {
			own[word] = true
		}
	}
	return own
}

// runs tells whether each character follows the one before: abc, 4321.
func runs(word []rune) bool {
	step := word[1] - word[0]
	if step != 1 && step != -1 {
		return false
	}
	for i := 2; i < len(word); i++ {
		if word[i]-word[i-1] != step {
			return false
		}
	}
	return true
}

const keys = "1234567890-= qwertyuiop[] asdfghjkl;' zxcvbnm,./ 1qaz2wsx3edc4rfv5tgb6yhn7ujm8ik,9ol.0p;/ !@#$%^&*()_+"

func onKeyboard(word string) bool {
	if strings.Contains(word, " ") {
		return false
	}
	back := []rune(word)
	for i, j := 0, len(back)-1; i < j; i, j = i+1, j-1 {
		back[i], back[j] = back[j], back[i]
	}
	return strings.Contains(keys, word) || strings.Contains(keys, string(back))
}

// isDate tells a year of ours, or the eight digits of a day.
func isDate(word string) bool {
	for _, r := range word {
		if r < '0' || r > '9' {
			return false
		}
	}
	year := func(y string) bool { return y[:2] == "19" || y[:2] == "20" }
	switch len(word) {
	case 4:
		return year(word)
	case 8:
		return year(word[:4]) && word[4:6] <= "12" || year(word[4:]) && (word[:2] <= "12" || word[2:4] <= "12")
	}
	return false
}
