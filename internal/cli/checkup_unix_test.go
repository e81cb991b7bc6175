//go:build !windows

package cli

import (
	"os"
	"path/filepath"
	"testing"
)

// TestTheCommandOfThePageMachineIsOneThatCanBeTyped: where there is no sudo, there is none in it.
func TestTheCommandOfThePageMachineIsOneThatCanBeTyped(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("PATH", dir)
	if got := asRoot("howdah doctor"); got != "howdah doctor" {
		t.Error(got)
	}
	if err := os.WriteFile(filepath.Join(dir, "sudo"), []byte("#!/bin/sh\n"), 0o700); err != nil { //nolint:gosec // a program
		t.Fatal(err)
	}
	want := "sudo howdah doctor"
	if os.Geteuid() == 0 {
		want = "howdah doctor"
	}
	if got := asRoot("howdah doctor"); got != want {
		t.Error(got)
	}
}
