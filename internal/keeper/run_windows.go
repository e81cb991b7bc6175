package keeper

import "golang.org/x/sys/windows"

// alive tells whether there is a process of this number.
func alive(pid int) bool {
	h, err := windows.OpenProcess(windows.SYNCHRONIZE, false, uint32(pid)) //nolint:gosec // a process number
	if err != nil {
		return err == windows.ERROR_ACCESS_DENIED //nolint:errorlint // as it is returned
	}
	defer windows.CloseHandle(h) //nolint:errcheck // nothing was written
	state, err := windows.WaitForSingleObject(h, 0)
	return err == nil && state == uint32(windows.WAIT_TIMEOUT)
}
