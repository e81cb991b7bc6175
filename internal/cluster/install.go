package cluster

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"howdah/internal/fault"
)

// Step is one command of an installation.
type Step struct{ Argv []string }

// plainWord needs no quotes in a shell.
var plainWord = regexp.MustCompile(`^[A-Za-z0-9_@%+=:,./-]+$`)

// Word is a word of a command as a person would type it into the shell of this system.
func Word(word string) string { return Step{[]string{word}}.String() }

// String is the command as a person would type it.
func (s Step) String() string {
	words := make([]string, len(s.Argv))
	for i, word := range s.Argv {
		if words[i] = word; plainWord.MatchString(strings.ReplaceAll(word, string(filepath.Separator), "/")) {
			continue
		}
		words[i] = "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
		if runtime.GOOS == "windows" { // as programs there take their command line apart
			words[i] = `"` + strings.ReplaceAll(word, `"`, `\"`) + `"`
		}
	}
	return strings.Join(words, " ")
}

// Plan is what an installation would run.
type Plan struct{ Steps []Step }

// String is one command a line.
func (p Plan) String() string {
	lines := make([]string, len(p.Steps))
	for i, step := range p.Steps {
		lines[i] = step.String()
	}
	return strings.Join(lines, "\n")
}

// by is the plan with another program in front of every command.
func (p Plan) by(argv ...string) Plan {
	var out Plan
	for _, step := range p.Steps {
		out.Steps = append(out.Steps, Step{append(slices.Clone(argv), step.Argv...)})
	}
	return out
}

// mainCluster keeps Debian from making and starting a cluster of its own ("main") while PostgreSQL is installed: it would take
// port 5432 and nobody would use it. See pg_createcluster(1).
const mainCluster = "mkdir -p /etc/postgresql-common/createcluster.d && " +
	"echo create_main_cluster = false > /etc/postgresql-common/createcluster.d/howdah.conf"

var (
	aptUpdate  = Step{[]string{"apt-get", "-o", "DPkg::Lock::Timeout=120", "update"}}
	aptInstall = []string{"env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-o", "DPkg::Lock::Timeout=120",
		"install", "-y", "--no-install-recommends"}
)

func install(packages ...string) Step { return Step{append(slices.Clone(aptInstall), packages...)} }

// installer is where it is installed; tests put other values here.
type installer struct {
	osRelease string // path
	goos      string
	uid       int
}

var thisMachine = installer{osRelease: "/etc/os-release", goos: runtime.GOOS, uid: os.Geteuid()}

// InstallPlan is what Install would run, without "sudo". On a system whose packages Howdah does not know, it is the fault
// "cluster.install_elsewhere", which says where to get PostgreSQL.
func InstallPlan(ctx context.Context) (Plan, error) { return thisMachine.plan(ctx) }

func (m installer) plan(ctx context.Context) (Plan, error) {
	if err := m.apt(); err != nil {
		return Plan{}, err
	}
	plan := Plan{Steps: []Step{aptUpdate}}
	if !installed(ctx, "postgresql-common") {
		plan.Steps = append(plan.Steps, install("postgresql-common"), Step{[]string{"sh", "-c", mainCluster}})
	}
	// The lists of packages may be missing before the update; the package without a number leads to the same.
	server := "postgresql"
	if major := candidate(ctx); major != 0 {
		if major < OldestMajor {
			return Plan{}, fault.New(fault.NotFound, "cluster.install_old", fault.Args{"major": major, "oldest": OldestMajor})
		}
		server = fmt.Sprintf("postgresql-%d", major)
		plan.Steps = append(plan.Steps, install(server, server+"-pgaudit"))
		return plan, nil
	}
	plan.Steps = append(plan.Steps, install(server))
	return plan, nil
}

// Install installs the PostgreSQL of the distribution (Debian, Ubuntu) with pgAudit, and finds it. Every command is written to out
// before it runs, and then what it says. Where this process is not root and sudo asks for a password, nothing is run, and
// the fault "cluster.install_rights" says what to type.
func Install(ctx context.Context, out io.Writer) (Installation, error) {
	if err := thisMachine.install(ctx, out); err != nil {
		return Installation{}, err
	}
	return Find(ctx, "")
}

func (m installer) install(ctx context.Context, out io.Writer) error {
	plan, err := m.plan(ctx)
	if err != nil {
		return err
	}
	front, err := m.rights(ctx, plan)
	if err != nil {
		return err
	}
	// What the update brings is known only after it: the rest of the plan is made again then.
	if err := execute(ctx, out, Plan{plan.Steps[:1]}.by(front...)); err != nil {
		return err
	}
	if plan, err = m.plan(ctx); err != nil {
		return err
	}
	steps := plan.Steps[1:]
	err = execute(ctx, out, Plan{steps}.by(front...))
	last := steps[len(steps)-1].Argv
	if server, audit := last[len(last)-2], last[len(last)-1]; err != nil && strings.HasSuffix(audit, "-pgaudit") && ctx.Err() == nil {
		// Some have no pgAudit for it; then PostgreSQL alone.
		return execute(ctx, out, Plan{[]Step{install(server)}}.by(front...))
	}
	return err
}

// InstallPgAudit installs pgAudit for a PostgreSQL that has none, and gives the installation as it is then. A failure is a
// reason for a warning, not for giving up: its fault is "cluster.no_pgaudit", or that nothing could be run.
func InstallPgAudit(ctx context.Context, out io.Writer, in Installation) (Installation, error) {
	return thisMachine.installPgAudit(ctx, out, in)
}

func (m installer) installPgAudit(ctx context.Context, out io.Writer, in Installation) (Installation, error) {
	name := fmt.Sprintf("postgresql-%d-pgaudit", in.Version.Major)
	if err := m.apt(); err != nil {
		return in, err
	}
	plan := Plan{Steps: []Step{aptUpdate, install(name)}}
	front, err := m.rights(ctx, plan)
	if err != nil {
		return in, err
	}
	if err := execute(ctx, out, plan.by(front...)); err != nil {
		return in, fault.Wrap(err, fault.Unavailable, "cluster.no_pgaudit", fault.Args{"package": name})
	}
	if in.PgAudit = hasPgAudit(ctx, in); !in.PgAudit { // its PostgreSQL is not the distribution's
		return in, fault.New(fault.Unavailable, "cluster.no_pgaudit", fault.Args{"package": name})
	}
	return in, nil
}

// Apt tells whether packages come by apt here (Debian and its kin): nil, or "cluster.install_elsewhere".
func Apt() error { return thisMachine.apt() }

// Sudo is what has to stand before a command of root's: nothing for root, sudo where it asks no questions. may is false where it would ask.
func Sudo(ctx context.Context) (front []string, may bool) {
	front, err := thisMachine.rights(ctx, Plan{})
	return front, err == nil
}

// apt refuses systems that are not Debian's kin; https://www.freedesktop.org/software/systemd/man/latest/os-release.html
func (m installer) apt() error {
	elsewhere := func(system, page string) error {
		return fault.New(fault.Unavailable, "cluster.install_elsewhere",
			fault.Args{"system": system, "url": "https://www.postgresql.org/download/" + page, "oldest": OldestMajor})
	}
	switch m.goos {
	case "windows":
		return elsewhere("Windows", "windows/")
	case "darwin":
		return elsewhere("macOS", "macosx/")
	case "linux":
	default:
		return elsewhere(m.goos, "")
	}
	f, err := os.Open(m.osRelease)
	if err != nil {
		return elsewhere("Linux", "linux/")
	}
	defer f.Close()
	name, kin := "Linux", ""
	for lines := bufio.NewScanner(f); lines.Scan(); {
		key, value, _ := strings.Cut(lines.Text(), "=")
		value = strings.Trim(value, `"'`)
		switch key {
		case "PRETTY_NAME":
			name = value
		case "ID", "ID_LIKE":
			kin += " " + value
		}
	}
	for _, id := range strings.Fields(kin) {
		if id == "debian" || id == "ubuntu" {
			if _, err := exec.LookPath("apt-get"); err == nil {
				return nil
			}
		}
	}
	return elsewhere(name, "linux/")
}

// rights gives what has to stand before a command: nothing for root, sudo where it asks no questions.
func (m installer) rights(ctx context.Context, plan Plan) ([]string, error) {
	if m.uid == 0 {
		return nil, nil
	}
	if exec.CommandContext(ctx, "sudo", "-n", "true").Run() == nil {
		return []string{"sudo", "-n"}, nil
	}
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	return nil, fault.New(fault.Forbidden, "cluster.install_rights", fault.Args{"commands": plan.by("sudo").String()})
}

func installed(ctx context.Context, name string) bool {
	out, err := exec.CommandContext(ctx, "dpkg-query", "-W", "-f", "${db:Status-Status}", name).Output()
	return err == nil && strings.TrimSpace(string(out)) == "installed"
}

var candidateLine = regexp.MustCompile(`(?m)^\s*Candidate: (\d+)`)

// candidate is the major version that the distribution's package "postgresql" stands for, 0 where it is not known.
func candidate(ctx context.Context) int {
	cmd := exec.CommandContext(ctx, "apt-cache", "policy", "postgresql")
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	out, err := cmd.Output()
	if m := candidateLine.FindSubmatch(out); err == nil && m != nil {
		major, _ := strconv.Atoi(string(m[1])) // digits by the pattern
		return major
	}
	return 0
}

// execute runs the steps and stops at the first that fails.
func execute(ctx context.Context, out io.Writer, plan Plan) error {
	for _, step := range plan.Steps {
		if _, err := fmt.Fprintln(out, "$ "+step.String()); err != nil {
			return err
		}
		cmd := exec.CommandContext(ctx, step.Argv[0], step.Argv[1:]...)
		cmd.Stdout, cmd.Stderr = out, out
		cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) } // dpkg is not to be killed in the middle
		cmd.WaitDelay = time.Minute
		if err := cmd.Run(); err != nil {
			if ctx.Err() != nil {
				return errors.Join(ctx.Err(), err)
			}
			return fault.Wrap(err, fault.Unavailable, "cluster.install_failed", fault.Args{"command": step.String()})
		}
	}
	return nil
}
