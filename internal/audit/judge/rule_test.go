package judge

import (
	"io/fs"
	"strings"
	"testing"
	"testing/fstest"
)

// TestEveryRuleDoesAsItsExamplesSay: each rule that comes with Howdah finds its positive example and leaves its negative one alone.
func TestEveryRuleDoesAsItsExamplesSay(t *testing.T) {
	t.Parallel()
	rules, err := LoadRules(nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(rules.All) < 50 {
		t.Fatalf("%d rules", len(rules.All))
	}
	for _, trial := range rules.Try() {
		if !trial.Passed() {
			t.Errorf("%s: %s: found %v, want %v (%v)", trial.File, trial.Rule, trial.Got, trial.Want, trial.Err)
		}
	}
	for _, rule := range rules.All {
		for _, l := range languages {
			if rule.Title[l] == "" || rule.Say[l] == "" {
				t.Errorf("%s has no words in %s", rule.ID, l)
			}
			if rule.Do != nil && rule.Do[l] == "" {
				t.Errorf("%s does not say what to do in %s", rule.ID, l)
			}
		}
		e, err := exampleEvent(rule.Yes)
		if err != nil {
			continue
		}
		for _, l := range languages {
			if text := rules.Text(rule.reason(&e), l) + rules.Advice(rule.reason(&e), l); strings.ContainsAny(text, "{}") {
				t.Errorf("%s names something that is no field: %s", rule.ID, text)
			}
		}
	}
}

// TestAFolderAddsAndOverrides: a file of one's own adds a rule, replaces or switches off one of ours; a broken one is named, and the rest works.
func TestAFolderAddsAndOverrides(t *testing.T) {
	t.Parallel()
	folder := fstest.MapFS{
		"a.toml": {Data: []byte(`
[[rule]]
id = "mine.payroll"
on = ["alter table"]
when = '"payroll" in names'
severity = "high"
say = { en = "payroll was changed", zh-TW = "薪資表被更改" }
yes = { sql = "ALTER TABLE payroll ADD x int" }
no = { sql = "ALTER TABLE other ADD x int" }
[[rule]]
id = "data.ransom"
on = ["create table"]
off = true
`)},
		"b.toml": {Data: []byte("[[rule]]\nid = 'mine.broken'\non = ['*']\nwhen = 'nobody.knows == 1'\nseverity = 'low'\nsay = { en = 'x', zh-TW = 'x' }\n")},
		"c.toml": {Data: []byte("this is no TOML")},
		"d.toml": {Data: []byte("[[rule]]\nid = 'mine.typo'\nwen = 'true'\n")},
	}
	rules, err := LoadRules(fs.FS(folder))
	if err == nil {
		t.Fatal("broken rules were taken")
	}
	for _, name := range []string{"b.toml", "mine.broken", "c.toml", "d.toml"} {
		if !strings.Contains(err.Error(), name) {
			t.Errorf("%s is not named in: %v", name, err)
		}
	}
	if rule := rules.ByID("mine.payroll"); rule == nil || !rule.judges("alter table") {
		t.Error("the folder's rule is missing")
	}
	for _, rule := range rules.forKind("create table") {
		if rule.ID == "data.ransom" {
			t.Error("a rule that is switched off judges")
		}
	}
}

// TestWhatDidNotHappenIsLess: an attempt that PostgreSQL refused, and a deployment's ordinary way, weigh less than the act.
func TestWhatDidNotHappenIsLess(t *testing.T) {
	t.Parallel()
	rules, err := LoadRules(nil)
	if err != nil {
		t.Fatal(err)
	}
	super, trigger := rules.ByID("role.superuser"), rules.ByID("code.event-trigger")
	if got := super.severity(&Event{Status: Committed}); got != Critical {
		t.Errorf("done: %s", got)
	}
	if got := super.severity(&Event{Status: Denied}); got != Medium || !got.Alarms() {
		t.Errorf("tried: %s", got)
	}
	if got := trigger.severity(&Event{Habit: Habit{Routine: true}}); got.Alarms() {
		t.Errorf("by a deployment: %s", got)
	}
}

// TestGatesSayWhatCELSays: what is told without CEL is a part of the same condition.
func TestGatesSayWhatCELSays(t *testing.T) {
	t.Parallel()
	for when, want := range map[string]struct {
		gates int
		whole bool
	}{
		`habit.ready && habit.score >= 2.5 && habit.score < 4.0`:                               {1, true},
		`"superuser" in role.gains`:                                                            {1, true},
		`overlap(does, ["a", "b"]) && !habit.own`:                                              {1, true},
		`(habit.ready || !(habit.own && rate.guessed)) && habit.service`:                       {1, true},
		`names.exists(n, n in ["x, y", "z"] || n.matches("^(a|b)$")) && status == "denied"`:    {1, true},
		`query_info.query_string.matches("(?i)\\bwhere\\b") || kind == "a && (b"`:              {1, true},
		`habit.ready || size(names) == 2`:                                                      {0, false},
		`habit.ready && size(names) == 2 && "a" in does`:                                       {2, false},
		`habit.ready ? habit.own : habit.service && rate.guessed`:                              {0, false},
		`time > timestamp("2026-01-01T00:00:00Z") && (habit.own || habit.ready) && kind < "b"`: {1, false},
	} {
		if got, whole := gates(when); len(got) != want.gates || whole != want.whole {
			t.Errorf("%s: %d gates, whole: %v; want %v", when, len(got), whole, want)
		}
	}
	rules, err := LoadRules(nil)
	if err != nil {
		t.Fatal(err)
	}
	whole := 0
	for _, rule := range rules.All {
		bare := *rule
		bare.gates, bare.whole = nil, false
		if rule.whole {
			whole++
		} else {
			t.Logf("%s needs CEL: %s", rule.ID, rule.When)
		}
		for _, other := range rules.All {
			for _, fields := range []map[string]any{other.Yes, other.No} {
				e, err := exampleEvent(fields)
				if err != nil {
					t.Fatal(err)
				}
				if rule.matches(&view{&e}) != bare.matches(&view{&e}) {
					t.Errorf("%s: the gates differ from CEL on an example of %s", rule.ID, other.ID)
				}
			}
		}
	}
	if whole < len(rules.All)*9/10 {
		t.Errorf("only %d of %d rules are told without CEL", whole, len(rules.All))
	}
}
