package web

import (
	"time"

	"howdah/internal/account"
	"howdah/internal/chat"
)

// The forms in which things travel to programs, over HTTP and the live socket; openapi.json describes them.

type personJSON struct {
	ID     int64  `json:"id"`
	Handle string `json:"handle"`
	Name   string `json:"name"`
}

type roomJSON struct {
	ID       int64        `json:"id"`
	Kind     chat.Kind    `json:"kind"`
	Name     string       `json:"name"`
	Topic    string       `json:"topic"`
	Seq      int64        `json:"seq"`
	Read     int64        `json:"read"`
	Unread   int          `json:"unread"`
	Mentions int          `json:"mentions"`
	Role     account.Role `json:"role"`
	Members  int          `json:"members"`
	Other    *personJSON  `json:"other,omitempty"`
}

type messageJSON struct {
	Seq      int64      `json:"seq"`
	At       time.Time  `json:"at"`
	By       personJSON `json:"by"`
	ClientID string     `json:"client_id"`
	Body     string     `json:"body"`
	HTML     string     `json:"html"`
	Mentions []string   `json:"mentions,omitempty"`
	Edited   bool       `json:"edited"`
	Deleted  bool       `json:"deleted"`
}

type eventJSON struct {
	Is      string         `json:"is"`
	Room    int64          `json:"room"`
	Seq     int64          `json:"seq"`
	Kind    chat.EventKind `json:"kind"`
	At      time.Time      `json:"at"`
	By      personJSON     `json:"by"`
	Message *messageJSON   `json:"message,omitempty"`
	Person  *personJSON    `json:"person,omitempty"`
	Role    account.Role   `json:"role,omitempty"`
	Name    string         `json:"name,omitempty"`
	Topic   *string        `json:"topic,omitempty"`
}

func toPerson(a chat.Author) personJSON { return personJSON{a.ID, a.Handle, a.Name} }

func toMe(p account.Person) personJSON { return personJSON{p.ID, p.Handle, p.Name} }

func toRoom(r chat.Room) roomJSON {
	out := roomJSON{r.ID, r.Kind, r.Name, r.Topic, r.Seq, r.Read, r.Unread, r.Mentions, r.Role, r.Members, nil}
	if r.Other != nil {
		p := toPerson(*r.Other)
		out.Other = &p
	}
	return out
}

func toRooms(rooms []chat.Room) []roomJSON {
	out := make([]roomJSON, len(rooms))
	for i, r := range rooms {
		out[i] = toRoom(r)
	}
	return out
}

func toMessage(m chat.Message) messageJSON {
	out := messageJSON{Seq: m.Seq, At: m.At.UTC().Truncate(time.Millisecond), By: toPerson(m.By), ClientID: m.ClientID, Body: m.Body, Mentions: m.Mentions, Edited: m.Edited, Deleted: m.Deleted}
	if !m.Deleted {
		out.HTML = render(m.Body, m.Mentions)
	}
	return out
}

func toEvent(e chat.Event) eventJSON {
	out := eventJSON{Is: "event", Room: e.Room, Seq: e.Seq, Kind: e.Kind, At: e.At.UTC().Truncate(time.Millisecond), By: toPerson(e.By), Role: e.Role}
	if e.Message != nil {
		m := toMessage(*e.Message)
		out.Message = &m
	}
	if e.Person != nil {
		p := toPerson(*e.Person)
		out.Person = &p
	}
	if e.Kind == chat.Renamed {
		out.Name, out.Topic = e.Name, &e.Topic
	}
	return out
}
