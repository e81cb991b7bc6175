// Package untested lets no test be left out in silence: go test does not tell of tests that were skipped.
package untested

import (
	"fmt"
	"os"
	"testing"
)

// Here skips a test that this machine cannot run, and adds it to the list that make test shows in the end (the file that HOWDAH_UNTESTED
// names). It is for what only another machine or account can give; a program that is missing is for .ci/deps, and fails.
func Here(t testing.TB, why string) {
	t.Helper()
	if path := os.Getenv("HOWDAH_UNTESTED"); path != "" {
		f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		_, err = fmt.Fprintf(f, "  %s: %s\n", t.Name(), why) // one write: several packages append
		if closed := f.Close(); err == nil {
			err = closed
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	t.Skip("NOT TESTED: " + why)
}
