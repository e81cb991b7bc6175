package chat

import (
	"sync"
	"sync/atomic"
	"testing"

	"howdah/internal/account"
	"howdah/internal/fault"
)

// TestAWayBackIsWalkedOnce: who runs the house wishes, each step at its time and of several people at once one; what is written in the rows by whoever can, is followed nowhere.
func TestAWayBackIsWalkedOnce(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	ctx := t.Context()
	owner, admin, member := h.person("owner", account.Owner), h.person("admin", account.Admin), h.person("member", account.Member)
	tell := func(incident string, back bool) {
		t.Helper()
		if heard, _, err := h.Alert(ctx, "topic", "**High**: a table is gone", Alert{Incident: incident, Part: 1, Severity: "high", Level: 4, Back: back}); err != nil || !heard {
			t.Fatal(heard, err)
		}
	}
	tell("lost", true)
	tell("harmless", false)
	mine, err := h.Mine(ctx, owner)
	if err != nil || len(mine) != 1 {
		t.Fatal(mine, err)
	}
	ops := mine[0].ID
	all := func() []Message {
		t.Helper()
		page, err := h.History(ctx, owner, ops, Cursor{})
		if err != nil {
			t.Fatal(err)
		}
		return page.Messages
	}
	wish := func(who account.Person, seq int64, what Wish, id string) (Receipt, error) {
		return h.GoBack(ctx, who, WayDraft{Room: ops, Seq: seq, ClientID: id, What: what})
	}
	refused := func(who account.Person, seq int64, what Wish, key string) {
		t.Helper()
		if _, err := wish(who, seq, what, NewID()); !fault.HasKey(err, key) {
			t.Errorf("%s by %s: %v, not %s", what, who.Handle, err, key)
		}
	}
	lost, harmless := all()[0].Seq, all()[1].Seq
	refused(member, lost, WishPlan, "chat.no_room")
	refused(owner, harmless, WishPlan, "chat.way_nothing")
	refused(owner, lost, WishReplace, "chat.no_way")
	refused(owner, lost, "everything", "chat.way_wish")
	id := NewID()
	first, err := wish(admin, lost, WishPlan, id)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := wish(admin, lost, WishPlan, id); err != nil || again != first {
		t.Errorf("a retry is answered with %+v, %v", again, err)
	}
	refused(owner, lost, WishPlan, "chat.way_there")
	ways := func() []Message {
		t.Helper()
		ways, err := h.Ways(ctx)
		if err != nil {
			t.Fatal(err)
		}
		return ways
	}
	if w := ways(); len(w) != 1 || w[0].Way.State != WayWanted || w[0].Way.Incident != "lost" || w[0].Way.By.Handle != "admin" || w[0].By.Name != "Howdah" {
		t.Fatalf("%+v", w)
	}
	at := ways()[0].Seq
	refused(owner, at, WishPlan, "chat.no_alert")
	move := func(now Way, text string, want bool) {
		t.Helper()
		was := *ways()[0].Way
		if moved, err := h.MoveWay(ctx, at, was, now, text); err != nil || moved != want {
			t.Fatal(moved, err)
		}
	}
	refused(owner, at, WishBeside, "chat.way_moved") // there is no plan yet
	plan := *ways()[0].Way
	plan.State = WayPlanned
	move(plan, "the plan", true)
	refused(owner, at, WishReplace, "chat.way_moved") // nobody knows yet what would be lost
	refused(owner, at, WishUndo, "chat.way_moved")
	plan.Looked, plan.Tables = true, []WayTable{{Name: "shop.orders", There: true, Rows: 3, Gone: 2, Altered: 1}, {Name: "shop.line", Rows: 3, Gone: 3}}
	move(plan, "", true)
	refused(owner, at, WishMerge, "chat.way_moved") // into a table that is not there
	if m := all()[2]; m.Body != "the plan" || m.Way == nil || !m.Way.Offers(WishReplace) || !m.Way.Offers(WishBeside) {
		t.Errorf("%+v", m)
	}
	refused(member, at, WishReplace, "chat.no_room")

	var granted atomic.Int64
	var together sync.WaitGroup
	for _, who := range []account.Person{owner, admin, owner, admin} {
		together.Go(func() {
			if _, err := wish(who, at, WishReplace, NewID()); err == nil {
				granted.Add(1)
			} else if !fault.HasKey(err, "chat.way_moved") {
				t.Error(err)
			}
		})
	}
	together.Wait()
	if granted.Load() != 1 || ways()[0].Way.State != WayAsked || ways()[0].Way.Mode != WishReplace {
		t.Fatalf("%d were granted: %+v", granted.Load(), ways()[0].Way)
	}
	if moved, err := h.MoveWay(ctx, at, plan, plan, "what is no more"); err != nil || moved { // by whoever looks still
		t.Error(moved, err)
	}
	running := *ways()[0].Way
	running.State = WayRunning
	move(running, "", true)
	done := running
	done.State, done.Done = WayDone, "20261123_140211"
	move(done, "it is back", true)
	if len(ways()) != 0 || !all()[2].Way.Offers(WishUndo) {
		t.Errorf("%+v", all()[2].Way)
	}
	if _, err := wish(owner, at, WishUndo, NewID()); err != nil {
		t.Fatal(err)
	}
	if w := ways(); len(w) != 1 || w[0].Way.State != WayUndo || w[0].Way.By.Handle != "owner" {
		t.Errorf("%+v", w)
	}
	undone := *ways()[0].Way
	undone.State = WayUndone
	move(undone, "", true)
	if _, err := wish(owner, lost, WishPlan, NewID()); err != nil { // another time
		t.Error(err)
	}
	wishes, upTo, err := h.Wishes(ctx, 0, 100)
	if err != nil || len(wishes) != 4 || wishes[0].What != WishPlan || wishes[0].ID != id || wishes[0].Incident != "lost" || wishes[1].What != WishReplace || wishes[2].What != WishUndo {
		t.Errorf("%+v, %v", wishes, err)
	}
	if more, same, err := h.Wishes(ctx, upTo, 100); err != nil || len(more) != 0 || same != upTo {
		t.Errorf("%+v, %d, %v", more, same, err)
	}
	events, err := h.Since(ctx, owner, ops, 0, 100)
	if err != nil || len(events) == 0 {
		t.Fatal(err)
	}
	wished := 0
	for _, e := range events {
		if e.Kind == Wished && e.Message != nil {
			wished++
		}
	}
	if wished != 4 {
		t.Errorf("%d wishes are told to the pages", wished)
	}

	if _, err := h.db.App.Exec(ctx, `UPDATE chat.message SET way = '["x"]' WHERE way IS NOT NULL`); err != nil {
		t.Fatal(err)
	}
	if m := all(); len(m) != 4 || m[2].Way.State != WayFailed || len(ways()) != 0 {
		t.Errorf("%+v", m)
	}
	refused(owner, at, WishReplace, "chat.way_moved")
}
