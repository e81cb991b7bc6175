// Package push is Web Push as its services take it: messages sealed for one browser (RFC 8291, over RFC 8188), sent by who can show a key (RFC 8292), over HTTP (RFC 8030).
// The address of a push service comes from a browser, which is anybody: it is spoken to by package outside.
package push

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"howdah/internal/fault"
	"howdah/internal/outside"
)

var b64 = base64.RawURLEncoding

// Subscription is where one browser is reached, and what is sealed for it.
type Subscription struct {
	Endpoint string // https URL at its maker's push service
	Key      []byte // public, P-256, uncompressed: 65 bytes
	Auth     []byte // 16 bytes that both sides know
}

// longestEndpoint bounds what is kept of an address.
const longestEndpoint = 2000

// NewSubscription reads what a browser's PushSubscription says of itself (its keys in base64url), or is an Invalid fault.
func NewSubscription(endpoint, key, auth string) (Subscription, error) {
	s := Subscription{Endpoint: endpoint}
	u, err := url.Parse(endpoint)
	if err != nil || u.Scheme != "https" || outside.CheckURL(u) != nil || len(endpoint) > longestEndpoint || strings.ContainsAny(endpoint, " \r\n\x00") {
		return s, fault.New(fault.Invalid, "push.subscription")
	}
	var keyErr, authErr error
	s.Key, keyErr = b64.DecodeString(strings.TrimRight(key, "="))
	s.Auth, authErr = b64.DecodeString(strings.TrimRight(auth, "="))
	if keyErr != nil || authErr != nil || len(s.Auth) != 16 {
		return s, fault.New(fault.Invalid, "push.subscription")
	}
	if _, err := ecdh.P256().NewPublicKey(s.Key); err != nil {
		return s, fault.New(fault.Invalid, "push.subscription")
	}
	return s, nil
}

// Key is who sends: push services take messages for a subscription only from who made it.
type Key struct{ private *ecdsa.PrivateKey }

// NewKey makes one.
func NewKey() (Key, error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	return Key{private}, err
}

// ParseKey reads what Bytes gave.
func ParseKey(raw []byte) (Key, error) {
	private, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), raw)
	return Key{private}, err
}

// Bytes is the private key, 32 bytes.
func (k Key) Bytes() ([]byte, error) { return k.private.Bytes() }

// Public is what a browser wants to know for a subscription: the public key, uncompressed, in base64url.
func (k Key) Public() (string, error) {
	raw, err := k.private.PublicKey.Bytes()
	return b64.EncodeToString(raw), err
}

// authorization is the header with which a push service is asked, for an hour's worth of asking (RFC 8292, section 3).
func (k Key) authorization(endpoint *url.URL, contact string, now time.Time) (string, error) {
	claims, err := json.Marshal(map[string]any{"aud": endpoint.Scheme + "://" + endpoint.Host, "exp": now.Add(time.Hour).Unix(), "sub": contact})
	if err != nil {
		return "", err
	}
	token := b64.EncodeToString([]byte(`{"typ":"JWT","alg":"ES256"}`)) + "." + b64.EncodeToString(claims)
	hash := sha256.Sum256([]byte(token))
	r, s, err := ecdsa.Sign(rand.Reader, k.private, hash[:])
	if err != nil {
		return "", err
	}
	signature := make([]byte, 64)
	r.FillBytes(signature[:32])
	s.FillBytes(signature[32:])
	public, err := k.Public()
	return "vapid t=" + token + "." + b64.EncodeToString(signature) + ", k=" + public, err
}

// A message is one record of aes128gcm, which push services take up to 4096 bytes long.
const (
	mostRecord = 4096
	header     = 16 + 4 + 1 + 65 // salt, size of a record, our key
	MostBody   = 3000            // bytes of a message
	step       = 1024            // its length is told no more exactly than this
)

// seal encrypts a body for a subscription with a key made for this one message (RFC 8291, section 3.4).
func seal(to Subscription, body, salt []byte, ours *ecdh.PrivateKey) ([]byte, error) {
	theirs, err := ecdh.P256().NewPublicKey(to.Key)
	if err != nil {
		return nil, err
	}
	shared, err := ours.ECDH(theirs)
	if err != nil {
		return nil, err
	}
	public := ours.PublicKey().Bytes()
	input, err := hkdf.Key(sha256.New, shared, to.Auth, "WebPush: info\x00"+string(to.Key)+string(public), 32)
	if err != nil {
		return nil, err
	}
	key, err := hkdf.Key(sha256.New, input, salt, "Content-Encoding: aes128gcm\x00", 16)
	if err != nil {
		return nil, err
	}
	nonce, err := hkdf.Key(sha256.New, input, salt, "Content-Encoding: nonce\x00", 12)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		return nil, err
	}
	out := append(make([]byte, 0, header+len(body)+gcm.Overhead()), salt...)
	out = binary.BigEndian.AppendUint32(out, mostRecord)
	out = append(append(out, byte(len(public))), public...)
	return gcm.Seal(out, nonce, body, nil), nil
}

// padded ends a record (RFC 8188, section 2): a delimiter, then nothing up to the next step.
func padded(body []byte) []byte {
	out := append(make([]byte, 0, len(body)+step), body...)
	out = append(out, 2)
	for len(out)%step != 0 {
		out = append(out, 0)
	}
	return out
}

// Message is what one browser is told.
type Message struct {
	Body   []byte        // at most MostBody bytes
	Keep   time.Duration // how long the service keeps it for a browser that is off
	Topic  string        // a later one of the same topic takes the place of one that still waits there; at most 32 characters of base64url
	Urgent bool          // worth waking a phone
}

// Asker makes requests to addresses that others have named: an *outside.Client.
type Asker interface {
	Do(r *http.Request) (outside.Answer, error)
}

// Sender sends messages. It is safe for concurrent use.
type Sender struct {
	client  Asker
	key     Key
	contact string
}

// NewSender makes one. contact is whom a push service can write to: a mailto: or https: URL.
func NewSender(client Asker, key Key, contact string) *Sender {
	return &Sender{client, key, contact}
}

// Send delivers a message to a push service. Its error is a fault: NotFound (push.gone) for a subscription that is no more, Unavailable (push.later) for one to be tried again, after the
// seconds in its Args where the service says so, else a refusal for good.
func (s *Sender) Send(ctx context.Context, to Subscription, m Message) error {
	if len(m.Body) > MostBody {
		return fault.New(fault.TooLarge, "push.refused", fault.Args{"where": "-", "status": http.StatusRequestEntityTooLarge})
	}
	u, err := url.Parse(to.Endpoint)
	if err != nil {
		return fault.New(fault.Invalid, "push.subscription")
	}
	ours, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		return err
	}
	salt := make([]byte, 16)
	if _, err := rand.Read(salt); err != nil {
		return err
	}
	sealed, err := seal(to, padded(m.Body), salt, ours)
	if err != nil {
		return err
	}
	authorization, err := s.key.authorization(u, s.contact, time.Now())
	if err != nil {
		return err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, to.Endpoint, bytes.NewReader(sealed))
	if err != nil {
		return fault.New(fault.Invalid, "push.subscription")
	}
	r.Header.Set("Authorization", authorization)
	r.Header.Set("Content-Encoding", "aes128gcm")
	r.Header.Set("Content-Type", "application/octet-stream")
	r.Header.Set("TTL", strconv.Itoa(int(m.Keep.Seconds())))
	r.Header.Set("Urgency", map[bool]string{true: "high", false: "normal"}[m.Urgent])
	if m.Topic != "" {
		r.Header.Set("Topic", m.Topic)
	}
	answer, err := s.client.Do(r)
	if err != nil {
		return err
	}
	args := fault.Args{"where": u.Host, "status": answer.Status}
	switch code := answer.Status; {
	case code >= 200 && code < 300:
		return nil
	case code == http.StatusNotFound || code == http.StatusGone:
		return fault.New(fault.NotFound, "push.gone", args)
	case code == http.StatusTooManyRequests || code == http.StatusRequestTimeout || code >= 500:
		if seconds, err := strconv.Atoi(answer.Header.Get("Retry-After")); err == nil && seconds > 0 {
			args["seconds"] = min(seconds, 24*60*60)
		}
		return fault.New(fault.Unavailable, "push.later", args)
	}
	return fault.New(fault.Forbidden, "push.refused", args)
}
