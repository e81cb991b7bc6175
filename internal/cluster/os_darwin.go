package cluster

import (
	"bytes"
	"time"

	"golang.org/x/sys/unix"
)

func processInfo(pid int) (began time.Time, name string, ok bool) {
	kp, err := unix.SysctlKinfoProc("kern.proc.pid", pid)
	if err != nil {
		return time.Time{}, "", false
	}
	comm := kp.Proc.P_comm[:]
	if end := bytes.IndexByte(comm, 0); end >= 0 {
		comm = comm[:end]
	}
	return time.Unix(kp.Proc.P_starttime.Unix()), string(comm), true
}
