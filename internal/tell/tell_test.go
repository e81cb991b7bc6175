package tell

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"howdah/internal/account"
	"howdah/internal/chat"
	"howdah/internal/fault"
	"howdah/internal/pg/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

var everyDay = []time.Weekday{0, 1, 2, 3, 4, 5, 6}

func TestQuietHoursFollowTheClocksOfTheirZone(t *testing.T) {
	t.Parallel()
	const form = "Mon 2006-01-02 15:04 -07:00"
	for _, c := range []struct {
		name, zone, from, to string
		days                 []time.Weekday
		now                  string
		spans                []string // the first ones
	}{
		{"over midnight", "Asia/Taipei", "22:00", "08:00", everyDay, "2026-11-23T12:00:00+08:00",
			[]string{"Mon 2026-11-23 22:00 +08:00 - Tue 2026-11-24 08:00 +08:00", "Tue 2026-11-24 22:00 +08:00 - Wed 2026-11-25 08:00 +08:00"}},
		{"begun yesterday", "Asia/Taipei", "22:00", "08:00", []time.Weekday{time.Sunday}, "2026-11-23T07:59:00+08:00",
			[]string{"Sun 2026-11-22 22:00 +08:00 - Mon 2026-11-23 08:00 +08:00", "Sun 2026-11-29 22:00 +08:00 - Mon 2026-11-30 08:00 +08:00"}},
		{"just over", "Asia/Taipei", "22:00", "08:00", []time.Weekday{time.Sunday}, "2026-11-23T08:00:00+08:00",
			[]string{"Sun 2026-11-29 22:00 +08:00 - Mon 2026-11-30 08:00 +08:00"}},
		{"within a day", "Europe/Berlin", "12:00", "13:30", []time.Weekday{time.Friday}, "2026-07-01T00:00:00Z",
			[]string{"Fri 2026-07-03 12:00 +02:00 - Fri 2026-07-03 13:30 +02:00"}},
		{"clocks forward inside", "Europe/Berlin", "22:00", "08:00", []time.Weekday{time.Saturday}, "2026-03-28T12:00:00+01:00",
			[]string{"Sat 2026-03-28 22:00 +01:00 - Sun 2026-03-29 08:00 +02:00"}},
		{"an end that does not exist", "Europe/Berlin", "22:00", "02:30", []time.Weekday{time.Saturday}, "2026-03-28T12:00:00+01:00",
			[]string{"Sat 2026-03-28 22:00 +01:00 - Sun 2026-03-29 03:00 +02:00"}},
		{"a beginning that does not exist", "America/New_York", "02:30", "06:00", []time.Weekday{time.Sunday}, "2026-03-07T12:00:00-05:00",
			[]string{"Sun 2026-03-08 03:00 -04:00 - Sun 2026-03-08 06:00 -04:00"}},
		{"an end that comes twice", "America/New_York", "22:00", "01:30", []time.Weekday{time.Saturday}, "2026-10-31T12:00:00-04:00",
			[]string{"Sat 2026-10-31 22:00 -04:00 - Sun 2026-11-01 01:30 -05:00"}},
		{"a beginning that comes twice", "America/New_York", "01:30", "05:00", []time.Weekday{time.Sunday}, "2026-10-31T12:00:00-04:00",
			[]string{"Sun 2026-11-01 01:30 -04:00 - Sun 2026-11-01 05:00 -05:00"}},
		{"half an hour of summer time", "Australia/Lord_Howe", "02:15", "09:00", []time.Weekday{time.Sunday}, "2026-10-03T12:00:00+10:30",
			[]string{"Sun 2026-10-04 02:30 +11:00 - Sun 2026-10-04 09:00 +11:00"}},
		{"always", "UTC", "00:00", "00:00", everyDay, "2026-11-23T12:00:00Z", []string{"Mon 2026-11-23 00:00 +00:00 - Wed 2026-12-02 00:00 +00:00"}},
		{"never", "UTC", "22:00", "08:00", nil, "2026-11-23T12:00:00Z", nil},
		{"a day that was left out", "Pacific/Apia", "22:00", "08:00", []time.Weekday{time.Thursday}, "2011-12-29T12:00:00-10:00",
			[]string{"Thu 2011-12-29 22:00 -10:00 - Sat 2011-12-31 00:00 +14:00"}},
	} {
		zone, err := Location(c.zone)
		if err != nil {
			t.Fatal(err)
		}
		now, err := time.Parse(time.RFC3339, c.now)
		if err != nil {
			t.Fatal(err)
		}
		from, _ := time.Parse("15:04", c.from)
		to, _ := time.Parse("15:04", c.to)
		q := Quiet{from.Hour()*60 + from.Minute(), to.Hour()*60 + to.Minute(), c.days}
		var have []string
		for _, s := range q.Spans(zone, now)[:min(len(c.spans), len(q.Spans(zone, now)))] {
			have = append(have, s.From.In(zone).Format(form)+" - "+s.To.In(zone).Format(form))
		}
		if !slices.Equal(have, c.spans) {
			t.Errorf("%s:\nhave %s\nwant %s", c.name, strings.Join(have, "\n     "), strings.Join(c.spans, "\n     "))
		}
	}
}

func TestAPauseAndQuietHoursAreOneSilence(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	s := Settings{Zone: "UTC", Quiet: Quiet{13 * 60, 14 * 60, everyDay}}
	if until, silent := s.SilentUntil(now); silent {
		t.Errorf("silent until %s", until)
	}
	s.Paused = now.Add(90 * time.Minute) // reaches into the quiet hour
	if until, silent := s.SilentUntil(now); !silent || !until.Equal(now.Add(2*time.Hour)) {
		t.Errorf("silent until %s", until)
	}
	s.Paused = now.Add(25 * time.Hour)
	if until, _ := s.SilentUntil(now); !until.Equal(now.Add(26 * time.Hour)) {
		t.Errorf("silent until %s", until)
	}
	for _, name := range []string{"../etc/passwd", "Local", "Mars/Olympus", "Asia/Taipei\n", strings.Repeat("a", 100)} {
		if _, err := Location(name); !fault.HasKey(err, "tell.zone") {
			t.Errorf("%q is a zone: %v", name, err)
		}
	}
}

// house is a test's own database with people in it.
type house struct {
	*testing.T
	db       *pgtest.DB
	accounts *account.Accounts
	rooms    *chat.Rooms
	teller   *Teller
	owner    account.Person
}

func newHouse(t *testing.T) *house {
	t.Helper()
	t.Parallel()
	db := pgtest.New(t)
	h := &house{T: t, db: db, accounts: account.Open(db.App, nil), rooms: chat.Open(t.Context(), db.App, db.Steady, nil)}
	t.Cleanup(h.rooms.Close)
	h.teller = Open(db.App, h.rooms, Options{})
	token, err := h.accounts.SetupToken(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	_, h.owner, err = h.accounts.SetUp(t.Context(), token, account.NewPerson{Handle: "owner", Name: "Owner", Password: "correct horse battery"}, account.Client{},
		func(context.Context, pgx.Tx, account.Person) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func (h *house) person(handle string) account.Person {
	h.Helper()
	invite, _, err := h.accounts.NewInvite(h.Context(), h.owner, account.Member, nil)
	if err != nil {
		h.Fatal(err)
	}
	_, p, err := h.accounts.Accept(h.Context(), invite, account.NewPerson{Handle: handle, Name: handle, Password: "correct horse battery"}, account.Client{},
		func(context.Context, pgx.Tx, account.Person, account.Invite) error { return nil })
	if err != nil {
		h.Fatal(err)
	}
	return p
}

func TestSettingsAreKeptAndBadOnesRefused(t *testing.T) {
	h := newHouse(t)
	me := h.person("ada")
	if s, err := h.teller.Settings(t.Context(), me); err != nil || s.Bell != chat.BellMentions || s.Quiet.Days != nil {
		t.Fatalf("%+v %v", s, err)
	}
	until := time.Now().Add(time.Hour).UTC().Truncate(time.Microsecond)
	want := Settings{Bell: chat.BellAll, Zone: "Asia/Taipei", Quiet: Quiet{60, 120, []time.Weekday{1, 3}}, Paused: until, Hide: true}
	if _, err := h.teller.Set(t.Context(), me, func(s *Settings) error { *s = want; return nil }); err != nil {
		t.Fatal(err)
	}
	if s, err := h.teller.Settings(t.Context(), me); err != nil || !s.Paused.Equal(until) || s.Zone != want.Zone || s.Bell != want.Bell || !s.Hide || !slices.Equal(s.Quiet.Days, want.Quiet.Days) {
		t.Fatalf("%+v %v", s, err)
	}
	for key, change := range map[string]func(*Settings){
		"chat.bell":     func(s *Settings) { s.Bell = "loud" },
		"tell.zone":     func(s *Settings) { s.Zone = "Nowhere/At_all" },
		"tell.quiet":    func(s *Settings) { s.Quiet.From = 1440 },
		"chat.mute_far": func(s *Settings) { s.Paused = time.Now().AddDate(2, 0, 0) },
	} {
		if _, err := h.teller.Set(t.Context(), me, func(s *Settings) error { change(s); return nil }); !fault.HasKey(err, key) {
			t.Errorf("%s: %v", key, err)
		}
	}
}
