package server

import (
	"io"
	"log/slog"
	"net"
	"time"

	"howdah/internal/fault"
)

// A doorkeeper takes connections as long as the process may open files, and keeps some back: for PostgreSQL, the log, and
// what a request opens. So a crowd at the door, or a program that never hangs up, does not harm those who are in.
type doorkeeper struct {
	net.Listener
	most int // file descriptors; see descriptor
	log  *slog.Logger
	told time.Time
}

// keptBack is how many descriptors stay free: the pools have 20, starting PostgreSQL takes a dozen.
const keptBack = 64

func newDoorkeeper(l net.Listener, log *slog.Logger) *doorkeeper {
	most := mostDescriptors()
	return &doorkeeper{Listener: l, most: most - min(keptBack, most/4), log: log}
}

// turnedAway is written to a connection that is one too many. Its reader may lose it to the reset that follows.
const turnedAway = "HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain; charset=utf-8\r\nRetry-After: 5\r\nConnection: close\r\n\r\n" +
	"Too many connections are open. / 連線數過多。\n"

// Accept is net.Listener's. Only net/http calls it, from one goroutine.
func (d *doorkeeper) Accept() (net.Conn, error) {
	for {
		conn, err := d.Listener.Accept()
		if err != nil {
			if tooManyFiles(err) {
				d.tell(err)
			}
			return nil, err // net/http waits a moment and tries again
		}
		// The kernel gives the lowest number that is free: one as high as that means that all below are in use.
		if n, ok := descriptor(conn); !ok || n < d.most {
			return conn, nil
		}
		d.tell(nil)
		_ = conn.SetWriteDeadline(time.Now().Add(time.Second))
		_, _ = io.WriteString(conn, turnedAway)
		conn.Close()
	}
}

// tell logs it when it begins; a minute without is the end of it.
func (d *doorkeeper) tell(err error) {
	now := time.Now()
	if now.Sub(d.told) > time.Minute {
		d.log.Error("people are turned away", "error", fault.Wrap(err, fault.Unavailable, "server.too_many_files", fault.Args{"limit": d.most}))
	}
	d.told = now
}
