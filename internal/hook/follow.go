package hook

import (
	"bytes"
	"context"
	"encoding/json"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"howdah/internal/account"
	"howdah/internal/chat"
	"howdah/internal/fault"
	"howdah/internal/outside"
	"howdah/internal/pg"
)

// Outgoing webhooks follow their rooms' logs, each from a cursor: what was said is sent in order, one message after the other, and the cursor moves when a message has arrived. A kill
// between the two sends a message again, under the same id.

const (
	lookEvery  = time.Second
	leaseFor   = 2 * time.Minute
	atOnce     = 8                  // addresses are spoken to
	most       = 200                // changes are read in one go
	firstRetry = 10 * time.Second   // then twice as long each time ...
	lastRetry  = time.Hour          // ... up to this
	giveUp     = 3 * 24 * time.Hour // of failing: it is switched off
	ownTries   = 3                  // of one message that the other side calls wrong, before the next one
)

// exit is a way out as its worker has it.
type exit struct {
	ID           int64
	Room         int64
	RoomName     string
	Name         string
	URL          string
	Secret       string
	Hears, Word  string
	Cursor       int64
	Tries        int
	FailingSince *time.Time
	BotID        int64
	BotHandle    string
	BotName      string
	Owner        int64
	OwnerLocale  string
}

const exitColumns = `h.id, h.room_id, r.name, h.name, h.url, h.secret, h.hears, h.word, h.cursor, h.tries, h.failing_since, b.id, b.handle, b.name, o.id, o.locale`

const exitTables = `chat.outgoing h JOIN chat.room r ON r.id = h.room_id JOIN account.person b ON b.id = h.bot_id JOIN account.person o ON o.id = h.created_by`

func (w exit) bot() account.Person {
	return account.Person{ID: w.BotID, Handle: w.BotHandle, Name: w.BotName, Role: account.Guest, Bot: true}
}

// Run sends until ctx ends, and waits for what is under way then.
func (h *Hooks) Run(ctx context.Context) {
	var workers sync.WaitGroup
	defer workers.Wait()
	places := make(chan struct{}, atOnce)
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-look.C:
		case <-h.wake:
		}
		due, err := h.due(ctx)
		if err != nil {
			continue // the database is away: at the next look
		}
		for _, id := range due {
			select {
			case places <- struct{}{}:
			case <-ctx.Done():
				return
			}
			workers.Go(func() {
				defer func() { <-places }()
				_ = h.follow(ctx, id) // what failed is noted with the hook; what could not be noted is done again
			})
		}
	}
}

// due takes the lease of those that have something to send, or to look through.
func (h *Hooks) due(ctx context.Context) ([]int64, error) {
	rows, err := h.db.Query(ctx, `
		UPDATE chat.outgoing SET lease = now() + $1 WHERE id IN (
			SELECT h.id FROM chat.outgoing h JOIN chat.room r ON r.id = h.room_id JOIN account.person b ON b.id = h.bot_id
			WHERE b.disabled_at IS NULL AND h.off_at IS NULL AND r.seq <> h.cursor AND h.next_at <= now() AND (h.lease IS NULL OR h.lease < now())
			ORDER BY h.next_at LIMIT 20 FOR UPDATE OF h SKIP LOCKED) RETURNING id`, leaseFor)
	if err != nil {
		return nil, pg.Fault(err)
	}
	ids, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	return ids, pg.Fault(err)
}

// follow sends what has been said since the cursor, for about as long as its lease holds.
func (h *Hooks) follow(ctx context.Context, id int64) error {
	began := time.Now()
	defer func() {
		late, done := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer done()
		_, _ = h.db.Exec(late, `UPDATE chat.outgoing SET lease = NULL WHERE id = $1`, id) // else it ends by itself
	}()
	w, ok, err := pg.One[exit](ctx, h.db, `SELECT `+exitColumns+` FROM `+exitTables+` WHERE h.id = $1 AND h.off_at IS NULL`, id)
	if err != nil || !ok {
		return err
	}
	events, err := h.rooms.Since(ctx, w.bot(), w.Room, w.Cursor, most)
	if fault.HasKey(err, "chat.no_room") { // it was taken out of the room: what is said there is not for it
		return h.moveTo(ctx, w, 0)
	}
	if err == nil && len(events) == 0 { // after a restore, the room may be shorter than what was sent
		_, err = h.db.Exec(ctx, `UPDATE chat.outgoing h SET cursor = r.seq FROM chat.room r WHERE h.id = $1 AND r.id = h.room_id AND r.seq < h.cursor`, w.ID)
		return pg.Fault(err)
	}
	if err != nil {
		return err
	}
	for _, e := range events {
		if !w.hears(e) {
			w.Cursor = e.Seq
			continue
		}
		d, answer, err := h.send(ctx, w, e, w.Tries+1)
		if ctx.Err() != nil {
			return ctx.Err() // it may have arrived: it is sent again
		}
		if err != nil {
			own := d.Status == http.StatusBadRequest || d.Status == http.StatusRequestEntityTooLarge || d.Status == http.StatusUnprocessableEntity
			if !own || d.Tries < ownTries {
				return h.failed(ctx, w, d, err, answer)
			}
		} else if err := h.reply(ctx, w, e, answer); err != nil {
			return err // the database is away: message and answer are asked for again
		}
		if err := h.arrived(ctx, w, e.Seq, d, err == nil); err != nil {
			return err
		}
		w.Cursor, w.Tries, w.FailingSince = e.Seq, 0, nil
		if time.Since(began) > leaseFor/2 {
			return nil
		}
	}
	if err := h.moveTo(ctx, w, w.Cursor); err != nil {
		return err
	}
	if len(events) == most {
		h.nudge()
	}
	return nil
}

// moveTo moves the cursor past what is not to be sent; 0: to the room's end.
func (h *Hooks) moveTo(ctx context.Context, w exit, seq int64) error {
	_, err := h.db.Exec(ctx, `UPDATE chat.outgoing h SET cursor = CASE WHEN $2 = 0 THEN r.seq ELSE $2 END FROM chat.room r WHERE h.id = $1 AND r.id = h.room_id`, w.ID, seq)
	return pg.Fault(err)
}

// arrived notes a message that was taken, or that is left because the other side will not have it.
func (h *Hooks) arrived(ctx context.Context, w exit, seq int64, d Delivery, well bool) error {
	return h.db.InTx(ctx, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `UPDATE chat.outgoing SET cursor = $2, tries = 0, next_at = now(), failing_since = CASE WHEN $3 THEN NULL ELSE failing_since END, why = $4 WHERE id = $1`, w.ID, seq, well, d.Why); err != nil {
			return err
		}
		if err := h.note(ctx, tx, w.ID, d); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, `DELETE FROM chat.delivery WHERE outgoing_id = $1 AND seq <= (SELECT seq FROM chat.delivery WHERE outgoing_id = $1 ORDER BY seq DESC OFFSET $2 LIMIT 1)`, w.ID, keptDeliveries)
		return err
	})
}

// failed notes that a message has not arrived, and when it is tried again; after days of that, the way is switched off, and the house says so to who made it.
func (h *Hooks) failed(ctx context.Context, w exit, d Delivery, why error, a outside.Answer) error {
	wait := min(firstRetry<<min(d.Tries-1, 12), lastRetry)
	wait = wait/2 + rand.N(wait)
	if asked := outside.RetryAfter(a.Header.Get("Retry-After"), time.Now()); asked > wait {
		wait = asked
	}
	off := a.Status == http.StatusGone || w.FailingSince != nil && time.Since(*w.FailingSince) > giveUp
	return h.db.InTx(ctx, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `UPDATE chat.outgoing SET cursor = $2, tries = $3, next_at = now() + $4, failing_since = coalesce(failing_since, now()), why = $5, off_at = CASE WHEN $6 THEN now() END
			WHERE id = $1 AND off_at IS NULL`, w.ID, w.Cursor, d.Tries, wait, d.Why, off); err != nil {
			return err
		}
		if err := h.note(ctx, tx, w.ID, d); err != nil || !off {
			return err
		}
		text := h.options.Off(w.OwnerLocale, w.Name, w.RoomName, why)
		_, err := tx.Exec(ctx, `INSERT INTO chat.reminder (person_id, client_id, at, body, about) VALUES ($1, $2, now(), $3, $4) ON CONFLICT DO NOTHING`,
			w.Owner, chat.IDOf("outgoing", digest(w.ID, w.Cursor, "off")), text, w.Name)
		return err
	})
}

// hears tells whether a change of the room is for it: something that a person has said. What bots say is for none, or two of them would never end.
func (w exit) hears(e chat.Event) bool {
	m := e.Message
	if e.Kind != chat.Posted || m == nil || m.Deleted || e.By.Bot || m.Alert != nil || m.Way != nil {
		return false
	}
	switch w.Hears {
	case HearsMention:
		for _, handle := range m.Mentions {
			if handle == w.BotHandle {
				return true
			}
		}
		return false
	case HearsWord:
		first := strings.Fields(m.Body)
		return len(first) > 0 && strings.EqualFold(first[0], w.Word)
	}
	return true
}

// message is what is sent: with the fields that Slack and Mattermost send beside our own.
type message struct {
	ID          string    `json:"id"` // the same, whenever it is sent again
	Hook        string    `json:"hook"`
	Test        bool      `json:"test,omitempty"`
	Room        roomIn    `json:"room"`
	Message     messageIn `json:"message"`
	Text        string    `json:"text"`
	UserID      string    `json:"user_id"`
	UserName    string    `json:"user_name"`
	ChannelID   string    `json:"channel_id"`
	ChannelName string    `json:"channel_name"`
	Timestamp   int64     `json:"timestamp"`
	TriggerWord string    `json:"trigger_word,omitempty"`
}

type roomIn struct {
	ID   int64  `json:"id"`
	Name string `json:"name"`
}

type messageIn struct {
	Seq      int64     `json:"seq"`
	At       time.Time `json:"at"`
	By       personIn  `json:"by"`
	Body     string    `json:"body"`
	Mentions []string  `json:"mentions,omitempty"`
	Thread   int64     `json:"thread,omitempty"`
}

type personIn struct {
	ID     int64  `json:"id"`
	Handle string `json:"handle"`
	Name   string `json:"name"`
}

// send sends a message once. The delivery says what became of it, in words for people.
func (h *Hooks) send(ctx context.Context, w exit, e chat.Event, try int) (Delivery, outside.Answer, error) {
	d := Delivery{Seq: e.Seq, At: time.Now(), Tries: try}
	id := strconv.FormatInt(w.ID, 10) + "." + strconv.FormatInt(e.Seq, 10)
	body, err := json.Marshal(message{ID: id, Hook: w.Name, Test: e.Seq == 0, Room: roomIn{w.Room, w.RoomName},
		Message: messageIn{e.Seq, e.At.UTC(), personIn{e.By.ID, e.By.Handle, e.By.Name}, e.Message.Body, e.Message.Mentions, e.Message.Thread},
		Text:    e.Message.Body, UserID: strconv.FormatInt(e.By.ID, 10), UserName: e.By.Handle, ChannelID: strconv.FormatInt(w.Room, 10), ChannelName: w.RoomName,
		Timestamp: e.At.Unix(), TriggerWord: w.Word})
	if err != nil {
		return d, outside.Answer{}, err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, w.URL, bytes.NewReader(body))
	if err != nil {
		err = fault.New(fault.Invalid, "outside.url") // its cause holds the address
		d.Why = h.options.Why(w.OwnerLocale, err)
		return d, outside.Answer{}, err
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("User-Agent", "howdah")
	key, err := outside.Key(w.Secret)
	if err != nil {
		return d, outside.Answer{}, err
	}
	outside.Sign(request.Header, key, id, d.At, body)
	a, err := h.client.Do(request)
	d.Took, d.Status = int(time.Since(d.At).Milliseconds()), a.Status
	if err == nil && (a.Status < 200 || a.Status > 299) {
		err = fault.New(fault.Unavailable, "hook.status", fault.Args{"status": a.Status})
	}
	if err != nil {
		d.Why = h.options.Why(w.OwnerLocale, err)
	}
	return d, a, err
}

// reply says what was answered to a message, as the bot: Slack's payload, in the thread of the message or, with "response_type": "comment", in one that begins with it. What is no such
// payload is no reply, and what the room will not have is left.
func (h *Hooks) reply(ctx context.Context, w exit, e chat.Event, a outside.Answer) error {
	if a.More || !strings.HasPrefix(a.Header.Get("Content-Type"), "application/json") {
		return nil
	}
	var p struct {
		slackPayload
		ResponseType string `json:"response_type"`
	}
	if decode(a.Body, &p) != nil {
		return nil
	}
	text, err := p.markdown()
	if err != nil {
		return nil
	}
	draft := chat.Draft{Room: w.Room, ClientID: chat.IDOf("outgoing", digest(w.ID, e.Seq)), Body: bounded(text, chat.MaxBody), Thread: e.Message.Thread}
	if p.ResponseType == "comment" && draft.Thread == 0 {
		draft.Thread = e.Seq
	}
	if _, err = h.rooms.Post(ctx, w.bot(), draft); fault.Is(err, fault.Unavailable) {
		return err
	}
	return nil
}

func (h *Hooks) nudge() {
	select {
	case h.wake <- struct{}{}:
	default:
	}
}
