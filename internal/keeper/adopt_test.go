package keeper

import (
	"slices"
	"testing"
)

func TestListsOfLibrariesAreReadAsPostgreSQLDoes(t *testing.T) {
	t.Parallel()
	for text, want := range map[string][]string{
		"":                               nil,
		"pgaudit":                        {"pgaudit"},
		"pg_stat_statements,pgaudit":     {"pg_stat_statements", "pgaudit"},
		` a , "b c" ,"d""e", $libdir/f `: {"a", "b c", `d"e`, "$libdir/f"},
	} {
		got := splitList(text)
		if !slices.Equal(got, want) {
			t.Errorf("%q: %q", text, got)
		}
		if again := splitList(joinList(got)); !slices.Equal(again, want) {
			t.Errorf("%q becomes %q", joinList(got), again)
		}
	}
}

func FuzzList(f *testing.F) {
	f.Add(`a, "b c", "d""e"`)
	f.Fuzz(func(t *testing.T, text string) {
		list := splitList(text)
		if again := splitList(joinList(list)); !slices.Equal(list, again) {
			t.Errorf("%q: %q becomes %q", text, list, again)
		}
	})
}

func TestTheFirstLineOfPgHbaThatFitsDecides(t *testing.T) {
	t.Parallel()
	rule := func(kind, database, user, address, mask, method string) hbaRule {
		return hbaRule{kind, []string{database}, []string{user}, address, mask, method}
	}
	loopback := []string{"127.0.0.1", "255.255.255.255"}
	for _, c := range []struct {
		name  string
		rules []hbaRule
		want  bool
	}{
		{"none", nil, false},
		{"all is not replication", []hbaRule{rule("host", "all", "all", "0.0.0.0", "0.0.0.0", "md5")}, false},
		{"debian", []hbaRule{rule("local", "replication", "all", "", "", "peer"), rule("host", "replication", "all", loopback[0], loopback[1], "scram-sha-256")}, true},
		{"rejected before", []hbaRule{rule("host", "replication", "all", "127.0.0.0", "255.0.0.0", "reject"), rule("host", "replication", "all", loopback[0], loopback[1], "scram-sha-256")}, false},
		{"another network", []hbaRule{rule("host", "replication", "all", "10.0.0.0", "255.0.0.0", "md5")}, false},
		{"another role", []hbaRule{rule("host", "replication", "standby", "0.0.0.0", "0.0.0.0", "md5")}, false},
		{"by name", []hbaRule{rule("hostnossl", "replication", "replicator", "all", "", "password")}, true},
		{"a certificate", []hbaRule{rule("host", "replication", "all", "samehost", "", "cert")}, false},
	} {
		if got := letIn(c.rules, "replicator"); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}
