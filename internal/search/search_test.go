package search

import (
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

func marked(text string, marks []Span) string {
	var b strings.Builder
	at := 0
	for _, m := range marks {
		b.WriteString(text[at:m.From] + "[" + text[m.From:m.To] + "]")
		at = m.To
	}
	return b.String() + text[at:]
}

func TestWhatAnswersAQuestion(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ question, text, want string }{ // want: the text with what answers in brackets; "": it does not
		{"CAFE", "Un café, s'il vous plaît", "Un [café], s'il vous plaît"},
		{"pla", "Un café, s'il vous plaît", "Un café, s'il vous [plaît]"},
		{"pla ", "Un café, s'il vous plaît", ""},
		{"strasse", "Lange Straße 7", "Lange [Straße] 7"},
		{"й", "и тогда", ""},
		{"資料", "備份資料庫的資料", "備份[資料]庫的[資料]"},
		{"份資料庫", "備份資料庫的資料", "備[份資料庫]的資料"},
		{"資料 備份", "備份資料庫", "[備份資料]庫"},
		{"資 料", "資產與原料", "[資]產與原[料]"},
		{"「資產 與」", "資產與原料", ""},
		{"料", "原料", "原[料]"},
		{"用go寫", "我用 Go 寫程式", "我[用 Go 寫]程式"},
		{"用go寫", "我用了 Go 寫程式", ""},
		{`"red car"`, "a red, car; red cars", "a [red, car]; red cars"},
		{`"red ca`, "a red car", "a [red car]"},
		{"foo_bar.go", "see foo_bar.go:12", "see [foo_bar.go]:12"},
		{"ﾊﾞｯｸ", "バックアップ", "[バック]アップ"},
		{"ハック", "バックアップ", ""},
		{"백업", "데이터백업을 하다", "데이터[백업]을 하다"},
		{"wide", "ｗｉｄｅ", "[ｗｉｄｅ]"},
		{"👍", "nice 👍🏽👍", "nice [👍][👍]"},
		{"https://example.org/a", "see https://example.org/a/7", "see [https://example.org/a]/7"},
		{"note:this", "note: this", "[note: this]"},
	} {
		q, err := Parse(c.question)
		if err != nil {
			t.Errorf("%s: %v", c.question, err)
			continue
		}
		marks, ok := q.Match(c.text)
		if have := marked(c.text, marks); ok != (c.want != "") || ok && strings.ReplaceAll(have, "🏽", "") != strings.ReplaceAll(c.want, "🏽", "") {
			t.Errorf("%q in %q: %v, %s, want %s", c.question, c.text, ok, have, c.want)
		}
	}
	if q, err := Parse(`from:@ann in:"our room" IN：大廳 x:y`); err != nil || !slices.Equal(q.Filters, []Filter{{"from", "@ann"}, {"in", "our room"}, {"in", "大廳"}}) || len(q.phrases) != 1 {
		t.Errorf("%+v, %v", q, err)
	}
	for _, wrong := range []string{"", "  ", "...", "from:", "in: ", strings.Repeat("a ", 30), strings.Repeat("x", 500), "\xff", "a\x00"} {
		if _, err := Parse(wrong); err == nil {
			t.Errorf("%q is a question", wrong)
		}
	}
}

func TestAnExcerptShowsWhatAnswers(t *testing.T) {
	t.Parallel()
	text := strings.Repeat("many words before it ", 30) + "the **needle**\nis here" + strings.Repeat(" and after", 50)
	q, _ := Parse("needle")
	marks, _ := q.Match(text)
	var have strings.Builder
	for _, p := range Excerpt(text, marks, 60) {
		if p.Mark {
			have.WriteString("[" + p.Text + "]")
		} else {
			have.WriteString(p.Text)
		}
	}
	if s := have.String(); !strings.Contains(s, "the **[needle]** is here") || !strings.HasPrefix(s, "…") || !strings.HasSuffix(s, "…") || utf8.RuneCountInString(s) > 70 {
		t.Errorf("excerpt %q", s)
	}
}

// The index may name too much, never too little; and merging changes nothing.
func FuzzTheIndexNamesWhatAnswers(f *testing.F) {
	f.Add("備份資料庫 café foo_bar", "資料 caf")
	f.Add("一 b 二", "b二")
	f.Add("x̌ ﬁ ｶﾞ ½ 👨‍👩‍👧", `"fi ガ"`)
	f.Add(strings.Repeat("long", 40)+"é", strings.Repeat("long", 20))
	f.Fuzz(func(t *testing.T, text, question string) {
		q, err := Parse(question)
		if err != nil || !utf8.ValidString(text) {
			return
		}
		marks, ok := q.Match(text)
		last := 0
		for _, m := range marks {
			if m.From < last || m.To <= m.From || m.To > len(text) || !utf8.ValidString(text[m.From:m.To]) {
				t.Fatalf("marks %v in %q", marks, text)
			}
			last = m.To
		}
		Excerpt(text, marks, 30)
		var a, b Builder
		a.Add(Post{1, 1, 1}, "something else")
		a.Add(Post{3, 1, 2}, text)
		b.Add(Post{2, 1, 3}, "something else 資")
		b.Add(Post{3, 1, 2}, "as it was")
		whole, err := Merge([]*Part{a.Part(), b.Part()})
		if err != nil || len(whole.Posts) != 3 {
			t.Fatal(whole, err)
		}
		for i, p := range []*Part{a.Part(), whole} {
			found, err := q.Lookup().Find(p.Blocks, len(p.Posts))
			if err != nil {
				t.Fatal(err)
			}
			if ok && !slices.Contains(found, uint32(i+1)) {
				t.Fatalf("%q answers %q, and the index does not know (part %d: %v)", text, question, i, found)
			}
			var back []Post
			for _, page := range p.Pages() {
				posts, err := ReadPage(page.Data)
				if err != nil {
					t.Fatal(err)
				}
				back = append(back, posts...)
			}
			if !slices.Equal(back, p.Posts) {
				t.Fatalf("%v came back as %v", p.Posts, back)
			}
		}
	})
}

// Rows that somebody else wrote are refused, or give something; they break nothing.
func FuzzTornRows(f *testing.F) {
	var b Builder
	b.Add(Post{1, 2, 3}, "some words 資料")
	f.Add(b.Part().Blocks[0].Data, b.Part().Pages()[0].Data)
	f.Add([]byte{1, 'a', 200, 1, 1, 0}, []byte{255})
	f.Fuzz(func(_ *testing.T, block, page []byte) {
		q, _ := Parse("資料 w")
		found, err := q.Lookup().Find([]Block{{[]byte("a"), block}}, 10)
		for _, n := range found {
			if n >= 10 && err == nil {
				panic("a number that no message has")
			}
		}
		_, _ = ReadPage(page)
		_, _ = Merge([]*Part{{Posts: make([]Post, 3), Blocks: []Block{{[]byte("a"), block}}}})
	})
}
