package mail_test

import (
	"errors"
	"testing"
	"time"

	"howdah/internal/mail"
	"howdah/internal/mail/mailtest"
)

func TestOnlyAnAnswerIsForGood(t *testing.T) {
	t.Parallel()
	p := mailtest.New(t)
	for name, c := range map[string]struct {
		from, to     int
		code         int
		over, theirs bool
	}{
		"no time":               {0, 451, 451, false, false},
		"nobody there":          {0, 550, 550, true, true},
		"a broken connection":   {0, mailtest.Broken, 0, false, false},
		"broken earlier":        {mailtest.Broken, 0, 0, false, false},
		"not from us":           {550, 0, 550, true, false},
		"not from us, just now": {451, 0, 451, false, false},
	} {
		p.AnswerSender(c.from)
		p.Answer(c.to)
		_, err := p.Server().Send(t.Context(), mail.Letter{To: []string{"ada@example.org"}, Subject: "s", Text: "t", ID: "1", Date: time.Now()})
		var no *mail.Refusal
		if !errors.As(err, &no) || no.Code != c.code || no.Over != c.over || no.Theirs != c.theirs {
			t.Errorf("%s: %+v", name, no)
		}
	}
}
