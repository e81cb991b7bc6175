package keeper

import (
	"os"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// LeaveToOthers makes this process and those that it will start get what others leave of processors and disks. On Linux both belong to threads, and new ones have
// what the one that made them has. https://man7.org/linux/man-pages/man2/ioprio_set.2.html
func LeaveToOthers() {
	const idle = 3 << 13
	yield(19, idle)
}

// StandBack makes this process and those that it will start give way to others, but not starve where these take all that there is: somebody waits for what it does.
func StandBack() {
	const least = 2<<13 | 7 // the last of those that are served in turn
	yield(10, least)
}

func yield(nice, io int) {
	const whoProcess = 1
	seen := map[int]bool{}
	for more := true; more; {
		more = false
		tasks, _ := os.ReadDir("/proc/self/task")
		for _, task := range tasks {
			id, err := strconv.Atoi(task.Name())
			if err != nil || seen[id] {
				continue
			}
			seen[id], more = true, true
			_ = syscall.Setpriority(syscall.PRIO_PROCESS, id, nice)
			_, _, _ = unix.Syscall(unix.SYS_IOPRIO_SET, whoProcess, uintptr(id), uintptr(io)) //nolint:gosec // a number of a thread
		}
	}
}
