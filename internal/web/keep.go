package web

import (
	"fmt"
	"net/http"
	"strconv"
	"time"

	"howdah/internal/chat"
	"howdah/internal/fault"
	"howdah/internal/web/ui"
)

// What is kept at hand: pins for everybody in a room; saved messages and drafts for oneself, on all one's devices.

type pinJSON struct {
	By personJSON `json:"by"`
	At time.Time  `json:"at"`
}

func toPin(p *chat.Pinning) *pinJSON {
	if p == nil {
		return nil
	}
	return &pinJSON{toPerson(p.By), p.At.UTC().Truncate(time.Millisecond)}
}

func (d *Door) apiPin(on bool) func(v *visit) (any, error) {
	return func(v *visit) (any, error) {
		room, seq, err := v.numbers("room", "seq")
		if err != nil {
			return nil, err
		}
		return receipt(d.rooms.Pin(v.ctx(), v.me(), room, seq, on, v.clientID()))
	}
}

func (d *Door) apiPins(v *visit) (any, error) {
	room, err := v.number("room")
	if err != nil {
		return nil, err
	}
	list, err := d.rooms.Pins(v.ctx(), v.me(), room)
	out := make([]messageJSON, len(list))
	for i, m := range list {
		out[i] = toMessage(m)
	}
	return object{"messages": out}, err
}

func (d *Door) apiSave(on bool) func(v *visit) (any, error) {
	return func(v *visit) (any, error) {
		room, seq, err := v.numbers("room", "seq")
		if err != nil {
			return nil, err
		}
		return nil, d.save(v, room, seq, on)
	}
}

// save puts a message aside, or no more, and tells all windows of the person.
func (d *Door) save(v *visit, room, seq int64, on bool) error {
	err := d.rooms.Save(v.ctx(), v.me(), room, seq, on)
	if err == nil {
		d.tellSelf(v.me().ID, object{"is": "saved", "room": room, "seq": seq, "on": on})
	}
	return err
}

// tellSelf tells all windows of a person what is theirs alone.
func (d *Door) tellSelf(person int64, what object) {
	told := frame(what)
	d.rooms.ToPerson(person, func(l chat.Listener) {
		if s, ok := l.(*socket); ok {
			s.offer(told)
		}
	})
}

func (d *Door) apiSaved(v *visit) (any, error) {
	list, more, err := d.saved(v)
	out := make([]object, len(list))
	for i, one := range list {
		out[i] = object{"room": one.Room, "at": one.At.UTC(), "message": toMessage(one.Message)}
	}
	return object{"saved": out, "more": more}, err
}

// saved reads the page of what is saved that the query asks for: before, a moment as RFC 3339 has it.
func (d *Door) saved(v *visit) ([]chat.Saved, bool, error) {
	var before time.Time
	if raw := v.r.URL.Query().Get("before"); raw != "" {
		var err error
		if before, err = time.Parse(time.RFC3339Nano, raw); err != nil {
			return nil, false, fault.New(fault.Invalid, "web.bad_time", fault.Args{"name": "before"})
		}
	}
	return d.rooms.Saved(v.ctx(), v.me(), before)
}

type draftJSON struct {
	Room     int64  `json:"room"`
	Thread   int64  `json:"thread"`
	ClientID string `json:"client_id"`
	Version  int64  `json:"version"`
	Body     string `json:"body"`
}

func toDrafts(list []chat.Unsent) []draftJSON {
	out := make([]draftJSON, len(list))
	for i, one := range list {
		out[i] = draftJSON(one)
	}
	return out
}

func (d *Door) apiDrafts(v *visit) (any, error) {
	room, err := v.query("room")
	if err != nil {
		return nil, err
	}
	list, err := d.rooms.Drafts(v.ctx(), v.me(), room)
	return object{"drafts": toDrafts(list)}, err
}

func (d *Door) apiDraft(v *visit) (any, error) {
	room, err := v.number("room")
	if err != nil {
		return nil, err
	}
	var in struct {
		Thread   int64
		ClientID string `json:"client_id"`
		Version  int64
		Body     string
	}
	if err := v.body(&in); err != nil {
		return nil, err
	}
	now, changed, err := d.rooms.KeepDraft(v.ctx(), v.me(), chat.Unsent{Room: room, Thread: in.Thread, ClientID: in.ClientID, Version: in.Version, Body: in.Body})
	if err != nil {
		return nil, err
	}
	if changed {
		d.tellSelf(v.me().ID, object{"is": "draft", "room": now.Room, "thread": now.Thread, "client_id": now.ClientID, "version": now.Version, "body": now.Body})
	}
	return draftJSON(now), nil
}

func (d *Door) roomPin(v *visit) error {
	seq, err := v.number("seq")
	if err != nil {
		return err
	}
	return d.inRoomAt("/pins", func(v *visit, room int64) error {
		_, err := d.rooms.Pin(v.ctx(), v.me(), room, seq, v.field("on") != "", chat.NewID())
		return err
	})(v)
}

func (d *Door) roomSave(v *visit) error {
	room, seq, err := v.numbers("room", "seq")
	if err == nil {
		err = v.form()
	}
	if err == nil {
		err = d.save(v, room, seq, v.field("on") != "")
	}
	if err == nil {
		redirect(v, "/saved")
	}
	return err
}

// pinsPage lists what is pinned in a room.
func (d *Door) pinsPage(v *visit) error {
	id, err := v.number("room")
	if err != nil {
		return err
	}
	room, err := d.rooms.Room(v.ctx(), v.me(), id)
	if err != nil {
		return err
	}
	list, err := d.rooms.Pins(v.ctx(), v.me(), id)
	if err != nil {
		return err
	}
	c, err := d.chrome(v)
	if err != nil {
		return err
	}
	p := ui.KeptPage{Chrome: c, Room: pageRoom(room)}
	may := chat.May(chat.Pin, chat.Standing{House: v.me().Role, Kind: room.Kind, Room: room.Role})
	for _, m := range list {
		one := kept(pageMessage(m, v.lang), p.Room)
		if may {
			one.Action = fmt.Sprintf("/room/%d/messages/%d/pin", id, m.Seq)
		}
		p.Kept = append(p.Kept, one)
	}
	d.render(v.w, v.r, http.StatusOK, "kept", p)
	return nil
}

// savedPage lists what I have saved.
func (d *Door) savedPage(v *visit) error {
	list, more, err := d.saved(v)
	if err != nil {
		return err
	}
	c, err := d.chrome(v)
	if err != nil {
		return err
	}
	p := ui.KeptPage{Chrome: c}
	for _, s := range list {
		at := ui.Room{ID: s.Room}
		for _, r := range c.Rooms {
			if r.ID == s.Room {
				at = r
			}
		}
		if at.Kind == "" { // a public one that I am not in
			room, err := d.rooms.Room(v.ctx(), v.me(), s.Room)
			if err != nil {
				return err
			}
			at = pageRoom(room)
		}
		one := kept(pageMessage(s.Message, v.lang), at)
		one.Action = fmt.Sprintf("/room/%d/messages/%d/save", s.Room, s.Message.Seq)
		p.Kept = append(p.Kept, one)
	}
	if more {
		p.Older = "/saved?before=" + list[len(list)-1].At.UTC().Format(time.RFC3339Nano)
	}
	d.render(v.w, v.r, http.StatusOK, "kept", p)
	return nil
}

func kept(m ui.Message, room ui.Room) ui.Kept {
	return ui.Kept{Message: m, Room: room, URL: "/room/" + strconv.FormatInt(room.ID, 10) + "?at=" + strconv.FormatInt(m.Seq, 10) + "#m" + strconv.FormatInt(m.Seq, 10)}
}

// fillKept gives the page of a room what its person has saved and begun to write there.
func (d *Door) fillKept(v *visit, p *ui.RoomPage) error {
	var err error
	if p.Saved, err = d.rooms.SavedIn(v.ctx(), v.me(), p.Room.ID); err != nil {
		return err
	}
	drafts, err := d.rooms.Drafts(v.ctx(), v.me(), p.Room.ID)
	p.Drafts = toDrafts(drafts)
	if p.Body == "" && err == nil {
		for _, one := range drafts {
			if one.Thread == 0 {
				p.Body = one.Body
			}
		}
	}
	return err
}
