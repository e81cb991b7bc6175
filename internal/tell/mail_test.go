package tell

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"howdah/internal/account"
	"howdah/internal/chat"
	"howdah/internal/fault"
	"howdah/internal/lang"
	"howdah/internal/mail/mailtest"
)

// post lets the house send letters. Nobody runs: each step is the test's.
func (h *house) post() *mailtest.Post {
	p := mailtest.New(h)
	h.teller = Open(h.db.App, h.rooms, Options{Mail: p.Server(), Accounts: h.accounts, House: "https://house.example", Retry: time.Second})
	return p
}

func (h *house) sql(sql string, args ...any) {
	h.Helper()
	if _, err := h.db.App.Exec(h.Context(), sql, args...); err != nil {
		h.Fatal(err)
	}
}

// mailed gives somebody an address, by the letter and its link, and has them told by mail.
func (h *house) mailed(p *mailtest.Post, who account.Person, after int) {
	h.Helper()
	address := who.Handle + "@example.org"
	if err := h.teller.AskAddress(h.Context(), who.ID, address, lang.English); err != nil {
		h.Fatal(err)
	}
	h.lettersGo()
	l := p.New()
	if len(l) != 1 || l[0].To != address || l[0].Header.Get("Auto-Submitted") == "" || !strings.Contains(l[0].HTML, "/mail/") {
		h.Fatalf("%+v", l)
	}
	token := l[0].Link(h, "/mail/")
	if _, got, _, err := h.accounts.TakeMailbox(h.Context(), who, token[strings.LastIndex(token, "/")+1:]); err != nil || got != address {
		h.Fatal(got, err)
	}
	if _, err := h.teller.Set(h.Context(), who, func(s *Settings) error { s.Mail = after; return nil }); err != nil {
		h.Fatal(err)
	}
}

func (h *house) lettersGo() {
	h.Helper()
	if _, err := h.teller.letters(h.Context()); err != nil {
		h.Fatal(err)
	}
}

// due makes the time pass after which digests are sent, and sends them.
func (h *house) due() {
	h.Helper()
	if err := h.teller.follow(h.Context()); err != nil {
		h.Fatal(err)
	}
	for range 2 { // planned, then sent
		h.sql(`UPDATE chat.digest SET due_at = now() WHERE due_at IS NOT NULL`)
		if _, err := h.teller.digests(h.Context()); err != nil && !fault.HasKey(err, "mail.refused") {
			h.Fatal(err)
		}
	}
}

func TestWhatWasMissedIsMailedOnce(t *testing.T) {
	h := newHouse(t)
	p := h.post()
	wei := h.person("wei")
	den, closet := h.room(chat.Public, "den", wei), h.room(chat.Private, "closet", wei)
	h.say(h.owner, den, "@wei before anybody asked")
	h.mailed(p, wei, 60)
	direct, err := h.rooms.Direct(t.Context(), h.owner, wei.ID)
	if err != nil {
		t.Fatal(err)
	}
	h.say(h.owner, den, "@wei <b>one</b>")
	h.say(h.owner, den, "not for anybody")
	for i := range 3 {
		h.say(h.owner, den, fmt.Sprint("@room all of you ", i))
	}
	root := h.say(h.owner, den, "a thread")
	if _, err := h.rooms.SetThreadBell(t.Context(), wei, den, root, chat.BellAll, nil); err != nil {
		t.Fatal(err)
	}
	h.say(h.owner, den, "in the thread", root)
	read := h.say(h.owner, closet, "@wei read in time")
	gone := h.say(h.owner, direct.ID, "taken back")
	for i := range 4 {
		h.say(h.owner, direct.ID, fmt.Sprint("psst ", i))
	}
	if err := h.teller.follow(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := h.teller.digests(t.Context()); err != nil { // when it is sent is settled
		t.Fatal(err)
	}
	var wait time.Duration
	if err := h.db.App.QueryRow(t.Context(), `SELECT due_at - now() FROM chat.digest WHERE person_id = $1 AND planned`, wei.ID).Scan(&wait); err != nil || wait > time.Hour || wait < 30*time.Minute {
		t.Error(wait, err)
	}
	if _, err := h.rooms.MarkRead(t.Context(), wei, closet, read); err != nil {
		t.Fatal(err)
	}
	if _, err := h.rooms.Delete(t.Context(), h.owner, direct.ID, gone, chat.NewID()); err != nil {
		t.Fatal(err)
	}
	h.due()
	all := p.New()
	if len(all) != 1 {
		t.Fatalf("%+v", all)
	}
	l := all[0]
	if l.Subject != "9 unread messages in Howdah" {
		t.Error(l.Subject)
	}
	for _, words := range []string{"@wei <b>one</b>", "all of you 2", "in the thread", "A thread in den (1 message)", "Owner, to you alone (4 messages)", "psst 3", fmt.Sprintf("https://house.example/room/%d?thread=%d", den, root)} {
		if !strings.Contains(l.Text, words) {
			t.Errorf("no %q in\n%s", words, l.Text)
		}
	}
	for _, words := range []string{"before anybody asked", "not for anybody", "all of you 0", "read in time", "taken back", "psst 0"} {
		if strings.Contains(l.Text, words) {
			t.Errorf("%q in\n%s", words, l.Text)
		}
	}
	if !strings.Contains(l.HTML, "@wei &lt;b&gt;one&lt;/b&gt;") || strings.Contains(l.HTML, "<b>one") {
		t.Error(l.HTML)
	}
	stop := l.Link(t, "/mail/off/")
	if l.Header.Get("List-Unsubscribe") != "<"+stop+">" || l.Header.Get("List-Unsubscribe-Post") != "List-Unsubscribe=One-Click" {
		t.Error(l.Header)
	}

	// Nothing comes twice; what is new comes alone.
	h.due()
	if all := p.New(); len(all) != 0 {
		t.Errorf("again: %+v", all)
	}
	h.say(h.owner, direct.ID, "and one more")
	// A server that has no time, then a kill behind its back: the same letter is known by its name.
	p.Answer(451)
	h.due()
	if all := p.New(); len(all) != 0 {
		t.Errorf("%+v", all)
	}
	h.sql(`UPDATE chat.digest SET due_at = now()`)
	type state struct {
		Seq, First int64
	}
	var before state
	if err := h.db.App.QueryRow(t.Context(), `SELECT seq, first FROM chat.missed WHERE person_id = $1`, wei.ID).Scan(&before.Seq, &before.First); err != nil {
		t.Fatal(err)
	}
	if _, err := h.teller.digests(t.Context()); err != nil {
		t.Fatal(err)
	}
	once := p.New()
	if len(once) != 1 || strings.Contains(once[0].Text, "psst") || !strings.Contains(once[0].Text, "and one more") || once[0].Header.Get("Message-ID") == l.Header.Get("Message-ID") {
		t.Fatalf("%+v", once)
	}
	h.sql(`UPDATE chat.digest SET due_at = now(), planned = true, n = n - 1`)
	h.sql(`INSERT INTO chat.missed (person_id, room_id, thread, first, seq) VALUES ($1, $2, 0, $3, $4)`, wei.ID, direct.ID, before.First, before.Seq)
	if _, err := h.teller.digests(t.Context()); err != nil {
		t.Fatal(err)
	}
	if twice := p.New(); len(twice) != 1 || twice[0].Header.Get("Message-ID") != once[0].Header.Get("Message-ID") {
		t.Errorf("%+v", twice)
	}

	// Not while somebody wants their peace, in their own language, and without words where those are to stay.
	if _, err := h.teller.Set(t.Context(), wei, func(s *Settings) error {
		s.Paused, s.Hide = time.Now().Add(time.Hour), true
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	locale := "zh-TW"
	if _, err := h.accounts.Update(t.Context(), wei.ID, account.Own{Locale: &locale}); err != nil {
		t.Fatal(err)
	}
	h.say(h.owner, direct.ID, "a secret")
	h.due()
	if all := p.New(); len(all) != 0 {
		t.Errorf("in the pause: %+v", all)
	}
	if err := h.db.App.QueryRow(t.Context(), `SELECT due_at - now() FROM chat.digest`).Scan(&wait); err != nil || wait < 30*time.Minute {
		t.Error(wait, err)
	}
	if _, err := h.teller.Set(t.Context(), wei, func(s *Settings) error { s.Paused = time.Time{}; return nil }); err != nil {
		t.Fatal(err)
	}
	h.due()
	if all := p.New(); len(all) != 1 || all[0].Subject != "Howdah 有 1 則未讀訊息" || strings.Contains(all[0].Text+all[0].HTML, "a secret") || !strings.Contains(all[0].HTML, `lang="zh-TW"`) {
		t.Errorf("%+v", all)
	}

	// Who has left is told of nothing.
	h.say(h.owner, closet, "@wei for those who stay")
	if err := h.teller.follow(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := h.rooms.Leave(t.Context(), wei, closet); err != nil {
		t.Fatal(err)
	}
	h.due()
	if all := p.New(); len(all) != 0 {
		t.Errorf("%+v", all)
	}

	// A server that takes nothing from the house, or breaks off, says nothing of the address: what was missed comes later.
	h.say(h.owner, direct.ID, "once it is mended")
	if err := h.teller.follow(t.Context()); err != nil {
		t.Fatal(err)
	}
	h.sql(`UPDATE chat.digest SET due_at = now(), planned = true`)
	for range 6 {
		p.AnswerSender(550)
		if _, err := h.teller.digests(t.Context()); !fault.HasKey(err, "mail.refused") {
			t.Error(err)
		}
		h.sql(`UPDATE chat.digest SET due_at = now()`)
	}
	p.Answer(mailtest.Broken)
	if _, err := h.teller.digests(t.Context()); !fault.HasKey(err, "mail.refused") {
		t.Error(err)
	}
	var charged int
	if err := h.db.App.QueryRow(t.Context(), `SELECT refused FROM account.mailbox WHERE person_id = $1`, wei.ID).Scan(&charged); err != nil || charged != 0 {
		t.Error(charged, err)
	}
	h.due()
	if all := p.New(); len(all) != 1 {
		t.Errorf("%+v", all)
	}

	// An address that is refused for good, again and again, is left in peace; and so is who has had enough.
	for range 5 {
		p.Answer(550)
		h.say(h.owner, direct.ID, "nobody there")
		h.due()
	}
	asked := p.Asked()
	h.say(h.owner, direct.ID, "still nobody")
	h.due()
	if box, err := h.accounts.Mailbox(t.Context(), wei.ID); err != nil || !box.Refused || p.Asked() != asked {
		t.Error(box, err, p.Asked(), asked)
	}
	h.mailed(p, wei, 60)
	if err := h.teller.StopMail(t.Context(), "1-00000000-0000-4000-8000-000000000000"); !fault.HasKey(err, "tell.no_digest") {
		t.Error(err)
	}
	token := stop[strings.LastIndex(stop, "/")+1:]
	for range 2 {
		if err := h.teller.StopMail(t.Context(), token); err != nil {
			t.Fatal(err)
		}
	}
	h.say(h.owner, direct.ID, "too late")
	h.due()
	if all := p.New(); len(all) != 0 {
		t.Errorf("%+v", all)
	}
}

func TestADigestADayComesAtItsHour(t *testing.T) {
	t.Parallel()
	s := Settings{Zone: "Asia/Taipei", Mail: MailDaily, MailAt: 9 * 60}
	for now, want := range map[string]string{"2026-11-24T08:59:00+08:00": "2026-11-24T09:00:00+08:00", "2026-11-24T09:00:00+08:00": "2026-11-25T09:00:00+08:00", "2026-12-31T20:00:00Z": "2027-01-01T09:00:00+08:00"} {
		if due := s.mailDue(mustTime(t, now)); !due.Equal(mustTime(t, want)) {
			t.Errorf("%s: %s, not %s", now, due, want)
		}
	}
}

func mustTime(t *testing.T, s string) time.Time {
	t.Helper()
	at, err := time.Parse(time.RFC3339, s)
	if err != nil {
		t.Fatal(err)
	}
	return at
}

func TestAForgottenPasswordIsHelpedByMail(t *testing.T) {
	h := newHouse(t)
	p := h.post()
	ada := h.person("ada")
	h.mailed(p, ada, 0)
	forgot := func(who string) []mailtest.Letter {
		t.Helper()
		clean, err := h.accounts.Forgot(t.Context(), who, account.Client{Address: "192.0.2.9"})
		if err == nil {
			err = h.teller.Forgot(t.Context(), clean, "192.0.2.9", lang.Chinese)
		}
		if err != nil {
			t.Fatal(err)
		}
		h.lettersGo()
		return p.New()
	}
	for _, nobody := range []string{"nobody", "nobody@example.org", "owner"} { // the owner has no address
		if all := forgot(nobody); len(all) != 0 {
			t.Errorf("%s: %+v", nobody, all)
		}
	}
	first := forgot("ADA@Example.org")
	if len(first) != 1 || first[0].To != "ada@example.org" || !strings.Contains(first[0].Text, "192.0.2.9") || first[0].Subject != "新的密碼" {
		t.Fatalf("%+v", first)
	}
	second := forgot("Ada")
	if len(second) != 1 {
		t.Fatalf("%+v", second)
	}
	// A kill between the server and us brings another link, and the first one goes on working. No more than a few hold at a time.
	third := forgot("ada")
	if more := forgot("ada"); len(third) != 1 || len(more) != 0 {
		t.Errorf("%+v %+v", third, more)
	}
	token := first[0].Link(t, "/recover/")
	token = token[strings.LastIndex(token, "/")+1:]
	entry, err := h.accounts.Recover(t.Context(), token, "four unrelated quiet words", account.Client{})
	if err != nil || entry.Session == "" {
		t.Fatal(entry, err)
	}
	if _, err := h.accounts.SignIn(t.Context(), "ada", "correct horse battery", account.Client{}); !fault.HasKey(err, "account.wrong_password") {
		t.Error(err)
	}
	for _, used := range [][]mailtest.Letter{first, second, third} {
		token := used[0].Link(t, "/recover/")
		if _, err := h.accounts.CheckRecovery(t.Context(), token[strings.LastIndex(token, "/")+1:]); !fault.HasKey(err, "account.recovery_link") {
			t.Error(err)
		}
	}
	// Whoever asks again and again is told to wait, whether there is anybody or not.
	for who, left := range map[string]int{"nobody": 4, "ada": 2} {
		for range left {
			if _, err := h.accounts.Forgot(t.Context(), who, account.Client{Address: "2001:db8:" + fmt.Sprint(len(who)) + "::1"}); err != nil {
				t.Fatal(who, err)
			}
		}
		if _, err := h.accounts.Forgot(t.Context(), who, account.Client{Address: "192.0.2.77"}); !fault.Is(err, fault.RateLimited) {
			t.Error(who, err)
		}
	}
	// A letter that nobody takes is tried again, and given up when its link would be over.
	p.Answer(451)
	if err := h.teller.Forgot(t.Context(), "ada", "192.0.2.9", lang.English); err != nil {
		t.Fatal(err)
	}
	if _, err := h.teller.letters(t.Context()); !fault.HasKey(err, "mail.refused") {
		t.Error(err)
	}
	h.sql(`UPDATE chat.letter SET due_at = now()`)
	h.lettersGo()
	if all := p.New(); len(all) != 1 {
		t.Errorf("%+v", all)
	}
	if err := h.teller.Forgot(t.Context(), "ada", "192.0.2.9", lang.English); err != nil {
		t.Fatal(err)
	}
	h.sql(`UPDATE chat.letter SET made_at = now() - interval '1 hour'`)
	h.lettersGo()
	if all := p.New(); len(all) != 0 {
		t.Errorf("%+v", all)
	}
	// However often it is refused, it comes, and counts once.
	h.sql(`DELETE FROM account.ticket`)
	if err := h.teller.Forgot(t.Context(), "ada", "192.0.2.9", lang.English); err != nil {
		t.Fatal(err)
	}
	for _, code := range []int{451, 451, mailtest.Broken, mailtest.Broken, mailtest.Broken, 451, 451} {
		p.Answer(code)
		if _, err := h.teller.letters(t.Context()); !fault.HasKey(err, "mail.refused") {
			t.Error(err)
		}
		h.sql(`UPDATE chat.letter SET due_at = now()`)
	}
	h.lettersGo()
	if all := p.New(); len(all) != 1 {
		t.Fatalf("%+v", all)
	}
	// Of those who share an address each is seen to by themselves, and once: what one is refused for good, or is sent, is nothing to the others.
	bea, cid := h.person("bea"), h.person("cid")
	h.sql(`INSERT INTO account.mailbox (person_id, address) VALUES ($1, 'ada@example.org'), ($2, 'ADA@example.org')`, bea.ID, cid.ID)
	if err := h.teller.Forgot(t.Context(), "ada@example.org", "192.0.2.9", lang.English); err != nil {
		t.Fatal(err)
	}
	p.Answer(550, 451, 0)
	if _, err := h.teller.letters(t.Context()); !fault.HasKey(err, "mail.refused") {
		t.Error(err)
	}
	if all := p.New(); len(all) != 1 || !strings.Contains(all[0].Text, "@cid") {
		t.Errorf("%+v", all)
	}
	for range 2 {
		h.sql(`UPDATE chat.letter SET due_at = now()`)
		h.lettersGo()
	}
	if all := p.New(); len(all) != 1 || !strings.Contains(all[0].Text, "@bea") {
		t.Errorf("%+v", all)
	}
	// An address that somebody had before is told.
	if err := h.teller.AddressChanged(t.Context(), ada.ID, "old@example.org", lang.English); err != nil {
		t.Fatal(err)
	}
	h.lettersGo()
	if all := p.New(); len(all) != 1 || all[0].To != "old@example.org" || !strings.Contains(all[0].Text, "not yours") {
		t.Errorf("%+v", all)
	}
}
