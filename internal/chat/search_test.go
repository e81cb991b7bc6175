package chat

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"howdah/internal/account"
	"howdah/internal/pg"
	"howdah/internal/search"
)

// ones are what random texts are made of: little of it, so that questions have answers.
var ones = []string{"資", "料", "庫", "好", "的", "こ", "れ", "한", "글", "👍", "café", "Cafe", "naïve", "ok", "OKAY", "42", "Straße", "ｗｉｄｅ", "foo_bar", "v1.2", " ", " ", ", ", "\n", "、", "-"}

func mixed(rng *rand.Rand, most int) string {
	var b strings.Builder
	for range 1 + rng.IntN(most) {
		b.WriteString(ones[rng.IntN(len(ones))])
		if rng.IntN(3) == 0 {
			b.WriteByte(' ')
		}
	}
	return b.String()
}

// scan is what a search has to give: all messages looked at one by one.
func (h *house) scan(me account.Person, text string) (out []string) {
	h.t.Helper()
	q, err := search.Parse(text)
	if err != nil {
		h.t.Fatal(err)
	}
	type row struct {
		Room, Seq int64
		Kind      Kind
		Role      account.Role
		Name      string
		Author    string
		Body      string
	}
	rows, err := pg.All[row](h.t.Context(), h.db.App, `SELECT x.room_id, x.seq, r.kind, coalesce(m.role, ''), r.name, p.handle, x.body FROM chat.message x JOIN chat.room r ON r.id = x.room_id
		JOIN account.person p ON p.id = x.author_id LEFT JOIN chat.member m ON m.room_id = r.id AND m.person_id = $1
		WHERE x.deleted_at IS NULL ORDER BY x.at DESC, x.room_id DESC, x.seq DESC`, me.ID)
	if err != nil {
		h.t.Fatal(err)
	}
	for _, x := range rows {
		_, ok := q.Match(x.Body)
		for _, f := range q.Filters {
			ok = ok && (f.Key != "from" || f.Value == x.Author) && (f.Key != "in" || f.Value == x.Name)
		}
		if ok && May(Read, Standing{House: me.Role, Kind: x.Kind, Room: x.Role}) {
			out = append(out, fmt.Sprintf("%d/%d", x.Room, x.Seq))
		}
	}
	return out
}

// find is all that a search gives, page after page.
func (h *house) find(me account.Person, text string, limit int) (out []string) {
	h.t.Helper()
	for next := ""; ; {
		answer, err := h.Search(h.t.Context(), me, Ask{Text: text, Limit: limit, Next: next})
		if err != nil {
			h.t.Fatalf("%q: %v", text, err)
		}
		for _, f := range answer.Found {
			out = append(out, fmt.Sprintf("%d/%d", f.Room.ID, f.Message.Seq))
		}
		if next = answer.Next; next == "" {
			return out
		}
	}
}

// Whatever people write, change, take away and bring back, and however much of it the index has in how many parts: what is found is what a look at every message finds.
func TestWhatIsFoundIsWhatALookAtAllMessagesFinds(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.stopIndex() // here the test says when
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(7, seed)) //nolint:gosec // texts
	ann, bob, eve, guest := h.person("ann", account.Owner), h.person("bob", account.Member), h.person("eve", account.Member), h.person("gus", account.Guest)
	people := []account.Person{ann, bob, eve}
	open, closed, other := h.room(ann, Public, bob, eve), h.room(ann, Private, bob, eve, guest), h.room(bob, Private, eve)
	direct, err := h.Direct(t.Context(), bob, eve.ID)
	if err != nil {
		t.Fatal(err)
	}
	type told struct {
		by        account.Person
		room, seq int64
	}
	var posts []told
	var past []string
	stir := func(n int) {
		for range n {
			by := people[rng.IntN(3)]
			room := []int64{open, closed, other, direct.ID}[rng.IntN(4)]
			if _, err := h.Room(t.Context(), by, room); err != nil {
				continue
			}
			switch n := len(posts); {
			case rng.IntN(6) > 0 || n == 0:
				text := mixed(rng, 12)
				if strings.TrimSpace(text) == "" {
					continue
				}
				r, err := h.Post(t.Context(), by, Draft{Room: room, ClientID: newID(), Body: text})
				if err != nil {
					continue // who left a public room may read there, and no more
				}
				posts, past = append(posts, told{by, room, r.Seq}), append(past, text)
			case rng.IntN(2) == 0:
				p := posts[rng.IntN(n)]
				_, _ = h.Edit(t.Context(), p.by, Draft{Room: p.room, ClientID: newID(), Body: "x " + mixed(rng, 9)}, p.seq)
			default:
				p := posts[rng.IntN(n)]
				_, _ = h.Delete(t.Context(), p.by, p.room, p.seq, newID())
			}
		}
	}
	ask := func() string {
		text := past[rng.IntN(len(past))]
		switch rng.IntN(5) {
		case 0: // a stretch of what somebody wrote
			runes := []rune(text)
			i := rng.IntN(len(runes))
			text = strings.Trim(string(runes[i:i+1+rng.IntN(min(len(runes)-i, 6))]), `"`)
		case 1:
			text = `"` + mixed(rng, 3) + `"`
		case 2:
			text = mixed(rng, 1) + " " + mixed(rng, 1)
		case 3:
			text = "from:bob " + mixed(rng, 1)
		default:
			text = mixed(rng, 2)
		}
		return text
	}
	check := func(n int) {
		t.Helper()
		for range n {
			text := ask()
			if _, err := search.Parse(text); err != nil {
				continue
			}
			for _, me := range []account.Person{ann, bob, eve, guest} {
				want, have := h.scan(me, text), h.find(me, text, 1+rng.IntN(20))
				if !slices.Equal(want, have) {
					t.Fatalf("%s asks %q:\nlooked at all: %v\nfound:         %v", me.Handle, text, want, have)
				}
			}
		}
	}
	index := func(least int) {
		t.Helper()
		for more := true; more; {
			var err error
			if more, err = h.IndexSome(t.Context(), least); err != nil {
				t.Fatal(err)
			}
		}
	}
	stir(25)
	check(3)
	for range 18 { // parts enough to be put together
		stir(8)
		index(1)
		stir(2)
	}
	check(12)
	type row struct{ N int }
	if parts, _, err := pg.One[row](t.Context(), h.db.App, `SELECT count(*)::int FROM chat.search_part`); err != nil || parts.N < 2 || parts.N > 16 {
		t.Errorf("%d parts, %v", parts.N, err)
	}

	// Who has left hears no more, and finds no more.
	if err := h.Leave(t.Context(), eve, closed); err != nil {
		t.Fatal(err)
	}
	if err := h.Leave(t.Context(), eve, open); err != nil {
		t.Fatal(err)
	}
	index(1)
	check(5)

	// What comes back from a backup is found: rows that somebody put there without us, and a table that came back as a whole.
	h.db.Exec(t, `CREATE TABLE public.was AS SELECT * FROM chat.message; DELETE FROM chat.message WHERE seq % 3 = 0`)
	check(3)
	h.db.Exec(t, `DELETE FROM chat.message; INSERT INTO chat.message SELECT * FROM public.was; UPDATE chat.message SET body = 'all 資料 ' || body`)
	if _, err := Recovered(t.Context(), h.App(), Back{Whole: true}); err != nil {
		t.Fatal(err)
	}
	check(5)
	index(1)
	check(5)
	if left, err := gaps(t.Context(), h.db.App, nil); err != nil || len(left) > 0 {
		t.Errorf("not indexed: %v, %v", left, err)
	}

	// The log went back behind the index; the index lost a part of itself; it is made anew.
	h.db.Exec(t, `UPDATE chat.search_room SET changes = changes + 1000, posts = posts + 1000`)
	check(3)
	index(1)
	check(5)
	if err := h.Reindex(t.Context()); err != nil {
		t.Fatal(err)
	}
	check(5)
}

func (h *house) App() *pg.Pool { return h.db.App }

// TestSearchesAreBounded: nobody holds all the searches, none goes on for ever, and others are not in the way of that.
func TestSearchesAreBounded(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	ann, bob := h.person("ann", account.Member), h.person("bob", account.Member)
	h.say(ann, h.room(ann, Public, bob), "tea")
	ask := func(who account.Person) error {
		_, err := h.Search(t.Context(), who, Ask{Text: "tea"})
		return err
	}
	for range mostOfOne {
		if !h.beginSearch(ann.ID) {
			t.Fatal("refused")
		}
	}
	h.wantFault(ask(ann), "search.at_once")
	if err := ask(bob); err != nil {
		t.Error(err)
	}
	h.endSearch(ann.ID)
	if err := ask(ann); err != nil {
		t.Error(err)
	}
	h.searchFor = 1
	h.wantFault(ask(bob), "search.slow")
}
