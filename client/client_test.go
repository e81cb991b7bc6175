package client

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestARoomIsMeantByItsOwnName(t *testing.T) {
	t.Parallel()
	lobby, direct := Room{ID: 1, Name: "Lobby"}, Room{ID: 2, Other: &Person{Handle: "wei"}}
	for name, want := range map[string][2]bool{"Lobby": {true, false}, "lobby": {true, false}, "@wei": {false, true}, "wei": {}, "": {}, "@": {}} {
		if have := [2]bool{lobby.Is(name), direct.Is(name)}; have != want {
			t.Errorf("%q: %v, want %v", name, have, want)
		}
	}
}

// TestWhatFailsForAMomentIsTriedAgain, under the same id; what is refused is not.
func TestWhatFailsForAMomentIsTriedAgain(t *testing.T) {
	t.Parallel()
	var bodies []string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		raw := make([]byte, 1000)
		n, _ := r.Body.Read(raw)
		bodies = append(bodies, string(raw[:n]))
		switch len(bodies) {
		case 1:
			w.WriteHeader(http.StatusBadGateway) // a proxy, which has its own words
		case 2:
			w.WriteHeader(http.StatusServiceUnavailable)
			_, _ = w.Write([]byte(`{"error":{"code":"unavailable","key":"pg.away","message":"away"}}`))
		case 3:
			_, _ = w.Write([]byte(`{"seq":7}`))
		case 4:
			w.WriteHeader(http.StatusForbidden)
			_, _ = w.Write([]byte(`{"error":{"code":"forbidden","key":"chat.not_member","message":"no","hint":"join"}}`))
		default:
			_, _ = w.Write([]byte(`<html>`))
		}
	}))
	t.Cleanup(server.Close)
	c := New(server.URL+"/", "hwd_x")
	if r, err := c.Post(t.Context(), Draft{Room: 1, Body: "x"}); err != nil || r.Seq != 7 || len(bodies) != 3 || bodies[0] != bodies[2] || !strings.Contains(bodies[0], "client_id") {
		t.Error(r, err, bodies)
	}
	var refused *Error
	if _, err := c.Post(t.Context(), Draft{Room: 1, Body: "x"}); !errors.As(err, &refused) || refused.Key != "chat.not_member" || refused.Status != 403 || refused.Hint != "join" || !IsCode(err, "forbidden") {
		t.Error(err)
	}
	if _, err := c.Me(t.Context()); !errors.Is(err, ErrNotHowdah) || len(bodies) != 5 {
		t.Error(err, len(bodies))
	}
	if _, err := New("no address\x7f", "").Me(t.Context()); !errors.Is(err, ErrAddress) {
		t.Error(err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := New("http://127.0.0.1:1", "").Me(ended); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}
