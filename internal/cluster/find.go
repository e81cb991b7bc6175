package cluster

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"howdah/internal/fault"
)

// OldestMajor is the oldest PostgreSQL that Howdah works with: jsonlog began with it.
const OldestMajor = 15

// Version of a PostgreSQL server. Minor is -1 for a test release (beta, release candidate, devel).
type Version struct {
	Major, Minor int
	Text         string // as PostgreSQL says it: "15.18", "18beta1"
	Build        string // with what the packager adds: "15.18 (Debian 15.18-0+deb12u1)"
}

// String is the version as PostgreSQL says it.
func (v Version) String() string { return v.Text }

// versionLine is what `postgres --version` prints; packagers add their own name after it.
var versionLine = regexp.MustCompile(`\(PostgreSQL\) ((\d+)(?:\.(\d+))?[0-9a-z.]*)(.*)`)

func parseVersion(line string) (Version, error) {
	m := versionLine.FindStringSubmatch(line)
	if m == nil {
		return Version{}, fmt.Errorf("not a version of PostgreSQL: %q", firstLine(line))
	}
	v := Version{Minor: -1, Text: m[1], Build: strings.TrimSpace(m[1] + m[4])}
	v.Major, _ = strconv.Atoi(m[2]) // digits by the pattern
	if m[3] != "" {
		v.Minor, _ = strconv.Atoi(m[3])
	}
	return v, nil
}

// Installation is a directory of PostgreSQL's server programs.
type Installation struct {
	Bin     string // absolute path of the directory with postgres, initdb and pg_ctl
	Version Version
	PgAudit bool // the pgAudit extension is installed for it
}

// dumpers are the programs that some packages of the server leave out.
var dumpers = []string{"pg_dump", "pg_dumpall", "pg_restore", "psql"}

// Program is the path of one of its programs, such as "pg_dump". Some packages hold the server alone: what dumps and restores is then taken from PATH, where it has the same major version.
func (in Installation) Program(name string) string {
	own := filepath.Join(in.Bin, name+exeSuffix)
	if slices.Contains(dumpers, name) && missing(own) {
		if found, err := exec.LookPath(name); err == nil {
			if major, known := majors.Load(found); known && major == in.Version.Major {
				return found
			}
		}
	}
	return own
}

func missing(path string) bool {
	_, err := os.Stat(path)
	return errors.Is(err, fs.ErrNotExist)
}

// majors are the major versions of programs on PATH, by their paths: what inspect has asked them.
var majors sync.Map

// askDumpers learns which version those on PATH have that the installation lacks.
func (in Installation) askDumpers(ctx context.Context) {
	for _, name := range dumpers {
		if !missing(filepath.Join(in.Bin, name+exeSuffix)) {
			continue
		}
		found, err := exec.LookPath(name)
		if err != nil {
			continue
		}
		if version, err := versionOf(ctx, found); err == nil {
			majors.Store(found, version.Major)
		}
	}
}

// answerLimit is what a program of PostgreSQL has to say its version: forever is only what lies on a network disk that is gone. A drill, which has the lowest priority of all, waits for
// its share of a busy machine.
const answerLimit = 2 * time.Minute

// versionOf asks the server program on disk for its version.
func versionOf(ctx context.Context, program string) (Version, error) {
	ctx, cancel := context.WithTimeout(ctx, answerLimit)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, "--version")
	cmd.Env = environment(nil)
	cmd.WaitDelay = time.Second
	out, err := cmd.Output()
	if err != nil {
		return Version{}, fmt.Errorf("%s --version: %w", program, err)
	}
	return parseVersion(string(out))
}

// inspect looks whether bin holds a whole server.
func inspect(ctx context.Context, bin string) (Installation, error) {
	in := Installation{Bin: bin}
	for _, name := range []string{"postgres", "initdb", "pg_ctl"} {
		if _, err := exec.LookPath(in.Program(name)); err != nil {
			return in, fmt.Errorf("no %s in %s: %w", name, bin, err)
		}
	}
	var err error
	if in.Version, err = versionOf(ctx, in.Program("postgres")); err != nil {
		return in, err
	}
	in.PgAudit = hasPgAudit(ctx, in)
	in.askDumpers(ctx)
	return in, nil
}

// hasPgAudit needs both the control file and the library: a half-removed package would keep the server from starting.
func hasPgAudit(ctx context.Context, in Installation) bool {
	root := filepath.Dir(in.Bin)
	share := []string{filepath.Join(root, "share"), filepath.Join(root, "share", "postgresql"),
		fmt.Sprintf("/usr/share/postgresql/%d", in.Version.Major)}
	lib := []string{filepath.Join(root, "lib"), filepath.Join(root, "lib", "postgresql"),
		fmt.Sprintf("/usr/lib/postgresql/%d/lib", in.Version.Major)}
	// pg_config knows, but it often comes with the development package only.
	if _, err := os.Stat(in.Program("pg_config")); err == nil {
		ctx, cancel := context.WithTimeout(ctx, answerLimit)
		defer cancel()
		cmd := exec.CommandContext(ctx, in.Program("pg_config"), "--sharedir", "--pkglibdir")
		cmd.Env = environment(nil)
		if out, err := cmd.Output(); err == nil {
			if lines := strings.Split(strings.TrimSpace(string(out)), "\n"); len(lines) == 2 {
				share, lib = []string{strings.TrimSpace(lines[0])}, []string{strings.TrimSpace(lines[1])}
			}
		}
	}
	return anyFile(share, filepath.Join("extension", "pgaudit.control")) && anyFile(lib, "pgaudit"+libSuffix)
}

func anyFile(dirs []string, name string) bool {
	return slices.ContainsFunc(dirs, func(dir string) bool {
		st, err := os.Stat(filepath.Join(dir, name))
		return err == nil && st.Mode().IsRegular()
	})
}

var libSuffix = map[string]string{"darwin": ".dylib", "windows": ".dll"}[runtime.GOOS]

func init() {
	if libSuffix == "" {
		libSuffix = ".so"
	}
}

// usualPlaces are the directories that packages use, as glob patterns.
func usualPlaces() []string {
	switch runtime.GOOS {
	case "windows":
		places := registered()
		for _, root := range []string{os.Getenv("ProgramW6432"), os.Getenv("ProgramFiles"), `C:\Program Files`} {
			if root != "" {
				places = append(places, filepath.Join(root, "PostgreSQL", "*", "bin"), filepath.Join(root, "Howdah", "pgsql", "bin"))
			}
		}
		return places
	case "darwin":
		return []string{
			"/opt/homebrew/opt/postgresql@*/bin", "/opt/homebrew/opt/postgresql/bin",
			"/usr/local/opt/postgresql@*/bin", "/usr/local/opt/postgresql/bin",
			"/Applications/Postgres.app/Contents/Versions/*/bin", "/usr/local/pgsql/bin",
		}
	}
	return []string{
		"/usr/lib/postgresql/*/bin",                    // Debian, Ubuntu
		"/usr/pgsql-*/bin", "/usr/libexec/postgresql*", // Red Hat and its kin; Alpine
		"/home/linuxbrew/.linuxbrew/opt/postgresql@*/bin", "/usr/local/pgsql/bin",
	}
}

// Find looks for a PostgreSQL server of version 15 or newer. A hint (the directory of its programs, one of them, or the
// directory above) is the only place looked at; otherwise PATH wins, then the newest in the usual places. When nothing
// fits, the fault names what was found and why it does not do.
func Find(ctx context.Context, hint string) (Installation, error) {
	return find(ctx, hint, 0, os.Getenv("PATH"), usualPlaces())
}

// FindFor is Find, but an installation of the same major version as the cluster below dir goes before all others, so
// that a second, newer PostgreSQL on the machine does not stand in the way of the one that can read the data.
func FindFor(ctx context.Context, hint, dir string) (Installation, error) {
	return find(ctx, hint, dataMajor(filepath.Join(dir, dataName)), os.Getenv("PATH"), usualPlaces())
}

// FindMajor is Find for a cluster of this major version that is not there yet: what is found has it, or the fault says what was found in its place.
func FindMajor(ctx context.Context, hint string, major int) (Installation, error) {
	in, err := find(ctx, hint, major, os.Getenv("PATH"), usualPlaces())
	if err == nil && in.Version.Major != major {
		return in, fault.New(fault.NotFound, "cluster.no_major", fault.Args{"want": major, "found": in.Version.Text})
	}
	return in, err
}

func find(ctx context.Context, hint string, major int, path string, places []string) (Installation, error) {
	if hint != "" {
		return findAt(ctx, hint)
	}
	var bins, broken []string
	var causes []error
	for _, dir := range filepath.SplitList(path) {
		// Debian puts links or wrappers into /usr/bin; only where postgres itself lives are its companions.
		program, err := filepath.EvalSymlinks(filepath.Join(dir, "postgres"+exeSuffix))
		if dir != "" && err == nil {
			bins = append(bins, filepath.Dir(program))
		}
	}
	fromPath := len(bins)
	for _, pattern := range places {
		found, _ := filepath.Glob(pattern) // the patterns are well formed
		for _, bin := range found {
			if _, err := os.Stat(filepath.Join(bin, "postgres"+exeSuffix)); err == nil {
				bins = append(bins, bin)
			}
		}
	}
	var good []Installation
	seen := map[string]bool{}
	for i, bin := range bins {
		if abs, err := filepath.Abs(bin); err == nil {
			bin = abs
		}
		if seen[bin] {
			continue
		}
		seen[bin] = true
		in, err := inspect(ctx, bin)
		switch {
		case err != nil:
			broken, causes = append(broken, bin+" (?)"), append(causes, err)
		case in.Version.Major < OldestMajor:
			broken = append(broken, bin+" ("+in.Version.Text+")")
		case i < fromPath && major == 0:
			return in, nil
		default:
			good = append(good, in)
		}
	}
	if err := ctx.Err(); err != nil {
		return Installation{}, err
	}
	if len(good) == 0 {
		if len(broken) == 0 {
			return Installation{}, fault.New(fault.NotFound, "cluster.not_found", fault.Args{"oldest": OldestMajor})
		}
		return Installation{}, fault.Wrap(errors.Join(causes...), fault.NotFound, "cluster.none_fits",
			fault.Args{"oldest": OldestMajor, "found": strings.Join(broken, ", ")})
	}
	slices.SortStableFunc(good, func(a, b Installation) int {
		if x := cmp.Compare(btoi(b.Version.Major == major), btoi(a.Version.Major == major)); x != 0 {
			return x
		}
		return cmp.Or(cmp.Compare(b.Version.Major, a.Version.Major), cmp.Compare(b.Version.Minor, a.Version.Minor))
	})
	return good[0], nil
}

// findAt takes what the person named, and nothing else: a typing mistake must not end in another server.
func findAt(ctx context.Context, hint string) (Installation, error) {
	abs, err := filepath.Abs(hint)
	if err != nil {
		return Installation{}, err
	}
	bin := abs
	if st, err := os.Stat(abs); err == nil && !st.IsDir() {
		bin = filepath.Dir(abs)
	} else if _, err := os.Stat(filepath.Join(abs, "postgres"+exeSuffix)); err != nil {
		if _, err := os.Stat(filepath.Join(abs, "bin", "postgres"+exeSuffix)); err == nil {
			bin = filepath.Join(abs, "bin")
		}
	}
	in, err := inspect(ctx, bin)
	if ctx.Err() != nil {
		return Installation{}, ctx.Err()
	}
	if err != nil {
		return Installation{}, fault.Wrap(err, fault.NotFound, "cluster.hint_unfit", fault.Args{"path": hint})
	}
	if in.Version.Major < OldestMajor {
		return Installation{}, fault.New(fault.NotFound, "cluster.none_fits",
			fault.Args{"oldest": OldestMajor, "found": bin + " (" + in.Version.Text + ")"})
	}
	return in, nil
}

// dataMajor is the major version of a data directory, 0 where it is none.
func dataMajor(data string) int {
	raw, err := os.ReadFile(filepath.Join(data, "PG_VERSION"))
	if err != nil {
		return 0
	}
	major, _ := strconv.Atoi(strings.TrimSpace(string(raw)))
	return major
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(s), "\n")
	return line
}
