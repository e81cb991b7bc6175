package cluster

import (
	"context"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// atReload are those of the settings in Options that a running server takes over when it is told to read its files again; any other is
// taken to need a restart. https://www.postgresql.org/docs/current/runtime-config-wal.html
var atReload = []string{"archive_command", "archive_timeout", "max_slot_wal_keep_size", "summarize_wal"}

// Apply brings the settings in Options to a server that runs already: by a reload, or by a restart where one of them takes effect only at a start. One
// that this Start has started has them, and nothing happens.
func (c *Cluster) Apply(ctx context.Context) (restarted bool, err error) {
	if c.opt.Bare {
		return false, nil
	}
	old, err := os.ReadFile(filepath.Join(c.data(), confName))
	if err != nil && !errors.Is(err, os.ErrNotExist) { // without one it was started by somebody else, and has nothing of ours
		return false, c.fileFault(err)
	}
	have := settingsIn(string(old))
	text := c.render(c.readConf())
	want := settingsIn(text)
	for name := range maps.Keys(c.opt.Settings) {
		// The file has what the server was started with: what needs a restart is never written while it runs.
		if have[name] != want[name] && !slices.Contains(atReload, name) {
			return true, c.Restart(ctx)
		}
	}
	unlock, err := c.lock(ctx)
	if err != nil {
		return false, err
	}
	defer unlock()
	if string(old) != text {
		if err := writeFile(filepath.Join(c.data(), confName), []byte(text), c.opt.Account); err != nil {
			return false, c.fileFault(err)
		}
	}
	// Always: whoever wrote the file may have been killed before he could say so.
	_, err = c.run(ctx, nil, "pg_ctl", "reload", "-s", "-D", c.data())
	return false, err
}

// settingsIn gives the lines of howdah.conf, values as they are quoted.
func settingsIn(text string) map[string]string {
	set := map[string]string{}
	for line := range strings.Lines(text) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), " = "); ok {
			set[name] = value
		}
	}
	return set
}

// Written are the settings that Howdah's own file gives PostgreSQL, as it stands there or would be written now.
func (c *Cluster) Written() map[string]string {
	set := settingsIn(c.render(c.readConf()))
	for name, value := range set {
		set[name] = strings.NewReplacer("''", "'", `\\`, `\`).Replace(strings.TrimSuffix(strings.TrimPrefix(value, "'"), "'"))
	}
	return set
}
