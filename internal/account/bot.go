package account

import (
	"context"

	"github.com/jackc/pgx/v5"

	"howdah/internal/fault"
	"howdah/internal/pg"
)

// Bot is a program's account, with who answers for it.
type Bot struct {
	Person
	OwnerID   int64
	OwnerName string
	OwnerGone bool // their account is closed, and so the bot's tokens do not hold
	Tokens    int
}

// mostBots bounds how many bots one person answers for: whoever may make a room's webhooks makes bots with them.
const mostBots = 200

// NewBot makes a bot that me answers for; admins only. A bot is a guest of the house: it is in no room but those that somebody puts it into, and it has no password.
func (a *Accounts) NewBot(ctx context.Context, me Person, handle, name string) (bot Person, err error) {
	if !me.Role.AtLeast(Admin) || me.Bot {
		return Person{}, fault.New(fault.Forbidden, "account.admins_only")
	}
	err = a.db.InTx(ctx, func(tx pgx.Tx) error {
		bot, err = a.NewBotIn(ctx, tx, me, handle, name)
		return err
	})
	return bot, err
}

// NewBotIn is NewBot in somebody else's transaction, for whom they have found that they may.
func (a *Accounts) NewBotIn(ctx context.Context, tx pgx.Tx, me Person, handle, name string) (Person, error) {
	n := NewPerson{Handle: handle, Name: name, Password: nobody}
	if err := n.check(); err != nil {
		return Person{}, err
	}
	var have int
	if err := tx.QueryRow(ctx, `SELECT count(*) FROM account.person WHERE bot_of = $1`, me.ID).Scan(&have); err != nil {
		return Person{}, pg.Fault(err)
	}
	if have >= mostBots {
		return Person{}, fault.New(fault.Conflict, "account.bots_many", fault.Args{"most": mostBots})
	}
	bot, err := a.add(ctx, tx, n, nobody, Guest) // no password has this hash
	if err != nil {
		return Person{}, err
	}
	if _, err := tx.Exec(ctx, `UPDATE account.person SET bot_of = $2 WHERE id = $1`, bot.ID, me.ID); err != nil {
		return Person{}, pg.Fault(err)
	}
	bot.Bot = true
	return bot, notePerson(ctx, tx, me, BotMade, bot, nil, nil)
}

// Bots lists the bots of the house to admins, and to others those that they answer for.
func (a *Accounts) Bots(ctx context.Context, me Person) ([]Bot, error) {
	return pg.All[Bot](ctx, a.db, `
		SELECT `+personColumns+`, o.id, o.name, o.disabled_at IS NOT NULL, (SELECT count(*) FROM account.token t WHERE t.person_id = p.id)
		FROM account.person p JOIN account.person o ON o.id = p.bot_of
		WHERE $2 OR p.bot_of = $1 ORDER BY lower(p.name), p.id LIMIT 1000`, me.ID, me.Role.AtLeast(Admin))
}

// RunBot finds a bot whose tokens me may make and revoke: an admin's every one, else those that me answers for.
func (a *Accounts) RunBot(ctx context.Context, me Person, id int64) (Person, error) {
	bot, found, err := pg.One[Person](ctx, a.db, `
		SELECT `+personColumns+` FROM account.person p WHERE p.id = $1 AND p.bot_of IS NOT NULL AND ($3 OR p.bot_of = $2)`, id, me.ID, me.Role.AtLeast(Admin))
	if err == nil && !found {
		err = fault.New(fault.NotFound, "account.no_bot")
	}
	return bot, err
}

// TakeBot makes me the one who answers for a bot; admins only.
func (a *Accounts) TakeBot(ctx context.Context, me Person, id int64) error {
	if !me.Role.AtLeast(Admin) || me.Bot {
		return fault.New(fault.Forbidden, "account.admins_only")
	}
	return a.db.InTx(ctx, func(tx pgx.Tx) error {
		type row struct{ Handle, Owner string }
		bot, found, err := pg.One[row](ctx, tx, `SELECT p.handle, o.handle FROM account.person p JOIN account.person o ON o.id = p.bot_of WHERE p.id = $1 FOR UPDATE OF p`, id)
		if err != nil {
			return err
		}
		if !found {
			return fault.New(fault.NotFound, "account.no_bot")
		}
		if bot.Owner == me.Handle {
			return nil
		}
		if _, err := tx.Exec(ctx, `UPDATE account.person SET bot_of = $2 WHERE id = $1`, id, me.ID); err != nil {
			return err
		}
		return notePerson(ctx, tx, me, BotTaken, Person{ID: id, Handle: bot.Handle}, Facts{"owner": "@" + bot.Owner}, Facts{"owner": "@" + me.Handle})
	})
}
