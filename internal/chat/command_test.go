package chat

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"howdah/internal/account"
	"howdah/internal/fault"
)

// plainly speaks in keys.
func plainly(key string, args ...fault.Args) string {
	if key == "chat.moment" {
		return time.RFC3339
	}
	if len(args) > 0 && args[0]["about"] != nil {
		return key + " " + fmt.Sprint(args[0]["id"], args[0]["about"])
	}
	return key
}

func TestCommands(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	ctx := t.Context()
	ann, bob, eve := h.person("ann", account.Member), h.person("bob", account.Member), h.person("eve", account.Member)
	room := h.room(ann, Public, bob)
	give := func(who account.Person, line string) (string, error) {
		told, err := h.Command(ctx, Speaker{Person: who, T: plainly, Zone: time.UTC}, room, line, newID())
		return told.Text, err
	}
	do := func(who account.Person, line, want string) {
		t.Helper()
		if text, err := give(who, line); err != nil || !strings.Contains(text, want) {
			t.Errorf("%s: %q, %v, want %q", line, text, err, want)
		}
	}
	refused := func(who account.Person, line, key string) {
		t.Helper()
		_, err := give(who, line)
		h.wantFault(err, key)
	}
	paused := func() (until *time.Time) {
		t.Helper()
		if err := h.db.App.QueryRow(ctx, `SELECT paused_until FROM chat.told WHERE person_id = $1`, bob.ID).Scan(&until); err != nil {
			t.Fatal(err)
		}
		return until
	}
	do(bob, "/dnd", "chat.told.quiet")
	if until := paused(); until == nil || time.Until(*until).Round(time.Minute) != time.Hour {
		t.Error(until)
	}
	do(bob, "/勿擾 2小時", "chat.told.quiet")
	if until := paused(); until == nil || time.Until(*until).Round(time.Minute) != 2*time.Hour {
		t.Error(until)
	}
	refused(bob, "/dnd in a while", "chat.until")
	refused(bob, "/dnd 99 weeks", "chat.mute_far")
	do(bob, "/DND Off", "chat.told.loud")
	if until := paused(); until != nil {
		t.Error(until)
	}
	do(ann, "/topic  tea, and   more", "chat.told.topic")
	if topic := h.mine(ann, room).Topic; topic != "tea, and more" {
		t.Error(topic)
	}
	refused(bob, "/主題 咖啡", "chat.may_not_rename")
	refused(ann, "/topic", "chat.command_use")
	if topic := h.mine(ann, room).Topic; topic != "tea, and more" {
		t.Error(topic)
	}
	var many strings.Builder
	for i := range maxInvited + 1 {
		fmt.Fprintf(&many, " @nobody%d", i)
	}
	refused(bob, "/invite"+many.String(), "chat.many_invited")
	do(bob, "/invite"+strings.Repeat(" @BOB", 1000), "chat.told.invite")
	refused(eve, "/invite @bob", "chat.may_not_invite")
	do(bob, "/邀請 @eve", "chat.told.invite")
	if h.mine(eve, room).Role != account.Member {
		t.Error("eve is not in")
	}
	refused(bob, "/invite", "chat.command_use")
	refused(bob, "/invite @nobody-here", "account.no_handle")
	do(bob, "/away back after lunch", "chat.told.away")
	away := func() string {
		members, err := h.Members(ctx, ann, room)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range members {
			if m.ID == bob.ID && m.Away != nil {
				return *m.Away
			}
		}
		return "here"
	}
	if have := away(); have != "back after lunch" {
		t.Error(have)
	}
	do(bob, "/back", "chat.told.back")
	if have := away(); have != "here" {
		t.Error(have)
	}
	do(bob, "/help", "chat.command.remind")
	refused(bob, "/dance", "chat.no_command")
	refused(bob, "/usr/bin is a folder", "chat.no_command")
	for text, want := range map[string]bool{"/usr/bin is a folder": false, "/me waves": false, "/ME\u3000waves": false, " hello /topic": false, " /topic x": false, "//topic": false, "": false,
		"/topic": true, "/主題 x": true, "／主題\u3000x": true, "\n/topic x": true, "/me": true, "/me  ": true, "/nothing-such": false, "/dance now": true} {
		if IsCommand(text) != want {
			t.Errorf("%q is a command: %t", text, !want)
		}
	}
	if deed, ok := Deed("/me\u3000 waves\n"); !ok || deed != "waves" {
		t.Errorf("%q %t", deed, ok)
	}
	refused(bob, "/me", "chat.command_use")
	refused(bob, "／主題\u3000", "chat.command_use")
	// What a person typed is done, or it is refused: nobody is shown it. A program says what it says.
	typed := Draft{Room: room, ClientID: newID(), Body: "/remind me in 2 hours to see the doctor", Typed: true}
	_, err := h.Post(ctx, bob, typed)
	h.wantFault(err, "chat.is_command")
	_, err = h.Edit(ctx, bob, typed, h.say(bob, room, "/healthz is down"))
	h.wantFault(err, "chat.is_command")
	refused(bob, "/remind me sometime to sing", "chat.when")
	refused(bob, "/remind me in 2 hours", "chat.when")
	refused(bob, "/remind me in 9000 days to x", "chat.too_far")
	refused(bob, "/remind me in 2 hours "+strings.Repeat("字", 1001), "chat.too_long")
	refused(bob, "/remind "+strings.Repeat("x ", 20000), "chat.too_long")

	// A reminder is said once: not before its time, not again, whoever looks, and also when the house was down when it was due.
	do(bob, "/remind me in 2 hours to call Ann", "chat.told.remind")
	do(bob, "/提醒 我 明天9點 開會", "chat.told.remind")
	do(bob, "/remind list", "call Ann")
	due := func() {
		t.Helper()
		if _, err := h.db.App.Exec(ctx, `UPDATE chat.reminder SET at = now() - interval '1 minute' WHERE ended_at IS NULL AND about = 'call Ann'`); err != nil {
			t.Fatal(err)
		}
	}
	said := func() (n int) {
		t.Helper()
		// What is being said at the moment by those who look by themselves is said when their locks are gone.
		if _, err := h.db.App.Exec(ctx, `SELECT FROM chat.reminder FOR SHARE`); err != nil {
			t.Fatal(err)
		}
		if err := h.db.App.QueryRow(ctx, `SELECT count(*)::int FROM chat.message WHERE body LIKE 'chat.reminder%'`).Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	if err := h.remind(ctx); err != nil || said() != 0 {
		t.Error(err, said())
	}
	due()
	other := Open(ctx, h.db.App, h.db.Steady, nil) // another node
	defer other.Close()
	errs := make(chan error, 4)
	for i := range 4 {
		node := []*Rooms{h.Rooms, other}[i%2]
		go func() { errs <- node.remind(context.WithoutCancel(ctx)) }()
	}
	for range 4 {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	if said() != 1 {
		t.Errorf("said %d times", said())
	}
	rooms, err := h.Mine(ctx, bob)
	if err != nil {
		t.Fatal(err)
	}
	direct := rooms[len(rooms)-1]
	if direct.Kind != Direct || direct.Unread != 1 || direct.Mentions != 1 {
		t.Errorf("%+v", direct)
	}
	h.wholeLog(bob, direct.ID)
	// One that was cancelled is not said; somebody else's cannot be.
	list, err := h.Reminders(ctx, bob)
	if err != nil || len(list) != 1 || list[0].About != "開會" {
		t.Fatal(list, err)
	}
	refused(ann, fmt.Sprint("/remind cancel ", list[0].ID), "chat.no_reminder")
	do(bob, fmt.Sprint("/提醒 取消 ", list[0].ID), "chat.told.cancelled")
	do(bob, "/remind me in 1 minute to call Ann", "chat.told.remind")
	due()
	if err := h.remind(ctx); err != nil || said() != 2 {
		t.Error(err, said())
	}
	// What keeps one from being said - somebody holds the room, its person is gone - keeps no other; and what was said is not said again
	// though its reminder came back as if it had not been.
	kim, joe := h.person("kim", account.Member), h.person("joe", account.Member)
	if err := h.Join(ctx, kim, room); err != nil {
		t.Fatal(err)
	}
	if err := h.Join(ctx, joe, room); err != nil {
		t.Fatal(err)
	}
	do(joe, "/remind me in 1 minute to go", "chat.told.remind")
	do(kim, "/remind me in 2 minutes to eat", "chat.told.remind")
	do(bob, "/remind me in 1 minute to wait", "chat.told.remind")
	if _, err := h.db.App.Exec(ctx, `UPDATE account.person SET disabled_at = now() WHERE id = $1`, joe.ID); err != nil {
		t.Fatal(err)
	}
	hold, err := h.db.App.Begin(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer hold.Rollback(context.WithoutCancel(ctx)) //nolint:errcheck // committed by then
	if _, err := hold.Exec(ctx, `SELECT FROM chat.room WHERE id = $1 FOR UPDATE`, direct.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := h.db.App.Exec(ctx, `UPDATE chat.reminder SET ended_at = NULL, at = now() - interval '1 minute' WHERE about IN ('call Ann', 'go', 'eat', 'wait')`); err != nil {
		t.Fatal(err)
	}
	due()
	for left := 2; left != 0; { // whoever says them
		if err := h.remind(ctx); err != nil && !fault.HasKey(err, "chat.not_reminded") {
			t.Fatal(err)
		}
		if err := h.db.App.QueryRow(ctx, `SELECT count(*)::int FROM chat.reminder WHERE person_id IN ($1, $2) AND ended_at IS NULL`, kim.ID, joe.ID).Scan(&left); err != nil {
			t.Fatal(err)
		}
	}
	if err := hold.Commit(ctx); err != nil {
		t.Fatal(err)
	}
	for left := 1; left != 0; {
		if err := h.remind(ctx); err != nil {
			t.Log(err)
		}
		if err := h.db.App.QueryRow(ctx, `SELECT count(*)::int FROM chat.reminder WHERE ended_at IS NULL`).Scan(&left); err != nil {
			t.Fatal(err)
		}
	}
	if said() != 4 {
		t.Errorf("said %d", said())
	}
	h.wholeLog(bob, direct.ID)
	do(eve, "/leave", "")
	if r := h.mine(eve, room); r.Role != account.None {
		t.Error(r)
	}
	h.wholeLog(ann, room)
}

func TestWhen(t *testing.T) {
	zone := time.FixedZone("", 8*3600)
	now := time.Date(2026, 11, 23, 20, 10, 0, 0, zone) // a Monday
	for text, want := range map[string]string{
		"in 2 hours to call Bob":                   "2026-11-23 22:10 call Bob",
		"to call Bob in 2 hours":                   "2026-11-23 22:10 call Bob",
		"in half an hour that tea is ready":        "2026-11-23 20:40 tea is ready",
		"in an hour x":                             "2026-11-23 21:10 x",
		"in 3 days, water the plants":              "2026-11-26 20:10 water the plants",
		"at 21:30 go home":                         "2026-11-23 21:30 go home",
		"at 8 go to work":                          "2026-11-24 08:00 go to work",
		"at 9pm tv":                                "2026-11-23 21:00 tv",
		"at 12am sleep":                            "2026-11-24 00:00 sleep",
		"tomorrow pay":                             "2026-11-24 09:00 pay",
		"tomorrow at 15:00 pay":                    "2026-11-24 15:00 pay",
		"on friday at 3pm cake":                    "2026-11-27 15:00 cake",
		"monday at 8 report":                       "2026-11-30 08:00 report",
		"on 2027-01-31 renew":                      "2027-01-31 09:00 renew",
		"2小時後 打電話":                                 "2026-11-23 22:10 打電話",
		"兩個小時後打電話":                                 "2026-11-23 22:10 打電話",
		"半小時後喝茶":                                   "2026-11-23 20:40 喝茶",
		"十五分鐘後 喝茶":                                 "2026-11-23 20:25 喝茶",
		"明天 開會":                                    "2026-11-24 09:00 開會",
		"明天下午3點半 開會":                               "2026-11-24 15:30 開會",
		"後天早上10:15開會":                              "2026-11-25 10:15 開會",
		"晚上9點 看電視":                                 "2026-11-23 21:00 看電視",
		"3 cups of tea":                            "",
		"at 25:00 x":                               "",
		"at 13pm x":                                "",
		"today at 8 x":                             "",
		"in 0 minutes x":                           "",
		"on 2026-02-31 x":                          "",
		"at the end of the day":                    "",
		"later":                                    "",
		"in 99999 weeks":                           "",
		"":                                         "",
		"to buy 3 tickets for friday night at 9pm": "2026-11-23 21:00 buy 3 tickets for friday night",
	} {
		at, rest, ok := parseWhen(text, now)
		have := ""
		if ok {
			have = at.Format("2006-01-02 15:04") + " " + rest
		}
		if have != want && (want == "" || !strings.HasPrefix(have, want)) {
			t.Errorf("%q: %q, want %q", text, have, want)
		}
	}
}

func TestUntil(t *testing.T) {
	now := time.Date(2026, 11, 23, 20, 10, 0, 0, time.FixedZone("", 8*3600)) // a Monday
	for text, want := range map[string]string{
		"30 minutes": "2026-11-23 20:40", "for 2h": "2026-11-23 22:10", "an hour": "2026-11-23 21:10", "half an hour": "2026-11-23 20:40", "in 3 days": "2026-11-26 20:10",
		"until 21:30": "2026-11-23 21:30", "till 9": "2026-11-24 09:00", "9pm": "2026-11-23 21:00", "tomorrow": "2026-11-24 09:00", "until tomorrow at 7:30": "2026-11-24 07:30",
		"friday": "2026-11-27 09:00", "on 2027-01-31": "2027-01-31 09:00",
		"30分鐘": "2026-11-23 20:40", "兩個小時": "2026-11-23 22:10", "半小時": "2026-11-23 20:40", "到晚上9點": "2026-11-23 21:00", "明天早上": "2026-11-24 09:00", "直到明天下午3點半": "2026-11-24 15:30",
		"30": "", "a while": "", "2 hours please": "", "today at 8": "", "0 minutes": "", "": "",
	} {
		at, ok := parseUntil(text, now)
		have := ""
		if ok {
			have = at.Format("2006-01-02 15:04")
		}
		if have != want {
			t.Errorf("%q: %q, want %q", text, have, want)
		}
	}
}

func FuzzWhen(f *testing.F) {
	for _, seed := range []string{"in 2 hours x", "明天3點半 x", "十分鐘後", "on friday at 3pm", "at 99:99", "in 99999 weeks", "半半半", "\xff in 1 m"} {
		f.Add(seed)
	}
	now := time.Date(2026, 11, 23, 20, 10, 0, 0, time.UTC)
	f.Fuzz(func(t *testing.T, text string) {
		if at, ok := parseUntil(text, now); ok && !at.After(now) {
			t.Errorf("%q: until %v", text, at)
		}
		at, rest, ok := parseWhen(text, now)
		if ok && (at.Before(now) || utf8.ValidString(text) && !utf8.ValidString(rest) || len(rest) > len(text)) {
			t.Errorf("%q: %v %q", text, at, rest)
		}
		IsCommand(text)
	})
}
