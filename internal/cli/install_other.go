//go:build !windows

package cli

import (
	"context"
	"runtime"

	"howdah/internal/fault"
)

// The package of Debian and Ubuntu does all of it, and the system's own programs take it back: two ways would be at odds with each other.

func elsewhere() error {
	if runtime.GOOS == "linux" {
		return fault.New(fault.Unavailable, "cli.install.package")
	}
	return fault.New(fault.Unavailable, "cli.install.elsewhere", fault.Args{"system": runtime.GOOS})
}

func mayInstall() error { return elsewhere() }

func (c *installCmd) steps(context.Context, *terminal) ([]step, error) {
	if runtime.GOOS != "linux" || !c.DryRun {
		return nil, elsewhere()
	}
	return []step{{text: "sudo apt-get install ./howdah_*_" + runtime.GOARCH + ".deb"}, {text: "sudo howdah setup-link"}}, nil
}

func (c *uninstallCmd) steps(context.Context, *terminal) ([]step, error) {
	if runtime.GOOS != "linux" || !c.DryRun {
		return nil, elsewhere()
	}
	return []step{{text: "sudo apt-get remove howdah"}}, nil
}
