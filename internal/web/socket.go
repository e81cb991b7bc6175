package web

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gobwas/ws"

	"howdah/internal/account"
	"howdah/internal/chat"
	"howdah/internal/fault"
	"howdah/internal/lang"
	"howdah/internal/tell"
)

// A socket is one live session over WebSocket (RFC 6455). An idle one costs a goroutine that reads, a small buffer and
// its places in the room loops. Who has something for it writes it at once, as far as the system takes it without waiting;
// the rest goes into a queue that has a goroutine only while it holds something.
type socket struct {
	door    *Door
	conn    net.Conn
	person  atomic.Pointer[account.Person]
	session int64
	typed   bool            // a person's page, and no program
	may     account.Session // what its token is good for: Scope and Rooms
	lang    lang.Locale
	heard   atomic.Int64 // when the other side was last heard of, Unix seconds
	posting atomic.Int32 // posts under way
	syncing atomic.Bool
	started atomic.Bool // has said hello

	direct  *directWriter // nil where the system or TLS has no such way
	mu      sync.Mutex
	held    []byte   // answers that wait for the echo they travel with
	queue   [][]byte // what the other side was not ready to take
	size    int
	writing bool
	ended   bool // nothing more goes in
	closing bool // whoever writes closes, when all is written

	followed struct {
		sync.Mutex
		rooms map[int64]struct{}
	}
}

const (
	maxFrame    = maxRequest       // bytes of one message from a client
	maxQueue    = 512 << 10        // bytes that may wait for a slow listener before it is dropped
	maxPosting  = 64               // posts of one socket under way
	writeWait   = 15 * time.Second // for one write of what waits
	beatEvery   = 25 * time.Second
	silentAfter = 80 // seconds without a sign of life: three heartbeats
	readBuffer  = 512
)

// live answers the WebSocket handshake. A page of another site must not open one in a person's name: with a cookie the
// Origin has to be ours; a program with a token has none.
func (d *Door) live(w http.ResponseWriter, r *http.Request) {
	v, err := d.visit(w, r)
	if err == nil && v.me().ID == 0 {
		err = fault.New(fault.Unauthenticated, "account.sign_in")
	}
	if err == nil {
		err = settled(v.session)
	}
	if origin := r.Header.Get("Origin"); err == nil && v.session.TokenID == 0 {
		if u, parseErr := url.Parse(origin); origin != d.origin && (parseErr != nil || u.Host != r.Host) || origin == "" {
			err = fault.New(fault.Forbidden, "web.cross_site")
		}
	}
	if err != nil {
		d.fail(w, r, err)
		return
	}
	conn, rw, _, err := ws.UpgradeHTTP(r, w)
	if err != nil {
		return // it has answered
	}
	_ = conn.SetDeadline(time.Time{})
	s := &socket{door: d, conn: conn, direct: newDirectWriter(conn), session: v.session.ID, typed: v.typed(), may: account.Session{Scope: v.session.Scope, Rooms: v.session.Rooms}, lang: v.lang}
	me := v.me()
	s.person.Store(&me)
	s.heard.Store(time.Now().Unix())
	d.mu.Lock()
	if d.closed {
		d.mu.Unlock()
		conn.Close()
		return
	}
	d.sockets[s] = struct{}{}
	d.done.Add(1)
	d.mu.Unlock()
	var from io.Reader = conn
	if n := rw.Reader.Buffered(); n > 0 {
		early, _ := rw.Reader.Peek(n)
		from = io.MultiReader(bytes.NewReader(bytes.Clone(early)), conn)
	}
	// A goroutine of its own, so that the one of net/http ends and its stack and buffers are given back.
	go s.read(d.ctx, bufio.NewReaderSize(from, readBuffer))
}

// read takes messages until the connection ends.
func (s *socket) read(ctx context.Context, from *bufio.Reader) {
	defer s.end()
	// One that ended after it was looked up, and before this socket stood among those that are then hung up, is seen here.
	if gone, err := s.door.gone(ctx, s.session); err != nil {
		s.bye("away")
	} else if len(gone) > 0 {
		s.bye("session_ended")
	}
	frames := frameReader{from: from, limit: maxFrame}
	for {
		op, payload, err := frames.next()
		s.heard.Store(time.Now().Unix())
		switch {
		case errors.Is(err, errBadFrame):
			s.bye("bad_frame")
			return
		case err != nil:
			return
		case op == ws.OpClose:
			s.offer(closeFrame)
			return
		case s.over(): // all that is waited for is the other side's farewell
		case op == ws.OpText:
			s.take(ctx, payload)
		case op == ws.OpPing:
			s.offer(ws.MustCompileFrame(ws.NewPongFrame(payload)))
		}
	}
}

var (
	closeFrame = ws.MustCompileFrame(ws.NewCloseFrame(ws.NewCloseFrameBody(ws.StatusNormalClosure, "")))
	pingFrame  = ws.MustCompileFrame(ws.NewPingFrame(nil))
)

// appendText appends a text frame whose payload write appends (RFC 6455, section 5.2): room for the longest header is
// left, and the payload moved up to the one that it got.
func appendText(b []byte, write func([]byte) []byte) []byte {
	const longest = 10
	start := len(b)
	b = append(b, make([]byte, longest)...)
	b = write(b)
	n := len(b) - start - longest
	b[start] = 0x81 // the last part of a text message
	header := 2
	switch {
	case n < 126:
		b[start+1] = byte(n)
	case n < 1<<16:
		b[start+1] = 126
		binary.BigEndian.PutUint16(b[start+2:], uint16(n))
		header = 4
	default:
		b[start+1] = 127
		binary.BigEndian.PutUint64(b[start+2:], uint64(n))
		header = longest
	}
	copy(b[start+header:], b[start+longest:])
	return b[:start+header+n]
}

func textFrame(payload []byte) []byte { return ws.MustCompileFrame(ws.NewTextFrame(payload)) }

func frame(value any) []byte {
	payload, err := json.Marshal(value)
	if err != nil {
		panic(err) // our own structs
	}
	return textFrame(payload)
}

// offer sends a frame. A listener whose queue is full is dropped: it comes back and heals by since.
func (s *socket) offer(f []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		return
	}
	if len(s.held) > 0 {
		f = append(s.held, f...)
		s.held = nil
	}
	s.send(f)
}

// hold keeps a small frame until the next one is offered, or flush is called.
func (s *socket) hold(f []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.ended {
		s.held = append(s.held, f...)
	}
}

func (s *socket) flush() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.held) > 0 && !s.ended {
		f := s.held
		s.held = nil
		s.send(f)
	}
}

// send writes a frame, or queues what the other side is not ready to take. s.mu is held.
func (s *socket) send(f []byte) {
	if !s.writing && s.direct != nil {
		n, err := s.direct.write(f)
		if err != nil {
			s.ended = true
			s.conn.Close() // its reader ends, and takes it out of everything
			return
		}
		if f = f[n:]; len(f) == 0 {
			return
		}
	}
	if s.size > 0 && s.size+len(f) > maxQueue {
		s.ended, s.queue = true, [][]byte{s.farewell("too_slow"), closeFrame}
		s.door.Stats.Dropped.Add(1)
		_ = s.conn.SetReadDeadline(time.Now().Add(time.Second))
		return
	}
	s.queue = append(s.queue, f)
	s.size += len(f)
	if !s.writing {
		s.writing = true
		go s.write()
	}
}

// write writes what waits, all of it at once, until nothing does.
func (s *socket) write() {
	for {
		s.mu.Lock()
		if len(s.queue) == 0 {
			s.writing = false
			s.queue = nil
			_ = s.conn.SetWriteDeadline(time.Time{}) // one that has passed would fail the next direct write
			closing := s.closing
			s.mu.Unlock()
			if closing {
				s.conn.Close()
			}
			return
		}
		waiting := net.Buffers(s.queue)
		s.queue, s.size = nil, 0
		s.mu.Unlock()
		_ = s.conn.SetWriteDeadline(time.Now().Add(writeWait))
		if _, err := waiting.WriteTo(s.conn); err != nil {
			s.conn.Close()
			s.mu.Lock()
			s.ended, s.writing, s.queue = true, false, nil
			s.mu.Unlock()
			return
		}
	}
}

// bye says why, and closes once that is written or given up.
func (s *socket) bye(key string) {
	s.offer(s.farewell(key))
	s.offer(closeFrame)
	s.mu.Lock()
	s.ended = true // nothing more goes in; what is in goes out
	s.mu.Unlock()
	_ = s.conn.SetReadDeadline(time.Now().Add(time.Second)) // the other side's answer, then the reader ends
}

// over tells whether it has been hung up: what comes then is not heard any more.
func (s *socket) over() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ended
}

func (s *socket) farewell(key string) []byte {
	return frame(object{"is": "bye", "key": key, "message": s.lang.T("fault.web.bye." + key)})
}

func (s *socket) end() {
	s.door.rooms.Unlisten(s)
	s.door.mu.Lock()
	delete(s.door.sockets, s)
	s.door.mu.Unlock()
	s.mu.Lock()
	s.ended, s.closing = true, true
	writing := s.writing
	s.mu.Unlock()
	if !writing { // else the last words are on their way
		s.conn.Close()
	}
	s.door.done.Done()
}

// heartbeat looks after all sockets; one goroutine for all.
func (d *Door) heartbeat(ctx context.Context) {
	defer d.done.Done()
	ticker := time.NewTicker(beatEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-ticker.C:
			d.beat(ctx, now.Unix())
		}
	}
}

// beat asks silent sockets for a sign of life and hangs up those that gave none, and those whose session has ended where we were not told: by time, by another
// process, by a restore.
func (d *Door) beat(ctx context.Context, now int64) {
	d.mu.Lock()
	all := make([]*socket, 0, len(d.sockets))
	for s := range d.sockets {
		all = append(all, s)
	}
	d.mu.Unlock()
	sessions := make([]int64, 0, len(all))
	for _, s := range all {
		if now-s.heard.Load() > silentAfter {
			s.conn.Close()
			continue
		}
		s.offer(pingFrame)
		sessions = append(sessions, s.session)
	}
	if len(sessions) == 0 {
		return
	}
	if gone, err := d.gone(ctx, sessions...); err == nil && len(gone) > 0 { // else the next beat asks again
		d.Ended(gone, 0)
	}
}

// gone are those sessions that no longer hold. A database that does not answer must not stop the heart.
func (d *Door) gone(ctx context.Context, sessions ...int64) ([]int64, error) {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	return d.accounts.Gone(ctx, sessions...)
}

// take obeys one frame. Frames of one socket are taken one after the other, but for posts, which do not wait.
func (s *socket) take(ctx context.Context, raw []byte) {
	o, err := parseOrder(raw)
	if err != nil {
		s.refuse(0, fault.Wrap(err, fault.Invalid, "web.bad_json", fault.Args{"message": jsonMessage(err)}))
		return
	}
	var got chat.Receipt
	if err = s.within(o); err != nil {
		s.refuse(o.ID, err)
		return
	}
	switch o.Do {
	case "hello":
		if err = s.hello(ctx, o); err != nil {
			s.refuse(o.ID, err)
			s.bye("away")
		}
		return
	case "post":
		s.post(o)
		return
	case "edit":
		got, err = s.door.rooms.Edit(ctx, s.Person(), chat.Draft{Room: o.Room, ClientID: o.ClientID, Body: o.Body, Typed: s.typed}, o.Seq)
	case "delete":
		got, err = s.door.rooms.Delete(ctx, s.Person(), o.Room, o.Seq, o.ClientID)
	case "read":
		_, err = s.door.markRead(ctx, s.Person(), o.Room, o.Seq)
		if err == nil {
			return // every window of the person is told, this one too
		}
	case "view":
		s.door.rooms.View(s, o.Room)
		return
	case "attend": // somebody sits before the page: seq is 1, or 0
		s.door.rooms.Attend(s, o.Seq > 0)
		return
	case "typing":
		s.door.rooms.Typing(s, o.Room)
		return
	default:
		err = fault.New(fault.Invalid, "web.unknown_order", fault.Args{"do": o.Do})
	}
	if err != nil {
		s.refuse(o.ID, err)
	} else {
		s.offer(ack(o.ID, got))
	}
}

func ack(id int64, got chat.Receipt) []byte {
	return appendText(make([]byte, 0, 64), func(b []byte) []byte {
		b = append(b, `{"is":"ok","id":`...)
		b = strconv.AppendInt(b, id, 10)
		b = append(b, `,"seq":`...)
		b = strconv.AppendInt(b, got.Seq, 10)
		return append(b, '}')
	})
}

func (s *socket) refuse(id int64, err error) {
	f := fault.Of(err)
	if f.Code == fault.Internal && s.door.ctx.Err() == nil { // cut off because we stop is no failure, and nobody is told any more
		s.door.Stats.Failures.Add(1)
		s.door.options.Log.Error("live request failed", "error", f.Error())
	}
	if f.Code == fault.Unavailable {
		s.door.rooms.Look()
	}
	why := failure(s.lang, f)
	s.offer(frame(struct {
		Is string `json:"is"`
		ID int64  `json:"id"`
		failureJSON
	}{"error", id, why}))
}

func (s *socket) post(o order) {
	if s.posting.Add(1) > maxPosting {
		s.posting.Add(-1)
		s.refuse(o.ID, fault.New(fault.RateLimited, "web.too_many_posts"))
		return
	}
	s.door.Stats.Posts.Add(1)
	s.door.rooms.PostThen(s.Person(), chat.Draft{Room: o.Room, ClientID: o.ClientID, Body: o.Body, Thread: o.Thread, Aloud: o.Aloud, Typed: s.typed, Files: draftFiles(o.Files)}, &posting{s, o.ID})
}

// posting is a post of a socket under way. Its answer travels with the echo, where the author follows the room.
type posting struct {
	*socket
	id int64
}

func (p *posting) Stored(got chat.Receipt, err error) {
	p.socket.posting.Add(-1)
	if err != nil {
		p.refuse(p.id, err)
	} else {
		p.hold(ack(p.id, got))
	}
}

func (p *posting) Told() { p.flush() }

// hello brings a page up to date: its rooms with their counts, then all that it has missed of the room it shows.
func (s *socket) hello(ctx context.Context, o order) error {
	epoch, err := s.door.rooms.Listen(ctx, s)
	if err != nil {
		return err
	}
	s.followed.Lock() // before looking: what changes from here on is looked at again after this
	defer s.followed.Unlock()
	rooms, err := s.door.rooms.Mine(ctx, s.Person())
	if err != nil {
		return err
	}
	rooms = s.seen(rooms)
	if o.Epoch != "" && o.Epoch != epoch {
		s.Reset(epoch)
	}
	s.offer(frame(object{"is": "hello", "epoch": epoch, "me": toMe(s.Person()), "rooms": toRooms(rooms)}))
	s.followed.rooms = make(map[int64]struct{}, len(rooms))
	for _, r := range rooms {
		since := r.Seq
		if r.ID == o.Room && o.Since > 0 && (o.Epoch == "" || o.Epoch == epoch) {
			since = min(since, o.Since)
		}
		s.followed.rooms[r.ID] = struct{}{}
		s.door.rooms.Follow(s, r.ID, since)
	}
	s.door.rooms.View(s, o.Room)
	s.started.Store(true)
	if trouble := s.door.rooms.Trouble(); trouble != nil {
		s.Away(trouble)
		if s.door.rooms.Trouble() == nil { // it went, and was told to be gone, before this said that it is there
			s.Away(nil)
		}
	}
	return nil
}

// Person is who listens, as they were when their rooms were last read.
func (s *socket) Person() account.Person { return *s.person.Load() }

// Deliver puts events into the queue, encoded once for all listeners.
func (s *socket) Deliver(delivery *chat.Delivery) {
	n := len(delivery.Events)
	if n == 0 {
		s.gap(delivery.Room, delivery.Seq)
		return
	}
	// What would fill a queue by itself is not sent: it would have the listener dropped, and dropped again when it comes
	// back for the same. It loads the page that it shows, which is less.
	if n > 1 && weight(delivery.Events) > maxQueue/2 || len(delivery.Frame(encodeDelivery)) > maxQueue/2 {
		s.gap(delivery.Room, delivery.Events[n-1].Seq)
		return
	}
	s.door.Stats.Deliveries.Add(int64(n))
	s.offer(delivery.Frame(encodeDelivery))
}

func (s *socket) gap(room, seq int64) { s.offer(frame(object{"is": "gap", "room": room, "seq": seq})) }

// weight is about what events come to when they are encoded: each message is in it as Markdown and as HTML.
func weight(events []chat.Event) (bytes int) {
	for i := range events {
		bytes += 400
		if m := events[i].Message; m != nil {
			bytes += 2 * len(m.Body)
			for _, f := range m.Files {
				bytes += 200 + len(f.Name) + len(f.Alt) + len(f.Excerpt)
			}
		}
	}
	return bytes
}

func encodeDelivery(delivery *chat.Delivery) []byte {
	var out []byte
	for _, e := range delivery.Events {
		if plainPost(e) {
			out = appendText(out, func(b []byte) []byte { return appendPost(b, e) })
		} else {
			out = append(out, frame(toEvent(e))...)
		}
	}
	return out
}

// Ephemeral passes on what is not written down.
func (s *socket) Ephemeral(w *chat.Whisper) { s.offer(w.Frame(encodeWhisper)) }

func encodeWhisper(w *chat.Whisper) []byte {
	if w.Typing != nil {
		return frame(object{"is": "typing", "room": w.Room, "person": toPerson(*w.Typing)})
	}
	return frame(object{"is": "here", "room": w.Room, "people": w.Here, "count": w.Count})
}

// Reset tells the page that the database was restored.
func (s *socket) Reset(epoch string) {
	s.offer(frame(object{"is": "reset", "epoch": epoch}))
	if s.started.Load() {
		s.RoomsChanged()
	}
}

// Away tells the page that the database went away, and why, or that it came back.
func (s *socket) Away(why error) {
	if why == nil {
		s.offer(frame(object{"is": "back"}))
		return
	}
	if trouble := s.door.trouble(); trouble != nil {
		why = trouble
	}
	message, hint := s.lang.Fault(why)
	s.offer(frame(object{"is": "waiting", "message": message, "hint": hint}))
}

// RoomsChanged reads the person's rooms again, soon and in a goroutine of its own: the caller must not wait.
func (s *socket) RoomsChanged() {
	if s.syncing.CompareAndSwap(false, true) {
		go s.sync()
	}
}

func (s *socket) sync() {
	s.syncing.Store(false) // before reading: a change after this moment starts another
	s.followed.Lock()
	defer s.followed.Unlock()
	if s.followed.rooms == nil {
		return // hello is yet to read them
	}
	ctx, cancel := context.WithTimeout(s.door.ctx, 15*time.Second)
	defer cancel()
	// The person too: a name or a rank in the house may be what has changed.
	me, err := s.door.accounts.Person(ctx, s.Person().ID)
	var rooms []chat.Room
	if err == nil {
		rooms, err = s.door.rooms.Mine(ctx, me)
		rooms = s.seen(rooms)
	}
	var told tell.Settings
	if err == nil {
		told, err = s.door.tell.Settings(ctx, me)
	}
	if err != nil {
		s.conn.Close() // it comes back and says hello
		return
	}
	if before := s.person.Swap(&me); (before.Away == nil) != (me.Away == nil) {
		s.door.rooms.Stirred(s)
	}
	now := make(map[int64]struct{}, len(rooms))
	for _, r := range rooms {
		now[r.ID] = struct{}{}
		if _, before := s.followed.rooms[r.ID]; !before {
			s.door.rooms.Follow(s, r.ID, r.Seq)
		}
	}
	for id := range s.followed.rooms {
		if _, still := now[id]; !still {
			s.door.rooms.Unfollow(s, id)
		}
	}
	s.followed.rooms = now
	s.offer(frame(object{"is": "rooms", "me": toMe(me), "rooms": toRooms(rooms), "told": toldInPage(told)}))
}

// markRead notes what was read and tells all windows of the person.
func (d *Door) markRead(ctx context.Context, me account.Person, room, seq int64) (chat.Room, error) {
	r, err := d.rooms.MarkRead(ctx, me, room, seq)
	if err != nil {
		return r, err
	}
	d.tellRead(me, r)
	return r, nil
}
