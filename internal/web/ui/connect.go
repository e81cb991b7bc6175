package ui

import "time"

// BotsPage ("bots"): the bots that I run. Its forms:
//
//	POST /bots {name, handle}
//	POST /bots/{id}/tokens {name, scope: read or write, days}   /bots/{id}/tokens/{token}/revoke
//	POST /bots/{id}/take
type BotsPage struct {
	Chrome
	MayMake bool
	Bots    []BotRow
	Fresh   string // the token just made, shown once with a copy button
	FreshOf string // ... whose
}

// BotRow is a bot.
type BotRow struct {
	ID           int64
	Handle, Name string
	Owner        string // who answers for it
	Mine         bool   // it is I
	Gone         bool   // the owner's account is closed
	Disabled     bool
	Tokens       []Token
	Places       []Place // rooms in which it is, for which a token can be
}

// Side is the sidebar.
func (p BotsPage) Side() sidebar { return p.sidebar("bots", 0) }

// HooksPage ("hooks"): how a room is connected with programs. Its forms:
//
//	POST /room/{room}/hooks/incoming {name, secret, calls}    /room/{room}/hooks/incoming/{id}/drop
//	POST /room/{room}/hooks/outgoing {name, url, hears, word} /room/{room}/hooks/outgoing/{id}/drop /test /on /off
//	POST /room/{room}/hooks/outgoing/{id}/again {seq}
type HooksPage struct {
	Chrome
	Room     Room
	Incoming []IncomingRow
	Outgoing []OutgoingRow
	Fresh    string // the address or the secret just made, shown once with a copy button
	FreshIs  string // "incoming", "outgoing"
	Name     string // as it was typed, and refused
	URL      string
	Hears    string
	Word     string
	Typed    string // in which form: "incoming", "outgoing"
}

// IncomingRow is an incoming webhook.
type IncomingRow struct {
	ID      int64
	Name    string
	Bot     string // its handle
	By      string
	Made    time.Time
	Used    time.Time // zero: never
	Times   int64
	Signed  bool
	Calls   bool
	Trouble string // why the last payload was refused, in words
}

// OutgoingRow is an outgoing webhook.
type OutgoingRow struct {
	ID         int64
	Name       string
	Bot        string
	Where      string // the address, without what in it may be secret
	Hears      string
	Word       string
	By         string
	Made       time.Time
	On         bool
	Failing    time.Time // since; zero: it does not
	Next       time.Time
	Why        string
	Deliveries []DeliveryRow
}

// DeliveryRow is what became of a message.
type DeliveryRow struct {
	Seq    int64
	At     time.Time
	Tries  int
	Status int
	Why    string
	Took   int
}

// Side is the sidebar.
func (p HooksPage) Side() sidebar { return p.sidebar("room", p.Room.ID) }
