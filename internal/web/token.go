package web

import (
	"net/http"
	"strings"
	"time"

	"howdah/internal/account"
	"howdah/internal/chat"
	"howdah/internal/fault"
)

// What a token is good for. A browser's session is good for everything; the rooms and accounts then judge what its person may.

// reading are the calls that a token for reading may make: to see rooms and what is said in them.
var reading = calls(`
	GET /me
	GET /rooms
	GET /rooms/public
	GET /rooms/{room}
	GET /rooms/{room}/members
	GET /rooms/{room}/messages
	GET /rooms/{room}/messages/{seq}/edits
	GET /rooms/{room}/messages/{seq}/files/{n}
	GET /rooms/{room}/messages/{seq}/files/{n}/preview
	GET /rooms/{room}/messages/{seq}/cards/{card}
	GET /rooms/{room}/threads/{seq}
	GET /rooms/{room}/since
	GET /threads
	GET /search
	GET /people`)

// writing are those that one for writing may make, too: to speak, and to change one's own words.
var writing = calls(`
	POST /rooms/{room}/messages
	PATCH /rooms/{room}/messages/{seq}
	DELETE /rooms/{room}/messages/{seq}
	POST /rooms/{room}/messages/{seq}/undelete
	POST /uploads
	GET /uploads/{upload}
	PATCH /uploads/{upload}
	DELETE /uploads/{upload}
	PUT /rooms/{room}/messages/{seq}/reactions/{emoji}
	DELETE /rooms/{room}/messages/{seq}/reactions/{emoji}
	PUT /rooms/{room}/threads/{seq}/read
	PUT /rooms/{room}/threads/{seq}/follow
	DELETE /rooms/{room}/threads/{seq}/follow
	PUT /rooms/{room}/read
	POST /rooms/{room}/join
	POST /rooms/{room}/leave
	POST /direct`)

func calls(list string) map[string]bool {
	all := map[string]bool{}
	for line := range strings.Lines(strings.TrimSpace(list)) {
		method, path, _ := strings.Cut(strings.TrimSpace(line), " ")
		all[method+" /api/v1"+path] = true
	}
	return all
}

// needs is the least scope for a call; what nobody has thought of needs everything.
func needs(pattern string) account.Scope {
	switch {
	case reading[pattern]:
		return account.Reads
	case writing[pattern]:
		return account.Writes
	}
	return account.All
}

// within refuses a call for which the visit's token is not good.
func (v *visit) within(pattern string) error {
	if err := v.allows(needs(pattern)); err != nil || v.session.Rooms == nil {
		return err
	}
	if strings.Contains(pattern, "/rooms/{room}") {
		room, err := v.number("room")
		if err == nil && !v.session.In(room) {
			err = fault.New(fault.NotFound, "chat.no_room")
		}
		return err
	}
	if pattern == "GET /api/v1/me" || pattern == "GET /api/v1/rooms" || strings.Contains(pattern, " /api/v1/uploads") { // those are nobody else's, and in no room yet
		return nil
	}
	return fault.New(fault.Forbidden, "web.token_rooms")
}

func (v *visit) allows(scope account.Scope) error { return allows(v.session, scope) }

func allows(s account.Session, scope account.Scope) error {
	if !s.Scope.Allows(scope) {
		return fault.New(fault.Forbidden, "web.token_scope", fault.Args{"scope": string(s.Scope)})
	}
	return nil
}

// within is the same for what a socket is told to do.
func (s *socket) within(o order) error {
	switch o.Do {
	case "post", "edit", "delete", "read", "typing":
		if err := allows(s.may, account.Writes); err != nil {
			return err
		}
	}
	if o.Room != 0 && !s.may.In(o.Room) {
		return fault.New(fault.NotFound, "chat.no_room")
	}
	return nil
}

// seen are those of one's rooms for which a session is good.
func seen(s account.Session, rooms []chat.Room) []chat.Room {
	if s.Rooms == nil {
		return rooms
	}
	kept := rooms[:0]
	for _, r := range rooms {
		if s.In(r.ID) {
			kept = append(kept, r)
		}
	}
	return kept
}

func (s *socket) seen(rooms []chat.Room) []chat.Room { return seen(s.may, rooms) }

func tokenJSON(t account.OpenToken) object {
	return object{"id": t.ID, "name": t.Name, "scope": t.Scope, "rooms": t.Rooms, "created_at": t.CreatedAt, "seen_at": t.SeenAt, "ends_at": t.EndsAt}
}

// apiMakeToken makes a token for somebody, as far as most.
func (d *Door) apiMakeToken(v *visit, who account.Person, most account.Scope) (any, error) {
	var in struct {
		Name  string
		Scope account.Scope
		Rooms []int64
		Days  int
	}
	if err := v.body(&in); err != nil {
		return nil, err
	}
	token, id, err := d.makeToken(v, who, most, account.TokenDraft{Name: in.Name, Scope: in.Scope, Rooms: in.Rooms}, in.Days)
	return object{"id": id, "token": token}, err
}

func (d *Door) makeToken(v *visit, who account.Person, most account.Scope, draft account.TokenDraft, days int) (string, int64, error) {
	if draft.Scope == "" {
		draft.Scope = most
	}
	if !most.Allows(draft.Scope) {
		return "", 0, fault.New(fault.Invalid, "account.token_scope")
	}
	if days < 0 || days > 3660 {
		return "", 0, fault.New(fault.Invalid, "account.token_lasts")
	}
	draft.Lasts = time.Duration(days) * 24 * time.Hour
	return d.accounts.MakeToken(v.ctx(), who.ID, draft)
}

// Bots, for those who run them.

func (d *Door) apiBots(v *visit) (any, error) {
	bots, err := d.accounts.Bots(v.ctx(), v.me())
	out := make([]object, len(bots))
	for i, b := range bots {
		out[i] = object{"id": b.ID, "handle": b.Handle, "name": b.Name, "owner": object{"id": b.OwnerID, "name": b.OwnerName}, "tokens": b.Tokens, "disabled": b.Disabled}
	}
	return object{"bots": out}, err
}

func (d *Door) apiNewBot(v *visit) (any, error) {
	var in struct{ Handle, Name string }
	if err := v.body(&in); err != nil {
		return nil, err
	}
	b, err := d.accounts.NewBot(v.ctx(), v.me(), in.Handle, in.Name)
	return object{"id": b.ID, "handle": b.Handle, "name": b.Name}, err
}

// onBot runs an action on the bot in the path, for who runs it.
func (d *Door) onBot(v *visit, act func(bot account.Person) (any, error)) (any, error) {
	id, err := v.number("bot")
	if err != nil {
		return nil, err
	}
	bot, err := d.accounts.RunBot(v.ctx(), v.me(), id)
	if err != nil {
		return nil, err
	}
	return act(bot)
}

func (d *Door) apiBotTokens(v *visit) (any, error) {
	return d.onBot(v, func(bot account.Person) (any, error) {
		tokens, err := d.accounts.Tokens(v.ctx(), bot.ID)
		out := make([]object, len(tokens))
		for i, t := range tokens {
			out[i] = tokenJSON(t)
		}
		return object{"tokens": out}, err
	})
}

func (d *Door) apiNewBotToken(v *visit) (any, error) {
	return d.onBot(v, func(bot account.Person) (any, error) { return d.apiMakeToken(v, bot, account.Writes) })
}

func (d *Door) apiRevokeBotToken(v *visit) (any, error) {
	return d.onBot(v, func(bot account.Person) (any, error) {
		id, err := v.number("token")
		if err != nil {
			return nil, err
		}
		return nil, d.accounts.RevokeToken(v.ctx(), bot.ID, id)
	})
}

// Incoming webhooks of a room, for those who may connect it.

func (d *Door) hooksOf(v *visit) (int64, error) {
	if d.options.Hooks == nil {
		return 0, fault.New(fault.NotFound, "web.no_page")
	}
	return v.number("room")
}

func (d *Door) apiIncoming(v *visit) (any, error) {
	room, err := d.hooksOf(v)
	if err != nil {
		return nil, err
	}
	list, err := d.options.Hooks.Incoming(v.ctx(), v.me(), room)
	out := make([]object, len(list))
	for i, h := range list {
		out[i] = object{"id": h.ID, "name": h.Name, "bot": object{"id": h.BotID, "handle": h.BotHandle, "name": h.BotName}, "signed": h.Signed, "calls": h.Calls,
			"by": h.CreatedBy, "created_at": h.CreatedAt, "used_at": h.UsedAt, "used": h.Used, "trouble": h.Trouble}
	}
	return object{"incoming": out}, err
}

func (d *Door) apiNewIncoming(v *visit) (any, error) {
	room, err := d.hooksOf(v)
	if err != nil {
		return nil, err
	}
	var in struct {
		Name, Secret string
		Calls        bool
	}
	if err := v.body(&in); err != nil {
		return nil, err
	}
	token, id, err := d.options.Hooks.MakeIncoming(v.ctx(), v.me(), room, incomingDraft(in.Name, in.Secret, in.Calls))
	return object{"id": id, "url": d.hookURL(v.r, token)}, err
}

func (d *Door) apiDropIncoming(v *visit) (any, error) {
	room, err := d.hooksOf(v)
	if err != nil {
		return nil, err
	}
	id, err := v.number("hook")
	if err != nil {
		return nil, err
	}
	return nil, d.options.Hooks.DropIncoming(v.ctx(), v.me(), room, id)
}

// hookURL is an incoming webhook's address.
func (d *Door) hookURL(r *http.Request, token string) string {
	base := d.base(r)
	if base == "" {
		base = "http://" + r.Host
	}
	return base + hooksPath + token
}
