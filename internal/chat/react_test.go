package chat

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"howdah/internal/account"
)

// said is what a list of reactions says, for comparing.
func said(list []Reaction) string {
	var out []string
	for _, r := range list {
		var who []string
		for _, p := range r.People {
			who = append(who, p.Handle)
		}
		out = append(out, fmt.Sprint(r.Emoji, r.Count, who))
	}
	return strings.Join(out, " ")
}

// TestReactionsAreWhatTheLogSays: whoever heard all events, whoever loads the page and whoever counts the table have the same, after any workload.
func TestReactionsAreWhatTheLogSays(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	ctx := t.Context()
	ann, bob, eve, guest := h.person("ann", account.Member), h.person("bob", account.Member), h.person("eve", account.Member), h.person("guest", account.Guest)
	room, private := h.room(ann, Public, bob, guest), h.room(ann, Private, bob)
	react := func(who account.Person, seq int64, emoji string, on bool) (Receipt, error) {
		return h.React(ctx, who, room, seq, emoji, on, newID())
	}

	// Who may: whoever may speak.
	seq := h.say(ann, room, "who likes it?")
	for _, who := range []account.Person{ann, bob, guest} {
		if _, err := react(who, seq, "👍", true); err != nil {
			t.Errorf("%s: %v", who.Handle, err)
		}
	}
	_, err := react(eve, seq, "👍", true)
	h.wantFault(err, "chat.not_member")
	_, err = h.React(ctx, eve, private, h.say(ann, private, "x"), "👍", true, newID())
	h.wantFault(err, "chat.no_room")
	_, err = react(bob, seq, "yes", true)
	h.wantFault(err, "chat.no_emoji")
	_, err = react(bob, seq+1000, "👍", true)
	h.wantFault(err, "chat.no_message")
	_, err = h.React(ctx, bob, room, seq, "👍", false, "no id")
	h.wantFault(err, "chat.client_id")

	// Again is success and no change; a retry is answered like the first try, whatever came between.
	before := h.mine(ann, room).Seq
	if again, err := react(bob, seq, "👍", true); err != nil || again.Seq != 0 || h.mine(ann, room).Seq != before {
		t.Errorf("%+v, %v", again, err)
	}
	client := newID()
	first, err := h.React(ctx, bob, room, seq, "🎉", true, client)
	if err != nil || first.Seq != before+1 {
		t.Fatal(first, err)
	}
	if _, err := react(bob, seq, "🎉", false); err != nil {
		t.Error(err)
	}
	if again, err := h.React(ctx, bob, room, seq, "🎉", true, client); err != nil || again.Seq != first.Seq {
		t.Errorf("%+v, %v", again, err)
	}
	page, err := h.History(ctx, ann, room, Cursor{})
	if err != nil || said(page.Messages[0].Reactions) != "👍3 [ann bob guest]" || len(page.Messages) != 1 {
		t.Errorf("%+v, %v", page.Messages, err)
	}

	// A message has room for so many and no more; a full one can still be joined.
	full := h.say(ann, room, "all of them")
	for i := range mostReactions {
		if _, err := react(ann, full, string(rune(0x1f600+i)), true); err != nil {
			t.Fatal(err)
		}
	}
	_, err = react(bob, full, "🎉", true)
	h.wantFault(err, "chat.reactions_full")
	if _, err := react(bob, full, "😀", true); err != nil {
		t.Error(err)
	}

	// What is deleted has none, takes none, and has them again when it is back.
	if _, err := h.Delete(ctx, ann, room, seq, newID()); err != nil {
		t.Fatal(err)
	}
	_, err = react(bob, seq, "👍", false)
	h.wantFault(err, "chat.deleted")
	if page, err = h.History(ctx, ann, room, Cursor{}); err != nil || len(page.Messages[0].Reactions) != 0 {
		t.Errorf("%+v, %v", page.Messages[0], err)
	}

	// Any workload.
	people := []account.Person{ann, bob, guest}
	emoji := []string{"👍", "❤️", "🇹🇼", "👩‍💻"}
	messages := []int64{h.say(ann, room, "one"), h.say(bob, room, "two"), h.say(ann, room, "three")}
	dice := rand.New(rand.NewPCG(7, 7))
	for range 150 {
		if _, err := react(people[dice.IntN(3)], messages[dice.IntN(3)], emoji[dice.IntN(4)], dice.IntN(2) == 0); err != nil {
			t.Fatal(err)
		}
	}
	type key struct {
		seq   int64
		emoji string
	}
	replayed := map[key][]string{}
	shown := map[int64]string{}
	for _, e := range h.wholeLog(ann, room) {
		if e.Kind != Reacted {
			continue
		}
		k := key{e.Message.Seq, e.Emoji}
		if e.On {
			replayed[k] = append(replayed[k], e.By.Handle)
		} else {
			replayed[k] = slices.DeleteFunc(replayed[k], func(one string) bool { return one == e.By.Handle })
		}
		shown[k.seq] = said(e.Message.Reactions)
	}
	if page, err = h.History(ctx, ann, room, Cursor{}); err != nil {
		t.Fatal(err)
	}
	for _, m := range page.Messages {
		if !slices.Contains(messages, m.Seq) {
			continue
		}
		if have := said(m.Reactions); have != shown[m.Seq] {
			t.Errorf("%d: the page has %s, the last event %s", m.Seq, have, shown[m.Seq])
		}
		n := 0
		for _, r := range m.Reactions {
			var who []string
			for _, p := range r.People {
				who = append(who, p.Handle)
			}
			if want := replayed[key{m.Seq, r.Emoji}]; r.Count != len(want) || !slices.Equal(who, want) {
				t.Errorf("%d: %s by %v, the log says %v", m.Seq, r.Emoji, who, want)
			}
			n += r.Count
		}
		for k, want := range replayed {
			if k.seq == m.Seq {
				n -= len(want)
			}
		}
		if n != 0 {
			t.Errorf("%d: %d reactions more than the log has", m.Seq, n)
		}
	}
}

func FuzzIsEmoji(f *testing.F) {
	for _, one := range []string{"👍", "👍🏽", "❤️", "❤", "🇹🇼", "1️⃣", "#⃣", "👩‍💻", "👨‍👩‍👧‍👦", "🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f", "✅", "™️", "☝🏿", "🏳️‍🌈"} {
		if !isEmoji(one) {
			f.Errorf("%q is none", one)
		}
		f.Add(one)
	}
	for _, none := range []string{"", "a", "1", "👍👍", "👍 ", "👍a", "🇹", "🇹🇼🇯", "\u200d", "👩\u200d", "️", ":tada:", "好", "<b>", "\x00", "\xff", "👍\n", "🏽", strings.Repeat("👩\u200d", 20) + "👩"} {
		if isEmoji(none) {
			f.Errorf("%q is one", none)
		}
		f.Add(none)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if isEmoji(s) && (!utf8.ValidString(s) || len(s) > 64 || strings.ContainsAny(s, " \t\r\n\x00<>&\"'/%")) {
			t.Errorf("%q", s)
		}
	})
}
