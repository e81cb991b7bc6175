//go:build unix

package web

import (
	"net"
	"syscall"
)

// A directWriter writes to a connection as much as the system takes at once, and never waits. Who tells many the same
// thing is done sooner so than by waking a goroutine for each.
type directWriter struct{ conn syscall.RawConn }

// newDirectWriter gives nil for a connection that has no such way (TLS).
func newDirectWriter(conn net.Conn) *directWriter {
	c, ok := conn.(syscall.Conn)
	if !ok {
		return nil
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return nil
	}
	return &directWriter{raw}
}

// write returns how many bytes were taken, all or some or none.
func (w *directWriter) write(b []byte) (n int, err error) {
	var failed error
	err = w.conn.Write(func(fd uintptr) bool {
		for {
			n, failed = syscall.Write(int(fd), b)
			if failed != syscall.EINTR {
				return true
			}
		}
	})
	if failed == syscall.EAGAIN || failed != nil && n > 0 {
		failed = nil
	}
	if err == nil {
		err = failed
	}
	return max(n, 0), err
}
