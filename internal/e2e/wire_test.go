package e2e

import (
	"net"
	"strings"
	"sync"
	"testing"
)

// A wire is a connection between a browser and a house that can be cut, or muted in one direction: then what the
// browser says still arrives, and it hears no answer.
type wire struct {
	url string

	mu       sync.Mutex
	target   string
	listener net.Listener
	conns    map[net.Conn]struct{}
	cut      bool
	muted    bool
	done     sync.WaitGroup
}

// wire lays a wire to the house.
func (h *house) wire(t *testing.T) *wire {
	t.Helper()
	listener, err := net.Listen("tcp", "localhost:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, err := net.SplitHostPort(listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	l := &wire{url: "http://localhost:" + port, listener: listener, conns: map[net.Conn]struct{}{}}
	l.to(h)
	l.done.Go(l.serve)
	t.Cleanup(func() {
		listener.Close()
		l.hangUp()
		l.done.Wait()
	})
	return l
}

// to leads the wire to a house, which may have come back at another address.
func (l *wire) to(h *house) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.target = strings.TrimPrefix(h.url, "http://")
}

func (l *wire) serve() {
	for {
		near, err := l.listener.Accept()
		if err != nil {
			return
		}
		l.mu.Lock()
		target, cut := l.target, l.cut
		l.mu.Unlock()
		if cut {
			near.Close()
			continue
		}
		far, err := net.Dial("tcp", target)
		if err != nil {
			near.Close()
			continue
		}
		l.mu.Lock()
		l.conns[near], l.conns[far] = struct{}{}, struct{}{}
		l.mu.Unlock()
		l.done.Go(func() { l.carry(far, near, false) })
		l.done.Go(func() { l.carry(near, far, true) })
	}
}

func (l *wire) carry(to, from net.Conn, back bool) {
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		l.mu.Lock()
		silent := back && l.muted
		l.mu.Unlock()
		if err == nil && !silent {
			_, err = to.Write(buffer[:n])
		}
		if err != nil {
			break
		}
	}
	to.Close()
	from.Close()
	l.mu.Lock()
	delete(l.conns, to)
	delete(l.conns, from)
	l.mu.Unlock()
}

func (l *wire) hangUp() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for c := range l.conns {
		_ = c.Close()
	}
}

// cutOff ends every connection and lets none through.
func (l *wire) cutOff() {
	l.mu.Lock()
	l.cut = true
	l.mu.Unlock()
	l.hangUp()
}

// mute swallows what the house says from now on.
func (l *wire) mute() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.muted = true
}

// mend lets everything through again; connections that were muted have lost words, and are ended.
func (l *wire) mend() {
	l.hangUp()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cut, l.muted = false, false
}
