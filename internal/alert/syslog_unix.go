//go:build unix

package alert

import (
	"context"
	"net"
	"os"
	"time"
)

// systemLog is where the system's own log listens.
func systemLog() string {
	for _, path := range []string{"/dev/log", "/var/run/syslog", "/var/run/log"} {
		if _, err := os.Stat(path); err == nil {
			return path
		}
	}
	return "/dev/log"
}

func (l *logger) send(ctx context.Context, m *outgoing) (string, error) {
	where := l.Where()
	var err error
	for _, network := range []string{"unixgram", "unix"} {
		var conn net.Conn
		if conn, err = (&net.Dialer{Timeout: l.Timeout}).DialContext(ctx, network, where); err != nil {
			continue
		}
		_ = conn.SetWriteDeadline(time.Now().Add(l.Timeout))
		record := l.record(m, time.Now())
		if network == "unix" {
			record = append(record, '\n') // RFC 6587, section 3.4.2: in a stream a line ends it
		}
		_, err = conn.Write(record)
		_ = conn.Close()
		if err == nil {
			return "written to " + where, nil
		}
		break
	}
	return "", unreachable(&net.OpError{Op: "syslog", Net: "unix", Err: err}, where, l.Timeout)
}
