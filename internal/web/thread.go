package web

import (
	"context"
	"net/http"
	"time"

	"howdah/internal/account"
	"howdah/internal/chat"
	"howdah/internal/web/ui"
)

// Threads: what is answered to a message, beside the room.

type repliesJSON struct {
	Count int       `json:"count"`
	Last  int64     `json:"last"`
	At    time.Time `json:"at"`
}

type rootJSON struct {
	Seq       int64       `json:"seq"`
	Replies   repliesJSON `json:"replies"`
	Followers []int64     `json:"followers"`
}

func toReplies(r chat.Replies) repliesJSON {
	return repliesJSON{r.Count, r.Last, r.At.UTC().Truncate(time.Millisecond)}
}

func toRoot(r *chat.Root) *rootJSON {
	if r == nil {
		return nil
	}
	out := &rootJSON{r.Seq, toReplies(r.Replies), r.Followers}
	if out.Followers == nil {
		out.Followers = []int64{}
	}
	return out
}

func (d *Door) apiThread(v *visit) (any, error) {
	room, seq, err := v.numbers("room", "seq")
	if err != nil {
		return nil, err
	}
	var c chat.Cursor
	var limit int64
	for name, into := range map[string]*int64{"before": &c.Before, "around": &c.Around, "limit": &limit} {
		if *into, err = v.query(name); err != nil {
			return nil, err
		}
	}
	c.Limit = int(min(limit, chat.PageLimit))
	t, err := d.rooms.Thread(v.ctx(), v.me(), room, seq, c)
	if err != nil {
		return nil, err
	}
	list := make([]messageJSON, len(t.Messages))
	for i, m := range t.Messages {
		list[i] = toMessage(m)
	}
	return object{"root": toMessage(t.Root), "messages": list, "earlier": t.Earlier, "following": t.Following, "bell": threadBell(t), "mute_until": t.MuteUntil, "read": t.Read, "unread": t.Unread, "seq": t.Seq}, nil
}

func (d *Door) apiThreads(v *visit) (any, error) {
	threads, err := d.rooms.Threads(v.ctx(), v.me())
	out := make([]object, len(threads))
	for i, t := range threads {
		out[i] = object{"room": t.Room, "root": toMessage(t.Root), "unread": t.Unread}
	}
	return object{"threads": out}, err
}

func (d *Door) apiFollowThread(on bool) func(v *visit) (any, error) {
	return func(v *visit) (any, error) {
		room, seq, err := v.numbers("room", "seq")
		if err != nil {
			return nil, err
		}
		if err := d.rooms.FollowThread(v.ctx(), v.me(), room, seq, on); err != nil {
			return nil, err
		}
		r, err := d.rooms.Room(v.ctx(), v.me(), room)
		if err == nil {
			d.tellRead(v.me(), r)
		}
		return readJSON(r), err
	}
}

func (d *Door) apiReadThread(v *visit) (any, error) {
	room, root, err := v.numbers("room", "seq")
	if err != nil {
		return nil, err
	}
	var in struct{ Seq int64 }
	if err := v.body(&in); err != nil {
		return nil, err
	}
	r, err := d.rooms.ReadThread(v.ctx(), v.me(), room, root, in.Seq)
	if err == nil {
		d.tellRead(v.me(), r)
	}
	return readJSON(r), err
}

func readJSON(r chat.Room) object {
	return object{"read": r.Read, "unread": r.Unread, "mentions": r.Mentions, "threads": r.Threads}
}

// tellRead tells all windows of a person what is unread in a room.
func (d *Door) tellRead(me account.Person, r chat.Room) {
	told := frame(object{"is": "read", "room": r.ID, "seq": r.Read, "unread": r.Unread, "mentions": r.Mentions, "threads": r.Threads})
	d.rooms.ToPerson(me.ID, func(l chat.Listener) {
		if s, ok := l.(*socket); ok {
			s.offer(told)
		}
	})
}

// fillThread puts a thread beside the page of its room: the one that holds the message root, around at where that is not 0.
func (d *Door) fillThread(ctx context.Context, me account.Person, p *ui.RoomPage, root, at int64) error {
	t, err := d.rooms.Thread(ctx, me, p.Room.ID, root, chat.Cursor{Around: at})
	if err != nil {
		return err
	}
	p.Thread = &ui.Thread{Seq: t.Root.Seq, At: at, Earlier: t.Earlier, Bell: string(threadBell(t)), MuteUntil: t.MuteUntil, ClientID: chat.NewID()}
	for _, m := range append([]chat.Message{t.Root}, t.Messages...) {
		p.Thread.Messages = append(p.Thread.Messages, pageMessage(m, p.Locale))
	}
	return nil
}

// threadsPage lists the threads that one follows.
func (d *Door) threadsPage(v *visit) error {
	c, err := d.chrome(v)
	if err != nil {
		return err
	}
	threads, err := d.rooms.Threads(v.ctx(), v.me())
	if err != nil {
		return err
	}
	p := ui.ThreadsPage{Chrome: c}
	for _, t := range threads {
		one := ui.FollowedThread{Root: pageMessage(t.Root, v.lang), Unread: t.Unread}
		for _, r := range c.Rooms {
			if r.ID == t.Room {
				one.Room = r
			}
		}
		p.Threads = append(p.Threads, one)
	}
	d.render(v.w, v.r, http.StatusOK, "threads", p)
	return nil
}
