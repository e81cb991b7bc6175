//go:build unix

package cluster

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// machine is a pretended Debian whose tools write down how they are called. Not parallel: it changes PATH.
func machine(t *testing.T, osRelease string, tools map[string]string) (m installer, calls func() string) {
	t.Helper()
	dir := t.TempDir()
	log := filepath.Join(dir, "log")
	for name, body := range tools {
		script := fmt.Sprintf("#!/bin/sh\necho \"%s $*\" >> '%s'\n%s\n", name, log, body)
		if err := os.WriteFile(filepath.Join(dir, name), []byte(script), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	release := filepath.Join(dir, "os-release")
	if err := os.WriteFile(release, []byte(osRelease), 0o644); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":/usr/bin:/bin")
	return installer{osRelease: release, goos: "linux", uid: 0}, func() string {
		raw, _ := os.ReadFile(log)
		return string(raw)
	}
}

const (
	debian   = "PRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nID=debian\n"
	notThere = "exit 1"
)

func policy(candidate string) string {
	return "echo 'postgresql:'; echo '  Installed: (none)'; echo '  Candidate: " + candidate + "'"
}

func TestInstallOnDebian(t *testing.T) {
	m, calls := machine(t, debian, map[string]string{
		"apt-get": "echo working", "apt-cache": policy("15+248+deb12u1"), "dpkg-query": notThere, "sh": "",
	})
	var out strings.Builder
	if err := m.install(t.Context(), &out); err != nil {
		t.Fatal(err)
	}
	want := []string{
		"$ apt-get -o DPkg::Lock::Timeout=120 update",
		"$ env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=120 install -y --no-install-recommends postgresql-common",
		"$ sh -c 'mkdir -p /etc/postgresql-common/createcluster.d && echo create_main_cluster = false > /etc/postgresql-common/createcluster.d/howdah.conf'",
		"$ env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=120 install -y --no-install-recommends postgresql-15 postgresql-15-pgaudit",
	}
	rest := out.String()
	for _, line := range want {
		at := strings.Index(rest, line+"\n")
		if at < 0 {
			t.Fatalf("lacks %q or has it out of order:\n%s", line, out.String())
		}
		rest = rest[at+len(line):]
	}
	if have := calls(); strings.Count(have, "apt-get ") != 3 || strings.Count(have, "\nsh ") != 1 {
		t.Errorf("called:\n%s", have)
	}
}

func TestInstallLeavesTheSettingsOfOthersAlone(t *testing.T) {
	m, _ := machine(t, "ID=linuxmint\nID_LIKE=\"ubuntu debian\"\n", map[string]string{
		"apt-get": "case \"$*\" in *pgaudit*) exit 100;; esac", "apt-cache": policy("16+257build1"), "dpkg-query": "echo installed",
	})
	var out strings.Builder
	if err := m.install(t.Context(), &out); err != nil {
		t.Fatal(err)
	}
	if have := out.String(); strings.Contains(have, "createcluster") || !strings.HasSuffix(have, "postgresql-16\n") {
		t.Errorf("ran:\n%s", have)
	}
	_, err := m.installPgAudit(t.Context(), &out, Installation{Bin: "/nowhere/bin", Version: Version{Major: 16}})
	wantFault(t, err, "cluster.no_pgaudit", "postgresql-16-pgaudit")
}

func TestInstallWithoutRightsSaysWhatToType(t *testing.T) {
	m, calls := machine(t, debian, map[string]string{
		"apt-get": "", "apt-cache": policy("(none)"), "dpkg-query": notThere, "sudo": "exit 1",
	})
	m.uid = 1000
	var out strings.Builder
	err := m.install(t.Context(), &out)
	wantFault(t, err, "cluster.install_rights", "sudo apt-get", "sudo sh -c", "--no-install-recommends postgresql")
	if out.Len() > 0 || strings.Contains(calls(), "apt-get") {
		t.Errorf("it ran something:\n%s%s", out.String(), calls())
	}

	m, calls = machine(t, debian, map[string]string{
		"apt-get": "", "apt-cache": policy("17+270"), "dpkg-query": notThere,
		"sudo": "[ \"$2\" = true ] || [ \"$2\" = sh ] || { shift; \"$@\"; }",
	})
	m.uid = 1000
	if err := m.install(t.Context(), &out); err != nil {
		t.Fatal(err)
	}
	if have := calls(); !strings.Contains(have, "sudo -n env DEBIAN_FRONTEND=noninteractive apt-get") {
		t.Errorf("called:\n%s", have)
	}
}

func TestInstallElsewhere(t *testing.T) {
	m, _ := machine(t, "ID=fedora\nPRETTY_NAME=\"Fedora Linux 43\"\n", nil)
	wantFault(t, m.install(t.Context(), io.Discard), "cluster.install_elsewhere", "Fedora Linux 43", "https://www.postgresql.org/download/linux/")
	m.goos = "windows"
	wantFault(t, m.install(t.Context(), io.Discard), "cluster.install_elsewhere", "https://www.postgresql.org/download/windows/")
	m, _ = machine(t, debian, map[string]string{"apt-get": "", "apt-cache": policy("13+225"), "dpkg-query": notThere})
	wantFault(t, m.install(t.Context(), io.Discard), "cluster.install_old", "13")
	m, _ = machine(t, debian, map[string]string{"apt-get": "exit 100", "apt-cache": policy("15+1"), "dpkg-query": notThere})
	wantFault(t, m.install(t.Context(), io.Discard), "cluster.install_failed", "apt-get")
}
