package chat

import (
	"context"
	"errors"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"

	"howdah/internal/account"
	"howdah/internal/fault"
	"howdah/internal/pg"
)

// A Command is a line that begins with a slash and does something instead of being said. Each is known by its English and its Chinese name;
// chat.command.NAME in the catalogs says what it does.
type Command struct {
	Name, Chinese string
	do            func(r *Rooms, ctx context.Context, from Speaker, room int64, rest, client string) (Told, error)
}

// Speaker is who gives a command, and how they speak: the door translates.
type Speaker struct {
	account.Person
	T    func(key string, args ...fault.Args) string // a text of the catalogs in their language
	Zone *time.Location
}

// Told is what came of a command: a text for who gave it, and for nobody else.
type Told struct {
	Text string
	Left bool // they are no longer in the room
}

// Commands are all there are, in the order of help. "/me waves" is no command but a form of a message (see Deed).
var Commands = []Command{
	{"topic", "主題", (*Rooms).doTopic},
	{"invite", "邀請", (*Rooms).doInvite},
	{"away", "暫離", (*Rooms).doAway},
	{"back", "回來", (*Rooms).doBack},
	{"dnd", "勿擾", (*Rooms).doQuiet},
	{"remind", "提醒", (*Rooms).doRemind},
	{"leave", "離開", (*Rooms).doLeave},
}

// commandLine is a slash, or the full-width one of Chinese keyboards, and a word that ends with the text or with a blank of any script. outbox.js has the same.
var commandLine = regexp.MustCompile(`^[/／](\p{L}+)(?:[\p{Z}\p{Cc}\x{FEFF}]+([\s\S]*))?$`)

func slashed(text string) (word, rest string, ok bool) {
	text = strings.TrimLeft(text, "\r\n") // as cleanBody does
	if !strings.HasPrefix(text, "/") && !strings.HasPrefix(text, "／") {
		return "", "", false // nearly all that is said
	}
	m := commandLine.FindStringSubmatch(text)
	if m == nil {
		return "", "", false
	}
	return m[1], m[2], true
}

// IsCommand tells whether a text is meant to do something instead of being said, be there such a command or not. "/usr/bin" is not, nor is what begins with a
// blank: so one says what looks like a command. outbox.js has the same rule.
func IsCommand(text string) bool {
	word, rest, ok := slashed(text)
	return ok && !(strings.EqualFold(word, "me") && rest != "")
}

// Deed is what its author does in a message like "/me waves": "waves". ok: the text is such a message.
func Deed(text string) (deed string, ok bool) {
	word, rest, ok := slashed(text)
	deed = strings.TrimSpace(rest)
	return deed, ok && strings.EqualFold(word, "me") && deed != ""
}

// Command does what a line says. client is a UUID, the same in every retry, for those commands that would do something twice.
func (r *Rooms) Command(ctx context.Context, from Speaker, room int64, line, client string) (Told, error) {
	if err := checkText(line, MaxBody); err != nil {
		return Told{}, err
	}
	if _, err := clientID(client); err != nil {
		return Told{}, err
	}
	if from.Zone == nil {
		from.Zone = time.UTC
	}
	line = strings.TrimSpace(line)
	name, rest, ok := slashed(line)
	if !ok {
		return Told{}, fault.New(fault.Invalid, "chat.no_command", fault.Args{"name": line[:min(len(line), strings.IndexFunc(line+" ", unicode.IsSpace))]})
	}
	name, rest = strings.ToLower(name), strings.TrimSpace(rest)
	if name == "me" {
		return Told{}, fault.New(fault.Invalid, "chat.command_use", fault.Args{"use": from.T("chat.command.me")})
	}
	if name == "help" || name == "說明" {
		return Told{Text: Help(from.T)}, nil
	}
	for _, c := range Commands {
		if name == c.Name || name == c.Chinese {
			return c.do(r, ctx, from, room, rest, client)
		}
	}
	return Told{}, fault.New(fault.NotFound, "chat.no_command", fault.Args{"name": "/" + name})
}

// Help says what commands there are, a line for each.
func Help(t func(key string, args ...fault.Args) string) string {
	lines := []string{t("chat.command.me")}
	for _, c := range Commands {
		lines = append(lines, t("chat.command."+c.Name))
	}
	return strings.Join(lines, "\n")
}

func (r *Rooms) doTopic(ctx context.Context, from Speaker, room int64, rest, _ string) (Told, error) {
	if rest == "" { // a topic is taken away where the room is set up, and not by a line that was sent too soon
		return Told{}, fault.New(fault.Invalid, "chat.command_use", fault.Args{"use": from.T("chat.command.topic")})
	}
	err := r.Rename(ctx, from.Person, room, nil, &rest)
	return Told{Text: from.T("chat.told.topic")}, err
}

// maxInvited bounds how many people one command brings in.
const maxInvited = 20

func (r *Rooms) doInvite(ctx context.Context, from Speaker, room int64, rest, _ string) (Told, error) {
	var handles, names []string
	for word := range strings.FieldsSeq(rest) {
		handle, err := account.Handle(strings.TrimPrefix(word, "@"))
		if err != nil {
			return Told{}, err
		}
		if slices.Contains(handles, handle) {
			continue
		}
		if handles = append(handles, handle); len(handles) > maxInvited {
			return Told{}, fault.New(fault.TooLarge, "chat.many_invited", fault.Args{"limit": maxInvited})
		}
	}
	for _, handle := range handles {
		// Who may not invite learns nothing of who there is.
		if err := r.CanInvite(ctx, from.Person, room); err != nil {
			return Told{}, err
		}
		them, found, err := pg.One[Author](ctx, r.db, `SELECT id, handle, name FROM account.person WHERE handle = $1 AND disabled_at IS NULL`, handle)
		if err == nil && !found {
			err = fault.New(fault.NotFound, "account.no_handle", fault.Args{"handle": handle})
		}
		if err == nil {
			err = r.Invite(ctx, from.Person, room, them.ID)
		}
		if err != nil {
			return Told{}, err
		}
		names = append(names, them.Name)
	}
	if names == nil {
		return Told{}, fault.New(fault.Invalid, "chat.command_use", fault.Args{"use": from.T("chat.command.invite")})
	}
	return Told{Text: from.T("chat.told.invite", fault.Args{"names": strings.Join(names, from.T("web.js.comma"))})}, nil
}

const maxAway = 100

func (r *Rooms) doAway(ctx context.Context, from Speaker, _ int64, rest, _ string) (Told, error) {
	note, err := cleanLine(rest, maxAway)
	if err != nil {
		return Told{}, err
	}
	return Told{Text: from.T("chat.told.away")}, r.setAway(ctx, from.Person, &note)
}

func (r *Rooms) doBack(ctx context.Context, from Speaker, _ int64, _, _ string) (Told, error) {
	return Told{Text: from.T("chat.told.back")}, r.setAway(ctx, from.Person, nil)
}

func (r *Rooms) setAway(ctx context.Context, me account.Person, note *string) error {
	_, err := r.db.Exec(ctx, `UPDATE account.person SET away = $2 WHERE id = $1`, me.ID, note)
	if err == nil {
		r.live.tickPerson(me.ID) // their sockets read who they are again, and tell their rooms
	}
	return pg.Fault(err)
}

// quietFor is how long somebody is told of nothing who does not say how long.
const quietFor = time.Hour

// doQuiet pauses what somebody is told of (package tell), or ends that.
func (r *Rooms) doQuiet(ctx context.Context, from Speaker, _ int64, rest, _ string) (Told, error) {
	now := time.Now().In(from.Zone)
	if slices.Contains([]string{"off", "end", "關", "關閉", "結束"}, strings.ToLower(rest)) {
		return Told{Text: from.T("chat.told.loud")}, r.pause(ctx, from.Person, nil)
	}
	until, ok := now.Add(quietFor), true
	if rest != "" {
		until, ok = parseUntil(strings.ReplaceAll(rest, "\u3000", " "), now)
	}
	if !ok {
		return Told{}, fault.New(fault.Invalid, "chat.until", fault.Args{"use": from.T("chat.command.dnd")})
	}
	if until.Sub(now) > longestMute {
		return Told{}, fault.New(fault.Invalid, "chat.mute_far")
	}
	return Told{Text: from.T("chat.told.quiet", fault.Args{"at": from.moment(until)})}, r.pause(ctx, from.Person, &until)
}

// pause says until when somebody wants to be told of nothing; nil: of everything again, but for their quiet hours.
func (r *Rooms) pause(ctx context.Context, me account.Person, until *time.Time) error {
	_, err := r.db.Exec(ctx, `INSERT INTO chat.told (person_id, paused_until) VALUES ($1, $2) ON CONFLICT (person_id) DO UPDATE SET paused_until = excluded.paused_until`, me.ID, until)
	if err == nil {
		r.live.tickPerson(me.ID) // their pages
	}
	return pg.Fault(err)
}

func (r *Rooms) doLeave(ctx context.Context, from Speaker, room int64, _, _ string) (Told, error) {
	err := r.Leave(ctx, from.Person, room)
	return Told{Left: err == nil}, err
}

// Limits of reminders.
const (
	maxReminders = 100
	maxReminded  = 1000 // characters
	maxAhead     = 366 * 24 * time.Hour
)

// Reminder is one that has not been said yet.
type Reminder struct {
	ID    int64
	At    time.Time
	About string
}

// Reminders lists mine, the next first.
func (r *Rooms) Reminders(ctx context.Context, me account.Person) ([]Reminder, error) {
	return pg.All[Reminder](ctx, r.db, `SELECT id, at, about FROM chat.reminder WHERE person_id = $1 AND ended_at IS NULL ORDER BY at, id LIMIT 1000`, me.ID)
}

var cancelling = regexp.MustCompile(`(?i)^(?:cancel|取消)\s*#?(\d{1,15})$`)

func (r *Rooms) doRemind(ctx context.Context, from Speaker, room int64, rest, client string) (Told, error) {
	if rest == "" || strings.EqualFold(rest, "list") || rest == "清單" {
		list, err := r.Reminders(ctx, from.Person)
		lines := []string{from.T("chat.told.reminders", fault.Args{"n": len(list)})}
		for _, one := range list {
			lines = append(lines, from.T("chat.told.one", fault.Args{"id": one.ID, "at": from.moment(one.At), "about": one.About}))
		}
		return Told{Text: strings.Join(append(lines, from.T("chat.command.remind")), "\n")}, err
	}
	if m := cancelling.FindStringSubmatch(rest); m != nil {
		gone, err := r.db.Exec(ctx, `UPDATE chat.reminder SET ended_at = now() WHERE id = $1::bigint AND person_id = $2 AND ended_at IS NULL`, m[1], from.ID)
		if err == nil && gone.RowsAffected() == 0 {
			return Told{}, fault.New(fault.NotFound, "chat.no_reminder")
		}
		return Told{Text: from.T("chat.told.cancelled")}, pg.Fault(err)
	}
	if n := utf8.RuneCountInString(rest); n > maxReminded+100 { // when it is due may stand at its end: who looks for that there reads it many times
		return Told{}, fault.New(fault.TooLarge, "chat.too_long", fault.Args{"n": n, "limit": maxReminded})
	}
	rest = strings.ReplaceAll(rest, "\u3000", " ") // the blank of Chinese keyboards
	if word, after, _ := strings.Cut(rest, " "); strings.EqualFold(word, "me") {
		rest = after
	}
	now := time.Now().In(from.Zone)
	at, what, ok := parseWhen(strings.TrimPrefix(rest, "我"), now)
	if !ok || what == "" {
		return Told{}, fault.New(fault.Invalid, "chat.when", fault.Args{"use": from.T("chat.command.remind")})
	}
	if at.Sub(now) > maxAhead {
		return Told{}, fault.New(fault.Invalid, "chat.too_far")
	}
	if n := utf8.RuneCountInString(what); n > maxReminded {
		return Told{}, fault.New(fault.TooLarge, "chat.too_long", fault.Args{"n": n, "limit": maxReminded})
	}
	if err := r.may(ctx, r.db, Read, from.Person, room); err != nil {
		return Told{}, err
	}
	body := from.T("chat.reminder", fault.Args{"about": what})
	err := r.db.InTx(ctx, func(tx pgx.Tx) error {
		var n int
		if err := tx.QueryRow(ctx, `SELECT count(*)::int FROM chat.reminder WHERE person_id = $1 AND ended_at IS NULL AND client_id <> $2`, from.ID, client).Scan(&n); err != nil {
			return pg.Fault(err)
		}
		if n >= maxReminders {
			return fault.New(fault.Conflict, "chat.reminders_full", fault.Args{"limit": maxReminders})
		}
		_, err := tx.Exec(ctx, `INSERT INTO chat.reminder (person_id, client_id, at, body, about) VALUES ($1, $2, $3, $4, $5) ON CONFLICT (person_id, client_id) DO NOTHING`,
			from.ID, client, at, body, what)
		return pg.Fault(err)
	})
	return Told{Text: from.T("chat.told.remind", fault.Args{"at": from.moment(at), "about": what})}, err
}

// moment is a date and time of day in the words of who reads it.
func (s Speaker) moment(at time.Time) string {
	return at.In(s.Zone).Format(s.T("chat.moment"))
}

// remind says what is due, and what has failed of it.
func (r *Rooms) remind(ctx context.Context) error {
	var failed []error
	err := r.remindDue(ctx, func(_ int64, err error) { failed = append(failed, err) })
	return errors.Join(append(failed, err)...)
}

// remindDue says what is due. Each reminder is ended and said in one transaction, whoever of several nodes comes first. One that fails is told of,
// left for the next look, and stops no other; what is wrong with all of them is the error.
func (r *Rooms) remindDue(ctx context.Context, failed func(reminder int64, err error)) error {
	skip, busy := []int64{}, []int64{} // reminders, and people whose direct room somebody else locks
	for range 100 {                    // the rest at the next look
		one, err := r.remindOne(ctx, skip, busy)
		switch {
		case err == nil && one.id == 0:
			return nil
		case err == nil && one.room != 0:
			r.live.tick(one.room)
			r.live.tickPerson(one.person)
		case err == nil: // ended, and nobody to say it to
		case one.id == 0 || fault.Is(err, fault.Unavailable) && !fault.HasKey(err, "pg.busy"):
			return err
		default:
			if skip = append(skip, one.id); fault.HasKey(err, "pg.busy") {
				busy = append(busy, one.person)
			}
			failed(one.id, fault.Wrap(err, fault.Internal, "chat.not_reminded", fault.Args{"id": one.id}))
		}
	}
	return nil
}

// reminded is what came of a reminder; id 0: none is due, room 0: it was not said.
type reminded struct{ id, person, room int64 }

func (r *Rooms) remindOne(ctx context.Context, skip, busy []int64) (one reminded, err error) {
	ctx, cancel := context.WithTimeout(ctx, commitTimeout)
	defer cancel()
	err = r.db.InTx(ctx, func(tx pgx.Tx) error {
		one = reminded{}
		if _, err := tx.Exec(ctx, `SELECT set_config('lock_timeout', '2s', true)`); err != nil {
			return pg.Fault(err)
		}
		type row struct {
			ID, Person int64
			Body       string
			Client     string
		}
		due, found, err := pg.One[row](ctx, tx, `
			UPDATE chat.reminder SET ended_at = now() WHERE id = (
				SELECT id FROM chat.reminder WHERE ended_at IS NULL AND at <= now() AND id <> ALL($1) AND person_id <> ALL($2) ORDER BY at LIMIT 1 FOR UPDATE SKIP LOCKED)
			RETURNING id, person_id AS person, body, client_id::text AS client`, skip, busy)
		if err != nil || !found {
			return err
		}
		one.id, one.person = due.ID, due.Person
		them, found, err := pg.One[Author](ctx, tx, `SELECT id, handle, name FROM account.person WHERE id = $1 AND disabled_at IS NULL`, due.Person)
		if err != nil || !found { // who cannot come in is reminded of nothing
			return err
		}
		house, err := account.HouseIn(ctx, tx)
		if err != nil {
			return err
		}
		if one.room, err = houseRoom(ctx, tx, author(house), them); err != nil {
			return err
		}
		// What was said already, and came back as not said when the past was restored, is not said again.
		_, err = tx.Exec(ctx, `
			WITH room AS (UPDATE chat.room SET seq = seq + 1
				WHERE id = $1 AND NOT EXISTS (SELECT FROM chat.message x WHERE x.room_id = $1 AND x.author_id = $2 AND x.client_id = $3) RETURNING seq),
			said AS (INSERT INTO chat.message (room_id, seq, author_id, client_id, at, body) SELECT $1, seq, $2, $3, clock_timestamp(), $4 FROM room RETURNING room_id, seq)
			INSERT INTO chat.mention (room_id, person_id, seq) SELECT room_id, $5, seq FROM said`, one.room, house.ID, due.Client, due.Body, one.person)
		return pg.Fault(err)
	})
	return one, err
}

// houseRoom finds or makes the direct room of the house and somebody, and takes its lock.
func houseRoom(ctx context.Context, tx pgx.Tx, house, them Author) (int64, error) {
	type row struct{ ID int64 }
	pair := []int64{min(house.ID, them.ID), max(house.ID, them.ID)}
	made, fresh, err := pg.One[row](ctx, tx, `
		INSERT INTO chat.room (kind, name, created_by, client_id, pair) VALUES ('direct', '', $1, gen_random_uuid(), $2)
		ON CONFLICT (pair) WHERE kind = 'direct' DO NOTHING RETURNING id`, house.ID, pair)
	if err != nil {
		return 0, err
	}
	if !fresh {
		made, _, err = pg.One[row](ctx, tx, `SELECT id FROM chat.room WHERE kind = 'direct' AND pair = $1 FOR NO KEY UPDATE`, pair)
		return made.ID, err
	}
	if err := enter(ctx, tx, made.ID, house, house, account.Member); err != nil {
		return 0, err
	}
	return made.ID, enter(ctx, tx, made.ID, house, them, account.Member)
}
