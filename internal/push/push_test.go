package push

import (
	"crypto/ecdh"
	"net/http"
	"strings"
	"testing"
	"time"

	"howdah/internal/fault"
	"howdah/internal/outside"
	"howdah/internal/push/pushtest"
)

func decode(t *testing.T, s string) []byte {
	t.Helper()
	raw, err := b64.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// TestSealAsInTheStandard is RFC 8291, section 5 and appendix A.
func TestSealAsInTheStandard(t *testing.T) {
	t.Parallel()
	ours, err := ecdh.P256().NewPrivateKey(decode(t, "yfWPiYE-n46HLnH0KqZOF1fJJU3MYrct3AELtAQ-oRw"))
	if err != nil {
		t.Fatal(err)
	}
	to := Subscription{Key: decode(t, "BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4"), Auth: decode(t, "BTBZMqHH6r4Tts7J_aSIgg")}
	body := append([]byte("When I grow up, I want to be a watermelon"), 2)
	sealed, err := seal(to, body, decode(t, "DGv6ra1nlYgDCS1FRnbzlw"), ours)
	if err != nil {
		t.Fatal(err)
	}
	const want = "DGv6ra1nlYgDCS1FRnbzlwAAEABBBP4z9KsN6nGRTbVYI_c7VJSPQTBtkgcy27mlmlMoZIIgDll6e3vCYLocInmYWAmS6TlzAC8wEqKK6PBru3jl7A_yl95bQpu6cVPTpK4Mqgkf1CXztLVBSt2Ks3oZwbuwXPXLWyouBWLVWGNWQexSgSxsj_Qulcy4a-fN"
	if got := b64.EncodeToString(sealed); got != want {
		t.Errorf("sealed\n%s\nwant\n%s", got, want)
	}
}

func TestMessagesArriveAndServicesAreBelieved(t *testing.T) {
	t.Parallel()
	service := pushtest.New(t)
	key, err := NewKey()
	if err != nil {
		t.Fatal(err)
	}
	raw, err := key.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	if key, err = ParseKey(raw); err != nil {
		t.Fatal(err)
	}
	sender := NewSender(service, key, "mailto:admin@example.org")
	browser := service.Browser()
	to, err := NewSubscription(browser.Endpoint, browser.Key, browser.Auth)
	if err != nil {
		t.Fatal(err)
	}
	for _, body := range []string{"", "short", strings.Repeat("長", MostBody/3)} {
		if err := sender.Send(t.Context(), to, Message{Body: []byte(body), Keep: time.Hour, Topic: "t", Urgent: true}); err != nil {
			t.Fatal(err)
		}
		got := browser.Got()
		if last := got[len(got)-1]; last.Body != body || last.Header.Get("TTL") != "3600" || last.Header.Get("Topic") != "t" || last.Header.Get("Urgency") != "high" || last.Claims["sub"] != "mailto:admin@example.org" {
			t.Errorf("%d bytes arrived as %+v", len(body), last)
		}
	}
	for code, key := range map[int]string{http.StatusGone: "push.gone", http.StatusNotFound: "push.gone", http.StatusTooManyRequests: "push.later", http.StatusBadGateway: "push.later", http.StatusForbidden: "push.refused", http.StatusFound: "push.refused"} {
		browser.Answer(code)
		if err := sender.Send(t.Context(), to, Message{Body: []byte("x")}); !fault.HasKey(err, key) {
			t.Errorf("%d: %v", code, err)
		}
	}
	if err := sender.Send(t.Context(), to, Message{Body: make([]byte, MostBody+1)}); !fault.Is(err, fault.TooLarge) {
		t.Error(err)
	}
	strict := outside.New(outside.Limits{})
	defer strict.Close()
	if err := NewSender(strict, key, "mailto:a@example.org").Send(t.Context(), to, Message{Body: []byte("x")}); !fault.HasKey(err, "outside.private") {
		t.Errorf("this machine was spoken to: %v", err)
	}
}

func FuzzSubscription(f *testing.F) {
	f.Add("https://push.example.org/x", "BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4", "BTBZMqHH6r4Tts7J_aSIgg")
	f.Add("http://push.example.org", "", "=")
	f.Add("https://user@push.example.org/\x00", "BA", "AA==")
	f.Fuzz(func(t *testing.T, endpoint, key, auth string) {
		s, err := NewSubscription(endpoint, key, auth)
		if err != nil {
			if !fault.Is(err, fault.Invalid) {
				t.Fatal(err)
			}
			return
		}
		if !strings.HasPrefix(strings.ToLower(s.Endpoint), "https://") || len(s.Key) != 65 || len(s.Auth) != 16 {
			t.Fatalf("%+v", s)
		}
	})
}
