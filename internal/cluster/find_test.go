//go:build unix

package cluster

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// pretend makes a directory of programs that say they are this version.
func pretend(t *testing.T, bin, version string) string {
	t.Helper()
	if err := os.MkdirAll(bin, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"postgres", "initdb", "pg_ctl"} {
		script := fmt.Sprintf("#!/bin/sh\necho '%s (PostgreSQL) %s'\n", name, version)
		if err := os.WriteFile(filepath.Join(bin, name), []byte(script), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return bin
}

func TestVersionsAsTheyAreWritten(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]Version{
		"postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n": {15, 18, "15.18", "15.18 (Debian 15.18-0+deb12u1)"},
		"postgres (PostgreSQL) 17.2":                             {17, 2, "17.2", "17.2"},
		"postgres (PostgreSQL) 18beta1":                          {18, -1, "18beta1", "18beta1"},
		"postgres (PostgreSQL) 9.6.24":                           {9, 6, "9.6.24", "9.6.24"},
	} {
		if have, err := parseVersion(line); err != nil || have != want {
			t.Errorf("%q: %+v, %v", line, have, err)
		}
	}
	if v, err := parseVersion("bash: postgres: not found"); err == nil {
		t.Errorf("read %v out of nothing", v)
	}
}

func TestFindTakesThePathFirstAndThenTheNewest(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	places := []string{filepath.Join(root, "usr", "*", "bin")}
	pretend(t, filepath.Join(root, "usr", "9", "bin"), "9.6.24")
	pretend(t, filepath.Join(root, "usr", "15", "bin"), "15.3")
	pretend(t, filepath.Join(root, "usr", "17", "bin"), "17.1")
	pretend(t, filepath.Join(root, "usr", "broken", "bin"), "nonsense")
	find := func(hint string, major int, path string) string {
		t.Helper()
		in, err := find(t.Context(), hint, major, path, places)
		if err != nil {
			t.Fatal(err)
		}
		rel, err := filepath.Rel(root, in.Bin)
		if err != nil {
			t.Fatal(err)
		}
		return rel
	}
	check := func(have, want string) {
		t.Helper()
		if have != filepath.FromSlash(want) {
			t.Errorf("found %s, want %s", have, want)
		}
	}
	check(find("", 0, ""), "usr/17/bin")
	check(find("", 15, ""), "usr/15/bin") // the one that can read the data
	check(find("", 16, ""), "usr/17/bin")

	// On PATH: a directory with links to the real one, as Debian and Homebrew have it.
	links := filepath.Join(root, "links")
	real := pretend(t, filepath.Join(root, "opt", "16", "bin"), "16.4")
	if err := os.Mkdir(links, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(real, "postgres"), filepath.Join(links, "postgres")); err != nil {
		t.Fatal(err)
	}
	check(find("", 0, "/nowhere:"+links), "opt/16/bin")
	check(find("", 15, links), "usr/15/bin")

	for _, hint := range []string{"usr/15/bin", "usr/15", "usr/15/bin/postgres"} {
		check(find(filepath.Join(root, hint), 0, links), "usr/15/bin")
	}
}

func TestFindNamesWhatDoesNotDo(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	old := pretend(t, filepath.Join(root, "13", "bin"), "13.9")
	half := pretend(t, filepath.Join(root, "half", "bin"), "17.1")
	if err := os.Remove(filepath.Join(half, "initdb")); err != nil {
		t.Fatal(err)
	}
	_, err := find(t.Context(), "", 0, "", []string{filepath.Join(root, "*", "bin")})
	wantFault(t, err, "cluster.none_fits", old+" (13.9)", half+" (?)")
	_, err = find(t.Context(), "", 0, "", []string{filepath.Join(root, "nothing", "*")})
	wantFault(t, err, "cluster.not_found")
	_, err = find(t.Context(), old, 0, "", nil)
	wantFault(t, err, "cluster.none_fits", "13.9")
	_, err = find(t.Context(), half, 0, "", nil)
	wantFault(t, err, "cluster.hint_unfit", half)
	_, err = find(t.Context(), filepath.Join(root, "typo"), 0, "", nil)
	wantFault(t, err, "cluster.hint_unfit", "typo")
}

func TestFindOnThisMachine(t *testing.T) {
	t.Parallel()
	in := mustFind(t.Context())
	if in.Version.Major < OldestMajor || !filepath.IsAbs(in.Bin) {
		t.Errorf("%+v", in)
	}
	t.Logf("%+v", in)
}

// TestClientsComeFromThePathWhereTheServerIsAlone: of another version they would refuse its data, or write what it cannot read.
func TestClientsComeFromThePathWhereTheServerIsAlone(t *testing.T) {
	root := t.TempDir()
	alone := pretend(t, filepath.Join(root, "alone"), "18.4")
	clients := func(dir, version string) string {
		dir = filepath.Join(root, dir)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"pg_dump", "pg_amcheck"} {
			if err := os.WriteFile(filepath.Join(dir, name), fmt.Appendf(nil, "#!/bin/sh\necho '%s (PostgreSQL) %s'\n", name, version), 0o755); err != nil {
				t.Fatal(err)
			}
		}
		return dir
	}
	look := func() Installation {
		in, err := inspect(t.Context(), alone)
		if err != nil {
			t.Fatal(err)
		}
		return in
	}
	own := filepath.Join(alone, "pg_dump")
	t.Setenv("PATH", clients("older", "17.2"))
	if have := look().Program("pg_dump"); have != own {
		t.Errorf("of another version: %s", have)
	}
	same := clients("same", "18.1")
	t.Setenv("PATH", same)
	in := look()
	if have := in.Program("pg_dump"); have != filepath.Join(same, "pg_dump") {
		t.Errorf("of the same version: %s", have)
	}
	if have := in.Program("pg_amcheck"); have != filepath.Join(alone, "pg_amcheck") {
		t.Errorf("one that belongs to the server: %s", have)
	}
	if err := os.WriteFile(own, nil, 0o755); err != nil {
		t.Fatal(err)
	}
	if have := in.Program("pg_dump"); have != own {
		t.Errorf("one of its own: %s", have)
	}
}
