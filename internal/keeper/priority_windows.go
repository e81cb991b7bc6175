package keeper

import "golang.org/x/sys/windows"

// LeaveToOthers makes this process and those that it will start get what others leave of processors.
func LeaveToOthers() {
	_ = windows.SetPriorityClass(windows.CurrentProcess(), windows.IDLE_PRIORITY_CLASS)
}
