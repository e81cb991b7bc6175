package web

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/gobwas/ws"

	"howdah/internal/account"
	"howdah/internal/chat"
	"howdah/internal/pg/pgtest"
)

func TestTheSocketDeliversAndHeals(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	owner := h.owner()
	bob := h.newcomer(owner, "bob", account.Member, nil)
	room := owner.must("POST", "/rooms", answer{"client_id": chat.NewID(), "kind": "public", "name": "r"}).num("id")
	path := fmt.Sprint("/rooms/", room)
	live := bob.listen(0, 0)
	bob.must("POST", path+"/join", nil)
	if rooms := live.await("rooms")["rooms"].([]any); len(rooms) != 1 {
		t.Error(rooms)
	}
	speaker := owner.listen(room, 0)
	id := chat.NewID()
	for range 2 { // the second is a retry
		speaker.send(answer{"do": "post", "id": 7, "room": room, "client_id": id, "body": "hi <b>"})
		if ok := speaker.await("ok"); ok.num("id") != 7 || ok.num("seq") != 3 {
			t.Error(ok)
		}
	}
	event := live.await("event")
	for event["kind"] != "post" {
		event = live.await("event")
	}
	message := event["message"].(map[string]any)
	if message["html"] != "<p>hi &lt;b&gt;</p>\n" || message["client_id"] != id {
		t.Error(message)
	}
	speaker.send(answer{"do": "edit", "id": 8, "room": room, "seq": 3, "client_id": chat.NewID(), "body": "hi"})
	speaker.await("ok")
	if e := live.await("event"); e["kind"] != "edit" || e.num("seq") != 4 {
		t.Error(e)
	}
	late := bob.listen(room, 2)
	for want := int64(3); want <= 4; want++ {
		if e := late.await("event"); e.num("seq") != want {
			t.Errorf("healed %v, want seq %d", e, want)
		}
	}
	live.send(answer{"do": "read", "room": room, "seq": 4})
	if r := late.await("read"); r.num("unread") != 0 || r.num("seq") != 4 {
		t.Error(r)
	}
	for _, bad := range []struct{ frame, key string }{
		{`{`, "web.bad_json"}, {`{"do":"dance"}`, "web.unknown_order"}, {`{"do":"post","room":999}`, "chat.empty"},
		{`{"do":"post","room":999,"body":"x","client_id":"` + chat.NewID() + `"}`, "chat.not_member"},
		{`{"do":"edit","room":-5,"seq":1,"body":"x","client_id":"` + chat.NewID() + `"}`, "chat.no_room"},
	} {
		if err := wsWrite(speaker, ws.OpText, []byte(bad.frame)); err != nil {
			t.Fatal(err)
		}
		if e := speaker.await("error"); e["key"] != bad.key {
			t.Errorf("%s: %v", bad.frame, e)
		}
	}
	owner.must("DELETE", fmt.Sprintf("%s/members/%d", path, bob.id), nil)
	if rooms := live.await("rooms")["rooms"].([]any); len(rooms) != 0 {
		t.Error(rooms)
	}
}

func wsWrite(s *socketClient, op ws.OpCode, payload []byte) error {
	return ws.WriteFrame(s.conn, ws.MaskFrame(ws.NewFrame(op, true, payload)))
}

func TestBrokenFramesEndTheSocketAndNothingElse(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	owner := h.owner()
	witness := owner.listen(0, 0)
	for name, frame := range map[string]ws.Frame{
		"not UTF-8":       ws.MaskFrame(ws.NewTextFrame([]byte{0xff, 0xfe})),
		"binary":          ws.MaskFrame(ws.NewBinaryFrame([]byte("{}"))),
		"not masked":      ws.NewTextFrame([]byte("{}")),
		"lost fragment":   ws.MaskFrame(ws.NewFrame(ws.OpContinuation, true, []byte("x"))),
		"reserved bits":   {Header: ws.Header{Fin: true, Rsv: 4, OpCode: ws.OpText, Masked: true}},
		"reserved opcode": {Header: ws.Header{Fin: true, OpCode: 0x5, Masked: true}},
		"huge":            {Header: ws.Header{Fin: true, OpCode: ws.OpText, Masked: true, Length: 1 << 40}},
	} {
		s := owner.listen(0, 0)
		if err := ws.WriteFrame(s.conn, frame); err != nil {
			t.Fatal(err)
		}
		if bye := s.await("bye"); bye["key"] != "bad_frame" {
			t.Errorf("%s: %v", name, bye)
		}
	}
	pgtest.Await(t, "the broken ones are gone", func() bool { n, _, _ := h.rooms.Listeners(); return n == 1 })
	witness.send(answer{"do": "dance"})
	witness.await("error")
}

func TestEndingASessionHangsUp(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	owner := h.owner()
	bob := h.newcomer(owner, "bob", account.Member, nil)
	s := bob.listen(0, 0)
	me, err := h.acc.Person(t.Context(), owner.id)
	if err != nil {
		t.Fatal(err)
	}
	if err := h.acc.Disable(t.Context(), me, bob.id, true); err != nil {
		t.Fatal(err)
	}
	if bye := s.await("bye"); bye["key"] != "session_ended" {
		t.Error(bye)
	}
	bob.refused(401, "account.bad_token", "GET", "/me", nil)
	t.Run("a token's sockets too", func(t *testing.T) {
		s := owner.listen(0, 0)
		tokens := owner.must("GET", "/tokens", nil)["tokens"].([]any)
		owner.must("DELETE", fmt.Sprint("/tokens/", answer(tokens[0].(map[string]any)).num("id")), nil)
		if bye := s.await("bye"); bye["key"] != "session_ended" {
			t.Error(bye)
		}
	})
}

// hijacked is an answer whose connection is taken over only after something else has happened.
type hijacked struct {
	http.ResponseWriter
	before func()
}

func (h hijacked) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	h.before()
	return http.NewResponseController(h.ResponseWriter).Hijack()
}

func TestASessionThatEndsWhileItsSocketOpensIsHungUp(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	owner := h.owner()
	me, err := h.acc.Person(t.Context(), owner.id)
	if err != nil {
		t.Fatal(err)
	}
	room := owner.must("POST", "/rooms", answer{"client_id": chat.NewID(), "kind": "public", "name": "open"}).num("id")
	var bar *person
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h.door.ServeHTTP(hijacked{w, func() {
			if err := h.acc.Disable(r.Context(), me, bar.id, true); err != nil {
				t.Error(err)
			}
		}}, r)
	}))
	t.Cleanup(server.Close)
	bar = h.newcomer(owner, "bob", account.Member, nil)
	bar.must("POST", fmt.Sprintf("/rooms/%d/join", room), nil)
	at := *h
	at.url = server.URL
	s, err := (&person{&at, bar.token, bar.id}).socket()
	if err != nil {
		t.Fatal(err)
	}
	s.send(answer{"do": "post", "id": 1, "room": room, "client_id": chat.NewID(), "body": "still here"})
	if bye := s.await("bye"); bye["key"] != "session_ended" {
		t.Error(bye)
	}
	list, _ := owner.must("GET", fmt.Sprintf("/rooms/%d/messages", room), nil)["messages"].([]any)
	if len(list) != 0 {
		t.Errorf("who was barred has spoken: %v", list)
	}
}

func TestASessionThatEndsElsewhereIsHungUpAtTheNextBeat(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	owner := h.owner()
	bob := h.newcomer(owner, "bob", account.Member, nil)
	stays, goes := owner.listen(0, 0), bob.listen(0, 0)
	// As howdah password does, in a process of its own: nobody tells the door.
	if _, err := h.db.App.Exec(t.Context(), `DELETE FROM account.token WHERE person_id = $1`, bob.id); err != nil {
		t.Fatal(err)
	}
	h.door.beat(t.Context(), time.Now().Unix())
	if bye := goes.await("bye"); bye["key"] != "session_ended" {
		t.Error(bye)
	}
	stays.send(answer{"do": "read", "id": 7, "room": 1 << 40, "seq": 1})
	if refused := stays.await("error"); refused["key"] != "chat.no_room" {
		t.Error(refused)
	}
}
