package account

import (
	"context"
	"encoding/json"
	"fmt"
	"net/mail"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/net/idna"

	"howdah/internal/fault"
	"howdah/internal/pg"
)

// Somebody's mail address is one that they have shown to be theirs: a letter to it had a link, which was followed. Nothing is sent to any other but that letter.

const (
	ticketMail      = "mail"
	mailLife        = 24 * time.Hour
	recoverMailLife = time.Hour
	mostRecoveries  = 3 // letters with links that hold for one person
	mostLikeIt      = 5 // people who share an address, that are helped by one letter each
)

// MailAddress brings an address into one form, or says that it is none: one mailbox, without a name.
func MailAddress(raw string) (string, error) {
	raw = strings.TrimSpace(raw)
	bad := fault.New(fault.Invalid, "account.mail_address")
	parsed, err := mail.ParseAddress(raw)
	if err != nil || parsed.Name != "" || len(raw) > 254 || strings.ContainsAny(raw, "<>\"\\ \r\n\t") {
		return "", bad
	}
	at := strings.LastIndexByte(parsed.Address, '@')
	domain, err := idna.Lookup.ToASCII(parsed.Address[at+1:])
	if err != nil || !strings.Contains(domain, ".") && domain != "localhost" {
		return "", bad
	}
	address := parsed.Address[:at] + "@" + domain
	for _, r := range address {
		if r < '!' || r > '~' { // others need a server that knows SMTPUTF8
			return "", bad
		}
	}
	return address, nil
}

// Mailbox is somebody's address.
type Mailbox struct {
	Address string    // "": none
	Since   time.Time // when it was shown to be theirs
	Refused bool      // its server takes nothing for it any more: nothing but links is sent
}

// mostRefusals is how often in a row letters may be refused for good.
const mostRefusals = 5

// Mailbox is the address of a person, if they have one.
func (a *Accounts) Mailbox(ctx context.Context, person int64) (Mailbox, error) {
	box, _, err := pg.One[Mailbox](ctx, a.db, `SELECT address, since, refused >= $2 FROM account.mailbox WHERE person_id = $1`, person, mostRefusals)
	return box, err
}

// WishMailbox checks that somebody may have this address asked whether it is theirs. It wants the password again, or a recent sign-in. The letter is the caller's to send: see MailTicket.
func (a *Accounts) WishMailbox(ctx context.Context, s Session, password, raw string) (string, error) {
	address, err := MailAddress(raw)
	if err != nil {
		return "", err
	}
	if err := a.confirm(ctx, s, password); err != nil {
		return "", err
	}
	if err := a.take(ctx, a.may.mail, fmt.Sprint("mail person ", s.Person.ID), "mail to "+strings.ToLower(address)); err != nil {
		return "", err
	}
	return address, a.db.InTx(ctx, func(tx pgx.Tx) error { return unasked(ctx, tx, s.Person.ID) })
}

// unasked ends what a person was asked before: links that wait for them, and letters that are still to bring one.
func unasked(ctx context.Context, tx pgx.Tx, person int64) error {
	if _, err := tx.Exec(ctx, `DELETE FROM account.ticket WHERE person_id = $1 AND kind = $2`, person, ticketMail); err != nil {
		return err
	}
	_, err := tx.Exec(ctx, `DELETE FROM chat.letter WHERE person_id = $1 AND kind = 'confirm'`, person)
	return err
}

// MailTicket makes the token of the link that shows an address to be a person's.
func (a *Accounts) MailTicket(ctx context.Context, person int64, address string) (string, error) {
	return a.newTicket(ctx, a.db, ticketMail, &person, address, mailLife)
}

// CheckMailTicket finds which address a link is about; NotFound when it was used or is over. The link is for who has asked and nobody else: whoever reads the letter sent to a mistyped address
// would have somebody's account with it.
func (a *Accounts) CheckMailTicket(ctx context.Context, me Person, token string) (person Person, address string, err error) {
	type row struct {
		Person
		Data []byte
	}
	found, ok, err := pg.One[row](ctx, a.db, `
		SELECT `+personColumns+`, t.data FROM account.ticket t JOIN account.person p ON p.id = t.person_id
		WHERE t.token_hash = $1 AND t.kind = $2 AND t.ends_at > now() AND p.disabled_at IS NULL`, hashToken(token), ticketMail)
	if err == nil && !ok {
		err = fault.New(fault.NotFound, "account.mail_link")
	}
	if err == nil && found.ID != me.ID {
		return Person{}, "", fault.New(fault.Forbidden, "account.mail_other")
	}
	if err == nil {
		err = json.Unmarshal(found.Data, &address)
	}
	return found.Person, address, err
}

// TakeMailbox makes the address of a link the person's who has asked for it, and gives the one that they had before, whose owner should know.
func (a *Accounts) TakeMailbox(ctx context.Context, me Person, token string) (person Person, address, before string, err error) {
	if person, address, err = a.CheckMailTicket(ctx, me, token); err != nil {
		return person, "", "", err
	}
	err = a.db.InTx(ctx, func(tx pgx.Tx) error {
		before = ""
		if _, found, err := takeTicket(ctx, tx, ticketMail, token); err != nil {
			return err
		} else if !found {
			return fault.New(fault.NotFound, "account.mail_link")
		}
		if before, err = takeMailbox(ctx, tx, person.ID); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, `INSERT INTO account.mailbox (person_id, address) VALUES ($1, $2)`, person.ID, address)
		return err
	})
	if strings.EqualFold(before, address) {
		before = ""
	}
	return person, address, before, err
}

func takeMailbox(ctx context.Context, tx pgx.Tx, person int64) (before string, err error) {
	if err := unasked(ctx, tx, person); err != nil {
		return "", err
	}
	row, _, err := pg.One[struct{ Address string }](ctx, tx, `DELETE FROM account.mailbox WHERE person_id = $1 RETURNING address`, person)
	return row.Address, err
}

// DropMailbox leaves somebody without an address, and gives the one that they had. It wants the password again, or a recent sign-in.
func (a *Accounts) DropMailbox(ctx context.Context, s Session, password string) (before string, err error) {
	if err := a.confirm(ctx, s, password); err != nil {
		return "", err
	}
	err = a.db.InTx(ctx, func(tx pgx.Tx) (err error) {
		before, err = takeMailbox(ctx, tx, s.Person.ID)
		return err
	})
	return before, err
}

// Delivered notes what became of a letter: refused for good, or taken.
func (a *Accounts) Delivered(ctx context.Context, person int64, refused bool) error {
	_, err := a.db.Exec(ctx, `UPDATE account.mailbox SET refused = CASE WHEN $2 THEN refused + 1 ELSE 0 END WHERE person_id = $1 AND (refused > 0 OR $2)`, person, refused)
	return pg.Fault(err)
}

// Forgot counts that somebody wants a link for a new password by mail, for a handle or an address. It says nothing of whether there is anybody: who that is, is looked up when the letter is made.
func (a *Accounts) Forgot(ctx context.Context, who string, client Client) (clean string, err error) {
	if err := a.take(ctx, a.may.forgotFrom, "forgot "+addressKey(client.Address)); err != nil {
		return "", err
	}
	if clean, err = MailAddress(who); err != nil {
		if clean, err = Handle(who); err != nil {
			return "", fault.New(fault.Invalid, "account.forgot_who")
		}
	}
	clean = strings.ToLower(clean)
	return clean, a.take(ctx, a.may.forgot, "forgot who "+clean)
}

// Recovery is a link for somebody's new password, and where it goes.
type Recovery struct {
	Person  Person
	Address string
	Token   string
}

// RecoverByMail makes the links of a letter for whoever has this handle or address, each for an hour; but not for those who are done. Nobody gets more than a few letters whose links hold at a
// time: however often one is tried, it counts once.
func (a *Accounts) RecoverByMail(ctx context.Context, who string, letter int64, done []int64) (all []Recovery, err error) {
	type row struct {
		Person
		Address string
	}
	err = a.db.InTx(ctx, func(tx pgx.Tx) error {
		all = nil
		found, err := pg.All[row](ctx, tx, `
			SELECT `+personColumns+`, b.address FROM account.person p JOIN account.mailbox b ON b.person_id = p.id
			WHERE (p.handle = $1 OR lower(b.address) = $1) AND p.disabled_at IS NULL AND p.bot_of IS NULL AND NOT p.house AND p.id <> ALL ($5)
			  AND (SELECT count(DISTINCT t.data -> 'mail') FROM account.ticket t WHERE t.person_id = p.id AND t.kind = $2 AND t.data -> 'mail' <> to_jsonb($6::bigint) AND t.ends_at > now()) < $3
			ORDER BY p.id LIMIT $4 FOR UPDATE OF p`, who, ticketRecover, mostRecoveries, mostLikeIt-len(done), append([]int64{}, done...), letter)
		for _, one := range found {
			token, err := a.newTicket(ctx, tx, ticketRecover, &one.Person.ID, map[string]int64{"mail": letter}, recoverMailLife)
			if err != nil {
				return err
			}
			all = append(all, Recovery{one.Person, one.Address, token})
		}
		return err
	})
	return all, err
}

// Unsent takes a link back that nobody has got.
func (a *Accounts) Unsent(ctx context.Context, token string) error {
	_, err := a.db.Exec(ctx, `DELETE FROM account.ticket WHERE token_hash = $1`, hashToken(token))
	return pg.Fault(err)
}
