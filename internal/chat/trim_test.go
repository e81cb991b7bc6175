package chat

import (
	"bytes"
	"fmt"
	"slices"
	"testing"
	"time"

	"howdah/internal/account"
)

// TestWhatARoomDoesNotKeepGoesWithAllThatHangsOnIt: in small pieces, of which one is left undone; what is younger stays as it was, counts are as counted anew, and who missed it all heals.
func TestWhatARoomDoesNotKeepGoesWithAllThatHangsOnIt(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	ctx := t.Context()
	ann, bob, eve := h.person("ann", account.Member), h.person("bob", account.Member), h.person("eve", account.Member)
	room, other := h.room(ann, Private, bob), h.room(ann, Private, bob)
	exec := func(sql string, args ...any) {
		t.Helper()
		if _, err := h.db.App.Exec(ctx, sql, args...); err != nil {
			t.Fatal(err)
		}
	}
	must := func(_ any, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	root := h.say(ann, room, "a question of quokkas")
	first := h.say(ann, room, "@bob the xylophone stands here")
	must(h.React(ctx, bob, room, first, "👍", true, newID()))
	must(h.Pin(ctx, bob, room, first, true, newID()))
	must(0, h.Save(ctx, bob, room, first, true))
	must(h.Edit(ctx, ann, Draft{Room: room, ClientID: newID(), Body: "@bob the zither stands here"}, first))
	for range 7 {
		h.say(ann, room, "xylophone, xylophone")
	}
	lone := h.say(ann, room, "a thread that ends")
	reply := func(to int64, body string) int64 {
		t.Helper()
		got, err := h.Post(ctx, bob, Draft{Room: room, ClientID: newID(), Body: body, Thread: to})
		must(got, err)
		return got.Seq
	}
	reply(lone, "over")
	oldReply := reply(root, "an old answer about xylophones")
	exec(`INSERT INTO chat.content (id, sha256, size, type) OVERRIDING SYSTEM VALUE VALUES (71, 'a', 10, 'text/plain'), (72, 'b', 20, 'text/plain')`)
	exec(`INSERT INTO chat.file (room_id, seq, n, content_id, person_id, name) VALUES ($1, $2, 1, 71, $3, 'x.txt'), ($1, $2, 2, 72, $3, 'y.txt')`, room, first, ann.ID)
	exec(`UPDATE chat.message SET files = 2 WHERE room_id = $1 AND seq = $2`, room, first)
	exec(`UPDATE chat.message SET at = at - interval '60 days' WHERE room_id = $1`, room)
	exec(`UPDATE chat.change SET at = at - interval '60 days' WHERE room_id = $1`, room)
	must(h.Edit(ctx, ann, Draft{Room: room, ClientID: newID(), Body: "@bob the theremin stands here"}, first)) // yesterday, of a message that goes
	young := h.say(ann, room, "@bob a marimba")
	answer := reply(root, "a young answer: marimba")
	exec(`INSERT INTO chat.file (room_id, seq, n, content_id, person_id, name) VALUES ($1, $2, 1, 72, $3, 'y.txt')`, room, young, ann.ID)
	kept := h.say(ann, other, "xylophone too, elsewhere")
	exec(`UPDATE chat.message SET at = at - interval '60 days' WHERE room_id = $1`, other)
	must(h.Delete(ctx, ann, room, root, newID()))
	must(h.IndexSome(ctx, 1))

	// What would go, said before anything does.
	days := 30
	_, err := h.PlanRetention(ctx, bob, room, &days)
	h.wantFault(err, "chat.may_not_retain")
	_, err = h.SetRetention(ctx, eve, room, &days)
	h.wantFault(err, "chat.no_room")
	_, err = h.PlanRetention(ctx, ann, 0, &days)
	h.wantFault(err, "account.admins_only")
	plan, err := h.PlanRetention(ctx, ann, room, &days)
	if err != nil || plan.Messages != 12 || plan.Files != 2 || plan.Bytes != 10 || time.Until(plan.From) < 23*time.Hour {
		t.Errorf("%+v %v", plan, err)
	}
	for range 2 { // again is success, and no change
		if held, err := h.SetRetention(ctx, ann, room, &days); err != nil || held.Days != 30 {
			t.Fatal(held, err)
		}
	}
	must(h.SetRetention(ctx, ann, other, new(int)))
	if gone, err := h.Trim(ctx, time.Now()); err != nil || gone != 0 {
		t.Fatal("it went without warning:", gone, err)
	}
	later := time.Now().Add(25 * time.Hour)
	unread := h.mine(bob, room).Unread
	exec(`UPDATE chat.member SET read_seq = 0 WHERE room_id = $1 AND person_id = $2`, room, bob.ID)
	seen, err := h.top(ctx, room)
	must(seen, err)

	// One piece, and whoever does it is killed; then the rest.
	if n, more, err := h.trimOnce(ctx, room, later, 5); err != nil || n != 5 || !more {
		t.Fatal(n, more, err)
	}
	h.wholeLogFrom(ann, room)
	gone, err := h.trim(ctx, later, 5)
	if err != nil || gone != 7 {
		t.Fatal(gone, err)
	}
	if again, err := h.trim(ctx, later, 5); err != nil || again != 0 {
		t.Fatal(again, err)
	}
	events := h.wholeLogFrom(ann, room)
	held, _, err := h.Retention(ctx, bob, room)
	if err != nil || held.First <= oldReply || held.First > young || events[0].Seq != held.First {
		t.Fatalf("%+v %v", held, err)
	}
	if last := events[len(events)-1]; last.Kind != Trimmed || last.Before != held.First {
		t.Errorf("%+v", last)
	}
	for _, e := range events {
		if e.Kind == Edited && e.Message != nil {
			t.Error("a change still bears the message that is gone")
		}
	}
	for _, table := range []string{"mention WHERE seq", "reaction WHERE message_seq", "pin WHERE message_seq", "saved WHERE message_seq", "file WHERE seq", "change WHERE seq", "follow WHERE thread <> " + fmt.Sprint(root) + " AND thread"} {
		var left int
		if err := h.db.App.QueryRow(ctx, `SELECT count(*) FROM chat.`+table+` < $2 AND room_id = $1`, room, held.First).Scan(&left); err != nil || left > 0 {
			t.Errorf("%s: %d %v", table, left, err)
		}
	}
	var words int
	if err := h.db.App.QueryRow(ctx, `SELECT (SELECT count(*) FROM chat.message WHERE room_id = $1 AND body ~ 'xylophone|zither|quokka') + (SELECT count(*) FROM chat.change WHERE room_id = $1 AND detail::text ~ 'xylophone|zither')`, room).Scan(&words); err != nil || words > 0 {
		t.Error("words are left:", words, err)
	}

	// Pages: the end, page after page backwards, the thread whose beginning is gone.
	page, err := h.History(ctx, bob, room, Cursor{})
	if err != nil || len(page.Messages) != 1 || page.Messages[0].Seq != young || page.Earlier {
		t.Fatalf("%+v %v", page.Messages, err)
	}
	if before, err := h.History(ctx, bob, room, Cursor{Before: young}); err != nil || len(before.Messages) != 0 || before.Earlier {
		t.Fatalf("%+v %v", before, err)
	}
	thread, err := h.Thread(ctx, bob, room, answer, Cursor{})
	if err != nil || !thread.Root.Deleted || thread.Root.Seq != root || thread.Root.Body != "" || len(thread.Messages) != 1 || thread.Messages[0].Seq != answer {
		t.Fatalf("%+v %v", thread, err)
	}
	_, err = h.Thread(ctx, bob, room, lone, Cursor{})
	h.wantFault(err, "chat.no_message")
	_, err = h.Restore(ctx, ann, room, root, newID()) // its words are gone
	h.wantFault(err, "chat.no_message")
	if back, err := h.UndoDeletions(ctx, ann, Deletions{Room: room, Person: ann.ID, Since: time.Now().Add(-time.Hour)}, newID()); err != nil || len(back) != 0 {
		t.Errorf("%+v %v", back, err)
	}
	if m, err := h.Post(ctx, ann, Draft{Room: room, ClientID: newID(), Body: "and on", Thread: root}); err != nil || m.Seq <= answer {
		t.Fatal(m, err)
	}

	// Counts, and who slept through it.
	r := h.mine(bob, room)
	if r.Unread != 1 || r.Mentions != 1 || unread < r.Unread {
		t.Errorf("%+v", r)
	}
	healed, err := h.Since(ctx, bob, room, 2, 0)
	if err != nil || healed[0].Seq != held.First || !slices.ContainsFunc(healed, func(e Event) bool { return e.Kind == Trimmed }) {
		t.Errorf("%+v %v", healed, err)
	}
	if healed, err = h.Since(ctx, bob, room, seen, 0); err != nil || healed[0].Seq != seen+1 {
		t.Errorf("%+v %v", healed, err)
	}

	// Search: not found, and not in the index either; what others said stays found.
	found, err := h.Search(ctx, ann, Ask{Text: "xylophone"})
	if err != nil || len(found.Found) != 1 || found.Found[0].Room.ID != other || found.Found[0].Message.Seq != kept {
		t.Errorf("%+v %v", found, err)
	}
	if found, err = h.Search(ctx, ann, Ask{Text: "marimba"}); err != nil || len(found.Found) != 2 {
		t.Errorf("%+v %v", found, err)
	}
	blocks, err := h.db.App.Query(ctx, `SELECT data FROM chat.search_block`)
	must(blocks, err)
	all := []byte{}
	for blocks.Next() {
		var one []byte
		must(0, blocks.Scan(&one))
		all = append(all, one...)
	}
	if bytes.Contains(all, []byte("quokka")) || !bytes.Contains(all, []byte("xylophone")) {
		t.Error("the index has words that are gone, or lost some that are not")
	}

	// What a backup brings back goes again; what is kept for ever stays.
	exec(`INSERT INTO chat.message (room_id, seq, author_id, client_id, at, body) VALUES ($1, $2, $3, gen_random_uuid(), now() - interval '60 days', 'back again')`, room, first, ann.ID)
	if _, err := h.Trim(ctx, later); err != nil {
		t.Fatal(err)
	}
	_, err = h.Message(ctx, ann, room, first)
	h.wantFault(err, "chat.no_message")

	// Under a longer rule what comes back is young enough to stay, with what hangs on it, and is found; what is too old for that one, too, goes.
	year := 365
	must(h.SetRetention(ctx, ann, room, &year))
	exec(`INSERT INTO chat.message (room_id, seq, author_id, client_id, at, body, marked) VALUES ($1, $2, $3, gen_random_uuid(), now() - interval '40 days', 'a recovered sousaphone', true),
		($1, $2 + 1, $3, gen_random_uuid(), now() - interval '400 days', 'an ancient ophicleide', true)`, room, first, ann.ID)
	exec(`INSERT INTO chat.reaction (room_id, message_seq, person_id, emoji, seq) VALUES ($1, $2, $3, '👍', 1), ($1, $2 + 1, $3, '👍', 2)`, room, first, bob.ID)
	if n, err := Recovered(ctx, h.db.App, Back{Messages: map[int64][]int64{room: {first, first + 1}}}); err != nil || n != 2 {
		t.Fatal(n, err)
	}
	must(h.IndexSome(ctx, 1))
	exec(`UPDATE chat.search_room SET trimmed = 0`)
	for range 2 {
		if gone, err := h.Trim(ctx, later); err != nil || gone != 0 {
			t.Fatal(gone, err)
		}
	}
	if m, err := h.Message(ctx, ann, room, first); err != nil || m.Body != "a recovered sousaphone" || len(m.Reactions) != 1 {
		t.Errorf("%+v %v", m, err)
	}
	_, err = h.Message(ctx, ann, room, first+1)
	h.wantFault(err, "chat.no_message")
	if found, err = h.Search(ctx, ann, Ask{Text: "sousaphone"}); err != nil || len(found.Found) != 1 {
		t.Errorf("%+v %v", found, err)
	}
	must(h.SetRetention(ctx, ann, room, new(int)))
	if gone, err := h.Trim(ctx, later.AddDate(1, 0, 0)); err != nil || gone != 0 {
		t.Error(gone, err)
	}

	// The house's rule: of rooms without one of their own, and never of #ops.
	owner := h.person("owner", account.Owner)
	must(h.SetRetention(ctx, ann, other, nil))
	must(0, h.SetHouseRetention(ctx, owner, 7))
	if gone, err := h.Trim(ctx, later); err != nil || gone != 1 {
		t.Error(gone, err)
	}
	if _, err := h.Message(ctx, ann, room, young); err != nil {
		t.Error(err)
	}

	// The house's rule again, which is stricter and holds since long: it still begins a day later here.
	exec(`UPDATE account.rule SET keep_from = now() - interval '1 year'`)
	if held, err := h.SetRetention(ctx, ann, room, nil); err != nil || held.Days != 7 || time.Until(held.From) < 23*time.Hour {
		t.Errorf("%+v %v", held, err)
	}
	exec(`UPDATE chat.message SET at = at - interval '9 days' WHERE room_id = $1`, room)
	if gone, err := h.Trim(ctx, time.Now()); err != nil || gone != 0 {
		t.Error("it went without warning:", gone, err)
	}
	if gone, err := h.Trim(ctx, later); err != nil || gone < 3 {
		t.Error(gone, err)
	}
}

// wholeLogFrom fails the test unless a room's log has no gap from where it begins, and returns it.
func (h *house) wholeLogFrom(who account.Person, room int64) (all []Event) {
	h.t.Helper()
	for last := int64(0); ; last = all[len(all)-1].Seq {
		events, err := h.Since(h.t.Context(), who, room, last, 3)
		if err != nil {
			h.t.Fatal(err)
		}
		all = append(all, events...)
		if len(events) < 3 {
			break
		}
	}
	for i, e := range all {
		if i > 0 && e.Seq != all[i-1].Seq+1 {
			h.t.Fatalf("seq %d after %d", e.Seq, all[i-1].Seq)
		}
	}
	if top, err := h.top(h.t.Context(), room); err != nil || all[len(all)-1].Seq != top {
		h.t.Fatal("the log ends at", all[len(all)-1].Seq, "and the room at", top, err)
	}
	return all
}
