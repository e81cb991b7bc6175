package cluster

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// PostgreSQL begins a new log every day and every 64 MB, and never removes one (its documentation: "Error Reporting and Logging").
const (
	keepLogs   = 30 * 24 * time.Hour
	keepNewest = 2       // whatever their size: the server may write to them
	mostLogs   = 1 << 30 // bytes of all of them
	trimEvery  = time.Hour
)

// trimLogs removes the server's logs that are older than keepLogs, and the oldest of what is more than mostLogs. A file that cannot be
// removed is left for the next time.
func (c *Cluster) trimLogs(now time.Time) {
	entries, err := os.ReadDir(c.LogDir())
	if err != nil {
		return
	}
	slices.Reverse(entries) // their names are when they were begun
	kept, bytes := 0, int64(0)
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), "postgresql-") || !e.Type().IsRegular() {
			continue
		}
		info, err := e.Info()
		if err != nil {
			continue
		}
		bytes += info.Size()
		if kept < keepNewest || bytes <= mostLogs && now.Sub(info.ModTime()) < keepLogs {
			kept++
			continue
		}
		_ = os.Remove(filepath.Join(c.LogDir(), e.Name()))
	}
}
