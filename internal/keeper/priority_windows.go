package keeper

import "golang.org/x/sys/windows"

// LeaveToOthers makes this process and those that it will start get what others leave of processors.
func LeaveToOthers() {
	_ = windows.SetPriorityClass(windows.CurrentProcess(), windows.IDLE_PRIORITY_CLASS)
}

// StandBack makes this process and those that it will start give way to others, but not starve.
func StandBack() {
	_ = windows.SetPriorityClass(windows.CurrentProcess(), windows.BELOW_NORMAL_PRIORITY_CLASS)
}
