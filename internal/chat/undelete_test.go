package chat

import (
	"fmt"
	"testing"
	"time"

	"howdah/internal/account"
)

// TestWhatSomebodyDeletedComesBack: eve empties two rooms; those who moderate them see how much it is, bring it back in its place, and what others deleted, or eve before that, stays away. All of it is on the rooms' logs.
func TestWhatSomebodyDeletedComesBack(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	ctx := t.Context()
	boss, owner, eve, bob := h.person("boss", account.Admin), h.person("owner", account.Member), h.person("eve", account.Member), h.person("bob", account.Member)
	public, private, direct := h.room(owner, Public, eve, bob), h.room(owner, Private, eve), int64(0)
	talk, err := h.Direct(ctx, eve, bob.ID)
	if err != nil {
		t.Fatal(err)
	}
	direct = talk.ID
	var said []int64
	for i := range 6 {
		said = append(said, h.say(eve, public, fmt.Sprintf("eve %d @bob", i)))
	}
	secret, word := h.say(eve, private, "in private"), h.say(eve, direct, "between us")
	remove := func(by account.Person, room, seq int64) {
		t.Helper()
		if _, err := h.Delete(ctx, by, room, seq, newID()); err != nil {
			t.Fatal(err)
		}
	}
	remove(eve, public, said[0]) // before the moment
	var since time.Time
	if err := h.db.App.QueryRow(ctx, `SELECT clock_timestamp()`).Scan(&since); err != nil {
		t.Fatal(err)
	}
	for _, seq := range said[1:4] {
		remove(eve, public, seq)
	}
	remove(eve, private, secret)
	remove(eve, direct, word)
	remove(owner, public, said[4]) // not by eve
	unread := func() [2]int {
		r := h.mine(bob, public)
		return [2]int{r.Unread, r.Mentions}
	}
	if have := unread(); have != [2]int{1, 1} {
		t.Errorf("bob has %v unread", have)
	}

	counted := func(who account.Person, d Deletions, want map[int64]int) {
		t.Helper()
		rooms, err := h.CountDeleted(ctx, who, d)
		have := map[int64]int{}
		for _, r := range rooms {
			have[r.Room] = r.Messages
		}
		if err != nil || fmt.Sprint(have) != fmt.Sprint(want) {
			t.Errorf("%s: %v, %v, want %v", who.Handle, have, err, want)
		}
	}
	d := Deletions{Person: eve.ID, Since: since}
	counted(owner, d, map[int64]int{public: 3, private: 1})
	counted(boss, d, map[int64]int{public: 3}) // the private room is not there for them, and the direct one is nobody's but two people's
	counted(bob, d, map[int64]int{})
	counted(eve, d, map[int64]int{})
	counted(owner, Deletions{Person: eve.ID, Since: since, Room: private}, map[int64]int{private: 1})
	counted(owner, Deletions{Person: eve.ID, Since: since.Add(-time.Hour)}, map[int64]int{public: 4, private: 1})
	counted(owner, Deletions{Person: eve.ID, Since: since.Add(-time.Hour), Until: since}, map[int64]int{public: 1})
	counted(owner, Deletions{Person: bob.ID, Since: since}, map[int64]int{})

	for who, want := range map[*account.Person]string{&bob: "chat.may_not_undelete", &eve: "chat.may_not_undelete"} {
		_, err := h.UndoDeletions(ctx, *who, Deletions{Room: public, Person: eve.ID, Since: since}, newID())
		h.wantFault(err, want)
		if rooms, err := h.UndoDeletions(ctx, *who, d, newID()); err != nil || len(rooms) > 0 {
			t.Errorf("%s: %v, %v", who.Handle, rooms, err)
		}
	}
	_, err = h.UndoDeletions(ctx, boss, Deletions{Room: private, Person: eve.ID, Since: since}, newID())
	h.wantFault(err, "chat.no_room")
	_, err = h.UndoDeletions(ctx, bob, Deletions{Room: direct, Person: eve.ID, Since: since}, newID())
	h.wantFault(err, "chat.may_not_undelete")
	_, err = h.UndoDeletions(ctx, owner, Deletions{Person: eve.ID}, newID())
	h.wantFault(err, "chat.deletions")
	_, err = h.UndoDeletions(ctx, owner, d, "no id")
	if err == nil {
		t.Error("a retry could not be told from another one")
	}

	// A tab that was away while all of it happened heals by the log, and so does one that saw it.
	before := h.mine(bob, public).Seq
	remove(eve, public, said[5])
	client := newID()
	for range 2 { // the retry is answered as the first
		rooms, err := h.UndoDeletions(ctx, owner, d, client)
		if err != nil || len(rooms) != 2 || rooms[0].Messages+rooms[1].Messages != 5 {
			t.Fatalf("%+v, %v", rooms, err)
		}
	}
	counted(owner, d, map[int64]int{})
	if rooms, err := h.UndoDeletions(ctx, owner, d, newID()); err != nil || len(rooms) > 0 {
		t.Errorf("%+v, %v", rooms, err)
	}
	events, err := h.Since(ctx, bob, public, before, 0)
	if err != nil || len(events) != 6 {
		t.Fatalf("%+v, %v", events, err)
	}
	for i, seq := range []int64{said[1], said[2], said[3], said[5]} {
		if e := events[i+1]; e.Kind != Undeleted || e.By.ID != owner.ID || e.Message == nil || e.Message.Seq != seq || e.Message.Deleted || e.Message.Body == "" {
			t.Errorf("%+v %+v", e, e.Message)
		}
	}
	if last := events[5]; last.Kind != Restored || last.Count != 4 || last.Person == nil || last.Person.ID != eve.ID || last.By.ID != owner.ID {
		t.Errorf("%+v", last)
	}
	if have := unread(); have != [2]int{4, 4} {
		t.Errorf("bob has %v unread", have)
	}
	page, err := h.History(ctx, bob, public, Cursor{})
	if err != nil {
		t.Fatal(err)
	}
	gone := map[int64]bool{}
	for _, m := range page.Messages {
		gone[m.Seq] = m.Deleted
	}
	if !gone[said[0]] || gone[said[1]] || !gone[said[4]] || gone[said[5]] || page.Events[len(page.Events)-1].Count != 4 {
		t.Errorf("%v %+v", gone, page.Events)
	}

	// What is deleted again, by somebody else, was not eve's doing; by eve, it is once more.
	remove(owner, public, said[1])
	remove(eve, public, said[2])
	counted(owner, d, map[int64]int{public: 1})

	// Rows that came back from a backup without us: the windows hear of them, and of no more than there is.
	if _, err := h.db.App.Exec(ctx, `UPDATE chat.message SET body = 'as it was' WHERE room_id = $1 AND seq = $2`, public, said[3]); err != nil {
		t.Fatal(err)
	}
	before = h.mine(bob, public).Seq
	if n, err := Recovered(ctx, h.db.App, Back{Messages: map[int64][]int64{public: {said[3], 1 << 40}, 1 << 40: {1}}}); err != nil || n != 1 {
		t.Fatal(n, err)
	}
	if events, err = h.Since(ctx, bob, public, before, 0); err != nil || len(events) != 2 || events[0].Message.Body != "as it was" || events[1].Kind != Restored || events[1].Person != nil || events[1].Count != 1 {
		t.Errorf("%+v, %v", events, err)
	}
	// The whole table came back: what the windows show, they have shown all the time; each room says it once.
	before = h.mine(eve, private).Seq
	if n, err := Recovered(ctx, h.db.App, Back{Whole: true}); err != nil || n != 3 {
		t.Fatal(n, err)
	}
	if events, err = h.Since(ctx, eve, private, before, 0); err != nil || len(events) != 1 || events[0].Kind != Restored || events[0].Count != 1 {
		t.Errorf("%+v, %v", events, err)
	}
	for _, room := range []int64{public, private} {
		h.wholeLog(owner, room)
	}
	h.wholeLog(eve, direct)
}
