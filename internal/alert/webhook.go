package alert

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"howdah/internal/fault"
	"howdah/internal/outside"
)

// webhook posts JSON. It is signed as https://www.standardwebhooks.com says: webhook-id, webhook-timestamp, webhook-signature.
type webhook struct {
	*Receiver
	client *http.Client
}

const (
	mostRedirects = 3
	mostAnswer    = 4 << 10 // bytes of an answer that are read
)

func newWebhook(r *Receiver) *webhook {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConns, transport.IdleConnTimeout = 1, 10*time.Second
	return &webhook{r, &http.Client{Transport: transport, CheckRedirect: func(next *http.Request, via []*http.Request) error {
		// What is told is for the address that a person has configured. An answer that sends us elsewhere could make us speak to whatever we reach, and others do not.
		if first := via[0].URL; next.URL.Host != first.Host || next.URL.Scheme != first.Scheme || next.Method != http.MethodPost || len(via) > mostRedirects {
			return http.ErrUseLastResponse
		}
		return nil
	}}}
}

func (w *webhook) send(ctx context.Context, m *outgoing) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, w.Timeout)
	defer cancel()
	body := m.json(w.Language)
	if w.Kind == Slack {
		body = m.slack(w.Language)
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, w.URL, bytes.NewReader(body))
	if err != nil {
		return "", fault.New(fault.Invalid, "alert.receiver_value", fault.Args{"name": w.Name, "key": "url"}) // its cause holds the address
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("User-Agent", "howdah")
	request.Header.Set("Idempotency-Key", strconv.Quote(m.Key)) // a structured field: draft-ietf-httpapi-idempotency-key-header
	key, err := outside.Key(w.Secret)
	if err != nil {
		return "", err
	}
	outside.Sign(request.Header, key, m.Key, time.Now(), body)
	response, err := w.client.Do(request)
	if err != nil {
		return "", unreachable(err, w.Where(), w.Timeout)
	}
	defer response.Body.Close()
	raw, _ := io.ReadAll(io.LimitReader(response.Body, mostAnswer)) // the status is the answer
	said := clip(strings.TrimSpace(string(raw)))
	if len(said) > 200 {
		said = strings.ToValidUTF8(said[:200], "") + "…"
	}
	answer := strings.TrimSpace(response.Status + " " + said)
	switch code := response.StatusCode; {
	case code >= 200 && code < 300:
		return answer, nil
	case code >= 300 && code < 400:
		to := "?"
		if u, err := response.Location(); err == nil {
			to = clip(u.Scheme + "://" + u.Host)
		}
		return answer, &refusal{error: fault.New(fault.Unavailable, "alert.redirect", fault.Args{"where": w.Where(), "to": to, "status": response.Status})}
	default:
		err := fault.New(fault.Unavailable, "alert.status", fault.Args{"where": w.Where(), "status": clip(response.Status), "said": said})
		// What is wrong with this very message is no reason to let others wait.
		own := code == http.StatusBadRequest || code == http.StatusRequestEntityTooLarge || code == http.StatusUnprocessableEntity
		return answer, &refusal{error: err, own: own, after: outside.RetryAfter(response.Header.Get("Retry-After"), time.Now())}
	}
}

// unreachable says why nobody answered; without the address, which is a secret.
func unreachable(err error, where string, after time.Duration) error {
	var withURL *url.Error
	if errors.As(err, &withURL) {
		err = withURL.Err
	}
	var slow net.Error
	if errors.Is(err, context.DeadlineExceeded) || errors.As(err, &slow) && slow.Timeout() {
		return fault.New(fault.Unavailable, "alert.silent", fault.Args{"where": where, "seconds": int(after.Seconds())})
	}
	return fault.New(fault.Unavailable, "alert.unreachable", fault.Args{"where": where, "why": clip(err.Error())})
}
