package chat

import (
	"strings"
	"sync"
	"testing"

	"howdah/internal/account"
	"howdah/internal/fault"
)

func TestTheHouseSpeaksToWhoRunsItAndToNobodyElse(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	ctx := t.Context()
	if heard, err := h.Announce(ctx, "topic", "first", "Nobody hears this."); heard || err != nil {
		t.Fatal(heard, err)
	}
	taken := h.person("howdah", account.Member) // the handle that the house would like
	owner, admin := h.person("owner", account.Owner), h.person("admin", account.Admin)
	var all sync.WaitGroup
	for range 4 { // nodes do so at the same time
		all.Go(func() {
			if heard, err := h.Announce(ctx, "topic", "incident 1", "A table was dropped."); !heard || err != nil {
				t.Error(heard, err)
			}
		})
	}
	all.Wait()
	rooms, err := h.Mine(ctx, owner)
	if err != nil || len(rooms) != 1 || rooms[0].Kind != Ops || rooms[0].Name != "ops" || rooms[0].Unread != 1 || rooms[0].Members != 3 {
		t.Fatalf("%+v, %v", rooms, err)
	}
	ops := rooms[0].ID
	said := func(who account.Person) []Message {
		t.Helper()
		page, err := h.History(ctx, who, ops, Cursor{})
		if err != nil {
			t.Fatal(err)
		}
		return page.Messages
	}
	if _, err := h.Announce(ctx, "topic", "incident 1", "Two tables were dropped."); err != nil {
		t.Fatal(err)
	}
	if m := said(admin); len(m) != 1 || m[0].Body != "Two tables were dropped." || !m[0].Edited || m[0].By.Name != "Howdah" || m[0].By.Handle == taken.Handle {
		t.Fatalf("%+v", m)
	}
	if _, err := h.Announce(ctx, "topic", "incident 2", strings.Repeat("長", MaxBody)); err != nil {
		t.Fatal(err)
	}
	if m := said(owner); len(m) != 2 || len(m[1].Body) > MaxBody || !strings.HasSuffix(m[1].Body, "長…") {
		t.Fatalf("%d messages", len(m))
	}

	_, err = h.History(ctx, taken, ops, Cursor{})
	h.wantFault(err, "chat.no_room")
	h.wantFault(h.Leave(ctx, admin, ops), "chat.may_not_leave")
	h.wantFault(h.Invite(ctx, owner, ops, taken.ID), "chat.may_not_invite")
	h.wantFault(h.CanInvite(ctx, owner, ops), "chat.may_not_invite")
	h.wantFault(h.Remove(ctx, owner, ops, admin.ID), "chat.may_not_moderate")
	_, err = h.Delete(ctx, owner, ops, said(owner)[0].Seq, newID())
	h.wantFault(err, "chat.may_not_moderate")
	h.say(admin, ops, "I am looking.")

	if _, err := h.db.App.Exec(ctx, `UPDATE account.person SET role = CASE id WHEN $1 THEN 'member' ELSE 'admin' END WHERE id IN ($1, $2)`, admin.ID, taken.ID); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, _, err := h.SettleOps(ctx, "topic"); err != nil {
			t.Fatal(err)
		}
	}
	admin.Role, taken.Role = account.Member, account.Admin
	_, err = h.History(ctx, admin, ops, Cursor{})
	h.wantFault(err, "chat.no_room")
	if m := said(taken); len(m) != 3 {
		t.Errorf("%+v", m)
	}
	h.wholeLog(owner, ops)

	accounts := account.Open(h.db.App, nil)
	people, err := accounts.People(ctx, owner, true)
	if err != nil || len(people) != 3 {
		t.Errorf("the house is no account: %+v, %v", people, err)
	}
	house, err := h.Members(ctx, owner, ops)
	if err != nil || len(house) != 3 {
		t.Fatalf("%+v, %v", house, err)
	}
	for _, m := range house {
		if m.Name == "Howdah" {
			if err := accounts.Disable(ctx, owner, m.ID, false); !fault.HasKey(err, "account.no_person") {
				t.Errorf("the house was let in: %v", err)
			}
		}
	}
}

func TestAlertsAreAnsweredByWhoRunsTheHouseAndWhatWasAnsweredIsNotLost(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	ctx := t.Context()
	owner, admin, member := h.person("owner", account.Owner), h.person("admin", account.Admin), h.person("member", account.Member)
	alert := func(part, level int, rules ...string) Alert {
		a := Alert{Incident: "a", Part: part, Severity: "high", Level: level, Critical: level > 4, Cover: &Cover{Actor: "dba", Network: "10.0.0.0/24"}}
		for _, id := range rules {
			a.Rules = append(a.Rules, AlertRule{ID: id, Title: map[string]string{"en": "a title\x00"}})
			a.Cover.Acts = append(a.Cover.Acts, Act{Rule: id, Kind: "drop table", App: "psql"})
		}
		return a
	}
	tell := func(a Alert, text string, answered bool) {
		t.Helper()
		heard, was, err := h.Alert(ctx, "topic", text, a)
		if !heard || was != answered || err != nil {
			t.Fatal(heard, was, err)
		}
	}
	tell(alert(1, 4, "r1"), "a table was dropped \xff\x00", false)
	tell(alert(1, 4, "r1"), "two tables were dropped", false)
	rooms, err := h.Mine(ctx, owner)
	if err != nil || len(rooms) != 1 {
		t.Fatal(rooms, err)
	}
	ops := rooms[0].ID
	said := func() []Message {
		t.Helper()
		page, err := h.History(ctx, owner, ops, Cursor{})
		if err != nil {
			t.Fatal(err)
		}
		return page.Messages
	}
	first := said()[0]
	if first.Body != "two tables were dropped" || first.Alert == nil || first.Alert.State != AlertOpen || first.Alert.Rules[0].ID != "r1" {
		t.Fatalf("%+v", first)
	}
	answer := func(who account.Person, what State, m Message, days int, cover string) (Receipt, error) {
		return h.Answer(ctx, who, AnswerDraft{Room: ops, Seq: m.Seq, ClientID: newID(), What: what, Days: days, Cover: cover})
	}
	refused := func(key string, _ Receipt, err error) { t.Helper(); h.wantFault(err, key) }
	words := Message{Seq: h.say(admin, ops, "Looking.")}
	r, err := answer(member, Acknowledged, first, 0, "")
	refused("chat.no_room", r, err)
	r, err = answer(owner, Acknowledged, words, 0, "")
	refused("chat.no_alert", r, err)
	r, err = answer(owner, AlertOpen, first, 0, "")
	refused("chat.answer", r, err)
	r, err = answer(owner, Reopened, first, 0, "")
	refused("chat.not_answered", r, err)
	r, err = answer(owner, Muted, first, 365, first.Alert.Cover.ID())
	refused("chat.mute_days", r, err)
	r, err = answer(owner, Muted, first, 7, "of another")
	refused("chat.alert_grew", r, err)

	// The same try again is the same answer, whoever of several nodes takes it.
	draft := AnswerDraft{Room: ops, Seq: first.Seq, ClientID: newID(), What: Acknowledged, Note: " seen  it "}
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			if got, err := h.Answer(ctx, admin, draft); err != nil || got.Seq == 0 {
				t.Error(got, err)
			}
		})
	}
	all.Wait()
	if a := said()[0].Alert; a.State != Acknowledged || len(a.Answers) != 1 || a.Answers[0].By.Handle != "admin" || a.Answers[0].Note != "seen it" {
		t.Fatalf("%+v", a)
	}
	// More of the same is shown in its place; what is louder is not slipped under the answer, but told anew, and that is open.
	tell(alert(1, 4, "r1"), "three tables were dropped", false)
	tell(alert(1, 4, "r1", "r2"), "and a role was made", true)
	tell(alert(2, 5, "r1", "r2"), "and a role was made", false)
	m := said()
	if len(m) != 3 || m[0].Body != "three tables were dropped" || m[0].Alert.State != Acknowledged || m[2].Alert.State != AlertOpen || m[2].Alert.Part != 2 {
		t.Fatalf("%+v", m)
	}
	second := m[2]
	// To say that one did it oneself does not close what is critical; to acknowledge it does.
	if _, err := answer(owner, Mine, second, 0, ""); err != nil {
		t.Fatal(err)
	}
	if a := said()[2].Alert; a.State != AlertOpen || len(a.Answers) != 1 {
		t.Fatalf("%+v", a)
	}
	if _, err := answer(admin, Reopened, first, 0, ""); err != nil {
		t.Fatal(err)
	}
	if _, err := answer(admin, Muted, second, 7, second.Alert.Cover.ID()); err != nil {
		t.Fatal(err)
	}
	m = said()
	if a := m[2].Alert; a.State != Muted || a.Answers[1].Until == nil || a.Answers[1].Until.Sub(a.Answers[1].At).Hours() != 7*24 || m[0].Alert.State != Muted {
		t.Fatalf("%+v %+v", m[0].Alert, a)
	}
	answers, upTo, more, err := h.Answers(ctx, 0, 100)
	if err != nil || len(answers) != 4 || more || answers[3].Part != 2 || answers[3].Cover.ID() != second.Alert.Cover.ID() || answers[3].By.Handle != "admin" {
		t.Fatalf("%+v %v %v", answers, more, err)
	}
	if rest, end, more, err := h.Answers(ctx, upTo, 100); err != nil || len(rest) != 0 || end != upTo || more {
		t.Fatal(rest, end, more, err)
	}
	events := h.wholeLog(owner, ops)
	if last := events[len(events)-1]; last.Kind != Answered || last.Message == nil || last.Message.Alert == nil {
		t.Errorf("%+v", last)
	}

	// The database goes back to before all of it: what the watch still knows is told again, and answered as it was.
	if _, err := h.db.App.Exec(ctx, `DELETE FROM chat.change WHERE kind = 'answer'`); err != nil {
		t.Fatal(err)
	}
	if _, err := h.db.App.Exec(ctx, `UPDATE chat.message SET alert = jsonb_set(alert, '{state}', '"open"') - 'answers' WHERE alert IS NOT NULL`); err != nil {
		t.Fatal(err)
	}
	answers[0].By.Handle = "gone"
	for range 2 {
		if err := h.Reanswer(ctx, answers); err != nil {
			t.Fatal(err)
		}
	}
	m = said()
	if m[0].Alert.State != Muted || m[2].Alert.State != Muted || len(m[2].Alert.Answers) != 2 || len(m[0].Alert.Answers) != 3 {
		t.Errorf("%+v %+v", m[0].Alert, m[2].Alert)
	}
	if again, _, _, err := h.Answers(ctx, upTo, 100); err != nil || len(again) != 4 {
		t.Errorf("%+v, %v", again, err)
	}
	if _, err := answer(owner, Reopened, second, 0, ""); err != nil {
		t.Fatal(err)
	}
	if m = said(); m[0].Alert.State != AlertOpen || m[2].Alert.State != AlertOpen {
		t.Errorf("a mute was ended, and still stands there: %+v %+v", m[0].Alert, m[2].Alert)
	}

	// Whoever can write rows keeps nothing from being told, read or heard.
	if _, err := h.db.App.Exec(ctx, `UPDATE chat.message SET alert = '"x"' WHERE alert IS NOT NULL`); err != nil {
		t.Fatal(err)
	}
	if _, err := h.db.App.Exec(ctx, `UPDATE chat.change SET detail = '[1]' WHERE kind = 'answer' AND seq = (SELECT min(seq) FROM chat.change WHERE kind = 'answer' AND seq > $1 AND client_id IS NOT NULL)`, upTo); err != nil {
		t.Fatal(err)
	}
	tell(alert(2, 6, "r1", "r2"), "and it goes on", false)
	if m = said(); m[2].Body != "and it goes on" || m[2].Alert.Incident != second.Alert.Incident || m[2].Alert.State != AlertOpen || m[0].Alert == nil {
		t.Errorf("%+v", m)
	}
	if heard, _, more, err := h.Answers(ctx, upTo, 100); err != nil || len(heard) != 4 || more {
		t.Errorf("%d answers are heard, %v", len(heard), err)
	}
	if heard, at, more, err := h.Answers(ctx, upTo, 1); err != nil || len(heard) != 0 || at <= upTo || !more {
		t.Errorf("%d answers are heard up to %d, %v", len(heard), at, err)
	}
}
