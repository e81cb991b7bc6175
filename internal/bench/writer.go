package bench

import (
	"math"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"unicode"

	_ "embed"
)

// The words, most frequent first.
var (
	//go:embed words/en.txt
	englishWords string
	//go:embed words/zh-TW.txt
	chineseWords string
)

// A writer makes up messages. What matters of them is what matters to an index, a compressor and a page: words come
// with the frequencies that people use them with (Zipf: the n-th word 1/n as often as the first), most messages are
// short, few are long, some are Markdown, and both languages stand side by side.
type writer struct {
	rng     *rand.Rand
	english []string
	chinese []string
}

func newWriter(seed uint64) *writer {
	return &writer{rng: rand.New(rand.NewPCG(seed, 0x686f77646168)), english: strings.Fields(englishWords), chinese: strings.Fields(chineseWords)} //nolint:gosec // texts, not secrets
}

// zipf picks a rank below n: rank r with a probability of about 1/(r+1).
func (w *writer) zipf(n int) int {
	return min(int(math.Exp(w.rng.Float64()*math.Log(float64(n+1))))-1, n-1)
}

func (w *writer) one(of []string) string { return of[w.rng.IntN(len(of))] }

// rare gives what no list of words has: numbers, versions, links, file names. Every house is full of them.
func (w *writer) rare() string {
	n := w.rng.IntN(100_000)
	switch w.rng.IntN(6) {
	case 0:
		return strconv.Itoa(n)
	case 1:
		return "#" + strconv.Itoa(n%9000)
	case 2:
		return "v" + strconv.Itoa(n%9) + "." + strconv.Itoa(n%31) + "." + strconv.Itoa(n%7)
	case 3:
		return "https://example.org/" + w.english[w.zipf(len(w.english))] + "/" + strconv.Itoa(n)
	case 4:
		return "`" + w.english[w.zipf(len(w.english))] + "_" + strconv.Itoa(n%500) + ".go`"
	}
	return strconv.Itoa(n%24) + ":" + strconv.Itoa(10+n%50)
}

// words writes about n words of a sentence, without its end.
func (w *writer) words(b *strings.Builder, chinese bool, n int) {
	for i := range n {
		rare := w.rng.IntN(25) == 0
		switch {
		case chinese && rare:
			b.WriteString(" " + w.rare() + " ") // people put blanks around Latin letters
		case chinese:
			if i > 3 && w.rng.IntN(7) == 0 {
				b.WriteString("，")
			}
			b.WriteString(w.chinese[w.zipf(len(w.chinese))])
		default:
			if i > 0 {
				if i > 3 && w.rng.IntN(11) == 0 {
					b.WriteByte(',')
				}
				b.WriteByte(' ')
			}
			if rare {
				b.WriteString(w.rare())
				continue
			}
			word := w.english[w.zipf(len(w.english))]
			if i == 0 {
				word = string(unicode.ToUpper(rune(word[0]))) + word[1:]
			}
			b.WriteString(word)
		}
	}
}

func (w *writer) sentence(b *strings.Builder, chinese bool) {
	// Lengths are log-normal: seven words in the middle, now and then forty.
	w.words(b, chinese, max(1, min(int(math.Exp(w.rng.NormFloat64()*0.7+2)), 60)))
	ends := []string{".", ".", ".", "?", "!", ""}
	if chinese {
		ends = []string{"。", "。", "。", "？", "！", ""}
	}
	b.WriteString(w.one(ends))
}

var (
	smallTalk = [2][]string{
		{"ok", "thanks!", "yes", "no", "on it", "done", "lgtm", "good morning", "brb", "sure", "why?", "+1", "agreed", "one moment", "👍", "🎉", "haha", "see you tomorrow", "let me look"},
		{"好", "謝謝！", "收到", "了解", "沒問題", "早安", "等一下", "辛苦了", "對啊", "不是吧", "哈哈哈", "可以", "我看看", "好喔 👍", "明天見", "為什麼？", "+1", "真的假的", "馬上來"},
	}
	snippets = []string{
		"for i := range n {\n\tfmt.Println(i)\n}", "SELECT count(*) FROM orders WHERE state = 'open';", "curl -sS https://example.org/healthz | jq .",
		"if err != nil {\n\treturn fmt.Errorf(\"read: %w\", err)\n}", "git log --oneline -- internal/", "docker ps --format '{{.Names}}'", "{\n  \"level\": \"warn\",\n  \"took_ms\": 1204\n}",
	}
)

// message is one message.
func (w *writer) message(chinese bool) string {
	var b strings.Builder
	switch p := w.rng.IntN(100); {
	case p < 18:
		talk := smallTalk[0]
		if chinese {
			talk = smallTalk[1]
		}
		return w.one(talk)
	case p < 70:
		w.sentence(&b, chinese)
	case p < 91:
		for i := range 2 + w.rng.IntN(3) {
			if i > 0 && !chinese {
				b.WriteByte(' ')
			}
			w.sentence(&b, chinese)
		}
	case p < 98:
		w.markdown(&b, chinese)
	default:
		for i := range 2 + w.rng.IntN(5) { // somebody explains
			if i > 0 {
				b.WriteString("\n\n")
			}
			for range 3 + w.rng.IntN(6) {
				w.sentence(&b, chinese)
				if !chinese {
					b.WriteByte(' ')
				}
			}
		}
	}
	text := strings.TrimSpace(b.String())
	if text == "" {
		return "…"
	}
	return text
}

func (w *writer) markdown(b *strings.Builder, chinese bool) {
	switch w.rng.IntN(5) {
	case 0:
		w.sentence(b, chinese)
		b.WriteString("\n\n```\n" + w.one(snippets) + "\n```")
	case 1:
		w.words(b, chinese, 3)
		b.WriteString(":\n")
		for range 2 + w.rng.IntN(5) {
			b.WriteString("\n- ")
			w.words(b, chinese, 2+w.rng.IntN(7))
		}
	case 2:
		b.WriteString("> ")
		w.sentence(b, chinese)
		b.WriteString("\n\n")
		w.sentence(b, chinese)
	case 3:
		b.WriteString("**")
		w.words(b, chinese, 2)
		b.WriteString("** ")
		w.sentence(b, chinese)
	case 4:
		w.words(b, chinese, 3)
		b.WriteString(" [")
		w.words(b, chinese, 2)
		b.WriteString("](https://example.org/" + strconv.Itoa(w.rng.IntN(100_000)) + ") ")
		w.words(b, chinese, 3)
	}
}

// bodies are messages for the loads: the same in every run.
var bodies = sync.OnceValue(func() []string {
	w := newWriter(1)
	out := make([]string, 0, 256)
	for len(out) < cap(out) {
		if text := w.message(w.rng.IntN(2) == 0); len(text) < 400 {
			out = append(out, text)
		}
	}
	return out
})
