// Package pushtest is a push service and its browsers, for tests.
package pushtest

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"howdah/internal/outside"
)

var b64 = base64.RawURLEncoding

// Service takes messages for the browsers that it knows, and opens each with the browser's own keys.
type Service struct {
	*httptest.Server
	t testing.TB

	mu       sync.Mutex
	browsers map[string]*Browser
}

// Browser is a subscription.
type Browser struct {
	Endpoint, Key, Auth string // as a browser's page would say them

	service *Service
	private *ecdh.PrivateKey
	auth    []byte
	got     []Got
	answers []int // to the next messages, instead of 201
}

// Got is a message that has arrived.
type Got struct {
	Body   string
	Header http.Header
	Claims map[string]any // of who sent it
}

// New starts a service over TLS; its certificate is that of net/http/httptest.
func New(t testing.TB) *Service {
	s := &Service{t: t, browsers: map[string]*Browser{}}
	s.Server = httptest.NewTLSServer(http.HandlerFunc(s.take))
	t.Cleanup(s.Close)
	return s
}

// Browser subscribes a new one.
func (s *Service) Browser() *Browser {
	s.t.Helper()
	private, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		s.t.Fatal(err)
	}
	b := &Browser{service: s, private: private, auth: make([]byte, 16)}
	_, _ = rand.Read(b.auth)
	path := "/send/" + rand.Text()
	b.Endpoint, b.Key, b.Auth = s.URL+path, b64.EncodeToString(private.PublicKey().Bytes()), b64.EncodeToString(b.auth)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.browsers[path] = b
	return b
}

// Answer has the next messages answered so.
func (b *Browser) Answer(codes ...int) {
	b.service.mu.Lock()
	defer b.service.mu.Unlock()
	b.answers = append(b.answers, codes...)
}

// Got are the messages that were taken so far.
func (b *Browser) Got() []Got {
	b.service.mu.Lock()
	defer b.service.mu.Unlock()
	return append([]Got(nil), b.got...)
}

// Do asks the service as an outside.Client would, but that it may be on this machine.
func (s *Service) Do(r *http.Request) (outside.Answer, error) {
	response, err := s.Client().Do(r)
	if err != nil {
		return outside.Answer{}, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	return outside.Answer{Status: response.StatusCode, Header: response.Header, Body: body}, err
}

func (s *Service) take(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b := s.browsers[r.URL.Path]
	if b == nil {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	if len(b.answers) > 0 {
		code := b.answers[0]
		b.answers = b.answers[1:]
		if code >= 300 {
			w.WriteHeader(code)
			return
		}
	}
	sealed, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	claims, err := Verify(r.Header.Get("Authorization"), s.URL)
	if err != nil || r.Method != http.MethodPost || r.Header.Get("TTL") == "" || r.Header.Get("Content-Encoding") != "aes128gcm" {
		s.t.Errorf("a push that no service takes: %v %s %v", err, r.Method, r.Header)
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	body, err := Open(sealed, b.private, b.auth)
	if err != nil {
		s.t.Errorf("a push that its browser cannot open: %v", err)
	}
	b.got = append(b.got, Got{string(body), r.Header, claims})
	w.WriteHeader(http.StatusCreated)
}

const head = 16 + 4 + 1 + 65

// Open reads what Send has sealed, as a browser does.
func Open(sealed []byte, key *ecdh.PrivateKey, auth []byte) ([]byte, error) {
	if len(sealed) < head+17 || len(sealed) > 4096 || sealed[20] != 65 {
		return nil, errors.New("no record of aes128gcm")
	}
	salt, public := sealed[:16], sealed[21:head]
	theirs, err := ecdh.P256().NewPublicKey(public)
	if err != nil {
		return nil, err
	}
	shared, err := key.ECDH(theirs)
	if err != nil {
		return nil, err
	}
	input, err := hkdf.Key(sha256.New, shared, auth, "WebPush: info\x00"+string(key.PublicKey().Bytes())+string(public), 32)
	if err != nil {
		return nil, err
	}
	secret, err := hkdf.Key(sha256.New, input, salt, "Content-Encoding: aes128gcm\x00", 16)
	if err != nil {
		return nil, err
	}
	nonce, err := hkdf.Key(sha256.New, input, salt, "Content-Encoding: nonce\x00", 12)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(secret)
	if err != nil {
		return nil, err
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		return nil, err
	}
	plain, err := gcm.Open(nil, nonce, sealed[head:], nil)
	if err != nil {
		return nil, err
	}
	plain = bytes.TrimRight(plain, "\x00")
	if len(plain) == 0 || plain[len(plain)-1] != 2 {
		return nil, errors.New("no last record")
	}
	return plain[:len(plain)-1], nil
}

// Verify checks an Authorization head as a push service does: that it was made with the key that it names, and for this origin. It gives the claims.
func Verify(authorization, origin string) (map[string]any, error) {
	rest, ok := strings.CutPrefix(authorization, "vapid t=")
	token, key, found := strings.Cut(rest, ", k=")
	parts := strings.Split(token, ".")
	if !ok || !found || len(parts) != 3 {
		return nil, errors.New("no vapid head")
	}
	raw, err := b64.DecodeString(key)
	if err != nil {
		return nil, err
	}
	public, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), raw)
	if err != nil {
		return nil, err
	}
	signature, err := b64.DecodeString(parts[2])
	if err != nil || len(signature) != 64 {
		return nil, errors.New("no signature")
	}
	hash := sha256.Sum256([]byte(parts[0] + "." + parts[1]))
	if !ecdsa.Verify(public, hash[:], new(big.Int).SetBytes(signature[:32]), new(big.Int).SetBytes(signature[32:])) {
		return nil, errors.New("a wrong signature")
	}
	text, err := b64.DecodeString(parts[1])
	if err != nil {
		return nil, err
	}
	var claims map[string]any
	if err := json.Unmarshal(text, &claims); err != nil {
		return nil, err
	}
	if claims["aud"] != origin {
		return nil, errors.New("for another service")
	}
	return claims, nil
}
