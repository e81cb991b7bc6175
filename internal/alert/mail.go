package alert

import (
	"context"
	"errors"

	"howdah/internal/fault"
	"howdah/internal/mail"
)

// mailer sends mail over SMTP.
type mailer struct{ *Receiver }

func (r *Receiver) mailServer() mail.Server {
	return mail.Server{Address: r.Server, TLS: r.TLS, User: r.User, Password: r.Password, From: r.From, Timeout: r.Timeout}
}

func (s *mailer) send(ctx context.Context, m *outgoing) (string, error) {
	text := m.text(s.Language)
	l := mail.Letter{To: s.To, Subject: "[Howdah] " + text.Title, Text: m.plain(s.Language), ID: m.Key, Date: m.Last}
	if m.N > 1 {
		l.References = s.Name + "." + m.Incident + ".1"
	}
	server := s.mailServer()
	said, err := server.Send(ctx, l)
	var no *mail.Refusal
	if !errors.As(err, &no) {
		return clip(said), err
	}
	if no.Said == "" {
		return "", unreachable(no.Err, no.Where, s.Timeout)
	}
	f := fault.New(fault.Unavailable, "alert.mail", fault.Args{"where": no.Where, "said": clip(no.Said)})
	var answered interface{ IsTemp() bool }
	if errors.As(no.Err, &answered) {
		return "", &refusal{error: f, own: no.Over}
	}
	return "", f
}
