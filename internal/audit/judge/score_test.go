package judge

import (
	"bufio"
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"howdah/internal/audit"
)

var verbose = flag.Bool("judge.verbose", false, "tell every incident of the timeline and the scenarios")

func unpack(t testing.TB, name string) []byte {
	t.Helper()
	file, err := os.Open("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	stream, err := zstd.NewReader(file)
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	raw, err := io.ReadAll(stream)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func ours(t testing.TB) *Rules {
	t.Helper()
	rules, err := LoadRules(nil)
	if err != nil {
		t.Fatal(err)
	}
	return rules
}

// label is an act or a look-alike in the timeline.
type label struct {
	Instance, Kind, Scenario, Title, Severity string
	SessionIDs                                []string
	Start, End                                time.Time
}

// tally is how well a part of the timeline was judged.
type tally struct {
	acts, found, grave, graveFound, twins, twinsAlarmed, alarms int
	days                                                        float64
}

func (c tally) String() string {
	return fmt.Sprintf("%d of %d acts (critical: %d of %d), %d false incidents in %.0f days = %.2f a day, %d of %d look-alikes alarmed",
		c.found, c.acts, c.graveFound, c.grave, c.alarms, c.days, float64(c.alarms)/c.days, c.twinsAlarmed, c.twins)
}

// TestTheTimeline replays the days of a small shop: after a week of learning come acts and look-alikes.
// The labels were known to who wrote the rules: the score says that they do what they are for, not how they do on days that nobody has seen.
func TestTheTimeline(t *testing.T) {
	t.Parallel()
	rules := ours(t)
	j := New(rules, Options{})
	var incidents []*Incident
	log := unpack(t, "timeline.json.zst")
	did, err := j.Replay(bytes.NewReader(log), func(v Verdict) error {
		if v.Change == Began {
			incidents = append(incidents, v.Incident)
		}
		return nil
	})
	if err != nil || did.Broken > 0 || did.Lines < 12_000 {
		t.Fatalf("%+v, %v", did, err)
	}
	raw, err := os.ReadFile("testdata/labels.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	var labels []label
	for lines := bufio.NewScanner(bytes.NewReader(raw)); lines.Scan(); {
		var l label
		if err := json.Unmarshal(lines.Bytes(), &l); err != nil {
			t.Fatal(err)
		}
		labels = append(labels, l)
	}
	first := time.Date(2026, 9, 1, 0, 0, 0, 0, time.UTC)
	score := func(from, to int) tally {
		c := tally{days: float64(to - from)}
		start, end := first.AddDate(0, 0, from), first.AddDate(0, 0, to)
		for _, l := range labels {
			if l.Start.Before(start) || !l.Start.Before(end) {
				continue
			}
			hit := slices.ContainsFunc(incidents, func(i *Incident) bool {
				return slices.ContainsFunc(i.Sessions, func(id string) bool { return slices.Contains(l.SessionIDs, id) })
			})
			switch {
			case l.Kind == "twin":
				c.twins++
				if hit {
					c.twinsAlarmed++
				}
				continue
			case hit:
				c.found++
				if l.Severity == "critical" {
					c.graveFound++
				}
			case testing.Verbose() || *verbose:
				t.Logf("missed: %s %s", l.Instance, l.Title)
			}
			c.acts++
			if l.Severity == "critical" {
				c.grave++
			}
		}
		for _, i := range incidents {
			if i.Began.Before(start) || !i.Began.Before(end) {
				continue
			}
			ofAct := slices.ContainsFunc(labels, func(l label) bool {
				return l.Kind == "attack" && slices.ContainsFunc(i.Sessions, func(id string) bool { return slices.Contains(l.SessionIDs, id) })
			})
			if !ofAct {
				c.alarms++
			}
			if !ofAct && testing.Verbose() || *verbose {
				t.Logf("%v %s %s %s %s %v", ofAct, i.Began.Format("01-02 15:04"), i.Severity, i.Actor, i.Source, i.Rules)
				for _, reason := range i.Reasons {
					t.Logf("    %s", rules.Text(reason, "en"))
				}
			}
		}
		return c
	}
	learned, early, late, all := score(0, 7), score(7, 13), score(13, 19), score(0, 19)
	t.Logf("learning days:  %s", learned)
	t.Logf("days 8 to 13:   %s", early)
	t.Logf("days 14 to 19:  %s", late)
	t.Logf("all:            %s", all)
	if float64(all.found) < 0.95*float64(all.acts) || all.graveFound < all.grave || float64(all.alarms) > 0.2*all.days {
		t.Errorf("below what is promised: %s", all)
	}
}

// scenario is an act and its harmless twin, with what PostgreSQL logged.
type scenario struct {
	ID, Title, Severity string
	Act, Twin           []step
	SeenBy              []string `json:"seen_by"`
	Observed            map[string]observed
}

type step struct {
	As, App, From, DB, PW string
	Hour                  any
	SQL                   []string
	Repeat                int
}

type observed struct {
	Log    []string
	Canary *bool
	Xmin   []string
	Diff   []string
}

// house maps the scenarios' addresses to those of the timeline's shop.
func house(from string) string {
	if net, host, _ := strings.Cut(strings.TrimPrefix(from, "127.0."), "."); net == "66" {
		return "198.51.100." + host
	}
	return "10.20." + strings.TrimPrefix(from, "127.0.")
}

// feed gives a judge what a scenario's session wrote, on a Tuesday, and what the catalogs showed afterwards. It says how many verdicts alarmed, and which rules.
func feed(j *Judge, steps []step, o observed) (alarmed []string) {
	note := func(verdicts []Verdict) {
		for _, v := range verdicts {
			if v.Severity.Alarms() {
				alarmed = appendNew(alarmed, v.Rule)
			}
		}
	}
	at := 0
	repeated := 0
	number := 0
	var when time.Time
	var line audit.Line
	begin := func() {
		s := steps[at]
		hour, minute := 12, 0
		fmt.Sscanf(strings.Trim(fmt.Sprint(s.Hour), "'"), "%d:%d", &hour, &minute)
		if n, ok := s.Hour.(float64); ok { // YAML 1.1 reads 12:30 as 750 minutes
			hour, minute = int(n)/60, int(n)%60
		}
		number++
		when = time.Date(2026, 9, 8, hour, minute, number%60, 0, time.UTC)
		db := s.DB
		if db == "" {
			db = "postgres"
		}
		line = audit.Line{User: s.As, DB: db, App: s.App, RemoteHost: house(s.From), SessionID: fmt.Sprintf("scenario.%d", number), SessionStart: when,
			BackendType: "client backend"}
	}
	begin()
	connected := len(o.Log) > 0 && strings.HasPrefix(o.Log[0], "LOG: connection received")
	started, cut := false, false
	for _, text := range o.Log {
		if strings.HasPrefix(text, "… ") {
			cut = true
			continue
		}
		if connected && strings.HasPrefix(text, "LOG: connection received") || !connected && started && strings.HasPrefix(text, "FATAL: ") {
			if started {
				if repeated++; repeated >= max(1, steps[at].Repeat) && at+1 < len(steps) {
					at, repeated = at+1, 0
				}
				begin()
			}
		} else if !connected && started {
			for k := at + 1; k < len(steps); k++ {
				if _, rest, ok := strings.Cut(text, ",<none>"); !ok && slices.ContainsFunc(steps[k].SQL, func(sql string) bool { return strings.Contains(strings.ReplaceAll(text, `""`, `"`), sql) }) && rest == "" {
					at = k
					begin()
					break
				}
			}
		}
		started = true
		severity, message, _ := strings.Cut(text, ": ")
		l := line
		l.Severity, l.Time = severity, when
		when = when.Add(time.Millisecond)
		line.LineNum++
		l.LineNum = line.LineNum
		var statement string
		if severity == "ERROR" {
			message, statement, _ = strings.Cut(message, " || STATEMENT: ")
		}
		switch {
		case severity == "FATAL":
			l.State = "28P01"
		case severity == "ERROR" && (strings.HasPrefix(message, "permission denied") || strings.HasPrefix(message, "must ")):
			l.State = "42501"
		case severity == "ERROR":
			l.State = "42601"
		}
		raw, _ := json.Marshal(map[string]any{"timestamp": l.Time.Format("2006-01-02 15:04:05.000") + " UTC", "user": l.User, "dbname": l.DB, "pid": 7, "remote_host": l.RemoteHost,
			"session_id": l.SessionID, "line_num": l.LineNum, "session_start": l.SessionStart.Format("2006-01-02 15:04:05") + " UTC", "txid": 0, "error_severity": severity,
			"state_code": l.State, "message": message, "statement": statement, "application_name": l.App, "backend_type": "client backend"})
		parsed, err := audit.ParseLine(raw)
		if err != nil {
			panic(err)
		}
		note(j.Line(&parsed))
	}
	if cut {
		// The file shows the first lines only: the rest of a series of failures, and the log-in behind it.
		for _, s := range steps {
			for k := 8; k < s.Repeat; k++ {
				e := Event{Kind: LoginFailed, Time: when, Actor: s.As, Source: house(s.From), Session: fmt.Sprint("cut.", k), Code: "28P01"}
				note(j.judge(&e))
			}
		}
		if last := steps[len(steps)-1]; len(steps) > 1 {
			e := Event{Kind: Login, Time: when, Actor: last.As, App: last.App, Source: house(last.From), DB: last.DB, Session: "cut.in", Status: Unknown}
			note(j.judge(&e))
		}
	}
	for _, row := range o.Xmin {
		catalog, name, _ := strings.Cut(row, ":")
		note(j.Event(Event{Kind: Unexplained, Time: when, ObjectType: catalog, ObjectName: name}))
	}
	if o.Canary != nil && !*o.Canary {
		note(j.Event(Event{Kind: Canary, Time: when}))
	}
	if slices.Contains(o.Diff, "pg_hba_file_rules") {
		note(j.Event(Event{Kind: HBAChange, Time: when, Detail: "host all all 0.0.0.0/0 trust"}))
	}
	return alarmed
}

// firstWeek is the state of a judge that has seen the shop's first week, in which nothing is out of order.
func firstWeek(t testing.TB, rules *Rules) []byte {
	t.Helper()
	j := New(rules, Options{})
	days := bufio.NewScanner(bytes.NewReader(unpack(t, "timeline.json.zst")))
	days.Buffer(nil, 1<<24)
	for days.Scan() {
		l, err := audit.ParseLine(days.Bytes())
		if err != nil {
			t.Fatal(err)
		}
		if l.Time.Day() > 7 {
			break
		}
		j.Line(&l)
	}
	var saved bytes.Buffer
	if err := j.Save(&saved); err != nil {
		t.Fatal(err)
	}
	return saved.Bytes()
}

// TestTheScenarios: what PostgreSQL logged of each act is found, and its harmless twin is silent, with the log that the seed asks for (A) and with more (B); by a judge that
// has learned a week, and by one that has learned nothing. They were known to who wrote the rules.
func TestTheScenarios(t *testing.T) {
	t.Parallel()
	rules := ours(t)
	saved := firstWeek(t, rules)
	var scenarios []scenario
	if err := json.Unmarshal(unpack(t, "scenarios.json.zst"), &scenarios); err != nil {
		t.Fatal(err)
	}
	type count struct{ found, acts, grave, graveFound, alarmed, twins int }
	score := map[string]*count{}
	for n, s := range scenarios {
		half := "even"
		if n%2 == 1 {
			half = "odd"
		}
		for _, config := range []string{"A", "B"} {
			for _, mind := range []string{"learned", "fresh"} {
				judge := func() *Judge {
					j := New(rules, Options{})
					// What pg_roles of the shop says: anybody can read it when the watch begins.
					for _, name := range []string{"app_rw", "app_ro", "migrator", "etl", "dbt", "monitor", "analyst_kim", "backup", "ci"} {
						j.Know(name, false, false, true)
					}
					for _, name := range []string{"dba_anna", "postgres"} {
						j.Know(name, true, true, true)
					}
					for _, name := range []string{"dba_bob", "iam_sync", "vault"} {
						j.Know(name, false, true, true)
					}
					if mind == "learned" {
						if err := j.Load(bytes.NewReader(saved)); err != nil {
							t.Fatal(err)
						}
					}
					return j
				}
				act, twin := s.Observed[config+"_attack"], s.Observed[config+"_benign"]
				for _, key := range []string{half + ", " + config + ", " + mind, "all, " + config + ", " + mind} {
					if score[key] == nil {
						score[key] = &count{}
					}
				}
				var found, silent []string
				if len(act.Log) > 0 || len(act.Xmin) > 0 || len(act.Diff) > 0 {
					found = feed(judge(), s.Act, act)
				}
				if len(twin.Log) > 0 {
					silent = feed(judge(), s.Twin, twin)
				}
				for _, key := range []string{half + ", " + config + ", " + mind, "all, " + config + ", " + mind} {
					c := score[key]
					c.acts++
					c.twins++
					if s.Severity == "critical" {
						c.grave++
					}
					if len(found) > 0 {
						c.found++
						if s.Severity == "critical" {
							c.graveFound++
						}
					}
					if len(silent) > 0 {
						c.alarmed++
					}
				}
				if len(found) == 0 {
					t.Logf("missed: %s %s %s (%s; seen by %v)", s.ID, config, mind, s.Title, s.SeenBy)
				} else if *verbose {
					t.Logf("found: %s %s %s %v", s.ID, config, mind, found)
				}
				if len(silent) > 0 {
					t.Logf("twin alarms: %s %s %s %v", s.ID, config, mind, silent)
				}
			}
		}
	}
	for _, key := range slices.Sorted(maps.Keys(score)) {
		c := score[key]
		t.Logf("%-22s %d of %d acts (critical: %d of %d), %d of %d twins alarmed", key, c.found, c.acts, c.graveFound, c.grave, c.alarmed, c.twins)
		// Three cannot be seen by a judge that has learned: S29's grave record is cut from the file, S47 needs log_connections, S53 leaves no record.
		if strings.HasPrefix(key, "all, ") && (c.alarmed > 0 || strings.HasSuffix(key, "learned") && (c.found < c.acts-3 || c.graveFound < c.grave)) {
			t.Errorf("%s: below what it was", key)
		}
	}
}
