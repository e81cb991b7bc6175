package card

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"image"
	"image/color"
	"image/png"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/text/encoding"
	"golang.org/x/text/encoding/japanese"
	"golang.org/x/text/encoding/simplifiedchinese"
	"golang.org/x/text/encoding/traditionalchinese"

	"howdah/internal/account"
	"howdah/internal/chat"
	"howdah/internal/fault"
	"howdah/internal/files"
	"howdah/internal/outside"
	"howdah/internal/pg/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// house is a test's own database with people in it, and a web beside it.
type house struct {
	*testing.T
	db    *pgtest.DB
	rooms *chat.Rooms
	cards *Cards
	ann   account.Person
	bob   account.Person
	room  int64
	web   *httptest.Server

	mu    sync.Mutex
	asked map[string]int
}

func (h *house) must(err error) {
	h.Helper()
	if err != nil {
		h.Fatal(err)
	}
}

func newHouse(t *testing.T, web http.HandlerFunc) *house {
	t.Helper()
	t.Parallel()
	db := pgtest.New(t)
	h := &house{T: t, db: db, rooms: chat.Open(t.Context(), db.App, db.Steady, nil), asked: map[string]int{}}
	t.Cleanup(h.rooms.Close)
	store := files.Open(t.Context(), db.App, files.DefaultLimits)
	t.Cleanup(store.Close)
	h.web = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h.mu.Lock()
		h.asked[r.URL.Path]++
		h.mu.Unlock()
		if r.Header.Get("Cookie")+r.Header.Get("Authorization") != "" || !strings.Contains(r.UserAgent(), "Bot") {
			t.Errorf("asked with %v", r.Header)
		}
		web(w, r)
	}))
	t.Cleanup(h.web.Close)
	open, err := outside.ParseAllowance([]string{h.web.Listener.Addr().String()})
	h.must(err)
	h.cards = Open(db.App, h.rooms, store, Options{Private: open, Own: "https://talk.example.org", Links: func(body string) (found []string) {
		for word := range strings.FieldsSeq(body) {
			if strings.HasPrefix(word, "http") {
				found = append(found, word)
			}
		}
		return found
	}})
	accounts := account.Open(db.App, nil)
	token, err := accounts.SetupToken(t.Context())
	h.must(err)
	_, h.ann, err = accounts.SetUp(t.Context(), token, account.NewPerson{Handle: "ann", Name: "Ann", Password: "correct horse battery"}, account.Client{},
		func(context.Context, pgx.Tx, account.Person) error { return nil })
	h.must(err)
	invite, _, err := accounts.NewInvite(t.Context(), h.ann, account.Member, nil)
	h.must(err)
	_, h.bob, err = accounts.Accept(t.Context(), invite, account.NewPerson{Handle: "bob", Name: "Bob", Password: "correct horse battery"}, account.Client{},
		func(context.Context, pgx.Tx, account.Person, account.Invite) error { return nil })
	h.must(err)
	room, err := h.rooms.Create(t.Context(), h.ann, chat.NewRoomDraft{Kind: chat.Public, Name: "lobby", ClientID: chat.NewID()})
	h.must(err)
	h.room = room.ID
	h.must(h.rooms.Join(t.Context(), h.bob, h.room))
	return h
}

func (h *house) say(who account.Person, body string) int64 {
	h.Helper()
	receipt, err := h.rooms.Post(h.Context(), who, chat.Draft{Room: h.room, ClientID: chat.NewID(), Body: strings.ReplaceAll(body, "WEB", h.web.URL)})
	h.must(err)
	return receipt.Seq
}

// settle looks up all that is to be looked up now.
func (h *house) settle() {
	h.Helper()
	_, err := h.cards.follow(h.Context())
	h.must(err)
	var workers sync.WaitGroup
	_, err = h.cards.work(h.Context(), make(chan struct{}, atOnce), &workers)
	h.must(err)
	workers.Wait()
}

func (h *house) cardsOf(seq int64) []chat.Card {
	h.Helper()
	m, err := h.rooms.Message(h.Context(), h.ann, h.room, seq)
	h.must(err)
	return m.Cards
}

func (h *house) until(holds func() bool) {
	h.Helper()
	look := time.NewTicker(20 * time.Millisecond)
	defer look.Stop()
	for !holds() {
		select {
		case <-look.C:
		case <-h.Context().Done():
			h.Fatal("it never came")
		}
	}
}

// times is how often a path was asked for; "": how many paths were.
func (h *house) times(path string) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	if path == "" {
		return len(h.asked)
	}
	return h.asked[path]
}

func (h *house) count(sql string) (n int) {
	h.Helper()
	h.must(h.db.App.QueryRow(h.Context(), sql).Scan(&n))
	return n
}

func (h *house) changes() (n int) {
	return h.count(`SELECT count(*)::int FROM chat.change WHERE kind = 'card'`)
}

func picture(t *testing.T, w, h int) []byte {
	t.Helper()
	p := image.NewRGBA(image.Rect(0, 0, w, h))
	for i := range p.Pix {
		p.Pix[i] = byte(i * 7)
	}
	p.Set(0, 0, color.Transparent)
	var b bytes.Buffer
	if err := png.Encode(&b, p); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// claims is the head of a picture that says that it is large.
func claims(w, h uint32) []byte {
	b := []byte("\x89PNG\r\n\x1a\n\x00\x00\x00\x0dIHDR")
	b = binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(b, w), h)
	b = append(b, 8, 2, 0, 0, 0)
	return binary.BigEndian.AppendUint32(b, crc32.ChecksumIEEE(b[12:]))
}

func TestAMessageGetsCardsOfItsLinks(t *testing.T) {
	h := newHouse(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/story":
			w.Header().Set("Content-Type", "text/html; charset=utf-8")
			fmt.Fprintf(w, `<!doctype html><head><title>No</title><meta property="og:title" content="A &amp; B 你好"><meta name="description" content="About it">
				<meta property="og:site_name" content="The Site"><meta property="og:image" content="/p.png"></head>`)
		case "/p.png", "/big.png":
			w.Header().Set("Content-Type", "image/png")
			_, _ = w.Write(picture(t, 640, 320))
		case "/moved":
			http.Redirect(w, r, "/story", http.StatusMovedPermanently)
		case "/plain":
			w.Header().Set("Content-Type", "text/html")
			fmt.Fprint(w, `<title> Plain  page </title><body><svg><title>drawn</title></svg>`)
		default:
			http.NotFound(w, r)
		}
	})
	ctx := t.Context()
	seq := h.say(h.bob, "look WEB/story#part and https://talk.example.org/room/1?at=2 WEB/gone WEB/moved WEB/plain")
	h.settle()
	cards := h.cardsOf(seq)
	if len(cards) != 2 || cards[0].Title != "A & B 你好" || cards[0].Description != "About it" || cards[0].Site != "The Site" || cards[0].Width != 320 || cards[0].Height != 160 ||
		!strings.HasSuffix(cards[0].Address, "/story#part") || cards[1].Title != "A & B 你好" {
		t.Fatalf("%+v", cards)
	}
	if h.changes() != 1 || h.count(`SELECT count(*)::int FROM chat.card_wish`) != 0 {
		t.Error("it is one change of the room, and nothing is left to do")
	}
	events, err := h.rooms.Since(ctx, h.ann, h.room, seq, 0)
	if err != nil || len(events) != 1 || events[0].Kind != chat.CardsChanged || events[0].By.ID != h.bob.ID || len(events[0].Message.Cards) != 2 {
		t.Fatalf("%+v %v", events, err)
	}
	p, err := h.rooms.CardPicture(ctx, h.ann, h.room, seq, cards[0].ID())
	if err != nil || p.Type != "image/png" {
		t.Fatal(p.Type, err)
	}
	if made, err := png.DecodeConfig(bytes.NewReader(p.Data)); err != nil || made.Width != 320 {
		t.Error(made, err)
	}

	// The same link in another message asks nobody; what leads nowhere is known as well.
	again := h.say(h.ann, "WEB/story WEB/gone")
	h.settle()
	if len(h.cardsOf(again)) != 1 || h.times("/story") != 2 || h.times("/gone") != 1 { // twice: moved
		t.Errorf("%+v", h.cardsOf(again))
	}

	// What was edited is judged again; what stands stays.
	edit := func(who account.Person, seq int64, body string) {
		t.Helper()
		_, err := h.rooms.Edit(ctx, who, chat.Draft{Room: h.room, ClientID: chat.NewID(), Body: strings.ReplaceAll(body, "WEB", h.web.URL)}, seq)
		h.must(err)
		h.settle()
	}
	edit(h.ann, again, "WEB/plain then WEB/story")
	if cards := h.cardsOf(again); len(cards) != 2 || cards[0].Title != "Plain page" || cards[0].Site != "127.0.0.1" || cards[1].Title != "A & B 你好" {
		t.Errorf("%+v", cards)
	}
	edit(h.ann, again, "nothing")
	if cards := h.cardsOf(again); len(cards) != 0 {
		t.Errorf("%+v", cards)
	}
	before := h.changes()
	edit(h.ann, again, "nothing at all")
	if h.changes() != before {
		t.Error("nothing changed, and the log says that something did")
	}

	// Who wrote it takes a card away, or who moderates; for good.
	if _, err := h.rooms.RemoveCard(ctx, h.bob, h.room, again, "0000000000000000", chat.NewID()); !fault.HasKey(err, "chat.may_not_moderate") {
		t.Error(err)
	}
	id := chat.NewID()
	first, err := h.rooms.RemoveCard(ctx, h.bob, h.room, seq, cards[0].ID(), id)
	h.must(err)
	if retry, err := h.rooms.RemoveCard(ctx, h.bob, h.room, seq, cards[0].ID(), id); err != nil || retry.Seq != first.Seq {
		t.Error(retry, err)
	}
	if _, err := h.rooms.RemoveCard(ctx, h.ann, h.room, seq, "0000000000000000", chat.NewID()); !fault.HasKey(err, "chat.no_card") {
		t.Error(err)
	}
	edit(h.bob, seq, "look WEB/story#part WEB/plain")
	if cards := h.cardsOf(seq); len(cards) != 1 || cards[0].Title != "Plain page" {
		t.Errorf("%+v", cards)
	}
	if _, err := h.rooms.CardPicture(ctx, h.ann, h.room, seq, cards[0].ID()); !fault.HasKey(err, "chat.no_card") {
		t.Error(err)
	}
	_, err = h.rooms.RemoveCard(ctx, h.ann, h.room, seq, h.cardsOf(seq)[0].ID(), chat.NewID())
	h.must(err)
	if cards := h.cardsOf(seq); len(cards) != 0 {
		t.Errorf("%+v", cards)
	}

	// A link to a picture is a card with it; what is deleted has none.
	shown := h.say(h.bob, "WEB/big.png")
	h.settle()
	if cards := h.cardsOf(shown); len(cards) != 1 || cards[0].Title != "big.png" || cards[0].Width != 320 {
		t.Errorf("%+v", cards)
	}
	_, err = h.rooms.Delete(ctx, h.bob, h.room, shown, chat.NewID())
	h.must(err)
	if cards := h.cardsOf(shown); len(cards) != 0 {
		t.Errorf("%+v", cards)
	}

	// What nobody needs goes.
	_, err = h.db.App.Exec(ctx, `UPDATE chat.link SET ends_at = now() - interval '1 year'`)
	h.must(err)
	_, err = h.db.App.Exec(ctx, `UPDATE chat.picture SET made_at = now() - interval '1 year'`)
	h.must(err)
	_, err = h.db.App.Exec(ctx, `DELETE FROM chat.message WHERE seq = $1`, shown)
	h.must(err)
	h.must(h.cards.sweep(ctx))
	if n := h.count(`SELECT count(*)::int FROM chat.link`) + h.count(`SELECT count(*)::int FROM chat.card WHERE NOT gone AND message_seq = `+fmt.Sprint(shown)); n != 0 {
		t.Error(n)
	}
	if n := h.count(`SELECT count(*)::int FROM chat.picture`); n != 0 {
		t.Errorf("%d pictures are left that nobody shows", n)
	}
}

func TestWhatPagesDoIsBounded(t *testing.T) {
	closed := make(chan struct{}, 1)
	inside := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		closed <- struct{}{}
		fmt.Fprint(w, "<title>secret</title>")
	}))
	t.Cleanup(inside.Close)
	in := func(e encoding.Encoding, text string) []byte {
		b, err := e.NewEncoder().String(text)
		if err != nil {
			t.Error(err)
		}
		return []byte(b)
	}
	h := newHouse(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		switch r.URL.Path {
		case "/big5":
			w.Header().Set("Content-Type", "text/html; charset=Big5")
			_, _ = w.Write(in(traditionalchinese.Big5, "<title>大象與轎子</title>"))
		case "/gbk":
			_, _ = w.Write(in(simplifiedchinese.GBK, `<meta charset="gbk"><title>大象和轿子</title>`))
		case "/sjis":
			_, _ = w.Write(in(japanese.ShiftJIS, `<meta http-equiv="Content-Type" content="text/html; charset=Shift_JIS"><title>象とかご</title>`))
		case "/endless":
			fmt.Fprint(w, "<title>Endless</title>")
			for page := bytes.Repeat([]byte("<p>x</p>"), 1000); ; {
				if _, err := w.Write(page); err != nil {
					return
				}
			}
		case "/late":
			for range 300 {
				_, _ = w.Write(bytes.Repeat([]byte("<!-- nothing -->"), 1000))
			}
			fmt.Fprint(w, "<title>too late</title>")
		case "/bomb":
			w.Header().Set("Content-Encoding", "gzip")
			z := gzip.NewWriter(w)
			fmt.Fprint(z, `<title>Bomb</title><meta name="x" content="`)
			zeros := make([]byte, 1<<20)
			for range 64 {
				if _, err := z.Write(zeros); err != nil {
					return
				}
			}
			_ = z.Close()
		case "/inside":
			http.Redirect(w, r, inside.URL, http.StatusFound)
		case "/loop":
			http.Redirect(w, r, "/loop", http.StatusFound)
		case "/pdf":
			w.Header().Set("Content-Type", "application/pdf")
			fmt.Fprint(w, "<title>no page</title>")
		case "/broken", "/wide", "/cut", "/private":
			fmt.Fprintf(w, `<title>%s</title><meta property=og:image content="%s">`, r.URL.Path,
				map[string]string{"/broken": "/broken.png", "/wide": "/wide.png", "/cut": "/cut.png", "/private": inside.URL + "/p.png"}[r.URL.Path])
		case "/broken.png":
			w.Header().Set("Content-Type", "image/png")
			fmt.Fprint(w, "no picture at all")
		case "/wide.png":
			w.Header().Set("Content-Type", "image/png")
			_, _ = w.Write(claims(60_000, 60_000))
		case "/cut.png":
			w.Header().Set("Content-Type", "image/png")
			_, _ = w.Write(picture(t, 300, 300)[:2000])
		case "/turned":
			fmt.Fprint(w, "<title>in\u202evoice\u2066 \x00\x07 \U000E0041 exe</title>")
		case "/long":
			fmt.Fprintf(w, "<title>%s</title><meta name=description content='%s'>", strings.Repeat("界", 5000), strings.Repeat("word ", 5000))
		case "/down":
			w.WriteHeader(http.StatusBadGateway)
		}
	})
	h.cards.people, h.cards.said = paces[int64]{pace: 1000, burst: 1000}, paces[int64]{pace: 1000, burst: 1000}
	h.cards.sites = paces[string]{pace: 1000, burst: 1000}
	h.cards.house.SetBurst(1000)
	titles := func(body string) (all []string) {
		seq := h.say(h.bob, body)
		h.settle()
		for _, c := range h.cardsOf(seq) {
			if all = append(all, c.Title); c.Picture != 0 {
				t.Errorf("%s has a picture", c.Address)
			}
		}
		return all
	}
	for body, want := range map[string][]string{
		"WEB/big5 WEB/gbk WEB/sjis":                     {"大象與轎子", "大象和轿子", "象とかご"},
		"WEB/endless WEB/late WEB/bomb":                 {"Endless", "Bomb"},
		"WEB/inside WEB/loop WEB/pdf":                   nil,
		inside.URL + "/a":                               nil,
		"http://localhost:1/ http://10.1.2.3/ http://x": nil,
		"WEB/broken WEB/wide WEB/cut":                   {"/broken", "/wide", "/cut"},
		"WEB/private":                                   {"/private"},
		"WEB/turned":                                    {"invoice exe"},
		"WEB/down WEB/" + strings.Repeat("x", mostURL):  nil,
	} {
		if have := titles(body); !slices.Equal(have, want) {
			t.Errorf("%s: %q", body, have)
		}
	}
	seq := h.say(h.bob, "WEB/long")
	h.settle()
	if cards := h.cardsOf(seq); len(cards) != 1 || len([]rune(cards[0].Title)) != mostTitle+1 || len([]rune(cards[0].Description)) > mostDescription+1 {
		t.Errorf("%+v", cards)
	}
	select {
	case <-closed:
		t.Error("what is private was asked for")
	default:
	}
}

func TestAFloodAsksForLittle(t *testing.T) {
	h := newHouse(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprintf(w, "<title>%s</title>", r.URL.Path)
	})
	h.cards.people = paces[int64]{pace: 0.0001, burst: 3}
	h.cards.sites = paces[string]{pace: 0.0001, burst: 5}
	last := int64(0)
	for i := range 10 {
		last = h.say(h.bob, fmt.Sprintf("WEB/%d", i))
	}
	h.settle()
	if n := h.times(""); n != 3 || len(h.cardsOf(last)) != 0 {
		t.Errorf("%d were asked for", n)
	}
	// A site that is spared is asked later.
	for i := range 4 {
		last = h.say(h.ann, fmt.Sprintf("WEB/ann/%d", i))
	}
	h.cards.people = paces[int64]{pace: 1000, burst: 1000}
	h.settle()
	waiting := h.count(`SELECT count(*)::int FROM chat.card_wish`)
	h.cards.sites = paces[string]{pace: 1000, burst: 1000}
	_, err := h.db.App.Exec(t.Context(), `UPDATE chat.card_wish SET due_at = now()`)
	h.must(err)
	h.settle()
	if len(h.cardsOf(last)) != 1 || waiting == 0 || h.count(`SELECT count(*)::int FROM chat.card_wish`) != 0 {
		t.Errorf("%d waited, %v", waiting, h.cardsOf(last))
	}
	// Of what is known already, a flood makes no flood of changes either.
	h.cards.said = paces[int64]{pace: 0.0001, burst: 2}
	before := h.changes()
	for range 5 {
		h.say(h.ann, "WEB/ann/0")
	}
	h.settle()
	if n := h.changes() - before; n != 2 {
		t.Errorf("%d changes", n)
	}
	h.cards.said = paces[int64]{pace: 1000, burst: 1000}
	// What is old, or a bot's, has none; an edit of what is old has.
	old := h.say(h.ann, "WEB/old")
	_, err = h.db.App.Exec(t.Context(), `UPDATE chat.message SET at = now() - interval '1 day' WHERE seq = $1`, old)
	h.must(err)
	_, err = h.db.App.Exec(t.Context(), `UPDATE account.person SET bot_of = $1 WHERE id = $2`, h.ann.ID, h.bob.ID)
	h.must(err)
	bots := h.say(h.bob, "WEB/bot")
	h.settle()
	if len(h.cardsOf(old))+len(h.cardsOf(bots)) != 0 {
		t.Error("there are cards")
	}
	_, err = h.rooms.Edit(t.Context(), h.ann, chat.Draft{Room: h.room, ClientID: chat.NewID(), Body: h.web.URL + "/edited"}, old)
	h.must(err)
	h.settle()
	if len(h.cardsOf(old)) != 1 {
		t.Error("no card of what was edited")
	}
}

// TestRunGoesOnAfterAKill: what was noted, and not looked up, is when it starts.
func TestRunGoesOnAfterAKill(t *testing.T) {
	h := newHouse(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprintf(w, "<title>%s</title>", r.URL.Path)
	})
	seq := h.say(h.bob, "WEB/a")
	_, err := h.cards.follow(t.Context())
	h.must(err)
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { h.cards.Run(ctx) })
	defer running.Wait()
	defer stop()
	h.until(func() bool { return len(h.cardsOf(seq)) == 1 })
	next := h.say(h.ann, "WEB/b")
	h.until(func() bool { return len(h.cardsOf(next)) == 1 })
}

// FuzzRead: whatever a page is, what it says of itself is short and can be seen.
func FuzzRead(f *testing.F) {
	for _, seed := range []string{"<title>x</title>", `<meta property=og:title content="a&#x202e;b">`, "<svg><title>x</title></svg><title>y", "<meta charset=utf-16><title>x", "\xff\xfe<\x00t\x00i\x00t\x00l\x00e\x00>\x00x\x00",
		"<title><title></title>", "<link rel=image_src href=//x>", "<meta", "<!--", "<body><title>z</title>"} {
		f.Add([]byte(seed), "text/html")
		f.Add([]byte(seed), "text/html; charset=big5")
	}
	f.Fuzz(func(t *testing.T, raw []byte, kind string) {
		a := read(bytes.NewReader(raw), kind)
		for text, most := range map[string]int{a.title: mostTitle, a.description: mostDescription, a.site: mostSite} {
			if n := len([]rune(text)); n > most+1 || text != strings.TrimSpace(text) || strings.ContainsAny(text, "\x00\n\r\t\u202e\u2066\u200b") || strings.ToValidUTF8(text, "") != text {
				t.Errorf("%q", text)
			}
		}
	})
}
