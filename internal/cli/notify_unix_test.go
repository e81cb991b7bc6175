//go:build unix

package cli

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"testing"
	"time"
)

// What systemd is told: its socket is a real one.
func TestTheWatchdogIsFedAsLongAsThePageAnswers(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "notify")
	heard, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer heard.Close()
	t.Setenv("NOTIFY_SOCKET", socket)
	t.Setenv("WATCHDOG_USEC", "3000000")
	page := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) }))
	defer page.Close()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		watchdog(ctx, page.URL)
	}()
	_ = heard.SetReadDeadline(time.Now().Add(5 * time.Minute))
	for range 2 { // a page that says that the database is away answers
		said := make([]byte, 100)
		n, err := heard.Read(said)
		if err != nil || string(said[:n]) != "WATCHDOG=1" {
			t.Fatalf("%q, %v", said[:n], err)
		}
	}
	cancel()
	<-done
}
