package doctor

import (
	"crypto/tls"
	"net/http"
	"net/http/httptest"
	"testing"
)

// A name that a certificate is got for has none at first, and whoever comes by it is refused.
func TestTheOwnDoorIsEnteredByNoNameOfAHouse(t *testing.T) {
	t.Parallel()
	asked := make(chan string, 1)
	s := httptest.NewUnstartedServer(http.NotFoundHandler())
	s.TLS = &tls.Config{MinVersion: tls.VersionTLS12, GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		asked <- hello.ServerName
		return nil, nil
	}}
	s.StartTLS()
	defer s.Close()
	own := OwnDoor()
	defer own.CloseIdleConnections()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := own.RoundTrip(request)
	if err != nil {
		t.Fatal(err)
	}
	answer.Body.Close()
	if name := <-asked; name != "localhost" {
		t.Error(name)
	}
}
