package bench

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"runtime"
	"runtime/debug"
	"strings"

	"howdah/internal/lang"
)

// Figure is one thing that was measured. Every bench of ours prints this form.
type Figure struct {
	Name     string   `json:"name"`
	Value    float64  `json:"value"`
	Unit     string   `json:"unit"`
	Baseline *float64 `json:"baseline"` // measured in the same rounds; null where nothing is compared
	Ratio    *float64 `json:"ratio"`    // value to baseline: the median of the rounds' own ratios
	Aim      *string  `json:"aim"`
	Held     *bool    `json:"held"`
}

// Report is what a bench found, and on what.
type Report struct {
	Figures []Figure `json:"figures"`
	Machine machine  `json:"machine"`
	// Versions of what was measured.
	Versions struct {
		Howdah   string `json:"howdah"`
		Go       string `json:"go"`
		Postgres string `json:"postgres"`
	} `json:"versions"`
}

type machine struct {
	CPU    string `json:"cpu"`
	Cores  int    `json:"cores"`
	Memory int64  `json:"memory_mib"`
	Kernel string `json:"kernel"`
}

func newReport() *Report {
	r := &Report{Figures: []Figure{}, Machine: thisMachine()}
	r.Machine.Cores = runtime.NumCPU()
	r.Versions.Go = runtime.Version()
	r.Versions.Howdah = "devel"
	if info, ok := debug.ReadBuildInfo(); ok {
		if v := info.Main.Version; v != "" && v != "(devel)" {
			r.Versions.Howdah = v
		}
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" && len(s.Value) >= 12 {
				r.Versions.Howdah += " " + s.Value[:12]
			}
		}
	}
	return r
}

func (r *Report) add(figures ...Figure) { r.Figures = append(r.Figures, figures...) }

// against sets a figure in proportion to a baseline; ratios are those of the rounds.
func (f Figure) against(baseline float64, ratios []float64) Figure {
	ratio := round3(median(ratios))
	baseline = round3(baseline)
	f.Baseline, f.Ratio = &baseline, &ratio
	return f
}

func (f Figure) atMost(aim float64) Figure { return f.aim("<= %g", aim, f.Value <= aim) }

// ratioAtLeast and ratioAtMost are aims for the ratio in place of the value.
func (f Figure) ratioAtLeast(aim float64) Figure { return f.aim("ratio >= %g", aim, *f.Ratio >= aim) }
func (f Figure) ratioAtMost(aim float64) Figure  { return f.aim("ratio <= %g", aim, *f.Ratio <= aim) }

func (f Figure) aim(form string, aim float64, held bool) Figure {
	text := fmt.Sprintf(form, aim)
	f.Aim, f.Held = &text, &held
	return f
}

// round3 keeps what a measurement can mean: three decimals below ten, fewer above.
func round3(v float64) float64 {
	switch abs := math.Abs(v); {
	case abs < 10:
		return math.Round(v*1000) / 1000
	case abs < 1000:
		return math.Round(v*10) / 10
	}
	return math.Round(v)
}

// JSON writes the report for programs.
func (r *Report) JSON(w io.Writer) error {
	for i := range r.Figures {
		r.Figures[i].Value = round3(r.Figures[i].Value)
	}
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	return encoder.Encode(r)
}

// Table writes the report for people.
func (r *Report) Table(w io.Writer, l lang.Locale) error {
	rows := [][]string{{l.T("bench.col.figure"), l.T("bench.col.value"), "", l.T("bench.col.baseline"), l.T("bench.col.ratio"), l.T("bench.col.aim"), l.T("bench.col.held")}}
	for _, f := range r.Figures {
		row := []string{l.T("bench.figure." + f.Name), number(f.Value), f.Unit, "", "", "", ""}
		if f.Baseline != nil {
			row[3], row[4] = number(*f.Baseline), fmt.Sprintf("%.2f", *f.Ratio)
		}
		if f.Aim != nil {
			row[5] = strings.Replace(*f.Aim, "ratio ", l.T("bench.col.ratio")+" ", 1)
			row[6] = l.T("bench.no")
			if *f.Held {
				row[6] = l.T("bench.yes")
			}
		}
		rows = append(rows, row)
	}
	var b strings.Builder
	b.WriteString(lang.Table(rows, 1, 3, 4))
	fmt.Fprintf(&b, "\n%s, %d x, %d MiB, %s\nhowdah %s, %s, PostgreSQL %s\n", r.Machine.CPU, r.Machine.Cores, r.Machine.Memory, r.Machine.Kernel,
		r.Versions.Howdah, r.Versions.Go, r.Versions.Postgres)
	_, err := io.WriteString(w, b.String())
	return err
}

func number(v float64) string {
	switch v = round3(v); {
	case math.Abs(v) >= 10_000:
		s := fmt.Sprintf("%.0f", v)
		for i := len(s) - 3; i > 0; i -= 3 {
			s = s[:i] + "," + s[i:]
		}
		return s
	case math.Abs(v) >= 100:
		return fmt.Sprintf("%.0f", v)
	case math.Abs(v) >= 10:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.2f", v)
}
