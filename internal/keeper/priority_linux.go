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
	const whoProcess, idle = 1, 3 << 13
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
			_ = syscall.Setpriority(syscall.PRIO_PROCESS, id, 19)
			_, _, _ = unix.Syscall(unix.SYS_IOPRIO_SET, whoProcess, uintptr(id), idle) //nolint:gosec // a number of a thread
		}
	}
}
