package cluster

import (
	"slices"
	"testing"
)

func TestWhatPgLsclustersSaysIsUnderstood(t *testing.T) {
	t.Parallel()
	// As Debian 12 prints it: numbers are numbers or texts, as Perl has used them.
	raw := `[{"port":"5433","cluster":"main","version":"16","pgdata":"/srv/b","owneruid":"101","socketdir":"/var/run/postgresql","running":0},
		{"port":5432,"cluster":"Shop","version":15,"pgdata":"/srv/a","owneruid":101,"socketdir":"/var/run/postgresql","running":1,"config":{"port":"5432"}},
		{"port":"5434","cluster":"old","version":"9.6","pgdata":"/srv/c","owneruid":101,"running":0}]`
	all, err := parsePackaged([]byte(raw))
	if err != nil {
		t.Fatal(err)
	}
	want := []Packaged{{9, "old", "/srv/c", "", 5434, 101, false}, {15, "Shop", "/srv/a", "/var/run/postgresql", 5432, 101, true},
		{16, "main", "/srv/b", "/var/run/postgresql", 5433, 101, false}}
	if !slices.Equal(all, want) {
		t.Errorf("%+v", all)
	}
	if all[1].String() != "15/Shop" {
		t.Error(all[1].String())
	}
}
