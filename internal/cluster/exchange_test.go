package cluster

import (
	"os"
	"path/filepath"
	"testing"

	"howdah/internal/fault"
)

// TestAnExchangeThatWasKilledGoesOn puts the folders into every state that a killed exchange can leave, in one step and in two.
func TestAnExchangeThatWasKilledGoesOn(t *testing.T) {
	t.Parallel()
	const id = "20261123T041500Z"
	// What lies where: the old data directory, the new one with its mark, the new one without.
	states := map[string]struct{ data, fresh, aside string }{
		"nothing done":                   {"old", "new+", ""},
		"exchanged, not yet aside":       {"new+", "old", ""},
		"the first of two renames done":  {"", "new+", "old"},
		"all but the mark":               {"new+", "", "old"},
		"done":                           {"new", "", "old"},
		"what took its place is lost":    {"old", "", ""},
		"something else has its place":   {"old", "new", ""},
		"nothing there, nothing to take": {"", "", ""},
	}
	for name, s := range states {
		dir := t.TempDir()
		c, err := New(dir, Installation{}, Options{})
		if err != nil {
			t.Fatal(err)
		}
		put := func(folder, what string) {
			if what == "" {
				return
			}
			data := filepath.Join(dir, folder, dataName)
			if err := os.MkdirAll(data, 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(data, what[:3]), nil, 0o600); err != nil {
				t.Fatal(err)
			}
			if what == "new+" {
				if err := c.MarkFresh(filepath.Dir(data), id); err != nil {
					t.Fatal(err)
				}
			}
		}
		fresh, aside := filepath.Join(c.dir, "fresh"), filepath.Join(c.dir, "aside")
		for _, folder := range []string{fresh, aside} {
			if err := os.Mkdir(folder, 0o700); err != nil {
				t.Fatal(err)
			}
		}
		put("", s.data)
		put("fresh", s.fresh)
		put("aside", s.aside)
		err = c.Exchange(t.Context(), id, fresh, aside)
		if s.fresh == "new" || s.data+s.fresh == "old" || s.data+s.fresh+s.aside == "" {
			if !fault.HasKey(err, "cluster.exchange_lost") || s.data != "" && !exists(filepath.Join(c.data(), "old")) {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		for range 2 { // again is success
			if err != nil || !exists(filepath.Join(c.data(), "new")) || exists(filepath.Join(c.data(), freshName)) || !exists(filepath.Join(aside, dataName, "old")) || exists(filepath.Join(fresh, dataName)) {
				t.Errorf("%s: %v", name, err)
			}
			err = c.Exchange(t.Context(), id, fresh, aside)
		}
	}
}
