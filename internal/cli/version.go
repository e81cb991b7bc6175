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
	_, err := fmt.Fprintln(t.out, versionText())
	return err
}

// versionText names this binary: "howdah devel 0123456789ab go1.26.0 linux/amd64".
func versionText() string {
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
	return fmt.Sprintf("howdah %s%s %s %s/%s", version, revision, runtime.Version(), runtime.GOOS, runtime.GOARCH)
}
