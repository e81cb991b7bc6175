package cli

import (
	"fmt"
	"runtime"
	"runtime/debug"
)

// versionCmd says what this binary is.
type versionCmd struct{}

// Run is howdah version.
func (versionCmd) Run(t *terminal) error {
	version, revision := "devel", ""
	if info, ok := debug.ReadBuildInfo(); ok {
		if v := info.Main.Version; v != "" && v != "(devel)" {
			version = v
		}
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" && len(s.Value) >= 12 {
				revision = " " + s.Value[:12]
			}
		}
	}
	_, err := fmt.Fprintf(t.out, "howdah %s%s %s %s/%s\n", version, revision, runtime.Version(), runtime.GOOS, runtime.GOARCH)
	return err
}
