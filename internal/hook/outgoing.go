package hook

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"howdah/internal/account"
	"howdah/internal/chat"
	"howdah/internal/fault"
	"howdah/internal/outside"
	"howdah/internal/pg"
)

// What an outgoing webhook hears.
const (
	HearsAll     = "all"     // every message of people
	HearsMention = "mention" // those that call its bot
	HearsWord    = "word"    // those that begin with its word
)

// Outgoing is a way out of a room, without its secret.
type Outgoing struct {
	ID           int64
	Room         int64
	BotID        int64
	BotHandle    string
	BotName      string
	Name         string
	URL          string
	Hears        string
	Word         string
	CreatedBy    string
	CreatedAt    time.Time
	Waiting      int64 // changes of the room that it has not looked at
	FailingSince *time.Time
	NextAt       time.Time // when it is tried again, while it fails
	Why          string    // it failed last
	OffAt        *time.Time
}

const outgoingColumns = `h.id, h.room_id, b.id, b.handle, b.name, h.name, h.url, h.hears, h.word, c.name, h.created_at, greatest(r.seq - h.cursor, 0), h.failing_since, h.next_at, h.why, h.off_at`

const outgoingTables = `chat.outgoing h JOIN account.person b ON b.id = h.bot_id JOIN account.person c ON c.id = h.created_by JOIN chat.room r ON r.id = h.room_id`

// OutgoingDraft is an outgoing webhook to be made.
type OutgoingDraft struct {
	Name, URL, Hears, Word string
}

func (d *OutgoingDraft) check() (err error) {
	if d.Name, err = account.Name(d.Name); err != nil {
		return err
	}
	d.URL = strings.TrimSpace(d.URL)
	u, err := url.Parse(d.URL)
	if err != nil || len(d.URL) > 2000 || strings.ContainsRune(d.URL, 0) {
		return fault.New(fault.Invalid, "outside.url")
	}
	if err := outside.CheckURL(u); err != nil {
		return err
	}
	if d.Hears == "" {
		d.Hears = HearsAll
	}
	d.Word = strings.TrimSpace(d.Word)
	switch {
	case !slices.Contains([]string{HearsAll, HearsMention, HearsWord}, d.Hears):
		return fault.New(fault.Invalid, "hook.hears")
	case d.Hears == HearsWord && (d.Word == "" || len(strings.Fields(d.Word)) != 1 || len(d.Word) > 100 || strings.HasPrefix(d.Word, "/") || strings.ContainsRune(d.Word, 0)):
		return fault.New(fault.Invalid, "hook.word")
	case d.Hears != HearsWord:
		d.Word = ""
	}
	return nil
}

// MakeOutgoing makes a way out of a room, and the bot that hears there; it gives the secret with which what is sent is signed, the only time that it is seen.
func (h *Hooks) MakeOutgoing(ctx context.Context, me account.Person, room int64, d OutgoingDraft) (secret string, id int64, err error) {
	if err := d.check(); err != nil {
		return "", 0, err
	}
	var key [24]byte
	_, _ = rand.Read(key[:]) // never fails (crypto/rand documentation)
	secret = "whsec_" + base64.StdEncoding.EncodeToString(key[:])
	facts := account.Facts{"kind": "outgoing", "hears": d.Hears}
	if to, err := url.Parse(d.URL); err == nil {
		facts["host"] = to.Host // the rest may be secret
	}
	err = h.connect(ctx, me, room, "chat.outgoing", d.Name, func(tx pgx.Tx, bot int64) (account.Facts, error) {
		return facts, tx.QueryRow(ctx, `INSERT INTO chat.outgoing (room_id, bot_id, name, url, secret, hears, word, created_by, cursor)
			SELECT $1, $2, $3, $4, $5, $6, $7, $8, seq FROM chat.room WHERE id = $1 RETURNING id`,
			room, bot, d.Name, d.URL, secret, d.Hears, d.Word, me.ID).Scan(&id)
	})
	if err != nil {
		return "", 0, err
	}
	return secret, id, nil
}

// Outgoing lists the ways out of a room; for who may connect it.
func (h *Hooks) Outgoing(ctx context.Context, me account.Person, room int64) ([]Outgoing, error) {
	if err := h.rooms.CanConnect(ctx, me, room); err != nil {
		return nil, err
	}
	return pg.All[Outgoing](ctx, h.db, `SELECT `+outgoingColumns+` FROM `+outgoingTables+` WHERE h.room_id = $1 ORDER BY h.id`, room)
}

// DropOutgoing closes a way out of a room. Its bot leaves the room, and its account is closed.
func (h *Hooks) DropOutgoing(ctx context.Context, me account.Person, room, id int64) error {
	return h.rooms.Connect(ctx, me, room, func(tx pgx.Tx, seats chat.Seats) error {
		found, ok, err := pg.One[gone](ctx, tx, `DELETE FROM chat.outgoing WHERE room_id = $1 AND id = $2 RETURNING bot_id, name, 'outgoing'`, room, id)
		return h.retire(ctx, tx, seats, me, room, found, ok, err)
	})
}

// gone is a hook that was deleted.
type gone struct {
	Bot        int64
	Name, Kind string
}

// retire takes the bot of a hook that was found and deleted out of its room, and closes its account.
func (h *Hooks) retire(ctx context.Context, tx pgx.Tx, seats chat.Seats, me account.Person, room int64, it gone, ok bool, err error) error {
	if err == nil && !ok {
		err = fault.New(fault.NotFound, "hook.no_hook")
	}
	if err == nil {
		err = seats.Exit(it.Bot)
	}
	if err == nil {
		err = account.Note(ctx, tx, me, account.Deed{Action: account.HookDropped, Person: it.Bot, Room: room, Subject: it.Name, Before: account.Facts{"kind": it.Kind}})
	}
	if err != nil {
		return err
	}
	_, err = tx.Exec(ctx, `UPDATE account.person SET disabled_at = now() WHERE id = $1`, it.Bot)
	return pg.Fault(err)
}

// Switch turns a way out off, or on again: then it goes on with what is said from now on.
func (h *Hooks) Switch(ctx context.Context, me account.Person, room, id int64, on bool) error {
	return h.rooms.Connect(ctx, me, room, func(tx pgx.Tx, _ chat.Seats) error {
		it, found, err := pg.One[gone](ctx, tx, `UPDATE chat.outgoing h SET off_at = CASE WHEN $3 THEN NULL ELSE coalesce(off_at, now()) END, tries = 0, next_at = now(), failing_since = NULL, why = '',
			cursor = CASE WHEN $3 AND off_at IS NOT NULL THEN (SELECT seq FROM chat.room WHERE id = $1) ELSE cursor END WHERE room_id = $1 AND id = $2 RETURNING bot_id, name, 'outgoing'`, room, id, on)
		if err == nil && !found {
			err = fault.New(fault.NotFound, "hook.no_hook")
		}
		if err != nil {
			return err
		}
		return account.Note(ctx, tx, me, account.Deed{Action: account.HookSwitched, Person: it.Bot, Room: room, Subject: it.Name, After: account.Facts{"on": on}})
	})
}

// Delivery is what became of a message that was sent.
type Delivery struct {
	Seq    int64 // of the message; 0: a test
	At     time.Time
	Tries  int
	Status int    // of HTTP; 0: nobody answered
	Why    string // ""; it arrived
	Took   int    // milliseconds
}

// keptDeliveries of each way out are known.
const keptDeliveries = 50

// Deliveries lists the newest, newest first.
func (h *Hooks) Deliveries(ctx context.Context, me account.Person, room, id int64) ([]Delivery, error) {
	if err := h.rooms.CanConnect(ctx, me, room); err != nil {
		return nil, err
	}
	return pg.All[Delivery](ctx, h.db, `SELECT d.seq, d.at, d.tries, d.status, d.why, d.took FROM chat.delivery d JOIN chat.outgoing h ON h.id = d.outgoing_id
		WHERE h.room_id = $1 AND h.id = $2 ORDER BY d.at DESC, d.seq DESC LIMIT $3`, room, id, keptDeliveries)
}

// Again sends a message of the room once more, under the id that it had, or with seq 0 a test; and waits for what is answered. The queue is not touched.
func (h *Hooks) Again(ctx context.Context, me account.Person, room, id, seq int64) (Delivery, error) {
	if err := h.rooms.CanConnect(ctx, me, room); err != nil {
		return Delivery{}, err
	}
	if err := h.tests.take(id); err != nil {
		return Delivery{}, err
	}
	w, ok, err := pg.One[exit](ctx, h.db, `SELECT `+exitColumns+` FROM `+exitTables+` WHERE h.room_id = $1 AND h.id = $2`, room, id)
	if err == nil && !ok {
		err = fault.New(fault.NotFound, "hook.no_hook")
	}
	if err != nil {
		return Delivery{}, err
	}
	e := chat.Event{Room: room, At: time.Now(), By: chat.Author{ID: me.ID, Handle: me.Handle, Name: me.Name}}
	if seq != 0 {
		m, err := h.rooms.Message(ctx, w.bot(), room, seq)
		if err != nil {
			return Delivery{}, err
		}
		if m.Deleted {
			return Delivery{}, fault.New(fault.Conflict, "chat.deleted")
		}
		e = chat.Event{Room: room, Seq: seq, At: m.At, By: m.By, Message: &m}
	} else {
		e.Message = &chat.Message{At: e.At, By: e.By, Body: "test"}
	}
	d, _, _ := h.send(ctx, w, e, 1)
	if seq != 0 {
		err = h.note(ctx, h.db, w.ID, d)
	}
	return d, err
}

func (h *Hooks) note(ctx context.Context, q pg.Queryer, id int64, d Delivery) error {
	_, err := q.Exec(ctx, `INSERT INTO chat.delivery (outgoing_id, seq, at, tries, status, why, took) VALUES ($1, $2, now(), $3, $4, $5, $6)
		ON CONFLICT (outgoing_id, seq) DO UPDATE SET at = now(), tries = chat.delivery.tries + 1, status = $4, why = $5, took = $6`, id, d.Seq, d.Tries, d.Status, d.Why, d.Took)
	return pg.Fault(err)
}
