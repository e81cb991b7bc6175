// Package mailtest is an SMTP server for tests, which keeps what it is given.
package mailtest

import (
	"bytes"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"net"
	"net/mail"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	smtp "github.com/emersion/go-smtp"

	ours "howdah/internal/mail"
)

// Letter is one that was taken.
type Letter struct {
	To         string
	Header     mail.Header
	Subject    string
	Text, HTML string
}

var links = regexp.MustCompile(`https?://[^\s<>"]+`)

// Link is the first in the text that holds words.
func (l Letter) Link(t testing.TB, words string) string {
	t.Helper()
	for _, one := range links.FindAllString(l.Text, -1) {
		if strings.Contains(one, words) {
			return one
		}
	}
	t.Fatalf("no link with %q in\n%s", words, l.Text)
	return ""
}

// Post is a server that runs until the test ends.
type Post struct {
	Address string
	t       testing.TB

	mu    sync.Mutex
	got   []Letter
	read  int
	codes []int
	from  []int
	asked int
}

// New starts one.
func New(t testing.TB) *Post {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &Post{Address: listener.Addr().String(), t: t}
	server := smtp.NewServer(smtp.BackendFunc(func(c *smtp.Conn) (smtp.Session, error) { return &session{Post: p, conn: c}, nil }))
	server.Domain = "localhost"
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(func() { _ = server.Close() })
	return p
}

// Server is how the house knows it.
func (p *Post) Server() *ours.Server {
	s := &ours.Server{Address: p.Address, TLS: "none", From: "Howdah <howdah@example.org>"}
	if wrong := s.Check(); wrong != "" {
		p.t.Fatal(wrong)
	}
	return s
}

// Broken is a code that breaks the connection.
const Broken = -1

// Answer refuses the next letters with these codes; 0 takes one.
func (p *Post) Answer(codes ...int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.codes = codes
}

// AnswerSender does so at the name of the sender, before anybody is named that a letter goes to.
func (p *Post) AnswerSender(codes ...int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.from = codes
}

// Asked is how many letters were brought, taken or not.
func (p *Post) Asked() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.asked
}

// New are the letters since the last time that somebody asked.
func (p *Post) New() []Letter {
	p.mu.Lock()
	defer p.mu.Unlock()
	fresh := p.got[p.read:]
	p.read = len(p.got)
	return fresh
}

// Next waits for a letter, and gives it.
func (p *Post) Next(t testing.TB) Letter {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(3 * time.Minute); ; {
		p.mu.Lock()
		if p.read < len(p.got) {
			p.read++
			l := p.got[p.read-1]
			p.mu.Unlock()
			return l
		}
		p.mu.Unlock()
		if time.Now().After(deadline) {
			t.Fatal("no letter came")
		}
		<-tick.C
	}
}

type session struct {
	*Post
	conn *smtp.Conn
	to   string
}

func (s *session) Reset()        {}
func (s *session) Logout() error { return nil }

func (s *session) Mail(string, *smtp.MailOptions) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.answer(&s.from)
}

func (s *session) answer(codes *[]int) error {
	if len(*codes) == 0 {
		return nil
	}
	code := (*codes)[0]
	*codes = (*codes)[1:]
	switch code {
	case 0:
		return nil
	case Broken:
		return s.conn.Conn().Close()
	}
	return &smtp.SMTPError{Code: code, Message: "as the test says"}
}

func (s *session) Rcpt(to string, _ *smtp.RcptOptions) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.to = to
	s.asked++
	return s.answer(&s.codes)
}

func (s *session) Data(r io.Reader) error {
	raw, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	l, err := parse(raw)
	if err != nil {
		return &smtp.SMTPError{Code: 554, Message: err.Error()}
	}
	l.To = s.to
	s.mu.Lock()
	defer s.mu.Unlock()
	s.got = append(s.got, l)
	return nil
}

func parse(raw []byte) (Letter, error) {
	m, err := mail.ReadMessage(bytes.NewReader(raw))
	if err != nil {
		return Letter{}, err
	}
	l := Letter{Header: m.Header}
	if l.Subject, err = new(mime.WordDecoder).DecodeHeader(m.Header.Get("Subject")); err != nil {
		return l, err
	}
	kind, params, err := mime.ParseMediaType(m.Header.Get("Content-Type"))
	if err != nil {
		return l, err
	}
	if kind == "text/plain" {
		text, err := decoded(m.Body, m.Header.Get("Content-Transfer-Encoding"))
		l.Text = text
		return l, err
	}
	if kind != "multipart/alternative" {
		return l, fmt.Errorf("a letter of the kind %q", kind)
	}
	parts := multipart.NewReader(m.Body, params["boundary"])
	for {
		part, err := parts.NextRawPart()
		if err == io.EOF {
			return l, nil
		}
		if err != nil {
			return l, err
		}
		text, err := decoded(part, part.Header.Get("Content-Transfer-Encoding"))
		if err != nil {
			return l, err
		}
		if strings.HasPrefix(part.Header.Get("Content-Type"), "text/html") {
			l.HTML = text
		} else {
			l.Text = text
		}
	}
}

func decoded(r io.Reader, encoding string) (string, error) {
	if strings.EqualFold(encoding, "quoted-printable") {
		r = quotedprintable.NewReader(r)
	}
	raw, err := io.ReadAll(r)
	return strings.ReplaceAll(string(raw), "\r\n", "\n"), err
}
