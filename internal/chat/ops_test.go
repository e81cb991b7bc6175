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
