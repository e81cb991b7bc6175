package cli

import (
	"fmt"
	"runtime"
	"runtime/debug"
)

// release is the version of a package, and commit what it was built from: the linker puts them in (.ci/packages).
var release, commit string

// versionCmd says what this binary is.
type versionCmd struct{}

// Run is howdah version.
func (versionCmd) Run(t *terminal) error {
	_, err := fmt.Fprintln(t.out, versionText())
	return err
}

// versionText names this binary: "howdah devel 0123456789ab go1.26.0 linux/amd64".
func versionText() string {
	revision := ""
	if commit != "" {
		revision = " " + commit
	} else if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" && len(s.Value) >= 12 {
				revision = " " + s.Value[:12]
			}
		}
	}
	return fmt.Sprintf("howdah %s%s %s %s/%s", buildVersion(), revision, runtime.Version(), runtime.GOOS, runtime.GOARCH)
}

// buildVersion is the version alone.
func buildVersion() string {
	if release != "" {
		return release
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" && info.Main.Version != "(devel)" {
		return info.Main.Version
	}
	return "devel"
}
