//go:build unix

package judge

import (
	"bytes"
	"syscall"
	"testing"
	"time"

	"howdah/internal/audit"
)

// spent is the processor time of this process, which a busy machine does not falsify as it does the clock.
func spent(b *testing.B) time.Duration {
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		b.Fatal(err)
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}

// BenchmarkParsedAndJudged reads the days of the shop over and over, on one core: lines and pgAudit records per second.
func BenchmarkParsedAndJudged(b *testing.B) {
	rules := ours(b)
	lines := bytes.SplitAfter(unpack(b, "timeline.json.zst"), []byte("\n"))
	j := New(rules, Options{})
	records := 0
	n := 0
	b.ResetTimer()
	before := spent(b)
	for b.Loop() {
		raw := lines[n%len(lines)]
		n++
		if len(raw) == 0 {
			continue
		}
		line, err := audit.ParseLine(raw)
		if err != nil {
			b.Fatal(err)
		}
		if line.Audit != nil {
			records++
		}
		j.Line(&line)
	}
	cpu := (spent(b) - before).Seconds()
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "lines/s")
	b.ReportMetric(float64(n)/cpu, "lines/cpu-s")
	b.ReportMetric(float64(records)/cpu, "records/cpu-s")
}

// BenchmarkRecords judges pgAudit's records alone, without the log-ins between them.
func BenchmarkRecords(b *testing.B) {
	rules := ours(b)
	var lines [][]byte
	for _, raw := range bytes.SplitAfter(unpack(b, "timeline.json.zst"), []byte("\n")) {
		if bytes.Contains(raw, []byte(`"message":"AUDIT: `)) {
			lines = append(lines, raw)
		}
	}
	j := New(rules, Options{})
	n := 0
	b.ResetTimer()
	before := spent(b)
	for b.Loop() {
		line, err := audit.ParseLine(lines[n%len(lines)])
		if err != nil {
			b.Fatal(err)
		}
		n++
		j.Line(&line)
	}
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "records/s")
	b.ReportMetric(float64(n)/(spent(b)-before).Seconds(), "records/cpu-s")
}
