package account

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"howdah/internal/fault"
	"howdah/internal/pg"
)

const (
	ticketRecover = "recover"
	recoverLife   = 24 * time.Hour
)

// RecoveryLink makes the token of a link by which somebody who has forgotten their password chooses a new one: by who may govern them, for a day, once, and in place of any before. Their second
// factor stays, and is asked for behind it.
func (a *Accounts) RecoveryLink(ctx context.Context, me Person, id int64) (token string, who Person, err error) {
	err = a.db.InTx(ctx, func(tx pgx.Tx) (err error) {
		if who, err = a.governed(ctx, tx, me, id); err != nil {
			return err
		}
		if who.ID == me.ID || who.Disabled || who.Bot {
			return fault.New(fault.Forbidden, "account.no_recovery")
		}
		if _, err := tx.Exec(ctx, `DELETE FROM account.ticket WHERE person_id = $1 AND kind = $2`, id, ticketRecover); err != nil {
			return err
		}
		if token, err = a.newTicket(ctx, tx, ticketRecover, &id, map[string]int64{"by": me.ID}, recoverLife); err != nil {
			return err
		}
		return notePerson(ctx, tx, me, LinkMade, who, nil, nil)
	})
	return token, who, err
}

// CheckRecovery finds whose a link's token is; NotFound when it was used, has ended or was replaced.
func (a *Accounts) CheckRecovery(ctx context.Context, token string) (Person, error) {
	person, found, err := pg.One[Person](ctx, a.db, `
		SELECT `+personColumns+` FROM account.ticket t JOIN account.person p ON p.id = t.person_id
		WHERE t.token_hash = $1 AND t.kind = $2 AND t.ends_at > now() AND p.disabled_at IS NULL AND p.bot_of IS NULL`, hashToken(token), ticketRecover)
	if err == nil && !found {
		err = fault.New(fault.NotFound, "account.recovery_link")
	}
	return person, err
}

// Recover gives the person of a link their new password, ends every session of theirs, and signs them in, up to their second factor where they have one. A password that is refused costs the
// link nothing.
func (a *Accounts) Recover(ctx context.Context, token, password string, client Client) (Entry, error) {
	person, err := a.CheckRecovery(ctx, token)
	if err != nil {
		return Entry{}, err
	}
	if err := checkPassword(password, person.Handle, person.Name); err != nil {
		return Entry{}, err
	}
	hash, err := a.hashPassword(ctx, password)
	if err != nil {
		return Entry{}, err
	}
	var entry Entry
	var ended []int64
	err = a.db.InTx(ctx, func(tx pgx.Tx) error {
		entry = Entry{Person: person}
		if _, found, err := takeTicket(ctx, tx, ticketRecover, token); err != nil {
			return err
		} else if !found {
			return fault.New(fault.NotFound, "account.recovery_link")
		}
		tag, err := tx.Exec(ctx, `UPDATE account.person SET password_hash = $2 WHERE id = $1 AND disabled_at IS NULL`, person.ID, hash)
		if err == nil && tag.RowsAffected() == 0 {
			err = fault.New(fault.NotFound, "account.recovery_link")
		}
		if err != nil {
			return err
		}
		if ended, err = forget(ctx, tx, person.ID, 0); err != nil {
			return err
		}
		if err := notePerson(ctx, tx, person, LinkUsed, person, nil, nil); err != nil {
			return err
		}
		entry, err = a.letIn(ctx, tx, person, client)
		return err
	})
	if err == nil {
		a.ended(ended, 0)
	}
	return entry, err
}

// letIn opens a session for who has proved one factor, or asks for the second of who has one.
func (a *Accounts) letIn(ctx context.Context, q pg.Queryer, person Person, client Client) (Entry, error) {
	var asked bool
	if err := q.QueryRow(ctx, `SELECT EXISTS (SELECT FROM account.totp WHERE person_id = $1 AND confirmed_at IS NOT NULL)`, person.ID).Scan(&asked); err != nil {
		return Entry{}, pg.Fault(err)
	}
	entry := Entry{Person: person}
	var err error
	if asked {
		entry.Pending, err = a.newTicket(ctx, q, ticketSecond, &person.ID, nil, pendingLife)
	} else {
		entry.Session, err = a.openSession(ctx, q, person.ID, client)
	}
	return entry, err
}
