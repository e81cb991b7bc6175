package audit

import (
	"testing"
	"time"
)

func TestAFilterChooses(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 9, 1, 9, 0, 0, 0, time.UTC)
	e := Entry{Time: at, SessionID: "s.1", LineNum: 4, User: "anna", DB: "shop", App: "psql", Host: "10.0.0.1", Severity: "LOG", Statement: "ALTER TABLE public.Accounts ...",
		Audit: &EntryRecord{Class: "DDL", Command: "ALTER TABLE", ObjectName: "public.accounts"}}
	failed := Entry{Time: at, User: "bob", Severity: "ERROR", State: "42501", Message: "permission denied", PS: "SELECT"}
	told := Entry{Time: at, Event: &Event{Kind: EventIncident, Incident: &Incident{ID: "i-1", Severity: "high", Actor: "anna"}}}
	for name, c := range map[string]struct {
		filter Filter
		want   [3]bool
	}{
		"all":              {Filter{}, [3]bool{true, true, true}},
		"role":             {Filter{Role: "an*"}, [3]bool{true, false, false}},
		"a star alone":     {Filter{Role: "*"}, [3]bool{true, true, true}},
		"in the middle":    {Filter{Object: "public.*unt*"}, [3]bool{true, false, false}},
		"too short":        {Filter{Object: "public.accounts*s"}, [3]bool{}},
		"class":            {Filter{Class: "ddl"}, [3]bool{true, false, false}},
		"incidents":        {Filter{Class: "incident", Severity: "HIGH"}, [3]bool{false, false, true}},
		"without":          {Filter{Without: []string{"DDL", "LOG"}}, [3]bool{false, true, true}},
		"denied":           {Filter{Outcome: OutcomeDenied}, [3]bool{false, true, false}},
		"command of lines": {Filter{Command: "select"}, [3]bool{false, true, false}},
		"text":             {Filter{Text: "ACCOUNTS"}, [3]bool{true, false, false}},
		"from then":        {Filter{From: at}, [3]bool{true, true, true}},
		"before then":      {Filter{To: at}, [3]bool{}},
		"session":          {Filter{Session: "s.1", Source: "10.0.0.*", App: "psql", DB: "shop"}, [3]bool{true, false, false}},
	} {
		for i, one := range []*Entry{&e, &failed, &told} {
			if c.filter.Match(one) != c.want[i] {
				t.Errorf("%s: %d", name, i)
			}
		}
	}
}

func FuzzPatternsMatchWhatTheySay(f *testing.F) {
	f.Add("a*b", "axxb")
	f.Fuzz(func(t *testing.T, a, b string) {
		if a != "" && !like("*", a) || a != "" && !like(a+"*", a+b) || b != "" && !like("*"+b, a+b) {
			t.Errorf("%q %q", a, b)
		}
	})
}
