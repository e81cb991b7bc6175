//go:build !windows

package cli

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"howdah/internal/cluster"
	"howdah/internal/config"
	"howdah/internal/fault"
)

// The package of Debian and Ubuntu does all of it, and apt takes it back: two ways would be at odds with each other. What is here finds the package and calls apt.

// packageName is that of the package, and of its unit.
const packageName = "howdah"

// mayInstall tells whether this process is root, or may become it without being asked.
func mayInstall(ctx context.Context) error {
	if _, may := cluster.Sudo(ctx); may {
		return nil
	}
	words := append([]string{"sudo"}, os.Args...)
	if own, err := os.Executable(); err == nil {
		words[1] = own
	}
	return fault.New(fault.Forbidden, "cli.install.rights_sudo", fault.Args{"command": cluster.Step{Argv: words}.String()})
}

// apt refuses systems that have none.
func apt() error {
	if err := cluster.Apt(); err != nil {
		return fault.Wrap(err, fault.Unavailable, "cli.install.elsewhere", fault.Args{"system": fault.Of(err).Args["system"]})
	}
	return nil
}

// rootStep is a command of root's as a step. What it says is heard.
func rootStep(ctx context.Context, t *terminal, argv ...string) step {
	front := []string{"sudo"}
	if os.Geteuid() == 0 {
		front = nil
	} else if without, may := cluster.Sudo(ctx); may {
		front = without
	}
	s := cluster.Step{Argv: append(front, argv...)}
	return step{s.String(), func(ctx context.Context) error {
		cmd := exec.CommandContext(ctx, s.Argv[0], s.Argv[1:]...)
		cmd.Stdout, cmd.Stderr = t.err, t.err
		cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) } // dpkg is not to be killed in the middle
		cmd.WaitDelay = time.Minute
		return cmd.Run()
	}}
}

func (c *installCmd) steps(ctx context.Context, t *terminal) ([]step, error) {
	if err := apt(); err != nil {
		return nil, err
	}
	if err := t.wrongOption("data", "listen", "pg-bin", "pg-zip"); err != nil {
		return nil, err
	}
	file, err := c.packageFile(ctx)
	if err != nil {
		return nil, err
	}
	steps := []step{
		rootStep(ctx, t, "apt-get", "-o", "DPkg::Lock::Timeout=120", "update"),
		// pgAudit is recommended only, since some have none; a configuration that was changed stays.
		rootStep(ctx, t, "env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-o", "DPkg::Lock::Timeout=120", "-o", "APT::Install-Recommends=true",
			"-o", "Dpkg::Options::=--force-confdef", "-o", "Dpkg::Options::=--force-confold", "install", "-y", file),
	}
	if _, err := os.Stat("/run/systemd/system"); err != nil { // a chroot, a container
		return append(steps, step{"# " + t.lang.T("cli.install.no_systemd"), func(context.Context) error { return nil }}), nil
	}
	if _, err := os.Lstat("/var/lib/howdah/house"); errors.Is(err, fs.ErrNotExist) {
		return append(steps, rootStep(ctx, t, "/usr/bin/howdah", "setup-link")), nil
	}
	return append(steps, rootStep(ctx, t, "systemctl", "--no-pager", "--lines=0", "status", packageName)), nil
}

// packageFile is the package to install, as an absolute path: the one that is named, or the newest that lies beside this program or in the folder dist there.
func (c *installCmd) packageFile(ctx context.Context) (string, error) {
	if c.Package != "" {
		file, err := filepath.Abs(c.Package)
		if err != nil {
			return "", err
		}
		_, err = readPackage(ctx, file)
		return file, err
	}
	own, err := os.Executable()
	if err == nil {
		own, err = filepath.EvalSymlinks(own)
	}
	if err != nil {
		return "", err
	}
	dir := filepath.Dir(own)
	newest, version := "", ""
	for _, place := range []string{dir, filepath.Join(dir, "dist")} {
		found, err := filepath.Glob(filepath.Join(globbed(place), packageName+"_*_"+runtime.GOARCH+".deb"))
		if err != nil {
			return "", err
		}
		for _, file := range found {
			if !ofOurs(file) {
				continue
			}
			this, err := readPackage(ctx, file)
			if err != nil {
				return "", err
			}
			if newest == "" || exec.CommandContext(ctx, "dpkg", "--compare-versions", this, "gt", version).Run() == nil {
				newest, version = file, this
			}
		}
	}
	if newest == "" {
		return "", fault.New(fault.NotFound, "cli.install.package", fault.Args{"dir": dir, "arch": runtime.GOARCH})
	}
	return newest, nil
}

// globbed is a folder's name in a pattern.
func globbed(dir string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(dir)
}

// ofOurs tells whether nobody but root and who asks could have put a file there: what nobody has named must not be taken from others.
func ofOurs(file string) bool {
	for _, name := range []string{file, filepath.Dir(file)} {
		info, err := os.Stat(name)
		if err != nil {
			return false
		}
		owner, ok := info.Sys().(*syscall.Stat_t)
		asked, err := strconv.ParseUint(os.Getenv("SUDO_UID"), 10, 32)
		if !ok || owner.Uid != 0 && int(owner.Uid) != os.Geteuid() && (err != nil || uint64(owner.Uid) != asked) || info.Mode().Perm()&0o022 != 0 {
			return false
		}
	}
	return true
}

// readPackage gives the version of a package of ours; any other file is refused.
func readPackage(ctx context.Context, file string) (version string, err error) {
	args := fault.Args{"file": file}
	if _, err := os.Stat(file); err != nil {
		return "", fault.Wrap(err, fault.NotFound, "cli.install.no_file", args)
	}
	cmd := exec.CommandContext(ctx, "dpkg-deb", "--field", file, "Package", "Architecture", "Version")
	out, err := cmd.Output()
	if ctx.Err() != nil {
		return "", ctx.Err()
	}
	field := map[string]string{}
	for line := range strings.Lines(string(out)) {
		if name, value, ok := strings.Cut(line, ":"); ok {
			field[name] = strings.TrimSpace(value)
		}
	}
	if err != nil || field["Package"] != packageName {
		return "", fault.Wrap(err, fault.Invalid, "cli.install.no_package", args)
	}
	if here, err := exec.CommandContext(ctx, "dpkg", "--print-architecture").Output(); err == nil && strings.TrimSpace(string(here)) != field["Architecture"] {
		args["arch"], args["here"] = field["Architecture"], strings.TrimSpace(string(here))
		return "", fault.New(fault.Conflict, "cli.install.arch", args)
	}
	return field["Version"], nil
}

func (c *uninstallCmd) steps(ctx context.Context, t *terminal) ([]step, error) {
	if err := apt(); err != nil {
		return nil, err
	}
	out, err := exec.CommandContext(ctx, "dpkg-query", "-W", "-f", "${db:Status-Status}", packageName).Output()
	if err != nil || strings.TrimSpace(string(out)) != "installed" {
		return nil, fault.New(fault.NotFound, "cli.install.not_there", fault.Args{"file": filepath.Join(config.SystemDir(), config.FileName)})
	}
	return []step{rootStep(ctx, t, "env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-o", "DPkg::Lock::Timeout=120", "remove", "-y", packageName)}, nil
}
