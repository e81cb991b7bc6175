package cluster

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

func TestLogsOfAMonthAreKeptAndNoMoreThanAGigabyte(t *testing.T) {
	t.Parallel()
	c := &Cluster{dir: t.TempDir()}
	if err := os.Mkdir(c.LogDir(), 0o700); err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	log := func(days int, size int64) string {
		at := now.Add(-time.Duration(days) * 24 * time.Hour)
		name := fmt.Sprintf("postgresql-%s_000000.json", at.UTC().Format(time.DateOnly))
		path := filepath.Join(c.LogDir(), name)
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(path, size); err != nil { // sparse
			t.Fatal(err)
		}
		if err := os.Chtimes(path, at, at); err != nil {
			t.Fatal(err)
		}
		return name
	}
	left := func() (names []string) {
		entries, err := os.ReadDir(c.LogDir())
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			names = append(names, e.Name())
		}
		return names
	}
	if err := os.WriteFile(filepath.Join(c.LogDir(), "a note"), nil, 0o600); err != nil {
		t.Fatal(err)
	}

	log(400, 1)
	log(31, 1)
	want := []string{"a note", log(29, 1), log(3, 1)}
	c.trimLogs(now)
	if got := left(); !slices.Equal(got, want) {
		t.Errorf("by age: %v are left, want %v", got, want)
	}

	log(2, 500<<20)
	want = []string{"a note", log(1, 700<<20), log(0, 800<<20)} // more than there should be, but the server may write to them
	c.trimLogs(now)
	if got := left(); !slices.Equal(got, want) {
		t.Errorf("by size: %v are left, want %v", got, want)
	}

	if err := os.Chtimes(filepath.Join(c.LogDir(), want[1]), now.AddDate(-1, 0, 0), now.AddDate(-1, 0, 0)); err != nil {
		t.Fatal(err)
	}
	c.trimLogs(now.AddDate(2, 0, 0))
	if got := left(); !slices.Equal(got, want) {
		t.Errorf("of a server that was off for long: %v are left, want %v", got, want)
	}
}
