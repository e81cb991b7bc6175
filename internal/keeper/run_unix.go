//go:build unix

package keeper

import (
	"errors"
	"syscall"
)

// alive tells whether there is a process of this number.
func alive(pid int) bool { return pid > 0 && !errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) }
