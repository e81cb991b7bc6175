// Package internal holds the law of the house: which packages may not reach which.
package internal

import (
	"os/exec"
	"regexp"
	"strings"
	"testing"
)

// nevers: a package (first column) never reaches those behind it, not even through others. Half of this product must
// work while the database is down, and what is below knows nothing of what is above.
var nevers = map[string][]string{
	"fault":         {"lang", "config", "pg", "cluster", "account", "chat", "audit", "web", "server", "cli"},
	"lang":          {"config", "pg", "cluster", "account", "chat", "audit", "web", "server", "cli"},
	"config":        {"pg", "cluster", "account", "chat", "audit", "web", "server", "cli"},
	"cluster":       {"pg", "config", "lang", "account", "chat", "audit", "web", "server", "cli"},
	"pg":            {"cluster", "config", "lang", "account", "chat", "audit", "web", "server", "cli"},
	"outside":       {"lang", "config", "pg", "cluster", "keeper", "account", "chat", "audit", "alert", "web", "server", "cli"},
	"mail":          {"pg", "cluster", "keeper", "config", "lang", "account", "chat", "audit", "alert", "web", "server", "cli"},
	"openid":        {"pg", "cluster", "keeper", "config", "lang", "account", "chat", "audit", "alert", "web", "server", "cli"},
	"search":        {"pg", "cluster", "config", "lang", "account", "chat", "audit", "web", "server", "cli"},
	"card":          {"cluster", "keeper", "config", "lang", "tell", "hook", "audit", "alert", "web", "server", "cli"},
	"files":         {"cluster", "config", "lang", "account", "chat", "audit", "web", "server", "cli"},
	"account":       {"cluster", "config", "lang", "chat", "audit", "web", "server", "cli"},
	"chat":          {"cluster", "config", "lang", "tell", "card", "audit", "audit/index", "web", "server", "cli"},
	"hook":          {"cluster", "keeper", "config", "lang", "tell", "audit", "alert", "web", "server", "cli"},
	"move":          {"cluster", "keeper", "config", "tell", "audit", "alert", "web", "server", "cli"},
	"audit":         {"pg", "audit/index", "cluster", "config", "lang", "account", "chat", "keeper", "repo", "wal", "web", "server", "cli"},
	"push":          {"pg", "cluster", "config", "lang", "account", "chat", "audit", "tell", "web", "server", "cli"},
	"tell":          {"cluster", "config", "audit", "audit/index", "keeper", "web", "server", "cli"},
	"web":           {"cluster", "config", "server", "cli"},
	"server":        {"config", "cli"},
	"wal":           {"repo", "cluster", "keeper", "pg", "config", "lang", "account", "chat", "audit", "web", "server", "cli"},
	"keeper":        {"pg", "config", "lang", "account", "chat", "audit", "audit/index", "web", "server", "cli"},
	"alert":         {"keeper", "repo", "cluster", "pg", "config", "lang", "account", "chat", "audit", "audit/judge", "web", "server", "cli"},
	"doctor":        {"pg", "config", "lang", "account", "chat", "web", "server", "cli"},
	"recovery":      {"pg", "config", "lang", "account", "chat", "audit", "web", "server", "cli"},
	"audit/catalog": {"keeper", "repo", "cluster", "pg", "config", "lang", "account", "chat", "web", "server", "cli"},
	"audit/check":   {"keeper", "repo", "cluster", "pg", "config", "lang", "account", "chat", "web", "server", "cli"},
	"audit/cover":   {"keeper", "repo", "cluster", "pg", "config", "lang", "account", "chat", "web", "server", "cli"},
	"audit/index":   {"audit/judge", "keeper", "repo", "cluster", "config", "lang", "account", "chat", "web", "server", "cli"},
	"audit/judge":   {"audit/index", "keeper", "repo", "cluster", "pg", "config", "lang", "account", "chat", "web", "server", "cli"},
	"repo":          {"cluster", "keeper", "pg", "config", "lang", "account", "chat", "audit", "web", "server", "cli"},
}

func TestArrowsOnlyRunDown(t *testing.T) {
	t.Parallel()
	for from, never := range nevers {
		out, err := exec.CommandContext(t.Context(), "go", "list", "-deps", "howdah/internal/"+from).Output()
		if err != nil {
			t.Fatal(err)
		}
		for _, to := range never {
			if strings.Contains("\n"+string(out), "\nhowdah/internal/"+to+"\n") {
				t.Errorf("%s reaches %s", from, to)
			}
		}
	}
}

// TestNothingBelowTheCommandLineEndsTheProcess: errors are returned and logged once, at the top.
func TestNothingBelowTheCommandLineEndsTheProcess(t *testing.T) {
	t.Parallel()
	out, err := exec.CommandContext(t.Context(), "git", "ls-files", "*.go").Output()
	if err != nil {
		t.Fatal(err)
	}
	forbidden := regexp.MustCompile(`os\.Exit\(|log\.Fatal|context\.Background\(\)|context\.TODO\(\)`)
	for name := range strings.FieldsSeq(string(out)) {
		if strings.HasSuffix(name, "_test.go") || strings.HasPrefix(name, "cli/") || strings.HasPrefix(name, "pg/pgtest/") {
			continue
		}
		found, err := exec.CommandContext(t.Context(), "grep", "-nE", forbidden.String(), name).Output()
		if err == nil {
			t.Errorf("%s: %s", name, found)
		}
	}
}
