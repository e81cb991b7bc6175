package cli

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"howdah/internal/lang"
)

func TestProgressIsABarOnATerminalAndLinesElsewhere(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	p := &progress{out: &out, lang: lang.English, terminal: true}
	p.show("shop", 0, 2_000_000)
	p.shown = time.Now().Add(time.Hour)
	p.show("shop", 1_000_000, 2_000_000) // too soon to be drawn
	p.show("shop", 2_000_000, 2_000_000)
	p.end()
	text := out.String()
	if !strings.Contains(text, "[........................] shop: 0 %, 0 B of about 2.0 MB") || strings.Contains(text, "50 %") ||
		!strings.Contains(text, "[########################] shop: 100 %") || !strings.HasSuffix(text, "\r") || strings.Contains(text, "\n") {
		t.Errorf("%q", text)
	}
	out.Reset()
	p = &progress{out: &out, lang: lang.Chinese}
	p.show("象", 1, 3)
	p.show("象", 2, 3)
	if out.Len() > 0 {
		t.Errorf("at once: %q", out.String())
	}
	p.shown = p.shown.Add(-lineEvery)
	p.show("象", 2_500_000_000, 3_000_000_000)
	if text := out.String(); !strings.HasPrefix(text, "howdah: 象：83 %，2.5 GB／約 3.0 GB") || !strings.HasSuffix(text, "\n") {
		t.Errorf("%q", text)
	}
	out.Reset()
	p.quiet = true
	p.show("x", 0, 1)
	p.shown = p.shown.Add(-lineEvery)
	p.show("x", 0, 0)
	p.end()
	if out.Len() > 0 {
		t.Errorf("quiet: %q", out.String())
	}
}

func TestNumbersAreSaidAsPeopleSayThem(t *testing.T) {
	t.Parallel()
	for n, want := range map[int64]string{0: "0 B", 999: "999 B", 1500: "2 kB", 999_499: "999 kB", 999_500: "1.0 MB", 1_250_000_000: "1.2 GB", 5_000_000_000_000: "5.0 TB"} {
		if got := byteText(n); got != want {
			t.Errorf("%d: %s, not %s", n, got, want)
		}
	}
	for d, want := range map[time.Duration]string{0: "0:00", 7 * time.Second: "0:07", 61 * time.Second: "1:01", 3723 * time.Second: "1:02:03"} {
		if got := durationText(d); got != want {
			t.Errorf("%v: %s, not %s", d, got, want)
		}
	}
	for done, want := range map[int64]int64{0: 0, 995: 99, 999: 99, 1000: 100, 2000: 100} {
		if got := percent(done, 1000); got != want {
			t.Errorf("%d of 1000: %d %%", done, got)
		}
	}
}

func TestATimeOfDayIsTheLastOne(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 3, 1, 3, 30, 15, 500_000_000, time.Local)
	for said, want := range map[string]string{
		"03:30": "2026-03-01 03:30", "03:31": "2026-02-28 03:31", "10:41": "2026-02-28 10:41", " 00:00 ": "2026-03-01 00:00", "03:30:15": "2026-03-01 03:30:15",
		"03:30:15.4": "2026-03-01 03:30:15.4", "03:30:15.6": "2026-02-28 03:30:15.6", "03:30:16": "2026-02-28 03:30:16",
		"2026-02-01 10:41": "2026-02-01 10:41", "24:00": "24:00", "3:30": "3:30", "yesterday": "yesterday", "": "",
	} {
		if have := lastTime(said, now); have != want {
			t.Errorf("%q: %q, want %q", said, have, want)
		}
	}
}
