// Package hook connects rooms with programs that know nothing of Howdah: incoming webhooks take what Slack, GitHub and Alertmanager send, as it is, and say it in a room; outgoing
// ones send what is said there to an address.
package hook

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"mime"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/time/rate"

	"howdah/internal/account"
	"howdah/internal/chat"
	"howdah/internal/fault"
	"howdah/internal/outside"
	"howdah/internal/pg"
)

// Hooks is the door to this package. It is safe for concurrent use.
type Hooks struct {
	db       *pg.Pool
	accounts *account.Accounts
	rooms    *chat.Rooms
	paces    paces
	groups   [64]sync.Mutex // what comes about one group of alerts is taken one after the other
	taking   chan struct{}  // payloads are large: only so many at once
	options  Options
	client   *outside.Client
	tests    paces
	wake     chan struct{}
}

// Texts gives a text of the catalogs in the language of the house.
type Texts func(key string, args ...fault.Args) string

// Options of Hooks. The zero value sends to public addresses, and says what fails in the words of the log.
type Options struct {
	T       Texts                                                 // what GitHub and Alertmanager send is told in
	Private outside.Allowance                                     // private addresses that may be sent to
	Why     func(locale string, err error) string                 // a fault in somebody's language
	Off     func(locale, hook, room string, why error) (s string) // that a hook was switched off, and why
}

// Open makes the door. What goes out is sent while Run runs.
func Open(db *pg.Pool, accounts *account.Accounts, rooms *chat.Rooms, o Options) *Hooks {
	if o.Why == nil {
		o.Why = func(_ string, err error) string { return err.Error() }
	}
	if o.T == nil {
		o.T = func(key string, args ...fault.Args) string {
			return fmt.Sprint(append([]fault.Args{{"key": key}}, args...))
		}
	}
	if o.Off == nil {
		o.Off = func(_, hook, room string, why error) string { return hook + " (" + room + "): " + why.Error() }
	}
	return &Hooks{db: db, accounts: accounts, rooms: rooms, taking: make(chan struct{}, 8), options: o, wake: make(chan struct{}, 1),
		client: outside.New(outside.Limits{Body: 64 << 10, Private: o.Private})}
}

// Incoming is a way into a room, without its secrets.
type Incoming struct {
	ID        int64
	Room      int64
	BotID     int64
	BotHandle string
	BotName   string
	Name      string
	Signed    bool // asks for signatures
	Calls     bool // may call everybody in the room
	CreatedBy string
	CreatedAt time.Time
	UsedAt    *time.Time
	Used      int64
	Trouble   string // the key of the fault with which the last one was refused; "": it was taken
}

const incomingColumns = `h.id, h.room_id, b.id, b.handle, b.name, h.name, h.secret <> '', h.calls, c.name, h.created_at, h.used_at, h.used, h.trouble`

const incomingTables = `chat.incoming h JOIN account.person b ON b.id = h.bot_id JOIN account.person c ON c.id = h.created_by`

// IncomingDraft is an incoming webhook to be made.
type IncomingDraft struct {
	Name   string // what people read beside what it says
	Secret string // "": what comes need not be signed
	Calls  bool
}

// mostHooks bounds how many ways lead into a room.
const mostHooks = 50

// MakeIncoming makes a way into a room, and the bot that speaks there; it gives the secret part of its address, the only time that it is seen.
func (h *Hooks) MakeIncoming(ctx context.Context, me account.Person, room int64, d IncomingDraft) (token string, id int64, err error) {
	if d.Name, err = account.Name(d.Name); err != nil {
		return "", 0, err
	}
	if len(d.Secret) > 200 || strings.ContainsRune(d.Secret, 0) {
		return "", 0, fault.New(fault.Invalid, "hook.secret")
	}
	token = "hwi_" + strings.ToLower(rand.Text())
	sum := sha256.Sum256([]byte(token))
	err = h.connect(ctx, me, room, "chat.incoming", d.Name, func(tx pgx.Tx, bot int64) (account.Facts, error) {
		return account.Facts{"kind": "incoming", "calls": d.Calls}, tx.QueryRow(ctx, `INSERT INTO chat.incoming (room_id, bot_id, name, token_hash, secret, calls, created_by) VALUES ($1, $2, $3, $4, $5, $6, $7) RETURNING id`,
			room, bot, d.Name, sum[:], d.Secret, d.Calls, me.ID).Scan(&id)
	})
	if err != nil {
		return "", 0, err
	}
	return token, id, nil
}

// connect makes the bot of a new way into a room or out of it, has the way stored, and notes on the trail who made it and what store says of it, in one transaction.
func (h *Hooks) connect(ctx context.Context, me account.Person, room int64, table, name string, store func(tx pgx.Tx, bot int64) (account.Facts, error)) error {
	return h.rooms.Connect(ctx, me, room, func(tx pgx.Tx, seats chat.Seats) error {
		var have int
		if err := tx.QueryRow(ctx, `SELECT count(*) FROM `+table+` WHERE room_id = $1`, room).Scan(&have); err != nil {
			return pg.Fault(err)
		}
		if have >= mostHooks {
			return fault.New(fault.Conflict, "hook.many", fault.Args{"most": mostHooks})
		}
		bot, err := h.accounts.NewBotIn(ctx, tx, me, handleFor(name), name)
		if err == nil {
			err = seats.Enter(bot)
		}
		if err != nil {
			return err
		}
		facts, err := store(tx, bot.ID)
		if err != nil {
			return pg.Fault(err)
		}
		return account.Note(ctx, tx, me, account.Deed{Action: account.HookMade, Person: bot.ID, Room: room, Subject: name, After: facts})
	})
}

// handleFor is a handle that nobody has, for a bot of this name.
func handleFor(name string) string {
	var b strings.Builder
	for _, r := range strings.ToLower(name) {
		if account.HandleRune(r) && b.Len() < 60 {
			b.WriteRune(r)
		} else if b.Len() > 0 && !strings.HasSuffix(b.String(), "-") {
			b.WriteByte('-')
		}
	}
	base := []rune(strings.Trim(b.String(), "-._"))
	if len(base) > 22 {
		base = base[:22]
	}
	if len(base) == 0 {
		base = []rune("hook")
	}
	return strings.Trim(string(base), "-._") + "-" + strings.ToLower(rand.Text()[:5])
}

// Incoming lists the ways into a room; for who may connect it.
func (h *Hooks) Incoming(ctx context.Context, me account.Person, room int64) ([]Incoming, error) {
	if err := h.rooms.CanConnect(ctx, me, room); err != nil {
		return nil, err
	}
	return pg.All[Incoming](ctx, h.db, `SELECT `+incomingColumns+` FROM `+incomingTables+` WHERE h.room_id = $1 ORDER BY h.id`, room)
}

// DropIncoming closes a way into a room. Its bot leaves the room, and its account is closed; what it said stays.
func (h *Hooks) DropIncoming(ctx context.Context, me account.Person, room, id int64) error {
	return h.rooms.Connect(ctx, me, room, func(tx pgx.Tx, seats chat.Seats) error {
		found, ok, err := pg.One[gone](ctx, tx, `DELETE FROM chat.incoming WHERE room_id = $1 AND id = $2 RETURNING bot_id, name, 'incoming'`, room, id)
		return h.retire(ctx, tx, seats, me, room, found, ok, err)
	})
}

// Request is what came to an incoming webhook's address.
type Request struct {
	Token     string // the secret part of the address
	Type      string // Content-Type
	Event     string // X-GitHub-Event
	Delivery  string // X-GitHub-Delivery, or Idempotency-Key, or Webhook-Id: the same again is the same
	Signature string // X-Hub-Signature-256
	Body      []byte
}

// Taken is what became of it.
type Taken struct {
	Seq     int64 // of the message that tells of it; 0: it was nothing to tell
	Ignored bool
}

type way struct {
	account.Person
	ID     int64
	Room   int64
	Secret string
	Calls  bool
}

// Take says in a room what came to its address, once Admit has let it in. The same again, where the sender says that it is, gives the answer of the first time and says nothing twice.
func (h *Hooks) Take(ctx context.Context, r Request) (Taken, error) {
	w, err := h.find(ctx, r.Token)
	if err != nil {
		return Taken{}, err
	}
	taken, err := h.take(ctx, w, r)
	trouble := ""
	if err != nil {
		trouble = fault.Of(err).Key
	}
	if !fault.Is(err, fault.Unavailable) {
		_, noteErr := h.db.Exec(ctx, `UPDATE chat.incoming SET used_at = now(), used = used + 1, trouble = $2 WHERE id = $1`, w.ID, trouble)
		if err == nil && noteErr != nil && !fault.Is(pg.Fault(noteErr), fault.Unavailable) {
			err = pg.Fault(noteErr)
		}
	}
	return taken, err
}

// Admit tells whether there is such an address, and whether something may come to it now: asked before a body is read. A flood is told to wait.
func (h *Hooks) Admit(ctx context.Context, token string) error {
	w, err := h.find(ctx, token)
	if err == nil {
		err = h.paces.take(w.ID)
	}
	return err
}

func (h *Hooks) find(ctx context.Context, token string) (way, error) {
	none := fault.New(fault.NotFound, "hook.no_hook")
	if !strings.HasPrefix(token, "hwi_") || len(token) > 64 {
		return way{}, none
	}
	sum := sha256.Sum256([]byte(token))
	type row struct {
		ID, Room, Bot int64
		Handle, Name  string
		Secret        string
		Calls         bool
	}
	found, ok, err := pg.One[row](ctx, h.db, `
		SELECT h.id, h.room_id, b.id, b.handle, b.name, h.secret, h.calls FROM chat.incoming h JOIN account.person b ON b.id = h.bot_id
		WHERE h.token_hash = $1 AND b.disabled_at IS NULL`, sum[:])
	if err == nil && !ok {
		err = none
	}
	return way{account.Person{ID: found.Bot, Handle: found.Handle, Name: found.Name, Role: account.Guest, Bot: true}, found.ID, found.Room, found.Secret, found.Calls}, err
}

func (h *Hooks) take(ctx context.Context, w way, r Request) (Taken, error) {
	select {
	case h.taking <- struct{}{}:
		defer func() { <-h.taking }()
	case <-ctx.Done():
		return Taken{}, fault.Wrap(ctx.Err(), fault.Unavailable, "chat.unsure")
	}
	if w.Secret != "" && !signed(w.Secret, r.Signature, r.Body) {
		return Taken{}, fault.New(fault.Forbidden, "hook.signature")
	}
	raw, err := payload(r)
	if err != nil {
		return Taken{}, err
	}
	switch {
	case r.Event != "":
		text, err := GitHub(r.Event, raw, h.options.T)
		if err != nil || text == "" {
			return Taken{Ignored: err == nil}, err
		}
		return h.say(ctx, w, text, r.Delivery)
	case isGroup(raw):
		g, err := Alertmanager(raw)
		if err != nil {
			return Taken{}, err
		}
		return h.alert(ctx, w, g)
	}
	text, err := Slack(raw)
	if err != nil {
		return Taken{}, err
	}
	return h.say(ctx, w, text, r.Delivery)
}

// say posts a text as the bot of a way.
func (h *Hooks) say(ctx context.Context, w way, text, delivery string) (Taken, error) {
	client := chat.NewID()
	if delivery != "" {
		client = chat.IDOf("incoming", digest(w.ID, delivery))
	}
	receipt, err := h.rooms.Post(ctx, w.Person, chat.Draft{Room: w.Room, ClientID: client, Body: bounded(text, chat.MaxBody), MayCallAll: w.Calls})
	return Taken{Seq: receipt.Seq}, err
}

// payload is the JSON of a request: its body, or the field "payload" of a form.
func payload(r Request) ([]byte, error) {
	kind, _, err := mime.ParseMediaType(r.Type)
	if err != nil && r.Type != "" {
		kind = ""
	}
	switch kind {
	case "application/x-www-form-urlencoded":
		form, err := url.ParseQuery(string(r.Body))
		if err == nil && form.Get("payload") != "" {
			return []byte(form.Get("payload")), nil
		}
		if trimmed := bytes.TrimSpace(r.Body); len(trimmed) > 0 && trimmed[0] == '{' { // curl -d '{...}' says so when it is not told otherwise
			return trimmed, nil
		}
		return nil, fault.New(fault.Invalid, "hook.form")
	case "multipart/form-data":
		return nil, fault.New(fault.Invalid, "hook.form")
	}
	return r.Body, nil
}

// isGroup tells Alertmanager's payload from Slack's.
func isGroup(raw []byte) bool {
	var p struct {
		GroupKey *string
		Alerts   []struct{}
	}
	return decode(raw, &p) == nil && p.GroupKey != nil
}

// signed checks GitHub's signature: "sha256=" and the HMAC of the body in hexadecimal.
func signed(secret, signature string, body []byte) bool {
	text, ok := strings.CutPrefix(signature, "sha256=")
	have, err := hex.DecodeString(text)
	if !ok || err != nil {
		return false
	}
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write(body)
	return hmac.Equal(have, mac.Sum(nil))
}

// alert tells how a group of alerts stands: in one message that is edited, and what has begun to fire since then in its thread, aloud, so that it is noticed. A group that begins
// to fire again after it was resolved is told of anew.
func (h *Hooks) alert(ctx context.Context, w way, g Group) (Taken, error) {
	key := sha256.Sum256([]byte(g.GroupKey))
	lock := &h.groups[key[0]%64]
	lock.Lock()
	defer lock.Unlock()
	type row struct {
		N, Edits int
		Seq      int64
		Body     []byte
		Open     bool
		Firing   []string
	}
	text := bounded(g.Markdown(h.options.T), chat.MaxBody)
	said := sha256.Sum256([]byte(text))
	firing, open := g.Firing(), g.Status == "firing"
	had, known, err := pg.One[row](ctx, h.db, `SELECT n, edits, seq, body, open, firing FROM chat.alerting WHERE incoming_id = $1 AND key = $2`, w.ID, key[:])
	if err != nil {
		return Taken{}, err
	}
	switch {
	case !known && !open:
		return Taken{Ignored: true}, nil // nobody was told that it fired
	case known && bytes.Equal(had.Body, said[:]) && had.Open == open:
		return Taken{Seq: had.Seq}, nil // the same again
	case known && !had.Open && !open:
		return Taken{Seq: had.Seq}, nil
	}
	now := had
	if !known || !had.Open { // it begins
		now = row{N: had.N + 1}
	}
	id := func(what string, n int) string {
		return chat.IDOf("alertmanager", digest(w.ID, g.GroupKey, now.N, what, n))
	}
	draft := chat.Draft{Room: w.Room, Body: text, MayCallAll: w.Calls}
	if now.Seq == 0 {
		draft.ClientID = id("post", 0)
		receipt, err := h.rooms.Post(ctx, w.Person, draft)
		if err != nil {
			return Taken{}, err
		}
		now.Seq = receipt.Seq
	} else {
		now.Edits++
		draft.ClientID = id("edit", now.Edits)
		_, err := h.rooms.Edit(ctx, w.Person, draft, now.Seq)
		switch {
		case fault.HasKey(err, "chat.deleted"): // somebody has had enough of it
			err = nil
		case err == nil:
			news := g.News(had.Firing, h.options.T)
			if !open {
				news = "✅ RESOLVED"
			}
			if news != "" {
				_, err = h.rooms.Post(ctx, w.Person, chat.Draft{Room: w.Room, ClientID: id("news", now.Edits), Body: bounded(news, chat.MaxBody), Thread: now.Seq, Aloud: open})
			}
		}
		if err != nil {
			return Taken{}, err
		}
	}
	_, err = h.db.Exec(ctx, `
		INSERT INTO chat.alerting (incoming_id, key, n, edits, seq, body, open, firing) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
		ON CONFLICT (incoming_id, key) DO UPDATE SET n = $3, edits = $4, seq = $5, body = $6, open = $7, firing = $8, at = now()`,
		w.ID, key[:], now.N, now.Edits, now.Seq, said[:], open, firing)
	if err == nil && !open { // groups come and go for years
		_, err = h.db.Exec(ctx, `DELETE FROM chat.alerting WHERE at < now() - interval '90 days' AND NOT open`)
	}
	return Taken{Seq: now.Seq}, pg.Fault(err)
}

// A way may be used so often at once, and then once a second: a flood comes to wait, and takes nothing from people or from other ways.
const (
	waysAtOnce = 60
	waysEvery  = time.Second
)

type paces struct {
	mu sync.Mutex
	of map[int64]*rate.Limiter
}

func (p *paces) take(id int64) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.of == nil || len(p.of) > 10_000 {
		p.of = map[int64]*rate.Limiter{}
	}
	l := p.of[id]
	if l == nil {
		l = rate.NewLimiter(rate.Every(waysEvery), waysAtOnce)
		p.of[id] = l
	}
	now := time.Now()
	r := l.ReserveN(now, 1)
	if wait := r.DelayFrom(now); wait > 0 {
		r.CancelAt(now)
		return fault.New(fault.RateLimited, "hook.too_often", fault.Args{"seconds": int(wait/time.Second) + 1})
	}
	return nil
}

// digest is a short name of some values.
func digest(values ...any) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%#v", values))
	return hex.EncodeToString(sum[:])
}
