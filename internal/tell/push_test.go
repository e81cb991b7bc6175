package tell

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"howdah/internal/account"
	"howdah/internal/chat"
	"howdah/internal/push"
	"howdah/internal/push/pushtest"
)

// running is a teller that runs until the test ends, or until it is stopped.
func (h *house) running(service *pushtest.Service, options Options) (stop func()) {
	h.Helper()
	options.Outside, options.Look, options.Pause, options.Retry = service, 20*time.Millisecond, time.Millisecond, time.Millisecond
	if options.Delay == 0 {
		options.Delay = time.Millisecond
	}
	options.Trouble = func(err error) {
		if err != nil {
			h.Error(err)
		}
	}
	h.teller = Open(h.db.App, h.rooms, options)
	ctx, cancel := context.WithCancel(h.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		h.teller.Run(ctx)
	}()
	stop = func() {
		cancel()
		<-done
	}
	h.Cleanup(stop)
	return stop
}

// device subscribes a new browser of somebody's, with a session of its own.
func (h *house) device(service *pushtest.Service, who account.Person) (*pushtest.Browser, account.Session, string) {
	h.Helper()
	entry, err := h.accounts.SignIn(h.Context(), who.Handle, "correct horse battery", account.Client{Address: "192.0.2.1", Agent: "test"})
	if err != nil {
		h.Fatal(err)
	}
	session, err := h.accounts.Session(h.Context(), entry.Session)
	if err != nil {
		h.Fatal(err)
	}
	b := service.Browser()
	to, err := push.NewSubscription(b.Endpoint, b.Key, b.Auth)
	if err == nil {
		err = h.teller.Subscribe(h.Context(), session, to, "en")
	}
	if err != nil {
		h.Fatal(err)
	}
	return b, session, entry.Session
}

func (h *house) say(who account.Person, room int64, body string, thread ...int64) int64 {
	h.Helper()
	d := chat.Draft{Room: room, ClientID: chat.NewID(), Body: body}
	if thread != nil {
		d.Thread = thread[0]
	}
	got, err := h.rooms.Post(h.Context(), who, d)
	if err != nil {
		h.Fatal(err)
	}
	return got.Seq
}

func (h *house) room(kind chat.Kind, name string, members ...account.Person) int64 {
	h.Helper()
	r, err := h.rooms.Create(h.Context(), h.owner, chat.NewRoomDraft{Kind: kind, Name: name, ClientID: chat.NewID()})
	if err != nil {
		h.Fatal(err)
	}
	for _, m := range members {
		if err := h.rooms.Invite(h.Context(), h.owner, r.ID, m.ID); err != nil {
			h.Fatal(err)
		}
	}
	return r.ID
}

// has waits until a browser was told of something with these words, and gives all that it was told since the last time, as "title: body".
func (h *house) has(b *pushtest.Browser, seen *int, words string) []string {
	h.Helper()
	for deadline := time.Now().Add(2 * time.Minute); ; {
		var all []string
		for _, got := range b.Got()[*seen:] {
			var m told
			if err := json.Unmarshal([]byte(got.Body), &m); err != nil {
				h.Fatal(err)
			}
			all = append(all, m.Title+": "+m.Body)
		}
		if slices.ContainsFunc(all, func(one string) bool { return strings.Contains(one, words) }) {
			*seen += len(all)
			return all
		}
		if time.Now().After(deadline) {
			h.Fatalf("told %q, waited for %q", all, words)
		}
		select {
		case <-h.Context().Done():
			h.Fatal("ended")
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func (h *house) devices() (n int) {
	h.Helper()
	if err := h.db.App.QueryRow(h.Context(), `SELECT count(*) FROM chat.device`).Scan(&n); err != nil {
		h.Fatal(err)
	}
	return n
}

func TestBrowsersAreToldOfWhatTheirPeopleWant(t *testing.T) {
	h := newHouse(t)
	service := pushtest.New(t)
	wei := h.person("wei")
	room := h.room(chat.Public, "den", wei)
	h.say(h.owner, room, "@wei before there was a device")
	h.running(service, Options{})
	b, _, token := h.device(service, wei)
	seen := 0
	only := func(words, want string) {
		t.Helper()
		if all := h.has(b, &seen, words); len(all) != 1 || all[0] != want {
			t.Errorf("told %q, want %q", all, want)
		}
	}
	h.say(h.owner, room, "nobody")
	h.say(wei, room, "@wei myself")
	h.say(h.owner, room, "@wei  come\n**here**")
	only("come", "Owner in den: @wei come **here**")
	h.say(h.owner, room, "`@wei` and mail@wei and @owner")
	h.say(h.owner, room, "@room all")
	only("all", "Owner in den: @room all")

	// Threads: one that is followed, and one that is silent.
	loud, silent := h.say(h.owner, room, "one"), h.say(h.owner, room, "two")
	for root, bell := range map[int64]chat.Bell{loud: chat.BellAll, silent: chat.BellNothing} {
		if _, err := h.rooms.SetThreadBell(t.Context(), wei, room, root, bell, nil); err != nil {
			t.Fatal(err)
		}
	}
	h.say(h.owner, room, "@wei no", silent)
	h.say(h.owner, room, "yes", loud)
	only("yes", "Owner in a thread of den: yes")

	// What somebody has chosen.
	if _, err := h.rooms.SetBell(t.Context(), wei, room, chat.BellNothing, nil); err != nil {
		t.Fatal(err)
	}
	h.say(h.owner, room, "@wei not now")
	h.say(h.owner, room, "nor this", loud)
	direct, err := h.rooms.Direct(t.Context(), h.owner, wei.ID)
	if err != nil {
		t.Fatal(err)
	}
	h.say(h.owner, direct.ID, "psst")
	only("psst", "Owner: psst")
	set := func(change func(*Settings)) {
		t.Helper()
		if _, err := h.teller.Set(t.Context(), wei, func(s *Settings) error { change(s); return nil }); err != nil {
			t.Fatal(err)
		}
	}
	set(func(s *Settings) { s.Hide = true })
	h.say(h.owner, direct.ID, "secret")
	only("New message", "Owner: New message")
	set(func(s *Settings) { s.Hide, s.Bell = false, chat.BellAll })
	if _, err := h.rooms.SetBell(t.Context(), wei, room, chat.BellUnset, nil); err != nil {
		t.Fatal(err)
	}
	h.say(h.owner, room, "all of it")
	only("all of it", "Owner in den: all of it")

	// A service that has no time, and one that knows the browser no more.
	b.Answer(http.StatusServiceUnavailable, http.StatusTooManyRequests)
	h.say(h.owner, direct.ID, "again and again")
	only("again", "Owner: again and again")
	other, _, _ := h.device(service, wei)
	other.Answer(http.StatusGone)
	h.say(h.owner, direct.ID, "who is there")
	only("who", "Owner: who is there")
	for deadline := time.Now().Add(time.Minute); h.devices() != 1; {
		if time.Now().After(deadline) {
			t.Fatal("a subscription that is gone is kept")
		}
	}
	// Who signs out is told no more.
	if err := h.accounts.SignOut(t.Context(), token); err != nil {
		t.Fatal(err)
	}
	if n := h.devices(); n != 0 {
		t.Errorf("%d devices", n)
	}
	if got := b.Got()[0]; got.Header.Get("Topic") != fmt.Sprintf("%d-0", room) || got.Header.Get("Urgency") != "high" {
		t.Error(got.Header)
	}
}

func TestWhatWasReadSilencedOrLeftIsNotPushedAndAKillLosesNothing(t *testing.T) {
	h := newHouse(t)
	service := pushtest.New(t)
	wei := h.person("wei")
	private := h.room(chat.Private, "closet", wei)
	direct, err := h.rooms.Direct(t.Context(), h.owner, wei.ID)
	if err != nil {
		t.Fatal(err)
	}
	b, _, _ := h.device(service, wei)
	// Nobody runs: what is due is found in the logs, and stands in the database.
	read := h.say(h.owner, private, "@wei read in time")
	if err := h.teller.follow(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := h.rooms.MarkRead(t.Context(), wei, private, read); err != nil {
		t.Fatal(err)
	}
	gone := h.say(h.owner, direct.ID, "taken back")
	if err := h.teller.follow(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := h.rooms.Delete(t.Context(), h.owner, direct.ID, gone, chat.NewID()); err != nil {
		t.Fatal(err)
	}
	left := h.room(chat.Private, "left", wei)
	h.say(h.owner, left, "@wei for those who stay")
	if err := h.teller.follow(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := h.rooms.Leave(t.Context(), wei, left); err != nil {
		t.Fatal(err)
	}
	lost := h.room(chat.Public, "found after a kill", wei)
	h.say(h.owner, lost, "@wei one")
	h.say(h.owner, lost, "@wei two")
	if err := h.teller.follow(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := h.teller.follow(t.Context()); err != nil { // there is nothing new
		t.Fatal(err)
	}
	if _, err := h.db.App.Exec(t.Context(), `UPDATE chat.push SET due_at = now(), tries = tries + 1`); err != nil { // somebody who had claimed it was killed
		t.Fatal(err)
	}
	stop := h.running(service, Options{})
	seen := 0
	if all := h.has(b, &seen, "two"); len(all) != 1 || all[0] != "Owner in found after a kill: @wei two" {
		t.Errorf("told %q", all)
	}
	stop()
	// In the quiet hours, and while somebody sits before a page, nothing.
	if _, err := h.teller.Set(t.Context(), wei, func(s *Settings) error { s.Paused = time.Now().Add(time.Hour); return nil }); err != nil {
		t.Fatal(err)
	}
	h.say(h.owner, direct.ID, "paused")
	if err := h.teller.follow(t.Context()); err != nil {
		t.Fatal(err)
	}
	for waiting := 1; waiting > 0; {
		if _, err := h.teller.send(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := h.db.App.QueryRow(t.Context(), `SELECT count(*) FROM chat.push WHERE due_at IS NOT NULL`).Scan(&waiting); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(b.Got()); n != 1 {
		t.Errorf("%d pushes", n)
	}
}
