package web

import (
	"time"

	"howdah/internal/account"
	"howdah/internal/chat"
	"howdah/internal/fault"
)

// The JSON API: each call reads its input, asks the rooms or accounts, and gives a value for JSON.

type object = map[string]any

func meJSON(p account.Person) object {
	return object{"id": p.ID, "handle": p.Handle, "name": p.Name, "role": p.Role, "locale": p.Locale, "theme": p.Theme, "bot": p.Bot, "cards": !p.NoCards}
}

func (d *Door) apiMe(v *visit) (any, error) { return meJSON(v.me()), nil }

func (d *Door) apiUpdateMe(v *visit) (any, error) {
	var in account.Own
	if err := v.body(&in); err != nil {
		return nil, err
	}
	p, err := d.update(v, in)
	return meJSON(p), err
}

func (d *Door) apiRooms(v *visit) (any, error) {
	rooms, err := d.rooms.Mine(v.ctx(), v.me())
	return object{"rooms": toRooms(seen(v.session, rooms))}, err
}

func (d *Door) apiPublicRooms(v *visit) (any, error) {
	rooms, err := d.rooms.PublicRooms(v.ctx(), v.me())
	return object{"rooms": toRooms(rooms)}, err
}

func (d *Door) apiCreateRoom(v *visit) (any, error) {
	var in struct {
		ClientID string `json:"client_id"`
		Kind     chat.Kind
		Name     string
		Topic    string
	}
	if err := v.body(&in); err != nil {
		return nil, err
	}
	r, err := d.rooms.Create(v.ctx(), v.me(), chat.NewRoomDraft{Kind: in.Kind, Name: in.Name, Topic: in.Topic, ClientID: in.ClientID})
	return toRoom(r), err
}

func (d *Door) apiDirect(v *visit) (any, error) {
	var in struct{ Person int64 }
	if err := v.body(&in); err != nil {
		return nil, err
	}
	r, err := d.rooms.Direct(v.ctx(), v.me(), in.Person)
	return toRoom(r), err
}

// apiInRoom answers with the room as it is after act.
func (d *Door) apiInRoom(v *visit, act func(room int64) error) (any, error) {
	id, err := v.number("room")
	if err != nil {
		return nil, err
	}
	if err := act(id); err != nil {
		return nil, err
	}
	r, err := d.rooms.Room(v.ctx(), v.me(), id)
	return toRoom(r), err
}

func (d *Door) apiRoom(v *visit) (any, error) {
	return d.apiInRoom(v, func(int64) error { return nil })
}

func (d *Door) apiRename(v *visit) (any, error) {
	var in struct {
		Name, Topic *string
		Archived    *bool
		Kind        *chat.Kind
	}
	if err := v.body(&in); err != nil {
		return nil, err
	}
	return d.apiInRoom(v, func(room int64) error {
		if in.Kind != nil {
			if *in.Kind != chat.Private {
				return fault.New(fault.Invalid, "chat.kind_private")
			}
			if err := d.rooms.MakePrivate(v.ctx(), v.me(), room); err != nil {
				return err
			}
		}
		if in.Name != nil || in.Topic != nil {
			if err := d.rooms.Rename(v.ctx(), v.me(), room, in.Name, in.Topic); err != nil {
				return err
			}
		}
		if in.Archived != nil {
			return d.rooms.Archive(v.ctx(), v.me(), room, *in.Archived)
		}
		return nil
	})
}

func (d *Door) apiJoin(v *visit) (any, error) {
	return d.apiInRoom(v, func(room int64) error { return d.rooms.Join(v.ctx(), v.me(), room) })
}

func (d *Door) apiLeave(v *visit) (any, error) {
	id, err := v.number("room")
	if err != nil {
		return nil, err
	}
	return nil, d.rooms.Leave(v.ctx(), v.me(), id)
}

func (d *Door) apiMembers(v *visit) (any, error) {
	id, err := v.number("room")
	if err != nil {
		return nil, err
	}
	members, err := d.rooms.Members(v.ctx(), v.me(), id)
	out := make([]object, len(members))
	for i, m := range members {
		out[i] = object{"id": m.ID, "handle": m.Handle, "name": m.Name, "role": m.Role, "here": m.Here, "bot": m.Bot}
		if m.Away != nil {
			out[i]["away"] = *m.Away
		}
	}
	return object{"members": out}, err
}

func (d *Door) apiPutMember(v *visit) (any, error) {
	room, who, err := v.numbers("room", "person")
	if err != nil {
		return nil, err
	}
	var in struct{ Role account.Role }
	if err := v.body(&in); err != nil {
		return nil, err
	}
	if in.Role != account.None {
		return nil, d.rooms.SetRole(v.ctx(), v.me(), room, who, in.Role)
	}
	return nil, d.rooms.Invite(v.ctx(), v.me(), room, who)
}

func (d *Door) apiRemoveMember(v *visit) (any, error) {
	room, who, err := v.numbers("room", "person")
	if err != nil {
		return nil, err
	}
	return nil, d.rooms.Remove(v.ctx(), v.me(), room, who)
}

func (d *Door) apiMessages(v *visit) (any, error) {
	room, err := v.number("room")
	if err != nil {
		return nil, err
	}
	var c chat.Cursor
	var limit int64
	for name, into := range map[string]*int64{"before": &c.Before, "after": &c.After, "around": &c.Around, "limit": &limit} {
		if *into, err = v.query(name); err != nil {
			return nil, err
		}
	}
	c.Limit = int(min(limit, chat.PageLimit))
	page, err := d.rooms.History(v.ctx(), v.me(), room, c)
	if err != nil {
		return nil, err
	}
	list := make([]messageJSON, len(page.Messages))
	for i, m := range page.Messages {
		list[i] = toMessage(m)
	}
	events := make([]eventJSON, len(page.Events))
	for i, e := range page.Events {
		events[i] = toEvent(e)
	}
	return object{"messages": list, "events": events, "earlier": page.Earlier, "later": page.Later, "seq": page.Seq}, nil
}

type wordsIn struct {
	ClientID string `json:"client_id"`
	Body     string
}

func receipt(r chat.Receipt, err error) (any, error) {
	if err != nil {
		return nil, err
	}
	out := object{"seq": r.Seq}
	if !r.At.IsZero() {
		out["at"] = r.At.UTC().Truncate(time.Millisecond)
	}
	return out, nil
}

func (d *Door) apiPost(v *visit) (any, error) {
	room, err := v.number("room")
	if err != nil {
		return nil, err
	}
	var in struct {
		wordsIn
		Thread int64
		Aloud  bool
		Files  []fileIn
	}
	if err := v.body(&in); err != nil {
		return nil, err
	}
	d.Stats.Posts.Add(1)
	return receipt(d.rooms.Post(v.ctx(), v.me(), chat.Draft{Room: room, ClientID: in.ClientID, Body: in.Body, Thread: in.Thread, Aloud: in.Aloud, Typed: v.typed(), Files: draftFiles(in.Files)}))
}

func (d *Door) apiMessage(v *visit) (any, error) {
	room, seq, err := v.numbers("room", "seq")
	if err != nil {
		return nil, err
	}
	m, err := d.rooms.Message(v.ctx(), v.me(), room, seq)
	return toMessage(m), err
}

func (d *Door) apiEdit(v *visit) (any, error) {
	room, seq, err := v.numbers("room", "seq")
	if err != nil {
		return nil, err
	}
	var in wordsIn
	if err := v.body(&in); err != nil {
		return nil, err
	}
	return receipt(d.rooms.Edit(v.ctx(), v.me(), chat.Draft{Room: room, ClientID: in.ClientID, Body: in.Body, Typed: v.typed()}, seq))
}

func (d *Door) apiDelete(v *visit) (any, error) {
	room, seq, err := v.numbers("room", "seq")
	if err != nil {
		return nil, err
	}
	return receipt(d.rooms.Delete(v.ctx(), v.me(), room, seq, v.clientID()))
}

func (d *Door) apiSince(v *visit) (any, error) {
	room, err := v.number("room")
	if err != nil {
		return nil, err
	}
	seq, err := v.query("seq")
	if err != nil {
		return nil, err
	}
	limit, err := v.query("limit")
	if err != nil {
		return nil, err
	}
	if limit == 0 || limit > chat.SinceLimit {
		limit = chat.SinceLimit
	}
	events, err := d.rooms.Since(v.ctx(), v.me(), room, seq, int(limit))
	if err != nil {
		return nil, err
	}
	list := make([]eventJSON, len(events))
	for i, e := range events {
		list[i] = toEvent(e)
		seq = e.Seq
	}
	return object{"events": list, "seq": seq, "more": int64(len(list)) == limit}, nil
}

func (d *Door) apiRead(v *visit) (any, error) {
	room, err := v.number("room")
	if err != nil {
		return nil, err
	}
	var in struct{ Seq int64 }
	if err := v.body(&in); err != nil {
		return nil, err
	}
	r, err := d.markRead(v.ctx(), v.me(), room, in.Seq)
	return readJSON(r), err
}

func (d *Door) apiPeople(v *visit) (any, error) {
	people, err := d.accounts.People(v.ctx(), v.me(), false)
	here := d.rooms.Here(idsOf(people))
	out := make([]object, len(people))
	for i, p := range people {
		out[i] = object{"id": p.ID, "handle": p.Handle, "name": p.Name, "role": p.Role, "here": here[p.ID], "bot": p.Bot}
	}
	return object{"people": out}, err
}

func idsOf(people []account.Person) []int64 {
	ids := make([]int64, len(people))
	for i, p := range people {
		ids[i] = p.ID
	}
	return ids
}

func (d *Door) apiInvites(v *visit) (any, error) {
	invites, err := d.accounts.Invites(v.ctx(), v.me())
	out := make([]object, len(invites))
	for i, n := range invites {
		out[i] = object{"id": n.ID, "role": n.Role, "room": n.RoomID, "rooms": n.Rooms, "by": n.CreatedBy, "ends_at": n.EndsAt, "uses_left": n.UsesLeft}
	}
	return object{"invites": out}, err
}

func (d *Door) apiInvite(v *visit) (any, error) {
	var in struct {
		Role  account.Role
		Room  *int64
		Rooms []int64
		Uses  int
		Days  int
	}
	if err := v.body(&in); err != nil {
		return nil, err
	}
	if in.Role == account.None {
		in.Role = account.Member
	}
	if in.Room != nil {
		in.Rooms = append([]int64{*in.Room}, in.Rooms...)
	}
	for _, room := range in.Rooms {
		if err := d.rooms.CanInvite(v.ctx(), v.me(), room); err != nil {
			return nil, err
		}
	}
	if in.Days < 0 || in.Days > 366 {
		return nil, fault.New(fault.Invalid, "account.invite_lasts")
	}
	token, id, err := d.accounts.MakeInvite(v.ctx(), v.me(), account.InviteDraft{Role: in.Role, Rooms: in.Rooms, Uses: in.Uses, Lasts: time.Duration(in.Days) * 24 * time.Hour})
	return object{"id": id, "url": d.inviteURL(v.r, token)}, err
}

func (d *Door) apiRevokeInvite(v *visit) (any, error) {
	id, err := v.number("invite")
	if err != nil {
		return nil, err
	}
	return nil, d.accounts.RevokeInvite(v.ctx(), v.me(), id)
}

func (d *Door) apiSessions(v *visit) (any, error) {
	return d.sessionsJSON(v, v.me().ID)
}

func (d *Door) sessionsJSON(v *visit, person int64) (any, error) {
	sessions, err := d.accounts.Sessions(v.ctx(), person)
	out := make([]object, len(sessions))
	for i, s := range sessions {
		out[i] = object{"id": s.ID, "created_at": s.CreatedAt, "seen_at": s.SeenAt, "address": s.Address, "agent": s.Agent, "current": s.ID == v.session.ID}
	}
	return object{"sessions": out}, err
}

// apiSessionsOf are those of somebody whom me may govern.
func (d *Door) apiSessionsOf(v *visit) (any, error) {
	id, err := v.number("person")
	if err != nil {
		return nil, err
	}
	if _, err := d.accounts.Governed(v.ctx(), v.me(), id); err != nil {
		return nil, err
	}
	return d.sessionsJSON(v, id)
}

func (d *Door) apiEndSessionsOf(v *visit) (any, error) {
	id, err := v.number("person")
	if err != nil {
		return nil, err
	}
	return nil, d.personEnd(v, id)
}

func (d *Door) apiEndSession(v *visit) (any, error) {
	id, err := v.number("session")
	if err != nil {
		return nil, err
	}
	return nil, d.accounts.EndSession(v.ctx(), v.me().ID, id)
}

func (d *Door) apiTokens(v *visit) (any, error) {
	tokens, err := d.accounts.Tokens(v.ctx(), v.me().ID)
	out := make([]object, len(tokens))
	for i, t := range tokens {
		out[i] = tokenJSON(t)
	}
	return object{"tokens": out}, err
}

func (d *Door) apiNewToken(v *visit) (any, error) {
	return d.apiMakeToken(v, v.me(), account.All)
}

func (d *Door) apiRevokeToken(v *visit) (any, error) {
	id, err := v.number("token")
	if err != nil {
		return nil, err
	}
	return nil, d.accounts.RevokeToken(v.ctx(), v.me().ID, id)
}
