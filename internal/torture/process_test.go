//go:build linux

package torture

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// process is one line of what /proc knows; see proc(5).
type process struct {
	pid, parent int
	state       string // one letter
	uids        []string
	args        string
	cwd         string
}

// dead: ended, and at most not collected yet by its parent.
func (p process) dead() bool { return p.state == "Z" || p.state == "X" }

func (p process) String() string {
	return fmt.Sprintf("%d (parent %d, uid %s, %s) %s", p.pid, p.parent, strings.Join(p.uids, " "), p.state, p.args)
}

// look reads one process; false when it is gone.
func look(pid int) (process, bool) {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return process{}, false
	}
	p := process{pid: pid}
	for line := range strings.Lines(string(raw)) {
		name, value, _ := strings.Cut(line, ":")
		fields := strings.Fields(value)
		if len(fields) == 0 {
			continue
		}
		switch name {
		case "State":
			p.state = fields[0]
		case "PPid":
			p.parent, _ = strconv.Atoi(fields[0])
		case "Uid":
			p.uids = fields
		}
	}
	args, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	p.args = strings.TrimSpace(strings.ReplaceAll(string(args), "\x00", " "))
	p.cwd, _ = os.Readlink(fmt.Sprintf("/proc/%d/cwd", pid))
	return p, true
}

func processes() []process {
	entries, _ := os.ReadDir("/proc")
	var all []process
	for _, e := range entries {
		if pid, err := strconv.Atoi(e.Name()); err == nil {
			if p, ok := look(pid); ok {
				all = append(all, p)
			}
		}
	}
	return all
}

// householdOf lists the processes that live in or were told of the directory, and all that descend from them.
func householdOf(dir string) []process {
	all := processes()
	in := map[int]bool{}
	for _, p := range all {
		inside := p.cwd == dir || strings.HasPrefix(p.cwd, dir+string(filepath.Separator))
		if !p.dead() && p.pid != os.Getpid() && (inside || strings.Contains(p.args, dir)) {
			in[p.pid] = true
		}
	}
	for grown := true; grown; {
		grown = false
		for _, p := range all {
			if !p.dead() && !in[p.pid] && in[p.parent] {
				in[p.pid], grown = true, true
			}
		}
	}
	var household []process
	for _, p := range all {
		if in[p.pid] {
			household = append(household, p)
		}
	}
	return household
}

// sendTo signals a process of ours; one that has ended by itself is success.
func sendTo(pid int, signal syscall.Signal) error {
	err := syscall.Kill(pid, signal)
	if err == syscall.ESRCH {
		return nil
	}
	return err
}

// gone waits until a process has ended.
func gone(t testing.TB, pid int) {
	t.Helper()
	await(t, patience, fmt.Sprintf("process %d to end", pid), func() bool {
		p, ok := look(pid)
		return !ok || p.dead()
	})
}
