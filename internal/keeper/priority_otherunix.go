//go:build unix && !linux

package keeper

import "syscall"

// LeaveToOthers makes this process and those that it will start get what others leave of processors.
func LeaveToOthers() { _ = syscall.Setpriority(syscall.PRIO_PROCESS, 0, 19) }

// StandBack makes this process and those that it will start give way to others, but not starve.
func StandBack() { _ = syscall.Setpriority(syscall.PRIO_PROCESS, 0, 10) }
