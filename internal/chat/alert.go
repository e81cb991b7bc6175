package chat

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"howdah/internal/account"
	"howdah/internal/fault"
	"howdah/internal/pg"
)

// Alert is what a message of the house tells of: an incident of the watch, and what those who run the house answered. It is kept beside the message's words, so
// that a page knows what can be answered.
type Alert struct {
	Incident string      `json:"incident"` // its name
	Part     int         `json:"part"`     // an incident that grew louder after it was answered is told again: the number of this telling, from 1
	Severity string      `json:"severity"`
	Level    int         `json:"level"`            // the severity as a number: more is graver
	Critical bool        `json:"critical"`         // nobody closes it by saying that it was they
	Rules    []AlertRule `json:"rules"`            // that spoke
	Things   int         `json:"things,omitempty"` // how many different things they found
	Cover    *Cover      `json:"cover,omitempty"`
	Back     bool        `json:"back,omitempty"` // something was lost, and there is a way back to before it

	State   State    `json:"state"`
	Answers []Answer `json:"answers,omitempty"` // oldest first, the last of them: the room's log has all
}

// UnmarshalJSON takes what stands in a row. Whoever can write rows can put there what is no alert: that is one of which nothing is known, and open, so that it keeps neither the room
// from being read nor the house from telling there how it stands.
func (a *Alert) UnmarshalJSON(raw []byte) error {
	type alert Alert
	var read alert
	if json.Unmarshal(raw, &read) != nil {
		read = alert{State: AlertOpen}
	}
	*a = Alert(read)
	return nil
}

// AlertRule is a rule of the watch in the words of its file: language -> a few words.
type AlertRule struct {
	ID    string            `json:"id"`
	Title map[string]string `json:"title"`
	Loud  bool              `json:"loud,omitempty"` // what it found is never muted
}

// Cover is what "always fine from this source" would mute, and nothing else.
type Cover struct {
	Actor   string `json:"actor"`
	Network string `json:"network"`
	Acts    []Act  `json:"acts"`
}

// Act is what a rule found: a kind of event, by an application.
type Act struct {
	Rule string `json:"rule"`
	Kind string `json:"kind"`
	App  string `json:"app"`
}

// ID names a cover: whoever confirms one says which they saw, since an incident may have grown meanwhile.
func (c *Cover) ID() string {
	raw, err := json.Marshal(c)
	if c == nil || err != nil {
		return ""
	}
	sum := sha256.Sum256(raw)
	return hex.EncodeToString(sum[:8])
}

// stored is the alert as PostgreSQL keeps it; what a log held of zero bytes it does not take.
func (a *Alert) stored() *string {
	if a == nil {
		return nil
	}
	raw, err := json.Marshal(a)
	if err != nil { // there is nothing in it that could not be written
		return nil
	}
	text := strings.ReplaceAll(string(raw), `\u0000`, `\ufffd`)
	return &text
}

// State is how an alert stands.
type State string

// The states. An alert that was told again is open again.
const (
	AlertOpen    State = "open"
	Acknowledged State = "acknowledged"
	Mine         State = "mine"
	Muted        State = "muted"
)

// Reopened is what else can be answered beside Acknowledged, Mine and Muted.
const Reopened State = "reopened"

// Answer is what somebody answered.
type Answer struct {
	By    Author     `json:"by"`
	What  State      `json:"what"` // Acknowledged, Mine, Muted, Reopened
	At    time.Time  `json:"at"`
	Until *time.Time `json:"until,omitempty"` // of a mute
	Note  string     `json:"note,omitempty"`
}

const (
	mostAnswers = 20 // that stand in a message
	maxNote     = 200
)

// MuteDays are how long a mute may last.
var MuteDays = []int{1, 7, 30}

// Take brings an alert to how it stands after an answer. What somebody says of a critical act proves nothing: whoever has their account says the same. So
// "this was me" stands there for all to see, and the alert stays open until somebody acknowledges it.
func (a *Alert) Take(answer Answer) {
	a.Answers = append(a.Answers, answer)
	a.Answers = a.Answers[max(0, len(a.Answers)-mostAnswers):]
	switch answer.What {
	case Mine:
		if a.State == AlertOpen && !a.Critical {
			a.State = Mine
		}
	case Acknowledged:
		if a.State != Muted {
			a.State = Acknowledged
		}
	case Muted:
		a.State = Muted
	case Reopened:
		a.State = AlertOpen
	}
}

// louder tells whether there is something to hear that was not there when old was answered.
func (a *Alert) louder(old *Alert) bool {
	return a.Level > old.Level || a.Things > old.Things && old.Things > 0 || slices.ContainsFunc(a.Rules, func(r AlertRule) bool {
		return !slices.ContainsFunc(old.Rules, func(o AlertRule) bool { return o.ID == r.ID })
	})
}

// Alert is Announce for an incident: the page lets those who run the house answer. Where this part of it was answered and it has grown louder since, nothing is
// changed and answered is true: it is to be told again, as the next part.
func (r *Rooms) Alert(ctx context.Context, topic, text string, about Alert) (heard, answered bool, err error) {
	about.State = AlertOpen
	return r.announce(ctx, topic, "", text, &about)
}

// Alerts are the newest messages of #ops about each of some incidents, for who may answer them there; of the others nothing is said. The room is 0 where there is none.
func (r *Rooms) Alerts(ctx context.Context, me account.Person, incidents []string) (room int64, about map[string]Message, err error) {
	type row struct{ ID int64 }
	ops, found, err := pg.One[row](ctx, r.db, `SELECT id FROM chat.room WHERE kind = 'ops'`)
	if err != nil || !found {
		return 0, nil, err
	}
	if err := r.may(ctx, r.db, Respond, me, ops.ID); err != nil {
		if fault.Is(err, fault.NotFound) || fault.Is(err, fault.Forbidden) {
			return 0, nil, nil
		}
		return 0, nil, err
	}
	told, err := messages(ctx, r.db, `x.room_id = $1 AND x.alert IS NOT NULL AND x.alert->>'incident' = ANY ($2) ORDER BY x.seq`, ops.ID, incidents)
	if err != nil {
		return 0, nil, err
	}
	about = make(map[string]Message, len(told))
	for _, m := range told {
		if m.Alert != nil && !m.Deleted {
			about[m.Alert.Incident] = m
		}
	}
	return ops.ID, about, nil
}

// AnswerDraft is an answer as it comes from a client.
type AnswerDraft struct {
	Room, Seq int64 // the message
	ClientID  string
	What      State
	Days      int    // of a mute
	Cover     string // of a mute: the ID of the Cover that was shown
	Note      string
}

// AnswerRecord is an answer as the room's log has it, so that it can be written down elsewhere, and brought back from there.
type AnswerRecord struct {
	Seq      int64  // in the room's log
	ID       string // the client's
	Incident string
	Part     int
	Answer
	Cover *Cover // of a mute
}

// Answer says what me has to say of an alert: of this part of it and those before. A retry with the same client id changes nothing more.
func (r *Rooms) Answer(ctx context.Context, me account.Person, d AnswerDraft) (Receipt, error) {
	id, err := clientID(d.ClientID)
	if err != nil {
		return Receipt{}, err
	}
	note, err := cleanLine(d.Note, maxNote)
	if err != nil {
		return Receipt{}, err
	}
	switch d.What {
	case Acknowledged, Mine, Reopened:
	case Muted:
		if !slices.Contains(MuteDays, d.Days) {
			return Receipt{}, fault.New(fault.Invalid, "chat.mute_days")
		}
	default:
		return Receipt{}, fault.New(fault.Invalid, "chat.answer")
	}
	return r.respond(ctx, me, d.Room, d.Seq, id, func(tx pgx.Tx, m *Message, at time.Time) (int64, time.Time, error) {
		if m == nil || m.Alert == nil {
			return 0, at, fault.New(fault.NotFound, "chat.no_alert")
		}
		alert := m.Alert
		answer := AnswerRecord{ID: d.ClientID, Incident: alert.Incident, Part: alert.Part, Answer: Answer{By: author(me), What: d.What, Note: note, At: at}}
		switch d.What {
		case Muted:
			if alert.Cover == nil {
				return 0, at, fault.New(fault.Conflict, "chat.never_muted")
			}
			if d.Cover != alert.Cover.ID() {
				return 0, at, fault.New(fault.Conflict, "chat.alert_grew")
			}
			until := at.AddDate(0, 0, d.Days)
			answer.Until, answer.Cover = &until, alert.Cover
		case Reopened:
			if len(alert.Answers) == 0 {
				return 0, at, fault.New(fault.Conflict, "chat.not_answered")
			}
		}
		return answer.apply(ctx, tx, d.Room, author(me), d.Seq)
	})
}

// respond lets who may respond do something about a message of a room, under the room's lock, and once: a retry with the same client id gives what came of the first time. do gets the message (nil: there is
// none) and the time, and gives the seq and the time of the change that it wrote.
func (r *Rooms) respond(ctx context.Context, me account.Person, room, seq int64, client pgtype.UUID, do func(tx pgx.Tx, m *Message, at time.Time) (int64, time.Time, error)) (out Receipt, err error) {
	err = r.db.InTx(ctx, func(tx pgx.Tx) error {
		s, err := place(ctx, tx, me, room, true)
		if err != nil {
			return err
		}
		if err := s.require(Respond); err != nil {
			return err
		}
		before, again, err := pg.One[Receipt](ctx, tx, `SELECT seq, at FROM chat.change WHERE room_id = $1 AND actor_id = $2 AND client_id = $3`, room, me.ID, client)
		if err != nil || again {
			out = before
			return err
		}
		found, err := messages(ctx, tx, `x.room_id = $1 AND x.seq = $2`, room, seq)
		if err != nil {
			return err
		}
		var m *Message
		if len(found) > 0 {
			m = &found[0]
		}
		var at time.Time
		if err := tx.QueryRow(ctx, `SELECT clock_timestamp()`).Scan(&at); err != nil {
			return pg.Fault(err)
		}
		out.Seq, out.At, err = do(tx, m, at.UTC())
		return err
	})
	r.suspect(err)
	if err == nil {
		r.live.tick(room)
	}
	return out, err
}

// apply writes an answer to its alert's messages up to its part, and into the log: with its own words at seq (0: the newest of them), and as something that
// follows from it at the others. It gives the seq and time of the former; 0 when there is no such message. The caller holds the room's lock.
func (a *AnswerRecord) apply(ctx context.Context, tx pgx.Tx, room int64, actor Author, at int64) (seq int64, when time.Time, err error) {
	told, err := messages(ctx, tx, `x.room_id = $1 AND x.alert->>'incident' = $2 AND x.alert->'part' <= to_jsonb($3::int) ORDER BY x.seq DESC LIMIT 100`, room, a.Incident, a.Part)
	if err != nil {
		return 0, time.Time{}, err
	}
	for i, m := range told {
		own := m.Seq == at || at == 0 && i == 0
		follows := AlertOpen
		if a.What == Reopened {
			follows = Muted
		}
		if !own && m.Alert.State != follows {
			continue // what is closed was closed by its own answer; but the mute that ends was of all of them
		}
		m.Alert.Take(a.Answer)
		if _, err := tx.Exec(ctx, `UPDATE chat.message SET alert = $3 WHERE room_id = $1 AND seq = $2`, room, m.Seq, m.Alert.stored()); err != nil {
			return 0, time.Time{}, pg.Fault(err)
		}
		c := change{kind: Answered, by: actor, message: &m.Seq, detail: map[string]any{"with": at}}
		if own {
			if c.client, err = clientID(a.ID); err != nil {
				return 0, time.Time{}, err
			}
			c.detail = map[string]any{"incident": a.Incident, "part": a.Part, "answer": a.Answer, "cover": a.Cover}
		}
		n, now, err := record(ctx, tx, room, c)
		if err != nil {
			return 0, time.Time{}, err
		}
		if own {
			seq, when = n, now
		}
	}
	return seq, when, nil
}

// Answers are what was answered after seq of the log of #ops, oldest first, at most limit. more is false when these are all that there are; seq is then where the log
// ended before they were read, else that of the last of them. A house that is not set up has none.
func (r *Rooms) Answers(ctx context.Context, after int64, limit int) (answers []AnswerRecord, seq int64, more bool, err error) {
	type row struct{ ID, Seq int64 }
	ops, found, err := pg.One[row](ctx, r.db, `SELECT id, seq FROM chat.room WHERE kind = 'ops'`)
	if err != nil || !found || ops.Seq <= after {
		return nil, ops.Seq, false, err
	}
	type change struct {
		Seq    int64
		ID     string
		Detail []byte
	}
	changes, err := pg.All[change](ctx, r.db, `SELECT seq, client_id::text, detail FROM chat.change
		WHERE room_id = $1 AND seq > $2 AND seq <= $3 AND kind = 'answer' AND client_id IS NOT NULL ORDER BY seq LIMIT $4`, ops.ID, after, ops.Seq, limit)
	if err != nil {
		return nil, 0, false, err
	}
	for _, c := range changes {
		a := AnswerRecord{Seq: c.Seq, ID: c.ID}
		var detail struct {
			Incident string
			Part     int
			Answer   Answer
			Cover    *Cover
		}
		if json.Unmarshal(c.Detail, &detail) != nil {
			continue // the house wrote no such row, and those behind it are to be heard
		}
		a.Incident, a.Part, a.Answer, a.Cover = detail.Incident, detail.Part, detail.Answer, detail.Cover
		answers = append(answers, a)
	}
	if len(changes) == limit {
		return answers, changes[limit-1].Seq, true, nil
	}
	return answers, ops.Seq, false, nil
}

// Reanswer brings answers back that a database has forgotten, because it went back to before them. Those that it has, and those to what was never told in it, are left.
func (r *Rooms) Reanswer(ctx context.Context, answers []AnswerRecord) error {
	if len(answers) == 0 {
		return nil
	}
	var room int64
	err := r.db.InTx(ctx, func(tx pgx.Tx) error {
		house, err := account.HouseIn(ctx, tx)
		if err != nil {
			return err
		}
		type row struct{ ID int64 }
		ops, found, err := pg.One[row](ctx, tx, `SELECT id FROM chat.room WHERE kind = 'ops' FOR NO KEY UPDATE`)
		if err != nil || !found {
			return err
		}
		room = ops.ID
		for _, a := range answers {
			if _, err := clientID(a.ID); err != nil {
				continue // it is none of ours
			}
			_, known, err := pg.One[row](ctx, tx, `SELECT seq FROM chat.change WHERE room_id = $1 AND client_id = $2 AND kind = 'answer'`, ops.ID, a.ID)
			if err != nil {
				return err
			}
			if known {
				continue
			}
			actor, found, err := pg.One[Author](ctx, tx, `SELECT id, handle, name FROM account.person WHERE handle = $1`, a.By.Handle)
			if err != nil {
				return err
			}
			if !found { // who came later than the moment to which it went back
				actor = author(house)
			}
			if _, _, err := a.apply(ctx, tx, ops.ID, actor, 0); err != nil {
				return err
			}
		}
		return nil
	})
	r.suspect(err)
	if err == nil && room != 0 {
		r.live.tick(room)
	}
	return err
}

// announce is what Announce and Alert have in common.
func (r *Rooms) announce(ctx context.Context, topic, key, text string, about *Alert) (heard, answered bool, err error) {
	text = sayable(text)
	if about != nil {
		key = fmt.Sprintf("incident %s, message %d", about.Incident, about.Part)
	}
	var room int64
	var moved []int64
	err = r.db.InTx(ctx, func(tx pgx.Tx) error {
		heard, answered, room = false, false, 0
		var owned bool
		if err := tx.QueryRow(ctx, `SELECT EXISTS (SELECT FROM account.person WHERE role = 'owner')`).Scan(&owned); err != nil || !owned {
			return err
		}
		var house account.Person
		var err error
		if room, house, moved, err = OpsIn(ctx, tx, topic); err != nil {
			return err
		}
		heard = true
		said, found, err := pg.One[struct{ Seq int64 }](ctx, tx, `SELECT seq FROM chat.message WHERE room_id = $1 AND author_id = $2 AND client_id = $3`, room, house.ID, idOf(key))
		if err != nil {
			return err
		}
		if !found {
			_, err := tx.Exec(ctx, `
				WITH room AS (UPDATE chat.room SET seq = seq + 1 WHERE id = $1 RETURNING seq)
				INSERT INTO chat.message (room_id, seq, author_id, client_id, at, body, alert) SELECT $1, seq, $2, $3, clock_timestamp(), $4, $5 FROM room`,
				room, house.ID, idOf(key), text, about.stored())
			return pg.Fault(err)
		}
		now, err := messages(ctx, tx, `x.room_id = $1 AND x.seq = $2`, room, said.Seq)
		if err != nil || len(now) == 0 || now[0].Deleted {
			return err
		}
		if old := now[0].Alert; about != nil && old != nil {
			if answered = old.State != AlertOpen && about.louder(old); answered {
				return nil
			}
			about.State, about.Answers = old.State, old.Answers
		}
		if now[0].Body == text && reflect.DeepEqual(now[0].Alert.stored(), about.stored()) {
			return nil
		}
		if _, err := tx.Exec(ctx, `UPDATE chat.message SET body = $3, alert = $4, edited_at = clock_timestamp() WHERE room_id = $1 AND seq = $2`,
			room, said.Seq, text, about.stored()); err != nil {
			return pg.Fault(err)
		}
		_, _, err = record(ctx, tx, room, change{kind: Edited, by: author(house), message: &said.Seq, detail: map[string]any{"before": now[0].Body}})
		return err
	})
	r.suspect(err)
	if err == nil && room != 0 {
		r.live.tick(room)
		for _, person := range moved {
			r.live.tickPerson(person)
		}
	}
	return heard, answered, err
}

// sayable is a text as the house can say it, whatever a log held: PostgreSQL stores it, and it is not too long.
func sayable(text string) string {
	text = strings.ReplaceAll(strings.ToValidUTF8(text, "\uFFFD"), "\x00", "\uFFFD")
	for len(text) > MaxBody {
		text = strings.ToValidUTF8(text[:MaxBody-len("…")], "") + "…"
	}
	if text = strings.TrimSpace(text); text == "" {
		return "…"
	}
	return text
}
