package web

import (
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"howdah/internal/account"
	"howdah/internal/chat"
	"howdah/internal/fault"
	"howdah/internal/hook"
	"howdah/internal/web/ui"
)

// The pages of what connects the house with programs: bots with their tokens, and a room's webhooks.

func pageToken(t account.OpenToken) ui.Token {
	token := ui.Token{ID: t.ID, Name: t.Name, Made: t.CreatedAt, Scope: string(t.Scope), Rooms: len(t.Rooms)}
	if t.SeenAt != nil {
		token.Seen = *t.SeenAt
	}
	if t.EndsAt != nil {
		token.Ends, token.Ended = *t.EndsAt, time.Now().After(*t.EndsAt)
	}
	return token
}

// tokenDraft is what the form of a token asks for.
func tokenDraft(v *visit) (draft account.TokenDraft, days int, err error) {
	draft = account.TokenDraft{Name: v.field("name"), Scope: account.Scope(v.field("scope"))}
	if given := v.field("days"); given != "" {
		if days, err = strconv.Atoi(given); err != nil {
			err = fault.New(fault.Invalid, "account.token_lasts")
		}
	}
	if err == nil {
		draft.Rooms, err = v.checked("rooms")
	}
	return draft, days, err
}

func (d *Door) botsPage(v *visit) error { return d.showBots(v, http.StatusOK, nil) }

func (d *Door) showBots(v *visit, code int, problem error) error {
	return d.showBotsWith(v, code, problem, "", "")
}

func (d *Door) showBotsWith(v *visit, code int, problem error, fresh, of string) error {
	c, err := d.chromeWith(v, problem)
	if err != nil {
		return err
	}
	c.Title = v.lang.T("web.bots.heading")
	p := ui.BotsPage{Chrome: c, MayMake: v.me().Role.AtLeast(account.Admin), Fresh: fresh, FreshOf: of}
	bots, err := d.accounts.Bots(v.ctx(), v.me())
	if err != nil {
		return err
	}
	for _, b := range bots {
		row := ui.BotRow{ID: b.ID, Handle: b.Handle, Name: b.Name, Owner: b.OwnerName, Mine: b.OwnerID == v.me().ID, Gone: b.OwnerGone, Disabled: b.Disabled}
		if b.Tokens > 0 {
			tokens, err := d.accounts.Tokens(v.ctx(), b.ID)
			if err != nil {
				return err
			}
			for _, t := range tokens {
				row.Tokens = append(row.Tokens, pageToken(t))
			}
		}
		if !b.Disabled {
			places, err := d.rooms.PlacesOf(v.ctx(), v.me(), b.ID)
			if err != nil {
				return err
			}
			for _, one := range places {
				row.Places = append(row.Places, ui.Place{ID: one.ID, Kind: string(one.Kind), Name: one.Name})
			}
		}
		p.Bots = append(p.Bots, row)
	}
	d.render(v.w, v.r, code, "bots", p)
	return nil
}

func (d *Door) botsMake(v *visit) error {
	return d.showing(v, d.showBots, func() (string, error) {
		_, err := d.accounts.NewBot(v.ctx(), v.me(), v.field("handle"), v.field("name"))
		return "/bots?done=saved", err
	})
}

// onBotForm runs a form's action on the bot in the path.
func (d *Door) onBotForm(v *visit, act func(bot account.Person) (string, error)) error {
	id, err := v.number("bot")
	if err != nil {
		return err
	}
	return d.showing(v, d.showBots, func() (string, error) {
		bot, err := d.accounts.RunBot(v.ctx(), v.me(), id)
		if err != nil {
			return "", err
		}
		return act(bot)
	})
}

func (d *Door) botsTake(v *visit) error {
	return d.onBotForm(v, func(bot account.Person) (string, error) {
		return "/bots?done=saved", d.accounts.TakeBot(v.ctx(), v.me(), bot.ID)
	})
}

func (d *Door) botsToken(v *visit) error {
	return d.onBotForm(v, func(bot account.Person) (string, error) {
		draft, days, err := tokenDraft(v)
		if err != nil {
			return "", err
		}
		token, _, err := d.makeToken(v, bot, account.Writes, draft, days)
		if err != nil {
			return "", err
		}
		return "", d.showBotsWith(v, http.StatusOK, nil, token, bot.Name)
	})
}

func (d *Door) botsRevoke(v *visit) error {
	return d.onBotForm(v, func(bot account.Person) (string, error) {
		id, err := v.number("token")
		if err != nil {
			return "", err
		}
		return "/bots?done=saved", d.accounts.RevokeToken(v.ctx(), bot.ID, id)
	})
}

// made is what a form has just made, and what was typed into one that was refused.
type made struct{ fresh, is, typed string }

func (d *Door) hooksPage(v *visit) error { return d.showHooks(v, http.StatusOK, nil, made{}) }

func (d *Door) showHooks(v *visit, code int, problem error, m made) error {
	room, err := d.hooksOf(v)
	if err != nil {
		return err
	}
	if err := d.rooms.CanConnect(v.ctx(), v.me(), room); err != nil {
		return err
	}
	r, err := d.rooms.Room(v.ctx(), v.me(), room)
	if err != nil {
		return err
	}
	c, err := d.chromeWith(v, problem)
	if err != nil {
		return err
	}
	p := ui.HooksPage{Chrome: c, Room: pageRoom(r), Fresh: m.fresh, FreshIs: m.is, Typed: m.typed, Hears: hook.HearsAll}
	p.Title = v.lang.T("web.hooks.heading", fault.Args{"room": p.Room.Label()})
	if m.typed != "" {
		p.Name, p.URL, p.Word = v.field("name"), v.field("url"), v.field("word")
		if heard := v.field("hears"); heard != "" {
			p.Hears = heard
		}
	}
	incoming, err := d.options.Hooks.Incoming(v.ctx(), v.me(), room)
	if err != nil {
		return err
	}
	for _, h := range incoming {
		row := ui.IncomingRow{ID: h.ID, Name: h.Name, Bot: h.BotHandle, By: h.CreatedBy, Made: h.CreatedAt, Times: h.Used, Signed: h.Signed, Calls: h.Calls}
		if h.UsedAt != nil {
			row.Used = *h.UsedAt
		}
		if h.Trouble != "" {
			row.Trouble, _ = v.lang.Fault(&fault.Fault{Code: fault.Invalid, Key: h.Trouble, Args: troubleArgs})
		}
		p.Incoming = append(p.Incoming, row)
	}
	outgoing, err := d.options.Hooks.Outgoing(v.ctx(), v.me(), room)
	if err != nil {
		return err
	}
	for _, h := range outgoing {
		row := ui.OutgoingRow{ID: h.ID, Name: h.Name, Bot: h.BotHandle, Where: host(h.URL), Hears: h.Hears, Word: h.Word, By: h.CreatedBy, Made: h.CreatedAt, On: h.OffAt == nil, Next: h.NextAt, Why: h.Why}
		if h.FailingSince != nil {
			row.Failing = *h.FailingSince
		}
		deliveries, err := d.options.Hooks.Deliveries(v.ctx(), v.me(), room, h.ID)
		if err != nil {
			return err
		}
		for _, one := range deliveries[:min(len(deliveries), 20)] {
			row.Deliveries = append(row.Deliveries, ui.DeliveryRow(one))
		}
		p.Outgoing = append(p.Outgoing, row)
	}
	d.render(v.w, v.r, code, "hooks", p)
	return nil
}

// troubleArgs stand for those of a fault whose key alone was kept.
var troubleArgs = fault.Args{"message": "…", "seconds": "…", "limit": "…", "n": "…"}

// host is where an address leads, without what in it may be a secret.
func host(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return "?"
	}
	return u.Scheme + "://" + u.Host
}

// onHooks runs a form's action on a room's webhooks; which names the form.
func (d *Door) onHooks(which string, act func(v *visit, room int64) (made, error)) handler {
	return func(v *visit) error {
		room, err := d.hooksOf(v)
		if err != nil {
			return err
		}
		if err := v.form(); err != nil {
			return err
		}
		m, err := act(v, room)
		if fault.HasKey(err, "chat.no_room") {
			return err
		}
		if err != nil {
			return d.showHooks(v, complaintStatus(err), err, made{typed: which})
		}
		if m.fresh != "" { // shown in the answer and nowhere else
			return d.showHooks(v, http.StatusOK, nil, m)
		}
		redirect(v, fmt.Sprintf("/room/%d/hooks?done=saved", room))
		return nil
	}
}

func (d *Door) incomingMake(v *visit, room int64) (made, error) {
	token, _, err := d.options.Hooks.MakeIncoming(v.ctx(), v.me(), room, incomingDraft(v.field("name"), v.field("secret"), v.field("calls") != ""))
	return made{fresh: d.hookURL(v.r, token), is: "incoming"}, err
}

func (d *Door) outgoingMake(v *visit, room int64) (made, error) {
	secret, _, err := d.options.Hooks.MakeOutgoing(v.ctx(), v.me(), room, hook.OutgoingDraft{Name: v.field("name"), URL: v.field("url"), Hears: v.field("hears"), Word: v.field("word")})
	return made{fresh: secret, is: "outgoing"}, err
}

// onHook is an action on the webhook in the path.
func onHook(act func(v *visit, room, id int64) error) func(v *visit, room int64) (made, error) {
	return func(v *visit, room int64) (made, error) {
		id, err := v.number("hook")
		if err != nil {
			return made{}, err
		}
		return made{}, act(v, room, id)
	}
}

func (d *Door) incomingDrop(v *visit, room, id int64) error {
	return d.options.Hooks.DropIncoming(v.ctx(), v.me(), room, id)
}

func (d *Door) outgoingDrop(v *visit, room, id int64) error {
	return d.options.Hooks.DropOutgoing(v.ctx(), v.me(), room, id)
}

func (d *Door) outgoingSwitch(on bool) func(v *visit, room, id int64) error {
	return func(v *visit, room, id int64) error {
		return d.options.Hooks.Switch(v.ctx(), v.me(), room, id, on)
	}
}

// outgoingAgain sends once more what the form names, or a test. What became of it stands on the page.
func (d *Door) outgoingAgain(v *visit, room, id int64) error {
	seq := int64(0)
	if given := v.field("seq"); given != "" {
		n, err := strconv.ParseInt(given, 10, 64)
		if err != nil || n <= 0 {
			return fault.New(fault.NotFound, "chat.no_message")
		}
		seq = n
	}
	one, err := d.options.Hooks.Again(v.ctx(), v.me(), room, id, seq)
	if err == nil && one.Why != "" {
		err = fault.New(fault.Conflict, "hook.not_arrived", fault.Args{"why": one.Why})
	}
	return err
}

// mayConnect says whether a room's page leads to the one of its webhooks.
func (d *Door) mayConnect(s chat.Standing) bool {
	return d.options.Hooks != nil && chat.May(chat.Connect, s)
}
