//go:build linux

package torture

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	_ "howdah/internal/cli" // the program is built from it: a result is not cached beyond a change of any part
	"howdah/internal/cli/clitest"
)

var (
	rounds  = flag.Int("torture.rounds", 8, "how many rounds of killing TestTorture makes")
	seed    = flag.Int64("torture.seed", 0, "schedule of TestTorture; 0 takes a new one and prints it")
	clients = flag.Int("torture.clients", 8, "how many clients TestTorture has")
	keep    = flag.Bool("torture.keep", false, "keep data directories of failed tests")
)

// work is the directory of this run: the program, and the data of every test.
var work string

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(run(m))
}

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "howdah-torture-")
	if err == nil {
		err = os.Chmod(dir, 0o755) // the account that the program becomes has to get in
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	work = dir
	code := m.Run()
	clitest.Remove()
	if *keep && code != 0 {
		fmt.Fprintln(os.Stderr, "kept:", dir)
		return code
	}
	if err := os.RemoveAll(dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = max(code, 1)
	}
	return code
}

var build struct {
	sync.Once
	path string
	err  error
}

// raced builds the program once with the race detector, when the test has it: for servers that many people use at once. It starts five times as slowly, and so do its
// commands and what PostgreSQL calls for each segment of WAL; all other houses are of the program as it ships.
func raced(t testing.TB) string {
	t.Helper()
	if !raceDetector {
		return clitest.Program(t)
	}
	build.Do(func() {
		build.path = filepath.Join(work, "howdah")
		out, err := exec.Command("go", "build", "-race", "-o", build.path, "howdah").CombinedOutput()
		if err != nil {
			build.err = fmt.Errorf("go build: %w\n%s", err, out)
		}
	})
	if build.err != nil {
		t.Fatal(build.err)
	}
	return build.path
}

// needRoot fails where the machine cannot show what a test is about: a promise that was not tested was not kept.
func needRoot(t testing.TB, why string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatalf("this test has to run as root: %s", why)
	}
}

// patience is what a healthy part has for anything: a machine that is ten times slower, with a disk that stalls, must not fail a test.
// Nothing is waited for that long but what never comes.
const patience = 5 * time.Minute

// await looks until holds is true and fails the test after the time given.
func await(t testing.TB, patience time.Duration, what string, holds func() bool) {
	t.Helper()
	if !within(patience, holds) {
		t.Fatalf("waited %s in vain: %s", patience, what)
	}
}

func within(patience time.Duration, holds func() bool) bool {
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	tick := time.NewTicker(25 * time.Millisecond) // some ask twice each time, and a token may be used a hundred times a second
	defer tick.Stop()
	for !holds() {
		select {
		case <-deadline.C:
			return holds()
		case <-tick.C:
		}
	}
	return true
}
