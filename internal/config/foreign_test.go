//go:build linux

package config

import (
	"os"
	"path/filepath"
	"testing"

	"howdah/internal/fault"
)

// TestAConfigurationThatSomebodyElseMadeIsRefused: it names programs that are run, and a folder that one is called in may be anybody's.
func TestAConfigurationThatSomebodyElseMadeIsRefused(t *testing.T) {
	t.Parallel()
	const nobody = 65534
	for what, c := range map[string]struct {
		owner int
		mode  os.FileMode
		fine  bool
	}{
		"ours":                           {os.Geteuid(), 0o644, true},
		"ours, and anybody may write it": {os.Geteuid(), 0o666, false},
		"somebody else's":                {nobody, 0o644, false},
	} {
		name := filepath.Join(t.TempDir(), FileName)
		if err := os.WriteFile(name, []byte("pg-bin = \"/tmp/bin\"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(name, c.mode); err != nil {
			t.Fatal(err)
		}
		if c.owner != os.Geteuid() {
			if os.Geteuid() != 0 {
				continue // only root gives files away
			}
			if err := os.Chown(name, c.owner, c.owner); err != nil {
				t.Fatal(err)
			}
		}
		var s Sources
		if _, err := s.Open(name); (err == nil) != c.fine || !c.fine && !fault.HasKey(err, "config.foreign") {
			t.Errorf("%s: %v", what, err)
		}
	}
}
