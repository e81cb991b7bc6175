// Package tell carries what is said in the rooms to people who are not looking at them. What somebody wants to be told of, and when not, is theirs to
// set; the page itself follows the same settings while it is open.
package tell

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"howdah/internal/account"
	"howdah/internal/chat"
	"howdah/internal/fault"
	"howdah/internal/mail"
	"howdah/internal/outside"
	"howdah/internal/pg"
	"howdah/internal/push"
)

// Teller is the door to this package. It is safe for concurrent use.
type Teller struct {
	db      *pg.Pool
	rooms   *chat.Rooms
	options Options

	mu    sync.Mutex
	known *push.Key // of this house, once it was read
}

// Options of a teller; the zero value of each is its default.
type Options struct {
	Accounts *account.Accounts // whom letters are for; needed with Mail
	Outside  push.Asker        // speaks to push services; an outside.Client
	Contact  string            // whom a push service can write to: a mailto: or https: URL
	Delay    time.Duration     // in which a message may be read elsewhere, before it is pushed; 10 seconds
	Pause    time.Duration     // between two pushes of the same room or thread to a device; 20 seconds
	Retry    time.Duration     // to the second try, doubled for each after that; 5 seconds
	Look     time.Duration     // between two looks at least; 2 seconds
	Mail     *mail.Server      // sends letters; nil: there is no mail
	House    string            // the house as people reach it, for links in letters; without a slash at the end
	Locale   string            // of letters to people who have chosen none
	Trouble  func(error)       // is told what keeps it from telling, once each time that it changes
}

// Open makes the package's door. Nothing is sent before Run.
func Open(db *pg.Pool, rooms *chat.Rooms, options Options) *Teller {
	for at, usual := range map[*time.Duration]time.Duration{&options.Delay: 10 * time.Second, &options.Pause: 20 * time.Second, &options.Retry: 5 * time.Second, &options.Look: 2 * time.Second} {
		if *at == 0 {
			*at = usual
		}
	}
	if options.Outside == nil {
		options.Outside = outside.New(outside.Limits{Body: 4 << 10})
	}
	if options.Contact == "" {
		options.Contact = "https://localhost"
	}
	if options.Trouble == nil {
		options.Trouble = func(error) {}
	}
	return &Teller{db: db, rooms: rooms, options: options}
}

// idle is how often it is looked without anybody having said anything: for what is to be tried again, and for other nodes' posts.
const idle = 5 * time.Second

// Run tells people until ctx ends. A kill loses nothing: what was to be told is in the database, and what was under way then is tried again.
func (t *Teller) Run(ctx context.Context) {
	if t.options.Mail != nil {
		var letters sync.WaitGroup
		letters.Go(func() { t.runMail(ctx) })
		defer letters.Wait()
	}
	ticker := time.NewTicker(min(idle, t.options.Look))
	defer ticker.Stop()
	looked, before := time.Time{}, ""
	for {
		posted := false
		select {
		case <-ctx.Done():
			return
		case <-t.rooms.Posted():
			posted = true
			wait := time.NewTimer(t.options.Look) // however much is posted, one look in a while
			select {
			case <-ctx.Done():
				wait.Stop()
				return
			case <-wait.C:
			}
		case <-ticker.C:
		}
		err := error(nil)
		if posted || time.Since(looked) > idle {
			looked = time.Now()
			err = t.follow(ctx)
		}
		for more := true; more && err == nil && ctx.Err() == nil; {
			more, err = t.send(ctx)
		}
		now := ""
		if err != nil {
			now = fault.Of(err).Key
		}
		if now != before && ctx.Err() == nil && !fault.Is(err, fault.Unavailable) { // the database being away is told by who watches it
			t.options.Trouble(err)
		}
		before = now
	}
}

// Settings are what somebody wants to be told of outside of the page.
type Settings struct {
	Bell   chat.Bell // of rooms that have none of their own: BellAll, BellMentions or BellNothing
	Zone   string    // IANA name of the time zone of the quiet hours; "" is UTC
	Quiet  Quiet
	Paused time.Time // told of nothing until then; zero: not paused
	Hide   bool      // what leaves the house says who wrote where, and not what
	Mail   int       // minutes after which they are told by mail of what they have missed, one of MailAfters
	MailAt int       // of MailDaily: minutes after midnight
}

// Unset are the settings of somebody who has set nothing.
var Unset = Settings{Bell: chat.BellMentions, Quiet: Quiet{From: 22 * 60, To: 8 * 60}, MailAt: 9 * 60}

// Silence is when somebody wants to be told of nothing, from now on: their pause and their quiet hours, in order and apart from each other.
func (s Settings) Silence(now time.Time) []Span {
	zone, err := Location(s.Zone)
	if err != nil { // a zone that this system's data does not have any more
		zone = time.UTC
	}
	spans := s.Quiet.Spans(zone, now)
	if !s.Paused.After(now) {
		return spans
	}
	pause := Span{now, s.Paused}
	for len(spans) > 0 && !spans[0].From.After(pause.To) {
		pause.To = latest(pause.To, spans[0].To)
		pause.From = earliest(pause.From, spans[0].From)
		spans = spans[1:]
	}
	return append([]Span{pause}, spans...)
}

func latest(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

func earliest(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// SilentUntil is the end of the silence that holds now; false when none does.
func (s Settings) SilentUntil(now time.Time) (time.Time, bool) {
	if spans := s.Silence(now); len(spans) > 0 && !spans[0].From.After(now) {
		return spans[0].To, true
	}
	return time.Time{}, false
}

const settingsColumns = `s.bell, s.zone, s.quiet_from, s.quiet_to, s.quiet_days, s.paused_until, s.hide, s.mail, s.mail_at`

// days are weekdays as the bits of a number, Sunday the lowest.
func bits(days []time.Weekday) (n int16) {
	for _, day := range days {
		n |= 1 << day
	}
	return n
}

func weekdays(n int16) (days []time.Weekday) {
	for day := time.Sunday; day <= time.Saturday; day++ {
		if n&(1<<day) != 0 {
			days = append(days, day)
		}
	}
	return days
}

type settingsRow struct {
	Bell     chat.Bell
	Zone     string
	From, To int16
	Days     int16
	Paused   *time.Time
	Hide     bool
	Mail     int16
	MailAt   int16
}

func (r settingsRow) settings() Settings {
	s := Settings{Bell: r.Bell, Zone: r.Zone, Quiet: Quiet{From: int(r.From), To: int(r.To), Days: weekdays(r.Days)}, Hide: r.Hide, Mail: int(r.Mail), MailAt: int(r.MailAt)}
	if r.Paused != nil {
		s.Paused = *r.Paused
	}
	return s
}

// Settings are mine.
func (t *Teller) Settings(ctx context.Context, me account.Person) (Settings, error) {
	return settings(ctx, t.db, me.ID)
}

func settings(ctx context.Context, q pg.Queryer, person int64) (Settings, error) {
	row, found, err := pg.One[settingsRow](ctx, q, `SELECT `+settingsColumns+` FROM chat.told s WHERE s.person_id = $1`, person)
	if err != nil || !found {
		return Unset, err
	}
	return row.settings(), nil
}

// longestPause is how far ahead anybody can say that they want to be told of nothing.
const longestPause = 366 * 24 * time.Hour

// Set changes my settings by change, which may be called more than once, and gives them as they then are.
func (t *Teller) Set(ctx context.Context, me account.Person, change func(*Settings) error) (Settings, error) {
	var out Settings
	err := t.db.InTx(ctx, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `INSERT INTO chat.told (person_id) VALUES ($1) ON CONFLICT DO NOTHING`, me.ID); err != nil {
			return pg.Fault(err)
		}
		row, _, err := pg.One[settingsRow](ctx, tx, `SELECT `+settingsColumns+` FROM chat.told s WHERE s.person_id = $1 FOR UPDATE`, me.ID)
		if err != nil {
			return err
		}
		s := row.settings()
		before := s.Mail
		if err := change(&s); err != nil {
			return err
		}
		if s.Mail > 0 && before == 0 {
			if err := beginToLook(ctx, tx); err != nil {
				return err
			}
		}
		if err := s.check(time.Now()); err != nil {
			return err
		}
		var paused *time.Time
		if !s.Paused.IsZero() {
			paused = &s.Paused
		}
		_, err = tx.Exec(ctx, `UPDATE chat.told SET bell = $2, zone = $3, quiet_from = $4, quiet_to = $5, quiet_days = $6, paused_until = $7, hide = $8, mail = $9, mail_at = $10 WHERE person_id = $1`,
			me.ID, s.Bell, s.Zone, s.Quiet.From, s.Quiet.To, bits(s.Quiet.Days), paused, s.Hide, s.Mail, s.MailAt)
		out = s
		return pg.Fault(err)
	})
	if err == nil {
		t.rooms.Poke(me.ID) // their other windows
	}
	return out, err
}

func (s *Settings) check(now time.Time) error {
	if !slices.Contains([]chat.Bell{chat.BellAll, chat.BellMentions, chat.BellNothing}, s.Bell) {
		return fault.New(fault.Invalid, "chat.bell")
	}
	if _, err := Location(s.Zone); err != nil {
		return err
	}
	if !s.Paused.After(now) {
		s.Paused = time.Time{}
	}
	if s.Paused.Sub(now) > longestPause {
		return fault.New(fault.Invalid, "chat.mute_far")
	}
	if !slices.Contains(MailAfters, s.Mail) || s.MailAt < 0 || s.MailAt >= 24*60 {
		return fault.New(fault.Invalid, "tell.mail")
	}
	return s.Quiet.check()
}
