package bench

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sys/unix"

	"howdah/internal/pg"
)

// tick is the unit of CPU times in /proc (USER_HZ, 100 on every architecture that people run this on; proc_pid_stat(5)).
const tick = 10 * time.Millisecond

// usage is CPU time since the start of each process.
type usage struct {
	howdah, postgres, load time.Duration
	machine                time.Duration // all processes and the kernel, and what a hypervisor gave to others
}

func (u usage) minus(v usage) usage {
	return usage{u.howdah - v.howdah, u.postgres - v.postgres, u.load - v.load, u.machine - v.machine}
}

// server is what a message costs the machine that serves it.
func (u usage) server() time.Duration { return u.howdah + u.postgres }

// strangers is what everybody else used, in seconds of CPU.
func (u usage) strangers() float64 { return max(0, u.machine-u.server()-u.load).Seconds() }

// threadCPU is what the calling thread has used (getrusage(2)).
func threadCPU() time.Duration {
	var r unix.Rusage
	if unix.Getrusage(unix.RUSAGE_THREAD, &r) != nil {
		return 0
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

// probe reads what the processes of a house use; zero ids are processes on other machines.
type probe struct {
	howdah, postmaster int
}

// newProbe finds PostgreSQL's parent process by one of its children: the backend of conn.
func newProbe(ctx context.Context, howdah int, conn *pgx.Conn) (probe, error) {
	p := probe{howdah: howdah}
	var backend int
	var here bool
	err := conn.QueryRow(ctx, `SELECT pg_backend_pid(), coalesce(inet_server_addr() <<= '127.0.0.0/8' OR inet_server_addr() = '::1', true)`).Scan(&backend, &here)
	if err != nil {
		return p, pg.Fault(err)
	}
	if s, err := readStat(backend); here && err == nil && strings.HasPrefix(s.name, "postgres") {
		p.postmaster = s.parent
	}
	return p, nil
}

// complete tells whether all of the server can be seen.
func (p probe) complete() bool { return p.howdah > 0 && p.postmaster > 0 }

// now sums up: PostgreSQL is its parent process, the children alive, and those that it has waited for.
func (p probe) now() usage {
	u := usage{machine: busy()}
	if s, err := readStat(p.howdah); p.howdah > 0 && err == nil {
		u.howdah = s.own
	}
	if s, err := readStat(os.Getpid()); err == nil {
		u.load = s.own
	}
	if p.postmaster == 0 {
		return u
	}
	if s, err := readStat(p.postmaster); err == nil {
		u.postgres = s.own + s.waitedFor
	}
	dir, err := os.Open("/proc")
	if err != nil {
		return u
	}
	defer dir.Close()
	names, _ := dir.Readdirnames(-1)
	for _, name := range names {
		if pid, err := strconv.Atoi(name); err == nil {
			if s, err := readStat(pid); err == nil && s.parent == p.postmaster {
				u.postgres += s.own
			}
		}
	}
	return u
}

// busy sums up what is not idle of the first line of /proc/stat: user, nice, system, idle, iowait, irq, softirq, steal.
func busy() (sum time.Duration) {
	raw, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0
	}
	line, _, _ := strings.Cut(string(raw), "\n")
	for i, word := range strings.Fields(line) {
		if i >= 1 && i <= 8 && i != 4 && i != 5 {
			n, _ := strconv.ParseInt(word, 10, 64)
			sum += time.Duration(n) * tick
		}
	}
	return sum
}

type procStat struct {
	name           string
	parent         int
	own, waitedFor time.Duration
}

func readStat(pid int) (procStat, error) {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return procStat{}, err
	}
	open, end := bytes.IndexByte(raw, '('), bytes.LastIndexByte(raw, ')')
	if open < 0 || end < open {
		return procStat{}, fmt.Errorf("/proc/%d/stat: %q", pid, raw)
	}
	fields := strings.Fields(string(raw[end+1:])) // fields[0] is field 3, the state
	if len(fields) < 15 {
		return procStat{}, fmt.Errorf("/proc/%d/stat: %q", pid, raw)
	}
	ticks := func(field int) time.Duration {
		n, _ := strconv.ParseInt(fields[field-3], 10, 64)
		return time.Duration(n) * tick
	}
	s := procStat{name: string(raw[open+1 : end]), own: ticks(14) + ticks(15), waitedFor: ticks(16) + ticks(17)}
	s.parent, _ = strconv.Atoi(fields[1])
	return s, nil
}

// residentKiB is what a process holds in memory (VmRSS: its heap and stacks, and what it has touched of its program).
func residentKiB(pid int) (int64, bool) {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil || pid == 0 {
		return 0, false
	}
	return field(string(raw), "VmRSS:")
}

// field finds the number after a name in the manner of /proc.
func field(text, name string) (int64, bool) {
	for line := range strings.Lines(text) {
		if rest, ok := strings.CutPrefix(line, name); ok {
			words := strings.Fields(rest)
			if len(words) == 0 {
				return 0, false
			}
			n, err := strconv.ParseInt(words[0], 10, 64)
			return n, err == nil
		}
	}
	return 0, false
}

// raiseLimit lets this process and its children open so many files, as far as it may.
func raiseLimit(want uint64) {
	var have unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &have) != nil || have.Cur >= want {
		return
	}
	_ = unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: want, Max: max(want, have.Max)}) // root only, above Max
	_ = unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: min(want, have.Max), Max: have.Max})
}

func thisMachine() machine {
	m := machine{CPU: "?", Kernel: "?"}
	if raw, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(raw)) {
			if rest, ok := strings.CutPrefix(line, "model name"); ok {
				m.CPU = strings.Trim(rest, " \t:\n")
				break
			}
		}
	}
	if raw, err := os.ReadFile("/proc/meminfo"); err == nil {
		kib, _ := field(string(raw), "MemTotal:")
		m.Memory = kib / 1024
	}
	if raw, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		m.Kernel = "Linux " + strings.TrimSpace(string(raw))
	}
	return m
}
