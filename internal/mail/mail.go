// Package mail sends letters over SMTP. Whom they are for, and what becomes of one that is refused, is the caller's to know.
package mail

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/mail"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	gomail "github.com/wneessen/go-mail"

	"howdah/internal/fault"
)

// Server is one that takes letters from us.
type Server struct {
	Address        string // host, or host:port
	TLS            string // starttls, tls or none; "" is starttls
	User, Password string
	From           string        // the sender of what we send
	Timeout        time.Duration // of one letter; 0 is DefaultTimeout
}

// DefaultTimeout is how long one letter may take.
const DefaultTimeout = 30 * time.Second

// Check makes a server complete; otherwise it names the value that is missing or cannot be used: server, tls, from, password or timeout.
func (s *Server) Check() (wrong string) {
	if s.TLS == "" {
		s.TLS = "starttls"
	}
	if s.Timeout == 0 {
		s.Timeout = DefaultTimeout
	}
	_, _, err := s.Place()
	switch {
	case err != nil:
		return "server"
	case !slices.Contains([]string{"starttls", "tls", "none"}, s.TLS):
		return "tls"
	case (s.User == "") != (s.Password == ""):
		return "password"
	case s.User != "" && s.TLS == "none":
		return "tls" // a password that anybody on the way can read
	case s.Timeout < time.Second || s.Timeout > 10*time.Minute:
		return "timeout"
	}
	if _, err := mail.ParseAddress(s.From); err != nil {
		return "from"
	}
	return ""
}

// Place takes the address apart; the port follows from the way of encryption where there is none.
func (s *Server) Place() (host string, port int, err error) {
	if h, p, splitErr := net.SplitHostPort(s.Address); splitErr == nil {
		port, err = strconv.Atoi(p)
		host = h
	} else {
		host, port = s.Address, map[string]int{"tls": 465, "starttls": 587, "none": 25}[s.TLS]
	}
	if err != nil || host == "" || port < 1 || port > 65535 {
		return "", 0, errors.New("no address of a mail server")
	}
	return host, port, nil
}

// Letter is what is sent.
type Letter struct {
	To         []string
	Subject    string
	Text       string // plain
	HTML       string // the same for those who show it; "": there is none
	ID         string // before the @ of the Message-ID: the same whenever the letter is sent again, so that mailboxes show it once
	References string // the same of a letter that this one belongs to; ""
	Date       time.Time
	Stop       string // an https or http address that ends such letters by a POST (RFC 8058); ""
}

// Refusal is why a letter was not taken.
type Refusal struct {
	Where  string // the host
	Said   string // what it answered; "": nothing in time
	Code   int    // of the answer, which says that nothing was taken; 0: there was none
	Over   bool   // for good: trying again is of no use
	Theirs bool   // for good, and because of the address that it goes to; otherwise the house's own mail may be wrong
	Err    error
}

func (r *Refusal) Error() string { return r.Where + ": " + r.Said + ": " + r.Err.Error() }

// Unwrap gives the cause.
func (r *Refusal) Unwrap() error { return r.Err }

// Fault is the refusal for people.
func (r *Refusal) Fault() *fault.Fault {
	return fault.Wrap(r.Err, fault.Unavailable, "mail.refused", fault.Args{"where": r.Where, "said": r.Said})
}

// never are reasons of our side that stay.
var never = []gomail.SendErrReason{gomail.ErrGetSender, gomail.ErrGetRcpts, gomail.ErrNoUnencoded}

// host names the sender in Message-IDs.
const host = "howdah"

// Send sends a letter and gives what the server answered. An error is a *Refusal, or says that the letter is none.
func (s *Server) Send(ctx context.Context, l Letter) (said string, err error) {
	message := gomail.NewMsg()
	err = errors.Join(message.From(s.From), message.To(l.To...))
	where, port, placeErr := s.Place()
	if err = errors.Join(err, placeErr); err != nil {
		return "", err
	}
	message.Subject(l.Subject)
	message.SetMessageIDWithValue(l.ID + "@" + host)
	if l.References != "" {
		message.SetGenHeader(gomail.HeaderReferences, "<"+l.References+"@"+host+">")
	}
	message.SetDateWithValue(l.Date)
	message.SetGenHeader("Auto-Submitted", "auto-generated") // RFC 3834: nobody's holiday notice answers it
	if l.Stop != "" {
		message.SetGenHeader(gomail.HeaderListUnsubscribe, "<"+l.Stop+">")
		message.SetGenHeader(gomail.HeaderListUnsubscribePost, "List-Unsubscribe=One-Click")
	}
	message.SetBodyString(gomail.TypeTextPlain, l.Text)
	if l.HTML != "" {
		message.AddAlternativeString(gomail.TypeTextHTML, l.HTML)
	}

	ctx, cancel := context.WithTimeout(ctx, s.Timeout)
	defer cancel()
	client, err := s.client(ctx, where, port)
	if err == nil {
		err = client.DialAndSendWithContext(ctx, message)
	}
	switch {
	case message.IsDelivered(): // what went wrong after that is no reason to send it again
		return "250 " + message.ServerResponse(), nil
	case ctx.Err() != nil:
		return "", &Refusal{Where: where, Err: ctx.Err()}
	case err == nil:
		return "250", nil
	}
	no := &Refusal{Where: where, Said: oneLine(err.Error()), Err: err}
	var refused *gomail.SendError
	if errors.As(err, &refused) {
		no.Code = refused.ErrorCode()
		no.Over = no.Code >= 500 || slices.Contains(never, refused.Reason) // a connection that broke has no code
		no.Theirs = no.Code >= 500 && refused.Reason == gomail.ErrSMTPRcptTo
	}
	return "", no
}

// Reach signs in at the server, and sends nothing.
func (s *Server) Reach(ctx context.Context) error {
	where, port, err := s.Place()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, s.Timeout)
	defer cancel()
	client, err := s.client(ctx, where, port)
	if err == nil {
		if err = client.DialWithContext(ctx); err == nil {
			_ = client.Close()
		}
	}
	if err != nil {
		return &Refusal{Where: where, Said: oneLine(err.Error()), Err: err}
	}
	return nil
}

func (s *Server) client(ctx context.Context, where string, port int) (*gomail.Client, error) {
	conf := &tls.Config{ServerName: where, MinVersion: tls.VersionTLS12}
	policy := gomail.TLSMandatory
	if s.TLS != "starttls" {
		policy = gomail.NoTLS
	}
	options := []gomail.Option{gomail.WithPort(port), gomail.WithTimeout(s.Timeout), gomail.WithTLSPolicy(policy), gomail.WithTLSConfig(conf), gomail.WithoutNoop(),
		gomail.WithDialContextFunc(func(dialing context.Context, network, address string) (net.Conn, error) {
			conn, err := (&net.Dialer{}).DialContext(dialing, network, address)
			if err != nil {
				return nil, err
			}
			context.AfterFunc(ctx, func() { _ = conn.Close() }) // whoever answers a byte now and then is given up as well
			if s.TLS == "tls" {
				return tls.Client(conn, conf), nil
			}
			return conn, nil
		})}
	if name, err := os.Hostname(); err == nil {
		options = append(options, gomail.WithHELO(name))
	}
	if s.User != "" {
		options = append(options, gomail.WithSMTPAuth(gomail.SMTPAuthPlain), gomail.WithUsername(s.User), gomail.WithPassword(s.Password))
	}
	return gomail.NewClient(where, options...)
}

// oneLine is what a server said, as it can be shown.
func oneLine(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "\ufffd"))
	if len(s) > 400 {
		s = strings.ToValidUTF8(s[:400], "") + "…"
	}
	return s
}
