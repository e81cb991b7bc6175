//go:build unix

package server

import (
	"errors"
	"math"
	"net"
	"syscall"
)

// mostDescriptors is how many files this process may have open. Go has raised the soft limit to the hard one already.
func mostDescriptors() int {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil || uint64(limit.Cur) > math.MaxInt32 {
		return math.MaxInt32
	}
	return int(limit.Cur)
}

// descriptor is the number of a connection's file.
func descriptor(conn net.Conn) (n int, ok bool) {
	c, isSyscall := conn.(syscall.Conn)
	if !isSyscall {
		return 0, false
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return 0, false
	}
	err = raw.Control(func(fd uintptr) { n = int(fd) })
	return n, err == nil
}

func tooManyFiles(err error) bool {
	return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE)
}
