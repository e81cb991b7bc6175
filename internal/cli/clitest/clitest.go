// Package clitest gives tests the program as it ships.
package clitest

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
)

var built struct {
	sync.Once
	dir, path string
	err       error
}

// Program is a file with howdah, which every account can run: built once for all tests of a package, without the race detector. A program with it needs five times the CPU to start
// alone, and PostgreSQL starts one for every segment of WAL; races are looked for where the code runs in the test itself, and in package torture's servers.
// Who calls it calls Remove in TestMain.
func Program(t testing.TB) string {
	t.Helper()
	path, err := Build()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// Build is Program for those who have no test.
func Build() (path string, err error) {
	if named := os.Getenv("HOWDAH_TEST_PROGRAM"); named != "" { // built elsewhere: tests may run where there is no Go
		return named, nil
	}
	built.Do(func() { built.err = build() })
	return built.path, built.err
}

func build() (err error) {
	root, err := moduleRoot()
	if err != nil {
		return err
	}
	// A result of a test is cached until a file changes that the test looked at: all that the program is made of.
	err = filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		if err == nil && e.IsDir() && path != root && (strings.HasPrefix(e.Name(), ".") || strings.HasPrefix(e.Name(), "howdah-data")) {
			return filepath.SkipDir
		}
		if err == nil && (strings.HasSuffix(path, ".go") || strings.HasSuffix(path, ".json") || strings.HasSuffix(path, ".sql") || strings.HasSuffix(path, ".toml")) {
			_, err = os.Stat(path)
		}
		return err
	})
	if err != nil {
		return err
	}
	if built.dir, err = os.MkdirTemp("", "howdah-program-"); err != nil {
		return err
	}
	if err = os.Chmod(built.dir, 0o755); err != nil { //nolint:gosec // the account that PostgreSQL runs as has to get in
		return err
	}
	built.path = filepath.Join(built.dir, "howdah")
	if runtime.GOOS == "windows" {
		built.path += ".exe"
	}
	if out, err := exec.Command("go", "build", "-o", built.path, "howdah").CombinedOutput(); err != nil {
		return fmt.Errorf("go build: %w\n%s", err, out)
	}
	return nil
}

// moduleRoot is where go.mod lies: tests run in the folder of their package.
func moduleRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", fmt.Errorf("no go.mod above the folder of the test")
		}
		dir = parent
	}
}

// Remove takes the program away again.
func Remove() {
	if built.dir != "" {
		_ = os.RemoveAll(built.dir)
	}
}
