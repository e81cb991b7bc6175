package tell

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"html/template"
	"strings"
	"time"

	"howdah/internal/account"
	"howdah/internal/fault"
	"howdah/internal/lang"
	"howdah/internal/mail"
	"howdah/internal/pg"
)

// Letters that somebody has asked for, or should know of. What is to be sent stands in the database until a server has taken it; the secret of a link is made when it is sent, and stands
// in no table but as a hash.

// The kinds of letters.
const (
	letterConfirm = "confirm" // is this address yours?
	letterRecover = "recover" // a link for a new password, for whoever it may be
	letterChanged = "changed" // to the address that somebody had before
)

// lives is how long a letter is tried.
var lives = map[string]time.Duration{letterConfirm: 24 * time.Hour, letterRecover: time.Hour, letterChanged: 7 * 24 * time.Hour}

type letter struct {
	Address string  `json:"address,omitempty"` // where it goes
	Who     string  `json:"who,omitempty"`     // whose link: a handle or an address
	From    string  `json:"from,omitempty"`    // the IP address of who asked
	Locale  string  `json:"locale,omitempty"`  // of who asked, for those who have chosen none
	Done    []int64 `json:"done,omitempty"`    // whom a server has taken it for, or will never
}

// Mails tells whether the house can send mail.
func (t *Teller) Mails() bool { return t.options.Mail != nil }

func (t *Teller) queue(ctx context.Context, kind string, person *int64, l letter) error {
	if t.options.Mail == nil {
		return fault.New(fault.Conflict, "tell.no_mail")
	}
	raw, err := json.Marshal(l)
	if err != nil {
		return err
	}
	_, err = t.db.Exec(ctx, `INSERT INTO chat.letter (kind, person_id, data) VALUES ($1, $2, $3)`, kind, person, raw)
	return pg.Fault(err)
}

// AskAddress sends the letter that shows an address to be somebody's.
func (t *Teller) AskAddress(ctx context.Context, person int64, address string, locale lang.Locale) error {
	return t.queue(ctx, letterConfirm, &person, letter{Address: address, Locale: string(locale)})
}

// Forgot sends a link for a new password to whoever has this handle or address, if there is anybody and it was shown to be theirs. from is where it was asked.
func (t *Teller) Forgot(ctx context.Context, who, from string, locale lang.Locale) error {
	return t.queue(ctx, letterRecover, nil, letter{Who: who, From: from, Locale: string(locale)})
}

// AddressChanged tells the address that somebody had before that it is not theirs any more.
func (t *Teller) AddressChanged(ctx context.Context, person int64, before string, locale lang.Locale) error {
	return t.queue(ctx, letterChanged, &person, letter{Address: before, Locale: string(locale)})
}

// runMail sends letters and digests until ctx ends.
func (t *Teller) runMail(ctx context.Context) {
	ticker := time.NewTicker(t.options.Look)
	defer ticker.Stop()
	before := ""
	for {
		err := error(nil)
		for more := true; more && err == nil && ctx.Err() == nil; {
			if more, err = t.letters(ctx); !more && err == nil { // somebody waits for those
				more, err = t.digests(ctx)
			}
		}
		now := ""
		if err != nil {
			now = fault.Of(err).Key
		}
		if now != before && ctx.Err() == nil && !(fault.Is(err, fault.Unavailable) && !fault.HasKey(err, "mail.refused")) { // the database being away is told by who watches it
			t.options.Trouble(err)
		}
		before = now
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// mailLease is how long whoever has claimed a letter has it to themselves: a server may take its time with each.
func (t *Teller) mailLease() time.Duration {
	return time.Minute + (mostAtOnce+1)*t.options.Mail.Timeout
}

// mostAtOnce are the letters that one claim makes at most: several people may share an address.
const mostAtOnce = 5

// backoff is how long a letter waits after so many tries.
func (t *Teller) backoff(tries int) time.Duration {
	return min(time.Duration(1<<min(tries, 12))*t.options.Retry, time.Hour)
}

// letters sends one that is due, and tells whether there may be more.
func (t *Teller) letters(ctx context.Context) (more bool, trouble error) {
	type row struct {
		ID     int64
		Kind   string
		Person *int64
		Data   []byte
		Tries  int
		Made   time.Time
	}
	due, err := pg.All[row](ctx, t.db, `
		UPDATE chat.letter SET due_at = now() + $1::interval, tries = tries + 1
		WHERE id IN (SELECT id FROM chat.letter WHERE due_at <= now() ORDER BY due_at LIMIT 1 FOR UPDATE SKIP LOCKED) RETURNING id, kind, person_id, data, tries, made_at`, t.mailLease())
	if err != nil {
		return false, err
	}
	for _, one := range due {
		var l letter
		err := json.Unmarshal(one.Data, &l)
		if err == nil && time.Since(one.Made) < lives[one.Kind] {
			err = t.post(ctx, one.ID, one.Kind, one.Person, l)
		}
		if ctx.Err() != nil {
			return false, nil // when we are back it is due again
		}
		var no *mail.Refusal
		if errors.As(err, &no) && !no.Over {
			trouble = no.Fault()
			if _, err := t.db.Exec(ctx, `UPDATE chat.letter SET due_at = now() + $2::interval WHERE id = $1`, one.ID, t.backoff(one.Tries)); err != nil {
				return false, pg.Fault(err)
			}
			continue
		}
		if err != nil && no == nil {
			return false, err
		}
		if no != nil { // for good: whoever runs the house may know why
			t.options.Trouble(no.Fault())
		}
		if _, err := t.db.Exec(ctx, `DELETE FROM chat.letter WHERE id = $1`, one.ID); err != nil {
			return false, pg.Fault(err)
		}
	}
	return len(due) > 0 && trouble == nil, trouble
}

// post makes a letter and sends it.
func (t *Teller) post(ctx context.Context, id int64, kind string, person *int64, l letter) error {
	if kind == letterRecover {
		all, err := t.options.Accounts.RecoverByMail(ctx, l.Who, id, l.Done)
		if err != nil {
			return err
		}
		var again *mail.Refusal // what one is refused is no answer to the others
		var failed error
		for _, one := range all {
			err := t.write(ctx, one.Person, l, one.Address, fmt.Sprint(kind, ".", id, ".", one.Person.ID), func(locale lang.Locale) note {
				return note{Subject: locale.T("mail.recover.subject"), Words: locale.T("mail.recover.words", fault.Args{"name": one.Person.Name, "handle": one.Person.Handle, "from": l.From}),
					Button: locale.T("mail.recover.button"), Link: "/recover/" + one.Token, After: locale.T("mail.recover.after")}
			})
			if ctx.Err() != nil {
				return ctx.Err()
			}
			var no *mail.Refusal
			refused := errors.As(err, &no)
			if refused && no.Code != 0 { // otherwise it may have arrived
				failed = errors.Join(failed, t.options.Accounts.Unsent(ctx, one.Token))
			}
			switch {
			case err != nil && !refused:
				failed = errors.Join(failed, err)
				continue
			case refused && !no.Over:
				again = no
				continue
			case refused:
				t.options.Trouble(no.Fault())
			}
			l.Done = append(l.Done, one.Person.ID)
			if err := t.done(ctx, id, l); err != nil {
				return err
			}
		}
		if again != nil {
			return again
		}
		return failed
	}
	if person == nil {
		return nil
	}
	who, err := t.options.Accounts.Person(ctx, *person)
	if fault.Is(err, fault.NotFound) || err == nil && who.Disabled {
		return nil
	}
	if err != nil {
		return err
	}
	if kind == letterChanged {
		return t.write(ctx, who, l, l.Address, fmt.Sprint(kind, ".", id), func(locale lang.Locale) note {
			return note{Subject: locale.T("mail.changed.subject"), Words: locale.T("mail.changed.words", fault.Args{"name": who.Name, "handle": who.Handle}), After: locale.T("mail.changed.after")}
		})
	}
	token, err := t.options.Accounts.MailTicket(ctx, who.ID, l.Address)
	if err != nil {
		return err
	}
	return t.write(ctx, who, l, l.Address, fmt.Sprint(kind, ".", id), func(locale lang.Locale) note {
		return note{Subject: locale.T("mail.confirm.subject"), Words: locale.T("mail.confirm.words", fault.Args{"name": who.Name, "handle": who.Handle}),
			Button: locale.T("mail.confirm.button"), Link: "/mail/" + token, After: locale.T("mail.confirm.after")}
	})
}

// done keeps who has been seen to with a letter, for when it is tried again.
func (t *Teller) done(ctx context.Context, id int64, l letter) error {
	raw, err := json.Marshal(l)
	if err != nil {
		return err
	}
	_, err = t.db.Exec(ctx, `UPDATE chat.letter SET data = $2 WHERE id = $1`, id, raw)
	return pg.Fault(err)
}

// write sends a note to an address, in the person's language.
func (t *Teller) write(ctx context.Context, who account.Person, l letter, to, id string, say func(lang.Locale) note) error {
	locale := lang.Match(who.Locale, l.Locale)
	n := say(locale)
	n.House, n.Locale = t.options.House, string(locale)
	if n.Link != "" {
		n.Link = t.options.House + n.Link
	}
	out := mail.Letter{To: []string{to}, Subject: n.Subject, ID: id + "." + t.mailbox(), Date: time.Now()}
	var err error
	if out.Text, out.HTML, err = n.both(); err != nil {
		return err
	}
	_, err = t.options.Mail.Send(ctx, out)
	return err
}

// mailbox tells letters of this house from another's, and from those of a state of it that was left by going back in time, in their names.
func (t *Teller) mailbox() string {
	_, host, _ := strings.Cut(t.options.House, "://")
	host += fmt.Sprintf(".%08x", crc32.ChecksumIEEE([]byte(t.rooms.Epoch())))
	return strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '.' || r == '-' {
			return r
		}
		return '-'
	}, host)
}

// note is a letter with one thing to say.
type note struct {
	Locale, House, Subject, Words, Button, Link, After string
}

// letterHead is the look of all letters: mail programs know inline styles and little else.
const letterHead = `{{define "head"}}<!doctype html><html lang="{{.Locale}}"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><meta name="color-scheme" content="light"><title>{{.Subject}}</title></head>
<body style="margin:0;padding:24px;font:16px/1.5 system-ui,sans-serif;background:#fffefb;color:#2b2422"><div style="max-width:36em;margin:0 auto">{{end}}
{{define "foot"}}</div></body></html>{{end}}
{{define "button"}}<p style="margin:24px 0"><a href="{{.Link}}" style="display:inline-block;padding:10px 20px;border-radius:8px;background:#a23f27;color:#ffffff;text-decoration:none">{{.Button}}</a></p>{{end}}`

var notePage = template.Must(template.New("note").Parse(letterHead + `{{template "head" .}}<p>{{.Words}}</p>{{if .Link}}{{template "button" .}}<p style="font-size:13px;word-break:break-all">{{.Link}}</p>{{end}}<p style="font-size:13px">{{.After}}</p><p style="font-size:13px">Howdah · {{.House}}</p>{{template "foot" .}}`))

func (n note) both() (plain, html string, err error) {
	var page bytes.Buffer
	if err := notePage.Execute(&page, n); err != nil {
		return "", "", err
	}
	var b strings.Builder
	b.WriteString(n.Words + "\n\n")
	if n.Link != "" {
		b.WriteString(n.Link + "\n\n")
	}
	b.WriteString(n.After + "\n\n-- \nHowdah · " + n.House + "\n")
	return b.String(), page.String(), nil
}
