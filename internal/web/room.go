package web

import (
	"fmt"
	"html/template"
	"net/http"
	"slices"

	"howdah/internal/account"
	"howdah/internal/chat"
	"howdah/internal/fault"
	"howdah/internal/lang"
	"howdah/internal/web/ui"
)

// The page of a room, and its forms for those without scripts.

func pagePerson(a chat.Author) ui.Person {
	return ui.Person{ID: a.ID, Handle: a.Handle, Name: a.Name, Bot: a.Bot}
}

func pageRoom(r chat.Room) ui.Room {
	out := ui.Room{ID: r.ID, Kind: string(r.Kind), Name: r.Name, Topic: r.Topic, Seq: r.Seq, Read: r.Read, Unread: r.Unread, Mentions: r.Mentions, Threads: r.Threads,
		Role: string(r.Role), Members: r.Members, Bell: string(r.Bell), MuteUntil: r.MuteUntil}
	for _, b := range r.Bells {
		out.Bells = append(out.Bells, ui.ThreadBell{Thread: b.Thread, Silent: b.Silent, MuteUntil: b.MuteUntil})
	}
	if r.Other != nil {
		p := pagePerson(*r.Other)
		out.Other = &p
	}
	return out
}

func pageMessage(m chat.Message, locale lang.Locale) ui.Message {
	out := ui.Message{Seq: m.Seq, At: m.At, By: pagePerson(m.By), Edited: m.Edited, Deleted: m.Deleted, Alert: pageAlert(m.Alert, locale), Way: pageWay(m.Way), Reactions: pageReactions(m.Reactions),
		Thread: m.Thread, HTML: template.HTML(render(m.Body, m.Mentions))} //nolint:gosec // render gives Markdown's own elements only; fuzzed
	if !m.Deleted {
		out.Files, out.Cards = pageFiles(m.Files), pageCards(m.Cards)
	}
	if m.Pinned != nil {
		out.PinnedBy = m.Pinned.By.Name
	}
	if m.Replies != nil {
		out.Replies, out.Answered = m.Replies.Count, m.Replies.At
	}
	return out
}

func pageEvent(e chat.Event) ui.Event {
	out := ui.Event{Seq: e.Seq, At: e.At, Kind: string(e.Kind), By: pagePerson(e.By), Role: string(e.Role), Name: e.Name, Topic: e.Topic, Count: e.Count, On: e.On, Private: e.Private}
	if e.Person != nil {
		out.Person = pagePerson(*e.Person)
	}
	return out
}

func (d *Door) roomPage(v *visit) error {
	id, err := v.number("room")
	if err != nil {
		return err
	}
	at, err := v.query("at")
	if err != nil {
		return err
	}
	thread, err := v.query("thread")
	if err != nil {
		return err
	}
	around := at
	if thread != 0 {
		around = thread // at is a place in it
	}
	p, err := d.fillRoom(v, id, around)
	if err == nil && thread != 0 {
		err = d.fillThread(v.ctx(), v.me(), &p, thread, at)
	}
	if err != nil {
		return err
	}
	if shown := func(m ui.Message) bool { return m.Seq == at }; at != 0 && thread == 0 && !slices.ContainsFunc(p.Messages, shown) {
		// A reply that does not stand in the room is shown where it does.
		if t, err := d.rooms.Thread(v.ctx(), v.me(), id, at, chat.Cursor{Limit: 1}); err == nil && t.Root.Seq != at {
			redirect(v, fmt.Sprintf("/room/%d?thread=%d&at=%d#t%d", id, t.Root.Seq, at, at))
			return nil
		}
	}
	if p.Room.ID == 0 {
		return fault.New(fault.NotFound, "chat.no_room")
	}
	d.render(v.w, v.r, http.StatusOK, "room", p)
	return nil
}

func (d *Door) fillRoom(v *visit, id, at int64) (ui.RoomPage, error) {
	me := v.me()
	room, err := d.rooms.Room(v.ctx(), me, id)
	if err != nil {
		return ui.RoomPage{}, err
	}
	history, err := d.rooms.History(v.ctx(), me, id, chat.Cursor{Around: at, Limit: 50})
	if err != nil {
		return ui.RoomPage{}, err
	}
	members, err := d.rooms.Members(v.ctx(), me, id)
	if err != nil {
		return ui.RoomPage{}, err
	}
	c, err := d.chrome(v)
	if err != nil {
		return ui.RoomPage{}, err
	}
	c.Title = pageRoom(room).Label()
	p := ui.RoomPage{Chrome: c, Room: pageRoom(room), Earlier: history.Earlier, Later: history.Later, Seq: history.Seq, At: at,
		BodyLimit: chat.MaxBody, ClientID: chat.NewID()}
	for _, m := range history.Messages {
		p.Messages = append(p.Messages, pageMessage(m, v.lang))
	}
	for _, e := range history.Events {
		p.Events = append(p.Events, pageEvent(e))
	}
	for _, m := range members {
		if m.Here {
			p.Here++
		}
	}
	for _, m := range members[:min(len(members), 200)] {
		p.Members = append(p.Members, ui.Member{ID: m.ID, Handle: m.Handle, Name: m.Name, Role: string(m.Role), Here: m.Here, Bot: m.Bot, Away: m.Away})
	}
	s := chat.Standing{House: me.Role, Kind: room.Kind, Room: room.Role, Archived: room.Archived}
	p.Archived = room.Archived
	p.May = ui.May{Post: chat.May(chat.Post, s), Join: chat.May(chat.Join, s), Leave: chat.May(chat.Leave, s), Invite: chat.May(chat.Invite, s),
		Rename: chat.May(chat.Rename, s), Manage: chat.May(chat.SetRole, s), DeleteAny: chat.May(chat.Moderate, s), Answer: chat.May(chat.Respond, s), Connect: d.mayConnect(s), Pin: chat.May(chat.Pin, s), Retain: chat.May(chat.Retain, s), Archive: chat.May(chat.Archive, s)}
	p.Roles = roleNames(chat.MayGive(s))
	for _, c := range chat.Commands {
		name := c.Name
		if v.lang == lang.Chinese {
			name = c.Chinese
		}
		p.Commands = append(p.Commands, ui.Command{Name: name, Other: c.Name, Use: v.lang.T("chat.command." + c.Name)})
	}
	err = d.fillKept(v, &p)
	return p, err
}

func roleNames(roles []account.Role) []string {
	names := make([]string, len(roles))
	for i, r := range roles {
		names[i] = string(r)
	}
	return names
}

// inRoom runs a form's action and leads back to the room; what people can mend is shown there.
func (d *Door) inRoom(act func(v *visit, room int64) error) handler { return d.inRoomAt("", act) }

// inRoomAt is inRoom, and leads back to a place in the room.
func (d *Door) inRoomAt(place string, act func(v *visit, room int64) error) handler {
	return func(v *visit) error {
		id, err := v.number("room")
		if err != nil {
			return err
		}
		if err := v.form(); err != nil {
			return err
		}
		err = act(v, id)
		if err == nil {
			redirect(v, fmt.Sprint("/room/", id, place))
			return nil
		}
		if fault.Is(err, fault.NotFound) && fault.HasKey(err, "chat.no_room") {
			return err
		}
		p, fillErr := d.fillRoom(v, id, 0)
		if fillErr != nil {
			return fillErr
		}
		if body := v.field("body"); body != "" {
			p.Body = body
		}
		code := complaintStatus(err)
		if err := complain(&p.Chrome, err); err != nil {
			return err
		}
		d.render(v.w, v.r, code, "room", p)
		return nil
	}
}

func (d *Door) roomPost(v *visit) error {
	thread, err := v.query("thread") // of the form's address, so that it can lead back there
	if err != nil {
		return err
	}
	if err := v.form(); err != nil {
		return err
	}
	if line := v.field("body"); chat.IsCommand(line) {
		room, err := v.number("room")
		if err != nil {
			return err
		}
		return d.roomCommand(v, room, thread, line)
	}
	place := ""
	if thread != 0 {
		place = fmt.Sprint("?thread=", thread)
	}
	return d.inRoomAt(place, func(v *visit, room int64) error {
		d.Stats.Posts.Add(1)
		_, err := d.rooms.Post(v.ctx(), v.me(), chat.Draft{Room: room, ClientID: v.field("client_id"), Body: v.field("body"), Thread: thread, Aloud: v.field("aloud") != ""})
		return err
	})(v)
}

func (d *Door) roomJoin(v *visit) error {
	return d.inRoom(func(v *visit, room int64) error { return d.rooms.Join(v.ctx(), v.me(), room) })(v)
}

func (d *Door) roomLeave(v *visit) error {
	left := false
	err := d.inRoom(func(v *visit, room int64) error {
		err := d.rooms.Leave(v.ctx(), v.me(), room)
		if err == nil {
			left = true
			return fault.New(fault.NotFound, "chat.no_room") // a room that was left is not shown again
		}
		return err
	})(v)
	if left {
		redirect(v, "/")
		return nil
	}
	return err
}

func (d *Door) roomSettings(v *visit) error {
	return d.inRoom(func(v *visit, room int64) error {
		name, topic := v.field("name"), v.field("topic")
		return d.rooms.Rename(v.ctx(), v.me(), room, &name, &topic)
	})(v)
}

// roomArchive closes a room for good, or opens it again.
func (d *Door) roomArchive(v *visit) error {
	return d.inRoom(func(v *visit, room int64) error {
		return d.rooms.Archive(v.ctx(), v.me(), room, v.field("on") != "")
	})(v)
}

func (d *Door) roomPrivate(v *visit) error {
	return d.inRoom(func(v *visit, room int64) error { return d.rooms.MakePrivate(v.ctx(), v.me(), room) })(v)
}

func (d *Door) roomInvite(v *visit) error {
	return d.inRoom(func(v *visit, room int64) error {
		who, err := d.accounts.ByHandle(v.ctx(), v.me(), v.field("handle"))
		if err != nil {
			return err
		}
		return d.rooms.Invite(v.ctx(), v.me(), room, who.ID)
	})(v)
}

func (d *Door) roomRole(v *visit) error {
	return d.inRoom(func(v *visit, room int64) error {
		who, err := v.number("person")
		if err != nil {
			return err
		}
		return d.rooms.SetRole(v.ctx(), v.me(), room, who, account.Role(v.field("role")))
	})(v)
}

func (d *Door) roomRemove(v *visit) error {
	return d.inRoom(func(v *visit, room int64) error {
		who, err := v.number("person")
		if err != nil {
			return err
		}
		return d.rooms.Remove(v.ctx(), v.me(), room, who)
	})(v)
}
