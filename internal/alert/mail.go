package alert

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"os"
	"strconv"

	gomail "github.com/wneessen/go-mail"

	"howdah/internal/fault"
)

// mailer sends mail over SMTP.
type mailer struct{ *Receiver }

// mailServer takes the address apart; the port follows from the way of encryption where there is none.
func (r *Receiver) mailServer() (host string, port int, err error) {
	if h, p, splitErr := net.SplitHostPort(r.Server); splitErr == nil {
		port, err = strconv.Atoi(p)
		host = h
	} else {
		host, port = r.Server, map[string]int{"tls": 465, "starttls": 587, "none": 25}[r.TLS]
	}
	if err != nil || host == "" || port < 1 || port > 65535 {
		return "", 0, fault.New(fault.Invalid, "alert.receiver_value", fault.Args{"name": r.Name, "key": "server"})
	}
	return host, port, nil
}

func (s *mailer) send(ctx context.Context, m *outgoing) (string, error) {
	message := gomail.NewMsg()
	err := errors.Join(message.From(s.From), message.To(s.To...))
	host, port, serverErr := s.mailServer()
	if err = errors.Join(err, serverErr); err != nil {
		return "", err
	}
	text := m.text(s.Language)
	message.Subject("[Howdah] " + text.Title)
	message.SetMessageIDWithValue(m.Key + "@howdah") // the same whenever it is sent again: mailboxes show it once
	if m.N > 1 {
		message.SetGenHeader(gomail.HeaderReferences, "<"+s.Name+"."+m.Incident+".1@howdah>")
	}
	message.SetDateWithValue(m.Last)
	message.SetGenHeader("Auto-Submitted", "auto-generated") // RFC 3834: nobody's holiday notice answers it
	message.SetBodyString(gomail.TypeTextPlain, m.plain(s.Language))

	ctx, cancel := context.WithTimeout(ctx, s.Timeout)
	defer cancel()
	conf := &tls.Config{ServerName: host, MinVersion: tls.VersionTLS12}
	policy := gomail.TLSMandatory
	if s.TLS != "starttls" {
		policy = gomail.NoTLS
	}
	options := []gomail.Option{gomail.WithPort(port), gomail.WithTimeout(s.Timeout), gomail.WithTLSPolicy(policy), gomail.WithTLSConfig(conf), gomail.WithoutNoop(),
		gomail.WithDialContextFunc(func(ctx2 context.Context, network, address string) (net.Conn, error) {
			conn, err := (&net.Dialer{}).DialContext(ctx2, network, address)
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
	client, err := gomail.NewClient(host, options...)
	if err == nil {
		err = client.DialAndSendWithContext(ctx, message)
	}
	switch {
	case message.IsDelivered(): // what went wrong after that is no reason to send it again
		return clip("250 " + message.ServerResponse()), nil
	case ctx.Err() != nil:
		return "", unreachable(ctx.Err(), host, s.Timeout)
	case err == nil:
		return "250", nil
	}
	var refused *gomail.SendError
	if errors.As(err, &refused) {
		return "", &refusal{error: fault.New(fault.Unavailable, "alert.mail", fault.Args{"where": host, "said": clip(err.Error())}), own: !refused.IsTemp()}
	}
	return "", fault.New(fault.Unavailable, "alert.mail", fault.Args{"where": host, "said": clip(err.Error())})
}
