package cli

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"howdah/internal/fault"
	"howdah/internal/keeper"
	"howdah/internal/lang"
)

// progress shows how far a long work is: a bar on a terminal, a line now and then elsewhere.
type progress struct {
	out      io.Writer
	lang     lang.Locale
	terminal bool
	quiet    bool                                  // no lines
	tell     func(label string, done, total int64) // is told as well; nil: nobody is

	mu    sync.Mutex
	label string
	begun time.Time // of what the label names
	shown time.Time
	width int // of what stands in the line now
}

// Where a bar is drawn, and where lines are written, no more often than that.
const (
	barEvery  = 200 * time.Millisecond
	lineEvery = 10 * time.Second
)

// progress begins one; it must be ended. With quiet only a terminal is told.
func (t *terminal) progress(quiet bool) *progress {
	p := &progress{out: t.err, lang: t.lang, quiet: quiet}
	if f, ok := t.err.(*os.File); ok {
		st, err := f.Stat()
		p.terminal = err == nil && st.Mode()&os.ModeCharDevice != 0 && os.Getenv("TERM") != "dumb"
	}
	return p
}

// show says that done of about total bytes are done of what label names.
func (p *progress) show(label string, done, total int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.tell != nil {
		p.tell(label, done, total)
	}
	now := time.Now()
	if label != p.label {
		p.label, p.begun, p.shown = label, now, now.Add(-barEvery)
		if !p.terminal {
			p.shown = now
		}
	}
	every := barEvery
	if !p.terminal {
		every = lineEvery
	}
	if now.Sub(p.shown) < every && (done < total || !p.terminal) {
		return
	}
	p.shown = now
	text := p.text(done, total, now.Sub(p.begun))
	switch {
	case p.terminal:
		p.draw(text, done, total)
	case !p.quiet:
		fmt.Fprintln(p.out, "howdah: "+text)
	}
}

func (p *progress) text(done, total int64, took time.Duration) string {
	args := fault.Args{"label": p.label, "done": byteText(done), "total": byteText(total), "rate": byteText(int64(float64(done) / max(took.Seconds(), 0.001))),
		"left": "-"}
	if done > 0 && total > done && took > time.Second {
		args["left"] = durationText(time.Duration(float64(took) * float64(total-done) / float64(done)))
	}
	if total <= 0 {
		return p.lang.T("cli.progress.open", args)
	}
	args["percent"] = percent(done, total)
	return p.lang.T("cli.progress.of", args)
}

// percent is 100 only when all is done; totals are often estimates.
func percent(done, total int64) int64 {
	if done >= total {
		return 100
	}
	return min(99, done*100/max(total, 1))
}

const barCells = 24

func (p *progress) draw(text string, done, total int64) {
	if total > 0 {
		cells := int(percent(done, total) * barCells / 100)
		text = "[" + strings.Repeat("#", cells) + strings.Repeat(".", barCells-cells) + "] " + text
	}
	width := 0
	for _, r := range text { // letters of East Asia take two places
		width++
		if r >= 0x1100 && utf8.RuneLen(r) >= 3 {
			width++
		}
	}
	fmt.Fprint(p.out, "\r"+text+strings.Repeat(" ", max(0, p.width-width)))
	p.width = width
}

// end leaves an empty line to whoever writes next.
func (p *progress) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.width > 0 {
		fmt.Fprint(p.out, "\r"+strings.Repeat(" ", p.width)+"\r")
		p.width = 0
	}
}

// byteText is a number of bytes as people say it: "1.2 GB".
func byteText(n int64) string { return keeper.SizeText(n) }

// durationText is a time to the second: "1:02:03", "0:07".
func durationText(d time.Duration) string { return keeper.DurationText(d) }
