package outside

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"strconv"
	"strings"
	"time"

	"howdah/internal/fault"
)

// Key is the key of a webhook's secret: after "whsec_" it is in base64, otherwise the text itself.
func Key(secret string) ([]byte, error) {
	if text, ok := strings.CutPrefix(secret, "whsec_"); ok {
		key, err := base64.StdEncoding.DecodeString(text)
		if err != nil || len(key) == 0 {
			return nil, fault.New(fault.Invalid, "alert.secret")
		}
		return key, nil
	}
	return []byte(secret), nil
}

// Sign writes the headers by which a receiver knows who sent a body, when, and whether it has come before, as https://www.standardwebhooks.com says: webhook-id,
// webhook-timestamp and, with a key, webhook-signature. The same id is the same message, sent again.
func Sign(h http.Header, key []byte, id string, at time.Time, body []byte) {
	now := strconv.FormatInt(at.Unix(), 10)
	h.Set("Webhook-Id", id)
	h.Set("Webhook-Timestamp", now)
	if len(key) > 0 {
		h.Set("Webhook-Signature", Signature(key, id, now, body))
	}
}

// Signature is the header's value for a body; at is the timestamp's text.
func Signature(key []byte, id, at string, body []byte) string {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(id + "." + at + "."))
	h.Write(body)
	return "v1," + base64.StdEncoding.EncodeToString(h.Sum(nil))
}

// LongestAfter is the longest that a receiver can make us wait.
const LongestAfter = 24 * time.Hour

// RetryAfter reads the header of that name (RFC 9110, section 10.2.3): seconds, or a date; at most a day. 0: it says nothing.
func RetryAfter(text string, now time.Time) time.Duration {
	if text = strings.TrimSpace(text); text == "" {
		return 0
	}
	if n, err := strconv.ParseUint(text, 10, 31); err == nil {
		return min(time.Duration(n)*time.Second, LongestAfter)
	}
	if at, err := http.ParseTime(text); err == nil {
		return max(0, min(at.Sub(now), LongestAfter))
	}
	return 0
}
