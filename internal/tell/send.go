package tell

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"howdah/internal/account"
	"howdah/internal/chat"
	"howdah/internal/fault"
	"howdah/internal/lang"
	"howdah/internal/pg"
	"howdah/internal/push"
)

// What a browser is sent at most.
const (
	perClaim  = 32
	lease     = 2 * time.Minute // after which somebody else tries what was claimed: we were killed
	perHour   = 60              // pushes to a device; what is more is told in the next hour, as far as it is unread then
	stale     = 12 * time.Hour  // after which a message is not pushed any more
	mostTries = 12
	mostWords = 500 // bytes of a message's words
)

// claimed is a push that is due, with all that decides about it as it is now.
type claimed struct {
	Device, Room, Thread, Seq int64
	Tries                     int
	Person                    int64
	Endpoint                  string
	Key, Auth                 []byte
	Locale                    string
	Spent                     bool // the device's hour is full
	House                     account.Role
	Role                      account.Role // in the room; None: not in it any more
	Kind                      chat.Kind
	Name                      string
	Bell                      chat.Bell
	By                        string
	Body                      string
	At                        time.Time
	Stands                    bool // the message does, and is unread
	Count                     int  // of what calls them in the whole house: rooms with something unread that was to be told
}

// send tries what is due, and tells whether there may be more.
func (t *Teller) send(ctx context.Context) (more bool, err error) {
	due, err := pg.All[claimed](ctx, t.db, `
		WITH due AS (
			SELECT device_id, room_id, thread FROM chat.push WHERE due_at <= now() ORDER BY due_at LIMIT $1 FOR UPDATE SKIP LOCKED
		), p AS (
			UPDATE chat.push p SET due_at = now() + $2::interval, tries = tries + 1 FROM due WHERE (p.device_id, p.room_id, p.thread) = (due.device_id, due.room_id, due.thread) RETURNING p.*
		)
		SELECT p.device_id, p.room_id, p.thread, p.seq, p.tries, d.person_id, d.endpoint, d.key, d.auth, coalesce(nullif(a.locale, ''), d.locale),
		       d.hour_sent >= $3 AND d.hour_at > now() - interval '1 hour', a.role, coalesce(m.role, ''), r.kind, r.name, coalesce(m.bell, ''), coalesce(b.name, ''), coalesce(x.body, ''), coalesce(x.at, now()),
		       coalesce(x.deleted_at IS NULL AND x.author_id <> d.person_id AND a.disabled_at IS NULL AND (m.mute_until IS NULL OR m.mute_until <= now())
		           AND x.seq > CASE WHEN p.thread = 0 THEN coalesce(m.read_seq, 0) ELSE coalesce(f.read_seq, 0) END AND f.silent IS NOT TRUE AND (f.mute_until IS NULL OR f.mute_until <= now()), false),
		       (SELECT count(DISTINCT o.room_id)::int FROM chat.push o JOIN chat.member i ON i.room_id = o.room_id AND i.person_id = d.person_id WHERE o.device_id = d.id AND o.seq > i.read_seq)
		FROM p JOIN chat.device d ON d.id = p.device_id JOIN account.person a ON a.id = d.person_id JOIN chat.room r ON r.id = p.room_id
		LEFT JOIN chat.message x ON x.room_id = p.room_id AND x.seq = p.seq LEFT JOIN account.person b ON b.id = x.author_id
		LEFT JOIN chat.member m ON m.room_id = p.room_id AND m.person_id = d.person_id
		LEFT JOIN chat.follow f ON p.thread <> 0 AND f.room_id = p.room_id AND f.thread = p.thread AND f.person_id = d.person_id`, perClaim, lease, perHour)
	if err != nil || len(due) == 0 {
		return false, err
	}
	key, err := t.key(ctx)
	if err != nil {
		return false, err
	}
	sender := push.NewSender(t.options.Outside, key, t.options.Contact)
	mine := map[int64][]claimed{} // one at a time for each device
	for _, one := range due {
		mine[one.Device] = append(mine[one.Device], one)
	}
	var all sync.WaitGroup
	errs := make(chan error, len(due))
	for _, list := range mine {
		all.Go(func() {
			for _, one := range list {
				errs <- t.sendOne(ctx, sender, one)
			}
		})
	}
	all.Wait()
	close(errs)
	for one := range errs {
		if err == nil {
			err = one
		}
	}
	return len(due) == perClaim, err
}

// sendOne sends one, or says what else becomes of it.
func (t *Teller) sendOne(ctx context.Context, sender *push.Sender, one claimed) error {
	s, err := settings(ctx, t.db, one.Person)
	if err != nil {
		return err
	}
	_, silent := s.SilentUntil(time.Now())
	bell := one.Bell
	if bell == chat.BellUnset && one.Kind != chat.Direct && one.Kind != chat.Ops {
		bell = s.Bell
	}
	switch {
	case !one.Stands || silent || bell == chat.BellNothing || time.Since(one.At) > stale || one.Tries > mostTries,
		!chat.May(chat.Read, chat.Standing{House: one.House, Kind: one.Kind, Room: one.Role}) || one.Role == account.None,
		t.rooms.Attentive(one.Person): // who sits before a page sees it there
		return t.settle(ctx, one, `due_at = NULL`)
	case one.Spent:
		return t.settle(ctx, one, `due_at = (SELECT hour_at + interval '1 hour' FROM chat.device WHERE id = $1), tries = 0`)
	}
	err = sender.Send(ctx, push.Subscription{Endpoint: one.Endpoint, Key: one.Key, Auth: one.Auth},
		push.Message{Body: compose(one, s), Keep: stale, Topic: topic(one), Urgent: true})
	switch {
	case err == nil:
		// What came meanwhile is told after a pause.
		if err := t.settle(ctx, one, `told_seq = $4, told_at = now(), tries = 0, due_at = CASE WHEN seq <> $4 THEN now() + $5::interval END`, one.Seq, t.options.Pause); err != nil {
			return err
		}
		_, err = t.db.Exec(ctx, `UPDATE chat.device SET refused = 0, hour_sent = CASE WHEN hour_at > now() - interval '1 hour' THEN hour_sent + 1 ELSE 1 END,
			hour_at = CASE WHEN hour_at > now() - interval '1 hour' THEN hour_at ELSE now() END WHERE id = $1`, one.Device)
		return pg.Fault(err)
	case ctx.Err() != nil:
		return nil // when we are back it is due again
	case fault.HasKey(err, "push.gone"):
		_, err = t.db.Exec(ctx, `DELETE FROM chat.device WHERE id = $1`, one.Device)
		return pg.Fault(err)
	case fault.Is(err, fault.Unavailable):
		wait := min(time.Duration(1<<min(one.Tries, 12))*t.options.Retry, time.Hour)
		if seconds, ok := fault.Of(err).Args["seconds"].(int); ok && fault.HasKey(err, "push.later") {
			wait = max(wait, time.Duration(seconds)*time.Second)
		}
		return t.settle(ctx, one, `due_at = now() + $4::interval`, wait)
	}
	// Refused for good: one that is refused again and again is none of ours any more.
	if err := t.settle(ctx, one, `due_at = NULL`); err != nil {
		return err
	}
	_, err = t.db.Exec(ctx, `WITH gone AS (DELETE FROM chat.device WHERE id = $1 AND refused >= 9) UPDATE chat.device SET refused = refused + 1 WHERE id = $1 AND refused < 9`, one.Device)
	return pg.Fault(err)
}

// settle says what becomes of a claimed push.
func (t *Teller) settle(ctx context.Context, one claimed, set string, args ...any) error {
	_, err := t.db.Exec(ctx, `UPDATE chat.push SET `+set+` WHERE device_id = $1 AND room_id = $2 AND thread = $3`, append([]any{one.Device, one.Room, one.Thread}, args...)...)
	return pg.Fault(err)
}

// topic names what a newer push takes the place of at the push service, in at most 32 characters.
func topic(one claimed) string {
	return strconv.FormatInt(one.Room, 36) + "-" + strconv.FormatInt(one.Thread, 36)
}

// told is what a browser's worker (sw.js) gets.
type told struct {
	Title  string `json:"title"`
	Body   string `json:"body"`
	Tag    string `json:"tag"` // as told.js has it: the newest of a room takes the place of those before
	URL    string `json:"url"`
	Room   int64  `json:"room"`
	Thread int64  `json:"thread"`
	Seq    int64  `json:"seq"`
	Person int64  `json:"person"`
	Lang   string `json:"lang"`
	Count  int    `json:"count"`
}

func compose(one claimed, s Settings) []byte {
	locale := lang.Match(one.Locale)
	out := told{Room: one.Room, Thread: one.Thread, Seq: one.Seq, Person: one.Person, Lang: string(locale), Count: one.Count, Tag: fmt.Sprint("room-", one.Room), Title: one.By,
		URL: fmt.Sprintf("/room/%d?at=%d#m%d", one.Room, one.Seq, one.Seq)}
	if one.Kind != chat.Direct {
		out.Title = locale.T("web.js.told.title", fault.Args{"name": one.By, "room": one.Name})
	}
	if one.Thread != 0 {
		out.Tag, out.URL = fmt.Sprintf("room-%d-%d", one.Room, one.Thread), fmt.Sprintf("/room/%d?thread=%d&at=%d#t%d", one.Room, one.Thread, one.Seq, one.Seq)
		if one.Kind != chat.Direct {
			out.Title = locale.T("web.js.told.thread", fault.Args{"name": one.By, "room": one.Name})
		}
	}
	out.Body = locale.T("web.js.told.hidden")
	if !s.Hide {
		out.Body = clip(strings.Join(strings.Fields(one.Body), " "), mostWords)
	}
	raw, err := json.Marshal(out)
	if err != nil || len(raw) > push.MostBody { // names are bounded, so this is what escaping makes of a hostile one
		out.Title, out.Body = locale.T("web.js.told.hidden"), ""
		raw, _ = json.Marshal(out)
	}
	return raw
}

// clip shortens a text to so many bytes.
func clip(s string, most int) string {
	if len(s) <= most {
		return s
	}
	cut := most - len("…")
	for cut > 0 && !utf8.RuneStart(s[cut]) {
		cut--
	}
	return s[:cut] + "…"
}
