package judge_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/pelletier/go-toml/v2"

	"howdah/internal/audit"
	"howdah/internal/audit/audittest"
	"howdah/internal/audit/judge"
)

var sessionID = regexp.MustCompile(`"session_id":"([^"]*)"`)

// playedScenario is an attack or a twin as it was logged on a copy of the cluster after seven days.
type playedScenario struct {
	ID, Part  string
	Lines     []string
	Snapshots []*judge.Snapshot
}

// holdoutLabel names the sessions of an attack or a twin among the days.
type holdoutLabel struct {
	Label    string
	Sessions []string
}

func holdoutScenarios(t *testing.T) []audittest.Scenario {
	t.Helper()
	raw, err := os.ReadFile("testdata/holdout/scenarios.toml")
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Scenario []audittest.Scenario `toml:"scenario"`
	}
	if err := toml.Unmarshal(raw, &file); err != nil {
		t.Fatal(err)
	}
	return file.Scenario
}

// timeOf reads when a line was written.
func timeOf(raw []byte) time.Time {
	if l, err := audit.ParseLine(raw); err == nil {
		return l.Time
	}
	return time.Time{}
}

// seen tells which half a scenario belongs to: those that the judge was mended by, or those that were looked at once, for the last figure.
func seen(id string) bool {
	h := fnv.New32a()
	_, _ = h.Write([]byte(id))
	return h.Sum32()%2 == 0
}

// holdoutLines hands on each line of a file: of the log, or what the catalogs held.
func holdoutLines(t *testing.T, name string, line func(raw []byte)) {
	t.Helper()
	f, err := os.Open(filepath.Join("testdata", "holdout", name))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := zstd.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	lines := bufio.NewScanner(z)
	lines.Buffer(nil, 8<<20)
	for lines.Scan() {
		line(lines.Bytes())
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
}

// judged judges a line of those files.
func judged(t *testing.T, j *judge.Judge, raw []byte) []judge.Verdict {
	t.Helper()
	if bytes.HasPrefix(raw, []byte(`{"snapshots"`)) {
		var look struct{ Snapshots []*judge.Snapshot }
		if err := json.Unmarshal(raw, &look); err != nil {
			t.Fatal(err)
		}
		var all []judge.Verdict
		for _, s := range look.Snapshots {
			all = append(all, j.Reconcile(s)...)
		}
		return all
	}
	l, err := audit.ParseLine(raw)
	if err != nil {
		t.Fatal(err)
	}
	l.Mask()
	return j.Line(&l)
}

// What was found when it was met first, with rules and habits that knew one shop only: 52 of 56 attacks (22 of 25 critical), 21 of 56 twins loud, and 31 false
// incidents a day. After mending by one half of the scenarios and the first five days (seen): of the other half 25 of 27 attacks (12 of 14 critical), 1 of 27
// twins loud, all 19 attacks among the days, and 2 false incidents in the five days that nobody had looked at. Since then all of it was looked at.
//
// TestAtAnotherShop: at a shop that the rules were not written for, attacks are found and their harmless twins are not, one by one and among ten days of ordinary and of odd work.
func TestAtAnotherShop(t *testing.T) {
	t.Parallel()
	rules, err := judge.LoadRules(nil)
	if err != nil {
		t.Fatal(err)
	}
	learned := judge.New(rules, judge.Options{})
	holdoutLines(t, "learn.json.zst", func(raw []byte) {
		for _, v := range judged(t, learned, raw) {
			if v.Incident != nil && v.Change == judge.Began {
				t.Logf("while it learns: %s %s %s: %s", v.Event.Time.Format("02 15:04"), v.Rule, v.Event.Actor, v.Event.Text)
			}
		}
	})
	var state bytes.Buffer
	if err := learned.Save(&state); err != nil {
		t.Fatal(err)
	}
	severity := map[string]string{}
	for _, s := range holdoutScenarios(t) {
		severity[s.ID] = s.Severity
	}

	type figures struct{ attacks, found, critical, criticalFound, twins, loud int }
	var halves [2]figures
	half := func(id string) *figures {
		if seen(id) {
			return &halves[0]
		}
		return &halves[1]
	}
	holdoutLines(t, "scenarios.json.zst", func(raw []byte) {
		var p playedScenario
		if err := json.Unmarshal(raw, &p); err != nil {
			t.Fatal(err)
		}
		j := judge.New(rules, judge.Options{})
		if err := j.Load(bytes.NewReader(state.Bytes())); err != nil {
			t.Fatal(err)
		}
		var told []string
		note := func(all []judge.Verdict) {
			for _, v := range all {
				if v.Incident != nil {
					told = append(told, v.Rule+" ("+v.Severity.String()+")")
				}
			}
		}
		for _, line := range p.Lines {
			note(judged(t, j, []byte(line)))
		}
		for _, s := range p.Snapshots {
			note(j.Reconcile(s))
		}
		f := half(p.ID)
		if p.Part == "twin" {
			f.twins++
			if told != nil {
				f.loud++
			}
		} else {
			f.attacks++
			if severity[p.ID] == "critical" {
				f.critical++
			}
			if told != nil {
				f.found++
				if severity[p.ID] == "critical" {
					f.criticalFound++
				}
			}
		}
		if (p.Part == "twin") == (told != nil) || testing.Verbose() {
			t.Logf("%s %s (%s): %v", p.ID, p.Part, severity[p.ID], slices.Compact(told))
		}
	})
	for i, name := range []string{"seen", "unseen"} {
		f := halves[i]
		t.Logf("%s half: %d of %d attacks found, %d of %d critical; %d of %d twins loud", name, f.found, f.attacks, f.criticalFound, f.critical, f.loud, f.twins)
	}

	labels := map[string]string{}
	named := map[string]bool{}
	raw, err := os.ReadFile("testdata/holdout/labels.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	for line := range bytes.Lines(raw) {
		var l holdoutLabel
		if err := json.Unmarshal(line, &l); err != nil {
			t.Fatal(err)
		}
		named[l.Label] = false
		for _, s := range l.Sessions {
			labels[s] = l.Label
		}
	}
	falls := map[string]string{} // false incidents: what they say
	lately := struct {
		label string
		at    time.Time
	}{}
	holdoutLines(t, "days.json.zst", func(raw []byte) {
		if found := sessionID.FindSubmatch(raw); found != nil && labels[string(found[1])] != "" {
			lately.label, lately.at = labels[string(found[1])], timeOf(raw)
		}
		for _, v := range judged(t, learned, raw) {
			if v.Incident == nil {
				continue
			}
			label := ""
			for _, s := range v.Incident.Sessions {
				if labels[s] != "" {
					label = labels[s]
				}
			}
			if len(v.Incident.Sessions) == 0 && v.Event.Time.Sub(lately.at) < 2*time.Minute {
				label = lately.label // what the catalogs say has no session
			}
			if label != "" {
				named[label] = true
			}
			if !strings.HasPrefix(label, "attack") {
				falls[v.Incident.ID] += fmt.Sprintf("%s %s %s %s %s [%s] %q; ", v.Event.Time.Format("02 15:04"), v.Rule, v.Severity, v.Incident.Actor, v.Incident.Source, label, v.Event.Text)
			}
		}
	})
	found, attacks := 0, 0
	for label, was := range named {
		if strings.HasPrefix(label, "attack") {
			attacks++
			if was {
				found++
			} else {
				t.Logf("not found among the days: %s", label)
			}
		}
	}
	early := 0
	for id, says := range falls {
		if id < "20270316" {
			early++
		}
		t.Logf("false incident %s: %s", id, says)
	}
	for _, f := range halves {
		if f.found < f.attacks || f.criticalFound < f.critical || f.loud > 0 || f.attacks+f.twins < 50 {
			t.Errorf("attacks are missed, or twins are loud: %+v", f)
		}
	}
	if found < attacks || len(falls) > 2 || attacks < 19 { // 0.2 a day
		t.Errorf("%d of %d attacks found among the days, %d false incidents", found, attacks, len(falls))
	}
	t.Logf("ten days: %d of %d attacks found, false incidents: %d in the first five, %d in the last", found, attacks, early, len(falls)-early)
}
